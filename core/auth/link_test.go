package auth_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func withLinks(c *auth.Config) { c.Links = true }

// link asks for a link and returns its code.
func (w *world) link(email string) string {
	w.t.Helper()
	require.NoError(w.t, w.RequestLink(context.Background(), auth.Client{}, email))
	var data mail.LinkRequested
	e := w.last(mail.TypeLinkRequested, &data)
	u := w.user(email)
	require.Equal(w.t, mail.LinkRequested{
		UserID: string(u.ID), FullName: u.FullName, Email: email, LinkCode: data.LinkCode,
		ExpiresAt: w.clock.Now().UTC().Truncate(time.Microsecond).Add(15 * time.Minute),
	}, data)
	require.Equal(w.t, string(u.ID), e.Key)
	return data.LinkCode
}

func TestSignInByLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks)
	u := w.account(ada)
	code := w.link(ada)
	g, err := w.SignInByLink(t.Context(), auth.Client{}, code)
	require.NoError(t, err)
	assert.Equal(t, u.ID, g.User.ID)
	who, err := w.Authenticate(t.Context(), g.AccessToken)
	require.NoError(t, err)
	assert.Equal(t, u.ID, who.UserID)
	_, err = w.SignInByLink(t.Context(), auth.Client{}, code)
	require.ErrorIs(t, err, auth.ErrCodeGone, "it works once")
	w.signIn(ada, password)
}

func TestLinksAreOffUnlessTheyAreSwitchedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	before := len(w.events())
	require.ErrorIs(t, w.RequestLink(t.Context(), auth.Client{}, ada), auth.ErrLinksOff)
	_, err := w.SignInByLink(t.Context(), auth.Client{}, "x")
	require.ErrorIs(t, err, auth.ErrLinksOff)
	assert.Len(t, w.events(), before)
}

func TestLinksThatAreNoGood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*testing.T, *world) // after the link was mailed
		code func(*world) string      // default: that of the link
		want error
	}{
		"nonsense":                        {code: func(*world) string { return "nonsense" }, want: auth.ErrCodeUnknown},
		"a code for a new password":       {code: func(w *world) string { return w.forgotten(ada) }, want: auth.ErrCodeUnknown},
		"a code of a sign-up":             {code: func(w *world) string { return w.signUp("eve@example.com") }, want: auth.ErrCodeUnknown},
		"expired":                         {edit: func(_ *testing.T, w *world) { w.clock.Advance(15 * time.Minute) }, want: auth.ErrCodeGone},
		"a day old":                       {edit: func(_ *testing.T, w *world) { w.clock.Advance(24 * time.Hour) }, want: auth.ErrCodeGone},
		"the password has changed":        {edit: changesPassword, want: auth.ErrCodeGone},
		"the address has changed":         {edit: changesAddress, want: auth.ErrCodeGone},
		"everybody was signed out":        {edit: signsOutEverywhere, want: auth.ErrCodeGone},
		"the user is disabled":            {edit: isDisabled, want: auth.ErrCodeGone},
		"the user is disabled and is not": {edit: func(t *testing.T, w *world) { isDisabled(t, w); isEnabled(t, w) }, want: auth.ErrCodeGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withLinks)
			w.account(ada)
			code := w.link(ada)
			w.clock.Advance(time.Second)
			if c.edit != nil {
				c.edit(t, w)
			}
			if c.code != nil {
				code = c.code(w)
			}
			_, err := w.SignInByLink(t.Context(), auth.Client{}, code)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func changesPassword(t *testing.T, w *world) {
	_, who := w.signIn(ada, password)
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword))
}

func changesAddress(t *testing.T, w *world) {
	_, who := w.signIn(ada, password)
	_, err := w.ConfirmEmail(t.Context(), who, w.newEmail(who, newAddress))
	require.NoError(t, err)
}

func signsOutEverywhere(t *testing.T, w *world) {
	_, who := w.signIn(ada, password)
	require.NoError(t, w.SignOutAll(t.Context(), who))
}

func isDisabled(t *testing.T, w *world) { change(t, w, true) }
func isEnabled(t *testing.T, w *world)  { change(t, w, false) }

func change(t *testing.T, w *world, disabled bool) {
	_, err := w.ChangeUser(t.Context(), w.user(ada).ID, auth.UserChange{Disabled: &disabled})
	require.NoError(t, err)
}

// The answer, and what it leaves behind, are the same for every address: only one with an account gets a mail.
func TestLinksGoToAccountsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks)
	w.account(ada)
	w.signUp("waits@example.com")
	disabled := true
	out := w.account("out@example.com")
	_, err := w.ChangeUser(t.Context(), out.ID, auth.UserChange{Disabled: &disabled})
	require.NoError(t, err)
	for email, want := range map[string]string{
		ada: mail.TypeLinkRequested, "waits@example.com": mail.TypeNothing, "out@example.com": mail.TypeNothing, "nobody@example.com": mail.TypeNothing,
	} {
		before := len(w.events())
		require.NoError(t, w.RequestLink(t.Context(), auth.Client{}, email))
		after := w.types()[before:]
		assert.Equal(t, []string{want}, after, email)
	}
	require.ErrorIs(t, w.RequestLink(t.Context(), auth.Client{}, "no address"), user.ErrEmailInvalid)
}

