package protocol_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

// fits checks a decoded value against an object of the schema.
func fits(o *protocol.Object, v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %T is not an object", o.Name, v)
	}
	for name := range m {
		if !slices.ContainsFunc(o.Fields, func(f protocol.Field) bool { return f.Name == name }) {
			return fmt.Errorf("%s: unknown field %s", o.Name, name)
		}
	}
	for _, f := range o.Fields {
		v, ok := m[f.Name]
		if !ok {
			if f.Required {
				return fmt.Errorf("%s: %s is missing", o.Name, f.Name)
			}
			continue
		}
		switch f.Type {
		case protocol.String:
			_, ok = v.(string)
			ok = ok || f.Null && v == nil
		case protocol.Integer:
			var n float64
			n, ok = v.(float64)
			ok = ok && n == float64(uint64(n)) && n >= float64(f.Minimum)
		case protocol.Boolean:
			_, ok = v.(bool)
		case protocol.Time:
			s, _ := v.(string)
			_, err := time.Parse("2006-01-02T15:04:05.000000Z", s)
			ok = err == nil
		case protocol.Free:
			_, ok = v.(map[string]any)
		case protocol.Ref:
			if err := fits(f.Object, v); err != nil {
				return err
			}
		case protocol.ListOf:
			var list []any
			list, ok = v.([]any)
			for _, v := range list {
				if err := fits(f.Object, v); err != nil {
					return err
				}
			}
		}
		if !ok {
			return fmt.Errorf("%s.%s: %v does not fit", o.Name, f.Name, v)
		}
	}
	return nil
}

var sample = chat.Message{
	Room: `r"oom`, Seq: 7, ID: "m1", ClientID: "c1", Author: chat.Author{ID: "u1", Name: "Ada \u2028 <b>"},
	Text: "a\\b\"c\nd\x01é😀", At: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	ReplyTo: 6, Data: `{"b":[1.50,"\u00e9"],"a":{}}`,
}

var format = protocol.JSON(protocol.Own())

// kept keeps what it is sent.
type kept []*socket.Frame

func (k *kept) Send(f *socket.Frame) { *k = append(*k, f) }

// answer returns the frame of an answer, nil if there is none.
func answer(c protocol.Command, a protocol.Answer) *socket.Frame {
	var k kept
	if format.Answer(&k, c, a); len(k) == 0 {
		return nil
	}
	return k[0]
}

// command returns a command of the event with the ID 5.
func command(t *testing.T, event string) protocol.Command {
	k, err := protocol.Own().Check(event)
	require.NoError(t, err)
	at := slices.IndexFunc(protocol.Own().ClientEvents(), func(e protocol.ClientEvent) bool { return e.Name == event })
	for _, f := range protocol.Own().ClientEvents()[at].Data.Fields {
		if !f.Required {
			continue
		}
		f, err := k.Field(f.Name)
		require.NoError(t, err)
		switch f.Type {
		case protocol.String:
			err = k.Text(f, "x")
		case protocol.Integer:
			err = k.Integer(f, max(f.Minimum, 1))
		default:
			err = k.Boolean(f, true)
		}
		require.NoError(t, err)
	}
	c, err := k.Command()
	require.NoError(t, err)
	c.ID, c.HasID = 5, true
	return c
}

// filled returns values for all fields of an object.
func filled(o *protocol.Object) protocol.Data {
	d := protocol.Data{}
	for _, f := range o.Fields {
		switch f.Type {
		case protocol.String:
			if d[f.Name] = "x"; f.Null {
				d[f.Name] = nil
			}
		case protocol.Integer:
			d[f.Name] = max(f.Minimum, 1)
		case protocol.Boolean:
			d[f.Name] = true
		case protocol.Time:
			d[f.Name] = sample.At
		case protocol.Free:
			d[f.Name] = protocol.FreeObject(`{"x":[1]}`)
		case protocol.Ref:
			d[f.Name] = filled(f.Object)
		case protocol.ListOf:
			d[f.Name] = []protocol.Data{filled(f.Object), filled(f.Object)}
		}
	}
	return d
}

