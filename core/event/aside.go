package event

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// Limits of a page of events.
const (
	defaultPage = 50
	maxPage     = 1000
)

var (
	// ErrNotAside says that no event with this ID is set aside.
	ErrNotAside = fault.New(fault.NotFound, "event_not_found", "no event with this id is set aside")
	// ErrFilterInvalid says that a filter cannot choose events.
	ErrFilterInvalid = fault.New(fault.Invalid, "event_filter_invalid", "the filter is not valid")
)

// Aside is an event that was set aside because it can never be published.
type Aside struct {
	Event Event
	// Reason says why it can never be published.
	Reason string
}

// Filter chooses events that were set aside.
type Filter struct {
	// Topic, Type and Key choose by equality; empty means any.
	Topic, Type, Key string
	// After is the ID of the last event of the page before; empty for the first page.
	// An event that is gone meanwhile still marks its place.
	After string
	// Limit is the most events to return, 1 to 1,000.
	Limit int
}

// CheckLimit returns ErrFilterInvalid if the limit is not 1 to 1,000. Stores call it first.
func (f Filter) CheckLimit() error {
	if f.Limit < 1 || f.Limit > maxPage {
		return ErrFilterInvalid.Detail("the limit is %d, and may be 1 to %d", f.Limit, maxPage)
	}
	return nil
}

// Asides lets a person look at the events that the relay has set aside, and decide about them.
//
// It may be called from many goroutines.
// Changing what was returned changes nothing stored.
type Asides interface {
	// List returns events that are set aside and that f chooses, ascending by ID.
	// List returns at most f.Limit events.
	// List leaves out their Data, which may be large.
	// List returns ErrFilterInvalid if f.Limit is not 1 to 1,000.
	List(ctx context.Context, f Filter) ([]Aside, error)
	// Get returns an event that is set aside, with every field as it was committed, and the last reason.
	// Get returns ErrNotAside if no event with this ID is set aside.
	Get(ctx context.Context, id string) (Aside, error)
	// Replay makes an event that is set aside pending again, with every field as it was committed, behind those that are pending.
	// It is set aside no longer, until the relay sets it aside again.
	// Replay returns ErrNotAside, and changes nothing, if no event with this ID is set aside.
	Replay(ctx context.Context, id string) error
	// Discard removes an event that is set aside.
	// Discard returns ErrNotAside, and changes nothing, if no event with this ID is set aside.
	Discard(ctx context.Context, id string) error
}

// AsideConfig is what an [AsideService] needs.
type AsideConfig struct {
	Asides Asides // required
	// Replayed, if set, is called after events were replayed. It must not block.
	Replayed func()
}

// AsideService is a person's view of the events that can never be published. Its methods may be called from many
// goroutines.
//
// An event that is replayed comes after those with its topic and key that were published meanwhile: whoever handles it has to
// bear that. If it cannot be published this time either, it is set aside again.
type AsideService struct{ cfg AsideConfig }

// NewAsideService checks the configuration, all of it at once.
func NewAsideService(cfg AsideConfig) (*AsideService, error) {
	c := settings.Of("event: AsideConfig")
	c.Require("Asides", cfg.Asides == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Replayed == nil {
		cfg.Replayed = func() {}
	}
	return &AsideService{cfg: cfg}, nil
}

// List returns a page of events without their data; f.Limit 0 means 50, more than 1,000 is refused.
func (s *AsideService) List(ctx context.Context, f Filter) ([]Aside, error) {
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	events, err := s.cfg.Asides.List(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("event: listing what is set aside: %w", err)
	}
	return events, nil
}

// Get returns an event with its data, or ErrNotAside.
func (s *AsideService) Get(ctx context.Context, id string) (Aside, error) {
	a, err := s.cfg.Asides.Get(ctx, id)
	if err != nil {
		return Aside{}, fmt.Errorf("event: reading what is set aside: %w", err)
	}
	return a, nil
}

// Replay gives an event to the relay again. One that is not set aside is ErrNotAside.
func (s *AsideService) Replay(ctx context.Context, id string) error {
	if err := s.cfg.Asides.Replay(ctx, id); err != nil {
		return fmt.Errorf("event: replaying event %s: %w", id, err)
	}
	s.cfg.Replayed()
	return nil
}

// ReplayAll replays every event that f chooses, ascending by ID, or with dryRun only finds them. f.Limit bounds how many;
// 0 means all. It returns their IDs; on an error, those replayed so far. An event that somebody else replayed or discarded
// meanwhile is left out. Each is replayed at most once, also if the relay sets it aside again meanwhile.
func (s *AsideService) ReplayAll(ctx context.Context, f Filter, dryRun bool) ([]string, error) {
	if f.Limit != 0 {
		if err := f.CheckLimit(); err != nil {
			return nil, err
		}
	}
	ids := []string{}
	defer func() {
		if len(ids) > 0 && !dryRun {
			s.cfg.Replayed()
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
		events, err := s.List(ctx, f)
		if err != nil {
			return ids, err
		}
		for _, a := range events {
			f.After = a.Event.ID
			if !dryRun {
				err := s.cfg.Asides.Replay(ctx, a.Event.ID)
				if errors.Is(err, ErrNotAside) {
					continue
				}
				if err != nil {
					return ids, fmt.Errorf("event: replaying event %s: %w", a.Event.ID, err)
				}
			}
			ids = append(ids, a.Event.ID)
		}
		if len(events) < f.Limit {
			return ids, nil
		}
	}
}

// Discard removes an event for good. One that is not set aside is ErrNotAside.
func (s *AsideService) Discard(ctx context.Context, id string) error {
	if err := s.cfg.Asides.Discard(ctx, id); err != nil {
		return fmt.Errorf("event: discarding event %s: %w", id, err)
	}
	return nil
}
