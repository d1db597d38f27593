package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/user"
)

const (
	directoryList   = "List returns the users whom f chooses, with every field as it is, ascending by the bytes of their IDs."
	directoryPrefix = "A prefix is that of the address or of the full name."
	directoryCase   = "Letters A to Z of a prefix are as good as a to z, and no character stands for others."
	directoryLimit  = "List returns at most f.Limit users: none if it is below 1."
	directoryAfter  = "A page begins after f.After, whether or not there is such a user."
	directoryStored = "List returns whoever was stored before the call as it is then, or as it became meanwhile."
	directoryRole   = "Only RoleAdmin can be asked for."
	directoryEnable = "Enabled leaves out users who are disabled."
)

// Listed is the port of [Directory]: a directory, and the repository whose users it lists.
type Listed struct {
	Directory  user.Directory
	Repository user.Repository
}

// Directory checks user.Directory.
func Directory() []Case[Listed] {
	return suite("Directory", []promise[Listed]{
		{"users are listed as they are", directoryList, directoryWhole},
		{"ids are in the order of their bytes", directoryList, directoryOrder},
		{"a page ends at its limit", directoryLimit, directoryPages},
		{"a page begins after a user who is not there", directoryAfter, directoryGap},
		{"addresses and names begin with a prefix", directoryPrefix + " " + directoryCase, directoryPrefixes},
		{"administrators are found", directoryRole, directoryAdmins},
		{"who is disabled can be left out", directoryEnable, directoryDisabled},
		{"everything chooses together", directoryList, directoryTogether},
		{"a change is seen at once", directoryStored, directoryChanged},
		{"nobody is missed while others come", "It may be called from many goroutines. " + directoryStored, directoryRace},
		{"a context that has ended is an error", directoryList, directoryContext},
	})
}

// enlist stores users.
func enlist(ctx context.Context, p Listed, users ...user.User) error {
	for _, u := range users {
		if err := p.Repository.Create(ctx, u); err != nil {
			return during(fmt.Sprintf("Create(%q)", u.ID), err)
		}
	}
	return nil
}

// wantUsers wants these users, in this order.
func wantUsers(ctx context.Context, p Listed, f user.Filter, want ...user.User) error {
	got, err := p.Directory.List(ctx, f)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("List(%+v)", f), err)
}

// wantUserIDs wants the users of these IDs, in this order.
func wantUserIDs(ctx context.Context, p Listed, f user.Filter, want ...user.ID) error {
	got, err := p.Directory.List(ctx, f)
	if err == nil {
		ids := make([]user.ID, len(got))
		for i, u := range got {
			ids[i] = u.ID
		}
		if !slices.Equal(ids, want) {
			err = fmt.Errorf("there are %q, want %q", ids, want)
		}
	}
	return during(fmt.Sprintf("List(%+v)", f), err)
}

func directoryWhole(ctx context.Context, p Listed) error {
	bare := user.User{ID: "user-10", FullName: "Bare", Email: "bare@example.com", CreatedAt: at(1)}
	full := someone(11)
	full.Role, full.DisabledAt = user.RoleAdmin, at(20)
	plain := someone(12)
	plain.Role = user.RoleUser
	return first(
		func() error { return wantUsers(ctx, p, user.Filter{Limit: 10}) },
		func() error { return enlist(ctx, p, plain, bare, full) },
		func() error { return wantUsers(ctx, p, user.Filter{Limit: 10}, bare, full, plain) },
		func() error {
			got, err := p.Repository.ByID(ctx, full.ID)
			return during("ByID", then(err, func() error { return same(got, full) }))
		},
	)
}

func directoryOrder(ctx context.Context, p Listed) error {
	var ids []user.ID
	for i, name := range names {
		u := someone(i)
		u.ID = user.ID(name)
		ids = append(ids, u.ID)
		if err := enlist(ctx, p, u); err != nil {
			return err
		}
	}
	slices.Sort(ids)
	return wantUserIDs(ctx, p, user.Filter{Limit: len(ids) + 1}, ids...)
}

func directoryPages(ctx context.Context, p Listed) error {
	var all []user.User
	for n := range 7 {
		all = append(all, someone(n))
	}
	page := func(after user.ID, limit int, want ...user.User) func() error {
		return func() error { return wantUsers(ctx, p, user.Filter{After: after, Limit: limit}, want...) }
	}
	return first(
		func() error { return enlist(ctx, p, all...) },
		page("", 3, all[:3]...), page(all[2].ID, 3, all[3:6]...), page(all[5].ID, 3, all[6]), page(all[6].ID, 3),
		page("", 7, all...), page("", 0), page("", -1), page("", 1000, all...),
	)
}

func directoryGap(ctx context.Context, p Listed) error {
	a, b := someone(1), someone(3)
	return first(
		func() error { return enlist(ctx, p, a, b) },
		func() error { return wantUsers(ctx, p, user.Filter{After: someone(2).ID, Limit: 5}, b) },
		func() error { return wantUsers(ctx, p, user.Filter{After: "a", Limit: 5}, a, b) },
		func() error { return wantUsers(ctx, p, user.Filter{After: "z", Limit: 5}) },
	)
}

