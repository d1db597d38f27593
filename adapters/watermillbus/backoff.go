package watermillbus

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// backoff is how long to wait after failures: first, then twice as long each time, at most max.
type backoff struct{ first, max time.Duration }

// newBackoff fills in the defaults and checks.
func newBackoff(first, most time.Duration) (backoff, error) {
	if first < 0 || most < 0 {
		return backoff{}, fmt.Errorf("the fields Backoff and MaxBackoff are %v and %v, want none below zero", first, most)
	}
	if first == 0 {
		first = 100 * time.Millisecond
	}
	if most == 0 {
		most = max(first, 5*time.Second)
	}
	if most < first {
		return backoff{}, errors.New("the field MaxBackoff is shorter than Backoff")
	}
	return backoff{first, most}, nil
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
