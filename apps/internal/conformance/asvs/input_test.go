package asvs_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/system"
)

// input is what comes in: chapters 1 and 2.
var input = []requirement{
	{
		id: "1.2.4", asks: "no input becomes part of a statement of a database",
		does:  "Values are bound, on SQL and on MongoDB; bodies are typed, so that no object of operators takes the place of a text. What people write is stored as it is.",
		check: injection,
	},
	{
		id: "1.3.11", asks: "input cannot add headers or recipients to a mail",
		does:  "Addresses hold one mailbox; names no control characters, and ends of lines in them become spaces; mails are built by a library that encodes them.",
		check: mailInjection,
	},
	{
		id: "2.2.1", asks: "input is checked against what is expected",
		does:  "One schema of each call and each event names types, lengths, ranges and fields. What it does not know, and a field that stands twice, is refused.",
		check: validation,
	},
	{
		id: "2.3.1", asks: "the steps of a process come in their order, and none is left out",
		does:  "No session before the address is confirmed; a code is for its purpose and for one use; nobody sends before they have joined.",
		check: order,
	},
	{
		id: "2.3.3", asks: "a process ends whole, or as if it had not begun",
		does:  "What belongs together is one commit, with the events that tell of it. A sign-up whose store fails leaves neither account nor mail.",
		check: wholeOrNothing,
	},
	{
		id: "2.4.1", asks: "nobody calls too much by machine",
		does:  "Guesses, mails, refreshes, tickets and events have limits by account, network and connection: 429 with Retry-After, or the close code 4429.",
		check: tooMuch,
	},
}

func injection(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada, bob := w.user("Ada"), w.user("Bob")
	c := w.Dial(t, ada, nil)
	hall := w.room("hall")
	_, err := c.Join(t.Context(), hall)
	require.NoError(t, err)
	for i, text := range []string{
		`'; DELETE FROM messages; --`, `" OR ""="`, `\'; DROP TABLE users; --`, "`users`", `%' OR 1=1 /*`, `$1 ? :name @p1`, `{"$ne": null}`, `$where: sleep(1000)`, `\`, `\\'`, "a\u2028b", "𝒳'--",
	} {
		sent, err := c.Send(t.Context(), hall, text)
		require.NoError(t, err, text)
		require.EqualValues(t, i+1, sent.Seq)
		var page struct{ Messages []struct{ Text string } }
		w.Call(t, http.MethodGet, "/rooms/"+hall+"/messages?limit=1", ada.AccessToken, nil, http.StatusOK, &page)
		require.Len(t, page.Messages, 1)
		require.Equal(t, text, page.Messages[0].Text)
		// The same as a room's name, which is looked up, and as a password and an address, which are compared.
		a := w.ask(http.MethodGet, "/rooms/"+url.PathEscape(w.name+text), ada.AccessToken, nil)
		require.Contains(t, []int{http.StatusNotFound, http.StatusUnprocessableEntity}, a.Status, "%s: %s", text, a.Body)
		w.wants(w.signIn(bob.Email, text), http.StatusUnauthorized, "invalid_credentials", text)
		a = w.signIn(text, bob.Password)
		require.Contains(t, []int{http.StatusUnauthorized, http.StatusUnprocessableEntity}, a.Status, "%s: %s", text, a.Body)
	}
	for _, body := range []string{
		`{"email":{"$ne":null},"password":{"$ne":null}}`, `{"email":"` + bob.Email + `","password":{"$gt":""}}`, `{"email":["` + bob.Email + `"],"password":"x"}`,
	} {
		w.wants(w.ask(http.MethodPost, "/auth/signin", "", body), http.StatusUnprocessableEntity, "invalid", body)
	}
	require.Equal(t, http.StatusOK, w.signIn(bob.Email, bob.Password).Status, "everybody is still there")
}

