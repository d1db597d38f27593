package humaapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listed is a session as GET /auth/sessions has it.
type listed struct {
	ID, Device, Network   string
	CreatedAt, LastSeenAt time.Time
	Current               bool
}

// TestSessionsOverREST signs in by what browsers send, and looks at the sessions and ends them.
func TestSessionsOverREST(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	call := func(method, path, token, agent, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.RemoteAddr = "198.51.100.7:1234"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("User-Agent", agent)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		return w
	}
	signIn := func(email, agent string) string {
		w := call(http.MethodPost, "/auth/signin", "", agent, `{"email":"`+email+`","password":"`+password+`"}`)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		var g struct{ AccessToken string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &g))
		return g.AccessToken
	}
	list := func(token string) []listed {
		w := call(http.MethodGet, "/auth/sessions", token, "", "")
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		assert.NotContains(t, w.Body.String(), "198.51.100.7")
		var l struct{ Sessions []listed }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &l))
		return l.Sessions
	}
	s.signUp()
	s.wantStatus(s.post("/auth/verify", fields{"code": s.code()}), http.StatusOK)
	mine := signIn(ada, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	s.clock.advance(time.Minute)
	lost := signIn(ada, "")

	all := list(mine)
	require.Len(t, all, 2)
	assert.Equal(t, listed{ID: all[0].ID, Device: "Unknown device", Network: "198.51.100.0/24", CreatedAt: all[0].CreatedAt, LastSeenAt: all[0].CreatedAt}, all[0])
	assert.Equal(t, listed{ID: all[1].ID, Device: "Firefox on Linux", Network: "198.51.100.0/24", CreatedAt: all[1].CreatedAt, LastSeenAt: all[1].CreatedAt, Current: true}, all[1])
	assert.Equal(t, time.Minute, all[0].CreatedAt.Sub(all[1].CreatedAt))
	assert.True(t, list(lost)[0].Current)

	w := call(http.MethodDelete, "/auth/sessions/"+all[0].ID, mine, "", "")
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
	require.Empty(t, w.Body.String())
	require.Equal(t, http.StatusUnauthorized, call(http.MethodGet, "/auth/sessions", lost, "", "").Code)
	var same string
	for _, id := range []string{all[0].ID, "nobody", "%00", "%2e%2e"} {
		w := call(http.MethodDelete, "/auth/sessions/"+id, mine, "", "")
		require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, w.Code, id)
		if w.Code == http.StatusNotFound {
			require.True(t, same == "" || same == w.Body.String(), "the same bytes")
			same = w.Body.String()
		}
	}
	require.Contains(t, same, "session_not_found")
	require.Len(t, list(mine), 1)
	for _, r := range []*httptest.ResponseRecorder{call(http.MethodGet, "/auth/sessions", "", "", ""), call(http.MethodDelete, "/auth/sessions/"+all[1].ID, "", "", "")} {
		require.Equal(t, http.StatusUnauthorized, r.Code)
	}
	require.Equal(t, http.StatusNoContent, call(http.MethodDelete, "/auth/sessions/"+all[1].ID, mine, "", "").Code, "a sign-out")
	require.Equal(t, http.StatusUnauthorized, call(http.MethodGet, "/auth/sessions", mine, "", "").Code)
}
