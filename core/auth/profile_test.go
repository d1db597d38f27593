package auth_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func TestChangeProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.account(ada)
	g, who := w.signIn(ada, password)
	text := func(s string) *string { return &s }
	u, err := w.ChangeProfile(t.Context(), who, auth.ProfileChange{FullName: text("  Ada   King "), Language: text("EN-gb"), AvatarURL: text("https://example.com/ada.png")})
	require.NoError(t, err)
	want := w.user(ada)
	assert.Equal(t, want, u)
	assert.Equal(t, []string{"Ada King", "en-GB", "https://example.com/ada.png"}, []string{u.FullName, u.Language, u.AvatarURL})
	u, err = w.ChangeProfile(t.Context(), who, auth.ProfileChange{})
	require.NoError(t, err)
	assert.Equal(t, want, u, "what is not named stays")
	u, err = w.ChangeProfile(t.Context(), who, auth.ProfileChange{Language: text(""), AvatarURL: text("")})
	require.NoError(t, err)
	before.FullName, before.SessionsFrom, before.KeptSession = "Ada King", u.SessionsFrom, u.KeptSession
	assert.Equal(t, before, u, "and nothing else changes")

	for _, c := range []struct {
		change auth.ProfileChange
		err    error
	}{
		{auth.ProfileChange{FullName: text(" ")}, user.ErrFullNameInvalid},
		{auth.ProfileChange{FullName: text("Eve"), Language: text("en_GB")}, user.ErrLanguageInvalid},
		{auth.ProfileChange{FullName: text("Eve"), AvatarURL: text("javascript:alert(1)")}, user.ErrAvatarURLInvalid},
	} {
		_, err := w.ChangeProfile(t.Context(), who, c.change)
		require.ErrorIs(t, err, c.err)
	}
	assert.Equal(t, u, w.user(ada), "all of it, or nothing")

	fresh, err := w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err)
	who, err = w.Authenticate(t.Context(), fresh.AccessToken)
	require.NoError(t, err)
	assert.Equal(t, "Ada King", who.Name, "the next token has the name")
	_, err = w.Erase(t.Context(), who.UserID)
	require.NoError(t, err)
	_, err = w.ChangeProfile(t.Context(), who, auth.ProfileChange{FullName: text("Eve")})
	require.ErrorIs(t, err, user.ErrNotFound)
	_, err = w.ChangeProfile(t.Context(), user.Identity{UserID: "nobody"}, auth.ProfileChange{FullName: text("Eve")})
	require.ErrorIs(t, err, user.ErrNotFound)
}

func TestSignUpsHaveALanguage(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{"de-ch,en;q=0.5": "de-CH", "": "", "*": "", "en_GB": ""} {
		w := newWorld(t)
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password, AcceptLanguage: header}))
		var data mail.UserCreated
		w.last(mail.TypeUserCreated, &data)
		require.NoError(t, w.Verify(t.Context(), data.VerificationCode))
		assert.Equal(t, want, w.user(ada).Language, header)
	}
}

const newAddress = "ada@example.org"

// newEmail asks for an address and returns the code.
func (w *world) newEmail(who user.Identity, email string) string {
	w.t.Helper()
	require.NoError(w.t, w.RequestEmail(context.Background(), auth.Client{}, who, email, password))
	var data mail.EmailChangeRequested
	w.last(mail.TypeEmailChangeRequested, &data)
	require.Equal(w.t, email, data.Email)
	return data.ChangeCode
}

