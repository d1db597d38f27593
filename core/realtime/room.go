package realtime

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

// room is a room's occupants on this node, and where its delivery stands.
//
// Locks are taken in this order: life, presence, mu, then hub.mu or client.mu.
type room struct {
	hub  *Hub
	name string

	refs     int   // occupants and joiners, under hub.mu; at 0 the room is let go
	life     latch // held over Follow and Unfollow, so that they cannot overtake each other
	followed bool  // under life

	presence latch                   // held over Enter and Exit, for the same reason
	users    map[user.ID]int32       // counted connections of each user on this node, under presence
	here     atomic.Int32            // how many users those are; written under presence
	unsure   map[user.ID]chat.Author // users whose Enter has failed, under presence
	roster   int32                   // the name of the node that its users are present under, under presence
	checked  atomic.Int64            // when Presence was last found right: see roster.tick

	reading latch // held over the first reading, under no other lock

	types   atomic.Bool                                  // typing is not empty
	mutes   atomic.Pointer[map[user.ID]chat.Restriction] // of users of this node, as far as it has heard; written under mu
	rumours                                              // under mu

	mu        sync.Mutex
	occupants []*occupant // nil where somebody left
	free      []int32     // those slots
	inbox     []Signal    // waits for delivery
	scheduled bool        // in the run queue, or running
	known     bool        // last counts: somebody has read the room since it is followed
	last      uint64      // the sequence that is, or was, delivered to all occupants here
	floor     uint64      // up to here, last has moved without a delivery
	held      map[uint64]Signal
	revs      revisions
	filling   bool
	typing    map[user.ID]*typist
}

// release lets the room go with its last occupant.
func (r *room) release(ctx context.Context) {
	h := r.hub
	h.mu.Lock()
	r.refs--
	idle := r.refs == 0
	h.mu.Unlock()
	if !idle {
		return
	}
	r.life.Lock()
	defer r.life.Unlock()
	h.mu.RLock()
	idle = r.refs == 0
	h.mu.RUnlock()
	if !idle {
		return
	}
	if r.followed {
		r.followed = false
		if err := h.cfg.Fanout.Unfollow(ctx, r.name); err != nil {
			h.cfg.Log.Warn("a room could not be unfollowed", "room", r.name, "error", err)
		}
	}
	r.mu.Lock()
	// From here on signals may be missed: the next occupant reads the room anew. The cache may be behind, so how far the room was heard
	// is remembered.
	h.trust.reaches(r.name, chat.Reach{Seq: r.last, Rev: r.revs.rev})
	r.revs = revisions{reading: r.revs.reading}
	r.known, r.last, r.floor, r.inbox = false, 0, 0, nil
	clear(r.held)
	r.rumours = rumours{listing: r.listing}
	r.mutes.Store(nil)
	r.mu.Unlock()
	h.mu.Lock()
	if r.refs == 0 && h.rooms[r.name] == r {
		delete(h.rooms, r.name)
	}
	h.mu.Unlock()
}

// crowded reports whether delivery lags so far behind that no more should be stored.
func (r *room) crowded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.inbox) >= r.hub.cfg.MaxBacklog
}

// refuses returns ErrRoomBusy if delivery in a room of this node lags too far behind.
func (h *Hub) refuses(name string) error {
	h.mu.RLock()
	here := h.rooms[name]
	h.mu.RUnlock()
	if here != nil && here.crowded() {
		return ErrRoomBusy.RetryAfter(time.Second)
	}
	return nil
}

// enqueue takes a signal for delivery. It does not wait. How far somebody has read is dropped where delivery lags behind: whoever joins is told
// their own, and the next mark says it for others.
func (r *room) enqueue(s Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if (s.Kind == SignalMarked || s.Kind == SignalMarkedOwn) && len(r.inbox) >= r.hub.cfg.MaxBacklog {
		return
	}
	r.inbox = append(r.inbox, s)
	r.schedule()
}

// schedule puts the room into the run queue unless it is there, under mu.
func (r *room) schedule() {
	if !r.scheduled {
		r.scheduled = true
		r.hub.queue.push(r)
	}
}

