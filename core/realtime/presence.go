package realtime

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// What nodes know of each other's users may be lost, and a node may not be able to say that somebody has
// come or gone. So every room is compared with what Presence has once in LeaseTTL, and all of them at
// once when something is known to be wrong.

const (
	// checkEvery is after how many renewals a room is compared again.
	checkEvery = 3
	// rollRooms and rollUsers bound what is compared at a time. A room is not divided.
	rollRooms = 200
	rollUsers = 5_000
	// maxOwed is how many users a node remembers whose Exit has failed. With more it goes on under another name:
	// whoever left is told by the end of the old one's lease.
	maxOwed = 1 << 16
)

// roster is under which name the users of this node are present, and what it has to put right.
type roster struct {
	epoch atomic.Int32 // how often the name was changed
	tick  atomic.Int64 // renewals so far
	owes  atomic.Int64 // how many users are owed; written under mu
	held  atomic.Int32 // one more than the last epoch whose name had a lease: the present name has one if it is above epoch

	mu   sync.Mutex
	owed map[string]map[user.ID]chat.Author // by room: users whose Exit has failed

	// What follows is renew's alone.
	leased int32               // the epoch of the lease
	since  time.Time           // from when on it has lasted without a gap; zero before the first
	until  time.Time           // its end
	ended  map[string]struct{} // nodes whose leases were ended, as of the last renewal
	all    int64               // every room was to be compared at this tick
	missed bool                // the last renewal has failed
}

// nodeName is the name that this node's users are present under at an epoch.
func (h *Hub) nodeName(epoch int32) string {
	if epoch == 0 {
		return h.cfg.Node
	}
	return h.cfg.Node + "~" + strconv.Itoa(int(epoch))
}

// owe remembers that somebody's Exit has failed.
func (h *Hub) owe(room string, who chat.Author) {
	p := &h.roster
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owes.Load() >= maxOwed {
		p.owed = nil
		p.owes.Store(0)
		p.epoch.Add(1)
		return
	}
	if p.owed == nil {
		p.owed = map[string]map[user.ID]chat.Author{}
	}
	if p.owed[room] == nil {
		p.owed[room] = map[user.ID]chat.Author{}
	}
	if _, known := p.owed[room][who.ID]; !known {
		p.owes.Add(1)
	}
	p.owed[room][who.ID] = who
}

// forgive undoes owe.
func (h *Hub) forgive(room string, id user.ID) {
	p := &h.roster
	if p.owes.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, owed := p.owed[room][id]; !owed {
		return
	}
	p.owes.Add(-1)
	if delete(p.owed[room], id); len(p.owed[room]) == 0 {
		delete(p.owed, room)
	}
}

// byUser is the order of users, ascending by ID.
func byUser(a, b chat.Author) int { return strings.Compare(string(a.ID), string(b.ID)) }

// owedIn returns whose Exit of a room has failed.
func (h *Hub) owedIn(room string) []chat.Author {
	h.roster.mu.Lock()
	defer h.roster.mu.Unlock()
	all := make([]chat.Author, 0, len(h.roster.owed[room]))
	for _, who := range h.roster.owed[room] {
		all = append(all, who)
	}
	slices.SortFunc(all, byUser)
	return all
}

// pinned returns the room, which is made if there is none, and keeps it until release. It is called under h.mu.
func (h *Hub) pinned(name string) *room {
	r := h.rooms[name]
	if r == nil {
		r = &room{hub: h, name: name, users: map[user.ID]int32{}, roster: h.roster.epoch.Load()}
		r.checked.Store(h.roster.tick.Load())
		h.rooms[name] = r
	}
	r.refs++
	return r
}

