package health_test

import (
	"context"
	"encoding/json"
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
	require.Equal(t, "16", r.Info["store"]["version"])
	require.Equal(t, "up", r.Info["store"]["status"])
	require.GreaterOrEqual(t, r.Info["store"]["ms"], 0.0)
	require.Equal(t, "up", r.Info["pretends"]["status"])
	require.Len(t, r.Info, 2)
	require.Len(t, r.Error, 4)
	require.Len(t, r.Details, 6)
	for _, name := range []string{"bus", "panics", "missing", "exits"} {
		require.Equal(t, map[string]any{"status": "down", "message": "failed"}, r.Error[name], name)
		require.Equal(t, r.Error[name], r.Details[name])
		require.Error(t, described[name])
	}
	require.ErrorIs(t, described["bus"], errSecret)
	require.Len(t, described, 4)

	raw, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "hunter2", "the report may be public")
}

func TestRunWithoutChecks(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(health.Run(t.Context(), nil, false, nil))
	require.NoError(t, err)
	require.JSONEq(t, `{"status":"ok","info":{},"error":{},"details":{}}`, string(raw))
}

func TestRunWhileDraining(t *testing.T) {
	t.Parallel()
	for _, probe := range []func(context.Context) (map[string]any, error){up, down} {
		r := health.Run(t.Context(), []health.Check{{Name: "store", Probe: probe}}, true, nil)
		require.Equal(t, health.ShuttingDown, r.Status)
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
		for _, name := range []string{"default", "own", "deaf"} {
			require.Equal(t, map[string]any{"status": "down", "message": "no answer in time"}, r.Error[name], name)
		}
		require.Equal(t, 2999.0, r.Info["just in time"]["ms"])
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
	require.Equal(t, map[string]any{"status": "down", "message": "failed"}, r.Error["store"])
}
