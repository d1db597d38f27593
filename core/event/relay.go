package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// RelayConfig is what a [Relay] needs.
type RelayConfig struct {
	Outbox    Outbox    // required
	Publisher Publisher // required
	// Poll is the longest time between looks at the outbox, and how long a topic that does not take its
	// events may keep those of others waiting. Default 1 second.
	Poll time.Duration
	// Batch is how many events are moved at once, at most: while the bus does not take as many within
	// Timeout, it is fewer. Default 100.
	Batch int
	// Timeout bounds one publish, and one call of the outbox. Default 10 seconds.
	Timeout time.Duration
	// MaxBackoff bounds the wait after failures, which starts at 100 ms and doubles. Default 5 seconds.
	MaxBackoff time.Duration
	// Rescan is how often the whole outbox is looked through while some of it cannot be published; otherwise what is held up
	// is tried at its oldest end. Default 30 seconds.
	Rescan time.Duration
	// MaxHeld bounds the keys that are remembered because an event of theirs could not be published; beyond it
	// a topic waits as a whole. Default 10,000.
	MaxHeld int
	// OnSetAside, if set, is called when an event that can never be published was set aside. It must not block.
	OnSetAside func(Event)
	// Log gets failures. Default: nothing.
	Log *slog.Logger
}

// minBackoff is the wait after the first failure.
const minBackoff = 100 * time.Millisecond

// Relay moves events from the outbox to the bus, at least once, and those with one topic and one key in order.
//
// An event that cannot be published now holds up its successors with the same topic and key, and nothing else: the
// relay looks past it, and tries again after a wait that doubles. A topic that does not exist, or that may not be
// written to, waits as a whole, as does one of which twenty events in a row have failed. What
// can never be published is set aside in the outbox with its reason, logged once, and counted.
//
// Its methods may be called from many goroutines; one Run at a time keeps the order.
type Relay struct {
	cfg   RelayConfig
	wake  chan struct{} // holds one: any number of wakes is one look
	aside atomic.Int64
}

// NewRelay checks the configuration, all of it at once.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	c := settings.Of("event: RelayConfig")
	c.Require("Outbox", cfg.Outbox == nil)
	c.Require("Publisher", cfg.Publisher == nil)
	settings.Default(c, "Poll", &cfg.Poll, time.Second)
	settings.Default(c, "Timeout", &cfg.Timeout, 10*time.Second)
	settings.Default(c, "MaxBackoff", &cfg.MaxBackoff, 5*time.Second)
	settings.Default(c, "Rescan", &cfg.Rescan, 30*time.Second)
	settings.Default(c, "Batch", &cfg.Batch, 100)
	settings.Default(c, "MaxHeld", &cfg.MaxHeld, 10_000)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Relay{cfg: cfg, wake: make(chan struct{}, 1)}, nil
}

// Wake makes the relay look at the outbox now, or after the wait that a failure has earned.
// It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// SetAside returns how many events this relay has set aside because they can never be published.
func (r *Relay) SetAside() int64 { return r.aside.Load() }

// Run moves events until ctx ends, and returns nil. A failure of the outbox or the bus is
// logged and tried again; events that were published but could not be marked come again.
func (r *Relay) Run(ctx context.Context) error {
	m := &mover{
		Relay: r, batch: r.cfg.Batch, backoff: min(minBackoff, r.cfg.MaxBackoff), readBackoff: min(minBackoff, r.cfg.MaxBackoff),
		held: map[lane]bool{}, resting: map[string]bool{}, row: map[string]int{}, busy: map[string]bool{}, results: make(chan result),
	}
	m.run(ctx)
	return nil
}

// restAfter is how many events of a topic fail in a row before the topic rests as a whole.
const restAfter = 20

// lane is what must stay in order.
type lane struct{ topic, key string }

// mover is one Run of a relay. Only its own goroutine touches it.
type mover struct {
	*Relay
	batch       int
	backoff     time.Duration // before the next try of what is held up
	readBackoff time.Duration // after a failure of the outbox

	// What is held up until retryAt: lanes, and topics as a whole.
	held    map[lane]bool
	resting map[string]bool
	row     map[string]int // by topic: how many lanes have failed since an event was taken
	retryAt time.Time
	// What was, when this look tried it again.
	wasHeld    map[lane]bool
	wasResting map[string]bool
	scanned    time.Time // when the whole outbox was last looked through

	busy    map[string]bool // topics with a Publish under way
	results chan result
	freed   bool // a topic was busy, and took something

	// after is the last event that was looked past: what lies before it is held up or busy. Empty for none.
	after string
}

