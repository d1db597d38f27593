package user_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func TestParseLanguage(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "en": "en", "EN-gb": "en-GB", "mn-cYRL-MN": "mn-Cyrl-MN", "zh-cmn-Hans-CN": "zh-cmn-Hans-CN", "SL-ROZAJ-BISKE": "sl-rozaj-biske", "de-1996": "de-1996",
		"es-419": "es-419", "de-CH-x-phonebk": "de-CH-x-phonebk", "EN-A-MYEXT-B-ANOTHER": "en-a-myext-b-another", "x-whatever": "x-whatever", "X-A-1": "x-a-1",
		"en-CA-x-CA": "en-CA-x-ca", "az-Arab-x-AZE": "az-Arab-x-aze", "zh-yue-aaa-bbb": "zh-yue-aaa-bbb", "qaaa": "qaaa", "abcdefgh": "abcdefgh", "de-u-co-phonebk": "de-u-co-phonebk",
		"x-" + strings.Repeat("abcdefgh-", 3) + "abcdef": "x-" + strings.Repeat("abcdefgh-", 3) + "abcdef",
	} {
		got, err := user.ParseLanguage(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{
		" ", "e", "1", "*", "en_GB", "en-", "-en", "en--GB", "en GB", " en", "en\n", "en-GB\x00", "abcdefghi", "en-abcdefghi", "e1", "én", "en-ſ", "x", "en-x", "x-abcdefghi", "en-a", "en-a-x-b", "en-a-b",
		"de-1996-1996", "de-DE-1901-1901", "en-a-bbb-a-ccc", "de-DE-DE", "de-Latn-Latn", "zh-aaa-bbb-ccc-ddd", "abcd-aaa", "de-419-DE", "i-klingon", "i-default", "en-GB-x-", "12", "en-12",
		"x-" + strings.Repeat("abcdefgh-", 3) + "abcdefg", strings.Repeat("a-", 1<<16),
	} {
		got, err := user.ParseLanguage(in)
		require.ErrorIs(t, err, user.ErrLanguageInvalid, "%.80q", in)
		require.ErrorIs(t, err, fault.Invalid)
		require.Empty(t, got)
	}
}

func FuzzParseLanguage(f *testing.F) {
	for _, seed := range []string{"", "en", "de-Latn-DE-1996", "x-a", "zh-cmn-Hans-CN-a-bb-x-c", "en--", "i-klingon", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := user.ParseLanguage(in)
		if err != nil {
			require.ErrorIs(t, err, user.ErrLanguageInvalid)
			require.Empty(t, got)
			return
		}
		require.True(t, strings.EqualFold(in, got))
		again, err := user.ParseLanguage(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestAcceptedLanguage(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "de": "de", "de-ch,en;q=0.7": "de-CH", "en;q=0.7, de;q=0.8": "de", "en ; q=0.5 , fr ; Q=0.6": "fr", "en;q=0.5,de;q=0.5": "en", "en;q=1.000": "en",
		"*": "", "*,de": "", "de,*;q=0.1": "de", "en_GB,de": "", "en;q=0": "", "de;q=0,en;q=0.1": "en", "en;q=2": "", "en;q=-1": "", "en;q=nan": "", "en;q=": "", "en;x=1": "", "en;q=0.5;x=1": "",
		",de": "", "de,": "de", strings.Repeat("en,", 400): "", "de\x00": "",
	} {
		require.Equal(t, want, user.AcceptedLanguage(in), "%.80q", in)
	}
}

func FuzzAcceptedLanguage(f *testing.F) {
	for _, seed := range []string{"", "de-CH,de;q=0.9,en;q=0.8,*;q=0.5", "en;q=x", ";;,,", "de;q=0.0000001"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got := user.AcceptedLanguage(in)
		again, err := user.ParseLanguage(got)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestParseAvatarURL(t *testing.T) {
	t.Parallel()
	longest := "https://example.com/" + strings.Repeat("a", user.MaxAvatarURL-len("https://example.com/"))
	for _, in := range []string{
		"", "https://example.com", "http://example.com/a.png?b=c&d#e", "https://[2001:db8::1]:8443/a", "https://example.com/%C3%A4", "HTTPS://EXAMPLE.COM/A", "https://localhost/a", longest,
	} {
		got, err := user.ParseAvatarURL(in)
		require.NoError(t, err, in)
		require.Equal(t, in, got)
	}
	for _, in := range []string{
		" ", "a.png", "/a.png", "//example.com/a.png", "javascript:alert(1)", "data:image/png;base64,AAAA", "ftp://example.com/a", "file:///etc/passwd", "https:", "https://", "https:///a", "https:example.com",
		"https://:443/a", "https://ada@example.com/a", "https://ada:secret@example.com/a", "https://@example.com/a", "https://example.com/ä", "https://example.com/a b", "https://example.com/\n", "https://example.com/\x00",
		"https://example.com/\"><script>", "https://example.com/<b>", "https://example.com\\a", "https://example.com/%zz", "https://example.com:port/", " https://example.com", "blob:https://example.com/a",
		"https://example.com/{a}", longest + "a", strings.Repeat("https://", 1<<16),
	} {
		got, err := user.ParseAvatarURL(in)
		require.ErrorIs(t, err, user.ErrAvatarURLInvalid, "%.80q", in)
		require.ErrorIs(t, err, fault.Invalid)
		require.Empty(t, got)
	}
}
