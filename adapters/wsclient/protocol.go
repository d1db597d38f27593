package wsclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
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

// Join joins a room, and stays in it across reconnects. Messages are delivered from the last
// few on. Joining a room again is harmless: what was delivered is not delivered again.
func (c *Client) Join(ctx context.Context, name string) (Joined, error) {
	return c.join(ctx, data{Room: name}, nil)
}

// JoinSince is like [Client.Join], but messages are delivered from the one after since on.
func (c *Client) JoinSince(ctx context.Context, name string, since uint64) (Joined, error) {
	return c.join(ctx, data{Room: name, Since: &since}, nil)
}

// Position is where a program stands in a room: up to where it has kept what it was given.
type Position struct {
	// Seq is the sequence of the last message.
	Seq uint64
	// Rev is that of the last EventChanged. Before the first one it is Joined.Rev after [Client.Join], and the position's own Rev
	// after [Client.JoinFrom]. The Rev of an EventMessage does not count.
	Rev uint64
}

// JoinFrom is like [Client.JoinSince] for a program that has kept its position: messages up to from.Seq that have changed
// after from.Rev are given as EventChanged too. Of a room in which the client is already nothing is given that was given before.
func (c *Client) JoinFrom(ctx context.Context, name string, from Position) (Joined, error) {
	return c.join(ctx, data{Room: name, Since: &from.Seq}, &from.Rev)
}

// join joins a room. rev, if not nil, is where the changes of one begin that the client is not in; an older server would take it
// for a bad event.
func (c *Client) join(ctx context.Context, d data, rev *uint64) (Joined, error) {
	var j Joined
	err := c.do(ctx, &call{event: protocol.EventJoinRoom, room: d.Room, data: d, take: func(ack json.RawMessage) (err error) {
		j, err = c.enter(d, rev, ack, false)
		return err
	}})
	if err != nil {
		return Joined{}, err
	}
	return j, nil
}

// Leave leaves a room. Nothing of it is delivered after Leave has returned.
func (c *Client) Leave(ctx context.Context, name string) error {
	c.mu.Lock()
	delete(c.rooms, c.name(name))
	c.mu.Unlock()
	_, err := request[struct{}](ctx, c, &call{event: protocol.EventLeaveRoom, room: name, data: data{Room: name}})
	return err
}

// Send sends a message with a client id of its own, and returns when it is stored. If ctx ends
// first, it may or may not be.
func (c *Client) Send(ctx context.Context, name, text string) (Sent, error) {
	return c.SendAs(ctx, name, text, c.cfg.NewID())
}

// SendAs is like [Client.Send] with a given client id: sent twice, a message is stored once.
func (c *Client) SendAs(ctx context.Context, name, text, clientID string) (Sent, error) {
	return c.SendDraft(ctx, name, Draft{Text: text, ClientID: clientID})
}

// Draft is a message to be sent.
type Draft struct {
	Text string
	// ClientID is the sender's own name for the message: sent twice, it is stored once. Default: a new one.
	ClientID string
	// ReplyTo is the sequence of the message in the same room that it answers, or 0.
	ReplyTo uint64
	// Data is the application's, an object in JSON ([chat.CompactData] says what the server takes), or nil. A json.RawMessage is sent as it is, but
	// for white space between its tokens; anything else as encoding/json writes it.
	Data any
}

// SendDraft is like [Client.Send] for a message that has more than a text. Data that is no object in JSON, or that the server
// would close the connection for, is an error of kind fault.Invalid, and is not sent.
func (c *Client) SendDraft(ctx context.Context, name string, d Draft) (Sent, error) {
	if d.ClientID == "" {
		d.ClientID = c.cfg.NewID()
	}
	out := data{Room: name, Text: d.Text, ClientID: d.ClientID, ReplyTo: d.ReplyTo}
	var err error
	if out.Data, err = attached(d.Data); err != nil {
		return Sent{}, err
	}
	sent, err := request[Sent](ctx, c, &call{event: protocol.EventMessage, room: name, data: out})
	sent.ClientID = d.ClientID
	return sent, err
}

// attached is the data of a message or of a room as it is sent; nil without any.
func attached(data any) (json.RawMessage, error) {
	encoded, given := data.(json.RawMessage)
	switch {
	case data == nil, given && len(encoded) == 0:
		return nil, nil
	case !given:
		var err error
		if encoded, err = encode(data); err != nil {
			return nil, chat.ErrDataInvalid.Detail("%v", err)
		}
	}
	compact, err := chat.CompactData(string(encoded))
	return json.RawMessage(compact), err
}

