package humaapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/problem"
)

func TestWhatIsRequiredIsNamedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := humaapi.New(nil, humaapi.Config{MaxBody: -1, PublicURL: "chat.example.com"})
	for _, part := range []string{"mux", "MaxBody", "PublicURL"} {
		assert.ErrorContains(t, err, part)
	}
	err = humaapi.RegisterAuth(nil, humaapi.AuthConfig{})
	assert.ErrorContains(t, err, "API")
	assert.ErrorContains(t, err, "Service")
	err = humaapi.RegisterMail(nil, humaapi.MailConfig{})
	assert.ErrorContains(t, err, "API")
	assert.ErrorContains(t, err, "Service")
	err = humaapi.RegisterEvents(nil, humaapi.EventsConfig{})
	assert.ErrorContains(t, err, "API")
	assert.ErrorContains(t, err, "Service")
	err = humaapi.RegisterDocs(nil, humaapi.DocsConfig{})
	for _, part := range []string{"API", "User", "Password"} {
		assert.ErrorContains(t, err, part)
	}
	require.Error(t, humaapi.RegisterHealth(nil, humaapi.HealthConfig{}))
	require.Error(t, humaapi.RegisterAsyncAPI(nil, nil, nil))

	api, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
	require.NoError(t, err)
	require.Error(t, humaapi.RegisterHealth(api, humaapi.HealthConfig{Checks: []health.Check{{Name: "store"}}}))
	require.Error(t, humaapi.RegisterDocs(api, humaapi.DocsConfig{User: "a:b", Password: "c"}))
}

type ownInput struct {
	Body struct {
		Word  string `json:"word"`
		Email string `json:"email,omitempty" format:"email"`
	}
}

type ownOutput struct {
	Body struct {
		Word string `json:"word"`
	}
}

// ownOperation registers an operation as a user of the package would.
func ownOperation(s *system, path string, handle func(word string) error) {
	huma.Register(s.api, huma.Operation{
		OperationID: strings.Trim(path, "/"), Method: "POST", Path: path, Errors: []int{400, 404, 409, 418, 429, 503},
	}, func(_ context.Context, in *ownInput) (*ownOutput, error) {
		out := &ownOutput{}
		out.Body.Word = in.Body.Word
		return out, handle(in.Body.Word)
	})
}

func TestOperationsOfYourOwnFailTheSameWay(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	taken := fault.New(fault.Conflict, "word_taken", "the word is taken")
	ownOperation(s, "/own", func(word string) error {
		switch word {
		case "panic":
			panic("hunter2")
		case "plain":
			return errSecret
		case "kind":
			return humaapi.Problem(taken.Detail("since yesterday"))
		case "later":
			return humaapi.Problem(fault.New(fault.Exhausted, "too_many_words", "too many words").RetryAfter(1500 * time.Millisecond))
		case "secret":
			return humaapi.Problem(errSecret)
		case "huma":
			return huma.Error404NotFound("no such word")
		case "teapot":
			return huma.NewError(http.StatusTeapot, "short and stout", errors.New("it pours"))
		}
		return nil
	})
	say := func(word string) answer { return s.post("/own", fields{"word": word}) }
	assert.JSONEq(t, `{"word":"fine"}`, s.wantStatus(say("fine"), 200).body)
	s.wantProblem(say("panic"), 500, "internal")
	assert.Contains(t, s.log(), "hunter2")
	for i, word := range []string{"plain", "secret"} {
		a := say(word)
		s.wantProblem(a, 500, "internal")
		assert.NotContains(t, a.body, "10.0.0.7")
		assert.Equal(t, i+1, strings.Count(s.log(), "10.0.0.7"), s.log())
	}
	d := s.wantProblem(say("kind"), 409, "word_taken")
	assert.Equal(t, "since yesterday", d.Detail)
	later := say("later")
	s.wantProblem(later, 429, "too_many_words")
	assert.Equal(t, "2", later.Header.Get("Retry-After"))
	d = s.wantProblem(say("huma"), 404, "not_found")
	assert.Equal(t, "no such word", d.Detail)
	s.wantProblem(say("teapot"), 418, "invalid")
	bad := s.post("/own", fields{"word": 7, "password": "hunter2"})
	s.wantProblem(bad, 422, "invalid")
	assert.NotContains(t, bad.body, "hunter2")
	bad = s.post("/own", fields{"word": "fine", "email": "hunter2@"})
	d = s.wantProblem(bad, 422, "invalid")
	assert.Equal(t, []problem.Location{{Location: "body.email", Message: "expected string to be RFC 5322 email"}}, d.Errors)
	bad = s.post("/own", fields{"word": "fine", "email": "hunter2<"})
	s.wantProblem(bad, 422, "invalid")
	assert.NotContains(t, bad.body, "mail:", "nor are the parser's words")
	require.NoError(t, humaapi.Problem(nil))

	document, err := s.api.Document("json")
	require.NoError(t, err)
	assert.NotContains(t, string(document), "ErrorModel", "Huma's own error is not in the document")
}

