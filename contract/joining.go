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

// closed are rooms that nobody joins, with user-1 in each.
func closed(ctx context.Context, p RoomRoles) ([]string, error) {
	deleted, gone := room("deleted", 3), ofKind(chat.Private, "gone", 4)
	deleted.DeletedAt, gone.DeletedAt = at(5), at(5)
	var all []string
	for _, r := range []chat.Room{ofKind(chat.Private, "private", 1), ofKind(chat.Direct, "direct", 2), deleted, gone} {
		if err := makes(ctx, p, r, r, as(r.Name, "user-1", chat.Moderator, 1)); err != nil {
			return nil, err
		}
		all = append(all, r.Name)
	}
	return all, nil
}

func addRefused(ctx context.Context, p RoomRoles) error {
	all, err := closed(ctx, p)
	for _, name := range all {
		err = then(err,
			func() error { return wantAdded(ctx, p, []chat.Membership{as(name, "user-2", "", 9)}, nobody) },
			func() error {
				return wantAdded(ctx, p, []chat.Membership{as(name, "user-2", chat.Owner, 9), as(name, "user-2", chat.Owner, 9)}, nobody, nobody)
			},
			func() error { return wantOut(ctx, p, name, "user-2") },
			func() error { return wantIn(ctx, p, name, as(name, "user-1", chat.Moderator, 1)) },
		)
	}
	return err
}

func addStays(ctx context.Context, p RoomRoles) error {
	all, err := closed(ctx, p)
	for _, name := range all {
		is := upTo(as(name, "user-1", chat.Moderator, 1), 3)
		err = then(err,
			func() error { return fill(ctx, p.Messages, name, 3) }, // by user-1
			func() error { return wantAdded(ctx, p, []chat.Membership{as(name, "user-1", "", 9)}, is) },
			func() error {
				return wantAdded(ctx, p, []chat.Membership{as(name, "user-1", chat.Owner, 9), as(name, "user-2", "", 9), as(name, "user-1", "", 9)}, is, nobody, is)
			},
			func() error { return wantIn(ctx, p, name, is) },
			func() error { return leave(ctx, p.Members, name, "user-1") },
			func() error { return wantAdded(ctx, p, []chat.Membership{as(name, "user-1", "", 10)}, nobody) },
			func() error { return wantOut(ctx, p, name, "user-1") },
		)
	}
	return err
}

func addMixed(ctx context.Context, p RoomRoles) error {
	fresh := func(room string) chat.Membership { return as(room, "user-2", chat.Regular, 9) }
	given := []chat.Membership{
		fresh("private"), fresh("public"), as("private", "user-1", "", 9), fresh("unknown"), fresh("direct"), as("deleted", "user-1", "", 9), fresh("deleted"), fresh("gone"), fresh("public"), as("private", "user-3", chat.Owner, 9),
		as("public", "user-3", chat.Reader, 9),
	}
	want := []chat.Membership{
		nobody, fresh("public"), as("private", "user-1", chat.Moderator, 1), fresh("unknown"), nobody, as("deleted", "user-1", chat.Moderator, 1), nobody, nobody, fresh("public"), nobody,
		as("public", "user-3", chat.Reader, 9),
	}
	return first(
		func() error { return second(closed(ctx, p)) },
		func() error { return ensure(ctx, p.Rooms, room("public", 1), room("public", 1)) },
		func() error { return wantAdded(ctx, p, given, want...) },
		func() error { return wantIn(ctx, p, "public", fresh("public"), as("public", "user-3", chat.Reader, 9)) },
		func() error { return wantIn(ctx, p, "unknown", fresh("unknown")) },
		func() error { return wantIn(ctx, p, "private", as("private", "user-1", chat.Moderator, 1)) },
		func() error { return wantRoomsOf(ctx, p.Members, "user-2", "", 10, fresh("public"), fresh("unknown")) },
		func() error {
			return wantIs("ByName of a room that was only joined", second(p.Rooms.ByName(ctx, "unknown")), chat.ErrRoomNotFound)
		},
		func() error { // all or none
			if _, err := p.Members.Add(ended(ctx), as("private", "user-4", "", 9), as("public", "user-4", "", 9), as("unknown", "user-4", "", 9)); err == nil {
				return errors.New("an Add succeeded although its context had ended")
			}
			stored, err := p.Members.RoomsOf(ctx, "user-4", "", 10)
			if err == nil && len(stored) != 0 && len(stored) != 2 {
				err = fmt.Errorf("%d of 2 memberships are stored", len(stored))
			}
			return during("RoomsOf", err)
		},
	)
}

