package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Rooms checks chat.Rooms.
func Rooms() []Case[chat.Rooms] {
	return suite("Rooms", append([]promise[chat.Rooms]{
		{"an ensured room is read back", "Ensure stores r, with every field as it is, unless a room of that name exists. Every time is UTC, to the microsecond.", roomsEnsure},
		{"every field of a room is kept", "Ensure stores r, with every field as it is, unless a room of that name exists. Title and Topic are what people read of the room: at most MaxTitle and MaxTopic characters. Data is the application's: a JSON object in the form that CompactData returns, or empty.", roomsFields},
		{"a room without a kind is public", "Empty is Public where it is to be stored; stores return it always.", roomsKind},
		{"times and retentions of a room are whole", "Every time is UTC, to the microsecond. Retention is how long messages are kept, in whole seconds: a store drops the rest.", roomsWhole},
		{"the first room stays", "Ensure stores r, with every field as it is, unless a room of that name exists. Ensure returns the stored room.", roomsFirst},
		{"an unknown room is not found", "ByName returns the room, or ErrRoomNotFound.", roomsAbsent},
		{"names are exact", "Two names are the same only if they have the same bytes.", roomsExact},
		{"one of several wins", "Of several concurrent calls with one name, one wins and all return its room.", roomsRace},
		{"rooms are listed by the bytes of the name", "List returns rooms whose name is greater than after, ascending by the bytes of the name.", roomsList},
		{"rooms are listed page by page", "List returns at most limit rooms: none if limit is below 1.", roomsPages},
	}, updatesOfRooms()...))
}

func room(name string, n int) chat.Room {
	return chat.Room{Name: name, Kind: chat.Public, CreatedBy: user.ID(fmt.Sprintf("user-%d", n)), CreatedAt: at(n)}
}

// ensure wants want to be what is stored.
func ensure(ctx context.Context, p chat.Rooms, r, want chat.Room) error {
	got, err := p.Ensure(ctx, r)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("Ensure(%+q)", r.Name), err)
}

func wantRoom(ctx context.Context, p chat.Rooms, want chat.Room) error {
	got, err := p.ByName(ctx, want.Name)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("ByName(%+q)", want.Name), err)
}

func wantRooms(ctx context.Context, p chat.Rooms, after string, limit int, want ...string) error {
	rooms, err := p.List(ctx, after, limit)
	if err != nil {
		return during("List", err)
	}
	var got []string
	for _, r := range rooms {
		got = append(got, r.Name)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("List(%+q, %d) returned %+q, want %+q", after, limit, got, want)
	}
	return nil
}

func roomsEnsure(ctx context.Context, p chat.Rooms) error {
	longest := room(long(chat.MaxRoomName), 2)
	return first(
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		func() error { return ensure(ctx, p, longest, longest) },
		func() error { return wantRoom(ctx, p, room("room", 1)) },
		func() error { return wantRoom(ctx, p, longest) },
	)
}

// described are rooms of every kind, with all that a room may have.
func described() []chat.Room {
	plain := room("plain", 1)
	full := room("full", 2)
	full.Kind, full.Title, full.Topic = chat.Private, "Über \"uns\" 👋🏽 100 %", "'; DROP TABLE rooms; -- \\ ${x} e\u0301 \u00e9 房间"
	full.Data, full.Retention, full.DeletedAt = `{"b":1,"a":[true,null,{"é":"\u00e9\ud83d\ude00👋"}],"a":1.50e+03,"":""}`, 720*time.Hour, at(3)
	longest := room(long(chat.MaxRoomName), 4)
	longest.Kind, longest.Title, longest.Topic, longest.Data, longest.Retention = chat.Direct, long(chat.MaxTitle), long(chat.MaxTopic), fields("room")[5].Data, chat.MaxRetention
	deep := room("deep", 5)
	deep.CreatedBy, deep.Title, deep.Data, deep.Retention = user.ID(long(chat.MaxAuthorID)), "null", fields("room")[6].Data, time.Second
	return []chat.Room{plain, full, longest, deep}
}

func roomsFields(ctx context.Context, p chat.Rooms) error {
	all := described()
	for _, r := range all {
		if data, err := chat.CompactData(r.Data); err != nil || data != r.Data {
			return fmt.Errorf("the case is wrong: %q: %w", data, orNone(err))
		}
		if err := ensure(ctx, p, r, r); err != nil {
			return err
		}
	}
	for _, r := range all {
		other := room(r.Name, 9)
		other.Title, other.Topic, other.Data = "other", "other", `{"other":true}`
		if err := first(
			func() error { return wantRoom(ctx, p, r) },
			func() error { return ensure(ctx, p, other, r) },
		); err != nil {
			return err
		}
	}
	got, err := p.List(ctx, "", 10)
	slices.SortFunc(all, func(a, b chat.Room) int { return strings.Compare(a.Name, b.Name) })
	return during("List", then(err, func() error { return same(got, all) }))
}

