package main_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// marks lets somebody with two browsers read what another one writes: both know what is unread, and the other one who has seen it.
func (w *world) marks(t *testing.T) {
	ada, bob := w.enter(t, "Ada Mark"), w.enter(t, "Bob Mark")
	bob.join("gallery")
	ada.join("gallery")
	ada.join("cellar")
	for _, text := range []string{"One", "Two", "Three"} {
		bob.say(text)
		bob.untilShown(text)
	}
	ada.until(unread("gallery", "3"))
	ada.until(`document.title.startsWith("(3) cellar – ")`)
	ada.say("It is cool down here")
	ada.untilShown("It is cool down here")
	ada.shot("unread")

	// A browser that knows nothing of this user has the rooms, the one that was active last first, and their counts.
	second := w.again(t, "Ada Mark")
	second.joined("cellar")
	second.until(listed + ` === "cellar,gallery"`)
	second.until(unread("gallery", "3"))
	second.until(unread("cellar", ""))

	// What is deleted is not unread any more, in either.
	bob.tool("Two", "Delete your message")
	bob.click("#log .tools .sure")
	for _, p := range []*tab{ada, second} {
		p.until(unread("gallery", "2"))
	}

	// It opens where it was read up to. Nobody looks, so nothing is read.
	second.looks(false)
	second.room("gallery")
	second.until(item("One") + `?.previousElementSibling?.matches(".divider")`)
	second.shot("divider")
	bob.say("Four")
	for _, p := range []*tab{ada, second} {
		p.until(unread("gallery", "3"))
	}
	require.False(t, evaluate[bool](bob, `Boolean(document.querySelector(".seen"))`))

	// Now somebody looks: the other browser knows, and so does the other user.
	second.looks(true)
	for _, p := range []*tab{ada, second} {
		p.until(unread("gallery", ""))
		p.until(`!document.title.startsWith("(")`)
	}
	bob.until(item("Four") + `.querySelector(".seen")?.textContent === "Seen by Ada Mark"`)
	require.Equal(t, "off", evaluate[string](bob, `document.querySelector(".seen").getAttribute("aria-live")`))
	bob.shot("seen")
	bob.scheme("dark")
	bob.shot("seen-dark")
	bob.scheme("light")

	// What comes while nobody looks is new; to answer is to have read.
	second.looks(false)
	bob.say("Five")
	second.until(item("Five") + `?.previousElementSibling?.matches(".divider")`)
	ada.until(unread("gallery", "1"))
	bob.until(item("Four") + `.querySelector(".seen")`)
	second.say("Six")
	for _, p := range []*tab{ada, second} {
		p.until(unread("gallery", ""))
	}
	second.until(`!document.querySelector(".divider")`)
	bob.untilShown("Six")
	bob.until(`!document.querySelector(".seen")`) // who answers has seen it

	// Whoever comes back finds what came meanwhile.
	ada.lose()
	second.lose()
	bob.lose()
	w.server.kill()
	ada.until(`document.querySelector("#banner").classList.contains("shown")`)
	w.serve()
	bob.say("Seven")
	bob.untilShown("Seven")
	bob.say("Eight")
	bob.untilShown("Eight")
	for _, p := range []*tab{ada, second} {
		p.until(unread("gallery", "2"))
	}

	// A room that was joined elsewhere is there after the next loss, and one that was left is gone from the next page.
	ada.join("loft")
	ada.click("#leave-room")
	ada.until(listed + ` === "gallery,cellar"`)
	ada.join("belfry")
	w.server.kill()
	second.until(`document.querySelector("#banner").classList.contains("shown")`)
	w.serve()
	second.until(listed + `.split(",").sort().join() === "belfry,cellar,gallery"`)
	ada.until(`!document.querySelector("#banner").classList.contains("shown")`)
	ada.room("cellar")
	ada.click("#leave-room")
	ada.until(listed + `.split(",").sort().join() === "belfry,gallery"`)
	token := w.server.signIn(t, addressOf("Ada Mark")).AccessToken
	await(t, "the room to be left", func() bool {
		return !strings.Contains(string(must(t, 200, "GET", w.server.url+"/rooms/mine", token, nil)), `"cellar"`)
	})
	second.do(chromedp.Reload())
	second.until(listed + `.split(",").sort().join() === "belfry,gallery"`)
}

