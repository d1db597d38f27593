package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Sessions is the port of [SessionStore]: a store, and the outbox that gets the events of its
// changes.
type Sessions struct {
	Store  auth.SessionStore
	Outbox event.Outbox
}

// SessionStore checks auth.SessionStore.
func SessionStore() []Case[Sessions] {
	return suite("SessionStore", []promise[Sessions]{
		{"a created session is read back", "Create stores s durably, with every field as it is. Every time is UTC, to the microsecond.", sessionsCreate},
		{"an unknown session is not found", "ByID returns the session, or ErrSessionNotFound.", sessionsAbsent},
		{"identifiers are exact", "Two IDs are the same only if they have the same bytes.", sessionsExactIDs},
		{"create stores its events", "Create puts events into the outbox in the commit that stores s: both are stored, or neither is.", sessionsCreateEvents},
		{"a taken id is refused", "Create returns an error of kind Conflict if a session with s.ID exists.", sessionsTaken},
		{"one of several creates wins", "Of several concurrent calls with one ID, exactly one succeeds.", sessionsCreateRace},
		{"expired and revoked sessions are returned", "ByID returns expired and revoked sessions like others.", sessionsOver},
		{"update stores what change did", "Update lets change edit a copy of the stored session, and stores it. Update returns the stored session, or ErrSessionNotFound.", sessionsUpdate},
		{"update of an unknown session is not found", "Update returns the stored session, or ErrSessionNotFound.", sessionsUpdateAbsent},
		{"a failed change stores nothing", "An error of change stores nothing and is returned as it is.", sessionsUpdateFails},
		{"update stores its events", "Update puts events into the outbox in the commit that stores the session: both are stored, or neither is.", sessionsUpdateEvents},
		{"one of several rotations wins", "Of concurrent updates that each expect what the other changes, exactly one finds it.", sessionsRotate},
		{"who comes too late to rotate sees the rotation", "Of concurrent updates that each expect what the other changes, exactly one finds it. Each of the others is given all that this one has stored, so that it can answer as this one did.", sessionsAnswerAgain},
		{"a user's sessions come newest first", "ByUser returns the user's sessions that are not revoked and expire after the given time. The newest come first, those of one age by descending ID.", sessionsByUser},
		{"at most as many sessions as asked for", "ByUser returns at most limit sessions: none if limit is below 1.", sessionsMany},
		{"expired sessions are removed", "DeleteExpired removes what expired before the given time and returns how many. What expires at that very time, or later, stays.", sessionsSweep},
		{"a user's sessions are removed", "DeleteOf removes what is of the user, expired and used or not, and returns how many. What is of others stays. Removing nothing is no error.", sessionsErase},
		{"an ended context does all or nothing", "A call whose context has ended has done all of its work, or nothing.", sessionsEnded},
	})
}

func session(n int) auth.Session {
	return auth.Session{
		ID: fmt.Sprintf("session-%03d", n), UserID: "user-1",
		FamilyHash: fmt.Sprintf("family/+Aa-%d", n), TokenHash: fmt.Sprintf("token/+Aa-%d", n),
		PreviousHash: fmt.Sprintf("previous/+Aa-%d", n), RotationKey: fmt.Sprintf("key/+Aa-%d", n), DeviceHash: fmt.Sprintf("device/+Aa-%d", n),
		Device: fmt.Sprintf("Firefox %d on Linux", n), Network: fmt.Sprintf("2001:db8:%x::/48", n),
		CreatedAt: at(n), RotatedAt: at(n + 1), ExpiresAt: at(n + 1000), SeenAt: at(n + 2), ProvenAt: at(n + 3),
	}
}

func open(ctx context.Context, p Sessions, sessions ...auth.Session) error {
	for _, s := range sessions {
		if err := p.Store.Create(ctx, s); err != nil {
			return fmt.Errorf("Create(%q): %w", s.ID, err)
		}
	}
	return nil
}

func wantSession(ctx context.Context, p Sessions, want auth.Session) error {
	got, err := p.Store.ByID(ctx, want.ID)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("ByID(%q)", want.ID), err)
}

// wantSessions wants those of a user that go on at the beginning, newest first.
func wantSessions(ctx context.Context, p Sessions, id user.ID, want ...auth.Session) error {
	return wantNewest(ctx, p, id, epoch, 1000, want...)
}

