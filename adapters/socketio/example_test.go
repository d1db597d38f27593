package socketio_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
)

// ExampleServer serves events of an application's own, and nothing of Parley's services.
func ExampleServer() {
	// The transport only opens WebSocket connections, for the server.
	transport, err := netws.New(netws.Config{UpgradeOnly: true})
	check(err)
	server, err := socketio.New(socketio.Config{
		Engine: engineio.Config{Upgrader: transport},
		Namespaces: map[string]socketio.Namespace{"/": {
			Connected: func(_ context.Context, s *socketio.Socket) { s.Join("board") },
			Events: map[string]socketio.Handler{
				"move": func(_ context.Context, e *socketio.Event) {
					var to struct{ X, Y int }
					if err := e.Args.Decode(0, &to); err != nil {
						e.Socket.Close()
						return
					}
					check(e.Ack(fmt.Sprintf("moved to %d, %d", to.X, to.Y)))
				},
			},
		}},
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	go func() { check(transport.Run(context.Background())) }()
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", server)
	web := httptest.NewServer(mux)
	defer web.Close()

	// What a stock client does, packet by packet.
	ws, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	check(err)
	check(answer.Body.Close())
	read := func() string {
		_, b, err := ws.ReadMessage()
		check(err)
		return string(b)
	}
	read() // the handshake
	check(ws.WriteMessage(websocket.TextMessage, []byte("40")))
	read() // connected
	check(ws.WriteMessage(websocket.TextMessage, []byte(`427["move",{"x":3,"y":4}]`)))
	fmt.Println(read())

	check(ws.Close())
	stop()
	check(<-ended)
	// Output: 437["moved to 3, 4"]
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
