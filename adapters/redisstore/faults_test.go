package redisstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

const patience = 30 * time.Second

var start = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)

// kinds are the servers that can be killed.
var kinds = map[string]servers.RedisOptions{"single": {AppendOnly: true}, "cluster": {AppendOnly: true, Cluster: true}}

func message(room string, seq uint64) chat.Message {
	return chat.Message{Room: room, Seq: seq, ID: fmt.Sprintf("%s-%d", room, seq), Author: chat.Author{ID: "u", Name: "Ada"}, Text: "hello", At: start}
}

func messages(room string, from, to uint64) (all []chat.Message) {
	for seq := from; seq <= to; seq++ {
		all = append(all, message(room, seq))
	}
	return all
}

func TestAFlushLosesOnlyTime(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{})
	s := fresh(t, dial(t, server.URL))
	cache := s.RecentCache(redisstore.RecentCacheConfig{})
	require.NoError(t, cache.Add(t.Context(), messages("r", 1, 5)...))
	allow := func() time.Duration {
		wait, err := s.Limiter().Allow(t.Context(), "k", auth.Rate{Burst: 1, Per: time.Hour}, start)
		require.NoError(t, err)
		return wait
	}
	require.Zero(t, allow())
	require.NotZero(t, allow())

	server.Flush(t)

	got, _, err := cache.Get(t.Context(), "r")
	require.NoError(t, err)
	assert.Empty(t, got)
	require.NoError(t, cache.Add(t.Context(), message("r", 6)))
	require.NoError(t, cache.Fill(t.Context(), "r", chat.Recent{Messages: messages("r", 1, 5)}))
	got, _, err = cache.Get(t.Context(), "r")
	require.NoError(t, err)
	assert.Equal(t, messages("r", 1, 6), got.Messages)
	assert.Zero(t, allow())
	first, err := s.Presence().Enter(t.Context(), start, "node", "r", chat.Author{ID: "u"})
	require.NoError(t, err)
	assert.True(t, first)
	require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "1", Key: "1"}))
}

func TestAFrozenServerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := servers.StartRedis(t, kind)
			s := fresh(t, dial(t, server.URL))
			q, who := s.MailQueue(), chat.Author{ID: "u"}
			calls := map[string]func(ctx context.Context) error{
				"Ping": s.Ping,
				"Get": func(ctx context.Context) error {
					_, _, err := s.RecentCache(redisstore.RecentCacheConfig{}).Get(ctx, "r")
					return err
				},
				"Add": func(ctx context.Context) error {
					return s.RecentCache(redisstore.RecentCacheConfig{}).Add(ctx, message("r", 1))
				},
				"Change": func(ctx context.Context) error {
					return s.RecentCache(redisstore.RecentCacheConfig{}).Change(ctx, revised("r", 1, 1))
				},
				"Fill": func(ctx context.Context) error {
					return s.RecentCache(redisstore.RecentCacheConfig{}).Fill(ctx, "r", chat.Recent{Messages: messages("r", 1, 1)})
				},
				"Enter": func(ctx context.Context) error {
					_, err := s.Presence().Enter(ctx, start, "n", "r", who)
					return err
				},
				"List": func(ctx context.Context) error { _, _, err := s.Presence().List(ctx, start, "r", 1); return err },
				"Renew": func(ctx context.Context) error {
					_, err := s.Presence().Renew(ctx, realtime.Renewal{Node: "n", Now: start, Until: start})
					return err
				},
				"Allow": func(ctx context.Context) error {
					_, err := s.Limiter().Allow(ctx, "k", auth.Rate{Burst: 100, Per: time.Hour}, start)
					return err
				},
				"Spend":   func(ctx context.Context) error { _, err := s.Nonces().Spend(ctx, "n", start); return err },
				"Enqueue": func(ctx context.Context) error { return q.Enqueue(ctx, mail.Job{ID: "1", Key: "1"}) },
				"Claim":   func(ctx context.Context) error { _, _, err := q.Claim(ctx, start, time.Minute); return err },
				"Stats":   func(ctx context.Context) error { _, err := q.Stats(ctx); return err },
				"Publish": func(ctx context.Context) error {
					return s.Fanout(redisstore.FanoutConfig{}).Publish(ctx, realtime.Signal{Room: "r"})
				},
			}
			for name, do := range calls {
				require.NoError(t, do(t.Context()), name)
			}
			server.Freeze(t)
			cancelled, cancel := context.WithCancel(t.Context())
			short, done := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer done()
			var wg sync.WaitGroup
			for name, do := range calls {
				wg.Go(func() { assert.Equal(t, fault.Unavailable, fault.KindOf(do(cancelled)), name) })
				wg.Go(func() { assert.Equal(t, fault.Unavailable, fault.KindOf(do(short)), name) })
			}
			<-short.Done()
			cancel()
			wg.Wait() // without the server
			server.Thaw(t)
			for name, do := range calls {
				require.NoError(t, do(t.Context()), name)
			}
		})
	}
}

