package redisstore_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

func TestNewChecksWhatItGets(t *testing.T) {
	t.Parallel()
	_, err := redisstore.New(nil, "a{b}")
	assert.ErrorContains(t, err, "client")
	assert.ErrorContains(t, err, "braces")
	c := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	_, err = redisstore.New(c, "")
	assert.NoError(t, err)
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url   string
		addrs []string // none: an error
		many  bool
	}{
		{"redis://localhost:1234", []string{"localhost:1234"}, false},
		{"redis://user:p%40ss@localhost:1234/0", []string{"localhost:1234"}, false},
		{"rediss://localhost:1234", []string{"localhost:1234"}, false},
		{"redis://a:1,b:2,c:3", []string{"a:1", "b:2", "c:3"}, true},
		{"redis://user:secret@a:1,b:2?pool_size=3", []string{"a:1", "b:2"}, true},
		{"redis://a:1?addr=a:1", []string{"a:1", "a:1"}, true},
		{"", nil, false},
		{"http://localhost", nil, false},
		{"redis://user:secret\x00@localhost:1", nil, false},
		{"redis://a:1,b:2?unknown=secret", nil, true},
	} {
		client, err := redisstore.Open(c.url)
		if c.addrs == nil {
			assert.Error(t, err, c.url)
			assert.Equal(t, err, redisstore.CheckURL(c.url))
			continue
		}
		assert.NoError(t, redisstore.CheckURL(c.url))
		require.NoError(t, err, c.url)
		switch client := client.(type) {
		case *redis.Client:
			assert.False(t, c.many, c.url)
			assert.Equal(t, c.addrs[0], client.Options().Addr)
			assert.True(t, client.Options().ContextTimeoutEnabled)
		case *redis.ClusterClient:
			assert.True(t, c.many, c.url)
			assert.ElementsMatch(t, c.addrs, client.Options().Addrs)
			assert.True(t, client.Options().ContextTimeoutEnabled)
		}
		assert.NoError(t, client.Close())
	}
}

func TestAClosedClientIsUnavailable(t *testing.T) {
	t.Parallel()
	c, err := redisstore.Open("redis://" + miniredis.RunT(t).Addr())
	require.NoError(t, err)
	s := fresh(t, c)
	require.NoError(t, s.Ping(t.Context()))
	require.NoError(t, c.Close())
	assert.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable)
}

func TestDialOpensAStore(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	s, about, err := redisstore.Dial(t.Context(), "redis://"+server.Addr(), redisstore.Needs{MailQueue: true, Prefix: "mine:"})
	require.NoError(t, err)
	t.Log(about)
	first, err := s.Ports().Nonces.Spend(t.Context(), "n", time.Now().Add(time.Hour))
	require.NoError(t, err)
	assert.True(t, first)
	assert.True(t, slices.ContainsFunc(server.Keys(), func(key string) bool { return strings.HasPrefix(key, "mine:{n") }), server.Keys())
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice is harmless")
	require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable)

	for url, prefix := range map[string]string{"redis://" + server.Addr(): "{a}", "http://localhost": ""} {
		s, _, err := redisstore.Dial(t.Context(), url, redisstore.Needs{Prefix: prefix})
		require.Error(t, err)
		assert.Nil(t, s)
	}
	c, err := redisstore.Open("redis://" + server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	theirs := fresh(t, c)
	require.NoError(t, theirs.Close())
	require.NoError(t, theirs.Ping(t.Context()), "the client of a caller stays open")
}

// TestNamesOnACluster: names that could spoil a hash tag, on a server that insists.
func TestNamesOnACluster(t *testing.T) {
	t.Parallel()
	s := fresh(t, dial(t, servers.StartRedisCluster(t, 3)[0].URL))
	for i, room := range []string{"", "}", "{", "{}", "a}b", "}{", "%", "%7D", "a\x00b", "a%00b"} {
		who := chat.Author{ID: "u", Name: fmt.Sprint(i)}
		first, err := s.Presence().Enter(t.Context(), start, "n\x00}", room, who)
		require.NoError(t, err, "%q", room)
		assert.True(t, first, "%q", room)
		users, count, err := s.Presence().List(t.Context(), start, room, 10)
		require.NoError(t, err, "%q", room)
		assert.Equal(t, 1, count)
		assert.Equal(t, []chat.Author{who}, users, "%q", room)
		_, err = s.Nonces().Spend(t.Context(), room, start)
		require.NoError(t, err)
		_, err = s.Limiter().Allow(t.Context(), room, auth.Rate{Burst: 1, Per: time.Second}, start)
		require.NoError(t, err)
	}
}

