package humaapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// direct asks for the direct room of somebody and another user.
func (w *world) direct(token, with string) answer {
	w.t.Helper()
	return w.do("PUT", "/rooms/direct/"+encoded(with), "", bearer(token))
}

// blocks blocks somebody, or ends that.
func (w *world) blocks(token, method, whom string) {
	w.t.Helper()
	a := w.wantStatus(w.do(method, "/me/blocks/"+encoded(whom), "", bearer(token)), 204)
	assert.Empty(w.t, a.body)
}

func TestADirectRoomOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(bobAuthor, "hall")
	w.join(adaAuthor, "hall")
	made := w.wantStatus(w.direct(adaToken, "u-bob"), 201)
	o := w.object(made)
	name := o["name"].(string)
	assert.Equal(t, "direct", o["kind"])
	assert.Equal(t, map[string]any{"users": []any{"u-ada", "u-bob"}}, o["data"])
	for _, again := range []answer{w.direct(adaToken, "u-bob"), w.direct(bobToken, "u-ada")} {
		assert.JSONEq(t, made.body, w.wantStatus(again, 200).body)
	}
	w.say(adaToken, name, "hello")
	w.say(bobToken, name, "hello yourself")
	mine := w.object(w.get("/rooms/mine", bearer(bobToken)))["rooms"].([]any)
	assert.Len(t, mine, 2)
	assert.NotContains(t, w.get("/rooms", bearer(adaToken)).body, "direct", "no list of rooms has it")
	eve := w.as("u-eve")
	assert.Equal(t, w.wantProblem(w.get("/rooms/nowhere", bearer(eve)), 404, "room_not_found"), w.wantProblem(w.get("/rooms/"+encoded(name), bearer(eve)), 404, "room_not_found"))
	w.wantProblem(w.do("POST", "/rooms", `{"name":"direct:mine"}`, bearer(adaToken)), 422, "room_invalid")
	w.wantProblem(w.do("PUT", "/rooms/"+encoded(name)+"/members/u-eve", `{"role":"member"}`, bearer(adaToken)), 403, "role_lacks_right")

	// Who leaves gets nothing more, until either of the two asks again.
	w.wantStatus(w.do("DELETE", "/rooms/"+encoded(name)+"/members/u-bob", "", bearer(bobToken)), 204)
	w.wantProblem(w.get("/rooms/"+encoded(name), bearer(bobToken)), 404, "room_not_found")
	w.wantStatus(w.direct(adaToken, "u-bob"), 200)
	w.wantStatus(w.get("/rooms/"+encoded(name), bearer(bobToken)), 200)

	// An operator writes to a user as the system.
	system := w.admin.object(w.admin.wantStatus(w.admin.do("PUT", "/rooms/direct/u-bob", "", bearer(adminToken)), 201))
	w.admin.wantStatus(w.admin.do("POST", "/rooms/"+encoded(system["name"].(string))+"/messages", `{"text":"Welcome"}`, bearer(adminToken)), 201)
	assert.Contains(t, w.get("/rooms/"+encoded(system["name"].(string))+"/messages", bearer(bobToken)).body, "Welcome")
}

func TestDirectRoomsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(bobAuthor, "hall")
	unknown := w.wantProblem(w.direct(adaToken, "u-nobody"), 404, "user_not_found")
	for _, id := range []string{"/", "a/b", "..", ".", "👋", "u-bob\u200b", "u-bob ", " ", strings.Repeat("x", 200), "%", "?", "system"} {
		assert.Equal(t, unknown, w.wantProblem(w.direct(adaToken, id), 404, "user_not_found"), "%q", id)
	}
	own := w.wantProblem(w.direct(adaToken, "u-ada"), 422, "direct_room_invalid")
	assert.Equal(t, "path.userId", own.Errors[0].Location)
	w.wantProblem(w.do("PUT", "/rooms/direct/u-bob", ""), 401, "unauthenticated")
	w.wantProblem(w.do("PUT", "/rooms/direct/u-bob?now=1", "", bearer(adaToken)), 422, "invalid")
	w.wantStatus(w.do("PUT", "/rooms/direct/u-bob", "", bearer(adaToken)), 201)
}

// The address of direct rooms does not take that of a room which is called so, nor that of a user who is called "read".
func TestARoomThatIsCalledDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "direct")
	w.join(chat.Author{ID: "read", Name: "Read"}, "hall")
	w.join(chat.Author{ID: "members", Name: "Members"}, "hall")
	w.say(adaToken, "direct", "hello")
	assert.JSONEq(t, `{"read":1,"unread":0}`, w.wantStatus(w.do("PUT", "/rooms/direct/read", `{"seq":1}`, bearer(adaToken)), 200).body)
	w.wantStatus(w.get("/rooms/direct/members", bearer(adaToken)), 200)
	w.wantStatus(w.get("/rooms/direct/messages", bearer(adaToken)), 200)
	w.wantStatus(w.do("PUT", "/rooms/direct/%72ead", "", bearer(adaToken)), 201)
	w.wantStatus(w.do("PUT", "/rooms/direct/members", "", bearer(adaToken)), 201)
	w.wantStatus(w.do("PUT", "/rooms/direct/members/read", `{"role":"member"}`, bearer(adaToken)), 403)

	serve := func(method string, header http.Header) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/rooms/direct/u-bob", nil)
		r.Header = header
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, r)
		return rec
	}
	wrong := serve("PATCH", http.Header{})
	assert.Equal(t, http.StatusMethodNotAllowed, wrong.Code)
	assert.Equal(t, "PUT, OPTIONS", wrong.Header().Get("Allow"))
	preflight := serve("OPTIONS", http.Header{"Origin": {page}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"authorization"}})
	assert.Equal(t, page, preflight.Header().Get("Access-Control-Allow-Origin"))
	assert.Equal(t, "PUT", preflight.Header().Get("Access-Control-Allow-Methods"))
}

func TestBlocksOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	eve := w.as("u-eve")
	w.join(bobAuthor, "hall")
	w.join(adaAuthor, "hall")
	w.join(chat.Author{ID: "u-eve", Name: "Eve"}, "hall")
	list := func(query string) string {
		t.Helper()
		return w.wantStatus(w.get("/me/blocks"+query, bearer(adaToken)), 200).body
	}
	assert.JSONEq(t, `{"blocks":[]}`, list(""))
	room := encoded(w.object(w.wantStatus(w.direct(eve, "u-ada"), 201))["name"].(string))
	w.say(eve, "hall", "in the hall")
	for range 2 {
		w.blocks(adaToken, "PUT", "u-eve")
	}
	w.blocks(adaToken, "PUT", "u-bob")
	at := w.object(w.get("/me/blocks?limit=1", bearer(adaToken)))["blocks"].([]any)[0].(map[string]any)["at"].(string)
	assert.JSONEq(t, `{"blocks":[{"user":{"id":"u-bob"},"at":"`+at+`"}],"next":"u-bob"}`, list("?limit=1"))
	assert.Contains(t, list("?after=u-bob"), `"u-eve"`)

	// The same bytes as for somebody who does not exist.
	nobody, blocked := w.direct(eve, "u-nobody"), w.direct(eve, "u-ada")
	assert.Equal(t, nobody.body, blocked.body)
	assert.Equal(t, nobody.StatusCode, blocked.StatusCode)
	w.wantProblem(w.direct(bobToken, "u-ada"), 404, "user_not_found")
	w.wantProblem(w.direct(adaToken, "u-bob"), 409, "blocked_by_you")
	w.wantStatus(w.direct(adaToken, "u-eve"), 200)
	for _, token := range []string{adaToken, eve} {
		for _, c := range [][3]string{
			{"POST", "/messages", `{"text":"hello"}`}, {"PATCH", "/messages/1", `{"text":"hello"}`}, {"DELETE", "/messages/1", ""}, {"PUT", "/messages/1/reactions/a", ""},
		} {
			w.wantProblem(w.do(c[0], "/rooms/"+room+c[1], c[2], bearer(token)), 403, "role_lacks_right")
		}
		w.wantStatus(w.get("/rooms/"+room+"/messages", bearer(token)), 200)
		w.wantStatus(w.do("PUT", "/rooms/"+room+"/read", `{"seq":0}`, bearer(token)), 200)
		w.say(token, "hall", "elsewhere nothing has changed")
	}
	for range 2 {
		w.blocks(adaToken, "DELETE", "u-eve")
	}
	w.say(eve, strings.ReplaceAll(room, "%3A", ":"), "thank you")
	w.wantStatus(w.direct(eve, "u-ada"), 200)
}

func TestBlocksRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(bobAuthor, "hall")
	own := w.wantProblem(w.do("PUT", "/me/blocks/u-ada", "", bearer(adaToken)), 422, "block_invalid")
	assert.Equal(t, "path.userId", own.Errors[0].Location)
	for _, id := range []string{"u-nobody", "/", "a/b", "👋", "u-bob\u200b", strings.Repeat("x", 200), "system"} {
		w.wantProblem(w.do("PUT", "/me/blocks/"+encoded(id), "", bearer(adaToken)), 404, "user_not_found")
		w.blocks(adaToken, "DELETE", id)
	}
	for i := range 1000 {
		_, err := w.store.Blocks.Put(t.Context(), chat.Block{Pair: chat.Pair{By: adaAuthor.ID, Whom: user.ID(strings.Repeat("x", i/100+1) + string(rune('a'+i%100)))}, At: w.clock.now()}, 1000)
		require.NoError(t, err)
	}
	w.wantProblem(w.do("PUT", "/me/blocks/u-bob", "", bearer(adaToken)), 409, "too_many_blocks")
	for _, query := range []string{"?limit=0", "?limit=101", "?limit=x", "?before=u-bob"} {
		w.wantProblem(w.get("/me/blocks"+query, bearer(adaToken)), 422, "invalid")
	}
	for method, path := range map[string]string{"GET": "/me/blocks", "PUT": "/me/blocks/u-bob", "DELETE": "/me/blocks/u-bob"} {
		w.wantProblem(w.do(method, path, ""), 401, "unauthenticated")
	}
}
