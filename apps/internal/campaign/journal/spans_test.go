package journal

import (
	"math/rand/v2"
	"testing"
)

// TestSpans compares spans with a map.
func TestSpans(t *testing.T) {
	t.Parallel()
	const top = 40
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var s spans
		want := map[uint64]bool{}
		for range 60 {
			n := random.Uint64N(top) + 1
			switch random.IntN(8) {
			case 0:
				s.cut(n)
				for i := n + 1; i <= top+5; i++ {
					delete(want, i)
				}
			case 1:
				last := n + random.Uint64N(5)
				s.addAll(n, last)
				for i := n; i <= last; i++ {
					want[i] = true
				}
			default:
				s.add(n)
				want[n] = true
			}
			for i := uint64(1); i <= top+5; i++ {
				if s.has(i) != want[i] {
					t.Fatalf("seed %d: has(%d) is %v in %v", seed, i, s.has(i), s)
				}
			}
			for i := 1; i < len(s); i++ {
				if s[i-1].last+1 >= s[i].first {
					t.Fatalf("seed %d: spans touch: %v", seed, s)
				}
			}
		}
	}
}
