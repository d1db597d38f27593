package main_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// heard is what a member of a room is told of its messages.
type heard chan wsclient.Event

func (h heard) handle(e wsclient.Event) {
	if e.Kind == wsclient.EventMessage || e.Kind == wsclient.EventChanged {
		h <- e
	}
}

// next returns the next message, or change of one.
func (h heard) next(t *testing.T, kind wsclient.EventKind) wsclient.Message {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case e := <-h:
		require.Equal(t, kind, e.Kind, "%+v", e)
		return e.Message
	case <-late.C:
		require.FailNow(t, "nothing is heard")
		return wsclient.Message{}
	}
}

type mine struct {
	Rooms []struct {
		Room, Role             string
		Seq, Rev, Read, Unread uint64
		Last                   *struct{ Text string }
	}
}

// TestTwoPeopleTalkOneOfThemOverREST: what one does by calls the other hears on a socket, and the other way round.
func TestTwoPeopleTalkOneOfThemOverREST(t *testing.T) {
	t.Parallel()
	s := serveWith(t, t.TempDir(), func(c *exec.Cmd) { c.Env = append(c.Env, "PARLEY_ADMIN_TOKEN=open-sesame-open-sesame") })
	adas, bobs := s.member(t, "Ada Lovelace"), s.member(t, "Bob Noyce")
	ada, bob := adas.AccessToken, bobs.AccessToken
	hears := make(heard, 100)
	onSocket := s.connect(t, ada, hears.handle)
	const room = "a/b %2F"
	const at = "/rooms/a%2Fb%20%252F"
	must(t, 404, "GET", s.url+at+"/messages", bob, nil)
	_, err := onSocket.Join(t.Context(), room)
	require.NoError(t, err)
	assert.Contains(t, string(must(t, 403, "POST", s.url+at+"/messages", bob, map[string]any{"text": "Hello"})), "not_a_member")
	_, err = s.connect(t, bob, func(wsclient.Event) {}).Join(t.Context(), room)
	require.NoError(t, err)

	sent := decode[struct {
		Room, ID string
		Seq      uint64
		At       time.Time
	}](t, must(t, 201, "POST", s.url+at+"/messages", bob, map[string]any{"text": "Hello", "clientId": "b-1", "data": map[string]any{"a": 1}}))
	m := hears.next(t, wsclient.EventMessage)
	assert.Equal(t, room, m.Room)
	assert.Equal(t, sent.Seq, m.Seq)
	assert.Equal(t, sent.ID, m.ID)
	assert.True(t, sent.At.Equal(m.At))
	assert.Equal(t, "Hello", m.Text)
	assert.Equal(t, bobs.User.ID, m.User.ID)
	must(t, 200, "PATCH", s.url+at+"/messages/1", bob, map[string]any{"text": "Hello, Ada"})
	assert.Equal(t, "Hello, Ada", hears.next(t, wsclient.EventChanged).Text)
	must(t, 200, "PUT", s.url+at+"/messages/1/reactions/%F0%9F%91%8D", bob, nil)
	m = hears.next(t, wsclient.EventChanged)
	require.Len(t, m.Reactions, 1)
	assert.Equal(t, "👍", m.Reactions[0].Key)
	must(t, 200, "DELETE", s.url+at+"/messages/1/reactions/%F0%9F%91%8D", bob, nil)
	assert.Empty(t, hears.next(t, wsclient.EventChanged).Reactions)
	must(t, 200, "DELETE", s.url+at+"/messages/1", bob, nil)
	m = hears.next(t, wsclient.EventChanged)
	assert.Empty(t, m.Text)
	assert.False(t, m.DeletedAt.IsZero())
	assert.EqualValues(t, 4, m.Rev)

	// What Ada says on the socket, Bob has not read.
	for _, text := range []string{"one", "two", "three"} {
		_, err := onSocket.Send(t.Context(), room, text)
		require.NoError(t, err)
		hears.next(t, wsclient.EventMessage)
	}
	of := func(token string) mine {
		t.Helper()
		all := decode[mine](t, must(t, 200, "GET", s.url+"/rooms/mine", token, nil))
		require.Len(t, all.Rooms, 1)
		assert.Equal(t, room, all.Rooms[0].Room)
		return all
	}
	r := of(bob).Rooms[0]
	assert.Equal(t, []uint64{4, 4, 1, 3}, []uint64{r.Seq, r.Rev, r.Read, r.Unread})
	assert.Equal(t, "three", r.Last.Text)
	assert.Zero(t, of(ada).Rooms[0].Unread)
	assert.JSONEq(t, `{"read":3,"unread":1}`, string(must(t, 200, "PUT", s.url+at+"/read", bob, map[string]any{"seq": 3})))
	assert.JSONEq(t, `{"read":3,"unread":1}`, string(must(t, 200, "PUT", s.url+at+"/read", bob, map[string]any{"seq": 2})))
	assert.EqualValues(t, 1, of(bob).Rooms[0].Unread)

	// An operator.
	must(t, 401, "POST", s.admin+at+"/messages", bob, map[string]any{"text": "Hello"})
	must(t, 401, "POST", s.url+at+"/messages", "open-sesame-open-sesame", map[string]any{"text": "Hello"})
	must(t, 201, "POST", s.admin+at+"/messages", "open-sesame-open-sesame", map[string]any{"text": "Good night", "as": map[string]any{"id": "clock", "name": "The clock"}})
	m = hears.next(t, wsclient.EventMessage)
	assert.Equal(t, "clock", m.User.ID)
	assert.Equal(t, "The clock", m.User.Name)
	must(t, 200, "DELETE", s.admin+at+"/messages/4", "open-sesame-open-sesame", nil)
	assert.Empty(t, hears.next(t, wsclient.EventChanged).Text)
	assert.EqualValues(t, 1, of(bob).Rooms[0].Unread, "of the two behind it one is deleted")

	var page struct{ Messages []json.RawMessage }
	require.NoError(t, json.Unmarshal(must(t, 200, "GET", s.url+at+"/messages", bob, nil), &page))
	assert.Len(t, page.Messages, 5)
	text := string(must(t, 200, "GET", s.admin+"/metrics", "", nil))
	for _, operation := range []string{"send-message", "my-rooms", "mark-read", "edit-message", "add-reaction", "admin-send-message", "admin-delete-message"} {
		assert.Contains(t, text, `parley_http_requests_total{operation="`+operation+`",`)
	}
	assert.NotContains(t, text, "%2F", "no label has a room")

	// A session that has ended calls nothing any more.
	must(t, 204, "POST", s.url+"/auth/signout", bob, nil)
	must(t, 401, "GET", s.url+"/rooms/mine", bob, nil)
	must(t, 401, "POST", s.url+at+"/messages", bob, map[string]any{"text": "Hello"})
	assert.NotContains(t, s.stderr.String(), room, "what people write is not in the log")
}

