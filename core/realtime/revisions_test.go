package realtime_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
)

// changed returns the next message that was changed.
func (e *end) changed() (m wireMessage) {
	e.t.Helper()
	require.NoError(e.t, json.Unmarshal(e.until("changed").Data, &m))
	return m
}

// rev asks for a change and returns the Rev of its answer.
func (e *end) rev(event string, data map[string]any) uint64 {
	e.t.Helper()
	v := e.ask(event, data)
	require.Equal(e.t, "ack", v.Event, "%+v", v.Error)
	var a struct{ Rev, Seq uint64 }
	require.NoError(e.t, json.Unmarshal(v.Data, &a))
	require.EqualValues(e.t, data["seq"], a.Seq)
	return a.Rev
}

func hall(seq int, more ...any) map[string]any {
	data := map[string]any{"room": "hall", "seq": seq}
	for i := 0; i < len(more); i += 2 {
		data[more[i].(string)] = more[i+1]
	}
	return data
}

// Edits, deletions and reactions reach everybody in the room as the whole message, and its sender has an answer.
func TestMessagesChange(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	first := ada.say("hall", "helo")
	ada.ask("message", map[string]any{"room": "hall", "text": "world", "data": map[string]any{"a": 1}, "replyTo": 1})

	assert.EqualValues(t, 1, ada.rev("edit", hall(1, "text", "hello", "data", map[string]any{"b": 2})))
	for _, e := range []*end{ada, bob} {
		m := e.changed()
		assert.NotZero(t, m.EditedAt)
		m.EditedAt, m.At = first.At, first.At
		assert.Equal(t, wireMessage{
			Room: "hall", Seq: 1, Rev: 1, ID: first.ID, Text: "hello", Data: json.RawMessage(`{"b":2}`), At: first.At, EditedAt: first.At,
			User: struct{ ID, Name string }{"u-ada", "ada"},
		}, m)
	}
	assert.EqualValues(t, 2, bob.rev("react", hall(2, "key", "+1")))
	assert.EqualValues(t, 3, ada.rev("react", hall(2, "key", "+1")))
	assert.EqualValues(t, 3, ada.rev("react", hall(2, "key", "+1")), "a repetition has the rev that was last")
	assert.EqualValues(t, 1, bob.changed().Reactions[0].Count)
	assert.Equal(t, []wireReaction{{"+1", 2, []string{"u-bob", "u-ada"}}}, bob.changed().Reactions)
	assert.EqualValues(t, 4, bob.rev("react", hall(2, "key", "+1", "on", false)))
	assert.Equal(t, []wireReaction{{"+1", 1, []string{"u-ada"}}}, bob.changed().Reactions)
	assert.EqualValues(t, 5, ada.rev("delete", hall(2)))
	gone := bob.changed()
	assert.EqualValues(t, 5, gone.Rev)
	assert.NotZero(t, gone.DeletedAt)
	assert.Zero(t, gone.Text+string(gone.Data))
	assert.Zero(t, gone.ReplyTo)
	assert.Empty(t, gone.Reactions)
	assert.EqualValues(t, 5, ada.rev("delete", hall(2)), "twice is once")

	for _, c := range []struct {
		who   *end
		event string
		data  map[string]any
		code  string
	}{
		{bob, "edit", hall(1, "text", "mine"), "not_allowed"},
		{bob, "delete", hall(1), "not_allowed"},
		{ada, "edit", hall(2, "text", "back"), "message_deleted"},
		{ada, "react", hall(2, "key", "+1"), "message_deleted"},
		{ada, "edit", hall(3, "text", "x"), "message_not_found"},
		{ada, "react", hall(1<<53-1, "key", "x"), "message_not_found"},
		{ada, "edit", hall(1, "text", " "), "text_invalid"},
		{ada, "react", hall(1, "key", " "), "reaction_invalid"},
		{n.connect("eve"), "delete", hall(1), "not_joined"},
	} {
		v := c.who.ask(c.event, c.data)
		require.Equal(t, "error", v.Event, "%v", c)
		assert.Equal(t, c.code, v.Error.Code, "%v", c)
	}
	assert.EqualValues(t, 6, ada.rev("edit", hall(1, "text", "still here")), "nothing of it has counted, and everybody is connected")
	assert.Equal(t, "still here", bob.changed().Text)
}

// What the server changes by itself reaches everybody in the same way, on every node.
func TestTheServerChangesMessages(t *testing.T) {
	b, f := newBacking(), memory.NewFanout()
	here, there := startOn(t, b, f.Node(), nil), startOn(t, b, f.Node(), nil)
	ada, bob := here.connect("ada"), there.connect("bob")
	ada.join("hall")
	bob.join("hall")
	ada.say("hall", "rude")
	bob.until("message")
	change := chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: chat.Author{ID: "moderator"}}
	_, err := there.chat.Change(t.Context(), change)
	require.ErrorIs(t, err, chat.ErrNotAllowed)
	change.Any = true
	done, err := here.chat.Change(t.Context(), change)
	require.NoError(t, err)
	assert.EqualValues(t, 1, done.Rev)
	assert.Empty(t, ada.changed().Text)
	assert.Empty(t, bob.changed().Text)
}

