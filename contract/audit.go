package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/fault"
)

const (
	auditAppend   = "Append stores e durably, with every field as it is."
	auditOnce     = "Append returns an error of kind Conflict if an entry with e.ID exists, which stays as it is."
	auditSettle   = "Settle stores durably how an entry ended, unless that is stored already: the first outcome stays, and a later one is no error."
	auditNothing  = "Settle changes nothing else."
	auditAbsent   = "Settle returns ErrNotFound if there is no such entry."
	auditNewest   = "List returns the newest entries, descending by the bytes of their IDs."
	auditBefore   = "With before, List returns those whose IDs are less, whether or not there is such an entry."
	auditLimit    = "List returns at most limit entries: none if limit is below 1."
	auditDeletes  = "DeleteExpired removes entries whose At is before the given time, settled or not, and returns how many."
	auditStays    = "What is of that very time, or later, stays."
	auditExactIDs = "Two IDs are the same only if they have the same bytes."
)

// AuditLog checks audit.Log.
func AuditLog() []Case[audit.Log] {
	return suite("AuditLog", []promise[audit.Log]{
		{"an entry is kept as it is", auditAppend + " Every time is UTC, to the microsecond.", auditKept},
		{"long and foreign values are kept", auditAppend, auditLong},
		{"an entry is not overwritten", auditOnce, auditTaken},
		{"one of several entries with an id is kept", "It may be called from many goroutines. " + auditOnce, auditAppendRace},
		{"how an action ended is stored", auditSettle + " " + auditNothing, auditSettled},
		{"the first outcome stays", auditSettle, auditFirst},
		{"one of several outcomes stays", "It may be called from many goroutines. " + auditSettle, auditSettleRace},
		{"what is not there does not end", auditAbsent, auditNotThere},
		{"the newest come first, in pages", auditNewest + " " + auditLimit, auditPages},
		{"a page begins before an entry that is not there", auditBefore, auditGap},
		{"ids are exact", auditExactIDs + " " + auditNewest, auditExact},
		{"old entries go, and no others", auditDeletes + " " + auditStays, auditExpired},
		{"a context that has ended is an error", auditAppend, auditContext},
	})
}

// action is an entry that is not settled.
func action(n int) audit.Entry {
	return audit.Entry{
		ID: fmt.Sprintf("entry-%02d", n), At: at(n), Actor: fmt.Sprintf("token:%d:3f2a9c1d", n), Action: "change-user", Target: fmt.Sprintf("user-%02d", n),
		Detail: `{"disabled":true,  "ü":"\u0022"}`, Network: "192.0.2.0/24",
	}
}

// putDown appends entries.
func putDown(ctx context.Context, p audit.Log, entries ...audit.Entry) error {
	for _, e := range entries {
		if err := p.Append(ctx, e); err != nil {
			return during(fmt.Sprintf("Append(%q)", e.ID), err)
		}
	}
	return nil
}

// wantEntries wants these entries to be a page.
func wantEntries(ctx context.Context, p audit.Log, before string, limit int, want ...audit.Entry) error {
	got, err := p.List(ctx, before, limit)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("List(%q, %d)", before, limit), err)
}

func auditKept(ctx context.Context, p audit.Log) error {
	bare, settled := audit.Entry{ID: "entry-03", At: at(9)}, action(2)
	settled.Outcome = "done"
	return first(
		func() error { return wantEntries(ctx, p, "", 9) },
		func() error { return putDown(ctx, p, action(1), settled, bare) },
		func() error { return wantEntries(ctx, p, "", 9, bare, settled, action(1)) },
	)
}

func auditLong(ctx context.Context, p audit.Log) error {
	e := audit.Entry{
		ID: long(audit.MaxID), At: at(1), Actor: long(audit.MaxActor), Action: long(audit.MaxAction), Target: long(audit.MaxTarget),
		Detail: long(audit.MaxDetail), Network: long(audit.MaxNetwork), Outcome: long(audit.MaxOutcome),
	}
	other := action(1)
	return first(
		func() error { return putDown(ctx, p, e, other) },
		func() error { return p.Settle(ctx, other.ID, long(audit.MaxOutcome)) },
		func() error { other.Outcome = long(audit.MaxOutcome); return wantEntries(ctx, p, "", 9, e, other) },
	)
}

func auditTaken(ctx context.Context, p audit.Log) error {
	again := action(1)
	again.Actor, again.Outcome = "somebody else", "done"
	return first(
		func() error { return putDown(ctx, p, action(1)) },
		func() error { return wantIs("Append of a taken ID", p.Append(ctx, again), fault.Conflict) },
		func() error { return wantEntries(ctx, p, "", 9, action(1)) },
	)
}

func auditAppendRace(ctx context.Context, p audit.Log) error {
	const n = 8
	failures := make([]error, n)
	err := allTogether(n, func(i int) error {
		e := action(1)
		e.Actor = fmt.Sprintf("actor-%d", i)
		failures[i] = p.Append(ctx, e)
		return putDown(ctx, p, action(10+i))
	})
	if err != nil {
		return err
	}
	won := -1
	for i, err := range failures {
		switch {
		case err == nil && won >= 0:
			return errors.New("two calls with one ID have succeeded")
		case err == nil:
			won = i
		case !errors.Is(err, fault.Conflict):
			return during("Append of a taken ID", err)
		}
	}
	got, err := p.List(ctx, "", 100)
	if err != nil {
		return during("List", err)
	}
	if won < 0 || len(got) != n+1 || got[n].Actor != fmt.Sprintf("actor-%d", won) {
		return fmt.Errorf("there are %+v after call %d has succeeded", got, won)
	}
	return nil
}

