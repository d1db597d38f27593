package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// TestAUserIsDisabledAndEnabled by the commands, while a socket is open.
func TestAUserIsDisabledAndEnabled(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--admin-token", adminToken)
	admin := func(args ...string) outcome {
		t.Helper()
		return execute(t, nil, append([]string{"user", args[0], "--admin-token", adminToken, "--url", s.admin}, args[1:]...)...)
	}
	ada := s.member(t, "Ada Lovelace")
	ended := make(chan error, 1)
	s.connect(t, ada.AccessToken, func(e wsclient.Event) {
		if e.Kind == wsclient.EventDisconnected {
			select {
			case ended <- e.Err:
			default:
			}
		}
	})
	list := admin("list", "ADA").succeeded(t)
	assert.Contains(t, list, ada.User.ID)
	assert.Contains(t, list, "verified")
	assert.NotContains(t, admin("list", "bob").succeeded(t), ada.User.ID)

	assert.Contains(t, admin("disable", "ada.lovelace@example.com").succeeded(t), `"disabledAt"`)
	select {
	case err := <-ended:
		var closed *wsclient.CloseError
		require.ErrorAs(t, err, &closed)
		assert.EqualValues(t, 4401, closed.Code)
	case <-time.After(patience):
		require.FailNow(t, "the socket of a user who is disabled stays open")
	}
	assert.Contains(t, admin("list").succeeded(t), "disabled")
	signIn := func(password string) reply {
		t.Helper()
		r, err := ask(t.Context(), http.MethodPost, s.url+"/auth/signin", "", map[string]string{"email": "ada.lovelace@example.com", "password": password})
		require.NoError(t, err)
		return r
	}
	wrong, right := signIn("another horse"), signIn(password)
	assert.Equal(t, http.StatusUnauthorized, right.status)
	assert.Equal(t, string(wrong.body), string(right.body))
	must(t, 401, "POST", s.url+"/auth/refresh", "", map[string]string{"refreshToken": ada.RefreshToken})
	must(t, 401, "GET", s.url+"/auth/me", ada.AccessToken, nil)

	assert.NotContains(t, admin("enable", ada.User.ID).succeeded(t), `"disabledAt"`)
	again := s.signIn(t, "ada.lovelace@example.com")
	assert.Contains(t, admin("password", ada.User.ID).succeeded(t), "on its way")
	admin("sessions", ada.User.ID).succeeded(t)
	must(t, 401, "GET", s.url+"/auth/me", again.AccessToken, nil)

	assert.Contains(t, admin("role", ada.User.ID, "admin").succeeded(t), `"role": "admin"`)
	assert.Contains(t, admin("disable", ada.User.ID).refused(t), "last administrator")
	assert.Contains(t, admin("create", "bob@example.com", "Bob Noyce", "--role", "admin", "--invite").succeeded(t), `"bob@example.com"`)
	assert.Contains(t, s.mailTo(t, "bob@example.com").Subject, "Your account")
	assert.Contains(t, admin("verify", "bob@example.com").succeeded(t), `"verifiedAt"`)
	assert.NotContains(t, admin("verify", "--undo", "bob@example.com").succeeded(t), `"verifiedAt"`)
	admin("role", ada.User.ID, "user").succeeded(t)

	// What was done stands in the log, newest first, also in that of a program that was started again.
	record := func(args ...string) []string {
		t.Helper()
		text := execute(t, nil, append([]string{"audit", "--admin-token", adminToken, "--url", s.admin}, args...)...).succeeded(t)
		return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	lines := record("--limit", "0")
	assert.Len(t, lines, 10, "%s", strings.Join(lines, "\n"))
	var e struct{ Action, Target, Outcome, Actor string }
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &e))
	assert.Equal(t, "change-user", e.Action)
	assert.Equal(t, ada.User.ID, e.Target)
	assert.Equal(t, "done", e.Outcome)
	assert.Contains(t, strings.Join(lines, " "), "refused 409")
	assert.NotContains(t, strings.Join(lines, " "), "example.com")
	assert.Equal(t, lines[:2], record("--limit", "2"))
}
