package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/internal/jsontext"
	"github.com/parley-chat/parley/core/socket"
)

// JSON makes the wire format of the subprotocol parley.v1: one JSON object a text frame,
//
//	{"id": 7, "event": "message", "data": {…}}
//
// A command without an id is not answered.
func JSON(s *Schema) Format { return jsonFormat{s} }

type jsonFormat struct{ schema *Schema }

// Decode reads and checks one message.
func (j jsonFormat) Decode(payload []byte, binary bool) (Command, error) {
	if binary {
		return Command{}, ErrBadEvent.Detail("binary messages are not part of the protocol")
	}
	if !json.Valid(payload) || !utf8.Valid(payload) {
		return Command{}, ErrBadEvent.Detail("it is not JSON")
	}
	var (
		id          uint64
		hasID       bool
		event, data []byte
		seen        [3]bool
	)
	err := fields(payload, func(name, value []byte) error {
		var i int
		switch string(name) {
		case "id":
			i = 0
			n, err := integer(value)
			if err != nil {
				return ErrBadEvent.Detail("id is %v", err)
			}
			id, hasID = n, true
		case "event":
			i = 1
			s, err := stringBytes(value)
			if err != nil {
				return ErrBadEvent.Detail("event is %v", err)
			}
			event = s
		case "data":
			i = 2
			data = value
		default:
			return ErrBadEvent.Detail("unknown field %s", quote(string(name)))
		}
		if seen[i] {
			return ErrBadEvent.Detail("%s stands twice", name)
		}
		seen[i] = true
		return nil
	})
	if err != nil {
		return Command{}, err
	}
	k, err := j.schema.check(event)
	if err != nil {
		return Command{}, err
	}
	if data != nil {
		err = fields(data, func(name, value []byte) error {
			f, err := k.field(name)
			if err != nil {
				return err
			}
			return k.json(f, value)
		})
		if err != nil {
			return Command{}, err
		}
	}
	c, err := k.Command()
	c.ID, c.HasID = id, hasID
	return c, err
}

// json gives a field the value that stands in valid JSON.
func (k *Check) json(f *Field, raw []byte) error {
	switch f.Type {
	case String:
		s, err := stringBytes(raw)
		if err != nil {
			return ErrBadEvent.Detail("data.%s: %v", f.Name, err)
		}
		return k.Text(f, string(s))
	case Integer:
		n, err := integer(raw)
		if err != nil {
			return ErrBadEvent.Detail("data.%s: %v", f.Name, err)
		}
		return k.Integer(f, n)
	case Boolean:
		switch string(raw) {
		case "true":
			return k.Boolean(f, true)
		case "false":
			return k.Boolean(f, false)
		}
	case Free:
		return k.Free(f, string(raw))
	}
	return f.refuse(f.Type)
}

// fields calls f for each field of the object in valid JSON; name is without quotes and
// escapes, value is the raw JSON.
func fields(object []byte, f func(name, value []byte) error) error {
	b := bytes.TrimSpace(object)
	if len(b) == 0 || b[0] != '{' {
		return ErrBadEvent.Detail("an object is expected")
	}
	b = space(b[1:])
	for b[0] != '}' {
		end := scanString(b)
		name := b[1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			var err error
			if name, err = stringBytes(b[:end]); err != nil {
				return ErrBadEvent.Detail("%v", err)
			}
		}
		b = space(b[end:])
		b = space(b[1:]) // the colon
		end = scanValue(b)
		if err := f(name, b[:end]); err != nil {
			return err
		}
		b = space(b[end:])
		if b[0] == ',' {
			b = space(b[1:])
		}
	}
	return nil
}

