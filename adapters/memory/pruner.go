package memory

import (
	"context"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
)

// Pruner is a chat.Pruner of what the other stores have of rooms.
type Pruner struct {
	messages     *Messages
	members      *Members
	rooms        *Rooms
	restrictions *Restrictions
}

var _ chat.Pruner = (*Pruner)(nil)

// NewPruner returns what removes messages, and rooms, from these stores. Those that are nil have nothing of rooms.
func NewPruner(messages *Messages, members *Members, rooms *Rooms, restrictions *Restrictions) *Pruner {
	if messages == nil {
		messages = NewMessages()
	}
	return &Pruner{messages, members, rooms, restrictions}
}

// Aged counts the first messages of room that were stored before a time.
func (p *Pruner) Aged(ctx context.Context, room string, before time.Time, limit int) (first uint64, aged int, err error) {
	return p.messages.Aged(ctx, room, before, limit)
}

// Prune removes the messages of room whose sequence is lower than first, and returns how many.
func (p *Pruner) Prune(ctx context.Context, room string, first uint64) (int, error) {
	return p.messages.Prune(ctx, room, first)
}

// Drop removes messages and memberships, at most limit, and the room when there is none of them.
func (p *Pruner) Drop(ctx context.Context, room string, limit int) (left bool, err error) {
	if err := alive(ctx); err != nil {
		return true, err
	}
	limit = max(limit, 1)
	p.messages.mu.RLock()
	first := uint64(0)
	if h := p.messages.rooms[room]; h != nil && len(h.messages) > 0 {
		first = h.first() + uint64(limit)
	}
	p.messages.mu.RUnlock()
	if first > 0 {
		_, err := p.messages.Prune(ctx, room, first)
		return true, err
	}
	if p.members != nil && p.members.drop(room, limit) {
		return true, nil
	}
	if p.restrictions != nil {
		p.restrictions.drop(room)
	}
	p.messages.mu.Lock()
	delete(p.messages.rooms, room)
	p.messages.mu.Unlock()
	if p.rooms != nil {
		p.rooms.drop(room)
	}
	return false, nil
}

// drop ends memberships in a room, at most limit, and reports whether there were any.
func (ms *Members) drop(room string, limit int) (some bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for id, of := range ms.byUser {
		at, found := findRoom(of, room)
		if !found {
			continue
		}
		if limit--; limit < 0 {
			break
		}
		some = true
		if of = slices.Delete(of, at, at+1); len(of) == 0 {
			delete(ms.byUser, id)
		} else {
			ms.byUser[id] = of
		}
	}
	return some
}

// drop removes a room.
func (rs *Rooms) drop(name string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.byName, name)
	if at, found := slices.BinarySearch(rs.names, name); found {
		rs.names = slices.Delete(rs.names, at, at+1)
	}
}

// drop ends all restrictions in a room.
func (rs *Restrictions) drop(room string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for whom := range rs.stored {
		if whom.Room == room {
			delete(rs.stored, whom)
		}
	}
}
