package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// RoomRoles is a chat.Roles with the rooms, members, marks, messages and restrictions of its store.
type RoomRoles struct {
	Roles    chat.Roles
	Rooms    chat.Rooms
	Members  chat.Members
	Marks    chat.Marks
	Messages chat.MessageStore
	// Restrictions are those that Roles and Rooms heed.
	Restrictions chat.Restrictions
}

const (
	updates      = "Update stores durably what change makes of the room, and returns that."
	updateFails  = "Update returns ErrRoomNotFound, or the error of change; then nothing is stored."
	updateRace   = "Of several concurrent calls each change is given what the one before has stored; change may be called more than once, and is pure."
	updateStays  = "Name, CreatedBy and CreatedAt stay, whatever change makes of them."
	creates      = "Create stores a room with its first members durably, all or none, and returns the room."
	createTaken  = "Create returns ErrRoomTaken, and stores nothing, if a room of that name exists, be it a deleted one."
	createRace   = "Of several concurrent calls with one name, one wins."
	createBefore = "A membership that came before the room takes the role, and keeps Since and what was read."
	roleOf       = "Of returns the memberships of those whom it is asked about and who are members, in any order."
	roleAlways   = "Every membership that it returns has its role, and Read as Marks says it."
	rolesListed  = "List returns memberships of room, of users greater than after, ascending by the bytes of their ids."
	rolesLimit   = "List returns at most limit: none if limit is below 1."
	roleChanges  = "Change makes c durably, if may lets it, and returns the membership before and after; the Role of one that does not exist is empty."
	mayAsked     = "Change gives may the room, the roles of c.By and of c.User, and how many owners the room has; may may be called more than once, and is pure."
	mayRefused   = "Change returns ErrRoomNotFound, or the error of may; then nothing is stored."
	roleRace     = "Of several concurrent calls in a room each sees what the one before has stored."
	roleKeeps    = "A membership that goes on keeps Since and what was read; one that begins has read the room's last message."
	emptyKind    = "Empty is Public where it is to be stored; stores return it always."
	emptyRole    = "Empty is Regular where it is to be stored; stores return it always."
	adds         = "Add stores memberships durably, all or none."
	addExisting  = "A membership that exists is left as it is."
	addReturns   = "Add returns what is stored for each, in the order given, with its role."
	addClosed    = "A membership that does not exist, of a room that is not public or that is deleted, is not stored: its answer has no Role."
	addUnknown   = "A room that Rooms does not know is public."
	mineDeleted  = "Mine leaves out rooms that are deleted."
	toTheMicro   = "Every time is UTC, to the microsecond."
)

