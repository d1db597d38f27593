package socket_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
)

func TestCloseFrame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ reason, want string }{
		{"", ""},
		{"too slow", "too slow"},
		{"bad \xff byte", "bad \uFFFD byte"},
		{string(bytes.Repeat([]byte("x"), 200)), string(bytes.Repeat([]byte("x"), 123))},
		{string(bytes.Repeat([]byte("ü"), 62)), string(bytes.Repeat([]byte("ü"), 61))},
	} {
		b := socket.CloseFrame(4408, c.reason)
		require.Equal(t, byte(0x88), b[0])
		require.Equal(t, len(b)-2, int(b[1]))
		require.EqualValues(t, 4408, binary.BigEndian.Uint16(b[2:]))
		require.Equal(t, c.want, string(b[4:]))
	}
}

func TestCloseFrameOfACodeThatMustNotBeSent(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 1 << 16} {
		require.EqualValues(t, 1011, binary.BigEndian.Uint16(socket.CloseFrame(code, "")[2:]), code)
	}
}

func TestAnswerClose(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		answer  string
		code    int
	}{
		{"", "\x88\x00", 0},
		{"\x03", "", 1002},
		{"\x03\xe8", "\x88\x02\x03\xe8", 0},
		{"\x0f\xa0gr\xc3\xbc\xc3\x9fe", "\x88\x02\x0f\xa0", 0},
		{"\x03\xe8\xff", "", 1007},
		{"\x03\xed", "", 1002},
		{"\x03\xed\xff", "", 1002},
	} {
		answer, code := socket.AnswerClose([]byte(c.payload))
		require.Equal(t, c.answer, string(answer), "%x", c.payload)
		require.Equal(t, c.code, code, "%x", c.payload)
	}
}

func TestPongs(t *testing.T) {
	t.Parallel()
	var p socket.Pongs
	require.Zero(t, p.Len())
	want := func(payloads ...string) {
		t.Helper()
		wire := ""
		for _, s := range payloads {
			wire += "\x8a" + string(rune(len(s))) + s
		}
		require.Equal(t, wire, string(p.WebSocket()))
		require.Equal(t, len(wire), p.Len())
	}
	p.Add(nil, 3)
	p.Add([]byte("two"), 3)
	p.Add([]byte("three"), 3)
	want("", "two", "three")
	p.Add([]byte("four"), 3)
	want("two", "three", "four")
	for i := range 1000 {
		p.Add(fmt.Appendf(nil, "%0125d", i), 3)
	}
	want(fmt.Sprintf("%0125d", 997), fmt.Sprintf("%0125d", 998), fmt.Sprintf("%0125d", 999))
	taken := p.Take()
	require.Len(t, taken, 3*127)
	want()
	p.Add([]byte("again"), 1)
	p.Add([]byte("and again"), 1)
	want("and again")
}
