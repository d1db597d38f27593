package chat

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// recent is the cache, kept from holding anybody up and from falling behind.
//
// A cache that does not answer is left alone: messages are stored and read without it, and one goroutine tries
// again. Before the cache is asked for a room again, it is given what it missed there, from the store. Otherwise a room in
// which nobody says anything more would be served without its last messages. Other rooms use the cache as
// soon as it answers: under load there would always be one that is behind.
type recent struct {
	cache   RecentCache
	store   MessageStore
	keep    int // messages of a room that are made up for
	timeout time.Duration
	log     *slog.Logger
	// tell is called with the last message of a room when the cache has what it lacked there. Nodes that have read the room from the
	// cache meanwhile notice by it that they lack messages. After a commit without an answer, no node has heard of its messages before.
	tell func(Message)
	// tellChanged is called with the last change of such a room.
	tellChanged func(Message)

	mu      sync.Mutex
	mending bool // mend runs, or is about to
	down    bool // the cache does not answer
	// behind counts, for each room of which the cache may lack messages, how often that was noted. order has these rooms
	// in the order in which the cache is given what it lacks.
	behind map[string]int
	order  []string
	wake   chan struct{} // holds one token while behind may be non-empty
}

func newRecent(cfg Config, tell, tellChanged func(Message)) *recent {
	return &recent{
		cache: cfg.Cache, store: cfg.Store, keep: cfg.Recent, timeout: cfg.CacheTimeout, log: cfg.Log, tell: tell, tellChanged: tellChanged,
		behind: map[string]int{}, wake: make(chan struct{}, 1),
	}
}

// get returns what the cache holds for room, and whether it does, which it does not if there is no answer.
func (r *recent) get(ctx context.Context, room string) (all Recent, held bool) {
	r.mu.Lock()
	behind := r.behind[room] > 0
	r.mu.Unlock()
	if behind {
		return Recent{}, false
	}
	_ = r.ask(ctx, "recent messages were not read from the cache", []string{room}, func(ctx context.Context) (err error) {
		all, held, err = r.cache.Get(ctx, room)
		held = held && err == nil
		return err
	})
	if !held {
		return Recent{}, false
	}
	return all, true
}

// add gives the cache messages that were just stored.
func (r *recent) add(ctx context.Context, messages []Message) {
	rooms := roomsOf(messages)
	if !r.ask(ctx, "recent messages were not cached", rooms, func(ctx context.Context) error { return r.cache.Add(ctx, messages...) }) {
		r.note(rooms, false)
	}
}

// change gives the cache messages that were just changed.
func (r *recent) change(ctx context.Context, messages []Message) {
	rooms := roomsOf(messages)
	var err error
	asked := r.ask(ctx, "changed messages were not cached", rooms, func(ctx context.Context) error {
		err = r.cache.Change(ctx, messages...)
		return err
	})
	if !asked || err != nil { // what was erased must not stay there, whatever went wrong
		r.note(rooms, false)
	}
}

func roomsOf(messages []Message) []string {
	rooms := make([]string, len(messages))
	for i, m := range messages {
		rooms[i] = m.Room
	}
	return rooms
}

// fill gives the cache what was read from the store.
func (r *recent) fill(ctx context.Context, room string, all Recent) {
	_ = r.ask(ctx, "recent messages were not cached", []string{room}, func(ctx context.Context) error { return r.cache.Fill(ctx, room, all) })
}

var errCacheDown = fault.Wrap(fault.Unavailable, errors.New("the cache does not answer"))

// cut tells the cache that nothing before first is to be served, or returns an error.
func (r *recent) cut(ctx context.Context, room string, first uint64) error {
	var err error
	asked := r.ask(ctx, "old messages were not taken from the cache", []string{room}, func(ctx context.Context) error {
		err = r.cache.Fill(ctx, room, Recent{First: first})
		return err
	})
	if !asked {
		return errCacheDown
	}
	return err
}

