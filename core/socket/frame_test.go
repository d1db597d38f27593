package socket_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/socket"
)

func TestJoin(t *testing.T) {
	text := func(s string) *socket.Frame {
		return socket.NewFrame(func(dst []byte) []byte { return append(dst, s...) })
	}
	a, b, long := text("a"), text(""), text(strings.Repeat("x", 70_000))
	binary := socket.NewBinaryFrame(func(dst []byte) []byte { return append(dst, 0, 1) })
	ab := socket.Join(a, b)
	for _, c := range []struct {
		name string
		got  *socket.Frame
		want []*socket.Frame
	}{
		{"one", socket.Join(a), []*socket.Frame{a}},
		{"one and nil", socket.Join(nil, a, nil), []*socket.Frame{a}},
		{"two", ab, []*socket.Frame{a, b}},
		{"joined ones, text and binary", socket.Join(ab, binary, nil, ab, long), []*socket.Frame{a, b, binary, a, b, long}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var wire []byte
			for _, f := range c.want {
				wire = append(wire, f.WebSocket()...)
			}
			assert.Equal(t, c.want, slices.Collect(c.got.Messages()))
			assert.True(t, bytes.Equal(wire, c.got.WebSocket()))
			assert.Equal(t, len(wire), c.got.Len())
			if len(c.want) > 1 {
				assert.Nil(t, c.got.Payload())
				assert.False(t, c.got.Binary())
			}
		})
	}
	assert.Nil(t, socket.Join())
	assert.Nil(t, socket.Join(nil, nil))
	for m := range ab.Messages() { // whoever has enough may stop
		assert.Same(t, a, m)
		break
	}
}
