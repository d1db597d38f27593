package auth

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// SharedLimiterConfig is what a [SharedLimiter] needs. Zero fields without "required" mean the default.
type SharedLimiterConfig struct {
	// Shared counts the attempts of all processes. Required.
	Shared Limiter
	// Own counts what Shared has allowed to this process. While Shared is unavailable, Own decides alone. Required.
	Own Limiter
	// Timeout bounds one call of Shared: somebody waits for it to sign in. Default 500 ms.
	Timeout time.Duration
	// Pause is how long Shared is not called after it was unavailable. Default 1 second.
	Pause time.Duration
	// Refusals bounds how many refused keys are remembered. Default 100,000.
	Refusals int
	// Log gets when counting alone begins and ends. Default: nothing.
	Log *slog.Logger
}

// SharedLimiter is a [Limiter] that counts in a store that several processes share. While that store
// is unavailable, each process counts for itself, at the same rate: nobody is locked out, and nobody may
// guess without a limit. What Shared allows is counted by Own too. So a store that has lost its counts, or goes away, fills
// no allowance with what this process knows of.
//
// A key that Shared refused is refused from memory until its wait is over. An attacker's attempts
// therefore cost the store nothing.
//
// Its methods may be called from many goroutines. Allow waits for Shared for at most Timeout. An error
// of Shared that is not of kind Unavailable is returned as it is.
type SharedLimiter struct {
	cfg   SharedLimiterConfig
	alone atomic.Bool
	again atomic.Int64 // when Shared is called again, in nanoseconds since 1970

	mu      sync.Mutex
	refused map[string]refused // by key
}

var _ Limiter = (*SharedLimiter)(nil)

// NewSharedLimiter checks the configuration, all of it at once.
func NewSharedLimiter(cfg SharedLimiterConfig) (*SharedLimiter, error) {
	c := settings.Of("auth: SharedLimiterConfig")
	c.Require("Shared", cfg.Shared == nil)
	c.Require("Own", cfg.Own == nil)
	settings.Default(c, "Timeout", &cfg.Timeout, 500*time.Millisecond)
	settings.Default(c, "Pause", &cfg.Pause, time.Second)
	settings.Default(c, "Refusals", &cfg.Refusals, 100_000)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &SharedLimiter{cfg: cfg, refused: map[string]refused{}}, nil
}

// Allow implements [Limiter].
func (l *SharedLimiter) Allow(ctx context.Context, key string, r Rate, now time.Time) (time.Duration, error) {
	if time.Now().UnixNano() < l.again.Load() {
		return l.cfg.Own.Allow(ctx, key, r, now)
	}
	if wait := l.refusal(key, now); wait > 0 {
		return wait, nil
	}
	asking, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	wait, err := l.cfg.Shared.Allow(asking, key, r, now)
	if !errors.Is(err, fault.Unavailable) || ctx.Err() != nil {
		if err == nil && l.alone.Swap(false) {
			l.cfg.Log.Info("attempts are counted together again")
		}
		if err == nil && wait == 0 {
			// Own has a part of what Shared has, and refuses only what Shared has forgotten. The millisecond is what stores
			// lose that divide a rate into microseconds.
			if wait, _ = l.cfg.Own.Allow(ctx, key, r, now); wait < time.Millisecond {
				return 0, nil
			}
		}
		if err == nil {
			l.refuse(key, now, wait)
		}
		return wait, err
	}
	l.again.Store(time.Now().Add(l.cfg.Pause).UnixNano())
	if !l.alone.Swap(true) {
		l.cfg.Log.Warn("attempts are counted by this process alone", "error", err)
	}
	return l.cfg.Own.Allow(ctx, key, r, now)
}

// refusal returns how long a key is still refused, as far as is known here.
func (l *SharedLimiter) refusal(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, known := l.refused[key]
	if !known {
		return 0
	}
	if r.over(now) {
		delete(l.refused, key)
		return 0
	}
	return r.until.Sub(now)
}

// refuse remembers that a key was refused.
func (l *SharedLimiter) refuse(key string, now time.Time, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.refused) >= l.cfg.Refusals {
		maps.DeleteFunc(l.refused, func(_ string, r refused) bool { return r.over(now) })
	}
	if len(l.refused) < l.cfg.Refusals {
		l.refused[key] = refused{now, now.Add(wait)}
	}
}

// refused is from when until when a key is refused.
type refused struct{ at, until time.Time }

// over reports whether it is over, or was said by a clock that has gone back since.
func (r refused) over(now time.Time) bool { return !now.Before(r.until) || now.Before(r.at) }

// DeleteExpired implements [Sweeper]. It sweeps Own and Shared.
func (l *SharedLimiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	own, err := l.cfg.Own.DeleteExpired(ctx, before)
	if err != nil {
		return own, err
	}
	shared, err := l.cfg.Shared.DeleteExpired(ctx, before)
	return own + shared, err
}
