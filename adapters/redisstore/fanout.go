package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
)

// FanoutConfig says how a [Fanout] sends. Values that are not positive mean the defaults.
type FanoutConfig struct {
	// Queue is the most signals that wait to be sent, while the server does not answer say;
	// Publish refuses more. Default 4,096.
	Queue int
	// Timeout bounds one attempt to send. Default 3 seconds.
	Timeout time.Duration
}

// Fanout is a realtime.Fanout: one node's end. Each hub gets one of its own.
//
// Publish hands a signal to this node's deliver at once, so that a node without its server
// still is a chat by itself, and queues it for the other nodes. Deliver may publish, follow
// and unfollow but must not wait for whoever publishes. While no Run is under way, Publish
// sends to the server itself, and Follow only notes the room for Run; Run then begins with the last message and the last change that this node has
// published in each room that it follows.
//
// Run connects, and connects again for as long as ctx lasts; it returns an error only where a
// Run is under way already. Follow waits for the server's confirmation, or until its ctx ends.
//
// While the server is away, messages and changed messages wait in the queue; typing, joined and left are dropped. Once it is
// back, nodes ask each other for the last message and the last change of every room that they follow, so that a
// hub finds by their sequences what it missed. What a node that died meanwhile had published is
// found with the room's next message, or change.
type Fanout struct {
	store   *Store
	queue   int
	timeout time.Duration
	sender  string
	mode    atomic.Int32

	mu      sync.Mutex
	count   uint64 // of frames
	rooms   map[string]*followed
	session *session // the Run that is under way
}

var _ realtime.Fanout = (*Fanout)(nil)

// How signals are published, once it is known what the server can do.
const (
	modeUnknown = iota
	modeSharded // SPUBLISH, Redis 7.0 and later
	modePlain   // PUBLISH
)

// followed is a room that this node follows, or is about to.
type followed struct {
	settled bool // Follow has succeeded
	waiting int  // calls of Follow
	last    [2]latest
	// seen is the highest count of each sender, for each class: a lower one came already.
	seen map[string][classes]uint64
}

// latest is the highest message, or change, that this node has published in a room.
type latest struct {
	item   item
	number uint64 // its sequence, or Rev
	lost   bool   // it did not fit into the queue
	// unheard is the highest one that was published while no Run was under way.
	unheard *realtime.Signal
}

// Classes of signals. Those of a class that is numbered are published again.
const (
	classMessage = iota
	classChange
	classOther // what is stale soon
	classes
)

// classOf returns the class of a signal, and the number by which it is the latest.
func classOf(s *realtime.Signal) (class int, number uint64) {
	switch s.Kind {
	case realtime.SignalMessage:
		return classMessage, s.Message.Seq
	case realtime.SignalChanged:
		return classChange, s.Message.Rev
	}
	return classOther, 0
}

// item is a frame that waits to be sent.
type item struct {
	channel, frame string
	lasting        bool // what fails is sent again
}

// again are what this node has published last in the room, under the fan-out's mu.
func (r *followed) again() (items []item) {
	for _, l := range r.last {
		if l.item.lasting {
			items = append(items, l.item)
		}
	}
	return items
}

var (
	errQueueFull = fault.New(fault.Unavailable, "fanout_full", "too many signals wait to be sent to other nodes")
	errRuns      = errors.New("redisstore: this fan-out runs already")
)

// Fanout returns a new end of the fan-out, which follows no room. Values that are not
// positive mean the defaults.
func (s *Store) Fanout(cfg FanoutConfig) *Fanout {
	f := &Fanout{store: s, queue: cfg.Queue, timeout: cfg.Timeout, sender: rand.Text(), rooms: map[string]*followed{}}
	if f.queue <= 0 {
		f.queue = 4096
	}
	if f.timeout <= 0 {
		f.timeout = 3 * time.Second
	}
	return f
}

// Rooms are divided among shards. The channels of a shard have one hash tag, so that one
// connection can subscribe to all of them. Every node must divide in the same way.
const shards = 16

func shardOf(room string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(room)) // never fails
	return int(h.Sum32() % shards)
}

func (f *Fanout) shardKey(shard int, rest string) string {
	return f.store.key(fmt.Sprintf("f%d", shard), rest)
}

func (f *Fanout) channel(room string) string { return f.shardKey(shardOf(room), "/"+room) }

