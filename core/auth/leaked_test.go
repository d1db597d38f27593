package auth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// leaks is a PasswordList somewhere else.
type leaks struct {
	list  map[string]bool
	err   error
	late  bool // it answers when nobody waits any more
	asked atomic.Int64
}

func (l *leaks) Contains(ctx context.Context, password string) (bool, error) {
	l.asked.Add(1)
	if l.late {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return l.list[password], l.err
}

const leaked = "a phrase that was published"

// TestALeakedPasswordIsRefusedEverywhere sets one in each of the three ways.
func TestALeakedPasswordIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	l := &leaks{list: map[string]bool{leaked: true}}
	w := newWorld(t, func(c *auth.Config) { c.Leaked, c.LeakedFailsClosed = l, true })
	w.account(ada)
	code := w.forgotten(ada)
	_, who := w.signIn(ada, password)
	hashes := w.hasher.hashes.Load()
	for name, err := range map[string]error{
		"sign-up": w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Bob", Email: "bob@example.com", Password: leaked}),
		"reset":   w.ResetPassword(t.Context(), code, leaked),
		"change":  w.ChangePassword(t.Context(), who, password, leaked),
	} {
		require.ErrorIs(t, err, auth.ErrPasswordInvalid, name)
		require.ErrorContains(t, err, "published", name)
		require.NotContains(t, err.Error(), leaked, name)
	}
	require.Equal(t, hashes, w.hasher.hashes.Load(), "what is refused is not hashed")
	require.NoError(t, w.ResetPassword(t.Context(), code, "another horse"), "the code was not used up")
}

// TestWithoutAnAnswerAboutLeaks asks somebody who fails, or is late.
func TestWithoutAnAnswerAboutLeaks(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]func() *leaks{
		"it fails":   func() *leaks { return &leaks{err: errors.New("down")} },
		"it is late": func() *leaks { return &leaks{late: true} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := auth.SignUp{FullName: "Ada", Email: ada, Password: password}
			open := func(c *auth.Config) { c.Leaked, c.LeakedTimeout = l(), time.Millisecond }

			var log bytes.Buffer
			w := newWorld(t, open, func(c *auth.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			require.NoError(t, w.SignUp(t.Context(), auth.Client{}, in))
			require.Contains(t, log.String(), "nobody could say whether it was published")
			require.NotContains(t, log.String(), password)
			require.Len(t, w.verifications(), 1)

			w = newWorld(t, open, func(c *auth.Config) { c.LeakedFailsClosed = true })
			require.Equal(t, fault.Unavailable, fault.KindOf(w.SignUp(t.Context(), auth.Client{}, in)))
			require.Empty(t, w.events())
		})
	}
}

// TestLeaksAreAskedForLast lets nobody make the program ask another server without an allowance, or in vain.
func TestLeaksAreAskedForLast(t *testing.T) {
	t.Parallel()
	l := &leaks{}
	w := newWorld(t, func(c *auth.Config) {
		c.Leaked, c.Passwords, c.MailRate = l, list{"common one": true}, auth.Rate{Burst: 1, Per: time.Minute}
	})
	from := auth.Client{Address: "192.0.2.1"}
	in := auth.SignUp{FullName: "Ada", Email: ada, Password: "common one"}
	require.ErrorIs(t, w.SignUp(t.Context(), from, in), auth.ErrPasswordInvalid)
	require.Zero(t, l.asked.Load(), "the list in memory has it")
	in.Password = password
	require.NoError(t, w.SignUp(t.Context(), from, in))
	require.EqualValues(t, 1, l.asked.Load())
	require.ErrorIs(t, w.SignUp(t.Context(), from, in), auth.ErrTooMany)
	require.EqualValues(t, 1, l.asked.Load(), "the allowance is used up")

	require.ErrorIs(t, w.ResetPassword(t.Context(), "nonsense", password), auth.ErrCodeUnknown)
	require.EqualValues(t, 1, l.asked.Load(), "the code is not one")
	w = newWorld(t, func(c *auth.Config) { c.Leaked = l })
	w.account(ada)
	_, who := w.signIn(ada, password)
	before := l.asked.Load()
	require.ErrorIs(t, w.ChangePassword(t.Context(), who, "wrong", "another horse"), auth.ErrInvalidCredentials)
	require.Equal(t, before, l.asked.Load(), "the password of now is wrong")
}