// Roles is the suite of chat.Roles, and of what chat.Members says of rooms that are not public.
func Roles() []Case[RoomRoles] {
	return suite("Roles", append([]promise[RoomRoles]{
		{"a created room has its members", creates + " " + roleAlways, rolesCreated},
		{"every field of a created room is kept", creates + " " + emptyKind, rolesFields},
		{"a room is created without members", creates, rolesAlone},
		{"a taken name is refused", createTaken, rolesTaken},
		{"one of several creations wins", createRace + " " + createTaken + " Ensure stores r, with every field as it is, unless a room of that name exists.", rolesCreateRace},
		{"an ended context leaves no members behind", creates, rolesCreateEnded},
		{"a member without a role is a regular one", emptyRole, rolesEmpty},
		{"who comes with the room has read it", "A member has read the last message that was stored when the membership began, and what comes before it. " + roleAlways, rolesCreateRead},
		{"who was there before the room takes the role", createBefore, rolesBefore},
		{"several are asked about at once", roleOf, rolesAsked},
		{"many are asked about at once", roleOf, rolesMany},
		{"nobody is asked about", roleOf, rolesNobody},
		{"memberships tell what is read", roleAlways + " A member has read what they have sent, and what comes before it.", rolesRead},
		{"a list is in the order of users", rolesListed, rolesOrder},
		{"a list comes page by page", rolesListed + " " + rolesLimit, rolesPages},
		{"a list has its room and who is there", rolesListed, rolesOthers},
		{"a role is given to a newcomer", roleChanges + " " + roleKeeps, rolesGiven},
		{"a role is changed", roleChanges + " " + roleKeeps, rolesChanged},
		{"every role is kept", roleChanges, rolesEvery},
		{"a membership ends", roleChanges, rolesEnded},
		{"whoever comes back is a newcomer", roleChanges + " " + roleKeeps + " Remove ends a membership, which may begin again.", rolesBack},
		{"to change nothing is no error", roleChanges, rolesAgain},
		{"may is told what is stored", mayAsked, rolesMay},
		{"owners are counted in their room", mayAsked, rolesCounted},
		{"many owners are counted", mayAsked, rolesManyOwners},
		{"a refusal stores nothing", mayRefused, rolesRefused},
		{"an unknown room has no roles to change", mayRefused, rolesUnknown},
		{"a deleted room is may's to refuse", mayAsked + " " + roleChanges, rolesDeleted},
		{"owners who demote each other leave one", roleRace + " It may be called from many goroutines.", rolesDuel},
		{"concurrent changes are one after the other", roleRace + " It may be called from many goroutines.", rolesChain},
		{"rooms and users are exact", exactly, rolesExact},
		{"long names are kept", creates + " " + roleChanges, rolesLong},
		{"times are kept to the microsecond", toTheMicro, rolesTimes},
		{"a context that has ended is an error", roleChanges + " " + creates, rolesContext},
		{"nobody joins a room that is not public", addClosed, addRefused},
		{"members of a room that is not public stay", addExisting + " " + addReturns, addStays},
		{"rooms of every kind in one call", adds + " " + addClosed + " " + addUnknown + " " + addReturns, addMixed},
		{"many rooms in one call", adds + " " + addClosed, addMany},
		{"the kind that a room has now counts", addClosed + " " + updates, addKind},
		{"kinds of rooms are exact", addClosed + " " + exactly, addExact},
		{"who joins while a room is closed is in or out", addClosed + " " + addReturns, addRace},
		{"a deleted room is in nobody's list", mineDeleted, rolesListedNoMore},
		{"roles are exact after random steps", roleChanges + " " + addClosed + " " + roleAlways, func(ctx context.Context, p RoomRoles) error { return rolesAreExact(ctx, p, 1, 200) }},
	}, rulings()...))
}

var errRefused = errors.New("the caller refuses")

// as is a membership with a role, that began n seconds after the epoch.
func as(room string, id user.ID, role chat.Role, n int) chat.Membership {
	m := membership(room, id, n)
	m.Role = role
	return m
}

// upTo is the membership of somebody who has read so far.
func upTo(m chat.Membership, read uint64) chat.Membership { m.Read = read; return m }

// ofKind is a room of a kind.
func ofKind(kind chat.RoomKind, name string, n int) chat.Room {
	r := room(name, n)
	r.Kind = kind
	return r
}

func makes(ctx context.Context, p RoomRoles, r, want chat.Room, members ...chat.Membership) error {
	got, err := p.Roles.Create(ctx, r, members...)
	return during(fmt.Sprintf("Create(%s)", clip(fmt.Sprintf("%+q", r.Name))), then(err, func() error { return same(got, want) }))
}

// opens creates a private room with these members.
func opens(ctx context.Context, p RoomRoles, name string, members ...chat.Membership) error {
	return makes(ctx, p, ofKind(chat.Private, name, 0), ofKind(chat.Private, name, 0), members...)
}

func compareMemberships(a, b chat.Membership) int {
	return cmp.Or(strings.Compare(a.Room, b.Room), strings.Compare(string(a.UserID), string(b.UserID)))
}

// wantOf wants those of whom it asks to be members like this, and nobody else.
func wantOf(ctx context.Context, p RoomRoles, asked []chat.InRoom, want ...chat.Membership) error {
	got, err := p.Roles.Of(ctx, asked...)
	return during(fmt.Sprintf("Of(%s)", clip(fmt.Sprintf("%+q", asked))), then(err, func() error { return sameInAnyOrder(got, want) }))
}

