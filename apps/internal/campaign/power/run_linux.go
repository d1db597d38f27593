package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
	"github.com/parley-chat/parley/testkit/local"
)

// subject is what a campaign is about: a store with those who use it. Its methods are called by one goroutine.
type subject interface {
	// begin sets everything up on the empty file system, and starts it. Nothing of that is cut.
	begin(ctx context.Context) error
	// work lets the clients begin.
	work(ctx context.Context) error
	// kill ends what stands on the file system, and whatever else the same power feeds.
	kill(random *rand.Rand) error
	// start starts it again, and returns when it serves.
	start(ctx context.Context) error
	// acknowledged is how much was acknowledged up to now.
	acknowledged() int
	// noted is told of a cut, and when it is over.
	noted(cut int, over bool) error
	// finish lets the clients end, and compares.
	finish(ctx context.Context, r *Result) error
	// close ends everything.
	close() error
}

// campaign is one run.
type campaign struct {
	Config
	folder string // everything is below it
	disk   *forgetfs.FS
	random *rand.Rand
	result Result
}

// Limits of what is waited for.
const (
	startPatience = 2 * time.Minute
	endPatience   = 2 * time.Minute
)

// Run runs the campaign that c is for until it is over or ctx ends. Without [forgetfs] on this system its error is [forgetfs.ErrUnavailable]. Whatever it
// has started, mounted and written is gone when it returns, except Config.Journal. A broken promise is no error of it: see [Result.Err].
func Run(ctx context.Context, c Config) (r Result, err error) {
	if c, err = c.withDefaults(); err != nil {
		return r, err
	}
	if err := forgetfs.Available(); err != nil {
		return r, err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	began := time.Now()
	folder, err := os.MkdirTemp("", "parley-power-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	run := &campaign{Config: c, folder: folder, random: rand.New(rand.NewPCG(c.Seed, 1))}
	// Servers that refuse to run as the superuser have to get there.
	if err := os.Chmod(folder, 0o711); err != nil { //nolint:gosec // see above
		return r, err
	}
	at := filepath.Join(folder, "disk")
	if err := os.Mkdir(at, 0o755); err != nil { //nolint:gosec // the mount hides it
		return r, err
	}
	run.disk, err = forgetfs.Mount(at, forgetfs.Config{Seed: c.Seed, SyncTime: c.SyncTime})
	if err != nil {
		return r, err
	}
	// Before the folder goes, or what is mounted in it would be removed.
	defer func() { err = errors.Join(err, run.disk.Close()) }()
	run.result = Result{
		Store: c.Store, Setting: c.Setting, Promised: c.setting().promised, Seed: c.Seed, Survival: c.Survival,
	}
	if err := run.all(ctx); err != nil {
		return run.result, fmt.Errorf("power: seed %d: %w", c.Seed, err)
	}
	run.result.Syncs = run.disk.Stats().Syncs
	run.result.Seconds = time.Since(began).Seconds()
	run.result.Date = time.Now().UTC().Format("2006-01-02")
	return run.result, nil
}

// all is the campaign itself.
func (c *campaign) all(ctx context.Context) (err error) {
	if c.Store == "sqlite" {
		if err := c.firstStarts(ctx, min(20, c.Cuts/10)); err != nil {
			return fmt.Errorf("a cut in the first start: %w", err)
		}
	}
	s, err := c.subject(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("the start: %w", err)
	}
	if !c.setting().promised {
		// Servers write by the second what they need not write at once, and the accounts are to be there.
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
	}
	if err := c.disk.Sync(); err != nil {
		return err
	}
	c.Say(fmt.Sprintf("%s with %s serves; seed %d", c.Store, c.Setting, c.Seed))
	if err := s.work(ctx); err != nil {
		return err
	}
	said := time.Now()
	for c.result.Cuts < c.Cuts {
		// Sometimes while it still recovers from the last cut, or just after.
		least, most := 150*time.Millisecond, time.Second
		if c.random.IntN(6) == 0 {
			least = 0
		}
		if err := pause(ctx, least+time.Duration(c.random.Int64N(int64(most)))); err != nil {
			return err
		}
		if err := s.noted(c.result.Cuts+1, false); err != nil {
			return err
		}
		if err := c.cut(s.kill); err != nil {
			return err
		}
		if err := s.start(ctx); err != nil {
			return fmt.Errorf("after cut %d: %w", c.result.Cuts, err)
		}
		if err := s.noted(c.result.Cuts, true); err != nil {
			return err
		}
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			c.Say(fmt.Sprintf("cut %d of %d: %d acknowledged", c.result.Cuts, c.Cuts, s.acknowledged()))
		}
	}
	c.Say("the clients end, and everything is compared")
	return s.finish(ctx, &c.result)
}

// cut cuts the power, ends what it feeds, and brings it back.
func (c *campaign) cut(kill func(*rand.Rand) error) error {
	among := survivals[c.Survival]
	// Held, nobody learns of the cut before it is killed, as on a machine that is off.
	lost, err := c.disk.Cut(forgetfs.Cut{Survival: among[c.random.IntN(len(among))], Hold: true})
	if err != nil {
		return err
	}
	c.result.Cuts++
	c.result.Pages += lost.Pages
	c.result.PagesKept += lost.PagesKept
	c.result.Changes += lost.Changes
	c.result.ChangesKept += lost.ChangesKept
	// Also after a failure, or what is killed in the end never ends.
	return errors.Join(kill(c.random), c.disk.Restore())
}

// subject returns what the campaign is about.
func (c *campaign) subject(ctx context.Context) (subject, error) {
	switch c.Store {
	case "redis":
		return newRedis(c)
	case "kafka":
		return newKafka(ctx, c)
	}
	return newChat(c)
}

// start starts p and waits until it serves.
func start(ctx context.Context, p *local.Process) error {
	if err := p.Start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	return nil
}

// again starts what was killed, when it has ended.
func again(ctx context.Context, p *local.Process) error {
	ending, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := p.AwaitExit(ending); err != nil {
		return err
	}
	return start(ctx, p)
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
