package realtime_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
)

// Whoever comes back after messages were removed by age is told so if they missed one of them, and only then; on the node that removed them and on others.
func TestComingBackAfterARemoval(t *testing.T) {
	t.Parallel()
	b, f := newBacking(), memory.NewFanout()
	here := startWith(t, b, f.Node(), chat.Config{Pruner: memory.NewPruner(b.messages, nil, nil, nil)}, nil)
	there := startWith(t, b, f.Node(), chat.Config{Pruner: memory.NewPruner(b.messages, nil, nil, nil)}, nil)
	ada, bob := here.connect("ada"), there.connect("bob")
	ada.join("hall")
	bob.join("hall")
	for i := range 30 {
		ada.say("hall", fmt.Sprint("m", i+1))
	}
	bob.toldOf("hall", 30)
	for _, seq := range []int{2, 25} {
		ada.rev("edit", hall(seq, "text", "edited"))
		bob.changed()
	}
	removed, err := here.chat.Prune(t.Context(), "hall", time.Now().Add(time.Hour), 20)
	require.NoError(t, err)
	require.Equal(t, 20, removed)
	fresh := startWith(t, b, f.Node(), chat.Config{Pruner: memory.NewPruner(b.messages, nil, nil, nil)}, nil)
	for node, n := range map[string]*node{"here": here, "fresh": fresh} {
		for i, c := range []struct {
			since     int
			recovered bool
			first     uint64
		}{{0, false, 21}, {5, false, 21}, {19, false, 21}, {20, true, 21}, {24, true, 25}, {30, true, 0}} {
			v := n.connect(fmt.Sprint(node, i)).ask("join_room", map[string]any{"room": "hall", "since": c.since, "rev": 0})
			require.Equal(t, "ack", v.Event)
			var a joinAck
			require.NoError(t, json.Unmarshal(v.Data, &a))
			assert.Equal(t, c.recovered, a.Recovered, "%s: since %d", node, c.since)
			assert.EqualValues(t, 30, a.Seq)
			assert.EqualValues(t, 2, a.Rev, "the change of what is gone counts, and is not told")
			for _, m := range a.Changes {
				assert.EqualValues(t, 25, m.Seq)
			}
			if c.first > 0 {
				require.NotEmpty(t, a.Messages)
				assert.Equal(t, c.first, a.Messages[0].Seq)
			} else {
				assert.Empty(t, a.Messages)
			}
		}
	}

	// Those who are there go on as before.
	for _, e := range []*end{ada, bob} {
		v := e.ask("edit", hall(20, "text", "no"))
		require.NotNil(t, v.Error)
		assert.Equal(t, "message_not_found", v.Error.Code)
		v = e.ask("message", map[string]any{"room": "hall", "text": "no", "replyTo": 20})
		require.NotNil(t, v.Error)
		assert.Equal(t, "reply_to_invalid", v.Error.Code)
		v = e.ask("history", map[string]any{"room": "hall", "before": 21})
		assert.JSONEq(t, `{"messages":[],"more":false}`, string(v.Data))
		v = e.ask("mark", map[string]any{"room": "hall", "read": 3})
		require.Nil(t, v.Error)
	}
	ada.say("hall", "m31")
	assert.Equal(t, []uint64{31}, bob.toldOf("hall", 31))
	ada.rev("edit", hall(30, "text", "edited"))
	assert.EqualValues(t, 3, bob.changed().Rev)
}

// Changes whose messages are gone leave nobody waiting for them: those who listen, and those who come.
func TestChangesOfWhatIsGoneAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBacking()
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Pruner: memory.NewPruner(b.messages, nil, nil, nil)}, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for range 5 {
		ada.say("hall", "x")
	}
	// Behind the hub's back, as by a node whose signals are lost.
	for seq := range uint64(4) {
		_, err := b.messages.Change(t.Context(), []chat.Change{{Kind: chat.Edit, Any: true, Room: "hall", Seq: seq + 1, Text: "y", At: time.Now()}})
		require.NoError(t, err)
	}
	_, err := b.messages.Prune(t.Context(), "hall", 4)
	require.NoError(t, err)
	ada.rev("edit", hall(5, "text", "z"))
	assert.EqualValues(t, 4, ada.changed().Rev, "of those that were missed one is there")
	assert.EqualValues(t, 5, ada.changed().Rev)
}
