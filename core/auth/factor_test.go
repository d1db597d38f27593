package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// app is an authenticator app: it knows a secret, and no code of the package.
type app struct {
	t      *testing.T
	secret []byte
}

func newApp(t *testing.T, secret string) app {
	t.Helper()
	raw, err := base32.StdEncoding.DecodeString(secret)
	require.NoError(t, err)
	require.Len(t, raw, 20)
	return app{t, raw}
}

// code is the code that the app shows at a time: RFC 6238.
func (a app) code(at time.Time) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(at.Unix()/30))
	mac := hmac.New(sha1.New, a.secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	o := sum[19] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[o:o+4])&0x7fffffff)%1_000_000)
}

// factorWorld is a world with second factors.
func factorWorld(t *testing.T, edit ...func(*auth.Config)) *world {
	t.Helper()
	return newWorld(t, append([]func(*auth.Config){func(c *auth.Config) {
		c.FactorKeys, c.FactorRate = [][]byte{auth.NewFactorKey()}, auth.Rate{Burst: 1000, Per: time.Minute}
	}}, edit...)...)
}

// secondFactor adds an app to the account that who is of, and returns it with the recovery codes. A step later its next code is good.
func (w *world) secondFactor(who user.Identity) (app, []string) {
	w.t.Helper()
	made, err := w.AddTOTP(context.Background(), who)
	require.NoError(w.t, err)
	a := newApp(w.t, made.Secret)
	codes, err := w.ConfirmTOTP(context.Background(), who, a.code(w.clock.Now()))
	require.NoError(w.t, err)
	w.clock.Advance(30 * time.Second)
	return a, codes
}

// challenge signs in by the password, and returns the challenge.
func (w *world) challenge(email string) string {
	w.t.Helper()
	_, err := w.SignIn(context.Background(), auth.Client{}, email, password)
	require.ErrorIs(w.t, err, auth.ErrFactorRequired)
	asked, ok := errors.AsType[*auth.FactorRequired](err)
	require.True(w.t, ok)
	assert.Equal(w.t, 5*time.Minute, asked.ExpiresIn)
	require.NotEmpty(w.t, asked.Challenge)
	assert.NotContains(w.t, err.Error(), asked.Challenge)
	return asked.Challenge
}

func TestASecondFactorIsAskedFor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	u := w.account(ada)
	_, other := w.signIn(ada, password)
	_, who := w.signIn(ada, password)
	made, err := w.AddTOTP(ctx, who)
	require.NoError(t, err)
	uri, err := url.Parse(made.URI)
	require.NoError(t, err)
	assert.Equal(t, "otpauth", uri.Scheme)
	assert.Equal(t, "totp", uri.Host)
	assert.Equal(t, "/Parley:"+ada, uri.Path)
	assert.Equal(t, made.Secret, uri.Query().Get("secret"))
	assert.Equal(t, "Parley", uri.Query().Get("issuer"))
	_, err = w.SignIn(ctx, auth.Client{}, ada, password)
	require.NoError(t, err, "what is not confirmed is not asked for")
	state, err := w.Factor(ctx, who)
	require.NoError(t, err)
	assert.Zero(t, state)

	a := newApp(t, made.Secret)
	codes, err := w.ConfirmTOTP(ctx, who, " "+a.code(w.clock.Now())[:3]+" "+a.code(w.clock.Now())[3:])
	require.NoError(t, err)
	require.Len(t, codes, auth.RecoveryCodes)
	assert.Contains(t, w.types(), mail.TypeFactorChanged, "the owner is told")
	state, err = w.Factor(ctx, who)
	require.NoError(t, err)
	assert.Equal(t, auth.FactorState{ConfirmedAt: w.clock.Now().UTC().Truncate(time.Microsecond), Recovery: 10}, state)

	assert.ErrorIs(t, w.stillSignedIn(other), auth.ErrSessionEnded, "other sessions end")
	assert.NoError(t, w.stillSignedIn(who))

	w.clock.Advance(time.Second)
	_, err = w.SignIn(ctx, auth.Client{}, ada, "wrong password")
	require.ErrorIs(t, err, auth.ErrInvalidCredentials, "who does not know the password is asked for nothing")
	challenge := w.challenge(ada)
	_, err = w.SignInFactor(ctx, auth.Client{}, challenge, a.code(w.clock.Now()))
	require.ErrorIs(t, err, auth.ErrFactorCode, "the code that confirmed it was used")
	w.clock.Advance(30 * time.Second)
	g, err := w.SignInFactor(ctx, auth.Client{}, challenge, a.code(w.clock.Now()))
	require.NoError(t, err)
	assert.Equal(t, u.ID, g.User.ID)
	_, err = w.Authenticate(ctx, g.AccessToken)
	require.NoError(t, err)

	stored, err := w.store.Factors.ByUser(ctx, u.ID)
	require.NoError(t, err)
	assert.NotContains(t, string(stored.Secret), string(a.secret), "the secret is sealed")
	for _, code := range codes {
		assert.NotContains(t, strings.Join(stored.Recovery, " "), strings.ReplaceAll(code, "-", ""))
	}
}

