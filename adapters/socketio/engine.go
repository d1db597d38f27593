package socketio

import (
	"context"
	"errors"
	"net/http"

	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/socket"
)

// Request is what the handshake of a session said.
type Request = engineio.Request

// Server is an [http.Handler] for all requests of Socket.IO, at whatever path it is mounted; clients look for
// it at /socket.io/. It serves while [Server.Run] runs.
type Server struct {
	core   *core
	engine *engineio.Server
}

var _ http.Handler = (*Server)(nil)

// New checks the configuration, all of it at once. Nothing runs until [Server.Run].
func New(cfg Config) (*Server, error) {
	var accept error
	if cfg.Engine.Accept != nil {
		accept = errors.New("socketio: Config.Engine.Accept is the server's own")
	}
	c, err := newCore(cfg)
	if err = errors.Join(accept, err); err != nil {
		return nil, err
	}
	e := cfg.Engine
	e.Accept = func(s *engineio.Session, _ *http.Request) (socket.Receiver, error) {
		return &session{core: c, conn: (*carried)(s)}, nil
	}
	if e.ConnectTimeout == 0 {
		e.ConnectTimeout = c.cfg.ConnectTimeout
	}
	if e.Log == nil {
		e.Log = c.cfg.Log
	}
	engine, err := engineio.New(e)
	if err != nil {
		return nil, err
	}
	return &Server{core: c, engine: engine}, nil
}

// ServeHTTP answers a request of Engine.IO.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// Run serves until ctx ends, closes the sessions, lets handlers end, and returns nil. A Server runs once. The
// Upgrader of Config.Engine has to run until Run returns.
func (s *Server) Run(ctx context.Context) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		s.core.ending.Store(true)
		stop()
	})()
	err := s.engine.Run(serving)
	s.core.stop()
	return err
}

// Of returns a broadcast to all sockets of a namespace. Where there is no such namespace, Emit returns
// ErrNoNamespace.
func (s *Server) Of(namespace string) Broadcast { return Broadcast{ns: s.core.namespaces[namespace]} }

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int { return s.engine.Sessions() }

// carried is a session of Engine.IO.
type carried engineio.Session

func (c *carried) of() *engineio.Session { return (*engineio.Session)(c) }

func (c *carried) Send(f *socket.Frame) error    { return c.of().Send(f) }
func (c *carried) Queued() int                   { return c.of().Queued() }
func (c *carried) Close(code int, reason string) { c.of().Close(code, reason) }
func (c *carried) request() *Request             { return c.of().Request() }
func (c *carried) forget()                       { c.of().Forget() }
func (c *carried) keep()                         { c.of().Keep() }
func (c *carried) why() Reason                   { return Reason(c.of().Reason()) }
