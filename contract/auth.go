package contract

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
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
		CreatedAt: at(n), RotatedAt: at(n + 1), ExpiresAt: at(n + 1000), SeenAt: at(n + 2),
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
	bare.Device, bare.Network, bare.SeenAt = "", "", time.Time{}
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
	want.Device, want.Network, want.SeenAt = "curl", "", at(70)
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

// Standing is the port of [Standings]: what reads a session with its user's word, and the stores of
// both.
type Standing struct {
	Reader   auth.Standings
	Sessions auth.SessionStore
	Users    user.Repository
}

// Standings checks auth.Standings.
func Standings() []Case[Standing] {
	return suite("Standings", []promise[Standing]{
		{"a session comes with its user's word", "Standing returns the session and what its user says of sessions, as they are at the time of the call.", standingsBoth},
		{"what is unknown is not found", "Standing returns ErrSessionNotFound if there is no such session or it has no user.", standingsAbsent},
		{"changes are seen at once", "Standing returns the session and what its user says of sessions, as they are at the time of the call. Standing returns expired and revoked sessions like others.", standingsChange},
	})
}

// stand wants the session and the word of its user.
func stand(ctx context.Context, p Standing, s auth.Session, u user.User) error {
	got, err := p.Reader.Standing(ctx, s.ID)
	if err == nil {
		err = first(
			func() error { return same(got.Session, s) },
			func() error { return same(got.From, u.SessionsFrom) },
			func() error { return same(got.Kept, u.KeptSession) },
		)
	}
	return during(fmt.Sprintf("Standing(%q)", s.ID), err)
}

// owner is a user, and a session of theirs.
func owner(n int) (user.User, auth.Session) {
	u, s := someone(n), session(n)
	s.UserID = u.ID
	return u, s
}

func standingsBoth(ctx context.Context, p Standing) error {
	one, mine := owner(1)
	two, theirs := owner(2)
	two.SessionsFrom, two.KeptSession = time.Time{}, ""
	return first(
		func() error { return p.Users.Create(ctx, one) },
		func() error { return p.Users.Create(ctx, two) },
		func() error { return p.Sessions.Create(ctx, mine) },
		func() error { return p.Sessions.Create(ctx, theirs) },
		func() error { return stand(ctx, p, mine, one) },
		func() error { return stand(ctx, p, theirs, two) },
	)
}

func standingsAbsent(ctx context.Context, p Standing) error {
	one, mine := owner(1)
	_, orphan := owner(2)
	if err := first(
		func() error { return p.Users.Create(ctx, one) },
		func() error { return p.Sessions.Create(ctx, mine) },
		func() error { return p.Sessions.Create(ctx, orphan) },
	); err != nil {
		return err
	}
	return first(
		func() error {
			return wantIs("Standing of an unknown session", second(p.Reader.Standing(ctx, "nobody")), auth.ErrSessionNotFound)
		},
		func() error {
			return wantIs("Standing of a session without a user", second(p.Reader.Standing(ctx, orphan.ID)), auth.ErrSessionNotFound)
		},
	)
}

func standingsChange(ctx context.Context, p Standing) error {
	one, mine := owner(1)
	if err := first(
		func() error { return p.Users.Create(ctx, one) },
		func() error { return p.Sessions.Create(ctx, mine) },
		func() error { return stand(ctx, p, mine, one) },
	); err != nil {
		return err
	}
	mine.RevokedAt, mine.ExpiresAt = at(9), past
	one.SessionsFrom, one.KeptSession = at(77), "another"
	if _, err := p.Sessions.Update(ctx, mine.ID, func(s *auth.Session) error { *s = mine; return nil }); err != nil {
		return during("Update of the session", err)
	}
	_, err := p.Users.Update(ctx, one.ID, func(u *user.User) error { *u = one; return nil })
	return then(during("Update of the user", err), func() error { return stand(ctx, p, mine, one) })
}

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

