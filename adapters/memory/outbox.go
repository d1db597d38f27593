package memory

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/event"
)

// Outbox is an event.Outbox. [Users], [SignUps], [Codes] and [Sessions] put events into it in their commits.
type Outbox struct {
	mu     sync.Mutex
	events []event.Event // in the order of the commits
}

var _ event.Outbox = (*Outbox)(nil)

// NewOutbox returns an empty outbox.
func NewOutbox() *Outbox { return &Outbox{} }

// add is the part of a commit that concerns events. Callers hold the lock of their store:
// whoever can see the change can see its events.
func (o *Outbox) add(events []event.Event) {
	if len(events) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range events {
		o.events = append(o.events, cloneEvent(e))
	}
}

// Pending returns the oldest events that were not marked as published.
func (o *Outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if err := atLeastOne(limit); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	pending := make([]event.Event, 0, min(limit, len(o.events)))
	for _, e := range o.events[:cap(pending)] {
		pending = append(pending, cloneEvent(e))
	}
	return pending, nil
}

// Published forgets events.
func (o *Outbox) Published(ctx context.Context, ids ...string) error {
	if err := alive(ctx); err != nil {
		return err
	}
	gone := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		gone[id] = struct{}{}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = slices.DeleteFunc(o.events, func(e event.Event) bool {
		_, is := gone[e.ID]
		return is
	})
	return nil
}

func cloneEvent(e event.Event) event.Event {
	e.Time = stamp(e.Time)
	e.Data = bytes.Clone(e.Data)
	return e
}
