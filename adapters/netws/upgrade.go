package netws

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
)

// startTimeout is how long a request waits for Run to have begun.
const startTimeout = 5 * time.Second

var (
	errNotRunning = fault.New(fault.Unavailable, "not_running", "the socket does not serve now")
	errKey        = fault.New(fault.Invalid, "websocket_key", "Sec-WebSocket-Key is not 16 bytes in base64")
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
			fault.WriteHTTP(w, reason)
		},
	}
}

// ServeHTTP makes a connection out of a WebSocket handshake (RFC 6455 section 4.2), or answers
// with a problem document: 426 if it is none, 401 and so on if it is refused.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || !websocket.IsWebSocketUpgrade(r) || r.Header.Get("Sec-WebSocket-Version") != "13" {
		writeUpgradeRequired(w)
		return
	}
	if nonce, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key")); err != nil || len(nonce) != 16 {
		fault.WriteHTTP(w, errKey)
		return
	}
	if !s.serving(r) {
		fault.WriteHTTP(w, errNotRunning)
		return
	}
	hello, err := s.cfg.Handshake.Check(r)
	if err != nil {
		fault.WriteHTTP(w, err)
		return
	}
	if !s.enter() {
		fault.WriteHTTP(w, realtime.ErrDraining)
		return
	}
	defer s.running.Done()
	header := http.Header{}
	if hello.Protocol != "" {
		header.Set("Sec-WebSocket-Protocol", hello.Protocol)
	}
	ws, err := s.upgrader.Upgrade(w, r, header)
	if err != nil {
		return // it has answered
	}
	c := &conn{server: s, ws: ws, written: make(chan struct{})}
	receiver, err := s.accept(c, hello.Identity)
	if err != nil {
		code := fault.KindOf(err).CloseCode()
		if errors.Is(err, realtime.ErrDraining) {
			code = realtime.CloseServiceRestart
		}
		c.Close(code, fault.Public(err).Title)
	}
	c.receiver = receiver
	s.add(c)
	s.running.Go(c.read) // the request's buffers are free once this handler returns
}

// serving waits until Run has begun.
func (s *Server) serving(r *http.Request) bool {
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	select {
	case <-s.ready:
		return true
	case <-late.C:
	case <-r.Context().Done():
	}
	return false
}

// accept asks the acceptor; one that panics has refused.
func (s *Server) accept(c *conn, who realtime.Identity) (receiver realtime.Receiver, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("the acceptor panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fault.Internal
		}
	}()
	return s.cfg.Acceptor.Accept(c, who)
}

// writeUpgradeRequired answers 426 (RFC 9110 section 15.5.22), which no kind of fault stands for.
func writeUpgradeRequired(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusUpgradeRequired)
	_ = json.NewEncoder(w).Encode(fault.Document{ // the client may be gone
		Type: fault.ProblemType("upgrade_required"), Title: "this address speaks WebSocket only",
		Status: http.StatusUpgradeRequired, Code: "upgrade_required",
	})
}
