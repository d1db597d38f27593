package wsraw_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/testkit/wsraw"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves one kind of connection, and returns the address.
func serve(t *testing.T, part func(ws *websocket.Conn)) string {
	t.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{"parley.v1"}}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("refuse") {
			http.Error(w, "not you", http.StatusUnauthorized)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		part(ws)
	}))
	t.Cleanup(web.Close)
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

func TestEcho(t *testing.T) {
	t.Parallel()
	url := serve(t, func(ws *websocket.Conn) {
		for {
			kind, payload, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, payload) != nil {
				return
			}
		}
	})
	raw, err := wsraw.Dial(t.Context(), url, http.Header{"Sec-Websocket-Protocol": {"parley.v1"}}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	require.Equal(t, "parley.v1", raw.Header.Get("Sec-WebSocket-Protocol"))
	for _, n := range []int{0, 125, 126, 65535, 65536} {
		f := wsraw.Frame{Final: true, Opcode: wsraw.OpBinary, Payload: bytes.Repeat([]byte("x"), n)}
		require.NoError(t, raw.Send(f))
		got, err := raw.Read()
		require.NoError(t, err)
		f.Unmasked = true
		require.Equal(t, f, got)
	}
	require.NoError(t, raw.Send(wsraw.Frame{Final: true, Opcode: wsraw.OpText, Reserved: 1}))
	code, reason, err := raw.ReadClose()
	require.NoError(t, err)
	require.Equal(t, 1002, code)
	require.Contains(t, reason, "RSV")
	require.NoError(t, raw.Close())
	require.NoError(t, raw.Close())
}

func TestEnds(t *testing.T) {
	t.Parallel()
	ends := make(chan error, 3)
	url := serve(t, func(ws *websocket.Conn) {
		_, _, err := ws.ReadMessage()
		ends <- err
	})
	ctx, cancel := context.WithCancel(t.Context())
	dial := func() *wsraw.Conn {
		raw, err := wsraw.Dial(ctx, url, nil, nil)
		require.NoError(t, err)
		return raw
	}
	raw := dial()
	require.NoError(t, raw.Send(wsraw.CloseFrame(0, "")))
	require.True(t, websocket.IsCloseError(<-ends, 1005))
	code, _, err := raw.ReadClose()
	require.NoError(t, err)
	require.Equal(t, 1005, code)
	_, _, err = raw.ReadClose()
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, raw.Close())

	require.NoError(t, dial().Reset())
	require.ErrorContains(t, <-ends, "reset")

	raw = dial()
	cancel() // the connection goes with its context
	require.Error(t, <-ends)
	require.NoError(t, raw.Close())
}

func TestRefused(t *testing.T) {
	t.Parallel()
	url := serve(t, nil)
	_, err := wsraw.Dial(t.Context(), url+"?refuse", nil, nil)
	var refusal *wsraw.HandshakeError
	require.True(t, errors.As(err, &refusal), "%v", err)
	require.Equal(t, 401, refusal.Status)
	require.Contains(t, refusal.Error(), "not you")
}
