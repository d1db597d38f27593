package redisstore

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

var frames = []frame{
	{sender: "s", again: true, signal: realtime.Signal{Room: "r\xff\x00"}},
	{sender: "s", signal: realtime.Signal{Kind: realtime.SignalTyping, Room: "r", Typing: true, Node: "n", User: chat.Author{ID: "u", Name: "Zoë"}, Message: chat.Message{At: time.Time{}}}},
	{sender: "s", count: 7, signal: realtime.Signal{Kind: realtime.SignalEvent, Room: "r", Node: "n", User: chat.Author{ID: "u"}, Event: "cursor", Data: `{"x":1}`}},
	{sender: "s", count: 300, signal: realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Message: chat.Message{
		Room: "r", Seq: math.MaxUint64, ID: "i", ClientID: "c", Author: chat.Author{ID: "u", Name: "Zoë"}, Text: "t", At: time.Unix(-5, 7000).UTC(),
	}}},
	{sender: "s", count: 300, signal: realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Node: "n", Message: chat.Message{
		Room: "r", Seq: 3, ID: "i", ClientID: "c", Author: chat.Author{ID: "u", Name: "Zoë"}, Text: "t", At: time.Unix(-5, 7000).UTC(), ReplyTo: math.MaxUint64, Data: `{"a":1}`,
	}}},
	{sender: "s", signal: realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Message: chat.Message{Room: "r", At: time.Unix(1, 0).UTC(), ReplyTo: 1}}},
	{sender: "s", signal: realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Node: "n", Message: chat.Message{Room: "r", At: time.Unix(1, 0).UTC(), Data: "{}"}}},
	{sender: "s", count: 301, signal: realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Node: "n", Message: edited}},
	{sender: "s", count: 302, signal: realtime.Signal{Kind: realtime.SignalChanged, Room: "r", Node: "n", Message: edited}},
	{sender: "s", signal: realtime.Signal{Kind: realtime.SignalChanged, Room: "r", Message: chat.Message{
		Room: "r", Seq: 2, ID: "i", Author: chat.Author{ID: "u"}, At: time.Unix(1, 0).UTC(), Rev: math.MaxUint64, DeletedAt: time.Unix(3, 5000).UTC(),
	}}},
	{sender: "s", signal: realtime.Signal{Kind: realtime.SignalChanged, Room: "r", Message: chat.Message{Room: "r", At: time.Unix(1, 0).UTC()}}},
	{sender: "s", count: 8, signal: realtime.Signal{Kind: realtime.SignalRestricted, Room: "r", Node: "n", User: chat.Author{ID: "u"}, Data: `{"kind":"ban"}`}},
	{sender: "s", count: 9, signal: realtime.Signal{Kind: realtime.SignalMembership, Room: " all", Node: "n", User: chat.Author{ID: "u", Name: "Zoë"}, Data: `{"room":"r"}`}},
	{sender: "s", count: 10, signal: realtime.Signal{Kind: realtime.SignalMarkedOwn, Room: "r", Node: "n", User: chat.Author{ID: "u", Name: "Zoë"}, Read: math.MaxUint64}},
	{sender: "s", count: 11, signal: realtime.Signal{Kind: realtime.SignalSettings, Room: " all", Node: "n", User: chat.Author{ID: "u"}}},
}

var edited = chat.Message{
	Room: "r", Seq: 4, ID: "i", ClientID: "c", Author: chat.Author{ID: "u", Name: "Zoë"}, Text: "t", At: time.Unix(-5, 7000).UTC(), ReplyTo: 3, Data: `{"a":1}`,
	Rev: 7, EditedAt: time.Unix(2, 4000).UTC(), Reactions: []chat.Reaction{{Key: "👍", Count: 30, Users: []user.ID{"u", "ü"}}, {Key: "+1", Count: 1}},
}

// isMessage reports whether the signal has a message.
func isMessage(f frame) bool {
	return f.signal.Kind == realtime.SignalMessage || f.signal.Kind == realtime.SignalChanged
}

func TestFramesArriveWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, want := range frames {
		data := want.encode()
		got, err := decodeFrame(data)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		for cut := range data {
			got, err := decodeFrame(data[:cut])
			if want.signal.Kind == realtime.SignalChanged && err == nil { // cut before a field, of which there may be fewer
				assert.Less(t, len(got.encode()), len(data))
				continue
			}
			assert.ErrorIs(t, err, errEncoding, "cut at %d", cut)
		}
		_, err = decodeFrame(data + "x")
		assert.ErrorIs(t, err, errEncoding)
		_, err = decodeFrame("\x02" + data[1:])
		assert.ErrorIs(t, err, errEncoding, "another version")
	}
}

// Nodes of before wrote a number of the connection where there is a zero now.
func TestFramesOfOlderNodesAreRead(t *testing.T) {
	t.Parallel()
	want := frame{sender: "s", count: 3, signal: realtime.Signal{Kind: realtime.SignalTyping, Room: "r", Typing: true, Node: "n", User: chat.Author{ID: "u", Name: "U"}}}
	got, err := decodeFrame("\x01\x02\x01s\x01r\x03\x01n\xac\x02\x01\x01u\x01U")
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Equal(t, "\x01\x02\x01s\x01r\x03\x01n\x00\x01\x01u\x01U", want.encode(), "older nodes read the zero as such a number")
}

// olderProgram reads and writes as programs did that knew no fields of a message but these: it is theirs, word for word.
type olderProgram struct{}

func (olderProgram) append(b []byte, m chat.Message) []byte {
	b = appendString(b, m.Room)
	b = binary.AppendUvarint(b, m.Seq)
	for _, s := range [...]string{m.ID, m.ClientID, string(m.Author.ID), m.Author.Name, m.Text} {
		b = appendString(b, s)
	}
	return binary.AppendVarint(b, micros(m.At))
}

func (olderProgram) frame(data string) (frame, error) {
	r := reader{data: data}
	if r.byte() != frameVersion {
		return frame{}, errEncoding
	}
	kind := r.byte()
	f := frame{sender: r.string(), again: kind == kindAgain}
	f.signal.Room = r.string()
	f.count = r.uvarint()
	s := &f.signal
	s.Kind = realtime.SignalKind(kind)
	s.Node = r.string()
	r.uvarint()
	s.Typing = r.byte() == 1
	s.Message = r.message()
	return f, r.done()
}

func (olderProgram) encode(f frame) string {
	s := f.signal
	b := appendString(append([]byte(nil), frameVersion, byte(s.Kind)), f.sender)
	b = appendString(b, s.Room)
	b = binary.AppendUvarint(b, f.count)
	b = append(appendString(b, s.Node), 0, 0)
	return string(olderProgram{}.append(b, s.Message))
}

func (olderProgram) entry(m chat.Message) string {
	return string(olderProgram{}.append([]byte(seqText(m.Seq)), m))
}

func (olderProgram) decodeEntry(entry string) (chat.Message, error) {
	if len(entry) < seqDigits {
		return chat.Message{}, errEncoding
	}
	r := reader{data: entry[seqDigits:]}
	m := r.message()
	return m, r.done()
}

// without is a message as an older program knows it.
func without(m chat.Message) chat.Message {
	m = unchanged(m)
	m.ReplyTo, m.Data = 0, ""
	return m
}

// unchanged is a message as a program knows it that knows replies and data, and no changes.
func unchanged(m chat.Message) chat.Message {
	m.Rev, m.EditedAt, m.DeletedAt, m.Reactions = 0, time.Time{}, time.Time{}, nil
	return m
}

// earlierProgram reads and writes as programs did that knew replies and data, and no changes: it is theirs, word for word.
type earlierProgram struct{}

