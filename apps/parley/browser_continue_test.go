package main_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// continueAs clicks on the button of somebody, and waits for the lobby.
func (p *tab) continueAs(as string) {
	p.t.Helper()
	p.click(fmt.Sprintf("#form-continue button[value=%s]", as))
	p.joined("lobby")
}

// here waits until these people are in the room that is open.
func (p *tab) here(names string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`[...document.querySelectorAll("#member-list .name")].map((n) => n.textContent).sort().join() === %q`, names))
}

// TestTwoClicks is the first minute of a newcomer: two tabs of one browser, one click in each, and two people talk.
func TestTwoClicks(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	began := time.Now()
	ada, grace := w.tab(t, w.browser), w.tab(t, w.browser)
	for _, p := range []*tab{ada, grace} {
		p.size(1280, 800)
		p.open("/")
	}
	ada.continueAs("ada")
	grace.continueAs("grace")
	ada.say("Hello, is anybody there?")
	grace.untilShown("Hello, is anybody there?")
	t.Logf("%v from listening to a message in the second tab", time.Since(began).Round(time.Millisecond))
	grace.say("I am, since one click ago")
	ada.untilShown("I am, since one click ago")
	who := func(p *tab) string { return evaluate[string](p, `document.querySelector("#me-name").textContent`) }
	for range 2 {
		for p, name := range map[*tab]string{ada: "Ada Lovelace", grace: "Grace Hopper"} {
			p.here("Ada Lovelace,Grace Hopper")
			assert.Equal(t, name, who(p))
			// A tab stays who it is.
			p.do(chromedp.Reload())
			p.joined("lobby")
			p.untilShown("I am, since one click ago")
		}
	}
	grace.shot("continue-talk")

	// A room that was open before is no reason to be elsewhere.
	grace.join("garden")
	grace.click("#account-menu summary")
	grace.click("#sign-out")
	grace.continueAs("grace")
	grace.here("Ada Lovelace,Grace Hopper")
	grace.until(`document.querySelector("#room-list").textContent.includes("garden")`)

	// The same after a restart of the server, with the accounts that there are.
	for _, p := range []*tab{ada, grace} {
		p.click("#account-menu summary")
		p.click("#sign-out")
		p.until(`document.querySelector("#form-continue").checkVisibility()`)
	}
	w.server.stop(t, sigterm)
	w.serve()
	ada.continueAs("ada")
	ada.untilShown("I am, since one click ago")
	w.server.sound(t)
	ada.lose() // the server that was started last ends first
}

// TestContinueOnAPhone looks at the buttons, and does without a mouse.
func TestContinueOnAPhone(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	p := w.person(t)
	p.open("/")
	p.until(`document.querySelector("#form-continue").checkVisibility()`)
	p.shot("continue")
	p.scheme("dark")
	p.shot("continue-dark")
	p.size(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	p.shot("continue-phone-dark")
	p.scheme("light")
	p.shot("continue-phone")
	p.size(320, 568, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	for _, as := range []string{"ada", "grace"} {
		p.until(fmt.Sprintf(`(() => { const r = document.querySelector("#form-continue button[value=%s]").getBoundingClientRect();
			return r.height >= 44 && r.left >= 0 && r.right <= 320 && r.bottom <= 568 && document.documentElement.scrollWidth <= 320 })()`, as))
	}
	p.shot("continue-small")

	// Somebody has taken Ada's address.
	w.server.signUp(t, "Somebody Else", "ada@parley.test")
	w.server.verify(t, w.server.mailTo(t, "ada@parley.test").code())
	p.lose() // the browser writes of a refusal into its console
	p.size(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	p.click("#form-continue button[value=ada]")
	p.until(`document.querySelector("#form-continue .error").checkVisibility()`)
	assert.Equal(t, "The account of this person has another password. Somebody has signed up as ada@parley.test: sign in with the password that was chosen then.",
		evaluate[string](p, `document.querySelector("#form-continue .error").textContent`))
	p.shot("continue-taken")

	p.do(chromedp.Focus(css("#form-continue button[value=grace]")))
	p.do(pressEnter)
	p.joined("lobby")
	require.Equal(t, "Grace Hopper", evaluate[string](p, `document.querySelector("#me-name").textContent`))
	p.shot("continue-phone-lobby")
	must(t, http.StatusOK, http.MethodPost, w.server.url+"/auth/signin", "", map[string]string{"email": "ada@parley.test", "password": password})
	w.server.sound(t)
}
