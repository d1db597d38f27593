package mail

import (
	"context"
	"sync"
	"time"
)

const (
	// laneWait is how long a claimed job, and with it the worker, waits for a place in its lane.
	laneWait = 250 * time.Millisecond
	// lanePark is for how long a lane is parked that had no place for so long; it doubles while that stays so, up to maxLanePark.
	lanePark    = 500 * time.Millisecond
	maxLanePark = 8 * time.Second
	// maxLanes bounds the memory of lanes: beyond it, those in which nothing is under way are forgotten.
	maxLanes = 10_000
)

// lanes keep the first attempts of jobs with the same lane in order, and leave places to the jobs of others. It may be used from many goroutines.
type lanes struct {
	most int

	mu sync.Mutex
	of map[string]*lane
}

// lane is one of them.
type lane struct {
	under int           // jobs under way
	last  *laneTurn     // the one that came last
	freed chan struct{} // holds something once a place was given back
	// parked is until when jobs of this lane are put back, all until the same time: then they are claimed in the order of the queue.
	parked time.Time
	wait   time.Duration
}

func newLanes(most int) *lanes { return &lanes{most: most, of: map[string]*lane{}} }

// laneTurn is one job's place in its lane. A nil turn is that of a job without one.
type laneTurn struct {
	lanes  *lanes
	name   string
	before *laneTurn     // nil if there is none
	own    chan struct{} // closed when the job has begun, or ended
	once   sync.Once
	// passed says, once own is closed, that the job was put back untried: then whoever comes behind it is put back as well.
	passed bool
}

// enter gives a job that was claimed at a time its place, or says until when it is to be put back. It is called in the order of the claims.
func (w *Worker) enter(ctx context.Context, j Job, claimed time.Time) (turn *laneTurn, parked time.Time) {
	if w.lanes == nil || j.Attempts > 1 { // what is tried again has lost its place
		return nil, time.Time{}
	}
	name := w.cfg.Lane(j)
	if name == "" {
		return nil, time.Time{}
	}
	l := w.lanes
	turn, parked, freed := l.enter(name, claimed)
	if turn != nil || !parked.IsZero() {
		return turn, parked
	}
	timer := time.NewTimer(laneWait)
	defer timer.Stop()
	for {
		select {
		case <-freed:
			if turn, parked, freed = l.enter(name, claimed); turn != nil || !parked.IsZero() {
				return turn, parked
			}
			continue
		case <-timer.C:
		case <-ctx.Done():
		}
		return nil, l.park(name, microseconds(w.cfg.Now()))
	}
}

func (l *lanes) enter(name string, claimed time.Time) (*laneTurn, time.Time, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[name]
	if a == nil {
		if len(l.of) >= maxLanes {
			for other, b := range l.of {
				if b.under == 0 {
					delete(l.of, other)
				}
			}
		}
		a = &lane{freed: make(chan struct{}, 1), wait: lanePark}
		l.of[name] = a
	}
	switch {
	case claimed.Before(a.parked):
		return nil, a.parked, nil
	case a.under >= l.most:
		return nil, time.Time{}, a.freed
	}
	t := &laneTurn{lanes: l, name: name, before: a.last, own: make(chan struct{})}
	a.under++
	a.last = t
	return t, time.Time{}, nil
}

// park puts the jobs of a lane back, and says until when: until the time that was said before, if that is to come.
func (l *lanes) park(name string, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[name]
	if a == nil { // everything has ended this moment
		return now
	}
	if now.Before(a.parked) {
		return a.parked
	}
	a.parked = now.Add(a.wait)
	a.wait = min(2*a.wait, maxLanePark)
	return a.parked
}

// mine waits until the job before has begun, and reports whether it has before ctx ended.
func (t *laneTurn) mine(ctx context.Context) bool {
	if t == nil || t.before == nil {
		return true
	}
	select {
	case <-t.before.own:
		mine := !t.before.passed && ctx.Err() == nil
		t.before = nil // a chain of turns would be kept
		return mine
	case <-ctx.Done():
		return false
	}
}

// begun lets the next job of the lane begin.
func (t *laneTurn) begun() {
	if t != nil {
		t.once.Do(func() { close(t.own) })
	}
}

// pass puts the job back, unless it has begun, and those behind it in the lane, and says until when.
func (t *laneTurn) pass(now time.Time) time.Time {
	until := t.lanes.park(t.name, now)
	t.once.Do(func() {
		t.passed = true
		close(t.own)
	})
	return until
}

// end gives the place back at a time.
func (t *laneTurn) end(now time.Time) {
	if t == nil {
		return
	}
	t.begun()
	l := t.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of[t.name]
	a.under--
	if !t.passed {
		a.wait = lanePark
	}
	if a.last == t {
		a.last = nil // whoever comes next finds the lane parked, or free
	}
	select {
	case a.freed <- struct{}{}:
	default:
	}
	// What was parked stays behind nobody: while it waits, the lane is remembered.
	if a.under == 0 && !now.Before(a.parked) {
		delete(l.of, t.name)
	}
}
