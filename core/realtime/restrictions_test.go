package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

func ban(room, id string) chat.Restriction {
	return chat.Restriction{Room: room, UserID: user.ID(id), Kind: chat.Ban, By: "u-ada", Reason: "spam"}
}

func mute(room, id string) chat.Restriction {
	r := ban(room, id)
	r.Kind = chat.Mute
	return r
}

// heardOf returns what the next event membership says of a user.
func (e *end) heardOf(id string) envelope {
	e.t.Helper()
	for {
		v := e.until("membership")
		var of struct{ User struct{ ID string } }
		require.NoError(e.t, json.Unmarshal(v.Data, &of))
		if of.User.ID == id {
			return v
		}
	}
}

// restricts imposes what has to be imposed.
func (n *node) restricts(r chat.Restriction) {
	n.t.Helper()
	_, err := n.chat.Restrict(n.t.Context(), chat.Actor{Any: true}, r)
	require.NoError(n.t, err)
}

// lifts ends what has to be ended.
func (n *node) lifts(r chat.Restriction) {
	n.t.Helper()
	_, err := n.chat.Lift(n.t.Context(), chat.Actor{Any: true}, r)
	require.NoError(n.t, err)
}

func TestWhoIsBannedIsOutOnEveryNodeAndStaysOut(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node = "two" })
	ada, phone, laptop, bob := one.connect("ada"), one.connect("eve"), two.connect("eve"), two.connect("bob")
	for _, e := range []*end{ada, phone, laptop, bob} {
		e.join("hall")
	}
	laptop.join("garden")
	one.restricts(ban("hall", "u-eve"))
	for _, e := range []*end{phone, laptop} {
		assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"},"role":null,"by":"u-ada","reason":"spam"}`, string(e.until("membership").Data))
	}
	ada.until("left")
	ada.say("hall", "only for those who are left")
	bob.until("message")
	assert.Empty(t, phone.rest())
	assert.Empty(t, laptop.rest())
	for _, e := range []*end{phone, laptop} {
		assert.Equal(t, "banned", e.refused("join_room", map[string]any{"room": "hall"}))
		assert.Equal(t, "not_joined", e.refused("message", map[string]any{"room": "hall", "text": "x"}))
	}
	has, err := b.members.Has(t.Context(), "hall", "u-eve")
	require.NoError(t, err)
	assert.False(t, has)
	laptop.say("garden", "in other rooms nothing has changed")

	two.lifts(ban("hall", "u-eve"))
	phone.join("hall")
	phone.say("hall", "thank you")
}

func TestABanThatHasAnEndEnds(t *testing.T) {
	c := newClock()
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{Now: c.now}, func(h *realtime.HubConfig) { h.Now = c.now })
	eve := n.connect("eve")
	eve.join("hall")
	r := ban("hall", "u-eve")
	r.Until = c.now().Add(time.Hour)
	n.restricts(r)
	eve.until("membership")
	assert.Equal(t, "banned", eve.refused("join_room", map[string]any{"room": "hall"}))
	c.advance(time.Hour)
	eve.join("hall")
}

func TestWhoIsMutedReadsAndMarksOnly(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node = "two" })
	ada, eve := two.connect("ada"), two.connect("eve")
	ada.join("hall")
	eve.join("hall")
	eve.join("garden")
	eve.say("hall", "first")
	one.restricts(mute("hall", "u-eve"))
	one.restricts(mute("hall", "u-ada"))
	ada.heardOf("u-ada")
	assert.Equal(t, "muted", ada.refused("message", map[string]any{"room": "hall", "text": "x"}))
	one.lifts(mute("hall", "u-ada"))
	ada.heardOf("u-ada")
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"},"role":"member","mutedUntil":"9999-12-31T23:59:59.000000Z","by":"u-ada","reason":"spam"}`,
		string(eve.heardOf("u-eve").Data))
	refused := func(e *end) {
		t.Helper()
		for event, data := range map[string]map[string]any{
			"message": {"room": "hall", "text": "x"}, "edit": {"room": "hall", "seq": 1, "text": "x"}, "delete": {"room": "hall", "seq": 1},
			"react": {"room": "hall", "seq": 1, "key": "👍"}, "isTyping": {"room": "hall"},
		} {
			assert.Equal(t, "muted", e.refused(event, data), event)
		}
	}
	refused(eve)
	// A connection that comes later learns it from the store, and one that joins again is not let off.
	tablet := one.connect("eve")
	tablet.join("hall")
	refused(tablet)
	eve.join("hall")
	refused(eve)
	ada.say("hall", "second")
	eve.until("message")
	eve.done("mark", map[string]any{"room": "hall", "read": 2})
	eve.done("history", map[string]any{"room": "hall"})
	eve.done("presence", map[string]any{"room": "hall"})
	eve.say("garden", "here I may")

	two.lifts(mute("hall", "u-eve"))
	for _, e := range []*end{eve, tablet} {
		assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"},"role":"member","by":"u-ada","reason":"spam"}`, string(e.heardOf("u-eve").Data))
		e.say("hall", "thank you")
	}
}

