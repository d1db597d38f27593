package asvs_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/system"
)

// sessions is how long somebody stays signed in: chapter 7, and 10.4.5.
var sessions = []requirement{
	{
		id: "7.2.3", asks: "session tokens are unique, random and of at least 128 bits",
		does:  "A refresh token has 256 bits of the system's randomness, and the store only a hash of it.",
		check: randomTokens,
	},
	{
		id: "7.2.4", asks: "signing in makes a new session token",
		does:  "Each sign-in opens a session with tokens of its own; none is taken over from before. A client that signs in anew ends its old session by signing out of it.",
		check: newSession,
	},
	{
		id: "7.3.1", asks: "a session ends when it is not used",
		does:  "PARLEY_SESSION_TTL, 30 days without a refresh; an access token lasts 15 minutes.",
		check: idleSession,
	},
	{
		id: "7.3.2", asks: "a session has a greatest age",
		does:  "PARLEY_SESSION_MAX, 90 days, however often it is refreshed; no access token and no socket outlives it.",
		check: oldSession,
	},
	{
		id: "7.4.1", asks: "nothing goes on after signing out",
		does:  "Access, refresh, tickets and open sockets end with the answer, not with the token's time.",
		check: signedOut,
	},
	{
		id: "7.4.2", asks: "an account that is deleted or disabled has no sessions",
		does:  "Erasing or disabling a user ends every session, and sockets on every node; who is disabled has no sign-in, ticket or refresh any more.",
		check: func(t *testing.T, o opener) { erased(t, o); disabled(t, o) },
	},
	{
		id: "7.4.3", asks: "changing a password can end all other sessions",
		does:  "It does, always; and so does a new one by mail, which ends all.",
		check: othersEnd,
	},
	{
		id: "7.5.1", asks: "a password is asked for again before what matters is changed",
		does:  "A new password, another address and the erasure of one's own account need the present password, and a session that proved its second factor within 10 minutes where the user has one. A second factor is changed by such a session alone; without one yet, the password proves it.",
		check: askedAgain,
	},
	{
		id: "10.4.5", asks: "a stolen refresh token is of no use for long",
		does:  "Each refresh gives a new one; the old one, used again, ends the session with all its tokens. Within 10 seconds a lost answer can be asked for again.",
		check: rotation,
	},
}

func randomTokens(t *testing.T, o opener) {
	var store auth.SessionStore
	w := o.start(t, func(cfg *system.Config) {
		more := cfg.Ports
		cfg.Ports = func(p *parley.Ports) {
			more(p)
			store = p.Sessions
		}
	})
	ada := w.user("Ada")
	var families, secrets []string
	for range 40 {
		w.SignIn(t, &ada)
		parts := strings.Split(ada.RefreshToken, ".")
		require.GreaterOrEqual(t, len(parts), 3)
		family, secret := parts[len(parts)-2], parts[len(parts)-1]
		families, secrets = append(families, family), append(secrets, secret)
		kept, err := store.ByID(t.Context(), w.sid(ada))
		require.NoError(t, err)
		for _, part := range []string{family, secret} {
			require.NotContains(t, fmt.Sprintf("%+v", kept), part, "the store has the token")
		}
	}
	random(t, families)
	random(t, secrets)
}

// random requires that these are 256 bits each in base64, all others, and that each bit is set in some and not in others: one that is drawn is the same in
// forty with a chance of two to the minus 39.
func random(t *testing.T, secrets []string) {
	t.Helper()
	var ones, zeros [32]byte
	seen := map[string]bool{}
	for _, secret := range secrets {
		raw, err := base64.RawURLEncoding.DecodeString(secret)
		require.NoError(t, err)
		require.Len(t, raw, len(ones), "256 bits")
		require.False(t, seen[secret], "twice")
		seen[secret] = true
		for i, b := range raw {
			ones[i] |= b
			zeros[i] |= ^b
		}
	}
	require.Equal(t, bytes.Repeat([]byte{255}, len(ones)), ones[:], "bits that are never set")
	require.Equal(t, bytes.Repeat([]byte{255}, len(zeros)), zeros[:], "bits that are always set")
}

// sid returns the session that a token names.
func (w *world) sid(u system.User) (sid string) {
	w.token(u, func(_, claims map[string]any) { sid, _ = claims["sid"].(string) })
	return sid
}

