package humaapi

import (
	"net/http"
	"strings"

	"github.com/rs/cors"

	"github.com/parley-chat/parley/core/socket"
)

// preflightAge is how long a browser may keep the answer to a preflight, in seconds. Browsers keep
// none longer than two hours.
const preflightAge = 2 * 60 * 60

// newCORS lets pages of other origins use the operations (https://fetch.spec.whatwg.org/#http-cors-protocol).
// Tokens travel in headers and bodies, which such a page has to know, so that credentials of the
// browser (cookies, basic authentication) are never allowed.
func newCORS(origins socket.Origins) *cors.Cors {
	options := cors.Options{
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type"},
		ExposedHeaders: []string{"Retry-After", "WWW-Authenticate"},
		MaxAge:         preflightAge,
	}
	if origins.Any() {
		options.AllowedOrigins = []string{"*"}
	} else {
		options.AllowOriginVaryRequestFunc = func(_ *http.Request, origin string) (bool, []string) { return origins.Allows(origin), nil }
	}
	return cors.New(options)
}

// isPreflight reports whether a browser asks whether a page may send a request.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// forPages reports whether pages of other origins may read what the mux has at r under pattern: the
// operations, and that there is nothing. Other handlers of the mux decide that themselves.
func (a *API) forPages(r *http.Request, pattern string) bool {
	if isPreflight(r) {
		asked := *r
		asked.Method = r.Header.Get("Access-Control-Request-Method")
		_, _, pattern = a.find(&asked)
	}
	_, path, ok := strings.Cut(pattern, " ")
	if named := a.aliases[path]; named != "" {
		path = named
	}
	return pattern == "" || ok && a.OpenAPI().Paths[path] != nil
}
