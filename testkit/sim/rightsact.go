package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// seat is a room as a client knows it in which it has rights: less than a view, since what is told of messages is checked there.
type seat struct {
	joined, joining bool
	out             bool   // while it was joining, it was told that it is out
	live            uint64 // the last message that came
	again           bool

	told  bool // what it is was told
	role  chat.Role
	muted time.Time
}

func (c *client) seat(room string) *seat {
	s := c.seats[room]
	if s == nil {
		s = &seat{}
		c.seats[room] = s
	}
	return s
}

// seatPlaces is where the client was.
func (c *client) seatPlaces() (places []realtime.Place) {
	c.going = nil
	for _, known := range c.world.rules.rooms {
		if s := c.seats[known.name]; s != nil && s.joined && !s.again && c.world.scheduler.chance(0.7) {
			places = append(places, realtime.Place{Room: known.name, Seq: s.live})
			c.going = append(c.going, known.name)
		}
	}
	return places
}

// takeSeats begins anew on a connection.
func (c *client) takeSeats(resumed bool) {
	before := c.seats
	c.seats = map[string]*seat{}
	for _, room := range c.going {
		if resumed {
			c.seats[room] = &seat{joined: true, live: before[room].live}
		}
	}
	c.going = nil
}

// clock is that of a node: it may be behind.
func (r *rules) clock(pr *program) func() time.Time {
	if pr.behind == 0 {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(-pr.behind) }
}

// onTime gives Presence the right time: what becomes of leases where clocks differ is not looked at.
type onTime struct{ realtime.Presence }

func (o onTime) Enter(ctx context.Context, _ time.Time, node, room string, who chat.Author) (bool, error) {
	return o.Presence.Enter(ctx, time.Now(), node, room, who)
}

func (o onTime) Exit(ctx context.Context, _ time.Time, node, room string, who chat.Author) (bool, error) {
	return o.Presence.Exit(ctx, time.Now(), node, room, who)
}

func (o onTime) List(ctx context.Context, _ time.Time, room string, limit int) ([]chat.Author, int, error) {
	return o.Presence.List(ctx, time.Now(), room, limit)
}

func (o onTime) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	now := time.Now()
	r.Until = r.Until.Add(now.Sub(r.Now))
	r.Now = now
	return o.Presence.Renew(ctx, r)
}

// actByRight does one thing in a room in which people have rights.
func (c *client) actByRight() string {
	w := c.world
	r := w.scheduler.random
	rules := w.rules
	var live []string
	for _, known := range rules.rooms {
		if all := known.are[c.person.id]; len(all) > 0 && !all[len(all)-1].gone || r.IntN(20) == 0 {
			live = append(live, known.name)
		}
	}
	n := r.IntN(100)
	switch {
	case len(live) < 2 || n == 0:
		return c.create()
	case n < 3:
		return c.direct()
	}
	room := pick(r, live)
	s := c.seat(room)
	switch {
	case n < 22:
		if !s.joined && !s.joining {
			return c.come(room)
		}
		return c.sayByRight(room)
	case n < 30:
		return c.sayByRight(room)
	case n < 33:
		return c.come(room)
	case n < 36:
		if !s.joined || s.joining {
			return rests
		}
		s.joining = true
		return c.ask("leave_room", room, nil)
	case n < 39:
		return c.ask("history", room, map[string]any{"limit": 1 + r.IntN(5)})
	case n < 41:
		return c.ask("presence", room, nil)
	case n < 43:
		return c.ask("isTyping", room, map[string]any{"typing": true})
	case n < 47 && s.live > 0:
		c.changes++
		key := fmt.Sprintf("%s-k%d", c.name, c.changes)
		return c.request(request{event: "react", room: room, clientID: key}, map[string]any{"seq": 1 + r.Uint64N(s.live), "key": key, "on": true})
	case n < 50:
		return c.ask("mark", room, map[string]any{"read": 0})
	case n < 58:
		return c.restSay(room)
	case n < 62:
		return c.restRead(room)
	default:
		return c.rule(room)
	}
}

func (c *client) come(room string) string {
	s := c.seat(room)
	s.joining, s.out = true, false
	return c.ask("join_room", room, nil)
}

func (c *client) sayByRight(room string) string {
	c.sent++
	id := fmt.Sprintf("%s-r%d", c.name, c.sent)
	c.request(request{event: "message", room: room, clientID: id}, map[string]any{"clientId": id, "text": id})
	return "says " + id + " in " + room
}

