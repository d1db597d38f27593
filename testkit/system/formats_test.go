package system

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/packed"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// speaker is somebody who speaks the packed format.
type speaker struct {
	t  *testing.T
	ws *wsraw.Conn
	id uint64
}

func (s *speaker) say(event string, fields ...packed.Field) {
	s.t.Helper()
	s.id++
	require.NoError(s.t, s.ws.Send(wsraw.Frame{Final: true, Opcode: wsraw.OpBinary, Payload: packed.Said(&s.id, event, fields...)}))
}

// hear returns what comes next of a kind and, unless it is empty, a name.
func (s *speaker) hear(kind byte, event string) packed.Heard {
	s.t.Helper()
	for {
		f, err := s.ws.Read()
		require.NoError(s.t, err)
		if f.Opcode == wsraw.OpPing {
			continue
		}
		require.EqualValues(s.t, wsraw.OpBinary, f.Opcode, "%q", f.Payload)
		h, err := packed.Read(f.Payload)
		require.NoError(s.t, err)
		if h.Kind == kind && (event == "" || h.Event == event) {
			return h
		}
	}
}

// TestTwoFormatsAreOneRoom lets two people talk who speak different wire formats to different nodes.
func TestTwoFormatsAreOneRoom(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		cfg.Nodes = 2
		cfg.Protocols = []string{socket.Protocol, packed.Protocol}
		cfg.Hub.Formats = map[string]protocol.NewFormat{packed.Protocol: packed.New}
		cfg.Hub.Events = []realtime.Event{{
			ClientEvent: protocol.ClientEvent{Name: "wave", Doc: "Wave.", Data: &protocol.Object{Name: "Wave", Fields: []protocol.Field{
				{Name: "hand", Type: protocol.String, Required: true, MaxLength: 10},
			}}},
			Handle: func(ctx context.Context, call realtime.Call) (protocol.Data, error) {
				return nil, call.Send(ctx, "waved", protocol.Data{"hand": call.Data.Text("hand")})
			},
		}}
		cfg.Hub.Sends = []protocol.ServerEvent{{Name: "waved", Doc: "Somebody waved.", Data: &protocol.Object{Name: "Waved", Fields: []protocol.Field{
			{Name: "hand", Type: protocol.String, Required: true},
		}}}}
		s := Start(t, cfg)
		ada, bob := s.User(t, "Ada"), s.User(t, "Bob")

		ws, err := wsraw.Dial(within(t), s.SocketURLs[1], http.Header{
			"Authorization": {"Bearer " + bob.AccessToken}, "Sec-Websocket-Protocol": {packed.Protocol + ", " + socket.Protocol},
		}, nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = ws.Close() }) // is closed already
		require.Equal(t, packed.Protocol, ws.Header.Get("Sec-Websocket-Protocol"))
		b := &speaker{t: t, ws: ws}
		a := s.DialRaw(t, ada.AccessToken)
		require.NoError(t, a.Send(text(`{"id":1,"event":"join_room","data":{"room":"hall"}}`)))
		require.Contains(t, next(t, a, "ack"), `"recovered":true`)

		b.say("join_room", packed.Field{Name: "room", Value: "hall"})
		joined := b.hear('a', "join_room")
		assert.Equal(t, b.id, joined.ID)
		assert.Equal(t, "hall", joined.Data.Text("room"))
		assert.Contains(t, next(t, a, "joined"), `"name":"Bob"`)

		require.NoError(t, a.Send(text(`{"id":2,"event":"message","data":{"room":"hall","text":"hello, packed"}}`)))
		m := b.hear('v', "message")
		assert.Equal(t, "hello, packed", m.Data.Text("text"))
		assert.Equal(t, "Ada", m.Data["user"].(protocol.Data).Text("name"))
		assert.EqualValues(t, 1, m.Data.Integer("seq"))

		b.say("message", packed.Field{Name: "text", Value: "hello, JSON 𝕏"}, packed.Field{Name: "room", Value: "hall"})
		ack := b.hear('a', "message")
		assert.EqualValues(t, 2, ack.Data.Integer("seq"))
		next(t, a, "message") // ada's own
		got := next(t, a, "message")
		assert.Contains(t, got, `"text":"hello, JSON 𝕏"`)
		assert.Contains(t, got, `"at":"`+ack.Data.Time("at").Format("2006-01-02T15:04:05.000000Z")+`"`)

		b.say("isTyping", packed.Field{Name: "room", Value: "hall"})
		assert.Contains(t, next(t, a, "isTyping"), `"typing":true`)
		b.say("wave", packed.Field{Name: "room", Value: "hall"}, packed.Field{Name: "hand", Value: "left"})
		assert.Equal(t, `{"event":"waved","data":{"room":"hall","hand":"left"}}`, next(t, a, "waved"))
		assert.Equal(t, "left", b.hear('v', "waved").Data.Text("hand"))
		require.NoError(t, a.Send(text(`{"id":3,"event":"wave","data":{"room":"hall","hand":"right"}}`)))
		assert.Equal(t, "right", b.hear('v', "waved").Data.Text("hand"))

		// An error is an answer, and what breaks the rules ends the connection, in every format.
		b.say("message", packed.Field{Name: "room", Value: "elsewhere"}, packed.Field{Name: "text", Value: "x"})
		assert.Equal(t, "not_joined", b.hear('e', "").Event)
		b.say("wave", packed.Field{Name: "room", Value: "hall"}, packed.Field{Name: "hand", Value: "much too long"})
		code, reason, err := ws.ReadClose()
		require.NoError(t, err)
		assert.Equal(t, socket.CloseBadEvent, code)
		assert.Equal(t, "data.hand: must have 0 to 10 characters", reason)
		require.NoError(t, ws.Close())
		assert.Contains(t, next(t, a, "left"), `"name":"Bob"`)
	})
}

// next returns the next text of an event.
func next(t *testing.T, ws *wsraw.Conn, event string) string {
	t.Helper()
	for {
		f, err := ws.Read()
		require.NoError(t, err)
		if s := string(f.Payload); f.Opcode == wsraw.OpText && strings.Contains(s, `"event":"`+event+`"`) {
			return s
		}
	}
}
