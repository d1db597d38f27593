package socketio_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/testkit/sioclient"
)

// transport is nbiows.Server and netws.Server.
type transport interface {
	engineio.Upgrader
	Run(ctx context.Context) error
}

func newTransport(t testing.TB, name string) transport {
	t.Helper()
	var tr transport
	var err error
	if name == "net" {
		tr, err = netws.New(netws.Config{UpgradeOnly: true, CloseTimeout: time.Second})
	} else {
		tr, err = nbiows.New(nbiows.Config{UpgradeOnly: true, CloseTimeout: time.Second})
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// serve runs a server over a transport until the test ends, or stop is called, and returns its address.
func serve(t testing.TB, over string, cfg socketio.Config) (url string, server *socketio.Server, stop func()) {
	t.Helper()
	tr := newTransport(t, over)
	cfg.Engine.Upgrader = tr
	if cfg.Engine.CloseTimeout == 0 {
		cfg.Engine.CloseTimeout = time.Second
	}
	server, err := socketio.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	carry, drop := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	carried, ended := make(chan error, 1), make(chan error, 1)
	go func() { carried <- tr.Run(carry) }()
	go func() { ended <- server.Run(ctx) }()
	web := httptest.NewServer(server)
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		drop()
		if err := <-carried; err != nil {
			t.Error(err)
		}
		web.Close()
	}
	t.Cleanup(stop)
	return web.URL + "/socket.io/", server, stop
}

// everyWay runs a test over each transport of this module, in each way in which a client can be connected.
func everyWay(t *testing.T, test func(t *testing.T, transport, how string)) {
	t.Parallel()
	for _, tr := range []string{"nbio", "net"} {
		for _, how := range sioclient.Ways {
			t.Run(fmt.Sprintf("%s/%s", tr, how), func(t *testing.T) {
				t.Parallel()
				test(t, tr, how)
			})
		}
	}
}

func dial(t testing.TB, url, how string) *sioclient.Client {
	t.Helper()
	return sioclient.Dial(t, url, how, nil)
}
