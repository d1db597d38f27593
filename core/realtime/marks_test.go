package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// mark says how far the user has read, and returns the answer: how far that is now, and what is unread.
func (e *end) mark(room string, read uint64) (now, unread uint64) {
	e.t.Helper()
	v := e.ask("mark", map[string]any{"room": room, "read": read})
	require.Equal(e.t, "ack", v.Event, "%+v", v.Error)
	var a struct {
		Room         string
		Read, Unread *uint64
	}
	require.NoError(e.t, json.Unmarshal(v.Data, &a))
	require.Equal(e.t, room, a.Room)
	require.NotNil(e.t, a.Read)
	require.NotNil(e.t, a.Unread)
	return *a.Read, *a.Unread
}

// marked returns the next that is said of who has read how far.
func (e *end) marked() string {
	e.t.Helper()
	var m struct {
		Room string
		User struct{ ID, Name string }
		Read uint64
	}
	require.NoError(e.t, json.Unmarshal(e.until("marked").Data, &m))
	return fmt.Sprint(m.Room, " ", m.User.ID, " ", m.User.Name, " ", m.Read)
}

// unmarked holds that a connection was told no more of who has read how far.
func (e *end) unmarked(room string) {
	e.t.Helper()
	e.id++
	e.in.Receive(fmt.Appendf(nil, `{"id":%d,"event":"presence","data":{"room":%q}}`, e.id, room), false)
	for {
		v := e.next()
		if v.ID != nil {
			return
		}
		require.NotEqual(e.t, "marked", v.Event, "%s", v.Data)
	}
}

// joins lets everybody join, and forgets what they have heard of each other.
func joins(room string, all ...*end) {
	for _, e := range all {
		e.join(room)
		e.arrived(room)
	}
	for _, e := range all {
		e.quietly(room)
	}
}

// quietly forgets what has come so far.
func (e *end) quietly(room string) {
	e.t.Helper()
	e.arrived(room)
	e.rest()
}

func TestMarksAreAnswered(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	assert.Zero(t, ada.join("hall").Read, "nothing is there to read")
	now, unread := ada.mark("hall", 0)
	assert.Equal(t, []uint64{0, 0}, []uint64{now, unread})
	bob.join("hall")
	for range 5 {
		bob.say("hall", "x")
	}
	bob.ask("delete", map[string]any{"room": "hall", "seq": 4})
	for _, c := range []struct {
		name               string
		read, want, unread uint64
	}{
		{"only asked", 0, 0, 4}, {"the second", 2, 2, 2}, {"back", 1, 2, 2}, {"the same", 2, 2, 2}, {"one that is deleted", 4, 4, 1},
		{"behind the end", 6, 5, 0}, {"as far as a number may be", 1<<53 - 1, 5, 0}, {"back from the end", 1, 5, 0},
	} {
		now, unread := ada.mark("hall", c.read)
		assert.Equal(t, []uint64{c.want, c.unread}, []uint64{now, unread}, c.name)
	}
	now, unread = bob.mark("hall", 0)
	assert.Equal(t, []uint64{5, 0}, []uint64{now, unread}, "what one has sent is read")
	bob.say("hall", "y")
	now, unread = ada.mark("hall", 0)
	assert.Equal(t, []uint64{5, 1}, []uint64{now, unread}, "a mark behind the end is not one for what comes later")
}

// What is refused moves nothing, and the connection goes on.
func TestMarksAreRefused(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	joins("hall", ada, bob)
	bob.say("hall", "x")
	assert.Equal(t, "not_joined", ada.refused("mark", map[string]any{"room": "cellar", "read": 1}))
	assert.Equal(t, "not_joined", ada.refused("mark", map[string]any{"room": "Hall", "read": 1}))
	ada.ask("leave_room", map[string]any{"room": "hall"})
	assert.Equal(t, "not_joined", ada.refused("mark", map[string]any{"room": "hall", "read": 1}))
	assert.EqualValues(t, 1, ada.join("hall").Read, "a new membership begins at the end of the room")
	// A user who leaves with one connection is no member any more, though another one is in the room, until it is taken out.
	other := n.connect("ada")
	other.join("hall")
	other.ask("leave_room", map[string]any{"room": "hall"})
	assert.Contains(t, []string{"not_a_member", "not_joined"}, ada.refused("mark", map[string]any{"room": "hall", "read": 1}))
	now, _ := bob.mark("hall", 1)
	assert.EqualValues(t, 1, now, "nobody else is harmed")
}

