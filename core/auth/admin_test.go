package auth_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func listing(c *auth.Config) { c.Directory = c.Users.(*faultyUsers).Repository.(user.Directory) }

func newAdministered(t *testing.T, edit ...func(*auth.Config)) *world {
	t.Helper()
	return newWorld(t, append([]func(*auth.Config){listing}, edit...)...)
}

func disabled(yes bool) auth.UserChange { return auth.UserChange{Disabled: &yes} }
func verified(yes bool) auth.UserChange { return auth.UserChange{Verified: &yes} }
func role(r user.Role) auth.UserChange  { return auth.UserChange{Role: &r} }
func (w *world) change(id user.ID, c auth.UserChange) user.User {
	w.t.Helper()
	u, err := w.ChangeUser(context.Background(), id, c)
	require.NoError(w.t, err)
	return u
}

// Whoever is disabled is for all that anybody learns somebody with another password.
func TestWhoIsDisabledIsShutOut(t *testing.T) {
	t.Parallel()
	var reasons []auth.RevokeReason
	w := newAdministered(t, func(c *auth.Config) { c.Revoked = func(r auth.RevokeReason) { reasons = append(reasons, r) } })
	u := w.account(ada)
	g, who := w.signIn(ada, password)
	ticket, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	reset := w.forgotten(ada)
	before := len(w.events())

	after := w.change(u.ID, disabled(true))
	require.True(t, after.Disabled())
	require.Equal(t, after, w.user(ada))
	require.Equal(t, auth.RevokedDisabled, reasons[0])
	said := w.events()[before:]
	require.Equal(t, []string{auth.TypeSessionsRevoked, mail.TypeUserDisabled}, w.types()[before:before+2], "one commit ends the sessions and lets mailers forget")
	require.True(t, who.SessionAt.Before(decoded[auth.SessionsRevoked](t, said[0].Data).Before))
	require.Equal(t, mail.UserDisabled{UserID: string(u.ID), Email: ada}, decoded[mail.UserDisabled](t, said[1].Data))

	_, guessed := w.SignIn(t.Context(), auth.Client{}, ada, "another horse")
	_, right := w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, right, auth.ErrInvalidCredentials)
	require.Equal(t, guessed, right, "the same answer as to a guess")
	for doing, do := range map[string]func() error{
		"refreshes":        func() error { _, err := w.Refresh(t.Context(), g.RefreshToken); return err },
		"has a token":      func() error { _, err := w.Authenticate(t.Context(), g.AccessToken); return err },
		"has a ticket":     func() error { _, err := w.RedeemTicket(t.Context(), ticket); return err },
		"has a reset code": func() error { return w.ResetPassword(t.Context(), reset, "another horse") },
	} {
		require.Error(t, do(), doing)
	}

	// No mail goes to them, and nobody learns that.
	mails := w.mails()
	require.NoError(t, w.ForgotPassword(t.Context(), auth.Client{}, ada))
	require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password}))
	require.NoError(t, w.ResendVerification(t.Context(), auth.Client{}, ada))
	require.Equal(t, mails, w.mails())

	require.False(t, w.change(u.ID, disabled(false)).Disabled())
	w.signIn(ada, password)
	_, err = w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded, "what has ended stays so")
}

// A sign-in that has read the account before it was disabled opens no session after.
func TestASignInDoesNotOvertakeTheAdministrator(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change auth.UserChange
		want   error
	}{
		"disabled": {disabled(true), auth.ErrInvalidCredentials},
		"demoted":  {role(user.RoleUser), auth.ErrInvalidCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newAdministered(t)
			u, other := w.account(ada), w.account("bob@example.com")
			w.change(u.ID, role(user.RoleAdmin))
			w.change(other.ID, role(user.RoleAdmin))
			once := sync.Once{}
			w.hasher.during = func() { once.Do(func() { w.change(u.ID, test.change) }) }
			_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
			require.ErrorIs(t, err, test.want)
			going, err := w.Sessions(t.Context(), u.ID)
			require.NoError(t, err)
			require.Empty(t, going)
		})
	}
}

