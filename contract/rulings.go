package contract

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

const (
	updateAs     = "Update gives change the role of by.ID, as it is when the room is stored: what Roles.Change and Members.Remove have done before counts."
	updateNobody = "That role is empty for who is no member, for who is banned at by.At, and where by.ID is empty."
	putIf        = "Where may is not nil, Put stores r only if may lets it; it returns ErrRoomNotFound where there is no such room, or the error of may, and then nothing is stored."
	putAsked     = "Put gives may the room, and the roles of r.By and of r.UserID, as they are when r is stored: what Rooms.Update, Roles.Change and Members.Remove have done before counts."
	putNobody    = "A role is empty for who is no member, and for who is banned at r.At; may may be called more than once, and is pure."
	putCounts    = "A ban that was put with may before Roles.Change or Rooms.Update stores counts there."
	changeBy     = "The role of c.By is empty for who is banned at c.At."
	changeBanned = "Who is banned at c.At is given no role: where may lets it, Change returns ErrBanned, and nothing is stored."
)

// rulings are the cases of what is decided about a room by what somebody is in it.
func rulings() []promise[RoomRoles] {
	return []promise[RoomRoles]{
		{"who changes a room does it with their role", updateAs + " " + updateNobody, rulingsUpdate},
		{"who is banned changes no room", updateNobody + " " + putCounts, rulingsUpdateBanned},
		{"a restriction is may's to refuse", putIf + " " + puts, rulingsPut},
		{"may of a restriction is told what is stored", putAsked, rulingsAsked},
		{"who is banned restricts nobody", putNobody, rulingsPutBanned},
		{"who is banned changes no role", changeBy + " " + putCounts, rulingsChangeBanned},
		{"who is banned is given no role", changeBanned + " " + mayRefused, rulingsGive},
		{"of two who take the other's rights one does", putAsked + " " + changeBy + " " + putCounts + " It may be called from many goroutines.", rulingsDuel},
		{"who has lost the role changes no room", updateAs + " It may be called from many goroutines.", rulingsUpdateRace},
		{"who is banned meanwhile is given no role", changeBanned + " " + putCounts + " It may be called from many goroutines.", rulingsInvite},
	}
}

// letsAll is a may of Put that lets everybody.
func letsAll(chat.Room, chat.Role, chat.Role) error { return nil }

// imposes puts restrictions that may lets.
func imposes(ctx context.Context, p RoomRoles, all ...chat.Restriction) error {
	for _, r := range all {
		got, err := p.Restrictions.Put(ctx, r, letsAll)
		if err := during("Put", then(err, func() error { return same(got, r) })); err != nil {
			return err
		}
	}
	return nil
}

// wantAs wants change to be told this role.
func wantAs(ctx context.Context, p RoomRoles, room string, by chat.By, want chat.Role) error {
	var got []chat.Role
	_, err := p.Rooms.Update(ctx, room, by, func(_ *chat.Room, as chat.Role) error { got = append(got, as); return errRefused })
	return during(fmt.Sprintf("Update by %q at %s", by.ID, by.At), first(
		func() error { return wantIs("Update", err, errRefused) },
		func() error {
			if len(got) == 0 || got[len(got)-1] != want {
				return fmt.Errorf("change was told the roles %q, want %q", got, want)
			}
			return nil
		},
	))
}

func doneBy(id user.ID, n int) chat.By { return chat.By{ID: id, At: at(n)} }

// everyRole is a room with somebody of each role.
func everyRole(ctx context.Context, p RoomRoles, room string) error {
	return opens(ctx, p, room, as(room, "owner", chat.Owner, 1), as(room, "moderator", chat.Moderator, 1), as(room, "member", chat.Regular, 1), as(room, "reader", chat.Reader, 1))
}

