package memory

import (
	"cmp"
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// Presence is a realtime.Presence. It keeps the users of a room in one sorted array a node:
// two strings each, nothing else, and List of one node's room takes what it returns.
type Presence struct {
	mu     sync.RWMutex
	rooms  map[string]map[string]crowd // room, node
	leases map[string]time.Time        // node: end of its lease
	ended  map[string]struct{}         // nodes whose leases were ended for good
	seed   maphash.Seed
}

// crowd is whom a node has in a room.
type crowd struct {
	users []chat.Author // ascending by ID
	sum   uint64        // of their IDs' hashes: a roll of the same users is known without comparing them
}

var _ realtime.Presence = (*Presence)(nil)

// NewPresence returns a presence of nobody.
func NewPresence() *Presence {
	return &Presence{
		rooms: map[string]map[string]crowd{}, leases: map[string]time.Time{}, ended: map[string]struct{}{}, seed: maphash.MakeSeed(),
	}
}

// Enter says that node has the user in room.
func (p *Presence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := alive(ctx); err != nil {
		return false, err
	}
	p.add(node, room, who)
	return !p.elsewhere(node, room, who.ID, func(other string) bool { return p.lives(other, now) }), nil
}

func (p *Presence) mark(id user.ID) uint64 { return maphash.String(p.seed, string(id)) }

// add makes node have the user in room, and reports whether it did not.
func (p *Presence) add(node, room string, who chat.Author) bool {
	nodes := p.rooms[room]
	if nodes == nil {
		nodes = map[string]crowd{}
		p.rooms[room] = nodes
	}
	c := nodes[node]
	at, found := findUser(c.users, who.ID)
	if found {
		c.users[at] = who
		return false
	}
	nodes[node] = crowd{slices.Insert(c.users, at, who), c.sum + p.mark(who.ID)}
	return true
}

// remove makes node not have the user in room, and reports whether it did.
func (p *Presence) remove(node, room string, id user.ID) bool {
	nodes := p.rooms[room]
	c := nodes[node]
	at, found := findUser(c.users, id)
	if !found {
		return false
	}
	c.users = slices.Delete(c.users, at, at+1)
	if len(c.users) < cap(c.users)/4 {
		c.users = slices.Clone(c.users)
	}
	nodes[node] = crowd{c.users, c.sum - p.mark(id)}
	if len(c.users) == 0 {
		delete(nodes, node)
	}
	if len(nodes) == 0 {
		delete(p.rooms, room)
	}
	return true
}

// Exit says that node has the user no longer in room.
func (p *Presence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (last bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := alive(ctx); err != nil {
		return false, err
	}
	p.remove(node, room, who.ID)
	return !p.elsewhere(node, room, who.ID, nil), nil
}

// elsewhere reports whether a node other than this one, of those that count, has the user in room.
func (p *Presence) elsewhere(node, room string, id user.ID, counts func(node string) bool) bool {
	for other, c := range p.rooms[room] {
		if other == node || counts != nil && !counts(other) {
			continue
		}
		if _, found := findUser(c.users, id); found {
			return true
		}
	}
	return false
}

func (p *Presence) lives(node string, now time.Time) bool {
	until, leased := p.leases[node]
	return !leased || until.After(now)
}

// List returns at most limit users of room, and how many there are. A limit of 0 only counts.
func (p *Presence) List(ctx context.Context, now time.Time, room string, limit int) (users []chat.Author, count int, err error) {
	if err := alive(ctx); err != nil {
		return nil, 0, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	var all []chat.Author // shared with the node if there is only one
	shared := true
	for node, here := range p.rooms[room] {
		switch {
		case !p.lives(node, now):
		case all == nil:
			all = here.users
		default:
			all = merge(all, here.users)
			shared = false
		}
	}
	page := all[:min(max(limit, 0), len(all))]
	if shared || len(page) < len(all) {
		page = append([]chat.Author{}, page...)
	}
	return page, len(all), nil
}

// merge returns the users of two arrays, each once, ascending by ID.
func merge(a, b []chat.Author) []chat.Author {
	merged := make([]chat.Author, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		order := cmp.Compare(a[0].ID, b[0].ID)
		if order <= 0 {
			merged = append(merged, a[0])
			a = a[1:]
		} else {
			merged = append(merged, b[0])
		}
		if order >= 0 {
			b = b[1:]
		}
	}
	return append(append(merged, a...), b...)
}

// Renew extends the lease of a node, and puts right what is known of it.
func (p *Presence) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	sums := make([]uint64, len(r.Rolls)) // without the lock: a node may have many users
	for i, roll := range r.Rolls {
		for _, who := range roll.Users {
			sums[i] += p.mark(who.ID)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := alive(ctx); err != nil {
		return realtime.Renewed{}, err
	}
	if _, ended := p.ended[r.Node]; ended {
		return realtime.Renewed{}, realtime.ErrLeaseEnded
	}
	_, known := p.leases[r.Node]
	p.leases[r.Node] = r.Until
	if r.End {
		for node := range p.leases {
			if !p.lives(node, r.Now) && node != r.Node {
				p.ended[node] = struct{}{}
			}
		}
	}
	done := realtime.Renewed{Fresh: !known, Ended: slices.Sorted(maps.Keys(p.ended))}
	for i, roll := range r.Rolls {
		p.compare(r, roll, sums[i], &done)
	}
	return done, nil
}

// compare puts one room of a node right.
func (p *Presence) compare(r realtime.Renewal, roll realtime.Roll, sum uint64, done *realtime.Renewed) {
	leave := func(node string, who chat.Author) {
		if p.remove(node, roll.Room, who.ID) && !p.elsewhere(node, roll.Room, who.ID, nil) {
			done.Left = append(done.Left, realtime.Whereabouts{Room: roll.Room, User: who})
		}
	}
	if has := p.rooms[roll.Room][r.Node]; len(has.users) != len(roll.Users) || has.sum != sum {
		there := make(map[user.ID]struct{}, len(roll.Users))
		for _, who := range roll.Users {
			there[who.ID] = struct{}{}
			if p.add(r.Node, roll.Room, who) && !p.elsewhere(r.Node, roll.Room, who.ID, func(other string) bool { return p.lives(other, r.Now) }) {
				done.Entered = append(done.Entered, realtime.Whereabouts{Room: roll.Room, User: who})
			}
		}
		for _, who := range slices.Clone(p.rooms[roll.Room][r.Node].users) {
			if _, stays := there[who.ID]; !stays {
				leave(r.Node, who)
			}
		}
	}
	for node, c := range p.rooms[roll.Room] {
		if _, leased := p.leases[node]; !leased {
			p.leases[node] = r.Until // its lease was lost: it renews this one, or its users go
		}
		if _, ended := p.ended[node]; ended {
			for _, who := range slices.Clone(c.users) {
				leave(node, who)
			}
		}
	}
}

// findUser returns where the user stands, or should stand.
func findUser(users []chat.Author, id user.ID) (int, bool) {
	return slices.BinarySearchFunc(users, id, func(a chat.Author, id user.ID) int { return cmp.Compare(a.ID, id) })
}
