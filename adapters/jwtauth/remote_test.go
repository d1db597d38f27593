package jwtauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// publisher publishes keys, and counts who asks.
type publisher struct {
	*httptest.Server
	answer atomic.Pointer[func(w http.ResponseWriter)]
	asked  atomic.Int64
}

func publish(t *testing.T, answer func(w http.ResponseWriter)) *publisher {
	t.Helper()
	p := &publisher{}
	p.answer.Store(&answer)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		(*p.answer.Load())(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func text(body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { _, _ = w.Write([]byte(body)) }
}

// moving is a clock that tests move.
type moving struct{ ahead atomic.Int64 }

func (m *moving) Now() time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(m.ahead.Load()))
}

func TestRemoteKeysVerifyWhatAnotherProcessSigns(t *testing.T) {
	keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{})
	require.NoError(t, err)
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: "parley"})
	require.NoError(t, err)
	p := publish(t, func(w http.ResponseWriter) { _, _ = w.Write(keys.JWKS()) })
	clock := &moving{}
	remote, err := jwtauth.NewRemoteKeys(jwtauth.RemoteKeysConfig{URL: p.URL, Now: clock.Now})
	require.NoError(t, err)
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: remote.PublicKey, Issuer: "parley"})
	require.NoError(t, err)
	verify := func() error {
		token, err := issuer.Issue(t.Context(), auth.Claims{ID: "1", Audience: auth.AudienceAPI, UserID: "u", IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		_, err = verifier.Verify(t.Context(), token, auth.AudienceAPI)
		return err
	}
	for range 3 {
		require.NoError(t, verify())
	}
	assert.EqualValues(t, 1, p.asked.Load(), "what is known is not asked for again")

	require.NoError(t, rotate(keys, 0))
	require.ErrorIs(t, verify(), auth.ErrTokenInvalid, "an unknown kid does not make it ask twice in a Pause")
	assert.EqualValues(t, 1, p.asked.Load())
	clock.ahead.Add(int64(2 * time.Second))
	require.NoError(t, verify())
	assert.EqualValues(t, 2, p.asked.Load())
}

func TestRemoteKeysThatCannotBeHad(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"refused":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusTeapot) },
		"no JSON":       text("<html>"),
		"no set":        text(`{}`),
		"empty":         text(`{"keys":[]}`),
		"other kinds":   text(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"X25519","kid":"b","x":"AAAA"}]}`),
		"a short key":   text(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}]}`),
		"for encrypted": text(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"enc","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, answer)
			remote, err := jwtauth.NewRemoteKeys(jwtauth.RemoteKeysConfig{URL: p.URL})
			require.NoError(t, err)
			_, err = remote.PublicKey(t.Context(), "a")
			require.ErrorIs(t, err, fault.Unavailable, "whether the key exists cannot be told")
			_, err = remote.PublicKey(t.Context(), "a")
			require.ErrorIs(t, err, fault.Unavailable)
			assert.EqualValues(t, 1, p.asked.Load())
			require.ErrorIs(t, remote.Ping(t.Context()), fault.Unavailable)
		})
	}
}

func TestRemoteKeysAreUsedWhileNewOnesCannotBeHad(t *testing.T) {
	const x = `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	hold := make(chan struct{})
	p := publish(t, text(x))
	clock := &moving{}
	remote, err := jwtauth.NewRemoteKeys(jwtauth.RemoteKeysConfig{URL: p.URL, Now: clock.Now})
	require.NoError(t, err)
	require.NoError(t, remote.Ping(t.Context()))
	frozen := func(http.ResponseWriter) { <-hold }
	p.answer.Store(&frozen)
	clock.ahead.Add(int64(time.Hour))
	key, err := remote.PublicKey(t.Context(), "a")
	require.NoError(t, err, "it does not wait for the newer set")
	assert.Equal(t, jwtauth.EdDSA, key.Algorithm())
	// Who asks for a kid that is not known waits, and no longer than its context.
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	_, err = remote.PublicKey(ctx, "b")
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, enough)
	close(hold)
}

func TestRemoteKeysNeedAnAddress(t *testing.T) {
	for _, u := range []string{"", "auth.example.com", "ftp://auth.example.com", "http://", "::"} {
		_, err := jwtauth.NewRemoteKeys(jwtauth.RemoteKeysConfig{URL: u})
		assert.ErrorContains(t, err, "URL", "%q", u)
	}
}

func TestRemoteKeysRefuseNegativeTimes(t *testing.T) {
	for field, cfg := range map[string]jwtauth.RemoteKeysConfig{"Timeout": {Timeout: -1}, "Refresh": {Refresh: -1}, "Pause": {Pause: -1}} {
		cfg.URL = "http://auth.example.com"
		_, err := jwtauth.NewRemoteKeys(cfg)
		assert.ErrorContains(t, err, field+" is negative")
	}
}
