package contract_test

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

func openRecordedRooms() contract.RecordedRooms {
	s := memory.NewStore()
	return contract.RecordedRooms{Rooms: s.Rooms, Members: s.Members, Roles: s.Roles, Pruner: s.Pruner, Outbox: s.Outbox}
}

// roomRecorder is one that changes what it is to record, or what its store does.
type roomRecorder[S any] struct {
	chat.RoomRecorder[S]
	record func(record chat.RoomRecord) chat.RoomRecord
	store  func(s S) S
}

func (r roomRecorder[S]) Recording(record chat.RoomRecord) (S, error) {
	if r.record != nil {
		record = r.record(record)
	}
	s, err := r.RoomRecorder.Recording(record)
	if err == nil && r.store != nil {
		s = r.store(s)
	}
	return s, err
}

func roomRecorderFaults() []broken[contract.RecordedRooms] {
	type port = contract.RecordedRooms
	// records changes what all stores record.
	records := func(f func(record chat.RoomRecord) chat.RoomRecord) func(port) port {
		return func(p port) port {
			p.Rooms = roomRecorder[chat.Rooms]{RoomRecorder: p.Rooms, record: f}
			p.Members = roomRecorder[chat.Members]{RoomRecorder: p.Members, record: f}
			p.Roles = roomRecorder[chat.Roles]{RoomRecorder: p.Roles, record: f}
			return p
		}
	}
	ofMemberships := func(f func(m chat.Membership) (chat.Membership, bool)) func(port) port {
		return records(func(record chat.RoomRecord) chat.RoomRecord {
			before := record.Membership
			record.Membership = func(m chat.Membership) (event.Event, bool) {
				m, ok := f(m)
				e, told := before(m)
				return e, ok && told
			}
			return record
		})
	}
	ofRooms := func(f func(s chat.Rooms) rooms) func(port) port {
		return func(p port) port {
			p.Rooms = roomRecorder[chat.Rooms]{RoomRecorder: p.Rooms, store: func(s chat.Rooms) chat.Rooms { return f(s) }}
			return p
		}
	}
	ofMembers := func(f func(p port, s chat.Members) members) func(port) port {
		return func(p port) port {
			before := p
			p.Members = roomRecorder[chat.Members]{RoomRecorder: p.Members, store: func(s chat.Members) chat.Members { return f(before, s) }}
			return p
		}
	}
	ofRoles := func(f func(s chat.Roles) roles) func(port) port {
		return func(p port) port {
			p.Roles = roomRecorder[chat.Roles]{RoomRecorder: p.Roles, store: func(s chat.Roles) chat.Roles { return f(s) }}
			return p
		}
	}
	anything := func(chat.Room, chat.Role, chat.Role, int) error { return nil }
	// forget takes the events away of which is says so.
	forget := func(ctx context.Context, p port, is func(e event.Event) bool) {
		events, _ := p.Outbox.Pending(ctx, 1000)
		for _, e := range events {
			if is(e) {
				_ = p.Outbox.Published(ctx, e.ID)
			}
		}
	}
	return []broken[port]{
		{"rooms have no events", "a room that somebody joins has its event", records(func(record chat.RoomRecord) chat.RoomRecord { record.Room = nil; return record })},
		{"a room that is there is told again", "a room that is there has none", ofRooms(func(s chat.Rooms) rooms {
			return rooms{Rooms: s, ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				if _, err := s.ByName(ctx, r.Name); err == nil {
					return s.Update(ctx, r.Name, chat.By{}, func(_ *chat.Room, _ chat.Role) error { return nil })
				}
				return s.Ensure(ctx, r)
			}}
		})},
		{"a record sees the room twice as it is now", "what is made of a room has its event", records(func(record chat.RoomRecord) chat.RoomRecord {
			before := record.Room
			record.Room = func(_, after chat.Room) (event.Event, bool) { return before(after, after) }
			return record
		})},
		{"what is refused of a room is told", "what is made of a room has its event", ofRooms(func(s chat.Rooms) rooms {
			return rooms{Rooms: s, update: func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				r, err := s.Update(ctx, name, by, change)
				if err != nil {
					_, _ = s.Update(ctx, name, by, func(_ *chat.Room, _ chat.Role) error { return nil })
				}
				return r, err
			}}
		})},
		{"members of a new room are told in any order", "a created room and its members have their events", ofRoles(func(s chat.Roles) roles {
			return roles{Roles: s, create: func(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
				members = slices.Clone(members)
				slices.Reverse(members)
				return s.Create(ctx, r, members...)
			}}
		})},
		{"members of a taken name are told", "a taken name has no event", ofRoles(func(s chat.Roles) roles {
			return roles{Roles: s, create: func(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
				stored, err := s.Create(ctx, r, members...)
				if errors.Is(err, chat.ErrRoomTaken) {
					for _, m := range members {
						_, _, _ = s.Change(ctx, chat.RoleChange{Room: r.Name, User: m.UserID, Role: m.Role}, anything)
					}
				}
				return stored, err
			}}
		})},
		{"whoever joins is told of as a regular member", "who joins has an event", ofMemberships(func(m chat.Membership) (chat.Membership, bool) {
			if m.Role != "" {
				m.Role = chat.Regular
			}
			return m, true
		})},
		{"only the first 100 have events", "many who join have their events", records(func(record chat.RoomRecord) chat.RoomRecord {
			before, n := record.Membership, 0
			record.Membership = func(m chat.Membership) (event.Event, bool) {
				n++
				e, ok := before(m)
				return e, ok && n <= 100
			}
			return record
		})},
		{"a membership that is there begins again", "whoever is there, and whom the room does not let in, has none", ofMembers(func(_ port, s chat.Members) members {
			return members{Members: s, add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				for _, m := range all {
					if m.Room != "a" {
						_ = s.Remove(ctx, m.Room, m.UserID)
					}
				}
				return s.Add(ctx, all...)
			}}
		})},
		{"nobody is told of who leaves", "who leaves has an event", ofMemberships(func(m chat.Membership) (chat.Membership, bool) { return m, m.Role != "" })},
		{"whoever was no member leaves as well", "who leaves has an event", ofMembers(func(_ port, s chat.Members) members {
			return members{Members: s, remove: func(ctx context.Context, room string, id user.ID) error {
				if _, err := s.Add(ctx, chat.Membership{Room: room, UserID: id}); err != nil {
					return err
				}
				return s.Remove(ctx, room, id)
			}}
		})},
		{"who leaves is looked for in stored rooms alone", "who leaves a room that is not stored has an event", ofMembers(func(p port, s chat.Members) members {
			return members{Members: s, remove: func(ctx context.Context, room string, id user.ID) error {
				if _, err := p.Rooms.(chat.Rooms).ByName(ctx, room); err != nil {
					return p.Members.(chat.Members).Remove(ctx, room, id)
				}
				return s.Remove(ctx, room, id)
			}}
		})},
		{"a role that ends is told as that of a regular member", "a role has its event", ofMemberships(func(m chat.Membership) (chat.Membership, bool) {
			if m.Role == "" {
				m.Role = chat.Regular
			}
			return m, true
		})},
		{"a role that stays is told again", "what is refused, and what changes nothing, has none", ofRoles(func(s chat.Roles) roles {
			return roles{Roles: s, change: func(ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				before, after, err = s.Change(ctx, c, may)
				if err == nil && before.Role == after.Role && c.Role != "" {
					other := c
					other.Role = chat.Reader
					_, _, _ = s.Change(ctx, other, anything)
					_, _, err = s.Change(ctx, c, anything)
				}
				return before, after, err
			}}
		})},
		{"what is declined is put in all the same", "a record may decline", records(func(record chat.RoomRecord) chat.RoomRecord {
			before := record.Membership
			record.Membership = func(m chat.Membership) (event.Event, bool) {
				e, _ := before(m)
				return e, true
			}
			return record
		})},
		{"a record of nothing makes something", "a record may tell of nothing", records(func(record chat.RoomRecord) chat.RoomRecord {
			if record.Room == nil {
				record.Room = func(_, r chat.Room) (event.Event, bool) { return event.Event{ID: r.Name, Type: r.Name}, true }
			}
			return record
		})},
		{"a call whose context had ended is told", "what is not stored has no event", ofMembers(func(_ port, s chat.Members) members {
			return members{Members: s, remove: func(ctx context.Context, room string, id user.ID) error {
				return errors.Join(s.Remove(context.WithoutCancel(ctx), room, id), ctx.Err())
			}}
		})},
		{"events are turned round", "events are in the order of what happens", func(p port) port {
			under := p.Outbox
			p.Outbox = outbox{Outbox: under, pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				events, err := under.Pending(ctx, limit)
				slices.Reverse(events)
				return events, err
			}}
			return p
		}},
		{"a membership takes its events along", "a member's events stay when they leave", ofMembers(func(p port, s chat.Members) members {
			return members{Members: s, remove: func(ctx context.Context, room string, id user.ID) error {
				forget(ctx, p, func(e event.Event) bool { return strings.Contains(e.Type, string(id)+" ") })
				return s.Remove(ctx, room, id)
			}}
		})},
		{"a room takes its events along", "events stay when the room is removed", func(p port) port {
			under := p
			p.Pruner = pruner{Pruner: under.Pruner, drop: func(ctx context.Context, room string, limit int) (bool, error) {
				forget(ctx, under, func(e event.Event) bool { return e.Key == room })
				return under.Pruner.Drop(ctx, room, limit)
			}}
			return p
		}},
		{"only members who are new to a new room are told of", "whoever was there before the room is told of twice", records(func() func(record chat.RoomRecord) chat.RoomRecord {
			known := map[user.ID]bool{}
			return func(record chat.RoomRecord) chat.RoomRecord {
				before := record.Membership
				record.Membership = func(m chat.Membership) (event.Event, bool) {
					again := known[m.UserID]
					known[m.UserID] = true
					e, ok := before(m)
					return e, ok && !again
				}
				return record
			}
		}())},
		{"a member is told of once", "a member comes again and again", records(func(record chat.RoomRecord) chat.RoomRecord {
			before, known := record.Membership, map[chat.Membership]bool{}
			record.Membership = func(m chat.Membership) (event.Event, bool) {
				is := chat.Membership{Room: m.Room, UserID: m.UserID, Role: m.Role}
				again := known[is]
				known[is] = true
				e, ok := before(m)
				return e, ok && !again
			}
			return record
		})},
		{"there are always two owners", "owners who are there at once have their events", ofRoles(func(s chat.Roles) roles {
			return roles{Roles: s, change: func(ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
				return s.Change(ctx, c, func(r chat.Room, by, of chat.Role, _ int) error { return may(r, by, of, 2) })
			}}
		})},
		{"what is published comes again", "events are published once", func(p port) port {
			p.Outbox = outbox{Outbox: p.Outbox, published: func(context.Context, ...string) error { return nil }}
			return p
		}},
	}
}
