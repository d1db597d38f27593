package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

func serve(t *testing.T, cfg Config) http.Handler {
	t.Helper()
	h, err := Handler(cfg)
	require.NoError(t, err)
	return h
}

func get(h http.Handler, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func asset(t *testing.T, name string) string {
	t.Helper()
	files, err := load()
	require.NoError(t, err)
	require.Contains(t, files, name)
	return string(files[name].content)
}

func assetNames(t *testing.T) []string {
	t.Helper()
	files, err := load()
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return slices.Sorted(maps.Keys(files))
}

func noMail() []Mail { return nil }

func TestEveryAnswerIsSecured(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{DevMail: noMail})
	for _, target := range []string{"/", "/r/garden", "/parley.js", "/session.js", "/parley.d.ts", "/session.d.ts", "/events.d.ts", "/assets/any/app.js", "/dev/mail", "/dev/mail.json"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			w := get(h, target)
			assert.Equal(t, http.StatusOK, w.Code)
			policy := w.Header().Get("Content-Security-Policy")
			assert.Contains(t, policy, "default-src 'none'")
			assert.Contains(t, policy, "frame-ancestors 'none'")
			assert.NotContains(t, policy, "unsafe")
			assert.NotContains(t, policy, "*")
			assert.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			assert.Equal(t, "DENY", w.Header().Get("X-Frame-Options"))
			assert.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
			assert.NotEmpty(t, w.Header().Get("Content-Type"))
			assert.NotEmpty(t, w.Header().Get("Cache-Control"))
		})
	}
}

func TestPagePolicyNamesTheSocket(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"chat.example.com":        "connect-src 'self' ws://chat.example.com wss://chat.example.com",
		"localhost:5002":          "connect-src 'self' ws://localhost:5002 wss://localhost:5002",
		"[::1]:5002":              "connect-src 'self' ws://[::1]:5002 wss://[::1]:5002",
		"evil; script-src *":      "connect-src 'self'",
		"a b":                     "connect-src 'self'",
		"":                        "connect-src 'self'",
		"x'unsafe-inline'":        "connect-src 'self'",
		"[::1] https://elsewhere": "connect-src 'self'",
	} {
		assert.True(t, strings.HasSuffix(pagePolicy(host, ""), "; "+want), "%q: %s", host, pagePolicy(host, ""))
	}
}

func TestPageFindsTheSocketElsewhere(t *testing.T) {
	t.Parallel()
	w := get(serve(t, Config{SocketURL: "wss://sockets.example.com/socket"}), "/")
	assert.Contains(t, w.Body.String(), `<meta name="socket" content="wss://sockets.example.com/socket">`)
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "connect-src 'self' wss://sockets.example.com ws://example.com")
	assert.NotContains(t, get(serve(t, Config{}), "/").Body.String(), `name="socket"`)
}

func TestMailboxWithoutAChat(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{DevMail: noMail, MailboxOnly: true})
	assert.Equal(t, http.StatusNotFound, get(h, "/").Code)
	assert.Equal(t, http.StatusNotFound, get(h, "/parley.js").Code)
	page := get(h, "/dev/mail")
	assert.Equal(t, http.StatusOK, page.Code)
	sheet := regexp.MustCompile(`href="(/assets/[^"]+\.css)"`).FindStringSubmatch(page.Body.String())
	require.Len(t, sheet, 2)
	assert.Equal(t, http.StatusOK, get(h, sheet[1]).Code)
	assert.Equal(t, http.StatusNotFound, get(serve(t, Config{MailboxOnly: true}), "/dev/mail").Code)
}

func TestPageOnlyAtRoot(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{})
	w := get(h, "/")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	assert.Equal(t, http.StatusNotFound, get(h, "/index.html").Code)
	assert.Equal(t, http.StatusNotFound, get(h, "/assets/v/index.html").Code, "templates are not served as they stand")
	missing := get(h, "/assets/v/nothing.js")
	assert.Equal(t, http.StatusNotFound, missing.Code)
	assert.Equal(t, "application/problem+json", missing.Header().Get("Content-Type"))
}