// stillSignedIn returns an error if the session is over.
func (w *world) stillSignedIn(who user.Identity) error {
	w.t.Helper()
	_, _, err := w.SocketTicket(context.Background(), who)
	return err
}

func TestACodeIsGoodOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	w.account(ada)
	w.account("bob@example.com")
	_, who := w.signIn(ada, password)
	_, bob := w.signIn("bob@example.com", password)
	a, codes := w.secondFactor(who)
	b, _ := w.secondFactor(bob)
	now := w.clock.Now()
	for name, code := range map[string]string{
		"the code of another user": b.code(now), "two steps ago": a.code(now.Add(-60 * time.Second)), "two steps ahead": a.code(now.Add(60 * time.Second)),
		"empty": "", "letters": "abcdef", "too long": strings.Repeat("1", 1000), "five digits": a.code(now)[:5], "seven digits": a.code(now) + "0",
		"a code of no step": wrongCode(a, now),
	} {
		_, err := w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), code)
		assert.ErrorIs(t, err, auth.ErrFactorCode, name)
	}
	_, err := w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), a.code(now))
	require.NoError(t, err)
	for name, code := range map[string]string{"the same code": a.code(now), "the one before it": a.code(now.Add(-30 * time.Second))} {
		_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), code)
		assert.ErrorIs(t, err, auth.ErrFactorCode, name)
	}
	_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), a.code(now.Add(30*time.Second)))
	require.NoError(t, err, "the next code is good: clocks are a little apart")

	before := w.mails()
	_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), strings.ToUpper(strings.ReplaceAll(codes[3], "-", " ")))
	require.NoError(t, err, "a recovery code")
	assert.Greater(t, w.mails(), before, "the owner is told")
	_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), codes[3])
	require.ErrorIs(t, err, auth.ErrFactorCode, "a recovery code that was used")
	_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge("bob@example.com"), codes[4])
	require.ErrorIs(t, err, auth.ErrFactorCode, "a recovery code of another user")
	state, err := w.Factor(ctx, who)
	require.NoError(t, err)
	assert.Equal(t, 9, state.Recovery)
	fresh, err := w.NewRecoveryCodes(ctx, who)
	require.NoError(t, err)
	_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), codes[5])
	require.ErrorIs(t, err, auth.ErrFactorCode, "recovery codes of before")
	_, err = w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), fresh[5])
	require.NoError(t, err)
}

// wrongCode is a code of no step that is near.
func wrongCode(a app, at time.Time) string {
	near := map[string]bool{}
	for i := -3; i <= 3; i++ {
		near[a.code(at.Add(time.Duration(i)*30*time.Second))] = true
	}
	for i := 0; ; i++ {
		if code := fmt.Sprintf("%06d", i); !near[code] {
			return code
		}
	}
}

func TestACodeAtOnceLetsOneIn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	a, codes := w.secondFactor(who)
	at := func(challenge func() string, code string) (in int) {
		var let atomic.Int64
		var all sync.WaitGroup
		wait := barrier(16)
		for range 16 {
			text := challenge()
			all.Go(func() {
				wait()
				_, err := w.SignInFactor(ctx, auth.Client{}, text, code)
				switch {
				case err == nil:
					let.Add(1)
				case !errors.Is(err, auth.ErrFactorCode) && !errors.Is(err, auth.ErrChallengeGone):
					assert.NoError(t, err)
				}
			})
		}
		all.Wait()
		return int(let.Load())
	}
	assert.Equal(t, 1, at(func() string { return w.challenge(ada) }, a.code(w.clock.Now())), "one code, many challenges")
	assert.Equal(t, 1, at(func() string { return w.challenge(ada) }, codes[0]), "one recovery code, many challenges")
	w.clock.Advance(30 * time.Second)
	one := w.challenge(ada)
	assert.LessOrEqual(t, at(func() string { return one }, a.code(w.clock.Now())), 1, "one challenge")
	left, err := w.Factor(ctx, who)
	require.NoError(t, err)
	assert.Equal(t, 9, left.Recovery)
}