func TestAMuteThatHasAnEndEnds(t *testing.T) {
	c := newClock()
	n := startWith(t, newBacking(), memory.NewFanout().Node(), chat.Config{Now: c.now}, func(h *realtime.HubConfig) { h.Now = c.now })
	eve := n.connect("eve")
	eve.join("hall")
	r := mute("hall", "u-eve")
	r.Until = c.now().Add(time.Hour)
	n.restricts(r)
	eve.until("membership")
	assert.Equal(t, "muted", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
	c.advance(time.Hour)
	eve.say("hall", "an hour later")
}

// unheard carries nothing about restrictions and settings between nodes.
type unheard struct{ realtime.Fanout }

func (d unheard) Publish(ctx context.Context, s realtime.Signal) error {
	if s.Kind == realtime.SignalRestricted || s.Kind == realtime.SignalMembership || s.Kind == realtime.SignalSettings {
		return errors.New("the bus is away")
	}
	return d.Fanout.Publish(ctx, s)
}

func TestANodeThatHearsNothingAsksTheStore(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one := startOn(t, b, unheard{fanout.Node()}, nil)
	two := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	eve, bob := two.connect("eve"), two.connect("bob")
	eve.join("hall")
	bob.join("hall")
	one.restricts(mute("hall", "u-bob"))
	bob.until("membership")
	assert.Equal(t, "muted", bob.refused("message", map[string]any{"room": "hall", "text": "x"}))
	one.lifts(mute("hall", "u-bob"))
	bob.until("membership")
	bob.say("hall", "I may again")
	one.restricts(ban("hall", "u-eve"))
	eve.heardOf("u-eve")
	assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
}

// Who comes in is not muted, and nobody is told so because a mute was lifted before.
func TestALiftedMuteIsNotToldOfWhoComesInLater(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one := startOn(t, b, unheard{fanout.Node()}, nil)
	one.makes("ada", "hall", chat.Public)
	one.restricts(mute("hall", "u-eve"))
	one.lifts(mute("hall", "u-eve"))
	two := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	bob, eve := two.connect("bob"), two.connect("eve")
	bob.join("hall")
	eve.join("hall")
	one.restricts(mute("hall", "u-bob")) // which is found behind the one of eve
	var first struct{ User struct{ ID string } }
	require.NoError(t, json.Unmarshal(bob.until("membership").Data, &first))
	assert.Equal(t, "u-bob", first.User.ID)
}

// A node that does not hear that a mute is lifted finds it, also where the user is not in the room by then.
func TestWhoseMuteIsLiftedWhileTheyAreAwayMaySpeak(t *testing.T) {
	c, b, fanout := newClock(), newBacking(), memory.NewFanout()
	one := startWith(t, b, unheard{fanout.Node()}, chat.Config{Now: c.now}, nil)
	two := startWith(t, b, fanout.Node(), chat.Config{Now: c.now}, func(h *realtime.HubConfig) {
		h.Node, h.RestrictionsEvery, h.Now = "two", time.Millisecond, c.now
	})
	eve, bob := two.connect("eve"), two.connect("bob")
	bob.join("hall")
	eve.join("hall")
	one.restricts(mute("hall", "u-eve"))
	eve.heardOf("u-eve")
	eve.done("leave_room", map[string]any{"room": "hall"})
	one.lifts(mute("hall", "u-eve"))
	one.restricts(mute("hall", "u-bob"))
	bob.heardOf("u-bob") // what was found before it is eve's
	c.advance(time.Hour) // nobody looks so far back any more
	one.lifts(mute("hall", "u-bob"))
	bob.heardOf("u-bob")
	eve.join("hall")
	eve.say("hall", "I may again")
}

// Whoever was found to be out and has come in again is told when they are taken out again.
func TestWhoIsBannedAgainIsToldAgain(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one := startOn(t, b, unheard{fanout.Node()}, nil)
	two := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.RestrictionsEvery = "two", time.Millisecond })
	eve := two.connect("eve")
	eve.join("hall")
	one.restricts(ban("hall", "u-eve"))
	eve.heardOf("u-eve")
	one.lifts(ban("hall", "u-eve"))
	eve.join("hall")
	two.restricts(ban("hall", "u-eve"))
	eve.heardOf("u-eve")
}