func TestAPanicAfterTheStartOfAnAnswerBreaksTheConnection(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	type output struct {
		Body func(huma.Context)
	}
	huma.Register(s.api, huma.Operation{OperationID: "half", Method: "GET", Path: "/half"},
		func(context.Context, *struct{}) (*output, error) {
			return &output{Body: func(ctx huma.Context) {
				ctx.SetStatus(200)
				panic("too late")
			}}, nil
		})
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() { s.get("/half") })
}

func TestHealth(t *testing.T) {
	t.Parallel()
	up := health.Check{Name: "store", Probe: func(context.Context) (map[string]any, error) { return map[string]any{"kind": "memory"}, nil }}
	down := health.Check{Name: "bus", Probe: func(context.Context) (map[string]any, error) { return nil, errSecret }}
	draining := func() bool { return true }
	for name, c := range map[string]struct {
		cfg    humaapi.HealthConfig
		status int
		report string
	}{
		"up":       {humaapi.HealthConfig{Checks: []health.Check{up}}, 200, "ok"},
		"nothing":  {humaapi.HealthConfig{}, 200, "ok"},
		"down":     {humaapi.HealthConfig{Checks: []health.Check{up, down}}, 503, "error"},
		"draining": {humaapi.HealthConfig{Checks: []health.Check{up}, Draining: draining}, 503, "shutting_down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{health: c.cfg})
			assert.JSONEq(t, `{"status":"ok"}`, s.wantStatus(s.get("/livez"), 200).body)
			for _, path := range []string{"/readyz", "/health"} {
				a := s.wantStatus(s.get(path), c.status)
				o := s.object(a)
				assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
				assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
				assert.Equal(t, []string{"details", "error", "info", "status"}, keys(o))
				assert.Equal(t, c.report, o["status"])
				assert.Len(t, o["details"], len(c.cfg.Checks))
				assert.NotContains(t, a.body, "10.0.0.7")
			}
			if name == "down" {
				assert.Contains(t, s.log(), "10.0.0.7")
			}
		})
	}
}

// What monitors of the old system read, to the byte.
func TestReportsHaveTheShapeOfTerminus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never := func(ctx context.Context) (map[string]any, error) { <-ctx.Done(); return nil, ctx.Err() }
		s := newSystem(t, options{health: humaapi.HealthConfig{Checks: []health.Check{
			{Name: "store", Probe: func(context.Context) (map[string]any, error) {
				time.Sleep(1234567 * time.Nanosecond) // of the bubble
				return map[string]any{"kind": "memory", "status": "down", "ms": "?"}, nil
			}},
			{Name: "bus", Probe: func(context.Context) (map[string]any, error) { return map[string]any{"x": "y"}, errSecret }},
			{Name: "redis", Probe: never},
		}}})
		for _, path := range []string{"/readyz", "/health"} {
			assert.Equal(t, `{"status":"error",`+
				`"info":{"store":{"kind":"memory","ms":1.234,"status":"up"}},`+
				`"error":{"bus":{"message":"failed","status":"down"},"redis":{"message":"no answer in time","status":"down"}},`+
				`"details":{"bus":{"message":"failed","status":"down"},"redis":{"message":"no answer in time","status":"down"},"store":{"kind":"memory","ms":1.234,"status":"up"}}}`,
				strings.TrimSpace(s.wantStatus(s.get(path), 503).body))
		}
	})
	s := newSystem(t, options{})
	assert.Equal(t, `{"status":"ok","info":{},"error":{},"details":{}}`, strings.TrimSpace(s.get("/health").body))
}

