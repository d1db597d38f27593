package sim_test

import (
	"flag"
	"testing"

	"github.com/parley-chat/parley/testkit/sim"
)

var (
	seeds = flag.Int("sim.seeds", 0, "how many seeds are simulated; 0: 40, or 10 with -short")
	first = flag.Uint64("sim.from", 1, "the first of these seeds")
	seed  = flag.Uint64("sim.seed", 0, "simulates this seed alone, and prints the end of its trace")
	cuts  = flag.Int("sim.cuts", 0, "how many times clients are cut off in TestRecovery; 0: 500, or 100 with -short")
	lines = flag.Int("sim.lines", 200, "how many lines of the trace of a failure are printed")
)

func TestSeeds(t *testing.T) {
	n := *seeds
	switch {
	case *seed != 0:
		simulate(t, sim.Everything, *seed)
		return
	case n == 0 && testing.Short():
		n = 10
	case n == 0:
		n = 40
	}
	var total sim.Counts
	for s := *first; s < *first+uint64(n); s++ {
		r := simulate(t, sim.Everything, s)
		total.Add(r.Counts)
	}
	t.Logf("%d seeds: %+v", n, total)
}

// TestRecovery cuts clients off again and again, for a random length: each has what is stored when it is back, whatever was said
// meanwhile, wherever it comes back, and whatever the cache has lost.
func TestRecovery(t *testing.T) {
	most := *cuts
	switch {
	case *seed != 0:
		simulate(t, sim.Recovery, *seed)
		return
	case most == 0 && testing.Short():
		most = 100
	case most == 0:
		most = 500
	}
	var total sim.Counts
	s := *first
	for ; total.Cuts < most; s++ {
		r := simulate(t, sim.Recovery, s)
		total.Add(r.Counts)
	}
	t.Logf("%d seeds: %+v", s-*first, total)
}

func simulate(t *testing.T, p sim.Profile, s uint64) sim.Report {
	t.Helper()
	r := sim.Run(t, sim.Options{Seed: s, Profile: p, Lines: *lines})
	switch {
	case r.Violation == "":
	case t.Failed(): // one trace is enough
		t.Errorf("seed %d: %s", s, r.Violation)
	default:
		t.Errorf("seed %d: %s\nThe end of its trace:\n%s\nAgain: go test ./testkit/sim -run '^%s$' -sim.seed=%d", s, r.Violation, r.Trace, t.Name(), s)
	}
	if *seed != 0 {
		t.Logf("%+v, trace %s\n%s", r.Counts, r.Hash, r.Trace)
	}
	return r
}

// A simulation that finds nothing proves nothing: each mistake that is put in on purpose is found, and within few seeds.
func TestEachBugIsFound(t *testing.T) {
	most := uint64(1000)
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