func TestAChallengeIsOfItsSignIn(t *testing.T) {
	t.Parallel()
	type setting struct {
		*world
		who  user.Identity
		app  app
		code []string
	}
	for name, x := range map[string]struct {
		edit   func(*auth.Config)
		spoil  func(t *testing.T, s setting, challenge string) string
		want   error
		noCode bool
	}{
		"used": {spoil: func(t *testing.T, s setting, c string) string {
			_, err := s.SignInFactor(t.Context(), auth.Client{}, c, s.code[0])
			require.NoError(t, err)
			return c
		}, want: auth.ErrChallengeGone},
		"expired": {spoil: func(_ *testing.T, s setting, c string) string { s.clock.Advance(5 * time.Minute); return c }, want: auth.ErrChallengeGone},
		"changed": {spoil: func(_ *testing.T, _ setting, c string) string { return c[:len(c)-1] + string(c[len(c)-1]^1) }, want: auth.ErrChallengeUnknown},
		"empty":   {spoil: func(*testing.T, setting, string) string { return "" }, want: auth.ErrChallengeUnknown},
		"long":    {spoil: func(_ *testing.T, _ setting, c string) string { return strings.Repeat(c, 20) }, want: auth.ErrChallengeUnknown},
		"an access token": {spoil: func(t *testing.T, s setting, _ string) string {
			g, err := s.SignInFactor(t.Context(), auth.Client{}, s.challenge(ada), s.code[0])
			require.NoError(t, err)
			return g.AccessToken
		}, want: auth.ErrChallengeUnknown},
		"of another deployment": {spoil: func(t *testing.T, _ setting, _ string) string {
			w := factorWorld(t)
			w.account(ada)
			_, who := w.signIn(ada, password)
			w.secondFactor(who)
			return w.challenge(ada)
		}, want: auth.ErrChallengeUnknown},
		"tried too often": {spoil: func(t *testing.T, s setting, c string) string {
			for range 5 {
				_, err := s.SignInFactor(t.Context(), auth.Client{}, c, wrongCode(s.app, s.clock.Now()))
				require.ErrorIs(t, err, auth.ErrFactorCode)
			}
			return c
		}, want: auth.ErrChallengeGone},
		"the password changed": {spoil: func(t *testing.T, s setting, c string) string {
			require.NoError(t, s.ChangePassword(t.Context(), s.who, password, "another horse entirely"))
			return c
		}, want: auth.ErrChallengeGone},
		"signed out everywhere": {spoil: func(t *testing.T, s setting, c string) string {
			s.clock.Advance(time.Second)
			require.NoError(t, s.SignOutAll(t.Context(), s.who))
			return c
		}, want: auth.ErrChallengeGone},
		"disabled": {spoil: func(t *testing.T, s setting, c string) string {
			yes := true
			_, err := s.ChangeUser(t.Context(), s.who.UserID, auth.UserChange{Disabled: &yes})
			require.NoError(t, err)
			return c
		}, want: auth.ErrInvalidCredentials},
		"erased": {spoil: func(t *testing.T, s setting, c string) string {
			done, err := s.Erase(t.Context(), s.who.UserID)
			require.NoError(t, err)
			assert.Equal(t, 1, done.Factors)
			return c
		}, want: auth.ErrInvalidCredentials},
		"the factor removed": {spoil: func(t *testing.T, s setting, c string) string {
			require.NoError(t, s.RemoveFactor(t.Context(), s.who))
			return c
		}, want: auth.ErrChallengeGone},
		"another factor": {spoil: func(t *testing.T, s setting, c string) string {
			require.NoError(t, s.RemoveFactor(t.Context(), s.who))
			s.clock.Advance(time.Second)
			made, err := s.AddTOTP(t.Context(), s.who)
			require.NoError(t, err)
			_, err = s.ConfirmTOTP(t.Context(), s.who, newApp(t, made.Secret).code(s.clock.Now()))
			require.NoError(t, err)
			return c
		}, want: auth.ErrChallengeGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := factorWorld(t)
			w.account(ada)
			_, who := w.signIn(ada, password)
			a, codes := w.secondFactor(who)
			s := setting{w, who, a, codes}
			spoiled := x.spoil(t, s, w.challenge(ada))
			_, err := w.SignInFactor(t.Context(), auth.Client{}, spoiled, codes[9])
			assert.ErrorIs(t, err, x.want)
		})
	}
}

