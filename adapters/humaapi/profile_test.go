package humaapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// mailed returns the data of the newest event of that type.
func (s *system) mailed(kind string) map[string]any {
	s.t.Helper()
	events, err := s.store.Outbox.Pending(context.Background(), 10_000)
	require.NoError(s.t, err)
	data := map[string]any{}
	for _, e := range events {
		if e.Type == kind {
			clear(data)
			require.NoError(s.t, json.Unmarshal(e.Data, &data))
		}
	}
	require.NotEmpty(s.t, data, kind)
	return data
}

func TestChangeMe(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, refresh := s.signIn()
	patch := func(body string) answer { return s.do("PATCH", "/auth/me", body, bearer(access)) }
	o := s.object(s.wantStatus(patch(`{"fullName":" Ada  King","language":"DE-ch","avatarUrl":"https://example.com/a.png"}`), http.StatusOK))
	assert.Equal(t, []string{"avatarUrl", "email", "fullName", "id", "isVerified", "language"}, keys(o))
	assert.Equal(t, []any{"Ada King", "de-CH", "https://example.com/a.png"}, []any{o["fullName"], o["language"], o["avatarUrl"]})
	assert.Equal(t, o, s.object(s.wantStatus(s.get("/auth/me", bearer(access)), http.StatusOK)))
	assert.Equal(t, o, s.object(s.wantStatus(s.post("/auth/refresh", fields{"refreshToken": refresh}), http.StatusOK))["user"])
	assert.Equal(t, o, s.object(s.wantStatus(patch(`{}`), http.StatusOK)))

	for body, c := range map[string]struct {
		status               int
		code, location, says string
	}{
		`{"fullName":""}`:                                  {422, "full_name_invalid", "body.fullName", "it is empty"},
		`{"language":"en_GB"}`:                             {422, "language_invalid", "body.language", ""},
		`{"avatarUrl":"javascript:alert(1)"}`:              {422, "avatar_url_invalid", "body.avatarUrl", "it is not an absolute address of http or https"},
		`{"avatarUrl":"/a.png"}`:                           {422, "avatar_url_invalid", "body.avatarUrl", "it is not an absolute address of http or https"},
		`{"fullName":null}`:                                {422, "invalid", "body.fullName", "null is no value here"},
		`{"language":null}`:                                {422, "invalid", "body.language", "null is no value here"},
		`{"avatarUrl":null}`:                               {422, "invalid", "body.avatarUrl", "null is no value here"},
		`{"fullName":7}`:                                   {422, "invalid", "body.fullName", "expected string"},
		`{"email":"eve@example.com"}`:                      {422, "invalid", "body.email", "unexpected property"},
		`{"fullname":"Eve"}`:                               {422, "invalid", "body.fullName", "it is written in another letter case"},
		`{"role":"admin","isVerified":true}`:               {422, "invalid", "", ""},
		`{"fullName":"Eve","fullName":"Mallory"}`:          {422, "invalid", "body.fullName", "it stands twice"},
		`{"language":"` + strings.Repeat("a-", 999) + `"}`: {422, "language_invalid", "body.language", "it is longer than 35 characters"},
		`null`: {422, "invalid", "", ""},
		``:     {400, "malformed", "", ""},
	} {
		d := s.wantProblem(patch(body), c.status, c.code)
		if c.location != "" {
			require.NotEmpty(t, d.Errors, body)
			assert.Equal(t, c.location, d.Errors[0].Location, body)
		}
		if c.says != "" {
			assert.Contains(t, d.Detail+d.Errors[0].Message, c.says, body)
		}
	}
	o["language"], o["avatarUrl"] = nil, nil
	taken := s.object(s.wantStatus(patch(`{"language":"","avatarUrl":""}`), http.StatusOK))
	assert.Equal(t, []string{"email", "fullName", "id", "isVerified"}, keys(taken), "as older clients know it")
}

func TestSignUpTakesTheLanguageOfTheBrowser(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.wantStatus(s.post("/auth/signup", fields{"fullName": "Ada", "email": ada, "password": password}, header{"Accept-Language", "fr-ca, en;q=0.5"}), http.StatusAccepted)
	s.wantStatus(s.post("/auth/verify", fields{"code": s.mailed(mail.TypeUserCreated)["verificationCode"]}), http.StatusOK)
	access, _ := s.signIn()
	assert.Equal(t, "fr-CA", s.object(s.wantStatus(s.get("/auth/me", bearer(access)), http.StatusOK))["language"])
}

