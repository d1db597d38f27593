package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/realtime"
)

// fanout carries signals between nodes, as a server in memory does: what it cannot deliver is lost. Each delivery is an item.
type fanout struct {
	world *world

	mu    sync.Mutex
	nodes []*fanoutNode
}

// fanoutNode is the fan-out as one node has it.
type fanoutNode struct {
	net     *fanout
	process *process

	// Under net.mu:
	rooms   map[string]bool
	heard   map[string]uint64          // the highest sequence in a room that was delivered
	deliver func(realtime.Signal)      // nil while nobody runs
	links   map[link][]realtime.Signal // those under way, by where they come from: their order stays
}

// link is where signals come from.
type link struct{ from, room string }

func (f *fanout) node(p *process) *fanoutNode {
	n := &fanoutNode{net: f, process: p, rooms: map[string]bool{}, heard: map[string]uint64{}, links: map[link][]realtime.Signal{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = append(f.nodes, n)
	return n
}

// Publish sends a signal to every node that follows its room.
func (n *fanoutNode) Publish(ctx context.Context, s realtime.Signal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f := n.net
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, to := range f.nodes {
		if to.rooms[s.Room] && !to.process.dead.Load() {
			l := link{n.process.name, s.Room}
			to.links[l] = append(to.links[l], s)
			f.world.scheduler.arrive(fmt.Sprintf("fanout %s to %s in %s", l.from, to.process.name, s.Room), f.world.network, func() string { return to.next(l) })
		}
	}
	return nil
}

// heard returns the highest sequence in a room that a process was told.
func (f *fanout) heard(p *process, room string) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if n.process == p {
			return n.heard[room]
		}
	}
	return 0
}

// next delivers the first signal of a link, or several that follow it, or loses it.
func (n *fanoutNode) next(l link) string {
	w := n.net.world
	n.net.mu.Lock()
	waiting := n.links[l]
	if len(waiting) == 0 {
		n.net.mu.Unlock()
		return "nothing waits" // it went with one before
	}
	some := 1
	if w.scheduler.chance(0.3) {
		some += w.scheduler.random.IntN(len(waiting))
	}
	batch := waiting[:some]
	if n.links[l] = waiting[some:]; len(n.links[l]) == 0 {
		delete(n.links, l)
	}
	deliver := n.deliver
	if !n.rooms[l.room] || n.process.dead.Load() {
		deliver = nil
	}
	n.net.mu.Unlock()
	switch {
	case deliver == nil:
		return "nobody follows"
	case w.cut[n.process.name]:
		return "lost, the node is cut off"
	}
	what := ""
	for _, s := range batch {
		what += describe(s)
		if w.trouble(w.loss) {
			what += " lost"
			continue
		}
		if s.Kind == realtime.SignalMessage {
			n.hear(s.Room, s.Message.Seq)
		}
		w.rules.hears(n.process, s)
		deliver(s)
		if (s.Kind == realtime.SignalMessage || s.Kind == realtime.SignalMembership) && w.trouble(0.05) {
			what += " doubled"
			deliver(s)
		}
	}
	return what
}

func (n *fanoutNode) hear(room string, seq uint64) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.heard[room] = max(n.heard[room], seq)
}

func describe(s realtime.Signal) string {
	switch s.Kind {
	case realtime.SignalMessage:
		return fmt.Sprintf(" message %d", s.Message.Seq)
	case realtime.SignalJoined:
		return " joined " + s.User.Name
	case realtime.SignalLeft:
		return " left " + s.User.Name
	case realtime.SignalMarked:
		return fmt.Sprintf(" %s has read %d", s.User.Name, s.Read)
	default:
		return fmt.Sprintf(" kind %d of %s", s.Kind, s.User.Name)
	}
}

// Follow makes signals of a room reach the node.
func (n *fanoutNode) Follow(ctx context.Context, room string) error { return n.follow(ctx, room, true) }

// Unfollow ends that.
func (n *fanoutNode) Unfollow(ctx context.Context, room string) error {
	return n.follow(ctx, room, false)
}

func (n *fanoutNode) follow(ctx context.Context, room string, on bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.rooms[room] = on && n.net.world.bug.follows(n, room)
	return nil
}

// Run lets signals be delivered until ctx ends.
func (n *fanoutNode) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	f := n.net
	f.mu.Lock()
	n.deliver = deliver
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	n.deliver = nil
	for i, other := range f.nodes {
		if other == n {
			f.nodes = append(f.nodes[:i:i], f.nodes[i+1:]...)
			break
		}
	}
	return nil
}

// late is how long what the network carries takes.
func (w *world) network(r *rand.Rand) time.Duration {
	d := between(100*time.Microsecond, 5*time.Millisecond)(r)
	if !w.calm && r.Float64() < w.lateness {
		d += between(10*time.Millisecond, 3*time.Second)(r)
	}
	return d
}
