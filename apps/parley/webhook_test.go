package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/webhook"
)

// told is a request that a listener got.
type told struct {
	ID, Type string
	Data     json.RawMessage
	Body     string
}

// listener is an operator's server that is told what has happened.
type listener struct {
	*httptest.Server
	mu       sync.Mutex
	all      []told // with each attempt
	taken    []told
	unsigned int
	secret   string
	answer   func(n int, d told) int // n counts the attempts of one fact, from 1
}

func newListener(t *testing.T) *listener {
	t.Helper()
	l := &listener{secret: oneSecret, answer: func(int, told) int { return http.StatusNoContent }}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		d := decode[told](t, body)
		d.ID, d.Body = r.Header.Get("Webhook-Id"), string(body)
		l.mu.Lock()
		if err != nil || webhook.Verify([]string{l.secret}, r.Header, body, time.Now()) != nil {
			l.unsigned++
		}
		l.all = append(l.all, d)
		n := 0
		for _, o := range l.all {
			if o.ID == d.ID {
				n++
			}
		}
		answer := l.answer
		l.mu.Unlock()
		status := answer(n, d)
		if status == 0 { // it is gone before it answers
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		l.mu.Lock()
		if status < 300 {
			l.taken = append(l.taken, d)
		}
		l.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(l.Close)
	return l
}

// answers changes what the server answers.
func (l *listener) answers(f func(n int, d told) int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = f
}

func (l *listener) got(kind string) (some []told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.taken {
		if strings.HasPrefix(d.Type, kind) {
			some = append(some, d)
		}
	}
	return some
}

func (l *listener) attempts() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// first waits for the first fact of a type.
func (l *listener) first(t *testing.T, kind string) told {
	t.Helper()
	await(t, "a fact of type "+kind, func() bool { return len(l.got(kind)) > 0 })
	return l.got(kind)[0]
}

func (l *listener) args() []string {
	return []string{"--webhook-url", l.URL + "/hooks", "--webhook-secret", l.secret, "--webhook-private", "on", "--admin-token", adminToken}
}

func TestAServerOfTheOperatorIsToldWhatHasHappened(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	l.answers(func(n int, _ told) int {
		if n == 1 {
			return 0
		}
		return http.StatusOK
	})
	s := serve(t, t.TempDir(), l.args()...)
	g := s.member(t, "Ada Lovelace")
	created := l.first(t, "user.created")
	assert.JSONEq(t, `{"user":{"id":"`+g.User.ID+`","name":"Ada Lovelace","email":"ada.lovelace@example.com"}}`, string(created.Data))
	assert.Regexp(t, `^{"type":"user.created","timestamp":"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","data":{`, created.Body)
	attempts := l.attempts()
	require.Len(t, attempts, 2, "the first was dropped")
	require.Equal(t, attempts[0], attempts[1])

	must(t, 204, http.MethodPost, s.url+"/auth/signout", g.AccessToken, nil)
	ended := l.first(t, "session.ended")
	assert.Contains(t, string(ended.Data), `"reason":"signout"`)
	assert.NotContains(t, string(ended.Data), "Ada")

	// What waits about somebody who is erased goes, and their server is told by the ID alone.
	grace := s.member(t, "Grace Hopper")
	await(t, "Grace's account", func() bool { return len(l.got("user.created")) == 2 })
	execute(t, nil, "user", "erase", grace.User.ID, "--yes", "--admin-token", adminToken, "--url", s.admin).succeeded(t)
	erased := l.first(t, "user.erased")
	assert.JSONEq(t, `{"user":{"id":"`+grace.User.ID+`"}}`, string(erased.Data))
	listed := execute(t, nil, "webhook", "list", "--state", "any", "--about", grace.User.ID, "--json", "--admin-token", adminToken, "--url", s.admin).succeeded(t)
	assert.NotContains(t, listed, "user.created")
	assert.Zero(t, l.unsigned)
	s.stop(t, syscall.SIGTERM)
	assert.NotContains(t, s.stderr.String(), "whsec_")
}

func TestDeadLettersOfWebhooksAreReplayed(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	l.answers(func(int, told) int { return http.StatusGone })
	s := serve(t, t.TempDir(), append(l.args(), "--webhook-events", "user.created")...)
	s.member(t, "Ada Lovelace")
	webhooks := func(args ...string) string {
		return execute(t, nil, append(append([]string{"webhook"}, args...), "--admin-token", adminToken, "--url", s.admin)...).succeeded(t)
	}
	await(t, "a dead letter", func() bool { return strings.Contains(webhooks("stats"), `"dead": 1`) })
	listed := decode[struct {
		Deliveries []struct{ ID, WebhookID, Type, LastError string }
	}](t, []byte(webhooks("list", "--json")))
	require.Len(t, listed.Deliveries, 1)
	letter := listed.Deliveries[0]
	assert.Equal(t, "user.created", letter.Type)
	assert.Contains(t, letter.LastError, "410")
	assert.Regexp(t, `\n`+letter.ID+` +dead +user\.created +1 `, webhooks("list"))
	assert.NotContains(t, webhooks("show", letter.ID), "Lovelace")
	assert.Contains(t, webhooks("show", letter.ID, "--with-body"), "Lovelace")
	assert.Contains(t, webhooks("replay", "--dry-run"), letter.ID)
	assert.Contains(t, execute(t, nil, "mail", "stats", "--admin-token", adminToken, "--url", s.admin).succeeded(t), `"dead": 0`)
	l.answers(func(int, told) int { return http.StatusOK })
	webhooks("replay", letter.ID)
	assert.Equal(t, letter.WebhookID, l.first(t, "user.created").ID)
	await(t, "it to be sent", func() bool { return strings.Contains(webhooks("stats"), `"sent": 1`) })

	l.answers(func(int, told) int { return http.StatusGone })
	s.member(t, "Grace Hopper")
	await(t, "a dead letter", func() bool { return strings.Contains(webhooks("stats"), `"dead": 1`) })
	listed = decode[struct {
		Deliveries []struct{ ID, WebhookID, Type, LastError string }
	}](t, []byte(webhooks("list", "--json")))
	webhooks("discard", listed.Deliveries[0].ID)
	assert.Contains(t, webhooks("stats"), `"dead": 0`)
	for _, path := range []string{"/webhooks/deliveries", "/webhooks/stats", "/webhooks/deliveries/x"} {
		must(t, 401, http.MethodGet, s.admin+path, "", nil)
	}
	must(t, 404, http.MethodGet, s.admin+"/webhooks/deliveries/x", adminToken, nil)
	must(t, 404, http.MethodPost, s.admin+"/webhooks/deliveries/x/replay", adminToken, nil)
	// What was not chosen is not told.
	for _, d := range l.attempts() {
		assert.Equal(t, "user.created", d.Type)
	}
}

// A program that is killed after the server has taken a delivery, and before that is stored, delivers it again: with the same ID.
func TestAKillBetweenDeliveryAndSettlementDeliversAgain(t *testing.T) {
	t.Parallel()
	l, data := newListener(t), t.TempDir()
	taken, hold := make(chan struct{}, 1), make(chan struct{})
	l.answers(func(n int, _ told) int {
		if n == 1 {
			taken <- struct{}{}
			<-hold
		}
		return http.StatusOK
	})
	s := serve(t, data, l.args()...)
	s.member(t, "Ada Lovelace")
	<-taken
	s.kill()
	close(hold)
	serve(t, data, l.args()...)
	await(t, "the second delivery", func() bool { return len(l.attempts()) > 1 })
	all := l.attempts()
	assert.Equal(t, all[0], all[1])
}

// While nobody is there, facts wait; a secret that changes takes hold without a restart.
func TestFactsWaitForTheServer(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	file := filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, os.WriteFile(file, []byte(oneSecret+"\n"), 0o600))
	s := serveWith(t, t.TempDir(), func(c *exec.Cmd) { c.Env = append(c.Env, "PARLEY_WEBHOOK_SECRET_FILE="+file) },
		"--webhook-url", l.URL, "--webhook-private=on", "--webhook-events=user.*")
	s.member(t, "Ada Lovelace")
	l.first(t, "user.created")
	require.NoError(t, os.WriteFile(file, []byte(otherSecret+"\n"), 0o600))
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
	await(t, "it to read again", func() bool { return strings.Contains(s.stderr.String(), "SIGHUP: read again") })
	l.mu.Lock()
	l.secret = otherSecret
	l.mu.Unlock()
	s.member(t, "Grace Hopper")
	await(t, "a second fact", func() bool { return len(l.got("user.created")) == 2 })
	assert.Zero(t, l.unsigned)
	s.stop(t, syscall.SIGTERM)

	away := serve(t, t.TempDir(), "--webhook-url", "http://127.0.0.1:1/", "--webhook-secret", oneSecret, "--webhook-private=on", "--admin-token", adminToken)
	away.member(t, "Ada Lovelace")
	away.complains(t, "no delivery can be taken: they wait")
	away.stop(t, syscall.SIGTERM)
	private := serve(t, t.TempDir(), "--webhook-url", strings.Replace(l.URL, "http://", "https://", 1), "--webhook-secret", oneSecret)
	private.member(t, "Ada Lovelace")
	private.complains(t, "private addresses are not allowed")
}

