// Package protocol is what is said on a connection: the events and their schema, the commands and
// answers that they become, and how a wire format writes them.
//
// What may be said is stated once, in a [Schema]: Parley's own events, and those that an application
// adds. The run-time check, the allow-list, the AsyncAPI document and the types of the browser client
// all come from it.
//
// A wire format is a [Format]. It brings its own syntax and its own names, and leaves the rules to
// [Schema.Check]; contract.Format states what each must keep. [JSON] is the format of parley.v1.
package protocol

import (
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// ErrBadEvent refuses a message that is not an event, or not one that a client may send.
var ErrBadEvent = fault.New(fault.Invalid, "bad_event", "the event is not valid")

// Format is a wire format: how events look in a message. A hub has one of each, made for its schema by
// a [NewFormat], and speaks to each connection through the one that the connection's subprotocol names.
//
// Its methods may be called from many goroutines. None of them blocks.
type Format interface {
	// Decode reads one message of a client.
	//
	// It gives the command every field that the client has sent.
	// It sets what the client has left out as the schema says.
	// It refuses an event that the schema does not have.
	// It refuses a field that the event does not have, and one that stands twice.
	// It refuses an event that lacks a required field.
	// It refuses a value that is not of its field's type or bounds.
	// It refuses text that is not UTF-8.
	// It refuses a message that is cut short or goes on behind its end, and one of the wrong kind, text or binary.
	// It leaves payload as it is, and the command holds no part of it.
	// Every error is of kind Invalid: the hub closes the connection with CloseBadEvent and the error's detail.
	//
	// [Schema.Check] does all of it that is not syntax.
	Decode(payload []byte, binary bool) (Command, error)
	// Answer sends what the client gets when a command was done.
	//
	// An answer has the ID of its command and every field of the schema's Ack.
	// A command without an ID has no answer.
	// A format may send nothing, one frame, or several, for example the messages of a room that was
	// joined, each as an event of its own. They go out in the order of the calls of to, and live events of
	// the room behind those of its join. What it sends of its own accord, it may also send without an ID.
	Answer(to Sink, c Command, a Answer)
	// Error makes the answer to a command that failed; the connection stays open.
	//
	// It has the ID of its command, and the problem's code.
	// It is nil for a command without an ID.
	Error(c Command, p fault.Problem) *socket.Frame
	// Event makes an event of the server; nil says that the format does not have it, and then it is not sent.
	// It is made once for all connections of the format.
	//
	// It has the name and every field of the event.
	// It makes valid UTF-8 of text that is not.
	Event(e Outgoing) *socket.Frame
}

// NewFormat makes a format that speaks a schema.
type NewFormat func(s *Schema) Format

// Sink takes the frames of an answer.
type Sink interface {
	// Send queues f behind what was queued before. It does not block.
	Send(f *socket.Frame)
}

// Command is what a client asks for, after it was checked against the schema.
type Command struct {
	// ID is the client's number for the answer, if HasID.
	ID    uint64
	HasID bool
	// Event is the name: of a [ClientEvent] of the schema.
	Event string

	Room, Text, ClientID, Token string
	// Since, Before and After are sequences; nil if not given. Limit is 0 if not given.
	Since, Before, After *uint64
	Limit                uint64
	Typing               bool
	// ReplyTo is a sequence, 0 if not given. Attached is the data of a message, empty if not given.
	ReplyTo  uint64
	Attached string
	// Seq is a message that is changed, or up to which the room was read. Off takes a reaction back.
	Seq uint64
	Off bool
	// Rev and ChangedAfter are places in the sequence of changes; nil if not given.
	Rev, ChangedAfter *uint64
	// Data holds the fields that have no place above, as those of an application's events.
	Data Data

	schema *ClientEvent
}

// Schema returns what the command's event is made of, and its answer; nil for a command that did not come
// from [Schema.Check].
func (c *Command) Schema() *ClientEvent { return c.schema }

// Answer is what a command's ack holds. Those that are frequent have places of their own: join_room has
// Room, Seq, Rev, Read, Recovered, Messages and Changes, message has Stored, history has Messages and More. All others have
// Data. [Command.Values] has them all alike.
type Answer struct {
	Room      string
	Seq, Rev  uint64
	Read      uint64
	Recovered bool
	More      bool
	Messages  []chat.Message
	Changes   []chat.Message
	Stored    chat.Message
	Data      Data
}

// Outgoing is an event of the server.
type Outgoing struct {
	// Schema is what the event is made of; its Name is the event's.
	Schema *ServerEvent
	Room   string
	// User is whom the event is about; for an application's event, who caused it.
	User chat.Author
	// Message is set for the events message and changed, and Data for all others. [Outgoing.Values] has both alike.
	Message chat.Message
	Data    Data
}

// Values returns all fields of an answer by the names of the command's schema. The result must not be changed.
func (c *Command) Values(a Answer) Data {
	switch c.Event {
	case EventJoinRoom:
		d := Data{"room": a.Room, "seq": a.Seq, "rev": a.Rev, "read": a.Read, "recovered": a.Recovered, "messages": messagesData(a.Messages)}
		if c.Rev != nil {
			d["changes"] = messagesData(a.Changes)
		}
		return d
	case EventMessage:
		return Data{"room": a.Stored.Room, "seq": a.Stored.Seq, "id": a.Stored.ID, "at": a.Stored.At}
	case EventHistory:
		return Data{"messages": messagesData(a.Messages), "more": a.More}
	}
	return a.Data
}

// Values returns all fields of the event by the names of its schema. The result must not be changed.
func (e *Outgoing) Values() Data {
	if e.ofMessage() {
		return MessageData(e.Message)
	}
	return e.Data
}

// ofMessage reports whether the event is a message.
func (e *Outgoing) ofMessage() bool {
	return e.Schema.Name == EventMessage || e.Schema.Name == EventChanged
}

// MessageData returns the fields of a message by the names of its schema.
func MessageData(m chat.Message) Data {
	d := Data{"room": m.Room, "seq": m.Seq, "rev": m.Rev, "id": m.ID, "user": UserData(m.Author), "text": m.Text, "at": m.At}
	if m.ClientID != "" {
		d["clientId"] = m.ClientID
	}
	if m.ReplyTo != 0 {
		d["replyTo"] = m.ReplyTo
	}
	if m.Data != "" {
		d["data"] = FreeObject(m.Data)
	}
	if !m.EditedAt.IsZero() {
		d["editedAt"] = m.EditedAt
	}
	if !m.DeletedAt.IsZero() {
		d["deletedAt"] = m.DeletedAt
	}
	if len(m.Reactions) > 0 {
		all := make([]Data, len(m.Reactions))
		for i, r := range m.Reactions {
			users := make([]string, len(r.Users))
			for j, id := range r.Users {
				users[j] = string(id)
			}
			all[i] = Data{"key": r.Key, "count": r.Count, "users": users}
		}
		d["reactions"] = all
	}
	return d
}

// UserData returns the fields of a user by the names of its schema.
func UserData(u chat.Author) Data { return Data{"id": string(u.ID), "name": u.Name} }

func messagesData(messages []chat.Message) []Data {
	all := make([]Data, len(messages))
	for i, m := range messages {
		all[i] = MessageData(m)
	}
	return all
}

// Data is the fields of an object by their names. The values are of these types:
//
//	String   string; nil where [Field.Null]
//	Integer  uint64; int where a program gives it
//	Boolean  bool
//	Time     time.Time
//	Ref      Data
//	ListOf   []Data
//	Free     FreeObject
//	Texts    []string
type Data map[string]any

// FreeObject is a JSON object whose fields are the application's, as text without white space between its tokens.
type FreeObject string

// Free returns an object whose fields are the application's, or an empty string if there is none.
func (d Data) Free(name string) FreeObject { o, _ := d[name].(FreeObject); return o }

// Text returns a string, or an empty one if there is none.
func (d Data) Text(name string) string { s, _ := d[name].(string); return s }

// Integer returns an integer, or 0 if there is none.
func (d Data) Integer(name string) uint64 { n, _ := number(d[name]); return n }

// Boolean returns a boolean, or false if there is none.
func (d Data) Boolean(name string) bool { b, _ := d[name].(bool); return b }

// Time returns a time, or the zero one if there is none.
func (d Data) Time(name string) time.Time { t, _ := d[name].(time.Time); return t }
