package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/socket"
)

// Pipe is one connection with both its ends, already connected: the port of [Conn].
type Pipe struct {
	// Server is what the transport gave to the acceptor.
	Server socket.Conn
	// Receiver is what the acceptor returned for it. [Acceptor] makes both.
	Receiver *Receiver
	// Client is the other end.
	Client Client
	// CutAfter is the time that the transport states: how long after Close it cuts the
	// connection of a peer that does not answer. Tests are best served by a short one, such
	// as 2 s. Required.
	CutAfter time.Duration
	// Another opens a further connection to the same server. Required.
	Another func(ctx context.Context) (Pipe, error)
	// Refused connects a client whom the acceptor refuses with err. Required.
	Refused func(ctx context.Context, err error) (Client, error)
}

// Client is the far end of a connection. Its methods are called by one goroutine at a time.
//
// It reads from the network only inside Read and Ping: whoever calls neither is a client that
// has stalled, and that answers neither pings nor a close frame. [DialWebSocket] makes one.
type Client interface {
	// Write sends one message, in one frame for each of parts.
	Write(ctx context.Context, binary bool, parts ...[]byte) error
	// Read returns the next message. When the server's close frame has come it answers it,
	// and returns a *Closed; any other error says that the connection is broken. Read after a
	// *Closed returns what else comes, which ought to be an error that is no *Closed.
	Read(ctx context.Context) (Message, error)
	// Ping sends a ping with each of the payloads, all at once, and reads up to their pongs, which have to come in this
	// order with no other between them. Messages that come before are kept for Read.
	Ping(ctx context.Context, payloads ...[]byte) error
	// Close sends a close frame, and nothing else: Read returns the server's answer.
	Close(ctx context.Context, code int, reason string) error
	// Cut ends the TCP connection without a word. Cutting twice is harmless.
	Cut() error
}

// Message is one message on a connection.
type Message struct {
	Payload []byte
	Binary  bool
}

// Closed is a close frame.
type Closed struct {
	Code   int
	Reason string
}

// Error returns code and reason.
func (c *Closed) Error() string { return fmt.Sprintf("closed with %d %q", c.Code, c.Reason) }

// Acceptor is a socket.Acceptor for the tests of transports: it takes every connection, and
// gives it a [Receiver]. Make one with [NewAcceptor]; it may be used from many goroutines.
type Acceptor struct {
	accepted chan Accepted
	mu       sync.Mutex
	refuse   error
}

// Accepted is what an [Acceptor] took over.
type Accepted struct {
	Conn     socket.Conn
	Receiver *Receiver
	socket.Hello
}

var _ socket.Acceptor = (*Acceptor)(nil)

// NewAcceptor makes an acceptor.
func NewAcceptor() *Acceptor { return &Acceptor{accepted: make(chan Accepted, 1024)} }

// Accept takes the connection over, or returns the error that Refuse has set.
func (a *Acceptor) Accept(conn socket.Conn, hello socket.Hello) (socket.Receiver, error) {
	a.mu.Lock()
	refuse := a.refuse
	a.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	r := NewReceiver()
	select {
	case a.accepted <- Accepted{Conn: conn, Receiver: r, Hello: hello}:
		return r, nil
	default:
		return nil, errors.New("contract: more connections than anybody asked for with Next")
	}
}

// Refuse makes Accept return err from now on, or take connections again if err is nil.
func (a *Acceptor) Refuse(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuse = err
}

// Next returns the connection that was accepted next.
func (a *Acceptor) Next(ctx context.Context) (Accepted, error) {
	select {
	case c := <-a.accepted:
		return c, nil
	case <-ctx.Done():
		return Accepted{}, fmt.Errorf("no connection was accepted: %w", ctx.Err())
	}
}

// Receiver is a socket.Receiver that keeps what it is told, and notices where the transport
// breaks its rules. Make one with [NewReceiver]; it may be used from many goroutines.
type Receiver struct {
	mu       sync.Mutex
	messages []Message
	inside   int
	gone     int
	broken   []error
	changed  chan struct{} // closed and replaced at each change
}

var _ socket.Receiver = (*Receiver)(nil)

// NewReceiver makes a receiver.
func NewReceiver() *Receiver { return &Receiver{changed: make(chan struct{})} }

// Receive keeps a copy of the message.
func (r *Receiver) Receive(payload []byte, binary bool) {
	kept := bytes.Clone(payload)
	r.mu.Lock()
	r.inside++
	if r.inside > 1 {
		r.broken = append(r.broken, errors.New("Receive was called while another Receive had not returned"))
	}
	if r.gone > 0 {
		r.broken = append(r.broken, errors.New("Receive was called after Disconnected"))
	}
	r.mu.Unlock()
	breathe()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !bytes.Equal(kept, payload) {
		r.broken = append(r.broken, errors.New("the payload changed before Receive returned"))
	}
	r.inside--
	r.messages = append(r.messages, Message{Payload: kept, Binary: binary})
	r.tell()
}

// Disconnected counts its calls.
func (r *Receiver) Disconnected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone++
	if r.gone > 1 {
		r.broken = append(r.broken, errors.New("Disconnected was called more than once"))
	}
	if r.inside > 0 {
		r.broken = append(r.broken, errors.New("Disconnected was called before the last Receive had returned"))
	}
	r.tell()
}

func (r *Receiver) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Next waits for the next message that was received and not returned yet.
func (r *Receiver) Next(ctx context.Context) (Message, error) {
	var m Message
	err := r.wait(ctx, "no message was received", func() bool {
		if len(r.messages) == 0 {
			return false
		}
		m, r.messages = r.messages[0], r.messages[1:]
		return true
	})
	return m, err
}

// Gone waits until Disconnected was called.
func (r *Receiver) Gone(ctx context.Context) error {
	return r.wait(ctx, "Disconnected was not called", func() bool { return r.gone > 0 })
}

// Err returns what the transport did against the rules of socket.Receiver so far.
func (r *Receiver) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.broken...)
}

// Pending returns how many messages were received and not returned by Next yet.
func (r *Receiver) Pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.messages)
}

func (r *Receiver) wait(ctx context.Context, otherwise string, ready func() bool) error {
	for {
		r.mu.Lock()
		ok, changed := ready(), r.changed
		r.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", otherwise, ctx.Err())
		}
	}
}
