package realtime

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
)

// trust remembers the rooms that this node has read from the store, and how far each is known to reach. A process may store a message and
// die before the cache has it, so a room that is not remembered is read from the store first. All are forgotten when a node may have died,
// or may not have been heard.
type trust struct {
	mu    sync.Mutex
	epoch int
	rooms map[string]chat.Reach
}

// maxTrusted is how many rooms are remembered. A further one is read from the store each time that somebody is the first in it here.
const maxTrusted = 1 << 16

// has reports whether the cache may be used for a room that it has as far as reach, and returns the present epoch.
func (t *trust) has(room string) (reach chat.Reach, ok bool, epoch int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	reach, ok = t.rooms[room]
	return reach, ok, t.epoch
}

// add notes that a room was read from the store as far as reach, unless all were forgotten since the epoch in which the reading
// began.
func (t *trust) add(room string, epoch int, reach chat.Reach) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, again := t.rooms[room]
	if epoch != t.epoch || !again && len(t.rooms) >= maxTrusted {
		return
	}
	if t.rooms == nil {
		t.rooms = map[string]chat.Reach{}
	}
	t.rooms[room] = known.Max(reach)
}

// reaches notes how far a room that is remembered reaches.
func (t *trust) reaches(room string, reach chat.Reach) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, ok := t.rooms[room]; ok {
		t.rooms[room] = known.Max(reach)
	}
}

// lose forgets all rooms.
func (t *trust) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.rooms = nil
}

// read reads what is newest in the room, or what came after a point. The first reader reads the store while the others wait: see [trust].
func (r *room) read(ctx context.Context, from *chat.Point) (page chat.Page, err error) {
	h := r.hub
	reach, ok, _ := r.reach()
	if !ok {
		r.reading.Lock() // those who wait go on one after the other
		defer r.reading.Unlock()
		if err := ctx.Err(); err != nil {
			return page, err
		}
		var epoch int
		if reach, ok, epoch = r.reach(); !ok {
			reach = chat.Reach{Seq: chat.Latest}
			defer func() {
				if err == nil {
					h.trust.add(r.name, epoch, chat.Reach{Seq: page.Last, Rev: page.Rev})
				}
			}()
		}
	}
	if from != nil {
		h.counts.pages.Add(1)
		return h.cfg.Chat.Since(ctx, r.name, *from, reach)
	}
	return h.cfg.Chat.Newest(ctx, r.name, reach)
}

// reach is how far a reader's page must reach, and whether the cache is trusted for it.
func (r *room) reach() (reach chat.Reach, trusted bool, epoch int) {
	reach, trusted, epoch = r.hub.trust.has(r.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	return reach.Max(chat.Reach{Seq: r.last, Rev: r.revs.rev}), trusted || r.known, epoch
}

// reached is a sequence that is stored, as far as this node knows; 0 if it knows none.
func (r *room) reached() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known {
		return 0
	}
	return r.last
}

// distrust compares all rooms here with the store, in the background: another node may have died, or may not have been heard.
func (h *Hub) distrust() {
	h.trust.lose()
	h.mu.RLock()
	all := make([]*room, 0, len(h.rooms))
	for _, r := range h.rooms {
		all = append(all, r)
	}
	h.mu.RUnlock()
	// In an order that does not depend on chance, so that a run can be repeated.
	slices.SortFunc(all, func(a, b *room) int { return strings.Compare(a.name, b.name) })
	for some := range slices.Chunk(all, verifiedTogether) {
		h.background(func(ctx context.Context) {
			for i, r := range some {
				if !h.pin(r) {
					continue
				}
				err := r.verify(ctx)
				r.release(ctx)
				if err != nil {
					h.cfg.Log.Warn("rooms were not compared with the store after a node was lost", "rooms", len(some)-i, "error", err)
					return
				}
			}
		})
	}
}

// verifiedTogether is how many rooms are verified one after the other.
const verifiedTogether = 500

// verify delivers what the store has and this room lacks. It tries again until the store answers or ctx ends.
func (r *room) verify(ctx context.Context) error {
	h := r.hub
	for {
		_, _, epoch := h.trust.has(r.name)
		page, err := h.cfg.Chat.Newest(ctx, r.name, chat.Reach{Seq: chat.Latest})
		if err == nil {
			h.trust.add(r.name, epoch, chat.Reach{Seq: page.Last, Rev: page.Rev})
			r.lacks(page.Rev)
			if n := len(page.Messages); n > 0 {
				r.enqueue(Signal{Kind: SignalMessage, Room: r.name, Message: page.Messages[n-1]}) // what is missing before it is a hole
			}
			return nil
		}
		again := time.NewTimer(time.Second)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
	}
}
