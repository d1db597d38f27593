package contract

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// changesOfCache are what a chat.RecentCache promises of messages that change.
func changesOfCache() []promise[chat.RecentCache] {
	const whole = "Rev says how old they may be: every change up to it is in them."
	const higher = "Where r.Rev is higher, the given messages replace what is held of them and before them; held ones that connect and follow stay."
	return []promise[chat.RecentCache]{
		{"a change takes the place of what is held", "Change puts messages that were just changed in the place of what is held of them. " +
			"A room that has every change before the first of them has every change of the call from then on.", cacheChange},
		{"one call changes several rooms", "Change puts messages that were just changed in the place of what is held of them.", cacheChangeRooms},
		{"a change that came before changes nothing", "A change that the room has already changes nothing.", cacheChangeAgain},
		{"a lost change ends that a room is held", "A room that lacks a change before is not held any more.", cacheChangeLost},
		{"a changed message that was not added yet", "A changed message behind the last one that is held is taken as Add would. An older message never replaces a newer one.", cacheChangeAhead},
		{"a change of what is not held counts", "A room that has every change before the first of them has every change of the call from then on. " + whole, cacheChangeBefore},
		{"filling brings nothing older", "The Rev of a room is remembered although the room is not held, so that Fill brings nothing older. What is older than the room's Rev is not taken.", cacheFillOlder},
		{"adding does not hold a room whose changes are not known", "A room that is not held, and whose Rev is remembered, is not held after Add either: changes of what is added may have come before it.", cacheAddUnheld},
		{"filling with newer replaces what is older", higher, cacheFillNewer},
		{"filling with newer never makes a hole", "A room whose messages do not connect is not held any more then. A room that holds messages keeps them if r.Rev is its own, and is not held any more if r.Rev is higher. It never holds a hole: what it returns is contiguous.", cacheFillNewerHole},
		{"changed messages are held whole", "A message has every field as it was given. Every time is UTC, to the microsecond.", cacheChangedFields},
		{"readers never miss a change", whole + " It may be called from many goroutines.", cacheChangeRace},
		{"changed messages are copies", "Changing what was given or returned changes nothing held.", cacheChangedCopies},
	}
}

// revised is stored after a change with this Rev, of several kinds.
func revised(room string, n int, rev uint64) chat.Message {
	m := stored(room, n)
	m.Rev = rev
	switch rev % 3 {
	case 0:
		m.Text, m.DeletedAt = "", at(1000+int(rev))
	case 1:
		m.Text, m.EditedAt = fmt.Sprintf("edited %d", rev), at(1000+int(rev))
	case 2:
		m.Reactions = []chat.Reaction{{Key: "👍", Count: 1, Users: []user.ID{"user-1"}}, {Key: "+1", Count: int(rev), Users: []user.ID{"user-2", "user-ü"}}}
	}
	return m
}

func cacheChanged(ctx context.Context, p chat.RecentCache, messages ...chat.Message) error {
	return during(fmt.Sprintf("Change of %d messages", len(messages)), p.Change(ctx, messages...))
}

func filled(ctx context.Context, p chat.RecentCache, room string, rev uint64, messages ...chat.Message) error {
	return during(fmt.Sprintf("Fill with %d messages as of %d", len(messages), rev), p.Fill(ctx, room, chat.Recent{Messages: messages, Rev: rev}))
}

// wantAsOf is wantTail of a room that has the Rev, and that holds at least n messages.
func wantAsOf(ctx context.Context, p chat.RecentCache, room string, rev uint64, n int, want ...chat.Message) error {
	got, held, err := p.Get(ctx, room)
	switch {
	case err != nil:
	case !held:
		err = errors.New("it does not hold the room")
	case got.Rev != rev:
		err = fmt.Errorf("the Rev is %d, want %d", got.Rev, rev)
	case len(got.Messages) < n || len(got.Messages) > len(want):
		err = fmt.Errorf("it holds %d messages, want from %d to %d", len(got.Messages), n, len(want))
	default:
		err = same(got.Messages, want[len(want)-len(got.Messages):])
	}
	return during(fmt.Sprintf("Get(%+q)", room), err)
}

