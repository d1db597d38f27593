package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// shaky is a presence that can be away, for some nodes or for all, and can lose what it has.
type shaky struct {
	mu    sync.Mutex
	under realtime.Presence
	away  map[string]bool // by node; "" is all
	// late makes what is refused be done all the same: only its answer is lost.
	late bool
}

func newShaky() *shaky { return &shaky{under: memory.NewPresence(), away: map[string]bool{}} }

func (s *shaky) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under = memory.NewPresence()
}

func (s *shaky) cut(node string, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away[node] = away
}

var errAway = fault.New(fault.Unavailable, "away", "away")

// of is the presence as a node reaches it.
func (s *shaky) of(node string) realtime.Presence { return reached{s, node} }

type reached struct {
	*shaky
	node string
}

// there returns what is reached, and whether its answers arrive.
func (r reached) there() (p realtime.Presence, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away[""] || r.away[r.node] {
		if r.late {
			return r.under, errAway
		}
		return nil, errAway
	}
	return r.under, nil
}

func reach[T any](r reached, f func(p realtime.Presence) (T, error)) (T, error) {
	p, away := r.there()
	var zero T
	if p == nil {
		return zero, away
	}
	v, err := f(p)
	if away != nil {
		return zero, away
	}
	return v, err
}

func (r reached) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	return reach(r, func(p realtime.Presence) (bool, error) { return p.Enter(ctx, now, node, room, who) })
}

func (r reached) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	return reach(r, func(p realtime.Presence) (bool, error) { return p.Exit(ctx, now, node, room, who) })
}

func (r reached) List(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
	var count int
	users, err := reach(r, func(p realtime.Presence) (users []chat.Author, err error) {
		users, count, err = p.List(ctx, now, room, limit)
		return users, err
	})
	return users, count, err
}

func (r reached) Renew(ctx context.Context, renewal realtime.Renewal) (realtime.Renewed, error) {
	return reach(r, func(p realtime.Presence) (realtime.Renewed, error) { return p.Renew(ctx, renewal) })
}

const lease = 30 * time.Second

// nodes are hubs that share a presence.
func nodes(t *testing.T, p *shaky, n int) []*node {
	b, fanout := newBacking(), memory.NewFanout()
	all := make([]*node, n)
	for i := range all {
		all[i] = startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) {
			c.Node = fmt.Sprint("node", i)
			c.Presence = p.of(c.Node)
			c.AnnounceUpTo = 5
		})
	}
	return all
}

// heard returns who is said to have joined and left, in order, by what a connection has got so far.
func (e *end) heard() []string {
	e.t.Helper()
	synctest.Wait()
	var all []string
	for {
		select {
		case f := <-e.frames:
			var v envelope
			require.NoError(e.t, json.Unmarshal(f.Payload(), &v))
			if v.Event != "joined" && v.Event != "left" {
				continue
			}
			var d struct{ User struct{ Name string } }
			require.NoError(e.t, json.Unmarshal(v.Data, &d))
			all = append(all, v.Event+" "+d.User.Name)
		default:
			return all
		}
	}
}

// present returns who is in a room, as its members are told.
func (e *end) present(room string) (names []string) {
	e.t.Helper()
	synctest.Wait()
	require.Empty(e.t, e.heard(), "something that was not looked at")
	v := e.ask("presence", map[string]any{"room": room})
	require.Nil(e.t, v.Error)
	var d struct {
		Members []struct{ Name string }
		Count   int
	}
	require.NoError(e.t, json.Unmarshal(v.Data, &d))
	require.Len(e.t, d.Members, d.Count)
	for _, m := range d.Members {
		names = append(names, m.Name)
	}
	return names
}

// countless is a presence that cannot say who is in a room.
type countless struct{ realtime.Presence }

func (countless) List(context.Context, time.Time, string, int) ([]chat.Author, int, error) {
	return nil, 0, errAway
}

func TestARoomThatCannotBeCountedIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := start(t, func(c *realtime.HubConfig) {
			c.Presence, c.Log = countless{memory.NewPresence()}, slog.New(slog.NewTextHandler(&log, nil))
		})
		ada, bob := n.connect("ada"), n.connect("bob")
		ada.join("hall")
		bob.join("hall")
		assert.Empty(t, ada.heard())
		assert.Contains(t, log.String(), `msg="nobody was told who came or went: the room could not be counted" room=hall error=away`)
	})
}