func TestChangeEmail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.account(ada)
	other, elsewhere := w.signIn(ada, password)
	_, who := w.signIn(ada, password)
	forgotten := w.forgotten(ada)
	w.clock.Advance(time.Minute)
	code := w.newEmail(who, newAddress)
	assert.Equal(t, user.Email(ada), w.user(ada).Email, "nothing changes until the code comes")

	w.clock.Advance(time.Minute)
	u, err := w.ConfirmEmail(t.Context(), who, code)
	require.NoError(t, err)
	assert.Equal(t, u, w.user(newAddress))
	assert.Equal(t, before.ID, u.ID)
	assert.True(t, u.Verified())
	assert.Empty(t, string(u.NewEmail)+u.NewEmailCode)
	var told mail.EmailChanged
	for _, e := range w.events() {
		if e.Type == mail.TypeEmailChanged {
			told = decoded[mail.EmailChanged](t, e.Data)
		}
	}
	assert.Equal(t, mail.EmailChanged{UserID: string(u.ID), FullName: u.FullName, Email: ada, At: u.VerifiedAt}, told, "the old address is told")

	_, err = w.Me(t.Context(), who)
	require.NoError(t, err)
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword), "this session goes on")
	_, err = w.Refresh(t.Context(), other.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded, "others do not")
	_, _, err = w.SocketTicket(t.Context(), elsewhere)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.ErrorIs(t, w.ResetPassword(t.Context(), forgotten, "yet another one"), auth.ErrCodeGone, "what was mailed to the old address is no good")
	_, err = w.SignIn(t.Context(), auth.Client{}, ada, newPassword)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	w.signIn(newAddress, newPassword)
	w.account(ada) // it is free
}

func TestCodesOfNewAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.account("bob@example.com")
	_, who := w.signIn(ada, password)
	_, bob := w.signIn("bob@example.com", password)

	waiting := w.signUp("eve@example.com")
	reset := w.forgotten(ada)
	code := w.newEmail(who, newAddress)
	for name, c := range map[string]struct {
		who  user.Identity
		code string
	}{
		"no code": {who, ""}, "no code's shape": {who, "code"}, "one of a sign-up": {who, waiting}, "one for a password": {who, reset}, "another user's": {bob, code},
		"nobody's": {user.Identity{UserID: who.UserID, SessionID: who.SessionID}, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
	} {
		_, err := w.ConfirmEmail(t.Context(), c.who, c.code)
		require.ErrorIs(t, err, auth.ErrCodeUnknown, name)
	}
	require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeUnknown, "it is good for nothing else")
	require.ErrorIs(t, w.ResetPassword(t.Context(), code, newPassword), auth.ErrCodeUnknown)

	later := w.newEmail(who, "ada@example.net")
	_, err := w.ConfirmEmail(t.Context(), who, code)
	require.ErrorIs(t, err, auth.ErrCodeGone, "a later one has taken its place")
	w.clock.Advance(24 * time.Hour)
	_, who = w.signIn(ada, password)
	_, err = w.ConfirmEmail(t.Context(), who, later)
	require.ErrorIs(t, err, auth.ErrCodeGone, "it is a day old")

	code = w.newEmail(who, newAddress)
	_, err = w.ConfirmEmail(t.Context(), who, code)
	require.NoError(t, err)
	_, err = w.ConfirmEmail(t.Context(), who, code)
	require.ErrorIs(t, err, auth.ErrCodeGone, "it was used")
	w.clock.Advance(time.Hour)
	code = w.newEmail(who, "ada@example.net")
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword))
	_, err = w.ConfirmEmail(t.Context(), who, code)
	require.ErrorIs(t, err, auth.ErrCodeGone, "whoever asked may have been a thief")
}

func TestRequestEmail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	w.account("bob@example.com")
	_, who := w.signIn(ada, password)
	for _, c := range []struct {
		email, password string
		err             error
	}{
		{"nonsense", password, user.ErrEmailInvalid}, {newAddress, "wrong horse", auth.ErrInvalidCredentials}, {" ADA@example.com", password, auth.ErrEmailSame},
		{"x@erased.invalid", password, user.ErrEmailInvalid},
	} {
		require.ErrorIs(t, w.RequestEmail(t.Context(), auth.Client{}, who, c.email, c.password), c.err, c.email)
	}
	assert.Empty(t, w.user(ada).NewEmail)

	mails := w.mails()
	require.NoError(t, w.RequestEmail(t.Context(), auth.Client{}, who, "bob@example.com", password), "the answer does not tell that it is taken")
	assert.Equal(t, mails, w.mails())
	assert.Equal(t, user.Email("bob@example.com"), w.user(ada).NewEmail)
	assert.Equal(t, user.Email("bob@example.com"), w.user("bob@example.com").Email)
	require.ErrorIs(t, w.RequestEmail(t.Context(), auth.Client{}, user.Identity{UserID: "nobody"}, newAddress, password), user.ErrNotFound)
}

