package contract

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Wire is a wire format and a client's side of it.
type Wire struct {
	New protocol.NewFormat
	// Say writes a message of a client as it is given, right or wrong.
	Say func(m Said) (payload []byte, binary bool)
	// Hear reads a message of the server, whose data is of the object o.
	Hear func(f *socket.Frame, o *protocol.Object) (Heard, error)
}

// Said is what a client says.
type Said struct {
	ID    uint64
	HasID bool
	Event string
	// Fields are what the data holds, in this order; a name may stand twice. A value is a string, which
	// may have any bytes, a uint64, a bool, a protocol.FreeObject, which is valid JSON, or nil.
	Fields []Field
}

// Field is one field of what a client says.
type Field struct {
	Name  string
	Value any
}

// Heard is what a client hears.
type Heard struct {
	Kind  HeardKind
	ID    uint64
	HasID bool
	// Event is the name of an event; Code is the code of an error.
	Event, Code string
	// Data is set for answers and events.
	Data protocol.Data
}

// HeardKind says what the server has sent.
type HeardKind uint8

// What the server sends.
const (
	HeardAnswer HeardKind = iota + 1
	HeardError
	HeardEvent
)

// Format is the suite of protocol.Format. It tests Parley's own events, and events of an application of
// every type.
func Format() []Case[Wire] {
	return suite("Format", []promise[Wire]{
		{"what is said is read", "It gives the command every field that the client has sent.", formatReads},
		{"defaults", "It sets what the client has left out as the schema says.", formatDefaults},
		{"unknown events", "It refuses an event that the schema does not have.", formatUnknownEvents},
		{"unknown and doubled fields", "It refuses a field that the event does not have, and one that stands twice.", formatFields},
		{"missing fields", "It refuses an event that lacks a required field.", formatMissing},
		{"types and bounds", "It refuses a value that is not of its field's type or bounds.", formatBounds},
		{"text that is not UTF-8 is refused", "It refuses text that is not UTF-8.", formatUTF8},
		{"whole messages", "It refuses a message that is cut short or goes on behind its end, and one of the wrong kind, text or binary.", formatWhole},
		{"the payload is left alone", "It leaves payload as it is, and the command holds no part of it.", formatKeepsNothing},
		{"any bytes", "Every error is of kind Invalid: the hub closes the connection with CloseBadEvent and the error's detail.", formatAnyBytes},
		{"answers", "An answer has the ID of its command and every field of the schema's Ack.", formatAnswers},
		{"no answer without an id", "A command without an ID has no answer.", formatNoAnswer},
		{"errors", "It has the ID of its command, and the problem's code.", formatErrors},
		{"no error without an id", "It is nil for a command without an ID.", formatNoError},
		{"events", "It has the name and every field of the event.", formatEvents},
		{"text that is not UTF-8 is mended", "It makes valid UTF-8 of text that is not.", formatMends},
		{"many goroutines", "Its methods may be called from many goroutines. None of them blocks.", formatConcurrent},
	})
}

// formatSchema is Parley's own events, and one of an application with a field of each type.
func formatSchema() *protocol.Schema {
	s, err := protocol.NewSchema([]protocol.ClientEvent{{
		Name: "move", Doc: "Move a piece.",
		Data: &protocol.Object{Name: "Move", Fields: []protocol.Field{
			{Name: "piece", Type: protocol.String, Required: true, MinLength: 2, MaxLength: 8, Check: func(s string) error {
				if strings.HasPrefix(s, "x") {
					return protocol.ErrBadEvent.Detail("no piece begins with x")
				}
				return nil
			}},
			{Name: "steps", Type: protocol.Integer, Minimum: 2, Maximum: 9},
			{Name: "quick", Type: protocol.Boolean},
			{Name: "style", Type: protocol.Free, MaxLength: 64},
		}},
		Ack: formatAll("MoveAck"),
	}}, []protocol.ServerEvent{{Name: "moved", Doc: "A piece was moved.", Data: formatAll("Moved")}})
	if err != nil {
		panic(err) // it is made above
	}
	return s
}

