package contract_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/packed"
)

func openJSON() contract.Wire {
	return contract.Wire{New: protocol.JSON, Say: sayJSON, Hear: hearJSON}
}

func sayJSON(m contract.Said) ([]byte, bool) {
	b := []byte{'{'}
	if m.HasID {
		b = append(strconv.AppendUint(append(b, `"id":`...), m.ID, 10), ',')
	}
	b = append(appendRaw(append(b, `"event":`...), m.Event), `,"data":{`...)
	for i, field := range m.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendRaw(b, field.Name), ':')
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
	return append(b, "}}"...), false
}

// appendRaw appends a JSON string and leaves bytes that are not UTF-8 as they are.
func appendRaw(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func hearJSON(f *socket.Frame, o *protocol.Object) (h contract.Heard, err error) {
	var v struct {
		ID    *uint64
		Event string
		Data  json.RawMessage
		Error struct{ Code string }
	}
	if err := json.Unmarshal(f.Payload(), &v); err != nil {
		return h, err
	}
	if v.ID != nil {
		h.ID, h.HasID = *v.ID, true
	}
	switch v.Event {
	case "ack":
		h.Kind = contract.HeardAnswer
	case "error":
		h.Kind, h.Code = contract.HeardError, v.Error.Code
		return h, nil
	default:
		h.Kind, h.Event = contract.HeardEvent, v.Event
	}
	h.Data, err = protocol.ParseData(v.Data, o)
	return h, err
}

func openPacked() contract.Wire {
	return contract.Wire{
		New: packed.New,
		Say: func(m contract.Said) ([]byte, bool) {
			var id *uint64
			if m.HasID {
				id = &m.ID
			}
			fields := make([]packed.Field, len(m.Fields))
			for i, field := range m.Fields {
				fields[i] = packed.Field(field)
			}
			return packed.Said(id, m.Event, fields...), true
		},
		Hear: func(f *socket.Frame, o *protocol.Object) (h contract.Heard, err error) {
			heard, err := packed.Read(f.Payload())
			if err != nil || !f.Binary() {
				return h, errors.Join(err, errNotBinary(f))
			}
			h.ID, h.HasID, h.Data = heard.ID, heard.HasID, heard.Data
			switch heard.Kind {
			case 'a':
				h.Kind = contract.HeardAnswer
			case 'e':
				h.Kind, h.Code = contract.HeardError, heard.Event
			case 'v':
				h.Kind, h.Event = contract.HeardEvent, heard.Event
			}
			return h, nil
		},
	}
}

func errNotBinary(f *socket.Frame) error {
	if f.Binary() {
		return nil
	}
	return errors.New("the frame is not binary")
}

func TestJSONKeepsEveryPromise(t *testing.T) {
	contract.On(t, "protocol", "JSON")
	contract.Run(t, contract.Format(), func(*testing.T) contract.Wire { return openJSON() })
}

// TestASecondFormatKeepsEveryPromise runs the suite on a format that is deliberately different.
func TestASecondFormatKeepsEveryPromise(t *testing.T) {
	contract.On(t, "protocol", "packed, of the tests")
	contract.Run(t, contract.Format(), func(*testing.T) contract.Wire { return openPacked() })
}

// format is a format of which some is done otherwise.
type format struct {
	protocol.Format
	decode func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error)
	answer func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer)
	fail   func(under protocol.Format, c protocol.Command, p fault.Problem) *socket.Frame
	event  func(under protocol.Format, e protocol.Outgoing) *socket.Frame
}

func (f format) Decode(payload []byte, binary bool) (protocol.Command, error) {
	if f.decode != nil {
		return f.decode(f.Format, payload, binary)
	}
	return f.Format.Decode(payload, binary)
}

func (f format) Answer(to protocol.Sink, c protocol.Command, a protocol.Answer) {
	if f.answer != nil {
		f.answer(f.Format, to, c, a)
		return
	}
	f.Format.Answer(to, c, a)
}

func (f format) Error(c protocol.Command, p fault.Problem) *socket.Frame {
	if f.fail != nil {
		return f.fail(f.Format, c, p)
	}
	return f.Format.Error(c, p)
}

func (f format) Event(e protocol.Outgoing) *socket.Frame {
	if f.event != nil {
		return f.event(f.Format, e)
	}
	return f.Format.Event(e)
}