// Nor does it mail to who is disabled: of a device that is new the mailer is told after the user was disabled, and to forget it after that.
func TestWhoIsDisabledWhileSigningInIsToldOfNoDevice(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	u := w.account(ada)
	w.signInFrom(auth.Client{UserAgent: "curl/8", Address: "192.0.2.1"}, ada, password)
	once := sync.Once{}
	w.hasher.during = func() { once.Do(func() { w.change(u.ID, disabled(true)) }) }
	_, err := w.SignIn(t.Context(), auth.Client{UserAgent: "okhttp/4", Address: "198.51.100.1"}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	types := w.types()
	told, forget := slices.Index(types, mail.TypeDeviceSignedIn), len(types)-1
	require.NotEqual(t, -1, told, "it was under way")
	require.Equal(t, mail.TypeUserDisabled, types[forget])
	require.Less(t, slices.Index(types, mail.TypeUserDisabled), told)
	var said mail.UserDisabled
	w.last(mail.TypeUserDisabled, &said)
	require.Equal(t, mail.UserDisabled{UserID: string(u.ID), Email: ada}, said)
}

func TestTokensSayTheRole(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	u := w.account(ada)
	w.change(w.account("bob@example.com").ID, role(user.RoleAdmin))
	g, who := w.signIn(ada, password)
	require.Equal(t, user.RoleUser, who.Role)
	w.change(u.ID, role(user.RoleAdmin))
	_, err := w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	g, who = w.signIn(ada, password)
	require.Equal(t, user.RoleAdmin, who.Role)
	ticket, _, err := w.SocketTicket(t.Context(), who)
	require.NoError(t, err)
	who, err = w.RedeemTicket(t.Context(), ticket)
	require.NoError(t, err)
	require.Equal(t, user.RoleAdmin, who.Role)
	g, err = w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err)
	w.change(u.ID, role(user.RoleUser))
	_, err = w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded, "the right ends with the role")
	_, err = w.ChangeUser(t.Context(), u.ID, role("root"))
	require.ErrorIs(t, err, user.ErrRoleUnknown)
}

func TestTheLastAdministratorStays(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	a, b := w.account(ada), w.account("bob@example.com")
	w.change(a.ID, role(user.RoleAdmin))
	_, who := w.signIn(ada, password)
	before := len(w.events())
	for doing, do := range map[string]func() error{
		"is disabled": func() error { _, err := w.ChangeUser(t.Context(), a.ID, disabled(true)); return err },
		"is demoted":  func() error { _, err := w.ChangeUser(t.Context(), a.ID, role(user.RoleUser)); return err },
		"is erased":   func() error { _, err := w.Erase(t.Context(), a.ID); return err },
	} {
		require.ErrorIs(t, do(), auth.ErrLastAdmin, doing)
	}
	require.Len(t, w.events(), before, "nothing has happened")
	_, err := w.Me(t.Context(), who)
	require.NoError(t, err)

	w.change(b.ID, role(user.RoleAdmin))
	w.change(b.ID, disabled(true))
	_, err = w.ChangeUser(t.Context(), a.ID, role(user.RoleUser))
	require.ErrorIs(t, err, auth.ErrLastAdmin, "who is disabled does not count")
	w.change(b.ID, disabled(false))
	_, err = w.Erase(t.Context(), a.ID)
	require.NoError(t, err)
	_, err = w.Erase(t.Context(), b.ID)
	require.ErrorIs(t, err, auth.ErrLastAdmin, "who is erased does not count")
}

// meeting lets two who look for others, before they change anything, meet.
type meeting struct {
	user.Directory
	together func()
}

func (m *meeting) List(ctx context.Context, f user.Filter) ([]user.User, error) {
	all, err := m.Directory.List(ctx, f)
	m.together()
	return all, err
}

