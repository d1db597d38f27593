package humaapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// brokenMessages fail when they are told to.
type brokenMessages struct {
	chat.MessageStore
	broken *bool
}

func (b brokenMessages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	if *b.broken {
		return nil, fault.Wrap(fault.Unavailable, errSecret)
	}
	return b.MessageStore.List(ctx, room, r)
}

// whole is a running system, with an API of operators.
type whole struct {
	*system
	*parley.System
	ports  parley.Ports
	broken bool
}

func newWhole(t *testing.T, config func(*whole) humaapi.UsersConfig) *whole {
	t.Helper()
	w := &whole{system: &system{t: t, seen: map[string]map[int]bool{}}, ports: memory.NewPorts()}
	w.ports.Messages = brokenMessages{w.ports.Messages, &w.broken}
	var err error
	w.System, err = parley.New(parley.Config{Ports: w.ports, PublicURL: "http://localhost", EraseAfter: time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
	w.api, err = humaapi.New(http.NewServeMux(), humaapi.Config{Log: slog.New(slog.NewTextHandler(w.system, nil))})
	require.NoError(t, err)
	w.api.UseMiddleware(w.record)
	cfg := config(w)
	if cfg.CurrentToken == nil {
		cfg.Token = adminToken
	}
	require.NoError(t, humaapi.RegisterUsers(w.api, cfg))
	t.Cleanup(w.checkDocumented)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	require.NoError(t, w.ports.Users.Create(t.Context(), user.User{
		ID: "u1", FullName: "Ada Lovelace", Email: ada, PasswordHash: "secret-hash", CreatedAt: at, VerifiedAt: at,
	}))
	require.NoError(t, w.ports.Sessions.Create(t.Context(), auth.Session{
		ID: "s1", UserID: "u1", FamilyHash: "secret-family", TokenHash: "secret-token", CreatedAt: time.Now(), RotatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
	}))
	require.NoError(t, w.ports.MailQueue.Enqueue(t.Context(), mail.Job{ID: "j1", Key: "k1", Kind: mail.KindPasswordReset, To: ada, Data: []byte(`{"resetCode":"secret-code"}`), RunAt: time.Now().Add(time.Hour), CreatedAt: at}))
	who := chat.Author{ID: "u1", Name: "Ada Lovelace"}
	_, err = w.Chat.Join(t.Context(), who, "hall")
	require.NoError(t, err)
	_, err = w.Send(t.Context(), chat.Draft{Room: "hall", Author: who, Text: "hi\n\"there\" \u2028", Data: `{"a":[1]}`, ClientID: "c-1"})
	require.NoError(t, err)
	_, err = w.Change(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: who, Key: "👍"})
	require.NoError(t, err)
	for _, p := range []chat.Pair{{By: "u1", Whom: "u2"}, {By: "u3", Whom: "u1"}} {
		_, err = w.ports.Blocks.Put(t.Context(), chat.Block{Pair: p, At: at}, 10)
		require.NoError(t, err)
	}
	require.NoError(t, w.ports.Settings.Put(t.Context(), "u1", chat.UserSettings{HidesRead: true}))
	return w
}

func all(w *whole) humaapi.UsersConfig {
	return humaapi.UsersConfig{
		Accounts: w.Auth, Mails: w.DeadLetters, Chat: w.Chat, Erase: w.EraseUser,
		Now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) },
	}
}

