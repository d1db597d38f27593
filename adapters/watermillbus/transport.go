package watermillbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// PublisherConfig is what a [Publisher] needs. Zero fields without "required" mean the default.
type PublisherConfig struct {
	// Publisher takes over messages: when its Publish returns nil they are safe. An error without a kind is
	// taken as Unavailable; kind Invalid says that a message can never be published, and NotFound, Forbidden and
	// Unauthenticated that its topic takes none for now. Required.
	Publisher message.Publisher
	// Source says who publishes (ce_source). Default "parley".
	Source string
}

// Publisher publishes events over one of Watermill's transports. Its methods may be called from
// many goroutines; for each topic one call at a time reaches the transport, with one message.
type Publisher struct {
	cfg PublisherConfig

	mu    sync.Mutex
	turns map[string]chan struct{} // by topic
}

var _ event.Publisher = (*Publisher)(nil)

// NewPublisher checks the configuration.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	c := settings.Of("watermillbus: PublisherConfig")
	c.Require("Publisher", cfg.Publisher == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &Publisher{cfg: cfg, turns: map[string]chan struct{}{}}, nil
}

// giveUpAfter is how many keys of a topic fail in a row before a Publish tries no more of it.
const giveUpAfter = 8

// Publish hands the events to the transport, each topic by itself and in order. Its error is an *event.PublishError:
// ErrEventInvalid for an event that cannot travel, the transport's error for one that it does not take and
// for its successors with the same key, and kind Unavailable when ctx is done. After a failure of the topic itself (NotFound,
// Forbidden, Unauthenticated), or of eight keys in a row, the rest of the topic fails untried. A transport does not
// always heed a context: its call is then left to end by itself, in a goroutine, and later calls with
// the topic wait for it, so that nothing overtakes its events.
func (p *Publisher) Publish(ctx context.Context, events ...event.Event) error {
	failed := map[int]error{}
	parts := map[string]*part{} // by topic
	for i, e := range events {
		m, err := Encode(e, p.cfg.Source)
		if err != nil {
			failed[i] = fmt.Errorf("watermillbus: %w", err)
			continue
		}
		m.SetContext(ctx)
		if parts[e.Topic] == nil {
			parts[e.Topic] = &part{topic: e.Topic, failed: map[int]error{}}
		}
		parts[e.Topic].add(i, e.Key, m)
	}
	var running sync.WaitGroup
	for topic, part := range parts {
		running.Go(func() {
			_ = inTurn(ctx, p.turn(topic), func() error { // part knows
				part.publish(ctx, p.cfg.Publisher)
				return nil
			})
			part.end(ctx.Err())
		})
	}
	running.Wait()
	for _, part := range parts {
		maps.Copy(failed, part.failed)
	}
	return event.Failures(failed)
}

func (p *Publisher) turn(topic string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn, ok := p.turns[topic]
	if !ok {
		turn = make(chan struct{}, 1)
		p.turns[topic] = turn
	}
	return turn
}

// part is what a Publish has for one topic.
type part struct {
	topic    string
	indexes  []int // in the call
	keys     []string
	messages []*message.Message

	mu     sync.Mutex
	known  int           // how many of them have an outcome, in their order
	failed map[int]error // by index in the call
	ended  bool          // Publish does not wait any longer: what comes later is not told
}

func (p *part) add(index int, key string, m *message.Message) {
	p.indexes, p.keys, p.messages = append(p.indexes, index), append(p.keys, key), append(p.messages, m)
}

// publish hands over the messages in order.
func (p *part) publish(ctx context.Context, to message.Publisher) {
	behind := map[string]error{} // by key: why its events wait
	row := 0
	var all error // why the rest waits
	for n, m := range p.messages {
		if all == nil && ctx.Err() != nil {
			all = fault.Wrap(fault.Unavailable, ctx.Err())
		}
		err := all
		if err == nil {
			err = behind[p.keys[n]]
		}
		if err != nil {
			p.note(err)
			continue
		}
		if err = to.Publish(p.topic, m); err != nil && fault.KindOf(err) == fault.Internal {
			err = fault.Wrap(fault.Unavailable, err)
		}
		p.note(err)
		kind := fault.KindOf(err)
		switch {
		case err == nil:
			row = 0
		case kind == fault.Invalid:
		default:
			behind[p.keys[n]] = err
			row++
			if row == giveUpAfter || kind == fault.NotFound || kind == fault.Forbidden || kind == fault.Unauthenticated {
				all = err
			}
		}
	}
}

