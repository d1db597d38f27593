package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// RecentCache checks chat.RecentCache. A cache may forget, so most cases accept less than was
// put in; none accepts anything else, out of order, or with a hole.
func RecentCache() []Case[chat.RecentCache] {
	return suite("RecentCache", append([]promise[chat.RecentCache]{
		{"a room in use is held", "Get returns what is held for room, and says whether the room is held. Messages are the last ones, ascending by sequence and contiguous. Every time is UTC, to the microsecond.", cacheHolds},
		{"an unknown room is not held", "Get returns what is held for room, and says whether the room is held. A room that is not held has no messages.", cacheUnknown},
		{"a room without messages is held", "A room that is held and has none has none in the store either, as far as the cache was told. " +
			"No messages say that the room has none, unless r.First is above 1: a room that was not held is held then.", cacheEmpty},
		{"adding ends that a room has none", "An older message never replaces a newer one.", cacheEmptyAdds},
		{"filling ends that a room has none", "Messages that connect to nothing take the place of a room held without messages.", cacheEmptyFills},
		{"adding extends", "A room that holds messages up to the one just before is extended.", cacheExtends},
		{"adding what overlaps takes what is newer", "A room that holds some of them takes what is newer.", cacheOverlaps},
		{"adding after a hole replaces", "In any other room that is behind, the added messages replace what was held.", cacheReplaces},
		{"an older message never replaces a newer one", "An older message never replaces a newer one.", cacheOlder},
		{"one call adds to several rooms", "Add puts messages that were just stored into their rooms.", cacheRooms},
		{"rooms are exact", "Two rooms are the same only if they have the same bytes.", cacheExact},
		{"filling an empty room holds it", "Fill gives the cache what was read from the store, messages of one room, ascending and contiguous; r.Rev was read before them.", cacheFills},
		{"filling adds what stands before", "Where r.Rev is the room's, Fill only adds what stands before what is held, or connects and follows.", cacheFillsBefore},
		{"filling adds what connects and follows", "Where r.Rev is the room's, Fill only adds what stands before what is held, or connects and follows.", cacheFillsAfter},
		{"filling leaves what is held", "What is held already stays then.", cacheFillStays},
		{"filling never makes a hole", "It never holds a hole: what it returns is contiguous.", cacheFillHole},
		{"many messages keep the last", "Get returns what is held for room, and says whether the room is held. Messages are the last ones, ascending by sequence and contiguous.", cacheMany},
		{"messages are held whole", "A message has every field as it was given.", cacheFields},
		{"readers never see a hole", "It never holds a hole: what it returns is contiguous. It may be called from many goroutines.", cacheRace},
		{"messages are copies", "Changing what was given or returned changes nothing held.", cacheCopies},
	}, append(changesOfCache(), firstsOfCache()...)...))
}

// wantTail wants the last of want, or at least not anything else: a cache may hold less, but
// what it holds is whole, and ends where want ends.
func wantTail(ctx context.Context, p chat.RecentCache, room string, want ...chat.Message) error {
	got, held, err := messagesOf(p.Get(ctx, room))
	switch {
	case err != nil:
	case !held && len(got) > 0:
		err = fmt.Errorf("it returns %d messages of a room that it does not hold", len(got))
	case held && len(got) == 0 && len(want) > 0:
		err = errors.New("it holds that the room has no messages, which it has")
	case len(got) == 0 && len(want) > 0:
		err = errors.New("it holds nothing, though the room is in use")
	case len(got) > len(want):
		err = fmt.Errorf("it holds %d messages, from %d on, want %d", len(got), got[0].Seq, len(want))
	default:
		err = same(got, want[len(want)-len(got):])
	}
	return during(fmt.Sprintf("Get(%+q)", room), err)
}

// wantTailOf is wantTail of the messages with these numbers.
func wantTailOf(ctx context.Context, p chat.RecentCache, room string, from, to int) error {
	return wantTail(ctx, p, room, storedRange(room, from, to)...)
}

// messagesOf is what Get returned, without the Rev.
func messagesOf(r chat.Recent, held bool, err error) ([]chat.Message, bool, error) {
	return r.Messages, held, err
}

func add(ctx context.Context, p chat.RecentCache, room string, from, to int) error {
	return during(fmt.Sprintf("Add of %d to %d", from, to), p.Add(ctx, storedRange(room, from, to)...))
}

func refill(ctx context.Context, p chat.RecentCache, room string, from, to int) error {
	return during(fmt.Sprintf("Fill with %d to %d", from, to), p.Fill(ctx, room, chat.Recent{Messages: storedRange(room, from, to)}))
}

