package humaapi_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// setAside commits events named e1, e2, …, and sets them aside. The last is of another topic, and its data is no JSON.
func (s *system) setAside(n int) {
	s.t.Helper()
	for i := 1; i <= n; i++ {
		id := fmt.Sprintf("e%d", i)
		e := event.Event{ID: id, Topic: "mail", Type: "user.created", Key: "k" + id, Time: s.clock.now(), Data: []byte(`{"code":"topsecret"}`)}
		if i == n {
			e.Topic, e.Data = "session", []byte(`{"broken`)
		}
		require.NoError(s.t, s.store.Users.Create(s.t.Context(), user.User{ID: user.ID(id), Email: user.Email(id)}, e))
		require.NoError(s.t, s.store.Outbox.SetAside(s.t.Context(), id, "the event is larger than the broker allows"))
	}
}

func (s *system) pending() []string {
	s.t.Helper()
	events, err := s.store.Outbox.Pending(s.t.Context(), 100)
	require.NoError(s.t, err)
	ids := []string{}
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

func events(o map[string]any) []string {
	ids := []string{}
	for _, e := range o["events"].([]any) {
		if whole, ok := e.(map[string]any); ok {
			ids = append(ids, whole["id"].(string))
		} else {
			ids = append(ids, e.(string))
		}
	}
	return ids
}

func TestEventsAsideAreListedAndShown(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	admin := bearer(adminToken)
	assert.JSONEq(t, `{"events":[]}`, s.wantStatus(s.get("/events/aside", admin), 200).body)
	s.setAside(4)
	list := func(query string) map[string]any {
		a := s.wantStatus(s.get("/events/aside"+query, admin), 200)
		assert.NotContains(t, a.body, "topsecret")
		return s.object(a)
	}
	assert.Equal(t, []string{"e1", "e2", "e3", "e4"}, events(list("")))
	first := list("?limit=3")
	assert.Equal(t, []string{"e1", "e2", "e3"}, events(first))
	second := list("?limit=3&cursor=" + first["nextCursor"].(string))
	assert.Equal(t, []string{"e4"}, events(second))
	assert.NotContains(t, second, "nextCursor")
	assert.Equal(t, []string{"e4"}, events(list("?topic=session")))
	assert.Equal(t, []string{"e2"}, events(list("?type=user.created&key=ke2")))
	assert.Empty(t, events(list("?type=nothing")))

	one := s.wantStatus(s.get("/events/aside/e1", admin), 200)
	assert.JSONEq(t, `{"id":"e1","topic":"mail","type":"user.created","key":"ke1","time":"2026-03-01T12:00:00Z","size":20,
		"reason":"the event is larger than the broker allows"}`, one.body)
	assert.Contains(t, s.wantStatus(s.get("/events/aside/e1?data=true", admin), 200).body, `"data":{"code":"topsecret"}`)
	assert.Equal(t, `{"broken`, s.object(s.wantStatus(s.get("/events/aside/e4?data=true", admin), 200))["data"])
	s.wantProblem(s.get("/events/aside/none", admin), 404, "event_not_found")
	for path, place := range map[string]string{
		"/events/aside?limit=0": "query.limit", "/events/aside?limit=1001": "query.limit", "/events/aside?colour=red": "query.colour",
	} {
		assert.Equal(t, place, s.wantProblem(s.get(path, admin), 422, "invalid").Errors[0].Location)
	}
}

func TestEventsAsideAreReplayedAndDiscarded(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.setAside(5)
	admin := bearer(adminToken)
	assert.Empty(t, s.wantStatus(s.do("POST", "/events/aside/e3/replay", "", admin), 204).body)
	assert.Equal(t, []string{"e3"}, s.pending())
	s.wantProblem(s.do("POST", "/events/aside/e3/replay", "", admin), 404, "event_not_found")
	s.wantProblem(s.do("DELETE", "/events/aside/e3", "", admin), 404, "event_not_found")
	assert.Empty(t, s.wantStatus(s.do("DELETE", "/events/aside/e1", "", admin), 204).body)
	s.wantProblem(s.get("/events/aside/e1", admin), 404, "event_not_found")

	replay := func(body any) map[string]any {
		return s.object(s.wantStatus(s.post("/events/aside/replay", body, admin), 200))
	}
	dry := replay(fields{"dryRun": true})
	assert.Equal(t, []string{"e2", "e4", "e5"}, events(dry))
	assert.Equal(t, true, dry["dryRun"])
	assert.Equal(t, []string{"e3"}, s.pending(), "a dry run changes nothing")
	assert.Equal(t, []string{"e5"}, events(replay(fields{"filter": fields{"topic": "session"}})))
	assert.Equal(t, []string{"e2"}, events(replay(fields{"filter": fields{"limit": 1, "type": "user.created"}})))
	assert.Equal(t, []string{"e4"}, events(replay(fields{})))
	assert.Empty(t, events(replay(fields{})))
	assert.Equal(t, []string{"e3", "e5", "e2", "e4"}, s.pending())
	s.wantProblem(s.post("/events/aside/replay", fields{"filter": fields{"limit": 1001}}, admin), 422, "invalid")
	s.wantProblem(s.post("/events/aside/replay", fields{"filter": nil}, admin), 422, "invalid")
}

var eventCalls = []struct{ method, path, body string }{
	{"GET", "/events/aside", ""}, {"GET", "/events/aside/e1", ""}, {"DELETE", "/events/aside/e1", ""},
	{"POST", "/events/aside/e1/replay", ""}, {"POST", "/events/aside/replay", "{}"},
}

func TestEventsNeedTheAdminToken(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.setAside(1)
	s.verified()
	access, _ := s.signIn()
	before := s.pending()
	for _, c := range eventCalls {
		s.wantProblem(s.do(c.method, c.path, c.body), http.StatusUnauthorized, "unauthenticated")
		for _, token := range []string{"open-sesam", "Open-Sesame-Open-Sesame", access} {
			s.wantProblem(s.do(c.method, c.path, c.body, bearer(token)), http.StatusUnauthorized, "token_invalid")
		}
	}
	assert.Equal(t, before, s.pending(), "nothing was changed")
	s.wantStatus(s.get("/events/aside/e1", bearer(adminToken)), 200)

	off := newSystem(t, options{mail: func(c *humaapi.MailConfig) { c.Token = "" }})
	for _, c := range eventCalls {
		d := off.wantProblem(off.do(c.method, c.path, c.body, bearer("x")), http.StatusForbidden, "event_admin_disabled")
		assert.Contains(t, d.Detail, "PARLEY_ADMIN_TOKEN")
	}
}
