package bridge

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// Protocol is the name of the format in HubConfig.Formats of package realtime.
const Protocol = "socket.io"

// Format makes the wire format for a schema; see the package comment.
func Format(s *protocol.Schema) protocol.Format { return newFormat(s) }

func newFormat(s *protocol.Schema) format {
	f := format{schema: s, refused: map[string]bool{}}
	for _, e := range protocol.Own().ClientEvents() {
		f.refused[e.Name] = !slices.Contains(old, e.Name)
	}
	return f
}

// old are the events of Parley's own that old front ends send.
var old = []string{protocol.EventJoinRoom, protocol.EventMessage, protocol.EventTyping, protocol.EventHealthCheck}

// names are those that fields have on the wire, by event, where they differ from the schema's.
var names = map[string]map[string]string{
	protocol.EventJoinRoom: {"name": "room"},
	protocol.EventMessage:  {"roomName": "room", "message": "text"},
	protocol.EventTyping:   {"roomName": "room"},
}

// maxUserID is the longest userId that a client may name, in bytes.
const maxUserID = 256

// format is the wire format of the old front ends.
type format struct {
	schema  *protocol.Schema
	refused map[string]bool // events of the schema
	offsets bool            // messages have an offset
}

var _ protocol.Format = format{}

// Decode reads an event packet with at most one argument, an object.
func (f format) Decode(payload []byte, binary bool) (protocol.Command, error) {
	none := protocol.Command{}
	if binary {
		return none, protocol.ErrBadEvent.Detail("binary messages are not part of the protocol")
	}
	p, err := packet.Limits{}.Parse(payload)
	if err != nil {
		return none, protocol.ErrBadEvent.Detail("%v", err)
	}
	if p.Type != packet.Event {
		return none, protocol.ErrBadEvent.Detail("an event is expected")
	}
	args := packet.Elements(p.Data)
	event := packet.Name(args[0])
	if f.refused[event] {
		return none, protocol.ErrBadEvent.Detail("unknown event %.40q", event)
	}
	k, err := f.schema.Check(event)
	if err != nil {
		return none, err
	}
	if len(args) > 2 || len(args) == 2 && args[1][0] != '{' {
		return none, protocol.ErrBadEvent.Detail("an event has one object")
	}
	if len(args) == 2 {
		userID := false
		err := packet.Fields(args[1], func(name string, value json.RawMessage) error {
			if name == "userId" && event == protocol.EventJoinRoom {
				// It is checked and has no effect: who somebody is, the token says.
				s, err := packet.Text(value)
				if err != nil || len(s) > maxUserID || userID {
					return protocol.ErrBadEvent.Detail("data.userId is not a user's id")
				}
				userID = true
				return nil
			}
			return set(k, event, name, value)
		})
		if err != nil {
			return none, fault.Wrap(fault.Invalid, err)
		}
	}
	cmd, err := k.Command()
	if err != nil {
		return none, err
	}
	if packet.Reserved(cmd.Room) {
		return none, protocol.ErrBadEvent.Detail("clients cannot hear of a room with this name")
	}
	cmd.ID, cmd.HasID = p.ID, p.HasID
	return cmd, nil
}

// set gives a field of the event its value.
func set(k *protocol.Check, event, name string, value json.RawMessage) error {
	if differ := names[event]; differ != nil {
		switch ours := differ[name]; {
		case ours != "":
			name = ours
		case slices.Contains([]string{"room", "text"}, name):
			return protocol.ErrBadEvent.Detail("unknown field data.%q", name)
		}
	}
	field, err := k.Field(name)
	if err != nil {
		return err
	}
	switch field.Type {
	case protocol.Integer:
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return protocol.ErrBadEvent.Detail("data.%s: not an integer", name)
		}
		return k.Integer(field, n)
	case protocol.Boolean:
		if value[0] != 't' && value[0] != 'f' {
			return protocol.ErrBadEvent.Detail("data.%s: must be true or false", name)
		}
		return k.Boolean(field, value[0] == 't')
	case protocol.Free:
		return k.Free(field, string(value))
	default:
		s, err := packet.Text(value)
		if err != nil {
			return protocol.ErrBadEvent.Detail("data.%s: %v", name, err)
		}
		return k.Text(field, s)
	}
}

// Answer sends the messages of a room that was joined as events, and an ack if the client asked for one.
func (f format) Answer(to protocol.Sink, c protocol.Command, a protocol.Answer) {
	switch c.Event {
	case protocol.EventJoinRoom:
		for _, m := range a.Messages {
			if e := f.message(a.Room, m); e != nil {
				to.Send(e)
			}
		}
		if n := len(a.Messages); f.offsets && (n == 0 || a.Messages[n-1].Seq < a.Seq) {
			// There is no message that tells the client where it stands.
			to.Send(here(realtime.Place{Room: a.Room, Seq: a.Seq}))
		}
	case protocol.EventHealthCheck:
		to.Send(event(c.Event, func(b []byte) []byte { return append(b, `{"message":"OK"}`...) }))
	}
	if !c.HasID {
		return
	}
	to.Send(ack(c.ID, func(b []byte) []byte { return appendData(b, c.Schema().Ack, c.Values(a)) }))
}