// A mark reaches everybody in the room on every node, whoever has made it on their other connections too; what does not move is not told.
func TestMarksReachEverybody(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), nil)
	ada, phone, bob, eve := one.connect("ada"), two.connect("ada"), two.connect("bob"), one.connect("eve")
	joins("hall", ada, phone, bob, eve)
	for range 3 {
		bob.say("hall", "x")
	}
	all := map[string]*end{"her own": ada, "her phone": phone, "bob, elsewhere": bob, "eve": eve}
	ada.mark("hall", 2)
	for name, e := range all { // whoever has marked has the answer before
		assert.Equal(t, "hall u-ada ada 2", e.marked(), name)
	}
	ada.mark("hall", 1)
	ada.mark("hall", 0)
	phone.mark("hall", 9)
	for name, e := range all {
		assert.Equal(t, "hall u-ada ada 3", e.marked(), name)
		e.unmarked("hall")
	}
	// Who joins later is told their own in the answer.
	assert.EqualValues(t, 3, one.connect("ada").join("hall").Read)
	assert.EqualValues(t, 3, one.connect("bob").join("hall").Read, "by what bob has said")
}

// Who sends has read what they sent. Nobody is told: everybody sees who has sent it.
func TestWhoSendsHasRead(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	joins("hall", ada, bob)
	bob.say("hall", "one")
	bob.say("hall", "two")
	ada.say("hall", "three")
	for _, e := range []*end{ada, bob} {
		for _, v := range e.rest() {
			assert.NotEqual(t, "marked", v)
		}
	}
	now, unread := ada.mark("hall", 0)
	assert.Equal(t, []uint64{3, 0}, []uint64{now, unread})
	now, unread = bob.mark("hall", 0)
	assert.Equal(t, []uint64{2, 1}, []uint64{now, unread})
	ada.mark("hall", 2)
	ada.unmarked("hall") // it was at 3 already
	bob.unmarked("hall")
}

// The answer to a join says how far the user has read, on whatever node and after whatever absence.
func TestAJoinSaysWhatIsRead(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), nil)
	ada, bob := one.connect("ada"), one.connect("bob")
	assert.Zero(t, bob.join("hall").Read)
	for range 4 {
		bob.say("hall", "x")
	}
	assert.EqualValues(t, 4, ada.join("hall").Read, "nothing is unread for a new member")
	for range 4 {
		bob.say("hall", "x")
	}
	assert.EqualValues(t, 4, ada.join("hall").Read, "joining again reads nothing")
	ada.mark("hall", 6)
	assert.EqualValues(t, 6, ada.join("hall", 4).Read)
	ada.gone()
	for _, n := range []*node{two, one} {
		again := n.connect("ada")
		assert.EqualValues(t, 6, again.join("hall", 8).Read)
		again.gone()
	}
	// A membership that ends takes its mark along.
	again := two.connect("ada")
	again.join("hall")
	again.ask("leave_room", map[string]any{"room": "hall"})
	assert.EqualValues(t, 8, again.join("hall").Read)
}

func TestMarksAreToldToSmallRoomsAlone(t *testing.T) {
	for name, c := range map[string]struct {
		marksUpTo, announceUpTo int
		told                    bool
	}{
		"as many as may be": {4, 0, true}, "one too many": {3, 0, false}, "none": {-1, 0, false},
		"rooms where nobody is announced": {0, 3, false}, "the default": {0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, fanout := newBacking(), memory.NewFanout()
				set := func(cfg *realtime.HubConfig) { cfg.MarksUpTo, cfg.AnnounceUpTo = c.marksUpTo, c.announceUpTo }
				one, two := startOn(t, b, fanout.Node(), set), startOn(t, b, fanout.Node(), set)
				// Several connections of one user are one, and two nodes have the same users.
				all := []*end{one.connect("ada"), one.connect("bob"), two.connect("eve"), two.connect("dan"), one.connect("ada"), two.connect("ada")}
				joins("hall", all...)
				time.Sleep(2 * lease) // of the bubble: by then a node has heard of those whom nobody has announced
				all[1].say("hall", "x")
				synctest.Wait()
				for _, e := range all {
					e.rest()
				}
				now, _ := all[0].mark("hall", 1)
				assert.EqualValues(t, 1, now, "it is kept all the same")
				synctest.Wait()
				for i, e := range all {
					if c.told {
						assert.Equal(t, []string{"marked"}, e.rest(), i)
					} else {
						assert.Empty(t, e.rest(), i)
					}
				}
			})
		})
	}
}

