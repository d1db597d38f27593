package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// changesOfStore are what a chat.MessageStore promises of messages that change.
func changesOfStore() []promise[chat.MessageStore] {
	const applies = "Change.Apply says what a change makes of the message, as the changes before it have left it, and what is refused."
	const next = "Each change that is not refused and not Repeated gets the next Rev of its room: from 1, without gaps, also under concurrent calls."
	return []promise[chat.MessageStore]{
		{"an edit takes the place of the text", "Change changes messages durably, all or none, in the order given, and returns one answer for each change. " +
			"Data is for Edit: empty, the message keeps what it has. EditedAt and DeletedAt are when it was last edited, and when it was deleted; zero if it was not.", changeEdit},
		{"changing nothing is no error", "Change changes messages durably, all or none, in the order given, and returns one answer for each change.", changeNothing},
		{"long and foreign texts are kept by edits", "It keeps every text, name, client id and key that CheckText, CheckRoom, CheckClientID and CheckReaction let through. " +
			"It keeps ReplyTo, and byte for byte all data that CompactData returns; a message without them stays without.", changeTexts},
		{"what is so already is not changed", "Repeated says that the message was so already: nothing was stored. " + applies, changeRepeated},
		{"others may not edit and delete", "Any says that By may edit and delete what others have written. " + applies, changeOthers},
		{"a deletion erases", "A deleted message keeps Seq, ID, ClientID, Author and At. What an edit or a deletion has taken from a message is in no answer any more, and in the store no longer than its adapter says.", changeDelete},
		{"a deleted message is still the one that was sent", "The answer to such a message is the stored one, with Repeated set. A deleted message keeps Seq, ID, ClientID, Author and At.", changeSentAgain},
		{"an erasure leaves nothing of the author", "An erased one keeps Seq, ID, At and the ID of its author. " + applies, changeErase},
		{"what was erased is sent anew", "An erased one keeps Seq, ID, At and the ID of its author. A message without a ClientID is always new.", changeErasedAgain},
		{"what is not stored is not found", "A change of a message that is not stored is refused with ErrMessageNotFound.", changeAbsent},
		{"a refused change harms no other", "A refused change has its error in its answer, and harms no other. Err says why the change was refused. Message is empty then, and nothing was stored.", changeRefused},
		{"a call that fails changes nothing", "Change changes messages durably, all or none, in the order given, and returns one answer for each change. " +
			"On an error nothing is changed, unless ctx ended or the store was lost meanwhile.", changeFails},
		{"an ended context leaves no gap between changes", "Then the outcome is unknown, and Rev still has no gaps.", changeEnded},
		{"changes of one call build on each other", applies + " The message has the Rev of its last change.", changeSeveral},
		{"rooms count changes apart", next, changeRooms},
		{"reactions come and go", "Key is for React and Unreact. Reactions are at most MaxReactionKeys, in the order in which their keys first came. " + applies, changeReact},
		{"a reaction too many is refused", "Reactions are at most MaxReactionKeys, in the order in which their keys first came. " + applies, changeFull},
		{"all who react are counted", "Each reaction of a user is kept, also of those whom the message does not name. Count is how many users have reacted so, at least 1. " +
			"Users are some of them, in the order in which they reacted: at most MaxReactionUsers.", changeMany},
		{"keys and users are exact", "Two rooms, authors, client ids or keys of reactions are the same only if they have the same bytes.", changeExact},
		{"concurrent changes leave no gap", next + " The message has the Rev of its last change.", changeConcurrent},
		{"concurrent reactions are counted once", "Each reaction of a user is kept, also of those whom the message does not name. Repeated says that the message was so already: nothing was stored. " +
			"It may be called from many goroutines.", changeReactRace},
		{"changed messages are listed by their last change", "Changed chooses, among the messages that were changed, by Rev instead of Seq: After and Before exclude Revs, and the messages are ascending by Rev. " +
			"Newest is not asked then. UpTo is, with Changed, the highest sequence of a message; 0 means any.", changeList},
		{"the edges of the sequence of changes", "Changed chooses, among the messages that were changed, by Rev instead of Seq: After and Before exclude Revs, and the messages are ascending by Rev.", changeEdges},
		{"paging visits every changed message once", "Changed chooses, among the messages that were changed, by Rev instead of Seq: After and Before exclude Revs, and the messages are ascending by Rev. " +
			"List returns the messages of room that r chooses, ascending by sequence, as they are now.", changePages},
		{"a returned change is seen", "List returns the messages of room that r chooses, ascending by sequence, as they are now. What was stored or changed before Bounds was called counts. " +
			"Rev is the highest number that a change was given, 0 if there was none.", changeSeen},
		{"readers never see a gap between changes", "Whoever sees a change can see all changes of the room with a lower Rev.", changeReaders},
		{"changed messages are copies", "Changing what was given or returned changes nothing stored.", changeCopies},
	}
}