func TestWhatIsSentFitsTheSchema(t *testing.T) {
	bare := sample
	bare.ClientID, bare.ReplyTo, bare.Data = "", 0, ""
	a := protocol.Answer{Room: "r", Seq: 7, Messages: []chat.Message{sample, bare}, Stored: sample}
	decode := func(f *socket.Frame) map[string]any {
		var v map[string]any
		require.NoError(t, json.Unmarshal(f.Payload(), &v), string(f.Payload()))
		return v
	}
	for _, e := range protocol.Own().ClientEvents() {
		c := command(t, e.Name)
		a.Data = filled(e.Ack)
		require.NoError(t, e.Ack.Fits(c.Values(a)), e.Name)
		v := decode(answer(c, a))
		assert.Equal(t, "ack", v["event"])
		assert.EqualValues(t, 5, v["id"])
		assert.NoError(t, fits(e.Ack, v["data"]), e.Name)
		assert.Len(t, v, 3)
		// What is written by hand for speed is what the schema's own way writes.
		assert.Equal(t, string(protocol.AppendData(nil, e.Ack, c.Values(a))), string(protocol.AppendAnswer(nil, c, a)))
		c.HasID = false
		assert.Nil(t, answer(c, a))
		assert.Nil(t, format.Error(c, fault.Public(fault.Conflict)))
	}
	for _, e := range protocol.Own().ServerEvents() {
		o := protocol.Outgoing{Schema: &e, Room: "r", User: sample.Author, Message: sample, Data: filled(e.Data)}
		require.NoError(t, e.Data.Fits(o.Values()), e.Name)
		v := decode(format.Event(o))
		assert.Equal(t, e.Name, v["event"])
		assert.NoError(t, fits(e.Data, v["data"]), e.Name)
		assert.Len(t, v, 2)
		assert.Contains(t, string(format.Event(o).Payload()), string(protocol.AppendData(nil, e.Data, o.Values())))
	}
	got := decode(format.Event(protocol.Outgoing{Schema: protocol.Own().ServerEvent("message"), Message: sample}))["data"].(map[string]any)
	assert.Equal(t, sample.Text, got["text"])
	assert.Equal(t, sample.Room, got["room"])
	assert.Equal(t, "2026-01-02T03:04:05.000006Z", got["at"])
	busy := fault.New(fault.Exhausted, "room_busy", "the room has more messages than its members can take")
	v := decode(format.Error(protocol.Command{ID: 9, HasID: true}, fault.Public(busy.RetryAfter(1500*time.Millisecond).Detail("x"))))
	assert.Equal(t, map[string]any{"id": 9., "event": "error", "error": map[string]any{
		"code": "room_busy", "title": "the room has more messages than its members can take", "detail": "x", "retryAfter": 2.,
	}}, v)
}

func TestTextThatIsNotUTF8IsMended(t *testing.T) {
	f := format.Event(protocol.Outgoing{Schema: protocol.Own().ServerEvent("message"), Message: chat.Message{Text: "a\xffb\xc3"}})
	assert.True(t, utf8.Valid(f.Payload()))
	assert.Contains(t, string(f.Payload()), "a\ufffdb\ufffd")
}

func TestTheDocumentHasEveryEvent(t *testing.T) {
	doc := protocol.AsyncAPI(protocol.Own(), "Parley", "1", "localhost:5002")
	b, err := json.Marshal(doc)
	require.NoError(t, err)
	again, err := json.Marshal(protocol.AsyncAPI(protocol.Own(), "Parley", "1", "localhost:5002"))
	require.NoError(t, err)
	assert.Equal(t, b, again)
	// Every reference leads somewhere.
	for _, m := range regexp.MustCompile(`"\$ref":"#/([^"]+)"`).FindAllSubmatch(b, -1) {
		var at any
		require.NoError(t, json.Unmarshal(b, &at))
		for part := range strings.SplitSeq(string(m[1]), "/") {
			o, ok := at.(map[string]any)
			require.True(t, ok, "%s", m[1])
			at, ok = o[part]
			require.True(t, ok, "%s: there is no %s", m[1], part)
		}
	}
	types := string(protocol.TypeScript(protocol.Own()))
	for _, e := range protocol.Own().ClientEvents() {
		assert.Contains(t, string(b), `"const":"`+e.Name+`"`)
		assert.Contains(t, types, "export interface "+e.Data.Name+" {")
		assert.Contains(t, types, "export interface "+e.Ack.Name+" {")
	}
	for _, e := range protocol.Own().ServerEvents() {
		assert.Contains(t, string(b), `"const":"`+e.Name+`"`)
		assert.Contains(t, types, "export interface "+e.Data.Name+" {")
	}
	for _, c := range protocol.CloseCodes() {
		assert.Contains(t, string(b), fmt.Sprintf("- %d: ", c.Code))
	}
}

