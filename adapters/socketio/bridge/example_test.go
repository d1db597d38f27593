package bridge_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/bridge"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// A node whose rooms clients of Socket.IO enter, too.
func Example() {
	who := memory.NewAuthenticator()
	who.AllowToken("secret", user.Identity{UserID: "u1", Name: "Ada"})
	node, err := parley.NewNode(parley.Config{
		Ports: memory.NewPorts(), Authenticator: who,
		Hub: realtime.HubConfig{Formats: map[string]protocol.NewFormat{bridge.Protocol: bridge.Format}},
	})
	check(err)
	rooms, err := bridge.Namespace(bridge.Config{Acceptor: node.Hub, Authenticator: who})
	check(err)
	transport, err := netws.New(netws.Config{UpgradeOnly: true})
	check(err)
	server, err := socketio.New(socketio.Config{
		Engine: engineio.Config{Upgrader: transport}, Namespaces: map[string]socketio.Namespace{"/": rooms}, Forget: true,
	})
	check(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	ready := make(chan struct{})
	go func() { ended <- node.Run(ctx, func() { close(ready) }) }()
	go func() { ended <- server.Run(ctx) }()
	go func() { ended <- transport.Run(ctx) }()
	<-ready
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", server)
	web := httptest.NewServer(mux)
	defer web.Close()

	// What a stock client does, packet by packet.
	ws, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(web.URL, "http")+"/socket.io/?EIO=4&transport=websocket&authorization=bearer%20secret", nil)
	check(err)
	check(answer.Body.Close())
	read := func() string {
		_, b, err := ws.ReadMessage()
		check(err)
		return string(b)
	}
	say := func(packet string) { check(ws.WriteMessage(websocket.TextMessage, []byte(packet))) }
	read() // the handshake
	say("40")
	read() // connected
	say(`42["join_room",{"name":"hall","userId":"u1"}]`)
	say(`42["message",{"roomName":"hall","message":"Good morning"}]`)
	heard, _, _ := strings.Cut(read(), `,"created_at"`)
	fmt.Println(heard)

	check(ws.Close())
	stop()
	for range cap(ended) {
		check(<-ended)
	}
	// Output: 42["hall",{"message":"Good morning","user":"Ada","userId":"u1"
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
