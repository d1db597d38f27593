package humaapi_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
)

// wantPage checks what holds for every page.
func (s *system) wantPage(a answer, status int, text string) {
	s.t.Helper()
	require.Equal(s.t, status, a.StatusCode, a.body)
	require.Equal(s.t, "text/html; charset=utf-8", a.Header.Get("Content-Type"))
	require.Equal(s.t, "no-store", a.Header.Get("Cache-Control"))
	require.Equal(s.t, "no-referrer", a.Header.Get("Referrer-Policy"))
	require.Contains(s.t, a.body, text)
	require.NotContains(s.t, a.body, "<script")

	_, rest, found := strings.Cut(a.body, "<style>")
	require.True(s.t, found)
	style, _, _ := strings.Cut(rest, "</style>")
	hash := sha256.Sum256([]byte(style))
	policy := a.Header.Get("Content-Security-Policy")
	require.Contains(s.t, policy, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'")
	require.NotContains(s.t, policy, "unsafe")
}

// submit fills the form of a page and sends it where the page says.
func (s *system) submit(page answer, more url.Values) answer {
	s.t.Helper()
	action := regexp.MustCompile(`<form method="post" action="([^"]+)">`).FindStringSubmatch(page.body)
	require.NotNil(s.t, action, page.body)
	fields := url.Values{}
	for _, hidden := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`).FindAllStringSubmatch(page.body, -1) {
		fields.Set(hidden[1], hidden[2])
	}
	for name, values := range more {
		fields[name] = values
	}
	target, err := page.Request.URL.Parse(action[1])
	require.NoError(s.t, err)
	return s.form(target.Path, fields)
}

func TestTheLinkInTheMailConfirmsByAButton(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.signUp()
	link := "/auth/verify?code=" + url.QueryEscape(s.code())
	for range 3 { // scanners fetch links
		s.wantPage(s.get(link), http.StatusOK, "Confirm your e-mail address")
		s.wantStatus(s.do("HEAD", link, ""), http.StatusOK)
	}
	s.wantProblem(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusForbidden, "not_verified")

	done := s.submit(s.get(link), nil)
	s.wantPage(done, http.StatusOK, "Your address is confirmed")
	assert.Contains(t, done.body, `href="/"`)
	s.signIn()
	s.wantPage(s.submit(s.get(link), nil), http.StatusGone, "This link is used up")
}

func TestTheLinkForANewPassword(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	s.wantStatus(s.post("/auth/password/forgot", fields{"email": ada}), http.StatusAccepted)
	page := s.get("/auth/password/reset?code=" + url.QueryEscape(s.code()))
	s.wantPage(page, http.StatusOK, "Choose a new password")
	again := s.submit(page, url.Values{"password": {"hunter2"}})
	s.wantPage(again, http.StatusUnprocessableEntity, "it is shorter than 8 characters")
	assert.NotContains(t, again.body, "hunter2")
	s.wantPage(s.submit(again, url.Values{"password": {"another horse"}}), http.StatusOK, "Your password is set")
	s.wantStatus(s.post("/auth/signin", fields{"email": ada, "password": "another horse"}), http.StatusOK)
	s.wantPage(s.submit(page, url.Values{"password": {"another horse"}}), http.StatusGone, "This link is used up")
}

func TestTheLinkToSignInBy(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) { c.Links = true }})
	s.verified()
	assert.JSONEq(t, `{"password":true,"link":true,"totp":false}`, s.wantStatus(s.get("/auth/methods"), http.StatusOK).body)
	known := s.wantStatus(s.post("/auth/link", fields{"email": ada}), http.StatusAccepted).body
	assert.Equal(t, known, s.wantStatus(s.post("/auth/link", fields{"email": "nobody@example.com"}), http.StatusAccepted).body)
	code := s.mailed(mail.TypeLinkRequested)["linkCode"].(string)
	page := s.get("/auth/link?code=" + code)
	for range 3 { // a scanner that fetches the page uses nothing up
		s.wantPage(page, http.StatusOK, "You asked for a link to sign in")
	}
	assert.Contains(t, page.body, `<a class="button" href="/#link=`+code+`">Sign in</a>`)
	assert.Contains(t, page.body, "<code>"+code+"</code>")
	assert.NotContains(t, page.body, "<form")
	assert.NotContains(t, s.get(`/auth/link?code="><script>`).body, "<script>")
	s.wantPage(s.get("/auth/link?code="), http.StatusBadRequest, "This link is not complete")

	s.wantProblem(s.post("/auth/link/signin", fields{"code": "nonsense"}), http.StatusBadRequest, "code_unknown")
	s.wantStatus(s.post("/auth/link/signin", fields{"code": code, "deviceToken": "of another time"}), http.StatusOK)
	s.wantProblem(s.post("/auth/link/signin", fields{"code": code}), http.StatusGone, "code_gone")
}

func TestNoLinksUnlessTheyAreOn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	assert.JSONEq(t, `{"password":true,"link":false,"totp":false}`, s.wantStatus(s.get("/auth/methods"), http.StatusOK).body)
	s.wantProblem(s.post("/auth/link", fields{"email": ada}), http.StatusNotFound, "links_off")
	s.wantProblem(s.post("/auth/link/signin", fields{"code": "nonsense"}), http.StatusNotFound, "links_off")
}

func TestPagesFail(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.wantPage(s.get("/auth/verify"), http.StatusBadRequest, "This link is not complete")
	s.wantPage(s.get("/auth/password/reset?code="), http.StatusBadRequest, "This link is not complete")
	for _, path := range []string{"/auth/verify/confirm", "/auth/password/reset/confirm"} {
		s.wantPage(s.form(path, url.Values{"code": {"nonsense"}, "password": {password}}), http.StatusBadRequest, "This link is not valid")
		s.wantPage(s.form(path, url.Values{"code": {"a\x00b"}, "password": {password}}), http.StatusBadRequest, "could not be read")
		s.wantPage(s.form(path, url.Values{"code": {"\xff"}, "password": {password}}), http.StatusBadRequest, "could not be read")
		s.wantPage(s.do("POST", path, "code=%zz", header{"Content-Type", "application/x-www-form-urlencoded"}), http.StatusBadRequest, "could not be read")
		s.wantPage(s.do("POST", path, `{"code":"x"}`), http.StatusUnsupportedMediaType, "could not be read")
		s.wantPage(s.form(path, url.Values{"code": {strings.Repeat("a", 70_000)}}), http.StatusRequestEntityTooLarge, "could not be read")
	}
	// What a link brings along is text, not markup.
	s.wantPage(s.get("/auth/verify?code="+url.QueryEscape(`"><script>alert(1)</script>`)), http.StatusOK, "&#34;&gt;&lt;")
}

func TestPagesSayThatAServiceIsAway(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) { c.Codes = failingCodes{c.Codes} }})
	s.signUp()
	a := s.submit(s.get("/auth/verify?code="+url.QueryEscape(s.code())), nil)
	s.wantPage(a, http.StatusServiceUnavailable, "That did not work")
	assert.NotContains(t, a.body, "10.0.0.7")
	assert.Contains(t, s.log(), "10.0.0.7")
}
