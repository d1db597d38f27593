package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
		"Users", "Sessions", "Codes", "Hasher", "Issuer", "Verifier", "Nonces", "Limiter", "AccessTTL", "TicketTTL", "MailRate",
	} {
		assert.ErrorContains(t, err, name)
	}
	w := newWorld(t)
	w.cfg.SessionTTL, w.cfg.AccessTTL = time.Minute, time.Hour
	_, err = auth.New(w.cfg)
	require.ErrorContains(t, err, "SessionTTL")
}

func TestSignUpMakesAUserAndTheMailInOneCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "  Ada   Lovelace ", Email: " ADA@Example.com", Password: password})
	require.NoError(t, err)

	u := w.user(ada)
	assert.Equal(t, "Ada Lovelace", u.FullName)
	assert.False(t, u.Verified())
	assert.Equal(t, w.clock.Now().UTC().Truncate(time.Microsecond), u.CreatedAt)
	assert.NotContains(t, u.PasswordHash, password)

	var data mail.UserCreated
	e := w.last(mail.TypeUserCreated, &data)
	assert.Equal(t, mail.Topic, e.Topic)
	assert.Equal(t, string(u.ID), e.Key)
	assert.NotEmpty(t, e.ID)
	assert.Equal(t, mail.UserCreated{
		UserID: string(u.ID), FullName: "Ada Lovelace", Email: ada,
		VerificationCode: data.VerificationCode, ExpiresAt: u.CreatedAt.Add(24 * time.Hour),
	}, data)
	assert.Len(t, data.VerificationCode, 43)
	assert.EqualValues(t, 1, w.committed.Load())

	var fields map[string]any
	require.NoError(t, json.Unmarshal(e.Data, &fields))
	assert.Len(t, fields, 5)
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
		"257 bytes":          {func(in *auth.SignUp) { in.Password = strings.Repeat("x", 257) }, auth.ErrPasswordInvalid},
		"NUL":                {func(in *auth.SignUp) { in.Password = "12345678\x00" }, auth.ErrPasswordInvalid},
		"not UTF-8":          {func(in *auth.SignUp) { in.Password = "12345678\xff" }, auth.ErrPasswordInvalid},
		"the address itself": {func(in *auth.SignUp) { in.Password = "ADA@example.com" }, auth.ErrPasswordInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
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
	for name, p := range map[string]string{"8 characters": "12345678", "8 umlauts": "äöüäöüäö", "256 bytes": strings.Repeat("x", 256)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := good
			in.Password = p
			require.NoError(t, newWorld(t).SignUp(t.Context(), auth.Client{}, in))
		})
	}
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
		require.Equal(t, mail.AddressTaken{UserID: string(owner.ID), FullName: owner.FullName, Email: ada}, data)
		require.Equal(t, string(owner.ID), e.Key)
		require.Equal(t, owner, w.user(ada), "the account must stay as it was")
		require.Equal(t, hashes+1, w.hasher.hashes.Load(), "the hash is made all the same")
		require.Equal(t, committed+1, w.committed.Load())
	})
	t.Run("of an unverified owner replaces the sign-up before", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, again)) // with an address that is not Mallory's
		var before mail.UserCreated
		w.last(mail.TypeUserCreated, &before)
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada Lovelace", Email: ada, Password: password}))
		var data mail.UserCreated
		w.last(mail.TypeVerificationAgain, &data)
		require.Equal(t, before.UserID, data.UserID)
		require.Equal(t, "Ada Lovelace", data.FullName)
		require.ErrorIs(t, w.Verify(t.Context(), before.VerificationCode), auth.ErrCodeGone, "the clock stands, and still it is older")
		require.NoError(t, w.Verify(t.Context(), data.VerificationCode))
		require.Equal(t, "Ada Lovelace", w.user(ada).FullName)
		w.signIn(ada, password)
		_, err := w.SignIn(t.Context(), auth.Client{}, ada, again.Password)
		require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	})
	t.Run("is a conflict if so configured", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, func(c *auth.Config) { c.TakenConflict = true })
		w.signUp(ada)
		require.ErrorIs(t, w.SignUp(t.Context(), auth.Client{}, again), user.ErrEmailTaken)
		require.Equal(t, []string{mail.TypeUserCreated}, w.types())
		require.EqualValues(t, 2, w.hasher.hashes.Load())
	})
}

