package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Members is a chat.Members and a chat.Marks.
type Members struct {
	messages *Messages
	rooms    *Rooms  // nil where there are no roles
	outbox   *Outbox // nil where no events are recorded

	mu     sync.RWMutex                  // before rooms.mu, and that before messages.mu
	byUser map[user.ID][]chat.Membership // ascending by room
}

var (
	_ chat.Members = (*Members)(nil)
	_ chat.Marks   = (*Members)(nil)
)

// NewMembers returns a store without memberships, of rooms whose messages are in messages. nil stands for a store of messages that stays empty.
func NewMembers(messages *Messages) *Members {
	if messages == nil {
		messages = NewMessages()
	}
	return &Members{messages: messages, byUser: map[user.ID][]chat.Membership{}}
}

// Add stores the memberships that do not exist yet, and returns what is stored.
func (ms *Members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	return ms.add(ctx, memberships, chat.RoomRecord{})
}

func (ms *Members) add(ctx context.Context, memberships []chat.Membership, record chat.RoomRecord) ([]chat.Membership, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if ms.rooms != nil {
		ms.rooms.mu.RLock()
		defer ms.rooms.mu.RUnlock()
	}
	ms.messages.mu.RLock()
	defer ms.messages.mu.RUnlock()
	stored := make([]chat.Membership, len(memberships))
	for i, m := range memberships {
		at, found := findRoom(ms.byUser[m.UserID], m.Room)
		switch {
		case !found && ms.rooms != nil && !ms.rooms.open(m.Room):
			stored[i] = chat.Membership{Room: m.Room, UserID: m.UserID}
			continue
		case !found:
			ms.insert(at, m)
			ms.outbox.add(record.OfMemberships(ms.byUser[m.UserID][at]))
		}
		stored[i] = ms.now(ms.byUser[m.UserID][at])
	}
	return stored, nil
}

// insert begins a membership at its place among those of its user, under all locks.
func (ms *Members) insert(at int, m chat.Membership) {
	m.Since, m.Read = stamp(m.Since), 0
	if m.Role == "" {
		m.Role = chat.Regular
	}
	if h := ms.messages.rooms[m.Room]; h != nil {
		m.Read = h.last
	}
	ms.byUser[m.UserID] = slices.Insert(ms.byUser[m.UserID], at, m)
}

// now returns the membership with what its user has sent meanwhile, under both locks.
func (ms *Members) now(m chat.Membership) chat.Membership {
	if h := ms.messages.rooms[m.Room]; h != nil {
		m.Read = max(m.Read, h.sent[m.UserID])
	}
	return m
}

// Remove ends a membership.
func (ms *Members) Remove(ctx context.Context, room string, id user.ID) error {
	return ms.remove(ctx, room, id, chat.RoomRecord{})
}

func (ms *Members) remove(ctx context.Context, room string, id user.ID, record chat.RoomRecord) error {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if at, found := findRoom(ms.byUser[id], room); found {
		ms.delete(id, at)
		ms.outbox.add(record.OfMemberships(chat.Membership{Room: room, UserID: id}))
	}
	return nil
}

// delete ends a membership, under the lock.
func (ms *Members) delete(id user.ID, at int) {
	if of := ms.byUser[id]; len(of) > 1 {
		ms.byUser[id] = slices.Delete(of, at, at+1)
		return
	}
	delete(ms.byUser, id)
}

// Has reports whether the user is a member of room.
func (ms *Members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	if err := alive(ctx); err != nil {
		return false, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	_, found := findRoom(ms.byUser[id], room)
	return found, nil
}

// RoomsOf returns memberships of the user, ascending by room.
func (ms *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	ms.messages.mu.RLock()
	defer ms.messages.mu.RUnlock()
	of := ms.byUser[id]
	at, found := findRoom(of, after)
	if found {
		at++
	}
	of = of[at:]
	rooms := make([]chat.Membership, min(max(limit, 0), len(of)))
	for i := range rooms {
		rooms[i] = ms.now(of[i])
	}
	return rooms, nil
}

// Mark moves how far members have read.
func (ms *Members) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	ms.messages.mu.RLock()
	defer ms.messages.mu.RUnlock()
	answers := make([]chat.Marked, len(marks))
	for i, m := range marks {
		of := ms.byUser[m.User.ID]
		at, found := findRoom(of, m.Room)
		if !found {
			answers[i].Err = chat.ErrNotMember
			continue
		}
		before := ms.now(of[at]).Read
		h := ms.messages.rooms[m.Room]
		if h == nil {
			continue // nothing to read
		}
		read := max(before, min(m.Read, h.last))
		of[at].Read = read
		answers[i] = chat.Marked{Read: read, Unread: h.unread(read), Moved: read > before}
	}
	return answers, nil
}

// Mine returns rooms of the user, the one that was active last first.
func (ms *Members) Mine(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if limit < 1 {
		return []chat.MyRoom{}, nil
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	if ms.rooms != nil {
		ms.rooms.mu.RLock()
		defer ms.rooms.mu.RUnlock()
	}
	ms.messages.mu.RLock()
	defer ms.messages.mu.RUnlock()
	rooms := make([]chat.MyRoom, 0, len(ms.byUser[id]))
	for _, m := range ms.byUser[id] {
		if ms.rooms != nil && ms.rooms.deleted(m.Room) {
			continue
		}
		r := chat.MyRoom{Membership: ms.now(m), Active: m.Since}
		if h := ms.messages.rooms[m.Room]; h != nil {
			r.Seq, r.Rev, r.Unread = h.last, h.rev, h.unread(r.Read)
			if n := len(h.messages); n > 0 {
				r.Last = h.messages[n-1].Clone()
				r.Active = later(r.Active, r.Last.At)
			}
		}
		if behind == (chat.Place{}) || inList(behind, r.Place()) < 0 {
			rooms = append(rooms, r)
		}
	}
	slices.SortFunc(rooms, func(a, b chat.MyRoom) int { return inList(a.Place(), b.Place()) })
	return slices.Clip(rooms[:min(limit, len(rooms))]), nil
}

// inList is the order of a list of rooms.
func inList(a, b chat.Place) int {
	return cmp.Or(b.Active.Compare(a.Active), strings.Compare(a.Room, b.Room))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// findRoom returns where room stands, or should stand, in a user's memberships.
func findRoom(of []chat.Membership, room string) (int, bool) {
	return slices.BinarySearchFunc(of, room, func(m chat.Membership, r string) int { return cmp.Compare(m.Room, r) })
}
