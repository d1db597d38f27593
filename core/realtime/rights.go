package realtime

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// What users are in rooms is in the store. A node that hears of a change, or finds a note of one, reads it for those who are here, and applies what it
// has read. So it does not matter in which order nodes hear of changes, or how often.
//
// One goroutine of a node reads and applies, so that the later of two readings is applied last. Of an occupant that is being admitted meanwhile nobody knows whether the
// store's answer to it is the later one: it is read again once it is admitted.

// everyNode is what every node follows besides its rooms: it carries what concerns connections that are in no room, too. [chat.CheckRoom] refuses the name to rooms.
const everyNode = " memberships"

// news is that somebody may be something else in a room.
type news struct {
	room string
	who  user.ID // empty: everybody who is in the room
	name string  // what the user is called, as far as is known
	// heard says that a change was told, and what comes behind says which. Otherwise the store is asked only.
	heard  bool
	role   chat.Role
	by     user.ID
	reason string
	// limits is a restriction that was imposed or lifted, and applied; it is still to be told.
	limits *chat.Restriction
	// out says that it has taken the user out here.
	out bool
}

func (n news) where() chat.InRoom { return chat.InRoom{Room: n.room, UserID: n.who} }

// membershipNews is news in the Data of a signal, between nodes.
type membershipNews struct {
	Room   string       `json:"room"`
	Role   string       `json:"role,omitempty"` // empty: no member any more
	By     string       `json:"by,omitempty"`
	Reason string       `json:"reason,omitempty"`
	Limits *restriction `json:"limits,omitempty"`
}

// rights is what is to be read, and told.
type rights struct {
	mu      sync.Mutex
	waiting []news
	thinAt  int           // at which length waiting is thinned out
	wake    chan struct{} // something waits

	followed atomic.Bool // this node hears what is told every node

	// nameless is until when no account is asked for a name: the last question took too long. Only the goroutine of watchRights uses it.
	nameless time.Time

	// found is what this node has told before it heard of it. Only the goroutine of watchRights uses it.
	found map[chat.InRoom]finding
}

// finding is what a node has found that a user is, by itself, and when.
type finding struct {
	role chat.Role
	at   time.Time
}

const (
	// readTogether is of how many users the rights are read at a time.
	readTogether = 500
	// namedWithin is how long what is to be told waits for a name. What comes behind it must not wait for accounts that do not answer.
	namedWithin = 100 * time.Millisecond
	// thinFrom is from how many news on those are left out that others make needless, before they are read.
	thinFrom = 1000
	// lateFor is how long after this node found a change by itself it may hear of it.
	lateFor = 2 * clocksDiffer
)

// roles are codes of roles in occupants: 0 is one that this program does not know.
type roleCode = uint32

func codeOf(r chat.Role) roleCode { return roleCode(slices.Index(allRoles, r) + 1) }

var (
	allRoles   = chat.AllRoles()
	speaksCode = codeOf(chat.Regular) // the last role that has RightSpeak
)

// maySpeak returns nil if neither the role nor a mute keeps the user from speaking in the room, as far as this node has heard.
func (o *occupant) maySpeak() error {
	if code := o.role.Load(); code == 0 || code > speaksCode {
		return chat.ErrRoleLacksRight
	}
	return o.room.maySpeak(o.client.user.ID)
}

// beginAdmission says that the store is being asked whether the user may be in the room.
func (o *occupant) beginAdmission() {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	o.admitted = false
}

// endAdmission says what the store has answered; an empty role leaves the one before.
func (o *occupant) endAdmission(r chat.Role) {
	o.client.mu.Lock()
	doubt := o.doubt
	o.admitted, o.doubt = true, false
	if r != "" {
		o.role.Store(codeOf(r))
	}
	o.client.mu.Unlock()
	if doubt {
		o.client.hub.look(news{room: o.room.name, who: o.client.user.ID})
	}
}

// heedsRights reports whether what users may do in rooms can change.
func (h *Hub) heedsRights() bool { return h.cfg.Chat.KeepsRoles() || h.cfg.Chat.KeepsRestrictions() }

