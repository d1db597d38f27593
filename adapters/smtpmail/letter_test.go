package smtpmail_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/mail"
)

func TestMailsParseBack(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	cfg := s.config()
	cfg.Now = func() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 7, time.FixedZone("CET", 3600)) }
	sender := open(t, cfg)
	spaces := func(s string) string {
		return strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ", "\u0085", " ", "\u2028", " ").Replace(s)
	}
	for n, text := range []string{
		"", "Ada", "Ada Lovelace", "Zoë Ångström", "李小龍", "👩‍👩‍👧 family", `quoted "name"`, `back\slash`, "comma, semicolon; colon: at@ <angle> (round) [square]",
		"Ada\r\nBcc: eve@example.com", "Ada\nX: y", "Ada\r\n\r\n<p>body</p>", "a\x00b", "a\u0085b", "=?utf-8?q?Eve?=", "=?utf-8?b?RXZl?= <eve@example.com>",
		"two  spaces", "dots...", ".", "Ada <eve@example.com>", strings.Repeat("long ", 100) + "end", strings.Repeat("x", 3000), strings.Repeat("ü", 700),
		strings.Repeat("a ", 20) + strings.Repeat("b", 59) + "   " + strings.Repeat("c", 60), "a\u2028b", "\u202Eeman", "bad \xff utf-8", "Ada's Dog!", "%s%d%!",
	} {
		m := mail.Message{
			ID: "job-1@example.com", FromName: text, From: "no-reply@example.com", ToName: text, To: "o'neil+tag{}@example.com", Subject: text,
			Text: text + "\n.\n..\n", HTML: "<p>" + text + "</p>\n",
		}
		require.NoError(t, sender.Send(t.Context(), m), "%q", text)
		_, taken, _ := s.seen()
		require.Len(t, taken, n+1)
		p := taken[n]
		assert.Equal(t, [2]string{m.From, m.To}, [2]string{p.from, p.to})
		got, whole, err := parse(p)
		require.NoError(t, err, "%q\n%s", text, p.raw)
		line := strings.TrimSpace(spaces(strings.ToValidUTF8(text, "\uFFFD")))
		body := strings.NewReplacer("\r\n", "\n").Replace(strings.ToValidUTF8(text, "\uFFFD"))
		assert.Equal(t, mail.Message{
			ID: m.ID, FromName: line, From: m.From, ToName: line, To: m.To, Subject: line, Text: body + "\n.\n..\n", HTML: "<p>" + body + "</p>\n",
		}, got)
		var names []string
		for name := range whole.Header {
			names = append(names, name)
		}
		assert.ElementsMatch(t, []string{"Date", "Message-Id", "From", "To", "Subject", "Auto-Submitted", "Mime-Version", "Content-Type"}, names)
		assert.Equal(t, "auto-generated", whole.Header.Get("Auto-Submitted"))
		assert.Equal(t, "Tue, 03 Feb 2026 03:05:06 +0000", whole.Header.Get("Date"))
		assert.True(t, utf8.Valid(p.raw))
		head, _, _ := bytes.Cut(p.raw, []byte("\r\n\r\n"))
		for l := range bytes.SplitSeq(p.raw, []byte("\r\n")) {
			assert.LessOrEqual(t, len(l), 200, "%q", l)
		}
		for l := range bytes.SplitSeq(head, []byte("\r\n")) {
			assert.NotEmpty(t, bytes.TrimSpace(l), "a line of spaces ends the headers for some")
			assert.NotRegexp(t, "[^\\x20-\\x7e]", string(l))
		}
	}
}

func TestAPlainSubjectStaysReadable(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	require.NoError(t, open(t, s.config()).Send(t.Context(), letter(1)))
	_, taken, _ := s.seen()
	require.Len(t, taken, 1)
	assert.Contains(t, string(taken[0].raw), "\r\nSubject: Confirm your address, please\r\n")
	assert.Contains(t, string(taken[0].raw), "\r\nFrom: Parley <no-reply@example.com>\r\n")
}