// after returns a list of names, ascending, as a client keeps it.
func after(list, heard []string) []string {
	there := map[string]bool{}
	for _, name := range list {
		there[name] = true
	}
	for _, h := range heard {
		event, name, _ := strings.Cut(h, " ")
		there[name] = event == "joined"
	}
	var names []string
	for name, is := range there {
		if is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// TestWhoIsSaidToHaveLeftThoughStillThereIsSaidToBeThere: a node that knows less says so, after a loss.
func TestWhoIsSaidToHaveLeftThoughStillThereIsSaidToBeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newShaky()
		n := nodes(t, p, 2)
		ada, dan, dan2 := n[0].connect("ada"), n[0].connect("dan"), n[1].connect("dan")
		for _, e := range []*end{ada, dan, dan2} {
			e.join("hall")
		}
		ada.heard()
		p.flush()
		p.cut("node1", true) // so that its Exit fails, and is settled before the other node has compared
		dan2.gone()
		p.cut("node1", false)
		time.Sleep(2 * lease)
		assert.Equal(t, []string{"ada", "dan"}, after([]string{"ada", "dan"}, ada.heard()))
		assert.Equal(t, []string{"ada", "dan"}, ada.present("hall"))
	})
}

func TestAPresenceThatLosesWhatItHadIsRightAgainWithinALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newShaky()
		n := nodes(t, p, 2)
		ada, bob, bob2 := n[0].connect("ada"), n[1].connect("bob"), n[1].connect("bob")
		for _, e := range []*end{ada, bob, bob2} {
			e.join("hall")
		}
		bob.join("garden")
		ada.heard()
		p.flush()
		time.Sleep(lease)
		assert.Empty(t, ada.heard(), "nobody had come or gone")
		assert.Equal(t, []string{"ada", "bob"}, ada.present("hall"))
		bob.heard()
		assert.Equal(t, []string{"bob"}, bob.present("garden"))

		// It goes on as before.
		bob.gone()
		bob2.gone()
		assert.Equal(t, []string{"left bob"}, ada.heard())
		assert.Equal(t, []string{"ada"}, ada.present("hall"))
	})
}

func TestWhoComesAndGoesWhilePresenceIsAwayIsToldAfterwards(t *testing.T) {
	for name, change := range map[string]func(p *shaky){
		"it keeps what it has":        func(*shaky) {},
		"it loses what it has":        (*shaky).flush,
		"only its answers are lost":   func(p *shaky) { p.late = true },
		"answers and all it has also": func(p *shaky) { p.late = true; p.flush() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newShaky()
				n := nodes(t, p, 2)
				ada, bob, eve := n[0].connect("ada"), n[1].connect("bob"), n[1].connect("eve")
				for _, e := range []*end{ada, bob, eve} {
					e.join("hall")
				}
				eve.join("den") // in which nobody will be
				dan := n[0].connect("dan")
				dan.join("hall")
				dan2 := n[1].connect("dan")
				dan2.join("hall")
				ada.heard()

				p.cut("", true)
				change(p)
				cy := n[1].connect("cy")
				cy.join("hall")
				bob.gone()
				eve.gone()
				dan2.gone()
				time.Sleep(2 * lease) // longer than every lease lasts
				p.cut("", false)
				p.mu.Lock()
				p.late = false
				p.mu.Unlock()
				time.Sleep(lease)

				heard := ada.heard()
				list := after([]string{"ada", "bob", "dan", "eve"}, heard)
				assert.Equal(t, []string{"ada", "cy", "dan"}, list, "who keeps a list")
				// Where all is lost, dan may be said to have left with one node before the other one, where dan
				// still is, has said so again.
				heard = slices.DeleteFunc(heard, func(h string) bool {
					return name != "it keeps what it has" && name != "only its answers are lost" && strings.HasSuffix(h, " dan")
				})
				slices.Sort(heard)
				assert.Equal(t, []string{"joined cy", "left bob", "left eve"}, heard, "once each")
				assert.Equal(t, []string{"ada", "cy", "dan"}, ada.present("hall"))
				_, count, err := p.under.List(t.Context(), time.Now(), "den", 10)
				require.NoError(t, err)
				assert.Zero(t, count, "a ghost stays")
				time.Sleep(3 * lease)
				assert.Empty(t, ada.heard())
			})
		})
	}
}

