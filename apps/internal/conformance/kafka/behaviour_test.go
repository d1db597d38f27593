package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	coreuser "github.com/parley-chat/parley/core/user"
)

func happened(id string) event.Event {
	return event.Event{
		ID: id, Topic: "mail", Type: "user.created", Key: "u1",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Data: []byte(`{}`),
	}
}

// deadline bounds what a test waits for.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// subscribe starts a subscription and waits until it is ready. ended gets what it returns.
func subscribe(ctx context.Context, t *testing.T, b *kafkabus.Bus, topic, group string, handle event.Handler) (stop func(), ended <-chan error) {
	t.Helper()
	sub, cancel := context.WithCancel(ctx)
	ready, result, left := make(chan struct{}), make(chan error, 1), make(chan struct{})
	go func() {
		defer close(left)
		result <- b.Subscribe(sub, topic, group, handle, func() { close(ready) })
	}()
	t.Cleanup(func() { cancel(); <-left }) // before the broker goes
	select {
	case <-ready:
	case err := <-result:
		require.FailNow(t, "Subscribe ended", "%v", err)
	case <-ctx.Done():
		require.FailNow(t, "Subscribe is not ready")
	}
	return cancel, result
}

func receive[T any](ctx context.Context, t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-ctx.Done():
		require.FailNow(t, "waited in vain")
		panic("not reached")
	}
}