// farBehind opens a room that has more unread messages than are shown at first.
func (w *world) farBehind(t *testing.T) {
	const lines = 130
	p := w.enter(t, "Far Behind")
	p.join("archive")
	p.say("I read up to here")
	p.untilShown("I read up to here")
	p.join("hatch")
	c := w.server.connect(t, w.server.member(t, "Archy Vist").AccessToken, nil)
	_, err := c.Join(t.Context(), "archive")
	require.NoError(t, err)
	for i := range lines {
		_, err := c.Send(t.Context(), "archive", fmt.Sprintf("Line %d", i+1))
		require.NoError(t, err)
	}
	require.NoError(t, c.Leave(t.Context(), "archive"))
	p.until(unread("archive", "99+"))
	p.until(fmt.Sprintf(`document.title.startsWith("(%d) ")`, lines))
	p.do(chromedp.Reload())
	p.joined("hatch")
	p.until(unread("archive", "99+"))
	p.until(fmt.Sprintf(`document.title.startsWith("(%d) ")`, lines))

	// By keyboard: Enter opens it, and what Tab leads to in the list is the first one that was not read.
	p.tabTo(`[data-room="archive"] button`)
	p.press(kb.Enter)
	p.until(item("Line 1") + `?.previousElementSibling?.matches(".divider")`)
	p.until(`document.activeElement?.matches("#composer-text")`)
	inView := func(text string) string {
		return fmt.Sprintf(`((r, log) => r.top >= log.top && r.bottom <= log.bottom)(%s.getBoundingClientRect(), document.querySelector("#log").getBoundingClientRect())`, item(text))
	}
	p.until(inView("Line 1"))
	p.shot("far-behind")
	p.tabTo("#log .message")
	p.until(`document.activeElement.querySelector(".bubble p").textContent === "Line 1"`)
	p.until(unread("archive", "99+")) // the end is far away

	// Further down the rest is read, and at its end the room is.
	p.looks(true)
	p.until(fmt.Sprintf(`(document.querySelector("#log").scrollTo(0, 1e6), %s.at(-1) === "Line %d")`, messages, lines))
	all := evaluate[[]string](p, messages+`.filter((m) => m.startsWith("Line"))`)
	require.Len(t, all, lines)
	for i, text := range all {
		require.Equal(t, fmt.Sprintf("Line %d", i+1), text)
	}
	p.until(`(document.querySelector("#log").scrollTo(0, 1e6), ` + unread("archive", "") + `)`)
	p.until(`document.title.startsWith("archive – ")`)
}

// olderServer lets the page work with a server that knows no marks, and keeps no list of rooms.
func (w *world) olderServer(t *testing.T) {
	p, other := w.person(t), w.enter(t, "New Server")
	_, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		window.marks = 0;
		const { fetch } = window;
		const missing = { type: "/problems/not_found", title: "no such page", status: 404, code: "not_found" };
		window.fetch = (address, ...rest) => address.startsWith("/rooms/")
			? Promise.resolve(new Response(JSON.stringify(missing), { status: 404, headers: { "content-type": "application/problem+json" } }))
			: fetch(address, ...rest);
		const { send } = WebSocket.prototype;
		WebSocket.prototype.send = function (text) {
			if (JSON.parse(text).event === "mark") window.marks++;
			send.call(this, text);
		};
		const { get, set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
		Object.defineProperty(WebSocket.prototype, "onmessage", { get, set(listener) {
			set.call(this, listener && (({ data }) => data.includes('"event":"marked"') || listener({ data: data.replace(/"read":\d+,?/, "") })));
		} });
	`})
	require.NoError(t, err)
	made := w.server.member(t, "Old Server")
	p.open("/#sign-in")
	p.write("#sign-in-email", made.User.Email)
	p.write("#sign-in-password", password)
	p.click("#form-sign-in button[type=submit]")
	p.click("#join-lobby")
	p.joined("lobby")
	p.join("museum")
	other.join("museum")
	other.say("Is this old?")
	p.untilShown("Is this old?")
	p.join("depot")
	other.say("It is")
	p.room("museum")
	p.untilShown("It is")
	p.do(chromedp.Reload())
	p.joined("museum")
	p.until(listed + ` === "lobby,museum,depot"`)
	p.untilShown("It is")
	p.say("And works")
	other.untilShown("And works")
	require.Equal(t, 0, evaluate[int](p, `marks`))
	p.until(`[...document.querySelectorAll(".badge")].every((b) => b.hidden) && document.title.startsWith("museum – ")`)
	p.click("#leave-room")
	p.until(listed + ` === "lobby,depot"`)
}

// listComesLate lets the list of rooms not come at first: what the browser remembers is shown, and nothing is joined that was left elsewhere.
func (w *world) listComesLate(t *testing.T) {
	p := w.person(t)
	_, err := chromedp.Call(p.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		const { fetch } = window;
		window.fetch = (address, ...rest) =>
			localStorage.blocked && address.startsWith("/rooms/") ? Promise.reject(new TypeError("Failed to fetch")) : fetch(address, ...rest);
	`})
	require.NoError(t, err)
	token := w.server.member(t, "Late List").AccessToken
	p.signInAs("Late List")
	p.join("porch")
	p.join("yard")
	evaluate[bool](p, `localStorage.blocked = "yes"; true`)
	p.do(chromedp.Navigate("about:blank")) // a page that is connected hears that its user leaves
	c := w.server.connect(t, token, nil)
	_, err = c.Join(t.Context(), "porch")
	require.NoError(t, err)
	require.NoError(t, c.Leave(t.Context(), "porch"))
	p.open("/r/yard")
	p.until(listed + ` === "porch,yard" && document.querySelector("#room-title").textContent === "yard"`)
	require.Zero(t, evaluate[int](p, `document.querySelectorAll("#member-list li, #log .ready").length`))
	p.shot("late-list")
	evaluate[bool](p, `delete localStorage.blocked`)
	p.until(listed + ` === "yard"`)
	p.joined("yard")
	require.NotContains(t, string(must(t, 200, "GET", w.server.url+"/rooms/mine", token, nil)), `"porch"`)
}

