package wsclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
)

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
