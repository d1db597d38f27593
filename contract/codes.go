package contract

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Codes is the port of [CodeStore]: a store, and the outbox that gets the events of what is stored.
type Codes struct {
	Store  auth.CodeStore
	Outbox event.Outbox
}

// CodeStore checks auth.CodeStore.
func CodeStore() []Case[Codes] {
	return suite("CodeStore", []promise[Codes]{
		{"a code is used once", "Use marks the code as used at the given time, durably, unless it was used before. Use returns the code as it was before the call. Every time is UTC, to the microsecond.", codesUse},
		{"an unknown code is unknown", "Use returns ErrCodeUnknown for an unknown hash.", codesUnknown},
		{"hashes are exact", "Two hashes are the same only if they have the same bytes.", codesExact},
		{"a taken hash is refused", "Put returns an error of kind Conflict if a code with c.Hash exists.", codesTaken},
		{"put stores its events", "Put puts events into the outbox in the commit that stores c: both are stored, or neither is.", codesEvents},
		{"a code that is removed leaves its events", "The events stay when the code goes, used or expired.", codesEventsStay},
		{"one of several uses wins", "Of any number of calls, exactly one gets the code with a zero UsedAt.", codesRace},
		{"an expired code is returned", "Use returns expired codes like others.", codesExpired},
		{"expired codes are removed", "DeleteExpired removes what expired before the given time and returns how many. What expires at that very time, or later, stays.", codesSweep},
		{"a user's codes are removed", "DeleteOf removes what is of the user, expired and used or not, and returns how many. What is of others stays. Removing nothing is no error.", codesErase},
	})
}

func code(n int) auth.Code {
	return auth.Code{Hash: fmt.Sprintf("hash/+Aa-%d", n), UserID: user.ID(fmt.Sprintf("user-%d", n)), CreatedAt: at(n), ExpiresAt: at(n + 1000)}
}

func put(ctx context.Context, p Codes, codes ...auth.Code) error {
	for _, c := range codes {
		if err := p.Store.Put(ctx, c); err != nil {
			return fmt.Errorf("Put(%q): %w", c.Hash, err)
		}
	}
	return nil
}

// use wants the code as it was before the call.
func use(ctx context.Context, p Codes, t time.Time, want auth.Code) error {
	got, err := p.Store.Use(ctx, want.Hash, t)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("Use(%q)", want.Hash), err)
}

func usedAt(c auth.Code, t time.Time) auth.Code { c.UsedAt = t; return c }

func codesUse(ctx context.Context, p Codes) error {
	return first(
		func() error { return put(ctx, p, code(1), code(2)) },
		func() error { return use(ctx, p, at(10), code(1)) },
		func() error { return during("used again", use(ctx, p, at(20), usedAt(code(1), at(10)))) },
		func() error { return during("used a third time", use(ctx, p, at(30), usedAt(code(1), at(10)))) },
		func() error { return use(ctx, p, at(40), code(2)) },
	)
}

func codesUnknown(ctx context.Context, p Codes) error {
	unknown := func() error {
		return wantIs("Use of an unknown hash", second(p.Store.Use(ctx, "unknown", at(1))), auth.ErrCodeUnknown)
	}
	return first(unknown, func() error { return put(ctx, p, code(1)) }, unknown)
}

func codesExact(ctx context.Context, p Codes) error {
	hashes := []string{"abc", "ABC", "Abc", "abc=", "a%c", "a_c"}
	for n, h := range hashes {
		c := code(n)
		c.Hash = h
		if err := put(ctx, p, c); err != nil {
			return err
		}
	}
	for n, h := range hashes {
		c := code(n)
		c.Hash = h
		if err := use(ctx, p, at(50), c); err != nil {
			return err
		}
	}
	_, err := p.Store.Use(ctx, "aBC", at(1))
	return wantIs("Use of an unknown hash", err, auth.ErrCodeUnknown)
}

func codesTaken(ctx context.Context, p Codes) error {
	other := code(2)
	other.Hash = code(1).Hash
	return first(
		func() error { return put(ctx, p, code(1)) },
		func() error { return wantIs("Put of a taken hash", p.Store.Put(ctx, other), fault.Conflict) },
		func() error { return use(ctx, p, at(10), code(1)) },
		func() error { return wantIs("Put of a used hash", p.Store.Put(ctx, other), fault.Conflict) },
		func() error { return use(ctx, p, at(20), usedAt(code(1), at(10))) },
	)
}