// A message and its changes are told as they are on the socket, byte for byte, in the order of their room; deleting takes away what waits.
func TestMessagesAreToldAsOnTheSocket(t *testing.T) {
	t.Parallel()
	for name, store := range map[string][]string{"SQLite": nil, "memory": {"--store", "memory:"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newListener(t)
			s := serve(t, t.TempDir(), append(append(l.args(), "--webhook-events", "message.*"), store...)...)
			token := s.member(t, "Ada Lovelace").AccessToken
			raw := s.rawSocket(t, token)
			raw.say(t, `{"event":"join_room","id":1,"data":{"room":"hall"}}`)
			ear := s.rawSocket(t, s.member(t, "Grace Hopper").AccessToken)
			ear.say(t, `{"event":"join_room","id":1,"data":{"room":"hall"}}`)
			require.Len(t, ear.data(t, 1, "ack"), 1)
			const many = 30
			for i := range many {
				raw.say(t, fmt.Sprintf(`{"event":"message","id":%d,"data":{"room":"hall","text":"number %d <&> \u00e9","clientId":"c%d","data":{"n":1.50}}}`, i+2, i, i))
			}
			await(t, "all messages", func() bool { return len(l.got("message.created")) == many })
			raw.say(t, `{"event":"edit","id":101,"data":{"room":"hall","seq":1,"text":"edited"}}`)
			raw.say(t, `{"event":"react","id":102,"data":{"room":"hall","seq":2,"key":"+1"}}`)
			raw.say(t, `{"event":"delete","id":103,"data":{"room":"hall","seq":3}}`)
			await(t, "all changes", func() bool { return len(l.got("message.changed")) == 3 })
			heard := ear.data(t, many, "message")
			heard = append(heard, ear.data(t, 3, "changed")...)
			byText := map[string]bool{}
			for _, d := range append(l.got("message.created"), l.got("message.changed")...) {
				byText[string(d.Data)] = true
			}
			for _, h := range heard {
				assert.True(t, byText[h], "not told: %s", h)
			}
			assert.Len(t, byText, many+3)
			// First attempts begin in order; the listener may read them in another, so only all of them are compared.
			assert.Zero(t, l.unsigned)

			// What waits about a message that is deleted is not delivered any more.
			l.answers(func(int, told) int { return http.StatusServiceUnavailable })
			raw.say(t, `{"event":"message","id":104,"data":{"room":"hall","text":"never mind"}}`)
			await(t, "an attempt", func() bool { return strings.Contains(fmt.Sprint(l.attempts()), "never mind") })
			raw.say(t, fmt.Sprintf(`{"event":"delete","id":105,"data":{"room":"hall","seq":%d}}`, many+1))
			await(t, "the deletion", func() bool {
				all := l.attempts()
				return strings.HasPrefix(all[len(all)-1].Type, "message.changed")
			})
			listed := execute(t, nil, "webhook", "list", "--state", "any", "--json", "--admin-token", adminToken, "--url", s.admin).succeeded(t)
			waiting := decode[struct {
				Deliveries []struct{ ID, State, Type string }
			}](t, []byte(listed))
			for _, d := range waiting.Deliveries {
				if d.State == "ready" || d.State == "running" {
					assert.Equal(t, "message.changed", d.Type)
				}
			}
		})
	}
}

