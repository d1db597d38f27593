package contract_test

import (
	"context"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/auth"
)

func hasherFaults() []broken[auth.Hasher] {
	breaks := func(f func(h auth.Hasher) hasher) func(auth.Hasher) auth.Hasher {
		return func(under auth.Hasher) auth.Hasher {
			h := f(under)
			h.Hasher = under
			return h
		}
	}
	cut := func(n int) func(auth.Hasher) auth.Hasher {
		return breaks(func(under auth.Hasher) hasher {
			return hasher{
				hash: func(ctx context.Context, p string) (string, error) { return under.Hash(ctx, p[:min(len(p), n)]) },
				verify: func(ctx context.Context, h, p string) (bool, bool, error) {
					return under.Verify(ctx, h, p[:min(len(p), n)])
				},
			}
		})
	}
	upToNUL := func(p string) string { p, _, _ = strings.Cut(p, "\x00"); return p }
	return []broken[auth.Hasher]{
		{"passwords are cut at 72 bytes", "long passwords count to the last byte", cut(72)},
		{"passwords end at NUL", "any bytes are a password", breaks(func(under auth.Hasher) hasher {
			return hasher{
				hash: func(ctx context.Context, p string) (string, error) { return under.Hash(ctx, upToNUL(p)) },
				verify: func(ctx context.Context, h, p string) (bool, bool, error) {
					return under.Verify(ctx, h, upToNUL(p))
				},
			}
		})},
		{"every password matches", "another password does not match", breaks(func(auth.Hasher) hasher {
			return hasher{verify: func(context.Context, string, string) (bool, bool, error) { return true, false, nil }}
		})},
		{"case does not matter", "another password does not match", breaks(func(under auth.Hasher) hasher {
			return hasher{
				hash:   func(ctx context.Context, p string) (string, error) { return under.Hash(ctx, lower(p)) },
				verify: func(ctx context.Context, h, p string) (bool, bool, error) { return under.Verify(ctx, h, lower(p)) },
			}
		})},
		{"no password matches", "a password matches its hash", breaks(func(auth.Hasher) hasher {
			return hasher{verify: func(context.Context, string, string) (bool, bool, error) { return false, false, nil }}
		})},
		{"there is no salt", "every hash has a fresh salt", breaks(func(under auth.Hasher) hasher {
			var mu sync.Mutex
			made := map[string]string{}
			return hasher{hash: func(ctx context.Context, p string) (h string, err error) {
				mu.Lock()
				defer mu.Unlock()
				if made[p] == "" {
					made[p], err = under.Hash(ctx, p)
				}
				return made[p], err
			}}
		})},
		{"the hash is the password", "a hash does not hold the password", breaks(func(auth.Hasher) hasher {
			return hasher{hash: func(_ context.Context, p string) (string, error) { return "plain$" + p, nil }}
		})},
		{"every hash is to be upgraded", "a current hash needs no upgrade", breaks(func(under auth.Hasher) hasher {
			return hasher{verify: func(ctx context.Context, h, p string) (bool, bool, error) {
				ok, _, err := under.Verify(ctx, h, p)
				return ok, true, err
			}}
		})},
		{"an unreadable hash is only wrong", "a hash that cannot be read is an error", breaks(func(under auth.Hasher) hasher {
			return hasher{verify: func(ctx context.Context, h, p string) (bool, bool, error) {
				ok, upgrade, _ := under.Verify(ctx, h, p)
				return ok, upgrade, nil
			}}
		})},
		{"an ended context is a wrong password", "waiting ends with the context", breaks(func(under auth.Hasher) hasher {
			return hasher{verify: func(ctx context.Context, h, p string) (bool, bool, error) {
				if ctx.Err() != nil {
					return false, false, nil
				}
				return under.Verify(ctx, h, p)
			}}
		})},
	}
}
