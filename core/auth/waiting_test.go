package auth_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

const stolen = "mallory's own"

// verifications returns the mails with codes, oldest first.
func (w *world) verifications() []mail.UserCreated {
	w.t.Helper()
	var all []mail.UserCreated
	for _, e := range w.events() {
		if e.Type == mail.TypeUserCreated || e.Type == mail.TypeVerificationAgain {
			var data mail.UserCreated
			require.NoError(w.t, json.Unmarshal(e.Data, &data))
			all = append(all, data)
		}
	}
	return all
}

// waits signs up and returns what was mailed.
func (w *world) waits(name, password string) mail.UserCreated {
	w.t.Helper()
	require.NoError(w.t, w.SignUp(context.Background(), auth.Client{}, auth.SignUp{FullName: name, Email: ada, Password: password}))
	var data mail.UserCreated
	w.last(mail.TypeUserCreated, &data)
	return data
}

// TestAStrangersSignUpTakesNothingOver signs up twice with one address: what is confirmed is what
// was chosen in the same sign-up, whichever came first.
func TestAStrangersSignUpTakesNothingOver(t *testing.T) {
	t.Parallel()
	for name, ownerFirst := range map[string]bool{"who comes later": true, "who was there before": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var owner, stranger mail.UserCreated
			if ownerFirst {
				owner = w.waits("Ada Lovelace", password)
				w.clock.Advance(time.Minute)
			}
			stranger = w.waits("Mallory", stolen)
			if !ownerFirst {
				w.clock.Advance(time.Minute)
				owner = w.waits("Ada Lovelace", password)
			}
			require.NotEqual(t, owner.UserID, stranger.UserID)
			require.NoError(t, w.Verify(t.Context(), owner.VerificationCode))
			u := w.user(ada)
			require.Equal(t, user.ID(owner.UserID), u.ID)
			require.Equal(t, "Ada Lovelace", u.FullName)
			g, _ := w.signIn(ada, password)
			u = g.User
			_, err := w.SignIn(t.Context(), auth.Client{}, ada, stolen)
			require.ErrorIs(t, err, auth.ErrNotVerified, "it cannot be learned that the address has an account now")
			require.ErrorIs(t, w.Verify(t.Context(), stranger.VerificationCode), auth.ErrCodeGone)
			require.Equal(t, u, w.user(ada))
		})
	}
}

// TestResentCodesKeepSignUpsApart asks for new mails while two sign-ups wait.
func TestResentCodesKeepSignUpsApart(t *testing.T) {
	t.Parallel()
	for _, ownerFirst := range []bool{true, false} {
		w := newWorld(t)
		if ownerFirst {
			w.waits("Ada Lovelace", password)
		}
		w.waits("Mallory", stolen)
		if !ownerFirst {
			w.waits("Ada Lovelace", password)
		}
		require.NoError(t, w.ResendVerification(t.Context(), auth.Client{}, ada))
		all := w.verifications()
		require.Len(t, all, 4)
		for _, mailed := range all[2:] {
			if mailed.FullName == "Ada Lovelace" {
				require.NoError(t, w.Verify(t.Context(), mailed.VerificationCode))
			}
		}
		w.signIn(ada, password)
	}
}

// TestAConfirmedPasswordIsNotAWaitingOne changes the password after the sign-up: the one that was
// chosen then is wrong, and not one that waits.
func TestAConfirmedPasswordIsNotAWaitingOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	require.NoError(t, w.ChangePassword(t.Context(), who, password, newPassword))
	_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
}

// TestSigningInDoesNotTellWhoHasAnAccount signs up with a password of one's own, and then in.
func TestSigningInDoesNotTellWhoHasAnAccount(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*world){
		"nobody":               func(*world) {},
		"an account":           func(w *world) { w.account(ada) },
		"a sign-up that waits": func(w *world) { w.signUp(ada) },
		"an account of before": func(w *world) { w.earlier(ada, password) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			prepare(w)
			require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Mallory", Email: ada, Password: stolen}))
			_, err := w.SignIn(t.Context(), auth.Client{}, ada, stolen)
			require.ErrorIs(t, err, auth.ErrNotVerified)
			_, err = w.SignIn(t.Context(), auth.Client{}, ada, "neither of them")
			require.ErrorIs(t, err, auth.ErrInvalidCredentials)
		})
	}
}

// earlier stores an account that waits itself, as programs did before sign-ups waited, and returns
// the code that they mailed.
func (w *world) earlier(email, password string) string {
	w.t.Helper()
	ctx := context.Background()
	hash, err := w.cfg.Hasher.Hash(ctx, password)
	require.NoError(w.t, err)
	now := w.clock.Now().UTC().Truncate(time.Microsecond)
	u := user.User{ID: "of-before", FullName: "Ada", Email: user.Email(email), PasswordHash: hash, CreatedAt: now, PasswordChangedAt: now}
	require.NoError(w.t, w.store.Users.Create(ctx, u))
	code := strings.Repeat("A", 43)
	require.NoError(w.t, w.store.Codes.Put(ctx, auth.Code{
		Hash: auth.CodeHash("verify", code), UserID: u.ID, CreatedAt: now, ExpiresAt: now.Add(24 * time.Hour),
	}))
	return code
}

// overtaken is a store in which something happens right before the next update of a user.
type overtaken struct {
	user.Repository
	before func()
}

func (o *overtaken) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	if f := o.before; f != nil {
		o.before = nil
		f()
	}
	return o.Repository.Update(ctx, id, change, events...)
}

// TestOfTwoWhoConfirmAtOnceTheFirstHasTheAccount: an account that was there before, and that nobody had confirmed, is
// taken over by one of those who wait for it, also if another confirms between its reading and its change.
func TestOfTwoWhoConfirmAtOnceTheFirstHasTheAccount(t *testing.T) {
	t.Parallel()
	var users *overtaken
	w := newWorld(t, func(c *auth.Config) {
		users = &overtaken{Repository: c.Users}
		c.Users = users
	})
	w.earlier(ada, "of the first account")
	owner, stranger := w.waits("Ada Lovelace", password), w.waits("Mallory", stolen)
	users.before = func() { require.NoError(t, w.Verify(t.Context(), owner.VerificationCode)) }
	require.ErrorIs(t, w.Verify(t.Context(), stranger.VerificationCode), auth.ErrCodeGone)
	w.signIn(ada, password)
	_, err := w.SignIn(t.Context(), auth.Client{}, ada, stolen)
	require.ErrorIs(t, err, auth.ErrNotVerified, "it waits like any other, and for nothing")
	require.Equal(t, "Ada Lovelace", w.user(ada).FullName)
}
