package wire_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

// BenchmarkConnect is what is decided about a connection: the token and its session, on SQLite. "first" tokens have never been
// shown, "again" ones have. Several at once share their reads of sessions.
func BenchmarkConnect(b *testing.B) {
	const users = 500
	for name, most := range map[string]int{"first": -1, "again": 0} {
		store, err := bunstore.OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "parley.db"), bunstore.SQLiteConfig{RelaxedSync: true})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, store.Close()) })
		require.NoError(b, store.Migrate(b.Context()))
		keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{})
		require.NoError(b, err)
		issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: "bench"})
		require.NoError(b, err)
		verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: "bench", Remember: most})
		require.NoError(b, err)
		p := store.Ports()
		service, err := auth.New(auth.Config{
			Users: p.Users, Sessions: p.Sessions, Standings: p.Standings, Codes: p.Codes, SignUps: p.SignUps, Nonces: p.Nonces,
			Limiter: p.Limiter, Hasher: memory.NewHasher(), Issuer: issuer, Verifier: verifier,
		})
		require.NoError(b, err)
		now := time.Now().UTC().Truncate(time.Second)
		tokens := make([]string, users)
		for i := range tokens {
			id := fmt.Sprintf("user-%06d", i)
			require.NoError(b, p.Users.Create(b.Context(), user.User{ID: user.ID(id), FullName: id, Email: user.Email(id + "@example.com"), PasswordHash: "none", CreatedAt: now, VerifiedAt: now}))
			require.NoError(b, p.Sessions.Create(b.Context(), auth.Session{ID: "s-" + id, UserID: user.ID(id), FamilyHash: "f" + id, TokenHash: "t" + id, CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(time.Hour)}))
			tokens[i], err = issuer.Issue(b.Context(), auth.Claims{ID: id, Audience: auth.AudienceAPI, UserID: user.ID(id), Name: id, SessionID: "s-" + id, SessionAt: now, IssuedAt: now, ExpiresAt: now.Add(time.Hour)})
			require.NoError(b, err)
			_, err = service.Authenticate(b.Context(), tokens[i])
			require.NoError(b, err)
		}
		b.Run(name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := service.Authenticate(b.Context(), tokens[i%users]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/together", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			var i atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := service.Authenticate(b.Context(), tokens[i.Add(1)%users]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