// TestSignUpDoesTheSameWork compares what the stores are asked for a new address and for a
// taken one: the same writes, so the same time.
func TestSignUpDoesTheSameWork(t *testing.T) {
	t.Parallel()
	work := func(prepare func(*world)) int {
		w := newWorld(t)
		prepare(w)
		w.steps.arm(0, false)
		require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Eve", Email: ada, Password: password}))
		return w.steps.n
	}
	fresh := work(func(*world) {})
	require.Equal(t, 2, fresh)
	require.Equal(t, fresh, work(func(w *world) { w.signUp(ada) }))
	require.Equal(t, fresh, work(func(w *world) { w.account(ada) }))
}

func TestConcurrentSignUpsMakeOneAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 16
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
	created := 0
	for i := range n {
		require.NoError(t, errs[i])
	}
	for _, kind := range w.types() {
		if kind == mail.TypeUserCreated {
			created++
		}
	}
	require.Equal(t, 1, created)
	require.Len(t, w.events(), n, "each of them leads to a mail")
}

// TestSignUpSurvivesACrashAnywhere breaks off after each step. There is never a user without
// the event that mails a good code, nor an event without its user, and the next try works.
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

			u, err := w.store.Users.ByEmail(t.Context(), ada)
			events := w.events()
			if errors.Is(err, user.ErrNotFound) {
				require.Empty(t, events, "step %d, lost %v: a mail without a user", step, lost)
			} else {
				require.NoError(t, err)
				require.Len(t, events, 1, "step %d, lost %v: a user without a mail", step, lost)
				require.Equal(t, string(u.ID), events[0].Key)
			}
			require.NoError(t, w.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: ada, Password: password}))
			events = w.events()
			var data mail.UserCreated
			require.NoError(t, json.Unmarshal(events[len(events)-1].Data, &data))
			require.NoError(t, w.Verify(t.Context(), data.VerificationCode))
			w.signIn(ada, password)
		}
		require.Equal(t, 2, faults, "the code, and the user with the event")
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
		require.False(t, w.user(ada).Verified())
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
		w.signUp(ada)
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
	t.Run("after a crash anywhere", func(t *testing.T) {
		t.Parallel()
		for _, lost := range []bool{false, true} {
			for step := 1; ; step++ {
				w := newWorld(t)
				code := w.signUp(ada)
				w.steps.arm(step, lost)
				err := w.Verify(t.Context(), code)
				if !w.steps.disarm() {
					require.NoError(t, err)
					require.Equal(t, 3, step)
					break
				}
				require.ErrorIs(t, err, fault.Unavailable)
				if err := w.Verify(t.Context(), code); err != nil {
					require.ErrorIs(t, err, auth.ErrCodeGone)
				}
				require.True(t, w.user(ada).Verified())
			}
		}
	})
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
			w.signUp("known@example.com") // of another allowance
			w.account("verified@example.com")
			before := len(w.events())
			for _, email := range []string{"known@example.com", "verified@example.com", "unknown@example.com"} {
				for i := range 5 {
					require.NoError(t, request(w, auth.Client{}, email), "%s, %d", email, i)
				}
			}
			want := 3 // to the one that is not verified
			if name == "forgotten" {
				want = 6
			}
			require.Len(t, w.events(), before+want)
			w.clock.Advance(10 * time.Minute)
			require.NoError(t, request(w, auth.Client{}, "known@example.com"))
			require.Len(t, w.events(), before+want+1)

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
