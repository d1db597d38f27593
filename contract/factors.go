package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Factors is the port of [FactorStore]: a store, and the outbox that gets the events of its changes.
type Factors struct {
	Store  auth.FactorStore
	Outbox event.Outbox
}

// FactorStore checks auth.FactorStore.
func FactorStore() []Case[Factors] {
	return suite("FactorStore", []promise[Factors]{
		{"a stored factor is read back", "ByUser returns the user's factor as it was stored last, with every field as it is. Every time is UTC, to the microsecond.", factorsStored},
		{"nobody has a factor at first", "ByUser returns a Factor that is zero but for UserID if none was stored.", factorsAbsent},
		{"a factor is taken away", "ByUser returns the user's factor as it was stored last, with every field as it is.", factorsTaken},
		{"users are exact", "Two IDs are the same only if they have the same bytes.", factorsExact},
		{"update edits what is stored", "Update lets change edit a copy of what ByUser returns, and stores it durably. Update returns the stored factor.", factorsUpdate},
		{"the user of a factor stays", "Update refuses a change of UserID by an error of kind Invalid.", factorsUser},
		{"a failed change stores nothing", "An error of change stores nothing and is returned as it is.", factorsFail},
		{"update stores its events", "Update puts events into the outbox in the commit that stores the factor: both are stored, or neither is.", factorsEvents},
		{"one of several first updates wins", "Of concurrent updates that each expect what the other changes, exactly one finds it.", factorsFirst},
		{"a code is taken once", "Of concurrent updates that each expect what the other changes, exactly one finds it.", factorsStep},
		{"a recovery code is used once", "Of concurrent updates that each expect what the other changes, exactly one finds it.", factorsRecovery},
		{"the factor of a user is removed", "DeleteOf removes what is of the user, expired and used or not, and returns how many. What is of others stays. Removing nothing is no error.", factorsErase},
		{"an ended context does all or nothing", "A call whose context has ended has done all of its work, or nothing.", factorsEnded},
	})
}

func factor(n int) auth.Factor {
	f := auth.Factor{
		UserID: user.ID(fmt.Sprintf("user-%d", n)), Secret: []byte{0, 1, 0xff, 0xfe, '\n', byte(n)}, CreatedAt: at(n), ConfirmedAt: at(n + 1), LastStep: int64(57_000_000 + n),
	}
	for i := range auth.RecoveryCodes {
		f.Recovery = append(f.Recovery, fmt.Sprintf("%063d%x", n, i))
	}
	return f
}

func storeFactors(ctx context.Context, p Factors, factors ...auth.Factor) error {
	for _, f := range factors {
		got, err := p.Store.Update(ctx, f.UserID, func(x *auth.Factor) error { *x = copyFactor(f); return nil })
		if err == nil {
			err = same(got, f)
		}
		if err != nil {
			return fmt.Errorf("Update(%q): %w", f.UserID, err)
		}
	}
	return nil
}

func copyFactor(f auth.Factor) auth.Factor {
	f.Secret, f.Recovery = slices.Clone(f.Secret), slices.Clone(f.Recovery)
	return f
}

func wantFactor(ctx context.Context, p Factors, want auth.Factor) error {
	got, err := p.Store.ByUser(ctx, want.UserID)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("ByUser(%q)", want.UserID), err)
}

func factorsStored(ctx context.Context, p Factors) error {
	pending := auth.Factor{UserID: "pending", Secret: []byte("sealed"), CreatedAt: at(5)}
	return first(
		func() error { return storeFactors(ctx, p, factor(1), factor(2), pending) },
		func() error { return wantFactor(ctx, p, factor(1)) },
		func() error { return wantFactor(ctx, p, factor(2)) },
		func() error { return wantFactor(ctx, p, pending) },
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error { return wantFactor(ctx, p, factor(1)) },
	)
}

func factorsAbsent(ctx context.Context, p Factors) error {
	return first(
		func() error { return wantFactor(ctx, p, auth.Factor{UserID: "nobody"}) },
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error { return wantFactor(ctx, p, auth.Factor{UserID: "nobody"}) },
	)
}

