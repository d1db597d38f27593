package memory

import (
	"context"
	"crypto/rand"
	"maps"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// TokensConfig is what [Tokens] may be told. A number that is not positive means the default.
type TokensConfig struct {
	// Max is the most unexpired tokens that are kept. Default 1,000,000.
	Max int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Tokens is an auth.TokenIssuer and an auth.TokenVerifier. Its tokens are random names of the
// claims it keeps; nothing is signed, and only the Tokens that issued one can verify it. When
// as many unexpired ones are kept as may be, Issue is an error of kind Exhausted.
type Tokens struct {
	max int
	now func() time.Time

	mu     sync.RWMutex
	claims map[string]auth.Claims
}

var (
	_ auth.TokenIssuer   = (*Tokens)(nil)
	_ auth.TokenVerifier = (*Tokens)(nil)
	_ auth.Sweeper       = (*Tokens)(nil)
)

// NewTokens returns an issuer that has issued nothing yet.
func NewTokens(cfg TokensConfig) *Tokens {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Tokens{max: or(cfg.Max, 1_000_000), now: cfg.Now, claims: map[string]auth.Claims{}}
}

var errTokensFull = fault.New(fault.Exhausted, "tokens_full", "too many tokens are valid at once")

// Issue returns a new token for c.
func (ts *Tokens) Issue(ctx context.Context, c auth.Claims) (string, error) {
	if err := alive(ctx); err != nil {
		return "", err
	}
	c.IssuedAt = c.IssuedAt.UTC().Truncate(time.Second)
	c.ExpiresAt = c.ExpiresAt.UTC().Truncate(time.Second)
	c.Until = c.Until.UTC().Truncate(time.Second)
	c.SessionAt = stamp(c.SessionAt)
	token := rand.Text()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.claims) >= ts.max {
		ts.forget(ts.now())
		if len(ts.claims) >= ts.max {
			return "", errTokensFull
		}
	}
	ts.claims[token] = c
	return token, nil
}

// Verify returns what the token says.
func (ts *Tokens) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	if err := alive(ctx); err != nil {
		return auth.Claims{}, err
	}
	ts.mu.RLock()
	defer ts.mu.RUnlock()
	c, known := ts.claims[token]
	if !known || c.Audience != audience || !c.ExpiresAt.After(ts.now()) {
		return auth.Claims{}, auth.ErrTokenInvalid
	}
	return c, nil
}

// forget removes tokens that expire before the given time. The caller holds the lock.
func (ts *Tokens) forget(before time.Time) int {
	n := len(ts.claims)
	maps.DeleteFunc(ts.claims, func(_ string, c auth.Claims) bool { return c.ExpiresAt.Before(before) })
	return n - len(ts.claims)
}

// DeleteExpired forgets tokens that expired before the given time.
func (ts *Tokens) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	if err := alive(ctx); err != nil {
		return 0, err
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.forget(before), nil
}
