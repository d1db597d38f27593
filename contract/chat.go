package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// MessageStore checks chat.MessageStore.
func MessageStore() []Case[chat.MessageStore] {
	return suite("MessageStore", append([]promise[chat.MessageStore]{
		{"an appended message is read back", "Append stores messages durably, all or none, in the order given. Every time is UTC, to the microsecond.", storeAppend},
		{"a room counts from 1 without gaps", "Each new message gets the next sequence number of its room: from 1, without gaps, also under concurrent calls.", storeSequence},
		{"rooms count apart", "Each new message gets the next sequence number of its room: from 1, without gaps, also under concurrent calls.", storeRooms},
		{"room names are exact", "Two rooms, authors, client ids or keys of reactions are the same only if they have the same bytes.", storeExactRooms},
		{"appending nothing is no error", "Append returns one answer for each message, in the order given.", storeNothing},
		{"long and foreign texts are kept", "It keeps every text, name, client id and key that CheckText, CheckRoom, CheckClientID and CheckReaction let through.", storeTexts},
		{"replies and data are kept", "It keeps ReplyTo, and byte for byte all data that CompactData returns; a message without them stays without.", storeFields},
		{"a repeated client id stores nothing", "A message whose room, author and ClientID are stored already, or came earlier in the same call, is not stored again. The answer to such a message is the stored one, with Repeated set.", storeRepeated},
		{"a client id repeated in one call", "A message whose room, author and ClientID are stored already, or came earlier in the same call, is not stored again. The answer to such a message is the stored one, with Repeated set.", storeRepeatedInCall},
		{"repetitions leave no gap", "Each new message gets the next sequence number of its room: from 1, without gaps, also under concurrent calls.", storeRepeatedMixed},
		{"an empty client id never repeats", "A message without a ClientID is always new.", storeNoClientID},
		{"client ids belong to sender and room", "A room holds at most one message with the same sender and the same ClientID that is not empty.", storeClientIDScope},
		{"client ids are exact", "Two rooms, authors, client ids or keys of reactions are the same only if they have the same bytes.", storeExactClientIDs},
		{"concurrent appends leave no gap", "Each new message gets the next sequence number of its room: from 1, without gaps, also under concurrent calls.", storeConcurrent},
		{"concurrent repetitions are stored once", "A message whose room, author and ClientID are stored already, or came earlier in the same call, is not stored again. The answer to such a message is the stored one, with Repeated set. It may be called from many goroutines.", storeRepeatedRace},
		{"a refused call stores nothing", "Append stores messages durably, all or none, in the order given. On an error nothing is stored, unless ctx ended or the store was lost meanwhile.", storeRefused},
		{"an ended context leaves no gap", "Then the outcome is unknown, and the sequence still has no gaps.", storeEnded},
		{"After and Before exclude", "After and Before exclude: After < Seq, and Seq < Before unless Before is 0. List returns the messages of room that r chooses, ascending by sequence, as they are now.", storeRange},
		{"Limit and Newest choose the end", "Limit is the most messages to return, at least 1. Newest takes, where there are more than Limit, those with the highest sequence instead of those with the lowest.", storeNewest},
		{"paging visits every message once", "List returns the messages of room that r chooses, ascending by sequence, as they are now.", storePages},
		{"the edges of the sequence", "After and Before exclude: After < Seq, and Seq < Before unless Before is 0.", storeEdges},
		{"an unknown room has no messages", "An unknown room has no messages.", storeUnknownRoom},
		{"a returned append is seen", "A message whose Append returned before List was called is seen.", storeSeen},
		{"readers never see a gap", "Whoever sees a message can see all that come before it in the sequence.", storeReaders},
		{"bounds of a room", "Bounds returns how far room reaches. First is the lowest sequence that is still stored, and Last the highest ever given out: 1 and 0 for a room without messages.", storeBounds},
		{"messages are copies", "Changing what was given or returned changes nothing stored.", storeCopies},
	}, changesOfStore()...))
}