func mailInjection(t *testing.T, o opener) {
	w := o.start(t, nil)
	victim := w.name + "-victim@parley.test"
	for _, name := range []string{"Ada\x00", "Ada\x1b[2J", "Ada\u202e"} {
		a := w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": name, "email": w.name + "@parley.test", "password": "a pass phrase of nobody"})
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%q: %s", name, a.Body)
	}
	for _, email := range []string{
		"a@parley.test\r\nBcc: " + victim, "a@parley.test," + victim, "<a@parley.test>, " + victim, "a@parley.test " + victim, `"a\r\n"@parley.test`, "a@parley.test\x00",
	} {
		a := w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": email, "password": "a pass phrase of nobody"})
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%q: %s", email, a.Body)
	}
	// Ends of lines in a name are spaces.
	for _, name := range []string{"Ada\r\nBcc: " + victim, "Ada\nSubject: x", "Ada\u0085x", "Ada\u2028x"} {
		u := w.unverified(name)
		w.Code(t, u.Email, 1)
	}
	// Signs that mean something in a header, and nothing to a person's name.
	u := w.unverified(`Ada "<` + victim + `>", x`)
	w.Code(t, u.Email, 1)
	for _, m := range w.Mailbox.All() {
		require.NotEqual(t, victim, m.To)
		require.NotRegexp(t, "[\\r\\n\u0085\u2028]", m.Subject+m.FromName+m.ToName)
	}
}

