package prometheus

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
)

// Instrument returns cfg with ports that count, and with hooks that do; hooks that it has already are called as well.
// It registers what the ports that cfg has are good for, and may be called once.
func (m *Metrics) Instrument(cfg parley.Config) (parley.Config, error) {
	return cfg, errors.Join(m.accounts(&cfg), m.node(&cfg), m.bus(&cfg), m.mails(&cfg), m.webhooks(&cfg))
}

// accounts instruments what signs people in.
func (m *Metrics) accounts(cfg *parley.Config) error {
	if cfg.Users == nil || cfg.Sessions == nil {
		return nil
	}
	signIns := counters("signins_total", "Sign-ins by what became of them.", "result")
	for _, result := range []string{"ok", "wrong", "unverified", "limited", "failed"} {
		signIns.WithLabelValues(result)
	}
	revoked := counters("sessions_revoked_total", "Sessions that were ended before their time, by why; all of a user at once count as one.", "reason")
	for _, reason := range auth.RevokeReasons() {
		revoked.WithLabelValues(string(reason))
	}
	signedIn, ended := cfg.Auth.SignedIn, cfg.Auth.Revoked
	cfg.Auth.SignedIn = func(err error) {
		signIns.WithLabelValues(signInResult(err)).Inc()
		if signedIn != nil {
			signedIn(err)
		}
	}
	cfg.Auth.Revoked = func(reason auth.RevokeReason) {
		revoked.WithLabelValues(string(reason)).Inc()
		if ended != nil {
			ended(reason)
		}
	}
	return m.register(signIns, revoked)
}

func signInResult(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, auth.ErrInvalidCredentials):
		return "wrong"
	case errors.Is(err, auth.ErrNotVerified):
		return "unverified"
	case fault.KindOf(err) == fault.Exhausted:
		return "limited"
	}
	return "failed"
}

// node instruments what talks to sockets.
func (m *Metrics) node(cfg *parley.Config) error {
	if cfg.Messages == nil || cfg.Marks == nil || cfg.Recent == nil || cfg.Fanout == nil {
		return nil
	}
	store := &messages{
		MessageStore: cfg.Messages, stored: counter("messages_total", "Messages that were stored."),
		changed: counter("changes_total", "Edits, deletions and reactions that were stored."),
		took:    seconds("commit_seconds", "How long the store took for a batch of messages, or of changes, failures included."),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "commit_batch_size", Help: "Messages, or changes, of a batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
	cache := &recent{RecentCache: cfg.Recent, requests: counters("cache_requests_total", "What the cache of recent messages answered.", "result")}
	for _, result := range []string{cacheHit, cacheMiss, cacheError} {
		cache.requests.WithLabelValues(result)
	}
	if cfg.Hub.Node == "" {
		cfg.Hub.Node = rand.Text() // as the hub would name itself
	}
	carrier := &fanout{Fanout: cfg.Fanout, node: cfg.Hub.Node, now: m.now, lag: seconds("fanout_lag_seconds",
		"From the beginning of a message's commit until another node heard of it; their clocks differ.")}
	delivered := seconds("delivery_seconds", "From the beginning of a message's commit until it was given to the connections of its room's members on this node.")
	read := &marks{Marks: cfg.Marks, moved: counter("marks_total", "Marks of how far somebody has read that have moved.")}
	cfg.Messages, cfg.Marks, cfg.Recent, cfg.Fanout = store, read, cache, carrier
	before := cfg.Hub.Delivered
	cfg.Hub.Delivered = func(at time.Time) {
		delivered.Observe(m.now().Sub(at).Seconds())
		if before != nil {
			before(at)
		}
	}
	return m.register(store.stored, store.changed, read.moved, store.took, store.size, cache.requests, carrier.lag, delivered)
}

type messages struct {
	chat.MessageStore
	stored, changed prometheus.Counter
	took, size      prometheus.Histogram
}

// Recording is chat.Recorder's.
func (s *messages) Recording(record chat.Record) (chat.MessageStore, error) {
	recording, err := chat.Recording(s.MessageStore, record)
	if err != nil {
		return nil, err
	}
	return &messages{recording, s.stored, s.changed, s.took, s.size}, nil
}

// Append is chat.MessageStore's.
func (s *messages) Append(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
	began := time.Now()
	stored, err := s.MessageStore.Append(ctx, batch)
	s.took.Observe(time.Since(began).Seconds())
	s.size.Observe(float64(len(batch)))
	fresh := 0
	for i := range stored {
		if !stored[i].Repeated {
			fresh++
		}
	}
	s.stored.Add(float64(fresh))
	return stored, err
}

// Change is chat.MessageStore's.
func (s *messages) Change(ctx context.Context, batch []chat.Change) ([]chat.Changed, error) {
	began := time.Now()
	changed, err := s.MessageStore.Change(ctx, batch)
	s.took.Observe(time.Since(began).Seconds())
	s.size.Observe(float64(len(batch)))
	fresh := 0
	for i := range changed {
		if changed[i].Err == nil && !changed[i].Repeated {
			fresh++
		}
	}
	s.changed.Add(float64(fresh))
	return changed, err
}

type marks struct {
	chat.Marks
	moved prometheus.Counter
}

// Mark is chat.Marks's.
func (s *marks) Mark(ctx context.Context, batch []chat.Mark) ([]chat.Marked, error) {
	marked, err := s.Marks.Mark(ctx, batch)
	moved := 0
	for i := range marked {
		if marked[i].Err == nil && marked[i].Moved {
			moved++
		}
	}
	s.moved.Add(float64(moved))
	return marked, err
}

// What a cache may answer.
const (
	cacheHit   = "hit"
	cacheMiss  = "miss"
	cacheError = "error"
)

type recent struct {
	chat.RecentCache
	requests *prometheus.CounterVec
}

// Get is chat.RecentCache's.
func (c *recent) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	held, known, err := c.RecentCache.Get(ctx, room)
	result := cacheHit
	switch {
	case err != nil:
		result = cacheError
	case !known:
		result = cacheMiss
	}
	c.requests.WithLabelValues(result).Inc()
	return held, known, err
}

