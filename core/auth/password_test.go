package auth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

const newPassword = "another horse"

// forgotten asks for a code for a new password and returns it.
func (w *world) forgotten(email string) string {
	w.t.Helper()
	require.NoError(w.t, w.ForgotPassword(context.Background(), auth.Client{}, email))
	var data mail.PasswordForgotten
	e := w.last(mail.TypePasswordForgotten, &data)
	u := w.user(email)
	require.Equal(w.t, mail.PasswordForgotten{
		UserID: string(u.ID), FullName: u.FullName, Email: email, ResetCode: data.ResetCode,
		ExpiresAt: w.clock.Now().UTC().Truncate(time.Microsecond).Add(time.Hour),
	}, data)
	require.Equal(w.t, string(u.ID), e.Key)
	return data.ResetCode
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	mine, who := w.signIn(ada, password)
	u := mine.User
	other, _ := w.signIn(ada, password)
	w.clock.Advance(time.Minute)

	require.ErrorIs(t, w.ChangePassword(t.Context(), who, "wrong horse", newPassword), auth.ErrInvalidCredentials)
	require.ErrorIs(t, w.ChangePassword(t.Context(), who, password, "short"), auth.ErrPasswordInvalid)
	require.ErrorIs(t, w.ChangePassword(t.Context(), who, password, ada), auth.ErrPasswordInvalid)
	require.ErrorIs(t, w.ChangePassword(t.Context(), user.Identity{UserID: "nobody"}, password, newPassword), user.ErrNotFound)
	require.Equal(t, u, w.user(ada))

	before := len(w.events())
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword))
	events := w.events()[before:]
	require.Len(t, events, 2)
	require.Equal(t, mail.TypePasswordChanged, events[1].Type)
	require.Equal(t, mail.Topic, events[1].Topic)
	require.Equal(t, auth.TypeSessionsRevoked, events[0].Type)
	require.Equal(t, who.SessionID, decoded[auth.SessionsRevoked](t, events[0].Data).Keep)
	require.Equal(t, w.clock.Now().UTC().Truncate(time.Microsecond), w.user(ada).PasswordChangedAt)

	_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	w.signIn(ada, newPassword)
	_, err = w.Authenticate(t.Context(), mine.AccessToken)
	require.NoError(t, err)
	_, err = w.Refresh(t.Context(), mine.RefreshToken)
	require.NoError(t, err, "the session that changed it goes on")
	_, err = w.Authenticate(t.Context(), other.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Refresh(t.Context(), other.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
}

func TestChangePasswordIsLimitedPerSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.SignInRate = auth.Rate{Burst: 5, Per: time.Minute} })
	w.account(ada)
	_, who := w.signIn(ada, password)
	_, thief := w.signIn(ada, password)
	for range 5 {
		require.ErrorIs(t, w.ChangePassword(t.Context(), thief, "guess", newPassword), auth.ErrInvalidCredentials)
	}
	require.ErrorIs(t, w.ChangePassword(t.Context(), thief, password, newPassword), auth.ErrTooMany)
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword), "one session does not lock out another")
}

// TestChangePasswordKeepsOneSession changes it twice, each time from another session.
func TestChangePasswordKeepsOneSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	one, _ := w.signIn(ada, password)
	two, whoTwo := w.signIn(ada, password)
	require.NoError(t, w.ChangePassword(t.Context(), whoTwo, password, newPassword))
	three, whoThree := w.signIn(ada, newPassword)
	_, err := w.Authenticate(t.Context(), two.AccessToken)
	require.NoError(t, err)
	require.NoError(t, w.ChangePassword(t.Context(), whoThree, newPassword, "a third horse"))
	for _, g := range []auth.Grant{one, two} {
		_, err := w.Refresh(t.Context(), g.RefreshToken)
		require.ErrorIs(t, err, auth.ErrSessionEnded)
	}
	_, err = w.Refresh(t.Context(), three.RefreshToken)
	require.NoError(t, err)
	require.NoError(t, w.SignOutAll(t.Context(), whoThree))
	_, err = w.Refresh(t.Context(), three.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded, "who was kept once is not kept for ever")
	require.ErrorIs(t, w.ChangePassword(t.Context(), whoThree, "a third horse", newPassword), auth.ErrSessionEnded)
}

func TestConcurrentPasswordChangesAreOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := w.account(ada)
	who := user.Identity{UserID: u.ID}
	w.hasher.during = barrier(8) // all have checked the old password before one sets a new one
	require.Equal(t, 1, race(t, 8, auth.ErrInvalidCredentials, func() error {
		return w.ChangePassword(context.Background(), who, password, newPassword)
	}))
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.earlier(ada, password) // not verified: the mail proves the address
	g := w.account("bob@example.com")
	session, _ := w.signIn("bob@example.com", password)

	for _, email := range []string{ada, "bob@example.com"} {
		code := w.forgotten(email)
		w.clock.Advance(time.Minute)
		require.ErrorIs(t, w.ResetPassword(t.Context(), code, "short"), auth.ErrPasswordInvalid)
		require.ErrorIs(t, w.ResetPassword(t.Context(), code, strings.ToUpper(email)), auth.ErrPasswordInvalid)
		require.NoError(t, w.ResetPassword(t.Context(), code, newPassword), "a refused password uses nothing up")
		var data mail.PasswordChanged
		if email == ada {
			w.last(mail.TypePasswordChanged, &data)
			require.Equal(t, w.user(email).PasswordChangedAt, data.At)
		}
		require.True(t, w.user(email).Verified())
		err := w.ResetPassword(t.Context(), code, "a third horse")
		require.ErrorIs(t, err, auth.ErrCodeGone)
		w.signIn(email, newPassword)
	}
	require.Equal(t, g.VerifiedAt, w.user("bob@example.com").VerifiedAt)
	_, err := w.Refresh(t.Context(), session.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Authenticate(t.Context(), session.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
}

func TestResetPasswordRefuses(t *testing.T) {
	t.Parallel()
	t.Run("an expired code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.account(ada)
		code := w.forgotten(ada)
		w.clock.Advance(time.Hour)
		require.ErrorIs(t, w.ResetPassword(t.Context(), code, newPassword), auth.ErrCodeGone)
	})
	t.Run("an unknown code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.account(ada)
		code := w.signUp("bob@example.com")
		for _, bad := range []string{"", "x", strings.Repeat("A", 43), code} {
			require.ErrorIs(t, w.ResetPassword(t.Context(), bad, newPassword), auth.ErrCodeUnknown)
		}
	})
	t.Run("a code that the last change overtook", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.account(ada)
		first, second := w.forgotten(ada), w.forgotten(ada)
		// In the same microsecond: the clock stands.
		require.NoError(t, w.ResetPassword(t.Context(), second, newPassword))
		require.ErrorIs(t, w.ResetPassword(t.Context(), first, "a third horse"), auth.ErrCodeGone)

		third := w.forgotten(ada)
		w.clock.Advance(time.Second)
		_, who := w.signIn(ada, newPassword)
		require.NoError(t, w.ChangePassword(t.Context(), who, newPassword, "a third horse"))
		require.ErrorIs(t, w.ResetPassword(t.Context(), third, "a fourth horse"), auth.ErrCodeGone)
		w.signIn(ada, "a third horse")
	})
	t.Run("a used code on a node whose clock is behind", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.account(ada)
		w.clock.Advance(time.Hour)
		code := w.forgotten(ada)
		w.clock.Advance(-time.Minute)
		require.NoError(t, w.ResetPassword(t.Context(), code, newPassword))
		require.ErrorIs(t, w.ResetPassword(t.Context(), code, "a third horse"), auth.ErrCodeGone)
		g, _ := w.signIn(ada, newPassword)
		_, err := w.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err, "a session that came after the change goes on, whatever the clock says")
	})
	t.Run("all but one of many at once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.account(ada)
		code := w.forgotten(ada)
		w.hasher.duringHash = barrier(8)
		require.Equal(t, 1, race(t, 8, auth.ErrCodeGone, func() error {
			return w.ResetPassword(context.Background(), code, newPassword)
		}))
	})
}

// TestPasswordChangesSurviveACrashAnywhere breaks off after each step: either nothing has
// changed and the same request can be repeated, or the new password holds, its notice is on its
// way, and no session of the old one can be refreshed.
func TestPasswordChangesSurviveACrashAnywhere(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, code string, who user.Identity) error{
		"reset": func(w *world, code string, _ user.Identity) error {
			return w.ResetPassword(context.Background(), code, newPassword)
		},
		"change": func(w *world, _ string, who user.Identity) error {
			return w.ChangePassword(context.Background(), who, password, newPassword)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, lost := range []bool{false, true} {
				for step := 1; ; step++ {
					w := newWorld(t)
					w.account(ada)
					mine, who := w.signIn(ada, password)
					other, _ := w.signIn(ada, password)
					code := w.forgotten(ada)
					w.clock.Advance(time.Second)
					w.steps.arm(step, lost)
					err := change(w, code, who)
					if !w.steps.disarm() {
						require.NoError(t, err)
						require.Equal(t, map[string]int{"reset": 3, "change": 2}[name], step, "a new password is one write")
						break
					}
					require.ErrorIs(t, err, fault.Unavailable, "step %d, lost %v", step, lost)

					notices := 0
					for _, kind := range w.types() {
						if kind == mail.TypePasswordChanged {
							notices++
						}
					}
					w.clock.Advance(time.Second)
					if _, err := w.SignIn(t.Context(), auth.Client{}, ada, password); err == nil {
						require.Zero(t, notices, "step %d, lost %v", step, lost)
						require.NoError(t, change(w, code, who), "step %d, lost %v", step, lost)
					} else {
						require.Equal(t, 1, notices, "step %d, lost %v", step, lost)
					}
					w.signIn(ada, newPassword)
					_, err = w.Refresh(t.Context(), other.RefreshToken)
					require.ErrorIs(t, err, auth.ErrSessionEnded, "step %d, lost %v", step, lost)
					_, err = w.Authenticate(t.Context(), other.AccessToken)
					require.ErrorIs(t, err, auth.ErrSessionEnded, "a session found to be over is ended for good")
					if name == "change" {
						_, err = w.Refresh(t.Context(), mine.RefreshToken)
						require.NoError(t, err, "step %d, lost %v: the session that changed it goes on", step, lost)
					}
				}
			}
		})
	}
}