// Two administrators who take the role from each other at once have both seen that there is another one.
func TestTwoAdministratorsDoNotLeaveNone(t *testing.T) {
	t.Parallel()
	var m *meeting
	w := newAdministered(t, func(c *auth.Config) {
		m = &meeting{Directory: c.Directory, together: func() {}}
		c.Directory = m
	})
	a, b := w.account(ada), w.account("bob@example.com")
	w.change(a.ID, role(user.RoleAdmin))
	w.change(b.ID, role(user.RoleAdmin))
	var mu sync.Mutex
	looks, both := 0, make(chan struct{})
	m.together = func() {
		mu.Lock()
		looks++
		n := looks
		mu.Unlock()
		if n == 2 {
			close(both)
		}
		if n <= 2 {
			<-both
		}
	}
	errs := make([]error, 2)
	var wait sync.WaitGroup
	for i, id := range []user.ID{a.ID, b.ID} {
		wait.Add(1)
		go func() {
			defer wait.Done()
			_, errs[i] = w.ChangeUser(context.WithoutCancel(t.Context()), id, []auth.UserChange{role(user.RoleUser), disabled(true)}[i])
		}()
	}
	wait.Wait()
	m.together = func() {}
	require.ErrorIs(t, errors.Join(errs...), auth.ErrLastAdmin)
	admins, err := w.ListUsers(t.Context(), user.Filter{Role: user.RoleAdmin, Enabled: true, Limit: 10})
	require.NoError(t, err)
	require.NotEmpty(t, admins)
	for i, id := range []user.ID{a.ID, b.ID} {
		left := true
		for _, u := range admins {
			left = left && u.ID != id
		}
		assert.Equal(t, left, errs[i] == nil, "who is told that it is done has done it, and nobody else")
	}
}

func TestAnAccountIsMadeByAnAdministrator(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	u, err := w.CreateUser(t.Context(), auth.NewUser{FullName: " Ada  Lovelace ", Email: "ADA@example.com", Role: user.RoleAdmin, Invite: true})
	require.NoError(t, err)
	require.Equal(t, user.User{ID: u.ID, FullName: "Ada Lovelace", Email: ada, Role: user.RoleAdmin, CreatedAt: u.CreatedAt}, u)
	var invited mail.UserInvited
	w.last(mail.TypeUserInvited, &invited)
	require.Equal(t, string(u.ID), invited.UserID)
	require.Equal(t, w.clock.Now().Add(7*24*time.Hour).UTC().Truncate(time.Second), invited.ExpiresAt.Truncate(time.Second))
	for _, guess := range []string{"", password, "another horse"} {
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, guess)
		require.ErrorIs(t, err, auth.ErrInvalidCredentials, "there is no password yet")
	}

	// Somebody who signs up at the address first, and would choose the password.
	code := w.signUpAnyway(ada)
	require.Empty(t, code, "the owner is told that there is an account")
	_, err = w.CreateUser(t.Context(), auth.NewUser{FullName: "Ada", Email: ada})
	require.ErrorIs(t, err, user.ErrEmailTaken)

	require.NoError(t, w.ResetPassword(t.Context(), invited.ResetCode, "another horse"))
	_, who := w.signIn(ada, "another horse")
	require.Equal(t, user.RoleAdmin, who.Role)
	require.ErrorIs(t, w.ResetPassword(t.Context(), invited.ResetCode, "a third horse"), auth.ErrCodeGone)

	// Without an invitation the owner asks for a mail.
	before := len(w.events())
	bob, err := w.CreateUser(t.Context(), auth.NewUser{ID: "bob", FullName: "Bob", Email: "bob@example.com"})
	require.NoError(t, err)
	require.Equal(t, user.ID("bob"), bob.ID)
	require.Equal(t, user.RoleUser, bob.Role)
	require.Len(t, w.events(), before)
	require.NoError(t, w.ResetPassword(t.Context(), w.forgotten("bob@example.com"), "another horse"))
	w.signIn("bob@example.com", "another horse")

	for _, in := range []auth.NewUser{
		{FullName: "", Email: "eve@example.com"}, {FullName: "Eve", Email: "eve"}, {FullName: "Eve", Email: "eve@example.com", Role: "root"},
	} {
		_, err := w.CreateUser(t.Context(), in)
		require.Error(t, err)
	}
}

// signUpAnyway signs up, and returns the code of the mail if there is one in it.
func (w *world) signUpAnyway(email string) string {
	w.t.Helper()
	require.NoError(w.t, w.SignUp(context.Background(), auth.Client{}, auth.SignUp{FullName: "Eve", Email: email, Password: password}))
	all := w.events()
	e := all[len(all)-1]
	if e.Type != mail.TypeUserCreated {
		require.Equal(w.t, mail.TypeAddressTaken, e.Type)
		return ""
	}
	return decoded[mail.UserCreated](w.t, e.Data).VerificationCode
}

