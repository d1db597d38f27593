package chat

import (
	"errors"

	"github.com/parley-chat/parley/core/event"
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
