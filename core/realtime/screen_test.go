package realtime_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
)

// What the screen refuses reaches nobody, and its sender has the reason; what it changes reaches everybody changed.
func TestScreenedMessages(t *testing.T) {
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{Screen: chat.ScreenFunc(func(_ context.Context, d chat.Draft) (chat.Draft, error) {
		if strings.Contains(d.Text, "spam") {
			return d, chat.ErrRefused.Detail("no advertising")
		}
		d.Text = strings.ReplaceAll(d.Text, "darn", "****")
		return d, nil
	})}, nil)
	ada, eve := n.connect("ada"), n.connect("eve")
	ada.join("hall")
	eve.join("hall")
	eve.rest()
	v := ada.ask("message", map[string]any{"room": "hall", "text": "buy spam", "clientId": "c1"})
	require.Equal(t, "error", v.Event)
	assert.Equal(t, "message_refused", v.Error.Code)
	assert.Equal(t, "no advertising", v.Error.Detail)
	ada.ask("message", map[string]any{"room": "hall", "text": "oh, darn", "clientId": "c2"})
	for _, e := range []*end{ada, eve} {
		var got wireMessage
		require.NoError(t, json.Unmarshal(e.until("message").Data, &got))
		assert.EqualValues(t, 1, got.Seq)
		assert.Equal(t, "oh, ****", got.Text)
	}
	_, err := n.chat.Send(t.Context(), chat.Draft{Room: "hall", Author: chat.Author{ID: "bot"}, Text: "spam"})
	require.ErrorIs(t, err, chat.ErrRefused, "also what the server says itself")
}

// While one sender's message is judged, others talk, join and leave, and what the sender said after it waits its turn.
func TestASlowScreenHoldsUpNobodyElse(t *testing.T) {
	judging, verdict := make(chan struct{}), make(chan struct{})
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{Screen: chat.ScreenFunc(func(ctx context.Context, d chat.Draft) (chat.Draft, error) {
		if d.Text == "slow" {
			close(judging)
			select {
			case <-verdict:
			case <-ctx.Done():
			}
		}
		return d, nil
	}), ScreenTimeout: patience}, nil)
	ada, eve := n.connect("ada"), n.connect("eve")
	ada.join("hall")
	eve.join("hall")
	for _, text := range []string{"slow", "second", "third"} {
		payload, err := json.Marshal(map[string]any{"event": "message", "data": map[string]any{"room": "hall", "text": text}})
		require.NoError(t, err)
		ada.in.Receive(payload, false)
	}
	<-judging
	text := func(e *end) string {
		var got wireMessage
		require.NoError(t, json.Unmarshal(e.until("message").Data, &got))
		return got.Text
	}
	eve.say("hall", "mine")
	for _, e := range []*end{ada, eve} {
		assert.Equal(t, "mine", text(e), "it comes to who waits, too")
	}
	eve.join("other")
	bob := n.connect("bob")
	bob.join("hall")
	close(verdict)
	for _, e := range []*end{ada, eve, bob} {
		for _, want := range []string{"slow", "second", "third"} {
			assert.Equal(t, want, text(e))
		}
	}
}
