package local_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

func TestACertificateVouchesForItself(t *testing.T) {
	t.Parallel()
	certificate, key, err := local.Certificate(7)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	assert.EqualValues(t, 7, pair.Leaf.SerialNumber.Int64())
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(certificate))
	for _, host := range []string{"localhost", "127.0.0.1"} {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots})
		require.NoError(t, err, host)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: "example.com", Roots: roots})
	require.Error(t, err)
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: x509.NewCertPool()})
	require.Error(t, err, "nobody else vouches for it")
	other, _, err := local.Certificate(7)
	require.NoError(t, err)
	assert.NotEqual(t, certificate, other)
}
