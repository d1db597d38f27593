package main_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
)

// changes lets two people edit, answer, react and delete, and see that of each other.
func (w *world) changes(t *testing.T) {
	ada, bob := w.enter(t, "Ada Byron"), w.enter(t, "Bob Gray")
	ada.join("parlour")
	bob.join("parlour")
	ada.say("Shall we meet at noon?")
	bob.untilShown("Shall we meet at noon?")

	// A reply, begun and left, and begun again.
	bob.tool("Shall we meet at noon?", "Reply to the message of Ada Byron")
	bob.until(`document.querySelector("#about p").textContent === "Reply to Ada Byron Shall we meet at noon?"`)
	bob.press("At noon I paint. One later? https://example.com/a_(b)?c=1.")
	bob.shot("reply")
	bob.press(kb.Escape)
	bob.until(`document.querySelector("#about").hidden && document.querySelector("#composer-text").value.startsWith("At noon")`)
	bob.tool("Shall we meet at noon?", "Reply")
	bob.press(kb.Enter)
	const reply = "At noon I paint. One later? https://example.com/a_(b)?c=1."
	bob.untilShown(reply)
	ada.untilShown(reply)
	quote := func(text string) string {
		return fmt.Sprintf(`%s.querySelector(".quote").textContent === %q`, item(reply), "In reply to "+text)
	}
	bob.until(quote("Ada Byron Shall we meet at noon?"))
	ada.until(quote("You Shall we meet at noon?"))
	require.Equal(t, []string{"https://example.com/a_(b)?c=1", "noopener noreferrer", "_blank"},
		evaluate[[]string](ada, `(({ href, rel, target }) => [href, rel, target])(`+item(reply)+`.querySelector("a"))`))

	// Reactions, of one, of both, and taken back.
	ada.tool(reply, "React")
	ada.shot("react")
	ada.click(`#log .tools [aria-label="React with thumbs up"]`)
	chip := func(label string, mine bool) string {
		return fmt.Sprintf(`%s.querySelector(".reactions button")?.matches('[aria-label=%q][aria-pressed="%v"]')`, item(reply), label, mine)
	}
	ada.until(chip("👍, 1 person", true))
	bob.until(chip("👍, 1 person", false))
	bob.click(`#log .reactions button`)
	bob.until(chip("👍, 2 people", true))
	ada.until(chip("👍, 2 people", true))
	bob.click(`#log .reactions button`)
	ada.until(chip("👍, 1 person", true))
	bob.until(chip("👍, 1 person", false))

	// The last message of one's own is edited by arrow up, and a draft is there again behind it.
	field := `document.querySelector("#composer-text")`
	ada.click("#composer-text")
	ada.press(kb.ArrowUp)
	ada.until(field + `.value === "Shall we meet at noon?" && !document.querySelector("#about").hidden`)
	ada.press(" No")
	ada.press(kb.Escape)
	ada.until(field + `.value === "" && document.querySelector("#about").hidden`)
	ada.press("A draft")
	ada.tool("Shall we meet at noon?", "Edit your message")
	ada.until(field + `.value === "Shall we meet at noon?"`)
	evaluate[bool](ada, field+`.value = ""; true`)
	ada.press("Shall we meet at one?" + kb.Enter)
	ada.until(field + `.value === "A draft"`)
	for _, p := range []*tab{ada, bob} {
		p.untilShown("Shall we meet at one?")
		p.until(item("Shall we meet at one?") + `.querySelector(".edited[title^='Edited ']") && !document.querySelector("#log .changing")`)
	}
	bob.until(quote("Ada Byron Shall we meet at one?"))
	ada.shot("changes")
	ada.scheme("dark")
	ada.shot("changes-dark")
	ada.scheme("light")

	// Without a connection: shown at once, and stored when there is one. The other one comes back to it.
	ada.lose()
	bob.lose()
	w.server.kill()
	ada.until(`document.querySelector("#banner").classList.contains("shown")`)
	ada.tool("Shall we meet at one?", "Edit your message")
	evaluate[bool](ada, field+`.value = ""; true`)
	ada.press("Shall we meet at two?" + kb.Enter)
	ada.until(item("Shall we meet at two?") + `.matches(".changing")`)
	ada.tool(reply, "React")
	ada.click(`#log .tools [aria-label="React with party"]`)
	w.serve()
	for _, p := range []*tab{ada, bob} {
		p.untilShown("Shall we meet at two?")
		p.until(item(reply) + `.querySelectorAll(".reactions button").length === 2 && !document.querySelector("#log .changing")`)
	}

	// What the server refuses goes back, and says why: a message has at most so many different reactions.
	c := w.server.connect(t, w.server.member(t, "Cyd Gray").AccessToken, nil)
	_, err := c.Join(t.Context(), "parlour")
	require.NoError(t, err)
	for i := 2; i < chat.MaxReactionKeys; i++ {
		_, err := c.React(t.Context(), "parlour", 2, fmt.Sprintf("+%d", i))
		require.NoError(t, err)
	}
	full := fmt.Sprintf(`%s.querySelectorAll(".reactions button").length === %d`, item(reply), chat.MaxReactionKeys)
	ada.until(full)
	ada.tool(reply, "React")
	ada.click(`#log .tools [aria-label="React with heart"]`)
	ada.until(item(reply) + `.querySelector(".status")?.textContent.startsWith("That did not work. The message has too many reactions")`)
	ada.until(full + ` && !document.querySelector("#log .changing")`)
	ada.shot("refused")
	ada.click("#log .status button")
	ada.until(`!document.querySelector("#log .status")`)

	// A deletion, asked about first. What answers it says so.
	ada.tool("Shall we meet at two?", "Delete your message")
	ada.until(`document.querySelector("#log .tools").textContent.includes("Delete it?")`)
	ada.press(kb.Enter) // which keeps it
	ada.until(`document.querySelector('#log .tools [aria-label^="Reply"]')`)
	ada.tool("Shall we meet at two?", "Delete your message")
	ada.click("#log .tools .sure")
	const gone = "This message was deleted"
	for _, p := range []*tab{ada, bob} {
		p.until(item(gone) + `.matches(".deleted:not(.changing)")`)
		p.until(`document.querySelector("#log .quote").textContent.endsWith("deleted message")`)
		require.Equal(t, []string{gone, reply}, p.messages())
	}
	bob.click("#log .quote")
	bob.until(item(gone) + `.matches(".found")`)
	bob.shot("deleted")

	// What comes later has it all as it is now.
	bob.do(chromedp.Reload())
	bob.joined("parlour")
	bob.untilShown(reply)
	require.Equal(t, []string{gone, reply}, bob.messages())
	bob.until(quote("Ada Byron deleted message") + ` && ` + full)
}