// result is what became of one Publish.
type result struct {
	topic  string
	events []Event
	err    error
}

func (m *mover) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() { // what the bus has taken is marked, or it would come again
		for len(m.busy) > 0 {
			m.late(ctx, <-m.results)
		}
	}()
	for ctx.Err() == nil {
		if err := m.look(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			m.cfg.Log.Warn("the relay could not move events; it tries again", "error", err, "wait", m.readBackoff)
			// No wake ends this wait, or a busy system would hammer a store that is down.
			timer.Reset(m.readBackoff)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			m.readBackoff, m.after = min(2*m.readBackoff, m.cfg.MaxBackoff), ""
			continue
		}
		m.readBackoff = min(minBackoff, m.cfg.MaxBackoff)
		if m.settled(ctx) {
			continue
		}
		wait := m.cfg.Poll
		if m.waiting() {
			wait = min(wait, max(0, time.Until(m.retryAt)))
		}
		if m.freed || wait == 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-m.wake:
		case r := <-m.results:
			m.late(ctx, r)
		case <-ctx.Done():
		}
	}
}

// settled takes a result that waits, or else a wake, and never blocks. It reports whether there was one: then the outbox is read again.
// Results come first, so that the reading after a wake sees what they have changed.
func (m *mover) settled(ctx context.Context) bool {
	select {
	case r := <-m.results:
		m.late(ctx, r)
		return true
	default:
	}
	select {
	case <-m.wake:
		return true
	default:
		return false
	}
}

// waiting reports whether something is held up until retryAt.
func (m *mover) waiting() bool { return len(m.held)+len(m.resting) > 0 }

// stuck reports whether e must stay where it is for now.
func (m *mover) stuck(e Event) bool {
	return m.busy[e.Topic] || m.resting[e.Topic] || m.held[lane{e.Topic, e.Key}]
}

// look moves what can be moved. It begins behind what it has looked past before, unless there is something to try
// again: then at the oldest, and it goes on behind what it had looked past if that came to nothing.
func (m *mover) look(ctx context.Context) error {
	seen, freed := m.after, m.freed
	retry := m.waiting() && !time.Now().Before(m.retryAt)
	again := retry || freed
	whole := again && time.Since(m.scanned) >= m.cfg.Rescan
	m.wasHeld, m.wasResting = nil, nil
	if retry {
		m.wasHeld, m.wasResting = m.held, m.resting
		m.held, m.resting, m.row = map[lane]bool{}, map[string]bool{}, map[string]int{}
	}
	if again {
		m.freed, m.after = false, ""
	}
	if whole {
		m.scanned = time.Now()
	}
	for ctx.Err() == nil {
		events, err := m.pending(ctx)
		if err != nil {
			return fmt.Errorf("event: reading the outbox: %w", err)
		}
		full := len(events) == m.batch
		tried, got, err := m.publish(ctx, events)
		if err != nil {
			return err
		}
		for _, e := range events {
			if m.stuck(e) {
				m.after = e.ID
			}
		}
		switch {
		case got.revived:
			again = false
			m.backoff = min(minBackoff, m.cfg.MaxBackoff)
		case got.taken && !retry:
			again = false
		case again && tried && !whole && seen != "":
			// It is as bad as before: what lies between was looked at.
			for l := range m.wasHeld {
				m.held[l] = true
			}
			for topic := range m.wasResting {
				m.resting[topic] = true
			}
			m.after, again, full = seen, false, true
		}
		if !full {
			break
		}
	}
	if !m.waiting() {
		m.backoff = min(minBackoff, m.cfg.MaxBackoff)
		if len(m.busy) == 0 {
			m.after = ""
		}
	}
	return nil
}

func (m *mover) pending(ctx context.Context) ([]Event, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	if m.after == "" {
		return m.cfg.Outbox.Pending(ctx, m.batch)
	}
	return m.cfg.Outbox.PendingAfter(ctx, m.after, m.batch)
}

// publish tries the events that are not stuck, each topic by itself, and waits for all topics, or for those that are done
// within Poll: the others are busy then. It reports whether it tried any, and what that came to.
func (m *mover) publish(ctx context.Context, events []Event) (tried bool, got gain, err error) {
	calls := map[string][]Event{}
	for _, e := range events {
		if !m.stuck(e) {
			calls[e.Topic] = append(calls[e.Topic], e)
		}
	}
	if len(calls) == 0 {
		return false, gain{}, nil
	}
	for topic, part := range calls {
		m.busy[topic] = true
		go func() { m.results <- m.call(ctx, topic, part) }()
	}
	grace := time.NewTimer(m.cfg.Poll)
	defer grace.Stop()
	var done []result
	for left := len(calls); left > 0; {
		select {
		case r := <-m.results:
			if calls[r.topic] == nil {
				m.late(ctx, r)
				continue
			}
			done = append(done, r)
			left--
		case <-grace.C:
			left = 0
		}
	}
	got, err = m.settle(ctx, done...)
	return true, got, err
}