// wantIn wants these to be all the members of the room, and to be so by every call that tells of it.
func wantIn(ctx context.Context, p RoomRoles, room string, want ...chat.Membership) error {
	asked := []chat.InRoom{whom(room, "stranger")}
	for _, m := range want {
		asked = append(asked, whom(room, m.UserID))
	}
	slices.SortFunc(want, compareMemberships)
	if err := first(
		func() error { return wantPeople(ctx, p, room, "", 1000, want...) },
		func() error { return wantOf(ctx, p, asked, want...) },
	); err != nil {
		return err
	}
	for _, m := range want {
		if err := first(
			func() error { return wantMember(ctx, p.Members, room, m.UserID, true) },
			func() error {
				all, err := p.Members.RoomsOf(ctx, m.UserID, "", 1000)
				i := slices.IndexFunc(all, func(of chat.Membership) bool { return of.Room == room })
				if err == nil && i < 0 {
					err = errors.New("it has not the room")
				}
				return during(fmt.Sprintf("RoomsOf(%q)", m.UserID), then(err, func() error { return same(all[i], m) }))
			},
		); err != nil {
			return err
		}
	}
	return nil
}

// wantOut wants somebody to be no member by any call.
func wantOut(ctx context.Context, p RoomRoles, room string, id user.ID) error {
	return first(
		func() error { return wantOf(ctx, p, []chat.InRoom{whom(room, id)}) },
		func() error { return wantMember(ctx, p.Members, room, id, false) },
		func() error {
			all, err := p.Members.RoomsOf(ctx, id, "", 1000)
			if err == nil && slices.ContainsFunc(all, func(m chat.Membership) bool { return m.Room == room }) {
				err = errors.New("it has the room")
			}
			return during(fmt.Sprintf("RoomsOf(%q)", id), err)
		},
	)
}

func wantPeople(ctx context.Context, p RoomRoles, room string, after user.ID, limit int, want ...chat.Membership) error {
	got, err := p.Roles.List(ctx, room, after, limit)
	return during(fmt.Sprintf("List(%s, after %q, limit %d)", clip(fmt.Sprintf("%+q", room)), after, limit), then(err, func() error { return same(got, want) }))
}

// gives is a change by user-1.
func gives(room string, id user.ID, role chat.Role, n int) chat.RoleChange {
	return chat.RoleChange{Room: room, User: id, Role: role, By: "user-1", At: at(n)}
}

func anything(chat.Room, chat.Role, chat.Role, int) error { return nil }

// nobody is a membership that does not exist.
var nobody chat.Membership

// wantChange makes a change, and wants the membership to be like this before and after.
func wantChange(ctx context.Context, p RoomRoles, c chat.RoleChange, before, after chat.Membership) error {
	wasGot, isGot, err := p.Roles.Change(ctx, c, anything)
	return during(fmt.Sprintf("Change(%+q in %+q to %q)", c.User, clip(c.Room), c.Role), then(err,
		func() error { return during("before", sameMembership(wasGot, before)) },
		func() error { return during("after", sameMembership(isGot, after)) },
	))
}

func sameMembership(got, want chat.Membership) error {
	if want.Role == "" && got.Role == "" {
		return nil
	}
	return same(got, want)
}

// wantAdded adds, and wants these answers. Of one without a Role nothing else is told.
func wantAdded(ctx context.Context, p RoomRoles, given []chat.Membership, want ...chat.Membership) error {
	got, err := p.Members.Add(ctx, given...)
	if err == nil && len(got) != len(want) {
		err = fmt.Errorf("there are %d answers, want %d", len(got), len(want))
	}
	for i := range want {
		err = then(err, func() error {
			return during(fmt.Sprintf("answer %d, of %+q", i, given[i].Room), sameMembership(got[i], want[i]))
		})
	}
	return during("Add", err)
}

func rolesCreated(ctx context.Context, p RoomRoles) error {
	full := described()[1]
	members := []chat.Membership{as("full", "user-1", chat.Owner, 1), as("full", "user-2", chat.Moderator, 2), as("full", "user-3", chat.Regular, 3), as("full", "user-4", chat.Reader, 4)}
	return first(
		func() error { return makes(ctx, p, full, full, members...) },
		func() error { return wantRoom(ctx, p.Rooms, full) },
		func() error { return wantRooms(ctx, p.Rooms, "", 10, "full") },
		func() error { return wantIn(ctx, p, "full", members...) },
		func() error { return opens(ctx, p, "other", as("other", "user-2", chat.Owner, 5)) },
		func() error { return wantIn(ctx, p, "full", members...) },
		func() error { return wantIn(ctx, p, "other", as("other", "user-2", chat.Owner, 5)) },
	)
}