// node is one that the client calls over REST.
func (w *world) someNode() *program {
	var up []*program
	for _, pr := range w.programs {
		if pr.isNode() {
			up = append(up, pr)
		}
	}
	return pick(w.scheduler.random, up)
}

func (c *client) me() chat.Author { return chat.Author{ID: c.who.UserID, Name: c.person.name} }

// restSay sends as the edge does it.
func (c *client) restSay(room string) string {
	c.sent++
	id := fmt.Sprintf("rest-%s-%d", c.name, c.sent)
	pr, me, rules := c.world.someNode(), c.me(), c.world.rules
	rules.arrives(id)
	came := c.world.scheduler.now()
	return c.serve(pr, "sends "+id+" to "+room, func(p *process) error {
		at, err := pr.node.Chat.Standing(p.ctx, chat.Actor{Author: me}, room, chat.RightSpeak)
		if err == nil && at.Mute.Kind != "" {
			err = at.Mute.Refusal()
		}
		if err == nil {
			_, err = pr.node.Send(p.ctx, chat.Draft{Room: at.Room.Name, ClientID: id, Author: me, Text: id})
		}
		return err
	}, func(err error) string {
		c.denied(room, me.ID, speaks, came, err)
		return ""
	})
}

// denied looks at what was refused over REST, where the store is asked.
func (c *client) denied(room string, id user.ID, what may, came time.Duration, err error) {
	kind := fault.KindOf(err)
	if err == nil || kind != fault.Forbidden && kind != fault.NotFound {
		return
	}
	c.world.counts.Denied++
	c.world.rules.refusesAtOnce(room, id, what, came, fault.Public(err).Code)
}

// refusesAtOnce looks at a refusal by somebody who has asked the store.
func (r *rules) refusesAtOnce(room string, id user.ID, what may, came time.Duration, code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if why, has := r.has(room, id, what); has && came > why.since {
		r.breaks("%s was refused in %s with %s: that may be since %v, by %s", r.name(id), room, code, why.since, why.why)
	}
}

// restRead reads as the edge does it.
func (c *client) restRead(room string) string {
	pr, me, rules := c.world.someNode(), c.me(), c.world.rules
	came := c.world.scheduler.now()
	return c.serve(pr, "reads "+room, func(p *process) error {
		name, err := pr.node.Chat.Member(p.ctx, me, room)
		if err != nil {
			return err
		}
		_, err = pr.node.Chat.History(p.ctx, me, name, chat.Range{Limit: 3, Newest: true})
		return err
	}, func(err error) string {
		c.denied(room, me.ID, reads, came, err)
		if err == nil {
			rules.admits(nil, room, me.ID, reads, came, "has read over REST")
		}
		return ""
	})
}

// admits looks at what was let through by a node that remembers which rooms there are, or by nil, who has asked the store.
func (r *rules) admits(p *process, room string, id user.ID, what may, came time.Duration, did string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, why := range r.lacks(room, id, what) {
		most := why.since
		if p != nil {
			most = r.deadline(p, room, id, why)
		}
		if came > most {
			r.breaks("%s %s %s, and may not since %v, by %s", r.name(id), did, room, why.since, why.why)
		}
	}
}

// act does something over REST to rights.
func (c *client) deed(what string, right chat.Right, heard heardOf, do func(ctx context.Context, s *chat.Service, me chat.Actor) error) string {
	w := c.world
	pr := w.someNode()
	me := chat.Actor{Author: c.me()}
	d := deed{by: me.ID, right: right, since: w.scheduler.now()}
	if w.scheduler.chance(0.3) { // an operator
		me = chat.Actor{Author: chat.System, Any: true}
		what += " as an operator"
	}
	return c.serve(pr, what, func(p *process) error {
		ctx, began := p.ctx, w.scheduler.now()
		if !me.Any && right != "" {
			ctx = context.WithValue(ctx, deedKey{}, d)
		}
		err := do(ctx, pr.node.Chat, me)
		// Where it has changed nothing, as where somebody who is out is removed, the node has learnt nothing.
		if err == nil && !p.dead.Load() && heard.room != "" && w.rules.changed(heard, began) {
			w.rules.knows(p, heard)
		}
		return err
	}, func(err error) string {
		if err == nil {
			w.counts.Deeds++
		} else if errors.Is(err, fault.Forbidden) {
			w.counts.Denied++
		}
		return ""
	})
}

// create makes a room.
func (c *client) create() string {
	w := c.world
	w.rules.made++
	name := fmt.Sprintf("r%d", w.rules.made)
	kind := pick(w.scheduler.random, []chat.RoomKind{chat.Public, chat.Private})
	me := chat.Actor{Author: c.me()}
	pr := w.someNode()
	return c.serve(pr, "makes "+name+", "+string(kind), func(p *process) error {
		_, err := pr.node.Chat.CreateRoom(p.ctx, me, name, chat.Details{Kind: &kind})
		return err
	}, func(error) string { return "" })
}

