package servers

import (
	"crypto/x509"
	"os"
	"testing"
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
