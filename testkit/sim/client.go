package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// person has an account, or wants one.
type person struct {
	name, email, password string
	asking                bool // a client of the person is signing up, or verifying
	signedUp, verified    bool
	since                 time.Duration // when the sign-up was answered
	id                    user.ID

	// By room: how far they have read, as far as any device was told; and the rooms that they have ever wanted to leave.
	reads map[string]uint64
	left  map[string]bool
}

// client is a device of a person. It does what a careful client does: it sends again under the same name what was not answered,
// reads on where it was when it comes back, and holds live messages while pages before them are missing. It checks each
// thing that it is told. All of it runs in the goroutine of the scheduler.
type client struct {
	world  *world
	person *person
	name   string

	busy  bool // waits for an answer of a service, or of a connection that is being opened
	token string
	who   user.Identity
	ended bool // the session was ended; its connections have to go
	asked bool // to end the session, with whatever answer
	conns int

	conn     *conn // nil while there is none
	slow     bool  // reads slowly
	resting  bool  // had nothing to do
	rooms    map[string]*view
	changes  int // how many edits it has made
	last     int // identifier of a request
	requests map[int]request
	drafts   []draft // not yet acknowledged
	sent     int
	stay     int // how many steps it stays away

	seats map[string]*seat // its places in rooms in which it has rights
	going []string         // where it asks to go on
}

// request is what waits for an answer.
type request struct {
	event, room, clientID string
	since                 uint64
	known                 uint64 // what the client knew to be stored when it asked
	rev                   uint64
	newest                bool
	read                  uint64 // up to where the person has read at least, whatever the answer
}

type draft struct {
	room, clientID, text string
	asked                bool // on this connection
}

// view is a room as a client knows it.
type view struct {
	rev   uint64 // the client has every change of the room up to it
	base  uint64 // the log begins behind it
	log   []entry
	known bool // base counts
	acked uint64
	marks map[string]uint64 // how far others have read, as far as the client was told

	// Of the connection:
	joining, joined bool
	again           bool // the server has said that the client has to read again
	live            uint64
	target          uint64  // what has to be read before live messages count
	ahead           uint64  // the rev up to which changes have to be read
	held            []entry // live messages that wait for it
	paging          bool
	reading         bool               // pages of changes are missing
	stale           bool               // the client went on where it was: what was changed meanwhile is not told then
	changed         uint64             // the highest rev of a live change
	later           map[uint64]message // changed messages that the client has not read yet
	present         map[string]bool    // who is in the room, as the client was told; nil before it has asked
	heard           []said             // who has come and gone since it asks
	read            *said              // the last answer to a mark
}

// entry is a message as it came.
type entry struct {
	seq                        uint64
	id, clientID, author, text string
	rev                        uint64
	edited, deleted            bool
	reactions                  string
}

func newClient(w *world, p *person, name string) *client {
	c := &client{world: w, person: p, name: name, rooms: map[string]*view{}, requests: map[int]request{}}
	for _, room := range w.rooms {
		c.rooms[room] = &view{}
	}
	return c
}

// end is the last message that the client has without a gap before it.
func (v *view) end() uint64 { return v.base + uint64(len(v.log)) }

// paged reports whether the client has everything up to the live messages.
func (v *view) paged() bool { return v.joined && !v.paging && !v.again && v.end() >= v.target }

// reading is how long the client takes to read what has come.
func (c *client) reading(r *rand.Rand) time.Duration {
	if c.slow && !c.world.calm {
		return between(time.Second, 8*time.Second)(r)
	}
	return c.world.network(r)
}

// begin makes the client do something now and then.
func (c *client) begin() {
	c.world.scheduler.arrive(c.name+" acts", c.thinking, func() string {
		what := c.act()
		c.resting = what == rests || what == isAway
		c.begin()
		return what
	})
}

// thinking is how long a client does nothing.
func (c *client) thinking(r *rand.Rand) time.Duration {
	switch {
	case !c.world.calm:
		return between(10*time.Millisecond, c.world.profile.Think)(r)
	case c.resting:
		return between(300*time.Millisecond, 1500*time.Millisecond)(r)
	default:
		return between(50*time.Millisecond, 300*time.Millisecond)(r)
	}
}

// What a client does that has nothing to do.
const (
	rests  = "rests"
	isAway = "is away"
)

