package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

func TestTwoNodesAreOneRoom(t *testing.T) {
	b, f := newBacking(), memory.NewFanout()
	one := startOn(t, b, f.Node(), func(c *realtime.HubConfig) { c.Node = "one" })
	two := startOn(t, b, f.Node(), func(c *realtime.HubConfig) { c.Node = "two" })
	ada, bob := one.connect("ada"), two.connect("bob")
	ada.join("hall")
	bob.join("hall")
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-bob","name":"bob"}}`, string(ada.until("joined").Data))
	ada.emit("message", map[string]any{"room": "hall", "text": "from one"})
	bob.until("message")
	ada.until("message")
	bob.emit("message", map[string]any{"room": "hall", "text": "from two"})
	assert.Equal(t, "2", seqOf(t, ada.until("message")))
	var p struct{ Count int }
	require.NoError(t, json.Unmarshal(ada.ask("presence", map[string]any{"room": "hall"}).Data, &p))
	assert.Equal(t, 2, p.Count)
	bob.emit("isTyping", map[string]any{"room": "hall"})
	ada.until("isTyping")
	bob.gone()
	ada.until("left")
}

// lossy drops, repeats and reorders messages, from a seed.
type lossy struct {
	realtime.Fanout
	mu     sync.Mutex
	random *rand.Rand
	late   []realtime.Signal
}

