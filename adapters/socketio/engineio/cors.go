package engineio

import (
	"net/http"

	"github.com/rs/cors"
)

// preflightAge is how long a browser may keep the answer to a preflight, in seconds. Browsers keep
// none longer than two hours.
const preflightAge = 2 * 60 * 60

// newCORS lets pages of other origins use HTTP long-polling
// (https://fetch.spec.whatwg.org/#http-cors-protocol). A client may ask for credentials of the browser, which a
// load balancer's cookies are; they open nothing here. Where everybody is allowed, they are not.
func (srv *Server) newCORS() *cors.Cors {
	options := cors.Options{
		AllowedMethods: []string{http.MethodGet, http.MethodPost},
		AllowedHeaders: []string{"*"}, // a client may be told to send headers of its own
		MaxAge:         preflightAge,
	}
	if srv.origins.Any() {
		options.AllowedOrigins = []string{"*"}
	} else {
		options.AllowCredentials = true
		options.AllowOriginVaryRequestFunc = func(r *http.Request, _ string) (bool, []string) { return srv.origins.AllowsRequest(r), nil }
	}
	return cors.New(options)
}

// admit refuses requests of foreign origins, answers preflights, and sets the headers that let a
// page read what follows.
func (srv *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	if !srv.origins.AllowsRequest(r) {
		refuse(w, r, errForbidden)
		return false
	}
	if r.Method != http.MethodOptions {
		srv.cors.HandlerFunc(w, r)
		return true
	}
	leave(w, r)
	w.Header().Set("Allow", "GET, POST, OPTIONS")
	srv.cors.HandlerFunc(w, r)
	if r.Header.Get("Access-Control-Request-Method") == "" { // no preflight, and so not answered yet
		w.WriteHeader(http.StatusNoContent)
	}
	return false
}
