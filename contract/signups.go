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

// WaitingSignUps is the port of [SignUps]: a store, and the outbox that gets the events of what is
// stored.
type WaitingSignUps struct {
	Store  auth.SignUps
	Outbox event.Outbox
}

// SignUps checks auth.SignUps.
func SignUps() []Case[WaitingSignUps] {
	return suite("SignUps", []promise[WaitingSignUps]{
		{"a sign-up is read back", "Create stores w durably, with every field as it is. Every time is UTC, to the microsecond.", signUpsCreate},
		{"an unknown sign-up is not found", "ByID returns the sign-up, or ErrSignUpNotFound. Confirm returns the sign-up as it was before the call, or ErrSignUpNotFound.", signUpsAbsent},
		{"long and foreign values are kept", "It keeps every name and address that user.ParseFullName and user.ParseEmail let through.", signUpsLong},
		{"identifiers and addresses are exact", "Two IDs or addresses are the same only if they have the same bytes.", signUpsExact},
		{"a taken id is refused", "Create returns an error of kind Conflict if a sign-up with w.ID exists.", signUpsTaken},
		{"one of several creates wins", "Of several concurrent calls with one ID, exactly one succeeds.", signUpsCreateRace},
		{"an address has several, oldest first", "ByEmail returns the sign-ups of a canonical address, oldest first.", signUpsByEmail},
		{"the newest stay", "Of the sign-ups of w.Email that are not confirmed, the newest keep stay, w among them, and older ones are removed.", signUpsKeep},
		{"a sign-up of an older clock stays", "Of the sign-ups of w.Email that are not confirmed, the newest keep stay, w among them, and older ones are removed.", signUpsKeepItself},
		{"create stores its events", "Create puts events into the outbox in the commit that stores w: both are stored, or neither is.", signUpsEvents},
		{"a sign-up that is removed leaves its events", "The events stay when the sign-up goes.", signUpsEventsStay},
		{"a refused create stores no event", "Create puts events into the outbox in the commit that stores w: both are stored, or neither is.", signUpsNeither},
		{"a sign-up is confirmed once", "Confirm marks the sign-up as confirmed at the given time, durably, unless it was before. Confirm returns the sign-up as it was before the call, or ErrSignUpNotFound.", signUpsConfirm},
		{"one of several confirmations wins", "Of any number of calls, exactly one gets the sign-up with a zero ConfirmedAt.", signUpsConfirmRace},
		{"expired sign-ups are returned", "ByID returns expired and confirmed sign-ups like others. ByEmail returns expired and confirmed sign-ups like others. Confirm returns expired sign-ups like others.", signUpsExpired},
		{"expired sign-ups are removed", "DeleteExpired removes what expired before the given time and returns how many. What expires at that very time, or later, stays.", signUpsSweep},
		{"a user's sign-ups are removed", "DeleteOf removes what is of the user, expired and used or not, and returns how many. What is of others stays. Removing nothing is no error.", signUpsErase},
		{"an ended context stores nothing", "When ctx is done before the commit, nothing is stored and the error says so.", signUpsEnded},
	})
}

// manySignUps is a number of sign-ups to keep that no case reaches.
const manySignUps = 50

func signUp(n int) auth.WaitingSignUp {
	return auth.WaitingSignUp{
		ID: fmt.Sprintf("sign-up-%02d", n), UserID: user.ID(fmt.Sprintf("user-%02d", n)),
		FullName: fmt.Sprintf("Zoë Ångström %d 👋", n), Email: "zoe@example.com", PasswordHash: fmt.Sprintf("$hash$v=%d$Aa+/=", n),
		Network: "2001:db8::1", Language: "de-CH", CreatedAt: at(n), ExpiresAt: at(n + 1000),
	}
}

func wait(ctx context.Context, p WaitingSignUps, keep int, all ...auth.WaitingSignUp) error {
	for _, w := range all {
		if err := p.Store.Create(ctx, w, keep); err != nil {
			return fmt.Errorf("Create(%q): %w", w.ID, err)
		}
	}
	return nil
}

