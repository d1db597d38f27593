package main_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// TestEveryAnswerKeepsBrowsersFromGuessing: whatever is asked for, on both addresses, found or not, with TLS, behind a proxy that has it,
// and without.
func TestEveryAnswerKeepsBrowsersFromGuessing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tls, strict bool
		args        []string
	}{
		"plain":          {},
		"TLS":            {tls: true, strict: true},
		"behind a proxy": {strict: true, args: []string{"--public-url=https://chat.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if c.tls {
				cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
				certificate(t, 1, cert, key)
				c.args = append(c.args, "--tls-cert", cert, "--tls-key", key)
			}
			port, err := local.FreePort()
			require.NoError(t, err)
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			c.args = append(c.args, "--listen", address, "--store=memory:")
			s := serve(t, filepath.Join(folder, "data"), c.args...)
			client := &http.Client{
				Timeout:       patience,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
				Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}, //nolint:gosec // its headers are looked at
			}
			public := s.url
			if !c.tls && c.strict { // the URL that it says is the proxy's
				public = "http://" + address
			}
			for _, target := range []string{
				public + "/", public + "/r/hall", public + "/nothing", public + "//livez", public + "/livez", public + "/auth/me", public + "/api-docs", public + "/openapi.json",
				public + "/asyncapi.json", public + "/socket", public + "/socket.io/", public + "/dev/mail", public + "/auth/verify?code=x", public + "/.well-known/jwks.json",
				s.admin + "/metrics", s.admin + "/debug/pprof/", s.admin + "/mail/stats", s.admin + "/nothing", s.admin + "/api-docs",
			} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
				require.NoError(t, err)
				answer, err := client.Do(r)
				require.NoError(t, err, target)
				require.NoError(t, answer.Body.Close())
				h := answer.Header
				assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), target)
				assert.Equal(t, "DENY", h.Get("X-Frame-Options"), target)
				assert.Equal(t, "no-referrer", h.Get("Referrer-Policy"), target)
				assert.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", target)
				assert.Len(t, h.Values("Content-Security-Policy"), 1, target)
				switch admin := strings.HasPrefix(target, s.admin); {
				case c.strict && !admin:
					assert.Equal(t, []string{"max-age=31536000"}, h.Values("Strict-Transport-Security"), target)
				default: // on loopback operators are served without TLS
					assert.Empty(t, h.Values("Strict-Transport-Security"), target)
				}
			}
			s.stop(t, sigterm)
		})
	}
}