func (l *lossy) Publish(ctx context.Context, s realtime.Signal) error {
	if s.Kind != realtime.SignalMessage {
		return l.Fanout.Publish(ctx, s)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.random.IntN(6) {
	case 0: // lost
		return nil
	case 1: // late
		l.late = append(l.late, s)
		return nil
	case 2: // twice
		_ = l.Fanout.Publish(ctx, s)
	}
	err := l.Fanout.Publish(ctx, s)
	l.random.Shuffle(len(l.late), func(i, j int) { l.late[i], l.late[j] = l.late[j], l.late[i] })
	for _, s := range l.late {
		_ = l.Fanout.Publish(ctx, s)
	}
	l.late = nil
	return err
}

func TestAFanoutThatLosesAndReordersLeavesNoHole(t *testing.T) {
	f := &lossy{Fanout: memory.NewFanout().Node(), random: rand.New(rand.NewPCG(1, 2))}
	n := startOn(t, newBacking(), f, func(c *realtime.HubConfig) { c.HoleWait = time.Millisecond })
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	const messages = 500
	for i := range messages {
		ada.emit("message", map[string]any{"room": "hall", "text": fmt.Sprint(i)})
	}
	// The last one may be lost in this fan-out; whatever follows reveals it. So go on talking
	// until bob has them all, each once and in order.
	for want := 1; want <= messages; want++ {
		for len(bob.frames) == 0 {
			ada.say("hall", "more")
		}
		require.Equal(t, fmt.Sprint(want), seqOf(t, bob.until("message")))
	}
}

// reader is a client that keeps a log of one room and breaks off and comes back.
type reader struct {
	node *node
	name string
	log  []uint64
}

func (r *reader) session(t *testing.T, stay int) {
	c := newConn()
	in, err := r.node.Accept(c, socket.Hello{Identity: user.Identity{UserID: user.ID(r.name), Name: r.name}})
	if !assert.NoError(t, err) {
		return
	}
	e := &end{conn: c, t: t, in: in}
	defer e.gone()
	var last uint64
	data := map[string]any{"room": "hall"}
	if len(r.log) > 0 {
		last = r.log[len(r.log)-1]
		data["since"] = last
	}
	b, _ := json.Marshal(map[string]any{"id": 1, "event": "join_room", "data": data})
	in.Receive(b, false)
	deadline := time.After(patience)
	add := func(seq uint64) bool {
		if len(r.log) > 0 && seq != r.log[len(r.log)-1]+1 {
			assert.Fail(t, "hole or double", "%s: %d after %d", r.name, seq, r.log[len(r.log)-1])
			return false
		}
		r.log = append(r.log, seq)
		return true
	}
	for acked := false; stay > 0 || !acked; {
		select {
		case f := <-c.frames:
			var v envelope
			if !assert.NoError(t, json.Unmarshal(f.Payload(), &v)) {
				return
			}
			switch v.Event {
			case "ack":
				var a joinAck
				assert.NoError(t, json.Unmarshal(v.Data, &a))
				if !assert.True(t, a.Recovered) || acked {
					return
				}
				acked = true
				if len(a.Messages) > 0 && a.Messages[len(a.Messages)-1].Seq < a.Seq {
					// More was missed than a page: this reader begins anew, behind the page.
					r.log = r.log[:0]
					r.log = append(r.log, a.Seq)
					continue
				}
				for _, m := range a.Messages {
					if !add(m.Seq) {
						return
					}
				}
			case "message":
				if !assert.True(t, acked, "a live message came before the ack") {
					return
				}
				var m wireMessage
				assert.NoError(t, json.Unmarshal(v.Data, &m))
				if !add(m.Seq) {
					return
				}
				stay--
			}
		case <-deadline:
			assert.Fail(t, "nothing came", r.name)
			return
		}
	}
}

func TestThereIsNoWindowBetweenHistoryAndLive(t *testing.T) {
	noWindow(t, 0, 60)
}

// Several workers serve a large room at a time.
func TestThereIsNoWindowInALargeRoom(t *testing.T) {
	noWindow(t, 600, 15)
}

// noWindow lets readers come and go while others talk and so many members on each node listen.
func noWindow(t *testing.T, listeners, sessions int) {
	b, f := newBacking(), memory.NewFanout()
	own := func(name string) func(*realtime.HubConfig) {
		return func(c *realtime.HubConfig) { c.Node, c.HoleWait, c.Workers = name, time.Millisecond, 4 }
	}
	nodes := []*node{startOn(t, b, f.Node(), own("one")), startOn(t, b, f.Node(), own("two"))}
	var all []*ordered
	for range listeners {
		all = append(all, nodes[0].silent("hall"), nodes[1].silent("hall"))
	}
	var stop atomic.Bool
	var senders, readers sync.WaitGroup
	for i := range 4 {
		e := nodes[i%2].connect(fmt.Sprint("sender", i))
		e.join("hall")
		senders.Go(func() {
			for !stop.Load() {
				acked, delivered := false, listeners == 0 // else nobody ever reads what is delivered now
				e.in.Receive([]byte(`{"id":1,"event":"message","data":{"room":"hall","text":"x"}}`), false)
				for !acked || !delivered {
					select {
					case f := <-e.frames:
						var v envelope
						_ = json.Unmarshal(f.Payload(), &v)
						acked = acked || v.ID != nil
						delivered = delivered || v.Event == "message"
					case <-time.After(patience):
						assert.Fail(t, "no ack")
						return
					}
				}
			}
		})
	}
	for i := range 8 {
		readers.Go(func() {
			r := &reader{node: nodes[i%2], name: fmt.Sprint("reader", i)}
			random := rand.New(rand.NewPCG(7, uint64(i)))
			for range sessions {
				r.node = nodes[random.IntN(2)]
				r.session(t, random.IntN(8))
			}
		})
	}
	readers.Wait()
	stop.Store(true)
	senders.Wait()
	for _, n := range nodes {
		n.stop()
	}
	for i, o := range all {
		assert.Empty(t, o.wrong, "listener %d", i)
		assert.Positive(t, o.last, "listener %d", i)
	}
}

func TestSignalsThatComeBeforeTheFirstReadAreNotLost(t *testing.T) {
	// Another node's message arrives while the first member of a room still reads.
	b, f := newBacking(), memory.NewFanout()
	one := startOn(t, b, f.Node(), func(c *realtime.HubConfig) { c.Node = "one" })
	ada := one.connect("ada")
	ada.join("hall")
	for i := range 200 {
		two := startOn(t, b, f.Node(), func(c *realtime.HubConfig) { c.Node = fmt.Sprint("two", i) })
		bob := two.connect("bob")
		bob.in.Receive([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false)
		ada.emit("message", map[string]any{"room": "hall", "text": "x"})
		var last uint64
		want := uint64(i + 1)
		for last < want {
			v := bob.next()
			switch v.Event {
			case "ack":
				var a joinAck
				require.NoError(t, json.Unmarshal(v.Data, &a))
				last = a.Seq
			case "message":
				var m wireMessage
				require.NoError(t, json.Unmarshal(v.Data, &m))
				require.Equal(t, last+1, m.Seq)
				last = m.Seq
			}
		}
		two.stop()
	}
}

func TestRoomsAreLetGoWithTheirLastMember(t *testing.T) {
	follows := &counting{Fanout: memory.NewFanout().Node()}
	n := startOn(t, newBacking(), follows, nil)
	keeper := n.connect("keeper")
	keeper.join("kept")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 20 {
				e := n.connect(fmt.Sprint("c", i))
				e.join(fmt.Sprint("room", i%3))
				e.gone()
			}
		})
	}
	wg.Wait()
	n.stop() // waits for the leaving that is under way
	assert.EqualValues(t, 1, follows.open.Load(), "kept")
	assert.Positive(t, follows.total.Load())
}