func wantSignUp(ctx context.Context, p WaitingSignUps, want auth.WaitingSignUp) error {
	got, err := p.Store.ByID(ctx, want.ID)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("ByID(%q)", want.ID), err)
}

func wantNoSignUp(ctx context.Context, p WaitingSignUps, id string) error {
	_, err := p.Store.ByID(ctx, id)
	return wantIs(fmt.Sprintf("ByID(%q)", id), err, auth.ErrSignUpNotFound)
}

func wantSignUps(ctx context.Context, p WaitingSignUps, email user.Email, want ...auth.WaitingSignUp) error {
	got, err := p.Store.ByEmail(ctx, email)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("ByEmail(%q)", email), err)
}

func confirm(ctx context.Context, p WaitingSignUps, t time.Time, want auth.WaitingSignUp) error {
	got, err := p.Store.Confirm(ctx, want.ID, t)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("Confirm(%q)", want.ID), err)
}

func confirmedAt(w auth.WaitingSignUp, t time.Time) auth.WaitingSignUp { w.ConfirmedAt = t; return w }

func signUpsCreate(ctx context.Context, p WaitingSignUps) error {
	bare := signUp(2)
	bare.Network = ""
	return first(
		func() error { return wait(ctx, p, manySignUps, signUp(1), bare) },
		func() error { return wantSignUp(ctx, p, signUp(1)) },
		func() error { return wantSignUp(ctx, p, bare) },
	)
}

func signUpsAbsent(ctx context.Context, p WaitingSignUps) error {
	_, unknown := p.Store.Confirm(ctx, "nobody", at(1))
	return first(
		func() error { return wantIs("Confirm of an unknown sign-up", unknown, auth.ErrSignUpNotFound) },
		func() error { return wait(ctx, p, manySignUps, signUp(1)) },
		func() error { return wantNoSignUp(ctx, p, "nobody") },
		func() error { return wantSignUps(ctx, p, "nobody@example.com") },
	)
}

func signUpsLong(ctx context.Context, p WaitingSignUps) error {
	w := signUp(1)
	w.FullName, w.PasswordHash = long(user.MaxFullName), long(250)
	w.Email = user.Email(long(user.MaxEmail - 30))
	return first(
		func() error { return wait(ctx, p, manySignUps, w) },
		func() error { return wantSignUp(ctx, p, w) },
		func() error { return wantSignUps(ctx, p, w.Email, w) },
	)
}

func signUpsExact(ctx context.Context, p WaitingSignUps) error {
	ids := []string{"abc", "ABC", "Abc", "abcd", "a%c", "a_c"}
	for n, id := range ids {
		w := signUp(n)
		w.ID, w.Email = id, user.Email(id)
		if err := wait(ctx, p, 1, w); err != nil {
			return err
		}
	}
	for n, id := range ids {
		w := signUp(n)
		w.ID, w.Email = id, user.Email(id)
		if err := first(
			func() error { return wantSignUp(ctx, p, w) },
			func() error { return wantSignUps(ctx, p, w.Email, w) },
		); err != nil {
			return err
		}
	}
	return first(
		func() error { return wantNoSignUp(ctx, p, "aBC") },
		func() error { return wantSignUps(ctx, p, "aBC") },
	)
}

func signUpsTaken(ctx context.Context, p WaitingSignUps) error {
	other := signUp(2)
	other.ID = signUp(1).ID
	return first(
		func() error { return wait(ctx, p, manySignUps, signUp(1)) },
		func() error {
			return wantIs("Create with a taken id", p.Store.Create(ctx, other, manySignUps), fault.Conflict)
		},
		func() error { return wantSignUp(ctx, p, signUp(1)) },
		func() error { return wantSignUps(ctx, p, signUp(1).Email, signUp(1)) },
	)
}

