package watermillbus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

var (
	// ErrClosed says that the bus was closed.
	ErrClosed = fault.New(fault.Unavailable, "bus_closed", "the event bus is closed")
	// ErrBehind says that a subscriber was too slow and has been ended.
	ErrBehind = fault.New(fault.Exhausted, "subscriber_behind", "the subscriber fell too far behind the events")
	// ErrOwnTopic says that a handler publishes to the topic that waits for it.
	ErrOwnTopic = fault.New(fault.Invalid, "own_topic", "a handler cannot publish to the topic that waits for it")
)

// GoChannelConfig is what [NewGoChannel] needs. Zero fields mean the default.
type GoChannelConfig struct {
	// Groups declares, by topic, the groups that must handle every event before Publish returns, or
	// see it set aside. A dead topic cannot have one: it would hold up the topic itself.
	// Default none: then the bus loses what is published while nobody listens.
	Groups map[string][]string
	// Source says who publishes (ce_source). Default "parley".
	Source string
	// Behind is how many events a subscriber outside the declared groups may be behind. Default 1024.
	Behind int
	// Backoff is the wait after a handler's first failure; it doubles with each further one.
	// Default 100 milliseconds.
	Backoff time.Duration
	// MaxBackoff bounds the wait. Default 5 seconds.
	MaxBackoff time.Duration
}

// Bus carries events inside this process. Its methods may be called from many goroutines.
type Bus struct {
	source  string
	behind  int
	wait    backoff
	channel *gochannel.GoChannel
	ctx     context.Context // ends with Close
	close   context.CancelFunc
	pumps   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	turns    map[string]chan struct{}        // by topic: one event under way at a time
	streams  map[string]map[*stream]struct{} // by topic
	groups   map[groupName]*stream           // named groups, declared or not
	underway map[string]*delivery            // by the identifier of the message
}

type groupName struct{ topic, group string }

// stream is what one group, or one subscriber without a group, gets of a topic.
type stream struct {
	topic, group string
	declared     bool
	members      int
	messages     <-chan *message.Message
	stop         context.CancelFunc
	pumped       chan struct{} // closed when the pump has ended

	jobs   chan *job
	failed chan struct{} // closed when it fell behind

	turn chan struct{} // the member that handles
	head *job          // under turn: a job that was begun and is not done
}

// job is an event that a stream has to handle.
type job struct {
	event    event.Event
	delivery *delivery // nil if nobody waits for it
	failures int
	// withdrawn, under Bus.mu, says that it must not begin again.
	withdrawn bool
}

// delivery is one publishing of one event.
type delivery struct {
	id      string
	turn    chan struct{}
	waiting map[*stream]*job // not done yet; nil until the message has arrived
	settled chan struct{}    // closed when waiting is empty
	gaveUp  chan struct{}    // closed when the publisher does not wait any longer
}

var (
	_ event.Publisher  = (*Bus)(nil)
	_ event.Subscriber = (*Bus)(nil)
)

