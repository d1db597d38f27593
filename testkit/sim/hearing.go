package sim

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// said is what a frame holds.
type said struct {
	ID    int    `json:"id"`
	Event string `json:"event"`
	Data  struct {
		message
		Recovered bool      `json:"recovered"`
		Messages  []message `json:"messages"`
		Changes   []message `json:"changes"`
		More      bool      `json:"more"`
		Members   []author  `json:"members"`
		Typing    bool      `json:"typing"`
		Read      uint64    `json:"read"`
		Unread    uint64    `json:"unread"`
		Role      string    `json:"role"`
		Muted     time.Time `json:"mutedUntil"`
	} `json:"data"`
	Error struct {
		Code string `json:"code"`
	} `json:"error"`
}

type message struct {
	Room     string `json:"room"`
	Seq      uint64 `json:"seq"`
	ID       string `json:"id"`
	ClientID string `json:"clientId"`
	User     author `json:"user"`
	Text     string `json:"text"`

	Rev       uint64          `json:"rev"`
	EditedAt  string          `json:"editedAt"`
	DeletedAt string          `json:"deletedAt"`
	Reactions json.RawMessage `json:"reactions"`
}

type author struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (m message) entry() entry {
	return entry{m.Seq, m.ID, m.ClientID, m.User.ID, m.Text, m.Rev, m.EditedAt != "", m.DeletedAt != "", string(m.Reactions)}
}

// receive takes one frame.
func (c *client) receive(k *conn, payload []byte) {
	if c.conn != k {
		return
	}
	var s said
	if err := json.Unmarshal(payload, &s); err != nil {
		c.world.violate("%s got what it cannot read: %q", c.name, payload)
		return
	}
	if c.world.rules.about(s.Data.Room) && s.ID == 0 {
		c.hearByRight(s)
		return
	}
	switch s.Event {
	case "ack", "error":
		r, asked := c.requests[s.ID]
		if !asked {
			c.world.violate("%s got an answer to what it has not asked: %s", c.name, payload)
			return
		}
		delete(c.requests, s.ID)
		if c.world.rules.about(r.room) {
			c.answeredByRight(k, r, s)
			return
		}
		c.answer(r, s)
	case "message":
		c.message(s.Data.message)
	case "changed":
		c.changedLive(s.Data.message)
	case "resync":
		c.world.counts.Resyncs++
		if v := c.rooms[s.Data.Room]; v != nil {
			v.again = true
		}
	case "joined", "left":
		if v := c.rooms[s.Data.Room]; v != nil {
			v.heard = append(v.heard, s)
			v.come(s)
		}
	case "marked":
		c.marked(s)
	case "isTyping":
	default:
		c.world.violate("%s got an event that it does not know: %s", c.name, payload)
	}
}

// come notes who has come or gone.
func (v *view) come(s said) {
	switch {
	case v.present == nil: // the list will tell
	case s.Event == "joined":
		v.present[s.Data.User.ID] = true
	default:
		delete(v.present, s.Data.User.ID)
	}
}

// marked takes how far somebody has read. Two nodes may say so in another order than it was.
func (c *client) marked(s said) {
	v := c.rooms[s.Data.Room]
	if v == nil || !v.joined {
		c.world.violate("%s was told of room %q, which it has not joined, that %s has read it", c.name, s.Data.Room, s.Data.User.Name)
		return
	}
	c.world.counts.Marked++
	c.hasRead(s.Data.Room, s.Data.User.ID, s.Data.Read)
	if v.marks == nil {
		v.marks = map[string]uint64{}
	}
	v.marks[s.Data.User.ID] = max(v.marks[s.Data.User.ID], s.Data.Read)
}

// hasRead takes that somebody has read up to a message, which has to be there.
func (c *client) hasRead(room, who string, read uint64) {
	b, err := c.world.store.Messages.Bounds(context.Background(), room)
	if err != nil || read > b.Last {
		c.world.violate("%s was told that %s has read room %s up to message %d, and it ends at %d: %v", c.name, who, room, read, b.Last, err)
	}
}

