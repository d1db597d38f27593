package smtpmail_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	contract.On(t, "smtpmail", "go-smtp")
	plain := []string{"PLAIN"}
	for name, tc := range map[string]struct {
		options options
		change  func(*smtpmail.Config)
	}{
		"starttls": {options{ways: plain}, func(c *smtpmail.Config) { c.Username, c.Password = username, password }},
		"implicit": {options{implicit: true}, func(c *smtpmail.Config) { c.Security = smtpmail.Implicit }},
		"none":     {options{noTLS: true}, func(c *smtpmail.Config) { c.Security = smtpmail.None }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.Run(t, contract.MailSender(), func(t *testing.T) contract.Outgoing {
				var full atomic.Bool
				o := tc.options
				o.answer = func(_ *smtp.Conn, stage string) error {
					if stage == "MAIL" && full.Load() {
						return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "insufficient system storage"}
					}
					return nil
				}
				s := serve(t, o)
				cfg := s.config()
				tc.change(&cfg)
				fill := func(context.Context) (func(context.Context) error, error) {
					full.Store(true)
					return func(context.Context) error { full.Store(false); return nil }, nil
				}
				return contract.Outgoing{Sender: open(t, cfg), Fill: fill, Arrived: func(context.Context) (all []mail.Message, err error) {
					_, taken, _ := s.seen()
					for _, p := range taken {
						m, _, err := parse(p)
						if err != nil {
							return nil, err
						}
						all = append(all, m)
					}
					return all, nil
				}}
			})
		})
	}
}

// temporary wants a failure that is not the mail's.
func temporary(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.NotErrorIs(t, err, mail.ErrRefused)
}

func TestNothingIsSentInClear(t *testing.T) {
	t.Parallel()
	s := serve(t, options{noTLS: true, insecureAuth: true, ways: []string{"PLAIN", "LOGIN"}})
	cfg := s.config()
	cfg.Username, cfg.Password = username, password
	sender := open(t, cfg)
	for name, err := range map[string]error{"Send": sender.Send(t.Context(), letter(1)), "Check": sender.Check(t.Context())} {
		temporary(t, err)
		assert.ErrorIs(t, err, smtpmail.ErrNotEncrypted, name)
		assert.ErrorContains(t, err, "STARTTLS", name)
	}
	wire, taken, _ := s.seen()
	assert.Empty(t, taken)
	for line := range strings.SplitSeq(strings.TrimSpace(wire), "\r\n") {
		assert.True(t, strings.HasPrefix(line, "EHLO ") || line == "QUIT", "sent in clear: %q", line)
	}
}

func TestOnlyATrustedServerGetsAnything(t *testing.T) {
	t.Parallel()
	_, stranger := authority(t)
	for name, change := range map[string]func(*smtpmail.Config){
		"an unknown authority":         func(c *smtpmail.Config) { c.TLS = &tls.Config{RootCAs: stranger} },
		"another name":                 func(c *smtpmail.Config) { c.TLS.ServerName = "mail.example.com" },
		"implicit where there is none": func(c *smtpmail.Config) { c.Security = smtpmail.Implicit },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, options{ways: []string{"PLAIN"}})
			cfg := s.config()
			cfg.Username, cfg.Password = username, password
			change(&cfg)
			err := open(t, cfg).Send(t.Context(), letter(1))
			temporary(t, err)
			assert.ErrorIs(t, err, smtpmail.ErrNotEncrypted)
			wire, taken, _ := s.seen()
			assert.Empty(t, taken)
			assert.NotContains(t, wire, "AUTH")
			assert.NotContains(t, wire, "MAIL")
		})
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ways  []string
		auth  smtpmail.Auth
		wrong string
	}{
		"auto takes PLAIN":     {ways: []string{"LOGIN", "PLAIN"}},
		"auto takes LOGIN":     {ways: []string{"LOGIN"}},
		"LOGIN is chosen":      {ways: []string{"PLAIN", "LOGIN"}, auth: smtpmail.AuthLogin},
		"PLAIN is chosen":      {ways: []string{"PLAIN"}, auth: smtpmail.AuthPlain},
		"PLAIN is not offered": {ways: []string{"LOGIN"}, auth: smtpmail.AuthPlain, wrong: "does not offer PLAIN"},
		"neither is offered":   {ways: []string{"XOAUTH2"}, wrong: "neither PLAIN nor LOGIN"},
		"nothing is offered":   {wrong: "neither PLAIN nor LOGIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, options{ways: tc.ways})
			cfg := s.config()
			cfg.Username, cfg.Password, cfg.Auth = username, password, tc.auth
			sender := open(t, cfg)
			check, send := sender.Check(t.Context()), sender.Send(t.Context(), letter(1))
			wire, taken, _ := s.seen()
			assert.NotContains(t, wire, "AUTH", "it was inside TLS")
			if tc.wrong == "" {
				require.NoError(t, check)
				require.NoError(t, send)
				assert.Len(t, taken, 1)
				assert.Equal(t, 2, s.logins)
				return
			}
			for _, err := range []error{check, send} {
				temporary(t, err)
				assert.ErrorIs(t, err, smtpmail.ErrAuthRefused)
				assert.ErrorContains(t, err, tc.wrong)
			}
			assert.Empty(t, taken)
		})
	}
}

