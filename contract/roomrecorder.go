package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// RecordedRooms is the port of [RoomRecorder]: stores of rooms, memberships and roles that share a store, how far members have read in it, and the outbox
// into which they put events.
type RecordedRooms struct {
	Rooms   chat.RoomRecorder[chat.Rooms]
	Members chat.RoomRecorder[chat.Members]
	Roles   chat.RoomRecorder[chat.Roles]
	Pruner  chat.Pruner
	Outbox  event.Outbox
}

const (
	roomsRecord    = "Recording returns the store, which puts the events into the outbox that record makes of what its methods store."
	roomsOnce      = "A change and its events are stored in one commit: both are, or neither is."
	roomsGiven     = "Ensure and Create give Room a room that they have stored, and Update what it has made of one."
	membersGiven   = "Add gives Membership each membership that it has begun, Remove each that it has ended, and Change each that it has made another one."
	createdMembers = "Create gives Membership each member, behind the room, in the order given."
	roomsNot       = "What was there already, what is not there, and what is refused has no event."
	roomsOrder     = "The events of a room are in the order of its changes, and so are those of a membership."
	roomsDeclined  = "A function that is nil makes none, and so does one that returns false."
	roomsBefore    = "Room is given the room before and after a change. One that was not there before has no Name."
	endsWithout    = "Membership is given what begins or has another role now, with its room, user and role, or what ends, without a role."
)

// RoomRecorder is the suite of chat.RoomRecorder, of chat.Rooms, chat.Members and chat.Roles of one store.
func RoomRecorder() []Case[RecordedRooms] {
	return suite("RoomRecorder", []promise[RecordedRooms]{
		{"a room that somebody joins has its event", roomsRecord + " " + roomsGiven + " " + roomsBefore, roomRecorderEnsures},
		{"a room that is there has none", roomsNot, roomRecorderEnsuresOnce},
		{"what is made of a room has its event", roomsGiven + " " + roomsBefore, roomRecorderUpdates},
		{"a created room and its members have their events", roomsGiven + " " + createdMembers, roomRecorderCreates},
		{"a taken name has no event", roomsNot, roomRecorderTaken},
		{"who joins has an event", membersGiven + " " + endsWithout, roomRecorderJoins},
		{"many who join have their events", membersGiven + " " + roomsOnce, roomRecorderMany},
		{"whoever is there, and whom the room does not let in, has none", roomsNot, roomRecorderShut},
		{"who leaves has an event", membersGiven + " " + endsWithout, roomRecorderLeaves},
		{"who leaves a room that is not stored has an event", membersGiven, roomRecorderLeavesNowhere},
		{"a role has its event", membersGiven + " " + endsWithout, roomRecorderRoles},
		{"what is refused, and what changes nothing, has none", roomsNot, roomRecorderRefuses},
		{"a record may decline", roomsDeclined, roomRecorderDeclines},
		{"a record may tell of nothing", roomsDeclined, roomRecorderSilent},
		{"what is not stored has no event", roomsOnce, roomRecorderNothing},
		{"events are in the order of what happens", roomsOrder, roomRecorderOrder},
		{"a member's events stay when they leave", roomsOnce + " " + membersGiven, roomRecorderStays},
		{"events stay when the room is removed", roomsOnce, roomRecorderDropped},
		{"whoever was there before the room is told of twice", membersGiven + " " + createdMembers, roomRecorderBefore},
		{"a member comes again and again", membersGiven + " " + roomsOrder, roomRecorderAgain},
		{"owners who are there at once have their events", roomsOnce + " " + roomsOrder, roomRecorderDuel},
		{"events are published once", roomsRecord, roomRecorderPublished},
	})
}

// recordedStores are the stores that record everything.
type recordedStores struct {
	RecordedRooms
	rooms   chat.Rooms
	members chat.Members
	roles   chat.Roles
}

