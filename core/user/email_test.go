package user_test

import (
	"net/mail"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func TestParseEmail(t *testing.T) {
	t.Parallel()
	longLocal := strings.Repeat("l", 64)
	longest := longLocal + "@" + strings.Repeat("d", 63) + "." + strings.Repeat("d", 63) + "." + strings.Repeat("d", 61)
	for in, want := range map[string]user.Email{
		"ada@example.com":                "ada@example.com",
		"  Ada.Lovelace+tag@EXAMPLE.com": "ada.lovelace+tag@example.com",
		"a@b.c":                          "a@b.c",
		"me@localhost":                   "me@localhost",
		"o'neill_{x}@sub-1.example.com":  "o'neill_{x}@sub-1.example.com",
		"joerg@XN--MLLER-KVA.example":    "joerg@xn--mller-kva.example",
		longLocal + "@example.com":       user.Email(longLocal + "@example.com"),
		longest:                          user.Email(longest),
	} {
		got, err := user.ParseEmail(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{
		"", " ", "ada", "@example.com", "ada@", "ada@@example.com", "a@b@example.com",
		"ada@example.com, eve@example.com", "ada@example.com;eve@example.com", "Ada <ada@example.com>", "<ada@example.com>",
		"ada @example.com", "ada@exam ple.com", "ada@example.com\r\nBcc: eve@example.com", "ada@example.com\n\x00", "ada\x00@example.com",
		`"ada lovelace"@example.com`, `"ada"@example.com`, `a\da@example.com`, "ada@[192.0.2.1]", "ada(comment)@example.com",
		".ada@example.com", "ada.@example.com", "a..da@example.com", "ada@example..com", "ada@.example.com", "ada@example.com.", "ada@-example.com",
		"ada@example.com\xff", "\xffada@example.com", "ada@exam\u200bple.com", "ada\u202e@example.com", "ada@exam\u00a0ple.com",
		"ada@exam_ple.com", "ada@example-.com", "ada@exa-.mple.com", "ada@ex!ample.com", "ada@" + strings.Repeat("d", 64) + ".com",
		"jörg@example.com", "ada@exämple.com", "\u212aevin@example.com", "ıda@example.com",
		"ada@erased.invalid", "Ada@ERASED.invalid", longLocal + "l@example.com", "x" + longest, strings.Repeat("x", 1<<20) + "@example.com",
	} {
		got, err := user.ParseEmail(in)
		require.ErrorIs(t, err, user.ErrEmailInvalid, "%.80q", in)
		require.ErrorIs(t, err, fault.Invalid)
		require.Empty(t, got)
	}
}

func FuzzParseEmail(f *testing.F) {
	for _, seed := range []string{"ada@example.com", " A@B.C ", "İ@example.com", "ẞ@example.com", "a@b\r\nc", `"a"@b`, "a@[::1]", "\xff@b", "K@example.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := user.ParseEmail(in)
		if err != nil {
			require.ErrorIs(t, err, user.ErrEmailInvalid)
			require.Empty(t, got)
			return
		}
		s := string(got)
		require.True(t, utf8.ValidString(s))
		require.LessOrEqual(t, len(s), user.MaxEmail)
		require.Equal(t, 1, strings.Count(s, "@"))
		for i := range len(s) {
			require.True(t, s[i] > ' ' && s[i] <= '~', "%q", s)
		}
		parsed, err := mail.ParseAddress(s)
		require.NoError(t, err, "%q", s)
		require.Equal(t, s, parsed.Address)
		again, err := user.ParseEmail(s)
		require.NoError(t, err, "what is canonical is valid: %q", s)
		require.Equal(t, got, again, "and stays as it is")
	})
}

func TestParseFullName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Ada":                          "Ada",
		"  Ada \t\n King  Lovelace ":   "Ada King Lovelace",
		"李小龍":                          "李小龍",
		"Łukasz O'Neill-Smith, Jr.":    "Łukasz O'Neill-Smith, Jr.",
		"Ada\u00a0Lovelace":            "Ada Lovelace",
		"<b>Ada</b>":                   "<b>Ada</b>",
		strings.Repeat("ö", 100):       strings.Repeat("ö", 100),
		strings.Repeat(" ", 500) + "x": "x",
	} {
		got, err := user.ParseFullName(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{
		"", " \t\n", "\u00a0", strings.Repeat("ö", 101), strings.Repeat("x", 1<<20),
		"A\x00da", "Ada\x7f", "Ada\u202e", "A\u200bda", "\ufeffAda", "Ada\xff", "\ue000", "\u3164", "\u2800", "A\u034fda", "\U000e0041",
	} {
		got, err := user.ParseFullName(in)
		require.ErrorIs(t, err, user.ErrFullNameInvalid, "%.80q", in)
		require.NotEmpty(t, fault.Public(err).Detail, "the person is told why")
		require.Empty(t, got)
	}
}

func FuzzParseFullName(f *testing.F) {
	for _, seed := range []string{"Ada", "  Ada  Lovelace ", "", "\x00", "\u202e", "\xff", "a\u2028b", "👩‍💻"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := user.ParseFullName(in)
		if err != nil {
			require.ErrorIs(t, err, user.ErrFullNameInvalid)
			require.Empty(t, got)
			return
		}
		require.True(t, utf8.ValidString(got))
		n := utf8.RuneCountInString(got)
		require.True(t, n >= 1 && n <= user.MaxFullName)
		require.Equal(t, strings.Join(strings.Fields(got), " "), got)
		again, err := user.ParseFullName(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
