package wire

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNoNameOfARoomIsInTheLog(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"/rooms/secret/messages", "/rooms/secret", "/rooms//secret", "//rooms/secret/messages", "/./rooms/secret/messages", "/auth/../rooms/secret/messages",
		"/%72ooms/secret/messages", "/rooms/..%2Fsecret/messages", "/rooms/%2E%2E/%2E%2E%2Fsecret/messages",
	} {
		var log bytes.Buffer
		h := logged(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&log, nil)))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, address, nil))
		assert.Contains(t, log.String(), "path=/rooms/…", address)
		assert.NotContains(t, log.String(), "secret", address)
	}
}
