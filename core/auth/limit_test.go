package auth_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
)

// TestMailsHaveAnAllowanceForEachAction uses up what one action may mail to an address, and then
// what others may.
func TestMailsHaveAnAllowanceForEachAction(t *testing.T) {
	t.Parallel()
	threeEach := func(c *auth.Config) { c.MailRate = auth.Rate{Burst: 3, Per: 10 * time.Minute} }
	owner, stranger := auth.Client{Address: "203.0.113.9"}, auth.Client{Address: "198.51.100.7"}
	in := auth.SignUp{FullName: "Ada", Email: ada, Password: password}

	t.Run("resend that mails nothing takes nothing of forgot", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, threeEach)
		w.account(ada)
		for range 5 {
			require.NoError(t, w.ResendVerification(t.Context(), stranger, ada))
		}
		require.NoError(t, w.ForgotPassword(t.Context(), owner, ada))
		require.Equal(t, mail.TypePasswordForgotten, w.types()[len(w.types())-1])
	})
	t.Run("forgot that mails nothing takes nothing of sign-up", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, threeEach)
		for range 5 {
			require.NoError(t, w.ForgotPassword(t.Context(), stranger, ada))
		}
		require.NoError(t, w.SignUp(t.Context(), owner, in))
	})
	t.Run("forgot that mailed nothing takes nothing of a later forgot", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, threeEach)
		for range 5 {
			require.NoError(t, w.ForgotPassword(t.Context(), owner, ada))
		}
		w.account(ada)
		require.NoError(t, w.ForgotPassword(t.Context(), owner, ada))
		require.Equal(t, mail.TypePasswordForgotten, w.types()[len(w.types())-1])
	})
	t.Run("a stranger's sign-ups and forgots are a stranger's", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, threeEach)
		for range 3 {
			require.NoError(t, w.SignUp(t.Context(), stranger, in))
		}
		require.ErrorIs(t, w.SignUp(t.Context(), stranger, in), auth.ErrTooMany)
		require.NoError(t, w.SignUp(t.Context(), owner, in))

		w.account("bob@example.com")
		for range 5 {
			require.NoError(t, w.ForgotPassword(t.Context(), stranger, "bob@example.com"))
		}
		before := w.mails()
		require.NoError(t, w.ForgotPassword(t.Context(), owner, "bob@example.com"))
		require.Equal(t, before+1, w.mails())
	})
	t.Run("what one action has mailed, another may mail all the same", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, threeEach)
		mails := func(do func() error) bool {
			before := w.mails()
			require.NoError(t, do())
			return w.mails() > before
		}
		resend := func() error { return w.ResendVerification(t.Context(), owner, ada) }
		forgot := func() error { return w.ForgotPassword(t.Context(), owner, ada) }
		for range 3 {
			require.NoError(t, w.SignUp(t.Context(), owner, in))
		}
		require.ErrorIs(t, w.SignUp(t.Context(), owner, in), auth.ErrTooMany)
		for range 3 {
			require.True(t, mails(resend))
		}
		require.False(t, mails(resend))
		sent := w.verifications()
		require.NoError(t, w.Verify(t.Context(), sent[len(sent)-1].VerificationCode))
		for range 3 {
			require.True(t, mails(forgot))
		}
		require.False(t, mails(forgot))
	})
	t.Run("all networks together are limited too", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, threeEach)
		sent := 0
		for i := range 40 {
			if err := w.SignUp(t.Context(), auth.Client{Address: fmt.Sprintf("203.0.113.%d", i)}, in); err == nil {
				sent++
			} else {
				require.ErrorIs(t, err, auth.ErrTooMany)
			}
		}
		require.Equal(t, 12, sent)
	})
}

func TestARateIsCountedInWholeSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate             auth.Rate
		step             time.Duration
		interval, window time.Duration
		limited          bool
	}{
		{auth.Rate{}, time.Microsecond, 0, 0, false},
		{auth.Rate{Burst: 3}, time.Microsecond, 0, 0, false},
		{auth.Rate{Per: time.Second}, time.Microsecond, 0, 0, false},
		{auth.Rate{Burst: -1, Per: time.Second}, time.Microsecond, 0, 0, false},
		{auth.Rate{Burst: 5, Per: time.Minute}, time.Microsecond, 12 * time.Second, time.Minute, true},
		{auth.Rate{Burst: 3, Per: time.Second}, time.Microsecond, 333_333 * time.Microsecond, 999_999 * time.Microsecond, true},
		{auth.Rate{Burst: 3, Per: time.Second}, time.Nanosecond, 333_333_333, 999_999_999, true},
		{auth.Rate{Burst: 10, Per: 5}, time.Microsecond, time.Microsecond, 10 * time.Microsecond, true}, // no faster than the clock
	} {
		interval, window, limited := c.rate.Cell(c.step)
		require.Equal(t, []any{c.interval, c.window, c.limited}, []any{interval, window, limited}, "%+v", c.rate)
	}
}
