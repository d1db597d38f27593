package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// conn is a connection whose client end is a channel.
type conn struct {
	frames chan *socket.Frame
	queued atomic.Int64
	writes atomic.Int64          // calls of Send
	hold   func(f *socket.Frame) // called by Send before anything else, if it is set

	mu     sync.Mutex
	closed bool
	code   int
	reason string
	ended  chan struct{}
	onEnd  func()
}

func newConn() *conn {
	return &conn{frames: make(chan *socket.Frame, 1<<16), ended: make(chan struct{})}
}

func (c *conn) Send(f *socket.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fault.Unavailable
	}
	if c.hold != nil {
		c.hold(f)
	}
	c.writes.Add(1)
	for m := range f.Messages() {
		c.frames <- m
	}
	return nil
}

func (c *conn) Queued() int { return int(c.queued.Load()) }

func (c *conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed, c.code, c.reason = true, code, reason
	close(c.ended)
	if c.onEnd != nil {
		go c.onEnd() // a transport reports it later, never from within Close
	}
}

// end is a client: a connection and what it receives.
type end struct {
	*conn
	t  *testing.T
	in socket.Receiver
	id int
}

type envelope struct {
	ID    *int            `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
	Error *struct{ Code, Title, Detail string }
}

type wireMessage struct {
	Room, ID, ClientID, Text string
	Seq                      uint64
	User                     struct{ ID, Name string }
	At                       time.Time
}

type joinAck struct {
	Room      string
	Seq       uint64
	Recovered bool
	Messages  []wireMessage
}

// next returns the next frame.
func (e *end) next() envelope {
	e.t.Helper()
	select {
	case f := <-e.frames:
		var v envelope
		require.NoError(e.t, json.Unmarshal(f.Payload(), &v), string(f.Payload()))
		return v
	case <-time.After(patience):
		e.t.Fatal("nothing came")
		panic("unreachable")
	}
}

// until returns the next frame of an event, passing over others.
func (e *end) until(event string) envelope {
	e.t.Helper()
	for {
		if v := e.next(); v.Event == event {
			return v
		}
	}
}

func (e *end) emit(event string, data any) {
	e.t.Helper()
	b, err := json.Marshal(map[string]any{"event": event, "data": data})
	require.NoError(e.t, err)
	e.in.Receive(b, false)
}

// ask sends an event and returns its answer, passing over others.
func (e *end) ask(event string, data any) envelope {
	e.t.Helper()
	e.id++
	b, err := json.Marshal(map[string]any{"id": e.id, "event": event, "data": data})
	require.NoError(e.t, err)
	e.in.Receive(b, false)
	for {
		if v := e.next(); v.ID != nil {
			require.Equal(e.t, e.id, *v.ID)
			return v
		}
	}
}

func (e *end) join(room string, since ...uint64) joinAck {
	e.t.Helper()
	data := map[string]any{"room": room}
	if len(since) > 0 {
		data["since"] = since[0]
	}
	v := e.ask("join_room", data)
	require.Equal(e.t, "ack", v.Event, "%+v", v.Error)
	var a joinAck
	require.NoError(e.t, json.Unmarshal(v.Data, &a))
	return a
}

func (e *end) say(room, text string) wireMessage {
	e.t.Helper()
	v := e.ask("message", map[string]any{"room": room, "text": text})
	require.Equal(e.t, "ack", v.Event, "%+v", v.Error)
	var m wireMessage
	require.NoError(e.t, json.Unmarshal(v.Data, &m))
	return m
}

func (e *end) closedWith(code int) string {
	e.t.Helper()
	select {
	case <-e.ended:
	case <-time.After(patience):
		e.t.Fatalf("the connection was not closed; %d was expected", code)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Equal(e.t, code, e.code, e.reason)
	return e.reason
}

// node is a hub with its chat service, running.
type node struct {
	*realtime.Hub
	t       *testing.T
	chat    *chat.Service
	stop    func()
	backing backing
}

// backing is what nodes share.
type backing struct {
	messages *memory.Messages
	members  *memory.Members
	rooms    *memory.Rooms
	presence *memory.Presence
}

func newBacking() backing {
	return backing{memory.NewMessages(), memory.NewMembers(), memory.NewRooms(), memory.NewPresence()}
}

func start(t *testing.T, change func(*realtime.HubConfig)) *node {
	t.Helper()
	return startOn(t, newBacking(), memory.NewFanout().Node(), change)
}

func startOn(t *testing.T, b backing, fanout realtime.Fanout, change func(*realtime.HubConfig)) *node {
	t.Helper()
	return startWith(t, b, fanout, chat.Config{}, change)
}

func startWith(t *testing.T, b backing, fanout realtime.Fanout, rules chat.Config, change func(*realtime.HubConfig)) *node {
	t.Helper()
	rules.Store, rules.Rooms, rules.Members, rules.Cache = b.messages, b.rooms, b.members, memory.NewRecentCache(memory.RecentCacheConfig{})
	s, err := chat.New(rules)
	require.NoError(t, err)
	running := make(chan struct{})
	cfg := realtime.HubConfig{Chat: s, Fanout: announced{fanout, running}, Presence: b.presence, Rate: -1}
	if change != nil {
		change(&cfg)
	}
	h, err := realtime.NewHub(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	chatCtx, chatCancel := context.WithCancel(context.Background())
	wg.Go(func() { assert.NoError(t, s.Run(chatCtx)) })
	wg.Go(func() { assert.NoError(t, h.Run(ctx)); chatCancel() })
	<-running
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return &node{Hub: h, t: t, chat: s, stop: stop, backing: b}
}

// announced closes a channel when Run begins.
type announced struct {
	realtime.Fanout
	running chan struct{}
}

func (a announced) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	close(a.running)
	return a.Fanout.Run(ctx, deliver)
}

func (n *node) connect(name string) *end {
	n.t.Helper()
	c := newConn()
	who := user.Identity{UserID: user.ID("u-" + name), Name: name, SessionID: "s-" + name}
	in, err := n.Accept(c, socket.Hello{Identity: who})
	require.NoError(n.t, err)
	c.onEnd = in.Disconnected
	return &end{conn: c, t: n.t, in: in}
}

// arrived waits until the user of this connection is present in a room that it has joined: a join is answered before, and
// what a connection asks next is answered after.
func (e *end) arrived(room string) {
	e.t.Helper()
	require.Equal(e.t, "ack", e.ask("presence", map[string]any{"room": room}).Event)
}

// gone disconnects, as when the client vanishes.
func (e *end) gone() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.in.Disconnected()
}

func TestNewHubNamesEverythingThatIsMissing(t *testing.T) {
	_, err := realtime.NewHub(realtime.HubConfig{MaxQueued: -1})
	for _, want := range []string{"Chat", "Fanout", "Presence", "MaxQueued"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestTalk(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	assert.Equal(t, joinAck{Room: "hall", Recovered: true, Messages: []wireMessage{}}, ada.join("hall"))
	bob.join("hall")
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-bob","name":"bob"}}`, string(ada.until("joined").Data))
	acked := ada.say("hall", "hello")
	assert.EqualValues(t, 1, acked.Seq)
	var got wireMessage
	require.NoError(t, json.Unmarshal(bob.until("message").Data, &got))
	assert.Equal(t, wireMessage{Room: "hall", Seq: 1, ID: acked.ID, Text: "hello", At: acked.At, User: struct{ ID, Name string }{"u-ada", "ada"}}, got)
	require.NoError(t, json.Unmarshal(ada.until("message").Data, &got), "the sender gets it too")
	bob.gone()
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-bob","name":"bob"}}`, string(ada.until("left").Data))
}

