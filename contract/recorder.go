package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
)

// Recorded is the port of [Recorder]: a store of messages, and the outbox into which it puts events.
type Recorded struct {
	Recorder chat.Recorder
	Outbox   event.Outbox
	Asides   event.Asides
}

const (
	recorded       = "Recording returns the store, which puts an event into the outbox for each message that its Append stores, and for each that its Change changes: what record returns."
	recordedOnce   = "A message and its events are stored in one commit: both are, or neither is."
	recordedOrder  = "The events of a room are in the order of its sequence, and those of its changes in the order of Rev."
	recordedNot    = "What was Repeated or refused has no event."
	recordedForget = "A deletion, or an erasure, takes the events away that the outbox holds of the message, also those that were set aside, but for its own."
)

// Recorder is the suite of chat.Recorder.
func Recorder() []Case[Recorded] {
	return suite("Recorder", []promise[Recorded]{
		{"what is stored and changed has its event", recorded, recorderKeeps},
		{"many messages have their events", recorded + " " + recordedOnce, recorderMany},
		{"a record may decline", "It returns false for none.", recorderDeclines},
		{"events are in the order of the rooms", recordedOrder, recorderOrder},
		{"what is repeated or refused has no event", recordedNot, recorderRepeats},
		{"what is not stored has no event", recordedOnce, recorderNothing},
		{"a deletion takes events away", recordedForget, recorderForgets},
		{"an erasure takes events away", recordedForget, recorderErases},
		{"a deletion takes away what came in the same call", recordedForget, recorderForgetsAtOnce},
		{"a deletion takes away what was set aside", recordedForget, recorderForgetsAside},
	})
}

// recordAll is a record of everything.
func recordAll(m chat.Message, c *chat.Change) (event.Event, bool) {
	e := event.Event{ID: m.ID, Topic: "topic", Type: "created", Key: m.Room, Time: m.At, Data: fmt.Appendf(nil, `{"seq":%d,"text":%q}`, m.Seq, m.Text)}
	if c != nil {
		e.ID, e.Type, e.Time = fmt.Sprintf("%s-%d", m.ID, m.Rev), fmt.Sprintf("changed %d", c.Kind), c.At
	}
	return e, true
}

// recording opens the store that records everything.
func (p Recorded) recording() (chat.MessageStore, error) {
	s, err := p.Recorder.Recording(recordAll)
	return s, during("Recording", err)
}

// wantIDs wants these events to be pending, in this order.
func (p Recorded) wantIDs(ctx context.Context, want ...string) error {
	events, err := p.Outbox.Pending(ctx, 1000)
	got := []string{}
	for _, e := range events {
		got = append(got, e.ID)
	}
	return during("Pending", then(err, func() error { return same(got, append([]string{}, want...)) }))
}

// note is a message with an ID.
func note(room, id string, n int) chat.Message {
	m := said(room, n)
	m.ID, m.ClientID = id, ""
	return m
}

func alter(kind chat.ChangeKind, m chat.Message, n int) chat.Change {
	c := chat.Change{Kind: kind, Room: m.Room, Seq: m.Seq, By: m.Author, At: at(n)}
	switch kind {
	case chat.Edit:
		c.Text = fmt.Sprintf("text %d", n)
	case chat.React, chat.Unreact:
		c.Key = "👍"
	}
	return c
}

// changeEach makes one change after the other, each of which must be stored.
func changeEach(ctx context.Context, s chat.MessageStore, changes ...chat.Change) error {
	for _, c := range changes {
		answers, err := s.Change(ctx, []chat.Change{c})
		if err == nil && (answers[0].Err != nil || answers[0].Repeated) {
			err = fmt.Errorf("it was not made: %w", orNone(answers[0].Err))
		}
		if err != nil {
			return during("Change", err)
		}
	}
	return nil
}

