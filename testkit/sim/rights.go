package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

const (
	// heardWithin is how soon what was heard takes hold, and foundWithin how soon what was not heard does, on a node whose stores answer.
	heardWithin = time.Second
	foundWithin = 10*time.Second + 500*time.Millisecond
	// slowFrom is from when on a call of a store counts as late.
	slowFrom = 20 * time.Millisecond
	// behindMost is by how much the clock of a node may be behind.
	behindMost = 50 * time.Second
)

// rules are what a run knows of rights: what each person is in each room by what is stored, since when, and when each node could know of it. It reads the
// stores by itself, and shares nothing with core but the table of roles.
type rules struct {
	w *world

	mu    sync.Mutex
	rooms []*ruled // all that were ever made, in order
	nodes map[*process]*knowledge
	calls map[*call]time.Duration   // those about rights that wait, and since when
	came  map[string]time.Duration  // when what is to be stored came to a node, by what it is called there
	asked map[*conn]map[int]request // by their number
	made  int                       // names of rooms that were given out, of the scheduler alone
}

// ruled is a room in which people have rights.
type ruled struct {
	name string
	are  map[user.ID][]standing // those of each person, by time
}

// standing is what somebody was in a room from a time on, until the next one.
type standing struct {
	since     time.Duration
	role      chat.Role // empty: no member, or the room is gone
	open      bool      // the room is public
	gone      bool
	curbed    bool // one of two blocks the other
	ban, mute limit
}

// limit is a ban or a mute.
type limit struct {
	is    bool
	until time.Time // zero: without an end
}

// holds reports whether it holds by a clock that is right, and with late by one that is behind, too.
func (l limit) holds(now time.Time, late time.Duration) bool {
	return l.is && (l.until.IsZero() || l.until.After(now.Add(-late)))
}

// may says what somebody wants to do.
type may int

const (
	reads may = iota
	speaks
	comes
	voice // speaks, whoever is muted
	unmuted
)

// allows reports whether the standing allows something; late is by how much a clock may be behind.
func (s standing) allows(what may, now time.Time, late time.Duration) bool {
	switch {
	case what == unmuted:
		return !s.mute.holds(now, late)
	case s.ban.holds(now, late), s.gone:
		return false
	case what == comes:
		return s.role != "" || s.open
	case what == reads:
		return s.role != ""
	}
	return s.role.Has(chat.RightSpeak, chat.Public) && !s.curbed && (what == voice || !s.mute.holds(now, late))
}

// knowledge is what a node could know.
type knowledge struct {
	heard   []heardOf
	trouble []trouble
}

// heardOf is that a node has heard of a change, or made it itself.
type heardOf struct {
	at    time.Duration
	room  string
	who   user.ID // empty: everybody
	why   string
	holds bool // of a ban or a mute: it was imposed
}

// trouble is a call of a store that failed or was late; until what it asked for is asked again takes a while.
type trouble struct {
	begin, end time.Duration
	again      time.Duration
}

func newRules(w *world) *rules {
	return &rules{w: w, nodes: map[*process]*knowledge{}, calls: map[*call]time.Duration{}, came: map[string]time.Duration{}, asked: map[*conn]map[int]request{}}
}

// about reports whether a room is one of those in which people have rights.
func (r *rules) about(room string) bool {
	return r != nil && (strings.HasPrefix(room, "r") || strings.HasPrefix(room, "direct:"))
}