// Too many mails to one address are dropped in silence, and so are those that nobody would get; the last code is good.
func TestRequestEmailIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.MailRate = auth.Rate{Burst: 2, Per: time.Hour} })
	w.account(ada)
	w.account("bob@example.com")
	_, who := w.signIn(ada, password)
	from := auth.Client{Address: "192.0.2.1"}
	for _, email := range []string{newAddress, "bob@example.com"} {
		for range 5 {
			require.NoError(t, w.RequestEmail(t.Context(), from, who, email, password))
		}
	}
	asked := 0
	for _, kind := range w.types() {
		if kind == mail.TypeEmailChangeRequested {
			asked++
		}
	}
	assert.Equal(t, 2, asked)
	for range 10 {
		require.NoError(t, w.RequestEmail(t.Context(), from, who, "bob@example.com", password))
	}
	require.ErrorIs(t, w.RequestEmail(t.Context(), from, who, "bob@example.com", password), auth.ErrTooMany, "a client has tenfold")
}

func TestGuessesOfAPasswordAreLimitedTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.SignInRate = auth.Rate{Burst: 4, Per: time.Hour} })
	w.account(ada)
	_, who := w.signIn(ada, password)
	for range 2 {
		_, err := w.Reauthenticate(t.Context(), who, "guess")
		require.ErrorIs(t, err, auth.ErrInvalidCredentials)
		require.ErrorIs(t, w.RequestEmail(t.Context(), auth.Client{}, who, newAddress, "guess"), auth.ErrInvalidCredentials)
	}
	_, err := w.Reauthenticate(t.Context(), who, password)
	require.ErrorIs(t, err, auth.ErrTooMany)
	require.ErrorIs(t, w.ChangePassword(t.Context(), who, password, newPassword), auth.ErrTooMany)
	w.clock.Advance(time.Hour)
	u, err := w.Reauthenticate(t.Context(), who, password)
	require.NoError(t, err)
	assert.Equal(t, w.user(ada), u)
}

// Of users who race for one address one has it; the others keep theirs, and so does each of the uses of one code but one.
func TestOneUserGetsAnAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 8
	var whose []user.Identity
	var codes []string
	for i := range n {
		email := string(rune('a'+i)) + "@example.com"
		w.account(email)
		_, who := w.signIn(email, password)
		whose, codes = append(whose, who), append(codes, w.newEmail(who, newAddress))
	}
	won := atomic.Int64{}
	meet := barrier(2 * n)
	var all sync.WaitGroup
	for i := range 2 * n {
		all.Go(func() {
			meet()
			switch u, err := w.ConfirmEmail(context.Background(), whose[i%n], codes[i%n]); {
			case err == nil:
				won.Add(1)
				assert.Equal(t, whose[i%n].UserID, u.ID)
			case !errors.Is(err, auth.ErrCodeGone):
				assert.ErrorIs(t, err, user.ErrEmailTaken)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, won.Load())
	owner := w.user(newAddress)
	for i, who := range whose {
		u, err := w.Me(t.Context(), who)
		require.NoError(t, err)
		if who.UserID != owner.ID {
			assert.Equal(t, user.Email(string(rune('a'+i))+"@example.com"), u.Email)
		}
	}
}

// A code for a new password that is asked for while the address changes is not good at the old one.
func TestAForgottenPasswordMeetsANewAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	code := w.newEmail(who, newAddress)
	hook := &afterByEmail{Repository: w.cfg.Users}
	cfg := w.cfg
	cfg.Users = hook
	slow, err := auth.New(cfg)
	require.NoError(t, err)
	hook.then = func() {
		w.clock.Advance(time.Second)
		_, err := w.ConfirmEmail(context.Background(), who, code)
		assert.NoError(t, err)
		w.clock.Advance(time.Second)
	}
	require.NoError(t, slow.ForgotPassword(t.Context(), auth.Client{}, ada))
	var data mail.PasswordForgotten
	w.last(mail.TypePasswordForgotten, &data)
	require.Equal(t, ada, data.Email)
	require.ErrorIs(t, w.ResetPassword(t.Context(), data.ResetCode, newPassword), auth.ErrCodeGone)
}

// afterByEmail calls then once, after an address was looked for.
type afterByEmail struct {
	user.Repository
	then func()
}

func (r *afterByEmail) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	u, err := r.Repository.ByEmail(ctx, email)
	if then := r.then; then != nil {
		r.then = nil
		then()
	}
	return u, err
}