func directoryPrefixes(ctx context.Context, p Listed) error {
	of := func(id user.ID, name string, email user.Email) user.User {
		return user.User{ID: id, FullName: name, Email: email, CreatedAt: at(1)}
	}
	users := []user.User{
		of("1", "Ada Lovelace", "countess@example.com"), of("2", "Bob", "ada.b@example.com"), of("3", "100% Bob", "hundred@example.com"),
		of("4", "a_da", "a_b@example.com"), of("5", "Éa", "e@example.com"), of("6", "adXa", "axb@example.com"), of("7", `\Ada!`, "back@example.com"),
		of("8", "Bada", "x+ada@example.com"), of("9", "[a]*(x).", "a*b@example.com"),
	}
	return first(append([]func() error{func() error { return enlist(ctx, p, users...) }}, func() (steps []func() error) {
		for prefix, want := range map[string][]user.ID{
			"ada": {"1", "2"}, "ADA": {"1", "2"}, "Ada L": {"1"}, "ada.": {"2"}, "lovelace": {}, "@": {}, "countess@example.com": {"1"}, "countess@example.comm": {},
			"100%": {"3"}, "1%": {}, "a_": {"4"}, "A_D": {"4"}, "adx": {"6"}, `\a`: {"7"}, `\ada!`: {"7"}, "Éa": {"5"}, "Éb": {},
			"[A]": {"9"}, "a*": {"9"}, ".": {}, "b": {"2", "7", "8"}, "bob": {"2"}, "": {"1", "2", "3", "4", "5", "6", "7", "8", "9"},
		} {
			steps = append(steps, func() error { return wantUserIDs(ctx, p, user.Filter{Prefix: prefix, Limit: 20}, want...) })
		}
		return steps
	}()...)...)
}

// ranked is n users of whom each third is an administrator, and each second disabled.
func ranked(n int) []user.User {
	all := make([]user.User, n)
	for i := range all {
		all[i] = someone(i)
		if i%3 == 0 {
			all[i].Role = user.RoleAdmin
		}
		if i%2 == 0 {
			all[i].DisabledAt = at(i)
		}
	}
	return all
}

func directoryAdmins(ctx context.Context, p Listed) error {
	all := ranked(7)
	return first(
		func() error { return enlist(ctx, p, all...) },
		func() error {
			return wantUsers(ctx, p, user.Filter{Role: user.RoleAdmin, Limit: 9}, all[0], all[3], all[6])
		},
		func() error {
			return wantUsers(ctx, p, user.Filter{Role: user.RoleAdmin, Limit: 1, After: all[0].ID}, all[3])
		},
	)
}

func directoryDisabled(ctx context.Context, p Listed) error {
	all := ranked(5)
	return first(
		func() error { return enlist(ctx, p, all...) },
		func() error { return wantUsers(ctx, p, user.Filter{Enabled: true, Limit: 9}, all[1], all[3]) },
		func() error { return wantUsers(ctx, p, user.Filter{Limit: 9}, all...) },
	)
}

func directoryTogether(ctx context.Context, p Listed) error {
	all := ranked(12)
	return first(
		func() error { return enlist(ctx, p, all...) },
		func() error {
			return wantUsers(ctx, p, user.Filter{Role: user.RoleAdmin, Enabled: true, Limit: 9}, all[3], all[9])
		},
		func() error {
			return wantUsers(ctx, p, user.Filter{Role: user.RoleAdmin, Enabled: true, Prefix: "ZOE", After: all[3].ID, Limit: 1}, all[9])
		},
		func() error {
			return wantUsers(ctx, p, user.Filter{Role: user.RoleAdmin, Enabled: true, Prefix: "bob", Limit: 9})
		},
	)
}

func directoryChanged(ctx context.Context, p Listed) error {
	u := someone(1)
	admins := user.Filter{Role: user.RoleAdmin, Enabled: true, Limit: 5}
	change := func(role user.Role, disabled time.Time) func() error {
		return func() error {
			_, err := p.Repository.Update(ctx, u.ID, func(x *user.User) error {
				x.Role, x.DisabledAt = role, disabled
				return nil
			})
			u.Role, u.DisabledAt = role, disabled
			return during("Update", err)
		}
	}
	return first(
		func() error { return enlist(ctx, p, u) },
		func() error { return wantUsers(ctx, p, admins) },
		change(user.RoleAdmin, time.Time{}),
		func() error { return wantUsers(ctx, p, admins, u) },
		change(user.RoleAdmin, at(3)),
		func() error { return wantUsers(ctx, p, admins) },
		func() error { return wantUsers(ctx, p, user.Filter{Limit: 5}, u) },
		change(user.RoleUser, time.Time{}),
		func() error { return wantUsers(ctx, p, admins) },
		func() error { return wantUsers(ctx, p, user.Filter{Enabled: true, Limit: 5}, u) },
	)
}

func directoryRace(ctx context.Context, p Listed) error {
	old := ranked(6)
	if err := enlist(ctx, p, old...); err != nil {
		return err
	}
	return allTogether(8, func(i int) error {
		if i%2 == 0 {
			return enlist(ctx, p, someone(20+i))
		}
		got, err := p.Directory.List(ctx, user.Filter{Limit: 50})
		if err != nil {
			return during("List", err)
		}
		if len(got) < len(old) {
			return fmt.Errorf("%d users are listed, and %d were there before", len(got), len(old))
		}
		return during("List", same(got[:len(old)], old))
	})
}

func directoryContext(ctx context.Context, p Listed) error {
	if err := enlist(ctx, p, someone(1)); err != nil {
		return err
	}
	if _, err := p.Directory.List(ended(ctx), user.Filter{Limit: 5}); err == nil {
		return errors.New("listing succeeded although its context had ended")
	}
	return nil
}