// retryAfter is after which time what has failed is tried again.
func (h *Hub) retryAfter() time.Duration { return min(time.Second, h.cfg.RestrictionsEvery) }

// pause waits, and reports false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// followEveryNode begins to hear what concerns every node.
func (h *Hub) followEveryNode(ctx context.Context) {
	for warned := false; ; warned = true {
		one, cancel := context.WithTimeout(ctx, h.cfg.CommandTimeout)
		err := h.cfg.Fanout.Follow(one, everyNode)
		cancel()
		if err == nil {
			h.rights.followed.Store(true)
			return
		}
		if !warned && ctx.Err() == nil {
			h.cfg.Log.Warn("this node does not hear yet of memberships that change elsewhere", "error", err)
		}
		if !pause(ctx, h.retryAfter()) {
			return
		}
	}
}

// rightsChanged applies what was changed here, and tells the other nodes.
func (h *Hub) rightsChanged(c chat.RightsChange) {
	n := news{room: c.Room, who: c.User, name: h.nameOf(c.User), heard: true, role: c.Role, by: c.By, reason: c.Reason}
	h.look(n)
	h.tellNodes(n)
}

// tellNodes tells the other nodes.
func (h *Hub) tellNodes(n news) {
	told := membershipNews{Room: n.room, Role: string(n.role), By: string(n.by), Reason: n.reason}
	if n.limits != nil {
		limits := restrictionOf(*n.limits)
		told.Limits = &limits
	}
	data, err := json.Marshal(told)
	if err != nil { // it has strings and numbers only
		h.cfg.Log.Error("a change of rights cannot be encoded", "error", err)
		return
	}
	h.publish(context.Background(), Signal{Kind: SignalMembership, Room: everyNode, User: chat.Author{ID: n.who, Name: n.name}, Data: string(data)})
}

// hear takes what a node has told all nodes. What is in no room is let go.
func (h *Hub) hear(s Signal) {
	if s.Kind == SignalSettings {
		h.cfg.Chat.ForgetSettings(s.User.ID)
		return
	}
	if s.Kind != SignalMembership || s.Node == h.cfg.Node {
		return
	}
	var told membershipNews
	if err := json.Unmarshal([]byte(s.Data), &told); err != nil {
		h.cfg.Log.Error("a change of rights from another node cannot be read", "error", err)
		return
	}
	if told.Limits != nil {
		h.restrict(told.Limits.of(told.Room, s.User.ID), s.User.Name, true)
		return
	}
	h.look(news{
		room: told.Room, who: s.User.ID, name: s.User.Name, heard: true, role: chat.Role(told.Role), by: user.ID(told.By), reason: told.Reason,
	})
}

// nameOf returns what a user is called who is connected here, or nothing.
func (h *Hub) nameOf(id user.ID) string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if id == "" || len(h.users[id]) == 0 {
		return ""
	}
	return h.users[id][0].user.Name
}

