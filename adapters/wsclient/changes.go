package wsclient

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
)

// ErrNoChanges is what [Client.Edit], [Client.Delete], [Client.React] and [Client.Unreact] return in a room whose server is too old
// for them: see [Client.Edit].
var ErrNoChanges = fault.Wrap(fault.Unavailable, fmt.Errorf("wsclient: the server is too old to change messages"))

// Edit gives a message of one's own another text, and returns the message's Rev when that is stored; its data stays. An edit to what
// the message says already changes nothing. If ctx ends first, it may or may not be stored.
//
// If the connection is lost before the answer, it is sent again on the next one: what the same user has made of the message
// meanwhile, with another client, is overwritten. A text or a sequence that the server would refuse in any case is an error of kind
// fault.Invalid or fault.NotFound, and is not sent. Other refusals are an *[Error].
//
// The room is to be joined first. Then nothing is sent to a server that is too old, and the error is [ErrNoChanges]; if a connection was
// lost to a newer one before the answer, it may be stored all the same. In a room that is not joined, such a server closes the
// connection with 4400, and the client ends.
func (c *Client) Edit(ctx context.Context, name string, seq uint64, text string) (rev uint64, err error) {
	return c.EditData(ctx, name, seq, text, nil)
}

// EditData is like [Client.Edit], and gives the message other data too, as of a [Draft]. With nil it keeps what it has.
func (c *Client) EditData(ctx context.Context, name string, seq uint64, text string, extra any) (rev uint64, err error) {
	if err := chat.CheckText(text); err != nil {
		return 0, err
	}
	encoded, err := attached(extra)
	if err != nil {
		return 0, err
	}
	return c.change(ctx, protocol.EventEdit, data{Room: name, Seq: seq, Text: text, Data: encoded})
}

// Delete erases a message of one's own: its text, data and reactions. Its place in the room stays. It returns the message's
// Rev when that is stored. A message that was deleted already stays so. See [Client.Edit] for errors, for a lost connection and
// for an older server.
func (c *Client) Delete(ctx context.Context, name string, seq uint64) (rev uint64, err error) {
	return c.change(ctx, protocol.EventDelete, data{Room: name, Seq: seq})
}

// React reacts to a message with a key: a short text, mostly an emoji ([chat.CheckReaction] says what the server takes). It returns
// the message's Rev when that is stored. A reaction that is there already stays. See [Client.Edit] for errors, for a
// lost connection and for an older server.
func (c *Client) React(ctx context.Context, name string, seq uint64, key string) (rev uint64, err error) {
	return c.react(ctx, name, seq, key, true)
}

// Unreact takes a reaction back, and is otherwise like [Client.React]. One that is not there stays away.
func (c *Client) Unreact(ctx context.Context, name string, seq uint64, key string) (rev uint64, err error) {
	return c.react(ctx, name, seq, key, false)
}

func (c *Client) react(ctx context.Context, name string, seq uint64, key string, on bool) (rev uint64, err error) {
	if err := chat.CheckReaction(key); err != nil {
		return 0, err
	}
	d := data{Room: name, Seq: seq, Key: key}
	if !on {
		d.On = &on
	}
	return c.change(ctx, protocol.EventReact, d)
}

func (c *Client) change(ctx context.Context, event string, d data) (rev uint64, err error) {
	if d.Seq == 0 || d.Seq > protocol.MaxInteger {
		return 0, chat.ErrMessageNotFound // anything else would end the connection
	}
	got, err := request[struct {
		Rev uint64 `json:"rev"`
	}](ctx, c, &call{event: event, room: d.Room, data: d, serves: func(r *room) bool { return r.told }, older: ErrNoChanges})
	return got.Rev, err
}

// changesKnown says whether the server of the present connection knows changes of messages. An older one takes the rev of a join for a
// bad event.
type changesKnown uint8

const (
	changesUnknown changesKnown = iota
	changesAsked                // a join with a rev was the first to be sent, and is not answered
	changesTold                 // a join was answered with a rev
	changesNever                // a join with a rev has ended the last connection: none is sent until one is answered with a rev
)

// revisions is where a room's changes stand.
//
// What was given to Handle has every change up to rev, whether by EventChanged or in the message itself: messages above room.last get
// theirs before or while they are delivered. From revTarget on, the server tells every change on this connection; up to there the
// history is asked.
type revisions struct {
	// told says that the server has answered the last join with a rev. Otherwise it is an older one.
	told bool
	rev  uint64
	// revTarget is the rev up to which changes have to be read.
	revTarget uint64
	// askingChanges says that a part of the changes is under way.
	askingChanges bool
	// later are changes above revTarget that came before those up to it were read.
	later []Message
	// shown has the rev of messages that were delivered with a higher one than rev, by sequence.
	shown map[uint64]uint64
}

// show notes that a message was delivered with changes that are not due yet.
func (v *revisions) show(m Message) {
	if len(v.shown) >= maxAhead {
		return // they are told again
	}
	if v.shown == nil {
		v.shown = make(map[uint64]uint64)
	}
	v.shown[m.Seq] = m.Rev
}

