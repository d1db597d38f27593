package humaapi_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// roomOperations are a call of each operation about one room.
func roomOperations(room string) []struct{ method, path, body string } {
	at := "/rooms/" + encoded(room)
	return []struct{ method, path, body string }{
		{"GET", at + "/messages", ""},
		{"POST", at + "/messages", `{"text":"hello"}`},
		{"PATCH", at + "/messages/1", `{"text":"hello"}`},
		{"PUT", at + "/messages/1/reactions/a", ""},
		{"DELETE", at + "/messages/1/reactions/a", ""},
		{"PUT", at + "/read", `{"seq":1}`},
		{"DELETE", at + "/messages/1", ""},
	}
}

func TestWhoMayCallAboutRooms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall", "secret")
	w.say(adaToken, "hall", "hello")
	w.rules.access = func(who chat.Author, what chat.Action, room string) error {
		if room == "secret" && who.ID == bobAuthor.ID {
			return chat.ErrNotAllowed
		}
		return nil
	}
	for _, c := range roomOperations("hall") {
		w.wantProblem(w.do(c.method, c.path, c.body), 401, "unauthenticated")
		w.wantProblem(w.do(c.method, c.path, c.body, bearer("made-up")), 401, "credentials_unknown")
		w.wantProblem(w.do(c.method, c.path, c.body, bearer(adminToken)), 401, "credentials_unknown")
		w.wantProblem(w.do(c.method, c.path, c.body, bearer(bobToken)), 403, "not_a_member")
		if !strings.HasSuffix(c.path, "/read") {
			w.admin.wantProblem(w.admin.do(c.method, c.path, c.body), 401, "unauthenticated")
			w.admin.wantProblem(w.admin.do(c.method, c.path, c.body, bearer(adaToken)), 401, "token_invalid")
		}
	}
	for _, path := range []string{"/rooms", "/rooms/mine"} {
		w.wantProblem(w.get(path), 401, "unauthenticated")
		w.wantProblem(w.get(path, bearer("made-up")), 401, "credentials_unknown")
	}
	for _, room := range []string{"secret", "nowhere"} {
		for _, c := range roomOperations(room) {
			w.wantProblem(w.do(c.method, c.path, c.body, bearer(bobToken)), 404, "room_not_found")
		}
	}
	for _, c := range roomOperations("nowhere") {
		if !strings.HasSuffix(c.path, "/read") {
			w.admin.wantProblem(w.admin.do(c.method, c.path, c.body, bearer(adminToken)), 404, "room_not_found")
		}
	}
	// A member whom the rule refuses later.
	w.rules.access = func(who chat.Author, what chat.Action, _ string) error {
		if who.ID == adaAuthor.ID && (what == chat.ActionSend || what == chat.ActionRead) {
			return chat.ErrNotAllowed.Detail("not today")
		}
		return nil
	}
	for _, c := range roomOperations("hall") {
		d := w.wantProblem(w.do(c.method, c.path, c.body, bearer(adaToken)), 403, "not_allowed")
		assert.Equal(t, "not today", d.Detail)
	}
	assert.JSONEq(t, `{"rooms":[]}`, w.wantStatus(w.get("/rooms/mine", bearer(adaToken)), 200).body)
	// Who has left is a stranger.
	w.rules.access = nil
	require.NoError(t, w.chat.Leave(t.Context(), adaAuthor.ID, "hall"))
	for _, c := range roomOperations("hall") {
		w.wantProblem(w.do(c.method, c.path, c.body, bearer(adaToken)), 403, "not_a_member")
	}
	// A rule that cannot tell is no refusal.
	w.join(adaAuthor, "hall")
	w.rules.access = func(chat.Author, chat.Action, string) error {
		return fault.Wrap(fault.Unavailable, errors.New("10.0.0.7 is away"))
	}
	for _, c := range append(roomOperations("hall"), struct{ method, path, body string }{"GET", "/rooms", ""}, struct{ method, path, body string }{"GET", "/rooms/mine", ""}) {
		a := w.do(c.method, c.path, c.body, bearer(adaToken))
		w.wantProblem(a, 503, "unavailable")
		assert.NotContains(t, a.body, "10.0.0.7")
	}
}

func TestRulesAreAskedOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.rules.screen = func(d chat.Draft) (chat.Draft, error) {
		switch {
		case strings.Contains(d.Text, "spam"):
			return d, chat.ErrRefused.Detail("no advertising")
		case strings.Contains(d.Text, "down"):
			return d, errors.New("10.0.0.7 is away")
		}
		d.Text = strings.ReplaceAll(d.Text, "darn", "****")
		return d, nil
	}
	calls := []struct {
		method, path string
		status       int
	}{{"POST", "/rooms/hall/messages", 201}, {"PATCH", "/rooms/hall/messages/1", 200}}
	for _, c := range calls {
		for _, side := range []struct {
			s          *system
			token, who string
			access     bool // it is asked about changes
		}{{w.system, adaToken, "u-ada", true}, {w.admin, adminToken, "system", c.method == "POST"}} {
			w.rules.since()
			side.s.wantStatus(side.s.do(c.method, c.path, `{"text":"darn `+side.who+`"}`, bearer(side.token)), c.status)
			asked := w.rules.since()
			assert.Contains(t, asked, side.who+" says darn "+side.who+" in hall", c.method)
			assert.Equal(t, side.access, slices.Contains(asked, side.who+" send hall"), "%s %s: %v", side.who, c.method, asked)
			d := side.s.wantProblem(side.s.do(c.method, c.path, `{"text":"spam"}`, bearer(side.token)), 403, "message_refused")
			assert.Equal(t, "no advertising", d.Detail)
			a := side.s.do(c.method, c.path, `{"text":"down"}`, bearer(side.token))
			side.s.wantProblem(a, 503, "unavailable")
			assert.NotContains(t, a.body, "10.0.0.7")
		}
	}
	o := w.object(w.get("/rooms/hall/messages", bearer(adaToken)))
	assert.Equal(t, "**** system", o["messages"].([]any)[0].(map[string]any)["text"])
}

func TestOperatorsSpeakInRooms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.say(adaToken, "hall", "one")
	send := func(body string) answer { return w.admin.do("POST", "/rooms/hall/messages", body, bearer(adminToken)) }
	w.admin.wantStatus(send(`{"text":"maintenance at noon"}`), 201)
	w.admin.wantStatus(send(`{"text":"12 °C","clientId":"w-1","replyTo":1,"data":{"c":12},"as":{"id":"weather-bot","name":"Weather"}}`), 201)
	for name, as := range map[string]string{
		"null": `null`, "a name": `"Bob"`, "no id": `{"name":"Bob"}`, "no name": `{"id":"b"}`, "more": `{"id":"b","name":"Bob","role":"owner"}`,
	} {
		w.admin.wantProblem(send(`{"text":"a","as":`+as+`}`), 422, "invalid")
		assert.NotEmpty(t, name)
	}
	for _, as := range []string{`{"id":"","name":"Bob"}`, `{"id":"b","name":" "}`, `{"id":"` + strings.Repeat("b", chat.MaxAuthorID+1) + `","name":"Bob"}`} {
		d := w.admin.wantProblem(send(`{"text":"a","as":`+as+`}`), 422, "author_invalid")
		assert.Equal(t, "body.as", d.Errors[0].Location)
	}
	w.admin.wantProblem(w.admin.do("PATCH", "/rooms/hall/messages/1", `{"text":"a","as":{"id":"b","name":"Bob"}}`, bearer(adminToken)), 422, "invalid")
	for _, c := range []struct{ method, path, body, want string }{
		{"PATCH", "1", `{"text":"one, moderated"}`, `{"seq":1,"rev":1}`},
		{"PUT", "1/reactions/%E2%9C%94", "", `{"seq":1,"rev":2}`},
		{"DELETE", "3", "", `{"seq":3,"rev":3}`},
	} {
		assert.JSONEq(t, c.want, w.admin.wantStatus(w.admin.do(c.method, "/rooms/hall/messages/"+c.path, c.body, bearer(adminToken)), 200).body)
	}
	o := w.object(w.get("/rooms/hall/messages", bearer(adaToken)))
	messages := o["messages"].([]any)
	require.Len(t, messages, 3)
	one, two, three := messages[0].(map[string]any), messages[1].(map[string]any), messages[2].(map[string]any)
	assert.Equal(t, "one, moderated", one["text"])
	assert.Equal(t, map[string]any{"id": "u-ada", "name": "Ada Lovelace"}, one["user"])
	assert.Equal(t, []any{map[string]any{"key": "✔", "count": 1.0, "users": []any{"system"}}}, one["reactions"])
	assert.Equal(t, map[string]any{"id": "system", "name": "System"}, two["user"])
	assert.Equal(t, map[string]any{"id": "weather-bot", "name": "Weather"}, three["user"])
	assert.Equal(t, "", three["text"])

	off, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
	require.NoError(t, err)
	require.NoError(t, humaapi.RegisterRoomsAdmin(off, humaapi.RoomsAdminConfig{Service: w.chat}))
	closed := &system{t: t, api: off}
	closed.wantProblem(closed.get("/rooms", bearer(adminToken)), 403, "room_admin_disabled")
}

