package humaapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

// world is the calls about rooms over the real service and memory: those of users, and those of operators.
type world struct {
	*system
	admin *system
	chat  *chat.Service
	rules *rules

	tokens *memory.Authenticator
}

// accounts is a chat.People.
type accounts map[user.ID]string

func (a accounts) Named(_ context.Context, ids ...user.ID) (known []chat.Author, err error) {
	for _, id := range ids {
		if name, ok := a[id]; ok {
			known = append(known, chat.Author{ID: id, Name: name})
		}
	}
	return known, nil
}

// rules is an Access and a Screen that tests change.
type rules struct {
	mu     sync.Mutex
	access func(who chat.Author, what chat.Action, room string) error
	screen func(d chat.Draft) (chat.Draft, error)
	asked  []string
}

func (r *rules) May(_ context.Context, who chat.Author, what chat.Action, room string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, fmt.Sprint(who.ID, " ", what, " ", room))
	if r.access == nil {
		return nil
	}
	return r.access(who, what, room)
}

func (r *rules) Screen(_ context.Context, d chat.Draft) (chat.Draft, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, fmt.Sprint(d.Author.ID, " says ", d.Text, " in ", d.Room))
	if r.screen == nil {
		return d, nil
	}
	return r.screen(d)
}

// since returns what was asked since it was asked last.
func (r *rules) since() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

var (
	adaAuthor = chat.Author{ID: "u-ada", Name: "Ada Lovelace"}
	bobAuthor = chat.Author{ID: "u-bob", Name: "Bob"}
)

const (
	adaToken = "token-of-ada"
	bobToken = "token-of-bob"
)

func newWorld(t *testing.T, change func(*humaapi.RoomsConfig)) *world {
	t.Helper()
	return newWorldOf(t, change, nil)
}