// entered counts the occupant's user, and says so where it is the first connection anywhere.
func (o *occupant) entered(ctx context.Context) {
	r, who := o.room, o.client.user
	r.presence.Lock()
	defer r.presence.Unlock()
	o.client.mu.Lock()
	left := o.left
	o.client.mu.Unlock()
	if left {
		return // exited was, or will be, called without effect
	}
	o.counted = true
	r.users[who.ID]++
	if r.users[who.ID] > 1 {
		return
	}
	r.here.Store(int32(len(r.users)))
	h := r.hub
	epoch := h.roster.epoch.Load()
	if h.roster.held.Load() <= epoch {
		r.checked.Store(-1) // before the second look: if it sees no lease yet, the first comparison with one sees this
	}
	if h.roster.held.Load() <= epoch {
		// Without a lease nobody would take them away if this node died. They are entered with the first lease.
		r.enterLater(ctx, who)
		return
	}
	first, err := h.cfg.Presence.Enter(ctx, h.cfg.Now(), h.nodeName(epoch), r.name, who)
	if err != nil {
		h.cfg.Log.Warn("presence was not entered", "room", r.name, "error", err)
		r.enterLater(ctx, who)
		return
	}
	h.forgive(r.name, who.ID)
	r.learn(ctx, false)
	if first {
		r.announce(ctx, Signal{Kind: SignalJoined, User: who})
	}
}

// enterLater has the next renewal enter a user of this node whom Presence may not have. r.presence is held.
func (r *room) enterLater(ctx context.Context, who chat.Author) {
	if r.unsure == nil {
		r.unsure = map[user.ID]chat.Author{}
	}
	r.unsure[who.ID] = who
	r.checked.Store(-1)
	r.learn(ctx, true)
}

// exited is the opposite of entered.
func (o *occupant) exited(ctx context.Context) {
	r, who := o.room, o.client.user
	r.presence.Lock()
	defer r.presence.Unlock()
	if !o.counted {
		return
	}
	o.counted = false
	if r.users[who.ID]--; r.users[who.ID] > 0 {
		return
	}
	delete(r.users, who.ID)
	r.here.Store(int32(len(r.users)))
	delete(r.unsure, who.ID)
	h := r.hub
	last, err := h.cfg.Presence.Exit(ctx, h.cfg.Now(), h.nodeName(h.roster.epoch.Load()), r.name, who)
	if err != nil {
		h.cfg.Log.Warn("presence was not left", "room", r.name, "error", err)
		h.owe(r.name, who)
		return
	}
	h.forgive(r.name, who.ID)
	if last {
		r.announce(ctx, Signal{Kind: SignalLeft, User: who})
	}
}

// announce tells the room who has come and gone, unless it is too large for that.
func (r *room) announce(ctx context.Context, signals ...Signal) {
	if len(signals) == 0 {
		return
	}
	h := r.hub
	_, count, err := h.cfg.Presence.List(ctx, h.cfg.Now(), r.name, 0) // the count alone
	if err != nil {
		h.cfg.Log.Warn("nobody was told who came or went: the room could not be counted", "room", r.name, "error", err)
		return
	}
	if count > h.cfg.AnnounceUpTo {
		return
	}
	for _, s := range signals {
		s.Room = r.name
		h.publish(ctx, s)
	}
}

// contradict says that somebody has joined whom another node takes to have left, though they are here: Presence may
// have lost that, or their coming here and going there may have crossed.
func (r *room) contradict(s *Signal) {
	h, who := r.hub, s.User
	if s.Node == h.cfg.Node {
		return
	}
	if r.presence.TryLock() { // who holds it may wait for Presence, and delivery must not
		here := r.users[who.ID] > 0
		r.presence.Unlock()
		if !here {
			return
		}
	}
	h.background(func(ctx context.Context) {
		r.presence.Lock()
		defer r.presence.Unlock()
		if r.users[who.ID] > 0 {
			r.announce(ctx, Signal{Kind: SignalJoined, User: who})
		}
	})
}

