package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
)

// LimiterConfig says how much a [Limiter] may hold. A value that is not positive means the default.
type LimiterConfig struct {
	// MaxKeys is the most keys that are remembered at once. Default 100,000.
	MaxKeys int
}

// Limiter is an auth.Limiter. A key whose allowance is whole again is
// worth nothing and is forgotten when room is needed. Where that is not enough, the
// quarter of the keys that would be whole soonest is forgotten too.
type Limiter struct {
	max int

	mu sync.Mutex
	// whole is when the key's allowance is whole again: the theoretical arrival time of
	// ITU-T I.371.
	whole map[string]time.Time
}

var _ auth.Limiter = (*Limiter)(nil)

// NewLimiter returns a limiter that has counted nothing yet.
func NewLimiter(cfg LimiterConfig) *Limiter {
	return &Limiter{max: or(cfg.MaxKeys, 100_000), whole: map[string]time.Time{}}
}

// Allow takes one from the key's allowance, or says how long to wait.
func (l *Limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	if err := alive(ctx); err != nil {
		return 0, err
	}
	interval, window, limited := r.Cell(time.Nanosecond)
	if !limited {
		return 0, nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	whole, known := l.whole[key]
	if !known || whole.Before(now) {
		whole = now
	}
	if most := now.Add(window); known && whole.After(most) { // the clock has gone back
		whole = most
		l.whole[key] = whole
	}
	whole = whole.Add(interval)
	if wait := whole.Sub(now) - window; wait > 0 {
		return wait, nil
	}
	if !known && len(l.whole) >= l.max {
		l.makeRoom(now)
	}
	l.whole[key] = whole
	return 0, nil
}

func (l *Limiter) makeRoom(now time.Time) {
	l.forget(now.Add(1))
	if len(l.whole) <= l.max-(l.max+3)/4 {
		return
	}
	soonest := slices.SortedFunc(maps.Values(l.whole), time.Time.Compare)
	l.forget(soonest[(l.max-1)/4].Add(1))
}

// forget removes the keys that are whole before the given time.
func (l *Limiter) forget(before time.Time) int {
	n := len(l.whole)
	maps.DeleteFunc(l.whole, func(_ string, whole time.Time) bool { return whole.Before(before) })
	return n - len(l.whole)
}

// DeleteExpired forgets keys whose allowance was whole before the given time.
func (l *Limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	if err := alive(ctx); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forget(before), nil
}
