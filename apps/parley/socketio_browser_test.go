package main_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/nodejs"
)

// TestOldFrontEnd uses a page of the old kind, with the browser build of the stock client, from an origin of its own.
func TestOldFrontEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes ten seconds")
	}
	t.Parallel()
	modules := nodejs.Modules(t, "socket.io-client")
	browser := startBrowser(t)
	front, stranger := oldFrontEnd(t, modules), oldFrontEnd(t, modules)
	w := &world{t: t, browser: browser, address: freeAddress(t), data: t.TempDir(), args: []string{"--origins", front}}
	w.serve()
	names := []string{"Ada Lovelace", "Bob Ross"}
	grants := map[string]grant{}
	for _, name := range names {
		grants[name] = w.server.member(t, name)
	}
	at := func(origin string) *tab {
		p := w.person(t)
		p.url = origin
		p.open("/?server=" + url.QueryEscape(w.server.url))
		return p
	}
	signIn := func(p *tab, name string) {
		t.Helper()
		p.write("#email", strings.ToLower(strings.ReplaceAll(name, " ", "."))+"@example.com")
		p.write("#password", password)
		p.click("#sign-in button")
		p.until(fmt.Sprintf(`document.querySelector("#status").textContent === %q`, name+", connected"))
	}
	join := func(p *tab, room string) {
		t.Helper()
		p.write("#room-name", room)
		p.click("#join button")
		p.until(fmt.Sprintf(`open === %q && !document.querySelector("#text").disabled`, room))
	}
	say := func(p *tab, text string) {
		t.Helper()
		p.write("#text", text)
		p.click("#composer button")
	}
	log := func(p *tab) []string {
		t.Helper()
		return evaluate[[]string](p, `[...document.querySelectorAll("#log li")].map((l) => l.className || l.querySelector("b").textContent + ": " + l.querySelector("span").textContent)`)
	}
	shown := func(p *tab, text string) {
		t.Helper()
		p.until(fmt.Sprintf(`document.querySelector("#log li:last-child")?.textContent.includes(%q)`, text))
	}

	ada, bob := at(front), at(front)
	ada.shot("old-sign-in")
	signIn(ada, names[0])
	ada.until(`socket.io.engine.transport.name === "websocket"`) // it has moved from polling
	join(ada, "hall")
	var said []string
	for i := range 12 {
		text := fmt.Sprintf("Note %d", i+1)
		say(ada, text)
		shown(ada, text)
		said = append(said, "Ada Lovelace: "+text)
	}
	signIn(bob, names[1])
	join(bob, "hall")
	shown(bob, "Note 12")
	require.Equal(t, said[2:], log(bob), "the last ten, oldest first")
	shown(ada, "Bob Ross Joined the room!")
	require.Equal(t, append(said[:12:12], "system"), log(ada))

	// Typing, both ways, in two rooms.
	bob.write("#text", "Happy little")
	ada.until(`document.querySelector("#typing").textContent === "Bob Ross is typing!"`)
	say(bob, " trees. <b>This is not bold.</b>")
	shown(ada, "Happy little trees. <b>This is not bold.</b>")
	shown(bob, "Happy little trees. <b>This is not bold.</b>")
	ada.until(`document.querySelector("#typing").textContent === ""`)
	await(t, "Ada to be seen typing", func() bool { // not at the first key: typing is told now and then only
		ada.write("#text", ".")
		return evaluate[bool](bob, `document.querySelector("#typing").textContent === "Ada Lovelace is typing!"`)
	})
	bob.shot("old-typing")
	evaluate[string](ada, `document.querySelector("#text").value = ""`)
	say(ada, "Is it art?")
	shown(bob, "Is it art?")
	join(bob, "garden")
	join(ada, "garden")
	say(ada, "Among the roses")
	shown(bob, "Among the roses")
	bob.click("#rooms li:first-child button")
	shown(bob, "Is it art?")
	say(ada, "Nobody looks")
	bob.until(`document.querySelector("#rooms li:last-child button").classList.contains("news")`)
	ada.click("#rooms li:first-child button")

	// Somebody who speaks parley.v1 is in the same room.
	c := w.server.connect(t, w.server.member(t, "Cyd Charisse").AccessToken, nil)
	_, err := c.Join(t.Context(), "hall")
	require.NoError(t, err)
	_, err = c.Send(t.Context(), "hall", "From the other protocol")
	require.NoError(t, err)
	for _, p := range []*tab{ada, bob} {
		shown(p, "From the other protocol")
	}
	ada.shot("old-chat")

	// The server is killed; the page comes back by itself.
	for _, p := range []*tab{ada, bob} {
		p.lose()
	}
	w.server.kill()
	for _, p := range []*tab{ada, bob} {
		p.until(`document.querySelector("#status").textContent.startsWith("Connection lost") && document.querySelector("#text").disabled`)
	}
	ada.shot("old-lost")
	w.serve()
	for _, p := range []*tab{ada, bob} {
		p.until(`document.querySelector("#status").textContent.endsWith(", connected")`)
		p.until(`[...document.querySelectorAll("#log li")].some((l) => l.textContent.includes("From the other protocol"))`)
	}
	say(bob, "Back again")
	for _, p := range []*tab{ada, bob} {
		shown(p, "Back again")
		require.Equal(t, []string{"Ada Lovelace: Note 12", "Bob Ross: Happy little trees. <b>This is not bold.</b>", "Ada Lovelace: Is it art?", "Cyd Charisse: From the other protocol", "Bob Ross: Back again"},
			without(log(p), "system")[6:], "in order, none lost, none twice")
	}
	ada.size(390, 844)
	ada.shot("old-phone")

	// The browser build over each transport, with the token in each place: a header takes a preflight.
	script := func(options string) string {
		return fmt.Sprintf(`new Promise((resolve) => {
			const s = io(server, { forceNew: true, reconnection: false, %s });
			const heard = [];
			s.on("connect_error", (e) => resolve("refused: " + e.message));
			s.on("disconnect", (reason) => resolve(heard.join() + ", " + reason));
			s.on("hall", (m) => { if (!m.type) heard.push(m.message); if (heard.length === 10) s.emit("healthCheck", {}); });
			s.on("healthCheck", (m) => heard.push(m.message));
			s.on("connect", () => s.emit("join_room", { name: "hall" }));
		})`, options)
	}
	const whole = "Note 8,Note 9,Note 10,Note 11,Note 12,Happy little trees. <b>This is not bold.</b>,Is it art?,From the other protocol,Back again"
	token := grants[names[0]].AccessToken
	for _, options := range []string{
		`transports: ["polling"], query: { authorization: "BEARER ` + token + `" }`,
		`transports: ["websocket"], query: { authorization: "Bearer ` + token + `" }`,
		`transports: ["polling"], withCredentials: true, extraHeaders: { Authorization: "bearer ` + token + `" }`,
		`transports: ["websocket"], auth: { token: "bearer ` + token + `" }`,
		`auth: { token: "bearer ` + token + `" }`,
	} {
		require.Equal(t, "Note 7,"+whole+",OK, io server disconnect", asked(t, ada.ctx, script(options)), options)
	}
	require.Equal(t, "refused: the token is not valid", asked(t, ada.ctx, script(`auth: { token: "bearer x" }`)))

	// A page of an origin that is not listed gets in nowhere.
	foreign, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext()) // which complains of that in its console
	defer closeTab()
	require.NoError(t, chromedp.Do(foreign, chromedp.Navigate(stranger+"/?server="+url.QueryEscape(w.server.url))))
	for _, transport := range []string{"polling", "websocket"} {
		require.Regexp(t, "^refused: (xhr poll|websocket) error$", asked(t, foreign, script(fmt.Sprintf(`transports: [%q], auth: { token: "bearer %s" }`, transport, token))))
	}
	ada.click("#sign-out")
	ada.until(`document.querySelector("#sign-in").checkVisibility() && !socket.connected`)
	w.server.sound(t)
}

