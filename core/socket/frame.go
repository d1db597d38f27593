package socket

import (
	"encoding/binary"
	"iter"
	"sync/atomic"
)

// headroom is the longest header of an unmasked WebSocket frame (RFC 6455 section 5.2).
const headroom = 10

// Frame is one outgoing message, or several that [Join] made one, encoded once and shared by all its receivers.
// It is immutable and may be used from many goroutines.
type Frame struct {
	wire   []byte   // WebSocket header and payload
	head   int      // length of the header
	joined []*Frame // of Join
	note   any

	deflated atomic.Pointer[deflated] // of Deflated; nil until it is asked for
}

// Join makes one frame out of several, so that a transport can write them at once. Receivers get the messages
// of all of them, in this order. Of one frame it is that frame; of none it is nil. A frame that is nil is left out.
func Join(frames ...*Frame) *Frame {
	size := 0
	var all []*Frame
	for _, f := range frames {
		if f == nil {
			continue
		}
		size += len(f.wire)
		if f.joined != nil {
			all = append(all, f.joined...)
		} else {
			all = append(all, f)
		}
	}
	if len(all) < 2 {
		if len(all) == 0 {
			return nil
		}
		return all[0]
	}
	wire := make([]byte, 0, size)
	for _, f := range all {
		wire = append(wire, f.wire...)
	}
	return &Frame{wire: wire, joined: all}
}

// Messages returns the frames of the single messages: those that were joined, or f alone. A transport that does not
// write WebSocket as it is sends these.
func (f *Frame) Messages() iter.Seq[*Frame] {
	return func(yield func(*Frame) bool) {
		if f.joined == nil {
			yield(f)
			return
		}
		for _, m := range f.joined {
			if !yield(m) {
				return
			}
		}
	}
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

// Noted returns the same message with a note, which whoever wraps a [Conn] may read and which is not sent. The note
// must not be changed.
func (f *Frame) Noted(note any) *Frame { return &Frame{wire: f.wire, head: f.head, note: note} }

// Note returns what Noted was given; nil without.
func (f *Frame) Note() any { return f.note }

// Payload is the message itself; of a joined frame it is nil. It must not be changed.
func (f *Frame) Payload() []byte {
	if f.joined != nil {
		return nil
	}
	return f.wire[f.head:]
}

// Binary reports whether the message is binary and not text; of a joined frame it is false.
func (f *Frame) Binary() bool { return f.joined == nil && f.wire[0]&0x0f == 2 }

// WebSocket is each message as one unmasked final WebSocket frame, header and
// payload (RFC 6455 section 5.2), ready to be written. It must not be changed.
func (f *Frame) WebSocket() []byte { return f.wire }

// Len is the length of WebSocket: what the frame counts in a queue.
func (f *Frame) Len() int { return len(f.wire) }
