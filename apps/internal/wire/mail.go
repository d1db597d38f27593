package wire

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/web"
	"github.com/parley-chat/parley/core/health"
)

// openSender opens who sends mails, and the development mailbox if it is that.
func (a *App) openSender(ctx context.Context) error {
	s := a.settings
	if s.MailSender == "dev:" {
		box, err := filemail.Open(filemail.Config{Folder: filepath.Join(s.Data, "mail")})
		if err != nil {
			return err
		}
		a.ports.Sender, a.box, a.mailbox = box, box, devMail(box)
		return nil
	}
	cfg, err := s.SMTP()
	if err != nil {
		return err
	}
	cfg.Log, cfg.Timeout = a.log, sendTimeout
	sender, err := smtpmail.New(cfg)
	if err != nil {
		return err
	}
	a.smtp = &changingSender{}
	a.smtp.current.Store(sender)
	a.closers = append(a.closers, func() error { return a.smtp.current.Load().Close() })
	a.ports.Sender = a.smtp
	if s.Program == config.Mailer { // to whom nobody is sent who could do without mails
		a.checks = append(a.checks, health.Check{Name: "smtp", Probe: func(ctx context.Context) (map[string]any, error) {
			return nil, a.smtp.current.Load().Ping(ctx)
		}})
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	switch err := sender.Check(ctx); {
	case errors.Is(err, smtpmail.ErrAuthRefused), errors.Is(err, smtpmail.ErrNotEncrypted):
		return fmt.Errorf("the mail server cannot be used: %w", err) // no mail would ever go out
	case err != nil:
		a.log.Warn("the mail server does not answer: mails wait until it does", "error", err)
	}
	return nil
}

// devMail shows the mails of a folder on the page of the development mailbox.
func devMail(box *filemail.Mailbox) func() []web.Mail {
	return func() []web.Mail {
		all := box.All()
		mails := make([]web.Mail, len(all))
		for i, m := range all {
			mails[i] = web.Mail{ID: m.ID, To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, At: m.At}
		}
		return mails
	}
}