func rulingsUpdate(ctx context.Context, p RoomRoles) error {
	is := func(id user.ID, want chat.Role) func() error {
		return func() error { return wantAs(ctx, p, "room", doneBy(id, 5), want) }
	}
	return first(
		func() error { return everyRole(ctx, p, "room") },
		func() error { return opens(ctx, p, "other", as("other", "stranger", chat.Owner, 1)) },
		is("owner", chat.Owner), is("moderator", chat.Moderator), is("member", chat.Regular), is("reader", chat.Reader), is("stranger", ""), is("nobody", ""),
		func() error { return wantAs(ctx, p, "room", chat.By{}, "") },
		func() error {
			return wantChange(ctx, p, gives("room", "moderator", chat.Reader, 6), as("room", "moderator", chat.Moderator, 1), as("room", "moderator", chat.Reader, 1))
		},
		is("moderator", chat.Reader),
		func() error { return leave(ctx, p.Members, "room", "member") },
		is("member", ""), is("owner", chat.Owner),
		func() error { // it is told the same where it agrees
			var seen chat.Role
			_, err := p.Rooms.Update(ctx, "room", doneBy("owner", 7), func(r *chat.Room, as chat.Role) error { seen, r.Title = as, "new"; return nil })
			return during("Update", then(err, func() error { return same(seen, chat.Owner) }))
		},
		func() error {
			_, err := p.Rooms.Update(ctx, "nowhere", doneBy("owner", 7), func(*chat.Room, chat.Role) error { return nil })
			return wantIs("Update of an unknown room", err, chat.ErrRoomNotFound)
		},
	)
}

// notBans are restrictions of the moderator that leave the role alone: see ban.
func notBans() []chat.Restriction {
	return []chat.Restriction{
		restricted(ban("room", "moderator", 2), chat.Mute, at(90)), restricted(ban("room", "moderator", 2), chat.RoleNote, at(90)),
		ban("other", "moderator", 2), ban("room", "member", 2),
	}
}

// whileBanned bans the moderator until a time, and wants without to hold while the ban does, and with otherwise; both are given the time.
func whileBanned(ctx context.Context, p RoomRoles, with, without func(n int) error) error {
	return first(
		func() error { return everyRole(ctx, p, "room") },
		func() error { return opens(ctx, p, "other", as("other", "moderator", chat.Owner, 1)) },
		func() error { return imposes(ctx, p, notBans()...) },
		func() error { return with(5) },
		func() error { return imposes(ctx, p, restricted(ban("room", "moderator", 6), chat.Ban, at(20))) },
		func() error { return without(7) },
		func() error { return without(19) },
		func() error { return with(20) },
		func() error { return imposes(ctx, p, ban("room", "moderator", 30)) },
		func() error { return without(31) },
		func() error { return imposes(ctx, p, restricted(ban("room", "moderator", 40), chat.Ban, chat.Lifted)) },
		func() error { return with(41) },
	)
}

func rulingsUpdateBanned(ctx context.Context, p RoomRoles) error {
	is := func(want chat.Role) func(int) error {
		return func(n int) error {
			return first(
				func() error { return wantAs(ctx, p, "room", doneBy("moderator", n), want) },
				func() error { return wantAs(ctx, p, "other", doneBy("moderator", n), "") },
				func() error { return wantAs(ctx, p, "room", doneBy("owner", n), chat.Owner) },
			)
		}
	}
	return whileBanned(ctx, p, is(chat.Moderator), is(""))
}