func signUpsCreateRace(ctx context.Context, p WaitingSignUps) error {
	return oneWins("Create", fault.Conflict, together(16, func(i int) error {
		w := signUp(i)
		w.ID = "the same"
		return p.Store.Create(ctx, w, manySignUps)
	}))
}

func signUpsByEmail(ctx context.Context, p WaitingSignUps) error {
	other := signUp(9)
	other.Email = "other@example.com"
	return first(
		func() error { return wait(ctx, p, manySignUps, signUp(3), signUp(1), other, signUp(2)) },
		func() error { return wantSignUps(ctx, p, signUp(1).Email, signUp(1), signUp(2), signUp(3)) },
		func() error { return wantSignUps(ctx, p, other.Email, other) },
	)
}

func signUpsKeep(ctx context.Context, p WaitingSignUps) error {
	other := signUp(0)
	other.Email = "other@example.com"
	if err := first(
		func() error { return wait(ctx, p, 2, other, signUp(1)) },
		func() error { return confirm(ctx, p, at(10), signUp(1)) },
	); err != nil {
		return err
	}
	return first(
		func() error { return wait(ctx, p, 2, signUp(2), signUp(3)) },
		func() error {
			return wantSignUps(ctx, p, signUp(1).Email, confirmedAt(signUp(1), at(10)), signUp(2), signUp(3))
		},
		func() error { return wait(ctx, p, 2, signUp(4)) },
		func() error {
			return wantSignUps(ctx, p, signUp(1).Email, confirmedAt(signUp(1), at(10)), signUp(3), signUp(4))
		},
		func() error { return wantNoSignUp(ctx, p, signUp(2).ID) },
		func() error { return wait(ctx, p, 1, signUp(5)) },
		func() error { return wantSignUps(ctx, p, signUp(1).Email, confirmedAt(signUp(1), at(10)), signUp(5)) },
		func() error { return wantSignUps(ctx, p, other.Email, other) },
	)
}

func signUpsKeepItself(ctx context.Context, p WaitingSignUps) error {
	return first(
		func() error { return wait(ctx, p, 2, signUp(3), signUp(4), signUp(1)) },
		func() error { return wantSignUps(ctx, p, signUp(1).Email, signUp(1), signUp(4)) },
	)
}

func signUpsEvents(ctx context.Context, p WaitingSignUps) error {
	return first(
		func() error { return p.Store.Create(ctx, signUp(1), manySignUps, happened(3), happened(1)) },
		func() error { return p.Store.Create(ctx, signUp(2), manySignUps) },
		func() error { return p.Store.Create(ctx, signUp(3), manySignUps, happened(2)) },
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(1), happened(2)) },
	)
}

func signUpsEventsStay(ctx context.Context, p WaitingSignUps) error {
	if err := first(
		func() error { return p.Store.Create(ctx, signUp(1), 1, happened(1)) },
		func() error { return p.Store.Create(ctx, signUp(2), 1, happened(2)) },
		func() error { return wantNoSignUp(ctx, p, signUp(1).ID) },
		func() error { return sweep(ctx, p.Store, signUp(2).ExpiresAt.Add(time.Microsecond), 1) },
		func() error { return wantNoSignUp(ctx, p, signUp(2).ID) },
		func() error { return wantSignUps(ctx, p, signUp(2).Email) },
		func() error { return wantPending(ctx, p.Outbox, happened(1), happened(2)) },
	); err != nil {
		return err
	}
	_, gone := p.Store.Confirm(ctx, signUp(2).ID, at(1))
	return first(
		func() error { return wantIs("Confirm of a sign-up that was removed", gone, auth.ErrSignUpNotFound) },
		func() error { return p.Outbox.Published(ctx, happened(1).ID, happened(2).ID) },
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return wantNoSignUp(ctx, p, signUp(2).ID) },
	)
}

