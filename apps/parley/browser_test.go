package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// TestPage uses the page as people do, in a browser.
func TestPage(t *testing.T) {
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	t.Run("two people", w.twoPeople)
	t.Run("keyboard only", w.keyboardOnly)
	t.Run("changes", w.changes)
	t.Run("changes by keyboard", w.changesByKeyboard)
	t.Run("joined again", w.joinedAgain)
	t.Run("marks", w.marks)
	t.Run("far behind", w.farBehind)
	t.Run("older server", w.olderServer)
	t.Run("list comes late", w.listComesLate)
	t.Run("marks on a phone", w.marksOnAPhone)
	t.Run("phone", w.phone)
	t.Run("zoomed", w.zoomed)
}

// startBrowser starts a browser without a window, or skips the test where there is none.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped by -short: a browser would be started")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless-shell"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const why = "no Chromium and no Chrome was found in PATH"
		if os.Getenv("PARLEY_TEST_BROWSER") == "required" {
			t.Fatal(why + ", and PARLEY_TEST_BROWSER=required")
		}
		t.Skip("skipped: " + why)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience), chromedp.WindowSize(1280, 800))
	options = append(options, more...)
	// Not the test's context: that ends before the clean-up closes the tabs.
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	browser, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(closeBrowser)
	require.NoError(t, chromedp.Do(browser), "%s does not start", path)
	return browser
}

// world is a server and a browser.
type world struct {
	t             *testing.T
	browser       context.Context
	address, data string
	args          []string
	server        *server
}

func (w *world) serve() {
	w.server = serve(w.t, w.data, append([]string{"--listen", w.address, "--mail-burst=1000", "--signin-burst=1000"}, w.args...)...)
}

// tab is a tab of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string // of the server

	mu       sync.Mutex
	troubles []string
	mayLose  bool // the server: then failed requests are no trouble
	last     chan struct{}
}

// person opens a tab that shares nothing with others.
func (w *world) person(t *testing.T) *tab {
	t.Helper()
	p := w.tab(t, w.browser, chromedp.WithNewBrowserContext())
	p.size(1280, 800)
	return p
}

func (w *world) tab(t *testing.T, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(parent, options...)
	t.Cleanup(closeTab)
	p := &tab{t: t, ctx: ctx, url: w.server.url, last: make(chan struct{})}
	require.NoError(t, chromedp.Do(ctx))
	console := chromedp.Console(ctx)
	go p.listen(console)
	t.Cleanup(p.check)
	return p
}

// theEnd is what a tab says when nothing more is of interest.
const theEnd = "this test has ended"

// listen collects what the page complains of. Refusals by the content security policy are
// among that.
func (p *tab) listen(console func(func(chromedp.ConsoleMessage, error) bool)) {
	defer close(p.last)
	for m, err := range console {
		if err != nil || m.Text == theEnd {
			return
		}
		switch m.Type {
		case chromedp.ConsoleError, chromedp.ConsoleWarning, chromedp.ConsoleException:
		default:
			continue
		}
		p.mu.Lock()
		lost := strings.Contains(m.Text, "net::ERR_") || strings.Contains(m.Text, "WebSocket connection to") || strings.Contains(m.Text, "the server responded with a status of")
		// What a browser says of a page over http that is not on this machine.
		plain := strings.Contains(m.Text, "Cross-Origin-Opener-Policy header has been ignored") && !strings.Contains(p.url, "127.0.0.1")
		if !plain && (!p.mayLose || !lost) {
			p.troubles = append(p.troubles, fmt.Sprintf("%s %s (%s:%d)", m.Source, m, m.URL, m.Line))
		}
		p.mu.Unlock()
	}
}

// check fails the test if the page has complained.
func (p *tab) check() {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	// Again, since a page that is being loaded takes nothing: "navigated or closed".
	for heard := false; !heard; {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf("console.debug(%q); true", theEnd)))
		select {
		case <-p.last:
			heard = true
		case <-again.C:
		case <-ctx.Done():
			p.t.Errorf("the console does not end: %v", err)
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Empty(p.t, p.troubles, "the page has complained in the console")
}

