package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/mail"
)

// secrets are what can change while a program runs.
type secrets struct{ admin, docs string }

func (a *App) adminToken() string { return a.secrets.Load().admin }

// firstAdminToken is the one by which this program calls another one; empty without any.
func (a *App) firstAdminToken() string {
	for _, token := range humaapi.AdminTokens(a.adminToken()) {
		return token
	}
	return ""
}

// Reload takes up the settings that changed, which are named by their variables. It returns those that
// were taken up, and those that a restart will take up. Of what is in the error the old stays in force.
// One goroutine calls it at a time.
func (a *App) Reload(ctx context.Context, s config.Settings, changed []string) (taken, restart []string, err error) {
	now := *a.secrets.Load()
	for _, variable := range changed {
		switch variable {
		case "PARLEY_ADMIN_TOKEN":
			now.admin = s.AdminToken
		case "PARLEY_DOCS_PASSWORD":
			now.docs = s.DocsPassword
		case "PARLEY_SCREEN_SECRET":
			if failed := a.screen.SetSecrets(s.ScreenSecrets()); failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", variable, failed))
				continue
			}
		case "PARLEY_WEBHOOK_SECRET":
			if failed := a.hook.SetSecrets(config.Secrets(s.WebhookSecret)); failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", variable, failed))
				continue
			}
		case "PARLEY_MAIL_SENDER", "PARLEY_MAIL_DKIM_KEY":
			if a.smtp == nil || s.MailSender == "dev:" {
				restart = append(restart, variable)
				continue
			}
			if failed := a.changeSender(ctx, &s); failed != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", variable, failed))
				continue
			}
		default:
			restart = append(restart, variable)
			continue
		}
		taken = append(taken, variable)
	}
	a.secrets.Store(&now)
	slices.Sort(taken)
	return taken, restart, err
}

// changeSender sends mails by another account or server, or signed by another key, from now on, unless that refuses.
func (a *App) changeSender(ctx context.Context, s *config.Settings) error {
	cfg, err := s.SMTP()
	if err != nil {
		return err
	}
	cfg.Log, cfg.Timeout = a.log, sendTimeout
	next, err := smtpmail.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := next.Check(ctx); errors.Is(err, smtpmail.ErrAuthRefused) || errors.Is(err, smtpmail.ErrNotEncrypted) {
		return errors.Join(err, next.Close())
	}
	return a.smtp.current.Swap(next).Close() // mails under way go out
}

// changingSender is a mail sender that can become another one.
type changingSender struct {
	current atomic.Pointer[smtpmail.Sender]
}

var _ mail.Sender = (*changingSender)(nil)

// Send is mail.Sender's.
func (c *changingSender) Send(ctx context.Context, m mail.Message) error {
	return c.current.Load().Send(ctx, m)
}

// Check is mail.Sender's.
func (c *changingSender) Check(ctx context.Context) error { return c.current.Load().Check(ctx) }