// Nonces checks auth.Nonces.
func Nonces() []Case[auth.Nonces] {
	return suite("Nonces", []promise[auth.Nonces]{
		{"a name is spent once", "Spend returns true for the first call with this name. Spend returns false for every later call, at least until the expiry that the first one gave.", noncesOnce},
		{"a later expiry changes nothing", "Spend returns false for every later call, at least until the expiry that the first one gave.", noncesExpiry},
		{"names are exact", "Two names are the same only if they have the same bytes, however long they are.", noncesExact},
		{"one of several calls wins", "Of several concurrent calls with one name, exactly one gets true.", noncesRace},
		{"long names are names", "Two names are the same only if they have the same bytes, however long they are.", noncesLong},
	})
}

// spend wants the given answer.
func spend(ctx context.Context, p auth.Nonces, name string, expires time.Time, want bool) error {
	got, err := p.Spend(ctx, name, expires)
	if err == nil && got != want {
		err = fmt.Errorf("it returned %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Spend(%q)", clip(name)), err)
}

func noncesOnce(ctx context.Context, p auth.Nonces) error {
	return first(
		func() error { return spend(ctx, p, "a", at(100), true) },
		func() error { return spend(ctx, p, "b", at(100), true) },
		func() error { return spend(ctx, p, "a", at(100), false) },
		func() error { return spend(ctx, p, "b", at(100), false) },
		func() error { return spend(ctx, p, "a", at(100), false) },
	)
}

func noncesExpiry(ctx context.Context, p auth.Nonces) error {
	return first(
		func() error { return spend(ctx, p, "a", at(100), true) },
		func() error { return spend(ctx, p, "a", at(5000), false) },
		func() error { return spend(ctx, p, "a", past, false) },
		func() error { return spend(ctx, p, "a", at(100), false) },
	)
}

func noncesExact(ctx context.Context, p auth.Nonces) error {
	for _, want := range []bool{true, false} {
		for _, name := range names {
			if err := spend(ctx, p, name, at(100), want); err != nil {
				return err
			}
		}
	}
	return nil
}

func noncesRace(ctx context.Context, p auth.Nonces) error {
	spent := errors.New("spent already")
	return oneWins("Spend", spent, together(16, func(int) error {
		ok, err := p.Spend(ctx, "same", at(100))
		if err == nil && !ok {
			err = spent
		}
		return err
	}))
}

func noncesLong(ctx context.Context, p auth.Nonces) error {
	name := strings.Repeat("n", 199)
	return first(
		func() error { return spend(ctx, p, name+"1", at(100), true) },
		func() error { return spend(ctx, p, name+"2", at(100), true) },
		func() error { return spend(ctx, p, name+"1", at(100), false) },
		func() error { return spend(ctx, p, name+"2", at(100), false) },
	)
}

// Limiter checks auth.Limiter.
func Limiter() []Case[auth.Limiter] {
	return suite("Limiter", []promise[auth.Limiter]{
		{"a burst is allowed at once", "Allow takes one from key's allowance at the given time and returns zero. It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.", limiterBurst},
		{"after a burst one each interval", "It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.", limiterInterval},
		{"a refusal says how long to wait", "If nothing is left, Allow takes nothing and returns how long to wait.", limiterWait},
		{"a refusal takes nothing", "If nothing is left, Allow takes nothing and returns how long to wait.", limiterTakesNothing},
		{"rest refills the burst and no more", "Rest gives back the burst, and no more.", limiterRefill},
		{"a burst of one", "It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.", limiterOne},
		{"keys do not influence each other", "Keys do not influence each other.", limiterKeys},
		{"no rate allows everything", "A rate without Burst or Per allows everything.", limiterNone},
		{"a clock that goes back holds nobody up", "However far the clock has gone back, the wait is Per/Burst at most.", limiterBack},
		{"concurrent attempts share the allowance", "Concurrent calls share the allowance: no more succeed than it holds.", limiterRace},
	})
}

var rate = auth.Rate{Burst: 5, Per: 100 * time.Second}

// allow wants the wait, to the millisecond.
func allow(ctx context.Context, p auth.Limiter, key string, r auth.Rate, now time.Time, want time.Duration) error {
	got, err := p.Allow(ctx, key, r, now)
	if err == nil && ((want == 0) != (got == 0) || (got-want).Abs() > time.Millisecond) {
		err = fmt.Errorf("it returned %s, want %s", got, want)
	}
	return during(fmt.Sprintf("Allow(%q) %s after the beginning", clip(key), now.Sub(epoch)), err)
}

