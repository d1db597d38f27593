package sim_test

import (
	"flag"
	"testing"

	"github.com/parley-chat/parley/testkit/sim"
)

var rightsSeeds = flag.Int("sim.rights", 0, "how many seeds are simulated in TestRights; 0: 20, or 5 with -short")

// TestRights changes what people may do in rooms, again and again, while all of them do what they want: who may not gets and does nothing more in time, on any node,
// and who may is not refused.
func TestRights(t *testing.T) {
	n := *rightsSeeds
	switch {
	case *seed != 0:
		simulate(t, sim.Rights, *seed)
		return
	case n == 0 && testing.Short():
		n = 5
	case n == 0:
		n = 20
	}
	var total sim.Counts
	for s := *first; s < *first+uint64(n); s++ {
		r := simulate(t, sim.Rights, s)
		total.Add(r.Counts)
	}
	t.Logf("%d seeds: %+v", n, total)
}
