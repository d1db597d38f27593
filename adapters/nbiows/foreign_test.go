package nbiows_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// upgrader is a transport that opens connections for other protocols too.
type upgrader interface {
	http.Handler
	Run(ctx context.Context) error
	Upgrade(w http.ResponseWriter, r *http.Request, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error))
}

// bothUpgrade runs a test on both transports. The acceptor gets what comes to /socket, and foreign what comes to
// any other path.
func bothUpgrade(t *testing.T, options socket.UpgradeOptions, test func(t *testing.T, url string, acceptor, foreign *contract.Acceptor)) {
	t.Parallel()
	ping, idle, end := time.Minute, 2*time.Minute, 500*time.Millisecond
	if options.Unwatched { // what is watched, is cut soon
		ping, idle = 30*time.Millisecond, 90*time.Millisecond
	}
	for name, open := range map[string]func(h *socket.Handshake, a socket.Acceptor) (upgrader, error){
		"nbiows": func(h *socket.Handshake, a socket.Acceptor) (upgrader, error) {
			return nbiows.New(nbiows.Config{Handshake: h, Acceptor: a, PingInterval: ping, IdleTimeout: idle, CloseTimeout: end, Pollers: 2})
		},
		"netws": func(h *socket.Handshake, a socket.Acceptor) (upgrader, error) {
			return netws.New(netws.Config{Handshake: h, Acceptor: a, PingInterval: ping, IdleTimeout: idle, CloseTimeout: end})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
			require.NoError(t, err)
			acceptor, foreign := contract.NewAcceptor(), contract.NewAcceptor()
			server, err := open(handshake, acceptor)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- server.Run(ctx) }()
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/socket" {
					server.ServeHTTP(w, r)
					return
				}
				server.Upgrade(w, r, options, func(c socket.Conn) (socket.Receiver, error) { return foreign.Accept(c, socket.Hello{}) })
			}))
			t.Cleanup(func() {
				cancel()
				require.NoError(t, <-ended)
				web.Close()
			})
			test(t, "ws"+strings.TrimPrefix(web.URL, "http"), acceptor, foreign)
		})
	}
}

func dial(t *testing.T, url string, acceptor *contract.Acceptor) (contract.Client, contract.Accepted) {
	t.Helper()
	client, err := contract.DialWebSocket(t.Context(), url, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Cut() })
	accepted, err := acceptor.Next(t.Context())
	require.NoError(t, err)
	return client, accepted
}

// TestUpgradeAsksNobody holds that a connection of another protocol needs no credentials, is told apart, and
// has limits of its own.
func TestUpgradeAsksNobody(t *testing.T) {
	bothUpgrade(t, socket.UpgradeOptions{MaxMessage: 8, TooLarge: socket.CloseMessageTooBig}, func(t *testing.T, url string, _, foreign *contract.Acceptor) {
		client, accepted := dial(t, url+"/other", foreign)
		require.NoError(t, client.Write(t.Context(), false, []byte("12345678")))
		m, err := accepted.Receiver.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, "12345678", string(m.Payload))
		require.NoError(t, accepted.Conn.Send(socket.NewFrame(func(b []byte) []byte { return append(b, "a longer answer"...) })))
		m, err = client.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "a longer answer", string(m.Payload))
		require.NoError(t, client.Write(t.Context(), false, []byte("123456789")))
		_, err = client.Read(t.Context())
		var closed *contract.Closed
		require.ErrorAs(t, err, &closed)
		require.Equal(t, socket.CloseMessageTooBig, closed.Code)

		foreign.Refuse(fault.New(fault.Forbidden, "no", "not you"))
		client, err = contract.DialWebSocket(t.Context(), url+"/other", nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Cut() })
		_, err = client.Read(t.Context())
		require.ErrorAs(t, err, &closed)
		require.Equal(t, socket.CloseForbidden, closed.Code)

		answer, err := http.Get("http" + strings.TrimPrefix(url, "ws") + "/other")
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusUpgradeRequired, answer.StatusCode)
	})
}

// TestUnwatched holds that a transport leaves a silent connection alone whose protocol watches it itself.
func TestUnwatched(t *testing.T) {
	bothUpgrade(t, socket.UpgradeOptions{Unwatched: true}, func(t *testing.T, url string, acceptor, foreign *contract.Acceptor) {
		unwatched, accepted := dial(t, url+"/other", foreign)
		for range 3 { // one after the other, each as long as a silent connection may last
			_, watched := dial(t, url+"/socket?ticket=ada", acceptor)
			require.NoError(t, watched.Receiver.Gone(t.Context()))
		}
		require.NoError(t, accepted.Conn.Send(socket.NewFrame(func(b []byte) []byte { return append(b, "there"...) })))
		m, err := unwatched.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "there", string(m.Payload))
		require.NoError(t, accepted.Receiver.Err())
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := accepted.Receiver.Gone(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("it is gone: %v", err)
		}
	})
}
