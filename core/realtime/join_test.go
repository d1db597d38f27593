package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// readStore counts how often a room is read: how far it reaches, and then its messages, if it has any.
type readStore struct {
	chat.MessageStore
	reads atomic.Int64
}

func (s *readStore) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	s.reads.Add(1)
	return s.MessageStore.Bounds(ctx, room)
}

// door is a hub with a room that has messages, and nothing cached.
type door struct {
	hub   *realtime.Hub
	store *readStore
	cache *memory.RecentCache
}

func newDoor(tb testing.TB, messages int) *door {
	tb.Helper()
	d := &door{store: &readStore{MessageStore: memory.NewMessages()}, cache: memory.NewRecentCache(memory.RecentCacheConfig{})}
	for i := range messages {
		m := chat.Message{Room: "hall", ID: fmt.Sprintf("01JPARLEY%017d", i), Author: chat.Author{ID: "ada", Name: "Ada"}, Text: text}
		_, err := d.store.Append(tb.Context(), []chat.Message{m})
		require.NoError(tb, err)
	}
	members := memory.NewMembers(d.store.MessageStore.(*memory.Messages))
	s, err := chat.New(chat.Config{
		Store: d.store, Rooms: memory.NewRooms(), Members: members, Marks: members, Cache: d.cache,
	})
	require.NoError(tb, err)
	d.hub, err = realtime.NewHub(realtime.HubConfig{Chat: s, Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence(), Rate: -1})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() { _ = d.hub.Run(ctx) })
	tb.Cleanup(func() { cancel(); wg.Wait() })
	return d
}

// answer is a connection that hands over what it is sent first.
type answer struct {
	first chan string
	once  sync.Once
}

func (a *answer) Send(f *socket.Frame) error {
	for m := range f.Messages() {
		a.once.Do(func() { a.first <- string(m.Payload()) })
	}
	return nil
}

func (*answer) Queued() int       { return 0 }
func (*answer) Close(int, string) {}

var joinHall = []byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`)

// join lets somebody come, join and go, and returns what they were answered.
func (d *door) join(tb testing.TB, who user.ID) string { return d.ask(tb, who, string(joinHall)) }

// ask is join with another request.
func (d *door) ask(tb testing.TB, who user.ID, request string) string {
	conn := &answer{first: make(chan string, 1)}
	in, err := d.hub.Accept(conn, socket.Hello{Identity: user.Identity{UserID: who, Name: "Somebody"}})
	if err != nil {
		tb.Fatal(err)
	}
	in.Receive([]byte(request), false)
	got := <-conn.first
	in.Disconnected()
	return got
}

// However many join a room after a start, the store is read once.
func TestARoomIsReadFromTheStoreOnceHoweverManyJoin(t *testing.T) {
	t.Parallel()
	for _, messages := range []int{0, 1, 10, 30} {
		d := newDoor(t, messages)
		for i := range 100 {
			assert.Contains(t, d.join(t, user.ID(fmt.Sprint(i))), fmt.Sprintf(`"seq":%d`, messages))
		}
		assert.EqualValues(t, 1, d.store.reads.Load(), "%d messages", messages)
	}
}

// A process that dies between storing a message and saying so leaves a cache that lacks it. Whoever is the first in the room on a node that
// has not read the store gets it all the same, also where all come at once.
func TestTheFirstInARoomDoesNotTrustTheCache(t *testing.T) {
	t.Parallel()
	for name, join := range map[string]string{
		"what is newest": string(joinHall), "what came since": `{"id":1,"event":"join_room","data":{"room":"hall","since":8}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, 10)
			stored, err := d.store.List(t.Context(), "hall", chat.Range{Limit: 9})
			require.NoError(t, err)
			require.NoError(t, d.cache.Fill(t.Context(), "hall", chat.Recent{Messages: stored}))
			reads := d.store.reads.Load()
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() { assert.Contains(t, d.ask(t, user.ID(fmt.Sprint(i)), join), `"seq":10`) })
			}
			all.Wait()
			assert.EqualValues(t, 1, d.store.reads.Load()-reads)
			held, _, err := d.cache.Get(t.Context(), "hall")
			require.NoError(t, err)
			assert.EqualValues(t, 10, held.Messages[len(held.Messages)-1].Seq, "the cache has it, too")
		})
	}
}

