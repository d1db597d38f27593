package nbiows_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit"
)

func TestMain(m *testing.M) {
	testkit.Parallel(4)
	goleak.VerifyTestMain(m)
}

// anybody is an Authenticator: the token is the user's id, except "bad".
type anybody struct{}

func (anybody) Token(_ context.Context, token string) (user.Identity, error) {
	if token == "bad" {
		return user.Identity{}, fault.New(fault.Unauthenticated, "token_refused", "the token is refused")
	}
	return user.Identity{UserID: user.ID(token), Name: "User " + token}, nil
}

func (a anybody) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return a.Token(ctx, ticket)
}

// start serves until the test ends, and returns the address of the socket.
func start(t testing.TB, acceptor socket.Acceptor, change func(*nbiows.Config)) string {
	t.Helper()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	require.NoError(t, err)
	cfg := nbiows.Config{Handshake: handshake, Acceptor: acceptor, CloseTimeout: 500 * time.Millisecond, Pollers: 2}
	if change != nil {
		change(&cfg)
	}
	server, err := nbiows.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http") + "/socket?ticket=ada"
}

func TestContract(t *testing.T) {
	t.Parallel()
	contract.Run(t, contract.Conn(), func(t *testing.T) contract.Pipe {
		acceptor := contract.NewAcceptor()
		url := start(t, acceptor, nil)
		return openPipe(t, url, nil, acceptor, 500*time.Millisecond)
	})
}

// TestContractCompressed is the same with a client that reads compressed messages.
func TestContractCompressed(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped by -short: the whole contract once more")
	}
	offer := http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}
	contract.Run(t, contract.Conn(), func(t *testing.T) contract.Pipe {
		acceptor := contract.NewAcceptor()
		url := start(t, acceptor, func(cfg *nbiows.Config) { cfg.Compress, cfg.CompressFrom, cfg.CloseTimeout = true, 1, 3*time.Second })
		return openPipe(t, url, offer, acceptor, 3*time.Second)
	})
}

func openPipe(t testing.TB, url string, header http.Header, acceptor *contract.Acceptor, cutAfter time.Duration) contract.Pipe {
	open := func(ctx context.Context) (contract.Pipe, error) {
		acceptor.Refuse(nil)
		client, err := contract.DialWebSocket(ctx, url, header)
		if err != nil {
			return contract.Pipe{}, err
		}
		t.Cleanup(func() { _ = client.Cut() })
		accepted, err := acceptor.Next(ctx)
		return contract.Pipe{Server: accepted.Conn, Receiver: accepted.Receiver, Client: client}, err
	}
	var fill func(p contract.Pipe) contract.Pipe
	fill = func(p contract.Pipe) contract.Pipe {
		p.CutAfter = cutAfter
		p.Another = func(ctx context.Context) (contract.Pipe, error) {
			q, err := open(ctx)
			return fill(q), err
		}
		p.Refused = func(ctx context.Context, refusal error) (contract.Client, error) {
			acceptor.Refuse(refusal) // until the next open: it is asked after the handshake is answered
			client, err := contract.DialWebSocket(ctx, url, header)
			if err == nil {
				t.Cleanup(func() { _ = client.Cut() })
			}
			return client, err
		}
		return p
	}
	p, err := open(t.Context())
	require.NoError(t, err)
	return fill(p)
}
