package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/chat"
)

// hearByRight takes an event of a room in which people have rights.
func (c *client) hearByRight(s said) {
	room := s.Data.Room
	seat := c.seat(room)
	switch s.Event {
	case "membership":
		c.becomes(seat, s)
	case "resync":
		seat.again = true
	case "message":
		m := s.Data.message
		switch {
		case seat.joining, seat.again:
		case !seat.joined:
			c.world.violate("%s got message %d of %s, in which it is not", c.name, m.Seq, room)
		case m.Seq != seat.live+1:
			c.world.violate("%s got message %d of %s after message %d", c.name, m.Seq, room, seat.live)
		default:
			seat.live = m.Seq
			c.world.counts.Live++
		}
	case "changed", "joined", "left", "marked", "isTyping":
		if !seat.joined && !seat.joining {
			c.world.violate("%s got %s of %s, in which it is not", c.name, s.Event, room)
		}
	default:
		c.world.violate("%s got an event that it does not know: %s", c.name, s.Event)
	}
}

// becomes takes what the client's user is told to be.
func (c *client) becomes(seat *seat, s said) {
	if s.Data.User.ID != string(c.who.UserID) {
		if !seat.joined && !seat.joining {
			c.world.violate("%s was told what %s is in %s, in which it is not", c.name, s.Data.User.Name, s.Data.Room)
		}
		return
	}
	seat.told, seat.role, seat.muted = true, chat.Role(s.Data.Role), s.Data.Muted
	if seat.role == "" {
		if seat.joining {
			seat.out = true
		} else {
			seat.joined = false
		}
	}
}

// answeredByRight takes the answer to a request.
func (c *client) answeredByRight(k *conn, r request, s said) {
	rules, id := c.world.rules, c.who.UserID
	seat := c.seat(r.room)
	failed := s.Event == "error"
	code := s.Error.Code
	rules.mu.Lock()
	came := rules.came[fmt.Sprintf("%s/%d", k.name, s.ID)]
	rules.mu.Unlock()
	switch r.event {
	case "join_room":
		seat.joining = false
		if !failed {
			seat.joined, seat.live, seat.again, seat.told = true, s.Data.Seq, false, false
			seat.out = false // it was put out before this answer, which a second join_room may follow
			rules.admits(k.process, r.room, id, comes, came, "has joined")
			return
		}
		seat.again = seat.joined
		if seat.out {
			seat.joined = false
		}
		switch code {
		case "banned", "room_not_found":
			c.world.counts.Denied++
			rules.refusesAtOnce(r.room, id, comes, came, code)
		case "removed":
			seat.joined = false
			rules.refuses(k.process, r.room, id, comes, came, code)
		}
	case "leave_room":
		if !failed || code != "last_owner" {
			seat.joined = false
		}
		seat.joining, seat.again = false, seat.again || failed
	case "message", "react":
		if failed && (code == "muted" || code == "role_lacks_right") {
			c.world.counts.Denied++
			rules.refuses(k.process, r.room, id, speaks, came, code)
		}
	}
}

// finishRights looks at what everybody is once nothing goes wrong any more: it was told to whom it concerns, and everybody may do what they may, and nothing else.
func (w *world) finishRights() bool {
	w.until(behindMost, func() bool { return false })
	now := time.Now()
	for _, c := range w.clients {
		for _, known := range w.rules.rooms {
			seat, all := c.seats[known.name], known.are[c.person.id]
			if seat == nil || !seat.joined || len(all) == 0 {
				continue
			}
			is := all[len(all)-1]
			if !is.allows(reads, now, 0) {
				w.violate("%s was not told that it is out of %s", c.name, known.name)
				return false
			}
			if seat.told {
				role := is.role
				if is.curbed {
					role = chat.Reader
				}
				if seat.role != role {
					w.violate("%s was told last that it is %q in %s, and it is %q", c.name, seat.role, known.name, role)
					return false
				}
				if muted := is.mute.holds(now, 0); muted != seat.muted.After(now) {
					w.violate("%s was told last that it is muted in %s until %v, and it is muted: %v", c.name, known.name, seat.muted, muted)
					return false
				}
			}
		}
	}
	if !w.rest(func() string { return "" }) {
		return false
	}
	return w.everybody(func(c *client, room string) { c.come(room) }) &&
		w.everybody(func(c *client, room string) { c.sayByRight(room) }) && w.allHeard()
}

// everybody lets every client do something in every room, and waits for the answers.
func (w *world) everybody(do func(c *client, room string)) bool {
	for _, known := range w.rules.rooms {
		for _, c := range w.clients {
			do(c, known.name)
		}
	}
	return w.rest(func() string { return "" })
}

// allHeard compares what those who are in rooms have heard with what is stored.
func (w *world) allHeard() bool {
	return w.rest(func() string {
		for _, known := range w.rules.rooms {
			b, err := w.store.Messages.Bounds(context.Background(), known.name)
			for _, c := range w.clients {
				if s := c.seat(known.name); err != nil || s.joined && s.live != b.Last {
					return fmt.Sprintf("%s has %s up to message %d, and the store has %d", c.name, known.name, s.live, b.Last)
				}
			}
		}
		return ""
	})
}
