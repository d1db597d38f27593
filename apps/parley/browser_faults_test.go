package main_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// TestPageInTrouble uses the page where clocks jump, networks answer in the server's place or not at
// all, tabs are copied, and rooms are full.
func TestPageInTrouble(t *testing.T) {
	// A name that is not localhost: there, pages over http have no locks.
	browser := startBrowser(t, chromedp.Flag("host-resolver-rules", "MAP lan.test 127.0.0.1"))
	w := &world{t: t, browser: browser, address: freeAddress(t), data: t.TempDir(), args: []string{"--socket-rate=-1"}}
	w.serve()
	t.Run("a clock goes back", w.clockGoesBack)
	t.Run("a refresh is not answered", w.refreshIsNotAnswered)
	t.Run("strangers answer", w.strangersAnswer)
	t.Run("a reload keeps what was written", w.reloadKeeps)
	t.Run("a composition ends", w.compositionEnds)
	t.Run("a copied tab", w.copiedTab)
	t.Run("thousands", w.thousands)
	t.Run("an answer is lost", w.answerIsLost)
	t.Run("a sign-out while the page reads", w.signsOutWhileItReads)
	t.Run("tokens end", func(t *testing.T) {
		short := &world{t: t, browser: browser, address: freeAddress(t), data: t.TempDir(), args: []string{"--access-ttl=3s"}}
		short.serve()
		short.tokensEnd(t)
	})
}

// line is what lies between a browser and the server. It may answer in the server's place, and break.
type line struct {
	url   string
	proxy http.Handler

	mu    sync.Mutex
	play  func(http.ResponseWriter, *http.Request) bool // whether it has answered
	conns map[net.Conn]bool
}

func (w *world) line(t *testing.T) *line {
	t.Helper()
	to, err := url.Parse(w.server.url)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	l := &line{proxy: proxy, conns: map[net.Conn]bool{}}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		play := l.play
		l.mu.Unlock()
		if play == nil || !play(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	front.Listener = &keptListener{front.Listener, l}
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	t.Cleanup(front.Close)
	t.Cleanup(l.cut) // upgraded connections are not the front's any more
	l.url = front.URL
	return l
}

type keptListener struct {
	net.Listener
	line *line
}

func (k *keptListener) Accept() (net.Conn, error) {
	c, err := k.Listener.Accept()
	if err == nil {
		k.line.mu.Lock()
		k.line.conns[c] = true
		k.line.mu.Unlock()
	}
	return c, err
}

// cut breaks every connection there is.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
	clear(l.conns)
}

func (l *line) plays(play func(http.ResponseWriter, *http.Request) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.play = play
}

// portal answers as the sign-in page of a network does.
func portal(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<!doctype html><h1>Welcome to our network</h1>")
}

// signedIn opens a tab, on the line if there is one, and signs somebody new in.
func (w *world) signedIn(t *testing.T, name string, l *line) *tab {
	t.Helper()
	w.server.member(t, name)
	p := w.person(t)
	if l != nil {
		p.url = l.url
	}
	p.signIn(name)
	return p
}

func (p *tab) signIn(name string) {
	p.t.Helper()
	p.open("/")
	p.write("#sign-in-email", strings.ToLower(strings.ReplaceAll(name, " ", "."))+"@example.com")
	p.write("#sign-in-password", password)
	p.click("#form-sign-in button[type=submit]")
	p.do(chromedp.WaitVisible(css("#shell")))
}

// spoil makes the access token useless that the tab will have after a reload.
func (p *tab) spoil() {
	p.t.Helper()
	evaluate[bool](p, `(() => {
		const grant = JSON.parse(sessionStorage.getItem("parley.session"));
		grant.accessToken = "spoilt";
		sessionStorage.setItem("parley.session", JSON.stringify(grant));
		return true;
	})()`)
}