// newWorldOf is newWorld with a store of names.
func newWorldOf(t *testing.T, change func(*humaapi.RoomsConfig), people chat.People) *world {
	t.Helper()
	w := &world{rules: &rules{}}
	made := func() *system {
		s := &system{t: t, seen: map[string]map[int]bool{}, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
		var err error
		s.api, err = humaapi.New(http.NewServeMux(), humaapi.Config{Origins: []string{page}, Log: slog.New(slog.NewTextHandler(s, nil))})
		require.NoError(t, err)
		s.api.UseMiddleware(s.record)
		t.Cleanup(s.checkDocumented)
		return s
	}
	w.system, w.admin = made(), made()
	w.store = memory.NewStore()
	var err error
	w.chat, err = chat.New(chat.Config{
		Store: w.store.Messages, Rooms: w.store.Rooms, Members: w.store.Members, Marks: w.store.Members, Roles: w.store.Roles, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
		Restrictions: w.store.Restrictions, Blocks: w.store.Blocks, Settings: w.store.Settings, People: people, Access: w.rules, Screen: w.rules, Now: w.clock.now,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); assert.NoError(t, w.chat.Run(ctx)) }()
	t.Cleanup(func() { cancel(); <-ended })

	w.tokens = memory.NewAuthenticator()
	w.tokens.AllowToken(adaToken, user.Identity{UserID: adaAuthor.ID, Name: adaAuthor.Name, SessionID: "s-ada"})
	w.tokens.AllowToken(bobToken, user.Identity{UserID: bobAuthor.ID, Name: bobAuthor.Name, SessionID: "s-bob"})
	cfg := humaapi.RoomsConfig{Service: w.chat, Identify: w.tokens.Token}
	if change != nil {
		change(&cfg)
	}
	require.NoError(t, humaapi.RegisterRooms(w.api, cfg))
	require.NoError(t, humaapi.RegisterRoomsAdmin(w.admin.api, humaapi.RoomsAdminConfig{Service: w.chat, Token: adminToken}))
	return w
}

func (w *world) join(who chat.Author, rooms ...string) {
	w.t.Helper()
	for _, room := range rooms {
		_, err := w.chat.Join(w.t.Context(), who, room)
		require.NoError(w.t, err)
		w.clock.advance(time.Second)
	}
	w.rules.since()
}

// say sends a message and returns its seq.
func (w *world) say(token, room, text string) uint64 {
	w.t.Helper()
	o := w.object(w.wantStatus(w.post("/rooms/"+encoded(room)+"/messages", fields{"text": text}, bearer(token)), http.StatusCreated))
	require.Equal(w.t, room, o["room"])
	return uint64(o["seq"].(float64))
}

// encoded writes every byte of a name that is no letter or digit as %XX, as a careful client does.
func encoded(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func TestRoomsNeedWhatTheyNeed(t *testing.T) {
	t.Parallel()
	err := humaapi.RegisterRooms(nil, humaapi.RoomsConfig{Rate: auth.Rate{Burst: 1, Per: time.Second}})
	for _, part := range []string{"API", "Service", "Identify", "Limiter"} {
		assert.ErrorContains(t, err, part)
	}
	assert.ErrorContains(t, humaapi.RegisterRooms(nil, humaapi.RoomsConfig{Rate: auth.Rate{Burst: 1}}), "Rate")
	err = humaapi.RegisterRoomsAdmin(nil, humaapi.RoomsAdminConfig{Token: "short"})
	for _, part := range []string{"API", "Service", "Token"} {
		assert.ErrorContains(t, err, part)
	}
}

// TestAMessageIsTheSameOverRESTAsOnTheSocket: with every field of the schema, in the same bytes.
func TestAMessageIsTheSameOverRESTAsOnTheSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.join(bobAuthor, "hall")
	first := w.say(bobToken, "hall", "first <&> \u2028 \"é\" 😀")
	const data = `{"b":1.50,"a":"\u00e9<&>","a":[{"deep":null}]}`
	sent := w.wantStatus(w.do("POST", "/rooms/hall/messages", `{"text":"second","clientId":"c-1","replyTo":1,"data":`+strings.ReplaceAll(data, ",", " ,\n ")+`}`, bearer(adaToken)), 201)
	o := w.object(sent)
	assert.Equal(t, []string{"at", "id", "room", "seq"}, keys(o))
	assert.Equal(t, "hall", o["room"])
	assert.EqualValues(t, first+1, o["seq"])
	again := w.wantStatus(w.do("POST", "/rooms/hall/messages", `{"text":"another","clientId":"c-1"}`, bearer(adaToken)), 201)
	assert.Equal(t, sent.body, again.body, "the same clientId has the same answer")
	for _, key := range []string{"👍", "+1"} {
		w.wantStatus(w.do("PUT", "/rooms/hall/messages/2/reactions/"+encoded(key), "", bearer(bobToken)), 200)
	}
	w.clock.advance(time.Minute)
	w.wantStatus(w.do("PATCH", "/rooms/hall/messages/2", `{"text":"second, edited"}`, bearer(adaToken)), 200)
	w.wantStatus(w.do("DELETE", "/rooms/hall/messages/1", "", bearer(bobToken)), 200)

	stored, err := w.chat.History(t.Context(), adaAuthor, "hall", chat.Range{})
	require.NoError(t, err)
	require.Len(t, stored.Messages, 2)
	onSocket := map[uint64]json.RawMessage{}
	seen := map[string]bool{}
	for _, m := range stored.Messages {
		frame := protocol.JSON(protocol.Own()).Event(protocol.Outgoing{Schema: protocol.Own().ServerEvent(protocol.EventChanged), Room: "hall", Message: m})
		var event struct{ Data json.RawMessage }
		require.NoError(t, json.Unmarshal(frame.Payload(), &event))
		onSocket[m.Seq] = event.Data
		var o map[string]any
		require.NoError(t, json.Unmarshal(event.Data, &o))
		for name := range o {
			seen[name] = true
		}
	}
	for _, f := range protocol.Own().ServerEvent(protocol.EventMessage).Data.Fields {
		assert.True(t, seen[f.Name], "the test has no message with %s", f.Name)
	}
	assert.Contains(t, string(onSocket[2]), data)

	var page struct {
		Messages []json.RawMessage
		More     bool
	}
	require.NoError(t, json.Unmarshal([]byte(w.wantStatus(w.get("/rooms/hall/messages", bearer(adaToken)), 200).body), &page))
	require.Len(t, page.Messages, 2)
	for i, m := range page.Messages {
		assert.Equal(t, string(onSocket[uint64(i+1)]), string(m))
	}
	var mine struct {
		Rooms []struct{ Last json.RawMessage }
	}
	require.NoError(t, json.Unmarshal([]byte(w.wantStatus(w.get("/rooms/mine", bearer(adaToken)), 200).body), &mine))
	require.Len(t, mine.Rooms, 1)
	assert.Equal(t, string(onSocket[2]), string(mine.Rooms[0].Last))
	var ofAdmin struct{ Messages []json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(w.admin.get("/rooms/hall/messages", bearer(adminToken)).body), &ofAdmin))
	assert.Equal(t, page.Messages, ofAdmin.Messages)
}