// changesByKeyboard does the same without a mouse.
func (w *world) changesByKeyboard(t *testing.T) {
	p := w.enter(t, "Kay Board")
	p.join("study")
	p.press("First" + kb.Enter)
	p.untilShown("First")
	p.press("Second" + kb.Enter)
	p.untilShown("Second")
	at := func(expression string) { t.Helper(); p.until("document.activeElement?." + expression) }
	tool := func(label string) {
		t.Helper()
		for range 6 {
			p.press(kb.Tab)
			if evaluate[bool](p, fmt.Sprintf(`document.activeElement.matches('.tools [aria-label^=%q]:focus-visible')`, label)) {
				return
			}
		}
		t.Fatalf("%s cannot be reached by Tab:\n%s", label, p.look())
	}
	p.tabTo("#log .message")
	at(`querySelector(".bubble p").textContent === "Second"`)
	p.press(kb.ArrowUp)
	at(`querySelector(".bubble p").textContent === "First"`)
	tool("React")
	p.press(kb.Enter)
	at(`matches('[aria-label="React with thumbs up"]')`)
	p.press(kb.ArrowRight)
	p.press(kb.Enter)
	p.until(item("First") + `.querySelector('.reactions [aria-pressed="true"][aria-label^="❤️"]')`)
	at(`matches(".message")`)
	tool("Delete")
	p.press(kb.Enter)
	at(`textContent === "Keep"`)
	p.press(kb.Escape)
	at(`matches('.tools [aria-label^="Reply"]')`)
	p.press(kb.Enter)
	at(`matches("#composer-text")`)
	p.press("Third" + kb.Enter)
	p.untilShown("Third")
	p.until(item("Third") + `.querySelector(".quote").textContent === "In reply to You First"`)
	p.tabTo("#log .message")
	at(`querySelector(".bubble p").textContent === "Third"`)
	tool("Edit")
	p.press(kb.Enter)
	at(`matches("#composer-text")`)
	p.press(" time" + kb.Enter)
	p.untilShown("Third time")
	p.tabTo("#log .message")
	p.press(kb.Escape)
	at(`matches("#composer-text")`)
}