// TestMailSurvivesTheServer kills the server while jobs are enqueued and sent.
func TestMailSurvivesTheServer(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{AppendOnly: true})
	q := fresh(t, dial(t, server.URL)).MailQueue()
	const jobs = 200
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := func(do func(ctx context.Context) error) {
		for ctx.Err() == nil {
			try, cancel := context.WithTimeout(ctx, time.Second)
			err := do(try)
			cancel()
			if fault.KindOf(err) != fault.Unavailable || err == nil {
				assert.NoError(t, err)
				return
			}
		}
	}
	third, killed := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range jobs {
			again(func(ctx context.Context) error {
				return q.Enqueue(ctx, mail.Job{ID: fmt.Sprintf("%03d", i), Key: fmt.Sprint(i), RunAt: start})
			})
			if i == jobs/3 {
				close(third)
				<-killed // so that the next is sent to a server that is not there
			}
		}
	})
	sent := map[string]int{}
	wg.Go(func() {
		now := start
		for len(sent) < jobs {
			var j mail.Job
			var ok bool
			again(func(ctx context.Context) (err error) {
				j, ok, err = q.Claim(ctx, now, time.Minute)
				return err
			})
			if !ok {
				if ctx.Err() != nil {
					return
				}
				now = now.Add(time.Minute) // whatever a lost answer holds comes again
				continue
			}
			err := q.Settle(t.Context(), j, mail.Outcome{State: mail.Sent, At: now})
			if err == nil {
				sent[j.ID]++
			} else if fault.KindOf(err) == fault.Unavailable {
				again(func(ctx context.Context) error {
					got, err := q.Get(ctx, j.ID)
					if err == nil && got.State == mail.Sent {
						sent[j.ID]++
					}
					return err
				})
			}
			if ctx.Err() != nil || t.Failed() {
				return
			}
		}
	})
	<-third
	server.Kill(t)
	close(killed)
	server.Restart(t)
	wg.Wait()
	assert.Len(t, sent, jobs)
	for id, n := range sent {
		assert.Equal(t, 1, n, id)
	}
	stats, err := q.Stats(t.Context())
	require.NoError(t, err)
	assert.Equal(t, jobs, stats[mail.Sent])
	assert.Zero(t, stats[mail.Ready]+stats[mail.Running]+stats[mail.Dead])
}

// conn is a connection that keeps the messages it got.
type conn struct {
	joined chan struct{}

	mu      sync.Mutex
	changed chan struct{}
	seqs    []uint64
}

func (c *conn) Send(f *socket.Frame) error {
	for m := range f.Messages() {
		if err := c.hear(m); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) hear(f *socket.Frame) error {
	var v struct {
		Event string
		Data  struct{ Seq json.Number }
	}
	if err := json.Unmarshal(f.Payload(), &v); err != nil {
		return err
	}
	switch v.Event {
	case "ack":
		close(c.joined)
	case "message":
		n, err := v.Data.Seq.Int64()
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.seqs = append(c.seqs, uint64(n))
		close(c.changed)
		c.changed = make(chan struct{})
	}
	return nil
}
func (c *conn) Queued() int       { return 0 }
func (c *conn) Close(int, string) {}

// until waits for the message with this sequence, and wants all before it, in order, once.
func (c *conn) until(t *testing.T, seq uint64) {
	t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		changed, got := c.changed, slices.Clone(c.seqs)
		c.mu.Unlock()
		if len(got) > 0 && got[len(got)-1] >= seq {
			for i, s := range got {
				require.EqualValues(t, i+1, s, "%v", got)
			}
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.Fail(t, "a message is missing", "%d of %v", seq, got)
		}
	}
}

