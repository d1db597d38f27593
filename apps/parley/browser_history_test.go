package main_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// TestOlderMessages reads a long room from its end to its beginning.
func TestOlderMessages(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	const lines = 160
	c := w.server.connect(t, w.server.member(t, "Archy Vist").AccessToken, nil)
	_, err := c.Join(t.Context(), "annals")
	require.NoError(t, err)
	for i := range lines {
		_, err := c.Send(t.Context(), "annals", fmt.Sprintf("Line %d", i+1))
		require.NoError(t, err)
	}
	p := w.enter(t, "Late Comer")
	p.open("/r/annals")
	p.click("#join-lobby")
	p.joined("annals")

	// At first the last 50, with the last one in view.
	shown := func(n int) {
		t.Helper()
		p.until(fmt.Sprintf(`%s.length === %d`, messages, n))
		got := p.messages()
		for i, text := range got {
			require.Equal(t, fmt.Sprintf("Line %d", lines-len(got)+i+1), text)
		}
	}
	shown(50)
	p.until(`(() => { const log = document.querySelector("#log"); return log.scrollHeight - log.scrollTop - log.clientHeight < 48 })()`)
	require.Empty(t, evaluate[string](p, `document.querySelector("#told").textContent`), "what was shown at first is not told")

	// Who scrolls up sees what was in view where it was, and more before it.
	evaluate[bool](p, `(() => {
		const log = document.querySelector("#log");
		log.scrollTop = 200;
		const top = log.getBoundingClientRect().top;
		const item = [...log.querySelectorAll(".message")].find((m) => m.getBoundingClientRect().top >= top);
		window.watched = { item, at: item.getBoundingClientRect().top };
		return true;
	})()`)
	shown(100)
	require.Less(t, evaluate[float64](p, `Math.abs(watched.item.getBoundingClientRect().top - watched.at)`), 2.0)
	p.until(`document.querySelector("#told").textContent.startsWith("50 older messages, from Today, ")`)
	require.Equal(t, "status", evaluate[string](p, `document.querySelector("#told").getAttribute("role")`))
	p.shot("older")

	// By keyboard: from the first message that is shown there is a way up.
	evaluate[bool](p, `document.querySelector("#log .message").focus({ preventScroll: true }), true`)
	p.until(`document.activeElement.querySelector(".bubble p")?.textContent === "Line 61"`)
	p.press(kb.ArrowUp)
	p.until(`document.activeElement.querySelector(".bubble p")?.textContent === "Line 60"`)
	shown(150)

	// Another room, and back: the place is kept.
	at := evaluate[float64](p, `document.querySelector("#log").scrollTop`)
	require.Greater(t, at, 240.0)
	p.join("hall")
	p.room("annals")
	p.until(fmt.Sprintf(`Math.abs(document.querySelector("#log").scrollTop - %v) < 2`, at))

	p.tabTo("#log .message")
	p.press(kb.Home)
	shown(lines)
	p.until(`!document.querySelector("#log .older").checkVisibility()`)
	p.until(`document.querySelector("#told").textContent.startsWith("10 older messages, from Today, ")`)
	p.do(chromedp.Reload())
	p.joined("annals")
	shown(50)
	w.server.sound(t)
}
