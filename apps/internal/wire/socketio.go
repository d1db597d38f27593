package wire

import (
	"net/http"
	"strings"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/bridge"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/socket"
)

// socketIOPath is where clients of Socket.IO look for it unless they are told otherwise.
const socketIOPath = "/socket.io/"

// maxSocketMessage is the longest message of a client on any socket, as the transports have it by default.
const maxSocketMessage = 64 << 10

// openSocketIO makes the server of Socket.IO clients, on the node's hub and the transport of the sockets.
func (a *App) openSocketIO(node *parley.Node, who socket.Authenticator, publicURL string, allow func(*http.Request) error) error {
	s := a.settings
	if s.SocketIO != "on" {
		return nil
	}
	cfg := bridge.Config{Acceptor: node.Hub, Authenticator: who, NoQueryToken: s.SocketIOQuery != "on"}
	if s.SocketIORecovery == "on" {
		cfg.Recovery = node.Hub
	}
	main, err := bridge.Namespace(cfg)
	if err != nil {
		return err
	}
	a.socketIO, err = socketio.New(socketio.Config{
		Engine: engineio.Config{
			Upgrader: a.transport, Origins: a.origins(publicURL), MaxPayload: maxSocketMessage, MaxSessions: s.MaxConns,
			// No Owner: a browser's upgrade has no header of the application's, and a token in the query is wherever the sid is.
			Allow: func(r *http.Request) error {
				if node.Hub.Draining() {
					return socket.ErrDraining
				}
				return allow(r)
			},
		},
		Namespaces: map[string]socketio.Namespace{"/": main},
		Forget:     true,
		MaxPacket:  maxSocketMessage,
		MaxRefused: 3, // each may try a token, and the limit on handshakes counts sessions
		Log:        a.log,
	})
	return err
}

// besideAPI serves Socket.IO, which has rules of its own for origins, bodies and refusals, and everything else
// by the API.
func (a *App) besideAPI(api http.Handler) http.Handler {
	if a.socketIO == nil {
		return api
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, socketIOPath) {
			a.socketIO.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}