// Error makes an ack that holds what went wrong, if the client asked for one.
func (f format) Error(c protocol.Command, p fault.Problem) *socket.Frame {
	if !c.HasID {
		return nil
	}
	return ack(c.ID, func(b []byte) []byte {
		b = packet.AppendText(append(b, `{"error":{"code":`...), p.Code)
		b = packet.AppendText(append(b, `,"title":`...), p.Title)
		if p.Detail != "" {
			b = packet.AppendText(append(b, `,"detail":`...), p.Detail)
		}
		if p.RetryAfter > 0 {
			seconds := (p.RetryAfter + time.Second - 1) / time.Second
			b = strconv.AppendInt(append(b, `,"retryAfter":`...), int64(seconds), 10)
		}
		return append(b, "}}"...)
	})
}

// Event makes an event under the name of its room. Old front ends know no other events of Parley's; those of an
// application keep their names.
func (f format) Event(e protocol.Outgoing) *socket.Frame {
	switch e.Schema.Name {
	case protocol.EventMessage:
		return f.message(e.Room, e.Message)
	case protocol.EventTyping:
		if !e.Data.Boolean("typing") {
			return nil
		}
		return notice(e.Room+"-typing", e.User.Name+" is typing!", "typing")
	case protocol.EventJoined:
		return notice(e.Room, e.User.Name+" Joined the room!", "welcome")
	case protocol.EventLeft, protocol.EventMembership, protocol.EventResync, protocol.EventChanged, protocol.EventMarked:
		return nil
	}
	return event(e.Schema.Name, func(b []byte) []byte { return appendData(b, e.Schema.Data, e.Values()) })
}

// message makes the event of a message, and none of one that was deleted. room is its room's name, one string for all messages of it.
func (f format) message(room string, m chat.Message) *socket.Frame {
	if !m.DeletedAt.IsZero() {
		return nil
	}
	e := message(m)
	if !f.offsets {
		return e
	}
	return withOffset(e, realtime.Place{Room: room, Seq: m.Seq})
}

func message(m chat.Message) *socket.Frame {
	return event(m.Room, func(b []byte) []byte {
		b = packet.AppendText(append(b, `{"message":`...), m.Text)
		b = packet.AppendText(append(b, `,"user":`...), m.Author.Name)
		b = packet.AppendText(append(b, `,"userId":`...), string(m.Author.ID))
		b = append(b, `,"created_at":"`...)
		return append(m.At.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z"), `"}`...)
	})
}

// notice makes what the system says.
func notice(name, text, kind string) *socket.Frame {
	return event(name, func(b []byte) []byte {
		b = packet.AppendText(append(b, `{"message":`...), text)
		b = append(b, `,"user":"system","type":"`...)
		return append(append(b, kind...), `"}`...)
	})
}

// event makes an event packet; nil for a name that clients do not take.
func event(name string, data func([]byte) []byte) *socket.Frame {
	if packet.Reserved(name) {
		return nil
	}
	return engineio.NewMessage(func(b []byte) []byte {
		b = packet.AppendHead(b, packet.Packet{Type: packet.Event})
		b = packet.AppendText(append(b, '['), name)
		return append(data(append(b, ',')), ']')
	})
}

func ack(id uint64, data func([]byte) []byte) *socket.Frame {
	return engineio.NewMessage(func(b []byte) []byte {
		b = packet.AppendHead(b, packet.Packet{Type: packet.Ack, ID: id, HasID: true})
		return append(data(append(b, '[')), ']')
	})
}

// appendData appends the fields of an object in the order of the schema.
func appendData(b []byte, o *protocol.Object, d protocol.Data) []byte {
	b = append(b, '{')
	first := true
	for i := range o.Fields {
		v, given := d[o.Fields[i].Name]
		if !given {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(packet.AppendText(b, o.Fields[i].Name), ':')
		b = appendValue(b, o.Fields[i].Object, v)
	}
	return append(b, '}')
}

func appendValue(b []byte, o *protocol.Object, v any) []byte {
	switch v := v.(type) {
	case string:
		return packet.AppendText(b, v)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case bool:
		return strconv.AppendBool(b, v)
	case time.Time:
		return append(v.UTC().AppendFormat(append(b, '"'), "2006-01-02T15:04:05.000000Z"), '"')
	case protocol.FreeObject:
		return append(b, v...)
	case protocol.Data:
		return appendData(b, o, v)
	case []string:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = packet.AppendText(b, v[i])
		}
		return append(b, ']')
	case []protocol.Data:
		b = append(b, '[')
		for i := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendData(b, o, v[i])
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}