// everyRoom records everything. IDs of its events say what was told, and how often anything was.
func everyRoom() chat.RoomRecord {
	var mu sync.Mutex
	n := 0
	made := func(room, said string) (event.Event, bool) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return event.Event{ID: fmt.Sprintf("e%d", n), Topic: "topic", Type: said, Key: room, Time: at(n), Data: []byte(`{"n":1}`)}, true
	}
	return chat.RoomRecord{
		Room: func(before, after chat.Room) (event.Event, bool) {
			return made(after.Name, fmt.Sprintf("%s: %s %q to %s %q deleted %t", after.Name, before.Name, before.Title, after.Kind, after.Title, !after.DeletedAt.IsZero()))
		},
		Membership: func(m chat.Membership) (event.Event, bool) {
			return made(m.Room, fmt.Sprintf("%s: %s is %q", m.Room, m.UserID, m.Role))
		},
	}
}

func (p RecordedRooms) recording(record chat.RoomRecord) (s recordedStores, err error) {
	s.RecordedRooms = p
	if s.rooms, err = p.Rooms.Recording(record); err != nil {
		return s, during("Recording of rooms", err)
	}
	if s.members, err = p.Members.Recording(record); err != nil {
		return s, during("Recording of members", err)
	}
	s.roles, err = p.Roles.Recording(record)
	return s, during("Recording of roles", err)
}

// recordingRooms makes a case of what is done with the stores that record everything.
func (p RecordedRooms) all() (recordedStores, error) { return p.recording(everyRoom()) }

// wantTold wants this to be pending, in this order.
func (p RecordedRooms) wantTold(ctx context.Context, want ...string) error {
	events, err := p.Outbox.Pending(ctx, 1000)
	got := []string{}
	for _, e := range events {
		got = append(got, e.Type)
	}
	return during("Pending", then(err, func() error { return same(got, append([]string{}, want...)) }))
}

func newRoom(name string, kind chat.RoomKind) string {
	return fmt.Sprintf("%s:  \"\" to %s \"\" deleted false", name, kind)
}

func isNow(room string, id user.ID, role chat.Role) string {
	return fmt.Sprintf("%s: %s is %q", room, id, role)
}

func (s recordedStores) ensure(ctx context.Context, r chat.Room) func() error {
	return func() error { _, err := s.rooms.Ensure(ctx, r); return during("Ensure", err) }
}

func (s recordedStores) create(ctx context.Context, r chat.Room, members ...chat.Membership) func() error {
	return func() error { _, err := s.roles.Create(ctx, r, members...); return during("Create", err) }
}

func (s recordedStores) add(ctx context.Context, members ...chat.Membership) func() error {
	return func() error { _, err := s.members.Add(ctx, members...); return during("Add", err) }
}

func (s recordedStores) remove(ctx context.Context, room string, id user.ID) func() error {
	return func() error { return during("Remove", s.members.Remove(ctx, room, id)) }
}

func (s recordedStores) change(ctx context.Context, room string, id user.ID, role chat.Role, n int) func() error {
	return func() error {
		_, _, err := s.roles.Change(ctx, gives(room, id, role, n), anything)
		return during("Change", err)
	}
}

func (s recordedStores) told(ctx context.Context, want ...string) func() error {
	return func() error { return s.wantTold(ctx, want...) }
}

func roomRecorderEnsures(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err,
		s.ensure(ctx, room("a", 1)), s.ensure(ctx, ofKind(chat.Private, "b", 2)),
		s.told(ctx, newRoom("a", chat.Public), newRoom("b", chat.Private)),
	)
}

func roomRecorderEnsuresOnce(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.ensure(ctx, room("a", 1)), s.ensure(ctx, room("a", 2)), func() error {
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = s.rooms.Ensure(ctx, room("b", i)) })
		}
		wg.Wait()
		return during("Ensure", errors.Join(errs...))
	}, s.told(ctx, newRoom("a", chat.Public), newRoom("b", chat.Public)))
}

