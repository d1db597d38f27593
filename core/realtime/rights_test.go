package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// actor is who runs a room: somebody by the name that connect takes.
func actor(name string) chat.Actor {
	return chat.Actor{Author: chat.Author{ID: user.ID("u-" + name), Name: name}}
}

// operator may do everything.
var operator = chat.Actor{Author: chat.System, Any: true}

// makes makes a room, owned by somebody.
func (n *node) makes(owner, room string, kind chat.RoomKind) {
	n.t.Helper()
	_, err := n.chat.CreateRoom(n.t.Context(), actor(owner), room, chat.Details{Kind: &kind})
	require.NoError(n.t, err)
}

// gives gives somebody a role.
func (n *node) gives(by chat.Actor, room, name string, role chat.Role) {
	n.t.Helper()
	_, err := n.chat.SetRole(n.t.Context(), by, room, user.ID("u-"+name), role)
	require.NoError(n.t, err)
}

// takesOut ends a membership.
func (n *node) takesOut(by chat.Actor, room, name, reason string) {
	n.t.Helper()
	require.NoError(n.t, n.chat.RemoveMember(n.t.Context(), by, room, user.ID("u-"+name), reason))
}

// pair is two nodes that hear each other.
func pair(t *testing.T, second func(*realtime.HubConfig)) (b backing, one, two *node) {
	t.Helper()
	b, fanout := newBacking(), memory.NewFanout()
	one = startOn(t, b, fanout.Node(), nil)
	two = startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) {
		c.Node = "two"
		if second != nil {
			second(c)
		}
	})
	return b, one, two
}

// meets lets another one come into a room in which e is already: then they are known by name where e is connected.
func (e *end) meets(other *end, room string) {
	e.t.Helper()
	e.join(room)
	e.arrived(room)
	other.join(room)
	e.until("joined")
}

// is is the event membership.
func is(room, name, role, rest string) string {
	if role == "" {
		role = "null"
	} else {
		role = `"` + role + `"`
	}
	return fmt.Sprintf(`{"room":%q,"user":{"id":"u-%s","name":%q},"role":%s%s}`, room, name, name, role, rest)
}

func TestWhoIsRemovedByAModeratorIsOutOnEveryNode(t *testing.T) {
	b, one, two := pair(t, nil)
	one.makes("ada", "hall", chat.Public)
	ada, bob, phone, laptop, tablet := one.connect("ada"), two.connect("bob"), one.connect("eve"), two.connect("eve"), two.connect("eve")
	for _, e := range []*end{ada, bob, phone, laptop} { // each node knows eve's name: she is connected to it
		e.join("hall")
	}
	tablet.join("garden")
	one.takesOut(actor("ada"), "hall", "eve", "spam")
	for _, e := range []*end{ada, bob, phone, laptop, tablet} {
		assert.JSONEq(t, is("hall", "eve", "", `,"by":"u-ada","reason":"spam"`), string(e.until("membership").Data))
	}
	for _, e := range []*end{phone, laptop} {
		assert.Equal(t, "not_joined", e.refused("message", map[string]any{"room": "hall", "text": "x"}))
	}
	ada.say("hall", "is she gone?")
	bob.until("message")
	tablet.say("garden", "elsewhere nothing has changed")
	assert.Empty(t, phone.rest())
	assert.Empty(t, laptop.rest())
	assert.NotContains(t, tablet.rest(), "membership", "once a connection")
	assert.NotContains(t, ada.rest(), "membership", "once a connection")
	has, err := b.members.Has(t.Context(), "hall", "u-eve")
	require.NoError(t, err)
	assert.False(t, has)
	phone.join("hall") // the room is public, and she is not banned
	phone.say("hall", "here I am again")
}

