package auth

import (
	"encoding/base32"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test values of RFC 4226 appendix D.
func TestHOTPOfTheRFC(t *testing.T) {
	t.Parallel()
	for counter, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		assert.Equal(t, want, hotp([]byte("12345678901234567890"), uint64(counter), 6))
	}
}

// The test values of RFC 6238 appendix B for SHA-1.
func TestTOTPOfTheRFC(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		at   int64
		step int64
		want string
	}{
		{59, 0x1, "94287082"}, {1111111109, 0x23523EC, "07081804"}, {1111111111, 0x23523ED, "14050471"},
		{1234567890, 0x273EF07, "89005924"}, {2000000000, 0x3F940AA, "69279037"}, {20000000000, 0x27BC86AA, "65353130"},
	} {
		assert.Equal(t, x.step, stepAt(time.Unix(x.at, 0)))
		assert.Equal(t, x.want, hotp([]byte("12345678901234567890"), uint64(x.step), 8))
	}
}

func TestTOTPMatchesOneStepBeforeAndAfterOnce(t *testing.T) {
	t.Parallel()
	secret, at := []byte("12345678901234567890"), time.Unix(1111111111, 0)
	now := stepAt(at)
	for _, x := range []struct {
		name  string
		of    int64 // the step of the code
		last  int64 // the last one that was taken
		taken bool
	}{
		{"the current one", now, 0, true}, {"the one before", now - 1, 0, true}, {"the next one", now + 1, 0, true},
		{"two before", now - 2, 0, false}, {"two after", now + 2, 0, false},
		{"the one that was taken", now, now, false}, {"one before what was taken", now - 1, now, false}, {"one after what was taken", now + 1, now, true},
	} {
		step, ok := totpMatch(secret, hotp(secret, uint64(x.of), 6), at, x.last)
		assert.Equal(t, x.taken, ok, x.name)
		if ok {
			assert.Equal(t, x.of, step, x.name)
		}
	}
	_, ok := totpMatch(secret, hotp(secret, 0, 6), time.Unix(0, 0), -1)
	assert.True(t, ok, "at the beginning there is no step before")
}

func TestTOTPAddressOfAnApp(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "otpauth://totp/Talk%20&%20Co:ada+x@example.com?secret=GEZDGNBV&issuer=Talk+%26+Co&algorithm=SHA1&digits=6&period=30",
		totpURI("Talk & Co", "ada+x@example.com", "GEZDGNBV"))
	raw, err := base32.StdEncoding.DecodeString(totpEncoding.EncodeToString(make([]byte, totpSecretBytes)))
	require.NoError(t, err)
	assert.Len(t, raw, totpSecretBytes, "no padding is missing")
}

func TestSealedTextOpensWithItsKeyAndPurposeAlone(t *testing.T) {
	t.Parallel()
	a, b := NewFactorKey(), NewFactorKey()
	one, err := newSealer([][]byte{a}, strings.NewReader(strings.Repeat("r", 100)))
	require.NoError(t, err)
	sealed, err := one.seal([]byte("secret"), "totp:u1")
	require.NoError(t, err)
	assert.NotContains(t, string(sealed), "secret")
	rotated, err := newSealer([][]byte{b, a}, nil)
	require.NoError(t, err)
	plain, old, err := rotated.open(sealed, "totp:u1")
	require.NoError(t, err)
	assert.Equal(t, "secret", string(plain))
	assert.True(t, old, "the first key has not sealed it")
	plain, old, err = one.open(sealed, "totp:u1")
	require.NoError(t, err)
	assert.Equal(t, "secret", string(plain))
	assert.False(t, old)
	other, err := newSealer([][]byte{b}, nil)
	require.NoError(t, err)
	for name, open := range map[string]func() ([]byte, bool, error){
		"another key":     func() ([]byte, bool, error) { return other.open(sealed, "totp:u1") },
		"another purpose": func() ([]byte, bool, error) { return one.open(sealed, "totp:u2") },
		"cut":             func() ([]byte, bool, error) { return one.open(sealed[:11], "totp:u1") },
		"empty":           func() ([]byte, bool, error) { return one.open(nil, "totp:u1") },
		"changed": func() ([]byte, bool, error) {
			changed := append([]byte{}, sealed...)
			changed[len(changed)-1] ^= 1
			return one.open(changed, "totp:u1")
		},
	} {
		_, _, err := open()
		assert.ErrorIs(t, err, errSealed, name)
	}
	_, err = newSealer([][]byte{a, a[:16]}, nil)
	assert.EqualError(t, err, "the key 2 has 16 bytes, not 32")
}
