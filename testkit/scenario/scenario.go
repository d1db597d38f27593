// Package scenario tells one whole story to a running Parley. It is for tests alone.
//
// In its first part two people sign up, get mail, verify, sign in, talk in a room from two nodes, type, edit, react, say how far they have read, lose a connection,
// come back, sign out and choose a new password. In its second part they have a private room: one invites the other, gives roles, mutes and removes, both edit, delete,
// react and reply, one blocks the other, and the room is deleted.
//
//	told := scenario.Tell(t, scenario.Stage{URL: …, Sockets: [2]string{…, …}, Mails: …})
//	require.Equal(t, scenario.Golden(), told)
//
// The transcript says what each person sent and got, line by line. Identifiers, times, tokens,
// codes and the names of hosts are masked, so that it is the same, byte for byte, whatever keeps
// the data, carries the events and the sockets, and however many nodes there are: only
// configuration differs. What a node may leave out because it does not know it is filled in: the name of somebody whom another one's event or
// answer is about, and in the event membership by whom and why. It needs the defaults of a program, and nobody else with the addresses
// ada@parley.test and bob@parley.test.
package scenario

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"testing"
	"time"

	"github.com/parley-chat/parley/core/mail"
)

// Stage is a running Parley, as the story sees it.
type Stage struct {
	// URL is where the HTTP API is, without a slash at the end. Required.
	URL string
	// Sockets are the addresses of Ada's and of Bob's node, "ws://host:port/socket": two nodes, one
	// node twice, or a proxy before them twice. The calls of rooms are beside them, "http://host:port/rooms". Required.
	Sockets [2]string
	// Wires are what Ada's and Bob's sockets speak. Default: parley.v1.
	Wires [2]Wire
	// Mails is where mails arrive. Required.
	Mails Mails
	// PublicURL is the base that links in mails must have. Default: URL.
	PublicURL string
	// TypingExpires is called when somebody has begun to type and says nothing more, to let the time
	// pass that typing lasts. Default: nothing, since the story waits for its end anyway.
	TypingExpires func()
	// Secret is called at the end with each thing in the story that must not stand in a log: addresses,
	// passwords, tokens and their secret parts, codes, messages. Default: nothing.
	Secret func(string)
	// Patience bounds each thing that the story waits for. Default 30 seconds.
	Patience time.Duration
}

// Mails is where a story's mails arrive. testkit.Mailbox is one.
type Mails interface {
	// Await waits for the nth mail to an address, counting from 1, and returns it with its From,
	// FromName, To, ToName, Subject and Text. When ctx is done first, it returns an error.
	Await(ctx context.Context, address string, nth int) (mail.Message, error)
}

//go:embed testdata/scenario.txt
var golden string

// Golden returns the transcript that every stack must give.
func Golden() string { return golden }

// The addresses, the passwords and the messages of the story that are nobody else's business.
const (
	adaMail, bobMail                                     = "ada@parley.test", "bob@parley.test"
	adaPassword, bobPassword, newPassword, wrongPassword = "a first pass phrase", "another pass phrase", "a third pass phrase", "a wrong pass phrase"
	onlyOnce                                             = "only once"
)

