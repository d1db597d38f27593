package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

const (
	// handlerGrace is how long a running handler may go on after its partition was taken away.
	// Together with the longest back-off it stays within rebalanceTimeout.
	handlerGrace = 2 * time.Second
	// retryWait is the pause between tries to join or to read.
	retryWait = 200 * time.Millisecond
	// patience is how many refusals in a row end a subscription that was ready once: a broker
	// that starts may refuse at first.
	patience = 10
)

// consumer is one subscription: what watermillbus takes for a transport.
type consumer struct {
	bus          *Bus
	topic, group string
	ctx          context.Context // of Subscribe

	in      chan *message.Message // from partitions
	turn    chan struct{}         // the partition whose record is under way
	now     atomic.Pointer[delivery]
	joined  chan struct{} // closed when it is ready
	join    sync.Once
	live    context.Context // ends when there is nothing left to read
	end     context.CancelCauseFunc
	running sync.WaitGroup

	mu       sync.Mutex
	refusals int
}

// delivery is one record under way.
type delivery struct {
	message  *message.Message
	session  context.Context // ends when the partition is taken away
	forsaken atomic.Bool     // left to the next owner of the partition
}

var _ message.Subscriber = (*consumer)(nil)

func (b *Bus) newConsumer(ctx context.Context, topic, group string) *consumer {
	c := &consumer{
		bus: b, topic: topic, group: group, ctx: ctx,
		in: make(chan *message.Message), turn: make(chan struct{}, 1), joined: make(chan struct{}),
	}
	c.live, c.end = context.WithCancelCause(context.Background())
	return c
}

// errEnded is the cause of an orderly end.
var errEnded = errors.New("the subscription has ended")

// failure says why the subscription ended by itself, if it did.
func (c *consumer) failure() error {
	if cause := context.Cause(c.live); cause != nil && !errors.Is(cause, errEnded) {
		return cause
	}
	return nil
}

// Subscribe returns when events published from then on will be delivered.
func (c *consumer) Subscribe(live context.Context, _ string) (<-chan *message.Message, error) {
	context.AfterFunc(live, func() { c.end(errEnded) })
	instance, release := c.bus.instance(c.group)
	cfg := c.bus.cfg
	client, err := leave(c.ctx, func() (sarama.Client, error) {
		client, err := sarama.NewClient(cfg.Brokers, cfg.consumer(instance))
		if err == nil {
			err = c.check(client)
		}
		if err != nil && client != nil {
			_ = client.Close()
		}
		return client, err
	}, func(client sarama.Client) { _ = client.Close() })
	if err != nil {
		release()
		c.end(err)
		return nil, err
	}
	c.running.Go(func() {
		defer release()
		defer func() { _ = client.Close() }() // its requests are over
		if c.group == "" {
			c.follow(client)
		} else {
			c.share(client, instance)
		}
	})
	select {
	case <-c.joined:
	case <-c.live.Done():
		return nil, context.Cause(c.live)
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	out := make(chan *message.Message)
	c.running.Go(func() { c.hand(out) })
	return out, nil
}

// Close ends the subscription. It waits for a broker that does not answer only so long.
func (c *consumer) Close() error {
	c.end(errEnded)
	ended := make(chan struct{})
	go func() { c.running.Wait(); close(ended) }()
	limit := time.NewTimer(closeWait)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C: // the rest ends by its own time-outs
	}
	return nil
}

// name is a topic's or a group's in the cluster.
func (c *consumer) name(of string) string { return c.bus.cfg.Prefix + of }