// encode is like json.Marshal, but for the characters <, >, &, U+2028 and U+2029: they stay as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Call sends an event of the application, and waits for the answer. in is the event's data: an object in JSON, or nil. The
// answer's data is decoded into answer, unless that is nil. A refusal is an *[Error]. It is sent once: if the connection is lost
// before the answer, Call returns [ErrLost]. An event about a room that is being joined again waits for that.
func (c *Client) Call(ctx context.Context, event string, in, answer any) error {
	k, err := custom(event, in)
	if err != nil {
		return err
	}
	k.take = func(ack json.RawMessage) error {
		if answer == nil {
			return nil
		}
		return decode(ack, answer)
	}
	return c.do(ctx, k)
}

// Emit sends an event of the application that is not answered, and returns when it is written: nobody says
// whether it arrived.
func (c *Client) Emit(ctx context.Context, event string, in any) error {
	k, err := custom(event, in)
	if err != nil {
		return err
	}
	k.unanswered = true
	return c.do(ctx, k)
}

// custom makes the request of an event of the application.
func custom(event string, in any) (*call, error) {
	switch event {
	case protocol.EventJoinRoom, protocol.EventLeaveRoom, protocol.EventMessage,
		protocol.EventEdit, protocol.EventDelete, protocol.EventReact, protocol.EventMark, protocol.EventRenew:
		return nil, fmt.Errorf("wsclient: %s has a method of its own", event)
	}
	if in == nil {
		in = struct{}{}
	}
	encoded, err := encode(in)
	if err != nil {
		return nil, fmt.Errorf("wsclient: the data of %s: %w", event, err)
	}
	var about struct {
		Room string `json:"room"`
	}
	_ = json.Unmarshal(encoded, &about) // it may have any shape
	return &call{event: event, room: about.Room, data: json.RawMessage(encoded), once: true}, nil
}

// Typing says that the user types, or has stopped.
func (c *Client) Typing(ctx context.Context, name string, typing bool) error {
	_, err := request[struct{}](ctx, c, &call{event: protocol.EventTyping, room: name, data: data{Room: name, Typing: &typing}, once: true})
	return err
}

// History returns a part of a room's history. It is not given to Handle.
func (c *Client) History(ctx context.Context, name string, r Range) (Page, error) {
	d := data{Room: name, Limit: r.Limit}
	switch {
	case r.Changed:
		d.ChangedAfter = &r.After
	case r.After != 0:
		d.After = &r.After
	case r.Before != 0:
		d.Before = &r.Before
	}
	return request[Page](ctx, c, &call{event: protocol.EventHistory, room: name, data: d})
}

// Presence returns who is in a room.
func (c *Client) Presence(ctx context.Context, name string) (Presence, error) {
	return request[Presence](ctx, c, &call{event: protocol.EventPresence, room: name, data: data{Room: name}})
}

// HealthCheck asks whether the server is well. The server then closes the connection with
// 1000, and the client ends.
func (c *Client) HealthCheck(ctx context.Context) error {
	got, err := request[struct {
		Message string `json:"message"`
	}](ctx, c, &call{event: protocol.EventHealthCheck, data: data{}, once: true})
	if err == nil && got.Message != "OK" {
		err = fmt.Errorf("wsclient: the health check says %q", got.Message)
	}
	return err
}