// ask calls the cache, and notes the rooms if it gives no answer. It reports false where the
// cache is left alone.
func (r *recent) ask(ctx context.Context, failure string, rooms []string, do func(context.Context) error) bool {
	r.mu.Lock()
	down := r.down
	r.mu.Unlock()
	if down {
		return false
	}
	bounded, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	err := do(bounded)
	if err == nil {
		return true
	}
	if ctx.Err() == nil { // otherwise it is the caller who gave up
		r.log.Warn(failure, "error", err)
		if noAnswer(err) {
			r.note(rooms, true)
		}
	}
	return true
}

func noAnswer(err error) bool {
	return errors.Is(err, fault.Unavailable) || errors.Is(err, context.DeadlineExceeded)
}

// note makes mend see to rooms of which the cache may lack messages, and leaves the cache alone if it is
// down. Without mend, nobody would ever ask it again.
func (r *recent) note(rooms []string, down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mending || len(rooms) == 0 {
		return
	}
	r.down = r.down || down
	for _, room := range rooms {
		if r.behind[room]++; r.behind[room] == 1 {
			r.order = append(r.order, room)
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// The pauses between attempts to reach a cache that does not answer.
const (
	firstPause = 50 * time.Millisecond
	longPause  = time.Second
)

// begin says that mend is about to run.
func (r *recent) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mending = true
}

// mend makes up for what the cache missed since begin, until ctx ends.
func (r *recent) mend(ctx context.Context) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.mending, r.down = false, false
		clear(r.behind)
		r.order = nil
	}()
	for pause := firstPause; ; {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		for room, noted, more := r.next(); more; room, noted, more = r.next() {
			if r.catchUp(ctx, room, noted) {
				pause = firstPause
				continue
			}
			t := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
			pause = min(2*pause, longPause)
		}
		pause = firstPause
	}
}

// next takes the first of the rooms that are behind, and returns how often it was noted.
func (r *recent) next() (room string, noted int, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) == 0 {
		return "", 0, false
	}
	room, r.order = r.order[0], r.order[1:]
	return room, r.behind[room], true
}

// catchUp gives the cache the last messages of room, and reports false if it, or the store,
// does not answer. What was stored meanwhile has been noted again, and comes again.
func (r *recent) catchUp(ctx context.Context, room string, noted int) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*r.timeout)
	defer cancel()
	bounds, err := r.store.Bounds(ctx, room) // first, so that the messages are at least as new
	var messages, last []Message
	if err == nil {
		messages, err = r.store.List(ctx, room, Range{Limit: r.keep, Newest: true})
	}
	if err == nil && bounds.Rev > 0 {
		last, err = r.store.List(ctx, room, Range{Changed: true, After: bounds.Rev - 1, Limit: 1})
	}
	if err != nil && (noAnswer(err) || ctx.Err() != nil) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.order = append(r.order, room)
		return false // which says nothing about the cache
	}
	if err == nil {
		if len(messages) > 0 {
			if err = r.cache.Add(ctx, messages...); err == nil {
				err = r.cache.Fill(ctx, room, Recent{Messages: messages, Rev: bounds.Rev, First: bounds.First})
			}
		} else if bounds.First > 1 {
			err = r.cache.Fill(ctx, room, Recent{Rev: bounds.Rev, First: bounds.First})
		} else {
			_, _, err = r.cache.Get(ctx, room)
		}
	}
	gone := err != nil && (noAnswer(err) || ctx.Err() != nil)
	if err != nil && !gone {
		r.log.Warn("recent messages were not cached", "error", err)
	}
	if n := len(messages); n > 0 && err == nil {
		r.tell(messages[n-1])
	}
	if len(last) > 0 && err == nil {
		r.tellChanged(last[0])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = gone
	if !gone && r.behind[room] == noted {
		delete(r.behind, room)
	} else {
		r.order = append(r.order, room)
	}
	return !gone
}