// encodings are the ways in which a password might be written down.
func encodings(secret string) []string {
	return []string{
		secret, base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("\x00" + username + "\x00" + secret)),
	}
}

func TestAWrongPasswordIsAnAlarmAndNoRefusal(t *testing.T) {
	t.Parallel()
	const wrong = "wrong-but-secret"
	var log bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, way := range []string{"PLAIN", "LOGIN"} {
		s := serve(t, options{ways: []string{way}, answer: func(_ *smtp.Conn, stage string) error {
			if stage != "AUTH" {
				return nil
			}
			// A server that repeats what it was sent.
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no: " + strings.Join(encodings(wrong), " or ")}
		}})
		log.Reset()
		cfg := s.config()
		cfg.Username, cfg.Password = username, wrong
		cfg.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		cfg.Now = func() time.Time { return now }
		sender := open(t, cfg)
		lines := func() int { return strings.Count(log.String(), `"level":"ERROR"`) }

		check := sender.Check(t.Context())
		assert.Zero(t, lines(), "who calls Check prints its error")
		first, again := sender.Send(t.Context(), letter(1)), sender.Send(t.Context(), letter(2))
		assert.Equal(t, 1, lines(), "once a minute")
		now = now.Add(time.Minute)
		later := sender.Send(t.Context(), letter(3))
		assert.Equal(t, 2, lines())
		cfg.Log.Info("configuration", "cfg", cfg)
		for _, err := range []error{check, first, again, later} {
			temporary(t, err)
			assert.ErrorIs(t, err, smtpmail.ErrAuthRefused)
			assert.ErrorContains(t, err, "535")
			assert.NotContains(t, err.Error(), "\n")
			for _, secret := range encodings(wrong) {
				assert.NotContains(t, err.Error(), secret)
			}
		}
		for _, secret := range encodings(wrong) {
			assert.NotContains(t, log.String(), secret)
		}
		_, taken, _ := s.seen()
		assert.Empty(t, taken)
	}
}

func TestATemporaryFailureOfAuthenticationIsNoAlarm(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := serve(t, options{ways: []string{"PLAIN"}, answer: func(_ *smtp.Conn, stage string) error {
		if stage == "AUTH" {
			return &smtp.SMTPError{Code: 454, Message: "later"}
		}
		return nil
	}})
	cfg := s.config()
	cfg.Username, cfg.Password, cfg.Log = username, password, slog.New(slog.NewTextHandler(&log, nil))
	err := open(t, cfg).Send(t.Context(), letter(1))
	temporary(t, err)
	assert.NotErrorIs(t, err, smtpmail.ErrAuthRefused)
	assert.Empty(t, log.String())
}

