package jwtauth_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// known is a verifier that has found a token right, with a clock and a key source that can be changed.
type known struct {
	rig
	verifier *jwtauth.Verifier
	token    string
	now      atomic.Pointer[time.Time]
	keys     atomic.Pointer[jwtauth.KeySource]
}

func remember(t *testing.T, most int) *known {
	t.Helper()
	k := &known{rig: newRig(t)}
	k.at(now)
	k.source(k.rig.keys.PublicKey)
	var err error
	k.verifier, err = jwtauth.NewVerifier(jwtauth.VerifierConfig{
		Keys:   func(ctx context.Context, kid string) (*jwtauth.PublicKey, error) { return (*k.keys.Load())(ctx, kid) },
		Issuer: us, Remember: most, Now: func() time.Time { return *k.now.Load() },
	})
	require.NoError(t, err)
	k.token, err = k.issuer.Issue(t.Context(), good())
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, k.verify(t, k.token))
	}
	return k
}

func (k *known) at(t time.Time)             { k.now.Store(&t) }
func (k *known) source(s jwtauth.KeySource) { k.keys.Store(&s) }

func (k *known) verify(t *testing.T, token string) error {
	t.Helper()
	c, err := k.verifier.Verify(t.Context(), token, auth.AudienceAPI)
	if err == nil {
		assert.Equal(t, good(), c)
	}
	return err
}

// A token that is remembered is refused for every reason for which another one is.
func TestATokenThatIsRememberedIsStillChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(t *testing.T, k *known)
		want   error
	}{
		"it expires":     {func(_ *testing.T, k *known) { k.at(good().ExpiresAt) }, auth.ErrTokenInvalid},
		"the clock goes": {func(_ *testing.T, k *known) { k.at(good().IssuedAt.Add(-time.Second)) }, auth.ErrTokenInvalid},
		"its key is rotated away": {func(t *testing.T, k *known) {
			require.NoError(t, rotate(k.rig.keys, 0))
		}, auth.ErrTokenInvalid},
		"its key retires": {func(t *testing.T, k *known) {
			keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{Now: func() time.Time { return *k.now.Load() }})
			require.NoError(t, err)
			k.source(keys.PublicKey)
			issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: us})
			require.NoError(t, err)
			k.token, err = issuer.Issue(t.Context(), good())
			require.NoError(t, err)
			require.NoError(t, rotate(keys, time.Minute))
			require.NoError(t, k.verify(t, k.token), "it is still good for a minute")
			k.at(now.Add(time.Minute))
		}, auth.ErrTokenInvalid},
		"its name is another key's": {func(t *testing.T, k *known) {
			other := newRig(t).keys
			k.source(func(ctx context.Context, _ string) (*jwtauth.PublicKey, error) {
				return other.PublicKey(ctx, strings.Trim(other.String(), "[]"))
			})
		}, auth.ErrTokenInvalid},
		"keys cannot be had": {func(_ *testing.T, k *known) {
			k.source(func(context.Context, string) (*jwtauth.PublicKey, error) {
				return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("away"))
			})
		}, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := remember(t, 0)
			require.Equal(t, 1, jwtauth.Remembered(k.verifier))
			test.change(t, k)
			for range 2 {
				require.ErrorIs(t, k.verify(t, k.token), test.want)
			}
		})
	}
	t.Run("for another audience", func(t *testing.T) {
		t.Parallel()
		k := remember(t, 0)
		_, err := k.verifier.Verify(t.Context(), k.token, auth.AudienceTicket)
		require.ErrorIs(t, err, auth.ErrTokenInvalid)
	})
	t.Run("with one character changed", func(t *testing.T) {
		t.Parallel()
		k := remember(t, 0)
		for i := range k.token {
			other := byte('A')
			if k.token[i] == other {
				other = 'B'
			}
			require.ErrorIs(t, k.verify(t, k.token[:i]+string(other)+k.token[i+1:]), auth.ErrTokenInvalid, i)
		}
		assert.Equal(t, 1, jwtauth.Remembered(k.verifier), "what is refused is not remembered")
		require.NoError(t, k.verify(t, k.token))
	})
}

func TestTokensThatAreRememberedAreBounded(t *testing.T) {
	t.Parallel()
	for most, want := range map[int]int{-1: 0, 1: 1, 2: 2, 7: 5, 64: 63} {
		k := remember(t, most)
		seen := 0
		for i := range 100 {
			c := good()
			c.ID = fmt.Sprint(i)
			token, err := k.issuer.Issue(t.Context(), c)
			require.NoError(t, err)
			for range 2 {
				got, err := k.verifier.Verify(t.Context(), token, auth.AudienceAPI)
				require.NoError(t, err)
				require.Equal(t, c, got)
			}
			require.NoError(t, k.verify(t, k.token), "one that is used all the time")
			seen = max(seen, jwtauth.Remembered(k.verifier))
		}
		assert.Equal(t, want, seen, most)
	}
}

// Nobody is let in by a key that has gone, however many verify while it goes.
func TestATokenIsNotRememberedBeyondItsKey(t *testing.T) {
	t.Parallel()
	k := remember(t, 8)
	gone := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := good()
			c.ID = fmt.Sprint(i)
			for range 200 {
				select {
				case <-gone:
					_, err := k.verifier.Verify(t.Context(), k.token, auth.AudienceAPI)
					assert.ErrorIs(t, err, auth.ErrTokenInvalid)
				default:
					token, err := k.issuer.Issue(t.Context(), c)
					assert.NoError(t, err)
					_, _ = k.verifier.Verify(t.Context(), token, auth.AudienceAPI)
					_, _ = k.verifier.Verify(t.Context(), k.token, auth.AudienceAPI)
				}
			}
		})
	}
	wg.Go(func() {
		assert.NoError(t, rotate(k.rig.keys, 0))
		close(gone)
	})
	wg.Wait()
	require.ErrorIs(t, k.verify(t, k.token), auth.ErrTokenInvalid)
}

func TestRememberedTokensCostNoSignature(t *testing.T) {
	k := remember(t, 0)
	got := testing.AllocsPerRun(100, func() {
		if _, err := k.verifier.Verify(t.Context(), k.token, auth.AudienceAPI); err != nil {
			t.Fatal(err)
		}
	})
	assert.LessOrEqual(t, got, 45.0, "allocations")
}
