package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
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

// ---- nodes that hear nothing ----

// deafPair is two nodes of which the second hears nothing of rights, and asks often.
func deafPair(t *testing.T, rules chat.Config) (b backing, one, two *node) {
	t.Helper()
	b, fanout := newBacking(), memory.NewFanout()
	one = startWith(t, b, unheard{fanout.Node()}, rules, nil)
	two = startWith(t, b, fanout.Node(), chat.Config{}, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	return b, one, two
}

func TestANodeThatHearsNothingFindsWhatHasChanged(t *testing.T) {
	_, one, two := deafPair(t, chat.Config{})
	one.makes("ada", "hall", chat.Public)
	one.makes("ada", "attic", chat.Public)
	ada, bob, eve, away := one.connect("ada"), two.connect("bob"), two.connect("eve"), two.connect("eve")
	ada.join("hall")
	bob.join("hall")
	eve.join("hall")
	bob.join("attic")
	one.gives(actor("ada"), "hall", "eve", chat.Reader)
	for _, e := range []*end{bob, eve, away} {
		assert.JSONEq(t, is("hall", "eve", "reader", ""), string(e.until("membership").Data))
	}
	assert.Equal(t, "role_lacks_right", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
	one.gives(actor("ada"), "hall", "eve", chat.Regular)
	for _, e := range []*end{bob, eve, away} {
		assert.JSONEq(t, is("hall", "eve", "member", ""), string(e.until("membership").Data))
	}
	eve.say("hall", "thank you")
	one.takesOut(actor("ada"), "hall", "eve", "spam")
	for _, e := range []*end{bob, eve, away} {
		assert.JSONEq(t, is("hall", "eve", "", ""), string(e.until("membership").Data))
	}
	assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
	require.NoError(t, one.chat.DeleteRoom(t.Context(), actor("ada"), "attic"))
	assert.JSONEq(t, is("attic", "bob", "", ""), string(bob.until("membership").Data))
	assert.Equal(t, "room_not_found", bob.refused("join_room", map[string]any{"room": "attic"}))
	require.NoError(t, one.chat.DeleteRoom(t.Context(), actor("ada"), "hall"))
	bob.until("membership")
	for _, e := range []*end{bob, eve, away} {
		assert.NotContains(t, e.rest(), "membership", "nobody is told twice")
	}
}

// Who leaves on one node is out on another that hears nothing, too.
func TestANodeThatHearsNothingFindsWhoHasLeft(t *testing.T) {
	b, one, two := deafPair(t, chat.Config{})
	one.makes("ada", "hall", chat.Public)
	phone, laptop, bob := one.connect("eve"), two.connect("eve"), two.connect("bob")
	for _, room := range []string{"hall", "attic", "garden"} {
		phone.join(room)
		laptop.join(room)
		bob.join(room)
	}
	phone.done("leave_room", map[string]any{"room": "hall"})
	for _, e := range []*end{bob, laptop} {
		assert.JSONEq(t, is("hall", "eve", "", ""), string(e.until("membership").Data))
	}
	require.NoError(t, one.chat.Leave(t.Context(), "u-eve", "attic"))
	for _, e := range []*end{bob, laptop} {
		assert.JSONEq(t, is("attic", "eve", "", ""), string(e.until("membership").Data))
	}
	for _, room := range []string{"hall", "attic"} {
		assert.Equal(t, "not_joined", laptop.refused("message", map[string]any{"room": room, "text": "x"}))
	}
	laptop.say("garden", "here I am still")
	of, err := b.restrictions.Since(t.Context(), time.Time{}, 100)
	require.NoError(t, err)
	assert.Len(t, of, 1, "one note of a user, however many rooms they leave")
}

// patient holds a change of roles back, behind its note.
type patient struct {
	chat.Roles
	asked, proceed chan struct{}
	armed          atomic.Bool
}

func (p *patient) Change(ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error) (before, after chat.Membership, err error) {
	if p.armed.Swap(false) {
		p.asked <- struct{}{}
		<-p.proceed
	}
	return p.Roles.Change(ctx, c, may)
}

// looking counts questions for restrictions of late.
type looking struct {
	chat.Restrictions
	asked chan struct{}
}

func (l looking) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	all, err := l.Restrictions.Since(ctx, at, limit)
	select {
	case l.asked <- struct{}{}:
	default:
	}
	return all, err
}

// A note may be found before its change is stored.
func TestANoteIsAskedAboutAsLongAsItIsFound(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	slow := &patient{Roles: b.roles, asked: make(chan struct{}), proceed: make(chan struct{})}
	store := looking{b.restrictions, make(chan struct{})}
	one := startWith(t, b, unheard{fanout.Node()}, chat.Config{Roles: slow}, nil)
	two := startWith(t, b, fanout.Node(), chat.Config{Restrictions: store}, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	one.makes("ada", "hall", chat.Public)
	eve := two.connect("eve")
	eve.join("hall")
	slow.armed.Store(true)
	done := make(chan error, 1)
	go func() { done <- one.chat.RemoveMember(t.Context(), actor("ada"), "hall", "u-eve", "") }()
	<-slow.asked
	for range 5 { // the note is there, the change is not
		<-store.asked
	}
	eve.say("hall", "I am still in")
	assert.NotContains(t, eve.rest(), "membership")
	close(slow.proceed)
	require.NoError(t, <-done)
	eve.until("membership")
	assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
}

// dilatory holds back what is told every node, until it is let go.
type dilatory struct {
	realtime.Fanout
	mu   sync.Mutex
	held []realtime.Signal
}

func (l *dilatory) Publish(ctx context.Context, s realtime.Signal) error {
	if s.Kind == realtime.SignalMembership {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = append(l.held, s)
		return nil
	}
	return l.Fanout.Publish(ctx, s)
}

func (l *dilatory) letGo(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.held {
		require.NoError(t, l.Fanout.Publish(t.Context(), s))
	}
	l.held = nil
}

// What a node has found by itself, and hears of later, is told once.
func TestWhatIsHeardLateIsNotToldAgain(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	bus := &dilatory{Fanout: fanout.Node()}
	one := startOn(t, b, bus, nil)
	two := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	one.makes("ada", "hall", chat.Public)
	bob, eve, away, ann, zoe := two.connect("bob"), two.connect("eve"), two.connect("eve"), two.connect("ann"), two.connect("zoe")
	// hears lets go what was held, and waits until all of it was read: an invitation is heard only.
	hears := func(role chat.Role) {
		t.Helper()
		one.gives(actor("ada"), "hall", "zoe", role)
		bus.letGo(t)
		zoe.until("membership")
	}
	for _, e := range []*end{bob, eve, ann} {
		e.join("hall")
	}
	one.gives(actor("ada"), "hall", "eve", chat.Reader)
	for _, e := range []*end{bob, eve, away, ann} {
		assert.Contains(t, string(e.heardOf("u-eve").Data), `"role":"reader"`)
	}
	hears(chat.Reader)
	one.takesOut(actor("ada"), "hall", "eve", "")
	for _, e := range []*end{bob, eve, away, ann} {
		assert.Contains(t, string(e.heardOf("u-eve").Data), `"role":null`)
	}
	hears(chat.Regular)
	one.restricts(ban("hall", "u-ann"))
	for _, e := range []*end{bob, ann} {
		assert.Contains(t, string(e.heardOf("u-ann").Data), `"role":null`)
	}
	hears(chat.Reader)
	for _, e := range []*end{eve, away, ann} {
		assert.NotContains(t, e.rest(), "membership")
	}
}

// ---- a store that is away ----

// moody is a store of roles that cannot be asked for a while.
type moody struct {
	chat.Roles
	away  atomic.Bool
	asked chan struct{}
}

func (m *moody) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	if m.away.Load() {
		select {
		case m.asked <- struct{}{}:
		default:
		}
		return nil, fault.Wrap(fault.Unavailable, errors.New("away"))
	}
	return m.Roles.Of(ctx, whom...)
}

func TestWhatIsHeardWhileTheStoreIsAwayIsReadLater(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	store := &moody{Roles: b.roles, asked: make(chan struct{})}
	one := startOn(t, b, fanout.Node(), nil)
	two := startWith(t, b, fanout.Node(), chat.Config{Roles: store}, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	one.makes("ada", "hall", chat.Public)
	one.makes("ada", "attic", chat.Public)
	bob, eve := two.connect("bob"), two.connect("eve")
	bob.join("hall")
	eve.join("hall")
	eve.join("attic")
	store.away.Store(true)
	one.takesOut(actor("ada"), "hall", "eve", "spam")
	one.gives(actor("ada"), "hall", "bob", chat.Reader)
	require.NoError(t, one.chat.DeleteRoom(t.Context(), actor("ada"), "attic"))
	for range 3 {
		<-store.asked
	}
	assert.NotContains(t, eve.rest(), "membership")
	store.away.Store(false)
	bob.heardOf("u-bob")
	eve.heardOf("u-eve")
	eve.heardOf("u-eve")
	assert.Equal(t, "role_lacks_right", bob.refused("message", map[string]any{"room": "hall", "text": "x"}))
	for _, room := range []string{"hall", "attic"} {
		assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": room, "text": "x"}))
	}
}

// A node may hear of changes in another order than that in which they were stored. What holds is told then, with who did it.
func TestWhatIsHeardInAnotherOrderIsTold(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	store := &moody{Roles: b.roles, asked: make(chan struct{})}
	bus, ears := &dilatory{Fanout: fanout.Node()}, fanout.Node()
	one := startOn(t, b, bus, nil)
	two := startWith(t, b, ears, chat.Config{Roles: store}, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	one.makes("ada", "hall", chat.Public)
	bob, eve := two.connect("bob"), two.connect("eve")
	bob.join("hall")
	store.away.Store(true)
	one.gives(actor("ada"), "hall", "bob", chat.Reader)
	bus.letGo(t)
	<-store.asked // what is heard from here on is read together
	one.gives(actor("ada"), "hall", "eve", chat.Moderator)
	one.gives(operator, "hall", "eve", chat.Reader)
	for _, s := range slices.Backward(bus.held) {
		require.NoError(t, ears.Publish(t.Context(), s)) // the node hears itself at once
	}
	store.away.Store(false)
	for _, e := range []*end{bob, eve} {
		assert.JSONEq(t, is("hall", "eve", "reader", `,"by":"system"`), string(e.heardOf("u-eve").Data))
	}
	one.gives(actor("ada"), "hall", "eve", chat.Regular)
	bus.held = bus.held[2:]
	bus.letGo(t)
	for _, e := range []*end{bob, eve} {
		assert.JSONEq(t, is("hall", "eve", "member", `,"by":"u-ada"`), string(e.heardOf("u-eve").Data), "each once")
	}
}

// reluctant cannot follow at first what is told every node.
type reluctant struct {
	realtime.Fanout
	refusals atomic.Int32
}

func (r *reluctant) Follow(ctx context.Context, room string) error {
	if chat.CheckRoom(room) != nil && r.refusals.Add(-1) >= 0 {
		return errors.New("the bus is away")
	}
	return r.Fanout.Follow(ctx, room)
}

func TestANodeFollowsWhatIsToldAllAsSoonAsItCan(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	bus := &reluctant{Fanout: fanout.Node()}
	bus.refusals.Store(3)
	one := startOn(t, b, fanout.Node(), nil)
	two := startOn(t, b, bus, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	one.makes("ada", "hall", chat.Private)
	eve := two.connect("eve")
	one.gives(actor("ada"), "hall", "eve", chat.Regular)
	eve.until("membership")
}

// ---- who comes in meanwhile ----

// doorway holds memberships back that were stored, before whoever joins is answered.
type doorway struct {
	chat.Members
	armed          atomic.Bool
	stored, answer chan struct{}
}

func (d *doorway) Add(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
	stored, err := d.Members.Add(ctx, all...)
	if d.armed.Swap(false) {
		d.stored <- struct{}{}
		<-d.answer
	}
	return stored, err
}

func TestWhoComesInWhileTheirRightsChange(t *testing.T) {
	for name, c := range map[string]struct {
		change func(n *node)
		then   func(t *testing.T, eve *end)
	}{
		"they become a reader": {
			func(n *node) { n.gives(actor("ada"), "hall", "eve", chat.Reader) },
			func(t *testing.T, eve *end) {
				require.Equal(t, "ack", eve.answerOf(1).Event)
				for deadline := time.Now().Add(patience); ; { // membership may have come before the answer
					v := eve.ask("isTyping", map[string]any{"room": "hall"})
					if v.Error != nil {
						assert.Equal(t, "role_lacks_right", v.Error.Code)
						break
					}
					require.True(t, time.Now().Before(deadline), "the role of a moment ago lasts")
				}
			},
		},
		"they are removed": {
			func(n *node) { n.takesOut(actor("ada"), "hall", "eve", "") },
			func(t *testing.T, eve *end) {
				if eve.answerOf(1).Event == "ack" {
					eve.until("membership")
				}
				assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
			},
		},
		"the room is deleted": {
			func(n *node) {
				require.NoError(n.t, n.chat.DeleteRoom(n.t.Context(), actor("ada"), "hall"))
			},
			func(t *testing.T, eve *end) {
				if eve.answerOf(1).Event == "ack" {
					eve.until("membership")
				}
				assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
				assert.Equal(t, "room_not_found", eve.refused("join_room", map[string]any{"room": "hall"}))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, fanout := newBacking(), memory.NewFanout()
			door := &doorway{Members: b.members, stored: make(chan struct{}), answer: make(chan struct{})}
			one := startOn(t, b, fanout.Node(), nil)
			two := startWith(t, b, fanout.Node(), chat.Config{Members: door}, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Hour })
			one.makes("ada", "hall", chat.Public)
			eve, witness := two.connect("eve"), two.connect("witness")
			witness.join("hall")
			door.armed.Store(true)
			eve.in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false)
			<-door.stored // a moment ago eve was a member who may do everything
			c.change(one)
			witness.until("membership") // the node has heard and read
			close(door.answer)
			c.then(t, eve)
		})
	}
}

// Who is taken out at the moment of joining has one answer: that they are in, or that they are not.
func TestAJoinIsAnsweredOnce(t *testing.T) {
	one := startOn(t, newBacking(), memory.NewFanout().Node(), nil)
	one.makes("ada", "hall", chat.Public)
	eve := one.connect("eve")
	for range 500 {
		var removing sync.WaitGroup
		removing.Go(func() { assert.NoError(t, one.chat.RemoveMember(t.Context(), actor("ada"), "hall", "u-eve", "")) })
		eve.ask("join_room", map[string]any{"room": "hall"})
		removing.Wait()
		eve.ask("history", map[string]any{"room": "hall"}) // which gets its own answer
	}
}

// asked holds back what was read of roles.
type asked struct {
	chat.Roles
	armed       atomic.Bool
	read, reply chan struct{}
}

func (a *asked) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	of, err := a.Roles.Of(ctx, whom...)
	if a.armed.Swap(false) {
		a.read <- struct{}{}
		<-a.reply
	}
	return of, err
}

// That somebody was removed is not told to a connection on which they are in the room again.
func TestWhoIsInAgainIsNotToldThatTheyAreOut(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	store := &asked{Roles: b.roles, read: make(chan struct{}), reply: make(chan struct{})}
	one := startOn(t, b, fanout.Node(), nil)
	two := startWith(t, b, fanout.Node(), chat.Config{Roles: store}, func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Hour })
	one.makes("ada", "hall", chat.Public)
	phone, laptop, witness := one.connect("eve"), two.connect("eve"), two.connect("witness")
	phone.join("hall")
	witness.join("hall")
	store.armed.Store(true)
	one.takesOut(actor("ada"), "hall", "eve", "")
	<-store.read // she is out
	laptop.join("hall")
	close(store.reply)
	witness.until("membership") // whoever it concerns is told before
	assert.NotContains(t, laptop.rest(), "membership")
	laptop.say("hall", "I am in")
}

