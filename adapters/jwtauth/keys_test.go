package jwtauth_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

type jwk struct {
	Kty, Crv, X, Y, N, E, D, P, Q, Kid, Use, Alg string
	SignsAt, RetiresAt                           *time.Time
}

// rotate makes a new key that signs at once.
func rotate(keys *jwtauth.Keys, overlap time.Duration) error {
	_, _, err := keys.Rotate(jwtauth.Rotation{Overlap: overlap})
	return err
}

func jwks(t *testing.T, data []byte) []jwk {
	t.Helper()
	var set struct{ Keys []jwk }
	require.NoError(t, json.Unmarshal(data, &set))
	return set.Keys
}

// fromAppendixA is the key of RFC 8037 appendix A.1, with the thumbprint of A.3 as its name.
const fromAppendixA = `{"keys":[{"kty":"OKP","crv":"Ed25519",
	"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
	"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
	"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}]}`

func TestKeyOfTheRFC(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(fromAppendixA), 0o600))
	keys, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	assert.JSONEq(t, `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA",
		"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
		"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}]}`, string(keys.JWKS()))
}

func TestKeysSurviveARestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	first, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	info, err := os.Stat(file)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	second, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	assert.Equal(t, first.JWKS(), second.JWKS())
	onlyFile(t, file)
}

// onlyFile fails if anything was left beside the file.
func onlyFile(t *testing.T, file string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return e.Name() == filepath.Base(file)+".lock" })
	require.Len(t, entries, 1)
	assert.Equal(t, filepath.Base(file), entries[0].Name())
}

func TestStartsAtOnceAgreeOnOneKey(t *testing.T) {
	t.Parallel()
	for range 10 {
		file := filepath.Join(t.TempDir(), "keys.json")
		start, sets := make(chan struct{}), make(chan string, 16)
		var all sync.WaitGroup
		for range cap(sets) {
			all.Go(func() {
				<-start
				keys, err := jwtauth.OpenKeys(file)
				if assert.NoError(t, err) {
					sets <- string(keys.JWKS())
				}
			})
		}
		close(start)
		all.Wait()
		close(sets)
		want := <-sets
		for got := range sets {
			require.Equal(t, want, got)
		}
		onlyFile(t, file)
	}
}

func TestDamagedKeyFile(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string {
		require.Contains(t, fromAppendixA, from)
		return strings.Replace(fromAppendixA, from, to, 1)
	}
	other := `,{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"`
	const secret = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	for name, content := range map[string]string{
		"empty":                    "",
		"zeros":                    strings.Repeat("\x00", 300),
		"cut short":                fromAppendixA[:100],
		"something follows":        fromAppendixA + "}",
		"another document":         `{"version":1}`,
		"no key":                   `{"keys":[]}`,
		"null":                     `null`,
		"no private part":          change(`"d":"`+secret+`",`, ``),
		"short private part":       change(secret, "AAAA"),
		"private part not base64":  change(secret, "!"+secret[1:]),
		"private part of another":  change(secret, "A"+secret[1:]),
		"public part of another":   change(`"x":"1`, `"x":"A`),
		"public part too short":    change(`"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`, `"AAAA"`),
		"another curve":            change("Ed25519", "X25519"),
		"another kind of key":      change("OKP", "EC"),
		"another name":             change(`"kid":"k`, `"kid":"K`),
		"no name":                  change(`"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"`, `"kid":""`),
		"the same key twice":       change(`}]}`, `}`+other+`,"retiresAt":"2030-01-01T00:00:00Z"}]}`),
		"an old one without limit": change(`}]}`, `}`+strings.Replace(strings.Replace(other, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw", 1), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "FtIu-VbGrfe_KB6CH7GNwODB72MNxj_ml11dEvO-7kk", 1)+`}]}`),
		"larger than any":          fromAppendixA + strings.Repeat(" ", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "keys.json")
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			_, err := jwtauth.OpenKeys(file)
			require.ErrorContains(t, err, "is damaged")
			assert.ErrorContains(t, err, file)
			assert.NotContains(t, err.Error(), secret[1:])
			after, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, content, string(after), "it is never replaced")
			onlyFile(t, file)
		})
	}
}