func validation(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	for _, body := range []string{
		`{}`, `[]`, `7`, `{"email":7,"password":"x"}`, `{"email":"a@parley.test"}`, `{"email":"a@parley.test","password":"x","admin":true}`, `{"email":"a@parley.test","password":"x","password":"y"}`,
		`{"Email":"a@parley.test","password":"x"}`, `{"email":null,"password":"x"}`,
	} {
		w.wants(w.ask(http.MethodPost, "/auth/signin", "", body), http.StatusUnprocessableEntity, "invalid", body)
	}
	for _, body := range []string{`{"email":`, `{"email":"\ud800","password":"x"}`, "{\"email\":\"\xff\",\"password\":\"x\"}", ``} {
		w.wants(w.ask(http.MethodPost, "/auth/signin", "", body, "Content-Type", "application/json"), http.StatusBadRequest, "malformed", body)
	}
	w.wants(w.ask(http.MethodPost, "/auth/signin", "", `{}`, "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, "unsupported_media_type", "another type")
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?limit=1000000", "?limit=1&limit=2", "?nothing=1"} {
		a := w.ask(http.MethodGet, "/rooms/mine"+query, ada.AccessToken, nil)
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s: %s", query, a.Body)
	}
	for _, event := range []string{
		`{"event":"unknown","data":{}}`, `{"event":"message","data":{"room":7,"text":"x"}}`, `{"event":"message","data":{"room":"a"}}`, `{"event":"message","data":{"room":"a","text":"x","admin":true}}`,
		`{"event":"message","data":{"room":"a","room":"b","text":"x"}}`, `{"event":"join_room","data":{"Room":"a"}}`, `{"event":"join_room","data":{"room":"a","since":-1}}`, `not JSON`,
	} {
		c := w.DialRaw(t, ada.AccessToken)
		require.NoError(t, c.Send(frame(event)))
		w.closed(c, 4400, event)
	}
}

func order(t *testing.T, o opener) {
	w := o.start(t, nil)
	u := w.unverified("Ada")
	w.wants(w.signIn(u.Email, u.Password), http.StatusForbidden, "not_verified", "before the address is confirmed")
	code := w.Code(t, u.Email, 1)
	w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": "another pass phrase"}), http.StatusBadRequest, "code_unknown", "a code of another purpose")
	w.wants(w.ask(http.MethodPost, "/auth/verify", "", fields{"code": code}), http.StatusOK, "", "the code")
	w.wants(w.ask(http.MethodPost, "/auth/verify", "", fields{"code": code}), http.StatusGone, "code_gone", "twice")
	w.SignIn(t, &u)
	hall := w.room("hall")
	c := w.Dial(t, u, nil)
	_, err := c.Send(t.Context(), hall, "before joining")
	require.Error(t, err)
	w.wants(w.ask(http.MethodPost, "/rooms/"+hall+"/messages", u.AccessToken, fields{"text": "over REST"}), http.StatusNotFound, "", "to no room")
	_, err = c.Join(t.Context(), hall)
	require.NoError(t, err)
	bob := w.user("Bob")
	a := w.ask(http.MethodPost, "/rooms/"+hall+"/messages", bob.AccessToken, fields{"text": "without joining"})
	require.Equal(t, http.StatusForbidden, a.Status, "%s", a.Body)
	sent, err := c.Send(t.Context(), hall, "now")
	require.NoError(t, err)
	require.EqualValues(t, 1, sent.Seq, "nothing of before was stored")
}

// failing stores no sign-up while it is on.
type failing struct {
	auth.SignUps
	on *atomic.Bool
}

var errStore = errors.New("hunter2: the store is away at 10.1.2.3")

func (f failing) Create(ctx context.Context, s auth.WaitingSignUp, keep int, events ...event.Event) error {
	if f.on.Load() {
		return errStore
	}
	return f.SignUps.Create(ctx, s, keep, events...)
}

func wholeOrNothing(t *testing.T, o opener) {
	var off atomic.Bool
	var users user.Repository
	w := o.start(t, func(cfg *system.Config) {
		more := cfg.Ports
		cfg.Ports = func(p *parley.Ports) {
			more(p)
			users = p.Users
			p.SignUps = failing{p.SignUps, &off}
		}
	})
	email := w.name + "@parley.test"
	body := fields{"fullName": "Ada", "email": email, "password": "a pass phrase of Ada"}
	off.Store(true)
	require.GreaterOrEqual(t, w.ask(http.MethodPost, "/auth/signup", "", body).Status, 500)
	w.wants(w.signIn(email, "a pass phrase of Ada"), http.StatusUnauthorized, "invalid_credentials", "no sign-up waits")
	off.Store(false)
	require.Equal(t, http.StatusAccepted, w.ask(http.MethodPost, "/auth/signup", "", body).Status)
	w.Code(t, email, 1)
	last := w.unverified("Bob")
	w.Code(t, last.Email, 1) // mails go in their order: whatever there was before is there
	var to int
	for _, m := range w.Mailbox.All() {
		if m.To == email {
			to++
		}
	}
	assert.Equal(t, 1, to, "the one that failed has sent no mail")
	_, err := users.ByEmail(t.Context(), user.Email(email))
	require.ErrorIs(t, err, user.ErrNotFound, "no account before the address is confirmed")
}

func tooMuch(t *testing.T, o opener) {
	w := o.start(t, func(cfg *system.Config) {
		cfg.Auth.MailRate = auth.Rate{Burst: 3, Per: time.Hour}
		cfg.Auth.TicketRate = auth.Rate{Burst: 2, Per: time.Hour}
		cfg.Auth.RefreshRate = auth.Rate{Burst: 2, Per: time.Hour}
	})
	ada := w.user("Ada")
	limited := func(about string, most int, ask func() system.Answer) {
		t.Helper()
		for range most + 1 {
			a := ask()
			if a.Status == http.StatusTooManyRequests {
				require.NotEmpty(t, a.Header.Get("Retry-After"), about)
				return
			}
		}
		t.Errorf("%s: %d are let through", about, most+1)
	}
	limited("tickets", 2, func() system.Answer { return w.ask(http.MethodPost, "/auth/socket-ticket", ada.AccessToken, nil) })
	limited("mails", 30, func() system.Answer {
		return w.ask(http.MethodPost, "/auth/password/forgot", "", fields{"email": ada.Email})
	})
	token := ada.RefreshToken
	limited("refreshes", 2, func() system.Answer {
		a, next := w.refresh(token)
		token = next.RefreshToken
		return a
	})
	c := w.DialRaw(t, ada.AccessToken)
	for range 1000 {
		if c.Send(frame(`{"event":"isTyping","data":{"room":"a"}}`)) != nil {
			break // it is closed already
		}
	}
	w.closed(c, 4429, "events")
}
