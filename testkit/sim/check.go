package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

const (
	// restWithin is how long it may take until everything is in order once nothing goes wrong any more.
	restWithin = 10 * time.Minute
	// forgetWithin is how long somebody may be listed as present who is not. In that time the lease of a node that has died ends, another
	// node that has held its own for longer ends it for good, rooms are compared, and what was missed is told.
	forgetWithin = 90 * time.Second
	// restored is how long it takes at most until the nodes have put their users into a Presence that was lost.
	restored = 30 * time.Second
)

// finish checks every promise once nothing goes wrong any more.
func (w *world) finish() {
	ctx := context.Background()
	if !w.rest(func() string { return "" }) {
		return
	}
	w.goAway()
	w.until(forgetWithin, func() bool { return false })
	if !w.rest(func() string { return "" }) {
		return
	}
	w.checkPresence(ctx)
	w.away = nil
	// Those who come back have everything, whatever the cache and the fan-out have lost, and although nobody says anything more.
	for i, c := range w.clients {
		if i%2 == 0 && c.conn != nil {
			c.cutOff()
		}
	}
	if !w.rest(func() string { return w.behind(func(i int) bool { return i%2 == 0 }, true) }) {
		return
	}
	// Those who stayed have everything as soon as somebody says something.
	for _, room := range w.rooms {
		w.clients[0].say(room)
	}
	if !w.rest(func() string { return w.behind(func(int) bool { return true }, false) }) {
		return
	}
	// And every change as soon as somebody changes something.
	for _, room := range w.rooms {
		c := w.clients[0]
		v := c.rooms[room]
		c.request(request{event: "react", room: room}, map[string]any{"seq": v.log[len(v.log)-1].seq, "key": "last"})
	}
	if !w.rest(func() string { return w.behind(func(int) bool { return true }, true) }) {
		return
	}
	// Who left a room, was cut off before the answer, and came back at once, may be no member any more although they are in it: they join again.
	for _, c := range w.clients {
		for _, room := range w.rooms {
			c.join(room)
		}
	}
	if !w.rest(func() string { return "" }) {
		return
	}
	// There is something to read: who has joined again just now has read what was there, and nobody is told of that.
	for _, room := range w.rooms {
		w.clients[0].say(room)
	}
	if !w.rest(func() string { return w.behind(func(int) bool { return true }, false) }) {
		return
	}
	// Everybody is told how far somebody has read, and each knows what is unread.
	last := w.clients[len(w.clients)-1]
	for _, room := range w.rooms {
		last.mark(room, last.rooms[room].end())
	}
	if !w.rest(func() string { return w.unheard(last) }) {
		return
	}
	// Of two more messages that others have not read one is deleted.
	for _, room := range w.rooms {
		w.clients[0].say(room)
		w.clients[0].say(room)
	}
	if !w.rest(func() string { return w.behind(func(int) bool { return true }, false) }) {
		return
	}
	for _, room := range w.rooms {
		w.clients[0].request(request{event: "delete", room: room}, map[string]any{"seq": w.clients[0].rooms[room].end()})
	}
	if !w.rest(func() string { return w.behind(func(int) bool { return true }, true) }) {
		return
	}
	for _, c := range w.clients {
		for _, room := range w.rooms {
			c.rooms[room].read = nil
			c.mark(room, 0)
		}
	}
	if !w.rest(func() string { return "" }) {
		return
	}
	if w.rules != nil && !w.finishRights() {
		return
	}
	w.checkRooms(ctx)
	w.checkMarks(ctx)
	w.checkSessions(ctx)
	w.checkEvents()
	w.checkMail(ctx)
}

