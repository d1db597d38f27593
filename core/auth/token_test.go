package auth

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	secretA = strings.Repeat("A", 43)
	secretB = strings.Repeat("B", 42) + "A"
)

func TestRefreshTokenRoundTrip(t *testing.T) {
	t.Parallel()
	for _, session := range []string{"s", "01JSESSION", "with.dots.in.it", strings.Repeat("x", maxSessionID)} {
		want := refreshToken{session, secretA, secretB}
		got, ok := parseRefreshToken(want.String())
		require.True(t, ok, session)
		require.Equal(t, want, got)
	}
}

func TestSecretsHaveOneSpelling(t *testing.T) {
	t.Parallel()
	require.True(t, isSecret(secretA))
	for name, bad := range map[string]string{
		"empty": "", "short": secretA[1:], "long": secretA + "A", "padded": secretA + "=",
		"bits that are not used": strings.Repeat("A", 42) + "B",
		"standard base 64":       "+" + secretA[1:],
		"line break":             secretA[:20] + "\n" + secretA[20:],
		"line break, same size":  secretA[:20] + "\n" + secretA[21:],
	} {
		require.False(t, isSecret(bad), name)
	}
}

func FuzzParseRefreshToken(f *testing.F) {
	for _, seed := range []string{
		"", "..", "a.b.c", "s." + secretA + "." + secretB, "." + secretA + "." + secretB,
		"a.b." + secretA + "." + secretB, "s." + secretA + "." + secretB + "\n", "\xff." + secretA + "." + secretB,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseRefreshToken(text)
		if !ok {
			require.Zero(t, got)
			return
		}
		require.Equal(t, text, got.String(), "a token has one spelling")
		require.NotEmpty(t, got.session)
		require.LessOrEqual(t, len(got.session), maxSessionID)
		require.True(t, isSecret(got.family))
		require.True(t, isSecret(got.secret))
	})
}

func TestClientKey(t *testing.T) {
	t.Parallel()
	same := func(a, b string) bool { return clientKey(a) == clientKey(b) }
	require.True(t, same("192.0.2.1", "::ffff:192.0.2.1"))
	require.False(t, same("192.0.2.1", "192.0.2.2"))
	require.True(t, same("2001:db8::1", "2001:db8::ffff:1"))
	require.True(t, same("fe80::1%eth0", "fe80::2%eth1"))
	require.False(t, same("2001:db8::1", "2001:db8:0:1::1"))
	require.False(t, same("socket a", "socket b"))
	require.LessOrEqual(t, len(clientKey(strings.Repeat("x", 1<<16))), 64)
}