// A ban ends the membership, also where it has ended itself before a node finds it.
func TestABanThatHasEndedIsFound(t *testing.T) {
	c, b, fanout := newClock(), newBacking(), memory.NewFanout()
	store := &failing{Restrictions: b.restrictions, asked: make(chan struct{})}
	one := startWith(t, b, unheard{fanout.Node()}, chat.Config{Now: c.now}, nil)
	two := startWith(t, b, fanout.Node(), chat.Config{Restrictions: store, Now: c.now}, func(h *realtime.HubConfig) {
		h.Node, h.RestrictionsEvery, h.Now = "two", time.Millisecond, c.now
	})
	eve := two.connect("eve")
	eve.join("hall")
	r := ban("hall", "u-eve")
	r.Until = c.now().Add(time.Second)
	one.restricts(r)
	c.advance(2 * time.Second)
	store.well.Store(true)
	eve.heardOf("u-eve")
	assert.Equal(t, "not_joined", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
}

// A ban is stored before the membership ends, which may fail. Who is banned does not come back all the same.
func TestWhoIsBannedDoesNotGoOn(t *testing.T) {
	b := newBacking()
	n := startOn(t, b, memory.NewFanout().Node(), nil)
	eve := n.connect("eve")
	eve.join("hall")
	eve.gone()
	r := ban("hall", "u-eve")
	r.At = time.Now()
	_, err := b.restrictions.Put(t.Context(), r, nil)
	require.NoError(t, err)
	_, err = n.Resume(t.Context(), n.connect("eve").in, []realtime.Place{{Room: "hall"}})
	assert.ErrorIs(t, err, realtime.ErrNotResumed)
}

// hesitant keeps the answer of the first look at restrictions until it is let go.
type hesitant struct {
	chat.Restrictions
	asked  chan struct{}
	answer chan struct{}

	mu   sync.Mutex
	once sync.Once
}

func (l *hesitant) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	held, err := l.Restrictions.InForce(ctx, now, whom...)
	first := false
	l.mu.Lock()
	l.once.Do(func() { first = true })
	l.mu.Unlock()
	if first {
		close(l.asked)
		<-l.answer
	}
	return held, err
}

func TestWhoComesInWhileTheyAreBannedOrMuted(t *testing.T) {
	for _, r := range []chat.Restriction{ban("hall", "u-eve"), mute("hall", "u-eve")} {
		t.Run(string(r.Kind), func(t *testing.T) {
			b := newBacking()
			slow := &hesitant{Restrictions: b.restrictions, asked: make(chan struct{}), answer: make(chan struct{})}
			n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Restrictions: slow}, nil)
			eve := n.connect("eve")
			eve.in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false)
			<-slow.asked // a moment ago nothing was in force
			n.restricts(r)
			close(slow.answer)
			eve.id = 1
			if r.Kind == chat.Ban {
				assert.Equal(t, "removed", eve.until("error").Error.Code)
				has, err := b.members.Has(t.Context(), "hall", "u-eve")
				require.NoError(t, err)
				assert.False(t, has, "the membership that was stored meanwhile is gone")
				return
			}
			eve.until("ack")
			assert.Equal(t, "muted", eve.refused("message", map[string]any{"room": "hall", "text": "x"}))
		})
	}
}

// A stale look at the store comes after the mute was lifted.
func TestWhoComesInWhileTheirMuteIsLifted(t *testing.T) {
	b := newBacking()
	slow := &hesitant{Restrictions: b.restrictions, asked: make(chan struct{}), answer: make(chan struct{})}
	slow.once.Do(func() {})
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Restrictions: slow}, nil)
	ada := n.connect("ada")
	ada.join("hall")
	n.restricts(mute("hall", "u-eve"))
	n.restricts(mute("hall", "u-ada"))
	ada.heardOf("u-ada") // nobody asks any more
	slow.mu.Lock()
	slow.once = sync.Once{}
	slow.mu.Unlock()
	eve := n.connect("eve")
	eve.in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false)
	<-slow.asked // the mute is in force
	n.lifts(mute("hall", "u-eve"))
	n.restricts(mute("hall", "u-ada")) // what is known of others does not make it forgotten
	close(slow.answer)
	eve.until("ack")
	eve.id = 1
	eve.say("hall", "I may")
}

