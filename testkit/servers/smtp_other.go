//go:build !linux

package servers

import "testing"

func startSMTP(t testing.TB) *SMTPServer {
	t.Helper()
	t.Skipf("a mail server is started on Linux only; set %s to the URL of one", SMTPVariable)
	return nil
}

func readMails(testing.TB, string) [][]byte { return nil }
