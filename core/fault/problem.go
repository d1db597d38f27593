package fault

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
)

// ProblemType is the stable URI reference of a failure's code: the "type" of RFC 9457.
func ProblemType(code string) string { return "/problems/" + code }

// Document is the body of an "application/problem+json" answer (RFC 9457).
type Document struct {
	Type   string     `json:"type" doc:"Stable URI reference of the kind of failure." example:"/problems/invalid_credentials"`
	Title  string     `json:"title" doc:"One sentence, the same for every occurrence of the type."`
	Status int        `json:"status" doc:"The HTTP status."`
	Code   string     `json:"code" doc:"The last part of type: stable, lower_snake_case."`
	Detail string     `json:"detail,omitempty" doc:"What went wrong this time."`
	Errors []Location `json:"errors,omitempty" doc:"Each place of the request that is wrong."`
}

// Location is one wrong place of a request.
type Location struct {
	Location string `json:"location,omitempty" doc:"Where, for example body.email."`
	Message  string `json:"message" doc:"What is wrong there."`
}

// Document returns the problem's document.
func (p Problem) Document() Document {
	return Document{Type: ProblemType(p.Code), Title: p.Title, Status: p.Kind.Status(), Code: p.Code, Detail: p.Detail}
}

// WriteHTTP answers a request with the problem document of err, for handlers that stand
// outside an API framework. It sets Retry-After (whole seconds, rounded up) where err has one, and the
// headers that keep a browser from taking the document for anything else.
func WriteHTTP(w http.ResponseWriter, err error) {
	p := Public(err)
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	if p.Kind == Unauthenticated {
		h.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(p.Kind.Status())
	_ = json.NewEncoder(w).Encode(p.Document()) // the client may be gone
}