// goAway cuts all connections of somebody; the nodes that they are on may be killed with them.
func (w *world) goAway() {
	w.away = pick(w.scheduler.random, w.people)
	// A node that dies before it has put its users into a Presence that was lost leaves nobody who could say that they have gone.
	killed := w.scheduler.chance(0.5) && (w.presenceLost == 0 || w.scheduler.now()-w.presenceLost > restored)
	for _, c := range w.clients {
		if c.person != w.away || c.conn == nil {
			continue
		}
		p := c.conn.process
		c.cutOff()
		for _, pr := range w.programs {
			if killed && pr.now == p && !p.dead.Load() {
				w.counts.Crashes++
				p.kill()
				w.scheduler.arrive(pr.name+" starts", between(100*time.Millisecond, 10*time.Second), func() string { w.begin(pr); return pr.now.name })
			}
		}
	}
	w.scheduler.trace.write(w.scheduler.now(), w.away.name+" goes away", "")
}

// rest waits until nothing waits any more, as restless and also say. It reports whether that came within restWithin.
func (w *world) rest(also func() string) bool {
	why := ""
	if w.until(restWithin, func() bool {
		if why = w.restless(); why == "" {
			why = also()
		}
		return why == ""
	}) {
		return true
	}
	w.violate("it does not come to rest: %s", why)
	return false
}

// restless says what still waits, or "".
func (w *world) restless() string {
	for _, pr := range w.programs {
		if !pr.up() {
			return pr.name + " is down"
		}
	}
	ctx := context.Background()
	states, err := w.store.MailQueue.Stats(ctx)
	if states[mail.Dead] > 0 { // a person decides
		w.replay(ctx)
		return "dead letters were replayed"
	}
	if err != nil || states[mail.Ready]+states[mail.Running] > 0 {
		return fmt.Sprintf("mails wait: %v %v", states, err)
	}
	for _, c := range w.clients {
		if c.person == w.away {
			continue
		}
		if what := c.unsettled(); what != "" {
			return c.name + " " + what
		}
	}
	if waiting, err := w.store.Outbox.Pending(ctx, 1); err != nil || len(waiting) > 0 {
		return fmt.Sprintf("an event waits in the outbox: %v %v", waiting, err)
	}
	if what := w.bus.waiting(); what != "" {
		return "an event waits on the bus: " + what
	}
	return ""
}

// replay does what an operator does with dead letters.
func (w *world) replay(ctx context.Context) {
	dead, err := w.store.MailQueue.List(ctx, mail.Filter{State: mail.Dead, Limit: 1000})
	for _, j := range dead {
		w.replays[string(j.To)]++
		err = w.store.MailQueue.Requeue(ctx, j.ID, time.Now(), nil)
	}
	if err != nil {
		w.violate("dead letters cannot be replayed: %v", err)
	}
}

// behind names one of some clients that lacks messages that are stored, or, with changes, changes, or returns "".
func (w *world) behind(some func(i int) bool, changes bool) string {
	for i, c := range w.clients {
		for _, room := range w.rooms {
			b, err := w.store.Messages.Bounds(context.Background(), room)
			last := b.Last
			if end := c.rooms[room].end(); some(i) && (err != nil || end < last) {
				return fmt.Sprintf("%s has room %s up to message %d, and the store has %d", c.name, room, end, last)
			}
			if rev := c.rooms[room].rev; some(i) && changes && rev < b.Rev {
				return fmt.Sprintf("%s has room %s up to change %d, and the store has %d", c.name, room, rev, b.Rev)
			}
		}
	}
	return ""
}

