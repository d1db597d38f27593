package realtime_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// busyWorker is a hub with one worker that a test holds up, so that whatever is delivered meanwhile waits.
type busyWorker struct {
	t       *testing.T
	hub     *realtime.Hub
	deliver func(realtime.Signal)
	seq     map[string]uint64
}

func newBusyWorker(t *testing.T, change func(*realtime.HubConfig)) *busyWorker {
	c := newCrowd(t, 0, 0, func(cfg *realtime.HubConfig) {
		cfg.Workers, cfg.MaxUserConnections = 1, 100
		if change != nil {
			change(cfg)
		}
	})
	return &busyWorker{t: t, hub: c.hub, deliver: c.deliver, seq: map[string]uint64{}}
}

// connect makes a connection that is in rooms.
func (w *busyWorker) connect(name string, rooms ...string) *end {
	e := (&node{Hub: w.hub, t: w.t}).connect(name)
	for _, room := range rooms {
		e.join(room)
	}
	return e
}

func (w *busyWorker) say(room string) {
	w.seq[room]++
	text := fmt.Sprintf("%s %d", room, w.seq[room])
	m := chat.Message{Room: room, Seq: w.seq[room], ID: text, ClientID: text, Author: chat.Author{ID: "u-x", Name: "x"}, Text: text, At: time.Unix(1_700_000_000, 0).UTC()}
	w.deliver(realtime.Signal{Kind: realtime.SignalMessage, Room: room, Message: m})
}

// typing is an event that is never held.
func (w *busyWorker) typing(room string) {
	w.deliver(realtime.Signal{Kind: realtime.SignalTyping, Room: room, User: chat.Author{ID: "u-t", Name: "t"}, Typing: true})
}

// while holds the worker up by the first frame that e gets, during f.
func (w *busyWorker) while(e *end, cause, f func()) {
	held, pass := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(held); <-pass })
	release := sync.OnceFunc(func() { close(pass) })
	w.t.Cleanup(release)
	e.mu.Lock()
	e.hold = func(*socket.Frame) { hold() }
	e.mu.Unlock()
	cause()
	within(w.t, held)
	f()
	release()
}

// got returns the next frames, each by its event, and its text or who types.
func (e *end) got(n int) (all []string) {
	e.t.Helper()
	for range n {
		v := e.next()
		_, after, _ := bytes.Cut(v.Data, []byte(`"text":"`))
		text, _, _ := bytes.Cut(after, []byte(`"`))
		all = append(all, strings.TrimSpace(v.Event+" "+string(text)))
	}
	return all
}

// What Delivered measures ends with the write, also where messages of several rooms wait for one.
func TestDeliveredIsCalledAfterTheWrite(t *testing.T) {
	var ada *end
	var there []int // frames that ada had at each call
	done := make(chan struct{})
	rooms := []string{"a", "b", "c"}
	w := newBusyWorker(t, func(cfg *realtime.HubConfig) {
		cfg.Delivered = func(time.Time) {
			if ada == nil {
				return
			}
			if there = append(there, len(ada.frames)); len(there) == 1+len(rooms) {
				close(done)
			}
		}
	})
	plug := w.connect("plug", "plug")
	ada = w.connect("ada", rooms...)
	w.while(plug, func() { w.say("plug") }, func() {
		for _, room := range rooms {
			w.say(room)
		}
	})
	within(t, done)
	assert.Equal(t, []int{0, 3, 3, 3}, there, "that of the plug, which ada does not get, and those of the rooms")
}

func TestWhatRoomsHaveForAConnectionLeavesTogether(t *testing.T) {
	for _, c := range []struct {
		name   string
		most   int // HubConfig.MaxWrite
		writes int64
	}{
		{"all fit", 0, 1},
		{"two fit", 400, 3},
		{"none fits", 1, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBusyWorker(t, func(cfg *realtime.HubConfig) { cfg.MaxWrite = c.most })
			rooms := []string{"a", "b", "c", "d", "e"}
			plug, ada, bob := w.connect("plug", "plug"), w.connect("ada", rooms...), w.connect("bob", "b", "d")
			adas, bobs := ada.writes.Load(), bob.writes.Load()
			w.while(plug, func() { w.say("plug") }, func() {
				for _, room := range rooms {
					w.say(room)
				}
			})
			assert.Equal(t, []string{"message a 1", "message b 1", "message c 1", "message d 1", "message e 1"}, ada.got(5))
			assert.Equal(t, c.writes, ada.writes.Load()-adas)
			assert.Equal(t, []string{"message b 1", "message d 1"}, bob.got(2))
			if c.most == 0 {
				assert.EqualValues(t, 1, bob.writes.Load()-bobs)
			}
			const plugs = 1
			assert.EqualValues(t, plugs+ada.writes.Load()-adas+bob.writes.Load()-bobs, w.hub.Stats().Writes)
			// A message that waits alone is not held by anything.
			w.say("c")
			assert.Equal(t, []string{"message c 2"}, ada.got(1))
		})
	}
}

