package netws_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// parrot is an acceptor; the hub is the one that a chat uses.
type parrot struct{}

func (parrot) Accept(c socket.Conn, hello socket.Hello) (socket.Receiver, error) {
	return repeat{c, hello.Identity.Name}, nil
}

type repeat struct {
	conn socket.Conn
	name string
}

func (r repeat) Receive(payload []byte, _ bool) {
	f := socket.NewFrame(func(dst []byte) []byte { return fmt.Appendf(dst, "%s said %s", r.name, payload) })
	_ = r.conn.Send(f) // a closed connection reports itself by Disconnected
}

func (repeat) Disconnected() {}

// A server is mounted like any handler, and serves while Run runs.
func ExampleServer() {
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := netws.New(netws.Config{Handshake: handshake, Acceptor: parrot{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /socket", server)
	web := httptest.NewServer(mux)
	defer web.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	raw, err := wsraw.Dial(ctx, "ws"+strings.TrimPrefix(web.URL, "http")+"/socket?ticket=ada", nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = raw.Send(wsraw.Frame{Final: true, Opcode: wsraw.OpText, Payload: []byte("hello")})
	answer, err := raw.Read()
	fmt.Println(string(answer.Payload), err)
	_ = raw.Close()
	cancel()
	fmt.Println(<-ended)
	// Output:
	// User ada said hello <nil>
	// <nil>
}
