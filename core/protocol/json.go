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
	"github.com/parley-chat/parley/core/socket"
)

// JSON is the wire format of the subprotocol parley.v1: one JSON object a text frame,
//
//	{"id": 7, "event": "message", "data": {…}}
type JSON struct{}

var _ Format = JSON{}

// Decode reads and checks one message.
func (JSON) Decode(payload []byte) (Command, error) {
	var c Command
	if !json.Valid(payload) || !utf8.Valid(payload) {
		return c, ErrBadEvent.Detail("it is not JSON")
	}
	var data []byte
	var seen [3]bool
	err := members(payload, func(name, value []byte) error {
		var i int
		switch string(name) {
		case "id":
			i = 0
			n, err := integer(value)
			if err != nil {
				return ErrBadEvent.Detail("id is %v", err)
			}
			c.ID, c.HasID = n, true
		case "event":
			i = 1
			s, err := text(value)
			if err != nil {
				return ErrBadEvent.Detail("event is %v", err)
			}
			c.Event = s
		case "data":
			i = 2
			data = value
		default:
			return ErrBadEvent.Detail("unknown member %s", quote(name))
		}
		if seen[i] {
			return ErrBadEvent.Detail("%s stands twice", name)
		}
		seen[i] = true
		return nil
	})
	if err != nil {
		return c, err
	}
	for i := range clientEvents {
		if e := &clientEvents[i]; e.Name == c.Event {
			c.Event = e.Name // the constant, not the copy
			return c, c.decode(e.Data, data)
		}
	}
	return c, ErrBadEvent.Detail("unknown event %s", quote([]byte(c.Event)))
}

// decode checks data against its schema and sets the command's fields.
func (c *Command) decode(o *Object, data []byte) error {
	var seen uint64
	if data == nil {
		data = []byte("{}")
	}
	err := members(data, func(name, value []byte) error {
		for i := range o.Fields {
			f := &o.Fields[i]
			if f.Name != string(name) {
				continue
			}
			if seen&(1<<i) != 0 {
				return ErrBadEvent.Detail("data.%s stands twice", f.Name)
			}
			seen |= 1 << i
			if err := c.set(f, value); err != nil {
				return ErrBadEvent.Detail("data.%s: %v", f.Name, err)
			}
			return nil
		}
		return ErrBadEvent.Detail("unknown member data.%s", quote(name))
	})
	if err != nil {
		return err
	}
	for i, f := range o.Fields {
		if f.Required && seen&(1<<i) == 0 {
			return ErrBadEvent.Detail("data.%s is missing", f.Name)
		}
	}
	if c.Event == EventTyping && !hasField(o, seen, "typing") {
		c.Typing = true
	}
	return nil
}

func hasField(o *Object, seen uint64, name string) bool {
	for i, f := range o.Fields {
		if f.Name == name {
			return seen&(1<<i) != 0
		}
	}
	return false
}

func (c *Command) set(f *Field, value []byte) error {
	switch f.Type {
	case String:
		s, err := text(value)
		if err != nil {
			return err
		}
		if n := utf8.RuneCountInString(s); n < f.MinLength || n > f.MaxLength {
			return fmt.Errorf("must have %d to %d characters", f.MinLength, f.MaxLength)
		}
		if f.check != nil {
			if err := f.check(s); err != nil {
				return errors.New(fault.Public(err).Detail)
			}
		}
		switch f.Name {
		case "room":
			c.Room = s
		case "text":
			c.Text = s
		case "clientId":
			c.ClientID = s
		case "token":
			c.Token = s
		}
	case Integer:
		n, err := integer(value)
		if err != nil {
			return err
		}
		if n < f.Minimum || (f.Maximum > 0 && n > f.Maximum) {
			return errors.New("out of range")
		}
		switch f.Name {
		case "since":
			c.Since = &n
		case "before":
			c.Before = &n
		case "after":
			c.After = &n
		case "limit":
			c.Limit = n
		}
	case Boolean:
		switch string(value) {
		case "true":
			c.Typing = true
		case "false":
			c.Typing = false
		default:
			return errors.New("must be true or false")
		}
	}
	return nil
}

// members calls f for each member of the object in valid JSON; name is without quotes and
// escapes, value is the raw JSON.
func members(object []byte, f func(name, value []byte) error) error {
	b := bytes.TrimSpace(object)
	if len(b) == 0 || b[0] != '{' {
		return ErrBadEvent.Detail("an object is expected")
	}
	b = space(b[1:])
	for b[0] != '}' {
		end := scanString(b)
		name := b[1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			s, err := text(b[:end])
			if err != nil {
				return ErrBadEvent.Detail("%v", err)
			}
			name = []byte(s)
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
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
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

// text reads a JSON string. An escaped surrogate without its partner is refused: it is no text.
func text(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errors.New("not a string")
	}
	raw := value[1 : len(value)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw), nil
	}
	if loneSurrogate(raw) {
		return "", errors.New("not valid UTF-16 in an escape")
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", errors.New("not a string")
	}
	return s, nil
}

func loneSurrogate(raw []byte) bool {
	high := false // the escape just before was a high surrogate
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		i++
		if raw[i] != 'u' {
			if high {
				return true
			}
			continue
		}
		n, _ := strconv.ParseUint(string(raw[i+1:i+5]), 16, 16) // valid JSON has four hex digits here
		i += 4
		switch {
		case n >= 0xD800 && n < 0xDC00:
			if high {
				return true
			}
			high = true
		case n >= 0xDC00 && n < 0xE000:
			if !high {
				return true
			}
			high = false
		case high:
			return true
		}
	}
	return high
}

