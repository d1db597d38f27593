package main_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit"
)

// TestPageHasASecondFactor is somebody who adds an authenticator app, and signs in by it and by a recovery code.
func TestPageHasASecondFactor(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir(), args: []string{"--second-factor=on"}}
	w.serve()
	ada := w.server.member(t, "Ada Twofold")
	p := w.person(t)
	signIn := func(p *tab) {
		p.do(chromedp.Navigate(w.server.url))
		p.until(`document.querySelector("#sign-in-email")?.checkVisibility()`)
		p.write("#sign-in-email", ada.User.Email)
		p.write("#sign-in-password", password)
		p.click("#form-sign-in button[type=submit]")
	}
	signIn(p)
	p.until(`document.querySelector("#me-name")?.textContent === "Ada Twofold"`)
	p.click("#account-menu summary")
	p.click("#show-profile")
	p.until(`document.querySelector("#form-factor button[value=add]").checkVisibility()`)
	p.click("#form-factor button[value=add]")
	p.until(`document.querySelector("#factor-text").checkVisibility() && document.activeElement === document.querySelector("#factor-code")`)
	p.shot("factor-secret")
	secret := strings.ReplaceAll(evaluate[string](p, `document.querySelector("#factor-text").textContent`), " ", "")
	assert.Contains(t, evaluate[string](p, `document.querySelector("#factor-uri").href`), "otpauth://totp/")
	p.lose()
	p.write("#factor-code", "12345")
	p.click("#form-factor button[value=confirm]")
	p.until(`document.querySelector("#form-factor .error").checkVisibility()`)
	evaluate[string](p, `document.querySelector("#factor-code").value = ""`)
	p.write("#factor-code", testkit.TOTPCode(secret, time.Now())+kb.Enter)
	p.until(`document.querySelectorAll("#factor-codes li").length === 10 && document.querySelector("#factor-recovery").checkVisibility()`)
	p.shot("factor-recovery")
	recovery := evaluate[string](p, `document.querySelector("#factor-codes li").textContent`)
	require.Len(t, recovery, 29)

	t.Log("on another device")
	q := w.person(t)
	q.lose()
	signIn(q)
	q.until(`document.querySelector("#factor-in-code")?.checkVisibility() && document.activeElement === document.querySelector("#factor-in-code")`)
	q.shot("factor-sign-in")
	q.write("#factor-in-code", "12345")
	q.click("#form-factor-in button[type=submit]")
	q.until(`document.querySelector("#form-factor-in .error").checkVisibility()`)
	evaluate[string](q, `document.querySelector("#factor-in-code").value = ""`)
	q.write("#factor-in-code", recovery)
	q.click("#form-factor-in button[type=submit]")
	q.until(`document.querySelector("#me-name")?.textContent === "Ada Twofold"`)

	t.Log("and the app is removed")
	p.click("#form-factor button[value=remove]")
	p.until(`document.querySelector("#form-factor button[value=add]").checkVisibility()`)
	w.server.sound(t)
}
