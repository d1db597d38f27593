package auth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// TestSessionsHaveAnEnd lets a session be refreshed for as long as that works: it ends at its
// greatest age, and no access token outlives it.
func TestSessionsHaveAnEnd(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"by default": 90 * 24 * time.Hour, "as told": 45 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *auth.Config) {
				if name == "as told" {
					c.SessionMax = age
				}
			})
			w.account(ada)
			g, _ := w.signIn(ada, password)
			end := w.clock.Now().Add(age)
			var err error
			for range 1000 {
				var next auth.Grant
				if next, err = w.Refresh(t.Context(), g.RefreshToken); err != nil {
					break
				}
				g = next
				c, err := w.cfg.Verifier.Verify(t.Context(), g.AccessToken, auth.AudienceAPI)
				require.NoError(t, err)
				require.False(t, c.ExpiresAt.After(end), "%v after %v", c.ExpiresAt, end)
				require.Equal(t, g.ExpiresIn, c.ExpiresAt.Sub(c.IssuedAt))
				w.clock.Advance(min(10*24*time.Hour, max(time.Second, end.Sub(w.clock.Now())/2)))
			}
			require.ErrorIs(t, err, auth.ErrSessionEnded)
			require.WithinDuration(t, end, w.clock.Now(), 2*time.Second)
			w.clock.Advance(time.Second)
			_, err = w.Authenticate(t.Context(), g.AccessToken)
			require.Error(t, err)
		})
	}
	t.Run("also by itself", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *auth.Config) { c.SessionTTL = 20 * time.Minute })
		w.account(ada)
		g, _ := w.signIn(ada, password)
		require.Equal(t, 15*time.Minute, g.ExpiresIn)
	})
	t.Run("of an older program", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.account(ada)
		g, who := w.signIn(ada, password)
		w.clock.Advance(90 * 24 * time.Hour)
		_, err := w.store.Sessions.Update(t.Context(), who.SessionID, func(s *auth.Session) error {
			s.ExpiresAt = w.clock.Now().Add(time.Hour) // it knows no greatest age
			return nil
		})
		require.NoError(t, err)
		_, err = w.Refresh(t.Context(), g.RefreshToken)
		require.ErrorIs(t, err, auth.ErrSessionEnded)
		_, _, err = w.SocketTicket(t.Context(), who)
		require.ErrorIs(t, err, auth.ErrSessionEnded)
	})
	for name, edit := range map[string]func(*auth.Config){
		"SessionMax is shorter than SessionTTL": func(c *auth.Config) { c.SessionMax = time.Hour },
		"SessionMax is negative":                func(c *auth.Config) { c.SessionMax = -1 },
		"MaxSessions is negative":               func(c *auth.Config) { c.MaxSessions = -1 },
	} {
		cfg := newWorld(t).cfg
		edit(&cfg)
		_, err := auth.New(cfg)
		require.ErrorContains(t, err, name)
	}
}

// TestTheOldestSessionGoes opens more sessions than a user may have.
func TestTheOldestSessionGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.MaxSessions = 3 })
	w.account(ada)
	var grants []auth.Grant
	for i := range 5 {
		w.clock.Advance(time.Second)
		g, _ := w.signIn(ada, password)
		grants = append(grants, g)
		if i == 1 {
			_, who := w.signIn(ada, password)
			require.NoError(t, w.SignOut(t.Context(), who), "what has ended does not count")
		}
	}
	for i, g := range grants {
		_, err := w.Authenticate(t.Context(), g.AccessToken)
		if i < 2 {
			require.ErrorIs(t, err, auth.ErrSessionEnded, i)
			_, err = w.Refresh(t.Context(), g.RefreshToken)
			require.ErrorIs(t, err, auth.ErrSessionEnded, i)
		} else {
			require.NoError(t, err, i)
		}
	}
	var data auth.SessionsRevoked
	w.last(auth.TypeSessionsRevoked, &data)
	who, err := w.Authenticate(t.Context(), grants[2].AccessToken)
	require.NoError(t, err)
	require.Equal(t, who.SessionAt, data.Before, "its sockets close, and those of the next do not")
}

func TestAuthenticateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, who := w.signIn(ada, password)
	ticket, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	foreign, err := w.cfg.Issuer.Issue(t.Context(), auth.Claims{
		Audience: auth.AudienceAPI, UserID: "mallory", SessionID: who.SessionID, ExpiresAt: w.clock.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		token string
		want  error
	}{
		"nothing":               {"", auth.ErrTokenInvalid},
		"a refresh token":       {g.RefreshToken, auth.ErrTokenInvalid},
		"a ticket":              {ticket, auth.ErrTokenInvalid},
		"of another's session":  {foreign, auth.ErrSessionEnded},
		"with something behind": {g.AccessToken + "x", auth.ErrTokenInvalid},
		"of a session that died": {func() string {
			g, who := w.signIn(ada, password)
			_ = w.SignOut(t.Context(), who)
			return g.AccessToken
		}(), auth.ErrSessionEnded},
	} {
		_, err := w.Authenticate(t.Context(), tc.token)
		require.ErrorIs(t, err, tc.want, name)
	}
	_, err = w.Authenticate(t.Context(), g.AccessToken)
	require.NoError(t, err)
	w.clock.Advance(15 * time.Minute)
	_, err = w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrTokenInvalid)
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, who := w.signIn(ada, password)
	h, _ := w.signIn(ada, password)
	require.NoError(t, w.SignOut(t.Context(), user.Identity{UserID: "mallory", SessionID: who.SessionID}))
	_, err := w.Authenticate(t.Context(), g.AccessToken)
	require.NoError(t, err, "nobody ends another's session")

	require.NoError(t, w.SignOut(t.Context(), who))
	var data auth.SessionRevoked
	w.last(auth.TypeSessionRevoked, &data)
	require.Equal(t, who.SessionID, data.SessionID)
	_, err = w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, _, err = w.SocketTicket(t.Context(), who)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Authenticate(t.Context(), h.AccessToken)
	require.NoError(t, err)
	events := len(w.events())
	require.NoError(t, w.SignOut(t.Context(), who), "twice is harmless")
	require.NoError(t, w.SignOut(t.Context(), user.Identity{UserID: who.UserID, SessionID: "unknown"}))
	require.Len(t, w.events(), events)
}

func TestSignOutAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.account("bob@example.com")
	var bob auth.Grant
	w.signIn(ada, password)
	w.clock.Advance(31 * 24 * time.Hour) // that session is over by itself
	bob, _ = w.signIn("bob@example.com", password)
	var grants []auth.Grant
	var who user.Identity
	for range 3 {
		g, id := w.signIn(ada, password)
		grants, who = append(grants, g), id
	}
	w.clock.Advance(-time.Second) // a node whose clock is behind
	before := len(w.events())
	require.NoError(t, w.SignOutAll(t.Context(), who))
	events := w.events()[before:]
	require.Len(t, events, 1, "one event, however many sessions")
	require.Equal(t, auth.Topic, events[0].Topic)
	require.Equal(t, auth.TypeSessionsRevoked, events[0].Type)
	require.Equal(t, string(who.UserID), events[0].Key)
	data := decoded[auth.SessionsRevoked](t, events[0].Data)
	now := w.clock.Now().UTC().Truncate(time.Microsecond)
	require.Equal(t, auth.SessionsRevoked{
		UserID: string(who.UserID), Before: now.Add(time.Second + time.Microsecond), Until: now.Add(15 * time.Minute),
	}, data)
	for _, g := range grants {
		_, err := w.Authenticate(t.Context(), g.AccessToken)
		require.ErrorIs(t, err, auth.ErrSessionEnded)
		_, err = w.Refresh(t.Context(), g.RefreshToken)
		require.ErrorIs(t, err, auth.ErrSessionEnded)
	}
	_, _, err := w.SocketTicket(t.Context(), who)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Refresh(t.Context(), bob.RefreshToken)
	require.NoError(t, err)
	g, _ := w.signIn(ada, password)
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "a session that comes after it goes on, whatever the clock says")
	require.NoError(t, w.SignOutAll(t.Context(), user.Identity{UserID: "nobody"}))
}