// fields are what the messages 1 to 6 of a room have besides: some both, some one, some nothing.
func fields(room string) []chat.Message {
	data := []string{
		"", `{}`, "", `{"b":1,"a":[true,null,{"é":"\u00e9\ud83d\ude00👋"}],"a":1.50e+03,"" :""}`, "", `{"long":"` + strings.Repeat("é~", (chat.MaxData-11)/3) + `"}`,
	}
	data[3] = strings.ReplaceAll(data[3], " ", "")
	deep := strings.Repeat(`{"a":[`, chat.MaxDataDepth/2) + strings.Repeat("]}", chat.MaxDataDepth/2)
	replies := []uint64{0, 0, 1, 3, math.MaxInt64, 0}
	var all []chat.Message
	for i := range data {
		m := stored(room, i+1)
		m.ReplyTo, m.Data = replies[i], data[i]
		all = append(all, m)
	}
	last := stored(room, 7)
	last.ReplyTo, last.Data, last.ClientID = 6, deep, "client-1"
	return append(all, last)
}

func storeFields(ctx context.Context, p chat.MessageStore) error {
	want := fields("room")
	for _, m := range want {
		if data, err := chat.CompactData(m.Data); err != nil || data != m.Data {
			return fmt.Errorf("the case is wrong: %q: %w", data, orNone(err))
		}
	}
	answers := func(repeated bool, messages ...chat.Message) (all []chat.Stored) {
		for _, m := range messages {
			all = append(all, chat.Stored{Message: m, Repeated: repeated})
		}
		return all
	}
	given := slices.Clone(want)
	for i := range given {
		given[i].Seq = 0
	}
	other := said("room", 9)
	other.ClientID, other.ReplyTo, other.Data = "client-1", 1, `{"other":true}`
	bare := said("room", 9)
	bare.ClientID = "client-1"
	return first(
		// Alone, among others, and after one without.
		func() error { return appendWant(ctx, p, given[:1], answers(false, want[0])...) },
		func() error { return appendWant(ctx, p, given[1:2], answers(false, want[1])...) },
		func() error { return appendWant(ctx, p, given[2:], answers(false, want[2:]...)...) },
		func() error {
			return appendWant(ctx, p, []chat.Message{said("other", 1)}, answers(false, stored("other", 1))...)
		},
		func() error { return wantMessages(ctx, p, "room", everything, want...) },
		func() error { return wantMessages(ctx, p, "room", chat.Range{Limit: 2, Newest: true}, want[5:]...) },
		func() error { return wantMessages(ctx, p, "other", everything, stored("other", 1)) },
		// The first counts, whatever else differs.
		func() error { return appendWant(ctx, p, []chat.Message{other}, answers(true, want[6])...) },
		func() error {
			return appendWant(ctx, p, []chat.Message{bare, other}, answers(true, want[6], want[6])...)
		},
		func() error { return wantMessages(ctx, p, "room", everything, want...) },
	)
}

func said(room string, n int) chat.Message {
	return chat.Message{
		Room: room, ID: fmt.Sprintf("%s/%d", room, n), Author: chat.Author{ID: "user-1", Name: "Zoë Ångström"},
		Text: fmt.Sprintf("Grüße %d 👋", n), At: at(n),
	}
}

// stored is said with its place in the sequence, which is its number.
func stored(room string, n int) chat.Message {
	m := said(room, n)
	m.Seq = uint64(n)
	return m
}

func storedRange(room string, from, to int) []chat.Message {
	var all []chat.Message
	for n := from; n <= to; n++ {
		all = append(all, stored(room, n))
	}
	return all
}

// appendWant appends in one call, and wants these answers.
func appendWant(ctx context.Context, p chat.MessageStore, messages []chat.Message, want ...chat.Stored) error {
	got, err := p.Append(ctx, messages)
	if err == nil {
		err = same(got, want)
	}
	return during("Append", err)
}

// fill stores the messages 1 to n, in calls of three.
func fill(ctx context.Context, p chat.MessageStore, room string, n int) error {
	for from := 1; from <= n; from += 3 {
		var messages []chat.Message
		var want []chat.Stored
		for i := from; i <= min(from+2, n); i++ {
			messages, want = append(messages, said(room, i)), append(want, chat.Stored{Message: stored(room, i)})
		}
		if err := appendWant(ctx, p, messages, want...); err != nil {
			return err
		}
	}
	return nil
}

func wantMessages(ctx context.Context, p chat.MessageStore, room string, r chat.Range, want ...chat.Message) error {
	got, err := p.List(ctx, room, r)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("List(%s, %+v)", clip(fmt.Sprintf("%+q", room)), r), err)
}

