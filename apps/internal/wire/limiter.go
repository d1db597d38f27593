package wire

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

const (
	// limiterTimeout is how long the shared limiter may take: somebody waits for it to sign in.
	limiterTimeout = 500 * time.Millisecond
	// limiterPause is how long it is left alone when it did not answer.
	limiterPause = time.Second
)

// maxRefusals bounds how many keys are remembered that were refused.
const maxRefusals = 100_000

// limiter counts where the count is kept and shared and, while that cannot be done, alone: nobody is
// locked out because the server that counts is away, and nobody may guess passwords without end
// either. What was refused is refused again without asking, until it need not be: somebody who
// tries a thousand times a second costs the store nothing.
type limiter struct {
	shared, own auth.Limiter
	log         *slog.Logger
	alone       atomic.Bool
	again       atomic.Int64 // when the shared one is asked again, in nanoseconds since 1970

	mu      sync.Mutex
	refused map[string]time.Time // until when, by key
}

// refusal returns how long a key is refused still, as far as is known here.
func (l *limiter) refusal(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.refused[key]
	if known && !now.Before(until) {
		delete(l.refused, key)
	}
	return max(until.Sub(now), 0)
}

// refuse remembers that a key was refused.
func (l *limiter) refuse(key string, now time.Time, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refused) >= maxRefusals {
		maps.DeleteFunc(l.refused, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if len(l.refused) < maxRefusals {
		if l.refused == nil {
			l.refused = map[string]time.Time{}
		}
		l.refused[key] = now.Add(wait)
	}
}

var (
	_ auth.Limiter = (*limiter)(nil)
	_ auth.Sweeper = (*limiter)(nil)
)

// Allow implements auth.Limiter.
func (l *limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	if time.Now().UnixNano() < l.again.Load() {
		return l.own.Allow(ctx, key, r, now)
	}
	if wait := l.refusal(key, now); wait > 0 {
		return wait, nil
	}
	asking, cancel := context.WithTimeout(ctx, limiterTimeout)
	defer cancel()
	wait, err := l.shared.Allow(asking, key, r, now)
	if !errors.Is(err, fault.Unavailable) || ctx.Err() != nil {
		if err == nil && l.alone.Swap(false) {
			l.log.Info("attempts are counted together again")
		}
		if err == nil && wait > 0 {
			l.refuse(key, now, wait)
		}
		return wait, err
	}
	l.again.Store(time.Now().Add(limiterPause).UnixNano())
	if !l.alone.Swap(true) {
		l.log.Warn("attempts are counted by this process alone", "error", err)
	}
	return l.own.Allow(ctx, key, r, now)
}

// DeleteExpired implements auth.Sweeper for what is counted alone, and for what is counted together
// where that needs it.
func (l *limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for _, counted := range []auth.Limiter{l.own, l.shared} {
		if s, ok := counted.(auth.Sweeper); ok {
			n, err := s.DeleteExpired(ctx, before)
			total += n
			if err != nil {
				return total, err
			}
		}
	}
	return total, nil
}
