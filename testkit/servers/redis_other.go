//go:build !linux

package servers

import "testing"

// RedisServer is a Redis server that belongs to one test. Servers are started on Linux only.
type RedisServer struct {
	*Process
	URL, Addr string
}

// StartRedis skips t: servers are started on Linux only.
func StartRedis(t testing.TB, _ RedisOptions) *RedisServer {
	t.Helper()
	t.Skipf("Redis: servers are started on Linux only; set %s to the URL of a server", RedisVariable)
	return nil
}

// StartRedisCluster skips t: servers are started on Linux only.
func StartRedisCluster(t testing.TB, _ int) []*RedisServer {
	t.Helper()
	StartRedis(t, RedisOptions{})
	return nil
}

// StartRedisSentinel skips t: servers are started on Linux only.
func StartRedisSentinel(t testing.TB, _ *RedisServer) *RedisServer {
	t.Helper()
	return StartRedis(t, RedisOptions{})
}

// Do does nothing: there is no server.
func (*RedisServer) Do(testing.TB, string) string { return "" }

// Flush does nothing: there is no server.
func (*RedisServer) Flush(testing.TB) {}
