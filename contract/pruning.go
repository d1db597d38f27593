package contract

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Pruning is a chat.Pruner with the messages that it removes, and whoever reads them.
type Pruning struct {
	Pruner   chat.Pruner
	Messages chat.MessageStore
	Members  chat.Members
	Marks    chat.Marks

	Rooms        chat.Rooms
	Restrictions chat.Restrictions
}

func (p Pruning) reading() Reading {
	return Reading{Marks: p.Marks, Members: p.Members, Messages: p.Messages}
}

const (
	ages    = "Aged looks at the first messages of room that are stored, at most limit, and counts those that were stored before a time, up to the first that was not. Aged returns the sequence that comes behind them: without any, that is the First of Bounds."
	prunes  = "Prune removes the messages of room whose sequence is lower than first, durably, and returns how many."
	kept    = "Bounds has a higher First then, and the same Last and Rev: no sequence and no Rev is given out twice."
	prefix  = "A call that fails, or that ends half way, has removed the first messages or none: those that are left have no gaps."
	rests   = "What is left has its own sequence, Rev and reactions."
	gone    = "Their text, data, reactions and client ids are gone, and so are their changes and deletions."
	absent  = "A message that was removed is not stored: its change is refused with ErrMessageNotFound, and its ClientID may come again."
	stays   = "What members have read does not go back."
	drops   = "Drop removes what is stored of room, durably, and reports whether something is left."
	inParts = "One call removes at most limit messages or memberships, and at least one of them if there are any; messages go first, and of these the first ones."
	nothing = "When nothing is left, nothing of the room is stored: no message, change, reaction, membership or restriction."
	lasts   = "The room itself goes last: as long as something is left, Rooms has it."
	anew    = "A room of that name begins anew then: its sequence and its Rev are 1 again."
)

// Pruner is the suite of chat.Pruner.
func Pruner() []Case[Pruning] {
	return suite("Pruner", []promise[Pruning]{
		{"old messages are counted", ages, prunerAges},
		{"what is young ends the count", ages, prunerEndsAtYoung},
		{"an unknown room has no old messages", "An unknown room has none, and limit below 1 looks at none. " + prunes, prunerUnknown},
		{"the first messages are removed", prunes + " " + rests, prunerRemoves},
		{"no number comes twice", kept, prunerNumbers},
		{"all messages are removed", prunes + " " + kept + " Aged returns the sequence that comes behind them: without any, that is the First of Bounds.", prunerEmpties},
		{"other rooms stay", "Two rooms are the same only if they have the same bytes. " + prunes, prunerRooms},
		{"changes go with their messages", gone + " " + rests + " " + absent, prunerChanges},
		{"reactions that come again are new", gone + " " + rests, prunerReactions},
		{"a client id may come again", absent, prunerClientIDs},
		{"what is read stays read", stays + " A member has read what they have sent, and what comes before it.", prunerRead},
		{"what is removed is not unread", "A message counts as unread from when it is stored until it is read, deleted, or no longer stored.", prunerUnread},
		{"a room without messages has no last one", "Last is the last message that is stored, as it is now, also if it was deleted. Its Seq is 0 if there is none. Active is the later one of when Last was stored and when the member joined.", prunerMine},
		{"a call that fails leaves no gap", prefix, prunerEnded},
		{"calls at once leave no gap", "It may be called from many goroutines. " + prefix + " " + kept, prunerRace},
		{"a room is removed in parts", drops + " " + inParts + " " + lasts, dropParts},
		{"nothing of a removed room is stored", drops + " " + nothing, dropAll},
		{"a room of that name begins anew", anew, dropAnew},
		{"an unknown room has nothing left", "An unknown room has nothing left. Two rooms are the same only if they have the same bytes.", dropUnknown},
		{"a room of which all messages were removed is removed", drops + " " + nothing + " " + anew, dropPruned},
		{"all is exact after random steps", prunes + " " + rests + " " + stays, func(ctx context.Context, p Pruning) error { return pruningIsExact(ctx, p, 1, 100) }},
	})
}

