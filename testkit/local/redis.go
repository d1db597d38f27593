package local

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// RedisOptions say what kind of server [Redis] makes. The zero value keeps nothing on disk.
type RedisOptions struct {
	// Cluster makes it a cluster of one node, which serves every slot.
	Cluster bool
	// AppendOnly keeps every acknowledged write across [Process.Kill]: it is synced first.
	AppendOnly bool
	// ReplicaOf makes it a replica of the server with this host:port.
	ReplicaOf string
	// Data is a new folder for what it keeps. Default: the server's own.
	Data string
	// Args are further arguments of redis-server, as "--maxmemory", "10mb". They win over those of [Redis].
	Args []string

	// SentinelOf makes it the Sentinel of the server with this host:port, which it calls "primary".
	SentinelOf string
	// Member makes it one of a larger cluster: it gets its slots later.
	Member bool
}

// RedisServer is a Redis server. Its methods are not for several goroutines at once.
type RedisServer struct {
	*Process // Start keeps what was stored if the server is AppendOnly.
	// URL is redis://host:port, with a parameter addr for a cluster.
	URL string
	// Addr is host:port.
	Addr string

	options RedisOptions
	program string
}

const redisPatience = 30 * time.Second

// Redis makes a server on a free port. Where Redis is not installed, the error is ErrMissing.
func Redis(o RedisOptions) (*RedisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("the program redis-server is %w", ErrMissing)
	}
	process, err := New("Redis", false)
	if err != nil {
		return nil, err
	}
	s := &RedisServer{Process: process, options: o, program: program}
	process.Command, process.Ready, process.Patience = s.serve, s.serves, redisPatience
	port, err := redisPort()
	if err != nil {
		return nil, errors.Join(err, process.Close())
	}
	if o.Data != "" {
		if err := os.Mkdir(o.Data, 0o700); err != nil {
			return nil, errors.Join(err, process.Close())
		}
	}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.URL = "redis://" + s.Addr
	if o.Cluster {
		s.URL += "?addr=" + s.Addr
	}
	return s, nil
}

// redisPort is [FreePort] for a Redis: its bus port, 10,000 above it, is free too, and nobody else's.
func redisPort() (int, error) {
	for range 100 {
		if port := 10_000 + rand.IntN(10_000); claim(port, port+10_000) {
			return port, nil
		}
	}
	return 0, errors.New("no two free ports were found")
}

// watching makes arguments those of a Sentinel, which keeps what it knows in its file of settings.
func (s *RedisServer) watching(args []string) ([]string, error) {
	host, port, err := net.SplitHostPort(s.options.SentinelOf)
	if err != nil {
		return nil, err
	}
	file := s.File("sentinel.conf")
	text := fmt.Sprintf("sentinel monitor primary %s %s 1\nsentinel down-after-milliseconds primary 1000\nsentinel failover-timeout primary 3000\n", host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return append([]string{file, "--sentinel"}, args...), nil
}

// serve is the command that serves until it is killed.
func (s *RedisServer) serve() (*exec.Cmd, error) {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	yes := map[bool]string{true: "yes", false: "no"}
	args := []string{"--bind", "127.0.0.1", "--port", port, "--dir", cmp.Or(s.options.Data, s.Folder()), "--daemonize", "no"}
	if s.options.SentinelOf != "" {
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
	if err := s.Want("PING", "+PONG"); err != nil {
		return err // it is starting, or loading what it kept
	}
	if !s.options.Cluster || s.options.Member {
		return nil
	}
	if s.Want("CLUSTER SLOTS", "*0") == nil {
		if err := s.Want("CLUSTER ADDSLOTSRANGE 0 16383", "+OK"); err != nil {
			return err
		}
	}
	return s.Want("GET parley-is-it-up", "$-1")
}

// Want returns an error unless the server gives this answer.
func (s *RedisServer) Want(command, answer string) error {
	got, err := s.Ask(command)
	if err == nil && got != answer {
		err = fmt.Errorf("%s: the answer is %s", command, got)
	}
	return err
}

// Ask sends one command on a connection of its own and returns the first line of the answer.
func (s *RedisServer) Ask(command string) (string, error) {
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
