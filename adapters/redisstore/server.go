package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/fault"
)

// Needs are what a program wants of a server beyond the cache, the fan-out, presence, limits and
// spent names.
type Needs struct {
	// MailQueue says that mails wait in it.
	MailQueue bool
	// Prefix is what the keys and channels of the trial begin with. Empty means [DefaultPrefix].
	Prefix string
}

// Server is what answers at a URL.
type Server struct {
	// Mode is standalone, cluster or sentinel, as the server says; sentinel means that a Sentinel
	// named the server.
	Mode string
	// Version is the server's, empty if it does not say.
	Version string
	// Eviction is its maxmemory-policy, empty if it does not say.
	Eviction string
}

// Connect asks what answers at a URL, and returns the client that fits, for [New] and for its caller to
// close. It returns an error, one line that says what to change, where the work cannot be done:
//
//   - the server is a replica, a Sentinel (see [Open] for its URL), or older than 6.2;
//   - it removes keys when memory is short (a maxmemory-policy other than noeviction), which would let
//     mails go, and let tickets be used twice;
//   - it refuses a script, a write, a publication, or with a mail queue a stream, as some proxies do.
//
// A URL with one host that belongs to a cluster gives the client of that cluster. While a server
// loads its data, or its cluster comes together, Connect asks again until ctx ends.
func Connect(ctx context.Context, rawURL string, n Needs) (redis.UniversalClient, Server, error) {
	client, err := Open(rawURL)
	if err != nil {
		return nil, Server{}, err
	}
	server, err := insist(ctx, func() (Server, error) { return examine(ctx, client) })
	if single, ok := client.(*redis.Client); ok && err == nil && server.Mode == "cluster" && !watched(rawURL) {
		addr := single.Options().Addr
		_ = single.Close()
		if client, err = Open(withAddr(rawURL, addr)); err != nil {
			return nil, server, err
		}
		server, err = insist(ctx, func() (Server, error) { return examine(ctx, client) })
	}
	if err == nil {
		_, err = insist(ctx, func() (struct{}, error) { return struct{}{}, try(ctx, client, n) })
	}
	if err != nil {
		_ = client.Close()
		return nil, server, err
	}
	return client, server, nil
}

// Dial is [Connect] and [New] in one. [Store.Close] closes the client.
//
// A program that needs nothing but the ports compiles several times faster with it: each package that touches go-redis's
// interface of all commands pays for every one of them.
func Dial(ctx context.Context, rawURL string, n Needs) (*Store, Server, error) {
	client, server, err := Connect(ctx, rawURL, n)
	if err != nil {
		return nil, server, err
	}
	s, err := New(client, n.Prefix)
	if err != nil {
		return nil, server, errors.Join(err, client.Close())
	}
	s.dialled = true
	return s, server, nil
}

// insist repeats f while the server says that it will soon be able to.
func insist[T any](ctx context.Context, f func() (T, error)) (T, error) {
	for wait := firstPause; ; wait = min(2*wait, longPause) {
		v, err := f()
		if err == nil || !redis.IsLoadingError(err) && !redis.IsClusterDownError(err) || !pause(ctx, wait) {
			return v, err
		}
	}
}

func withAddr(rawURL, addr string) string {
	sep := "?"
	if strings.Contains(rawURL, "?") {
		sep = "&"
	}
	return rawURL + sep + "addr=" + url.QueryEscape(addr)
}

// examine asks each server that takes writes what it is. What may not be asked is left open.
func examine(ctx context.Context, client redis.UniversalClient) (Server, error) {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		masters, err := mastersOf(ctx, cluster)
		if err != nil {
			return Server{}, fmt.Errorf("redisstore: the Redis cluster cannot be used: %w", err)
		}
		var all Server
		for i, m := range masters {
			s, err := examineOne(ctx, m)
			if err != nil {
				return s, err
			}
			if i == 0 || s.Eviction != "noeviction" {
				all = s
			}
		}
		return all, nil
	}
	single, ok := client.(*redis.Client)
	if !ok {
		return Server{}, fmt.Errorf("redisstore: the client is a %T, and must be one of a server or of a cluster", client)
	}
	return examineOne(ctx, single)
}

