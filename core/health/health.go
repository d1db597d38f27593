// Package health asks dependencies whether they answer.
package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
type Status string

// The states.
const (
	OK           Status = "ok"
	Failing      Status = "error"
	ShuttingDown Status = "shutting_down"
)

// Report is the answer, in the shape that NestJS Terminus gives it.
type Report struct {
	Status Status `json:"status"`
	// Info holds what is up, Error what is down, Details both.
	Info    map[string]map[string]any `json:"info"`
	Error   map[string]map[string]any `json:"error"`
	Details map[string]map[string]any `json:"details"`
}

// ErrTimeout says that a dependency did not answer in time.
var ErrTimeout = errors.New("no answer in time")

// errNoReturn is for a probe that ends its goroutine.
var errNoReturn = errors.New("the probe did not return")

// Run asks all checks side by side, each under its own time-out, and returns when all have
// answered or run out of time. A probe that panics is down. The error texts in the report are
// only whether it answered in time, since the report may be public; describe gets the rest,
// for the log, and may be nil. It is called from several goroutines at once.
func Run(ctx context.Context, checks []Check, draining bool, describe func(name string, err error)) Report {
	results := make([]map[string]any, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			started := time.Now()
			details, err := c.run(ctx)
			entry := map[string]any{}
			if err != nil {
				entry["status"] = "down"
				entry["message"] = "failed"
				if errors.Is(err, ErrTimeout) {
					entry["message"] = ErrTimeout.Error()
				}
				if describe != nil {
					describe(c.Name, err)
				}
			} else {
				maps.Copy(entry, details) // first: a detail cannot pass for the status
				entry["status"] = "up"
				entry["ms"] = float64(time.Since(started).Microseconds()) / 1000
			}
			results[i] = entry
		})
	}
	wg.Wait()
	r := Report{Status: OK, Info: map[string]map[string]any{}, Error: map[string]map[string]any{}, Details: map[string]map[string]any{}}
	for i, c := range checks {
		r.Details[c.Name] = results[i]
		if results[i]["status"] == "up" {
			r.Info[c.Name] = results[i]
		} else {
			r.Error[c.Name] = results[i]
			r.Status = Failing
		}
	}
	if draining {
		r.Status = ShuttingDown
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
