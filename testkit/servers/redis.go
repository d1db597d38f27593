package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/testkit/local"
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
type RedisOptions = local.RedisOptions

// RedisServer is a Redis server that belongs to one test. Its methods fail the test; they are not for several
// goroutines at once.
type RedisServer struct {
	*Process // Restart keeps what was stored if the server is AppendOnly.
	*local.RedisServer
}

// StartRedis starts a server for t alone, on a free port of the loopback interface, and stops
// it when t ends. Where Redis is not installed, t is skipped.
func StartRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	notShort(t)
	s, err := local.Redis(o)
	if errors.Is(err, local.ErrMissing) {
		t.Skipf("Redis: %v; set %s to the URL of a server", err, RedisVariable)
	}
	if err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
	return &RedisServer{Process: startFor(t, s.Process), RedisServer: s}
}

// StartRedisCluster starts a cluster of so many servers for t alone, among which the slots are
// divided, and returns them. The URL of each names them all.
func StartRedisCluster(t testing.TB, nodes int) []*RedisServer {
	t.Helper()
	all := make([]*RedisServer, nodes)
	var list []string
	for i := range all {
		all[i] = StartRedis(t, RedisOptions{Cluster: true, AppendOnly: true, Member: true})
		list = append(list, all[i].Addr)
	}
	// Until a server knows all others, and who serves what, it says CLUSTERDOWN.
	ask := func(s *RedisServer, command string) {
		t.Helper()
		if err := s.Want(command, "+OK"); err != nil {
			t.Fatalf("servers: %v", err)
		}
	}
	const slots = 16_384
	for i, s := range all {
		s.URL = "redis://" + strings.Join(list, ",")
		ask(s, fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1))
		ask(s, fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", i*slots/nodes, (i+1)*slots/nodes-1))
		if host, port, err := net.SplitHostPort(s.Addr); i > 0 && err == nil {
			ask(all[0], "CLUSTER MEET "+host+" "+port)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		up := 0
		for _, s := range all {
			if answer, err := s.Ask("GET parley-is-it-up"); err == nil && (answer == "$-1" || strings.HasPrefix(answer, "-MOVED")) {
				up++
			}
		}
		if up == nodes {
			return all
		}
		if time.Now().After(deadline) {
			t.Fatalf("servers: the Redis cluster does not come together: %d of %d", up, nodes)
		}
	}
}

// StartRedisSentinel starts a Sentinel for t alone, which watches the server under the name "primary" and calls
// it down after a second.
func StartRedisSentinel(t testing.TB, primary *RedisServer) *RedisServer {
	t.Helper()
	return StartRedis(t, RedisOptions{SentinelOf: primary.Addr})
}

// Do sends one command, words separated by spaces, and returns the first line of the answer, as the protocol
// has it: +OK, say.
func (s *RedisServer) Do(t testing.TB, command string) string {
	t.Helper()
	answer, err := s.Ask(command)
	if err != nil {
		t.Fatalf("servers: %s: %v", command, err)
	}
	return answer
}

// Flush removes everything from the server.
func (s *RedisServer) Flush(t testing.TB) {
	t.Helper()
	if err := s.Want("FLUSHALL", "+OK"); err != nil {
		t.Fatalf("servers: flush Redis: %v", err)
	}
}
