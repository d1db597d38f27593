package wsclient

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
)

const (
	// writeTimeout bounds the writing of one frame.
	writeTimeout = 10 * time.Second
	// maxAhead bounds how many messages that came ahead of a hole are kept. Those beyond
	// it are asked for again. It bounds in the same way what is kept of changes.
	maxAhead = 1024
)

// outgoing is what a client sends.
type outgoing struct {
	ID    uint64 `json:"id,omitempty"`
	Event string `json:"event"`
	Data  any    `json:"data"`
}

// data is what a client sends with any event; what is not set is left out.
type data struct {
	Room     string  `json:"room,omitempty"`
	Token    string  `json:"token,omitempty"`
	Text     string  `json:"text,omitempty"`
	ClientID string  `json:"clientId,omitempty"`
	Since    *uint64 `json:"since,omitempty"`
	Before   *uint64 `json:"before,omitempty"`
	After    *uint64 `json:"after,omitempty"`
	Limit    int     `json:"limit,omitempty"`
	Typing   *bool   `json:"typing,omitempty"`

	Seq          uint64  `json:"seq,omitempty"`
	Key          string  `json:"key,omitempty"`
	On           *bool   `json:"on,omitempty"`
	Rev          *uint64 `json:"rev,omitempty"`
	ChangedAfter *uint64 `json:"changedAfter,omitempty"`
	Read         *uint64 `json:"read,omitempty"`

	ReplyTo uint64          `json:"replyTo,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// incoming is what a server sends.
type incoming struct {
	ID    uint64          `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	Error *Error          `json:"error"`
}

// room is a room that the client is in.
type room struct {
	name string
	// last is the sequence up to which everything was delivered.
	last uint64
	// target is the highest sequence that is known of.
	target uint64
	// joined says that the server has answered the join on this connection.
	joined bool
	// asking says that a part of the history is under way, stale that there may be more of it.
	asking, stale bool
	// missed says that events that are not stored were left out.
	missed bool
	// marks says that the server has answered the last join with how far the user has read. Otherwise it is an older one.
	marks bool
	// read is how far the user had read by the last answer to a join.
	read uint64
	// ahead are messages above a hole, by sequence, each in the newest state that came.
	ahead map[uint64]Message
	revisions
}

// Joined is the answer to a join.
type Joined struct {
	// Seq was the room's highest sequence.
	Seq uint64
	// Rev was how many changes of messages the room had had; 0 if an older server has answered.
	Rev uint64
	// Read is how far the user had read the room, on any of their connections: a Seq. A new member has read what was there already. It is 0 if
	// an older server has answered. [Client.Mark] moves it, and says how many messages are unread.
	Read uint64
	// Recovered is false if messages after the given sequence are gone for ever.
	Recovered bool
	// Messages are those that came with the answer. Handle is given them too.
	Messages []Message
}

// Sent is the answer to a message: it is stored.
type Sent struct {
	Seq uint64    `json:"seq"`
	ID  string    `json:"id"`
	At  time.Time `json:"at"`
	// ClientID is the id that the message was sent with.
	ClientID string `json:"-"`
}

// Page is a part of a room's history, ascending by Seq, or by Rev if Range.Changed is set.
type Page struct {
	Messages []Message `json:"messages"`
	More     bool      `json:"more"`
}

// Range chooses a part of the history: before or after a sequence; zero fields leave the
// choice to the server.
type Range struct {
	Before, After uint64
	// Changed chooses the messages that have changed, ascending by Rev: those of a higher Rev than After. Before has no effect then.
	Changed bool
	Limit   int
}

// Presence is who is in a room.
type Presence struct {
	Members []User `json:"members"` // at most a number that the server states
	Count   int    `json:"count"`
}

// name is what the server calls a room, as far as it has said so. c.mu is held.
func (c *Client) name(room string) string {
	if kept, ok := c.kept[room]; ok {
		return kept
	}
	return room
}

// mayGo reports whether the server would take k now: not before it has answered the join of
// the room. c.mu is held.
func (c *Client) mayGo(k *call) bool {
	r := c.rooms[c.name(k.room)]
	return k.event == protocol.EventJoinRoom || r == nil || r.joined
}

// connected begins to use a connection: rooms are joined again, and what waits for no room is
// asked again.
func (c *Client) connected(ws *websocket.Conn) {
	c.mu.Lock()
	c.ws = ws
	if c.changes != changesNever {
		c.changes = changesUnknown
	}
	var calls []*call
	for _, name := range slices.Sorted(maps.Keys(c.rooms)) {
		calls = append(calls, c.rejoin(c.rooms[name]))
	}
	for _, k := range c.waiting() {
		if c.mayGo(k) && !slices.Contains(calls, k) {
			calls = append(calls, k)
		}
	}
	c.enqueue(calls...)
	c.mu.Unlock()
	c.tell(Event{Kind: EventConnected})
	c.pump()
}

// rejoin makes the request that joins r again. c.mu is held.
func (c *Client) rejoin(r *room) *call {
	since := r.last
	d := data{Room: r.name, Since: &since}
	if r.told && c.changes != changesNever {
		rev := r.rev
		d.Rev = &rev
		if c.changes == changesUnknown {
			c.changes = changesAsked
		}
	}
	k := c.internal(protocol.EventJoinRoom, d, func(ack json.RawMessage) error {
		_, err := c.enter(d, nil, ack, true)
		return err
	})
	k.refused = func(err *Error) {
		if !slices.Contains(forGood(), err.Code) {
			c.Drop() // and try again on the next connection
			return
		}
		c.mu.Lock()
		delete(c.rooms, d.Room)
		c.enqueue(c.waitingFor(d.Room)...)
		c.mu.Unlock()
		c.tell(Event{Kind: EventResync, Room: d.Room, Lost: true, Err: err})
		c.pump()
	}
	return k
}