func (w *world) clockGoesBack(t *testing.T) {
	p := w.signedIn(t, "Clock Work", nil)
	p.join("clock")
	p.say("On time")
	p.untilShown("On time")
	for _, by := range []int{-3_600_000, 7_200_000} {
		evaluate[bool](p, fmt.Sprintf("(() => { const right = Date.now; Date.now = () => right() + %d; return true })()", by))
		text := fmt.Sprintf("The clock was set by %d", by)
		p.say(text)
		p.untilShown(text)
		p.join(fmt.Sprintf("clock%d", by))
		p.click("#room-list li:first-child button")
		p.joined("clock")
	}
}

func (w *world) refreshIsNotAnswered(t *testing.T) {
	l := w.line(t)
	p := w.signedIn(t, "Silent Line", l)
	p.join("silence")
	p.lose()
	p.spoil()
	var once sync.Once
	l.plays(func(_ http.ResponseWriter, r *http.Request) bool {
		hang := false
		if r.URL.Path == "/auth/refresh" {
			once.Do(func() { hang = true })
		}
		if hang {
			_, _ = io.Copy(io.Discard, r.Body) // else nobody hears of it when the client has gone
			<-r.Context().Done()
		}
		return hang
	})
	p.do(chromedp.Reload())
	p.joined("silence")
	p.say("Here again")
	p.untilShown("Here again")
}

// answerIsLost lets the server take a refresh token, and the browser not hear of it.
func (w *world) answerIsLost(t *testing.T) {
	l := w.line(t)
	p := w.signedIn(t, "Lost Answer", l)
	p.join("answers")
	p.lose()
	p.spoil()
	taken := make(chan int, 1)
	l.plays(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/auth/refresh" && len(taken) == 0 {
			answer := httptest.NewRecorder()
			l.proxy.ServeHTTP(answer, r)
			taken <- answer.Code
			panic(http.ErrAbortHandler)
		}
		return false
	})
	p.do(chromedp.Reload())
	p.joined("answers")
	require.Equal(t, 200, <-taken)
	l.plays(nil)
	p.say("Still the same session")
	p.untilShown("Still the same session")

	// With its successor the session goes on, too.
	p.spoil()
	p.do(chromedp.Reload())
	p.joined("answers")
}

// tokensEnd lets a page stay for longer than several of its access tokens. Its connection stays, too:
// without renewals there is a new one for each token. A machine that is busy for a second may cost one.
func (w *world) tokensEnd(t *testing.T) {
	l := w.line(t)
	var sockets, refreshed atomic.Int32
	l.plays(func(_ http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/socket":
			sockets.Add(1)
		case "/auth/refresh":
			refreshed.Add(1)
		}
		return false
	})
	p := w.signedIn(t, "Long Stay", l)
	p.join("stay")
	await(t, "four tokens", func() bool { return refreshed.Load() >= 4 })
	p.say("Still here")
	p.untilShown("Still here")
	tokens, connections := refreshed.Load()+1, sockets.Load()
	t.Logf("%d access tokens, %d connections", tokens, connections)
	require.Less(t, connections, tokens-1)
}

func (w *world) strangersAnswer(t *testing.T) {
	l := w.line(t)
	p := w.signedIn(t, "Hotel Guest", l)
	p.join("hotel")
	p.lose()
	p.spoil()
	statuses := make(chan int, 3)
	for _, status := range []int{403, 401, 200} {
		statuses <- status
	}
	l.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/auth/refresh" {
			return false
		}
		select {
		case status := <-statuses:
			portal(w, status)
			return true
		default:
			return false
		}
	})
	p.do(chromedp.Reload())
	p.joined("hotel")
	p.say("Still signed in")
	p.untilShown("Still signed in")
	require.Empty(t, statuses)

	// Nor is it said that a mail is on its way. The form is there with what was written.
	q := w.person(t)
	q.url = l.url
	q.lose()
	l.plays(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			portal(w, 200)
		}
		return r.Method == http.MethodPost
	})
	q.open("/#sign-up")
	q.write("#sign-up-name", "New Guest")
	q.write("#sign-up-email", "new.guest@example.com")
	q.write("#sign-up-password", password)
	q.click("#form-sign-up button[type=submit]")
	q.until(`document.querySelector("#form-sign-up .error").checkVisibility()`)
	require.Equal(t, "The server cannot be reached. Check the connection and try again.", evaluate[string](q, `document.querySelector("#form-sign-up .error").textContent`))
	require.Equal(t, "#sign-up New Guest new.guest@example.com true", evaluate[string](q, `[location.hash, document.querySelector("#sign-up-name").value,
		document.querySelector("#sign-up-email").value, !document.querySelector("#form-sign-up button[type=submit]").hasAttribute("aria-disabled")].join(" ")`))
	q.shot("stranger")
	l.plays(nil)
	q.click("#form-sign-up button[type=submit]")
	q.until(`location.hash === "#check-mail"`)
}