type counting struct {
	realtime.Fanout
	open, total atomic.Int64
}

func (c *counting) Follow(ctx context.Context, room string) error {
	if chat.CheckRoom(room) != nil { // what every node follows
		return c.Fanout.Follow(ctx, room)
	}
	c.open.Add(1)
	c.total.Add(1)
	return c.Fanout.Follow(ctx, room)
}

func (c *counting) Unfollow(ctx context.Context, room string) error {
	c.open.Add(-1)
	return c.Fanout.Unfollow(ctx, room)
}

// TestMessagesThatWaitLeaveTogether holds the delivery of a room up in the first of its members. What comes
// meanwhile leaves in one write to each member who has nothing of it, and singly to who has some.
func TestMessagesThatWaitLeaveTogether(t *testing.T) {
	const first = 5
	for _, c := range []struct {
		name   string
		most   int   // HubConfig.MaxWrite
		writes int64 // for the messages that wait
	}{
		{"all fit", 0, 1},
		{"two fit", 2 * len("message 10"), 5}, // 2 to 10: nine messages
		{"none fits", 1, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxWrite = c.most })
			told := make(chan struct{}, 16)
			n.chat.OnStored(func(chat.Message) { told <- struct{}{} }) // after the hub, which has put it in line then
			bob := n.connect("bob")
			bob.join("hall")
			held, release := make(chan struct{}), make(chan struct{})
			hold := sync.OnceFunc(func() { close(held); <-release })
			bob.mu.Lock()
			bob.hold = func(*socket.Frame) { hold() }
			bob.mu.Unlock()
			before := bob.writes.Load()

			author := chat.Author{ID: "u-server", Name: "server"}
			say := func(i int) {
				_, err := n.chat.Send(t.Context(), chat.Draft{Room: "hall", Author: author, Text: fmt.Sprintf("message %2d", i)})
				require.NoError(t, err)
				<-told
			}
			say(1)
			<-held
			for i := 2; i <= first; i++ {
				say(i)
			}
			carl := n.connect("bob")  // so that nobody is told of him
			page := carl.join("hall") // up to the fifth
			require.EqualValues(t, first, page.Seq)
			carls := carl.writes.Load()
			for i := first + 1; i <= 10; i++ {
				say(i)
			}
			close(release)
			for i := 1; i <= 10; i++ {
				require.Equal(t, fmt.Sprint(i), seqOf(t, bob.until("message")))
			}
			for i := first + 1; i <= 10; i++ {
				require.Equal(t, fmt.Sprint(i), seqOf(t, carl.until("message")))
			}
			assert.Equal(t, 1+c.writes, bob.writes.Load()-before)
			if c.most == 0 {
				assert.EqualValues(t, 10-first, carl.writes.Load()-carls, "carl has some of it: singly")
			}
			assert.Empty(t, carl.frames)
		})
	}
}
