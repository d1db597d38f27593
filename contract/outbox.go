package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// Outbox checks event.Outbox. Repositories write it, so its port has one.
func Outbox() []Case[Users] {
	return suite("Outbox", []promise[Users]{
		{"an empty outbox has nothing pending", "It returns an empty slice when there are none.", outboxEmpty},
		{"pending events are whole", "An event comes with every field as it was committed, Time in UTC, to the microsecond.", outboxWhole},
		{"pending events come in the order of commit", "Pending returns events in the order in which they were committed, oldest first.", outboxOrder},
		{"pending returns at most limit", "Pending returns at most limit events: none if limit is below 1.", outboxLimit},
		{"pending takes nothing away", "It takes nothing away: the same events come again until they are marked as published.", outboxAgain},
		{"published events are not pending", "Published marks events as taken over by the bus: Pending does not return them again.", outboxPublished},
		{"published page by page, every event comes once", "Pending returns events in the order in which they were committed, oldest first. Pending returns at most limit events: none if limit is below 1.", outboxPages},
		{"unknown and repeated marks are ignored", "An unknown ID, or one that was marked before, is ignored.", outboxUnknown},
		{"concurrent commits and marks lose nothing", "It may be called from many goroutines.", outboxConcurrent},
		{"pending after an event begins behind it", "PendingAfter is Pending, and begins behind the event with the given ID.", outboxAfter},
		{"pending after an event shows later events of earlier changes' things", "PendingAfter is Pending, and begins behind the event with the given ID.", outboxAfterChanges},
		{"pending after what is not pending begins at the oldest", "If that event is not pending, or not known, it begins at the oldest.", outboxAfterUnknown},
		{"looked past page by page, every event comes once", "PendingAfter is Pending, and begins behind the event with the given ID.", outboxAfterPages},
		{"what is set aside is not pending", "Pending does not return an event that was set aside.", outboxSetAside},
		{"setting aside what is not there is ignored", "An unknown ID, or one that was set aside before, is ignored.", outboxSetAsideUnknown},
		{"any reason can be kept", "A reason that is too long is cut.", outboxSetAsideReason},
		{"pending events are copies", "Changing what was given or returned changes nothing stored.", outboxCopies},
	})
}

func commit(ctx context.Context, p Users, from, to int) error {
	for n := from; n < to; n++ {
		if err := create(ctx, p, someone(n), happened(n)); err != nil {
			return err
		}
	}
	return nil
}

func happenings(from, to int) []event.Event {
	var events []event.Event
	for n := from; n < to; n++ {
		events = append(events, happened(n))
	}
	return events
}

