package socket

import (
	"encoding/binary"
)

// headroom is the longest header of an unmasked WebSocket frame (RFC 6455 section 5.2).
const headroom = 10

// Frame is one outgoing message, encoded once and shared by all its receivers. It is
// immutable and may be used from many goroutines.
type Frame struct {
	wire []byte // WebSocket header and payload
	head int    // length of the header
}

// NewFrame makes a text frame from what build appends to its argument, in one buffer.
func NewFrame(build func(dst []byte) []byte) *Frame { return newFrame(0x81, build) }

// NewBinaryFrame makes a binary frame from what build appends to its argument.
func NewBinaryFrame(build func(dst []byte) []byte) *Frame { return newFrame(0x82, build) }

func newFrame(first byte, build func(dst []byte) []byte) *Frame {
	b := build(make([]byte, headroom, headroom+246))
	n := len(b) - headroom
	var at int
	switch {
	case n < 126:
		at = headroom - 2
		b[at+1] = byte(n)
	case n < 1<<16:
		at = headroom - 4
		b[at+1] = 126
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		at = 0
		b[at+1] = 127
		binary.BigEndian.PutUint64(b[at+2:], uint64(n))
	}
	b[at] = first
	return &Frame{wire: b[at:], head: headroom - at}
}

// Payload is the message itself. It must not be changed.
func (f *Frame) Payload() []byte { return f.wire[f.head:] }

// Binary reports whether the message is binary and not text.
func (f *Frame) Binary() bool { return f.wire[0] == 0x82 }

// WebSocket is the whole message as one unmasked final WebSocket frame, header and
// payload (RFC 6455 section 5.2), ready to be written. It must not be changed.
func (f *Frame) WebSocket() []byte { return f.wire }

// Len is the length of WebSocket: what the frame counts in a queue.
func (f *Frame) Len() int { return len(f.wire) }
