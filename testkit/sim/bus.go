package sim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/event"
)

// bus carries events between processes, as a broker that has them on disk does: it outlives them. Each delivery is an item.
type bus struct {
	world *world

	mu     sync.Mutex
	groups []*group
	taken  []event.Event // everything that was published, in that order
	buried []event.Event
}

// group shares the events of a topic.
type group struct {
	topic, name string
	own         bool // of one subscriber that has no group; it goes with it
	lanes       []*lane
	subscribers []*subscriber
}

// lane is the events of one key, in order.
type lane struct {
	key    string
	events []event.Event
	busy   bool // a subscriber has the first
	again  bool // the first came before: what was done with it was forgotten
}

// subscriber handles one event at a time.
type subscriber struct {
	process *process
	give    chan delivery
	busy    bool
}

type delivery struct {
	lane   *lane
	event  event.Event
	forget bool // the bus will not know that it was handled
}

// group returns a group, which is made if there is none.
func (b *bus) group(topic, name string) *group {
	for _, g := range b.groups {
		if g.topic == topic && g.name == name {
			return g
		}
	}
	g := &group{topic: topic, name: name}
	b.groups = append(b.groups, g)
	return g
}

// port is the bus as one process has it.
type port struct {
	bus     *bus
	process *process
}

// Publish puts events behind those of their keys.
func (p port) Publish(ctx context.Context, events ...event.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := map[int]error{}
	b := p.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range events {
		if err := e.Check(); err != nil {
			failed[i] = err
			continue
		}
		b.taken = append(b.taken, e)
		for _, g := range b.groups {
			if g.topic == e.Topic && !b.world.bug.loses(e) {
				b.add(g, e)
			}
		}
	}
	return event.Failures(failed)
}

// add puts an event into a group, under mu.
func (b *bus) add(g *group, e event.Event) {
	at := slices.IndexFunc(g.lanes, func(l *lane) bool { return l.key == e.Key })
	if at < 0 {
		at = len(g.lanes)
		g.lanes = append(g.lanes, &lane{key: e.Key})
	}
	l := g.lanes[at]
	if l.events = append(l.events, e); len(l.events) == 1 {
		b.next(g, l, b.world.network)
	}
}

// next makes the first event of a lane come after a while.
func (b *bus) next(g *group, l *lane, wait latency) {
	b.world.scheduler.arrive(fmt.Sprintf("bus %s/%s %s", g.topic, g.name, l.key), wait, func() string { return b.give(g, l) })
}

// give hands the first event of a lane to a subscriber.
func (b *bus) give(g *group, l *lane) string {
	w := b.world
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.events) == 0 || l.busy {
		return "nothing waits"
	}
	var idle []*subscriber
	for _, s := range g.subscribers {
		if !s.busy && !s.process.dead.Load() && !w.partition[s.process.name] {
			idle = append(idle, s)
		}
	}
	if len(idle) == 0 {
		if !g.own || len(g.subscribers) > 0 {
			b.next(g, l, between(50*time.Millisecond, 200*time.Millisecond))
		}
		return "nobody takes it"
	}
	s := pick(w.scheduler.random, idle)
	d := delivery{lane: l, event: l.events[0], forget: !l.again && w.trouble(0.05)}
	s.busy, l.busy = true, true
	s.give <- d
	return fmt.Sprintf("%s %s to %s", d.event.Type, d.event.ID, s.process.name)
}

// Subscribe handles events.
func (p port) Subscribe(ctx context.Context, topic, name string, handle event.Handler, ready func()) error {
	b := p.bus
	s := &subscriber{process: p.process, give: make(chan delivery, 1)}
	b.mu.Lock()
	var g *group
	if name == "" {
		g = b.group(topic, "of "+p.process.name)
		g.own = true
	} else {
		g = b.group(topic, name)
	}
	g.subscribers = append(g.subscribers, s)
	b.mu.Unlock()
	if ready != nil {
		ready()
	}
	for {
		select {
		case <-ctx.Done():
			b.leave(g, s)
			return nil
		case d := <-s.give:
			err := handle(ctx, d.event)
			b.settle(g, s, d, err)
		}
	}
}

// settle moves on behind an event that was handled.
func (b *bus) settle(g *group, s *subscriber, d delivery, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.busy, d.lane.busy = false, false
	wait := b.world.network
	switch {
	case s.process.dead.Load(): // it comes again
	case err == nil && d.forget:
		d.lane.again = true
	case err == nil, event.Never(err):
		if err != nil {
			b.buried = append(b.buried, d.event)
		}
		d.lane.events = d.lane.events[1:]
		d.lane.again = false
	default:
		wait = between(50*time.Millisecond, 500*time.Millisecond)
	}
	if len(d.lane.events) > 0 {
		b.next(g, d.lane, wait)
	}
}

// leave ends a subscription. What it was given and has not handled comes again.
func (b *bus) leave(g *group, s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g.subscribers = slices.DeleteFunc(g.subscribers, func(other *subscriber) bool { return other == s })
	select {
	case d := <-s.give:
		d.lane.busy = false
		b.next(g, d.lane, b.world.network)
	default:
	}
	if g.own {
		b.groups = slices.DeleteFunc(b.groups, func(other *group) bool { return other == g })
	}
}

// waiting says what waits on the bus.
func (b *bus) waiting() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.groups {
		for _, l := range g.lanes {
			if len(l.events) > 0 {
				return fmt.Sprintf("%s for %s/%s", l.events[0].ID, g.topic, g.name)
			}
		}
	}
	return ""
}