func TestOneFrameServesAllReceivers(t *testing.T) {
	n := start(t, nil)
	var members []*end
	for i := range 300 {
		m := n.connect(fmt.Sprint("m", i))
		m.join("hall")
		members = append(members, m)
	}
	members[0].emit("message", map[string]any{"room": "hall", "text": "x"})
	frames := map[*socket.Frame]bool{}
	for _, m := range members {
		for {
			f := <-m.frames
			if strings.Contains(string(f.Payload()), `"event":"message"`) {
				frames[f] = true
				break
			}
		}
	}
	assert.Len(t, frames, 1)
}

func TestANewcomerGetsTheLastTen(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for i := range 15 {
		ada.say("hall", fmt.Sprint("m", i+1))
	}
	a := n.connect("bob").join("hall")
	assert.EqualValues(t, 15, a.Seq)
	require.Len(t, a.Messages, 10)
	assert.EqualValues(t, 6, a.Messages[0].Seq)
	assert.Equal(t, "m15", a.Messages[9].Text)
}

func TestComingBack(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for range 150 {
		ada.say("hall", "x")
	}
	for _, c := range []struct {
		name      string
		since     uint64
		first, n  int
		recovered bool
	}{
		{"a moment later", 148, 149, 2, true},
		{"with nothing missed", 150, 0, 0, true},
		{"with more than a page missed", 5, 6, 100, true},
		{"from another life of the store", 1000, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bob := n.connect("bob")
			bob.t = t
			a := bob.join("hall", c.since)
			assert.EqualValues(t, 150, a.Seq)
			assert.Equal(t, c.recovered, a.Recovered)
			require.Len(t, a.Messages, c.n)
			if c.n > 0 {
				assert.EqualValues(t, c.first, a.Messages[0].Seq)
			}
			if c.n == 100 {
				v := bob.ask("history", map[string]any{"room": "hall", "after": 105})
				var h struct {
					Messages []wireMessage
					More     bool
				}
				require.NoError(t, json.Unmarshal(v.Data, &h))
				assert.Len(t, h.Messages, 45)
				assert.False(t, h.More)
			}
		})
	}
}

