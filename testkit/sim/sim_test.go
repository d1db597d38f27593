package sim_test

import (
	"flag"
	"fmt"
	"testing"

	"github.com/parley-chat/parley/testkit/sim"
)

var (
	seeds = flag.Int("sim.seeds", 0, "how many seeds are simulated; 0: 40, or 10 with -short")
	first = flag.Uint64("sim.from", 1, "the first of these seeds")
	seed  = flag.Uint64("sim.seed", 0, "simulates this seed alone, and prints the end of its trace")
	lines = flag.Int("sim.lines", 200, "how many lines of the trace of a failure are printed")
)

func TestSeeds(t *testing.T) {
	n := *seeds
	switch {
	case *seed != 0:
		simulate(t, *seed)
		return
	case n == 0 && testing.Short():
		n = 10
	case n == 0:
		n = 40
	}
	var total sim.Counts
	for s := *first; s < *first+uint64(n); s++ {
		r := simulate(t, s)
		total.Add(r.Counts)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d seeds: %+v", n, total)
}

func simulate(t *testing.T, s uint64) sim.Report {
	r := sim.Run(t, sim.Options{Seed: s, Profile: sim.Everything, Lines: *lines})
	if r.Violation != "" {
		t.Errorf("seed %d: %s\nThe end of its trace:\n%s\nAgain: go test ./testkit/sim -run '^TestSeeds$' -sim.seed=%d", s, r.Violation, r.Trace, s)
	}
	if *seed != 0 {
		fmt.Println(r.Trace)
		t.Logf("%+v, trace %s", r.Counts, r.Hash)
	}
	return r
}

// A simulation that finds nothing proves nothing: each mistake that is put in on purpose is found, and within few seeds.
func TestEachBugIsFound(t *testing.T) {
	most := uint64(200)
	if *seeds > 0 {
		most = uint64(*seeds)
	}
	for _, name := range sim.Bugs() {
		t.Run(name, func(t *testing.T) {
			for s := uint64(1); s <= most; s++ {
				if r := sim.Run(t, sim.Options{Seed: s, Profile: sim.Everything, Bug: name}); r.Violation != "" {
					t.Logf("seed %d: %s", s, r.Violation)
					return
				}
			}
			t.Errorf("not found with %d seeds", most)
		})
	}
}
