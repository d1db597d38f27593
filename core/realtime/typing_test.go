package realtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/realtime"
)

func TestTyping(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) {
		cfg.Now = c.now
		cfg.TypingTTL = 40 * time.Millisecond // by the hand-set clock; the sweep runs a quarter of that
		cfg.TypingEvery = time.Second
	})
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	ada.until("joined")
	typing := func(e *end) string { t.Helper(); return string(e.until("isTyping").Data) }
	const yes, no = `{"room":"hall","user":{"id":"u-bob","name":"bob"},"typing":true}`, `{"room":"hall","user":{"id":"u-bob","name":"bob"},"typing":false}`

	bob.emit("isTyping", map[string]any{"room": "hall"})
	assert.JSONEq(t, yes, typing(ada), "typing is true unless given")
	c.advance(41 * time.Millisecond)
	assert.JSONEq(t, no, typing(ada), "it expires by itself")

	c.advance(time.Second)
	bob.emit("isTyping", map[string]any{"room": "hall", "typing": true})
	assert.JSONEq(t, yes, typing(ada))
	bob.emit("isTyping", map[string]any{"room": "hall", "typing": false})
	assert.JSONEq(t, no, typing(ada))
	for range 50 { // too often: no effect
		bob.emit("isTyping", map[string]any{"room": "hall", "typing": true})
		bob.emit("isTyping", map[string]any{"room": "hall", "typing": false})
	}
	c.advance(time.Second)
	bob.emit("isTyping", map[string]any{"room": "hall"})
	assert.JSONEq(t, yes, typing(ada))
	bob.say("hall", "done")
	assert.JSONEq(t, no, typing(ada), "a message ends typing")
	assert.Equal(t, "message", ada.next().Event)

	c.advance(time.Second)
	bob.emit("isTyping", map[string]any{"room": "hall"})
	assert.JSONEq(t, yes, typing(ada))
	bob.gone()
	assert.JSONEq(t, no, typing(ada), "so does leaving")
	for len(ada.frames) > 0 {
		assert.NotEqual(t, "isTyping", ada.next().Event)
	}
}

// late holds typing back until it is let go.
type late struct {
	realtime.Fanout
	held chan realtime.Signal
}

func (l late) Publish(ctx context.Context, s realtime.Signal) error {
	if s.Kind == realtime.SignalTyping && s.Typing {
		l.held <- s
		return nil
	}
	return l.Fanout.Publish(ctx, s)
}

func TestTheEndOfTypingIsNotLostWhenItsBeginningIsLate(t *testing.T) {
	c := newClock()
	l := late{memory.NewFanout().Node(), make(chan realtime.Signal, 1)}
	swept := make(chan struct{}, 1)
	n := startOn(t, newBacking(), l, func(cfg *realtime.HubConfig) {
		cfg.Now = func() time.Time {
			select {
			case swept <- struct{}{}:
			default:
			}
			return c.now()
		}
		cfg.TypingTTL, cfg.TypingEvery = 40*time.Millisecond, time.Millisecond
	})
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	bob.emit("isTyping", map[string]any{"room": "hall"})
	s := <-l.held
	c.advance(10 * time.Millisecond)
	for range 20 { // the clock is read at each sweep, and by little else now
		<-swept
	}
	require.NoError(t, l.Fanout.Publish(t.Context(), s))
	assert.Contains(t, string(ada.until("isTyping").Data), `"typing":true`)
	bob.emit("isTyping", map[string]any{"room": "hall", "typing": false})
	assert.Contains(t, string(ada.until("isTyping").Data), `"typing":false`)
}