// NewGoChannel makes a bus inside this process, which the caller closes.
func NewGoChannel(cfg GoChannelConfig) (*Bus, error) {
	c := settings.Of("watermillbus: GoChannelConfig")
	settings.Default(c, "Behind", &cfg.Behind, 1024)
	wait := newBackoff(c, cfg.Backoff, cfg.MaxBackoff)
	for topic, groups := range cfg.Groups {
		if _, ok := event.DeadTopic(topic); !ok {
			c.Refuse("Groups", "declares the dead topic %q, which must hold up nobody", topic)
		}
		if topic == "" || slices.Contains(groups, "") {
			c.Refuse("Groups", "declares %q for the topic %q, want no empty name", groups, topic)
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	b := &Bus{
		source:   cfg.Source,
		behind:   cfg.Behind,
		wait:     wait,
		channel:  gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{}),
		turns:    map[string]chan struct{}{},
		streams:  map[string]map[*stream]struct{}{},
		groups:   map[groupName]*stream{},
		underway: map[string]*delivery{},
	}
	b.ctx, b.close = context.WithCancel(context.Background())
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic, groups := range cfg.Groups {
		for _, group := range groups {
			if b.groups[groupName{topic, group}] != nil {
				continue
			}
			if _, err := b.open(topic, group, true); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// Close ends every subscription and every Publish that waits, with ErrClosed. It waits for
// neither, so a handler may call it. Closing twice is harmless.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.close()
	b.pumps.Wait()
	return b.channel.Close()
}

// Publish implements event.Publisher: for each event in turn it waits until every declared group
// of the topic has handled it; topics do not wait for each other. Its error is an *event.PublishError: ErrEventInvalid for
// an event that cannot travel; an error of kind Unavailable when ctx is done; ErrClosed; or ErrOwnTopic when
// ctx is that of a handler that would wait for itself.
func (b *Bus) Publish(ctx context.Context, events ...event.Event) error {
	failed := map[int]error{}
	parts := map[string]*part{} // by topic
	for i, e := range events {
		m, err := Encode(e, b.source)
		if err == nil && ctx.Value(handling{b, e.Topic}) != nil {
			err = ErrOwnTopic
		}
		if err != nil {
			failed[i] = fmt.Errorf("watermillbus: %w", err)
			continue
		}
		m.UUID = watermill.NewUUID() // of this publishing: an event may be published twice
		if parts[e.Topic] == nil {
			parts[e.Topic] = &part{topic: e.Topic, failed: map[int]error{}}
		}
		parts[e.Topic].add(i, e.Key, m)
	}
	var running sync.WaitGroup
	for topic, part := range parts {
		running.Go(func() {
			for _, m := range part.messages {
				part.note(b.publish(ctx, topic, m))
			}
		})
	}
	running.Wait()
	for _, part := range parts {
		maps.Copy(failed, part.failed)
	}
	return event.Failures(failed)
}

func (b *Bus) publish(ctx context.Context, topic string, m *message.Message) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
	turn := b.turnOf(topic)
	select {
	case turn <- struct{}{}: // settle gives it back
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err())
	case <-b.ctx.Done():
		return ErrClosed
	}
	d, err := b.send(topic, m, turn)
	if err != nil {
		return err
	}
	select {
	case <-d.settled:
		return nil
	case <-ctx.Done():
		err = fault.Wrap(fault.Unavailable, ctx.Err())
	case <-b.ctx.Done():
		err = ErrClosed
	}
	if b.withdraw(d) {
		return nil
	}
	return err
}

func (b *Bus) turnOf(topic string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	turn, ok := b.turns[topic]
	if !ok {
		turn = make(chan struct{}, 1)
		b.turns[topic] = turn
	}
	return turn
}

// send gives the message to GoChannel, which gives it to the pump of each stream. Streams come
// and go under the same lock, so the account of who gets it is right.
func (b *Bus) send(topic string, m *message.Message, turn chan struct{}) (*delivery, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := &delivery{id: m.UUID, turn: turn, waiting: map[*stream]*job{}, settled: make(chan struct{}), gaveUp: make(chan struct{})}
	for s := range b.streams[topic] {
		d.waiting[s] = nil
	}
	b.underway[d.id] = d
	var err error
	if b.closed {
		err = ErrClosed
	} else if failed := b.channel.Publish(topic, m); failed != nil {
		err = fault.Wrap(fault.Unavailable, failed)
	}
	if err != nil || len(d.waiting) == 0 {
		b.finish(d)
	}
	return d, err
}

// settle notes that s is done with d. The caller holds mu.
func (b *Bus) settle(d *delivery, s *stream) {
	if _, ok := d.waiting[s]; !ok {
		return
	}
	delete(d.waiting, s)
	if len(d.waiting) == 0 {
		b.finish(d)
	}
}

// finish ends d and gives its turn to the next. The caller holds mu.
func (b *Bus) finish(d *delivery) {
	delete(b.underway, d.id)
	close(d.settled)
	<-d.turn
}

// withdraw takes back what is not done, and reports whether all was done already. A call that
// runs goes on, and its stream begins nothing else meanwhile.
func (b *Bus) withdraw(d *delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(d.waiting) == 0 {
		return true
	}
	close(d.gaveUp)
	for s, j := range d.waiting {
		if j != nil { // otherwise the pump will see that it is given up
			j.withdrawn = true
			b.settle(d, s)
		}
	}
	return false
}

// open makes a stream. The caller holds mu.
func (b *Bus) open(topic, group string, declared bool) (*stream, error) {
	ctx, stop := context.WithCancel(b.ctx)
	messages, err := b.channel.Subscribe(ctx, topic)
	if err != nil {
		stop()
		return nil, fmt.Errorf("watermillbus: subscribe to %s: %w", topic, fault.Wrap(fault.Unavailable, err))
	}
	waiting := b.behind
	if declared {
		waiting = 1 // the next event is published only when this one is settled
	}
	s := &stream{
		topic: topic, group: group, declared: declared,
		messages: messages, stop: stop,
		pumped: make(chan struct{}),
		jobs:   make(chan *job, waiting),
		failed: make(chan struct{}),
		turn:   make(chan struct{}, 1),
	}
	if b.streams[topic] == nil {
		b.streams[topic] = map[*stream]struct{}{}
	}
	b.streams[topic][s] = struct{}{}
	if group != "" {
		b.groups[groupName{topic, group}] = s
	}
	b.pumps.Add(1)
	go b.pump(s)
	return s, nil
}

// drop ends a stream; nobody waits for it any longer. The caller holds mu.
func (b *Bus) drop(s *stream) {
	s.stop()
	delete(b.streams[s.topic], s)
	if len(b.streams[s.topic]) == 0 {
		delete(b.streams, s.topic)
	}
	if name := (groupName{s.topic, s.group}); b.groups[name] == s {
		delete(b.groups, name)
	}
	for _, d := range b.underway {
		b.settle(d, s)
	}
}

// pump turns the messages of a stream into jobs, until the stream is dropped or the bus closed.
func (b *Bus) pump(s *stream) {
	defer b.pumps.Done()
	defer close(s.pumped)
	for m := range s.messages {
		m.Ack() // GoChannel has done its part; the account is kept here
		b.accept(s, m)
	}
}

func (b *Bus) accept(s *stream, m *message.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.underway[m.UUID]
	if d == nil {
		return
	}
	if _, ok := d.waiting[s]; !ok { // dropped meanwhile
		return
	}
	select {
	case <-d.gaveUp:
		b.settle(d, s)
		return
	default:
	}
	e, err := Decode(s.topic, m)
	if err != nil { // cannot be: the message was made by Encode
		b.settle(d, s)
		return
	}
	if s.declared {
		select {
		case <-s.jobs: // withdrawn, and nobody was there to notice
		default:
		}
		j := &job{event: e, delivery: d}
		d.waiting[s] = j
		s.jobs <- j
		return
	}
	select {
	case s.jobs <- &job{event: e}:
		b.settle(d, s)
	default:
		close(s.failed)
		b.drop(s)
	}
}

// Subscribe implements event.Subscriber. It returns ErrClosed when the bus is closed, and
// ErrBehind when the handler was too slow.
func (b *Bus) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	if ctx.Err() != nil {
		return nil
	}
	s, err := b.join(topic, group)
	if err != nil {
		return err
	}
	defer b.leave(s)
	if ready != nil {
		ready()
	}
	if s.declared {
		ctx = context.WithValue(ctx, handling{b, topic}, true)
	}
	err = b.serve(ctx, s, handle)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// handling marks the context of a handler whose topic waits for it.
type handling struct {
	bus   *Bus
	topic string
}

func (b *Bus) join(topic, group string) (*stream, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("watermillbus: subscribe to %s: %w", topic, ErrClosed)
	}
	s := b.groups[groupName{topic, group}]
	if s == nil {
		var err error
		if s, err = b.open(topic, group, false); err != nil {
			return nil, err
		}
	}
	s.members++
	return s, nil
}

