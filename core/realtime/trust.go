package realtime

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
)

// trust is of which rooms this node has read the store since it began, and since it last heard that another node has died or could not
// be heard. The cache may lack what a process has stored that died before it could say so: of other rooms the store is read first.
type trust struct {
	mu    sync.Mutex
	epoch int
	rooms map[string]struct{}
}

// trusted is how many rooms are remembered. Of further ones the store is read each time somebody is the first here.
const trusted = 1 << 16

// has reports whether the cache may be used for a room, and as of what.
func (t *trust) has(room string) (ok bool, epoch int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok = t.rooms[room]
	return ok, t.epoch
}

// add notes that the store was read, by a reading that began at an epoch.
func (t *trust) add(room string, epoch int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if epoch != t.epoch || len(t.rooms) >= trusted {
		return
	}
	if t.rooms == nil {
		t.rooms = map[string]struct{}{}
	}
	t.rooms[room] = struct{}{}
}

// lose forgets all rooms.
func (t *trust) lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.rooms = nil
}

// read reads what is newest in the room, or what came after since. The first one reads the store, for all who wait: see [trust].
func (r *room) read(ctx context.Context, since *uint64) (page chat.Page, err error) {
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
			reach = chat.Latest
			defer func() {
				if err == nil {
					h.trust.add(r.name, epoch)
				}
			}()
		}
	}
	if since != nil {
		h.counts.pages.Add(1)
		return h.cfg.Chat.Since(ctx, r.name, *since, reach)
	}
	return h.cfg.Chat.Newest(ctx, r.name, reach)
}

// reach is the sequence that a reader's page must reach, and whether the cache is trusted for it.
func (r *room) reach() (last uint64, trusted bool, epoch int) {
	trusted, epoch = r.hub.trust.has(r.name)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, trusted || r.known, epoch
}

// distrust looks in the background whether rooms lack messages: another node has died, or could not be heard.
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

// verify looks whether the store has more than was delivered here, and delivers it. It tries again until ctx ends.
func (r *room) verify(ctx context.Context) error {
	h := r.hub
	for {
		_, epoch := h.trust.has(r.name)
		page, err := h.cfg.Chat.Newest(ctx, r.name, chat.Latest)
		if err == nil {
			h.trust.add(r.name, epoch)
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
