package humaapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// make makes a room as Ada.
func (w *world) make(body string) map[string]any {
	w.t.Helper()
	return w.object(w.wantStatus(w.do("POST", "/rooms", body, bearer(adaToken)), 201))
}

// role gives somebody a role in a room, as Ada.
func (w *world) role(room, id, role string) {
	w.t.Helper()
	w.wantStatus(w.do("PUT", "/rooms/"+encoded(room)+"/members/"+encoded(id), `{"role":"`+role+`"}`, bearer(adaToken)), 200)
}

func TestARoomIsMadeDescribedAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	made := w.wantStatus(w.do("POST", "/rooms", `{"name":"kitchen","kind":"private","title":"The <kitchen>","topic":"Who cooks & what","data":{ "b": 1.50, "a": "\u00e9", "a": [ ] }}`, bearer(adaToken)), 201)
	assert.JSONEq(t, `{"name":"kitchen","kind":"private","title":"The <kitchen>","topic":"Who cooks & what","data":{"b":1.50,"a":[]},"createdBy":"u-ada","createdAt":"2026-03-01T12:00:00Z","seq":0,"rev":0}`, made.body)
	assert.Contains(t, made.body, `"data":{"b":1.50,"a":"\u00e9","a":[]}`, "byte for byte but for white space")
	w.say(adaToken, "kitchen", "hello")
	read := func(token string) answer { t.Helper(); return w.get("/rooms/kitchen", bearer(token)) }
	assert.JSONEq(t, strings.Replace(made.body, `"seq":0`, `"seq":1`, 1), w.wantStatus(read(adaToken), 200).body)
	w.wantProblem(read(bobToken), 404, "room_not_found")
	assert.JSONEq(t, `{"rooms":[]}`, w.get("/rooms", bearer(adaToken)).body, "public ones only")

	change := func(body string) map[string]any {
		t.Helper()
		return w.object(w.wantStatus(w.do("PATCH", "/rooms/kitchen", body, bearer(adaToken)), 200))
	}
	assert.Equal(t, "720h", change(`{"retention":"720h"}`)["retention"])
	o := change(`{"title":"","topic":"What is left","data":{}}`)
	assert.NotContains(t, o, "title")
	assert.Equal(t, "What is left", o["topic"])
	assert.Equal(t, map[string]any{}, o["data"])
	assert.Equal(t, "720h", o["retention"], "what is not given stays")
	assert.Equal(t, o, change(`{}`))
	for text, want := range map[string]any{
		"0": nil, "0s": nil, "1m": "1m", "60s": "1m", "90s": "1m30s", "1h0m30s": "1h0m30s", "1.5h": "1h30m", "61.5s": "1m1s", "24h": "24h", "876000h": "876000h", "100m": "1h40m", "10h0m": "10h",
	} {
		assert.Equal(t, want, change(`{"retention":"` + text + `"}`)["retention"], text)
	}
	change(`{"retention":"1h"}`)
	// Who may not set it is not told it.
	w.role("kitchen", "u-bob", "member")
	assert.NotContains(t, w.object(w.wantStatus(read(bobToken), 200)), "retention")
	w.role("kitchen", "u-bob", "moderator")
	assert.Equal(t, "1h", w.object(read(bobToken))["retention"])
	assert.Equal(t, "1h", w.admin.object(w.admin.get("/rooms/kitchen", bearer(adminToken)))["retention"])

	assert.Equal(t, "public", change(`{"kind":"public"}`)["kind"])
	listed := w.object(w.get("/rooms", bearer(bobToken)))["rooms"].([]any)
	require.Len(t, listed, 1)
	assert.Equal(t, map[string]any{"name": "kitchen", "kind": "public", "topic": "What is left", "data": map[string]any{}, "createdBy": "u-ada", "createdAt": "2026-03-01T12:00:00Z", "seq": 1.0, "rev": 0.0}, listed[0])

	w.wantProblem(w.do("POST", "/rooms", `{"name":"kitchen"}`, bearer(adaToken)), 409, "room_taken")
	a := w.wantStatus(w.do("DELETE", "/rooms/kitchen", "", bearer(adaToken)), 204)
	assert.Empty(t, a.body)
	for _, token := range []string{adaToken, bobToken} {
		w.wantProblem(read(token), 404, "room_not_found")
		w.wantProblem(w.do("DELETE", "/rooms/kitchen", "", bearer(token)), 404, "room_not_found")
		w.wantProblem(w.post("/rooms/kitchen/messages", fields{"text": "x"}, bearer(token)), 404, "room_not_found")
		assert.JSONEq(t, `{"rooms":[]}`, w.get("/rooms/mine", bearer(token)).body)
	}
	w.wantProblem(w.do("POST", "/rooms", `{"name":"kitchen"}`, bearer(bobToken)), 409, "room_taken")
	assert.JSONEq(t, `{"rooms":[]}`, w.admin.get("/rooms", bearer(adminToken)).body)
}