// look notes what everybody is now, by what is stored. It is called when something was stored.
func (r *rules) look() {
	ctx, s := context.Background(), r.w.store
	now := r.w.scheduler.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	all, err := s.Rooms.List(ctx, "", 1<<20)
	held, err2 := s.Restrictions.Since(ctx, time.Time{}, 1<<20)
	if err != nil || err2 != nil {
		panic(fmt.Sprint(err, err2)) // memory cannot fail
	}
	for _, room := range all {
		if !r.about(room.Name) {
			continue
		}
		known := r.room(room.Name)
		if known == nil {
			known = &ruled{name: room.Name, are: map[user.ID][]standing{}}
			r.rooms = append(r.rooms, known)
		}
		for _, p := range r.w.people {
			if p.id == "" {
				continue
			}
			is := standing{since: now, gone: !room.DeletedAt.IsZero(), open: room.Kind.Or() == chat.Public}
			of, err := s.Roles.Of(ctx, chat.InRoom{Room: room.Name, UserID: p.id})
			if err != nil {
				panic(err)
			}
			if len(of) > 0 && !is.gone {
				is.role = of[0].Role
			}
			for _, h := range held {
				switch {
				case h.Room != room.Name || h.UserID != p.id || h.Until.Equal(chat.Lifted):
				case h.Kind == chat.Ban:
					is.ban = limit{true, h.Until}
				case h.Kind == chat.Mute:
					is.mute = limit{true, h.Until}
				}
			}
			is.curbed = r.curbs(room)
			before := known.are[p.id]
			if n := len(before); n > 0 {
				same := before[n-1]
				if same.since = now; same == is {
					continue
				}
			}
			known.are[p.id] = append(before, is)
		}
	}
}

// curbs reports whether one of the two of a direct room blocks the other.
func (r *rules) curbs(room chat.Room) bool {
	var data struct{ Users []user.ID }
	if room.Kind != chat.Direct || json.Unmarshal([]byte(room.Data), &data) != nil {
		return false
	}
	b, err := r.w.store.Blocks.Among(context.Background(), chat.Pair{By: data.Users[0], Whom: data.Users[1]}, chat.Pair{By: data.Users[1], Whom: data.Users[0]})
	return err != nil || len(b) > 0
}

func (r *rules) room(name string) *ruled {
	for _, known := range r.rooms {
		if known.name == name {
			return known
		}
	}
	return nil
}

// cause is why a right was lost or won.
type cause struct {
	since time.Duration
	why   string
	holds bool
}

// reasons are what keeps somebody from doing something, each by itself: a node may not have heard of one when another one has ended.
var reasons = []string{"role", "block", "ban", "mute"}

// keeps reports whether a standing keeps somebody from something for a reason.
func (s standing) keeps(reason string, what may, now time.Time) bool {
	speaking := what == speaks || what == voice
	switch reason {
	case "role":
		switch what {
		case unmuted:
			return false
		case comes:
			return s.gone || s.role == "" && !s.open
		case reads:
			return s.gone || s.role == ""
		}
		return s.gone || !s.role.Has(chat.RightSpeak, chat.Public)
	case "block":
		return speaking && s.curbed
	case "ban":
		return what != unmuted && s.ban.holds(now, 0)
	}
	return (what == speaks || what == unmuted) && s.mute.holds(now, 0)
}

// lacks returns, for each reason why somebody may not do something in a room by every clock, since when it holds without a break.
func (r *rules) lacks(room string, id user.ID, what may) (all []cause) {
	for _, reason := range reasons {
		c, so := r.goesBack(room, id, func(s standing, from, to time.Time) (time.Time, bool) {
			return from, s.keeps(reason, what, to) // what has no end or ends later did not hold less before
		})
		if !so {
			continue
		}
		if c.why != "time" {
			c.why, c.holds = reason, true
			if reason == "block" {
				c.why, c.holds = "role", false // it is told as one is
			}
		}
		all = append(all, c)
	}
	return all
}

// has returns since when, without a break, somebody may do something in a room, by every clock.
func (r *rules) has(room string, id user.ID, what may) (cause, bool) {
	return r.goesBack(room, id, func(s standing, from, to time.Time) (time.Time, bool) {
		if !s.allows(what, to, behindMost) {
			return to, false
		}
		for _, l := range []limit{s.ban, s.mute} {
			if end := l.until.Add(behindMost); l.is && end.After(from) && (what == speaks || l == s.ban) {
				from = end
			}
		}
		return from, true
	})
}

