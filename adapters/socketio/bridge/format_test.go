package bridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

// TestFormat holds the format to the contract. For that it takes all events of the schema: what it refuses of
// them is tested by itself.
func TestFormat(t *testing.T) {
	contract.On(t, "socketio", "")
	testFormat(t, Format)
}

func TestRecoveryFormat(t *testing.T) {
	contract.On(t, "socketio", "with recovery")
	testFormat(t, RecoveryFormat)
}

func testFormat(t *testing.T, open protocol.NewFormat) {
	const shapes = "the events have the names and the shapes of the old system"
	contract.Run(t, contract.Format(), func(*testing.T) contract.Wire {
		return contract.Wire{
			New:  func(s *protocol.Schema) protocol.Format { f := open(s).(format); f.refused = nil; return f },
			Say:  say,
			Hear: hear,
		}
	}, contract.Exception{Case: "events", Reason: shapes}, contract.Exception{Case: "text that is not UTF-8 is mended", Reason: shapes})
}

func say(m contract.Said) ([]byte, bool) {
	b := []byte{'2'}
	if m.HasID {
		b = strconv.AppendUint(b, m.ID, 10)
	}
	b = append(appendRaw(append(b, '['), m.Event), ",{"...)
	for i, field := range m.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		name := field.Name
		for theirs, ours := range names[m.Event] {
			if ours == name {
				name = theirs
			}
		}
		b = append(appendRaw(b, name), ':')
		switch v := field.Value.(type) {
		case string:
			b = appendRaw(b, v)
		case uint64:
			b = strconv.AppendUint(b, v, 10)
		case protocol.FreeObject:
			b = append(b, v...)
		case bool:
			b = strconv.AppendBool(b, v)
		default:
			b = append(b, "null"...)
		}
	}
	return append(b, "}]"...), false
}

// appendRaw appends a JSON string and leaves bytes that are not UTF-8 as they are.
func appendRaw(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func hear(f *socket.Frame, o *protocol.Object) (h contract.Heard, err error) {
	text, ok := bytes.CutPrefix(f.Payload(), []byte{'4'})
	if !ok || f.Binary() {
		return h, errors.New("no message")
	}
	p, err := packet.Limits{}.Parse(text)
	if err != nil {
		return h, err
	}
	args := packet.Elements(p.Data)
	h.ID, h.HasID = p.ID, p.HasID
	if p.Type == packet.Event {
		h.Kind, h.Event = contract.HeardEvent, packet.Name(args[0])
		return h, nil
	}
	var failed struct{ Error *struct{ Code string } }
	if err := json.Unmarshal(args[0], &failed); err != nil {
		return h, err
	}
	if failed.Error != nil {
		h.Kind, h.Code = contract.HeardError, failed.Error.Code
		return h, nil
	}
	h.Kind = contract.HeardAnswer
	h.Data, err = protocol.ParseData(args[0], o)
	return h, err
}

func TestOldNamesAreRead(t *testing.T) {
	f := Format(protocol.Own())
	for in, want := range map[string]protocol.Command{
		`2["join_room",{"name":"hall","userId":"u1"}]`:                               {Event: "join_room", Room: "hall"},
		`27["join_room",{"userId":"another","name":"hall"}]`:                         {Event: "join_room", Room: "hall", ID: 7, HasID: true},
		`2["join_room",{"name":"hall"}]`:                                             {Event: "join_room", Room: "hall"},
		`2["message",{"roomName":"hall","message":"hi \u00e9"}]`:                     {Event: "message", Room: "hall", Text: "hi é"},
		`2["message",{"roomName":"h","message":"m","clientId":"c"}]`:                 {Event: "message", Room: "h", Text: "m", ClientID: "c"},
		`2["message",{"roomName":"h","message":"m","replyTo":3,"data":{ "a":[1] }}]`: {Event: "message", Room: "h", Text: "m", ReplyTo: 3, Attached: `{"a":[1]}`},
		`2["isTyping",{"roomName":"hall"}]`:                                          {Event: "isTyping", Room: "hall", Typing: true},
		`20["isTyping",{"roomName":"hall","typing":false}]`:                          {Event: "isTyping", Room: "hall", HasID: true},
		`2["healthCheck",{}]`:                                                        {Event: "healthCheck"},
		`2["healthCheck"]`:                                                           {Event: "healthCheck"},
	} {
		got, err := f.Decode([]byte(in), false)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got.Event != want.Event || got.Room != want.Room || got.Text != want.Text || got.ClientID != want.ClientID || got.ReplyTo != want.ReplyTo || got.Attached != want.Attached || got.Typing != want.Typing || got.ID != want.ID || got.HasID != want.HasID || got.Data != nil {
			t.Errorf("%s: got %+v, want %+v", in, got, want)
		}
	}
}

func TestAnythingElseIsRefused(t *testing.T) {
	f := Format(protocol.Own())
	for _, in := range []string{
		// events of the schema that old front ends do not have
		`2["leave_room",{"room":"hall"}]`, `2["history",{"room":"hall"}]`, `2["presence",{"room":"hall"}]`, `2["renew",{"token":"x"}]`,
		`2["edit",{"room":"hall","seq":1,"text":"x"}]`, `2["mark",{"room":"hall","read":1}]`,
		`2["joined",{}]`, `2["typing",{}]`, `2["",{}]`, `2["message"]`, `2["message",[]]`, `2["message","hall"]`, `2["message",null]`,
		`2["message",{"roomName":"hall","message":"x"},{}]`, `2["healthCheck",{},null]`, `2["healthCheck",{"a":1}]`,
		`2["message",{"room":"hall","message":"x"}]`, `2["message",{"roomName":"hall","text":"x"}]`, `2["join_room",{"room":"hall"}]`, `2["join_room",{"roomName":"hall"}]`,
		`2["message",{"roomName":"hall","room":"hall","message":"x"}]`, `2["message",{"roomName":"hall","roomName":"hall","message":"x"}]`,
		`2["message",{"roomName":"hall","message":"x","userId":"u"}]`, `2["message",{"roomName":"hall"}]`, `2["message",{"message":"x"}]`,
		`2["message",{"roomName":1,"message":"x"}]`, `2["message",{"roomName":"hall","message":""}]`, `2["message",{"roomName":"hall","message":{}}]`,
		`2["message",{"roomName":"","message":"x"}]`, `2["message",{"roomName":" hall","message":"x"}]`, `2["message",{"roomName":"hall","message":"\ud800"}]`,
		`2["join_room",{"name":"hall","userId":1}]`, `2["join_room",{"name":"hall","userId":"a","userId":"a"}]`, `2["join_room",{"name":"hall","userId":"` + strings.Repeat("a", 257) + `"}]`,
		`2["join_room",{"name":"connect"}]`, `2["join_room",{"name":"disconnect"}]`, `2["isTyping",{"roomName":"hall","typing":1}]`,
		`30[]`, `2/other,["healthCheck",{}]junk`, ``, `0`, `51-["message",{"_placeholder":true,"num":0}]`,
	} {
		if c, err := f.Decode([]byte(in), false); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", in, c, err)
		}
	}
	if _, err := f.Decode([]byte(`2["healthCheck",{}]`), true); !errors.Is(err, fault.Invalid) {
		t.Errorf("binary: %v", err)
	}
}

