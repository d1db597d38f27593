package nbiows

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
)

// recorder writes down what a reader finds.
type recorder struct{ found []string }

func (r *recorder) message(payload []byte, binary bool) {
	r.found = append(r.found, fmt.Sprintf("message %t %x", binary, payload))
}

func (r *recorder) control(op ws.OpCode, payload []byte) (int, bool) {
	r.found = append(r.found, fmt.Sprintf("control %d %x", op, payload))
	if op == ws.OpClose {
		_, code := socket.AnswerClose(payload)
		return code, true
	}
	return 0, false
}

// outcome is all that can be seen of a reader.
type outcome struct {
	found []string
	code  int
	done  bool
}

// feedParts feeds b in parts of the given lengths, over and over.
func feedParts(b []byte, limit int, parts []byte) outcome {
	var in reader
	var rec recorder
	b = bytes.Clone(b)
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(parts) > 0 {
			n = min(n, 1+int(parts[i%len(parts)]))
		}
		if code, done := in.feed(b[:n:n], limit, false, &rec); done {
			return outcome{rec.found, code, true}
		}
		b = b[n:]
	}
	return outcome{rec.found, 0, false}
}

// reference reads the same bytes the plain way: all at once, rule by rule.
func reference(b []byte, limit int) (o outcome) {
	fail := func(code int) outcome { o.code, o.done = code, true; return o }
	var content []byte
	var opcode byte
	for {
		if len(b) < 2 {
			return o
		}
		final, op, masked := b[0]&0x80 != 0, b[0]&0x0f, b[1]&0x80 != 0
		length, at := uint64(b[1]&0x7f), 2
		switch {
		case length == 126 && len(b) >= 4:
			length, at = uint64(binary.BigEndian.Uint16(b[2:])), 4
		case length == 127 && len(b) >= 10:
			length, at = binary.BigEndian.Uint64(b[2:]), 10
		case length >= 126:
			return o
		}
		var key []byte
		if masked {
			if len(b) < at+4 {
				return o
			}
			key = b[at : at+4]
			at += 4
		}
		control := op >= 8
		switch {
		case b[0]&0x70 != 0, !masked, length >= 1<<63,
			!slices.Contains([]byte{0, 1, 2, 8, 9, 10}, op),
			control && (!final || length > 125),
			op == 0 && opcode == 0, (op == 1 || op == 2) && opcode != 0:
			return fail(1002)
		case !control && length+uint64(len(content)) > uint64(limit):
			return fail(4413)
		}
		come := min(int(length), len(b)-at)
		payload := bytes.Clone(b[at : at+come])
		b = b[at+come:]
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		if uint64(come) < length {
			if (op == 1 || op == 0 && opcode == 1) && !couldBecomeUTF8(append(content, payload...)) {
				return fail(1007)
			}
			return o
		}
		if control {
			o.found = append(o.found, fmt.Sprintf("control %d %x", op, payload))
			if op == 8 {
				return fail(referenceClose(payload))
			}
			continue
		}
		if opcode == 0 {
			opcode = op
		}
		content = append(content, payload...)
		if opcode == 1 && (final && !utf8.Valid(content) || !final && !couldBecomeUTF8(content)) {
			return fail(1007)
		}
		if final {
			o.found = append(o.found, fmt.Sprintf("message %t %x", opcode == 2, content))
			content, opcode = nil, 0
		}
	}
}

func referenceClose(payload []byte) int {
	if len(payload) == 0 {
		return 0
	}
	if len(payload) == 1 {
		return 1002
	}
	code := binary.BigEndian.Uint16(payload)
	allowed := []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
	if !slices.Contains(allowed, code) && (code < 3000 || code > 4999) {
		return 1002
	}
	if !utf8.Valid(payload[2:]) {
		return 1007
	}
	return 0
}

// couldBecomeUTF8 tries the endings that complete any beginning of a character.
func couldBecomeUTF8(b []byte) bool {
	for _, ending := range []string{"", "\x80", "\x80\x80", "\x80\x80\x80", "\x90\x80\x80", "\x90\x80", "\xa0\x80", "\xa0"} {
		if utf8.Valid(append(bytes.Clone(b), ending...)) {
			return true
		}
	}
	return false
}

