package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/auth"
)

// Limiter checks auth.Limiter.
func Limiter() []Case[auth.Limiter] {
	return suite("Limiter", []promise[auth.Limiter]{
		{"a burst is allowed at once", "Allow takes one from key's allowance at the given time and returns zero. It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.", limiterBurst},
		{"after a burst one each interval", "It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.", limiterInterval},
		{"a refusal says how long to wait", "If nothing is left, Allow takes nothing and returns how long to wait.", limiterWait},
		{"a refusal takes nothing", "If nothing is left, Allow takes nothing and returns how long to wait.", limiterTakesNothing},
		{"rest refills the burst and no more", "Rest gives back the burst, and no more.", limiterRefill},
		{"a burst of one", "It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.", limiterOne},
		{"keys do not influence each other", "Keys do not influence each other.", limiterKeys},
		{"no rate allows everything", "A rate without Burst or Per allows everything.", limiterNone},
		{"a clock that goes back holds nobody up", "However far the clock has gone back, the wait is Per/Burst at most.", limiterBack},
		{"concurrent attempts share the allowance", "Concurrent calls share the allowance: no more succeed than it holds.", limiterRace},
	})
}

var rate = auth.Rate{Burst: 5, Per: 100 * time.Second}

// allow wants the wait, to the millisecond.
func allow(ctx context.Context, p auth.Limiter, key string, r auth.Rate, now time.Time, want time.Duration) error {
	got, err := p.Allow(ctx, key, r, now)
	if err == nil && ((want == 0) != (got == 0) || (got-want).Abs() > time.Millisecond) {
		err = fmt.Errorf("it returned %s, want %s", got, want)
	}
	return during(fmt.Sprintf("Allow(%q) %s after the beginning", clip(key), now.Sub(epoch)), err)
}

// spendBurst uses the allowance up.
func spendBurst(ctx context.Context, p auth.Limiter, key string, now time.Time) error {
	for range rate.Burst {
		if err := allow(ctx, p, key, rate, now, 0); err != nil {
			return err
		}
	}
	return nil
}

func limiterBurst(ctx context.Context, p auth.Limiter) error {
	return first(
		func() error { return spendBurst(ctx, p, "key", epoch) },
		func() error { return allow(ctx, p, "key", rate, epoch, 20*time.Second) },
	)
}

func limiterInterval(ctx context.Context, p auth.Limiter) error {
	err := spendBurst(ctx, p, "key", epoch)
	for n := 1; n <= 12 && err == nil; n++ {
		now := epoch.Add(time.Duration(n) * 20 * time.Second)
		err = first(
			func() error { return allow(ctx, p, "key", rate, now.Add(-time.Second), time.Second) },
			func() error { return allow(ctx, p, "key", rate, now, 0) },
			func() error { return allow(ctx, p, "key", rate, now, 20*time.Second) },
		)
	}
	return err
}

func limiterWait(ctx context.Context, p auth.Limiter) error {
	return first(
		func() error { return spendBurst(ctx, p, "key", epoch) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(time.Second), 19*time.Second) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(12*time.Second), 8*time.Second) },
		func() error {
			return allow(ctx, p, "key", rate, epoch.Add(19999*time.Millisecond+900*time.Microsecond), 100*time.Microsecond)
		},
		func() error { return allow(ctx, p, "key", rate, epoch.Add(20*time.Second), 0) },
	)
}

func limiterTakesNothing(ctx context.Context, p auth.Limiter) error {
	err := spendBurst(ctx, p, "key", epoch)
	for n := 0; n < 50 && err == nil; n++ {
		err = allow(ctx, p, "key", rate, epoch.Add(10*time.Second), 10*time.Second)
	}
	return then(err, func() error { return allow(ctx, p, "key", rate, epoch.Add(20*time.Second), 0) })
}

func limiterRefill(ctx context.Context, p auth.Limiter) error {
	return first(
		func() error { return spendBurst(ctx, p, "key", epoch) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 0) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 0) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 0) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(60*time.Second), 20*time.Second) },
		func() error { return spendBurst(ctx, p, "key", epoch.Add(24*time.Hour)) },
		func() error { return allow(ctx, p, "key", rate, epoch.Add(24*time.Hour), 20*time.Second) },
	)
}

func limiterBack(ctx context.Context, p auth.Limiter) error {
	later := epoch.Add(24 * time.Hour)
	if err := then(spendBurst(ctx, p, "key", later), func() error { return allow(ctx, p, "key", rate, later, 20*time.Second) }); err != nil {
		return err
	}
	const longest = 20*time.Second + time.Millisecond
	for n := range 4 { // the allowance fills from then on
		switch wait, err := p.Allow(ctx, "key", rate, epoch.Add(time.Duration(n)*longest)); {
		case err != nil:
			return during("Allow", err)
		case wait > longest:
			return fmt.Errorf("the port's Allow, after the clock had gone back by a day, returned %s; want %s at most", wait, longest)
		case wait == 0 && n > 0:
			return nil
		}
	}
	return errors.New("the port's Allow refused again and again after the clock had gone back")
}

func limiterOne(ctx context.Context, p auth.Limiter) error {
	r := auth.Rate{Burst: 1, Per: time.Hour}
	return first(
		func() error { return allow(ctx, p, "key", r, epoch, 0) },
		func() error { return allow(ctx, p, "key", r, epoch, time.Hour) },
		func() error { return allow(ctx, p, "key", r, epoch.Add(time.Hour), 0) },
		func() error { return allow(ctx, p, "key", r, epoch.Add(time.Hour), time.Hour) },
	)
}

func limiterKeys(ctx context.Context, p auth.Limiter) error {
	for _, key := range append([]string{"", strings.Repeat("k", 300), strings.Repeat("k", 301)}, names...) {
		if err := first(
			func() error { return spendBurst(ctx, p, key, epoch) },
			func() error { return allow(ctx, p, key, rate, epoch, 20*time.Second) },
		); err != nil {
			return err
		}
	}
	return nil
}

func limiterNone(ctx context.Context, p auth.Limiter) error {
	for _, r := range []auth.Rate{{}, {Burst: 1}, {Per: time.Hour}} {
		for range 20 {
			if err := allow(ctx, p, "key", r, epoch, 0); err != nil {
				return fmt.Errorf("with the rate %+v: %w", r, err)
			}
		}
	}
	return nil
}

func limiterRace(ctx context.Context, p auth.Limiter) error {
	allowed := make([]bool, 40)
	err := allTogether(len(allowed), func(i int) error {
		wait, err := p.Allow(ctx, "key", rate, epoch)
		allowed[i] = wait == 0
		return during("Allow", err)
	})
	n := 0
	for _, ok := range allowed {
		if ok {
			n++
		}
	}
	if err == nil && n != rate.Burst {
		err = fmt.Errorf("%d of %d concurrent attempts were allowed, want %d", n, len(allowed), rate.Burst)
	}
	return err
}
