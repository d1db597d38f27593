package auth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/settings"
)

// JanitorConfig is what a [Janitor] needs.
type JanitorConfig struct {
	// Sweepers are the stores to clean: sessions, codes, nonces. Required.
	Sweepers []Sweeper
	// Every is the time between rounds; the first comes at once. Default 1 hour.
	Every time.Duration
	// Keep is how long expired things stay, so that an expired code is told from one that
	// never was. Default 24 hours.
	Keep time.Duration
	// Timeout bounds one sweep of one store. Default 1 minute.
	Timeout time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Log gets what was removed and what failed. Default: nothing.
	Log *slog.Logger
}

// Janitor removes what is expired from stores that do not do it themselves.
type Janitor struct{ cfg JanitorConfig }

// NewJanitor checks the configuration, all of it at once.
func NewJanitor(cfg JanitorConfig) (*Janitor, error) {
	c := settings.Of("auth: JanitorConfig")
	c.Require("Sweepers", len(cfg.Sweepers) == 0)
	for i, sweeper := range cfg.Sweepers {
		c.Require(fmt.Sprintf("Sweepers[%d]", i), sweeper == nil)
	}
	settings.Default(c, "Every", &cfg.Every, time.Hour)
	settings.Default(c, "Keep", &cfg.Keep, 24*time.Hour)
	settings.Default(c, "Timeout", &cfg.Timeout, time.Minute)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Janitor{cfg: cfg}, nil
}

// Run cleans every store once in each round until ctx ends, and returns nil. A store that
// fails is logged and cleaned in the next round; it does not keep the others waiting.
func (j *Janitor) Run(ctx context.Context) error {
	ticker := time.NewTicker(j.cfg.Every)
	defer ticker.Stop()
	for {
		for _, sweeper := range j.cfg.Sweepers {
			j.sweep(ctx, sweeper)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (j *Janitor) sweep(ctx context.Context, sweeper Sweeper) {
	if ctx.Err() != nil {
		return
	}
	sweeping, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
	defer cancel()
	before := j.cfg.Now().UTC().Truncate(time.Microsecond).Add(-j.cfg.Keep)
	removed, err := sweeper.DeleteExpired(sweeping, before)
	switch {
	case err != nil && ctx.Err() == nil:
		j.cfg.Log.Warn("a store could not be cleaned", "store", fmt.Sprintf("%T", sweeper), "error", err)
	case removed > 0:
		j.cfg.Log.Debug("a store was cleaned", "store", fmt.Sprintf("%T", sweeper), "removed", removed)
	}
}
