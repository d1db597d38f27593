package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Users is the port of [UserRepository] and [Outbox]: a repository, and the outbox that gets
// the events of its changes.
type Users struct {
	Repository user.Repository
	Outbox     event.Outbox
}

// UserRepository checks user.Repository.
func UserRepository() []Case[Users] {
	return suite("UserRepository", []promise[Users]{
		{"a created user is read back", "Create stores u with every field as it is. Every time is UTC, to the microsecond.", usersCreate},
		{"an unverified user stays unverified", "VerifiedAt is when the address was proven to be the user's; zero until then.", usersUnverified},
		{"long and foreign values are kept", "It keeps every name and address that ParseFullName and ParseEmail let through, and every language and avatar that ParseLanguage and ParseAvatarURL do.", usersLong},
		{"an unknown user is not found", "ByID returns the user, or ErrNotFound. ByEmail returns the user with this canonical address, or ErrNotFound.", usersAbsent},
		{"identifiers are exact", "Two IDs are the same only if they have the same bytes.", usersExactIDs},
		{"a taken address is refused", "Create returns ErrEmailTaken if a user with u.Email exists.", usersEmailTaken},
		{"a taken id is refused", "Create returns an error of kind Conflict if a user with u.ID exists.", usersIDTaken},
		{"one of several creates wins", "Of several concurrent calls with one address, exactly one succeeds.", usersCreateRace},
		{"many users are created at once", "It may be called from many goroutines.", usersCreateMany},
		{"create stores its events", "Create puts events into the outbox in the commit that stores u: both are stored, or neither is.", usersCreateEvents},
		{"a refused create stores no event", "Create puts events into the outbox in the commit that stores u: both are stored, or neither is.", usersCreateNeither},
		{"update stores what change did", "Update lets change edit a copy of the stored user, and stores it. Update returns the stored user, or ErrNotFound.", usersUpdate},
		{"change sees the stored user", "Update lets change edit a copy of the stored user, and stores it.", usersUpdateSees},
		{"what users say of themselves is stored", "Update lets change edit a copy of the stored user, and stores it. It keeps every name and address that ParseFullName and ParseEmail let through, and every language and avatar that ParseLanguage and ParseAvatarURL do.", usersProfile},
		{"an address that is wanted is nobody's", "NewEmail is the address that the user wants to have, and that is not proven yet; empty for none. It may be another's.", usersNewEmail},
		{"update clears a time", "Update lets change edit a copy of the stored user, and stores it.", usersUpdateClears},
		{"an update of nothing is no error", "Update returns the stored user, or ErrNotFound.", usersUpdateNothing},
		{"update of an unknown user is not found", "Update returns the stored user, or ErrNotFound.", usersUpdateAbsent},
		{"a failed change stores nothing", "An error of change stores nothing and is returned as it is.", usersUpdateFails},
		{"update stores its events", "Update puts events into the outbox in the commit that stores the user: both are stored, or neither is.", usersUpdateEvents},
		{"concurrent updates are not lost", "Concurrent updates of one user do not lose each other's changes.", usersUpdateRace},
		{"a changed address is found and the old one is free", "ByEmail returns the user with this canonical address, or ErrNotFound.", usersEmailMoves},
		{"an update to a taken address is refused", "Update returns ErrEmailTaken if another user has the changed Email.", usersUpdateTaken},
		{"one of several updates gets an address", "Update returns ErrEmailTaken if another user has the changed Email.", usersEmailRace},
		{"an ended context stores nothing", "When ctx is done before the commit, nothing is stored and the error says so.", usersEnded},
	})
}