// TestTheFanoutIsShardedWhereItCanBe: what a node follows is a sharded channel on a Redis, and a plain one
// on a server that has none.
func TestTheFanoutIsShardedWhereItCanBe(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		server  func(t *testing.T) string
		sharded bool
	}{
		{"Redis", func(t *testing.T) string { return servers.StartRedis(t, servers.RedisOptions{}).URL }, true},
		{"miniredis", func(t *testing.T) string { return "redis://" + miniredis.RunT(t).Addr() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := dial(t, c.server(t))
			s, err := redisstore.New(client, "test-sharded:")
			require.NoError(t, err)
			f := s.Fanout(redisstore.FanoutConfig{})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			ended := make(chan error, 1)
			go func() { ended <- f.Run(ctx, func(realtime.Signal) {}) }()
			defer func() { cancel(); require.NoError(t, <-ended) }()
			// Until Run is under way, Follow only notes the room.
			for {
				require.NoError(t, f.Follow(ctx, "hall"))
				plain, err := client.PubSubChannels(ctx, "test-sharded:*").Result()
				require.NoError(t, err)
				var sharded []string
				if c.sharded {
					sharded, err = client.PubSubShardChannels(ctx, "test-sharded:*").Result()
					require.NoError(t, err)
				}
				if followed := append(slices.Clone(plain), sharded...); slices.ContainsFunc(followed, func(name string) bool { return strings.HasSuffix(name, "/hall") }) {
					assert.Equal(t, c.sharded, len(plain) == 0, "plain: %v, sharded: %v", plain, sharded)
					return
				}
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
					t.Fatal("nobody follows the room")
				}
			}
		})
	}
}

