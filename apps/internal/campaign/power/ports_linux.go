package power

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// pace is how long a client waits after each item: what a setting costs is a time, and so a number of items for a rate.
const pace = 5 * time.Millisecond

// items is a server that keeps items, each given to it through an adapter until it is acknowledged.
type items struct {
	*campaign
	server *process
	// give gives one item, which may have been given before, to the server.
	give func(ctx context.Context, id string) error

	mu      sync.Mutex
	acks    []string
	count   atomic.Int64
	stop    chan struct{}
	working sync.WaitGroup
}

func (s *items) work(ctx context.Context) error {
	for client := range s.Clients {
		s.working.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("item-%03d-%07d", client, i)
				for {
					attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
					err := s.give(attempt, id)
					cancel()
					if err == nil {
						break
					}
					if s.wait(ctx, 20*time.Millisecond) != nil {
						return // it was not acknowledged
					}
				}
				s.mu.Lock()
				s.acks = append(s.acks, id)
				s.mu.Unlock()
				s.count.Add(1)
				if s.wait(ctx, pace) != nil {
					return
				}
			}
		})
	}
	return nil
}

// wait waits, unless the clients are to end.
func (s *items) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.stop:
		return errors.New("the clients end")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *items) acknowledged() int { return int(s.count.Load()) }

func (s *items) noted(int, bool) error { return nil }

func (s *items) kill(*rand.Rand) error { return s.server.kill() }

func (s *items) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := s.server.gone(ctx); err != nil {
		return err
	}
	return s.server.start(ctx)
}

func (s *items) close() error {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.working.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(s.server.kill(), s.server.gone(ctx))
}

// redisMails is the queue of mails in Redis.
type redisMails struct {
	items
	check    string // redis-check-aof
	repaired int
	client   redis.UniversalClient
	queue    *redisstore.MailQueue
}

func newRedis(c *campaign) (*redisMails, error) {
	s := &redisMails{items: items{campaign: c, stop: make(chan struct{})}}
	program, err := programIn("redis-server")
	if err != nil {
		return nil, err
	}
	if s.check, err = programIn("redis-check-aof"); err != nil {
		return nil, err
	}
	address, err := freeAddress(context.Background())
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	redis.SetLogger(silence{}) // that it is away is what is wanted
	if s.client, err = redisstore.Open("redis://" + address); err != nil {
		return nil, err
	}
	store, err := redisstore.New(s.client, "parley:")
	if err != nil {
		return nil, errors.Join(err, s.client.Close())
	}
	s.queue = store.MailQueue()
	s.give = func(ctx context.Context, id string) error {
		now := time.Now().UTC().Truncate(time.Microsecond)
		return s.queue.Enqueue(ctx, mail.Job{ID: id, Key: id, Kind: mail.KindVerification, To: "somebody@example.com", Data: []byte("{}"), RunAt: now, CreatedAt: now, UpdatedAt: now})
	}
	files := c.disk.Path()
	s.server = &process{name: "redis", log: filepath.Join(c.folder, "redis.log")}
	s.server.command = func() *exec.Cmd {
		args := []string{
			"--bind", host, "--port", port, "--dir", files, "--daemonize", "no", "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction",
			"--auto-aof-rewrite-min-size", "4mb", // rewrites are to be cut, too
			// A file whose end is missing is left to redis-check-aof: see docs/campaigns.md. The last of the same name counts.
			"--aof-load-truncated", "no",
		}
		for setting := range strings.SplitSeq(c.Setting, " ") {
			name, value, _ := strings.Cut(setting, "=")
			args = append(args, "--"+name, value)
		}
		return exec.Command(program, args...) //nolint:noctx // it is killed
	}
	s.server.ready = func(ctx context.Context) error { return s.client.Ping(ctx).Err() }
	// Its log may be torn where it was not synced. Redis leaves it to its operators to cut that off.
	s.server.passing = func(log string) bool {
		if !strings.Contains(log, "Bad file format") && !strings.Contains(log, "Unexpected end of file") && !strings.Contains(log, "Unrecoverable error reading the append only file") {
			return false
		}
		s.repaired++
		manifests, _ := filepath.Glob(filepath.Join(files, "appendonlydir", "*.manifest"))
		if len(manifests) == 0 {
			return false
		}
		cmd := exec.Command(s.check, "--fix", manifests[0]) //nolint:noctx,gosec // it ends by itself
		cmd.Stdin, cmd.Dir, cmd.Env = strings.NewReader("y\n"), "/", environment()
		// The tool does not sync; whoever uses it is not hit by a power cut at once.
		return cmd.Run() == nil && c.disk.Sync() == nil
	}
	return s, nil
}