func TestKeyFileThatCannotBe(t *testing.T) {
	t.Parallel()
	_, err := jwtauth.OpenKeys("")
	require.Error(t, err)
	_, err = jwtauth.OpenKeys(filepath.Join(t.TempDir(), "no such folder", "keys.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = jwtauth.OpenKeys(t.TempDir())
	require.ErrorContains(t, err, "not a regular file")
}

// later is a clock that a test moves.
type later struct {
	mu sync.Mutex
	at time.Time
}

func (l *later) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

func (l *later) move(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(d)
}

func TestRotationWithOverlap(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"in memory", "in a file"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := ""
			if name == "in a file" {
				file = filepath.Join(t.TempDir(), "keys.json")
			}
			c := &later{at: now}
			keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{File: file, Now: c.now})
			require.NoError(t, err)
			issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: us})
			require.NoError(t, err)
			// The tokens outlive the overlap, so that only the keys decide.
			verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: us, Now: clock})
			require.NoError(t, err)
			issue := func() string {
				token, err := issuer.Issue(t.Context(), good())
				require.NoError(t, err)
				return token
			}
			valid := func(token string) bool {
				_, err := verifier.Verify(t.Context(), token, auth.AudienceAPI)
				if err != nil {
					require.ErrorIs(t, err, auth.ErrTokenInvalid)
				}
				return err == nil
			}

			first, before := issue(), jwks(t, keys.JWKS())
			require.Len(t, before, 1)
			require.NoError(t, rotate(keys, time.Hour))
			second, both := issue(), jwks(t, keys.JWKS())
			require.Len(t, both, 2)
			assert.Equal(t, before[0], both[1], "the one that signs comes first")
			assert.True(t, valid(first))
			assert.True(t, valid(second))

			c.move(time.Hour - time.Nanosecond)
			assert.True(t, valid(first))
			c.move(time.Nanosecond)
			assert.False(t, valid(first), "the overlap is over")
			assert.True(t, valid(second))
			assert.Equal(t, both[:1], jwks(t, keys.JWKS()))
			_, err = keys.PublicKey(t.Context(), before[0].Kid)
			require.ErrorIs(t, err, jwtauth.ErrKeyUnknown)
			require.ErrorIs(t, err, fault.NotFound)

			require.NoError(t, rotate(keys, 0))
			assert.False(t, valid(second), "no overlap was given")
			assert.True(t, valid(issue()))
			require.Error(t, rotate(keys, -1))
			require.Len(t, jwks(t, keys.JWKS()), 1)
		})
	}
}

func TestRotationIsInTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	keys, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	other, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	require.NoError(t, rotate(keys, time.Hour))
	onlyFile(t, file)

	assert.NotEqual(t, keys.JWKS(), other.JWKS())
	require.NoError(t, other.Reload())
	assert.Equal(t, keys.JWKS(), other.JWKS())
	again, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	assert.Equal(t, keys.JWKS(), again.JWKS())

	// What others rotated is not lost, whoever rotates next without a reload.
	require.NoError(t, rotate(other, time.Hour))
	require.NoError(t, rotate(keys, time.Hour))
	assert.Len(t, jwks(t, keys.JWKS()), 4)

	data, err := os.ReadFile(file)
	require.NoError(t, err)
	for i, k := range jwks(t, data) {
		assert.Equal(t, i == 0, k.D != "", "only the key that signs keeps its secret")
		assert.Equal(t, i > 0, k.RetiresAt != nil)
	}
	info, err := os.Stat(file)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
}

func TestKeysStayWhenTheFileIsGone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	keys, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	before := keys.JWKS()
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	require.ErrorContains(t, keys.Reload(), "is damaged")
	require.ErrorContains(t, rotate(keys, time.Hour), "is damaged")
	require.NoError(t, os.Remove(file))
	require.ErrorIs(t, keys.Reload(), os.ErrNotExist)
	require.ErrorIs(t, rotate(keys, time.Hour), os.ErrNotExist)
	assert.Equal(t, before, keys.JWKS())
}

func TestRotateWhileOthersVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var all sync.WaitGroup
	start := make(chan struct{})
	for range 4 {
		all.Go(func() {
			<-start
			for range 20 {
				token, err := r.issuer.Issue(t.Context(), good())
				if !assert.NoError(t, err) {
					return
				}
				_, err = r.verifier.Verify(t.Context(), token, auth.AudienceAPI)
				assert.NoError(t, err)
				assert.NotEmpty(t, r.keys.JWKS())
			}
		})
	}
	all.Go(func() {
		<-start
		for range 10 {
			assert.NoError(t, rotate(r.keys, time.Hour))
		}
	})
	close(start)
	all.Wait()
	assert.Len(t, jwks(t, r.keys.JWKS()), 11)
}

func TestKeysDoNotPrintTheirSecret(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(file, []byte(fromAppendixA), 0o600))
	keys, err := jwtauth.OpenKeys(file)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("keys", "keys", keys)
	for _, text := range []string{fmt.Sprint(keys), fmt.Sprintf("%+v", keys), fmt.Sprintf("%#v", keys), log.String()} {
		assert.Contains(t, text, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
		assert.NotContains(t, text, "nWGxne")
		assert.NotContains(t, text, "157 97 177", "the secret's bytes")
	}
}
