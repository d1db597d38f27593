package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in 64 steps for each power of two of microseconds: a quantile is at most 1.6 % too large. Its
// methods may be called from many goroutines.
type histogram struct {
	counts [40 * 64]atomic.Int64
	most   atomic.Int64 // in microseconds
}

func (h *histogram) add(d time.Duration) {
	us := max(0, d.Microseconds())
	h.counts[bucket(uint64(us))].Add(1)
	for {
		most := h.most.Load()
		if us <= most || h.most.CompareAndSwap(most, us) {
			return
		}
	}
}

// bucket is the place of a number of microseconds.
func bucket(us uint64) int {
	if us < 64 {
		return int(us)
	}
	shift := bits.Len64(us) - 7
	return min(len(histogram{}.counts)-1, (shift+1)*64+int(us>>shift)-64)
}

// upper is the largest number of microseconds of a place.
func upper(at int) uint64 {
	if at < 64 {
		return uint64(at)
	}
	shift := at/64 - 1
	return uint64(at%64+64+1)<<shift - 1
}

// quantile returns in milliseconds what so much of all does not exceed; 0 without any.
func (h *histogram) quantile(q float64) float64 {
	total := int64(0)
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	if total == 0 {
		return 0
	}
	want, sum := max(1, int64(q*float64(total)+0.5)), int64(0)
	for i := range h.counts {
		if sum += h.counts[i].Load(); sum >= want {
			return min(float64(upper(i)), float64(h.most.Load())) / 1000
		}
	}
	return float64(h.most.Load()) / 1000
}
