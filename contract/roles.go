package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// RoomRoles is a chat.Roles with the rooms, members, marks and messages of its store.
type RoomRoles struct {
	Roles    chat.Roles
	Rooms    chat.Rooms
	Members  chat.Members
	Marks    chat.Marks
	Messages chat.MessageStore
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

// updatesOfRooms are the cases of chat.Rooms.Update.
func updatesOfRooms() []promise[chat.Rooms] {
	return []promise[chat.Rooms]{
		{"an update is stored", updates, updateStored},
		{"an update may empty what there is", updates + " " + emptyKind, updateEmpties},
		{"an update is kept as long as it may be", updates + " Title and Topic are what people read of the room: at most MaxTitle and MaxTopic characters. Data is the application's: a JSON object in the form that CompactData returns, or empty.", updateLong},
		{"times and retentions of an update are whole", toTheMicro + " Retention is how long messages are kept, in whole seconds: a store drops the rest.", updateWhole},
		{"an unknown room is not updated", updateFails, updateUnknown},
		{"a refused update stores nothing", updateFails, updateRefused},
		{"who made a room and when stays", updateStays, updateIdentity},
		{"an update is of one room", "Two names are the same only if they have the same bytes. " + updates, updateExact},
		{"concurrent updates lose nothing", updateRace, updateConcurrent},
		{"an ended context updates nothing", updates, updateEnded},
	}
}

// Roles is the suite of chat.Roles, and of what chat.Members says of rooms that are not public.
func Roles() []Case[RoomRoles] {
	return suite("Roles", []promise[RoomRoles]{
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
	})
}

// RandomRoles is one more case of [Roles]: it takes random steps, as many as are asked for, and compares rooms and memberships after each of them. The
// same seed takes the same steps.
func RandomRoles(seed uint64, steps int) Case[RoomRoles] {
	return Case[RoomRoles]{
		Name: fmt.Sprintf("roles are exact after %d random steps from seed %d", steps, seed), Rule: roleChanges + " " + addClosed,
		Check: func(ctx context.Context, p RoomRoles) error { return rolesAreExact(ctx, p, seed, steps) },
	}
}

var errRefused = errors.New("the caller refuses")

// updateWant updates a room, and wants this to be stored.
func updateWant(ctx context.Context, p chat.Rooms, want chat.Room, change func(r *chat.Room)) error {
	got, err := p.Update(ctx, want.Name, func(r *chat.Room) error { change(r); return nil })
	return first(
		func() error {
			return during(fmt.Sprintf("Update(%s)", clip(fmt.Sprintf("%+q", want.Name))), then(err, func() error { return same(got, want) }))
		},
		func() error { return wantRoom(ctx, p, want) },
	)
}

func updateStored(ctx context.Context, p chat.Rooms) error {
	all := described()
	for _, r := range all {
		if err := ensure(ctx, p, r, r); err != nil {
			return err
		}
	}
	full := all[1]
	for i, r := range all {
		want := full
		want.Name, want.CreatedBy, want.CreatedAt = r.Name, r.CreatedBy, r.CreatedAt
		if err := updateWant(ctx, p, want, func(now *chat.Room) {
			if same(*now, r) != nil {
				now.Topic = fmt.Sprintf("change was given %+v, want %+v", *now, r)
				return
			}
			*now = full
		}); err != nil {
			return err
		}
		all[i] = want
	}
	one := all[0]
	one.Title = "only the title"
	all[0] = one
	slices.SortFunc(all, func(a, b chat.Room) int { return strings.Compare(a.Name, b.Name) })
	return first(
		func() error { return updateWant(ctx, p, one, func(r *chat.Room) { r.Title = one.Title }) },
		func() error { return updateWant(ctx, p, one, func(*chat.Room) {}) },
		func() error {
			got, err := p.List(ctx, "", 10)
			return during("List", then(err, func() error { return same(got, all) }))
		},
		func() error { return ensure(ctx, p, room(one.Name, 9), one) },
	)
}

func updateEmpties(ctx context.Context, p chat.Rooms) error {
	full := described()[1]
	return first(
		func() error { return ensure(ctx, p, full, full) },
		func() error {
			return updateWant(ctx, p, room(full.Name, 2), func(r *chat.Room) { *r = chat.Room{} })
		},
	)
}

func updateLong(ctx context.Context, p chat.Rooms) error {
	all := described()
	want := all[2]
	want.Name, want.CreatedBy, want.CreatedAt = "room", "user-1", at(1)
	deep := all[3]
	deep.Name, deep.CreatedBy, deep.CreatedAt = "room", "user-1", at(1)
	return first(
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		func() error { return updateWant(ctx, p, want, func(r *chat.Room) { *r = want }) },
		func() error { return updateWant(ctx, p, deep, func(r *chat.Room) { *r = deep }) },
	)
}

func updateWhole(ctx context.Context, p chat.Rooms) error {
	want := room("room", 1)
	want.DeletedAt, want.Retention = at(9), 90*time.Second
	return first(
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		func() error {
			return updateWant(ctx, p, want, func(r *chat.Room) {
				r.DeletedAt, r.Retention = at(9).In(time.FixedZone("west", -7*3600)).Add(999*time.Nanosecond), 90*time.Second+999*time.Millisecond
			})
		},
		func() error { return updateWant(ctx, p, want, func(*chat.Room) {}) },
	)
}

func updateUnknown(ctx context.Context, p chat.Rooms) error {
	unknown := func() error {
		_, err := p.Update(ctx, "nowhere", func(r *chat.Room) error { r.Name, r.Title = "nowhere", "title"; return nil })
		return wantIs("Update of an unknown room", err, chat.ErrRoomNotFound)
	}
	return first(
		unknown,
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		unknown,
		func() error { return wantRooms(ctx, p, "", 10, "room") },
	)
}

func updateRefused(ctx context.Context, p chat.Rooms) error {
	full := described()[1]
	return first(
		func() error { return ensure(ctx, p, full, full) },
		func() error {
			_, err := p.Update(ctx, full.Name, func(r *chat.Room) error { *r = room("other", 3); return errRefused })
			return wantIs("Update with a change that fails", err, errRefused)
		},
		func() error { return wantRoom(ctx, p, full) },
		func() error { return wantRooms(ctx, p, "", 10, full.Name) },
		func() error { // and the room can be changed afterwards
			want := full
			want.Title = "new"
			return updateWant(ctx, p, want, func(r *chat.Room) { r.Title = "new" })
		},
	)
}

func updateIdentity(ctx context.Context, p chat.Rooms) error {
	want := room("room", 1)
	want.Title = "new"
	return first(
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		func() error { return ensure(ctx, p, room("there", 2), room("there", 2)) },
		func() error {
			return updateWant(ctx, p, want, func(r *chat.Room) {
				r.Name, r.CreatedBy, r.CreatedAt, r.Title = "there", "user-9", at(99), "new"
			})
		},
		func() error { return wantRoom(ctx, p, room("there", 2)) },
		func() error {
			return updateWant(ctx, p, want, func(r *chat.Room) { r.Name, r.CreatedBy, r.CreatedAt = "elsewhere", "", time.Time{} })
		},
		func() error { return wantRooms(ctx, p, "", 10, "room", "there") },
	)
}

func updateExact(ctx context.Context, p chat.Rooms) error {
	for n, name := range names {
		if err := ensure(ctx, p, room(name, n), room(name, n)); err != nil {
			return err
		}
	}
	want := func(n int) chat.Room {
		r := room(names[n], n)
		if n%2 == 0 {
			r.Title = fmt.Sprintf("title %d", n)
		}
		return r
	}
	for n := 0; n < len(names); n += 2 {
		if err := updateWant(ctx, p, want(n), func(r *chat.Room) { r.Title = want(n).Title }); err != nil {
			return err
		}
	}
	for n := range names {
		if err := wantRoom(ctx, p, want(n)); err != nil {
			return err
		}
	}
	return nil
}

func updateConcurrent(ctx context.Context, p chat.Rooms) error {
	const n, each = 8, 6
	seen := make([][]int, n)
	if err := first(
		func() error { return ensure(ctx, p, room("a", 1), room("a", 1)) },
		func() error { return ensure(ctx, p, room("b", 2), room("b", 2)) },
		func() error {
			return allTogether(n, func(i int) error {
				for j := range each {
					name := []string{"a", "b"}[(i+j)%2]
					was := 0
					got, err := p.Update(ctx, name, func(r *chat.Room) error {
						was = len(r.Title)
						breathe()
						r.Title += "x"
						return nil
					})
					if err == nil && len(got.Title) != was+1 {
						err = fmt.Errorf("it returned %d changes after the change of %d", len(got.Title), was)
					}
					if err != nil {
						return during("Update", err)
					}
					seen[i] = append(seen[i], was)
				}
				return nil
			})
		},
	); err != nil {
		return err
	}
	for i, name := range []string{"a", "b"} {
		r := room(name, i+1)
		r.Title = strings.Repeat("x", n*each/2)
		if err := wantRoom(ctx, p, r); err != nil {
			return err
		}
	}
	all := slices.Sorted(slices.Values(slices.Concat(seen...)))
	for i, was := range all {
		if was != i/2 {
			return fmt.Errorf("two concurrent updates of a room were given the same: the counts were %v", all)
		}
	}
	return nil
}

func updateEnded(ctx context.Context, p chat.Rooms) error {
	return first(
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		func() error {
			if _, err := p.Update(ended(ctx), "room", func(r *chat.Room) error { r.Title = "late"; return nil }); err == nil {
				return errors.New("an Update succeeded although its context had ended")
			}
			return nil
		},
		func() error { return updateWant(ctx, p, room("room", 1), func(r *chat.Room) { r.Title = "" }) },
	)
}

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
			return second(p.Rooms.Update(ctx, "room", func(r *chat.Room) error { r.Kind = chat.Public; return nil }))
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
			_, err := p.Rooms.Update(ctx, "gone", func(r *chat.Room) error { r.DeletedAt = at(5); return nil })
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
			return during("Update", second(p.Rooms.Update(ctx, "room", func(r *chat.Room) error { edit(r); return nil })))
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
					return during("Update", second(p.Rooms.Update(ctx, "room", func(r *chat.Room) error { r.Kind = chat.Private; return nil })))
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
			_, err := p.Rooms.Update(ctx, in, func(*chat.Room) error { return nil })
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
