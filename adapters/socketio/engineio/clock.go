package engineio

import (
	"sync"
	"time"
)

// clock keeps the times of all sessions with one timer. Each of its timelines holds sessions
// in the order in which their time comes, which costs nothing, since all wait equally long.
type clock struct {
	start time.Time
	step  time.Duration // times are rounded up to it, so that one waking serves many sessions
	woken chan struct{} // capacity one: a timeline is not empty any more

	mu    sync.Mutex
	lines [lineCount]timeline
}

// The timelines, by what happens when a session's time comes.
const (
	linePing    = iota // a ping is due
	linePong           // the answer to a ping is missing
	lineConnect        // the application has not called Keep
	lineCount
)

// timeline is a list of deadlines, earliest first.
type timeline struct{ first, last *deadline }

// deadline is a session's place on a timeline.
type deadline struct {
	session    *Session
	prev, next *deadline
	at         time.Duration // since the clock's start
	line       int8          // linePing and so on
	set        bool
}

func newClock(step time.Duration) *clock {
	return &clock{start: time.Now(), step: step, woken: make(chan struct{}, 1)}
}

func (c *clock) now() time.Duration { return time.Since(c.start) }

// set moves d to the end of a timeline. at is no earlier than the time of whoever is there; it
// is what the rounding made of it that counts.
func (c *clock) set(d *deadline, line int8, at time.Duration) {
	at = (at + c.step - 1) / c.step * c.step
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(d)
	l := &c.lines[line]
	d.at, d.line, d.set = at, line, true
	d.prev, d.next = l.last, nil
	if l.last != nil {
		l.last.next = d
	} else {
		l.first = d
		select {
		case c.woken <- struct{}{}:
		default:
		}
	}
	l.last = d
}

// stop takes d off its timeline.
func (c *clock) stop(d *deadline) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(d)
}

// overdue reports whether d is the end of a wait that is over.
func (c *clock) overdue(d *deadline) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return d.set && d.line == linePong && d.at <= c.now()
}

func (c *clock) remove(d *deadline) {
	if !d.set {
		return
	}
	l := &c.lines[d.line]
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		l.first = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	} else {
		l.last = d.prev
	}
	d.prev, d.next, d.set = nil, nil, false
}

// due takes a deadline whose time has come off its timeline; nil when there is none.
func (c *clock) due(now time.Duration) (d *deadline, line int8) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.lines {
		if d := c.lines[i].first; d != nil && d.at <= now {
			c.remove(d)
			return d, int8(i)
		}
	}
	return nil, 0
}

// wait is the time until the next deadline; never is true when there is none.
func (c *clock) wait(now time.Duration) (d time.Duration, never bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	never = true
	for i := range c.lines {
		if first := c.lines[i].first; first != nil && (never || first.at-now < d) {
			d, never = first.at-now, false
		}
	}
	return d, never
}

// run calls do for each deadline when its time has come, until stopped is closed.
func (c *clock) run(stopped <-chan struct{}, do func(d *deadline, line int8)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		for {
			d, line := c.due(c.now())
			if d == nil {
				break
			}
			do(d, line)
		}
		var expired <-chan time.Time
		if d, never := c.wait(c.now()); !never {
			timer.Reset(d)
			expired = timer.C
		}
		select {
		case <-expired:
		case <-c.woken:
		case <-stopped:
			return
		}
	}
}