// goesBack goes through what somebody was, from now back, as long as is says from when on. It returns what the first of that came from.
func (r *rules) goesBack(room string, id user.ID, is func(s standing, from, to time.Time) (time.Time, bool)) (c cause, so bool) {
	known := r.room(room)
	if known == nil {
		return c, false
	}
	begin, all := r.w.scheduler.begin, known.are[id]
	to := time.Now()
	for i := len(all) - 1; i >= 0; i-- {
		s := all[i]
		from := begin.Add(s.since)
		since, holds := is(s, from, to)
		if !holds {
			break
		}
		c, so = cause{since: since.Sub(begin), why: "time"}, true
		if since.After(from) {
			break
		}
		if i > 0 {
			c.why, c.holds = differs(all[i-1], s)
		}
		to = from
	}
	return c, so
}

// differs says what was changed between two standings.
func differs(before, after standing) (why string, holds bool) {
	switch {
	case before.ban != after.ban:
		return "ban", after.ban.is
	case before.mute != after.mute:
		return "mute", after.mute.is
	}
	return "role", false
}

// deadline is when a node has to know at the latest what has changed in a room about somebody.
func (r *rules) deadline(p *process, room string, id user.ID, c cause) time.Duration {
	if c.why == "time" {
		return c.since + heardWithin
	}
	least := c.since + foundWithin
	k := r.nodes[p]
	if k == nil {
		k = &knowledge{}
	}
	for _, h := range k.heard {
		if h.at >= c.since && h.room == room && (h.who == id || h.who == "") && h.why == c.why && (c.why == "role" || h.holds == c.holds) {
			least = min(least, h.at+heardWithin)
			break
		}
	}
	all := slices.Clone(k.trouble)
	now := r.w.scheduler.now()
	for of, since := range r.calls {
		if of.process == p && now-since > slowFrom {
			all = append(all, trouble{since, now, again(of.method)})
		}
	}
	slices.SortFunc(all, func(a, b trouble) int { return int(a.begin - b.begin) })
	for _, t := range all {
		if t.end >= c.since && t.begin <= least {
			least = max(least, t.end+t.again)
		}
	}
	return least
}

// again is how long it takes until a call that has failed is made again, and has an effect.
func again(method string) time.Duration {
	if method == "Restrictions.Since" {
		return foundWithin
	}
	return time.Second + heardWithin
}

// concerns reports whether a call of a port tells a node what somebody may do.
func concerns(method string) bool {
	switch method {
	case "Roles.Of", "Restrictions.Since", "Restrictions.InForce", "Rooms.ByName", "Blocks.Among", "Members.Add", "Rooms.Ensure":
		return true
	}
	return false
}

// begins notes that a call waits.
func (r *rules) begins(c *call) {
	if r == nil || !concerns(c.method) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[c] = r.w.scheduler.now()
}

// ends notes that a call has its answer, and whether that is a good one.
func (r *rules) ends(c *call, good bool) {
	if r == nil || !concerns(c.method) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	since, waits := r.calls[c]
	if !waits {
		return
	}
	delete(r.calls, c)
	if now := r.w.scheduler.now(); !good || now-since > slowFrom {
		k := r.of(c.process)
		k.trouble = append(k.trouble, trouble{since, now, again(c.method)})
	}
}

func (r *rules) of(p *process) *knowledge {
	k := r.nodes[p]
	if k == nil {
		k = &knowledge{}
		r.nodes[p] = k
	}
	return k
}

// hears notes what a node was told.
func (r *rules) hears(p *process, s realtime.Signal) {
	if r == nil || s.Kind != realtime.SignalMembership {
		return
	}
	var told struct {
		Room   string `json:"room"`
		Limits *struct {
			Kind  string `json:"kind"`
			Until int64  `json:"until"`
		} `json:"limits"`
	}
	if err := json.Unmarshal([]byte(s.Data), &told); err != nil {
		panic(err)
	}
	h := heardOf{room: told.Room, who: s.User.ID, why: "role"}
	if l := told.Limits; l != nil {
		h.why, h.holds = l.Kind, l.Until == 0 || time.UnixMicro(l.Until).After(time.Now())
	}
	r.knows(p, h)
}