func recorderKeeps(ctx context.Context, p Recorded) error {
	s, err := p.recording()
	if err != nil {
		return err
	}
	stored, err := s.Append(ctx, []chat.Message{note("room", "a", 1), note("other", "b", 2), note("room", "c", 3)})
	if err != nil {
		return during("Append", err)
	}
	var want []event.Event
	for _, m := range stored {
		e, _ := recordAll(m.Message, nil)
		want = append(want, e)
	}
	c := stored[2].Message
	for n, change := range []chat.Change{alter(chat.Edit, c, 4), alter(chat.React, c, 5), alter(chat.Unreact, c, 6)} {
		answers, err := s.Change(ctx, []chat.Change{change})
		if err != nil {
			return during("Change", err)
		}
		if answers[0].Err != nil {
			return during("Change", answers[0].Err)
		}
		e, _ := recordAll(answers[0].Message, &change)
		if want = append(want, e); answers[0].Rev != uint64(n+1) {
			return fmt.Errorf("the change has the Rev %d, want %d", answers[0].Rev, n+1)
		}
	}
	events, err := p.Outbox.Pending(ctx, 100)
	return during("Pending", then(err, func() error { return same(events, want) }))
}

func recorderMany(ctx context.Context, p Recorded) error {
	s, err := p.recording()
	if err != nil {
		return err
	}
	var batch []chat.Message
	var want []string
	for i := range 300 {
		id := fmt.Sprintf("m%03d", i)
		want = append(want, id)
		batch = append(batch, note("room", id, i))
	}
	if _, err := s.Append(ctx, batch); err != nil {
		return during("Append", err)
	}
	return p.wantIDs(ctx, want...)
}

func recorderDeclines(ctx context.Context, p Recorded) error {
	s, err := p.Recorder.Recording(func(m chat.Message, c *chat.Change) (event.Event, bool) {
		e, _ := recordAll(m, c)
		return e, m.Author.ID == "user-2" || c != nil && c.Kind == chat.React
	})
	if err != nil {
		return during("Recording", err)
	}
	other := note("room", "b", 2)
	other.Author.ID = "user-2"
	stored, err := s.Append(ctx, []chat.Message{note("room", "a", 1), other})
	if err != nil {
		return during("Append", err)
	}
	return first(
		func() error {
			return changeEach(ctx, s, alter(chat.Edit, stored[0].Message, 3), alter(chat.React, stored[0].Message, 4))
		},
		func() error { return p.wantIDs(ctx, "b", "a-2") },
	)
}

