// Package engineio is a server of Engine.IO protocol version 4
// (https://github.com/socketio/engine.io-protocol), on which Socket.IO stands: sessions over HTTP
// long-polling or WebSocket, and the upgrade from one to the other.
//
// It gives each session to the application as a [socket.Conn] and feeds a [socket.Receiver]. WebSocket
// connections ride on a transport of this module, behind the interface [Upgrader].
//
// # Guarantees
//
//   - Packets arrive in the order in which they were sent, across an upgrade too, none twice. Where one
//     may be lost (a poll whose client has gone, an answer that could not be written) the session ends.
//   - A session that is idle on WebSocket has no goroutine, timer or buffer of its own: one clock pings all of them.
//     A text or binary frame goes out as it is, shared by all its receivers.
//   - Requests that break the rules get the protocol's status, code and message, and end the session that
//     they name where the protocol says so. Nobody else notices.
//   - An identifier is 144 random bits. Requests of a foreign origin are refused before one is looked up, and
//     one that is used by another owner (Config.Owner) is answered like one that does not exist.
//   - Receive is called for one packet at a time. A receiver that panics is logged and its session closed.
//
// # Exceptions
//
//   - A poll that its client cancels ends the session, as in the reference implementation.
//   - Protocol version 3 and JSONP are not spoken.
//   - Answers are not compressed.
//   - In a text message U+001E is no character: HTTP long-polling separates packets by it.
//
// # Closing
//
// Everything lives as long as [Server.Run]. When its context ends, sessions are closed: on WebSocket with
// 1001, on polling by the packet that closes, for which Run waits CloseTimeout.
package engineio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rs/cors"

	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

// Upgrader opens WebSocket connections for requests that the server has admitted: nbiows.Server or
// netws.Server, which must run as long as the server does.
type Upgrader interface {
	// Upgrade makes a connection out of r, or answers what is wrong with it. accept is called at most once, before
	// Upgrade returns; an error of it closes the connection.
	Upgrade(w http.ResponseWriter, r *http.Request, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error))
}

// Config is what a [Server] needs. Zero fields without "required" mean the default.
type Config struct {
	// Accept takes a new session over, and returns what is to be fed. An error refuses the session: with status 403
	// and code 4 on polling (429 and 503 by its kind), with the close code of its kind on WebSocket. It may
	// call the session's methods; what it sends follows the handshake. Required.
	Accept func(s *Session, r *http.Request) (socket.Receiver, error)
	// Upgrader opens WebSocket connections. Required unless NoWebSocket is set.
	Upgrader Upgrader
	// NoPolling and NoWebSocket turn a transport off. Default: both are on.
	NoPolling, NoWebSocket bool
	// Origins lists whose pages may use the server besides those of its own host, in the form of
	// [socket.ParseOrigins]. Requests without Origin are not from pages of others, and pass.
	Origins []string
	// Allow, if set, is asked before a session is made. Its error refuses the handshake, as one of Accept does, before
	// the request has cost anything.
	Allow func(r *http.Request) error
	// Owner, if set, says on whose behalf a request is made, such as by a cookie. A session serves only requests
	// that have the owner of its handshake, so it has to be the same in every request of a client: browsers send no
	// headers of the application's with WebSocket. Default: whoever knows the identifier.
	Owner func(r *http.Request) string
	// PingInterval is the time from the answer to a ping until the next ping. Default 25 seconds.
	PingInterval time.Duration
	// PingTimeout is how long a client may take to answer a ping, or to read an answer. Default 20 seconds.
	PingTimeout time.Duration
	// BodyTimeout is how long a client may take to send the body of a POST; one that is late is answered 408.
	// Default 8 seconds.
	BodyTimeout time.Duration
	// UpgradeTimeout is how long a WebSocket connection may take to take a session over. Default 10 seconds.
	UpgradeTimeout time.Duration
	// ConnectTimeout is how long the application may take until it calls [Session.Keep]; then the session is closed.
	// Default: for ever.
	ConnectTimeout time.Duration
	// CloseTimeout is how long a session on polling that was closed waits for a last poll. Default 5 seconds.
	CloseTimeout time.Duration
	// MaxPayload is the most bytes of a body or of a WebSocket message that a client may send. Default 1,000,000.
	MaxPayload int
	// MaxQueued is the most bytes that wait for a client which does not take them; then its session is closed.
	// Default 1 MiB.
	MaxQueued int
	// MaxSessions is the most sessions at a time; more are refused with 503. Default 1,000,000.
	MaxSessions int
	// Log gets panics of receivers. Default: nowhere.
	Log *slog.Logger
}

// Server is an [http.Handler] for all requests of the protocol. It serves while [Server.Run] runs.
type Server struct {
	cfg     Config
	origins socket.Origins
	clock   *clock
	cors    *cors.Cors
	seed    maphash.Seed
	ready   chan struct{}

	mu       sync.Mutex
	started  bool
	closed   bool // no new sessions
	sessions map[uint64]*Session
	live     int            // sessions, those about to be opened and those about to be gone included
	leaving  sync.WaitGroup // the same
}

