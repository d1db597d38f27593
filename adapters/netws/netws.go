// Package netws is the WebSocket transport on net/http alone: one goroutine reads each
// connection, and a second writes while there is something to write. It implements
// [socket.Conn] and feeds [socket.Receiver]. Framing follows RFC 6455 with the headers, their rules and the masking of
// github.com/gobwas/ws v1.4.0.
//
// It runs wherever Go does, and under TLS. For very many connections see nbiows. Both have one configuration and are mounted
// alike: see the example of nbiows.
//
// # Guarantees
//
//   - Receive is called on the connection's own goroutine: a receiver that blocks holds up its
//     connection alone. One that panics is logged and its connection closed with 1011.
//   - Faults of the peer end the connection with 1002 (framing), 1007 (text that is not UTF-8,
//     found at the byte where it happens) or 4413, after what was queued. The close frame is followed by a half-close,
//     and what the peer still sends is read and thrown away, so that no reset destroys it.
//   - A message longer than MaxMessage is refused (4413) when its length is announced, not when it has come.
//     A frame that is begun and not finished costs memory only as its bytes come in.
//   - Of pings that cannot be answered yet, the latest MaxPongs are answered.
//   - Data that a client sends together with its handshake is not lost.
//   - With Compress, a message is compressed once for all connections that agreed to it (permessage-deflate, RFC 7692, without context
//     takeover). MaxMessage bounds what a compressed message of a client is inflated to: nothing is made beyond it. Data that cannot be
//     inflated end the connection with 1007.
//
// # Closing
//
// Everything lives as long as [Server.Run]. When its context ends, open connections are closed with
// 1001 and cut after CloseTimeout at the latest.
package netws

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/socket"
)

// Config is what a [Server] needs: see [socket.TransportConfig].
type Config = socket.TransportConfig

// Server is an [http.Handler] for GET /socket. It serves while [Server.Run] runs.
type Server struct {
	cfg   Config // complete
	ready chan struct{}

	mu      sync.Mutex
	started bool
	closed  bool // no new connections
	conns   map[*conn]struct{}
	running sync.WaitGroup // requests about to become connections, and goroutines of connections
}

// New checks the configuration, all of it at once. Nothing runs until [Server.Run].
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.Complete("netws")
	if err != nil {
		return nil, err
	}
	return &Server{
		cfg:   cfg,
		ready: make(chan struct{}),
		conns: make(map[*conn]struct{}),
	}, nil
}

// Ready is closed once Run serves. Connections that come earlier wait for it a few seconds.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends, closes what is open, and returns nil when it is gone. A Server
// runs once. Let its ctx end after parley.Node.Run has returned, which closes each of them with 1012.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	again := s.started
	s.started = true
	s.mu.Unlock()
	if again {
		return errors.New("netws: a Server runs once")
	}
	close(s.ready)
	ticker := time.NewTicker(s.cfg.PingInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
			for _, c := range s.open() {
				c.ping()
			}
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	for _, c := range s.open() {
		c.Close(socket.CloseGoingAway, "")
	}
	s.running.Wait()
	return nil
}

// open lists the connections.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// enter counts one request that is about to become a connection, until s.running.Done.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// add takes c into the list; one that comes while Run ends is closed at once.
func (s *Server) add(c *conn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		c.Close(socket.CloseGoingAway, "")
	}
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}
