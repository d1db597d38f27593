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

func TestNetworksOf(t *testing.T) {
	t.Parallel()
	same := func(a, b string, at int) bool { return networksOf(a)[at] == networksOf(b)[at] }
	require.Empty(t, networksOf(""))
	require.Len(t, networksOf("192.0.2.1"), 1)
	require.True(t, same("192.0.2.1", "::ffff:192.0.2.1", 0))
	require.False(t, same("192.0.2.1", "192.0.2.2", 0))
	require.True(t, same("2001:db8::1", "2001:db8::ffff:1", 0))
	require.True(t, same("fe80::1%eth0", "fe80::2%eth1", 0))
	require.False(t, same("2001:db8::1", "2001:db8:0:1::1", 0))
	require.True(t, same("2001:db8::1", "2001:db8:0:1::1", 1), "one of 56 bits")
	require.False(t, same("2001:db8::1", "2001:db8:0:100::1", 1))
	require.True(t, same("2001:db8::1", "2001:db8:0:100::1", 2), "one of 48 bits")
	require.False(t, same("2001:db8::1", "2001:db8:1::1", 2))
	for i, n := range networksOf("2001:db8::1") {
		require.Equal(t, 1<<i, n.factor)
	}
	require.False(t, same("socket a", "socket b", 0))
	require.LessOrEqual(t, len(networksOf(strings.Repeat("x", 1<<16))[0].key), 64)
}