// spendBurst uses the allowance up.
func spendBurst(ctx context.Context, p auth.Limiter, key string, now time.Time) error {
	for range rate.Burst {
		if err := allow(ctx, p, key, rate, now, 0); err != nil {
			return err
		}
	}
	return nil
}

func limiterBurst(ctx context.Context, p auth.Limiter) error {
	return first(
		func() error { return spendBurst(ctx, p, "key", epoch) },
		func() error { return allow(ctx, p, "key", rate, epoch, 20*time.Second) },
	)
}

func limiterInterval(ctx context.Context, p auth.Limiter) error {
	err := spendBurst(ctx, p, "key", epoch)
	for n := 1; n <= 12 && err == nil; n++ {
		now := epoch.Add(time.Duration(n) * 20 * time.Second)
		err = first(
			func() error { return allow(ctx, p, "key", rate, now.Add(-time.Second), time.Second) },
			func() error { return allow(ctx, p, "key", rate, now, 0) },
			func() error { return allow(ctx, p, "key", rate, now, 20*time.Second) },
		)
	}
	return err
}

func limiterWait(ctx context.Context, p auth.Limiter) error {
	return first(
		func() error { return spendBurst(ctx, p, "key", epoch) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(time.Second), 19*time.Second) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(12*time.Second), 8*time.Second) },
		func() error {
			return allow(ctx, p, "key", rate, epoch.Add(19999*time.Millisecond+900*time.Microsecond), 100*time.Microsecond)
		},
		func() error { return allow(ctx, p, "key", rate, epoch.Add(20*time.Second), 0) },
	)
}

func limiterTakesNothing(ctx context.Context, p auth.Limiter) error {
	err := spendBurst(ctx, p, "key", epoch)
	for n := 0; n < 50 && err == nil; n++ {
		err = allow(ctx, p, "key", rate, epoch.Add(10*time.Second), 10*time.Second)
	}
	return then(err, func() error { return allow(ctx, p, "key", rate, epoch.Add(20*time.Second), 0) })
}

func limiterRefill(ctx context.Context, p auth.Limiter) error {
	return first(
		func() error { return spendBurst(ctx, p, "key", epoch) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 0) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 0) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 0) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 20*time.Second) },
		func() error { return spendBurst(ctx, p, "key", epoch.Add(24*time.Hour)) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(24*time.Hour), 20*time.Second) },
	)
}

func limiterBack(ctx context.Context, p auth.Limiter) error {
	later := epoch.Add(24 * time.Hour)
	if err := then(spendBurst(ctx, p, "key", later), func() error { return allow(ctx, p, "key", rate, later, 20*time.Second) }); err != nil {
		return err
	}
	const longest = 20*time.Second + time.Millisecond
	for n := range 4 { // the allowance fills from then on
		switch wait, err := p.Allow(ctx, "key", rate, epoch.Add(time.Duration(n)*longest)); {
		case err != nil:
			return during("Allow", err)
		case wait > longest:
			return fmt.Errorf("the port's Allow, after the clock had gone back by a day, returned %s; want %s at most", wait, longest)
		case wait == 0 && n > 0:
			return nil
		}
	}
	return errors.New("the port's Allow refused again and again after the clock had gone back")
}

func limiterOne(ctx context.Context, p auth.Limiter) error {
	r := auth.Rate{Burst: 1, Per: time.Hour}
	return first(
		func() error { return allow(ctx, p, "key", r, epoch, 0) },
		func() error { return allow(ctx, p, "key", r, epoch, time.Hour) },
		func() error { return allow(ctx, p, "key", r, epoch.Add(time.Hour), 0) },
		func() error { return allow(ctx, p, "key", r, epoch.Add(time.Hour), time.Hour) },
	)
}

func limiterKeys(ctx context.Context, p auth.Limiter) error {
	for _, key := range append([]string{"", strings.Repeat("k", 300), strings.Repeat("k", 301)}, names...) {
		if err := first(
			func() error { return spendBurst(ctx, p, key, epoch) },
			func() error { return allow(ctx, p, key, rate, epoch, 20*time.Second) },
		); err != nil {
			return err
		}
	}
	return nil
}

