// Package services_test runs the programs of docker-compose.yaml as processes on the loopback
// interface, each with exactly the environment that the file gives it but for addresses.
package services_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/conformance/compose"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/scenario"
)

// server starts a server and returns its address.
type server func(t *testing.T, f *compose.File) string

func TestServices(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: the services are started, told a story, killed and stopped")
	}
	for _, c := range []struct {
		name, profile          string
		database, redis, kafka server
	}{
		// What runs everywhere.
		{"embedded servers", "mongodb", ferretDB, embeddedRedis, embeddedKafka},
		{"MongoDB", "mongodb", mongo, redis, kafka},
		{"PostgreSQL", "postgres", postgres, redis, kafka},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := compose.Read(root, map[string]string{"COMPOSE_PROFILES": c.profile})
			require.NoError(t, err)
			began := time.Now()
			s := start(t, f, map[string]string{"database": c.database(t, f), "redis": c.redis(t, f), "kafka": c.kafka(t, f)})
			s.throughProxy(t)
			for _, do := range []struct {
				what string
				does func(*testing.T)
			}{{"started", func(*testing.T) {}}, {"story", s.story}, {"routes", s.serves}, {"rooms", s.rooms}, {"kills", s.killed}, {"erases", s.erased}, {"stops", s.stopped}} {
				do.does(t)
				t.Logf("%s after %v", do.what, time.Since(began).Round(time.Second/10))
			}
		})
	}
}

// story tells the same story as to any other stack.
func (s *stack) story(t *testing.T) {
	told := scenario.Tell(t, scenario.Stage{
		URL: s.url, Sockets: s.sockets, Mails: s.mails, Patience: patience,
		PublicURL: "http://localhost:8080", // as the compose file says
	})
	require.Equal(t, scenario.Golden(), told)
}

// serves asks for what the story does not need.
func (s *stack) serves(t *testing.T) {
	if s.proxy == nil {
		return
	}
	for name, of := range s.services {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+of.operators+"/debug/pprof/cmdline", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer development-only")
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		_ = answer.Body.Close() // its status is enough
		assert.Equal(t, http.StatusOK, answer.StatusCode, name)
	}
	for path, want := range map[string]int{"/": 200, "/parley.js": 200, "/api-docs": 401, "/sockets/api-docs": 401, "/sockets/api-docs/docs.js": 401, "/sockets/openapi.yaml": 401, "/asyncapi.yaml": 200, "/livez": 200, "/proxy/livez": 200, "/nothing": 404, "/dev/mail": 404, "/mail/stats": 404, "/metrics": 404, "/debug/pprof/": 404, "/dev/continue": 404, "/sockets/socket": 404, "/sockets/rooms": 404, "/sockets/api-docs/..%2Frooms": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		_ = answer.Body.Close() // its status is enough
		assert.Equal(t, want, answer.StatusCode, path)
		if want == 401 {
			r.SetBasicAuth("linkdocs", "linkdocspass")
			answer, err = http.DefaultClient.Do(r)
			require.NoError(t, err)
			text, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			_ = answer.Body.Close() // it was read
			assert.Equal(t, http.StatusOK, answer.StatusCode, path)
			if path == "/sockets/openapi.yaml" {
				assert.Contains(t, string(text), "/rooms/{room}/messages:")
			}
		}
	}
}

