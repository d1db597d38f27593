package humaapi_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// enqueue puts jobs named j1, j2, … on the queue, of which the given number become dead letters.
func (s *system) enqueue(total, dead int) {
	s.t.Helper()
	now := s.clock.now()
	for i := range total {
		require.NoError(s.t, s.store.MailQueue.Enqueue(s.t.Context(), mail.Job{
			ID: fmt.Sprintf("j%d", i+1), Key: fmt.Sprintf("e%d", i+1), Kind: mail.KindVerification, Name: "Ada",
			To: user.Email(fmt.Sprintf("user%d@example.com", i+1)), Data: []byte(`{"code":"topsecret"}`),
			RunAt: now, CreatedAt: now, UpdatedAt: now,
		}))
	}
	for range dead {
		j, ok, err := s.store.MailQueue.Claim(s.t.Context(), now, time.Minute)
		require.NoError(s.t, err)
		require.True(s.t, ok)
		require.NoError(s.t, s.store.MailQueue.Settle(s.t.Context(), j, mail.Outcome{State: mail.Dead, At: now, Error: "550 no such user"}))
	}
}

func jobs(o map[string]any) []string {
	var ids []string
	for _, j := range o["jobs"].([]any) {
		if job, ok := j.(map[string]any); ok {
			ids = append(ids, job["id"].(string))
		} else {
			ids = append(ids, j.(string))
		}
	}
	return ids
}

func TestMailJobsAreListedInPages(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(5, 2)
	admin := bearer(adminToken)
	assert.Equal(t, []string{"j1", "j2", "j3", "j4", "j5"}, jobs(s.object(s.wantStatus(s.get("/mail/jobs", admin), 200))))
	first := s.object(s.wantStatus(s.get("/mail/jobs?limit=3", admin), 200))
	assert.Equal(t, []string{"j1", "j2", "j3"}, jobs(first))
	second := s.object(s.wantStatus(s.get("/mail/jobs?limit=3&cursor="+first["nextCursor"].(string), admin), 200))
	assert.Equal(t, []string{"j4", "j5"}, jobs(second))
	assert.NotContains(t, second, "nextCursor")
	assert.Equal(t, []string{"j1", "j2"}, jobs(s.object(s.wantStatus(s.get("/mail/jobs?state=dead", admin), 200))))
	assert.Equal(t, []string{"j4"}, jobs(s.object(s.wantStatus(s.get("/mail/jobs?to=User4@example.com", admin), 200))))
	assert.Contains(t, s.wantStatus(s.get("/mail/jobs?state=sent", admin), 200).body, `"jobs":[]`)
}

func TestMailDataIsShownOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(1, 1)
	admin := bearer(adminToken)
	for _, path := range []string{"/mail/jobs", "/mail/jobs/j1", "/mail/jobs?data=false", "/mail/jobs/j1?data=false"} {
		assert.NotContains(t, s.wantStatus(s.get(path, admin), 200).body, "topsecret", path)
	}
	for _, path := range []string{"/mail/jobs?data=true", "/mail/jobs/j1?data=true"} {
		assert.Contains(t, s.wantStatus(s.get(path, admin), 200).body, `"data":{"code":"topsecret"}`, path)
	}
	o := s.object(s.get("/mail/jobs/j1", admin))
	assert.Equal(t, "dead", o["state"])
	assert.Equal(t, "user1@example.com", o["to"])
	assert.Equal(t, "verification", o["kind"])
	assert.Equal(t, "550 no such user", o["lastError"])
	assert.EqualValues(t, 1, o["attempts"])
}

func TestDataThatIsNotJSONIsShownAsText(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	now := s.clock.now()
	require.NoError(t, s.store.MailQueue.Enqueue(t.Context(), mail.Job{
		ID: "j1", Key: "e1", Kind: mail.KindVerification, To: ada, Data: []byte(`{"broken`), RunAt: now, CreatedAt: now, UpdatedAt: now,
	}))
	o := s.object(s.wantStatus(s.get("/mail/jobs/j1?data=true", bearer(adminToken)), 200))
	assert.Equal(t, `{"broken`, o["data"])
}