func someone(n int) user.User {
	return user.User{
		ID:                user.ID(fmt.Sprintf("user-%02d", n)),
		FullName:          fmt.Sprintf("Zoë Ångström %d 👋", n),
		Email:             user.Email(fmt.Sprintf("zoe%02d@example.com", n)),
		PasswordHash:      fmt.Sprintf("$hash$v=%d$Aa+/=", n),
		CreatedAt:         at(n),
		VerifiedAt:        at(n + 1),
		PasswordChangedAt: at(n + 2), SessionsFrom: at(n + 3), KeptSession: fmt.Sprintf("session-%d", n),
		Language: "sr-Latn-RS", AvatarURL: fmt.Sprintf("https://example.com/%%C3%%A4/%d.png?size=1&round=1", n),
		NewEmail: user.Email(fmt.Sprintf("new%02d@example.com", n)), NewEmailCode: fmt.Sprintf("%064x", n),
	}
}

func happened(n int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("event-%04d", n), Topic: "mail", Type: "user.created", Key: fmt.Sprintf("user-%02d", n%7),
		Time: at(n), Data: fmt.Appendf(nil, `{"z": %d,  "a":"ü \u0022"}`, n),
	}
}

// wantUser reads u in both ways.
func wantUser(ctx context.Context, p Users, u user.User) error {
	got, err := p.Repository.ByID(ctx, u.ID)
	if err == nil {
		err = same(got, u)
	}
	if err != nil {
		return fmt.Errorf("ByID(%q): %w", u.ID, err)
	}
	got, err = p.Repository.ByEmail(ctx, u.Email)
	if err == nil {
		err = same(got, u)
	}
	return during(fmt.Sprintf("ByEmail(%q)", u.Email), err)
}

// wantNobody wants neither the id nor, unless it is empty, the address to be known.
func wantNobody(ctx context.Context, p Users, id user.ID, email user.Email) error {
	_, err := p.Repository.ByID(ctx, id)
	if err := wantIs(fmt.Sprintf("ByID(%q)", id), err, user.ErrNotFound); err != nil || email == "" {
		return err
	}
	_, err = p.Repository.ByEmail(ctx, email)
	return wantIs(fmt.Sprintf("ByEmail(%q)", email), err, user.ErrNotFound)
}

func wantPending(ctx context.Context, o event.Outbox, want ...event.Event) error {
	got, err := o.Pending(ctx, len(want)+10)
	if err == nil {
		err = same(got, want)
	}
	return during("Pending", err)
}

func create(ctx context.Context, p Users, u user.User, events ...event.Event) error {
	return during(fmt.Sprintf("Create(%q)", u.ID), p.Repository.Create(ctx, u, events...))
}

func usersCreate(ctx context.Context, p Users) error {
	for n := range 3 {
		if err := create(ctx, p, someone(n)); err != nil {
			return err
		}
	}
	for n := range 3 {
		if err := wantUser(ctx, p, someone(n)); err != nil {
			return err
		}
	}
	return nil
}

func usersUnverified(ctx context.Context, p Users) error {
	u := someone(1)
	u.VerifiedAt = time.Time{}
	if err := create(ctx, p, u); err != nil {
		return err
	}
	got, err := p.Repository.ByID(ctx, u.ID)
	if err != nil {
		return during("ByID", err)
	}
	if got.Verified() {
		return fmt.Errorf("a user without VerifiedAt comes back verified at %s", got.VerifiedAt)
	}
	return wantUser(ctx, p, u)
}

func usersLong(ctx context.Context, p Users) error {
	u := someone(1)
	u.FullName = long(user.MaxFullName)
	u.Email = user.Email(strings.Repeat("a", 64) + "@" + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + strings.Repeat("d", 60) + ".exa")
	u.Email += user.Email(strings.Repeat("e", user.MaxEmail-len(u.Email)))
	u.PasswordHash = strings.Repeat("$argon2id$", 25)
	u.Language = "x-" + strings.Repeat("abcdefgh-", 3) + "abcdef"
	u.AvatarURL = "https://example.com/" + strings.Repeat("a", user.MaxAvatarURL-len("https://example.com/"))
	u.NewEmail = u.Email
	if err := create(ctx, p, u); err != nil {
		return err
	}
	return wantUser(ctx, p, u)
}

func usersAbsent(ctx context.Context, p Users) error {
	if err := wantNobody(ctx, p, "nobody", "nobody@example.com"); err != nil {
		return err
	}
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	return wantNobody(ctx, p, "nobody", "nobody@example.com")
}

