package netws

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// errClosed is what Send returns after Close and on a broken connection.
var errClosed = fault.New(fault.Unavailable, "connection_closed", "the connection is closed")

// conn is one connection.
type conn struct {
	server   *Server
	ws       *websocket.Conn
	receiver socket.Receiver // nil when the acceptor refused
	queued   atomic.Int64    // bytes not taken by the operating system

	maxMessage int
	tooLarge   int  // the code for a longer one
	unwatched  bool // neither pinged nor cut for its silence

	peerClosed bool // the peer's close frame has come; used by read only

	mu      sync.Mutex
	closing bool            // Send takes nothing more, and what comes is not delivered
	writing bool            // a goroutine runs write
	frames  []*socket.Frame // waiting to be written
	pong    []byte          // payload of the pong to be sent; nil for none
	pinging bool            // a ping is to be sent
	goodbye []byte          // payload of the close frame to be sent after the frames
	timer   *time.Timer     // cuts the connection after CloseTimeout; set with closing
	written chan struct{}   // closed when the close frame is written, or cannot be
}

var _ socket.Conn = (*conn)(nil)

// Send queues f for the writing goroutine.
func (c *conn) Send(f *socket.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return errClosed
	}
	for m := range f.Messages() {
		c.frames = append(c.frames, m)
	}
	c.queued.Add(int64(f.Len()))
	c.startWriting()
	return nil
}

// Queued returns the bytes that wait, the frame that is being written included.
func (c *conn) Queued() int { return int(c.queued.Load()) }

// Close queues a close frame; see [socket.Conn]. A code that must not be sent becomes 1011.
func (c *conn) Close(code int, reason string) {
	if !socket.MaySend(code) {
		code = fault.Internal.CloseCode()
	}
	c.end(websocket.FormatCloseMessage(code, socket.CloseReason(reason)))
}

// end sends what is queued and then a close frame.
func (c *conn) end(payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	c.goodbye = payload
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

// answer queues a pong. Only the latest ping need be answered (RFC 6455 section 5.5.3), so a
// flood queues one pong.
func (c *conn) answer(ping string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.pong = append(c.pong[:0:0], ping...)
		if c.pong == nil {
			c.pong = []byte{}
		}
		c.startWriting()
	}
}

// cut ends the connection: reading and writing fail from now on.
func (c *conn) cut() { _ = c.ws.NetConn().Close() } // it fails if it is closed already

// startWriting is called with c.mu held.
func (c *conn) startWriting() {
	if !c.writing {
		c.writing = true
		c.server.running.Go(c.write)
	}
}

// write runs while there is something to write.
func (c *conn) write() {
	for {
		step, final := c.next()
		if step == nil {
			return
		}
		err := step()
		if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
			c.cut()
		}
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

// next returns what writes the next frame, and whether that is the close frame; nil when there
// is nothing to write, which ends the writing goroutine.
func (c *conn) next() (step func() error, final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var never time.Time // the timer cuts the connection if writing hangs
	switch {
	case c.pong != nil:
		payload := c.pong
		c.pong = nil
		return func() error { return c.ws.WriteControl(websocket.PongMessage, payload, never) }, false
	case c.pinging:
		c.pinging = false
		return func() error { return c.ws.WriteControl(websocket.PingMessage, nil, never) }, false
	case len(c.frames) > 0:
		f := c.frames[0]
		c.frames[0] = nil
		c.frames = c.frames[1:]
		kind := websocket.TextMessage
		if f.Binary() {
			kind = websocket.BinaryMessage
		}
		return func() error {
			err := c.ws.WriteMessage(kind, f.Payload())
			c.queued.Add(-int64(f.Len()))
			return err
		}, false
	case c.goodbye != nil:
		payload := c.goodbye
		return func() error { return c.ws.WriteControl(websocket.CloseMessage, payload, never) }, true
	default:
		c.writing = false
		return nil, false
	}
}

// read delivers messages until the connection is at its end, and sees it off.
func (c *conn) read() {
	c.ws.SetPingHandler(func(payload string) error {
		c.renew()
		c.answer(payload)
		return nil
	})
	c.ws.SetPongHandler(func(string) error {
		c.renew()
		return nil
	})
	var status []byte
	c.ws.SetCloseHandler(func(code int, _ string) error {
		c.peerClosed = true
		status = websocket.FormatCloseMessage(code, "")
		return nil
	})
	err := c.deliver()
	var fails *failure
	switch {
	case c.peerClosed:
		c.end(status)
	case errors.As(err, &fails):
		c.end(websocket.FormatCloseMessage(fails.code, ""))
	case isBroken(err):
		c.cut()
		c.end([]byte{})
	default: // the vendor found a fault in the framing, and has sent the close frame for it
		c.end(websocket.FormatCloseMessage(socket.CloseProtocolError, ""))
	}
	<-c.written
	if !c.peerClosed && !isBroken(err) {
		c.linger()
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
	plain := c.ws.NetConn()
	if half, ok := plain.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails on a connection that has ended, as does what follows
	}
	_ = plain.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, plain)
}

// isBroken reports whether the connection itself has ended.
func isBroken(err error) bool {
	var network net.Error
	return errors.As(err, &network) || websocket.IsCloseError(err, websocket.CloseAbnormalClosure) || errors.Is(err, io.EOF)
}

// failure says with which code to close.
type failure struct{ code int }

// Error names the code.
func (f *failure) Error() string { return fmt.Sprintf("netws: closing with %d", f.code) }

// deliver hands messages to the receiver until there is an error.
func (c *conn) deliver() error {
	for {
		c.renew()
		kind, r, err := c.ws.NextReader()
		if err != nil {
			return err
		}
		payload, err := c.collect(r, kind == websocket.TextMessage)
		if err != nil {
			return err
		}
		c.mu.Lock()
		open := !c.closing
		c.mu.Unlock()
		if open {
			c.receive(payload, kind == websocket.BinaryMessage)
		}
	}
}

// renew gives the peer IdleTimeout again, unless somebody else watches it.
func (c *conn) renew() {
	if !c.unwatched {
		_ = c.ws.SetReadDeadline(time.Now().Add(c.server.cfg.IdleTimeout)) // it fails only on a closed connection
	}
}

// collect reads one message.
func (c *conn) collect(r io.Reader, text bool) ([]byte, error) {
	var payload []byte
	checked := 0
	for {
		if len(payload) == cap(payload) {
			payload = append(payload, 0)[:len(payload)]
		}
		n, err := r.Read(payload[len(payload):cap(payload)])
		payload = payload[:len(payload)+n]
		if len(payload) > c.maxMessage {
			return nil, &failure{c.tooLarge}
		}
		if text {
			n, ok := validPrefix(payload[checked:])
			checked += n
			if !ok || (errors.Is(err, io.EOF) && checked < len(payload)) {
				return nil, &failure{socket.CloseInvalidUTF8}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return payload, nil
		case err != nil:
			return nil, err
		}
	}
}

func (c *conn) receive(payload []byte, binary bool) {
	c.server.cfg.Receive(c, c.receiver, payload, binary)
}

func (c *conn) disconnected() { c.server.cfg.Disconnected(c.receiver) }

// validPrefix returns how many bytes of b are whole UTF-8 characters, and whether the rest
// could still become one.
func validPrefix(b []byte) (n int, ok bool) {
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			return n, !utf8.FullRune(b[n:])
		}
		n += size
	}
	return n, true
}
