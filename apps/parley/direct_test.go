package main_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// TestTwoUsersTalkDirectlyUntilOneBlocksTheOther on the program, over REST and on a socket.
func TestTwoUsersTalkDirectlyUntilOneBlocksTheOther(t *testing.T) {
	t.Parallel()
	s := serveWith(t, t.TempDir(), func(c *exec.Cmd) { c.Env = append(c.Env, "PARLEY_ADMIN_TOKEN=open-sesame-open-sesame") })
	adas, bobs := s.member(t, "Ada Lovelace"), s.member(t, "Bob Noyce")
	ada, bob := adas.AccessToken, bobs.AccessToken
	hears := make(heard, 100)
	memberships := make(chan wsclient.Event, 100)
	onSocket := s.connect(t, bob, func(e wsclient.Event) {
		if e.Kind == wsclient.EventMembership {
			memberships <- e
		}
		hears.handle(e)
	})
	is := func(id, role string) {
		t.Helper()
		late := time.NewTimer(patience)
		defer late.Stop()
		for {
			select {
			case e := <-memberships:
				if e.User.ID == id && e.Role == role {
					return
				}
			case <-late.C:
				require.FailNow(t, "nothing is heard")
			}
		}
	}
	type room struct {
		Name, Kind string
		Data       struct{ Users []string }
	}
	r := decode[room](t, must(t, 201, "PUT", s.url+"/rooms/direct/"+bobs.User.ID, ada, nil))
	assert.Equal(t, "direct", r.Kind)
	assert.ElementsMatch(t, []string{adas.User.ID, bobs.User.ID}, r.Data.Users)
	assert.Equal(t, r, decode[room](t, must(t, 200, "PUT", s.url+"/rooms/direct/"+adas.User.ID, bob, nil)))
	_, err := onSocket.Join(t.Context(), r.Name)
	require.NoError(t, err)
	must(t, 201, "POST", s.url+"/rooms/"+r.Name+"/messages", ada, map[string]any{"text": "Hello"})
	assert.Equal(t, "Hello", hears.next(t, wsclient.EventMessage).Text)
	_, err = onSocket.Send(t.Context(), r.Name, "Hello yourself")
	require.NoError(t, err)
	hears.next(t, wsclient.EventMessage)

	must(t, 204, "PUT", s.url+"/me/blocks/"+bobs.User.ID, ada, nil)
	assert.Contains(t, string(must(t, 200, "GET", s.url+"/me/blocks", ada, nil)), `"name":"Bob Noyce"`)
	is(bobs.User.ID, "reader") // within a second
	_, err = onSocket.Send(t.Context(), r.Name, "Are you there?")
	require.ErrorContains(t, err, "role_lacks_right")
	must(t, 403, "POST", s.url+"/rooms/"+r.Name+"/messages", bob, map[string]any{"text": "Are you there?"})
	must(t, 403, "POST", s.url+"/rooms/"+r.Name+"/messages", ada, map[string]any{"text": "No"})
	nobody := must(t, 404, "PUT", s.url+"/rooms/direct/nobody", bob, nil)
	assert.Equal(t, string(nobody), string(must(t, 404, "PUT", s.url+"/rooms/direct/"+adas.User.ID, bob, nil)), "byte for byte")
	must(t, 422, "PUT", s.url+"/rooms/direct/"+adas.User.ID, ada, nil)
	must(t, 422, "PUT", s.url+"/me/blocks/"+adas.User.ID, ada, nil)
	must(t, 404, "PUT", s.url+"/me/blocks/nobody", ada, nil)

	must(t, 204, "DELETE", s.url+"/me/blocks/"+bobs.User.ID, ada, nil)
	is(bobs.User.ID, "member")
	_, err = onSocket.Send(t.Context(), r.Name, "Thank you")
	require.NoError(t, err)

	// Erasing a user ends what is direct.
	must(t, 204, "PUT", s.url+"/me/blocks/"+bobs.User.ID, ada, nil)
	must(t, 204, "PUT", s.url+"/me/blocks/"+adas.User.ID, bob, nil)
	export := execute(t, nil, "user", "export", adas.User.ID, "--admin-token", "open-sesame-open-sesame", "--url", s.admin).succeeded(t)
	_, kinds := exported(t, export)
	assert.Equal(t, 1, kinds["block"], "of what others do she is told nothing")
	text := execute(t, nil, "user", "erase", adas.User.ID, "--yes", "--admin-token", "open-sesame-open-sesame", "--url", s.admin).succeeded(t)
	assert.Contains(t, text, "1 memberships and 2 blocks ended")
	assert.JSONEq(t, `{"blocks":[]}`, string(must(t, 200, "GET", s.url+"/me/blocks", bob, nil)))
	assert.Equal(t, string(nobody), string(must(t, 404, "PUT", s.url+"/rooms/direct/"+adas.User.ID, bob, nil)))
	must(t, 200, "GET", s.url+"/rooms/"+r.Name+"/messages", bob, nil)
}