func (w *world) reloadKeeps(t *testing.T) {
	l := w.line(t)
	p := w.signedIn(t, "Tunnel Train", l)
	p.join("train")
	p.say("Before the tunnel")
	p.untilShown("Before the tunnel")
	p.lose()
	tunnel := func(w http.ResponseWriter, r *http.Request) bool {
		closed := r.URL.Path == "/socket" || strings.HasPrefix(r.URL.Path, "/auth/")
		if closed {
			portal(w, 503)
		}
		return closed
	}
	l.plays(tunnel)
	l.cut()
	pending := func(text string) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#log .message.pending .bubble p")].some((p) => p.textContent === %q)`, text)
	}
	p.say("Sent in the tunnel")
	p.until(pending("Sent in the tunnel"))
	p.write("#composer-text", "Begun in the tunn")
	p.do(chromedp.Reload())
	p.until(pending("Sent in the tunnel"))
	require.Equal(t, "Begun in the tunn", evaluate[string](p, `document.querySelector("#composer-text").value`))
	p.shot("kept")
	l.plays(nil)
	p.untilShown("Sent in the tunnel")
	p.until("!" + pending("Sent in the tunnel"))
	p.write("#composer-text", "el")
	p.press(kb.Enter)
	p.untilShown("Begun in the tunnel")

	c := w.server.connect(t, w.server.signIn(t, "tunnel.train@example.com").AccessToken, nil)
	joined, err := c.Join(t.Context(), "train")
	require.NoError(t, err)
	all, err := stored(t.Context(), c, "train", joined.Seq)
	require.NoError(t, err)
	require.Equal(t, []string{"Before the tunnel", "Sent in the tunnel", "Begun in the tunnel"}, texts(all))

	// It stays with its user, and ends with signing out.
	l.plays(tunnel)
	l.cut()
	p.say("For nobody else")
	p.until(pending("For nobody else"))
	p.write("#composer-text", "Nor this")
	const kept = `Object.keys(sessionStorage).filter((key) => /^parley\.(outbox|drafts)\./.test(key)).length`
	require.Equal(t, 2, evaluate[int](p, kept))
	p.click("#account-menu summary")
	p.click("#sign-out")
	p.until(`document.querySelector("#form-sign-in").checkVisibility()`)
	require.Zero(t, evaluate[int](p, "sessionStorage.length"))

	// Somebody else's session ended in this tab, and their texts are there. The next is not them.
	evaluate[bool](p, `(() => {
		sessionStorage.setItem("parley.outbox.somebody", JSON.stringify([{ clientId: "x", room: "train", text: "Not mine", at: 1, state: "pending" }]));
		sessionStorage.setItem("parley.drafts.somebody", JSON.stringify({ train: "Not mine" }));
		return true;
	})()`)
	l.plays(nil)
	w.server.member(t, "Next Passenger")
	p.signIn("Next Passenger")
	p.join("train")
	p.untilShown("Begun in the tunnel")
	require.Empty(t, evaluate[string](p, `document.querySelector("#composer-text").value`))
	require.Zero(t, evaluate[int](p, kept))
	require.NotContains(t, p.messages(), "Not mine")
}