func wantBounds(ctx context.Context, p chat.MessageStore, room string, low, high uint64) error {
	got, err := p.Bounds(ctx, room)
	if err == nil && (got.First != low || got.Last != high) {
		err = fmt.Errorf("they are %d and %d, want %d and %d", got.First, got.Last, low, high)
	}
	return during(fmt.Sprintf("Bounds(%s)", clip(fmt.Sprintf("%+q", room))), err)
}

var everything = chat.Range{Limit: 10_000}

func storeAppend(ctx context.Context, p chat.MessageStore) error {
	m := said("room", 1)
	m.ClientID = "client-1"
	want := m
	want.Seq = 1
	return first(
		func() error { return appendWant(ctx, p, []chat.Message{m}, chat.Stored{Message: want}) },
		func() error { return wantMessages(ctx, p, "room", everything, want) },
	)
}

func storeSequence(ctx context.Context, p chat.MessageStore) error {
	given := said("room", 11)
	given.Seq = 99 // not the caller's to choose
	want := stored("room", 11)
	return first(
		func() error { return fill(ctx, p, "room", 10) },
		func() error { return appendWant(ctx, p, []chat.Message{given}, chat.Stored{Message: want}) },
		func() error { return wantMessages(ctx, p, "room", everything, storedRange("room", 1, 11)...) },
	)
}

func storeRooms(ctx context.Context, p chat.MessageStore) error {
	var messages []chat.Message
	var want []chat.Stored
	for n := 1; n <= 4; n++ {
		for _, room := range []string{"b", "a", "c"} {
			messages, want = append(messages, said(room, n)), append(want, chat.Stored{Message: stored(room, n)})
		}
	}
	if err := appendWant(ctx, p, messages, want...); err != nil {
		return err
	}
	for _, room := range []string{"a", "b", "c"} {
		if err := wantMessages(ctx, p, room, everything, storedRange(room, 1, 4)...); err != nil {
			return err
		}
	}
	return nil
}

func storeExactRooms(ctx context.Context, p chat.MessageStore) error {
	for _, room := range names {
		m, want := said(room, 1), stored(room, 1)
		m.ClientID, want.ClientID = "same", "same"
		if err := appendWant(ctx, p, []chat.Message{m}, chat.Stored{Message: want}); err != nil {
			return fmt.Errorf("room %+q: %w", room, err)
		}
	}
	for _, room := range names {
		want := stored(room, 1)
		want.ClientID = "same"
		if err := first(
			func() error { return wantMessages(ctx, p, room, everything, want) },
			func() error { return wantBounds(ctx, p, room, 1, 1) },
		); err != nil {
			return err
		}
	}
	return nil
}

func storeNothing(ctx context.Context, p chat.MessageStore) error {
	return first(
		func() error { return appendWant(ctx, p, nil) },
		func() error { return appendWant(ctx, p, []chat.Message{}) },
		func() error { return fill(ctx, p, "room", 1) },
		func() error { return appendWant(ctx, p, nil) },
		func() error { return wantBounds(ctx, p, "room", 1, 1) },
	)
}

func storeTexts(ctx context.Context, p chat.MessageStore) error {
	texts := []string{
		long(chat.MaxText), " ", "  leading and trailing  ", "trailing newline\n", "\r\n\t\v", "'; DROP TABLE messages; --", `"\u0000\\`, "${x} {{x}} $set",
		"e\u0301 \u00e9", "\u200b\u202e\ufeff", "\x01\x7f", "<script>&amp;</script>", "null", "123", "٣", strings.Repeat("a", chat.MaxText),
	}
	room := long(chat.MaxRoomName)
	var messages []chat.Message
	var want []chat.Stored
	for i, text := range texts {
		m := said("room", i+1)
		m.Room, m.Text, m.ClientID = room, text, strings.Repeat("~", chat.MaxClientID-2)+fmt.Sprintf("%02d", i)
		m.Author = chat.Author{ID: "user-1", Name: long(user.MaxFullName)}
		messages = append(messages, m)
		m.Seq = uint64(i + 1)
		want = append(want, chat.Stored{Message: m})
	}
	if err := appendWant(ctx, p, messages, want...); err != nil {
		return err
	}
	for i := range want {
		if err := wantMessages(ctx, p, room, chat.Range{After: uint64(i), Limit: 1}, want[i].Message); err != nil {
			return err
		}
	}
	return nil
}