// TestTheSchemaOfAMessageIsThatOfTheSocket compares the OpenAPI document with the protocol.
func TestTheSchemaOfAMessageIsThatOfTheSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	schemas := w.api.OpenAPI().Components.Schemas.Map()
	for _, o := range []*protocol.Object{protocol.Own().ServerEvent(protocol.EventMessage).Data} {
		s := schemas[o.Name]
		require.NotNil(t, s, o.Name)
		assert.Equal(t, o.Doc, s.Description)
		assert.Len(t, s.Properties, len(o.Fields))
		for _, f := range o.Fields {
			require.NotNil(t, s.Properties[f.Name], f.Name)
			assert.Equal(t, f.Required, slices.Contains(s.Required, f.Name), f.Name)
		}
	}
	assert.Equal(t, []string{"room", "seq", "id", "at"}, schemas["SendMessageAck"].Required)
	for _, api := range []*humaapi.API{w.api, w.admin.api} {
		listed := checkDocument(t, api)
		for _, call := range []string{
			"GET /rooms 200", "GET /rooms/{room}/messages 200", "POST /rooms/{room}/messages 201", "PATCH /rooms/{room}/messages/{seq} 200", "DELETE /rooms/{room}/messages/{seq} 200",
			"PUT /rooms/{room}/messages/{seq}/reactions/{key} 200", "DELETE /rooms/{room}/messages/{seq}/reactions/{key} 200",
		} {
			assert.True(t, listed[call], call)
		}
		for _, call := range []string{"GET /rooms/mine 200", "PUT /rooms/{room}/read 200"} {
			assert.Equal(t, api == w.api, listed[call], call)
		}
		text, err := api.Document("json")
		require.NoError(t, err)
		assert.NotContains(t, string(text), "%2F", "further paths of an operation are not in the document")
		_, err = api.Document("yaml")
		require.NoError(t, err)
	}
	assert.Nil(t, schemas["SendAsRequest"])
	require.NotNil(t, w.admin.api.OpenAPI().Components.Schemas.Map()["SendAsRequest"])
}

// roomNames are all good, and each means something else to a careless reader of paths.
var roomNames = []string{
	"hall", "mine", "read", "messages", "direct", "a/b", "/", "//", "a/", "/a", ".", "..", "...", "../..", "a/../b", "./a", "%", "%2F", "%252F", "a%b", "%zz", "a b", "a+b", "a?b=c", "a#b", "a;b", "a&b=c",
	"{room}", "é", "日本", "👩‍👩‍👧‍👦", strings.Repeat("😀", chat.MaxRoomName), `\`, `a\b`, `"`, "'", "<b>", ":", "@", "~", "*", "null", "0", "-1",
}

// ways are the ways in which clients write a name into a path.
var ways = map[string]func(name string) string{
	"all":        encoded,
	"lower case": func(name string) string { return strings.ToLower(encoded(name)) },
	"net/url":    url.PathEscape,
}

