package contract_test

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

var at0 = time.Unix(0, 0)

// codeKeeper and signUpKeeper say that they remove what is a user's.
type codeKeeper struct{ auth.CodeStore }

func (codeKeeper) DeleteOf(context.Context, user.ID) (int, error) { return 2, nil }

func codeFaults() []broken[contract.Codes] {
	breaks := func(f func(s auth.CodeStore) codes) func(contract.Codes) contract.Codes {
		return func(p contract.Codes) contract.Codes {
			c := f(p.Store)
			c.CodeStore, p.Store = p.Store, c
			return p
		}
	}
	return []broken[contract.Codes]{
		{"Use returns the code as it is now", "a code is used once", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				if c.UsedAt.IsZero() {
					c.UsedAt = at
				}
				return c, err
			}}
		})},
		{"a code is used again and again", "one of several uses wins", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				c.UsedAt = time.Time{}
				return c, err
			}}
		})},
		{"an unknown code is not found", "an unknown code is unknown", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				if err != nil {
					err = fault.NotFound
				}
				return c, err
			}}
		})},
		{"hashes are folded", "hashes are exact", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				return s.Use(ctx, lower(hash), at)
			}}
		})},
		{"a taken hash is silent", "a taken hash is refused", breaks(func(s auth.CodeStore) codes {
			return codes{put: func(ctx context.Context, c auth.Code, events ...event.Event) error {
				_ = s.Put(ctx, c, events...)
				return nil
			}}
		})},
		{"events of a code are lost", "put stores its events", breaks(func(s auth.CodeStore) codes {
			return codes{put: func(ctx context.Context, c auth.Code, _ ...event.Event) error { return s.Put(ctx, c) }}
		})},
		{"a code takes its events with it", "a code that is removed leaves its events", func(p contract.Codes) contract.Codes {
			under := p.Store
			p.Store = codes{CodeStore: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return takingEvents(ctx, p.Outbox, under, before)
			}}
			return p
		}},
		{"expired codes are hidden", "an expired code is returned", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				if c.ExpiresAt.Before(at) {
					err = auth.ErrCodeUnknown
				}
				return c, err
			}}
		})},
		{"a user's codes stay", "a user's codes are removed", func(p contract.Codes) contract.Codes {
			p.Store = codeKeeper{p.Store}
			return p
		}},
		{"everything is removed", "expired codes are removed", func(p contract.Codes) contract.Codes {
			under := p.Store
			p.Store = codes{CodeStore: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return under.DeleteExpired(ctx, before.AddDate(1, 0, 0))
			}}
			return p
		}},
	}
}

// takingEvents removes what is expired, and all events with it.
func takingEvents(ctx context.Context, o event.Outbox, under auth.Sweeper, before time.Time) (int, error) {
	n, err := under.DeleteExpired(ctx, before)
	if err != nil || n == 0 {
		return n, err
	}
	return n, loseEvents(ctx, o)
}

func loseEvents(ctx context.Context, o event.Outbox) error {
	pending, err := o.Pending(ctx, 100)
	for _, e := range pending {
		err = errors.Join(err, o.Published(ctx, e.ID))
	}
	return err
}