func space(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// scanString returns the length of the string that valid JSON begins with.
func scanString(b []byte) int {
	for i := 1; ; {
		i += bytes.IndexByte(b[i:], '"')
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		if i++; escapes%2 == 0 {
			return i
		}
	}
}

// scanValue returns the length of the value that valid JSON begins with.
func scanValue(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += scanString(b[i:]) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // a scalar that ends where its object does
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// stringBytes reads a JSON string; what it returns may be a part of value. An escaped surrogate without
// its partner is refused: it is no text.
func stringBytes(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, errors.New("not a string")
	}
	raw := value[1 : len(value)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, nil
	}
	if _, half := jsontext.Escapes(raw); half {
		return nil, errors.New("not valid UTF-16 in an escape")
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, errors.New("not a string")
	}
	return []byte(s), nil
}

// integer reads a JSON number without sign, fraction and exponent, up to MaxInteger.
func integer(value []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || n > MaxInteger {
		return 0, fmt.Errorf("not an integer from 0 to %d", uint64(MaxInteger))
	}
	return n, nil
}

// Answer sends the ack of a command that has an ID.
func (jsonFormat) Answer(to Sink, c Command, a Answer) {
	if c.HasID {
		to.Send(socket.NewFrame(func(b []byte) []byte {
			b = appendHead(b, c, EventAck)
			b = AppendAnswer(append(b, `,"data":`...), c, a)
			return append(b, '}')
		}))
	}
}

// Error makes the answer to a command that failed and has an ID.
func (jsonFormat) Error(c Command, p fault.Problem) *socket.Frame {
	if !c.HasID {
		return nil
	}
	return socket.NewFrame(func(b []byte) []byte {
		b = appendHead(b, c, EventError)
		b = AppendProblem(append(b, `,"error":`...), p)
		return append(b, '}')
	})
}

// Event makes an event of the server.
func (jsonFormat) Event(e Outgoing) *socket.Frame {
	return socket.NewFrame(func(b []byte) []byte {
		b = append(b, `{"event":"`...)
		b = append(b, e.Schema.Name...)
		b = append(b, `","data":`...)
		if e.ofMessage() {
			b = appendMessage(b, e.Message)
		} else {
			b = AppendData(b, e.Schema.Data, e.Data)
		}
		return append(b, '}')
	})
}

// AppendAnswer appends the data of an ack as JSON. The frequent ones are written without Values.
func AppendAnswer(b []byte, c Command, a Answer) []byte {
	switch c.Event {
	case EventJoinRoom:
		b = AppendString(append(b, `{"room":`...), a.Room)
		b = strconv.AppendUint(append(b, `,"seq":`...), a.Seq, 10)
		b = strconv.AppendUint(append(b, `,"rev":`...), a.Rev, 10)
		b = strconv.AppendUint(append(b, `,"read":`...), a.Read, 10)
		b = strconv.AppendBool(append(b, `,"recovered":`...), a.Recovered)
		b = appendMessages(append(b, `,"messages":`...), a.Messages)
		if c.Rev != nil {
			b = appendMessages(append(b, `,"changes":`...), a.Changes)
		}
	case EventMessage:
		b = AppendString(append(b, `{"room":`...), a.Stored.Room)
		b = strconv.AppendUint(append(b, `,"seq":`...), a.Stored.Seq, 10)
		b = AppendString(append(b, `,"id":`...), a.Stored.ID)
		b = appendTime(append(b, `,"at":`...), a.Stored.At)
	case EventHistory:
		b = appendMessages(append(b, `{"messages":`...), a.Messages)
		b = strconv.AppendBool(append(b, `,"more":`...), a.More)
	default:
		return AppendData(b, c.schema.Ack, a.Data)
	}
	return append(b, '}')
}

// AppendProblem appends an error's code, title and what else it has as a JSON object.
func AppendProblem(b []byte, p fault.Problem) []byte {
	b = AppendString(append(b, `{"code":`...), p.Code)
	b = AppendString(append(b, `,"title":`...), p.Title)
	if p.Detail != "" {
		b = AppendString(append(b, `,"detail":`...), p.Detail)
	}
	if p.RetryAfter > 0 {
		b = strconv.AppendInt(append(b, `,"retryAfter":`...), int64(math.Ceil(p.RetryAfter.Seconds())), 10)
	}
	return append(b, '}')
}

// AppendData appends d as a JSON object, in the order of o's fields. d must fit o.
func AppendData(b []byte, o *Object, d Data) []byte {
	b = append(b, '{')
	first := true
	for i := range o.Fields {
		f := &o.Fields[i]
		v, given := d[f.Name]
		if !given {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(AppendString(b, f.Name), ':')
		switch v := v.(type) {
		case string:
			b = AppendString(b, v)
		case bool:
			b = strconv.AppendBool(b, v)
		case time.Time:
			b = appendTime(b, v)
		case FreeObject:
			b = append(b, v...)
		case []string:
			b = append(b, '[')
			for i, s := range v {
				if i > 0 {
					b = append(b, ',')
				}
				b = AppendString(b, s)
			}
			b = append(b, ']')
		case Data:
			b = AppendData(b, f.Object, v)
		case []Data:
			b = append(b, '[')
			for i, d := range v {
				if i > 0 {
					b = append(b, ',')
				}
				b = AppendData(b, f.Object, d)
			}
			b = append(b, ']')
		default:
			if n, ok := number(v); ok {
				b = strconv.AppendUint(b, n, 10)
			} else {
				b = append(b, "null"...)
			}
		}
	}
	return append(b, '}')
}

func appendHead(b []byte, c Command, event string) []byte {
	b = strconv.AppendUint(append(b, `{"id":`...), c.ID, 10)
	b = append(b, `,"event":"`...)
	return append(append(b, event...), '"')
}

func appendMessages(b []byte, messages []chat.Message) []byte {
	b = append(b, '[')
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMessage(b, m)
	}
	return append(b, ']')
}

// AppendMessage appends a message as it is the data of the events message and changed.
func AppendMessage(b []byte, m chat.Message) []byte { return appendMessage(b, m) }

func appendMessage(b []byte, m chat.Message) []byte {
	b = AppendString(append(b, `{"room":`...), m.Room)
	b = strconv.AppendUint(append(b, `,"seq":`...), m.Seq, 10)
	b = strconv.AppendUint(append(b, `,"rev":`...), m.Rev, 10)
	b = AppendString(append(b, `,"id":`...), m.ID)
	if m.ClientID != "" {
		b = AppendString(append(b, `,"clientId":`...), m.ClientID)
	}
	b = appendUser(append(b, `,"user":`...), m.Author)
	b = AppendString(append(b, `,"text":`...), m.Text)
	b = appendTime(append(b, `,"at":`...), m.At)
	if m.Rev != 0 {
		b = appendChanges(b, &m)
	}
	if m.ReplyTo != 0 {
		b = strconv.AppendUint(append(b, `,"replyTo":`...), m.ReplyTo, 10)
	}
	if m.Data != "" {
		b = append(append(b, `,"data":`...), m.Data...)
	}
	if len(m.Reactions) > 0 {
		b = appendReactions(b, m.Reactions)
	}
	return append(b, '}')
}

func appendChanges(b []byte, m *chat.Message) []byte {
	if !m.EditedAt.IsZero() {
		b = appendTime(append(b, `,"editedAt":`...), m.EditedAt)
	}
	if !m.DeletedAt.IsZero() {
		b = appendTime(append(b, `,"deletedAt":`...), m.DeletedAt)
	}
	return b
}

func appendReactions(b []byte, all []chat.Reaction) []byte {
	b = append(b, `,"reactions":[`...)
	for i, r := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(append(b, `{"key":`...), r.Key)
		b = strconv.AppendInt(append(b, `,"count":`...), int64(r.Count), 10)
		b = append(b, `,"users":[`...)
		for j, id := range r.Users {
			if j > 0 {
				b = append(b, ',')
			}
			b = AppendString(b, string(id))
		}
		b = append(b, "]}"...)
	}
	return append(b, ']')
}

