package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func TestAnErasedAccountIsNobodys(t *testing.T) {
	t.Parallel()
	var reasons []auth.RevokeReason
	w := newWorld(t, func(c *auth.Config) { c.Revoked = func(r auth.RevokeReason) { reasons = append(reasons, r) } })
	waiting := w.signUp(ada) // by her, or by a stranger
	w.account(ada)
	other := w.account("bob@example.com")
	g, who := w.signIn(ada, password)
	u := g.User
	_, others := w.signIn("bob@example.com", password)
	reset := w.forgotten(ada)
	ticket, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	before := len(w.events())

	found, err := w.Find(t.Context(), " ADA@example.com")
	require.NoError(t, err)
	require.Equal(t, u, found)
	going, err := w.Sessions(t.Context(), u.ID)
	require.NoError(t, err)
	require.Len(t, going, 1)
	require.Equal(t, who.SessionID, going[0].ID)

	done, err := w.Erase(t.Context(), u.ID)
	require.NoError(t, err)
	require.Equal(t, auth.Erasure{UserID: u.ID, Email: ada, Sessions: 1, Codes: 3, SignUps: 2}, done)
	require.Equal(t, auth.RevokedErased, reasons[len(reasons)-1])
	kept, err := w.Find(t.Context(), string(u.ID))
	require.NoError(t, err)
	require.True(t, kept.Erased())
	require.Equal(t, u.ID, kept.ID)
	require.NotContains(t, string(kept.Email)+kept.FullName+kept.PasswordHash, string(ada))

	// One commit ended the sessions, and told mailers, after all that was owed before.
	said := map[string]int{}
	for _, e := range w.events()[before:] {
		said[e.Type]++
		switch e.Type {
		case auth.TypeSessionsRevoked:
			d := decoded[auth.SessionsRevoked](t, e.Data)
			require.Equal(t, string(u.ID), d.UserID)
			require.True(t, who.SessionAt.Before(d.Before))
			require.False(t, d.Before.Before(w.clock.Now().Add(time.Minute)), "whoever was signing in meanwhile is not let off")
			require.Empty(t, d.Keep)
		case mail.TypeUserErased:
			require.Equal(t, mail.UserErased{UserID: e.Key, Email: ada}, decoded[mail.UserErased](t, e.Data))
		}
	}
	require.Equal(t, map[string]int{auth.TypeSessionsRevoked: 1, mail.TypeUserErased: 2}, said, "there were mails to two future users with that address")

	for doing, do := range map[string]func() error{
		"signs in":          func() error { _, err := w.SignIn(t.Context(), auth.Client{}, ada, password); return err },
		"refreshes":         func() error { _, err := w.Refresh(t.Context(), g.RefreshToken); return err },
		"has a token":       func() error { _, err := w.Authenticate(t.Context(), g.AccessToken); return err },
		"has a ticket":      func() error { _, err := w.RedeemTicket(t.Context(), ticket); return err },
		"has a reset code":  func() error { return w.ResetPassword(t.Context(), reset, "another horse") },
		"has a verify code": func() error { return w.Verify(t.Context(), waiting) },
		"asks who they are": func() error { _, err := w.Me(t.Context(), who); return err },
		"signs in at the address of the erased": func() error {
			_, err := w.SignIn(t.Context(), auth.Client{}, string(kept.Email), password)
			return err
		},
	} {
		require.Error(t, do(), doing)
		require.NotErrorIs(t, do(), fault.Unavailable, doing)
	}
	_, err = w.Find(t.Context(), ada)
	require.ErrorIs(t, err, user.ErrNotFound)

	// Again: nothing is left, and the address may have a new account meanwhile, which stays.
	again := w.account(ada)
	require.NotEqual(t, u.ID, again.ID)
	events := len(w.events())
	done, err = w.Erase(t.Context(), u.ID)
	require.NoError(t, err)
	require.Equal(t, auth.Erasure{UserID: u.ID}, done)
	require.Len(t, w.events(), events)
	w.signIn(ada, password)
	_, err = w.Find(t.Context(), string(other.ID))
	require.NoError(t, err)
	_, err = w.Me(t.Context(), others)
	require.NoError(t, err, "others stay")
	_, err = w.Erase(t.Context(), "nobody")
	require.ErrorIs(t, err, user.ErrNotFound)
}

// Whatever fails on the way, and wherever the process is killed: erasing again ends it.
func TestAnErasureGoesOn(t *testing.T) {
	t.Parallel()
	for failAt := 1; ; failAt++ {
		w := newWorld(t)
		w.signUp(ada)
		u := w.account(ada)
		w.signIn(ada, password)
		d := &dependencies{Config: w.cfg, failAt: failAt, err: errors.New("the store does not answer")}
		_, err := d.service(t).Erase(t.Context(), u.ID)
		if d.n < failAt {
			require.NoError(t, err)
			require.Greater(t, failAt, 8, "every call has failed once")
			return
		}
		require.ErrorIs(t, err, fault.Unavailable, d.calls[failAt-1])
		_, err = w.Erase(t.Context(), u.ID)
		require.NoError(t, err)
		kept, err := w.Find(t.Context(), string(u.ID))
		require.NoError(t, err)
		require.True(t, kept.Erased())
		left, err := w.store.SignUps.ByEmail(t.Context(), ada)
		require.NoError(t, err)
		require.Empty(t, left)
		sessions, err := w.store.Sessions.ByUser(t.Context(), u.ID, time.Unix(0, 0), 10)
		require.NoError(t, err)
		require.Empty(t, sessions)
		said := 0
		for _, e := range w.events() {
			if e.Type == mail.TypeUserErased && e.Key == string(u.ID) {
				said++
			}
		}
		require.Equal(t, 1, said)
	}
}

// A sign-in, a refresh or a new password that was under way when the account was erased comes to nothing.
func TestWhatWasUnderWayComesToNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	reset := w.forgotten(ada)
	erased := false
	d := &interrupting{Hasher: w.cfg.Hasher, do: func() {
		if !erased {
			erased = true
			_, err := w.Erase(t.Context(), u.ID)
			require.NoError(t, err)
		}
	}}
	cfg := w.cfg
	cfg.Hasher = d
	s, err := auth.New(cfg)
	require.NoError(t, err)
	require.Error(t, s.ResetPassword(t.Context(), reset, "another horse"))
	require.True(t, erased)
	kept, err := w.Find(t.Context(), string(u.ID))
	require.NoError(t, err)
	require.Empty(t, kept.PasswordHash)

	u = w.account(ada)
	erased = false
	d.verify = true
	_, err = s.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	require.True(t, erased)
	left, err := w.store.Sessions.ByUser(t.Context(), u.ID, w.clock.Now(), 10)
	require.NoError(t, err)
	require.Empty(t, left, "no session goes on")
}

// interrupting does something while a password is hashed, or verified.
type interrupting struct {
	auth.Hasher
	verify bool
	do     func()
}

func (h *interrupting) Hash(ctx context.Context, password string) (string, error) {
	if !h.verify {
		h.do()
	}
	return h.Hasher.Hash(ctx, password)
}

func (h *interrupting) Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	ok, upgrade, err = h.Hasher.Verify(ctx, hash, password)
	if h.verify {
		h.do()
	}
	return ok, upgrade, err
}
