package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/user"
)

// exportLine is one of an export.
type exportLine struct {
	Type, ID, Email, Room, Text, Key, User, Kind, Title string
	Data                                                json.RawMessage
	Seq, Read                                           uint64
	Lines                                               int
	DeletedAt                                           time.Time
}

// exported reads an export, which must be whole.
func exported(t *testing.T, text string) (all []exportLine, kinds map[string]int) {
	t.Helper()
	kinds = map[string]int{}
	in := bufio.NewScanner(strings.NewReader(text))
	for in.Scan() {
		l := decode[exportLine](t, in.Bytes())
		all = append(all, l)
		kinds[l.Type]++
	}
	require.NotEmpty(t, all)
	assert.Equal(t, "export", all[0].Type)
	last := all[len(all)-1]
	assert.Equal(t, "end", last.Type)
	assert.Equal(t, len(all)-1, last.Lines)
	for _, secret := range []string{"hash", "argon2", "refreshToken", "assword\""} {
		assert.NotContains(t, strings.ToLower(text), strings.ToLower(secret))
	}
	return all, kinds
}

type erasure struct {
	ID      string
	Account struct {
		Emptied                  bool
		Sessions, Codes, SignUps int
	}
	Mails struct{ Jobs, Events int }
	Chat  struct{ Memberships, Messages, Reactions int }
}