func limiterNone(ctx context.Context, p auth.Limiter) error {
	for _, r := range []auth.Rate{{}, {Burst: 1}, {Per: time.Hour}} {
		for range 20 {
			if err := allow(ctx, p, "key", r, epoch, 0); err != nil {
				return fmt.Errorf("with the rate %+v: %w", r, err)
			}
		}
	}
	return nil
}

func limiterRace(ctx context.Context, p auth.Limiter) error {
	allowed := make([]bool, 40)
	err := allTogether(len(allowed), func(i int) error {
		wait, err := p.Allow(ctx, "key", rate, epoch)
		allowed[i] = wait == 0
		return during("Allow", err)
	})
	n := 0
	for _, ok := range allowed {
		if ok {
			n++
		}
	}
	if err == nil && n != rate.Burst {
		err = fmt.Errorf("%d of %d concurrent attempts were allowed, want %d", n, len(allowed), rate.Burst)
	}
	return err
}

// Hasher checks auth.Hasher.
func Hasher() []Case[auth.Hasher] {
	return suite("Hasher", []promise[auth.Hasher]{
		{"a password matches its hash", "Verify reports whether password is the one that was hashed, in time that does not depend on how much of it is right.", hasherMatches},
		{"another password does not match", "Verify reports whether password is the one that was hashed, in time that does not depend on how much of it is right.", hasherOther},
		{"long passwords count to the last byte", "A password is any bytes, and counts to its last one; MaxPassword characters are not too many.", hasherLong},
		{"any bytes are a password", "A password is any bytes, and counts to its last one; MaxPassword characters are not too many.", hasherBytes},
		{"every hash has a fresh salt", "Hash returns an encoded hash with its algorithm, parameters and a fresh salt.", hasherSalt},
		{"a hash does not hold the password", "The hash does not tell the password.", hasherHides},
		{"a current hash needs no upgrade", "upgrade says that it matches and that the hash should be made anew, because its algorithm or parameters are not the current ones.", hasherUpgrade},
		{"a hash that cannot be read is an error", "A hash that cannot be read is an error.", hasherUnreadable},
		{"concurrent calls are right", "It may be called from many goroutines.", hasherConcurrent},
		{"waiting ends with the context", "Hash waits for its turn until ctx is done. Verify waits for its turn until ctx is done.", hasherEnded},
	})
}

const password = "correct horse ü 👋"

// verify wants the answer.
func verify(ctx context.Context, p auth.Hasher, hash, password string, want bool) error {
	ok, upgrade, err := p.Verify(ctx, hash, password)
	switch {
	case err != nil:
	case ok != want:
		err = fmt.Errorf("it returned %t, want %t", ok, want)
	case upgrade:
		err = errors.New("it asks for an upgrade of a hash that it just made, or that does not match")
	}
	return during(fmt.Sprintf("Verify of %s", brief([]byte(password))), err)
}

func hasherMatches(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	return then(during("Hash", err),
		func() error { return verify(ctx, p, hash, password, true) },
		func() error { return verify(ctx, p, hash, password, true) },
	)
}

func hasherOther(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	for _, other := range []string{"", "c", password[1:], password + " ", " " + password, strings.ToUpper(password), strings.Replace(password, "ü", "u\u0308", 1), hash} {
		if err := verify(ctx, p, hash, other, false); err != nil {
			return err
		}
	}
	return nil
}

func hasherLong(ctx context.Context, p auth.Hasher) error {
	most := strings.Repeat("p", auth.MaxPassword-1) + "1"
	hash, err := p.Hash(ctx, most)
	return then(during("Hash", err),
		func() error { return verify(ctx, p, hash, most, true) },
		func() error { return verify(ctx, p, hash, most[:auth.MaxPassword-1]+"2", false) },
		func() error { return verify(ctx, p, hash, most[:72], false) },
	)
}

func hasherBytes(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, "nul\x00and\xffbytes$,=")
	return then(during("Hash", err),
		func() error { return verify(ctx, p, hash, "nul\x00and\xffbytes$,=", true) },
		func() error { return verify(ctx, p, hash, "nul\x00and\xfebytes$,=", false) },
		func() error { return verify(ctx, p, hash, "nul", false) },
	)
}

func hasherSalt(ctx context.Context, p auth.Hasher) error {
	one, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	two, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash again", err)
	}
	if one == two {
		return errors.New("the same password was hashed twice to the same hash")
	}
	return first(
		func() error { return verify(ctx, p, one, password, true) },
		func() error { return verify(ctx, p, two, password, true) },
	)
}