func rolesFields(ctx context.Context, p RoomRoles) error {
	for _, r := range described() {
		if err := first(
			func() error { return makes(ctx, p, r, r, as(r.Name, "user-1", chat.Owner, 1)) },
			func() error { return wantRoom(ctx, p.Rooms, r) },
		); err != nil {
			return err
		}
	}
	given, want := ofKind("", "given", 5), ofKind(chat.Public, "given", 5)
	given.Retention, want.Retention = 90*time.Second+999*time.Millisecond, 90*time.Second
	given.DeletedAt, want.DeletedAt = at(9).In(time.FixedZone("east", 5*3600)).Add(999*time.Nanosecond), at(9)
	return first(
		func() error { return makes(ctx, p, given, want) },
		func() error { return wantRoom(ctx, p.Rooms, want) },
	)
}

func rolesAlone(ctx context.Context, p RoomRoles) error {
	return first(
		func() error { return opens(ctx, p, "room") },
		func() error { return wantRoom(ctx, p.Rooms, ofKind(chat.Private, "room", 0)) },
		func() error { return wantIn(ctx, p, "room") },
	)
}

func rolesTaken(ctx context.Context, p RoomRoles) error {
	deleted := ofKind(chat.Private, "deleted", 1)
	deleted.DeletedAt = at(2)
	there := []chat.Room{room("ensured", 1), ofKind(chat.Direct, "created", 1), deleted}
	for i, r := range there {
		before := as(r.Name, "user-1", chat.Reader, 3)
		if err := first(
			func() error {
				if i == 0 {
					return then(ensure(ctx, p.Rooms, r, r), func() error { return join(ctx, p.Members, before) })
				}
				return makes(ctx, p, r, r, before)
			},
			func() error {
				_, err := p.Roles.Create(ctx, ofKind(chat.Private, r.Name, 7), as(r.Name, "user-1", chat.Owner, 8), as(r.Name, "user-2", chat.Owner, 8))
				return wantIs("Create of a room that is "+r.Name, err, chat.ErrRoomTaken)
			},
			func() error {
				return wantIs("Create of a room that is "+r.Name, second(p.Roles.Create(ctx, r)), chat.ErrRoomTaken)
			},
			func() error { return wantRoom(ctx, p.Rooms, r) },
			func() error { return wantIn(ctx, p, r.Name, before) },
			func() error { return wantOut(ctx, p, r.Name, "user-2") },
		); err != nil {
			return err
		}
	}
	return wantRooms(ctx, p.Rooms, "", 10, "created", "deleted", "ensured")
}

