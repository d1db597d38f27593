package redisstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/testkit/servers"
)

// TestConnectAsksWhatAnswers: a program gets the client that fits, or one line.
func TestConnectAsksWhatAnswers(t *testing.T) {
	t.Parallel()
	primary := servers.StartRedis(t, servers.RedisOptions{})
	sentinel := servers.StartRedisSentinel(t, primary)
	evicting := func(policy string) func(t *testing.T) string {
		return func(t *testing.T) string {
			return servers.StartRedis(t, servers.RedisOptions{Args: []string{"--maxmemory", "20mb", "--maxmemory-policy", policy}}).URL
		}
	}
	for _, c := range []struct {
		name  string
		url   func(t *testing.T) string
		queue bool
		says  string // none: it is accepted
		kind  any
	}{
		{"a server", func(*testing.T) string { return primary.URL }, true, "", &redis.Client{}},
		{"miniredis", func(t *testing.T) string { return "redis://" + miniredis.RunT(t).Addr() }, true, "", &redis.Client{}},
		{"one host of a cluster", func(t *testing.T) string { return "redis://" + servers.StartRedisCluster(t, 3)[1].Addr }, true, "", &redis.ClusterClient{}},
		{"every host of a cluster", func(t *testing.T) string { return servers.StartRedisCluster(t, 3)[0].URL }, true, "", &redis.ClusterClient{}},
		{"a replica", func(t *testing.T) string {
			return servers.StartRedis(t, servers.RedisOptions{ReplicaOf: primary.Addr}).URL
		}, false, "is a replica, and cannot be written to: name its primary, " + primary.Addr, nil},
		{"a Sentinel", func(*testing.T) string { return sentinel.URL }, false, "is a Redis Sentinel: say which primary is meant, with ?master_name=primary", nil},
		{"a Sentinel and a name", func(*testing.T) string { return sentinel.URL + "?master_name=primary" }, true, "", &redis.Client{}},
		{"a Sentinel and another name", func(*testing.T) string { return sentinel.URL + "?master_name=elsewhere" }, true, "cannot be used", nil},
		{"a server that evicts, with mails", evicting("allkeys-lru"), true, "set its maxmemory-policy to noeviction", nil},
		{"a server that evicts, with tickets", evicting("volatile-ttl"), false, "set its maxmemory-policy to noeviction", nil},
		{"a server without memory", func(t *testing.T) string {
			return servers.StartRedis(t, servers.RedisOptions{Args: []string{"--maxmemory", "1"}}).URL
		}, false, "OOM", nil},
		{"a proxy that answers PING", func(t *testing.T) string { return "redis://" + pinger(t, "") }, false, "cannot", nil},
		{"a proxy without scripts", func(t *testing.T) string { return "redis://" + pinger(t, primary.Addr, "EVAL", "EVALSHA") }, false, "cannot run scripts", nil},
		{"a proxy without publishing", func(t *testing.T) string {
			return "redis://" + pinger(t, primary.Addr, "SUBSCRIBE", "SSUBSCRIBE", "PUBLISH", "SPUBLISH")
		}, false, "cannot publish and subscribe", nil},
		{"a proxy without streams", func(t *testing.T) string { return "redis://" + pinger(t, primary.Addr, "XADD") }, true, "cannot keep streams", nil},
		{"a proxy without streams, and no mails", func(t *testing.T) string { return "redis://" + pinger(t, primary.Addr, "XADD") }, false, "", &redis.Client{}},
		{"a server that says little", func(t *testing.T) string { return "redis://" + pinger(t, primary.Addr, "INFO", "ROLE", "CONFIG") }, true, "", &redis.Client{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client, server, err := redisstore.Connect(ctx, c.url(t), redisstore.Needs{MailQueue: c.queue})
			if client != nil {
				t.Cleanup(func() { assert.NoError(t, client.Close()) })
			}
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				assert.NotContains(t, err.Error(), "\n")
				assert.Nil(t, client)
				return
			}
			require.NoError(t, err)
			assert.IsType(t, c.kind, client)
			t.Log(server)
			s := fresh(t, client)
			assert.NoError(t, s.Ready(ctx))
			first, err := s.Nonces().Spend(ctx, "n", time.Now().Add(2*auth.NonceLife))
			require.NoError(t, err)
			assert.True(t, first)
		})
	}
}

