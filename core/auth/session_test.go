package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	g, err := w.SignIn(t.Context(), auth.Client{}, " ADA@example.com", password)
	require.NoError(t, err)
	assert.Equal(t, u, g.User)
	assert.Equal(t, 15*time.Minute, g.ExpiresIn)

	c, err := w.cfg.Verifier.Verify(t.Context(), g.AccessToken, auth.AudienceAPI)
	require.NoError(t, err)
	now := w.clock.Now().UTC().Truncate(time.Second)
	assert.Equal(t, auth.Claims{
		ID: c.ID, Audience: auth.AudienceAPI, UserID: u.ID, Name: u.FullName, SessionID: c.SessionID,
		SessionAt: w.clock.Now().UTC().Truncate(time.Microsecond), IssuedAt: now, ExpiresAt: now.Add(15 * time.Minute),
	}, c)
	assert.NotEmpty(t, c.ID)

	s, err := w.store.Sessions.ByID(t.Context(), c.SessionID)
	require.NoError(t, err)
	assert.Equal(t, u.ID, s.UserID)
	assert.Equal(t, s.CreatedAt.Add(30*24*time.Hour), s.ExpiresAt)
	for _, part := range append(strings.Split(g.RefreshToken, ".")[1:], strings.Split(g.DeviceToken, ".")[1]) {
		assert.NotContains(t, s.FamilyHash+s.TokenHash+s.DeviceHash, part, "secrets are not stored")
	}

	who, err := w.Authenticate(t.Context(), g.AccessToken)
	require.NoError(t, err)
	assert.Equal(t, user.Identity{UserID: u.ID, Name: u.FullName, SessionID: s.ID, SessionAt: s.CreatedAt, ExpiresAt: c.ExpiresAt}, who)
	me, err := w.Me(t.Context(), who)
	require.NoError(t, err)
	assert.Equal(t, u, me)
	_, err = w.Me(t.Context(), user.Identity{UserID: "nobody"})
	require.ErrorIs(t, err, user.ErrNotFound)
}

func TestSignInRefusesInTheSameWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.signUp("new@example.com")
	_, err := w.SignIn(t.Context(), auth.Client{}, "first@example.com", "makes the dummy")
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	for name, in := range map[string][2]string{
		"wrong password":            {ada, "wrong horse"},
		"unknown address":           {"nobody@example.com", password},
		"no address at all":         {"", password},
		"no password":               {ada, ""},
		"much too long":             {ada, strings.Repeat("x", 1<<20)},
		"NUL after the password":    {ada, password + "\x00"},
		"not verified and wrong":    {"new@example.com", "wrong horse"},
		"an address that is malice": {"ada@example.com\r\nBcc: x@example.com", password},
	} {
		verifies, hashes := w.hasher.verifies.Load(), w.hasher.hashes.Load()
		_, err := w.SignIn(t.Context(), auth.Client{}, in[0], in[1])
		require.ErrorIs(t, err, auth.ErrInvalidCredentials, name)
		require.Equal(t, fault.Public(auth.ErrInvalidCredentials), fault.Public(err), name)
		want := verifies + 1
		if in[0] == "new@example.com" {
			want++
		}
		require.Equal(t, want, w.hasher.verifies.Load(), "%s: one hash is verified, and one for each sign-up that waits", name)
		require.Equal(t, hashes, w.hasher.hashes.Load(), name)
	}
	_, err = w.SignIn(t.Context(), auth.Client{}, "new@example.com", password)
	require.ErrorIs(t, err, auth.ErrNotVerified)
	require.ErrorIs(t, err, fault.Forbidden)
}

func TestSignInUpgradesTheHash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.account(ada)
	w.hasher.upgrade.Store(true)
	g, _ := w.signIn(ada, password)
	u := w.user(ada)
	require.NotEqual(t, old.PasswordHash, u.PasswordHash)
	require.Equal(t, old.PasswordChangedAt, u.PasswordChangedAt, "it is the same password")
	require.Equal(t, u, g.User)
	w.hasher.upgrade.Store(false)
	w.signIn(ada, password)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err)
}

func TestSignInSurvivesAFailedUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.hasher.upgrade.Store(true)
	w.cfg.Users = brokenUpdate{w.store.Users}
	var err error
	w.Service, err = auth.New(w.cfg)
	require.NoError(t, err)
	w.signIn(ada, password)
}

// TestSignInUpgradeDuringAPasswordChange lets the password change while the old one is hashed
// anew: the new password must stay, and the old one must not open a session.
func TestSignInUpgradeDuringAPasswordChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	w.signIn(ada, password) // makes the dummy hash
	w.hasher.upgrade.Store(true)
	w.hasher.duringHash = func() {
		w.hasher.duringHash = nil
		require.NoError(t, w.ChangePassword(context.Background(), user.Identity{UserID: u.ID}, password, newPassword))
	}
	_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	w.hasher.upgrade.Store(false)
	w.signIn(ada, newPassword)
}