// lag notes that a change was left out: it is read later, with all others up to it.
func (v *revisions) lag(rev uint64) {
	v.revTarget = max(v.revTarget, rev)
	v.later = nil // which are older
}

// rejoined takes what the answer to a join says of changes: the room's rev, and those of messages up to since. setBack says that the
// room has fewer changes than were told. It comes before the messages of the answer.
func (r *room) rejoined(since *uint64, rev uint64, setBack bool, changes []Message, events []Event) []Event {
	if setBack {
		// They count from there.
		r.rev, r.revTarget, r.later, r.shown = rev, rev, nil, nil
		return append(events, Event{Kind: EventResync, Room: r.name, Lost: true})
	}
	r.revTarget = max(r.revTarget, rev)
	// They are all up to their last one only if later messages are still to be delivered, and in a state that is as new.
	// Otherwise all are read.
	if since == nil || *since != r.last || len(r.ahead) > 0 {
		return events
	}
	for _, m := range changes {
		if m.Rev > rev || m.Seq > r.last {
			break // it was read after the messages of the answer, and comes live
		}
		events, _ = r.change(m, events)
	}
	return r.settle(events)
}

// change takes the next change, and appends it to events unless it was shown. It reports false, and does nothing, if it has to wait.
func (r *room) change(m Message, events []Event) ([]Event, bool) {
	switch {
	case m.Rev <= r.rev:
		return events, true
	case m.Seq > r.last:
		if !r.hold(m) { // until it is delivered, as what it is now
			return events, false
		}
		r.rev = m.Rev
		return events, true
	}
	r.rev = m.Rev
	if shown := r.shown[m.Seq]; shown >= m.Rev {
		return events, true
	}
	return append(events, Event{Kind: EventChanged, Room: r.name, Message: m}), true
}

// settle appends the changes that have waited, if those before have been read.
func (r *room) settle(events []Event) []Event {
	if later := r.later; r.rev >= r.revTarget && len(later) > 0 {
		r.later = nil
		for ok := true; len(later) > 0 && ok; later = later[1:] {
			if events, ok = r.change(later[0], events); !ok {
				r.lag(later[len(later)-1].Rev)
			}
		}
	}
	if len(r.shown) > 0 {
		maps.DeleteFunc(r.shown, func(_, rev uint64) bool { return rev <= r.rev })
	}
	return events
}

// catchUpChanges asks for the next part of the changes, if one is needed. c.mu is held.
func (c *Client) catchUpChanges(r *room) {
	if !r.told || r.askingChanges || r.rev >= r.revTarget || len(r.ahead) >= maxAhead {
		return
	}
	r.askingChanges = true
	after, target := r.rev, r.revTarget
	k := c.internal(protocol.EventHistory, data{Room: r.name, ChangedAfter: &after}, func(ack json.RawMessage) error {
		return c.changesPage(r, after, target, ack)
	})
	k.refused = func(*Error) { c.Drop() } // and join again on the next connection
	c.enqueue(k)
}

// changesPage takes the part of the changes behind after, which was asked for when the room was known to have those up to target.
func (c *Client) changesPage(r *room, after, target uint64, ack json.RawMessage) error {
	var p Page
	if err := decode(ack, &p); err != nil {
		c.Drop()
		return err
	}
	c.mu.Lock()
	if c.rooms[r.name] != r || !r.askingChanges {
		c.mu.Unlock()
		return nil // left meanwhile
	}
	r.askingChanges = false
	var events []Event
	ok := true
	for i := 0; i < len(p.Messages) && ok; i++ {
		events, ok = r.change(p.Messages[i], events)
	}
	if n := len(p.Messages); ok && (!p.More || n == 0 || p.Messages[n-1].Rev <= after) {
		r.rev = max(r.rev, target) // the messages of those that are missing are gone
	}
	events = r.settle(events)
	c.catchUp(r)
	c.mu.Unlock()
	c.tell(events...)
	c.pump()
	return nil
}

// changed takes a change that was just made.
func (c *Client) changed(in *incoming) error {
	var m Message
	wrong := decode(in.Data, &m)
	c.mu.Lock()
	r := c.rooms[m.Room]
	if r == nil || !r.told {
		c.mu.Unlock()
		return c.custom(in) // an older server may have an event of an application by this name
	}
	if wrong != nil {
		c.mu.Unlock()
		return wrong
	}
	var events []Event
	switch {
	case m.Rev <= r.rev:
	case c.full(), r.rev < r.revTarget && len(r.later) >= maxAhead:
		r.lag(m.Rev)
	case r.rev < r.revTarget:
		r.later = append(r.later, m)
	default:
		var ok bool
		if events, ok = r.change(m, nil); !ok {
			r.lag(m.Rev)
		}
		events = r.settle(events)
	}
	c.catchUp(r)
	c.mu.Unlock()
	c.tell(events...)
	c.pump()
	return nil
}