// A cache may be behind for a while. Whoever joins a room that everybody has left does not find it shorter than this node has heard.
func TestARoomThatWasLeftDoesNotEndBeforeWhatWasHeard(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	here, there := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), nil) // each has a cache of its own
	ada, bob := here.connect("ada"), there.connect("bob")
	ada.join("hall")
	bob.join("hall")
	for range 3 {
		bob.say("hall", "x")
		ada.until("message")
	}
	ada.ask("leave_room", map[string]any{"room": "hall"})
	ada.gone()
	assert.EqualValues(t, 3, here.connect("carol").join("hall").Seq)
	assert.EqualValues(t, 3, here.connect("dave").join("hall", 1).Seq)
}

// What a join takes of memory that must be given back again is bounded: it is the ten messages, mostly.
func TestAJoinAllocatesLittle(t *testing.T) {
	for messages, most := range map[int]float64{0: 90, 10: 100} {
		d := newDoor(t, messages)
		d.join(t, "ada")
		got := testing.AllocsPerRun(200, func() { d.join(t, "ada") })
		assert.LessOrEqual(t, got, most, "allocations with %d messages", messages)
		t.Logf("%d messages: %v allocations", messages, got)
	}
}

// BenchmarkJoin is somebody who comes, joins a room whose last messages are cached, and goes. What a connection and the store of
// memberships cost is left out.
func BenchmarkJoin(b *testing.B) {
	for _, messages := range []int{0, 10} {
		b.Run(fmt.Sprintf("messages=%d", messages), func(b *testing.B) {
			d := newDoor(b, messages)
			d.join(b, "ada")
			b.ReportAllocs()
			for b.Loop() {
				d.join(b, "ada")
			}
		})
	}
}

func TestANewcomerGetsTheLastTen(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for i := range 15 {
		ada.say("hall", fmt.Sprint("m", i+1))
	}
	a := n.connect("bob").join("hall")
	assert.EqualValues(t, 15, a.Seq)
	require.Len(t, a.Messages, 10)
	assert.EqualValues(t, 6, a.Messages[0].Seq)
	assert.Equal(t, "m15", a.Messages[9].Text)
}

func TestComingBack(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for range 150 {
		ada.say("hall", "x")
	}
	for _, c := range []struct {
		name      string
		since     uint64
		first, n  int
		recovered bool
	}{
		{"a moment later", 148, 149, 2, true},
		{"with nothing missed", 150, 0, 0, true},
		{"with more than a page missed", 5, 6, 100, true},
		{"from another life of the store", 1000, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bob := n.connect("bob")
			bob.t = t
			a := bob.join("hall", c.since)
			assert.EqualValues(t, 150, a.Seq)
			assert.Equal(t, c.recovered, a.Recovered)
			require.Len(t, a.Messages, c.n)
			if c.n > 0 {
				assert.EqualValues(t, c.first, a.Messages[0].Seq)
			}
			if c.n == 100 {
				v := bob.ask("history", map[string]any{"room": "hall", "after": 105})
				var h struct {
					Messages []wireMessage
					More     bool
				}
				require.NoError(t, json.Unmarshal(v.Data, &h))
				assert.Len(t, h.Messages, 45)
				assert.False(t, h.More)
			}
		})
	}
}

// frozen is a store that does not answer once it is armed.
type frozen struct {
	chat.MessageStore
	armed atomic.Bool
}

func (s *frozen) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	if s.armed.Load() {
		<-ctx.Done()
		return chat.Bounds{}, fault.Wrap(fault.Unavailable, ctx.Err())
	}
	return s.MessageStore.Bounds(ctx, room)
}