func rulingsPut(ctx context.Context, p RoomRoles) error {
	one, two := ban("room", "user-2", 1), restricted(ban("room", "user-2", 2), chat.Mute, at(90))
	asked := []chat.InRoom{whom("room", "user-2"), whom("nowhere", "user-2")}
	later := ban("room", "user-2", 1)
	later.At = one.At.Add(1000)
	refused := func(r chat.Restriction, may func(chat.Room, chat.Role, chat.Role) error, want error) func() error {
		return func() error {
			return during("Put", first(
				func() error { return wantIs("Put", second(p.Restrictions.Put(ctx, r, may)), want) },
				func() error { return wantInForce(ctx, p.Restrictions, at(5), asked) },
			))
		}
	}
	why := func(err error) func(chat.Room, chat.Role, chat.Role) error {
		return func(chat.Room, chat.Role, chat.Role) error { return err }
	}
	return first(
		func() error { return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1)) },
		refused(one, why(errRefused), errRefused), refused(one, why(chat.ErrRoleLacksRight), chat.ErrRoleLacksRight),
		refused(ban("nowhere", "user-2", 1), letsAll, chat.ErrRoomNotFound),
		func() error { return join(ctx, p.Members, membership("nowhere", "user-1", 1)) }, // who comes before the room
		refused(ban("nowhere", "user-2", 1), letsAll, chat.ErrRoomNotFound),
		func() error { return imposes(ctx, p, one, two) },
		func() error { return wantInForce(ctx, p.Restrictions, at(5), asked, one, two) },
		func() error {
			got, err := p.Restrictions.Put(ctx, one, letsAll)
			return during("Put", then(err, func() error { return same(got, later) }))
		},
		func() error { return wantInForce(ctx, p.Restrictions, at(5), asked, later, two) },
		func() error {
			return wantIs("Put", second(p.Restrictions.Put(ctx, restricted(two, chat.Mute, chat.Lifted), why(errRefused))), errRefused)
		},
		func() error { return imposes(ctx, p, restricted(ban("room", "user-2", 7), chat.Ban, chat.Lifted)) },
		func() error { return wantInForce(ctx, p.Restrictions, at(8), asked, two) },
		func() error {
			return wantPutAs(ctx, p.Restrictions, one, func() chat.Restriction { // and without a question
				r := one
				r.At = at(7).Add(1000)
				return r
			}())
		},
	)
}

// wantPutAsks wants may of Put to be told this, by a restriction that it refuses.
func wantPutAsks(ctx context.Context, p RoomRoles, r chat.Restriction, want chat.Room, by, of chat.Role) error {
	what := errors.New("it was not asked")
	_, err := p.Restrictions.Put(ctx, r, func(room chat.Room, gotBy, gotOf chat.Role) error {
		what = during("the room", same(room, want))
		if what == nil && (gotBy != by || gotOf != of) {
			what = fmt.Errorf("the roles are %q and %q, want %q and %q", gotBy, gotOf, by, of)
		}
		return errRefused
	})
	return during(fmt.Sprintf("may of a restriction by %q of %q at %s", r.By, r.UserID, r.At), first(
		func() error { return wantIs("Put", err, errRefused) },
		func() error { return what },
	))
}

func restricts(by, of user.ID, n int) chat.Restriction {
	r := ban("room", of, n)
	r.By = by
	return r
}

func rulingsAsked(ctx context.Context, p RoomRoles) error {
	r := ofKind(chat.Private, "room", 0)
	changed := r
	changed.Title, changed.Kind, changed.DeletedAt = "new", chat.Public, at(30)
	is := func(by, of user.ID, asBy, asOf chat.Role) func() error {
		return func() error { return wantPutAsks(ctx, p, restricts(by, of, 5), r, asBy, asOf) }
	}
	return first(
		func() error { return everyRole(ctx, p, "room") },
		is("owner", "moderator", chat.Owner, chat.Moderator), is("moderator", "owner", chat.Moderator, chat.Owner), is("member", "reader", chat.Regular, chat.Reader),
		is("reader", "stranger", chat.Reader, ""), is("stranger", "member", "", chat.Regular), is("stranger", "nobody", "", ""), is("owner", "owner", chat.Owner, chat.Owner),
		func() error {
			return wantChange(ctx, p, gives("room", "moderator", chat.Reader, 6), as("room", "moderator", chat.Moderator, 1), as("room", "moderator", chat.Reader, 1))
		},
		is("moderator", "member", chat.Reader, chat.Regular), is("member", "moderator", chat.Regular, chat.Reader),
		func() error { return leave(ctx, p.Members, "room", "member") },
		is("owner", "member", chat.Owner, ""), is("member", "owner", "", chat.Owner),
		func() error { return updateWant(ctx, p.Rooms, changed, func(r *chat.Room) { *r = changed }) },
		func() error {
			return wantPutAsks(ctx, p, restricts("owner", "reader", 5), changed, chat.Owner, chat.Reader)
		},
	)
}