// Pruned is one more case of [Pruner]: it takes random steps, as many as are asked for, and compares what is stored, read and unread after each of them. The
// same seed takes the same steps.
func Pruned(seed uint64, steps int) Case[Pruning] {
	return Case[Pruning]{
		Name: fmt.Sprintf("all is exact after %d random steps from seed %d", steps, seed), Rule: prunes,
		Check: func(ctx context.Context, p Pruning) error { return pruningIsExact(ctx, p, seed, steps) },
	}
}

func wantAged(ctx context.Context, p Pruning, room string, before time.Time, limit int, low uint64, n int) error {
	seq, aged, err := p.Pruner.Aged(ctx, room, before, limit)
	if err == nil && (seq != low || aged != n) {
		err = fmt.Errorf("there are %d, and %d comes behind them; want %d and %d", aged, seq, n, low)
	}
	return during(fmt.Sprintf("Aged(%s, %v, %d)", clip(fmt.Sprintf("%+q", room)), before.UTC(), limit), err)
}

func wantPruned(ctx context.Context, p Pruning, room string, low uint64, n int) error {
	removed, err := p.Pruner.Prune(ctx, room, low)
	if err == nil && removed != n {
		err = fmt.Errorf("it has removed %d, want %d", removed, n)
	}
	return during(fmt.Sprintf("Prune(%s, %d)", clip(fmt.Sprintf("%+q", room)), low), err)
}

func prunerAges(ctx context.Context, p Pruning) error {
	return first(
		func() error { return fill(ctx, p.Messages, "room", 7) },
		func() error { return wantAged(ctx, p, "room", at(1), 10, 1, 0) },
		func() error { return wantAged(ctx, p, "room", at(1).Add(time.Microsecond), 10, 2, 1) },
		func() error { return wantAged(ctx, p, "room", at(5), 10, 5, 4) },
		func() error { return wantAged(ctx, p, "room", at(5), 4, 5, 4) },
		func() error { return wantAged(ctx, p, "room", at(5), 3, 4, 3) },
		func() error { return wantAged(ctx, p, "room", at(5), 1, 2, 1) },
		func() error { return wantAged(ctx, p, "room", at(100), 10, 8, 7) },
		func() error { return wantAged(ctx, p, "room", at(100), 7, 8, 7) },
		func() error { return wantPruned(ctx, p, "room", 4, 3) },
		func() error { return wantAged(ctx, p, "room", at(4), 10, 4, 0) },
		func() error { return wantAged(ctx, p, "room", at(6), 10, 6, 2) },
		func() error { return wantAged(ctx, p, "room", at(6), 1, 5, 1) },
	)
}

// Clocks of several nodes differ, so that a message may be older than the one before.
func prunerEndsAtYoung(ctx context.Context, p Pruning) error {
	for _, n := range []int{1, 9, 2, 3} {
		if _, err := p.Messages.Append(ctx, []chat.Message{said("room", n)}); err != nil {
			return during("Append", err)
		}
	}
	return first(
		func() error { return wantAged(ctx, p, "room", at(5), 10, 2, 1) },
		func() error { return wantPruned(ctx, p, "room", 2, 1) },
		func() error { return wantAged(ctx, p, "room", at(5), 10, 2, 0) },
		func() error { return wantAged(ctx, p, "room", at(10), 10, 5, 3) },
	)
}

func prunerUnknown(ctx context.Context, p Pruning) error {
	return first(
		func() error { return wantAged(ctx, p, "nowhere", at(100), 10, 1, 0) },
		func() error { return wantPruned(ctx, p, "nowhere", 10, 0) },
		func() error { return wantAllBounds(ctx, p.Messages, "nowhere", chat.Bounds{First: 1}) },
		func() error { return fill(ctx, p.Messages, "room", 3) },
		func() error { return wantAged(ctx, p, "room", at(100), 0, 1, 0) },
		func() error { return wantAged(ctx, p, "room", at(100), -1, 1, 0) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 1, Last: 3}) },
	)
}