// ledger is what a store must make of its messages: what chat.Change.Apply says, and who has reacted.
type ledger struct {
	rooms   map[string][]chat.Message // by room, ascending
	revs    map[string]uint64
	reacted map[reactor]bool
}

type reactor struct {
	room string
	seq  uint64
	key  string
	by   user.ID
}

// begin stores messages, in one call, and opens the ledger of them.
func begin(ctx context.Context, p chat.MessageStore, messages ...chat.Message) (*ledger, error) {
	l := &ledger{rooms: map[string][]chat.Message{}, revs: map[string]uint64{}, reacted: map[reactor]bool{}}
	var want []chat.Stored
	for _, m := range messages {
		m.Seq = uint64(len(l.rooms[m.Room]) + 1)
		l.rooms[m.Room] = append(l.rooms[m.Room], m)
		want = append(want, chat.Stored{Message: m})
	}
	return l, appendWant(ctx, p, messages, want...)
}

// beginWith is begin with the messages 1 to n of the room "room".
func beginWith(ctx context.Context, p chat.MessageStore, n int) (*ledger, error) {
	var messages []chat.Message
	for i := range n {
		messages = append(messages, said("room", i+1))
	}
	return begin(ctx, p, messages...)
}

// change enters a change, and returns the answer that it must have.
func (l *ledger) change(c chat.Change) chat.Changed {
	all := l.rooms[c.Room]
	if c.Seq == 0 || c.Seq > uint64(len(all)) {
		return chat.Changed{Err: chat.ErrMessageNotFound}
	}
	who := reactor{c.Room, c.Seq, c.Key, c.By.ID}
	m, changed, err := c.Apply(all[c.Seq-1], l.reacted[who])
	if err != nil {
		return chat.Changed{Err: err}
	}
	if changed {
		l.revs[c.Room]++
		m.Rev = l.revs[c.Room]
		l.reacted[who] = c.Kind == chat.React
		all[c.Seq-1] = m
	}
	return chat.Changed{Message: m, Repeated: !changed}
}

// do makes changes in one call, and wants the answers that the ledger has.
func (l *ledger) do(ctx context.Context, p chat.MessageStore, changes ...chat.Change) error {
	var want []chat.Changed
	for _, c := range changes {
		want = append(want, l.change(c))
	}
	got, err := p.Change(ctx, changes)
	if err == nil {
		err = sameChanged(got, want)
	}
	return during("Change", err)
}

// refusals are what a change may be refused by.
var refusals = []error{
	chat.ErrMessageNotFound, chat.ErrMessageDeleted, chat.ErrNotAllowed, chat.ErrReactionsFull, chat.ErrTextInvalid, chat.ErrDataInvalid, chat.ErrReactionInvalid,
}

func sameChanged(got, want []chat.Changed) error {
	if len(got) != len(want) {
		return fmt.Errorf("there are %d answers, want %d", len(got), len(want))
	}
	for i, w := range want {
		for _, refusal := range refusals {
			if errors.Is(w.Err, refusal) {
				w.Err = refusal
			}
		}
		switch g := got[i]; {
		case w.Err == nil && g.Err != nil, !errors.Is(g.Err, w.Err):
			return fmt.Errorf("the answer to change %d has the error %w, want %w", i+1, orNone(g.Err), orNone(w.Err))
		case g.Repeated != w.Repeated:
			return fmt.Errorf("the answer to change %d says Repeated %t, want %t", i+1, g.Repeated, w.Repeated)
		default:
			if err := same(g.Message, w.Message); err != nil {
				return fmt.Errorf("the answer to change %d: %w", i+1, err)
			}
		}
	}
	return nil
}

