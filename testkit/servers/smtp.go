package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"testing"
	"time"
)

// SMTPVariable names a mail server to use instead of starting one. It must take a mail from and to
// any address of example.com.
const SMTPVariable = "PARLEY_TEST_SMTP"

// SMTPServer is a mail server. One that was started here offers STARTTLS, wants a password, and
// keeps what it takes; it answers 450 to the recipient later@example.com and 550 to
// nobody@example.com.
type SMTPServer struct {
	// URL is smtp://user:password@host:port.
	URL string
	// Roots are the authorities of its certificate; nil means the system's.
	Roots *x509.CertPool

	inbox string // the folder with a file a mail, or empty
}

// SMTP returns a mail server for t alone: the one that PARLEY_TEST_SMTP names, or one that is started, and
// stopped when t ends. Where there is neither, t is skipped.
func SMTP(t testing.TB) *SMTPServer {
	t.Helper()
	if at := os.Getenv(SMTPVariable); at != "" {
		return &SMTPServer{URL: at}
	}
	return startSMTP(t)
}

// Readable reports whether Mails can tell what was delivered: not on a server that
// PARLEY_TEST_SMTP names.
func (s *SMTPServer) Readable() bool { return s.inbox != "" }

// Mails returns what was delivered so far, with the headers that the server put in front.
func (s *SMTPServer) Mails(t testing.TB) [][]byte {
	t.Helper()
	return readMails(t, s.inbox)
}

// selfSigned makes a certificate for localhost and 127.0.0.1, and its key, in PEM.
func selfSigned() (certificate, key []byte, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}