// readTo takes how far the client's own user has read, by the answer to a request: at least so far as it was told before it asked.
func (c *client) readTo(r request, read uint64) {
	c.hasRead(r.room, c.person.name, read)
	if read < r.read {
		c.world.violate("%s asked by %s how far it has read room %s, and was told %d: it had read %d", c.name, r.event, r.room, read, r.read)
	}
	c.person.reads[r.room] = max(c.person.reads[r.room], read)
}

// markAnswered takes the answer to a mark.
func (c *client) markAnswered(r request, v *view, s said, failed bool) {
	if failed {
		c.world.counts.Refused++
		if code := s.Error.Code; code == "not_joined" || code == "not_a_member" && !c.person.left[r.room] {
			c.world.violate("%s is in room %s, and its mark was refused with %s", c.name, r.room, code)
		}
		return
	}
	c.readTo(r, s.Data.Read)
	v.read = &s
}

// message takes a live message.
func (c *client) message(m message) {
	v := c.rooms[m.Room]
	switch {
	case v == nil || !v.joined:
		c.world.violate("%s got a message of room %q, which it has not joined", c.name, m.Room)
	case v.again, v.joining: // what comes before the answer is in it, or behind it
	case m.Seq <= v.live:
		c.world.violate("%s got message %d of room %s after message %d", c.name, m.Seq, m.Room, v.live)
	case m.Seq > v.live+1:
		c.world.violate("%s got message %d of room %s after message %d, with a gap", c.name, m.Seq, m.Room, v.live)
	default:
		v.live = m.Seq
		c.world.counts.Live++
		switch {
		case m.Seq <= v.end(): // a page reached further than it had to
		case v.paged():
			c.read(v, m.Room, []message{m})
			v.target = m.Seq
		default:
			v.held = append(v.held, v.newest(m))
		}
	}
}

// answer takes the answer to a request.
func (c *client) answer(r request, s said) {
	v := c.rooms[r.room]
	failed := s.Event == "error"
	switch r.event {
	case "join_room":
		v.joining = false
		if !failed {
			c.joinedRoom(r, v, s)
		} else {
			v.again = v.joined // something may have come meanwhile
		}
	case "leave_room": // with an error, the membership that is stored may remain
		v.joining, v.joined, v.again, v.paging, v.reading, v.held, v.later = false, false, false, false, false, nil, nil
		v.present, v.heard = nil, nil
	case "presence":
		if failed {
			break
		}
		v.present = map[string]bool{}
		for _, who := range s.Data.Members {
			v.present[who.ID] = true
		}
		for _, h := range v.heard { // the list may be older
			v.come(h)
		}
		v.heard = nil
	case "mark":
		c.markAnswered(r, v, s, failed)
	case "message":
		c.acknowledged(r, v, s, failed)
	case "history":
		if r.clientID == "changes" {
			c.pageOfChanges(r, v, s, failed)
		} else {
			c.page(r, v, s, failed)
		}
	case "edit", "delete", "react":
		if failed {
			c.world.counts.Refused++
			if code := s.Error.Code; code == "message_not_found" || code == "not_allowed" || code == "text_invalid" || code == "reaction_invalid" {
				c.world.violate("%s wanted to %s a message of room %s, and was refused with %s", c.name, r.event, r.room, code)
			}
		}
	}
}

// changedLive takes a live change.
func (c *client) changedLive(m message) {
	v := c.rooms[m.Room]
	switch {
	case v == nil || !v.joined:
		c.world.violate("%s got a change of room %q, which it has not joined", c.name, m.Room)
	case v.again, v.joining:
	case m.Rev <= v.changed:
		c.world.violate("%s got change %d of room %s after change %d", c.name, m.Rev, m.Room, v.changed)
	case m.Seq > v.live:
		c.world.violate("%s got a change of message %d of room %s after message %d", c.name, m.Seq, m.Room, v.live)
	default:
		v.changed = m.Rev
		c.world.counts.Changed++
		c.apply(v, m)
		if !v.reading && !v.stale {
			v.rev = max(v.rev, m.Rev)
		}
	}
}

