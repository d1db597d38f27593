package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// dependencies counts every call of every dependency and fails one of them.
type dependencies struct {
	auth.Config // what works
	n, failAt   int
	err         error
	calls       []string // their names
}

func (d *dependencies) call(name string) error {
	d.calls = append(d.calls, name)
	d.n++
	if d.n == d.failAt {
		return d.err
	}
	return nil
}

func (d *dependencies) Create(ctx context.Context, u user.User, events ...event.Event) error {
	if err := d.call("Users.Create"); err != nil {
		return err
	}
	return d.Users.Create(ctx, u, events...)
}

func (d *dependencies) ByID(ctx context.Context, id user.ID) (user.User, error) {
	if err := d.call("Users.ByID"); err != nil {
		return user.User{}, err
	}
	return d.Users.ByID(ctx, id)
}

func (d *dependencies) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	if err := d.call("Users.ByEmail"); err != nil {
		return user.User{}, err
	}
	return d.Users.ByEmail(ctx, email)
}

func (d *dependencies) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	if err := d.call("Users.Update"); err != nil {
		return user.User{}, err
	}
	return d.Users.Update(ctx, id, change, events...)
}

func (d *dependencies) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	if err := d.call("Codes.Put"); err != nil {
		return err
	}
	return d.Codes.Put(ctx, c, events...)
}

func (d *dependencies) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	if err := d.call("Codes.Use"); err != nil {
		return auth.Code{}, err
	}
	return d.Codes.Use(ctx, hash, at)
}

func (d *dependencies) Hash(ctx context.Context, password string) (string, error) {
	if err := d.call("Hasher.Hash"); err != nil {
		return "", err
	}
	return d.Hasher.Hash(ctx, password)
}

func (d *dependencies) Verify(ctx context.Context, hash, password string) (bool, bool, error) {
	if err := d.call("Hasher.Verify"); err != nil {
		return false, false, err
	}
	return d.Hasher.Verify(ctx, hash, password)
}

func (d *dependencies) Issue(ctx context.Context, c auth.Claims) (string, error) {
	if err := d.call("Issuer.Issue"); err != nil {
		return "", err
	}
	return d.Issuer.Issue(ctx, c)
}

func (d *dependencies) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	if err := d.call("Nonces.Spend"); err != nil {
		return false, err
	}
	return d.Nonces.Spend(ctx, name, expires)
}

func (d *dependencies) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	if err := d.call("Limiter.Allow"); err != nil {
		return 0, err
	}
	return d.Limiter.Allow(ctx, key, r, now)
}

func (d *dependencies) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }

func (d *dependencies) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	if err := d.call("Codes.DeleteOf"); err != nil {
		return 0, err
	}
	return d.Codes.DeleteOf(ctx, id)
}

func (d sessions) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	if err := d.call("Sessions.DeleteOf"); err != nil {
		return 0, err
	}
	return d.Sessions.DeleteOf(ctx, id)
}

func (d signUps) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	if err := d.call("SignUps.DeleteOf"); err != nil {
		return 0, err
	}
	return d.SignUps.DeleteOf(ctx, id)
}

func (d *dependencies) Read(p []byte) (int, error) {
	if err := d.call("Random.Read"); err != nil {
		return 0, err
	}
	return rand.Read(p)
}

// sessions and verifier have names of methods that users and hasher have too.
type sessions struct{ *dependencies }

func (d sessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	if err := d.call("Sessions.Create"); err != nil {
		return err
	}
	return d.Sessions.Create(ctx, s, events...)
}

func (d sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	if err := d.call("Sessions.ByID"); err != nil {
		return auth.Session{}, err
	}
	return d.Sessions.ByID(ctx, id)
}

func (d sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	if err := d.call("Sessions.Update"); err != nil {
		return auth.Session{}, err
	}
	return d.Sessions.Update(ctx, id, change, events...)
}

func (d sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	if err := d.call("Sessions.ByUser"); err != nil {
		return nil, err
	}
	return d.Sessions.ByUser(ctx, id, at, limit)
}

type verifier struct{ *dependencies }

func (d verifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	if err := d.call("Verifier.Verify"); err != nil {
		return auth.Claims{}, err
	}
	return d.Verifier.Verify(ctx, token, audience)
}

// signUps is dependencies as a store of sign-ups, whose methods have the names of others.
type signUps struct{ *dependencies }