// check looks for the topics before anything is joined.
func (c *consumer) check(client sarama.Client) error {
	topics := []string{c.topic}
	if dead, ok := event.DeadTopic(c.topic); ok {
		topics = append(topics, dead)
	}
	for _, topic := range topics {
		var err error
		for c.ctx.Err() == nil { // a broker that is down, or starting, is waited for
			if _, err = client.Partitions(c.name(topic)); err == nil {
				break
			}
			if refused(err) || errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
				return fmt.Errorf("topic %s: %w", c.name(topic), err)
			}
			c.pause(c.ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pause waits a little, or until ctx ends.
func (c *consumer) pause(ctx context.Context) {
	timer := time.NewTimer(retryWait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// note ends the subscription when trying again will not help.
func (c *consumer) note(err error) {
	if err == nil || !refused(err) {
		return
	}
	c.mu.Lock()
	c.refusals++
	n := c.refusals
	c.mu.Unlock()
	select {
	case <-c.joined:
		if n < patience && fault.KindOf(translate(err)) != fault.Conflict {
			return
		}
	default:
	}
	c.end(err)
}

// hand gives what comes from the partitions to watermillbus. It closes out, so that the end does
// not depend on a broker.
func (c *consumer) hand(out chan<- *message.Message) {
	defer close(out)
	for {
		select {
		case m := <-c.in:
			select {
			case out <- m:
			case <-c.live.Done():
				m.Nack()
				return
			}
		case <-c.live.Done():
			return
		}
	}
}

// deliver hands one record over and reports whether it is done with.
func (c *consumer) deliver(session context.Context, r *sarama.ConsumerMessage) bool {
	select {
	case c.turn <- struct{}{}:
	case <-session.Done():
		return false
	}
	defer func() { <-c.turn }()
	d := &delivery{message: unmarshal(r), session: session}
	d.message.SetContext(session)
	c.now.Store(d)
	select {
	case c.in <- d.message:
	case <-session.Done():
		return false
	}
	select {
	case <-d.message.Acked(): // even after the session's end: its handler is still running
	case <-d.message.Nacked():
		return false
	}
	c.mu.Lock()
	c.refusals = 0
	c.mu.Unlock()
	return !d.forsaken.Load()
}

// guard adds to a handler what the port does not know: partitions that are taken away. Nil from
// it means that there is nothing left to do here.
func (c *consumer) guard(handle event.Handler) event.Handler {
	return func(ctx context.Context, e event.Event) error {
		d := c.now.Load()
		if d.session.Err() != nil {
			d.forsaken.Store(true)
			return nil
		}
		running, stop := d.while(ctx)
		defer stop()
		err := handle(running, e)
		if err != nil && !event.Never(err) && d.session.Err() != nil {
			d.forsaken.Store(true)
			return nil
		}
		return err
	}
}

// while returns a context that ends with ctx, and a while after the session.
func (d *delivery) while(ctx context.Context) (context.Context, func()) {
	running, cancel := context.WithCancel(ctx)
	var (
		mu    sync.Mutex
		timer *time.Timer
	)
	unhook := context.AfterFunc(d.session, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(handlerGrace, cancel)
	})
	return running, func() {
		unhook()
		cancel()
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}

// share reads as a member of a group until the subscription ends.
func (c *consumer) share(client sarama.Client, instance string) {
	group, err := sarama.NewConsumerGroupFromClient(c.name(c.group), client)
	if err != nil {
		c.end(err)
		return
	}
	var noting sync.WaitGroup
	noting.Go(func() {
		for err := range group.Errors() {
			c.note(err)
		}
	})
	for c.live.Err() == nil {
		if err := c.session(client, group); err != nil && c.live.Err() == nil {
			c.note(err)
			c.pause(c.live)
		}
	}
	_ = group.Close() // a broker that does not hear it will notice
	noting.Wait()
	if instance != "" && c.failure() == nil {
		c.depart(client, instance)
	}
}

// depart takes a static member out of its group. Sarama leaves it in until its session ends.
func (c *consumer) depart(client sarama.Client, instance string) {
	coordinator, err := client.Coordinator(c.name(c.group))
	if err != nil {
		return
	}
	_, _ = coordinator.LeaveGroup(&sarama.LeaveGroupRequest{ // or its session runs out
		Version: 3, GroupId: c.name(c.group), Members: []sarama.MemberIdentity{{GroupInstanceId: &instance}},
	})
}

// session is one session of the group: it ends when members come or go, and when the topic is another one.
func (c *consumer) session(client sarama.Client, group sarama.ConsumerGroup) error {
	ctx, end := context.WithCancel(c.live)
	m := &member{consumer: c, client: client, end: end}
	defer m.watching.Wait()
	defer end()
	return group.Consume(ctx, []string{c.name(c.topic)}, m)
}

// member is the consumer as Sarama calls it, in one session of its group.
type member struct {
	*consumer
	client   sarama.Client
	end      context.CancelFunc
	watching sync.WaitGroup
	id       sarama.Uuid // of the topic; zero where the brokers give none
	stamp    string      // what is committed with each offset
}

var _ sarama.ConsumerGroupHandler = (*member)(nil)

// stampPrefix stands before the topic's identifier in what is committed with an offset.
const stampPrefix = "topic-id="

// Setup finds out whether the offsets that the group has committed are of this topic, or of one of the same name that was
// deleted. The broker forgets those of a topic that it deletes, but a member may commit once more, when there is a new one.
func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	topic := m.name(m.topic)
	id, partitions := m.list(s.Context(), m.client, topic)
	if len(partitions) == 0 {
		return sarama.ErrLeaderNotAvailable // whatever it is, it is tried again
	}
	if m.id = id; id != (sarama.Uuid{}) {
		m.stamp = stampPrefix + id.String()
		committed, err := m.committed(topic, s.Claims()[topic])
		if err != nil {
			return err
		}
		for partition, at := range committed {
			switch {
			case at.Offset < 0 || at.Metadata == m.stamp:
			case strings.HasPrefix(at.Metadata, stampPrefix): // another topic's
				s.ResetOffset(topic, partition, 0, m.stamp)
			default: // by an older program, or a tool
				s.ResetOffset(topic, partition, at.Offset, m.stamp)
			}
		}
		m.watching.Go(func() { m.watch(s.Context(), topic) })
	}
	m.join.Do(func() { close(m.joined) })
	return nil
}

// committed asks for the group's offsets.
func (m *member) committed(topic string, partitions []int32) (map[int32]*sarama.OffsetFetchResponseBlock, error) {
	if len(partitions) == 0 {
		return nil, nil
	}
	coordinator, err := m.client.Coordinator(m.name(m.group))
	if err != nil {
		return nil, err
	}
	answer, err := coordinator.FetchOffset(sarama.NewOffsetFetchRequest(m.client.Config().Version, m.name(m.group), map[string][]int32{topic: partitions}))
	if err != nil {
		return nil, err
	}
	if !errors.Is(answer.Err, sarama.ErrNoError) {
		return nil, answer.Err
	}
	all := map[int32]*sarama.OffsetFetchResponseBlock{}
	for _, p := range partitions {
		block := answer.GetBlock(topic, p)
		if block == nil {
			return nil, sarama.ErrIncompleteResponse
		}
		if !errors.Is(block.Err, sarama.ErrNoError) {
			return nil, block.Err
		}
		all[p] = block
	}
	return all, nil
}

// watch ends the session when the topic was deleted and made again. The number of its partitions may be the same, and then Sarama
// goes on at offsets that say nothing any more.
func (m *member) watch(ctx context.Context, topic string) {
	look := time.NewTicker(m.bus.cfg.Refresh)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		if now, _ := m.list(ctx, m.client, topic); now != m.id && now != (sarama.Uuid{}) {
			m.end()
			return
		}
	}
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim handles one partition, in order, until it is taken away.
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for r := range claim.Messages() {
		if s.Context().Err() != nil || !m.deliver(s.Context(), r) {
			return nil
		}
		// Also after the session's end: Sarama commits once more before it lets go.
		s.MarkMessage(r, m.stamp)
	}
	return nil
}

// follow reads every partition, without a group, until the subscription ends.
func (c *consumer) follow(client sarama.Client) {
	topic := c.name(c.topic)
	reader, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		c.end(err)
		return
	}
	defer func() { _ = reader.Close() }() // its partitions are closed
	partitions, err := client.Partitions(topic)
	if err != nil {
		c.end(err)
		return
	}
	id, _ := c.list(c.live, client, topic)
	reading := c.readers(reader, topic)
	defer func() { reading.stop() }()
	for _, p := range partitions {
		next, err := c.begin(client, topic, p)
		if err != nil {
			c.end(err)
			return
		}
		reading.start(p, next)
	}
	c.join.Do(func() { close(c.joined) })
	look := time.NewTicker(c.bus.cfg.Refresh)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-c.live.Done():
			return
		}
		now, partitions := c.list(c.live, client, topic)
		if now != id && now != (sarama.Uuid{}) {
			if id != (sarama.Uuid{}) { // deleted and made again: offsets of before say nothing
				reading.stop()
				reading = c.readers(reader, topic)
			}
			id = now
		}
		// What is published to a partition that was added was published after ready, so it is read from its beginning.
		for _, p := range partitions {
			reading.start(p, sarama.OffsetOldest)
		}
	}
}