// joinedAgain lets a page be told to join a room again: who is there is then asked for anew.
func (w *world) joinedAgain(t *testing.T) {
	p := w.enter(t, "Joy Again")
	p.join("attic")
	evaluate[bool](p, `(() => {
		Object.defineProperty(document, "hidden", { get: () => true }); // so that nothing is asked for by the clock
		window.sent = [];
		const { send } = WebSocket.prototype;
		WebSocket.prototype.send = function (text) {
			window.socket = this;
			window.sent.push(JSON.parse(text).event);
			send.call(this, text);
		};
		return true;
	})()`)
	p.say("Hello")
	p.untilShown("Hello")
	evaluate[bool](p, `sent.length = 0; socket.onmessage({ data: JSON.stringify({ event: "resync", data: { room: "attic" } }) }); true`)
	p.until(`sent.filter((event) => event !== "isTyping").join() === "join_room,presence"`)
}

// enter makes an account and signs in.
func (w *world) enter(t *testing.T, name string) *tab {
	t.Helper()
	made := w.server.member(t, name)
	p := w.person(t)
	p.open("/#sign-in")
	p.write("#sign-in-email", made.User.Email)
	p.write("#sign-in-password", password)
	p.click("#form-sign-in button[type=submit]")
	p.do(chromedp.WaitVisible(css("#shell")))
	return p
}

// item is the message in the open room that says a text.
func item(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#log .message")].find((m) => m.querySelector(".bubble p").textContent === %q)`, text)
}

// middle is where an element is.
func (p *tab) middle(element string) (x, y float64) {
	p.t.Helper()
	p.until(element)
	at := evaluate[[2]float64](p, `((r) => [r.x + r.width / 2, r.y + r.height / 2])(`+element+`.getBoundingClientRect())`)
	return at[0], at[1]
}

// tool moves the mouse over a message, and clicks what is offered there.
func (p *tab) tool(text, label string) {
	p.t.Helper()
	x, y := p.middle(item(text) + `?.querySelector(".bubble p")`)
	p.do(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y))
	p.until(item(text) + `?.querySelector(".tools")`)
	p.click(fmt.Sprintf(`#log .tools [aria-label^=%q]`, label))
}

// rest lays a finger on an element until something is there.
func (p *tab) rest(element, until string) {
	p.t.Helper()
	x, y := p.middle(element)
	touch := func(event input.DispatchTouchEventParams) {
		p.t.Helper()
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		defer cancel()
		_, err := chromedp.Call(ctx, input.DispatchTouchEvent, event)
		require.NoError(p.t, err, "%s", event.Type)
	}
	touch(input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchStart, TouchPoints: []*input.TouchPoint{{X: x, Y: y}}})
	p.until(until)
	touch(input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchEnd, TouchPoints: []*input.TouchPoint{}})
}

// tabTo goes on until something has the focus, which must be visible there.
func (p *tab) tabTo(selector string) {
	p.t.Helper()
	for range 30 {
		p.press(kb.Tab)
		if evaluate[bool](p, fmt.Sprintf("document.activeElement?.matches(%q)", selector)) {
			require.True(p.t, evaluate[bool](p, `document.activeElement.matches(":focus-visible")`), selector)
			return
		}
	}
	p.t.Fatalf("%s cannot be reached by Tab:\n%s", selector, p.look())
}
