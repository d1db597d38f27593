package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-chat/parley/testkit/nodejs"
)

// TestStockClient lets the stock client of npm use the server in every way: over HTTP long-polling, over WebSocket, and over
// the upgrade.
func TestStockClient(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes ten seconds")
	}
	t.Parallel()
	modules := nodejs.Modules(t, "socket.io-client")
	for _, transport := range []string{"nbio", "net"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			nodejs.Play(t, modules, filepath.Join("node", "protocol.js"), map[string]string{"url": run(t, transport)}, 5*time.Minute, nil)
		})
	}
}

// run serves until the test ends.
func run(t *testing.T, transport string) (url string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := settings{transport: transport, pingInterval: 200 * time.Millisecond, pingTimeout: 20 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String()
}

func TestATransportThatThereIsNot(t *testing.T) {
	t.Parallel()
	if err := serve(t.Context(), nil, settings{transport: "carrier pigeon"}); err == nil {
		t.Error("it serves")
	}
}
