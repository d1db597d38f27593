package parley

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/webhook"
)

// tellsMessages reports whether anything is told of messages.
func (cfg *Config) tellsMessages() bool {
	return cfg.Webhooks.Any(webhook.MessageCreated, webhook.MessageChanged)
}

// recordOf makes the facts of messages. A deletion always has one: it forgets what waits.
func recordOf(s webhook.Selection) chat.Record {
	created, changed := s.Has(webhook.MessageCreated), s.Has(webhook.MessageChanged)
	return func(m chat.Message, c *chat.Change) (event.Event, bool) {
		f := webhook.Fact{ID: m.ID, Type: webhook.MessageCreated, Room: m.Room, About: m.ID, Time: m.At, Silent: !created}
		if c != nil {
			f.ID, f.Type, f.Time, f.Silent = m.ID+"-"+strconv.FormatUint(m.Rev, 10), webhook.MessageChanged, c.At, !changed
			f.Forgets = c.Kind == chat.Delete || c.Kind == chat.Erase
		}
		if f.Silent && !f.Forgets {
			return event.Event{}, false
		}
		if !f.Silent {
			f.Data = protocol.AppendMessage(nil, m)
		}
		return f.Event(), true
	}
}

// forgetting is a Pruner that lets what waits about the messages of a removed room go with them. It erases all messages before the first is removed, which takes their facts out of
// the outbox and makes the facts that forget what is queued. Messages stay until those are published, since on some stores facts are kept with their message.
// A removal that was cut short is repeated, and erases nothing twice. Its methods may be called from many goroutines.
type forgetting struct {
	chat.Pruner
	messages chat.MessageStore // records
	outbox   event.Outbox
	wake     func() // the relay
	now      func() time.Time

	mu    sync.Mutex
	rooms map[string]forgotten
}

// forgotten is how far the messages of a room that is being removed are forgotten.
type forgotten struct {
	upTo uint64 // erased, by Seq
	all  bool
	told bool // what is erased
	seen time.Time
}

const (
	// forgetPatience is how long a removal waits until facts are published, before it comes again later.
	forgetPatience = 2 * time.Second
	// forgetLook is how long it waits before it looks again.
	forgetLook = 20 * time.Millisecond
	// forgetKept is how long is known how far a room is: longer than between two rounds of a janitor, and shorter than it takes until another room of that
	// name can be made, deleted and removed, where another node has removed this one.
	forgetKept = 90 * time.Second
)

// Drop implements chat.Pruner. A call erases messages, or removes something. It returns chat.ErrNotYet while facts cannot be published.
func (f *forgetting) Drop(ctx context.Context, room string, limit int) (left bool, err error) {
	f.mu.Lock()
	maps.DeleteFunc(f.rooms, func(_ string, at forgotten) bool { return f.now().Sub(at.seen) > forgetKept })
	at := f.rooms[room]
	f.mu.Unlock()
	switch {
	case !at.all:
		left, err = true, f.erase(ctx, room, max(limit, 1), &at)
	case !at.told:
		left, err = true, f.published(ctx, room)
		at.told = err == nil
	default:
		left, err = f.Pruner.Drop(ctx, room, limit)
	}
	if err != nil && !errors.Is(err, chat.ErrNotYet) {
		return true, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !left {
		delete(f.rooms, room)
		return false, nil
	}
	if f.rooms == nil {
		f.rooms = map[string]forgotten{}
	}
	at.seen = f.now()
	f.rooms[room] = at
	return true, err
}

// erase erases the next messages of a room.
func (f *forgetting) erase(ctx context.Context, room string, limit int, at *forgotten) error {
	next, err := f.messages.List(ctx, room, chat.Range{After: at.upTo, Limit: limit})
	if err != nil {
		return err
	}
	changes := make([]chat.Change, len(next))
	for i, m := range next {
		changes[i] = chat.Change{Kind: chat.Erase, Room: room, Seq: m.Seq, By: m.Author, At: f.now().UTC().Truncate(time.Microsecond)}
		at.upTo = m.Seq
	}
	at.all = len(next) < limit
	answers, err := f.messages.Change(ctx, changes)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.Err != nil && !errors.Is(a.Err, chat.ErrMessageNotFound) { // another node has removed it
			return a.Err
		}
	}
	return nil
}

// published waits a little until no facts of a room are in the outbox.
func (f *forgetting) published(ctx context.Context, room string) error {
	for waited := time.Duration(0); ; waited += forgetLook {
		switch waits, err := f.waits(ctx, room); {
		case err != nil || !waits:
			return err
		case waited >= forgetPatience:
			return chat.ErrNotYet
		}
		f.wake()
		select {
		case <-time.After(forgetLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waits reports whether facts of a room may wait in the outbox. Where very much waits, they may.
func (f *forgetting) waits(ctx context.Context, room string) (bool, error) {
	const page, pages = 500, 10
	var last string
	for range pages {
		pending, err := f.outbox.PendingAfter(ctx, last, page)
		if err != nil {
			return true, err
		}
		for _, e := range pending {
			if e.Topic == webhook.Topic && e.Key == room {
				return true, nil
			}
		}
		if len(pending) < page {
			return false, nil
		}
		last = pending[len(pending)-1].ID
	}
	return true, nil
}