// integer reads a JSON number without sign, fraction and exponent, up to MaxInteger.
func integer(value []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil || n > MaxInteger {
		return 0, fmt.Errorf("not an integer from 0 to %d", uint64(MaxInteger))
	}
	return n, nil
}

// quote shows a foreign name in an explanation, cut short.
func quote(name []byte) string {
	const most = 40
	if len(name) > most {
		return strconv.QuoteToASCII(string(name[:most])) + "…"
	}
	return strconv.QuoteToASCII(string(name))
}

// Ack makes the answer to a command.
func (JSON) Ack(c Command, a Answer) *socket.Frame {
	return socket.NewFrame(func(b []byte) []byte {
		b = appendHead(b, c, EventAck)
		b = append(b, `,"data":{`...)
		switch c.Event {
		case EventJoinRoom:
			b = appendString(append(b, `"room":`...), a.Room)
			b = strconv.AppendUint(append(b, `,"seq":`...), a.Seq, 10)
			b = strconv.AppendBool(append(b, `,"recovered":`...), a.Recovered)
			b = appendMessages(append(b, ','), a.Messages)
		case EventMessage:
			b = appendString(append(b, `"room":`...), a.Stored.Room)
			b = strconv.AppendUint(append(b, `,"seq":`...), a.Stored.Seq, 10)
			b = appendString(append(b, `,"id":`...), a.Stored.ID)
			b = appendTime(append(b, `,"at":`...), a.Stored.At)
		case EventHistory:
			b = appendMessages(b, a.Messages)
			b = strconv.AppendBool(append(b, `,"more":`...), a.More)
		case EventPresence:
			b = append(b, `"members":[`...)
			for i, m := range a.Members {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendUser(b, m)
			}
			b = strconv.AppendInt(append(b, `],"count":`...), int64(a.Count), 10)
		case EventRenew:
			b = strconv.AppendInt(append(b, `"expiresIn":`...), int64(a.ExpiresIn/time.Second), 10)
		case EventHealthCheck:
			b = append(b, `"message":"OK"`...)
		}
		return append(b, "}}"...)
	})
}

// Error makes the answer to a command that failed.
func (JSON) Error(c Command, p fault.Problem) *socket.Frame {
	return socket.NewFrame(func(b []byte) []byte {
		b = appendHead(b, c, EventError)
		b = appendString(append(b, `,"error":{"code":`...), p.Code)
		b = appendString(append(b, `,"title":`...), p.Title)
		if p.Detail != "" {
			b = appendString(append(b, `,"detail":`...), p.Detail)
		}
		if p.RetryAfter > 0 {
			b = strconv.AppendInt(append(b, `,"retryAfter":`...), int64(math.Ceil(p.RetryAfter.Seconds())), 10)
		}
		return append(b, "}}"...)
	})
}

// Event makes an event of the server.
func (JSON) Event(e Outgoing) *socket.Frame {
	return socket.NewFrame(func(b []byte) []byte {
		b = append(b, `{"event":"`...)
		b = append(b, e.Event...)
		b = append(b, `","data":`...)
		switch e.Event {
		case EventMessage:
			b = appendMessage(b, e.Message)
		default:
			b = appendString(append(b, `{"room":`...), e.Room)
			if e.Event != EventResync {
				b = appendUser(append(b, `,"user":`...), e.User)
			}
			switch e.Event {
			case EventTyping:
				b = strconv.AppendBool(append(b, `,"typing":`...), e.Typing)
			case EventMembership:
				b = append(b, `,"role":null`...)
			}
			b = append(b, '}')
		}
		return append(b, '}')
	})
}

func appendHead(b []byte, c Command, event string) []byte {
	b = strconv.AppendUint(append(b, `{"id":`...), c.ID, 10)
	b = append(b, `,"event":"`...)
	return append(append(b, event...), '"')
}

func appendMessages(b []byte, messages []chat.Message) []byte {
	b = append(b, `"messages":[`...)
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMessage(b, m)
	}
	return append(b, ']')
}

func appendMessage(b []byte, m chat.Message) []byte {
	b = appendString(append(b, `{"room":`...), m.Room)
	b = strconv.AppendUint(append(b, `,"seq":`...), m.Seq, 10)
	b = appendString(append(b, `,"id":`...), m.ID)
	if m.ClientID != "" {
		b = appendString(append(b, `,"clientId":`...), m.ClientID)
	}
	b = appendUser(append(b, `,"user":`...), m.Author)
	b = appendString(append(b, `,"text":`...), m.Text)
	b = appendTime(append(b, `,"at":`...), m.At)
	return append(b, '}')
}

func appendUser(b []byte, u chat.Author) []byte {
	b = appendString(append(b, `{"id":`...), string(u.ID))
	b = appendString(append(b, `,"name":`...), u.Name)
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

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
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
