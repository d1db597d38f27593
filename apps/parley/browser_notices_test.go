package main_test

import (
	"fmt"
	"testing"

	permission "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// permits decides for the browser whether the page may notify.
func (p *tab) permits(setting permission.PermissionSetting) {
	p.t.Helper()
	_, err := chromedp.CallBrowser(p.ctx, permission.SetPermission, permission.SetPermissionParams{
		Permission: &permission.PermissionDescriptor{Name: "notifications"}, Setting: setting,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
	})
	require.NoError(p.t, err)
}

// before runs a script before those of each page.
func (p *tab) before(script string) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	require.NoError(p.t, err)
}

// listening keeps what the browser's own notifications were made with, and counts the questions.
const listening = `
	window.told = [];
	window.asked = 0;
	if (window.Notification) window.Notification = class extends Notification {
		static requestPermission() { window.asked++; return super.requestPermission(); }
		constructor(title, options) { super(title, options); window.told.push({ title, body: options.body, notice: this }); }
	};`

// notified waits until the last notification says this.
func (p *tab) notified(count int, title, body string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`told.length === %d && told.at(-1).title === %q && told.at(-1).body === %q`, count, title, body))
}

// TestNotifications lets the browser tell of what nobody looks at.
func TestNotifications(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	p, grace := w.person(t), w.person(t)
	p.before(listening)
	p.permits("prompt")
	p.open("/")
	p.continueAs("ada")
	p.join("garden")
	grace.open("/")
	grace.continueAs("grace")
	grace.join("garden")
	p.looks(true)

	// Nobody has asked for them, and the page asks for nothing.
	grace.room("lobby")
	grace.say("One")
	p.until(unread("lobby", "1"))
	p.until(`document.title.startsWith("(1) garden – ")`)
	menu := func() {
		t.Helper()
		p.click("#account-menu summary")
		p.until(`document.querySelector("#notify").checkVisibility()`)
	}
	menu()
	require.Equal(t, "false", evaluate[string](p, `document.querySelector("#notify").getAttribute("aria-checked")`))
	require.Equal(t, 0, evaluate[int](p, `asked + told.length`))

	// Somebody asks, by keyboard, and the browser allows it.
	p.permits("granted")
	p.do(chromedp.Focus(css("#notify")))
	p.press(kb.Enter)
	p.until(`document.querySelector("#notify").getAttribute("aria-checked") === "true"`)
	p.shot("notify")
	p.click("#room-title")
	grace.say("Two")
	p.notified(1, "Grace Hopper in lobby", "Two")
	require.Equal(t, "", evaluate[string](p, `told[0].notice.icon`))

	// What is looked at is not told of. Of several, the last one is; and what is one's own is nothing new.
	grace.room("garden")
	grace.say("Looked at")
	p.untilShown("Looked at")
	p.say("And answered")
	grace.room("lobby")
	grace.say("Three")
	grace.say("Four")
	p.notified(2, "Grace Hopper in lobby", "Four")
	p.looks(false)
	grace.room("garden")
	grace.say("Behind your back")
	p.notified(3, "Grace Hopper in garden", "Behind your back")

	// A click leads to the room.
	p.looks(true)
	evaluate[bool](p, `told[1].notice.dispatchEvent(new Event("click"))`)
	p.at("lobby", "/r/lobby")
	p.until(unread("lobby", ""))

	// It lasts over a reload, until somebody does not want it any more.
	p.do(chromedp.Reload())
	p.joined("lobby")
	p.looks(true)
	grace.say("Still there?")
	p.notified(1, "Grace Hopper in garden", "Still there?")
	menu()
	p.shot("notify-on")
	p.click("#notify")
	p.until(`document.querySelector("#notify").getAttribute("aria-checked") === "false"`)
	grace.say("Gone")
	p.until(unread("garden", "3")) // with what was said behind their back
	p.room("garden")
	p.until(unread("garden", ""))
	require.Equal(t, 1, evaluate[int](p, `told.length`))

	// The browser has been told to allow none.
	p.permits("denied")
	p.do(chromedp.Reload())
	p.joined("garden")
	menu()
	p.until(`document.querySelector("#notify").disabled && document.querySelector("#notify-blocked").checkVisibility()`)
	p.shot("notify-blocked")

	// A browser that has none.
	bare := w.person(t)
	bare.before(`delete window.Notification`)
	bare.open("/")
	bare.continueAs("ada")
	grace.say("Anybody?")
	bare.until(unread("garden", "1"))
	bare.click("#account-menu summary")
	bare.until(`document.querySelector("#sign-out").checkVisibility() && !document.querySelector("#notify").checkVisibility()`)
	w.server.sound(t)
}