// New checks the configuration, all of it at once. Nothing runs until [Server.Run].
func New(cfg Config) (*Server, error) {
	c := settings.Of("engineio: Config")
	c.Require("Accept", cfg.Accept == nil)
	c.Require("Upgrader", cfg.Upgrader == nil && !cfg.NoWebSocket)
	if cfg.NoPolling && cfg.NoWebSocket {
		c.Refuse("NoPolling", "and NoWebSocket leave no transport")
	}
	origins, err := socket.ParseOrigins(cfg.Origins)
	c.Fault("Origins", err)
	settings.Default(c, "PingInterval", &cfg.PingInterval, 25*time.Second)
	settings.Default(c, "PingTimeout", &cfg.PingTimeout, 20*time.Second)
	settings.Default(c, "BodyTimeout", &cfg.BodyTimeout, 8*time.Second)
	settings.Default(c, "UpgradeTimeout", &cfg.UpgradeTimeout, 10*time.Second)
	settings.Default(c, "ConnectTimeout", &cfg.ConnectTimeout, 0)
	settings.Default(c, "CloseTimeout", &cfg.CloseTimeout, 5*time.Second)
	settings.Default(c, "MaxPayload", &cfg.MaxPayload, 1_000_000)
	settings.Default(c, "MaxQueued", &cfg.MaxQueued, 1<<20)
	settings.Default(c, "MaxSessions", &cfg.MaxSessions, 1_000_000)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	step := min(max(min(cfg.PingInterval, cfg.PingTimeout)/64, time.Millisecond), 250*time.Millisecond)
	srv := &Server{
		cfg: cfg, origins: origins, clock: newClock(step), seed: maphash.MakeSeed(),
		ready: make(chan struct{}), sessions: make(map[uint64]*Session),
	}
	srv.cors = srv.newCORS()
	return srv, nil
}

// Run serves until ctx ends, closes the sessions, and returns nil when they are gone. A Server
// runs once. The Upgrader has to run until Run returns, or close its connections itself.
func (srv *Server) Run(ctx context.Context) error {
	srv.mu.Lock()
	again := srv.started
	srv.started = true
	srv.mu.Unlock()
	if again {
		return errors.New("engineio: a Server runs once")
	}
	var running sync.WaitGroup
	stopped := make(chan struct{})
	running.Go(func() {
		srv.clock.run(stopped, func(d *deadline, line int8) {
			switch line {
			case linePing:
				d.session.ping(d.at)
			case linePong:
				d.session.silent()
			case lineConnect:
				d.session.unwanted()
			}
		})
	})
	close(srv.ready)
	<-ctx.Done()
	srv.mu.Lock()
	srv.closed = true
	open := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		open = append(open, s)
	}
	srv.mu.Unlock()
	for _, s := range open {
		s.Close(socket.CloseGoingAway, "")
	}
	srv.leaving.Wait()
	close(stopped)
	running.Wait()
	return nil
}

// Sessions returns how many sessions there are.
func (srv *Server) Sessions() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.sessions)
}

// reserve counts a session that is about to be, until release.
func (srv *Server) reserve() *refusal {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	switch {
	case srv.closed:
		return errNotRunning
	case srv.live >= srv.cfg.MaxSessions:
		return errFull
	}
	srv.live++
	srv.leaving.Add(1)
	return nil
}

func (srv *Server) release() {
	srv.mu.Lock()
	srv.live--
	srv.mu.Unlock()
	srv.leaving.Done()
}

// begin makes a session known that was accepted.
func (srv *Server) begin(s *Session) {
	srv.mu.Lock()
	srv.sessions[s.id.key()] = s
	closed := srv.closed
	srv.mu.Unlock()
	if closed { // while it was accepted
		s.Close(socket.CloseGoingAway, "")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateOpen {
		return
	}
	now := srv.clock.now()
	srv.clock.set(&s.beat, linePing, now+srv.cfg.PingInterval)
	if srv.cfg.ConnectTimeout > 0 && !s.wanted {
		if s.opening == nil {
			s.opening = new(opening)
		}
		s.opening.keep = &deadline{session: s}
		srv.clock.set(s.opening.keep, lineConnect, now+srv.cfg.ConnectTimeout)
	}
}

func (srv *Server) remove(s *Session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.sessions, s.id.key())
}

// find returns the session of an identifier that owner may use, or nil.
func (srv *Server) find(sid string, owner uint64) *Session {
	id, ok := parseIdentifier(sid)
	if !ok {
		return nil
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if s := srv.sessions[id.key()]; s != nil && s.id == id && s.owner == owner {
		return s
	}
	return nil
}

// options say how connections of the sessions are to be.
func (srv *Server) options() socket.UpgradeOptions {
	return socket.UpgradeOptions{MaxMessage: srv.cfg.MaxPayload, TooLarge: socket.CloseMessageTooBig, Unwatched: true}
}

// identifier is 144 random bits. Clients know it as text.
type identifier [18]byte

// newID makes an identifier that nobody guesses, and whose key no session has.
func (srv *Server) newID() (id identifier) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for {
		_, _ = rand.Read(id[:]) // it does not fail
		if srv.sessions[id.key()] == nil {
			return id
		}
	}
}

// key is by which the server finds the session: a part of the identifier, since a map of these is smaller.
func (id identifier) key() uint64 { return binary.BigEndian.Uint64(id[:8]) }

func (id identifier) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseIdentifier reads what String has written, and nothing else.
func parseIdentifier(text string) (id identifier, ok bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(len(id)) {
		return id, false
	}
	n, err := base64.RawURLEncoding.Decode(id[:], []byte(text))
	return id, err == nil && n == len(id) // a line break, which Decode leaves out, makes it shorter
}
