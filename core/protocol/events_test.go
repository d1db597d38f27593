package protocol_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
)

func object(name string, fields ...protocol.Field) *protocol.Object {
	return &protocol.Object{Name: name, Doc: "Something.", Fields: fields}
}

func TestASchemaThatCannotBe(t *testing.T) {
	text := protocol.Field{Name: "a", Type: protocol.String, MaxLength: 5}
	loop := object("Loop", protocol.Field{Name: "again", Type: protocol.Ref})
	loop.Fields[0].Object = loop
	many := object("Many")
	for i := range 64 {
		many.Fields = append(many.Fields, protocol.Field{Name: "f" + strings.Repeat("x", i), Type: protocol.Boolean})
	}
	client := func(name string, data, ack *protocol.Object) []protocol.ClientEvent {
		return []protocol.ClientEvent{{Name: name, Data: data, Ack: ack}}
	}
	for want, c := range map[string]struct {
		client []protocol.ClientEvent
		server []protocol.ServerEvent
	}{
		`event "" of clients: the name must be a letter`:                      {client: client("", nil, nil)},
		`event "a-b" of clients: the name must be a letter`:                   {client: client("a-b", nil, nil)},
		`event "1a" of clients: the name must be a letter`:                    {client: client("1a", nil, nil)},
		`event "ack" of clients: the name is Parley's own`:                    {client: client("ack", nil, nil)},
		`event "renew" of the server: the name is Parley's own`:               {server: []protocol.ServerEvent{{Name: "renew"}}},
		`event "a" of the server: the name stands twice`:                      {server: []protocol.ServerEvent{{Name: "a"}, {Name: "a"}}},
		`another object is called User`:                                       {client: client("a", object("User"), nil)},
		`another object is called Acks`:                                       {client: client("a", nil, object("Acks"))},
		`another object is called X`:                                          {client: client("a", object("X", text), object("X"))},
		`the object's name "x y" must be`:                                     {client: client("a", object("x y"), nil)},
		`the object Loop holds itself`:                                        {client: client("a", nil, loop)},
		`the object Many has more than 63 fields`:                             {client: client("a", many, nil)},
		`field "room" of D: the name stands twice`:                            {client: client("a", object("D", protocol.Field{Name: "room", Type: protocol.String, MaxLength: 1}), nil)},
		`field "a" of E: the name stands twice`:                               {client: client("a", object("E", text, text), nil)},
		`field "a" of F: MaxLength is missing`:                                {client: client("a", object("F", protocol.Field{Name: "a", Type: protocol.String}), nil)},
		`field "a" of G: a client can send String, Integer, Boolean and Free`: {client: client("a", object("G", protocol.Field{Name: "a", Type: protocol.Time}), nil)},
		`field "a" of H: no string has 3 to 2 characters`:                     {client: client("a", object("H", protocol.Field{Name: "a", Type: protocol.String, MinLength: 3, MaxLength: 2}), nil)},
		`field "a" of I: no integer is from 3 to 2`:                           {client: client("a", object("I", protocol.Field{Name: "a", Type: protocol.Integer, Minimum: 3, Maximum: 2}), nil)},
		`field "a" of J: there is no type 0`:                                  {client: client("a", object("J", protocol.Field{Name: "a"}), nil)},
		`field "a" of K: Object is missing`:                                   {client: client("a", nil, object("K", protocol.Field{Name: "a", Type: protocol.ListOf}))},
		`field "a" of L: Pattern says what Check checks`:                      {client: client("a", object("L", protocol.Field{Name: "a", Type: protocol.String, MaxLength: 2, Pattern: "^a$"}), nil)},
		`field "a" of N1: MaxLength is missing`:                               {client: client("a", object("N1", protocol.Field{Name: "a", Type: protocol.Free}), nil)},
		`field "a" of N2: no object has 1 bytes`:                              {client: client("a", object("N2", protocol.Field{Name: "a", Type: protocol.Free, MaxLength: 1}), nil)},
		`field "a" of M: only Ref and ListOf have an Object`:                  {client: client("a", nil, object("M", protocol.Field{Name: "a", Type: protocol.Boolean, Object: loop}))},
		`field "" of N: the name must be a letter`:                            {client: client("a", object("N", protocol.Field{Type: protocol.Boolean}), nil)},
		`field "a" of O: a client cannot send null`:                           {client: client("a", object("O", protocol.Field{Name: "a", Type: protocol.String, MaxLength: 1, Null: true}), nil)},
		`field "a" of Q: Values is for what the server sends`:                 {client: client("a", object("Q", protocol.Field{Name: "a", Type: protocol.String, MaxLength: 1, Values: []string{"b"}}), nil)},
		`event "b": another message is called PEvent in documents`:            {client: client("a", object("PEvent"), nil), server: []protocol.ServerEvent{{Name: "b", Data: object("P")}}},
	} {
		_, err := protocol.NewSchema(c.client, c.server)
		assert.ErrorContains(t, err, want)
	}
	// All of it at once.
	_, err := protocol.NewSchema(client("message", object("User"), nil), []protocol.ServerEvent{{Name: "left"}})
	for _, want := range []string{"message", "User", "left"} {
		assert.ErrorContains(t, err, want)
	}
}

