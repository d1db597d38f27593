package power

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
	"github.com/parley-chat/parley/testkit/local"
)

// pace is how long a client waits after each item: what a setting costs is a time, and so a number of items for a rate.
const pace = 5 * time.Millisecond

// items is a server that keeps items, each given to it through an adapter until it is acknowledged.
type items struct {
	*campaign
	server *local.Process
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

func (s *items) kill(*rand.Rand) error { return s.server.SendKill() }

func (s *items) start(ctx context.Context) error {
	return again(ctx, s.server)
}

func (s *items) close() error {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.working.Wait()
	return s.server.Close()
}

// redisMails is the queue of mails in Redis.
type redisMails struct {
	items
	repaired int
	client   redis.UniversalClient
	queue    *redisstore.MailQueue
}

func newRedis(c *campaign) (*redisMails, error) {
	check, err := exec.LookPath("redis-check-aof")
	if err != nil {
		return nil, fmt.Errorf("the program redis-check-aof is %w", local.ErrMissing)
	}
	files := filepath.Join(c.disk.Path(), "data")
	args := []string{
		"--auto-aof-rewrite-min-size", "4mb", // rewrites are to be cut, too
		// A file whose end is missing is left to redis-check-aof: see docs/campaigns.md. The last of the same name counts.
		"--aof-load-truncated", "no",
	}
	for setting := range strings.SplitSeq(c.Setting, " ") {
		name, value, _ := strings.Cut(setting, "=")
		args = append(args, "--"+name, value)
	}
	server, err := local.Redis(local.RedisOptions{AppendOnly: true, Data: files, Args: args})
	if err != nil {
		return nil, err
	}
	server.Patience = startPatience
	s := &redisMails{items: items{campaign: c, server: server.Process, stop: make(chan struct{})}}
	redis.SetLogger(silence{}) // that it is away is what is wanted
	if s.client, err = redisstore.Open(server.URL); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	store, err := redisstore.New(s.client, "parley:")
	if err != nil {
		return nil, errors.Join(err, s.client.Close(), server.Close())
	}
	s.queue = store.MailQueue()
	s.give = func(ctx context.Context, id string) error {
		now := time.Now().UTC().Truncate(time.Microsecond)
		return s.queue.Enqueue(ctx, mail.Job{ID: id, Key: id, Kind: mail.KindVerification, To: "somebody@example.com", Data: []byte("{}"), RunAt: now, CreatedAt: now, UpdatedAt: now})
	}
	// The client remembers for a while that it was away, and answers so.
	server.Ready = func(ctx context.Context) error { return s.client.Ping(ctx).Err() }
	// Its log may be torn where it was not synced. Redis leaves it to its operators to cut that off.
	server.Passing = func(err error) bool {
		log := err.Error()
		if !strings.Contains(log, "Bad file format") && !strings.Contains(log, "Unexpected end of file") && !strings.Contains(log, "Unrecoverable error reading the append only file") {
			return false
		}
		s.repaired++
		manifests, _ := filepath.Glob(filepath.Join(files, "appendonlydir", "*.manifest"))
		if len(manifests) == 0 {
			return false
		}
		cmd := exec.Command(check, "--fix", manifests[0]) //nolint:noctx,gosec // it ends by itself
		cmd.Stdin = strings.NewReader("y\n")
		// The tool does not sync; whoever uses it is not hit by a power cut at once.
		return cmd.Run() == nil && c.disk.Sync() == nil
	}
	return s, nil
}

// silence drops what the client of Redis says by itself.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func (s *redisMails) begin(ctx context.Context) error { return start(ctx, s.server) }

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
	config kafkabus.Config
	bus    *kafkabus.Bus
}

// topic has one partition.
const topic = "power"

func newKafka(ctx context.Context, c *campaign) (*kafkaEvents, error) {
	more := map[string]string{}
	if name, value, ok := strings.Cut(c.Setting, "="); ok {
		more[name] = value
	}
	server, err := local.Kafka(ctx, c.KafkaJars, local.KafkaOptions{Data: filepath.Join(c.disk.Path(), "data"), Settings: more})
	if err != nil {
		return nil, err
	}
	server.Patience = startPatience
	s := &kafkaEvents{items: items{campaign: c, server: server.Process, stop: make(chan struct{})}}
	if s.config, err = kafkabus.ParseURL(server.URL()); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	s.config.Topics, s.config.Partitions, s.config.Replay = []string{topic}, 1, 24*time.Hour
	s.give = func(ctx context.Context, id string) error {
		return s.bus.Publish(ctx, event.Event{ID: id, Topic: topic, Type: "given", Key: id, Time: time.Now().UTC().Truncate(time.Microsecond), Data: []byte("{}")})
	}
	return s, nil
}

func (s *kafkaEvents) begin(ctx context.Context) (err error) {
	if err := start(ctx, s.server); err != nil {
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
