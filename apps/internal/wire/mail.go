package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/web"
	"github.com/parley-chat/parley/core/mail"
)

// openSender returns who sends mails, and the development mailbox if it is that.
func (a *App) openSender(ctx context.Context, s config.Settings, log *slog.Logger) (mail.Sender, web.Mailbox, error) {
	if s.MailSender == "dev:" {
		box, err := filemail.Open(filemail.Config{Folder: filepath.Join(s.Data, "mail")})
		if err != nil {
			return nil, nil, err
		}
		return box, devMail(box), nil
	}
	cfg, err := smtpmail.ParseURL(s.MailSender)
	if err != nil {
		return nil, nil, err
	}
	cfg.Log, cfg.Timeout = log, sendTimeout
	if a.smtp, err = smtpmail.New(cfg); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	switch err := a.smtp.Check(ctx); {
	case errors.Is(err, smtpmail.ErrAuthRefused), errors.Is(err, smtpmail.ErrNotEncrypted):
		return nil, nil, fmt.Errorf("the mail server cannot be used: %w", err) // no mail would ever go out
	case err != nil:
		log.Warn("the mail server does not answer: mails wait until it does", "error", err)
	}
	return a.smtp, nil, nil
}

// devMail shows the mails of a folder on the page of the development mailbox.
func devMail(box *filemail.Mailbox) web.Mailbox {
	return web.MailboxFunc(func() []web.Mail {
		all := box.All()
		mails := make([]web.Mail, len(all))
		for i, m := range all {
			mails[i] = web.Mail{ID: m.ID, To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML, At: m.At}
		}
		return mails
	})
}
