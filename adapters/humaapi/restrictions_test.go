package humaapi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// restricts calls as an operator.
func (w *world) restricts(method, path, body string) answer {
	w.t.Helper()
	return w.admin.do(method, path, body, bearer(adminToken))
}

func TestOperatorsBanAndMute(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ban", "mute"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.join(adaAuthor, "hall")
			at := "/rooms/hall/" + kind + "s"
			begun := w.clock.now().Format(time.RFC3339)
			list := func(of string) string {
				t.Helper()
				return w.admin.wantStatus(w.admin.get(of, bearer(adminToken)), 200).body
			}
			assert.JSONEq(t, `{"`+kind+`s":[]}`, list(at))
			for _, c := range []struct{ method, id, body string }{
				{"PUT", "u-eve", `{}`}, {"PUT", "u-bob", `{"until":"2026-03-01T13:30:00+01:00","reason":"caps"}`}, {"DELETE", "u-ada", ""}, {"PUT", encoded("é/ü %"), `{"reason":"spam"}`},
				{"PUT", "%2F", `{}`}, {"DELETE", "%2F", ""}, {"DELETE", "nobody", ""}, {"PUT", "u-eve", `{"reason":"more spam"}`},
			} {
				a := w.admin.wantStatus(w.restricts(c.method, at+"/"+c.id, c.body), 204)
				assert.Empty(t, a.body)
			}
			w.clock.advance(time.Second)
			assert.JSONEq(t, `{"`+kind+`s":[
				{"user":"u-bob","by":"system","at":"`+begun+`","until":"2026-03-01T12:30:00Z","reason":"caps"},
				{"user":"u-eve","by":"system","at":"2026-03-01T12:00:01.000001Z","reason":"more spam"},
				{"user":"é/ü %","by":"system","at":"`+begun+`","reason":"spam"}]}`, list(at))
			assert.NotContains(t, list("/rooms/hall/"+map[string]string{"ban": "mutes", "mute": "bans"}[kind]), "u-bob")
			var users []any
			for query := "?limit=1"; query != ""; {
				o := w.admin.object(w.admin.get(at+query, bearer(adminToken)))
				for _, r := range o[kind+"s"].([]any) {
					users = append(users, r.(map[string]any)["user"])
				}
				query = ""
				if next, ok := o["next"].(string); ok {
					query = "?limit=1&after=" + url.QueryEscape(next)
				}
			}
			assert.Equal(t, []any{"u-bob", "u-eve", "é/ü %"}, users)
			w.clock.advance(time.Hour)
			assert.NotContains(t, list(at), "u-bob", "it has ended")
		})
	}
}

func TestBadRestrictionsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	for _, kind := range []string{"bans", "mutes"} {
		for _, c := range []struct {
			path, body string
			status     int
			code       string
		}{
			{"hall/" + kind + "/u", `{"until":"2026-03-01T12:00:01Z"}`, 422, "restriction_invalid"},
			{"hall/" + kind + "/u", `{"until":"0001-01-01T00:00:00Z"}`, 422, "restriction_invalid"},
			{"hall/" + kind + "/u", `{"until":"9999-12-31T23:59:59-01:00"}`, 422, "restriction_invalid"},
			{"hall/" + kind + "/u", `{"until":"tomorrow"}`, 422, "invalid"},
			{"hall/" + kind + "/u", `{"until":""}`, 422, "invalid"},
			{"hall/" + kind + "/u", `{"until":null}`, 422, "invalid"},
			{"hall/" + kind + "/u", `{"until":3600}`, 422, "invalid"},
			{"hall/" + kind + "/u", `{"reason":null}`, 422, "invalid"},
			{"hall/" + kind + "/u", `{"reason":"   "}`, 422, "restriction_invalid"},
			{"hall/" + kind + "/u", `{"reason":"` + strings.Repeat("ü", chat.MaxReason+1) + `"}`, 422, "restriction_invalid"},
			{"hall/" + kind + "/u", `{"by":"u-bob"}`, 422, "invalid"},
			{"hall/" + kind + "/u", `[]`, 422, "invalid"},
			{"hall/" + kind + "/u", `{`, 400, "malformed"},
			{"hall/" + kind + "/u", ``, 400, "malformed"},
			{"hall/" + kind + "/%20", `{}`, 422, "restriction_invalid"},
			{"hall/" + kind + "/a%00", `{}`, 400, "malformed_url"},
			{"hall/" + kind + "/%FF", `{}`, 400, "malformed_url"},
			{"hall/" + kind + "/" + strings.Repeat("u", chat.MaxAuthorID+1), `{}`, 422, "restriction_invalid"},
			{"nowhere/" + kind + "/u", `{}`, 404, "room_not_found"},
			{"%20a/" + kind + "/u", `{}`, 422, "room_invalid"},
			{"hall/" + kind + "/u?force=true", `{}`, 422, "invalid"},
		} {
			if strings.Contains(c.path, "?") {
				w.admin.wantProblem(w.restricts("DELETE", "/rooms/"+c.path, ""), c.status, c.code)
				continue
			}
			w.admin.wantProblem(w.restricts("PUT", "/rooms/"+c.path, c.body), c.status, c.code)
			if c.body == `{}` {
				w.admin.wantProblem(w.restricts("DELETE", "/rooms/"+c.path, ""), c.status, c.code)
			}
		}
		for query, status := range map[string]int{"limit=100": 200, "limit=101": 422, "limit=0": 422, "limit=": 422, "after=zzz": 200, "after=%00": 400, "cursor=a": 422} {
			assert.Equal(t, status, w.admin.get("/rooms/hall/"+kind+"?"+query, bearer(adminToken)).StatusCode, query)
		}
		w.admin.wantProblem(w.admin.get("/rooms/nowhere/"+kind, bearer(adminToken)), 404, "room_not_found")
		w.admin.wantProblem(w.admin.get("/rooms/%20a/"+kind, bearer(adminToken)), 422, "room_invalid")
		assert.JSONEq(t, `{"`+kind+`":[]}`, w.admin.get("/rooms/hall/"+kind, bearer(adminToken)).body, "nothing was stored")
	}
}

func TestOnlyOperatorsActAsOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	for _, kind := range []string{"bans", "mutes"} {
		for _, c := range []struct{ method, path, body string }{{"PUT", "/u-bob", `{}`}, {"DELETE", "/u-bob", ""}, {"GET", "", ""}} {
			path := "/rooms/hall/" + kind + c.path
			w.admin.wantProblem(w.admin.do(c.method, path, c.body), 401, "unauthenticated")
			w.admin.wantProblem(w.admin.do(c.method, path, c.body, bearer(adaToken)), 401, "token_invalid")
			w.wantProblem(w.do(c.method, path, c.body, bearer(adaToken)), 403, "role_lacks_right")
			w.wantProblem(w.do(c.method, path, c.body), 401, "unauthenticated")
		}
	}
}

func TestAServerMayKeepNoRestrictions(t *testing.T) {
	t.Parallel()
	messages := memory.NewMessages()
	members := memory.NewMembers(messages)
	service, err := chat.New(chat.Config{
		Store: messages, Rooms: memory.NewRooms(), Members: members, Marks: members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	require.NoError(t, err)
	api, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
	require.NoError(t, err)
	require.NoError(t, humaapi.RegisterRoomsAdmin(api, humaapi.RoomsAdminConfig{Service: service, Token: adminToken}))
	s := &system{t: t, api: api, seen: map[string]map[int]bool{}}
	api.UseMiddleware(s.record)
	t.Cleanup(s.checkDocumented)
	for _, kind := range []string{"bans", "mutes"} {
		s.wantProblem(s.do("PUT", "/rooms/hall/"+kind+"/u", `{}`, bearer(adminToken)), 422, "restrictions_not_supported")
		s.wantProblem(s.do("DELETE", "/rooms/hall/"+kind+"/u", "", bearer(adminToken)), 422, "restrictions_not_supported")
		s.wantProblem(s.get("/rooms/hall/"+kind, bearer(adminToken)), 422, "restrictions_not_supported")
	}
}

func TestAMutedMemberReadsAndMarksOnlyOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(bobAuthor, "hall", "attic")
	w.join(adaAuthor, "hall", "attic")
	w.say(adaToken, "hall", "one")
	w.say(bobToken, "hall", "two")
	until := w.clock.now().Add(time.Hour).Format(time.RFC3339)
	mutedUntil := func() map[string]any {
		t.Helper()
		all := map[string]any{}
		for _, r := range w.object(w.wantStatus(w.get("/rooms/mine", bearer(adaToken)), 200))["rooms"].([]any) {
			if end, ok := r.(map[string]any)["mutedUntil"]; ok {
				all[r.(map[string]any)["room"].(string)] = end
			}
		}
		return all
	}
	assert.Empty(t, mutedUntil())
	w.admin.wantStatus(w.restricts("PUT", "/rooms/hall/mutes/u-ada", `{"until":"`+until+`"}`), 204)
	for _, c := range roomOperations("hall") {
		a := w.do(c.method, c.path, c.body, bearer(adaToken))
		if c.method == "GET" || strings.HasSuffix(c.path, "/read") {
			w.wantStatus(a, 200)
			continue
		}
		assert.Equal(t, "until "+until, w.wantProblem(a, 403, "muted").Detail, "%s %s", c.method, c.path)
	}
	assert.Equal(t, map[string]any{"hall": until}, mutedUntil())
	w.say(adaToken, "attic", "elsewhere I may")
	w.say(bobToken, "hall", "others may")
	w.admin.wantStatus(w.restricts("PUT", "/rooms/hall/mutes/system", `{}`), 204)
	w.admin.wantStatus(w.restricts("POST", "/rooms/hall/messages", `{"text":"nobody mutes an operator"}`), 201)
	w.admin.wantStatus(w.restricts("POST", "/rooms/hall/messages", `{"text":"an application speaks as whom it wants","as":{"id":"u-ada","name":"Ada"}}`), 201)
	// It ends by itself, or is lifted.
	w.clock.advance(time.Hour)
	w.say(adaToken, "hall", "an hour later")
	w.admin.wantStatus(w.restricts("PUT", "/rooms/hall/mutes/u-ada", `{}`), 204)
	assert.Equal(t, map[string]any{"hall": "9999-12-31T23:59:59Z"}, mutedUntil())
	assert.Empty(t, w.wantProblem(w.post("/rooms/hall/messages", fields{"text": "x"}, bearer(adaToken)), 403, "muted").Detail)
	w.admin.wantStatus(w.restricts("DELETE", "/rooms/hall/mutes/u-ada", ""), 204)
	w.clock.advance(time.Second)
	w.say(adaToken, "hall", "thank you")
	assert.Empty(t, mutedUntil())
}

func TestABannedUserIsNoMemberOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.say(adaToken, "hall", "one")
	w.admin.wantStatus(w.restricts("PUT", "/rooms/hall/bans/u-ada", `{"reason":"spam"}`), 204)
	for _, c := range roomOperations("hall") {
		w.wantProblem(w.do(c.method, c.path, c.body, bearer(adaToken)), 403, "not_a_member")
	}
	_, err := w.chat.Join(t.Context(), adaAuthor, "hall")
	require.ErrorIs(t, err, chat.ErrBanned)
	assert.JSONEq(t, `{"rooms":[]}`, w.wantStatus(w.get("/rooms/mine", bearer(adaToken)), 200).body)
	w.admin.wantStatus(w.restricts("DELETE", "/rooms/hall/bans/u-ada", ""), 204)
	w.clock.advance(time.Second)
	w.join(adaAuthor, "hall")
	w.say(adaToken, "hall", "back")
}

