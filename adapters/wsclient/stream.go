package wsclient

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
)

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
