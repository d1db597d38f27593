package passhash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/core/fault"
)

// cheap keeps tests quick; what is tested does not depend on the cost.
var cheap = passhash.Config{Memory: 64, Time: 1, Threads: 1}

func newHasher(t *testing.T, cfg passhash.Config) *passhash.Hasher {
	t.Helper()
	h, err := passhash.New(cfg)
	require.NoError(t, err)
	return h
}

func TestDefaultsAreThoseOfTheDocumentation(t *testing.T) {
	t.Parallel()
	h := newHasher(t, passhash.Config{})
	hash, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	assert.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash)
	ok, upgrade, err := h.Verify(t.Context(), hash, "correct horse")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.False(t, upgrade)
}

func TestHashThenVerify(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	passwords := []string{"", "a", "pässwörd", "\x00", "\xff\xfe", strings.Repeat("x", 72), strings.Repeat("x", 73), strings.Repeat("x", 4096)}
	for i, password := range passwords {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		for j, attempt := range passwords {
			ok, upgrade, err := h.Verify(t.Context(), hash, attempt)
			require.NoError(t, err)
			assert.Equal(t, i == j, ok, "hash of %q against %q", password, attempt)
			assert.False(t, upgrade)
		}
	}
}

func TestSaltIsFresh(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	a, err := h.Hash(t.Context(), "same")
	require.NoError(t, err)
	b, err := h.Hash(t.Context(), "same")
	require.NoError(t, err)
	assert.NotEqual(t, a, b)
}

// The hashes were made by other implementations.
func TestForeignHashes(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	for name, test := range map[string]struct{ hash, password string }{
		"Argon2 reference": {"$argon2id$v=19$m=256,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$7spm2x4WHG8c8C+Y0OpAgx/lehOzaF6sfo6KPWr/D3Y", "correct horse"},
		"bcrypt, Python":   {"$2b$04$nLsOWowR.ewrl6rRNDJVwegoLEg.O8GZuiAQxib.RHuBMZQDHLGMm", "correct horse"},
		"bcrypt 2y, crypt": {"$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", "correct horse"},
		"bcrypt 2a, crypt": {"$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", "correct horse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ok, upgrade, err := h.Verify(t.Context(), test.hash, test.password)
			require.NoError(t, err)
			assert.True(t, ok)
			assert.True(t, upgrade, "its parameters are not the current ones")
			ok, upgrade, err = h.Verify(t.Context(), test.hash, test.password+"x")
			require.NoError(t, err)
			assert.False(t, ok)
			assert.False(t, upgrade, "only a match is worth an upgrade")
		})
	}
}

func TestUpgradeWhenAnyParameterDiffers(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	for name, change := range map[string]func(*passhash.Config){
		"more memory":  func(c *passhash.Config) { c.Memory *= 2 },
		"less memory":  func(c *passhash.Config) { c.Memory /= 2 },
		"more passes":  func(c *passhash.Config) { c.Time++ },
		"more threads": func(c *passhash.Config) { c.Threads++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cheap
			change(&cfg)
			hash, err := newHasher(t, cfg).Hash(t.Context(), "secret")
			require.NoError(t, err)
			ok, upgrade, err := h.Verify(t.Context(), hash, "secret")
			require.NoError(t, err)
			assert.True(t, ok)
			assert.True(t, upgrade)
			ok, upgrade, err = h.Verify(t.Context(), hash, "wrong")
			require.NoError(t, err)
			assert.False(t, ok)
			assert.False(t, upgrade)
		})
	}
}