func (d signUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	if err := d.call("SignUps.Create"); err != nil {
		return err
	}
	return d.SignUps.Create(ctx, w, keep, events...)
}

func (d signUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	if err := d.call("SignUps.ByID"); err != nil {
		return auth.WaitingSignUp{}, err
	}
	return d.SignUps.ByID(ctx, id)
}

func (d signUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	if err := d.call("SignUps.ByEmail"); err != nil {
		return nil, err
	}
	return d.SignUps.ByEmail(ctx, email)
}

func (d signUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	if err := d.call("SignUps.Confirm"); err != nil {
		return auth.WaitingSignUp{}, err
	}
	return d.SignUps.Confirm(ctx, id, at)
}

// service is a service over d.
func (d *dependencies) service(t *testing.T) *auth.Service {
	t.Helper()
	cfg := d.Config
	cfg.Users, cfg.Codes, cfg.Hasher, cfg.Issuer, cfg.Nonces, cfg.Limiter, cfg.Random = d, d, d, d, d, d, d
	cfg.Sessions, cfg.Verifier, cfg.SignUps = sessions{d}, verifier{d}, signUps{d}
	s, err := auth.New(cfg)
	require.NoError(t, err)
	return s
}

// TestEveryAddressCostsTheSameWork compares what is asked of each dependency, call by call, for an
// address without an account and for one with: nothing that takes time tells them apart.
func TestEveryAddressCostsTheSameWork(t *testing.T) {
	t.Parallel()
	from := auth.Client{Address: "203.0.113.1"}
	classes := map[string]func(*world){
		"nobody":               func(*world) {},
		"an account":           func(w *world) { w.account(ada) },
		"an account of before": func(w *world) { w.earlier(ada, password) },
	}
	for name, do := range map[string]func(s *auth.Service) error{
		"sign-up": func(s *auth.Service) error {
			return s.SignUp(context.Background(), from, auth.SignUp{FullName: "Eve", Email: ada, Password: stolen})
		},
		"sign-up, then sign-in": func(s *auth.Service) error {
			err := s.SignUp(context.Background(), from, auth.SignUp{FullName: "Eve", Email: ada, Password: stolen})
			_, in := s.SignIn(context.Background(), from, ada, stolen)
			if !errors.Is(in, auth.ErrNotVerified) {
				return fmt.Errorf("the sign-in ended with %w", in)
			}
			return err
		},
		"sign-up, then resend": func(s *auth.Service) error {
			return errors.Join(
				s.SignUp(context.Background(), from, auth.SignUp{FullName: "Eve", Email: ada, Password: stolen}),
				s.ResendVerification(context.Background(), from, ada))
		},
		"sign-in": func(s *auth.Service) error {
			_, err := s.SignIn(context.Background(), from, ada, stolen)
			if errors.Is(err, auth.ErrInvalidCredentials) {
				return nil
			}
			return err
		},
		"forgotten": func(s *auth.Service) error { return s.ForgotPassword(context.Background(), from, ada) },
		"forgotten too often": func(s *auth.Service) error {
			var errs []error
			for range 5 {
				errs = append(errs, s.ForgotPassword(context.Background(), from, ada))
			}
			return errors.Join(errs...)
		},
		"resend": func(s *auth.Service) error { return s.ResendVerification(context.Background(), from, ada) },
		"resend too often": func(s *auth.Service) error {
			var errs []error
			for range 5 {
				errs = append(errs, s.ResendVerification(context.Background(), from, ada))
			}
			return errors.Join(errs...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := map[string][]string{}
			committed := map[string]int64{}
			for class, prepare := range classes {
				if class == "an account of before" && name == "sign-up, then resend" {
					continue // that one waits too, and so gets a mail of its own
				}
				w := newWorld(t, func(c *auth.Config) { c.MailRate = auth.Rate{Burst: 3, Per: time.Hour} })
				prepare(w)
				d := &dependencies{Config: w.cfg}
				before := w.committed.Load()
				require.NoError(t, do(d.service(t)), class)
				calls[class], committed[class] = d.calls, w.committed.Load()-before
				require.NotEmpty(t, d.calls)
			}
			for class := range calls {
				require.Equal(t, calls["nobody"], calls[class], class)
				require.Equal(t, committed["nobody"], committed[class], class)
			}
		})
	}
}