// formatAll is an object with every type of field.
func formatAll(name string) *protocol.Object {
	part := &protocol.Object{Name: name + "Part", Fields: []protocol.Field{
		{Name: "name", Type: protocol.String, Required: true}, {Name: "size", Type: protocol.Integer},
	}}
	return &protocol.Object{Name: name, Fields: []protocol.Field{
		{Name: "text", Type: protocol.String, Required: true}, {Name: "none", Type: protocol.String, Null: true},
		{Name: "n", Type: protocol.Integer, Required: true}, {Name: "yes", Type: protocol.Boolean, Required: true}, {Name: "no", Type: protocol.Boolean},
		{Name: "when", Type: protocol.Time, Required: true},
		{Name: "part", Type: protocol.Ref, Object: part, Required: true}, {Name: "parts", Type: protocol.ListOf, Object: part, Required: true},
		{Name: "style", Type: protocol.Free, Required: true}, {Name: "names", Type: protocol.Texts, Required: true},
		{Name: "absent", Type: protocol.String},
	}}
}

// awkward is text that formats have to write in a special way.
const awkward = "é\"\\/<&>\u2028\n\t\x01\x7f𝕏\u200d,}]'"

// full returns values for all fields of o but those that are called absent.
func full(o *protocol.Object, n int) protocol.Data {
	d := protocol.Data{}
	for _, f := range o.Fields {
		switch {
		case f.Name == "absent":
		case f.Type == protocol.String && f.Null:
			d[f.Name] = nil
		case f.Type == protocol.String:
			d[f.Name] = fmt.Sprint(awkward, n)
		case f.Type == protocol.Integer:
			d[f.Name] = uint64(protocol.MaxInteger - n)
		case f.Type == protocol.Boolean:
			d[f.Name] = f.Name != "no"
		case f.Type == protocol.Free:
			d[f.Name] = protocol.FreeObject(fmt.Sprintf(`{"n":%d,"é\u00e9":"%s 👋 ]}"}`, n, long(20)))
		case f.Type == protocol.Texts:
			d[f.Name] = []string{awkward, fmt.Sprint(n)}
		case f.Type == protocol.Time:
			d[f.Name] = at(n)
		case f.Type == protocol.Ref:
			d[f.Name] = full(f.Object, n+1)
		case f.Type == protocol.ListOf:
			d[f.Name] = []protocol.Data{full(f.Object, n+1), full(f.Object, n+2)}
		}
	}
	return d
}

// saying returns the event with a valid value for each field, or for the required ones alone.
func saying(e *protocol.ClientEvent, all bool) Said {
	m := Said{ID: 7, HasID: true, Event: e.Name}
	for i := range e.Data.Fields {
		f := &e.Data.Fields[i]
		if all || f.Required {
			m.Fields = append(m.Fields, Field{f.Name, valid(f)})
		}
	}
	return m
}

func valid(f *protocol.Field) any {
	switch {
	case f.Type == protocol.Integer:
		return max(f.Minimum, 3)
	case f.Type == protocol.Boolean:
		return false
	case f.Type == protocol.Free:
		return protocol.FreeObject(`{"b":[{},"é\u00e9 , } \" "],"a":1.50}`)
	case f.Name == "text":
		return awkward + long(20)
	case f.Pattern != "": // names, tokens and ids: a word is one
		return "word"
	}
	return awkward[:min(len("é\"\\/<&>"), f.MaxLength)]
}

// field returns what the command has of a field; nil if it was not given.
func field(c protocol.Command, name string) any {
	number := func(n *uint64) any {
		if n == nil {
			return nil
		}
		return *n
	}
	switch name {
	case "room":
		return c.Room
	case "text":
		return c.Text
	case "clientId":
		return c.ClientID
	case "token":
		return c.Token
	case "since":
		return number(c.Since)
	case "rev":
		return number(c.Rev)
	case "changedAfter":
		return number(c.ChangedAfter)
	case "seq", "read":
		return c.Seq
	case "key":
		return c.Text
	case "on":
		return !c.Off
	case "before":
		return number(c.Before)
	case "after":
		return number(c.After)
	case "limit":
		return c.Limit
	case "typing":
		return c.Typing
	case "replyTo":
		return c.ReplyTo
	case "data":
		if c.Attached == "" {
			return nil
		}
		return protocol.FreeObject(c.Attached)
	}
	return c.Data[name]
}

