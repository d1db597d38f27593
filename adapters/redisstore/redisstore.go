package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/settings"
)

// DefaultPrefix is what every key and channel begins with unless [New] is told otherwise.
const DefaultPrefix = "parley:"

// Store is a Redis server or cluster as this package uses it. Its methods, and those of the
// ports that it hands out, may be called from many goroutines.
type Store struct {
	client  redis.UniversalClient
	prefix  string
	cluster bool
	dialled bool // Close closes client
}

// New makes a store on client, whose pool, credentials and hooks stay the caller's. A cluster
// needs a *redis.ClusterClient. Every key and channel begins with prefix, so that several
// systems can share a server; empty means [DefaultPrefix]. A prefix must not hold braces,
// which say where a key lives in a cluster. New does not touch the server.
func New(client redis.UniversalClient, prefix string) (*Store, error) {
	c := settings.Of("redisstore: New")
	c.Argument("the client", client == nil)
	err := c.Err()
	if strings.ContainsAny(prefix, "{}") {
		err = errors.Join(err, fmt.Errorf("redisstore: the prefix %q holds braces", prefix))
	}
	if err != nil {
		return nil, err
	}
	if prefix == "" {
		prefix = DefaultPrefix
	}
	_, cluster := client.(*redis.ClusterClient)
	return &Store{client: client, prefix: prefix, cluster: cluster}, nil
}

// Close closes what [Dial] opened, once nobody uses the store any more. Of a store that [New] made the client stays
// open. Closing twice is harmless.
func (s *Store) Close() error {
	if !s.dialled {
		return nil
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}

// Ports returns every port that a server can keep, with the defaults of [RecentCacheConfig] and [FanoutConfig].
// The others are nil: see [parley.Ports.With]. Each call makes a new end of the fan-out.
func (s *Store) Ports() parley.Ports {
	queue, hooks := s.MailQueue(), s.WebhookQueue()
	return parley.Ports{
		Limiter: s.Limiter(), Nonces: s.Nonces(), MailQueue: queue, DeadLetters: queue, MailStats: queue,
		WebhookQueue: hooks, WebhookLetters: hooks, WebhookStats: hooks,
		Recent: s.RecentCache(RecentCacheConfig{}), Fanout: s.Fanout(FanoutConfig{}), Presence: s.Presence(),
	}
}

// maxAge is how long a connection is used, so that none outlives a change of what its name leads to
// for long. A parameter conn_max_lifetime of the URL changes it. Subscriptions are left out: they are
// asked every few seconds whether they live.
const maxAge = 5 * time.Minute

// Open makes a client from a URL, redis:// or rediss:// (TLS), for [New] and for its caller to
// close. Several hosts, host:port,host:port, or a parameter addr make it the client of a
// cluster: that one host of a cluster is named as redis://host:port?addr=host:port. A parameter
// master_name makes the hosts those of Redis Sentinel, which are asked for the primary of that name: user and
// password before the hosts are those of the Sentinels then, and parameters username and password those of the servers.
// The other parameters are those of go-redis. Calls of the client end with their context, and its connections are at most
// 5 minutes old. Where one server or Sentinel is named, a server that says
// that it is a replica, or that it loads its data, is left: the next connections go where the name leads then. Open does not connect: see [Connect].
func Open(rawURL string) (redis.UniversalClient, error) {
	open, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	return open(), nil
}

// parse reads a URL, and returns what makes its client. To make one looks the host's name up, and waits for that.
func parse(rawURL string) (open func() redis.UniversalClient, err error) {
	first, others, several := splitHosts(rawURL)
	u, err := url.Parse(first)
	if err != nil {
		return nil, errURL // the parser's own error quotes the password
	}
	if several {
		q := u.Query()
		for _, addr := range others {
			q.Add("addr", addr)
		}
		u.RawQuery = q.Encode()
		rawURL = u.String()
	}
	if watched(rawURL) {
		o, err := redis.ParseFailoverURL(rawURL)
		if err != nil {
			return nil, fmt.Errorf("redisstore: the URL of the Redis Sentinels: %w", err)
		}
		o.ContextTimeoutEnabled, o.DialerRetries = true, 1
		o.ConnMaxLifetime = cmp.Or(o.ConnMaxLifetime, maxAge)
		return func() redis.UniversalClient {
			c := redis.NewFailoverClient(o)
			(&leaver{}).attach(c)
			return c
		}, nil
	}
	if u.Query().Has("addr") {
		o, err := redis.ParseClusterURL(rawURL)
		if err != nil {
			return nil, fmt.Errorf("redisstore: the URL of the Redis cluster: %w", err)
		}
		o.ContextTimeoutEnabled = true
		o.DialerRetries = 1 // commands are repeated anyway
		o.ConnMaxLifetime = cmp.Or(o.ConnMaxLifetime, maxAge)
		return func() redis.UniversalClient { return redis.NewClusterClient(o) }, nil
	}
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redisstore: the URL of the Redis server: %w", err)
	}
	o.ContextTimeoutEnabled = true
	o.DialerRetries = 1
	o.ConnMaxLifetime = cmp.Or(o.ConnMaxLifetime, maxAge)
	return func() redis.UniversalClient {
		c := redis.NewClient(o)
		(&leaver{}).attach(c)
		return c
	}, nil
}