func rulingsPutBanned(ctx context.Context, p RoomRoles) error {
	r := ofKind(chat.Private, "room", 0)
	is := func(want chat.Role) func(int) error {
		return func(n int) error {
			return first(
				func() error { return wantPutAsks(ctx, p, restricts("moderator", "reader", n), r, want, chat.Reader) },
				func() error { return wantPutAsks(ctx, p, restricts("owner", "moderator", n), r, chat.Owner, want) },
				func() error { return wantPutAsks(ctx, p, restricts("moderator", "moderator", n), r, want, want) },
			)
		}
	}
	return whileBanned(ctx, p, is(chat.Moderator), is(""))
}

func rulingsChangeBanned(ctx context.Context, p RoomRoles) error {
	r := ofKind(chat.Private, "room", 0)
	is := func(want chat.Role) func(int) error {
		return func(n int) error {
			c := gives("room", "reader", chat.Regular, n)
			c.By = "moderator"
			return wantMay(ctx, p, c, r, want, chat.Reader, 1)
		}
	}
	return whileBanned(ctx, p, is(chat.Moderator), is(""))
}

func rulingsGive(ctx context.Context, p RoomRoles) error {
	gives := func(id user.ID, role chat.Role, want error) func(int) error {
		return func(n int) error {
			c := chat.RoleChange{Room: "room", User: id, Role: role, By: "owner", At: at(n)}
			_, _, err := p.Roles.Change(ctx, c, anything)
			if want == nil {
				return during("Change", err)
			}
			return first(
				func() error { return wantIs("Change of who is banned", err, want) },
				func() error { // may is asked before
					_, _, err := p.Roles.Change(ctx, c, func(chat.Room, chat.Role, chat.Role, int) error { return errRefused })
					return wantIs("Change that may refuses", err, errRefused)
				},
			)
		}
	}
	stranger := func(n int, until chat.Restriction) func() error {
		until.UserID = "stranger"
		return func() error { return imposes(ctx, p, until) }
	}
	return first(
		func() error { // a member, to the role that they have too
			return whileBanned(ctx, p, gives("moderator", chat.Moderator, nil), gives("moderator", chat.Moderator, chat.ErrBanned))
		},
		stranger(50, ban("room", "", 50)),
		func() error { return gives("stranger", chat.Regular, chat.ErrBanned)(51) },
		func() error { return wantOut(ctx, p, "room", "stranger") },
		func() error { return gives("stranger", "", nil)(52) },
		func() error { return imposes(ctx, p, ban("room", "moderator", 53)) },
		func() error { return gives("moderator", chat.Owner, chat.ErrBanned)(54) },
		func() error { return gives("moderator", "", nil)(55) }, // an end is none
		func() error { return wantOut(ctx, p, "room", "moderator") },
		stranger(60, restricted(ban("room", "", 60), chat.Ban, chat.Lifted)),
		func() error { return gives("stranger", chat.Reader, nil)(61) },
		func() error {
			return wantOf(ctx, p, []chat.InRoom{whom("room", "stranger")}, as("room", "stranger", chat.Reader, 61))
		},
	)
}

// rounds is how often two race in a case.
const rounds = 12

