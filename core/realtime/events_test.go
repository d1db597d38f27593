package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

var errClosedPoll = fault.New(fault.Conflict, "poll_closed", "the poll is closed")

// polls is an application: members of a room vote, and the room is told.
func polls(cfg *realtime.HubConfig) {
	cfg.Events = []realtime.Event{{
		ClientEvent: protocol.ClientEvent{
			Name: "vote", Doc: "Vote.",
			Data: &protocol.Object{Name: "Vote", Fields: []protocol.Field{
				{Name: "choice", Type: protocol.String, Required: true, MinLength: 1, MaxLength: 20},
				{Name: "weight", Type: protocol.Integer, Minimum: 1, Maximum: 3},
				{Name: "secret", Type: protocol.Boolean},
			}},
			Ack: &protocol.Object{Name: "VoteAck", Fields: []protocol.Field{{Name: "votes", Type: protocol.Integer, Required: true}}},
		},
		Handle: func(ctx context.Context, call realtime.Call) (protocol.Data, error) {
			switch call.Data.Text("choice") {
			case "late":
				return nil, errClosedPoll.Detail("since noon")
			case "broken":
				return nil, errors.New("a secret of the store")
			case "panic":
				panic("a secret of the store")
			case "unfit":
				return protocol.Data{"votes": "many"}, nil
			}
			err := call.Send(ctx, "voted", protocol.Data{"by": protocol.UserData(call.User), "choice": call.Data.Text("choice"), "at": time.Unix(7, 0)})
			return protocol.Data{"votes": int(max(call.Data.Integer("weight"), 1))}, err
		},
	}}
	cfg.Sends = []protocol.ServerEvent{{Name: "voted", Doc: "Somebody voted.", Data: &protocol.Object{Name: "Voted", Fields: []protocol.Field{
		{Name: "by", Type: protocol.Ref, Required: true, Object: &protocol.Object{Name: "Voter", Fields: []protocol.Field{
			{Name: "id", Type: protocol.String, Required: true}, {Name: "name", Type: protocol.String, Required: true},
		}}},
		{Name: "choice", Type: protocol.String, Required: true, MaxLength: 20},
		{Name: "at", Type: protocol.Time, Required: true},
	}}}}
}

func TestAnEventOfAnApplication(t *testing.T) {
	backing, fanout := newBacking(), memory.NewFanout()
	here := startOn(t, backing, fanout.Node(), polls)
	there := startOn(t, backing, fanout.Node(), polls)
	old := startOn(t, backing, fanout.Node(), nil) // does not know the event
	ada, bob, eve := here.connect("ada"), there.connect("bob"), old.connect("eve")

	// Only in a room that was joined.
	v := ada.ask("vote", map[string]any{"room": "hall", "choice": "tea"})
	require.NotNil(t, v.Error)
	assert.Equal(t, "not_joined", v.Error.Code)
	for _, e := range []*end{ada, bob, eve} {
		e.join("hall")
	}
	v = ada.ask("vote", map[string]any{"room": " hall"[1:], "choice": "tea", "weight": 2})
	require.Equal(t, "ack", v.Event)
	assert.JSONEq(t, `{"votes":2}`, string(v.Data))
	want := `{"room":"hall","by":{"id":"u-ada","name":"ada"},"choice":"tea","at":"1970-01-01T00:00:07.000000Z"}`
	assert.Equal(t, want, string(bob.until("voted").Data))
	bob.emit("vote", map[string]any{"room": "hall", "choice": "x"})
	for _, e := range []*end{ada, bob} { // the sender too, and without an id there is no answer
		for !strings.Contains(string(e.until("voted").Data), `"choice":"x"`) {
		}
	}
	for choice, code := range map[string]string{"late": "poll_closed", "broken": "internal", "panic": "internal", "unfit": "internal"} {
		v := ada.ask("vote", map[string]any{"room": "hall", "choice": choice})
		require.NotNil(t, v.Error, choice)
		assert.Equal(t, code, v.Error.Code)
		assert.NotContains(t, v.Error.Title+v.Error.Detail, "secret")
		if choice == "late" {
			assert.Equal(t, "since noon", v.Error.Detail)
		}
	}
	// The hub itself sends, and only what was registered, and what fits.
	require.NoError(t, here.Send(t.Context(), "hall", chat.Author{ID: "bot"}, "voted", protocol.Data{
		"by": protocol.Data{"id": "bot", "name": "Bot"}, "choice": "all", "at": time.Unix(8, 0),
	}))
	assert.Contains(t, string(bob.until("voted").Data), `"choice":"all"`)
	for event, data := range map[string]protocol.Data{"message": {}, "joined": {}, "other": {}, "voted": {"choice": "x"}} {
		assert.ErrorIs(t, here.Send(t.Context(), "hall", chat.Author{}, event, data), fault.Invalid, event)
	}
	// Who does not know the event goes on.
	assert.Equal(t, "hello", eve.say("hall", "hello").Text+"hello")
	assert.Equal(t, "hello", func() string { var m wireMessage; _ = json.Unmarshal(ada.until("message").Data, &m); return m.Text }())
}

func TestEventsOfAnApplicationAreCheckedLikeOurs(t *testing.T) {
	for name, data := range map[string]map[string]any{
		"a missing field":  {"room": "hall"},
		"no room":          {"choice": "tea"},
		"an unknown field": {"room": "hall", "choice": "tea", "more": 1},
		"too long":         {"room": "hall", "choice": strings.Repeat("x", 21)},
		"too short":        {"room": "hall", "choice": ""},
		"out of range":     {"room": "hall", "choice": "tea", "weight": 4},
		"another type":     {"room": "hall", "choice": "tea", "secret": "yes"},
		"null":             {"room": "hall", "choice": nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, polls).connect("ada")
			e.join("hall")
			e.emit("vote", data)
			e.closedWith(socket.CloseBadEvent)
		})
	}
}