// TestPageAtTheAddressesOfRooms wants the page, and nothing else, wherever a room may be.
func TestPageAtTheAddressesOfRooms(t *testing.T) {
	t.Parallel()
	var told []string
	h := serve(t, withAda(t, &told))
	page := get(h, "/")
	long := url.PathEscape(strings.Repeat("\U0001f600", chat.MaxRoomName))
	for _, room := range []string{"garden", "a%2Fb", "%2F", "%2F%2F", "a/b", "%25", "%252F", "a%3Fb%23c", "?room=%2E%2E", "?room=..%2Fsocket", "", "%00", long} {
		target := "/r/" + room
		w := get(h, target)
		assert.Equal(t, http.StatusOK, w.Code, target)
		assert.Equal(t, page.Body.String(), w.Body.String(), target)
		assert.Equal(t, page.Header(), w.Header(), target)
	}
	for _, target := range []string{"/r", "/rooms", "/R/garden", "/rr/garden"} {
		assert.NotEqual(t, http.StatusOK, get(h, target).Code, target)
	}
	assert.Equal(t, http.StatusNotFound, get(serve(t, Config{DevMail: noMail, MailboxOnly: true}), "/r/garden").Code)
	r := httptest.NewRequest(http.MethodPost, "/r/garden", nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	assert.Equal(t, http.StatusMethodNotAllowed, w.Code)
}

func TestMailboxIsOffUnlessConfigured(t *testing.T) {
	t.Parallel()
	off := serve(t, Config{})
	for _, target := range []string{"/dev/mail", "/dev/mail.json", "/dev/mail/1/html"} {
		assert.Equal(t, http.StatusNotFound, get(off, target).Code, target)
	}
	assert.NotContains(t, get(off, "/").Body.String(), "/dev/mail")
	assert.Contains(t, get(serve(t, Config{DevMail: noMail}), "/").Body.String(), `href="/dev/mail"`)
}

func TestProduct(t *testing.T) {
	t.Parallel()
	for product, want := range map[string]string{"": "Parley", "Tea & <b>": "Tea &amp; &lt;b&gt;"} {
		h := serve(t, Config{Product: product, DevMail: noMail})
		assert.Contains(t, get(h, "/").Body.String(), "<title>"+want+"</title>")
		assert.Contains(t, get(h, "/dev/mail").Body.String(), "<title>Development mailbox · "+want+"</title>")
	}
}

func TestFilesOfThePageAreThereAndCached(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{DevMail: noMail})
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	for _, page := range []string{"/", "/dev/mail"} {
		addresses := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(get(h, page).Body.String(), -1)
		require.NotEmpty(t, addresses)
		for _, a := range addresses {
			w := get(h, a[1])
			require.Equal(t, http.StatusOK, w.Code, a[1])
			assert.Equal(t, types[path.Ext(a[1])], w.Header().Get("Content-Type"), a[1])
			assert.Equal(t, immutable, w.Header().Get("Cache-Control"), a[1])
			assert.Equal(t, asset(t, path.Base(a[1])), w.Body.String(), a[1])
		}
	}
	assert.Equal(t, revalidate, get(h, "/assets/older/app.js").Header().Get("Cache-Control"))
}

func TestETag(t *testing.T) {
	t.Parallel()
	h := serve(t, Config{})
	for _, target := range []string{"/", "/r/garden", "/parley.js", "/assets/v/app.js"} {
		first := get(h, target)
		tag := first.Header().Get("ETag")
		require.Regexp(t, `^"[0-9a-f]{32}"$`, tag)
		again := get(h, target, "If-None-Match", tag)
		assert.Equal(t, http.StatusNotModified, again.Code, target)
		assert.Zero(t, again.Body.Len())
		assert.Equal(t, http.StatusOK, get(h, target, "If-None-Match", `"other"`).Code, target)
	}
}

func TestClientMayBeImportedFromAnotherOrigin(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"parley.js", "session.js", "parley.d.ts", "session.d.ts", "events.d.ts"} {
		w := get(serve(t, Config{}), "/"+name)
		assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "cross-origin", w.Header().Get("Cross-Origin-Resource-Policy"))
		packed, err := os.ReadFile(filepath.Join("client", name))
		require.NoError(t, err)
		assert.Equal(t, string(packed), w.Body.String(), "the file of the package")
	}
}

func TestThePackageHasTheLicence(t *testing.T) {
	t.Parallel()
	ours, err := os.ReadFile(filepath.Join("..", "..", "LICENSE"))
	require.NoError(t, err)
	packed, err := os.ReadFile(filepath.Join("client", "LICENSE"))
	require.NoError(t, err)
	assert.Equal(t, string(ours), string(packed))
}

// TestLockFilesNameNoRegistry wants packages to come from where whoever installs them gets packages.
func TestLockFilesNameNoRegistry(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("client", "test", "npm", "package-lock.json"))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"integrity": "sha512-`)
	assert.NotContains(t, string(text), `"resolved"`)
}