// list asks for a topic's identifier and partitions. A list that cannot be read now, as when the broker is
// away or the topic was deleted, is empty; what is refused, readers are told too.
func (c *consumer) list(ctx context.Context, client sarama.Client, topic string) (id sarama.Uuid, partitions []int32) {
	answer, err := leave(ctx, func() (*sarama.MetadataResponse, error) {
		broker := client.LeastLoadedBroker()
		if broker == nil {
			return nil, sarama.ErrOutOfBrokers
		}
		return broker.GetMetadata(sarama.NewMetadataRequest(client.Config().Version, []string{topic}))
	}, func(*sarama.MetadataResponse) {})
	if err != nil {
		return sarama.Uuid{}, nil
	}
	for _, t := range answer.Topics {
		if t.Name == topic && (errors.Is(t.Err, sarama.ErrNoError) || errors.Is(t.Err, sarama.ErrLeaderNotAvailable)) {
			id = t.Uuid
			for _, p := range t.Partitions {
				partitions = append(partitions, p.ID)
			}
		}
	}
	return id, partitions
}

// readers are those of a topic's partitions.
type readers struct {
	of      *consumer
	from    sarama.Consumer
	topic   string
	ctx     context.Context
	cancel  context.CancelFunc
	known   map[int32]bool
	running sync.WaitGroup
}