func roomRecorderUpdates(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	update := func(change func(*chat.Room)) func() error {
		return func() error {
			_, err := s.rooms.Update(ctx, "a", chat.By{}, func(r *chat.Room, _ chat.Role) error { change(r); return nil })
			return during("Update", err)
		}
	}
	return then(err, s.ensure(ctx, room("a", 1)),
		update(func(r *chat.Room) { r.Title = "one" }),
		update(func(r *chat.Room) { r.Title, r.Kind = "two", chat.Private }),
		update(func(r *chat.Room) { r.DeletedAt = at(9) }),
		func() error {
			_, err := s.rooms.Update(ctx, "a", chat.By{}, func(_ *chat.Room, _ chat.Role) error { return errRefused })
			return wantIs("Update", err, errRefused)
		},
		func() error {
			_, err := s.rooms.Update(ctx, "nowhere", chat.By{}, func(_ *chat.Room, _ chat.Role) error { return nil })
			return wantIs("Update", err, chat.ErrRoomNotFound)
		},
		s.told(ctx, newRoom("a", chat.Public), `a: a "" to public "one" deleted false`, `a: a "one" to private "two" deleted false`, `a: a "two" to private "two" deleted true`),
	)
}

func roomRecorderCreates(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err,
		s.create(ctx, ofKind(chat.Private, "a", 1), as("a", "user-2", chat.Owner, 1), as("a", "user-1", "", 1)),
		s.create(ctx, room("b", 2)),
		s.told(ctx, newRoom("a", chat.Private), isNow("a", "user-2", chat.Owner), isNow("a", "user-1", chat.Regular), newRoom("b", chat.Public)),
	)
}

func roomRecorderTaken(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.ensure(ctx, room("a", 1)), func() error {
		_, err := s.roles.Create(ctx, room("a", 2), as("a", "user-1", chat.Owner, 2))
		return wantIs("Create", err, chat.ErrRoomTaken)
	}, s.told(ctx, newRoom("a", chat.Public)))
}

func roomRecorderJoins(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.ensure(ctx, room("a", 1)),
		s.add(ctx, as("a", "user-1", "", 2)), s.add(ctx, as("a", "user-2", chat.Reader, 3)),
		s.add(ctx, as("nowhere", "user-3", "", 4)),
		s.told(ctx, newRoom("a", chat.Public), isNow("a", "user-1", chat.Regular), isNow("a", "user-2", chat.Reader), isNow("nowhere", "user-3", chat.Regular)),
	)
}

func roomRecorderMany(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	if err != nil {
		return err
	}
	var members []chat.Membership
	want := map[string]bool{}
	for i := range 110 {
		m := as(fmt.Sprintf("room %d", i%3), user.ID(fmt.Sprintf("user-%03d", i)), "", i)
		members = append(members, m)
		want[isNow(m.Room, m.UserID, chat.Regular)] = true
	}
	return then(s.add(ctx, members...)(), func() error {
		events, err := p.Outbox.Pending(ctx, 1000)
		for _, e := range events {
			if !want[e.Type] {
				return fmt.Errorf("%s is told, and not again", e.Type)
			}
			delete(want, e.Type)
		}
		return during("Pending", then(err, func() error { return same(len(want), 0) }))
	})
}

func roomRecorderShut(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err,
		s.create(ctx, ofKind(chat.Private, "a", 1), as("a", "user-1", chat.Owner, 1)), s.add(ctx, as("b", "user-1", "", 2)),
		s.add(ctx, as("a", "user-1", "", 3), as("a", "user-2", "", 3), as("b", "user-1", "", 3), as("b", "user-2", "", 3), as("b", "user-2", "", 4)),
		s.told(ctx, newRoom("a", chat.Private), isNow("a", "user-1", chat.Owner), isNow("b", "user-1", chat.Regular), isNow("b", "user-2", chat.Regular)),
	)
}