func TestEachRoomIsReachedByItsName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	server := httptest.NewServer(w.api)
	t.Cleanup(server.Close)
	call := func(method, path, body string, status int) map[string]any {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+adaToken)
		r.Header.Set("Origin", page)
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		got, err := client.Do(r)
		require.NoError(t, err)
		defer got.Body.Close()
		var o map[string]any
		require.NoError(t, json.NewDecoder(got.Body).Decode(&o), "%s %s: %d", method, path, got.StatusCode)
		require.Equal(t, status, got.StatusCode, "%s %s: %v", method, path, o)
		assert.Equal(t, page, got.Header.Get("Access-Control-Allow-Origin"), "%s %s", method, path)
		return o
	}
	for _, name := range roomNames {
		require.NoError(t, chat.CheckRoom(name), name)
		w.join(adaAuthor, name)
		for way, escape := range ways {
			path := "/rooms/" + escape(name)
			switch {
			case way == "net/url" && strings.Trim(name, ".") == "" && len(name) < 3:
				continue // which leaves it as it is: it means another folder then
			case way == "lower case" && strings.ToLower(name) != name:
				continue
			}
			sent := call("POST", path+"/messages", `{"text":"hello"}`, 201)
			require.Equal(t, name, sent["room"], way)
			seq := fmt.Sprint(sent["seq"])
			call("PATCH", path+"/messages/"+seq, `{"text":"good morning"}`, 200)
			if path == "/rooms/mine" {
				path = "/rooms/%6Dine"
			}
			require.Equal(t, name, call("GET", path, "", 200)["name"], way)
			call("PATCH", path, `{}`, 403)
			call("DELETE", path, "", 403)
			require.Len(t, call("GET", path+"/members", "", 200)["members"], 1)
			for _, of := range []string{"/members/", "/bans/", "/mutes/"} {
				call("DELETE", path+of+escape(name), "", 403)
			}
			key := name
			if chat.CheckReaction(key) != nil {
				key = "/"
			}
			call("PUT", path+"/messages/"+seq+"/reactions/"+encoded(key), "", 200)
			messages := call("GET", path+"/messages?limit=1", "", 200)["messages"].([]any)
			require.Len(t, messages, 1)
			m := messages[0].(map[string]any)
			assert.Equal(t, name, m["room"])
			assert.Equal(t, "good morning", m["text"])
			assert.Equal(t, key, m["reactions"].([]any)[0].(map[string]any)["key"])
			call("DELETE", path+"/messages/"+seq+"/reactions/"+encoded(key), "", 200)
			call("DELETE", path+"/messages/"+seq, "", 200)
			call("PUT", path+"/read", `{"seq":`+seq+`}`, 200)
		}
	}
	// What is nobody's name is nothing.
	for _, path := range []string{"/rooms/hall/messages/1/reactions/", "/rooms/%2F/messages/1/reactions/", "/rooms/%2F/", "/rooms/hall/", "/rooms/hall/nothing", "/rooms/hall/messages/", "/rooms/hall/members/"} {
		call("PUT", path, "", 404)
	}
	call("GET", "/rooms/", "", 404)
	call("PUT", "/rooms/%2F/messages", "", 405)
	call("GET", "/rooms/%FF/messages", "", 400)
	call("GET", "/rooms/a%00b/messages", "", 400)
	call("GET", "/rooms/"+encoded(strings.Repeat("a", chat.MaxRoomName+1))+"/messages", "", 422)
	call("GET", "/rooms/"+encoded(" a")+"/messages", "", 422)

	rooms, sizes := map[string]bool{}, 0
	for after := ""; ; sizes++ {
		o := call("GET", "/rooms?limit=7&after="+url.QueryEscape(after), "", 200)
		for _, r := range o["rooms"].([]any) {
			rooms[r.(map[string]any)["name"].(string)] = true
		}
		if o["next"] == nil {
			break
		}
		after = o["next"].(string)
	}
	for _, name := range roomNames {
		assert.True(t, rooms[name], name)
	}
	assert.Len(t, rooms, len(roomNames))
}

func TestRoomsOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "attic", "hall", "secret")
	w.rules.access = func(who chat.Author, _ chat.Action, room string) error {
		if room == "secret" && who.ID != adaAuthor.ID && who.ID != chat.System.ID {
			return chat.ErrNotAllowed
		}
		return nil
	}
	w.say(adaToken, "hall", "hello")
	w.wantStatus(w.do("PATCH", "/rooms/hall/messages/1", `{"text":"hello again"}`, bearer(adaToken)), 200)
	assert.JSONEq(t, `{"rooms":[
		{"name":"attic","kind":"public","createdBy":"u-ada","createdAt":"2026-03-01T12:00:00Z","seq":0,"rev":0},
		{"name":"hall","kind":"public","createdBy":"u-ada","createdAt":"2026-03-01T12:00:01Z","seq":1,"rev":1}]}`,
		w.wantStatus(w.get("/rooms", bearer(bobToken)), 200).body)
	assert.Contains(t, w.get("/rooms", bearer(adaToken)).body, "secret")
	assert.Contains(t, w.admin.get("/rooms", bearer(adminToken)).body, "secret")
	first := w.object(w.get("/rooms?limit=1", bearer(bobToken)))
	assert.Equal(t, "attic", first["next"])
	last := w.object(w.get("/rooms?limit=1&after=attic", bearer(bobToken)))
	assert.NotContains(t, last, "next", "what one may not see is not more")
	for query, status := range map[string]int{"limit=50": 200, "limit=51": 422, "limit=0": 422, "limit=": 422, "limit=a": 422, "after=zzz": 200, "after=%00": 400, "other=1": 422, "after=a&after=b": 422} {
		assert.Equal(t, status, w.get("/rooms?"+query, bearer(bobToken)).StatusCode, query)
	}
}

func TestMyRoomsOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	assert.JSONEq(t, `{"rooms":[]}`, w.wantStatus(w.get("/rooms/mine", bearer(adaToken)), 200).body)
	w.join(bobAuthor, "hall")
	w.say(bobToken, "hall", "before")
	w.join(adaAuthor, "hall", "attic", "mine")
	for _, text := range []string{"one", "two", "three"} {
		w.say(bobToken, "hall", text)
	}
	w.wantStatus(w.do("DELETE", "/rooms/hall/messages/3", "", bearer(bobToken)), 200)
	var all []map[string]any
	var cursors []string
	for query := "?limit=1"; query != ""; {
		o := w.object(w.wantStatus(w.get("/rooms/mine"+query, bearer(adaToken)), 200))
		for _, r := range o["rooms"].([]any) {
			all = append(all, r.(map[string]any))
		}
		query = ""
		if next, ok := o["next"].(string); ok {
			query = "?limit=1&cursor=" + url.QueryEscape(next)
			cursors = append(cursors, next)
		}
	}
	require.Len(t, all, 3)
	assert.Equal(t, []any{"hall", "mine", "attic"}, []any{all[0]["room"], all[1]["room"], all[2]["room"]})
	assert.Equal(t, "member", all[0]["role"])
	assert.EqualValues(t, 4, all[0]["seq"])
	assert.EqualValues(t, 1, all[0]["rev"])
	assert.EqualValues(t, 1, all[0]["read"], "what was there when one joined is read")
	assert.EqualValues(t, 2, all[0]["unread"], "without the deleted one")
	assert.Equal(t, "three", all[0]["last"].(map[string]any)["text"])
	assert.Contains(t, all[1], "last")
	assert.Nil(t, all[1]["last"])

	o := w.object(w.wantStatus(w.do("PUT", "/rooms/hall/read", `{"seq":2}`, bearer(adaToken)), 200))
	assert.Equal(t, map[string]any{"read": 2.0, "unread": 1.0}, o)
	o = w.object(w.wantStatus(w.do("PUT", "/rooms/hall/read", `{"seq":0}`, bearer(adaToken)), 200))
	assert.Equal(t, map[string]any{"read": 2.0, "unread": 1.0}, o, "it never goes back")
	o = w.object(w.wantStatus(w.do("PUT", "/rooms/hall/read", `{"seq":9007199254740991}`, bearer(adaToken)), 200))
	assert.Equal(t, map[string]any{"read": 4.0, "unread": 0.0}, o)
	w.say(adaToken, "hall", "I have read it")
	w.say(bobToken, "hall", "good")
	mine := w.object(w.get("/rooms/mine?limit=1", bearer(adaToken)))["rooms"].([]any)[0].(map[string]any)
	assert.EqualValues(t, 5, mine["read"])
	assert.EqualValues(t, 1, mine["unread"])

	write := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	require.NotEmpty(t, cursors)
	for name, cursor := range map[string]string{
		"a word": "hall", "no base64": "!!", "padded": cursors[0] + "=", "cut": cursors[0][:len(cursors[0])-3], "no time": write("hall"), "no room": write("1 "),
		"another time": write("+1 hall"), "a zero before": write("01 hall"), "a time beyond": write("9999999999999999999 hall"), "a year beyond": write("9223372036854775807 hall"), "a bad room": write("1 \x01"),
		"a bad text": write("1 \xff"),
	} {
		d := w.wantProblem(w.get("/rooms/mine?cursor="+url.QueryEscape(cursor), bearer(adaToken)), 422, "invalid")
		require.NotEmpty(t, d.Errors, name)
		assert.Equal(t, "query.cursor", d.Errors[0].Location, name)
	}
	for query, status := range map[string]int{"limit=100": 200, "limit=101": 422, "limit=0": 422, "cursor=": 200, "after=a": 422} {
		assert.Equal(t, status, w.get("/rooms/mine?"+query, bearer(adaToken)).StatusCode, query)
	}
	assert.Equal(t, "mine", w.admin.object(w.admin.get("/rooms/mine", bearer(adminToken)))["name"], "operators have no rooms, and this is the name of one")
	assert.Equal(t, "mine", w.object(w.get("/rooms/%6Dine", bearer(adaToken)))["name"])
	assert.Equal(t, "mine", w.object(w.get("/rooms/min%65", bearer(adaToken)))["name"])
	assert.Equal(t, 404, w.admin.do("PUT", "/rooms/hall/read", `{"seq":1}`, bearer(adminToken)).StatusCode)
}

func TestHistoryOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	for i := range 120 {
		w.say(adaToken, "hall", fmt.Sprint(i+1))
	}
	for _, seq := range []int{7, 3, 7, 5} {
		w.wantStatus(w.do("PATCH", fmt.Sprintf("/rooms/hall/messages/%d", seq), fmt.Sprintf(`{"text":"edited %d"}`, w.clock.now().UnixNano()), bearer(adaToken)), 200)
		w.clock.advance(time.Second)
	}
	for query, c := range map[string]struct {
		want string
		more bool
	}{
		"":                                {"21-120", true},
		"limit=2":                         {"119-120", true},
		"limit=1000":                      {"21-120", true},
		"before=4":                        {"1-3", false},
		"before=4&limit=2":                {"2-3", true},
		"before=1":                        {"", false},
		"after=117":                       {"118-120", false},
		"after=0&limit=2":                 {"1-2", true},
		"after=120":                       {"", false},
		"after=9007199254740991":          {"", false},
		"after=2&before=6":                {"3-5", false},
		"changedAfter=0":                  {"3,7,5", false},
		"changedAfter=2":                  {"7,5", false},
		"changedAfter=0&limit=1":          {"3", true},
		"changedAfter=4":                  {"", false},
		"changedAfter=2&after=5&before=1": {"7,5", false},
	} {
		o := w.object(w.wantStatus(w.get("/rooms/hall/messages?"+query, bearer(adaToken)), 200))
		var got []string
		for _, m := range o["messages"].([]any) {
			got = append(got, fmt.Sprint(m.(map[string]any)["seq"]))
		}
		want := strings.Split(c.want, ",")
		if from, to, ok := strings.Cut(c.want, "-"); ok {
			var a, b int
			_, err := fmt.Sscan(from, &a)
			require.NoError(t, err)
			_, err = fmt.Sscan(to, &b)
			require.NoError(t, err)
			want = nil
			for ; a <= b; a++ {
				want = append(want, fmt.Sprint(a))
			}
		}
		assert.Equal(t, strings.Join(want, ","), strings.Join(got, ","), query)
		assert.Equal(t, c.more, o["more"], query)
	}
	for _, query := range []string{"before=0", "before=-1", "before=a", "before=", "after=-1", "after=1.5", "after=9007199254740992", "changedAfter=", "limit=0", "limit=1001", "since=3", "before=1&before=2"} {
		w.wantProblem(w.get("/rooms/hall/messages?"+query, bearer(adaToken)), 422, "invalid")
	}
}