func (w Wire) decode(f protocol.Format, m Said) (protocol.Command, error) {
	payload, binary := w.Say(m)
	c, err := f.Decode(payload, binary)
	if err != nil {
		err = fmt.Errorf("%s %v is refused: %w", m.Event, m.Fields, err)
	}
	return c, err
}

// refuses returns an error unless the message is refused with kind Invalid.
func (w Wire) refuses(f protocol.Format, m Said, why string) error {
	payload, binary := w.Say(m)
	return refused(f, payload, binary, fmt.Sprintf("%s %v, %s,", m.Event, m.Fields, why))
}

func refused(f protocol.Format, payload []byte, binary bool, what string) error {
	switch _, err := f.Decode(payload, binary); {
	case err == nil:
		return fmt.Errorf("%s is not refused: %q", what, payload)
	case !errors.Is(err, fault.Invalid):
		return fmt.Errorf("%s is refused with kind %s: %w", what, fault.KindOf(err).Code(), err)
	}
	return nil
}

// each calls check for every event of clients.
func (w Wire) each(check func(f protocol.Format, e *protocol.ClientEvent) error) error {
	s := formatSchema()
	f := w.New(s)
	for _, e := range s.ClientEvents() {
		if err := check(f, &e); err != nil {
			return err
		}
	}
	return nil
}

func formatReads(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		m := saying(e, true)
		for _, id := range []uint64{0, 1, protocol.MaxInteger} {
			for range 2 {
				slices.Reverse(m.Fields) // the order makes no difference
				m.ID, m.HasID = id, true
				c, err := w.decode(f, m)
				if err != nil {
					return err
				}
				if c.Event != e.Name || c.ID != id || !c.HasID || c.Schema() == nil || c.Schema().Name != e.Name {
					return fmt.Errorf("%s with the id %d is read as %+v", e.Name, id, c)
				}
				for _, given := range m.Fields {
					if got := field(c, given.Name); got != given.Value {
						return fmt.Errorf("%s: %s is %#v, want %#v", e.Name, given.Name, got, given.Value)
					}
				}
			}
		}
		m.ID, m.HasID = 0, false
		c, err := w.decode(f, m)
		if err == nil && c.HasID {
			err = fmt.Errorf("%s without an id is read as %+v", e.Name, c)
		}
		return err
	})
}

func formatDefaults(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		// One with all fields before, whose values must not be found again.
		if _, err := w.decode(f, saying(e, true)); err != nil {
			return err
		}
		c, err := w.decode(f, saying(e, false))
		if err != nil {
			return err
		}
		for i := range e.Data.Fields {
			d := &e.Data.Fields[i]
			if d.Required {
				continue
			}
			got := field(c, d.Name)
			switch {
			case (d.Name == "typing" || d.Name == "on") && got == true:
			case d.Name == "clientId" && got == "", (d.Name == "limit" || d.Name == "replyTo") && got == uint64(0):
			case d.Name != "typing" && d.Name != "on" && got == nil:
			default:
				return fmt.Errorf("%s: %s was left out and is %#v", e.Name, d.Name, got)
			}
		}
		return nil
	})
}

func formatUnknownEvents(_ context.Context, w Wire) error {
	f := w.New(formatSchema())
	for _, name := range []string{"", "other", "Message", "message ", "joined", "ack", "error", "moved", long(40)} {
		if err := w.refuses(f, Said{Event: name, Fields: []Field{{"room", "hall"}}}, "an event that nobody may send"); err != nil {
			return err
		}
	}
	return w.refuses(w.New(protocol.Own()), Said{Event: "move", Fields: []Field{{"room", "hall"}, {"piece", "king"}}}, "an event of another schema")
}

