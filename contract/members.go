package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Members checks chat.Members.
func Members() []Case[chat.Members] {
	return suite("Members", []promise[chat.Members]{
		{"an added member is a member", "Add stores memberships durably, all or none. Has reports whether the user is a member of room.", membersAdd},
		{"an existing membership stays", "A membership that exists is left as it is.", membersAgain},
		{"roles are kept", "Add returns what is stored for each, in the order given, with its role. Empty is Regular where it is to be stored; stores return it always. RoomsOf returns memberships of the user, with their roles, whose room is greater than after, ascending by the bytes of the room's name.", membersRoles},
		{"several are added in one call", "Add stores memberships durably, all or none.", membersMany},
		{"a removed member is none", "Remove ends a membership, which may begin again. Ending a membership that does not exist is no error.", membersRemove},
		{"a member may come back", "Remove ends a membership, which may begin again.", membersBack},
		{"rooms and users are exact", "Two rooms or users are the same only if they have the same bytes.", membersExact},
		{"a user's rooms come by the bytes of the name", "RoomsOf returns memberships of the user, with their roles, whose room is greater than after, ascending by the bytes of the room's name.", membersRooms},
		{"a user's rooms come page by page", "RoomsOf returns at most limit memberships: none if limit is below 1.", membersPages},
		{"concurrent joins are one membership", "It may be called from many goroutines. A membership that exists is left as it is.", membersRace},
	})
}

func membership(room string, id user.ID, n int) chat.Membership {
	return chat.Membership{Room: room, UserID: id, Role: chat.Regular, Since: at(n)}
}

func join(ctx context.Context, p chat.Members, memberships ...chat.Membership) error {
	return during("Add", second(p.Add(ctx, memberships...)))
}

func wantMember(ctx context.Context, p chat.Members, room string, id user.ID, want bool) error {
	got, err := p.Has(ctx, room, id)
	if err == nil && got != want {
		err = fmt.Errorf("it returned %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Has(%s, %q)", clip(fmt.Sprintf("%+q", room)), id), err)
}

func wantRoomsOf(ctx context.Context, p chat.Members, id user.ID, after string, limit int, want ...chat.Membership) error {
	got, err := p.RoomsOf(ctx, id, after, limit)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("RoomsOf(%q, %+q, %d)", id, after, limit), err)
}

func membersAdd(ctx context.Context, p chat.Members) error {
	longest := long(chat.MaxRoomName)
	return first(
		func() error { return wantMember(ctx, p, "room", "user-1", false) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 10) },
		func() error { return join(ctx, p) },
		func() error { return join(ctx, p, membership("room", "user-1", 1)) },
		func() error { return join(ctx, p, membership(longest, "user-1", 2)) },
		func() error { return wantMember(ctx, p, "room", "user-1", true) },
		func() error { return wantMember(ctx, p, longest, "user-1", true) },
		func() error { return wantMember(ctx, p, "room", "user-2", false) },
		func() error { return wantMember(ctx, p, "other", "user-1", false) },
		func() error {
			return wantRoomsOf(ctx, p, "user-1", "", 10, membership("room", "user-1", 1), membership(longest, "user-1", 2))
		},
	)
}

func membersAgain(ctx context.Context, p chat.Members) error {
	return first(
		func() error { return join(ctx, p, membership("a", "user-1", 1)) },
		func() error {
			return join(ctx, p, membership("a", "user-1", 5), membership("b", "user-1", 6), membership("b", "user-1", 7))
		},
		func() error {
			return wantRoomsOf(ctx, p, "user-1", "", 10, membership("a", "user-1", 1), membership("b", "user-1", 6))
		},
	)
}

func membersRoles(ctx context.Context, p chat.Members) error {
	as := func(room string, role chat.Role) chat.Membership {
		m := membership(room, "user-1", 1)
		m.Role = role
		return m
	}
	want := []chat.Membership{as("a", chat.Owner), as("b", chat.Moderator), as("c", chat.Regular), as("d", chat.Reader), as("e", chat.Regular)}
	adds := func(given, want []chat.Membership) error {
		got, err := p.Add(ctx, given...)
		return during("Add", then(err, func() error { return same(got, want) }))
	}
	return first(
		func() error { return adds(append(slices.Clone(want[:4]), as("e", "")), want) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 10, want...) },
		func() error { // one that exists stays
			return adds([]chat.Membership{as("d", chat.Owner), as("a", ""), as("e", chat.Reader), as("e", "")}, []chat.Membership{want[3], want[0], want[4], want[4]})
		},
		func() error { return leave(ctx, p, "a", "user-1") },
		func() error { return adds([]chat.Membership{as("a", "")}, []chat.Membership{as("a", chat.Regular)}) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 1, as("a", chat.Regular)) },
	)
}

