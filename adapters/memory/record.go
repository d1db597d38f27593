package memory

import (
	"context"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

var _ chat.Recorder = (*Messages)(nil)

// Recording implements chat.Recorder. Messages that are not part of a [Store] have no outbox, and return chat.ErrRecordsNothing.
func (ms *Messages) Recording(record chat.Record) (chat.MessageStore, error) {
	if ms.outbox == nil {
		return nil, chat.ErrRecordsNothing
	}
	return recording{ms, record}, nil
}

// recording is Messages with events.
type recording struct {
	*Messages
	record chat.Record
}

// Append implements chat.MessageStore.
func (r recording) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	return r.append(ctx, messages, r.record)
}

// Change implements chat.MessageStore.
func (r recording) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	return r.change(ctx, changes, r.record)
}

// tell puts the event of a message into the outbox, as part of a commit. The caller holds mu.
func (ms *Messages) tell(record chat.Record, m chat.Message, c *chat.Change) {
	if record == nil {
		return
	}
	if c != nil && (c.Kind == chat.Delete || c.Kind == chat.Erase) {
		ms.outbox.forget(m.ID)
	}
	if e, ok := record(m.Clone(), c); ok {
		ms.outbox.add([]event.Event{e})
	}
}

// forget takes the events of a message away.
func (o *Outbox) forget(message string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	of := func(id string) bool { return id == message || strings.HasPrefix(id, message+"-") }
	o.events = slices.DeleteFunc(o.events, func(e event.Event) bool { return of(e.ID) })
	o.aside = slices.DeleteFunc(o.aside, func(x event.Aside) bool { return of(x.Event.ID) })
}

var (
	_ chat.RoomRecorder[chat.Rooms]   = (*Rooms)(nil)
	_ chat.RoomRecorder[chat.Members] = (*Members)(nil)
	_ chat.RoomRecorder[chat.Roles]   = (*Roles)(nil)
)

// Recording implements chat.RoomRecorder. Rooms that are not part of a [Store] have no outbox, and return chat.ErrRecordsNoRooms.
func (rs *Rooms) Recording(record chat.RoomRecord) (chat.Rooms, error) {
	if rs.outbox == nil {
		return nil, chat.ErrRecordsNoRooms
	}
	return recordingRooms{rs, record}, nil
}

// recordingRooms is Rooms with events.
type recordingRooms struct {
	*Rooms
	record chat.RoomRecord
}

// Ensure implements chat.Rooms.
func (r recordingRooms) Ensure(ctx context.Context, room chat.Room) (chat.Room, error) {
	return r.ensure(ctx, room, r.record)
}

// Update implements chat.Rooms.
func (r recordingRooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	return r.update(ctx, name, by, change, r.record)
}

// Recording implements chat.RoomRecorder. Members that are not part of a [Store] have no outbox, and return chat.ErrRecordsNoRooms.
func (ms *Members) Recording(record chat.RoomRecord) (chat.Members, error) {
	if ms.outbox == nil {
		return nil, chat.ErrRecordsNoRooms
	}
	return recordingMembers{ms, record}, nil
}

// recordingMembers is Members with events.
type recordingMembers struct {
	*Members
	record chat.RoomRecord
}

// Add implements chat.Members.
func (r recordingMembers) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	return r.add(ctx, memberships, r.record)
}

// Remove implements chat.Members.
func (r recordingMembers) Remove(ctx context.Context, room string, id user.ID) error {
	return r.remove(ctx, room, id, r.record)
}

// Recording implements chat.RoomRecorder. Roles of rooms that are not part of a [Store] have no outbox, and return chat.ErrRecordsNoRooms.
func (rs *Roles) Recording(record chat.RoomRecord) (chat.Roles, error) {
	if rs.rooms.outbox == nil {
		return nil, chat.ErrRecordsNoRooms
	}
	return recordingRoles{rs, record}, nil
}

// recordingRoles is Roles with events.
type recordingRoles struct {
	*Roles
	record chat.RoomRecord
}

// Create implements chat.Roles.
func (r recordingRoles) Create(ctx context.Context, room chat.Room, members ...chat.Membership) (chat.Room, error) {
	return r.create(ctx, room, members, r.record)
}

// Change implements chat.Roles.
func (r recordingRoles) Change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error,
) (before, after chat.Membership, err error) {
	return r.change(ctx, c, may, r.record)
}
