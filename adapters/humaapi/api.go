// Package humaapi is the REST side of Parley: accounts, rooms, the administration of mails, health
// and the documents that describe it all, as operations of Huma (v2.37) on an
// [http.ServeMux]. It drives auth.Service, chat.Service, mail.DeadLetterService and health.Run; it decides
// nothing itself.
//
// Mount what you need on a mux of your own:
//
//	mux := http.NewServeMux()
//	api, err := humaapi.New(mux, humaapi.Config{})
//	…
//	err = humaapi.RegisterAuth(api, humaapi.AuthConfig{Service: accounts})
//	…
//	http.ListenAndServe("localhost:5002", api)
//
// Operations of your own go onto the same API with [huma.Register]; let their handlers
// return [Problem] of an error, and they fail like the ones here. What is added by
// UseMiddleware concerns what is registered after it. Serving the mux itself works too: then
// only unknown paths and methods are answered in the mux's plain text.
//
// # Guarantees
//
// Every failure is a problem document (RFC 9457) in the shape of [problem.Document]; its text
// was written for clients, and nothing that was submitted is repeated in it but the names of
// properties. A panic of a handler is such a failure too. Bodies are JSON in UTF-8 up to
// Config.MaxBody with their Content-Type, and arrive within Config.BodyTimeout; NUL, lone surrogates, unknown properties and
// properties that stand twice or in another letter case are refused, and unknown query parameters where there are known ones. Every status that an
// operation can answer with stands in its OpenAPI document, which is the same, byte for byte,
// each time that it is printed.
//
// A body that stalls or trickles holds nothing for longer, whatever is asked for: an operation, an
// unknown path, a handler of an application's own. The answer is 408, and the connection is closed; so it is
// after an answer to a body that is too long.
//
// Every type may be used from many goroutines once everything is registered. Registering is
// for the start of a program, from one goroutine. Registering the same twice panics, as the mux does.
//
// # Exceptions
//
// The forms on the pages behind links in mails fail as pages, with the same statuses. What
// net/http refuses before it calls a handler (a request line or headers that are too long or
// malformed) is answered by net/http in plain text. So are the mux's own redirects, from //a
// to /a for example.
//
// # Closing
//
// Nothing here is opened, so nothing is closed.
package humaapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/rs/cors"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

// DefaultTimeout is how long an operation may take unless Config says otherwise.
const DefaultTimeout = 10 * time.Second

// DefaultMaxBody is the longest request body in bytes that is read unless Config says otherwise.
const DefaultMaxBody = 64 << 10

// description heads the OpenAPI document.
const description = "Bodies are JSON in UTF-8. Every failure is a problem document (RFC 9457): " +
	"branch on its code, which is stable, and show its title and detail."

// Config is what an [API] is told. Every field may be zero.
type Config struct {
	// Title and Version head the OpenAPI document. Defaults "Parley" and "1.0.0".
	Title, Version string
	// PublicURL is the base address in the OpenAPI document, an international host in its ASCII form
	// (RFC 5891). Default: none, which means the address that the document was fetched from.
	PublicURL string
	// MaxBody is the longest request body in bytes. Default [DefaultMaxBody].
	MaxBody int64
	// Timeout is how long an operation may take, besides the arrival of its body: what it waits for
	// is then given up, and it answers 503. Default [DefaultTimeout].
	Timeout time.Duration
	// BodyTimeout is how long the body of a request may take to arrive, whatever is asked for: after that
	// the answer is 408, and the connection is closed. Default [BodyTimeout].
	BodyTimeout time.Duration
	// TrustedProxies are the addresses whose X-Forwarded-For header is believed. Default: nobody's.
	TrustedProxies []netip.Prefix
	// Origins lists whose pages may use the operations besides the server's own (CORS), in the form of
	// [socket.ParseOrigins]. Handlers on the mux that are no operations are not for them. Default: nobody's.
	Origins []string
	// Observe, if set, is called after each operation that was answered with its id, the status, and how long it took. It
	// must be quick, and is called from many goroutines.
	Observe func(operation string, status int, took time.Duration)
	// Audit, if set, records what administrators do by operations that change something, before they do: see package audit. What cannot be recorded is refused.
	Audit *audit.Service
	// AdminGuesses limits, per network, tokens of administrators that are wrong; who has tried more is refused, also by a right one, until the rate allows another guess. Default 30 a minute.
	AdminGuesses auth.Rate
	// Log gets failures that nobody classified, and panics. Default: nothing.
	Log *slog.Logger
}