// A sign-up that waits since before the account was made cannot take it over either.
func TestAnOlderSignUpDoesNotTakeAnInvitedAccount(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	code := w.signUp(ada)
	_, err := w.CreateUser(t.Context(), auth.NewUser{FullName: "Ada", Email: ada, Role: user.RoleAdmin})
	require.NoError(t, err)
	require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone)
	require.False(t, w.user(ada).Verified())
}

func TestTheProofOfAnAddressIsGivenAndTaken(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	u := w.account(ada)
	g, _ := w.signIn(ada, password)
	require.False(t, w.change(u.ID, verified(false)).Verified())
	_, err := w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrNotVerified)
	after := w.change(u.ID, verified(true))
	require.True(t, after.Verified())
	require.Equal(t, after, w.change(u.ID, verified(true)), "again changes nothing")
	w.signIn(ada, password)
	require.Equal(t, w.user(ada), w.change(u.ID, auth.UserChange{}), "nothing is asked for, and nothing changes")
	_, err = w.ChangeUser(t.Context(), "nobody", verified(true))
	require.ErrorIs(t, err, user.ErrNotFound)
}

func TestAnAdministratorEndsSessions(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	u := w.account(ada)
	g, _ := w.signIn(ada, password)
	require.NoError(t, w.EndSessions(t.Context(), u.ID))
	_, err := w.Authenticate(t.Context(), g.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	w.signIn(ada, password)
	require.ErrorIs(t, w.EndSessions(t.Context(), "nobody"), user.ErrNotFound)
}

func TestUsersAreListed(t *testing.T) {
	t.Parallel()
	w := newAdministered(t)
	a, b := w.account(ada), w.account("bob@example.com")
	all, err := w.ListUsers(t.Context(), user.Filter{Limit: 10})
	require.NoError(t, err)
	want := []user.User{a, b}
	slices.SortFunc(want, func(x, y user.User) int { return strings.Compare(string(x.ID), string(y.ID)) }) // both may be of one millisecond
	require.Equal(t, want, all)
	all, err = w.ListUsers(t.Context(), user.Filter{Prefix: "  BOB", Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []user.User{b}, all)
	for _, prefix := range []string{strings.Repeat("x", 255), "\xff", "a\x00"} {
		_, err = w.ListUsers(t.Context(), user.Filter{Prefix: prefix, Limit: 10})
		require.ErrorIs(t, err, auth.ErrPrefixInvalid)
	}
	without := newWorld(t)
	u := without.account(ada)
	_, err = without.ListUsers(t.Context(), user.Filter{Limit: 10})
	require.ErrorIs(t, err, auth.ErrNoDirectory)
	_, err = without.ChangeUser(t.Context(), u.ID, role(user.RoleAdmin))
	require.ErrorIs(t, err, auth.ErrNoDirectory)
	_, err = without.CreateUser(t.Context(), auth.NewUser{FullName: "Bob", Email: "bob@example.com", Role: user.RoleAdmin})
	require.ErrorIs(t, err, auth.ErrNoDirectory)
}

func TestAdminsMailPasswords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.MailRate = auth.Rate{Burst: 1, Per: time.Hour} })
	u := w.account(ada)
	for range 3 { // the limits of strangers are not theirs
		require.NoError(t, w.MailPassword(t.Context(), u.ID))
	}
	var data mail.PasswordForgotten
	w.last(mail.TypePasswordForgotten, &data)
	w.signIn(ada, password)
	require.NoError(t, w.ResetPassword(t.Context(), data.ResetCode, newPassword))
	w.signIn(ada, newPassword)
	_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	require.ErrorIs(t, w.MailPassword(t.Context(), "nobody"), user.ErrNotFound)
	isDisabled(t, w)
	before := w.mails()
	require.ErrorIs(t, w.MailPassword(t.Context(), u.ID), auth.ErrUserDisabled)
	require.Equal(t, before, w.mails())
}
