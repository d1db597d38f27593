package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/testkit"
)

// secrets collects what must not stand in a log.
type secrets struct {
	mu    sync.Mutex
	known []string
}

func (s *secrets) add(all ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, all...)
}

// The ports through which hashes pass.
type (
	spyingHasher struct {
		auth.Hasher
		*secrets
	}
	spyingCodes struct {
		auth.CodeStore
		*secrets
	}
	spyingSessions struct {
		auth.SessionStore
		*secrets
	}
	// rejecting fails the first attempt at each mail with all that is in it, as servers do.
	rejecting struct {
		mail.Sender
		mu   sync.Mutex
		seen map[string]bool
	}
)

func (s spyingHasher) Hash(ctx context.Context, password string) (string, error) {
	hash, err := s.Hasher.Hash(ctx, password)
	s.add(hash)
	return hash, err
}

func (s spyingCodes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	s.add(c.Hash)
	return s.CodeStore.Put(ctx, c, events...)
}

func (s spyingSessions) Create(ctx context.Context, x auth.Session, events ...event.Event) error {
	s.add(x.FamilyHash, x.TokenHash)
	return s.SessionStore.Create(ctx, x, events...)
}

func (s spyingSessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	x, err := s.SessionStore.Update(ctx, id, change, events...)
	if err == nil {
		s.add(x.TokenHash)
	}
	return x, err
}

func (r *rejecting) Send(ctx context.Context, m mail.Message) error {
	r.mu.Lock()
	seen := r.seen[m.ID]
	r.seen[m.ID] = true
	r.mu.Unlock()
	if seen {
		return r.Sender.Send(ctx, m)
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("451 <%s> try later:\n%s\n%s", strings.ToUpper(m.To), m.Text, m.HTML))
}

// buffer is written from many goroutines.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// TestLogs_holdNoSecrets plays the story with everything logged and with failures on the way, and looks for
// every password, token, code, ticket, hash, address and message in the log.
func TestLogs_holdNoSecrets(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, cfg Config) {
		var log buffer
		var hidden secrets
		cfg.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		cfg.Worker = mail.WorkerConfig{Backoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond, Poll: 5 * time.Millisecond}
		faults := testkit.NewFaults(1,
			testkit.Rule{Method: "Outbox.Published", Call: 1, Fault: testkit.Fail(nil)},
			testkit.Rule{Method: "Queue.Enqueue", Call: 1, Fault: testkit.LoseAnswer()},
			testkit.Rule{Method: "Queue.Settle", Call: 2, Fault: testkit.Fail(nil)},
			testkit.Rule{Method: "Publisher.Publish", Call: 2, Fault: testkit.LoseAnswer()},
		)
		cfg.Ports = func(p *parley.Ports) {
			p.Outbox, p.Publisher = testkit.FaultyOutbox(p.Outbox, faults), testkit.FaultyPublisher(p.Publisher, faults)
			p.MailQueue = testkit.FaultyQueue(p.MailQueue, faults)
			p.Hasher, p.Codes = spyingHasher{p.Hasher, &hidden}, spyingCodes{p.Codes, &hidden}
			p.Sessions = spyingSessions{p.Sessions, &hidden}
			p.Sender = &rejecting{Sender: p.Sender, seen: map[string]bool{}}
		}
		t.Run("story", func(t *testing.T) { story(t, cfg, func(secret string) { hidden.add(secret) }) })
		t.Run("refusals", func(t *testing.T) { refusals(t, cfg, &hidden) })

		written := strings.ToLower(log.text.String())
		require.Contains(t, written, "somebody signed up")
		require.Contains(t, written, "a mail could not be sent")
		require.Contains(t, written, "the relay could not move events")
		for _, secret := range hidden.known {
			require.NotEmpty(t, secret)
			quoted, err := json.Marshal(secret)
			require.NoError(t, err)
			for _, form := range []string{secret, strings.Trim(string(quoted), `"`)} {
				if at := strings.Index(written, strings.ToLower(form)); at >= 0 {
					t.Errorf("the log holds %q: …%s…", secret, written[max(0, at-300):min(len(written), at+100)])
				}
			}
		}
	})
}

// refusals gives the system secrets in places where they do not belong.
func refusals(t *testing.T, cfg Config, hidden *secrets) {
	s := Start(t, cfg)
	u := s.User(t, "Carol")
	hidden.add(u.Email, u.Password, u.AccessToken, u.RefreshToken)
	shake(t, s, "?ticket="+u.AccessToken, nil)
	shake(t, s, "?token="+u.AccessToken, bearer(u.RefreshToken))
	shake(t, s, "", http.Header{"Sec-Websocket-Protocol": {"parley.v1, bearer." + u.RefreshToken}})
	for _, path := range []string{"/auth/me", "/auth/signout", "/mail/jobs?to=" + u.Email, "/mail/jobs/" + u.RefreshToken, "/auth/verify?code=" + u.RefreshToken, "/nowhere/" + u.RefreshToken} {
		for _, token := range []string{"", u.RefreshToken, s.AdminToken} {
			_, err := s.Do(t.Context(), http.MethodGet, path, token, nil)
			require.NoError(t, err)
		}
	}
	hidden.add(s.AdminToken)
	for _, path := range []string{"/auth/signup", "/auth/signin", "/auth/verify", "/auth/verify/resend", "/auth/refresh", "/auth/password/forgot", "/auth/password/reset", "/auth/password/change"} {
		for _, body := range []any{
			map[string]any{"fullName": u.Password, "email": u.Email, "password": u.Password, "code": u.RefreshToken, "refreshToken": u.AccessToken, "current": u.Password},
			map[string]any{"email": u.Email, "password": u.Password},
			map[string]any{"code": u.RefreshToken, "password": u.Password + "\x00"},
			map[string]any{"email": []string{u.Email}, u.Password: u.Password},
			u.Password,
		} {
			_, err := s.Do(t.Context(), http.MethodPost, path, u.AccessToken, body)
			require.NoError(t, err)
		}
	}
	const whispered = "whispered into the wrong ear"
	hidden.add(whispered)
	for _, frame := range []string{
		`{"event":"message","data":{"room":"tea","text":"` + whispered + `","shout":true}}`,
		`{"event":"message","data":{"room":5,"text":"` + whispered + `"}}`,
		`{"event":"message","data":{"room":"tea","text":"` + whispered + `\u0000"}}`,
		`{"id":1,"event":"message","data":{"room":"tea","text":"` + whispered + `"}}`,
		whispered,
	} {
		s.SignIn(t, &u)
		hidden.add(u.AccessToken, u.RefreshToken)
		r := s.DialRaw(t, u.AccessToken)
		require.NoError(t, r.Send(text(frame)))
		_, err := r.Read()
		require.NoError(t, err)
	}
}