// note takes down what became of the next message.
func (p *part) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if err != nil {
		p.failed[p.indexes[p.known]] = fmt.Errorf("watermillbus: publish to %s: %w", p.topic, err)
	}
	p.known++
}

// end closes the account: what is not known has failed because of err.
func (p *part) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.known < len(p.indexes) {
		p.failed[p.indexes[p.known]] = fmt.Errorf("watermillbus: publish to %s: %w", p.topic, fault.Wrap(fault.Unavailable, err))
		p.known++
	}
	p.ended = true
}

// inTurn takes the turn, does what it is told, and gives the turn back, even if ctx ends first.
func inTurn(ctx context.Context, turn chan struct{}, do func() error) error {
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		err := do()
		<-turn
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SubscriberConfig is what a [Subscriber] needs. Zero fields without "required" mean the default.
type SubscriberConfig struct {
	// Open returns a subscriber of the transport for one call of Subscribe, which closes it at the
	// end. Members of one group must share the messages of a topic; each subscriber with an
	// empty group must get all that are published from then on. Messages of one key must come
	// one after the other's acknowledgement. Required.
	Open func(ctx context.Context, topic, group string) (message.Subscriber, error)
	// Dead gets what can never be handled, on the topic with ".dead" behind its name: messages that
	// are not events, and events whose handler returns an error of kind Invalid. The message is not
	// acknowledged before. Default: they are acknowledged and dropped, which the port does not allow.
	Dead message.Publisher
	// Backoff is the wait after a handler's first failure; it doubles with each further one.
	// Default 100 milliseconds.
	Backoff time.Duration
	// MaxBackoff bounds the wait. Default 5 seconds.
	MaxBackoff time.Duration
}

// Subscriber delivers events from one of Watermill's transports. Its methods may be called from
// many goroutines.
type Subscriber struct {
	cfg  SubscriberConfig
	wait backoff
}

var _ event.Subscriber = (*Subscriber)(nil)

// NewSubscriber checks the configuration, all of it at once.
func NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	c := settings.Of("watermillbus: SubscriberConfig")
	c.Require("Open", cfg.Open == nil)
	wait := newBackoff(c, cfg.Backoff, cfg.MaxBackoff)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &Subscriber{cfg: cfg, wait: wait}, nil
}

// Subscribe implements event.Subscriber. A message is acknowledged once its handler has returned
// nil or it was set aside; until then the handler is called again in place, so the transport gives out no successor.
// It returns an error of kind Unavailable when the transport refuses or ends the subscription.
func (s *Subscriber) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	if ctx.Err() != nil {
		return nil
	}
	err := s.subscribe(ctx, topic, group, handle, ready)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("watermillbus: subscribe to %s: %w", topic, fault.Wrap(fault.Unavailable, err))
	}
	return nil
}

func (s *Subscriber) subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) (err error) {
	transport, err := s.cfg.Open(ctx, topic, group)
	if err != nil {
		return err
	}
	// The transport's own context outlives ctx until the running call has been settled, or its
	// acknowledgement would come too late.
	live, end := context.WithCancel(context.WithoutCancel(ctx))
	messages, err := transport.Subscribe(live, topic)
	if err != nil {
		end()
		return errors.Join(err, transport.Close())
	}
	if ready != nil {
		ready()
	}
	err = s.consume(ctx, topic, messages, handle)
	end()
	left := make(chan struct{})
	go func() { // a transport may wait for somebody to take its last message
		defer close(left)
		for m := range messages {
			m.Nack()
		}
	}()
	err = errors.Join(err, transport.Close())
	<-left
	return err
}

func (s *Subscriber) consume(ctx context.Context, topic string, messages <-chan *message.Message, handle event.Handler) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case m, ok := <-messages:
			if !ok {
				return errors.New("the transport ended the subscription")
			}
			if s.wait.until(ctx, func() error { return s.settle(ctx, topic, m, handle) }) {
				m.Ack()
			} else {
				m.Nack()
			}
		}
	}
	return nil
}

// settle does with m what there is to do: nil means never again.
func (s *Subscriber) settle(ctx context.Context, topic string, m *message.Message, handle event.Handler) error {
	e, err := Decode(topic, m)
	if err == nil {
		if err = handle(ctx, e); !event.Never(err) {
			return err
		}
	}
	grave, ok := event.DeadTopic(topic)
	if !ok || s.cfg.Dead == nil {
		return nil
	}
	dead := m.Copy()
	dead.Metadata.Set(MetaReason, reason(err))
	return inTurn(ctx, make(chan struct{}, 1), func() error { return s.cfg.Dead.Publish(grave, dead) })
}