// changed are the messages of a room that r, which has Changed, chooses.
func (l *ledger) changed(room string, r chat.Range) []chat.Message {
	var all []chat.Message
	for _, m := range l.rooms[room] {
		if m.Rev > r.After && (r.Before == 0 || m.Rev < r.Before) && (r.UpTo == 0 || m.Seq <= r.UpTo) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b chat.Message) int { return cmp.Compare(a.Rev, b.Rev) })
	return all[:min(len(all), r.Limit)]
}

var everyChange = chat.Range{Changed: true, Limit: 10_000}

// same wants the store to have what the ledger has.
func (l *ledger) same(ctx context.Context, p chat.MessageStore) error {
	for room, all := range l.rooms {
		if err := first(
			func() error { return wantMessages(ctx, p, room, everything, all...) },
			func() error { return wantMessages(ctx, p, room, everyChange, l.changed(room, everyChange)...) },
			func() error {
				return wantAllBounds(ctx, p, room, chat.Bounds{First: 1, Last: uint64(len(all)), Rev: l.revs[room]})
			},
		); err != nil {
			return err
		}
	}
	return nil
}

// then makes changes, each in a call of its own, and wants the store to have what comes of them.
func (l *ledger) then(ctx context.Context, p chat.MessageStore, changes ...chat.Change) error {
	for _, c := range changes {
		if err := l.do(ctx, p, c); err != nil {
			return fmt.Errorf("%s: %w", changeText(c), err)
		}
	}
	return l.same(ctx, p)
}

func changeText(c chat.Change) string {
	kinds := map[chat.ChangeKind]string{chat.Edit: "an edit", chat.Delete: "a deletion", chat.React: "a reaction", chat.Unreact: "the end of a reaction", chat.Erase: "an erasure"}
	return fmt.Sprintf("%s of %d in %s by %s", kinds[c.Kind], c.Seq, clip(fmt.Sprintf("%+q", c.Room)), clip(fmt.Sprintf("%+q", c.By.ID)))
}

func wantAllBounds(ctx context.Context, p chat.MessageStore, room string, want chat.Bounds) error {
	got, err := p.Bounds(ctx, room)
	if err == nil && got != want {
		err = fmt.Errorf("they are %+v, want %+v", got, want)
	}
	return during(fmt.Sprintf("Bounds(%s)", clip(fmt.Sprintf("%+q", room))), err)
}

// author is who says what said says.
var author = chat.Author{ID: "user-1", Name: "Zoë Ångström"}

// edit, erase, react and unreact are changes in the room "room", by who has written its messages, at the moment n.
func edit(seq uint64, n int, text string) chat.Change {
	return chat.Change{Kind: chat.Edit, Room: "room", Seq: seq, By: author, Text: text, At: at(n)}
}

func erase(seq uint64, n int) chat.Change {
	return chat.Change{Kind: chat.Delete, Room: "room", Seq: seq, By: author, At: at(n)}
}

// anonymous is an erasure.
func anonymous(seq uint64, n int) chat.Change {
	c := erase(seq, n)
	c.Kind = chat.Erase
	return c
}

func react(seq uint64, n int, key string) chat.Change {
	return chat.Change{Kind: chat.React, Room: "room", Seq: seq, By: author, Key: key, At: at(n)}
}

func unreact(seq uint64, n int, key string) chat.Change {
	c := react(seq, n, key)
	c.Kind = chat.Unreact
	return c
}

// by returns c as done by another user.
func by(id user.ID, c chat.Change) chat.Change {
	c.By = chat.Author{ID: id, Name: "Somebody Else"}
	return c
}

// withData returns c with data.
func withData(c chat.Change, data string) chat.Change { c.Data = data; return c }