func TestAPasswordInClearOnlyOnLoopbackAndWhenAllowed(t *testing.T) {
	t.Parallel()
	s := serve(t, options{noTLS: true, insecureAuth: true, ways: []string{"PLAIN"}})
	cfg := s.config()
	cfg.Security, cfg.Username, cfg.Password = smtpmail.None, username, password
	_, err := smtpmail.New(cfg)
	assert.ErrorContains(t, err, "AllowPlaintextAuth")
	cfg.AllowPlaintextAuth = true
	require.NoError(t, open(t, cfg).Send(t.Context(), letter(1)))

	cfg.Host = "mail.example.com"
	_, err = smtpmail.New(cfg)
	assert.ErrorContains(t, err, "never")

	// A name that only looks like loopback's.
	cfg.Host = "localhost"
	var far net.Conn
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		far = elsewhere{c}
		return far, err
	}
	before, _, _ := s.seen()
	err = open(t, cfg).Send(t.Context(), letter(2))
	require.NotNil(t, far)
	temporary(t, err)
	assert.ErrorContains(t, err, "not on loopback")
	wire, taken, _ := s.seen()
	assert.Len(t, taken, 1)
	assert.NotContains(t, wire[len(before):], "AUTH")
}

type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }

func TestWhereNobodyIsThereNothingWasTried(t *testing.T) {
	t.Parallel()
	s := serve(t, options{noTLS: true})
	cfg := s.config()
	cfg.Security = smtpmail.None
	for name, change := range map[string]func(*smtpmail.Config){
		"nobody listens": func(c *smtpmail.Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
		},
		"no TLS":      func(c *smtpmail.Config) { c.Security = smtpmail.StartTLS },
		"no greeting": func(c *smtpmail.Config) { c.Timeout, c.Dial = 50*time.Millisecond, mute },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cfg
			change(&c)
			err := open(t, c).Send(t.Context(), letter(1))
			temporary(t, err)
			assert.ErrorIs(t, err, mail.ErrUntried)
			assert.Equal(t, name == "no TLS", errors.Is(err, smtpmail.ErrNotEncrypted))
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, open(t, cfg).Send(ended, letter(1)), mail.ErrUntried)
}

// mute is a connection on which nobody says anything.
func mute(context.Context, string, string) (net.Conn, error) {
	near, _ := net.Pipe()
	return near, nil
}

func TestAnswersOfTheServer(t *testing.T) {
	t.Parallel()
	type want int
	const (
		refused want = iota
		later
		auth
	)
	for code, want := range map[int]want{
		421: later, 450: later, 451: later, 452: later, 499: later, 500: refused, 521: refused, 550: refused, 552: refused, 554: refused,
		530: auth, 534: auth, 535: auth, 538: auth,
	} {
		for _, stage := range []string{"MAIL", "RCPT", "DATA", "the end of the data"} {
			t.Run(fmt.Sprint(code, " to ", stage), func(t *testing.T) {
				t.Parallel()
				s := play(t, func(connection, n int, at string, _ <-chan struct{}) string {
					if connection == 0 && n == 0 && at == stage {
						return fmt.Sprintf("%d-5.1.1 because\r\n%d 5.1.1 of reasons\x07", code, code)
					}
					return fine(at)
				})
				sender := open(t, s.config())
				err := sender.Send(t.Context(), letter(1))
				require.Error(t, err)
				assert.Equal(t, want == refused, errors.Is(err, mail.ErrRefused))
				assert.Equal(t, want != refused, errors.Is(err, fault.Unavailable))
				assert.Equal(t, want == auth, errors.Is(err, smtpmail.ErrAuthRefused))
				assert.Equal(t, want == later && stage == "RCPT", errors.Is(err, mail.ErrDeferred), "about the recipient")
				assert.Equal(t, want == later && stage != "RCPT", errors.Is(err, mail.ErrThrottled), "about the server")
				assert.NotErrorIs(t, err, mail.ErrUntried, "the server was there")
				assert.ErrorContains(t, err, fmt.Sprint(code))
				assert.ErrorContains(t, err, stage)
				assert.NotRegexp(t, "[\\x00-\\x1f]", err.Error(), "one line")
				assert.Equal(t, code == 421 || want == auth, !slices.Contains(s.lines(), "RSET"), "such a connection is given up")
			})
		}
	}
	for _, stage := range []string{"greeting", "EHLO"} {
		t.Run("554 to "+stage, func(t *testing.T) {
			t.Parallel()
			s := play(t, func(_, _ int, at string, _ <-chan struct{}) string {
				if at == stage || at == "HELO" {
					return "554 not today"
				}
				return fine(at)
			})
			sender := open(t, s.config())
			temporary(t, sender.Send(t.Context(), letter(1)))
			temporary(t, sender.Check(t.Context()))
		})
	}
}