// gullible is a hasher that takes every password.
type gullible struct{ auth.Hasher }

func (gullible) Verify(context.Context, string, string) (bool, bool, error) { return true, false, nil }

func TestSignInRefusesWhatNoPasswordIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.Hasher = gullible{c.Hasher} })
	w.account(ada)
	w.signIn(ada, "anything")
	for _, bad := range []string{strings.Repeat("x", 257), "x\x00", "\xff"} {
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, bad)
		require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	}
	_, err := w.SignIn(t.Context(), auth.Client{}, "nobody@example.com", "anything")
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
}

type brokenUpdate struct{ user.Repository }

func (brokenUpdate) Update(context.Context, user.ID, func(*user.User) error, ...event.Event) (user.User, error) {
	return user.User{}, errors.New("broken")
}

// TestSignInDuringAPasswordChange lets the password change between the check of the old one
// and the end of the sign-in: no session may come out of that.
func TestSignInDuringAPasswordChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	w.hasher.during = func() {
		w.hasher.during = nil
		require.NoError(t, w.ChangePassword(context.Background(), user.Identity{UserID: u.ID}, password, "another horse"))
	}
	_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	sessions, err := w.store.Sessions.ByUser(t.Context(), u.ID, w.clock.Now(), 10)
	require.NoError(t, err)
	require.Empty(t, sessions)
	w.signIn(ada, "another horse")
}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	g, who := w.signIn(ada, password)
	tokens := map[string]bool{g.RefreshToken: true}
	for range 2 {
		w.clock.Advance(29 * 24 * time.Hour) // each use extends the session
		next, err := w.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err)
		require.False(t, tokens[next.RefreshToken])
		tokens[next.RefreshToken] = true
		require.Equal(t, u, next.User)
		now, err := w.Authenticate(t.Context(), next.AccessToken)
		require.NoError(t, err)
		require.Equal(t, who.SessionID, now.SessionID)
		g = next
	}
	w.clock.Advance(30 * 24 * time.Hour)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
}

func TestRefreshTokenReuseEndsTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	stolen, who := w.signIn(ada, password)
	other, _ := w.signIn(ada, password)
	fresh, err := w.Refresh(t.Context(), stolen.RefreshToken)
	require.NoError(t, err)
	w.clock.Advance(10 * time.Second) // the grace is over

	hungUp, cancel := context.WithCancel(t.Context())
	w.cfg.Sessions = cancelAfterUpdate{w.store.Sessions, cancel}
	svc, err := auth.New(w.cfg)
	require.NoError(t, err)
	_, err = svc.Refresh(hungUp, stolen.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.ErrorIs(t, err, fault.Unauthenticated)

	var data auth.SessionRevoked
	e := w.last(auth.TypeSessionRevoked, &data)
	require.Equal(t, auth.Topic, e.Topic)
	require.Equal(t, string(who.UserID), e.Key)
	require.Equal(t, auth.SessionRevoked{
		UserID: string(who.UserID), SessionID: who.SessionID,
		Until: w.clock.Now().UTC().Truncate(time.Microsecond).Add(15 * time.Minute),
	}, data)

	_, err = w.Refresh(t.Context(), fresh.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded, "the thief's and the owner's tokens both end")
	_, err = w.Authenticate(t.Context(), fresh.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Refresh(t.Context(), other.RefreshToken)
	require.NoError(t, err, "other sessions go on")
	events := len(w.events())
	_, err = w.Refresh(t.Context(), stolen.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.Len(t, w.events(), events, "it ends once")
}

// cancelAfterUpdate is a caller that hangs up while its request is under way.
type cancelAfterUpdate struct {
	auth.SessionStore
	cancel context.CancelFunc
}

func (c cancelAfterUpdate) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	s, err := c.SessionStore.Update(ctx, id, change, events...)
	c.cancel()
	return s, err
}

// TestConcurrentRefreshesHaveOneSuccessor lets many use one token at once, as copied tabs do.
func TestConcurrentRefreshesHaveOneSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, _ := w.signIn(ada, password)
	grants := make([]auth.Grant, 16)
	var all sync.WaitGroup
	for i := range grants {
		all.Go(func() {
			var err error
			grants[i], err = w.Refresh(context.Background(), g.RefreshToken)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	for _, got := range grants {
		require.Equal(t, grants[0].RefreshToken, got.RefreshToken)
		require.NotEqual(t, g.RefreshToken, got.RefreshToken)
		_, err := w.Authenticate(t.Context(), got.AccessToken)
		require.NoError(t, err)
	}
	require.NotContains(t, w.types(), auth.TypeSessionRevoked)
	_, err := w.Refresh(t.Context(), grants[0].RefreshToken)
	require.NoError(t, err)
}

func TestRefreshCanBeRepeatedForAWhile(t *testing.T) {
	t.Parallel()
	const grace = 10 * time.Second
	for name, tc := range map[string]struct {
		wait    time.Duration
		rotated bool // once more, by whoever got the answer
		want    error
	}{
		"at once":              {0, false, nil},
		"just in time":         {grace - time.Microsecond, false, nil},
		"too late":             {grace, false, auth.ErrSessionEnded},
		"after the next token": {0, true, auth.ErrSessionEnded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.account(ada)
			old, who := w.signIn(ada, password)
			lost, err := w.Refresh(t.Context(), old.RefreshToken)
			require.NoError(t, err)
			w.clock.Advance(tc.wait)
			if tc.rotated {
				_, err = w.Refresh(t.Context(), lost.RefreshToken)
				require.NoError(t, err)
			}
			again, err := w.Refresh(t.Context(), old.RefreshToken)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				_, err = w.Refresh(t.Context(), lost.RefreshToken)
				require.ErrorIs(t, err, auth.ErrSessionEnded, "a token that was used before ends the session")
				return
			}
			require.NoError(t, err)
			require.Equal(t, lost.RefreshToken, again.RefreshToken)
			s, err := w.store.Sessions.ByID(t.Context(), who.SessionID)
			require.NoError(t, err)
			for _, secret := range []string{old.RefreshToken, lost.RefreshToken} {
				parts := strings.Split(secret, ".")
				require.NotContains(t, s.TokenHash+s.PreviousHash+s.RotationKey+s.FamilyHash, parts[2], "nothing readable is stored")
			}
			_, err = w.Refresh(t.Context(), again.RefreshToken)
			require.NoError(t, err)
		})
	}
}

func TestRefreshIsLimitedPerSessionAndNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.RefreshRate = auth.Rate{Burst: 5, Per: time.Minute} })
	w.account(ada)
	g, _ := w.signIn(ada, password)
	h, who := w.signIn(ada, password)
	var err error
	for range 5 {
		g, err = w.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err)
	}
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, auth.ErrTooMany)
	require.Positive(t, fault.Public(err).RetryAfter)
	_, err = w.Refresh(t.Context(), h.RefreshToken)
	require.NoError(t, err, "another session")
	w.clock.Advance(12 * time.Second)
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "it ended nothing")

	from := auth.Client{Address: "192.0.2.1"}
	for range 500 {
		require.NoError(t, w.AllowRefresh(t.Context(), from))
	}
	require.ErrorIs(t, w.AllowRefresh(t.Context(), from), auth.ErrTooMany)
	require.NoError(t, w.AllowCode(t.Context(), from))

	for range 60 {
		_, _, err = w.SocketTicket(t.Context(), who)
		require.NoError(t, err)
	}
	_, _, err = w.SocketTicket(t.Context(), who)
	require.ErrorIs(t, err, auth.ErrTooMany)
	for range 299 {
		require.NoError(t, w.AllowCode(t.Context(), from))
	}
	require.ErrorIs(t, w.AllowCode(t.Context(), from), auth.ErrTooMany)
}

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