// named is said with a client id, and the text of another number.
func named(room, clientID string, n int) chat.Message {
	m := said(room, n)
	m.ClientID = clientID
	return m
}

func withSeq(m chat.Message, seq uint64) chat.Message { m.Seq = seq; return m }

func storeRepeated(ctx context.Context, p chat.MessageStore) error {
	kept := withSeq(named("room", "client", 1), 1)
	return first(
		func() error {
			return appendWant(ctx, p, []chat.Message{named("room", "client", 1)}, chat.Stored{Message: kept})
		},
		func() error {
			return appendWant(ctx, p, []chat.Message{named("room", "client", 2)}, chat.Stored{Message: kept, Repeated: true})
		},
		func() error {
			return appendWant(ctx, p, []chat.Message{named("room", "client", 1)}, chat.Stored{Message: kept, Repeated: true})
		},
		func() error { return wantMessages(ctx, p, "room", everything, kept) },
		func() error { return wantBounds(ctx, p, "room", 1, 1) },
	)
}

func storeRepeatedInCall(ctx context.Context, p chat.MessageStore) error {
	one, two := withSeq(named("room", "a", 1), 1), withSeq(named("room", "b", 3), 2)
	return first(
		func() error {
			return appendWant(ctx, p, []chat.Message{named("room", "a", 1), named("room", "a", 2), named("room", "b", 3), named("room", "a", 4)},
				chat.Stored{Message: one}, chat.Stored{Message: one, Repeated: true}, chat.Stored{Message: two}, chat.Stored{Message: one, Repeated: true})
		},
		func() error { return wantMessages(ctx, p, "room", everything, one, two) },
	)
}

func storeRepeatedMixed(ctx context.Context, p chat.MessageStore) error {
	a, b, c := withSeq(named("room", "a", 1), 1), withSeq(named("room", "b", 2), 2), withSeq(named("room", "c", 3), 3)
	other := withSeq(named("other", "a", 4), 1)
	return first(
		func() error {
			return appendWant(ctx, p, []chat.Message{named("room", "a", 1)}, chat.Stored{Message: a})
		},
		func() error {
			return appendWant(ctx, p, []chat.Message{named("room", "b", 2), named("room", "a", 9), named("other", "a", 4), named("room", "c", 3)},
				chat.Stored{Message: b}, chat.Stored{Message: a, Repeated: true}, chat.Stored{Message: other}, chat.Stored{Message: c})
		},
		func() error { return wantMessages(ctx, p, "room", everything, a, b, c) },
		func() error { return wantMessages(ctx, p, "other", everything, other) },
		func() error { return wantBounds(ctx, p, "room", 1, 3) },
	)
}

func storeNoClientID(ctx context.Context, p chat.MessageStore) error {
	again := said("room", 2)
	return first(
		func() error {
			return appendWant(ctx, p, []chat.Message{said("room", 1), again}, chat.Stored{Message: stored("room", 1)}, chat.Stored{Message: stored("room", 2)})
		},
		func() error {
			return appendWant(ctx, p, []chat.Message{said("room", 3)}, chat.Stored{Message: stored("room", 3)})
		},
	)
}

func storeClientIDScope(ctx context.Context, p chat.MessageStore) error {
	mine, elsewhere, theirs := named("room", "client", 1), named("other", "client", 2), named("room", "client", 3)
	theirs.Author = chat.Author{ID: "USER-1", Name: "Somebody Else"}
	return first(
		func() error {
			return appendWant(ctx, p, []chat.Message{mine, elsewhere}, chat.Stored{Message: withSeq(mine, 1)}, chat.Stored{Message: withSeq(elsewhere, 1)})
		},
		func() error {
			return appendWant(ctx, p, []chat.Message{theirs}, chat.Stored{Message: withSeq(theirs, 2)})
		},
		func() error { return wantMessages(ctx, p, "room", everything, withSeq(mine, 1), withSeq(theirs, 2)) },
	)
}

