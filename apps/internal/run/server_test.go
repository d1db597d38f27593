package run

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNobodyHoldsAConnectionForEver: headers that do not come, a connection without a request, and an
// answer that nobody reads. The server is the program's own, but for the length of its limits.
func TestNobodyHoldsAConnectionForEver(t *testing.T) {
	t.Parallel()
	answer := bytes.Repeat([]byte("x"), 64<<20) // more than any buffer between
	failed := make(chan error, 1)
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, err := w.Write(answer)
			failed <- err
		}
	}), nil, false, slog.New(slog.DiscardHandler))
	for _, limit := range []*time.Duration{&server.ReadHeaderTimeout, &server.ReadTimeout, &server.WriteTimeout, &server.IdleTimeout} {
		require.Positive(t, *limit)
		require.LessOrEqual(t, *limit, 2*time.Minute)
		*limit /= 50
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		assert.NoError(t, server.Close())
		assert.ErrorIs(t, <-served, http.ErrServerClosed)
	})
	for name, text := range map[string]string{
		"nothing": "", "half a header": "GET / HTTP/1.1\r\nHos", "headers without end": "GET / HTTP/1.1\r\nHost: x\r\nA: ", "idle": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"the beginning of a second": "GET / HTTP/1.1\r\nHost: x\r\n\r\nGE",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, listener.Addr())
			_, err := io.WriteString(c, text)
			require.NoError(t, err)
			if strings.HasSuffix(text, "A: ") {
				for range 20 {
					_, _ = io.WriteString(c, "x") // which gains no time
				}
			}
			_, err = io.ReadAll(c)
			var late net.Error
			assert.False(t, errors.As(err, &late) && late.Timeout(), "the connection is still there")
		})
	}
	t.Run("an answer that nobody reads", func(t *testing.T) {
		t.Parallel()
		c := dial(t, listener.Addr())
		_, err := io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		select {
		case err := <-failed:
			assert.Error(t, err)
		case <-time.After(20 * time.Second):
			t.Error("the answer still waits to be read")
		}
	})
}

func dial(t *testing.T, to net.Addr) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", to.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c
}
