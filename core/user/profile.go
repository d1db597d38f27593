package user

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-chat/parley/core/fault"
)

// Limits of what users say of themselves, in characters, all of which are ASCII.
const (
	// MaxLanguage is the longest tag of a language. RFC 5646 section 4.4.1 asks for room for 35.
	MaxLanguage = 35
	// MaxAvatarURL is the longest address of an avatar.
	MaxAvatarURL = 1024
)

// What the parsers refuse.
var (
	ErrLanguageInvalid  = fault.New(fault.Invalid, "language_invalid", "the language is not a tag of BCP 47")
	ErrAvatarURLInvalid = fault.New(fault.Invalid, "avatar_url_invalid", "the address of the avatar is not valid")
)

// ParseLanguage checks that a tag of a language is well-formed, and returns it in the letter case of RFC 5646 section 2.1.1. Empty is no language, and stays empty.
//
// Well-formed is what the grammar of RFC 5646 section 2.1 lets through, with no variant and no extension twice (sections 2.2.5 and 2.2.6), and at most
// [MaxLanguage] characters. The irregular and regular tags of before that grammar are refused, and nobody is asked whether a language is registered.
func ParseLanguage(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if len(s) > MaxLanguage {
		return "", ErrLanguageInvalid.Detail("it is longer than %d characters", MaxLanguage)
	}
	parts := strings.Split(strings.ToLower(s), "-")
	if !isLanguage(parts) {
		return "", ErrLanguageInvalid
	}
	// A script is in title case and a region in upper case, but not behind a singleton.
	for i, part := range parts[1:] {
		switch {
		case len(part) == 1:
			return strings.Join(parts, "-"), nil
		case len(part) == 4 && isLetters(part):
			parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
		case len(part) == 2:
			parts[i+1] = strings.ToUpper(part)
		}
	}
	return strings.Join(parts, "-"), nil
}

// isLanguage reports whether the subtags, in lower case, make a well-formed tag.
func isLanguage(parts []string) bool {
	take := func(right func(string) bool) bool {
		if len(parts) == 0 || !right(parts[0]) {
			return false
		}
		parts = parts[1:]
		return true
	}
	private := func() bool { // "x" and at least one subtag, to the end
		if len(parts) < 2 || parts[0] != "x" {
			return false
		}
		return !slices.ContainsFunc(parts[1:], func(p string) bool { return !isSubtag(p, 1, 8) })
	}
	if private() {
		return true
	}
	language := ""
	if len(parts) > 0 {
		language = parts[0]
	}
	if !take(func(p string) bool { return len(p) >= 2 && len(p) <= 8 && isLetters(p) }) {
		return false
	}
	for range 3 { // extended languages, at most
		if len(language) > 3 || !take(func(p string) bool { return len(p) == 3 && isLetters(p) }) {
			break
		}
	}
	take(func(p string) bool { return len(p) == 4 && isLetters(p) })
	take(func(p string) bool { return len(p) == 2 && isLetters(p) || len(p) == 3 && isDigits(p) })
	seen := map[string]bool{}
	variant := func(p string) bool { return isSubtag(p, 5, 8) || len(p) == 4 && isDigits(p[:1]) && isSubtag(p, 4, 4) }
	for len(parts) > 0 && variant(parts[0]) {
		if seen[parts[0]] {
			return false
		}
		seen[parts[0]] = true
		parts = parts[1:]
	}
	for len(parts) > 0 && parts[0] != "x" {
		singleton := parts[0]
		if seen[singleton] || !take(func(p string) bool { return isSubtag(p, 1, 1) }) {
			return false
		}
		seen[singleton] = true
		n := 0
		for take(func(p string) bool { return isSubtag(p, 2, 8) }) {
			n++
		}
		if n == 0 {
			return false
		}
	}
	return len(parts) == 0 || private()
}

func isLetters(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
}

func isDigits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// isSubtag reports whether s has letters and digits alone, and so many of them.
func isSubtag(s string, least, most int) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) {
			return false
		}
	}
	return len(s) >= least && len(s) <= most
}

// maxAcceptLanguage bounds what of a header is looked at, in bytes.
const maxAcceptLanguage = 1024

// AcceptedLanguage returns the language that the header Accept-Language (RFC 9110 section 12.5.4) prefers, as [ParseLanguage] does: the first
// of those with the greatest weight. It returns nothing where that is no well-formed tag, such as "*", where nothing is wanted, and for a header that is malformed or longer than 1,024 bytes.
func AcceptedLanguage(header string) string {
	if len(header) > maxAcceptLanguage {
		return ""
	}
	best, most := "", 0.0
	for member := range strings.SplitSeq(header, ",") {
		tag, weight, weighted := strings.Cut(member, ";")
		q := 1.0
		if weighted {
			var err error
			text, is := strings.CutPrefix(strings.ToLower(strings.TrimSpace(weight)), "q=")
			if q, err = strconv.ParseFloat(text, 64); !is || err != nil || math.IsNaN(q) || q < 0 || q > 1 {
				return ""
			}
		}
		if q > most {
			best, most = strings.Trim(tag, " \t"), q
		}
	}
	language, err := ParseLanguage(best)
	if err != nil {
		return ""
	}
	return language
}

// ParseAvatarURL checks the address of a picture: absolute, http or https, with a host and without a user, of visible ASCII characters (RFC 3986), at most [MaxAvatarURL].
// Empty is no picture, and stays empty. Nobody fetches it here.
func ParseAvatarURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if len(s) > MaxAvatarURL {
		return "", ErrAvatarURLInvalid.Detail("it is longer than %d characters", MaxAvatarURL)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || strings.IndexByte("\"<>\\^`{|}", s[i]) >= 0 {
			return "", ErrAvatarURLInvalid.Detail("it has a character that must be percent-encoded")
		}
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", ErrAvatarURLInvalid
	case u.Scheme != "http" && u.Scheme != "https":
		return "", ErrAvatarURLInvalid.Detail("it is not an absolute address of http or https")
	case u.Hostname() == "", u.Opaque != "":
		return "", ErrAvatarURLInvalid.Detail("it has no host")
	case u.User != nil:
		return "", ErrAvatarURLInvalid.Detail("it has a user or a password in it")
	}
	return s, nil
}
