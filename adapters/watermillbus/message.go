package watermillbus

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// Names of metadata (CloudEvents 1.0, Kafka protocol binding section 3.2, partitioning extension).
const (
	MetaSpecVersion = "ce_specversion"
	MetaID          = "ce_id"
	MetaSource      = "ce_source"
	MetaType        = "ce_type"
	MetaTime        = "ce_time"
	MetaKey         = "ce_partitionkey"
	MetaContentType = "content-type"

	// MetaReason says, on a dead message, why it can never be handled.
	MetaReason = "dead_reason"
)

const (
	specVersion = "1.0"
	contentType = "application/json"

	defaultSource = "parley"
)

// What this package refuses.
var (
	// ErrEventInvalid says that an event lacks an ID, a topic or a type, and cannot travel.
	ErrEventInvalid = event.ErrInvalid
	// ErrMessageMalformed says that a message is not an event.
	ErrMessageMalformed = fault.New(fault.Invalid, "message_malformed", "the message is not an event")
)

// Encode returns e as a message. source says who publishes it (ce_source); empty means "parley".
func Encode(e event.Event, source string) (*message.Message, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	if source == "" {
		source = defaultSource
	}
	m := message.NewMessage(e.ID, bytes.Clone(e.Data))
	m.Metadata = message.Metadata{
		MetaSpecVersion: specVersion,
		MetaID:          e.ID,
		MetaSource:      source,
		MetaType:        e.Type,
		MetaContentType: contentType,
	}
	if !e.Time.IsZero() {
		m.Metadata[MetaTime] = e.Time.UTC().Format(time.RFC3339Nano)
	}
	if e.Key != "" {
		m.Metadata[MetaKey] = e.Key
	}
	return m, nil
}

// Decode returns the event that m carries on topic, or ErrMessageMalformed with everything that
// is wrong. Attributes that it does not know are ignored.
func Decode(topic string, m *message.Message) (event.Event, error) {
	var errs []error
	if v := m.Metadata.Get(MetaSpecVersion); v != specVersion {
		errs = append(errs, fmt.Errorf("%s is %.40q, want %q", MetaSpecVersion, v, specVersion))
	}
	for _, name := range []string{MetaID, MetaSource, MetaType} {
		if m.Metadata.Get(name) == "" {
			errs = append(errs, errors.New(name+" is missing"))
		}
	}
	if v := m.Metadata.Get(MetaContentType); v != "" {
		if kind, _, err := mime.ParseMediaType(v); err != nil || kind != contentType {
			errs = append(errs, fmt.Errorf("%s is %.40q, want %q", MetaContentType, v, contentType))
		}
	}
	var at time.Time
	if v := m.Metadata.Get(MetaTime); v != "" {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is %.40q, want a time of RFC 3339", MetaTime, v))
		}
		at = t.UTC()
	}
	if err := errors.Join(errs...); err != nil {
		return event.Event{}, ErrMessageMalformed.Because(err)
	}
	return event.Event{
		ID:    m.Metadata.Get(MetaID),
		Topic: topic,
		Type:  m.Metadata.Get(MetaType),
		Key:   m.Metadata.Get(MetaKey),
		Time:  at,
		Data:  bytes.Clone(m.Payload),
	}, nil
}

// maxReason bounds the reason on a dead message, in bytes.
const maxReason = 1024

// reason is why a message is dead, as its metadata says it.
func reason(err error) string {
	s := err.Error()
	if len(s) > maxReason {
		s = s[:maxReason]
	}
	return strings.ToValidUTF8(s, "")
}
