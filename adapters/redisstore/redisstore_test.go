package redisstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/testkit/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backends are the servers that everything runs on.
var backends = []struct {
	name, server string
	open         func(t *testing.T) redis.UniversalClient
}{
	{"miniredis", "miniredis", func(t *testing.T) redis.UniversalClient { return dial(t, "redis://"+miniredis.RunT(t).Addr()) }},
	{"single", "Redis", func(t *testing.T) redis.UniversalClient { return dial(t, servers.Redis(t)) }},
	{"cluster", "Redis Cluster", func(t *testing.T) redis.UniversalClient {
		return dial(t, servers.StartRedisCluster(t, 3)[0].URL)
	}},
}

func dial(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	c, err := redisstore.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

var spaces atomic.Int64

// fresh is a store with a prefix that nothing else uses.
func fresh(t *testing.T, c redis.UniversalClient) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(c, fmt.Sprintf("test-%s-%d:", t.Name(), spaces.Add(1)))
	require.NoError(t, err)
	return s
}

func TestContract(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "redisstore", b.server)
			c := b.open(t)
			t.Run("recent cache", func(t *testing.T) {
				contract.Run(t, contract.RecentCache(), func(t *testing.T) chat.RecentCache {
					return fresh(t, c).Ports().Recent
				})
			})
			t.Run("fanout", func(t *testing.T) {
				contract.Run(t, contract.Fanout(), func(t *testing.T) contract.FanoutNodes {
					s := fresh(t, c)
					return func(context.Context) (realtime.Fanout, error) { return s.Fanout(redisstore.FanoutConfig{}), nil }
				})
			})
			t.Run("presence", func(t *testing.T) {
				contract.Run(t, contract.Presence(), func(t *testing.T) realtime.Presence { return fresh(t, c).Ports().Presence })
			})
			t.Run("limiter", func(t *testing.T) {
				contract.Run(t, contract.Limiter(), func(t *testing.T) auth.Limiter { return fresh(t, c).Ports().Limiter })
			})
			t.Run("nonces", func(t *testing.T) {
				contract.Run(t, contract.Nonces(), func(t *testing.T) auth.Nonces { return fresh(t, c).Ports().Nonces })
			})
			mails := func(t *testing.T) contract.Mails {
				q := fresh(t, c).MailQueue()
				return contract.Mails{Queue: q, Letters: q, Stats: q}
			}
			t.Run("mail queue", func(t *testing.T) { contract.Run(t, contract.MailQueue(), mails) })
			t.Run("dead letters", func(t *testing.T) { contract.Run(t, contract.DeadLetters(), mails) })
			t.Run("mail stats", func(t *testing.T) { contract.Run(t, contract.MailStats(), mails) })
			t.Run("deliveries of webhooks are apart from mails", func(t *testing.T) {
				s := fresh(t, c)
				mails, hooks := s.MailQueue(), s.WebhookQueue()
				require.NoError(t, hooks.Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", To: "u", Name: "hall"}))
				_, found, err := mails.Claim(t.Context(), time.Now(), time.Minute)
				require.NoError(t, err)
				require.False(t, found)
				require.NoError(t, mails.Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", To: "u"}))
				j, found, err := hooks.Claim(t.Context(), time.Now(), time.Minute)
				require.NoError(t, err)
				require.True(t, found)
				require.Equal(t, "hall", j.Name)
				n, err := hooks.DeleteTo(t.Context(), "u")
				require.NoError(t, err)
				require.Equal(t, 1, n)
				_, err = mails.Get(t.Context(), "1")
				require.NoError(t, err)
			})
		})
	}
}
