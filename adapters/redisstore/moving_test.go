package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/testkit/servers"
)

// slots moves slots between the servers of a cluster, as an operator's tool does.
type slots struct {
	t       *testing.T
	clients []*redis.Client
	ids     []string
	moved   int
}

func slotsOf(t *testing.T, cluster []*servers.RedisServer) *slots {
	s := &slots{t: t}
	for _, server := range cluster {
		c := redis.NewClient(&redis.Options{Addr: server.Addr})
		t.Cleanup(func() { assert.NoError(t, c.Close()) })
		id, err := c.Do(t.Context(), "CLUSTER", "MYID").Text()
		require.NoError(t, err)
		s.clients, s.ids = append(s.clients, c), append(s.ids, id)
	}
	return s
}

func (s *slots) do(server int, args ...any) *redis.Cmd {
	s.t.Helper()
	c := s.clients[server].Do(s.t.Context(), args...)
	require.NoError(s.t, c.Err(), "%v", args)
	return c
}

// of returns the slot of a key, and which server serves it.
func (s *slots) of(key string) (slot, server int) {
	s.t.Helper()
	slot, err := s.do(0, "CLUSTER", "KEYSLOT", key).Int()
	require.NoError(s.t, err)
	shards, err := s.clients[0].ClusterShards(s.t.Context()).Result()
	require.NoError(s.t, err)
	for _, shard := range shards {
		for _, r := range shard.Slots {
			if r.Start <= int64(slot) && int64(slot) <= r.End {
				return slot, slices.Index(s.ids, shard.Nodes[0].ID)
			}
		}
	}
	s.t.Fatalf("nobody serves slot %d", slot)
	return 0, 0
}

// move gives the slot of a key to the last server, unless it has it: where several servers take slots faster than they
// tell each other, they do not agree on whose one is. Half-way, when the old one has its keys and the new one takes them,
// meanwhile is called.
func (s *slots) move(key string, meanwhile func()) {
	s.t.Helper()
	slot, from := s.of(key)
	to := len(s.clients) - 1
	if from == to {
		return
	}
	s.moved++
	s.do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", s.ids[from])
	s.do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", s.ids[to])
	meanwhile()
	o := s.clients[to].Options()
	for {
		keys, err := s.do(from, "CLUSTER", "GETKEYSINSLOT", slot, 100).StringSlice()
		require.NoError(s.t, err)
		if len(keys) == 0 {
			break
		}
		host, port, _ := net.SplitHostPort(o.Addr)
		args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		s.do(from, args...)
	}
	s.do(to, "CLUSTER", "SETSLOT", slot, "NODE", s.ids[to])
	s.do(from, "CLUSTER", "SETSLOT", slot, "NODE", s.ids[to])
	for i := range s.clients {
		if i != to && i != from {
			s.do(i, "CLUSTER", "SETSLOT", slot, "NODE", s.ids[to])
		}
	}
}

// TestAClusterThatMovesSlots: slots go from server to server while nodes are subscribed to their channels. The fan-out goes on, and what it
// missed is found by the last message; presence and spent names stay what they were.
func TestAClusterThatMovesSlots(t *testing.T) {
	t.Parallel()
	cluster := servers.StartRedisCluster(t, 3)
	const prefix = "moving:"
	var stores [2]*redisstore.Store
	for i := range stores {
		var err error
		stores[i], err = redisstore.New(dial(t, cluster[0].URL), prefix)
		require.NoError(t, err)
		require.NoError(t, stores[i].Nonces().Prepare(t.Context()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var mu sync.Mutex
	heard := map[string]uint64{} // the highest by room, at the second node
	var fanouts [2]*redisstore.Fanout
	for i := range fanouts {
		fanouts[i] = stores[i].Fanout(redisstore.FanoutConfig{})
		wg.Go(func() {
			assert.NoError(t, fanouts[i].Run(ctx, func(s realtime.Signal) {
				mu.Lock()
				defer mu.Unlock()
				if i == 1 {
					heard[s.Room] = max(heard[s.Room], s.Message.Seq)
				}
			}))
		})
	}
	const rooms = 24 // more than there are shards
	room := func(i int) string { return fmt.Sprint("hall", i) }
	for i := range rooms {
		for _, f := range fanouts {
			require.NoError(t, f.Follow(t.Context(), room(i)))
		}
	}
	var seq uint64
	say := func() {
		seq++
		for i := range rooms {
			require.NoError(t, fanouts[0].Publish(t.Context(), realtime.Signal{
				Kind: realtime.SignalMessage, Room: room(i), Message: chat.Message{ID: fmt.Sprint(seq), Room: room(i), Seq: seq, At: start},
			}))
		}
	}
	all := func(want uint64) bool {
		mu.Lock()
		defer mu.Unlock()
		for i := range rooms {
			if heard[room(i)] < want {
				return false
			}
		}
		return true
	}
	hears := func(why string) {
		t.Helper()
		say()
		want := seq
		require.Eventually(t, func() bool { return all(want) }, patience, 10*time.Millisecond, why)
	}
	hears("before anything moves")

	// insist repeats what a cluster puts off while a slot is between two servers.
	insist := func(what string, do func() error) {
		t.Helper()
		var err error
		for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
			if err = do(); err == nil {
				return
			}
			require.ErrorIs(t, err, fault.Unavailable, what)
		}
		require.NoError(t, err, what)
	}
	expires := func() time.Time { return time.Now().Add(2 * auth.NonceLife) } // of names that no loss concerns
	spend := func(store int, name string, want bool) {
		t.Helper()
		insist("a name", func() error {
			first, err := stores[store].Nonces().Spend(t.Context(), name, expires())
			if err == nil && first != want {
				return errors.New("it is spent " + fmt.Sprint(first))
			}
			return err
		})
	}
	now, who := time.Now(), chat.Author{ID: "ada", Name: "Ada"}
	const names = 40
	for i := range names {
		spend(0, fmt.Sprint("early", i), true)
	}
	for i := range rooms {
		_, err := stores[0].Presence().Enter(t.Context(), now, "node0", room(i), who)
		require.NoError(t, err)
	}

	s := slotsOf(t, cluster)
	for n := range 16 { // the channels of a shard, and the names of a group
		s.move(fmt.Sprintf("%s{f%d}home", prefix, n), say)
		s.move(fmt.Sprintf("%s{n%d}since", prefix, n), func() {})
	}
	for i := range rooms {
		s.move(fmt.Sprintf("%s{r:%s}:who", prefix, room(i)), func() {
			_, _, err := stores[1].Presence().List(t.Context(), now, room(i), 10)
			require.True(t, err == nil || errors.Is(err, fault.Unavailable), err)
		})
	}
	require.Greater(t, s.moved, rooms) // two thirds of them, more or less
	want := seq
	require.Eventually(t, func() bool { return all(want) }, patience, 10*time.Millisecond, "what was said meanwhile is lost")
	for range 3 {
		hears("after all has moved")
	}
	for i := range names {
		spend(1, fmt.Sprint("early", i), false)
		spend(1, fmt.Sprint("late", i), true)
		spend(0, fmt.Sprint("late", i), false)
	}
	for i := range rooms {
		insist("who is present", func() error {
			users, count, err := stores[1].Presence().List(t.Context(), now, room(i), 10)
			if err == nil {
				assert.Equal(t, 1, count)
				assert.Equal(t, []chat.Author{who}, users)
			}
			return err
		})
		insist("to leave", func() error {
			_, err := stores[0].Presence().Exit(t.Context(), now, "node0", room(i), who)
			return err
		})
	}
}