// TestTheExamplesOfTheGuideToRoomsRun runs the commands in docs/rooms.md.
func TestTheExamplesOfTheGuideToRoomsRun(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIPPED: there is no sh")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: curl is not installed")
	}
	guide, err := os.ReadFile("../../docs/rooms.md")
	require.NoError(t, err)
	s := serveWith(t, t.TempDir(), func(c *exec.Cmd) { c.Env = append(c.Env, "PARLEY_ADMIN_TOKEN=open-sesame-open-sesame") })
	token, bob := s.member(t, "Ada Lovelace").AccessToken, s.member(t, "Bob Noyce")
	hears := make(heard, 100)
	_, err = s.connect(t, token, hears.handle).Join(t.Context(), "hall")
	require.NoError(t, err)
	blocks := strings.Split(string(guide), "```sh\n")[1:]
	require.Len(t, blocks, 6)
	for _, block := range blocks {
		script, _, ended := strings.Cut(block, "```")
		require.True(t, ended)
		script = strings.NewReplacer("http://localhost:5002", s.url, "http://localhost:6002", s.admin).Replace(script)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd := exec.CommandContext(ctx, shell, "-eu", "-c", script)
		cmd.Env = append(os.Environ(), "TOKEN="+token, "USER_ID="+bob.User.ID, "PARLEY_ADMIN_TOKEN=open-sesame-open-sesame", "no_proxy=*")
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(t, err, "%s", out)
	}
	assert.Equal(t, "Good morning", hears.next(t, wsclient.EventMessage).Text)
	assert.Equal(t, "Good evening", hears.next(t, wsclient.EventChanged).Text)
	assert.Len(t, hears.next(t, wsclient.EventChanged).Reactions, 1)
	assert.Empty(t, hears.next(t, wsclient.EventChanged).Text)
	assert.Equal(t, "Weather", hears.next(t, wsclient.EventMessage).User.Name)
	assert.Empty(t, hears.next(t, wsclient.EventChanged).Text)
}

// memberships are the events that tell a connection what users are in rooms.
type memberships chan wsclient.Event

func (m memberships) handle(e wsclient.Event) {
	switch e.Kind {
	case wsclient.EventMembership, wsclient.EventMessage, wsclient.EventRemoved:
		m <- e
	}
}