func recorderOrder(ctx context.Context, p Recorded) error {
	s, err := p.recording()
	if err != nil {
		return err
	}
	const writers, each = 4, 8
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				stored, err := s.Append(ctx, []chat.Message{note("room", fmt.Sprintf("w%dx%d", w, i), i), note(fmt.Sprintf("own %d", w), fmt.Sprintf("o%dx%d", w, i), i)})
				if err == nil {
					err = changeEach(ctx, s, alter(chat.Edit, stored[0].Message, i))
				}
				if err != nil {
					errs[w] = err
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
	var seqs, revs []uint64
	for _, e := range events {
		if e.Key != "room" {
			continue
		}
		if _, rev, ok := strings.Cut(e.ID, "-"); ok {
			var n uint64
			if _, err := fmt.Sscan(rev, &n); err != nil {
				return err
			}
			revs = append(revs, n)
			continue
		}
		var n uint64
		if _, err := fmt.Sscanf(string(e.Data), `{"seq":%d`, &n); err != nil {
			return err
		}
		seqs = append(seqs, n)
	}
	if len(seqs) != writers*each || len(revs) != writers*each || !slices.IsSorted(seqs) || !slices.IsSorted(revs) {
		return fmt.Errorf("the events of the room have the sequence %v and the Revs %v; want 1 to %d of both, in order", seqs, revs, writers*each)
	}
	return nil
}

func recorderRepeats(ctx context.Context, p Recorded) error {
	s, err := p.recording()
	if err != nil {
		return err
	}
	m := note("room", "a", 1)
	m.ClientID = "client-1"
	again := m
	again.ID = "b"
	stored, err := s.Append(ctx, []chat.Message{m, again})
	if err != nil {
		return during("Append", err)
	}
	a := stored[0].Message
	strangers := alter(chat.Edit, a, 3)
	strangers.By.ID = "stranger"
	nowhere := alter(chat.Edit, a, 4)
	nowhere.Seq = 99
	unread := alter(chat.Unreact, a, 5)
	return first(
		func() error { _, err := s.Append(ctx, []chat.Message{again}); return during("Append", err) },
		func() error {
			_, err := s.Change(ctx, []chat.Change{strangers, nowhere, unread})
			return during("Change", err)
		},
		func() error { return p.wantIDs(ctx, "a") },
		func() error { return changeEach(ctx, s, alter(chat.React, a, 6)) },
		func() error {
			_, err := s.Change(ctx, []chat.Change{alter(chat.React, a, 7)})
			return during("Change", err)
		},
		func() error { return p.wantIDs(ctx, "a", "a-1") },
	)
}

func recorderNothing(ctx context.Context, p Recorded) error {
	s, err := p.recording()
	if err != nil {
		return err
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Append(gone, []chat.Message{note("room", "a", 1)}); err == nil {
		return during("Append", errors.New("there was no error although the context had ended"))
	}
	b, err := s.Bounds(ctx, "room")
	return then(during("Bounds", err),
		func() error { return same(b.Last, uint64(0)) },
		func() error { return p.wantIDs(ctx) },
	)
}

// twoEdited stores two messages, edits both, and returns them.
func twoEdited(ctx context.Context, p Recorded) (s chat.MessageStore, a, other chat.Message, err error) {
	if s, err = p.recording(); err != nil {
		return s, a, other, err
	}
	stored, err := s.Append(ctx, []chat.Message{note("room", "a", 1), note("room", "ab", 2)})
	if err != nil {
		return s, a, other, during("Append", err)
	}
	a, other = stored[0].Message, stored[1].Message
	return s, a, other, changeEach(ctx, s, alter(chat.Edit, a, 3), alter(chat.Edit, other, 4), alter(chat.React, a, 5))
}

func recorderForgets(ctx context.Context, p Recorded) error {
	s, a, _, err := twoEdited(ctx, p)
	return then(err,
		func() error { return p.wantIDs(ctx, "a", "ab", "a-1", "ab-2", "a-3") },
		func() error { return changeEach(ctx, s, alter(chat.Delete, a, 6)) },
		func() error { return p.wantIDs(ctx, "ab", "ab-2", "a-4") },
	)
}

func recorderErases(ctx context.Context, p Recorded) error {
	s, a, _, err := twoEdited(ctx, p)
	return then(err,
		func() error { return changeEach(ctx, s, alter(chat.Delete, a, 6), alter(chat.Erase, a, 7)) },
		func() error { return p.wantIDs(ctx, "ab", "ab-2", "a-5") },
	)
}

func recorderForgetsAtOnce(ctx context.Context, p Recorded) error {
	s, a, other, err := twoEdited(ctx, p)
	return then(err,
		func() error {
			_, err := s.Change(ctx, []chat.Change{alter(chat.Edit, a, 6), alter(chat.Edit, other, 7), alter(chat.Delete, a, 8)})
			return during("Change", err)
		},
		func() error { return p.wantIDs(ctx, "ab", "ab-2", "ab-5", "a-6") },
	)
}

func recorderForgetsAside(ctx context.Context, p Recorded) error {
	s, a, _, err := twoEdited(ctx, p)
	return then(err,
		func() error { return during("SetAside", p.Outbox.SetAside(ctx, "a-1", "too large")) },
		func() error { return during("SetAside", p.Outbox.SetAside(ctx, "ab-2", "too large")) },
		func() error { return changeEach(ctx, s, alter(chat.Delete, a, 6)) },
		func() error { return p.wantIDs(ctx, "ab", "a-4") },
		func() error {
			all, err := p.Asides.List(ctx, event.Filter{Limit: 10})
			if err == nil && (len(all) != 1 || all[0].Event.ID != "ab-2") {
				err = fmt.Errorf("%d events are set aside, want the other message's alone", len(all))
			}
			return during("List", err)
		},
	)
}
