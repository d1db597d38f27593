package jwtauth

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/settings"
)

// KeepConfig is what [Keys.Keep] needs. Zero fields mean the default.
type KeepConfig struct {
	// Rotation is how keys are rotated by age.
	Rotation Rotation
	// MaxAge is how long a key signs at most: so long before its end that the lead fits, a new one is made. Default 0: keys do not age.
	// The age of a key whose file does not say it, as a program of before made it, is that of the file; it gets a new one a day after Keep began
	// at the earliest: within that day one can go back to the program of before, which does not start while a key waits.
	MaxAge time.Duration
	// Every is the time between two looks at the file. Default 5 seconds.
	Every time.Duration
	// Record is told before keys are rotated by age, with the kid of the one that signs. If it returns an error they are not, for now; else end is called
	// with how it ended: "done", "not needed" if another program was first, or "failed". Default: nobody is told.
	Record func(ctx context.Context, signer string) (end func(outcome string), err error)
	// Log gets what cannot be read or written. Default: nothing.
	Log *slog.Logger
}

// goBack is how long the file of a program of before is left to it.
const goBack = 24 * time.Hour

// keepPause is the least time between two tries of what has failed.
const keepPause = time.Minute

// Keep keeps the keys until ctx ends: it takes up what other programs did to the file, rotates keys by age, and forgets the secrets of keys that sign
// no longer. A file that cannot be read is logged, and the keys stay as they are.
func (k *Keys) Keep(ctx context.Context, cfg KeepConfig) error {
	c := settings.Of("jwtauth: KeepConfig")
	settings.Default(c, "Every", &cfg.Every, 5*time.Second)
	settings.Default(c, "MaxAge", &cfg.MaxAge, 0)
	if cfg.Rotation.Lead < 0 || cfg.Rotation.Overlap < 0 {
		c.Refuse("Rotation", "has a negative time")
	}
	if err := c.Err(); err != nil {
		return err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Record == nil {
		cfg.Record = func(context.Context, string) (func(string), error) { return func(string) {}, nil }
	}
	ticker := time.NewTicker(cfg.Every)
	defer ticker.Stop()
	said, again, began := "", time.Time{}, k.now()
	for {
		now := k.now()
		err := k.Reload()
		if err == nil && !now.Before(again) {
			if err = k.tend(ctx, cfg, began); err != nil {
				again = now.Add(keepPause)
			}
		}
		switch {
		case ctx.Err() != nil:
		case err != nil && err.Error() != said:
			cfg.Log.ErrorContext(ctx, "the keys that sign tokens stay as they are", "error", err)
			said = err.Error()
		case err == nil && !now.Before(again):
			said = ""
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tend does what the time asks for.
func (k *Keys) tend(ctx context.Context, cfg KeepConfig, began time.Time) error {
	if err := k.tidy(); err != nil {
		return err
	}
	due := func(s keySet) bool {
		signer := s.signer(k.now())
		since := signer.signs
		if since.IsZero() {
			if k.now().Sub(began) < goBack {
				return false
			}
			since = s.since
		}
		return cfg.MaxAge > 0 && signer.id == s.newest().id && k.now().Sub(since) >= cfg.MaxAge-cfg.Rotation.Lead
	}
	current := k.current()
	if !due(current) {
		return nil
	}
	end, err := cfg.Record(ctx, current.signer(k.now()).id)
	if err != nil {
		return err
	}
	kid, made, err := k.rotate(cfg.Rotation, due)
	switch {
	case err != nil:
		end("failed")
	case !made:
		end("not needed")
	default:
		end("done")
		cfg.Log.InfoContext(ctx, "a new key will sign tokens, since the present one has its age", "kid", kid, "in", cfg.Rotation.Lead)
	}
	return err
}