// rulingsDuel lets one moderator demote another one, who bans them at the same time: whoever comes first takes from the other one what they need.
func rulingsDuel(ctx context.Context, p RoomRoles) error {
	moderates := func(as chat.Role) error {
		if as != chat.Moderator {
			return errRefused
		}
		return nil
	}
	for round := range rounds {
		room := fmt.Sprintf("room-%d", round)
		if err := opens(ctx, p, room, as(room, "user-1", chat.Moderator, 1), as(room, "user-2", chat.Moderator, 1)); err != nil {
			return err
		}
		errs := together(2, func(i int) error {
			if i == 0 {
				_, _, err := p.Roles.Change(ctx, gives(room, "user-2", chat.Reader, 5), func(_ chat.Room, by, _ chat.Role, _ int) error { return moderates(by) })
				return err
			}
			r := ban(room, "user-1", 5)
			r.By = "user-2"
			return second(p.Restrictions.Put(ctx, r, func(_ chat.Room, by, _ chat.Role) error { return moderates(by) }))
		})
		if err := oneWins("Roles.Change and Restrictions.Put", errRefused, errs); err != nil {
			return err
		}
		role, held := chat.Reader, []chat.Restriction{}
		if errs[0] != nil {
			r := ban(room, "user-1", 5)
			r.By = "user-2"
			role, held = chat.Moderator, append(held, r)
		}
		if err := first(
			func() error { return wantOf(ctx, p, []chat.InRoom{whom(room, "user-2")}, as(room, "user-2", role, 1)) },
			func() error {
				return wantInForce(ctx, p.Restrictions, at(6), []chat.InRoom{whom(room, "user-1")}, held...)
			},
		); err != nil {
			return err
		}
	}
	return nil
}

// rulingsUpdateRace demotes an owner who changes the room at the same time. Where both do, the change came first, and who demotes has seen it.
func rulingsUpdateRace(ctx context.Context, p RoomRoles) error {
	for round := range rounds {
		room := fmt.Sprintf("room-%d", round)
		if err := opens(ctx, p, room, as(room, "user-1", chat.Owner, 1), as(room, "user-2", chat.Owner, 1)); err != nil {
			return err
		}
		var mu sync.Mutex
		seen := ""
		errs := together(2, func(i int) error {
			if i == 0 {
				_, _, err := p.Roles.Change(ctx, gives(room, "user-2", chat.Regular, 5), func(r chat.Room, _, _ chat.Role, _ int) error {
					mu.Lock()
					defer mu.Unlock()
					seen = r.Title
					return nil
				})
				return err
			}
			return second(p.Rooms.Update(ctx, room, doneBy("user-2", 5), func(r *chat.Room, as chat.Role) error {
				if as != chat.Owner {
					return errRefused
				}
				r.Title = "new"
				return nil
			}))
		})
		want := "new"
		if errors.Is(errs[1], errRefused) {
			want, errs[1] = "", nil
		}
		r := ofKind(chat.Private, room, 0)
		r.Title = want
		if err := first(
			func() error { return during("Change and Update", errors.Join(errs...)) },
			func() error { return wantRoom(ctx, p.Rooms, r) },
			func() error { return during("the title that who demotes has seen", same(seen, want)) },
		); err != nil {
			return err
		}
	}
	return nil
}

// rulingsInvite bans a stranger who is invited at the same time. Where both do, the invitation came first, and who bans has seen it.
func rulingsInvite(ctx context.Context, p RoomRoles) error {
	for round := range rounds {
		room := fmt.Sprintf("room-%d", round)
		if err := opens(ctx, p, room, as(room, "user-1", chat.Owner, 1)); err != nil {
			return err
		}
		var mu sync.Mutex
		var seen chat.Role
		errs := together(2, func(i int) error {
			if i == 0 {
				_, _, err := p.Roles.Change(ctx, gives(room, "user-2", chat.Reader, 5), anything)
				return err
			}
			return second(p.Restrictions.Put(ctx, ban(room, "user-2", 5), func(_ chat.Room, _, of chat.Role) error {
				mu.Lock()
				defer mu.Unlock()
				seen = of
				return nil
			}))
		})
		want := chat.Reader
		if errors.Is(errs[0], chat.ErrBanned) {
			want, errs[0] = "", nil
		}
		if err := first(
			func() error { return during("Change and Put", errors.Join(errs...)) },
			func() error { return during("the role that who bans has seen", same(seen, want)) },
			func() error {
				return wantInForce(ctx, p.Restrictions, at(6), []chat.InRoom{whom(room, "user-2")}, ban(room, "user-2", 5))
			},
			func() error {
				if want == "" {
					return wantOut(ctx, p, room, "user-2")
				}
				return wantOf(ctx, p, []chat.InRoom{whom(room, "user-2")}, as(room, "user-2", want, 5))
			},
		); err != nil {
			return err
		}
	}
	return nil
}
