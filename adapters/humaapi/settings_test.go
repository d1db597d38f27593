package humaapi_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
)

// receipts sets whether others are told how far somebody has read.
func (w *world) receipts(token, on string) {
	w.t.Helper()
	a := w.wantStatus(w.do("PATCH", "/me/settings", `{"readReceipts":`+on+`}`, bearer(token)), 200)
	assert.JSONEq(w.t, `{"readReceipts":`+on+`}`, a.body)
}

// readOf is how far each member has read a room, as somebody is told.
func (w *world) readOf(who answer) map[string]any {
	w.t.Helper()
	read := map[string]any{}
	for _, m := range w.object(w.wantStatus(who, 200))["members"].([]any) {
		m := m.(map[string]any)
		read[m["user"].(map[string]any)["id"].(string)] = m["read"]
	}
	return read
}

func TestSettingsOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(bobAuthor, "hall")
	w.join(adaAuthor, "hall")
	_, err := w.chat.SetRole(t.Context(), chat.Actor{Author: chat.System, Any: true}, "hall", bobAuthor.ID, chat.Owner)
	require.NoError(t, err)
	for range 3 {
		w.say(bobToken, "hall", "x")
	}
	w.wantStatus(w.do("PUT", "/rooms/hall/read", `{"seq":2}`, bearer(adaToken)), 200)
	settings := func(token string) string {
		t.Helper()
		return w.wantStatus(w.get("/me/settings", bearer(token)), 200).body
	}
	assert.JSONEq(t, `{"readReceipts":true}`, settings(adaToken))
	everybody := map[string]any{"u-ada": 2.0, "u-bob": 3.0}
	assert.Equal(t, everybody, w.readOf(w.get("/rooms/hall/members", bearer(bobToken))))

	for range 2 { // again is harmless
		w.receipts(adaToken, "false")
	}
	assert.JSONEq(t, `{"readReceipts":false}`, settings(adaToken))
	assert.JSONEq(t, `{"readReceipts":false}`, w.wantStatus(w.do("PATCH", "/me/settings", `{}`, bearer(adaToken)), 200).body, "what is not given stays")
	assert.JSONEq(t, `{"readReceipts":true}`, settings(bobToken))
	hidden := map[string]any{"u-ada": nil, "u-bob": 3.0}
	assert.Equal(t, hidden, w.readOf(w.get("/rooms/hall/members", bearer(bobToken))))
	assert.Equal(t, hidden, w.readOf(w.admin.get("/rooms/hall/members", bearer(adminToken))))
	assert.Equal(t, everybody, w.readOf(w.get("/rooms/hall/members", bearer(adaToken))), "she is told herself, and how far others are")
	role := w.wantStatus(w.do("PUT", "/rooms/hall/members/u-ada", `{"role":"moderator"}`, bearer(bobToken)), 200)
	assert.NotContains(t, role.body, "read\"")
	assert.JSONEq(t, `{"read":2,"unread":1}`, w.wantStatus(w.do("PUT", "/rooms/hall/read", `{"seq":0}`, bearer(adaToken)), 200).body)
	mine := w.object(w.get("/rooms/mine", bearer(adaToken)))["rooms"].([]any)[0].(map[string]any)
	assert.Equal(t, []any{2.0, 1.0}, []any{mine["read"], mine["unread"]})

	w.receipts(adaToken, "true")
	assert.Equal(t, everybody, w.readOf(w.get("/rooms/hall/members", bearer(bobToken))))
}

func TestSettingsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, body := range []string{`{"readReceipts":null}`, `{"readReceipts":"no"}`, `{"readReceipts":0}`, `{"other":true}`, `[]`, `null`} {
		assert.Equal(t, 422, w.do("PATCH", "/me/settings", body, bearer(adaToken)).StatusCode, body)
	}
	w.wantProblem(w.get("/me/settings"), 401, "unauthenticated")
	w.wantProblem(w.do("PATCH", "/me/settings", `{}`), 401, "unauthenticated")
}
