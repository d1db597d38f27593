package auth_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func TestNewChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := auth.New(auth.Config{AccessTTL: -1, TicketTTL: time.Minute, MailRate: auth.Rate{Burst: 1}})
	require.Error(t, err)
	for _, name := range []string{
		"Users", "Sessions", "Codes", "SignUps", "Hasher", "Issuer", "Verifier", "Nonces", "Limiter", "AccessTTL", "TicketTTL", "MailRate",
	} {
		assert.ErrorContains(t, err, name)
	}
	w := newWorld(t)
	w.cfg.SessionTTL, w.cfg.AccessTTL = time.Minute, time.Hour
	_, err = auth.New(w.cfg)
	require.ErrorContains(t, err, "SessionTTL")
	w = newWorld(t)
	w.cfg.CodeTTL, w.cfg.SignUpTTL, w.cfg.SignUpsPerAddress = 2*time.Hour, time.Hour, 101
	_, err = auth.New(w.cfg)
	require.ErrorContains(t, err, "SignUpTTL")
	require.ErrorContains(t, err, "SignUpsPerAddress")
	w.cfg.PasswordMin = 65
	_, err = auth.New(w.cfg)
	require.ErrorContains(t, err, "PasswordMin")
	w.cfg.PasswordMin = 0
	w.cfg.SignUpTTL, w.cfg.SignUpsPerAddress = 0, 100
	_, err = auth.New(w.cfg)
	require.NoError(t, err)
}

func TestSignUpWaitsWithItsMailInOneCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	from := auth.Client{Address: "2001:DB8::0001"}
	err := w.SignUp(t.Context(), from, auth.SignUp{FullName: "  Ada   Lovelace ", Email: " ADA@Example.com", Password: password})
	require.NoError(t, err)
	_, err = w.store.Users.ByEmail(t.Context(), ada)
	require.ErrorIs(t, err, user.ErrNotFound, "there is no account yet")

	now := w.clock.Now().UTC().Truncate(time.Microsecond)
	var data mail.UserCreated
	e := w.last(mail.TypeUserCreated, &data)
	assert.Equal(t, mail.Topic, e.Topic)
	assert.Equal(t, data.UserID, e.Key)
	assert.NotEmpty(t, e.ID)
	assert.Equal(t, mail.UserCreated{
		UserID: data.UserID, FullName: "Ada Lovelace", Email: ada,
		VerificationCode: data.VerificationCode, ExpiresAt: now.Add(24 * time.Hour),
		Asked: mail.Asked{RequestedAt: now, Network: "2001:db8::1"},
	}, data)
	assert.Len(t, data.VerificationCode, 43)
	assert.EqualValues(t, 1, w.committed.Load())
	var fields map[string]any
	require.NoError(t, json.Unmarshal(e.Data, &fields))
	assert.Len(t, fields, 7)

	waiting, err := w.store.SignUps.ByEmail(t.Context(), ada)
	require.NoError(t, err)
	require.Len(t, waiting, 1)
	require.NotContains(t, waiting[0].PasswordHash, password)
	require.Equal(t, now.Add(7*24*time.Hour), waiting[0].ExpiresAt)

	w.clock.Advance(time.Hour)
	require.NoError(t, w.Verify(t.Context(), data.VerificationCode))
	u := w.user(ada)
	assert.Equal(t, user.User{
		ID: user.ID(data.UserID), FullName: "Ada Lovelace", Email: ada, PasswordHash: waiting[0].PasswordHash,
		CreatedAt: now, PasswordChangedAt: now, VerifiedAt: now.Add(time.Hour),
	}, u)
}

func TestNamesAreInOneForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.Normalize = norm.NFC.String })
	require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Zoe\u0308", Email: ada, Password: password}))
	var data mail.UserCreated
	w.last(mail.TypeUserCreated, &data)
	assert.Equal(t, "Zo\u00eb", data.FullName)
}

func TestSignUpRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	good := auth.SignUp{FullName: "Ada", Email: ada, Password: password}
	for name, tc := range map[string]struct {
		edit func(*auth.SignUp)
		want error
	}{
		"no name":            {func(in *auth.SignUp) { in.FullName = " " }, user.ErrFullNameInvalid},
		"no address":         {func(in *auth.SignUp) { in.Email = "" }, user.ErrEmailInvalid},
		"seven characters":   {func(in *auth.SignUp) { in.Password = "1234567" }, auth.ErrPasswordInvalid},
		"seven umlauts":      {func(in *auth.SignUp) { in.Password = "äöüäöüä" }, auth.ErrPasswordInvalid},
		"257 characters":     {func(in *auth.SignUp) { in.Password = strings.Repeat("äx€", 85) + "yz" }, auth.ErrPasswordInvalid},
		"8 MiB":              {func(in *auth.SignUp) { in.Password = strings.Repeat("äx€yz🐎", 1<<20) }, auth.ErrPasswordInvalid},
		"nothing but spaces": {func(in *auth.SignUp) { in.Password = "        " }, auth.ErrPasswordInvalid},
		"wide spaces":        {func(in *auth.SignUp) { in.Password = "\u3000\u2003\u3000\u2003\u3000\u2003\u3000\u2003" }, auth.ErrPasswordInvalid},
		"one character":      {func(in *auth.SignUp) { in.Password = "öööööööööö" }, auth.ErrPasswordInvalid},
		"the address in it":  {func(in *auth.SignUp) { in.Password = "I am Ada@Example.com!" }, auth.ErrPasswordInvalid},
		"a common one":       {func(in *auth.SignUp) { in.Password = "common one" }, auth.ErrPasswordInvalid},
		"NUL":                {func(in *auth.SignUp) { in.Password = "12345678\x00" }, auth.ErrPasswordInvalid},
		"not UTF-8":          {func(in *auth.SignUp) { in.Password = "12345678\xff" }, auth.ErrPasswordInvalid},
		"the address itself": {func(in *auth.SignUp) { in.Password = "ADA@example.com" }, auth.ErrPasswordInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *auth.Config) { c.Passwords = list{"common one": true} })
			in := good
			tc.edit(&in)
			err := w.SignUp(t.Context(), auth.Client{}, in)
			require.ErrorIs(t, err, tc.want)
			require.ErrorIs(t, err, fault.Invalid)
			require.NotContains(t, err.Error(), in.Password+"\x00", "a refusal must not repeat the password")
			require.Empty(t, w.events())
			require.Zero(t, w.hasher.hashes.Load())
		})
	}
	for name, p := range map[string]string{
		"8 characters": "12345678", "8 umlauts": "äöüäöüäö", "256 characters of four bytes": strings.Repeat("🐎🐴", 128), "two characters": "öööööööooo",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := good
			in.Password = p
			w := newWorld(t)
			require.NoError(t, w.SignUp(t.Context(), auth.Client{}, in))
			mailed := w.verifications()
			require.NoError(t, w.Verify(t.Context(), mailed[0].VerificationCode))
			w.signIn(ada, p)
		})
	}
}

// list is a PasswordList.
type list map[string]bool

func (l list) Contains(_ context.Context, password string) (bool, error) { return l[password], nil }

// TestNewPasswordsAreCheckedEverywhere sets a common password, and one that is too short as configured.
func TestNewPasswordsAreCheckedEverywhere(t *testing.T) {
	t.Parallel()
	for bad, min := range map[string]int{"common one": 0, "eleven char": 12} {
		w := newWorld(t)
		w.account(ada)
		code := w.forgotten(ada)
		_, who := w.signIn(ada, password)
		w.cfg.Passwords, w.cfg.PasswordMin = list{"common one": true}, min
		s, err := auth.New(w.cfg)
		require.NoError(t, err)
		require.ErrorIs(t, s.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: "bob@example.com", Password: bad}), auth.ErrPasswordInvalid)
		require.ErrorIs(t, s.ResetPassword(t.Context(), code, bad), auth.ErrPasswordInvalid)
		require.ErrorIs(t, s.ChangePassword(t.Context(), who, password, bad), auth.ErrPasswordInvalid)
		require.NoError(t, s.ChangePassword(t.Context(), who, password, "another horse"))
	}
}