// watched reports whether a URL names a primary that Sentinels watch.
func watched(rawURL string) bool {
	_, query, _ := strings.Cut(rawURL, "?")
	q, err := url.ParseQuery(query)
	return err == nil && q.Has("master_name")
}

var errURL = errors.New("redisstore: the URL of the Redis server cannot be read")

// splitHosts takes all hosts but the first out of a URL.
func splitHosts(rawURL string) (first string, others []string, several bool) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return rawURL, nil, false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	at := strings.LastIndexByte(authority, '@') + 1
	hosts := strings.Split(authority[at:], ",")
	if len(hosts) == 1 {
		return rawURL, nil, false
	}
	return scheme + "://" + authority[:at] + hosts[0] + tail, hosts[1:], true
}

// CheckURL returns the error that [Open] would. It opens nothing and asks nobody.
func CheckURL(rawURL string) error {
	_, err := parse(rawURL)
	return err
}

// Ping returns nil if the server answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := call(ctx, "ping", func(ctx context.Context) (string, error) { return s.client.Ping(ctx).Result() })
	return err
}

// call runs f until it returns or ctx is done, whichever comes first: a client need not notice
// that a context was cancelled while it waits for the server. What f is about to do may then
// still happen. Errors become Unavailable.
func call[T any](ctx context.Context, op string, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var r result
	if r.err = ctx.Err(); r.err == nil {
		if ctx.Done() == nil {
			r.value, r.err = f(ctx)
		} else {
			returned := make(chan result, 1)
			go func() {
				v, err := f(ctx)
				returned <- result{v, err}
			}()
			select {
			case r = <-returned:
			case <-ctx.Done():
				r.err = ctx.Err()
			}
		}
	}
	if r.err != nil {
		var zero T
		return zero, fault.Wrap(fault.Unavailable, fmt.Errorf("redisstore: %s: %w", op, r.err))
	}
	return r.value, nil
}

// run runs a script, which the server knows by its hash after the first time.
func (s *Store) run(ctx context.Context, op string, script *redis.Script, keys []string, args ...any) (any, error) {
	return call(ctx, op, func(ctx context.Context) (any, error) {
		v, err := script.Run(ctx, s.client, keys, args...).Result()
		if errors.Is(err, redis.Nil) {
			return nil, nil
		}
		return v, err
	})
}

// key is prefix{tag}rest. Keys with one tag live on one node of a cluster.
func (s *Store) key(tag, rest string) string { return s.prefix + "{" + tag + "}" + rest }

// roomTag makes a hash tag of a room's name: never empty, and without a closing brace.
func roomTag(room string) string { return "r:" + escape(room) }

var escaper = strings.NewReplacer("%", "%25", "}", "%7D", "\x00", "%00")

// escape takes closing braces and NUL out of s; different strings stay different.
func escape(s string) string { return escaper.Replace(s) }

// micros and moment keep times as microseconds since 1970.
func micros(t time.Time) int64 { return t.UnixMicro() }

func moment(us int64) time.Time { return time.UnixMicro(us).UTC() }

// score is micros as far as a double, which is what Redis orders by, holds them exactly: until
// the year 2255.
func score(t time.Time) int64 {
	const most = 1 << 53
	return min(max(micros(t), -most), most)
}

// texts reads a reply that is an array of strings.
func texts(reply any) ([]string, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("a reply is %T instead of a list", reply)
	}
	out := make([]string, len(list))
	for i, v := range list {
		if out[i], ok = v.(string); !ok {
			return nil, fmt.Errorf("a reply holds %T instead of a string", v)
		}
	}
	return out, nil
}

// malformed classifies a reply or a value that this package did not write.
func malformed(op string, err error) error {
	return fault.Wrap(fault.Unavailable, fmt.Errorf("redisstore: %s: %w", op, err))
}