func roomRecorderLeaves(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.ensure(ctx, room("a", 1)), s.add(ctx, as("a", "user-1", "", 2)),
		s.remove(ctx, "a", "user-1"), s.remove(ctx, "a", "user-1"), s.remove(ctx, "a", "user-2"), s.remove(ctx, "nowhere", "user-1"),
		s.told(ctx, newRoom("a", chat.Public), isNow("a", "user-1", chat.Regular), isNow("a", "user-1", "")),
		func() error { return wantMember(ctx, s.members, "a", "user-1", false) },
	)
}

func roomRecorderLeavesNowhere(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.add(ctx, as("nowhere", "user-1", "", 2)), s.remove(ctx, "nowhere", "user-1"), s.remove(ctx, "nowhere", "user-1"),
		s.told(ctx, isNow("nowhere", "user-1", chat.Regular), isNow("nowhere", "user-1", "")),
		func() error { return wantMember(ctx, s.members, "nowhere", "user-1", false) },
	)
}

func roomRecorderRoles(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.create(ctx, ofKind(chat.Private, "a", 1), as("a", "user-1", chat.Owner, 1)),
		s.change(ctx, "a", "user-2", chat.Reader, 2), s.change(ctx, "a", "user-2", chat.Moderator, 3), s.change(ctx, "a", "user-2", "", 4), s.change(ctx, "a", "user-2", chat.Regular, 5),
		s.told(ctx, newRoom("a", chat.Private), isNow("a", "user-1", chat.Owner), isNow("a", "user-2", chat.Reader), isNow("a", "user-2", chat.Moderator), isNow("a", "user-2", ""),
			isNow("a", "user-2", chat.Regular)),
	)
}

func roomRecorderRefuses(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	refused := func(room string, want error) func() error {
		return func() error {
			_, _, err := s.roles.Change(ctx, gives(room, "user-2", chat.Reader, 2), func(chat.Room, chat.Role, chat.Role, int) error { return errRefused })
			return wantIs("Change", err, want)
		}
	}
	return then(err, s.create(ctx, room("a", 1), as("a", "user-1", chat.Owner, 1)),
		refused("a", errRefused), refused("nowhere", chat.ErrRoomNotFound), s.change(ctx, "a", "user-1", chat.Owner, 3), s.change(ctx, "a", "user-3", "", 4),
		s.told(ctx, newRoom("a", chat.Public), isNow("a", "user-1", chat.Owner)),
	)
}

func roomRecorderDeclines(ctx context.Context, p RecordedRooms) error {
	every := everyRoom()
	s, err := p.recording(chat.RoomRecord{
		Room: func(before, after chat.Room) (event.Event, bool) {
			e, _ := every.Room(before, after)
			return e, after.Title != ""
		},
		Membership: func(m chat.Membership) (event.Event, bool) {
			e, _ := every.Membership(m)
			return e, m.Role == chat.Reader
		},
	})
	return then(err, s.create(ctx, room("a", 1), as("a", "user-1", chat.Owner, 1), as("a", "user-2", chat.Reader, 1)),
		func() error {
			_, err := s.rooms.Update(ctx, "a", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "one"; return nil })
			return during("Update", err)
		},
		s.add(ctx, as("a", "user-3", chat.Reader, 2), as("a", "user-4", "", 2)), s.change(ctx, "a", "user-1", chat.Reader, 3), s.remove(ctx, "a", "user-1"),
		s.told(ctx, isNow("a", "user-2", chat.Reader), `a: a "" to public "one" deleted false`, isNow("a", "user-3", chat.Reader), isNow("a", "user-1", chat.Reader)),
	)
}

func roomRecorderSilent(ctx context.Context, p RecordedRooms) error {
	s, err := p.recording(chat.RoomRecord{})
	return then(err, s.ensure(ctx, room("a", 1)), s.create(ctx, room("b", 1), as("b", "user-1", chat.Owner, 1)), s.add(ctx, as("a", "user-3", "", 2)),
		s.change(ctx, "a", "user-1", chat.Reader, 3), s.remove(ctx, "a", "user-1"), s.told(ctx))
}

