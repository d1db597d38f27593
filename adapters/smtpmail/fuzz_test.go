package smtpmail_test

import (
	"bytes"
	netmail "net/mail"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// FuzzLetter writes mails of whatever stands in names, addresses, subjects and bodies: each is a mail with the headers that it should have
// and no others, to one recipient.
func FuzzLetter(f *testing.F) {
	for _, s := range []string{"", "Ada", "Zoë", "Ada\r\nBcc: eve@example.com", "=?utf-8?q?Eve?= <eve@example.com>", "a\x00b", "\"Ada\" <x@y>", ".\r\n.\r\n", "\r\n\r\n--x\r\nContent-Type: text/html\r\n", "a\u2028b", strings.Repeat("ü", 700)} {
		f.Add(s, "ada@example.com", s, s, s)
		f.Add("Ada", s, "Subject", s, "")
	}
	f.Add("Ada", "ada@example.com>\r\nRCPT TO:<eve@example.com", "Hello", "text", "<p>")
	f.Add("Ada", `"ada bob"@example.com`, "Hello", "text", "<p>")
	f.Add("Ada", "ada@[127.0.0.1]", "Hello", "text", "<p>")
	names := map[string]bool{
		"Date": true, "Message-Id": true, "From": true, "To": true, "Subject": true, "Auto-Submitted": true,
		"Mime-Version": true, "Content-Type": true, "Content-Transfer-Encoding": true,
	}
	f.Fuzz(func(t *testing.T, name, to, subject, text, html string) {
		m := mail.Message{ID: "job-1@example.com", FromName: name, From: "no-reply@example.com", ToName: name, To: to, Subject: subject, Text: text, HTML: html}
		_, rcpt, data, err := smtpmail.Compose(m, time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC))
		if email, wrong := user.ParseEmail(to); wrong == nil && string(email) == to && err != nil {
			t.Fatalf("the address of an account gets no mail: %q: %v", to, err)
		}
		if err != nil {
			if strings.Contains(to, "eve@") && strings.Contains(err.Error(), "eve@") {
				t.Fatalf("the error tells the address: %v", err)
			}
			return
		}
		if rcpt != to || strings.ContainsFunc(rcpt, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
			t.Fatalf("the recipient is %q", rcpt)
		}
		if at := bytes.IndexByte(bytes.ReplaceAll(data, []byte("\r\n"), nil), '\n'); at >= 0 {
			t.Fatalf("a line ends without CR in %q", data)
		}
		for line := range bytes.SplitSeq(data, []byte("\r\n")) {
			if len(line) > 998 || bytes.ContainsAny(line, "\x00\r") {
				t.Fatalf("a line of %d bytes: %q", len(line), line)
			}
		}
		got, whole, err := parse(parcel{raw: data})
		if err != nil {
			t.Fatalf("%v in %q", err, data)
		}
		for header, values := range whole.Header {
			if !names[header] || len(values) != 1 {
				t.Fatalf("%s: %q", header, values)
			}
		}
		if got.To != to || got.From != m.From || got.ID != m.ID {
			t.Fatalf("%q became %q", to, got.To)
		}
		if list, err := netmail.ParseAddressList(whole.Header.Get("To")); err != nil || len(list) != 1 {
			t.Fatalf("To is %v, %v", list, err)
		}
	})
}

// FuzzParseURL reads addresses of servers: what is refused is not repeated, since it may be a password.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"", "smtp://user:password@mail.example.com:587?tls=starttls", "smtp://h?tls=none&tls=none", "smtp://u:p%40@[::1]:25", "smtp://:x@h", "smtp://h/%zz", "smtp://h?hello=a%0d%0ab",
		"smtp://h:99999", "smtps://h", "smtp://user:secret/secret@h", "smtp:h", "smtp://h?auth=plain&plaintext-auth=true", "\x00smtp://h", "smtp://h#f",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := smtpmail.ParseURL(text)
		if err != nil {
			if cfg.Host+cfg.Username+cfg.Password != "" {
				t.Fatalf("%v, and %v", err, cfg)
			}
			return
		}
		if cfg.Host == "" || cfg.Port < 0 || cfg.Port > 65535 || strings.ContainsAny(cfg.Hello+cfg.Host, " \r\n\x00") {
			t.Fatalf("%q is let through as %v", text, cfg)
		}
		if s := cfg.String() + cfg.GoString(); len(cfg.Password) > 8 && strings.Contains(s, cfg.Password) && !strings.Contains(cfg.Host+cfg.Username+cfg.Hello, cfg.Password) {
			t.Fatalf("%q shows the password", s)
		}
	})
}
