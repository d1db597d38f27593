package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/chat"
)

// Rooms is a chat.Rooms.
type Rooms struct {
	mu     sync.RWMutex
	byName map[string]chat.Room
	names  []string // ascending
}

var _ chat.Rooms = (*Rooms)(nil)

// NewRooms returns a store without rooms.
func NewRooms() *Rooms { return &Rooms{byName: map[string]chat.Room{}} }

// Ensure stores r unless its name is known, and returns the stored room.
func (rs *Rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return chat.Room{}, err
	}
	if stored, ok := rs.byName[r.Name]; ok {
		return stored, nil
	}
	r.CreatedAt = stamp(r.CreatedAt)
	rs.byName[r.Name] = r
	at, _ := slices.BinarySearch(rs.names, r.Name)
	rs.names = slices.Insert(rs.names, at, r.Name)
	return r, nil
}

// ByName returns the room.
func (rs *Rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	if err := alive(ctx); err != nil {
		return chat.Room{}, err
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	r, ok := rs.byName[name]
	if !ok {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	return r, nil
}

// List returns rooms, ascending by name.
func (rs *Rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if err := atLeastOne(limit); err != nil {
		return nil, err
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	at, found := slices.BinarySearch(rs.names, after)
	if found {
		at++
	}
	names := rs.names[at:]
	rooms := make([]chat.Room, 0, min(limit, len(names)))
	for _, name := range names[:cap(rooms)] {
		rooms = append(rooms, rs.byName[name])
	}
	return rooms, nil
}