// apply puts a changed message in the place of what the client has of it.
func (c *client) apply(v *view, m message) {
	at := slices.IndexFunc(v.held, func(e entry) bool { return e.seq == m.Seq })
	switch {
	case m.Seq <= v.base:
	case m.Seq <= v.end():
		if e := &v.log[m.Seq-v.base-1]; e.rev < m.Rev {
			*e = m.entry()
		}
	case at >= 0:
		if e := &v.held[at]; e.rev < m.Rev {
			*e = m.entry()
		}
	default: // a page that is under way may be older
		if v.later == nil {
			v.later = map[uint64]message{}
		}
		v.later[m.Seq] = m
	}
}

// newest returns a message as the client knows it.
func (v *view) newest(m message) entry {
	if l, ok := v.later[m.Seq]; ok {
		delete(v.later, m.Seq)
		if l.Rev > m.Rev {
			return l.entry()
		}
	}
	return m.entry()
}

// readChanges applies what was changed while the client was away, and asks for what is missing.
func (c *client) readChanges(v *view, room string, changes []message, more bool) {
	for _, m := range changes {
		switch {
		case m.Room != room || m.Rev == 0:
			c.world.violate("%s got message %d of room %q with rev %d among the changes of room %s", c.name, m.Seq, m.Room, m.Rev, room)
		case m.Rev <= v.rev:
			c.world.violate("%s got change %d of room %s, and has every change up to %d", c.name, m.Rev, room, v.rev)
		}
		v.rev = max(v.rev, m.Rev)
		c.world.counts.Missed++
		c.apply(v, m)
	}
	if v.reading = more && v.rev < v.ahead; v.reading {
		c.request(request{event: "history", room: room, rev: v.rev, clientID: "changes"}, map[string]any{"changedAfter": v.rev})
		return
	}
	v.rev = max(v.rev, v.ahead, v.changed)
}

// pageOfChanges takes a page of history that is about changes.
func (c *client) pageOfChanges(r request, v *view, s said, failed bool) {
	switch {
	case !v.joined || !v.reading || r.rev != v.rev: // of a join before
	case failed:
		v.again = true
	default:
		c.readChanges(v, r.room, s.Data.Messages, s.Data.More)
	}
}

func (c *client) joinedRoom(r request, v *view, s said) {
	w := c.world
	last := s.Data.Seq
	if !s.Data.Recovered {
		w.violate("%s came back to room %s after message %d, and was told that messages are lost: the room ends at %d", c.name, r.room, r.since, last)
		return
	}
	switch {
	case last >= r.known:
	case w.fanout.heard(c.conn.process, r.room) <= last: // the cache is behind, which is documented
		w.counts.Untold++
	default:
		w.violate("%s joined room %s, which ends at %d: it knew message %d", c.name, r.room, last, r.known)
		return
	}
	c.readTo(r, s.Data.Read)
	if s.Data.Rev < r.rev {
		w.violate("%s joined room %s with every change up to %d, and the room has %d", c.name, r.room, r.rev, s.Data.Rev)
		return
	}
	messages := s.Data.Messages
	if r.newest {
		v.rev = s.Data.Rev
		v.base, v.log, v.known = last, nil, true
		if len(messages) > 0 {
			v.base = messages[0].Seq - 1
		}
	}
	v.known = true
	v.joined, v.again, v.paging = true, false, false
	v.held, v.live, v.target = nil, last, last
	v.changed, v.ahead, v.later, v.stale = s.Data.Rev, s.Data.Rev, nil, false
	ahead := r.since < v.end() && !r.newest // it was read on meanwhile
	if ahead {
		messages = slices.DeleteFunc(messages, func(m message) bool {
			if m.Seq <= v.end() {
				c.apply(v, m) // it may have changed since
			}
			return m.Seq <= v.end()
		})
	}
	c.read(v, r.room, messages)
	if r.newest && v.end() != last {
		w.violate("%s joined room %s, which ends at %d, and got messages up to %d", c.name, r.room, last, v.end())
	}
	c.readOn(v, r.room)
	if ahead { // what was read on may be older than the answer: all that was changed is read
		v.rev = min(v.rev, r.rev)
		c.readChanges(v, r.room, nil, true)
		return
	}
	// Some may have come live meanwhile.
	changes := slices.DeleteFunc(s.Data.Changes, func(m message) bool { return m.Rev <= v.rev })
	c.readChanges(v, r.room, changes, len(s.Data.Changes) > 0)
}

