package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RedisServer is a Redis server that belongs to one test. Its methods fail the test; they are not for several
// goroutines at once.
type RedisServer struct {
	*Process // Restart keeps what was stored if the server is AppendOnly.
	// URL is redis://host:port, with a parameter addr for a cluster.
	URL string
	// Addr is host:port.
	Addr string

	options RedisOptions
	program string
}

const redisPatience = 30 * time.Second

// StartRedis starts a server for t alone, on a free port of the loopback interface, and stops
// it when t ends. Where Redis is not installed, t is skipped.
func StartRedis(t testing.TB, o RedisOptions) *RedisServer {
	t.Helper()
	notShort(t)
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skipf("Redis: the program redis-server is not installed; set %s to the URL of a server", RedisVariable)
	}
	process, err := newProcess("Redis", false)
	if err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
	s := &RedisServer{Process: process, options: o, program: program}
	process.command, process.ready, process.patience = s.serve, s.serves, redisPatience
	port, err := redisPort()
	if err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.URL = "redis://" + s.Addr
	if o.Cluster {
		s.URL += "?addr=" + s.Addr
	}
	process.startFor(t)
	return s
}

// StartRedisCluster starts a cluster of so many servers for t alone, among which the slots are
// divided, and returns them. The URL of each names them all.
func StartRedisCluster(t testing.TB, nodes int) []*RedisServer {
	t.Helper()
	all := make([]*RedisServer, nodes)
	var list []string
	for i := range all {
		all[i] = StartRedis(t, RedisOptions{Cluster: true, AppendOnly: true, member: true})
		list = append(list, all[i].Addr)
	}
	// Until a server knows all others, and who serves what, it says CLUSTERDOWN.
	ask := func(s *RedisServer, command string) {
		t.Helper()
		if err := s.want(command, "+OK"); err != nil {
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
	for deadline := time.Now().Add(redisPatience); ; time.Sleep(20 * time.Millisecond) {
		up := 0
		for _, s := range all {
			if answer, err := s.ask("GET parley-is-it-up"); err == nil && (answer == "$-1" || strings.HasPrefix(answer, "-MOVED")) {
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

// redisPort returns a free port whose bus port, 10,000 above it, exists and is free too.
func redisPort() (int, error) {
	for range 100 {
		port, err := freePort()
		if err != nil {
			return 0, err
		}
		if port > 55_000 {
			port -= 20_000 // the bus port must not be above 65,535
		}
		free := true
		for _, p := range []int{port, port + 10_000} {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
			if err != nil {
				free = false
				continue
			}
			if err := l.Close(); err != nil {
				return 0, err
			}
		}
		if free {
			return port, nil
		}
	}
	return 0, errors.New("no two free ports were found")
}

// StartRedisSentinel starts a Sentinel for t alone, which watches the server under the name "primary" and calls
// it down after a second.
func StartRedisSentinel(t testing.TB, primary *RedisServer) *RedisServer {
	t.Helper()
	return StartRedis(t, RedisOptions{sentinel: primary.Addr})
}

// watching makes arguments those of a Sentinel, which keeps what it knows in its file of settings.
func (s *RedisServer) watching(args []string) ([]string, error) {
	host, port, err := net.SplitHostPort(s.options.sentinel)
	if err != nil {
		return nil, err
	}
	file := s.file("sentinel.conf")
	text := fmt.Sprintf("sentinel monitor primary %s %s 1\nsentinel down-after-milliseconds primary 1000\nsentinel failover-timeout primary 3000\n", host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return append([]string{file, "--sentinel"}, args...), nil
}

// Do sends one command, words separated by spaces, and returns the first line of the answer, as the protocol
// has it: +OK, say.
func (s *RedisServer) Do(t testing.TB, command string) string {
	t.Helper()
	answer, err := s.ask(command)
	if err != nil {
		t.Fatalf("servers: %s: %v", command, err)
	}
	return answer
}

// serve is the command that serves until it is killed.
func (s *RedisServer) serve() (*exec.Cmd, error) {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	yes := map[bool]string{true: "yes", false: "no"}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.folder, "--daemonize", "no"}
	if s.options.sentinel != "" {
		if args, err = s.watching(args); err != nil {
			return nil, err
		}
	} else {
		args = append(args, "--save", "", "--appendonly", yes[s.options.AppendOnly], "--appendfsync", "always",
			"--cluster-enabled", yes[s.options.Cluster], "--maxmemory-policy", "noeviction")
	}
	if host, port, err := net.SplitHostPort(s.options.ReplicaOf); err == nil {
		args = append(args, "--replicaof", host+" "+port)
	}
	return exec.Command(s.program, append(args, s.options.Args...)...), nil
}

// serves returns nil if the server serves, and gives a new cluster its slots.
func (s *RedisServer) serves(context.Context) error {
	if err := s.want("PING", "+PONG"); err != nil {
		return err // it is starting, or loading what it kept
	}
	if !s.options.Cluster || s.options.member {
		return nil
	}
	if s.want("CLUSTER SLOTS", "*0") == nil {
		if err := s.want("CLUSTER ADDSLOTSRANGE 0 16383", "+OK"); err != nil {
			return err
		}
	}
	return s.want("GET parley-is-it-up", "$-1")
}

// want returns an error unless the server gives this answer.
func (s *RedisServer) want(command, answer string) error {
	got, err := s.ask(command)
	if err == nil && got != answer {
		err = fmt.Errorf("%s: the answer is %s", command, got)
	}
	return err
}

// ask sends one command on a connection of its own and returns the first line of the answer.
func (s *RedisServer) ask(command string) (string, error) {
	c, err := net.DialTimeout("tcp", s.Addr, redisPatience)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(redisPatience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// Flush removes everything from the server.
func (s *RedisServer) Flush(t testing.TB) {
	t.Helper()
	if err := s.want("FLUSHALL", "+OK"); err != nil {
		t.Fatalf("servers: flush Redis: %v", err)
	}
}