// away is a presence that answers nothing.
type away struct{ realtime.Presence }

func (away) Enter(context.Context, time.Time, string, string, chat.Author) (bool, error) {
	return false, errAway
}

func (away) List(context.Context, time.Time, string, int) ([]chat.Author, int, error) {
	return nil, 0, errAway
}

// While Presence is away nobody says who has joined. A room that is too large is so all the same.
func TestALargeRoomIsNotToldMarksWhilePresenceIsAway(t *testing.T) {
	for name, c := range map[string]struct {
		users int
		told  bool
	}{"small": {3, true}, "large": {4, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, func(cfg *realtime.HubConfig) { cfg.MarksUpTo, cfg.Presence = 3, away{cfg.Presence} })
				all := make([]*end, c.users)
				for i := range all {
					all[i] = n.connect(fmt.Sprint("user", i))
					all[i].join("hall")
				}
				all[1].say("hall", "x")
				synctest.Wait()
				for _, e := range all {
					e.rest()
				}
				all[0].mark("hall", 1)
				synctest.Wait()
				for _, e := range all {
					assert.Equal(t, c.told, len(e.rest()) == 1)
				}
			})
		})
	}
}

// A room that has become small again is told.
func TestARoomThatHasShrunkIsToldMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, func(cfg *realtime.HubConfig) { cfg.MarksUpTo = 2 })
		ada, bob, eve := n.connect("ada"), n.connect("bob"), n.connect("eve")
		joins("hall", ada, bob, eve)
		bob.say("hall", "one")
		bob.say("hall", "two")
		ada.mark("hall", 1)
		eve.gone()
		synctest.Wait()
		ada.rest()
		bob.rest()
		ada.mark("hall", 2)
		synctest.Wait()
		assert.Equal(t, []string{"marked"}, ada.rest())
		assert.Equal(t, []string{"marked"}, bob.rest())
	})
}

// Whoever does not keep up is spared marks: those of others, and their own that are hidden from others.
func TestASlowReaderIsSparedMarks(t *testing.T) {
	for name, row := range map[string]struct {
		slow  string
		hides bool
	}{
		"of others":            {"slow", false},
		"their own":            {"ada", false},
		"their own, if hidden": {"ada", true},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxQueued = 1000 })
			n.hidesRead("ada", row.hides)
			slow, ada, bob := n.connect(row.slow), n.connect("ada"), n.connect("bob")
			joins("hall", slow, ada, bob)
			bob.say("hall", "x")
			for _, e := range []*end{slow, ada, bob} {
				e.until("message")
			}
			slow.queued.Store(251) // more than a quarter
			ada.mark("hall", 1)
			assert.Equal(t, "hall u-ada ada 1", ada.marked())
			if !row.hides {
				assert.Equal(t, "hall u-ada ada 1", bob.marked())
			}
			bob.say("hall", "y")
			ada.until("message")
			for v := slow.next(); v.Event != "message"; v = slow.next() { // which is behind the mark
				assert.NotEqual(t, "marked", v.Event)
			}
		})
	}
}

// gatedMarks is a store of marks whose Mark waits. It keeps how large the batches were.
type gatedMarks struct {
	chat.Marks
	entered, proceed chan struct{}
	calls            atomic.Int64
}

func (g *gatedMarks) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	g.calls.Add(1)
	g.entered <- struct{}{}
	<-g.proceed
	return g.Marks.Mark(ctx, marks)
}