func rolesCreateRace(ctx context.Context, p RoomRoles) error {
	const n = 8
	for round := range 3 {
		name, mixed := fmt.Sprintf("room-%d", round), fmt.Sprintf("mixed-%d", round)
		owner := func(room string, i int) chat.Membership {
			return as(room, user.ID(fmt.Sprintf("user-%d", i)), chat.Owner, i)
		}
		errs := together(n, func(i int) error {
			return second(p.Roles.Create(ctx, ofKind(chat.Private, name, i), owner(name, i), as(name, "shared", chat.Reader, 50+i)))
		})
		won := slices.Index(errs, nil)
		if err := first(
			func() error { return oneWins("Create", chat.ErrRoomTaken, errs) },
			func() error { return wantRoom(ctx, p.Rooms, ofKind(chat.Private, name, won)) },
			func() error { return wantIn(ctx, p, name, owner(name, won), as(name, "shared", chat.Reader, 50+won)) },
		); err != nil {
			return err
		}
		// Against those who ensure that it is there, who never fail.
		errs = together(n, func(i int) error {
			if i%2 == 0 {
				return second(p.Roles.Create(ctx, ofKind(chat.Private, mixed, i), owner(mixed, i)))
			}
			got, err := p.Rooms.Ensure(ctx, room(mixed, i))
			return cmp.Or(err, fmt.Errorf("ensured %s %w", got.CreatedBy, errRefused)) // its answer, for later
		})
		r, err := p.Rooms.ByName(ctx, mixed)
		if err != nil {
			return during("ByName", err)
		}
		created := false
		for i, err := range errs {
			switch {
			case i%2 != 0 && !errors.Is(err, errRefused):
				return during("Ensure", err)
			case i%2 != 0 && !strings.Contains(err.Error(), "ensured "+string(r.CreatedBy)+" "):
				return fmt.Errorf("the room is of %s, and a concurrent call of Ensure %w", r.CreatedBy, err)
			case i%2 == 0 && err == nil && created:
				return errors.New("two concurrent calls of Create succeeded")
			case i%2 == 0 && err == nil:
				created = true
				err = first(
					func() error { return same(r, ofKind(chat.Private, mixed, i)) },
					func() error { return wantIn(ctx, p, mixed, owner(mixed, i)) },
				)
				if err != nil {
					return err
				}
			case i%2 == 0 && !errors.Is(err, chat.ErrRoomTaken):
				return during("Create", err)
			}
		}
		if !created {
			if err := wantIn(ctx, p, mixed); err != nil {
				return err
			}
		}
	}
	return nil
}

func rolesCreateEnded(ctx context.Context, p RoomRoles) error {
	if _, err := p.Roles.Create(ended(ctx), ofKind(chat.Private, "room", 1), as("room", "user-1", chat.Owner, 1), as("room", "user-2", chat.Reader, 1)); err == nil {
		return errors.New("a Create succeeded although its context had ended")
	}
	got, err := p.Roles.List(ctx, "room", "", 10)
	if err != nil {
		return during("List", err)
	}
	switch _, err := p.Rooms.ByName(ctx, "room"); {
	case errors.Is(err, chat.ErrRoomNotFound) && len(got) != 0:
		return fmt.Errorf("there are %d members of a room that is not there", len(got))
	case err == nil && len(got) != 2:
		return fmt.Errorf("there are %d members of a room that was created with 2", len(got))
	case !errors.Is(err, chat.ErrRoomNotFound):
		return during("ByName", err)
	}
	return first(
		func() error { return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1)) },
		func() error { return wantIn(ctx, p, "room", as("room", "user-1", chat.Owner, 1)) },
	)
}

func rolesEmpty(ctx context.Context, p RoomRoles) error {
	return first(
		func() error {
			return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1), as("room", "user-2", "", 2))
		},
		func() error { return ensure(ctx, p.Rooms, room("open", 1), room("open", 1)) },
		func() error {
			return wantAdded(ctx, p, []chat.Membership{as("open", "user-2", "", 3)}, as("open", "user-2", chat.Regular, 3))
		},
		func() error {
			return wantIn(ctx, p, "room", as("room", "user-1", chat.Owner, 1), as("room", "user-2", chat.Regular, 2))
		},
		func() error { return wantIn(ctx, p, "open", as("open", "user-2", chat.Regular, 3)) },
		func() error {
			return wantMay(ctx, p, gives("open", "user-2", chat.Reader, 4), room("open", 1), "", chat.Regular, 0)
		},
	)
}

func rolesCreateRead(ctx context.Context, p RoomRoles) error {
	given := upTo(as("room", "user-2", chat.Owner, 1), 9) // not the caller's to say
	return first(
		func() error { return fill(ctx, p.Messages, "room", 5) },
		func() error { return opens(ctx, p, "room", given, as("room", "user-1", chat.Reader, 2)) },
		func() error {
			return wantIn(ctx, p, "room", upTo(as("room", "user-2", chat.Owner, 1), 5), upTo(as("room", "user-1", chat.Reader, 2), 5))
		},
		func() error { return opens(ctx, p, "quiet", upTo(as("quiet", "user-2", chat.Owner, 1), 9)) },
		func() error { return wantIn(ctx, p, "quiet", as("quiet", "user-2", chat.Owner, 1)) },
	)
}

