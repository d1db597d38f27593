// Package webhook tells an application's own server what has happened, at least once, after it is durable.
//
// The way of a delivery: whatever stores something puts a [Fact] into the outbox in the same commit; the relay moves it to the bus; the
// [Consumer] puts one job a fact on a queue of its own, once per fact; and a [mail.Worker] hands each to the [Endpoint], with attempts, waits and dead letters
// as mails have them. What is chosen by no [Selection] is not put into the outbox, and costs nothing.
package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

const (
	// Topic is the stream of facts, keyed by the room, or else by the user.
	Topic = "webhook"
	// Group is the group in which those who deliver share the facts of [Topic].
	Group = "webhook"
)

// Types of facts.
const (
	UserCreated  = "user.created"
	UserVerified = "user.verified"
	UserErased   = "user.erased"
	SessionEnded = "session.ended"

	MessageCreated = "message.created"
	MessageChanged = "message.changed"

	RoomCreated = "room.created"
	RoomChanged = "room.changed"
	RoomDeleted = "room.deleted"

	MembershipChanged = "membership.changed"
)

// types are all of them.
var types = []string{UserCreated, UserVerified, UserErased, SessionEnded, MessageCreated, MessageChanged, RoomCreated, RoomChanged, RoomDeleted, MembershipChanged}

// Types returns all types of facts.
func Types() []string { return slices.Clone(types) }

// ErrUnknownType says that a selection names a type that there is not.
var ErrUnknownType = fault.New(fault.Invalid, "webhook_type_unknown", "there is no such type of webhooks")

// Selection is which types of facts are told. The zero value is none. It is a value, and may be used from many goroutines.
type Selection struct{ bits uint64 }

// Select chooses types by their names, or by what stands before the dot: "user.*"; "*" is all of them. It returns ErrUnknownType for what names none.
func Select(names ...string) (Selection, error) {
	var s Selection
	for _, name := range names {
		before := s
		prefix, all := strings.CutSuffix(name, "*")
		matched := false
		for i, t := range types {
			if t == name || all && strings.HasPrefix(t, prefix) && (prefix == "" || strings.HasSuffix(prefix, ".")) {
				s.bits |= 1 << i
				matched = true
			}
		}
		if !matched {
			return before, ErrUnknownType.Detail("%q; there are %s", name, strings.Join(types, ", "))
		}
	}
	return s, nil
}

// Has reports whether facts of the type are told.
func (s Selection) Has(kind string) bool {
	i := slices.Index(types, kind)
	return i >= 0 && s.bits&(1<<i) != 0
}

// Any reports whether facts of any of the types are told; without types, whether any facts are.
func (s Selection) Any(kinds ...string) bool {
	if len(kinds) == 0 {
		return s.bits != 0
	}
	return slices.ContainsFunc(kinds, s.Has)
}

// Fact is something that has happened.
type Fact struct {
	// ID names the fact for ever: it is the webhook-id of each of its deliveries. It has no dot.
	ID string
	// Type is what has happened.
	Type string
	// Room and User say what the fact is about: facts about a room are in order, and those without a room that are about a user.
	Room, User string
	// About names what erasing takes the fact away with: a user, a message, or a room by [AboutRoom]. Default: User.
	About string
	// Forgets says that what waits about About is not delivered any more.
	Forgets bool
	// Silent says that the fact itself is not told.
	Silent bool
	Time   time.Time
	// Data is a JSON object.
	Data []byte
}

// FactData is the data of the event of a [Fact].
type FactData struct {
	About   string          `json:"about" doc:"The ID of the user or of the message that the fact is about, or room: and the name of the room."`
	Room    string          `json:"room,omitempty" doc:"The room that the fact is about."`
	Forgets bool            `json:"forgets,omitempty" doc:"What waits about the same user or message is not delivered any more."`
	Body    json.RawMessage `json:"body,omitempty" doc:"What is delivered, byte for byte. Without it nothing is."`
}

// AboutRoom is what a fact about a room is about. No user and no message has such an ID by accident.
func AboutRoom(room string) string { return "room:" + room }

// timeLayout is RFC 3339 in UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Event returns the fact as it is put into the outbox.
func (f Fact) Event() event.Event {
	key, about := f.Room, f.About
	if key == "" {
		key = f.User
	}
	if about == "" {
		about = f.User
	}
	b := append(make([]byte, 0, len(f.Data)+256), `{"about":`...)
	b = append(b, quoted(about)...)
	if f.Room != "" {
		b = append(append(b, `,"room":`...), quoted(f.Room)...)
	}
	if f.Forgets {
		b = append(b, `,"forgets":true`...)
	}
	if !f.Silent {
		b = append(append(b, `,"body":{"type":`...), quoted(f.Type)...)
		b = f.Time.UTC().AppendFormat(append(b, `,"timestamp":"`...), timeLayout)
		b = append(append(b, `","data":`...), f.Data...)
		b = append(b, '}')
	}
	return event.Event{ID: f.ID, Topic: Topic, Type: f.Type, Key: key, Time: f.Time.UTC().Truncate(time.Microsecond), Data: append(b, '}')}
}

// quoted is a string in JSON.
func quoted(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return b
}

// Delivery is one fact on its way.
type Delivery struct {
	// ID is that of the fact, the same for each attempt.
	ID string
	// Body is the JSON object {"type":…,"timestamp":…,"data":…}.
	Body []byte
}

// What an [Endpoint] answers besides success.
var (
	// ErrGone marks that the server wants a delivery never: it is not tried again.
	ErrGone = mail.ErrRefused
	// ErrUntried marks that the server was not there: the attempt does not count.
	ErrUntried = mail.ErrUntried
	// ErrThrottled marks that the server takes fewer deliveries than it is offered: the attempt does not count.
	ErrThrottled = mail.ErrThrottled
)

// Endpoint takes deliveries.
//
// It may be called from many goroutines.
type Endpoint interface {
	// Deliver returns nil once the server has taken d.
	// An error that matches ErrGone is permanent.
	// An error that matches ErrUntried says that the server has not seen d.
	// An error that matches ErrThrottled says that the server wants it later.
	// Any other error is temporary, and the server may have taken d.
	// Deliver calls begun, at most once, when d is sent.
	// The texts of errors hold nothing of d.
	// Deliver gives up when ctx is done.
	Deliver(ctx context.Context, d Delivery, begun func()) error
	// Check returns nil if the server would take a delivery now, or cannot tell.
	// Check delivers nothing.
	// Check gives up when ctx is done.
	Check(ctx context.Context) error
}

// Performer does the jobs of deliveries.
func Performer(e Endpoint) mail.Performer { return performer{e} }

type performer struct{ Endpoint }

// Perform implements mail.Performer.
func (p performer) Perform(ctx context.Context, j mail.Job, begun func()) error {
	if err := p.Deliver(ctx, Delivery{ID: j.Key, Body: j.Data}, begun); err != nil {
		return fmt.Errorf("webhook: delivering: %w", err)
	}
	return nil
}

// Lane is the lane of a delivery: its room, or else whom it is about.
func Lane(j mail.Job) string {
	if j.Name != "" {
		return "room " + j.Name
	}
	return "about " + string(j.To)
}
