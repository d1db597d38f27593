package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
)

func box(mails ...Mail) Config {
	return Config{DevMail: func() []Mail { return mails }}
}

func TestMailboxJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 6, 6, 7, 8000, time.FixedZone("", 3600))
	h := serve(t, box(
		Mail{ID: "2", To: "b@example.com", Subject: "second", Text: "text", HTML: "<p>html", At: at},
		Mail{ID: "1", To: "a@example.com", At: at.Add(-time.Hour)},
	))
	w := get(h, "/dev/mail.json")
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	var mails []map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &mails))
	require.Len(t, mails, 2)
	assert.Equal(t, map[string]any{
		"id": "2", "to": "b@example.com", "subject": "second", "text": "text", "html": "<p>html", "at": "2026-03-04T05:06:07.000008Z",
	}, mails[0])
	assert.Equal(t, "1", mails[1]["id"])
	assert.Len(t, mails[1], 6, "empty fields are there")

	assert.JSONEq(t, `[]`, get(serve(t, box()), "/dev/mail.json").Body.String())
}

func TestMailboxPage(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	w := get(serve(t, box(
		Mail{ID: "x y/2@host", To: "b@example.com", Subject: "newer", Text: "Open http://localhost:5002/auth/verify?code=a&b.", HTML: "<p>", At: at},
		Mail{ID: "1", To: "a@example.com", Subject: "older", Text: "nothing", At: at},
	)), "/dev/mail")
	assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	html := w.Body.String()
	assert.Less(t, strings.Index(html, "newer"), strings.Index(html, "older"))
	assert.Contains(t, html, `<a href="http://localhost:5002/auth/verify?code=a&amp;b" target="_blank" rel="noopener noreferrer">http://localhost:5002/auth/verify?code=a&amp;b</a>.</pre>`)
	assert.Contains(t, html, `src="/dev/mail/x%20y%2F2@host/html"`)
	assert.Equal(t, 1, strings.Count(html, "<iframe"), "only for mails with HTML")
	assert.Contains(t, html, fmt.Sprintf(`data-newest="x y/2@host %d"`, at.UnixMilli()))
	assert.Contains(t, get(serve(t, box()), "/dev/mail").Body.String(), "No mail yet")
}

func TestHostileMailIsHarmless(t *testing.T) {
	t.Parallel()
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	h := serve(t, box(Mail{ID: evil, To: evil, Subject: evil, Text: evil + ` javascript:alert(3) http://x/"onmouseover="alert(4)`, HTML: evil}))
	page := get(h, "/dev/mail").Body.String()
	assert.NotContains(t, page, "<script>alert")
	assert.NotContains(t, page, "<img src=x")
	assert.NotContains(t, page, `href="javascript:`)
	assert.NotContains(t, page, `"onmouseover=`)
	for _, e := range parse(t, page) {
		for name := range e.attrs {
			assert.False(t, strings.HasPrefix(name, "on"), "<%s %v>", e.name, e.attrs)
		}
	}
	json := get(h, "/dev/mail.json").Body.String()
	assert.NotContains(t, json, "<script>")
}

func TestMailHTMLIsIsolated(t *testing.T) {
	t.Parallel()
	h := serve(t, box(
		Mail{ID: "x y/2@host", HTML: `<!doctype html><html><head lang=en><title>x</title></head><script>alert(1)</script>`, Text: "t"},
		Mail{ID: "plain", Text: "t"},
	))
	w := get(h, "/dev/mail/x%20y%2f2@host/html")
	require.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	policy := w.Header().Get("Content-Security-Policy")
	assert.True(t, strings.HasPrefix(policy, "sandbox "))
	assert.NotContains(t, policy, "allow-scripts")
	assert.NotContains(t, policy, "allow-same-origin")
	assert.NotContains(t, policy, "script-src")
	assert.Contains(t, policy, "default-src 'none'")
	assert.Contains(t, policy, "frame-ancestors 'self'")
	assert.Equal(t, "SAMEORIGIN", w.Header().Get("X-Frame-Options"))
	assert.Contains(t, w.Body.String(), `<head lang=en><base target="_blank"><title>`)
	for _, target := range []string{"/dev/mail/plain/html", "/dev/mail/none/html"} {
		missing := get(h, target)
		assert.Equal(t, http.StatusNotFound, missing.Code, target)
		assert.Equal(t, "application/problem+json", missing.Header().Get("Content-Type"))
	}
}

func TestMailboxPageIsBounded(t *testing.T) {
	t.Parallel()
	mails := make([]Mail, maxShown+7)
	for i := range mails {
		mails[i] = Mail{ID: fmt.Sprint(i), Subject: fmt.Sprintf("subject %d.", i)}
	}
	html := get(serve(t, box(mails...)), "/dev/mail").Body.String()
	assert.Equal(t, maxShown, strings.Count(html, "<details"))
	assert.Contains(t, html, "7 older mails")
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]part{
		"":                        nil,
		"no link":                 {{Text: "no link"}},
		"http://a/b":              {{Link: "http://a/b"}},
		"see (https://a/b?c=d).":  {{Text: "see ("}, {Link: "https://a/b?c=d"}, {Text: ")."}},
		"<http://a> and http://b": {{Text: "<"}, {Link: "http://a"}, {Text: "> and "}, {Link: "http://b"}},
		"javascript:alert(1)":     {{Text: "javascript:alert(1)"}},
	} {
		assert.Equal(t, want, split(text), text)
	}
}

func TestOpenOutside(t *testing.T) {
	t.Parallel()
	for html, want := range map[string]string{
		"<p>x":                       `<base target="_blank"><p>x`,
		"<html><HEAD></HEAD><p>x":    `<html><HEAD><base target="_blank"></HEAD><p>x`,
		"<header>x</header><p>heads": `<base target="_blank"><header>x</header><p>heads`,
	} {
		assert.Equal(t, want, string(openOutside(html)))
	}
}

func TestMailboxIsForWhomItIsSaidToBe(t *testing.T) {
	t.Parallel()
	cfg := box(Mail{ID: "1", Subject: "secret", HTML: "<p>secret"})
	cfg.MailboxFor = func(r *http.Request) error {
		if r.Host != "localhost" {
			return fault.Forbidden
		}
		return nil
	}
	h := serve(t, cfg)
	for _, path := range []string{"/dev/mail", "/dev/mail.json", "/dev/mail/1/html"} {
		for host, status := range map[string]int{"localhost": http.StatusOK, "evil.example": http.StatusForbidden} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			assert.Equal(t, status, w.Code, "%s by %s", path, host)
			assert.Equal(t, status == http.StatusOK, strings.Contains(w.Body.String(), "secret"), path)
		}
	}
}
