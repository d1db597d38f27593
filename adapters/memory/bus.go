package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// BusConfig is what a [Bus] may be told. Values that are not positive mean the defaults.
type BusConfig struct {
	// MaxPending is the most events that one group holds. Default 1,024.
	MaxPending int
	// RetryAfter is the wait before an event whose handler failed comes again; it doubles
	// with each failure up to MaxRetryAfter. Defaults 10 milliseconds, 1 second.
	RetryAfter, MaxRetryAfter time.Duration
}

// Bus is an event.Publisher and an event.Subscriber.
//
// A group exists from its first Subscribe on, and keeps what is published while none of its
// subscribers is there; an event of a topic without groups is dropped. A group that holds as
// many events as it may makes Publish wait until one is done, or until its context is.
//
// What can never be handled goes to the groups of the dead topic, if there are any, without the
// reason. A group there that holds as many events as it may gets no more of them.
//
// While a failed event waits to come again, its successors with the same key wait too, and
// other keys go on. A subscriber handles one event at a time; several of one group share the keys.
type Bus struct {
	cfg BusConfig

	mu     sync.Mutex
	topics map[string][]*group // replaced, never changed
}

// group is the events that subscribers of one name share. A lane with events is in exactly one of three
// places: in due, with a subscriber that handles its first event, or behind a timer. There are at most as
// many lanes as events, so due, which holds as many, never blocks its sender.
type group struct {
	name  string
	slots chan struct{} // one element for each event held
	due   chan *lane
	gone  chan struct{} // closed when an unnamed group ends

	mu    sync.Mutex
	lanes map[string]*lane
}

// lane is the events of one key, in order.
type lane struct {
	events []event.Event
	wait   time.Duration // the last one, if the first event has failed
}

var (
	_ event.Publisher  = (*Bus)(nil)
	_ event.Subscriber = (*Bus)(nil)
)

// NewBus returns a bus without groups.
func NewBus(cfg BusConfig) *Bus {
	cfg.MaxPending = or(cfg.MaxPending, 1024)
	if cfg.RetryAfter <= 0 {
		cfg.RetryAfter = 10 * time.Millisecond
	}
	if cfg.MaxRetryAfter <= 0 {
		cfg.MaxRetryAfter = time.Second
	}
	return &Bus{cfg: cfg, topics: map[string][]*group{}}
}

// Publish gives every event to the groups of its topic. It refuses those that lack an ID, a topic or a type.
func (b *Bus) Publish(ctx context.Context, events ...event.Event) error {
	if err := alive(ctx); err != nil {
		return err
	}
	failed := map[int]error{}
	for i, e := range events {
		if err := e.Check(); err != nil {
			failed[i] = err
			continue
		}
		if err := b.publish(ctx, e); err != nil {
			failed[i] = err // and so will the others be, since ctx is done
		}
	}
	return event.Failures(failed)
}

func (b *Bus) publish(ctx context.Context, e event.Event) error {
	b.mu.Lock()
	groups := b.topics[e.Topic]
	b.mu.Unlock()
	for _, g := range groups {
		if err := g.put(ctx, cloneEvent(e)); err != nil {
			return err
		}
	}
	return alive(ctx)
}

func (g *group) put(ctx context.Context, e event.Event) error {
	if err := alive(ctx); err != nil {
		return err
	}
	select {
	case g.slots <- struct{}{}:
	case <-g.gone:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
	g.add(e)
	return nil
}

// offer is put for an event that must hold up nobody: it is dropped if there is no room.
func (g *group) offer(e event.Event) {
	select {
	case g.slots <- struct{}{}:
		g.add(e)
	default:
	}
}

// add puts an event, which has a slot, behind those with the same key.
func (g *group) add(e event.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lanes[e.Key]
	if l == nil {
		l = &lane{}
		g.lanes[e.Key] = l
		g.due <- l
	}
	l.events = append(l.events, e)
}

// Subscribe handles the events of topic, one at a time.
func (b *Bus) Subscribe(ctx context.Context, topic, name string, handle event.Handler, ready func()) error {
	g := b.join(topic, name)
	if name == "" {
		defer b.end(topic, g)
	}
	if ready != nil {
		ready()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-g.due:
			if ctx.Err() != nil {
				g.due <- l
				return nil
			}
			b.handle(ctx, g, l, handle)
		}
	}
}

// join finds the group, or makes it. An empty name is always a new one.
func (b *Bus) join(topic, name string) *group {
	b.mu.Lock()
	defer b.mu.Unlock()
	groups := b.topics[topic]
	if name != "" {
		if at := slices.IndexFunc(groups, func(g *group) bool { return g.name == name }); at >= 0 {
			return groups[at]
		}
	}
	g := &group{
		name:  name,
		slots: make(chan struct{}, b.cfg.MaxPending),
		due:   make(chan *lane, b.cfg.MaxPending),
		gone:  make(chan struct{}),
		lanes: map[string]*lane{},
	}
	b.topics[topic] = append(slices.Clip(groups), g)
	return g
}

// end removes an unnamed group, and releases the publishers that wait for it.
func (b *Bus) end(topic string, g *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(g.gone)
	left := slices.DeleteFunc(slices.Clone(b.topics[topic]), func(other *group) bool { return other == g })
	if len(left) == 0 {
		delete(b.topics, topic)
		return
	}
	b.topics[topic] = left
}

// handle lets the first event of l be handled, and puts l where it then belongs.
func (b *Bus) handle(ctx context.Context, g *group, l *lane, handle event.Handler) {
	g.mu.Lock()
	e := l.events[0]
	g.mu.Unlock()

	err := handle(ctx, cloneEvent(e))
	if event.Never(err) {
		b.bury(e)
		err = nil
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		l.wait = 0
		l.events[0] = event.Event{}
		l.events = l.events[1:]
		<-g.slots
		if len(l.events) == 0 {
			delete(g.lanes, e.Key)
			return
		}
		g.due <- l
	case ctx.Err() != nil: // the subscriber goes; the next one need not wait
		g.due <- l
	default:
		l.wait = min(max(2*l.wait, b.cfg.RetryAfter), b.cfg.MaxRetryAfter)
		time.AfterFunc(l.wait, func() { g.due <- l })
	}
}

// bury puts an event that can never be handled on the dead topic.
func (b *Bus) bury(e event.Event) {
	dead, ok := event.DeadTopic(e.Topic)
	if !ok {
		return
	}
	b.mu.Lock()
	groups := b.topics[dead]
	b.mu.Unlock()
	for _, g := range groups {
		buried := cloneEvent(e)
		buried.Topic = dead
		g.offer(buried)
	}
}
