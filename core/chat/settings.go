package chat

import (
	"context"
	"fmt"
	"sync"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// UserSettings are what a user has set for themselves. The zero value is what holds until they set something.
type UserSettings struct {
	// HidesRead says that nobody else is told how far the user has read. The user is told how far others have read all the same.
	HidesRead bool
}

// Settings keeps what users have set for themselves.
//
// It may be called from many goroutines.
// Two users are the same only if they have the same bytes.
type Settings interface {
	// Put stores the settings of a user durably, in the place of those before.
	Put(ctx context.Context, id user.ID, s UserSettings) error
	// Of returns the settings of these users that are stored. A user without any is not among them.
	Of(ctx context.Context, ids ...user.ID) (map[user.ID]UserSettings, error)
	// Remove removes the settings of a user durably. To remove what is not there is no error.
	Remove(ctx context.Context, id user.ID) error
}

// ErrNoSettings says that there is no Config.Settings.
var ErrNoSettings = fault.New(fault.Invalid, "settings_not_supported", "this server keeps no settings of users")

// SettingsNote is a note that a user changes their settings, as [RoleNote] is of their rights. Its room is no room's name.
const SettingsNote RestrictionKind = "settings"

// everyRoom stands for a room in a SettingsNote, and in a LeaveNote. CheckRoom refuses the name to rooms.
const everyRoom = " settings"

// hiding is which users hide how far they have read, as far as this process knows.
type hiding struct {
	mu     sync.Mutex
	hides  map[user.ID]bool // emptied when it has maxKnown
	forgot uint64           // how often something was forgotten
}

// KeepsSettings reports whether there is a Config.Settings.
func (s *Service) KeepsSettings() bool { return s.cfg.Settings != nil }

// UserSettings returns what a user has set. It reads from the store. It returns ErrNoSettings, or an error of kind Unavailable.
func (s *Service) UserSettings(ctx context.Context, id user.ID) (UserSettings, error) {
	if s.cfg.Settings == nil {
		return UserSettings{}, ErrNoSettings
	}
	all, err := s.cfg.Settings.Of(ctx, id)
	if err != nil {
		return UserSettings{}, fmt.Errorf("read settings: %w", err)
	}
	return all[id], nil
}

// SetUserSettings stores what a user sets, durably. It holds on every node that hears of it at once, and on others from when they next look into the store.
// [Service.OnSettings] hears of it. It returns ErrNoSettings, or an error of kind Unavailable: then the outcome is unknown, and to do it again is harmless.
func (s *Service) SetUserSettings(ctx context.Context, id user.ID, set UserSettings) error {
	if s.cfg.Settings == nil {
		return ErrNoSettings
	}
	return s.changeSettings(ctx, id, func() error { return s.cfg.Settings.Put(ctx, id, set) })
}

func (s *Service) changeSettings(ctx context.Context, id user.ID, store func() error) error {
	if err := s.note(ctx, everyRoom, SettingsNote, id, id); err != nil {
		return err
	}
	err := store()
	s.ForgetSettings(id) // also after an error: it may be stored
	if err != nil {
		return fmt.Errorf("store settings: %w", err)
	}
	tellAll(&s.heardSettings, id)
	return nil
}

// OnSettings makes f hear of every user whose settings were changed here, after they were stored. f must be quick. A hub registers itself. OnSettings may be
// called from many goroutines.
func (s *Service) OnSettings(f func(user.ID)) { listen(s, &s.heardSettings, f) }

// ForgetSettings makes the next mark of a user look what they have set: it may have been changed on another node. A hub calls it.
func (s *Service) ForgetSettings(id user.ID) {
	h := &s.hiding
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.hides, id)
	h.forgot++
}

// ReadHidden returns those of the users who hide how far they have read. It reads from the store once, or not at all where there is no Config.Settings. It
// returns an error of kind Unavailable.
func (s *Service) ReadHidden(ctx context.Context, ids ...user.ID) (map[user.ID]bool, error) {
	if s.cfg.Settings == nil || len(ids) == 0 {
		return nil, nil
	}
	all, err := s.cfg.Settings.Of(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	hidden := map[user.ID]bool{}
	for id, set := range all {
		if set.HidesRead {
			hidden[id] = true
		}
	}
	return hidden, nil
}

// hide says of marks that have moved whether they are hidden. It reads from the store, once, for those users of whom this process does not know it. What cannot be read
// counts as hidden.
func (s *Service) hide(ctx context.Context, answers []marked) {
	if s.cfg.Settings == nil {
		return
	}
	h := &s.hiding
	var lacking []int // answers of users of whom it is not known
	h.mu.Lock()
	forgot := h.forgot
	for i := range answers {
		if a := &answers[i]; a.Err == nil && a.Moved {
			hides, known := h.hides[a.mark.User.ID]
			if a.mark.Hidden = hides || !known; !known {
				lacking = append(lacking, i)
			}
		}
	}
	h.mu.Unlock()
	if len(lacking) == 0 {
		return
	}
	ids := make([]user.ID, len(lacking))
	for n, i := range lacking {
		ids[n] = answers[i].mark.User.ID
	}
	hidden, err := s.ReadHidden(ctx, ids...)
	if err != nil {
		s.cfg.Log.Warn("what users have set could not be read: nobody is told how far they have read", "users", len(ids), "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	keep := h.forgot == forgot // what was forgotten meanwhile may have been read before it changed
	if keep && len(h.hides)+len(ids) > maxKnown {
		clear(h.hides)
	}
	for _, i := range lacking {
		m := &answers[i].mark
		if m.Hidden = hidden[m.User.ID]; keep {
			h.hides[m.User.ID] = m.Hidden
		}
	}
}

// eraseSettings removes what a user has set.
func (s *Service) eraseSettings(ctx context.Context, id user.ID) error {
	all, err := s.settingsOf(ctx, id)
	if err != nil || len(all) == 0 {
		return err
	}
	return s.changeSettings(ctx, id, func() error { return s.cfg.Settings.Remove(ctx, id) })
}

// settingsOf returns the settings of a user that are stored, if there are any.
func (s *Service) settingsOf(ctx context.Context, id user.ID) (map[user.ID]UserSettings, error) {
	if s.cfg.Settings == nil {
		return nil, nil
	}
	all, err := walk(ctx, func(ctx context.Context) (map[user.ID]UserSettings, error) { return s.cfg.Settings.Of(ctx, id) })
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return all, nil
}