// do lets the tab do something, and fails if it takes too long.
func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	require.NoError(p.t, chromedp.Do(ctx, steps...), "%s", p.look())
}

// evaluate returns what an expression of JavaScript yields.
func evaluate[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(p.t, err, "%s", expression)
	return v
}

// until waits until an expression is true. The page may be loaded anew meanwhile.
func (p *tab) until(expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("waited for %s; the page shows:\n%s", expression, p.look())
		}
	}()
	await(p.t, expression, func() bool {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		return err == nil && ok
	})
}

// look says what the tab shows, for those who have to find out what went wrong.
func (p *tab) look() string {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.body.innerText"))
	if err != nil {
		return "the page cannot be read: " + err.Error()
	}
	return text
}

func css(selector string) chromedp.CSS { return chromedp.CSS(selector) }

func (p *tab) open(path string) { p.t.Helper(); p.do(chromedp.Navigate(p.url + path)) }

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.WaitVisible(css(selector)), chromedp.Click(css(selector)))
}

func (p *tab) write(selector, text string) {
	p.t.Helper()
	p.do(chromedp.WaitVisible(css(selector)), chromedp.SendKeys(css(selector), text))
}

func (p *tab) press(keys string) {
	p.t.Helper()
	for part := range strings.SplitAfterSeq(keys, kb.Enter) {
		text, enter := strings.CutSuffix(part, kb.Enter)
		p.do(chromedp.KeyEvent(text))
		if enter {
			p.do(pressEnter)
		}
	}
}

// pressEnter presses Enter as a keyboard does. chromedp would send the line break apart from the
// key, and so even where the page has prevented it.
func pressEnter(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
	key := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13}
	_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, key)
	if err == nil {
		key.Type, key.Text = input.DispatchKeyEventTypeKeyUp, ""
		_, err = cdp.Call(ctx, t, input.DispatchKeyEvent, key)
	}
	return chromedp.Void{}, err
}

func (p *tab) size(width, height int64, options ...chromedp.EmulateViewportOption) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(width, height, options...))
}

// scheme chooses between light and dark.
func (p *tab) scheme(value string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
	})
	require.NoError(p.t, err)
}

// shot keeps a picture of the tab, if somebody wants it.
func (p *tab) shot(name string) {
	p.t.Helper()
	folder := os.Getenv("PARLEY_TEST_SCREENSHOTS")
	if folder == "" {
		return
	}
	// What moves has arrived before the picture is taken.
	p.until("document.getAnimations().every((a) => a.playState !== 'running' || a.effect.getComputedTiming().iterations === Infinity)")
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	require.NoError(p.t, err)
	require.NoError(p.t, os.MkdirAll(folder, 0o755))
	require.NoError(p.t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644))
}

// messages is what the log of the open room shows, in order.
const messages = `[...document.querySelectorAll("#log .message:not(.pending):not(.failed) .bubble p")].map((p) => p.textContent)`

func (p *tab) messages() []string { p.t.Helper(); return evaluate[[]string](p, messages) }

func (p *tab) untilShown(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s.includes(%q)", messages, text))
}

func (p *tab) say(text string) {
	p.t.Helper()
	p.write("#composer-text", text)
	p.press(kb.Enter)
	p.until(`document.querySelector("#composer-text").value === ""`)
}

