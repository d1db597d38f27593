package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit"
)

func newLimiter() *memory.Limiter { return memory.NewLimiter(memory.LimiterConfig{}) }

// sharing returns a limiter over a store that fails as faults say.
func sharing(t *testing.T, faults *testkit.Faults, cfg auth.SharedLimiterConfig) *auth.SharedLimiter {
	t.Helper()
	cfg.Shared, cfg.Own = testkit.FaultyLimiter(newLimiter(), faults), newLimiter()
	l, err := auth.NewSharedLimiter(cfg)
	require.NoError(t, err)
	return l
}

func TestASharedLimiterIsALimiter(t *testing.T) {
	t.Parallel()
	for name, faulty := range map[string][]testkit.Rule{
		"together": nil,
		"alone":    {{Method: "Limiter.Allow", Fault: testkit.Fail(nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "auth.SharedLimiter", name)
			contract.Run(t, contract.Limiter(), func(t *testing.T) auth.Limiter {
				t.Helper()
				faults := testkit.NewFaults(1)
				faults.Set(faulty...)
				return sharing(t, faults, auth.SharedLimiterConfig{Pause: time.Hour})
			})
		})
	}
}

func TestLimitsHoldWhileTheSharedLimiterIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		faults := testkit.NewFaults(1)
		const timeout, pause = 300 * time.Millisecond, 2 * time.Second
		l := sharing(t, faults, auth.SharedLimiterConfig{Timeout: timeout, Pause: pause, Log: slog.New(slog.NewTextHandler(&log, nil))})
		now := time.Unix(1_800_000_000, 0)
		rate := auth.Rate{Burst: 2, Per: time.Hour}
		allowed := func() (n int) {
			for range 5 {
				wait, err := l.Allow(t.Context(), "key", rate, now)
				require.NoError(t, err)
				if wait == 0 {
					n++
				}
			}
			return n
		}
		assert.Equal(t, 2, allowed())
		for _, f := range []testkit.Fault{testkit.Fail(nil), testkit.Hang()} {
			faults.Set(testkit.Rule{Method: "Limiter.Allow", Fault: f})
			now = now.Add(2 * time.Hour)
			started, asked := time.Now(), faults.Calls("Limiter.Allow")
			assert.Equal(t, 2, allowed(), "it goes on by itself, with the same rate")
			assert.LessOrEqual(t, time.Since(started), timeout, "only the first one waits")
			assert.Equal(t, asked+1, faults.Calls("Limiter.Allow"))
			time.Sleep(pause) // of the bubble's clock
		}
		faults.Set()
		now = now.Add(2 * time.Hour)
		assert.Equal(t, 2, allowed())
		assert.Equal(t, 1, strings.Count(log.String(), "alone"), "it says so once: %s", log.String())
		assert.Equal(t, 1, strings.Count(log.String(), "together again"))

		n, err := l.DeleteExpired(t.Context(), now.Add(24*time.Hour))
		require.NoError(t, err)
		assert.Equal(t, 2, n, "what is counted together goes, and what was counted alone")
	})
}

// forgetter is a limiter that can lose what it counted.
type forgetter struct{ auth.Limiter }

func (f *forgetter) forget() { f.Limiter = newLimiter() }

// The store loses its data, or goes away: no allowance is filled with what was taken here.
func TestLimitsOutliveTheSharedLimitersData(t *testing.T) {
	t.Parallel()
	counts := &forgetter{newLimiter()}
	faults := testkit.NewFaults(1)
	open := func() *auth.SharedLimiter {
		l, err := auth.NewSharedLimiter(auth.SharedLimiterConfig{
			Shared: testkit.FaultyLimiter(counts, faults), Own: newLimiter(), Pause: time.Nanosecond,
		})
		require.NoError(t, err)
		return l
	}
	l := open()
	now := time.Unix(1_800_000_000, 0)
	rate := auth.Rate{Burst: 3, Per: 30 * time.Second}
	allow := func(want time.Duration) {
		t.Helper()
		wait, err := l.Allow(t.Context(), "key", rate, now)
		require.NoError(t, err)
		require.Equal(t, want, wait)
	}
	allow(0)
	allow(0)
	counts.forget()
	allow(0)
	allow(10 * time.Second)
	now = now.Add(10 * time.Second)
	allow(0) // right again
	now = now.Add(time.Hour)
	allow(0)
	allow(0)
	faults.Set(testkit.Rule{Method: "Limiter.Allow", Fault: testkit.Fail(nil)})
	allow(0)
	allow(10 * time.Second)

	// What another process took counts here too.
	faults.Set()
	now = now.Add(time.Hour)
	for range 3 {
		wait, err := counts.Allow(t.Context(), "key", rate, now)
		require.NoError(t, err)
		require.Zero(t, wait)
	}
	allow(10 * time.Second)
}