func TestReplayAndDiscard(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(5, 3)
	admin := bearer(adminToken)
	assert.Empty(t, s.wantStatus(s.do("POST", "/mail/jobs/j1/replay", "", admin), 204).body)
	assert.Equal(t, "ready", s.object(s.get("/mail/jobs/j1", admin))["state"])
	s.wantProblem(s.do("POST", "/mail/jobs/j1/replay", "", admin), 409, "job_not_dead")
	s.wantProblem(s.do("POST", "/mail/jobs/none/replay", "", admin), 404, "job_not_found")

	assert.Empty(t, s.wantStatus(s.do("DELETE", "/mail/jobs/j2", "", admin), 204).body)
	s.wantProblem(s.get("/mail/jobs/j2", admin), 404, "job_not_found")
	s.wantProblem(s.do("DELETE", "/mail/jobs/j2", "", admin), 404, "job_not_found")
	s.wantProblem(s.do("DELETE", "/mail/jobs/j5", "", admin), 409, "job_not_dead")

	stats := s.wantStatus(s.get("/mail/stats", admin), 200)
	assert.JSONEq(t, `{"ready":3,"running":0,"sent":0,"dead":1}`, stats.body)
}

func TestReplayMany(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(4, 3)
	admin := bearer(adminToken)
	replay := func(body any) map[string]any {
		return s.object(s.wantStatus(s.post("/mail/jobs/replay", body, admin), 200))
	}
	dry := replay(fields{"dryRun": true})
	assert.Equal(t, []string{"j1", "j2", "j3"}, jobs(dry))
	assert.Equal(t, true, dry["dryRun"])
	assert.Equal(t, []string{"j2"}, jobs(replay(fields{"filter": fields{"to": "user2@example.com"}})))
	assert.Equal(t, []string{"j1"}, jobs(replay(fields{"filter": fields{"limit": 1}})))
	assert.Equal(t, []string{"j3"}, jobs(replay(fields{})))
	assert.Empty(t, jobs(replay(fields{})))

	d := s.wantProblem(s.post("/mail/jobs/replay", fields{"filter": fields{"to": "hunter2"}}, admin), 422, "invalid")
	assert.Equal(t, "body.filter.to", d.Errors[0].Location)
	s.wantProblem(s.post("/mail/jobs/replay", fields{"filter": fields{"state": "dead"}}, admin), 422, "invalid")
	s.wantProblem(s.post("/mail/jobs/replay", fields{"filter": fields{"limit": 1001}}, admin), 422, "invalid")
}

func TestDiscardMany(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(4, 3)
	admin := bearer(adminToken)
	discard := func(body any) map[string]any {
		return s.object(s.wantStatus(s.post("/mail/jobs/discard", body, admin), 200))
	}
	s.wantProblem(s.post("/mail/jobs/discard", fields{}, admin), 422, "invalid") // all of them by a mistake
	assert.Equal(t, []string{"j2"}, jobs(discard(fields{"filter": fields{"to": "user2@example.com"}, "dryRun": true})))
	assert.Equal(t, []string{"j2"}, jobs(discard(fields{"filter": fields{"to": "user2@example.com"}})))
	assert.Empty(t, jobs(discard(fields{"filter": fields{"kind": "reset"}})))
	assert.Equal(t, []string{"j1", "j3"}, jobs(discard(fields{"filter": fields{"kind": "verification", "error": "NO SUCH USER"}})))
	assert.JSONEq(t, `{"ready":1,"running":0,"sent":0,"dead":0}`, s.wantStatus(s.get("/mail/stats", admin), 200).body)
}

