// Package enumeration measures whether the time of an answer tells if an address has an account.
package enumeration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
	"github.com/parley-chat/parley/testkit/system"
)

var (
	samples = flag.Int("enumeration.samples", 20, "requests for addresses with an account, and as many for others, of each kind that hashes no password")
	hashed  = flag.Int("enumeration.hashed", 10, "the same of each kind that does, which takes much longer")
)

// area returns the area under the curve of a classifier that ranks by time: 0.5 cannot tell the classes
// apart, 1 always does (Mann and Whitney, 1947). It counts which of two is slower, whichever class that is.
func area(a, b []time.Duration) float64 {
	type sample struct {
		d     time.Duration
		first bool
	}
	all := make([]sample, 0, len(a)+len(b))
	for _, d := range a {
		all = append(all, sample{d, true})
	}
	for _, d := range b {
		all = append(all, sample{d, false})
	}
	slices.SortFunc(all, func(x, y sample) int { return cmp.Compare(x.d, y.d) })
	var ranks float64
	for at := 0; at < len(all); {
		end := at
		for end < len(all) && all[end].d == all[at].d {
			end++
		}
		for _, s := range all[at:end] {
			if s.first {
				ranks += float64(at+end+1) / 2 // those that are equal share their ranks
			}
		}
		at = end
	}
	n := float64(len(a))
	auc := (ranks - n*(n+1)/2) / (n * float64(len(b)))
	return max(auc, 1-auc)
}

func TestArea(t *testing.T) {
	ms := func(of ...int) (out []time.Duration) {
		for _, n := range of {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	for _, c := range []struct {
		a, b []time.Duration
		want float64
	}{
		{ms(1, 2, 3), ms(4, 5, 6), 1}, {ms(4, 5, 6), ms(1, 2, 3), 1}, {ms(1, 1), ms(1, 1), 0.5}, {ms(1, 4), ms(2, 3), 0.5}, {ms(1, 2, 4), ms(3, 5, 6), 8.0 / 9},
	} {
		require.InDelta(t, c.want, area(c.a, c.b), 1e-9, "%v %v", c.a, c.b)
	}
}

// TestEnumeration asks about addresses with and without an account, in random order, and prints how
// well the times of the answers tell them apart. Stores and hasher are those of the programs.
// Times are no pass or fail; that each class gets the same answer is.
func TestEnumeration(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it measures times")
	}
	t.Run("SQLite", func(t *testing.T) {
		s, err := bunstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "parley.db"), bunstore.SQLiteConfig{})
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		require.NoError(t, s.Migrate(t.Context()))
		measure(t, s)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		s, err := bunstore.OpenPostgres(t.Context(), servers.Postgres(t), bunstore.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		require.NoError(t, s.Migrate(t.Context()))
		measure(t, s)
	})
}

func measure(t *testing.T, store *bunstore.Store) {
	hasher, err := passhash.New(passhash.Config{})
	require.NoError(t, err)
	s := system.Start(t, system.Config{
		Log:  slog.New(slog.DiscardHandler),
		Auth: auth.Config{Links: true, SignInRate: auth.Rate{Burst: 10_000_000, Per: time.Minute}, MailRate: auth.Rate{Burst: 10_000_000, Per: time.Minute}},
		Ports: func(p *parley.Ports) {
			kept := store.Ports()
			kept.Limiter, kept.Hasher = nil, hasher
			*p = p.With(kept)
		},
	})
	const password = "a pass phrase of somebody"
	hash, err := hasher.Hash(t.Context(), "another pass phrase")
	require.NoError(t, err)
	var asked []string
	has := map[string]bool{}
	for i := range max(*samples, *hashed) {
		known, unknown := fmt.Sprintf("u%06d@example.com", 2*i), fmt.Sprintf("u%06d@example.com", 2*i+1)
		now := time.Now().UTC().Truncate(time.Microsecond)
		require.NoError(t, store.Users().Create(t.Context(), user.User{
			ID: user.ID(fmt.Sprint("user-", i)), FullName: "Somebody", Email: user.Email(known), PasswordHash: hash,
			CreatedAt: now, VerifiedAt: now, PasswordChangedAt: now,
		}))
		has[known] = true
		asked = append(asked, known, unknown)
	}
	client := &http.Client{Timeout: 30 * time.Second}
	for _, call := range []struct {
		path  string
		times int
		body  func(email string) map[string]any
	}{
		{"/auth/signin", *hashed, func(e string) map[string]any { return map[string]any{"email": e, "password": "not the password"} }},
		{"/auth/verify/resend", *samples, func(e string) map[string]any { return map[string]any{"email": e} }},
		{"/auth/password/forgot", *samples, func(e string) map[string]any { return map[string]any{"email": e} }},
		{"/auth/link", *samples, func(e string) map[string]any { return map[string]any{"email": e} }},
		{"/auth/signup", *hashed, func(e string) map[string]any {
			return map[string]any{"fullName": "Somebody", "email": e, "password": password}
		}},
		// Now every address has a sign-up that waits.
		{"/auth/signin", *hashed, func(e string) map[string]any { return map[string]any{"email": e, "password": password} }},
	} {
		some := slices.Clone(asked[:2*call.times])
		rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		answers := map[string]string{}
		times := map[bool][]time.Duration{}
		ask(t, client, s.URL+call.path, call.body("warm@example.com")) // the connection, and what is made at the first request
		for _, email := range some {
			answer, took := ask(t, client, s.URL+call.path, call.body(email))
			times[has[email]] = append(times[has[email]], took)
			answers[answer] = email
		}
		require.Len(t, answers, 1, "%s answers all in the same words", call.path)
		t.Logf("%-22s AUC %.3f of %d and %d", call.path, area(times[true], times[false]), len(times[true]), len(times[false]))
	}
}

func ask(t *testing.T, client *http.Client, url string, body any) (answer string, took time.Duration) {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(text))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	res, err := client.Do(req)
	require.NoError(t, err)
	said, err := io.ReadAll(res.Body)
	took = time.Since(began)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Less(t, res.StatusCode, 429, "%s", said)
	return fmt.Sprint(res.StatusCode, " ", string(said)), took
}