func prunerRemoves(ctx context.Context, p Pruning) error {
	return first(
		func() error { return fill(ctx, p.Messages, "room", 9) },
		func() error { return wantPruned(ctx, p, "room", 0, 0) },
		func() error { return wantPruned(ctx, p, "room", 1, 0) },
		func() error { return wantPruned(ctx, p, "room", 4, 3) },
		func() error { return wantPruned(ctx, p, "room", 4, 0) },
		func() error { return wantPruned(ctx, p, "room", 2, 0) },
		func() error { return wantMessages(ctx, p.Messages, "room", everything, storedRange("room", 4, 9)...) },
		func() error {
			return wantMessages(ctx, p.Messages, "room", chat.Range{After: 1, Limit: 2}, storedRange("room", 4, 5)...)
		},
		func() error {
			return wantMessages(ctx, p.Messages, "room", chat.Range{Before: 7, Limit: 2, Newest: true}, storedRange("room", 5, 6)...)
		},
		func() error { return wantMessages(ctx, p.Messages, "room", chat.Range{Before: 4, Limit: 2}) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 4, Last: 9}) },
		func() error { return wantPruned(ctx, p, "room", 9, 5) },
		func() error { return wantMessages(ctx, p.Messages, "room", everything, stored("room", 9)) },
	)
}

func prunerNumbers(ctx context.Context, p Pruning) error {
	l, err := beginWith(ctx, p.Messages, 4)
	next := func(n int, room string) error {
		return appendWant(ctx, p.Messages, []chat.Message{said(room, n)}, chat.Stored{Message: stored(room, n)})
	}
	return then(err,
		func() error { return l.do(ctx, p.Messages, edit(2, 11, "one"), edit(4, 12, "two")) },
		func() error { return wantPruned(ctx, p, "room", 3, 2) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 3, Last: 4, Rev: 2}) },
		func() error { return wantPruned(ctx, p, "room", 5, 2) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 5, Last: 4, Rev: 2}) },
		func() error { return next(5, "room") },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 5, Last: 5, Rev: 2}) },
		func() error { return wantPruned(ctx, p, "room", 6, 1) },
		func() error { return next(6, "room") },
		func() error { return next(7, "room") },
		func() error {
			got, err := p.Messages.Change(ctx, []chat.Change{edit(6, 13, "three")})
			if err == nil && (len(got) != 1 || got[0].Err != nil || got[0].Rev != 3) {
				err = fmt.Errorf("the next change is %+v, want the Rev 3", got)
			}
			return during("Change", err)
		},
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 6, Last: 7, Rev: 3}) },
	)
}

func prunerEmpties(ctx context.Context, p Pruning) error {
	none := func() error {
		return first(
			func() error { return wantMessages(ctx, p.Messages, "room", everything) },
			func() error { return wantMessages(ctx, p.Messages, "room", chat.Range{Limit: 5, Newest: true}) },
			func() error { return wantMessages(ctx, p.Messages, "room", everyChange) },
			func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 4, Last: 3}) },
			func() error { return wantAged(ctx, p, "room", at(100), 10, 4, 0) },
		)
	}
	return first(
		func() error { return fill(ctx, p.Messages, "room", 3) },
		func() error { return wantPruned(ctx, p, "room", 1_000_000, 3) },
		none,
		func() error { return wantPruned(ctx, p, "room", 1_000_000, 0) },
		none,
		func() error {
			return appendWant(ctx, p.Messages, []chat.Message{said("room", 4)}, chat.Stored{Message: stored("room", 4)})
		},
		func() error { return wantMessages(ctx, p.Messages, "room", everything, stored("room", 4)) },
		func() error { return wantMessages(ctx, p.Messages, "room", chat.Range{Limit: 1}, stored("room", 4)) },
		func() error { return wantAged(ctx, p, "room", at(100), 1, 5, 1) },
		func() error { return wantPruned(ctx, p, "room", 4, 0) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 4, Last: 4}) },
	)
}

func prunerRooms(ctx context.Context, p Pruning) error {
	for _, name := range names {
		if err := fill(ctx, p.Messages, name, 2); err != nil {
			return err
		}
	}
	for i, name := range names {
		if i%2 == 0 {
			if err := wantPruned(ctx, p, name, 2, 1); err != nil {
				return err
			}
		}
	}
	for i, name := range names {
		want := chat.Bounds{First: 1, Last: 2}
		if i%2 == 0 {
			want.First = 2
		}
		if err := first(
			func() error { return wantAllBounds(ctx, p.Messages, name, want) },
			func() error {
				return wantMessages(ctx, p.Messages, name, everything, storedRange(name, int(want.First), 2)...)
			},
			func() error { return wantAged(ctx, p, name, at(100), 10, 3, 3-int(want.First)) },
		); err != nil {
			return err
		}
	}
	return nil
}

