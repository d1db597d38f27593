package contract_test

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

func standingFaults() []broken[contract.Standing] {
	breaks := func(f func(auth.Standing, error) (auth.Standing, error)) func(contract.Standing) contract.Standing {
		return func(p contract.Standing) contract.Standing {
			under := p.Reader
			p.Reader = standings(func(ctx context.Context, id string) (auth.Standing, error) { return f(under.Standing(ctx, id)) })
			return p
		}
	}
	return []broken[contract.Standing]{
		{"nobody is kept", "a session comes with its user's word", breaks(func(s auth.Standing, err error) (auth.Standing, error) {
			s.Kept = ""
			return s, err
		})},
		{"what is not found stands", "what is unknown is not found", breaks(func(s auth.Standing, err error) (auth.Standing, error) {
			if errors.Is(err, auth.ErrSessionNotFound) {
				return auth.Standing{}, nil
			}
			return s, err
		})},
		{"revoked sessions are hidden", "changes are seen at once", breaks(func(s auth.Standing, err error) (auth.Standing, error) {
			if !s.Session.RevokedAt.IsZero() {
				return auth.Standing{}, auth.ErrSessionNotFound
			}
			return s, err
		})},
	}
}