// silence drops what the client of Redis says by itself.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func (s *redisMails) begin(ctx context.Context) error { return s.server.start(ctx) }

func (s *redisMails) finish(ctx context.Context, r *Result) error {
	close(s.stop)
	s.working.Wait()
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	for _, id := range s.acks {
		_, err := s.queue.Get(ctx, id)
		if errors.Is(err, fault.NotFound) {
			r.Lost++
		} else if err != nil {
			return err
		}
	}
	r.Acknowledged, r.Repaired = len(s.acks), s.repaired
	return nil
}

func (s *redisMails) close() error { return errors.Join(s.items.close(), s.client.Close()) }

// kafkaEvents is the bus on Kafka.
type kafkaEvents struct {
	items
	java    string
	config  kafkabus.Config
	address string
	bus     *kafkabus.Bus
}

// topic has one partition.
const topic = "power"

func newKafka(c *campaign) (*kafkaEvents, error) {
	s := &kafkaEvents{items: items{campaign: c, stop: make(chan struct{})}}
	var err error
	if s.java, err = programIn("java"); err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(c.KafkaJars, "kafka_*.jar"))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no Kafka: .ci/kafka-jars fills a folder", c.KafkaJars)
	}
	if err != nil {
		return nil, err
	}
	if s.address, err = freeAddress(context.Background()); err != nil {
		return nil, err
	}
	s.config = kafkabus.Config{Brokers: []string{s.address}, Topics: []string{topic}, Partitions: 1, Replay: 24 * time.Hour}
	s.give = func(ctx context.Context, id string) error {
		return s.bus.Publish(ctx, event.Event{ID: id, Topic: topic, Type: "given", Key: id, Time: time.Now().UTC().Truncate(time.Microsecond), Data: []byte("{}")})
	}
	s.server = &process{name: "kafka", log: filepath.Join(c.folder, "kafka.log"), ready: listening(s.address)}
	s.server.command = func() *exec.Cmd {
		return exec.Command(s.java, "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", s.classes(), "kafka.Kafka", s.properties()) //nolint:noctx,gosec // it is killed
	}
	return s, nil
}

func (s *kafkaEvents) classes() string    { return filepath.Join(s.KafkaJars, "*") }
func (s *kafkaEvents) properties() string { return filepath.Join(s.folder, "server.properties") }

func (s *kafkaEvents) begin(ctx context.Context) error {
	controller, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	settings := []string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + controller,
		"listeners=PLAINTEXT://" + s.address + ",CONTROLLER://" + controller, "advertised.listeners=PLAINTEXT://" + s.address,
		"controller.listener.names=CONTROLLER", "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + filepath.Join(s.disk.Path(), "data"), "auto.create.topics.enable=false", "num.network.threads=2", "num.io.threads=2", "log.cleaner.enable=false",
		"offsets.topic.num.partitions=1", "offsets.topic.replication.factor=1", "group.initial.rebalance.delay.ms=0",
		// Or a broker that was killed waits for its own old session.
		"broker.session.timeout.ms=2000", "broker.heartbeat.interval.ms=500",
	}
	if s.Setting != "default" {
		settings = append(settings, s.Setting)
	}
	if err := os.WriteFile(s.properties(), []byte(strings.Join(settings, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	format := exec.CommandContext(ctx, s.java, "-cp", s.classes(), "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", s.properties()) //nolint:gosec // it is installed
	format.Env, format.Dir = environment(), "/"
	if out, err := format.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka: format: %w: %s", err, tail(string(out)))
	}
	if err := s.server.start(ctx); err != nil {
		return err
	}
	s.bus, err = kafkabus.Open(ctx, s.config)
	return err
}

func (s *kafkaEvents) finish(ctx context.Context, r *Result) error {
	close(s.stop)
	s.working.Wait()
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	const last = "the last"
	for err := s.give(ctx, last); err != nil; err = s.give(ctx, last) {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	times := map[string]int{}
	reading, enough := context.WithCancel(ctx)
	defer enough()
	err := s.bus.Subscribe(reading, topic, "", func(_ context.Context, e event.Event) error {
		times[e.ID]++
		if e.ID == last {
			enough()
		}
		return nil
	}, nil)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if times[last] == 0 {
		return errors.New("kafka: the topic cannot be read to its end")
	}
	for _, id := range s.acks {
		if times[id] == 0 {
			r.Lost++
		}
	}
	for _, n := range times {
		if n > 1 {
			r.Twice++
		}
	}
	r.Acknowledged = len(s.acks)
	return nil
}

func (s *kafkaEvents) close() error {
	var bus io.Closer
	if s.bus != nil {
		bus = s.bus
	}
	err := s.items.close()
	if bus != nil {
		_ = bus.Close() // its server is gone
	}
	return err
}
