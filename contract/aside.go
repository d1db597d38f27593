package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// SetAside is the port of [Asides]: a repository, the outbox that gets its events, and what is set aside in it.
type SetAside struct {
	Repository user.Repository
	Outbox     event.Outbox
	Asides     event.Asides
}

// Asides checks event.Asides. Events are set aside by an event.Outbox, which gets them from a repository.
func Asides() []Case[SetAside] {
	return suite("Asides", []promise[SetAside]{
		{"events are listed ascending by ID", "List returns events that are set aside and that f chooses, ascending by ID.", asidesOrder},
		{"a list has at most limit events", "List returns at most f.Limit events.", asidesLimit},
		{"a limit out of range is refused", "List returns ErrFilterInvalid if f.Limit is not 1 to 1,000.", asidesNoLimit},
		{"page by page, every event comes once", "After is the ID of the last event of the page before; empty for the first page.", asidesPages},
		{"an event that is gone still marks its place", "An event that is gone meanwhile still marks its place.", asidesGone},
		{"topic, type and key choose", "Topic, Type and Key choose by equality; empty means any.", asidesFilter},
		{"a list is without data", "List leaves out their Data, which may be large.", asidesWithoutData},
		{"an event is whole, with its reason", "Get returns an event that is set aside, with every field as it was committed, and the last reason.", asidesWhole},
		{"what is not set aside is not found", "Get returns ErrNotAside if no event with this ID is set aside. Replay returns ErrNotAside, and changes nothing, if no event with this ID is set aside. Discard returns ErrNotAside, and changes nothing, if no event with this ID is set aside.", asidesAbsent},
		{"a replayed event is pending", "Replay makes an event that is set aside pending again, with every field as it was committed, behind those that are pending.", asidesReplay},
		{"a replayed event is not set aside", "It is set aside no longer, until the relay sets it aside again.", asidesReplayed},
		{"a replayed event can be published", "Published marks events as taken over by the bus: Pending does not return them again.", asidesPublished},
		{"a replayed event has its place", "PendingAfter is Pending, and begins behind the event with the given ID.", asidesPlace},
		{"a replayed event can be set aside again", "It is set aside no longer, until the relay sets it aside again. Get returns an event that is set aside, with every field as it was committed, and the last reason.", asidesAgain},
		{"concurrent replays are one", "Replay returns ErrNotAside, and changes nothing, if no event with this ID is set aside.", asidesReplayRace},
		{"a discarded event is gone", "Discard removes an event that is set aside.", asidesDiscard},
		{"concurrent discards are one", "Discard returns ErrNotAside, and changes nothing, if no event with this ID is set aside.", asidesDiscardRace},
		{"a discard and a replay at once are one", "Replay returns ErrNotAside, and changes nothing, if no event with this ID is set aside. Discard returns ErrNotAside, and changes nothing, if no event with this ID is set aside.", asidesRace},
		{"events that are set aside are copies", "Changing what was returned changes nothing stored.", asidesCopies},
	})
}

// whyAside is the reason of event n.
func whyAside(n int) string { return fmt.Sprintf("it is too large: %d bytes", n) }

// putAside commits events and sets them aside, in the order given.
func putAside(ctx context.Context, p SetAside, events ...event.Event) error {
	if err := create(ctx, Users{p.Repository, p.Outbox}, someone(len(events)), events...); err != nil {
		return err
	}
	for i, e := range events {
		if err := during(fmt.Sprintf("SetAside(%q)", e.ID), p.Outbox.SetAside(ctx, e.ID, whyAside(i))); err != nil {
			return err
		}
	}
	return nil
}

// numbers are the events with these numbers.
func numbers(ns ...int) []event.Event {
	events := make([]event.Event, len(ns))
	for i, n := range ns {
		events[i] = happened(n)
	}
	return events
}

