package servers

import (
	"os"
	"testing"
)

// RedisVariable names a server to use instead of starting one: redis://host:port, and for a
// cluster redis://host:port?addr=host:port.
const RedisVariable = "PARLEY_TEST_REDIS"

// Redis returns the URL of a server: the one that PARLEY_TEST_REDIS names, or one that is
// started for t. Others may use it as well: use a prefix of your own, and do not flush it.
// Where there is neither, t is skipped.
func Redis(t testing.TB) string {
	t.Helper()
	if url := os.Getenv(RedisVariable); url != "" {
		return url
	}
	return StartRedis(t, RedisOptions{}).URL
}

// RedisOptions say what kind of server [StartRedis] starts. The zero value keeps nothing on disk.
type RedisOptions struct {
	// Cluster makes it a cluster of one node, which serves every slot.
	Cluster bool
	// AppendOnly keeps every acknowledged write across [RedisServer.Kill]: it is synced first.
	AppendOnly bool
	// ReplicaOf makes it a replica of the server with this host:port.
	ReplicaOf string
	// Args are further arguments of redis-server, as "--maxmemory", "10mb".
	Args []string

	sentinel string // of which server with this host:port it is the Sentinel
	member   bool   // of a larger cluster: it gets its slots later
}
