package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// rest returns the events that a connection has got and nobody has read.
func (e *end) rest() []string {
	var events []string
	for {
		select {
		case f := <-e.frames:
			var got envelope
			require.NoError(e.t, json.Unmarshal(f.Payload(), &got))
			events = append(events, got.Event)
		default:
			return events
		}
	}
}

// refused sends what has to be refused, and returns the code of the error.
func (e *end) refused(event string, data any) string {
	e.t.Helper()
	v := e.ask(event, data)
	require.NotNil(e.t, v.Error, "%s was answered: %s", event, v.Data)
	return v.Error.Code
}

// done sends what has to go well.
func (e *end) done(event string, data any) {
	e.t.Helper()
	v := e.ask(event, data)
	require.Nil(e.t, v.Error, "%s was refused", event)
}

func TestWhoIsRemovedHearsNothingMoreOnAnyNode(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node = "two" })
	ada, bob := one.connect("ada"), two.connect("bob")
	phone, laptop := one.connect("eve"), two.connect("eve")
	for _, e := range []*end{ada, bob, phone, laptop} {
		e.join("hall")
	}
	laptop.join("garden")
	ada.until("joined")
	require.NoError(t, one.Remove(t.Context(), "hall", "u-eve"))

	for _, e := range []*end{phone, laptop} {
		assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"},"role":null}`, string(e.until("membership").Data))
	}
	for _, e := range []*end{ada, bob} {
		assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"}}`, string(e.until("left").Data), "the others learn it once the last connection is out")
	}
	ada.say("hall", "is she gone?")
	ada.until("message")
	bob.until("message")
	assert.Empty(t, phone.rest())
	assert.Empty(t, laptop.rest())
	for _, e := range []*end{phone, laptop} {
		assert.Equal(t, "not_joined", e.refused("message", map[string]any{"room": "hall", "text": "I am still here"}))
		assert.Equal(t, "not_joined", e.refused("history", map[string]any{"room": "hall"}))
	}
	users, count, err := b.presence.List(t.Context(), time.Now(), "hall", 10)
	require.NoError(t, err)
	assert.Equal(t, 2, count, "%v", users)
	has, err := b.members.Has(t.Context(), "hall", "u-eve")
	require.NoError(t, err)
	assert.False(t, has)
	laptop.say("garden", "another room goes on")
	laptop.join("hall") // nothing forbids it
	assert.NoError(t, one.Remove(t.Context(), "hall", "u-nobody"), "removing nobody is no error")
	assert.ErrorIs(t, one.Remove(t.Context(), "", "u-eve"), chat.ErrRoomInvalid)
}

// gatekeeper is an Access that a test changes.
type gatekeeper struct {
	asked func(chat.Action) // before it answers

	mu      sync.Mutex
	refused user.ID
	failing chan struct{} // while not nil, it fails, and says so here
}

func (g *gatekeeper) May(_ context.Context, who chat.Author, what chat.Action, _ string) error {
	if g.asked != nil {
		g.asked(what)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.failing != nil:
		select {
		case g.failing <- struct{}{}:
		default:
		}
		return fault.Wrap(fault.Unavailable, errors.New("the directory is away"))
	case who.ID == g.refused:
		return chat.ErrNotAllowed
	}
	return nil
}

// fail makes it fail, and returns what tells of the next n questions.
func (g *gatekeeper) fail(n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failing = make(chan struct{}, n)
	return g.failing
}

func (g *gatekeeper) refuse(id user.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failing, g.refused = nil, id
}

func TestWhoIsRemovedWhileComingInDoesNotGetIn(t *testing.T) {
	b := newBacking()
	asking, removed := make(chan struct{}), make(chan struct{})
	access := &gatekeeper{}
	var once sync.Once
	access.asked = func(what chat.Action) {
		if what == chat.ActionJoin {
			once.Do(func() { close(asking); <-removed }) // the answer was yes a moment ago
		}
	}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Access: access}, nil)
	eve := n.connect("eve")
	eve.in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false)
	<-asking
	require.NoError(t, n.Remove(t.Context(), "hall", "u-eve"))
	close(removed)
	eve.until("membership")
	v := eve.until("error")
	assert.Equal(t, "removed", v.Error.Code)
	eve.id = 1
	has, err := b.members.Has(t.Context(), "hall", "u-eve")
	require.NoError(t, err)
	assert.False(t, has, "the membership that was stored meanwhile is gone")
	assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
}

