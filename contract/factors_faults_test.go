package contract_test

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func openFactors() contract.Factors {
	s := memory.NewStore()
	return contract.Factors{Store: s.Factors, Outbox: s.Outbox}
}

type (
	readFactor   = func(context.Context, user.ID) (auth.Factor, error)
	changeFactor = func(context.Context, user.ID, func(*auth.Factor) error, ...event.Event) (auth.Factor, error)
)

// factors is a store in whose place a test does something else.
type factors struct {
	auth.FactorStore
	byUser   readFactor
	update   changeFactor
	deleteOf func(context.Context, user.ID) (int, error)
}

func (f factors) ByUser(ctx context.Context, id user.ID) (auth.Factor, error) {
	if f.byUser == nil {
		return f.FactorStore.ByUser(ctx, id)
	}
	return f.byUser(ctx, id)
}

func (f factors) Update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
	if f.update == nil {
		return f.FactorStore.Update(ctx, id, change, events...)
	}
	return f.update(ctx, id, change, events...)
}

func (f factors) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	if f.deleteOf == nil {
		return f.FactorStore.DeleteOf(ctx, id)
	}
	return f.deleteOf(ctx, id)
}

func factorFaults() []broken[contract.Factors] {
	breaks := func(f func(s auth.FactorStore) factors) func(contract.Factors) contract.Factors {
		return func(p contract.Factors) contract.Factors {
			x := f(p.Store)
			x.FactorStore, p.Store = p.Store, x
			return p
		}
	}
	// loses stores something else than what was to be stored.
	loses := func(lose func(*auth.Factor)) func(contract.Factors) contract.Factors {
		return breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				return s.Update(ctx, id, func(f *auth.Factor) error {
					err := change(f)
					lose(f)
					return err
				}, events...)
			}}
		})
	}
	// apart reads and writes as two steps, between which others come: the first time, or later.
	apart := func(first bool) func(contract.Factors) contract.Factors {
		return breaks(func(s auth.FactorStore) factors {
			var mu sync.Mutex
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				mu.Lock()
				old, err := s.ByUser(ctx, id)
				mu.Unlock()
				if err != nil {
					return auth.Factor{}, err
				}
				if first != (len(old.Secret) == 0) {
					return s.Update(ctx, id, change, events...)
				}
				for range 100 { // so that others read the same
					runtime.Gosched()
				}
				if err := change(&old); err != nil {
					return auth.Factor{}, err
				}
				return s.Update(ctx, id, func(f *auth.Factor) error { *f = old; return nil }, events...)
			}}
		})
	}
	return []broken[contract.Factors]{
		{"the secret is text", "a stored factor is read back", loses(func(f *auth.Factor) { f.Secret = []byte(string([]rune(string(f.Secret)))) })},
		{"the times lose their microseconds", "a stored factor is read back", loses(func(f *auth.Factor) { f.ConfirmedAt = f.ConfirmedAt.Truncate(time.Second) })},
		{"when it was made is lost", "a stored factor is read back", loses(func(f *auth.Factor) { f.CreatedAt = f.ConfirmedAt })},
		{"the last step has 16 bits", "a stored factor is read back", loses(func(f *auth.Factor) { f.LastStep &= 0xffff })},
		{"a recovery code is lost", "a stored factor is read back", loses(func(f *auth.Factor) { f.Recovery = f.Recovery[:max(len(f.Recovery)-1, 0)] })},
		{"nobody is an error", "nobody has a factor at first", breaks(func(s auth.FactorStore) factors {
			return factors{byUser: func(ctx context.Context, id user.ID) (auth.Factor, error) {
				f, err := s.ByUser(ctx, id)
				if err == nil && f.CreatedAt.IsZero() {
					err = auth.ErrFactorNotFound
				}
				return f, err
			}}
		})},
		{"nobody has no name", "nobody has a factor at first", breaks(func(s auth.FactorStore) factors {
			return factors{byUser: func(ctx context.Context, id user.ID) (auth.Factor, error) {
				f, err := s.ByUser(ctx, id)
				if f.CreatedAt.IsZero() {
					f.UserID = ""
				}
				return f, err
			}}
		})},
		{"a factor is never taken away", "a factor is taken away", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				return s.Update(ctx, id, func(f *auth.Factor) error {
					old := *f
					err := change(f)
					if err == nil && len(f.Secret) == 0 {
						*f = old
					}
					return err
				}, events...)
			}}
		})},
		{"users are folded", "users are exact", breaks(func(s auth.FactorStore) factors {
			folds := func(f auth.Factor, id user.ID) auth.Factor { f.UserID = id; return f }
			return factors{
				byUser: func(ctx context.Context, id user.ID) (auth.Factor, error) {
					f, err := s.ByUser(ctx, user.ID(lower(string(id))))
					return folds(f, id), err
				},
				update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
					low := user.ID(lower(string(id)))
					f, err := s.Update(ctx, low, func(f *auth.Factor) error {
						f.UserID = id
						err := change(f)
						if f.UserID == id {
							f.UserID = low
						}
						return err
					}, events...)
					return folds(f, id), err
				},
			}
		})},
		{"change sees nothing", "update edits what is stored", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				return s.Update(ctx, id, func(f *auth.Factor) error {
					*f = auth.Factor{UserID: id}
					return change(f)
				}, events...)
			}}
		})},
		{"update returns what was there", "update edits what is stored", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				old, _ := s.ByUser(ctx, id)
				_, err := s.Update(ctx, id, change, events...)
				return old, err
			}}
		})},
		{"the user may change", "the user of a factor stays", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				return s.Update(ctx, id, func(f *auth.Factor) error {
					err := change(f)
					f.UserID = id
					return err
				}, events...)
			}}
		})},
		{"an error of change is another", "a failed change stores nothing", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				f, err := s.Update(ctx, id, change, events...)
				if err != nil {
					err = fault.Unavailable
				}
				return f, err
			}}
		})},
		{"a failed change is stored", "a failed change stores nothing", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				var failed error
				f, err := s.Update(ctx, id, func(f *auth.Factor) error { failed = change(f); return nil }, events...)
				if failed != nil {
					err = failed
				}
				return f, err
			}}
		})},
		{"events of a factor are lost", "update stores its events", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, _ ...event.Event) (auth.Factor, error) {
				return s.Update(ctx, id, change)
			}}
		})},
		{"several are first", "one of several first updates wins", apart(true)},
		{"a code is taken twice", "a code is taken once", apart(false)},
		{"a recovery code is used twice", "a recovery code is used once", apart(false)},
		{"a factor stays", "the factor of a user is removed", breaks(func(auth.FactorStore) factors {
			return factors{deleteOf: func(context.Context, user.ID) (int, error) { return 1, nil }}
		})},
		{"all factors go", "the factor of a user is removed", breaks(func(s auth.FactorStore) factors {
			return factors{deleteOf: func(ctx context.Context, id user.ID) (int, error) {
				n, err := s.DeleteOf(ctx, id)
				if err == nil && n > 0 {
					_, err = s.DeleteOf(ctx, "user-2")
				}
				return n, err
			}}
		})},
		{"half of the work is done", "an ended context does all or nothing", breaks(func(s auth.FactorStore) factors {
			return factors{update: func(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
				if ctx.Err() == nil {
					return s.Update(ctx, id, change, events...)
				}
				_, err := s.Update(context.WithoutCancel(ctx), id, change)
				if err == nil {
					err = ctx.Err()
				}
				return auth.Factor{}, err
			}}
		})},
	}
}