func formatFields(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		for _, name := range []string{"", "other", "Room", "room ", "id", "event", long(40)} {
			m := saying(e, true)
			m.Fields = append(m.Fields, Field{name, "word"})
			if err := w.refuses(f, m, "with an unknown field"); err != nil {
				return err
			}
		}
		for i := range e.Data.Fields {
			m := saying(e, true)
			m.Fields = append(m.Fields, m.Fields[i])
			if err := w.refuses(f, m, "with a field that stands twice"); err != nil {
				return err
			}
		}
		return nil
	})
}

func formatMissing(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		for i := range e.Data.Fields {
			if d := &e.Data.Fields[i]; d.Required {
				m := saying(e, true)
				m.Fields = slices.Delete(m.Fields, i, i+1)
				if err := w.refuses(f, m, "without "+d.Name); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func formatBounds(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		for i := range e.Data.Fields {
			d := &e.Data.Fields[i]
			bad := []any{nil}
			switch d.Type {
			case protocol.String:
				bad = append(bad, uint64(3), true, strings.Repeat("w", d.MaxLength+1), long(d.MaxLength+1))
				if d.MinLength > 0 {
					bad = append(bad, strings.Repeat("w", d.MinLength-1))
				}
				if d.Pattern != "" {
					bad = append(bad, "a\x00b")
				}
				if d.Name == "piece" {
					bad = append(bad, "xx")
				}
			case protocol.Integer:
				bad = append(bad, "3", false, uint64(protocol.MaxInteger+1))
				if d.Minimum > 0 {
					bad = append(bad, d.Minimum-1)
				}
				if d.Maximum > 0 {
					bad = append(bad, d.Maximum+1)
				}
			case protocol.Boolean:
				bad = append(bad, "true", uint64(1))
			case protocol.Free:
				bad = append(bad, "{}", uint64(1), true, freeOf(d.MaxLength+1), deepFree(chat.MaxDataDepth+1),
					protocol.FreeObject(`{"a":"\u0000"}`), protocol.FreeObject(`{"\u0000":1}`), protocol.FreeObject(`{"a":"\ud800"}`))
			}
			m := saying(e, true)
			for _, v := range bad {
				m.Fields[i].Value = v
				if err := w.refuses(f, m, d.Name+" is wrong"); err != nil {
					return err
				}
			}
			good := []any{}
			switch d.Type {
			case protocol.String:
				if d.Pattern == "" {
					good = append(good, long(d.MaxLength))
				}
				good = append(good, strings.Repeat("w", d.MaxLength), strings.Repeat("w", d.MinLength))
			case protocol.Integer:
				good = append(good, d.Minimum)
				if d.Maximum > 0 {
					good = append(good, d.Maximum)
				} else {
					good = append(good, uint64(protocol.MaxInteger))
				}
			case protocol.Free:
				good = append(good, protocol.FreeObject("{}"), freeOf(d.MaxLength))
				if d.MaxLength >= 6*chat.MaxDataDepth {
					good = append(good, deepFree(chat.MaxDataDepth))
				}
				// Without the white space it is not too long.
				m.Fields[i].Value = protocol.FreeObject(" { \"a\" :" + strings.Repeat(" ", d.MaxLength) + "[ 1,\n\"x y\" ] } ")
				c, err := w.decode(f, m)
				if err != nil {
					return err
				}
				if got := field(c, d.Name); got != protocol.FreeObject(`{"a":[1,"x y"]}`) {
					return fmt.Errorf("%s: %s is %#v, want it without white space between tokens", e.Name, d.Name, got)
				}
			}
			for _, v := range good {
				m.Fields[i].Value = v
				c, err := w.decode(f, m)
				if err != nil {
					return err
				}
				if got := field(c, d.Name); d.Type == protocol.Free && got != v {
					return fmt.Errorf("%s: %s is %#v, want %#v", e.Name, d.Name, got, v)
				}
			}
		}
		return nil
	})
}

// freeOf is an object of n bytes, and deepFree one of n levels.
func freeOf(n int) protocol.FreeObject {
	return protocol.FreeObject(`{"a":"` + strings.Repeat("~", n-8) + `"}`)
}

func deepFree(n int) protocol.FreeObject {
	return protocol.FreeObject(strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1))
}

