package kafkabus_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit/faultproxy"
	"github.com/parley-chat/parley/testkit/servers"
)

// config is for topics and groups of the test's own on the cluster at url.
func config(t *testing.T, url string) kafkabus.Config {
	t.Helper()
	cfg, err := kafkabus.ParseURL(url)
	require.NoError(t, err)
	cfg.Prefix = "test-" + strings.ToLower(rand.Text()[:12]) + "."
	cfg.Topics, cfg.Partitions, cfg.Replication = []string{"mail", "session"}, 3, 1
	cfg.Timeout = patience
	return cfg
}

func open(t *testing.T, cfg kafkabus.Config) *kafkabus.Bus {
	t.Helper()
	b, err := kafkabus.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// patience bounds what waits for a broker, which moves partitions in its own time: a member that it
// has lost sight of costs a session and the time in which a group gathers.
const patience = 2 * time.Minute

func TestEventBusOnABroker(t *testing.T) {
	contract.On(t, "kafkabus", "Apache Kafka")
	url := servers.Kafka(t)
	for name, edit := range map[string]func(*kafkabus.Config){
		"plain":          func(*kafkabus.Config) {},
		"static members": func(c *kafkabus.Config) { c.Node = "node-1"; c.Mechanism = kafkabus.ScramSHA256 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for the broker more than they work
			contract.RunWithin(t, patience, contract.EventBus(), func(t *testing.T) contract.Bus {
				cfg := config(t, url)
				edit(&cfg)
				b := open(t, cfg)
				return contract.Bus{Publisher: b, Subscriber: b}
			})
		})
	}
}

// TestReplayOnABroker: without a group a subscription gets what was published in the time that it
// replays, from every partition, and nothing older.
func TestReplayOnABroker(t *testing.T) {
	cfg := config(t, servers.Kafka(t))
	if cfg.Mechanism != "" && cfg.Mechanism != kafkabus.Plain {
		t.Skip("the test's own producer speaks PLAIN only")
	}
	cfg.Replay = time.Hour
	b := open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	producer := sarama.NewConfig()
	producer.Net.SASL.Enable, producer.Net.SASL.User, producer.Net.SASL.Password = cfg.User != "", cfg.User, cfg.Password
	producer.Net.TLS.Enable, producer.Net.TLS.Config = cfg.TLS != nil, cfg.TLS
	producer.Producer.Return.Successes = true
	producer.Producer.Retry.Max = 50 // a partition that was just made may have no leader for a moment
	client, err := sarama.NewSyncProducer(cfg.Brokers, producer)
	require.NoError(t, err)
	for key := range 8 { // some in each partition
		m, err := watermillbus.Encode(numbered(key, 0), "")
		require.NoError(t, err)
		record := &sarama.ProducerMessage{
			Topic: cfg.Prefix + "mail", Key: sarama.StringEncoder(m.Metadata.Get(watermillbus.MetaKey)),
			Value: sarama.ByteEncoder(m.Payload), Timestamp: time.Now().Add(-2 * time.Hour),
		}
		for name, value := range m.Metadata {
			record.Headers = append(record.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
		}
		_, _, err = client.SendMessage(record)
		require.NoError(t, err)
	}
	require.NoError(t, client.Close())
	var young []event.Event
	for key := range 8 {
		young = append(young, numbered(key, 1))
	}
	require.NoError(t, b.Publish(ctx, young...))

	replayed := newLog()
	stop := subscribe(t, ctx, b, "", replayed.handle)
	for _, e := range young {
		replayed.last(t, ctx, e)
	}
	require.NoError(t, b.Publish(ctx, numbered(0, 2)))
	replayed.last(t, ctx, numbered(0, 2))
	stop()
	require.Len(t, replayed.ids, 9, "none of the old ones: %v", replayed.ids)

	all := newLog()
	stop = subscribe(t, ctx, b, "group", all.handle)
	for key := range 8 {
		all.last(t, ctx, numbered(key, 0))
	}
	stop()
}

// TestBrokerIsKilledUnderLoad publishes from several goroutines, each event again until the bus
// has taken it over, while the broker is killed and comes back.
func TestBrokerIsKilledUnderLoad(t *testing.T) {
	broker := servers.StartKafka(t, servers.KafkaOptions{})
	cfg := config(t, broker.URL())
	cfg.Node = "node-1"
	b := open(t, cfg)

	const kills, keys = 2, 4
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience) // it starts brokers
	defer cancel()
	seen := newLog()
	stopGroup := subscribe(t, ctx, b, "group", seen.handle)
	every := newLog()
	stopEvery := subscribe(t, ctx, b, "", every.handle)

	var publishing sync.WaitGroup
	enough := make(chan struct{})
	taken := make([]int, keys)
	for k := range keys {
		publishing.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				select {
				case <-enough:
					return
				default:
				}
				for b.Publish(ctx, numbered(k, n)) != nil && ctx.Err() == nil {
				}
				taken[k] = n + 1
			}
		})
	}
	for range kills {
		seen.more(t, ctx, 500)
		broker.Kill(t)
		broker.Restart(t)
		up := time.Now()
		seen.more(t, ctx, 1)
		t.Logf("a new event was handled %v after the broker was up", time.Since(up).Round(10*time.Millisecond))
	}
	close(enough)
	publishing.Wait()
	require.NoError(t, ctx.Err())
	for name, l := range map[string]*log{"group": seen, "no group": every} {
		for k, n := range taken {
			l.last(t, ctx, numbered(k, n-1))
		}
		l.requireInOrder(t, name, taken)
	}
	stopGroup()
	stopEvery()
	total := 0
	for _, n := range taken {
		total += n
	}
	t.Logf("%d acknowledged; the group handled %d, the other %d", total, len(seen.ids), len(every.ids))
}

