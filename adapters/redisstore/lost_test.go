package redisstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// listener is a connection that keeps who is said to have joined and left.
type listener struct {
	mu    sync.Mutex
	heard []string
}

func (l *listener) Send(f *socket.Frame) error {
	for m := range f.Messages() {
		if err := l.hear(m); err != nil {
			return err
		}
	}
	return nil
}

func (l *listener) hear(f *socket.Frame) error {
	var v struct {
		Event string
		Data  struct{ User struct{ ID string } }
	}
	if err := json.Unmarshal(f.Payload(), &v); err != nil {
		return err
	}
	if v.Event == "joined" || v.Event == "left" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.heard = append(l.heard, v.Event+" "+v.Data.User.ID)
	}
	return nil
}
func (*listener) Queued() int       { return 0 }
func (*listener) Close(int, string) {}

// said returns how often something was heard.
func (l *listener) said(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, h := range l.heard {
		if h == what {
			n++
		}
	}
	return n
}

// mortal is a node that can be killed: it loses its presence at once, and says nothing.
type mortal struct {
	realtime.Presence
	dead chan struct{}
}

func (m mortal) gone() error {
	select {
	case <-m.dead:
		return context.Canceled
	default:
		return nil
	}
}

func (m mortal) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	if err := m.gone(); err != nil {
		return false, err
	}
	return m.Presence.Exit(ctx, now, node, room, who)
}

func (m mortal) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	if err := m.gone(); err != nil {
		return realtime.Renewed{}, err
	}
	return m.Presence.Renew(ctx, r)
}

// TestPresenceOutlivesTheServersData: hubs on real servers, which are flushed, restarted without what they had, and
// of which one node dies. One server of a cluster loses only its part.
func TestPresenceOutlivesTheServersData(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	for name, begin := range map[string]func(t *testing.T) []*servers.RedisServer{
		"single":           single,
		"cluster of three": clusterOfThree,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := begin(t)
			store := fresh(t, dial(t, redis[0].URL))
			messages, rooms := memory.NewMessages(), memory.NewRooms()
			members := memory.NewMembers(messages)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			hubs, dead := make([]*realtime.Hub, 3), make(chan struct{})
			for n := range hubs {
				svc, err := chat.New(chat.Config{Store: messages, Rooms: rooms, Members: members, Marks: members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{})})
				require.NoError(t, err)
				var presence realtime.Presence = store.Presence()
				if n == 2 {
					presence = mortal{presence, dead}
				}
				hubs[n], err = realtime.NewHub(realtime.HubConfig{
					Chat: svc, Fanout: store.Fanout(redisstore.FanoutConfig{}), Presence: presence, Node: fmt.Sprint("node", n), LeaseTTL: lease,
				})
				require.NoError(t, err)
				wg.Go(func() { assert.NoError(t, svc.Run(ctx)) })
				wg.Go(func() { assert.NoError(t, hubs[n].Run(ctx)) })
			}
			const halls = 12 // on every server of the cluster
			connect := func(n int, id string) (*listener, socket.Receiver) {
				l := &listener{}
				in, err := hubs[n].Accept(l, socket.Hello{Identity: user.Identity{UserID: user.ID(id), Name: id}})
				require.NoError(t, err)
				for i := range halls {
					in.Receive(fmt.Appendf(nil, `{"event":"join_room","data":{"room":"hall%d"}}`, i), false)
				}
				return l, in
			}
			present := func(want ...string) {
				t.Helper()
				began := time.Now()
				require.Eventually(t, func() bool {
					for i := range halls {
						users, _, err := store.Presence().List(ctx, time.Now(), fmt.Sprint("hall", i), 10)
						if err != nil || len(users) != len(want) {
							return false
						}
						for n, u := range users {
							if string(u.ID) != want[n] {
								return false
							}
						}
					}
					return true
				}, patience, 20*time.Millisecond, "want %v", want)
				t.Logf("%v after %v", want, time.Since(began).Round(time.Millisecond))
			}
			ada, adaIn := connect(0, "ada")
			present("ada")
			_, bobIn := connect(1, "bob")
			_, cyIn := connect(2, "cy")
			present("ada", "bob", "cy")
			assert.Eventually(t, func() bool { return ada.said("joined bob") >= halls }, patience, 20*time.Millisecond)

			for _, s := range redis {
				s.Flush(t)
				present("ada", "bob", "cy")
			}
			for _, s := range redis {
				s.Kill(t)
			}
			bobIn.Disconnected() // nobody can be told
			_, eveIn := connect(1, "eve")
			for _, s := range redis {
				s.Restart(t)
			}
			present("ada", "cy", "eve")
			// What is announced while subscriptions are made anew may be lost: then ada's node finds it by itself.
			for _, what := range []string{"left bob", "joined eve"} {
				assert.Eventually(t, func() bool { return ada.said(what) >= halls }, patience, 20*time.Millisecond, what)
			}

			close(dead)
			present("ada", "eve")
			assert.Eventually(t, func() bool { return ada.said("left cy") >= halls }, patience, 20*time.Millisecond)
			for _, in := range []socket.Receiver{adaIn, cyIn, eveIn} {
				in.Disconnected()
			}
			// Of bob and eve, who came and went while the server was away, ada may be told twice: a list bears that.
			for _, what := range []string{"joined bob", "left cy"} {
				assert.Equal(t, halls, ada.said(what), "%s: once a room", what)
			}
			assert.Zero(t, ada.said("left eve"))
		})
	}
}