// rawSocket is a socket that keeps what it hears as it came.
type rawSocket struct {
	conn *websocket.Conn
	mu   sync.Mutex
	all  []string
}

func (s *server) rawSocket(t *testing.T, token string) *rawSocket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), s.socket(), http.Header{"Authorization": {"Bearer " + token}})
	require.NoError(t, err)
	r := &rawSocket{conn: conn}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			_, text, err := conn.ReadMessage()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.all = append(r.all, string(text))
			r.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-heard
	})
	return r
}

func (r *rawSocket) say(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, r.conn.WriteMessage(websocket.TextMessage, []byte(text)))
}

// data waits for so many events of a name, and returns their data, byte for byte.
func (r *rawSocket) data(t *testing.T, n int, name string) (some []string) {
	t.Helper()
	await(t, "events called "+name, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		some = nil
		for _, text := range r.all {
			e := decode[struct {
				Event string
				Data  json.RawMessage
			}](t, []byte(text))
			if e.Event == name {
				some = append(some, string(e.Data))
			}
		}
		return len(some) >= n
	})
	return some
}

// What becomes of rooms and memberships is told, also what happened just before a kill while nobody was there.
func TestRoomsAreTold(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--webhook-url", "http://127.0.0.1:1/", "--webhook-secret", oneSecret, "--webhook-private=on", "--webhook-events", "room.*,membership.*")
	ada, grace := s.member(t, "Ada Lovelace"), s.member(t, "Grace Hopper")
	must(t, 201, http.MethodPost, s.url+"/rooms", ada.AccessToken, map[string]any{"name": "plans", "kind": "private", "title": "Our plans", "data": map[string]int{"n": 1}})
	must(t, 200, http.MethodPut, s.url+"/rooms/plans/members/"+grace.User.ID, ada.AccessToken, map[string]string{"role": "reader"})
	must(t, 204, http.MethodDelete, s.url+"/rooms/plans/members/"+grace.User.ID, ada.AccessToken, nil)
	raw := s.rawSocket(t, grace.AccessToken)
	raw.say(t, `{"event":"join_room","id":1,"data":{"room":"tea"}}`)
	require.Len(t, raw.data(t, 1, "ack"), 1)
	s.kill()

	l := newListener(t)
	s = serve(t, data, append(l.args(), "--webhook-events", "room.*,membership.*")...)
	await(t, "what happened before the kill", func() bool { return len(l.got("")) == 6 })
	must(t, 204, http.MethodDelete, s.url+"/rooms/plans", ada.AccessToken, nil)
	deleted := l.first(t, "room.deleted")
	assert.JSONEq(t, `{"room":{"name":"plans"},"by":"`+ada.User.ID+`"}`, string(deleted.Data))
	got := []string{}
	for _, d := range l.got("") {
		got = append(got, d.Type+" "+string(d.Data))
	}
	member := func(room, id, role, by string) string {
		return `membership.changed {"room":"` + room + `","user":{"id":"` + id + `"},"role":` + role + `,"by":"` + by + `"}`
	}
	for _, want := range []string{
		member("plans", ada.User.ID, `"owner"`, ada.User.ID), member("plans", grace.User.ID, `"reader"`, ada.User.ID), member("plans", grace.User.ID, `null`, ada.User.ID),
		member("tea", grace.User.ID, `"member"`, grace.User.ID),
	} {
		assert.Contains(t, got, want)
	}
	created := l.got("room.created")
	require.Len(t, created, 2)
	if !strings.Contains(created[0].Body, "plans") { // requests go over several connections
		slices.Reverse(created)
	}
	assert.Contains(t, string(created[0].Data), `{"room":{"name":"plans","kind":"private","title":"Our plans","data":{"n":1},"createdBy":"`+ada.User.ID+`","createdAt":"`)
	assert.Contains(t, string(created[1].Data), `"name":"tea","kind":"public"`)
	assert.Zero(t, l.unsigned)
	listed := execute(t, nil, "webhook", "list", "--state", "any", "--json", "--admin-token", adminToken, "--url", s.admin).succeeded(t)
	assert.NotContains(t, listed, `"type": "room.changed"`)
	s.stop(t, syscall.SIGTERM)
}
