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
	// Rooms is the most rooms that are held; the one that was not used for longest makes
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
func (c *RecentCache) Get(ctx context.Context, room string) ([]chat.Message, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, false, err
	}
	at, held := c.rooms[room]
	if !held {
		return nil, false, nil
	}
	c.used.MoveToFront(at)
	return slices.Clone(c.last(at.Value.(*recent).messages)), true, nil
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
		r := c.hold(m.Room)
		switch n := len(r.messages); {
		case n > 0 && m.Seq <= r.messages[n-1].Seq:
		case n > 0 && m.Seq == r.messages[n-1].Seq+1:
			r.messages = append(c.cut(r.messages), m)
		default:
			clear(r.messages)
			r.messages = append(r.messages[:0], m)
		}
	}
	return nil
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

// hold returns the room's entry, as the last used, and a new one if it has none.
func (c *RecentCache) hold(room string) *recent {
	if at, held := c.rooms[room]; held {
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
func (c *RecentCache) Fill(ctx context.Context, room string, messages []chat.Message) error {
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
	r := c.hold(room)
	if len(messages) == 0 {
		return nil
	}
	if len(r.messages) == 0 {
		r.messages = slices.Clone(c.last(messages))
		return nil
	}
	from, to := messages[0].Seq, messages[len(messages)-1].Seq
	first, last := r.messages[0].Seq, r.messages[len(r.messages)-1].Seq
	if to+1 < first || last+1 < from {
		return nil // it does not connect
	}
	var whole []chat.Message
	if from < first {
		whole = append(whole, messages[:first-from]...)
	}
	whole = append(whole, r.messages...)
	if last < to {
		whole = append(whole, messages[last+1-from:]...)
	}
	r.messages = slices.Clone(c.last(whole))
	return nil
}