// answerOf returns the answer to the event with this id.
func (e *end) answerOf(id int) envelope {
	e.t.Helper()
	e.id = max(e.id, id)
	for {
		if v := e.next(); v.ID != nil && *v.ID == id {
			return v
		}
	}
}

// Many join, leave, are made readers and are removed at once, on two nodes, one of which hears nothing. In the end everybody may do what the store says.
func TestInTheEndEverybodyMayDoWhatTheStoreSays(t *testing.T) {
	for name, bus := range map[string]func(realtime.Fanout) realtime.Fanout{
		"heard":   func(f realtime.Fanout) realtime.Fanout { return f },
		"unheard": func(f realtime.Fanout) realtime.Fanout { return unheard{f} }, // who leaves by themselves is not found elsewhere then
	} {
		leave := "leave_room"
		if name == "unheard" {
			leave = "history"
		}
		t.Run(name, func(t *testing.T) {
			const users, rounds = 6, 30
			b, fanout := newBacking(), memory.NewFanout()
			nodes := []*node{
				startOn(t, b, bus(fanout.Node()), func(c *realtime.HubConfig) { c.RestrictionsEvery = time.Millisecond }),
				startOn(t, b, bus(fanout.Node()), func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond }),
			}
			nodes[0].makes("ada", "hall", chat.Public)
			var ends [2 * users]*end
			var wg sync.WaitGroup
			for i := range ends {
				ends[i] = nodes[i%2].connect(fmt.Sprint("user", i/2))
				wg.Go(func() {
					for k := range rounds {
						if event := []string{"join_room", "join_room", leave}[(k+i)%3]; ends[i].ask(event, map[string]any{"room": "hall"}).Event == "" {
							return
						}
					}
				})
			}
			for i := range users {
				wg.Go(func() {
					id := user.ID(fmt.Sprint("u-user", i))
					for k := range rounds {
						role := []chat.Role{chat.Reader, chat.Regular, chat.Moderator, ""}[(k+i)%4]
						var err error
						if role == "" {
							err = nodes[k%2].chat.RemoveMember(t.Context(), actor("ada"), "hall", id, "")
						} else {
							_, err = nodes[k%2].chat.SetRole(t.Context(), actor("ada"), "hall", id, role)
						}
						assert.NoError(t, err)
					}
				})
			}
			wg.Wait()
			deadline := time.Now().Add(patience)
			for i, e := range ends {
				for {
					role := chat.Role("")
					of, err := b.roles.Of(t.Context(), chat.InRoom{Room: "hall", UserID: user.ID(fmt.Sprint("u-user", i/2))})
					require.NoError(t, err)
					if len(of) > 0 {
						role = of[0].Role
					}
					got := ""
					if v := e.ask("isTyping", map[string]any{"room": "hall"}); v.Error != nil {
						got = v.Error.Code
					}
					in := e.ask("presence", map[string]any{"room": "hall"}).Error == nil
					var ok bool
					switch role {
					case "":
						ok = !in && got == "not_joined"
					case chat.Reader:
						ok = !in && got == "not_joined" || in && got == "role_lacks_right" // it may have been taken out, and have been let in since on another connection
					default:
						ok = !in && got == "not_joined" || in && got == ""
					}
					if ok {
						break
					}
					require.True(t, time.Now().Before(deadline), "user %d is %q, and is answered %q", i/2, role, got)
				}
			}
		})
	}
}