func TestReadyGivesACheckOneSecondAndHealthItsOwnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := health.Check{Name: "slow", Timeout: time.Minute, Probe: func(ctx context.Context) (map[string]any, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(30 * time.Second):
				return nil, nil
			}
		}}
		s := newSystem(t, options{health: humaapi.HealthConfig{Checks: []health.Check{slow}}, api: humaapi.Config{Timeout: time.Minute}})
		start := time.Now()
		s.wantStatus(s.get("/readyz"), 503)
		assert.Equal(t, time.Second, time.Since(start))
		s.wantStatus(s.get("/health"), 200)
		s.wantStatus(s.get("/livez"), 200)
		assert.Equal(t, 31*time.Second, time.Since(start))
	})
}

func TestDocsAreBehindBasicAuthentication(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	basic := func(user, password string) header {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.SetBasicAuth(user, password)
		return header{"Authorization", r.Header.Get("Authorization")}
	}
	for path, media := range map[string]string{
		"/api-docs":                      "text/html",
		"/api-docs/":                     "text/html",
		"/api-docs/docs.js":              "javascript",
		"/api-docs/swagger-ui.css":       "text/css",
		"/api-docs/swagger-ui-bundle.js": "javascript",
		"/api-docs/favicon-32x32.png":    "image/png",
		"/openapi.json":                  "application/vnd.oai.openapi+json",
		"/openapi.yaml":                  "application/yaml",
		"/schemas/Problem.json":          "application/schema+json",
		"/schemas/Problem":               "application/schema+json",
	} {
		for _, h := range []header{{"Authorization", ""}, basic("linkdocs", "wrong"), basic("wrong", "linkdocspass"), basic("", ""), bearer(adminToken)} {
			a := s.get(path, h)
			s.wantProblem(a, http.StatusUnauthorized, "unauthenticated")
			assert.Equal(t, `Basic realm="API documents", charset="UTF-8"`, a.Header.Get("WWW-Authenticate"))
		}
		a := s.wantStatus(s.get(path, basic("linkdocs", "linkdocspass")), 200)
		assert.Contains(t, a.Header.Get("Content-Type"), media, path)
		assert.NotEmpty(t, a.body)
		policy := a.Header.Get("Content-Security-Policy")
		assert.Contains(t, policy, "default-src 'none'")
		assert.NotContains(t, policy, "http")
		if strings.HasPrefix(path, "/api-docs") && !strings.Contains(path, "swagger") && media != "image/png" {
			assert.NotContains(t, a.body, "://", "nothing comes from outside")
		}
	}
	assert.Contains(t, s.get("/api-docs", basic("linkdocs", "linkdocspass")).body, `src="api-docs/docs.js" data-openapi="openapi.json"`)
	assert.Contains(t, s.get("/api-docs/", basic("linkdocs", "linkdocspass")).body, `src="docs.js" data-openapi="../openapi.json"`)
	grant := s.get("/schemas/Grant", basic("linkdocs", "linkdocspass"))
	assert.Contains(t, grant.body, `"$ref":"Account"`)
	schema := s.object(s.get("/schemas/SignUpRequest.json", basic("linkdocs", "linkdocspass")))
	assert.Equal(t, []any{"fullName", "email", "password"}, schema["required"])
	s.wantProblem(s.get("/schemas/Nothing", basic("linkdocs", "linkdocspass")), 404, "not_found")
}

func TestAsyncAPIIsServedAsGiven(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	assert.JSONEq(t, `{"asyncapi":"3.0.0"}`, s.wantStatus(s.get("/asyncapi.json"), 200).body)
	assert.Equal(t, "asyncapi: 3.0.0\n", s.wantStatus(s.get("/asyncapi.yaml"), 200).body)
}

