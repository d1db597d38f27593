package kafka_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	coreuser "github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/faultproxy"
	"github.com/parley-chat/parley/testkit/servers"
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

func TestTopics(t *testing.T) {
	t.Parallel()
	c, cfg := cluster(t, kfake.SeedTopics(7, "chat.mail"))
	cfg.Prefix, cfg.Retention = "chat.", 36*time.Hour
	b := open(t, cfg)
	open(t, cfg) // once more: they exist
	for topic, partitions := range map[string]int{"chat.mail": 7, "chat.mail.dead": 1, "chat.session": 3, "chat.session.dead": 1} {
		info := c.TopicInfo(topic)
		require.NotNil(t, info, topic)
		require.Len(t, partitionsOf(t, cfg, topic), partitions, topic)
		retention := ""
		if v := info.Configs["retention.ms"]; v != nil {
			retention = *v
		}
		if topic == "chat.mail" {
			require.Empty(t, retention, "a topic that exists is left alone")
		} else {
			require.Equal(t, "129600000", retention, topic)
		}
	}
	ctx := deadline(t)
	elsewhere := happened("1")
	elsewhere.Topic = "unknown"
	require.Equal(t, fault.NotFound, fault.KindOf(b.Publish(ctx, elsewhere)))
	for _, group := range []string{"", "group"} {
		err := b.Subscribe(ctx, "unknown", group, nil, nil)
		require.Equal(t, fault.NotFound, fault.KindOf(err))
		require.ErrorContains(t, err, "chat.unknown")
	}
	require.NoError(t, b.Publish(ctx, happened("1")), "the bus is as good as before")
	invalid := happened("")
	require.ErrorIs(t, b.Publish(ctx, invalid), watermillbus.ErrEventInvalid)
	large := happened("large")
	large.Data = []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
	require.Equal(t, fault.Invalid, fault.KindOf(b.Publish(ctx, large)), "the broker refuses it")
	large.Data = make([]byte, 17<<20)
	require.Equal(t, fault.Invalid, fault.KindOf(b.Publish(ctx, large)), "it is not offered to a broker")
	require.NoError(t, b.Publish(ctx, happened("2")))
}

// TestPartitionsAreAdded under subscriptions: with a group and without one they read the new ones, from their
// beginning, as does one that replays; and the bus writes to them.
func TestPartitionsAreAdded(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*kafkabus.Config){
		"plain":          func(*kafkabus.Config) {},
		"static members": func(c *kafkabus.Config) { c.Node = "node" },
		"replay":         func(c *kafkabus.Config) { c.Replay = time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := cluster(t)
			edit(&cfg)
			cfg.Refresh = 200 * time.Millisecond
			b := open(t, cfg)
			ctx := deadline(t)
			grouped, every := make(chan event.Event, 1000), make(chan event.Event, 1000)
			subscribe(ctx, t, b, "mail", "group", into(grouped))
			subscribe(ctx, t, b, "mail", "", into(every))

			s, brokers := vendor(t, cfg)
			admin, err := sarama.NewClusterAdmin(brokers, s)
			require.NoError(t, err)
			require.NoError(t, admin.CreatePartitions("mail", 6, nil, false))
			// At once, by a producer that sees them first: what it writes is there before anybody looks.
			s.Producer.Partitioner = sarama.NewManualPartitioner
			producer, err := sarama.NewSyncProducer(brokers, s)
			require.NoError(t, err)
			const most = 6
			for p := range int32(most) {
				r := record(t, happened(fmt.Sprint("early-", p)))
				r.Partition = p
				_, _, err = producer.SendMessage(r)
				require.NoError(t, err)
			}
			require.NoError(t, producer.Close())
			for name, from := range map[string]chan event.Event{"with a group": grouped, "without": every} {
				got := map[string]int{}
				for len(got) < most {
					got[receive(ctx, t, from).ID]++
				}
				require.Len(t, got, most, name)
			}
			// The bus finds them too: of enough keys some fall on each.
			client, err := sarama.NewClient(brokers, s)
			require.NoError(t, err)
			for n := 0; ctx.Err() == nil; n++ {
				e := happened(fmt.Sprint("late-", n))
				e.Key = fmt.Sprint("key", n)
				require.NoError(t, b.Publish(ctx, e))
				filled := 0
				for p := range int32(most) {
					next, err := client.GetOffset("mail", p, sarama.OffsetNewest)
					require.NoError(t, err)
					if next > 1 {
						filled++
					}
				}
				if filled == most {
					break
				}
			}
			require.NoError(t, ctx.Err())
			require.NoError(t, client.Close())
			require.NoError(t, admin.Close())
		})
	}
}