func hasherHides(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, "in plain sight")
	if err == nil {
		for _, plain := range []string{"in plain sight", base64.StdEncoding.EncodeToString([]byte("in plain sight"))[:18], "696e20706c61696e"} {
			if strings.Contains(hash, plain) {
				err = errors.New("it holds the password")
			}
		}
	}
	return during("Hash", err)
}

func hasherUpgrade(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	if ok, upgrade, err := p.Verify(ctx, hash, password); err != nil || !ok || upgrade {
		return fmt.Errorf("Verify of a hash that was just made: ok %t, upgrade %t, error %w", ok, upgrade, orNone(err))
	}
	if ok, upgrade, err := p.Verify(ctx, hash, "wrong"); err != nil || ok || upgrade {
		return fmt.Errorf("Verify of another password: ok %t, upgrade %t, error %w", ok, upgrade, orNone(err))
	}
	return nil
}

func hasherUnreadable(ctx context.Context, p auth.Hasher) error {
	whole, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	for _, hash := range []string{"", "$", "plain", password, "$argon2id$", "$unknown$v=1$AAAA$BBBB", whole[:len(whole)/3]} {
		if ok, upgrade, err := p.Verify(ctx, hash, password); err == nil || ok || upgrade {
			return fmt.Errorf("Verify of the unreadable hash %q: ok %t, upgrade %t, error %w", hash, ok, upgrade, orNone(err))
		}
	}
	return nil
}

func hasherConcurrent(ctx context.Context, p auth.Hasher) error {
	return allTogether(6, func(i int) error {
		mine := fmt.Sprintf("%s %d", password, i)
		hash, err := p.Hash(ctx, mine)
		return then(during("Hash", err),
			func() error { return verify(ctx, p, hash, mine, true) },
			func() error { return verify(ctx, p, hash, password, false) },
		)
	})
}

func hasherEnded(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	// Whether there is a turn at once is not known: but no answer may be wrong.
	if early, err := p.Hash(ended(ctx), password); err == nil {
		if err := verify(ctx, p, early, password, true); err != nil {
			return fmt.Errorf("what Hash returned under an ended context: %w", err)
		}
	}
	if ok, _, err := p.Verify(ended(ctx), hash, password); err == nil != ok {
		return fmt.Errorf("Verify of the right password under an ended context: ok %t, error %w", ok, orNone(err))
	}
	return verify(ctx, p, hash, password, true)
}

// Tokens is the port of [TokenVerifier]: an issuer and the verifier that knows its key.
type Tokens struct {
	Issuer   auth.TokenIssuer
	Verifier auth.TokenVerifier
	// Stranger issues tokens of the same kind with a key that Verifier does not know.
	Stranger auth.TokenIssuer
	// Now is the verifier's clock. Default time.Now.
	Now func() time.Time
}

// TokenVerifier checks auth.TokenVerifier and auth.TokenIssuer.
func TokenVerifier() []Case[Tokens] {
	return suite("TokenVerifier", []promise[Tokens]{
		{"a token says what it was issued for", "Issue returns a signed token that says all of c. Verify returns what the token says.", tokensRoundTrip},
		{"foreign values are kept", "Issue returns a signed token that says all of c.", tokensForeign},
		{"a token for another audience is refused", "Verify returns ErrTokenInvalid unless the token was made for audience.", tokensAudience},
		{"an expired token is refused", "Verify returns ErrTokenInvalid if the token is expired.", tokensExpired},
		{"a changed token is refused", "Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.", tokensChanged},
		{"a stranger's token is refused", "Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.", tokensStranger},
		{"an unsigned token is refused", "Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.", tokensUnsigned},
		{"what is no token is refused", "Verify returns ErrTokenInvalid for what is no token.", tokensGarbage},
		{"concurrent tokens are apart", "It may be called from many goroutines.", tokensConcurrent},
	})
}