// anybody returns c with Any.
func anybody(c chat.Change) chat.Change { c.Any = true; return c }

// in returns c in another room.
func in(room string, c chat.Change) chat.Change { c.Room = room; return c }

func changeEdit(ctx context.Context, p chat.MessageStore) error {
	whole := said("room", 2)
	whole.ReplyTo, whole.Data, whole.ClientID = 1, `{"a":[1,2]}`, "client-1"
	l, err := begin(ctx, p, said("room", 1), whole, said("room", 3))
	return then(err, func() error {
		return l.then(ctx, p, edit(1, 11, "another text"), edit(2, 12, "data stays"), withData(edit(2, 13, "data stays"), `{"b":2}`), withData(edit(3, 14, "data comes"), `{}`), edit(1, 15, "and again"))
	})
}

func changeNothing(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 1)
	return then(err,
		func() error { return l.do(ctx, p) },
		func() error { return during("Change of nothing", second(p.Change(ctx, []chat.Change{}))) },
		func() error { return l.then(ctx, p, edit(1, 11, "changed")) },
		func() error { return l.do(ctx, p) },
		func() error { return l.same(ctx, p) },
	)
}

func changeTexts(ctx context.Context, p chat.MessageStore) error {
	texts := []string{long(chat.MaxText), "x", "  leading and trailing  ", "trailing newline\n", "'; DROP TABLE messages; --", `"\u0000\\`, "${x} {{x}} $set", "e\u0301 \u00e9", "\x01x\x7f", "null", "٣"}
	var messages []chat.Message
	for i := range texts {
		m := said(long(chat.MaxRoomName), i+1)
		m.Author.Name = long(user.MaxFullName)
		messages = append(messages, m)
	}
	l, err := begin(ctx, p, messages...)
	if err != nil {
		return err
	}
	with := fields("")
	var changes []chat.Change
	for i, text := range texts {
		c := edit(uint64(i+1), 20+i, text)
		c.Room, c.Data = messages[i].Room, with[i%len(with)].Data
		changes = append(changes, c)
	}
	key := react(1, 50, long(chat.MaxReactionKey))
	key.Room = messages[0].Room
	return l.then(ctx, p, append(changes, key)...)
}

func changeRepeated(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 3)
	return then(err,
		func() error {
			return l.then(ctx, p, withData(edit(1, 11, "changed"), `{"a":1}`), edit(1, 12, "changed"), withData(edit(1, 13, "changed"), `{"a":1}`), edit(2, 14, said("room", 2).Text))
		},
		func() error {
			return l.then(ctx, p, react(2, 15, "+1"), react(2, 16, "+1"), unreact(2, 17, "-1"), by("user-2", unreact(2, 18, "+1")), unreact(2, 19, "+1"), unreact(2, 20, "+1"))
		},
		func() error { return l.then(ctx, p, erase(3, 21), erase(3, 22), by("user-2", anybody(erase(3, 23)))) },
		func() error {
			return l.do(ctx, p, edit(2, 24, "changed"), edit(2, 25, "changed"), erase(2, 26), erase(2, 27))
		},
		func() error { return l.same(ctx, p) },
	)
}

func changeOthers(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 3)
	return then(err,
		func() error {
			return l.then(ctx, p, by("user-2", edit(1, 11, "mine now")), by("USER-1", edit(1, 12, "mine now")), by("user-2", erase(1, 13)), by("user-2", react(1, 14, "+1")), by("user-2", unreact(1, 15, "+1")))
		},
		func() error {
			return l.then(ctx, p, by("user-2", anybody(edit(1, 16, "moderated"))), by("user-2", anybody(erase(2, 17))), by("user-2", edit(1, 18, "moderated")), by("user-2", erase(2, 19)))
		},
	)
}