func TestBcryptBeyond72Bytes(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	stem := strings.Repeat("p", 72)
	hash, err := bcrypt.GenerateFromPassword([]byte(stem), bcrypt.MinCost)
	require.NoError(t, err)

	ok, upgrade, err := h.Verify(t.Context(), string(hash), stem+" and the part that bcrypt ignores")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.True(t, upgrade)
	ok, _, err = h.Verify(t.Context(), string(hash), stem[:71])
	require.NoError(t, err)
	assert.False(t, ok)

	// After the upgrade every byte counts.
	fresh, err := h.Hash(t.Context(), stem+" tail")
	require.NoError(t, err)
	ok, _, err = h.Verify(t.Context(), fresh, stem+" other")
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestHashThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	const salt, key = "c29tZXNhbHRzb21lc2FsdA", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	argon := func(version, parameters, salt, key string) string {
		return "$argon2id$" + version + "$" + parameters + "$" + salt + "$" + key
	}
	ok, _, err := h.Verify(t.Context(), argon("v=19", "m=64,t=1,p=1", salt, key), "x")
	require.NoError(t, err, "the form that the cases below damage is readable")
	require.False(t, ok)
	bc, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	require.NoError(t, err)
	good := string(bc)

	for name, hash := range map[string]string{
		"empty":                     "",
		"plain text":                "correct horse",
		"unknown algorithm":         "$scrypt$ln=16,r=8,p=1$c29tZXNhbHQ$AAAA",
		"argon2i":                   "$argon2i$v=19$m=64,t=1,p=1$" + salt + "$" + key,
		"argon2d":                   "$argon2d$v=19$m=64,t=1,p=1$" + salt + "$" + key,
		"prefix only":               "$argon2id$",
		"leading space":             " " + argon("v=19", "m=64,t=1,p=1", salt, key),
		"old version":               argon("v=16", "m=64,t=1,p=1", salt, key),
		"no version":                "$argon2id$m=64,t=1,p=1$" + salt + "$" + key,
		"terabytes of memory":       argon("v=19", "m=4294967295,t=1,p=1", salt, key),
		"just too much memory":      argon("v=19", "m=131073,t=1,p=1", salt, key),
		"memory overflows":          argon("v=19", "m=4294967296,t=1,p=1", salt, key),
		"no memory":                 argon("v=19", "m=0,t=1,p=1", salt, key),
		"less memory than lanes":    argon("v=19", "m=15,t=1,p=2", salt, key),
		"endless passes":            argon("v=19", "m=64,t=4294967295,p=1", salt, key),
		"just too many passes":      argon("v=19", "m=64,t=11,p=1", salt, key),
		"no pass":                   argon("v=19", "m=64,t=0,p=1", salt, key),
		"no thread":                 argon("v=19", "m=64,t=1,p=0", salt, key),
		"too many threads":          argon("v=19", "m=1024,t=1,p=9", salt, key),
		"threads overflow a byte":   argon("v=19", "m=64,t=1,p=257", salt, key),
		"negative":                  argon("v=19", "m=-64,t=1,p=1", salt, key),
		"plus sign":                 argon("v=19", "m=+64,t=1,p=1", salt, key),
		"leading zero":              argon("v=19", "m=064,t=1,p=1", salt, key),
		"hexadecimal":               argon("v=19", "m=0x40,t=1,p=1", salt, key),
		"space in parameters":       argon("v=19", "m=64, t=1,p=1", salt, key),
		"parameters swapped":        argon("v=19", "t=1,m=64,p=1", salt, key),
		"parameter missing":         argon("v=19", "m=64,t=1", salt, key),
		"parameter doubled":         argon("v=19", "m=64,m=64,t=1,p=1", salt, key),
		"short salt":                argon("v=19", "m=64,t=1,p=1", "c2FsdA", key),
		"no salt":                   argon("v=19", "m=64,t=1,p=1", "", key),
		"long salt":                 argon("v=19", "m=64,t=1,p=1", strings.Repeat("A", 88), key),
		"short key":                 argon("v=19", "m=64,t=1,p=1", salt, "AAAA"),
		"no key":                    argon("v=19", "m=64,t=1,p=1", salt, ""),
		"long key":                  argon("v=19", "m=64,t=1,p=1", salt, strings.Repeat("A", 88)),
		"padded base64":             argon("v=19", "m=64,t=1,p=1", salt+"==", key),
		"URL base64":                argon("v=19", "m=64,t=1,p=1", "____________________", key),
		"stray bits in base64":      argon("v=19", "m=64,t=1,p=1", "c29tZXNhbHRzb21lc2FsdB", key),
		"line break in base64":      argon("v=19", "m=64,t=1,p=1", salt[:8]+"\n"+salt[8:], key),
		"a part too many":           argon("v=19", "m=64,t=1,p=1", salt, key) + "$",
		"megabytes of text":         "$argon2id$" + strings.Repeat("$", 1<<20),
		"bcrypt cut short":          good[:59],
		"bcrypt too long":           good + "A",
		"bcrypt of days":            strings.Replace(good, "$04$", "$31$", 1),
		"bcrypt just too dear":      strings.Replace(good, "$04$", "$15$", 1),
		"bcrypt cost impossible":    strings.Replace(good, "$04$", "$99$", 1),
		"bcrypt cost not a number":  strings.Replace(good, "$04$", "$aa$", 1),
		"bcrypt of the broken kind": strings.Replace(good, "$2a$", "$2x$", 1),
		"bcrypt of version 3":       strings.Replace(good, "$2a$", "$3a$", 1),
		"bcrypt with foreign salt":  good[:10] + "*" + good[11:],
		"bcrypt with foreign key":   good[:50] + "*" + good[51:],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ok, upgrade, err := h.Verify(t.Context(), hash, "x")
			require.ErrorIs(t, err, passhash.ErrHashUnreadable)
			assert.ErrorIs(t, err, fault.Internal)
			assert.False(t, ok)
			assert.False(t, upgrade)
			if len(hash) > 20 {
				assert.NotContains(t, err.Error(), hash[10:], "an error must not quote the hash")
			}
		})
	}
}

func TestNewRefusesAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := passhash.New(passhash.Config{Memory: passhash.MaxMemory + 1, Time: 11, Threads: 9, Parallel: -1, Waiting: -1, RetryAfter: -1})
	for _, want := range []string{"Memory", "Time", "Threads", "Parallel is negative", "Waiting is negative", "RetryAfter is negative"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = passhash.New(passhash.Config{Memory: 15, Threads: 2})
	require.ErrorContains(t, err, "passhash: Config.Memory is 15 KiB")
}

// gate is a source of salts that holds each reader until it is opened, so that a test can
// count the hashes that run.
type gate struct {
	mu      sync.Mutex
	running int
	open    chan struct{}
}

