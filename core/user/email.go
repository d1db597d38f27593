package user

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
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

// ParseEmail checks an address (RFC 5322 addr-spec without quoting, comments or address
// literals, which mail providers do not hand out) and brings it into canonical form. The
// local part is folded too: RFC 5321 lets a host tell case apart there, and no provider does.
func ParseEmail(s string) (Email, error) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > MaxEmail || !utf8.ValidString(s) {
		return "", ErrEmailInvalid
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`"()<>[]:;,\`, r) {
			return "", ErrEmailInvalid
		}
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return "", ErrEmailInvalid
	}
	at := strings.LastIndexByte(s, '@')
	local, domain := s[:at], s[at+1:]
	if len(local) > 64 || strings.HasPrefix(domain, "-") || strings.HasSuffix(domain, ".") {
		return "", ErrEmailInvalid
	}
	return Email(strings.ToLower(s)), nil
}

// ParseFullName trims a name, folds runs of white space to one space, and refuses an empty
// or too long one, and characters that cannot be seen.
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
	for _, r := range s {
		if !unicode.IsGraphic(r) {
			return "", ErrFullNameInvalid.Detail("it has a character that cannot be seen")
		}
	}
	return s, nil
}
