package engineio_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/socket"
)

// parrot sends back what it is told.
type parrot struct{ *engineio.Session }

func (p parrot) Receive(payload []byte, _ bool) {
	f := engineio.NewMessage(func(b []byte) []byte { return append(b, payload...) })
	_ = p.Send(f) // a session that has ended reports itself by Disconnected
}

func (parrot) Disconnected() {}

// A server is mounted like any handler, and serves while Run runs. This one is for clients that poll.
func ExampleServer() {
	server, err := engineio.New(engineio.Config{
		NoWebSocket: true,
		Accept:      func(s *engineio.Session, _ *http.Request) (socket.Receiver, error) { return parrot{s}, nil },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	request := func(method, query, body string) string {
		r := httptest.NewRequest(method, "/engine.io/?EIO=4&transport=polling"+query, strings.NewReader(body))
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, r)
		b, _ := io.ReadAll(answer.Body)
		return string(b)
	}
	opened := request(http.MethodGet, "", "")
	_, rest, _ := strings.Cut(opened, `"sid":"`)
	sid, _, _ := strings.Cut(rest, `"`)
	fmt.Println(request(http.MethodPost, "&sid="+sid, "4hello")) // 4 is a message
	fmt.Println(request(http.MethodGet, "&sid="+sid, ""))
	request(http.MethodPost, "&sid="+sid, "1") // 1 is the end
	stop()
	fmt.Println(<-ended)
	// Output:
	// ok
	// 4hello
	// <nil>
}