func outboxEmpty(ctx context.Context, p Users) error {
	return first(
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return create(ctx, p, someone(1)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func outboxWhole(ctx context.Context, p Users) error {
	e := event.Event{
		ID: "Event-ü-1", Topic: "mail", Type: "user.created", Key: "", Time: at(3),
		Data: append(append([]byte(`{"text":"`), long(20_000)...), `","n":1.50, "e":{}}`...),
	}
	return first(
		func() error { return create(ctx, p, someone(1), e, happened(2)) },
		func() error { return wantPending(ctx, p.Outbox, e, happened(2)) },
	)
}

func outboxOrder(ctx context.Context, p Users) error {
	// Neither identifiers nor times ascend: only the commits do.
	var want []event.Event
	for i, n := range []int{50, 3, 99, 7, 1, 60} {
		if err := create(ctx, p, someone(i), happened(n), happened(n+100)); err != nil {
			return err
		}
		want = append(want, happened(n), happened(n+100))
	}
	_, err := p.Repository.Update(ctx, someone(0).ID, func(u *user.User) error { u.FullName = "Changed"; return nil }, happened(0))
	return then(during("Update", err), func() error { return wantPending(ctx, p.Outbox, append(want, happened(0))...) })
}

func outboxLimit(ctx context.Context, p Users) error {
	if err := commit(ctx, p, 0, 5); err != nil {
		return err
	}
	for _, limit := range []int{-1, 0, 1, 4, 5, 6, 1000} {
		got, err := p.Outbox.Pending(ctx, limit)
		if err == nil {
			err = same(got, happenings(0, max(0, min(limit, 5))))
		}
		if err != nil {
			return fmt.Errorf("Pending with limit %d: %w", limit, err)
		}
	}
	return nil
}

func outboxAgain(ctx context.Context, p Users) error {
	if err := commit(ctx, p, 0, 3); err != nil {
		return err
	}
	for range 3 {
		if err := wantPending(ctx, p.Outbox, happenings(0, 3)...); err != nil {
			return err
		}
	}
	return nil
}

func outboxPublished(ctx context.Context, p Users) error {
	return first(
		func() error { return commit(ctx, p, 0, 5) },
		func() error { return during("Published", p.Outbox.Published(ctx, happened(0).ID, happened(3).ID)) },
		func() error { return wantPending(ctx, p.Outbox, happened(1), happened(2), happened(4)) },
		func() error { return commit(ctx, p, 5, 6) },
		func() error {
			return during("Published", p.Outbox.Published(ctx, happened(4).ID, happened(2).ID, happened(1).ID))
		},
		func() error { return wantPending(ctx, p.Outbox, happened(5)) },
	)
}

func outboxPages(ctx context.Context, p Users) error {
	const n = 25
	if err := commit(ctx, p, 0, n); err != nil {
		return err
	}
	var all []event.Event
	for range n {
		page, err := p.Outbox.Pending(ctx, 4)
		if err != nil {
			return during("Pending", err)
		}
		if len(page) == 0 {
			break
		}
		var ids []string
		for _, e := range page {
			ids = append(ids, e.ID)
		}
		if err := p.Outbox.Published(ctx, ids...); err != nil {
			return during("Published", err)
		}
		all = append(all, page...)
	}
	return during("all pages", same(all, happenings(0, n)))
}

func outboxUnknown(ctx context.Context, p Users) error {
	return first(
		func() error { return during("Published of nothing", p.Outbox.Published(ctx)) },
		func() error { return during("Published of an unknown event", p.Outbox.Published(ctx, "unknown")) },
		func() error { return commit(ctx, p, 0, 2) },
		func() error {
			return during("Published", p.Outbox.Published(ctx, happened(0).ID, "unknown", happened(0).ID))
		},
		func() error { return during("Published again", p.Outbox.Published(ctx, happened(0).ID)) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}

func outboxConcurrent(ctx context.Context, p Users) error {
	const n = 24
	err := allTogether(n, func(i int) error {
		if err := create(ctx, p, someone(i), happened(i)); err != nil || i%2 == 0 {
			return err
		}
		return during("Published", p.Outbox.Published(ctx, happened(i).ID))
	})
	if err != nil {
		return err
	}
	got, err := p.Outbox.Pending(ctx, 2*n)
	if err != nil {
		return during("Pending", err)
	}
	slices.SortFunc(got, func(a, b event.Event) int { return a.Time.Compare(b.Time) })
	var want []event.Event
	for i := 0; i < n; i += 2 {
		want = append(want, happened(i))
	}
	return during("Pending, sorted", same(got, want))
}

func wantAfter(ctx context.Context, o event.Outbox, id string, limit int, want ...event.Event) error {
	got, err := o.PendingAfter(ctx, id, limit)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("PendingAfter(%q, %d)", id, limit), err)
}

func outboxAfter(ctx context.Context, p Users) error {
	const n = 10
	if err := commit(ctx, p, 0, n); err != nil {
		return err
	}
	for i := range n {
		for _, limit := range []int{1, 3, 100} {
			if err := wantAfter(ctx, p.Outbox, happened(i).ID, limit, happenings(i+1, min(i+1+limit, n))...); err != nil {
				return err
			}
		}
	}
	return first(
		func() error { return during("Published", p.Outbox.Published(ctx, happened(5).ID, happened(6).ID)) },
		func() error { return wantAfter(ctx, p.Outbox, happened(4).ID, 2, happened(7), happened(8)) },
		func() error { return wantPending(ctx, p.Outbox, append(happenings(0, 5), happenings(7, n)...)...) },
	)
}

func outboxAfterChanges(ctx context.Context, p Users) error {
	if err := first(
		func() error { return create(ctx, p, someone(0), happened(0), happened(1)) },
		func() error { return commit(ctx, p, 2, 6) },
	); err != nil {
		return err
	}
	for _, c := range []struct{ of, n int }{{0, 6}, {3, 7}, {0, 8}} {
		if _, err := p.Repository.Update(ctx, someone(c.of).ID, func(u *user.User) error { u.FullName = "Changed"; return nil }, happened(c.n)); err != nil {
			return during("Update", err)
		}
	}
	if err := commit(ctx, p, 9, 11); err != nil {
		return err
	}
	all := happenings(0, 11)
	for i := range all {
		for _, limit := range []int{1, 2, 100} {
			if err := wantAfter(ctx, p.Outbox, all[i].ID, limit, all[i+1:min(i+1+limit, len(all))]...); err != nil {
				return err
			}
		}
	}
	return nil
}

func outboxAfterUnknown(ctx context.Context, p Users) error {
	return first(
		func() error { return wantAfter(ctx, p.Outbox, "unknown", 3) },
		func() error { return commit(ctx, p, 0, 5) },
		func() error { return wantAfter(ctx, p.Outbox, "unknown", 3, happenings(0, 3)...) },
		func() error { return wantAfter(ctx, p.Outbox, "", 100, happenings(0, 5)...) },
		func() error { return during("Published", p.Outbox.Published(ctx, happened(3).ID)) },
		func() error { return wantAfter(ctx, p.Outbox, happened(3).ID, 2, happenings(0, 2)...) },
		func() error { return during("SetAside", p.Outbox.SetAside(ctx, happened(2).ID, "too large")) },
		func() error {
			return wantAfter(ctx, p.Outbox, happened(2).ID, 3, happened(0), happened(1), happened(4))
		},
	)
}

func outboxAfterPages(ctx context.Context, p Users) error {
	const n = 25
	if err := commit(ctx, p, 0, n); err != nil {
		return err
	}
	page, err := p.Outbox.Pending(ctx, 4)
	all := slices.Clone(page)
	for range n {
		if err != nil || len(page) == 0 {
			break
		}
		page, err = p.Outbox.PendingAfter(ctx, page[len(page)-1].ID, 4)
		all = append(all, page...)
	}
	return then(during("PendingAfter", err), func() error { return during("all pages", same(all, happenings(0, n))) })
}

func outboxSetAside(ctx context.Context, p Users) error {
	return first(
		func() error { return commit(ctx, p, 0, 5) },
		func() error { return during("SetAside", p.Outbox.SetAside(ctx, happened(2).ID, "it is too large")) },
		func() error { return wantPending(ctx, p.Outbox, happened(0), happened(1), happened(3), happened(4)) },
		func() error { return during("Published", p.Outbox.Published(ctx, happened(0).ID)) },
		func() error { return during("SetAside", p.Outbox.SetAside(ctx, happened(4).ID, "")) },
		func() error { return commit(ctx, p, 5, 6) },
		func() error { return wantPending(ctx, p.Outbox, happened(1), happened(3), happened(5)) },
	)
}

func outboxSetAsideUnknown(ctx context.Context, p Users) error {
	return first(
		func() error {
			return during("SetAside of an unknown event", p.Outbox.SetAside(ctx, "unknown", "reason"))
		},
		func() error { return commit(ctx, p, 0, 3) },
		func() error { return during("SetAside", p.Outbox.SetAside(ctx, happened(0).ID, "reason")) },
		func() error { return during("SetAside again", p.Outbox.SetAside(ctx, happened(0).ID, "reason")) },
		func() error {
			return during("SetAside of an unknown event", p.Outbox.SetAside(ctx, "unknown", "reason"))
		},
		func() error {
			return during("Published of what was set aside", p.Outbox.Published(ctx, happened(0).ID))
		},
		func() error { return wantPending(ctx, p.Outbox, happened(1), happened(2)) },
	)
}

func outboxSetAsideReason(ctx context.Context, p Users) error {
	reasons := []string{"", long(20_000), strings.Repeat("ü", 3000), "not UTF-8 \xff\xfe", "a NUL \x00 in it", "two\nlines"}
	if err := commit(ctx, p, 0, len(reasons)+1); err != nil {
		return err
	}
	for n, reason := range reasons {
		if err := p.Outbox.SetAside(ctx, happened(n).ID, reason); err != nil {
			return fmt.Errorf("the port's SetAside with the reason %.40q: %w", reason, err)
		}
	}
	return wantPending(ctx, p.Outbox, happened(len(reasons)))
}

func outboxCopies(ctx context.Context, p Users) error {
	given := happened(1)
	if err := create(ctx, p, someone(1), given); err != nil {
		return err
	}
	given.Data[0] = '!'
	got, err := p.Outbox.Pending(ctx, 1)
	if err == nil {
		err = same(got, happenings(1, 2))
	}
	if err != nil {
		return fmt.Errorf("Pending after the caller changed its own Data: %w", err)
	}
	got[0].Data[0] = '!'
	return during("after what Pending returned was changed", wantPending(ctx, p.Outbox, happened(1)))
}
