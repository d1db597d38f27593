package socket_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

type anyone struct{}

func (anyone) Token(context.Context, string) (user.Identity, error) { return user.Identity{}, nil }
func (anyone) Ticket(context.Context, string) (user.Identity, error) {
	return user.Identity{}, nil
}

type acceptAll struct{}

func (acceptAll) Accept(socket.Conn, socket.Hello) (socket.Receiver, error) { return &receiver{}, nil }

// receiver panics, if it is told to.
type receiver struct {
	panics   bool
	received [][]byte
	gone     int
}

func (r *receiver) Receive(payload []byte, _ bool) {
	r.received = append(r.received, payload)
	if r.panics {
		panic("a mistake")
	}
}

func (r *receiver) Disconnected() {
	r.gone++
	if r.panics {
		panic("another mistake")
	}
}

// closed is a connection that keeps how it was closed.
type closed struct {
	socket.Conn
	code   int
	reason string
}

func (c *closed) Close(code int, reason string) { c.code, c.reason = code, reason }

func transport(t *testing.T, log *bytes.Buffer) *socket.TransportConfig {
	t.Helper()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anyone{}})
	require.NoError(t, err)
	cfg, err := socket.TransportConfig{Handshake: handshake, Acceptor: acceptAll{}, Log: slog.New(slog.NewTextHandler(log, nil))}.Complete("nets")
	require.NoError(t, err)
	return &cfg
}

func TestATransportHasDefaults(t *testing.T) {
	t.Parallel()
	cfg := transport(t, new(bytes.Buffer))
	assert.Equal(t, 64<<10, cfg.MaxMessage)
	assert.Equal(t, 25*time.Second, cfg.PingInterval)
	assert.Equal(t, 60*time.Second, cfg.IdleTimeout)
	assert.Equal(t, 5*time.Second, cfg.CloseTimeout)
	assert.Equal(t, runtime.GOMAXPROCS(0), cfg.Pollers)
	assert.Equal(t, socket.UpgradeOptions{MaxMessage: 64 << 10, TooLarge: socket.CloseTooLarge}, cfg.Options(socket.UpgradeOptions{}))
	own := socket.UpgradeOptions{MaxMessage: 7, TooLarge: socket.CloseMessageTooBig, Unwatched: true}
	assert.Equal(t, own, cfg.Options(own))
	again, err := cfg.Complete("nets")
	require.NoError(t, err)
	assert.Equal(t, *cfg, again)
}

func TestATransportMayOnlyUpgrade(t *testing.T) {
	t.Parallel()
	cfg, err := socket.TransportConfig{UpgradeOnly: true}.Complete("nets")
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodGet, "/socket", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		r.Header.Set(name, value)
	}
	ready := make(chan struct{})
	close(ready)
	w := httptest.NewRecorder()
	_, ok := cfg.Admit(w, r, ready)
	assert.False(t, ok)
	assert.Equal(t, http.StatusNotFound, w.Code)
	assert.Contains(t, w.Body.String(), "no_socket")
	w = httptest.NewRecorder()
	assert.True(t, socket.AdmitUpgrade(w, r, ready), w.Body.String())
}

func TestATransportNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := socket.TransportConfig{MaxMessage: -1, PingInterval: -1, IdleTimeout: -2, CloseTimeout: -1, Pollers: -1}.Complete("nets")
	for _, field := range []string{"nets: Config.Handshake", "Acceptor", "MaxMessage", "PingInterval", "IdleTimeout -2ns", "CloseTimeout", "Pollers"} {
		assert.ErrorContains(t, err, field)
	}
	_, err = socket.TransportConfig{PingInterval: time.Minute}.Complete("nets")
	assert.ErrorContains(t, err, "IdleTimeout 1m0s is not longer than PingInterval 1m0s")
}

func TestATransportClosesWhatIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accept func(socket.Conn) (socket.Receiver, error)
		code   int
		err    error
	}{
		"accepted":             {func(socket.Conn) (socket.Receiver, error) { return &receiver{}, nil }, 0, nil},
		"refused":              {func(socket.Conn) (socket.Receiver, error) { return nil, socket.ErrDraining }, socket.CloseServiceRestart, socket.ErrDraining},
		"refused all the same": {func(socket.Conn) (socket.Receiver, error) { return &receiver{}, socket.ErrDraining }, socket.CloseServiceRestart, socket.ErrDraining},
		"a strange refusal":    {func(socket.Conn) (socket.Receiver, error) { return nil, errors.New("odd") }, socket.CloseInternalError, nil},
		"a panic":              {func(socket.Conn) (socket.Receiver, error) { panic("a mistake") }, socket.CloseInternalError, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			conn := &closed{}
			r, err := transport(t, &log).Accept(conn, c.accept)
			assert.Equal(t, c.code, conn.code)
			assert.Equal(t, c.code == 0, err == nil)
			assert.Equal(t, c.code == 0, r != nil)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			}
			assert.Equal(t, name == "a panic", bytes.Contains(log.Bytes(), []byte("a mistake")), log.String())
		})
	}
}

func TestATransportOutlivesAPanic(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		var log bytes.Buffer
		cfg, conn, r := transport(t, &log), &closed{}, &receiver{panics: panics}
		cfg.Receive(conn, r, []byte("a"), true)
		cfg.Disconnected(r)
		cfg.Disconnected(nil) // was refused
		assert.Equal(t, [][]byte{[]byte("a")}, r.received)
		assert.Equal(t, 1, r.gone)
		want := 0
		if panics {
			want = socket.CloseInternalError
		}
		assert.Equal(t, want, conn.code)
		assert.Equal(t, panics, bytes.Contains(log.Bytes(), []byte("another mistake")))
	}
}