func TestUsersAreExported(t *testing.T) {
	t.Parallel()
	w := newWhole(t, all)
	admin := bearer(adminToken)
	assert.JSONEq(t, `{"id":"u1","fullName":"Ada Lovelace","email":"ada@example.com","createdAt":"2026-03-01T12:00:00Z","verifiedAt":"2026-03-01T12:00:00Z","role":"user"}`,
		w.wantStatus(w.get("/admin/users/u1", admin), 200).body)
	for _, path := range []string{"/admin/users/u1/export", "/admin/users/Ada%40example.com/export"} {
		a := w.wantStatus(w.get(path, admin), 200)
		assert.Equal(t, humaapi.MediaLines, a.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		var types []string
		lines := strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
		for _, text := range lines {
			var l map[string]any
			require.NoError(t, json.Unmarshal([]byte(text), &l), text)
			require.True(t, strings.HasPrefix(text, `{"type":"`))
			types = append(types, l["type"].(string))
		}
		assert.Equal(t, []string{"export", "account", "session", "mail", "membership", "mark", "block", "settings", "message", "reaction", "end"}, types)
		assert.JSONEq(t, `{"type":"export","format":1,"user":"u1","at":"2026-03-01T12:00:00Z"}`, lines[0])
		assert.JSONEq(t, `{"type":"mark","room":"hall","read":1}`, lines[5])
		assert.JSONEq(t, `{"type":"block","user":"u2","at":"2026-03-01T12:00:00Z"}`, lines[6], "who has blocked them is not theirs to know")
		assert.JSONEq(t, `{"type":"settings","readReceipts":false}`, lines[7])
		assert.Contains(t, lines[8], `"text":"hi\n\"there\" \u2028"`)
		assert.Contains(t, lines[8], `"data":{"a":[1]}`)
		assert.JSONEq(t, `{"type":"reaction","room":"hall","seq":1,"key":"👍"}`, lines[9])
		assert.JSONEq(t, `{"type":"end","lines":10}`, lines[10])
		assert.NotContains(t, a.body, "secret")
	}
	w.wantProblem(w.get("/admin/users/nobody/export", admin), 404, "user_not_found")
	w.wantProblem(w.get("/admin/users/nobody", admin), 404, "user_not_found")
	w.wantProblem(w.get("/admin/users/u1/export?more=1", admin), 422, "invalid")
	w.wantProblem(w.get("/admin/users/"+strings.Repeat("x", 513)+"/export", admin), 422, "invalid")
	w.wantProblem(w.get("/admin/users/u1/export"), 401, "unauthenticated")
	w.wantProblem(w.get("/admin/users/u1/export", bearer(adminToken+"x")), 401, "token_invalid")

	w.broken = true
	a := w.wantStatus(w.get("/admin/users/u1/export", admin), 200)
	lines := strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
	assert.Contains(t, lines[len(lines)-1], `{"type":"error","title":`)
	assert.NotContains(t, a.body, `"end"`, "it is not whole")
	assert.NotContains(t, a.body, "hunter2")
	assert.Contains(t, w.log(), "hunter2", "operators are told")
}

func TestUsersAreErased(t *testing.T) {
	t.Parallel()
	w := newWhole(t, all)
	admin := bearer(adminToken)
	w.broken = true
	w.wantProblem(w.do("DELETE", "/admin/users/u1", "", admin), 503, "unavailable")
	u, err := w.Auth.Find(t.Context(), "u1")
	require.NoError(t, err)
	assert.True(t, u.Erased(), "the account is gone at once")
	w.broken = false
	assert.JSONEq(t, `{"id":"u1","account":{"emptied":false,"sessions":0,"codes":0,"signUps":0},"mails":{"jobs":0,"events":0},"chat":{"memberships":0,"messages":1,"reactions":0,"blocks":0}}`,
		w.wantStatus(w.do("DELETE", "/admin/users/u1", "", admin), 200).body)
	assert.JSONEq(t, `{"id":"u1","account":{"emptied":false,"sessions":0,"codes":0,"signUps":0},"mails":{"jobs":0,"events":0},"chat":{"memberships":0,"messages":0,"reactions":0,"blocks":0}}`,
		w.wantStatus(w.do("DELETE", "/admin/users/u1", "", admin), 200).body)
	assert.JSONEq(t, `{"id":"u1","fullName":"Deleted user","createdAt":"2026-03-01T12:00:00Z","passwordChangedAt":"`+u.PasswordChangedAt.Format(time.RFC3339Nano)+`","role":"user","erased":true}`,
		w.get("/admin/users/u1", admin).body)
	export := w.wantStatus(w.get("/admin/users/u1/export", admin), 200).body
	assert.NotContains(t, export, "erased.invalid")
	assert.NotContains(t, export, "there")
	jobs, err := w.ports.DeadLetters.List(t.Context(), mail.Filter{Limit: 10})
	require.NoError(t, err)
	assert.Empty(t, jobs)
	w.wantProblem(w.do("DELETE", "/admin/users/nobody", "", admin), 404, "user_not_found")
	w.wantProblem(w.do("DELETE", "/admin/users/"+ada, "", admin), 404, "user_not_found")
	w.wantProblem(w.do("DELETE", "/admin/users/u1", ""), 401, "unauthenticated")
}

// A part erases what it keeps.
func TestPartsEraseWhatTheyKeep(t *testing.T) {
	t.Parallel()
	admin := bearer(adminToken)
	rooms := newWhole(t, func(w *whole) humaapi.UsersConfig { return humaapi.UsersConfig{Chat: w.Chat, Erase: w.Node.EraseUser} })
	assert.Contains(t, rooms.wantProblem(rooms.get("/admin/users/u1", admin), 404, "user_not_found").Detail, "another program")
	assert.Contains(t, rooms.get("/admin/users/u1/export", admin).body, `"type":"message"`)
	assert.NotContains(t, rooms.get("/admin/users/u1/export", admin).body, `"type":"account"`)
	assert.JSONEq(t, `{"id":"u1","chat":{"memberships":1,"messages":1,"reactions":0,"blocks":2}}`, rooms.wantStatus(rooms.do("DELETE", "/admin/users/u1", "", admin), 200).body)
	assert.JSONEq(t, `{"id":"u2","chat":{"memberships":0,"messages":0,"reactions":0,"blocks":0}}`, rooms.wantStatus(rooms.do("DELETE", "/admin/users/u2", "", admin), 200).body)

	// Nobody else would say that they are no users.
	for _, id := range []string{ada, "system"} {
		rooms.wantProblem(rooms.do("DELETE", "/admin/users/"+id, "", admin), 404, "user_not_found")
		rooms.wantProblem(rooms.get("/admin/users/"+id+"/export", admin), 404, "user_not_found")
	}

	accounts := newWhole(t, func(w *whole) humaapi.UsersConfig {
		return humaapi.UsersConfig{Accounts: w.Auth, Erase: w.Accounts.EraseUser}
	})
	assert.JSONEq(t, `{"id":"u1","account":{"emptied":true,"sessions":1,"codes":0,"signUps":0},"mails":{"jobs":0,"events":0}}`,
		accounts.wantStatus(accounts.do("DELETE", "/admin/users/"+ada, "", admin), 200).body)
	require.Eventually(t, func() bool { // the mailer hears of it
		jobs, err := accounts.ports.DeadLetters.List(t.Context(), mail.Filter{Limit: 10})
		return err == nil && len(jobs) == 0
	}, 10*time.Second, time.Millisecond)

	off := newWhole(t, func(w *whole) humaapi.UsersConfig {
		cfg := all(w)
		cfg.CurrentToken = func() string { return "" }
		return cfg
	})
	off.wantProblem(off.do("DELETE", "/admin/users/u1", "", admin), 403, "user_admin_disabled")
}

func TestUsersConfigIsChecked(t *testing.T) {
	t.Parallel()
	a, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
	require.NoError(t, err)
	err = humaapi.RegisterUsers(nil, humaapi.UsersConfig{Token: "short"})
	for _, says := range []string{"API", "Erase", "Token"} {
		require.ErrorContains(t, err, says)
	}
	require.NoError(t, humaapi.RegisterUsers(a, humaapi.UsersConfig{
		Accounts: &auth.Service{}, Erase: func(context.Context, string) (parley.UserErasure, error) {
			return parley.UserErasure{}, errors.New("no")
		},
	}))
}

// An export and an erasure may take longer than other answers.
func TestNothingBoundsAnErasure(t *testing.T) {
	t.Parallel()
	w := newWhole(t, func(w *whole) humaapi.UsersConfig {
		cfg := all(w)
		erase := cfg.Erase
		cfg.Erase = func(ctx context.Context, id string) (parley.UserErasure, error) {
			late := time.NewTimer(300 * time.Millisecond) // longer than the server below lets an answer take
			defer late.Stop()
			select {
			case <-late.C:
			case <-ctx.Done():
				return parley.UserErasure{}, fault.Wrap(fault.Unavailable, ctx.Err())
			}
			return erase(ctx, id)
		}
		return cfg
	})
	server := httptest.NewUnstartedServer(w.api)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	server.Start()
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, server.URL+"/admin/users/u1", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+adminToken)
	answer, err := server.Client().Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	assert.Equal(t, http.StatusOK, answer.StatusCode)
}