// TestBrokerIsFrozen: Publish and Ping end with their contexts, and everything goes on afterwards.
func TestBrokerIsFrozen(t *testing.T) {
	broker := servers.StartKafka(t, servers.KafkaOptions{})
	b := open(t, config(t, broker.URL()))
	seen := newLog()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	stop := subscribe(t, ctx, b, "group", seen.handle)
	require.NoError(t, b.Publish(ctx, numbered(0, 0)))
	require.NoError(t, b.Ping(ctx))
	seen.last(t, ctx, numbered(0, 0))

	broker.Freeze(t)
	for range 3 {
		short, end := context.WithTimeout(ctx, 300*time.Millisecond)
		err := b.Publish(short, numbered(0, 1))
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, b.Ping(short), fault.Unavailable)
		end()
	}
	broker.Thaw(t)
	for b.Publish(ctx, numbered(0, 2)) != nil && ctx.Err() == nil {
	}
	seen.last(t, ctx, numbered(0, 2))
	require.NoError(t, b.Ping(ctx))
	stop()

	broker.Freeze(t)
	_, err := kafkabus.Open(ctx, func() kafkabus.Config { c := config(t, broker.URL()); c.Timeout = time.Second; return c }())
	require.ErrorIs(t, err, fault.Unavailable)
	broker.Thaw(t)
}