// An expired link that waits in the queue is mailed with a fresh code, as long as it is good for something.
func TestALinkThatWasLateIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks)
	w.account(ada)
	old := w.link(ada)
	job := mail.Job{Kind: mail.KindLink, Data: w.events()[len(w.events())-1].Data}
	data, err := w.RenewMail(t.Context(), job)
	require.NoError(t, err)
	require.Nil(t, data, "it has not expired")
	w.clock.Advance(time.Hour)
	data, err = w.RenewMail(t.Context(), job)
	require.NoError(t, err)
	fresh := decoded[mail.LinkRequested](t, data)
	require.NotEqual(t, old, fresh.LinkCode)
	_, err = w.SignInByLink(t.Context(), auth.Client{}, fresh.LinkCode)
	require.NoError(t, err)
	isDisabled(t, w)
	_, err = w.RenewMail(t.Context(), job)
	require.ErrorIs(t, err, mail.ErrNotNeeded)
}

func TestLinksAreThrottled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks, func(c *auth.Config) { c.MailRate = auth.Rate{Burst: 2, Per: time.Minute} })
	w.account(ada)
	before := w.mails()
	for range 5 {
		require.NoError(t, w.RequestLink(t.Context(), auth.Client{Address: "192.0.2.1"}, ada))
	}
	assert.Equal(t, 2, w.mails()-before)
	var err error
	for range 20 {
		err = w.RequestLink(t.Context(), auth.Client{Address: "192.0.2.1"}, "nobody@example.com")
	}
	require.ErrorIs(t, err, auth.ErrTooMany, "a client can ask so often")
}

// Of many who use a link at once, one is in.
func TestALinkWorksOnceAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks)
	w.account(ada)
	code := w.link(ada)
	var running sync.WaitGroup
	got := make(chan error, 20)
	start := barrier(cap(got))
	for range cap(got) {
		running.Go(func() {
			start()
			_, err := w.SignInByLink(context.Background(), auth.Client{}, code)
			got <- err
		})
	}
	running.Wait()
	close(got)
	in := 0
	for err := range got {
		if err == nil {
			in++
			continue
		}
		require.ErrorIs(t, err, auth.ErrCodeGone)
	}
	assert.Equal(t, 1, in)
}

// A link proves the address of a user whom an administrator made, and not that of a sign-up from before sign-ups waited: its password may be
// somebody else's.
func TestALinkProvesTheAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks)
	_, err := w.CreateUser(t.Context(), auth.NewUser{FullName: "Grace Hopper", Email: "grace@example.com"})
	require.NoError(t, err)
	require.False(t, w.user("grace@example.com").Verified())
	g, err := w.SignInByLink(t.Context(), auth.Client{}, w.link("grace@example.com"))
	require.NoError(t, err)
	assert.True(t, g.User.Verified())
	assert.True(t, w.user("grace@example.com").Verified())

	now := w.clock.Now().UTC().Truncate(time.Microsecond)
	require.NoError(t, w.store.Users.Create(t.Context(), user.User{
		ID: "old", FullName: "Old", Email: "old@example.com", PasswordHash: "somebody's", CreatedAt: now, PasswordChangedAt: now,
	}))
	before := w.mails()
	require.NoError(t, w.RequestLink(t.Context(), auth.Client{}, "old@example.com"))
	assert.Equal(t, before, w.mails())
}

// Wherever a sign-in is cut short, a link opens at most one session, and another link opens one.
func TestALinkThatWasCutShort(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		for at := 1; ; at++ {
			w := newWorld(t, withLinks)
			w.account(ada)
			code := w.link(ada)
			w.steps.arm(at, lost)
			_, first := w.SignInByLink(t.Context(), auth.Client{}, code)
			if !w.steps.disarm() {
				require.NoError(t, first)
				break
			}
			require.Error(t, first)
			if _, again := w.SignInByLink(t.Context(), auth.Client{}, code); again != nil {
				require.ErrorIs(t, again, auth.ErrCodeGone)
			}
			sessions, err := w.Sessions(t.Context(), w.user(ada).ID)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(sessions), 1, "step %d", at)
			_, err = w.SignInByLink(t.Context(), auth.Client{}, w.link(ada))
			require.NoError(t, err)
		}
	}
}

// Whoever signs in by a link need not have a password. Where one is asked for, none is right, and that is no failure of ours; the first one is chosen as after a forgotten one.
func TestWhoHasNoPasswordIsAskedForOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withLinks)
	_, err := w.CreateUser(t.Context(), auth.NewUser{FullName: "Grace Hopper", Email: "grace@example.com"})
	require.NoError(t, err)
	g, err := w.SignInByLink(t.Context(), auth.Client{}, w.link("grace@example.com"))
	require.NoError(t, err)
	who, err := w.Authenticate(t.Context(), g.AccessToken)
	require.NoError(t, err)
	for _, guess := range []string{"", password, "\x00"} {
		require.ErrorIs(t, w.ChangePassword(t.Context(), who, guess, newPassword), auth.ErrInvalidCredentials, "%q", guess)
		require.ErrorIs(t, w.RequestEmail(t.Context(), auth.Client{}, who, "grace@example.org", guess), auth.ErrInvalidCredentials, "%q", guess)
		_, err = w.SignIn(t.Context(), auth.Client{}, "grace@example.com", guess)
		require.ErrorIs(t, err, auth.ErrInvalidCredentials, "%q", guess)
	}
	require.NoError(t, w.ResetPassword(t.Context(), w.forgotten("grace@example.com"), newPassword))
	w.signIn("grace@example.com", newPassword)
}