func TestAccessIsAskedAgain(t *testing.T) {
	access := &gatekeeper{}
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{Access: access}, func(c *realtime.HubConfig) { c.AccessEvery = time.Millisecond })
	ada, eve := n.connect("ada"), n.connect("eve")
	ada.join("hall")
	eve.join("hall")
	// Who cannot be asked about stays.
	asked := access.fail(4)
	for range 4 {
		<-asked
	}
	assert.NotContains(t, eve.rest(), "membership")
	access.refuse("u-eve")
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"},"role":null}`, string(eve.until("membership").Data))
	ada.until("left")
	ada.say("hall", "only for those who may")
	ada.until("message")
	assert.Empty(t, eve.rest())
}

func TestWhatTheServerSaysIsHeard(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node = "two" })
	ada := two.connect("ada")
	ada.join("hall")
	stored, err := one.chat.Send(t.Context(), chat.Draft{Room: "hall", ClientID: "c1", Author: chat.Author{ID: "bot", Name: "Bot"}, Text: "Welcome."})
	require.NoError(t, err)
	var got wireMessage
	require.NoError(t, json.Unmarshal(ada.until("message").Data, &got))
	assert.EqualValues(t, 1, got.Seq)
	assert.Equal(t, "Welcome.", got.Text)
	assert.Equal(t, "bot", got.User.ID)
	again, err := one.chat.Send(t.Context(), chat.Draft{Room: "hall", ClientID: "c1", Author: chat.Author{ID: "bot", Name: "Bot"}, Text: "Welcome."})
	require.NoError(t, err)
	assert.Equal(t, stored.ID, again.ID)
	ada.say("hall", "thanks")
	require.NoError(t, json.Unmarshal(ada.until("message").Data, &got))
	assert.EqualValues(t, 2, got.Seq, "sending again is heard once")
}

func TestANameIsOneRoomHoweverItIsTyped(t *testing.T) {
	composed, decomposed := "café", "cafe\u0301"
	b := newBacking()
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Normalize: norm.NFC.String}, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	assert.Equal(t, composed, ada.join(decomposed).Room)
	bob.join(composed)
	bob.say(composed, "hello")
	var got wireMessage
	require.NoError(t, json.Unmarshal(ada.until("message").Data, &got))
	assert.Equal(t, composed, got.Room)
	assert.Equal(t, composed, ada.say(decomposed, "hello back").Room)
	ada.done("isTyping", map[string]any{"room": decomposed})
	ada.done("history", map[string]any{"room": decomposed})
	ada.done("presence", map[string]any{"room": decomposed})
	ada.done("leave_room", map[string]any{"room": decomposed})
	assert.Equal(t, "not_joined", ada.refused("history", map[string]any{"room": composed}))

	t.Run("a room of before keeps its name", func(t *testing.T) {
		old := "re\u0301sume\u0301"
		_, err := b.rooms.Ensure(t.Context(), chat.Room{Name: old})
		require.NoError(t, err)
		assert.Equal(t, old, ada.join(old).Room)
		assert.Equal(t, norm.NFC.String(old), bob.join(norm.NFC.String(old)).Room, "as before, it is another one")
		assert.EqualValues(t, 1, ada.say(old, "still here").Seq)
		assert.EqualValues(t, 1, bob.say(norm.NFC.String(old), "mine").Seq)
	})
	t.Run("a name whose normal form is too long", func(t *testing.T) {
		assert.Equal(t, "room_invalid", ada.refused("join_room", map[string]any{"room": strings.Repeat("\u0958", 60)}))
	})
}

func TestATextNobodyCanSeeIsAnError(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for _, text := range []string{" ", "\n\n", "\u200b", "\u3164\u00a0"} {
		assert.Equal(t, "text_invalid", ada.refused("message", map[string]any{"room": "hall", "text": text}), "%+q", text)
	}
	assert.EqualValues(t, 1, ada.say("hall", "می\u200cخواهم 👩\u200d💻").Seq)
}

// Whoever waits to be let in keeps nothing of what is said meanwhile: it is in the page that they read then.
func TestAJoinThatTakesLongHoldsNothing(t *testing.T) {
	asking, answer := make(chan struct{}), make(chan struct{})
	access := &gatekeeper{}
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{Access: access}, func(c *realtime.HubConfig) { c.MaxBacklog = 16 })
	ada, eve := n.connect("ada"), n.connect("eve")
	ada.join("hall")
	var once sync.Once
	access.asked = func(what chat.Action) {
		if what == chat.ActionJoin {
			once.Do(func() { close(asking); <-answer })
		}
	}
	eve.in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall","since":0}}`), false)
	<-asking
	const said = 50
	for range said {
		ada.say("hall", "x")
		ada.until("message")
	}
	close(answer)
	v := eve.until("ack")
	var got joinAck
	require.NoError(t, json.Unmarshal(v.Data, &got))
	assert.EqualValues(t, said, got.Seq)
	assert.Len(t, got.Messages, said)
	ada.say("hall", "and on")
	assert.Equal(t, "51", seqOf(t, eve.until("message")))
}
