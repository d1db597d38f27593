package realtime_test

import (
	"context"
	"errors"
	"fmt"
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
	_, err := b.restrictions.Put(t.Context(), chat.Restriction{Room: "hall", UserID: "u-eve", Kind: chat.Mute, By: "u-ada", At: time.UnixMicro(1)}, nil)
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