func examineOne(ctx context.Context, c *redis.Client) (Server, error) {
	addr := c.Options().Addr
	fails := func(err error) (Server, error) {
		return Server{}, fmt.Errorf("redisstore: the Redis server at %s cannot be used: %w", addr, err)
	}
	if _, err := call(ctx, "ping", func(ctx context.Context) (string, error) { return c.Ping(ctx).Result() }); err != nil {
		return fails(err)
	}
	text, err := call(ctx, "ask for its state", func(ctx context.Context) (string, error) {
		t, err := c.Info(ctx).Result()
		return t, allowRefusal(err)
	})
	if err != nil {
		return fails(err)
	}
	info := parseInfo(text)
	s := Server{Mode: info["redis_mode"], Version: info["redis_version"], Eviction: info["maxmemory_policy"]}
	role, err := roleOf(ctx, c)
	if err != nil {
		return fails(err)
	}
	if s.Mode == "sentinel" || role.name == "sentinel" {
		hint := "?master_name=NAME"
		if len(role.masters) > 0 {
			hint = fmt.Sprintf("?master_name=%s (it watches %s)", role.masters[0], strings.Join(role.masters, ", "))
		}
		return s, fmt.Errorf("redisstore: %s is a Redis Sentinel: say which primary is meant, with %s at the end of the URL", addr, hint)
	}
	if role.replicaOf != "" || role.name == "slave" {
		return s, fmt.Errorf("redisstore: the Redis server at %s is a replica, and cannot be written to: name its primary, %s", addr, role.replicaOf)
	}
	if older(s.Version, 6, 2) {
		return s, fmt.Errorf("redisstore: the Redis server at %s is version %s: 6.2 or later is needed", addr, s.Version)
	}
	if s.Eviction == "" {
		policy, err := call(ctx, "ask for its maxmemory-policy", func(ctx context.Context) (map[string]string, error) {
			m, err := c.ConfigGet(ctx, "maxmemory-policy").Result()
			return m, allowRefusal(err)
		})
		if err != nil {
			return fails(err)
		}
		s.Eviction = policy["maxmemory-policy"]
	}
	if s.Eviction != "" && s.Eviction != "noeviction" {
		return s, fmt.Errorf("redisstore: the Redis server at %s removes keys when memory is short (maxmemory-policy %s), and with them mails and spent tickets: "+
			"set its maxmemory-policy to noeviction", addr, s.Eviction)
	}
	return s, nil
}

// allowRefusal makes nothing of a server's refusal of a question: it is found out by trying.
func allowRefusal(err error) error {
	var refusal redis.Error
	if errors.As(err, &refusal) && !redis.IsLoadingError(err) && !redis.IsAuthError(err) && !redis.IsClusterDownError(err) && !redis.IsMaxClientsError(err) {
		return nil
	}
	return err
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[k] = v
		}
	}
	return info
}

// older reports whether a version is known and before another.
func older(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (a < major || a == major && b < minor)
}

// role is the answer to ROLE.
type role struct {
	name, replicaOf string
	masters         []string // of a Sentinel
}

// roleOf returns what part a server has; nothing if it does not say.
func roleOf(ctx context.Context, c *redis.Client) (role, error) {
	return call(ctx, "ask for its role", func(ctx context.Context) (role, error) {
		reply, err := c.Do(ctx, "ROLE").Slice()
		if err != nil {
			return role{}, allowRefusal(err)
		}
		return readRole(reply), nil
	})
}

func readRole(reply []any) role {
	text := func(i int) string {
		if i < len(reply) {
			return fmt.Sprint(reply[i])
		}
		return ""
	}
	r := role{name: text(0)}
	switch r.name {
	case "slave":
		r.replicaOf = text(1) + ":" + text(2)
	case "sentinel":
		if len(reply) > 1 {
			if names, ok := reply[1].([]any); ok {
				for _, n := range names {
					r.masters = append(r.masters, fmt.Sprint(n))
				}
			}
		}
	}
	return r
}

// mastersOf returns the clients of the servers that take writes, each once, ascending by address.
func mastersOf(ctx context.Context, cluster *redis.ClusterClient) ([]*redis.Client, error) {
	return call(ctx, "ask for the servers of the cluster", func(ctx context.Context) ([]*redis.Client, error) {
		cluster.ReloadState(ctx)
		found := make(chan *redis.Client, 1000)
		err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			select {
			case found <- c:
			default:
			}
			return nil
		})
		close(found)
		if err != nil {
			return nil, err
		}
		var all []*redis.Client
		for c := range found {
			all = append(all, c)
		}
		slices.SortFunc(all, func(a, b *redis.Client) int { return strings.Compare(a.Options().Addr, b.Options().Addr) })
		return all, nil
	})
}