// marksOnAPhone shows the same on a narrow screen, in the dark.
func (w *world) marksOnAPhone(t *testing.T) {
	bob := w.enter(t, "Bob Pocket")
	bob.looks(true)
	bob.join("train")
	w.server.member(t, "Ada Pocket")
	p := w.person(t)
	p.size(390, 844, chromedp.EmulateScale(2), chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	p.scheme("dark")
	p.signInAs("Ada Pocket")
	p.click("#join-lobby")
	p.joined("lobby")
	p.click("#show-rooms")
	p.write("#join-name", "train")
	p.press(kb.Enter)
	p.joined("train")
	p.say("On my way")
	bob.untilShown("On my way")
	p.click("#show-rooms")
	p.room("lobby")
	for _, text := range []string{"Which coach?", "I am in the last one, next to the bicycles", "Bring tea"} {
		bob.say(text)
		bob.untilShown(text)
	}
	p.click("#show-rooms")
	p.until(unread("train", "3"))
	p.shot("phone-unread")
	p.looks(false)
	p.room("train")
	p.until(`document.querySelector("#log .divider")?.nextElementSibling.textContent.includes("Which coach?")`)
	p.until(`document.documentElement.scrollWidth <= 390`)
	p.shot("phone-divider")
	p.looks(true)
	bob.until(item("Bring tea") + `.querySelector(".seen")`)
	p.say("Two cups")
	bob.untilShown("Two cups")
	p.until(item("Two cups") + `.querySelector(".seen")?.textContent === "Seen by Bob Pocket"`)
	p.until(`document.documentElement.scrollWidth <= 390`)
	p.shot("phone-seen")
	p.click("#show-rooms")
	p.until(unread("train", "") + ` && document.title.startsWith("train – ")`)
}

// again signs somebody in who has an account, in a browser that shares nothing with others.
func (w *world) again(t *testing.T, name string) *tab {
	t.Helper()
	p := w.person(t)
	p.signInAs(name)
	return p
}

// signInAs signs in somebody who was made a member.
func (p *tab) signInAs(name string) {
	p.t.Helper()
	p.open("/#sign-in")
	p.write("#sign-in-email", addressOf(name))
	p.write("#sign-in-password", password)
	p.click("#form-sign-in button[type=submit]")
	p.do(chromedp.WaitVisible(css("#shell")))
}

// room opens a room from the list.
func (p *tab) room(name string) {
	p.t.Helper()
	p.click(fmt.Sprintf(`#room-list [data-room=%q] button`, name))
	p.until(fmt.Sprintf(`document.querySelector("#room-title").textContent === %q`, name))
}

// looks says whether the window has the focus.
func (p *tab) looks(on bool) {
	p.t.Helper()
	evaluate[bool](p, fmt.Sprintf(`document.hasFocus = () => %v; dispatchEvent(new Event(%q)); true`, on, map[bool]string{true: "focus", false: "blur"}[on]))
}

// listed is the names of the rooms in the order of the list.
const listed = `[...document.querySelectorAll("#room-list li")].map((li) => li.dataset.room).join()`

// unread says that the list shows so many unread messages of a room; "" is none.
func unread(room, count string) string {
	badge := fmt.Sprintf(`document.querySelector('#room-list [data-room=%q] .badge')`, room)
	if count == "" {
		return badge + `?.hidden`
	}
	return fmt.Sprintf(`%s?.checkVisibility() !== undefined && !%[1]s.hidden && %[1]s.textContent === "%s unread"`, badge, count)
}