func changeErase(ctx context.Context, p chat.MessageStore) error {
	whole, other := said("room", 2), said("room", 3)
	whole.ReplyTo, whole.Data, whole.ClientID = 1, `{"a":[1,2]}`, "client-1"
	other.Author = chat.Author{ID: "user-2", Name: "Somebody Else"}
	l, err := begin(ctx, p, said("room", 1), whole, other, said("room", 4))
	return then(err,
		func() error { return l.then(ctx, p, edit(2, 11, "edited"), react(2, 12, "+1"), anonymous(2, 13)) },
		func() error {
			return l.then(ctx, p, erase(1, 14), anonymous(1, 15), anonymous(1, 16), anonymous(2, 17))
		},
		func() error {
			return l.then(ctx, p, edit(2, 18, "back"), react(1, 19, "+1"), erase(2, 20), anonymous(3, 21), anybody(anonymous(3, 22)))
		},
		// Of one call, the last word counts.
		func() error { return l.do(ctx, p, edit(4, 23, "edited"), erase(4, 24), anonymous(4, 25)) },
		func() error { return l.same(ctx, p) },
	)
}

func changeErasedAgain(ctx context.Context, p chat.MessageStore) error {
	first := said("room", 1)
	first.ClientID = "client-1"
	l, err := begin(ctx, p, first, said("room", 2))
	return then(err,
		func() error { return l.then(ctx, p, anonymous(1, 11), anonymous(2, 12)) },
		func() error {
			again := said("room", 3)
			again.ClientID = "client-1"
			again.Seq = 3
			return appendWant(ctx, p, []chat.Message{again}, chat.Stored{Message: again})
		},
	)
}

func changeDelete(ctx context.Context, p chat.MessageStore) error {
	whole := said("room", 2)
	whole.ReplyTo, whole.Data, whole.ClientID = 1, `{"a":[1,2]}`, "client-1"
	l, err := begin(ctx, p, said("room", 1), whole, said("room", 3))
	return then(err,
		func() error {
			return l.then(ctx, p, edit(2, 11, "edited"), react(2, 12, "+1"), by("user-2", react(2, 13, "+1")), erase(2, 14), erase(1, 15))
		},
		func() error {
			return l.then(ctx, p, edit(2, 16, "back"), react(2, 17, "+1"), unreact(2, 18, "+1"), react(1, 19, "x"))
		},
		func() error { return l.then(ctx, p, edit(3, 20, "the others are left alone")) },
	)
}

func changeSentAgain(ctx context.Context, p chat.MessageStore) error {
	gone, changed := named("room", "client-1", 1), named("room", "client-2", 2)
	l, err := begin(ctx, p, gone, changed)
	again := func() error {
		all := l.rooms["room"]
		return appendWant(ctx, p, []chat.Message{gone, named("room", "client-2", 9), named("room", "client-1", 8)},
			chat.Stored{Message: all[0], Repeated: true}, chat.Stored{Message: all[1], Repeated: true}, chat.Stored{Message: all[0], Repeated: true})
	}
	return then(err,
		func() error { return l.then(ctx, p, edit(2, 11, "changed"), react(2, 12, "+1"), erase(1, 13)) },
		again,
		func() error { return l.same(ctx, p) },
	)
}

func changeAbsent(ctx context.Context, p chat.MessageStore) error {
	l, err := begin(ctx, p, said("room", 1), said("other", 1), said("other", 2))
	if err != nil {
		return err
	}
	var changes []chat.Change
	for _, seq := range []uint64{0, 2, 3, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64} {
		changes = append(changes, edit(seq, 11, "changed"), erase(seq, 12), react(seq, 13, "+1"), anybody(unreact(seq, 14, "+1")))
	}
	changes = append(changes, in("nowhere", edit(1, 15, "changed")), in("ROOM", react(1, 16, "+1")))
	return first(
		func() error { return l.do(ctx, p, changes...) },
		func() error {
			return l.then(ctx, p, changes[0], changes[5], changes[len(changes)-2], react(1, 17, "+1"))
		},
		func() error { return wantAllBounds(ctx, p, "nowhere", chat.Bounds{First: 1}) },
	)
}

