package contract_test

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/auth"
)

func nonceFaults() []broken[auth.Nonces] {
	breaks := func(f func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error)) func(auth.Nonces) auth.Nonces {
		return func(under auth.Nonces) auth.Nonces {
			return nonces(func(ctx context.Context, name string, expires time.Time) (bool, error) {
				return f(under, ctx, name, expires)
			})
		}
	}
	return []broken[auth.Nonces]{
		{"names are spent for ever and ever", "a name is spent once", breaks(func(auth.Nonces, context.Context, string, time.Time) (bool, error) { return true, nil })},
		{"nothing can be spent", "a name is spent once", breaks(func(auth.Nonces, context.Context, string, time.Time) (bool, error) { return false, nil })},
		{"a later expiry makes a new name", "a later expiry changes nothing", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			return n.Spend(ctx, name+expires.String(), expires)
		})},
		{"names are folded", "names are exact", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			return n.Spend(ctx, lower(name), expires)
		})},
		{"names are cut", "long names are names", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			return n.Spend(ctx, name[:min(len(name), 100)], expires)
		})},
		{"everybody wins", "one of several calls wins", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			_, err := n.Spend(ctx, name, expires)
			return true, err
		})},
	}
}