// wantAsides wants a list to be of the events with these numbers.
func wantAsides(ctx context.Context, p SetAside, f event.Filter, want ...int) error {
	got, err := p.Asides.List(ctx, f)
	ids, wantIDs := []string{}, []string{}
	for _, a := range got {
		ids = append(ids, a.Event.ID)
	}
	for _, n := range want {
		wantIDs = append(wantIDs, happened(n).ID)
	}
	if err == nil {
		err = same(ids, wantIDs)
	}
	return during(fmt.Sprintf("List(%+v)", f), err)
}

// wantAside wants an event to be set aside, for a reason.
func wantAside(ctx context.Context, p SetAside, e event.Event, reason string) error {
	got, err := p.Asides.Get(ctx, e.ID)
	if err == nil {
		err = same(got, event.Aside{Event: e, Reason: reason})
	}
	return during(fmt.Sprintf("Get(%q)", e.ID), err)
}

// wantNotAside wants no event with the ID to be set aside.
func wantNotAside(ctx context.Context, p SetAside, id string) error {
	_, err := p.Asides.Get(ctx, id)
	return wantIs(fmt.Sprintf("Get(%q)", id), err, event.ErrNotAside)
}

func asidesOrder(ctx context.Context, p SetAside) error {
	return first(
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}) },
		func() error { return putAside(ctx, p, numbers(4, 1, 3)...) },
		func() error { return create(ctx, Users{p.Repository, p.Outbox}, someone(9), happened(2)) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 1, 3, 4) },
	)
}

func asidesLimit(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(3, 1, 2)...) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 1}, 1) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 2}, 1, 2) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 3}, 1, 2, 3) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 1000}, 1, 2, 3) },
	)
}

func asidesNoLimit(ctx context.Context, p SetAside) error {
	if err := putAside(ctx, p, happened(1)); err != nil {
		return err
	}
	for _, limit := range []int{0, -1, 1001} {
		_, err := p.Asides.List(ctx, event.Filter{Limit: limit})
		if err := wantIs(fmt.Sprintf("List with the limit %d", limit), err, event.ErrFilterInvalid); err != nil {
			return err
		}
	}
	return wantAsides(ctx, p, event.Filter{Limit: 1000}, 1)
}

func asidesPages(ctx context.Context, p SetAside) error {
	const n = 11
	var events []event.Event
	var want []string
	for i := range n {
		events = append(events, happened((i*7)%n)) // every number once, not in order
		want = append(want, happened(i).ID)
	}
	if err := putAside(ctx, p, events...); err != nil {
		return err
	}
	var got []string
	f := event.Filter{Limit: 3}
	for range n {
		page, err := p.Asides.List(ctx, f)
		if err != nil {
			return during("List", err)
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.Event.ID)
		}
		f.After = got[len(got)-1]
	}
	return during("all pages", same(got, want))
}

func asidesGone(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2, 3, 4)...) },
		func() error { return during("Discard", p.Asides.Discard(ctx, happened(2).ID)) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(3).ID)) },
		func() error { return wantAsides(ctx, p, event.Filter{After: happened(1).ID, Limit: 10}, 4) },
		func() error { return wantAsides(ctx, p, event.Filter{After: happened(2).ID, Limit: 1}, 4) },
		func() error { return wantAsides(ctx, p, event.Filter{After: happened(3).ID, Limit: 10}, 4) },
		func() error { return wantAsides(ctx, p, event.Filter{After: happened(4).ID, Limit: 10}) },
	)
}

func asidesFilter(ctx context.Context, p SetAside) error {
	events := numbers(1, 2, 3, 4, 5)
	events[1].Topic, events[3].Topic = "session", "session"
	events[2].Type, events[3].Type = "user.changed", "user.changed"
	events[4].Key = ""
	key := events[1].Key
	return first(
		func() error { return putAside(ctx, p, events...) },
		func() error { return wantAsides(ctx, p, event.Filter{Topic: "session", Limit: 10}, 2, 4) },
		func() error { return wantAsides(ctx, p, event.Filter{Type: "user.changed", Limit: 10}, 3, 4) },
		func() error { return wantAsides(ctx, p, event.Filter{Key: key, Limit: 10}, 2) },
		func() error {
			return wantAsides(ctx, p, event.Filter{Topic: "session", Type: "user.changed", Limit: 10}, 4)
		},
		func() error {
			return wantAsides(ctx, p, event.Filter{Topic: "mail", After: happened(1).ID, Limit: 1}, 3)
		},
		func() error { return wantAsides(ctx, p, event.Filter{Key: key, Topic: "mail", Limit: 10}) },
		func() error { return wantAsides(ctx, p, event.Filter{Topic: "mai_", Limit: 10}) },
		func() error { return wantAsides(ctx, p, event.Filter{Type: "USER.CHANGED", Limit: 10}) },
		func() error { return wantAsides(ctx, p, event.Filter{Key: "nobody", Limit: 10}) },
	)
}

