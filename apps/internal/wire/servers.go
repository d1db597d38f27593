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
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
)

// openBus opens what carries events, with these topics.
func (a *App) openBus(ctx context.Context, topics ...string) error {
	s := a.settings
	if s.Bus == "memory:" {
		bus, err := watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Groups: map[string][]string{mail.Topic: {mail.Group}}})
		if err != nil {
			return err
		}
		a.closers = append(a.closers, bus.Close)
		a.ports.Publisher, a.ports.Subscriber = bus, bus
		return nil
	}
	cfg, err := kafkabus.ParseURL(s.Bus)
	if err != nil {
		return err
	}
	cfg.Topics, cfg.Timeout, cfg.Source = topics, startTimeout, string(s.Program)
	// A session that ended before a node started is over, although its last token still is good.
	cfg.Replay = s.AccessTTL + clockLeeway
	if s.Node != "" {
		cfg.Node = string(s.Program) + "-" + s.Node
	}
	bus, err := kafkabus.Open(ctx, cfg)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, bus.Close)
	a.ports.Publisher, a.ports.Subscriber = bus, bus
	a.checks = append(a.checks, health.Check{Name: "bus", Probe: func(ctx context.Context) (map[string]any, error) {
		return nil, bus.Ping(ctx)
	}})
	return nil
}

// openRedis fills in the ports of what nodes share: on Redis, or in memory where there is none. A
// mailer whose queue is elsewhere has no use for it.
func (a *App) openRedis(ctx context.Context) error {
	s, p := a.settings, &a.ports
	if s.Redis == "" || s.Program == config.Mailer && s.MailQueue != "redis" {
		own := memory.NewLimiter(memory.LimiterConfig{})
		if p.Limiter == nil { // the store keeps nothing
			p.Limiter = own
		} else {
			p.Limiter = &limiter{shared: p.Limiter, own: own, log: a.log}
		}
		p.Recent = memory.NewRecentCache(memory.RecentCacheConfig{Rooms: 10_000, Messages: 20})
		p.Fanout, p.Presence = memory.NewFanout().Node(), memory.NewPresence()
		return nil
	}
	redis.SetLogger(vendorLog{a.log}) // one for all clients of the process
	wait, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, server, err := redisstore.Connect(wait, s.Redis, redisstore.Needs{MailQueue: s.MailQueue == "redis", Prefix: s.RedisPrefix})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, client.Close)
	if server.Eviction == "" {
		a.log.Warn("the Redis server does not say its maxmemory-policy: it must be noeviction, or mails and spent tickets may be lost when memory is short")
	}
	store, err := redisstore.New(client, s.RedisPrefix)
	if err != nil {
		return err
	}
	p.Limiter = &limiter{shared: store.Limiter(), own: memory.NewLimiter(memory.LimiterConfig{}), log: a.log}
	p.Nonces = store.Nonces()
	p.Recent = store.RecentCache(redisstore.RecentCacheConfig{})
	p.Fanout, p.Presence = store.Fanout(redisstore.FanoutConfig{}), store.Presence()
	if s.MailQueue == "redis" {
		queue := store.MailQueue()
		p.MailQueue, p.DeadLetters, p.MailStats = queue, queue, queue
	}
	a.checks = append(a.checks, health.Check{Name: "redis", Probe: func(ctx context.Context) (map[string]any, error) {
		return nil, store.Ready(ctx)
	}})
	return nil
}

// vendorLog takes what a library would print to stderr: what it fails at is an error that somebody
// gets as well.
type vendorLog struct{ *slog.Logger }

func (l vendorLog) Printf(ctx context.Context, format string, args ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