// replaced returns messages with others in the places of those with the same sequence.
func replaced(messages []chat.Message, others ...chat.Message) []chat.Message {
	messages = slices.Clone(messages)
	for _, o := range others {
		messages[slices.IndexFunc(messages, func(m chat.Message) bool { return m.Seq == o.Seq })] = o
	}
	return messages
}

func cacheChange(ctx context.Context, p chat.RecentCache) error {
	all := storedRange("room", 1, 5)
	one, two, three, four := revised("room", 3, 1), revised("room", 5, 2), revised("room", 3, 3), revised("room", 4, 4)
	return first(
		func() error { return add(ctx, p, "room", 1, 5) },
		func() error { return wantAsOf(ctx, p, "room", 0, 5, all...) },
		func() error { return during("Change of nothing", p.Change(ctx)) },
		func() error { return cacheChanged(ctx, p, one) },
		func() error { return wantAsOf(ctx, p, "room", 1, 5, replaced(all, one)...) },
		func() error { return cacheChanged(ctx, p, two, three, four) },
		func() error { return wantAsOf(ctx, p, "room", 4, 5, replaced(all, three, two, four)...) },
		func() error { return add(ctx, p, "room", 6, 6) },
		func() error {
			return wantAsOf(ctx, p, "room", 4, 6, append(replaced(all, three, two, four), stored("room", 6))...)
		},
	)
}

func cacheChangeRooms(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "a", 1, 2) },
		func() error { return add(ctx, p, "b", 4, 6) },
		func() error {
			return cacheChanged(ctx, p, revised("b", 5, 1), revised("a", 2, 1), revised("b", 6, 2), revised("c", 1, 1), revised("a", 1, 2), revised("b", 4, 3))
		},
		func() error { return wantAsOf(ctx, p, "a", 2, 2, revised("a", 1, 2), revised("a", 2, 1)) },
		func() error {
			return wantAsOf(ctx, p, "b", 3, 3, revised("b", 4, 3), revised("b", 5, 1), revised("b", 6, 2))
		},
		func() error { return wantNone(ctx, p, "c", false) },
	)
}

func cacheChangeAgain(ctx context.Context, p chat.RecentCache) error {
	want := []chat.Message{revised("room", 1, 2), revised("room", 2, 3)}
	return first(
		func() error { return add(ctx, p, "room", 1, 2) },
		func() error {
			return cacheChanged(ctx, p, revised("room", 1, 1), revised("room", 1, 2), revised("room", 2, 3))
		},
		func() error { return cacheChanged(ctx, p, revised("room", 1, 1)) },
		func() error { return wantAsOf(ctx, p, "room", 3, 2, want...) },
		func() error {
			return cacheChanged(ctx, p, revised("room", 1, 1), revised("room", 1, 2), revised("room", 2, 3))
		},
		func() error { return wantAsOf(ctx, p, "room", 3, 2, want...) },
		// One that is known, and one that is not.
		func() error { return cacheChanged(ctx, p, revised("room", 2, 3), revised("room", 1, 4)) },
		func() error { return wantAsOf(ctx, p, "room", 4, 2, revised("room", 1, 4), want[1]) },
	)
}

func cacheChangeLost(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 3) },
		func() error { return cacheChanged(ctx, p, revised("room", 1, 2)) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return cacheChanged(ctx, p, revised("room", 2, 1)) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return filled(ctx, p, "filled", 4, storedRange("filled", 1, 3)...) },
		func() error { return cacheChanged(ctx, p, revised("filled", 1, 5)) },
		func() error {
			return wantAsOf(ctx, p, "filled", 5, 3, replaced(storedRange("filled", 1, 3), revised("filled", 1, 5))...)
		},
		func() error { return cacheChanged(ctx, p, revised("filled", 2, 7), revised("filled", 2, 8)) },
		func() error { return wantNone(ctx, p, "filled", false) },
		func() error { return fillEmpty(ctx, p, "empty") },
		func() error { return cacheChanged(ctx, p, revised("empty", 1, 2)) },
		func() error { return wantNone(ctx, p, "empty", false) },
	)
}