// signUp makes an account, and follows the link in its mail.
func (w *world) signUp(p *tab, name, email, picture string) {
	t := p.t
	t.Helper()
	p.open("/#sign-up")
	p.write("#sign-up-name", name)
	p.write("#sign-up-email", email)
	p.write("#sign-up-password", password)
	p.click("#form-sign-up button[type=submit]")
	p.until(fmt.Sprintf(`location.hash === "#check-mail" && document.querySelector("#check-mail-address").textContent === %q`, email))

	box := w.tab(t, p.ctx)
	box.size(1280, 800)
	box.open("/dev/mail")
	box.until(fmt.Sprintf(`document.querySelector("details.mail[open] .to")?.textContent.includes(%q)`, email))
	if picture != "" {
		box.until(`document.querySelector("#watch").textContent !== ""`)
		box.shot(picture)
	}
	opened := chromedp.WaitNewTarget(box.ctx, func(info *target.Info) bool { return strings.Contains(info.URL, "/auth/verify") })
	box.click("details.mail[open] pre a")
	var id target.ID
	within(t, "the link in the mail to open a tab", func() { id = <-opened })
	confirm := w.tab(t, box.ctx, chromedp.WithTargetID(id))
	confirm.until(`document.querySelector("button[type=submit]")`)
	if picture != "" {
		confirm.shot(picture + "-confirm")
	}
	confirm.click("button[type=submit]")
	confirm.until(`document.querySelector("h1").textContent.includes("confirmed")`)
}

// signIn goes on from the page that says to look into the mailbox.
func (w *world) signIn(p *tab) {
	p.t.Helper()
	p.click(`[data-view=check-mail] a[href="#sign-in"]`)
	p.write("#sign-in-password", password)
	p.click("#form-sign-in button[type=submit]")
	p.do(chromedp.WaitVisible(css("#shell")))
}