func (p Tokens) claims(n int) auth.Claims {
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	issued := now().UTC().Truncate(time.Second)
	return auth.Claims{
		ID: fmt.Sprintf("token-%d", n), Audience: auth.AudienceAPI, UserID: user.ID(fmt.Sprintf("user-%d", n)),
		Name: "Zoë Ångström", SessionID: fmt.Sprintf("session-%d", n),
		SessionAt: issued.Add(-time.Hour - time.Duration(n)*time.Microsecond), IssuedAt: issued, ExpiresAt: issued.Add(time.Hour),
	}
}

// sameClaims compares times as moments: a zone is not in a token.
func sameClaims(got, want auth.Claims) error {
	got.IssuedAt, got.ExpiresAt, got.SessionAt, got.Until = got.IssuedAt.UTC(), got.ExpiresAt.UTC(), got.SessionAt.UTC(), got.Until.UTC()
	return same(got, want)
}

func (p Tokens) trip(ctx context.Context, c auth.Claims) error {
	token, err := p.Issuer.Issue(ctx, c)
	if err != nil {
		return during("Issue", err)
	}
	got, err := p.Verifier.Verify(ctx, token, c.Audience)
	if err == nil {
		err = sameClaims(got, c)
	}
	return during("Verify", err)
}

// refuse wants ErrTokenInvalid, and nothing said.
func (p Tokens) refuse(ctx context.Context, what, token, audience string) error {
	c, err := p.Verifier.Verify(ctx, token, audience)
	if err := wantIs("Verify of "+what, err, auth.ErrTokenInvalid); err != nil {
		return err
	}
	return during("Verify of "+what+" returned claims beside the error", same(c, auth.Claims{}))
}

func tokensRoundTrip(ctx context.Context, p Tokens) error {
	ticket, old := p.claims(2), p.claims(3)
	ticket.Audience, ticket.Until = auth.AudienceTicket, ticket.ExpiresAt.Add(time.Minute)
	old.SessionAt = time.Time{}
	return first(
		func() error { return p.trip(ctx, p.claims(1)) },
		func() error { return p.trip(ctx, ticket) },
		func() error { return p.trip(ctx, old) },
	)
}

func tokensForeign(ctx context.Context, p Tokens) error {
	c := p.claims(1)
	c.Name = long(user.MaxFullName)
	d := p.claims(2)
	d.Name, d.SessionID = `<Zoë> & "O'Neil" \u0041 👋`, ""
	return first(
		func() error { return p.trip(ctx, c) },
		func() error { return p.trip(ctx, d) },
	)
}

func tokensAudience(ctx context.Context, p Tokens) error {
	api, ticket := p.claims(1), p.claims(2)
	ticket.Audience = auth.AudienceTicket
	for _, c := range []auth.Claims{api, ticket} {
		token, err := p.Issuer.Issue(ctx, c)
		if err != nil {
			return during("Issue", err)
		}
		for _, audience := range []string{auth.AudienceAPI, auth.AudienceTicket, "", "PARLEY", "parley:"} {
			if audience == c.Audience {
				continue
			}
			if err := p.refuse(ctx, fmt.Sprintf("a token made for %q by %q", c.Audience, audience), token, audience); err != nil {
				return err
			}
		}
	}
	return nil
}

func tokensExpired(ctx context.Context, p Tokens) error {
	c := p.claims(1)
	c.IssuedAt, c.ExpiresAt = c.IssuedAt.Add(-3*time.Hour), c.IssuedAt.Add(-2*time.Hour)
	token, err := p.Issuer.Issue(ctx, c)
	return then(during("Issue", err), func() error { return p.refuse(ctx, "an expired token", token, c.Audience) })
}

func tokensChanged(ctx context.Context, p Tokens) error {
	token, err := p.Issuer.Issue(ctx, p.claims(1))
	if err != nil {
		return during("Issue", err)
	}
	const step = 7 // not each byte: a verifier takes its time
	for i := 1; i < len(token)-4; i += step {
		b := []byte(token)
		if b[i] == '.' {
			continue
		}
		if b[i]++; b[i] > 'z' || b[i] == '.' {
			b[i] = 'A'
		}
		if err := p.refuse(ctx, fmt.Sprintf("a token whose byte %d of %d was changed", i, len(token)), string(b), auth.AudienceAPI); err != nil {
			return err
		}
	}
	other, err := p.Issuer.Issue(ctx, p.claims(2))
	if err != nil {
		return during("Issue", err)
	}
	if i := strings.LastIndexByte(token, '.'); i > 0 {
		if j := strings.LastIndexByte(other, '.'); j > 0 {
			err = p.refuse(ctx, "a token with the signature of another", token[:i]+other[j:], auth.AudienceAPI)
		}
	}
	return then(err,
		func() error { return p.refuse(ctx, "a cut token", token[:len(token)-8], auth.AudienceAPI) },
		func() error { return p.refuse(ctx, "a token with a tail", token+"AAAA", auth.AudienceAPI) },
	)
}