func asidesWithoutData(ctx context.Context, p SetAside) error {
	if err := putAside(ctx, p, numbers(1, 2)...); err != nil {
		return err
	}
	want := []event.Aside{{Event: happened(1), Reason: whyAside(0)}, {Event: happened(2), Reason: whyAside(1)}}
	for i := range want {
		want[i].Event.Data = nil
	}
	got, err := p.Asides.List(ctx, event.Filter{Limit: 10})
	if err == nil {
		err = same(got, want)
	}
	return during("List", err)
}

func asidesWhole(ctx context.Context, p SetAside) error {
	e := event.Event{
		ID: "Event-ü-1", Topic: "mail", Type: "user.created", Key: "", Time: at(3),
		Data: append(append([]byte(`{"text":"`), long(20_000)...), `","n":1.50, "e":{}}`...),
	}
	return first(
		func() error { return putAside(ctx, p, e, happened(2)) },
		func() error { return wantAside(ctx, p, e, whyAside(0)) },
		func() error { return wantAside(ctx, p, happened(2), whyAside(1)) },
	)
}

func asidesAbsent(ctx context.Context, p SetAside) error {
	if err := create(ctx, Users{p.Repository, p.Outbox}, someone(1), happened(1)); err != nil {
		return err
	}
	for what, id := range map[string]string{"an unknown event": "unknown", "an event that is pending": happened(1).ID} {
		if err := first(
			func() error { return wantNotAside(ctx, p, id) },
			func() error { return wantIs("Replay of "+what, p.Asides.Replay(ctx, id), event.ErrNotAside) },
			func() error { return wantIs("Discard of "+what, p.Asides.Discard(ctx, id), event.ErrNotAside) },
		); err != nil {
			return err
		}
	}
	return wantPending(ctx, p.Outbox, happened(1))
}

func asidesReplay(ctx context.Context, p SetAside) error {
	e := happened(1)
	e.Key, e.Data = "", append(append([]byte(`{"text":"`), long(20_000)...), `"}`...)
	return first(
		func() error { return putAside(ctx, p, e, happened(2)) },
		func() error {
			return create(ctx, Users{p.Repository, p.Outbox}, someone(9), happened(5), happened(4))
		},
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(2).ID)) },
		func() error { return during("Replay", p.Asides.Replay(ctx, e.ID)) },
		func() error { return create(ctx, Users{p.Repository, p.Outbox}, someone(10), happened(3)) },
		func() error {
			return wantPending(ctx, p.Outbox, happened(5), happened(4), happened(2), e, happened(3))
		},
	)
}

func asidesReplayed(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2, 3)...) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(2).ID)) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 1, 3) },
		func() error { return wantNotAside(ctx, p, happened(2).ID) },
		func() error {
			return wantIs("Replay of a replayed event", p.Asides.Replay(ctx, happened(2).ID), event.ErrNotAside)
		},
		func() error {
			return wantIs("Discard of a replayed event", p.Asides.Discard(ctx, happened(2).ID), event.ErrNotAside)
		},
		func() error { return wantPending(ctx, p.Outbox, happened(2)) },
	)
}

func asidesPublished(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2, 3)...) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(1).ID)) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(2).ID)) },
		func() error { return during("Published", p.Outbox.Published(ctx, happened(1).ID, happened(3).ID)) },
		func() error { return wantPending(ctx, p.Outbox, happened(2)) },
		func() error { return wantNotAside(ctx, p, happened(1).ID) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 3) },
	)
}

