package sim

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
)

// Options say what is simulated.
type Options struct {
	Seed    uint64
	Profile Profile
	// Bug is the name of a mistake that is put in on purpose: one of [Bugs]. Empty for none.
	Bug string
	// Lines is how many lines of the trace are kept: the last ones.
	Lines int
}

// Profile says how large a run is, and what its clients do.
type Profile struct {
	Name string
	// Nodes and People are how many there are at least; there may be one node more, and people have one or two devices.
	Nodes, People int
	// Busy is how long things go wrong.
	Busy time.Duration
	// Think is the longest time between two steps of a client.
	Think time.Duration
	// Cuts is how many steps of a hundred are a cut, and Away for how many steps a client is away then, at most.
	Cuts, Away int
	// Chaos is the longest time between two things that go wrong at large: a crash, a partition.
	Chaos time.Duration
	// SignOut lets clients sign out.
	SignOut bool
	// Rights gives people rooms in which they have rights, which change.
	Rights bool
	// Failing are the ports that may fail, by their names in a plan of faults; all if it is empty.
	Failing []string
}

// Everything is the profile in which all parts take part.
var Everything = Profile{Name: "everything", Nodes: 2, People: 2, Busy: 40 * time.Second, Think: time.Second, Cuts: 6, Away: 10, Chaos: 12 * time.Second, SignOut: true}

// Recovery is the profile of absences: clients are cut off again and again, for long and for short, while the others talk, in rooms that
// are longer than a page and than the cache.
var Recovery = Profile{
	Name: "recovery", Nodes: 2, People: 3, Busy: 100 * time.Second, Think: 400 * time.Millisecond, Cuts: 25, Away: 60, Chaos: 20 * time.Second,
	Failing: []string{"Messages", "Cache", "Fanout", "Members", "Marks"},
}

// Rights is the profile of rights: people make rooms, let each other in, give and take roles, ban, mute and block each other, and all of them try what they may not.
// Nodes are deaf for long, and their clocks are behind.
var Rights = Profile{Name: "rights", Nodes: 2, People: 3, Busy: 60 * time.Second, Think: 600 * time.Millisecond, Cuts: 4, Away: 10, Chaos: 10 * time.Second, Rights: true}

// Report is what became of a run.
type Report struct {
	// Violation is the first promise that was broken; empty if none was.
	Violation string
	// Hash names the whole trace, Trace is its end.
	Hash, Trace string
	Counts
}

// Counts are what happened in a run.
type Counts struct {
	// Steps counts items of the queue.
	Steps int
	// Messages counts those that clients wrote, Live those that they were given live, and Read those that they read when they joined or by
	// history, for which they asked Pages times.
	Messages, Live, Read, Pages int
	// Changes counts edits, deletions and reactions of clients, Changed those that they were given live, and Missed those that they were given
	// when they came back.
	Changes, Changed, Missed int
	// Marks counts how often clients said how far they had read, and Marked how often they were told it of anybody.
	Marks, Marked int
	// Cuts counts clients that were cut off, and Resumed connections that went on where they were.
	Cuts, Resumed int
	// Crashes counts processes that were killed, and Restarts those that were told to end.
	Crashes, Restarts int
	// Resyncs counts how often a client was told to read a room again, and Refused the messages that were not taken.
	Resyncs, Refused int
	// SignUps and SignOuts count those that were acknowledged, and Mails what was sent.
	SignUps, SignOuts, Mails int
	// Spared counts readings of the cache that were taken for misses: see the package.
	Spared int
	// Untold counts rooms that ended, for whoever joined, before a message that their node was not told of: see the package.
	Untold int
	// Deeds counts what people did to the rights of others, and Denied what was refused for want of a right.
	Deeds, Denied int
	// Closes counts connections that ended, by code.
	Closes map[int]int
	// Time is how long the run lasted on its own clock.
	Time time.Duration
}

// alone lets one run at a time have the processor.
var alone sync.Mutex

// Run simulates one run in a bubble of its own. While it runs, the process has one processor and no garbage is collected, since both
// decide which goroutine goes first.
func Run(t *testing.T, o Options) (r Report) {
	t.Helper()
	alone.Lock()
	defer alone.Unlock()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	synctest.Test(t, func(*testing.T) {
		w := newWorld(o)
		w.counts.Closes = map[int]int{}
		w.live()
		w.end()
		r = Report{Violation: w.violated, Hash: w.scheduler.trace.hash(), Trace: w.scheduler.trace.last(), Counts: w.counts}
		r.Steps, r.Time, r.Mails = w.scheduler.steps, w.scheduler.now(), len(w.smtp.mails)
		r.Spared = int(w.spared.Load())
	})
	return r
}