// TestPasswordsAreOneHoweverTheyAreTyped types a password in both of Unicode's forms.
func TestPasswordsAreOneHoweverTheyAreTyped(t *testing.T) {
	t.Parallel()
	const composed, decomposed = "pferdest\u00e4rke", "pferdesta\u0308rke"
	inNFC := func(c *auth.Config) { c.Normalize = norm.NFC.String }
	for _, typed := range [][2]string{{composed, decomposed}, {decomposed, composed}} {
		w := newWorld(t, inNFC)
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: typed[0]}))
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, typed[1])
		require.ErrorIs(t, err, auth.ErrNotVerified, "while it waits")
		mailed := w.verifications()
		require.NoError(t, w.Verify(t.Context(), mailed[0].VerificationCode))
		w.signIn(ada, typed[0])
		_, who := w.signIn(ada, typed[1])
		require.NoError(t, w.ChangePassword(t.Context(), who, typed[1], "x"+typed[1]))
		w.signIn(ada, "x"+typed[0])
		require.NoError(t, w.ResetPassword(t.Context(), w.forgotten(ada), "y"+typed[1]))
		w.signIn(ada, "y"+typed[0])
	}

	// A hash of before, of a password that was typed decomposed.
	w := newWorld(t, inNFC)
	w.earlier(ada, decomposed)
	require.NoError(t, w.Verify(t.Context(), strings.Repeat("A", 43)))
	_, err := w.SignIn(t.Context(), auth.Client{}, ada, composed)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials, "it cannot be known yet")
	old := w.user(ada).PasswordHash
	w.signIn(ada, decomposed)
	require.NotEqual(t, old, w.user(ada).PasswordHash, "made anew")
	w.signIn(ada, composed)
	w.signIn(ada, decomposed)
}

func TestSignUpWithATakenAddress(t *testing.T) {
	t.Parallel()
	again := auth.SignUp{FullName: "Mallory", Email: ada, Password: "mallory's own"}

	t.Run("of a verified owner mails a notice", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		owner := w.account(ada)
		hashes, committed := w.hasher.hashes.Load(), w.committed.Load()
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, again))
		var data mail.AddressTaken
		e := w.last(mail.TypeAddressTaken, &data)
		require.Equal(t, mail.AddressTaken{
			UserID: string(owner.ID), FullName: owner.FullName, Email: ada, Asked: mail.Asked{RequestedAt: owner.CreatedAt},
		}, data)
		require.Equal(t, string(owner.ID), e.Key)
		require.Equal(t, owner, w.user(ada), "the account must stay as it was")
		require.Equal(t, hashes+1, w.hasher.hashes.Load(), "the hash is made all the same")
		require.Equal(t, committed+1, w.committed.Load())
	})
	t.Run("of an account of before waits, and takes it over", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.earlier(ada, password)
		before := w.user(ada)
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, again))
		var data mail.UserCreated
		w.last(mail.TypeUserCreated, &data)
		require.Equal(t, string(before.ID), data.UserID, "the id that the account will have")
		require.Equal(t, before, w.user(ada), "until it is confirmed it stays as it was")
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
		require.ErrorIs(t, err, auth.ErrNotVerified)
		require.NoError(t, w.Verify(t.Context(), data.VerificationCode))
		u := w.user(ada)
		require.Equal(t, before.ID, u.ID)
		require.Equal(t, "Mallory", u.FullName)
		require.True(t, u.Verified())
		w.signIn(ada, again.Password)
		_, err = w.SignIn(t.Context(), auth.Client{}, ada, password)
		require.ErrorIs(t, err, auth.ErrInvalidCredentials)
		require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone)
	})
	t.Run("is a conflict if so configured", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *auth.Config) { c.TakenConflict = true })
		code := w.signUp(ada)
		require.ErrorIs(t, w.SignUp(t.Context(), auth.Client{}, again), user.ErrEmailTaken)
		require.Equal(t, []string{mail.TypeUserCreated}, w.types())
		require.EqualValues(t, 2, w.hasher.hashes.Load())
		require.NoError(t, w.Verify(t.Context(), code))
		require.ErrorIs(t, w.SignUp(t.Context(), auth.Client{}, again), user.ErrEmailTaken)
	})
}

func TestConcurrentSignUpsAllWait(t *testing.T) {
	t.Parallel()
	const n = 16
	w := newWorld(t, func(c *auth.Config) { c.SignUpsPerAddress = n })
	start := make(chan struct{})
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = w.SignUp(context.Background(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password})
		})
	}
	close(start)
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
	}
	mailed := w.verifications()
	require.Len(t, mailed, n, "each of them leads to a mail")

	// Confirmed all at once, one of them is the account.
	next := make(chan string, n)
	for _, m := range mailed {
		next <- m.VerificationCode
	}
	require.Equal(t, 1, race(t, n, auth.ErrCodeGone, func() error { return w.Verify(context.Background(), <-next) }))
	require.True(t, w.user(ada).Verified())
}

