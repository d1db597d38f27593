package wire

import (
	"context"
	"errors"
	"log/slog"
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

// limiter counts with others and, while that cannot be done, alone: nobody is locked out because
// the server that counts is away, and nobody may guess passwords without end either.
type limiter struct {
	shared, own auth.Limiter
	log         *slog.Logger
	alone       atomic.Bool
	again       atomic.Int64 // when the shared one is asked again, in nanoseconds since 1970
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
	asking, cancel := context.WithTimeout(ctx, limiterTimeout)
	defer cancel()
	wait, err := l.shared.Allow(asking, key, r, now)
	if !errors.Is(err, fault.Unavailable) || ctx.Err() != nil {
		if err == nil && l.alone.Swap(false) {
			l.log.Info("attempts are counted together again")
		}
		return wait, err
	}
	l.again.Store(time.Now().Add(limiterPause).UnixNano())
	if !l.alone.Swap(true) {
		l.log.Warn("attempts are counted by this process alone", "error", err)
	}
	return l.own.Allow(ctx, key, r, now)
}

// DeleteExpired implements auth.Sweeper for what is counted alone.
func (l *limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	if s, ok := l.own.(auth.Sweeper); ok {
		return s.DeleteExpired(ctx, before)
	}
	return 0, nil
}
