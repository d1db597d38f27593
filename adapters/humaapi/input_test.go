package humaapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
)

func keys(o map[string]any) []string { return slices.Sorted(maps.Keys(o)) }

// withSecret are bodies that are wrong and hold a password.
var withSecret = map[string]struct {
	body   string
	status int
	code   string
}{
	"half an object":        {`{"password": "hunter2"`, 400, "malformed"},
	"not JSON":              {`hunter2`, 400, "malformed"},
	"two values":            {`{"password":"hunter2"} {}`, 400, "malformed"},
	"blank":                 {"  \n", 400, "malformed"},
	"invalid UTF-8":         {"{\"password\":\"hunter2\xff\"}", 400, "malformed"},
	"overlong UTF-8":        {"{\"password\":\"hunter2\xc0\x80\"}", 400, "malformed"},
	"lone high surrogate":   {`{"password":"hunter2\ud800"}`, 400, "malformed"},
	"lone low surrogate":    {`{"password":"hunter2\udc00"}`, 400, "malformed"},
	"high and no surrogate": {`{"password":"hunter2\ud800\ue000"}`, 400, "malformed"},
	"swapped surrogates":    {`{"password":"hunter2\udc00\ud800"}`, 400, "malformed"},
	"raw control":           {"{\"password\":\"hunter2\x00\"}", 400, "malformed"},
	"NUL":                   {`{"password":"hunter2\u0000"}`, 422, "invalid"},
	"an array":              {`["hunter2"]`, 422, "invalid"},
	"a string":              {`"hunter2"`, 422, "invalid"},
	"null":                  {`null`, 422, "invalid"},
	"nothing in it":         {`{}`, 422, "invalid"},
	"unknown property":      {`{"password":"hunter2","admin":"hunter2"}`, 422, "invalid"},
	"other case":            {`{"PASSWORD":"hunter2"}`, 422, "invalid"},
	"wrong types":           {`{"password":["hunter2"],"email":{"a":"hunter2"},"code":7,"refreshToken":true,"fullName":null,"current":{}}`, 422, "invalid"},
	"very deep":             {strings.Repeat("[", 20_000) + "hunter2", 400, "malformed"},
}

var jsonCalls = []string{
	"/auth/signup", "/auth/verify", "/auth/verify/resend", "/auth/signin", "/auth/signin/factor", "/auth/factor/totp/confirm", "/auth/refresh",
	"/auth/password/forgot", "/auth/link", "/auth/link/signin", "/auth/password/reset", "/auth/password/change", "/auth/me/email", "/auth/me/email/verify", "/mail/jobs/replay",
}

func TestBadBodiesAreRefusedAndNotRepeated(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, _ := s.signIn()
	for _, path := range jsonCalls {
		token := access
		if strings.HasPrefix(path, "/mail") {
			token = adminToken
		}
		for name, c := range withSecret {
			if path == "/mail/jobs/replay" && c.body == "{}" {
				continue // which asks for everything
			}
			a := s.do("POST", path, c.body, bearer(token))
			s.wantProblem(a, c.status, c.code)
			assert.NotContains(t, a.body, "hunter2", "%s: %s", path, name)
		}
	}
	assert.NotContains(t, s.log(), "hunter2")
}

func TestTextOfEveryKindIsTaken(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, name := range []string{`Ada \ud83d\ude00\ud83d\ude00`, `Ada \\u0000`, `Ada \u00e9\"\\`, "Ada 😀"} {
		s.wantStatus(s.do("POST", "/auth/signup", `{"fullName":"`+name+`","email":"ada@example.com","password":"`+password+`"}`), 202)
		s.clock.advance(time.Hour)
	}
	// NUL is refused before anybody looks the text up.
	d := s.wantProblem(s.do("POST", "/auth/refresh", `{"refreshToken":"a\u0000"}`), 422, "invalid")
	assert.Equal(t, "body", d.Errors[0].Location)
}

func TestLocationsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	d := s.wantProblem(s.post("/auth/signup", fields{"fullName": 7, "email": ada, "extra": true}), 422, "invalid")
	places := map[string]string{}
	for _, e := range d.Errors {
		places[e.Location] = e.Message
	}
	assert.Equal(t, map[string]string{
		"body":          "expected required property password to be present",
		"body.extra":    "unexpected property",
		"body.fullName": "expected string",
	}, places)
}

func TestManyWrongPlacesMakeAShortProblem(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	many := fields{strings.Repeat("long", 5000): 1}
	for i := range 1000 {
		many[fmt.Sprintf("p%d", i)] = 1
	}
	a := s.post("/auth/signup", many)
	d := s.wantProblem(a, 422, "invalid")
	assert.Len(t, d.Errors, 21)
	assert.Less(t, len(a.body), 4096)
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	body := func(size int) string {
		const frame = `{"email":"","password":""}`
		return `{"email":"` + strings.Repeat("a", size-len(frame)) + `","password":""}`
	}
	require.Len(t, body(64<<10), humaapi.DefaultMaxBody)
	s.wantProblem(s.do("POST", "/auth/signin", body(64<<10)), 401, "invalid_credentials")
	s.wantProblem(s.do("POST", "/auth/signin", body(64<<10+1)), 413, "too_large")

	// The same without a length in front.
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/auth/signin", io.MultiReader(strings.NewReader(body(64<<10+1))))
	require.EqualValues(t, -1, r.ContentLength)
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	assert.Equal(t, 413, w.Code)

	small := newSystem(t, options{api: humaapi.Config{MaxBody: 40}})
	small.wantProblem(small.do("POST", "/auth/signin", body(41)), 413, "too_large")
	small.wantProblem(small.do("POST", "/auth/signin", body(40)), 401, "invalid_credentials")
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	const body = `{"email":"ada@example.com"}`
	for media, want := range map[string]int{
		"application/json":                  202,
		"Application/JSON; Charset=UTF-8":   202,
		"":                                  415,
		"text/plain":                        415,
		"application/x-www-form-urlencoded": 415,
		"application/merge-patch+json":      415,
		"application/json; charset=latin1":  415,
		"application/cbor":                  415,
		"nonsense; =":                       415,
	} {
		a := s.do("POST", "/auth/verify/resend", body, header{"Content-Type", media})
		if want == 415 {
			s.wantProblem(a, 415, "unsupported_media_type")
		} else {
			assert.Equal(t, want, a.StatusCode, media)
		}
	}
}