func TestWhatNeedsAFreshSession(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	w.clock.Advance(10 * time.Minute)
	changes := map[string]func() error{
		"add":            func() error { _, err := w.AddTOTP(ctx, who); return err },
		"confirm":        func() error { _, err := w.ConfirmTOTP(ctx, who, "123456"); return err },
		"recovery codes": func() error { _, err := w.NewRecoveryCodes(ctx, who); return err },
		"remove":         func() error { return w.RemoveFactor(ctx, who) },
	}
	for name, change := range changes {
		assert.ErrorIs(t, change(), auth.ErrReauthenticate, name)
	}
	require.ErrorIs(t, w.ProveAgain(ctx, who, "wrong", ""), auth.ErrInvalidCredentials)
	require.ErrorIs(t, w.ProveAgain(ctx, who, "", "123456"), auth.ErrInvalidCredentials, "there is no factor")
	require.ErrorIs(t, changes["add"](), auth.ErrReauthenticate)
	require.NoError(t, w.ProveAgain(ctx, who, password, ""))
	a, _ := w.secondFactor(who)
	for name, change := range changes {
		if name == "add" || name == "confirm" {
			assert.ErrorIs(t, change(), auth.ErrFactorExists, name)
		}
	}

	w.clock.Advance(10 * time.Minute)
	for name, change := range changes {
		assert.ErrorIs(t, change(), auth.ErrReauthenticate, name)
	}
	for name, change := range map[string]func() error{
		"the password": func() error { return w.ChangePassword(ctx, who, password, "another horse entirely") },
		"the address":  func() error { return w.RequestEmail(ctx, auth.Client{}, who, "ada@example.org", password) },
		"the account":  func() error { _, err := w.Reauthenticate(ctx, who, password); return err },
	} {
		assert.ErrorIs(t, change(), auth.ErrReauthenticate, name)
	}
	require.ErrorIs(t, w.ProveAgain(ctx, who, password, ""), auth.ErrFactorRequired, "the password will not do")
	require.ErrorIs(t, w.ProveAgain(ctx, who, password, wrongCode(a, w.clock.Now())), auth.ErrFactorCode)
	code := a.code(w.clock.Now())
	require.NoError(t, w.ProveAgain(ctx, who, "", code))
	require.ErrorIs(t, w.ProveAgain(ctx, who, "", code), auth.ErrFactorCode, "a code proves once")
	_, err := w.SignInFactor(ctx, auth.Client{}, w.challenge(ada), code)
	require.ErrorIs(t, err, auth.ErrFactorCode, "and not at a sign-in then")
	_, err = w.Reauthenticate(ctx, who, "wrong")
	require.ErrorIs(t, err, auth.ErrInvalidCredentials, "the password is asked for as well")
	_, err = w.Reauthenticate(ctx, who, password)
	require.NoError(t, err)
	require.NoError(t, w.RemoveFactor(ctx, who))
	_, err = w.SignIn(ctx, auth.Client{}, ada, password)
	require.NoError(t, err, "a factor that was removed is not asked for")
	require.ErrorIs(t, w.RemoveFactor(ctx, who), auth.ErrFactorNotFound)

	_, gone := w.signIn(ada, password)
	require.NoError(t, w.SignOut(ctx, gone))
	_, err = w.AddTOTP(ctx, gone)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.ErrorIs(t, w.ProveAgain(ctx, gone, password, ""), auth.ErrSessionEnded)
}

func TestGuessesOfASecondFactorAreLimited(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t, func(c *auth.Config) { c.FactorRate, c.ChallengeTries = auth.Rate{Burst: 5, Per: 10 * time.Minute}, 100 })
	w.account(ada)
	known, who := w.signIn(ada, password)
	a, codes := w.secondFactor(who)
	guess := func(from auth.Client) error {
		_, err := w.SignInFactor(ctx, from, w.challenge(ada), wrongCode(a, w.clock.Now()))
		return err
	}
	stranger := auth.Client{Address: "192.0.2.1"}
	for range 5 {
		require.ErrorIs(t, guess(stranger), auth.ErrFactorCode)
	}
	require.ErrorIs(t, guess(stranger), auth.ErrTooMany, "from one network")
	for i := range 10 {
		require.ErrorIs(t, guess(auth.Client{Address: fmt.Sprintf("198.51.100.%d", i)}), auth.ErrFactorCode)
	}
	_, err := w.SignInFactor(ctx, auth.Client{Address: "203.0.113.9"}, w.challenge(ada), codes[0])
	require.ErrorIs(t, err, auth.ErrTooMany, "of the user in all, right or wrong")
	_, err = w.SignInFactor(ctx, auth.Client{Address: "203.0.113.9", Device: known.DeviceToken}, w.challenge(ada), codes[0])
	require.NoError(t, err, "nobody locks the owner's device out")
	for range 4 {
		require.ErrorIs(t, w.ProveAgain(ctx, who, "", wrongCode(a, w.clock.Now())), auth.ErrFactorCode)
	}
	require.ErrorIs(t, w.ProveAgain(ctx, who, "", codes[1]), auth.ErrTooMany, "of a session, the confirmation among them")
}

