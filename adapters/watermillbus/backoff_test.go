package watermillbus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	t.Parallel()
	b, err := newBackoff(0, 0)
	require.NoError(t, err)
	for failures, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 3: 400 * time.Millisecond, 6: 3200 * time.Millisecond,
		7: 5 * time.Second, 8: 5 * time.Second, 1 << 30: 5 * time.Second,
	} {
		assert.Equal(t, want, b.after(failures), "after %d failures", failures)
	}
	b, err = newBackoff(7*time.Second, 0)
	require.NoError(t, err)
	assert.Equal(t, 7*time.Second, b.after(9))
}