func cacheHolds(ctx context.Context, p chat.RecentCache) error {
	m := stored("room", 1)
	m.ClientID, m.Text, m.Author.Name = "client-1", long(chat.MaxText), long(user.MaxFullName)
	return first(
		func() error { return during("Add", p.Add(ctx, m)) },
		func() error { return wantTail(ctx, p, "room", m) },
		func() error { return add(ctx, p, "other", 4, 4) },
		func() error { return wantTailOf(ctx, p, "other", 4, 4) },
	)
}

func cacheFields(ctx context.Context, p chat.RecentCache) error {
	added, filled := fields("added"), fields("filled")
	return first(
		func() error { return during("Add", p.Add(ctx, added[:4]...)) },
		func() error { return during("Add", p.Add(ctx, added[4:]...)) },
		func() error { return wantTail(ctx, p, "added", added...) },
		func() error { return during("Fill", p.Fill(ctx, "filled", chat.Recent{Messages: filled})) },
		func() error { return wantTail(ctx, p, "filled", filled...) },
		func() error { return add(ctx, p, "filled", 8, 8) },
		func() error { return wantTail(ctx, p, "filled", append(filled, stored("filled", 8))...) },
	)
}

// wantNone wants no messages, of a room that is held or that is not.
func wantNone(ctx context.Context, p chat.RecentCache, room string, held bool) error {
	got, is, err := messagesOf(p.Get(ctx, room))
	switch {
	case err != nil:
	case len(got) > 0:
		err = fmt.Errorf("it holds %d messages, want none", len(got))
	case is && !held:
		err = errors.New("it holds that the room has no messages, which it was not told")
	case !is && held:
		err = errors.New("it does not hold the room, though it was told that it has no messages")
	}
	return during(fmt.Sprintf("Get(%+q)", room), err)
}

func fillEmpty(ctx context.Context, p chat.RecentCache, room string) error {
	return during("Fill with nothing", p.Fill(ctx, room, chat.Recent{}))
}

func cacheUnknown(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return during("Add of nothing", p.Add(ctx)) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return add(ctx, p, "other", 1, 1) },
		func() error { return fillEmpty(ctx, p, "empty") },
		func() error { return wantNone(ctx, p, "room", false) },
	)
}

func cacheEmpty(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return fillEmpty(ctx, p, "room") },
		func() error { return wantNone(ctx, p, "room", true) },
		func() error { return fillEmpty(ctx, p, "room") },
		func() error { return add(ctx, p, "other", 1, 1) },
		func() error { return wantNone(ctx, p, "room", true) },
	)
}

func cacheEmptyAdds(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return fillEmpty(ctx, p, "room") },
		func() error { return add(ctx, p, "room", 1, 2) },
		func() error { return wantTailOf(ctx, p, "room", 1, 2) },
		func() error { return wantHeld(ctx, p, "room", 2) },
		func() error { return fillEmpty(ctx, p, "room") },
		func() error { return wantTailOf(ctx, p, "room", 1, 2) },
		func() error { return add(ctx, p, "room", 3, 3) },
		func() error { return refill(ctx, p, "room", 2, 4) },
		func() error { return wantTailOf(ctx, p, "room", 1, 4) },
		func() error { return fillEmpty(ctx, p, "behind") },
		func() error { return add(ctx, p, "behind", 6, 7) },
		func() error { return wantTailOf(ctx, p, "behind", 6, 7) },
		func() error { return wantHeld(ctx, p, "behind", 2) },
	)
}

func cacheEmptyFills(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return fillEmpty(ctx, p, "room") },
		func() error { return refill(ctx, p, "room", 1, 3) },
		func() error { return wantTailOf(ctx, p, "room", 1, 3) },
		func() error { return wantHeld(ctx, p, "room", 3) },
		func() error { return fillEmpty(ctx, p, "behind") },
		func() error { return refill(ctx, p, "behind", 6, 9) },
		func() error { return wantTailOf(ctx, p, "behind", 6, 9) },
		func() error { return wantHeld(ctx, p, "behind", 4) },
	)
}

func cacheExtends(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 1) },
		func() error { return add(ctx, p, "room", 2, 2) },
		func() error { return add(ctx, p, "room", 3, 5) },
		func() error { return wantTailOf(ctx, p, "room", 1, 5) },
		func() error { return wantHeld(ctx, p, "room", 4) },
	)
}

// wantHeld wants at least n messages to be held: it was just added to, and nothing else goes on.
func wantHeld(ctx context.Context, p chat.RecentCache, room string, n int) error {
	got, _, err := messagesOf(p.Get(ctx, room))
	if err == nil && len(got) < n {
		err = fmt.Errorf("it holds %d messages of a room in use, want at least %d", len(got), n)
	}
	return during(fmt.Sprintf("Get(%+q)", room), err)
}