// act does one thing.
func (c *client) act() string {
	w, p := c.world, c.person
	switch {
	case c.busy:
		return "waits"
	case p == w.away && c.conn == nil:
		return isAway
	case !p.verified:
		return c.enroll()
	case c.token == "":
		return c.signIn()
	case c.conn == nil:
		if c.stay > 0 && !w.calm {
			c.stay--
			return "stays away"
		}
		return c.connect()
	}
	for _, room := range w.rooms {
		if v := c.rooms[room]; !v.joining && (!v.joined || v.again || v.stale && w.calm) {
			return c.join(room)
		}
	}
	for _, room := range w.rooms {
		if v := c.rooms[room]; v.joined && v.present == nil && !c.asking("presence", room) {
			return c.list(room)
		}
	}
	for i := range c.drafts {
		if d := &c.drafts[i]; !d.asked && c.rooms[d.room].joined {
			return c.submit(d)
		}
	}
	if w.calm || c.ended {
		return rests
	}
	if w.rules != nil && w.scheduler.chance(0.6) {
		return c.actByRight()
	}
	room := pick(w.scheduler.random, w.rooms)
	v := c.rooms[room]
	switch n := w.scheduler.random.IntN(100); {
	case n < w.profile.Cuts:
		c.stay = w.scheduler.random.IntN(1 + w.scheduler.random.IntN(w.profile.Away)) // more often short than long
		return c.cutOff()
	case n < 40:
		if len(c.drafts) < 5 {
			return c.say(room)
		}
	case n < 45:
		return c.join(room)
	case n < 48:
		return c.leave(room)
	case n < 54 && v.joined:
		return c.list(room)
	case n < 60:
		return c.ask("history", room, map[string]any{"limit": 1 + w.scheduler.random.IntN(5)})
	case n < 66:
		return c.ask("isTyping", room, map[string]any{"typing": n%2 == 0})
	case n < 68 && w.profile.SignOut:
		return c.signOut()
	case n >= 70 && n < 74 && v.joined && !v.joining:
		return c.markSome(room, v)
	case n < 70:
		c.slow = !c.slow
		return fmt.Sprintf("reads slowly: %v", c.slow)
	case n >= 80 && v.paged() && len(v.log) > 0:
		return c.change(room, v)
	case n < 80 && v.paged():
		for range 5 {
			if len(c.drafts) < 10 {
				c.say(room)
			}
		}
		return "says several things in " + room
	}
	return rests
}

// serve calls a service in a goroutine, and lets the client go on when it has answered.
func (c *client) serve(pr *program, what string, call func(p *process) error, done func(err error) string) string {
	p := pr.now
	if !pr.up() {
		return what + ": nobody is there"
	}
	c.busy = true
	go func() {
		err := call(p)
		if p.dead.Load() {
			err = errKilled // and so was its answer
		}
		c.world.scheduler.arrive(c.name+" "+what, c.world.network, func() string {
			c.busy = false
			outcome := done(err)
			if err != nil {
				outcome += " " + fault.Public(err).Code
			}
			return outcome
		})
	}()
	return what
}

func (w *world) program(name string) *program {
	for _, p := range w.programs {
		if p.name == name {
			return p
		}
	}
	return nil
}

// enroll signs up, or confirms.
func (c *client) enroll() string {
	w, p := c.world, c.person
	if p.asking {
		return "waits for another device"
	}
	accounts := w.program("accounts")
	if !p.signedUp {
		p.asking = true
		what := c.serve(accounts, "sign-up", func(q *process) error {
			return accountsOf(accounts).SignUp(q.ctx, auth.Client{}, auth.SignUp{FullName: p.name, Email: p.email, Password: p.password})
		}, func(err error) string {
			p.asking = false
			if err == nil {
				p.signedUp, p.since = true, w.scheduler.now()
				w.counts.SignUps++
			}
			return ""
		})
		p.asking = c.busy
		return what
	}
	code := w.smtp.code(p.email)
	if code == "" {
		return "waits for the mail"
	}
	what := c.serve(accounts, "verify", func(q *process) error {
		return accountsOf(accounts).Verify(q.ctx, code)
	}, func(err error) string {
		p.asking = false
		switch {
		case err == nil, errors.Is(err, auth.ErrCodeGone):
			p.verified = true // gone: an earlier try was stored, and its answer lost. Signing in tells
		case errors.Is(err, fault.Invalid):
			w.violate("%s got a code by mail that is not known", p.email)
		}
		return ""
	})
	p.asking = c.busy
	return what
}

func accountsOf(pr *program) *auth.Service { return pr.accounts.Auth }

