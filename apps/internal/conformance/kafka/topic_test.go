package kafka_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

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