// read appends what was read to the log.
func (c *client) read(v *view, room string, messages []message) {
	for _, m := range messages {
		switch {
		case m.Room != room:
			c.world.violate("%s got a message of room %q among those of %s", c.name, m.Room, room)
		case m.Seq != v.end()+1:
			c.world.violate("%s read message %d of room %s after message %d", c.name, m.Seq, room, v.end())
			return
		default:
			v.log = append(v.log, v.newest(m))
			c.world.counts.Read++
		}
	}
}

// readOn asks for the next page, or lets live messages count.
func (c *client) readOn(v *view, room string) {
	if v.end() < v.target {
		v.paging = true
		c.world.counts.Pages++
		c.request(request{event: "history", room: room, since: v.end(), newest: false, clientID: "page"}, map[string]any{"after": v.end()})
		return
	}
	v.paging = false
	for _, e := range v.held {
		if e.seq == v.end()+1 {
			v.log = append(v.log, e)
		} else if e.seq > v.end() {
			c.world.violate("%s has message %d of room %s after message %d, with a gap", c.name, e.seq, room, v.end())
		}
	}
	v.held = nil
	v.target = v.end()
}

// page takes a page of history.
func (c *client) page(r request, v *view, s said, failed bool) {
	if r.clientID != "page" { // somebody looked at the last messages: they have to be in a row
		for i := 1; i < len(s.Data.Messages); i++ {
			if before, m := s.Data.Messages[i-1].Seq, s.Data.Messages[i].Seq; m != before+1 {
				c.world.violate("%s read message %d of room %s after message %d", c.name, m, r.room, before)
			}
		}
		return
	}
	if !v.joined || !v.paging || r.since != v.end() {
		return // of a join before
	}
	if failed {
		v.again = true // it joins again, from where it is
		return
	}
	if len(s.Data.Messages) == 0 {
		c.world.violate("%s asked for what comes after message %d of room %s, which reaches to %d, and got nothing", c.name, r.since, r.room, v.target)
		return
	}
	c.read(v, r.room, s.Data.Messages)
	c.readOn(v, r.room)
}

// acknowledged takes the answer to a message.
func (c *client) acknowledged(r request, v *view, s said, failed bool) {
	w := c.world
	at := slices.IndexFunc(c.drafts, func(d draft) bool { return d.clientID == r.clientID })
	if failed {
		if at >= 0 {
			c.drafts[at].asked = false
		}
		w.counts.Refused++
		return
	}
	if before, known := w.acked[r.clientID]; known && before.seq != s.Data.Seq {
		w.violate("%s was told that %s has the places %d and %d in room %s", c.name, r.clientID, before.seq, s.Data.Seq, r.room)
	}
	w.acked[r.clientID] = placed{r.room, s.Data.Seq, s.Data.ID}
	v.acked = max(v.acked, s.Data.Seq)
	c.person.reads[r.room] = max(c.person.reads[r.room], s.Data.Seq) // what one has sent, one has read
	if at >= 0 {
		c.drafts = slices.Delete(c.drafts, at, at+1)
	}
}

// placed is where an acknowledged message stands.
type placed struct {
	room string
	seq  uint64
	id   string
}

// unsettled says what the client still has to do.
func (c *client) unsettled() string {
	switch {
	case c.busy:
		return "waits for an answer"
	case c.conn == nil:
		return "is not connected"
	case c.ended:
		return "is connected, and its session has ended"
	case len(c.drafts) > 0:
		return "has a message that is not acknowledged"
	case len(c.requests) > 0:
		return "has asked, and has no answer"
	case c.conn.Queued() > 0: // so long it may be spared who comes, goes and reads
		return "has not read what was sent to it"
	}
	for _, v := range c.rooms {
		switch {
		case !v.paged() || v.joining || v.reading || len(v.held) > 0:
			return "has not read a room to its end"
		case v.present == nil:
			return "does not know who is in a room"
		}
	}
	return ""
}
