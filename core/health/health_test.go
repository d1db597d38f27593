package health_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/health"
)

var errSecret = errors.New("dial postgres://user:hunter2@db: refused")

func up(context.Context) (map[string]any, error)   { return map[string]any{"version": "16"}, nil }
func down(context.Context) (map[string]any, error) { return map[string]any{"x": "y"}, errSecret }

func TestRun(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	described := map[string]error{}
	describe := func(name string, err error) {
		mu.Lock()
		defer mu.Unlock()
		described[name] = err
	}
	r := health.Run(t.Context(), []health.Check{
		{Name: "store", Probe: up},
		{Name: "bus", Probe: down},
		{Name: "panics", Probe: func(context.Context) (map[string]any, error) { panic("hunter2") }},
		{Name: "missing"},
		{Name: "exits", Probe: func(context.Context) (map[string]any, error) { runtime.Goexit(); return nil, nil }},
		{Name: "pretends", Probe: func(context.Context) (map[string]any, error) { return map[string]any{"status": "down", "ms": "?"}, nil }},
	}, false, describe)

	require.Equal(t, health.Failing, r.Status)
	var names []string
	results := map[string]health.Result{}
	for _, result := range r.Results {
		names = append(names, result.Name)
		results[result.Name] = result
	}
	require.Equal(t, []string{"store", "bus", "panics", "missing", "exits", "pretends"}, names)
	require.NoError(t, results["store"].Err)
	require.Equal(t, map[string]any{"version": "16"}, results["store"].Details)
	require.NoError(t, results["pretends"].Err)
	for _, name := range []string{"bus", "panics", "missing", "exits"} {
		require.Error(t, results[name].Err, name)
		require.Empty(t, results[name].Details, "who is down has no details")
		require.Equal(t, results[name].Err, described[name])
	}
	require.ErrorIs(t, described["bus"], errSecret)
	require.Len(t, described, 4)
}

func TestRunWithoutChecks(t *testing.T) {
	t.Parallel()
	r := health.Run(t.Context(), nil, false, nil)
	require.Equal(t, health.OK, r.Status)
	require.Empty(t, r.Results)
}

func TestRunWhileDraining(t *testing.T) {
	t.Parallel()
	for _, probe := range []func(context.Context) (map[string]any, error){up, down} {
		r := health.Run(t.Context(), []health.Check{{Name: "store", Probe: probe}}, true, nil)
		require.Equal(t, health.Draining, r.Status)
	}
}

func TestRunBoundsEachCheckByItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		obedient := func(ctx context.Context) (map[string]any, error) { <-ctx.Done(); return nil, ctx.Err() }
		never := make(chan struct{})
		begun := time.Now()
		r := health.Run(t.Context(), []health.Check{
			{Name: "default", Probe: obedient},
			{Name: "own", Timeout: 3 * time.Second, Probe: obedient},
			{Name: "deaf", Timeout: 2 * time.Second, Probe: func(context.Context) (map[string]any, error) { <-never; return nil, nil }},
			{Name: "just in time", Timeout: 3 * time.Second, Probe: func(context.Context) (map[string]any, error) {
				time.Sleep(2999 * time.Millisecond)
				return nil, nil
			}},
		}, false, nil)
		require.Equal(t, 3*time.Second, time.Since(begun), "side by side, not one after the other")
		close(never)
		require.Equal(t, health.Failing, r.Status)
		for i, took := range []time.Duration{health.DefaultTimeout, 3 * time.Second, 2 * time.Second} {
			require.ErrorIs(t, r.Results[i].Err, health.ErrTimeout, r.Results[i].Name)
			require.Equal(t, took, r.Results[i].Took, r.Results[i].Name)
		}
		require.NoError(t, r.Results[3].Err)
		require.Equal(t, 2999*time.Millisecond, r.Results[3].Took)
	})
}

func TestRunWhenTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := health.Run(ctx, []health.Check{{Name: "store", Timeout: time.Hour, Probe: func(ctx context.Context) (map[string]any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}}, false, nil)
	require.ErrorIs(t, r.Results[0].Err, context.Canceled)
	require.NotErrorIs(t, r.Results[0].Err, health.ErrTimeout)
}

func TestSharedAsksNoOftenerThanIsOfUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked, failing, slow := 0, false, false
		probe := health.Shared(500*time.Millisecond, func(ctx context.Context) (map[string]any, error) {
			asked++
			if slow {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			}
			if failing {
				return nil, errSecret
			}
			return map[string]any{"n": asked}, nil
		})
		for range 10 {
			details, err := probe(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1, details["n"], "a good answer is good for a while")
		}
		failing = true
		time.Sleep(499 * time.Millisecond)
		_, err := probe(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
		for n := range 3 {
			_, err := probe(t.Context())
			require.ErrorIs(t, err, errSecret)
			require.Equal(t, 2+n, asked, "a bad answer is asked for again")
		}
		failing = false
		_, err = probe(t.Context())
		require.NoError(t, err, "what is well again is so at once")

		// Many come at once while nothing answers: one question, and each leaves when it likes.
		time.Sleep(time.Second)
		slow, asked = true, 0
		var wg sync.WaitGroup
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		wg.Go(func() {
			_, err := probe(impatient)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 100*time.Millisecond, time.Since(began))
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				_, err := probe(t.Context())
				require.ErrorIs(t, err, health.ErrTimeout)
				require.Equal(t, health.DefaultTimeout, time.Since(began), "the one who asked first has left")
			})
		}
		wg.Wait()
		require.Equal(t, 1, asked)
	})
	for name, probe := range map[string]health.Probe{
		"panics": func(context.Context) (map[string]any, error) { panic("x") },
		"exits":  func(context.Context) (map[string]any, error) { runtime.Goexit(); return nil, nil },
	} {
		_, err := health.Shared(time.Second, probe)(t.Context())
		require.Error(t, err, name)
	}
}
