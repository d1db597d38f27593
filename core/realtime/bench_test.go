package realtime_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// hand is a fan-out that the benchmark feeds by hand.
type hand struct{ deliver chan func(realtime.Signal) }

func (hand) Publish(context.Context, realtime.Signal) error { return nil }
func (hand) Follow(context.Context, string) error           { return nil }
func (hand) Unfollow(context.Context, string) error         { return nil }

func (h hand) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	h.deliver <- deliver
	<-ctx.Done()
	return nil
}

// tally counts messages. Every 64 connections count by themselves, so that workers do not wait for each other's counter.
type tally struct {
	shards []count
	open   atomic.Int64 // shards that lack messages
	all    chan struct{}
}

// count is of the connections of a shard.
type count struct {
	conns        int64
	left, writes atomic.Int64
	_            [40]byte // a cache line each
}

const shard = 64

func newTally(conns int) *tally {
	t := &tally{all: make(chan struct{}, 1), shards: make([]count, (conns+shard-1)/shard)}
	for i := range conns {
		t.shards[i/shard].conns++
	}
	return t
}

// expect makes the tally wait for so many messages on each connection.
func (t *tally) expect(messages int) {
	for i := range t.shards {
		t.shards[i].left.Store(t.shards[i].conns * int64(messages))
	}
	t.open.Store(int64(len(t.shards)))
}

func (t *tally) writes() (sum int64) {
	for i := range t.shards {
		sum += t.shards[i].writes.Load()
	}
	return sum
}

// counter is a connection that only counts.
type counter struct {
	crowd *crowd
	i     int
}

func (c *counter) Send(f *socket.Frame) error {
	n := int64(0)
	for range f.Messages() {
		n++
	}
	if c.crowd.hold != nil {
		c.crowd.hold(c.i)
	}
	t := c.crowd.tally
	s := &t.shards[c.i/shard]
	s.writes.Add(1)
	if s.left.Add(-n) == 0 && t.open.Add(-1) == 0 {
		t.all <- struct{}{}
	}
	return nil
}

func (*counter) Queued() int       { return 0 }
func (*counter) Close(int, string) {}

// crowd is many connections of a hub, each in the same rooms.
type crowd struct {
	hub     *realtime.Hub
	tally   *tally
	rooms   []string
	next    uint64
	deliver func(realtime.Signal)
	hold    func(i int) // called by Send of each connection before anything else, if it is set
}

// newCrowd starts a hub for a crowd.
func newCrowd(tb testing.TB, conns, rooms int, change func(*realtime.HubConfig)) *crowd {
	tb.Helper()
	store := memory.NewStore()
	s, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	require.NoError(tb, err)
	fanout := hand{make(chan func(realtime.Signal))}
	cfg := realtime.HubConfig{Chat: s, Fanout: fanout, Presence: memory.NewPresence(), Rate: -1, MaxUserConnections: conns + 1}
	if change != nil {
		change(&cfg)
	}
	h, err := realtime.NewHub(cfg)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() { _ = h.Run(ctx) })
	tb.Cleanup(func() { cancel(); wg.Wait() })
	names := make([]string, rooms)
	for i := range names {
		names[i] = fmt.Sprint("room", i)
	}
	return newCrowdOn(tb, h, <-fanout.deliver, conns, names...)
}

// newCrowdInBubble is newCrowd within synctest.Test. Every join has ended when it returns: the end of one that waits for a connection
// whose Send a test holds up waits for a mutex, and synctest.Wait for it, for ever.
func newCrowdInBubble(tb testing.TB, conns, rooms int, change func(*realtime.HubConfig)) *crowd {
	tb.Helper()
	c := newCrowd(tb, conns, rooms, change)
	synctest.Wait()
	return c
}

// newCrowdOn connects a crowd to a hub.
func newCrowdOn(tb testing.TB, h *realtime.Hub, deliver func(realtime.Signal), conns int, rooms ...string) *crowd {
	tb.Helper()
	c := &crowd{hub: h, tally: newTally(conns), rooms: rooms, deliver: deliver}
	c.tally.expect(len(rooms))
	answered := make(chan struct{})
	c.hold = func(int) { answered <- struct{}{} }
	for i := range conns {
		in, err := h.Accept(&counter{crowd: c, i: i}, socket.Hello{Identity: user.Identity{UserID: user.ID("u"), Name: "u"}})
		require.NoError(tb, err)
		for _, room := range rooms {
			in.Receive(fmt.Appendf(nil, `{"id":1,"event":"join_room","data":{"room":%q}}`, room), false)
			<-answered // so that they stand in the rooms in this order
		}
	}
	if conns > 0 {
		c.wait(tb)
	}
	c.hold = nil
	return c
}

func (c *crowd) wait(tb testing.TB) {
	select {
	case <-c.tally.all:
	case <-time.After(time.Minute):
		tb.Fatal("not everybody got everything")
	}
}

// say delivers messages, so many in each room by turns, without waiting.
func (c *crowd) say(messages int) {
	for range messages {
		c.next++
		for _, room := range c.rooms {
			c.deliver(realtime.Signal{Kind: realtime.SignalMessage, Room: room, Message: chat.Message{
				Room: room, Seq: c.next, ID: "01K0000000000000000000000", ClientID: "0123456789abcdef",
				Author: chat.Author{ID: "u", Name: "u"}, Text: text, At: time.Unix(1_700_000_000, 0).UTC(),
			}})
		}
	}
}

const text = "What everybody in the room shall read, of a length as people write it, give or take a word or two."

// run measures deliveries of so many messages at a time in each room.
func (c *crowd) run(b *testing.B, conns, messages int) {
	b.ReportAllocs()
	before := c.tally.writes()
	for b.Loop() {
		c.tally.expect(messages * len(c.rooms))
		c.say(messages)
		c.wait(b)
	}
	deliveries := float64(b.N * conns * messages * len(c.rooms))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
	b.ReportMetric(float64(c.tally.writes()-before)/deliveries, "writes/delivery")
}

// BenchmarkFanout is a message to the members of one room, and eight that wait together. What the connections cost is left out.
func BenchmarkFanout(b *testing.B) {
	for _, members := range []int{10, 100, 1000, 5000} {
		for _, messages := range []int{1, 8} {
			b.Run(fmt.Sprintf("members=%d/inflight=%d", members, messages), func(b *testing.B) {
				newCrowd(b, members, 1, nil).run(b, members, messages)
			})
		}
	}
}

// BenchmarkFanoutRooms is a message to each of the rooms that all connections are in.
func BenchmarkFanoutRooms(b *testing.B) {
	const conns, rooms = 1000, 20
	newCrowd(b, conns, rooms, nil).run(b, conns, 1)
}
