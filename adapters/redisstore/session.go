package redisstore

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/realtime"
)

// session is one Run of a [Fanout]. What several goroutines touch is under the fan-out's mu.
type session struct {
	fanout  *Fanout
	deliver func(realtime.Signal)
	calls   int           // of deliver under way in Publish
	idle    chan struct{} // closed when calls is 0, if Run waits for that
	links   []*link       // nil until it is known what the server can do
	early   []*waiter     // came before the links

	queue   []item
	wake    chan struct{} // says that something is in the queue
	flushed bool          // nobody sends the queue any more
}

// waiter is a Follow that waits for its subscription.
type waiter struct {
	room string
	done chan struct{}
}

const (
	firstPause = 20 * time.Millisecond
	longPause  = time.Second
	// quiet is how long a connection may be silent before it is asked whether it lives, and
	// then before it is given up.
	quiet = 3 * time.Second
	// perCommand is the most channels of one command, and the most frames of one round trip.
	perCommand = 500
)

// pause waits, and reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put queues an item, under mu.
func (s *session) put(items ...item) {
	s.queue = append(s.queue, items...)
	wake(s.wake)
}

// link returns the connection that a room's channel is on.
func (s *session) link(room string) *link { return s.links[shardOf(room)%len(s.links)] }

// up reports whether the room's connection stands, under mu.
func (s *session) up(room string) bool { return s.links != nil && s.link(room).up }

// wait lets w wait for the subscription of its room, under mu.
func (s *session) wait(w *waiter) {
	if s.links == nil {
		s.early = append(s.early, w)
		return
	}
	l := s.link(w.room)
	l.pending = append(l.pending, w)
	s.change(w.room)
}

// change makes the server learn whether the room is followed, under mu.
func (s *session) change(room string) {
	if s.links == nil {
		return
	}
	l := s.link(room)
	l.dirty[room] = struct{}{}
	wake(l.wake)
}

// release ends all waiting, under mu.
func (s *session) release() {
	waiters := s.early
	for _, l := range s.links {
		waiters = append(waiters, l.pending...)
	}
	for _, w := range waiters {
		close(w.done)
	}
}

// work runs until ctx ends.
func (s *session) work(ctx context.Context) {
	f := s.fanout
	for wait := firstPause; ; wait = min(2*wait, longPause) {
		if f.detect(ctx) == nil {
			break
		}
		if !pause(ctx, wait) {
			f.mu.Lock()
			s.flushed = true
			f.mu.Unlock()
			return
		}
	}
	sharded := f.mode.Load() == modeSharded
	n := 1
	if sharded && f.store.cluster {
		n = shards
	}
	f.mu.Lock()
	for shard := range n {
		s.links = append(s.links, &link{session: s, shard: shard, sharded: sharded, dirty: map[string]struct{}{}, wake: make(chan struct{}, 1)})
	}
	for _, w := range s.early {
		s.wait(w)
	}
	s.early = nil
	f.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range s.links {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Go(func() { s.write(ctx) })
	wg.Wait()
}

// write sends what is queued, in order. What fails is sent again, messages and changes only: the rest is
// stale by then.
func (s *session) write(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
		for batch := s.take(false); len(batch) > 0 && ctx.Err() == nil; batch = s.take(false) {
			s.insist(ctx, batch)
		}
	}
	// The last words of this node, if the server answers at once.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for batch := s.take(true); len(batch) > 0; batch = s.take(true) {
		if _, err := s.fanout.send(ctx, batch); err != nil {
			return
		}
	}
}

func (s *session) take(last bool) []item {
	s.fanout.mu.Lock()
	defer s.fanout.mu.Unlock()
	s.flushed = last
	n := min(len(s.queue), perCommand)
	batch := s.queue[:n:n]
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return batch
}

// insist sends items until the server has them or ctx ends.
func (s *session) insist(ctx context.Context, items []item) {
	failed, err := s.fanout.send(ctx, items)
	if err == nil {
		return
	}
	for wait := firstPause; err != nil; wait = min(2*wait, longPause) {
		var again []item
		for _, it := range failed {
			if it.lasting {
				again = append(again, it)
			}
		}
		if len(again) == 0 || !pause(ctx, wait) {
			break
		}
		failed, err = s.fanout.send(ctx, again)
	}
	// What did not fit into the queue meanwhile is found by the last message, or change, of its room.
	f := s.fanout
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rooms {
		for i := range r.last {
			if l := &r.last[i]; l.lost {
				l.lost = false
				s.put(l.item)
			}
		}
	}
}

// link is a connection that subscribes to the channels of one shard, or of all of them.
type link struct {
	session *session
	shard   int
	sharded bool
	wake    chan struct{} // says that dirty is not empty

	// Under the fan-out's mu:
	dirty    map[string]struct{} // rooms that may have to be subscribed to, or unsubscribed from
	pending  []*waiter           // for what is dirty
	barriers []barrier           // asked, ascending
	asked    uint64              // the last barrier
	leaving  map[string]int      // channels whose unsubscription was asked for
	up       bool                // the subscriptions stand
}

// barrier is a ping behind subscriptions: with its answer they stand.
type barrier struct {
	id      uint64
	waiters []*waiter
}

// run keeps the connection until ctx ends.
func (l *link) run(ctx context.Context) {
	wait := firstPause
	for ctx.Err() == nil {
		if l.connect(ctx) {
			wait = firstPause
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, longPause)
	}
}

// subscribe opens a subscription to a channel that always is there, so that the connection
// goes to the shard's server.
func (l *link) subscribe(ctx context.Context) *redis.PubSub {
	client, home := l.session.fanout.store.client, l.session.fanout.shardKey(l.shard, "home")
	if l.sharded {
		return client.SSubscribe(ctx, home)
	}
	return client.Subscribe(ctx, home)
}