// clientFrame makes a masked frame.
func clientFrame(first byte, payload []byte, key [4]byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i, x := range payload {
		b = append(b, x^key[i%4])
	}
	return b
}

func FuzzFrames(f *testing.F) {
	key := [4]byte{1, 2, 3, 4}
	text := clientFrame(0x81, []byte("grüße"), key)
	f.Add(text, []byte{})
	f.Add(text, []byte{0})
	f.Add(clientFrame(0x82, bytes.Repeat([]byte{7}, 300), key), []byte{1, 40})
	f.Add(slices.Concat(clientFrame(0x01, []byte("gr\xc3"), key), clientFrame(0x89, []byte("ping"), key), clientFrame(0x80, []byte("\xbc"), key)), []byte{2})
	f.Add(clientFrame(0x88, []byte{3, 232, 'o', 'k'}, key), []byte{})
	f.Add(clientFrame(0x01, []byte("\xed\xa0"), key), []byte{0})
	f.Add([]byte{0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, []byte{0})
	f.Add([]byte{0x82, 0x05, 1, 2, 3, 4, 5}, []byte{})
	f.Fuzz(func(t *testing.T, b, parts []byte) {
		const limit = 400
		want := reference(b, limit)
		require.Equal(t, want, feedParts(b, limit, parts))
		require.Equal(t, want, feedParts(b, limit, nil))
	})
}

// TestReader compares the reader with the reference on random conversations.
func TestReader(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	pieces := [][]byte{nil, []byte("a"), []byte("grüße"), []byte("\xf0\x9f"), []byte("\x91\x8b"), []byte("\xff"), bytes.Repeat([]byte("x"), 125), bytes.Repeat([]byte("y"), 126), bytes.Repeat([]byte("z"), 399), {3, 232}, {3, 237}, {1}}
	firsts := []byte{0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x09, 0x83, 0x8b, 0xc1}
	ends := map[int]int{}
	for range 20000 {
		var b []byte
		for range rnd.IntN(8) {
			b = append(b, clientFrame(firsts[rnd.IntN(len(firsts))], pieces[rnd.IntN(len(pieces))], [4]byte{byte(rnd.Int()), 2, 3, 4})...)
		}
		b = b[:len(b)-min(len(b), rnd.IntN(3)*rnd.IntN(9))]
		parts := []byte{byte(rnd.IntN(40)), byte(rnd.IntN(200))}
		want := reference(b, 400)
		ends[want.code]++
		require.Equal(t, want, feedParts(b, 400, parts), "%x in parts %d", b, parts)
	}
	for _, code := range []int{0, 1002, 1007, 4413} {
		require.NotZero(t, ends[code], "no conversation ended with %d", code)
	}
}

func TestReaderHoldsNothingWhenIdle(t *testing.T) {
	t.Parallel()
	var in reader
	var rec recorder
	key := [4]byte{9, 8, 7, 6}
	b := slices.Concat(clientFrame(0x01, []byte("one"), key), clientFrame(0x80, []byte("two"), key))
	for _, x := range b {
		_, done := in.feed([]byte{x}, 100, false, &rec)
		require.False(t, done)
	}
	require.Equal(t, []string{fmt.Sprintf("message false %x", "onetwo")}, rec.found)
	require.True(t, in.idle())
	require.Equal(t, reader{}, in)
}

// TestReaderTakesNoMoreThanCame checks that an announced length costs nothing by itself.
func TestReaderTakesNoMoreThanCame(t *testing.T) {
	t.Parallel()
	var in reader
	var rec recorder
	head := []byte{0x82, 0xff, 0, 0, 0, 0, 0, 16, 0, 0, 1, 2, 3, 4} // 1 MiB is to come
	_, done := in.feed(append(head, "beginning"...), 2<<20, false, &rec)
	require.False(t, done)
	require.Less(t, cap(in.content), 128)
	code, done := (&reader{}).feed(head, 1<<20-1, false, &rec)
	require.True(t, done)
	require.Equal(t, 4413, code)
}