// rooms sends over REST at one node what is heard on a socket of the other, and reaches rooms with unusual names through the proxy.
func (s *stack) rooms(t *testing.T) {
	token, _ := s.signIn(t)
	heard := make(chan wsclient.Event, 100)
	listener, err := wsclient.Dial(t.Context(), wsclient.Config{
		Inline: true, Rate: -1, MaxPause: time.Second, URL: "ws://" + s.services["socket-2"].address + "/socket",
		Token: func(context.Context) (string, error) { return token, nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage || e.Kind == wsclient.EventChanged {
				heard <- e
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(listener.Close)
	next := func(text string) {
		t.Helper()
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case e := <-heard:
			require.Equal(t, text, e.Message.Text)
		case <-late.C:
			require.FailNow(t, "nothing is heard", text)
		}
	}
	proxy := s.url
	defer func() { s.url = proxy }()
	names := map[string]string{ // and how they are written in a path
		"rest": "rest", "mine": "mine", "a/b": "a%2Fb", "/": "%2F", "//": "%2F%2F", ".": "%2E", "..": "%2E%2E", "a/../b": "a%2F..%2Fb", "../socket": "%2E%2E%2Fsocket", "%2F": "%252F", "a%b": "a%25b", "a?b": "a%3Fb", "a#b": "a%23b", "a b;c": "a%20b%3Bc",
		strings.Repeat("😀", 100): url.PathEscape(strings.Repeat("😀", 100)),
	}
	for name, written := range names {
		_, err = listener.Join(t.Context(), name)
		require.NoError(t, err)
		s.url = "http://" + s.services["socket-1"].address
		sent := s.call(t, http.MethodPost, "/rooms/"+written+"/messages", token, map[string]any{"text": "hello"}, http.StatusCreated)
		require.Equal(t, name, sent["room"])
		next("hello")
		s.url = proxy
		if s.proxy == nil {
			continue
		}
		at := fmt.Sprintf("/rooms/%s/messages/%v", written, sent["seq"])
		s.call(t, http.MethodPatch, at, token, map[string]any{"text": "hello again"}, http.StatusOK)
		next("hello again")
		s.call(t, http.MethodDelete, at, token, nil, http.StatusOK)
		next("")
		require.Len(t, s.call(t, http.MethodGet, "/rooms/"+written+"/messages", token, nil, http.StatusOK)["messages"], 1)
		s.call(t, http.MethodPut, "/rooms/"+written+"/read", token, map[string]any{"seq": 1}, http.StatusOK)
	}
	if s.proxy != nil {
		require.NotEmpty(t, s.call(t, http.MethodGet, "/rooms?limit=2", token, nil, http.StatusOK)["rooms"])
		require.NotEmpty(t, s.call(t, http.MethodGet, "/rooms/mine", token, nil, http.StatusOK)["rooms"])
		s.call(t, http.MethodGet, "/roomservice", token, nil, http.StatusNotFound)
		s.call(t, http.MethodGet, "//rooms/hidden-by-slashes/messages", token, nil, http.StatusNotFound)
		s.call(t, http.MethodGet, "/%72ooms/hidden-by-percents/messages", token, nil, http.StatusNotFound)
	}
	s.pages(t)
	// A session that has ended calls nothing on any node, as soon as it has heard of it.
	over, _ := s.signIn(t)
	s.call(t, http.MethodPost, "/auth/signout", over, nil, http.StatusNoContent)
	for _, name := range []string{"socket-1", "socket-2"} {
		eventually(t, name+" refuses the session", func(ctx context.Context) bool {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.services[name].address+"/rooms/mine", nil)
			require.NoError(t, err)
			r.Header.Set("Authorization", "Bearer "+over)
			answer, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			_ = answer.Body.Close() // its status is enough
			return answer.StatusCode == http.StatusUnauthorized
		})
	}
}

// The account that the story leaves behind.
const (
	adaMail, adaPassword = "ada@parley.test", "a first pass phrase"
	lines                = 17 // in the room tea
)

// call makes a request of the API, which must be answered with this status.
// pages wants the page, as it is, at the addresses of rooms, written as the page writes them.
func (s *stack) pages(t *testing.T) {
	t.Helper()
	var page string
	for _, path := range []string{"/", "/r/whispered", "/r/a%2Fb", "/r/%2F", "/r/%2F%2F", "/r/a%25b", "/r/%252F", "/r/a%3Fb", "/r/a%23b", "/r/a%20b%3Bc", "/r/a%5Cb",
		"/r/?room=..", "/r/?room=whispered%2F..%2Fsocket", "/r/" + url.PathEscape(strings.Repeat("😀", 100))} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		require.NoError(t, err)
		answer, err := http.DefaultTransport.RoundTrip(r) // a redirect is no page
		require.NoError(t, err)
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // it was read
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		if page == "" {
			page = string(body)
			require.Contains(t, page, "<!doctype html>")
		}
		require.Equal(t, page, string(body), path)
		require.Contains(t, answer.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
	}
}

func (s *stack) call(t *testing.T, method, path, token string, body any, status int) map[string]any {
	t.Helper()
	var answer map[string]any
	eventually(t, method+" "+path+" is answered", func(ctx context.Context) bool {
		text, err := json.Marshal(body)
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(text))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			return false // it is being restarted
		}
		defer got.Body.Close()
		content, err := io.ReadAll(got.Body)
		if err != nil || got.StatusCode >= 502 { // the proxy may not have noticed yet that it is back
			return false
		}
		require.Equal(t, status, got.StatusCode, "%s", content)
		answer = nil
		if len(content) > 0 {
			require.NoError(t, json.Unmarshal(content, &answer))
		}
		return true
	})
	return answer
}