func TestWhoComesBackIsWhatTheStoreSays(t *testing.T) {
	b := newBacking()
	n := startOn(t, b, memory.NewFanout().Node(), nil)
	n.makes("ada", "hall", chat.Public)
	for name, role := range map[string]chat.Role{"eve": chat.Reader, "bob": chat.Regular, "ann": chat.Regular} {
		n.gives(operator, "hall", name, role)
	}
	n.restricts(mute("hall", "u-ann"))
	for name, want := range map[string]string{"eve": "role_lacks_right", "ann": "muted", "bob": ""} {
		back := n.connect(name)
		send, err := n.Resume(t.Context(), back.in, []realtime.Place{{Room: "hall"}})
		require.NoError(t, err)
		send()
		got := ""
		if v := back.ask("message", map[string]any{"room": "hall", "text": "x"}); v.Error != nil {
			got = v.Error.Code
		}
		assert.Equal(t, want, got, name)
	}
	require.NoError(t, n.chat.DeleteRoom(t.Context(), actor("ada"), "hall"))
	_, err := n.Resume(t.Context(), n.connect("bob").in, []realtime.Place{{Room: "hall"}})
	assert.ErrorIs(t, err, realtime.ErrNotResumed)
}

// A program of before tells of restrictions in the room only.
func TestAnOlderNodeIsUnderstood(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	old := fanout.Node()
	n := startOn(t, b, fanout.Node(), nil)
	eve := n.connect("eve")
	eve.join("hall")
	tell := func(kind realtime.SignalKind, room, data string) {
		t.Helper()
		require.NoError(t, old.Publish(t.Context(), realtime.Signal{Kind: kind, Room: room, Node: "old", User: chat.Author{ID: "u-eve"}, Data: data}))
	}
	_, err := b.restrictions.Put(t.Context(), chat.Restriction{Room: "hall", UserID: "u-eve", Kind: chat.Mute, By: "u-ada", At: time.UnixMicro(1)})
	require.NoError(t, err)
	tell(realtime.SignalRestricted, "hall", `{"kind":"mute","by":"u-ada","at":1}`)
	assert.JSONEq(t, is("hall", "eve", "member", `,"mutedUntil":"9999-12-31T23:59:59.000000Z","by":"u-ada"`), string(eve.until("membership").Data))
	tell(realtime.SignalMembership, "hall", `{"room":"hall"}`) // nobody says it there
	tell(realtime.SignalKind(200), "hall", "")
	tell(realtime.SignalRestricted, "hall", `no JSON`)
	tell(realtime.SignalRestricted, "hall", `{"kind":"ban","by":"u-ada","at":2}`)
	assert.JSONEq(t, is("hall", "eve", "", `,"by":"u-ada"`), string(eve.until("membership").Data))
}

