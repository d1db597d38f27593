package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
)

// Rooms is a chat.Rooms.
type Rooms struct {
	outbox *Outbox // nil where no events are recorded
	roles  *Roles  // nil where there are none
	mu     sync.RWMutex
	byName map[string]chat.Room
	names  []string // ascending
}

var _ chat.Rooms = (*Rooms)(nil)

// NewRooms returns a store without rooms.
func NewRooms() *Rooms { return &Rooms{byName: map[string]chat.Room{}} }

// Ensure stores r unless its name is known, and returns the stored room.
func (rs *Rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	return rs.ensure(ctx, r, chat.RoomRecord{})
}

func (rs *Rooms) ensure(ctx context.Context, r chat.Room, record chat.RoomRecord) (chat.Room, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return chat.Room{}, err
	}
	if stored, ok := rs.byName[r.Name]; ok {
		return stored, nil
	}
	r = rs.add(r)
	rs.outbox.add(record.OfRoom(chat.Room{}, r))
	return r, nil
}

// add stores a room that is not there, under the lock.
func (rs *Rooms) add(r chat.Room) chat.Room {
	r = roomAsKept(r)
	rs.byName[r.Name] = r
	at, _ := slices.BinarySearch(rs.names, r.Name)
	rs.names = slices.Insert(rs.names, at, r.Name)
	return r
}

// roomAsKept is the room as stores return it.
func roomAsKept(r chat.Room) chat.Room {
	r.Kind, r.CreatedAt, r.DeletedAt = r.Kind.Or(), stamp(r.CreatedAt), stamp(r.DeletedAt)
	r.Retention = r.Retention.Truncate(time.Second)
	return r
}

// Update stores what change makes of the room.
func (rs *Rooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	return rs.update(ctx, name, by, change, chat.RoomRecord{})
}

func (rs *Rooms) update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error, record chat.RoomRecord) (chat.Room, error) {
	asked := by.ID != "" && rs.roles != nil
	if asked {
		defer rs.roles.lock()()
	} else {
		rs.mu.Lock()
		defer rs.mu.Unlock()
	}
	if err := alive(ctx); err != nil {
		return chat.Room{}, err
	}
	before, ok := rs.byName[name]
	if !ok {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	var as chat.Role
	if asked {
		as = rs.roles.heeded(name, by.ID, by.At)
	}
	r := before
	if err := change(&r, as); err != nil {
		return chat.Room{}, err
	}
	r.Name, r.CreatedBy, r.CreatedAt = before.Name, before.CreatedBy, before.CreatedAt
	r = roomAsKept(r)
	rs.byName[name] = r
	rs.outbox.add(record.OfRoom(before, r))
	return r, nil
}

// deleted reports whether the room was deleted, under the lock.
func (rs *Rooms) deleted(name string) bool { return !rs.byName[name].DeletedAt.IsZero() }

// open reports whether somebody may become a member by joining: the room is public, or not known, under the lock.
func (rs *Rooms) open(name string) bool {
	r, known := rs.byName[name]
	return !known || r.Kind == chat.Public && r.DeletedAt.IsZero()
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
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	at, found := slices.BinarySearch(rs.names, after)
	if found {
		at++
	}
	names := rs.names[at:]
	rooms := make([]chat.Room, 0, min(max(limit, 0), len(names)))
	for _, name := range names[:cap(rooms)] {
		rooms = append(rooms, rs.byName[name])
	}
	return rooms, nil
}
