package wire

import (
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
)

// TestWhoHasWhichPort joins a store with what nodes share: each port must be that of the store, that of Redis, or one of this process.
func TestWhoHasWhichPort(t *testing.T) {
	t.Parallel()
	const neither, store, redis = "neither", "store", "redis"
	sqlite := memory.NewStore().Ports()
	sqlite.Limiter = memory.NewLimiter(memory.LimiterConfig{})
	queue := memory.NewMailQueue()
	server := parley.Ports{
		Nonces: memory.NewNonces(memory.NoncesConfig{}), Limiter: memory.NewLimiter(memory.LimiterConfig{}),
		Recent: memory.NewRecentCache(memory.RecentCacheConfig{}), Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence(),
	}
	withQueue := server.With(parley.Ports{MailQueue: queue, DeadLetters: queue, MailStats: queue})
	for name, c := range map[string]struct {
		kept, shared parley.Ports
		limiter      auth.Limiter // nil for one of this process
		from         map[string]string
	}{
		"a store": {sqlite, parley.Ports{}, sqlite.Limiter, map[string]string{
			"Users": store, "Nonces": store, "MailQueue": store, "Messages": store, "Recent": neither, "Fanout": neither, "Presence": neither,
		}},
		"memory": {memory.NewStore().Ports(), parley.Ports{}, nil, map[string]string{
			"Users": store, "Nonces": store, "MailQueue": store, "Messages": store, "Recent": neither, "Fanout": neither, "Presence": neither,
		}},
		"a store and Redis": {sqlite, server, server.Limiter, map[string]string{
			"Users": store, "Nonces": redis, "MailQueue": store, "Messages": store, "Recent": redis, "Fanout": redis, "Presence": redis,
		}},
		"memory and Redis": {memory.NewStore().Ports(), server, server.Limiter, map[string]string{
			"Users": store, "Nonces": redis, "MailQueue": store, "Messages": store, "Recent": redis, "Fanout": redis, "Presence": redis,
		}},
		"a store, and Redis with the queue": {sqlite, withQueue, server.Limiter, map[string]string{
			"Users": store, "MailQueue": redis, "DeadLetters": redis, "MailStats": redis, "Messages": store,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := join(c.kept, c.shared, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			port := func(p parley.Ports, name string) any { return reflect.ValueOf(p).FieldByName(name).Interface() }
			for name, from := range c.from {
				switch from {
				case store:
					assert.True(t, port(got, name) == port(c.kept, name), name)
				case redis:
					assert.True(t, port(got, name) == port(c.shared, name), name)
				default:
					assert.NotNil(t, port(got, name), name)
				}
			}
			// What is counted is counted by who is meant, and refused from memory after that.
			rate, now := auth.Rate{Burst: 1, Per: time.Hour}, time.Unix(1_800_000_000, 0)
			wait, err := got.Limiter.Allow(t.Context(), name, rate, now)
			require.NoError(t, err)
			require.Zero(t, wait)
			if c.limiter != nil {
				wait, err = c.limiter.Allow(t.Context(), name, rate, now)
				require.NoError(t, err)
				assert.Positive(t, wait, "another limiter counted")
			}
		})
	}
}
