package main_test

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheMailboxIsForThisMachine listens on every address of this machine, and asks by each.
func TestTheMailboxIsForThisMachine(t *testing.T) {
	t.Parallel()
	for mode, elsewhere := range map[string]int{"loopback": http.StatusForbidden, "public": http.StatusOK} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := serve(t, t.TempDir(), "--listen", "0.0.0.0:0", "--dev-mailbox", mode, "--signin-burst=1000")
			at, err := url.Parse(s.url)
			require.NoError(t, err)
			for _, path := range []string{"/dev/mail", "/dev/mail.json", "/dev/mail/1/html", "/dev/continue"} {
				check := func(url, host string, local bool) {
					method, body := http.MethodGet, ""
					if path == "/dev/continue" {
						method, body = http.MethodPost, `{"as": "ada"}`
					}
					r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
					require.NoError(t, err)
					r.Header.Set("Content-Type", "application/json")
					r.Host = host
					got, err := send(r)
					require.NoError(t, err)
					want := elsewhere
					if local {
						want = http.StatusOK
					}
					if path == "/dev/mail/1/html" && want == http.StatusOK {
						want = http.StatusNotFound // there is no such mail
					}
					assert.Equal(t, want, got.status, "%s as %s: %s", url+path, host, got.body)
					if want == http.StatusForbidden {
						assert.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
					}
				}
				check("http://127.0.0.1:"+at.Port(), "", true)
				check("http://127.0.0.1:"+at.Port(), "localhost:"+at.Port(), true)
				check("http://127.0.0.1:"+at.Port(), "evil.example", false)
				addresses, err := net.InterfaceAddrs()
				require.NoError(t, err)
				for _, a := range addresses {
					if a, ok := a.(*net.IPNet); ok && a.IP.To4() != nil && !a.IP.IsLoopback() {
						check("http://"+net.JoinHostPort(a.IP.String(), at.Port()), "", false)
						check("http://"+net.JoinHostPort(a.IP.String(), at.Port()), "localhost", false)
					}
				}
			}
			s.stop(t, sigterm)
			assert.Contains(t, s.stderr.String(), "mails are not sent")
		})
	}
}