// TestSignUpSurvivesACrashAnywhere breaks off after each step. There is never a sign-up without
// the event that mails a good code, nor an event without its sign-up, and the next try works.
func TestSignUpSurvivesACrashAnywhere(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		faults := 0
		for step := 1; ; step++ {
			w := newWorld(t)
			w.steps.arm(step, lost)
			err := w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password})
			if !w.steps.disarm() {
				require.NoError(t, err)
				break
			}
			faults++
			require.ErrorIs(t, err, fault.Unavailable)

			waiting, err := w.store.SignUps.ByEmail(t.Context(), ada)
			require.NoError(t, err)
			events := w.events()
			require.Len(t, events, len(waiting), "step %d, lost %v: a sign-up without a mail, or a mail without one", step, lost)
			for i := range waiting {
				require.Equal(t, string(waiting[i].UserID), events[i].Key)
			}
			require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password}))
			mailed := w.verifications()
			require.NoError(t, w.Verify(t.Context(), mailed[len(mailed)-1].VerificationCode))
			w.signIn(ada, password)
		}
		require.Equal(t, 2, faults, "the code, and the sign-up with the event")
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.signUp(ada)
		w.clock.Advance(time.Minute)
		require.NoError(t, w.Verify(t.Context(), " "+code+"\n"))
		require.Equal(t, w.clock.Now().UTC().Truncate(time.Microsecond), w.user(ada).VerifiedAt)
		err := w.Verify(t.Context(), code)
		require.ErrorIs(t, err, auth.ErrCodeGone)
		require.ErrorIs(t, err, fault.Gone)
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.signUp(ada)
		w.clock.Advance(24*time.Hour + time.Microsecond)
		require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone)
		_, err := w.store.Users.ByEmail(t.Context(), ada)
		require.ErrorIs(t, err, user.ErrNotFound)
		require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone, "and it stays so")
	})
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.signUp(ada)
		other := "A" + code[1:]
		if other == code {
			other = "B" + code[1:]
		}
		for _, bad := range []string{"", "x", code + "A", code[:42], strings.Repeat("x", 1<<16), other, code[:21] + "\n" + code[21:]} {
			require.ErrorIs(t, w.Verify(t.Context(), bad), auth.ErrCodeUnknown, "%.80q", bad)
		}
		require.NoError(t, w.Verify(t.Context(), code))
	})
	t.Run("with a code for a new password", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.earlier(ada, password)
		require.NoError(t, w.ForgotPassword(t.Context(), auth.Client{}, ada))
		var data mail.PasswordForgotten
		w.last(mail.TypePasswordForgotten, &data)
		require.ErrorIs(t, w.Verify(t.Context(), data.ResetCode), auth.ErrCodeUnknown)
	})
	t.Run("the second of two codes is gone", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.signUp(ada)
		require.NoError(t, w.ResendVerification(t.Context(), auth.Client{}, ada))
		var data mail.UserCreated
		w.last(mail.TypeVerificationAgain, &data)
		require.NoError(t, w.Verify(t.Context(), data.VerificationCode))
		require.ErrorIs(t, w.Verify(t.Context(), first), auth.ErrCodeGone)
	})
	t.Run("of many at once exactly one", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.signUp(ada)
		require.Equal(t, 1, race(t, 16, auth.ErrCodeGone, func() error { return w.Verify(context.Background(), code) }))
	})
	t.Run("of an account of before", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.earlier(ada, password)
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
		require.ErrorIs(t, err, auth.ErrNotVerified)
		require.NoError(t, w.ResendVerification(t.Context(), auth.Client{}, ada))
		again := w.verifications()
		require.Len(t, again, 1)
		require.NoError(t, w.Verify(t.Context(), code))
		w.signIn(ada, password)
		require.ErrorIs(t, w.Verify(t.Context(), again[0].VerificationCode), auth.ErrCodeGone)
		require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone)
	})
	t.Run("while the sign-up waits, by a new code", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.signUp(ada)
		w.clock.Advance(7*24*time.Hour - time.Hour)
		require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone)
		require.NoError(t, w.ResendVerification(t.Context(), auth.Client{}, ada))
		mailed := w.verifications()
		require.Len(t, mailed, 2)
		require.Equal(t, mailed[0].RequestedAt, mailed[1].RequestedAt, "the mail says when the sign-up was, not the request")
		require.Equal(t, w.clock.Now().UTC().Truncate(time.Microsecond).Add(time.Hour), mailed[1].ExpiresAt, "no longer than the sign-up")
		require.NoError(t, w.Verify(t.Context(), mailed[1].VerificationCode))
	})
	t.Run("not after the sign-up has expired", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.signUp(ada)
		w.clock.Advance(7 * 24 * time.Hour)
		require.NoError(t, w.ResendVerification(t.Context(), auth.Client{}, ada))
		require.Len(t, w.verifications(), 1)
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, password)
		require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	})
	t.Run("not when later ones have taken its place", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *auth.Config) { c.SignUpsPerAddress = 2 })
		var codes []string
		for range 3 {
			codes = append(codes, w.signUp(ada))
			w.clock.Advance(time.Second)
		}
		require.ErrorIs(t, w.Verify(t.Context(), codes[0]), auth.ErrCodeUnknown)
		require.NoError(t, w.Verify(t.Context(), codes[1]))
		require.ErrorIs(t, w.Verify(t.Context(), codes[2]), auth.ErrCodeGone)
	})
	t.Run("by another program's account meanwhile", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		code := w.signUp(ada)
		old := w.earlier(ada, stolen) // an older program beside this one
		require.NoError(t, w.Verify(t.Context(), code))
		require.Equal(t, user.ID("of-before"), w.user(ada).ID)
		w.signIn(ada, password)
		require.ErrorIs(t, w.Verify(t.Context(), old), auth.ErrCodeGone)
	})
	for name, before := range map[string]bool{"after a crash anywhere": false, "after a crash anywhere, of an account of before": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, lost := range []bool{false, true} {
				for step := 1; ; step++ {
					w := newWorld(t)
					if before {
						w.earlier(ada, stolen)
					}
					code := w.signUp(ada)
					w.steps.arm(step, lost)
					err := w.Verify(t.Context(), code)
					if !w.steps.disarm() {
						require.NoError(t, err)
						require.GreaterOrEqual(t, step, 4)
						break
					}
					require.ErrorIs(t, err, fault.Unavailable)
					if err := w.Verify(t.Context(), code); err != nil {
						require.ErrorIs(t, err, auth.ErrCodeGone)
					}
					require.True(t, w.user(ada).Verified())
					w.signIn(ada, password)
					require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeGone, "step %d, lost %v: done is done", step, lost)
				}
			}
		})
	}
}

