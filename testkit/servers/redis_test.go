package servers_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/servers"
)

func TestRedisIsKilledFrozenAndFlushed(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"single": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servers.StartRedis(t, servers.RedisOptions{Cluster: cluster, AppendOnly: true})
			c := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{s.Addr}, IsClusterMode: cluster, ContextTimeoutEnabled: true})
			t.Cleanup(func() { assert.NoError(t, c.Close()) })
			require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
			s.Kill(t)
			s.Kill(t)
			assert.Error(t, c.Get(t.Context(), "k").Err())
			s.Restart(t)
			assert.Equal(t, "v", c.Get(t.Context(), "k").Val(), "it was appended to the file")
			s.Freeze(t)
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			assert.ErrorIs(t, c.Get(short, "k").Err(), context.DeadlineExceeded, "it is frozen")
			s.Thaw(t)
			assert.Equal(t, "v", c.Get(t.Context(), "k").Val())
			s.Flush(t)
			assert.ErrorIs(t, c.Get(t.Context(), "k").Err(), redis.Nil)
		})
	}
}

func TestRedisHonoursItsVariable(t *testing.T) {
	t.Setenv(servers.RedisVariable, "redis://elsewhere:1")
	assert.Equal(t, "redis://elsewhere:1", servers.Redis(t))
}

func TestARedisClusterDividesTheSlots(t *testing.T) {
	t.Parallel()
	nodes := servers.StartRedisCluster(t, 3)
	o, err := redis.ParseClusterURL("redis://" + nodes[0].Addr + "?addr=" + nodes[0].Addr)
	require.NoError(t, err)
	c := redis.NewClusterClient(o)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	for i := range 100 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint(i), "v", 0).Err())
	}
	for _, n := range nodes {
		one := redis.NewClient(&redis.Options{Addr: n.Addr})
		t.Cleanup(func() { assert.NoError(t, one.Close()) })
		size, err := one.DBSize(t.Context()).Result()
		require.NoError(t, err)
		assert.Positive(t, size, "a server has no keys")
		assert.Less(t, size, int64(100))
	}
}