func TestAReaderReadsOnly(t *testing.T) {
	_, one, two := pair(t, nil)
	one.makes("ada", "news", chat.Public)
	ada, eve, away := one.connect("ada"), two.connect("eve"), two.connect("eve")
	ada.meets(eve, "news")
	eve.say("news", "first")
	one.gives(actor("ada"), "news", "eve", chat.Reader)
	refused := func(e *end) {
		t.Helper()
		for event, data := range map[string]map[string]any{
			"message": {"room": "news", "text": "x"}, "edit": {"room": "news", "seq": 1, "text": "x"}, "delete": {"room": "news", "seq": 1},
			"react": {"room": "news", "seq": 1, "key": "👍"}, "isTyping": {"room": "news"},
		} {
			assert.Equal(t, "role_lacks_right", e.refused(event, data), event)
		}
		e.done("mark", map[string]any{"room": "news", "read": 1})
		e.done("history", map[string]any{"room": "news"})
		e.done("presence", map[string]any{"room": "news"})
	}
	for _, e := range []*end{ada, eve, away} {
		assert.JSONEq(t, is("news", "eve", "reader", `,"by":"u-ada"`), string(e.until("membership").Data))
	}
	refused(eve)
	away.join("news") // the store says what she is
	refused(away)
	eve.join("news") // joining again changes nothing
	refused(eve)
	ada.say("news", "second")
	eve.until("message")

	two.gives(actor("ada"), "news", "eve", chat.Regular)
	for _, e := range []*end{eve, away} {
		assert.JSONEq(t, is("news", "eve", "member", `,"by":"u-ada"`), string(e.until("membership").Data))
		e.say("news", "thank you")
	}
	ada.until("membership")
	two.gives(actor("ada"), "news", "eve", chat.Moderator)
	ada.until("membership")
	assert.NotContains(t, ada.rest(), "membership", "once a connection")
}

func TestARoleThatChangesSaysWhetherItsUserIsMuted(t *testing.T) {
	_, one, two := pair(t, nil)
	one.makes("ada", "hall", chat.Public)
	ada, eve := two.connect("ada"), one.connect("eve")
	ada.meets(eve, "hall")
	one.restricts(mute("hall", "u-eve"))
	for _, e := range []*end{ada, eve} {
		assert.JSONEq(t, is("hall", "eve", "member", `,"mutedUntil":"9999-12-31T23:59:59.000000Z","by":"u-ada","reason":"spam"`), string(e.until("membership").Data))
	}
	one.gives(actor("ada"), "hall", "eve", chat.Moderator)
	for _, e := range []*end{ada, eve} {
		assert.JSONEq(t, is("hall", "eve", "moderator", `,"mutedUntil":"9999-12-31T23:59:59.000000Z","by":"u-ada"`), string(e.until("membership").Data))
	}
	two.lifts(mute("hall", "u-eve"))
	for _, e := range []*end{ada, eve} {
		assert.JSONEq(t, is("hall", "eve", "moderator", `,"by":"u-ada","reason":"spam"`), string(e.until("membership").Data))
	}
}

func TestABanIsToldToTheRoomAndToAllConnectionsOfTheUser(t *testing.T) {
	_, one, two := pair(t, nil)
	one.makes("ada", "hall", chat.Public)
	ada, bob, eve, away := one.connect("ada"), two.connect("bob"), one.connect("eve"), two.connect("eve")
	for _, e := range []*end{ada, bob, eve} {
		e.join("hall")
	}
	one.restricts(ban("hall", "u-eve"))
	for _, e := range []*end{ada, bob, eve, away} { // each node knows eve's name: she is connected to it
		assert.JSONEq(t, is("hall", "eve", "", `,"by":"u-ada","reason":"spam"`), string(e.until("membership").Data))
	}
	assert.Equal(t, "banned", away.refused("join_room", map[string]any{"room": "hall"}))
	ada.say("hall", "x")
	bob.until("message")
	for _, e := range []*end{ada, bob, eve, away} {
		assert.NotContains(t, e.rest(), "membership")
	}
}