func TestARoomWithoutANameHasOneThatNobodyGuesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	seen := map[string]bool{}
	for range 20 {
		o := w.make(`{}`)
		name := o["name"].(string)
		assert.GreaterOrEqual(t, len(name), 20)
		assert.Equal(t, "public", o["kind"])
		assert.False(t, seen[name])
		seen[name] = true
	}
	o := w.admin.object(w.admin.wantStatus(w.admin.do("POST", "/rooms", `{"kind":"private"}`, bearer(adminToken)), 201))
	assert.Equal(t, "system", o["createdBy"])
	assert.JSONEq(t, `{"members":[]}`, w.admin.get("/rooms/"+o["name"].(string)+"/members", bearer(adminToken)).body, "nobody owns what an operator makes, until they name one")
}

// TestRoomsAreMadeByEveryGoodName reaches each by what it is called.
func TestRoomsAreMadeByEveryGoodName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, name := range append(roomNames, strings.Repeat("👍", 100)) {
		if name == "😀" {
			continue
		}
		text, err := json.Marshal(fields{"name": name, "kind": "private", "title": name})
		require.NoError(t, err)
		a := w.do("POST", "/rooms", string(text), bearer(adaToken))
		require.Equal(t, 201, a.StatusCode, "%q: %s", name, a.body)
		require.Equal(t, name, w.object(a)["name"])
		path := "/rooms/" + encoded(name)
		if name == "mine" {
			path = "/rooms/%6Dine"
		}
		assert.Equal(t, name, w.object(w.wantStatus(w.get(path, bearer(adaToken)), 200))["name"])
		w.wantStatus(w.do("PATCH", path, `{"topic":"found"}`, bearer(adaToken)), 200)
		w.wantStatus(w.do("PUT", path+"/members/"+encoded(name), `{"role":"reader"}`, bearer(adaToken)), 200)
		members := w.object(w.wantStatus(w.get(path+"/members", bearer(adaToken)), 200))["members"].([]any)
		require.Len(t, members, 2)
		w.wantStatus(w.do("DELETE", path+"/members/"+encoded(name), "", bearer(adaToken)), 204)
		w.wantStatus(w.do("DELETE", path, "", bearer(adaToken)), 204)
	}
}

