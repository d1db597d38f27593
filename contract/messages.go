package contract

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

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
