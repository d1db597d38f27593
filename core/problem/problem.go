// Package problem writes failures as problem documents of HTTP (RFC 9457). It is for edges that answer
// on net/http: what a client reads of an error is what [fault.Public] tells of it.
package problem

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"github.com/parley-chat/parley/core/fault"
)

// ContentType is the media type of a [Document] (RFC 9457 section 6.1).
const ContentType = "application/problem+json"

// Type is the stable URI reference of a failure's code: the "type" of RFC 9457.
func Type(code string) string { return "/problems/" + code }

// Document is the body of an answer of type [ContentType].
type Document struct {
	Type   string     `json:"type" doc:"Stable URI reference of the kind of failure." example:"/problems/invalid_credentials"`
	Title  string     `json:"title" doc:"One sentence, the same for every occurrence of the type."`
	Status int        `json:"status" doc:"The HTTP status."`
	Code   string     `json:"code" doc:"The last part of type: stable, lower_snake_case."`
	Detail string     `json:"detail,omitempty" doc:"What went wrong this time."`
	Errors []Location `json:"errors,omitempty" doc:"Each place of the request that is wrong."`
	// Challenge and ExpiresIn are of a sign-in that needs a second factor.
	Challenge string `json:"challenge,omitempty" doc:"Of the type second_factor_required at a sign-in: what POST /auth/signin/factor takes together with a code."`
	ExpiresIn int    `json:"expiresIn,omitempty" doc:"Seconds until the challenge expires."`
}

// Location is one wrong place of a request.
type Location struct {
	Location string `json:"location,omitempty" doc:"Where, for example body.email."`
	Message  string `json:"message" doc:"What is wrong there."`
}

// Of returns the document of p, without places. Its status is that of p's kind.
func Of(p fault.Problem) Document {
	return Document{Type: Type(p.Code), Title: p.Title, Status: p.Kind.Status(), Code: p.Code, Detail: p.Detail}
}

// RetryAfter returns how long a client should wait after p, as the header Retry-After says it: in whole
// seconds, rounded up (RFC 9110 section 10.2.3). It is empty where p has no time to wait.
func RetryAfter(p fault.Problem) string {
	if p.RetryAfter <= 0 {
		return ""
	}
	return strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds())))
}

// Secure sets the headers that keep a browser from taking an answer for anything but data, and from keeping
// it. Whoever answers with a problem, or with a refusal in the words of another protocol, sets them.
func Secure(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// Write answers a request with the problem document of err, for handlers that stand outside an API
// framework. It sets Retry-After where err has one, and the headers of [Secure].
func Write(w http.ResponseWriter, err error) {
	p := fault.Public(err)
	h := w.Header()
	h.Set("Content-Type", ContentType)
	Secure(h)
	if wait := RetryAfter(p); wait != "" {
		h.Set("Retry-After", wait)
	}
	if p.Kind == fault.Unauthenticated {
		h.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(p.Kind.Status())
	_ = json.NewEncoder(w).Encode(Of(p)) // the client may be gone
}