// left takes what comes before low out of the ledger's room.
func (l *ledger) left(low uint64) []chat.Message {
	return slices.DeleteFunc(slices.Clone(l.rooms["room"]), func(m chat.Message) bool { return m.Seq < low })
}

func prunerChanges(ctx context.Context, p Pruning) error {
	l, err := beginWith(ctx, p.Messages, 6)
	changed := func(low uint64) []chat.Message {
		return slices.DeleteFunc(l.changed("room", everyChange), func(m chat.Message) bool { return m.Seq < low })
	}
	refused := func(changes ...chat.Change) error {
		got, err := p.Messages.Change(ctx, changes)
		for _, c := range got {
			if err == nil {
				err = wantIs("a change", c.Err, chat.ErrMessageNotFound)
			}
		}
		return during("Change", err)
	}
	return then(err,
		func() error {
			return l.then(ctx, p.Messages, edit(5, 11, "five"), withData(edit(1, 12, "one"), `{"a":1}`), erase(2, 13), react(3, 14, "👍"), by("user-2", react(3, 15, "👍")),
				react(5, 16, "+1"), edit(6, 17, "six"), anonymous(4, 18), edit(1, 19, "one again"), erase(6, 20))
		},
		func() error { return wantPruned(ctx, p, "room", 4, 3) },
		func() error { return wantMessages(ctx, p.Messages, "room", everything, l.left(4)...) },
		func() error { return wantMessages(ctx, p.Messages, "room", everyChange, changed(4)...) },
		func() error {
			return wantMessages(ctx, p.Messages, "room", chat.Range{Changed: true, UpTo: 3, Limit: 10})
		},
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 4, Last: 6, Rev: 10}) },
		func() error {
			return refused(edit(1, 21, "no"), anybody(erase(2, 22)), react(3, 23, "👍"), unreact(3, 24, "👍"), anonymous(3, 25))
		},
		func() error {
			return l.do(ctx, p.Messages, edit(5, 26, "five again"), by("user-2", react(5, 27, "+1")))
		},
		func() error { return wantMessages(ctx, p.Messages, "room", everything, l.left(4)...) },
		func() error { return wantMessages(ctx, p.Messages, "room", everyChange, changed(4)...) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 4, Last: 6, Rev: 12}) },
		func() error { return wantPruned(ctx, p, "room", 7, 3) },
		func() error { return wantMessages(ctx, p.Messages, "room", everyChange) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 7, Last: 6, Rev: 12}) },
		func() error { return refused(edit(5, 28, "no"), anybody(erase(6, 29))) },
	)
}

func prunerReactions(ctx context.Context, p Pruning) error {
	l, err := beginWith(ctx, p.Messages, 3)
	return then(err,
		func() error {
			return l.then(ctx, p.Messages, react(1, 11, "👍"), react(2, 12, "👍"), by("user-2", react(2, 13, "👍")))
		},
		func() error { return wantPruned(ctx, p, "room", 2, 1) },
		func() error {
			return l.do(ctx, p.Messages, react(2, 14, "👍"), react(3, 15, "👍"), unreact(2, 16, "👍"))
		},
		func() error { return wantMessages(ctx, p.Messages, "room", everything, l.left(2)...) },
	)
}

func prunerClientIDs(ctx context.Context, p Pruning) error {
	withID := func(n int, id string) chat.Message {
		m := said("room", n)
		m.ClientID = id
		return m
	}
	return first(
		func() error {
			return appendWant(ctx, p.Messages, []chat.Message{withID(1, "a"), withID(2, "b"), withID(3, "")},
				chat.Stored{Message: withSeq(withID(1, "a"), 1)}, chat.Stored{Message: withSeq(withID(2, "b"), 2)}, chat.Stored{Message: withSeq(withID(3, ""), 3)})
		},
		func() error { return wantPruned(ctx, p, "room", 2, 1) },
		func() error {
			return appendWant(ctx, p.Messages, []chat.Message{withID(4, "a"), withID(5, "b")},
				chat.Stored{Message: withSeq(withID(4, "a"), 4)}, chat.Stored{Message: withSeq(withID(2, "b"), 2), Repeated: true})
		},
		func() error { return wantPruned(ctx, p, "room", 5, 3) },
		func() error {
			return appendWant(ctx, p.Messages, []chat.Message{withID(5, "b")}, chat.Stored{Message: withSeq(withID(5, "b"), 5)})
		},
	)
}