// changed are messages with another text.
func changed(messages []chat.Message) []chat.Message {
	for i := range messages {
		messages[i].Text = "changed"
	}
	return messages
}

func cacheOverlaps(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 4) },
		func() error { return add(ctx, p, "room", 3, 6) },
		func() error { return wantTailOf(ctx, p, "room", 1, 6) },
		func() error { return add(ctx, p, "room", 6, 6) },
		func() error { return add(ctx, p, "room", 5, 6) },
		func() error { return wantTailOf(ctx, p, "room", 1, 6) },
		func() error { return wantHeld(ctx, p, "room", 5) },
	)
}

func cacheReplaces(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 3) },
		func() error { return add(ctx, p, "room", 7, 8) },
		func() error { return wantTailOf(ctx, p, "room", 7, 8) },
		func() error { return add(ctx, p, "room", 9, 9) },
		func() error { return wantTailOf(ctx, p, "room", 7, 9) },
	)
}

func cacheOlder(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 7, 8) },
		func() error { return during("Add", p.Add(ctx, changed(storedRange("room", 7, 8))...)) },
		func() error { return add(ctx, p, "room", 2, 3) },
		func() error { return wantEnd(ctx, p, "room", 8) },
		func() error { return add(ctx, p, "room", 5, 6) },
		func() error { return wantEnd(ctx, p, "room", 8) },
		func() error { return add(ctx, p, "room", 9, 9) },
		func() error { return wantEnd(ctx, p, "room", 9) },
		func() error { return wantTailOf(ctx, p, "room", 5, 9) },
	)
}

// wantEnd wants contiguous messages up to the given one.
func wantEnd(ctx context.Context, p chat.RecentCache, room string, last uint64) error {
	got, _, err := messagesOf(p.Get(ctx, room))
	if err == nil && len(got) == 0 {
		err = errors.New("it holds nothing, though the room is in use")
	}
	if err == nil && got[len(got)-1].Seq != last {
		err = fmt.Errorf("it holds messages up to %d, want up to %d", got[len(got)-1].Seq, last)
	}
	return then(during(fmt.Sprintf("Get(%+q)", room), err), func() error { return contiguous(got) })
}

func contiguous(messages []chat.Message) error {
	for i := 1; i < len(messages); i++ {
		if messages[i].Seq != messages[i-1].Seq+1 {
			return fmt.Errorf("the message %d is followed by %d", messages[i-1].Seq, messages[i].Seq)
		}
	}
	return nil
}

func cacheRooms(ctx context.Context, p chat.RecentCache) error {
	var mixed []chat.Message
	for n := 3; n <= 5; n++ {
		mixed = append(mixed, stored("b", n+10), stored("a", n), stored("c", n+20))
	}
	return first(
		func() error { return add(ctx, p, "a", 1, 2) },
		func() error { return during("Add", p.Add(ctx, mixed...)) },
		func() error { return wantTailOf(ctx, p, "a", 1, 5) },
		func() error { return wantTailOf(ctx, p, "b", 13, 15) },
		func() error { return wantTailOf(ctx, p, "c", 23, 25) },
		func() error { return wantHeld(ctx, p, "b", 3) },
		func() error { return wantHeld(ctx, p, "c", 3) },
	)
}

func cacheExact(ctx context.Context, p chat.RecentCache) error {
	for _, pair := range [][]string{{"room", "Room", "ROOM"}, {"caf\u00e9", "cafe\u0301", "cafe"}, {"room.", "room\u00a0", "room x"}, {"a:b", "a", "b"}} {
		for i, name := range pair {
			if err := add(ctx, p, name, 10*i+1, 10*i+2); err != nil {
				return err
			}
		}
		for i, name := range pair {
			if err := wantTailOf(ctx, p, name, 10*i+1, 10*i+2); err != nil {
				return err
			}
		}
	}
	return nil
}

func cacheFills(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return refill(ctx, p, "room", 4, 7) },
		func() error { return wantTailOf(ctx, p, "room", 4, 7) },
		func() error { return wantHeld(ctx, p, "room", 4) },
		func() error { return wantTail(ctx, p, "other") },
		func() error { return add(ctx, p, "room", 8, 8) },
		func() error { return wantTailOf(ctx, p, "room", 4, 8) },
	)
}

