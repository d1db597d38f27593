package wsclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/fault"
)

func serveHTTP(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	return web.URL
}

// accounts is a server that keeps one session: a refresh token that is used twice ends it.
type accounts struct {
	url     string
	expires float64 // of access tokens, in seconds

	mu      sync.Mutex
	n       int
	ended   bool
	asked   []string
	answers map[string]http.HandlerFunc // the next answer to a path, in place of the usual one
}

func newAccounts(t *testing.T) *accounts {
	a := &accounts{expires: 900, answers: map[string]http.HandlerFunc{}}
	a.url = serveHTTP(t, a.serve)
	return a
}

func (a *accounts) next(path string, answer http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[path] = answer
}

func (a *accounts) calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

func (a *accounts) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	answer := a.answers[r.URL.Path]
	delete(a.answers, r.URL.Path)
	a.asked = append(a.asked, r.URL.Path)
	a.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var in struct{ Email, Password, RefreshToken string }
	_ = json.NewDecoder(r.Body).Decode(&in)
	grant := func() {
		a.n++
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"accessToken":"a%d","expiresIn":%v,"refreshToken":"r%d","user":{"id":"u1","fullName":"Ada Lovelace","email":"ada@example.com"}}`, a.n, a.expires, a.n)
	}
	switch r.URL.Path {
	case "/auth/signin":
		if in.Password != "right" {
			refuse(w, 401, "invalid_credentials")
			return
		}
		grant()
	case "/auth/refresh":
		if a.ended = a.ended || in.RefreshToken != fmt.Sprintf("r%d", a.n); a.ended {
			refuse(w, 401, "session_ended")
			return
		}
		grant()
	case "/auth/signout", "/auth/signout/all":
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer a%d", a.n) {
			refuse(w, 401, "token_invalid")
			return
		}
		a.ended = true
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "3")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"/problems/%s","title":"no","detail":"never","status":%d,"code":%q}`, code, status, code)
}

func (a *accounts) signIn(t *testing.T) *wsclient.Session {
	t.Helper()
	s, err := wsclient.SignIn(t.Context(), wsclient.SessionConfig{Server: a.url + "/"}, "ada@example.com", "right")
	require.NoError(t, err)
	return s
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	a := newAccounts(t)
	s := a.signIn(t)
	assert.Equal(t, wsclient.Account{ID: "u1", FullName: "Ada Lovelace", Email: "ada@example.com"}, s.Account())
	assert.Equal(t, "ws"+a.url[len("http"):]+"/socket", s.SocketURL())
	_, err := wsclient.SignIn(t.Context(), wsclient.SessionConfig{Server: a.url}, "ada@example.com", "wrong")
	var problem *wsclient.Problem
	require.ErrorAs(t, err, &problem)
	assert.Equal(t, wsclient.Problem{Status: 401, Code: "invalid_credentials", Title: "no", Detail: "never", RetryAfter: 3 * time.Second}, *problem)
	require.ErrorIs(t, err, fault.Unauthenticated)
	for _, server := range []string{"", "chat.example.com", "ws://chat.example.com", "://"} {
		_, err := wsclient.SignIn(t.Context(), wsclient.SessionConfig{Server: server}, "ada@example.com", "right")
		assert.ErrorContains(t, err, "SessionConfig.Server", server)
	}
}

func TestTokenIsKeptUntilHalfOfItsLife(t *testing.T) {
	t.Parallel()
	a := newAccounts(t)
	s := a.signIn(t)
	token := func(refused string) string {
		got, err := s.Token(t.Context(), refused)
		require.NoError(t, err)
		return got
	}
	assert.Equal(t, "a1", token(""))
	assert.Equal(t, "a1", token("another"))
	assert.Equal(t, "a2", token("a1"))
	assert.Equal(t, "a2", token("a1"), "it is a former one that was refused")
	assert.Equal(t, "r2", s.RefreshToken())
	a.expires = 0.000001
	assert.Equal(t, "a3", token("a2"))
	assert.Equal(t, "a4", token(""), "its life is over")
}

func TestManyAskForATokenAtOnce(t *testing.T) {
	t.Parallel()
	a := newAccounts(t)
	s := a.signIn(t)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			got, err := s.Token(t.Context(), "a1")
			assert.NoError(t, err)
			assert.Equal(t, "a2", got)
		})
	}
	all.Wait()
	assert.Equal(t, []string{"/auth/signin", "/auth/refresh"}, a.calls())
}

// TestAnswersOfStrangers lets something else than the server answer. Only the server ends a session.
func TestAnswersOfStrangers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"401 in HTML":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401); _, _ = fmt.Fprint(w, "<h1>Proxy") },
		"403":                   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"200 in HTML":           func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<h1>Hotel") },
		"200 without tokens":    func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "{}") },
		"503 of the server":     func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "unavailable") },
		"429 of the server":     func(w http.ResponseWriter, _ *http.Request) { refuse(w, 429, "too_many_attempts") },
		"the connection is cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccounts(t)
			s := a.signIn(t)
			a.next("/auth/refresh", answer)
			_, err := s.Token(t.Context(), "a1")
			if name == "the connection is cut" {
				require.NoError(t, err, "it was asked again")
				return
			}
			var problem *wsclient.Problem
			require.ErrorAs(t, err, &problem)
			require.NotErrorIs(t, err, fault.Unauthenticated)
			got, err := s.Token(t.Context(), "a1")
			require.NoError(t, err)
			assert.Equal(t, "a2", got)
		})
	}
}

func TestTheServerEndsASession(t *testing.T) {
	t.Parallel()
	a := newAccounts(t)
	s := a.signIn(t)
	a.next("/auth/refresh", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 401, "session_ended") })
	for range 2 {
		_, err := s.Token(t.Context(), "a1")
		require.ErrorIs(t, err, fault.Unauthenticated)
	}
	assert.Len(t, a.calls(), 2, "it is not asked again")
	require.NoError(t, s.SignOut(t.Context(), false))
}

func TestWaitingForATokenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	a := newAccounts(t)
	s := a.signIn(t)
	asked := make(chan struct{})
	a.next("/auth/refresh", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or nobody sees that the client goes
		close(asked)
		<-r.Context().Done()
	})
	first, giveUp := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	go func() {
		_, err := s.Token(first, "a1")
		errs <- err
	}()
	<-asked
	second, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Token(second, "a1")
	require.ErrorIs(t, err, context.Canceled, "it does not wait for its turn")
	giveUp()
	require.ErrorIs(t, <-errs, context.Canceled)
	got, err := s.Token(t.Context(), "a1")
	require.NoError(t, err)
	assert.Equal(t, "a2", got)
}

func TestResumeAndSignOut(t *testing.T) {
	t.Parallel()
	for everywhere, path := range map[bool]string{false: "/auth/signout", true: "/auth/signout/all"} {
		a := newAccounts(t)
		kept := a.signIn(t).RefreshToken()
		s, err := wsclient.Resume(t.Context(), wsclient.SessionConfig{Server: a.url}, kept)
		require.NoError(t, err)
		assert.Equal(t, "u1", s.Account().ID)
		assert.Equal(t, "r2", s.RefreshToken())
		require.NoError(t, s.SignOut(t.Context(), everywhere))
		assert.Equal(t, path, a.calls()[2])
		_, err = s.Token(t.Context(), "")
		require.ErrorIs(t, err, fault.Unauthenticated)
		_, err = wsclient.Resume(t.Context(), wsclient.SessionConfig{Server: a.url}, "r2")
		require.ErrorIs(t, err, fault.Unauthenticated)
	}
}