// asked is what a promise of the page yields.
func asked(t *testing.T, page context.Context, promise string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(page, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[string](promise, chromedp.EvalAwaitPromise))
	require.NoError(t, err, "%s", promise)
	return v
}

func without(all []string, which string) []string {
	var rest []string
	for _, s := range all {
		if s != which {
			rest = append(rest, s)
		}
	}
	return rest
}

var onCDN = regexp.MustCompile(`https://[^"]*/socket\.io-client@([^/"]+)/dist/socket\.io\.min\.js`)

// oldFrontEnd serves the example, with the client from the packages of npm instead of a CDN: it is the same file, as its
// hash in the page says.
func oldFrontEnd(t *testing.T, modules string) (origin string) {
	t.Helper()
	folder := filepath.Join("..", "..", "docs", "examples", "old-front-end")
	page, err := os.ReadFile(filepath.Join(folder, "index.html"))
	require.NoError(t, err)
	found := onCDN.FindAllSubmatch(page, -1)
	require.Len(t, found, 1)
	about, err := os.ReadFile(filepath.Join(modules, "socket.io-client", "package.json"))
	require.NoError(t, err)
	require.Equal(t, decode[struct{ Version string }](t, about).Version, string(found[0][1]))
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(folder)))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(onCDN.ReplaceAll(page, []byte("/client/socket.io.min.js")))
	})
	mux.Handle("GET /client/", http.StripPrefix("/client/", http.FileServer(http.Dir(filepath.Join(modules, "socket.io-client", "dist")))))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}
