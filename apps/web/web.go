// Package web serves the demo page, the browser client that front ends may take for their
// own, and the development mailbox.
//
// Everything is embedded; nothing is loaded from elsewhere. The page at / speaks to the
// REST interface on its own host, and to the socket there or where it is told. It uses the files
// of the npm package in the folder client, which are served from there: there is no other copy.
package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

// embedded is the pages, and the browser client as its package has it.
//
//go:embed assets client/*.js client/*.d.ts
var embedded embed.FS

// Rooms is what the addresses of rooms on the page begin with. The name of a room follows, percent-encoded.
const Rooms = "/r/"

// errNoAsset answers for a file that is not there.
var errNoAsset = fault.New(fault.NotFound, "asset_not_found", "there is no such file")

// Config is what the pages need.
type Config struct {
	// Product is the name that the pages show. Default "Parley".
	Product string
	// DevMail, if set, switches on the development mailbox under /dev/mail. Whom MailboxFor lets in
	// can then read the mails, with the codes in them.
	DevMail func() []Mail
	// MailboxFor says why the sender of a request may not read the mails, or nil. Default: everybody may.
	MailboxFor func(*http.Request) error
	// People are who a visitor whom MailboxFor lets in may continue as without a password, by POST /dev/continue, for development.
	// They need DevMail. Default: nobody, and no such call.
	People []Person
	// Continue opens a session of the person that as names, for the sender of r, and returns what POST /auth/signin
	// answers, to be marshalled as JSON. Required with People.
	Continue func(r *http.Request, as string) (any, error)
	// Own is the origins of the server beside the host that a request asks: its public URL. Pages of other origins cannot
	// continue as anybody. Default: none.
	Own socket.Origins
	// SocketURL is where the demo page finds the sockets, wss://host/socket. Default: /socket on the
	// page's own host.
	SocketURL string
	// Links says that users may sign in by a mailed link, for which the page has a form.
	Links bool
	// Factors says that users may have an authenticator app, for which the page has a form.
	Factors bool
	// PasswordMin is the least number of characters that the form for a sign-up takes. Default 8.
	PasswordMin int
	// MailboxOnly leaves out the demo page and the browser client, for a program that has no chat.
	MailboxOnly bool
}

// Handler returns a handler that serves what [Register] registers, and nothing else.
func Handler(cfg Config) (http.Handler, error) {
	mux := http.NewServeMux()
	if err := Register(mux, cfg); err != nil {
		return nil, err
	}
	return mux, nil
}

// Register adds the pages to mux: the demo page at exactly / and, as the addresses of rooms, below /r/; the browser client at /parley.js and
// /session.js with its types at /parley.d.ts, /session.d.ts and /events.d.ts, unless Config.MailboxOnly is set; if
// Config.DevMail is set, /dev/mail, /dev/mail.json and /dev/mail/{id}/html, and, with Config.People, /dev/continue; and the
// files that pages need under /assets/.
func Register(mux *http.ServeMux, cfg Config) error {
	files, err := load()
	if err != nil {
		return err
	}
	if cfg.Product == "" {
		cfg.Product = "Parley"
	}
	if len(cfg.People) > 0 && (cfg.DevMail == nil || cfg.Continue == nil) {
		return errors.New("web: Config: People need DevMail and Continue")
	}
	base := "/assets/" + files.version()
	mux.HandleFunc("GET /assets/{version}/{file}", func(w http.ResponseWriter, r *http.Request) {
		f, ok := files[r.PathValue("file")]
		if !ok || f.template() {
			problem.Write(w, errNoAsset)
			return
		}
		secure(w.Header(), filePolicy)
		caching := immutable
		if "/assets/"+r.PathValue("version") != base {
			// A page of another version is still open somewhere. It gets what there is, and asks again.
			caching = revalidate
		}
		f.serve(w, r, caching)
	})
	if !cfg.MailboxOnly {
		if err := registerClient(mux, cfg, files, base); err != nil {
			return err
		}
	}
	if cfg.DevMail == nil {
		return nil
	}
	if len(cfg.People) > 0 {
		registerContinue(mux, cfg)
	}
	return registerMailbox(mux, cfg, files, base)
}

