package jwtauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// shared are keys in one file, as two programs see it, with one clock.
func shared(t *testing.T) (file string, c *later, first, second *jwtauth.Keys) {
	t.Helper()
	file, c = filepath.Join(t.TempDir(), "keys.json"), &later{at: now}
	open := func() *jwtauth.Keys {
		keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{File: file, Now: c.now})
		require.NoError(t, err)
		return keys
	}
	return file, c, open(), open()
}

func states(keys *jwtauth.Keys) (all []jwtauth.KeyState) {
	for _, k := range keys.List() {
		all = append(all, k.State)
	}
	return all
}

// A new key is published before it signs, and the old one verifies until its last token has ended, for everybody who reads the file.
func TestRotationWithALead(t *testing.T) {
	t.Parallel()
	file, c, mine, other := shared(t)
	old := mine.List()[0].ID
	kid, made, err := mine.Rotate(jwtauth.Rotation{Lead: 15 * time.Minute, Overlap: time.Hour})
	require.NoError(t, err)
	require.True(t, made)
	require.NoError(t, other.Reload())
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: other, Issuer: us})
	require.NoError(t, err)
	signs := func() string {
		claims := good()
		claims.IssuedAt, claims.ExpiresAt = c.now(), c.now().Add(time.Hour)
		token, err := issuer.Issue(t.Context(), claims)
		require.NoError(t, err)
		var h struct{ Kid string }
		require.NoError(t, json.Unmarshal([]byte(decode(t, token[:bytes.IndexByte([]byte(token), '.')])), &h))
		return h.Kid
	}
	known := func(kid string) bool {
		_, err := other.PublicKey(t.Context(), kid)
		return err == nil
	}
	assert.Equal(t, []jwtauth.KeyState{jwtauth.KeySigns, jwtauth.KeyWaits}, states(other))
	assert.Equal(t, old, signs())
	assert.True(t, known(kid), "it is published before it signs")
	assert.Len(t, jwks(t, other.JWKS()), 2)

	c.move(15*time.Minute - time.Nanosecond)
	assert.Equal(t, old, signs())
	c.move(time.Nanosecond)
	assert.Equal(t, kid, signs(), "by the clock alone")
	assert.Equal(t, []jwtauth.KeyState{jwtauth.KeySigns, jwtauth.KeyVerifies}, states(other))
	assert.Equal(t, kid, jwks(t, other.JWKS())[0].Kid)
	c.move(time.Hour - time.Nanosecond)
	assert.True(t, known(old))
	c.move(time.Nanosecond)
	assert.False(t, known(old))
	assert.Equal(t, []jwtauth.KeyState{jwtauth.KeySigns}, states(other))

	again, err := jwtauth.NewKeys(jwtauth.KeysConfig{File: file, Now: c.now})
	require.NoError(t, err)
	assert.Equal(t, kid, again.List()[0].ID)
	c.move(-2 * time.Hour) // a clock that is behind all of it
	assert.Equal(t, old, signs())
}

func TestOneRotationAtATime(t *testing.T) {
	t.Parallel()
	_, c, mine, other := shared(t)
	lead := jwtauth.Rotation{Lead: time.Minute, Overlap: time.Hour}
	kid, made, err := mine.Rotate(lead)
	require.NoError(t, err)
	require.True(t, made)
	again, made, err := other.Rotate(lead) // which has not read the file since
	require.NoError(t, err)
	assert.False(t, made)
	assert.Equal(t, kid, again)
	_, _, err = other.Rotate(jwtauth.Rotation{Lead: time.Minute, Algorithm: jwtauth.ES256})
	require.ErrorIs(t, err, jwtauth.ErrRotating)
	require.ErrorIs(t, err, fault.Conflict)

	urgent, made, err := other.Rotate(jwtauth.Rotation{Algorithm: jwtauth.ES256, Overlap: time.Hour})
	require.NoError(t, err)
	require.True(t, made)
	assert.Equal(t, urgent, other.List()[0].ID)
	_, err = other.PublicKey(t.Context(), kid)
	require.ErrorIs(t, err, jwtauth.ErrKeyUnknown, "it never signed")
	c.move(2 * time.Minute)
	assert.Equal(t, urgent, other.List()[0].ID)
	_, _, err = other.Rotate(jwtauth.Rotation{Lead: -1})
	require.Error(t, err)
}

func TestManyRotateAtOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		file, _, mine, _ := shared(t)
		start, made := make(chan struct{}), make(chan string, 16)
		var all sync.WaitGroup
		for range cap(made) {
			all.Go(func() {
				keys, err := jwtauth.OpenKeys(file)
				if !assert.NoError(t, err) {
					return
				}
				<-start
				kid, is, err := keys.Rotate(jwtauth.Rotation{Lead: time.Hour, Overlap: time.Hour})
				if assert.NoError(t, err) && is {
					made <- kid
				}
			})
		}
		close(start)
		all.Wait()
		close(made)
		require.Len(t, made, 1)
		require.NoError(t, mine.Reload())
		require.Len(t, jwks(t, mine.JWKS()), 2)
		onlyFile(t, file)
	}
}

// Whatever a crash leaves beside the file, the file is whole, and the next rotation goes.
func TestACrashInTheMiddleLeavesAUsableSet(t *testing.T) {
	t.Parallel()
	file, _, mine, other := shared(t)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	for name, content := range map[string]string{
		".keys.json-123": string(before[:len(before)/2]), // it was being written
		".keys.json-456": string(before),                 // it was about to be renamed
		"keys.json.lock": "",                             // the lock went with its program
	} {
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(content), 0o600))
	}
	require.NoError(t, other.Reload())
	assert.Equal(t, mine.JWKS(), other.JWKS())
	_, made, err := other.Rotate(jwtauth.Rotation{Lead: time.Minute, Overlap: time.Hour})
	require.NoError(t, err)
	assert.True(t, made)
}

// TestAFileSystemWithoutModesIsNotRefused: there nobody can make the file 0600, and the program would not start a second time.
func TestAFileSystemWithoutModesIsNotRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no file of Windows is refused")
	}
	folder := t.TempDir()
	assert.True(t, jwtauth.KeepsModes(folder, os.CreateTemp))
	assert.False(t, jwtauth.KeepsModes(folder, func(folder, pattern string) (*os.File, error) { // as FAT makes it
		f, err := os.CreateTemp(folder, pattern)
		if err == nil {
			err = f.Chmod(0o755)
		}
		return f, err
	}))
	assert.True(t, jwtauth.KeepsModes(filepath.Join(folder, "missing"), os.CreateTemp), "it is not known")
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestAFileThatEverybodyMayReadIsRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes")
	}
	file, _, mine, _ := shared(t)
	require.NoError(t, os.Chmod(file, 0o644))
	_, err := jwtauth.OpenKeys(file)
	require.ErrorContains(t, err, file+" is open to everybody (mode 0644)")
	require.ErrorContains(t, mine.Reload(), "0644", "unless it was read before")
	_, err = jwtauth.ReadKeys(filepath.Join(t.TempDir(), "keys.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// kept is a log that tests read.
type kept struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (k *kept) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.Write(b)
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

func TestKeysRotateByAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "keys.json")
		log := &kept{}
		var outcomes []string
		var refused atomic.Bool
		refused.Store(true)
		cfg := jwtauth.KeepConfig{
			MaxAge: 24 * time.Hour, Rotation: jwtauth.Rotation{Lead: 15 * time.Minute, Overlap: time.Hour}, Log: slog.New(slog.NewTextHandler(log, nil)),
			Record: func(_ context.Context, signer string) (func(string), error) {
				if refused.Load() {
					return nil, errors.New("the audit log is full")
				}
				return func(outcome string) { outcomes = append(outcomes, signer+" "+outcome) }, nil
			},
		}
		keys, err := jwtauth.OpenKeys(file)
		require.NoError(t, err)
		second, err := jwtauth.OpenKeys(file)
		require.NoError(t, err)
		first := keys.List()[0].ID
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { assert.NoError(t, keys.Keep(ctx, cfg)) })
		all.Go(func() { assert.NoError(t, second.Keep(ctx, jwtauth.KeepConfig{})) }) // it reads only
		pass := func(d time.Duration) {
			time.Sleep(d) // in the bubble's time
			synctest.Wait()
		}
		pass(23*time.Hour + 44*time.Minute)
		assert.Len(t, second.List(), 1)
		pass(2 * time.Minute)
		assert.Len(t, second.List(), 1, "what cannot be recorded is not done")
		assert.Contains(t, log.String(), "the audit log is full")
		refused.Store(false)
		pass(2 * time.Minute)
		require.Equal(t, []jwtauth.KeyState{jwtauth.KeySigns, jwtauth.KeyWaits}, states(second), "another node has noticed")
		assert.Equal(t, []string{first + " done"}, outcomes)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.NotEmpty(t, jwks(t, data)[0].D)

		pass(16 * time.Minute)
		assert.Equal(t, []jwtauth.KeyState{jwtauth.KeySigns, jwtauth.KeyVerifies}, states(second))
		assert.NotEqual(t, first, second.List()[0].ID)
		data, err = os.ReadFile(file)
		require.NoError(t, err)
		for _, k := range jwks(t, data) {
			assert.Equal(t, k.Kid != first, k.D != "", "what signs no longer has no secret")
		}
		pass(time.Hour)
		assert.Len(t, second.List(), 1)
		data, err = os.ReadFile(file)
		require.NoError(t, err)
		assert.Len(t, jwks(t, data), 1)
		pass(24 * time.Hour)
		assert.Len(t, outcomes, 2)

		// What somebody broke is named, and nothing changes.
		before := second.JWKS()
		require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
		pass(time.Minute)
		assert.Contains(t, log.String(), file+" is damaged")
		assert.Equal(t, before, second.JWKS())
		cancel()
		all.Wait()
	})
}