// live is a run, from the beginning to the last check.
func (w *world) live() {
	for _, pr := range w.programs {
		w.begin(pr)
	}
	for _, c := range w.clients {
		c.begin()
	}
	w.chaos()
	if !w.until(w.profile.Busy, func() bool { return false }) && w.violated != "" {
		return
	}
	w.calmDown()
	w.finish()
}

// until lets things happen for so long, or until done is true; done is asked before each item. It reports whether done was true.
func (w *world) until(long time.Duration, done func() bool) bool {
	end := w.scheduler.now() + long
	for w.violated == "" {
		if done() {
			return true
		}
		if !w.scheduler.step(end) {
			return done()
		}
	}
	return false
}

// end ends every goroutine of the bubble.
func (w *world) end() {
	for _, pr := range w.programs {
		if p := pr.now; p != nil {
			p.kill()
		}
	}
	for _, p := range w.processes {
		if !p.await(time.Hour) {
			panic(fmt.Sprintf("%s does not end", p.name))
		}
	}
	for _, c := range w.conns {
		c.end()
	}
	synctest.Wait()
}

// chaos lets something go wrong at random moments: see [world.wreck].
func (w *world) chaos() {
	w.scheduler.arrive("chaos", between(time.Second, w.profile.Chaos), func() string {
		if w.calm {
			return ""
		}
		what := w.wreck()
		w.chaos()
		return what
	})
}

// wreck does one thing to a program, or to what all share.
func (w *world) wreck() string {
	s := w.scheduler
	pr := pick(s.random, w.programs)
	back := between(100*time.Millisecond, 10*time.Second)
	switch n := s.random.IntN(10); {
	case n < 4:
		if !pr.up() {
			return pr.name + " is down already"
		}
		w.counts.Crashes++
		name := pr.now.name
		pr.now.kill()
		s.arrive(pr.name+" starts", back, func() string { w.begin(pr); return pr.now.name })
		return name + " is killed"
	case n < 5:
		if !pr.up() {
			return pr.name + " is down already"
		}
		w.counts.Restarts++
		p := pr.now
		p.cancel()
		go func() {
			<-p.ended
			s.arrive(pr.name+" starts again", between(time.Millisecond, time.Second), func() string {
				if pr.now != p || p.dead.Load() {
					return "it was killed meanwhile"
				}
				p.dead.Store(true)
				w.hangUp(p)
				w.begin(pr)
				return pr.now.name
			})
		}()
		return p.name + " is told to end"
	case n < 7:
		if !pr.up() || !pr.isNode() {
			return ""
		}
		name := pr.now.name
		w.cut[name] = true
		if w.rules != nil { // so long that it has to find by itself what it does not hear
			back = between(time.Second, 40*time.Second)
		}
		s.arrive(name+" is reached again", back, func() string { delete(w.cut, name); return "" })
		return name + " is cut off from the fan-out"
	case n < 9:
		if !pr.up() {
			return ""
		}
		name := pr.now.name
		w.partition[name] = true
		s.arrive(name+" hears the bus again", back, func() string { delete(w.partition, name); return "" })
		return name + " is cut off from the bus"
	case s.chance(0.5):
		w.presence, w.presenceLost = memory.NewPresence(), s.now()
		return "presence is lost"
	default:
		w.cache = w.newCache()
		return "the cache is lost"
	}
}

// calmDown ends all that goes wrong.
func (w *world) calmDown() {
	w.calm = true
	clear(w.cut)
	clear(w.partition)
	w.scheduler.trace.write(w.scheduler.now(), "calm", "")
}

// Add adds what happened in another run.
func (c *Counts) Add(other Counts) {
	for at, n := range map[*int]int{
		&c.Steps: other.Steps, &c.Messages: other.Messages, &c.Live: other.Live, &c.Read: other.Read, &c.Pages: other.Pages,
		&c.Changes: other.Changes, &c.Changed: other.Changed, &c.Missed: other.Missed, &c.Marks: other.Marks, &c.Marked: other.Marked,
		&c.Cuts: other.Cuts, &c.Resumed: other.Resumed, &c.Crashes: other.Crashes, &c.Restarts: other.Restarts, &c.Resyncs: other.Resyncs,
		&c.Refused: other.Refused, &c.SignUps: other.SignUps, &c.SignOuts: other.SignOuts, &c.Mails: other.Mails, &c.Spared: other.Spared, &c.Untold: other.Untold,
		&c.Deeds: other.Deeds, &c.Denied: other.Denied,
	} {
		*at += n
	}
	if c.Closes == nil {
		c.Closes = map[int]int{}
	}
	for code, n := range other.Closes {
		c.Closes[code] += n
	}
	c.Time += other.Time
}
