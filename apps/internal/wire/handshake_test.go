package wire

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
)

// TestHandshakesHaveALimit asks for sockets from several networks, with burst handshakes a minute for each.
func TestHandshakesHaveALimit(t *testing.T) {
	t.Parallel()
	const burst = 3
	s, _, err := config.Load(config.Parley, []string{
		"--store", "memory:", "--data", t.TempDir(), "--handshake-burst", strconv.Itoa(burst), "--trusted-proxies", "10.0.0.0/8",
		"--drain-timeout", "1ms", // nobody answers a goodbye here
	}, nil, t.Output())
	require.NoError(t, err)
	for _, c := range []struct{ name, path, sameNetwork string }{
		{"the socket", "/socket", "/socket"},
		{"Socket.IO", "/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=4&transport=polling"},
		{"both together", "/socket", "/socket.io/?EIO=4&transport=polling"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.name == "Socket.IO" {
				t.Skip("skipped by -short: its end waits for a poll, for seconds")
			}
			t.Parallel()
			a, err := New(t.Context(), s, "http://localhost:5002", "localhost:1", slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ready, ended := make(chan struct{}), make(chan error, 1)
			go func() { ended <- a.Run(ctx, func() { close(ready) }) }()
			t.Cleanup(func() {
				cancel()
				assert.NoError(t, <-ended)
				assert.NoError(t, a.Close())
			})
			<-ready
			ask := func(path, peer, client string) *http.Response {
				t.Helper()
				r := httptest.NewRequest(http.MethodGet, path, nil)
				r.RemoteAddr = peer
				if client != "" {
					r.Header.Set("X-Forwarded-For", client)
				}
				for name, value := range map[string]string{
					"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
				} {
					r.Header.Set(name, value)
				}
				w := httptest.NewRecorder()
				a.Handler.ServeHTTP(w, r)
				return w.Result()
			}
			for range burst {
				require.NotEqual(t, http.StatusTooManyRequests, ask(c.path, "192.0.2.1:4000", "").StatusCode)
			}
			refused := ask(c.sameNetwork, "192.0.2.1:4001", "")
			require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
			if c.sameNetwork == "/socket" { // Engine.IO has no Retry-After
				wait, err := strconv.Atoi(refused.Header.Get("Retry-After"))
				require.NoError(t, err)
				assert.LessOrEqual(t, wait, 60/burst)
				assert.Positive(t, wait)
			}
			assert.NotEqual(t, http.StatusTooManyRequests, ask(c.path, "192.0.2.2:4000", "").StatusCode, "another network")
			assert.Equal(t, http.StatusTooManyRequests, ask(c.path, "192.0.2.1:4000", "192.0.2.3").StatusCode, "a header of a stranger")
			for range burst {
				require.NotEqual(t, http.StatusTooManyRequests, ask(c.path, "10.0.0.1:4000", "198.51.100.1").StatusCode)
			}
			assert.Equal(t, http.StatusTooManyRequests, ask(c.path, "10.0.0.1:4000", "198.51.100.1").StatusCode, "one client of a proxy")
			assert.NotEqual(t, http.StatusTooManyRequests, ask(c.path, "10.0.0.1:4000", "198.51.100.2").StatusCode, "another client of it")
		})
	}
}
