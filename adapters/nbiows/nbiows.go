// Package nbiows is the WebSocket transport for many connections: an idle one costs neither
// a goroutine nor a buffer. It implements [socket.Conn] and feeds [socket.Receiver].
//
// net/http accepts and upgrades; then the connection is handed to the poller of
// github.com/lesismal/nbio v1.6.12 (epoll, kqueue). Framing follows RFC 6455 with
// header rules and masking from github.com/gobwas/ws v1.4.0.
//
// # Guarantees
//
//   - Send writes at once when nothing is queued. What the operating system does not take stays
//     a queue of the shared frames; at most 1 KiB of it is copied.
//   - Receive is called on a poller's goroutine, which serves many connections: a receiver that
//     blocks holds them all up. One that panics is logged and its connection closed with 1011.
//   - A message longer than MaxMessage is refused (4413) when its length is announced, not when it has come.
//     A frame that is begun and not finished costs memory only as its bytes come in.
//   - Faults of the peer end the connection with 1002 (framing), 1007 (text that is not UTF-8,
//     found at the byte where it happens) or 4413. The close frame is followed by a half-close,
//     and what the peer still sends is read and thrown away, so that no reset destroys it.
//   - Of pings that cannot be answered yet, the latest MaxPongs are answered.
//   - With Compress, a message is compressed once for all connections that agreed to it (permessage-deflate, RFC 7692, without context
//     takeover). MaxMessage bounds what a compressed message of a client is inflated to: nothing is made beyond it. An idle connection holds
//     nothing for it. Data that cannot be inflated end the connection with 1007.
//   - Data that a client sends together with its handshake is not lost.
//   - Times are kept by one ticker in steps of at most a second: things happen up to two steps late.
//
// # Exceptions
//
// TLS connections cannot be handed to a poller: requests that came over TLS are refused with 500
// and an error in the log. Serve TLS with netws, or end it at a proxy. For the same reason the
// listener of the [http.Server] must accept connections of type *net.TCPConn: those of another type, also
// when one is wrapped in it, are closed with an error in the log.
//
// Ending its direction of the TCP connection is, for a client, the end of it: what is queued is not sent any more.
//
// Where there is no poller (Windows), [New] returns an error that is [errors.ErrUnsupported]. Run on Linux;
// elsewhere only compiled.
//
// nbio writes to standard output when it starts and stops; New turns that off for the whole process.
//
// # Closing
//
// Everything lives as long as [Server.Run]. When its context ends, open connections are closed with
// 1001 and cut after CloseTimeout at the latest.
package nbiows

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"github.com/parley-chat/parley/core/socket"
)

// Config is what a [Server] needs: see [socket.TransportConfig].
type Config = socket.TransportConfig

// Server is an [http.Handler] for GET /socket. It serves while [Server.Run] runs.
type Server struct {
	cfg Config // complete

	step       time.Duration // between two ticks; all times below are in ticks
	pingTicks  uint32
	idleTicks  uint32
	closeTicks uint32
	now        atomic.Uint32

	engines []*nbio.Engine // set before ready is closed
	// handed is written before a connection is handed to nbio and read when it comes back. It
	// orders the two for the race detector, from which nbio hides its own locking.
	handed  atomic.Uint32
	ready   chan struct{}
	scratch sync.Pool // of *[]byte, to gather small frames in

	writable struct { // connections that can be written to again
		sync.Mutex
		conns  []*conn
		signal chan struct{} // capacity one
	}

	mu      sync.Mutex
	started bool
	closed  bool          // no new connections
	conns   []*conn       // each knows its place
	ending  bool          // no new connections, and none about to be
	empty   chan struct{} // closed once ending is set and conns is empty
	opening sync.WaitGroup
}

// New checks the configuration, all of it at once. Nothing runs until [Server.Run].
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.Complete("nbiows")
	if !supported {
		err = errors.Join(fmt.Errorf("nbiows: there is no poller on %s, use netws: %w", runtime.GOOS, errors.ErrUnsupported), err)
	}
	if err != nil {
		return nil, err
	}
	logging.SetLevel(logging.LevelError) // see the package comment
	step := min(cfg.PingInterval, cfg.IdleTimeout-cfg.PingInterval, cfg.CloseTimeout) / 8
	step = min(max(step, 5*time.Millisecond), time.Second)
	// One more than the whole steps: the current one has partly passed.
	ticks := func(d time.Duration) uint32 { return uint32((d+step-1)/step) + 1 }
	s := &Server{
		cfg: cfg, step: step, pingTicks: ticks(cfg.PingInterval), idleTicks: ticks(cfg.IdleTimeout), closeTicks: ticks(cfg.CloseTimeout),
		ready: make(chan struct{}), empty: make(chan struct{}),
	}
	s.scratch.New = func() any { b := make([]byte, 0, gatherBytes); return &b }
	s.writable.signal = make(chan struct{}, 1)
	return s, nil
}

