package contract_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

type signUpKeeper struct{ auth.SignUps }

func (signUpKeeper) DeleteOf(context.Context, user.ID) (int, error) { return 2, nil }

func signUpFaults() []broken[contract.WaitingSignUps] {
	breaks := func(f func(s auth.SignUps) signUps) func(contract.WaitingSignUps) contract.WaitingSignUps {
		return func(p contract.WaitingSignUps) contract.WaitingSignUps {
			c := f(p.Store)
			c.SignUps, p.Store = p.Store, c
			return p
		}
	}
	creates := func(f func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error) func(contract.WaitingSignUps) contract.WaitingSignUps {
		return breaks(func(s auth.SignUps) signUps {
			return signUps{create: func(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
				return f(s, ctx, w, keep, events)
			}}
		})
	}
	confirms := func(f func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error)) func(contract.WaitingSignUps) contract.WaitingSignUps {
		return breaks(func(s auth.SignUps) signUps {
			return signUps{confirm: func(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
				return f(s, ctx, id, at)
			}}
		})
	}
	return []broken[contract.WaitingSignUps]{
		{"where it came from is lost", "a sign-up is read back", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			w.Network = ""
			return s.Create(ctx, w, keep, events...)
		})},
		{"the language is lost", "a sign-up is read back", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			w.Language = ""
			return s.Create(ctx, w, keep, events...)
		})},
		{"an unknown sign-up is empty", "an unknown sign-up is not found", breaks(func(s auth.SignUps) signUps {
			return signUps{byID: func(ctx context.Context, id string) (auth.WaitingSignUp, error) {
				w, _ := s.ByID(ctx, id)
				return w, nil
			}}
		})},
		{"names are cut", "long and foreign values are kept", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			w.FullName = w.FullName[:min(len(w.FullName), 64)]
			return s.Create(ctx, w, keep, events...)
		})},
		{"identifiers are folded", "identifiers and addresses are exact", breaks(func(s auth.SignUps) signUps {
			return signUps{byID: func(ctx context.Context, id string) (auth.WaitingSignUp, error) { return s.ByID(ctx, lower(id)) }}
		})},
		{"a taken id is silent", "a taken id is refused", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			if err := s.Create(ctx, w, keep, events...); !errors.Is(err, fault.Conflict) {
				return err
			}
			return nil
		})},
		{"everybody creates", "one of several creates wins", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			_ = s.Create(ctx, w, keep, events...)
			return nil
		})},
		{"the newest comes first", "an address has several, oldest first", breaks(func(s auth.SignUps) signUps {
			return signUps{byEmail: func(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
				all, err := s.ByEmail(ctx, email)
				slices.Reverse(all)
				return all, err
			}}
		})},
		{"an address has one", "an address has several, oldest first", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, _ int, events []event.Event) error {
			return s.Create(ctx, w, 1, events...)
		})},
		{"all stay", "the newest stay", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, _ int, events []event.Event) error {
			return s.Create(ctx, w, 1000, events...)
		})},
		{"the new one goes when its clock is behind", "a sign-up of an older clock stays", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			all, err := s.ByEmail(ctx, w.Email)
			if err == nil && len(all) >= keep && w.CreatedAt.Before(all[0].CreatedAt) {
				return nil
			}
			return errors.Join(err, s.Create(ctx, w, keep, events...))
		})},
		{"events of a sign-up are lost", "create stores its events", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, _ []event.Event) error {
			return s.Create(ctx, w, keep)
		})},
		{"a sign-up takes its events with it", "a sign-up that is removed leaves its events", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			under := p.Store
			p.Store = signUps{SignUps: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return takingEvents(ctx, p.Outbox, under, before)
			}}
			return p
		}},
		{"events come without a sign-up", "a refused create stores no event", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			under := p.Store
			p.Store = signUps{SignUps: under, create: func(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
				err := under.Create(ctx, w, keep, events...)
				if errors.Is(err, fault.Conflict) {
					w.ID, w.Email = "another", "another@example.com"
					_ = under.Create(ctx, w, keep, events...)
				}
				return err
			}}
			return p
		}},
		{"Confirm returns the sign-up as it is now", "a sign-up is confirmed once", confirms(func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
			w, err := s.Confirm(ctx, id, at)
			if w.ConfirmedAt.IsZero() {
				w.ConfirmedAt = at
			}
			return w, err
		})},
		{"a sign-up is confirmed again and again", "one of several confirmations wins", confirms(func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
			w, err := s.Confirm(ctx, id, at)
			w.ConfirmedAt = time.Time{}
			return w, err
		})},
		{"expired sign-ups are hidden", "expired sign-ups are returned", confirms(func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
			w, err := s.Confirm(ctx, id, at)
			if err == nil && w.ExpiresAt.Before(at) {
				err = auth.ErrSignUpNotFound
			}
			return w, err
		})},
		{"a user's sign-ups stay", "a user's sign-ups are removed", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			p.Store = signUpKeeper{p.Store}
			return p
		}},
		{"everything is removed", "expired sign-ups are removed", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			under := p.Store
			p.Store = signUps{SignUps: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return under.DeleteExpired(ctx, before.AddDate(1, 0, 0))
			}}
			return p
		}},
		{"an ended context does not matter", "an ended context stores nothing", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			return s.Create(context.WithoutCancel(ctx), w, keep, events...)
		})},
	}
}