var (
	comments   = regexp.MustCompile(`(?s)/\*.*?\*/|<!--.*?-->|(?m)(^|\s)//.*$`)
	namespaces = regexp.MustCompile(`xmlns="http://www\.w3\.org/[^"]*"`)
	elsewhere  = regexp.MustCompile(`(?i)(https?|wss?):?//[a-z0-9]|["'(=]//[a-z0-9]|@import`)
	sinks      = regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setTimeout\(["'` + "`" + `]|srcdoc|createContextualFragment|DOMParser`)
)

func TestNothingComesFromElsewhere(t *testing.T) {
	t.Parallel()
	require.Regexp(t, elsewhere, `fetch("https://cdn.example.com/x.js")`)
	require.Regexp(t, elsewhere, `url(//cdn.example.com/x.css)`)
	for _, name := range assetNames(t) {
		text := namespaces.ReplaceAllString(comments.ReplaceAllString(asset(t, name), "$1"), "")
		assert.NotRegexp(t, elsewhere, text, name)
		if path.Ext(name) == ".js" {
			assert.NotRegexp(t, sinks, text, name)
		}
	}
}

// element is a start tag.
type element struct {
	name  string
	attrs map[string]string
	text  string // all text inside
}

// parse reads an HTML page as if it were XML, and fails where tags are not balanced.
func parse(t *testing.T, page string) []*element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.AutoClose = xml.HTMLAutoClose
	d.Entity = xml.HTMLEntity
	d.Strict = false
	var all, open []*element
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			require.Empty(t, open, "all elements are closed")
			return all
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attrs: map[string]string{}}
			for _, a := range token.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			all, open = append(all, e), append(open, e)
		case xml.EndElement:
			require.NotEmpty(t, open)
			require.Equal(t, open[len(open)-1].name, token.Name.Local)
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text += string(token)
			}
		}
	}
}

func TestPagesAreSoundAndAccessible(t *testing.T) {
	t.Parallel()
	mails := func() []Mail {
		return []Mail{{ID: "1", To: "a@example.com", Subject: "Hello", Text: "x", HTML: "<p>x"}}
	}
	var told []string
	cfg := withAda(t, &told)
	cfg.DevMail = mails
	h := serve(t, cfg)
	for _, page := range []string{"/", "/dev/mail"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			html := get(h, page).Body.String()
			require.True(t, strings.HasPrefix(html, "<!doctype html>\n"))
			all := parse(t, html)
			ids, labelled, seen := map[string]bool{}, map[string]bool{}, map[string]int{}
			for _, e := range all {
				seen[e.name]++
				if id, ok := e.attrs["id"]; ok {
					assert.False(t, ids[id], "id %s is there twice", id)
					ids[id] = true
				}
				if e.name == "label" {
					labelled[e.attrs["for"]] = true
				}
			}
			assert.Equal(t, 1, seen["title"])
			for _, e := range all {
				what := fmt.Sprintf("<%s %v>", e.name, e.attrs)
				for name, value := range e.attrs {
					assert.NotEqual(t, "style", name, what)
					assert.False(t, strings.HasPrefix(name, "on"), what)
					switch name {
					case "aria-labelledby", "aria-describedby", "aria-controls", "for":
						assert.True(t, ids[value], "%s refers to %s", what, value)
					}
				}
				switch e.name {
				case "html":
					assert.Equal(t, "en", e.attrs["lang"])
				case "script":
					assert.NotEmpty(t, e.attrs["src"], what)
					assert.Empty(t, strings.TrimSpace(e.text), "no inline script")
				case "style":
					assert.Fail(t, "no inline style")
				case "img":
					assert.Contains(t, e.attrs, "alt", what)
				case "iframe":
					assert.Contains(t, e.attrs, "sandbox", what)
					assert.NotContains(t, e.attrs["sandbox"], "allow-scripts")
					assert.NotContains(t, e.attrs["sandbox"], "allow-same-origin")
					assert.NotEmpty(t, e.attrs["title"], what)
				case "input", "textarea":
					assert.True(t, labelled[e.attrs["id"]], "%s has a label", what)
				case "button":
					assert.NotEmpty(t, e.attrs["type"], what)
				case "use":
					assert.True(t, ids[strings.TrimPrefix(e.attrs["href"], "#")], what)
				}
			}
		})
	}
}

