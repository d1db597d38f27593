package nbiows

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"time"

	"github.com/lesismal/nbio"

	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

var _ http.Handler = (*Server)(nil)

// ServeHTTP makes a connection out of a WebSocket handshake (RFC 6455 section 4.2), or answers
// with a problem document: 426 if it is none, 401 and so on if it is refused, 404 with
// Config.UpgradeOnly.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.pollable(w, r) {
		return
	}
	hello, ok := s.cfg.Admit(w, r, s.ready)
	if !ok {
		return
	}
	s.become(w, r, hello.Protocol, socket.UpgradeOptions{}, func(c socket.Conn) (socket.Receiver, error) { return s.cfg.Acceptor.Accept(c, hello) })
}

// Upgrade makes a connection out of a WebSocket handshake for somebody else's protocol, or answers what is
// wrong with it. Who may connect was decided before: neither Config.Handshake nor Config.Acceptor is
// asked. accept is called at most once, before Upgrade returns; an error of it closes the connection.
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error)) {
	if s.pollable(w, r) && socket.AdmitUpgrade(w, r, s.ready) {
		s.become(w, r, "", options, accept)
	}
}

// pollable answers requests that cannot become connections of a poller.
func (s *Server) pollable(w http.ResponseWriter, r *http.Request) bool {
	if r.TLS != nil {
		s.refuse(w, errors.New("nbiows cannot serve TLS: use netws, or end TLS at a proxy"))
		return false
	}
	return true
}

// become makes a connection that accept takes over.
func (s *Server) become(w http.ResponseWriter, r *http.Request, protocol string, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error)) {
	if !s.open() {
		problem.Write(w, socket.ErrDraining)
		return
	}
	defer s.opening.Done()
	extensions := s.cfg.Extensions(r)
	nb, early, err := s.upgrade(w, socket.SwitchingProtocols(r.Header.Get("Sec-WebSocket-Key"), protocol, extensions))
	if err != nil {
		s.cfg.Log.Debug("a connection was lost in its handshake", "error", err) // most often the client has gone
		return
	}
	s.serve(nb, early, extensions != "", options, accept)
}

func (s *Server) refuse(w http.ResponseWriter, err error) {
	s.cfg.Log.Error("a handshake failed", "error", err)
	problem.Write(w, err)
}

// upgrade answers the handshake and takes the connection out of net/http. The response is not
// written to when an error comes back.
func (s *Server) upgrade(w http.ResponseWriter, answer []byte) (nb *nbio.Conn, early []byte, err error) {
	plain, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.refuse(w, fmt.Errorf("nbiows: take over the connection: %w", err))
		return nil, nil, err
	}
	if _, ok := plain.(*net.TCPConn); !ok {
		err = fmt.Errorf("nbiows: a %T cannot be polled", plain)
		s.cfg.Log.Error("a handshake failed", "error", err)
		return nil, nil, errors.Join(err, plain.Close())
	}
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Peek(n) // cannot fail: they are there
		early = bytes.Clone(b)
	}
	_ = plain.SetDeadline(time.Now().Add(s.cfg.CloseTimeout)) // fails only where the write fails
	if _, err = plain.Write(answer); err != nil {
		return nil, nil, errors.Join(err, plain.Close())
	}
	if nb, err = adopt(plain); err != nil { // a duplicate; it has closed plain
		s.cfg.Log.Error("a connection could not be taken over", "error", err) // no descriptor is left, most often
		return nil, nil, errors.Join(err, plain.Close())
	}
	return nb, early, nil
}

// serve hands the connection to the acceptor and then to a poller.
func (s *Server) serve(nb *nbio.Conn, early []byte, compress bool, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error)) {
	options = s.cfg.Options(options)
	c := &conn{server: s, nb: nb, compress: compress, unwatched: options.Unwatched, tooLarge: uint16(options.TooLarge), maxMessage: int32(min(options.MaxMessage, math.MaxInt32))}
	c.seen.Store(s.now.Load())
	nb.SetSession(c)
	s.add(c)
	if receiver, err := s.cfg.Accept(c, accept); err == nil {
		c.mu.Lock()
		c.receiver = receiver
		c.mu.Unlock()
	}
	if len(early) > 0 {
		c.receive(early)
	}
	s.handed.Add(1)
	if _, err := s.engines[nb.Hash()%len(s.engines)].AddConn(nb); err != nil { // it has closed nb
		s.cfg.Log.Error("a connection could not be handed to the poller", "error", err)
		c.ended()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&gone == 0 {
		c.state |= registered
		c.flush()
	}
}