func (earlierProgram) more(r *reader, m *chat.Message) {
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

func (earlierProgram) frame(data string) (frame, error) {
	r := reader{data: data}
	if r.byte() != frameVersion {
		return frame{}, errEncoding
	}
	kind := r.byte()
	f := frame{sender: r.string(), again: kind == kindAgain}
	f.signal.Room = r.string()
	if f.again {
		return f, r.done()
	}
	f.count = r.uvarint()
	s := &f.signal
	s.Kind = realtime.SignalKind(kind)
	s.Node = r.string()
	more := r.uvarint() == withMore
	s.Typing = r.byte() == 1
	if s.Kind == realtime.SignalMessage {
		s.Message = r.message()
		if more {
			in := reader{data: s.Node}
			s.Node = in.string()
			earlierProgram{}.more(&in, &s.Message)
			r.bad = r.bad || in.bad
		}
	} else {
		s.User = chat.Author{ID: user.ID(r.string()), Name: r.string()}
		if s.Kind == realtime.SignalEvent {
			s.Event, s.Data = r.string(), r.string()
		}
	}
	return f, r.done()
}

func (earlierProgram) entry(m chat.Message) string {
	b := append([]byte(nil), seqText(m.Seq)...)
	b = binary.AppendUvarint(b, uint64(len(m.Room)))
	b[len(b)-1] |= 0x80
	b = append(append(b, 0), m.Room...)
	plain := unchanged(m)
	return string(appendMore(appendRest(b, plain), &plain))
}

func (earlierProgram) isWhole(message string) bool {
	for i := range min(len(message), binary.MaxVarintLen64) {
		if message[i] < 0x80 {
			return i > 0 && message[i] == 0
		}
	}
	return false
}

func (earlierProgram) decodeEntry(entry string) (chat.Message, error) {
	if len(entry) < seqDigits {
		return chat.Message{}, errEncoding
	}
	r := reader{data: entry[seqDigits:]}
	if !(earlierProgram{}).isWhole(r.data) {
		return chat.Message{}, errEncoding
	}
	m := r.message()
	earlierProgram{}.more(&r, &m)
	return m, r.done()
}

func TestNodesOfTwoVersionsHearEachOther(t *testing.T) {
	t.Parallel()
	for _, sent := range frames {
		if sent.signal.Kind == realtime.SignalChanged {
			for name, read := range map[string]func(string) (frame, error){"older": olderProgram{}.frame, "earlier": earlierProgram{}.frame} {
				_, err := read(sent.encode())
				require.ErrorIs(t, err, errEncoding, "%s nodes ignore a change", name)
			}
			continue
		}
		if sent.signal.Kind == realtime.SignalMarkedOwn || sent.signal.Kind == realtime.SignalRestricted || sent.signal.Kind == realtime.SignalMembership {
			_, err := olderProgram{}.frame(sent.encode())
			require.ErrorIs(t, err, errEncoding, "older nodes ignore what they do not know")
			continue
		}
		if sent.signal.Kind != realtime.SignalMessage {
			continue
		}
		got, err := olderProgram{}.frame(sent.encode())
		require.NoError(t, err)
		plain := sent
		plain.signal.Message = without(sent.signal.Message)
		if hasMore(&sent.signal.Message) {
			got.signal.Node = sent.signal.Node // an older node asks no message for it
		} else {
			assert.Equal(t, olderProgram{}.encode(sent), sent.encode(), "a message without the fields is written as ever")
		}
		assert.Equal(t, plain, got, "an older node hears the message")
		got, err = decodeFrame(olderProgram{}.encode(plain))
		require.NoError(t, err)
		assert.Equal(t, plain, got, "a newer node hears what an older one says")

		plain.signal.Message = unchanged(sent.signal.Message)
		got, err = earlierProgram{}.frame(sent.encode())
		require.NoError(t, err)
		assert.Equal(t, plain, got, "an earlier node hears the message as far as it knows it")
	}
}

func TestALaterProgramMayAddFields(t *testing.T) {
	t.Parallel()
	sent := frames[4]
	node := appendMore(appendString(nil, sent.signal.Node), &sent.signal.Message)
	longer := appendString(binary.AppendUvarint(append([]byte(nil), node...), 99), "of a later program")
	was, is := string(appendString(nil, string(node))), string(appendString(nil, string(longer)))
	data := strings.Replace(sent.encode(), was, is, 1)
	require.NotEqual(t, data, sent.encode())
	got, err := decodeFrame(data)
	require.NoError(t, err)
	assert.Equal(t, sent, got)
	m, err := decodeEntry(string(appendString(binary.AppendUvarint([]byte(encodeEntry(sent.signal.Message)), 99), "of a later program")))
	require.NoError(t, err)
	assert.Equal(t, sent.signal.Message, m)
}

func TestEntriesOfTheCache(t *testing.T) {
	t.Parallel()
	for _, f := range frames {
		for _, room := range []string{"r", strings.Repeat("é", 100), strings.Repeat("x", 127), strings.Repeat("x", 128), strings.Repeat("x", 256)} {
			m := f.signal.Message
			if m.Room, m.Seq = room, 7; !isMessage(f) {
				m.At = time.Unix(0, 0).UTC()
			}
			entry := encodeEntry(m)
			got, err := decodeEntry(entry)
			require.NoError(t, err)
			assert.Equal(t, m, got)
			for cut := range entry {
				if got, err := decodeEntry(entry[:cut]); err == nil { // behind the message, and before the next field
					assert.Equal(t, without(m), without(got), "cut at %d", cut)
					assert.Less(t, len(encodeEntry(got)), len(entry))
				}
			}
			got, err = olderProgram{}.decodeEntry(entry)
			if !hasMore(&m) {
				require.NoError(t, err, "an older program reads it")
				assert.Equal(t, m, got)
			} else {
				require.ErrorIs(t, err, errEncoding, "an older program takes the room for not held")
			}
			got, err = earlierProgram{}.decodeEntry(entry)
			require.NoError(t, err, "an earlier program reads what it knows")
			assert.Equal(t, unchanged(m), got)
			for name, entry := range map[string]string{"older": olderProgram{}.entry(m), "earlier": earlierProgram{}.entry(m)} {
				_, err = decodeEntry(entry)
				require.ErrorIs(t, err, errEncoding, "an %s program may have left out what it does not know", name)
			}
		}
	}
}

// Scripts read the Rev of an entry from its end.
func TestAnEntryEndsWithItsRev(t *testing.T) {
	t.Parallel()
	for _, f := range frames {
		if m := f.signal.Message; m.Rev != 0 {
			entry := encodeEntry(m)
			assert.Equal(t, "\x03\x14"+seqText(m.Rev), entry[len(entry)-22:])
		}
	}
}

func TestAMissedMessageIsNotTakenForOneThatCameBefore(t *testing.T) {
	t.Parallel()
	r := &followed{}
	frame := func(kind realtime.SignalKind, count uint64) bool {
		return r.fresh(frame{sender: "s", count: count, signal: realtime.Signal{Kind: kind, Room: "r"}})
	}
	assert.True(t, frame(realtime.SignalMessage, 1))
	// The connection was lost: the message 2 and the change 3 did not come. They are published again, behind what is said now.
	assert.True(t, frame(realtime.SignalTyping, 4))
	assert.True(t, frame(realtime.SignalChanged, 3))
	assert.True(t, frame(realtime.SignalMessage, 2))
	for _, kind := range []realtime.SignalKind{realtime.SignalMessage, realtime.SignalChanged} {
		assert.False(t, frame(kind, 1))
		assert.False(t, frame(kind, 2))
	}
	assert.False(t, frame(realtime.SignalChanged, 3))
	assert.False(t, frame(realtime.SignalJoined, 4))
}

func FuzzDecodeEntry(f *testing.F) {
	for _, seed := range frames {
		f.Add(encodeEntry(seed.signal.Message))
		f.Add(olderProgram{}.entry(seed.signal.Message))
		f.Add(earlierProgram{}.entry(seed.signal.Message))
	}
	f.Fuzz(func(t *testing.T, data string) {
		first, err := decodeEntry(data)
		if err != nil {
			return
		}
		second, err := decodeEntry(encodeEntry(first))
		require.NoError(t, err)
		assert.Equal(t, first, second)
	})
}

func FuzzDecodeFrame(f *testing.F) {
	for _, seed := range frames {
		f.Add(seed.encode())
	}
	f.Fuzz(func(t *testing.T, data string) {
		first, err := decodeFrame(data)
		if err != nil {
			return
		}
		second, err := decodeFrame(first.encode())
		require.NoError(t, err)
		assert.Equal(t, first, second)
	})
}