func newSession(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	before := ada
	a := w.ask(http.MethodPost, "/auth/signin", before.AccessToken, fields{"email": ada.Email, "password": ada.Password})
	w.wants(a, http.StatusOK, "", "with the old token beside")
	require.NoError(t, json.Unmarshal(a.Body, &ada))
	require.NotEmpty(t, w.sid(ada))
	require.NotEqual(t, w.sid(before), w.sid(ada))
	require.NotEqual(t, before.RefreshToken, ada.RefreshToken)
	require.Empty(t, a.Header.Values("Set-Cookie"))
	w.Call(t, http.MethodPost, "/auth/signout", before.AccessToken, nil, http.StatusNoContent, nil)
	w.wants(w.ask(http.MethodGet, "/auth/me", before.AccessToken, nil), http.StatusUnauthorized, "", "the old one")
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusOK, "", "the new one")
}

func idleSession(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	w.Advance(16 * time.Minute)
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusUnauthorized, "", "an access token after its time")
	a, next := w.refresh(ada.RefreshToken)
	w.wants(a, http.StatusOK, "", "a session in use")
	w.Advance(30*24*time.Hour + time.Minute)
	a, _ = w.refresh(next.RefreshToken)
	require.Equal(t, http.StatusUnauthorized, a.Status, "%s", a.Body)
}

func oldSession(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	token, access := ada.RefreshToken, ada.AccessToken
	for day := 0; ; day += 20 {
		a, next := w.refresh(token)
		if a.Status == http.StatusUnauthorized {
			require.Greater(t, day, 80)
			break
		}
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		require.LessOrEqual(t, day, 90, "a session without an end")
		token, access = next.RefreshToken, next.AccessToken
		w.Advance(20 * 24 * time.Hour)
	}
	w.wants(w.ask(http.MethodGet, "/auth/me", access, nil), http.StatusUnauthorized, "", "its last access token")
}

func signedOut(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	ticket, c := w.ticket(ada), w.DialRaw(t, ada.AccessToken)
	w.Call(t, http.MethodPost, "/auth/signout", ada.AccessToken, nil, http.StatusNoContent, nil)
	w.closed(c, 4401, "its socket")
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusUnauthorized, "", "the access token")
	w.wants(w.ask(http.MethodGet, "/rooms/mine", ada.AccessToken, nil), http.StatusUnauthorized, "", "in rooms")
	w.wants(w.shake("?ticket="+ticket), http.StatusUnauthorized, "", "the ticket")
	w.wants(w.shake("", "Authorization", "Bearer "+ada.AccessToken), http.StatusUnauthorized, "", "a new socket")
	a, _ := w.refresh(ada.RefreshToken)
	require.Equal(t, http.StatusUnauthorized, a.Status)
}

func erased(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada, second := w.user("Ada"), system.User{}
	second.Email, second.Password = ada.Email, ada.Password
	w.SignIn(t, &second)
	sockets := []string{ada.AccessToken, second.AccessToken}
	one, two := w.DialRaw(t, sockets[0]), w.DialRaw(t, sockets[1])
	_, err := w.Parts().EraseUser(t.Context(), ada.ID)
	require.NoError(t, err)
	w.closed(one, 4401, "the first socket")
	w.closed(two, 4401, "the second socket")
	for _, u := range []system.User{ada, second} {
		w.wants(w.ask(http.MethodGet, "/auth/me", u.AccessToken, nil), http.StatusUnauthorized, "", "an access token")
		w.wants(w.ask(http.MethodGet, "/rooms/mine", u.AccessToken, nil), http.StatusUnauthorized, "", "in rooms")
		a, _ := w.refresh(u.RefreshToken)
		require.Equal(t, http.StatusUnauthorized, a.Status)
	}
	w.wants(w.signIn(ada.Email, ada.Password), http.StatusUnauthorized, "invalid_credentials", "the account")
}

func disabled(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada, bob := w.user("Ada"), w.user("Bob")
	socket := w.DialRaw(t, ada.AccessToken)
	yes, no := true, false
	_, err := w.Parts().Auth.ChangeUser(t.Context(), user.ID(ada.ID), auth.UserChange{Disabled: &yes})
	require.NoError(t, err)
	w.closed(socket, 4401, "the socket")
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusUnauthorized, "", "an access token")
	w.wants(w.ask(http.MethodGet, "/rooms/mine", ada.AccessToken, nil), http.StatusUnauthorized, "", "in rooms")
	w.wants(w.ask(http.MethodPost, "/auth/socket-ticket", ada.AccessToken, nil), http.StatusUnauthorized, "", "a ticket")
	a, _ := w.refresh(ada.RefreshToken)
	require.Equal(t, http.StatusUnauthorized, a.Status)
	w.wants(w.signIn(ada.Email, ada.Password), http.StatusUnauthorized, "invalid_credentials", "the account")
	w.wants(w.ask(http.MethodGet, "/auth/me", bob.AccessToken, nil), http.StatusOK, "", "another user")
	_, err = w.Parts().Auth.ChangeUser(t.Context(), user.ID(ada.ID), auth.UserChange{Disabled: &no})
	require.NoError(t, err)
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusUnauthorized, "", "what was ended stays so")
	require.Equal(t, http.StatusOK, w.signIn(ada.Email, ada.Password).Status)
}

