package wire

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/parley"
)

// openPorts opens the store, the bus with these topics, and Redis, and takes the ports from them.
func (a *App) openPorts(ctx context.Context, some ...string) error {
	topics, err := a.topics(some...)
	if err != nil {
		return err
	}
	kept, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	bus, err := a.openBus(ctx, topics)
	if err != nil {
		return err
	}
	shared, err := a.openRedis(ctx)
	if err != nil {
		return err
	}
	joined, err := join(kept, shared, a.log)
	if err != nil {
		return err
	}
	a.ports = a.ports.With(bus).With(joined)
	return nil
}

// join returns the ports of a store with those that nodes share in place of its own. What neither has
// is in memory. Attempts are counted by who shares them, and by this process while that is away.
func join(kept, shared parley.Ports, log *slog.Logger) (parley.Ports, error) {
	own := memory.NewLimiter(memory.LimiterConfig{})
	ports := parley.Ports{
		Recent: memory.NewRecentCache(memory.RecentCacheConfig{Rooms: 10_000, Messages: 20}),
		Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence(),
	}.With(kept).With(shared)
	if ports.Limiter == nil {
		ports.Limiter = own
		return ports, nil
	}
	var err error
	ports.Limiter, err = auth.NewSharedLimiter(auth.SharedLimiterConfig{Shared: ports.Limiter, Own: own, Log: log})
	return ports, err
}

// openBus opens what carries events, with these topics, and returns its ports.
func (a *App) openBus(ctx context.Context, topics []string) (parley.Ports, error) {
	s := a.settings
	if s.Bus == "memory:" {
		bus, err := watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Groups: a.groups()})
		if err != nil {
			return parley.Ports{}, err
		}
		a.closers = append(a.closers, bus.Close)
		return parley.Ports{Publisher: bus, Subscriber: bus}, nil
	}
	cfg, err := kafkabus.ParseURL(s.Bus)
	if err != nil {
		return parley.Ports{}, err
	}
	cfg.Topics, cfg.Timeout, cfg.Source = topics, startTimeout, string(s.Program)
	// A session that ended before a node started is over, although its last token still is good.
	cfg.Replay = s.AccessTTL + clockLeeway
	if s.Node != "" {
		cfg.Node = string(s.Program) + "-" + s.Node
	}
	bus, err := kafkabus.Open(ctx, cfg)
	if err != nil {
		return parley.Ports{}, err
	}
	a.closers = append(a.closers, bus.Close)
	a.checks = append(a.checks, health.Check{Name: "bus", Probe: func(ctx context.Context) (map[string]any, error) {
		return nil, bus.Ping(ctx)
	}})
	return parley.Ports{Publisher: bus, Subscriber: bus}, nil
}

// openRedis connects to Redis and returns the ports that nodes share there. It returns none without
// Redis, and for a mailer whose queue is elsewhere, which shares nothing else.
func (a *App) openRedis(ctx context.Context) (parley.Ports, error) {
	s := a.settings
	if s.Redis == "" || s.Program == config.Mailer && s.MailQueue != "redis" {
		return parley.Ports{}, nil
	}
	redis.SetLogger(vendorLog{a.log}) // one for all clients of the process
	wait, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	store, server, err := redisstore.Dial(wait, s.Redis, redisstore.Needs{MailQueue: s.MailQueue == "redis", Prefix: s.RedisPrefix})
	if err != nil {
		return parley.Ports{}, err
	}
	a.closers = append(a.closers, store.Close)
	if server.Eviction == "" {
		a.log.Warn("the Redis server does not say its maxmemory-policy: it must be noeviction, or mails and spent tickets may be lost when memory is short")
	}
	if err := store.Nonces().Prepare(wait); err != nil {
		return parley.Ports{}, err
	}
	a.checks = append(a.checks, health.Check{Name: "redis", Probe: func(ctx context.Context) (map[string]any, error) {
		return nil, store.Ready(ctx)
	}})
	ports := store.Ports()
	if s.MailQueue != "redis" {
		ports.MailQueue, ports.DeadLetters, ports.MailStats = nil, nil, nil
		ports.WebhookQueue, ports.WebhookLetters, ports.WebhookStats = nil, nil, nil
	}
	return ports, nil
}

// vendorLog takes what a library would print to stderr: what it fails at is an error that somebody
// gets as well.
type vendorLog struct{ *slog.Logger }

func (l vendorLog) Printf(ctx context.Context, format string, args ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
