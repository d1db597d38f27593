package sim

import (
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// scheduler decides what happens next. Everything that one part of the system wants of another is an item in its queue; it lets
// one happen, waits until nothing in the bubble goes on by itself any more, and lets the next one happen.
//
// Only its own goroutine draws numbers, and only in an order that does not depend on Go's scheduler: what has arrived
// since the last item is sorted by name first.
type scheduler struct {
	random *rand.Rand
	begin  time.Time
	queue  items
	seq    int // of items
	steps  int
	trace  *trace

	mu      sync.Mutex
	arrived []*item
	wake    chan struct{} // holds one: something has arrived
}

// item is something that is going to happen.
type item struct {
	key  string        // names it, the same in each run
	due  time.Duration // since the beginning
	seq  int
	wait latency
	run  func() string // in the goroutine of the scheduler: it must not block. It returns what the trace says
	call *call         // of a port; nil for what is none
}

// latency is how long something takes until it happens.
type latency func(*rand.Rand) time.Duration

func newScheduler(seed uint64, lines int) *scheduler {
	return &scheduler{
		random: rand.New(rand.NewPCG(seed, 0x5eed)), begin: time.Now(), wake: make(chan struct{}, 1),
		trace: &trace{sum: sha256.New(), most: lines},
	}
}

// now is the time since the beginning.
func (s *scheduler) now() time.Duration { return time.Since(s.begin) }

// arrive makes run happen after a while. It may be called from any goroutine. Of two with one key, the first to arrive is
// the first to be drawn for.
func (s *scheduler) arrive(key string, wait latency, run func() string) {
	s.put(&item{key: key, wait: wait, run: run})
}

func (s *scheduler) put(it *item) {
	s.mu.Lock()
	s.arrived = append(s.arrived, it)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// collect puts what has arrived into the queue.
func (s *scheduler) collect() {
	s.mu.Lock()
	arrived := s.arrived
	s.arrived = nil
	s.mu.Unlock()
	slices.SortStableFunc(arrived, func(a, b *item) int { return strings.Compare(a.key, b.key) })
	for _, it := range arrived {
		s.seq++
		it.seq, it.due = s.seq, s.now()+it.wait(s.random)
		heap.Push(&s.queue, it)
	}
}

// step lets the next item happen. If there is none up to the limit, it waits until the limit and returns false.
func (s *scheduler) step(limit time.Duration) bool {
	for {
		synctest.Wait()
		s.collect()
		until, due := limit, len(s.queue) > 0 && s.queue[0].due <= limit
		if due {
			until = s.queue[0].due
		}
		now := s.now()
		if now >= until {
			if !due {
				return false
			}
			break
		}
		timer := time.NewTimer(until - now)
		select {
		case <-timer.C:
		case <-s.wake:
			timer.Stop()
		}
	}
	it := heap.Pop(&s.queue).(*item)
	s.steps++
	s.trace.write(s.now(), it.key, it.run())
	return true
}

// chance is true with probability p.
func (s *scheduler) chance(p float64) bool { return s.random.Float64() < p }

// pick returns one of several.
func pick[T any](r *rand.Rand, some []T) T { return some[r.IntN(len(some))] }

// between is a time in a range, in steps so small that two of them are hardly ever the same.
func between(least, most time.Duration) latency {
	return func(r *rand.Rand) time.Duration { return least + time.Duration(r.Int64N(int64(most-least))) }
}

// items is a heap: what is due first, and of that what was drawn first.
type items []*item

func (q items) Len() int { return len(q) }
func (q items) Less(i, j int) bool {
	return q[i].due < q[j].due || q[i].due == q[j].due && q[i].seq < q[j].seq
}
func (q items) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *items) Push(x any)   { *q = append(*q, x.(*item)) }
func (q *items) Pop() any {
	last := len(*q) - 1
	it := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return it
}

// trace is what happened: the sum of all of it, and its last lines.
type trace struct {
	sum   hash.Hash
	most  int
	lines []string
	from  int // the index of the oldest of lines, once there are most of them
}

func (t *trace) write(at time.Duration, key, outcome string) {
	line := fmt.Sprintf("%12.6f %s", at.Seconds(), key)
	if outcome != "" {
		line += ": " + outcome
	}
	line += "\n"
	_, _ = t.sum.Write([]byte(line)) // never fails
	switch {
	case t.most == 0:
	case len(t.lines) < t.most:
		t.lines = append(t.lines, line)
	default:
		t.lines[t.from] = line
		t.from = (t.from + 1) % t.most
	}
}

// last returns the last lines.
func (t *trace) last() string {
	return strings.Join(t.lines[t.from:], "") + strings.Join(t.lines[:t.from], "")
}

// hash names the whole trace.
func (t *trace) hash() string { return hex.EncodeToString(t.sum.Sum(nil)) }
