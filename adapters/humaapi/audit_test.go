package humaapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// auditLog fails when it is told to.
type auditLog struct {
	audit.Log
	broken bool
}

func (l *auditLog) Append(ctx context.Context, e audit.Entry) error {
	if l.broken {
		return errSecret
	}
	return l.Log.Append(ctx, e)
}

const secondToken = "the second administrator's"

// newAudited is a system whose operators are recorded. They have two tokens.
func newAudited(t *testing.T, guesses auth.Rate) (*whole, *auditLog) {
	t.Helper()
	w := &whole{system: &system{t: t, seen: map[string]map[int]bool{}}, ports: memory.NewPorts()}
	log := &auditLog{Log: memory.NewAuditLog()}
	service, err := audit.New(audit.Config{Log: log})
	require.NoError(t, err)
	w.System, err = parley.New(parley.Config{Ports: w.ports, PublicURL: "http://localhost", EraseAfter: time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
	w.api, err = humaapi.New(http.NewServeMux(), humaapi.Config{Audit: service, AdminGuesses: guesses})
	require.NoError(t, err)
	w.api.UseMiddleware(w.record)
	tokens := adminToken + ", " + secondToken
	cfg := all(w)
	cfg.Token = tokens
	require.NoError(t, humaapi.RegisterUsers(w.api, cfg))
	require.NoError(t, humaapi.RegisterMail(w.api, humaapi.MailConfig{Service: w.DeadLetters, Token: tokens}))
	require.NoError(t, humaapi.RegisterRoomsAdmin(w.api, humaapi.RoomsAdminConfig{Service: w.Chat, Token: tokens}))
	require.NoError(t, humaapi.RegisterAudit(w.api, humaapi.AuditConfig{Service: service, Token: tokens}))
	t.Cleanup(w.checkDocumented)
	require.NoError(t, w.ports.Users.Create(t.Context(), user.User{
		ID: "u1", FullName: "Ada Lovelace", Email: ada, PasswordHash: "secret-hash", CreatedAt: time.Now(), VerifiedAt: time.Now(),
	}))
	return w, log
}

type audited struct {
	Entries []struct {
		ID, Actor, Action, Target, Network, Outcome string
		At                                          time.Time
		Detail                                      json.RawMessage
	}
	NextCursor string
}

func TestWhatAdministratorsDoIsRecorded(t *testing.T) {
	t.Parallel()
	w, _ := newAudited(t, auth.Rate{})
	first, second := bearer(adminToken), bearer(secondToken)
	do := func(status int, method, path, body string, h header) {
		t.Helper()
		w.wantStatus(w.do(method, path, body, h), status)
	}
	do(200, "PATCH", "/admin/users/Ada%40example.com", `{"disabled":true}`, first)
	do(200, "PATCH", "/admin/users/u1", `{"disabled":false,"role":"admin"}`, second)
	do(409, "PATCH", "/admin/users/u1", `{"role":"user"}`, first)
	do(202, "POST", "/admin/users/ada%40example.com/password", "", second)
	do(404, "POST", "/admin/users/nobody/password", "", second)
	do(404, "PATCH", "/admin/users/nobody%40example.com", `{"role":"user"}`, first)
	do(201, "POST", "/admin/users", `{"fullName":"Bob Noyce","email":"bob@example.com","role":"admin","invite":true}`, first)
	do(204, "DELETE", "/admin/users/u1/sessions", "", first)
	do(200, "DELETE", "/admin/users/u1", "", second)
	do(200, "POST", "/mail/jobs/replay", `{"filter":{"to":"ada@example.com"},"dryRun":true}`, first)
	do(404, "DELETE", "/mail/jobs/ada%40example.com", "", first)
	do(201, "POST", "/rooms", `{"name":"a@hall","title":"a title"}`, first)
	do(200, "PUT", "/rooms/a%40hall/members/u2", `{"role":"moderator"}`, first)
	do(204, "PUT", "/rooms/a%40hall/bans/u3", `{"reason":"a reason"}`, first)
	do(201, "POST", "/rooms/a%40hall/messages", `{"text":"a text"}`, first)
	do(200, "GET", "/admin/users", "", first)
	do(401, "DELETE", "/admin/users/u1", "", bearer("nobody's token at all"))

	text := w.wantStatus(w.get("/admin/audit?limit=1000", first), 200).body
	got := parse[audited](t, text)
	bob := parse[listedUser](t, w.get("/admin/users/bob%40example.com", first).body)
	type line struct{ Actor, Action, Target, Detail, Outcome string }
	var lines []line
	for _, e := range got.Entries {
		actor, _, _ := strings.Cut(strings.TrimPrefix(e.Actor, "token:"), ":")
		lines = append(lines, line{actor, e.Action, e.Target, string(e.Detail), e.Outcome})
		assert.WithinDuration(t, time.Now(), e.At, time.Minute)
		assert.Equal(t, "192.0.2.0/24", e.Network, "the address of httptest's client, shortened")
		assert.Len(t, strings.Split(e.Actor, ":")[2], 8)
	}
	assert.Equal(t, []line{
		{"1", "admin-ban-user", "a@hall/u3", "", "done"},
		{"1", "admin-set-member", "a@hall/u2", `{"role":"moderator"}`, "done"},
		{"1", "admin-create-room", "", "", "done"},
		{"1", "discard-mail-job", "", "", "refused 404"},
		{"1", "replay-mail-jobs", "", `{"dryRun":true}`, "done"},
		{"2", "erase-user", "u1", "", "done"},
		{"1", "end-user-sessions", "u1", "", "done"},
		{"1", "create-user", bob.ID, `{"invite":true,"role":"admin"}`, "done"},
		{"1", "change-user", "", `{"role":"user"}`, "refused 404"},
		{"2", "mail-user-password", "nobody", "", "refused 404"},
		{"2", "mail-user-password", "u1", "", "done"},
		{"1", "change-user", "u1", `{"role":"user"}`, "refused 409"},
		{"2", "change-user", "u1", `{"disabled":false,"role":"admin"}`, "done"},
		{"1", "change-user", "u1", `{"disabled":true}`, "done"},
	}, lines)
	for _, told := range []string{"@example", "Ada", "Bob", "reason", "text", "title", adminToken, secondToken, "secret"} {
		assert.NotContains(t, text, told)
	}
	var ids []string
	for cursor := ""; ; {
		p := parse[audited](t, w.wantStatus(w.get("/admin/audit?limit=5&cursor="+cursor, second), 200).body)
		for _, e := range p.Entries {
			ids = append(ids, e.ID)
		}
		if cursor = p.NextCursor; cursor == "" {
			break
		}
	}
	assert.Len(t, ids, 14)
	w.wantProblem(w.get("/admin/audit"), 401, "unauthenticated")
	w.wantProblem(w.get("/admin/audit?limit=0", first), 422, "invalid")
}

// What cannot be recorded is not done.
func TestWhatCannotBeRecordedIsRefused(t *testing.T) {
	t.Parallel()
	w, log := newAudited(t, auth.Rate{})
	admin := bearer(adminToken)
	log.broken = true
	for _, c := range []struct{ method, path, body string }{
		{"PATCH", "/admin/users/u1", `{"disabled":true}`}, {"DELETE", "/admin/users/u1", ""}, {"DELETE", "/admin/users/u1/sessions", ""},
		{"POST", "/admin/users", `{"fullName":"Bob","email":"bob@example.com"}`}, {"POST", "/mail/jobs/replay", `{}`}, {"POST", "/rooms", `{"name":"hall"}`},
	} {
		w.wantProblem(w.do(c.method, c.path, c.body, admin), 503, "audit_unavailable")
	}
	u, err := w.Auth.Find(t.Context(), "u1")
	require.NoError(t, err)
	assert.False(t, u.Disabled() || u.Erased())
	_, err = w.Auth.Find(t.Context(), "bob@example.com")
	require.ErrorIs(t, err, user.ErrNotFound)
	w.wantStatus(w.get("/admin/users/u1", admin), 200)
	log.broken = false
	w.wantStatus(w.do("PATCH", "/admin/users/u1", `{"disabled":true}`, admin), 200)
}

func TestGuessesOfTokensAreLimited(t *testing.T) {
	t.Parallel()
	w, _ := newAudited(t, auth.Rate{Burst: 3, Per: time.Hour})
	for range 20 {
		w.wantStatus(w.get("/admin/users", bearer(adminToken)), 200)
		w.wantStatus(w.get("/admin/users", bearer(secondToken)), 200)
	}
	for n := range 3 {
		w.wantProblem(w.get("/admin/users", bearer(strings.Repeat("x", 20+n))), 401, "token_invalid")
	}
	refused := w.get("/admin/users", bearer(adminToken))
	w.wantProblem(refused, 429, "too_many_attempts")
	assert.NotEmpty(t, refused.Header.Get("Retry-After"))
	w.wantProblem(w.get("/admin/audit", bearer("another guess of a token")), 429, "too_many_attempts")
}

func TestTokensOfAdministrators(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string][]string{
		"": {}, " , \n": {}, "one": {"one"}, "one,two": {"one", "two"}, " one \r\n two\n": {"one", "two"}, "one,\ntwo,": {"one", "two"},
	} {
		assert.Equal(t, want, humaapi.AdminTokens(setting), setting)
	}
	api, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
	require.NoError(t, err)
	require.ErrorContains(t, humaapi.RegisterAudit(api, humaapi.AuditConfig{Service: new(audit.Service), Token: "long enough for a token,short"}), "16 characters")
}