// Whoever joins a room again, in which they are, misses nobody who comes or goes meanwhile.
func TestWhoeverJoinsAgainHearsWhoComesAndGoes(t *testing.T) {
	b := newBacking()
	s := waiting{b.messages, new(atomic.Bool), make(chan struct{}), make(chan struct{})}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Store: s}, nil)
	ada, bob, eve := n.connect("ada"), n.connect("bob"), n.connect("eve")
	ada.join("hall")
	eve.join("hall") // behind ada: what eve has heard was given to ada
	ada.until("joined")
	s.armed.Store(true)
	ada.in.Receive([]byte(`{"id":99,"event":"join_room","data":{"room":"hall","since":0,"rev":1}}`), false) // the cache does not reach so far
	<-s.asked
	s.armed.Store(false)
	bob.join("hall")
	eve.until("joined")
	bob.done("leave_room", map[string]any{"room": "hall"})
	eve.until("left")
	close(s.proceed)
	var heard []string
	for len(heard) < 3 {
		if event := ada.next().Event; event != "membership" { // which has no order with the others
			heard = append(heard, event)
		}
	}
	assert.Equal(t, []string{"ack", "joined", "left"}, heard)
}

// While a client joins again, messages that the room lacks may be given up. If the join fails, the client is told all the same.
func TestWhoeverFailsToJoinAgainIsToldToReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newBacking(), memory.NewFanout()
		s := &frozen{MessageStore: b.messages}
		n := startWith(t, b, f.Node(), chat.Config{Store: s}, func(c *realtime.HubConfig) { c.CommandTimeout = time.Second })
		other := f.Node()
		ada := n.connect("ada")
		ada.join("hall")
		ada.say("hall", "one")
		ada.until("message")
		who := chat.Author{ID: "u-bob", Name: "bob"}
		stored, err := b.messages.Append(t.Context(), []chat.Message{{Room: "hall", ID: "2", Author: who, Text: "two"}, {Room: "hall", ID: "3", Author: who, Text: "three"}})
		require.NoError(t, err)
		s.armed.Store(true)
		require.NoError(t, other.Publish(t.Context(), realtime.Signal{Kind: realtime.SignalMessage, Room: "hall", Message: stored[1].Message}))
		time.Sleep(500 * time.Millisecond)                                                                      // of the bubble: the room reads what it lacks for a second at most
		ada.in.Receive([]byte(`{"id":99,"event":"join_room","data":{"room":"hall","since":1,"rev":1}}`), false) // the cache does not reach so far
		var heard []string
		for v := ada.next(); v.Event != "error"; v = ada.next() {
			heard = append(heard, v.Event)
		}
		assert.Equal(t, []string{"resync", "message"}, heard)
		n.stop()
		time.Sleep(10 * time.Second) // of the bubble: what reads the store for all gives up
	})
}

func TestAFailedReadJoinsNothing(t *testing.T) {
	b := newBacking()
	s, err := chat.New(chat.Config{Store: unreadable{b.messages}, Rooms: b.rooms, Members: b.members, Marks: b.members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{})})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	n := startOn(t, b, memory.NewFanout().Node(), func(c *realtime.HubConfig) { c.Chat = s })
	ada := n.connect("ada")
	v := ada.ask("join_room", map[string]any{"room": "hall"})
	require.Equal(t, "error", v.Event)
	assert.Equal(t, "unavailable", v.Error.Code)
	assert.NotContains(t, v.Error.Title+v.Error.Detail, "disk", "the store's text is not for clients")
	assert.Equal(t, "not_joined", ada.ask("presence", map[string]any{"room": "hall"}).Error.Code)
}

type unreadable struct{ chat.MessageStore }

func (unreadable) Bounds(context.Context, string) (chat.Bounds, error) {
	return chat.Bounds{}, fault.Wrap(fault.Unavailable, errors.New("disk on fire"))
}