func TestTheDocumentIsPrintedTheSameEachTime(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "yaml"} {
		first, err := newSystem(t, options{}).api.Document(format)
		require.NoError(t, err)
		for range 5 {
			again, err := newSystem(t, options{}).api.Document(format)
			require.NoError(t, err)
			assert.Equal(t, string(first), string(again))
		}
	}
	_, err := newSystem(t, options{}).api.Document("xml")
	require.ErrorContains(t, err, "xml")
}

// fixedCalls are the operations that other programs are written against.
var fixedCalls = []string{
	"POST /auth/signup 202", "POST /auth/verify 200", "GET /auth/verify 200", "POST /auth/verify/resend 202",
	"POST /auth/signin 200", "POST /auth/refresh 200", "POST /auth/signout 204", "POST /auth/signout/all 204",
	"POST /auth/password/forgot 202", "POST /auth/password/reset 204", "POST /auth/password/change 204",
	"GET /auth/me 200", "PATCH /auth/me 200", "DELETE /auth/me 204", "POST /auth/me/email 202", "POST /auth/me/email/verify 200", "POST /auth/socket-ticket 200", "GET /.well-known/jwks.json 200",
	"GET /livez 200", "GET /readyz 503", "GET /health 503",
	"GET /mail/jobs 200", "GET /mail/jobs/{id} 200", "POST /mail/jobs/{id}/replay 204", "POST /mail/jobs/replay 200",
	"DELETE /mail/jobs/{id} 204", "GET /mail/stats 200",
	"GET /events/aside 200", "GET /events/aside/{id} 200", "POST /events/aside/{id}/replay 204", "POST /events/aside/replay 200",
	"DELETE /events/aside/{id} 204",
}

func TestTheDocumentIsComplete(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	listed := checkDocument(t, s.api)
	for _, call := range fixedCalls {
		assert.True(t, listed[call], "%s is not in the document", call)
	}
	assert.NotContains(t, s.api.OpenAPI().Components.Schemas.Map(), "ErrorModel")
}

// checkDocument checks what holds for each operation, and returns all of them with their statuses.
func checkDocument(t *testing.T, api *humaapi.API) map[string]bool {
	t.Helper()
	listed := map[string]bool{}
	ids := map[string]bool{}
	for _, op := range operations(api) {
		assert.NotEmpty(t, op.OperationID, op.Path)
		assert.False(t, ids[op.OperationID], op.OperationID)
		ids[op.OperationID] = true
		assert.NotEmpty(t, op.Summary, op.OperationID)
		assert.NotEmpty(t, op.Tags, op.OperationID)
		for status, response := range op.Responses {
			listed[op.Method+" "+op.Path+" "+status] = true
			assert.NotEmpty(t, response.Description, "%s %s", op.OperationID, status)
			if content := response.Content["application/problem+json"]; content != nil {
				assert.NotNil(t, content.Schema, op.OperationID)
				for code, example := range content.Examples {
					document := example.Value.(problem.Document)
					assert.Equal(t, code, document.Code)
					assert.Equal(t, status, strconv.Itoa(document.Status))
				}
			}
		}
		assert.NotContains(t, op.Responses, "default", op.OperationID)
		for _, requirement := range op.Security {
			assert.Contains(t, op.Responses, "401", op.OperationID)
			for name := range requirement {
				assert.Contains(t, api.OpenAPI().Components.SecuritySchemes, name)
			}
		}
		if op.RequestBody != nil {
			for _, status := range []string{"400", "408", "413", "415"} {
				assert.Contains(t, op.Responses, status, op.OperationID)
			}
		}
	}
	return listed
}

