package humaapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
)

const page = "https://front.example.com"

func TestPagesOfListedOriginsMayUseTheOperations(t *testing.T) {
	t.Parallel()
	for listed, origins := range map[string]struct{ allowed, refused string }{
		page:                             {page, "https://evil.example.com http://front.example.com null"},
		"HTTPS://Front.Example.com:443/": {page, "https://front.example.com:8443"},
		"https://*.example.com":          {page + " https://a.b.example.com", "https://example.com https://evil-example.com http://front.example.com null"},
		"":                               {"", page + " null"},
	} {
		s := newSystem(t, options{api: humaapi.Config{Origins: strings.Fields(listed)}})
		check := func(origin string, want bool) {
			for _, call := range []struct{ method, path, body string }{
				{http.MethodPost, "/auth/signin", `{"email":"a@example.com","password":"wrong one here"}`},
				{http.MethodPost, "/auth/signin", `{`},
				{http.MethodGet, "/.well-known/jwks.json", ""},
				{http.MethodGet, "/livez", ""},
				{http.MethodGet, "/nowhere", ""},
				{http.MethodPatch, "/auth/signin", ""},
			} {
				w := fromPage(s.api, call.method, call.path, call.body, origin)
				if want {
					assert.Equal(t, origin, w.Header().Get("Access-Control-Allow-Origin"), "%s %v", origin, call)
					assert.Contains(t, w.Header().Get("Access-Control-Expose-Headers"), "Retry-After")
				} else {
					assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), "%s %v", origin, call)
				}
				assert.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
				assert.Contains(t, w.Header().Values("Vary"), "Origin", "caches keep them apart")
			}
			w := preflight(s.api, http.MethodPost, "/auth/signin", origin)
			assert.Equal(t, http.StatusNoContent, w.Code)
			assert.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
			if !want {
				assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), origin)
				return
			}
			assert.Equal(t, origin, w.Header().Get("Access-Control-Allow-Origin"))
			assert.Equal(t, "POST", w.Header().Get("Access-Control-Allow-Methods"))
			assert.Equal(t, "authorization,content-type", w.Header().Get("Access-Control-Allow-Headers"))
			assert.Equal(t, "7200", w.Header().Get("Access-Control-Max-Age"))
		}
		for origin := range strings.FieldsSeq(origins.allowed) {
			check(origin, true)
		}
		for origin := range strings.FieldsSeq(origins.refused) {
			check(origin, false)
		}
	}
}

func TestAnyOriginIsAllowedWithoutCredentials(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{api: humaapi.Config{Origins: []string{"*"}}})
	for _, w := range []*httptest.ResponseRecorder{fromPage(s.api, http.MethodGet, "/livez", "", "null"), preflight(s.api, http.MethodDelete, "/mail/jobs/1", page)} {
		assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
		assert.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
	}
}

func TestWhatIsNoOperationIsNotForPagesOfOthers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{api: humaapi.Config{Origins: []string{"*"}}})
	s.api.Mux().HandleFunc("GET /dev/mail.json", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	for _, path := range []string{"/dev/mail.json", "/api-docs", "/openapi.json"} {
		assert.Empty(t, fromPage(s.api, http.MethodGet, path, "", page).Header().Get("Access-Control-Allow-Origin"), path)
		assert.Empty(t, preflight(s.api, http.MethodGet, path, page).Header().Get("Access-Control-Allow-Origin"), path)
	}
}

func TestOriginsThatNeverMatchAreRefused(t *testing.T) {
	t.Parallel()
	_, err := humaapi.New(http.NewServeMux(), humaapi.Config{Origins: []string{"https://chat.example.com/app", "null"}})
	require.ErrorContains(t, err, "Origins")
	assert.ErrorContains(t, err, "null")
	_, err = humaapi.New(http.NewServeMux(), humaapi.Config{PublicURL: "https://chät.example"})
	assert.ErrorContains(t, err, "PublicURL")
}

func fromPage(h http.Handler, method, path, body, origin string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", origin)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func preflight(h http.Handler, method, path, origin string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodOptions, path, nil)
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", method)
	r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
