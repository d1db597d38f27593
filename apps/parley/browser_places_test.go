package main_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// at waits until a room is open, under its address.
func (p *tab) at(room, address string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`location.pathname + location.search + location.hash === %q`, address))
	p.joined(room)
}

func (p *tab) back()    { p.t.Helper(); evaluate[bool](p, `history.back(), true`) }
func (p *tab) forward() { p.t.Helper(); evaluate[bool](p, `history.forward(), true`) }

const invitation = `document.querySelector("#empty h2").checkVisibility() && document.querySelector("#empty h2").textContent`

// TestAddressesOfRooms sends people around by addresses.
func TestAddressesOfRooms(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	t.Run("there and back", w.thereAndBack)
	t.Run("invited", w.invited)
	t.Run("names", w.names)
}

// thereAndBack goes from room to room, by the list and by the history.
func (w *world) thereAndBack(t *testing.T) {
	p := w.person(t)
	p.open("/")
	p.continueAs("ada")
	p.at("lobby", "/r/lobby")
	p.join("garden")
	p.at("garden", "/r/garden")
	p.say("Roses")
	p.untilShown("Roses")
	p.join("cellar")
	p.at("cellar", "/r/cellar")
	p.back()
	p.at("garden", "/r/garden")
	p.untilShown("Roses")
	p.until(`document.title === "garden – Parley"`)
	p.back()
	p.at("lobby", "/r/lobby")
	p.forward()
	p.forward()
	p.at("cellar", "/r/cellar")
	p.back()
	p.at("garden", "/r/garden")
	p.do(chromedp.Reload())
	p.at("garden", "/r/garden")
	p.untilShown("Roses")
	p.back()
	p.at("lobby", "/r/lobby")

	// An address wins over the room that was open last, and what stands at / is no place of its own.
	p.open("/r/cellar")
	p.at("cellar", "/r/cellar")
	p.open("/")
	p.at("cellar", "/r/cellar")

	// Who leaves a room is in another one, and Back does not lead into the one that was left, unless one wants that.
	p.room("garden")
	p.at("garden", "/r/garden")
	p.click("#leave-room")
	p.until(`document.querySelector("#room-title").textContent !== "garden" && !document.querySelector('[data-room="garden"]')`)
	p.open("/r/garden")
	p.until(invitation + ` === "You are not in “garden”"`)
	p.until(`document.title === "garden – Parley" && location.pathname === "/r/garden"`)
	p.until(`document.activeElement.matches("#join-lobby")`)
	require.NotContains(t, evaluate[string](p, listed), "garden")
	p.shot("invitation")
	p.do(pressEnter)
	p.at("garden", "/r/garden")
	p.untilShown("Roses")

	// Whoever signs out is nowhere; the next one who signs in has come for no room.
	p.click("#account-menu summary")
	p.click("#sign-out")
	p.until(`document.querySelector("#form-sign-in").checkVisibility() && location.pathname === "/"`)
	p.continueAs("grace")
	p.at("lobby", "/r/lobby")
	require.NotContains(t, evaluate[string](p, listed), "garden")
	w.server.sound(t)
}

// invited opens the address of a room without an account.
func (w *world) invited(t *testing.T) {
	// By a click on somebody.
	grace := w.person(t)
	grace.open("/r/tea%20room")
	grace.until(`document.querySelector("#door-notice").checkVisibility() && document.querySelector("#door-notice").textContent === "To join “tea room”, sign in or create an account."`)
	grace.shot("invited")
	grace.click("#form-continue button[value=grace]")
	grace.at("tea room", "/r/tea%20room")

	// By an account that is made for it: the tab of the mail knows where to go, and so does the first one.
	p := w.person(t)
	p.open("/r/tea%20room")
	p.until(`document.querySelector("#door-notice").checkVisibility()`)
	p.click(`[data-view=sign-in] a[href="#sign-up"]`)
	p.write("#sign-up-name", "Emmy Noether")
	p.write("#sign-up-email", "Emmy@example.com")
	p.write("#sign-up-password", password)
	p.click("#form-sign-up button[type=submit]")
	p.until(`location.hash === "#check-mail" && location.pathname === "/r/tea%20room"`)
	box := w.tab(t, p.ctx)
	box.open("/dev/mail")
	opened := chromedp.WaitNewTarget(box.ctx, func(info *target.Info) bool { return strings.Contains(info.URL, "/auth/verify") })
	box.click("details.mail[open] pre a")
	var id target.ID
	within(t, "the link in the mail to open a tab", func() { id = <-opened })
	mail := w.tab(t, box.ctx, chromedp.WithTargetID(id))
	mail.click("button[type=submit]")
	mail.until(`document.querySelector("h1").textContent.includes("confirmed")`)
	mail.click("a")
	mail.write("#sign-in-email", "emmy@example.com")
	mail.write("#sign-in-password", password)
	mail.click("#form-sign-in button[type=submit]")
	mail.at("tea room", "/r/tea%20room")
	mail.here("Emmy Noether,Grace Hopper")
	w.signIn(p)
	p.at("tea room", "/r/tea%20room")
	p.say("Is there tea?")
	grace.untilShown("Is there tea?")

	// A room that may not be called so is none.
	p.open("/r/" + strings.Repeat("a", 101))
	p.at("tea room", "/r/tea%20room")
	w.server.sound(t)
}

// names are of rooms that look like something else in an address.
func (w *world) names(t *testing.T) {
	w.server.member(t, "Ada Names")
	p := w.person(t)
	p.signInAs("Ada Names")
	names := []string{"a/b", "/", "a//b", ".", "..", "../socket", "%", "%2F", "100%", "a?b#c", "a+b c", `a\b`, "<b>", strings.Repeat("😀", 100)}
	addresses := map[string]string{}
	p.until(`document.querySelector("#join-lobby").checkVisibility()`)
	for _, name := range names {
		evaluate[bool](p, fmt.Sprintf(`document.querySelector("#join-name").value = %q, document.querySelector("#form-join").requestSubmit(), true`, name))
		p.joined(name)
		p.until(`location.pathname.startsWith("/r/")`)
		addresses[name] = evaluate[string](p, `location.pathname + location.search`)
	}
	assert.Equal(t, "/r/"+strings.ReplaceAll(url.QueryEscape(strings.Repeat("😀", 100)), "+", "%20"), addresses[strings.Repeat("😀", 100)])
	for i := range names {
		name := names[len(names)-1-i]
		p.at(name, addresses[name])
		if i%4 == 0 {
			p.do(chromedp.Reload())
			p.at(name, addresses[name])
		}
		if i < len(names)-1 {
			p.back()
		}
	}
	for _, name := range []string{"..", "../socket", "a//b", "/"} {
		p.open(addresses[name])
		p.at(name, addresses[name])
	}
	p.press(kb.Escape)
	w.server.sound(t)
}