func asidesPlace(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2)...) },
		func() error { return create(ctx, Users{p.Repository, p.Outbox}, someone(9), happened(3)) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(1).ID)) },
		func() error { return create(ctx, Users{p.Repository, p.Outbox}, someone(10), happened(4)) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(2).ID)) },
		func() error {
			return wantAfter(ctx, p.Outbox, happened(3).ID, 10, happened(1), happened(4), happened(2))
		},
		func() error { return wantAfter(ctx, p.Outbox, happened(1).ID, 1, happened(4)) },
		func() error { return wantAfter(ctx, p.Outbox, happened(4).ID, 10, happened(2)) },
		func() error { return wantAfter(ctx, p.Outbox, happened(2).ID, 10) },
	)
}

func asidesAgain(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2)...) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(1).ID)) },
		func() error {
			return during("SetAside of a replayed event", p.Outbox.SetAside(ctx, happened(1).ID, "still too large"))
		},
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return wantAside(ctx, p, happened(1), "still too large") },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 1, 2) },
		func() error { return during("Replay once more", p.Asides.Replay(ctx, happened(1).ID)) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 2) },
	)
}

func asidesReplayRace(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2)...) },
		func() error {
			return oneWins("Replay", event.ErrNotAside, together(8, func(int) error { return p.Asides.Replay(ctx, happened(1).ID) }))
		},
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}

func asidesDiscard(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2)...) },
		func() error { return during("Discard", p.Asides.Discard(ctx, happened(1).ID)) },
		func() error { return wantNotAside(ctx, p, happened(1).ID) },
		func() error {
			return wantIs("Discard of a discarded event", p.Asides.Discard(ctx, happened(1).ID), event.ErrNotAside)
		},
		func() error {
			return wantIs("Replay of a discarded event", p.Asides.Replay(ctx, happened(1).ID), event.ErrNotAside)
		},
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 2) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func asidesDiscardRace(ctx context.Context, p SetAside) error {
	return first(
		func() error { return putAside(ctx, p, numbers(1, 2)...) },
		func() error {
			return oneWins("Discard", event.ErrNotAside, together(8, func(int) error { return p.Asides.Discard(ctx, happened(1).ID) }))
		},
		func() error { return wantAsides(ctx, p, event.Filter{Limit: 10}, 2) },
	)
}

func asidesRace(ctx context.Context, p SetAside) error {
	const n = 6
	for i := range n {
		if err := create(ctx, Users{p.Repository, p.Outbox}, someone(i), happened(i)); err != nil {
			return err
		}
		if err := during("SetAside", p.Outbox.SetAside(ctx, happened(i).ID, "reason")); err != nil {
			return err
		}
		results := together(2, func(which int) error {
			if which == 0 {
				return p.Asides.Replay(ctx, happened(i).ID)
			}
			return p.Asides.Discard(ctx, happened(i).ID)
		})
		if err := oneWins("Replay or Discard", event.ErrNotAside, slices.Clone(results)); err != nil {
			return err
		}
		var want []event.Event
		if results[0] == nil {
			want = numbers(i)
		}
		if err := wantPending(ctx, p.Outbox, want...); err != nil {
			return err
		}
		if err := during("Published", p.Outbox.Published(ctx, happened(i).ID)); err != nil {
			return err
		}
	}
	return nil
}

func asidesCopies(ctx context.Context, p SetAside) error {
	if err := putAside(ctx, p, happened(1)); err != nil {
		return err
	}
	got, err := p.Asides.Get(ctx, happened(1).ID)
	if err != nil || len(got.Event.Data) == 0 {
		return errors.Join(errors.New("the port's Get returned no data"), err)
	}
	got.Event.Data[0] = '!'
	return first(
		func() error { return wantAside(ctx, p, happened(1), whyAside(0)) },
		func() error { return during("Replay", p.Asides.Replay(ctx, happened(1).ID)) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}