// race runs do n times at once and returns how many succeeded; the others must fail with want.
func race(t *testing.T, n int, want error, do func() error) int {
	t.Helper()
	start := make(chan struct{})
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do()
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, want)
	}
	return won
}

func TestMailsOnRequestDoNotTell(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]func(*world, auth.Client, string) error{
		"resend": func(w *world, from auth.Client, email string) error {
			return w.ResendVerification(context.Background(), from, email)
		},
		"forgotten": func(w *world, from auth.Client, email string) error {
			return w.ForgotPassword(context.Background(), from, email)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *auth.Config) { c.MailRate = auth.Rate{Burst: 3, Per: 10 * time.Minute} })
			w.signUp("waiting@example.com")
			w.account("verified@example.com")
			known := map[string]string{"resend": "waiting@example.com", "forgotten": "verified@example.com"}[name]
			before := w.mails()
			for _, email := range []string{"waiting@example.com", "verified@example.com", "unknown@example.com"} {
				for i := range 5 {
					require.NoError(t, request(w, auth.Client{}, email), "%s, %d", email, i)
				}
			}
			require.Equal(t, before+3, w.mails())
			w.clock.Advance(10 * time.Minute)
			require.NoError(t, request(w, auth.Client{}, known))
			require.Equal(t, before+4, w.mails())

			require.ErrorIs(t, request(w, auth.Client{}, "no address"), user.ErrEmailInvalid)

			from := auth.Client{Address: "203.0.113.9"}
			for range 30 {
				require.NoError(t, request(w, from, "somebody@example.com"))
			}
			err := request(w, from, "somebody@example.com")
			require.ErrorIs(t, err, auth.ErrTooMany)
			require.Positive(t, fault.Public(err).RetryAfter)
			require.NoError(t, request(w, auth.Client{Address: "203.0.113.10"}, "somebody@example.com"))
		})
	}
}

func TestSignUpIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.MailRate = auth.Rate{} }) // 3 in 10 minutes
	in := auth.SignUp{FullName: "Ada", Email: ada, Password: password}
	for range 3 {
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, in))
	}
	in.Email = "ADA@example.com "
	err := w.SignUp(t.Context(), auth.Client{}, in)
	require.ErrorIs(t, err, auth.ErrTooMany)
	require.ErrorIs(t, err, fault.Exhausted)
	require.Positive(t, fault.Public(err).RetryAfter)
	in.Email = "bob@example.com"
	require.NoError(t, w.SignUp(t.Context(), auth.Client{}, in), "addresses do not influence each other")
}