func wantNewest(ctx context.Context, p Sessions, id user.ID, now time.Time, limit int, want ...auth.Session) error {
	got, err := p.Store.ByUser(ctx, id, now, limit)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("ByUser(%q, %d)", id, limit), err)
}

func sessionsCreate(ctx context.Context, p Sessions) error {
	return first(
		func() error { return open(ctx, p, session(1), session(2)) },
		func() error { return wantSession(ctx, p, session(1)) },
		func() error { return wantSession(ctx, p, session(2)) },
	)
}

func sessionsAbsent(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1)); err != nil {
		return err
	}
	_, err := p.Store.ByID(ctx, "nobody")
	return first(
		func() error { return wantIs("ByID of an unknown session", err, auth.ErrSessionNotFound) },
		func() error { return wantSessions(ctx, p, "nobody") },
	)
}

func sessionsCreateEvents(ctx context.Context, p Sessions) error {
	taken, bare := session(1), session(2)
	bare.Device, bare.Network, bare.SeenAt, bare.ProvenAt = "", "", time.Time{}, time.Time{}
	return first(
		func() error { return during("Create", p.Store.Create(ctx, session(1), happened(3), happened(2))) },
		func() error {
			return wantIs("Create with a taken id", p.Store.Create(ctx, taken, happened(4)), fault.Conflict)
		},
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(2)) },
		func() error { return during("Create", p.Store.Create(ctx, bare, happened(1))) },
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(2), happened(1)) },
		func() error { return wantSession(ctx, p, session(1)) },
		func() error { return wantSession(ctx, p, bare) },
	)
}

func sessionsExactIDs(ctx context.Context, p Sessions) error {
	ids := []string{"abc", "ABC", "Abc", "abcd", "a%c", "a_c"}
	for n, id := range ids {
		s := session(n)
		s.ID, s.UserID = id, user.ID(id)
		if err := open(ctx, p, s); err != nil {
			return err
		}
	}
	for n, id := range ids {
		s := session(n)
		s.ID, s.UserID = id, user.ID(id)
		if err := first(
			func() error { return wantSession(ctx, p, s) },
			func() error { return wantSessions(ctx, p, s.UserID, s) },
		); err != nil {
			return err
		}
	}
	return nil
}

func sessionsTaken(ctx context.Context, p Sessions) error {
	other := session(2)
	other.ID = session(1).ID
	return first(
		func() error { return open(ctx, p, session(1)) },
		func() error { return wantIs("Create with a taken id", p.Store.Create(ctx, other), fault.Conflict) },
		func() error { return wantSession(ctx, p, session(1)) },
	)
}

func sessionsCreateRace(ctx context.Context, p Sessions) error {
	errs := together(12, func(i int) error {
		s := session(i)
		s.ID = "same"
		return p.Store.Create(ctx, s)
	})
	if err := oneWins("Create", fault.Conflict, errs); err != nil {
		return err
	}
	for i, err := range errs {
		if err == nil {
			want := session(i)
			want.ID = "same"
			return wantSession(ctx, p, want)
		}
	}
	return nil
}

func sessionsOver(ctx context.Context, p Sessions) error {
	expired, revoked := session(1), session(2)
	expired.CreatedAt, expired.RotatedAt, expired.ExpiresAt = past, past, past.Add(time.Second)
	revoked.RevokedAt = at(3)
	return first(
		func() error { return open(ctx, p, expired, revoked) },
		func() error { return wantSession(ctx, p, expired) },
		func() error { return wantSession(ctx, p, revoked) },
	)
}

func sessionsUpdate(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1), session(2)); err != nil {
		return err
	}
	want := session(1)
	want.FamilyHash, want.TokenHash, want.RotatedAt, want.ExpiresAt, want.RevokedAt = "family", "token", at(50), at(5000), at(60)
	want.PreviousHash, want.RotationKey, want.DeviceHash = "previous", "key", ""
	want.Device, want.Network, want.SeenAt, want.ProvenAt = "curl", "", at(70), at(80)
	var seen auth.Session
	got, err := p.Store.Update(ctx, want.ID, func(s *auth.Session) error { seen = *s; *s = want; return nil })
	return then(during("Update", err),
		func() error { return during("change was given a session whose", same(seen, session(1))) },
		func() error { return during("Update", same(got, want)) },
		func() error { return wantSession(ctx, p, want) },
		func() error { return wantSession(ctx, p, session(2)) },
		func() error { return wantSessions(ctx, p, "user-1", session(2)) },
	)
}

