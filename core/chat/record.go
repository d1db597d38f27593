package chat

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// Record makes the event that is committed with a message: with one that was just stored, for which c is nil, or with one that c has just changed. It
// returns false for none. The ID of the event is that of the message, or begins with it and "-": by that, events are found that
// hold what was deleted. A Record is pure, and may be called several times for one message. Its event is lost with what was not committed.
type Record func(m Message, c *Change) (event.Event, bool)

// Recorder is a [MessageStore] that can commit events with messages.
type Recorder interface {
	// Recording returns the store, which puts an event into the outbox for each message that its Append stores, and for each that its Change changes: what record returns.
	// A message and its events are stored in one commit: both are, or neither is.
	// The events of a room are in the order of its sequence, and those of its changes in the order of Rev.
	// What was Repeated or refused has no event.
	// A deletion, or an erasure, takes the events away that the outbox holds of the message, also those that were set aside, but for its own.
	// An event that is being published at that moment may still be.
	Recording(record Record) (MessageStore, error)
}

// ErrRecordsNothing says that a store cannot commit events with messages.
var ErrRecordsNothing = errors.New("chat: the store of messages cannot commit events with them")

// Recording returns a store that commits events with messages, if store can do that. It returns ErrRecordsNothing if not.
func Recording(store MessageStore, record Record) (MessageStore, error) {
	if r, ok := store.(Recorder); ok {
		return r.Recording(record)
	}
	return nil, ErrRecordsNothing
}

// Cause is why rooms and memberships change.
type Cause struct {
	// By is who does it. Empty where nobody says so.
	By user.ID
	// Reason is what they say to it.
	Reason string
	// At is when. Zero is for those who join: each does it themselves, at the time of Membership.Since.
	At time.Time
}

// RoomRecord makes the events that are committed with rooms and memberships. A function that is nil makes none, and so does one that returns false. They may be
// called several times for one change: an event is lost with what was not committed.
type RoomRecord struct {
	// Room is given the room before and after a change. One that was not there before has no Name.
	Room func(before, after Room) (event.Event, bool)
	// Membership is given what begins or has another role now, with its room, user and role, or what ends, without a role.
	Membership func(m Membership) (event.Event, bool)
}

// OfRoom returns the events of a change of a room.
func (r RoomRecord) OfRoom(before, after Room) []event.Event {
	if r.Room != nil {
		if e, ok := r.Room(before, after); ok {
			return []event.Event{e}
		}
	}
	return nil
}

// OfMemberships returns the events of changes of memberships.
func (r RoomRecord) OfMemberships(all ...Membership) (events []event.Event) {
	if r.Membership == nil {
		return nil
	}
	for _, m := range all {
		if e, ok := r.Membership(m); ok {
			events = append(events, e)
		}
	}
	return events
}

// RoomRecorder is a [Rooms], a [Members] or a [Roles], which is S, that can commit events with rooms and memberships.
type RoomRecorder[S any] interface {
	// Recording returns the store, which puts the events into the outbox that record makes of what its methods store.
	// A change and its events are stored in one commit: both are, or neither is.
	// Ensure and Create give Room a room that they have stored, and Update what it has made of one.
	// Add gives Membership each membership that it has begun, Remove each that it has ended, and Change each that it has made another one.
	// Create gives Membership each member, behind the room, in the order given.
	// What was there already, what is not there, and what is refused has no event.
	// The events of a room are in the order of its changes, and so are those of a membership.
	Recording(record RoomRecord) (S, error)
}

// ErrRecordsNoRooms says that a store cannot commit events with rooms and memberships.
var ErrRecordsNoRooms = errors.New("chat: the store cannot commit events with rooms and memberships")

// RecordingRooms returns a store that commits events with rooms or memberships, if store can do that. It returns ErrRecordsNoRooms if not.
func RecordingRooms[S any](store S, record RoomRecord) (S, error) {
	if r, ok := any(store).(RoomRecorder[S]); ok {
		return r.Recording(record)
	}
	var none S
	return none, ErrRecordsNoRooms
}

// roomStores are where rooms and memberships are stored, with the events of one cause.
type roomStores struct {
	Rooms   Rooms
	Members Members
	Roles   Roles
}

// because returns the stores that commit the events of what a cause brings about. Without Config.RecordRooms they are those of the Config.
func (s *Service) because(c Cause) (roomStores, error) {
	stores := roomStores{s.cfg.Rooms, s.cfg.Members, s.cfg.Roles}
	if s.cfg.RecordRooms == nil {
		return stores, nil
	}
	err := stores.record(s.cfg.RecordRooms(c))
	return stores, err
}

func (s *roomStores) record(record RoomRecord) (err error) {
	if s.Rooms, err = RecordingRooms(s.Rooms, record); err != nil {
		return fmt.Errorf("rooms: %w", err)
	}
	if s.Members, err = RecordingRooms(s.Members, record); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	if s.Roles == nil {
		return nil
	}
	if s.Roles, err = RecordingRooms(s.Roles, record); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	return nil
}

// OnRecorded makes f hear that events of rooms and memberships may have been stored here. f must be quick. OnRecorded may be called from many goroutines.
func (s *Service) OnRecorded(f func()) {
	listen(s, &s.heardRecorded, func(struct{}) { f() })
}

// recorded tells that events may have been stored.
func (s *Service) recorded() {
	if s.cfg.RecordRooms != nil {
		tellAll(&s.heardRecorded, struct{}{})
	}
}
