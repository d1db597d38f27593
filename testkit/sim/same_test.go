//go:build !race

package sim_test

import (
	"strings"
	"testing"

	"github.com/parley-chat/parley/testkit/sim"
)

// Under the race detector Go shuffles goroutines, and a seed may tell another story.
//
// A seed whose first two runs differ, because a busy machine stopped one of them within an item or several contexts ended at one instant, has
// to tell one of its stories again. Few may need that.
func TestASeedTellsTheSameStoryEachTime(t *testing.T) {
	for _, p := range []sim.Profile{sim.Everything, sim.Rights} {
		t.Run(p.Name, func(t *testing.T) { sameStory(t, p) })
	}
}

func sameStory(t *testing.T, p sim.Profile) {
	n := uint64(*seeds)
	switch {
	case n == 0 && p.Rights: // its runs are longer
		n = 5
	case n == 0:
		n = 15
	}
	var parted []uint64
	for s := *first; s < *first+n; s++ {
		o := sim.Options{Seed: s, Profile: p, Lines: 1 << 20}
		one, two := sim.Run(t, o), sim.Run(t, o)
		if one.Hash == two.Hash {
			continue
		}
		parted = append(parted, s)
		told := map[string]bool{one.Hash: true, two.Hash: true}
		again := false
		for range 4 {
			r := sim.Run(t, o)
			again = again || told[r.Hash]
			told[r.Hash] = true
		}
		if !again {
			t.Errorf("seed %d tells no story twice:\n%s", s, difference(one.Trace, two.Trace))
		}
	}
	t.Logf("%d of %d seeds told two stories: %v", len(parted), n, parted)
	if uint64(len(parted)) > 1+n/20 {
		t.Errorf("too many seeds told two stories: %d of %d", len(parted), n)
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