// TestTwoHubsOutliveTheServer: members on two nodes have every message, in order, also those
// that were committed while the server was away and after which nobody said anything more.
func TestTwoHubsOutliveTheServer(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T) []*servers.RedisServer{
		"single": func(t *testing.T) []*servers.RedisServer {
			return []*servers.RedisServer{servers.StartRedis(t, kinds["single"])}
		},
		"cluster": func(t *testing.T) []*servers.RedisServer {
			return []*servers.RedisServer{servers.StartRedis(t, kinds["cluster"])}
		},
		"cluster of three": func(t *testing.T) []*servers.RedisServer { return servers.StartRedisCluster(t, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := begin(t)
			each := func(do func(s *servers.RedisServer, t testing.TB)) {
				for _, n := range nodes {
					do(n, t)
				}
			}
			store := fresh(t, dial(t, nodes[0].URL))
			messages, rooms := memory.NewMessages(), memory.NewRooms()
			members := memory.NewMembers(messages)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			var conns []*conn
			var ends []socket.Receiver
			for n := range 2 {
				svc, err := chat.New(chat.Config{Store: messages, Rooms: rooms, Members: members, Marks: members, Cache: store.RecentCache(redisstore.RecentCacheConfig{})})
				require.NoError(t, err)
				hub, err := realtime.NewHub(realtime.HubConfig{
					Chat: svc, Fanout: store.Fanout(redisstore.FanoutConfig{}), Presence: store.Presence(), Node: fmt.Sprint("node", n),
				})
				require.NoError(t, err)
				wg.Go(func() { assert.NoError(t, svc.Run(ctx)) })
				wg.Go(func() { assert.NoError(t, hub.Run(ctx)) })
				c := &conn{joined: make(chan struct{}), changed: make(chan struct{})}
				end, err := hub.Accept(c, socket.Hello{Identity: user.Identity{UserID: user.ID(fmt.Sprint("u", n)), Name: "x"}})
				require.NoError(t, err)
				end.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false)
				conns, ends = append(conns, c), append(ends, end)
				<-c.joined
			}
			said := uint64(0)
			say := func(n int) {
				for range n {
					ends[said%2].Receive(fmt.Appendf(nil, `{"event":"message","data":{"room":"hall","text":"%d"}}`, said), false)
					said++
					conns[(said-1)%2].until(t, said)
				}
			}
			say(20)
			for _, c := range conns {
				c.until(t, said)
			}
			each((*servers.RedisServer).Kill)
			ends[0].Receive([]byte(`{"event":"message","data":{"room":"hall","text":"alone"}}`), false)
			said++
			conns[0].until(t, said)
			each((*servers.RedisServer).Restart)
			for _, c := range conns {
				c.until(t, said)
			}
			// A node that starts now finds the cache as it survived, and nobody says anything.
			late, err := chat.New(chat.Config{Store: messages, Rooms: rooms, Members: members, Marks: members, Cache: store.RecentCache(redisstore.RecentCacheConfig{})})
			require.NoError(t, err)
			assert.Eventually(t, func() bool {
				p, err := late.Newest(ctx, "hall", chat.Reach{})
				return err == nil && p.Last == said
			}, patience, 10*time.Millisecond, "the cache lacks the last message")
			say(20)
			each((*servers.RedisServer).Flush)
			p, err := late.Newest(ctx, "hall", chat.Reach{})
			require.NoError(t, err)
			assert.Equal(t, said, p.Last)
			say(20)
			for _, c := range conns {
				c.until(t, said)
			}
			all, err := messages.List(ctx, "hall", chat.Range{Limit: 1000})
			require.NoError(t, err)
			assert.Len(t, all, int(said))
			for _, e := range ends {
				e.Disconnected()
			}
		})
	}
}

// TestWhatIsSaidBeforeRunIsHeard: a node lets people in a moment before its fan-out runs.
func TestWhatIsSaidBeforeRunIsHeard(t *testing.T) {
	t.Parallel()
	store := fresh(t, dial(t, servers.StartRedis(t, servers.RedisOptions{}).URL))
	f := store.Fanout(redisstore.FanoutConfig{})
	require.NoError(t, f.Follow(t.Context(), "hall"))
	for n := range uint64(3) {
		require.NoError(t, f.Publish(t.Context(), realtime.Signal{Kind: realtime.SignalMessage, Room: "hall", Message: chat.Message{Room: "hall", Seq: n + 1}}))
		require.NoError(t, f.Publish(t.Context(), realtime.Signal{Kind: realtime.SignalChanged, Room: "hall", Message: chat.Message{Room: "hall", Seq: 3 - n, Rev: n + 1}}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan chat.Message, 10)
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(t, f.Run(ctx, func(s realtime.Signal) { heard <- s.Message })) })
	assert.EqualValues(t, 3, (<-heard).Seq, "the last one, by which a hub finds the others")
	assert.EqualValues(t, 3, (<-heard).Rev, "and the last change")
	cancel()
	wg.Wait()
	assert.Empty(t, heard)
}

