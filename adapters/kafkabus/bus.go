package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// Bus carries events over Kafka. Make one with [Open]. Its methods may be called from many
// goroutines; for each topic one Publish at a time reaches the brokers.
type Bus struct {
	cfg       Config
	client    sarama.Client // for Ping
	topics    []string      // those that Ping asks for
	records   *records
	publisher *watermillbus.Publisher
	probing   chan struct{} // one at a time

	ctx    context.Context // ends with Close
	end    context.CancelFunc
	closed sync.Once

	mu        sync.Mutex
	instances map[string]bool // names of static members that are in use
}

var (
	_ event.Publisher  = (*Bus)(nil)
	_ event.Subscriber = (*Bus)(nil)
)

// closeWait bounds the waits for connections to end.
const closeWait = 5 * time.Second

// Close ends every subscription and every Publish with watermillbus.ErrClosed, and the
// connections. It does not wait for subscriptions, so a handler may call it. Closing twice is
// harmless.
func (b *Bus) Close() error {
	var err error
	b.closed.Do(func() {
		b.end()
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		_, err = leave(ctx, func() (struct{}, error) {
			return struct{}{}, errors.Join(b.records.Close(), b.client.Close())
		}, func(struct{}) {})
	})
	if err != nil {
		return fmt.Errorf("kafkabus: closing: %w", translate(err))
	}
	return nil
}

// with returns a context that ends with ctx and with the bus.
func (b *Bus) with(ctx context.Context) (context.Context, func()) {
	both, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(b.ctx, cancel)
	return both, func() { stop(); cancel() }
}

// outcome prefers ErrClosed to what else was seen once the bus is closed.
func (b *Bus) outcome(ctx context.Context, what string, err error) error {
	if b.ctx.Err() != nil && ctx.Err() == nil {
		err = watermillbus.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("kafkabus: %s: %w", what, err)
	}
	return nil
}

// Publish implements event.Publisher: it returns nil when every in-sync replica has every event.
// Its error is an *event.PublishError. What it says of an event is watermillbus.ErrEventInvalid (it cannot travel),
// watermillbus.ErrClosed, or of kind Forbidden (no right to the topic), NotFound (no such topic), Invalid (too large for
// the topic or for this bus) or Unavailable.
func (b *Bus) Publish(ctx context.Context, events ...event.Event) error {
	both, end := b.with(ctx)
	defer end()
	err := b.publisher.Publish(both, events...)
	if part := (*event.PublishError)(nil); errors.As(err, &part) && b.ctx.Err() != nil && ctx.Err() == nil {
		for i, why := range part.Failed {
			if !event.Never(why) {
				part.Failed[i] = watermillbus.ErrClosed
			}
		}
	}
	if err != nil {
		return fmt.Errorf("kafkabus: publish: %w", err)
	}
	return nil
}

// Subscribe implements event.Subscriber. See the package comment for groups, for events that can
// never be handled, and for what ends a subscription.
func (b *Bus) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	if ctx.Err() != nil {
		return nil
	}
	both, end := b.with(ctx)
	defer end()
	c := b.newConsumer(both, topic, group)
	cfg := watermillbus.SubscriberConfig{
		Open:    func(context.Context, string, string) (message.Subscriber, error) { return c, nil },
		Backoff: b.cfg.Backoff, MaxBackoff: b.cfg.MaxBackoff,
		Dead: graves{b.records},
	}
	s, err := watermillbus.NewSubscriber(cfg)
	if err == nil {
		err = s.Subscribe(both, topic, group, c.guard(handle), ready)
	}
	if ctx.Err() != nil {
		return nil
	}
	if why := c.failure(); why != nil {
		err = translate(why)
	}
	return b.outcome(ctx, "subscription to "+topic, err)
}

// Ping returns nil if the cluster answers and the topics of the configuration have leaders. It
// gives up when ctx is done. One probe at a time is under way; others wait for their turn.
func (b *Bus) Ping(ctx context.Context) error {
	both, end := b.with(ctx)
	defer end()
	select {
	case b.probing <- struct{}{}:
	case <-both.Done():
		return b.outcome(ctx, "ping", fault.Wrap(fault.Unavailable, ctx.Err()))
	}
	_, err := leave(both, func() (struct{}, error) {
		defer func() { <-b.probing }()
		return struct{}{}, b.client.RefreshMetadata(b.topics...)
	}, func(struct{}) {})
	return b.outcome(ctx, "ping", translate(err))
}

// instance takes the first free name of a static member of a group. Names are the same after a
// restart, since subscriptions are made again.
func (b *Bus) instance(group string) (name string, release func()) {
	if b.cfg.Node == "" || group == "" {
		return "", func() {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for n := 1; ; n++ {
		name := b.cfg.Node + "-" + strconv.Itoa(n)
		key := group + "\x00" + name // whatever the topic: a group knows its members by name alone
		if !b.instances[key] {
			b.instances[key] = true
			return name, func() {
				b.mu.Lock()
				defer b.mu.Unlock()
				delete(b.instances, key)
			}
		}
	}
}

// records guards Watermill's publisher, whose Close must not meet a Publish. After a failure it
// looks for the topic's leaders before it tries again: the producer that fails to find them three
// times refuses everything for the next ten seconds, though the broker may be back at once.
type records struct {
	mu      sync.RWMutex
	to      message.Publisher
	leaders func(topic string) error // nil if the topic is there, and somebody answers for it
	suspect sync.Map                 // the topics whose last Publish failed
	closed  bool
}

var _ message.Publisher = (*records)(nil)

func (r *records) Publish(topic string, messages ...*message.Message) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return watermillbus.ErrClosed
	}
	if _, suspect := r.suspect.Load(topic); suspect {
		// One partition without a leader does not hold up the others.
		if err := r.leaders(topic); err != nil && !errors.Is(err, sarama.ErrLeaderNotAvailable) {
			return translate(err)
		}
	}
	err := translate(r.to.Publish(topic, messages...))
	if err == nil || event.Never(err) {
		r.suspect.Delete(topic)
	} else {
		r.suspect.Store(topic, true)
	}
	return err
}

// Close waits for what is under way.
func (r *records) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	return r.to.Close()
}

// graves publishes to dead topics. What is too large there, since the reason comes to it, goes without
// its data: otherwise it would be tried for ever and hold up its partition.
type graves struct{ *records }

// metaCut says on a dead record that its data was left out.
const metaCut = "dead_cut"

func (g graves) Publish(topic string, messages ...*message.Message) error {
	err := g.records.Publish(topic, messages...)
	if err == nil || !event.Never(err) {
		return err
	}
	cut := make([]*message.Message, len(messages))
	for i, m := range messages {
		cut[i] = m.Copy()
		cut[i].Payload = nil
		cut[i].Metadata.Set(metaCut, "true")
	}
	return g.records.Publish(topic, cut...)
}