// sink keeps what is sent.
type sink []string

func (s *sink) Send(f *socket.Frame) { *s = append(*s, string(f.Payload())) }

var (
	at    = time.Date(2026, 11, 22, 21, 0, 34, 21_390_000, time.FixedZone("", 3600))
	first = chat.Message{Room: "hall", Seq: 1, ID: "m1", Author: chat.Author{ID: "u1", Name: "Ada \"L\""}, Text: "a\xffb\n", At: at}
)

const firstWire = `42["hall",{"message":"a` + "\ufffd" + `b\u000a","user":"Ada \"L\"","userId":"u1","created_at":"2026-11-22T20:00:34.021Z"}]`

func TestAnswers(t *testing.T) {
	f := Format(protocol.Own())
	decode := func(in string) protocol.Command {
		c, err := f.Decode([]byte(in), false)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	second := first
	second.Seq, second.ID, second.Text = 2, "m2", "c"
	page := protocol.Answer{Room: "hall", Seq: 2, Recovered: true, Messages: []chat.Message{first, second}}
	messages := sink{firstWire, `42["hall",{"message":"c","user":"Ada \"L\"","userId":"u1","created_at":"2026-11-22T20:00:34.021Z"}]`}
	for name, tt := range map[string]struct {
		in   string
		a    protocol.Answer
		want sink
	}{
		"a join": {`2["join_room",{"name":"hall"}]`, page, messages},
		"a join, asked": {`27["join_room",{"name":"hall"}]`, page, append(messages[:2:2],
			`437[{"room":"hall","seq":2,"rev":0,"read":0,"recovered":true,"messages":[{"room":"hall","seq":1,"rev":0,"id":"m1","user":{"id":"u1","name":"Ada \"L\""},"text":"a`+"\ufffd"+`b\u000a","at":"2026-11-22T20:00:34.021390Z"},{"room":"hall","seq":2,"rev":0,"id":"m2","user":{"id":"u1","name":"Ada \"L\""},"text":"c","at":"2026-11-22T20:00:34.021390Z"}]}]`)},
		"a message":             {`2["message",{"roomName":"hall","message":"x"}]`, protocol.Answer{Stored: first}, nil},
		"a message, asked":      {`20["message",{"roomName":"hall","message":"x"}]`, protocol.Answer{Stored: first}, sink{`430[{"room":"hall","seq":1,"id":"m1","at":"2026-11-22T20:00:34.021390Z"}]`}},
		"typing, asked":         {`23["isTyping",{"roomName":"hall"}]`, protocol.Answer{}, sink{`433[{}]`}},
		"a health check":        {`2["healthCheck",{}]`, protocol.Answer{Data: protocol.Data{"message": "OK"}}, sink{`42["healthCheck",{"message":"OK"}]`}},
		"a health check, asked": {`21["healthCheck",{}]`, protocol.Answer{Data: protocol.Data{"message": "OK"}}, sink{`42["healthCheck",{"message":"OK"}]`, `431[{"message":"OK"}]`}},
	} {
		t.Run(name, func(t *testing.T) {
			var got sink
			f.Answer(&got, decode(tt.in), tt.a)
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	e := f.Error(decode(`25["message",{"roomName":"hall","message":"x"}]`), fault.Public(fault.New(fault.Exhausted, "busy", "too busy").Detail("so %s", "it is").RetryAfter(1500*time.Millisecond)))
	if got := string(e.Payload()); got != `435[{"error":{"code":"busy","title":"too busy","detail":"so it is","retryAfter":2}}]` {
		t.Error(got)
	}
}

func TestEvents(t *testing.T) {
	schema, err := protocol.NewSchema(nil, []protocol.ServerEvent{{Name: "moved", Data: &protocol.Object{Name: "Moved", Fields: []protocol.Field{{Name: "piece", Type: protocol.String}}}}})
	if err != nil {
		t.Fatal(err)
	}
	f := Format(schema)
	ada := chat.Author{ID: "u1", Name: "Ada"}
	reply := first
	reply.ReplyTo, reply.Data = 3, `{"card":1}`
	for name, tt := range map[string]struct {
		e    protocol.Outgoing
		want string
	}{
		"message":            {protocol.Outgoing{Message: first}, firstWire},
		"message, a reply":   {protocol.Outgoing{Message: reply}, firstWire}, // old front ends know no more
		"isTyping":           {protocol.Outgoing{Room: "hall", User: ada, Data: protocol.Data{"typing": true}}, `42["hall-typing",{"message":"Ada is typing!","user":"system","type":"typing"}]`},
		"isTyping, no more":  {protocol.Outgoing{Room: "hall", User: ada, Data: protocol.Data{"typing": false}}, ""},
		"joined":             {protocol.Outgoing{Room: "hall", User: ada}, `42["hall",{"message":"Ada Joined the room!","user":"system","type":"welcome"}]`},
		"joined, a bad room": {protocol.Outgoing{Room: "connect", User: ada}, ""},
		"left":               {protocol.Outgoing{Room: "hall", User: ada}, ""},
		"membership":         {protocol.Outgoing{Room: "hall", User: ada}, ""},
		"resync":             {protocol.Outgoing{Room: "hall"}, ""},
		"changed":            {protocol.Outgoing{Room: "hall", User: ada, Message: first}, ""},
		"marked":             {protocol.Outgoing{Room: "hall", User: ada, Data: protocol.Data{"read": uint64(3)}}, ""},
		"moved":              {protocol.Outgoing{Room: "hall", User: ada, Data: protocol.Data{"piece": "king", "room": "hall"}}, `42["moved",{"room":"hall","piece":"king"}]`},
	} {
		event, _, _ := strings.Cut(name, ",")
		tt.e.Schema = schema.ServerEvent(event)
		got := ""
		if frame := f.Event(tt.e); frame != nil {
			got = string(frame.Payload())
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	format := Format(protocol.Own())
	for _, seed := range []string{
		`2["join_room",{"name":"hall","userId":"u1"}]`, `27["message",{"roomName":"hall","message":"hi"}]`, `2["isTyping",{"roomName":"hall","typing":true}]`,
		`2["healthCheck"]`, `2["join_room",{"name":"hall","since":12}]`, `2["message",{"roomName":"h","message":"m","replyTo":3,"data":{ "a":[1] }}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		kept := bytes.Clone(payload)
		c, err := format.Decode(payload, false)
		if !bytes.Equal(kept, payload) {
			t.Fatal("the payload was changed")
		}
		if err != nil {
			if !errors.Is(err, fault.Invalid) {
				t.Fatalf("%v is not Invalid", err)
			}
			return
		}
		if c.Event != protocol.EventHealthCheck && chat.CheckRoom(c.Room) != nil {
			t.Fatalf("%q: the room %q", payload, c.Room)
		}
	})
}

// BenchmarkDecode is a message of a client, decoded and checked against the schema.
func BenchmarkDecode(b *testing.B) {
	f := Format(protocol.Own())
	payload := []byte(`212["message",{"roomName":"hall","message":"` + strings.Repeat("x", 128) + `","clientId":"0123456789abcdef"}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Decode(payload, false); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncode is a message as it is encoded once for all members of a room.
func BenchmarkEncode(b *testing.B) {
	m := chat.Message{
		Room: "hall", Seq: 12, ID: "01K0000000000000000000000", ClientID: "0123456789abcdef",
		Author: chat.Author{ID: "ada", Name: "Ada"}, Text: strings.Repeat("x", 128), At: time.Unix(1_700_000_000, 0).UTC(),
	}
	e := protocol.Outgoing{Schema: protocol.Own().ServerEvent(protocol.EventMessage), Room: m.Room, User: m.Author, Message: m}
	for name, f := range map[string]protocol.Format{"plain": Format(protocol.Own()), "recovery": RecoveryFormat(protocol.Own())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if f.Event(e) == nil {
					b.Fatal("there is no frame")
				}
			}
		})
	}
}