func TestWhoIsInvitedHearsOfItAndMayComeIn(t *testing.T) {
	_, one, two := pair(t, nil)
	one.makes("ada", "den", chat.Private)
	ada, eve := one.connect("ada"), two.connect("eve")
	ada.join("den")
	assert.Equal(t, "room_not_found", eve.refused("join_room", map[string]any{"room": "den"}))
	one.gives(actor("ada"), "den", "eve", chat.Reader)
	assert.JSONEq(t, is("den", "eve", "reader", `,"by":"u-ada"`), string(eve.until("membership").Data))
	ada.until("membership")
	eve.join("den")
	assert.Equal(t, "role_lacks_right", eve.refused("message", map[string]any{"room": "den", "text": "x"}))
	one.takesOut(actor("ada"), "den", "eve", "")
	eve.until("membership")
	assert.Equal(t, "room_not_found", eve.refused("join_room", map[string]any{"room": "den"}))
}

func TestWhoLeavesHasLeftInAllWindows(t *testing.T) {
	b, one, two := pair(t, nil)
	one.makes("ada", "hall", chat.Public)
	ada, phone, laptop, tablet := two.connect("ada"), one.connect("eve"), one.connect("eve"), two.connect("eve")
	for _, e := range []*end{ada, phone, laptop, tablet} {
		e.join("hall")
	}
	phone.done("leave_room", map[string]any{"room": "hall"})
	for _, e := range []*end{ada, laptop, tablet} {
		assert.JSONEq(t, is("hall", "eve", "", `,"by":"u-eve"`), string(e.until("membership").Data))
	}
	for _, e := range []*end{phone, laptop, tablet} {
		assert.Equal(t, "not_joined", e.refused("history", map[string]any{"room": "hall"}))
	}
	has, err := b.members.Has(t.Context(), "hall", "u-eve")
	require.NoError(t, err)
	assert.False(t, has)
	phone.done("leave_room", map[string]any{"room": "hall"}) // again is harmless

	assert.Equal(t, "last_owner", ada.refused("leave_room", map[string]any{"room": "hall"}))
	ada.say("hall", "I am still in it")
	phone.join("hall")
	one.gives(actor("ada"), "hall", "eve", chat.Owner)
	phone.until("membership")
	ada.done("leave_room", map[string]any{"room": "hall"})
	assert.Equal(t, "not_joined", ada.refused("history", map[string]any{"room": "hall"}))
	assert.Equal(t, "last_owner", phone.refused("leave_room", map[string]any{"room": "hall"}))
}

