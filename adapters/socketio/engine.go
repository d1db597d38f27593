package socketio

import (
	"net/http"
	"net/url"

	"github.com/parley-chat/parley/core/socket"
)

// Request is what the handshake of a session said.
type Request struct {
	RemoteAddr string
	URL        *url.URL
	Header     http.Header
}

func newMessage(build func([]byte) []byte) *socket.Frame {
	return socket.NewFrame(func(b []byte) []byte { return build(append(b, '4')) })
}
