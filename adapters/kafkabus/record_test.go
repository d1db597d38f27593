package kafkabus

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
)

func TestRecordIsCloudEvent(t *testing.T) {
	t.Parallel()
	e := event.Event{
		ID: "01J", Topic: "mail", Type: "user.created", Key: "u1",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC), Data: []byte(`{"userId":"u1"}`),
	}
	m, err := watermillbus.Encode(e, "")
	require.NoError(t, err)
	r, err := marshaler{"chat."}.Marshal(e.Topic, m)
	require.NoError(t, err)
	require.Equal(t, "chat.mail", r.Topic)
	require.Equal(t, sarama.StringEncoder("u1"), r.Key)
	require.Equal(t, sarama.ByteEncoder(e.Data), r.Value)
	header := func(k, v string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(k), Value: []byte(v)}
	}
	require.Equal(t, []sarama.RecordHeader{
		header("ce_id", "01J"), header("ce_partitionkey", "u1"), header("ce_source", "parley"), header("ce_specversion", "1.0"),
		header("ce_time", "2026-01-02T03:04:05.678901Z"), header("ce_type", "user.created"), header("content-type", "application/json"),
	}, r.Headers)

	back, err := watermillbus.Decode("mail", unmarshal(consumed(r)))
	require.NoError(t, err)
	require.Equal(t, e, back)
}

func TestRecordOfAnotherProducer(t *testing.T) {
	t.Parallel()
	r := &sarama.ConsumerMessage{Key: []byte("u2"), Value: []byte(`{}`)}
	for _, h := range [][2]string{{"ce_specversion", "0.3"}, {"ce_id", "1"}, {"ce_source", "them"}, {"ce_type", "t"}, {"ce_specversion", "1.0"}} {
		r.Headers = append(r.Headers, &sarama.RecordHeader{Key: []byte(h[0]), Value: []byte(h[1])})
	}
	e, err := watermillbus.Decode("mail", unmarshal(r))
	require.NoError(t, err, "of headers with one name the last counts")
	require.Equal(t, event.Event{ID: "1", Topic: "mail", Type: "t", Key: "u2", Data: []byte(`{}`)}, e, "the record's key is the event's")

	_, err = watermillbus.Decode("mail", unmarshal(&sarama.ConsumerMessage{}))
	require.ErrorIs(t, err, watermillbus.ErrMessageMalformed)
}

func TestRecordWithoutKeyHasAPartition(t *testing.T) {
	t.Parallel()
	r, err := marshaler{}.Marshal("mail", message.NewMessage("1", nil))
	require.NoError(t, err)
	require.NotNil(t, r.Key)
	partitioner := sarama.NewHashPartitioner("mail")
	first, err := partitioner.Partition(r, 50)
	require.NoError(t, err)
	for range 20 {
		again, err := partitioner.Partition(r, 50)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
}

func consumed(r *sarama.ProducerMessage) *sarama.ConsumerMessage {
	key, _ := r.Key.Encode()
	value, _ := r.Value.Encode()
	c := &sarama.ConsumerMessage{Key: key, Value: value}
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, &h)
	}
	return c
}