func formatFaults() []broken[contract.Wire] {
	with := func(f format) func(contract.Wire) contract.Wire {
		return func(w contract.Wire) contract.Wire {
			under := w.New
			w.New = func(s *protocol.Schema) protocol.Format {
				f := f
				f.Format = under(s)
				return f
			}
			return w
		}
	}
	decodes := func(f func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error)) func(contract.Wire) contract.Wire {
		return with(format{decode: f})
	}
	// then changes what was decoded well.
	then := func(change func(c *protocol.Command, payload []byte)) func(contract.Wire) contract.Wire {
		return decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			c, err := under.Decode(payload, binary)
			if err == nil {
				change(&c, payload)
			}
			return c, err
		})
	}
	some := func() protocol.Command {
		k, err := protocol.Own().Check(protocol.EventHealthCheck)
		if err != nil {
			panic(err)
		}
		c, _ := k.Command()
		return c
	}
	// takes lets pass what is refused with a detail that has one of these words.
	takes := func(words ...string) func(contract.Wire) contract.Wire {
		return decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			c, err := under.Decode(payload, binary)
			for _, word := range words {
				if err != nil && strings.Contains(fault.Public(err).Detail, word) {
					return some(), nil
				}
			}
			return c, err
		})
	}
	// part is the first place of s in payload, as a string that shares its bytes.
	part := func(payload []byte, s string) string {
		i := bytes.Index(payload, []byte(s))
		if i < 0 || s == "" {
			return s
		}
		return unsafe.String(&payload[i], len(s))
	}
	var mu sync.Mutex
	var last protocol.Command
	return []broken[contract.Wire]{
		{"the id 0 is none", "what is said is read", then(func(c *protocol.Command, _ []byte) { c.HasID = c.HasID && c.ID != 0 })},
		{"an id where there is none", "what is said is read", then(func(c *protocol.Command, _ []byte) { c.HasID = true })},
		{"a sequence is lost", "what is said is read", then(func(c *protocol.Command, _ []byte) { c.After = nil })},
		{"what an application's client says is lost", "what is said is read", then(func(c *protocol.Command, _ []byte) { c.Data = nil })},
		{"text is trimmed", "what is said is read", then(func(c *protocol.Command, _ []byte) { c.Text = strings.TrimRight(c.Text, "𝕏") })},
		{"who types has stopped", "defaults", then(func(c *protocol.Command, _ []byte) { c.Typing = false })},
		{"what was said before is there still", "defaults", then(func(c *protocol.Command, _ []byte) {
			mu.Lock()
			defer mu.Unlock()
			if c.Since == nil {
				c.Since = last.Since
			}
			last = *c
		})},
		{"unknown events pass", "unknown events", takes("unknown event")},
		{"the schema is Parley's own, whatever it is given", "what is said is read", func(w contract.Wire) contract.Wire {
			under := w.New
			w.New = func(*protocol.Schema) protocol.Format { return under(protocol.Own()) }
			return w
		}},
		{"unknown fields are ignored", "unknown and doubled fields", takes("unknown field")},
		{"the last of two fields counts", "unknown and doubled fields", takes("stands twice")},
		{"nothing is required", "missing fields", takes("is missing")},
		{"strings have any length", "types and bounds", takes("characters")},
		{"integers have any size", "types and bounds", takes("out of range")},
		{"integers of more than 53 bits", "types and bounds", takes("not an integer")},
		{"no further check", "types and bounds", takes("no piece begins")},
		{"a string for a boolean", "types and bounds", takes("true or false")},
		{"null for a string", "types and bounds", takes("not a string")},
		{"any bytes are text", "text that is not UTF-8 is refused", decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			return under.Decode(bytes.ToValidUTF8(payload, []byte("?")), binary)
		})},
		{"what follows is ignored", "whole messages", decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			return under.Decode(bytes.TrimSuffix(payload, []byte("x")), binary)
		})},
		{"what is missing is added", "whole messages", decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			c, err := under.Decode(payload, binary)
			if err != nil {
				return under.Decode(append(bytes.Clone(payload), '}'), binary)
			}
			return c, err
		})},
		{"text and binary are one", "whole messages", decodes(func(under protocol.Format, payload []byte, _ bool) (protocol.Command, error) {
			return under.Decode(payload, false)
		})},
		{"the payload is written to", "the payload is left alone", then(func(_ *protocol.Command, payload []byte) { payload[0] = ' ' })},
		{"the room is a part of the payload", "the payload is left alone", then(func(c *protocol.Command, payload []byte) { c.Room = part(payload, c.Room) })},
		{"the event is a part of the payload", "the payload is left alone", then(func(c *protocol.Command, payload []byte) { c.Event = part(payload, c.Event) })},
		{"what is no JSON is an internal error", "any bytes", decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			if c, err := under.Decode(payload, binary); json.Valid(payload) {
				return c, err
			}
			return protocol.Command{}, errOops
		})},
		{"what is no JSON is a command", "any bytes", decodes(func(under protocol.Format, payload []byte, binary bool) (protocol.Command, error) {
			if c, err := under.Decode(payload, binary); json.Valid(payload) {
				return c, err
			}
			return protocol.Command{Event: "message"}, nil
		})},
		{"answers have another id", "answers", with(format{answer: func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer) {
			c.ID++
			under.Answer(to, c, a)
		}})},
		{"nothing is answered", "answers", with(format{answer: func(protocol.Format, protocol.Sink, protocol.Command, protocol.Answer) {}})},
		{"two answers", "answers", with(format{answer: func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer) {
			under.Answer(to, c, a)
			under.Answer(to, c, a)
		}})},
		{"messages are lost", "answers", with(format{answer: func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer) {
			a.Messages = a.Messages[:1]
			under.Answer(to, c, a)
		}})},
		{"an application's answer is lost", "answers", with(format{answer: func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer) {
			delete(a.Data, "part")
			under.Answer(to, c, a)
		}})},
		{"everything is answered", "no answer without an id", with(format{answer: func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer) {
			c.HasID = true
			under.Answer(to, c, a)
		}})},
		{"errors have no code", "errors", with(format{fail: func(under protocol.Format, c protocol.Command, p fault.Problem) *socket.Frame {
			p.Code = ""
			return under.Error(c, p)
		}})},
		{"errors are not told", "errors", with(format{fail: func(protocol.Format, protocol.Command, fault.Problem) *socket.Frame { return nil }})},
		{"every error is told", "no error without an id", with(format{fail: func(under protocol.Format, c protocol.Command, p fault.Problem) *socket.Frame {
			c.HasID = true
			return under.Error(c, p)
		}})},
		{"who comes and goes is not told", "events", with(format{event: func(under protocol.Format, e protocol.Outgoing) *socket.Frame {
			if e.Schema.Name == protocol.EventJoined {
				return nil
			}
			return under.Event(e)
		}})},
		{"the sender's id for a message is lost", "events", with(format{event: func(under protocol.Format, e protocol.Outgoing) *socket.Frame {
			e.Message.ClientID = ""
			return under.Event(e)
		}})},
		{"a message's data is lost", "events", with(format{event: func(under protocol.Format, e protocol.Outgoing) *socket.Frame {
			e.Message.Data = ""
			return under.Event(e)
		}})},
		{"what messages answer is lost", "answers", with(format{answer: func(under protocol.Format, to protocol.Sink, c protocol.Command, a protocol.Answer) {
			a.Messages = slices.Clone(a.Messages)
			for i := range a.Messages {
				a.Messages[i].ReplyTo = 0
			}
			under.Answer(to, c, a)
		}})},
		{"data is left as it came", "types and bounds", then(func(c *protocol.Command, payload []byte) {
			if at := bytes.Index(payload, []byte(" { \"a\"")); at >= 0 && c.Attached != "" {
				c.Attached = string(payload[at : bytes.LastIndex(payload, []byte("] } "))+4])
			}
		})},
		{"what a message answers is not read", "what is said is read", then(func(c *protocol.Command, _ []byte) { c.ReplyTo = 0 })},
		{"an application's event is empty", "events", with(format{event: func(under protocol.Format, e protocol.Outgoing) *socket.Frame {
			if protocol.Own().ServerEvent(e.Schema.Name) == nil {
				e.Data = protocol.Data{}
			}
			return under.Event(e)
		}})},
		{"text is sent as it is", "text that is not UTF-8 is mended", with(format{event: func(under protocol.Format, e protocol.Outgoing) *socket.Frame {
			f := under.Event(e)
			return socket.NewFrame(func(b []byte) []byte {
				return append(b, bytes.ReplaceAll(f.Payload(), []byte("\ufffd"), []byte{0xff})...)
			})
		}})},
		{"one command for all", "many goroutines", then(func(c *protocol.Command, _ []byte) {
			mu.Lock()
			last = *c
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			*c = last
			mu.Unlock()
		})},
	}
}