func prunerRead(ctx context.Context, p Pruning) error {
	r := p.reading()
	return first(
		func() error { return enters(ctx, r, "room", "user-1", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 6) }, // by user-1
		func() error {
			return wantMarked(ctx, r, []chat.Mark{mark("room", "user-2", 2)}, chat.Marked{Read: 2, Unread: 4, Moved: true})
		},
		func() error {
			_, err := p.Messages.Append(ctx, []chat.Message{func() chat.Message { m := said("room", 7); m.Author.ID = "user-3"; return m }()})
			return during("Append", err)
		},
		func() error { return wantPruned(ctx, p, "room", 5, 4) },
		func() error { return wantRead(ctx, r, "room", "user-1", 6, 1) },
		func() error { return wantRead(ctx, r, "room", "user-2", 2, 3) },
		func() error { return wantPruned(ctx, p, "room", 8, 3) },
		func() error { return wantRead(ctx, r, "room", "user-1", 6, 0) },
		func() error { return wantRead(ctx, r, "room", "user-2", 2, 0) },
		func() error {
			got, err := p.Members.RoomsOf(ctx, "user-1", "", 10)
			if err == nil && (len(got) != 1 || got[0].Read != 6) {
				err = fmt.Errorf("they are %+v, want one that has read 6", got)
			}
			return during("RoomsOf", err)
		},
		func() error { return enters(ctx, r, "room", "user-4") },
		func() error { return wantRead(ctx, r, "room", "user-4", 7, 0) },
		func() error {
			return wantMarked(ctx, r, []chat.Mark{mark("room", "user-1", 100)}, chat.Marked{Read: 7, Moved: true})
		},
	)
}

func prunerUnread(ctx context.Context, p Pruning) error {
	r := p.reading()
	return first(
		func() error { return enters(ctx, r, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 8) },
		func() error { return deletes(ctx, r, "room", 2, 4, 7) },
		func() error { return wantRead(ctx, r, "room", "user-2", 0, 5) },
		func() error { return wantPruned(ctx, p, "room", 3, 2) },
		func() error { return wantRead(ctx, r, "room", "user-2", 0, 4) },
		func() error { return wantPruned(ctx, p, "room", 5, 2) },
		func() error { return wantRead(ctx, r, "room", "user-2", 0, 3) },
		func() error { return wantPruned(ctx, p, "room", 9, 4) },
		func() error { return wantRead(ctx, r, "room", "user-2", 0, 0) },
		func() error {
			return appendWant(ctx, p.Messages, []chat.Message{said("room", 9)}, chat.Stored{Message: stored("room", 9)})
		},
		func() error { return wantRead(ctx, r, "room", "user-2", 0, 1) },
	)
}

func prunerMine(ctx context.Context, p Pruning) error {
	r := p.reading()
	wantMine := func(want chat.MyRoom) error {
		got, err := p.Marks.Mine(ctx, "user-2", chat.Place{}, 10)
		return during("Mine", then(err, func() error { return same(got, []chat.MyRoom{want}) }))
	}
	joined := membership("room", "user-2", 0)
	want := chat.MyRoom{Membership: joined, Seq: 3, Rev: 1, Active: joined.Since}
	now := want
	now.Seq, now.Unread, now.Last, now.Active = 4, 1, stored("room", 4), at(4)
	return first(
		func() error { return enters(ctx, r, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 3) },
		func() error { return deletes(ctx, r, "room", 2) },
		func() error { return wantPruned(ctx, p, "room", 4, 3) },
		func() error { return wantMine(want) },
		func() error {
			return appendWant(ctx, p.Messages, []chat.Message{said("room", 4)}, chat.Stored{Message: stored("room", 4)})
		},
		func() error { return wantMine(now) },
	)
}

