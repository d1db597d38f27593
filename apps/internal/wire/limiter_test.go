package wire

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/testkit"
)

func TestLimitsHoldWhileNobodyCountsTogether(t *testing.T) {
	synctest.Test(t, testLimits)
}

func testLimits(t *testing.T) {
	var log bytes.Buffer
	faults := testkit.NewFaults(1)
	l := &limiter{
		shared: testkit.FaultyLimiter(memory.NewLimiter(memory.LimiterConfig{}), faults), own: memory.NewLimiter(memory.LimiterConfig{}),
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
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
		assert.LessOrEqual(t, time.Since(started), limiterTimeout, "only the first one waits")
		assert.Equal(t, asked+1, faults.Calls("Limiter.Allow"))
		time.Sleep(limiterPause)
	}
	faults.Set()
	assert.Equal(t, 2, allowed())
	assert.Equal(t, 1, strings.Count(log.String(), "alone"), "it says so once: %s", log.String())
	assert.Equal(t, 1, strings.Count(log.String(), "together again"))

	n, err := l.DeleteExpired(t.Context(), now.Add(24*time.Hour))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

// What was refused is refused again without asking whoever counts, for exactly as long.
func TestWhatWasRefusedIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	faults := testkit.NewFaults(1)
	l := &limiter{
		shared: testkit.FaultyLimiter(memory.NewLimiter(memory.LimiterConfig{}), faults), own: memory.NewLimiter(memory.LimiterConfig{}),
		log: slog.New(slog.DiscardHandler),
	}
	now := time.Unix(1_800_000_000, 0)
	rate := auth.Rate{Burst: 2, Per: 20 * time.Second}
	allow := func(key string) time.Duration {
		wait, err := l.Allow(t.Context(), key, rate, now)
		require.NoError(t, err)
		return wait
	}
	require.Zero(t, allow("key"))
	require.Zero(t, allow("key"))
	require.Equal(t, 10*time.Second, allow("key"))
	asked := faults.Calls("Limiter.Allow")
	now = now.Add(4 * time.Second)
	for range 1000 {
		require.Equal(t, 6*time.Second, allow("key"))
	}
	require.Equal(t, asked, faults.Calls("Limiter.Allow"))
	require.Zero(t, allow("another"))
	now = now.Add(6 * time.Second)
	require.Zero(t, allow("key"))
	require.Equal(t, 10*time.Second, allow("key"))

	for i := range maxRefusals + 10 {
		l.refuse(fmt.Sprint(i), now, time.Second)
	}
	require.LessOrEqual(t, len(l.refused), maxRefusals)
	now = now.Add(time.Second)
	l.refuse("one more", now, time.Second)
	require.LessOrEqual(t, len(l.refused), 2, "what is over makes room")
}