// TestTopicIsDeletedAndMadeAgain under subscriptions: they read the new one from its beginning, with more in it than the
// old one had, and with less.
func TestTopicIsDeletedAndMadeAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, to int // partitions
		node     string
		rounds   int  // of events in the new one; the old one has 3
		noticed  bool // somebody finds that it is gone
	}{
		"at once":                    {1, 1, "", 6, false},
		"as many partitions":         {3, 3, "", 6, true},
		"fewer":                      {6, 2, "", 6, false},
		"more":                       {2, 6, "", 6, false},
		"static members":             {3, 3, "node", 6, false},
		"less than there was before": {3, 3, "", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := cluster(t)
			cfg.Refresh, cfg.Partitions, cfg.Node = 200*time.Millisecond, c.from, c.node
			b := open(t, cfg)
			ctx := deadline(t)
			grouped, every := make(chan event.Event, 1000), make(chan event.Event, 1000)
			subscribe(ctx, t, b, "mail", "group", into(grouped))
			subscribe(ctx, t, b, "mail", "", into(every))
			made := func(which string, rounds int) []event.Event {
				var events []event.Event
				for n := range rounds {
					for key := range 12 { // some on each partition
						e := happened(fmt.Sprint(which, "-", key, "-", n))
						e.Key = fmt.Sprint("key", key)
						events = append(events, e)
					}
				}
				return events
			}
			publish := func(which string, rounds int) []event.Event {
				events := made(which, rounds)
				for b.Publish(ctx, events...) != nil { // nobody minds that some come twice
					require.NoError(t, ctx.Err())
				}
				return events
			}
			all := func(events []event.Event) {
				for who, from := range map[string]chan event.Event{"a group": grouped, "no group": every} {
					missing := map[string]bool{}
					for _, e := range events {
						missing[e.ID] = true
					}
					for len(missing) > 0 {
						select {
						case e := <-from:
							delete(missing, e.ID)
						case <-ctx.Done():
							require.FailNow(t, "waited in vain", "%s misses %v", who, missing)
						}
					}
				}
			}
			all(publish("before", 3))
			s, brokers := vendor(t, cfg)
			admin, err := sarama.NewClusterAdmin(brokers, s)
			require.NoError(t, err)
			require.NoError(t, admin.DeleteTopic("mail"))
			if c.noticed {
				require.Equal(t, fault.NotFound, fault.KindOf(b.Publish(ctx, happened("between"))))
			}
			require.NoError(t, admin.CreateTopic("mail", &sarama.TopicDetail{NumPartitions: int32(c.to), ReplicationFactor: 1}, false))
			// By a producer that finds it at once: what it writes is there before anybody looks.
			producer, err := sarama.NewSyncProducer(brokers, s)
			require.NoError(t, err)
			after := made("after", c.rounds)
			var records []*sarama.ProducerMessage
			for _, e := range after {
				records = append(records, record(t, e))
			}
			require.NoError(t, producer.SendMessages(records))
			require.NoError(t, producer.Close())
			require.NoError(t, admin.Close())
			all(after)
			all(publish("later", 1))
		})
	}
}

