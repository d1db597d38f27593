package realtime

import (
	"context"

	"github.com/parley-chat/parley/core/socket"
)

// member is one connection in one room. There are many, so it is kept small.
type member struct {
	client  *client
	room    *room
	slot    int32 // in room.members, under room.mu
	counted bool  // in room.users, under room.presence

	// Under client.mu:
	live    bool // false while joining: messages pend
	left    bool
	removed bool   // left because somebody took the user out
	early   bool   // not yet reading: what comes will be in the page
	last    uint64 // the client has everything up to here
	pending []pendingFrame
}

type pendingFrame struct {
	seq   uint64
	frame *socket.Frame
}

// enter makes a connection a member that is not live yet, and follows the room.
func (h *Hub) enter(ctx context.Context, c *client, name string) (*member, error) {
	h.mu.Lock()
	r := h.pinned(name)
	h.mu.Unlock()

	r.life.Lock()
	var err error
	if !r.followed {
		err = h.cfg.Fanout.Follow(ctx, name)
		r.followed = err == nil
	}
	r.life.Unlock()
	if err != nil {
		r.release(ctx)
		return nil, err
	}

	m := &member{client: c, room: r, early: true}
	r.mu.Lock()
	if n := len(r.free); n > 0 {
		m.slot = r.free[n-1]
		r.free = r.free[:n-1]
		r.members[m.slot] = m
	} else {
		m.slot = int32(len(r.members))
		r.members = append(r.members, m)
	}
	r.mu.Unlock()
	c.mu.Lock()
	c.rooms = append(c.rooms, m)
	c.mu.Unlock()
	return m, nil
}

// exit ends a membership. Only the first call counts.
func (h *Hub) exit(ctx context.Context, m *member) {
	if h.detach(m, false) {
		m.exited(ctx)
		m.room.release(ctx)
	}
}

// detach makes sure that nothing more of the room reaches the connection. Only the first call returns
// true; whoever gets it must see to it that exited and release are called. It does not wait.
func (h *Hub) detach(m *member, removed bool) bool {
	c, r := m.client, m.room
	c.mu.Lock()
	if m.left {
		c.mu.Unlock()
		return false
	}
	c.letGo(nil) // before whatever tells the client that it has left
	m.left, m.removed, m.pending = true, removed, nil
	for i := range c.rooms {
		if c.rooms[i] == m {
			c.rooms = append(c.rooms[:i], c.rooms[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	r.mu.Lock()
	r.members[m.slot] = nil
	r.free = append(r.free, m.slot)
	r.mu.Unlock()
	return true
}

// pause makes messages pend, while a member reads, for the first time or again.
func (m *member) pause() {
	m.client.mu.Lock()
	m.client.letGo(nil) // what pends comes behind it
	m.live, m.early = false, false
	m.client.mu.Unlock()
}

// resume lets pending messages through without a page.
func (m *member) resume() {
	m.client.mu.Lock()
	defer m.client.mu.Unlock()
	m.flush()
}

// goLive sends the ack, then what came meanwhile, and lets live messages through: last is where
// the page that the ack holds ends. It reports false, and does nothing, if a message that this
// node has delivered is neither in the page nor pending.
func (m *member) goLive(last uint64, ack []*socket.Frame) bool {
	r, c := m.room, m.client
	r.mu.Lock()
	defer r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.left {
		return true
	}
	// What was delivered since the member reads is pending, or on its way to it. What was not
	// delivered to anybody must be in the page.
	if r.known && last < r.floor {
		return false
	}
	if !r.known {
		// The first to have read: delivery goes on from what this reader has.
		r.known, r.last, r.floor = true, last, last
		r.schedule() // signals that came before are held
	}
	c.sendAll(ack)
	m.last = last
	m.flush()
	return true
}

// flush sends what pends, several messages in one write, under client.mu.
func (m *member) flush() {
	var frames []*socket.Frame
	size := 0
	for _, p := range m.pending {
		if p.seq <= m.last {
			continue
		}
		m.last = p.seq
		if size += p.frame.Len(); size > m.client.hub.cfg.MaxWrite {
			m.client.sendAll(frames)
			frames, size = nil, p.frame.Len()
		}
		frames = append(frames, p.frame)
	}
	m.client.sendAll(frames)
	m.pending = nil
	m.live = true
}