func TestTheHistoryIsShownAndEndlessReplaysAreRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(1, 0)
	admin := bearer(adminToken)
	for n := range 6 {
		now := s.clock.now()
		j, found, err := s.store.MailQueue.Claim(t.Context(), now, time.Minute)
		require.NoError(t, err)
		require.True(t, found)
		require.NoError(t, s.store.MailQueue.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: now, Error: "550 no", History: []mail.Attempt{{Number: 1, At: now, Error: "550 no"}}}))
		if n < 5 {
			s.wantStatus(s.do("POST", "/mail/jobs/j1/replay", "", admin), 204)
		}
	}
	job := s.object(s.wantStatus(s.get("/mail/jobs/j1", admin), 200))
	assert.EqualValues(t, 5, job["replays"])
	require.Len(t, job["history"], 1)
	first := job["history"].([]any)[0].(map[string]any)
	assert.EqualValues(t, 1, first["number"])
	assert.Equal(t, "550 no", first["error"])
	assert.NotEmpty(t, first["at"])

	s.wantProblem(s.do("POST", "/mail/jobs/j1/replay", "", admin), 409, "job_replayed_too_often")
	done := s.object(s.wantStatus(s.post("/mail/jobs/replay", fields{}, admin), 200))
	assert.Empty(t, jobs(done))
	assert.Equal(t, []any{"j1"}, done["refused"])
	done = s.object(s.wantStatus(s.post("/mail/jobs/replay", fields{"force": true, "dryRun": true}, admin), 200))
	assert.Equal(t, []string{"j1"}, jobs(done))
	s.wantStatus(s.do("POST", "/mail/jobs/j1/replay?force=true", "", admin), 204)
}

var adminCalls = []struct{ method, path, body string }{
	{"GET", "/mail/jobs", ""}, {"GET", "/mail/jobs/j1", ""}, {"DELETE", "/mail/jobs/j1", ""}, {"GET", "/mail/stats", ""},
	{"POST", "/mail/jobs/j1/replay", ""}, {"POST", "/mail/jobs/replay", "{}"}, {"POST", "/mail/jobs/discard", `{"filter":{}}`},
}

func TestMailsNeedTheAdminToken(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.enqueue(1, 1)
	s.verified()
	access, _ := s.signIn()
	for _, c := range adminCalls {
		s.wantProblem(s.do(c.method, c.path, c.body), http.StatusUnauthorized, "unauthenticated")
		for _, token := range []string{"open-sesam", "open-sesame!", "Open-Sesame", access} {
			s.wantProblem(s.do(c.method, c.path, c.body, bearer(token)), http.StatusUnauthorized, "token_invalid")
		}
	}
	assert.Equal(t, "dead", s.object(s.get("/mail/jobs/j1", bearer(adminToken)))["state"], "nothing was changed")
}

func TestWithoutAnAdminTokenMailsAreSwitchedOff(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{mail: func(c *humaapi.MailConfig) { c.Token = "" }})
	for _, c := range adminCalls {
		for _, token := range []string{"", "x"} {
			d := s.wantProblem(s.do(c.method, c.path, c.body, bearer(token)), http.StatusForbidden, "mail_admin_disabled")
			assert.Contains(t, d.Detail, "PARLEY_ADMIN_TOKEN")
		}
	}
}

func TestATokenThatCanBeGuessedIsRefused(t *testing.T) {
	t.Parallel()
	queue := memory.NewStore().MailQueue
	letters, err := mail.NewDeadLetterService(mail.DeadLetterConfig{Letters: queue, Stats: queue})
	require.NoError(t, err)
	renew := func(context.Context, mail.Job) ([]byte, error) { return nil, nil }
	for _, token := range []string{"x", "fifteen-letters"} {
		api, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
		require.NoError(t, err)
		assert.ErrorContains(t, humaapi.RegisterMail(api, humaapi.MailConfig{Service: letters, Token: token}), "16 characters")
		assert.ErrorContains(t, humaapi.RegisterRenewal(api, humaapi.RenewalConfig{Renew: renew, Token: token}), "16 characters")
	}
}

func TestTheTokenCanChange(t *testing.T) {
	t.Parallel()
	current := "the-first-token-of-two"
	s := newSystem(t, options{mail: func(c *humaapi.MailConfig) { c.CurrentToken = func() string { return current } }})
	ask := func(token string) int { return s.get("/mail/stats", bearer(token)).StatusCode }
	assert.Equal(t, http.StatusOK, ask("the-first-token-of-two"))
	current = "the-second-token-of-two"
	assert.Equal(t, http.StatusUnauthorized, ask("the-first-token-of-two"))
	assert.Equal(t, http.StatusOK, ask("the-second-token-of-two"))
	current = "short"
	assert.Equal(t, http.StatusForbidden, ask("short"), "what is too short opens nothing")
}