func appendUser(b []byte, u chat.Author) []byte {
	b = AppendString(append(b, `{"id":`...), string(u.ID))
	b = AppendString(append(b, `,"name":`...), u.Name)
	return append(b, '}')
}

// timeLayout is RFC 3339 in UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, timeLayout)
	return append(b, '"')
}

const hex = "0123456789abcdef"

// ParseData reads a JSON object that [AppendData] has written, and checks that it fits o.
func ParseData(b []byte, o *Object) (Data, error) {
	if !json.Valid(b) {
		return nil, errors.New("not JSON")
	}
	data, _ := o.typed(b).(Data)
	if data == nil {
		return nil, errors.New("not an object")
	}
	return data, o.Fits(data)
}

// typed gives the fields of an object in valid JSON the types of Data; what has no place in o, or another type,
// is as encoding/json reads it.
func (o *Object) typed(raw json.RawMessage) any {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return untyped(raw)
	}
	d := make(Data, len(fields))
	for name, raw := range fields {
		d[name] = o.field(name).typed(raw)
	}
	return d
}

func (f *Field) typed(raw json.RawMessage) any {
	if f != nil {
		switch f.Type {
		case Integer:
			if n, err := strconv.ParseUint(string(raw), 10, 64); err == nil {
				return n
			}
		case Time:
			s, _ := untyped(raw).(string)
			if at, err := time.Parse(timeLayout, s); err == nil {
				return at
			}
		case Ref:
			return f.Object.typed(raw)
		case ListOf:
			var list []json.RawMessage
			if json.Unmarshal(raw, &list) == nil && list != nil {
				all := make([]Data, len(list))
				for i := range list {
					all[i], _ = f.Object.typed(list[i]).(Data)
				}
				return all
			}
		case Texts:
			var list []string
			if json.Unmarshal(raw, &list) == nil && list != nil {
				return list
			}
		case Free:
			if raw[0] == '{' {
				return FreeObject(raw)
			}
		}
	}
	return untyped(raw)
}

func untyped(raw json.RawMessage) (v any) {
	_ = json.Unmarshal(raw, &v) // it is valid
	return v
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			start = i + 1
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
