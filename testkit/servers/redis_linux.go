package servers

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a Redis server that belongs to one test, so that the test may stop it in
// every way there is. Its methods fail the test; they are not for several goroutines at once.
type RedisServer struct {
	// URL is redis://host:port, with a parameter addr for a cluster.
	URL string
	// Addr is host:port.
	Addr string

	options RedisOptions
	program string
	folder  string
	process *os.Process
	exited  chan struct{} // closed when process has ended
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
	folder, err := os.MkdirTemp("", "parley-redis-")
	if err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
	s := &RedisServer{options: o, program: program, folder: folder}
	if err := watch(filepath.Join(folder, "pid"), folder); err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
	t.Cleanup(func() {
		if s.process != nil {
			s.Kill(t)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Errorf("servers: %v", err)
		}
	})
	port, err := redisPort()
	if err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.URL = "redis://" + s.Addr
	if o.Cluster {
		s.URL += "?addr=" + s.Addr
	}
	if err := s.serve(); err != nil {
		t.Fatalf("servers: start Redis: %v", err)
	}
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
		if answer, err := s.ask(command); err != nil || answer != "+OK" {
			t.Fatalf("servers: %s: %v %s", command, err, answer)
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
	file := filepath.Join(s.folder, "sentinel.conf")
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

// serve starts the program and waits until it serves.
func (s *RedisServer) serve() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	yes := map[bool]string{true: "yes", false: "no"}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", s.folder, "--pidfile", filepath.Join(s.folder, "pid"), "--daemonize", "no",
		"--logfile", filepath.Join(s.folder, "log")}
	if s.options.sentinel != "" {
		if args, err = s.watching(args); err != nil {
			return err
		}
	} else {
		args = append(args, "--save", "", "--appendonly", yes[s.options.AppendOnly], "--appendfsync", "always",
			"--cluster-enabled", yes[s.options.Cluster], "--maxmemory-policy", "noeviction")
	}
	if host, port, err := net.SplitHostPort(s.options.ReplicaOf); err == nil {
		args = append(args, "--replicaof", host+" "+port)
	}
	cmd := exec.Command(s.program, append(args, s.options.Args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches the test only
	if err := cmd.Start(); err != nil {
		return err
	}
	process, exited := cmd.Process, make(chan struct{})
	s.process, s.exited = process, exited
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}()
	deadline := time.NewTimer(redisPatience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ready, err := s.ready()
		if err != nil {
			return err
		}
		if ready {
			return nil
		}
		select {
		case <-tick.C:
		case <-exited:
			out, _ := os.ReadFile(filepath.Join(s.folder, "log"))
			return fmt.Errorf("it ended: %s", out)
		case <-deadline.C:
			_ = process.Kill()
			return errors.New("it does not answer")
		}
	}
}

// ready reports whether the server serves, and gives a new cluster its slots.
func (s *RedisServer) ready() (bool, error) {
	answer, err := s.ask("PING")
	if err != nil || answer != "+PONG" {
		return false, nil // it is starting, or loading what it kept
	}
	if !s.options.Cluster || s.options.member {
		return true, nil
	}
	if answer, err = s.ask("CLUSTER SLOTS"); err == nil && answer == "*0" {
		if answer, err = s.ask("CLUSTER ADDSLOTSRANGE 0 16383"); err == nil && answer != "+OK" {
			return false, fmt.Errorf("the slots are refused: %s", answer)
		}
	}
	answer, err = s.ask("GET parley-is-it-up")
	return err == nil && answer == "$-1", nil
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
	if answer, err := s.ask("FLUSHALL"); err != nil || answer != "+OK" {
		t.Fatalf("servers: flush Redis: %v %s", err, answer)
	}
}

// Kill ends the server at once, as a crash does. Killing it twice is harmless.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("servers: kill Redis: %v", err)
	}
	<-s.exited
}

// Restart starts a server that was killed, on the same address, and with what it had stored
// if it is AppendOnly.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	if err := s.serve(); err != nil {
		t.Fatalf("servers: restart Redis: %v", err)
	}
}

// Freeze stops the server where it is: connections stay open, and nothing answers.
// [RedisServer.Thaw] lets it go on.
func (s *RedisServer) Freeze(t testing.TB) {
	t.Helper()
	if err := suspend(s.process.Pid); err != nil {
		t.Fatalf("servers: freeze Redis: %v", err)
	}
}

// Thaw undoes Freeze.
func (s *RedisServer) Thaw(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func (s *RedisServer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.process.Signal(sig); err != nil {
		t.Fatalf("servers: %s Redis: %v", sig, err)
	}
}