func registerClient(mux *http.ServeMux, cfg Config, files fileSet, base string) error {
	data := map[string]any{"Product": cfg.Product, "Assets": base, "DevMail": cfg.DevMail != nil, "SocketURL": cfg.SocketURL, "Links": cfg.Links, "Factors": cfg.Factors, "PasswordMin": cmp.Or(cfg.PasswordMin, 8)}
	page, err := files.page("index.html", data)
	if err != nil {
		return err
	}
	data["People"] = cfg.People
	withPeople, err := files.page("index.html", data)
	if err != nil {
		return err
	}
	for _, at := range []string{"/{$}", Rooms + "{room...}"} { // which room it is, the page finds out
		mux.HandleFunc("GET "+at, func(w http.ResponseWriter, r *http.Request) {
			secure(w.Header(), pagePolicy(r.Host, cfg.SocketURL))
			shown := page
			if cfg.MailboxFor == nil || cfg.MailboxFor(r) == nil {
				shown = withPeople // nobody else could do anything with the buttons
			}
			shown.serve(w, r, revalidate)
		})
	}
	for _, name := range []string{"parley.js", "session.js", "parley.d.ts", "session.d.ts", "events.d.ts"} {
		f, ok := files[name]
		if !ok {
			return fmt.Errorf("web: %s is not embedded", name)
		}
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			secure(w.Header(), filePolicy)
			// The client is public: a front end of another origin may import it from here.
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
			f.serve(w, r, revalidate)
		})
	}
	return nil
}

// How answers may be cached.
const (
	immutable  = "public, max-age=31536000, immutable" // the address changes with the content
	revalidate = "no-cache"                            // asked for again each time, by ETag
	never      = "no-store"
)

// Content security policies (https://www.w3.org/TR/CSP3/).
const (
	basePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
	filePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// plainHost holds no character that means something in a policy.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.\-]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$`)

// pagePolicy lets the demo page connect to its own host, and to where the sockets are, only.
// Browsers that do not count ws: as 'self' need the host by name.
func pagePolicy(host, socketURL string) string {
	connect := "; connect-src 'self'"
	if u, err := url.Parse(socketURL); err == nil && plainHost.MatchString(u.Host) {
		connect += " " + u.Scheme + "://" + u.Host
	}
	if plainHost.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	return basePolicy + connect
}

func secure(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
}

// file is something to be served, with what HTTP says about it.
type file struct {
	name, contentType, etag string
	content                 []byte
}

func newFile(name string, content []byte) (file, error) {
	types := map[string]string{
		".html": "text/html; charset=utf-8",
		".css":  "text/css; charset=utf-8",
		".js":   "text/javascript; charset=utf-8",
		".ts":   "text/plain; charset=utf-8",
		".svg":  "image/svg+xml",
	}
	t, ok := types[path.Ext(name)]
	if !ok {
		return file{}, fmt.Errorf("web: %s has no content type", name)
	}
	sum := sha256.Sum256(content)
	return file{name: name, contentType: t, etag: `"` + hex.EncodeToString(sum[:16]) + `"`, content: content}, nil
}

// template reports whether the file is not for the browser as it stands.
func (f file) template() bool { return path.Ext(f.name) == ".html" }

func (f file) serve(w http.ResponseWriter, r *http.Request, caching string) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", caching)
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}

// fileSet is the embedded files by name, whichever folder they stand in: modules import each other as
// neighbours.
type fileSet map[string]file

func load() (fileSet, error) {
	files := fileSet{}
	for _, folder := range []string{"assets", "client"} {
		entries, err := fs.ReadDir(embedded, folder)
		if err != nil {
			return nil, fmt.Errorf("web: embedded files: %w", err)
		}
		for _, e := range entries {
			content, err := fs.ReadFile(embedded, path.Join(folder, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("web: embedded files: %w", err)
			}
			f, err := newFile(e.Name(), content)
			if err != nil {
				return nil, err
			}
			if _, twice := files[f.name]; twice {
				return nil, fmt.Errorf("web: %s is embedded twice", f.name)
			}
			files[f.name] = f
		}
	}
	return files, nil
}

// version changes whenever one of the files does: modules import each other by relative
// addresses, so all of them have to move together.
func (s fileSet) version() string {
	var tags []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		tags = append(tags, name+s[name].etag)
	}
	sum := sha256.Sum256([]byte(strings.Join(tags, "\n")))
	return hex.EncodeToString(sum[:6])
}

func (s fileSet) parse(name string) (*template.Template, error) {
	f, ok := s[name]
	if !ok {
		return nil, errors.New("web: " + name + " is not embedded")
	}
	t, err := template.New(name).Parse(string(f.content))
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	return t, nil
}

// page executes a template once, for good.
func (s fileSet) page(name string, data any) (file, error) {
	t, err := s.parse(name)
	if err != nil {
		return file{}, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return file{}, fmt.Errorf("web: %w", err)
	}
	return newFile(name, b.Bytes())
}