func TestTheDocumentHasCoresLimits(t *testing.T) {
	t.Parallel()
	text, err := newSystem(t, options{}).api.Document("json")
	require.NoError(t, err)
	var document struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					Format               string
					MinLength, MaxLength int
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(text, &document))
	properties := document.Components.Schemas["SignUpRequest"].Properties
	assert.Equal(t, auth.MinPassword, properties["password"].MinLength)
	assert.Equal(t, auth.MaxPassword, properties["password"].MaxLength)
	assert.Equal(t, "email", properties["email"].Format)
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::ffff:192.0.2.0/120")}
	for name, c := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"direct":                    {"203.0.113.9:1234", nil, "203.0.113.9"},
		"direct with a header":      {"203.0.113.9:1234", []string{"6.6.6.6"}, "203.0.113.9"},
		"one proxy":                 {"10.0.0.1:1234", []string{"203.0.113.9"}, "203.0.113.9"},
		"two proxies":               {"10.0.0.1:1234", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		"forged in front":           {"10.0.0.1:1234", []string{"6.6.6.6, 203.0.113.9"}, "203.0.113.9"},
		"several headers":           {"10.0.0.1:1234", []string{"6.6.6.6", "203.0.113.9,10.0.0.2"}, "203.0.113.9"},
		"with a port":               {"10.0.0.1:1234", []string{"203.0.113.9:99"}, "203.0.113.9"},
		"IPv6":                      {"[fd00::1]:1234", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv6 in brackets":          {"[fd00::1]:1234", []string{"[2001:db8::1]:80"}, "2001:db8::1"},
		"IPv6 in brackets, no port": {"[fd00::1]:1234", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"IPv4 in IPv6":              {"[::ffff:10.0.0.1]:1234", []string{"203.0.113.9"}, "203.0.113.9"},
		"a network of IPv4 in IPv6": {"192.0.2.9:1234", []string{"203.0.113.9"}, "203.0.113.9"},
		"zone":                      {"[fe80::1%eth0]:1234", nil, "fe80::1"},
		"proxy without the header":  {"10.0.0.1:1234", nil, "10.0.0.1"},
		"nonsense in the header":    {"10.0.0.1:1234", []string{"unknown"}, "10.0.0.1"},
		"nonsense before a proxy":   {"10.0.0.1:1234", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		"only proxies":              {"10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"Unix socket":               {"@", []string{"203.0.113.9"}, "invalid IP"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.RemoteAddr = c.remote
		r.Header["X-Forwarded-For"] = c.forwarded
		assert.Equal(t, c.want, humaapi.ClientAddress(r, trusted).String(), name)
	}
}

func TestOtherHandlersOnTheMuxAreServed(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		_, ok := w.(*httptest.ResponseRecorder)
		assert.True(t, ok, "the writer is not wrapped, so that connections can be taken over")
		assert.Equal(t, "ada", r.PathValue("name"))
		w.WriteHeader(http.StatusTeapot)
	})
	api, err := humaapi.New(mux, humaapi.Config{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/hello/ada", nil))
	assert.Equal(t, http.StatusTeapot, w.Code)
}

// TestManyAtOnce runs on a real server, so that the race detector sees what one would meet.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	_, refresh := s.signIn()
	server := httptest.NewServer(s.api)
	t.Cleanup(server.Close)
	const clients = 8
	statuses := make(chan int, clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			body := strings.NewReader(`{"refreshToken":"` + refresh + `"}`)
			for _, r := range []*http.Request{
				must(http.NewRequestWithContext(t.Context(), "POST", server.URL+"/auth/refresh", body)),
				must(http.NewRequestWithContext(t.Context(), "GET", server.URL+"/openapi.json", nil)),
				must(http.NewRequestWithContext(t.Context(), "GET", server.URL+"/nothing", nil)),
			} {
				r.SetBasicAuth("linkdocs", "linkdocspass")
				r.Header.Set("Content-Type", "application/json")
				answer, err := server.Client().Do(r)
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, answer.Body.Close())
				switch r.URL.Path {
				case "/auth/refresh":
					statuses <- answer.StatusCode
				case "/openapi.json":
					assert.Equal(t, 200, answer.StatusCode)
				default:
					assert.Equal(t, 404, answer.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	assert.Equal(t, map[int]int{200: clients}, count, "all get the same successor")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