func storeExactClientIDs(ctx context.Context, p chat.MessageStore) error {
	for i, id := range []string{"abc", "ABC", "Abc", "abc.", "a%c", "a_c", "0", "00", "null"} {
		m := named("room", id, i+1)
		if err := appendWant(ctx, p, []chat.Message{m}, chat.Stored{Message: withSeq(m, uint64(i+1))}); err != nil {
			return fmt.Errorf("client id %q: %w", id, err)
		}
	}
	return nil
}

func storeConcurrent(ctx context.Context, p chat.MessageStore) error {
	const writers, calls = 10, 6
	rooms := []string{"a", "b"}
	var mu sync.Mutex
	answers := map[string][]chat.Message{}
	err := allTogether(writers, func(w int) error {
		for c := range calls {
			var batch []chat.Message
			for k := range 3 {
				n := (w*calls+c)*3 + k + 1
				batch = append(batch, said(rooms[(w+k)%2], n))
			}
			got, err := p.Append(ctx, batch)
			if err != nil {
				return during("Append", err)
			}
			if len(got) != len(batch) {
				return fmt.Errorf("the port's Append of %d messages returned %d answers", len(batch), len(got))
			}
			mu.Lock()
			for i, s := range got {
				if s.ID != batch[i].ID || s.Repeated {
					mu.Unlock()
					return fmt.Errorf("the port's Append answered %q with %q, repeated %t", batch[i].ID, s.ID, s.Repeated)
				}
				answers[s.Room] = append(answers[s.Room], s.Message)
			}
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, room := range rooms {
		want := answers[room]
		slices.SortFunc(want, func(a, b chat.Message) int { return cmp.Compare(a.Seq, b.Seq) })
		for i, m := range want {
			if m.Seq != uint64(i+1) {
				return fmt.Errorf("in room %q the sequence number %d was given out where %d comes", room, m.Seq, i+1)
			}
		}
		if err := first(
			func() error { return wantMessages(ctx, p, room, everything, want...) },
			func() error { return wantBounds(ctx, p, room, 1, uint64(len(want))) },
		); err != nil {
			return err
		}
	}
	return nil
}

func storeRepeatedRace(ctx context.Context, p chat.MessageStore) error {
	const n = 12
	answers := make([]chat.Stored, n)
	err := allTogether(n, func(i int) error {
		got, err := p.Append(ctx, []chat.Message{named("room", "same", i+1), said("other", i+1)})
		if err == nil && len(got) != 2 {
			err = fmt.Errorf("it returned %d answers, want 2", len(got))
		}
		if err == nil {
			answers[i] = got[0]
		}
		return during("Append", err)
	})
	if err != nil {
		return err
	}
	fresh := 0
	for _, a := range answers {
		if !a.Repeated {
			fresh++
		}
		if err := same(a.Message, answers[0].Message); err != nil {
			return fmt.Errorf("two of the answers to one client id differ: %w", err)
		}
	}
	if fresh != 1 {
		return fmt.Errorf("%d of %d concurrent answers are not Repeated, want exactly 1", fresh, n)
	}
	return first(
		func() error { return wantMessages(ctx, p, "room", everything, answers[0].Message) },
		func() error { return wantBounds(ctx, p, "other", 1, n) },
	)
}

func storeRefused(ctx context.Context, p chat.MessageStore) error {
	if err := fill(ctx, p, "room", 2); err != nil {
		return err
	}
	// An ID that is taken may be refused; the port does not say. But not by half.
	taken := said("room", 1)
	_, err := p.Append(ctx, []chat.Message{said("room", 3), said("fresh", 1), taken, said("room", 4)})
	if err == nil {
		return wantBounds(ctx, p, "room", 1, 5)
	}
	return first(
		func() error { return wantMessages(ctx, p, "room", everything, storedRange("room", 1, 2)...) },
		func() error { return wantBounds(ctx, p, "room", 1, 2) },
		func() error { return wantMessages(ctx, p, "fresh", everything) },
		func() error { return wantBounds(ctx, p, "fresh", 1, 0) },
		func() error {
			return during("after a refused call", appendWant(ctx, p, []chat.Message{said("room", 3)}, chat.Stored{Message: stored("room", 3)}))
		},
	)
}

func storeEnded(ctx context.Context, p chat.MessageStore) error {
	if err := fill(ctx, p, "room", 2); err != nil {
		return err
	}
	var last uint64
	got, err := p.Append(ended(ctx), []chat.Message{said("room", 3), said("room", 4)})
	if err == nil {
		if err := same(got, []chat.Stored{{Message: stored("room", 3)}, {Message: stored("room", 4)}}); err != nil {
			return fmt.Errorf("though its context had ended, Append succeeded: %w", err)
		}
		last = 4
	} else {
		all, err := p.List(ctx, "room", everything)
		if err != nil {
			return during("List", err)
		}
		if len(all) != 2 && len(all) != 4 {
			return fmt.Errorf("after a failed Append of 2 to 2 messages there are %d: not all or none", len(all))
		}
		last = uint64(len(all))
	}
	n := int(last) + 1
	return first(
		func() error { return wantBounds(ctx, p, "room", 1, last) },
		func() error {
			return appendWant(ctx, p, []chat.Message{said("room", n)}, chat.Stored{Message: stored("room", n)})
		},
		func() error { return wantMessages(ctx, p, "room", everything, storedRange("room", 1, n)...) },
	)
}

func storeRange(ctx context.Context, p chat.MessageStore) error {
	if err := first(
		func() error { return fill(ctx, p, "room", 10) },
		func() error { return fill(ctx, p, "other", 3) },
	); err != nil {
		return err
	}
	for _, c := range []struct {
		after, before uint64
		from, to      int
	}{{0, 0, 1, 10}, {4, 0, 5, 10}, {0, 4, 1, 3}, {3, 8, 4, 7}, {9, 0, 10, 10}, {10, 0, 1, 0}, {0, 1, 1, 0}, {0, 2, 1, 1}, {5, 6, 1, 0}, {5, 5, 1, 0}, {8, 3, 1, 0}, {0, 11, 1, 10}, {100, 0, 1, 0}} {
		for _, newest := range []bool{false, true} {
			if err := wantMessages(ctx, p, "room", chat.Range{After: c.after, Before: c.before, Limit: 10, Newest: newest}, storedRange("room", c.from, c.to)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func storeNewest(ctx context.Context, p chat.MessageStore) error {
	if err := fill(ctx, p, "room", 10); err != nil {
		return err
	}
	for _, c := range []struct {
		r        chat.Range
		from, to int
	}{
		{chat.Range{Limit: 3}, 1, 3},
		{chat.Range{Limit: 3, Newest: true}, 8, 10},
		{chat.Range{After: 4, Limit: 3}, 5, 7},
		{chat.Range{After: 4, Limit: 3, Newest: true}, 8, 10},
		{chat.Range{Before: 7, Limit: 3}, 1, 3},
		{chat.Range{Before: 7, Limit: 3, Newest: true}, 4, 6},
		{chat.Range{After: 2, Before: 9, Limit: 2}, 3, 4},
		{chat.Range{After: 2, Before: 9, Limit: 2, Newest: true}, 7, 8},
		{chat.Range{Limit: 1}, 1, 1},
		{chat.Range{Limit: 1, Newest: true}, 10, 10},
		{chat.Range{Limit: 1 << 30, Newest: true}, 1, 10},
	} {
		if err := wantMessages(ctx, p, "room", c.r, storedRange("room", c.from, c.to)...); err != nil {
			return err
		}
	}
	return nil
}

func storePages(ctx context.Context, p chat.MessageStore) error {
	const n = 25
	if err := fill(ctx, p, "room", n); err != nil {
		return err
	}
	var forward, backward []chat.Message
	for r := (chat.Range{Limit: 4}); ; {
		page, err := p.List(ctx, "room", r)
		if err != nil {
			return during("List", err)
		}
		if len(page) == 0 || len(forward) > n {
			break
		}
		forward = append(forward, page...)
		r.After = page[len(page)-1].Seq
	}
	for r := (chat.Range{Limit: 4, Newest: true}); ; {
		page, err := p.List(ctx, "room", r)
		if err != nil {
			return during("List", err)
		}
		if len(page) == 0 || len(backward) > n {
			break
		}
		backward = append(slices.Clone(page), backward...)
		r.Before = page[0].Seq
	}
	return first(
		func() error { return during("all pages from the oldest", same(forward, storedRange("room", 1, n))) },
		func() error { return during("all pages from the newest", same(backward, storedRange("room", 1, n))) },
	)
}

func storeEdges(ctx context.Context, p chat.MessageStore) error {
	if err := fill(ctx, p, "room", 3); err != nil {
		return err
	}
	all := storedRange("room", 1, 3)
	for _, edge := range []uint64{math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64} {
		if err := first(
			func() error { return wantMessages(ctx, p, "room", chat.Range{After: edge, Limit: 5}) },
			func() error { return wantMessages(ctx, p, "room", chat.Range{Before: edge, Limit: 5}, all...) },
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{After: 1, Before: edge, Limit: 1, Newest: true}, all[2])
			},
			func() error { return wantMessages(ctx, p, "room", chat.Range{After: edge, Before: edge, Limit: 5}) },
		); err != nil {
			return err
		}
	}
	return nil
}

func storeUnknownRoom(ctx context.Context, p chat.MessageStore) error {
	return first(
		func() error { return wantMessages(ctx, p, "nowhere", everything) },
		func() error { return wantMessages(ctx, p, "nowhere", chat.Range{After: 5, Limit: 1, Newest: true}) },
		func() error { return wantBounds(ctx, p, "nowhere", 1, 0) },
		func() error { return fill(ctx, p, "room", 2) },
		func() error { return wantMessages(ctx, p, "nowhere", everything) },
		func() error { return wantBounds(ctx, p, "nowhere", 1, 0) },
	)
}

func storeSeen(ctx context.Context, p chat.MessageStore) error {
	for n := 1; n <= 30; n++ {
		if err := first(
			func() error {
				return appendWant(ctx, p, []chat.Message{said("room", n)}, chat.Stored{Message: stored("room", n)})
			},
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{After: uint64(n - 1), Limit: 5}, stored("room", n))
			},
			func() error { return wantBounds(ctx, p, "room", 1, uint64(n)) },
		); err != nil {
			return err
		}
	}
	return nil
}

func storeReaders(ctx context.Context, p chat.MessageStore) error {
	const writers, each = 4, 15
	whole := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan struct{})
	look := func(ctx context.Context) error {
		all, err := p.List(ctx, "room", everything)
		for n, m := range all {
			if err == nil && m.Seq != uint64(n+1) {
				err = fmt.Errorf("a reader saw the sequence number %d where %d comes", m.Seq, n+1)
			}
		}
		return during("List", err)
	}
	errs := together(writers+2, func(i int) error {
		if i < writers {
			defer func() { written <- struct{}{} }()
			for k := range each {
				if _, err := p.Append(ctx, []chat.Message{said("room", 2*(i*each+k)+1), said("room", 2*(i*each+k)+2)}); err != nil {
					return during("Append", err)
				}
			}
			return nil
		}
		if i == writers {
			for range writers {
				<-written
			}
			cancel()
			return nil
		}
		for ctx.Err() == nil {
			if err := look(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return then(cmp.Or(errs...), func() error { return look(whole) })
}

func storeBounds(ctx context.Context, p chat.MessageStore) error {
	return first(
		func() error { return wantBounds(ctx, p, "room", 1, 0) },
		func() error { return fill(ctx, p, "room", 7) },
		func() error { return fill(ctx, p, "other", 2) },
		func() error { return wantBounds(ctx, p, "room", 1, 7) },
		func() error { return wantBounds(ctx, p, "other", 1, 2) },
	)
}

func storeCopies(ctx context.Context, p chat.MessageStore) error {
	given := []chat.Message{said("room", 1), said("room", 2)}
	got, err := p.Append(ctx, given)
	if err != nil || len(got) != 2 {
		return fmt.Errorf("2 messages were appended: %d answers, %w", len(got), orNone(err))
	}
	given[0].Text, got[0].Text, got[1].Seq = "changed", "changed", 77
	listed, err := p.List(ctx, "room", everything)
	if err == nil {
		err = same(listed, storedRange("room", 1, 2))
	}
	if err != nil {
		return fmt.Errorf("after what was given and returned was changed: %w", err)
	}
	listed[0].Text, listed[1] = "changed", chat.Message{}
	return during("after what List returned was changed", wantMessages(ctx, p, "room", everything, storedRange("room", 1, 2)...))
}

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