func TestEventsThatCannotBeEndTheStart(t *testing.T) {
	handle := func(context.Context, realtime.Call) (protocol.Data, error) { return nil, nil }
	event := func(name string, fields ...protocol.Field) realtime.Event {
		e := realtime.Event{ClientEvent: protocol.ClientEvent{Name: name}, Handle: handle}
		if len(fields) > 0 {
			e.Data = &protocol.Object{Name: "Data", Fields: fields}
		}
		return e
	}
	for want, change := range map[string]func(*realtime.HubConfig){
		`"message" of clients: the name is Parley's own`: func(c *realtime.HubConfig) { c.Events = []realtime.Event{event("message")} },
		`"joined" of clients: the name is Parley's own`:  func(c *realtime.HubConfig) { c.Events = []realtime.Event{event("joined")} },
		`the name stands twice`:                          func(c *realtime.HubConfig) { c.Events = []realtime.Event{event("vote"), event("vote")} },
		`"vote" has no Handle`: func(c *realtime.HubConfig) {
			c.Events = []realtime.Event{{ClientEvent: protocol.ClientEvent{Name: "vote"}}}
		},
		`field "choice" of Data: MaxLength is missing`: func(c *realtime.HubConfig) {
			c.Events = []realtime.Event{event("vote", protocol.Field{Name: "choice", Type: protocol.String})}
		},
		`"error" of the server: the name is Parley's own`: func(c *realtime.HubConfig) { c.Sends = []protocol.ServerEvent{{Name: "error"}} },
		`"" has no name or no format`:                     func(c *realtime.HubConfig) { c.Formats = map[string]protocol.NewFormat{"": protocol.JSON} },
		`"x" has no name or no format`:                    func(c *realtime.HubConfig) { c.Formats = map[string]protocol.NewFormat{"x": nil} },
		`more than 8 formats`: func(c *realtime.HubConfig) {
			c.Formats = map[string]protocol.NewFormat{}
			for _, name := range "abcdefgh" {
				c.Formats[string(name)] = protocol.JSON
			}
		},
	} {
		t.Run(want, func(t *testing.T) {
			store := memory.NewStore()
			s, err := chat.New(chat.Config{Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{})})
			require.NoError(t, err)
			cfg := realtime.HubConfig{Chat: s, Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence()}
			change(&cfg)
			_, err = realtime.NewHub(cfg)
			assert.ErrorContains(t, err, want)
		})
	}
}

func TestASubprotocolThatNoFormatHas(t *testing.T) {
	_, err := start(t, nil).Accept(newConn(), socket.Hello{Protocol: "other"})
	assert.ErrorIs(t, err, realtime.ErrNoFormat)
}

// terse is a format that has neither joined nor left, sends the messages of a join one by one as events, and
// answers healthCheck without being asked to.
type terse struct {
	protocol.Format
	schema *protocol.Schema
}

func newTerse(s *protocol.Schema) protocol.Format { return terse{protocol.JSON(s), s} }

func (f terse) Answer(to protocol.Sink, c protocol.Command, a protocol.Answer) {
	switch c.Event {
	case protocol.EventJoinRoom:
		for _, m := range a.Messages {
			to.Send(f.Event(protocol.Outgoing{Schema: f.schema.ServerEvent(protocol.EventMessage), Message: m}))
		}
		a.Messages = nil
	case protocol.EventHealthCheck:
		c.HasID = true
	}
	f.Format.Answer(to, c, a)
}

func (f terse) Event(e protocol.Outgoing) *socket.Frame {
	if e.Schema.Name == protocol.EventJoined || e.Schema.Name == protocol.EventLeft {
		return nil
	}
	return f.Format.Event(e)
}

func TestAFormatAnswersInItsOwnWay(t *testing.T) {
	n := start(t, func(cfg *realtime.HubConfig) {
		cfg.Formats = map[string]protocol.NewFormat{"terse": newTerse}
		cfg.MaxQueued = 64 << 10
	})
	ada := n.connect("ada")
	ada.join("hall")
	for _, text := range []string{"one", "two", strings.Repeat("x", 4000)} {
		ada.say("hall", text)
	}
	c := newConn()
	in, err := n.Accept(c, socket.Hello{Identity: user.Identity{UserID: "u-bob", Name: "bob"}, Protocol: "terse"})
	require.NoError(t, err)
	c.onEnd = in.Disconnected
	bob := &end{conn: c, t: t, in: in}
	bob.emit("join_room", map[string]any{"room": "hall"})
	text := func(v envelope) string {
		require.Equal(t, "message", v.Event)
		var m wireMessage
		require.NoError(t, json.Unmarshal(v.Data, &m))
		return m.Text[:1]
	}
	assert.Equal(t, "one", text(bob.next())+"ne") // without an id there is no more than the messages
	assert.Equal(t, "t", text(bob.next()))
	assert.Equal(t, "x", text(bob.next()))
	ada.until("joined")
	carol := n.connect("carol")
	carol.join("hall")
	carol.say("hall", "live")
	assert.Equal(t, "l", text(bob.next()), "nobody told bob that carol came")

	v := bob.ask("join_room", map[string]any{"room": "hall"})
	assert.Equal(t, "ack", v.Event, "the messages stand before it")
	bob.emit("healthCheck", map[string]any{})
	assert.JSONEq(t, `{"message":"OK"}`, string(bob.next().Data))
	bob.closedWith(socket.CloseNormal)
}