// changed reports whether what somebody is in a room, or anybody, has changed since a time.
func (r *rules) changed(h heardOf, since time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.room(h.room)
	if known == nil {
		return false
	}
	for id, all := range known.are {
		if (h.who == "" || h.who == id) && len(all) > 0 && all[len(all)-1].since >= since {
			return true
		}
	}
	return false
}

// knows notes that a node has heard of something, or has done it.
func (r *rules) knows(p *process, h heardOf) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.at = r.w.scheduler.now()
	k := r.of(p)
	k.heard = append(k.heard, h)
}

// arrives notes that something that is to be stored has come to a node.
func (r *rules) arrives(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, before := r.came[what]; !before {
		r.came[what] = r.w.scheduler.now()
	}
}

// breaks says that a promise was broken, from whatever goroutine.
func (r *rules) breaks(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	r.w.scheduler.arrive("a right: "+what, between(1, 2), func() string { r.w.violate("%s", what); return "" })
}

// stores looks at something that a process has stored as somebody, before it is noted what everybody is now.
func (r *rules) stores(p *process, room string, id user.ID, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	came, known := r.came[what]
	whats := []may{speaks}
	overREST := strings.HasPrefix(what, "rest")
	if overREST { // the store was asked for one, and then for the other
		whats = []may{voice, unmuted}
	}
	for _, does := range whats {
		for _, c := range r.lacks(room, id, does) {
			most := c.since
			if !overREST {
				most = r.deadline(p, room, id, c)
			}
			if !known || came <= most {
				continue
			}
			r.breaks("%s has stored %q of %s in %s, which came after %v: %s may not speak since %v, by %s", p.name, what, r.name(id), room, came, r.name(id), c.since, c.why)
		}
	}
}

func (r *rules) name(id user.ID) string {
	for _, p := range r.w.people {
		if p.id == id {
			return p.name
		}
	}
	return string(id)
}

// asks notes what is requested.
func (r *rules) asks(k *conn, id int, of request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked[k] == nil {
		r.asked[k] = map[int]request{}
	}
	r.asked[k][id] = of
}

// sends looks at what a node sends to a connection.
func (r *rules) sends(k *conn, payload []byte) {
	if r == nil || !bytes.Contains(payload, []byte(`"ack"`)) && !bytes.Contains(payload, []byte(`"room":"r`)) && !bytes.Contains(payload, []byte(`"room":"direct:`)) {
		return
	}
	var s struct {
		ID    int    `json:"id"`
		Event string `json:"event"`
		Data  struct {
			Room string `json:"room"`
			User author `json:"user"`
		} `json:"data"`
	}
	if json.Unmarshal(payload, &s) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := k.who.UserID
	room := s.Data.Room
	switch s.Event {
	case "error":
		return
	case "ack":
		of := r.asked[k][s.ID]
		switch of.event {
		case "join_room", "history", "presence":
		default: // nothing of the room is in it
			return
		}
		room, s.Event = of.room, "the answer to "+of.event
	case "membership":
		if s.Data.User.ID == string(id) {
			return
		}
	}
	if !r.about(room) {
		return
	}
	for _, c := range r.lacks(room, id, reads) {
		if now := r.w.scheduler.now(); now > r.deadline(k.process, room, id, c) {
			r.breaks("%s has sent %s of %s to %s: %s may not read it since %v, by %s", k.process.name, s.Event, room, k.name, r.name(id), c.since, c.why)
		}
	}
}

// refuses looks at a refusal of something that came to a node.
func (r *rules) refuses(p *process, room string, id user.ID, what may, came time.Duration, code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Whoever left or was taken out while they asked is told so, whatever they may do again.
	if code == "removed" && slices.ContainsFunc(r.lacks(room, id, reads), func(c cause) bool { return c.since >= came }) {
		return
	}
	if c, has := r.has(room, id, what); has && came > r.deadline(p, room, id, c) {
		r.breaks("%s has refused %s in %s with %s: that may be since %v, by %s", p.name, r.name(id), room, code, c.since, c.why)
	}
}