func TestChangeMyEmail(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	here, _ := s.signIn()
	there, _ := s.signIn()
	s.wantStatus(s.post("/auth/signup", fields{"fullName": "Bob", "email": "bob@example.com", "password": password}), http.StatusAccepted)
	s.wantStatus(s.post("/auth/verify", fields{"code": s.mailed(mail.TypeUserCreated)["verificationCode"]}), http.StatusOK)
	ask := func(email, password string) answer {
		return s.post("/auth/me/email", fields{"email": email, "password": password}, bearer(here))
	}
	d := s.wantProblem(ask("nonsense", password), http.StatusUnprocessableEntity, "email_invalid")
	assert.Equal(t, "body.email", d.Errors[0].Location)
	s.wantProblem(ask(ada, password), http.StatusUnprocessableEntity, "email_same")
	s.wantProblem(ask("ada@example.org", "not it at all"), http.StatusUnauthorized, "invalid_credentials")
	taken := s.wantStatus(ask("bob@example.com", password), http.StatusAccepted)
	free := s.wantStatus(ask("ada@example.org", password), http.StatusAccepted)
	assert.Equal(t, taken.body, free.body, "the answer does not tell")

	code := s.mailed(mail.TypeEmailChangeRequested)["changeCode"]
	verify := func(code any) answer { return s.post("/auth/me/email/verify", fields{"code": code}, bearer(here)) }
	s.wantProblem(verify("nonsense"), http.StatusBadRequest, "code_unknown")
	s.wantProblem(s.post("/auth/me/email/verify", fields{"code": code}), http.StatusUnauthorized, "unauthenticated")
	o := s.object(s.wantStatus(verify(code), http.StatusOK))
	assert.Equal(t, "ada@example.org", o["email"])
	s.wantProblem(verify(code), http.StatusGone, "code_gone")
	assert.Equal(t, ada, s.mailed(mail.TypeEmailChanged)["email"])
	s.wantStatus(s.get("/auth/me", bearer(here)), http.StatusOK)
	s.wantProblem(s.get("/auth/me", bearer(there)), http.StatusUnauthorized, "session_ended")

	// Another has got it meanwhile.
	s.wantStatus(ask("ada@example.net", password), http.StatusAccepted)
	s.wantStatus(s.post("/auth/signup", fields{"fullName": "Eve", "email": "ada@example.net", "password": password}), http.StatusAccepted)
	s.wantStatus(s.post("/auth/verify", fields{"code": s.mailed(mail.TypeUserCreated)["verificationCode"]}), http.StatusOK)
	s.wantProblem(verify(s.mailed(mail.TypeEmailChangeRequested)["changeCode"]), http.StatusConflict, "email_taken")
}

func TestDeleteMe(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) { c.SignInRate = auth.Rate{Burst: 5, Per: time.Hour} }})
	s.verified()
	access, _ := s.signIn()
	del := func(body string) answer { return s.do("DELETE", "/auth/me", body, bearer(access)) }
	s.wantProblem(del(`{"password":"not it at all"}`), http.StatusUnauthorized, "invalid_credentials")
	s.wantProblem(del(`{}`), http.StatusUnprocessableEntity, "invalid")
	s.wantProblem(del(`{"password":null}`), http.StatusUnprocessableEntity, "invalid")
	s.wantProblem(del(``), http.StatusBadRequest, "malformed")
	s.wantStatus(s.get("/auth/me", bearer(access)), http.StatusOK)
	s.wantStatus(del(`{"password":"`+password+`"}`), http.StatusNoContent)
	s.wantProblem(s.get("/auth/me", bearer(access)), http.StatusUnauthorized, "session_ended")
	s.wantProblem(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusUnauthorized, "invalid_credentials")

	guessed := newSystem(t, options{auth: func(c *auth.Config) { c.SignInRate = auth.Rate{Burst: 2, Per: time.Hour} }})
	guessed.verified()
	access, _ = guessed.signIn()
	for range 2 {
		guessed.wantProblem(guessed.do("DELETE", "/auth/me", `{"password":"a guess"}`, bearer(access)), http.StatusUnauthorized, "invalid_credentials")
	}
	guessed.wantProblem(guessed.do("DELETE", "/auth/me", `{"password":"`+password+`"}`, bearer(access)), http.StatusTooManyRequests, "too_many_attempts")
}