func membersMany(ctx context.Context, p chat.Members) error {
	var all, mine []chat.Membership
	for i := range 60 {
		m := membership(fmt.Sprintf("room-%02d", i), "user-1", i)
		mine = append(mine, m)
		all = append(all, m, membership(m.Room, "user-2", i))
	}
	if err := first(
		func() error { return join(ctx, p, all...) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 100, mine...) },
	); err != nil {
		return err
	}
	for _, m := range all {
		if err := wantMember(ctx, p, m.Room, m.UserID, true); err != nil {
			return err
		}
	}
	return nil
}

func leave(ctx context.Context, p chat.Members, room string, id user.ID) error {
	return during("Remove", p.Remove(ctx, room, id))
}

func membersRemove(ctx context.Context, p chat.Members) error {
	return first(
		func() error { return leave(ctx, p, "nowhere", "nobody") },
		func() error {
			return join(ctx, p, membership("a", "user-1", 1), membership("b", "user-1", 1), membership("a", "user-2", 1))
		},
		func() error { return leave(ctx, p, "a", "user-1") },
		func() error { return leave(ctx, p, "a", "user-1") },
		func() error { return wantMember(ctx, p, "a", "user-1", false) },
		func() error { return wantMember(ctx, p, "b", "user-1", true) },
		func() error { return wantMember(ctx, p, "a", "user-2", true) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 10, membership("b", "user-1", 1)) },
	)
}

func membersBack(ctx context.Context, p chat.Members) error {
	return first(
		func() error { return join(ctx, p, membership("a", "user-1", 1)) },
		func() error { return leave(ctx, p, "a", "user-1") },
		func() error { return join(ctx, p, membership("a", "user-1", 5)) },
		func() error { return wantMember(ctx, p, "a", "user-1", true) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 10, membership("a", "user-1", 5)) },
	)
}

func membersExact(ctx context.Context, p chat.Members) error {
	for i, name := range names {
		if i%2 == 0 {
			if err := join(ctx, p, membership(name, "user-1", i)); err != nil {
				return err
			}
		}
	}
	for i, name := range names {
		if err := first(
			func() error { return wantMember(ctx, p, name, "user-1", i%2 == 0) },
			func() error { return wantMember(ctx, p, name, "USER-1", false) },
		); err != nil {
			return err
		}
	}
	return first(
		func() error { return leave(ctx, p, names[1], "user-1") },
		func() error { return leave(ctx, p, names[0], "USER-1") },
		func() error { return wantMember(ctx, p, names[0], "user-1", true) },
	)
}

// everywhere makes the user a member of every room there is a name for, and returns the
// memberships as RoomsOf should.
func everywhere(ctx context.Context, p chat.Members) ([]chat.Membership, error) {
	var all []chat.Membership
	for i, name := range names {
		all = append(all, membership(name, "user-1", i))
	}
	if err := first(
		func() error { return join(ctx, p, all...) },
		func() error { return join(ctx, p, membership("another", "user-2", 1)) },
	); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b chat.Membership) int { return strings.Compare(a.Room, b.Room) })
	return all, nil
}

func membersRooms(ctx context.Context, p chat.Members) error {
	all, err := everywhere(ctx, p)
	return then(err, func() error { return wantRoomsOf(ctx, p, "user-1", "", 1000, all...) })
}

func membersPages(ctx context.Context, p chat.Members) error {
	want, err := everywhere(ctx, p)
	if err != nil {
		return err
	}
	var all []chat.Membership
	for after := ""; len(all) <= len(want); {
		page, err := p.RoomsOf(ctx, "user-1", after, 5)
		if err != nil {
			return during("RoomsOf", err)
		}
		if len(page) > 5 {
			return fmt.Errorf("with limit 5 there are %d memberships", len(page))
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		after = page[len(page)-1].Room
	}
	between := want[7].Room + "\x01" // no room, but a place
	return first(
		func() error { return during("all pages", same(all, want)) },
		func() error {
			return wantRoomsOf(ctx, p, "user-1", between, 1, want[slices.IndexFunc(want, func(m chat.Membership) bool { return m.Room > between })])
		},
		func() error { return wantRoomsOf(ctx, p, "user-1", "\U0010ffff", 5) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", 0) },
		func() error { return wantRoomsOf(ctx, p, "user-1", "", -1) },
	)
}

func membersRace(ctx context.Context, p chat.Members) error {
	const n = 12
	err := allTogether(n, func(i int) error {
		return join(ctx, p, membership("same", "user-1", i), membership(fmt.Sprintf("room-%02d", i), "user-1", i), membership("same", user.ID(fmt.Sprintf("user-1%02d", i)), i))
	})
	if err != nil {
		return err
	}
	all, err := p.RoomsOf(ctx, "user-1", "", 100)
	if err == nil && len(all) != n+1 {
		err = fmt.Errorf("there are %d memberships, want %d", len(all), n+1)
	}
	for i := range n {
		err = then(err, func() error { return wantMember(ctx, p, "same", user.ID(fmt.Sprintf("user-1%02d", i)), true) })
	}
	return err
}
