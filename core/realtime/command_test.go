package realtime_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
