// Package socketio is a server of the Socket.IO protocol, revision 5
// (https://github.com/socketio/socket.io-protocol), which the 4.x clients speak: namespaces, middleware
// at connect, events with acks both ways, attachments, and rooms. It knows nothing of chat: an application
// uses it with events of its own, or lets something else take its sockets over ([Namespace].Accept), as
// package bridge does with Parley's hub.
//
// Sessions come from package engineio: HTTP long-polling, WebSocket, and the upgrade between them.
//
// # Guarantees
//
//   - A socket's handlers are called one at a time, in the order in which its events came, Connected first and
//     Disconnected last. Handlers of different sockets run at the same time.
//   - What is emitted to a socket arrives in the order of the calls; nothing comes between an event and its attachments.
//   - A broadcast is encoded once, whatever the number of its receivers.
//   - A socket whose client is silent has no goroutine and no timer.
//   - What a client sends is bounded: see [Config]. A client that breaks the protocol is cut; nobody else notices.
//   - A handler that panics is logged, and its client cut.
//
// # Exceptions
//
//   - Rooms and broadcasts are those of one process. There is no adapter to join several; for rooms on many
//     nodes there is Parley's hub.
//   - The name of an event is a string; the reference implementation also lets it be a number.
//   - Connection state recovery is for sockets that something else takes over ([Socket.SetRecovery]): a client of any
//     other socket that comes back is told that it is new.
//
// # Closing
//
// Everything lives as long as [Server.Run].
package socketio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

// What the library returns.
var (
	ErrDisconnected = fault.New(fault.Unavailable, "disconnected", "the socket is disconnected")
	ErrReservedName = fault.New(fault.Invalid, "reserved_event", "the name of the event is reserved")
	ErrNoNamespace  = fault.New(fault.NotFound, "no_namespace", "there is no such namespace")
	ErrManyCalls    = fault.New(fault.Exhausted, "too_many_calls", "too many calls wait for their ack")
)

// ConnectError refuses a connection to a namespace with a message and data of the application's: clients find
// them in the event connect_error, as err.message and err.data.
type ConnectError struct {
	Message string
	// Data is any value that becomes JSON; nil for none.
	Data any
}

// Error returns the message.
func (e *ConnectError) Error() string { return e.Message }

// Middleware decides whether a socket may connect to its namespace. A [*ConnectError] refuses it as it
// says, any other error with the title and the code of its fault.Problem. An error of kind
// Unavailable ends the session instead, because then clients come back by themselves. ctx ends after
// Config.ConnectTimeout. It may block.
type Middleware func(ctx context.Context, s *Socket) error

// Handler handles one event. It may block: only further events of the same socket wait for it. ctx ends
// when the server does.
type Handler func(ctx context.Context, e *Event)

// Namespace says what happens on the sockets of one namespace. All fields may be left out.
type Namespace struct {
	// Use is asked in its order before a socket is connected.
	Use []Middleware
	// Connected is called when a socket is connected, before any of its events.
	Connected func(ctx context.Context, s *Socket)
	// Events are the handlers by the names of the events.
	Events map[string]Handler
	// Any handles events that are not in Events. Default: they are ignored.
	Any Handler
	// Disconnected is called when a socket is gone, after its last event.
	Disconnected func(ctx context.Context, s *Socket, why Reason)

	// Accept takes the sockets of the namespace over, after Use: no other function of the Namespace is
	// called then, and no broadcast reaches them. What a client sends reaches the receiver as it came, checked by
	// package packet: events alone, without attachments, on the goroutine of the transport. conn takes
	// frames that hold whole packets of the namespace; its Close ends the session. An error is treated as
	// one of Use.
	Accept func(s *Socket, conn socket.Conn) (socket.Receiver, error)
}

// Config is what a [Server] needs. Zero fields mean the default.
type Config struct {
	// Engine is what the sessions are made of: transports, origins, pings. Its Accept must be nil. Its
	// ConnectTimeout and Log default to those below.
	Engine engineio.Config
	// Namespaces by their names, which begin with a slash; "/" is the one that clients connect to unless
	// they name another. Others are refused with "Invalid namespace". Default: "/" alone, without events.
	Namespaces map[string]Namespace
	// ConnectTimeout is how long a session may take until it is connected to a namespace, and a
	// connection to one until it is decided. Default 45 seconds.
	ConnectTimeout time.Duration
	// Forget drops what the handshake and the connection to the namespace said ([Socket.Request],
	// [Socket.Auth]) once a socket is connected: it is most of what an idle socket costs.
	Forget bool
	// Limits bounds single packets.
	Limits packet.Limits
	// MaxPacket is the most bytes of a packet with its attachments. Default 1 MiB.
	MaxPacket int
	// MaxRefused is how many times a session may be refused by namespaces; then it is closed. Default 10.
	MaxRefused int
	// MaxWaiting and MaxWaitingBytes are the most events of a socket, and their bytes, that wait for its handlers;
	// more close the session. Defaults 256 and 1 MiB.
	MaxWaiting, MaxWaitingBytes int
	// MaxCalls is the most calls of a socket that wait for their ack. Default 1,024.
	MaxCalls int
	// CallTimeout is how long a call waits for its ack if its context has no deadline. Default 20 seconds.
	CallTimeout time.Duration
	// CloseTimeout is how long handlers may go on when the server ends, until their context does. Default 5 seconds.
	CloseTimeout time.Duration
	// Log gets panics of handlers. Default: nowhere.
	Log *slog.Logger
}