func TestWhoGoesWithADeadNodeHasLeftOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newShaky()
		n := nodes(t, p, 4)
		ada, ben := n[0].connect("ada"), n[1].connect("ben")
		bob, dan, dan2 := n[2].connect("bob"), n[2].connect("dan"), n[3].connect("dan")
		for _, e := range []*end{ada, ben, bob, dan, dan2} {
			e.join("hall")
		}
		crowd := []*end{n[0].connect("zoe")}
		for i := range 6 {
			crowd = append(crowd, n[2].connect(fmt.Sprint("crowd", i)))
		}
		for _, e := range crowd {
			e.join("stadium")
		}
		time.Sleep(2 * lease)
		ada.heard()
		ben.heard()
		crowd[0].heard()

		p.cut("node2", true) // it stands still, with everything open
		time.Sleep(lease - lease/3)
		assert.Empty(t, ada.heard(), "its lease lasts")
		assert.Equal(t, []string{"ada", "ben", "bob", "dan"}, ada.present("hall"))
		time.Sleep(lease)
		for _, e := range []*end{ada, ben} {
			assert.Equal(t, []string{"left bob"}, e.heard(), "once; dan has another node")
		}
		assert.Equal(t, []string{"ada", "ben", "dan"}, ada.present("hall"))
		assert.Len(t, crowd[0].heard(), 6, "a large room that became small")
		dan2.gone()
		assert.Equal(t, []string{"left dan"}, ada.heard())
		assert.Equal(t, []string{"left dan"}, ben.heard())

		// It goes on after all.
		p.cut("node2", false)
		time.Sleep(lease)
		for _, e := range []*end{ada, ben} {
			heard := e.heard()
			slices.Sort(heard)
			assert.Equal(t, []string{"joined bob", "joined dan"}, heard)
			assert.Equal(t, []string{"ada", "ben", "bob", "dan"}, e.present("hall"))
		}
		bob.gone()
		assert.Equal(t, []string{"left bob"}, ada.heard())
		time.Sleep(3 * lease)
		assert.Empty(t, ada.heard())
		assert.Equal(t, []string{"ada", "ben", "dan"}, ada.present("hall"))
	})
}

// renewing is a Presence that does not answer when leases are renewed, until its context ends.
type renewing struct{ realtime.Presence }

func (renewing) Renew(ctx context.Context, _ realtime.Renewal) (realtime.Renewed, error) {
	<-ctx.Done()
	return realtime.Renewed{}, fault.Wrap(fault.Unavailable, ctx.Err())
}

// Presence that is away when a node begins holds up no message.
func TestMessagesDoNotWaitForTheFirstLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		n := start(t, func(c *realtime.HubConfig) { c.Presence = renewing{memory.NewPresence()} })
		ada := n.connect("ada")
		ada.join("hall")
		ada.emit("message", map[string]any{"room": "hall", "text": "hello"})
		ada.until("message")
		assert.Zero(t, time.Since(begun))
	})
}

// A node that dies between storing a message and telling of it has acknowledged what no other node has heard of. Its lease ends, and
// those who are in the room elsewhere get the message, though nobody says anything more.
func TestWhatADeadNodeHasStoredIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, b, fanout := newShaky(), newBacking(), memory.NewFanout()
		var all [2]*node
		for i := range all {
			all[i] = startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node = fmt.Sprint("node", i); c.Presence = p.of(c.Node) })
		}
		ada, bob := all[0].connect("ada"), all[1].connect("bob")
		for _, e := range []*end{ada, bob} {
			e.join("hall")
			e.join("den")
		}
		ada.emit("message", map[string]any{"room": "den", "text": "heard"})
		time.Sleep(2 * lease)
		texts := func() (all []string) {
			synctest.Wait()
			for {
				select {
				case f := <-ada.frames:
					if _, after, ok := strings.Cut(string(f.Payload()), `"text":"`); ok {
						text, _, _ := strings.Cut(after, `"`)
						all = append(all, text)
					}
				default:
					return all
				}
			}
		}
		assert.Equal(t, []string{"heard"}, texts())

		p.cut("node1", true)
		for i, text := range []string{"one", "two"} {
			_, err := b.messages.Append(t.Context(), []chat.Message{{Room: "hall", ID: fmt.Sprintf("01JPARLEY%017d", i), ClientID: text, Author: chat.Author{ID: "u-bob", Name: "bob"}, Text: text, At: time.Now()}})
			require.NoError(t, err)
		}
		assert.Empty(t, texts(), "nobody has told")
		time.Sleep(2 * lease)
		assert.Equal(t, []string{"one", "two"}, texts(), "in order, and once")
		time.Sleep(3 * lease)
		assert.Empty(t, texts())
	})
}

