package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Conn is a socket.Conn whose client is a [Client] in this process. What Send accepts is
// queued until the client reads it; the acceptor bounds that by Queued. Close needs no answer
// and so cuts at once: the receiver is disconnected as soon as it is not receiving.
type Conn struct {
	mu      sync.Mutex
	frames  []*socket.Frame
	queued  int
	closed  error         // what the client reads last; nil while the connection is open
	changed chan struct{} // closed and replaced at each change

	feed     sync.Mutex      // held while the receiver is called
	receiver socket.Receiver // nil before it is accepted, and once it was disconnected
}

var _ socket.Conn = (*Conn)(nil)

// Client is the far end of a [Conn]. It may be used from many goroutines.
type Client struct{ conn *Conn }

// Closed is what a client reads last when the server has closed the connection.
type Closed struct {
	Code   int
	Reason string
}

// Error returns code and reason.
func (c *Closed) Error() string { return fmt.Sprintf("closed with %d %q", c.Code, c.Reason) }

var (
	errConnClosed = fault.New(fault.Unavailable, "connection_closed", "the connection is closed")
	errClientGone = fault.New(fault.Unavailable, "client_gone", "the client has gone")
)

// Connect opens a connection to acceptor and returns the client's end of it. It speaks
// [socket.Protocol]. A client who is refused reads a [Closed] with the code of the refusal.
func Connect(acceptor socket.Acceptor, who user.Identity) *Client {
	c := &Conn{changed: make(chan struct{})}
	c.feed.Lock()
	defer c.feed.Unlock()
	receiver, err := acceptor.Accept(c, socket.Hello{Identity: who})
	switch {
	case errors.Is(err, socket.ErrDraining):
		c.Close(socket.CloseServiceRestart, fault.Public(err).Title)
	case err != nil:
		c.Close(fault.KindOf(err).CloseCode(), fault.Public(err).Title)
	default:
		c.receiver = receiver
	}
	return &Client{conn: c}
}

// Send queues f for the client.
func (c *Conn) Send(f *socket.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return errConnClosed
	}
	for m := range f.Messages() {
		c.frames = append(c.frames, m)
	}
	c.queued += f.Len()
	c.tell()
	return nil
}

// Queued returns the bytes that the client has not read yet.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// Close lets the client read what is queued, and then code and reason.
func (c *Conn) Close(code int, reason string) {
	if c.end(&Closed{Code: code, Reason: reason}) {
		go c.disconnect() // not here: the caller may be the receiver
	}
}

// end closes the connection unless it is closed, and reports whether it was open.
func (c *Conn) end(last error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return false
	}
	c.closed = last
	c.tell()
	return true
}

// tell wakes the clients that wait. The caller holds the lock.
func (c *Conn) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// disconnect waits for the receiver and tells it, once.
func (c *Conn) disconnect() {
	c.feed.Lock()
	defer c.feed.Unlock()
	if c.receiver != nil {
		c.receiver.Disconnected()
		c.receiver = nil
	}
}

// Write hands a message to the receiver and returns when that has taken it. After the end of
// the connection it returns an error of kind Unavailable.
func (cl *Client) Write(payload []byte, binary bool) error {
	c := cl.conn
	c.feed.Lock()
	defer c.feed.Unlock()
	c.mu.Lock()
	closed := c.closed != nil
	c.mu.Unlock()
	if closed || c.receiver == nil {
		return errConnClosed
	}
	c.receiver.Receive(payload, binary)
	return nil
}

// Read returns the next frame, which must not be changed. When the server has closed the
// connection and everything is read it returns a *[Closed]; after [Client.Close], and when
// ctx is done, an error of kind Unavailable.
func (cl *Client) Read(ctx context.Context) (*socket.Frame, error) {
	c := cl.conn
	for {
		c.mu.Lock()
		f, last, changed := c.next(), c.closed, c.changed
		c.mu.Unlock()
		switch {
		case f != nil:
			return f, nil
		case last != nil:
			return nil, last
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, ctx.Err())
		}
	}
}

// next takes the next frame, or returns nil. The caller holds the lock.
func (c *Conn) next() *socket.Frame {
	if len(c.frames) == 0 {
		return nil
	}
	f := c.frames[0]
	c.frames[0] = nil
	c.frames = c.frames[1:]
	c.queued -= f.Len()
	return f
}

// Close leaves: what is queued is lost, and the receiver is disconnected before Close
// returns. Closing twice is harmless. A receiver must not call it.
func (cl *Client) Close() {
	c := cl.conn
	c.mu.Lock()
	c.frames, c.queued, c.closed = nil, 0, errClientGone
	c.tell()
	c.mu.Unlock()
	c.disconnect()
}