// Whoever comes back has every change that it missed once, as the message is now, in pages.
func TestComingBackToChanges(t *testing.T) {
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{MaxPage: 3}, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for range 9 {
		ada.say("hall", "x")
	}
	for _, seq := range []int{1, 2, 3, 4, 5, 1, 9} { // 1 twice; 9 is not known to whoever comes back
		ada.rev("edit", hall(seq, "text", strings.Repeat("y", seq)+"!"+string(rune('a'+ada.id))))
	}
	back := n.connect("bob")
	ask := func(data map[string]any) (a joinAck) {
		t.Helper()
		v := back.ask("join_room", data)
		require.Equal(t, "ack", v.Event)
		require.NoError(t, json.Unmarshal(v.Data, &a))
		return a
	}
	revs := func(all []wireMessage) (revs []uint64) {
		for _, m := range all {
			revs = append(revs, m.Rev)
		}
		return revs
	}
	a := ask(map[string]any{"room": "hall", "since": 8, "rev": 0})
	assert.EqualValues(t, 7, a.Rev)
	assert.True(t, a.Recovered)
	assert.Equal(t, []uint64{7}, revs(a.Messages), "it comes as it is now")
	assert.Equal(t, []uint64{2, 3, 4}, revs(a.Changes))
	v := back.ask("history", map[string]any{"room": "hall", "changedAfter": 4})
	var page struct {
		Messages []wireMessage
		More     bool
	}
	require.NoError(t, json.Unmarshal(v.Data, &page))
	assert.Equal(t, []uint64{5, 6, 7}, revs(page.Messages))
	assert.False(t, page.More)

	a = ask(map[string]any{"room": "hall", "since": 9, "rev": 7})
	assert.True(t, a.Recovered)
	assert.NotNil(t, a.Changes)
	assert.Empty(t, a.Changes)
	a = ask(map[string]any{"room": "hall", "since": 9, "rev": 8})
	assert.False(t, a.Recovered, "it remembers a change that the room never had")
	a = ask(map[string]any{"room": "hall", "since": 9})
	assert.True(t, a.Recovered)
	assert.Nil(t, a.Changes, "who does not ask for changes gets none")
	assert.EqualValues(t, 7, a.Rev)
}

// forgetful is a fan-out that loses changes while it is told to.
type forgetful struct {
	realtime.Fanout
	loses atomic.Bool
	kind  realtime.SignalKind
}

func (d *forgetful) Publish(ctx context.Context, s realtime.Signal) error {
	if d.loses.Load() && s.Kind == d.kind {
		return nil
	}
	return d.Fanout.Publish(ctx, s)
}

// What was lost on the way is read from the store when a later change comes.
func TestLostChangesAreRead(t *testing.T) {
	d := &forgetful{Fanout: memory.NewFanout().Node(), kind: realtime.SignalChanged}
	n := startOn(t, newBacking(), d, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	ada.say("hall", "one")
	ada.say("hall", "two")
	d.loses.Store(true)
	ada.rev("edit", hall(1, "text", "uno"))
	ada.rev("edit", hall(1, "text", "un"))
	ada.rev("edit", hall(2, "text", "dos"))
	d.loses.Store(false)
	ada.rev("react", hall(2, "key", "+1"))
	m := bob.changed()
	assert.EqualValues(t, 2, m.Rev, "what was overtaken does not come")
	assert.Equal(t, "un", m.Text)
	m = bob.changed()
	assert.EqualValues(t, 4, m.Rev)
	assert.Equal(t, "dos", m.Text)
	assert.Len(t, m.Reactions, 1)
	ada.rev("edit", hall(1, "text", "on"))
	assert.EqualValues(t, 5, bob.changed().Rev)
}

// A change is told behind its message, also where the message was lost on the way.
func TestAChangeWaitsForItsMessage(t *testing.T) {
	d := &forgetful{Fanout: memory.NewFanout().Node(), kind: realtime.SignalMessage}
	n := startOn(t, newBacking(), d, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	bob.rest()
	d.loses.Store(true)
	for _, text := range []string{"one", "two"} {
		require.Equal(t, "ack", ada.ask("message", map[string]any{"room": "hall", "text": text}).Event)
	}
	ada.rev("edit", hall(2, "text", "dos"))
	assert.Equal(t, "1", seqOf(t, bob.until("message")))
	assert.Equal(t, "2", seqOf(t, bob.until("message")))
	assert.Equal(t, "dos", bob.changed().Text)
}

// Nodes may be heard in another order than that of their changes.
func TestChangesAreToldInTheirOrder(t *testing.T) {
	b, f := newBacking(), memory.NewFanout()
	n, other := startOn(t, b, f.Node(), nil), f.Node()
	bob := n.connect("bob")
	for range 4 {
		bob.join("hall")
		bob.say("hall", "x")
	}
	changes := make([]chat.Change, 4)
	for i := range changes {
		changes[i] = chat.Change{Kind: chat.React, Room: "hall", Seq: uint64(i + 1), By: chat.Author{ID: "u-eve"}, Key: "+1"}
	}
	done, err := b.messages.Change(t.Context(), changes)
	require.NoError(t, err)
	for _, at := range []int{2, 1, 3, 0, 2} {
		require.NoError(t, other.Publish(t.Context(), realtime.Signal{Kind: realtime.SignalChanged, Room: "hall", Message: done[at].Message}))
	}
	for rev := range uint64(4) {
		assert.Equal(t, rev+1, bob.changed().Rev)
	}
}