// try does once what will be done, under keys that expire by themselves.
func try(ctx context.Context, client redis.UniversalClient, n Needs) error {
	s, err := New(client, n.Prefix)
	if err != nil {
		return err
	}
	key := s.key("try", ":"+rand.Text())
	cannot := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("redisstore: what answers as the Redis server cannot %s: %w", what, err)
	}
	if err := s.Ready(ctx); err != nil {
		return fmt.Errorf("redisstore: the Redis server cannot be used: %w", err)
	}
	if _, err := s.run(ctx, "run a script", tryScript, []string{key}, 60_000); err != nil {
		return cannot("run scripts", err)
	}
	if n.MailQueue {
		_, err := call(ctx, "use a stream", func(ctx context.Context) (struct{}, error) {
			stream := key + ":stream"
			if err := client.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"try", "1"}}).Err(); err != nil {
				return struct{}{}, err
			}
			return struct{}{}, client.Del(ctx, stream).Err()
		})
		if err != nil {
			return cannot("keep streams", err)
		}
	}
	return cannot("publish and subscribe", tryFanout(ctx, s))
}

var tryScript = redis.NewScript(`redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) return redis.call('GET', KEYS[1])`)

// tryFanout subscribes as a node does, and hears what another publishes.
func tryFanout(ctx context.Context, s *Store) error {
	f := s.Fanout(FanoutConfig{})
	if err := f.detect(ctx); err != nil {
		return err
	}
	_, err := call(ctx, "publish and subscribe", func(ctx context.Context) (struct{}, error) {
		channel := f.shardKey(0, "try/"+rand.Text())
		sharded := f.mode.Load() == modeSharded
		var ps *redis.PubSub
		if sharded {
			ps = s.client.SSubscribe(ctx, channel)
		} else {
			ps = s.client.Subscribe(ctx, channel)
		}
		defer func() { _ = ps.Close() }()
		for asked := false; ; {
			received, err := ps.ReceiveTimeout(ctx, quiet)
			if err != nil {
				return struct{}{}, err
			}
			switch received.(type) {
			case *redis.Message:
				return struct{}{}, nil
			case *redis.Subscription:
				if asked {
					continue
				}
				asked = true
				if _, err := f.send(ctx, []item{{channel: channel, frame: "try"}}); err != nil {
					return struct{}{}, err
				}
			}
		}
	})
	return err
}

// readyFor is how long what Ready writes is kept.
const readyFor = time.Minute

// Ready returns nil if the server takes writes, and of a cluster each that has a part of the keys. It is an
// error of kind Unavailable that it is a replica, has no memory or no disk left, loads its data, or lacks the
// replicas that it must have. Ready writes a small key that expires by itself.
func (s *Store) Ready(ctx context.Context) error {
	const op = "write"
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		_, err := call(ctx, op, func(ctx context.Context) (struct{}, error) {
			pipe := s.client.Pipeline()
			asked := pipe.Do(ctx, "ROLE")
			written := pipe.Set(ctx, s.key("ready", ""), 1, readyFor)
			_, _ = pipe.Exec(ctx) // each command has its own error
			if err := written.Err(); err != nil {
				return struct{}{}, err
			}
			if reply, err := asked.Slice(); err == nil {
				if r := readRole(reply); r.name == "slave" {
					return struct{}{}, errReplica.Detail("its primary is %s", r.replicaOf)
				}
			}
			return struct{}{}, nil
		})
		return err
	}
	masters, err := mastersOf(ctx, cluster)
	if err != nil {
		return err
	}
	// A key for each server: names are tried until every one has some. Most do not take part.
	left := map[string]bool{}
	for _, m := range masters {
		left[m.Options().Addr] = true
	}
	_, err = call(ctx, op, func(ctx context.Context) (struct{}, error) {
		pipe := cluster.Pipeline()
		var written []*redis.StatusCmd
		for i := 0; len(left) > 0 && i < 1<<14; i++ {
			key := s.key("ready"+strconv.Itoa(i), "")
			m, err := cluster.MasterForKey(ctx, key)
			if err != nil {
				return struct{}{}, err
			}
			if addr := m.Options().Addr; left[addr] {
				delete(left, addr)
				written = append(written, pipe.Set(ctx, key, 1, readyFor))
			}
		}
		_, _ = pipe.Exec(ctx)
		for _, w := range written {
			if err := w.Err(); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	return err
}

var errReplica = fault.New(fault.Unavailable, "redis_replica", "the Redis server is a replica: what is written to it is lost")
