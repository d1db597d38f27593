package health_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/health"
)

func TestReporterAsksOnceForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		up := health.Check{Name: "store", Probe: func(context.Context) (map[string]any, error) {
			asked.Add(1)
			time.Sleep(300 * time.Millisecond) // of the bubble
			return nil, nil
		}}
		s := health.NewReporter([]health.Check{up}, time.Second, nil)
		all := func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() { assert.Equal(t, health.OK, s.Report(t.Context(), false).Status) })
			}
			wg.Wait()
		}
		all()
		all()
		assert.EqualValues(t, 1, asked.Load())
		time.Sleep(time.Second - time.Nanosecond)
		all()
		assert.EqualValues(t, 1, asked.Load())
		assert.Equal(t, health.Draining, s.Report(t.Context(), true).Status, "what this process does is known at once")
		assert.Equal(t, health.OK, s.Report(t.Context(), false).Status)
		time.Sleep(time.Nanosecond)
		all()
		assert.EqualValues(t, 2, asked.Load())

		only := health.NewReporter([]health.Check{up}, 0, nil)
		hungUp, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { assert.Equal(t, health.Failing, only.Report(hungUp, false).Status) })
		synctest.Wait()
		wg.Go(func() { assert.Equal(t, health.OK, only.Report(t.Context(), false).Status) })
		synctest.Wait()
		cancel()
		wg.Wait()
		assert.EqualValues(t, 3, asked.Load(), "whoever hangs up takes nothing from the others")
		only.Report(t.Context(), false)
		assert.EqualValues(t, 4, asked.Load())
	})
}
