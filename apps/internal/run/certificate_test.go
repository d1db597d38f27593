package run

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// newCertificate returns a certificate with this number, and its key, as files have them.
func newCertificate(t *testing.T, number int64) (cert, key []byte) {
	t.Helper()
	cert, key, err := local.Certificate(number)
	require.NoError(t, err)
	return cert, key
}

// TestACertificateIsTakenUpWhenItsFilesChange: written in place, renamed over, behind a link that is turned to another folder (as Kubernetes
// does), one file before the other, gone for a while; and nothing is read while nothing changes.
func TestACertificateIsTakenUpWhenItsFilesChange(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := func(parts ...string) string { return filepath.Join(append([]string{folder}, parts...)...) }
	put := func(name string, text []byte) { require.NoError(t, os.WriteFile(path(name), text, 0o600)) }
	for _, name := range []string{"one", "two"} {
		require.NoError(t, os.Mkdir(path(name), 0o700))
	}
	require.NoError(t, os.Symlink("one", path("now")))
	cert, key := newCertificate(t, 1)
	put("one/cert", cert)
	put("one/key", key)
	p := &keyPair{cert: path("now", "cert"), key: path("now", "key")}
	_, err := p.read()
	require.NoError(t, err)
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	follow := func() string {
		text.Reset()
		p.follow(t.Context(), log)
		return text.String()
	}
	number := func() int64 { return p.current.Load().Leaf.SerialNumber.Int64() }
	assert.Empty(t, follow(), "nothing has changed")

	cert, key = newCertificate(t, 2)
	put("one/cert", cert)
	assert.Contains(t, follow(), "cannot be used", "the key is still the old one")
	assert.Empty(t, follow(), "said once")
	assert.EqualValues(t, 1, number())
	put("one/key", key)
	assert.Contains(t, follow(), "read again")
	assert.EqualValues(t, 2, number())

	cert, key = newCertificate(t, 3)
	put("two/cert", cert)
	put("two/key", key)
	require.NoError(t, os.Symlink("two", path("next")))
	require.NoError(t, os.Rename(path("next"), path("now")))
	assert.Contains(t, follow(), "read again")
	assert.EqualValues(t, 3, number())

	require.NoError(t, os.Remove(path("two", "key")))
	assert.Contains(t, follow(), "cannot be used")
	assert.EqualValues(t, 3, number())
	put("two/key", key)
	assert.Contains(t, follow(), "read again")
	assert.Empty(t, follow())
}
