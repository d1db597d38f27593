// Package visible tells which characters of a name or a text can be seen.
package visible

import "unicode"

//go:generate sh -c "perl tables.pl > tables.go"

const (
	nonJoiner = '\u200c' // ZERO WIDTH NON-JOINER
	joiner    = '\u200d' // ZERO WIDTH JOINER
	// brailleBlank is the one symbol that is drawn as nothing.
	brailleBlank = '\u2800'

	blackFlag           = '\U0001F3F4' // begins the flag of a part of a country
	firstTag, lastTag   = '\U000E0020', '\U000E007E'
	cancelTag           = '\U000E007F'
	firstTone, lastTone = '\U0001F3FB', '\U0001F3FF' // emoji modifiers: colours of the skin
)

// Rune reports whether r is drawn as something by itself. White space is not.
func Rune(r rune) bool {
	return unicode.IsGraphic(r) && !unicode.IsSpace(r) && !ignorable(r) && !unicode.Is(unicode.Variation_Selector, r) && r != brailleBlank
}

// ignorable reports whether r is a graphic character that Unicode wants drawn as nothing, such as a
// filler of Hangul (Unicode Standard section 5.21).
func ignorable(r rune) bool { return unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) }

// Any reports whether s, valid UTF-8, holds a character that can be seen.
func Any(s string) bool {
	for _, r := range s {
		if Rune(r) {
			return true
		}
	}
	return false
}

// Only reports whether every character of s, valid UTF-8, can be seen, is a space, or stands where
// Unicode wants it although it is not seen by itself:
//   - U+200C and U+200D where they change how a script is drawn (RFC 5892, appendix A.1 and A.2),
//   - U+200D between the parts of an emoji (Unicode Technical Standard #51, ED-16),
//   - tags that end a flag (the same, ED-14a),
//   - a variation selector behind another character.
func Only(s string) bool {
	ascii := true
	for i := range len(s) {
		if s[i] >= 0x80 {
			ascii = false
			break
		}
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return ascii || only([]rune(s))
}

func only(rs []rune) bool {
	for i := 0; i < len(rs); i++ {
		switch r := rs[i]; {
		case r == nonJoiner:
			if !afterVirama(rs, i) && !betweenJoining(rs, i) {
				return false
			}
		case r == joiner:
			if !afterVirama(rs, i) && !betweenEmoji(rs, i) {
				return false
			}
		case r >= firstTag && r <= cancelTag:
			end := flag(rs, i)
			if end < 0 {
				return false
			}
			i = end
		case unicode.Is(unicode.Variation_Selector, r):
			if i == 0 || !unicode.IsGraphic(rs[i-1]) || unicode.IsSpace(rs[i-1]) {
				return false
			}
		case !unicode.IsGraphic(r), ignorable(r), r == brailleBlank:
			return false
		}
	}
	return true
}

// afterVirama is the rule that RFC 5892 has for both joiners.
func afterVirama(rs []rune, i int) bool { return i > 0 && unicode.Is(virama, rs[i-1]) }

// betweenJoining is the further rule for U+200C (RFC 5892 appendix A.1): without it, the letters around
// it would join.
func betweenJoining(rs []rune, i int) bool {
	before, after := i-1, i+1
	for before >= 0 && unicode.Is(transparent, rs[before]) {
		before--
	}
	for after < len(rs) && unicode.Is(transparent, rs[after]) {
		after++
	}
	return before >= 0 && after < len(rs) && unicode.Is(joinsNext, rs[before]) && unicode.Is(joinsPrevious, rs[after])
}

// betweenEmoji reports whether the joiner at i has a pictograph on both sides (Unicode Standard Annex #29, rule GB11).
func betweenEmoji(rs []rune, i int) bool {
	before := i - 1
	for before >= 0 && (unicode.Is(unicode.Variation_Selector, rs[before]) || rs[before] >= firstTone && rs[before] <= lastTone) {
		before--
	}
	return before >= 0 && i+1 < len(rs) && unicode.Is(pictographic, rs[before]) && unicode.Is(pictographic, rs[i+1])
}

// flag returns where the tags that begin at i end, or -1 if they do not end a flag.
func flag(rs []rune, i int) int {
	if i == 0 || rs[i-1] != blackFlag {
		return -1
	}
	end := i
	for end < len(rs) && rs[end] >= firstTag && rs[end] <= lastTag {
		end++
	}
	if end == i || end == len(rs) || rs[end] != cancelTag {
		return -1
	}
	return end
}
