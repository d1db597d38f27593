package contract_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// roleFaults are stores that go wrong about who is what in a room.
func roleFaults() []broken[contract.RoomRoles] {
	with := func(f func(under contract.RoomRoles) roles) func(contract.RoomRoles) contract.RoomRoles {
		return func(p contract.RoomRoles) contract.RoomRoles {
			r := f(p)
			r.Roles, p.Roles = p.Roles, r
			return p
		}
	}
	creating := func(f func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error)) func(contract.RoomRoles) contract.RoomRoles {
		return with(func(p contract.RoomRoles) roles {
			return roles{create: func(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
				return f(p, ctx, r, slices.Clone(members))
			}}
		})
	}
	// creates makes something else of the room and its members.
	creates := func(edit func(r *chat.Room, members []chat.Membership) []chat.Membership) func(contract.RoomRoles) contract.RoomRoles {
		return creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			members = edit(&r, members)
			return p.Roles.Create(ctx, r, members...)
		})
	}
	asking := func(f func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error)) func(contract.RoomRoles) contract.RoomRoles {
		return with(func(p contract.RoomRoles) roles {
			return roles{of: func(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
				return f(p, ctx, slices.Clone(whom))
			}}
		})
	}
	listing := func(f func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error)) func(contract.RoomRoles) contract.RoomRoles {
		return with(func(p contract.RoomRoles) roles {
			return roles{list: func(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
				return f(p, ctx, room, after, limit)
			}}
		})
	}
	changing := func(f func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error)) func(contract.RoomRoles) contract.RoomRoles {
		return with(func(p contract.RoomRoles) roles {
			return roles{change: func(ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				return f(p, ctx, c, may)
			}}
		})
	}
	// tells tells may something else.
	tells := func(edit func(r *chat.Room, by, of *chat.Role, owners *int)) func(contract.RoomRoles) contract.RoomRoles {
		return changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			return p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error {
				edit(&r, &by, &of, &owners)
				return may(r, by, of, owners)
			})
		})
	}
	adding := func(f func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error)) func(contract.RoomRoles) contract.RoomRoles {
		return func(p contract.RoomRoles) contract.RoomRoles {
			under := p
			p.Members = members{Members: under.Members, add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				return f(under, ctx, slices.Clone(all))
			}}
			return p
		}
	}
	// forces makes somebody a member of whatever room.
	forces := func(p contract.RoomRoles, ctx context.Context, m chat.Membership) (chat.Membership, error) {
		if m.Role == "" {
			m.Role = chat.Regular
		}
		_, after, err := p.Roles.Change(ctx, chat.RoleChange{Room: m.Room, User: m.UserID, Role: m.Role, At: m.Since}, free)
		return after, err
	}
	is := func(p contract.RoomRoles, ctx context.Context, room string, id user.ID) chat.Role {
		all, _ := p.Roles.Of(ctx, chat.InRoom{Room: room, UserID: id})
		if len(all) == 0 {
			return ""
		}
		return all[0].Role
	}
	return []broken[contract.RoomRoles]{
		{"the first member is an owner alone", "a created room has its members", creates(func(_ *chat.Room, members []chat.Membership) []chat.Membership { return members[:min(1, len(members))] })},
		{"all who come first are owners", "a created room has its members", creates(func(_ *chat.Room, members []chat.Membership) []chat.Membership {
			for i := range members {
				members[i].Role = chat.Owner
			}
			return members
		})},
		{"every room is public", "every field of a created room is kept", creates(func(r *chat.Room, members []chat.Membership) []chat.Membership {
			r.Kind = chat.Public
			return members
		})},
		{"what is given is returned", "every field of a created room is kept", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			_, err := p.Roles.Create(ctx, r, members...)
			return r, err
		})},
		{"a room needs an owner", "a room is created without members", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			if len(members) == 0 {
				return chat.Room{}, errOops
			}
			return p.Roles.Create(ctx, r, members...)
		})},
		{"a deleted room makes place", "a taken name is refused", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			before, err := p.Rooms.ByName(ctx, r.Name)
			if err == nil && !before.DeletedAt.IsZero() {
				return p.Rooms.Update(ctx, r.Name, chat.By{}, func(now *chat.Room, _ chat.Role) error { *now = r; return nil })
			}
			return p.Roles.Create(ctx, r, members...)
		})},
		{"members are stored before the room", "a taken name is refused", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			for _, m := range members {
				_, _ = forces(p, ctx, m)
			}
			return p.Roles.Create(ctx, r, members...)
		})},
		{"a taken name is entered", "a taken name is refused", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			if before, err := p.Rooms.ByName(ctx, r.Name); err == nil {
				return before, nil
			}
			return p.Roles.Create(ctx, r, members...)
		})},
		{"a room is looked for and then made", "one of several creations wins", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			got, err := p.Rooms.Ensure(ctx, r)
			for _, m := range members {
				if _, failed := forces(p, ctx, m); failed != nil {
					err = failed
				}
			}
			return got, err
		})},
		{"members outlive the room that failed", "an ended context leaves no members behind", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			got, err := p.Roles.Create(ctx, r, members...)
			if ctx.Err() != nil {
				_, _ = p.Members.Add(context.WithoutCancel(ctx), members...)
			}
			return got, err
		})},
		{"no role is that of a reader", "a member without a role is a regular one", creates(func(_ *chat.Room, members []chat.Membership) []chat.Membership {
			for i := range members {
				if members[i].Role == "" {
					members[i].Role = chat.Reader
				}
			}
			return members
		})},
		{"who comes first has read nothing", "who comes with the room has read it", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error) {
			all, err := p.Roles.Of(ctx, whom...)
			for i := range all {
				all[i].Read = 0
			}
			return all, err
		})},
		{"who was there keeps the role", "who was there before the room takes the role", creates(func(_ *chat.Room, members []chat.Membership) []chat.Membership {
			return slices.DeleteFunc(members, func(m chat.Membership) bool { return m.UserID == "user-2" })
		})},
		{"who was there begins anew", "who was there before the room takes the role", creating(func(p contract.RoomRoles, ctx context.Context, r chat.Room, members []chat.Membership) (chat.Room, error) {
			for _, m := range members {
				if err := p.Members.Remove(ctx, m.Room, m.UserID); err != nil {
					return chat.Room{}, err
				}
			}
			return p.Roles.Create(ctx, r, members...)
		})},
		{"who is asked about twice comes twice", "several are asked about at once", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) (all []chat.Membership, err error) {
			for _, w := range whom {
				got, failed := p.Roles.Of(ctx, w)
				if failed != nil {
					err = failed
				}
				all = append(all, got...)
			}
			return all, err
		})},
		{"rooms and users are mixed", "several are asked about at once", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error) {
			for _, a := range slices.Clone(whom) {
				for _, b := range slices.Clone(whom) {
					whom = append(whom, chat.InRoom{Room: a.Room, UserID: b.UserID})
				}
			}
			return p.Roles.Of(ctx, whom...)
		})},
		{"who is no member has an empty role", "several are asked about at once", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error) {
			all, err := p.Roles.Of(ctx, whom...)
			for _, w := range whom {
				if !slices.ContainsFunc(all, func(m chat.Membership) bool { return m.Room == w.Room && m.UserID == w.UserID }) {
					all = append(all, chat.Membership{Room: w.Room, UserID: w.UserID})
				}
			}
			return all, err
		})},
		{"the rest of many is left out", "many are asked about at once", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error) {
			return p.Roles.Of(ctx, whom[:min(len(whom), 500)]...)
		})},
		{"nobody is everybody", "nobody is asked about", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error) {
			if len(whom) == 0 {
				return p.Roles.List(ctx, "room", "", 10)
			}
			return p.Roles.Of(ctx, whom...)
		})},
		{"what one sends is unread", "memberships tell what is read", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			all, err := p.Roles.List(ctx, room, after, limit)
			for i := range all {
				if all[i].UserID == "user-1" {
					all[i].Read = 0
				}
			}
			return all, err
		})},
		{"a list is folded", "a list is in the order of users", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			all, err := p.Roles.List(ctx, room, after, limit)
			slices.SortStableFunc(all, func(a, b chat.Membership) int {
				return strings.Compare(lower(string(a.UserID)), lower(string(b.UserID)))
			})
			return all, err
		})},
		{"the order is when they came", "a list is in the order of users", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			all, err := p.Roles.List(ctx, room, after, limit)
			slices.SortStableFunc(all, func(a, b chat.Membership) int { return a.Since.Compare(b.Since) })
			return all, err
		})},
		{"a page begins with the last of the one before", "a list comes page by page", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			if n := len(after); n > 0 {
				after = after[:n-1] + user.ID(rune(after[n-1]-1)) + "~"
			}
			return p.Roles.List(ctx, room, after, limit)
		})},
		{"no limit is no bound", "a list comes page by page", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			if limit < 1 {
				limit = 1000
			}
			return p.Roles.List(ctx, room, after, limit)
		})},
		{"a list is never long", "a list comes page by page", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			return p.Roles.List(ctx, room, after, min(limit, 200))
		})},
		{"who left is listed", "a list has its room and who is there", func(p contract.RoomRoles) contract.RoomRoles {
			p.Members = members{Members: p.Members, remove: func(context.Context, string, user.ID) error { return nil }}
			return p
		}},
		{"who is in several rooms is listed once", "a list has its room and who is there", listing(func(p contract.RoomRoles, ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
			all, err := p.Roles.List(ctx, room, after, limit)
			return slices.DeleteFunc(all, func(m chat.Membership) bool {
				of, _ := p.Members.RoomsOf(ctx, m.UserID, "", 10)
				return of[0].Room != room
			}), err
		})},
		{"a newcomer was a member before", "a role is given to a newcomer", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if before.Role == "" {
				before.Role = chat.Regular
			}
			return before, after, err
		})},
		{"a newcomer has read nothing", "a role is given to a newcomer", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			after.Read = before.Read
			return before, after, err
		})},
		{"only members get a role", "a role is given to a newcomer", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if is(p, ctx, c.Room, c.User) == "" {
				return before, after, nil
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"a change begins a membership anew", "a role is changed", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if err == nil && before.Role != "" && after.Role != "" {
				if err = p.Members.Remove(ctx, c.Room, c.User); err == nil {
					_, after, err = p.Roles.Change(ctx, c, may)
				}
			}
			return before, after, err
		})},
		{"before is after", "a role is changed", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			_, after, err = p.Roles.Change(ctx, c, may)
			return after, after, err
		})},
		{"a reader is a regular member", "every role is kept", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if c.Role == chat.Reader {
				c.Role = chat.Regular
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"an owner stays one", "every role is kept", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if is(p, ctx, c.Room, c.User) == chat.Owner && c.Role != "" {
				c.Role = chat.Owner
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"no role is that of a regular member", "a membership ends", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if c.Role == "" {
				c.Role = chat.Regular
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"who ends in one room ends in all", "a membership ends", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if err == nil && c.Role == "" {
				of, _ := p.Members.RoomsOf(ctx, c.User, "", 10)
				for _, m := range of {
					err = errors.Join(err, p.Members.Remove(ctx, m.Room, m.UserID))
				}
			}
			return before, after, err
		})},
		{"who comes back has what they had", "whoever comes back is a newcomer", func() func(contract.RoomRoles) contract.RoomRoles {
			left := map[chat.InRoom]chat.Membership{}
			return changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				before, after, err = p.Roles.Change(ctx, c, may)
				w := chat.InRoom{Room: c.Room, UserID: c.User}
				if had, ok := left[w]; ok && after.Role != "" {
					after.Since, after.Read = had.Since, had.Read
				}
				if after.Role == "" {
					left[w] = before
				}
				return before, after, err
			})
		}()},
		{"to remove who is no member is an error", "to change nothing is no error", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if before.Role == "" && after.Role == "" && err == nil {
				err = chat.ErrNotMember
			}
			return before, after, err
		})},
		{"the same role is no change, and nothing is told", "to change nothing is no error", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if before.Role == after.Role {
				return chat.Membership{}, chat.Membership{}, err
			}
			return before, after, err
		})},
		{"may is told of the changed one as of the changer", "may is told what is stored", tells(func(_ *chat.Room, by, of *chat.Role, _ *int) { *by, *of = *of, *by })},
		{"may is told of a room by its name", "may is told what is stored", tells(func(r *chat.Room, _, _ *chat.Role, _ *int) { *r = chat.Room{Name: r.Name, Kind: r.Kind} })},
		{"who is no member is a regular one to may", "may is told what is stored", tells(func(_ *chat.Room, by, _ *chat.Role, _ *int) {
			if *by == "" {
				*by = chat.Regular
			}
		})},
		{"may is told of the room as it was created", "may is told what is stored", func() func(contract.RoomRoles) contract.RoomRoles {
			var first *chat.Room
			return tells(func(r *chat.Room, _, _ *chat.Role, _ *int) {
				if first == nil {
					was := *r
					first = &was
				}
				*r = *first
			})
		}()},
		{"may is not asked about what is so already", "may is told what is stored", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if c.Role == is(p, ctx, c.Room, c.User) {
				may = free
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"the owner who is changed does not count", "may is told what is stored", tells(func(_ *chat.Room, _, of *chat.Role, owners *int) {
			if *of == chat.Owner {
				*owners--
			}
		})},
		{"owners of all rooms are counted", "owners are counted in their room", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			all := 0
			rooms, _ := p.Rooms.List(ctx, "", 10)
			for _, r := range rooms {
				in, _ := p.Roles.List(ctx, r.Name, "", 10)
				for _, m := range in {
					if m.Role == chat.Owner {
						all++
					}
				}
			}
			return p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, _ int) error { return may(r, by, of, all) })
		})},
		{"owners are counted when they are made", "owners are counted in their room", func() func(contract.RoomRoles) contract.RoomRoles {
			made := 0
			return changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				before, after, err = p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, _ int) error { return may(r, by, of, made) })
				if err == nil && c.Role == chat.Owner {
					made++
				}
				return before, after, err
			})
		}()},
		{"a page of owners is counted", "many owners are counted", tells(func(_ *chat.Room, _, _ *chat.Role, owners *int) { *owners = min(*owners, 100) })},
		{"what is refused is stored", "a refusal stores nothing", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			var refused error
			before, after, err = p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error {
				refused = may(r, by, of, owners)
				return nil
			})
			return before, after, errors.Join(err, refused)
		})},
		{"the error of may is lost", "a refusal stores nothing", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			return p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error {
				if may(r, by, of, owners) != nil {
					return errOops
				}
				return nil
			})
		})},
		{"a role makes its room", "an unknown room has no roles to change", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if _, err := p.Rooms.Ensure(ctx, chat.Room{Name: c.Room}); err != nil {
				return before, after, err
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"whoever is in an unknown room may be removed", "an unknown room has no roles to change", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if errors.Is(err, chat.ErrRoomNotFound) && c.Role == "" {
				return before, after, p.Members.Remove(ctx, c.Room, c.User)
			}
			return before, after, err
		})},
		{"a deleted room is not found", "a deleted room is may's to refuse", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if r, err := p.Rooms.ByName(ctx, c.Room); err == nil && !r.DeletedAt.IsZero() {
				return before, after, chat.ErrRoomNotFound
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"owners are counted before the change", "owners who demote each other leave one", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			var refused error
			if _, _, err := p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error {
				refused = may(r, by, of, owners)
				return errOops
			}); !errors.Is(err, errOops) || refused != nil {
				return before, after, errors.Join(err, refused)
			}
			time.Sleep(time.Second) // all have looked by then
			return p.Roles.Change(ctx, c, free)
		})},
		{"a change sees what there was a moment ago", "concurrent changes are one after the other", func() func(contract.RoomRoles) contract.RoomRoles {
			var mu sync.Mutex
			last := 0
			return changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				return p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error {
					mu.Lock()
					defer mu.Unlock()
					owners, last = last, owners
					return may(r, by, of, owners)
				})
			})
		}()},
		{"before is read before the change", "concurrent changes are one after the other", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			was := is(p, ctx, c.Room, c.User)
			time.Sleep(time.Second)
			before, after, err = p.Roles.Change(ctx, c, may)
			before.Role = was
			return before, after, err
		})},
		{"users are folded", "rooms and users are exact", asking(func(p contract.RoomRoles, ctx context.Context, whom []chat.InRoom) ([]chat.Membership, error) {
			for i := range whom {
				whom[i].UserID = user.ID(lower(string(whom[i].UserID)))
			}
			return p.Roles.Of(ctx, whom...)
		})},
		{"a change is of all that look alike", "rooms and users are exact", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			all, _ := p.Roles.List(ctx, c.Room, "", 1000)
			for _, m := range all {
				if m.UserID != c.User && lower(string(m.UserID)) == lower(string(c.User)) {
					alike := c
					alike.User = m.UserID
					if _, _, err := p.Roles.Change(ctx, alike, free); err != nil {
						return before, after, err
					}
				}
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"long names are cut", "long names are kept", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			c.User = c.User[:min(len(c.User), 255)]
			return p.Roles.Change(ctx, c, may)
		})},
		{"since is when it was stored", "times are kept to the microsecond", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			c.At = time.Now()
			return p.Roles.Change(ctx, c, may)
		})},
		{"nanoseconds are rounded", "times are kept to the microsecond", creates(func(_ *chat.Room, members []chat.Membership) []chat.Membership {
			for i := range members {
				members[i].Since = members[i].Since.Round(time.Microsecond)
			}
			return members
		})},
		{"an ended context is ignored", "a context that has ended is an error", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			return p.Roles.Change(context.WithoutCancel(ctx), c, may)
		})},
		{"everybody joins every room", "nobody joins a room that is not public", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			for _, m := range all {
				if is(p, ctx, m.Room, m.UserID) == "" {
					if _, err := forces(p, ctx, m); err != nil {
						return nil, err
					}
				}
			}
			return p.Members.Add(ctx, all...)
		})},
		{"a deleted room is joined", "nobody joins a room that is not public", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			for _, m := range all {
				if r, err := p.Rooms.ByName(ctx, m.Room); err == nil && r.Kind == chat.Public && is(p, ctx, m.Room, m.UserID) == "" {
					if _, err := forces(p, ctx, m); err != nil {
						return nil, err
					}
				}
			}
			return p.Members.Add(ctx, all...)
		})},
		{"who is not stored is told of a role", "nobody joins a room that is not public", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			got, err := p.Members.Add(ctx, all...)
			for i := range got {
				if got[i].Role == "" {
					got[i] = all[i]
					got[i].Role = chat.Regular
				}
			}
			return got, err
		})},
		{"a closed room is an error", "nobody joins a room that is not public", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			got, err := p.Members.Add(ctx, all...)
			if slices.ContainsFunc(got, func(m chat.Membership) bool { return m.Role == "" }) {
				return nil, chat.ErrNotAllowed
			}
			return got, err
		})},
		{"members of a closed room are told nothing", "members of a room that is not public stay", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			got, err := p.Members.Add(ctx, all...)
			for i := range got {
				if r, err := p.Rooms.ByName(ctx, got[i].Room); err == nil && r.Kind != chat.Public {
					got[i].Role = ""
				}
			}
			return got, err
		})},
		{"whoever was in comes back in", "members of a room that is not public stay", func(p contract.RoomRoles) contract.RoomRoles {
			p.Members = members{Members: p.Members, remove: func(context.Context, string, user.ID) error { return nil }}
			return p
		}},
		{"one closed room closes all", "rooms of every kind in one call", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			for _, m := range all {
				if r, err := p.Rooms.ByName(ctx, m.Room); err == nil && r.Kind != chat.Public && is(p, ctx, m.Room, m.UserID) == "" {
					return make([]chat.Membership, len(all)), nil
				}
			}
			return p.Members.Add(ctx, all...)
		})},
		{"an unknown room is closed", "rooms of every kind in one call", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			known := slices.DeleteFunc(slices.Clone(all), func(m chat.Membership) bool {
				return errors.Is(second(p.Rooms.ByName(ctx, m.Room)), chat.ErrRoomNotFound)
			})
			stored, err := p.Members.Add(ctx, known...)
			got := make([]chat.Membership, len(all))
			for i, m := range all {
				if len(known) > 0 && err == nil && m == known[0] {
					got[i], known, stored = stored[0], known[1:], stored[1:]
				}
			}
			return got, err
		})},
		{"answers come in the order of rooms", "rooms of every kind in one call", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			slices.SortStableFunc(all, func(a, b chat.Membership) int { return strings.Compare(a.Room, b.Room) })
			return p.Members.Add(ctx, all...)
		})},
		{"the kinds of the first rooms count", "many rooms in one call", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			for _, m := range all[min(len(all), 100):] {
				if is(p, ctx, m.Room, m.UserID) == "" {
					if _, err := forces(p, ctx, m); err != nil {
						return nil, err
					}
				}
			}
			return p.Members.Add(ctx, all...)
		})},
		{"a kind is remembered", "the kind that a room has now counts", func() func(contract.RoomRoles) contract.RoomRoles {
			open := map[string]bool{}
			return adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
				for _, m := range all {
					r, err := p.Rooms.ByName(ctx, m.Room)
					if _, known := open[m.Room]; !known {
						open[m.Room] = err == nil && r.Kind == chat.Public
					}
					if open[m.Room] {
						if _, err := forces(p, ctx, m); err != nil {
							return nil, err
						}
					}
				}
				return p.Members.Add(ctx, all...)
			})
		}()},
		{"what was closed stays closed", "the kind that a room has now counts", func() func(contract.RoomRoles) contract.RoomRoles {
			shut := map[string]bool{}
			return adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
				for _, m := range all {
					if r, err := p.Rooms.ByName(ctx, m.Room); err == nil && r.Kind != chat.Public {
						shut[m.Room] = true
					}
					if shut[m.Room] {
						return make([]chat.Membership, len(all)), nil
					}
				}
				return p.Members.Add(ctx, all...)
			})
		}()},
		{"kinds are of names that look alike", "kinds of rooms are exact", adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			got, err := p.Members.Add(ctx, all...)
			for i := range got {
				if r, err := p.Rooms.ByName(ctx, lower(got[i].Room)); err == nil && r.Kind != chat.Public {
					got[i].Role = ""
				}
			}
			return got, err
		})},
		{"a kind is known for three seconds", "who joins while a room is closed is in or out", func() func(contract.RoomRoles) contract.RoomRoles {
			var mu sync.Mutex
			var until time.Time
			open := false
			return adding(func(p contract.RoomRoles, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
				mu.Lock()
				if now := time.Now(); now.After(until) {
					r, err := p.Rooms.ByName(ctx, all[0].Room)
					open, until = err == nil && r.Kind == chat.Public, now.Add(3*time.Second)
				}
				known := open
				mu.Unlock()
				time.Sleep(time.Second)
				got, err := p.Members.Add(ctx, all...)
				for i := range got {
					if known {
						got[i] = all[i]
						got[i].Role = chat.Regular
					}
				}
				return got, err
			})
		}()},
		{"a deleted room stays in the list", "a deleted room is in nobody's list", func(p contract.RoomRoles) contract.RoomRoles {
			under := p
			p.Marks = marks{Marks: under.Marks, mine: func(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
				got, err := under.Marks.Mine(ctx, id, behind, limit)
				r, missing := under.Rooms.ByName(ctx, "gone")
				if err != nil || missing != nil || r.DeletedAt.IsZero() {
					return got, err
				}
				return append(got, chat.MyRoom{Membership: chat.Membership{Room: "gone", UserID: id}}), nil
			}}
			return p
		}},
		{"deleted rooms take places of a page", "a deleted room is in nobody's list", func(p contract.RoomRoles) contract.RoomRoles {
			under := p
			p.Marks = marks{Marks: under.Marks, mine: func(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
				if r, err := under.Rooms.ByName(ctx, "gone"); err == nil && !r.DeletedAt.IsZero() {
					limit--
				}
				return under.Marks.Mine(ctx, id, behind, limit)
			}}
			return p
		}},
		{"a title makes a room public", "roles are exact after random steps", func(p contract.RoomRoles) contract.RoomRoles {
			under := p.Rooms
			p.Rooms = rooms{Rooms: under, update: func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error {
					kind := r.Kind
					err := change(r, as)
					if r.Kind == kind {
						r.Kind = chat.Public
					}
					return err
				})
			}}
			return p
		}},
	}
}

func free(chat.Room, chat.Role, chat.Role, int) error { return nil }

func second[V any](_ V, err error) error { return err }