func factorsTaken(ctx context.Context, p Factors) error {
	none := auth.Factor{UserID: factor(1).UserID}
	return first(
		func() error { return storeFactors(ctx, p, factor(1), factor(2), none) },
		func() error { return wantFactor(ctx, p, none) },
		func() error { return wantFactor(ctx, p, factor(2)) },
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error { return wantFactor(ctx, p, factor(1)) },
	)
}

func factorsExact(ctx context.Context, p Factors) error {
	ids := []user.ID{"abc", "ABC", "Abc", "abcd", "a%c", "a_c"}
	for n, id := range ids {
		f := factor(n)
		f.UserID = id
		if err := storeFactors(ctx, p, f); err != nil {
			return err
		}
	}
	for n, id := range ids {
		f := factor(n)
		f.UserID = id
		if err := wantFactor(ctx, p, f); err != nil {
			return err
		}
	}
	return wantFactor(ctx, p, auth.Factor{UserID: "aBC"})
}

func factorsUpdate(ctx context.Context, p Factors) error {
	want := factor(1)
	want.LastStep++
	want.Recovery = slices.Delete(slices.Clone(want.Recovery), 3, 4)
	return first(
		func() error { return storeFactors(ctx, p, factor(1), factor(2)) },
		func() error {
			got, err := p.Store.Update(ctx, want.UserID, func(f *auth.Factor) error {
				if err := same(copyFactor(*f), factor(1)); err != nil {
					return err
				}
				f.LastStep++
				f.Recovery = slices.Delete(f.Recovery, 3, 4)
				return nil
			})
			if err == nil {
				err = same(got, want)
			}
			return during("Update", err)
		},
		func() error { return wantFactor(ctx, p, want) },
		func() error { return wantFactor(ctx, p, factor(2)) },
	)
}