// run delivers what is in the inbox. One goroutine at a time runs a room.
func (r *room) run(t *turn) {
	r.mu.Lock()
	signals := r.inbox
	r.inbox = nil
	r.mu.Unlock()
	r.deliverHeld(t)
	for i := 0; i < len(signals); i++ {
		switch s := &signals[i]; s.Kind {
		case SignalMessage:
			i += r.messages(signals[i:], t) - 1
		case SignalTyping:
			r.typed(s.User, s.Typing)
		case SignalJoined, SignalLeft:
			if r.note(s) {
				r.comesOrGoes(s)
			}
		case signalMissed:
			r.noteMissed(s)
			r.comesOrGoes(s)
		case SignalRemoved:
			r.remove(s.User)
		case SignalEvent:
			r.event(s)
		case SignalChanged:
			r.changed(s, t)
		case SignalMarked:
			r.marked(s, whoKeepsUp)
		case SignalMarkedOwn:
			r.marked(s, themselves)
		case SignalRestricted:
			r.restricted(s)
		}
	}
	r.mu.Lock()
	if r.known && r.revs.heard > r.revs.rev {
		r.mu.Unlock()
		r.tellChanges()
		r.mu.Lock()
	}
	r.scheduled = false
	if len(r.inbox) > 0 {
		r.schedule()
	}
	r.mu.Unlock()
}

// comesOrGoes tells the occupants who has joined or left.
func (r *room) comesOrGoes(s *Signal) {
	if s.Kind == SignalJoined {
		r.tell(protocol.EventJoined, s.User, protocol.Data{})
		return
	}
	r.contradict(s)
	r.typed(s.User, false)
	r.tell(protocol.EventLeft, s.User, protocol.Data{})
}

// written is about how much is written of a message, in bytes.
func written(m *chat.Message) int { return len(m.Text) + len(m.Data) }

// messages delivers in the order of the sequence: what came already is dropped, what is ahead
// of a hole is held until the hole is filled. Signals that follow each other in the sequence are delivered
// together. It takes at least the first, which is a message, and returns how many it took.
func (r *room) messages(signals []Signal, t *turn) int {
	r.mu.Lock()
	s := &signals[0]
	switch seq := s.Message.Seq; {
	case r.known && seq <= r.last:
		r.mu.Unlock()
		return 1
	case !r.known || seq > r.last+1:
		// Beyond the limit it is dropped: the store has it.
		if len(r.held) < r.hub.cfg.MaxBacklog {
			r.hold(*s)
		}
		if r.known && !r.filling {
			r.beginFilling()
		}
		r.mu.Unlock()
		return 1
	}
	n, size := 1, written(&s.Message)
	for n < len(signals) && signals[n].Kind == SignalMessage && signals[n].Message.Seq == signals[n-1].Message.Seq+1 {
		if size += written(&signals[n].Message); size > r.hub.cfg.MaxWrite {
			break
		}
		n++
	}
	// The sequence moves before the first occupant gets the message: whoever joins from now on
	// reads a page that reaches to it.
	r.last = signals[n-1].Message.Seq
	r.mu.Unlock()
	r.send(signals[:n], t)
	r.deliverHeld(t)
	return n
}

// hold keeps a message that is ahead, under mu.
func (r *room) hold(s Signal) {
	if r.held == nil {
		r.held = map[uint64]Signal{}
	}
	r.held[s.Message.Seq] = s
}

// deliverHeld delivers held messages that are next, those that follow each other together.
func (r *room) deliverHeld(t *turn) {
	for {
		r.mu.Lock()
		if !r.known || len(r.held) == 0 {
			r.mu.Unlock()
			return
		}
		var next []Signal
		for size := 0; ; r.last++ {
			s, ok := r.held[r.last+1]
			if size += written(&s.Message); !ok || len(next) > 0 && size > r.hub.cfg.MaxWrite {
				break
			}
			delete(r.held, s.Message.Seq)
			next = append(next, s)
		}
		if len(next) == 0 {
			// Only here, so that a long row of held messages is not looked through for each of them.
			for seq := range r.held {
				if seq <= r.last {
					delete(r.held, seq)
				}
			}
			if len(r.held) > 0 && !r.filling {
				r.beginFilling()
			}
		}
		r.mu.Unlock()
		if len(next) == 0 {
			return
		}
		r.send(next, t)
	}
}

