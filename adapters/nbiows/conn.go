package nbiows

import (
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
	"github.com/lesismal/nbio"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// errClosed is what Send returns after Close and on a broken connection.
var errClosed = fault.New(fault.Unavailable, "connection_closed", "the connection is closed")

// What conn.state is made of.
const (
	registered uint8 = 1 << iota // the poller has it: writing may begin
	closing                      // Send takes nothing more, and what comes is not delivered
	peerClosed                   // the peer's close frame has come
	failed                       // by the peer's fault: half-close after the close frame
	deaf                         // what comes is thrown away unread
	receiving                    // some goroutine is inside receive
	gone                         // the poller has closed it
	told                         // Disconnected was called, or will be by whoever set this
)

// conn is one connection. There may be very many, most of them idle: it is kept small, and
// what an idle one does not need hangs on a pointer.
type conn struct {
	server   *Server
	nb       *nbio.Conn
	receiver socket.Receiver // nil when the acceptor refused; set before registration
	in       *reader         // while a frame or message is incomplete; used inside receive only

	queued   atomic.Int64  // bytes not taken by the operating system
	armed    atomic.Int32  // bytes of these that nbio waits to write
	seen     atomic.Uint32 // tick of the last frame
	deadline atomic.Uint32 // tick at which it is cut; zero for none
	pinged   uint32        // tick of our last ping; used by the ticker only
	place    int32         // index in Server.conns, guarded by Server.mu

	compress   bool   // agreed in the handshake
	unwatched  bool   // neither pinged nor cut for its silence
	tooLarge   uint16 // the code for a message that is longer than maxMessage
	maxMessage int32

	mu    sync.Mutex
	state uint8
	out   *outbox // while something is queued
}

var _ socket.Conn = (*conn)(nil)

// Send writes f at once if nothing is queued, and queues what the operating system did not take.
func (c *conn) Send(f *socket.Frame) error {
	if c.compress {
		f = f.Deflated(c.server.cfg.CompressFrom)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&closing != 0 {
		return errClosed
	}
	wire := f.WebSocket()
	if c.out == nil && c.state&registered != 0 {
		n, err := write(c.nb, wire)
		if err != nil {
			c.lost()
			return errClosed.Because(err)
		}
		if n == len(wire) {
			return nil
		}
		c.out = &outbox{current: wire[n:]}
		c.queued.Add(int64(len(wire) - n))
		c.arm()
		return nil
	}
	o := c.outbox()
	o.frames = append(o.frames, f)
	c.queued.Add(int64(len(wire)))
	return nil
}

// Queued returns the bytes that the operating system has not taken.
func (c *conn) Queued() int { return int(c.queued.Load()) }

// Close queues a close frame; see [socket.Conn]. A code that must not be sent becomes 1011.
func (c *conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&closing != 0 {
		return
	}
	c.end(socket.CloseFrame(code, reason))
}

// end sends what is queued and then a close frame. c.mu is held.
func (c *conn) end(frame []byte) {
	c.state |= closing
	c.deadline.Store(c.server.now.Load() + c.server.closeTicks)
	c.outbox().close = frame
	c.queued.Add(int64(len(frame)))
	c.flush()
}

func (c *conn) outbox() *outbox {
	if c.out == nil {
		c.out = new(outbox)
	}
	return c.out
}

// flush writes what is queued until the operating system takes no more. c.mu is held.
func (c *conn) flush() {
	for c.out != nil && c.state&registered != 0 && c.armed.Load() == 0 {
		if c.out.empty() {
			c.out = nil
			c.drained()
			return
		}
		size, n, err := c.out.writeTo(c)
		if err != nil {
			c.lost()
			return
		}
		c.queued.Add(-int64(n))
		c.out.advance(n)
		if n < size {
			c.arm()
		}
	}
}

// arm gives nbio a few bytes to write when the socket can take them again; Server.written then
// brings us back. c.mu is held and something is queued.
func (c *conn) arm() {
	piece := c.out.take(armBytes)
	c.armed.Store(int32(len(piece)))
	if _, err := c.nb.Write(piece); err != nil {
		c.lost()
	}
}

// drained is called with c.mu held when nothing is queued any more.
func (c *conn) drained() {
	switch {
	case c.state&closing == 0:
	case c.state&peerClosed != 0:
		cut(c.nb)
	case c.state&failed != 0:
		// The peer may still be sending. Closing now would answer that with a reset, which
		// can destroy the close frame before it is read.
		endWriting(c.nb)
	}
}

// lost gives up a connection that cannot be written to. c.mu is held.
func (c *conn) lost() {
	c.state |= closing | deaf
	c.out = nil
	c.queued.Store(0)
	cut(c.nb)
}

// wake goes on writing after nbio has written what arm gave to it.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

// control frames that we send by ourselves

func (c *conn) pong(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&closing != 0 {
		return
	}
	o := c.outbox()
	before := o.pongs.Len()
	o.pongs.Add(payload, c.server.cfg.MaxPongs)
	c.queued.Add(int64(o.pongs.Len() - before))
	c.flush()
}

func (c *conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state&(closing|registered) != registered {
		return
	}
	o := c.outbox()
	if o.ping {
		return
	}
	o.ping = true
	c.queued.Add(int64(len(socket.PingFrame)))
	c.flush()
}

// receive takes what the poller has read.
func (c *conn) receive(b []byte) {
	c.mu.Lock()
	if c.state&(deaf|gone) != 0 {
		c.mu.Unlock()
		return
	}
	c.state |= receiving
	c.mu.Unlock()

	var fresh reader
	in := c.in
	if in == nil {
		in = &fresh
	}
	code, done := in.feed(b, int(c.maxMessage), c.compress, c)
	switch {
	case done || in.idle():
		c.in = nil
	case c.in == nil:
		kept := fresh
		c.in = &kept
	}

	c.mu.Lock()
	c.state &^= receiving
	if done {
		c.state |= deaf
		if code == socket.CloseTooLarge {
			code = int(c.tooLarge)
		}
		if code != 0 {
			c.fail(code)
		}
	}
	tell := c.farewell()
	c.mu.Unlock()
	if tell {
		c.disconnected()
	}
}

// fail closes after a fault of the peer. c.mu is held.
func (c *conn) fail(code int) {
	c.state |= failed
	switch {
	case c.state&closing == 0:
		c.end(socket.CloseFrame(code, ""))
	case c.out == nil: // our close frame is out already, and no answer to it can come
		c.drained()
	}
}

// message is called by the reader, inside receive.
func (c *conn) message(payload []byte, binary bool) {
	c.seen.Store(c.server.now.Load())
	c.mu.Lock()
	open := c.state&closing == 0
	c.mu.Unlock()
	if !open {
		return
	}
	c.server.cfg.Receive(c, c.receiver, payload, binary)
}

// control is called by the reader, inside receive.
func (c *conn) control(op ws.OpCode, payload []byte) (code int, done bool) {
	c.seen.Store(c.server.now.Load())
	switch op {
	case ws.OpPing:
		c.pong(payload)
	case ws.OpClose:
		answer, code := socket.AnswerClose(payload)
		if code != 0 {
			return code, true
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state |= peerClosed | deaf
		switch {
		case c.state&closing == 0:
			c.end(answer)
		case c.out == nil:
			c.drained()
		}
		return 0, true
	}
	return 0, false
}

// ended is called once the poller has closed the connection, or could not take it.
func (c *conn) ended() {
	c.mu.Lock()
	c.state |= closing | deaf | gone
	c.state &^= registered
	c.out = nil
	c.queued.Store(0)
	tell := c.farewell()
	c.mu.Unlock()
	if tell {
		c.disconnected()
	}
	c.server.remove(c)
}

// farewell reports whether it is now, and the caller, who has to call disconnected. c.mu is held.
func (c *conn) farewell() bool {
	if c.state&gone == 0 || c.state&(receiving|told) != 0 {
		return false
	}
	c.state |= told
	return true
}

func (c *conn) disconnected() { c.server.cfg.Disconnected(c.receiver) }

// check is the ticker's visit.
func (c *conn) check(now uint32) {
	s := c.server
	idle := now - c.seen.Load()
	switch deadline := c.deadline.Load(); {
	case deadline != 0 && now >= deadline:
		cut(c.nb)
	case c.unwatched:
	case idle >= s.idleTicks:
		cut(c.nb)
	case idle >= s.pingTicks && now-c.pinged >= s.pingTicks:
		c.pinged = now
		c.ping()
	}
}

const (
	// armBytes is how much at most of what is queued nbio gets to write, and so copies.
	armBytes = 1 << 10
	// gatherBytes is how much of many small frames goes out in one system call.
	gatherBytes = 32 << 10
)

// outbox is what waits to be written, in this order.
type outbox struct {
	current []byte // the rest of what was begun
	pongs   socket.Pongs
	ping    bool            // socket.PingFrame
	frames  []*socket.Frame // shared, never copied
	close   []byte          // one whole frame
}

func (o *outbox) empty() bool {
	return len(o.current) == 0 && o.pongs.Len() == 0 && !o.ping && len(o.frames) == 0 && len(o.close) == 0
}

// load makes the next piece current, if there is one.
func (o *outbox) load() {
	switch {
	case o.pongs.Len() > 0:
		o.current = o.pongs.Take()
	case o.ping:
		o.current, o.ping = []byte(socket.PingFrame), false
	case len(o.frames) > 0:
		o.current = o.frames[0].WebSocket()
		o.frames[0] = nil // others may be done with it
		o.frames = o.frames[1:]
	default:
		o.current, o.close = o.close, nil
	}
}

// take removes at most n bytes of the first piece. The outbox is not empty.
func (o *outbox) take(n int) []byte {
	if len(o.current) == 0 {
		o.load()
	}
	n = min(n, len(o.current))
	piece := o.current[:n]
	o.current = o.current[n:]
	return piece
}

// advance removes the n bytes that were written.
func (o *outbox) advance(n int) {
	for n > 0 {
		n -= len(o.take(n))
	}
}

// writeTo offers as much as one system call may take: one piece as it is, or several small ones gathered.
// It returns how much it offered and how much of it was taken, and removes nothing.
func (o *outbox) writeTo(c *conn) (size, n int, err error) {
	if len(o.current) == 0 {
		o.load()
	}
	only := o.pongs.Len() == 0 && !o.ping && len(o.frames) == 0 && len(o.close) == 0
	if only || len(o.current) >= gatherBytes {
		n, err = write(c.nb, o.current)
		return len(o.current), n, err
	}
	scratch := c.server.scratch.Get().(*[]byte)
	defer c.server.scratch.Put(scratch)
	b := append((*scratch)[:0], o.current...)
	room := func(piece int) bool { return len(b)+piece <= gatherBytes }
	// A piece that does not fit ends it: nothing may overtake.
	if fits := room(o.pongs.Len() + len(socket.PingFrame)); fits {
		b = append(b, o.pongs.WebSocket()...)
		if o.ping {
			b = append(b, socket.PingFrame...)
		}
		i := 0
		for i < len(o.frames) && room(o.frames[i].Len()) {
			b = append(b, o.frames[i].WebSocket()...)
			i++
		}
		if i == len(o.frames) && room(len(o.close)) {
			b = append(b, o.close...)
		}
	}
	n, err = write(c.nb, b)
	return len(b), n, err
}
