package main_test

import (
	"net/http"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/realtime"
)

// TestOriginsOfPages: one list serves REST and sockets, and the origin of the public URL is the server's
// own, though a proxy passes another Host on.
func TestOriginsOfPages(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"nbio", "net"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			listen := freeAddress(t)
			s := serve(t, t.TempDir(), "--listen", listen, "--transport", transport, "--public-url", "https://chät.example:443/app",
				"--origins", "https://*.example.com:443,HTTP://Front.example:80/")
			s.url = "http://" + listen
			ada := s.member(t, "Ada Lovelace")
			for origin, want := range map[string]bool{
				s.url:                         true, // by its Host
				"https://xn--cht-rla.example": true,
				"https://a.b.example.com":     true,
				"http://front.example":        true,
				"http://xn--cht-rla.example":  false,
				"https://example.com":         false,
				"https://evil-example.com":    false,
				"https://front.example":       false,
				"null":                        false,
			} {
				header := http.Header{"Origin": {origin}, "Authorization": {"Bearer " + ada.AccessToken}, "Sec-Websocket-Protocol": {realtime.Protocol}}
				c, answer, err := websocket.DefaultDialer.DialContext(t.Context(), s.socket(), header)
				require.NotNil(t, answer, "%s: %v", origin, err)
				if err == nil {
					_ = c.Close()
				}
				assert.Equal(t, want, err == nil, "socket from %s: %s", origin, answer.Status)
				if err != nil {
					assert.Equal(t, http.StatusForbidden, answer.StatusCode, origin)
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/livez", nil)
				require.NoError(t, err)
				r.Header.Set("Origin", origin)
				got, err := send(r)
				require.NoError(t, err)
				if origin != s.url { // of which no browser asks
					assert.Equal(t, want, got.header.Get("Access-Control-Allow-Origin") == origin, "REST from %s", origin)
				}
			}
			s.sound(t)
		})
	}
}