// counted says each time that it is asked what was changed.
type counted struct {
	chat.Restrictions
	asks, enough chan struct{}
}

func (a counted) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	select {
	case a.asks <- struct{}{}:
	case <-a.enough:
	case <-ctx.Done():
	}
	return a.Restrictions.Since(ctx, at, limit)
}

// Whoever comes in when a mute is over is not told of its end, which is in the store still.
func TestWhoComesInAfterAMuteHearsNothingOfIt(t *testing.T) {
	b := newBacking()
	store := counted{b.restrictions, make(chan struct{}), make(chan struct{})}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Restrictions: store}, func(h *realtime.HubConfig) { h.RestrictionsEvery = time.Millisecond })
	bob := n.connect("bob")
	bob.join("hall")
	n.restricts(mute("hall", "u-eve"))
	n.lifts(mute("hall", "u-eve"))
	n.restricts(mute("hall", "u-bob"))
	bob.heardOf("u-bob") // what is told of eve was told by then
	eve := n.connect("eve")
	eve.join("garden")
	eve.join("hall")
	for range 3 { // the node has found the end of the mute when it asks for the third time
		<-store.asks
	}
	close(store.enough)
	n.restricts(mute("garden", "u-eve"))
	assert.Contains(t, string(eve.heardOf("u-eve").Data), `"room":"garden"`)
}

// failing cannot be asked at first.
type failing struct {
	chat.Restrictions
	asked chan struct{}
	well  atomic.Bool
}

func (f *failing) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	if !f.well.Load() {
		select {
		case f.asked <- struct{}{}:
		default:
		}
		return nil, errors.New("away")
	}
	return f.Restrictions.Since(ctx, at, limit)
}

// However long the store could not be asked, nothing is left out.
func TestWhatCouldNotBeAskedForIsAskedForAgain(t *testing.T) {
	c, b, fanout := newClock(), newBacking(), memory.NewFanout()
	store := &failing{Restrictions: b.restrictions, asked: make(chan struct{})}
	one := startWith(t, b, unheard{fanout.Node()}, chat.Config{Now: c.now}, nil)
	two := startWith(t, b, fanout.Node(), chat.Config{Restrictions: store, Now: c.now}, func(h *realtime.HubConfig) {
		h.Node, h.RestrictionsEvery, h.Now = "two", time.Millisecond, c.now
	})
	eve := two.connect("eve")
	eve.join("hall")
	one.restricts(ban("hall", "u-eve"))
	c.advance(time.Hour)
	for range 3 {
		<-store.asked
	}
	store.well.Store(true)
	eve.until("membership")
}

// A mute that was lifted before another node heard of it is told to nobody there. A ban that has ended, and whose user is back, neither.
func TestWhatIsLiftedBeforeItIsHeardIsNotTold(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	bus := &dilatory{Fanout: fanout.Node()}
	one := startOn(t, b, bus, nil)
	two := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node = "two" })
	bob, eve, phone := two.connect("bob"), two.connect("eve"), one.connect("ann")
	bob.join("hall")
	eve.join("hall")
	phone.join("hall")
	one.restricts(mute("hall", "u-eve"))
	one.lifts(mute("hall", "u-eve"))
	bus.letGo(t)
	for _, e := range []*end{bob, eve} {
		assert.JSONEq(t, `{"room":"hall","user":{"id":"u-eve","name":"eve"},"role":"member","by":"u-ada","reason":"spam"}`, string(e.heardOf("u-eve").Data), "what holds")
	}
	eve.say("hall", "I may")

	one.restricts(mute("hall", "u-eve"))
	one.lifts(mute("hall", "u-eve"))
	one.restricts(mute("hall", "u-eve")) // the lift does not hold either
	bus.letGo(t)
	for _, e := range []*end{bob, eve} {
		assert.Contains(t, string(e.heardOf("u-eve").Data), "mutedUntil")
	}

	one.restricts(ban("hall", "u-ann"))
	one.lifts(ban("hall", "u-ann"))
	phone.join("hall")
	one.restricts(mute("hall", "u-bob")) // is told behind it
	bus.letGo(t)
	var first struct{ User struct{ ID string } }
	require.NoError(t, json.Unmarshal(eve.until("membership").Data, &first))
	assert.Equal(t, "u-bob", first.User.ID)
}