func codesEvents(ctx context.Context, p Codes) error {
	return first(
		func() error { return p.Store.Put(ctx, code(1), happened(3), happened(1)) },
		func() error { return p.Store.Put(ctx, code(2)) },
		func() error {
			return wantIs("Put of a taken hash", p.Store.Put(ctx, code(1), happened(2)), fault.Conflict)
		},
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(1)) },
		func() error { return use(ctx, p, at(10), code(1)) },
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(1)) },
		func() error { return p.Outbox.Published(ctx, happened(3).ID, happened(1).ID) },
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return use(ctx, p, at(20), usedAt(code(1), at(10))) },
		func() error { return use(ctx, p, at(20), code(2)) },
	)
}

func codesEventsStay(ctx context.Context, p Codes) error {
	if err := first(
		func() error { return p.Store.Put(ctx, code(1), happened(1)) },
		func() error { return sweep(ctx, p.Store, code(1).ExpiresAt.Add(time.Microsecond), 1) },
		func() error { return sweep(ctx, p.Store, code(1).ExpiresAt.Add(time.Microsecond), 0) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	); err != nil {
		return err
	}
	_, gone := p.Store.Use(ctx, code(1).Hash, at(1))
	return first(
		func() error { return wantIs("Use of a code that was removed", gone, auth.ErrCodeUnknown) },
		func() error { return p.Outbox.Published(ctx, happened(1).ID) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func codesRace(ctx context.Context, p Codes) error {
	if err := put(ctx, p, code(1)); err != nil {
		return err
	}
	used := errors.New("used already")
	return oneWins("Use", used, together(16, func(i int) error {
		c, err := p.Store.Use(ctx, code(1).Hash, at(10+i))
		if err == nil && !c.UsedAt.IsZero() {
			err = used
		}
		return err
	}))
}

func codesExpired(ctx context.Context, p Codes) error {
	c := code(1)
	c.CreatedAt, c.ExpiresAt = past, past.Add(time.Second)
	return first(
		func() error { return put(ctx, p, c) },
		func() error { return use(ctx, p, at(10), c) },
		func() error { return use(ctx, p, at(11), usedAt(c, at(10))) },
	)
}

func codesSweep(ctx context.Context, p Codes) error {
	if err := first(
		func() error { return put(ctx, p, code(1), code(2), code(3)) },
		func() error { return use(ctx, p, at(10), code(2)) },
		func() error { return use(ctx, p, at(10), code(3)) },
		func() error { return sweep(ctx, p.Store, code(1).ExpiresAt.Add(-time.Microsecond), 0) },
		func() error { return sweep(ctx, p.Store, code(2).ExpiresAt.Add(time.Microsecond), 2) },
		func() error { return sweep(ctx, p.Store, code(2).ExpiresAt.Add(time.Microsecond), 0) },
		func() error { return use(ctx, p, at(20), usedAt(code(3), at(10))) },
	); err != nil {
		return err
	}
	_, err := p.Store.Use(ctx, code(1).Hash, at(20))
	return wantIs("Use of a removed code", err, auth.ErrCodeUnknown)
}

func codesErase(ctx context.Context, p Codes) error {
	mine := code(2)
	mine.UserID = code(1).UserID
	return first(
		func() error { return put(ctx, p, code(1), mine, code(3)) },
		func() error { return use(ctx, p, at(10), mine) },
		func() error { return eraseOf(ctx, p.Store, "nobody", 0) },
		func() error { return eraseOf(ctx, p.Store, mine.UserID, 2) },
		func() error { return eraseOf(ctx, p.Store, mine.UserID, 0) },
		func() error {
			return wantIs("Use of a removed code", second(p.Store.Use(ctx, mine.Hash, at(20))), auth.ErrCodeUnknown)
		},
		func() error {
			return wantIs("Use of a removed code", second(p.Store.Use(ctx, code(1).Hash, at(20))), auth.ErrCodeUnknown)
		},
		func() error { return use(ctx, p, at(20), code(3)) },
	)
}
