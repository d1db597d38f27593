package humaapi_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

type listedUser struct {
	ID, FullName, Email, Role string
	VerifiedAt, DisabledAt    time.Time
	Erased                    bool
}

// parse reads JSON.
func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

type listedPage struct {
	Users      []listedUser
	NextCursor string
}

func TestUsersAreListedInPages(t *testing.T) {
	t.Parallel()
	w := newWhole(t, all)
	admin := bearer(adminToken)
	for n := range 4 {
		require.NoError(t, w.ports.Users.Create(t.Context(), user.User{
			ID: user.ID(fmt.Sprintf("u%d", n+2)), FullName: fmt.Sprintf("Bob %d", n), Email: user.Email(fmt.Sprintf("bob%d@example.com", n)), CreatedAt: time.Now(),
		}))
	}
	list := func(query string) listedPage {
		t.Helper()
		return parse[listedPage](t, w.wantStatus(w.get("/admin/users"+query, admin), 200).body)
	}
	var ids []string
	for cursor := ""; ; {
		p := list("?limit=2&cursor=" + cursor)
		require.LessOrEqual(t, len(p.Users), 2)
		for _, u := range p.Users {
			ids = append(ids, u.ID)
		}
		if cursor = p.NextCursor; cursor == "" {
			break
		}
	}
	assert.Equal(t, []string{"u1", "u2", "u3", "u4", "u5"}, ids)
	assert.Len(t, list("").Users, 5)
	for query, want := range map[string]int{"BOB": 4, "bob3@": 1, "ada@": 1, "Ada L": 1, "lovelace": 0, "b_b": 0, "%": 0} {
		p := list("?query=" + url.QueryEscape(query))
		assert.Len(t, p.Users, want, query)
		assert.Empty(t, p.NextCursor)
	}
	assert.NotContains(t, w.get("/admin/users", admin).body, "secret")
	w.wantProblem(w.get("/admin/users?limit=0", admin), 422, "invalid")
	w.wantProblem(w.get("/admin/users?limit=1001", admin), 422, "invalid")
	w.wantProblem(w.get("/admin/users?page=1", admin), 422, "invalid")
	w.wantProblem(w.get("/admin/users?query="+strings.Repeat("x", 255), admin), 422, "invalid")
	w.wantProblem(w.get("/admin/users"), 401, "unauthenticated")
}

func TestAnAccountIsMadeAndChanged(t *testing.T) {
	t.Parallel()
	w := newWhole(t, all)
	admin := bearer(adminToken)
	made := parse[listedUser](t, w.wantStatus(w.do("POST", "/admin/users", `{"fullName":"Bob Noyce","email":"BOB@example.com","role":"admin","invite":true}`, admin), 201).body)
	assert.Equal(t, "bob@example.com", made.Email)
	assert.Equal(t, "admin", made.Role)
	assert.True(t, made.VerifiedAt.IsZero())
	w.wantProblem(w.do("POST", "/admin/users", `{"fullName":"Bob","email":"bob@example.com"}`, admin), 409, "email_taken")
	w.wantProblem(w.do("POST", "/admin/users", `{"fullName":"Bob","email":"bob"}`, admin), 422, "email_invalid")
	w.wantProblem(w.do("POST", "/admin/users", `{"fullName":"","email":"b@example.com"}`, admin), 422, "full_name_invalid")
	w.wantProblem(w.do("POST", "/admin/users", `{"fullName":"Bob","email":"b@example.com","role":"root"}`, admin), 422, "invalid")

	path := "/admin/users/" + made.ID
	change := func(path, body string) listedUser {
		t.Helper()
		return parse[listedUser](t, w.wantStatus(w.do("PATCH", path, body, admin), 200).body)
	}
	assert.False(t, change(path, `{"verified":true}`).VerifiedAt.IsZero())
	for _, body := range []string{`{"disabled":true}`, `{"role":"user"}`} {
		w.wantProblem(w.do("PATCH", path, body, admin), 409, "last_admin")
	}
	w.wantProblem(w.do("DELETE", path, "", admin), 409, "last_admin")
	assert.Equal(t, "admin", change("/admin/users/u1", `{"role":"admin"}`).Role)
	assert.False(t, change("/admin/users/bob%40example.com", `{"disabled":true}`).DisabledAt.IsZero())
	assert.True(t, change(path, `{"disabled":false,"role":"user"}`).DisabledAt.IsZero())
	w.wantProblem(w.do("PATCH", path, `{"disabled":"yes"}`, admin), 422, "invalid")
	w.wantProblem(w.do("PATCH", "/admin/users/nobody", `{"disabled":true}`, admin), 404, "user_not_found")

	w.wantStatus(w.do("DELETE", "/admin/users/u1/sessions", "", admin), 204)
	going, err := w.Auth.Sessions(t.Context(), "u1")
	require.NoError(t, err)
	assert.Empty(t, going)
	w.wantProblem(w.do("DELETE", "/admin/users/nobody/sessions", "", admin), 404, "user_not_found")
	_, err = w.Auth.SignIn(t.Context(), auth.Client{}, ada, "anything")
	require.Error(t, err)
}

// A program that keeps no accounts has no calls about them.
func TestWithoutAccountsNobodyIsListed(t *testing.T) {
	t.Parallel()
	w := newWhole(t, func(w *whole) humaapi.UsersConfig {
		return humaapi.UsersConfig{Chat: w.Chat, Erase: w.EraseUser}
	})
	w.wantStatus(w.get("/admin/users", bearer(adminToken)), 404)
}
