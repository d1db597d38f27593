package memory

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/event"
)

// Outbox is an event.Outbox. [Users], [SignUps], [Codes] and [Sessions] put events into it in their commits.
type Outbox struct {
	mu     sync.Mutex
	events []event.Event // in the order of the commits
	aside  []Aside
}

// Aside is an event that can never be published, and why.
type Aside struct {
	Event  event.Event
	Reason string // at most 1,024 bytes
}

// maxAside bounds how many events that were set aside are kept: the newest.
const (
	maxAside  = 1024
	maxReason = 1024
)

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
	return first(o.events, limit), nil
}

// PendingAfter returns the events behind one of them.
func (o *Outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if err := atLeastOne(limit); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return first(o.events[o.at(id)+1:], limit), nil
}

// at returns the place of an event, -1 if it is not there. The caller holds mu.
func (o *Outbox) at(id string) int {
	return slices.IndexFunc(o.events, func(e event.Event) bool { return e.ID == id })
}

func first(events []event.Event, limit int) []event.Event {
	pending := make([]event.Event, 0, min(limit, len(events)))
	for _, e := range events[:cap(pending)] {
		pending = append(pending, cloneEvent(e))
	}
	return pending
}

// SetAside keeps an event apart, with the reason. Of more than 1,024 the oldest is forgotten.
func (o *Outbox) SetAside(ctx context.Context, id, reason string) error {
	if err := alive(ctx); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.at(id)
	if i < 0 {
		return nil
	}
	if len(o.aside) == maxAside {
		o.aside = slices.Delete(o.aside, 0, 1)
	}
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	o.aside = append(o.aside, Aside{o.events[i], strings.ToValidUTF8(reason, "")})
	o.events = slices.Delete(o.events, i, i+1)
	return nil
}

// Asides returns the events that were set aside, oldest first.
func (o *Outbox) Asides() []Aside {
	o.mu.Lock()
	defer o.mu.Unlock()
	asides := slices.Clone(o.aside)
	for i := range asides {
		asides[i].Event = cloneEvent(asides[i].Event)
	}
	return asides
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