// TestAUserIsExportedAndErased while they talk.
func TestAUserIsExportedAndErased(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--admin-token", adminToken, "--socket-rate", "-1")
	admin := func(args ...string) outcome {
		t.Helper()
		return execute(t, nil, append([]string{"user", args[0], "--admin-token", adminToken, "--url", s.admin}, args[1:]...)...)
	}
	adas, bobs := s.member(t, "Ada Lovelace"), s.member(t, "Bob Noyce")
	ended := make(chan error, 1)
	ada := s.connect(t, adas.AccessToken, func(e wsclient.Event) {
		if e.Kind == wsclient.EventDisconnected {
			select {
			case ended <- e.Err:
			default:
			}
		}
	})
	bob := s.connect(t, bobs.AccessToken, func(wsclient.Event) {})
	for _, room := range []string{"hall", "left"} {
		for _, c := range []*wsclient.Client{ada, bob} {
			_, err := c.Join(t.Context(), room)
			require.NoError(t, err)
		}
	}
	say := func(c *wsclient.Client, room, text string) uint64 {
		t.Helper()
		sent, err := c.SendDraft(t.Context(), room, wsclient.Draft{Text: text, Data: map[string]any{"of": text}})
		require.NoError(t, err)
		return sent.Seq
	}
	say(ada, "hall", "first canary")
	_, err := ada.Edit(t.Context(), "hall", 1, "second canary")
	require.NoError(t, err)
	say(ada, "hall", "deleted canary")
	_, err = ada.Delete(t.Context(), "hall", 2)
	require.NoError(t, err)
	say(bob, "hall", "Bob's own")
	_, err = ada.React(t.Context(), "hall", 3, "👍")
	require.NoError(t, err)
	_, err = bob.React(t.Context(), "hall", 3, "👍")
	require.NoError(t, err)
	_, err = bob.React(t.Context(), "hall", 1, "👍")
	require.NoError(t, err)
	say(ada, "left", "canary left behind")
	require.NoError(t, ada.Leave(t.Context(), "left"))

	assert.Contains(t, admin("show", "ada.lovelace@example.com").succeeded(t), adas.User.ID)
	assert.Contains(t, admin("show", "nobody").refused(t), "there is no such user")
	assert.Contains(t, admin("export", "nobody@example.com").refused(t), "there is no such user")
	assert.Contains(t, admin("erase", "nobody", "--yes").refused(t), "there is no such user")
	assert.Contains(t, admin("erase", adas.User.ID).refused(t), "--yes")
	text := admin("export", adas.User.ID).succeeded(t)
	all, kinds := exported(t, text)
	assert.Equal(t, adas.User.ID, all[0].User)
	assert.Equal(t, map[string]int{"export": 1, "account": 1, "session": 1, "mail": 1, "membership": 1, "mark": 1, "message": 3, "reaction": 1, "end": 1}, kinds, text)
	for _, says := range []string{"second canary", "canary left behind", "ada.lovelace@example.com"} {
		assert.Contains(t, text, says)
	}
	for _, gone := range []string{"first canary\",", "deleted canary", "Bob", "bob"} {
		assert.NotContains(t, text, gone)
	}
	file := filepath.Join(t.TempDir(), "ada.jsonl")
	admin("export", "ada.lovelace@example.com", "--output", file).succeeded(t)
	written, err := os.ReadFile(file)
	require.NoError(t, err)
	_, again := exported(t, string(written))
	assert.Equal(t, kinds, again)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	assert.Contains(t, admin("export", adas.User.ID, "--output", file).refused(t), "file exists")

	// She talks on while she is erased, and comes back with what she has.
	talking, stop := context.WithCancel(t.Context())
	defer stop()
	quiet := make(chan struct{})
	began := make(chan struct{})
	go func() {
		defer close(quiet)
		for n := 0; ; n++ {
			if _, err := ada.Send(talking, "hall", fmt.Sprintf("canary %d", n)); err != nil {
				return
			}
			if n == 20 {
				close(began)
			}
		}
	}()
	<-began
	first := decode[erasure](t, []byte(admin("erase", "Ada.Lovelace@example.com", "--yes", "--json").succeeded(t)))
	assert.Equal(t, adas.User.ID, first.ID)
	assert.True(t, first.Account.Emptied)
	assert.Equal(t, 1, first.Account.Sessions)
	assert.GreaterOrEqual(t, first.Chat.Messages, 23)
	assert.Equal(t, 1, first.Chat.Reactions)
	assert.GreaterOrEqual(t, first.Chat.Memberships, 1)
	select {
	case <-ended:
	case <-time.After(patience):
		require.FailNow(t, "the socket of an erased user stays open")
	}
	stop()
	<-quiet
	must(t, 401, "POST", s.url+"/auth/signin", "", map[string]string{"email": "ada.lovelace@example.com", "password": password})
	must(t, 401, "POST", s.url+"/auth/refresh", "", map[string]string{"refreshToken": adas.RefreshToken})
	must(t, 401, "GET", s.url+"/auth/me", adas.AccessToken, nil)
	must(t, 401, "POST", s.url+"/rooms/hall/messages", adas.AccessToken, map[string]any{"text": "canary again"})

	for _, room := range []string{"hall", "left"} {
		for before := ""; ; {
			page := decode[struct {
				Messages []struct {
					Seq            uint64
					Text, ClientID string
					User           struct{ ID, Name string }
					DeletedAt      string
					Data           json.RawMessage
					Reactions      []struct{ Count int }
				}
				More bool
			}](t, must(t, 200, "GET", s.url+"/rooms/"+room+"/messages?limit=100"+before, bobs.AccessToken, nil))
			for _, m := range page.Messages {
				switch m.User.ID {
				case adas.User.ID:
					assert.Empty(t, m.Text)
					assert.Empty(t, m.ClientID)
					assert.Empty(t, m.Data)
					assert.Empty(t, m.Reactions)
					assert.NotEmpty(t, m.DeletedAt)
					assert.Equal(t, user.ErasedName, m.User.Name)
				case bobs.User.ID:
					assert.Equal(t, "Bob's own", m.Text)
					require.Len(t, m.Reactions, 1)
					assert.Equal(t, 1, m.Reactions[0].Count, "only his own is left")
				}
			}
			if !page.More {
				break
			}
			before = fmt.Sprintf("&before=%d", page.Messages[0].Seq)
		}
	}

	// Again, and by the ID, since the address is nobody's.
	second := decode[erasure](t, []byte(admin("erase", adas.User.ID, "--yes", "--json").succeeded(t)))
	assert.Equal(t, erasure{ID: adas.User.ID}, second)
	assert.Contains(t, admin("erase", "ada.lovelace@example.com", "--yes").refused(t), "there is no such user")
	assert.Contains(t, admin("erase", adas.User.ID, "--yes").succeeded(t), "was emptied before")
	_, kinds = exported(t, admin("export", adas.User.ID).succeeded(t))
	assert.Zero(t, kinds["membership"]+kinds["mark"]+kinds["reaction"]+kinds["session"]+kinds["mail"])
	assert.Contains(t, admin("show", adas.User.ID).succeeded(t), `"erased": true`)
	var jobs struct{ Jobs []struct{ To string } }
	require.NoError(t, json.Unmarshal(must(t, 200, http.MethodGet, s.admin+"/mail/jobs", adminToken, nil), &jobs))
	for _, j := range jobs.Jobs {
		assert.Equal(t, "bob.noyce@example.com", j.To)
	}

	// The address is free.
	s.signUp(t, "Ada Byron", "ada.lovelace@example.com")
	await(t, "another code", func() bool {
		for _, m := range s.mails(t) {
			if m.To == "ada.lovelace@example.com" && strings.Contains(m.Text, "Byron") {
				s.verify(t, m.code())
				return true
			}
		}
		return false
	})
	other := s.signIn(t, "ada.lovelace@example.com")
	assert.NotEqual(t, adas.User.ID, other.User.ID)

	log := s.stderr.String()
	for _, personal := range []string{"canary", "Lovelace", "lovelace"} {
		assert.NotContains(t, log, personal)
	}
	assert.Contains(t, log, adas.User.ID, "that somebody was erased is in the log")
	s.sound(t)
}