func auditSettled(ctx context.Context, p audit.Log) error {
	done := action(2)
	done.Outcome = "refused 409"
	return first(
		func() error { return putDown(ctx, p, action(1), action(2), action(3)) },
		func() error { return during("Settle", p.Settle(ctx, done.ID, done.Outcome)) },
		func() error { return wantEntries(ctx, p, "", 9, action(3), done, action(1)) },
	)
}

func auditFirst(ctx context.Context, p audit.Log) error {
	done := action(1)
	done.Outcome = "done"
	return first(
		func() error { return putDown(ctx, p, action(1)) },
		func() error { return during("Settle", p.Settle(ctx, done.ID, "done")) },
		func() error { return during("Settle again", p.Settle(ctx, done.ID, "done")) },
		func() error { return during("Settle again", p.Settle(ctx, done.ID, "failed 503")) },
		func() error { return wantEntries(ctx, p, "", 9, done) },
	)
}

func auditSettleRace(ctx context.Context, p audit.Log) error {
	if err := putDown(ctx, p, action(1)); err != nil {
		return err
	}
	err := allTogether(8, func(i int) error {
		return during("Settle", p.Settle(ctx, action(1).ID, fmt.Sprintf("outcome-%d", i)))
	})
	if err != nil {
		return err
	}
	before, err := p.List(ctx, "", 9)
	if err != nil {
		return during("List", err)
	}
	if len(before) != 1 || !strings.HasPrefix(before[0].Outcome, "outcome-") {
		return fmt.Errorf("there are %+v, want one that has ended", before)
	}
	return first(
		func() error { return during("Settle", p.Settle(ctx, action(1).ID, "another one")) },
		func() error { return wantEntries(ctx, p, "", 9, before...) },
	)
}

func auditNotThere(ctx context.Context, p audit.Log) error {
	return first(
		func() error { return putDown(ctx, p, action(1)) },
		func() error { return wantIs("Settle", p.Settle(ctx, "nothing", "done"), audit.ErrNotFound) },
		func() error { return wantEntries(ctx, p, "", 9, action(1)) },
	)
}

func auditPages(ctx context.Context, p audit.Log) error {
	var all []audit.Entry
	for n := range 7 {
		all = append(all, action(n))
	}
	if err := putDown(ctx, p, all...); err != nil {
		return err
	}
	slices.Reverse(all)
	page := func(before string, limit int, want ...audit.Entry) func() error {
		return func() error { return wantEntries(ctx, p, before, limit, want...) }
	}
	return first(
		page("", 3, all[:3]...), page(all[2].ID, 3, all[3:6]...), page(all[5].ID, 3, all[6]), page(all[6].ID, 3),
		page("", 7, all...), page("", 1000, all...), page("", 0), page("", -1),
	)
}

func auditGap(ctx context.Context, p audit.Log) error {
	return first(
		func() error { return putDown(ctx, p, action(1), action(3)) },
		func() error { return wantEntries(ctx, p, "entry-02", 9, action(1)) },
		func() error { return wantEntries(ctx, p, "z", 9, action(3), action(1)) },
		func() error { return wantEntries(ctx, p, "a", 9) },
	)
}

func auditExact(ctx context.Context, p audit.Log) error {
	var want []audit.Entry
	for i, name := range names {
		e := action(i)
		e.ID = name
		if err := putDown(ctx, p, e); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := during(fmt.Sprintf("Settle(%q)", name), p.Settle(ctx, name, "done")); err != nil {
				return err
			}
			e.Outcome = "done"
		}
		want = append(want, e)
	}
	slices.SortFunc(want, func(a, b audit.Entry) int { return strings.Compare(b.ID, a.ID) })
	return wantEntries(ctx, p, "", len(want)+1, want...)
}

func auditExpired(ctx context.Context, p audit.Log) error {
	all := []audit.Entry{action(4), action(1), action(3), action(2)}
	removed := func(n, want int) func() error {
		return func() error {
			got, err := p.DeleteExpired(ctx, at(n))
			if err == nil && got != want {
				err = fmt.Errorf("it says %d, want %d", got, want)
			}
			return during("DeleteExpired", err)
		}
	}
	return first(
		func() error { return putDown(ctx, p, all...) },
		func() error { return during("Settle", p.Settle(ctx, action(2).ID, "done")) },
		removed(3, 2), removed(3, 0),
		func() error { return wantEntries(ctx, p, "", 9, action(4), action(3)) },
		removed(9, 2),
		func() error { return wantEntries(ctx, p, "", 9) },
	)
}

func auditContext(ctx context.Context, p audit.Log) error {
	if err := putDown(ctx, p, action(1)); err != nil {
		return err
	}
	gone := ended(ctx)
	for name, do := range map[string]func() error{
		"Append":        func() error { return p.Append(gone, action(2)) },
		"Settle":        func() error { return p.Settle(gone, action(1).ID, "done") },
		"List":          func() error { return second(p.List(gone, "", 9)) },
		"DeleteExpired": func() error { return second(p.DeleteExpired(gone, at(0))) },
	} {
		if do() == nil {
			return errors.New(name + " succeeded although its context had ended")
		}
	}
	return wantEntries(ctx, p, "", 9, action(1))
}