// TestOffsetsOfATopicThatIsGone say nothing about the one that has its name now, however late they were committed, and
// those of the topic itself count.
func TestOffsetsOfATopicThatIsGone(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"made again": true, "the same topic": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := cluster(t)
			cfg.Partitions = 1
			b := open(t, cfg)
			ctx := deadline(t)
			before := make(chan event.Event, 10)
			stop, ended := subscribe(ctx, t, b, "mail", "group", into(before))
			require.NoError(t, b.Publish(ctx, happened("1"), happened("2"), happened("3")))
			for receive(ctx, t, before).ID != "3" {
			}
			stop()
			require.NoError(t, receive(ctx, t, ended))

			s, brokers := vendor(t, cfg)
			client, err := sarama.NewClient(brokers, s)
			require.NoError(t, err)
			admin, err := sarama.NewClusterAdminFromClient(client)
			require.NoError(t, err)
			offsets, err := admin.ListConsumerGroupOffsets("group", map[string][]int32{"mail": {0}})
			require.NoError(t, err)
			at := offsets.GetBlock("mail", 0)
			require.EqualValues(t, 3, at.Offset)
			if again {
				require.NoError(t, admin.DeleteTopic("mail"))
				require.NoError(t, admin.CreateTopic("mail", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
				for b.Publish(ctx, happened("4"), happened("5"), happened("6"), happened("7")) != nil {
					require.NoError(t, ctx.Err())
				}
			} else {
				require.NoError(t, b.Publish(ctx, happened("7")))
			}
			// As a member does that was slow to notice.
			coordinator, err := client.Coordinator("group")
			require.NoError(t, err)
			late := &sarama.OffsetCommitRequest{Version: 2, ConsumerGroup: "group", ConsumerGroupGeneration: -1, RetentionTime: -1}
			late.AddBlock("mail", 0, at.Offset, 0, at.Metadata)
			answer, err := coordinator.CommitOffset(late)
			require.NoError(t, err)
			require.Equal(t, sarama.ErrNoError, answer.Errors["mail"][0])
			require.NoError(t, admin.Close())

			after := make(chan event.Event, 10)
			subscribe(ctx, t, b, "mail", "group", into(after))
			if again {
				for _, id := range []string{"4", "5", "6"} {
					require.Equal(t, id, receive(ctx, t, after).ID)
				}
			}
			require.Equal(t, "7", receive(ctx, t, after).ID)
		})
	}
}

// onBrokers runs test on kfake, and on a real broker where there is one.
func onBrokers(t *testing.T, test func(t *testing.T, cfg kafkabus.Config)) {
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		_, cfg := cluster(t)
		test(t, cfg)
	})
	t.Run("Apache Kafka", func(t *testing.T) {
		t.Parallel()
		cfg, err := kafkabus.ParseURL(servers.Kafka(t))
		require.NoError(t, err)
		if cfg.Mechanism != kafkabus.Plain || cfg.TLS != nil {
			t.Skip("the test's own client speaks PLAIN only")
		}
		cfg.Prefix = "test-" + strings.ToLower(rand.Text()[:12]) + "."
		cfg.Topics, cfg.Partitions, cfg.Replication = []string{"mail", "session"}, 3, 1
		test(t, cfg)
	})
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
			require.Equal(t, 1, strings.Count(log.String(), "event="+a.Event.ID+" type=user.created topic=mail "), "logged once")
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

func partitionsOf(t *testing.T, cfg kafkabus.Config, topic string) []int32 {
	t.Helper()
	s, brokers := vendor(t, cfg)
	client, err := sarama.NewClient(brokers, s)
	require.NoError(t, err)
	partitions, err := client.Partitions(topic)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	return partitions
}

// TestRights: what a user may not do is said at once, and by name.
func TestRights(t *testing.T) {
	t.Parallel()
	may := func(what kmsg.ACLResourceType, name string, do kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: what, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: do, Allow: true}
	}
	const topic, group = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	_, cfg := cluster(t, kfake.EnableACLs(), kfake.SeedTopics(1, "mail", "mail.dead"),
		kfake.User("PLAIN", "none", "pw"),
		kfake.User("PLAIN", "looker", "pw", may(topic, "mail", kmsg.ACLOperationDescribe), may(topic, "mail.dead", kmsg.ACLOperationDescribe),
			may(kmsg.ACLResourceTypeCluster, "kafka-cluster", kmsg.ACLOperationIdempotentWrite), may(group, "group", kmsg.ACLOperationRead)),
	)
	cfg.Topics, cfg.Password = []string{"mail"}, "pw"
	ctx := deadline(t)

	cfg.User = "none"
	_, err := kafkabus.Open(ctx, cfg)
	require.Equal(t, fault.Forbidden, fault.KindOf(err))
	require.ErrorContains(t, err, "no right")

	cfg.User = "looker"
	b := open(t, cfg)
	require.Equal(t, fault.Forbidden, fault.KindOf(b.Publish(ctx, happened("1"))))
	for _, group := range []string{"", "group", "other"} {
		err := b.Subscribe(ctx, "mail", group, nil, nil)
		require.Equal(t, fault.Forbidden, fault.KindOf(err), "group %q: %v", group, err)
	}
	require.NoError(t, b.Ping(ctx))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	_, good := cluster(t, kfake.TLS(&tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}))
	_, plain := cluster(t)
	good.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	for _, m := range []kafkabus.Mechanism{kafkabus.Plain, kafkabus.ScramSHA512} {
		good.Mechanism = m
		b := open(t, good)
		require.NoError(t, b.Publish(deadline(t), happened("1")))
		require.NoError(t, b.Ping(deadline(t)))
	}
	for name, tc := range map[string]struct {
		edit func(*kafkabus.Config)
		says string
	}{
		"the broker wants TLS":       {func(c *kafkabus.Config) { c.TLS = nil }, "perhaps it wants TLS"},
		"the broker does not":        {func(c *kafkabus.Config) { c.Brokers = plain.Brokers }, "perhaps it does not speak TLS"},
		"an unknown certificate":     {func(c *kafkabus.Config) { c.TLS = &tls.Config{} }, "certificate is not trusted"},
		"a certificate of elsewhere": {func(c *kafkabus.Config) { c.TLS = &tls.Config{RootCAs: trusted, ServerName: "elsewhere"} }, "certificate is not trusted"},
		"a wrong password":           {func(c *kafkabus.Config) { c.Password = "wr0ng" }, "password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tc.edit(&cfg)
			_, err := kafkabus.Open(t.Context(), cfg)
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "wr0ng")
		})
	}
}