func TestScriptsFindTheirElements(t *testing.T) {
	t.Parallel()
	for script, page := range map[string]string{"app.js": "index.html", "mail.js": "mail.html"} {
		html := asset(t, page)
		found := regexp.MustCompile(`(?:\$|getElementById)\("([a-z-]+)"\)`).FindAllStringSubmatch(asset(t, script), -1)
		require.NotEmpty(t, found)
		for _, m := range found {
			assert.Contains(t, html, `id="`+m[1]+`"`, script)
		}
	}
}

func TestClientAgreesWithTheServer(t *testing.T) {
	t.Parallel()
	client := asset(t, "parley.js")
	assert.Contains(t, client, fmt.Sprintf("export const PROTOCOL = %q;", socket.Protocol))
	assert.Contains(t, client, fmt.Sprintf("export const MAX_ROOM_NAME = %d;", chat.MaxRoomName))
	assert.Contains(t, client, fmt.Sprintf("export const MAX_TEXT = %d;", chat.MaxText))
	assert.Contains(t, client, fmt.Sprintf("export const MAX_REACTION = %d;", chat.MaxReactionKey))
	assert.Contains(t, client, fmt.Sprintf("const REACTION_USERS = %d;", chat.MaxReactionUsers))
	page := asset(t, "index.html")
	for _, rule := range regexp.MustCompile(`name="password"[^>]*autocomplete="new-password"[^>]*>`).FindAllString(page, -1) {
		// The browser counts units of UTF-16, of which a character has up to two.
		assert.Contains(t, rule, fmt.Sprintf(`minlength="{{.PasswordMin}}" maxlength="%d"`, 2*auth.MaxPassword))
	}
	for least, want := range map[int]int{0: auth.MinPassword, 12: 12} {
		handler, err := Handler(Config{PasswordMin: least})
		require.NoError(t, err)
		shown := httptest.NewRecorder()
		handler.ServeHTTP(shown, httptest.NewRequest(http.MethodGet, "/", nil))
		assert.Contains(t, shown.Body.String(), fmt.Sprintf("At least %d characters.", want))
		assert.Contains(t, shown.Body.String(), fmt.Sprintf(`minlength="%d"`, want))
	}
}

// Run the test with -update to print the file anew.
var update = flag.Bool("update", false, "print client/events.d.ts from the schema")

func TestTypesOfEventsAreThoseOfTheSchema(t *testing.T) {
	t.Parallel()
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join("client", "events.d.ts"), protocol.TypeScript(protocol.Own()), 0o644))
		t.Log("written; it is embedded from the next build on")
		return
	}
	assert.Equal(t, string(protocol.TypeScript(protocol.Own())), asset(t, "events.d.ts"), "print it anew: go test ./apps/web -update")
}

// TestContrast computes WCAG 2.2 contrast ratios (section 1.4.3) of the colours that text has.
func TestContrast(t *testing.T) {
	t.Parallel()
	css := asset(t, "style.css")
	light, dark, ok := strings.Cut(css, "@media (prefers-color-scheme: dark)")
	require.True(t, ok)
	dark, _, ok = strings.Cut(dark, "*, *::before")
	require.True(t, ok)
	for scheme, text := range map[string]string{"light": light, "dark": dark} {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			colours[m[1]] = m[2]
		}
		check := func(front, back string, least float64) {
			f, b := colours[front], colours[back]
			require.NotEmpty(t, f, front)
			require.NotEmpty(t, b, back)
			assert.GreaterOrEqual(t, contrast(t, f, b), least, "%s: --%s on --%s", scheme, front, back)
		}
		for _, pair := range []string{
			"text page", "text surface", "text sunken", "text accent-soft", "text bad-soft",
			"muted page", "muted surface", "muted sunken", "muted bad-soft", "muted accent-soft",
			"accent page", "accent surface", "on-accent accent", "on-accent accent-hover",
			"on-own own", "on-own-muted own", "bad surface", "bad bad-soft", "warn warn-soft",
		} {
			front, back, _ := strings.Cut(pair, " ")
			check(front, back, 4.5)
		}
		check("field", "surface", 3) // borders of controls, section 1.4.11
		for i := range 8 {
			check(fmt.Sprintf("hue-%d", i), "surface", 4.5)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		require.NoError(t, err)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func TestVersionFollowsTheContent(t *testing.T) {
	t.Parallel()
	files, err := load()
	require.NoError(t, err)
	before := files.version()
	assert.Equal(t, before, files.version())
	changed, err := newFile("app.js", bytes.Repeat([]byte("x"), 3))
	require.NoError(t, err)
	files["app.js"] = changed
	assert.NotEqual(t, before, files.version())
	_, err = newFile("what.exe", nil)
	assert.ErrorContains(t, err, "content type")
}
