package chat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// JanitorConfig is what a [Janitor] needs. Zero fields without "required" mean the default.
type JanitorConfig struct {
	// Service has the rooms, and a Config.Pruner. Required.
	Service *Service
	// Retention is how long messages are kept in rooms that do not say it themselves: see [CheckRetention]. Default 0: for ever.
	Retention time.Duration
	// Every is the least time between the beginnings of two rounds through all rooms; the first comes at once. Default 1 minute.
	Every time.Duration
	// Batch is the most messages that are removed together: so long others may have to wait who send in the room. Default 200.
	Batch int
	// Rest is how many times as long as it works the janitor does nothing then, so that a tenth of one connection to the store is the most
	// that it takes. Default 9.
	Rest int
	// Timeout bounds one call of the store. Default 30 seconds.
	Timeout time.Duration
	// Now is the clock that the age of messages is told by. Default time.Now.
	Now func() time.Time
	// Log gets what was removed and what failed. Default: nothing.
	Log *slog.Logger
}

// Janitor removes rooms that were deleted, and messages that are older than they are to be kept, in rooms where people talk and in quiet ones. Several at once, in one process or in
// many, do no harm.
type Janitor struct {
	cfg  JanitorConfig
	debt time.Duration // how long it has to rest
}

// NewJanitor checks the configuration, all of it at once.
func NewJanitor(cfg JanitorConfig) (*Janitor, error) {
	c := settings.Of("chat: JanitorConfig")
	c.Require("Service", cfg.Service == nil)
	if cfg.Service != nil {
		c.Require("Service's Config.Pruner", cfg.Service.cfg.Pruner == nil)
	}
	if cfg.Retention < 0 {
		c.Refuse("Retention", "is negative")
	} else if err := CheckRetention(cfg.Retention); err != nil {
		c.Fault("Retention", err)
	}
	settings.Default(c, "Every", &cfg.Every, time.Minute)
	settings.Default(c, "Batch", &cfg.Batch, 200)
	settings.Default(c, "Rest", &cfg.Rest, 9)
	settings.Default(c, "Timeout", &cfg.Timeout, 30*time.Second)
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

const (
	// maxBatches is how many batches of one room are removed before other rooms have their turn.
	maxBatches = 20
	// leastRest is below what the janitor does not stop for a rest, but rests later.
	leastRest = 5 * time.Millisecond
	// dropAfter is how long after its deletion a room is removed: all nodes have heard of it by then, or asked the store.
	dropAfter = 2 * time.Minute
)

// Run goes through all rooms again and again until ctx ends, and returns nil. A room that fails is logged, and comes again in the next round; a store that does
// not answer ends the round. It may be called once.
func (j *Janitor) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		began := time.Now()
		more, err := j.round(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			j.cfg.Log.Warn("old messages could not be removed", "error", err)
		case more:
			continue
		}
		_ = pause(ctx, j.cfg.Every-time.Since(began))
	}
	return nil
}

// round goes through all rooms once, and reports whether there is more to do in one of them.
func (j *Janitor) round(ctx context.Context) (more bool, err error) {
	for after := ""; ; {
		var rooms []Room
		err := j.work(ctx, func(ctx context.Context) (err error) {
			rooms, err = j.cfg.Service.cfg.Rooms.List(ctx, after, walkRooms)
			return err
		})
		if err != nil {
			return more, fmt.Errorf("read rooms: %w", err)
		}
		for _, r := range rooms {
			left, err := j.see(ctx, r)
			more = more || left
			switch {
			case err == nil:
			case ctx.Err() != nil || errors.Is(err, fault.Unavailable):
				return more, err
			default:
				j.cfg.Log.Error("old messages could not be removed", "room", r.Name, "error", err)
			}
		}
		if len(rooms) < walkRooms {
			return more, nil
		}
		after = rooms[len(rooms)-1].Name
	}
}

// see does what is to be done in a room, and reports whether there is more.
func (j *Janitor) see(ctx context.Context, r Room) (more bool, err error) {
	switch {
	case r.DeletedAt.IsZero():
		return j.prune(ctx, r.Name, cmp.Or(r.Retention, j.cfg.Retention))
	case j.cfg.Now().Before(r.DeletedAt.Add(dropAfter)):
		return false, nil
	}
	more = true
	for n := 0; more && n < maxBatches; n++ {
		err = j.work(ctx, func(ctx context.Context) (err error) {
			more, err = j.cfg.Service.Drop(ctx, r.Name, j.cfg.Batch)
			return err
		})
		if errors.Is(err, ErrNotYet) {
			return false, nil // it comes again in the next round
		}
		if err != nil {
			return false, err
		}
	}
	if !more {
		j.cfg.Log.Debug("a deleted room was removed") // nothing of it is left, its name neither
	}
	return more, nil
}

// prune removes what is too old in a room, and reports whether there is more of it.
func (j *Janitor) prune(ctx context.Context, room string, retention time.Duration) (more bool, err error) {
	if retention == 0 {
		return false, nil
	}
	total := 0
	defer func() {
		if total > 0 {
			j.cfg.Log.Debug("old messages were removed", "room", room, "messages", total)
		}
	}()
	for range maxBatches {
		removed := 0
		err := j.work(ctx, func(ctx context.Context) (err error) {
			removed, err = j.cfg.Service.Prune(ctx, room, j.cfg.Now().Add(-retention), j.cfg.Batch)
			return err
		})
		total += removed
		if err != nil || removed < j.cfg.Batch {
			return false, err
		}
	}
	return true, nil
}

// work does something that takes time of the store, and rests.
func (j *Janitor) work(ctx context.Context, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
	defer cancel()
	began := time.Now()
	err := do(bounded)
	if j.debt += time.Duration(j.cfg.Rest) * time.Since(began); j.debt < leastRest {
		return err
	}
	rest := j.debt
	j.debt = 0
	return errors.Join(err, pause(ctx, rest))
}
