package humaapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/user"
)

const (
	ada        = "ada@example.com"
	adminToken = "open-sesame-open-sesame"
	password   = "correct horse battery"
	keySet     = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"AA"}]}`
)

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// system is everything of this package over the real services and memory.
type system struct {
	t     *testing.T
	api   *humaapi.API
	store *memory.Store
	clock *clock

	mu   sync.Mutex
	seen map[string]map[int]bool // statuses by operation
	logs strings.Builder
}

// options change what a test needs otherwise.
type options struct {
	auth    func(*auth.Config)
	mail    func(*humaapi.MailConfig)
	health  humaapi.HealthConfig
	api     humaapi.Config
	keysErr error
}

// newSystem registers everything. When the test ends, each status that an operation answered
// with must stand in the document.
func newSystem(t *testing.T, o options) *system {
	t.Helper()
	s := &system{t: t, store: memory.NewStore(), seen: map[string]map[int]bool{},
		clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	tokens := memory.NewTokens(memory.TokensConfig{Now: s.clock.now})
	cfg := auth.Config{
		Users: s.store.Users, Sessions: s.store.Sessions, Codes: s.store.Codes, SignUps: s.store.SignUps, Factors: s.store.Factors, Nonces: s.store.Nonces,
		Hasher: memory.NewHasher(), Issuer: tokens, Verifier: tokens,
		Limiter: memory.NewLimiter(memory.LimiterConfig{}), Now: s.clock.now,
	}
	if o.auth != nil {
		o.auth(&cfg)
	}
	accounts, err := auth.New(cfg)
	require.NoError(t, err)
	letters, err := mail.NewDeadLetterService(mail.DeadLetterConfig{Letters: s.store.MailQueue, Stats: s.store.MailQueue, Now: s.clock.now})
	require.NoError(t, err)

	o.api.Log = slog.New(slog.NewTextHandler(s, nil))
	s.api, err = humaapi.New(http.NewServeMux(), o.api)
	require.NoError(t, err)
	s.api.UseMiddleware(s.record)
	require.NoError(t, humaapi.RegisterAuth(s.api, humaapi.AuthConfig{Service: accounts,
		JWKS: func(context.Context) ([]byte, error) { return []byte(keySet), o.keysErr }}))
	mailConfig := humaapi.MailConfig{Service: letters, Token: adminToken}
	if o.mail != nil {
		o.mail(&mailConfig)
	}
	asides, err := event.NewAsideService(event.AsideConfig{Asides: s.store.Asides})
	require.NoError(t, err)
	require.NoError(t, humaapi.RegisterEvents(s.api, humaapi.EventsConfig{Service: asides, Token: mailConfig.Token}))
	require.NoError(t, humaapi.RegisterMail(s.api, mailConfig))
	require.NoError(t, humaapi.RegisterRenewal(s.api, humaapi.RenewalConfig{Renew: accounts.RenewMail, Token: mailConfig.Token}))
	require.NoError(t, humaapi.RegisterHealth(s.api, o.health))
	require.NoError(t, humaapi.RegisterDocs(s.api, humaapi.DocsConfig{User: "linkdocs", Password: "linkdocspass"}))
	require.NoError(t, humaapi.RegisterAsyncAPI(s.api, []byte(`{"asyncapi":"3.0.0"}`), []byte("asyncapi: 3.0.0\n")))
	t.Cleanup(s.checkDocumented)
	return s
}

// Write takes the log.
func (s *system) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.Write(line)
}

func (s *system) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.String()
}

func (s *system) record(ctx huma.Context, next func(huma.Context)) {
	next(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	id := ctx.Operation().OperationID
	if s.seen[id] == nil {
		s.seen[id] = map[int]bool{}
	}
	s.seen[id][ctx.Status()] = true
}

func (s *system) checkDocumented() {
	documented := map[string]*huma.Operation{}
	for _, op := range operations(s.api) {
		documented[op.OperationID] = op
	}
	for id, statuses := range s.seen {
		for status := range statuses {
			if op := documented[id]; assert.NotNil(s.t, op, "operation %s is not in the document", id) {
				assert.Contains(s.t, op.Responses, strconv.Itoa(status), "%s answered %d, which is not in the document", id, status)
			}
		}
	}
}

func operations(api *humaapi.API) []*huma.Operation {
	var all []*huma.Operation
	for _, item := range api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				all = append(all, op)
			}
		}
	}
	return all
}

// answer is what came back.
type answer struct {
	*http.Response
	body string
}

type header struct{ name, value string }

func bearer(token string) header { return header{"Authorization", "Bearer " + token} }

func (s *system) do(method, path, body string, headers ...header) answer {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		r.Header.Set(h.name, h.value)
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	result := w.Result()
	result.Request = r
	text, err := io.ReadAll(result.Body)
	require.NoError(s.t, err)
	return answer{Response: result, body: string(text)}
}

func (s *system) get(path string, headers ...header) answer { return s.do("GET", path, "", headers...) }

func (s *system) post(path string, body any, headers ...header) answer {
	s.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(s.t, err)
	return s.do("POST", path, string(text), headers...)
}

func (s *system) form(path string, fields url.Values) answer {
	s.t.Helper()
	return s.do("POST", path, fields.Encode(), header{"Content-Type", "application/x-www-form-urlencoded"})
}

// object reads a JSON answer.
func (s *system) object(a answer) map[string]any {
	s.t.Helper()
	require.Contains(s.t, a.Header.Get("Content-Type"), "json", a.body)
	var o map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(a.body), &o), a.body)
	return o
}

// wantStatus checks an answer that is not a failure.
func (s *system) wantStatus(a answer, status int) answer {
	s.t.Helper()
	require.Equal(s.t, status, a.StatusCode, a.body)
	return a
}

// wantProblem checks everything that holds for every failure.
func (s *system) wantProblem(a answer, status int, code string) problem.Document {
	s.t.Helper()
	require.Equal(s.t, status, a.StatusCode, a.body)
	require.Equal(s.t, "application/problem+json", a.Header.Get("Content-Type"))
	require.Equal(s.t, "no-store", a.Header.Get("Cache-Control"))
	require.Equal(s.t, "nosniff", a.Header.Get("X-Content-Type-Options"))
	var d problem.Document
	strict := json.NewDecoder(strings.NewReader(a.body))
	strict.DisallowUnknownFields()
	require.NoError(s.t, strict.Decode(&d), a.body)
	require.Equal(s.t, code, d.Code, a.body)
	require.Equal(s.t, "/problems/"+code, d.Type)
	require.Equal(s.t, status, d.Status)
	require.NotEmpty(s.t, d.Title)
	if status == http.StatusUnauthorized {
		require.NotEmpty(s.t, a.Header.Get("WWW-Authenticate"))
	}
	return d
}

// code returns the newest code that was mailed to Ada.
func (s *system) code() string {
	s.t.Helper()
	events, err := s.store.Outbox.Pending(s.t.Context(), 1000)
	require.NoError(s.t, err)
	code := ""
	for _, e := range events {
		var data struct{ Email, VerificationCode, ResetCode string }
		require.NoError(s.t, json.Unmarshal(e.Data, &data))
		if data.Email == ada && data.VerificationCode+data.ResetCode != "" {
			code = data.VerificationCode + data.ResetCode
		}
	}
	require.NotEmpty(s.t, code, "no code was mailed")
	return code
}

type fields = map[string]any

func (s *system) signUp() {
	s.t.Helper()
	s.wantStatus(s.post("/auth/signup", fields{"fullName": "Ada Lovelace", "email": ada, "password": password}), http.StatusAccepted)
}

// verified makes Ada's account, ready to sign in.
func (s *system) verified() {
	s.t.Helper()
	s.signUp()
	s.wantStatus(s.post("/auth/verify", fields{"code": s.code()}), http.StatusOK)
}

// signIn opens a session of Ada's and returns its tokens.
func (s *system) signIn() (access, refresh string) {
	s.t.Helper()
	o := s.object(s.wantStatus(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusOK))
	return o["accessToken"].(string), o["refreshToken"].(string)
}

// errSecret is what a store says that does not answer.
var errSecret = errors.New("dial tcp 10.0.0.7:5432: password of role parley is hunter2")

// failingUsers and failingCodes are stores that do not answer.
type failingUsers struct{ user.Repository }

func (failingUsers) ByEmail(context.Context, user.Email) (user.User, error) {
	return user.User{}, errSecret
}

type failingCodes struct{ auth.CodeStore }

func (failingCodes) Use(context.Context, string, time.Time) (auth.Code, error) {
	return auth.Code{}, errSecret
}
