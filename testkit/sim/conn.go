package sim

import (
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// conn is one connection between a client and a node, with a network between them: what is sent arrives in order, after a while,
// or not at all once the connection is cut.
type conn struct {
	world   *world
	process *process
	client  *client
	name    string
	who     user.Identity
	in      chan []byte // to the receiver; nil is the end

	mu      sync.Mutex
	out     []*socket.Frame
	queued  int
	carried bool // something of out is on its way
	closed  int  // the code that the node closed it with
	opened  bool // the client knows that it is open
	cut     bool // nothing reaches the client any more

	// Of the scheduler's goroutine alone:
	up   []sent // what the client has sent and the node has not got
	over bool   // the receiver was told, or will be by what is in in
}

// sent is a frame of a client, and by what it is known once it has come to the node.
type sent struct {
	payload []byte
	as      []string
}

var errCut = fault.New(fault.Unavailable, "connection_closed", "the connection is closed")

// Send queues a frame.
func (c *conn) Send(f *socket.Frame) error {
	if c.process.dead.Load() {
		return errCut
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != 0 {
		return errCut
	}
	for m := range f.Messages() {
		if !c.cut {
			c.world.rules.sends(c, m.Payload())
		}
		c.out = c.world.bug.sends(append(c.out, m))
	}
	c.queued += f.Len()
	c.carry()
	return nil
}

// Queued returns the bytes that wait for the client.
func (c *conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// Close closes the connection behind what is queued.
func (c *conn) Close(code int, _ string) {
	if c.process.dead.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == 0 {
		c.closed = code
		c.carry()
	}
}

// carry sends what is queued on its way, under mu.
func (c *conn) carry() {
	if c.opened && !c.carried && !c.cut && (len(c.out) > 0 || c.closed != 0) {
		c.carried = true
		c.world.scheduler.arrive(c.name+" to the client", c.client.reading, c.reach)
	}
}

// open lets the client have what comes.
func (c *conn) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened = true
	c.carry()
}

// reach lets the client have what is queued, or a part of it.
func (c *conn) reach() string {
	c.mu.Lock()
	c.carried = false
	if c.cut {
		c.mu.Unlock()
		return "cut"
	}
	n := len(c.out)
	if n > 1 && c.world.scheduler.chance(0.2) {
		n = 1 + c.world.scheduler.random.IntN(n)
	}
	frames := c.out[:n:n]
	c.out = c.out[n:]
	closed := 0
	if len(c.out) == 0 {
		c.queued, closed = 0, c.closed
	} else {
		for _, f := range frames {
			c.queued -= f.Len()
		}
		c.carry()
	}
	if closed != 0 {
		c.cut = true
	}
	c.mu.Unlock()
	for _, f := range frames {
		c.client.receive(c, f.Payload())
	}
	if closed == 0 {
		return fmt.Sprintf("%d frames", n)
	}
	c.end()
	c.client.closed(c, closed)
	return fmt.Sprintf("%d frames, closed with %d", n, closed)
}

// write sends what the client says on its way.
func (c *conn) write(payload []byte, as ...string) {
	c.up = append(c.up, sent{payload, as})
	c.world.scheduler.arrive(c.name+" to the node", c.world.network, func() string {
		if len(c.up) == 0 {
			return "cut"
		}
		next := c.up[0]
		c.up = c.up[1:]
		for _, name := range next.as {
			c.world.rules.arrives(name)
		}
		if !c.over {
			c.in <- next.payload
		}
		return string(next.payload)
	})
}

// drop cuts the connection from the client's side, and lets the node hear of it later.
func (c *conn) drop() {
	c.mu.Lock()
	c.cut = true
	c.mu.Unlock()
	c.up = nil
	c.world.scheduler.arrive(c.name+" is gone", between(time.Millisecond, 4*time.Second), func() string {
		c.end()
		return ""
	})
}

// end tells the receiver that the connection is gone.
func (c *conn) end() {
	if !c.over {
		c.over = true
		c.in <- nil
	}
}

// feed hands the receiver what comes, until the end.
func (c *conn) feed(r socket.Receiver) {
	for payload := range c.in {
		if payload == nil {
			r.Disconnected()
			return
		}
		r.Receive(payload, false)
	}
}

// hangUp ends the connections of a process that was killed. Their clients hear of it later.
func (w *world) hangUp(p *process) {
	for _, c := range w.conns {
		if c.process != p || c.over {
			continue
		}
		c.mu.Lock()
		c.cut = true
		c.mu.Unlock()
		c.up = nil
		c.end()
		w.scheduler.arrive(c.name+" is reset", between(time.Millisecond, 2*time.Second), func() string {
			frames := c.out[:w.scheduler.random.IntN(len(c.out)+1)] // those that were on their way
			for _, f := range frames {
				c.client.receive(c, f.Payload())
			}
			c.client.closed(c, 1006)
			return fmt.Sprintf("%d frames before", len(frames))
		})
	}
}

// adopt makes the world know a connection, so that it ends with its process.
func (w *world) adopt(c *conn) {
	w.adopting.Lock()
	defer w.adopting.Unlock()
	w.conns = append(w.conns, c)
}