func rolesBefore(ctx context.Context, p RoomRoles) error {
	return first(
		func() error {
			return join(ctx, p.Members, membership("room", "user-2", 1), membership("room", "user-3", 2))
		},
		func() error { return fill(ctx, p.Messages, "room", 5) },
		func() error {
			return wantMarked(ctx, p.reading(), []chat.Mark{mark("room", "user-2", 3)}, chat.Marked{Read: 3, Unread: 2, Moved: true})
		},
		func() error {
			return opens(ctx, p, "room", as("room", "user-2", chat.Owner, 9), as("room", "user-4", chat.Reader, 9))
		},
		func() error {
			return wantIn(ctx, p, "room", upTo(as("room", "user-2", chat.Owner, 1), 3), as("room", "user-3", chat.Regular, 2), upTo(as("room", "user-4", chat.Reader, 9), 5))
		},
	)
}

func (p RoomRoles) reading() Reading {
	return Reading{Marks: p.Marks, Members: p.Members, Messages: p.Messages}
}

func rolesAsked(ctx context.Context, p RoomRoles) error {
	all := []chat.Membership{as("a", "user-1", chat.Owner, 1), as("a", "user-2", chat.Reader, 2), as("b", "user-2", chat.Owner, 3), as("b", "user-3", chat.Moderator, 4)}
	return first(
		func() error { return opens(ctx, p, "a", all[:2]...) },
		func() error { return opens(ctx, p, "b", all[2:]...) },
		func() error {
			return wantOf(ctx, p, []chat.InRoom{whom("a", "user-1"), whom("b", "user-3")}, all[0], all[3])
		},
		func() error { // nobody is in both, nobody is there twice
			return wantOf(ctx, p, []chat.InRoom{
				whom("b", "user-3"), whom("a", "user-2"), whom("nowhere", "user-2"), whom("a", "user-3"), whom("b", "user-1"), whom("a", "nobody"), whom("a", "user-2"), whom("b", "user-3"),
			}, all[1], all[3])
		},
		func() error { return wantOf(ctx, p, []chat.InRoom{whom("a", "user-2"), whom("a", "user-2")}, all[1]) },
		func() error { return wantOf(ctx, p, []chat.InRoom{whom("b", "user-1")}) },
	)
}

func rolesMany(ctx context.Context, p RoomRoles) error {
	const n = 512
	var asked []chat.InRoom
	var want []chat.Membership
	for i := range n {
		w := whom(fmt.Sprintf("room-%d", i%7), user.ID(fmt.Sprintf("user-%d", i)))
		asked = append(asked, w)
		if i%60 == 11 || i == n-1 {
			want = append(want, as(w.Room, w.UserID, chat.AllRoles()[i%4], i))
		}
	}
	return first(
		func() error { return join(ctx, p.Members, want...) },
		func() error { return wantOf(ctx, p, asked, want...) },
		func() error { return wantOf(ctx, p, append(slices.Clone(asked[:100]), asked[:100]...), want[:2]...) },
	)
}

func rolesNobody(ctx context.Context, p RoomRoles) error {
	return first(
		func() error { return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1)) },
		func() error { return wantOf(ctx, p, nil) },
	)
}

func rolesRead(ctx context.Context, p RoomRoles) error {
	return first(
		func() error {
			return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1), as("room", "user-2", chat.Reader, 2), as("room", "user-3", chat.Reader, 3))
		},
		func() error { return fill(ctx, p.Messages, "room", 6) }, // by user-1
		func() error {
			return wantMarked(ctx, p.reading(), []chat.Mark{mark("room", "user-2", 4)}, chat.Marked{Read: 4, Unread: 2, Moved: true})
		},
		func() error {
			return wantIn(ctx, p, "room", upTo(as("room", "user-1", chat.Owner, 1), 6), upTo(as("room", "user-2", chat.Reader, 2), 4), as("room", "user-3", chat.Reader, 3))
		},
	)
}

// userIDs are in another order for whoever does not go by the bytes.
var userIDs = []user.ID{"a", "B", "b", "Ä", "z", "ä", "10", "9", "房", "👋", "\uffee", "a b", "a.b", "aa"}

