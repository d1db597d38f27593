package redisstore

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
)

var frames = []frame{
	{sender: "s", again: true, signal: realtime.Signal{Room: "r\xff\x00"}},
	{sender: "s", signal: realtime.Signal{Kind: realtime.SignalTyping, Room: "r", Typing: true, Node: "n", User: chat.Author{ID: "u", Name: "Zoë"}, Message: chat.Message{At: time.Time{}}}},
	{sender: "s", count: 7, signal: realtime.Signal{Kind: realtime.SignalEvent, Room: "r", Node: "n", User: chat.Author{ID: "u"}, Event: "cursor", Data: `{"x":1}`}},
	{sender: "s", count: 300, signal: realtime.Signal{Kind: realtime.SignalMessage, Room: "r", Message: chat.Message{
		Room: "r", Seq: math.MaxUint64, ID: "i", ClientID: "c", Author: chat.Author{ID: "u", Name: "Zoë"}, Text: "t", At: time.Unix(-5, 7000).UTC(),
	}}},
}

func TestFramesArriveWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, want := range frames {
		data := want.encode()
		got, err := decodeFrame(data)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		for cut := range data {
			_, err := decodeFrame(data[:cut])
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