// TestSignInIsLimited guesses from many places: what one of them uses up is not missing elsewhere,
// and never to a device that has signed in before. An address without an account is treated alike.
func TestSignInIsLimited(t *testing.T) {
	t.Parallel()
	for _, email := range []string{ada, "nobody@example.com"} {
		w := newWorld(t, func(c *auth.Config) { c.SignInRate = auth.Rate{} }) // 10 a minute
		w.account(ada)
		owner := auth.Client{Address: "198.51.100.7"}
		g, err := w.SignIn(t.Context(), owner, ada, password)
		require.NoError(t, err)
		device := auth.Client{Address: "192.0.2.1", Device: g.DeviceToken}
		w.clock.Advance(time.Minute)
		guess := func(from auth.Client, email string) error {
			_, err := w.SignIn(t.Context(), from, email, "wrong horse")
			return err
		}
		for _, network := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			from := auth.Client{Address: network}
			for i := range 10 {
				require.ErrorIs(t, guess(from, []string{email, " " + strings.ToUpper(email)}[i%2]), auth.ErrInvalidCredentials)
			}
			err := guess(from, email)
			require.ErrorIs(t, err, auth.ErrTooMany)
			require.Positive(t, fault.Public(err).RetryAfter)
			if email == ada && network != "192.0.2.3" {
				w.clock.Advance(2 * time.Second) // one more at the address
				_, err := w.SignIn(t.Context(), owner, ada, password)
				require.NoError(t, err, "the owner elsewhere")
			}
		}
		require.ErrorIs(t, guess(auth.Client{Address: "203.0.113.9"}, email), auth.ErrTooMany, "all together have used up the address")
		_, err = w.SignIn(t.Context(), auth.Client{Address: "192.0.2.1"}, ada, password)
		if email == ada {
			require.ErrorIs(t, err, auth.ErrTooMany, "also with the right password: a guess may be right")
		} else {
			require.NoError(t, err)
		}
		next, err := w.SignIn(t.Context(), device, ada, password)
		require.NoError(t, err, "a device that has signed in before, behind the same address")
		require.NotEqual(t, g.DeviceToken, next.DeviceToken)

		// It has its own allowance, no more.
		for range 9 {
			require.ErrorIs(t, guess(device, ada), auth.ErrInvalidCredentials)
		}
		require.ErrorIs(t, guess(device, ada), auth.ErrTooMany)
		for _, bad := range []string{"x", g.RefreshToken, strings.Replace(g.DeviceToken, ".", ".A", 1), "nobody." + strings.Split(g.DeviceToken, ".")[1]} {
			require.ErrorIs(t, guess(auth.Client{Address: "192.0.2.1", Device: bad}, email), auth.ErrTooMany, "what is no device token")
		}
	}
}

func TestADeviceTokenIsGoodForOneAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.SignInRate = auth.Rate{Burst: 1, Per: time.Minute} })
	w.account(ada)
	w.account("bob@example.com")
	g, _ := w.signIn(ada, password)
	_, err := w.SignIn(t.Context(), auth.Client{}, "bob@example.com", "guess") // the one that is allowed
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	_, err = w.SignIn(t.Context(), auth.Client{Device: g.DeviceToken}, "bob@example.com", "guess")
	require.ErrorIs(t, err, auth.ErrTooMany)
	_, err = w.SignIn(t.Context(), auth.Client{Device: g.DeviceToken}, " ADA@example.com", password)
	require.NoError(t, err)
}

func TestGuessesFromOneNetworkAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.SignInRate = auth.Rate{} })
	w.account(ada)
	n := 0
	guess := func(address string) error {
		n++
		_, err := w.SignIn(t.Context(), auth.Client{Address: address}, fmt.Sprintf("a%d@example.com", n), "guess")
		return err
	}
	// A network of 64 bits has 100, one of 56 bits 200, one of 48 bits 400.
	for i, address := range []string{"2001:db8:1:0::1", "2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:100::1", "2001:db8:1:200::1", "2001:db8:1:300::1"} {
		allowed := 0
		for range 101 {
			if guess(address) == nil {
				t.Fatal("a guess was right")
			}
			n++
			_, err := w.SignIn(t.Context(), auth.Client{Address: address}, fmt.Sprintf("a%d@example.com", n), "guess")
			if errors.Is(err, auth.ErrInvalidCredentials) {
				allowed++
			}
		}
		require.Equal(t, []int{50, 50, 0, 50, 50, 0}[i], allowed, address)
	}
	require.ErrorIs(t, guess("2001:db8:2::1"), auth.ErrInvalidCredentials)
}

func TestRefreshWithATokenThatNeverWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, _ := w.signIn(ada, password)
	h, _ := w.signIn(ada, password)
	mine, his := strings.Split(g.RefreshToken, "."), strings.Split(h.RefreshToken, ".")
	require.Len(t, mine, 3)
	for name, bad := range map[string]string{
		"empty":               "",
		"dots":                "..",
		"an access token":     g.AccessToken,
		"no session":          "." + mine[1] + "." + mine[2],
		"unknown session":     "nobody." + mine[1] + "." + mine[2],
		"another's family":    mine[0] + "." + his[1] + "." + mine[2],
		"swapped secrets":     mine[0] + "." + mine[2] + "." + mine[1],
		"a part too many":     g.RefreshToken + "." + mine[2],
		"a character changed": mine[0] + "." + flip(mine[1]) + "." + mine[2],
		"a line break":        mine[0] + "." + mine[1] + ".\n" + mine[2],
		"huge":                strings.Repeat("x", 1<<20) + "." + mine[1] + "." + mine[2],
		"NUL":                 "\x00." + mine[1] + "." + mine[2],
	} {
		_, err := w.Refresh(t.Context(), bad)
		require.ErrorIs(t, err, auth.ErrTokenInvalid, name)
	}
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "none of them had an effect")
}

func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

func TestRefreshSurvivesACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, _ := w.signIn(ada, password)
	w.steps.arm(1, false)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, w.steps.disarm())
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "what was not stored did not happen")
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