func tokensStranger(ctx context.Context, p Tokens) error {
	token, err := p.Stranger.Issue(ctx, p.claims(1))
	return then(during("Issue", err),
		func() error { return p.refuse(ctx, "a stranger's token", token, auth.AudienceAPI) },
		func() error { return p.trip(ctx, p.claims(2)) },
	)
}

func tokensUnsigned(ctx context.Context, p Tokens) error {
	token, err := p.Issuer.Issue(ctx, p.claims(1))
	if err != nil {
		return during("Issue", err)
	}
	says := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"user-1","aud":"parley","exp":99999999999}`))
	if parts := strings.Split(token, "."); len(parts) == 3 {
		says = parts[1]
	}
	for _, head := range []string{`{"alg":"none","typ":"at+jwt"}`, `{"alg":"None"}`, `{"alg":"HS256"}`, `{}`} {
		forged := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + says + "."
		if err := first(
			func() error {
				return p.refuse(ctx, "an unsigned token with the header "+head, forged, auth.AudienceAPI)
			},
			func() error {
				return p.refuse(ctx, "a forged token with the header "+head, forged+"AAAA", auth.AudienceAPI)
			},
		); err != nil {
			return err
		}
	}
	if i := strings.LastIndexByte(token, '.'); i > 0 {
		err = p.refuse(ctx, "a token without its signature", token[:i+1], auth.AudienceAPI)
	}
	return err
}

func tokensGarbage(ctx context.Context, p Tokens) error {
	for _, token := range []string{"", " ", ".", "..", "...", "token", "a.b.c", "ü", "\x00", strings.Repeat("A", 10_000), strings.Repeat("A.", 5000), "Bearer x"} {
		if err := p.refuse(ctx, brief([]byte(token)), token, auth.AudienceAPI); err != nil {
			return err
		}
	}
	return nil
}

func tokensConcurrent(ctx context.Context, p Tokens) error {
	return allTogether(16, func(i int) error { return p.trip(ctx, p.claims(i)) })
}

// PasswordList checks auth.PasswordList.
func PasswordList() []Case[auth.PasswordList] {
	return suite("PasswordList", []promise[auth.PasswordList]{
		{"common passwords are in it", "Contains reports whether password, or one that is as easily guessed, is in the list.", listHas},
		{"letter case does not count", "Letter case does not count.", listFolds},
		{"a phrase that nobody else has is not in it", "Contains reports whether password, or one that is as easily guessed, is in the list.", listLacks},
		{"many may ask at once", "It may be called from many goroutines.", listMany},
	})
}

func contains(ctx context.Context, l auth.PasswordList, want bool, passwords ...string) error {
	for _, p := range passwords {
		got, err := l.Contains(ctx, p)
		if err == nil && got != want {
			err = fmt.Errorf("it is %v, want %v", got, want)
		}
		if err != nil {
			return fmt.Errorf("Contains(%q): %w", p, err)
		}
	}
	return nil
}

func listHas(ctx context.Context, l auth.PasswordList) error {
	return contains(ctx, l, true, "password", "12345678", "iloveyou", "football", "qwertyuiop")
}

func listFolds(ctx context.Context, l auth.PasswordList) error {
	return contains(ctx, l, true, "PASSWORD", "Football", "iLoveYou")
}

func listLacks(ctx context.Context, l auth.PasswordList) error {
	return contains(ctx, l, false, "seven lamps under an old bridge", "тихий сад за рекой", "")
}

func listMany(ctx context.Context, l auth.PasswordList) error {
	return allTogether(16, func(int) error {
		return first(
			func() error { return contains(ctx, l, true, "password") },
			func() error { return contains(ctx, l, false, "seven lamps under an old bridge") },
		)
	})
}