func (g *gate) Read(p []byte) (int, error) {
	g.add(1)
	defer g.add(-1)
	<-g.open
	return len(p), nil
}

func (g *gate) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running += n
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running
}

func TestAtMostParallelHashesRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		cfg := cheap
		cfg.Parallel, cfg.Waiting, cfg.Random = 3, 17, g
		h := newHasher(t, cfg)
		results := make(chan error, 20)
		for range 20 {
			go func() {
				_, err := h.Hash(t.Context(), "secret")
				results <- err
			}()
		}
		synctest.Wait()
		assert.Equal(t, 3, g.count())
		assert.Empty(t, results, "seventeen wait, none is refused")
		close(g.open)
		for range 20 {
			assert.NoError(t, <-results)
		}
	})
}

func TestVerifyTakesATurnToo(t *testing.T) {
	t.Parallel()
	hash, err := newHasher(t, cheap).Hash(t.Context(), "secret")
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		cfg := cheap
		cfg.Parallel, cfg.Random = 1, g
		h := newHasher(t, cfg)
		results := make(chan error, 2)
		go func() { _, err := h.Hash(t.Context(), "secret"); results <- err }()
		synctest.Wait()
		go func() {
			ok, _, err := h.Verify(t.Context(), hash, "secret")
			if err == nil && !ok {
				err = errors.New("did not match")
			}
			results <- err
		}()
		synctest.Wait()
		assert.Empty(t, results, "the one turn is taken")
		close(g.open)
		assert.NoError(t, <-results)
		assert.NoError(t, <-results)
	})
}

func TestOneTooManyIsToldToComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		cfg := cheap
		cfg.Parallel, cfg.Waiting, cfg.RetryAfter, cfg.Random = 1, 2, 7*time.Second, g
		h := newHasher(t, cfg)
		results := make(chan error, 3)
		for range 3 {
			go func() { _, err := h.Hash(t.Context(), "secret"); results <- err }()
		}
		synctest.Wait()
		_, err := h.Hash(t.Context(), "secret")
		require.ErrorIs(t, err, passhash.ErrBusy)
		require.ErrorIs(t, err, fault.Exhausted)
		assert.Equal(t, 7*time.Second, fault.Public(err).RetryAfter)
		close(g.open)
		for range 3 {
			assert.NoError(t, <-results)
		}
		_, err = h.Hash(t.Context(), "secret")
		assert.NoError(t, err, "the places are free again")
	})
}

func TestWaitingObeysTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		cfg := cheap
		cfg.Parallel, cfg.Waiting, cfg.Random = 1, 1, g
		h := newHasher(t, cfg)
		first := make(chan error, 1)
		go func() { _, err := h.Hash(t.Context(), "secret"); first <- err }()
		synctest.Wait()
		for range 3 { // more than may wait: each gives its place back
			ctx, cancel := context.WithCancel(t.Context())
			second := make(chan error, 1)
			go func() { _, err := h.Hash(ctx, "secret"); second <- err }()
			synctest.Wait()
			cancel()
			err := <-second
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, fault.Unavailable)
		}
		close(g.open)
		assert.NoError(t, <-first)
	})
}

func TestContextThatIsDoneAlready(t *testing.T) {
	t.Parallel()
	h := newHasher(t, cheap)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Hash(ctx, "secret")
	require.ErrorIs(t, err, fault.Unavailable)
	ok, _, err := h.Verify(ctx, hash, "secret")
	require.ErrorIs(t, err, fault.Unavailable)
	assert.False(t, ok)
}

func TestNoRandomnessIsAnErrorAndGivesTheTurnBack(t *testing.T) {
	t.Parallel()
	cfg := cheap
	cfg.Parallel = 1
	cfg.Random = io.MultiReader(bytes.NewReader(make([]byte, 4)))
	h := newHasher(t, cfg)
	for range 3 {
		_, err := h.Hash(t.Context(), "secret")
		require.ErrorIs(t, err, fault.Unavailable)
	}
}

func FuzzVerify(f *testing.F) {
	h, err := passhash.New(cheap)
	if err != nil {
		f.Fatal(err)
	}
	good, err := h.Hash(f.Context(), "secret")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "secret")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAA", "x")
	f.Add("$2a$04$abcdefghijklmnopqrstuuAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "x")
	f.Fuzz(func(t *testing.T, hash, password string) {
		ok, upgrade, err := h.Verify(t.Context(), hash, password)
		if err != nil && (ok || upgrade) {
			t.Fatalf("an error and a match: %v", err)
		}
		if upgrade && !ok {
			t.Fatal("an upgrade without a match")
		}
	})
}

func ExampleHasher() {
	hasher, err := passhash.New(passhash.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	hash, err := hasher.Hash(ctx, "correct horse battery staple")
	if err != nil {
		fmt.Println(err)
		return
	}
	ok, upgrade, err := hasher.Verify(ctx, hash, "correct horse battery staple")
	fmt.Println(hash[:31], ok, upgrade, err)
	// Output: $argon2id$v=19$m=19456,t=2,p=1$ true false <nil>
}