func TestAnyAcceptHeaderGetsJSON(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, accept := range []string{"text/html", "application/cbor", "*/*;q=0", "nonsense", ";;;,,,"} {
		a := s.wantStatus(s.get("/livez", header{"Accept", accept}), 200)
		assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
		s.wantProblem(s.get("/auth/me", header{"Accept", accept}), 401, "unauthenticated")
	}
}

// cut is a body that breaks off.
type cut struct{ err error }

func (c cut) Read([]byte) (int, error) { return 0, c.err }

type late struct{ error }

func (late) Timeout() bool   { return true }
func (late) Temporary() bool { return false }

func TestBrokenBodies(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"breaks off":                {io.ErrUnexpectedEOF, 400},
		"too slow":                  {late{errors.New("i/o timeout")}, 408},
		"cut by a handler in front": {&http.MaxBytesError{Limit: 10}, 413},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/auth/signin", cut{c.err})
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		assert.Equal(t, c.status, w.Code, name)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), name)
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, path := range []string{
		"/mail/jobs/a%00b", "/mail/jobs/%ff", "/mail/jobs?to=%00", "/mail/jobs?to=%ff", "/mail/jobs?%00=1",
		"/mail/jobs?to=%zz", "/auth/verify?code=%ff", "/livez?a;b",
	} {
		s.wantProblem(s.get(path, bearer(adminToken)), 400, "malformed_url")
	}
	s.wantStatus(s.get("/livez?from=balancer"), 200)
	s.wantStatus(s.get("/mail/stats?x=y", bearer(adminToken)), 200)
	for path, place := range map[string]string{
		"/mail/jobs?colour=red":                         "query.colour",
		"/mail/jobs?state=lost":                         "query.state",
		"/mail/jobs?limit=0":                            "query.limit",
		"/mail/jobs?limit=1001":                         "query.limit",
		"/mail/jobs?limit=hunter2":                      "query.limit",
		"/mail/jobs?data=perhaps":                       "query.data",
		"/mail/jobs?to=not-an-addr":                     "query.to",
		"/mail/jobs?cursor=" + strings.Repeat("a", 201): "query.cursor",
		"/mail/jobs/" + strings.Repeat("a", 10_000):     "path.id",
	} {
		a := s.get(path, bearer(adminToken))
		d := s.wantProblem(a, 422, "invalid")
		require.Len(t, d.Errors, 1, path)
		assert.Equal(t, place, d.Errors[0].Location)
		assert.NotContains(t, a.body, "hunter2")
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, path := range []string{"/nothing", "/", "/auth", "/auth/signup/", "/api-docs/nothing.js", "/mail/jobs/a/b"} {
		s.wantProblem(s.get(path), 404, "not_found")
	}
	a := s.get("/auth/signup")
	s.wantProblem(a, 405, "method_not_allowed")
	assert.Equal(t, "POST, OPTIONS", a.Header.Get("Allow"))
	a = s.do("PUT", "/mail/jobs/7", "{}")
	s.wantProblem(a, 405, "method_not_allowed")
	assert.Equal(t, "DELETE, GET, HEAD, OPTIONS", a.Header.Get("Allow"))
	s.wantProblem(s.do("TRACE", "/livez", ""), 405, "method_not_allowed")
	// Fetching what a form posts to uses nothing up.
	s.wantProblem(s.get("/auth/verify/confirm?code=x"), 405, "method_not_allowed")

	a = s.wantStatus(s.do("OPTIONS", "/auth/signup", ""), 204)
	assert.Equal(t, "POST, OPTIONS", a.Header.Get("Allow"))
	s.wantProblem(s.do("OPTIONS", "/nothing", ""), 404, "not_found")
	s.wantStatus(s.do("HEAD", "/livez", ""), 200)
}

// FuzzSignUp wants an answer for every body: never a failure of ours, and always a document.
func FuzzSignUp(f *testing.F) {
	f.Add([]byte(`{"fullName":"Ada","email":"ada@example.com","password":"correct horse"}`))
	f.Add([]byte(`{"fullName":"\ud83d\ude00","email":"a@b","password":"\\u0000 is text"}`))
	for _, c := range withSecret {
		f.Add([]byte(c.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := newSystem(t, options{})
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/auth/signup", bytes.NewReader(body))
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code < 200 {
			t.Errorf("status %d for %q: %s", w.Code, body, w.Body)
		}
		s.object(answer{Response: w.Result(), body: w.Body.String()})
	})
}