// beginFilling begins to fill the first hole, under mu.
func (r *room) beginFilling() {
	r.hub.counts.holes.Add(1)
	r.filling = r.hub.background(r.fill)
}

// fill reads the messages that are missing before the held ones from the store.
func (r *room) fill(ctx context.Context) {
	wait := time.NewTimer(r.hub.cfg.HoleWait)
	defer wait.Stop()
	for try := 0; ; try++ {
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		after, before, open := r.hole()
		if !open {
			return
		}
		page, err := r.hub.cfg.Chat.Since(ctx, r.name, chat.Point{Seq: after}, chat.Reach{Seq: before - 1})
		switch {
		case ctx.Err() != nil:
			r.giveUp(before)
			return
		case err != nil:
			r.hub.cfg.Log.Warn("missed messages were not read", "room", r.name, "error", err)
			wait.Reset(time.Second)
			continue
		case len(page.Messages) == 0 || page.Messages[0].Seq != after+1:
			r.giveUp(before) // deleted meanwhile
			return
		}
		r.mu.Lock()
		for _, m := range page.Messages {
			r.hold(Signal{Kind: SignalMessage, Room: r.name, Message: m})
		}
		r.schedule()
		r.filling = false // what is still missing is noticed again
		r.mu.Unlock()
		return
	}
}

// hole returns the sequences around the first hole. Without one, filling ends.
func (r *room) hole() (after, before uint64, open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq := range r.held {
		if seq > r.last && (before == 0 || seq < before) {
			before = seq
		}
	}
	if !r.known || before == 0 || before == r.last+1 {
		r.filling = false
		r.schedule()
		return 0, 0, false
	}
	return r.last, before, true
}

// giveUp goes on behind a hole that cannot be filled, and tells the occupants to read again, before anything from behind the hole.
func (r *room) giveUp(before uint64) {
	r.hub.cfg.Log.Warn("messages are missing; the connections here read the room again", "room", r.name, "before", before)
	r.mu.Lock()
	if before > r.last {
		r.floor = max(r.floor, before-1) // whoever is not told has read so far
	}
	r.mu.Unlock()
	d := r.delivery()
	d.one[0].event = protocol.Outgoing{Schema: r.hub.schema.ServerEvent(protocol.EventResync), Room: r.name, Data: protocol.Data{"room": r.name}}
	d.again = true
	d.run()
	r.mu.Lock()
	if before > r.last {
		r.last = before - 1
	}
	r.filling = false
	r.schedule()
	r.mu.Unlock()
}

// about is an event of the server about a user in the room: both are put into data.
func (r *room) about(event string, who chat.Author, data protocol.Data) protocol.Outgoing {
	data["room"], data["user"] = r.name, protocol.UserData(who)
	return protocol.Outgoing{Schema: r.hub.schema.ServerEvent(event), Room: r.name, User: who, Data: data}
}

// tell sends an event about a user to the others, of which a slow reader is spared.
func (r *room) tell(event string, who chat.Author, data protocol.Data) {
	r.broadcast(r.about(event, who, data), others)
}

// each calls f for every occupant, without holding the room's lock. Who joins or leaves
// meanwhile may or may not be called for.
func (r *room) each(f func(*occupant)) {
	var some [128]*occupant
	for at := 0; ; {
		r.mu.Lock()
		n := 0
		if at < len(r.occupants) {
			n = copy(some[:], r.occupants[at:])
		}
		r.mu.Unlock()
		if n == 0 {
			return
		}
		at += n
		for _, o := range some[:n] {
			if o != nil {
				f(o)
			}
		}
	}
}
