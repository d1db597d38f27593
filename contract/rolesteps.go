package contract

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// RandomRoles is one more case of [Roles]: it takes random steps, as many as are asked for, and compares rooms and memberships after each of them. The
// same seed takes the same steps.
func RandomRoles(seed uint64, steps int) Case[RoomRoles] {
	return Case[RoomRoles]{
		Name: fmt.Sprintf("roles are exact after %d random steps from seed %d", steps, seed), Rule: roleChanges + " " + addClosed,
		Check: func(ctx context.Context, p RoomRoles) error { return rolesAreExact(ctx, p, seed, steps) },
	}
}

// society is what a store must make of rooms, their members and what they have read.
type society struct {
	rooms   map[string]chat.Room
	members map[chat.InRoom]chat.Membership
	last    map[string]uint64
}

func (s society) open(room string) bool {
	r, known := s.rooms[room]
	return !known || r.Kind == chat.Public && r.DeletedAt.IsZero()
}

// add begins or returns a membership.
func (s society) add(m chat.Membership) chat.Membership {
	w := whom(m.Room, m.UserID)
	if is, ok := s.members[w]; ok {
		return is
	}
	if !s.open(m.Room) {
		return nobody
	}
	return s.begin(m)
}

func (s society) begin(m chat.Membership) chat.Membership {
	if m.Role == "" {
		m.Role = chat.Regular
	}
	m.Read = s.last[m.Room]
	s.members[whom(m.Room, m.UserID)] = m
	return m
}

// give gives a role to somebody, who may be none.
func (s society) give(m chat.Membership) chat.Membership {
	is, ok := s.members[whom(m.Room, m.UserID)]
	if !ok {
		return s.begin(m)
	}
	is.Role = m.Role
	s.members[whom(m.Room, m.UserID)] = is
	return is
}

func (s society) owners(room string) (n int) {
	for w, m := range s.members {
		if w.Room == room && m.Role == chat.Owner {
			n++
		}
	}
	return n
}

func (s society) in(room string) (all []chat.Membership) {
	for w, m := range s.members {
		if w.Room == room {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, compareMemberships)
	return all
}

// rolesAreExact creates rooms, changes them and who is what in them, joins, leaves, sends and marks at random, and looks after each step.
func rolesAreExact(ctx context.Context, p RoomRoles, seed uint64, steps int) error {
	random := rand.New(rand.NewPCG(seed, seed))
	s := society{rooms: map[string]chat.Room{}, members: map[chat.InRoom]chat.Membership{}, last: map[string]uint64{}}
	for n := range steps {
		// New rooms come all the time: one that is deleted stays so.
		name := func() string { return fmt.Sprintf("room-%d", n/40*2+random.IntN(4)) }
		what, err := s.step(ctx, p, random, n, name)
		in := name()
		err = then(err,
			func() error { return wantPeople(ctx, p, in, "", 100, s.in(in)...) },
			func() error {
				var asked []chat.InRoom
				var want []chat.Membership
				for range 6 {
					w := whom(name(), somebody(random))
					if m, ok := s.members[w]; ok && !slices.Contains(asked, w) {
						want = append(want, m)
					}
					asked = append(asked, w)
				}
				return wantOf(ctx, p, asked, want...)
			},
		)
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", n, what, err)
		}
	}
	return nil
}

func somebody(random *rand.Rand) user.ID { return user.ID(fmt.Sprintf("user-%d", random.IntN(5))) }

