package realtime

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/core/socket"
)

// turnRooms is the most rooms of a turn.
const turnRooms = 32

// turn is several rooms that a worker runs before it looks at the queue again, when more rooms wait than there are workers. Their
// messages to one connection are held by the connection, and leave in one write at the end of the turn, or before anything else
// that a room sends to the connection. A room that waits alone has no turn: its messages leave at once.
type turn struct {
	rooms   [turnRooms]*room
	n       int       // of rooms
	clients []*client // those that hold frames, or held some
	// delivered are the times for HubConfig.Delivered, which is called when everything has left.
	delivered []time.Time
	// Connections that are in the same rooms share one frame.
	last   []*socket.Frame
	joined *socket.Frame
}

// held is what rooms have for a connection in a turn.
type held struct {
	frames []*socket.Frame
	size   int
}

// run runs the rooms.
func (t *turn) run() {
	if t.n == 1 {
		t.rooms[0].run(nil)
	} else {
		for _, r := range t.rooms[:t.n] {
			r.run(t)
		}
		for _, c := range t.clients {
			c.mu.Lock()
			c.letGo(t)
			c.mu.Unlock()
		}
		for _, at := range t.delivered {
			t.rooms[0].hub.cfg.Delivered(at)
		}
		t.delivered = t.delivered[:0]
	}
	// Nothing of it may keep rooms and connections that are gone.
	clear(t.rooms[:t.n])
	clear(t.clients)
	clear(t.last)
	if t.clients = t.clients[:0]; cap(t.clients) > turnClients {
		t.clients = nil
	}
	t.last, t.joined = t.last[:0], nil
}

// turnClients is for how many connections a worker keeps memory between turns.
const turnClients = 1 << 14

// hold keeps a frame for the end of a turn, under client.mu.
func (c *client) hold(f *socket.Frame, t *turn) {
	if c.held != nil && c.held.size+f.Len() > c.hub.cfg.MaxWrite {
		c.letGo(t)
	}
	if c.held == nil {
		c.held = c.hub.holds.Get().(*held)
		t.clients = append(t.clients, c)
	}
	c.held.frames = append(c.held.frames, f)
	c.held.size += f.Len()
}

// letGo sends what is held, under client.mu. With a turn it shares the frame.
func (c *client) letGo(t *turn) {
	b := c.held
	if b == nil {
		return
	}
	c.held = nil
	c.hub.counts.writes.Add(1)
	switch {
	case len(b.frames) == 1:
		c.send(b.frames[0], false)
	case t == nil:
		c.sendAll(b.frames)
	default:
		if !slices.Equal(t.last, b.frames) {
			t.last = append(t.last[:0], b.frames...)
			t.joined = socket.Join(b.frames...)
		}
		c.send(t.joined, false)
	}
	clear(b.frames)
	b.frames, b.size = b.frames[:0], 0
	c.hub.holds.Put(b)
}

// sendNow sends what is held, and then a frame, under client.mu.
func (c *client) sendNow(f *socket.Frame, shed bool) {
	if c.held != nil {
		c.letGo(nil)
	}
	c.send(f, shed)
}
