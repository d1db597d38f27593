package testkit

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/core/event"
)

// FaultyPublisher puts faults before a publisher.
func FaultyPublisher(next event.Publisher, f *Faults) event.Publisher { return publisher{next, f} }

type publisher struct {
	next   event.Publisher
	faults *Faults
}

func (d publisher) Publish(ctx context.Context, events ...event.Event) error {
	return d.faults.do(ctx, "Publisher.Publish", func() error { return d.next.Publish(ctx, events...) })
}

// FaultySubscriber puts faults before a subscriber, and before the handlers that it calls.
func FaultySubscriber(next event.Subscriber, f *Faults) event.Subscriber { return subscriber{next, f} }

type subscriber struct {
	next   event.Subscriber
	faults *Faults
}

func (d subscriber) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	faulty := func(ctx context.Context, e event.Event) error {
		return d.faults.do(ctx, "Subscriber.Handle", func() error { return handle(ctx, e) })
	}
	return untilEnd(ctx, d.faults.do(ctx, "Subscriber.Subscribe", func() error { return d.next.Subscribe(ctx, topic, group, faulty, ready) }))
}

// untilEnd is the answer of a call that runs until ctx ends, which then is no error.
func untilEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// FaultyOutbox puts faults before an outbox.
func FaultyOutbox(next event.Outbox, f *Faults) event.Outbox { return outbox{next, f} }

type outbox struct {
	next   event.Outbox
	faults *Faults
}

func (d outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	return ask(ctx, d.faults, "Outbox.Pending", func() ([]event.Event, error) { return d.next.Pending(ctx, limit) })
}

func (d outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	return ask(ctx, d.faults, "Outbox.PendingAfter", func() ([]event.Event, error) { return d.next.PendingAfter(ctx, id, limit) })
}

func (d outbox) SetAside(ctx context.Context, id, reason string) error {
	return d.faults.do(ctx, "Outbox.SetAside", func() error { return d.next.SetAside(ctx, id, reason) })
}

func (d outbox) Published(ctx context.Context, ids ...string) error {
	return d.faults.do(ctx, "Outbox.Published", func() error { return d.next.Published(ctx, ids...) })
}

// FaultyAsides puts faults before what was set aside.
func FaultyAsides(next event.Asides, f *Faults) event.Asides { return asides{next, f} }

type asides struct {
	next   event.Asides
	faults *Faults
}

func (d asides) List(ctx context.Context, f event.Filter) ([]event.Aside, error) {
	return ask(ctx, d.faults, "Asides.List", func() ([]event.Aside, error) { return d.next.List(ctx, f) })
}

func (d asides) Get(ctx context.Context, id string) (event.Aside, error) {
	return ask(ctx, d.faults, "Asides.Get", func() (event.Aside, error) { return d.next.Get(ctx, id) })
}

func (d asides) Replay(ctx context.Context, id string) error {
	return d.faults.do(ctx, "Asides.Replay", func() error { return d.next.Replay(ctx, id) })
}

func (d asides) Discard(ctx context.Context, id string) error {
	return d.faults.do(ctx, "Asides.Discard", func() error { return d.next.Discard(ctx, id) })
}