// look has the rights read that may have changed, and told, if that concerns anybody here. It does not wait.
func (h *Hub) look(n news) {
	if n.who == "" { // the room may count as stored, though nobody here is in it
		h.cfg.Chat.Forget(n.room)
	}
	h.mu.RLock()
	concerned := h.rooms[n.room] != nil || n.who != "" && len(h.users[n.who]) > 0
	h.mu.RUnlock()
	if !concerned {
		return
	}
	r := &h.rights
	r.mu.Lock()
	r.waiting = append(r.waiting, n)
	if len(r.waiting) >= max(r.thinAt, thinFrom) { // the store may not answer for a long time
		r.waiting = latest(r.waiting)
		r.thinAt = 2 * len(r.waiting)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// watchRights reads and applies what was told to look, until ctx ends.
func (h *Hub) watchRights(ctx context.Context) {
	r := &h.rights
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		all := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		all = latest(all)
		now := h.cfg.Now()
		maps.DeleteFunc(r.found, func(_ chat.InRoom, f finding) bool { return now.Sub(f.at) > lateFor })
		for warned := false; len(all) > 0; {
			n, err := h.settleRights(ctx, all)
			all = all[n:]
			switch {
			case err == nil:
				continue
			case ctx.Err() != nil:
				return
			case !warned:
				h.cfg.Log.Warn("what users are in rooms could not be read", "changes", len(all), "error", err)
				warned = true
			}
			if !pause(ctx, h.retryAfter()) {
				return
			}
		}
	}
}

// latest leaves out news that another one makes needless: the store is asked for what holds now. Of each role that was told the last news stays, since any of them may be
// what holds: a node may hear of changes in another order than that in which they were stored.
func latest(all []news) []news {
	type told struct {
		chat.InRoom
		role  chat.Role
		heard bool
	}
	of := func(n news) told { return told{n.where(), n.role, n.heard} }
	last, heard := make(map[told]int, len(all)), map[chat.InRoom]bool{}
	for i, n := range all {
		if n.limits == nil {
			last[of(n)] = i
			heard[n.where()] = heard[n.where()] || n.heard
		}
	}
	kept := all[:0]
	for i, n := range all {
		if n.limits != nil || last[of(n)] == i && n.heard == heard[n.where()] {
			kept = append(kept, n)
		}
	}
	return kept
}

// settleRights reads the rights that the first of the news are about, applies and tells them. It returns how many those are, none where it fails: they are to be read again.
func (h *Hub) settleRights(ctx context.Context, all []news) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.CommandTimeout)
	defer cancel()
	if all[0].who == "" {
		if err := h.settleEverybody(ctx, all[0]); err != nil {
			return 0, err
		}
		return 1, nil
	}
	n := 1
	for n < len(all) && n < readTogether && all[n].who != "" {
		n++
	}
	some := all[:n]
	here := make(map[chat.InRoom][]*occupant, n)
	whom := make([]chat.InRoom, 0, n)
	for _, heard := range some {
		w := heard.where()
		if _, seen := here[w]; !seen {
			here[w] = h.admitted(w)
		}
		if len(here[w]) > 0 || heard.asksStore() {
			whom = append(whom, w)
		}
	}
	are, err := h.readRights(ctx, whom)
	if err != nil {
		return 0, err
	}
	counts := make(map[chat.InRoom]int, n) // of the roles of a user that were told, the one that holds
	for i, heard := range some {
		w := heard.where()
		if before, more := counts[w]; heard.limits == nil && (!more || !some[before].agrees(are[w])) {
			counts[w] = i
		}
	}
	for i, heard := range some {
		if w := heard.where(); heard.limits != nil || counts[w] == i {
			h.applyRights(ctx, heard, here[w], are[w])
		}
	}
	return n, nil
}

// agrees reports whether the news was heard, and says what the store says.
func (n news) agrees(is chat.Entry) bool { return n.heard && is.Role == n.role }

// asksStore reports whether the store is asked although nobody is here whom it concerns. Who has left and is not here needs no question: that they
// are back is told by the room.
func (n news) asksStore() bool {
	left := n.role == "" && n.by == n.who
	return n.heard && (n.limits != nil || !left)
}

func (h *Hub) readRights(ctx context.Context, whom []chat.InRoom) (map[chat.InRoom]chat.Entry, error) {
	if len(whom) == 0 {
		return nil, nil
	}
	all, err := h.cfg.Chat.Rights(ctx, whom...)
	if err != nil {
		return nil, err
	}
	are := make(map[chat.InRoom]chat.Entry, len(all))
	for _, e := range all {
		are[chat.InRoom{Room: e.Room, UserID: e.UserID}] = e
	}
	return are, nil
}

// connections returns those of a user on this node.
func (h *Hub) connections(id user.ID) []*client {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.users[id])
}

// admitted returns the connections of a user in a room that the store has let in.
func (h *Hub) admitted(where chat.InRoom) (all []*occupant) {
	for _, c := range h.connections(where.UserID) {
		if o := c.occupantOf(where.Room); o != nil && o.isAdmitted() {
			all = append(all, o)
		}
	}
	return all
}

