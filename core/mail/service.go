package mail

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/parley-chat/parley/core/event"
)

// ConsumerConfig is what a [Consumer] needs.
type ConsumerConfig struct {
	Queue Queue // required
	// Enqueued, if set, is called after a job was put on the queue. It must not block.
	Enqueued func()
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes job identifiers that ascend with time. Default as in auth.
	NewID func() string
	Log   *slog.Logger
}

// Consumer turns events into jobs. Handle is an event.Handler.
type Consumer struct{ cfg ConsumerConfig }

// NewConsumer checks the configuration.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) { return &Consumer{cfg: cfg}, nil }

// Handle enqueues the mail that e asks for, once per e.ID. It ignores types that it does not
// know. Data that cannot be a mail's is an error of kind Invalid: it can never be handled.
func (c *Consumer) Handle(ctx context.Context, e event.Event) error { panic("stub") }

// Run subscribes to Topic in the group "mailer" until ctx ends.
func (c *Consumer) Run(ctx context.Context, bus event.Subscriber) error { panic("stub") }

// WorkerConfig is what a [Worker] needs.
type WorkerConfig struct {
	Queue     Queue      // required
	Sender    Sender     // required
	Templates *Templates // required
	// MaxAttempts is how often a mail is tried before it becomes a dead letter. Default 3.
	MaxAttempts int
	// SendTimeout bounds one attempt. Default 30 seconds.
	SendTimeout time.Duration
	// Lease is how long a claimed job is nobody else's. Default twice SendTimeout; it must be longer than SendTimeout.
	Lease time.Duration
	// Backoff is the wait after the first failure; it doubles with each, with full jitter
	// above half (half of it is certain, half is random), up to MaxBackoff. Defaults 5 seconds, 5 minutes.
	Backoff, MaxBackoff time.Duration
	// Concurrency is how many mails are under way at once. Default 4.
	Concurrency int
	// Poll is the longest time between looks at the queue. Default 1 second.
	Poll time.Duration
	// Retention is how long sent jobs are kept, so that a late repetition of their event is
	// recognised. Default 7 days.
	Retention time.Duration
	// Now is the clock. Default time.Now. Random returns a number in [0,1). Default math/rand.
	Now    func() time.Time
	Random func() float64
	Log    *slog.Logger
}

// Worker sends mails from the queue.
type Worker struct{ cfg WorkerConfig }

var _ = rand.Float64

// NewWorker checks the configuration, all of it at once.
func NewWorker(cfg WorkerConfig) (*Worker, error) { return &Worker{cfg: cfg}, nil }

// Wake makes the worker look at the queue now. It never blocks.
func (w *Worker) Wake() { panic("stub") }

// Run sends mails until ctx ends, then lets attempts under way finish within SendTimeout, and returns nil.
func (w *Worker) Run(ctx context.Context) error { panic("stub") }

// DeadLetterConfig is what a [DeadLetterService] needs.
type DeadLetterConfig struct {
	Letters DeadLetters // required
	Stats   Stats       // required
	// Refresh, if set, returns new data for a job that is replayed, for example with a fresh
	// code where the old one has expired, or nil to keep what it has.
	Refresh func(context.Context, Job) ([]byte, error)
	// Requeued, if set, is called after jobs were requeued. It must not block.
	Requeued func()
	Now      func() time.Time
}

// DeadLetterService is a person's view of the queue.
type DeadLetterService struct{ cfg DeadLetterConfig }

// NewDeadLetterService checks the configuration.
func NewDeadLetterService(cfg DeadLetterConfig) (*DeadLetterService, error) {
	return &DeadLetterService{cfg: cfg}, nil
}

// List returns a page of jobs; f.Limit 0 means 50, more than 1,000 is refused.
func (s *DeadLetterService) List(ctx context.Context, f Filter) ([]Job, error) { panic("stub") }

// Get returns a job, or ErrJobNotFound.
func (s *DeadLetterService) Get(ctx context.Context, id string) (Job, error) { panic("stub") }

// Replay makes a dead letter ready again, with its full attempts.
func (s *DeadLetterService) Replay(ctx context.Context, id string) error { panic("stub") }

// ReplayAll replays every dead letter that f chooses (its State is ignored), or with dryRun
// only finds them. It returns the jobs' IDs; on an error, those replayed so far.
func (s *DeadLetterService) ReplayAll(ctx context.Context, f Filter, dryRun bool) ([]string, error) {
	panic("stub")
}

// Discard removes a dead letter for good.
func (s *DeadLetterService) Discard(ctx context.Context, id string) error { panic("stub") }

// Stats counts jobs by state; every state is in it.
func (s *DeadLetterService) Stats(ctx context.Context) (map[State]int, error) { panic("stub") }