// TestChangesOverREST: each answers the message's place and its last change; to do it again changes nothing.
func TestChangesOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.join(bobAuthor, "hall")
	w.say(adaToken, "hall", "one")
	w.say(bobToken, "hall", "two")
	for _, c := range []struct {
		token, method, path, body string
		status                    int
		want                      string // the answer, or the code of the problem
	}{
		{adaToken, "PATCH", "1", `{"text":"one, edited","data":{"a":1}}`, 200, `{"seq":1,"rev":1}`},
		{adaToken, "PATCH", "1", `{"text":"one, edited","data":{"a":1}}`, 200, `{"seq":1,"rev":1}`},
		{adaToken, "PATCH", "1", `{"text":"one, edited"}`, 200, `{"seq":1,"rev":1}`},
		{bobToken, "PATCH", "1", `{"text":"mine"}`, 403, "not_allowed"},
		{bobToken, "DELETE", "1", "", 403, "not_allowed"},
		{bobToken, "PUT", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":2}`},
		{bobToken, "PUT", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":2}`},
		{adaToken, "DELETE", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":2}`},
		{bobToken, "DELETE", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":3}`},
		{bobToken, "PUT", "1/reactions/%20", "", 422, "reaction_invalid"},
		{bobToken, "PUT", "1/reactions/" + strings.Repeat("a", 33), "", 422, "reaction_invalid"},
		{bobToken, "PUT", "1/reactions/a%00", "", 400, "malformed_url"},
		{adaToken, "PATCH", "3", `{"text":"nothing"}`, 404, "message_not_found"},
		{adaToken, "DELETE", "3", "", 404, "message_not_found"},
		{adaToken, "PUT", "3/reactions/a", "", 404, "message_not_found"},
		{adaToken, "PATCH", "0", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "-1", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "one", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "9007199254740992", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "99999999999999999999", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "DELETE", "1?all=true", "", 422, "invalid"},
		{adaToken, "DELETE", "1", "", 200, `{"seq":1,"rev":4}`},
		{adaToken, "DELETE", "1", "", 200, `{"seq":1,"rev":4}`},
		{adaToken, "PATCH", "1", `{"text":"again"}`, 409, "message_deleted"},
		{bobToken, "PUT", "1/reactions/a", "", 409, "message_deleted"},
	} {
		a := w.do(c.method, "/rooms/hall/messages/"+c.path, c.body, bearer(c.token))
		if c.status == 200 {
			assert.JSONEq(t, c.want, w.wantStatus(a, 200).body, "%s %s %s", c.method, c.path, c.body)
		} else {
			w.wantProblem(a, c.status, c.want)
		}
	}
	for i := range chat.MaxReactionKeys {
		w.wantStatus(w.do("PUT", fmt.Sprintf("/rooms/hall/messages/2/reactions/k%d", i), "", bearer(adaToken)), 200)
	}
	w.wantProblem(w.do("PUT", "/rooms/hall/messages/2/reactions/another", "", bearer(adaToken)), 409, "too_many_reactions")
}

func TestBadMessagesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.say(adaToken, "hall", "one")
	for name, c := range map[string]struct {
		body        string
		status      int
		code, place string
	}{
		"no text":             {`{}`, 422, "invalid", "body"},
		"empty text":          {`{"text":""}`, 422, "text_invalid", "body.text"},
		"spaces":              {`{"text":" \n "}`, 422, "text_invalid", "body.text"},
		"long text":           {`{"text":"` + strings.Repeat("a", chat.MaxText+1) + `"}`, 422, "text_invalid", "body.text"},
		"a number":            {`{"text":7}`, 422, "invalid", "body.text"},
		"null":                {`{"text":null}`, 422, "invalid", "body.text"},
		"NUL":                 {`{"text":"a\u0000"}`, 422, "invalid", "body"},
		"half a character":    {`{"text":"a\ud800"}`, 400, "malformed", ""},
		"unknown member":      {`{"text":"a","kind":"b"}`, 422, "invalid", "body.kind"},
		"another's name":      {`{"text":"a","as":{"id":"u-bob","name":"Bob"}}`, 422, "invalid", "body.as"},
		"long client id":      {`{"text":"a","clientId":"` + strings.Repeat("a", chat.MaxClientID+1) + `"}`, 422, "client_id_invalid", "body.clientId"},
		"client id of spaces": {`{"text":"a","clientId":"a b"}`, 422, "client_id_invalid", "body.clientId"},
		"reply to the future": {`{"text":"a","replyTo":99}`, 422, "reply_to_invalid", "body.replyTo"},
		"reply to nothing":    {`{"text":"a","replyTo":0}`, 422, "invalid", "body.replyTo"},
		"reply below":         {`{"text":"a","replyTo":-1}`, 422, "invalid", "body.replyTo"},
		"reply to a half":     {`{"text":"a","replyTo":1.5}`, 422, "invalid", "body.replyTo"},
		"reply beyond":        {`{"text":"a","replyTo":9007199254740993}`, 422, "invalid", "body.replyTo"},
		"data of text":        {`{"text":"a","data":"b"}`, 422, "invalid", "body.data"},
		"data is a list":      {`{"text":"a","data":[]}`, 422, "invalid", "body.data"},
		"data is null":        {`{"text":"a","data":null}`, 422, "invalid", "body.data"},
		"much data":           {`{"text":"a","data":{"a":"` + strings.Repeat("b", chat.MaxData) + `"}}`, 422, "data_invalid", "body.data"},
		"deep data":           {`{"text":"a","data":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40) + `}`, 422, "data_invalid", "body.data"},
		"very deep data":      {`{"text":"a","data":` + strings.Repeat(`[`, 20_000), 400, "malformed", ""},
		"NUL in data":         {`{"text":"a","data":{"a\u0000":1}}`, 422, "invalid", "body"},
		"too large":           {`{"text":"a","data":{"a":"` + strings.Repeat("b", 64<<10) + `"}}`, 413, "too_large", ""},
		"two values":          {`{"text":"a"}{}`, 400, "malformed", ""},
		"no JSON":             {`text=a`, 400, "malformed", ""},
	} {
		methods := map[string]string{"POST": "/rooms/hall/messages", "PATCH": "/rooms/hall/messages/1"}
		if strings.Contains(c.body, "clientId") || strings.Contains(c.body, "replyTo") {
			delete(methods, "PATCH")
		}
		for method, path := range methods {
			d := w.wantProblem(w.do(method, path, c.body, bearer(adaToken)), c.status, c.code)
			if c.place != "" && assert.NotEmpty(t, d.Errors, name) {
				assert.Equal(t, c.place, d.Errors[0].Location, "%s %s", method, name)
			}
			w.wantProblem(w.do(method, path, `{"text":"a"}`, bearer(adaToken), header{"Content-Type", "text/plain"}), 415, "unsupported_media_type")
		}
	}
	for body, status := range map[string]int{`{}`: 422, `{"seq":-1}`: 422, `{"seq":"1"}`: 422, `{"seq":1.5}`: 422, `{"seq":null}`: 422, `{"seq":9007199254740993}`: 422, `{"seq":1,"read":1}`: 422, `[]`: 422, `{`: 400, `{"seq":1}`: 200} {
		assert.Equal(t, status, w.do("PUT", "/rooms/hall/read", body, bearer(adaToken)).StatusCode, body)
	}
	o := w.object(w.get("/rooms/hall/messages", bearer(adaToken)))
	assert.Len(t, o["messages"], 1, "nothing was stored")
}

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
