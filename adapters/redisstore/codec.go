package redisstore

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// The encoding of values: unsigned and signed varints as in encoding/binary, strings as their
// length and their bytes. It keeps every byte, and every uint64.

var errEncoding = errors.New("a value is not encoded as expected")

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendMessage appends what every program reads of a message. Its fields that came later are for appendMore.
func appendMessage(b []byte, m chat.Message) []byte { return appendRest(appendString(b, m.Room), m) }

// appendRest is appendMessage behind the room.
func appendRest(b []byte, m chat.Message) []byte {
	b = binary.AppendUvarint(b, m.Seq)
	for _, s := range [...]string{m.ID, m.ClientID, string(m.Author.ID), m.Author.Name, m.Text} {
		b = appendString(b, s)
	}
	return binary.AppendVarint(b, micros(m.At))
}

// Numbers of the fields of a message that came later. A reader skips those that it does not know.
const (
	fieldReplyTo = 1 // a uvarint
	fieldData    = 2
)

// hasMore reports whether appendMore has anything to append.
func hasMore(m *chat.Message) bool { return m.ReplyTo != 0 || m.Data != "" }

// appendMore appends the fields of a message that came later: of each that is set its number, a uvarint, and its value, a string.
func appendMore(b []byte, m *chat.Message) []byte {
	if m.ReplyTo != 0 {
		b = appendString(binary.AppendUvarint(b, fieldReplyTo), string(binary.AppendUvarint(nil, m.ReplyTo)))
	}
	if m.Data != "" {
		b = appendString(binary.AppendUvarint(b, fieldData), m.Data)
	}
	return b
}

// more reads what appendMore has written, up to the end.
func (r *reader) more(m *chat.Message) {
	for r.data != "" {
		number, value := r.uvarint(), r.string()
		switch number {
		case fieldReplyTo:
			n := reader{data: value}
			if m.ReplyTo = n.uvarint(); n.done() != nil {
				r.bad = true
			}
		case fieldData:
			m.Data = value
		}
	}
}

// reader takes values off the front of data. After the first that is not there, bad is set
// and everything is empty.
type reader struct {
	data string
	bad  bool
}

func (r *reader) fail() { r.data, r.bad = "", true }

func (r *reader) byte() byte {
	if r.data == "" {
		r.fail()
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint([]byte(r.data[:min(len(r.data), binary.MaxVarintLen64)]))
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint([]byte(r.data[:min(len(r.data), binary.MaxVarintLen64)]))
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.fail()
		return ""
	}
	s := r.data[:n]
	r.data = r.data[n:]
	return strings.Clone(s) // so that a name does not keep a whole message alive
}

func (r *reader) message() chat.Message {
	return chat.Message{
		Room: r.string(), Seq: r.uvarint(), ID: r.string(), ClientID: r.string(),
		Author: chat.Author{ID: user.ID(r.string()), Name: r.string()}, Text: r.string(), At: moment(r.varint()),
	}
}

// done returns an error unless everything was there and nothing is left.
func (r *reader) done() error {
	if r.bad || r.data != "" {
		return errEncoding
	}
	return nil
}
