package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	u.SessionsFrom = u.CreatedAt // since the first sign-in
	assert.Equal(t, u, g.User)
	assert.Equal(t, 15*time.Minute, g.ExpiresIn)

	c, err := w.cfg.Verifier.Verify(t.Context(), g.AccessToken, auth.AudienceAPI)
	require.NoError(t, err)
	now := w.clock.Now().UTC().Truncate(time.Second)
	assert.Equal(t, auth.Claims{
		ID: c.ID, Audience: auth.AudienceAPI, UserID: u.ID, Name: u.FullName, SessionID: c.SessionID,
		Role: user.RoleUser, SessionAt: w.clock.Now().UTC().Truncate(time.Microsecond), IssuedAt: now, ExpiresAt: now.Add(15 * time.Minute),
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
	assert.Equal(t, user.Identity{UserID: u.ID, Name: u.FullName, SessionID: s.ID, Role: user.RoleUser, SessionAt: s.CreatedAt, ExpiresAt: c.ExpiresAt}, who)
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
	w.signIn(ada, password)
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

// beforeUpdate runs something before an account is written.
type beforeUpdate struct {
	user.Repository
	do *func()
}

func (b beforeUpdate) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	if do := *b.do; do != nil {
		*b.do = nil
		do()
	}
	return b.Repository.Update(ctx, id, change, events...)
}

// TestASignInThatEndsBeforeANewPasswordIsStoredIsOver lets a sign-in by the old password begin and end while the new one is about to be stored: its session
// is newer than the time before which sessions end.
func TestASignInThatEndsBeforeANewPasswordIsStoredIsOver(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, who user.Identity, code string) error{
		"change": func(w *world, who user.Identity, _ string) error {
			return w.ChangePassword(w.t.Context(), who, password, newPassword)
		},
		"reset": func(w *world, _ user.Identity, code string) error {
			return w.ResetPassword(w.t.Context(), code, newPassword)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var during func()
			w := newWorld(t, func(c *auth.Config) { c.Users = beforeUpdate{c.Users, &during} })
			w.account(ada)
			kept, who := w.signIn(ada, password)
			code := w.forgotten(ada)
			var late auth.Grant
			during = func() {
				w.clock.Advance(time.Second)
				late, _ = w.signIn(ada, password)
			}
			require.NoError(t, change(w, who, code))
			require.NotEmpty(t, late.RefreshToken)
			_, err := w.Refresh(t.Context(), late.RefreshToken)
			require.ErrorIs(t, err, auth.ErrSessionEnded)
			if name == "change" {
				_, err = w.Refresh(t.Context(), kept.RefreshToken)
				require.NoError(t, err, "who has changed it goes on")
			}
			_, now := w.signIn(ada, newPassword)
			require.NotEmpty(t, now.SessionID)
		})
	}
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