func (s *stack) signIn(t *testing.T) (access, refresh string) {
	t.Helper()
	grant := s.call(t, http.MethodPost, "/auth/signin", "", map[string]string{"email": adaMail, "password": adaPassword}, http.StatusOK)
	return grant["accessToken"].(string), grant["refreshToken"].(string)
}

// dial opens a socket to the first or the second node, or to whom the proxy leads.
func (s *stack) dial(t *testing.T, node int, token string, handle func(wsclient.Event)) *wsclient.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := wsclient.Dial(ctx, wsclient.Config{
		Inline: true, Rate: -1,
		URL: s.sockets[node], Handle: handle, MaxPause: time.Second,
		Token: func(context.Context) (string, error) { return token, nil },
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// stored reads the room's whole history.
func stored(t *testing.T, c *wsclient.Client, room string) []wsclient.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	joined, err := c.Join(ctx, room)
	require.NoError(t, err)
	var all []wsclient.Message
	for before := joined.Seq + 1; before > 1; before = all[0].Seq {
		page, err := c.History(ctx, room, wsclient.Range{Before: before, Limit: 1000})
		require.NoError(t, err)
		require.NotEmpty(t, page.Messages)
		all = append(page.Messages, all...)
	}
	return all
}

// killed kills each process while two people talk, and people sign up. What was acknowledged is there
// afterwards, in its place, once; everybody who signed up got one mail.
func (s *stack) killed(t *testing.T) {
	token, refresh := s.signIn(t)
	ctx, enough := context.WithTimeout(t.Context(), 2*patience)
	defer enough()
	var over atomic.Bool
	var talking sync.WaitGroup
	acknowledged := [2]map[uint64]string{{}, {}}
	progress := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	for node := range 2 {
		c := s.dial(t, node, token, nil)
		_, err := c.Join(ctx, "work")
		require.NoError(t, err)
		talking.Go(func() {
			pace := time.NewTicker(30 * time.Millisecond) // a connection may send 50 a second
			defer pace.Stop()
			for n := 0; !over.Load(); n++ {
				<-pace.C
				text := fmt.Sprintf("%d says %d", node, n)
				sent, err := c.Send(ctx, "work", text)
				if !assert.NoError(t, err) {
					enough()
					return
				}
				acknowledged[node][sent.Seq] = text
				select {
				case progress[node] <- struct{}{}:
				default:
				}
			}
		})
	}
	goesOn := func() {
		for node := range 2 {
			for range 5 {
				select {
				case <-progress[node]:
				case <-ctx.Done():
					require.FailNow(t, "nobody hears what is said", node)
				}
			}
		}
	}
	for i, name := range []string{"socket-1", "mailer", "socket-2", "auth"} {
		goesOn()
		if name == "auth" { // who has signed up when the program is killed gets a mail
			s.call(t, http.MethodPost, "/auth/signup", "", map[string]string{"fullName": "Late", "email": "late@parley.test", "password": adaPassword}, http.StatusAccepted)
		}
		s.services[name].running.kill()
		if name == "mailer" {
			s.call(t, http.MethodPost, "/auth/signup", "", map[string]string{"fullName": "Early", "email": "early@parley.test", "password": adaPassword}, http.StatusAccepted)
		}
		if i%2 == 0 && s.proxy != nil {
			goesOn() // on the other node
		}
		began := time.Now()
		s.services[name].start(t)
		t.Logf("%s is healthy %v after it was started again", name, time.Since(began).Round(time.Second/10))
	}
	goesOn()
	over.Store(true)
	talking.Wait()

	all := stored(t, s.dial(t, 0, token, nil), "work")
	texts := map[string]uint64{}
	for i, m := range all {
		require.EqualValues(t, i+1, m.Seq, "there is a gap")
		require.Zero(t, texts[m.Text], "it is there twice: %s", m.Text)
		texts[m.Text] = m.Seq
	}
	for node := range 2 {
		require.Greater(t, len(acknowledged[node]), 20)
		for seq, text := range acknowledged[node] {
			require.Equal(t, seq, texts[text], text)
		}
	}
	t.Logf("%d messages, all of them kept", len(all))
	for _, address := range []string{"early@parley.test", "late@parley.test"} {
		m, err := s.mails.Await(ctx, address, 1)
		require.NoError(t, err)
		code, err := testkit.Code(m)
		require.NoError(t, err)
		s.call(t, http.MethodPost, "/auth/verify", "", map[string]string{"code": code}, http.StatusOK)
	}
	// What was there before.
	require.Len(t, stored(t, s.dial(t, 1, token, nil), "tea"), lines)
	s.call(t, http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": refresh}, http.StatusOK)
	s.call(t, http.MethodGet, "/auth/me", token, nil, http.StatusOK)
	for _, address := range []string{"early@parley.test", "late@parley.test"} {
		assert.Len(t, s.mails.To(address), 1, address)
	}
}

// erased holds that whoever erases their own account takes along what they have said, although it is kept by other programs; and that it is done once a
// node is there to do it.
func (s *stack) erased(t *testing.T) {
	grant := s.call(t, http.MethodPost, "/auth/signin", "", map[string]string{"email": "late@parley.test", "password": adaPassword}, http.StatusOK)
	token := grant["accessToken"].(string)
	c := s.dial(t, 0, token, nil)
	_, err := c.Join(t.Context(), "farewell")
	require.NoError(t, err)
	sent, err := c.Send(t.Context(), "farewell", "a canary")
	require.NoError(t, err)
	ada, _ := s.signIn(t)
	reader := s.dial(t, 1, ada, nil)
	require.Equal(t, "a canary", stored(t, reader, "farewell")[0].Text)

	reader.Close()
	nodes := []string{"socket-1", "socket-2"}
	for _, name := range nodes {
		s.services[name].running.kill()
	}
	direct := s.url
	s.url = "http://" + s.services["auth"].address
	s.call(t, http.MethodDelete, "/auth/me", token, map[string]string{"password": adaPassword}, http.StatusNoContent)
	s.url = direct
	for _, name := range nodes {
		s.services[name].start(t)
	}
	reader = s.dial(t, 1, ada, nil)
	eventually(t, "what was said is erased", func(context.Context) bool {
		all := stored(t, reader, "farewell")
		require.Len(t, all, 1)
		require.Equal(t, sent.Seq, all[0].Seq)
		return all[0].Text == "" && !all[0].DeletedAt.IsZero()
	})
}

// stopped asks each process to end.
func (s *stack) stopped(t *testing.T) {
	token, _ := s.signIn(t)
	closed := make(chan int, 100)
	c := s.dial(t, 0, token, func(e wsclient.Event) {
		if e.Kind == wsclient.EventDisconnected {
			closed <- e.Code
		}
	})
	_, err := c.Join(t.Context(), "tea")
	require.NoError(t, err)
	for _, name := range order {
		require.Zero(t, s.services[name].healthcheck(t), name)
	}
	for _, name := range []string{"socket-1", "socket-2", "mailer", "auth"} {
		s.services[name].stop(t)
	}
	require.Equal(t, 1012, <-closed, "clients are told that they may come back at once")
}