// TestPartitionsAreAddedOnABroker under subscriptions: each reads the new ones within seconds, from their beginning.
func TestPartitionsAreAddedOnABroker(t *testing.T) {
	for name, node := range map[string]string{"plain": "", "static members": "node-1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, servers.Kafka(t))
			if cfg.Mechanism != "" && cfg.Mechanism != kafkabus.Plain {
				t.Skip("the test's own client speaks PLAIN only")
			}
			cfg.Partitions, cfg.Node = 6, node
			b := open(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			grouped, second, every := newLog(), newLog(), newLog()
			defer subscribe(t, ctx, b, "group", grouped.handle)()
			defer subscribe(t, ctx, b, "other", second.handle)()
			defer subscribe(t, ctx, b, "", every.handle)()
			require.NoError(t, b.Publish(ctx, numbered(0, 0)))
			for _, l := range []*log{grouped, second, every} {
				l.last(t, ctx, numbered(0, 0))
			}

			own := sarama.NewConfig()
			own.Net.SASL.Enable, own.Net.SASL.User, own.Net.SASL.Password = cfg.User != "", cfg.User, cfg.Password
			own.Net.TLS.Enable, own.Net.TLS.Config = cfg.TLS != nil, cfg.TLS
			own.Producer.Return.Successes = true
			own.Producer.Retry.Max = 50 // a partition that was just added may have no leader for a moment
			client, err := sarama.NewClient(cfg.Brokers, own)
			require.NoError(t, err)
			admin, err := sarama.NewClusterAdminFromClient(client)
			require.NoError(t, err)
			require.NoError(t, admin.CreatePartitions(cfg.Prefix+"mail", 12, nil, false))
			added := time.Now()
			for {
				require.NoError(t, client.RefreshMetadata(cfg.Prefix+"mail"))
				partitions, err := client.WritablePartitions(cfg.Prefix + "mail")
				require.NoError(t, err)
				if len(partitions) == 12 {
					break
				}
			}
			// Of 100 keys some are on each partition, and the producer knows all twelve.
			producer, err := sarama.NewSyncProducerFromClient(client)
			require.NoError(t, err)
			partitions := map[int32]bool{}
			for key := range 100 {
				e := numbered(key, 1)
				m, err := watermillbus.Encode(e, "")
				require.NoError(t, err)
				r := &sarama.ProducerMessage{Topic: cfg.Prefix + "mail", Key: sarama.StringEncoder(e.Key), Value: sarama.ByteEncoder(m.Payload)}
				for name, value := range m.Metadata {
					r.Headers = append(r.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
				}
				p, _, err := producer.SendMessage(r)
				require.NoError(t, err)
				partitions[p] = true
			}
			require.Len(t, partitions, 12)
			for name, l := range map[string]*log{"a group": grouped, "another group": second, "no group": every} {
				for key := range 100 {
					l.last(t, ctx, numbered(key, 1))
				}
				t.Logf("%s had read all twelve %v after they were added", name, time.Since(added).Round(10*time.Millisecond))
			}
			require.NoError(t, producer.Close())
			require.NoError(t, admin.Close())
		})
	}
}

// TestTopicIsMadeAgainOnABroker under subscriptions, with as many partitions, fewer and more: each reads the new one within
// seconds from its beginning, as does a group that was away, and what Publish takes meanwhile arrives.
func TestTopicIsMadeAgainOnABroker(t *testing.T) {
	for name, c := range map[string]struct {
		from, to int // partitions
		node     string
		rounds   int // of events in the new topic; the old one has 3
	}{
		"plain":                      {6, 6, "", 6},
		"static members, fewer":      {6, 2, "node-1", 6},
		"more":                       {2, 6, "", 6},
		"less than there was before": {3, 3, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, servers.Kafka(t))
			if cfg.Mechanism != "" && cfg.Mechanism != kafkabus.Plain {
				t.Skip("the test's own client speaks PLAIN only")
			}
			cfg.Partitions, cfg.Node = c.from, c.node
			topic := cfg.Prefix + "mail"
			b := open(t, cfg)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			const keys = 20
			made := func(from, rounds int) []event.Event {
				var events []event.Event
				for n := from; n < from+rounds; n++ {
					for key := range keys {
						events = append(events, numbered(key, n))
					}
				}
				return events
			}
			grouped, second, every, away := newLog(), newLog(), newLog(), newLog()
			who := map[string]*log{"a group": grouped, "two members of a group": second, "no group": every}
			all := func(events []event.Event) {
				for _, l := range who {
					for _, e := range events {
						l.last(t, ctx, e)
					}
				}
			}
			defer subscribe(t, ctx, b, "group", grouped.handle)()
			defer subscribe(t, ctx, b, "other", second.handle)()
			defer subscribe(t, ctx, b, "other", second.handle)()
			defer subscribe(t, ctx, b, "", every.handle)()
			require.NoError(t, b.Publish(ctx, made(0, 3)...))
			all(made(0, 3))
			stop := subscribe(t, ctx, b, "away", away.handle)
			for _, e := range made(0, 3) {
				away.last(t, ctx, e)
			}
			stop()

			own := sarama.NewConfig()
			own.Net.SASL.Enable, own.Net.SASL.User, own.Net.SASL.Password = cfg.User != "", cfg.User, cfg.Password
			own.Net.TLS.Enable, own.Net.TLS.Config = cfg.TLS != nil, cfg.TLS
			own.Producer.Return.Successes = true
			own.Producer.Retry.Max = 50 // a partition that was just made may have no leader for a moment
			client, err := sarama.NewClient(cfg.Brokers, own)
			require.NoError(t, err)
			admin, err := sarama.NewClusterAdminFromClient(client)
			require.NoError(t, err)
			require.NoError(t, admin.DeleteTopic(topic))
			for admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(c.to), ReplicationFactor: 1}, false) != nil { // it is still being deleted
				require.NoError(t, ctx.Err())
			}
			back := time.Now()
			// The controller has made it; a broker that has not heard of that yet writes to the one of before, and deletes it.
			for p := int32(0); p < int32(c.to); {
				require.NoError(t, ctx.Err())
				if client.RefreshMetadata(topic) != nil {
					continue
				}
				if next, err := client.GetOffset(topic, p, sarama.OffsetNewest); err == nil && next == 0 {
					p++
				}
			}
			// By a producer that finds it at once: what it writes is there before anybody looks.
			producer, err := sarama.NewSyncProducer(cfg.Brokers, own)
			require.NoError(t, err)
			for _, e := range made(3, c.rounds) {
				m, err := watermillbus.Encode(e, "")
				require.NoError(t, err)
				r := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(e.Key), Value: sarama.ByteEncoder(m.Payload)}
				for name, value := range m.Metadata {
					r.Headers = append(r.Headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(value)})
				}
				for {
					if _, _, err = producer.SendMessage(r); err == nil {
						break
					}
					require.NoError(t, ctx.Err(), "%v", err)
				}
			}
			require.NoError(t, producer.Close())
			for name, l := range who {
				for _, e := range made(3, c.rounds) {
					l.last(t, ctx, e)
				}
				t.Logf("%s had read all of it %v after it was made", name, time.Since(back).Round(10*time.Millisecond))
			}
			last := made(3+c.rounds, 1)
			for b.Publish(ctx, last...) != nil { // nobody minds that some come twice
				require.NoError(t, ctx.Err())
			}
			all(last)
			stop = subscribe(t, ctx, b, "away", away.handle)
			for _, e := range made(3, c.rounds+1) {
				away.last(t, ctx, e)
			}
			stop()
			require.NoError(t, admin.Close())
			// Whoever begins only now has it all too, and none of what was in the one of before.
			late := newLog()
			stop = subscribe(t, ctx, b, "late", late.handle)
			for _, e := range made(3, c.rounds+1) {
				late.last(t, ctx, e)
			}
			stop()
			require.NotContains(t, late.ids, numbered(0, 0).ID)
		})
	}
}