// Who leaves a room and comes back at once is in it, whatever is still under way of their leaving.
func TestWhoLeavesAndComesBackAtOnceIsIn(t *testing.T) {
	_, one, two := pair(t, func(c *realtime.HubConfig) { c.RestrictionsEvery = time.Millisecond })
	one.makes("ada", "hall", chat.Public)
	var wg sync.WaitGroup
	for i := range 8 {
		n := []*node{one, two}[i%2]
		eve := n.connect(fmt.Sprint("eve", i))
		eve.join("hall")
		wg.Go(func() {
			for range 50 {
				if i%4 < 2 {
					eve.done("leave_room", map[string]any{"room": "hall"})
				} else if err := one.chat.RemoveMember(t.Context(), actor("ada"), "hall", user.ID(fmt.Sprint("u-eve", i)), ""); !assert.NoError(t, err) {
					return
				} else { // it may find them in the room, or out of it
					for eve.ask("history", map[string]any{"room": "hall"}).Error == nil {
						continue
					}
				}
				eve.join("hall")
				if !assert.Equal(t, "ack", eve.ask("message", map[string]any{"room": "hall", "text": "here"}).Event) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// In a room in which nobody is told who comes and goes, nobody is told who leaves for good.
func TestALargeRoomIsNotToldWhoLeaves(t *testing.T) {
	n := start(t, func(c *realtime.HubConfig) { c.AnnounceUpTo = 1 }) // those who stay are too many already
	n.makes("ada", "hall", chat.Public)
	ada, bob, eve, window := n.connect("ada"), n.connect("bob"), n.connect("eve"), n.connect("eve")
	for _, e := range []*end{ada, bob, eve, window} {
		e.join("hall")
		e.arrived("hall")
	}
	eve.done("leave_room", map[string]any{"room": "hall"})
	window.until("membership")
	eve.join("hall")
	eve.arrived("hall")
	n.takesOut(actor("ada"), "hall", "eve", "bye")
	assert.Contains(t, string(ada.until("membership").Data), `"reason":"bye"`, "it is the first one that is told")
}

func TestADeletedRoomIsEmptyOnEveryNode(t *testing.T) {
	_, one, two := pair(t, nil)
	one.makes("ada", "hall", chat.Public)
	ada, bob, away, eve := one.connect("ada"), two.connect("bob"), two.connect("bob"), two.connect("eve")
	ada.join("hall")
	bob.join("hall")
	eve.join("hall")
	eve.join("garden")
	eve.done("leave_room", map[string]any{"room": "hall"}) // the node remembers the room
	bob.until("membership")
	ada.until("membership")
	require.NoError(t, one.chat.DeleteRoom(t.Context(), actor("ada"), "hall"))
	for name, e := range map[string]*end{"ada": ada, "bob": bob} {
		assert.JSONEq(t, is("hall", name, "", `,"by":"u-ada"`), string(e.heardOf("u-"+name).Data))
	}
	for _, e := range []*end{ada, bob} {
		assert.Equal(t, "not_joined", e.refused("message", map[string]any{"room": "hall", "text": "x"}))
		assert.Equal(t, "room_not_found", e.refused("join_room", map[string]any{"room": "hall"}))
	}
	for _, e := range []*end{away, eve} {
		assert.Equal(t, "room_not_found", e.refused("join_room", map[string]any{"room": "hall"}))
	}
	_, err := one.chat.Send(t.Context(), chat.Draft{Room: "hall", Author: chat.System, Text: "to nobody"})
	require.NoError(t, err)
	eve.say("garden", "elsewhere nothing has changed")
	for _, e := range []*end{ada, bob, away} {
		assert.NotContains(t, e.rest(), "message")
	}
}

func TestARoomThatBecomesPrivateKeepsItsMembers(t *testing.T) {
	_, one, two := pair(t, func(c *realtime.HubConfig) { c.RestrictionsEvery = time.Millisecond })
	one.makes("ada", "hall", chat.Public)
	ada, eve, bob := one.connect("ada"), two.connect("eve"), two.connect("bob")
	ada.join("hall")
	eve.join("hall")
	private := chat.Private
	_, err := one.chat.UpdateRoom(t.Context(), actor("ada"), "hall", chat.Details{Kind: &private})
	require.NoError(t, err)
	assert.Equal(t, "room_not_found", bob.refused("join_room", map[string]any{"room": "hall"}))
	one.gives(actor("ada"), "hall", "eve", chat.Moderator)
	eve.until("membership") // all that came before is applied
	eve.say("hall", "I am in")
}

func TestModeratorsDeleteWhatOthersSay(t *testing.T) {
	_, one, two := pair(t, nil)
	one.makes("ada", "hall", chat.Public)
	ada, bob, eve := one.connect("ada"), two.connect("bob"), two.connect("eve")
	for _, e := range []*end{ada, bob, eve} {
		e.join("hall")
	}
	seq := eve.say("hall", "rude").Seq
	assert.Equal(t, "not_allowed", bob.refused("delete", map[string]any{"room": "hall", "seq": seq}))
	one.gives(actor("ada"), "hall", "bob", chat.Moderator)
	bob.until("membership")
	assert.Equal(t, "not_allowed", bob.refused("edit", map[string]any{"room": "hall", "seq": seq, "text": "polite"}), "nobody edits what others say")
	v := bob.ask("delete", map[string]any{"room": "hall", "seq": seq})
	require.Nil(t, v.Error)
	assert.JSONEq(t, `{"room":"hall","seq":1,"rev":1}`, string(v.Data))
	var got wireMessage
	require.NoError(t, json.Unmarshal(ada.until("changed").Data, &got))
	assert.False(t, got.DeletedAt.IsZero())
	assert.Equal(t, "u-eve", got.User.ID)
	assert.Empty(t, got.Text)
	bob.done("delete", map[string]any{"room": "hall", "seq": seq})
	assert.Equal(t, "message_not_found", bob.refused("delete", map[string]any{"room": "hall", "seq": 99}))
	one.gives(actor("ada"), "hall", "bob", chat.Regular)
	bob.until("membership")
	seq = eve.say("hall", "rude again").Seq
	assert.Equal(t, "not_allowed", bob.refused("delete", map[string]any{"room": "hall", "seq": seq}))
	eve.done("delete", map[string]any{"room": "hall", "seq": seq})
}

// Where a node does not know what somebody is called, the accounts do, if there are some.
func TestWhoIsToldOfHasTheNameOfTheirAccount(t *testing.T) {
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{People: accounts{}}, nil)
	n.makes("ada", "den", chat.Private)
	ada := n.connect("ada")
	ada.join("den")
	for name, want := range map[string]string{"eve": "The one called u-eve", "nobody": ""} {
		n.gives(actor("ada"), "den", name, chat.Regular)
		var got struct{ User struct{ Name string } }
		require.NoError(t, json.Unmarshal(ada.until("membership").Data, &got))
		assert.Equal(t, want, got.User.Name)
	}
}

// accounts is a People who knows everybody but one.
type accounts struct{}

func (accounts) Named(_ context.Context, ids ...user.ID) (all []chat.Author, err error) {
	for _, id := range ids {
		if id != "u-nobody" {
			all = append(all, chat.Author{ID: id, Name: "The one called " + string(id)})
		}
	}
	return all, nil
}

// Who is blocked, and who blocks, are readers in their direct room, on every node.
func TestABlockTakesHoldInTheDirectRoom(t *testing.T) {
	for name, bus := range map[string]func(realtime.Fanout) realtime.Fanout{
		"heard":   func(f realtime.Fanout) realtime.Fanout { return f },
		"unheard": func(f realtime.Fanout) realtime.Fanout { return unheard{f} },
	} {
		t.Run(name, func(t *testing.T) {
			b, fanout := newBacking(), memory.NewFanout()
			rules := chat.Config{People: accounts{}}
			one := startWith(t, b, bus(fanout.Node()), rules, nil)
			two := startWith(t, b, bus(fanout.Node()), rules, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
			made, _, err := one.chat.Direct(t.Context(), actor("ada").Author, "u-eve")
			require.NoError(t, err)
			ada, eve := one.connect("ada"), two.connect("eve")
			ada.join(made.Name)
			eve.join(made.Name)
			eve.say(made.Name, "hello")
			_, err = one.chat.Block(t.Context(), "u-ada", "u-eve")
			require.NoError(t, err)
			assert.Contains(t, string(eve.heardOf("u-eve").Data), `"role":"reader"`)
			assert.Contains(t, string(ada.heardOf("u-ada").Data), `"role":"reader"`)
			for _, e := range []*end{ada, eve} {
				assert.Equal(t, "role_lacks_right", e.refused("message", map[string]any{"room": made.Name, "text": "x"}))
			}
			require.NoError(t, one.chat.Unblock(t.Context(), "u-ada", "u-eve"))
			assert.Contains(t, string(eve.heardOf("u-eve").Data), `"role":"member"`)
			assert.Contains(t, string(ada.heardOf("u-ada").Data), `"role":"member"`)
			ada.say(made.Name, "hello again")
			eve.say(made.Name, "hello again")
		})
	}
}