func roomRecorderNothing(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	fails := func(do func() error) func() error {
		return func() error {
			if do() == nil {
				return errors.New("there was no error although the context had ended")
			}
			return nil
		}
	}
	return then(err, s.ensure(ctx, room("a", 1)), s.add(ctx, as("a", "user-1", "", 2)),
		fails(s.ensure(gone, room("b", 1))), fails(s.create(gone, room("c", 1), as("c", "user-1", "", 1))), fails(s.add(gone, as("a", "user-2", "", 2))),
		fails(s.remove(gone, "a", "user-1")), fails(s.change(gone, "a", "user-1", chat.Reader, 3)),
		func() error { return wantMember(ctx, s.members, "a", "user-1", true) },
		func() error { return wantMember(ctx, s.members, "a", "user-2", false) },
		s.told(ctx, newRoom("a", chat.Public), isNow("a", "user-1", chat.Regular)),
	)
}

func roomRecorderOrder(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	if err != nil {
		return err
	}
	const writers, each = 4, 6
	if err := s.ensure(ctx, room("a", 1))(); err != nil {
		return err
	}
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		id := user.ID(fmt.Sprintf("user-%d", w))
		wg.Go(func() {
			for i := range each {
				errs[w] = first(
					s.add(ctx, as("a", id, "", i)), s.change(ctx, "a", id, chat.Reader, i), s.change(ctx, "a", id, chat.Moderator, i), s.remove(ctx, "a", id),
					func() error {
						_, err := s.rooms.Update(ctx, "a", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title += "x"; return nil })
						return during("Update", err)
					},
				)
				if errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	events, err := p.Outbox.Pending(ctx, 1000)
	if err != nil {
		return during("Pending", err)
	}
	got := map[string][]string{}
	for _, e := range events {
		of, what, _ := strings.Cut(strings.TrimPrefix(e.Type, "a: "), " ")
		got[of] = append(got[of], what)
	}
	for w := range writers {
		var want []string
		for range each {
			want = append(want, `is "member"`, `is "reader"`, `is "moderator"`, `is ""`)
		}
		if err := same(got[fmt.Sprintf("user-%d", w)], want); err != nil {
			return err
		}
	}
	title, want := "", []string{}
	for range writers * each {
		want = append(want, fmt.Sprintf("%q to public %q deleted false", title, title+"x"))
		title += "x"
	}
	return same(got["a"], want)
}

// roomRecorderStays leaves, by each way that there is, before anything was published.
func roomRecorderStays(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.ensure(ctx, room("a", 1)), s.add(ctx, as("a", "user-1", "", 2), as("a", "user-2", "", 2)),
		s.change(ctx, "a", "user-1", chat.Owner, 3), s.change(ctx, "a", "user-1", "", 4), s.remove(ctx, "a", "user-2"),
		s.told(ctx, newRoom("a", chat.Public), isNow("a", "user-1", chat.Regular), isNow("a", "user-2", chat.Regular), isNow("a", "user-1", chat.Owner), isNow("a", "user-1", ""),
			isNow("a", "user-2", "")),
		func() error { return wantMember(ctx, s.members, "a", "user-1", false) },
		func() error { return wantMember(ctx, s.members, "a", "user-2", false) },
		func() error {
			all, err := s.roles.List(ctx, "a", "", 10)
			return during("List", then(err, func() error { return same(len(all), 0) }))
		},
	)
}

// roomRecorderDropped removes a room of which nothing was published yet.
func roomRecorderDropped(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	want := []string{newRoom("a", chat.Public), isNow("a", "user-1", chat.Owner), isNow("a", "user-2", chat.Regular), `a: a "" to public "" deleted true`}
	return then(err, s.create(ctx, room("a", 1), as("a", "user-1", chat.Owner, 1)), s.add(ctx, as("a", "user-2", "", 2)),
		func() error {
			_, err := s.rooms.Update(ctx, "a", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.DeletedAt = at(9); return nil })
			return during("Update", err)
		},
		func() error {
			for left := true; left; {
				var err error
				if left, err = p.Pruner.Drop(ctx, "a", 100); err != nil {
					return during("Drop", err)
				}
			}
			return nil
		},
		s.told(ctx, want...),
		s.create(ctx, room("a", 10), as("a", "user-2", chat.Owner, 10)),
		s.told(ctx, append(want, newRoom("a", chat.Public), isNow("a", "user-2", chat.Owner))...),
	)
}

