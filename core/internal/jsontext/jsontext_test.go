package jsontext_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/internal/jsontext"
)

func TestCompact(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	for given, want := range map[string]string{
		`{}`:                                "{}",
		" {\n} \t":                          "{}",
		`{"b": 1, "a" : [ true , null ] }`:  `{"b":1,"a":[true,null]}`,
		`{"a":1,"a":2}`:                     `{"a":1,"a":2}`,
		`{"n": 1.50e+03}`:                   `{"n":1.50e+03}`,
		`{" a b ": " \" c { [ "}`:           `{" a b ":" \" c { [ "}`,
		`{"é":"\u00e9\ud83d\ude00\\u0000"}`: `{"é":"\u00e9\ud83d\ude00\\u0000"}`,
		nested(32):                          nested(32),
		`{"a":"` + strings.Repeat("x", 92) + `"}`:  `{"a":"` + strings.Repeat("x", 92) + `"}`,
		`{"a":` + strings.Repeat(" ", 1000) + `1}`: `{"a":1}`,
	} {
		got, err := jsontext.Compact(given, max(100, len(want)), 32)
		require.NoError(t, err, given)
		assert.Equal(t, want, got)
		again, err := jsontext.Compact(got, len(want), 32)
		require.NoError(t, err, given)
		assert.Equal(t, got, again, "the form is one")
	}
	for given, want := range map[string]string{
		"": "not JSON", "x": "not JSON", `{"a":1`: "not JSON", "{}{}": "not JSON", "{\"a\":\"\xff\"}": "not JSON", "{\"a\":\"\x00\"}": "not JSON",
		"[]": "not an object", ` "a"`: "not an object", "null": "not an object", "7": "not an object", "[{}]": "not an object",
		nested(33): "nested deeper than 32 levels",
		`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + "}": "nested deeper than 32 levels",
		`{"a":"` + strings.Repeat("x", 93) + `"}`:                         "longer than 100 bytes",
		`{ "a":"` + strings.Repeat("é", 47) + `"}`:                        "longer than 100 bytes",
		`{"a":"\u0000"}`: "a NUL character", `{"\u0000":1}`: "a NUL character", `{"a":[{"b":"x\u0000"}]}`: "a NUL character",
		`{"a":"\ud800"}`: "half a character", `{"a":"\ud800x"}`: "half a character", `{"a":"\udc00"}`: "half a character",
		`{"a":"\ud800\n"}`: "half a character", `{"a":"\ud800\ud800"}`: "half a character", `{"\uDFFF":1}`: "half a character",
	} {
		got, err := jsontext.Compact(given, 100+len(nested(33))*strings.Count(want, "levels"), 32)
		require.ErrorContains(t, err, want, given)
		assert.Empty(t, got)
	}
}

// exact reads JSON with numbers as they are written, which may be more than a float64 holds.
func exact(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

func FuzzCompact(f *testing.F) {
	f.Add(`{"a" : [1, "\u00e9\ud83d\ude00"]}`)
	f.Add(`{"\u0000":{}}`)
	f.Fuzz(func(t *testing.T, given string) {
		got, err := jsontext.Compact(given, 200, 5)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(got), 200)
		var before, after map[string]any
		require.NoError(t, exact([]byte(given), &before))
		require.NoError(t, exact([]byte(got), &after))
		require.Equal(t, before, after)
		again, err := jsontext.Compact(got, 200, 5)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestEscapes(t *testing.T) {
	t.Parallel()
	for inside, want := range map[string]struct{ nul, half bool }{
		"":                         {},
		"plain é 👋":                {},
		`\n\\u0000\"`:              {},
		`\u0000`:                   {nul: true},
		`a\u0000\ud83d\ude00`:      {nul: true},
		`\ud83d\ude00\uD83D\uDE00`: {},
		`\ud83d`:                   {half: true},
		`\ud83dx\ude00`:            {half: true},
		`\ud83d\n\ude00`:           {half: true},
		`\ud83d\ud83d\ude00`:       {half: true},
		`\ude00`:                   {half: true},
		`\ude00\u0000`:             {nul: true, half: true},
		`\\ud83d`:                  {},
	} {
		nul, half := jsontext.Escapes(inside)
		assert.Equal(t, want.nul, nul, inside)
		assert.Equal(t, want.half, half, inside)
		nul, half = jsontext.Escapes([]byte(inside))
		assert.Equal(t, want.nul, nul, inside)
		assert.Equal(t, want.half, half, inside)
	}
}
