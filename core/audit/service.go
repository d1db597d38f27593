package audit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// Config is what a [Service] needs. Zero fields without "required" mean the default.
type Config struct {
	Log Log // required
	// Retention is how long entries are kept. Default 365 days.
	Retention time.Duration
	// Every is the time between two looks for entries that are older; the first comes at once. Default 1 hour.
	Every time.Duration
	// Timeout bounds each call of Log. Default 5 seconds.
	Timeout time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers that ascend with time. Default [event.NewID].
	NewID func() string
	// Logger gets what could not be stored or removed. Default: nothing.
	Logger *slog.Logger
}

// Service records. Its methods may be called from many goroutines.
type Service struct {
	cfg Config

	mu   sync.Mutex
	last string // the ID given last
}

// maxIDs bounds how many identifiers are thrown away since they do not ascend: those of one millisecond are in no order.
const maxIDs = 100_000

// nextID returns an identifier after those before, so that entries of this process are listed in the order in which their actions began.
func (s *Service) nextID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.cfg.NewID()
	for n := 0; id <= s.last && n < maxIDs; n++ {
		id = s.cfg.NewID()
	}
	s.last = max(id, s.last)
	return id
}

// New checks the configuration, all of it at once.
func New(cfg Config) (*Service, error) {
	c := settings.Of("audit: Config")
	c.Require("Log", cfg.Log == nil)
	settings.Default(c, "Retention", &cfg.Retention, 365*24*time.Hour)
	settings.Default(c, "Every", &cfg.Every, time.Hour)
	settings.Default(c, "Timeout", &cfg.Timeout, 5*time.Second)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg}, nil
}

// Begin records an action that is about to be taken: ID and At of e are set. It returns what to call once when it has ended, with how. If it cannot
// be recorded, Begin returns ErrUnrecorded, and the action must not be taken. An outcome that cannot be stored is logged: the entry stays without.
func (s *Service) Begin(ctx context.Context, e Entry) (end func(outcome string), err error) {
	e.ID, e.At, e.Outcome = s.nextID(), s.cfg.Now().UTC().Truncate(time.Microsecond), ""
	for _, f := range []struct {
		text *string
		most int
	}{{&e.Actor, MaxActor}, {&e.Action, MaxAction}, {&e.Target, MaxTarget}, {&e.Detail, MaxDetail}, {&e.Network, MaxNetwork}} {
		*f.text = fit(*f.text, f.most)
	}
	bounded, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.cfg.Log.Append(bounded, e); err != nil {
		s.cfg.Logger.Error("an action of an administrator was refused: it cannot be recorded", "action", e.Action, "error", err)
		return nil, ErrUnrecorded.Because(err)
	}
	return func(outcome string) {
		// Whoever asked may be gone, and what was done is to be told all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
		defer cancel()
		if err := s.cfg.Log.Settle(ctx, e.ID, fit(outcome, MaxOutcome)); err != nil {
			s.cfg.Logger.Warn("how an action of an administrator ended could not be recorded", "entry", e.ID, "action", e.Action, "outcome", outcome, "error", err)
		}
	}, nil
}

// fit makes a text one that every store keeps.
func fit(text string, most int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most])
	}
	return text
}

// List returns a page of entries, newest first, and whether there are more.
func (s *Service) List(ctx context.Context, before string, limit int) (page []Entry, more bool, err error) {
	page, err = s.cfg.Log.List(ctx, before, limit+1)
	if err != nil {
		return nil, false, failed("listing entries", err)
	}
	if len(page) > limit {
		return page[:limit], true, nil
	}
	return page, false, nil
}

// Run removes entries that are older than Config.Retention until ctx ends, and returns nil.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.cfg.Every)
	defer ticker.Stop()
	for {
		s.sweep(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) sweep(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	n, err := s.cfg.Log.DeleteExpired(bounded, s.cfg.Now().UTC().Truncate(time.Microsecond).Add(-s.cfg.Retention))
	switch {
	case err != nil && ctx.Err() == nil:
		s.cfg.Logger.Warn("old entries of the audit log could not be removed", "error", err)
	case n > 0:
		s.cfg.Logger.Info("old entries of the audit log were removed", "removed", n)
	}
}

// failed says that the log failed: an error of kind Unavailable, whatever the log called it.
func failed(doing string, err error) error {
	err = fmt.Errorf("audit: %s: %w", doing, err)
	if fault.KindOf(err) == fault.Unavailable {
		return err
	}
	return fault.Wrap(fault.Unavailable, err)
}
