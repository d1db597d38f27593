package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
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

// updateWant updates a room, and wants this to be stored.
func updateWant(ctx context.Context, p chat.Rooms, want chat.Room, change func(r *chat.Room)) error {
	got, err := p.Update(ctx, want.Name, chat.By{}, func(r *chat.Room, _ chat.Role) error { change(r); return nil })
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
		_, err := p.Update(ctx, "nowhere", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Name, r.Title = "nowhere", "title"; return nil })
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
			_, err := p.Update(ctx, full.Name, chat.By{}, func(r *chat.Room, _ chat.Role) error { *r = room("other", 3); return errRefused })
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
					got, err := p.Update(ctx, name, chat.By{}, func(r *chat.Room, _ chat.Role) error {
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
			if _, err := p.Update(ended(ctx), "room", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "late"; return nil }); err == nil {
				return errors.New("an Update succeeded although its context had ended")
			}
			return nil
		},
		func() error { return updateWant(ctx, p, room("room", 1), func(r *chat.Room) { r.Title = "" }) },
	)
}
