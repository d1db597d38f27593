package memory

import (
	"context"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
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