func prunerEnded(ctx context.Context, p Pruning) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	var low uint64
	return first(
		func() error { return fill(ctx, p.Messages, "room", 9) },
		func() error {
			_, _, err := p.Pruner.Aged(ended, "room", at(100), 10)
			return during("Aged with a context that has ended", wantFailure(err))
		},
		func() error {
			_, err := p.Pruner.Prune(ended, "room", 5)
			return during("Prune with a context that has ended", wantFailure(err))
		},
		func() error {
			got, err := p.Messages.List(ctx, "room", everything)
			if err == nil && (len(got) == 0 || got[len(got)-1].Seq != 9 || len(got) < 5) {
				err = fmt.Errorf("%d are left", len(got))
			}
			if err == nil {
				low = got[0].Seq
				err = contiguous(got)
			}
			return during("List", err)
		},
		func() error { return wantPruned(ctx, p, "room", 5, int(5-low)) },
	)
}

func wantFailure(err error) error {
	if err == nil {
		return errors.New("it has no error")
	}
	return nil
}

// prunerRace sends, changes, lists and removes at once. Whoever lists sees no gap.
func prunerRace(ctx context.Context, p Pruning) error {
	const all, writers = 60, 3
	if err := fill(ctx, p.Messages, "room", 3); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, writers+4)
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				errs <- err
				cancel()
			}
		})
	}
	done := make(chan struct{})
	var sending sync.WaitGroup
	for w := range writers {
		sending.Add(1)
		run(func() error {
			defer sending.Done()
			for n := range all / writers {
				m := said("room", 10+n)
				m.ID, m.Author.ID = fmt.Sprintf("%d/%d", w, n), user.ID(fmt.Sprintf("user-%d", w))
				got, err := p.Messages.Append(ctx, []chat.Message{m})
				if err != nil {
					return during("Append", err)
				}
				answers, err := p.Messages.Change(ctx, []chat.Change{anybody(edit(got[0].Seq, 100+n, "edited")), anybody(erase(max(got[0].Seq, 4)-3, 100+n))})
				for _, a := range answers {
					if err == nil && a.Err != nil && !errors.Is(a.Err, chat.ErrMessageNotFound) && !errors.Is(a.Err, chat.ErrMessageDeleted) {
						err = a.Err
					}
				}
				if err != nil {
					return during("Change", err)
				}
			}
			return nil
		})
	}
	go func() { sending.Wait(); close(done) }()
	until := func(f func() error) func() error {
		return func() error {
			for n := 0; ; n++ {
				select {
				case <-done:
					if n >= 20 {
						return nil
					}
				default:
				}
				if err := f(); err != nil {
					return err
				}
			}
		}
	}
	for range 2 {
		run(until(func() error {
			low, aged, err := p.Pruner.Aged(ctx, "room", at(10_000), 4)
			b := chat.Bounds{}
			if err == nil {
				b, err = p.Messages.Bounds(ctx, "room")
			}
			if err == nil && aged > 0 && low+10 <= b.Last { // some stay
				_, err = p.Pruner.Prune(ctx, "room", low)
			}
			return during("Prune", err)
		}))
	}
	whole := func() error {
		got, err := p.Messages.List(ctx, "room", everything)
		return during("List", then(err, func() error { return contiguous(got) }))
	}
	before := chat.Bounds{}
	rises := func() error {
		b, err := p.Messages.Bounds(ctx, "room")
		if err == nil && (b.First < before.First || b.Last < before.Last || b.Rev < before.Rev) {
			err = fmt.Errorf("they go back from %+v to %+v", before, b)
		}
		before = b
		return during("Bounds", err)
	}
	run(until(whole))
	run(until(rises))
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	for range 20 {
		if err := first(whole, rises); err != nil {
			return err
		}
	}
	if before.Last != all+3 || before.First <= 1 {
		return during("Bounds", fmt.Errorf("they are %+v, want the last one to be %d", before, all+3))
	}
	return nil
}

// pruningIsExact sends, changes, marks and removes at random in two rooms, and looks after each step.
func pruningIsExact(ctx context.Context, p Pruning, seed uint64, steps int) error {
	random := rand.New(rand.NewPCG(seed, seed))
	r := p.reading()
	rooms := map[string]*pruned{"room": {low: 1}, "other": {low: 1}}
	for name := range rooms {
		if err := enters(ctx, r, name, "user-2"); err != nil {
			return err
		}
	}
	for n := range steps {
		name := []string{"room", "other"}[random.IntN(2)]
		room := rooms[name]
		what, err := room.step(ctx, p, random, n, name)
		if err == nil {
			err = room.look(ctx, p, name)
		}
		if err != nil {
			return fmt.Errorf("step %d, %s in %s: %w", n, what, name, err)
		}
	}
	return nil
}

