package contract_test

import (
	"context"
	"strings"
	"sync"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

func tokenFaults() []broken[contract.Tokens] {
	verifies := func(f func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error)) func(contract.Tokens) contract.Tokens {
		return func(p contract.Tokens) contract.Tokens {
			under := p.Verifier
			p.Verifier = verifier(func(ctx context.Context, token, audience string) (auth.Claims, error) {
				return f(under, ctx, token, audience)
			})
			return p
		}
	}
	issues := func(f func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error)) func(contract.Tokens) contract.Tokens {
		return func(p contract.Tokens) contract.Tokens {
			under := p.Issuer
			p.Issuer = issuer(func(ctx context.Context, c auth.Claims) (string, error) { return f(under, ctx, c) })
			return p
		}
	}
	return []broken[contract.Tokens]{
		{"the session is lost", "a token says what it was issued for", issues(func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error) {
			c.SessionID = ""
			return i.Issue(ctx, c)
		})},
		{"names are cut", "foreign values are kept", issues(func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error) {
			c.Name = c.Name[:min(len(c.Name), 64)]
			return i.Issue(ctx, c)
		})},
		{"the audience does not matter", "a token for another audience is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			for _, a := range []string{audience, auth.AudienceAPI, auth.AudienceTicket} {
				if c, err := v.Verify(ctx, token, a); err == nil {
					return c, nil
				}
			}
			return auth.Claims{}, auth.ErrTokenInvalid
		})},
		{"tokens last for ever", "an expired token is refused", issues(func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error) {
			c.ExpiresAt = c.ExpiresAt.AddDate(10, 0, 0)
			return i.Issue(ctx, c)
		})},
		{"a cut token passes", "a changed token is refused", func(p contract.Tokens) contract.Tokens {
			under := p
			var mu sync.Mutex
			made := []string{}
			p.Issuer = issuer(func(ctx context.Context, c auth.Claims) (string, error) {
				token, err := under.Issuer.Issue(ctx, c)
				mu.Lock()
				defer mu.Unlock()
				made = append(made, token)
				return token, err
			})
			p.Verifier = verifier(func(ctx context.Context, token, audience string) (auth.Claims, error) {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range made {
					if len(token) > 8 && strings.HasPrefix(m, token[:8]) {
						token = m
					}
				}
				return under.Verifier.Verify(ctx, token, audience)
			})
			return p
		}},
		{"everybody's key is known", "a stranger's token is refused", func(p contract.Tokens) contract.Tokens {
			p.Stranger = p.Issuer
			return p
		}},
		{"no signature is a signature", "an unsigned token is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			if strings.HasSuffix(token, ".") {
				return auth.Claims{}, nil
			}
			return v.Verify(ctx, token, audience)
		})},
		{"what is no token is unavailable", "what is no token is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			c, err := v.Verify(ctx, token, audience)
			if err != nil {
				err = fault.Unavailable
			}
			return c, err
		})},
		{"claims come with the refusal", "what is no token is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			c, err := v.Verify(ctx, token, audience)
			c.UserID = "somebody"
			return c, err
		})},
		{"tokens get mixed up", "concurrent tokens are apart", func(p contract.Tokens) contract.Tokens {
			under := p.Issuer
			var once sync.Once
			var token string
			var err error
			p.Issuer = issuer(func(ctx context.Context, c auth.Claims) (string, error) {
				once.Do(func() { token, err = under.Issue(ctx, c) })
				return token, err
			})
			return p
		}},
	}
}