// into is a handler that sends what it sees.
func into(c chan event.Event) event.Handler {
	return func(ctx context.Context, e event.Event) error {
		select {
		case c <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// vendor is a client of Sarama's own, for what the bus does not do.
func vendor(t *testing.T, cfg kafkabus.Config) (*sarama.Config, []string) {
	t.Helper()
	s := sarama.NewConfig()
	s.Net.SASL.Enable, s.Net.SASL.User, s.Net.SASL.Password = true, cfg.User, cfg.Password
	s.Producer.Return.Successes = true
	return s, cfg.Brokers
}

// record is an event as the bus writes it.
func record(t *testing.T, e event.Event) *sarama.ProducerMessage {
	t.Helper()
	m, err := watermillbus.Encode(e, "")
	require.NoError(t, err)
	r := &sarama.ProducerMessage{Topic: e.Topic, Key: sarama.StringEncoder(e.Key), Value: sarama.ByteEncoder(m.Payload)}
	for name, value := range m.Metadata {
		r.Headers = append(r.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	return r
}

// TestWhatCanNeverBeHandled goes to the dead topic with the reason, and holds up nobody.
func TestWhatCanNeverBeHandled(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	b := open(t, cfg)
	ctx := deadline(t)

	s, brokers := vendor(t, cfg)
	producer, err := sarama.NewSyncProducer(brokers, s)
	require.NoError(t, err)
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{
		Topic: "mail", Key: sarama.StringEncoder("u1"), Value: sarama.StringEncoder("nonsense"),
		Headers: []sarama.RecordHeader{{Key: []byte("x-own"), Value: []byte("kept")}},
	})
	require.NoError(t, err)
	require.NoError(t, producer.Close())
	require.NoError(t, b.Publish(ctx, happened("never"), happened("good")))

	never := fault.New(fault.Invalid, "never", "it has no address")
	handled := make(chan event.Event)
	subscribe(ctx, t, b, "mail", "group", func(ctx context.Context, e event.Event) error {
		if e.ID == "never" {
			return never
		}
		return into(handled)(ctx, e)
	})
	require.Equal(t, happened("good"), receive(ctx, t, handled))

	consumer, err := sarama.NewConsumer(brokers, s)
	require.NoError(t, err)
	dead, err := consumer.ConsumePartition("mail.dead", 0, sarama.OffsetOldest)
	require.NoError(t, err)
	for _, want := range []struct{ value, key, name, header, reason string }{
		{"nonsense", "u1", "x-own", "kept", "not an event"},
		{"{}", "u1", "ce_id", "never", "it has no address"},
	} {
		r := receive(ctx, t, dead.Messages())
		require.Equal(t, want.value, string(r.Value))
		require.Equal(t, want.key, string(r.Key))
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[string(h.Key)] = string(h.Value)
		}
		require.Equal(t, want.header, headers[want.name])
		require.Contains(t, headers["dead_reason"], want.reason)
	}
	require.NoError(t, dead.Close())
	require.NoError(t, consumer.Close())
}

// TestWhatIsTooLargeForTheDeadTopic, because the reason comes to it, goes there without its data, and holds
// up nobody either.
func TestWhatIsTooLargeForTheDeadTopic(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	b := open(t, cfg)
	ctx := deadline(t)
	s, brokers := vendor(t, cfg)
	s.Producer.MaxMessageBytes = 2 << 20
	producer, err := sarama.NewSyncProducer(brokers, s)
	require.NoError(t, err)
	const most = 1048588 // bytes that a broker takes by default
	_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: "mail", Key: sarama.StringEncoder("u1"), Value: sarama.ByteEncoder(make([]byte, most-100))})
	require.NoError(t, err)
	require.NoError(t, producer.Close())
	require.NoError(t, b.Publish(ctx, happened("good")))

	handled := make(chan event.Event)
	subscribe(ctx, t, b, "mail", "group", into(handled))
	require.Equal(t, happened("good"), receive(ctx, t, handled))

	consumer, err := sarama.NewConsumer(brokers, s)
	require.NoError(t, err)
	dead, err := consumer.ConsumePartition("mail.dead", 0, sarama.OffsetOldest)
	require.NoError(t, err)
	r := receive(ctx, t, dead.Messages())
	require.Empty(t, r.Value)
	require.Equal(t, "u1", string(r.Key))
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	require.Contains(t, headers["dead_reason"], "not an event")
	require.Equal(t, "true", headers["dead_cut"])
	require.NoError(t, dead.Close())
	require.NoError(t, consumer.Close())
}

// TestFailingHandlerDoesNotHoldUpItsGroup: another member can join while a handler fails and
// fails, the event has one owner at a time, and goes to the other when its owner leaves.
func TestFailingHandlerDoesNotHoldUpItsGroup(t *testing.T) {
	t.Parallel()
	for _, node := range []string{"", "node"} {
		t.Run("node="+node, func(t *testing.T) {
			t.Parallel()
			_, cfg := cluster(t)
			cfg.Partitions, cfg.Node = 1, node
			b := open(t, cfg)
			ctx := deadline(t)
			var inside atomic.Int32
			var overlapped atomic.Bool
			tried := make(chan struct{}, 1)
			failing := func(context.Context, event.Event) error {
				if inside.Add(1) > 1 {
					overlapped.Store(true)
				}
				defer inside.Add(-1)
				select {
				case tried <- struct{}{}:
				default:
				}
				return errors.New("not now")
			}
			stop, ended := subscribe(ctx, t, b, "mail", "group", failing)
			require.NoError(t, b.Publish(ctx, happened("1")))
			receive(ctx, t, tried)
			stop2, ended2 := subscribe(ctx, t, b, "mail", "group", failing)
			receive(ctx, t, tried)
			stop()
			require.NoError(t, receive(ctx, t, ended))
			<-tried // perhaps of the first
			receive(ctx, t, tried)
			stop2()
			require.NoError(t, receive(ctx, t, ended2))
			require.False(t, overlapped.Load(), "two members handled one event at once")

			handled := make(chan event.Event)
			subscribe(ctx, t, b, "mail", "group", into(handled))
			require.Equal(t, happened("1"), receive(ctx, t, handled))
		})
	}
}

// TestGroupStartsAtTheOldest: what was published before a group existed is not lost.
func TestGroupStartsAtTheOldest(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	b := open(t, cfg)
	ctx := deadline(t)
	require.NoError(t, b.Publish(ctx, happened("before")))
	later := make(chan event.Event)
	subscribe(ctx, t, b, "mail", "", into(later))
	handled := make(chan event.Event)
	subscribe(ctx, t, b, "mail", "group", into(handled))
	require.Equal(t, happened("before"), receive(ctx, t, handled))
	require.NoError(t, b.Publish(ctx, happened("after")))
	require.Equal(t, happened("after"), receive(ctx, t, later), "without a group only what comes now")
}

func TestNodeNameIsTakenByAnotherProcess(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	cfg.Node = "node"
	one, two := open(t, cfg), open(t, cfg)
	ctx := deadline(t)
	ignore := func(context.Context, event.Event) error { return nil }
	_, ended := subscribe(ctx, t, one, "mail", "group", ignore)
	subscribe(ctx, t, two, "mail", "group", ignore)
	err := receive(ctx, t, ended)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.ErrorContains(t, err, "same node name")
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	b, err := kafkabus.Open(t.Context(), cfg)
	require.NoError(t, err)
	ctx := deadline(t)
	_, waiting := subscribe(ctx, t, b, "mail", "", func(context.Context, event.Event) error { return nil })
	var once sync.Once
	_, closing := subscribe(ctx, t, b, "mail", "group", func(context.Context, event.Event) error {
		var err error
		once.Do(func() { err = b.Close() }) // from a handler
		return err
	})
	require.NoError(t, b.Publish(ctx, happened("1")))
	require.ErrorIs(t, receive(ctx, t, waiting), watermillbus.ErrClosed)
	require.ErrorIs(t, receive(ctx, t, closing), watermillbus.ErrClosed)
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Publish(ctx, happened("2")), watermillbus.ErrClosed)
	require.ErrorIs(t, b.Ping(ctx), watermillbus.ErrClosed)
	require.ErrorIs(t, b.Subscribe(ctx, "mail", "group", nil, nil), watermillbus.ErrClosed)
}

