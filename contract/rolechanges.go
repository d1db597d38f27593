package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

func rolesGiven(ctx context.Context, p RoomRoles) error {
	owner := as("room", "user-1", chat.Owner, 1)
	return first(
		func() error { return opens(ctx, p, "room", owner) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Reader, 7), nobody, as("room", "user-2", chat.Reader, 7))
		},
		func() error { return wantIn(ctx, p, "room", owner, as("room", "user-2", chat.Reader, 7)) },
		func() error { return fill(ctx, p.Messages, "room", 5) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-3", chat.Owner, 8), nobody, upTo(as("room", "user-3", chat.Owner, 8), 5))
		},
		func() error {
			return wantIn(ctx, p, "room", upTo(owner, 5), as("room", "user-2", chat.Reader, 7), upTo(as("room", "user-3", chat.Owner, 8), 5))
		},
		func() error { return wantRead(ctx, p.reading(), "room", "user-3", 5, 0) },
	)
}

func rolesChanged(ctx context.Context, p RoomRoles) error {
	is := func(role chat.Role, read uint64) chat.Membership { return upTo(as("room", "user-2", role, 1), read) }
	return first(
		func() error { return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1), is(chat.Regular, 0)) },
		func() error { return fill(ctx, p.Messages, "room", 5) },
		func() error {
			return wantMarked(ctx, p.reading(), []chat.Mark{mark("room", "user-2", 3)}, chat.Marked{Read: 3, Unread: 2, Moved: true})
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Moderator, 9), is(chat.Regular, 3), is(chat.Moderator, 3))
		},
		func() error {
			return wantIn(ctx, p, "room", upTo(as("room", "user-1", chat.Owner, 1), 5), is(chat.Moderator, 3))
		},
		func() error { // they send, which is to read
			m := said("room", 6)
			m.Author.ID = "user-2"
			return second(p.Messages.Append(ctx, []chat.Message{m, said("room", 7)}))
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Reader, 10), is(chat.Moderator, 6), is(chat.Reader, 6))
		},
		func() error { return wantRead(ctx, p.reading(), "room", "user-2", 6, 1) },
		func() error {
			return wantIn(ctx, p, "room", upTo(as("room", "user-1", chat.Owner, 1), 7), is(chat.Reader, 6))
		},
	)
}

func rolesEvery(ctx context.Context, p RoomRoles) error {
	is := func(role chat.Role) chat.Membership { return as("room", "user-2", role, 1) }
	if err := opens(ctx, p, "room", is(chat.Owner)); err != nil {
		return err
	}
	before := chat.Owner
	for i, from := range chat.AllRoles() {
		for j, to := range chat.AllRoles() { // from each to each
			if err := first(
				func() error { return wantChange(ctx, p, gives("room", "user-2", from, 2+i), is(before), is(from)) },
				func() error { return wantChange(ctx, p, gives("room", "user-2", to, 2+j), is(from), is(to)) },
				func() error { return wantIn(ctx, p, "room", is(to)) },
			); err != nil {
				return err
			}
			before = to
		}
	}
	return nil
}

func rolesEnded(ctx context.Context, p RoomRoles) error {
	owner, other := as("room", "user-1", chat.Owner, 1), as("other", "user-2", chat.Owner, 2)
	return first(
		func() error {
			return opens(ctx, p, "room", owner, as("room", "user-2", chat.Moderator, 2), as("room", "user-3", chat.Reader, 3))
		},
		func() error { return opens(ctx, p, "other", other) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", "", 9), as("room", "user-2", chat.Moderator, 2), nobody)
		},
		func() error { return wantOut(ctx, p, "room", "user-2") },
		func() error { return wantIn(ctx, p, "room", owner, as("room", "user-3", chat.Reader, 3)) },
		func() error { return wantIn(ctx, p, "other", other) },
		func() error { return wantNoMember(ctx, p.reading(), "room", "user-2") },
		func() error { return wantAdded(ctx, p, []chat.Membership{as("room", "user-2", "", 5)}, nobody) },
		func() error { // the last one leaves
			return wantChange(ctx, p, gives("other", "user-2", "", 9), other, nobody)
		},
		func() error { return wantIn(ctx, p, "other") },
		func() error { return wantRoom(ctx, p.Rooms, ofKind(chat.Private, "other", 0)) },
	)
}

