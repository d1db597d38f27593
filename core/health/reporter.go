package health

import (
	"context"
	"sync"
	"time"
)

// Reporter asks the checks for many at once: whoever comes while they are being asked gets that
// answer, and so does whoever comes shortly after it. So however many ask, dependencies are asked
// a bounded number of times. Its methods may be called from many goroutines.
type Reporter struct {
	run   func(ctx context.Context) Report
	every time.Duration

	mu   sync.Mutex
	last *round
}

// round is one time of asking.
type round struct {
	done   chan struct{}
	report Report
	at     time.Time // when it was answered; set before done is closed
}

// NewReporter returns what asks checks as [Run] does, again no sooner than the given time after the last
// answer; zero shares only answers that are under way.
func NewReporter(checks []Check, every time.Duration, describe func(name string, err error)) *Reporter {
	return &Reporter{every: every, run: func(ctx context.Context) Report { return Run(ctx, checks, false, describe) }}
}

// Report returns the last answer, or waits for the next. When ctx ends before it comes, the
// status is Failing. The report must not be changed.
func (s *Reporter) Report(ctx context.Context, draining bool) Report {
	r := s.round(ctx)
	report := Report{Status: Failing}
	select {
	case <-r.done:
		report = r.report
	case <-ctx.Done():
	}
	if draining {
		report.Status = Draining
	}
	return report
}

// round returns the round to wait for, and begins one if needed.
func (s *Reporter) round(ctx context.Context) *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.last; r != nil {
		select {
		case <-r.done:
			if time.Since(r.at) < s.every {
				return r
			}
		default:
			return r
		}
	}
	r := &round{done: make(chan struct{})}
	s.last = r
	// Others wait for it too, so whoever asked first cannot take it back. Checks end by themselves.
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer close(r.done)
		r.report = s.run(ctx)
		r.at = time.Now()
	}()
	return r
}
