package netws

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

var _ http.Handler = (*Server)(nil)

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
	extensions := s.cfg.Extensions(r)
	plain, br, err := s.take(w, socket.SwitchingProtocols(r.Header.Get("Sec-WebSocket-Key"), protocol, extensions))
	if err != nil {
		return
	}
	options = s.cfg.Options(options)
	c := &conn{
		server: s, plain: plain, br: br, written: make(chan struct{}), compress: extensions != "",
		maxMessage: options.MaxMessage, tooLarge: options.TooLarge, unwatched: options.Unwatched,
	}
	c.receiver, _ = s.cfg.Accept(c, accept) // a refusal has closed it
	s.add(c)
	s.running.Go(c.read) // the request's buffers are free once this handler returns
}

// take answers the handshake and takes the connection out of net/http; br reads from it, first what came together with the handshake.
// The request has been answered, or is gone, when an error comes back.
func (s *Server) take(w http.ResponseWriter, answer []byte) (plain net.Conn, br *bufio.Reader, err error) {
	plain, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		err = fmt.Errorf("netws: take over the connection: %w", err)
		s.cfg.Log.Error("a handshake failed", "error", err)
		problem.Write(w, err)
		return nil, nil, err
	}
	var from io.Reader = plain
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Peek(n) // cannot fail: they are there
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), plain)
	}
	_ = plain.SetDeadline(time.Now().Add(s.cfg.CloseTimeout)) // fails only where the write fails
	if _, err = plain.Write(answer); err != nil {
		s.cfg.Log.Debug("a connection was lost in its handshake", "error", err) // most often the client has gone
		return nil, nil, errors.Join(err, plain.Close())
	}
	_ = plain.SetDeadline(time.Time{})
	return plain, bufio.NewReaderSize(from, readBuffer), nil
}