func signUpsNeither(ctx context.Context, p WaitingSignUps) error {
	return first(
		func() error { return p.Store.Create(ctx, signUp(1), manySignUps, happened(1)) },
		func() error {
			return wantIs("Create with a taken id", p.Store.Create(ctx, signUp(1), manySignUps, happened(2)), fault.Conflict)
		},
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}

func signUpsConfirm(ctx context.Context, p WaitingSignUps) error {
	return first(
		func() error { return p.Store.Create(ctx, signUp(1), manySignUps, happened(1)) },
		func() error { return wait(ctx, p, manySignUps, signUp(2)) },
		func() error { return confirm(ctx, p, at(10), signUp(1)) },
		func() error {
			return during("confirmed again", confirm(ctx, p, at(20), confirmedAt(signUp(1), at(10))))
		},
		func() error { return wantSignUp(ctx, p, confirmedAt(signUp(1), at(10))) },
		func() error { return wantSignUp(ctx, p, signUp(2)) },
		func() error { return p.Outbox.Published(ctx, happened(1).ID) },
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return wantSignUp(ctx, p, confirmedAt(signUp(1), at(10))) },
	)
}

func signUpsConfirmRace(ctx context.Context, p WaitingSignUps) error {
	if err := wait(ctx, p, manySignUps, signUp(1)); err != nil {
		return err
	}
	confirmed := errors.New("confirmed already")
	return oneWins("Confirm", confirmed, together(16, func(i int) error {
		w, err := p.Store.Confirm(ctx, signUp(1).ID, at(10+i))
		if err == nil && !w.ConfirmedAt.IsZero() {
			err = confirmed
		}
		return err
	}))
}

func signUpsExpired(ctx context.Context, p WaitingSignUps) error {
	w := signUp(1)
	w.CreatedAt, w.ExpiresAt = past, past.Add(time.Second)
	return first(
		func() error { return wait(ctx, p, manySignUps, w) },
		func() error { return wantSignUp(ctx, p, w) },
		func() error { return wantSignUps(ctx, p, w.Email, w) },
		func() error { return confirm(ctx, p, at(10), w) },
		func() error { return wantSignUps(ctx, p, w.Email, confirmedAt(w, at(10))) },
	)
}

func signUpsSweep(ctx context.Context, p WaitingSignUps) error {
	return first(
		func() error { return wait(ctx, p, manySignUps, signUp(1), signUp(2), signUp(3)) },
		func() error { return confirm(ctx, p, at(10), signUp(2)) },
		func() error { return sweep(ctx, p.Store, signUp(1).ExpiresAt, 0) },
		func() error { return sweep(ctx, p.Store, signUp(2).ExpiresAt.Add(time.Microsecond), 2) },
		func() error { return sweep(ctx, p.Store, signUp(2).ExpiresAt.Add(time.Microsecond), 0) },
		func() error { return wantNoSignUp(ctx, p, signUp(1).ID) },
		func() error { return wantNoSignUp(ctx, p, signUp(2).ID) },
		func() error { return wantSignUps(ctx, p, signUp(3).Email, signUp(3)) },
	)
}

func signUpsErase(ctx context.Context, p WaitingSignUps) error {
	mine := signUp(2)
	mine.UserID = signUp(1).UserID
	return first(
		func() error { return wait(ctx, p, manySignUps, signUp(1), mine, signUp(3)) },
		func() error { return confirm(ctx, p, at(10), mine) },
		func() error { return eraseOf(ctx, p.Store, "nobody", 0) },
		func() error { return eraseOf(ctx, p.Store, mine.UserID, 2) },
		func() error { return eraseOf(ctx, p.Store, mine.UserID, 0) },
		func() error { return wantNoSignUp(ctx, p, signUp(1).ID) },
		func() error { return wantNoSignUp(ctx, p, mine.ID) },
		func() error { return wantSignUps(ctx, p, signUp(3).Email, signUp(3)) },
	)
}

func signUpsEnded(ctx context.Context, p WaitingSignUps) error {
	if err := p.Store.Create(ended(ctx), signUp(1), manySignUps, happened(1)); err == nil {
		return errors.New("the port's Create with an ended context returned no error")
	}
	return first(
		func() error { return wantNoSignUp(ctx, p, signUp(1).ID) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}