// renew extends this node's lease, and puts right what Presence has of it. What cannot be done before the next
// renewal is done then.
func (h *Hub) renew(ctx context.Context) {
	working, cancel := context.WithTimeout(ctx, h.cfg.LeaseTTL/3)
	defer cancel()
	h.roster.tick.Add(1)
	_, err := h.lease(working)
	for errors.Is(err, ErrLeaseEnded) {
		h.cfg.Log.Warn("others took this node for dead: its users come in again", "node", h.nodeName(h.roster.epoch.Load()))
		h.roster.epoch.Add(1)
		_, err = h.lease(working)
	}
	if err == nil {
		err = h.settle(working)
	}
	if err == nil {
		if p := &h.roster; p.all == p.tick.Load() {
			h.distrust()
		}
		err = h.compare(working)
	}
	if err != nil && ctx.Err() == nil {
		h.cfg.Log.Warn("presence was not renewed", "error", err)
	}
}

// lease renews, with some rooms. A node ends the leases of others only once its own has lasted without a
// gap for longer than a LeaseTTL and the time between two renewals: when Presence was away, they have had the time
// to come back.
func (h *Hub) lease(ctx context.Context, rolls ...Roll) (Renewed, error) {
	p := &h.roster
	if epoch := p.epoch.Load(); epoch != p.leased {
		p.leased, p.since, p.until, p.all = epoch, time.Time{}, time.Time{}, p.tick.Load()
	}
	now, ttl := h.cfg.Now(), h.cfg.LeaseTTL
	first, lasts := p.since.IsZero(), p.until.After(now)
	r := Renewal{Node: h.nodeName(p.leased), Now: now, Until: now.Add(ttl), End: lasts && now.Sub(p.since) > ttl+ttl/3, Rolls: rolls}
	done, err := h.cfg.Presence.Renew(ctx, r)
	if err != nil {
		p.missed = true
		return done, err
	}
	if p.missed {
		p.missed, p.all = false, p.tick.Load() // who came and went meanwhile may not have been heard of
	}
	if p.until = r.Until; !lasts {
		p.since = now
	}
	p.held.Store(p.leased + 1)
	if done.Fresh && !first {
		p.all = p.tick.Load()
	}
	ended := make(map[string]struct{}, len(done.Ended))
	for _, name := range done.Ended {
		ended[name] = struct{}{}
		if _, known := p.ended[name]; !known {
			p.all = p.tick.Load() // its users are in some rooms
		}
	}
	p.ended = ended
	return done, nil
}

// compare compares the rooms that are due.
func (h *Hub) compare(ctx context.Context) error {
	p := &h.roster
	before := max(p.tick.Load()-checkEvery+1, p.all)
	h.mu.RLock()
	var due []*room
	for _, r := range h.rooms {
		if r.checked.Load() < before {
			due = append(due, r)
		}
	}
	h.mu.RUnlock()
	// In an order that does not depend on chance, so that a run can be repeated.
	slices.SortFunc(due, func(a, b *room) int { return strings.Compare(a.name, b.name) })
	// Who comes or goes just now is waited for in the end, without holding up other rooms.
	var busy []*room
	for len(due) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var batch []*room
		users := 0
		for len(due) > 0 && len(batch) < rollRooms && users < rollUsers {
			r := due[0]
			due = due[1:]
			switch {
			case !h.pin(r):
			case !r.presence.TryLock():
				busy = append(busy, r)
			default:
				batch = append(batch, r)
				users += len(r.users)
			}
		}
		err := h.right(ctx, batch)
		for _, r := range batch {
			r.presence.Unlock()
		}
		for _, r := range batch {
			if err == nil {
				r.catchUp(ctx)
			}
			r.release(ctx)
		}
		if err != nil {
			for _, r := range busy {
				r.release(ctx)
			}
			return err
		}
	}
	var failed error
	for _, r := range busy {
		if failed == nil {
			r.presence.Lock()
			failed = h.right(ctx, []*room{r})
			r.presence.Unlock()
			if failed == nil {
				r.catchUp(ctx)
			}
		}
		r.release(ctx)
	}
	return failed
}