func TestPresenceForgetsDeadNodes(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	s := fresh(t, dial(t, "redis://"+server.Addr()))
	p := s.Presence()
	ada, bob := chat.Author{ID: "a", Name: "Ada"}, chat.Author{ID: "b", Name: "Bob"}
	enter := func(node string, who chat.Author) {
		t.Helper()
		_, err := p.Enter(t.Context(), start, node, "r", who)
		require.NoError(t, err)
	}
	list := func(now time.Time) []chat.Author {
		t.Helper()
		users, count, err := p.List(t.Context(), now, "r", 10)
		require.NoError(t, err)
		assert.Len(t, users, count)
		return users
	}
	renew := func(node string, until time.Time) {
		t.Helper()
		_, err := p.Renew(t.Context(), realtime.Renewal{Node: node, Until: until})
		require.NoError(t, err)
	}
	renew("dead", start.Add(time.Minute))
	renew("alive", start.Add(24*time.Hour))
	enter("dead", ada)
	enter("dead", bob)
	enter("alive", bob)
	assert.Equal(t, []chat.Author{ada, bob}, list(start))
	assert.Equal(t, []chat.Author{bob}, list(start.Add(time.Hour)))
	renew("dead", start.Add(61*time.Minute))
	assert.Equal(t, []chat.Author{ada, bob}, list(start.Add(time.Hour)), "it is back")
	assert.Equal(t, []chat.Author{bob}, list(start.Add(3*time.Hour)))
	renew("dead", start.Add(24*time.Hour))
	assert.Equal(t, []chat.Author{bob}, list(start.Add(3*time.Hour)), "its users are forgotten")
	last, err := p.Exit(t.Context(), start, "alive", "r", bob)
	require.NoError(t, err)
	assert.True(t, last)
	assert.Empty(t, list(start))

	before := len(server.Keys())
	enter("alive", ada)
	assert.Greater(t, len(server.Keys()), before)
	server.FastForward(31 * 24 * time.Hour)
	assert.Empty(t, list(start), "a room that nobody touched")
	_, err = p.Renew(t.Context(), realtime.Renewal{Node: "n", Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
	assert.ErrorIs(t, err, fault.Invalid)
}

// An older program that puts messages into the cache leaves out what it does not know: such a room is read from the store, and held again
// when that is done.
func TestARoomThatAnOlderProgramHasCachedIsNotHeld(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	cache := fresh(t, dial(t, "redis://"+server.Addr())).RecentCache(redisstore.RecentCacheConfig{})
	all := messages("r", 1, 3)
	all[1].ReplyTo, all[1].Data = 1, `{"a":1}`
	require.NoError(t, cache.Add(t.Context(), all[0]))
	key := server.Keys()[0]
	entries, err := server.List(key)
	require.NoError(t, err)
	// The length of the room's name has two bytes more in an entry of this program; it had one more, or none.
	require.Equal(t, "\x81\x80\x00r", entries[0][20:24])
	for name, length := range map[string]string{"older": "\x01", "earlier": "\x81\x00"} {
		older := func(e string) string { return e[:20] + length + e[23:] }
		for _, at := range []string{"before", "behind"} {
			at := name + " " + at
			require.NoError(t, cache.Fill(t.Context(), "r", chat.Recent{Messages: all}))
			if strings.HasSuffix(at, "before") {
				_, err = server.Lpop(key)
				require.NoError(t, err)
				_, err = server.Lpush(key, older(entries[0]))
			} else {
				third, _ := server.Pop(key)
				_, err = server.Push(key, older(third))
			}
			require.NoError(t, err)
			got, held, err := cache.Get(t.Context(), "r")
			require.NoError(t, err)
			assert.False(t, held, at)
			assert.Empty(t, got, at)
			require.NoError(t, cache.Fill(t.Context(), "r", chat.Recent{Messages: all}))
			got, held, err = cache.Get(t.Context(), "r")
			require.NoError(t, err)
			assert.True(t, held, at)
			assert.Equal(t, chat.Recent{Messages: all}, got, at)
		}
	}
}

func TestRecentCacheLimits(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := dial(t, "redis://"+server.Addr())
	cache := fresh(t, client).RecentCache(redisstore.RecentCacheConfig{Messages: 3, TTL: time.Minute})
	get := func() []chat.Message {
		t.Helper()
		got, _, err := cache.Get(t.Context(), "r")
		require.NoError(t, err)
		return got.Messages
	}
	require.NoError(t, cache.Add(t.Context(), messages("r", 1, 2)...))
	require.NoError(t, cache.Add(t.Context(), messages("r", 3, 9)...))
	assert.Equal(t, messages("r", 7, 9), get())
	require.NoError(t, cache.Add(t.Context(), message("r", 11), message("r", 10), message("r", 13)))
	assert.Equal(t, messages("r", 13, 13), get(), "what is behind a hole replaces")
	require.NoError(t, cache.Fill(t.Context(), "r", chat.Recent{Messages: messages("r", 8, 12)}))
	assert.Equal(t, messages("r", 11, 13), get())
	assert.ErrorIs(t, cache.Fill(t.Context(), "r", chat.Recent{Messages: []chat.Message{message("r", 14), message("r", 16)}}), fault.Invalid)
	server.FastForward(2 * time.Minute)
	assert.Empty(t, get(), "it was held for a minute")

	// Above 2^53 a double would take one sequence for the next.
	require.NoError(t, cache.Add(t.Context(), message("r", math.MaxInt64-2), message("r", math.MaxInt64-1)))
	require.NoError(t, cache.Add(t.Context(), message("r", math.MaxInt64)))
	assert.Equal(t, messages("r", math.MaxInt64-2, math.MaxInt64), get())

	for _, spoilt := range []string{"", "x", "00000000000000000001", "00000000000000000001\x01r\x01"} {
		require.Len(t, server.Keys(), 1)
		server.FlushAll()
		require.NoError(t, cache.Add(t.Context(), message("r", 1)))
		key := server.Keys()[0]
		_, err := server.Push(key, spoilt)
		require.NoError(t, err)
		assert.Empty(t, get(), "what cannot be read is not held")
		require.NoError(t, cache.Add(t.Context(), message("r", 2)))
		assert.Equal(t, messages("r", 2, 2), get())
	}
}

// revised is message after a change.
func revised(room string, seq, rev uint64) chat.Message {
	m := message(room, seq)
	m.Rev, m.Text, m.EditedAt = rev, fmt.Sprint("edited ", rev), start.Add(time.Duration(rev%1000)*time.Second)
	m.Reactions = []chat.Reaction{{Key: "+1", Count: int(rev%1000) + 1, Users: []user.ID{"u"}}}
	return m
}

func TestRecentCacheRemembersRevs(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	cache := fresh(t, dial(t, "redis://"+server.Addr())).RecentCache(redisstore.RecentCacheConfig{Messages: 3, TTL: time.Minute})
	get := func() (chat.Recent, bool) {
		t.Helper()
		got, held, err := cache.Get(t.Context(), "r")
		require.NoError(t, err)
		return got, held
	}
	want := func(rev uint64, messages ...chat.Message) {
		t.Helper()
		got, held := get()
		assert.True(t, held)
		assert.Equal(t, chat.Recent{Messages: messages, Rev: rev}, got)
	}
	unheld := func() {
		t.Helper()
		got, held := get()
		assert.False(t, held)
		assert.Empty(t, got)
	}
	change := func(all ...chat.Message) { t.Helper(); require.NoError(t, cache.Change(t.Context(), all...)) }
	fill := func(rev uint64, all ...chat.Message) {
		t.Helper()
		require.NoError(t, cache.Fill(t.Context(), "r", chat.Recent{Messages: all, Rev: rev}))
	}

	// Above 2^53 a double would take one number for the next.
	const most = math.MaxUint64
	last := []chat.Message{message("r", most-3), message("r", most-2), message("r", most-1)}
	fill(most-3, last...)
	change(revised("r", most-2, most-2))
	want(most-2, last[0], revised("r", most-2, most-2), last[2])
	change(revised("r", most-3, most-2), revised("r", most-1, most-1), revised("r", most-3, most))
	want(most, revised("r", most-3, most), revised("r", most-2, most-2), revised("r", most-1, most-1))
	fill(most-1, last...)
	want(most, revised("r", most-3, most), revised("r", most-2, most-2), revised("r", most-1, most-1))

	// Both keys go together.
	assert.Len(t, server.Keys(), 2)
	server.FastForward(40 * time.Second)
	require.NoError(t, cache.Add(t.Context(), message("r", most)))
	server.FastForward(40 * time.Second)
	assert.Len(t, server.Keys(), 2)
	server.FastForward(21 * time.Second)
	assert.Empty(t, server.Keys())
	change(revised("r", 2, 5))
	assert.Len(t, server.Keys(), 1)
	unheld()
	server.FastForward(61 * time.Second)
	assert.Empty(t, server.Keys(), "the Rev alone is remembered as long")

	// Whatever is put into the cache, what is there goes after a minute without more.
	for name, put := range map[string]func(){
		"Fill":             func() { fill(3, message("r", 1)) },
		"Fill, as new":     func() { fill(2, message("r", 1)) },
		"Fill, nothing":    func() { require.NoError(t, cache.Fill(t.Context(), "r", chat.Recent{Rev: 3})) },
		"Change":           func() { change(revised("r", 1, 3)) },
		"Change of others": func() { change(revised("r", 7, 3)) },
	} {
		fill(2, message("r", 1))
		server.FastForward(40 * time.Second)
		put()
		server.FastForward(40 * time.Second)
		_, held := get()
		assert.Equal(t, name != "Fill, nothing", held, name)
		server.FastForward(21 * time.Second)
		assert.Empty(t, server.Keys(), name)
	}

	// A list that cannot be read takes no Rev with it.
	fill(5, message("r", 1))
	_, err := server.Push(server.Keys()[0], "older")
	require.NoError(t, err)
	unheld()
	fill(4, message("r", 1))
	unheld()
	server.FlushAll()

	// What a message is already is not taken back, by a change that was overtaken by what was read from the store.
	fill(6, message("r", 1), revised("r", 2, 9), message("r", 3))
	change(revised("r", 2, 7))
	want(7, message("r", 1), revised("r", 2, 9), message("r", 3))
	change(revised("r", 3, 8), revised("r", 2, 9), revised("r", 1, 10))
	want(10, revised("r", 1, 10), revised("r", 2, 9), revised("r", 3, 8))
	change(revised("r", 4, 11), revised("r", 1, 12))
	want(12, revised("r", 2, 9), revised("r", 3, 8), revised("r", 4, 11))

	// The server may drop one of the keys.
	keys := server.Keys()
	require.Len(t, keys, 2)
	require.True(t, strings.HasSuffix(keys[1], ":recent:rev"), keys)
	server.Del(keys[0])
	fill(11, message("r", 1))
	unheld()
	require.NoError(t, cache.Add(t.Context(), message("r", 5)))
	unheld()
	fill(12, revised("r", 4, 11), message("r", 5))
	want(12, revised("r", 4, 11), message("r", 5))
	server.Del(keys[1])
	want(0, revised("r", 4, 11), message("r", 5))
	change(revised("r", 5, 13))
	unheld()

	for _, spoilt := range []string{"", "x", "0000000000000000001x", "99999999999999999999"} {
		fill(14, message("r", 5))
		require.NoError(t, server.Set(keys[1], spoilt))
		if got, held := get(); spoilt == "" {
			assert.True(t, held)
			assert.Zero(t, got.Rev)
			continue
		}
		unheld()
		fill(14, message("r", 5))
		want(14, message("r", 5))
	}
}

func TestLimiterRemembersNoLongerThanNeeded(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	l := fresh(t, dial(t, "redis://"+server.Addr())).Limiter()
	wait, err := l.Allow(t.Context(), "k", auth.Rate{Burst: 3, Per: time.Second}, start)
	require.NoError(t, err)
	assert.Zero(t, wait)
	require.Len(t, server.Keys(), 1)
	server.FastForward(2 * time.Minute)
	assert.Empty(t, server.Keys())
}

func TestNoncesStayAtLeastTenMinutes(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	n := fresh(t, dial(t, "redis://"+server.Addr())).Nonces()
	spend := func() bool {
		first, err := n.Spend(t.Context(), "n", time.Unix(0, 0))
		require.NoError(t, err)
		return first
	}
	assert.True(t, spend())
	server.FastForward(9 * time.Minute)
	assert.False(t, spend())
	server.FastForward(2 * time.Minute)
	assert.True(t, spend())
}

// repeating sends every command twice, as a client does that lost the first answer.
type repeating struct{}

func (repeating) DialHook(next redis.DialHook) redis.DialHook { return next }

func (repeating) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := next(ctx, cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (repeating) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestARepeatedCommandIsAnsweredAsTheFirst(t *testing.T) {
	t.Parallel()
	c := dial(t, "redis://"+miniredis.RunT(t).Addr())
	c.AddHook(repeating{})
	s := fresh(t, c)
	first, err := s.Nonces().Spend(t.Context(), "n", start)
	require.NoError(t, err)
	assert.True(t, first)
	first, err = s.Nonces().Spend(t.Context(), "n", start)
	require.NoError(t, err)
	assert.False(t, first)
	q := s.MailQueue()
	require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", RunAt: start}))
	_, ok, err := q.Claim(t.Context(), start, time.Minute)
	require.NoError(t, err)
	assert.False(t, ok, "the first answer has it")
	j, err := q.Get(t.Context(), "1")
	require.NoError(t, err)
	require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: start}))
	assert.ErrorIs(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: start}), mail.ErrLeaseLost)
	require.NoError(t, q.Requeue(t.Context(), "1", start, nil))
	assert.ErrorIs(t, q.Requeue(t.Context(), "1", start, nil), mail.ErrNotDead)
}