// pinger is a proxy that answers PING itself, refuses some commands, and hands the others to the server at
// addr; without one it knows PING only.
func pinger(t *testing.T, addr string, refused ...string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]struct{}{}
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		open[c] = struct{}{}
	}
	serve := func(c net.Conn) {
		defer c.Close()
		var up net.Conn
		if addr != "" {
			var err error
			if up, err = net.Dial("tcp", addr); err != nil {
				return
			}
			keep(up)
			defer up.Close()
			wg.Go(func() { _, _ = io.Copy(c, up); _ = c.Close() })
		}
		in := bufio.NewReader(c)
		for {
			raw, name, err := command(in)
			if err != nil {
				return
			}
			answer := ""
			switch {
			case up == nil && name == "PING":
				answer = "+PONG\r\n"
			case up == nil:
				answer = "-ERR unknown command '" + name + "'\r\n"
			}
			for _, r := range refused {
				if r == name {
					answer = "-ERR the command is not allowed here: '" + name + "'\r\n"
				}
			}
			if answer != "" {
				// Answers come in order: what was handed on before has been answered by then, or the
				// client, which pipelines, takes one for the other. So refusals go through the server too.
				if up != nil {
					raw = []byte(fmt.Sprintf("*2\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n", len("error"), "error"))
				} else {
					if _, err := io.WriteString(c, answer); err != nil {
						return
					}
					continue
				}
			}
			if _, err := up.Write(raw); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			keep(c)
			wg.Go(func() { serve(c) })
		}
	})
	return l.Addr().String()
}

// command reads one command, and returns its bytes and its name in upper case.
func command(in *bufio.Reader) (raw []byte, name string, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, "", err
	}
	raw = append(raw, line...)
	var n int
	if _, err := fmt.Sscanf(line, "*%d", &n); err != nil {
		return nil, "", err
	}
	for i := range n {
		head, err := in.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		var size int
		if _, err := fmt.Sscanf(head, "$%d", &size); err != nil {
			return nil, "", err
		}
		body := make([]byte, size+2)
		if _, err := io.ReadFull(in, body); err != nil {
			return nil, "", err
		}
		raw = append(append(raw, head...), body...)
		if i == 0 {
			name = strings.ToUpper(string(body[:size]))
		}
	}
	return raw, name, nil
}

// TestReadyWantsAServerThatTakesWrites: a server that answers, and cannot do the work, is not ready within the second.
func TestReadyWantsAServerThatTakesWrites(t *testing.T) {
	t.Parallel()
	other := servers.StartRedis(t, servers.RedisOptions{})
	for _, c := range []struct {
		name        string
		begin, heal []string
	}{
		{"a replica", []string{"REPLICAOF 127.0.0.1 1"}, []string{"REPLICAOF NO ONE"}},
		{"a replica that takes writes", []string{"CONFIG SET replica-read-only no", "REPLICAOF " + strings.Replace(other.Addr, ":", " ", 1)}, []string{"REPLICAOF NO ONE"}},
		{"without memory", []string{"CONFIG SET maxmemory 1"}, []string{"CONFIG SET maxmemory 0"}},
		{"without the replicas that it must have", []string{"CONFIG SET min-replicas-to-write 1"}, []string{"CONFIG SET min-replicas-to-write 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for kind, start := range map[string]func() *servers.RedisServer{
				"single":  func() *servers.RedisServer { return servers.StartRedis(t, servers.RedisOptions{}) },
				"cluster": func() *servers.RedisServer { return servers.StartRedisCluster(t, 3)[2] },
			} {
				if kind == "cluster" && strings.Contains(c.name, "replica that") || kind == "cluster" && c.name == "a replica" {
					continue // a cluster refuses REPLICAOF
				}
				server := start()
				s := fresh(t, dial(t, server.URL))
				require.NoError(t, s.Ready(t.Context()), kind)
				ready := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					return s.Ready(ctx)
				}
				for _, command := range c.begin {
					require.Equal(t, "+OK", server.Do(t, command))
				}
				err := ready()
				assert.Equal(t, fault.Unavailable, fault.KindOf(err), "%s: %v", kind, err)
				t.Log(err)
				require.NoError(t, s.Ping(t.Context()), "it answers all the same")
				for _, command := range c.heal {
					require.Equal(t, "+OK", server.Do(t, command))
				}
				assert.NoError(t, ready(), kind)
			}
		})
	}
}

