package main_test

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// TestAUserHidesWhatTheyHaveRead on the program, over REST and on sockets, also after it was started again.
func TestAUserHidesWhatTheyHaveRead(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	start := func() *server {
		return serveWith(t, data, func(c *exec.Cmd) { c.Env = append(c.Env, "PARLEY_ADMIN_TOKEN=open-sesame-open-sesame") })
	}
	s := start()
	adas, bobs := s.member(t, "Ada Lovelace"), s.member(t, "Bob Noyce")
	// reads is what has come to a connection of marks and messages.
	reads := func(token string) (*wsclient.Client, func() wsclient.Event) {
		t.Helper()
		all := make(chan wsclient.Event, 100)
		c := s.connect(t, token, func(e wsclient.Event) {
			if e.Kind == wsclient.EventMarked || e.Kind == wsclient.EventMessage {
				all <- e
			}
		})
		_, err := c.Join(t.Context(), "hall")
		require.NoError(t, err)
		return c, func() wsclient.Event {
			t.Helper()
			late := time.NewTimer(patience)
			defer late.Stop()
			select {
			case e := <-all:
				return e
			case <-late.C:
				require.FailNow(t, "nothing is heard")
				return wsclient.Event{}
			}
		}
	}
	marked := func(read uint64) wsclient.Event {
		return wsclient.Event{Kind: wsclient.EventMarked, Room: "hall", User: wsclient.User{ID: adas.User.ID, Name: "Ada Lovelace"}, Read: read}
	}
	says := func(by *wsclient.Client, seq uint64, all ...func() wsclient.Event) {
		t.Helper()
		_, err := by.Send(t.Context(), "hall", "Hello")
		require.NoError(t, err)
		for _, next := range all {
			assert.Equal(t, seq, next().Message.Seq)
		}
	}
	marks := func(by *wsclient.Client, read uint64, own ...func() wsclient.Event) {
		t.Helper()
		m, err := by.Mark(t.Context(), "hall", read)
		require.NoError(t, err)
		assert.Equal(t, read, m.Read)
		for _, next := range own {
			assert.Equal(t, marked(read), next())
		}
	}
	ada, toAda := reads(adas.AccessToken)
	_, toPhone := reads(adas.AccessToken)
	bob, toBob := reads(bobs.AccessToken)
	says(bob, 1, toAda, toPhone, toBob)
	marks(ada, 1, toAda, toPhone, toBob)
	must(t, 200, "PATCH", s.url+"/me/settings", adas.AccessToken, map[string]any{"readReceipts": false})
	says(bob, 2, toAda, toPhone, toBob)
	marks(ada, 2, toAda, toPhone)
	says(bob, 3, toAda, toPhone, toBob) // and no mark before
	must(t, 200, "PUT", s.url+"/rooms/hall/read", adas.AccessToken, map[string]any{"seq": 3})
	assert.Equal(t, marked(3), toAda())
	assert.Equal(t, marked(3), toPhone())
	says(bob, 4, toAda, toPhone, toBob)
	others := func() string { return string(must(t, 200, "GET", s.url+"/rooms/hall/members", bobs.AccessToken, nil)) }
	assert.NotContains(t, others(), `"read":3`)
	assert.Contains(t, others(), `"read":4`, "of Bob, who has sent it")
	assert.Contains(t, string(must(t, 200, "GET", s.url+"/rooms/hall/members", adas.AccessToken, nil)), `"read":3`)

	s.stop(t, syscall.SIGTERM)
	s = start()
	adas, bobs = s.signIn(t, adas.User.Email), s.signIn(t, bobs.User.Email)
	assert.JSONEq(t, `{"readReceipts":false}`, string(must(t, 200, "GET", s.url+"/me/settings", adas.AccessToken, nil)))
	ada, toAda = reads(adas.AccessToken)
	bob, toBob = reads(bobs.AccessToken)
	for seq := range uint64(4) { // what they find there
		assert.Equal(t, []uint64{seq + 1, seq + 1}, []uint64{toAda().Message.Seq, toBob().Message.Seq})
	}
	marks(ada, 4, toAda)
	says(bob, 5, toAda, toBob)
	assert.NotContains(t, others(), `"read":4`)

	export := func() map[string]int {
		_, kinds := exported(t, execute(t, nil, "user", "export", adas.User.ID, "--admin-token", "open-sesame-open-sesame", "--url", s.admin).succeeded(t))
		return kinds
	}
	assert.Equal(t, 1, export()["settings"])
	execute(t, nil, "user", "erase", adas.User.ID, "--yes", "--admin-token", "open-sesame-open-sesame", "--url", s.admin).succeeded(t)
	assert.Zero(t, export()["settings"])
}
