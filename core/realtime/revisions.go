package realtime

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
)

// revisions is where the delivery of a room's changes stands. They have a sequence of their own, Rev, and are told in its order. A change
// waits until its message was delivered. One that an occupant is not told is read from the store, as the message is then: a message that was
// changed several times meanwhile is told once.
type revisions struct {
	rev     uint64 // every change up to here was told to all occupants here
	floor   uint64 // up to here, rev has moved without telling
	heard   uint64 // the highest that is known to be stored
	waiting map[uint64]revision
	reading bool // what is missing is being read
}

// revision waits to be told, behind what was told up to after.
type revision struct {
	after   uint64
	message chat.Message // empty for the end of a reading: there is no change up to its Rev
}

// changed takes a change that was heard of.
func (r *room) changed(s *Signal, t *turn) {
	r.mu.Lock()
	r.await(revision{s.Message.Rev - 1, s.Message})
	ahead := r.known && s.Message.Seq > r.last
	if ahead {
		if _, held := r.held[s.Message.Seq]; !held && len(r.held) < r.hub.cfg.MaxBacklog {
			r.hold(Signal{Kind: SignalMessage, Room: r.name, Message: s.Message})
		}
	}
	r.mu.Unlock()
	if ahead {
		r.deliverHeld(t) // its message, or what is missing before it, has not come
	}
	r.tellChanges()
}

// await keeps a change until it is its turn, under mu. Beyond the limit it is dropped: the store has it.
func (r *room) await(next revision) {
	c, rev := &r.revs, next.message.Rev
	if r.known && rev <= c.rev {
		return
	}
	c.hears(rev)
	if len(c.waiting) >= r.hub.cfg.MaxBacklog {
		return
	}
	if c.waiting == nil {
		c.waiting = map[uint64]revision{}
	}
	if known, ok := c.waiting[rev]; !ok || next.after < known.after {
		c.waiting[rev] = next
	}
}

// next returns the change that is to be told next, if it is here, under mu. It may have to wait for its message.
func (r *room) next() (next revision, here bool) {
	c := &r.revs
	if next, here = c.waiting[c.rev+1]; here {
		return next, true
	}
	for rev, w := range c.waiting {
		switch {
		case rev <= c.rev:
			delete(c.waiting, rev)
		case w.after <= c.rev && (!here || rev < next.message.Rev):
			next, here = w, true
		}
	}
	return next, here
}

// tellChanges tells the occupants every change whose turn it is, and begins to read what is missing.
func (r *room) tellChanges() {
	for {
		r.mu.Lock()
		c := &r.revs
		if !r.known || c.heard <= c.rev {
			if r.known {
				clear(c.waiting)
			}
			r.mu.Unlock()
			return
		}
		next, here := r.next()
		switch {
		case !here && !c.reading:
			r.hub.counts.holes.Add(1)
			c.reading = r.hub.background(r.readChanges)
		case here && next.message.Seq > r.last:
			here = false // its message was not delivered yet
		case here:
			delete(c.waiting, next.message.Rev)
			c.rev = next.message.Rev // before the first occupant is told: whoever joins from now on reads it
		}
		r.mu.Unlock()
		if !here {
			return
		}
		if next.message.Room != "" {
			r.tellChange(next.message)
		}
	}
}

func (r *room) tellChange(m chat.Message) {
	d := r.delivery()
	d.one[0].event = protocol.Outgoing{Schema: r.hub.schema.ServerEvent(protocol.EventChanged), Room: r.name, User: m.Author, Message: m}
	d.rev = m.Rev
	d.run()
}

// readChanges reads from the store what was changed and not told.
func (r *room) readChanges(ctx context.Context) {
	wait := time.NewTimer(r.hub.cfg.HoleWait)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		r.mu.Lock()
		after := r.revs.rev
		if !r.known || after >= r.revs.heard || ctx.Err() != nil {
			r.revs.reading = false
			r.schedule() // what came meanwhile may lack something again
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		page, err := r.hub.cfg.Chat.Changes(ctx, r.name, after)
		if err != nil {
			if ctx.Err() == nil {
				r.hub.cfg.Log.Warn("missed changes were not read", "room", r.name, "error", err)
			}
			wait.Reset(time.Second)
			continue
		}
		r.mu.Lock()
		clear(r.revs.waiting) // the store has what waits too, and there must be room
		for _, m := range page.Messages {
			r.await(revision{after, m})
			after = m.Rev
		}
		if !page.More && after < page.Rev { // the last one's message is gone
			r.await(revision{after, chat.Message{Rev: page.Rev}})
		}
		if !page.More && page.Rev < r.revs.heard && len(page.Messages) == 0 {
			r.revs.heard = max(page.Rev, r.revs.rev) // it was never stored
		}
		r.revs.reading = false
		r.schedule()
		r.mu.Unlock()
		return
	}
}

// lacks notes that the store has changes up to rev.
func (r *room) lacks(rev uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revs.hears(rev)
	r.schedule()
}

func (c *revisions) hears(rev uint64) { c.heard = max(c.heard, rev) }