// Whoever is taken out of the room while their mark waits is refused, and those who wait with them are not.
func TestAMarkOfSomebodyWhoIsRemovedMeanwhileIsRefused(t *testing.T) {
	b := newBacking()
	g := &gatedMarks{Marks: b.members, entered: make(chan struct{}, 16), proceed: make(chan struct{})}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Marks: g}, nil)
	ada, bob, eve := n.connect("ada"), n.connect("bob"), n.connect("eve")
	joins("hall", ada, bob, eve)
	eve.say("hall", "x")
	for _, e := range []*end{ada, bob, eve} {
		e.quietly("hall")
	}
	type outcome struct {
		chat.Marked
		err error
	}
	outcomes := map[string]chan outcome{}
	// A connection may be busy a moment longer than its last answer tells, and then its next command waits: so the marks do not come over them.
	for i, name := range []string{"eve", "ada", "bob"} {
		answer := make(chan outcome, 1)
		outcomes[name] = answer
		require.NoError(t, n.chat.SubmitMark(t.Context(), chat.Mark{Room: "hall", User: chat.Author{ID: user.ID("u-" + name), Name: name}, Read: 1}, func(m chat.Marked, err error) {
			answer <- outcome{m, err}
		}))
		if i == 0 {
			<-g.entered // what comes now waits, and is one batch
		}
	}
	require.NoError(t, n.Remove(t.Context(), "hall", "u-ada"))
	close(g.proceed)
	require.ErrorIs(t, (<-outcomes["ada"]).err, chat.ErrNotMember)
	assert.Equal(t, outcome{Marked: chat.Marked{Read: 1, Moved: true}}, <-outcomes["bob"])
	assert.Equal(t, "hall u-bob bob 1", eve.marked())
	assert.EqualValues(t, 2, g.calls.Load())
	assert.Equal(t, "not_joined", ada.refused("mark", map[string]any{"room": "hall", "read": 1}))
}

// Who floods marks while the store is slow is closed, like who floods messages, and the others go on.
func TestMarksThatWaitAreBounded(t *testing.T) {
	b := newBacking()
	g := &gatedMarks{Marks: b.members, entered: make(chan struct{}, 1<<10), proceed: make(chan struct{})}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Marks: g}, func(cfg *realtime.HubConfig) { cfg.MaxWaiting = 4 })
	ada, bob := n.connect("ada"), n.connect("bob")
	joins("hall", ada, bob)
	for range 5 {
		ada.emit("mark", map[string]any{"room": "hall", "read": 1})
	}
	ada.closedWith(socket.CloseTooFast)
	close(g.proceed)
	bob.mark("hall", 0)
}

// refusing refuses what it is told to.
type refusing struct{ action atomic.Pointer[chat.Action] }

func (r *refusing) May(_ context.Context, _ chat.Author, what chat.Action, _ string) error {
	if refused := r.action.Load(); refused != nil && *refused == what {
		return chat.ErrNotAllowed
	}
	return nil
}

func TestAccessDecidesWhoMarks(t *testing.T) {
	b := newBacking()
	rule := &refusing{}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Access: rule}, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	joins("hall", ada, bob)
	bob.say("hall", "x")
	read := chat.ActionRead
	rule.action.Store(&read)
	assert.Equal(t, "not_allowed", ada.refused("mark", map[string]any{"room": "hall", "read": 1}))
	rule.action.Store(nil)
	now, unread := ada.mark("hall", 0)
	assert.Equal(t, []uint64{0, 1}, []uint64{now, unread}, "nothing was stored")
}