// joined says that the server has let us into the room that is open.
func (p *tab) joined(room string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.querySelector("#room-title").textContent === %q && document.querySelectorAll("#member-list li").length > 0`, room))
}

func (p *tab) join(room string) {
	p.t.Helper()
	p.write("#join-name", room)
	p.press(kb.Enter)
	p.joined(room)
}

// notes are what somebody who is alone in a room writes: two more than joining tells.
var notes = []string{
	"Good morning. I am early, so I start with my notes.",
	"First: the store. It syncs before it answers.",
	"Second: the order. Every room counts from one.",
	"Third: no gaps, whatever happens to the line.",
	"Fourth: nothing comes twice.",
	"Fifth: it works on a train.",
	"Sixth: it works without a mouse.",
	"Seventh: it works in the dark.",
	"Eighth: nobody needs an account elsewhere.",
	"Ninth: one program, one folder.",
	"Tenth: and it starts at once.",
	"Who is in?",
}

func (w *world) twoPeople(t *testing.T) {
	ada, bob := w.person(t), w.person(t)
	ada.open("/")
	ada.until(`document.querySelector("#form-sign-in").checkVisibility()`)
	ada.shot("sign-in")
	w.signUp(ada, "Ada Lovelace", "ada@example.com", "mailbox")
	ada.shot("check-mail")
	w.signIn(ada)
	ada.shot("empty")
	ada.click("#join-lobby")
	ada.joined("lobby")
	var said []string
	say := func(who *tab, text string) {
		t.Helper()
		who.say(text)
		said = append(said, text)
		who.untilShown(text)
	}
	for _, text := range notes {
		say(ada, text)
	}

	// A newcomer sees what was written, and is seen.
	w.signUp(bob, "Bob Ross", "bob@example.com", "")
	w.signIn(bob)
	bob.join("lobby")
	bob.untilShown(notes[0])
	require.Equal(t, said, bob.messages())
	members := `[...document.querySelectorAll("#member-list .name")].map((n) => n.textContent).sort().join() === "Ada Lovelace,Bob Ross"`
	ada.until(members)
	bob.until(members)

	// Both ways, with a look at who is typing.
	typing := `document.querySelector("#typing").textContent.startsWith("Bob Ross is typing")`
	bob.write("#composer-text", "Happy little")
	ada.until(typing)
	bob.write("#composer-text", " trees")
	bob.press(kb.Enter)
	said = append(said, "Happy little trees")
	ada.untilShown("Happy little trees")
	ada.until("!" + typing)
	say(ada, "Bob! The engine could compose music of any degree of complexity, if only somebody told it how.")
	bob.untilShown(said[len(said)-1])
	say(bob, "There are no mistakes, only happy accidents. <b>This is not bold.</b>")
	ada.untilShown(said[len(said)-1])
	say(ada, "Agreed.")
	bob.untilShown("Agreed.")
	await(t, "Bob to be seen typing again", func() bool { // not at the first key: typing is told now and then only
		bob.write("#composer-text", ".")
		return evaluate[bool](ada, typing)
	})
	ada.click("#show-members")
	ada.do(chromedp.WaitVisible(css("#member-list")))
	ada.shot("desktop")
	ada.scheme("dark")
	ada.shot("dark")
	ada.scheme("light")
	ada.click("#show-members")
	evaluate[string](bob, `document.querySelector("#composer-text").value = ""`)

	// A third person, beside the page, who is back before the page is.
	cyd := w.server.member(t, "Cyd Charisse")
	ada.lose()
	bob.lose()
	w.server.kill()
	broken := `document.querySelector("#banner").classList.contains("shown")`
	ada.until(broken)
	bob.until(broken)
	ada.say("Written without a connection")
	ada.until(`document.querySelector("#log .message.pending")?.textContent.includes("Written without a connection")`)
	ada.shot("lost")
	w.serve()
	c := w.server.connect(t, cyd.AccessToken, nil)
	_, err := c.Join(t.Context(), "lobby")
	require.NoError(t, err)
	for i := range 15 {
		_, err := c.Send(t.Context(), "lobby", fmt.Sprintf("Meanwhile %d", i+1))
		require.NoError(t, err)
	}
	open := `!document.querySelector("#banner").classList.contains("shown") && !document.querySelector("#log .message.pending")`
	for _, p := range []*tab{ada, bob} {
		p.until(open)
		p.untilShown("Written without a connection")
		p.untilShown("Meanwhile 15")
	}
	joined, err := c.Join(t.Context(), "lobby")
	require.NoError(t, err)
	all, err := stored(t.Context(), c, "lobby", joined.Seq)
	require.NoError(t, err)
	said = texts(all)
	require.Len(t, said, len(notes)+4+1+15)
	require.Equal(t, said, ada.messages())
	require.Equal(t, said, bob.messages())
	say(bob, "Back again")
	ada.untilShown("Back again")

	// The session outlives the page.
	ada.looks(true)
	ada.until(unread("lobby", ""))
	ada.do(chromedp.Reload())
	ada.joined("lobby")
	ada.untilShown(said[0])
	require.Equal(t, said, ada.messages())

	ada.click("#account-menu summary")
	ada.shot("menu")
	ada.click("#sign-out")
	ada.until(`document.querySelector("#form-sign-in").checkVisibility()`)
	bob.until(`[...document.querySelectorAll("#member-list .name")].every((n) => n.textContent !== "Ada Lovelace")`)
}

// lose allows the tab to lose the server.
func (p *tab) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mayLose = true
}

func texts(all []wsclient.Message) []string {
	var list []string
	for _, m := range all {
		list = append(list, m.Text)
	}
	return list
}

func (w *world) keyboardOnly(t *testing.T) {
	w.server.member(t, "Key Board")
	p := w.person(t)
	p.open("/")
	focused := func(selector string) string { return fmt.Sprintf("document.activeElement?.matches(%q)", selector) }
	p.until(focused("#sign-in-email"))
	p.press("key.board@example.com")
	p.tabTo("#sign-in-password")
	p.press(password)
	p.press(kb.Enter)
	p.until(focused("#join-lobby"))
	p.press(kb.Enter)
	p.joined("lobby")
	p.until(focused("#composer-text"))
	p.press("No mouse was needed")
	p.press(kb.Enter)
	p.untilShown("No mouse was needed")
	p.tabTo("#join-name")
	p.press("garden")
	p.press(kb.Enter)
	p.joined("garden")
	p.press("First here" + kb.Enter)
	p.untilShown("First here")
	p.tabTo("#account-menu summary")
	p.press(kb.Enter)
	p.until(`document.querySelector("#account-menu").open`)
	p.press(kb.Escape)
	p.until(`!document.querySelector("#account-menu").open && ` + focused("#account-menu summary"))
	p.press(kb.Enter)
	p.tabTo("#sign-out")
	p.press(kb.Enter)
	p.until(`document.querySelector("#form-sign-in").checkVisibility()`)
}

// zoomed looks at the account menu at 300 %: what has no room is scrolled to.
func (w *world) zoomed(t *testing.T) {
	p := w.signedIn(t, "Large Print", nil)
	p.click("#join-lobby")
	p.joined("lobby")
	p.size(427, 267, chromedp.EmulateScale(3))
	p.click("#show-rooms")
	p.click("#account-menu summary")
	p.until(`(() => { const r = document.querySelector("#account-menu .menu").getBoundingClientRect(); return r.height > 0 && r.top >= 0 })()`)
}

func (w *world) phone(t *testing.T) {
	other := w.server.member(t, "Other Body")
	w.server.member(t, "Pocket Phone")
	p := w.person(t)
	p.size(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	fits := func(selectors ...string) {
		t.Helper()
		p.until("document.documentElement.scrollWidth <= 390")
		for _, selector := range selectors {
			p.until(fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect();
				return r.width > 0 && r.left >= 0 && r.right <= 390 && r.top >= 0 && r.bottom <= 844 })()`, selector))
		}
	}
	p.open("/#sign-up")
	p.until(`document.querySelector("#form-sign-up").checkVisibility()`)
	fits()
	p.shot("phone-sign-up")
	p.open("/#sign-in")
	p.write("#sign-in-email", "pocket.phone@example.com")
	p.write("#sign-in-password", password)
	fits("#form-sign-in button[type=submit]")
	p.click("#form-sign-in button[type=submit]")
	p.click("#join-lobby")
	p.joined("lobby")
	c := w.server.connect(t, other.AccessToken, nil)
	_, err := c.Join(t.Context(), "lobby")
	require.NoError(t, err)
	_, err = c.Send(t.Context(), "lobby", "Can you read this on the train? https://example.com/"+strings.Repeat("a-long-way-", 12))
	require.NoError(t, err)
	p.untilShown("Can you read this on the train? https://example.com/" + strings.Repeat("a-long-way-", 12))
	p.say("Every word")
	p.untilShown("Every word")
	fits("#composer-text", "#composer button[type=submit]", "#show-rooms", "#show-members")
	p.shot("phone")
	far := item("Can you read this on the train? https://example.com/" + strings.Repeat("a-long-way-", 12))
	p.rest(far+`.querySelector(".bubble .when")`, far+`.querySelector(".tools")`)
	fits("#log .tools")
	p.shot("phone-tools")
	p.click(`#log .tools [aria-label^="React"]`)
	fits("#log .tools")
	p.click(`#log .tools [aria-label="React with heart"]`)
	p.until(far + `.querySelector(".reactions [aria-pressed=true]")`)
	p.rest(far+`.querySelector(".bubble .when")`, far+`.querySelector(".tools")`)
	p.click(`#log .tools [aria-label^="Reply"]`)
	fits("#about", "#composer-text")
	p.shot("phone-reply")
	p.say("All of it")
	p.untilShown("All of it")
	p.until(`document.querySelector("#log .own .quote")`)
	fits("#log .own .quote")
	own := item("All of it")
	p.rest(own+`.querySelector(".bubble .when")`, own+`.querySelector(".tools")`)
	fits("#log .tools")
	p.click(`#log .tools [aria-label^="Delete"]`)
	fits("#log .tools")
	p.shot("phone-delete")
	p.click("#log .tools .sure")
	p.until(`document.querySelector("#log .deleted:not(.changing)")`)
	p.click("#show-members")
	p.do(chromedp.WaitVisible(css("#member-list")))
	fits("#hide-members")
	p.shot("phone-members")
	p.click("#hide-members")
	p.click("#show-rooms")
	p.do(chromedp.WaitVisible(css("#room-list")))
	fits("#join-name")
	p.shot("phone-rooms")
	p.click("#room-list button")
	p.do(chromedp.WaitVisible(css("#composer-text")))
	p.scheme("dark")
	p.shot("phone-dark")
}
