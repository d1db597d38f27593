package realtime_test

import (
	"context"
	"errors"
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
)

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