func addMany(ctx context.Context, p RoomRoles) error {
	const rooms, users = 6, 50
	var given, want []chat.Membership
	for i := range rooms {
		name, kind := fmt.Sprintf("room-%d", i), []chat.RoomKind{chat.Public, chat.Private, chat.Direct}[i%3]
		if err := makes(ctx, p, ofKind(kind, name, i), ofKind(kind, name, i), as(name, "user-07", chat.Owner, 1)); err != nil {
			return err
		}
	}
	for j := range users {
		for i := range rooms {
			m := as(fmt.Sprintf("room-%d", i), user.ID(fmt.Sprintf("user-%02d", j)), chat.Regular, 9)
			given = append(given, m)
			switch {
			case j == 7:
				m = as(m.Room, m.UserID, chat.Owner, 1)
			case i%3 != 0:
				m = nobody
			}
			want = append(want, m)
		}
	}
	return first(
		func() error { return wantAdded(ctx, p, given, want...) },
		func() error { return wantAdded(ctx, p, given, want...) },
		func() error {
			var asked []chat.InRoom
			for _, m := range given {
				asked = append(asked, whom(m.Room, m.UserID))
			}
			return wantOf(ctx, p, asked, slices.DeleteFunc(slices.Clone(want), func(m chat.Membership) bool { return m.Role == "" })...)
		},
	)
}

func addKind(ctx context.Context, p RoomRoles) error {
	turns := func(edit func(r *chat.Room)) func() error {
		return func() error {
			return during("Update", second(p.Rooms.Update(ctx, "room", chat.By{}, func(r *chat.Room, _ chat.Role) error { edit(r); return nil })))
		}
	}
	in := func(id user.ID, n int) func() error {
		return func() error {
			return wantAdded(ctx, p, []chat.Membership{as("room", id, "", n)}, as("room", id, chat.Regular, n))
		}
	}
	out := func(id user.ID) func() error {
		return func() error { return wantAdded(ctx, p, []chat.Membership{as("room", id, "", 9)}, nobody) }
	}
	return first(
		func() error { return ensure(ctx, p.Rooms, ofKind("", "room", 1), room("room", 1)) },
		in("user-1", 1),
		turns(func(r *chat.Room) { r.Kind = chat.Private }), out("user-2"),
		turns(func(r *chat.Room) { r.Title = "still private" }), out("user-2"),
		turns(func(r *chat.Room) { r.Kind = chat.Public }), in("user-3", 3),
		turns(func(r *chat.Room) { r.DeletedAt = at(4) }), out("user-4"),
		turns(func(r *chat.Room) { r.DeletedAt = time.Time{} }), in("user-5", 5),
		func() error {
			return wantIn(ctx, p, "room", as("room", "user-1", chat.Regular, 1), as("room", "user-3", chat.Regular, 3), as("room", "user-5", chat.Regular, 5))
		},
	)
}

func addExact(ctx context.Context, p RoomRoles) error {
	var given, want []chat.Membership
	for i, name := range names {
		m := as(name, "user-1", chat.Regular, i)
		given, want = append(given, m), append(want, m)
		kind := chat.Public
		switch i % 3 {
		case 0:
			continue // unknown
		case 1:
			kind, want[i] = chat.Private, nobody
		}
		if err := makes(ctx, p, ofKind(kind, name, i), ofKind(kind, name, i)); err != nil {
			return err
		}
	}
	return first(
		func() error { return wantAdded(ctx, p, given, want...) },
		func() error {
			got, err := p.Members.RoomsOf(ctx, "user-1", "", 1000)
			all := slices.DeleteFunc(slices.Clone(want), func(m chat.Membership) bool { return m.Role == "" })
			return during("RoomsOf", then(err, func() error { return sameInAnyOrder(got, all) }))
		},
	)
}

func addRace(ctx context.Context, p RoomRoles) error {
	const n, each = 5, 12
	told := make([][]chat.Membership, n)
	begun := make(chan struct{})
	return first(
		func() error { return makes(ctx, p, room("room", 1), room("room", 1)) },
		func() error {
			return allTogether(n+1, func(i int) error {
				if i == n { // when some are in
					select {
					case <-begun:
					case <-ctx.Done():
						return ctx.Err()
					}
					return during("Update", second(p.Rooms.Update(ctx, "room", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Kind = chat.Private; return nil })))
				}
				for j := range each {
					got, err := p.Members.Add(ctx, as("room", user.ID(fmt.Sprintf("user-%d-%d", i, j)), "", 1))
					if err == nil && len(got) != 1 {
						err = fmt.Errorf("there are %d answers, want 1", len(got))
					}
					if err != nil {
						return during("Add", err)
					}
					told[i] = append(told[i], got[0])
					if i == 0 && j == 0 {
						close(begun)
					}
				}
				return nil
			})
		},
		func() error { // who was told so is a member, and nobody else
			var in []chat.Membership
			for i := range told {
				for j, m := range told[i] {
					if m.Role != "" {
						in = append(in, as("room", user.ID(fmt.Sprintf("user-%d-%d", i, j)), chat.Regular, 1))
					}
				}
			}
			return wantIn(ctx, p, "room", in...)
		},
		func() error { return wantAdded(ctx, p, []chat.Membership{as("room", "late", "", 2)}, nobody) },
	)
}
