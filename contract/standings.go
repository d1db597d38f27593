package contract

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

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