func sessionsUpdateAbsent(ctx context.Context, p Sessions) error {
	_, err := p.Store.Update(ctx, "nobody", func(s *auth.Session) error { s.TokenHash = "changed"; return nil }, happened(1))
	return first(
		func() error { return wantIs("Update of an unknown session", err, auth.ErrSessionNotFound) },
		func() error {
			return wantIs("ByID afterwards", second(p.Store.ByID(ctx, "nobody")), auth.ErrSessionNotFound)
		},
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func sessionsUpdateFails(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1)); err != nil {
		return err
	}
	refused := errors.New("refused by change")
	_, err := p.Store.Update(ctx, session(1).ID, func(s *auth.Session) error {
		s.TokenHash, s.RevokedAt = "changed", at(9)
		return refused
	}, happened(1))
	if err != refused { //nolint:errorlint // as it is: identity is the promise
		return fmt.Errorf("the error of Update is %w, want the very error of change", orNone(err))
	}
	return first(
		func() error { return wantSession(ctx, p, session(1)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func sessionsUpdateEvents(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1)); err != nil {
		return err
	}
	if _, err := p.Store.Update(ctx, session(1).ID, func(s *auth.Session) error { s.RevokedAt = at(9); return nil }, happened(3), happened(2)); err != nil {
		return during("Update", err)
	}
	_, err := p.Store.Update(ctx, session(1).ID, func(*auth.Session) error { return nil }, happened(1))
	return then(during("Update of nothing", err), func() error { return wantPending(ctx, p.Outbox, happened(3), happened(2), happened(1)) })
}

func sessionsRotate(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1)); err != nil {
		return err
	}
	stale := errors.New("the token was rotated already")
	errs := together(12, func(i int) error {
		_, err := p.Store.Update(ctx, session(1).ID, func(s *auth.Session) error {
			if s.TokenHash != session(1).TokenHash {
				return stale
			}
			s.TokenHash = fmt.Sprintf("rotated by %d", i)
			return nil
		}, happened(i))
		return err
	})
	if err := oneWins("Update", stale, errs); err != nil {
		return err
	}
	for i, err := range errs {
		if err == nil {
			want := session(1)
			want.TokenHash = fmt.Sprintf("rotated by %d", i)
			return first(
				func() error { return wantSession(ctx, p, want) },
				func() error { return wantPending(ctx, p.Outbox, happened(i)) },
			)
		}
	}
	return nil
}

// sessionsAnswerAgain rotates as auth.Service does: whoever comes too late makes the same answer from what the first has stored.
func sessionsAnswerAgain(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1)); err != nil {
		return err
	}
	old := session(1).TokenHash
	known := errors.New("it was rotated a moment ago")
	answers := make([]string, 12)
	errs := together(len(answers), func(i int) error {
		key := fmt.Sprintf("key of %d", i)
		_, err := p.Store.Update(ctx, session(1).ID, func(s *auth.Session) error {
			if s.TokenHash == old {
				s.TokenHash, s.PreviousHash, s.RotationKey, s.RotatedAt = "made with "+key, old, key, at(100+i)
				answers[i] = s.TokenHash
				return nil
			}
			switch {
			case s.PreviousHash != old, s.TokenHash != "made with "+s.RotationKey, s.RotatedAt.Before(at(100)):
				return fmt.Errorf("change was given a part of a rotation: %+v", *s)
			}
			answers[i] = "made with " + s.RotationKey
			return known
		})
		if errors.Is(err, known) {
			return nil
		}
		return err
	})
	if err := errors.Join(errs...); err != nil {
		return during("Update", err)
	}
	stored, err := p.Store.ByID(ctx, session(1).ID)
	if err != nil {
		return during("ByID", err)
	}
	for i, answer := range answers {
		if answer != stored.TokenHash {
			return fmt.Errorf("caller %d answers with %q, and %q is stored", i, answer, stored.TokenHash)
		}
	}
	return nil
}