// pin keeps a room until release, unless it has gone.
func (h *Hub) pin(r *room) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rooms[r.name] != r {
		return false
	}
	r.refs++
	return true
}

// right makes Presence have the users of these rooms, and tells the rooms what others missed: who came in while
// Presence was away, who went, and who was with a node that is dead. Who was only lost by Presence is
// entered silently, since nobody was told that they had left. The rooms' presence is locked.
func (h *Hub) right(ctx context.Context, rooms []*room) error {
	if len(rooms) == 0 {
		return nil
	}
	rolls := make([]Roll, len(rooms))
	byName := make(map[string]*room, len(rooms))
	for i, r := range rooms {
		rolls[i] = Roll{Room: r.name, Users: r.present()}
		byName[r.name] = r
	}
	done, err := h.lease(ctx, rolls...) // with an error, what it holds was done all the same
	told := map[*room][]Signal{}
	for _, w := range done.Left {
		r := byName[w.Room]
		told[r] = append(told[r], Signal{Kind: SignalLeft, User: w.User})
		h.forgive(w.Room, w.User.ID)
	}
	epoch := h.roster.leased
	for _, w := range done.Entered {
		r := byName[w.Room]
		if _, unsure := r.unsure[w.User.ID]; !unsure && r.roster != epoch {
			told[r] = append(told[r], Signal{Kind: SignalJoined, User: w.User})
		}
	}
	for _, r := range rooms {
		if err == nil {
			for _, who := range slices.SortedFunc(maps.Values(r.unsure), byUser) {
				told[r] = append(told[r], Signal{Kind: SignalJoined, User: who})
			}
			r.unsure, r.roster = nil, epoch
			r.checked.Store(h.roster.tick.Load())
		}
		r.announce(ctx, told[r]...)
	}
	return err
}

// present returns the counted users of the room, each once, under presence.
func (r *room) present() []chat.Author {
	users := make([]chat.Author, 0, len(r.users))
	var several map[user.ID]struct{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.occupants {
		if o == nil || !o.counted {
			continue
		}
		who := o.client.user
		if r.users[who.ID] > 1 {
			if _, there := several[who.ID]; there {
				continue
			}
			if several == nil {
				several = map[user.ID]struct{}{}
			}
			several[who.ID] = struct{}{}
		}
		users = append(users, who)
	}
	return users
}

// settle lets those leave whose Exit has failed.
func (h *Hub) settle(ctx context.Context) error {
	p := &h.roster
	p.mu.Lock()
	rooms := slices.Sorted(maps.Keys(p.owed))
	p.mu.Unlock()
	for _, name := range rooms {
		h.mu.Lock()
		r := h.pinned(name)
		h.mu.Unlock()
		r.presence.Lock()
		err := h.settleRoom(ctx, r)
		r.presence.Unlock()
		r.release(ctx)
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *Hub) settleRoom(ctx context.Context, r *room) error {
	if err := h.right(ctx, []*room{r}); err != nil {
		return err
	}
	// Whoever is left over is not there: Presence has lost them, or the Exit has taken effect and only
	// its answer was lost. Asking once more tells whether they are anywhere else.
	_, count, err := h.cfg.Presence.List(ctx, h.cfg.Now(), r.name, 0)
	if err != nil {
		return err
	}
	for _, who := range h.owedIn(r.name) {
		if r.users[who.ID] == 0 && count <= h.cfg.AnnounceUpTo {
			last, err := h.cfg.Presence.Exit(ctx, h.cfg.Now(), h.nodeName(h.roster.epoch.Load()), r.name, who)
			if err != nil {
				return err
			}
			if last {
				r.announce(ctx, Signal{Kind: SignalLeft, User: who})
			}
		}
		h.forgive(r.name, who.ID)
	}
	return nil
}
