package mail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// Limits of a page of jobs.
const (
	defaultPage = 50
	maxPage     = 1000
)

// ErrFilterInvalid says that a filter cannot choose jobs.
var ErrFilterInvalid = fault.New(fault.Invalid, "mail_filter_invalid", "the filter is not valid")

// DeadLetterConfig is what a [DeadLetterService] needs.
type DeadLetterConfig struct {
	Letters DeadLetters // required
	Stats   Stats       // required
	// Refresh, if set, returns new data for a job that is replayed, for example with a fresh
	// code where the old one has expired, or nil to keep what it has.
	Refresh func(context.Context, Job) ([]byte, error)
	// Requeued, if set, is called after jobs were requeued. It must not block.
	Requeued func()
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// DeadLetterService is a person's view of the queue. Its methods may be called from many
// goroutines.
type DeadLetterService struct{ cfg DeadLetterConfig }

// NewDeadLetterService checks the configuration, all of it at once.
func NewDeadLetterService(cfg DeadLetterConfig) (*DeadLetterService, error) {
	c := settings.Of("mail: DeadLetterConfig")
	c.Require("Letters", cfg.Letters == nil)
	c.Require("Stats", cfg.Stats == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Refresh == nil {
		cfg.Refresh = func(context.Context, Job) ([]byte, error) { return nil, nil }
	}
	if cfg.Requeued == nil {
		cfg.Requeued = func() {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &DeadLetterService{cfg: cfg}, nil
}

// List returns a page of jobs; f.Limit 0 means 50, more than 1,000 is refused.
func (s *DeadLetterService) List(ctx context.Context, f Filter) ([]Job, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	jobs, err := s.cfg.Letters.List(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("mail: listing jobs: %w", err)
	}
	return jobs, nil
}

// Get returns a job, or ErrJobNotFound.
func (s *DeadLetterService) Get(ctx context.Context, id string) (Job, error) {
	j, err := s.cfg.Letters.Get(ctx, id)
	if err != nil {
		return Job{}, fmt.Errorf("mail: reading a job: %w", err)
	}
	return j, nil
}

// Forget removes the jobs to a recipient, in whatever state, and returns how many. A mail that is on its way goes out.
func (s *DeadLetterService) Forget(ctx context.Context, to user.Email) (int, error) {
	n, err := s.cfg.Letters.DeleteTo(ctx, to)
	if err != nil {
		return n, fmt.Errorf("mail: forgetting mails to a user: %w", err)
	}
	return n, nil
}

// Replay makes a dead letter ready again, with its full attempts. A job that is in another
// state is ErrNotDead, and one that is not there ErrJobNotFound.
func (s *DeadLetterService) Replay(ctx context.Context, id string) error {
	j, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := s.replay(ctx, j); err != nil {
		return err
	}
	s.cfg.Requeued()
	return nil
}

func (s *DeadLetterService) replay(ctx context.Context, j Job) error {
	if j.State != Dead {
		return ErrNotDead
	}
	data, err := s.cfg.Refresh(ctx, j)
	if err != nil {
		return fmt.Errorf("mail: renewing the data of job %s: %w", j.ID, err)
	}
	if err := s.cfg.Letters.Requeue(ctx, j.ID, microseconds(s.cfg.Now()), data); err != nil {
		return fmt.Errorf("mail: requeueing job %s: %w", j.ID, err)
	}
	return nil
}

// ReplayAll replays every dead letter that f chooses (its State is ignored), or with dryRun
// only finds them. f.Limit bounds how many; 0 means all. It returns the jobs' IDs; on an error,
// those replayed so far. A job that somebody else replayed or discarded meanwhile is left out.
func (s *DeadLetterService) ReplayAll(ctx context.Context, f Filter, dryRun bool) ([]string, error) {
	f.State = Dead
	if err := f.check(); err != nil {
		return nil, err
	}
	ids := []string{}
	defer func() {
		if len(ids) > 0 && !dryRun {
			s.cfg.Requeued()
		}
	}()
	most := f.Limit
	for {
		f.Limit = maxPage
		if most > 0 {
			f.Limit = min(maxPage, most-len(ids))
		}
		if f.Limit == 0 {
			return ids, nil
		}
		jobs, err := s.cfg.Letters.List(ctx, f)
		if err != nil {
			return ids, fmt.Errorf("mail: listing jobs: %w", err)
		}
		for _, j := range jobs {
			f.After = j.ID
			if !dryRun {
				err := s.replay(ctx, j)
				if errors.Is(err, ErrNotDead) || errors.Is(err, ErrJobNotFound) {
					continue
				}
				if err != nil {
					return ids, err
				}
			}
			ids = append(ids, j.ID)
		}
		if len(jobs) < f.Limit {
			return ids, nil
		}
	}
}

// Discard removes a dead letter for good. A job that is in another state is ErrNotDead, and one
// that is not there ErrJobNotFound.
func (s *DeadLetterService) Discard(ctx context.Context, id string) error {
	if err := s.cfg.Letters.Discard(ctx, id); err != nil {
		return fmt.Errorf("mail: discarding a job: %w", err)
	}
	return nil
}

// Stats counts jobs by state; every state is in it.
func (s *DeadLetterService) Stats(ctx context.Context) (map[State]int, error) {
	counted, err := s.cfg.Stats.Stats(ctx)
	if err != nil {
		return nil, fmt.Errorf("mail: counting jobs: %w", err)
	}
	all := map[State]int{Ready: 0, Running: 0, Sent: 0, Dead: 0}
	for state, n := range counted {
		all[state] = n
	}
	return all, nil
}

func (f Filter) check() error {
	switch f.State {
	case "", Ready, Running, Sent, Dead:
	default:
		return ErrFilterInvalid.Detail("the state is none of ready, running, sent, dead")
	}
	if f.Limit < 0 || f.Limit > maxPage {
		return ErrFilterInvalid.Detail("the limit is not between 1 and %d", maxPage)
	}
	return nil
}