func (c *Config) defaults() error {
	check := settings.Of("socketio: Config")
	settings.Default(check, "ConnectTimeout", &c.ConnectTimeout, 45*time.Second)
	settings.Default(check, "Limits.Attachments", &c.Limits.Attachments, 0)
	settings.Default(check, "Limits.Namespace", &c.Limits.Namespace, 0)
	settings.Default(check, "Limits.Name", &c.Limits.Name, 0)
	settings.Default(check, "Limits.Arguments", &c.Limits.Arguments, 0)
	settings.Default(check, "Limits.Depth", &c.Limits.Depth, 0)
	settings.Default(check, "MaxPacket", &c.MaxPacket, 1<<20)
	settings.Default(check, "MaxRefused", &c.MaxRefused, 10)
	settings.Default(check, "MaxWaiting", &c.MaxWaiting, 256)
	settings.Default(check, "MaxWaitingBytes", &c.MaxWaitingBytes, 1<<20)
	settings.Default(check, "MaxCalls", &c.MaxCalls, 1024)
	settings.Default(check, "CallTimeout", &c.CallTimeout, 20*time.Second)
	settings.Default(check, "CloseTimeout", &c.CloseTimeout, 5*time.Second)
	c.Limits = c.Limits.WithDefaults()
	if c.Namespaces == nil {
		c.Namespaces = map[string]Namespace{packet.Main: {}}
	}
	for name, ns := range c.Namespaces {
		if !strings.HasPrefix(name, "/") || strings.ContainsAny(name, ",?") || len(name) > c.Limits.Namespace {
			check.Refuse("Namespaces", "has %q, which is no name of a namespace", name)
		}
		for event, h := range ns.Events {
			if packet.Reserved(event) {
				check.Refuse(fmt.Sprintf("Namespaces[%q]", name), "has the event %q, whose name is reserved", event)
			}
			if h == nil {
				check.Refuse(fmt.Sprintf("Namespaces[%q]", name), "has the event %q without a handler", event)
			}
		}
		if ns.Accept != nil && (ns.Connected != nil || ns.Events != nil || ns.Any != nil || ns.Disconnected != nil) {
			check.Refuse(fmt.Sprintf("Namespaces[%q]", name), "has Accept, which takes the sockets over, so nothing else is called")
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return check.Err()
}

// core is a server without the sessions' transport.
type core struct {
	cfg        Config
	namespaces map[string]*namespace

	ending atomic.Bool // the server ends

	mu      sync.Mutex
	stopped bool           // nothing is begun any more
	work    sync.WaitGroup // goroutines of sockets
	working context.Context
	endWork context.CancelFunc
}

func newCore(cfg Config) (*core, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	c := &core{cfg: cfg, namespaces: make(map[string]*namespace, len(cfg.Namespaces))}
	for name, ns := range cfg.Namespaces {
		c.namespaces[name] = newNamespace(name, ns)
	}
	c.working, c.endWork = context.WithCancel(context.Background())
	return c, nil
}

// background runs f in a goroutine that stop waits for. It reports false when the server has stopped.
func (c *core) background(f func(ctx context.Context)) bool {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return false
	}
	c.work.Add(1) // under the lock, so that it cannot race with Wait
	c.mu.Unlock()
	go func() {
		defer c.work.Done()
		f(c.working)
	}()
	return true
}

// stop waits for what the sockets have begun.
func (c *core) stop() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	enough := time.AfterFunc(c.cfg.CloseTimeout, c.endWork)
	c.work.Wait()
	enough.Stop()
	c.endWork()
}

// guard calls f. A panic is logged and becomes an error.
func (c *core) guard(what string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.cfg.Log.Error("socketio: "+what+" panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fault.Internal
		}
	}()
	return f()
}

// newID makes the identifier of a socket. It is not the session's, which is a secret.
func newID() string {
	var b [15]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return base64.RawURLEncoding.EncodeToString(b[:])
}