// TestNobodyIsTakenForDeadBecausePresenceWasAway: every lease ends meanwhile, and the first node that
// reaches it again must not bury the others.
func TestNobodyIsTakenForDeadBecausePresenceWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newShaky()
		n := nodes(t, p, 2)
		ada, bob := n[0].connect("ada"), n[1].connect("bob")
		ada.join("hall")
		bob.join("hall")
		time.Sleep(2 * lease)
		ada.heard()
		p.cut("", true)
		time.Sleep(5 * lease)
		p.cut("node1", true)
		p.cut("", false)
		time.Sleep(lease - lease/3)
		p.cut("node1", false)
		time.Sleep(2 * lease)
		assert.Empty(t, ada.heard())
		assert.Equal(t, []string{"ada", "bob"}, ada.present("hall"))
	})
}

// TestALargeRoomIsNotToldWhoWentWithADeadNode: as with everybody who comes and goes.
func TestALargeRoomIsNotToldWhoWentWithADeadNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newShaky()
		n := nodes(t, p, 2)
		var crowd []*end
		for i := range 6 {
			crowd = append(crowd, n[0].connect(fmt.Sprint("crowd", i)))
		}
		bob := n[1].connect("bob")
		for _, e := range append(crowd, bob) {
			e.join("stadium")
		}
		time.Sleep(2 * lease)
		crowd[0].heard()
		p.cut("node1", true)
		time.Sleep(2 * lease)
		assert.Empty(t, crowd[0].heard())
		assert.Len(t, crowd[0].present("stadium"), 6)
	})
}

// names keeps the names of the nodes that publish.
type names struct {
	realtime.Fanout
	heard chan string
}

func (n names) Publish(ctx context.Context, s realtime.Signal) error {
	n.heard <- s.Node
	return n.Fanout.Publish(ctx, s)
}

func TestANodeWithoutANameHasOneOfItsOwn(t *testing.T) {
	b := newBacking()
	seen := map[string]bool{}
	for range 3 {
		f := names{memory.NewFanout().Node(), make(chan string, 16)}
		n := startOn(t, b, f, nil)
		ada := n.connect("ada")
		ada.join("hall")
		ada.emit("isTyping", map[string]any{"room": "hall"})
		seen[<-f.heard] = true
	}
	require.NotContains(t, seen, "")
	require.Len(t, seen, 3)
}

// deaf is a fan-out whose signals do not arrive at this node for a while.
type deaf struct {
	realtime.Fanout
	cut     atomic.Bool
	deliver func(realtime.Signal) // of Run
}

func (d *deaf) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	d.deliver = deliver
	return d.Fanout.Run(ctx, func(s realtime.Signal) {
		if !d.cut.Load() {
			deliver(s)
		}
	})
}

// TestWhoComesAndGoesUnheardIsToldInTheEnd: what is said of who comes and goes does not reach a node. Whoever keeps a list
// there is right in the end, and is told once.
func TestWhoComesAndGoesUnheardIsToldInTheEnd(t *testing.T) {
	for name, wait := range map[string]struct {
		// away says that Presence is away as well, as when one server is both.
		away, forgets bool
	}{
		"the node heard nothing":             {},
		"and Presence was away":              {away: true},
		"and Presence has lost what it had":  {forgets: true},
		"and was away, and lost what it had": {away: true, forgets: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, b, fanout := newShaky(), newBacking(), memory.NewFanout()
				ear := &deaf{Fanout: fanout.Node()}
				hear := startOn(t, b, ear, func(c *realtime.HubConfig) { c.Node, c.Presence, c.AnnounceUpTo = "node0", p.of("node0"), 5 })
				far := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.Presence, c.AnnounceUpTo = "node1", p.of("node1"), 5 })
				ada, bob, dan := hear.connect("ada"), far.connect("bob"), far.connect("dan")
				for _, e := range []*end{ada, bob, dan} {
					e.join("hall")
				}
				require.Equal(t, []string{"ada", "bob", "dan"}, after([]string{"ada"}, ada.heard()))
				// As if it had been so for long: nobody comes or goes.
				time.Sleep(3 * lease)
				require.Empty(t, ada.heard())

				ear.cut.Store(true)
				p.cut("", wait.away)
				if wait.forgets {
					p.flush()
				}
				bob.gone()
				cy := far.connect("cy")
				cy.join("hall")
				eve := far.connect("eve") // who comes and goes
				eve.join("hall")
				eve.gone()
				dan.gone() // who goes and comes
				dan = far.connect("dan")
				dan.join("hall")
				if wait.away {
					time.Sleep(lease)
				}
				p.cut("", false)
				time.Sleep(lease) // what is said when Presence is back is not heard either
				ear.cut.Store(false)
				var heard []string
				for range 3 * 3 {
					time.Sleep(lease / 3)
					for _, h := range ada.heard() {
						heard = append(heard, h)
						what, who, _ := strings.Cut(h, " ")
						kind := realtime.SignalLeft
						if what == "joined" {
							kind = realtime.SignalJoined
						}
						// What was lost comes after all.
						ear.deliver(realtime.Signal{Kind: kind, Room: "hall", Node: "node1", User: chat.Author{ID: user.ID("u-" + who), Name: who}})
						assert.Empty(t, ada.heard(), "it comes late")
					}
				}
				slices.Sort(heard)
				assert.Equal(t, []string{"joined cy", "left bob"}, heard, "once each, and nobody else")
				assert.Equal(t, []string{"ada", "cy", "dan"}, ada.present("hall"))
				cy.gone()
				assert.Equal(t, []string{"left cy"}, ada.heard())
				time.Sleep(4 * lease)
				assert.Empty(t, ada.heard())
			})
		})
	}
}