func formatUTF8(_ context.Context, w Wire) error {
	f := w.New(formatSchema())
	for _, bad := range []string{"a\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf"} {
		for _, m := range []Said{
			{Event: "message", Fields: []Field{{"room", "hall"}, {"text", bad}}},
			{Event: "move", Fields: []Field{{"room", "hall"}, {"piece", "king" + bad}}},
			{Event: "move", Fields: []Field{{"room", "hall"}, {"piece", "king"}, {bad, "word"}}},
			{Event: bad, Fields: []Field{{"room", "hall"}}},
		} {
			if err := w.refuses(f, m, "which is not UTF-8"); err != nil {
				return err
			}
		}
	}
	return nil
}

func formatWhole(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		payload, binary := w.Say(saying(e, true))
		for cut := range payload {
			if err := refused(f, payload[:cut], binary, e.Name+" cut short"); err != nil {
				return err
			}
		}
		if err := refused(f, slices.Concat(payload, payload), binary, e.Name+" twice in a message"); err != nil {
			return err
		}
		if err := refused(f, slices.Concat(payload, []byte("x")), binary, e.Name+" with something behind it"); err != nil {
			return err
		}
		return refused(f, payload, !binary, e.Name+" of the wrong kind")
	})
}

func formatKeepsNothing(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		m := saying(e, true)
		payload, binary := w.Say(m)
		before := slices.Clone(payload)
		c, err := f.Decode(payload, binary)
		if err != nil {
			return err
		}
		if !slices.Equal(payload, before) {
			return fmt.Errorf("%s: the payload was changed", e.Name)
		}
		for i := range payload {
			payload[i] = '#'
		}
		for _, given := range m.Fields {
			if got := field(c, given.Name); got != given.Value {
				return fmt.Errorf("%s: %s is a part of the payload: %#v, was %#v", e.Name, given.Name, got, given.Value)
			}
		}
		if c.Event != e.Name {
			return fmt.Errorf("the event's name is a part of the payload: %q", c.Event)
		}
		return nil
	})
}

func formatAnyBytes(_ context.Context, w Wire) error {
	random := rand.New(rand.NewPCG(1, 2))
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		payload, binary := w.Say(saying(e, true))
		for n := range 4000 {
			b := slices.Clone(payload)
			if n%4 == 0 {
				b = make([]byte, random.IntN(64))
				for i := range b {
					b[i] = byte(random.Uint32())
				}
			}
			for range 1 + n%3 {
				if len(b) > 0 {
					b[random.IntN(len(b))] = byte(random.Uint32())
				}
			}
			c, err := f.Decode(b, binary)
			switch {
			case err != nil && !errors.Is(err, fault.Invalid):
				return fmt.Errorf("%q is refused with kind %s: %w", b, fault.KindOf(err).Code(), err)
			case err == nil && c.Schema() == nil:
				return fmt.Errorf("%q is an event that did not pass the check: %+v", b, c)
			}
		}
		return nil
	})
}

// frames keeps what an answer sends.
type frames []*socket.Frame

func (k *frames) Send(f *socket.Frame) { *k = append(*k, f) }

