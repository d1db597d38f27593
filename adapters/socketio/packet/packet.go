// Package packet reads and writes packets of the Socket.IO protocol, revision 5, which the 4.x clients
// speak. It knows nothing of connections: one Engine.IO message is one packet, and a packet with
// attachments is followed by one binary message for each.
//
// Parse is strict. What a 4.x client never sends is refused, and everything that a peer chooses is
// bounded by [Limits].
package packet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is the type of a packet: its first character.
type Type uint8

// The types of packets.
const (
	Connect      Type = iota // to a namespace; the server answers with the same type
	Disconnect               // from a namespace
	Event                    // a name and arguments, perhaps with an id for the answer
	Ack                      // the answer to an event
	ConnectError             // a connection to a namespace was refused; only the server sends it
	BinaryEvent              // an Event with attachments
	BinaryAck                // an Ack with attachments
)

// MaxID is the largest id: the largest integer that a JavaScript client keeps exactly.
const MaxID = 1<<53 - 1

// Main is the namespace that packets without one belong to.
const Main = "/"

// ErrBad is wrapped by every error of Parse.
var ErrBad = errors.New("not a packet of Socket.IO")

// Packet is one packet without its attachments.
type Packet struct {
	Type Type
	// Namespace begins with a slash. It has no query.
	Namespace string
	// Query is what stood behind a question mark in the namespace: clients of older protocols put it there.
	Query string
	// ID asks for an answer, or names the question, if HasID.
	ID    uint64
	HasID bool
	// Data is JSON: an array in events and acks, an object in Connect if there is one, nil in Disconnect.
	// After Parse it is a part of the payload.
	Data []byte
	// Attachments is how many binary messages follow.
	Attachments int
}

// Limits bounds what Parse accepts. A zero field means its default.
type Limits struct {
	// Attachments is the most attachments of a packet. Default 10.
	Attachments int
	// Namespace is the longest namespace with its query, in bytes. Default 256.
	Namespace int
	// Name is the longest name of an event, in bytes of JSON between the quotes. Default 512.
	Name int
	// Arguments is the most arguments of an event or ack. Default 64.
	Arguments int
	// Depth is how deep arrays and objects may be nested, the outermost included. Default 64.
	Depth int
}

// WithDefaults returns l with its zero fields filled.
func (l Limits) WithDefaults() Limits {
	for _, f := range []struct {
		v   *int
		def int
	}{{&l.Attachments, 10}, {&l.Namespace, 256}, {&l.Name, 512}, {&l.Arguments, 64}, {&l.Depth, 64}} {
		if *f.v == 0 {
			*f.v = f.def
		}
	}
	return l
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// Parse reads one packet. It keeps payload in Packet.Data. Errors wrap [ErrBad].
func (l Limits) Parse(payload []byte) (Packet, error) {
	l = l.WithDefaults()
	var p Packet
	if len(payload) == 0 {
		return p, bad("it is empty")
	}
	if !utf8.Valid(payload) {
		return p, bad("it is not UTF-8")
	}
	if payload[0] < '0' || payload[0] > '6' {
		return p, bad("unknown type")
	}
	p.Type = Type(payload[0] - '0')
	rest := payload[1:]
	var err error
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		n := digits(rest)
		if n == 0 || n == len(rest) || rest[n] != '-' {
			return p, bad("the number of attachments is missing")
		}
		count, err := number(rest[:n], uint64(l.Attachments))
		if err != nil {
			return p, bad("attachments: %v", err)
		}
		if count == 0 {
			return p, bad("a packet without attachments is not binary")
		}
		p.Attachments, rest = int(count), rest[n+1:]
	}
	p.Namespace = Main
	if len(rest) > 0 && rest[0] == '/' {
		end := bytes.IndexByte(rest, ',')
		name, after := rest, rest[len(rest):]
		if end >= 0 {
			name, after = rest[:end], rest[end+1:]
		}
		if len(name) > l.Namespace {
			return p, bad("the namespace is longer than %d bytes", l.Namespace)
		}
		if len(name) > 1 {
			p.Namespace, p.Query, _ = strings.Cut(string(name), "?")
		}
		rest = after
	}
	if n := digits(rest); n > 0 {
		if p.ID, err = number(rest[:n], MaxID); err != nil {
			return p, bad("id: %v", err)
		}
		p.HasID, rest = true, rest[n:]
	}
	if len(rest) > 0 {
		p.Data = rest
	}
	return p, l.check(&p)
}

