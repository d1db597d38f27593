package protocol_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
)

// FuzzApplicationEvents makes a schema of events with any name and field, as an application may: it is refused at the start, or the
// documents can be printed, and what a client sends is checked by it.
func FuzzApplicationEvents(f *testing.F) {
	f.Add("poll", "question", byte(0), 1, 100, uint64(0), uint64(9), `"who?"`)
	f.Add("message", "room", byte(1), 0, 0, uint64(1), uint64(0), `1`)
	f.Add("x\u202e", "a.b", byte(3), -1, -1, uint64(5), uint64(4), `{"a":[{}]}`)
	f.Add("", "", byte(9), 0, 1<<30, uint64(1<<63), uint64(1<<63), `null`)
	f.Add("constructor", "__proto__", byte(2), 0, 0, uint64(0), uint64(0), `true`)
	f.Add(strings.Repeat("a", 64), "x\"; }", byte(4), 3, 2, uint64(0), uint64(0), `"\ud800"`)
	f.Fuzz(func(t *testing.T, event, field string, kind byte, shortest, longest int, least, greatest uint64, value string) {
		data := object("Data", protocol.Field{
			Name: field, Doc: "A field.", Type: protocol.FieldType(kind % 8), Required: kind > 127,
			MinLength: shortest, MaxLength: longest, Minimum: least, Maximum: greatest,
		})
		schema, err := protocol.NewSchema([]protocol.ClientEvent{{Name: event, Doc: "Says something.", Data: data, Ack: object("Ack")}}, nil)
		if err != nil {
			return
		}
		document, err := json.Marshal(protocol.AsyncAPI(schema, "title", "1", "wss://example.com"))
		if err != nil || !strings.Contains(string(document), event) {
			t.Fatalf("there is no document: %v", err)
		}
		if types := string(protocol.TypeScript(schema)); !strings.Contains(types, field) {
			t.Fatal("the types do not name the field")
		}
		name, _ := json.Marshal(event)
		key, _ := json.Marshal(field)
		command, err := protocol.JSON(schema).Decode([]byte(`{"event":`+string(name)+`,"data":{"room":"hall",`+string(key)+`:`+value+`}}`), false)
		switch {
		case err == nil && command.Event != event:
			t.Fatalf("%q was read as %q", event, command.Event)
		case err != nil && fault.KindOf(err) != fault.Invalid:
			t.Fatalf("%v is not of kind Invalid", err)
		case err == nil:
			if s, ok := command.Data[field].(string); ok && longest > 0 && len(s) > 4*longest {
				t.Fatalf("%d bytes were let through, of %d characters", len(s), longest)
			}
			if n, ok := command.Data[field].(uint64); ok && (n < least || greatest > 0 && n > greatest) {
				t.Fatalf("%d is not between %d and %d", n, least, greatest)
			}
		}
		if _, err := schema.Check("no such event"); !errors.Is(err, fault.Invalid) {
			t.Fatalf("another event: %v", err)
		}
	})
}
