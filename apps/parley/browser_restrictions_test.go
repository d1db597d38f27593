package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPageTellsOfMutesAndBans: whoever is muted or banned reads it on the page, with the reason, and what they cannot send is not lost.
func TestPageTellsOfMutesAndBans(t *testing.T) {
	t.Parallel()
	const token = "open-sesame-open-sesame"
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir(), args: []string{"--admin-token=" + token}}
	w.serve()
	ada, grace := w.person(t), w.person(t)
	ada.open("/")
	ada.continueAs("ada")
	ada.join("garden")
	grace.open("/")
	grace.continueAs("grace")
	grace.join("garden")
	grace.say("Hello")
	ada.untilShown("Hello")
	id := evaluate[string](grace, `JSON.parse(sessionStorage.getItem("parley.session")).user.id`)
	require.NotEmpty(t, id)
	mute, ban := w.server.admin+"/rooms/garden/mutes/"+id, w.server.admin+"/rooms/garden/bans/"+id

	must(t, 204, "PUT", mute, token, map[string]any{"reason": "all capitals"})
	grace.until(`document.querySelector("#log").textContent.includes("You cannot write here: all capitals")`)
	grace.say("May I?")
	grace.until(`document.querySelector("#log").textContent.includes("muted in this room")`)
	grace.shot("muted")
	ada.say("You may listen")
	grace.untilShown("You may listen")

	must(t, 204, "DELETE", mute, token, nil)
	grace.until(`document.querySelector("#log").textContent.includes("You can write here again")`)
	grace.say("Thank you")
	ada.untilShown("Thank you")

	must(t, 204, "PUT", ban, token, map[string]any{"reason": "spam"})
	grace.until(`document.querySelector("#form-join .error").textContent.includes("spam")`)
	grace.shot("banned")
	ada.say("She is gone")
	ada.untilShown("She is gone")
	require.NotContains(t, evaluate[string](grace, `document.body.textContent`), "She is gone")
	must(t, 204, "DELETE", ban, token, nil)
	grace.join("garden")
	grace.untilShown("She is gone")
	grace.say("Back again")
	ada.untilShown("Back again")
}