func rolesOrder(ctx context.Context, p RoomRoles) error {
	var want []chat.Membership
	for i, id := range userIDs {
		want = append(want, as("room", id, chat.AllRoles()[i%4], len(userIDs)-i))
	}
	return first(
		func() error { return opens(ctx, p, "room", want...) },
		func() error {
			slices.SortFunc(want, compareMemberships)
			return wantPeople(ctx, p, "room", "", 100, want...)
		},
		func() error {
			return wantPeople(ctx, p, "room", "b", 3, want[slices.IndexFunc(want, func(m chat.Membership) bool { return m.UserID > "b" }):][:3]...)
		},
	)
}

func rolesPages(ctx context.Context, p RoomRoles) error {
	const n = 60 // a store may take its time for each member of a new room
	var all []chat.Membership
	for i := range n {
		all = append(all, as("room", user.ID(fmt.Sprintf("user-%03d", i)), chat.AllRoles()[i%4], i))
	}
	mixed := slices.Clone(all)
	slices.Reverse(mixed)
	return first(
		func() error { return opens(ctx, p, "room", mixed...) },
		func() error { return wantPeople(ctx, p, "room", "", 3, all[:3]...) },
		func() error { return wantPeople(ctx, p, "room", all[2].UserID, 2, all[3:5]...) },
		func() error { return wantPeople(ctx, p, "room", "user-004x", 2, all[5:7]...) }, // after one that is nobody
		func() error { return wantPeople(ctx, p, "room", all[n-2].UserID, 10, all[n-1]) },
		func() error { return wantPeople(ctx, p, "room", all[n-1].UserID, 10) },
		func() error { return wantPeople(ctx, p, "room", "", math.MaxInt32, all...) },
		func() error { return wantPeople(ctx, p, "room", "", 0) },
		func() error { return wantPeople(ctx, p, "room", "", -1) },
	)
}

func rolesOthers(ctx context.Context, p RoomRoles) error {
	return first(
		func() error { return wantPeople(ctx, p, "nowhere", "", 10) },
		func() error {
			return opens(ctx, p, "a", as("a", "user-1", chat.Owner, 1), as("a", "user-3", chat.Reader, 2), as("a", "user-4", chat.Reader, 2))
		},
		func() error {
			return opens(ctx, p, "b", as("b", "user-2", chat.Owner, 1), as("b", "user-3", chat.Moderator, 3))
		},
		func() error { return join(ctx, p.Members, membership("c", "user-5", 1)) },
		func() error { return leave(ctx, p.Members, "a", "user-4") },
		func() error {
			return wantPeople(ctx, p, "a", "", 10, as("a", "user-1", chat.Owner, 1), as("a", "user-3", chat.Reader, 2))
		},
		func() error {
			return wantPeople(ctx, p, "b", "", 10, as("b", "user-2", chat.Owner, 1), as("b", "user-3", chat.Moderator, 3))
		},
		func() error { return wantPeople(ctx, p, "c", "", 10, as("c", "user-5", chat.Regular, 1)) },
	)
}

func rolesExact(ctx context.Context, p RoomRoles) error {
	role := func(i int) chat.Role { return chat.AllRoles()[i%4] }
	var users []chat.Membership
	for i, name := range names {
		users = append(users, as("users", user.ID(name), role(i), i))
		if i%2 != 0 {
			continue
		}
		if err := opens(ctx, p, name, as(name, "user-1", role(i), i)); err != nil {
			return err
		}
	}
	if err := opens(ctx, p, "users", users[:len(users)-1]...); err != nil {
		return err
	}
	last := users[len(users)-1]
	users = users[:len(users)-1]
	for i, name := range names {
		var want []chat.Membership
		if i%2 == 0 {
			want = append(want, as(name, "user-1", role(i), i))
		}
		if err := first(
			func() error { return wantOf(ctx, p, []chat.InRoom{whom(name, "user-1")}, want...) },
			func() error { return wantOf(ctx, p, []chat.InRoom{whom(name, "USER-1")}) },
			func() error { return wantPeople(ctx, p, name, "", 10, want...) },
		); err != nil {
			return err
		}
		if i >= len(users) {
			continue
		}
		changed := users[i] // the next role, and nobody else's changes
		changed.Role = role(i + 1)
		if err := wantChange(ctx, p, gives("users", changed.UserID, changed.Role, 90), users[i], changed); err != nil {
			return err
		}
		users[i] = changed
	}
	return first(
		func() error { return wantAll(ctx, p, "users", users...) },
		func() error { return wantOut(ctx, p, "users", last.UserID) },
		func() error { // one ends, and no other does
			return wantChange(ctx, p, gives("users", users[0].UserID, "", 91), users[0], nobody)
		},
		func() error { return wantAll(ctx, p, "users", users[1:]...) },
	)
}