func (b *Bus) leave(s *stream) {
	b.mu.Lock()
	s.members--
	last := s.members == 0 && !s.declared
	if last {
		b.drop(s)
	}
	b.mu.Unlock()
	if last {
		<-s.pumped
	}
}

// serve takes turns with the other members until ctx ends.
func (b *Bus) serve(ctx context.Context, s *stream, handle event.Handler) error {
	for {
		// In this order: who is told to stop does not take another event.
		if err := b.over(ctx, s); err != nil {
			return err
		}
		select {
		case s.turn <- struct{}{}:
			b.next(ctx, s, handle)
			<-s.turn
		case <-ctx.Done():
		case <-s.failed:
		case <-b.ctx.Done():
		}
	}
}

// over says why a member must stop, if it must.
func (b *Bus) over(ctx context.Context, s *stream) error {
	select {
	case <-s.failed:
		return fmt.Errorf("watermillbus: subscription to %s: %w", s.topic, ErrBehind)
	default:
	}
	if b.ctx.Err() != nil {
		return fmt.Errorf("watermillbus: subscription to %s: %w", s.topic, ErrClosed)
	}
	return ctx.Err()
}

// next handles one job, once. The caller has the turn.
func (b *Bus) next(ctx context.Context, s *stream, handle event.Handler) {
	if s.head == nil {
		select {
		case s.head = <-s.jobs:
		case <-ctx.Done():
			return
		case <-s.failed:
			return
		case <-b.ctx.Done():
			return
		}
	}
	j := s.head
	if b.over(ctx, s) != nil {
		return
	}
	if !b.begin(j) {
		s.head = nil
		return
	}
	err := handle(ctx, j.event)
	if event.Never(err) {
		err = b.bury(ctx, j.event, err)
	}
	if b.end(s, j, err) {
		s.head = nil
		return
	}
	j.failures++
	var gaveUp <-chan struct{}
	if j.delivery != nil {
		gaveUp = j.delivery.gaveUp
	}
	timer := time.NewTimer(b.wait.after(j.failures))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-gaveUp:
	case <-ctx.Done(): // another member goes on with it
	case <-s.failed:
	case <-b.ctx.Done():
	}
}

// begin reports whether j is still to be handled.
func (b *Bus) begin(j *job) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !j.withdrawn
}

// end notes the outcome of a call and reports whether the stream is done with j.
func (b *Bus) end(s *stream, j *job, failed error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed != nil {
		return false // a withdrawn one will not begin again
	}
	if j.delivery != nil {
		b.settle(j.delivery, s)
	}
	return true
}

// bury publishes an event that can never be handled to its dead topic. It waits for no handler,
// since a dead topic has no declared group.
func (b *Bus) bury(ctx context.Context, e event.Event, why error) error {
	grave, ok := event.DeadTopic(e.Topic)
	if !ok {
		return nil
	}
	m, err := Encode(e, b.source)
	if err != nil { // cannot be: it was an event
		return err
	}
	m.UUID = watermill.NewUUID()
	m.Metadata.Set(MetaReason, reason(why))
	return b.publish(ctx, grave, m)
}