// TestTheFileOfAnOlderProgramIsLeftToItForADay: whoever goes back on the first day finds no key that waits.
func TestTheFileOfAnOlderProgramIsLeftToItForADay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "keys.json")
		_, err := jwtauth.OpenKeys(file)
		require.NoError(t, err)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var doc struct {
			Keys []map[string]any `json:"keys"`
		}
		require.NoError(t, json.Unmarshal(data, &doc))
		delete(doc.Keys[0], "signsAt")
		data, err = json.Marshal(doc)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, data, 0o600))
		made := time.Now().Add(-100 * 24 * time.Hour)
		require.NoError(t, os.Chtimes(file, made, made))

		keys, err := jwtauth.OpenKeys(file)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			assert.NoError(t, keys.Keep(ctx, jwtauth.KeepConfig{MaxAge: 90 * 24 * time.Hour, Rotation: jwtauth.Rotation{Lead: 15 * time.Minute, Overlap: time.Hour}}))
		})
		time.Sleep(24*time.Hour - time.Minute)
		synctest.Wait()
		now, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(data), string(now))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		assert.Equal(t, []jwtauth.KeyState{jwtauth.KeySigns, jwtauth.KeyWaits}, states(keys))
		cancel()
		all.Wait()
	})
}

func TestATokenOutlivesTheSigningOfItsKey(t *testing.T) {
	t.Parallel()
	_, c, mine, other := shared(t)
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: mine, Issuer: us})
	require.NoError(t, err)
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: other.PublicKey, Issuer: us, Now: c.now})
	require.NoError(t, err)
	_, _, err = other.Rotate(jwtauth.Rotation{Lead: time.Minute, Overlap: 15 * time.Minute})
	require.NoError(t, err)
	c.move(time.Minute - time.Second)
	claims := good()
	claims.IssuedAt, claims.ExpiresAt = c.now(), c.now().Add(15*time.Minute)
	token, err := issuer.Issue(t.Context(), claims) // of the old key, which has not heard
	require.NoError(t, err)
	c.move(15*time.Minute - time.Second)
	_, err = verifier.Verify(t.Context(), token, auth.AudienceAPI)
	require.NoError(t, err)
}

func TestKeepConfig(t *testing.T) {
	t.Parallel()
	_, _, mine, _ := shared(t)
	require.ErrorContains(t, mine.Keep(t.Context(), jwtauth.KeepConfig{Every: -1}), "Every")
	require.ErrorContains(t, mine.Keep(t.Context(), jwtauth.KeepConfig{MaxAge: -1}), "MaxAge")
}