func rolesBack(ctx context.Context, p RoomRoles) error {
	return first(
		func() error {
			return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1), as("room", "user-2", chat.Moderator, 2), as("room", "user-3", chat.Owner, 2))
		},
		func() error { return fill(ctx, p.Messages, "room", 4) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", "", 5), as("room", "user-2", chat.Moderator, 2), nobody)
		},
		func() error { return leave(ctx, p.Members, "room", "user-3") },
		func() error { return second(p.Messages.Append(ctx, []chat.Message{said("room", 5)})) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Reader, 6), nobody, upTo(as("room", "user-2", chat.Reader, 6), 5))
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-3", chat.Reader, 7), nobody, upTo(as("room", "user-3", chat.Reader, 7), 5))
		},
		func() error {
			return wantIn(ctx, p, "room", upTo(as("room", "user-1", chat.Owner, 1), 5), upTo(as("room", "user-2", chat.Reader, 6), 5), upTo(as("room", "user-3", chat.Reader, 7), 5))
		},
		func() error { // and by joining, where that may be
			return second(p.Rooms.Update(ctx, "room", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Kind = chat.Public; return nil }))
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-1", "", 8), upTo(as("room", "user-1", chat.Owner, 1), 5), nobody)
		},
		func() error {
			return wantAdded(ctx, p, []chat.Membership{as("room", "user-1", "", 9)}, upTo(as("room", "user-1", chat.Regular, 9), 5))
		},
		func() error {
			return wantMay(ctx, p, gives("room", "user-2", "", 9), room("room", 0), chat.Regular, chat.Reader, 0)
		},
	)
}

func rolesAgain(ctx context.Context, p RoomRoles) error {
	is := as("room", "user-2", chat.Reader, 2)
	return first(
		func() error { return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1), is) },
		func() error { return wantChange(ctx, p, gives("room", "user-2", chat.Reader, 9), is, is) },
		func() error { return wantChange(ctx, p, gives("room", "user-2", chat.Reader, 10), is, is) },
		func() error { return wantChange(ctx, p, gives("room", "user-3", "", 9), nobody, nobody) },
		func() error { return wantChange(ctx, p, gives("room", "user-2", "", 9), is, nobody) },
		func() error { return wantChange(ctx, p, gives("room", "user-2", "", 9), nobody, nobody) },
		func() error { return wantIn(ctx, p, "room", as("room", "user-1", chat.Owner, 1)) },
		func() error { return wantOut(ctx, p, "room", "user-3") },
	)
}

// wantMay wants may to be told this, by a change that it refuses.
func wantMay(ctx context.Context, p RoomRoles, c chat.RoleChange, r chat.Room, by, of chat.Role, owners int) error {
	asked, what := false, error(nil)
	_, _, err := p.Roles.Change(ctx, c, func(gotRoom chat.Room, gotBy, gotOf chat.Role, gotOwners int) error {
		asked, what = true, during("the room", same(gotRoom, r))
		if what == nil && (gotBy != by || gotOf != of || gotOwners != owners) {
			what = fmt.Errorf("the roles are %q and %q among %d owners, want %q and %q among %d", gotBy, gotOf, gotOwners, by, of, owners)
		}
		return errRefused
	})
	return during(fmt.Sprintf("may of a change by %q of %q in %q", c.By, c.User, c.Room), first(
		func() error { return wantIs("Change", err, errRefused) },
		func() error {
			if !asked {
				return errors.New("it was not asked")
			}
			return what
		},
	))
}