func cacheFillsBefore(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 7, 8) },
		func() error { return refill(ctx, p, "room", 4, 6) },
		func() error { return wantTailOf(ctx, p, "room", 4, 8) },
		func() error { return wantHeld(ctx, p, "room", 5) },
		func() error { return refill(ctx, p, "room", 3, 7) },
		func() error { return wantTailOf(ctx, p, "room", 3, 8) },
		func() error { return wantHeld(ctx, p, "room", 6) },
	)
}

func cacheFillsAfter(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 3, 4) },
		func() error { return refill(ctx, p, "room", 5, 6) },
		func() error { return wantTailOf(ctx, p, "room", 3, 6) },
		func() error { return wantHeld(ctx, p, "room", 4) },
		func() error { return refill(ctx, p, "room", 5, 8) },
		func() error { return wantTailOf(ctx, p, "room", 3, 8) },
		func() error { return wantHeld(ctx, p, "room", 6) },
	)
}

func cacheFillStays(ctx context.Context, p chat.RecentCache) error {
	other := slices.Concat(storedRange("room", 2, 3), changed(storedRange("room", 4, 6)), storedRange("room", 7, 7))
	return first(
		func() error { return add(ctx, p, "room", 4, 6) },
		func() error {
			return during("Fill", p.Fill(ctx, "room", chat.Recent{Messages: changed(storedRange("room", 5, 5))}))
		},
		func() error { return wantTailOf(ctx, p, "room", 4, 6) },
		func() error { return during("Fill with nothing", p.Fill(ctx, "room", chat.Recent{})) },
		func() error { return wantTailOf(ctx, p, "room", 4, 6) },
		func() error { return during("Fill", p.Fill(ctx, "room", chat.Recent{Messages: other})) },
		func() error { return wantTailOf(ctx, p, "room", 2, 7) },
		func() error { return wantHeld(ctx, p, "room", 6) },
	)
}

func cacheFillHole(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 7, 8) },
		func() error { return refill(ctx, p, "room", 11, 12) },
		func() error { return wantTailOf(ctx, p, "room", 7, 8) },
		func() error { return refill(ctx, p, "room", 2, 4) },
		func() error { return wantTailOf(ctx, p, "room", 7, 8) },
	)
}

func cacheMany(ctx context.Context, p chat.RecentCache) error {
	for n := 1; n <= 120; n++ {
		if err := first(
			func() error { return add(ctx, p, "room", n, n) },
			func() error { return wantTailOf(ctx, p, "room", 1, n) },
		); err != nil {
			return err
		}
	}
	return first(
		func() error { return add(ctx, p, "big", 1, 500) },
		func() error { return wantTailOf(ctx, p, "big", 1, 500) },
		func() error { return refill(ctx, p, "filled", 1, 500) },
		func() error { return wantTailOf(ctx, p, "filled", 1, 500) },
	)
}

func cacheRace(ctx context.Context, p chat.RecentCache) error {
	const n, adders = 60, 4
	look := func() error {
		got, _, err := messagesOf(p.Get(ctx, "room"))
		return then(during("Get", err), func() error { return contiguous(got) })
	}
	return allTogether(adders+2, func(i int) error {
		for k := 1; k <= n; k++ {
			switch {
			case i < adders: // every one adds every message, in steps of its own
				if k%(i+1) != 0 && k != n {
					continue
				}
				if err := first(
					func() error { return add(ctx, p, "room", max(1, k-i), k) },
					func() error { return look() },
				); err != nil {
					return err
				}
			case i == adders:
				if err := refill(ctx, p, "room", max(1, k-5), k); err != nil {
					return err
				}
			default:
				if err := look(); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func cacheCopies(ctx context.Context, p chat.RecentCache) error {
	given := storedRange("room", 1, 3)
	if err := during("Add", p.Add(ctx, given...)); err != nil {
		return err
	}
	given[2].Text = "changed"
	filling := storedRange("filled", 1, 3)
	if err := during("Fill", p.Fill(ctx, "filled", chat.Recent{Messages: filling})); err != nil {
		return err
	}
	filling[2].Text = "changed"
	for _, room := range []string{"room", "filled"} {
		if err := wantTailOf(ctx, p, room, 1, 3); err != nil {
			return fmt.Errorf("after what was given was changed: %w", err)
		}
		got, _, err := messagesOf(p.Get(ctx, room))
		if err != nil {
			return during("Get", err)
		}
		for i := range got {
			got[i].Text = "changed"
		}
		_ = append(got, stored(room, 99))
		if err := wantTailOf(ctx, p, room, 1, 3); err != nil {
			return fmt.Errorf("after what Get returned was changed: %w", err)
		}
	}
	return add(ctx, p, "room", 4, 4)
}
