package engineio

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/socket"
)

// Types of packets, as they stand in front of a packet's data.
const (
	packetOpen    = '0'
	packetClose   = '1'
	packetPing    = '2'
	packetPong    = '3'
	packetMessage = '4'
	packetUpgrade = '5'
	packetNoop    = '6'

	binaryPrefix = 'b'  // in a payload, before a binary message in base64
	separator    = 0x1e // in a payload, between two packets
)

// Packets that are the same for every session.
var (
	closeFrame = control("1")
	pingFrame  = control("2")
	noopFrame  = control("6")
	probeFrame = control("3probe") // the answer to a probe
)

var (
	errPacket    = errors.New("engineio: not a packet")
	errUTF8      = errors.New("engineio: text that is not UTF-8")
	errSeparator = errors.New("engineio: a text message holds U+001E, which separates packets")
)

func control(packet string) *socket.Frame {
	return socket.NewFrame(func(dst []byte) []byte { return append(dst, packet...) })
}

// NewMessage makes the frame of a text message from what build appends to its argument, in one
// buffer. It serves any number of sessions on either transport.
//
// The text is UTF-8 without U+001E, which HTTP long-polling has for a separator; JSON never holds it.
func NewMessage(build func(dst []byte) []byte) *socket.Frame {
	return socket.NewFrame(func(dst []byte) []byte { return build(append(dst, packetMessage)) })
}

// NewBinary makes the frame of a binary message from what build appends to its argument.
func NewBinary(build func(dst []byte) []byte) *socket.Frame { return socket.NewBinaryFrame(build) }

// packet is one packet that has come.
type packet struct {
	kind   byte
	binary bool // the data of a message is binary
	data   []byte
}

// parsePacket takes a text packet apart. The data is part of b.
func parsePacket(b []byte) (packet, error) {
	if len(b) == 0 || b[0] < packetOpen || b[0] > packetNoop {
		return packet{}, errPacket
	}
	return packet{kind: b[0], data: b[1:]}, nil
}

// cutPacket takes the first packet off a payload of HTTP long-polling, and decodes a binary one
// in place. more reports whether there is a rest.
func cutPacket(payload []byte) (p packet, rest []byte, more bool, err error) {
	first, rest, more := bytes.Cut(payload, []byte{separator})
	if len(first) > 0 && first[0] == binaryPrefix {
		encoded := first[1:]
		n, err := base64.StdEncoding.Decode(encoded, encoded)
		if err != nil {
			return packet{}, nil, false, fmt.Errorf("engineio: a binary message: %w", err)
		}
		return packet{kind: packetMessage, binary: true, data: encoded[:n]}, rest, more, nil
	}
	if !utf8.Valid(first) {
		return packet{}, nil, false, errUTF8
	}
	p, err = parsePacket(first)
	return p, rest, more, err
}

// appendPayload appends frames as one payload of HTTP long-polling.
func appendPayload(dst []byte, frames []*socket.Frame) []byte {
	for i, f := range frames {
		if i > 0 {
			dst = append(dst, separator)
		}
		if f.Binary() {
			dst = base64.StdEncoding.AppendEncode(append(dst, binaryPrefix), f.Payload())
		} else {
			dst = append(dst, f.Payload()...)
		}
	}
	return dst
}

// payloadLen is how many bytes appendPayload appends.
func payloadLen(frames []*socket.Frame) int {
	n := max(0, len(frames)-1)
	for _, f := range frames {
		if f.Binary() {
			n += 1 + base64.StdEncoding.EncodedLen(len(f.Payload()))
		} else {
			n += len(f.Payload())
		}
	}
	return n
}
