package memory

import (
	"context"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Settings is a chat.Settings.
type Settings struct {
	mu sync.RWMutex
	of map[user.ID]chat.UserSettings
}

var _ chat.Settings = (*Settings)(nil)

// NewSettings returns a store without settings.
func NewSettings() *Settings { return &Settings{of: map[user.ID]chat.UserSettings{}} }

// Put stores the settings of a user.
func (st *Settings) Put(ctx context.Context, id user.ID, s chat.UserSettings) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	st.of[id] = s
	return nil
}

// Of returns the settings of users that are stored.
func (st *Settings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	found := map[user.ID]chat.UserSettings{}
	for _, id := range ids {
		if s, there := st.of[id]; there {
			found[id] = s
		}
	}
	return found, nil
}

// Remove removes the settings of a user.
func (st *Settings) Remove(ctx context.Context, id user.ID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	delete(st.of, id)
	return nil
}