// TestOutboxGoesPastWhatCannotBePublished: the topic of some events is deleted, and one is larger than its topic takes. The
// others go on, what is too large is set aside with the reason, and what waited arrives in order when its topic is back.
func TestOutboxGoesPastWhatCannotBePublished(t *testing.T) {
	onBrokers(t, func(t *testing.T, cfg kafkabus.Config) {
		b := open(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		s, brokers := vendor(t, cfg)
		admin, err := sarama.NewClusterAdmin(brokers, s)
		require.NoError(t, err)
		defer func() { require.NoError(t, admin.Close()) }()

		store := memory.NewStore()
		var log lockedBuffer
		relay, err := event.NewRelay(event.RelayConfig{Outbox: store.Outbox, Publisher: b, Log: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		commit := func(events ...event.Event) {
			id := events[0].ID
			require.NoError(t, store.Users.Create(ctx, coreuser.User{ID: coreuser.ID(id), FullName: "x", Email: coreuser.Email(id)}, events...))
			relay.Wake()
		}
		about := func(topic, key string, n int) event.Event {
			e := happened(fmt.Sprintf("%s-%s-%d", topic, key, n))
			e.Topic, e.Key = topic, key
			return e
		}
		mails := make(chan event.Event, 10_000)
		subscribe(ctx, t, b, "mail", "group", into(mails))
		running := make(chan error, 1)
		ending, end := context.WithCancel(ctx)
		go func() { running <- relay.Run(ending) }()
		defer func() { end(); require.NoError(t, <-running) }()
		arrives := func(want ...event.Event) {
			t.Helper()
			for _, e := range want {
				for receive(ctx, t, mails).ID != e.ID { // some come twice
				}
			}
		}
		commit(about("session", "a", 0))
		commit(about("mail", "a", 0))
		arrives(about("mail", "a", 0))

		require.NoError(t, admin.DeleteTopic(cfg.Prefix+"session"))
		for n := range 150 { // more than the relay takes at once
			commit(about("session", fmt.Sprint("k", n%7), n))
		}
		began := time.Now()
		commit(about("mail", "a", 1), about("session", "a", 1000))
		commit(about("mail", "b", 2))
		arrives(about("mail", "a", 1), about("mail", "b", 2))
		t.Logf("past 150 events of a topic that is gone, mails arrived after %v", time.Since(began).Round(time.Millisecond))

		// Larger than the broker takes, and larger than is offered to one.
		large, huge := about("mail", "a", 3), about("mail", "a", 4)
		large.Data = []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
		huge.Data = []byte(`"` + strings.Repeat("x", 17<<20) + `"`)
		commit(about("mail", "c", 2), large, huge, about("mail", "a", 5))
		arrives(about("mail", "a", 5))
		for relay.SetAside() != 2 {
			require.NoError(t, ctx.Err())
		}
		asides, err := store.Asides.List(ctx, event.Filter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, asides, 2)
		require.Equal(t, []string{large.ID, huge.ID}, []string{asides[0].Event.ID, asides[1].Event.ID})
		for _, a := range asides {
			require.Contains(t, a.Reason, "the event is")
			require.Contains(t, a.Reason, "large")
			line := "event=" + a.Event.ID + " type=user.created topic=mail "
			for !strings.Contains(log.String(), line) { // it is logged once it is counted
				require.NoError(t, ctx.Err())
			}
			require.Equal(t, 1, strings.Count(log.String(), line), "logged once")
		}

		for { // it is deleted in the broker's own time
			if err := admin.CreateTopic(cfg.Prefix+"session", &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); err == nil {
				break
			}
			require.NoError(t, ctx.Err())
		}
		back := time.Now()
		sessions := make(chan event.Event, 10_000)
		subscribe(ctx, t, b, "session", "new", into(sessions))
		last, seen := map[string]int{}, map[string]bool{}
		for len(seen) < 151 {
			e := receive(ctx, t, sessions)
			if seen[e.ID] || e.ID == "session-a-0" {
				continue
			}
			seen[e.ID] = true
			var n int
			_, err := fmt.Sscanf(e.ID, "session-"+e.Key+"-%d", &n)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, last[e.Key], "out of order")
			last[e.Key] = n
		}
		t.Logf("all that had waited was there %v after the topic was back", time.Since(back).Round(time.Millisecond))
		for { // the relay notes what it has published after subscribers have it
			pending, err := store.Outbox.Pending(ctx, 10)
			require.NoError(t, err)
			if len(pending) == 0 {
				break
			}
			require.NoError(t, ctx.Err(), "%v", pending)
		}
	})
}

// lockedBuffer is a buffer that a log is written to.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestReplay: a subscription without a group gets what was published shortly before, and not what
// is older; one with a group is not concerned.
func TestReplay(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	cfg.Partitions, cfg.Replay = 1, time.Hour
	b := open(t, cfg)
	ctx := deadline(t)
	s, brokers := vendor(t, cfg)
	producer, err := sarama.NewSyncProducer(brokers, s)
	require.NoError(t, err)
	m, err := watermillbus.Encode(happened("old"), "")
	require.NoError(t, err)
	old := &sarama.ProducerMessage{Topic: "mail", Value: sarama.ByteEncoder(m.Payload), Timestamp: time.Now().Add(-2 * time.Hour)}
	for name, value := range m.Metadata {
		old.Headers = append(old.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
	}
	_, _, err = producer.SendMessage(old)
	require.NoError(t, err)
	require.NoError(t, producer.Close())

	quiet := make(chan event.Event, 1)
	stop, ended := subscribe(ctx, t, b, "mail", "", into(quiet))
	require.NoError(t, b.Publish(ctx, happened("first")))
	require.Equal(t, "first", receive(ctx, t, quiet).ID, "there was nothing so young")
	stop()
	require.NoError(t, receive(ctx, t, ended))

	require.NoError(t, b.Publish(ctx, happened("second")))
	every := make(chan event.Event)
	subscribe(ctx, t, b, "mail", "", into(every))
	require.NoError(t, b.Publish(ctx, happened("third")))
	for _, want := range []string{"first", "second", "third"} {
		require.Equal(t, want, receive(ctx, t, every).ID)
	}
	grouped := make(chan event.Event)
	subscribe(ctx, t, b, "mail", "group", into(grouped))
	require.Equal(t, "old", receive(ctx, t, grouped).ID)
}
