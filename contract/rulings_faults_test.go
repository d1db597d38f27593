package contract_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

type mayPut = func(room chat.Room, by, of chat.Role) error

// rulingFaults are stores that go wrong about by what role something is done in a room.
func rulingFaults() []broken[contract.RoomRoles] {
	type update = func(p contract.RoomRoles, ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error)
	type put = func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error)
	type change = func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error)
	updating := func(f update) func(contract.RoomRoles) contract.RoomRoles {
		return func(p contract.RoomRoles) contract.RoomRoles {
			under := p
			p.Rooms = rooms{Rooms: under.Rooms, update: func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return f(under, ctx, name, by, change)
			}}
			return p
		}
	}
	putting := func(f put) func(contract.RoomRoles) contract.RoomRoles {
		return func(p contract.RoomRoles) contract.RoomRoles {
			under := p
			p.Restrictions = restrictions{Restrictions: under.Restrictions, putIf: func(ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
				return f(under, ctx, r, may)
			}}
			return p
		}
	}
	changing := func(f change) func(contract.RoomRoles) contract.RoomRoles {
		return func(p contract.RoomRoles) contract.RoomRoles {
			under := p
			p.Roles = roles{Roles: under.Roles, change: func(ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				return f(under, ctx, c, may)
			}}
			return p
		}
	}
	// stored is what somebody is in a room, whether they are banned or not.
	stored := func(p contract.RoomRoles, ctx context.Context, room string, id user.ID) chat.Role {
		all, _ := p.Roles.Of(ctx, chat.InRoom{Room: room, UserID: id})
		if len(all) == 0 {
			return ""
		}
		return all[0].Role
	}
	held := func(p contract.RoomRoles, ctx context.Context, at time.Time, room string, id user.ID) []chat.Restriction {
		all, _ := p.Restrictions.InForce(ctx, at, chat.InRoom{Room: room, UserID: id})
		return all
	}
	bans := func(all []chat.Restriction) bool {
		return slices.ContainsFunc(all, func(r chat.Restriction) bool { return r.Kind == chat.Ban })
	}
	// asked is a store whose Update has looked for the role before, in another way.
	asked := func(look func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role) func(contract.RoomRoles) contract.RoomRoles {
		return updating(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
			as := look(p, ctx, name, by)
			return p.Rooms.Update(ctx, name, by, func(r *chat.Room, _ chat.Role) error { return change(r, as) })
		})
	}
	// puts is a store whose Put has looked for the roles before, in another way.
	puts := func(look func(p contract.RoomRoles, ctx context.Context, r chat.Restriction) (by, of chat.Role)) func(contract.RoomRoles) contract.RoomRoles {
		return putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			by, of := look(p, ctx, r)
			return p.Restrictions.Put(ctx, r, func(room chat.Room, _, _ chat.Role) error { return may(room, by, of) })
		})
	}
	both := func(one, two func(contract.RoomRoles) contract.RoomRoles) func(contract.RoomRoles) contract.RoomRoles {
		return func(p contract.RoomRoles) contract.RoomRoles { return two(one(p)) }
	}
	const meanwhile = 50 * time.Millisecond
	return []broken[contract.RoomRoles]{
		{"change is told of no role", "who changes a room does it with their role", asked(func(contract.RoomRoles, context.Context, string, chat.By) chat.Role { return "" })},
		{"strangers change a room as members", "who changes a room does it with their role", updating(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
			return p.Rooms.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error {
				if as == "" {
					as = chat.Regular
				}
				return change(r, as)
			})
		})},
		{"an owner of any room owns this one", "who changes a room does it with their role", asked(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role {
			if as := stored(p, ctx, "other", by.ID); as != "" {
				return as
			}
			return stored(p, ctx, name, by.ID)
		})},
		{"nobody changes a room that has an owner as that one", "who changes a room does it with their role", asked(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role {
			if by.ID == "" {
				return chat.Owner
			}
			return stored(p, ctx, name, by.ID)
		})},
		{"who is banned keeps the role that changes a room", "who is banned changes no room", asked(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role {
			return stored(p, ctx, name, by.ID)
		})},
		{"who is muted changes no room", "who is banned changes no room", asked(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role {
			if len(held(p, ctx, by.At, name, by.ID)) > 0 {
				return ""
			}
			return stored(p, ctx, name, by.ID)
		})},
		{"a ban never ends for who changes a room", "who is banned changes no room", asked(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role {
			if bans(held(p, ctx, time.Unix(3, 0), name, by.ID)) {
				return ""
			}
			return stored(p, ctx, name, by.ID)
		})},
		{"may of a restriction is not asked", "a restriction is may's to refuse", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, _ mayPut) (chat.Restriction, error) {
			return p.Restrictions.Put(ctx, r, nil)
		})},
		{"what is refused restricts all the same", "a restriction is may's to refuse", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			got, err := p.Restrictions.Put(ctx, r, may)
			if err != nil {
				_, _ = p.Restrictions.Put(ctx, r, nil)
			}
			return got, err
		})},
		{"the error of a restriction's may is lost", "a restriction is may's to refuse", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			got, err := p.Restrictions.Put(ctx, r, may)
			if err != nil && !errors.Is(err, chat.ErrRoomNotFound) {
				err = chat.ErrRoleLacksRight
			}
			return got, err
		})},
		{"there are restrictions in unknown rooms", "a restriction is may's to refuse", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			if _, err := p.Rooms.ByName(ctx, r.Room); errors.Is(err, chat.ErrRoomNotFound) {
				return p.Restrictions.Put(ctx, r, nil)
			}
			return p.Restrictions.Put(ctx, r, may)
		})},
		{"At is what is given where may was asked", "a restriction is may's to refuse", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			got, err := p.Restrictions.Put(ctx, r, may)
			if err == nil {
				got.At = r.At
			}
			return got, err
		})},
		{"who restricts and who is restricted are mixed up", "may of a restriction is told what is stored", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			return p.Restrictions.Put(ctx, r, func(room chat.Room, by, of chat.Role) error { return may(room, of, by) })
		})},
		{"may of a restriction is told the name of the room alone", "may of a restriction is told what is stored", putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			return p.Restrictions.Put(ctx, r, func(room chat.Room, by, of chat.Role) error { return may(chat.Room{Name: room.Name}, by, of) })
		})},
		{"who is banned restricts", "who is banned restricts nobody", puts(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction) (by, of chat.Role) {
			of = stored(p, ctx, r.Room, r.UserID)
			if bans(held(p, ctx, r.At, r.Room, r.UserID)) {
				of = ""
			}
			return stored(p, ctx, r.Room, r.By), of
		})},
		{"who is banned is restricted as what they were", "who is banned restricts nobody", puts(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction) (by, of chat.Role) {
			by = stored(p, ctx, r.Room, r.By)
			if bans(held(p, ctx, r.At, r.Room, r.By)) {
				by = ""
			}
			return by, stored(p, ctx, r.Room, r.UserID)
		})},
		{"who is banned gives roles", "who is banned changes no role", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			as := stored(p, ctx, c.Room, c.By)
			return p.Roles.Change(ctx, c, func(r chat.Room, _, of chat.Role, owners int) error { return may(r, as, of, owners) })
		})},
		{"who was banned once gives no role", "who is banned changes no role", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			all, _ := p.Restrictions.Since(ctx, time.Time{}, 1000)
			was := slices.ContainsFunc(all, func(r chat.Restriction) bool { return r.Room == c.Room && r.UserID == c.By && r.Kind == chat.Ban })
			return p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error {
				if was {
					by = ""
				}
				return may(r, by, of, owners)
			})
		})},
		{"who is banned is invited", "who is banned is given no role", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if all := held(p, ctx, c.At, c.Room, c.User); c.Role != "" && bans(all) && stored(p, ctx, c.Room, c.User) == "" { // the ban steps aside
				for _, r := range all {
					lifted := r
					lifted.Until = chat.Lifted
					_, _ = p.Restrictions.Put(ctx, lifted, nil)
				}
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"a member who is banned keeps the role", "who is banned is given no role", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			before, after, err = p.Roles.Change(ctx, c, may)
			if errors.Is(err, chat.ErrBanned) && stored(p, ctx, c.Room, c.User) == c.Role {
				err = nil
			}
			return before, after, err
		})},
		{"a ban is told before the refusal", "who is banned is given no role", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if c.Role != "" && bans(held(p, ctx, c.At, c.Room, c.User)) {
				return before, after, chat.ErrBanned
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"who is banned stays for ever", "who is banned is given no role", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if c.Role == "" && bans(held(p, ctx, c.At, c.Room, c.User)) {
				return before, after, chat.ErrBanned
			}
			return p.Roles.Change(ctx, c, may)
		})},
		{"a restriction is decided by what was there a moment ago", "of two who take the other's rights one does", puts(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction) (by, of chat.Role) {
			by, of = stored(p, ctx, r.Room, r.By), stored(p, ctx, r.Room, r.UserID)
			time.Sleep(meanwhile)
			return by, of
		})},
		{"a role is changed by who was not banned a moment ago", "of two who take the other's rights one does", changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			as := stored(p, ctx, c.Room, c.By)
			time.Sleep(meanwhile)
			return p.Roles.Change(ctx, c, func(r chat.Room, _, of chat.Role, owners int) error { return may(r, as, of, owners) })
		})},
		{"a room is changed by who owned it a moment ago", "who has lost the role changes no room", asked(func(p contract.RoomRoles, ctx context.Context, name string, by chat.By) chat.Role {
			as := stored(p, ctx, name, by.ID)
			time.Sleep(meanwhile)
			return as
		})},
		{"bans are looked for a moment before a role is given", "who is banned meanwhile is given no role", both(putting(func(p contract.RoomRoles, ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
			time.Sleep(meanwhile / 2) // so that the look comes before
			return p.Restrictions.Put(ctx, r, may)
		}), changing(func(p contract.RoomRoles, ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
			if bans(held(p, ctx, c.At, c.Room, c.User)) {
				return before, after, chat.ErrBanned
			}
			time.Sleep(meanwhile)
			for _, r := range held(p, ctx, c.At, c.Room, c.User) { // what has come since steps aside
				r.Until = chat.Lifted
				_, _ = p.Restrictions.Put(ctx, r, nil)
			}
			return p.Roles.Change(ctx, c, may)
		}))},
	}
}
