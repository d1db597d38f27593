package memory

import (
	"cmp"
	"context"
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
	rooms  map[string]map[string][]chat.Author // room, node: users ascending by ID
	leases map[string]time.Time                // node: end of its lease
}

var _ realtime.Presence = (*Presence)(nil)

// NewPresence returns a presence of nobody.
func NewPresence() *Presence {
	return &Presence{rooms: map[string]map[string][]chat.Author{}, leases: map[string]time.Time{}}
}

// Enter says that node has the user in room.
func (p *Presence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (first bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := alive(ctx); err != nil {
		return false, err
	}
	nodes := p.rooms[room]
	if nodes == nil {
		nodes = map[string][]chat.Author{}
		p.rooms[room] = nodes
	}
	users := nodes[node]
	if at, found := findUser(users, who.ID); found {
		users[at] = who
	} else {
		nodes[node] = slices.Insert(users, at, who)
	}
	return !p.elsewhere(now, node, room, who.ID), nil
}

// Exit says that node has the user no longer in room.
func (p *Presence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (last bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := alive(ctx); err != nil {
		return false, err
	}
	nodes := p.rooms[room]
	users := nodes[node]
	at, found := findUser(users, who.ID)
	if !found {
		return false, nil
	}
	users = slices.Delete(users, at, at+1)
	if len(users) < cap(users)/4 {
		users = slices.Clone(users)
	}
	nodes[node] = users
	if len(users) == 0 {
		delete(nodes, node)
	}
	if len(nodes) == 0 {
		delete(p.rooms, room)
	}
	return !p.elsewhere(now, node, room, who.ID), nil
}

// elsewhere reports whether a living node other than this one has the user in room.
func (p *Presence) elsewhere(now time.Time, node, room string, id user.ID) bool {
	for other, users := range p.rooms[room] {
		if other == node || !p.lives(other, now) {
			continue
		}
		if _, found := findUser(users, id); found {
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
			all = here
		default:
			all = merge(all, here)
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

// Renew extends the lease of node.
func (p *Presence) Renew(ctx context.Context, node string, until time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	p.leases[node] = until
	return nil
}

// findUser returns where the user stands, or should stand.
func findUser(users []chat.Author, id user.ID) (int, bool) {
	return slices.BinarySearchFunc(users, id, func(a chat.Author, id user.ID) int { return cmp.Compare(a.ID, id) })
}