func roomRecorderBefore(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	return then(err, s.add(ctx, as("a", "user-1", "", 1)), s.create(ctx, room("a", 2), as("a", "user-1", chat.Owner, 2), as("a", "user-2", chat.Reader, 2)),
		s.told(ctx, isNow("a", "user-1", chat.Regular), newRoom("a", chat.Public), isNow("a", "user-1", chat.Owner), isNow("a", "user-2", chat.Reader)))
}

func roomRecorderAgain(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	var want []string
	for i := range 5 {
		err = then(err, s.add(ctx, as("a", "user-1", "", i)), s.add(ctx, as("a", "user-1", "", i)), s.remove(ctx, "a", "user-1"))
		want = append(want, isNow("a", "user-1", chat.Regular), isNow("a", "user-1", ""))
	}
	return then(err, s.told(ctx, want...))
}

// roomRecorderDuel lets two owners demote each other: the one who was refused is told of by nobody.
func roomRecorderDuel(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	var want []string
	for round := range 5 {
		name := fmt.Sprintf("room-%d", round)
		err = then(err, s.create(ctx, room(name, 1), as(name, "user-1", chat.Owner, 1), as(name, "user-2", chat.Owner, 1)), func() error {
			changed := make([]string, 2)
			errs := make([]error, 2)
			var wg sync.WaitGroup
			for i, id := range []user.ID{"user-1", "user-2"} {
				wg.Go(func() {
					_, _, err := s.roles.Change(ctx, gives(name, id, chat.Regular, 2), func(_ chat.Room, _, _ chat.Role, owners int) error {
						if owners < 2 {
							return errRefused
						}
						return nil
					})
					if err == nil {
						changed[i] = isNow(name, id, chat.Regular)
					} else if !errors.Is(err, errRefused) {
						errs[i] = err
					}
				})
			}
			wg.Wait()
			want = append(want, newRoom(name, chat.Public), isNow(name, "user-1", chat.Owner), isNow(name, "user-2", chat.Owner), changed[0]+changed[1])
			return during("Change", errors.Join(errs...))
		})
	}
	return then(err, func() error { return s.wantTold(ctx, want...) })
}

// roomRecorderPublished empties the outbox, between changes and behind them.
func roomRecorderPublished(ctx context.Context, p RecordedRooms) error {
	s, err := p.all()
	publish := func() error {
		events, err := p.Outbox.Pending(ctx, 1000)
		if err != nil {
			return during("Pending", err)
		}
		for _, e := range events {
			if err := p.Outbox.Published(ctx, e.ID); err != nil {
				return during("Published", err)
			}
		}
		return nil
	}
	return then(err, s.create(ctx, room("a", 1), as("a", "user-1", chat.Owner, 1)), s.add(ctx, as("a", "user-2", "", 2)), publish, s.told(ctx),
		s.change(ctx, "a", "user-2", chat.Reader, 3), s.add(ctx, as("a", "user-3", "", 3)), s.told(ctx, isNow("a", "user-2", chat.Reader), isNow("a", "user-3", chat.Regular)),
		s.remove(ctx, "a", "user-3"), publish, s.told(ctx),
		func() error {
			all, err := s.roles.List(ctx, "a", "", 10)
			return during("List", then(err, func() error {
				return same(all, []chat.Membership{as("a", "user-1", chat.Owner, 1), as("a", "user-2", chat.Reader, 2)})
			}))
		},
	)
}
