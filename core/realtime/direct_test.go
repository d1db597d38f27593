package realtime_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// begins returns the direct room of two by the names that connect takes.
func (n *node) begins(who, with string) string {
	n.t.Helper()
	r, _, err := n.chat.Direct(n.t.Context(), actor(who).Author, user.ID("u-"+with))
	require.NoError(n.t, err)
	return r.Name
}

// blocks makes somebody block another one, or end that.
func (n *node) blocks(by, whom string, on bool) {
	n.t.Helper()
	if !on {
		require.NoError(n.t, n.chat.Unblock(n.t.Context(), user.ID("u-"+by), user.ID("u-"+whom)))
		return
	}
	_, err := n.chat.Block(n.t.Context(), user.ID("u-"+by), user.ID("u-"+whom))
	require.NoError(n.t, err)
}

// told wants each to be told that both are something in their direct room, in any order.
func told(t *testing.T, room, a, b, role string, all ...*end) {
	t.Helper()
	for _, e := range all {
		left := map[string]bool{"u-" + a: true, "u-" + b: true}
		for len(left) > 0 {
			var m struct {
				Room string
				User struct{ ID string }
				Role string
			}
			require.NoError(t, json.Unmarshal(e.until("membership").Data, &m))
			if m.Room == room && m.Role == role {
				delete(left, m.User.ID)
			}
		}
	}
}

// silenced wants nothing to be taken from somebody in a room that they may read.
func silenced(t *testing.T, e *end, room string) {
	t.Helper()
	for event, data := range map[string]map[string]any{
		"message": {"text": "x"}, "edit": {"seq": 1, "text": "x"}, "delete": {"seq": 1}, "react": {"seq": 1, "key": "👍"}, "isTyping": {},
	} {
		data["room"] = room
		assert.Equal(t, "role_lacks_right", e.refused(event, data), event)
	}
	e.done("mark", map[string]any{"room": room, "read": 1})
	e.done("history", map[string]any{"room": room})
	e.done("presence", map[string]any{"room": room})
}

func TestBothHearOfTheirDirectRoomAndNobodyElseDoes(t *testing.T) {
	_, one, two := pair(t, nil)
	ada, eve, phone, bob := one.connect("ada"), two.connect("eve"), one.connect("eve"), two.connect("bob")
	for _, e := range []*end{eve, bob} {
		e.join("hall")
	}
	room := one.begins("ada", "eve")
	assert.JSONEq(t, is(room, "ada", "member", `,"by":"u-ada"`), string(ada.until("membership").Data))
	for _, e := range []*end{eve, phone} {
		assert.JSONEq(t, is(room, "eve", "member", `,"by":"u-ada"`), string(e.until("membership").Data))
	}
	ada.join(room)
	eve.join(room)
	ada.say(room, "only for you")
	eve.until("message")
	assert.Equal(t, "room_not_found", bob.refused("join_room", map[string]any{"room": room}))
	assert.Equal(t, "not_joined", bob.refused("message", map[string]any{"room": room, "text": "x"}))
	assert.NotContains(t, bob.rest(), "membership")
	assert.Equal(t, room, two.begins("eve", "ada"))
}

func TestABlockSilencesBothOnEveryNode(t *testing.T) {
	_, one, two := pair(t, nil)
	ada, eve, away := one.connect("ada"), two.connect("eve"), two.connect("eve")
	for _, e := range []*end{ada, eve} {
		e.join("hall")
	}
	room := one.begins("ada", "eve")
	ada.join(room)
	eve.join(room)
	ada.say(room, "first")
	eve.say(room, "second")
	one.blocks("ada", "eve", true)
	told(t, room, "ada", "eve", "reader", ada, eve)
	silenced(t, ada, room)
	silenced(t, eve, room)
	away.join(room) // the store says what she is
	silenced(t, away, room)
	eve.join(room)
	silenced(t, eve, room)
	eve.say("hall", "in other rooms nothing has changed")
	ada.say("hall", "so it is")

	two.blocks("eve", "ada", true)
	told(t, room, "ada", "eve", "reader", ada, eve)
	one.blocks("ada", "eve", false) // and hers goes on
	told(t, room, "ada", "eve", "reader", ada, eve)
	silenced(t, ada, room)
	silenced(t, eve, room)
	two.blocks("eve", "ada", false)
	told(t, room, "ada", "eve", "member", ada, eve)
	eve.say(room, "thank you")
	away.say(room, "here too")
	ada.say(room, "you are welcome")
}

func TestANodeThatHearsNothingFindsABlock(t *testing.T) {
	_, one, two := deafPair(t, chat.Config{})
	ada, eve, bob := one.connect("ada"), two.connect("eve"), two.connect("bob")
	for _, e := range []*end{ada, eve, bob} {
		e.join("hall")
	}
	room, other := one.begins("ada", "eve"), one.begins("ada", "bob")
	eve.join(room)
	bob.join(other)
	one.blocks("ada", "eve", true)
	assert.JSONEq(t, is(room, "eve", "reader", ""), string(eve.until("membership").Data))
	silenced(t, eve, room)
	bob.say(other, "I may")
	one.blocks("ada", "eve", false)
	assert.JSONEq(t, is(room, "eve", "member", ""), string(eve.until("membership").Data))
	eve.say(room, "thank you")
}