// API is a [huma.API] with Parley's errors, limits and headers. It is also the [http.Handler]
// to serve: its mux, with unknown paths and methods answered as problems, and OPTIONS with the
// methods there are.
type API struct {
	huma.API
	mux     *http.ServeMux
	beside  *http.ServeMux // see directPath
	maxBody int64
	timeout time.Duration

	bodyTimeout time.Duration
	forms       map[string]bool   // methods and paths of forms, which fail as pages
	aliases     map[string]string // further paths of operations, and the path in the document: see slashes
	words       map[string]word   // by pattern: see wordFor

	audit   *audit.Service
	guesses *guesses
	userOf  func(ctx context.Context, ref string) string // the ID of a user, nil where accounts are kept elsewhere

	trusted []netip.Prefix
	cors    *cors.Cors
	log     *slog.Logger
}

var (
	_ http.Handler = (*API)(nil)
	_ huma.API     = (*API)(nil)
)

// New makes an API without operations on mux. The mux may have other handlers, and may get more.
func New(mux *http.ServeMux, cfg Config) (*API, error) {
	c := settings.Of("humaapi: Config")
	c.Argument("the mux", mux == nil)
	settings.Default(c, "MaxBody", &cfg.MaxBody, DefaultMaxBody)
	settings.Default(c, "Timeout", &cfg.Timeout, DefaultTimeout)
	settings.Default(c, "BodyTimeout", &cfg.BodyTimeout, BodyTimeout)
	if cfg.PublicURL != "" {
		_, err := socket.OriginOf(cfg.PublicURL)
		c.Fault("PublicURL", err)
	}
	checkRate(c, "AdminGuesses", cfg.AdminGuesses)
	origins, err := socket.ParseOrigins(cfg.Origins)
	c.Fault("Origins", err)
	if err := c.Err(); err != nil {
		return nil, err
	}
	a := &API{
		mux: mux, beside: http.NewServeMux(), maxBody: cfg.MaxBody, timeout: cfg.Timeout, bodyTimeout: cfg.BodyTimeout, forms: map[string]bool{},
		audit: cfg.Audit, guesses: newGuesses(cfg.AdminGuesses), trusted: cfg.TrustedProxies, cors: newCORS(origins), log: cfg.Log,
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Title == "" {
		cfg.Title = "Parley"
	}
	if cfg.Version == "" {
		cfg.Version = "1.0.0"
	}
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	// Operations that name statuses only get our problem document, not Huma's.
	registry.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[problem.Document]())
	document := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: cfg.Title, Version: cfg.Version, Description: description},
		Components: &huma.Components{
			Schemas:         registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{},
		},
		Servers: []*huma.Server{{URL: cmp.Or(cfg.PublicURL, "/")}},
		// An operation that names no scheme needs none.
		Security: []map[string][]string{{}},
	}
	// No paths for documents: Huma would serve them to everybody. See RegisterDocs.
	a.API = humago.New(routes{a.mux, a.beside}, huma.Config{
		OpenAPI:       document,
		Formats:       map[string]huma.Format{mediaJSON: huma.DefaultJSONFormat, problem.ContentType: huma.DefaultJSONFormat},
		DefaultFormat: mediaJSON,
		Transformers:  []huma.Transformer{a.transform},
	})
	if cfg.Observe != nil {
		a.UseMiddleware(observe(cfg.Observe))
	}
	a.UseMiddleware(a.recoverPanic, secureHeaders, refuseBadURL, a.identifyClient)
	return a, nil
}

// schemaName names the types that core shares with other edges for what they are here.
func schemaName(t reflect.Type, hint string) string {
	switch t {
	case reflect.TypeFor[problem.Document]():
		return "Problem"
	case reflect.TypeFor[problem.Location]():
		return "ProblemLocation"
	case reflect.TypeFor[healthReport]():
		return "HealthReport"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// Document returns the OpenAPI 3.1 document of everything registered so far, as "json" or
// "yaml". The same operations give the same bytes.
func (a *API) Document(format string) ([]byte, error) {
	switch format {
	case "json":
		text, err := json.MarshalIndent(a.OpenAPI(), "", "  ")
		if err != nil {
			return nil, fmt.Errorf("humaapi: OpenAPI document: %w", err)
		}
		return append(text, '\n'), nil
	case "yaml":
		text, err := a.OpenAPI().YAML()
		if err != nil {
			return nil, fmt.Errorf("humaapi: OpenAPI document: %w", err)
		}
		return text, nil
	}
	return nil, fmt.Errorf("humaapi: OpenAPI document: unknown format %q, want json or yaml", format)
}

// Negotiate returns JSON whatever a client accepts: there is nothing else, and an answer that
// was not asked for helps more than none.
func (a *API) Negotiate(string) (string, error) { return mediaJSON, nil }

// Mux returns the mux that the API was made on, for handlers beside the operations.
func (a *API) Mux() *http.ServeMux { return a.mux }

// ServeHTTP serves the mux, and the pages of [Config.Origins]. The body of a request, up to Config.MaxBody,
// is read before its handler is called; a handler of one's own that takes a longer one, or wants more time
// for it, sets a read deadline by [http.ResponseController].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 {
		// It may have had a Content-Length too, of which net/http says nothing, and what follows on the
		// connection may have been another's (RFC 9112 section 6.1).
		w.Header().Set("Connection", "close")
	}
	mux, handler, pattern := a.find(r)
	if isPreflight(r) && pattern == "" {
		if allow := a.allowed(handler, r); allow != "" {
			w.Header().Set("Allow", allow)
		}
	}
	late := isTimeout(a.receive(w, r))
	serve := func(w http.ResponseWriter, r *http.Request) { a.serveMux(w, r, mux, handler, pattern, late) }
	if (!late || r.Method != http.MethodOptions) && a.forPages(r, pattern) {
		a.cors.ServeHTTP(w, r, serve)
		return
	}
	serve(w, r)
}

