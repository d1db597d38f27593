package redisstore

import (
	"encoding/binary"
	"errors"
	"math"
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
	fieldReplyTo   = 1 // a uvarint
	fieldData      = 2
	fieldRev       = 3 // digits as of seqText, and always the last field: scripts read it from the end
	fieldEditedAt  = 4 // a varint of microseconds
	fieldDeletedAt = 5 // a varint of microseconds
	fieldReaction  = 6 // one for each reaction: key, a uvarint of the count, users
)

// hasMore reports whether appendMore has anything to append.
func hasMore(m *chat.Message) bool { return m.ReplyTo != 0 || m.Data != "" || hasChanged(m) }

// hasChanged reports whether there is anything that only a change makes.
func hasChanged(m *chat.Message) bool {
	return m.Rev != 0 || !m.EditedAt.IsZero() || !m.DeletedAt.IsZero() || len(m.Reactions) > 0
}

// appendMore appends the fields of a message that came later: of each that is set its number, a uvarint, and its value, a string.
func appendMore(b []byte, m *chat.Message) []byte {
	if m.ReplyTo != 0 {
		b = appendField(b, fieldReplyTo, string(binary.AppendUvarint(nil, m.ReplyTo)))
	}
	if m.Data != "" {
		b = appendField(b, fieldData, m.Data)
	}
	if !m.EditedAt.IsZero() {
		b = appendField(b, fieldEditedAt, string(binary.AppendVarint(nil, micros(m.EditedAt))))
	}
	if !m.DeletedAt.IsZero() {
		b = appendField(b, fieldDeletedAt, string(binary.AppendVarint(nil, micros(m.DeletedAt))))
	}
	for _, r := range m.Reactions {
		value := binary.AppendUvarint(appendString(nil, r.Key), uint64(r.Count))
		for _, id := range r.Users {
			value = appendString(value, string(id))
		}
		b = appendField(b, fieldReaction, string(value))
	}
	if m.Rev != 0 {
		b = appendField(b, fieldRev, seqText(m.Rev))
	}
	return b
}

func appendField(b []byte, number uint64, value string) []byte {
	return appendString(binary.AppendUvarint(b, number), value)
}

// more reads what appendMore has written, up to the end.
func (r *reader) more(m *chat.Message) {
	for r.data != "" {
		number, value := r.uvarint(), reader{data: r.string()}
		switch number {
		case fieldReplyTo:
			m.ReplyTo = value.uvarint()
		case fieldData:
			m.Data, value.data = value.data, ""
		case fieldEditedAt:
			m.EditedAt = moment(value.varint())
		case fieldDeletedAt:
			m.DeletedAt = moment(value.varint())
		case fieldReaction:
			m.Reactions = append(m.Reactions, value.reaction())
		case fieldRev:
			n, err := decodeNumber(value.data)
			m.Rev, value = n, reader{bad: err != nil || n == 0}
		default:
			value.data = ""
		}
		if value.done() != nil {
			r.fail()
		}
	}
}

// reaction reads up to the end.
func (r *reader) reaction() chat.Reaction {
	a := chat.Reaction{Key: r.string()}
	count := r.uvarint()
	if count > math.MaxInt32 {
		r.fail()
	}
	a.Count = int(count)
	for r.data != "" {
		a.Users = append(a.Users, user.ID(r.string()))
	}
	return a
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
