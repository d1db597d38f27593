package humaapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
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