// TestAnErasureThatWasKilledGoesOn: the account is gone at once, and the rest as soon as it is erased again.
func TestAnErasureThatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--admin-token", adminToken, "--socket-rate", "-1")
	adas, bobs := s.member(t, "Ada Lovelace"), s.member(t, "Bob Noyce")
	ada := s.connect(t, adas.AccessToken, func(wsclient.Event) {})
	bob := s.connect(t, bobs.AccessToken, func(wsclient.Event) {})
	for _, c := range []*wsclient.Client{ada, bob} {
		_, err := c.Join(t.Context(), "hall")
		require.NoError(t, err)
	}
	for n := range 300 {
		_, err := ada.Send(t.Context(), "hall", fmt.Sprintf("canary %d", n))
		require.NoError(t, err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), http.MethodDelete, s.admin+"/admin/users/"+adas.User.ID, adminToken, nil)
		answered <- err
	}()
	await(t, "the account to be empty", func() bool {
		got, err := ask(t.Context(), http.MethodPost, s.url+"/auth/refresh", "", map[string]string{"refreshToken": adas.RefreshToken})
		return err == nil && got.status == http.StatusUnauthorized
	})
	s.kill()
	require.Error(t, <-answered)

	s = serve(t, data, "--admin-token", adminToken)
	bobs = s.signIn(t, "bob.noyce@example.com")
	assert.Contains(t, string(must(t, 200, "GET", s.url+"/rooms/hall/messages?limit=100", bobs.AccessToken, nil)), "canary")
	must(t, 401, "POST", s.url+"/auth/signin", "", map[string]string{"email": "ada.lovelace@example.com", "password": password})
	done := decode[erasure](t, must(t, 200, http.MethodDelete, s.admin+"/admin/users/"+adas.User.ID, adminToken, nil))
	assert.False(t, done.Account.Emptied)
	assert.Equal(t, 300, done.Chat.Messages)
	assert.Equal(t, 1, done.Chat.Memberships)
	assert.NotContains(t, string(must(t, 200, "GET", s.url+"/rooms/hall/messages?limit=100", bobs.AccessToken, nil)), "canary")
}