// formatAnswer is an answer with all that the event's ack has.
func formatAnswer(e *protocol.ClientEvent) protocol.Answer {
	m := formatMessage(1)
	bare := formatMessage(2)
	bare.ClientID, bare.ReplyTo, bare.Data, bare.Rev, bare.EditedAt, bare.Reactions = "", 0, "", 0, time.Time{}, nil
	gone := formatMessage(3)
	gone.Text, gone.Data, gone.ReplyTo, gone.EditedAt, gone.DeletedAt, gone.Reactions = "", "", 0, time.Time{}, at(4), nil
	a := protocol.Answer{
		Room: m.Room, Seq: protocol.MaxInteger, Rev: protocol.MaxInteger, Recovered: true, More: true,
		Messages: []chat.Message{m, bare, gone}, Changes: []chat.Message{gone, m}, Stored: m,
	}
	switch e.Name {
	case protocol.EventJoinRoom, protocol.EventMessage, protocol.EventHistory:
	default:
		a.Data = full(e.Ack, 0)
	}
	return a
}

func formatMessage(n int) chat.Message {
	return chat.Message{
		Room: "room " + awkward, Seq: uint64(n), ID: fmt.Sprint("id", n), ClientID: "c" + awkward,
		Author: chat.Author{ID: "u1", Name: "Zoë " + awkward}, Text: awkward + long(300), At: at(n),
		ReplyTo: protocol.MaxInteger, Data: `{"b":[{},"é\u00e9 , } \" "],"a":1.50}`,
		Rev: protocol.MaxInteger, EditedAt: at(n + 1),
		Reactions: []chat.Reaction{{Key: awkward, Count: 300, Users: []user.ID{"u1", awkward}}, {Key: "+1", Count: 1, Users: []user.ID{}}},
	}
}

func formatAnswers(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		for _, id := range []uint64{0, 7, protocol.MaxInteger} {
			m := saying(e, true)
			m.ID = id
			c, err := w.decode(f, m)
			if err != nil {
				return err
			}
			a := formatAnswer(e)
			var sent frames
			f.Answer(&sent, c, a)
			answers := 0
			for _, frame := range sent {
				h, err := w.Hear(frame, e.Ack)
				if err != nil {
					return fmt.Errorf("the answer to %s: %w", e.Name, err)
				}
				if h.Kind != HeardAnswer {
					continue
				}
				answers++
				if h.ID != id || !h.HasID {
					return fmt.Errorf("the answer to %s with the id %d has the id %d, %t", e.Name, id, h.ID, h.HasID)
				}
				if err := sameData(e.Ack, h.Data, c.Values(a)); err != nil {
					return fmt.Errorf("the answer to %s: %w", e.Name, err)
				}
			}
			if answers != 1 {
				return fmt.Errorf("%s has %d answers", e.Name, answers)
			}
		}
		return nil
	})
}

func formatNoAnswer(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		m := saying(e, true)
		m.ID, m.HasID = 0, false
		c, err := w.decode(f, m)
		if err != nil {
			return err
		}
		var sent frames
		f.Answer(&sent, c, formatAnswer(e))
		for _, frame := range sent {
			if h, err := w.Hear(frame, e.Ack); err != nil || h.Kind == HeardAnswer {
				return fmt.Errorf("%s without an id is answered by %+v, %w", e.Name, h, orNone(err))
			}
		}
		return nil
	})
}

func formatErrors(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		for _, id := range []uint64{0, 7, protocol.MaxInteger} {
			m := saying(e, true)
			m.ID = id
			c, err := w.decode(f, m)
			if err != nil {
				return err
			}
			frame := f.Error(c, fault.Public(fault.New(fault.Exhausted, "some_code", "a title").Detail("%s", awkward).RetryAfter(1500*time.Millisecond)))
			if frame == nil {
				return fmt.Errorf("the error of %s is nil", e.Name)
			}
			h, err := w.Hear(frame, nil)
			if err != nil || h.Kind != HeardError || h.ID != id || !h.HasID || h.Code != "some_code" {
				return fmt.Errorf("the error of %s with the id %d is heard as %+v, %w", e.Name, id, h, orNone(err))
			}
		}
		return nil
	})
}

