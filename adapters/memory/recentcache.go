package memory

import (
	"container/list"
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// RecentCacheConfig says how much a [RecentCache] may hold. Values that are not positive mean the defaults.
type RecentCacheConfig struct {
	// Rooms is the most rooms that are held, or whose Rev and First alone are remembered; the one that was not used for longest makes
	// room. Default 1,000.
	Rooms int
	// Messages is the most messages of one room that are held: the last ones. Default 100.
	Messages int
}

// RecentCache is a chat.RecentCache.
type RecentCache struct {
	maxRooms, maxMessages int

	mu    sync.Mutex
	rooms map[string]*list.Element // of *recent
	used  *list.List               // last used first
}

// recent is the last messages of one room, none if it is known to have none. It may grow to twice the limit
// before the older half is cut off, so that cutting costs little per message.
type recent struct {
	room     string
	held     bool // otherwise only rev and first are remembered
	rev      uint64
	first    uint64 // what stands before it was removed by age
	messages []chat.Message
}

var _ chat.RecentCache = (*RecentCache)(nil)

// NewRecentCache returns an empty cache.
func NewRecentCache(cfg RecentCacheConfig) *RecentCache {
	return &RecentCache{
		maxRooms:    or(cfg.Rooms, 1000),
		maxMessages: or(cfg.Messages, 100),
		rooms:       map[string]*list.Element{},
		used:        list.New(),
	}
}

var errHole = fault.New(fault.Invalid, "messages_not_contiguous", "the messages are not contiguous")

// Get returns what is held for room.
func (c *RecentCache) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := alive(ctx); err != nil {
		return chat.Recent{}, false, err
	}
	at, known := c.rooms[room]
	if !known {
		return chat.Recent{}, false, nil
	}
	c.used.MoveToFront(at)
	r := at.Value.(*recent)
	if !r.held {
		return chat.Recent{}, false, nil
	}
	return chat.Recent{Messages: copies(c.last(r.messages)), Rev: r.rev, First: r.first}, true, nil
}

// last cuts messages to those that are within the limit.
func (c *RecentCache) last(messages []chat.Message) []chat.Message {
	return messages[max(0, len(messages)-c.maxMessages):]
}

// Add puts messages that were just stored into their rooms. One that does not connect to
// what its room holds replaces it, if it is newer.
func (c *RecentCache) Add(ctx context.Context, messages ...chat.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	for _, m := range messages {
		r := c.entry(m.Room)
		if m.Seq < r.first {
			continue
		}
		if r.rev == 0 {
			r.held = true
		}
		if r.held {
			c.add(r, m)
		}
	}
	return nil
}

// add puts a message behind those that r holds, if it is newer.
func (c *RecentCache) add(r *recent, m chat.Message) {
	switch n := len(r.messages); {
	case n > 0 && m.Seq <= r.messages[n-1].Seq:
	case n > 0 && m.Seq == r.messages[n-1].Seq+1:
		r.messages = append(c.cut(r.messages), m.Clone())
	default:
		clear(r.messages)
		r.messages = append(r.messages[:0], m.Clone())
	}
}

// cut moves the last messages to the front when twice as many as the limit are there.
func (c *RecentCache) cut(messages []chat.Message) []chat.Message {
	if len(messages) < 2*c.maxMessages {
		return messages
	}
	n := copy(messages, c.last(messages))
	clear(messages[n:])
	return messages[:n]
}

// Change puts messages that were just changed in the place of what is held of them.
func (c *RecentCache) Change(ctx context.Context, messages ...chat.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	for _, m := range messages {
		c.change(c.entry(m.Room), m)
	}
	return nil
}

func (c *RecentCache) change(r *recent, m chat.Message) {
	if m.Rev <= r.rev {
		return
	}
	if m.Rev > r.rev+1 {
		r.drop()
	}
	r.rev = m.Rev
	if !r.held {
		return
	}
	if n := len(r.messages); n == 0 || m.Seq > r.messages[n-1].Seq {
		c.add(r, m)
	} else if first := r.messages[0].Seq; m.Seq >= first {
		if held := &r.messages[m.Seq-first]; held.Rev < m.Rev {
			*held = m.Clone()
		}
	}
}

// raise takes what stands before first away.
func (r *recent) raise(first uint64) {
	if first <= r.first {
		return
	}
	r.first = first
	if first <= 1 {
		return
	}
	if r.messages = from(r.messages, first); len(r.messages) == 0 {
		r.drop()
	}
}

// from returns the messages that do not stand before first.
func from(messages []chat.Message, first uint64) []chat.Message {
	if len(messages) == 0 || messages[0].Seq >= first {
		return messages
	}
	return slices.Clone(messages[min(first-messages[0].Seq, uint64(len(messages))):])
}

// drop leaves only rev and first.
func (r *recent) drop() { r.held, r.messages = false, nil }

// entry returns the room's entry, as the last used, and a new one that is not held if it has none.
func (c *RecentCache) entry(room string) *recent {
	if at, known := c.rooms[room]; known {
		c.used.MoveToFront(at)
		return at.Value.(*recent)
	}
	if len(c.rooms) >= c.maxRooms {
		oldest := c.used.Back()
		delete(c.rooms, c.used.Remove(oldest).(*recent).room)
	}
	r := &recent{room: room}
	c.rooms[room] = c.used.PushFront(r)
	return r
}

// Fill gives the cache what was read from the store. Messages with a hole between them are
// an error of kind Invalid.
func (c *RecentCache) Fill(ctx context.Context, room string, given chat.Recent) error {
	messages := given.Messages
	for i := 1; i < len(messages); i++ {
		if messages[i].Seq != messages[i-1].Seq+1 {
			return errHole.Detail("%d is followed by %d", messages[i-1].Seq, messages[i].Seq)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if given.First == chat.Gone {
		if at, known := c.rooms[room]; known {
			c.used.Remove(at)
			delete(c.rooms, room)
		}
		return nil
	}
	r := c.entry(room)
	r.raise(given.First)
	messages = from(messages, r.first)
	if given.Rev < r.rev {
		return nil
	}
	newer := given.Rev > r.rev
	r.rev = given.Rev
	switch n := len(messages); {
	case n == 0 && newer && len(r.messages) > 0:
		r.drop() // it does not connect
	case n == 0:
		r.held = r.held || r.first <= 1
	case !r.held, len(r.messages) == 0:
		r.held, r.messages = true, copies(c.last(messages))
	default:
		c.merge(r, messages, newer)
	}
	return nil
}

// merge joins what r holds with messages. Where both have one, that of r stays, unless newer says that the messages know more changes.
func (c *RecentCache) merge(r *recent, messages []chat.Message, newer bool) {
	from, to := messages[0].Seq, messages[len(messages)-1].Seq
	first, last := r.messages[0].Seq, r.messages[len(r.messages)-1].Seq
	switch {
	case newer && (to+1 < first || last+1 < from):
		r.drop()
		return
	case to+1 < first || last+1 < from:
		return
	}
	var whole []chat.Message
	if newer {
		whole = append(whole, messages...)
		if last > to {
			whole = append(whole, r.messages[max(first, to+1)-first:]...)
		}
	} else {
		if from < first {
			whole = append(whole, messages[:first-from]...)
		}
		whole = append(whole, r.messages...)
		if last < to {
			whole = append(whole, messages[last+1-from:]...)
		}
	}
	r.messages = copies(c.last(whole))
}
