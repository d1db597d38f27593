package contract_test

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/user"
)

// directory is one that lists in another way.
type directory func(ctx context.Context, f user.Filter) ([]user.User, error)

func (d directory) List(ctx context.Context, f user.Filter) ([]user.User, error) { return d(ctx, f) }

func openListed() contract.Listed {
	s := memory.NewStore()
	return contract.Listed{Directory: s.Users, Repository: s.Users}
}

// directoryFaults are directories that go wrong.
func directoryFaults() []broken[contract.Listed] {
	listing := func(list func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error)) func(contract.Listed) contract.Listed {
		return func(p contract.Listed) contract.Listed {
			under := p.Directory
			p.Directory = directory(func(ctx context.Context, f user.Filter) ([]user.User, error) { return list(under, ctx, f) })
			return p
		}
	}
	// told changes what a user of the list says.
	told := func(change func(*user.User)) func(contract.Listed) contract.Listed {
		return listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			all, err := under.List(ctx, f)
			for i := range all {
				change(&all[i])
			}
			return all, err
		})
	}
	asked := func(change func(*user.Filter)) func(contract.Listed) contract.Listed {
		return listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			change(&f)
			return under.List(ctx, f)
		})
	}
	return []broken[contract.Listed]{
		{"roles are not told", "users are listed as they are", told(func(u *user.User) { u.Role = "" })},
		{"who is disabled looks like others", "users are listed as they are", told(func(u *user.User) { u.DisabledAt = u.SessionsFrom })},
		{"passwords are left out", "users are listed as they are", told(func(u *user.User) { u.PasswordHash = "" })},
		{"ids are sorted without regard to case", "ids are in the order of their bytes", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			all, err := under.List(ctx, f)
			slices.SortFunc(all, func(a, b user.User) int {
				return cmp.Or(strings.Compare(lower(string(a.ID)), lower(string(b.ID))), strings.Compare(string(a.ID), string(b.ID)))
			})
			return all, err
		})},
		{"there is one more than asked for", "a page ends at its limit", asked(func(f *user.Filter) { f.Limit++ })},
		{"no limit is all", "a page ends at its limit", asked(func(f *user.Filter) {
			if f.Limit <= 0 {
				f.Limit = 100
			}
		})},
		{"the last of the page before comes again", "a page ends at its limit", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			all, err := under.List(ctx, user.Filter{Prefix: f.Prefix, Role: f.Role, Enabled: f.Enabled, Limit: 1000})
			all = slices.DeleteFunc(all, func(u user.User) bool { return u.ID < f.After })
			return all[:min(len(all), max(f.Limit, 0))], err
		})},
		{"a page needs the user whom it begins after", "a page begins after a user who is not there", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			all, err := under.List(ctx, user.Filter{Limit: 1000})
			if f.After != "" && !slices.ContainsFunc(all, func(u user.User) bool { return u.ID == f.After }) {
				return nil, err
			}
			return under.List(ctx, f)
		})},
		{"names are not looked at", "addresses and names begin with a prefix", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			all, err := under.List(ctx, f)
			return slices.DeleteFunc(all, func(u user.User) bool { return !strings.HasPrefix(string(u.Email), lower(f.Prefix)) }), err
		})},
		{"letter case counts", "addresses and names begin with a prefix", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			all, err := under.List(ctx, f)
			return slices.DeleteFunc(all, func(u user.User) bool {
				return !strings.HasPrefix(string(u.Email), f.Prefix) && !strings.HasPrefix(u.FullName, f.Prefix)
			}), err
		})},
		{"a prefix may stand anywhere", "addresses and names begin with a prefix", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			prefix := lower(f.Prefix)
			f.Prefix = ""
			all, err := under.List(ctx, f)
			return slices.DeleteFunc(all, func(u user.User) bool {
				return !strings.Contains(string(u.Email), prefix) && !strings.Contains(lower(u.FullName), prefix)
			}), err
		})},
		{"an underscore stands for any character", "addresses and names begin with a prefix", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			prefix := []rune(lower(f.Prefix))
			f.Prefix = ""
			all, err := under.List(ctx, f)
			like := func(s string) bool {
				text := []rune(lower(s))
				if len(text) < len(prefix) {
					return false
				}
				for i, r := range prefix {
					if r != '_' && text[i] != r {
						return false
					}
				}
				return true
			}
			return slices.DeleteFunc(all, func(u user.User) bool { return !like(string(u.Email)) && !like(u.FullName) }), err
		})},
		{"everybody is an administrator", "administrators are found", asked(func(f *user.Filter) { f.Role = "" })},
		{"who is disabled is there", "who is disabled can be left out", asked(func(f *user.Filter) { f.Enabled = false })},
		{"who is disabled is never there", "who is disabled can be left out", asked(func(f *user.Filter) { f.Enabled = true })},
		{"one choice stands for all", "everything chooses together", asked(func(f *user.Filter) {
			if f.Role != "" {
				f.Enabled, f.Prefix = false, ""
			}
		})},
		{"what was read once stays", "a change is seen at once", func(p contract.Listed) contract.Listed {
			under, seen := p.Directory, map[user.Filter][]user.User{}
			p.Directory = directory(func(ctx context.Context, f user.Filter) ([]user.User, error) {
				if all, known := seen[f]; known {
					return all, nil
				}
				all, err := under.List(ctx, f)
				seen[f] = all
				return all, err
			})
			return p
		}},
		{"while others come there is nobody", "nobody is missed while others come", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			if f.Limit == 50 {
				return nil, nil
			}
			return under.List(ctx, f)
		})},
		{"the end of a context goes unheard", "a context that has ended is an error", listing(func(under user.Directory, ctx context.Context, f user.Filter) ([]user.User, error) {
			return under.List(context.WithoutCancel(ctx), f)
		})},
	}
}
