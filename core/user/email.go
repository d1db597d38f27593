package user

import (
	"strings"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/internal/visible"
)

// Limits of what a user is called.
const (
	// MaxEmail is the longest address in bytes (RFC 5321 section 4.5.3.1.3, less the brackets).
	MaxEmail = 254
	// MaxFullName is the longest name in characters.
	MaxFullName = 100
)

// What the parsers refuse.
var (
	ErrEmailInvalid    = fault.New(fault.Invalid, "email_invalid", "the e-mail address is not valid")
	ErrFullNameInvalid = fault.New(fault.Invalid, "full_name_invalid", "the full name is not valid")
)

// Email is an address in canonical form: trimmed and in lower case, so that one mailbox
// is one account. Make one with [ParseEmail].
type Email string

// maxLocal and maxLabel are the longest part before the "@" (RFC 5321 section 4.5.3.1.1) and the
// longest part between dots behind it (RFC 1035 section 2.3.4), in bytes.
const (
	maxLocal = 64
	maxLabel = 63
)

// ParseEmail checks an address (RFC 5322 addr-spec without quoting, comments or address
// literals, which mail providers do not hand out) and brings it into canonical form. The
// local part is folded too: RFC 5321 lets a host tell case apart there, and no provider does.
// An address is ASCII, and an international domain in its ASCII form ("xn--"): letters that
// look alike, or that have two encodings, cannot make two accounts of one mailbox. Addresses of
// erased accounts (see [User.Erased]) are nobody's.
func ParseEmail(s string) (Email, error) {
	s = strings.TrimSpace(s)
	if len(s) > MaxEmail {
		return "", ErrEmailInvalid
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok || len(local) > maxLocal || !dotted(local, isAtom) || !dotted(domain, isLabel) {
		return "", ErrEmailInvalid
	}
	canonical := Email(strings.ToLower(s))
	if (User{Email: canonical}).Erased() {
		return "", ErrEmailInvalid
	}
	return canonical, nil
}

// dotted reports whether each part of s between dots is right.
func dotted(s string, right func(part string) bool) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !right(part) {
			return false
		}
	}
	return true
}

// isAtom reports whether s is an atom of RFC 5322 section 3.2.3.
func isAtom(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// isLabel reports whether s is a label of a host name (RFC 1123 section 2.1).
func isLabel(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && s[i] != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel && s[0] != '-' && s[len(s)-1] != '-'
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ParseFullName trims a name, folds runs of white space to one space, and refuses an empty
// or too long one, and characters that cannot be seen. U+200C and U+200D may stand where a script
// or an emoji needs them (RFC 5892 appendix A, Unicode Technical Standard #51).
func ParseFullName(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", ErrFullNameInvalid.Detail("it is not valid UTF-8")
	}
	s = strings.Join(strings.Fields(s), " ")
	if s == "" {
		return "", ErrFullNameInvalid.Detail("it is empty")
	}
	if utf8.RuneCountInString(s) > MaxFullName {
		return "", ErrFullNameInvalid.Detail("it is longer than %d characters", MaxFullName)
	}
	if !visible.Only(s) || !visible.Any(s) {
		return "", ErrFullNameInvalid.Detail("it has a character that cannot be seen")
	}
	return s, nil
}