func TestSendingAgainHasTheSameAnswerAndNoSecondMessage(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	data := map[string]any{"room": "hall", "text": "x", "clientId": "c1"}
	first, again := ada.ask("message", data), ada.ask("message", data)
	assert.JSONEq(t, string(first.Data), string(again.Data))
	ada.say("hall", "y")
	assert.Equal(t, "1", seqOf(t, bob.until("message")))
	assert.Equal(t, "2", seqOf(t, bob.until("message")), "nothing in between")
}

// A message may have been stored by a node that died, or whose store did not answer in time, so that
// nobody heard of it.
func TestAMessageThatWasStoredUnheardIsHeardWhenItIsSentAgain(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	_, err := n.backing.messages.Append(t.Context(), []chat.Message{{Room: "hall", ID: "m1", ClientID: "c1", Text: "x", Author: chat.Author{ID: "u-ada", Name: "ada"}}})
	require.NoError(t, err)
	ada.ask("message", map[string]any{"room": "hall", "text": "x", "clientId": "c1"})
	assert.Equal(t, "1", seqOf(t, bob.until("message")))
}

func seqOf(t *testing.T, v envelope) string {
	t.Helper()
	var m struct{ Seq json.RawMessage }
	require.NoError(t, json.Unmarshal(v.Data, &m))
	return string(m.Seq)
}