func TestWithoutKeysNobodyHasASecondFactor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	assert.False(t, w.Factors())
	for name, err := range map[string]error{
		"state":    func() error { _, err := w.Factor(ctx, who); return err }(),
		"add":      func() error { _, err := w.AddTOTP(ctx, who); return err }(),
		"confirm":  func() error { _, err := w.ConfirmTOTP(ctx, who, "123456"); return err }(),
		"recovery": func() error { _, err := w.NewRecoveryCodes(ctx, who); return err }(),
		"remove":   w.RemoveFactor(ctx, who), "remove of": w.RemoveFactorOf(ctx, who.UserID),
		"sign in": func() error { _, err := w.SignInFactor(ctx, auth.Client{}, "c", "123456"); return err }(),
	} {
		assert.ErrorIs(t, err, auth.ErrFactorsOff, name)
	}
	require.NoError(t, w.ProveAgain(ctx, who, password, ""))
}

func TestKeysOfSecondFactorsRotate(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	a, codes := w.secondFactor(who)
	old, fresh := w.cfg.FactorKeys[0], auth.NewFactorKey()
	with := func(keys ...[]byte) *auth.Service {
		cfg := w.cfg
		cfg.FactorKeys = keys
		s, err := auth.New(cfg)
		require.NoError(t, err)
		return s
	}
	in := func(s *auth.Service, code string) error {
		_, err := s.SignIn(ctx, auth.Client{}, ada, password)
		asked, ok := errors.AsType[*auth.FactorRequired](err)
		require.True(t, ok)
		_, err = s.SignInFactor(ctx, auth.Client{}, asked.Challenge, code)
		return err
	}
	require.NoError(t, in(with(fresh, old), a.code(w.clock.Now())))
	w.clock.Advance(30 * time.Second)
	require.NoError(t, in(with(fresh), a.code(w.clock.Now())), "what was used since is sealed with the new key")
	w.clock.Advance(30 * time.Second)
	err := in(with(old), a.code(w.clock.Now()))
	require.Equal(t, fault.Unavailable, fault.KindOf(err), "a key that is missing is not a wrong code: %v", err)
	require.NoError(t, in(with(old), codes[0]), "recovery codes need no key")
}

func TestASignInThatIsUnderWayDoesNotOutrunASecondFactor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	w.account(ada)
	_, who := w.signIn(ada, password)
	made, err := w.AddTOTP(ctx, who)
	require.NoError(t, err)
	late := &lateFactors{FactorStore: w.cfg.Factors}
	cfg := w.cfg
	cfg.Factors = late
	s, err := auth.New(cfg)
	require.NoError(t, err)
	late.after = func() { // between the first look and the session
		_, err := w.ConfirmTOTP(ctx, who, newApp(t, made.Secret).code(w.clock.Now()))
		assert.NoError(t, err)
	}
	_, err = s.SignIn(ctx, auth.Client{}, ada, password)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	sessions, err := w.MySessions(ctx, who)
	require.NoError(t, err)
	assert.Len(t, sessions, 1)
}

// lateFactors does something after the first read.
type lateFactors struct {
	auth.FactorStore
	once  sync.Once
	after func()
}

func (l *lateFactors) ByUser(ctx context.Context, id user.ID) (auth.Factor, error) {
	f, err := l.FactorStore.ByUser(ctx, id)
	l.once.Do(l.after)
	return f, err
}

func TestAdministratorsRemoveASecondFactor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := factorWorld(t)
	u := w.account(ada)
	_, who := w.signIn(ada, password)
	require.ErrorIs(t, w.RemoveFactorOf(ctx, u.ID), auth.ErrFactorNotFound)
	require.ErrorIs(t, w.RemoveFactorOf(ctx, "nobody"), user.ErrNotFound)
	w.secondFactor(who)
	state, err := w.FactorOf(ctx, u.ID)
	require.NoError(t, err)
	assert.Equal(t, 10, state.Recovery)
	require.NoError(t, w.RemoveFactorOf(ctx, u.ID))
	var told mail.FactorChanged
	w.last(mail.TypeFactorChanged, &told)
	assert.Equal(t, mail.FactorRemoved, told.Change)
	w.signIn(ada, password)
	quiet := factorWorld(t, func(c *auth.Config) { c.NoFactorMail = true })
	quiet.account(ada)
	_, who = quiet.signIn(ada, password)
	quiet.secondFactor(who)
	assert.NotContains(t, quiet.types(), mail.TypeFactorChanged)
}