func cacheChangeAhead(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 3) },
		// It was stored and changed, and its change came first.
		func() error { return cacheChanged(ctx, p, revised("room", 4, 1)) },
		func() error { return add(ctx, p, "room", 4, 5) },
		func() error {
			return wantAsOf(ctx, p, "room", 1, 5, append(storedRange("room", 1, 3), revised("room", 4, 1), stored("room", 5))...)
		},
		func() error { return cacheChanged(ctx, p, revised("room", 8, 2)) },
		func() error { return add(ctx, p, "room", 6, 8) },
		func() error { return wantEnd(ctx, p, "room", 8) },
		func() error { return wantAsOf(ctx, p, "room", 2, 1, revised("room", 8, 2)) },
		func() error { return fillEmpty(ctx, p, "empty") },
		func() error { return cacheChanged(ctx, p, revised("empty", 1, 1)) },
		func() error { return add(ctx, p, "empty", 1, 1) },
		func() error { return wantAsOf(ctx, p, "empty", 1, 1, revised("empty", 1, 1)) },
	)
}

func cacheChangeBefore(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return filled(ctx, p, "room", 5, storedRange("room", 4, 6)...) },
		func() error { return cacheChanged(ctx, p, revised("room", 2, 6)) },
		func() error { return wantAsOf(ctx, p, "room", 6, 3, storedRange("room", 4, 6)...) },
		func() error { return cacheChanged(ctx, p, revised("room", 5, 7)) },
		func() error {
			return wantAsOf(ctx, p, "room", 7, 3, stored("room", 4), revised("room", 5, 7), stored("room", 6))
		},
		func() error { return filled(ctx, p, "room", 7, storedRange("room", 3, 5)...) },
		func() error {
			return wantAsOf(ctx, p, "room", 7, 4, stored("room", 3), stored("room", 4), revised("room", 5, 7), stored("room", 6))
		},
	)
}

func cacheFillOlder(ctx context.Context, p chat.RecentCache) error {
	all := storedRange("room", 1, 3)
	now := replaced(all, revised("room", 2, 3))
	return first(
		// Nobody has held the room when it was changed.
		func() error { return cacheChanged(ctx, p, revised("room", 2, 3)) },
		func() error { return filled(ctx, p, "room", 2, all...) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return fillEmpty(ctx, p, "room") },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return filled(ctx, p, "room", 3, now...) },
		func() error { return wantAsOf(ctx, p, "room", 3, 3, now...) },
		func() error { return filled(ctx, p, "room", 2, storedRange("room", 1, 6)...) },
		func() error { return wantAsOf(ctx, p, "room", 3, 3, now...) },
		func() error { return cacheChanged(ctx, p, revised("room", 1, 5)) },
		func() error { return filled(ctx, p, "room", 4, now...) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return filled(ctx, p, "room", 5, replaced(now, revised("room", 1, 5))...) },
		func() error { return wantAsOf(ctx, p, "room", 5, 3, replaced(now, revised("room", 1, 5))...) },
	)
}

func cacheAddUnheld(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return cacheChanged(ctx, p, revised("room", 4, 7)) },
		func() error { return add(ctx, p, "room", 4, 5) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return filled(ctx, p, "room", 7, revised("room", 4, 7), stored("room", 5)) },
		func() error { return add(ctx, p, "room", 6, 6) },
		func() error {
			return wantAsOf(ctx, p, "room", 7, 3, revised("room", 4, 7), stored("room", 5), stored("room", 6))
		},
		func() error { return cacheChanged(ctx, p, revised("room", 6, 9)) },
		func() error { return add(ctx, p, "room", 7, 7) },
		func() error { return wantNone(ctx, p, "room", false) },
	)
}