// forGood lists the codes of refusals that asking again does not change.
func forGood() []string {
	var codes []string
	for _, err := range []error{chat.ErrNotAllowed, chat.ErrRoomNotFound, chat.ErrRoomInvalid, realtime.ErrRemoved} {
		codes = append(codes, fault.Public(err).Code)
	}
	return codes
}

// internal registers a request of the client itself. c.mu is held.
func (c *Client) internal(event string, d data, take func(json.RawMessage) error) *call {
	c.nextID++
	k := &call{id: c.nextID, event: event, room: d.Room, data: d, internal: true, take: take, finished: make(chan struct{})}
	c.calls[k.id] = k // not nil: only run ends the calls, on this goroutine
	return k
}

// waitingFor lists the requests about a room in the order in which they were made, joins
// excepted. c.mu is held.
func (c *Client) waitingFor(name string) []*call {
	return slices.DeleteFunc(c.waiting(), func(k *call) bool {
		return c.name(k.room) != name || k.event == protocol.EventJoinRoom
	})
}

// waiting lists the requests without an answer in the order in which they were made. c.mu is held.
func (c *Client) waiting() []*call {
	return slices.SortedFunc(maps.Values(c.calls), func(a, b *call) int { return cmp.Compare(a.id, b.id) })
}

// disconnected ends the use of a connection.
func (c *Client) disconnected() {
	c.mu.Lock()
	c.ws = nil
	c.queue = nil
	sent := c.sent
	c.sent = make(map[uint64]time.Time)
	c.stopTimers()
	for _, r := range c.rooms {
		r.joined, r.asking = false, false
		r.askingChanges, r.later = false, nil
	}
	var dropped []*call
	for id, k := range c.calls {
		_, written := sent[id]
		if k.internal || (k.once && written) {
			delete(c.calls, id)
			dropped = append(dropped, k)
		}
	}
	c.mu.Unlock()
	for _, k := range dropped {
		k.finish(ErrLost)
	}
}

// ErrLost is what a request returns that is not repeated on the next connection: nobody knows whether the
// server has taken it.
var ErrLost = errors.New("wsclient: the connection was lost before the answer came")

// take handles one frame of the server. An error says that the server breaks the protocol.
func (c *Client) take(in *incoming) error {
	switch in.Event {
	case protocol.EventAck, protocol.EventError:
		return c.answered(in)
	case protocol.EventMessage:
		var m Message
		if err := decode(in.Data, &m); err != nil {
			return err
		}
		c.live(m)
	case protocol.EventChanged:
		return c.changed(in)
	case protocol.EventMarked:
		return c.marked(in)
	case protocol.EventTyping, protocol.EventJoined, protocol.EventLeft, protocol.EventResync:
		var d struct {
			Room   string `json:"room"`
			User   User   `json:"user"`
			Typing bool   `json:"typing"`
		}
		if err := decode(in.Data, &d); err != nil {
			return err
		}
		c.told(in.Event, Event{Room: d.Room, User: d.User, Typing: d.Typing})
	case protocol.EventMembership:
		var d struct {
			Room       string    `json:"room"`
			User       User      `json:"user"`
			Role       *string   `json:"role"`
			MutedUntil time.Time `json:"mutedUntil"`
			By         string    `json:"by"`
			Reason     string    `json:"reason"`
		}
		if err := decode(in.Data, &d); err != nil {
			return err
		}
		e := Event{Kind: EventMembership, Room: d.Room, User: d.User, Until: d.MutedUntil, By: d.By, Reason: d.Reason}
		if d.Role != nil {
			e.Role = *d.Role
		}
		c.membership(e)
	default:
		return c.custom(in)
	}
	return nil
}

func (c *Client) answered(in *incoming) error {
	c.mu.Lock()
	k := c.calls[in.ID]
	delete(c.calls, in.ID)
	delete(c.sent, in.ID)
	c.mu.Unlock()
	defer c.pump() // which has waited for a free place in the window
	if k == nil {
		return nil // its caller has stopped waiting
	}
	if in.Event == protocol.EventError {
		if in.Error == nil {
			in.Error = &Error{Code: "unknown"}
		}
		if k.refused != nil {
			k.refused(in.Error)
		}
		k.finish(in.Error)
		return nil
	}
	var err error
	if k.take != nil {
		err = k.take(in.Data)
	}
	k.finish(err)
	return nil
}

// knowsItself reads whose token it is, if it is a JSON Web Token (RFC 7519).
func (c *Client) knowsItself(token string) {
	c.self = ""
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return
	}
	var of struct {
		Subject string `json:"sub"`
	}
	if json.Unmarshal(claims, &of) == nil {
		c.self = of.Subject
	}
}

// custom takes an event that is not Parley's own, or that only a newer server knows.
func (c *Client) custom(in *incoming) error {
	var d struct {
		Room string `json:"room"`
	}
	_ = json.Unmarshal(in.Data, &d) // it may have any shape
	c.mu.Lock()
	r := c.rooms[d.Room]
	full := c.full()
	if r != nil && full {
		r.missed = true
	}
	c.mu.Unlock()
	if full || (d.Room != "" && r == nil) {
		return nil
	}
	c.tell(Event{Kind: EventApplication, Room: d.Room, Name: in.Event, Data: in.Data})
	return nil
}