func changeRefused(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 4)
	return then(err,
		func() error { return l.then(ctx, p, erase(4, 11)) },
		func() error {
			return l.do(ctx, p,
				edit(1, 12, "one"), by("user-2", edit(1, 13, "foreign")), react(9, 14, "+1"), react(1, 15, "+1"), edit(4, 16, "deleted"),
				by("user-2", erase(2, 17)), edit(2, 18, "two"), react(4, 19, "+1"), in("nowhere", erase(1, 20)), erase(3, 21),
				edit(1, 22, ""), edit(1, 23, " "), withData(edit(1, 24, "x"), `"`+long(chat.MaxData)+`"`), react(1, 25, ""), react(1, 26, "\n"), unreact(1, 27, ""))
		},
		func() error { return l.same(ctx, p) },
		func() error { return l.then(ctx, p, react(2, 28, "+1")) },
	)
}

func changeFails(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 3)
	if err != nil {
		return err
	}
	if err := l.then(ctx, p, edit(1, 11, "changed")); err != nil {
		return err
	}
	// A kind that there is not fails. The port does not say whether that is the call or its one change. But not by half.
	changes := []chat.Change{edit(1, 12, "half"), {Room: "room", Seq: 2, By: author, At: at(13)}, erase(3, 14)}
	switch got, err := p.Change(ctx, changes); {
	case err != nil:
	case len(got) != len(changes) || got[1].Err == nil:
		return fmt.Errorf("a change of no kind has %d answers, and no error", len(got))
	default:
		if err := sameChanged([]chat.Changed{got[0], got[2]}, []chat.Changed{l.change(changes[0]), l.change(changes[2])}); err != nil {
			return err
		}
	}
	return first(
		func() error { return during("after a call that failed", l.same(ctx, p)) },
		func() error { return l.then(ctx, p, edit(2, 15, "changed")) },
	)
}

func changeEnded(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 3)
	if err != nil {
		return err
	}
	if err := l.then(ctx, p, edit(1, 11, "changed")); err != nil {
		return err
	}
	changes := []chat.Change{edit(1, 12, "ended"), react(2, 13, "+1")}
	got, err := p.Change(ended(ctx), changes)
	rev := uint64(1)
	if err != nil {
		b, err := p.Bounds(ctx, "room")
		if err != nil {
			return during("Bounds", err)
		}
		if rev = b.Rev; rev != 1 && rev != 3 {
			return fmt.Errorf("after a failed Change of 2 messages the Rev went from 1 to %d: not all or none", rev)
		}
	}
	if err == nil || rev == 3 {
		want := []chat.Changed{l.change(changes[0]), l.change(changes[1])}
		if err == nil {
			if err := sameChanged(got, want); err != nil {
				return fmt.Errorf("though its context had ended, Change succeeded: %w", err)
			}
		}
	}
	return l.then(ctx, p, edit(3, 14, "changed"))
}

func changeSeveral(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 2)
	return then(err,
		func() error {
			return l.do(ctx, p, edit(1, 11, "one"), react(1, 12, "+1"), edit(1, 13, "two"), by("user-2", react(1, 14, "+1")), edit(2, 15, "other"), unreact(1, 16, "+1"), edit(1, 17, "two"), edit(1, 18, "three"))
		},
		func() error { return l.same(ctx, p) },
		func() error {
			return l.do(ctx, p, erase(1, 19), edit(1, 20, "four"), react(2, 21, "x"), unreact(2, 22, "x"), react(2, 23, "y"))
		},
		func() error { return l.same(ctx, p) },
	)
}

func changeRooms(ctx context.Context, p chat.MessageStore) error {
	rooms := []string{"b", "a", "c"}
	var messages []chat.Message
	for _, room := range rooms {
		messages = append(messages, said(room, 1), said(room, 2))
	}
	l, err := begin(ctx, p, messages...)
	if err != nil {
		return err
	}
	for n := 1; n <= 3; n++ {
		var changes []chat.Change
		for i := range n {
			changes = append(changes, in(rooms[i], edit(1, 10*n+i, fmt.Sprintf("text %d", n))), in(rooms[2-i], react(2, 10*n+i, fmt.Sprint(n))))
		}
		if err := l.do(ctx, p, changes...); err != nil {
			return err
		}
	}
	return l.same(ctx, p)
}