func (c *client) signIn() string {
	p, accounts := c.person, c.world.program("accounts")
	var grant auth.Grant
	var who user.Identity
	return c.serve(accounts, "sign-in", func(q *process) (err error) {
		service := accountsOf(accounts)
		if grant, err = service.SignIn(q.ctx, auth.Client{}, p.email, p.password); err != nil {
			return err
		}
		who, err = service.Authenticate(q.ctx, grant.AccessToken)
		return err
	}, func(err error) string {
		switch {
		case err == nil:
			c.token, c.who, c.ended, c.asked = grant.AccessToken, who, false, false
			p.id = grant.User.ID
		case errors.Is(err, auth.ErrNotVerified):
			p.verified, p.signedUp = false, true
		case errors.Is(err, auth.ErrInvalidCredentials):
			c.world.violate("%s has verified %s, and cannot sign in", c.name, p.email)
		}
		return ""
	})
}

func (c *client) signOut() string {
	accounts := c.world.program("accounts")
	who := c.who
	c.asked = c.asked || accounts.up()
	return c.serve(accounts, "sign-out", func(q *process) error { return accountsOf(accounts).SignOut(q.ctx, who) }, func(err error) string {
		if err == nil {
			c.ended = true // from here on the connection is somebody's whose session has ended: it has to go
			c.world.counts.SignOuts++
		}
		return ""
	})
}

func (c *client) connect() string {
	w := c.world
	var up []*program
	for _, pr := range w.programs {
		if pr.isNode() {
			up = append(up, pr)
		}
	}
	pr := pick(w.scheduler.random, up)
	c.conns++
	k := &conn{world: w, client: c, name: fmt.Sprintf("%s#%d", c.name, c.conns), in: make(chan []byte, 1<<12)}
	token, places := c.token, c.places()
	resumed := false
	return c.serve(pr, "connects to "+pr.name, func(p *process) error {
		k.process = p
		who, err := pr.auth.Authenticate(p.ctx, token)
		if err != nil {
			return err
		}
		k.who = who
		r, err := pr.node.Hub.Accept(k, socket.Hello{Identity: who})
		if err != nil {
			return err
		}
		go k.feed(r)
		w.adopt(k)
		if places != nil {
			if send, err := pr.node.Hub.Resume(p.ctx, r, places); err == nil {
				resumed = true
				send()
			}
		}
		return nil
	}, func(err error) string {
		switch {
		case err == nil && !k.over:
			c.opened(k, resumed)
			if resumed {
				return "goes on where it was"
			}
		case errors.Is(err, fault.Unauthenticated):
			c.lapsed("was refused")
		}
		return ""
	})
}

// lapsed says that the client is taken for nobody.
func (c *client) lapsed(how string) {
	if !c.ended && !c.asked && time.Until(c.who.ExpiresAt) > time.Second {
		c.world.violate("%s %s, and its session goes on", c.name, how)
	}
	c.token, c.ended, c.asked = "", false, false
}

// places is where the client was, for a node that lets it go on there; nil if it joins its rooms anew.
func (c *client) places() []realtime.Place {
	if !c.world.scheduler.chance(0.3) {
		return nil
	}
	var places []realtime.Place
	for _, room := range c.world.rooms {
		v := c.rooms[room]
		if !v.known {
			return nil
		}
		places = append(places, realtime.Place{Room: room, Seq: v.end()})
	}
	if c.world.rules != nil {
		places = append(places, c.seatPlaces()...)
	}
	return places
}

// opened begins anew on a connection, or goes on where the client was.
func (c *client) opened(k *conn, resumed bool) {
	c.conn = k
	clear(c.requests)
	for i := range c.drafts {
		c.drafts[i].asked = false
	}
	for _, v := range c.rooms {
		v.joining, v.joined, v.again, v.paging, v.held, v.live, v.target = false, resumed, false, false, nil, 0, 0
		v.reading, v.changed, v.later, v.ahead, v.stale = false, 0, nil, 0, false
		v.present, v.heard, v.read = nil, nil, nil
		if resumed {
			v.live, v.target = v.end(), v.end()
			v.stale = true
		}
	}
	if resumed {
		c.world.counts.Resumed++
	}
	c.takeSeats(resumed)
	k.open()
}

// closed says that a connection has gone.
func (c *client) closed(k *conn, code int) {
	if c.conn != k {
		return
	}
	c.conn = nil
	c.world.counts.Closes[code]++
	switch code {
	case socket.CloseUnauthenticated:
		c.lapsed("was closed with 4401")
	case 1006, socket.CloseServiceRestart, socket.CloseSlow, socket.CloseTryAgainLater:
	default:
		c.world.violate("%s was closed with %d", c.name, code)
	}
}

// cutOff ends the connection without a word.
func (c *client) cutOff() string {
	k := c.conn
	c.conn = nil
	k.drop()
	c.world.counts.Cuts++
	return fmt.Sprintf("is cut off for %d steps", c.stay)
}

