package problem_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	problem.Write(w, fmt.Errorf("secret: %w", fault.New(fault.Exhausted, "too_many", "too many").Detail("wait").RetryAfter(1001*time.Millisecond)))
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	for _, name := range []string{"Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"} {
		require.NotEmpty(t, w.Header().Get(name), name)
	}
	require.Empty(t, w.Header().Get("WWW-Authenticate"))
	require.JSONEq(t, `{"type":"/problems/too_many","title":"too many","status":429,"code":"too_many","detail":"wait"}`, w.Body.String())

	w = httptest.NewRecorder()
	problem.Write(w, fault.Unauthenticated)
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
	require.Empty(t, w.Header().Get("Retry-After"))
	var d problem.Document
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d))
	require.Equal(t, problem.Of(fault.Public(fault.Unauthenticated)), d)
}
