package realtime_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/socket"
)

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
		"data of text a list":     `{"event":"message","data":{"room":"a","text":"x","data":[]}}`,
		"data of text a string":   `{"event":"message","data":{"room":"a","text":"x","data":"{}"}}`,
		"data of text null":       `{"event":"message","data":{"room":"a","text":"x","data":null}}`,
		"data too long":           `{"event":"message","data":{"room":"a","text":"x","data":{"a":"` + strings.Repeat("x", chat.MaxData) + `"}}}`,
		"data too deep":           `{"event":"message","data":{"room":"a","text":"x","data":` + strings.Repeat(`{"a":`, chat.MaxDataDepth) + "{}" + strings.Repeat("}", chat.MaxDataDepth) + `}}`,
		"data with NUL":           `{"event":"message","data":{"room":"a","text":"x","data":{"a":"\u0000"}}}`,
		"data with NUL in a name": `{"event":"message","data":{"room":"a","text":"x","data":{"\u0000":1}}}`,
		"reply to nothing":        `{"event":"message","data":{"room":"a","text":"x","replyTo":0}}`,
		"reply to a string":       `{"event":"message","data":{"room":"a","text":"x","replyTo":"1"}}`,
		"client id with space":    `{"event":"message","data":{"room":"a","text":"x","clientId":"a b"}}`,
		"client id too long":      `{"event":"message","data":{"room":"a","text":"x","clientId":"` + strings.Repeat("c", 65) + `"}}`,
		"typing a string":         `{"event":"isTyping","data":{"room":"a","typing":"yes"}}`,
		"typing a number":         `{"event":"isTyping","data":{"room":"a","typing":1}}`,
		"mark without read":       `{"event":"mark","data":{"room":"a"}}`,
		"mark negative":           `{"event":"mark","data":{"room":"a","read":-1}}`,
		"mark too large":          `{"event":"mark","data":{"room":"a","read":9007199254740992}}`,
		"mark a string":           `{"event":"mark","data":{"room":"a","read":"1"}}`,
		"mark null":               `{"event":"mark","data":{"room":"a","read":null}}`,
		"mark a fraction":         `{"event":"mark","data":{"room":"a","read":1.5}}`,
		"mark without room":       `{"event":"mark","data":{"read":1}}`,
		"marked by a client":      `{"event":"marked","data":{"room":"a","read":1}}`,
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
		"mark":     {"room": "hall2", "read": 1},
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

func TestRepliesAndDataReachEverybody(t *testing.T) {
	b, fanout := newBacking(), memory.NewFanout()
	one, two := startOn(t, b, fanout.Node(), nil), startOn(t, b, fanout.Node(), nil)
	ada, bob := one.connect("ada"), two.connect("bob")
	ada.join("hall")
	bob.join("hall")
	message := func(v envelope) (m wireMessage) {
		require.NoError(t, json.Unmarshal(v.Data, &m))
		return m
	}
	bob.say("hall", "What do you like?")
	first := message(ada.until("message"))
	assert.Zero(t, first.ReplyTo)
	assert.Nil(t, first.Data)
	const data = `{"b":[1.50,"\u00e9"],"a":{}}`
	ada.in.Receive([]byte(`{"id":70,"event":"message","data":{"room":"hall","text":"Tea.","clientId":"c","replyTo":1,"data": { "b" : [1.50, "\u00e9"], "a":{} }}}`), false)
	ada.in.Receive([]byte(`{"id":71,"event":"message","data":{"room":"hall","text":"Green."}}`), false)
	var answered []int
	for _, e := range []*end{ada, bob} {
		var heard []wireMessage
		for len(heard) < 2 || e == ada && len(answered) < 2 {
			switch v := e.next(); v.Event {
			case "ack":
				answered = append(answered, *v.ID)
				assert.NotContains(t, string(v.Data), "replyTo", "the answer to a message is as ever")
			case "message":
				if m := message(v); m.Seq > 1 {
					heard = append(heard, m)
				}
			}
		}
		assert.EqualValues(t, 1, heard[0].ReplyTo)
		assert.Equal(t, data, string(heard[0].Data))
		assert.Zero(t, heard[1].ReplyTo)
		assert.Nil(t, heard[1].Data)
	}
	assert.Equal(t, []int{70, 71}, answered, "behind a reply nothing overtakes it")
	late := two.connect("late")
	page := late.join("hall").Messages
	require.Len(t, page, 3)
	assert.EqualValues(t, 1, page[1].ReplyTo)
	assert.Equal(t, data, string(page[1].Data))
	assert.Nil(t, page[2].Data)
	var history struct{ Messages []wireMessage }
	require.NoError(t, json.Unmarshal(late.ask("history", map[string]any{"room": "hall"}).Data, &history))
	assert.Equal(t, page, history.Messages)

	// What is not there cannot be answered; nothing is stored, and the connection stays.
	v := ada.ask("message", map[string]any{"room": "hall", "text": "x", "replyTo": 4})
	require.NotNil(t, v.Error)
	assert.Equal(t, "reply_to_invalid", v.Error.Code)
	assert.EqualValues(t, 4, ada.say("hall", "y").Seq)
	again := ada.ask("message", map[string]any{"room": "hall", "text": "z", "clientId": "c"})
	var m wireMessage
	require.NoError(t, json.Unmarshal(again.Data, &m))
	assert.EqualValues(t, 2, m.Seq)
}

// waiting is a store whose Bounds waits once it is armed.
type waiting struct {
	*memory.Messages
	armed          *atomic.Bool
	asked, proceed chan struct{}
}

func (s waiting) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	if s.armed.Load() {
		s.asked <- struct{}{}
		<-s.proceed
	}
	return s.Messages.Bounds(ctx, room)
}

// A reply that has to be looked up holds up its sender's next events, and nobody else.
func TestAReplyThatIsLookedUpHoldsNobodyUp(t *testing.T) {
	b := newBacking()
	s := waiting{b.messages, new(atomic.Bool), make(chan struct{}), make(chan struct{})}
	n := startWith(t, b, memory.NewFanout().Node(), chat.Config{Store: s}, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	bob.say("hall", "one")
	s.armed.Store(true)
	ada.in.Receive([]byte(`{"id":80,"event":"message","data":{"room":"hall","text":"x","replyTo":1}}`), false)
	assert.Equal(t, 80, *ada.until("ack").ID, "what was delivered here needs no look-up")
	ada.in.Receive([]byte(`{"id":81,"event":"message","data":{"room":"hall","text":"x","replyTo":9}}`), false)
	ada.in.Receive([]byte(`{"id":82,"event":"message","data":{"room":"hall","text":"y"}}`), false)
	<-s.asked
	assert.EqualValues(t, 3, bob.say("hall", "two").Seq)
	close(s.proceed)
	v := ada.until("error")
	assert.Equal(t, 81, *v.ID)
	assert.Equal(t, "reply_to_invalid", v.Error.Code)
	assert.Equal(t, 82, *ada.until("ack").ID)
}
