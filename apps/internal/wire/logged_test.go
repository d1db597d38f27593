package wire

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRequestsAreLoggedWithoutWhatPeopleWrite looks for names of rooms in the lines about requests.
func TestRequestsAreLoggedWithoutWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	for target, path := range map[string]string{
		"/auth/me?code=whispered":         "path=/auth/me ",
		"/rooms/whispered/messages":       "path=/rooms/… ",
		"/r/whispered":                    "path=/r/… ",
		"/r/a%2Fwhispered":                "path=/r/… ",
		"/r/?room=..%2Fwhispered":         "path=/r/… ",
		"/rooms/mine?cursor=whispered":    "path=/rooms/… ",
		"/assets/v/app.js?whispered":      "path=/assets/v/app.js ",
		"/robots.txt":                     "path=/robots.txt ",
		"/rooms":                          "path=/rooms ",
		"/rooms/%2E%2E%2Fwhispered/read":  "path=/rooms/… ",
		"/rooms/whispered":                "path=/rooms/… ",
		"/rooms//whispered":               "path=/rooms/… ",
		"//rooms/whispered/messages":      "path=/rooms/… ",
		"/./rooms/whispered/messages":     "path=/rooms/… ",
		"/auth/../rooms/whispered":        "path=/rooms/… ",
		"/%72ooms/whispered/messages":     "path=/rooms/… ",
		"/admin/users/whispered/export":   "path=/admin/users/… ",
		"/r/whispered/":                   "path=/r/… ",
		"/parley.js":                      "path=/parley.js ",
		"/dev/mail/1/html?name=whispered": "path=/dev/mail/1/html ",
	} {
		var lines bytes.Buffer
		h := logged(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&lines, nil)))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil))
		require.Contains(t, lines.String(), "status=404", target)
		assert.Contains(t, lines.String(), path, target)
		assert.NotContains(t, lines.String(), "whispered", target)
	}
}