// Run serves until ctx ends, closes what is open, and returns nil when it is gone. An error
// says that the pollers could not be started. A Server runs once. Let its ctx end after
// parley.Node.Run has returned, which closes each of them with 1012.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	again := s.started
	s.started = true
	s.mu.Unlock()
	if again {
		return errors.New("nbiows: a Server runs once")
	}
	var running sync.WaitGroup
	stopped := make(chan struct{})
	defer running.Wait()
	defer close(stopped)
	defer func() {
		for _, e := range s.engines {
			e.Stop()
		}
	}()
	for range s.cfg.Pollers {
		e := nbio.NewEngine(nbio.Config{Name: "parley", NPoller: 1})
		e.OnData(func(nb *nbio.Conn, b []byte) {
			s.handed.Load()
			if c, ok := nb.Session().(*conn); ok {
				c.receive(b)
			}
		})
		e.OnClose(func(nb *nbio.Conn, _ error) {
			s.handed.Load()
			switch of := nb.Session().(type) {
			case *conn:
				of.ended()
			case chan struct{}: // see awaitPoller
				close(of)
			}
		})
		e.OnWrittenSize(func(nb *nbio.Conn, _ []byte, n int) {
			if c, ok := nb.Session().(*conn); ok {
				s.written(c, n)
			}
		})
		if err := e.Start(); err != nil {
			return fmt.Errorf("nbiows: start a poller: %w", err)
		}
		s.engines = append(s.engines, e)
		if err := awaitPoller(e); err != nil {
			return err
		}
	}
	running.Go(func() { s.tick(stopped) })
	running.Go(func() { s.write(stopped) })
	close(s.ready)
	<-ctx.Done()
	s.close()
	return nil
}

// Ready is closed once Run serves: everything is open by then that it needs of the operating system.
// Connections that come earlier wait for it a few seconds.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// close ends all connections and returns when they are gone.
func (s *Server) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.opening.Wait()
	s.mu.Lock()
	s.ending = true
	open := slices.Clone(s.conns)
	if len(open) == 0 {
		close(s.empty)
	}
	s.mu.Unlock()
	for _, c := range open {
		c.Close(socket.CloseGoingAway, "")
	}
	<-s.empty // the ticker cuts whoever does not go
}

// open counts one request that is about to become a connection, until s.opening.Done.
func (s *Server) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.opening.Add(1)
	return true
}

func (s *Server) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.place = int32(len(s.conns))
	s.conns = append(s.conns, c)
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.place < 0 {
		return
	}
	last := len(s.conns) - 1
	s.conns[c.place] = s.conns[last]
	s.conns[c.place].place = c.place
	s.conns[last] = nil
	s.conns = s.conns[:last]
	c.place = -1
	if s.ending && last == 0 {
		close(s.empty)
	}
}

// tick keeps the time of all connections.
func (s *Server) tick(stopped <-chan struct{}) {
	ticker := time.NewTicker(s.step)
	defer ticker.Stop()
	var some [256]*conn
	for {
		select {
		case <-ticker.C:
		case <-stopped:
			return
		}
		now := s.now.Add(1)
		for from := 0; ; {
			// In parts, so that nobody waits long for the lock. Removal moves the last one
			// forward, which then is visited at the next tick.
			s.mu.Lock()
			n := copy(some[:], s.conns[min(from, len(s.conns)):])
			s.mu.Unlock()
			if n == 0 {
				break
			}
			for _, c := range some[:n] {
				c.check(now)
			}
			clear(some[:n])
			from += n
		}
	}
}

// written is called by nbio, inside its lock of the connection, when it has written n bytes of
// what arm gave to it.
func (s *Server) written(c *conn, n int) {
	c.queued.Add(-int64(n))
	if c.armed.Add(-int32(n)) != 0 {
		return
	}
	s.writable.Lock()
	s.writable.conns = append(s.writable.conns, c)
	s.writable.Unlock()
	select {
	case s.writable.signal <- struct{}{}:
	default:
	}
}

// write goes on with connections that can be written to again.
func (s *Server) write(stopped <-chan struct{}) {
	for {
		select {
		case <-s.writable.signal:
		case <-stopped:
			return
		}
		s.writable.Lock()
		conns := s.writable.conns
		s.writable.conns = nil
		s.writable.Unlock()
		for _, c := range conns {
			c.wake()
		}
	}
}