// notingNonces notes until when a name is to be remembered.
type notingNonces struct {
	auth.Nonces
	mu      sync.Mutex
	expires time.Time
}

func (n *notingNonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	n.mu.Lock()
	n.expires = expires
	n.mu.Unlock()
	return n.Nonces.Spend(ctx, name, expires)
}

func TestSocketTicket(t *testing.T) {
	t.Parallel()
	nonces := &notingNonces{}
	w := newWorld(t, func(c *auth.Config) { nonces.Nonces, c.Nonces = c.Nonces, nonces })
	w.account(ada)
	g, who := w.signIn(ada, password)

	w.clock.Advance(time.Minute)
	ticket, ttl, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, ttl)
	c, err := w.cfg.Verifier.Verify(t.Context(), ticket, auth.AudienceTicket)
	require.NoError(t, err)
	require.LessOrEqual(t, c.ExpiresAt.Sub(w.clock.Now()), 30*time.Second)
	_, err = w.RedeemTicket(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrTokenInvalid, "an access token is no ticket")

	got, err := w.RedeemTicket(t.Context(), ticket)
	require.NoError(t, err)
	require.Equal(t, who.UserID, got.UserID)
	require.Equal(t, who.Name, got.Name)
	require.Equal(t, who, got, "the socket ends when the access token does that asked for the ticket")
	_, err = w.RedeemTicket(t.Context(), ticket)
	require.ErrorIs(t, err, auth.ErrTokenInvalid)

	require.GreaterOrEqual(t, nonces.expires.Sub(c.ExpiresAt), time.Minute, "verifiers' clocks differ a little")

	late, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	w.clock.Advance(30 * time.Second)
	_, err = w.RedeemTicket(t.Context(), late)
	require.ErrorIs(t, err, auth.ErrTokenInvalid)

	raced, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	require.Equal(t, 1, race(t, 16, auth.ErrTokenInvalid, func() error {
		_, err := w.RedeemTicket(context.Background(), raced)
		return err
	}))

	dead, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	require.NoError(t, w.SignOut(t.Context(), who))
	_, err = w.RedeemTicket(t.Context(), dead)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
}

// TestDependencyFailures gives each call a context that is done: the answer is Unavailable, and
// says nothing of what is inside.
func TestDependencyFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, who := w.signIn(ada, password)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	secret := strings.Repeat("A", 43)
	for name, call := range map[string]func() error{
		"SignUp": func() error {
			return w.SignUp(ctx, auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password})
		},
		"Verify":             func() error { return w.Verify(ctx, secret) },
		"ResendVerification": func() error { return w.ResendVerification(ctx, auth.Client{}, ada) },
		"SignIn":             func() error { _, err := w.SignIn(ctx, auth.Client{}, ada, password); return err },
		"Refresh":            func() error { _, err := w.Refresh(ctx, g.RefreshToken); return err },
		"Authenticate":       func() error { _, err := w.Authenticate(ctx, g.AccessToken); return err },
		"Me":                 func() error { _, err := w.Me(ctx, who); return err },
		"SignOut":            func() error { return w.SignOut(ctx, who) },
		"SignOutAll":         func() error { return w.SignOutAll(ctx, who) },
		"ForgotPassword":     func() error { return w.ForgotPassword(ctx, auth.Client{}, ada) },
		"ResetPassword":      func() error { return w.ResetPassword(ctx, secret, password) },
		"ChangePassword":     func() error { return w.ChangePassword(ctx, who, password, "another horse") },
		"SocketTicket":       func() error { _, _, err := w.SocketTicket(ctx, who); return err },
		"RedeemTicket":       func() error { _, err := w.RedeemTicket(ctx, g.AccessToken); return err },
	} {
		err := call()
		require.ErrorIs(t, err, fault.Unavailable, name)
		require.Equal(t, fault.Unavailable, fault.KindOf(err), name)
	}
}