func roomsKind(ctx context.Context, p chat.Rooms) error {
	given := room("room", 1)
	given.Kind = ""
	return first(
		func() error { return ensure(ctx, p, given, room("room", 1)) },
		func() error { return wantRoom(ctx, p, room("room", 1)) },
		func() error { return ensure(ctx, p, given, room("room", 1)) },
		func() error {
			got, err := p.List(ctx, "", 10)
			return during("List", then(err, func() error { return same(got, []chat.Room{room("room", 1)}) }))
		},
	)
}

func roomsWhole(ctx context.Context, p chat.Rooms) error {
	east := time.FixedZone("east", 5*3600)
	given := room("room", 1)
	given.CreatedAt, given.DeletedAt, given.Retention = at(1).In(east).Add(700*time.Nanosecond), at(9).In(east).Add(999*time.Nanosecond), 90*time.Second+999*time.Millisecond
	want := room("room", 1)
	want.DeletedAt, want.Retention = at(9), 90*time.Second
	there := room("there", 2)
	there.DeletedAt = time.Time{}.In(east)
	return first(
		func() error { return ensure(ctx, p, given, want) },
		func() error { return wantRoom(ctx, p, want) },
		func() error { return ensure(ctx, p, there, room("there", 2)) },
		func() error { return wantRoom(ctx, p, room("there", 2)) },
		func() error {
			got, err := p.List(ctx, "room", 1)
			return during("List", then(err, func() error { return same(got, []chat.Room{room("there", 2)}) }))
		},
	)
}

func roomsFirst(ctx context.Context, p chat.Rooms) error {
	return first(
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		func() error { return ensure(ctx, p, room("room", 2), room("room", 1)) },
		func() error { return wantRoom(ctx, p, room("room", 1)) },
		func() error { return wantRooms(ctx, p, "", 10, "room") },
	)
}

func roomsAbsent(ctx context.Context, p chat.Rooms) error {
	unknown := func() error {
		return wantIs("ByName of an unknown room", second(p.ByName(ctx, "nowhere")), chat.ErrRoomNotFound)
	}
	return first(
		unknown,
		func() error { return wantRooms(ctx, p, "", 10) },
		func() error { return ensure(ctx, p, room("room", 1), room("room", 1)) },
		unknown,
	)
}

func roomsExact(ctx context.Context, p chat.Rooms) error {
	for n, name := range names {
		if err := ensure(ctx, p, room(name, n), room(name, n)); err != nil {
			return err
		}
	}
	for n, name := range names {
		if err := wantRoom(ctx, p, room(name, n)); err != nil {
			return err
		}
	}
	return nil
}

func roomsRace(ctx context.Context, p chat.Rooms) error {
	const n = 12
	got := make([]chat.Room, n)
	err := allTogether(n, func(i int) (err error) {
		got[i], err = p.Ensure(ctx, room("room", i))
		return during("Ensure", err)
	})
	if err != nil {
		return err
	}
	for i := range got {
		if err := same(got[i], got[0]); err != nil {
			return fmt.Errorf("two concurrent calls of Ensure returned different rooms: %w", err)
		}
	}
	return first(
		func() error { return wantRoom(ctx, p, got[0]) },
		func() error { return wantRooms(ctx, p, "", 10, "room") },
	)
}

func roomsList(ctx context.Context, p chat.Rooms) error {
	for n, name := range names {
		if err := ensure(ctx, p, room(name, n), room(name, n)); err != nil {
			return err
		}
	}
	want := slices.Sorted(slices.Values(names))
	return wantRooms(ctx, p, "", 1000, want...)
}

func roomsPages(ctx context.Context, p chat.Rooms) error {
	for n, name := range names {
		if err := ensure(ctx, p, room(name, n), room(name, n)); err != nil {
			return err
		}
	}
	sorted := slices.Sorted(slices.Values(names))
	var all []string
	for after := ""; len(all) <= len(sorted); {
		page, err := p.List(ctx, after, 5)
		if err != nil {
			return during("List", err)
		}
		if len(page) > 5 {
			return fmt.Errorf("with limit 5 there are %d rooms", len(page))
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			all = append(all, r.Name)
		}
		after = all[len(all)-1]
	}
	between := sorted[7] + "\x01" // no room, but a place
	rest, _ := slices.BinarySearch(sorted, between)
	return first(
		func() error { return during("all pages", same(all, sorted)) },
		func() error { return wantRooms(ctx, p, between, 2, sorted[rest:rest+2]...) },
		func() error { return wantRooms(ctx, p, "\U0010ffff", 5) },
		func() error { return wantRooms(ctx, p, "", 0) },
		func() error { return wantRooms(ctx, p, "", -1) },
	)
}