// check holds what is read against what its type may have.
func (l Limits) check(p *Packet) error {
	if p.Data != nil {
		if !json.Valid(p.Data) {
			return bad("the data is not JSON")
		}
		if p.Data[0] != '[' && p.Data[0] != '{' {
			return bad("the data is neither an array nor an object")
		}
		if depth(p.Data) > l.Depth {
			return bad("the data is nested deeper than %d", l.Depth)
		}
	}
	switch p.Type {
	case Connect:
		if p.HasID || p.Data != nil && p.Data[0] != '{' {
			return bad("a connect holds an object or nothing")
		}
		return nil
	case Disconnect:
		if p.HasID || p.Data != nil {
			return bad("a disconnect holds nothing")
		}
		return nil
	case ConnectError:
		if p.HasID || p.Data == nil || p.Data[0] != '{' {
			return bad("a connect error holds an object")
		}
		return nil
	case Ack, BinaryAck:
		if !p.HasID {
			return bad("an ack has no id")
		}
	}
	if p.Data == nil || p.Data[0] != '[' {
		return bad("an array is expected")
	}
	args := Elements(p.Data)
	most := l.Arguments
	if p.Type == Event || p.Type == BinaryEvent {
		if len(args) == 0 || args[0][0] != '"' {
			return bad("the name of the event is missing")
		}
		if len(args[0])-2 > l.Name {
			return bad("the name of the event is longer than %d bytes", l.Name)
		}
		if name := Name(args[0]); Reserved(name) {
			return bad("the name %q is reserved", name)
		}
		most++
	}
	if len(args) > most {
		return bad("more than %d arguments", l.Arguments)
	}
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		return placeholders(p.Data, p.Attachments)
	}
	return nil
}

// digits is how many digits b begins with.
func digits(b []byte) int {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}

func number(b []byte, most uint64) (uint64, error) {
	if len(b) > 1 && b[0] == '0' {
		return 0, errors.New("a number does not begin with 0")
	}
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("more than %d", most)
	}
	return n, nil
}

// depth is how deep valid JSON is nested.
func depth(b []byte) int {
	deep, deepest := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '[', '{':
			deep++
			deepest = max(deepest, deep)
		case ']', '}':
			deep--
		}
	}
	return deepest
}

// skipString returns where the string ends that begins at i in valid JSON.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// Elements returns the elements of the array in valid JSON, without the space around them. They are parts
// of data.
func Elements(data []byte) []json.RawMessage {
	var all []json.RawMessage
	start, deep := 1, 0
	add := func(end int) {
		if e := bytes.Trim(data[start:end], " \t\r\n"); len(e) > 0 {
			all = append(all, json.RawMessage(e))
		}
		start = end + 1
	}
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = skipString(data, i) - 1
		case '[', '{':
			deep++
		case ']', '}':
			if deep == 0 {
				add(i)
				return all
			}
			deep--
		case ',':
			if deep == 0 {
				add(i)
			}
		}
	}
	return all
}

// Name reads the JSON string that names an event.
func Name(element json.RawMessage) string {
	if bytes.IndexByte(element, '\\') < 0 {
		return string(element[1 : len(element)-1])
	}
	var s string
	_ = json.Unmarshal(element, &s) // it is a valid string
	return s
}

var reserved = []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}

// Reserved reports whether clients keep the name for what they tell of themselves: no event can have it.
func Reserved(name string) bool { return slices.Contains(reserved, name) }