func othersEnd(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	other := ada
	w.SignIn(t, &other)
	c := w.DialRaw(t, other.AccessToken)
	const password = "a new pass phrase of Ada"
	w.wants(w.ask(http.MethodPost, "/auth/password/change", ada.AccessToken, fields{"current": ada.Password, "password": password}), http.StatusNoContent, "", "the change")
	w.closed(c, 4401, "the other's socket")
	w.wants(w.ask(http.MethodGet, "/auth/me", other.AccessToken, nil), http.StatusUnauthorized, "", "the other")
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusOK, "", "the one that changed it")
	mails := len(w.Mailbox.To(ada.Email))
	w.Call(t, http.MethodPost, "/auth/password/forgot", "", fields{"email": ada.Email}, http.StatusAccepted, nil)
	for nth := mails + 1; ; nth++ { // a notice of the change may come before the code
		w.await(ada.Email, nth)
		if code, ok := w.codeOf(ada.Email, nth); ok {
			w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": "one more pass phrase"}), http.StatusNoContent, "", "a reset")
			break
		}
	}
	w.wants(w.ask(http.MethodGet, "/auth/me", ada.AccessToken, nil), http.StatusUnauthorized, "", "after a reset all end")
}

func askedAgain(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	w.wants(w.ask(http.MethodPost, "/auth/password/change", ada.AccessToken, fields{"current": "a wrong pass phrase", "password": "a new pass phrase"}), http.StatusUnauthorized, "invalid_credentials", "a wrong one")
	a := w.ask(http.MethodPost, "/auth/password/change", ada.AccessToken, fields{"password": "a new pass phrase"})
	require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s", a.Body)
	w.wants(w.ask(http.MethodPost, "/auth/me/email", ada.AccessToken, fields{"email": "other@parley.test", "password": "a wrong pass phrase"}), http.StatusUnauthorized, "invalid_credentials", "another address by a wrong one")
	w.wants(w.ask(http.MethodDelete, "/auth/me", ada.AccessToken, fields{"password": "a wrong pass phrase"}), http.StatusUnauthorized, "invalid_credentials", "an erasure by a wrong one")
	for _, ask := range []func() system.Answer{
		func() system.Answer {
			return w.ask(http.MethodPost, "/auth/me/email", ada.AccessToken, fields{"email": "other@parley.test"})
		},
		func() system.Answer { return w.ask(http.MethodDelete, "/auth/me", ada.AccessToken, fields{}) },
	} {
		a := ask()
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s", a.Body)
	}
	for _, body := range []fields{{"email": "other@parley.test"}, {"isVerified": true}, {"password": "a new pass phrase"}} {
		a := w.ask(http.MethodPatch, "/auth/me", ada.AccessToken, body)
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%v: %s", body, a.Body)
	}
	require.Equal(t, http.StatusOK, w.signIn(ada.Email, ada.Password).Status, "nothing has changed")
}

func rotation(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	first := ada.RefreshToken
	a, second := w.refresh(first)
	w.wants(a, http.StatusOK, "", "a refresh")
	a, again := w.refresh(first)
	w.wants(a, http.StatusOK, "", "a lost answer")
	require.Equal(t, second.RefreshToken, again.RefreshToken, "one successor")
	w.Advance(11 * time.Second)
	a, third := w.refresh(second.RefreshToken)
	w.wants(a, http.StatusOK, "", "the successor")
	a, _ = w.refresh(first)
	require.Equal(t, http.StatusUnauthorized, a.Status, "the stolen one: %s", a.Body)
	a, _ = w.refresh(third.RefreshToken)
	require.Equal(t, http.StatusUnauthorized, a.Status, "and the session with it: %s", a.Body)
	w.wants(w.ask(http.MethodGet, "/auth/me", third.AccessToken, nil), http.StatusUnauthorized, "", "its access token")
}
