package humaapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
)

// as sends a request of an administrator.
func as(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestNullIsNoValueUnlessTheSchemaSaysSo(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, c := range []struct{ path, body, place string }{
		{"/mail/jobs/replay", `{"filter":null}`, "body.filter"},
		{"/mail/jobs/replay", `{"filter":{"to":null}}`, "body.filter.to"},
		{"/mail/jobs/replay", `{"filter":{"limit":null}}`, "body.filter.limit"},
		{"/mail/jobs/replay", `{"dryRun":null}`, "body.dryRun"},
		{"/mail/jobs/replay", `null`, "body"},
		{"/auth/signin", `{"email":null,"password":"x"}`, "body.email"},
		{"/auth/signup", `{"fullName":"null","email":"a@example.com","password":null}`, "body.password"},
	} {
		w := as(s.api, http.MethodPost, c.path, c.body)
		assert.Equal(t, http.StatusUnprocessableEntity, w.Code, "%s %s: %s", c.path, c.body, w.Body)
		assert.Contains(t, w.Body.String(), `"location":"`+c.place+`"`, c.body)
	}
	for _, body := range []string{`{}`, `{"filter":{}}`, `{"filter":{"to":"null@example.com"},"dryRun":true}`} {
		assert.Equal(t, http.StatusOK, as(s.api, http.MethodPost, "/mail/jobs/replay", body).Code, body)
	}
}

// TestMembersStandOnceAndAsTheyAreWritten holds that REST reads an object as the socket does: no parser in between can see another
// value than the one that counts.
func TestMembersStandOnceAndAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, c := range []struct{ path, body, place string }{
		{"/auth/signin", `{"email":"a@example.com","password":"x","email":"b@example.com"}`, "body.email"},
		{"/auth/signin", `{"email":"a@example.com","password":"x","Email":"b@example.com"}`, "body.email"},
		{"/auth/signin", `{"EMAIL":"a@example.com","password":"x"}`, "body.email"},
		{"/auth/signin", `{"email":"a@example.com","passw\u006frd":"x","password":"y"}`, "body.password"},
		{"/auth/signin", `{"email":"a@example.com","pa\u017f\u017fword":"x"}`, "body.password"}, // a long s folds to s
		{"/auth/signup", `{"fullname":"Ada","email":"a@example.com","password":"x"}`, "body.fullName"},
		{"/mail/jobs/replay", `{"filter":{"to":"a","to":"b"}}`, "body.filter.to"},
		{"/mail/jobs/replay", `{"filter":{"To":"a"}}`, "body.filter.to"},
	} {
		w := as(s.api, http.MethodPost, c.path, c.body)
		assert.Equal(t, http.StatusUnprocessableEntity, w.Code, "%s %s: %s", c.path, c.body, w.Body)
		assert.Contains(t, w.Body.String(), `"location":"`+c.place+`"`, c.body)
	}
	w := as(s.api, http.MethodPost, "/auth/signin", `{"email":"ada@example.com","password":"x","extra":1,"extra":2}`)
	assert.Equal(t, http.StatusUnprocessableEntity, w.Code, "what no schema knows")
}

func TestQueriesAreReadAgainstTheirSchema(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for query, want := range map[string]int{
		"": 200, "to=": 200, "cursor=": 200, "limit=2": 200, "data=true": 200, "state=dead": 200,
		"data=": 422, "data": 422, "limit=": 422, "limit": 422, "state=": 422, "state=dead&state=sent": 422, "limit=1&limit=1": 422,
		"to=a%40example.com&to=b%40example.com": 422, "limit=1e1": 422, "data=maybe": 422, "other=": 422,
	} {
		w := as(s.api, http.MethodGet, "/mail/jobs?"+query, "")
		assert.Equal(t, want, w.Code, "%q: %s", query, w.Body)
	}
	assert.Equal(t, http.StatusUnprocessableEntity, as(s.api, http.MethodGet, "/mail/jobs/1?data=", "").Code)
}

func TestBodiesAreNotCompressed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"email":"a@example.com","password":"x"}`))
	require.NoError(t, z.Close())
	for _, coding := range []string{"gzip", "GZIP", "br", "zstd", "identity, gzip", "x"} {
		w := as(s.api, http.MethodPost, "/auth/signin", packed.String(), "Content-Encoding", coding)
		assert.Equal(t, http.StatusUnsupportedMediaType, w.Code, coding)
		assert.Equal(t, "identity", w.Header().Get("Accept-Encoding"), coding)
	}
	plain := `{"email":"a@example.com","password":"wrong"}`
	assert.Equal(t, http.StatusUnauthorized, as(s.api, http.MethodPost, "/auth/signin", plain, "Content-Encoding", "identity").Code)
}

func TestOptionsNamesTheMethodsOfEachPath(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{api: humaapi.Config{Origins: []string{page}}})
	for path, item := range s.api.OpenAPI().Paths {
		want := []string{http.MethodOptions}
		for method, op := range map[string]any{http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete} {
			if !isNil(op) {
				want = append(want, method)
			}
		}
		target := strings.NewReplacer("{id}", "1").Replace(path)
		for _, w := range []*httptest.ResponseRecorder{as(s.api, http.MethodOptions, target, ""), preflight(s.api, http.MethodGet, target, page)} {
			assert.Equal(t, http.StatusNoContent, w.Code, path)
			got := strings.Split(w.Header().Get("Allow"), ", ")
			for _, method := range want {
				assert.True(t, slices.Contains(got, method), "%s has %s: %v", path, method, got)
			}
		}
	}
}

func TestEverythingHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, target := range []string{"/asyncapi.json", "/asyncapi.yaml", "/nowhere", "/livez", "/auth/me", "/api-docs", "/openapi.json", "/mail/jobs?limit="} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			h := as(s.api, method, target, "").Header()
			for _, name := range []string{"Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"} {
				assert.NotEmpty(t, h.Get(name), "%s %s: %s", method, target, name)
			}
		}
	}
}

// TestTwoLengthsEndTheConnection: what follows on the connection is not read as a request.
func TestTwoLengthsEndTheConnection(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	server := httptest.NewServer(s.api)
	defer server.Close()
	for name, request := range map[string]string{
		"both lengths":                   "POST /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"the other way round, elsewhere": "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
	} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(t, err)
		_, err = c.Write([]byte(request + "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))
		require.NoError(t, err)
		from := bufio.NewReader(c)
		first, err := http.ReadResponse(from, nil)
		require.NoError(t, err, name)
		_, err = io.Copy(io.Discard, first.Body)
		require.NoError(t, err)
		assert.True(t, first.Close, name)
		_, err = http.ReadResponse(from, nil)
		assert.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err), "%s: %v", name, err)
		_ = c.Close()
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

func isNil(op any) bool {
	o, ok := op.(*huma.Operation)
	return !ok || o == nil
}
