package netws

import (
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

var _ http.Handler = (*Server)(nil)

func newUpgrader(cfg Config) websocket.Upgrader {
	return websocket.Upgrader{
		HandshakeTimeout: cfg.CloseTimeout,
		ReadBufferSize:   1 << 10,
		WriteBufferSize:  4 << 10,
		WriteBufferPool:  new(sync.Pool),
		CheckOrigin:      func(*http.Request) bool { return true }, // the handshake has checked it
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			cfg.Log.Error("netws: handshake", "status", status, "error", reason)
			problem.Write(w, reason)
		},
	}
}

// ServeHTTP makes a connection out of a WebSocket handshake (RFC 6455 section 4.2), or answers
// with a problem document: 426 if it is none, 401 and so on if it is refused, 404 with
// Config.UpgradeOnly.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hello, ok := s.cfg.Admit(w, r, s.ready)
	if !ok {
		return
	}
	s.upgrade(w, r, hello.Protocol, socket.UpgradeOptions{}, func(c socket.Conn) (socket.Receiver, error) { return s.cfg.Acceptor.Accept(c, hello) })
}

// Upgrade makes a connection out of a WebSocket handshake for somebody else's protocol, or answers what is
// wrong with it. Who may connect was decided before: neither Config.Handshake nor Config.Acceptor is
// asked. accept is called at most once, before Upgrade returns; an error of it closes the connection.
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error)) {
	if socket.AdmitUpgrade(w, r, s.ready) {
		s.upgrade(w, r, "", options, accept)
	}
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, protocol string, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error)) {
	if !s.enter() {
		problem.Write(w, socket.ErrDraining)
		return
	}
	defer s.running.Done()
	header := http.Header{}
	if protocol != "" {
		header.Set("Sec-WebSocket-Protocol", protocol)
	}
	ws, err := s.upgrader.Upgrade(w, r, header)
	if err != nil {
		return // it has answered
	}
	options = s.cfg.Options(options)
	c := &conn{server: s, ws: ws, written: make(chan struct{}), maxMessage: options.MaxMessage, tooLarge: options.TooLarge, unwatched: options.Unwatched}
	c.receiver, _ = s.cfg.Accept(c, accept) // a refusal has closed it
	s.add(c)
	s.running.Go(c.read) // the request's buffers are free once this handler returns
}