func (w *world) compositionEnds(t *testing.T) {
	p := w.signedIn(t, "Nihongo Writer", nil)
	p.join("ime")
	p.click("#composer-text")
	value := func() string { return evaluate[string](p, `document.querySelector("#composer-text").value`) }
	// Enter as Safari has it: the composition ends first, and the key comes after it, with code 229.
	enter := func(ctx context.Context, to *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, to, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "にほ", SelectionStart: 2, SelectionEnd: 2})
		if err == nil {
			_, err = cdp.Call(ctx, to, input.InsertText, input.InsertTextParams{Text: "日本"})
		}
		for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
			if err == nil {
				_, err = cdp.Call(ctx, to, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 229})
			}
		}
		return chromedp.Void{}, err
	}
	p.do(enter)
	require.Equal(t, "日本", value(), "unfinished text is not sent")
	require.Empty(t, p.messages())
	p.do(enter)
	require.Equal(t, "日本日本", value())
	p.press(kb.Enter)
	p.untilShown("日本日本")
	require.Equal(t, []string{"日本日本"}, p.messages())
}

func (w *world) copiedTab(t *testing.T) {
	w.server.member(t, "Copied Tab")
	for _, host := range []string{"127.0.0.1", "lan.test"} {
		t.Run(host, func(t *testing.T) {
			p := w.person(t)
			p.url = strings.Replace(w.server.url, "127.0.0.1", host, 1)
			p.signIn("Copied Tab")
			require.Equal(t, host == "127.0.0.1", evaluate[bool](p, "Boolean(navigator.locks)"))
			p.join("copies")
			p.lose() // the spoilt token is refused

			opened := chromedp.WaitNewTarget(p.ctx, func(info *target.Info) bool { return strings.HasPrefix(info.URL, p.url) })
			// A tab that a page opens has a copy of its sessionStorage, as a duplicated one has.
			evaluate[bool](p, `(() => {
				const a = document.createElement("a");
				Object.assign(a, { href: "/", target: "_blank", rel: "opener", id: "copy", textContent: "copy" });
				document.querySelector("#room-list").before(a);
				return true;
			})()`)
			p.click("#copy")
			var id target.ID
			within(t, "a copy of the tab", func() { id = <-opened })
			q := w.tab(t, p.ctx, chromedp.WithTargetID(id))
			q.url = p.url
			q.until(`document.querySelector("#door-notice").textContent.startsWith("This tab is a copy")`)

			p.spoil()
			p.do(chromedp.Reload())
			p.joined("copies")
			text := "One of two at " + host
			p.say(text)
			p.untilShown(text)
		})
	}
}

