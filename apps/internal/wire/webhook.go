package wire

import (
	"errors"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	hooks "github.com/parley-chat/parley/core/webhook"
)

// openWebhooks lets a server of the operator's be told what has happened, where this program does that, and has the events of it put into the outbox, where it does that.
func (a *App) openWebhooks(cfg *parley.Config) error {
	s := a.settings
	var err error
	if cfg.Webhooks, err = s.WebhookSelection(); err != nil {
		return err
	}
	cfg.WebhookWorker = mail.WorkerConfig{SendTimeout: s.WebhookTimeout}
	if s.WebhookURL == "" {
		return nil
	}
	endpoint, err := webhook.NewEndpoint(webhook.EndpointConfig{
		URL: s.WebhookURL, Secrets: config.Secrets(s.WebhookSecret), Private: s.WebhookPrivate == "on", Timeout: s.WebhookTimeout,
	})
	if err != nil {
		return err
	}
	a.hook = endpoint
	a.closers = append(a.closers, endpoint.Close)
	cfg.Endpoint = endpoint
	return nil
}

// topics are the given ones, and that of webhooks if this program puts something into it, or takes something from it.
func (a *App) topics(some ...string) ([]string, error) {
	chosen, err := a.settings.WebhookSelection()
	if err != nil {
		return nil, err
	}
	if chosen.Any() || a.settings.WebhookURL != "" {
		some = append(some, hooks.Topic)
	}
	return some, nil
}

// groups are those that must handle the events of a bus within this process.
func (a *App) groups() map[string][]string {
	groups := map[string][]string{mail.Topic: {mail.Group}}
	if a.settings.WebhookURL != "" {
		groups[hooks.Topic] = []string{hooks.Group}
	}
	return groups
}

func (a *App) mountWebhooks(service *mail.DeadLetterService) error {
	if service == nil {
		return errors.New("nothing keeps the deliveries of webhooks")
	}
	return humaapi.RegisterWebhooks(a.AdminAPI, humaapi.WebhooksConfig{Service: service, CurrentToken: a.adminToken})
}
