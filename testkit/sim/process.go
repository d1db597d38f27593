package sim

import (
	"context"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit"
)

// process is a program that runs, until it is told to end or is killed. Its ports are behind its gate. What a killed process does
// afterwards has no effect: each call of a port fails at once.
type process struct {
	world  *world
	name   string // of this run: another one of the same program has another
	ctx    context.Context
	cancel context.CancelFunc
	dead   atomic.Bool
	faults *testkit.Faults
	ended  chan struct{} // closed when it has ended
	ids    atomic.Uint64
}

// call is a call of a port that waits for its turn.
type call struct {
	process *process
	method  string
	release chan testkit.Fault
	over    atomic.Bool // nobody waits any more
}

var errKilled = fault.New(fault.Unavailable, "killed", "the process was killed")

func (w *world) newProcess(name string) *process {
	p := &process{world: w, name: name, ended: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.faults = testkit.DecideFaults(p.gate)
	return p
}

// gate lets each call of a port wait for its turn. What becomes of it is drawn when it comes.
func (p *process) gate(ctx context.Context, method string) testkit.Fault {
	switch {
	case p.dead.Load():
		return testkit.Fail(errKilled)
	case ctx.Err() != nil: // contexts end in no order
		return testkit.Fail(fault.Wrap(fault.Unavailable, ctx.Err()))
	case method == "Fanout.Run", method == "Fanout.Deliver", method == "Subscriber.Subscribe": // the bus and the fan-out have items of their own
		return testkit.Fault{}
	}
	c := &call{process: p, method: method, release: make(chan testkit.Fault, 1)}
	w := p.world
	key := p.name + " " + method + detail(ctx) + " by " + caller()
	w.rules.begins(c)
	w.scheduler.put(&item{key: key, wait: w.callTime, call: c, run: func() string {
		if c.over.Load() {
			return "nobody waits any more"
		}
		f, what := w.fate(p, method)
		w.rules.ends(c, what == "")
		c.release <- f
		return what
	}})
	select {
	case f := <-c.release:
		return f
	case <-ctx.Done():
		c.over.Store(true)
		w.rules.ends(c, false)
		return testkit.Fail(fault.Wrap(fault.Unavailable, ctx.Err()))
	}
}

// callers has the names of functions by return addresses: "" for one of testkit or of the runtime.
var callers sync.Map // of uintptr: string

// caller names the function that calls a port. Two goroutines of a process may call one method at once: this tells them apart, whichever
// of them Go lets run first.
func caller() string {
	var pcs [16]uintptr
	for _, pc := range pcs[:runtime.Callers(3, pcs[:])] {
		known, ok := callers.Load(pc)
		if !ok {
			frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
			name := frame.Function
			if strings.Contains(name, "/testkit") || strings.HasPrefix(name, "runtime.") {
				name = ""
			}
			known = name[strings.LastIndexByte(name, '/')+1:]
			callers.Store(pc, known)
		}
		if name := known.(string); name != "" {
			return name
		}
	}
	return "nobody"
}

// about is the key of what a call is about, in its context.
type about struct{}

// detail is what a call is about, for the trace.
func detail(ctx context.Context) string {
	what, _ := ctx.Value(about{}).(string)
	return what
}

// tell makes a call say what it is about.
func tell(ctx context.Context, what ...any) context.Context {
	return context.WithValue(ctx, about{}, " "+fmt.Sprint(what...))
}

// newID makes identifiers that ascend with time.
func (p *process) newID() string {
	return fmt.Sprintf("%012d-%s-%05d", p.world.scheduler.now().Microseconds(), p.name, p.ids.Add(1))
}

// kill ends a process in the middle of what it does. A call that waits for its turn has its effect or has not, and its answer reaches
// nobody.
func (p *process) kill() {
	w := p.world
	p.dead.Store(true)
	for _, it := range w.scheduler.waiting(p) {
		f := testkit.Fail(errKilled)
		if lost := testkit.LoseAnswer(); testkit.Stands(it.method, lost) && w.scheduler.chance(0.5) {
			f = lost
		}
		it.over.Store(true)
		it.release <- f
		synctest.Wait()
	}
	p.cancel()
	w.hangUp(p)
}

// waiting returns the calls of a process that wait for their turn, in the order in which they would come.
func (s *scheduler) waiting(p *process) []*call {
	s.collect()
	var own items
	for _, it := range s.queue {
		if it.call != nil && it.call.process == p && !it.call.over.Load() {
			own = append(own, it)
		}
	}
	sort.Sort(own)
	calls := make([]*call, len(own))
	for i, it := range own {
		calls[i] = it.call
	}
	return calls
}

// await waits until a process has ended, at most so long.
func (p *process) await(most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-p.ended:
		return true
	case <-timer.C:
		return false
	}
}
