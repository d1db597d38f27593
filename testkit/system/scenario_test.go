package system

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// TestScenario tells one whole story on each store with each transport. Nobody outside can
// tell them apart: the transcripts are equal, byte for byte, to the one that is kept.
func TestScenario(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "scenario.txt")
	told := map[string]string{}
	t.Run("told", func(t *testing.T) { // returns when all of them have ended
		stories := make(chan [2]string, 4)
		t.Cleanup(func() {
			close(stories)
			for s := range stories {
				told[s[0]] = s[1]
			}
		})
		everywhere(t, func(t *testing.T, cfg Config) { stories <- [2]string{t.Name(), story(t, cfg).text()} })
	})
	require.Len(t, told, 4)
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(told["TestScenario/told/memory/nbio"]), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	for name, got := range told {
		require.Equal(t, string(want), got, "%s; if the protocol was meant to change, run: go test ./testkit/system -run TestScenario -update", name)
	}
}

// The passwords and the messages of the story that are nobody else's business.
const (
	adaMail, bobMail                                     = "ada@parley.test", "bob@parley.test"
	adaPassword, bobPassword, newPassword, wrongPassword = "a first pass phrase", "another pass phrase", "a third pass phrase", "a wrong pass phrase"
	onlyOnce                                             = "only once"
)

func story(t *testing.T, cfg Config) *transcript {
	cfg.Hub.TypingTTL = 4 * time.Second
	s := Start(t, cfg)
	tr := &transcript{t: t, s: s}
	ada, bob := tr.actor("ada"), tr.actor("bob")
	post, get := http.MethodPost, http.MethodGet
	type object = map[string]any
	bearer := func(token any) http.Header { return http.Header{"Authorization": {"Bearer " + token.(string)}} }

	tr.part("Ada signs up, and confirms with the button behind the link in the mail.")
	ada.request(post, "/auth/signup", "", object{"fullName": "Ada Lovelace", "email": adaMail, "password": adaPassword}, 202)
	code := ada.mail(adaMail, 1)
	ada.request(post, "/auth/signin", "", object{"email": adaMail, "password": adaPassword}, 403)
	ada.request(get, "/auth/verify?code="+code, "", nil, 200)
	ada.form("/auth/verify/confirm", url.Values{"code": {code}}.Encode(), 200)
	ada.request(post, "/auth/verify", "", object{"code": code}, 410)

	tr.part("Bob signs up, and confirms with the code itself.")
	bob.request(post, "/auth/signup", "", object{"fullName": "Bob", "email": bobMail, "password": bobPassword}, 202)
	bob.request(post, "/auth/verify", "", object{"code": bob.mail(bobMail, 1)}, 200)

	tr.part("Somebody signs up with Ada's address: the answer is the same, and Ada is told.")
	bob.request(post, "/auth/signup", "", object{"fullName": "Eve", "email": adaMail, "password": bobPassword}, 202)
	ada.mail(adaMail, 2)

	tr.part("Both sign in; Ada refreshes her tokens.")
	ada.request(post, "/auth/signin", "", object{"email": adaMail, "password": wrongPassword}, 401)
	grant := ada.request(post, "/auth/signin", "", object{"email": adaMail, "password": adaPassword}, 200)
	grant = ada.request(post, "/auth/refresh", "", object{"refreshToken": grant["refreshToken"]}, 200)
	adaToken := grant["accessToken"].(string)
	ada.request(get, "/auth/me", adaToken, nil, 200)
	ada.request(get, "/auth/me", "", nil, 401)
	bobToken := bob.request(post, "/auth/signin", "", object{"email": bobMail, "password": bobPassword}, 200)["accessToken"].(string)

	tr.part("Ada opens a socket with a ticket and talks in a room.")
	ticket := ada.request(post, "/auth/socket-ticket", adaToken, nil, 200)["ticket"].(string)
	ada.connect("?ticket="+ticket, http.Header{})
	ada.says("join_room", object{"room": "tea"})
	for n := 1; n <= 12; n++ {
		ada.says("message", object{"room": "tea", "text": fmt.Sprintf("line %d", n)})
		ada.hears("message")
	}

	tr.part("Bob comes in, with his token in a header, and gets the last 10.")
	bob.connect("", bearer(bobToken))
	bob.says("join_room", object{"room": "tea"})
	ada.hears("joined")
	ada.says("presence", object{"room": "tea"})
	bob.says("history", object{"room": "tea", "before": 3})

	tr.part("Bob types, and stops; Ada types, and it ends by itself.")
	bob.says("isTyping", object{"room": "tea"})
	ada.hears("isTyping")
	bob.says("isTyping", object{"room": "tea", "typing": false})
	ada.hears("isTyping")
	ada.says("isTyping", object{"room": "tea", "typing": true})
	bob.hears("isTyping")
	s.Advance(5 * time.Second)
	bob.hears("isTyping")

	tr.part("A message that is sent again with its clientId is stored once.")
	again := object{"room": "tea", "text": onlyOnce, "clientId": "bob-1"}
	bob.says("message", again)
	bob.hears("message")
	ada.hears("message")
	bob.says("message", again)

	tr.part("Bob's connection breaks while Ada goes on; he comes back without a gap.")
	bob.cut()
	ada.hears("left")
	for n := 14; n <= 16; n++ {
		ada.says("message", object{"room": "tea", "text": fmt.Sprintf("line %d", n)})
		ada.hears("message")
	}
	bob.connect("", bearer(bobToken))
	bob.says("join_room", object{"room": "tea", "since": 13})
	ada.hears("joined")
	bob.says("message", again)
	bob.says("message", object{"room": "tea", "text": "back again"})
	bob.hears("message")
	ada.hears("message")

	tr.part("Bob signs out: his socket closes, and his token is worth nothing.")
	bob.request(post, "/auth/signout", bobToken, nil, 204)
	bob.hearsClose(4401)
	ada.hears("left")
	bob.request(get, "/auth/me", bobToken, nil, 401)

	tr.part("Bob forgets his password, and chooses a new one.")
	bob.request(post, "/auth/password/forgot", "", object{"email": bobMail}, 202)
	code = bob.mail(bobMail, 2)
	bob.request(post, "/auth/password/reset", "", object{"code": code, "password": newPassword}, 204)
	bob.mail(bobMail, 3)
	bob.request(post, "/auth/password/reset", "", object{"code": code, "password": newPassword}, 410)
	bob.request(post, "/auth/signin", "", object{"email": bobMail, "password": bobPassword}, 401)
	bob.request(post, "/auth/signin", "", object{"email": bobMail, "password": newPassword}, 200)

	tr.part("Ada leaves, and asks whether the server is well: nothing else came for her.")
	ada.says("leave_room", object{"room": "tea"})
	ada.says("healthCheck", object{})
	ada.hearsClose(1000)
	return tr
}