// TestEveryFailureIsUnavailable fails each call of each dependency, one at a time, with errors
// that a vendor might return. The caller hears that something does not answer, and nothing of
// what a store calls a conflict or not found.
func TestEveryFailureIsUnavailable(t *testing.T) {
	t.Parallel()
	from := auth.Client{Address: "203.0.113.1"}
	// prepare returns the call to be tested; the service in it is the one that fails.
	for name, prepare := range map[string]func(w *world) func(*auth.Service) error{
		"SignUp": func(*world) func(*auth.Service) error {
			return func(s *auth.Service) error {
				return s.SignUp(context.Background(), from, auth.SignUp{FullName: "Ada", Email: ada, Password: password})
			}
		},
		"SignUp again": func(w *world) func(*auth.Service) error {
			w.account(ada)
			return func(s *auth.Service) error {
				return s.SignUp(context.Background(), from, auth.SignUp{FullName: "Ada", Email: ada, Password: password})
			}
		},
		"Verify": func(w *world) func(*auth.Service) error {
			code := w.signUp(ada)
			return func(s *auth.Service) error { return s.Verify(context.Background(), code) }
		},
		"ResendVerification": func(w *world) func(*auth.Service) error {
			w.signUp(ada)
			return func(s *auth.Service) error { return s.ResendVerification(context.Background(), from, ada) }
		},
		"ForgotPassword": func(w *world) func(*auth.Service) error {
			w.account(ada)
			return func(s *auth.Service) error { return s.ForgotPassword(context.Background(), from, ada) }
		},
		"ForgotPassword of nobody": func(*world) func(*auth.Service) error {
			return func(s *auth.Service) error { return s.ForgotPassword(context.Background(), from, ada) }
		},
		"SignIn": func(w *world) func(*auth.Service) error {
			w.account(ada)
			return func(s *auth.Service) error {
				_, err := s.SignIn(context.Background(), from, ada, password)
				return err
			}
		},
		"Refresh": func(w *world) func(*auth.Service) error {
			w.account(ada)
			g, _ := w.signIn(ada, password)
			return func(s *auth.Service) error { _, err := s.Refresh(context.Background(), g.RefreshToken); return err }
		},
		"Authenticate": func(w *world) func(*auth.Service) error {
			w.account(ada)
			g, _ := w.signIn(ada, password)
			return func(s *auth.Service) error { _, err := s.Authenticate(context.Background(), g.AccessToken); return err }
		},
		"tickets": func(w *world) func(*auth.Service) error {
			w.account(ada)
			_, who := w.signIn(ada, password)
			return func(s *auth.Service) error {
				ticket, _, err := s.SocketTicket(context.Background(), who)
				if err != nil {
					return err
				}
				_, err = s.RedeemTicket(context.Background(), ticket)
				return err
			}
		},
		"SignOutAll": func(w *world) func(*auth.Service) error {
			w.account(ada)
			_, who := w.signIn(ada, password)
			return func(s *auth.Service) error { return s.SignOutAll(context.Background(), who) }
		},
		"ChangePassword": func(w *world) func(*auth.Service) error {
			w.account(ada)
			w.signIn(ada, password)
			_, who := w.signIn(ada, password)
			return func(s *auth.Service) error {
				return s.ChangePassword(context.Background(), who, password, newPassword)
			}
		},
		"ChangeProfile": func(w *world) func(*auth.Service) error {
			w.account(ada)
			_, who := w.signIn(ada, password)
			name := "Ada King"
			return func(s *auth.Service) error {
				if _, err := s.ChangeProfile(context.Background(), who, auth.ProfileChange{FullName: &name}); err != nil {
					return err
				}
				_, err := s.ChangeProfile(context.Background(), who, auth.ProfileChange{})
				return err
			}
		},
		"RequestEmail": func(w *world) func(*auth.Service) error {
			w.account(ada)
			_, who := w.signIn(ada, password)
			return func(s *auth.Service) error {
				return s.RequestEmail(context.Background(), auth.Client{}, who, newAddress, password)
			}
		},
		"ConfirmEmail": func(w *world) func(*auth.Service) error {
			w.account(ada)
			w.signIn(ada, password)
			_, who := w.signIn(ada, password)
			code := w.newEmail(who, newAddress)
			return func(s *auth.Service) error { _, err := s.ConfirmEmail(context.Background(), who, code); return err }
		},
		"ResetPassword": func(w *world) func(*auth.Service) error {
			w.account(ada)
			w.signIn(ada, password)
			code := w.forgotten(ada)
			return func(s *auth.Service) error { return s.ResetPassword(context.Background(), code, newPassword) }
		},
		"RenewMail": func(w *world) func(*auth.Service) error {
			w.signUp(ada)
			var data mail.UserCreated
			j := mail.Job{Kind: mail.KindVerification, Data: w.last(mail.TypeUserCreated, &data).Data}
			w.clock.Advance(48 * time.Hour)
			return func(s *auth.Service) error { _, err := s.RenewMail(context.Background(), j); return err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, vendor := range []error{
				errors.New("broken pipe"), fault.Wrap(fault.Conflict, errors.New("serialization failure")),
				fault.Wrap(fault.Unavailable, errors.New("down")), context.DeadlineExceeded,
			} {
				for n := 1; ; n++ {
					w := newWorld(t)
					call := prepare(w)
					d := &dependencies{Config: w.cfg, failAt: n, err: vendor}
					err := call(d.service(t))
					if d.n < n {
						require.NoError(t, err)
						require.Greater(t, n, 2, "nothing was called")
						break
					}
					require.ErrorIs(t, err, vendor, "call %d", n)
					require.Equal(t, fault.Unavailable, fault.KindOf(err), "call %d: %v", n, err)
					require.Equal(t, "unavailable", fault.Public(err).Code)
				}
			}
		})
	}
}

func TestRenewMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signUp(ada)
	var old mail.UserCreated
	verification := mail.Job{ID: "j1", Kind: mail.KindVerification, Data: w.last(mail.TypeUserCreated, &old).Data}
	const bob = "bob@example.com"
	w.account(bob)
	code := w.forgotten(bob)
	var forgotten mail.PasswordForgotten
	reset := mail.Job{ID: "j2", Kind: mail.KindPasswordReset, Data: w.last(mail.TypePasswordForgotten, &forgotten).Data}

	for _, j := range []mail.Job{verification, reset, {Kind: mail.KindAddressTaken, Data: []byte("{}")}, {Kind: "poem"}} {
		data, err := w.RenewMail(t.Context(), j)
		require.NoError(t, err)
		require.Nil(t, data, "%s: a code that is good stays", j.Kind)
	}
	w.clock.Advance(48 * time.Hour)
	require.ErrorIs(t, w.Verify(t.Context(), old.VerificationCode), auth.ErrCodeGone)
	data, err := w.RenewMail(t.Context(), verification)
	require.NoError(t, err)
	fresh := decoded[mail.UserCreated](t, data)
	require.Equal(t, w.clock.Now().UTC().Truncate(time.Microsecond).Add(24*time.Hour), fresh.ExpiresAt)
	require.Equal(t, ada, fresh.Email)
	require.NoError(t, w.Verify(t.Context(), fresh.VerificationCode))

	require.ErrorIs(t, w.ResetPassword(t.Context(), code, newPassword), auth.ErrCodeGone)
	data, err = w.RenewMail(t.Context(), reset)
	require.NoError(t, err)
	require.NoError(t, w.ResetPassword(t.Context(), decoded[mail.PasswordForgotten](t, data).ResetCode, newPassword))

	_, err = w.RenewMail(t.Context(), verification)
	require.ErrorIs(t, err, mail.ErrNotNeeded, "there is nothing left to verify")
	require.Equal(t, "the address is confirmed by now", fault.Public(err).Detail)
	for _, broken := range []string{"", "[]"} {
		data, err = w.RenewMail(t.Context(), mail.Job{Kind: mail.KindVerification, Data: []byte(broken)})
		require.NoError(t, err)
		require.Nil(t, data)
	}
	for kind, why := range map[mail.Kind]string{mail.KindVerification: "there is no such user", mail.KindEmailChange: "the code for a new address has expired; the user asks again"} {
		_, err = w.RenewMail(t.Context(), mail.Job{Kind: kind, Data: []byte(`{"userId":"nobody"}`)})
		require.ErrorIs(t, err, mail.ErrNotNeeded)
		require.Equal(t, why, fault.Public(err).Detail)
	}
}