// reference decodes with encoding/json what Decode reads by itself.
func reference(payload []byte) (c protocol.Command, ok bool) {
	var v struct {
		ID    *uint64         `json:"id"`
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if d.Decode(&v) != nil {
		return c, false
	}
	c.Event = v.Event
	if v.ID != nil {
		c.ID, c.HasID = *v.ID, true
	}
	if v.Data == nil {
		return c, true
	}
	var data map[string]any
	d = json.NewDecoder(bytes.NewReader(v.Data))
	d.UseNumber()
	if d.Decode(&data) != nil || data == nil {
		return c, false
	}
	rawData := v.Data
	for name, v := range data {
		var n uint64
		if number, is := v.(json.Number); is {
			var err error
			if n, err = strconv.ParseUint(number.String(), 10, 64); err != nil {
				return c, false
			}
			v = n
		}
		s, _ := v.(string)
		switch name {
		case "room":
			c.Room = s
		case "text":
			c.Text = s
		case "clientId":
			c.ClientID = s
		case "token":
			c.Token = s
		case "since":
			c.Since = &n
		case "before":
			c.Before = &n
		case "after":
			c.After = &n
		case "limit":
			c.Limit = n
		case "typing":
			c.Typing = v == true
		case "replyTo":
			c.ReplyTo = n
		case "data":
			var raw map[string]json.RawMessage
			var compact bytes.Buffer
			if json.Unmarshal(rawData, &raw) != nil || json.Compact(&compact, raw["data"]) != nil {
				return c, false
			}
			c.Attached = compact.String()
		default:
			if c.Data == nil {
				c.Data = protocol.Data{}
			}
			c.Data[name] = v
		}
	}
	return c, true
}

// plain is a command without what only the package itself sees.
func plain(c protocol.Command) protocol.Command {
	return protocol.Command{
		ID: c.ID, HasID: c.HasID, Event: c.Event, Room: c.Room, Text: c.Text, ClientID: c.ClientID, Token: c.Token,
		Since: c.Since, Before: c.Before, After: c.After, Limit: c.Limit, Typing: c.Typing, Data: c.Data,
		ReplyTo: c.ReplyTo, Attached: c.Attached,
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"event":"join_room","data":{"room":"hall","since":3}}`,
		`{"event":"message","data":{"room":"a","text":"x \" \\ \u00e9 \ud83d\ude00","clientId":"c"}}`,
		" {\n\"data\" : { \"typing\" : false , \"room\" : \"a\" } , \"event\" : \"isTyping\" } ",
		`{"event":"message","data":{"room":"a","text":"x","replyTo":4,"data":{ "a" : [1, "\u00e9\ud83d\ude00"] }}}`,
		`{"event":"history","data":{"room":"a","before":9,"limit":3}}`, `{"event":"healthCheck"}`,
		`{"event":"m\u0065ssage","data":{"r\u006fom":"a","text":"x"}}`, `{"event":"presence","data":{"room":"\ud800"}}`,
		`{}`, `[]`, `{"event":{}}`, `{"id":1e2,"event":"presence","data":{"room":"a"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := format.Decode(payload, false)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatalf("%q: %v is not of kind Invalid", payload, err)
			}
			return
		}
		want, ok := reference(payload)
		if want.Event == protocol.EventTyping && !bytes.Contains(payload, []byte("typing")) {
			want.Typing = true
		}
		if got.Event == protocol.EventTyping {
			got.Typing, want.Typing = false, false // its default is tested elsewhere
		}
		if !ok || !reflect.DeepEqual(plain(got), want) {
			t.Fatalf("%q: got %+v, want %+v (%v)", payload, got, want, ok)
		}
	})
}

// BenchmarkDecode is a message of a client, decoded and checked against the schema.
func BenchmarkDecode(b *testing.B) {
	payload := []byte(`{"id":12,"event":"message","data":{"room":"hall","text":"` + strings.Repeat("x", 128) + `","clientId":"0123456789abcdef"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := format.Decode(payload, false); err != nil {
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
	b.ReportAllocs()
	for b.Loop() {
		if format.Event(e) == nil {
			b.Fatal("there is no frame")
		}
	}
}
