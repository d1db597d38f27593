package main_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPageRunsRooms: rooms are found, made, kept private, given roles, and deleted on the page.
func TestPageRunsRooms(t *testing.T) {
	t.Parallel()
	w := &world{t: t, browser: startBrowser(t), address: freeAddress(t), data: t.TempDir()}
	w.serve()
	ada, grace := w.person(t), w.person(t)
	for who, p := range map[string]*tab{"ada": ada, "grace": grace} {
		p.open("/")
		p.continueAs(who)
	}
	grace.here("Ada Lovelace,Grace Hopper")
	grace.say("Good morning")
	ada.untilShown("Good morning")

	t.Log("a private room, and an invitation")
	ada.click("#new-room")
	ada.write("#new-name", "plans")
	ada.write("#new-title", "Our plans")
	ada.click("#new-private")
	ada.shot("new-room")
	ada.click("#form-new .primary")
	ada.until(`document.querySelector("#room-title").textContent === "plans" && !document.querySelector("#room-kind").hidden`)
	ada.until(`document.querySelector("#room-topic").textContent === "Our plans"`)
	ada.say("Nobody else reads this")
	ada.click("#show-members")
	ada.until(`document.querySelector("#invite-people option[value='Grace Hopper']") !== null`)
	ada.write("#invite-who", "Nobody")
	ada.click("#form-invite button")
	ada.until(`document.querySelector("#form-invite .error").textContent.includes("in their account menu")`)
	require.NotContains(t, evaluate[string](ada, `document.querySelector("#roster-list").textContent`), "Nobody", "a name that is mistyped is nobody's id")
	require.Len(t, evaluate[string](grace, `document.querySelector("#account-menu code").textContent`), 26)
	evaluate[bool](ada, `(document.querySelector("#invite-who").value = "", true)`)
	ada.write("#invite-who", "Grace Hopper")
	ada.click("#form-invite button")
	grace.until(`document.querySelector('#room-list [data-room="plans"]') !== null`)
	grace.room("plans")
	grace.untilShown("Nobody else reads this")
	grace.say("May I?")
	ada.untilShown("May I?")

	t.Log("roles")
	of := func(name string) string {
		return `[...document.querySelectorAll("#roster details")].find((d) => d.textContent.includes("` + name + `"))`
	}
	act := func(p *tab, name, what string) {
		t.Helper()
		p.until(of(name) + ` !== undefined`)
		evaluate[bool](p, of(name)+`.open = true`)
		button := `[...` + of(name) + `.querySelectorAll("button")].find((b) => b.textContent === "` + what + `")`
		p.until(button + ` !== undefined`)
		evaluate[bool](p, button+`.click(), true`)
	}
	act(ada, "Grace Hopper", "Make reader")
	grace.until(`document.querySelector("#log").textContent.includes("You are now a reader")`)
	grace.say("And now?")
	grace.until(`document.querySelector("#log .failed") !== null`)
	ada.shot("roles")
	act(ada, "Grace Hopper", "Make moderator")
	grace.until(`document.querySelector("#log").textContent.includes("You are now a moderator")`)
	grace.click("#show-members")
	grace.until(`document.querySelector("#room-settings").hidden === false`)
	grace.shot("moderator")

	t.Log("a moderator deletes what others wrote, and says what the room is about")
	grace.tool("Nobody else reads this", "Delete the message of Ada Lovelace")
	grace.click("#log .tools .sure")
	ada.until(`document.querySelector("#log .deleted") !== null`)
	grace.click("#room-settings")
	require.True(t, evaluate[bool](grace, `document.querySelector("#form-delete").hidden`), "only an owner deletes")
	grace.write("#settings-topic", "Until Friday")
	grace.click("#form-settings .primary")
	grace.until(`document.querySelector("#room-topic").textContent === "Our plans – Until Friday"`)

	t.Log("removed, while the settings of the room are open")
	grace.click("#room-settings")
	grace.until(`document.querySelector("#dialog-settings").open`)
	act(ada, "Grace Hopper", "Remove from the room")
	act(ada, "Grace Hopper", "Really remove Grace Hopper?")
	grace.until(`document.querySelector('#room-list [data-room="plans"]') === null`)
	grace.until(`!document.querySelector("#dialog-settings").open`)
	ada.say("She is gone")
	ada.untilShown("She is gone")
	assert.NotContains(t, evaluate[string](grace, `document.body.textContent`), "She is gone")

	t.Log("a public room that is found")
	ada.click("#new-room")
	ada.write("#new-name", "gardens")
	ada.write("#new-title", "About gardens")
	ada.click("#form-new .primary")
	ada.until(`document.querySelector("#room-title").textContent === "gardens"`)
	grace.click("#find-rooms")
	grace.until(`document.querySelector("#found-rooms").textContent.includes("About gardens")`)
	require.NotContains(t, evaluate[string](grace, `document.querySelector("#found-rooms").textContent`), "plans")
	grace.shot("find-rooms")
	evaluate[bool](grace, `[...document.querySelectorAll("#found-rooms button")].find((b) => b.textContent.includes("gardens")).click(), true`)
	grace.until(`document.querySelector("#room-title").textContent === "gardens"`)

	t.Log("found from the beginning each time")
	cat := w.server.member(t, "Cat Fish")
	for n := range 50 {
		must(t, 201, "POST", w.server.url+"/rooms", cat.AccessToken, map[string]string{"name": fmt.Sprintf("z%02d", n)})
	}
	first := `document.querySelector("#found-rooms .name").textContent`
	for range 2 {
		grace.click("#find-rooms")
		grace.until(`document.querySelectorAll("#found-rooms li").length > 40`)
		require.Equal(t, "gardens", evaluate[string](grace, first))
		grace.click("#dialog-find [data-close]")
	}

	t.Log("directly")
	grace.until(`document.querySelector("#roster-list") !== null`)
	act(grace, "Ada Lovelace", "Write directly")
	grace.until(`document.querySelector("#room-title").textContent === "Ada Lovelace"`)
	grace.say("Between us")
	ada.until(`[...document.querySelectorAll("#room-list .name")].some((n) => n.textContent === "Grace Hopper")`)
	evaluate[bool](ada, `[...document.querySelectorAll("#room-list button")].find((b) => b.textContent.includes("Grace Hopper")).click(), true`)
	ada.untilShown("Between us")

	t.Log("blocked, and not any more")
	ada.room("gardens")
	act(ada, "Grace Hopper", "Block")
	act(ada, "Grace Hopper", "Really block? They cannot write to you directly.")
	grace.until(`document.querySelector("#log").textContent.includes("You are now a reader")`)
	ada.click("#account-menu summary")
	ada.click("#show-blocks")
	ada.until(`document.querySelector("#blocked").textContent.includes("Grace Hopper")`)
	ada.shot("blocks")
	ada.click("#blocked button")
	grace.until(`document.querySelector("#log").textContent.includes("You are now a member")`)
	ada.press(kb.Escape)
	ada.until(`!document.querySelector("#dialog-blocks").open && document.activeElement === document.querySelector("#account-menu summary")`)

	t.Log("where one is signed in, and not any more")
	elsewhere := w.person(t)
	elsewhere.open("/")
	elsewhere.continueAs("ada")
	elsewhere.room("gardens")
	ada.click("#account-menu summary")
	ada.click("#show-sessions")
	ada.until(`document.querySelectorAll("#sessions li").length === 2`)
	ada.until(`document.querySelectorAll("#sessions button").length === 1 && document.querySelector("#sessions").textContent.includes("this one")`)
	require.Contains(t, evaluate[string](ada, `document.querySelector("#sessions").textContent`), "on Linux")
	ada.shot("sessions")
	elsewhere.lose() // its session, and hears 401
	ada.click("#sessions button")
	ada.until(`document.querySelector("#sessions-status").textContent.endsWith("is signed out.") && document.querySelectorAll("#sessions li").length === 1`)
	elsewhere.until(`document.querySelector("#door") !== null && !document.querySelector("#door").hidden`)
	ada.press(kb.Escape)
	ada.until(`!document.querySelector("#dialog-sessions").open && document.activeElement === document.querySelector("#account-menu summary")`)

	t.Log("nobody is told what one has read, until one says otherwise")
	for _, on := range []string{"false", "true"} {
		ada.click("#account-menu summary")
		ada.until(`!document.querySelector("#receipts").hidden`)
		ada.click("#receipts")
		ada.until(`document.querySelector("#receipts").getAttribute("aria-checked") === "` + on + `"`)
		ada.shot("receipts " + on)
		ada.press(kb.Escape)
	}

	t.Log("a room without a name is called by its title, for whoever is invited and after a reload; its only owner cannot leave it")
	ada.click("#new-room")
	ada.click("#new-private")
	ada.click("#form-new .primary")
	ada.until(`document.querySelector("#form-new .error").textContent.includes("needs a title")`)
	ada.write("#new-title", "Between neighbours")
	ada.click("#form-new .primary")
	ada.until(`document.querySelector("#room-title").textContent === "Between neighbours" && document.querySelector("#room-topic").hidden`)
	ada.say("Whose turn is it?")
	ada.click("#show-members")
	ada.until(`document.querySelector("#invite-people option[value='Grace Hopper']") !== null`)
	ada.write("#invite-who", "Grace Hopper")
	ada.click("#form-invite button")
	listed := `[...document.querySelectorAll("#room-list .name")].some((n) => n.textContent === "Between neighbours")`
	grace.until(listed)
	ada.click("#leave-room")
	ada.until(`document.querySelector("#log").textContent.includes("name another owner first")`)
	require.True(t, evaluate[bool](ada, `document.querySelector("#log").textContent.indexOf("turn is it?") < document.querySelector("#log").textContent.indexOf("name another owner first")`), "the reason stands where one sees it")
	ada.open("/")
	ada.until(`document.querySelector("#room-title").textContent === "Between neighbours"`)
	ada.room("lobby")
	ada.open("/")
	ada.until(listed)
	ada.until(`document.querySelector("#room-title").textContent === "lobby"`)

	t.Log("deleted")
	ada.room("gardens")
	ada.until(`document.querySelector("#room-settings").hidden === false`)
	ada.click("#room-settings")
	ada.click("#delete-sure")
	ada.click("#form-delete button")
	for _, p := range []*tab{ada, grace} {
		p.until(`document.querySelector('#room-list [data-room="gardens"]') === null`)
	}
}
