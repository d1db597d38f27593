package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Members is a chat.Members.
type Members struct {
	mu     sync.RWMutex
	byUser map[user.ID][]chat.Membership // ascending by room
}

var _ chat.Members = (*Members)(nil)

// NewMembers returns a store without memberships.
func NewMembers() *Members { return &Members{byUser: map[user.ID][]chat.Membership{}} }

// Add stores the memberships that do not exist yet.
func (ms *Members) Add(ctx context.Context, memberships ...chat.Membership) error {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	for _, m := range memberships {
		of := ms.byUser[m.UserID]
		at, found := findRoom(of, m.Room)
		if found {
			continue
		}
		m.Since = stamp(m.Since)
		ms.byUser[m.UserID] = slices.Insert(of, at, m)
	}
	return nil
}

// Remove ends a membership.
func (ms *Members) Remove(ctx context.Context, room string, id user.ID) error {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	of := ms.byUser[id]
	at, found := findRoom(of, room)
	switch {
	case !found:
	case len(of) == 1:
		delete(ms.byUser, id)
	default:
		ms.byUser[id] = slices.Delete(of, at, at+1)
	}
	return nil
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
	if err := atLeastOne(limit); err != nil {
		return nil, err
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	of := ms.byUser[id]
	at, found := findRoom(of, after)
	if found {
		at++
	}
	of = of[at:]
	return append([]chat.Membership{}, of[:min(limit, len(of))]...), nil
}

// findRoom returns where room stands, or should stand, in a user's memberships.
func findRoom(of []chat.Membership, room string) (int, bool) {
	return slices.BinarySearchFunc(of, room, func(m chat.Membership, r string) int { return cmp.Compare(m.Room, r) })
}
