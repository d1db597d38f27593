// Package event carries facts from the part of the system in which they happened to
// the parts that act on them, without losing one.
//
// A fact is stored as an [Event] in the same commit as the change that caused it
// (the outbox). The [Relay] moves it from there to the bus, a [Publisher]; whoever
// acts on it is a [Handler] under a [Subscriber]. Delivery is at least once: an event
// may come twice, with the same ID.
package event

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// Event is one fact. It is a value: copying it is safe as long as Data is not changed.
type Event struct {
	// ID names the event. The same ID is the same event, however often it comes.
	ID string
	// Topic is the stream that the event belongs to, for example "mail".
	Topic string
	// Type says what happened, for example "user.created".
	Type string
	// Key orders: events of one topic with the same key arrive in the order in which
	// they were committed.
	Key string
	// Time is when it happened, in UTC, to the microsecond.
	Time time.Time
	// Data is the payload: a JSON object whose shape Type decides.
	Data []byte
}

// Publisher puts events on the bus.
//
// It may be called from many goroutines.
type Publisher interface {
	// Publish returns nil once the bus has taken over every event, in the order given.
	// A bus within one process may wait for the handlers of a group for that.
	// Publishing nothing is no error.
	//
	// A [*PublishError] says which events were not taken over, and why; the others were.
	// An event that failed holds up those behind it in the call that have its topic and its key, and as few others as can be.
	// An event that can never be published holds up nobody.
	// After any other error any number of the events may have been taken over.
	// The caller then publishes all of them again, and subscribers see some twice.
	//
	// An error of kind Invalid says that an event can never be published, as when it is too large or lacks its ID, topic or type.
	// NotFound, Forbidden and Unauthenticated say that nothing can be published to its topic for now.
	// Publish gives up when ctx is done; the outcome of what it names is then unknown.
	Publish(ctx context.Context, events ...Event) error
}

// ErrInvalid says that an event lacks an ID, a topic or a type, and cannot be published.
var ErrInvalid = fault.New(fault.Invalid, "event_invalid", "the event cannot be published")

// Check returns ErrInvalid if e lacks what every event has, and says what.
func (e Event) Check() error {
	var missing []string
	for _, f := range []struct{ name, value string }{{"ID", e.ID}, {"Topic", e.Topic}, {"Type", e.Type}} {
		if f.value == "" {
			missing = append(missing, f.name)
		}
	}
	if missing == nil {
		return nil
	}
	return ErrInvalid.Because(fmt.Errorf("event %q lacks %s", e.ID, strings.Join(missing, ", ")))
}

// PublishError is the error of a Publish of which a part may have succeeded.
type PublishError struct {
	// Failed says why an event was not taken over, or that nobody knows, by its index in the call. There is at least one.
	Failed map[int]error
}

// Failures returns failed as an error, nil if it is empty.
func Failures(failed map[int]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &PublishError{failed}
}

// Error says how many failed, and why the first did.
func (e *PublishError) Error() string {
	if len(e.Failed) == 1 {
		return e.Unwrap().Error()
	}
	return fmt.Sprintf("%d events were not published, the first because: %v", len(e.Failed), e.Unwrap())
}

// Unwrap returns the reason of the first event that failed.
func (e *PublishError) Unwrap() error {
	first := -1
	for i := range e.Failed {
		if first < 0 || i < first {
			first = i
		}
	}
	return e.Failed[first]
}

// Handler acts on one event. Nil means done; an error of kind Invalid means "it can never be
// handled", and any other error "give it to me again later". It must tolerate the same event twice.
type Handler func(ctx context.Context, e Event) error

// DeadSuffix stands behind the name of a topic in the name of its dead topic.
const DeadSuffix = ".dead"

// DeadTopic names the topic for events of topic that can never be handled. A dead topic has
// none itself; ok is then false.
func DeadTopic(topic string) (name string, ok bool) {
	if strings.HasSuffix(topic, DeadSuffix) {
		return "", false
	}
	return topic + DeadSuffix, true
}

// Never reports whether an error says that its event can never be handled, or never be published.
func Never(err error) bool { return fault.KindOf(err) == fault.Invalid }

// Subscriber delivers events from the bus.
//
// It may be called from many goroutines, several times for one topic.
type Subscriber interface {
	// Subscribe calls handle for each event of topic, and of no other, until ctx ends.
	// It then returns nil, once the running call has returned.
	// Nothing is handled after it has returned.
	// It returns an error only when it cannot subscribe, or can no longer.
	// An event arrives with every field as it was published, Time in UTC, to the microsecond.
	//
	// Subscribers with the same group share the events: each event goes to one of them.
	// Subscribers with different groups do not: each group gets every event.
	// An empty group gets every event published while it is subscribed.
	// Events with the same key are handled one at a time, in the order in which they were published.
	// An event whose handler failed is handled again before its successors.
	//
	// An error of kind Invalid says that an event can never be handled: it holds up nobody.
	// The bus sets such an event aside, as it came, on the topic with [DeadSuffix] behind its name.
	// The reason travels with it where the bus has attributes.
	// What can never be handled on a dead topic is dropped.
	//
	// ready, unless nil, is called once, when events published from then on will be delivered.
	Subscribe(ctx context.Context, topic, group string, handle Handler, ready func()) error
}

// Outbox holds the events that were committed with the changes that caused them and
// that the bus may not have yet. Repositories write it, as does [Asides]; only the [Relay] reads it.
//
// It may be called from many goroutines.
// One relay at a time keeps the order.
// An event comes with every field as it was committed, Time in UTC, to the microsecond.
// Changing what was given or returned changes nothing stored.
type Outbox interface {
	// Pending returns events in the order in which they were committed, oldest first.
	// Pending returns at most limit events: none if limit is below 1.
	// It returns an empty slice when there are none.
	// It takes nothing away: the same events come again until they are marked as published.
	Pending(ctx context.Context, limit int) ([]Event, error)
	// PendingAfter is Pending, and begins behind the event with the given ID.
	// If that event is not pending, or not known, it begins at the oldest.
	// It reads no more of what lies before than Pending would of nothing: whoever looks past events
	// that cannot be published pays for each only once.
	PendingAfter(ctx context.Context, id string, limit int) ([]Event, error)
	// Published marks events as taken over by the bus: Pending does not return them again.
	// An unknown ID, or one that was marked before, is ignored.
	Published(ctx context.Context, ids ...string) error
	// SetAside keeps an event that can never be published where operators find it, whole and with the reason.
	// Pending does not return an event that was set aside.
	// A reason that is too long is cut.
	// An unknown ID, or one that was set aside before, is ignored.
	SetAside(ctx context.Context, id, reason string) error
}
