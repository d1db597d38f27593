package realtime_test

import (
	"context"
	"slices"
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

// silent is a People that does not answer.
type silent struct{}

func (silent) Named(ctx context.Context, _ ...user.ID) ([]chat.Author, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Accounts that do not answer keep nobody in a room: what is told waits for a name, and not for long.
func TestNobodyStaysInARoomBecauseANameIsLate(t *testing.T) {
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{People: silent{}}, func(c *realtime.HubConfig) { c.CommandTimeout = time.Hour })
	n.makes("ada", "hall", chat.Public)
	eve := n.connect("eve")
	eve.join("hall")
	n.gives(actor("ada"), "hall", "nobody", chat.Reader) // nobody here knows the name
	eve.until("membership")
	n.takesOut(actor("ada"), "hall", "eve", "")
	assert.JSONEq(t, is("hall", "eve", "", `,"by":"u-ada"`), string(eve.until("membership").Data))
	assert.Equal(t, "not_joined", eve.refused("history", map[string]any{"room": "hall"}))
}

// lateReads are a store and a Presence that answer when they are let, once they are armed.
type lateReads struct {
	chat.MessageStore
	realtime.Presence
	armed        *atomic.Bool
	asked, reply chan struct{}
}

func (l lateReads) wait() {
	if l.armed.Load() {
		l.asked <- struct{}{}
		<-l.reply
	}
}

type lateStore struct{ lateReads }

func (l lateStore) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	l.wait()
	return l.MessageStore.List(ctx, room, r)
}

type latePresence struct{ lateReads }

func (l latePresence) List(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
	l.wait()
	return l.Presence.List(ctx, now, room, limit)
}

// Who is taken out while they ask is not given what was read after that.
func TestWhoIsTakenOutWhileTheyAskIsNotAnswered(t *testing.T) {
	for _, event := range []string{"history", "presence"} {
		t.Run(event, func(t *testing.T) {
			b := newBacking()
			late := lateReads{b.messages, memory.NewPresence(), new(atomic.Bool), make(chan struct{}), make(chan struct{})}
			n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Store: lateStore{late}}, func(c *realtime.HubConfig) {
				c.Presence, c.LeaseTTL = latePresence{late}, time.Hour
			})
			eve := n.connect("eve")
			eve.join("hall")
			eve.say("hall", "hello")
			late.armed.Store(true)
			eve.in.Receive([]byte(`{"id":99,"event":"`+event+`","data":{"room":"hall"}}`), false)
			<-late.asked
			late.armed.Store(false)
			require.NoError(t, n.Remove(t.Context(), "hall", "u-eve"))
			late.reply <- struct{}{}
			answer := eve.next()
			for answer.ID == nil {
				answer = eve.next()
			}
			require.NotNil(t, answer.Error, "%s", answer.Data)
			assert.Equal(t, "not_joined", answer.Error.Code)
		})
	}
}

// lateRoles are roles that are not answered while they are armed.
type lateRoles struct {
	chat.Roles
	armed *atomic.Bool
	asked chan struct{}
}

func (l lateRoles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	if !l.armed.Load() {
		return l.Roles.Of(ctx, whom...)
	}
	select {
	case l.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// What waits for a store that does not answer is no more than what there is to ask, however often it is found.
func TestWhatWaitsForALateStoreIsBounded(t *testing.T) {
	b := newBacking()
	late := lateRoles{b.roles, new(atomic.Bool), make(chan struct{}, 1)}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Roles: late}, func(c *realtime.HubConfig) { c.CommandTimeout = time.Hour })
	n.connect("eve").join("hall")
	late.armed.Store(true)
	n.Look("hall", "u-eve")
	<-late.asked
	for range 100_000 {
		n.Look("hall", "u-eve")
	}
	assert.Less(t, n.Waiting(), 3000)
}

// failsOnce are roles of which one question about eve fails.
type failsOnce struct {
	chat.Roles
	armed *atomic.Bool
}

func (f failsOnce) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	if slices.ContainsFunc(whom, func(w chat.InRoom) bool { return w.UserID == "u-eve" }) && f.armed.CompareAndSwap(true, false) {
		return nil, fault.Unavailable
	}
	return f.Roles.Of(ctx, whom...)
}

// What concerns everybody in a room is read again when the store has failed, and not only when it is next asked what has changed.
func TestADeletedRoomIsLeftThoughTheStoreFailsAtThatMoment(t *testing.T) {
	b := newBacking()
	roles := failsOnce{b.roles, new(atomic.Bool)}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Roles: roles}, func(c *realtime.HubConfig) { c.RestrictionsEvery = time.Hour })
	n.makes("ada", "hall", chat.Public)
	eve := n.connect("eve")
	eve.join("hall")
	roles.armed.Store(true)
	require.NoError(t, n.chat.DeleteRoom(t.Context(), actor("ada"), "hall"))
	eve.until("membership")
	assert.False(t, roles.armed.Load(), "the store has failed")
}
