// Package jsontext looks into JSON as text, where it has to stay byte for byte.
package jsontext

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Compact returns text, a JSON object (RFC 8259), without the white space between its tokens. All else stays byte for
// byte: the order of names, names that stand twice, how a number is written, and the escapes in strings. It refuses what
// is no object, what has more than most bytes in that form, what is nested deeper than depth (the object itself is 1), and
// a string or a name that is no text: with U+0000, escaped or not, an escaped surrogate without its partner, or bytes that
// are not UTF-8. The error says what is wrong.
func Compact(text string, most, depth int) (string, error) {
	if !json.Valid([]byte(text)) || !utf8.ValidString(text) {
		return "", errors.New("it is not JSON")
	}
	var b strings.Builder
	from, level, begun := 0, 0, false // text[from:i] is still to be written
	flush := func(to int) error {
		if b.Len()+to-from > most {
			return fmt.Errorf("it is longer than %d bytes", most)
		}
		b.WriteString(text[from:to])
		return nil
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if isSpace(c) {
			if err := flush(i); err != nil {
				return "", err
			}
			from = i + 1
			continue
		}
		if !begun && c != '{' {
			return "", errors.New("it is not an object")
		}
		begun = true
		switch c {
		case '{', '[':
			if level++; level > depth {
				return "", fmt.Errorf("it is nested deeper than %d levels", depth)
			}
		case '}', ']':
			level--
		case '"':
			begin := i + 1
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			switch nul, half := Escapes(text[begin:i]); {
			case nul:
				return "", errors.New("it has a NUL character")
			case half:
				return "", errors.New("it has half a character in an escape")
			}
		}
	}
	if err := flush(len(text)); err != nil {
		return "", err
	}
	if b.Len() == len(text) {
		return text, nil
	}
	return b.String(), nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// Escapes reports what is written by \u in a JSON string, of which it is given what stands between the quotation marks, in
// valid JSON: U+0000, and half a character, which is a surrogate without its partner (RFC 8259 section 8.2).
func Escapes[T ~string | ~[]byte](inside T) (nul, half bool) {
	high := false // the escape just before was a high surrogate
	for i := 0; i < len(inside); i++ {
		var unit uint64
		escaped := false
		if inside[i] == '\\' {
			if i++; inside[i] == 'u' {
				unit, _ = strconv.ParseUint(string(inside[i+1:i+5]), 16, 16) // valid JSON has four hex digits here
				escaped = true
				i += 4
			}
		}
		nul = nul || escaped && unit == 0
		half = half || high != (unit >= 0xDC00 && unit < 0xE000)
		high = unit >= 0xD800 && unit < 0xDC00
	}
	return nul, half || high
}