func changeReact(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 2)
	return then(err,
		func() error {
			return l.then(ctx, p, react(1, 11, "b"), by("user-2", react(1, 12, "a")), by("user-2", react(1, 13, "b")), by("user-3", react(1, 14, "a")), react(1, 15, "c"))
		},
		func() error {
			return l.then(ctx, p, unreact(1, 16, "b"), by("user-2", unreact(1, 17, "b")), react(1, 18, "b"), by("user-2", unreact(1, 19, "a")), by("user-3", unreact(1, 20, "a")), unreact(1, 21, "c"), unreact(1, 22, "b"))
		},
		func() error {
			return l.then(ctx, p, react(1, 23, "a"), react(2, 24, "a"), edit(1, 25, "reactions stay"))
		},
	)
}

func changeFull(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 2)
	if err != nil {
		return err
	}
	var changes []chat.Change
	for i := range chat.MaxReactionKeys + 2 {
		changes = append(changes, react(1, 10+i, fmt.Sprintf("k%02d", i)))
	}
	return first(
		func() error { return l.do(ctx, p, changes...) },
		func() error { return l.same(ctx, p) },
		func() error {
			return l.then(ctx, p, by("user-2", react(1, 50, "k03")), by("user-2", react(1, 51, "more")))
		},
		func() error {
			return l.then(ctx, p, unreact(1, 52, "k07"), by("user-2", react(1, 53, "more")), react(1, 54, "k07"), react(2, 55, "k21"))
		},
	)
}

func changeMany(ctx context.Context, p chat.MessageStore) error {
	const n = chat.MaxReactionUsers + 10
	l, err := beginWith(ctx, p, 2)
	if err != nil {
		return err
	}
	who := func(i int) user.ID { return user.ID(fmt.Sprintf("user-%02d", i)) }
	var changes []chat.Change
	for i := range n {
		changes = append(changes, by(who(n-i), react(1, 10+i, "+1")), by(who(i), react(1, 10+i, "-1")))
	}
	return first(
		func() error { return l.do(ctx, p, changes[:n/2]...) },
		func() error { return l.do(ctx, p, changes[n/2:]...) },
		func() error { return l.same(ctx, p) },
		// The last ones are not named.
		func() error {
			return l.then(ctx, p, by(who(1), react(1, 60, "+1")), by(who(n-1), react(1, 61, "-1")), by("user-99", unreact(1, 62, "+1")))
		},
		func() error {
			return l.then(ctx, p, by(who(1), unreact(1, 63, "+1")), by(who(1), unreact(1, 64, "+1")), by(who(n-1), unreact(1, 65, "+1")))
		},
		func() error {
			return l.then(ctx, p, by(who(n-1), react(1, 66, "+1")), by(who(1), react(1, 67, "+1")), by(who(2), react(1, 68, "+1")))
		},
	)
}

func changeExact(ctx context.Context, p chat.MessageStore) error {
	keys := []string{"a", "A", "á", "a\u0301", "ａ", "a ", "👍", "👍🏽", "👎", "❤", "1", "01", "ß", "ss", "%", "_", "null", "'"}
	for _, key := range keys {
		if err := chat.CheckReaction(key); err != nil {
			return fmt.Errorf("the case is wrong: %q: %w", key, err)
		}
	}
	l, err := beginWith(ctx, p, 2)
	if err != nil {
		return err
	}
	var changes []chat.Change
	for i, key := range keys {
		changes = append(changes, react(1, 11+i, key))
	}
	for i, id := range []user.ID{"user-2", "USER-2", "User-2", "user-2 ", "usér-2"} {
		changes = append(changes, by(id, react(2, 41+i, "+1")))
	}
	return first(
		func() error { return l.do(ctx, p, changes...) },
		func() error { return l.same(ctx, p) },
		func() error {
			return l.then(ctx, p, unreact(1, 51, "A"), unreact(1, 52, "👎"), by("USER-2", unreact(2, 53, "+1")), react(1, 54, "A"))
		},
	)
}

