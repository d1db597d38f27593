//go:build !race

package sim_test

import (
	"strings"
	"testing"

	"github.com/parley-chat/parley/testkit/sim"
)

// Under the race detector Go shuffles goroutines, and a seed may tell another story.
func TestASeedTellsTheSameStoryEachTime(t *testing.T) {
	n := uint64(*seeds)
	if n == 0 {
		n = 15
	}
	for s := *first; s < *first+n; s++ {
		o := sim.Options{Seed: s, Profile: sim.Everything, Lines: 1 << 20}
		one, two := sim.Run(t, o), sim.Run(t, o)
		if one.Hash != two.Hash {
			t.Errorf("seed %d tells two stories:\n%s", s, difference(one.Trace, two.Trace))
		}
	}
}

// difference is where two traces part.
func difference(one, two string) string {
	a, b := strings.Split(one, "\n"), strings.Split(two, "\n")
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	from := max(0, at-15)
	return strings.Join(a[from:min(len(a), at+3)], "\n") + "\n--- or\n" + strings.Join(b[min(at, len(b)):min(len(b), at+3)], "\n")
}