func TestBadEventsCloseTheConnection(t *testing.T) {
	n := start(t, nil)
	witness := n.connect("witness")
	witness.join("hall")
	cases := map[string]string{
		"empty":                   ``,
		"not JSON":                `{"event":`,
		"not an object":           `[1]`,
		"two values":              `{"event":"presence","data":{"room":"r"}} {}`,
		"no event":                `{"id":1}`,
		"unknown event":           `{"event":"drop_tables","data":{}}`,
		"event of the server":     `{"event":"joined","data":{"room":"r"}}`,
		"event in another case":   `{"event":"Message","data":{"room":"r","text":"x"}}`,
		"event not a string":      `{"event":7}`,
		"unknown envelope member": `{"event":"presence","data":{"room":"r"},"x":1}`,
		"member in another case":  `{"event":"presence","Data":{"room":"r"}}`,
		"event twice":             `{"event":"presence","event":"presence","data":{"room":"r"}}`,
		"negative id":             `{"id":-1,"event":"presence","data":{"room":"r"}}`,
		"fractional id":           `{"id":1.5,"event":"presence","data":{"room":"r"}}`,
		"id too large":            `{"id":9007199254740992,"event":"presence","data":{"room":"r"}}`,
		"id a string":             `{"id":"1","event":"presence","data":{"room":"r"}}`,
		"data missing":            `{"event":"join_room"}`,
		"data null":               `{"event":"join_room","data":null}`,
		"data a list":             `{"event":"join_room","data":["r"]}`,
		"room missing":            `{"event":"join_room","data":{}}`,
		"room a number":           `{"event":"join_room","data":{"room":7}}`,
		"room null":               `{"event":"join_room","data":{"room":null}}`,
		"room empty":              `{"event":"join_room","data":{"room":""}}`,
		"room of 10,000":          `{"event":"join_room","data":{"room":"` + strings.Repeat("r", 10_000) + `"}}`,
		"room with NUL":           `{"event":"join_room","data":{"room":"a\u0000b"}}`,
		"room twice":              `{"event":"join_room","data":{"room":"a","room":"b"}}`,
		"room in another case":    `{"event":"join_room","data":{"Room":"a"}}`,
		"unknown field":           `{"event":"join_room","data":{"room":"a","admin":true}}`,
		"since negative":          `{"event":"join_room","data":{"room":"a","since":-1}}`,
		"since a string":          `{"event":"join_room","data":{"room":"a","since":"1"}}`,
		"since with exponent":     `{"event":"join_room","data":{"room":"a","since":1e3}}`,
		"text missing":            `{"event":"message","data":{"room":"a"}}`,
		"text empty":              `{"event":"message","data":{"room":"a","text":""}}`,
		"text too long":           `{"event":"message","data":{"room":"a","text":"` + strings.Repeat("x", chat.MaxText+1) + `"}}`,
		"text with NUL":           `{"event":"message","data":{"room":"a","text":"\u0000"}}`,
		"text half a surrogate":   `{"event":"message","data":{"room":"a","text":"\ud800x"}}`,
		"text not UTF-8":          "{\"event\":\"message\",\"data\":{\"room\":\"a\",\"text\":\"\xff\"}}",
		"client id with space":    `{"event":"message","data":{"room":"a","text":"x","clientId":"a b"}}`,
		"client id too long":      `{"event":"message","data":{"room":"a","text":"x","clientId":"` + strings.Repeat("c", 65) + `"}}`,
		"typing a string":         `{"event":"isTyping","data":{"room":"a","typing":"yes"}}`,
		"typing a number":         `{"event":"isTyping","data":{"room":"a","typing":1}}`,
		"limit zero":              `{"event":"history","data":{"room":"a","limit":0}}`,
		"limit too large":         `{"event":"history","data":{"room":"a","limit":1001}}`,
		"before zero":             `{"event":"history","data":{"room":"a","before":0}}`,
		"healthCheck with data":   `{"event":"healthCheck","data":{"deep":true}}`,
		"nested as deep as a sea": `{"event":"message","data":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
	}
	for name, payload := range cases {
		t.Run(name, func(t *testing.T) {
			e := n.connect("mallory")
			e.t = t
			e.in.Receive([]byte(payload), false)
			reason := e.closedWith(socket.CloseBadEvent)
			assert.NotEmpty(t, reason)
			assert.LessOrEqual(t, len(reason), 123)
		})
	}
	t.Run("binary", func(t *testing.T) {
		e := n.connect("mallory")
		e.t = t
		e.in.Receive([]byte(`{"event":"presence","data":{"room":"r"}}`), true)
		e.closedWith(socket.CloseBadEvent)
	})
	witness.say("hall", "nobody else was harmed")
}

func TestWhatWasNotJoinedIsRefused(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	ada.join("hall")
	for event, data := range map[string]map[string]any{
		"message":  {"room": "Hall", "text": "x"},
		"isTyping": {"room": "hall2"},
		"history":  {"room": "cellar"},
		"presence": {"room": "cellar"},
	} {
		v := ada.ask(event, data)
		require.Equal(t, "error", v.Event, event)
		assert.Equal(t, "not_joined", v.Error.Code, event)
	}
	ada.ask("leave_room", map[string]any{"room": "hall"})
	assert.Equal(t, "not_joined", ada.ask("message", map[string]any{"room": "hall", "text": "x"}).Error.Code)
	rooms, err := n.chat.RoomsOf(t.Context(), "u-ada", "", 0)
	require.NoError(t, err)
	assert.Empty(t, rooms, "leaving ends the membership")
}

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

func TestHealthCheckAnswersAndCloses(t *testing.T) {
	e := start(t, nil).connect("ada")
	v := e.ask("healthCheck", map[string]any{})
	assert.JSONEq(t, `{"message":"OK"}`, string(v.Data))
	e.closedWith(socket.CloseNormal)
}

func TestPipelinedCommandsKeepTheirOrder(t *testing.T) {
	n := start(t, nil)
	ada := n.connect("ada")
	// The join waits for the store; what is sent behind it must not overtake it.
	for _, payload := range []string{
		`{"id":1,"event":"join_room","data":{"room":"a"}}`,
		`{"id":2,"event":"message","data":{"room":"a","text":"one"}}`,
		`{"id":3,"event":"join_room","data":{"room":"b"}}`,
		`{"id":4,"event":"presence","data":{"room":"b"}}`,
		`{"id":5,"event":"leave_room","data":{"room":"b"}}`,
		`{"id":6,"event":"history","data":{"room":"b"}}`,
	} {
		ada.in.Receive([]byte(payload), false)
	}
	want := map[int]string{1: "ack", 2: "ack", 3: "ack", 4: "ack", 5: "ack", 6: "error"}
	for len(want) > 0 {
		if v := ada.next(); v.ID != nil {
			assert.Equal(t, want[*v.ID], v.Event, *v.ID)
			delete(want, *v.ID)
		}
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

// clock is set by hand.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

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

func TestRevoke(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Now = c.now })
	one, two, other := n.connect("ada"), n.connect("ada"), n.connect("bob")
	n.Revoke("u-ada", "s-ada", c.now().Add(time.Minute))
	one.closedWith(socket.CloseUnauthenticated)
	two.closedWith(socket.CloseUnauthenticated)
	who := user.Identity{UserID: "u-ada", SessionID: "s-ada"}
	_, err := n.Accept(newConn(), socket.Hello{Identity: who})
	assert.ErrorIs(t, err, fault.Unauthenticated)
	other.join("hall")
	c.advance(61 * time.Second)
	_, err = n.Accept(newConn(), socket.Hello{Identity: who})
	assert.NoError(t, err, "the session's tokens have expired by themselves")
}

func TestConnectionsAreBounded(t *testing.T) {
	n := start(t, func(cfg *realtime.HubConfig) { cfg.MaxConnections = 1 })
	ada := n.connect("ada")
	_, err := n.Accept(newConn(), socket.Hello{})
	assert.ErrorIs(t, err, realtime.ErrFull)
	ada.gone()
	n.connect("bob")
}

func TestDrain(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	require.NoError(t, n.Drain(t.Context()))
	ada.closedWith(socket.CloseServiceRestart)
	bob.closedWith(socket.CloseServiceRestart)
	assert.True(t, n.Draining())
	assert.Zero(t, n.Connections())
	_, err := n.Accept(newConn(), socket.Hello{})
	assert.ErrorIs(t, err, socket.ErrDraining)
	require.NoError(t, n.Drain(t.Context()), "twice is harmless")
}

// Clients of a node that ends come to others as their connections close: not all at once, and those that are
// still open are served.
func TestDrainSpreadsWhatItCloses(t *testing.T) {
	const all = 100
	tests := map[string]struct {
		rate    int
		timeout time.Duration // of the context; 0 is none
		want    time.Duration // until the last one is closed
	}{
		"at the rate":                       {rate: 25, want: 4 * time.Second},
		"within the time that there is":     {rate: 25, timeout: time.Second, want: 600 * time.Millisecond},
		"at once, if nothing bounds it":     {rate: -1},
		"at once, if few are there":         {rate: 40_000},
		"at once, if there is no time left": {rate: 25, timeout: time.Nanosecond},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, func(cfg *realtime.HubConfig) { cfg.DrainRate = tc.rate })
				ends := make([]*end, all)
				for i := range ends {
					ends[i] = n.connect(fmt.Sprint("user", i))
				}
				ctx := t.Context()
				if tc.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				begun := time.Now()
				drained := make(chan error, 1)
				go func() { drained <- n.Drain(ctx) }()
				if tc.want > 0 {
					for _, part := range []int{4, 2} { // a quarter, then half
						time.Sleep(time.Until(begun.Add(tc.want / time.Duration(part))))
						synctest.Wait()
						left := n.Connections()
						assert.InDelta(t, all-all/part, left, 2, "after 1/%d of the time", part)
						for _, e := range ends { // one that is left is served
							select {
							case <-e.ended:
								continue
							default:
							}
							assert.Equal(t, "ack", e.ask("join_room", map[string]any{"room": "hall"}).Event)
							break
						}
					}
				}
				require.NoError(t, <-drained)
				assert.InDelta(t, tc.want, time.Since(begun), float64(20*time.Millisecond))
				for _, e := range ends {
					e.closedWith(socket.CloseServiceRestart)
				}
			})
		})
	}
}

func TestDrainClosesTheRestWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, func(cfg *realtime.HubConfig) { cfg.DrainRate = 1 })
		ends := []*end{n.connect("ada"), n.connect("bob"), n.connect("eve")}
		ctx, cancel := context.WithCancel(t.Context())
		drained := make(chan error, 1)
		go func() { drained <- n.Drain(ctx) }()
		synctest.Wait()
		assert.Equal(t, 3, n.Connections())
		cancel()
		assert.ErrorIs(t, <-drained, context.Canceled)
		for _, e := range ends {
			e.closedWith(socket.CloseServiceRestart)
		}
	})
}

func TestAFailedReadJoinsNothing(t *testing.T) {
	b := newBacking()
	s, err := chat.New(chat.Config{Store: unreadable{b.messages}, Rooms: b.rooms, Members: b.members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{})})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	n := startOn(t, b, memory.NewFanout().Node(), func(c *realtime.HubConfig) { c.Chat = s })
	ada := n.connect("ada")
	v := ada.ask("join_room", map[string]any{"room": "hall"})
	require.Equal(t, "error", v.Event)
	assert.Equal(t, "unavailable", v.Error.Code)
	assert.NotContains(t, v.Error.Title+v.Error.Detail, "disk", "the store's text is not for clients")
	assert.Equal(t, "not_joined", ada.ask("presence", map[string]any{"room": "hall"}).Error.Code)
}

type unreadable struct{ chat.MessageStore }

func (unreadable) List(context.Context, string, chat.Range) ([]chat.Message, error) {
	return nil, fault.Wrap(fault.Unavailable, errors.New("disk on fire"))
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
