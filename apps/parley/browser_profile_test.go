package main_test

import (
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// shownCode finds a code that a mail shows as text.
var shownCode = regexp.MustCompile(`(?m)^([A-Za-z0-9_-]{43})$`)

// TestPageChangesProfiles is somebody who changes their name and their address, and goes.
func TestPageChangesProfiles(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	w.server.member(t, "Ada Profile")
	p := w.person(t)
	p.signInAs("Ada Profile")

	t.Log("a name, a language and a picture")
	p.click("#account-menu summary")
	p.click("#show-profile")
	p.until(`document.querySelector("#dialog-profile").open && document.querySelector("#profile-name").value === "Ada Profile" && document.activeElement === document.querySelector("#profile-name")`)
	evaluate[bool](p, `document.querySelector("#profile-name").value = "", true`)
	p.write("#profile-name", "Ada King")
	p.write("#profile-language", "EN-gb")
	p.write("#profile-avatar", "https://example.com/ada.png")
	p.shot("profile")
	p.press(kb.Enter)
	p.until(`document.querySelector("#profile-status").textContent === "Your profile is saved." && document.querySelector("#profile-language").value === "en-GB"`)
	p.until(`document.querySelector("#me-name").textContent === "Ada King" && document.querySelector("#me-avatar").textContent === "AK"`)

	t.Log("another address, by the code that was mailed to it")
	p.write("#email-new", "ada.king@example.com")
	p.write("#email-password", password)
	p.click("#form-email button[type=submit]")
	p.until(`document.querySelector("#profile-status").textContent.includes("ada.king@example.com") && document.activeElement === document.querySelector("#email-code")`)
	code := shownCode.FindString(w.server.mailTo(t, "ada.king@example.com").Text)
	require.NotEmpty(t, code)
	p.write("#email-code", code)
	p.press(kb.Enter)
	p.until(`document.querySelector("#me-email").textContent === "ada.king@example.com"`)
	p.press(kb.Escape)
	p.until(`!document.querySelector("#dialog-profile").open && document.activeElement === document.querySelector("#account-menu summary")`)
	p.do(chromedp.Reload())
	p.until(`document.querySelector("#me-name")?.textContent === "Ada King" && document.querySelector("#me-email").textContent === "ada.king@example.com"`)

	t.Log("whoever is sure goes")
	p.lose() // the session, and hears 401
	p.click("#account-menu summary")
	p.click("#show-profile")
	p.until(`document.querySelector("#profile-avatar").value === "https://example.com/ada.png"`)
	p.write("#erase-password", "not it at all")
	p.click("#erase-sure")
	p.click("#form-erase button[type=submit]")
	p.until(`document.querySelector("#form-erase .error").checkVisibility()`)
	evaluate[bool](p, `document.querySelector("#erase-password").value = "", true`)
	p.write("#erase-password", password)
	p.click("#form-erase button[type=submit]")
	p.until(`document.querySelector("#door") !== null && !document.querySelector("#door").hidden && !document.querySelector("#dialog-profile").open`)
	must(t, 401, "POST", w.server.url+"/auth/signin", "", map[string]string{"email": "ada.king@example.com", "password": password})
	w.server.sound(t)
}