// connect subscribes and receives until the connection is lost or ctx ends. It reports whether
// the connection stood.
func (l *link) connect(ctx context.Context) (stood bool) {
	f := l.session.fanout
	ctx, cancel := context.WithCancel(ctx)
	ps := l.subscribe(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		_ = ps.Close() // it wakes receive
	})

	f.mu.Lock()
	l.leaving = map[string]int{}
	for room := range f.rooms {
		if l.session.link(room) == l {
			l.dirty[room] = struct{}{}
		}
	}
	first := l.asked + 1
	wake(l.wake)
	f.mu.Unlock()
	wg.Go(func() {
		defer cancel()
		l.control(ctx, ps)
	})
	l.receive(ctx, ps, first)
	cancel()
	wg.Wait()

	f.mu.Lock()
	defer f.mu.Unlock()
	stood = l.up
	l.up = false
	for _, b := range l.barriers {
		l.pending = append(l.pending, b.waiters...)
	}
	l.barriers = nil
	return stood
}

// control tells the server which rooms are followed, and puts a barrier behind each change,
// until ctx ends or that fails.
func (l *link) control(ctx context.Context, ps *redis.PubSub) {
	f := l.session.fanout
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		tags := map[int][2][]string{} // by shard: to subscribe to, to unsubscribe from
		for room := range l.dirty {
			shard, channel := shardOf(room), f.channel(room)
			lists := tags[shard]
			if f.rooms[room] != nil {
				lists[0] = append(lists[0], channel)
			} else {
				l.leaving[channel]++
				lists[1] = append(lists[1], channel)
			}
			tags[shard] = lists
		}
		clear(l.dirty)
		l.asked++
		id := l.asked
		l.barriers = append(l.barriers, barrier{id, l.pending})
		l.pending = nil
		f.mu.Unlock()

		for _, lists := range tags {
			if l.tell(ctx, lists[1], ps.Unsubscribe, ps.SUnsubscribe) != nil || l.tell(ctx, lists[0], ps.Subscribe, ps.SSubscribe) != nil {
				return
			}
		}
		if ps.Ping(ctx, strconv.FormatUint(id, 10)) != nil {
			return
		}
	}
}

type subscription func(ctx context.Context, channels ...string) error

func (l *link) tell(ctx context.Context, channels []string, plain, sharded subscription) error {
	for len(channels) > 0 {
		some := channels[:min(len(channels), perCommand)]
		channels = channels[len(some):]
		do := plain
		if l.sharded {
			do = sharded
		}
		if err := do(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

// receive takes what comes until the connection is lost, or must be made anew.
func (l *link) receive(ctx context.Context, ps *redis.PubSub, first uint64) {
	for asked := false; ctx.Err() == nil; {
		received, err := ps.ReceiveTimeout(ctx, quiet)
		if err != nil {
			if redis.HasErrorPrefix(err, "MOVED") {
				l.relocate(ctx)
			}
			var timeout net.Error
			if asked || !errors.As(err, &timeout) || !timeout.Timeout() || ps.Ping(ctx, "alive") != nil {
				return
			}
			asked = true
			continue
		}
		asked = false
		switch m := received.(type) {
		case *redis.Message:
			l.message(m)
		case *redis.Pong:
			if id, err := strconv.ParseUint(m.Payload, 10, 64); err == nil {
				l.reached(id, first)
			}
		case *redis.Subscription:
			if strings.HasSuffix(m.Kind, "unsubscribe") && !l.left(m.Channel) {
				l.relocate(ctx)
				return // the channel has moved to another server
			}
		}
	}
}

// relocate makes the client of a cluster ask anew which server has which slot. It does not do so by itself for
// subscriptions: a node that sends nothing would go on asking the server that had the channel.
func (l *link) relocate(ctx context.Context) {
	if cluster, ok := l.session.fanout.store.client.(*redis.ClusterClient); ok {
		cluster.ReloadState(ctx)
	}
}

// left notes an unsubscription, and reports whether it was asked for.
func (l *link) left(channel string) bool {
	l.session.fanout.mu.Lock()
	defer l.session.fanout.mu.Unlock()
	if l.leaving[channel] == 0 {
		return false
	}
	if l.leaving[channel]--; l.leaving[channel] == 0 {
		delete(l.leaving, channel)
	}
	return true
}

// reached ends the waiting for everything up to the barrier.
func (l *link) reached(id, first uint64) {
	f := l.session.fanout
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(l.barriers) > 0 && l.barriers[0].id <= id {
		for _, w := range l.barriers[0].waiters {
			close(w.done)
		}
		l.barriers = l.barriers[1:]
	}
	if id < first || l.up {
		return
	}
	l.up = true
	// Signals may be lost, this node's for others and theirs for it. Whoever subscribes last
	// brings both to light.
	for room, r := range f.rooms {
		if l.session.link(room) != l {
			continue
		}
		ask := frame{sender: f.sender, again: true, signal: realtime.Signal{Room: room}}
		l.session.put(item{channel: f.channel(room), frame: ask.encode(), lasting: true})
		l.session.put(r.again()...)
	}
}

// message delivers a signal of another node, or answers what it asks.
func (l *link) message(m *redis.Message) {
	f := l.session.fanout
	fr, err := decodeFrame(m.Payload)
	if err != nil || fr.sender == f.sender || m.Channel != f.channel(fr.signal.Room) {
		return
	}
	f.mu.Lock()
	r, fresh := f.rooms[fr.signal.Room], false
	switch {
	case r == nil:
	case !fr.again:
		fresh = r.fresh(fr)
	default:
		l.session.put(r.again()...)
	}
	f.mu.Unlock()
	if fresh {
		l.session.deliver(fr.signal)
	}
}