// checkRooms compares what everybody has with what is stored.
func (w *world) checkRooms(ctx context.Context) {
	for _, room := range w.rooms {
		stored, err := w.messages.List(ctx, room, chat.Range{Limit: 1 << 20})
		if err != nil {
			w.violate("the store cannot be read: %v", err)
			return
		}
		byClient := map[string]uint64{}
		for i, m := range stored {
			if m.Seq != uint64(i)+1 {
				w.violate("room %s has message %d in place %d", room, m.Seq, i+1)
			}
			if before, twice := byClient[m.ClientID]; twice {
				w.violate("room %s has %s twice, as messages %d and %d", room, m.ClientID, before, m.Seq)
			}
			byClient[m.ClientID] = m.Seq
			author, number, _ := strings.Cut(m.ClientID, "-")
			said := m.Text == fmt.Sprintf("%s says %s", author, number) && m.EditedAt.IsZero()
			if edited := !m.EditedAt.IsZero() && strings.Contains(m.Text, " edits "); !said && !edited && (m.Text != "" || m.DeletedAt.IsZero()) {
				w.violate("room %s has message %d %q, which nobody has sent", room, m.Seq, m.Text)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(w.acked)) {
			if at := w.acked[name]; at.room == room && byClient[name] != at.seq {
				w.violate("%s was acknowledged as message %d of room %s, and is stored as %d", name, at.seq, room, byClient[name])
			}
		}
		for _, c := range w.clients {
			c.compare(room, stored)
		}
	}
}

// unheard names a client that was not told that somebody has read a room to its end, or returns "".
func (w *world) unheard(reader *client) string {
	for _, c := range w.clients {
		for _, room := range w.rooms {
			if end := reader.rooms[room].end(); c.rooms[room].marks[string(reader.person.id)] < end {
				return fmt.Sprintf("%s was not told that %s has read room %s up to message %d", c.name, reader.person.name, room, end)
			}
		}
	}
	return ""
}

// checkMarks compares how far everybody has read, and what is unread, as they were told, with what is stored.
func (w *world) checkMarks(ctx context.Context) {
	unread := func(room string, read uint64) (n uint64) {
		stored, err := w.messages.List(ctx, room, chat.Range{After: read, Limit: 1 << 20})
		if err != nil {
			w.violate("the store cannot be read: %v", err)
		}
		for _, m := range stored {
			if m.DeletedAt.IsZero() {
				n++
			}
		}
		return n
	}
	for _, c := range w.clients {
		mine, err := w.store.Members.Mine(ctx, c.person.id, chat.Place{}, 1<<10)
		mine = slices.DeleteFunc(mine, func(m chat.MyRoom) bool { return w.rules.about(m.Room) })
		if err != nil || len(mine) != len(w.rooms) {
			w.violate("%s is in %d rooms, and the store has %d: %v", c.name, len(w.rooms), len(mine), err)
			return
		}
		for _, m := range mine {
			told := c.rooms[m.Room].read
			switch {
			case told == nil:
				w.violate("%s asked how far it has read room %s, and was refused", c.name, m.Room)
			case told.Data.Read != m.Read || m.Read < c.person.reads[m.Room]:
				w.violate("%s was told that it has read room %s up to message %d, and once up to %d: the store has %d", c.name, m.Room, told.Data.Read, c.person.reads[m.Room], m.Read)
			case told.Data.Unread != unread(m.Room, m.Read) || m.Unread != told.Data.Unread:
				w.violate("%s was told that %d messages of room %s are unread behind message %d, the store lists %d, and it has %d", c.name, told.Data.Unread, m.Room, m.Read, m.Unread, unread(m.Room, m.Read))
			}
		}
	}
}

// compare compares what a client has of a room with what is stored.
func (c *client) compare(room string, stored []chat.Message) {
	v := c.rooms[room]
	if v.end() != uint64(len(stored)) {
		c.world.violate("%s has room %s up to message %d, and the store has %d", c.name, room, v.end(), len(stored))
		return
	}
	for i, e := range v.log {
		m := stored[v.base+uint64(i)]
		if want := entryOf(m); e != want {
			c.world.violate("%s has %+v in room %s, where the store has %+v", c.name, e, room, want)
			return
		}
	}
}

// entryOf is a message as clients see it.
func entryOf(m chat.Message) entry {
	var seen message
	text := protocol.AppendData(nil, protocol.Own().ServerEvent(protocol.EventChanged).Data, protocol.MessageData(m))
	if err := json.Unmarshal(text, &seen); err != nil {
		panic(err)
	}
	return seen.entry()
}

// checkPresence compares who is listed as present in a room with who is there.
func (w *world) checkPresence(ctx context.Context) {
	for _, room := range w.rooms {
		there := map[user.ID]bool{}
		for _, c := range w.clients {
			there[c.person.id] = c.person != w.away // everybody else is in every room by now
		}
		users, _, err := w.presence.List(ctx, time.Now(), room, 1000)
		if err != nil {
			w.violate("presence cannot be read: %v", err)
			return
		}
		for _, who := range users {
			if !there[who.ID] {
				w.violate("%s is listed as present in room %s, and is not there", who.Name, room)
			}
			delete(there, who.ID)
		}
		for _, c := range w.clients {
			if there[c.person.id] {
				w.violate("%s is in room %s, and is not listed as present", c.name, room)
			}
			if c.person == w.away {
				continue
			}
			if c.rooms[room].present[string(w.away.id)] {
				w.violate("%s was told that %s is in room %s, and not that they have left", c.name, w.away.name, room)
			}
		}
	}
}

// checkSessions looks for connections whose session has ended.
func (w *world) checkSessions(ctx context.Context) {
	for _, c := range w.conns {
		if c.over || c.who.SessionID == "" {
			continue
		}
		if s, err := w.store.Sessions.ByID(ctx, c.who.SessionID); err != nil || !s.RevokedAt.IsZero() {
			w.violate("connection %s is open, and its session has ended", c.name)
		}
	}
}

// checkEvents compares what was committed with what the bus has taken: each event, and those of one key in their order.
func (w *world) checkEvents() {
	type key struct{ topic, key string }
	taken := map[key][]string{}
	seen := map[string]bool{}
	for _, e := range w.bus.taken {
		if !seen[e.ID] {
			seen[e.ID] = true
			k := key{e.Topic, e.Key}
			taken[k] = append(taken[k], e.ID)
		}
	}
	for _, e := range w.ledger.events {
		k := key{e.Topic, e.Key}
		switch {
		case !seen[e.ID]:
			w.violate("event %s %s was committed, and is not on the bus", e.Type, e.ID)
		case taken[k][0] != e.ID:
			w.violate("event %s %s came on the bus behind %s, which was committed later", e.Type, e.ID, taken[k][0])
		default:
			taken[k] = taken[k][1:]
		}
	}
	for k, left := range taken {
		if len(left) > 0 {
			w.violate("event %s of key %s is on the bus, and was not committed", left[0], k.key)
		}
	}
	if len(w.bus.buried) > 0 {
		w.violate("event %s was set aside", w.bus.buried[0].ID)
	}
}

// checkMail compares the mails that are owed with those that were sent.
func (w *world) checkMail(ctx context.Context) {
	jobs, err := w.store.MailQueue.List(ctx, mail.Filter{Limit: 1000})
	if err != nil {
		w.violate("the mail queue cannot be read: %v", err)
		return
	}
	owed := map[string]int{} // mails to an address
	events := 0
	for _, e := range w.ledger.events {
		if e.Topic != mail.Topic {
			continue
		}
		events++
		at := slices.IndexFunc(jobs, func(j mail.Job) bool { return j.Key == e.ID })
		if at < 0 {
			w.violate("event %s has no mail", e.ID)
			return
		}
		owed[string(jobs[at].To)]++
	}
	if events < w.counts.SignUps {
		w.violate("%d sign-ups were acknowledged, and %d are stored", w.counts.SignUps, events)
	}
	sent := map[string]map[string]bool{}
	for _, m := range w.smtp.mails {
		if sent[m.To] == nil {
			sent[m.To] = map[string]bool{}
		}
		sent[m.To][m.ID] = true
	}
	for _, p := range w.people {
		if n := len(sent[p.email]); n != owed[p.email] {
			w.violate("%d mails are owed to %s, and %d were sent", owed[p.email], p.email, n)
		}
		for _, id := range slices.Sorted(maps.Keys(sent[p.email])) {
			if n, most := w.smtp.tries[id], maxAttempts*(1+w.replays[p.email]); n > most {
				w.violate("mail %s was tried %d times, and may be %d times", id, n, most)
			}
		}
		delete(sent, p.email)
	}
	if len(sent) > 0 {
		w.violate("%d mails went to nobody who has signed up", len(sent))
	}
}

// maxAttempts is how often a mail is tried.
const maxAttempts = 3