type fanout struct {
	realtime.Fanout
	node string
	now  func() time.Time
	lag  prometheus.Histogram
}

// Run is realtime.Fanout's.
func (f *fanout) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	return f.Fanout.Run(ctx, func(s realtime.Signal) {
		if s.Kind == realtime.SignalMessage && s.Node != f.node {
			f.lag.Observe(f.now().Sub(s.Message.At).Seconds())
		}
		deliver(s)
	})
}

// bus instruments what moves events.
func (m *Metrics) bus(cfg *parley.Config) error {
	dead := counters("events_dead_total", "Events that can never be handled or published, and were set aside, by topic.", "topic")
	all := []prometheus.Collector{dead}
	if cfg.Publisher != nil {
		p := &publisher{Publisher: cfg.Publisher, published: counters("events_published_total", "Events that the bus has taken, by topic.", "topic")}
		cfg.Publisher = p
		all = append(all, p.published)
	}
	if cfg.Subscriber != nil {
		cfg.Subscriber = &subscriber{cfg.Subscriber, dead}
	}
	if cfg.Outbox != nil {
		setAside := cfg.Relay.OnSetAside
		cfg.Relay.OnSetAside = func(e event.Event) {
			dead.WithLabelValues(e.Topic).Inc()
			if setAside != nil {
				setAside(e)
			}
		}
		all = append(all, newOutbox(cfg.Outbox, m.now))
	}
	return m.register(all...)
}

type publisher struct {
	event.Publisher
	published *prometheus.CounterVec
}

// Publish is event.Publisher's.
func (p *publisher) Publish(ctx context.Context, events ...event.Event) error {
	err := p.Publisher.Publish(ctx, events...)
	var part *event.PublishError
	if err != nil && !errors.As(err, &part) {
		return err // nobody knows of which
	}
	for i, e := range events {
		if part == nil || part.Failed[i] == nil {
			p.published.WithLabelValues(e.Topic).Inc()
		}
	}
	return err
}

type subscriber struct {
	event.Subscriber
	dead *prometheus.CounterVec
}

// Subscribe is event.Subscriber's.
func (s *subscriber) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	dead := s.dead.WithLabelValues(topic) // from the beginning, so that the first one is an increase
	return s.Subscriber.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
		err := handle(ctx, e)
		if err != nil && event.Never(err) {
			dead.Inc()
		}
		return err
	}, ready)
}

// mails instruments the mail queue.
func (m *Metrics) mails(cfg *parley.Config) error {
	if cfg.MailQueue == nil || cfg.Sender == nil {
		return nil
	}
	return m.jobs(&cfg.MailQueue, cfg.MailStats, cfg.DeadLetters,
		counters("mail_attempts_total", "Attempts to send a mail, by what became of them.", "result"),
		desc("mail_jobs", "Mails in the queue, by state.", "state"),
		desc("mail_oldest_seconds", "How long the oldest mail waits to be sent; 0 if none does."))
}

// webhooks instruments the deliveries of webhooks, where there are any.
func (m *Metrics) webhooks(cfg *parley.Config) error {
	if cfg.WebhookQueue == nil || cfg.Endpoint == nil {
		return nil
	}
	return m.jobs(&cfg.WebhookQueue, cfg.WebhookStats, cfg.WebhookLetters,
		counters("webhook_attempts_total", "Attempts to deliver a webhook, by what became of them.", "result"),
		desc("webhook_jobs", "Deliveries of webhooks, by state.", "state"),
		desc("webhook_oldest_seconds", "How long the oldest delivery waits to be taken; 0 if none does."))
}

// jobs instruments a queue of jobs, and reads what is in it where that can be read.
func (m *Metrics) jobs(of *mail.Queue, stats mail.Stats, letters mail.DeadLetters, attempts *prometheus.CounterVec, states, oldest *prometheus.Desc) error {
	for _, result := range []string{mailSent, mailRetry, mailDeferred, mailDead} {
		attempts.WithLabelValues(result)
	}
	*of = &queue{Queue: *of, attempts: attempts}
	all := []prometheus.Collector{attempts}
	if stats != nil && letters != nil {
		all = append(all, newJobs(stats, letters, m.now, states, oldest))
	}
	return m.register(all...)
}

// What may become of an attempt.
const (
	mailSent     = "sent"
	mailRetry    = "retry"    // it failed, and there is another
	mailDeferred = "deferred" // a server put it off, which is no attempt
	mailDead     = "dead"
)

type queue struct {
	mail.Queue
	attempts *prometheus.CounterVec
}

// Settle is mail.Queue's.
func (q *queue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	err := q.Queue.Settle(ctx, j, o)
	if err != nil {
		return err
	}
	result := mailSent
	switch {
	case o.State == mail.Dead:
		result = mailDead
	case o.State == mail.Ready && o.Untried:
		result = mailDeferred
	case o.State == mail.Ready:
		result = mailRetry
	}
	q.attempts.WithLabelValues(result).Inc()
	return nil
}