// begun returns once Run of f is under way and delivers.
func begun(t *testing.T, f *redisstore.Fanout, room string, delivered <-chan uint64) {
	t.Helper()
	require.NoError(t, f.Follow(t.Context(), room))
	for len(delivered) == 0 {
		require.NoError(t, f.Publish(t.Context(), realtime.Signal{Kind: realtime.SignalTyping, Room: room}))
	}
	<-delivered
	require.NoError(t, f.Unfollow(t.Context(), room))
}

// TestAFullQueueIsMadeUpFor: more messages than the queue holds, while the server is away.
func TestAFullQueueIsMadeUpFor(t *testing.T) {
	t.Parallel()
	server := servers.StartRedis(t, servers.RedisOptions{})
	store := fresh(t, dial(t, server.URL))
	a, b := store.Fanout(redisstore.FanoutConfig{Queue: 5}), store.Fanout(redisstore.FanoutConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	heard, own := make(chan uint64, 1000), make(chan uint64, 1000)
	var revs atomic.Uint64 // the last change that b heard of
	wg.Go(func() {
		assert.NoError(t, a.Run(ctx, func(s realtime.Signal) {
			if s.Kind != realtime.SignalChanged {
				own <- s.Message.Seq
			}
		}))
	})
	wg.Go(func() {
		assert.NoError(t, b.Run(ctx, func(s realtime.Signal) {
			if s.Kind == realtime.SignalChanged {
				assert.Equal(t, revised("r", s.Message.Seq, s.Message.Rev), s.Message)
				revs.Store(s.Message.Rev)
				return
			}
			heard <- s.Message.Seq
		}))
	})
	begun(t, a, "probe of a", own)
	begun(t, b, "probe of b", heard)
	require.NoError(t, a.Follow(ctx, "r"))
	require.NoError(t, b.Follow(ctx, "r"))
	signal := func(seq uint64) realtime.Signal {
		return realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Message: message("r", seq)}
	}
	require.NoError(t, a.Publish(ctx, signal(1)))
	assert.EqualValues(t, 1, <-heard)
	server.Kill(t)
	const last = 2000
	refused := 0
	for seq := uint64(2); seq <= last; seq++ {
		err := a.Publish(ctx, signal(seq))
		if err != nil {
			refused++
			assert.ErrorIs(t, err, fault.Unavailable)
		}
		if seq%10 == 0 {
			_ = a.Publish(ctx, realtime.Signal{Kind: realtime.SignalChanged, Room: "r", Message: revised("r", seq-1, seq/10)})
		}
		if seq%500 == 0 { // its own messages come without the server
			for want := seq - 499; want <= seq; want++ {
				require.Equal(t, want, <-own)
			}
		}
	}
	assert.Positive(t, refused)
	server.Restart(t)
	deadline := time.After(patience)
	for got := uint64(0); got < last; {
		select {
		case got = <-heard:
		case <-deadline:
			require.Fail(t, "the last message did not come", "%d", got)
		}
	}
	require.Eventually(t, func() bool { return revs.Load() == last/10 }, patience, 10*time.Millisecond, "the last change did not come")
}

func TestFollowGivesUp(t *testing.T) {
	t.Parallel()
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	f := fresh(t, c).Fanout(redisstore.FanoutConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, func(realtime.Signal) {}) }()
	for err := error(nil); err == nil; { // until Run has begun, following is only noting
		short, done := context.WithTimeout(ctx, 20*time.Millisecond)
		err = f.Follow(short, "r")
		done()
		if err != nil {
			assert.ErrorIs(t, err, fault.Unavailable)
		}
	}
	assert.Error(t, f.Run(ctx, func(realtime.Signal) {}), "one Run at a time")
	cancel()
	assert.NoError(t, <-ended)
	assert.NoError(t, f.Follow(t.Context(), "r"), "without a Run it is only noted")
}
