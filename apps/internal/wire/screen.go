package wire

import (
	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/core/chat"
)

// openScreen lets a server of the operator's be asked about each message, where there is one.
func (a *App) openScreen(cfg *chat.Config) error {
	s := a.settings
	if s.ScreenURL == "" {
		return nil
	}
	screen, err := webhook.New(webhook.Config{
		URL: s.ScreenURL, Secrets: s.ScreenSecrets(), Private: s.ScreenPrivate == "on", Timeout: s.ScreenTimeout,
	})
	if err != nil {
		return err
	}
	a.screen = screen
	a.closers = append(a.closers, screen.Close)
	cfg.Screen, cfg.ScreenTimeout, cfg.ScreenFailsOpen = screen, s.ScreenTimeout, s.ScreenOnFailure == "open"
	return nil
}