// detect finds out how to publish.
func (f *Fanout) detect(ctx context.Context) error {
	if f.mode.Load() != modeUnknown {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	mode, err := call(ctx, "find out how to publish", func(ctx context.Context) (int32, error) {
		err := f.store.client.SPublish(ctx, f.shardKey(0, "home"), "").Err()
		if err != nil && strings.Contains(strings.ToLower(err.Error()), "unknown command") {
			return modePlain, nil
		}
		return modeSharded, err
	})
	if err == nil {
		f.mode.Store(mode)
	}
	return err
}

// Publish delivers s to this node, if it follows the room, and queues it for the others. An
// error of kind Unavailable says that it may not reach other nodes.
func (f *Fanout) Publish(ctx context.Context, s realtime.Signal) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	s.Message = whole(s.Message)
	class, number := classOf(&s)
	fr := frame{sender: f.sender, signal: s}
	f.mu.Lock()
	room, run := f.rooms[s.Room], f.session
	queued, full := run != nil && !run.flushed, false
	if queued {
		// The queue keeps the order of the counts; what goes past it has none.
		f.count++
		fr.count = f.count
	}
	next := item{f.channel(s.Room), fr.encode(), class != classOther}
	var last *latest // if this is the latest one
	if room != nil && class != classOther && number >= room.last[class].number {
		last = &room.last[class]
		last.item, last.number = next, number
	}
	if queued {
		if full = len(run.queue) >= f.queue; !full {
			run.put(next)
		} else if last != nil {
			last.lost = true
		}
	}
	here := run != nil && room != nil
	if here {
		run.calls++
	} else if last != nil {
		unheard := s // only here it is kept
		last.unheard = &unheard
	}
	f.mu.Unlock()
	if here {
		f.deliverHere(run, s)
	}
	switch {
	case full:
		return errQueueFull
	case queued:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := f.detect(ctx); err != nil {
		return err
	}
	_, err := f.send(ctx, []item{next})
	return err
}

func (f *Fanout) deliverHere(run *session, s realtime.Signal) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if run.calls--; run.calls == 0 && run.idle != nil {
			close(run.idle)
			run.idle = nil
		}
	}()
	run.deliver(s)
}

// send publishes in order, in one round trip a server, and returns what failed.
func (f *Fanout) send(ctx context.Context, items []item) (failed []item, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	sharded := f.mode.Load() == modeSharded
	results, err := call(ctx, "publish", func(ctx context.Context) ([]*redis.IntCmd, error) {
		pipe := f.store.client.Pipeline()
		results := make([]*redis.IntCmd, len(items))
		for i, it := range items {
			if sharded {
				results[i] = pipe.SPublish(ctx, it.channel, it.frame)
			} else {
				results[i] = pipe.Publish(ctx, it.channel, it.frame)
			}
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		return results, nil
	})
	if err != nil {
		return items, err
	}
	for i, r := range results {
		if r.Err() != nil {
			failed = append(failed, items[i])
			err = malformed("publish", r.Err())
		}
	}
	return failed, err
}

// Follow makes signals of room reach this node.
func (f *Fanout) Follow(ctx context.Context, room string) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	f.mu.Lock()
	r := f.rooms[room]
	if r == nil {
		r = &followed{}
		f.rooms[room] = r
	}
	if f.session == nil || (r.settled && f.session.up(room)) {
		r.settled = true
		f.mu.Unlock()
		return nil
	}
	r.waiting++
	w := &waiter{room: room, done: make(chan struct{})}
	f.session.wait(w)
	f.mu.Unlock()

	select {
	case <-w.done:
		f.mu.Lock()
		defer f.mu.Unlock()
		r.waiting--
		r.settled = true
		return nil
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.waiting--; r.waiting == 0 && !r.settled && f.rooms[room] == r {
		f.drop(room)
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("redisstore: follow a room: %w", ctx.Err()))
}

// Unfollow ends that. It does not wait.
func (f *Fanout) Unfollow(ctx context.Context, room string) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rooms[room] != nil {
		f.drop(room)
	}
	return nil
}

// whole is a message with its times as others get them, and reactions of its own.
func whole(m chat.Message) chat.Message {
	m.At = moment(micros(m.At))
	if !hasChanged(&m) {
		return m
	}
	for _, t := range [...]*time.Time{&m.EditedAt, &m.DeletedAt} {
		if !t.IsZero() {
			*t = moment(micros(*t))
		}
	}
	return m.Clone()
}

// fresh reports whether a frame has not come before, under mu.
func (r *followed) fresh(fr frame) bool {
	if fr.count == 0 {
		return true
	}
	class, _ := classOf(&fr.signal)
	seen := r.seen[fr.sender]
	if fr.count <= seen[class] {
		return false
	}
	const many = 1000 // nodes that restart get new names
	if r.seen == nil || len(r.seen) >= many {
		r.seen = map[string][classes]uint64{}
	}
	seen[class] = fr.count
	r.seen[fr.sender] = seen
	return true
}

// drop forgets a room, under mu.
func (f *Fanout) drop(room string) {
	delete(f.rooms, room)
	if f.session != nil {
		f.session.change(room)
	}
}

// Run delivers until ctx ends. When it returns, no call of deliver is under way. It may take
// as long as the client's time-outs to return if the server does not answer.
func (f *Fanout) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	run := &session{fanout: f, deliver: deliver, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	if f.session != nil {
		f.mu.Unlock()
		return errRuns
	}
	f.session = run
	var unheard []realtime.Signal
	for _, r := range f.rooms {
		for i := range r.last {
			if l := &r.last[i]; l.unheard != nil {
				unheard = append(unheard, *l.unheard)
				l.unheard = nil
			}
		}
	}
	f.mu.Unlock()
	for _, s := range unheard {
		deliver(s)
	}

	run.work(ctx)

	f.mu.Lock()
	defer f.mu.Unlock()
	if run.calls > 0 {
		idle := make(chan struct{})
		run.idle = idle
		f.mu.Unlock()
		<-idle
		f.mu.Lock()
	}
	f.session = nil
	run.release() // without a Run, following is only noting
	return nil
}
