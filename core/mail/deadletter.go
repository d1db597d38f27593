package mail

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// ErrReplayedTooOften says that a dead letter was replayed so often that it is most likely to die again.
var ErrReplayedTooOften = fault.New(fault.Conflict, "job_replayed_too_often", "it was replayed too often; it can be forced")

// ErrNotNeeded says that nobody needs a mail any more, and why, for example since the address that it would prove is proved.
var ErrNotNeeded = fault.New(fault.Conflict, "mail_not_needed", "nobody needs the mail any more")

// DeadLetterConfig is what a [DeadLetterService] needs.
type DeadLetterConfig struct {
	Letters DeadLetters // required
	Stats   Stats       // required
	// Refresh, if set, returns new data for a job that is replayed, for example with a fresh
	// code where the old one has expired, or nil to keep what it has. With ErrNotNeeded the job stays a dead letter.
	Refresh func(context.Context, Job) ([]byte, error)
	// MaxReplays is how often a job can be replayed before a replay has to be forced, so that what dies each time goes round for ever by
	// nobody's mistake. Default 5.
	MaxReplays int
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
	settings.Default(c, "MaxReplays", &cfg.MaxReplays, 5)
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
// state is ErrNotDead, and one that is not there ErrJobNotFound. One that was replayed MaxReplays times
// is ErrReplayedTooOften unless force is set. One that nobody needs any more is ErrNotNeeded with the reason, and stays a dead letter, also by force.
func (s *DeadLetterService) Replay(ctx context.Context, id string, force bool) error {
	j, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if j.State == Dead && s.worn(j) && !force {
		return ErrReplayedTooOften.Detail("it was replayed %d times", j.Replays)
	}
	if err := s.replay(ctx, j); err != nil {
		return err
	}
	s.cfg.Requeued()
	return nil
}

// worn reports whether a job was replayed so often that another replay is most likely in vain.
func (s *DeadLetterService) worn(j Job) bool { return j.Replays >= s.cfg.MaxReplays }

func (s *DeadLetterService) replay(ctx context.Context, j Job) error {
	if j.State != Dead {
		return ErrNotDead
	}
	data, err := s.cfg.Refresh(ctx, j)
	if errors.Is(err, ErrNotNeeded) {
		return err
	}
	if err != nil {
		return fmt.Errorf("mail: renewing the data of job %s: %w", j.ID, err)
	}
	if err := s.cfg.Letters.Requeue(ctx, j.ID, microseconds(s.cfg.Now()), data); err != nil {
		return fmt.Errorf("mail: requeueing job %s: %w", j.ID, err)
	}
	return nil
}

// Choice is which dead letters are replayed or discarded together, and how.
type Choice struct {
	// To and Kind choose by equality; empty means any.
	To   user.Email
	Kind Kind
	// Error chooses those whose last error contains it, in whatever letter case; empty means any.
	Error string
	// Limit bounds how many, up to 1,000; 0 means all.
	Limit int
	// DryRun only finds them.
	DryRun bool
	// Force replays also those that were replayed too often.
	Force bool
}

// Replayed is what a replay of many has done, or would do.
type Replayed struct {
	// Jobs are the IDs of those that are replayed.
	Jobs []string
	// Refused are the IDs of those that were replayed too often before, and are left alone.
	Refused []string
	// NotNeeded are the IDs of those that nobody needs any more, and that are left alone. A dry run does not find them.
	NotNeeded []string
}

// ReplayAll replays every dead letter that c chooses, or with c.DryRun only finds them. What was
// replayed MaxReplays times is refused unless c.Force is set, and does not count towards c.Limit. On an error, it returns what was
// replayed so far. A job that somebody else replayed or discarded meanwhile is left out.
func (s *DeadLetterService) ReplayAll(ctx context.Context, c Choice) (Replayed, error) {
	done := Replayed{Jobs: []string{}, Refused: []string{}, NotNeeded: []string{}}
	defer func() {
		if len(done.Jobs) > 0 && !c.DryRun {
			s.cfg.Requeued()
		}
	}()
	var err error
	done.Jobs, err = s.each(ctx, c, func(j Job) (bool, error) {
		switch {
		case s.worn(j) && !c.Force:
			done.Refused = append(done.Refused, j.ID)
			return false, nil
		case c.DryRun:
			return true, nil
		}
		err := s.replay(ctx, j)
		if errors.Is(err, ErrNotNeeded) {
			done.NotNeeded = append(done.NotNeeded, j.ID)
			return false, nil
		}
		return true, err
	})
	return done, err
}

// DiscardAll removes every dead letter that c chooses for good, or with c.DryRun only finds them. It returns the jobs' IDs; on an
// error, those removed so far. A job that somebody else replayed or discarded meanwhile is left out.
func (s *DeadLetterService) DiscardAll(ctx context.Context, c Choice) ([]string, error) {
	return s.each(ctx, c, func(j Job) (bool, error) {
		if c.DryRun {
			return true, nil
		}
		return true, s.Discard(ctx, j.ID)
	})
}

// each does something with every dead letter that c chooses, ascending by ID, and returns the IDs of those with which it was done.
func (s *DeadLetterService) each(ctx context.Context, c Choice, do func(Job) (bool, error)) ([]string, error) {
	ids := []string{}
	f := Filter{State: Dead, To: c.To, Limit: c.Limit}
	if err := f.check(); err != nil {
		return ids, err
	}
	part := strings.ToLower(c.Error)
	f.Limit = maxPage
	for {
		jobs, err := s.cfg.Letters.List(ctx, f)
		if err != nil {
			return ids, fmt.Errorf("mail: listing jobs: %w", err)
		}
		for _, j := range jobs {
			f.After = j.ID
			if c.Kind != "" && j.Kind != c.Kind || !strings.Contains(strings.ToLower(j.LastError), part) {
				continue
			}
			did, err := do(j)
			if errors.Is(err, ErrNotDead) || errors.Is(err, ErrJobNotFound) {
				continue
			}
			if err != nil {
				return ids, err
			}
			if did {
				ids = append(ids, j.ID)
			}
			if c.Limit > 0 && len(ids) == c.Limit {
				return ids, nil
			}
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