// chess has an event of clients and one of the server, and shares an object between them.
func chess(t *testing.T) *protocol.Schema {
	square := object("Square", protocol.Field{Name: "file", Type: protocol.String, Required: true}, protocol.Field{Name: "rank", Type: protocol.Integer, Required: true, Minimum: 1, Maximum: 8})
	s, err := protocol.NewSchema([]protocol.ClientEvent{{
		Name: "move", Doc: "Move a piece.",
		Data: object("Move", protocol.Field{Name: "piece", Type: protocol.String, Required: true, MaxLength: 8}, protocol.Field{Name: "steps", Type: protocol.Integer, Maximum: 9}),
		Ack:  object("MoveAck", protocol.Field{Name: "to", Type: protocol.Ref, Required: true, Object: square}),
	}, {Name: "resign", Doc: "Give up."}}, []protocol.ServerEvent{{
		Name: "move", Doc: "A piece moved.",
		Data: object("Moved", protocol.Field{Name: "way", Type: protocol.ListOf, Required: true, Object: square}, protocol.Field{Name: "at", Type: protocol.Time, Required: true}),
	}})
	require.NoError(t, err)
	return s
}

func TestEventsOfAnApplicationAreDocumentedAndTyped(t *testing.T) {
	s := chess(t)
	types := string(protocol.TypeScript(s))
	for _, want := range []string{
		"export interface Move {\n  /** The room's name", "  piece: string;\n", "  steps?: number;\n", "export interface resignData {",
		"export interface Moved {", "  way: Square[];\n", "export interface ClientEvents {\n  join_room: JoinRoom;\n", "  move: Move;\n", "  move: MoveAck;\n", "  move: Moved;\n",
	} {
		assert.Contains(t, types, want)
	}
	assert.NotContains(t, string(protocol.TypeScript(protocol.Own())), "move", "a schema changes no other")
	b, err := json.Marshal(protocol.AsyncAPI(s, "Chess", "1", "localhost"))
	require.NoError(t, err)
	for _, want := range []string{`"const":"move"`, `"const":"resign"`, `"send_move"`, `"maxLength":8`, `#/components/schemas/Square`, `"required":["room","piece"]`} {
		assert.Contains(t, string(b), want)
	}
	assert.Len(t, s.ClientEvents(), len(protocol.Own().ClientEvents())+2)
}

func TestDataGoesThroughJSONAndBack(t *testing.T) {
	o := chess(t).ServerEvent("move").Data
	d := protocol.Data{"room": "a", "at": time.Unix(7, 1000).UTC(), "way": []protocol.Data{{"file": "e", "rank": uint64(2)}, {"file": "e", "rank": uint64(4)}}}
	require.NoError(t, o.Fits(d))
	b := protocol.AppendData(nil, o, d)
	assert.Equal(t, `{"room":"a","way":[{"file":"e","rank":2},{"file":"e","rank":4}],"at":"1970-01-01T00:00:07.000001Z"}`, string(b))
	again, err := protocol.ParseData(b, o)
	require.NoError(t, err)
	assert.Equal(t, d, again)
	assert.EqualValues(t, 7, again.Time("at").Unix())
	for _, bad := range []string{
		``, `[]`, `null`, `{}`, `{"room":"a","way":[],"at":"now"}`, `{"room":1,"way":[],"at":"1970-01-01T00:00:07.000001Z"}`, `{"room":"a","way":[null],"at":"1970-01-01T00:00:07.000001Z"}`,
		`{"room":"a","way":[{"file":"e","rank":9}],"at":"1970-01-01T00:00:07.000001Z"}`, `{"room":"a","way":[],"at":"1970-01-01T00:00:07.000001Z","more":1}`, `{"room":"a","way":{},"at":"1970-01-01T00:00:07.000001Z"}`,
	} {
		_, err := protocol.ParseData([]byte(bad), o)
		assert.Error(t, err, bad)
	}
	for _, bad := range []protocol.Data{{"room": "a", "at": "now"}, {"room": "a", "at": time.Time{}, "way": []protocol.Data{{"file": "e", "rank": -1}}}} {
		assert.Error(t, o.Fits(bad))
	}
}

// Every format reads an event in this way, whatever its syntax.
func ExampleSchema_Check() {
	read := func(event string, fields ...[2]string) {
		k, err := protocol.Own().Check(event)
		for _, m := range fields {
			if err != nil {
				break
			}
			var f *protocol.Field
			if f, err = k.Field(m[0]); err == nil {
				err = k.Text(f, m[1])
			}
		}
		if err == nil {
			var c protocol.Command
			if c, err = k.Command(); err == nil {
				fmt.Println(c.Event, c.Room)
				return
			}
		}
		fmt.Println(fault.Public(err).Detail)
	}
	read("presence", [2]string{"room", "hall"})
	read("presence", [2]string{"rooms", "hall"})
	read("presence")
	read("present")
	// Output:
	// presence hall
	// unknown field data."rooms"
	// data.room is missing
	// unknown event "present"
}
