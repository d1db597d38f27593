package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

// withAda is a server of one person to continue as, who is told of each call that got through.
func withAda(t *testing.T, told *[]string) Config {
	t.Helper()
	own, err := socket.ParseOrigins([]string{"https://chat.example"})
	require.NoError(t, err)
	return Config{
		DevMail: noMail, People: []Person{{As: "ada", Name: "Ada"}}, Own: own,
		Continue: func(_ *http.Request, as string) (any, error) {
			*told = append(*told, as)
			return map[string]string{"accessToken": "of " + as}, nil
		},
	}
}

func TestWhatContinueTakes(t *testing.T) {
	t.Parallel()
	const ada = `{"as": "ada"}`
	for name, c := range map[string]struct {
		origin, site, media, body string
		status                    int
		code                      string
	}{
		"the page":                        {"http://example.com", "same-origin", "application/json", ada, 200, ""},
		"an older browser":                {"http://example.com", "", "application/json", ada, 200, ""},
		"a program":                       {"", "", "application/json", ada, 200, ""},
		"UTF-8":                           {"", "", "application/json; charset=UTF-8", ada, 200, ""},
		"a proxy with TLS":                {"https://example.com", "", "application/json", ada, 200, ""},
		"a proxy with another Host":       {"https://chat.example", "same-origin", "application/json", ada, 200, ""},
		"a stranger":                      {"http://evil.example", "", "application/json", ada, 403, "origin_not_allowed"},
		"a stranger, as browsers tell":    {"http://evil.example", "cross-site", "application/json", ada, 403, "origin_not_allowed"},
		"another port":                    {"http://example.com:3000", "same-site", "application/json", ada, 403, "origin_not_allowed"},
		"a name that begins alike":        {"http://example.com.evil.example", "", "application/json", ada, 403, "origin_not_allowed"},
		"a host below":                    {"http://www.example.com", "same-site", "application/json", ada, 403, "origin_not_allowed"},
		"a page without an origin":        {"null", "cross-site", "application/json", ada, 403, "origin_not_allowed"},
		"an older browser's without one":  {"null", "", "application/json", ada, 403, "origin_not_allowed"},
		"no Origin, and a stranger":       {"", "cross-site", "application/json", ada, 403, "origin_not_allowed"},
		"no Origin, and a neighbour":      {"", "same-site", "application/json", ada, 403, "origin_not_allowed"},
		"no page":                         {"", "none", "application/json", ada, 403, "origin_not_allowed"},
		"the public URL from elsewhere":   {"https://chat.example", "cross-site", "application/json", ada, 403, "origin_not_allowed"},
		"no media type":                   {"", "", "", ada, 415, "unsupported_media_type"},
		"text, which any page may send":   {"", "", "text/plain", ada, 415, "unsupported_media_type"},
		"a form":                          {"", "", "application/x-www-form-urlencoded", "as=ada", 415, "unsupported_media_type"},
		"another form":                    {"", "", "multipart/form-data; boundary=x", ada, 415, "unsupported_media_type"},
		"another charset":                 {"", "", "application/json; charset=latin1", ada, 415, "unsupported_media_type"},
		"a media type that begins alike":  {"", "", "application/json-seq", ada, 415, "unsupported_media_type"},
		"text that is called JSON beside": {"", "", "text/plain; application/json", ada, 415, "unsupported_media_type"},
		"nothing":                         {"", "", "application/json", "", 400, "malformed"},
		"no JSON":                         {"", "", "application/json", `{"as": `, 400, "malformed"},
		"two":                             {"", "", "application/json", ada + ada, 400, "malformed"},
		"too much":                        {"", "", "application/json", `{"as": "ada` + strings.Repeat(" ", maxContinue) + `"}`, 413, "too_large"},
		"nobody":                          {"", "", "application/json", `{}`, 422, "invalid"},
		"null":                            {"", "", "application/json", `{"as": null}`, 422, "invalid"},
		"no object":                       {"", "", "application/json", `null`, 422, "invalid"},
		"a list":                          {"", "", "application/json", `["ada"]`, 422, "invalid"},
		"a number":                        {"", "", "application/json", `{"as": 7}`, 422, "invalid"},
		"more than a name":                {"", "", "application/json", `{"as": "ada", "email": "eve@example.com"}`, 422, "invalid"},
		"somebody else":                   {"", "", "application/json", `{"as": "eve"}`, 422, "invalid"},
		"a name that looks alike":         {"", "", "application/json", `{"as": "Ada"}`, 422, "invalid"},
		"an empty name":                   {"", "", "application/json", `{"as": ""}`, 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told []string
			r := httptest.NewRequest(http.MethodPost, "/dev/continue", strings.NewReader(c.body))
			for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site, "Content-Type": c.media} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			w := httptest.NewRecorder()
			serve(t, withAda(t, &told)).ServeHTTP(w, r)
			assert.Equal(t, c.status, w.Code, "%s", w.Body)
			assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
			if c.status == http.StatusOK {
				assert.Equal(t, []string{"ada"}, told)
				assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
				assert.JSONEq(t, `{"accessToken": "of ada"}`, w.Body.String())
				return
			}
			assert.Empty(t, told)
			assert.Equal(t, problem.ContentType, w.Header().Get("Content-Type"))
			var d problem.Document
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
			assert.Equal(t, c.code, d.Code)
			assert.Equal(t, c.status, d.Status)
		})
	}
}

// TestContinueIsWhereTheMailboxIs looks at the call and at the buttons, which are for the same visitors.
func TestContinueIsWhereTheMailboxIs(t *testing.T) {
	t.Parallel()
	ask := func(cfg Config, method string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/dev/continue", strings.NewReader(`{"as": "ada"}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		serve(t, cfg).ServeHTTP(w, r)
		return w
	}
	buttons := func(cfg Config) int {
		return strings.Count(get(serve(t, cfg), "/").Body.String(), `<button type="submit" name="as" value="ada">Continue as Ada</button>`)
	}
	var told []string
	cfg := withAda(t, &told)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
		assert.Equal(t, http.StatusMethodNotAllowed, ask(cfg, method).Code, method)
	}
	assert.Empty(t, told)
	assert.Equal(t, http.StatusOK, ask(cfg, http.MethodPost).Code)
	assert.Equal(t, 1, buttons(cfg))

	for _, off := range []Config{{DevMail: noMail}, {}} {
		assert.Equal(t, http.StatusNotFound, ask(off, http.MethodPost).Code)
		assert.Zero(t, buttons(off))
	}

	told = nil
	closed := cfg
	closed.MailboxFor = func(*http.Request) error {
		return fault.New(fault.Forbidden, "mailbox_not_public", "it is not for you")
	}
	refused := ask(closed, http.MethodPost)
	assert.Equal(t, http.StatusForbidden, refused.Code)
	assert.Contains(t, refused.Body.String(), `"mailbox_not_public"`)
	assert.Empty(t, told)
	assert.Zero(t, buttons(closed))

	failing := cfg
	failing.Continue = func(*http.Request, string) (any, error) { return nil, errors.New("secret") }
	failed := ask(failing, http.MethodPost)
	assert.Equal(t, http.StatusInternalServerError, failed.Code)
	assert.NotContains(t, failed.Body.String(), "secret")

	for _, bad := range []Config{{DevMail: noMail, People: cfg.People}, {Continue: cfg.Continue, People: cfg.People}} {
		_, err := Handler(bad)
		assert.ErrorContains(t, err, "People")
	}
}