// ask sends a request.
func (c *client) ask(event, room string, data map[string]any) string {
	r := request{event: event, room: room}
	return c.request(r, data)
}

func (c *client) request(r request, data map[string]any) string {
	all := map[string]any{"room": r.room}
	for name, value := range data {
		all[name] = value
	}
	c.last++
	c.requests[c.last] = r
	text, err := json.Marshal(map[string]any{"id": c.last, "event": r.event, "data": all})
	if err != nil {
		panic(err)
	}
	as := []string(nil)
	if c.world.rules.about(r.room) {
		as = append(as, fmt.Sprintf("%s/%d", c.conn.name, c.last), r.clientID)
		c.world.rules.asks(c.conn, c.last, r)
	}
	c.conn.write(text, as...)
	return r.event + " " + r.room
}

// asking reports whether the client has asked and waits for the answer.
func (c *client) asking(event, room string) bool {
	for _, r := range c.requests {
		if r.event == event && r.room == room {
			return true
		}
	}
	return false
}

// list asks who is in a room.
func (c *client) list(room string) string {
	if !c.asking("presence", room) {
		c.rooms[room].heard = nil
	}
	return c.ask("presence", room, nil)
}

// join joins a room, or joins it again.
func (c *client) join(room string) string {
	v := c.rooms[room]
	v.joining = true
	r := request{event: "join_room", room: room, known: max(v.end(), v.acked), rev: v.rev, read: c.person.reads[room]}
	if !v.known && c.world.scheduler.chance(0.3) {
		r.newest = true
		return c.request(r, nil)
	}
	r.since = v.end()
	return c.request(r, map[string]any{"since": r.since, "rev": r.rev})
}

func (c *client) leave(room string) string {
	v := c.rooms[room]
	if !v.joined || v.joining || c.world.rules != nil { // it would end the membership of other devices
		return rests
	}
	v.joining = true // until it is answered, nothing is expected
	c.person.left[room] = true
	return c.ask("leave_room", room, nil)
}

// change edits or deletes a message of the client's user, or reacts to one.
func (c *client) change(room string, v *view) string {
	r := c.world.scheduler.random
	e := v.log[r.IntN(len(v.log))]
	data := map[string]any{"seq": e.seq}
	event := "react"
	switch n := r.IntN(10); {
	case n < 4 && e.author == string(c.who.UserID):
		event = "edit"
		c.changes++
		data["text"] = fmt.Sprintf("%s edits %d", c.name, c.changes)
	case n < 5 && e.author == string(c.who.UserID):
		event = "delete"
	default:
		data["key"], data["on"] = pick(r, []string{"+1", "heart", "no"}), n%3 != 0
	}
	c.world.counts.Changes++
	return fmt.Sprintf("%s of %d", c.request(request{event: event, room: room}, data), e.seq)
}

// markSome says that the user has read a room, up to somewhere; now and then twice, and not in order.
func (c *client) markSome(room string, v *view) string {
	r := c.world.scheduler.random
	what := c.mark(room, pick(r, []uint64{v.end(), v.end(), v.live, r.Uint64N(v.end() + 1), v.end() + 3, 0}))
	if r.IntN(4) == 0 {
		what += ", " + c.mark(room, r.Uint64N(v.end()+1))
	}
	return what
}

// mark says that the user has read a room up to a message.
func (c *client) mark(room string, read uint64) string {
	c.world.counts.Marks++
	v := c.rooms[room]
	stored := max(v.end(), v.acked) // so many messages are there at least: a mark behind the last one is one at the last one
	r := request{event: "mark", room: room, read: max(c.person.reads[room], min(read, stored))}
	return fmt.Sprintf("%s at %d", c.request(r, map[string]any{"read": read}), read)
}

// say drafts a message, and sends it if that can be.
func (c *client) say(room string) string {
	c.sent++
	d := draft{room: room, clientID: fmt.Sprintf("%s-%d", c.name, c.sent), text: fmt.Sprintf("%s says %d", c.name, c.sent)}
	c.drafts = append(c.drafts, d)
	c.world.counts.Messages++
	if !c.rooms[room].joined {
		return "drafts " + d.clientID
	}
	return c.submit(&c.drafts[len(c.drafts)-1])
}

func (c *client) submit(d *draft) string {
	d.asked = true
	c.request(request{event: "message", room: d.room, clientID: d.clientID}, map[string]any{"clientId": d.clientID, "text": d.text})
	if c.world.trouble(0.05) {
		c.request(request{event: "message", room: d.room, clientID: d.clientID}, map[string]any{"clientId": d.clientID, "text": d.text})
		return "says twice " + d.clientID
	}
	return "says " + d.clientID
}
