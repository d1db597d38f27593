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
	aside  []event.Aside // in the order in which they were set aside
}

// Asides is an event.Asides: what was set aside in an outbox.
type Asides struct{ of *Outbox }

const (
	// maxAside bounds how many events that were set aside are kept: the newest.
	maxAside = 1024
	// maxReason bounds their reasons, in bytes.
	maxReason = 1024
)

var (
	_ event.Outbox = (*Outbox)(nil)
	_ event.Asides = (*Asides)(nil)
)

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
	o.mu.Lock()
	defer o.mu.Unlock()
	return first(o.events, limit), nil
}

// PendingAfter returns the events behind one of them.
func (o *Outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	if err := alive(ctx); err != nil {
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
	pending := make([]event.Event, 0, min(max(limit, 0), len(events)))
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
	o.aside = append(o.aside, event.Aside{Event: o.events[i], Reason: strings.ToValidUTF8(reason, "")})
	o.events = slices.Delete(o.events, i, i+1)
	return nil
}

// Asides returns what was set aside.
func (o *Outbox) Asides() *Asides { return &Asides{o} }

// List returns events without their data.
func (a *Asides) List(ctx context.Context, f event.Filter) ([]event.Aside, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	list := []event.Aside{}
	for _, x := range a.of.aside {
		is := func(want, got string) bool { return want == "" || want == got }
		if x.Event.ID > f.After && is(f.Topic, x.Event.Topic) && is(f.Type, x.Event.Type) && is(f.Key, x.Event.Key) {
			x.Event.Data = nil
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(x, y event.Aside) int { return strings.Compare(x.Event.ID, y.Event.ID) })
	return list[:min(len(list), f.Limit)], nil
}

// Get returns an event.
func (a *Asides) Get(ctx context.Context, id string) (event.Aside, error) {
	if err := alive(ctx); err != nil {
		return event.Aside{}, err
	}
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	i := a.at(id)
	if i < 0 {
		return event.Aside{}, event.ErrNotAside
	}
	x := a.of.aside[i]
	x.Event = cloneEvent(x.Event)
	return x, nil
}

// Replay puts an event back into the outbox.
func (a *Asides) Replay(ctx context.Context, id string) error { return a.take(ctx, id, true) }

// Discard forgets an event.
func (a *Asides) Discard(ctx context.Context, id string) error { return a.take(ctx, id, false) }

func (a *Asides) take(ctx context.Context, id string, again bool) error {
	if err := alive(ctx); err != nil {
		return err
	}
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	i := a.at(id)
	if i < 0 {
		return event.ErrNotAside
	}
	if again {
		a.of.events = append(a.of.events, a.of.aside[i].Event)
	}
	a.of.aside = slices.Delete(a.of.aside, i, i+1)
	return nil
}

// at returns the place of an event, -1 if it is not there. The caller holds mu.
func (a *Asides) at(id string) int {
	return slices.IndexFunc(a.of.aside, func(x event.Aside) bool { return x.Event.ID == id })
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