// A dead letter to an address that the user has no more gets no new code.
func TestRenewMailKnowsNewAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	w.forgotten(ada)
	var old mail.PasswordForgotten
	j := mail.Job{ID: "j", Kind: mail.KindPasswordReset, Data: w.last(mail.TypePasswordForgotten, &old).Data}
	_, err := w.ConfirmEmail(t.Context(), who, w.newEmail(who, newAddress))
	require.NoError(t, err)
	w.clock.Advance(48 * time.Hour)
	_, err = w.RenewMail(t.Context(), j)
	require.ErrorIs(t, err, mail.ErrNotNeeded)
}

// Whoever is erased leaves no address behind that they wanted, and takes nobody else's mails away.
func TestEraseForgetsTheNewAddress(t *testing.T) {
	t.Parallel()
	for email, forgotten := range map[string]bool{newAddress: true, "bob@example.com": false} {
		w := newWorld(t)
		u := w.account(ada)
		w.account("bob@example.com")
		_, who := w.signIn(ada, password)
		require.NoError(t, w.RequestEmail(t.Context(), auth.Client{}, who, email, password))
		_, err := w.Erase(t.Context(), u.ID)
		require.NoError(t, err)
		var told []string
		for _, e := range w.events() {
			if e.Type == mail.TypeUserErased {
				told = append(told, decoded[mail.UserErased](t, e.Data).Email)
			}
		}
		want := []string{ada}
		if forgotten {
			want = append(want, email)
		}
		assert.Equal(t, want, told)
		after, err := w.store.Users.ByID(t.Context(), u.ID)
		require.NoError(t, err)
		assert.Empty(t, string(after.NewEmail)+after.NewEmailCode+after.Language+after.AvatarURL)
	}
}

// A crash at any write of a change of address leaves the old one or the new one, and the code can be used again.
func TestChangeOfAddressSurvivesCrashes(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		for n := 1; ; n++ {
			w := newWorld(t)
			w.account(ada)
			_, who := w.signIn(ada, password)
			code := w.newEmail(who, newAddress)
			var s steps
			cfg := w.cfg
			cfg.Users, cfg.Codes, cfg.Sessions = &faultyUsers{cfg.Users, &s}, &faultyCodes{cfg.Codes, &s}, &faultySessions{cfg.Sessions, &s}
			service, err := auth.New(cfg)
			require.NoError(t, err)
			s.arm(n, lost)
			_, err = service.ConfirmEmail(t.Context(), who, code)
			if !s.disarm() {
				require.NoError(t, err)
				break
			}
			require.Error(t, err)
			u, err := w.Me(t.Context(), who)
			require.NoError(t, err)
			_, err = service.ConfirmEmail(t.Context(), who, code)
			if u.Email == newAddress {
				require.ErrorIs(t, err, auth.ErrCodeGone)
			} else {
				require.Equal(t, user.Email(ada), u.Email)
				require.NoError(t, err)
			}
			assert.Equal(t, user.Email(newAddress), w.user(newAddress).Email)
			changed := 0
			for _, e := range w.events() {
				if e.Type == mail.TypeEmailChanged {
					changed++
				}
			}
			assert.Equal(t, 1, changed)
		}
	}
}

// An address that is taken costs what a free one does, call by call, also where there were too many mails.
func TestANewAddressCostsTheSameWork(t *testing.T) {
	t.Parallel()
	calls := map[string][]string{}
	for email, owned := range map[string]bool{newAddress: false, "bob@example.com": true} {
		w := newWorld(t)
		if owned {
			w.account(email)
		}
		w.account(ada)
		_, who := w.signIn(ada, password)
		d := &dependencies{Config: w.cfg}
		s := d.service(t)
		for range 5 {
			require.NoError(t, s.RequestEmail(t.Context(), auth.Client{Address: "192.0.2.1"}, who, email, password))
		}
		calls[email] = d.calls
	}
	require.NotEmpty(t, calls[newAddress])
	assert.Equal(t, calls[newAddress], calls["bob@example.com"])
}