// That somebody has left elsewhere is not found at once by a node that hears nothing. It learns of it by refusing them.
func TestWhoIsRefusedToJoinAgainIsOut(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, unheard{fanout.Node()}, nil), startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Hour })
	one.makes("ada", "den", chat.Private)
	one.gives(actor("ada"), "den", "eve", chat.Regular)
	eve := two.connect("eve")
	eve.join("den")
	require.NoError(t, one.chat.Quit(t.Context(), actor("eve").Author, "den"))
	assert.Equal(t, "room_not_found", eve.refused("join_room", map[string]any{"room": "den"}))
	assert.JSONEq(t, is("den", "eve", "", ""), string(eve.until("membership").Data))
	assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "den", "text": "x"}))
}

// Who is removed while they join is told so, and then that they may not join.
func TestWhoIsRemovedWhileTheyJoinIsTold(t *testing.T) {
	b := newBacking()
	slow := &hesitant{Restrictions: b.restrictions, asked: make(chan struct{}), answer: make(chan struct{})}
	slow.once.Do(func() {})
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Restrictions: slow}, nil)
	n.makes("ada", "den", chat.Private)
	eve := n.connect("eve")
	eve.refused("history", map[string]any{"room": "den"}) // the hub knows of her now
	n.gives(actor("ada"), "den", "eve", chat.Regular)
	eve.heardOf("u-eve")
	slow.mu.Lock()
	slow.once = sync.Once{}
	slow.mu.Unlock()
	eve.id++
	eve.in.Receive(fmt.Appendf(nil, `{"id":%d,"event":"join_room","data":{"room":"den"}}`, eve.id), false)
	<-slow.asked
	n.takesOut(operator, "den", "eve", "")
	assert.JSONEq(t, is("den", "eve", "", `,"by":"system"`), string(eve.heardOf("u-eve").Data))
	close(slow.answer)
	assert.Equal(t, "room_not_found", eve.until("error").Error.Code)
}
