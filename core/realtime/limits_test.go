package realtime_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

func TestRoomsOfAConnectionAreBounded(t *testing.T) {
	n := start(t, func(c *realtime.HubConfig) { c.MaxRooms = 3 })
	ada := n.connect("ada")
	for i := range 3 {
		ada.join(fmt.Sprint("r", i))
	}
	ada.join("r0") // again is no further room
	assert.Equal(t, "too_many_rooms", ada.ask("join_room", map[string]any{"room": "r3"}).Error.Code)
	ada.ask("leave_room", map[string]any{"room": "r1"})
	ada.join("r3")
}

func TestASlowReaderIsShedThenClosedAndBlocksNobody(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxQueued = 1000; cfg.Now = c.now })
	slow, fast, ada := n.connect("slow"), n.connect("fast"), n.connect("ada")
	for _, e := range []*end{slow, fast, ada} {
		e.join("hall")
	}
	slow.queued.Store(251) // more than a quarter
	ada.emit("isTyping", map[string]any{"room": "hall"})
	assert.Equal(t, "isTyping", fast.until("isTyping").Event)
	ada.say("hall", "x")
	fast.until("message")
	for {
		v := slow.next()
		assert.NotEqual(t, "isTyping", v.Event, "typing is shed")
		if v.Event == "message" {
			break
		}
	}
	slow.queued.Store(990)
	ada.say("hall", "y")
	slow.closedWith(socket.CloseSlow)
	fast.until("message")
	ada.say("hall", "z")
	fast.until("message")
}

func TestAFrameLargerThanTheLimitPassesAnIdleConnection(t *testing.T) {
	n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxQueued = 500 })
	ada := n.connect("ada")
	ada.join("hall")
	for range 10 {
		ada.say("hall", strings.Repeat("x", 100))
	}
	assert.Len(t, n.connect("bob").join("hall").Messages, 10)
}

func TestTooFast(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Rate, cfg.Burst, cfg.Now = 10, 5, c.now })
	ada := n.connect("ada")
	ada.join("hall")
	for range 4 {
		ada.say("hall", "x")
	}
	c.advance(100 * time.Millisecond) // one more is due
	ada.say("hall", "x")
	ada.emit("message", map[string]any{"room": "hall", "text": "x"})
	ada.closedWith(socket.CloseTooFast)
}

// TestAClockThatGoesBackClosesNobody: it is no flood of events, and the rate holds afterwards.
func TestAClockThatGoesBackClosesNobody(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Rate, cfg.Burst, cfg.Now = 10, 5, c.now })
	ada := n.connect("ada")
	c.advance(time.Hour)
	ada.join("hall")
	ada.say("hall", "x")
	c.advance(-30 * time.Minute)
	for range 5 {
		ada.say("hall", "x")
	}
	ada.emit("message", map[string]any{"room": "hall", "text": "x"})
	ada.closedWith(socket.CloseTooFast)
}

func TestTooManyWaitingCommands(t *testing.T) {
	gate := make(chan struct{})
	n := start(t, func(cfg *realtime.HubConfig) {
		cfg.MaxWaiting = 4
		cfg.Presence = gated{cfg.Presence, gate}
	})
	defer close(gate)
	ada := n.connect("ada")
	ada.emit("join_room", map[string]any{"room": "hall"})
	for range 5 {
		ada.emit("history", map[string]any{"room": "hall"})
	}
	ada.closedWith(socket.CloseTooFast)
}

type gated struct {
	realtime.Presence
	gate chan struct{}
}

func (g gated) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	<-g.gate
	return g.Presence.Enter(ctx, now, node, room, who)
}

func TestConnectionsAreBounded(t *testing.T) {
	n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxConnections = 1 })
	ada := n.connect("ada")
	_, err := n.Accept(newConn(), socket.Hello{})
	assert.ErrorIs(t, err, realtime.ErrFull)
	ada.gone()
	n.connect("bob")
}
