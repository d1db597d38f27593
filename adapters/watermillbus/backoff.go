package watermillbus

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/settings"
)

// backoff is how long to wait after failures: first, then twice as long each time, at most max.
type backoff struct{ first, max time.Duration }

// newBackoff fills in the defaults, and checks for c.
func newBackoff(c *settings.Check, first, most time.Duration) backoff {
	settings.Default(c, "Backoff", &first, 100*time.Millisecond)
	settings.Default(c, "MaxBackoff", &most, max(first, 5*time.Second))
	if first > most && most > 0 {
		c.Refuse("MaxBackoff", "%v is shorter than Backoff %v", most, first)
	}
	return backoff{first, most}
}

// after returns the wait after this many failures in a row, one or more.
func (b backoff) after(failures int) time.Duration {
	wait := b.first
	for i := 1; i < failures && wait < b.max; i++ {
		wait *= 2
	}
	return min(wait, b.max)
}

// until calls do until it returns nil, and reports whether it did before ctx ended.
func (b backoff) until(ctx context.Context, do func() error) bool {
	for failures := 1; ; failures++ {
		if do() == nil {
			return true
		}
		timer := time.NewTimer(b.after(failures))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}