// late settles what nobody waited for.
func (m *mover) late(ctx context.Context, r result) {
	got, err := m.settle(ctx, r)
	m.freed = m.freed || got.taken
	if err != nil {
		m.cfg.Log.Warn("the relay could not move events; it tries again", "error", err)
		m.after = "" // they come again
	}
}

func (m *mover) call(ctx context.Context, topic string, events []Event) result {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	err := m.cfg.Publisher.Publish(ctx, events...)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = tooSlow{err}
	}
	return result{topic, events, err}
}

// tooSlow is the error of a publish that took all its time.
type tooSlow struct{ error }

func (e tooSlow) Unwrap() error { return e.error }

// gain is what a Publish came to: whether an event was taken, or set aside, and whether one that had been held up was.
type gain struct{ taken, revived bool }

// settle marks what was taken, sets aside what never will be, and holds up the rest. Its error is the outbox's.
func (m *mover) settle(ending context.Context, results ...result) (got gain, err error) {
	// The bus has them: marking them goes on when the context ends, or they would all come again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ending), m.cfg.Timeout)
	defer cancel()
	var (
		ids      []string
		failures []error
	)
	gone := func(e Event) {
		got.taken = true
		got.revived = got.revived || m.wasHeld[lane{e.Topic, e.Key}] || m.wasResting[e.Topic]
		m.row[e.Topic] = 0
	}
	for _, r := range results {
		delete(m.busy, r.topic)
		var part *PublishError
		known := errors.As(r.err, &part)
		failed := 0
		for i, e := range r.events {
			why := r.err
			if known {
				why = part.Failed[i]
			}
			switch {
			case why == nil:
				ids = append(ids, e.ID)
				gone(e)
			case Never(why) && (known || len(r.events) == 1):
				if err := m.setAside(ctx, e, why); err != nil {
					failures = append(failures, err)
					m.hold(e, err)
					continue
				}
				gone(e)
			default:
				failed++
				m.hold(e, why)
			}
		}
		if failed == 0 {
			m.batch = min(2*m.batch, m.cfg.Batch)
			continue
		}
		if ending.Err() == nil {
			m.cfg.Log.Warn("the relay could not move events; it tries again", "topic", r.topic, "wait", time.Until(m.retryAt),
				"error", fmt.Errorf("event: publishing %d events, of which %d wait: %w", len(r.events), failed, r.err))
		}
		if !known && (Never(r.err) || errors.As(r.err, &tooSlow{})) {
			// Perhaps one event is to blame, or there is no time for so many: it would be given the same batch for ever.
			m.batch = max(1, m.batch/2)
		}
	}
	if len(ids) > 0 {
		if err := m.cfg.Outbox.Published(ctx, ids...); err != nil {
			failures = append(failures, fmt.Errorf("event: marking %d events as published: %w", len(ids), err))
		}
	}
	return got, errors.Join(failures...)
}

// setAside puts away an event that can never be published.
func (m *mover) setAside(ctx context.Context, e Event, why error) error {
	if err := m.cfg.Outbox.SetAside(ctx, e.ID, why.Error()); err != nil {
		return fmt.Errorf("event: setting aside event %s: %w", e.ID, err)
	}
	m.aside.Add(1)
	if m.cfg.OnSetAside != nil {
		m.cfg.OnSetAside(e)
	}
	m.cfg.Log.Error("an event can never be published; it was set aside in the outbox, and its successors go on",
		"event", e.ID, "type", e.Type, "topic", e.Topic, "error", why)
	return nil
}

// hold keeps e, and its successors with it, until the next try.
func (m *mover) hold(e Event, why error) {
	if now := time.Now(); !m.waiting() || !m.retryAt.After(now) {
		m.retryAt = now.Add(m.backoff)
		m.backoff = min(2*m.backoff, m.cfg.MaxBackoff)
	}
	switch fault.KindOf(why) {
	case fault.NotFound, fault.Forbidden, fault.Unauthenticated:
		m.resting[e.Topic] = true
		return
	}
	l := lane{e.Topic, e.Key}
	if m.held[l] {
		return
	}
	m.held[l] = true
	m.row[e.Topic]++
	if m.row[e.Topic] >= restAfter || len(m.held) > m.cfg.MaxHeld {
		m.resting[e.Topic] = true
	}
}