// pruned is what a room must have.
type pruned struct {
	all  []chat.Message // also those that were removed
	low  uint64
	rev  uint64
	read uint64
}

func (r *pruned) step(ctx context.Context, p Pruning, random *rand.Rand, n int, room string) (what string, err error) {
	switch step := random.IntN(8); {
	case step < 3:
		m := said(room, n)
		m.ID = fmt.Sprintf("%s-%d", room, n)
		if step == 2 {
			m.Author = chat.Author{ID: "user-2", Name: "Somebody Else"}
			r.read = uint64(len(r.all) + 1)
		}
		m.Seq = uint64(len(r.all) + 1)
		r.all = append(r.all, m)
		return "sending", appendWant(ctx, p.Messages, []chat.Message{m}, chat.Stored{Message: m})
	case len(r.all) == 0:
		return "nothing", nil
	case step < 6:
		seq := uint64(1 + random.IntN(len(r.all)))
		c := anybody(in(room, edit(seq, n, fmt.Sprintf("edit %d", n))))
		if step == 5 {
			c = anybody(in(room, erase(seq, n)))
		}
		want := chat.Changed{Err: chat.ErrMessageNotFound}
		if seq >= r.low {
			after, changed, err := c.Apply(r.all[seq-1], false)
			switch {
			case err != nil:
				want.Err = err
			case changed:
				r.rev++
				after.Rev = r.rev
				r.all[seq-1] = after
				want = chat.Changed{Message: after}
			default:
				want = chat.Changed{Message: after, Repeated: true}
			}
		}
		got, err := p.Messages.Change(ctx, []chat.Change{c})
		return changeText(c), during("Change", then(err, func() error { return sameChanged(got, []chat.Changed{want}) }))
	case step == 6:
		to := uint64(random.IntN(len(r.all) + 2))
		before := r.read
		r.read = max(r.read, min(to, uint64(len(r.all))))
		return fmt.Sprintf("marking %d", to), wantMarked(ctx, p.reading(), []chat.Mark{mark(room, "user-2", to)},
			chat.Marked{Read: r.read, Unread: r.unread(), Moved: r.read > before})
	default:
		low := r.low + uint64(random.IntN(4))
		removed := 0
		for r.low < low && r.low <= uint64(len(r.all)) {
			r.low++
			removed++
		}
		return fmt.Sprintf("removing up to %d", low), wantPruned(ctx, p, room, low, removed)
	}
}

func (r *pruned) unread() (n uint64) {
	for _, m := range r.all[max(r.read, r.low-1):] {
		if m.DeletedAt.IsZero() {
			n++
		}
	}
	return n
}

func (r *pruned) look(ctx context.Context, p Pruning, room string) error {
	l := ledger{rooms: map[string][]chat.Message{room: r.all[r.low-1:]}}
	return first(
		func() error { return wantMessages(ctx, p.Messages, room, everything, r.all[r.low-1:]...) },
		func() error { return wantMessages(ctx, p.Messages, room, everyChange, l.changed(room, everyChange)...) },
		func() error {
			return wantAllBounds(ctx, p.Messages, room, chat.Bounds{First: r.low, Last: uint64(len(r.all)), Rev: r.rev})
		},
		func() error { return wantRead(ctx, p.reading(), room, "user-2", r.read, r.unread()) },
		func() error {
			mine, err := p.Marks.Mine(ctx, "user-2", chat.Place{}, 10)
			i := slices.IndexFunc(mine, func(m chat.MyRoom) bool { return m.Room == room })
			want := chat.Message{}
			if int(r.low) <= len(r.all) {
				want = r.all[len(r.all)-1]
			}
			switch {
			case err != nil:
			case i < 0:
				err = errors.New("the room is missing")
			case mine[i].Unread != r.unread() || mine[i].Read != r.read || mine[i].Seq != uint64(len(r.all)):
				err = fmt.Errorf("it is %+v, want %d read and %d unread", mine[i], r.read, r.unread())
			default:
				err = same(mine[i].Last, want)
			}
			return during("Mine", err)
		},
	)
}