// TestAServerThatWasDemotedIsLeft: the name of a server leads to another one, and the old one, now a
// replica, answers on. Commands and subscriptions follow the name at once.
func TestAServerThatWasDemotedIsLeft(t *testing.T) {
	t.Parallel()
	old, next := servers.StartRedis(t, servers.RedisOptions{}), servers.StartRedis(t, servers.RedisOptions{})
	var mu sync.Mutex
	to := old.Addr
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			up, err := net.Dial("tcp", to)
			mu.Unlock()
			if err != nil {
				_ = c.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(c, up); _ = c.Close() })
			wg.Go(func() { _, _ = io.Copy(up, c); _ = up.Close() })
		}
	})
	store := func() *redisstore.Store {
		s, err := redisstore.New(dial(t, "redis://"+l.Addr().String()), "demoted:")
		require.NoError(t, err)
		return s
	}
	a, b := store(), store()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	fa, fb := a.Fanout(redisstore.FanoutConfig{}), b.Fanout(redisstore.FanoutConfig{})
	own, heard := make(chan uint64, 1000), make(chan uint64, 1000)
	running.Go(func() { assert.NoError(t, fa.Run(ctx, func(s realtime.Signal) { own <- s.Message.Seq })) })
	running.Go(func() { assert.NoError(t, fb.Run(ctx, func(s realtime.Signal) { heard <- s.Message.Seq })) })
	begun(t, fa, "probe of a", own)
	begun(t, fb, "probe of b", heard)
	require.NoError(t, fb.Follow(ctx, "r"))
	signal := func(seq uint64) realtime.Signal {
		return realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Message: message("r", seq)}
	}
	require.NoError(t, fa.Publish(ctx, signal(1)))
	require.EqualValues(t, 1, <-heard)
	for i := range 5 { // some connections in each pool
		require.NoError(t, a.MailQueue().Enqueue(ctx, mail.Job{ID: fmt.Sprint(i), Key: fmt.Sprint(i)}))
	}

	mu.Lock()
	to = next.Addr
	mu.Unlock()
	require.Equal(t, "+OK", old.Do(t, "REPLICAOF 127.0.0.1 1"))

	// The first write finds out, and is done by the new server.
	for _, s := range []*redisstore.Store{a, b} {
		first, err := s.Nonces().Spend(ctx, "n", start)
		require.NoError(t, err)
		assert.Equal(t, s == a, first, "they mean the same server")
	}
	// Nobody listens on at the old one, where a replica would take subscriptions and hear nothing.
	for old.Do(t, "PUBSUB SHARDCHANNELS demoted:*") != "*0" {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			require.Fail(t, "a subscription stays with the old server")
		}
	}
	for seq := uint64(2); ; seq++ {
		require.NoError(t, fa.Publish(ctx, signal(seq)))
		select {
		case got := <-heard:
			if got > 1 {
				return
			}
		case <-time.After(20 * time.Millisecond):
		}
		require.NoError(t, ctx.Err(), "messages do not go from node to node")
	}
}

func TestConnectionsHaveAMaximalAge(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]time.Duration{
		"redis://a:1": 5 * time.Minute, "redis://a:1,b:2": 5 * time.Minute, "redis://a:1?master_name=m": 5 * time.Minute,
		"redis://a:1?conn_max_lifetime=1m": time.Minute,
	} {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		c, err := redisstore.Open(u.String())
		require.NoError(t, err)
		switch c := c.(type) {
		case *redis.Client:
			assert.Equal(t, want, c.Options().ConnMaxLifetime, raw)
		case *redis.ClusterClient:
			assert.Equal(t, want, c.Options().ConnMaxLifetime, raw)
		}
		assert.NoError(t, c.Close())
	}
}
