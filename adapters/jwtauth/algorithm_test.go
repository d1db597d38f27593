package jwtauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

func TestContractWithEachAlgorithm(t *testing.T) {
	t.Parallel()
	for _, algorithm := range jwtauth.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			r, stranger := rigOf(t, algorithm), rigOf(t, algorithm)
			contract.Run(t, contract.TokenVerifier(), func(*testing.T) contract.Tokens {
				return contract.Tokens{Issuer: r.issuer, Verifier: r.verifier, Stranger: stranger.issuer, Now: clock}
			})
		})
	}
}

// rigOf is newRig with keys of an algorithm, in a file.
func rigOf(t *testing.T, algorithm string) rig {
	t.Helper()
	keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{File: filepath.Join(t.TempDir(), "keys.json"), Algorithm: algorithm, Now: clock})
	require.NoError(t, err)
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: us})
	require.NoError(t, err)
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: us, Now: clock})
	require.NoError(t, err)
	return rig{keys, issuer, verifier}
}

// Somebody who knows the JWKS and the RFCs, and nothing of this package, can check a token of each algorithm.
func TestEachAlgorithmOnTheWire(t *testing.T) {
	t.Parallel()
	for _, algorithm := range jwtauth.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			r := rigOf(t, algorithm)
			for range 20 { // the lesser s is no luck
				token, err := r.issuer.Issue(t.Context(), good())
				require.NoError(t, err)
				parts := strings.Split(token, ".")
				key := jwks(t, r.keys.JWKS())[0]
				assert.JSONEq(t, `{"alg":"`+algorithm+`","typ":"at+jwt","kid":"`+key.Kid+`"}`, decode(t, parts[0]))
				assert.Equal(t, "sig", key.Use)
				assert.Equal(t, algorithm, key.Alg)
				assert.Empty(t, key.D+key.P+key.Q, "a secret is published")
				signature, digest := []byte(decode(t, parts[2])), sha256.Sum256([]byte(parts[0]+"."+parts[1]))
				number := func(s string) *big.Int { return new(big.Int).SetBytes([]byte(decode(t, s))) }
				switch algorithm {
				case jwtauth.EdDSA: // RFC 8037
					require.Equal(t, "OKP Ed25519", key.Kty+" "+key.Crv)
					assert.True(t, ed25519.Verify([]byte(decode(t, key.X)), []byte(parts[0]+"."+parts[1]), signature))
				case jwtauth.ES256: // RFC 7518 sections 3.4 and 6.2
					require.Equal(t, "EC P-256", key.Kty+" "+key.Crv)
					require.Len(t, decode(t, key.X)+decode(t, key.Y), 64)
					require.Len(t, signature, 64)
					public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte("\x04"+decode(t, key.X)+decode(t, key.Y)))
					require.NoError(t, err)
					r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
					assert.True(t, ecdsa.Verify(public, digest[:], r, s))
					assert.LessOrEqual(t, s.Cmp(new(big.Int).Rsh(elliptic.P256().Params().N, 1)), 0)
				case jwtauth.PS256: // RFC 7518 sections 3.5 and 6.3
					require.Equal(t, "RSA AQAB", key.Kty+" "+key.E)
					public := &rsa.PublicKey{N: number(key.N), E: 65537}
					assert.Equal(t, 3072, public.N.BitLen())
					require.NoError(t, rsa.VerifyPSS(public, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: sha256.Size}))
				}
			}
		})
	}
}