// isAdmitted reports whether the store has let the occupant in. If it is being asked, it is asked once more.
func (o *occupant) isAdmitted() bool {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	if !o.admitted {
		o.doubt = true
	}
	return o.admitted && !o.left
}

// applyRights makes what was read so for those connections of the user that were here when the reading began, and tells it.
func (h *Hub) applyRights(ctx context.Context, n news, before []*occupant, is chat.Entry) {
	if n.limits != nil {
		h.tellLimits(ctx, n, is)
		return
	}
	var here []*occupant
	for _, o := range h.admitted(n.where()) {
		if slices.Contains(before, o) {
			here = append(here, o)
		} else { // admitted meanwhile
			h.look(news{room: n.room, who: n.who})
		}
	}
	agrees, changed := n.agrees(is), become(here, is.Role)
	if is.Role == "" && len(here) > 0 {
		n.name = here[0].client.user.Name
		here[0].room.takeOut(here, membershipEnded)
	}
	tell := changed
	if agrees {
		tell = !h.foundBefore(n.where(), is.Role) || changed
	} else if changed {
		h.finds(n.where(), is.Role)
	}
	if !tell {
		return
	}
	data := protocol.Data{"role": roleData(is.Role)}
	if agrees {
		data["by"], data["reason"] = string(n.by), n.reason
	}
	if is.Mute.Kind != "" {
		data["mutedUntil"] = is.Mute.End()
	}
	h.tellMembership(ctx, n, data, is.Role == "" && n.by == n.who)
}

// finds remembers what this node tells before it has heard of it.
func (h *Hub) finds(where chat.InRoom, is chat.Role) {
	h.rights.found[where] = finding{is, h.cfg.Now()}
}

// foundBefore reports whether this node had found by itself what it hears now, and told it.
func (h *Hub) foundBefore(where chat.InRoom, is chat.Role) bool {
	f, before := h.rights.found[where]
	delete(h.rights.found, where)
	return before && f.role == is
}

// become gives the connections of a user a role, and reports whether one of them had another one.
func become(here []*occupant, is chat.Role) (changed bool) {
	for _, o := range here {
		o.client.mu.Lock()
		changed = o.role.Swap(codeOf(is)) != codeOf(is) || changed
		o.client.mu.Unlock()
	}
	return changed
}

// settleEverybody reads the rights of everybody in a room, and takes out who is no member any more. That is told to nobody else: it may be all of them.
func (h *Hub) settleEverybody(ctx context.Context, n news) error {
	r := h.roomHere(n.room)
	if r == nil {
		return nil
	}
	here := map[user.ID][]*occupant{}
	r.each(func(o *occupant) {
		if o.isAdmitted() {
			here[o.client.user.ID] = append(here[o.client.user.ID], o)
		}
	})
	whom := make([]chat.InRoom, 0, len(here))
	for id := range here {
		whom = append(whom, chat.InRoom{Room: n.room, UserID: id})
	}
	slices.SortFunc(whom, func(a, b chat.InRoom) int { return byUser(chat.Author{ID: a.UserID}, chat.Author{ID: b.UserID}) })
	for some := range slices.Chunk(whom, readTogether) {
		are, err := h.readRights(ctx, some)
		if err != nil {
			return err
		}
		for _, w := range some {
			if are[w].Role != "" { // it may be another one, as after a block
				h.applyRights(ctx, news{room: n.room, who: w.UserID}, here[w.UserID], are[w])
				continue
			}
			still := slices.DeleteFunc(here[w.UserID], func(o *occupant) bool { return !o.isAdmitted() })
			if len(still) == 0 {
				continue
			}
			r.takeOut(still, membershipEnded)
			data := protocol.Data{"role": nil}
			if n.heard {
				data["by"], data["reason"] = string(n.by), n.reason
			} else {
				h.finds(w, "")
			}
			h.tellUser(r.name, still[0].client.user, data)
		}
	}
	return nil
}

// roleData is a role in an event.
func roleData(r chat.Role) any {
	if r == "" {
		return nil
	}
	return string(r)
}