func cacheFillNewer(ctx context.Context, p chat.RecentCache) error {
	newer := []chat.Message{stored("room", 4), revised("room", 5, 8), revised("room", 6, 9)}
	return first(
		func() error { return add(ctx, p, "room", 3, 8) },
		func() error { return filled(ctx, p, "room", 9, newer...) },
		func() error { return wantAsOf(ctx, p, "room", 9, 5, append(newer, storedRange("room", 7, 8)...)...) },
		func() error { return cacheChanged(ctx, p, revised("room", 8, 10)) },
		func() error { return filled(ctx, p, "room", 12, revised("room", 8, 12), stored("room", 9)) },
		func() error { return wantAsOf(ctx, p, "room", 12, 2, revised("room", 8, 12), stored("room", 9)) },
		func() error { return filled(ctx, p, "room", 13, revised("room", 7, 13)) }, // what follows connects
		func() error {
			return wantAsOf(ctx, p, "room", 13, 3, revised("room", 7, 13), revised("room", 8, 12), stored("room", 9))
		},
		func() error { return filled(ctx, p, "room", 14, stored("room", 10)) }, // and what came before goes
		func() error { return wantAsOf(ctx, p, "room", 14, 1, stored("room", 10)) },
		func() error { return filled(ctx, p, "unknown", 3, storedRange("unknown", 2, 4)...) },
		func() error { return wantAsOf(ctx, p, "unknown", 3, 3, storedRange("unknown", 2, 4)...) },
		func() error { return filled(ctx, p, "none", 4) },
		func() error { return wantAsOf(ctx, p, "none", 4, 0) },
		func() error { return filled(ctx, p, "none", 6) },
		func() error { return wantAsOf(ctx, p, "none", 6, 0) },
		func() error { return cacheChanged(ctx, p, revised("none", 3, 7)) },
		func() error { return wantAsOf(ctx, p, "none", 7, 1, revised("none", 3, 7)) },
	)
}

func cacheFillNewerHole(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 5, 8) },
		func() error { return filled(ctx, p, "room", 1, storedRange("room", 2, 3)...) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return filled(ctx, p, "room", 1, storedRange("room", 2, 8)...) },
		func() error { return wantAsOf(ctx, p, "room", 1, 7, storedRange("room", 2, 8)...) },
		func() error { return filled(ctx, p, "room", 2, storedRange("room", 10, 11)...) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return filled(ctx, p, "room", 2, storedRange("room", 10, 11)...) },
		func() error { return wantAsOf(ctx, p, "room", 2, 2, storedRange("room", 10, 11)...) },
		func() error { return filled(ctx, p, "room", 3) },
		func() error { return wantNone(ctx, p, "room", false) },
	)
}

// wholly are messages of a room with every field set, changed or not.
func wholly(room string) []chat.Message {
	all := fields(room)
	for i := range all {
		if i%2 == 0 {
			all[i].Rev, all[i].EditedAt = math.MaxInt64-uint64(i), at(100+i)
		}
	}
	var many []chat.Reaction
	for k := range chat.MaxReactionKeys {
		r := chat.Reaction{Key: strings.Repeat("👍", chat.MaxReactionKey-2) + fmt.Sprintf("%02d", k), Count: chat.MaxReactions + k}
		for u := range min(k+1, chat.MaxReactionUsers) {
			r.Users = append(r.Users, user.ID(fmt.Sprintf("usér-%d", u)))
		}
		many = append(many, r)
	}
	all[1].Reactions, all[1].Rev = many, 1
	all[4].Reactions = many[:1]
	all[6].Text, all[6].Data, all[6].ReplyTo, all[6].DeletedAt = "", "", 0, at(200)
	return all
}

func cacheChangedFields(ctx context.Context, p chat.RecentCache) error {
	var changed []chat.Message
	for i, m := range wholly("changed") {
		m.Rev = uint64(i + 1)
		changed = append(changed, m)
	}
	return first(
		func() error { return during("Add", p.Add(ctx, wholly("added")...)) },
		func() error { return wantTail(ctx, p, "added", wholly("added")...) },
		func() error { return wantHeld(ctx, p, "added", 7) },
		func() error { return filled(ctx, p, "filled", math.MaxInt64, wholly("filled")...) },
		func() error { return wantAsOf(ctx, p, "filled", math.MaxInt64, 7, wholly("filled")...) },
		func() error { return add(ctx, p, "changed", 1, 7) },
		func() error { return cacheChanged(ctx, p, changed...) },
		func() error { return wantAsOf(ctx, p, "changed", 7, 7, changed...) },
	)
}