func (s society) step(ctx context.Context, p RoomRoles, random *rand.Rand, n int, name func() string) (what string, err error) {
	in, who := name(), somebody(random)
	roles := append(chat.AllRoles(), "")
	r, known := s.rooms[in]
	switch random.IntN(11) {
	case 0, 1:
		fresh := ofKind([]chat.RoomKind{chat.Public, chat.Private, chat.Private, chat.Direct}[random.IntN(4)], in, n)
		var first []chat.Membership
		for i := range random.IntN(3) {
			first = append(first, as(in, user.ID(fmt.Sprintf("user-%d", i)), roles[random.IntN(4)], n))
		}
		what = fmt.Sprintf("creating %s %s with %d", fresh.Kind, in, len(first))
		if known {
			return what, wantIs("Create", second(p.Roles.Create(ctx, fresh, first...)), chat.ErrRoomTaken)
		}
		s.rooms[in] = fresh
		for _, m := range first {
			s.give(m)
		}
		return what, makes(ctx, p, fresh, fresh, first...)
	case 2:
		fresh := room(in, n)
		if known {
			return "ensuring " + in, ensure(ctx, p.Rooms, fresh, r)
		}
		s.rooms[in] = fresh
		return "ensuring " + in, ensure(ctx, p.Rooms, fresh, fresh)
	case 3:
		r.Kind, r.Title = []chat.RoomKind{chat.Public, chat.Private}[random.IntN(2)], fmt.Sprintf("title %d", n)
		if random.IntN(5) == 0 {
			r.DeletedAt = at(n)
		}
		what = fmt.Sprintf("making %s %s, deleted %t", in, r.Kind, !r.DeletedAt.IsZero())
		if !known {
			_, err := p.Rooms.Update(ctx, in, chat.By{}, func(_ *chat.Room, _ chat.Role) error { return nil })
			return what, wantIs("Update", err, chat.ErrRoomNotFound)
		}
		s.rooms[in] = r
		return what, updateWant(ctx, p.Rooms, r, func(now *chat.Room) { now.Kind, now.Title, now.DeletedAt = r.Kind, r.Title, r.DeletedAt })
	case 4, 5, 6:
		c := chat.RoleChange{Room: in, User: who, Role: roles[random.IntN(5)], By: somebody(random), At: at(n)}
		before, by := s.members[whom(in, who)], s.members[whom(in, c.By)].Role
		what = fmt.Sprintf("%s, who is %q, makes %s %q in %s, who was %q", c.By, by, who, c.Role, in, before.Role)
		if !known {
			_, _, err := p.Roles.Change(ctx, c, anything)
			return what, wantIs("Change", err, chat.ErrRoomNotFound)
		}
		lawful := random.IntN(3) > 0
		refused := c.May(r.Kind, by, before.Role, s.owners(in))
		if lawful && refused != nil {
			_, _, err := p.Roles.Change(ctx, c, func(r chat.Room, by, of chat.Role, owners int) error { return c.May(r.Kind, by, of, owners) })
			return what, wantIs("Change", err, refused)
		}
		after := nobody
		if c.Role == "" {
			delete(s.members, whom(in, who))
		} else {
			after = s.give(as(in, who, c.Role, n))
		}
		return what, wantChange(ctx, p, c, before, after)
	case 7:
		other := name()
		given := []chat.Membership{as(in, who, "", n), as(other, who, "", n)}
		return fmt.Sprintf("%s joins %s and %s", who, in, other), wantAdded(ctx, p, given, s.add(given[0]), s.add(given[1]))
	case 8:
		delete(s.members, whom(in, who))
		return fmt.Sprintf("%s leaves %s", who, in), leave(ctx, p.Members, in, who)
	case 9:
		m := said(in, n)
		m.Author.ID = who
		s.last[in]++
		if is, ok := s.members[whom(in, who)]; ok {
			is.Read = s.last[in]
			s.members[whom(in, who)] = is
		}
		return fmt.Sprintf("%s sends to %s", who, in), second(p.Messages.Append(ctx, []chat.Message{m}))
	default:
		read := uint64(random.IntN(int(s.last[in]) + 2))
		if is, ok := s.members[whom(in, who)]; ok {
			is.Read = max(is.Read, min(read, s.last[in]))
			s.members[whom(in, who)] = is
		}
		return fmt.Sprintf("%s marks %d in %s", who, read, in), second(p.Marks.Mark(ctx, []chat.Mark{mark(in, who, read)}))
	}
}
