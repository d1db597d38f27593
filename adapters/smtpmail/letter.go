package smtpmail

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"github.com/parley-chat/parley/core/mail"
)

// letter is a mail as it goes over the wire.
type letter struct {
	from, to string // of the envelope, without brackets
	ascii    bool   // both
	data     []byte
}

// Limits, in bytes.
const (
	maxAddress = 254 // RFC 5321 section 4.5.3.1.3, less the brackets
	maxID      = 500 // well below the 998 of a line
)

// compose makes a letter. The error, which holds nothing of m, says why none can be made, ever.
func compose(m mail.Message, now time.Time) (letter, error) {
	switch {
	case !isAddress(m.From):
		return letter{}, errors.New("the address in From is not one")
	case !isAddress(m.To):
		return letter{}, errors.New("the address in To is not one")
	case !isID(m.ID):
		return letter{}, errors.New("the ID is not a Message-ID")
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithEncoding(gomail.EncodingQP))
	// All headers but those of an address beyond ASCII go in as plain ASCII, so that the vendor has nothing to encode or quote.
	for _, h := range []struct{ name, value string }{
		{"Date", now.UTC().Format(time.RFC1123Z)},
		{"Message-ID", "<" + m.ID + ">"},
		{"From", mailbox(m.FromName, m.From)},
		{"To", mailbox(m.ToName, m.To)},
		{"Subject", header(m.Subject, subjectText)},
		{"Auto-Submitted", "auto-generated"},
	} {
		if isASCII(h.value) {
			msg.SetGenHeader(gomail.Header(h.name), h.value)
			continue
		}
		// An address beyond ASCII stands in a header as it is (RFC 6532): the vendor would encode the whole mailbox, brackets and all. It
		// does not fold this one either, which is done between encoded words.
		msg.SetGenHeaderPreformatted(gomail.Header(h.name), strings.ReplaceAll(h.value, "?= ", "?=\r\n "))
	}
	text, html := strings.ToValidUTF8(m.Text, "\uFFFD"), strings.ToValidUTF8(m.HTML, "\uFFFD")
	switch {
	case html == "":
		msg.SetBodyString(gomail.TypeTextPlain, text)
	case text == "":
		msg.SetBodyString(gomail.TypeTextHTML, html)
	default:
		msg.SetBodyString(gomail.TypeTextPlain, text)
		msg.AddAlternativeString(gomail.TypeTextHTML, html)
	}
	var data bytes.Buffer
	if _, err := msg.WriteTo(&data); err != nil {
		return letter{}, fmt.Errorf("the mail cannot be written: %w", err)
	}
	return letter{from: m.From, to: m.To, ascii: isASCII(m.From + m.To), data: data.Bytes()}, nil
}

// isAddress reports whether s is an address, without a name, a comment or quotes.
func isAddress(s string) bool {
	if len(s) > maxAddress || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return false
	}
	parsed, err := netmail.ParseAddress(s)
	return err == nil && parsed.Address == s
}

// isID reports whether s can stand between the angle brackets of a Message-ID.
func isID(s string) bool {
	left, right, ok := strings.Cut(s, "@")
	return ok && left != "" && right != "" && len(s) <= maxID && isName(s) && !strings.ContainsAny(s, `<>()",;\`) && !strings.Contains(right, "@")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// What may stand in a header as it is, besides letters, digits and single spaces: in a name, the
// characters of an atom (RFC 5322 section 3.2.3); in a subject, all that is printed.
const (
	nameText    = "!#$%&'*+-/=?^_`{|}~"
	subjectText = nameText + "\"(),.:;<>@[\\]"
)

func mailbox(name, address string) string {
	if name = header(name, nameText); name == "" {
		return "<" + address + ">"
	}
	return name + " <" + address + ">"
}

// maxWord is the longest word that needs no encoding to be folded; maxChunk is what fits into an
// encoded word of 75 characters (RFC 2047 section 2).
const (
	maxWord  = 60
	maxChunk = 45
)

// header is the text of a header, with control characters as spaces. It is encoded unless a
// reader sees the same without: the plain words are short, have one space between them, and none
// looks encoded.
func header(s, plain string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.TrimSpace(s)
	if s == "" || isPlain(s, plain) {
		return s
	}
	var words []string
	for s != "" {
		end := 0
		for end < len(s) {
			_, size := utf8.DecodeRuneInString(s[end:])
			if end+size > maxChunk {
				break
			}
			end += size
		}
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:end]))+"?=")
		s = s[end:]
	}
	return strings.Join(words, " ")
}

func isPlain(s, plain string) bool {
	if strings.Contains(s, "=?") {
		return false
	}
	for word := range strings.SplitSeq(s, " ") {
		if word == "" || len(word) > maxWord {
			return false
		}
		for i := range len(word) {
			c := word[i]
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
			if !letter && strings.IndexByte(plain, c) < 0 {
				return false
			}
		}
	}
	return true
}