// TestTheDocumentOfOperatorsSpeaksOfThem: roles, rules and the list of one's own rooms are for users.
func TestTheDocumentOfOperatorsSpeaksOfThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const users = `The caller owns|caller is a member|one may join|application's rule|[Mm]oderators|Owners|one's own|leave it|/rooms/mine`
	for api, prefix := range map[*humaapi.API]string{w.api: "", w.admin.api: "admin-"} {
		for _, id := range []string{"list-rooms", "create-room", "get-room", "update-room", "delete-room", "set-member", "remove-member"} {
			said := ""
			for _, op := range operations(api) {
				if op.OperationID == prefix+id {
					said = op.Summary + " " + op.Description
				}
			}
			require.NotEmpty(t, said, prefix+id)
			if api == w.api {
				assert.Regexp(t, users, said, id)
			} else {
				assert.NotRegexp(t, users, said, id)
			}
		}
	}

	// There is no list of an operator's rooms: the room of that name is there as every other one is.
	w.make(`{"name":"mine","kind":"private"}`)
	for _, path := range []string{"/rooms/mine", "/rooms/%6Dine"} {
		assert.Equal(t, "mine", w.admin.object(w.admin.wantStatus(w.admin.get(path, bearer(adminToken)), 200))["name"])
	}
	assert.NotContains(t, w.admin.api.OpenAPI().Paths, "/rooms/mine")

	// An operator can take a room from its last owner.
	w.admin.wantStatus(w.admin.do("PUT", "/rooms/mine/members/u-ada", `{"role":"member"}`, bearer(adminToken)), 200)
	assert.Zero(t, w.owners("mine"))
	w.admin.wantStatus(w.admin.do("PUT", "/rooms/mine/members/u-ada", `{"role":"owner"}`, bearer(adminToken)), 200)
	w.admin.wantStatus(w.admin.do("DELETE", "/rooms/mine/members/u-ada", "", bearer(adminToken)), 204)
	assert.Zero(t, w.owners("mine"))
}

func TestBadRoomsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.make(`{"name":"hall","title":"The hall"}`)
	before := w.get("/rooms/hall", bearer(adaToken)).body
	long := func(n int) string { return strings.Repeat("ü", n) }
	for name, c := range map[string]struct {
		body        string
		status      int
		code, place string
		only        string // POST or PATCH; empty is both
	}{
		"an empty name":       {`{"name":""}`, 422, "room_invalid", "body.name", "POST"},
		"a long name":         {`{"name":"` + long(101) + `"}`, 422, "room_invalid", "body.name", "POST"},
		"101 emoji":           {`{"name":"` + strings.Repeat("👍", 101) + `"}`, 422, "room_invalid", "body.name", "POST"},
		"spaces around":       {`{"name":" hall"}`, 422, "room_invalid", "body.name", "POST"},
		"a control character": {`{"name":"a\nb"}`, 422, "room_invalid", "body.name", "POST"},
		"NUL in a name":       {`{"name":"a\u0000b"}`, 422, "invalid", "body", "POST"},
		"half a character":    {`{"name":"a\ud800"}`, 400, "malformed", "", "POST"},
		"the server's names":  {`{"name":"direct:a:b"}`, 422, "room_invalid", "body.name", "POST"},
		"a name of null":      {`{"name":null}`, 422, "invalid", "body.name", "POST"},
		"a name of number":    {`{"name":7}`, 422, "invalid", "body.name", "POST"},
		"a taken name":        {`{"name":"hall"}`, 409, "room_taken", "", "POST"},
		"retention at first":  {`{"retention":"720h"}`, 422, "invalid", "body.retention", "POST"},
		"another name":        {`{"name":"hall 2"}`, 422, "invalid", "body.name", "PATCH"},
		"direct":              {`{"kind":"direct"}`, 422, "kind_invalid", "body.kind", ""},
		"another kind":        {`{"kind":"secret"}`, 422, "kind_invalid", "body.kind", ""},
		"an empty kind":       {`{"kind":""}`, 422, "kind_invalid", "body.kind", ""},
		"a kind of null":      {`{"kind":null}`, 422, "invalid", "body.kind", ""},
		"a long title":        {`{"title":"` + long(chat.MaxTitle+1) + `"}`, 422, "title_invalid", "body.title", ""},
		"a title of spaces":   {`{"title":"  "}`, 422, "title_invalid", "body.title", ""},
		"a title of lines":    {`{"title":"a\nb"}`, 422, "title_invalid", "body.title", ""},
		"a title of null":     {`{"title":null}`, 422, "invalid", "body.title", ""},
		"a long topic":        {`{"topic":"` + long(chat.MaxTopic+1) + `"}`, 422, "topic_invalid", "body.topic", ""},
		"a topic of numbers":  {`{"topic":[1]}`, 422, "invalid", "body.topic", ""},
		"data of text":        {`{"data":"{}"}`, 422, "invalid", "body.data", ""},
		"data of a list":      {`{"data":[]}`, 422, "invalid", "body.data", ""},
		"data of null":        {`{"data":null}`, 422, "invalid", "body.data", ""},
		"much data":           {`{"data":{"a":"` + strings.Repeat("b", chat.MaxData) + `"}}`, 422, "data_invalid", "body.data", ""},
		"deep data":           {`{"data":` + strings.Repeat(`{"a":`, chat.MaxDataDepth+1) + `1` + strings.Repeat(`}`, chat.MaxDataDepth+1) + `}`, 422, "data_invalid", "body.data", ""},
		"very deep data":      {`{"data":` + strings.Repeat(`[`, 20_000), 400, "malformed", "", ""},
		"NUL in data":         {`{"data":{"a":"\u0000"}}`, 422, "invalid", "body", ""},
		"half in data":        {`{"data":{"a":"\udc00"}}`, 400, "malformed", "", ""},
		"who has made it":     {`{"createdBy":"u-bob"}`, 422, "invalid", "body.createdBy", ""},
		"too large":           {`{"topic":"` + strings.Repeat("b", 64<<10) + `"}`, 413, "too_large", "", ""},
		"a list":              {`[]`, 422, "invalid", "body", ""},
		"no JSON":             {`{`, 400, "malformed", "", ""},
		"no body":             {``, 400, "malformed", "", ""},
		"short retention":     {`{"retention":"59s"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"less than a second":  {`{"retention":"500ms"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"retention below":     {`{"retention":"-720h"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"long retention":      {`{"retention":"876001h"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"endless retention":   {`{"retention":"99999999999999h"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"days":                {`{"retention":"30d"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"ISO 8601":            {`{"retention":"P30D"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"a bare number":       {`{"retention":"720"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"an empty retention":  {`{"retention":""}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"many words":          {`{"retention":"` + strings.Repeat("1h", 20) + `"}`, 422, "retention_invalid", "body.retention", "PATCH"},
		"a number":            {`{"retention":720}`, 422, "invalid", "body.retention", "PATCH"},
		"retention of null":   {`{"retention":null}`, 422, "invalid", "body.retention", "PATCH"},
	} {
		for method, path := range map[string]string{"POST": "/rooms", "PATCH": "/rooms/hall"} {
			if c.only != "" && c.only != method {
				continue
			}
			for _, side := range []struct {
				s     *system
				token string
			}{{w.system, adaToken}, {w.admin, adminToken}} {
				a := side.s.do(method, path, c.body, bearer(side.token))
				if !assert.Equal(t, c.status, a.StatusCode, "%s %s: %s", method, name, a.body) {
					continue
				}
				d := side.s.wantProblem(a, c.status, c.code)
				if c.place != "" && assert.NotEmpty(t, d.Errors, name) {
					assert.Equal(t, c.place, d.Errors[0].Location, "%s %s", method, name)
				}
			}
		}
	}
	assert.Equal(t, before, w.get("/rooms/hall", bearer(adaToken)).body, "nothing was stored")
	assert.Len(t, w.object(w.get("/rooms", bearer(adaToken)))["rooms"], 1)
	w.wantProblem(w.do("POST", "/rooms", `{}`), 401, "unauthenticated")
	w.rules.access = func(chat.Author, chat.Action, string) error { return chat.ErrNotAllowed.Detail("only on weekdays") }
	assert.Equal(t, "only on weekdays", w.wantProblem(w.do("POST", "/rooms", `{"name":"den"}`, bearer(adaToken)), 403, "not_allowed").Detail)
}

func TestMembersAreInvitedNamedAndRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.make(`{"name":"den","kind":"private"}`)
	w.say(adaToken, "den", "one")
	w.clock.advance(time.Minute)
	for range 2 { // to do it again changes nothing
		a := w.wantStatus(w.do("PUT", "/rooms/den/members/u-bob", `{"role":"reader"}`, bearer(adaToken)), 200)
		assert.JSONEq(t, `{"user":{"id":"u-bob"},"role":"reader","since":"2026-03-01T12:01:00Z","read":1}`, a.body)
		w.clock.advance(time.Minute)
	}
	assert.JSONEq(t, `{"members":[
		{"user":{"id":"u-ada"},"role":"owner","since":"2026-03-01T12:00:00Z","read":1},
		{"user":{"id":"u-bob"},"role":"reader","since":"2026-03-01T12:01:00Z","read":1}]}`, w.wantStatus(w.get("/rooms/den/members", bearer(bobToken)), 200).body)
	mine := func(token string) map[string]any {
		t.Helper()
		all := map[string]any{}
		for _, r := range w.object(w.wantStatus(w.get("/rooms/mine", bearer(token)), 200))["rooms"].([]any) {
			all[r.(map[string]any)["room"].(string)] = r.(map[string]any)["role"]
		}
		return all
	}
	assert.Equal(t, map[string]any{"den": "owner"}, mine(adaToken))
	assert.Equal(t, map[string]any{"den": "reader"}, mine(bobToken))
	w.wantProblem(w.post("/rooms/den/messages", fields{"text": "x"}, bearer(bobToken)), 403, "role_lacks_right")
	w.role("den", "u-bob", "member")
	w.say(bobToken, "den", "two")
	w.wantProblem(w.do("DELETE", "/rooms/den/messages/1", "", bearer(bobToken)), 403, "not_allowed")
	w.role("den", "u-bob", "moderator")
	assert.Equal(t, map[string]any{"den": "moderator"}, mine(bobToken))
	w.wantStatus(w.do("DELETE", "/rooms/den/messages/1", "", bearer(bobToken)), 200)
	w.wantStatus(w.do("PUT", "/rooms/den/members/u-eve", `{"role":"member"}`, bearer(bobToken)), 200)
	w.wantStatus(w.do("PUT", "/rooms/den/bans/u-eve", `{"reason":"spam"}`, bearer(bobToken)), 204)
	bans := w.object(w.wantStatus(w.get("/rooms/den/bans", bearer(adaToken)), 200))["bans"].([]any)
	require.Len(t, bans, 1)
	assert.Equal(t, "u-bob", bans[0].(map[string]any)["by"])
	w.wantProblem(w.do("PUT", "/rooms/den/members/u-eve", `{"role":"member"}`, bearer(adaToken)), 403, "banned")
	w.admin.wantProblem(w.admin.do("PUT", "/rooms/den/members/u-eve", `{"role":"member"}`, bearer(adminToken)), 403, "banned")
	w.wantStatus(w.do("DELETE", "/rooms/den/bans/u-eve", "", bearer(bobToken)), 204)
	w.clock.advance(time.Second)
	w.wantStatus(w.do("PUT", "/rooms/den/members/u-eve", `{"role":"member"}`, bearer(bobToken)), 200)

	// Everybody in the room is told who is muted, as on the socket.
	w.wantStatus(w.do("PUT", "/rooms/den/mutes/u-eve", `{}`, bearer(bobToken)), 204)
	muted := func(token string) map[string]any {
		t.Helper()
		all := map[string]any{}
		for _, m := range w.object(w.wantStatus(w.get("/rooms/den/members", bearer(token)), 200))["members"].([]any) {
			if until := m.(map[string]any)["mutedUntil"]; until != nil {
				all[m.(map[string]any)["user"].(map[string]any)["id"].(string)] = until
			}
		}
		return all
	}
	eve := map[string]any{"u-eve": "9999-12-31T23:59:59Z"}
	assert.Equal(t, eve, muted(bobToken))
	assert.Equal(t, eve, muted(w.as("u-eve")))
	w.role("den", "u-bob", "member")
	assert.Equal(t, eve, muted(bobToken))
	assert.Contains(t, w.wantStatus(w.do("PUT", "/rooms/den/members/u-eve", `{"role":"reader"}`, bearer(adaToken)), 200).body, "mutedUntil")

	// Whoever is removed is a stranger.
	for range 2 {
		w.wantStatus(w.do("DELETE", "/rooms/den/members/u-bob", "", bearer(adaToken)), 204)
	}
	w.wantProblem(w.get("/rooms/den/messages", bearer(bobToken)), 404, "room_not_found")
	assert.Empty(t, mine(bobToken))
	w.wantStatus(w.do("DELETE", "/rooms/den/members/u-eve", "", bearer(w.as("u-eve"))), 204)
	w.wantProblem(w.do("DELETE", "/rooms/den/members/u-eve", "", bearer(w.as("u-eve"))), 404, "room_not_found")
}

func TestMembersHaveNamesWhereAccountsAreKnown(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, nil, accounts{"u-ada": "Ada <Lovelace>", "u-eve": "Eve"})
	w.make(`{"name":"den","kind":"private"}`)
	w.role("den", "u-bob", "reader")
	a := w.wantStatus(w.do("PUT", "/rooms/den/members/u-eve", `{"role":"member"}`, bearer(adaToken)), 200)
	assert.JSONEq(t, `{"user":{"id":"u-eve","name":"Eve"},"role":"member","since":"2026-03-01T12:00:00Z","read":0}`, a.body)
	for _, body := range []string{w.get("/rooms/den/members", bearer(bobToken)).body, w.admin.get("/rooms/den/members", bearer(adminToken)).body} {
		assert.JSONEq(t, `{"members":[
			{"user":{"id":"u-ada","name":"Ada <Lovelace>"},"role":"owner","since":"2026-03-01T12:00:00Z","read":0},
			{"user":{"id":"u-bob"},"role":"reader","since":"2026-03-01T12:00:00Z","read":0},
			{"user":{"id":"u-eve","name":"Eve"},"role":"member","since":"2026-03-01T12:00:00Z","read":0}]}`, body)
	}
}

func TestMembersComePageByPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.make(`{"name":"hall"}`)
	want := []any{"u-ada"}
	for i := range 12 {
		id := fmt.Sprintf("v/%02d é", i)
		w.role("hall", id, "member")
		want = append(want, id)
	}
	for _, limit := range []string{"1", "5", "13", "100"} {
		var got []any
		for query := "?limit=" + limit; query != ""; {
			o := w.object(w.wantStatus(w.get("/rooms/hall/members"+query, bearer(adaToken)), 200))
			for _, m := range o["members"].([]any) {
				got = append(got, m.(map[string]any)["user"].(map[string]any)["id"])
			}
			query = ""
			if next, ok := o["next"].(string); ok {
				query = "?limit=" + limit + "&after=" + url.QueryEscape(next)
			}
		}
		assert.Equal(t, want, got, limit)
	}
	for query, status := range map[string]int{"limit=100": 200, "limit=101": 422, "limit=0": 422, "limit=": 422, "after=zzz": 200, "after=": 200, "after=%00": 400, "cursor=a": 422} {
		assert.Equal(t, status, w.get("/rooms/hall/members?"+query, bearer(adaToken)).StatusCode, query)
	}
}

func TestBadRolesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.make(`{"name":"den","kind":"private"}`)
	w.role("den", "u-bob", "member")
	before := w.get("/rooms/den/members", bearer(adaToken)).body
	for _, c := range []struct {
		token, method, path, body string
		status                    int
		code, place               string
	}{
		{adaToken, "PUT", "u-eve", `{"role":"king"}`, 422, "role_invalid", "body.role"},
		{adaToken, "PUT", "u-eve", `{"role":"Owner"}`, 422, "role_invalid", "body.role"},
		{adaToken, "PUT", "u-eve", `{"role":""}`, 422, "role_invalid", "body.role"},
		{adaToken, "PUT", "u-eve", `{"role":null}`, 422, "invalid", "body.role"},
		{adaToken, "PUT", "u-eve", `{"role":["owner"]}`, 422, "invalid", "body.role"},
		{adaToken, "PUT", "u-eve", `{}`, 422, "invalid", "body"},
		{adaToken, "PUT", "u-eve", `{"role":"member","until":"2030-01-01T00:00:00Z"}`, 422, "invalid", "body.until"},
		{adaToken, "PUT", "u-eve", `{`, 400, "malformed", ""},
		{adaToken, "PUT", "%20", `{"role":"member"}`, 422, "author_invalid", "path.userId"},
		{adaToken, "PUT", "a%0Ab", `{"role":"member"}`, 422, "author_invalid", "path.userId"},
		{adaToken, "PUT", strings.Repeat("u", chat.MaxAuthorID+1), `{"role":"member"}`, 422, "author_invalid", "path.userId"},
		{adaToken, "PUT", "a%00", `{"role":"member"}`, 400, "malformed_url", ""},
		{adaToken, "DELETE", "%20", "", 422, "author_invalid", "path.userId"},
		{adaToken, "DELETE", strings.Repeat("u", chat.MaxAuthorID+1), "", 422, "author_invalid", "path.userId"},
		{adaToken, "DELETE", "u-bob?reason=x", "", 422, "invalid", "query.reason"},
		{adaToken, "DELETE", "u-ada", "", 409, "last_owner", ""},
		{adaToken, "PUT", "u-ada", `{"role":"member"}`, 409, "last_owner", ""},
		{adaToken, "PUT", "u-ada", `{"role":"moderator"}`, 409, "last_owner", ""},
		{bobToken, "PUT", "u-bob", `{"role":"owner"}`, 403, "role_lacks_right", ""},
		{bobToken, "PUT", "u-bob", `{"role":"reader"}`, 403, "role_lacks_right", ""},
		{w.as("u-eve"), "PUT", "u-eve", `{"role":"member"}`, 404, "room_not_found", ""},
		{w.as("u-eve"), "DELETE", "u-bob", "", 404, "room_not_found", ""},
		{adaToken, "PUT", "u-bob", `{"role":"member"}`, 200, "", ""}, // as before
		{bobToken, "PUT", "u-bob", `{"role":"member"}`, 200, "", ""},
		{adaToken, "PUT", "u-ada", `{"role":"owner"}`, 200, "", ""},
		{adaToken, "DELETE", "u-eve", "", 204, "", ""},
	} {
		a := w.do(c.method, "/rooms/den/members/"+c.path, c.body, bearer(c.token))
		if c.code == "" {
			assert.Equal(t, c.status, a.StatusCode, "%s %s %s: %s", c.method, c.path, c.body, a.body)
			continue
		}
		d := w.wantProblem(a, c.status, c.code)
		if c.place != "" && assert.NotEmpty(t, d.Errors, c.path) {
			assert.Equal(t, c.place, d.Errors[0].Location, "%s %s %s", c.method, c.path, c.body)
		}
	}
	assert.Equal(t, before, w.get("/rooms/den/members", bearer(adaToken)).body)
	// In a public room one joins, and is not made a member by oneself or by a moderator.
	w.make(`{"name":"hall"}`)
	w.wantProblem(w.do("PUT", "/rooms/hall/members/u-bob", `{"role":"member"}`, bearer(bobToken)), 403, "not_a_member")
	// Operators may what owners may not, also leave a room without one.
	w.admin.wantStatus(w.admin.do("DELETE", "/rooms/den/members/u-ada", "", bearer(adminToken)), 204)
	w.admin.wantStatus(w.admin.do("PUT", "/rooms/den/members/u-bob", `{"role":"owner"}`, bearer(adminToken)), 200)
	w.wantStatus(w.do("PUT", "/rooms/den/members/u-ada", `{"role":"member"}`, bearer(bobToken)), 200)
}

// TestTwoOwnersWhoDemoteEachOtherLeaveOne, however the calls meet.
func TestTwoOwnersWhoDemoteEachOtherLeaveOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for i := range 100 {
		room := fmt.Sprint("room-", i)
		w.make(`{"name":"` + room + `"}`)
		w.role(room, "u-bob", "owner")
		var wg sync.WaitGroup
		var statuses [2]int
		for side, c := range [2]struct{ token, of string }{{adaToken, "u-bob"}, {bobToken, "u-ada"}} {
			wg.Go(func() {
				switch i % 3 {
				case 0:
					statuses[side] = w.do("PUT", "/rooms/"+room+"/members/"+c.of, `{"role":"member"}`, bearer(c.token)).StatusCode
				case 1:
					statuses[side] = w.do("PUT", "/rooms/"+room+"/members/"+c.of, `{"role":"moderator"}`, bearer(c.token)).StatusCode
				default: // both leave
					statuses[side] = w.do("DELETE", "/rooms/"+room+"/members/"+map[string]string{"u-ada": "u-bob", "u-bob": "u-ada"}[c.of], "", bearer(c.token)).StatusCode
				}
			})
		}
		wg.Wait()
		refused := http.StatusForbidden
		if i%3 == 2 {
			refused = http.StatusConflict
		}
		assert.Contains(t, statuses, refused, room)
		members, err := w.store.Roles.List(t.Context(), room, "", 10)
		require.NoError(t, err)
		owners := 0
		for _, m := range members {
			if m.Role == chat.Owner {
				owners++
			}
		}
		assert.Equal(t, 1, owners, "%v", statuses)
	}
}

func TestRightsChangesAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var heard []string
	w.chat.OnRights(func(c chat.RightsChange) {
		heard = append(heard, fmt.Sprintf("%s: %s is %q by %s", c.Room, c.User, c.Role, c.By))
	})
	w.make(`{"name":"den","kind":"private"}`)
	w.role("den", "u-bob", "moderator")
	w.role("den", "u-bob", "moderator")
	w.wantStatus(w.do("PATCH", "/rooms/den", `{"kind":"public"}`, bearer(adaToken)), 200)
	w.wantStatus(w.do("PATCH", "/rooms/den", `{"title":"x"}`, bearer(adaToken)), 200)
	w.wantStatus(w.do("DELETE", "/rooms/den/members/u-bob", "", bearer(bobToken)), 204)
	w.admin.wantStatus(w.admin.do("PUT", "/rooms/den/members/u-eve", `{"role":"owner"}`, bearer(adminToken)), 200)
	w.wantStatus(w.do("DELETE", "/rooms/den", "", bearer(w.as("u-eve"))), 204)
	assert.Equal(t, []string{
		`den: u-bob is "moderator" by u-ada`, `den:  is "" by u-ada`, `den: u-bob is "" by u-bob`, `den: u-eve is "owner" by system`, `den:  is "" by u-eve`,
	}, heard)
}

func TestAServerMayKeepNoRoles(t *testing.T) {
	t.Parallel()
	messages := memory.NewMessages()
	members := memory.NewMembers(messages)
	rooms := memory.NewRooms()
	service, err := chat.New(chat.Config{
		Store: messages, Rooms: rooms, Members: members, Marks: members, Restrictions: memory.NewRestrictions(nil), Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	require.NoError(t, err)
	_, err = rooms.Ensure(t.Context(), chat.Room{Name: "hall", CreatedBy: "u-ada"})
	require.NoError(t, err)
	_, err = members.Add(t.Context(), chat.Membership{Room: "hall", UserID: "u-ada"})
	require.NoError(t, err)
	tokens := memory.NewAuthenticator()
	tokens.AllowToken(adaToken, user.Identity{UserID: adaAuthor.ID, Name: adaAuthor.Name, SessionID: "s-ada"})
	api, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
	require.NoError(t, err)
	require.NoError(t, humaapi.RegisterRooms(api, humaapi.RoomsConfig{Service: service, Identify: tokens.Token}))
	s := &system{t: t, api: api, seen: map[string]map[int]bool{}}
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/rooms", `{}`}, {"PATCH", "/rooms/hall", `{}`}, {"DELETE", "/rooms/hall", ""}, {"GET", "/rooms/hall/members", ""}, {"PUT", "/rooms/hall/members/u", `{"role":"member"}`}, {"DELETE", "/rooms/hall/members/u", ""},
	} {
		s.wantProblem(s.do(c.method, c.path, c.body, bearer(adaToken)), 422, "roles_not_supported")
	}
	assert.Equal(t, "hall", s.object(s.wantStatus(s.get("/rooms/hall", bearer(adaToken)), 200))["name"])
	s.wantProblem(s.do("PUT", "/rooms/hall/bans/u", `{}`, bearer(adaToken)), 403, "role_lacks_right")
}
