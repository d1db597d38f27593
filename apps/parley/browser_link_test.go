package main_test

import (
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
)

var signInLink = regexp.MustCompile(`http://\S+/auth/link\?code=[A-Za-z0-9_-]+`)

// TestPageSignsInByLink is somebody who has no wish to remember a password.
func TestPageSignsInByLink(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir(), args: []string{"--signin-link=on"}}
	w.serve()
	ada := w.server.member(t, "Ada Linked")
	p := w.person(t)

	p.do(chromedp.Navigate(w.server.url))
	p.until(`document.querySelector("a[href='#link']")?.checkVisibility()`)
	p.click("a[href='#link']")
	p.until(`document.querySelector("#link-email").checkVisibility()`)
	p.write("#link-email", ada.User.Email)
	p.shot("link")
	p.click("#form-link button[type=submit]")
	p.until(`document.querySelector("#link-address").checkVisibility() && document.querySelector("#link-address").textContent === "` + ada.User.Email + `"`)

	link := ""
	await(t, "a mail with a link", func() bool { // others were sent before
		for _, m := range w.server.mails(t) {
			if m.To == ada.User.Email && link == "" {
				link = signInLink.FindString(m.Text)
			}
		}
		return link != ""
	})
	p.do(chromedp.Navigate(link))
	p.until(`document.querySelector("a.button")?.textContent === "Sign in"`)
	p.shot("link-page")
	p.click("a.button")
	p.until(`document.querySelector("#form-link-in button")?.checkVisibility() && document.activeElement === document.querySelector("#h-link-in")`)
	assert.Equal(t, "#link-in", evaluate[string](p, `location.hash`), "the code is not in the address any more")
	p.click("#form-link-in button[type=submit]")
	p.until(`document.querySelector("#me-name")?.textContent === "Ada Linked"`)

	t.Log("it works once")
	q := w.person(t)
	q.do(chromedp.Navigate(link))
	q.until(`document.querySelector("a.button")?.textContent === "Sign in"`)
	q.click("a.button")
	q.until(`document.querySelector("#form-link-in button")?.checkVisibility()`)
	q.lose()
	q.click("#form-link-in button[type=submit]")
	q.until(`document.querySelector("#form-link-in .error").checkVisibility()`)
	w.server.sound(t)
}