func rolesMay(ctx context.Context, p RoomRoles) error {
	r := described()[1]
	r.DeletedAt = time.Time{}
	changed := r
	changed.Title, changed.Kind, changed.DeletedAt = "new", chat.Public, at(30)
	probe := func(by, id user.ID) chat.RoleChange {
		return chat.RoleChange{Room: "full", User: id, Role: chat.Regular, By: by, At: at(20)}
	}
	return first(
		func() error {
			return makes(ctx, p, r, r, as("full", "owner-1", chat.Owner, 1), as("full", "owner-2", chat.Owner, 1), as("full", "moderator", chat.Moderator, 1), as("full", "member", chat.Regular, 1), as("full", "reader", chat.Reader, 1))
		},
		func() error { return wantMay(ctx, p, probe("owner-1", "moderator"), r, chat.Owner, chat.Moderator, 2) },
		func() error { return wantMay(ctx, p, probe("stranger", "owner-2"), r, "", chat.Owner, 2) },
		func() error { return wantMay(ctx, p, probe("moderator", "stranger"), r, chat.Moderator, "", 2) },
		func() error { return wantMay(ctx, p, probe("member", "reader"), r, chat.Regular, chat.Reader, 2) },
		func() error { return wantMay(ctx, p, probe("reader", "reader"), r, chat.Reader, chat.Reader, 2) },
		func() error { return wantMay(ctx, p, probe("stranger", "nobody"), r, "", "", 2) },
		func() error { // it is told the same where it agrees
			var seen []string
			_, _, err := p.Roles.Change(ctx, chat.RoleChange{Room: "full", User: "reader", Role: chat.Owner, By: "owner-2", At: at(21)}, func(now chat.Room, by, of chat.Role, owners int) error {
				seen = append(seen, fmt.Sprint(by, of, owners, same(now, r) == nil))
				return nil
			})
			if err == nil && (len(seen) == 0 || seen[len(seen)-1] != fmt.Sprint(chat.Owner, chat.Reader, 2, true)) {
				err = fmt.Errorf("may was told %v", seen)
			}
			return during("Change", err)
		},
		func() error { return wantMay(ctx, p, probe("reader", "owner-1"), r, chat.Owner, chat.Owner, 3) },
		func() error { return updateWant(ctx, p.Rooms, changed, func(r *chat.Room) { *r = changed }) },
		func() error {
			return wantMay(ctx, p, probe("owner-1", "moderator"), changed, chat.Owner, chat.Moderator, 3)
		},
	)
}

func rolesCounted(ctx context.Context, p RoomRoles) error {
	r := ofKind(chat.Private, "room", 0)
	owners := func(n int) error { return wantMay(ctx, p, gives("room", "user-9", chat.Reader, 9), r, "", "", n) }
	return first(
		func() error { return opens(ctx, p, "room") },
		func() error { return owners(0) },
		func() error {
			return opens(ctx, p, "other", as("other", "user-1", chat.Owner, 1), as("other", "user-2", chat.Owner, 1))
		},
		func() error { return opens(ctx, p, "ROOM", as("ROOM", "user-2", chat.Owner, 1)) },
		func() error { return owners(0) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Owner, 2), nobody, as("room", "user-2", chat.Owner, 2))
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-3", chat.Moderator, 2), nobody, as("room", "user-3", chat.Moderator, 2))
		},
		func() error { return owners(1) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-3", chat.Owner, 3), as("room", "user-3", chat.Moderator, 2), as("room", "user-3", chat.Owner, 2))
		},
		func() error { return owners(2) },
		func() error { return leave(ctx, p.Members, "room", "user-3") },
		func() error { return owners(1) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Regular, 4), as("room", "user-2", chat.Owner, 2), as("room", "user-2", chat.Regular, 2))
		},
		func() error { return owners(0) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Owner, 5), as("room", "user-2", chat.Regular, 2), as("room", "user-2", chat.Owner, 2))
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", "", 6), as("room", "user-2", chat.Owner, 2), nobody)
		},
		func() error { return owners(0) },
	)
}

func rolesManyOwners(ctx context.Context, p RoomRoles) error {
	const n = 30
	var members []chat.Membership
	for i := range 2 * n {
		members = append(members, as("room", user.ID(fmt.Sprintf("user-%d", i+1)), chat.AllRoles()[i%2], i))
	}
	return first(
		func() error { return opens(ctx, p, "room", members...) },
		func() error {
			return wantMay(ctx, p, gives("room", "user-2", "", 9), ofKind(chat.Private, "room", 0), chat.Owner, chat.Moderator, n)
		},
	)
}