func TestBrokerRefuses(t *testing.T) {
	good := config(t, servers.Kafka(t))
	for name, tc := range map[string]struct {
		edit func(*kafkabus.Config)
		kind fault.Kind
		says string
	}{
		"wrong password": {func(c *kafkabus.Config) { c.Password = "wr0ng-secret" }, fault.Unauthenticated, "refuses the user or the password"},
		"wrong password by SCRAM": {func(c *kafkabus.Config) {
			c.Password, c.Mechanism = "wr0ng-secret", kafkabus.ScramSHA512
		}, fault.Unauthenticated, "refuses the user or the password"},
		"no user":              {func(c *kafkabus.Config) { c.User, c.Password, c.Mechanism = "", "", "" }, fault.Unavailable, "wants TLS, a user"},
		"more replicas":        {func(c *kafkabus.Config) { c.Replication, c.Prefix = 100, c.Prefix+"more." }, fault.Invalid, "fewer brokers than the replication"},
		"one of two is down":   {func(c *kafkabus.Config) { c.Brokers = append([]string{"127.0.0.1:1"}, c.Brokers...) }, 0, ""},
		"a topic with no name": {func(c *kafkabus.Config) { c.Topics = []string{"ma/il"} }, 0, "Topics has"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tc.edit(&cfg)
			b, err := kafkabus.Open(t.Context(), cfg)
			if tc.says == "" {
				require.NoError(t, err)
				require.NoError(t, b.Close())
				return
			}
			require.ErrorContains(t, err, tc.says)
			require.Equal(t, tc.kind, fault.KindOf(err))
			require.NotContains(t, err.Error(), "wr0ng-secret")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// TestOpenIsRefused: whatever is wrong at the start is one line, of the right kind, soon.
func TestOpenIsRefused(t *testing.T) {
	var proxy *faultproxy.Proxy
	broker := servers.StartKafka(t, servers.KafkaOptions{TLS: true, Advertise: func(listen string) string {
		proxy = faultproxy.Start(t, listen)
		return proxy.Addr()
	}})
	good := config(t, broker.URL())
	b := open(t, good)
	require.NoError(t, b.Publish(t.Context(), numbered(0, 0)))
	secure := good
	secure.Brokers, secure.TLS = []string{broker.TLSAddress}, &tls.Config{RootCAs: broker.Roots, MinVersion: tls.VersionTLS12}
	for _, m := range []kafkabus.Mechanism{kafkabus.Plain, kafkabus.ScramSHA256} {
		secure.Mechanism = m
		require.NoError(t, open(t, secure).Publish(t.Context(), numbered(0, 1)))
	}
	limited := config(t, broker.LimitedURL())
	limited.Prefix = good.Prefix
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })

	refused := func(t *testing.T, cfg kafkabus.Config, kind fault.Kind, says string) {
		t.Helper()
		started := time.Now()
		_, err := kafkabus.Open(t.Context(), cfg)
		t.Logf("after %v: %v", time.Since(started).Round(time.Millisecond), err)
		require.ErrorContains(t, err, says)
		require.Equal(t, kind, fault.KindOf(err))
		require.NotContains(t, err.Error(), "\n")
		require.NotContains(t, err.Error(), broker.Password)
		require.NotContains(t, err.Error(), "wr0ng")
	}
	t.Run("while it is there", func(t *testing.T) {
		for name, tc := range map[string]struct {
			from kafkabus.Config
			edit func(*kafkabus.Config)
			kind fault.Kind
			says string
		}{
			"wrong password":          {good, func(c *kafkabus.Config) { c.Password = "wr0ng" }, fault.Unauthenticated, "refuses the user or the password"},
			"wrong password by SCRAM": {good, func(c *kafkabus.Config) { c.Password, c.Mechanism = "wr0ng", kafkabus.ScramSHA512 }, fault.Unauthenticated, "refuses the user or the password"},
			"wrong password over TLS": {secure, func(c *kafkabus.Config) { c.Password = "wr0ng" }, fault.Unauthenticated, "refuses the user or the password"},
			"unknown user":            {good, func(c *kafkabus.Config) { c.User = "nobody" }, fault.Unauthenticated, "refuses the user or the password"},
			"no user":                 {good, func(c *kafkabus.Config) { c.User, c.Password, c.Mechanism = "", "", "" }, fault.Unavailable, "perhaps it wants TLS, a user"},
			"a topic without rights":  {limited, func(*kafkabus.Config) {}, fault.Forbidden, "no right to the topic"},
			"a new topic":             {limited, func(c *kafkabus.Config) { c.Prefix = "new." }, fault.Forbidden, "no right"},
			"no topic is named":       {limited, func(c *kafkabus.Config) { c.Topics = nil }, fault.Forbidden, "no right"},
			"TLS to a plain port":     {secure, func(c *kafkabus.Config) { c.Brokers = good.Brokers }, fault.Unavailable, "perhaps it does not speak TLS"},
			"plain to a TLS port":     {good, func(c *kafkabus.Config) { c.Brokers = secure.Brokers }, fault.Unavailable, "perhaps it wants TLS"},
			"an unknown certificate":  {secure, func(c *kafkabus.Config) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} }, fault.Unavailable, "certificate is not trusted"},
			"nothing answers": {good, func(c *kafkabus.Config) {
				c.Brokers, c.Timeout = []string{silent.Addr().String()}, 200*time.Millisecond
			}, fault.Unavailable, "does not answer in time"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cfg := tc.from
				tc.edit(&cfg)
				refused(t, cfg, tc.kind, tc.says)
			})
		}
	})
	t.Run("a frozen broker", func(t *testing.T) {
		proxy.Freeze(faultproxy.Both)
		defer proxy.Heal()
		short := good
		short.Timeout = time.Second
		refused(t, short, fault.Unavailable, "does not answer in time")
	})
	t.Run("a broker that is gone", func(t *testing.T) {
		proxy.Refuse()
		defer proxy.Heal()
		refused(t, good, fault.Unavailable, "nothing listens there")
	})
	t.Run("healed", func(t *testing.T) {
		require.NoError(t, open(t, good).Publish(t.Context(), numbered(0, 2)))
	})
}

func numbered(key, n int) event.Event {
	return event.Event{
		ID: fmt.Sprintf("%d-%d", key, n), Topic: "mail", Type: "test.numbered", Key: fmt.Sprintf("key%d", key),
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Data: []byte(`{}`),
	}
}