func formatNoError(_ context.Context, w Wire) error {
	return w.each(func(f protocol.Format, e *protocol.ClientEvent) error {
		m := saying(e, true)
		m.ID, m.HasID = 0, false
		c, err := w.decode(f, m)
		if err != nil {
			return err
		}
		if frame := f.Error(c, fault.Public(fault.Conflict)); frame != nil {
			return fmt.Errorf("the error of %s without an id is %q", e.Name, frame.Payload())
		}
		return nil
	})
}

// sameData compares what was heard with what was to be said.
func sameData(o *protocol.Object, got, want protocol.Data) error {
	if err := o.Fits(got); err != nil {
		return err
	}
	g, w := protocol.AppendData(nil, o, got), protocol.AppendData(nil, o, want)
	if !slices.Equal(g, w) {
		return fmt.Errorf("it is %s, want %s", clip(string(g)), clip(string(w)))
	}
	return nil
}

// happening is an event of the server with all that it has.
func happening(e *protocol.ServerEvent) protocol.Outgoing {
	m := formatMessage(1)
	o := protocol.Outgoing{Schema: e, Room: m.Room, User: m.Author}
	if e.Name == protocol.EventMessage || e.Name == protocol.EventChanged {
		o.Message = m
	} else {
		o.Data = full(e.Data, 0)
	}
	return o
}

func formatEvents(_ context.Context, w Wire) error {
	s := formatSchema()
	f := w.New(s)
	for _, e := range s.ServerEvents() {
		o := happening(&e)
		frame := f.Event(o)
		if frame == nil {
			return fmt.Errorf("%s is nil", e.Name)
		}
		h, err := w.Hear(frame, e.Data)
		if err != nil || h.Kind != HeardEvent || h.Event != e.Name || h.HasID {
			return fmt.Errorf("%s is heard as %+v, %w", e.Name, h, orNone(err))
		}
		if err := sameData(e.Data, h.Data, o.Values()); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return nil
}

func formatMends(_ context.Context, w Wire) error {
	f := w.New(formatSchema())
	s := formatSchema().ServerEvent(protocol.EventMessage)
	m := formatMessage(1)
	m.Text, m.Author.Name = "a\xffb\xc3", "\xed\xa0\x80c"
	frame := f.Event(protocol.Outgoing{Schema: s, Message: m})
	if frame == nil {
		return errors.New("the event is nil")
	}
	if !frame.Binary() && !utf8.Valid(frame.Payload()) {
		return fmt.Errorf("a text message is not UTF-8: %q", frame.Payload())
	}
	h, err := w.Hear(frame, s.Data)
	if err != nil {
		return err
	}
	text, _ := h.Data["text"].(string)
	if !utf8.ValidString(text) || !strings.HasPrefix(text, "a\ufffdb") {
		return fmt.Errorf("the text is %q", text)
	}
	return nil
}

func formatConcurrent(ctx context.Context, w Wire) error {
	s := formatSchema()
	f := w.New(s)
	return allTogether(8, func(n int) error {
		for i := range 200 {
			e := &s.ClientEvents()[(n+i)%len(s.ClientEvents())]
			m := saying(e, (n+i)%2 == 0)
			m.ID = uint64(n*1000 + i)
			c, err := w.decode(f, m)
			if err != nil {
				return err
			}
			if c.ID != m.ID || c.Event != e.Name {
				return fmt.Errorf("%s %d is read as %s %d", e.Name, m.ID, c.Event, c.ID)
			}
			for _, given := range m.Fields {
				if got := field(c, given.Name); got != given.Value {
					return fmt.Errorf("%s: %s is %#v, want %#v", e.Name, given.Name, got, given.Value)
				}
			}
			var sent frames
			f.Answer(&sent, c, formatAnswer(e))
			answered := false
			for _, frame := range sent {
				h, err := w.Hear(frame, e.Ack)
				if err != nil || h.Kind == HeardAnswer && h.ID != m.ID {
					return fmt.Errorf("the answer to %d is heard as %+v, %w", m.ID, h, orNone(err))
				}
				answered = answered || h.Kind == HeardAnswer
			}
			if !answered {
				return fmt.Errorf("%s %d has no answer", e.Name, m.ID)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}