func rolesRefused(ctx context.Context, p RoomRoles) error {
	there := []chat.Membership{as("room", "user-1", chat.Owner, 1), as("room", "user-2", chat.Reader, 2)}
	refuse := func(why error) func(chat.Room, chat.Role, chat.Role, int) error {
		return func(chat.Room, chat.Role, chat.Role, int) error { return why }
	}
	steps := []func() error{func() error { return opens(ctx, p, "room", there...) }}
	for _, c := range []chat.RoleChange{
		gives("room", "user-3", chat.Regular, 3), gives("room", "user-2", chat.Owner, 4), gives("room", "user-2", "", 5), gives("room", "user-1", chat.Reader, 6), gives("room", "user-1", "", 7),
	} {
		for _, why := range []error{errRefused, chat.ErrLastOwner} {
			steps = append(steps, func() error {
				_, _, err := p.Roles.Change(ctx, c, refuse(why))
				return wantIs("Change", err, why)
			})
		}
		steps = append(steps, func() error { return wantIn(ctx, p, "room", there...) }, func() error { return wantOut(ctx, p, "room", "user-3") })
	}
	return first(append(steps, func() error { // and the room can be changed afterwards
		return wantChange(ctx, p, gives("room", "user-3", chat.Regular, 8), nobody, as("room", "user-3", chat.Regular, 8))
	})...)
}

func rolesUnknown(ctx context.Context, p RoomRoles) error {
	unknown := func(c chat.RoleChange) error {
		_, _, err := p.Roles.Change(ctx, c, anything)
		return wantIs("Change in an unknown room", err, chat.ErrRoomNotFound)
	}
	return first(
		func() error { return unknown(gives("room", "user-2", chat.Owner, 1)) },
		func() error { return join(ctx, p.Members, membership("room", "user-1", 1)) }, // who comes before the room
		func() error { return opens(ctx, p, "ROOM", as("ROOM", "user-1", chat.Owner, 1)) },
		func() error { return unknown(gives("room", "user-2", chat.Owner, 2)) },
		func() error { return unknown(gives("room", "user-1", chat.Owner, 3)) },
		func() error { return unknown(gives("room", "user-1", "", 3)) },
		func() error { return wantIn(ctx, p, "room", as("room", "user-1", chat.Regular, 1)) },
		func() error { return wantOut(ctx, p, "room", "user-2") },
		func() error { return wantRooms(ctx, p.Rooms, "", 10, "ROOM") },
	)
}

func rolesListedNoMore(ctx context.Context, p RoomRoles) error {
	names := []string{"first", "gone", "last"}
	reading := Reading{Marks: p.Marks, Members: p.Members, Messages: p.Messages}
	mine := func(name string, n int) chat.MyRoom {
		return chat.MyRoom{Membership: as(name, "user-1", chat.Owner, n), Active: at(n)}
	}
	for i, name := range names {
		if err := makes(ctx, p, room(name, i), room(name, i), as(name, "user-1", chat.Owner, i)); err != nil {
			return err
		}
	}
	return first(
		func() error {
			return wantMine(ctx, reading, "user-1", chat.Place{}, 10, mine("last", 2), mine("gone", 1), mine("first", 0))
		},
		func() error {
			_, err := p.Rooms.Update(ctx, "gone", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.DeletedAt = at(5); return nil })
			return during("Update", err)
		},
		func() error {
			return wantMine(ctx, reading, "user-1", chat.Place{}, 10, mine("last", 2), mine("first", 0))
		},
		func() error {
			return wantMine(ctx, reading, "user-1", chat.Place{}, 2, mine("last", 2), mine("first", 0))
		},
		func() error {
			return wantMine(ctx, reading, "user-1", mine("last", 2).Place(), 1, mine("first", 0))
		},
	)
}

func rolesDeleted(ctx context.Context, p RoomRoles) error {
	r := room("room", 1)
	r.DeletedAt = at(5)
	return first(
		func() error { return makes(ctx, p, r, r, as("room", "user-1", chat.Owner, 1)) },
		func() error { return wantMay(ctx, p, gives("room", "user-2", chat.Owner, 6), r, chat.Owner, "", 1) },
		func() error {
			return wantChange(ctx, p, gives("room", "user-2", chat.Reader, 6), nobody, as("room", "user-2", chat.Reader, 6))
		},
		func() error {
			return wantChange(ctx, p, gives("room", "user-1", "", 7), as("room", "user-1", chat.Owner, 1), nobody)
		},
		func() error { return wantIn(ctx, p, "room", as("room", "user-2", chat.Reader, 6)) },
		func() error { return wantRoom(ctx, p.Rooms, r) },
	)
}

