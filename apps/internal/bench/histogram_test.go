package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	assert.Zero(t, h.quantile(0.5))
	for us := range 100_000 {
		h.add(time.Duration(us) * time.Microsecond)
	}
	assert.InEpsilon(t, 50, h.quantile(0.5), 0.016)
	assert.InEpsilon(t, 99, h.quantile(0.99), 0.016)
	assert.InDelta(t, 99.999, h.quantile(1), 0.0001)
	// Every place holds what falls between the one before it and its upper end.
	for us := uint64(1); us < 1<<38; us += 1 + us/1000 {
		at := bucket(us)
		assert.LessOrEqual(t, us, upper(at))
		assert.Greater(t, us, upper(at-1))
	}
	h.add(-time.Second)
	h.add(1 << 62)
	assert.Positive(t, h.quantile(1))
}
