package humaapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed" // for the page and its script
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/swaggest/swgui/v5emb"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

//go:embed docs.html
var docsHTML string

//go:embed docs.js
var docsJS []byte

// docsPolicy lets Swagger UI work (it sets styles by itself and draws icons from data: URLs)
// and nothing come from or go elsewhere.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// DocsConfig is what [RegisterDocs] needs.
type DocsConfig struct {
	// User and Password open the documents by basic authentication (RFC 7617). Required, the user without a colon.
	User, Password string
	// CurrentPassword, if set, is asked for the password at each request in place of Password, so that it can change
	// while the program runs. It must not block. An empty one opens nothing.
	CurrentPassword func() string
}

// docsPage is what docs.html shows: Assets leads to the folder of scripts, Root to that of the documents.
type docsPage struct{ Title, Assets, Root string }

// RegisterDocs puts the API's documents behind basic authentication: /api-docs (Swagger UI
// from this binary), /openapi.json, /openapi.yaml and /schemas/{name}. They show what is
// registered when the first of them is fetched.
func RegisterDocs(a *API, cfg DocsConfig) error {
	c := settings.Of("humaapi: DocsConfig")
	c.Argument("the API", a == nil)
	c.Require("User", cfg.User == "")
	if strings.Contains(cfg.User, ":") {
		c.Refuse("User", "has a colon")
	}
	c.Require("Password", cfg.Password == "" && cfg.CurrentPassword == nil)
	if err := c.Err(); err != nil {
		return err
	}
	parsed, err := template.New("docs").Parse(docsHTML)
	if err != nil {
		return fmt.Errorf("humaapi: RegisterDocs: page template: %w", err)
	}
	guard := guardian(cfg)
	handle := func(path string, h http.Handler) { a.mux.Handle("GET "+path, guard(h)) }
	title := a.OpenAPI().Info.Title + " API"
	// Links are relative, so that a proxy may put a prefix in front.
	for path, page := range map[string]docsPage{
		"/api-docs":     {Title: title, Assets: "api-docs/"},
		"/api-docs/{$}": {Title: title, Root: "../"},
	} {
		var text bytes.Buffer
		if err := parsed.Execute(&text, page); err != nil {
			return fmt.Errorf("humaapi: RegisterDocs: page template: %w", err)
		}
		handle(path, fixed("text/html; charset=utf-8", text.Bytes()))
	}
	handle("/api-docs/docs.js", fixed("text/javascript; charset=utf-8", docsJS))
	assets := v5emb.New("", "", "/api-docs/")
	for _, name := range []string{"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"} {
		handle("/api-docs/"+name, assets)
	}
	handle("/openapi.json", a.openAPI("json", "application/vnd.oai.openapi+json"))
	handle("/openapi.yaml", a.openAPI("yaml", "application/yaml"))
	handle("/schemas/{name}", http.HandlerFunc(a.schema))
	return nil
}

// RegisterAsyncAPI serves the document of the socket, ready-made, to everybody, at
// /asyncapi.json and /asyncapi.yaml.
func RegisterAsyncAPI(a *API, jsonText, yamlText []byte) error {
	c := settings.Of("humaapi: RegisterAsyncAPI")
	c.Argument("the API", a == nil)
	c.Argument("the document in JSON", len(jsonText) == 0)
	c.Argument("the document in YAML", len(yamlText) == 0)
	if err := c.Err(); err != nil {
		return err
	}
	for path, document := range map[string]http.Handler{
		"/asyncapi.json": fixed("application/vnd.aai.asyncapi+json", jsonText),
		"/asyncapi.yaml": fixed("application/vnd.aai.asyncapi+yaml", yamlText),
	} {
		a.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			for name, value := range securityHeaders() {
				w.Header().Set(name, value)
			}
			w.Header().Set("Cache-Control", "no-cache")
			document.ServeHTTP(w, r)
		})
	}
	return nil
}

// guardian lets only those in who know user and password. It compares hashes, both of them
// always, in constant time.
func guardian(cfg DocsConfig) func(http.Handler) http.Handler {
	wantUser, current := sha256.Sum256([]byte(cfg.User)), cfg.CurrentPassword
	if current == nil {
		current = func() string { return cfg.Password }
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name, value := range securityHeaders() {
				w.Header().Set(name, value)
			}
			name, password, _ := r.BasicAuth()
			want := current()
			wantPassword := sha256.Sum256([]byte(want))
			gotUser, gotPassword := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
			if subtle.ConstantTimeCompare(gotUser[:], wantUser[:])&subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:]) != 1 || want == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="API documents", charset="UTF-8"`)
				writeDocument(w, document(fault.Unauthenticated))
				return
			}
			w.Header().Set("Content-Security-Policy", docsPolicy)
			w.Header().Set("Cache-Control", "private, no-cache")
			next.ServeHTTP(w, r)
		})
	}
}

// fixed serves text that does not change.
func fixed(contentType string, text []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text) // the client may be gone
	})
}

// openAPI serves the document as it is when it is first asked for.
func (a *API) openAPI(format, contentType string) http.Handler {
	text := sync.OnceValues(func() ([]byte, error) { return a.Document(format) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		printed, err := text()
		if err != nil {
			a.note(r.Context(), "openapi", err)
			writeDocument(w, document(err))
			return
		}
		fixed(contentType, printed).ServeHTTP(w, r)
	})
}

// schema serves one schema by its name, with or without the ending .json; its references lead to the others.
func (a *API) schema(w http.ResponseWriter, r *http.Request) {
	schema := a.OpenAPI().Components.Schemas.Map()[strings.TrimSuffix(r.PathValue("name"), ".json")]
	if schema == nil {
		writeDocument(w, document(fault.NotFound))
		return
	}
	text, err := json.Marshal(schema)
	if err != nil {
		a.note(r.Context(), "schema", err)
		writeDocument(w, document(err))
		return
	}
	text = bytes.ReplaceAll(text, []byte(`"#/components/schemas/`), []byte(`"`)) // relative to this one
	fixed("application/schema+json", text).ServeHTTP(w, r)
}