// rolesDuel lets all owners of a room demote or remove the next one, and leave, at once.
func rolesDuel(ctx context.Context, p RoomRoles) error {
	const n = 6
	id := func(i int) user.ID { return user.ID(fmt.Sprintf("user-%d", i%n)) }
	for round := range 4 {
		name := fmt.Sprintf("room-%d", round)
		var owners []chat.Membership
		for i := range n {
			owners = append(owners, as(name, id(i), chat.Owner, i))
		}
		if err := opens(ctx, p, name, owners...); err != nil {
			return err
		}
		errs := together(n, func(i int) error {
			c := chat.RoleChange{Room: name, User: id(i + 1), Role: chat.Regular, By: id(i), At: at(50)}
			if round%2 == 1 { // they leave
				c.User, c.Role = id(i), ""
			}
			_, _, err := p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error { breathe(); return c.May(r.Kind, by, of, owners) })
			return err
		})
		left := n
		for _, err := range errs {
			switch {
			case err == nil:
				left--
			case !errors.Is(err, chat.ErrLastOwner) && !errors.Is(err, chat.ErrRoleLacksRight):
				return during("Change", err)
			}
		}
		got, err := p.Roles.List(ctx, name, "", 100)
		got = slices.DeleteFunc(got, func(m chat.Membership) bool { return m.Role != chat.Owner })
		if err == nil && (len(got) != left || left < 1 || round%2 == 1 && left != 1) {
			err = fmt.Errorf("%d owners are left, and %d of %d calls succeeded", len(got), n-left, n)
		}
		if err != nil {
			return during("List", err)
		}
	}
	return nil
}

func rolesChain(ctx context.Context, p RoomRoles) error {
	const n, each = 6, 5
	counts := make([][]int, n)
	var beforeAfter [n][]string
	if err := first(
		func() error { return opens(ctx, p, "room") },
		func() error { return opens(ctx, p, "other", as("other", "busy", chat.Regular, 0)) },
		func() error {
			return allTogether(n, func(i int) error {
				for j := range each {
					seen := 0
					_, _, err := p.Roles.Change(ctx, gives("room", user.ID(fmt.Sprintf("user-%d-%d", i, j)), chat.Owner, i), func(_ chat.Room, _, _ chat.Role, owners int) error {
						seen = owners
						breathe()
						return nil
					})
					if err != nil {
						return during("Change", err)
					}
					counts[i] = append(counts[i], seen)
					// All change one and the same member elsewhere, and each to what only they say.
					before, after, err := p.Roles.Change(ctx, gives("other", "busy", chat.AllRoles()[(i+j)%4], 1), anything)
					if err != nil {
						return during("Change", err)
					}
					beforeAfter[i] = append(beforeAfter[i], string(before.Role), string(after.Role))
				}
				return nil
			})
		},
	); err != nil {
		return err
	}
	all := slices.Sorted(slices.Values(slices.Concat(counts...)))
	for i, owners := range all {
		if owners != i {
			return fmt.Errorf("%d concurrent changes, each of which adds an owner, were told of %v", n*each, all)
		}
	}
	// Whatever the order was, every role was left as often as it was taken, but for the first and the last.
	balance := map[string]int{string(chat.Regular): 1}
	for _, pairs := range beforeAfter {
		for i := 0; i < len(pairs); i += 2 {
			balance[pairs[i]]--
			balance[pairs[i+1]]++
		}
	}
	got, err := p.Roles.Of(ctx, whom("other", "busy"))
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("there are %d memberships, want 1", len(got))
	}
	if err != nil {
		return during("Of", err)
	}
	balance[string(got[0].Role)]--
	for role, n := range balance {
		if n != 0 {
			return fmt.Errorf("of concurrent changes of one member, what each found and what each left do not follow one another: %q is off by %d", role, n)
		}
	}
	return nil
}
