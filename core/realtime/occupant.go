package realtime

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/socket"
)

// occupant is one connection in one room. There are many, so it is kept small.
//
// A member is somebody else: a user who has joined a room (chat.Members), connected or not.
type occupant struct {
	client  *client
	room    *room
	slot    int32         // in room.occupants, under room.mu
	role    atomic.Uint32 // codeOf what the user is in the room, as far as is known; written under client.mu
	counted bool          // in room.users, under room.presence

	// Under client.mu:
	live     bool // false while joining: messages pend
	left     bool
	removed  removal // left because the user was taken out
	early    bool    // not yet reading: what comes will be in the page
	admitted bool    // the store has let it in, and is not being asked again
	doubt    bool    // the role may have changed while it was not admitted
	last     uint64  // the client has every message up to here
	rev      uint64  // and every change up to here
	pending  []pendingFrame
}

// removal is why somebody was taken out of a room.
type removal uint8

const (
	membershipTaken removal = iota + 1 // a membership that is being stored must not outlive it
	membershipEnded                    // the store says so
)

// pendingFrame is a message if it has a seq, a change if it has a rev, and another event otherwise.
type pendingFrame struct {
	seq, rev uint64
	again    bool // it tells to read again
	frame    *socket.Frame
}

// enter makes a connection an occupant that is not live yet, and follows the room.
func (h *Hub) enter(ctx context.Context, c *client, name string) (*occupant, error) {
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

	o := &occupant{client: c, room: r, early: true}
	r.mu.Lock()
	if n := len(r.free); n > 0 {
		o.slot = r.free[n-1]
		r.free = r.free[:n-1]
		r.occupants[o.slot] = o
	} else {
		o.slot = int32(len(r.occupants))
		r.occupants = append(r.occupants, o)
	}
	r.mu.Unlock()
	c.mu.Lock()
	c.rooms = append(c.rooms, o)
	c.mu.Unlock()
	return o, nil
}

// exit ends a membership. Only the first call counts.
func (h *Hub) exit(ctx context.Context, o *occupant) {
	if h.detach(o, 0) {
		o.exited(ctx)
		o.room.release(ctx)
	}
}

// detach makes sure that nothing more of the room reaches the connection. Only the first call returns
// true; whoever gets it must see to it that exited and release are called. It does not wait.
func (h *Hub) detach(o *occupant, removed removal) bool {
	c, r := o.client, o.room
	c.mu.Lock()
	if o.left {
		c.mu.Unlock()
		return false
	}
	c.letGo(nil) // before whatever tells the client that it has left
	o.left, o.removed, o.pending = true, removed, nil
	for i := range c.rooms {
		if c.rooms[i] == o {
			c.rooms = append(c.rooms[:i], c.rooms[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	r.mu.Lock()
	r.occupants[o.slot] = nil
	r.free = append(r.free, o.slot)
	r.mu.Unlock()
	return true
}

// hasLeft reports whether the connection is in the room no more.
func (o *occupant) hasLeft() bool {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	return o.left
}

// pause makes messages pend, while an occupant reads, for the first time or again. It returns the last message that the
// client was given: it may have come while the client was asking.
func (o *occupant) pause() (given uint64) {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	o.client.letGo(nil) // what pends comes behind it
	o.live, o.early = false, false
	return o.last
}

// resume lets pending messages through without a page.
func (o *occupant) resume() {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	o.flush()
}

// goLive sends the ack, then what came meanwhile, and lets live messages through: reach is where
// the page that the ack holds ends. It does nothing if the occupant was taken out meanwhile, and reports done false if a message
// or a change that this node has delivered is neither in the page nor pending.
func (o *occupant) goLive(reach chat.Reach, ack []*socket.Frame) (done, acked bool) {
	r, c := o.room, o.client
	r.mu.Lock()
	defer r.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.left {
		return true, false
	}
	// What was delivered since the occupant reads is pending, or on its way to it. What was not
	// delivered to anybody must be in the page.
	if r.known && (reach.Seq < r.floor || reach.Rev < r.revs.floor) {
		return false, false
	}
	r.revs.hears(reach.Rev)
	if !r.known {
		// The first to have read: delivery goes on from what this reader has.
		r.known, r.last, r.floor = true, reach.Seq, reach.Seq
		r.revs.rev, r.revs.floor = reach.Rev, reach.Rev
		r.schedule() // signals that came before are held
	}
	c.sendAll(ack)
	o.last = reach.Seq
	o.rev = reach.Rev
	o.pending = slices.DeleteFunc(o.pending, func(p pendingFrame) bool { return p.again }) // it has read
	o.flush()
	return true, true
}

// flush sends what pends, several messages in one write, under client.mu.
func (o *occupant) flush() {
	var frames []*socket.Frame
	size := 0
	for _, p := range o.pending {
		switch {
		case p.rev > o.rev:
			o.rev = p.rev
		case p.seq > o.last:
			o.last = p.seq
		case p.rev > 0 || p.seq > 0:
			continue
		}
		if size += p.frame.Len(); size > o.client.hub.cfg.MaxWrite {
			o.client.sendAll(frames)
			frames, size = nil, p.frame.Len()
		}
		frames = append(frames, p.frame)
	}
	o.client.sendAll(frames)
	o.pending = nil
	o.live = true
}