func decode(ack json.RawMessage, into any) error {
	if len(ack) == 0 {
		return nil
	}
	if err := json.Unmarshal(ack, into); err != nil {
		return fmt.Errorf("wsclient: the server's answer: %w", err)
	}
	return nil
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

// enter takes the ack of a join; again says that it is the client's own, after a reconnect. from, if not nil, is the rev that the
// program has of a room that is new to the client.
func (c *Client) enter(d data, from *uint64, ack json.RawMessage, again bool) (Joined, error) {
	var a struct {
		Room      string    `json:"room"`
		Seq       uint64    `json:"seq"`
		Rev       *uint64   `json:"rev"`  // of an older server nil
		Read      *uint64   `json:"read"` // of an older server nil
		Recovered bool      `json:"recovered"`
		Messages  []Message `json:"messages"`
		Changes   []Message `json:"changes"`
	}
	if err := decode(ack, &a); err != nil {
		return Joined{}, err
	}
	c.mu.Lock()
	if a.Room != "" && a.Room != d.Room {
		c.kept[d.Room] = a.Room
		d.Room = a.Room
	}
	r := c.rooms[d.Room]
	if r == nil && again {
		c.mu.Unlock() // left meanwhile
		return Joined{}, nil
	}
	first := a.Seq // what was delivered if the room had been followed all along
	if len(a.Messages) > 0 {
		first = a.Messages[0].Seq - 1
	}
	var events []Event
	if r == nil {
		r = &room{name: d.Room, last: first}
		if d.Since != nil {
			r.last = *d.Since
		}
		switch {
		case from != nil:
			r.rev = *from
		case a.Rev != nil:
			r.rev = *a.Rev // all that comes from now on has the changes before
		}
		c.rooms[d.Room] = r
	}
	if r.told = a.Rev != nil; r.told {
		c.changes = changesTold
		setBack := d.Rev != nil && *a.Rev < r.rev && !a.Recovered
		events = r.rejoined(d.Since, *a.Rev, setBack, a.Changes, events)
	}
	fresh := !r.joined
	r.joined, r.marks = true, a.Read != nil
	if a.Read != nil {
		if again && *a.Read > r.read && c.self != "" {
			events = append(events, Event{Kind: EventMarked, Room: r.name, User: User{ID: c.self}, Read: *a.Read})
		}
		r.read = max(r.read, *a.Read)
	}
	r.target = max(r.target, a.Seq)
	if d.Since != nil && !a.Recovered && first > r.last {
		events = r.skip(first, events)
	}
	for _, m := range a.Messages {
		events = r.accept(m, events)
	}
	if from != nil && r.told && r.rev > *a.Rev {
		c.enqueue(c.rejoin(r)) // the answer may be an old one: only one to a join with the rev says whether the room was set back
	}
	var dropped []*call
	if fresh {
		var calls []*call
		calls, dropped = c.withoutNewer(r, c.waitingFor(r.name))
		c.enqueue(calls...)
	}
	c.catchUp(r)
	c.mu.Unlock()
	for _, k := range dropped {
		k.finish(k.older)
	}
	c.tell(events...)
	c.pump()
	j := Joined{Seq: a.Seq, Recovered: a.Recovered, Messages: a.Messages}
	if a.Rev != nil {
		j.Rev = *a.Rev
	}
	if a.Read != nil {
		j.Read = *a.Read
	}
	return j, nil
}

// accept takes one message, and appends to events what may be delivered now.
func (r *room) accept(m Message, events []Event) []Event {
	switch {
	case m.Seq <= r.last:
		return events
	case m.Seq > r.last+1:
		r.hold(m)
		return events
	}
	if len(r.ahead) > 0 {
		if held := r.ahead[m.Seq]; held.Rev > m.Rev {
			m = held
		}
	}
	return r.closed(r.deliver(m, events))
}

// deliver appends the next message.
func (r *room) deliver(m Message, events []Event) []Event {
	r.last = m.Seq
	if m.Rev > r.rev {
		r.show(m)
	}
	return append(events, Event{Kind: EventMessage, Room: r.name, Message: m})
}

// hold keeps a message that is ahead, in its newest state, and reports false if there is no place for it.
func (r *room) hold(m Message) bool {
	r.target = max(r.target, m.Seq)
	held, here := r.ahead[m.Seq]
	switch {
	case here && held.Rev >= m.Rev:
		return true
	case !here && len(r.ahead) >= maxAhead:
		return false
	case r.ahead == nil:
		r.ahead = make(map[uint64]Message)
	}
	r.ahead[m.Seq] = m
	return true
}

// closed appends the messages from ahead whose turn it is.
func (r *room) closed(events []Event) []Event {
	for len(r.ahead) > 0 {
		m, ok := r.ahead[r.last+1]
		if !ok {
			break
		}
		delete(r.ahead, m.Seq)
		events = r.deliver(m, events)
	}
	maps.DeleteFunc(r.ahead, func(seq uint64, _ Message) bool { return seq <= r.last })
	return events
}

// skip gives up the messages up to seq.
func (r *room) skip(seq uint64, events []Event) []Event {
	r.last = seq
	return r.closed(append(events, Event{Kind: EventResync, Room: r.name, Lost: true}))
}

// catchUp asks for the next part of the history, and of the changes, if one is needed and there is room for it. c.mu is held.
func (c *Client) catchUp(r *room) {
	if !r.joined || c.full() {
		return
	}
	if !r.asking && (r.last < r.target || r.stale) {
		r.asking, r.stale = true, false
		after, target := r.last, r.target
		k := c.internal(protocol.EventHistory, data{Room: r.name, After: &after}, func(ack json.RawMessage) error {
			return c.page(r, after, target, ack)
		})
		k.refused = func(*Error) { c.Drop() } // and join again on the next connection
		c.enqueue(k)
	}
	c.catchUpChanges(r) // behind the messages, which have most of them
}

// page takes the part of the history behind after, which was asked for when the room was known to have messages up to target. Of what came
// later, it says nothing.
func (c *Client) page(r *room, after, target uint64, ack json.RawMessage) error {
	var p Page
	if err := decode(ack, &p); err != nil {
		c.Drop()
		return err
	}
	c.mu.Lock()
	if c.rooms[r.name] != r || !r.asking {
		c.mu.Unlock()
		return nil // left meanwhile
	}
	r.asking = false
	r.stale = r.stale || p.More
	var events []Event
	if len(p.Messages) > 0 && p.Messages[0].Seq > r.last+1 {
		events = r.skip(p.Messages[0].Seq-1, events)
	}
	for _, m := range p.Messages {
		events = r.accept(m, events)
	}
	if r.last == after && r.last < target {
		// The history has nothing more, but there was more: it is gone.
		next := target
		for seq := range r.ahead {
			next = min(next, seq-1)
		}
		events = r.skip(next, events)
	}
	c.catchUp(r)
	c.mu.Unlock()
	c.tell(events...)
	c.pump()
	return nil
}

// live takes a message that was just sent.
func (c *Client) live(m Message) {
	c.mu.Lock()
	r := c.rooms[m.Room]
	if r == nil {
		c.mu.Unlock() // left
		return
	}
	var events []Event
	if c.full() {
		r.target = max(r.target, m.Seq) // it is read from the history later
	} else {
		events = r.accept(m, nil)
		c.catchUp(r)
	}
	c.mu.Unlock()
	c.tell(events...)
	c.pump()
}

// told takes the other events of a room.
func (c *Client) told(name string, e Event) {
	c.mu.Lock()
	r := c.rooms[e.Room]
	if r == nil {
		c.mu.Unlock() // left
		return
	}
	if c.full() && name != protocol.EventResync {
		r.missed = true
		c.mu.Unlock()
		return
	}
	switch name {
	case protocol.EventTyping:
		e.Kind = EventTyping
	case protocol.EventJoined:
		e.Kind = EventJoined
	case protocol.EventLeft:
		e.Kind = EventLeft
	case protocol.EventMarked:
		e.Kind = EventMarked
	case protocol.EventResync:
		e.Kind = EventResync
		c.enqueue(c.rejoin(r)) // as the protocol asks for
	}
	c.mu.Unlock()
	c.tell(e)
	c.pump()
}

// membership takes what somebody is in a room from now on.
func (c *Client) membership(e Event) {
	c.mu.Lock()
	r := c.rooms[e.Room]
	switch {
	case e.Role != "" || r == nil || c.self != "" && c.self != e.User.ID:
	case !r.joined: // what came before the answer to the join is older than the answer
	case c.self != "":
		c.mu.Unlock()
		c.removed(r, e)
		return
	default: // whose connection this is, only the server knows
		k := c.internal(protocol.EventPresence, data{Room: e.Room}, func(json.RawMessage) error {
			c.tell(e)
			return nil
		})
		k.refused = func(err *Error) {
			if err.Code == fault.Public(realtime.ErrNotJoined).Code {
				c.removed(r, e)
			}
		}
		c.enqueue(k)
		c.mu.Unlock()
		c.pump()
		return
	}
	full := c.full()
	if full && r != nil {
		r.missed = true
	}
	c.mu.Unlock()
	if !full {
		c.tell(e)
	}
}

// removed forgets a room that the user was taken out of.
func (c *Client) removed(r *room, e Event) {
	c.mu.Lock()
	if c.rooms[e.Room] != r {
		c.mu.Unlock()
		return
	}
	delete(c.rooms, e.Room)
	c.enqueue(c.waitingFor(e.Room)...) // the server refuses them
	c.mu.Unlock()
	c.tell(Event{Kind: EventRemoved, Room: e.Room, User: e.User, By: e.By, Reason: e.Reason})
	c.pump()
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

// full reports whether Handle is so far behind that what can be read again has to wait.
func (c *Client) full() bool { return c.inbox != nil && c.inbox.isFull() }

// resume goes on with the rooms that waited for Handle to catch up.
func (c *Client) resume() {
	var events []Event
	c.mu.Lock()
	if c.calls == nil {
		c.mu.Unlock()
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.rooms)) {
		r := c.rooms[name]
		if r.missed {
			r.missed = false
			events = append(events, Event{Kind: EventResync, Room: name})
		}
		c.catchUp(r)
	}
	c.mu.Unlock()
	c.tell(events...)
	c.pump()
}

// tell gives events to Handle.
func (c *Client) tell(events ...Event) {
	if c.inbox != nil {
		c.inbox.put(events...)
		return
	}
	for _, e := range events {
		c.cfg.Handle(e)
	}
}
