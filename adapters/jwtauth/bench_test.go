package jwtauth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
)

// BenchmarkVerify is what a token costs that is shown for the first time, and one that was found right before.
func BenchmarkVerify(b *testing.B) {
	for name, most := range map[string]int{"first": -1, "again": 0} {
		b.Run(name, func(b *testing.B) {
			keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{})
			require.NoError(b, err)
			issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: us})
			require.NoError(b, err)
			verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: us, Remember: most})
			require.NoError(b, err)
			now := time.Now()
			token, err := issuer.Issue(b.Context(), auth.Claims{
				ID: "01JPARLEYTOKEN000000000000", Audience: auth.AudienceAPI, UserID: "01JPARLEYUSER0000000000000", Name: "Ada Lovelace",
				SessionID: "01JPARLEYSESSION0000000000", SessionAt: now, IssuedAt: now, ExpiresAt: now.Add(time.Hour),
			})
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(b.Context(), token, auth.AudienceAPI); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
