// Package health asks dependencies whether they answer.
package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultTimeout bounds a check that states no time-out of its own.
const DefaultTimeout = time.Second

// Check is a named question to one dependency.
type Check struct {
	Name string
	// Timeout bounds Probe. Default [DefaultTimeout].
	Timeout time.Duration
	// Probe returns nil when the dependency answers, and details to show, which may be nil.
	// It gives up when ctx is done; a probe that does not is counted as down all the same.
	Probe Probe
}

// Probe is the question of a [Check].
type Probe func(ctx context.Context) (details map[string]any, err error)

// Shared returns a probe that asks no oftener than is of use, whoever calls it how often: a good answer is good for so
// long, and who comes while the question is under way gets its answer. A bad answer is asked for again by the next
// caller. The question ends with [DefaultTimeout], and not with the caller that it began with. The details of one answer go
// to several callers, who must not change them.
func Shared(fresh time.Duration, probe Probe) Probe {
	s := &shared{fresh: fresh, probe: probe}
	return s.ask
}

type shared struct {
	fresh time.Duration
	probe Probe

	mu   sync.Mutex
	last *asked
}

// asked is one question and, when done is closed, its answer.
type asked struct {
	done    chan struct{}
	at      time.Time
	details map[string]any
	err     error
}

func (s *shared) ask(ctx context.Context) (map[string]any, error) {
	a := s.current(ctx)
	select {
	case <-a.done:
		return a.details, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// current returns the question that is under way, or the answer that is good, or asks.
func (s *shared) current(ctx context.Context) *asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		select {
		case <-s.last.done:
			if s.last.err == nil && time.Since(s.last.at) < s.fresh {
				return s.last
			}
		default:
			return s.last
		}
	}
	a := &asked{done: make(chan struct{}), at: time.Now()}
	s.last = a
	go func() {
		a.err = errNoReturn
		defer close(a.done)
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("panic: %v", p)
			}
		}()
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), DefaultTimeout, ErrTimeout)
		defer cancel()
		a.details, a.err = s.probe(ctx)
	}()
	return a
}

// Status is the state of the whole.
type Status int

// The states.
const (
	// Failing means that a dependency is down, or that it is not known whether one is.
	Failing Status = iota
	// OK means that every dependency is up.
	OK
	// Draining means that the process is about to stop, whatever its dependencies do.
	Draining
)

// Report is what the checks have found out. An edge gives it the shape that its clients know.
type Report struct {
	Status Status
	// Results has one entry for each check, in their order. It is empty when the asking was given up.
	Results []Result
}

// Result is what one check has found out.
type Result struct {
	// Name is the check's.
	Name string
	// Err is nil if the dependency is up, and otherwise why it is not, for the log: it may hold secrets.
	// It matches [ErrTimeout] if there was no answer in time.
	Err error
	// Details are the probe's, if it is up. They may be nil.
	Details map[string]any
	// Took is how long the probe took.
	Took time.Duration
}

// ErrTimeout says that a dependency did not answer in time.
var ErrTimeout = errors.New("no answer in time")

// errNoReturn is for a probe that ends its goroutine.
var errNoReturn = errors.New("the probe did not return")

// Run asks all checks side by side, each under its own time-out, and returns when all have
// answered or run out of time. A probe that panics is down. describe, unless nil, gets why a
// dependency is down, for the log. It is called from several goroutines at once.
func Run(ctx context.Context, checks []Check, draining bool, describe func(name string, err error)) Report {
	r := Report{Status: OK, Results: make([]Result, len(checks))}
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			started := time.Now()
			details, err := c.run(ctx)
			r.Results[i] = Result{Name: c.Name, Err: err, Took: time.Since(started)}
			if err == nil {
				r.Results[i].Details = details
			} else if describe != nil {
				describe(c.Name, err)
			}
		})
	}
	wg.Wait()
	for _, result := range r.Results {
		if result.Err != nil {
			r.Status = Failing
		}
	}
	if draining {
		r.Status = Draining
	}
	return r
}

func (c Check) run(ctx context.Context) (map[string]any, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	defer cancel()
	type answer struct {
		details map[string]any
		err     error
	}
	answered := make(chan answer, 1) // buffered: a late probe must not hang
	go func() {
		a := answer{err: errNoReturn}
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("panic: %v", p)
			}
			answered <- a
		}()
		a.details, a.err = c.Probe(ctx)
	}()
	select {
	case a := <-answered:
		if a.err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), a.err)
		}
		return a.details, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