func usersExactIDs(ctx context.Context, p Users) error {
	ids := []user.ID{"abc", "ABC", "Abc", "abcd", "äbc", "a%", "a_c"}
	for n, id := range ids {
		u := someone(n)
		u.ID = id
		if err := create(ctx, p, u); err != nil {
			return err
		}
	}
	for n, id := range ids {
		u := someone(n)
		u.ID = id
		if err := wantUser(ctx, p, u); err != nil {
			return err
		}
	}
	return wantNobody(ctx, p, "aBC", "")
}

func usersEmailTaken(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	other := someone(2)
	other.Email = someone(1).Email
	return first(
		func() error {
			return wantIs("Create with a taken address", p.Repository.Create(ctx, other), user.ErrEmailTaken)
		},
		func() error { return wantNobody(ctx, p, other.ID, "") },
		func() error { return wantUser(ctx, p, someone(1)) },
	)
}

func usersIDTaken(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	other := someone(2)
	other.ID = someone(1).ID
	err := p.Repository.Create(ctx, other)
	if errors.Is(err, user.ErrEmailTaken) {
		return fmt.Errorf("the port's Create with a taken id and a free address returned %w", err)
	}
	_, absent := p.Repository.ByEmail(ctx, other.Email)
	return first(
		func() error { return wantIs("Create with a taken id", err, fault.Conflict) },
		func() error { return wantIs("ByEmail of the refused user", absent, user.ErrNotFound) },
		func() error { return wantUser(ctx, p, someone(1)) },
	)
}

func usersCreateRace(ctx context.Context, p Users) error {
	errs := together(16, func(i int) error {
		u := someone(i)
		u.Email = "same@example.com"
		return p.Repository.Create(ctx, u, happened(i))
	})
	if err := oneWins("Create", user.ErrEmailTaken, errs); err != nil {
		return err
	}
	for i, err := range errs {
		if err != nil {
			if err := wantNobody(ctx, p, someone(i).ID, ""); err != nil {
				return err
			}
			continue
		}
		u := someone(i)
		u.Email = "same@example.com"
		if err := first(
			func() error { return wantUser(ctx, p, u) },
			func() error { return wantPending(ctx, p.Outbox, happened(i)) },
		); err != nil {
			return fmt.Errorf("of the call that won: %w", err)
		}
	}
	return nil
}

func usersCreateMany(ctx context.Context, p Users) error {
	const n = 24
	if err := allTogether(n, func(i int) error { return create(ctx, p, someone(i), happened(i)) }); err != nil {
		return err
	}
	for i := range n {
		if err := wantUser(ctx, p, someone(i)); err != nil {
			return err
		}
	}
	got, err := p.Outbox.Pending(ctx, 2*n)
	if err == nil && len(got) != n {
		err = fmt.Errorf("%d users were created with one event each, and %d events are pending", n, len(got))
	}
	return during("Pending", err)
}

func usersCreateEvents(ctx context.Context, p Users) error {
	return first(
		func() error { return create(ctx, p, someone(1), happened(3), happened(1), happened(2)) },
		func() error { return create(ctx, p, someone(2)) },
		func() error { return create(ctx, p, someone(3), happened(0)) },
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(1), happened(2), happened(0)) },
	)
}

