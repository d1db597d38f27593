package memory

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/realtime"
)

// Fanout connects hubs of one process. Each hub gets a [FanoutNode] of its own.
type Fanout struct {
	mu    sync.RWMutex
	nodes []*FanoutNode // replaced, never changed
}

// FanoutNode is a realtime.Fanout: one node of a [Fanout].
//
// What a node publishes it delivers to itself at once: Publish calls deliver and returns when
// that has returned, with no goroutine and no queue between them. So the order of the calls of
// Publish is the order of the deliveries, and deliver may publish, follow and unfollow but
// must not wait for whoever publishes.
//
// Signals of other nodes, and a node's own while no Run is under way, wait until Run delivers
// them. At most 4,096 wait; when there are more, the older half is lost.
type FanoutNode struct {
	net *Fanout

	mu      sync.Mutex
	rooms   map[string]struct{}
	running bool
	deliver func(realtime.Signal) // nil until Run has delivered what waited for it
	waiting []realtime.Signal
	wake    chan struct{} // says that something waits
	calls   int           // of deliver under way in Publish
	idle    chan struct{} // closed when calls is 0, if Run waits for that
}

// maxWaiting is the most signals that wait for Run.
const maxWaiting = 4096

var _ realtime.Fanout = (*FanoutNode)(nil)

// NewFanout returns a fan-out without nodes.
func NewFanout() *Fanout { return &Fanout{} }

// Node returns a new node, which follows no room.
func (f *Fanout) Node() *FanoutNode {
	n := &FanoutNode{net: f, rooms: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes = append(slices.Clip(f.nodes), n)
	return n
}

// Publish hands s to every node that follows its room, to this one last: what its deliver
// publishes comes after s everywhere.
func (n *FanoutNode) Publish(ctx context.Context, s realtime.Signal) error {
	if err := alive(ctx); err != nil {
		return err
	}
	s.Message = s.Message.Clone()
	s.Message.At, s.Message.EditedAt, s.Message.DeletedAt = stamp(s.Message.At), stamp(s.Message.EditedAt), stamp(s.Message.DeletedAt)
	n.net.mu.RLock()
	nodes := n.net.nodes
	n.net.mu.RUnlock()
	for _, other := range nodes {
		if other != n {
			other.put(s)
		}
	}
	n.deliverNow(s)
	return nil
}

// put lets a signal of another node wait for Run.
func (n *FanoutNode) put(s realtime.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, follows := n.rooms[s.Room]; follows {
		n.wait(s)
	}
}

// wait lets s wait for Run. The caller holds the lock.
func (n *FanoutNode) wait(s realtime.Signal) {
	if len(n.waiting) == maxWaiting {
		n.waiting = slices.Delete(n.waiting, 0, maxWaiting/2)
	}
	n.waiting = append(n.waiting, s)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// deliverNow delivers a signal of this node, or lets it wait behind others for Run.
func (n *FanoutNode) deliverNow(s realtime.Signal) {
	n.mu.Lock()
	if _, follows := n.rooms[s.Room]; !follows {
		n.mu.Unlock()
		return
	}
	deliver := n.deliver
	if deliver == nil {
		n.wait(s)
		n.mu.Unlock()
		return
	}
	n.calls++
	n.mu.Unlock()

	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.calls--
		if n.calls == 0 && n.idle != nil {
			close(n.idle)
			n.idle = nil
		}
	}()
	deliver(s)
}

// Follow makes signals of room reach this node.
func (n *FanoutNode) Follow(ctx context.Context, room string) error {
	if err := alive(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rooms[room] = struct{}{}
	return nil
}

// Unfollow ends that.
func (n *FanoutNode) Unfollow(ctx context.Context, room string) error {
	if err := alive(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.rooms, room)
	return nil
}

// Run lets deliver have the signals until ctx ends. When it returns, no call of deliver is
// under way. A second Run at the same time is an error.
func (n *FanoutNode) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	n.mu.Lock()
	if n.running {
		n.mu.Unlock()
		return errors.New("memory: this fan-out node runs already")
	}
	n.running = true
	n.mu.Unlock()

	for ctx.Err() == nil {
		n.mu.Lock()
		batch := n.waiting
		n.waiting = nil
		if len(batch) == 0 {
			n.deliver = deliver // nothing of its own waits that a call could overtake
		}
		n.mu.Unlock()
		for _, s := range batch {
			if ctx.Err() == nil {
				deliver(s)
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-n.wake:
		case <-ctx.Done():
		}
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.deliver = nil
	if n.calls > 0 {
		idle := make(chan struct{})
		n.idle = idle
		n.mu.Unlock()
		<-idle
		n.mu.Lock()
	}
	n.running = false
	return nil
}