// TestBrokerComesBack restarts the broker, on its address and with its files, under two
// subscriptions; neither misses an event or ends.
func TestBrokerComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := []kfake.Opt{kfake.DataDir(dir), kfake.SyncWrites()}
	c, cfg := cluster(t, opts...)
	b := open(t, cfg)
	ctx := deadline(t)
	grouped, every := make(chan event.Event), make(chan event.Event)
	stop, ended := subscribe(ctx, t, b, "mail", "group", into(grouped))
	_, _ = subscribe(ctx, t, b, "mail", "", into(every))
	require.NoError(t, b.Publish(ctx, happened("1")))
	require.Equal(t, "1", receive(ctx, t, grouped).ID)
	require.Equal(t, "1", receive(ctx, t, every).ID)

	address, err := net.ResolveTCPAddr("tcp", c.ListenAddrs()[0])
	require.NoError(t, err)
	c.Close()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	require.ErrorIs(t, b.Publish(short, happened("lost or not")), fault.Unavailable)
	require.ErrorIs(t, b.Ping(short), fault.Unavailable)
	cluster(t, append(opts, kfake.Ports(address.Port))...)

	for b.Publish(ctx, happened("2")) != nil && ctx.Err() == nil {
	}
	for _, from := range []chan event.Event{grouped, every} {
		for receive(ctx, t, from).ID != "2" {
		}
	}
	stop()
	for {
		select {
		case <-grouped: // again
			continue
		case err := <-ended:
			require.NoError(t, err)
		}
		break
	}
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

// TestOpenThroughAProxy: what goes wrong on the way is one line, soon, and never shows the password.
func TestOpenThroughAProxy(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	proxy := faultproxy.Start(t, cfg.Brokers[0])
	cfg.Brokers = []string{proxy.Addr()}
	for _, c := range []struct {
		name, says string
		fail       func()
	}{
		{"frozen", "does not answer in time", func() { proxy.Freeze(faultproxy.Both) }},
		{"the answers are lost", "does not answer in time", func() { proxy.Freeze(faultproxy.Down) }},
		{"slow", "does not answer in time", func() { proxy.Limit(faultproxy.Both, 1) }},
		{"gone", "nothing listens there", proxy.Refuse},
	} {
		c.fail()
		short := cfg
		short.Timeout = 500 * time.Millisecond
		_, err := kafkabus.Open(deadline(t), short)
		require.ErrorContains(t, err, c.says, c.name)
		require.ErrorIs(t, err, fault.Unavailable, c.name)
		require.NotContains(t, err.Error(), "\n", c.name)
		require.NotContains(t, err.Error(), password, c.name)
		proxy.Heal()
	}
	// This broker closes the connection where others say that the password is wrong.
	for _, m := range []kafkabus.Mechanism{kafkabus.Plain, kafkabus.ScramSHA256, kafkabus.ScramSHA512} {
		wrong := cfg
		wrong.Password, wrong.Mechanism = "wr0ng", m
		_, err := kafkabus.Open(deadline(t), wrong)
		require.ErrorIs(t, err, fault.Unavailable, m)
		require.ErrorContains(t, err, "another password", m)
		require.NotContains(t, err.Error(), "\n", m)
		require.NotContains(t, err.Error(), "wr0ng", m)
	}
	missing := cfg
	missing.Brokers = []string{"broker.invalid:9092"}
	_, err := kafkabus.Open(deadline(t), missing)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "broker.invalid")
	require.NotContains(t, err.Error(), "\n")
}