// TestSpentNamesOutliveTheServersData: names that were spent before a server lost them are not spent again, by whichever node;
// those that are made afterwards are, once.
func TestSpentNamesOutliveTheServersData(t *testing.T) {
	t.Parallel()
	restart := func(t *testing.T, s *servers.RedisServer) { s.Kill(t); s.Restart(t) }
	for _, c := range []struct {
		name  string
		begin func(t *testing.T) []*servers.RedisServer
		// saves is whether the servers keep what they had at the moment before the names are spent.
		saves bool
		lose  func(t *testing.T, s *servers.RedisServer)
		// fewer says that names which no server has lost were refused, too.
		fewer bool
	}{
		{"single, flushed", single, false, func(t *testing.T, s *servers.RedisServer) { s.Flush(t) }, true},
		{"single, restarted without what it had", single, false, restart, true},
		{"single, restarted from an older snapshot", single, true, restart, true},
		{"one of a cluster, flushed", clusterOfThree, false, func(t *testing.T, s *servers.RedisServer) { s.Flush(t) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			redis := c.begin(t)
			client := dial(t, redis[0].URL)
			one, err := redisstore.New(client, "names:")
			require.NoError(t, err)
			two, err := redisstore.New(dial(t, redis[0].URL), "names:")
			require.NoError(t, err)
			for _, s := range []*redisstore.Store{one, two} {
				require.NoError(t, s.Nonces().Prepare(t.Context()))
			}
			// madeNow is the expiry of a ticket that is made now: tokens have whole seconds.
			madeNow := func() time.Time { return time.Now().Truncate(time.Second).Add(auth.NonceLife) }
			if c.saves {
				for _, s := range redis {
					s.Do(t, "SAVE")
				}
			}
			const many = 100 // in every group, and on every server
			spend := func(s *redisstore.Store, kind string, expires time.Time) (first int) {
				for i := range many {
					var ok bool
					require.Eventually(t, func() bool { // a server that restarts refuses connections, and is asked again
						ok, err = s.Nonces().Spend(t.Context(), fmt.Sprint(kind, i), expires)
						return err == nil
					}, patience, 10*time.Millisecond)
					if ok {
						first++
					}
				}
				return first
			}
			before := madeNow()
			require.Equal(t, many, spend(one, "before", before), "a server that is new refuses nothing")
			require.Zero(t, spend(two, "before", before))
			c.lose(t, redis[len(redis)-1])
			require.Eventually(t, func() bool { // one is enough that the loss is noticed
				first, err := two.Nonces().Spend(t.Context(), fmt.Sprint("before", many-1), before)
				require.False(t, first && err == nil && c.fewer)
				return err == nil
			}, patience, 10*time.Millisecond)
			after := madeNow().Add(time.Second) // the second in which it was noticed counts as lost
			require.Zero(t, spend(two, "before", before), "a name is spent a second time")
			if !c.fewer { // the first one may have been on a server that has lost nothing
				after = madeNow().Add(time.Second)
			}
			require.Zero(t, spend(one, "before", before))
			unspent := spend(one, "unspent", before)
			if c.fewer {
				require.Zero(t, unspent, "which names were lost cannot be known")
			} else {
				require.Greater(t, unspent, many/3, "the other servers have lost nothing")
				require.Less(t, unspent, many)
			}
			require.Equal(t, many, spend(two, "after", after))
			require.Zero(t, spend(one, "after", after))
			require.NoError(t, one.Nonces().Prepare(t.Context()), "another program starts")
			require.Zero(t, spend(one, "before", before))
			require.Zero(t, spend(two, "after", after))
		})
	}
}

func single(t *testing.T) []*servers.RedisServer {
	return []*servers.RedisServer{servers.StartRedis(t, servers.RedisOptions{})}
}

func clusterOfThree(t *testing.T) []*servers.RedisServer { return servers.StartRedisCluster(t, 3) }

// A user of the server who may not use INFO: a loss is noticed by what is gone.
func TestSpentNamesWithoutINFO(t *testing.T) {
	t.Parallel()
	redis := servers.StartRedis(t, servers.RedisOptions{})
	redis.Do(t, "ACL SETUSER app on >secret ~* &* +@all -info")
	n := fresh(t, dial(t, "redis://app:secret@"+redis.Addr)).Nonces()
	require.NoError(t, n.Prepare(t.Context()))
	expires := time.Now().Truncate(time.Second).Add(auth.NonceLife)
	for _, want := range []bool{true, false} {
		first, err := n.Spend(t.Context(), "n", expires)
		require.NoError(t, err)
		require.Equal(t, want, first)
	}
	redis.Flush(t)
	first, err := n.Spend(t.Context(), "n", expires)
	require.NoError(t, err)
	require.False(t, first)
}