// What the user reads on another connection while they join comes behind the answer, also where nobody else is told.
func TestWhatIsReadElsewhereDuringAJoinIsTold(t *testing.T) {
	for name, hides := range map[string]bool{"told": false, "hidden": true} {
		t.Run(name, func(t *testing.T) {
			b := newBacking()
			joining, proceed := make(chan struct{}), make(chan struct{})
			slow := &slowJoin{Members: b.members, joining: joining, proceed: proceed}
			n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Members: slow}, nil)
			n.hidesRead("ada", hides)
			ada, bob := n.connect("ada"), n.connect("bob")
			joins("hall", ada, bob)
			for _, text := range []string{"one", "two"} {
				bob.say("hall", text)
				bob.until("message")
			}
			ada.quietly("hall")
			phone := n.connect("ada")
			slow.armed.Store(true)
			phone.in.Receive([]byte(`{"id":90,"event":"join_room","data":{"room":"hall"}}`), false)
			<-joining // the membership was read
			ada.mark("hall", 1)
			assert.Equal(t, "hall u-ada ada 1", ada.marked())
			close(proceed)
			v := phone.next()
			require.Equal(t, 90, *v.ID)
			var a joinAck
			require.NoError(t, json.Unmarshal(v.Data, &a))
			assert.Zero(t, a.Read, "as it was")
			assert.Equal(t, "hall u-ada ada 1", phone.marked())
			phone.unmarked("hall")
			ada.say("hall", "three")
			if hides {
				assert.Empty(t, bob.markedUntil("three"))
			} else {
				assert.Equal(t, []string{"u-ada 1"}, bob.markedUntil("three"))
			}
		})
	}
}

// What the user sends on another connection while they join is read, as far as the answer has it.
func TestWhatIsSentElsewhereDuringAJoinIsRead(t *testing.T) {
	b := newBacking()
	joining, proceed := make(chan struct{}), make(chan struct{})
	slow := &slowJoin{Members: b.members, joining: joining, proceed: proceed}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Members: slow}, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	joins("hall", ada, bob)
	phone := n.connect("ada")
	slow.armed.Store(true)
	phone.in.Receive([]byte(`{"id":90,"event":"join_room","data":{"room":"hall"}}`), false)
	<-joining
	ada.say("hall", "one")
	ada.say("hall", "two")
	bob.say("hall", "three")
	close(proceed)
	v := phone.until("ack")
	var a joinAck
	require.NoError(t, json.Unmarshal(v.Data, &a))
	require.Len(t, a.Messages, 3)
	assert.EqualValues(t, 2, a.Read)
}

// slowJoin is a store of memberships whose answers wait once it is armed.
type slowJoin struct {
	chat.Members
	armed            atomic.Bool
	joining, proceed chan struct{}
}

func (s *slowJoin) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	stored, err := s.Members.Add(ctx, memberships...)
	if s.armed.Swap(false) {
		close(s.joining)
		<-s.proceed
	}
	return stored, err
}

// Marks that nobody has the time to deliver are dropped. Messages are not.
func TestMarksThatPileUpAreDropped(t *testing.T) {
	const backlog = 8
	synctest.Test(t, func(t *testing.T) {
		c := newCrowdInBubble(t, 1, 1, func(cfg *realtime.HubConfig) { cfg.Workers, cfg.MaxBacklog = 1, backlog })
		pass := make(chan struct{})
		release := sync.OnceFunc(func() { close(pass) })
		defer release()
		c.hold = func(int) { <-pass }
		c.tally.expect(1 + backlog + 1)
		c.say(1)
		synctest.Wait() // the worker is held up
		for read := range uint64(3 * backlog) {
			c.deliver(realtime.Signal{Kind: realtime.SignalMarked, Room: "room0", User: chat.Author{ID: "v", Name: "v"}, Read: read})
		}
		before := c.tally.writes()
		c.say(1)
		release()
		c.wait(t)
		synctest.Wait()
		assert.EqualValues(t, 1+backlog+1, c.tally.writes()-before, "both messages, and as many marks as may wait")
	})
}

// A mark to a room costs no more the more connections there are.
func TestAMarkThatIsToldAllocatesNothingForEachConnection(t *testing.T) {
	perMark := func(conns int) float64 {
		c := newCrowd(t, conns, 1, func(cfg *realtime.HubConfig) { cfg.Workers = 2 })
		s := realtime.Signal{Kind: realtime.SignalMarked, Room: "room0", User: chat.Author{ID: user.ID("v"), Name: "v"}}
		return testing.AllocsPerRun(200, func() {
			s.Read++
			c.tally.expect(1)
			c.deliver(s)
			c.wait(t)
		})
	}
	few := perMark(10)
	assert.Equal(t, few, perMark(1000))
	assert.LessOrEqual(t, few, 20.0, "an event, with its frame")
}