// leaseless is a presence that gives a node no lease while it is set, and does everything else.
type leaseless struct {
	realtime.Presence
	set *atomic.Bool
}

func (l leaseless) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	if l.set.Load() {
		return realtime.Renewed{}, errAway
	}
	return l.Presence.Renew(ctx, r)
}

// A node that never had a lease has none that ends: whoever came in there would be present for ever once it has died.
func TestNobodyIsPresentBeforeTheNodeHasALease(t *testing.T) {
	for name, dies := range map[string]bool{"it dies before": true, "it has one later": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newShaky()
				none := &atomic.Bool{}
				none.Store(true)
				b, fanout := newBacking(), memory.NewFanout()
				first := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.Presence = "node0", p.of("node0") })
				second := startOn(t, b, fanout.Node(), func(c *realtime.HubConfig) { c.Node, c.Presence = "node1", leaseless{p.of("node1"), none} })
				ada, dan := first.connect("ada"), second.connect("dan")
				ada.join("hall")
				dan.join("hall")
				ada.heard()
				if dies {
					p.cut("node1", true)
					time.Sleep(3 * lease)
					assert.Equal(t, []string{"ada"}, ada.present("hall"))
					return
				}
				none.Store(false)
				time.Sleep(lease)
				assert.Equal(t, []string{"joined dan"}, ada.heard())
				assert.Equal(t, []string{"ada", "dan"}, ada.present("hall"))
			})
		})
	}
}

func TestPresence(t *testing.T) {
	n := start(t, func(c *realtime.HubConfig) { c.PresenceLimit = 2 })
	ada := n.connect("ada")
	ada.join("hall")
	bob1, bob2, cy := n.connect("bob"), n.connect("bob"), n.connect("cy")
	for _, e := range []*end{bob1, bob2, cy} {
		e.join("hall")
		e.arrived("hall")
	}
	assert.JSONEq(t, `{"members":[{"id":"u-ada","name":"ada"},{"id":"u-bob","name":"bob"}],"count":3}`,
		string(ada.ask("presence", map[string]any{"room": "hall"}).Data))
	bob1.gone()
	cy.gone()
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-cy","name":"cy"}}`, string(ada.until("left").Data),
		"bob has another connection in the room")
	bob2.gone()
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-bob","name":"bob"}}`, string(ada.until("left").Data))
}

func TestLargeRoomsAreNotToldWhoComesAndGoes(t *testing.T) {
	n := start(t, func(c *realtime.HubConfig) { c.AnnounceUpTo = 3 })
	ada := n.connect("ada")
	ada.join("hall")
	ada.arrived("hall")
	var others []*end
	for i := range 5 {
		o := n.connect(fmt.Sprint("o", i))
		o.join("hall")
		o.arrived("hall")
		others = append(others, o)
	}
	others[4].gone()
	ada.emit("message", map[string]any{"room": "hall", "text": "x"})
	var told []string
	for {
		v := ada.next()
		if v.Event == "message" {
			break
		}
		told = append(told, v.Event)
	}
	assert.Equal(t, []string{"joined", "joined"}, told, "the second and the third")
}
