package kafkabus

import (
	"maps"
	"slices"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/parley-chat/parley/adapters/watermillbus"
)

// marshaler makes records of messages, as Watermill's publisher wants it.
type marshaler struct{ prefix string }

// Marshal writes metadata as headers, in the order of their names. Watermill's own header for
// the message's identifier is left out: ce_id says it.
func (m marshaler) Marshal(topic string, msg *message.Message) (*sarama.ProducerMessage, error) {
	headers := make([]sarama.RecordHeader, 0, len(msg.Metadata))
	for _, name := range slices.Sorted(maps.Keys(msg.Metadata)) {
		headers = append(headers, sarama.RecordHeader{Key: []byte(name), Value: []byte(msg.Metadata[name])})
	}
	return &sarama.ProducerMessage{
		Topic: m.prefix + topic,
		// Never nil: records without a key would go to any partition.
		Key:     sarama.StringEncoder(msg.Metadata.Get(watermillbus.MetaKey)),
		Value:   sarama.ByteEncoder(msg.Payload),
		Headers: headers,
	}, nil
}

// unmarshal makes a message of a record. Of headers with one name the last counts.
func unmarshal(r *sarama.ConsumerMessage) *message.Message {
	metadata := make(message.Metadata, len(r.Headers)+1)
	if len(r.Key) > 0 {
		metadata[watermillbus.MetaKey] = string(r.Key)
	}
	for _, h := range r.Headers {
		metadata[string(h.Key)] = string(h.Value)
	}
	m := message.NewMessage(metadata.Get(watermillbus.MetaID), r.Value)
	m.Metadata = metadata
	return m
}