func (c *consumer) readers(from sarama.Consumer, topic string) *readers {
	r := &readers{of: c, from: from, topic: topic, known: map[int32]bool{}}
	r.ctx, r.cancel = context.WithCancel(c.live)
	return r
}

// start reads a partition from next on, unless it is read already.
func (r *readers) start(partition int32, next int64) {
	if r.known[partition] {
		return
	}
	r.known[partition] = true
	r.running.Go(func() { r.of.read(r.ctx, r.from, r.topic, partition, next) })
}

// stop ends them, and waits.
func (r *readers) stop() {
	r.cancel()
	r.running.Wait()
}

// begin returns the offset at which a subscription without a group begins: the one that the next
// record of a partition will have, or that of the first record of the time to replay.
func (c *consumer) begin(client sarama.Client, topic string, partition int32) (int64, error) {
	next, err := c.offset(client, topic, partition, sarama.OffsetNewest)
	if err != nil || c.bus.cfg.Replay == 0 {
		return next, err
	}
	since, err := c.offset(client, topic, partition, time.Now().Add(-c.bus.cfg.Replay).UnixMilli())
	if err != nil || since < 0 { // there is none so young
		return next, err
	}
	return min(since, next), nil
}

// offset asks for an offset until the broker says it or refuses.
func (c *consumer) offset(client sarama.Client, topic string, partition int32, at int64) (int64, error) {
	for {
		offset, err := client.GetOffset(topic, partition, at)
		if err == nil || refused(err) {
			return offset, err
		}
		c.pause(c.ctx)
		if c.ctx.Err() != nil {
			return 0, c.ctx.Err()
		}
	}
}

// read reads one partition from next on. Where Sarama gives up, it begins again.
func (c *consumer) read(ctx context.Context, reader sarama.Consumer, topic string, partition int32, next int64) {
	for ctx.Err() == nil {
		records, err := reader.ConsumePartition(topic, partition, next)
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			next = sarama.OffsetOldest // those in between are no longer kept
		}
		if err != nil {
			c.note(err)
			c.pause(ctx)
			continue
		}
		next = c.drain(ctx, records, next)
		_ = records.Close() // what it holds was not handled, and is read again
	}
}

// drain delivers what a partition gives until it gives no more, and returns the next offset.
func (c *consumer) drain(ctx context.Context, records sarama.PartitionConsumer, next int64) int64 {
	for {
		select {
		case r, ok := <-records.Messages():
			if !ok || !c.deliver(ctx, r) {
				return next
			}
			next = r.Offset + 1
		case err := <-records.Errors():
			if err != nil {
				c.note(err)
			}
		case <-ctx.Done():
			return next
		}
	}
}
