// Package protocol is what is said on a connection: the events and their schema, the commands and
// answers that they become, and how a wire format writes them.
//
// What a client may send is stated once, in [ClientEvents]: the run-time check, the allow-list,
// the AsyncAPI document and the types of the browser client all come from it.
package protocol

import (
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// ErrBadEvent refuses a message that is not an event, or not one that a client may send.
var ErrBadEvent = fault.New(fault.Invalid, "bad_event", "the event is not valid")

// Command is what a client asks for, after it was checked against the schema.
type Command struct {
	// ID is the client's number for the answer, if HasID.
	ID    uint64
	HasID bool
	// Event is the name: one of ClientEvents.
	Event string

	Room, Text, ClientID, Token string
	// Since, Before and After are sequences; nil if not given. Limit is 0 if not given.
	Since, Before, After *uint64
	Limit                uint64
	Typing               bool
}

// Format is a wire format: how events look in a message. The hub speaks through one for
// each connection. Its methods may be called from many goroutines.
type Format interface {
	// Decode reads and checks one message; it keeps nothing of it. Errors are of kind Invalid.
	Decode(payload []byte) (Command, error)
	// Ack and Error make the answer to a command.
	Ack(c Command, a Answer) *socket.Frame
	Error(c Command, p fault.Problem) *socket.Frame
	// Event makes an event of the server; nil if this format does not have it.
	Event(e Outgoing) *socket.Frame
}

// Answer is what a command's ack holds; which fields count depends on the command.
type Answer struct {
	Room      string
	Seq       uint64
	Recovered bool
	More      bool
	Messages  []chat.Message
	Stored    chat.Message
	Members   []chat.Author
	Count     int
	// ExpiresIn is how long the connection goes on, in whole seconds.
	ExpiresIn time.Duration
}

// Outgoing is an event of the server.
type Outgoing struct {
	Event   string
	Room    string
	Message chat.Message
	User    chat.Author
	Typing  bool
}