// fine is the answer of a server that is content.
func fine(stage string) string {
	switch stage {
	case "QUIT":
		return "221 bye"
	case "RSET":
		return "250 ok"
	}
	return replies[stage]
}

func TestARefusalSparesTheConnection(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{"MAIL", "RCPT", "END"} {
		for _, code := range []int{450, 550} {
			t.Run(fmt.Sprint(stage, " ", code), func(t *testing.T) {
				t.Parallel()
				s := serve(t, options{answer: func(_ *smtp.Conn, at string) error {
					if at == stage {
						return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 1, 1}, Message: "no"}
					}
					return nil
				}})
				sender := open(t, s.config())
				require.Error(t, sender.Send(t.Context(), letter(1)))
				s.answers(nil)
				require.NoError(t, sender.Send(t.Context(), letter(2)))
				_, taken, connections := s.seen()
				require.Len(t, taken, 1)
				assert.Equal(t, letter(2).To, taken[0].to)
				assert.Equal(t, 1, connections)
			})
		}
	}
}

func TestStartTLSRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		reply     string
		permanent bool
	}{{"454 not now", false}, {"502 what", true}, {"", false}} {
		s := play(t, func(_, _ int, at string, _ <-chan struct{}) string {
			switch at {
			case "EHLO":
				return "250-localhost\r\n250 STARTTLS"
			case "STARTTLS":
				return tc.reply
			}
			return fine(at)
		})
		cfg := s.config()
		cfg.Security = smtpmail.StartTLS
		err := open(t, cfg).Send(t.Context(), letter(1))
		temporary(t, err)
		assert.Equal(t, tc.permanent, errors.Is(err, smtpmail.ErrNotEncrypted), tc.reply)
		assert.NotContains(t, strings.Join(s.lines(), " "), "MAIL")
	}
}

func TestAConnectionThatBreaks(t *testing.T) {
	t.Parallel()
	for _, stage := range stages {
		t.Run("new, at "+stage, func(t *testing.T) {
			t.Parallel()
			s := play(t, func(_, _ int, at string, _ <-chan struct{}) string {
				if at == stage || stage == "EHLO" && at == "HELO" {
					return ""
				}
				return fine(at)
			})
			temporary(t, open(t, s.config()).Send(t.Context(), letter(1)))
			connections, _ := s.counts()
			assert.Equal(t, 1, connections, "a new connection that breaks is not tried again at once")
		})
	}
	for _, stage := range stages[2:] {
		for name, goodbye := range map[string]string{"silently": "", "with a farewell": "421 idle for too long"} {
			t.Run("reused, at "+stage+", "+name, func(t *testing.T) {
				t.Parallel()
				s := play(t, func(connection, n int, at string, _ <-chan struct{}) string {
					if connection == 0 && n == 1 && at == stage {
						return goodbye
					}
					return fine(at)
				})
				sender := open(t, s.config())
				require.NoError(t, sender.Send(t.Context(), letter(1)))
				err := sender.Send(t.Context(), letter(2))
				connections, ends := s.counts()
				assert.Equal(t, 2, ends)
				if stage == "the end of the data" {
					temporary(t, err)
					assert.Equal(t, 1, connections, "the mail may have been taken: it is not sent again at once")
					return
				}
				require.NoError(t, err)
				assert.Equal(t, 2, connections)
			})
		}
	}
	t.Run("reused, and the new one too", func(t *testing.T) {
		t.Parallel()
		s := play(t, func(connection, n int, at string, _ <-chan struct{}) string {
			if connection > 0 || n == 1 {
				return ""
			}
			return fine(at)
		})
		sender := open(t, s.config())
		require.NoError(t, sender.Send(t.Context(), letter(1)))
		temporary(t, sender.Send(t.Context(), letter(2)))
		connections, _ := s.counts()
		assert.Equal(t, 2, connections, "once more, not more")
	})
	t.Run("after the mail was taken", func(t *testing.T) {
		t.Parallel()
		s := serve(t, options{answer: func(c *smtp.Conn, at string) error {
			if at == "TAKEN" {
				_ = c.Conn().Close()
			}
			return nil
		}})
		temporary(t, open(t, s.config()).Send(t.Context(), letter(1)))
		_, taken, connections := s.seen()
		assert.Len(t, taken, 1)
		assert.Equal(t, 1, connections)
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		sender := open(t, smtpmail.Config{Host: "127.0.0.1", Port: 1})
		temporary(t, sender.Send(t.Context(), letter(1)))
		temporary(t, sender.Check(t.Context()))
	})
}

func TestAServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	for _, stage := range stages {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			reached := make(chan struct{})
			s := play(t, func(_, _ int, at string, done <-chan struct{}) string {
				if at == stage {
					close(reached)
					<-done
					return ""
				}
				return fine(at)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sent := make(chan error, 1)
			sender := open(t, s.config())
			go func() { sent <- sender.Send(ctx, letter(1)) }()
			<-reached
			cancel()
			err := <-sent
			temporary(t, err)
			assert.ErrorIs(t, err, context.Canceled)
		})
	}
	t.Run("its own time-out", func(t *testing.T) {
		t.Parallel()
		s := play(t, func(_, _ int, _ string, done <-chan struct{}) string { <-done; return "" })
		cfg := s.config()
		cfg.Timeout = time.Millisecond
		sender := open(t, cfg)
		for _, err := range []error{sender.Send(t.Context(), letter(1)), sender.Check(t.Context())} {
			temporary(t, err)
			// The connection has the same deadline as the context: either may notice first.
			assert.True(t, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded), err)
		}
	})
	t.Run("a handshake", func(t *testing.T) {
		t.Parallel()
		reached := make(chan struct{})
		s := play(t, func(_, _ int, _ string, done <-chan struct{}) string { close(reached); <-done; return "" })
		cfg := s.config()
		cfg.Security = smtpmail.Implicit
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sent := make(chan error, 1)
		sender := open(t, cfg)
		go func() { sent <- sender.Check(ctx) }()
		<-reached
		cancel()
		err := <-sent
		temporary(t, err)
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestWaitingForAConnectionEndsWithTheContext(t *testing.T) {
	t.Parallel()
	reached, goOn := make(chan struct{}), make(chan struct{})
	s := serve(t, options{answer: func(_ *smtp.Conn, at string) error {
		if at == "MAIL" {
			close(reached)
			<-goOn
		}
		return nil
	}})
	cfg := s.config()
	cfg.Connections = 1
	sender := open(t, cfg)
	sent := make(chan error, 1)
	go func() { sent <- sender.Send(t.Context(), letter(1)) }()
	<-reached
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := sender.Send(ctx, letter(2))
	temporary(t, err)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	close(goOn)
	require.NoError(t, <-sent)
}

func TestAServerThatClosesIdleConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	sender := open(t, s.config())
	for n := range 3 {
		require.NoError(t, sender.Send(t.Context(), letter(n)))
		<-s.ended // the session before TLS, which STARTTLS ends
		require.NoError(t, s.timeout())
		<-s.ended // the server has had enough
	}
	_, taken, connections := s.seen()
	assert.Len(t, taken, 3)
	assert.Equal(t, 3, connections)
}

func TestIdleConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	quit := make(chan struct{}, 10)
	s := play(t, func(_, _ int, at string, _ <-chan struct{}) string {
		if at == "QUIT" {
			quit <- struct{}{}
		}
		return fine(at)
	})
	cfg := s.config()
	cfg.IdleTimeout = time.Millisecond
	sender := open(t, cfg)
	for n := range 2 {
		require.NoError(t, sender.Send(t.Context(), letter(n)))
		<-quit
	}
	connections, ends := s.counts()
	assert.Equal(t, []int{2, 2}, []int{connections, ends})
}

func TestManyMailsShareFewConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, options{ways: []string{"PLAIN"}})
	cfg := s.config()
	cfg.Username, cfg.Password = username, password
	sender := open(t, cfg)
	start := make(chan struct{})
	var sends sync.WaitGroup
	for n := range 50 {
		sends.Go(func() {
			<-start
			assert.NoError(t, sender.Send(t.Context(), letter(n)))
		})
	}
	close(start)
	sends.Wait()
	_, taken, connections := s.seen()
	recipients := map[string]bool{}
	for _, p := range taken {
		recipients[p.to] = true
		m, _, err := parse(p)
		require.NoError(t, err)
		assert.Equal(t, p.to, m.To, "envelope and header are the same mail's")
	}
	assert.Len(t, taken, 50)
	assert.Len(t, recipients, 50)
	assert.LessOrEqual(t, connections, 4)
	assert.Equal(t, connections, s.logins)
}

func TestClose(t *testing.T) {
	t.Parallel()
	reached, goOn := make(chan struct{}), make(chan struct{})
	s := play(t, func(connection, _ int, at string, _ <-chan struct{}) string {
		if connection == 1 && at == "RCPT" {
			close(reached)
			<-goOn
		}
		return fine(at)
	})
	sender, err := smtpmail.New(s.config())
	require.NoError(t, err)
	require.NoError(t, sender.Check(t.Context()))
	require.Contains(t, s.lines(), "QUIT")

	sent := make(chan error, 1)
	go func() { sent <- sender.Send(t.Context(), letter(1)) }()
	<-reached
	require.NoError(t, sender.Close())
	require.NoError(t, sender.Close())
	close(goOn)
	require.NoError(t, <-sent, "a mail under way is not lost")
	temporary(t, sender.Send(t.Context(), letter(2)))
	temporary(t, sender.Check(t.Context()))
	connections, _ := s.counts()
	assert.Equal(t, 2, connections)
}

func TestCloseSaysQuit(t *testing.T) {
	t.Parallel()
	s := play(t, func(_, _ int, at string, _ <-chan struct{}) string { return fine(at) })
	sender, err := smtpmail.New(s.config())
	require.NoError(t, err)
	require.NoError(t, sender.Send(t.Context(), letter(1)))
	require.NotContains(t, s.lines(), "QUIT")
	require.NoError(t, sender.Close())
	assert.Contains(t, s.lines(), "QUIT")
	assert.Contains(t, s.lines(), "EHLO [127.0.0.1]")
}

func (s *script) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.heard...)
}

func TestPingKeepsToOneConnection(t *testing.T) {
	t.Parallel()
	s := play(t, func(connection, mails int, at string, done <-chan struct{}) string {
		switch {
		case at == "NOOP" && connection == 0 && mails > 0:
			return "" // as a server that was idle for too long
		case at == "NOOP" && connection == 1:
			<-done
			return ""
		case at == "NOOP":
			return "250 ok"
		}
		return fine(at)
	})
	sender := open(t, s.config())
	var pings sync.WaitGroup
	for range 10 {
		pings.Go(func() { assert.NoError(t, sender.Ping(t.Context())) })
	}
	pings.Wait()
	require.NoError(t, sender.Send(t.Context(), letter(1)), "on the same connection")
	connections, _ := s.counts()
	assert.Equal(t, 1, connections)

	require.NoError(t, sender.Ping(t.Context()), "the server has ended the connection")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	temporary(t, sender.Ping(ctx))
	require.NoError(t, sender.Ping(t.Context()), "the one that is silent was given up")
	connections, _ = s.counts()
	assert.Equal(t, 3, connections)

	require.NoError(t, sender.Close())
	temporary(t, sender.Ping(t.Context()))
}