// brokenLog is an audit log that cannot be written.
type brokenLog struct{ audit.Log }

func (brokenLog) Append(context.Context, audit.Entry) error { return errSecret }

// Whoever erases their own account is recorded before, and the erasure goes on when they do not wait for it.
func TestDeleteMeIsRecordedAndGoesOn(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	tokens := memory.NewTokens(memory.TokensConfig{})
	accounts, err := auth.New(auth.Config{
		Users: store.Users, Directory: store.Users, Sessions: store.Sessions, Codes: store.Codes, SignUps: store.SignUps, Nonces: store.Nonces, Hasher: memory.NewHasher(), Issuer: tokens, Verifier: tokens,
		Limiter: memory.NewLimiter(memory.LimiterConfig{}),
	})
	require.NoError(t, err)
	hash, err := memory.NewHasher().Hash(t.Context(), password)
	require.NoError(t, err)
	serve := func(log audit.Log, erase func(ctx context.Context, id string) (parley.UserErasure, error)) *httptest.Server {
		service, err := audit.New(audit.Config{Log: log})
		require.NoError(t, err)
		api, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
		require.NoError(t, err)
		require.NoError(t, humaapi.RegisterAuth(api, humaapi.AuthConfig{Service: accounts, Erase: erase, Audit: service}))
		server := httptest.NewServer(api)
		t.Cleanup(server.Close)
		return server
	}
	somebody := func(id user.ID, role user.Role) string {
		require.NoError(t, store.Users.Create(t.Context(), user.User{
			ID: id, FullName: "Ada", Email: user.Email(id) + "@example.com", PasswordHash: hash, VerifiedAt: time.Unix(1, 0), CreatedAt: time.Unix(1, 0), PasswordChangedAt: time.Unix(1, 0), Role: role,
		}))
		g, err := accounts.SignIn(t.Context(), auth.Client{}, string(id)+"@example.com", password)
		require.NoError(t, err)
		return g.AccessToken
	}
	call := func(ctx context.Context, server *httptest.Server, token string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodDelete, server.URL+"/auth/me", strings.NewReader(`{"password":"`+password+`"}`))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		return server.Client().Do(r)
	}
	status := func(server *httptest.Server, token string) int {
		a, err := call(t.Context(), server, token)
		require.NoError(t, err)
		require.NoError(t, a.Body.Close())
		return a.StatusCode
	}
	entries := func() []audit.Entry {
		all, err := store.Audit.List(t.Context(), "", 100)
		require.NoError(t, err)
		for i := range all {
			all[i].ID, all[i].At = "", time.Time{}
		}
		return all
	}
	whole := func(ctx context.Context, id string) (parley.UserErasure, error) {
		_, err := accounts.Erase(ctx, user.ID(id))
		return parley.UserErasure{}, err
	}

	kept := somebody("kept", "")
	assert.Equal(t, http.StatusServiceUnavailable, status(serve(brokenLog{store.Audit}, whole), kept), "what cannot be recorded is not done")
	u, err := store.Users.ByID(t.Context(), "kept")
	require.NoError(t, err)
	assert.False(t, u.Erased())

	server := serve(store.Audit, whole)
	assert.Equal(t, http.StatusNoContent, status(server, kept))
	assert.Equal(t, []audit.Entry{{Actor: "user:kept", Action: "delete-me", Target: "kept", Network: "127.0.0.0/24", Outcome: "done"}}, entries())

	king := somebody("king", user.RoleAdmin)
	assert.Equal(t, http.StatusConflict, status(server, king), "the last administrator stays")
	assert.Equal(t, "refused 409", entries()[0].Outcome)
	u, err = store.Users.ByID(t.Context(), "king")
	require.NoError(t, err)
	assert.False(t, u.Erased())

	began, left, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	slow := serve(store.Audit, func(ctx context.Context, id string) (parley.UserErasure, error) {
		close(began)
		<-left
		_, err := accounts.Erase(ctx, user.ID(id))
		ended <- err
		return parley.UserErasure{}, err
	})
	impatient := somebody("impatient", "")
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		a, err := call(ctx, slow, impatient)
		if err == nil {
			_ = a.Body.Close()
		}
		gone <- err
	}()
	<-began
	leave()
	require.ErrorIs(t, <-gone, context.Canceled)
	close(left)
	require.NoError(t, <-ended)
	u, err = store.Users.ByID(t.Context(), "impatient")
	require.NoError(t, err)
	assert.True(t, u.Erased())
}