func TestOneBodyIsEnough(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	sender := open(t, s.config())
	for n, tc := range []struct{ text, html, kind string }{
		{"only text ü", "", "text/plain; charset=UTF-8"}, {"", "<p>only HTML ü</p>", "text/html; charset=UTF-8"}, {"", "", "text/plain; charset=UTF-8"},
	} {
		m := letter(1)
		m.Text, m.HTML = tc.text, tc.html
		require.NoError(t, sender.Send(t.Context(), m))
		_, taken, _ := s.seen()
		require.Len(t, taken, n+1)
		got, whole, err := parse(taken[n])
		require.NoError(t, err)
		got.Text, got.HTML = strings.TrimSuffix(got.Text, "\n"), strings.TrimSuffix(got.HTML, "\n") // the data ends with a line
		assert.Equal(t, m, got)
		assert.Equal(t, tc.kind, whole.Header.Get("Content-Type"))
	}
}

func TestMessagesThatNobodyCouldTake(t *testing.T) {
	t.Parallel()
	s := serve(t, options{})
	sender := open(t, s.config())
	const mark = "hostile"
	bad := map[string][]string{
		"address": {
			"", mark, mark + "@", "@example.com", mark + "@example.com\r\nBcc: eve@example.com", mark + "@example.com>\r\nRCPT TO:<eve@example.com", "<" + mark + "@example.com>",
			"Eve <" + mark + "@example.com>", mark + "@example.com, eve@example.com", mark + " @example.com", mark + "@example.com (x)", `"` + mark + ` x"@example.com`,
			mark + "@exam\x00ple.com", strings.Repeat("a", 255) + "@example.com", mark + "@example.com SIZE=1",
		},
		"id": {"", mark, mark + "@", "@example.com", mark + "@example.com>\r\nBcc: eve@example.com", mark + " x@example.com", mark + "@a@b", "<" + mark + "@example.com>", "ü@example.com", strings.Repeat("a", 600) + "@example.com"},
	}
	try := func(m mail.Message) {
		err := sender.Send(t.Context(), m)
		require.ErrorIs(t, err, mail.ErrRefused, "%q", m)
		assert.NotContains(t, err.Error(), mark)
	}
	for _, address := range bad["address"] {
		from, to := letter(1), letter(1)
		from.From, to.To = address, address
		try(from)
		try(to)
	}
	for _, id := range bad["id"] {
		m := letter(1)
		m.ID = id
		try(m)
	}
	wire, taken, connections := s.seen()
	assert.Empty(t, wire)
	assert.Empty(t, taken)
	assert.Zero(t, connections)
}

func TestAddressesBeyondASCII(t *testing.T) {
	t.Parallel()
	m := letter(1)
	m.To = "zoë@example.com"
	able := serve(t, options{utf8: true})
	sender := open(t, able.config())
	require.NoError(t, sender.Send(t.Context(), m))
	require.NoError(t, sender.Send(t.Context(), letter(2)))
	_, taken, _ := able.seen()
	require.Len(t, taken, 2)
	assert.Equal(t, m.To, taken[0].to)
	assert.True(t, taken[0].utf8)
	assert.False(t, taken[1].utf8, "an extension that is not needed is not asked for")
	got, _, err := parse(taken[0])
	require.NoError(t, err, "%q", taken[0].raw)
	assert.Equal(t, [2]string{m.To, m.ToName}, [2]string{got.To, got.ToName})

	unable := serve(t, options{})
	sender = open(t, unable.config())
	require.ErrorIs(t, sender.Send(t.Context(), m), mail.ErrRefused)
	require.NoError(t, sender.Send(t.Context(), letter(2)))
	_, taken, connections := unable.seen()
	assert.Len(t, taken, 1)
	assert.Equal(t, 1, connections)
}