// TestNothingOvertakesWhatIsHeld lets a room say something else, and its members rejoin, leave and be removed, while they
// hold a message of it.
func TestNothingOvertakesWhatIsHeld(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, w *busyWorker, ada *end)
		want []string
	}{
		{"an event of the same room", nil, []string{"message a 1", "isTyping"}},
		{"an answer that has the message", func(_ *testing.T, _ *busyWorker, ada *end) {
			ada.in.Receive([]byte(`{"id":7,"event":"join_room","data":{"room":"a"}}`), false)
		}, []string{"message a 1", "ack"}},
		{"an end of the membership", func(_ *testing.T, _ *busyWorker, ada *end) {
			ada.in.Receive([]byte(`{"id":7,"event":"leave_room","data":{"room":"a"}}`), false)
		}, []string{"message a 1", "ack"}},
		{"a removal", func(t *testing.T, w *busyWorker, _ *end) {
			require.NoError(t, w.hub.Remove(t.Context(), "a", "u-ada"))
		}, []string{"message a 1", "membership"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newBusyWorker(t, nil)
			plug, ada, bob := w.connect("plug", "plug"), w.connect("ada", "a"), w.connect("bob", "b")
			var got []string
			turn := func() {
				w.while(plug, func() { w.say("plug") }, func() {
					w.say("a")
					if c.do == nil {
						w.typing("a")
					}
					w.typing("b") // which is not held: there the worker stands, in the same turn
				})
			}
			if c.do == nil {
				turn()
				got = ada.got(2)
			} else {
				w.while(bob, turn, func() {
					c.do(t, w, ada)
					got = ada.got(2) // before the turn ends
				})
			}
			assert.Equal(t, c.want, got)
			bob.until("isTyping")
			w.say("b")
			bob.until("message") // the turn is over
			assert.Empty(t, ada.frames)
		})
	}
}

// TestAnotherWorkerDoesNotOvertakeATurn lets a room be run by itself while a worker holds a message of it.
func TestAnotherWorkerDoesNotOvertakeATurn(t *testing.T) {
	w := newBusyWorker(t, func(cfg *realtime.HubConfig) { cfg.Workers = 2 })
	one, two, eve := w.connect("one", "one"), w.connect("two", "two"), w.connect("eve", "c")
	ada, bob := w.connect("ada", "a"), w.connect("bob", "b")
	w.while(bob, func() {
		w.while(one, func() { w.say("one") }, func() {
			w.while(two, func() { w.say("two") }, func() {
				w.say("a")
				w.typing("b") // here the worker stands that has a
				w.say("c")
			})
		})
	}, func() {
		eve.until("message")
		w.say("a")
		assert.Equal(t, []string{"message a 1", "message a 2"}, ada.got(2))
	})
	bob.until("isTyping")
	assert.Empty(t, ada.frames)
}

func TestManyRoomsKeepTheirOrder(t *testing.T) {
	const rooms, members, messages = 12, 30, 200
	w := newBusyWorker(t, func(cfg *realtime.HubConfig) { cfg.Workers, cfg.MaxWrite = 3, 1000 })
	name := func(i int) string { return fmt.Sprintf("room%02d", i) }
	random := rand.New(rand.NewPCG(3, 4))
	all := make([]*end, members)
	in := make([]map[string]uint64, members) // the last of each room that a member is in
	for i := range all {
		all[i], in[i] = w.connect("same"), map[string]uint64{}
		for _, room := range random.Perm(rooms)[:1+random.IntN(rooms)] {
			all[i].join(name(room))
			in[i][name(room)] = 0
		}
	}
	for range messages {
		for _, i := range random.Perm(rooms) {
			w.say(name(i))
		}
	}
	for i, e := range all {
		for range len(in[i]) * messages {
			for _, line := range e.got(1) {
				var room string
				var seq uint64
				_, err := fmt.Sscanf(line, "message %s %d", &room, &seq)
				require.NoError(t, err, line)
				require.Equal(t, in[i][room]+1, seq, "member %d, %s", i, room)
				in[i][room] = seq
			}
		}
		assert.Empty(t, e.frames)
	}
}
