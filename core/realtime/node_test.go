package realtime_test

import (
	"context"
	"encoding/json"
	"runtime"
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
	ReplyTo                  uint64
	Data                     json.RawMessage
	Rev                      uint64
	EditedAt, DeletedAt      time.Time
	Reactions                []wireReaction
}

type wireReaction struct {
	Key   string
	Count int
	Users []string
}

type joinAck struct {
	Room      string
	Seq, Rev  uint64
	Read      uint64
	Recovered bool
	Messages  []wireMessage
	Changes   []wireMessage
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

	restrictions *memory.Restrictions
	roles        *memory.Roles
	blocks       *memory.Blocks
	settings     *memory.Settings
}

func newBacking() backing {
	messages, rooms := memory.NewMessages(), memory.NewRooms()
	members := memory.NewMembers(messages)
	roles := memory.NewRoles(rooms, members)
	return backing{messages, members, rooms, memory.NewPresence(), memory.NewRestrictions(roles), roles, memory.NewBlocks(), memory.NewSettings()}
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
	if rules.Store == nil {
		rules.Store = b.messages
	}
	if rules.Members == nil {
		rules.Members = b.members
	}
	if rules.Marks == nil {
		rules.Marks = b.members
	}
	if rules.Restrictions == nil {
		rules.Restrictions = b.restrictions
	}
	if rules.Roles == nil {
		rules.Roles = b.roles
	}
	if rules.Settings == nil {
		rules.Settings = b.settings
	}
	rules.Blocks = b.blocks
	rules.Rooms, rules.Cache = b.rooms, memory.NewRecentCache(memory.RecentCacheConfig{})
	s, err := chat.New(rules)
	require.NoError(t, err)
	running := make(chan struct{})
	cfg := realtime.HubConfig{Chat: s, Fanout: announced{fanout, running}, Presence: b.presence, Rate: -1}
	if change != nil {
		change(&cfg)
	}
	leases := cfg.Presence == realtime.Presence(b.presence)
	h, err := realtime.NewHub(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	chatCtx, chatCancel := context.WithCancel(context.Background())
	wg.Go(func() { assert.NoError(t, s.Run(chatCtx)) })
	wg.Go(func() { assert.NoError(t, h.Run(ctx)); chatCancel() })
	<-running
	hears := cfg.Chat.KeepsRestrictions()
	for leases && !h.Leased() || hears && !h.Hears() { // it asks memory; who came in before would be told, and counted, a little later
		runtime.Gosched()
	}
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

func seqOf(t *testing.T, v envelope) string {
	t.Helper()
	var m struct{ Seq json.RawMessage }
	require.NoError(t, json.Unmarshal(v.Data, &m))
	return string(m.Seq)
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