func (w *world) thousands(t *testing.T) {
	const before, live, most = 1_000, 4_000, 300
	crowd := w.server.connect(t, w.server.member(t, "Big Crowd").AccessToken, nil)
	_, err := crowd.Join(t.Context(), "crowd")
	require.NoError(t, err)
	last := 0 // the sequence of the room
	say := func(n int) {
		t.Helper()
		require.NoError(t, sendMany(t.Context(), crowd, "crowd", n))
		last += n
	}
	const seqs = `[...document.querySelectorAll("#log .message:not(.pending):not(.failed)")].map((item) => item.note.seq)`
	newest := func() string { return fmt.Sprintf("%s.at(-1) === %d", seqs, last) }
	say(before)

	p := w.signedIn(t, "Calm Reader", nil)
	p.join("crowd")
	p.until(newest())
	evaluate[bool](p, `(() => {
		const log = document.querySelector("#log");
		window.most = { items: 0, nodes: 0 };
		new MutationObserver(() => {
			window.most.items = Math.max(window.most.items, log.querySelectorAll("li").length);
			window.most.nodes = Math.max(window.most.nodes, document.querySelectorAll("*").length);
		}).observe(log, { childList: true, subtree: true });
		return true;
	})()`)
	bounded := func(when string) {
		t.Helper()
		items, nodes := evaluate[int](p, "window.most.items"), evaluate[int](p, "window.most.nodes")
		t.Logf("%s: %d items, %d elements at most", when, items, nodes)
		require.LessOrEqual(t, items, most, when)
		require.Less(t, nodes, 20*most, when)
	}
	// inOrder wants the messages that are shown to follow each other, and returns their sequences.
	inOrder := func() []int {
		t.Helper()
		shown := evaluate[[]int](p, seqs)
		require.NotEmpty(t, shown)
		for i, seq := range shown {
			require.Equal(t, shown[0]+i, seq)
		}
		return shown
	}
	const atEnd = `(() => { const log = document.querySelector("#log"); return log.scrollHeight - log.scrollTop - log.clientHeight < 2 })()`

	start := time.Now()
	say(live)
	sent := time.Since(start)
	p.until(newest())
	t.Logf("%d live messages on top of %d: sent in %v, shown after %v", live, before, sent.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	bounded("live")
	require.Len(t, inOrder(), most)
	p.until(atEnd)
	require.False(t, evaluate[bool](p, `document.querySelector("#log .older").hidden`))

	// Older ones come by scrolling, and what is read stays where it is.
	older := func() {
		t.Helper()
		evaluate[bool](p, `(() => {
			const log = document.querySelector("#log");
			log.scrollTop = 100;
			const top = log.getBoundingClientRect().top;
			const seen = [...log.querySelectorAll(".message")].find((item) => item.getBoundingClientRect().bottom > top);
			window.seen = { item: seen, at: seen.getBoundingClientRect().top, first: log.querySelector(".message").textContent };
			return true;
		})()`)
		p.until(`document.querySelector("#log .message").textContent !== window.seen.first`)
		require.Less(t, evaluate[float64](p, `Math.abs(window.seen.item.getBoundingClientRect().top - window.seen.at)`), 2.0, "the list has jumped")
		p.until(`!document.querySelector("#log .older button").hasAttribute("aria-disabled")`)
	}
	for range 10 {
		older()
	}
	bounded("further up")
	shown := inOrder()
	require.NotContains(t, shown, last)
	p.until(`document.querySelector("#to-end").checkVisibility()`)
	p.shot("further-up")

	// What comes meanwhile moves nothing, however much it is.
	evaluate[bool](p, `(() => { window.seen.at = window.seen.item.getBoundingClientRect().top; return true })()`)
	say(2 * most)
	p.until(`document.querySelector("#to-end").classList.contains("news")`)
	require.Equal(t, shown, inOrder())
	require.Less(t, evaluate[float64](p, `Math.abs(window.seen.item.getBoundingClientRect().top - window.seen.at)`), 2.0)

	// The newest are at hand.
	p.click("#to-end")
	p.until(newest())
	p.until(atEnd)
	p.until(`!document.querySelector("#to-end").checkVisibility()`)
	inOrder()

	// And so they are by scrolling all the way down.
	for range 8 {
		older()
	}
	for range 40 {
		if evaluate[bool](p, newest()) {
			break
		}
		was := inOrder()
		// Up a little and down again, as long as it takes: two places within one frame are no scrolling.
		p.until(fmt.Sprintf(`%s.at(-1) !== %d || (() => {
			const log = document.querySelector("#log");
			window.down = !window.down;
			log.scrollTop = log.scrollHeight - (window.down ? 0 : log.clientHeight + 60);
			return false;
		})()`, seqs, was[len(was)-1]))
	}
	inOrder()
	p.until(newest())
	say(1)
	p.say("Said at the end")
	last++
	p.untilShown("Said at the end")
	p.until(newest()) // it has its place when the server has answered
	p.until(atEnd)
	bounded("in all")
	shown = inOrder()
	assert.Equal(t, last, shown[len(shown)-1])
}

// sendMany sends numbers, many of them under way at once.
func sendMany(ctx context.Context, c *wsclient.Client, room string, n int) error {
	errs := make(chan error, n)
	free := make(chan struct{}, 500)
	for i := range n {
		free <- struct{}{}
		go func() {
			_, err := c.Send(ctx, room, strconv.Itoa(i))
			<-free
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}