func TestMailQueueRefuses(t *testing.T) {
	t.Parallel()
	q := fresh(t, dial(t, "redis://"+miniredis.RunT(t).Addr())).MailQueue()
	require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: "1", Key: "1"}))
	assert.ErrorIs(t, q.Enqueue(t.Context(), mail.Job{ID: "1", Key: "2"}), fault.Conflict)
	for _, limit := range []int{-1, 0, 1001} {
		_, err := q.List(t.Context(), mail.Filter{Limit: limit})
		assert.ErrorIs(t, err, fault.Invalid)
	}
	assert.ErrorIs(t, q.Settle(t.Context(), mail.Job{ID: "1"}, mail.Outcome{State: mail.Running}), fault.Invalid)
	_, _, err := q.Claim(t.Context(), start, 0)
	assert.ErrorIs(t, err, fault.Invalid)
}

// TestLargeMailQueue: more jobs than one script looks at.
func TestLargeMailQueue(t *testing.T) {
	t.Parallel()
	q := fresh(t, dial(t, servers.Redis(t))).MailQueue()
	const jobs = 2500
	for i := range jobs {
		to := user.Email("many@example.com")
		if i%1200 == 0 {
			to = "few@example.com"
		}
		require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: fmt.Sprintf("%04d", jobs-i), Key: fmt.Sprint(i), To: to, RunAt: start}))
	}
	j, ok, err := q.Claim(t.Context(), start, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, "2500", j.ID, "enqueued first")
	assert.True(t, j.CreatedAt.IsZero())
	page, err := q.List(t.Context(), mail.Filter{To: "few@example.com", Limit: 1000})
	require.NoError(t, err)
	require.Len(t, page, 3)
	assert.Equal(t, []string{"0100", "1300", "2500"}, []string{page[0].ID, page[1].ID, page[2].ID})
	page, err = q.List(t.Context(), mail.Filter{To: "nobody@example.com", Limit: 1})
	require.NoError(t, err)
	assert.Empty(t, page)
	page, err = q.List(t.Context(), mail.Filter{State: mail.Running, Limit: 1})
	require.NoError(t, err)
	require.Len(t, page, 1)
	assert.Equal(t, j, page[0])
}

