package contract_test

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
)

func limiterFaults() []broken[auth.Limiter] {
	breaks := func(f func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error)) func(auth.Limiter) auth.Limiter {
		return func(under auth.Limiter) auth.Limiter {
			return limiter(func(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
				return f(under, ctx, key, r, now)
			})
		}
	}
	return []broken[auth.Limiter]{
		{"a burst is one too long", "a burst is allowed at once", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			r.Per += r.Per / time.Duration(max(r.Burst, 1))
			r.Burst++
			return l.Allow(ctx, key, r, now)
		})},
		{"a clock that goes back is waited for", "a clock that goes back holds nobody up", func(under auth.Limiter) auth.Limiter {
			var mu sync.Mutex
			var latest time.Time
			return limiter(func(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if now.Before(latest) {
					return latest.Sub(now), nil
				}
				latest = now
				return under.Allow(ctx, key, r, now)
			})
		}},
		{"a window is fixed", "after a burst one each interval", func(auth.Limiter) auth.Limiter {
			var mu sync.Mutex
			start, used := time.Time{}, 0
			return limiter(func(_ context.Context, _ string, r auth.Rate, now time.Time) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if now.Sub(start) >= r.Per {
					start, used = now, 0
				}
				if used++; used <= r.Burst {
					return 0, nil
				}
				return start.Add(r.Per).Sub(now), nil
			})
		}},
		{"the wait is a whole interval", "a refusal says how long to wait", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			wait, err := l.Allow(ctx, key, r, now)
			if wait > 0 {
				wait = r.Per / time.Duration(r.Burst)
			}
			return wait, err
		})},
		{"a refusal costs", "a refusal takes nothing", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			wait, err := l.Allow(ctx, key, r, now)
			if wait > 0 {
				_, err = l.Allow(ctx, key, r, now.Add(wait)) // takes the next one
			}
			return wait, err
		})},
		{"rest saves up", "rest refills the burst and no more", func(auth.Limiter) auth.Limiter {
			var mu sync.Mutex
			begin, used := time.Time{}, 0
			return limiter(func(_ context.Context, _ string, r auth.Rate, now time.Time) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if begin.IsZero() {
					begin = now
				}
				each := r.Per / time.Duration(r.Burst)
				if used < r.Burst+int(now.Sub(begin)/each) {
					used++
					return 0, nil
				}
				return begin.Add(time.Duration(used-r.Burst+1) * each).Sub(now), nil
			})
		}},
		{"keys are folded", "keys do not influence each other", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			return l.Allow(ctx, lower(key), r, now)
		})},
		{"no rate forbids everything", "no rate allows everything", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			if r.Burst == 0 {
				return time.Hour, nil
			}
			return l.Allow(ctx, key, r, now)
		})},
		{"everybody may", "concurrent attempts share the allowance", breaks(func(auth.Limiter, context.Context, string, auth.Rate, time.Time) (time.Duration, error) {
			return 0, nil
		})},
		{"nobody may", "a burst of one", breaks(func(auth.Limiter, context.Context, string, auth.Rate, time.Time) (time.Duration, error) {
			return time.Hour, nil
		})},
	}
}