func (c *client) other() *person {
	for range 10 {
		if p := pick(c.world.scheduler.random, c.world.people); p.id != "" && p != c.person {
			return p
		}
	}
	return nil
}

// direct begins to talk to somebody, or ends it.
func (c *client) direct() string {
	p := c.other()
	if p == nil {
		return rests
	}
	me, with := c.me(), p.id
	pr := c.world.someNode()
	return c.serve(pr, "talks to "+p.name, func(q *process) error {
		_, _, err := pr.node.Chat.Direct(q.ctx, me, with)
		return err
	}, func(error) string { return "" })
}

// rule changes somebody's rights in a room.
func (c *client) rule(room string) string {
	w := c.world
	r := w.scheduler.random
	p := c.other()
	if p == nil {
		return rests
	}
	id := p.id
	about := p.name + " in " + room
	var until time.Time
	if r.IntN(2) == 0 {
		until = time.Now().Add(time.Second + time.Duration(r.Int64N(int64(25*time.Second))))
	}
	restrict := func(kind chat.RestrictionKind, lifts bool) string {
		heard := heardOf{room: room, who: id, why: string(kind), holds: !lifts}
		what := fmt.Sprintf("imposes a %s on %s until %s", kind, about, until.Sub(w.scheduler.begin))
		if until.IsZero() {
			what = fmt.Sprintf("imposes a %s on %s", kind, about)
		}
		if lifts {
			what = fmt.Sprintf("lifts the %s of %s", kind, about)
		}
		return c.deed(what, chat.RightModerate, heard, func(ctx context.Context, s *chat.Service, me chat.Actor) (err error) {
			of := chat.Restriction{Room: room, UserID: id, Kind: kind, By: me.ID, Until: until}
			if lifts {
				_, err = s.Lift(ctx, me, of)
			} else {
				_, err = s.Restrict(ctx, me, of)
			}
			return err
		})
	}
	role := heardOf{room: room, who: id, why: "role"}
	switch n := r.IntN(100); {
	case n < 38:
		as := pick(r, []chat.Role{chat.Regular, chat.Regular, chat.Regular, chat.Moderator, chat.Reader, chat.Owner})
		return c.deed(fmt.Sprintf("makes %s %s", about, as), chat.RightInvite, role, func(ctx context.Context, s *chat.Service, me chat.Actor) error {
			_, err := s.SetRole(ctx, me, room, id, as)
			return err
		})
	case n < 48:
		return c.deed("removes "+about, chat.RightModerate, role, func(ctx context.Context, s *chat.Service, me chat.Actor) error {
			return s.RemoveMember(ctx, me, room, id, "")
		})
	case n < 58:
		return restrict(chat.Ban, false)
	case n < 66:
		return restrict(chat.Ban, true)
	case n < 74:
		return restrict(chat.Mute, false)
	case n < 82:
		return restrict(chat.Mute, true)
	case n < 85:
		me := c.me()
		return c.deed("leaves "+room, "", heardOf{room: room, who: me.ID, why: "role"}, func(ctx context.Context, s *chat.Service, _ chat.Actor) error {
			return s.Quit(ctx, me, room)
		})
	case n < 89:
		me := c.me()
		return c.deed("blocks "+p.name, "", heardOf{}, func(ctx context.Context, s *chat.Service, _ chat.Actor) error {
			_, err := s.Block(ctx, me.ID, id)
			return err
		})
	case n < 94:
		me := c.me()
		return c.deed("blocks no more "+p.name, "", heardOf{}, func(ctx context.Context, s *chat.Service, _ chat.Actor) error {
			return s.Unblock(ctx, me.ID, id)
		})
	case n < 98:
		kind := pick(r, []chat.RoomKind{chat.Public, chat.Private})
		return c.deed(fmt.Sprintf("makes %s %s", room, kind), chat.RightOwn, heardOf{room: room, why: "role"}, func(ctx context.Context, s *chat.Service, me chat.Actor) error {
			_, err := s.UpdateRoom(ctx, me, room, chat.Details{Kind: &kind})
			return err
		})
	default:
		return c.deed("deletes "+room, chat.RightOwn, heardOf{room: room, why: "role"}, func(ctx context.Context, s *chat.Service, me chat.Actor) error {
			return s.DeleteRoom(ctx, me, room)
		})
	}
}
