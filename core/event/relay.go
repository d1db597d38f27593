package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// RelayConfig is what a [Relay] needs.
type RelayConfig struct {
	Outbox    Outbox    // required
	Publisher Publisher // required
	// Poll is the longest time between looks at the outbox. Default 1 second.
	Poll time.Duration
	// Batch is how many events are moved at once, at most: while the bus does not take as many within
	// Timeout, it is fewer. Default 100.
	Batch int
	// Timeout bounds one publish, and one call of the outbox. Default 10 seconds.
	Timeout time.Duration
	// MaxBackoff bounds the wait after failures, which starts at 100 ms and doubles. Default 5 seconds.
	MaxBackoff time.Duration
	// Log gets failures. Default: nothing.
	Log *slog.Logger
}

// minBackoff is the wait after the first failure.
const minBackoff = 100 * time.Millisecond

// Relay moves events from the outbox to the bus, in order, at least once. Its methods may be
// called from many goroutines; one Run at a time keeps the order.
type Relay struct {
	cfg  RelayConfig
	wake chan struct{} // holds one: any number of wakes is one look
}

// NewRelay checks the configuration, all of it at once.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if cfg.Outbox == nil {
		refuse("Outbox is missing")
	}
	if cfg.Publisher == nil {
		refuse("Publisher is missing")
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		byDef time.Duration
	}{
		{"Poll", &cfg.Poll, time.Second},
		{"Timeout", &cfg.Timeout, 10 * time.Second},
		{"MaxBackoff", &cfg.MaxBackoff, 5 * time.Second},
	} {
		switch {
		case *d.value < 0:
			refuse("%s is negative", d.name)
		case *d.value == 0:
			*d.value = d.byDef
		}
	}
	switch {
	case cfg.Batch < 0:
		refuse("Batch is negative")
	case cfg.Batch == 0:
		cfg.Batch = 100
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("event: relay configuration: %w", errors.Join(errs...))
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

// Run moves events until ctx ends, and returns nil. A failure of the outbox or the bus is
// logged and tried again; events that were published but could not be marked come again.
func (r *Relay) Run(ctx context.Context) error {
	backoff, batch := min(minBackoff, r.cfg.MaxBackoff), r.cfg.Batch
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		moved, err := r.move(ctx, batch)
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return nil
			}
			r.cfg.Log.Warn("the relay could not move events; it tries again", "error", err, "wait", backoff)
			// No wake ends this wait, or a busy system would hammer a bus that is down.
			timer.Reset(backoff)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			backoff = min(2*backoff, r.cfg.MaxBackoff)
			if errors.As(err, &tooSlow{}) {
				// It would be given the same batch for ever, and none of it would ever be marked.
				batch = max(1, batch/2)
			}
			continue
		case moved == batch:
			// There are probably more.
		default:
			timer.Reset(r.cfg.Poll)
			select {
			case <-timer.C:
			case <-r.wake:
			case <-ctx.Done():
			}
		}
		backoff, batch = min(minBackoff, r.cfg.MaxBackoff), min(2*batch, r.cfg.Batch)
	}
	return nil
}

// move moves one batch and returns its size.
func (r *Relay) move(ctx context.Context, batch int) (int, error) {
	events, err := r.pending(ctx, batch)
	if err != nil {
		return 0, fmt.Errorf("event: reading the outbox: %w", err)
	}
	if len(events) == 0 {
		return 0, nil
	}
	if err := r.publish(ctx, events); err != nil {
		return 0, fmt.Errorf("event: publishing %d events: %w", len(events), err)
	}
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	// The bus has them: marking them goes on when ctx ends, or they would all come again.
	marking, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	if err := r.cfg.Outbox.Published(marking, ids...); err != nil {
		return 0, fmt.Errorf("event: marking %d events as published: %w", len(ids), err)
	}
	return len(events), nil
}

func (r *Relay) pending(ctx context.Context, batch int) ([]Event, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return r.cfg.Outbox.Pending(ctx, batch)
}

func (r *Relay) publish(ctx context.Context, events []Event) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := r.cfg.Publisher.Publish(ctx, events...)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return tooSlow{err}
	}
	return err
}

// tooSlow is the error of a publish that took all its time.
type tooSlow struct{ error }

func (e tooSlow) Unwrap() error { return e.error }