// tellLimits tells of a restriction, if what was read says so too: what was lifted or replaced before this node has heard of it is told by what came behind it.
func (h *Hub) tellLimits(ctx context.Context, n news, is chat.Entry) {
	of := n.limits
	data := protocol.Data{"role": nil, "by": string(of.By), "reason": of.Reason}
	switch {
	case of.Kind == chat.Ban:
		known := n.heard && h.foundBefore(n.where(), "")
		if (known || is.Role != "") && !n.out { // they may have come in again since
			return
		}
		if !n.heard {
			h.finds(n.where(), "")
		}
	case is.Role == "":
		return // whoever joins is told by what is refused
	default:
		inForce := of.InForce(h.cfg.Now())
		if muted := is.Mute.Kind != ""; muted != inForce || muted && !is.Mute.At.Equal(of.At) {
			return
		}
		data["role"] = roleData(is.Role)
		if inForce {
			data["mutedUntil"] = of.End()
		}
	}
	h.tellMembership(ctx, n, data, false)
}

// tellMembership tells the connections of a user, and everybody in the room, what the user is there. What is empty is left out. Of who leaves by themselves only
// small rooms hear, as they do of connections.
func (h *Hub) tellMembership(ctx context.Context, n news, data protocol.Data, leaves bool) {
	who := chat.Author{ID: n.who, Name: n.name}
	here := h.roomHere(n.room)
	if name := h.nameOf(n.who); name != "" {
		who.Name = name
	} else if here != nil && who.Name == "" {
		who.Name = here.nameOf(n.who)
	}
	if who.Name == "" {
		who.Name = h.accountOf(ctx, n.who).Name
	}
	h.tellUser(n.room, who, data)
	if here != nil && (!leaves || here.announces(h.cfg.AnnounceUpTo)) {
		here.broadcast(here.hub.membership(n.room, who, data), theRest)
	}
}

// tellUser tells the connections of a user what they are in a room, whether or not they are in it. One that has come into it again is not told that it is out. One that
// is coming in is: the answer to its join says what holds.
func (h *Hub) tellUser(room string, who chat.Author, data protocol.Data) {
	f := frames{event: h.membership(room, who, data)}
	for _, c := range h.connections(who.ID) {
		if data["role"] != nil || !c.isIn(room) {
			c.tell(f.of(c))
		}
	}
}

// isIn reports whether the store has let the connection into the room, and it is still there.
func (c *client) isIn(room string) bool {
	o := c.occupantOf(room)
	if o == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return o.admitted && !o.left
}

// membership is the event. What is empty is left out.
func (h *Hub) membership(room string, who chat.Author, data protocol.Data) protocol.Outgoing {
	e := protocol.Outgoing{
		Schema: h.schema.ServerEvent(protocol.EventMembership), Room: room, User: who, Data: protocol.Data{"room": room, "user": protocol.UserData(who)},
	}
	for name, value := range data {
		if value != "" {
			e.Data[name] = value
		}
	}
	return e
}

// tell sends an event that is no part of a room's delivery. f may be nil.
func (c *client) tell(f *socket.Frame) {
	if f == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendNow(f, false)
}

// accountOf returns a user as chat.Config.People knows them, and nothing if it does not say soon.
func (h *Hub) accountOf(ctx context.Context, id user.ID) chat.Author {
	if h.cfg.Now().Before(h.rights.nameless) {
		return chat.Author{}
	}
	ctx, cancel := context.WithTimeout(ctx, namedWithin)
	defer cancel()
	known, _, err := h.cfg.Chat.People(ctx, id)
	if err != nil {
		h.rights.nameless = h.cfg.Now().Add(h.cfg.RestrictionsEvery)
		h.cfg.Log.Warn("the name of a user could not be read", "user", id, "error", err)
	}
	return known[id]
}

// nameOf returns what a user is called who is in the room, as far as the occupants were told.
func (r *room) nameOf(id user.ID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told[id].Name
}

// wasRemoved reports whether the user was taken out.
func (o *occupant) wasRemoved() bool {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	return o.removed != 0
}
