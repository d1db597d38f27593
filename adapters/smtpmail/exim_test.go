package smtpmail_test

import (
	"bytes"
	"context"
	"crypto/tls"
	netmail "net/mail"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit/servers"
)

const (
	eximPatience = 20 * time.Second
	eximTick     = 10 * time.Millisecond
)

// configOf is the configuration of a server that is no part of the test: its URL, and where the
// certificate is a private one, its authority.
func configOf(t *testing.T, s *servers.SMTPServer) smtpmail.Config {
	t.Helper()
	cfg, err := smtpmail.ParseURL(s.URL)
	require.NoError(t, err)
	if s.Roots != nil {
		cfg.TLS = &tls.Config{RootCAs: s.Roots}
	}
	return cfg
}

// counting counts what the next hop has taken.
type counting struct {
	mail.Sender
	taken atomic.Int64
}

func (c *counting) Send(ctx context.Context, m mail.Message) error {
	err := c.Sender.Send(ctx, m)
	if err == nil {
		c.taken.Add(1)
	}
	return err
}

func TestContractOnARealServer(t *testing.T) {
	t.Parallel()
	s := servers.SMTP(t)
	if !s.Readable() { // then all there is to see is that it takes them
		sender := open(t, configOf(t, s))
		require.NoError(t, sender.Check(t.Context()))
		for n := range 8 {
			require.NoError(t, sender.Send(t.Context(), letter(n)))
		}
		return
	}
	contract.On(t, "smtpmail", "Exim")
	contract.Run(t, contract.MailSender(), func(t *testing.T) contract.Outgoing {
		s := servers.SMTP(t)
		sender := &counting{Sender: open(t, configOf(t, s))}
		return contract.Outgoing{Sender: sender, Arrived: func(ctx context.Context) (all []mail.Message, err error) {
			// It delivers a moment after it has taken a mail.
			for int64(len(s.Mails(t))) < sender.taken.Load() {
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(eximTick):
				}
			}
			for _, raw := range s.Mails(t) {
				m, _, err := parse(parcel{raw: raw})
				if err != nil {
					return nil, err
				}
				all = append(all, m)
			}
			return all, nil
		}}
	}, contract.Except("want of room is no attempt", "its disk is not filled here"))
}

func TestARealServerTellsFailuresApart(t *testing.T) {
	t.Parallel()
	s := servers.SMTP(t)
	if !s.Readable() {
		t.Skip("only the server that is started here refuses what is agreed on")
	}
	cfg := configOf(t, s)
	sender := open(t, cfg)
	require.NoError(t, sender.Check(t.Context()))
	m := letter(1)
	for range 2 { // as after a crash between the two
		require.NoError(t, sender.Send(t.Context(), m))
	}
	for to, permanent := range map[string]bool{"later@example.com": false, "nobody@example.com": true} {
		m := letter(2)
		m.To = to
		err := sender.Send(t.Context(), m)
		if permanent {
			require.ErrorIs(t, err, mail.ErrRefused)
			require.ErrorContains(t, err, "550")
		} else {
			temporary(t, err)
		}
	}
	wrong := cfg
	wrong.Password = "wrong-but-secret"
	err := open(t, wrong).Check(t.Context())
	temporary(t, err)
	require.ErrorIs(t, err, smtpmail.ErrAuthRefused)
	assert.NotContains(t, err.Error(), wrong.Password)
	stranger := cfg
	stranger.TLS = nil
	require.ErrorIs(t, open(t, stranger).Check(t.Context()), smtpmail.ErrNotEncrypted)

	require.Eventually(t, func() bool { return len(s.Mails(t)) == 2 }, eximPatience, eximTick)
	for _, raw := range s.Mails(t) {
		got, err := netmail.ReadMessage(bytes.NewReader(raw))
		require.NoError(t, err)
		assert.Equal(t, "<"+m.ID+">", got.Header.Get("Message-ID"), "the duplicate can be recognised")
		assert.Contains(t, got.Header.Get("Received"), "TLS")
	}
}