func cacheChangeRace(ctx context.Context, p chat.RecentCache) error {
	const messages, changes = 8, 120
	seq := func(rev int) int { return rev*5%messages + 1 } // which the change is of
	asOf := func(n, rev int) chat.Message {
		for ; rev > 0; rev-- {
			if seq(rev) == n {
				return revised("room", n, uint64(rev))
			}
		}
		return stored("room", n)
	}
	all := func(rev int) []chat.Message {
		var all []chat.Message
		for n := 1; n <= messages; n++ {
			all = append(all, asOf(n, rev))
		}
		return all
	}
	look := func() error {
		got, held, err := p.Get(ctx, "room")
		if err == nil && held && (len(got.Messages) == 0 || got.Messages[len(got.Messages)-1].Seq != messages) {
			err = fmt.Errorf("it holds %d messages, which are not the last ones", len(got.Messages))
		}
		err = then(err, func() error { return contiguous(got.Messages) })
		for _, m := range got.Messages {
			if want := asOf(int(m.Seq), int(got.Rev)); err == nil && m.Rev < want.Rev {
				err = fmt.Errorf("the room has the Rev %d, and the message %d lacks the change %d", got.Rev, m.Seq, want.Rev)
			}
			if err == nil {
				err = same(m, asOf(int(m.Seq), int(m.Rev)))
			}
		}
		return during("Get", err)
	}
	if err := filled(ctx, p, "room", 0, all(0)...); err != nil {
		return err
	}
	// Several nodes tell of the same changes, each at its own pace; others fill, and add what is there.
	err := allTogether(6, func(i int) error {
		for k := 1; k <= changes; k++ {
			err := error(nil)
			switch {
			case i == 0:
				err = cacheChanged(ctx, p, asOf(seq(k), k))
			case i == 1 && k < changes:
				err = cacheChanged(ctx, p, asOf(seq(k), k), asOf(seq(k+1), k+1))
			case i == 2 && k%3 == 0:
				err = filled(ctx, p, "room", uint64(k), all(k)...)
			case i == 3 && k%5 == 0:
				err = filled(ctx, p, "room", uint64(k-1), all(k)[messages/2:]...)
			case i == 4:
				err = during("Add", p.Add(ctx, all(k)[messages-2:]...))
			}
			if err = then(err, look); err != nil {
				return err
			}
		}
		return nil
	})
	return then(err,
		func() error { return filled(ctx, p, "room", changes, all(changes)...) },
		func() error { return wantAsOf(ctx, p, "room", changes, messages/2, all(changes)...) },
	)
}

func cacheChangedCopies(ctx context.Context, p chat.RecentCache) error {
	want := func() []chat.Message { return []chat.Message{revised("room", 1, 5), revised("room", 2, 8)} }
	given := want()
	if err := filled(ctx, p, "room", 8, given...); err != nil {
		return err
	}
	spoil(&given[0])
	spoil(&given[1])
	given = []chat.Message{revised("room", 2, 11), revised("added", 1, 2)}
	if err := first(
		func() error { return wantAsOf(ctx, p, "room", 8, 2, want()...) },
		func() error { return cacheChanged(ctx, p, revised("room", 2, 9), revised("room", 2, 10), given[0]) },
		func() error { return during("Add", p.Add(ctx, given[1])) },
	); err != nil {
		return fmt.Errorf("after what was given was changed: %w", err)
	}
	spoil(&given[0])
	spoil(&given[1])
	again := func() error {
		return first(
			func() error { return wantAsOf(ctx, p, "room", 11, 2, revised("room", 1, 5), revised("room", 2, 11)) },
			func() error { return wantTail(ctx, p, "added", revised("added", 1, 2)) },
		)
	}
	if err := again(); err != nil {
		return fmt.Errorf("after what was given was changed: %w", err)
	}
	for _, room := range []string{"room", "added"} {
		got, _, err := p.Get(ctx, room)
		if err != nil {
			return during("Get", err)
		}
		for i := range got.Messages {
			spoil(&got.Messages[i])
		}
	}
	return during("after what Get returned was changed", again())
}
