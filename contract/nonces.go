package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/auth"
)

// Nonces checks auth.Nonces.
func Nonces() []Case[auth.Nonces] {
	return suite("Nonces", []promise[auth.Nonces]{
		{"a name is spent once", "Spend returns true for the first call with this name. Spend returns false for every later call, at least until the expiry that the first one gave.", noncesOnce},
		{"a later expiry changes nothing", "Spend returns false for every later call, at least until the expiry that the first one gave.", noncesExpiry},
		{"names are exact", "Two names are the same only if they have the same bytes, however long they are.", noncesExact},
		{"one of several calls wins", "Of several concurrent calls with one name, exactly one gets true.", noncesRace},
		{"long names are names", "Two names are the same only if they have the same bytes, however long they are.", noncesLong},
	})
}

// spend wants the given answer.
func spend(ctx context.Context, p auth.Nonces, name string, expires time.Time, want bool) error {
	got, err := p.Spend(ctx, name, expires)
	if err == nil && got != want {
		err = fmt.Errorf("it returned %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Spend(%q)", clip(name)), err)
}

func noncesOnce(ctx context.Context, p auth.Nonces) error {
	return first(
		func() error { return spend(ctx, p, "a", at(100), true) },
		func() error { return spend(ctx, p, "b", at(100), true) },
		func() error { return spend(ctx, p, "a", at(100), false) },
		func() error { return spend(ctx, p, "b", at(100), false) },
		func() error { return spend(ctx, p, "a", at(100), false) },
	)
}

func noncesExpiry(ctx context.Context, p auth.Nonces) error {
	return first(
		func() error { return spend(ctx, p, "a", at(100), true) },
		func() error { return spend(ctx, p, "a", at(5000), false) },
		func() error { return spend(ctx, p, "a", past, false) },
		func() error { return spend(ctx, p, "a", at(100), false) },
	)
}

func noncesExact(ctx context.Context, p auth.Nonces) error {
	for _, want := range []bool{true, false} {
		for _, name := range names {
			if err := spend(ctx, p, name, at(100), want); err != nil {
				return err
			}
		}
	}
	return nil
}

func noncesRace(ctx context.Context, p auth.Nonces) error {
	spent := errors.New("spent already")
	return oneWins("Spend", spent, together(16, func(int) error {
		ok, err := p.Spend(ctx, "same", at(100))
		if err == nil && !ok {
			err = spent
		}
		return err
	}))
}

func noncesLong(ctx context.Context, p auth.Nonces) error {
	name := strings.Repeat("n", 199)
	return first(
		func() error { return spend(ctx, p, name+"1", at(100), true) },
		func() error { return spend(ctx, p, name+"2", at(100), true) },
		func() error { return spend(ctx, p, name+"1", at(100), false) },
		func() error { return spend(ctx, p, name+"2", at(100), false) },
	)
}
