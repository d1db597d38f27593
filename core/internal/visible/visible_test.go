package visible_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/internal/visible"
)

func TestOnly(t *testing.T) {
	for name, s := range map[string]string{
		"ASCII":                            "Ada Lovelace",
		"nothing":                          "",
		"spaces":                           "  ",
		"a combined accent":                "cafe\u0301",
		"Persian, U+200C between letters":  "می\u200cخواهم",
		"Persian, U+200C behind a mark":    "نامه\u064e\u200cها",
		"Sinhala, U+200D behind al-lakuna": "ශ්\u200dරී ලංකා",
		"Malayalam, a chillu of old":       "ന്\u200d",
		"Hindi, U+200C behind virama":      "क्\u200cष",
		"Hindi, U+200D behind virama":      "क्\u200dष",
		"a family":                         "👨\u200d👩\u200d👧\u200d👦",
		"a profession with a skin":         "👩🏽\u200d💻",
		"a heart on fire":                  "❤\ufe0f\u200d🔥",
		"the rainbow flag":                 "🏳\ufe0f\u200d🌈",
		"a flag of two letters":            "🇫🇷",
		"the flag of Scotland":             "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
		"a keycap":                         "1\ufe0f\u20e3",
		"a variant of a Han character":     "葛\U000e0100城市",
		"a Mongolian variant":              "ᠠ\u180b",
	} {
		assert.True(t, visible.Only(s), name)
	}
	for name, s := range map[string]string{
		"U+200D between Latin letters":  "a\u200db",
		"U+200C between Latin letters":  "a\u200cb",
		"U+200C alone":                  "\u200c",
		"U+200D first":                  "\u200d👩",
		"U+200D last":                   "👩\u200d",
		"U+200D twice":                  "👩\u200d\u200d💻",
		"U+200D before a letter":        "👩\u200da",
		"U+200C at the end of a word":   "می\u200c",
		"U+200C behind what joins none": "ا\u200cب",
		"U+200C before Latin":           "می\u200ca",
		"a zero-width space":            "a\u200bb",
		"a word joiner":                 "a\u2060b",
		"a soft hyphen":                 "a\u00adb",
		"a byte-order mark":             "\ufeffa",
		"an override of direction":      "a\u202eb",
		"a filler of Hangul":            "a\u3164",
		"a grapheme joiner":             "a\u034fb",
		"a blank of Braille":            "a\u2800",
		"a line separator":              "a\u2028b",
		"a control character":           "a\x1bb",
		"DEL":                           "a\x7f",
		"a tag by itself":               "a\U000e0067\U000e007f",
		"a flag whose tags do not end":  "🏴\U000e0067\U000e0062",
		"a flag whose tags are none":    "🏴\U000e007f",
		"a variation selector first":    "\ufe0fa",
		"one behind a space":            "a \ufe0f",
		"a private character":           "a\ue000",
		"what is not assigned":          "a\u0378",
	} {
		assert.False(t, visible.Only(s), name)
	}
}

func TestAny(t *testing.T) {
	for _, s := range []string{"a", " a ", "\u200b👍", "\u0301", "!"} {
		assert.True(t, visible.Any(s), "%+q", s)
	}
	for _, s := range []string{"", " ", "\n\t\r\n", "\u00a0", "\u3000", "\u200b", "\u200d\u200c", "\ufe0f", "\u3164", "\u2800", "\u034f", "\u00ad", "\u2066\u2069", "\x00\x07", "\U000e0100"} {
		assert.False(t, visible.Any(s), "%+q", s)
	}
}

// The tables are what the script prints, where the perl of this machine knows the same Unicode.
func TestTables(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("perl is not installed")
	}
	want, err := os.ReadFile("tables.go")
	require.NoError(t, err)
	head, _, _ := strings.Cut(string(want), "\n")
	printed, err := exec.CommandContext(t.Context(), perl, "tables.pl").Output()
	require.NoError(t, err)
	if got, _, _ := strings.Cut(string(printed), "\n"); got != head {
		t.Skipf("perl knows another Unicode: %s", got)
	}
	assert.Equal(t, string(want), string(printed))
}

func BenchmarkOnly(b *testing.B) {
	for name, s := range map[string]string{"ascii": "general-discussion", "joined": "می\u200cخواهم"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				visible.Only(s)
			}
		})
	}
}
