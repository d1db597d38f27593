package event

import (
	"context"
	"log/slog"
	"time"
)

// RelayConfig is what a [Relay] needs.
type RelayConfig struct {
	Outbox    Outbox    // required
	Publisher Publisher // required
	// Poll is the longest time between looks at the outbox. Default 1 second.
	Poll time.Duration
	// Batch is how many events are moved at once. Default 100.
	Batch int
	// Timeout bounds one publish. Default 10 seconds.
	Timeout time.Duration
	// MaxBackoff bounds the wait after failures, which starts at 100 ms and doubles. Default 5 seconds.
	MaxBackoff time.Duration
	Log        *slog.Logger
}

// Relay moves events from the outbox to the bus, in order, at least once.
type Relay struct{ cfg RelayConfig }

// NewRelay checks the configuration.
func NewRelay(cfg RelayConfig) (*Relay, error) { return &Relay{cfg: cfg}, nil }

// Wake makes the relay look at the outbox now. It never blocks.
func (r *Relay) Wake() { panic("stub") }

// Run moves events until ctx ends, and returns nil. A failure of the outbox or the bus is
// logged and tried again; events that were published but could not be marked come again.
func (r *Relay) Run(ctx context.Context) error { panic("stub") }