// TestTheMailQueueIsAStream looks at the stream from outside, as an operator does.
func TestTheMailQueueIsAStream(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			c := b.open(t)
			prefix := fmt.Sprintf("stream-%d:", spaces.Add(1))
			s, err := redisstore.New(c, prefix)
			require.NoError(t, err)
			q, key := s.MailQueue(), prefix+"{mail}:jobs"
			look := func(entries, pending int64) {
				t.Helper()
				n, err := c.XLen(t.Context(), key).Result()
				require.NoError(t, err)
				assert.Equal(t, entries, n, "entries")
				p, err := c.XPending(t.Context(), key, "mailers").Result()
				require.NoError(t, err)
				assert.Equal(t, pending, p.Count, "pending")
			}
			deliveries := func(entry string) int64 {
				t.Helper()
				p, err := c.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: key, Group: "mailers", Start: entry, End: entry, Count: 1}).Result()
				require.NoError(t, err)
				require.Len(t, p, 1)
				return p[0].RetryCount
			}
			claim := func(now time.Time) mail.Job {
				t.Helper()
				j, ok, err := q.Claim(t.Context(), now, time.Minute)
				require.NoError(t, err)
				require.True(t, ok)
				return j
			}
			settle := func(j mail.Job, state mail.State, runAt time.Time) {
				t.Helper()
				require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: state, At: start, RunAt: runAt, Error: "x"}))
			}
			_, ok, err := q.Claim(t.Context(), start, time.Minute)
			require.NoError(t, err)
			assert.False(t, ok, "there is no stream yet")
			for i, id := range []string{"a", "late", "b", "c"} {
				j := mail.Job{ID: id, Key: id, RunAt: start}
				if id == "late" {
					j.RunAt = start.Add(time.Hour)
				}
				require.NoError(t, q.Enqueue(t.Context(), j))
				look(int64(i+1), 0)
			}
			a := claim(start)
			assert.Equal(t, "a", a.ID)
			look(4, 1)
			bb := claim(start)
			assert.Equal(t, "b", bb.ID)
			look(4, 3) // what is late was read on the way
			settle(a, mail.Sent, time.Time{})
			look(3, 2)
			settle(bb, mail.Dead, time.Time{})
			look(3, 1)
			require.NoError(t, q.Requeue(t.Context(), "b", start, nil))
			look(3, 2)
			bb = claim(start)
			assert.Equal(t, "b", bb.ID, "in its old place, before what was not read yet")
			assert.EqualValues(t, 1, deliveries("3-0"), "attempts since it was requeued")
			settle(bb, mail.Dead, time.Time{})
			require.NoError(t, q.Discard(t.Context(), "b"))
			look(2, 1)
			assert.Equal(t, "late", claim(start.Add(time.Hour)).ID, "it is due, and was there before")
			cc := claim(start.Add(time.Hour))
			assert.Equal(t, "c", cc.ID)
			settle(cc, mail.Ready, start.Add(2*time.Hour))
			look(2, 2)
			assert.Equal(t, "late", claim(start.Add(2*time.Hour)).ID, "its lease has ended, by the caller's clock")
			assert.EqualValues(t, 2, deliveries("2-0"))
		})
	}
}