func usersCreateNeither(ctx context.Context, p Users) error {
	sameEmail, sameID := someone(2), someone(3)
	sameEmail.Email, sameID.ID = someone(1).Email, someone(1).ID
	return first(
		func() error { return create(ctx, p, someone(1), happened(1)) },
		func() error {
			return wantIs("Create with a taken address", p.Repository.Create(ctx, sameEmail, happened(2)), fault.Conflict)
		},
		func() error {
			return wantIs("Create with a taken id", p.Repository.Create(ctx, sameID, happened(3)), fault.Conflict)
		},
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}

func usersUpdate(ctx context.Context, p Users) error {
	if err := first(
		func() error { return create(ctx, p, someone(1)) },
		func() error { return create(ctx, p, someone(2)) },
	); err != nil {
		return err
	}
	want := someone(5)
	want.ID = someone(1).ID
	got, err := p.Repository.Update(ctx, want.ID, func(u *user.User) error { *u = want; return nil })
	if err == nil {
		err = same(got, want)
	}
	return then(during("Update", err),
		func() error { return wantUser(ctx, p, want) },
		func() error { return wantUser(ctx, p, someone(2)) },
	)
}

func usersUpdateSees(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	var seen user.User
	_, err := p.Repository.Update(ctx, someone(1).ID, func(u *user.User) error { seen = *u; return nil })
	return then(during("Update", err), func() error { return during("change was given a user whose", same(seen, someone(1))) })
}

// usersProfile sets what users say of themselves where nothing was, changes it, and takes it away.
func usersProfile(ctx context.Context, p Users) error {
	u := user.User{ID: "bare", FullName: "Bare", Email: "bare@example.com", CreatedAt: at(1)}
	if err := create(ctx, p, u); err != nil {
		return err
	}
	for _, said := range []user.User{
		{Language: "de", AvatarURL: "https://example.com/a.png", NewEmail: "new@example.com", NewEmailCode: "code"},
		{Language: "zh-Hant", AvatarURL: "http://[2001:db8::1]:8080/%20?a=b#c", NewEmail: "newer@example.com", NewEmailCode: "another"},
		{},
	} {
		u.Language, u.AvatarURL, u.NewEmail, u.NewEmailCode = said.Language, said.AvatarURL, said.NewEmail, said.NewEmailCode
		got, err := p.Repository.Update(ctx, u.ID, func(x *user.User) error {
			x.Language, x.AvatarURL, x.NewEmail, x.NewEmailCode = said.Language, said.AvatarURL, said.NewEmail, said.NewEmailCode
			return nil
		})
		if err == nil {
			err = same(got, u)
		}
		if err := then(during("Update", err), func() error { return wantUser(ctx, p, u) }); err != nil {
			return err
		}
	}
	return nil
}

func usersNewEmail(ctx context.Context, p Users) error {
	wants, also, owner := someone(1), someone(2), someone(3)
	wants.NewEmail, also.NewEmail = owner.Email, owner.Email
	for _, u := range []user.User{wants, also} {
		if err := create(ctx, p, u); err != nil {
			return err
		}
	}
	return first(
		func() error {
			return wantIs("ByEmail of an address that is only wanted", second(p.Repository.ByEmail(ctx, owner.Email)), user.ErrNotFound)
		},
		func() error { return create(ctx, p, owner) },
		func() error { return wantUser(ctx, p, owner) },
		func() error { return wantUser(ctx, p, wants) },
		func() error { return wantUser(ctx, p, also) },
	)
}

func usersUpdateClears(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	want := someone(1)
	want.VerifiedAt = time.Time{}
	got, err := p.Repository.Update(ctx, want.ID, func(u *user.User) error { u.VerifiedAt = time.Time{}; return nil })
	if err == nil {
		err = same(got, want)
	}
	return then(during("Update", err), func() error { return wantUser(ctx, p, want) })
}

func usersUpdateNothing(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	got, err := p.Repository.Update(ctx, someone(1).ID, func(*user.User) error { return nil }, happened(1))
	if err == nil {
		err = same(got, someone(1))
	}
	return then(during("Update", err),
		func() error { return wantUser(ctx, p, someone(1)) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
	)
}

func usersUpdateAbsent(ctx context.Context, p Users) error {
	_, err := p.Repository.Update(ctx, "nobody", func(u *user.User) error { u.FullName = "Nobody"; return nil }, happened(1))
	return first(
		func() error { return wantIs("Update of an unknown user", err, user.ErrNotFound) },
		func() error { return wantNobody(ctx, p, "nobody", "") },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func usersUpdateFails(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	refused := errors.New("refused by change")
	_, err := p.Repository.Update(ctx, someone(1).ID, func(u *user.User) error {
		u.FullName, u.Email = "Changed", "changed@example.com"
		return refused
	}, happened(1))
	if err != refused { //nolint:errorlint // as it is: identity is the promise
		return fmt.Errorf("the error of Update is %w, want the very error of change", orNone(err))
	}
	return first(
		func() error { return wantUser(ctx, p, someone(1)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func usersUpdateEvents(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1), happened(1)); err != nil {
		return err
	}
	_, err := p.Repository.Update(ctx, someone(1).ID, func(u *user.User) error { u.FullName = "Changed"; return nil }, happened(3), happened(2))
	return then(during("Update", err), func() error { return wantPending(ctx, p.Outbox, happened(1), happened(3), happened(2)) })
}

func usersUpdateRace(ctx context.Context, p Users) error {
	const goroutines, each = 8, 5
	u := someone(1)
	u.FullName = "x"
	if err := create(ctx, p, u); err != nil {
		return err
	}
	err := allTogether(goroutines, func(int) error {
		for range each {
			if _, err := p.Repository.Update(ctx, u.ID, func(u *user.User) error { u.FullName += "x"; return nil }); err != nil {
				return during("Update", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	u.FullName = strings.Repeat("x", 1+goroutines*each)
	return wantUser(ctx, p, u)
}

func usersEmailMoves(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	moved := someone(1)
	moved.Email = "moved@example.com"
	_, err := p.Repository.Update(ctx, moved.ID, func(u *user.User) error { u.Email = moved.Email; return nil })
	if err != nil {
		return during("Update", err)
	}
	next := someone(2)
	next.Email = someone(1).Email
	return first(
		func() error { return wantUser(ctx, p, moved) },
		func() error {
			return wantIs("ByEmail of the old address", second(p.Repository.ByEmail(ctx, someone(1).Email)), user.ErrNotFound)
		},
		func() error { return create(ctx, p, next) },
		func() error { return wantUser(ctx, p, next) },
		func() error { return wantUser(ctx, p, moved) },
	)
}

func usersUpdateTaken(ctx context.Context, p Users) error {
	if err := first(
		func() error { return create(ctx, p, someone(1)) },
		func() error { return create(ctx, p, someone(2)) },
	); err != nil {
		return err
	}
	_, err := p.Repository.Update(ctx, someone(2).ID, func(u *user.User) error {
		u.Email, u.FullName = someone(1).Email, "Changed"
		return nil
	}, happened(1))
	return first(
		func() error { return wantIs("Update to a taken address", err, user.ErrEmailTaken) },
		func() error { return wantUser(ctx, p, someone(1)) },
		func() error { return wantUser(ctx, p, someone(2)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func usersEmailRace(ctx context.Context, p Users) error {
	const n = 8
	for i := range n {
		if err := create(ctx, p, someone(i)); err != nil {
			return err
		}
	}
	errs := together(n, func(i int) error {
		_, err := p.Repository.Update(ctx, someone(i).ID, func(u *user.User) error { u.Email = "same@example.com"; return nil })
		return err
	})
	if err := oneWins("Update to one address", user.ErrEmailTaken, errs); err != nil {
		return err
	}
	for i, err := range errs {
		want := someone(i)
		if err == nil {
			want.Email = "same@example.com"
		}
		if err := wantUser(ctx, p, want); err != nil {
			return err
		}
	}
	return nil
}

func usersEnded(ctx context.Context, p Users) error {
	if err := create(ctx, p, someone(1)); err != nil {
		return err
	}
	if err := p.Repository.Create(ended(ctx), someone(2), happened(2)); err == nil {
		return errors.New("the port's Create with an ended context returned no error")
	}
	if _, err := p.Repository.Update(ended(ctx), someone(1).ID, func(u *user.User) error { u.FullName = "Changed"; return nil }, happened(1)); err == nil {
		return errors.New("the port's Update with an ended context returned no error")
	}
	return first(
		func() error { return wantNobody(ctx, p, someone(2).ID, someone(2).Email) },
		func() error { return wantUser(ctx, p, someone(1)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}
