package protocol_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
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
			return fmt.Errorf("%s: unknown member %s", o.Name, name)
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
}

func TestWhatIsSentFitsTheSchema(t *testing.T) {
	bare := sample
	bare.ClientID = ""
	a := protocol.Answer{Room: "r", Seq: 7, Messages: []chat.Message{sample, bare}, Stored: sample, Members: []chat.Author{sample.Author, {}}, Count: 2}
	decode := func(f *socket.Frame) map[string]any {
		var v map[string]any
		require.NoError(t, json.Unmarshal(f.Payload(), &v), string(f.Payload()))
		return v
	}
	for _, e := range protocol.ClientEvents() {
		v := decode(protocol.JSON{}.Ack(protocol.Command{Event: e.Name, ID: 5, HasID: true}, a))
		assert.Equal(t, "ack", v["event"])
		assert.EqualValues(t, 5, v["id"])
		assert.NoError(t, fits(e.Ack, v["data"]), e.Name)
		assert.Len(t, v, 3)
	}
	for _, e := range protocol.ServerEvents() {
		v := decode(protocol.JSON{}.Event(protocol.Outgoing{Event: e.Name, Room: "r", Message: sample, User: sample.Author}))
		assert.Equal(t, e.Name, v["event"])
		assert.NoError(t, fits(e.Data, v["data"]), e.Name)
		assert.Len(t, v, 2)
	}
	got := decode(protocol.JSON{}.Event(protocol.Outgoing{Event: "message", Message: sample}))["data"].(map[string]any)
	assert.Equal(t, sample.Text, got["text"])
	assert.Equal(t, sample.Room, got["room"])
	assert.Equal(t, "2026-01-02T03:04:05.000006Z", got["at"])
	busy := fault.New(fault.Exhausted, "room_busy", "the room has more messages than its members can take")
	v := decode(protocol.JSON{}.Error(protocol.Command{ID: 9, HasID: true}, fault.Public(busy.RetryAfter(1500*time.Millisecond).Detail("x"))))
	assert.Equal(t, map[string]any{"id": 9., "event": "error", "error": map[string]any{
		"code": "room_busy", "title": "the room has more messages than its members can take", "detail": "x", "retryAfter": 2.,
	}}, v)
}

func TestTextThatIsNotUTF8IsMended(t *testing.T) {
	f := protocol.JSON{}.Event(protocol.Outgoing{Event: "message", Message: chat.Message{Text: "a\xffb\xc3"}})
	assert.True(t, utf8.Valid(f.Payload()))
	assert.Contains(t, string(f.Payload()), "a\ufffdb\ufffd")
}

func TestTheDocumentHasEveryEvent(t *testing.T) {
	doc := protocol.AsyncAPI("Parley", "1", "localhost:5002")
	b, err := json.Marshal(doc)
	require.NoError(t, err)
	again, err := json.Marshal(protocol.AsyncAPI("Parley", "1", "localhost:5002"))
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
	types := string(protocol.TypeScript())
	for _, e := range protocol.ClientEvents() {
		assert.Contains(t, string(b), `"const":"`+e.Name+`"`)
		assert.Contains(t, types, "export interface "+e.Data.Name+" {")
		assert.Contains(t, types, "export interface "+e.Ack.Name+" {")
	}
	for _, e := range protocol.ServerEvents() {
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
	var data struct {
		Room     string  `json:"room"`
		Text     string  `json:"text"`
		ClientID string  `json:"clientId"`
		Since    *uint64 `json:"since"`
		Before   *uint64 `json:"before"`
		After    *uint64 `json:"after"`
		Limit    uint64  `json:"limit"`
		Typing   *bool   `json:"typing"`
	}
	d = json.NewDecoder(bytes.NewReader(v.Data))
	d.DisallowUnknownFields()
	if d.Decode(&data) != nil {
		return c, false
	}
	c.Room, c.Text, c.ClientID = data.Room, data.Text, data.ClientID
	c.Since, c.Before, c.After, c.Limit = data.Since, data.Before, data.After, data.Limit
	c.Typing = data.Typing != nil && *data.Typing
	return c, true
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"event":"join_room","data":{"room":"hall","since":3}}`,
		`{"event":"message","data":{"room":"a","text":"x \" \\ \u00e9 \ud83d\ude00","clientId":"c"}}`,
		" {\n\"data\" : { \"typing\" : false , \"room\" : \"a\" } , \"event\" : \"isTyping\" } ",
		`{"event":"history","data":{"room":"a","before":9,"limit":3}}`, `{"event":"healthCheck"}`,
		`{"event":"m\u0065ssage","data":{"r\u006fom":"a","text":"x"}}`, `{"event":"presence","data":{"room":"\ud800"}}`,
		`{}`, `[]`, `{"event":{}}`, `{"id":1e2,"event":"presence","data":{"room":"a"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := protocol.JSON{}.Decode(payload)
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
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %+v, want %+v (%v)", payload, got, want, ok)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	payload := []byte(`{"id":12,"event":"message","data":{"room":"hall","text":"` + strings.Repeat("x", 128) + `","clientId":"0123456789abcdef"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (protocol.JSON{}).Decode(payload); err != nil {
			b.Fatal(err)
		}
	}
}
