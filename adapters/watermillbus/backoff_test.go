package watermillbus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/settings"
)

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	t.Parallel()
	c := settings.Of("watermillbus: Config")
	b := newBackoff(c, 0, 0)
	for failures, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 3: 400 * time.Millisecond, 6: 3200 * time.Millisecond,
		7: 5 * time.Second, 8: 5 * time.Second, 1 << 30: 5 * time.Second,
	} {
		assert.Equal(t, want, b.after(failures), "after %d failures", failures)
	}
	b = newBackoff(c, 7*time.Second, 0)
	assert.Equal(t, 7*time.Second, b.after(9))
	require.NoError(t, c.Err())
	newBackoff(c, 2, 1)
	require.EqualError(t, c.Err(), "watermillbus: Config.MaxBackoff 1ns is shorter than Backoff 2ns")
}