func changeConcurrent(ctx context.Context, p chat.MessageStore) error {
	const writers, calls = 8, 5
	rooms := []string{"a", "b"}
	for _, room := range rooms {
		if err := fill(ctx, p, room, 4); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	answers := map[string][]chat.Message{}
	err := allTogether(writers, func(w int) error {
		for c := range calls {
			var changes []chat.Change
			for k := range 3 {
				n := (w*calls+c)*3 + k
				change := in(rooms[(w+k)%2], edit(uint64(n%4+1), n, fmt.Sprintf("text %d", n)))
				if k == 1 {
					change = by(user.ID(fmt.Sprintf("user-%03d", n)), in(change.Room, react(change.Seq, n, "+1")))
				}
				changes = append(changes, change)
			}
			got, err := p.Change(ctx, changes)
			if err != nil {
				return during("Change", err)
			}
			if len(got) != len(changes) {
				return fmt.Errorf("the port's Change of %d messages returned %d answers", len(changes), len(got))
			}
			mu.Lock()
			for i, g := range got {
				if g.Err != nil || g.Repeated || g.Room != changes[i].Room || g.Seq != changes[i].Seq {
					mu.Unlock()
					return fmt.Errorf("%s was answered by %d of %q, repeated %t, %w", changeText(changes[i]), g.Seq, g.Room, g.Repeated, orNone(g.Err))
				}
				answers[g.Room] = append(answers[g.Room], g.Message)
			}
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, room := range rooms {
		all := answers[room]
		slices.SortFunc(all, func(a, b chat.Message) int { return cmp.Compare(a.Rev, b.Rev) })
		last := make([]chat.Message, 4)
		for i, m := range all {
			if m.Rev != uint64(i+1) {
				return fmt.Errorf("in room %q the Rev %d was given out where %d comes", room, m.Rev, i+1)
			}
			last[m.Seq-1] = m
		}
		if err := first(
			func() error { return wantMessages(ctx, p, room, everything, last...) },
			func() error {
				return wantAllBounds(ctx, p, room, chat.Bounds{First: 1, Last: 4, Rev: uint64(len(all))})
			},
		); err != nil {
			return err
		}
	}
	return nil
}

func changeReactRace(ctx context.Context, p chat.MessageStore) error {
	const n = chat.MaxReactionUsers + 4
	if err := fill(ctx, p, "room", 1); err != nil {
		return err
	}
	var mu sync.Mutex
	fresh := map[user.ID]int{}
	err := allTogether(2*n, func(i int) error {
		c := by(user.ID(fmt.Sprintf("user-%02d", i/2)), react(1, i, "+1"))
		got, err := p.Change(ctx, []chat.Change{c})
		switch {
		case err != nil:
		case len(got) != 1:
			err = fmt.Errorf("it returned %d answers, want 1", len(got))
		case got[0].Err != nil:
			err = got[0].Err
		case !got[0].Repeated:
			mu.Lock()
			defer mu.Unlock()
			fresh[c.By.ID]++
		}
		return during(changeText(c), err)
	})
	if err != nil {
		return err
	}
	for id, times := range fresh {
		if times != 1 {
			return fmt.Errorf("%d of 2 concurrent reactions of %q are not Repeated, want exactly 1", times, id)
		}
	}
	all, err := p.List(ctx, "room", everything)
	switch {
	case err != nil:
	case len(all) != 1 || len(all[0].Reactions) != 1:
		err = fmt.Errorf("it returned %+v, want a message with one reaction", all)
	case all[0].Reactions[0].Count != n || len(fresh) != n:
		err = fmt.Errorf("%d users have reacted, %d of them with an answer that is not Repeated, and the count is %d", n, len(fresh), all[0].Reactions[0].Count)
	case all[0].Rev != n:
		err = fmt.Errorf("the Rev is %d after %d reactions", all[0].Rev, n)
	}
	if err != nil {
		return during("List", err)
	}
	named := slices.Clone(all[0].Reactions[0].Users)
	slices.Sort(named)
	if named = slices.Compact(named); len(named) != chat.MaxReactionUsers {
		return fmt.Errorf("the message names %d different users, want %d", len(named), chat.MaxReactionUsers)
	}
	return nil
}