func TestCallsOfAUserAreLimited(t *testing.T) {
	t.Parallel()
	c := &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w := newWorld(t, func(cfg *humaapi.RoomsConfig) {
		cfg.Limiter, cfg.Rate, cfg.Now = memory.NewLimiter(memory.LimiterConfig{}), auth.Rate{Burst: 3, Per: 6 * time.Second}, c.now
	})
	w.join(adaAuthor, "hall")
	w.join(bobAuthor, "hall")
	for range 3 {
		w.say(adaToken, "hall", "hello")
	}
	a := w.post("/rooms/hall/messages", fields{"text": "hello"}, bearer(adaToken))
	w.wantProblem(a, 429, "too_fast")
	assert.Equal(t, "2", a.Header.Get("Retry-After"))
	w.wantProblem(w.get("/rooms/mine", bearer(adaToken)), 429, "too_fast")
	w.say(bobToken, "hall", "others are not")
	w.wantProblem(w.get("/rooms/mine", bearer("made-up")), 401, "credentials_unknown")
	for range 10 {
		w.admin.wantStatus(w.admin.get("/rooms", bearer(adminToken)), 200)
	}
	c.advance(2 * time.Second)
	w.say(adaToken, "hall", "hello again")
	w.wantProblem(w.get("/rooms", bearer(adaToken)), 429, "too_fast")
}

func TestPagesOfOtherOriginsMayUseRooms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for path, methods := range map[string][]string{
		"/rooms": {"GET"}, "/rooms/mine": {"GET"}, "/rooms/hall/messages": {"GET", "POST"}, "/rooms/%2F/messages": {"GET", "POST"}, "/rooms/hall/messages/1": {"PATCH", "DELETE"},
		"/rooms/hall/messages/1/reactions/a": {"PUT", "DELETE"}, "/rooms/%2F/messages/1/reactions/%2F": {"PUT", "DELETE"}, "/rooms/hall/read": {"PUT"},
	} {
		for _, method := range methods {
			a := preflight(w.api, method, path, page)
			assert.Equal(t, http.StatusNoContent, a.Code, path)
			assert.Equal(t, page, a.Header().Get("Access-Control-Allow-Origin"), "%s %s", method, path)
			assert.Equal(t, method, a.Header().Get("Access-Control-Allow-Methods"), path)
		}
		assert.Empty(t, preflight(w.admin.api, methods[0], path, "https://evil.example").Header().Get("Access-Control-Allow-Origin"))
	}
}
