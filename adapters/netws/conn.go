package netws

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// errClosed is what Send returns after Close and on a broken connection.
var errClosed = fault.New(fault.Unavailable, "connection_closed", "the connection is closed")

// conn is one connection.
type conn struct {
	server   *Server
	plain    net.Conn
	br       *bufio.Reader
	receiver socket.Receiver // nil when the acceptor refused
	queued   atomic.Int64    // bytes of messages not taken by the operating system

	compress   bool // agreed in the handshake
	maxMessage int
	tooLarge   int  // the code for a longer one
	unwatched  bool // neither pinged nor cut for its silence

	mu      sync.Mutex
	closing bool            // Send takes nothing more, and what comes is not delivered
	writing bool            // a goroutine runs write
	frames  []*socket.Frame // waiting to be written
	pongs   socket.Pongs    // to be sent before them
	pinging bool            // a ping is to be sent
	goodbye []byte          // the close frame, to be sent after the frames
	timer   *time.Timer     // cuts the connection after CloseTimeout; set with closing
	written chan struct{}   // closed when the close frame is written, or cannot be
}

var _ socket.Conn = (*conn)(nil)

// Send queues f for the writing goroutine.
func (c *conn) Send(f *socket.Frame) error {
	if c.compress {
		f = f.Deflated(c.server.cfg.CompressFrom)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return errClosed
	}
	c.frames = append(c.frames, f)
	c.queued.Add(int64(f.Len()))
	c.startWriting()
	return nil
}

// Queued returns the bytes that wait, the frame that is being written included.
func (c *conn) Queued() int { return int(c.queued.Load()) }

// Close queues a close frame; see [socket.Conn].
func (c *conn) Close(code int, reason string) { c.end(socket.CloseFrame(code, reason)) }

// end sends what is queued and then a close frame.
func (c *conn) end(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	c.goodbye = frame
	c.timer = time.AfterFunc(c.server.cfg.CloseTimeout, c.cut)
	c.startWriting()
}

func (c *conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && !c.unwatched {
		c.pinging = true
		c.startWriting()
	}
}

// answer queues a pong.
func (c *conn) answer(ping []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.pongs.Add(ping, c.server.cfg.MaxPongs)
		c.startWriting()
	}
}

// cut ends the connection: reading and writing fail from now on.
func (c *conn) cut() { _ = c.plain.Close() } // it fails if it is closed already

// startWriting is called with c.mu held.
func (c *conn) startWriting() {
	if !c.writing {
		c.writing = true
		c.server.running.Go(c.write)
	}
}

// write runs while there is something to write. Nobody else writes.
func (c *conn) write() {
	for {
		wire, counted, final := c.next()
		if wire == nil {
			return
		}
		_, err := c.plain.Write(wire) // the timer cuts the connection if it hangs
		if err != nil {
			c.cut()
		}
		c.queued.Add(-int64(counted))
		if final || err != nil {
			c.mu.Lock()
			c.closing = true // nothing is taken any more, and writing stays true
			c.frames = nil
			c.queued.Store(0)
			if c.timer == nil {
				c.timer = time.AfterFunc(c.server.cfg.CloseTimeout, c.cut)
			}
			c.mu.Unlock()
			close(c.written)
			return
		}
	}
}

// next returns what is written next, how much of it counts as queued, and whether it is the close frame; nil when there
// is nothing to write, which ends the writing goroutine.
func (c *conn) next() (wire []byte, counted int, final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.pongs.Len() > 0:
		return c.pongs.Take(), 0, false
	case c.pinging:
		c.pinging = false
		return []byte(socket.PingFrame), 0, false
	case len(c.frames) > 0:
		f := c.frames[0]
		c.frames[0] = nil
		c.frames = c.frames[1:]
		return f.WebSocket(), f.Len(), false
	case c.goodbye != nil:
		return c.goodbye, 0, true
	default:
		c.writing = false
		return nil, 0, false
	}
}

// read delivers messages until the connection is at its end, and sees it off.
func (c *conn) read() {
	err := c.deliver()
	var peer *farewell
	var broken *failure
	switch {
	case errors.As(err, &peer):
		c.end(peer.answer)
		<-c.written
	case errors.As(err, &broken):
		c.end(socket.CloseFrame(broken.code, ""))
		<-c.written
		c.linger()
	default: // the connection itself has ended
		c.cut()
		c.end(socket.CloseFrame(socket.CloseGoingAway, "")) // which fails, and so ends the writing
		<-c.written
	}
	c.cut()
	c.mu.Lock()
	c.timer.Stop()
	c.mu.Unlock()
	c.disconnected()
	c.server.remove(c)
}

// linger ends our direction and throws away what still comes. Closing at once would answer
// that with a reset, which can destroy the close frame before it is read. The timer ends it.
func (c *conn) linger() {
	if half, ok := c.plain.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails on a connection that has ended, as does what follows
	}
	_ = c.plain.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.br)
}

// deliver hands messages to the receiver until there is an error: a *farewell, a *failure, or that of the connection.
func (c *conn) deliver() error {
	for {
		c.renew()
		m, err := c.message()
		if err != nil {
			return err
		}
		if !m.deflate {
			c.receive(m.payload, m.binary)
			continue
		}
		code := socket.Inflate(m.payload, c.maxMessage, !m.binary, func(payload []byte) { c.receive(payload, m.binary) })
		if code != 0 {
			return c.fails(code)
		}
	}
}

func (c *conn) receive(payload []byte, binary bool) {
	c.mu.Lock()
	open := !c.closing
	c.mu.Unlock()
	if open {
		c.server.cfg.Receive(c, c.receiver, payload, binary)
	}
}

// fails is the failure with code, or the one that this connection has in its place.
func (c *conn) fails(code int) error {
	if code == socket.CloseTooLarge {
		code = c.tooLarge
	}
	return &failure{code}
}

// control takes a control frame.
func (c *conn) control(op ws.OpCode, payload []byte) error {
	c.renew()
	switch op {
	case ws.OpPing:
		c.answer(payload)
	case ws.OpClose:
		answer, code := socket.AnswerClose(payload)
		if code != 0 {
			return &failure{code}
		}
		return &farewell{answer}
	}
	return nil
}

// renew gives the peer IdleTimeout again, unless somebody else watches it.
func (c *conn) renew() {
	if !c.unwatched {
		_ = c.plain.SetReadDeadline(time.Now().Add(c.server.cfg.IdleTimeout)) // it fails only on a closed connection
	}
}

func (c *conn) disconnected() { c.server.cfg.Disconnected(c.receiver) }