// wantAll wants these to be all members of the room, in any order.
func wantAll(ctx context.Context, p RoomRoles, room string, want ...chat.Membership) error {
	got, err := p.Roles.List(ctx, room, "", 1000)
	return during(fmt.Sprintf("List(%q)", room), then(err, func() error { return sameInAnyOrder(got, want) }))
}

func sameInAnyOrder(got, want []chat.Membership) error {
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, compareMemberships)
	slices.SortFunc(want, compareMemberships)
	return same(got, want)
}

func rolesLong(ctx context.Context, p RoomRoles) error {
	name, id, other := long(chat.MaxRoomName), user.ID(long(chat.MaxAuthorID)), user.ID(long(chat.MaxAuthorID-1)+"x")
	return first(
		func() error { return opens(ctx, p, name, as(name, id, chat.Owner, 1)) },
		func() error {
			return wantChange(ctx, p, chat.RoleChange{Room: name, User: other, Role: chat.Reader, By: id, At: at(2)}, nobody, as(name, other, chat.Reader, 2))
		},
		func() error {
			return wantIn(ctx, p, name, as(name, id, chat.Owner, 1), as(name, other, chat.Reader, 2))
		},
		func() error {
			return wantMay(ctx, p, chat.RoleChange{Room: name, User: other, By: id}, ofKind(chat.Private, name, 0), chat.Owner, chat.Reader, 1)
		},
		func() error {
			return wantChange(ctx, p, chat.RoleChange{Room: name, User: id, By: id, At: at(3)}, as(name, id, chat.Owner, 1), nobody)
		},
		func() error { return wantIn(ctx, p, name, as(name, other, chat.Reader, 2)) },
	)
}

func rolesTimes(ctx context.Context, p RoomRoles) error {
	odd := func(n int) time.Time { return at(n).In(time.FixedZone("east", 5*3600)).Add(700 * time.Nanosecond) }
	given := as("room", "user-1", chat.Owner, 1)
	given.Since = odd(1)
	r := ofKind(chat.Private, "room", 0)
	r.CreatedAt = odd(0)
	c := gives("room", "user-2", chat.Reader, 2)
	c.At = odd(2)
	return first(
		func() error { return makes(ctx, p, r, ofKind(chat.Private, "room", 0), given) },
		func() error { return wantChange(ctx, p, c, nobody, as("room", "user-2", chat.Reader, 2)) },
		func() error {
			return wantIn(ctx, p, "room", as("room", "user-1", chat.Owner, 1), as("room", "user-2", chat.Reader, 2))
		},
		func() error { return wantRoom(ctx, p.Rooms, ofKind(chat.Private, "room", 0)) },
	)
}

func rolesContext(ctx context.Context, p RoomRoles) error {
	return first(
		func() error { return opens(ctx, p, "room", as("room", "user-1", chat.Owner, 1)) },
		func() error {
			gone := ended(ctx)
			for name, do := range map[string]func() error{
				"Create": func() error { return second(p.Roles.Create(gone, room("other", 1))) },
				"Of":     func() error { return second(p.Roles.Of(gone, whom("room", "user-1"))) },
				"List":   func() error { return second(p.Roles.List(gone, "room", "", 10)) },
				"Change": func() error {
					_, _, err := p.Roles.Change(gone, gives("room", "user-2", chat.Reader, 2), anything)
					return err
				},
			} {
				if do() == nil {
					return errors.New(name + " succeeded although its context had ended")
				}
			}
			return nil
		},
		func() error { // what it came to is not known; that it can be told is
			return wantOf(ctx, p, []chat.InRoom{whom("room", "user-1")}, as("room", "user-1", chat.Owner, 1))
		},
	)
}