func sessionsByUser(ctx context.Context, p Sessions) error {
	a, b, c, d, other := session(3), session(1), session(2), session(4), session(0)
	c.RevokedAt = at(9)
	d.CreatedAt = a.CreatedAt // of one age
	other.UserID = "user-2"
	return first(
		func() error { return open(ctx, p, a, b, other, c, d) },
		func() error { return wantSessions(ctx, p, "user-1", d, a, b) },
		func() error { return wantSessions(ctx, p, "user-2", other) },
		func() error { return wantSessions(ctx, p, "user-3") },
		func() error { return wantNewest(ctx, p, "user-1", b.ExpiresAt.Add(-time.Microsecond), 10, d, a, b) },
		func() error { return wantNewest(ctx, p, "user-1", b.ExpiresAt, 10, d, a) },
		func() error { return wantNewest(ctx, p, "user-1", d.ExpiresAt, 10) },
	)
}

func sessionsMany(ctx context.Context, p Sessions) error {
	const n = 120
	var want []auth.Session
	for i := range n {
		want = append(want, session(i))
	}
	if err := open(ctx, p, want...); err != nil {
		return err
	}
	slices.Reverse(want)
	return first(
		func() error { return wantSessions(ctx, p, "user-1", want...) },
		func() error { return wantNewest(ctx, p, "user-1", epoch, 101, want[:101]...) },
		func() error { return wantNewest(ctx, p, "user-1", epoch, 1, want[0]) },
		func() error { return wantNewest(ctx, p, "user-1", epoch, 0) },
	)
}

// sweep wants n things to go.
func sweep(ctx context.Context, s auth.Sweeper, before time.Time, n int) error {
	got, err := s.DeleteExpired(ctx, before)
	if err == nil && got != n {
		err = fmt.Errorf("it returned %d, want %d", got, n)
	}
	return during("DeleteExpired", err)
}

func sessionsSweep(ctx context.Context, p Sessions) error {
	revoked := session(4)
	revoked.RevokedAt = at(5)
	if err := first(
		func() error { return open(ctx, p, session(1), session(2), session(3), revoked) },
		func() error { return sweep(ctx, p.Store, session(1).ExpiresAt.Add(-time.Microsecond), 0) },
	); err != nil {
		return err
	}
	if err := first(
		func() error { return sweep(ctx, p.Store, session(2).ExpiresAt.Add(time.Microsecond), 2) },
		func() error { return wantSessions(ctx, p, "user-1", session(3)) },
		func() error { return wantSession(ctx, p, revoked) },
		func() error { return sweep(ctx, p.Store, session(2).ExpiresAt.Add(time.Microsecond), 0) },
	); err != nil {
		return err
	}
	_, err := p.Store.ByID(ctx, session(1).ID)
	return wantIs("ByID of a removed session", err, auth.ErrSessionNotFound)
}

func sessionsErase(ctx context.Context, p Sessions) error {
	revoked, other := session(2), session(3)
	revoked.RevokedAt, other.UserID = at(5), "USER-1"
	return first(
		func() error { return open(ctx, p, session(1), revoked, other) },
		func() error { return eraseOf(ctx, p.Store, "user", 0) },
		func() error { return eraseOf(ctx, p.Store, "user-1", 2) },
		func() error { return eraseOf(ctx, p.Store, "user-1", 0) },
		func() error { return wantSessions(ctx, p, "user-1") },
		func() error {
			return wantIs("ByID of a removed session", second(p.Store.ByID(ctx, revoked.ID)), auth.ErrSessionNotFound)
		},
		func() error { return wantSession(ctx, p, other) },
		func() error { return wantSessions(ctx, p, "USER-1", other) },
	)
}

// eraseOf removes what is of a user, and wants it to be n.
func eraseOf(ctx context.Context, e auth.Eraser, id user.ID, n int) error {
	got, err := e.DeleteOf(ctx, id)
	if err == nil && got != n {
		err = fmt.Errorf("it removed %d, want %d", got, n)
	}
	return during(fmt.Sprintf("DeleteOf(%q)", id), err)
}

func sessionsEnded(ctx context.Context, p Sessions) error {
	if err := open(ctx, p, session(1)); err != nil {
		return err
	}
	want := session(1)
	_, err := p.Store.Update(ended(ctx), want.ID, func(s *auth.Session) error { s.TokenHash = "changed"; return nil }, happened(1))
	if err != nil {
		return first(
			func() error { return wantSession(ctx, p, want) },
			func() error { return wantPending(ctx, p.Outbox) },
		)
	}
	want.TokenHash = "changed"
	return first(
		func() error { return wantSession(ctx, p, want) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}