// next returns the next event, and checks which it is.
func (m memberships) next(t *testing.T, kind wsclient.EventKind) wsclient.Event {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case e := <-m:
		require.Equal(t, kind, e.Kind, "%+v", e)
		return e
	case <-late.C:
		require.FailNow(t, "nothing is heard")
		return wsclient.Event{}
	}
}

// TestWhoRunsARoomOverRESTReachesOpenSockets: an invitation, a role, a removal and a deletion hold for connections that are open, when the call has its answer or soon after.
func TestWhoRunsARoomOverRESTReachesOpenSockets(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	adas, bobs := s.member(t, "Ada Lovelace"), s.member(t, "Bob Noyce")
	ada, bob := adas.AccessToken, bobs.AccessToken
	hears, onSocket := make(memberships, 100), make(memberships, 100)
	bobsSocket, adasSocket := s.connect(t, bob, hears.handle), s.connect(t, ada, onSocket.handle)
	const room, at = "den/1", "/rooms/den%2F1"
	of := at + "/members/" + bobs.User.ID
	must(t, 201, "POST", s.url+"/rooms", ada, map[string]any{"name": room, "kind": "private", "title": "The den"})
	_, err := bobsSocket.Join(t.Context(), room)
	require.ErrorContains(t, err, "room_not_found")
	_, err = adasSocket.Join(t.Context(), room)
	require.NoError(t, err)

	is := func(role string) {
		t.Helper()
		for _, told := range []memberships{hears, onSocket} {
			kind := wsclient.EventMembership
			if role == "" && told == hears {
				kind = wsclient.EventRemoved
			}
			e := told.next(t, kind)
			assert.Equal(t, room, e.Room)
			assert.Equal(t, bobs.User.ID, e.User.ID)
			assert.Equal(t, role, e.Role)
			assert.Equal(t, adas.User.ID, e.By)
		}
	}
	must(t, 200, "PUT", s.url+of, ada, map[string]any{"role": "member"})
	is("member")
	_, err = bobsSocket.Join(t.Context(), room)
	require.NoError(t, err)
	say := func(text string, told ...memberships) {
		t.Helper()
		must(t, 201, "POST", s.url+at+"/messages", ada, map[string]any{"text": text})
		for _, m := range told {
			assert.Equal(t, text, m.next(t, wsclient.EventMessage).Message.Text)
		}
	}
	say("one", hears, onSocket)
	must(t, 200, "PUT", s.url+of, ada, map[string]any{"role": "reader"})
	is("reader")
	_, err = bobsSocket.Send(t.Context(), room, "I read only")
	require.ErrorContains(t, err, "role_lacks_right")
	must(t, 403, "POST", s.url+at+"/messages", bob, map[string]any{"text": "I read only"})
	say("two", hears, onSocket)
	must(t, 200, "PUT", s.url+of, ada, map[string]any{"role": "moderator"})
	is("moderator")
	_, err = bobsSocket.Delete(t.Context(), room, 2)
	require.NoError(t, err)

	must(t, 204, "DELETE", s.url+of, ada, nil)
	is("")
	say("three", onSocket)
	_, err = bobsSocket.Join(t.Context(), room)
	require.ErrorContains(t, err, "room_not_found")
	must(t, 404, "GET", s.url+at, bob, nil)
	must(t, 200, "PUT", s.url+of, ada, map[string]any{"role": "owner"})
	is("owner") // and nothing of "three" came before
	_, err = bobsSocket.Join(t.Context(), room)
	require.NoError(t, err)
	for range 3 { // what was said before, as it is now
		hears.next(t, wsclient.EventMessage)
	}

	members := decode[struct {
		Members []struct{ User struct{ ID, Name string } }
	}](t, must(t, 200, "GET", s.url+at+"/members", bob, nil))
	require.Len(t, members.Members, 2)
	for _, m := range members.Members {
		assert.Equal(t, map[string]string{adas.User.ID: "Ada Lovelace", bobs.User.ID: "Bob Noyce"}[m.User.ID], m.User.Name)
	}
	must(t, 204, "DELETE", s.url+at, bob, nil)
	assert.Equal(t, room, hears.next(t, wsclient.EventRemoved).Room)
	assert.Equal(t, room, onSocket.next(t, wsclient.EventRemoved).Room)
	_, err = adasSocket.Send(t.Context(), room, "is anybody there?")
	require.Error(t, err)
	for _, token := range []string{ada, bob} {
		must(t, 404, "GET", s.url+at, token, nil)
		assert.JSONEq(t, `{"rooms":[]}`, string(must(t, 200, "GET", s.url+"/rooms/mine", token, nil)))
	}
	assert.NotContains(t, s.stderr.String(), room, "what rooms are called is not in the log")
}
