// Package packed is a wire format that has nothing in common with JSON: binary frames of counted
// strings and numbers. It is for tests, which show with it that a hub speaks several formats, and an
// example of what it takes to write one. Nobody speaks it otherwise.
//
// A message of a client:
//
//	id       uvarint: 0 for none, else the number and 1
//	event    string
//	count    uvarint: of fields
//	fields  name string, value
//
// A message of the server:
//
//	kind     1 byte: a for an answer, e for an error, v for an event
//	id       uvarint, as above
//	event    string: of an error, its code
//	count    uvarint
//	fields  name string, value
//
// A value is a letter, and what belongs to it: s a string, i a uvarint, t and f nothing, n nothing (null),
// m a varint of microseconds, j a string of JSON: an application's object; o count and fields, l a count and as many of count and fields; w a count and strings. A string is
// a uvarint of bytes, and the bytes, in UTF-8.
package packed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

// Protocol is the subprotocol that names the format.
const Protocol = "packed.v1"

// New makes the format. It is a protocol.NewFormat.
func New(s *protocol.Schema) protocol.Format { return format{s} }

type format struct{ schema *protocol.Schema }

var _ protocol.NewFormat = New

// Decode reads one message.
func (f format) Decode(payload []byte, binary bool) (protocol.Command, error) {
	if !binary {
		return protocol.Command{}, protocol.ErrBadEvent.Detail("text messages are not part of the format")
	}
	r := reader{b: payload}
	id, event, count := r.number(), r.text(), r.number()
	if r.err != nil {
		return protocol.Command{}, protocol.ErrBadEvent.Detail("%v", r.err)
	}
	k, err := f.schema.Check(event)
	if err != nil {
		return protocol.Command{}, err
	}
	for range count {
		if err := field(k, &r); err != nil {
			return protocol.Command{}, err
		}
	}
	if len(r.b) > 0 {
		return protocol.Command{}, protocol.ErrBadEvent.Detail("something follows the last field")
	}
	c, err := k.Command()
	if id > 0 {
		c.ID, c.HasID = id-1, true
	}
	return c, err
}

func field(k *protocol.Check, r *reader) error {
	name, letter := r.text(), r.letter()
	if r.err != nil {
		return protocol.ErrBadEvent.Detail("%v", r.err)
	}
	field, err := k.Field(name)
	if err != nil {
		return err
	}
	switch letter {
	case 's':
		s := r.text()
		if r.err == nil {
			return k.Text(field, s)
		}
	case 'i':
		n := r.number()
		if r.err == nil {
			return k.Integer(field, n)
		}
	case 't', 'f':
		return k.Boolean(field, letter == 't')
	case 'j':
		s := r.text()
		if r.err == nil {
			return k.Free(field, s)
		}
	default:
		return protocol.ErrBadEvent.Detail("there is no value %q", letter)
	}
	return protocol.ErrBadEvent.Detail("%v", r.err)
}

// Answer sends one frame to a client that has given an ID.
func (format) Answer(to protocol.Sink, c protocol.Command, a protocol.Answer) {
	if c.HasID {
		to.Send(frame('a', c.ID+1, c.Event, c.Schema().Ack, c.Values(a)))
	}
}

// Error makes one frame for a client that has given an ID.
func (format) Error(c protocol.Command, p fault.Problem) *socket.Frame {
	if !c.HasID {
		return nil
	}
	return frame('e', c.ID+1, p.Code, problem, protocol.Data{"title": p.Title, "detail": p.Detail})
}

var problem = &protocol.Object{Fields: []protocol.Field{{Name: "title", Type: protocol.String}, {Name: "detail", Type: protocol.String}}}

// Event makes one frame.
func (format) Event(e protocol.Outgoing) *socket.Frame {
	return frame('v', 0, e.Schema.Name, e.Schema.Data, e.Values())
}

func frame(kind byte, id uint64, event string, o *protocol.Object, d protocol.Data) *socket.Frame {
	return socket.NewBinaryFrame(func(b []byte) []byte {
		b = binary.AppendUvarint(append(b, kind), id)
		return appendObject(appendText(b, event), o, d)
	})
}