// rounded counts as a store does that divides a rate into microseconds.
type rounded struct{ auth.Limiter }

func (d rounded) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	each := (r.Per / time.Duration(r.Burst)).Truncate(time.Microsecond)
	return d.Limiter.Allow(ctx, key, auth.Rate{Burst: r.Burst, Per: time.Duration(r.Burst) * each}, now)
}

// A rate that does not divide evenly: the own count is no stricter than the one that is shared.
func TestTheOwnCountRefusesNothingThatTheSharedOneAllows(t *testing.T) {
	t.Parallel()
	l, err := auth.NewSharedLimiter(auth.SharedLimiterConfig{Shared: rounded{newLimiter()}, Own: newLimiter()})
	require.NoError(t, err)
	now, rate := time.Unix(1_800_000_000, 0), auth.Rate{Burst: 7, Per: time.Second}
	for range 200 {
		wait, err := l.Allow(t.Context(), "key", rate, now)
		require.NoError(t, err)
		if wait > 0 {
			now = now.Add(wait)
			wait, err = l.Allow(t.Context(), "key", rate, now)
			require.NoError(t, err)
			require.Zero(t, wait, "it waits for as long as it was told")
		}
	}
}

// What was refused is refused again without asking the store, for exactly as long.
func TestASharedLimiterRemembersWhatWasRefused(t *testing.T) {
	t.Parallel()
	faults := testkit.NewFaults(1)
	l := sharing(t, faults, auth.SharedLimiterConfig{Refusals: 3})
	now := time.Unix(1_800_000_000, 0)
	rate := auth.Rate{Burst: 2, Per: 20 * time.Second}
	allow := func(key string) time.Duration {
		t.Helper()
		wait, err := l.Allow(t.Context(), key, rate, now)
		require.NoError(t, err)
		return wait
	}
	// asks reports whether the store is asked for a key.
	asks := func(key string) bool {
		t.Helper()
		before := faults.Calls("Limiter.Allow")
		allow(key)
		return faults.Calls("Limiter.Allow") > before
	}
	refused := func(key string) {
		t.Helper()
		require.Zero(t, allow(key))
		require.Zero(t, allow(key))
		require.Equal(t, 10*time.Second, allow(key))
	}
	refused("key")
	now = now.Add(4 * time.Second)
	require.Equal(t, 6*time.Second, allow("key"))
	require.False(t, asks("key"))
	require.Zero(t, allow("another"))
	now = now.Add(6 * time.Second)
	require.Zero(t, allow("key"))
	require.Equal(t, 10*time.Second, allow("key"))

	for i := range 4 {
		refused(fmt.Sprint(i))
	}
	require.False(t, asks("1"))
	require.True(t, asks("2"), "no more is remembered than Refusals")
	require.True(t, asks("3"))
	now = now.Add(10 * time.Second)
	refused("4")
	require.False(t, asks("4"), "what is over makes room")
}

func TestASharedLimiterReturnsWhatIsNotAnOutage(t *testing.T) {
	t.Parallel()
	faults := testkit.NewFaults(1)
	l := sharing(t, faults, auth.SharedLimiterConfig{})
	broken := errors.New("broken")
	faults.Set(testkit.Rule{Method: "Limiter.Allow", Fault: testkit.Fail(broken)})
	_, err := l.Allow(t.Context(), "key", auth.Rate{Burst: 1, Per: time.Hour}, time.Unix(1_800_000_000, 0))
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, fault.Unavailable)
}

func TestASharedLimiterNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := auth.NewSharedLimiter(auth.SharedLimiterConfig{Timeout: -1, Pause: -1, Refusals: -1})
	for _, field := range []string{"Shared", "Own", "Timeout", "Pause", "Refusals"} {
		assert.ErrorContains(t, err, field)
	}
}