// serveMux serves what the mux has found for r, unless the body was late.
func (a *API) serveMux(w http.ResponseWriter, r *http.Request, mux *http.ServeMux, handler http.Handler, pattern string, late bool) {
	if late && !a.forms[r.Method+" "+r.URL.Path] {
		for name, value := range securityHeaders() {
			w.Header().Set(name, value)
		}
		writeDocument(w, document(errTimeout))
		return
	}
	if word, ok := a.words[pattern]; ok && !strings.HasSuffix(r.URL.EscapedPath(), "/"+word.text) {
		r.SetPathValue(word.parameter, word.text)
		word.operation().ServeHTTP(w, r)
		return
	}
	if pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	// The mux found nothing. It alone knows whether another method would do.
	answer := document(fault.NotFound)
	if allow := a.allowed(handler, r); allow != "" {
		w.Header().Set("Allow", allow)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer = document(errMethod)
	}
	for name, value := range securityHeaders() {
		w.Header().Set(name, value)
	}
	writeDocument(w, answer)
}

// allowed returns the methods of a path for which the mux has found no handler but this one of its own;
// nothing if there are none.
func allowed(handler http.Handler, r *http.Request) string {
	answer := discarded{header: http.Header{}}
	handler.ServeHTTP(&answer, r)
	if answer.status != http.StatusMethodNotAllowed {
		return ""
	}
	allow := answer.header.Get("Allow")
	if !strings.Contains(allow, http.MethodOptions) {
		allow += ", " + http.MethodOptions
	}
	return allow
}

// discarded takes the mux's own answer, of which only status and headers matter.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) WriteHeader(status int)      { d.status = status }
func (d *discarded) Write(b []byte) (int, error) { return len(b), nil }

// recoverPanic answers a panic with a problem, if nothing was answered yet, and otherwise
// breaks the connection, so that half an answer is not taken for a whole one.
func (a *API) recoverPanic(ctx huma.Context, next func(huma.Context)) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler)
		}
		a.log.ErrorContext(ctx.Context(), "panic in a request",
			"operation", ctx.Operation().OperationID, "panic", cause, "stack", string(debug.Stack()))
		if ctx.Status() != 0 {
			panic(http.ErrAbortHandler)
		}
		refuse(ctx, fault.Internal)
	}()
	next(ctx)
}

// observe tells told of each operation that was answered; of one whose connection was broken it does not.
func observe(told func(operation string, status int, took time.Duration)) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		began := time.Now()
		next(ctx)
		told(ctx.Operation().OperationID, cmp.Or(ctx.Status(), http.StatusOK), time.Since(began))
	}
}

func securityHeaders() map[string]string {
	return map[string]string{
		"Cache-Control":           "no-store",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		"Referrer-Policy":         "no-referrer",
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY",
	}
}

func secureHeaders(ctx huma.Context, next func(huma.Context)) {
	for name, value := range securityHeaders() {
		ctx.SetHeader(name, value)
	}
	next(ctx)
}

// refuseBadURL keeps what no store could look up from every handler.
func refuseBadURL(ctx huma.Context, next func(huma.Context)) {
	u := ctx.URL()
	query, err := url.ParseQuery(u.RawQuery)
	clean := err == nil && isText(u.Path)
	for name, values := range query {
		clean = clean && isText(name)
		for _, value := range values {
			clean = clean && isText(value)
		}
	}
	if !clean {
		refuse(ctx, errURL)
		return
	}
	next(ctx)
}

// isText reports whether s is UTF-8 without NUL.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

type clientKey struct{}

func (a *API) identifyClient(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	c := auth.Client{UserAgent: r.UserAgent()}
	// No address, and no limit by it, where the peer has no IP address.
	if client := ClientAddress(r, a.trusted); client.IsValid() {
		c.Address = client.String()
	}
	next(huma.WithValue(ctx, clientKey{}, c))
}