func appendText(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendObject(b []byte, o *protocol.Object, d protocol.Data) []byte {
	b = binary.AppendUvarint(b, uint64(len(d)))
	for _, f := range o.Fields {
		v, given := d[f.Name]
		if !given {
			continue
		}
		b = appendText(b, f.Name)
		switch v := v.(type) {
		case string:
			b = appendText(append(b, 's'), v)
		case uint64, int:
			b = binary.AppendUvarint(append(b, 'i'), d.Integer(f.Name))
		case bool:
			if v {
				b = append(b, 't')
			} else {
				b = append(b, 'f')
			}
		case time.Time:
			b = binary.AppendVarint(append(b, 'm'), v.UnixMicro())
		case protocol.FreeObject:
			b = appendText(append(b, 'j'), string(v))
		case protocol.Data:
			b = appendObject(append(b, 'o'), f.Object, v)
		case []string:
			b = binary.AppendUvarint(append(b, 'w'), uint64(len(v)))
			for _, s := range v {
				b = appendText(b, s)
			}
		case []protocol.Data:
			b = binary.AppendUvarint(append(b, 'l'), uint64(len(v)))
			for _, d := range v {
				b = appendObject(b, f.Object, d)
			}
		default:
			b = append(b, 'n')
		}
	}
	return b
}

// Field is a field of what a client sends.
type Field struct {
	Name string
	// Value is a string, a uint64, a bool, a protocol.FreeObject or nil.
	Value any
}

// Said writes a message of a client. It has an ID unless id is nil.
func Said(id *uint64, event string, fields ...Field) []byte {
	var b []byte
	if id == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(b, *id+1)
	}
	raw := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) } // also what is no UTF-8
	raw(event)
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, m := range fields {
		raw(m.Name)
		switch v := m.Value.(type) {
		case string:
			b = append(b, 's')
			raw(v)
		case uint64:
			b = binary.AppendUvarint(append(b, 'i'), v)
		case protocol.FreeObject:
			b = append(b, 'j')
			raw(string(v))
		case bool:
			if v {
				b = append(b, 't')
			} else {
				b = append(b, 'f')
			}
		default:
			b = append(b, 'n')
		}
	}
	return b
}

// Heard is a message of the server.
type Heard struct {
	// Kind is a for an answer, e for an error, v for an event.
	Kind  byte
	ID    uint64
	HasID bool
	// Event is the event's name, or the code of an error.
	Event string
	Data  protocol.Data
}

// Read reads a message of the server.
func Read(payload []byte) (Heard, error) {
	r := reader{b: payload}
	h := Heard{Kind: r.letter()}
	if id := r.number(); id > 0 {
		h.ID, h.HasID = id-1, true
	}
	h.Event = r.text()
	h.Data = r.object()
	if r.err == nil && len(r.b) > 0 {
		r.err = errors.New("something follows the last field")
	}
	return h, r.err
}

// reader takes values from the front of b. After the first error it returns zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail("a number is cut short")
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) letter() byte {
	if len(r.b) == 0 {
		r.fail("a letter is missing")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.fail("a string is cut short")
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	if !utf8.ValidString(s) {
		r.fail("a string is not UTF-8")
	}
	return s
}

func (r *reader) object() protocol.Data {
	d := protocol.Data{}
	for n := r.number(); n > 0 && r.err == nil; n-- {
		name := r.text()
		if _, twice := d[name]; twice {
			r.fail("%s stands twice", name)
		}
		switch c := r.letter(); c {
		case 's':
			d[name] = r.text()
		case 'i':
			d[name] = r.number()
		case 'j':
			d[name] = protocol.FreeObject(r.text())
		case 't', 'f':
			d[name] = c == 't'
		case 'n':
			d[name] = nil
		case 'm':
			n, size := binary.Varint(r.b)
			if size <= 0 {
				r.fail("a time is cut short")
				break
			}
			r.b = r.b[size:]
			d[name] = time.UnixMicro(n).UTC()
		case 'o':
			d[name] = r.object()
		case 'w':
			list := []string{}
			for n := r.number(); n > 0 && r.err == nil; n-- {
				list = append(list, r.text())
			}
			d[name] = list
		case 'l':
			list := []protocol.Data{}
			for n := r.number(); n > 0 && r.err == nil; n-- {
				list = append(list, r.object())
			}
			d[name] = list
		default:
			r.fail("there is no value %q", c)
		}
	}
	return d
}