// counting counts the looks at restrictions.
type counting struct {
	chat.Restrictions
	looks int
}

func (c *counting) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	c.looks++
	return c.Restrictions.InForce(ctx, now, whom...)
}

func TestMutesOfManyRoomsAreOneLook(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	held := &counting{Restrictions: store.Restrictions}
	s, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Restrictions: held, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	require.NoError(t, err)
	var rooms []string
	for i := range 60 {
		rooms = append(rooms, fmt.Sprint(i))
		_, err := store.Rooms.Ensure(t.Context(), chat.Room{Name: rooms[i], CreatedBy: "u"})
		require.NoError(t, err)
	}
	for _, r := range []chat.Restriction{{Room: "7", UserID: "u", Kind: chat.Mute}, {Room: "9", UserID: "u", Kind: chat.Ban}, {Room: "8", UserID: "other", Kind: chat.Mute}} {
		_, err := s.Restrict(t.Context(), chat.Actor{Any: true}, r)
		require.NoError(t, err)
	}
	mutes, err := s.Mutes(t.Context(), user.ID("u"), rooms...)
	require.NoError(t, err)
	require.Len(t, mutes, 1)
	assert.Equal(t, chat.Mute, mutes["7"].Kind)
	assert.Equal(t, 1, held.looks)
	mutes, err = s.Mutes(t.Context(), "u")
	require.NoError(t, err)
	assert.Empty(t, mutes)
	assert.Equal(t, 1, held.looks)
}