// placeholders checks that each object that stands for an attachment names one that there is.
func placeholders(data []byte, attachments int) error {
	var v any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return bad("the data is not JSON")
	}
	var walk func(v any) error
	walk = func(v any) error {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				if err := walk(e); err != nil {
					return err
				}
			}
		case map[string]any:
			if v["_placeholder"] == true {
				n, ok := v["num"].(json.Number)
				if !ok {
					return bad("a placeholder without a number")
				}
				if i, err := strconv.Atoi(n.String()); err != nil || i < 0 || i >= attachments {
					return bad("a placeholder for an attachment that is not there")
				}
				return nil
			}
			for _, e := range v {
				if err := walk(e); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk(v)
}

// Placeholder returns which attachment the JSON value stands for, if it stands for one.
func Placeholder(value json.RawMessage) (num int, ok bool) {
	if len(value) == 0 || value[0] != '{' || !bytes.Contains(value, []byte("_placeholder")) && !bytes.ContainsRune(value, '\\') {
		return 0, false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil || string(fields["_placeholder"]) != "true" {
		return 0, false
	}
	num, err := strconv.Atoi(string(fields["num"]))
	return num, err == nil && num >= 0
}

// AppendPlaceholder appends what stands for an attachment.
func AppendPlaceholder(dst []byte, num int) []byte {
	dst = append(dst, `{"_placeholder":true,"num":`...)
	return append(strconv.AppendInt(dst, int64(num), 10), '}')
}

// AppendHead appends everything of p but its data.
func AppendHead(dst []byte, p Packet) []byte {
	dst = append(dst, '0'+byte(p.Type))
	if p.Type == BinaryEvent || p.Type == BinaryAck {
		dst = append(strconv.AppendInt(dst, int64(p.Attachments), 10), '-')
	}
	if p.Namespace != "" && p.Namespace != Main || p.Query != "" {
		dst = append(dst, p.Namespace...)
		if p.Query != "" {
			dst = append(append(dst, '?'), p.Query...)
		}
		dst = append(dst, ',')
	}
	if p.HasID {
		dst = strconv.AppendUint(dst, p.ID, 10)
	}
	return dst
}

// Append appends p as it goes over the wire.
func Append(dst []byte, p Packet) []byte { return append(AppendHead(dst, p), p.Data...) }

// Fields calls f for each field of the object in valid JSON, in their order; one that stands twice comes
// twice. value is a part of object. It returns the first error of f, or one for a name that is no text.
func Fields(object json.RawMessage, f func(name string, value json.RawMessage) error) error {
	for _, m := range Elements(object) { // a field is an element with a colon
		end := skipString(m, 0)
		name, err := Text(m[:end])
		if err != nil {
			return err
		}
		value := bytes.TrimLeft(m[end:], " \t\r\n")
		if err := f(name, bytes.TrimLeft(value[1:], " \t\r\n")); err != nil {
			return err
		}
	}
	return nil
}

// Text reads a JSON string out of valid JSON. A surrogate without its partner is refused: it is no text. The result
// is no part of value.
func Text(value json.RawMessage) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errors.New("not a string")
	}
	raw := value[1 : len(value)-1]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw), nil
	}
	for i, due := 0, false; i < len(raw) || due; {
		unit := uint64(0)
		size := 1
		if i < len(raw) && raw[i] == '\\' {
			if size = 2; raw[i+1] == 'u' {
				size = 6
				unit, _ = strconv.ParseUint(string(raw[i+2:i+6]), 16, 16) // valid JSON has four digits here
			}
		}
		low := unit >= 0xDC00 && unit < 0xE000
		if low != due {
			return "", errors.New("not valid UTF-16 in an escape")
		}
		due = unit >= 0xD800 && unit < 0xDC00
		i += size
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return "", errors.New("not a string")
	}
	return s, nil
}

// AppendText appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0 // where what need not be escaped begins
	for i := 0; i < len(s); {
		c := s[i]
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[plain:i]...), "\uFFFD"...)
		case c < ' ':
			dst = append(append(dst, s[plain:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c == '"' || c == '\\':
			dst = append(append(dst, s[plain:i]...), '\\', c)
		default:
			i += size
			continue
		}
		i += size
		plain = i
	}
	return append(append(dst, s[plain:]...), '"')
}