// exampleEC is the key of RFC 7515 appendix A.3, with its thumbprint after RFC 7638.
const exampleEC = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
	"d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"}`

func TestKeysThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	n := func(bits int) string {
		key := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		return base64.RawURLEncoding.EncodeToString(key.Bytes())
	}
	for name, test := range map[string]struct{ key, says string }{
		"a small RSA key":        {`{"kty":"RSA","n":"` + n(1024) + `","e":"AQAB"}`, "key 1: an RSA key has 1024 bits, want 2048 to 8192"},
		"nearly large enough":    {`{"kty":"RSA","n":"` + n(2047) + `","e":"AQAB"}`, "2047 bits"},
		"a huge RSA key":         {`{"kty":"RSA","n":"` + n(16384) + `","e":"AQAB"}`, "no RSA key in it"},
		"the exponent 3":         {`{"kty":"RSA","n":"` + n(2048) + `","e":"Aw"}`, "exponent of an RSA key is 3"},
		"an even exponent":       {`{"kty":"RSA","n":"` + n(2048) + `","e":"AQAC"}`, "65538"},
		"P-384":                  {strings.Replace(exampleEC, "P-256", "P-384", 1), `the curve "P-384" is not P-256`},
		"secp256k1":              {strings.Replace(exampleEC, "P-256", "secp256k1", 1), "is not P-256"},
		"a point beside":         {strings.Replace(exampleEC, `"x":"f83`, `"x":"g83`, 1), "no point of P-256"},
		"Ed448":                  {`{"kty":"OKP","crv":"Ed448","x":"AAAA"}`, "is not Ed25519"},
		"a secret":               {`{"kty":"oct","k":"AAAA"}`, `"oct" is none of OKP, EC, RSA`},
		"EC that says EdDSA":     {strings.Replace(exampleEC, `{`, `{"alg":"EdDSA",`, 1), `the key is not one for "EdDSA"`},
		"EC that says HS256":     {strings.Replace(exampleEC, `{`, `{"alg":"HS256",`, 1), `"HS256"`},
		"RSA that says RS256":    {`{"kty":"RSA","alg":"RS256","n":"` + n(2048) + `","e":"AQAB"}`, "RS256 is not signed with"},
		"for encryption":         {strings.Replace(exampleEC, `{`, `{"use":"enc",`, 1), "not one for signatures"},
		"to wrap keys":           {strings.Replace(exampleEC, `{`, `{"key_ops":["wrapKey"],`, 1), "not one for signatures"},
		"a secret of another":    {strings.Replace(exampleEC, `"d":"j`, `"d":"k`, 1), "does not match the public one"},
		"an order too large":     {strings.Replace(exampleEC, "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI", strings.Repeat("_", 42)+"8", 1), "no private part that can be read"},
		"no end, and no secret":  {strings.Replace(exampleEC, "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI", "", 1), "no private part"},
		"an end, and no newer":   {strings.Replace(exampleEC, `{`, `{"retiresAt":"2100-01-01T00:00:00Z",`, 1), "every key in it retires"},
		"the algorithm is wrong": {`{"kty":"OKP","crv":"Ed25519","alg":"ES256","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`, `not one for "ES256"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "keys.json")
			require.NoError(t, os.WriteFile(file, []byte(`{"keys":[`+test.key+`]}`), 0o600))
			_, err := jwtauth.OpenKeys(file)
			require.ErrorContains(t, err, test.says)
			assert.ErrorContains(t, err, file)
		})
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"keys":[`+exampleEC+`]}`), 0o600))
	keys, err := jwtauth.OpenKeys(file)
	require.NoError(t, err, "the one that they are made of is good")
	assert.Equal(t, jwtauth.ES256, keys.List()[0].Algorithm)
}

func TestPublicKeysOfTheWrongKind(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	_, err = jwtauth.NewPublicKey(jwtauth.ES256, &private.PublicKey)
	require.ErrorContains(t, err, "the curve is not P-256")
	_, err = jwtauth.NewPublicKey(jwtauth.EdDSA, ed25519.PublicKey("short"))
	require.ErrorContains(t, err, "has 5 bytes")
	_, err = jwtauth.NewPublicKey("HS256", []byte("secret"))
	require.ErrorContains(t, err, `not one for "HS256"`)
	_, err = jwtauth.NewKeys(jwtauth.KeysConfig{Algorithm: "HS256"})
	require.ErrorContains(t, err, "none of EdDSA, ES256, PS256")
}

// A key verifies its own algorithm, though its signature be right by another one.
func TestAKeyVerifiesItsOwnAlgorithmOnly(t *testing.T) {
	t.Parallel()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for of, other := range map[string]string{jwtauth.PS256: jwtauth.RS256, jwtauth.RS256: jwtauth.PS256} {
		key, err := jwtauth.NewPublicKey(of, &private.PublicKey)
		require.NoError(t, err)
		assert.Equal(t, of, key.Algorithm())
		token := signRSA(t, private, other)
		_, err = sourceOf(t, key).Verify(t.Context(), token, auth.AudienceAPI)
		require.ErrorIs(t, err, auth.ErrTokenInvalid)
	}
	key, err := jwtauth.NewPublicKey(jwtauth.PS256, &private.PublicKey)
	require.NoError(t, err)
	_, err = sourceOf(t, key).Verify(t.Context(), signRSA(t, private, jwtauth.PS256), auth.AudienceAPI)
	require.NoError(t, err)
	// RFC 7518 section 3.5 asks for a salt as long as the hash.
	_, err = sourceOf(t, key).Verify(t.Context(), signPSS(t, private, 20), auth.AudienceAPI)
	require.ErrorIs(t, err, auth.ErrTokenInvalid)
}

func signRSA(t *testing.T, private *rsa.PrivateKey, algorithm string) string {
	t.Helper()
	if algorithm == jwtauth.PS256 {
		return signPSS(t, private, sha256.Size)
	}
	text := b64(with(t, goodHeader, "EdDSA", algorithm)) + "." + b64(goodBody)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:])
	require.NoError(t, err)
	return text + "." + b64(string(signature))
}

func signPSS(t *testing.T, private *rsa.PrivateKey, salt int) string {
	t.Helper()
	text := b64(with(t, goodHeader, "EdDSA", jwtauth.PS256)) + "." + b64(goodBody)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
	require.NoError(t, err)
	return text + "." + b64(string(signature))
}

func TestRotationToAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	r := rigOf(t, jwtauth.EdDSA)
	var tokens []string
	for _, algorithm := range []string{jwtauth.ES256, jwtauth.PS256, jwtauth.EdDSA} {
		token, err := r.issuer.Issue(t.Context(), good())
		require.NoError(t, err)
		tokens = append(tokens, token)
		_, made, err := r.keys.Rotate(jwtauth.Rotation{Algorithm: algorithm, Overlap: time.Hour})
		require.NoError(t, err)
		require.True(t, made)
		assert.Equal(t, algorithm, r.keys.List()[0].Algorithm)
		for _, token := range tokens {
			_, err := r.verifier.Verify(t.Context(), token, auth.AudienceAPI)
			require.NoError(t, err)
		}
	}
	_, _, err := r.keys.Rotate(jwtauth.Rotation{Algorithm: "RS256"})
	require.ErrorContains(t, err, "none of EdDSA, ES256, PS256")
}

// sourceOf is a verifier that knows one key, as "kid".
func sourceOf(t *testing.T, key *jwtauth.PublicKey) *jwtauth.Verifier {
	t.Helper()
	v, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Issuer: us, Now: clock, Keys: func(_ context.Context, kid string) (*jwtauth.PublicKey, error) {
		if kid == "kid" {
			return key, nil
		}
		return nil, jwtauth.ErrKeyUnknown
	}})
	require.NoError(t, err)
	return v
}
