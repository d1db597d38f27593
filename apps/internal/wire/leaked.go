package wire

import (
	"github.com/parley-chat/parley/adapters/passrange"
	"github.com/parley-chat/parley/core/auth"
)

// openLeaked lets new passwords be looked up among those that were published, where there is a server to ask.
func (a *App) openLeaked(cfg *auth.Config) error {
	s := a.settings
	if s.LeakedURL == "" {
		return nil
	}
	list, err := passrange.New(passrange.Config{URL: s.LeakedURL, Timeout: s.LeakedTimeout})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, list.Close)
	cfg.Leaked, cfg.LeakedTimeout, cfg.LeakedFailsClosed = list, s.LeakedTimeout, s.LeakedOnFailure == "closed"
	return nil
}