func factorsUser(ctx context.Context, p Factors) error {
	return first(
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error {
			_, err := p.Store.Update(ctx, factor(1).UserID, func(f *auth.Factor) error { f.UserID = "other"; return nil }, happened(1))
			return wantIs("Update of the user", err, fault.Invalid)
		},
		func() error { return wantFactor(ctx, p, factor(1)) },
		func() error { return wantFactor(ctx, p, auth.Factor{UserID: "other"}) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func factorsFail(ctx context.Context, p Factors) error {
	refused := errors.New("refused")
	refuse := func(id user.ID) error {
		_, err := p.Store.Update(ctx, id, func(f *auth.Factor) error {
			f.LastStep, f.Secret, f.Recovery = 1, []byte("other"), nil
			return refused
		}, happened(1))
		if !errors.Is(err, refused) {
			return fmt.Errorf("what Update returned is not the error of change: %w", err)
		}
		return nil
	}
	return first(
		func() error { return refuse(factor(1).UserID) },
		func() error { return wantFactor(ctx, p, auth.Factor{UserID: factor(1).UserID}) },
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error { return refuse(factor(1).UserID) },
		func() error { return wantFactor(ctx, p, factor(1)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}

func factorsEvents(ctx context.Context, p Factors) error {
	put := func(n int, events ...event.Event) error {
		_, err := p.Store.Update(ctx, factor(n).UserID, func(f *auth.Factor) error { *f = factor(n); return nil }, events...)
		return during("Update", err)
	}
	return first(
		func() error { return put(1, happened(3), happened(2)) },
		func() error { return put(2) },
		func() error { return put(1, happened(1)) },
		func() error { return wantPending(ctx, p.Outbox, happened(3), happened(2), happened(1)) },
		func() error {
			return p.Outbox.Published(ctx, happened(3).ID, happened(2).ID, happened(1).ID)
		},
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return wantFactor(ctx, p, factor(1)) },
		func() error { return wantFactor(ctx, p, factor(2)) },
	)
}

// errTooLate says that a change did not find what it expects.
var errTooLate = errors.New("another was first")

func factorsFirst(ctx context.Context, p Factors) error {
	id := factor(1).UserID
	if err := oneWins("Update", errTooLate, together(16, func(i int) error {
		_, err := p.Store.Update(ctx, id, func(f *auth.Factor) error {
			if len(f.Secret) > 0 {
				return errTooLate
			}
			*f = factor(1)
			f.LastStep = int64(i + 1)
			return nil
		}, happened(i))
		return err
	})); err != nil {
		return err
	}
	f, err := p.Store.ByUser(ctx, id)
	if err != nil {
		return during("ByUser", err)
	}
	return wantPending(ctx, p.Outbox, happened(int(f.LastStep-1)))
}

func factorsStep(ctx context.Context, p Factors) error {
	step := factor(1).LastStep + 1
	want := factor(1)
	want.LastStep = step
	return first(
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error {
			return oneWins("Update", errTooLate, together(16, func(int) error {
				_, err := p.Store.Update(ctx, want.UserID, func(f *auth.Factor) error {
					if f.LastStep >= step {
						return errTooLate
					}
					f.LastStep = step
					return nil
				})
				return err
			}))
		},
		func() error { return wantFactor(ctx, p, want) },
	)
}

// factorsRecovery uses each of two codes at once, eight times: both are used, once each.
func factorsRecovery(ctx context.Context, p Factors) error {
	start := factor(1)
	want := copyFactor(start)
	want.Recovery = want.Recovery[2:]
	used := make([]error, 0, 16)
	return first(
		func() error { return storeFactors(ctx, p, start) },
		func() error {
			used = together(16, func(i int) error {
				code := start.Recovery[i%2]
				_, err := p.Store.Update(ctx, start.UserID, func(f *auth.Factor) error {
					at := slices.Index(f.Recovery, code)
					if at < 0 {
						return errTooLate
					}
					f.Recovery = slices.Delete(slices.Clone(f.Recovery), at, at+1)
					return nil
				})
				return err
			})
			for _, code := range []int{0, 1} {
				var of []error
				for i := code; i < len(used); i += 2 {
					of = append(of, used[i])
				}
				if err := oneWins("Update", errTooLate, of); err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return wantFactor(ctx, p, want) },
	)
}

func factorsErase(ctx context.Context, p Factors) error {
	return first(
		func() error { return storeFactors(ctx, p, factor(1), factor(2)) },
		func() error {
			_, err := p.Store.Update(ctx, factor(1).UserID, func(*auth.Factor) error { return nil }, happened(1))
			return during("Update", err)
		},
		func() error { return eraseOf(ctx, p.Store, "nobody", 0) },
		func() error { return eraseOf(ctx, p.Store, factor(1).UserID, 1) },
		func() error { return eraseOf(ctx, p.Store, factor(1).UserID, 0) },
		func() error { return wantFactor(ctx, p, auth.Factor{UserID: factor(1).UserID}) },
		func() error { return wantFactor(ctx, p, factor(2)) },
		func() error { return wantPending(ctx, p.Outbox, happened(1)) },
		func() error { return storeFactors(ctx, p, factor(1)) },
		func() error { return p.Outbox.Published(ctx, happened(1).ID) },
		func() error { return wantPending(ctx, p.Outbox) },
		func() error { return wantFactor(ctx, p, factor(1)) },
	)
}

func factorsEnded(ctx context.Context, p Factors) error {
	if err := storeFactors(ctx, p, factor(1)); err != nil {
		return err
	}
	other := factor(1)
	other.LastStep, other.ConfirmedAt = 7, at(70).Add(time.Microsecond)
	_, err := p.Store.Update(ended(ctx), other.UserID, func(f *auth.Factor) error { *f = copyFactor(other); return nil }, happened(1))
	if err == nil {
		return first(
			func() error { return wantFactor(ctx, p, other) },
			func() error { return wantPending(ctx, p.Outbox, happened(1)) },
		)
	}
	return first(
		func() error { return wantFactor(ctx, p, factor(1)) },
		func() error { return wantPending(ctx, p.Outbox) },
	)
}