// Tell tells the story and returns its masked transcript. What goes otherwise than told fails the
// test at once.
func Tell(t testing.TB, stage Stage) string {
	t.Helper()
	if stage.URL == "" || stage.Sockets[0] == "" || stage.Sockets[1] == "" || stage.Mails == nil {
		t.Fatal("scenario: Stage.URL, Sockets and Mails are required")
	}
	if stage.PublicURL == "" {
		stage.PublicURL = stage.URL
	}
	if stage.TypingExpires == nil {
		stage.TypingExpires = func() {}
	}
	if stage.Patience <= 0 {
		stage.Patience = 30 * time.Second
	}
	tr := &transcript{t: t, stage: stage, names: map[string]string{}, client: &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer tr.client.CloseIdleConnections()
	var actors [2]*actor
	for i, name := range []string{"ada", "bob"} {
		actors[i] = &actor{transcript: tr, name: name, node: stage.Sockets[i], wire: stage.Wires[i]}
		if actors[i].wire == nil {
			actors[i].wire = parleyV1{}
		}
	}
	tr.first(actors[0], actors[1])
	tr.second(actors[0], actors[1])
	if stage.Secret != nil {
		tr.secrets(stage.Secret)
	}
	return tr.text()
}

type object = map[string]any

const post, get, put, del = http.MethodPost, http.MethodGet, http.MethodPut, http.MethodDelete

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// first is told by what the actors do. With two nodes only what somebody has heard is sure to have
// happened on the other one, so nobody goes on before.
func (tr *transcript) first(ada, bob *actor) {

	tr.part("Ada signs up, and confirms with the button behind the link in the mail.")
	ada.request(post, "/auth/signup", "", object{"fullName": "Ada Lovelace", "email": adaMail, "password": adaPassword}, 202)
	code := ada.mail(adaMail, 1)
	ada.request(post, "/auth/signin", "", object{"email": adaMail, "password": adaPassword}, 403)
	ada.request(get, "/auth/verify?code="+code, "", nil, 200)
	ada.form("/auth/verify/confirm", url.Values{"code": {code}}.Encode(), 200)
	ada.request(post, "/auth/verify", "", object{"code": code}, 410)

	tr.part("Bob signs up, and confirms with the code itself.")
	// Users are listed by their IDs, which of one millisecond are in no order.
	for began := time.Now().UnixMilli(); time.Now().UnixMilli() <= began; {
		runtime.Gosched()
	}
	bob.request(post, "/auth/signup", "", object{"fullName": "Bob", "email": bobMail, "password": bobPassword}, 202)
	bob.request(post, "/auth/verify", "", object{"code": bob.mail(bobMail, 1)}, 200)

	tr.part("Somebody signs up with Ada's address: the answer is the same, and Ada is told.")
	bob.request(post, "/auth/signup", "", object{"fullName": "Eve", "email": adaMail, "password": bobPassword}, 202)
	ada.mail(adaMail, 2)

	tr.part("Both sign in; Ada refreshes her tokens.")
	ada.request(post, "/auth/signin", "", object{"email": adaMail, "password": wrongPassword}, 401)
	grant := ada.request(post, "/auth/signin", "", object{"email": adaMail, "password": adaPassword}, 200)
	grant = ada.request(post, "/auth/refresh", "", object{"refreshToken": text(grant, "refreshToken")}, 200)
	ada.is(grant)
	ada.request(get, "/auth/me", ada.token, nil, 200)
	ada.request(get, "/auth/me", "", nil, 401)
	bob.is(bob.request(post, "/auth/signin", "", object{"email": bobMail, "password": bobPassword}, 200))

	tr.part("Ada opens a socket with a ticket and talks in a room.")
	ticket := text(ada.request(post, "/auth/socket-ticket", ada.token, nil, 200), "ticket")
	ada.connect("?ticket="+ticket, http.Header{})
	ada.says("join_room", object{"room": "tea"})
	for n := 1; n <= 12; n++ {
		ada.does("message", object{"room": "tea", "text": fmt.Sprintf("line %d", n)}, "message")
	}

	tr.part("Bob comes in, with his token in a header, and gets the last 10.")
	bob.connect("", bearer(bob.token))
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
	tr.stage.TypingExpires()
	bob.hears("isTyping")

	tr.part("A message that is sent again with its clientId is stored once.")
	again := object{"room": "tea", "text": onlyOnce, "clientId": "bob-1"}
	bob.does("message", again, "message")
	ada.hears("message")
	bob.says("message", again)

	tr.part("Ada edits a message, and Bob reacts to it, and thinks better of it; nobody edits what others have written.")
	ada.does("edit", object{"room": "tea", "seq": 12, "text": "line twelve", "data": json.RawMessage(`{"n":12}`)}, "changed")
	bob.hears("changed")
	bob.asks("edit", object{"room": "tea", "seq": 12, "text": "mine"}, "error")
	for i, on := range []bool{true, true, false, true} {
		reaction := object{"room": "tea", "seq": 12, "key": "👍", "on": on}
		if i == 1 { // again: it changes nothing
			bob.says("react", reaction)
			continue
		}
		bob.does("react", reaction, "changed")
		ada.hears("changed")
	}

	tr.part("Ada says how far she has read, which never goes back; what Bob has sent himself, he has read.")
	for _, read := range []int{0, 1} { // nothing moves, and nobody is told
		ada.says("mark", object{"room": "tea", "read": read})
		bob.says("mark", object{"room": "tea", "read": read})
	}
	ada.does("mark", object{"room": "tea", "read": 13}, "marked")
	bob.hears("marked")
	ada.says("mark", object{"room": "tea", "read": 7})
	ada.asks("mark", object{"room": "coffee", "read": 1}, "error")

	tr.part("Bob's connection breaks while Ada goes on; he comes back without a gap.")
	bob.cut()
	ada.hears("left")
	for n := 14; n <= 16; n++ {
		line := object{"room": "tea", "text": fmt.Sprintf("line %d", n)}
		if n == 15 {
			line["replyTo"], line["data"] = 13, json.RawMessage(`{"z":1.50,"a":["caf\u00e9","é"]}`)
		}
		ada.does("message", line, "message")
	}
	for _, text := range []string{"line eleven", "line 11!"} {
		ada.does("edit", object{"room": "tea", "seq": 11, "text": text}, "changed")
	}
	ada.does("delete", object{"room": "tea", "seq": 12}, "changed")
	ada.asks("edit", object{"room": "tea", "seq": 12, "text": "line twelve"}, "error")
	ada.does("react", object{"room": "tea", "seq": 14, "key": "🎉"}, "changed")
	bob.connect("", bearer(bob.token))
	bob.says("join_room", object{"room": "tea", "since": 13, "rev": 4})
	ada.hears("joined")
	bob.does("mark", object{"room": "tea", "read": 14}, "marked")
	ada.hears("marked")
	bob.says("message", again)
	bob.does("message", object{"room": "tea", "text": "back again"}, "message")
	ada.hears("message")

	tr.part("Bob signs out: his socket closes, and his token is worth nothing.")
	bob.request(post, "/auth/signout", bob.token, nil, 204)
	bob.hearsClose(4401)
	ada.hears("left")
	bob.request(get, "/auth/me", bob.token, nil, 401)

	tr.part("Bob forgets his password, and chooses a new one.")
	bob.request(post, "/auth/password/forgot", "", object{"email": bobMail}, 202)
	code = bob.mail(bobMail, 2)
	bob.request(post, "/auth/password/reset", "", object{"code": code, "password": newPassword}, 204)
	bob.mail(bobMail, 3)
	bob.request(post, "/auth/password/reset", "", object{"code": code, "password": newPassword}, 410)
	bob.request(post, "/auth/signin", "", object{"email": bobMail, "password": bobPassword}, 401)
	bob.is(bob.request(post, "/auth/signin", "", object{"email": bobMail, "password": newPassword}, 200))

	tr.part("Ada leaves, and asks whether the server is well: nothing else came for her.")
	ada.send("leave_room", object{"room": "tea"})
	ada.takes(told{event: "ack"}, told{event: "membership", about: ada, by: ada})
	ada.says("healthCheck", object{})
	ada.hearsClose(1000)
}
