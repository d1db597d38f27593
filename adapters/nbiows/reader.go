package nbiows

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/parley-chat/parley/core/socket"
)

// sink is what a reader feeds.
type sink interface {
	// message takes one whole message. The payload is the reader's again when it returns.
	message(payload []byte, binary bool)
	// control takes one control frame; it says with which code the connection fails, or
	// zero, and whether reading ends here.
	control(op ws.OpCode, payload []byte) (code int, done bool)
}

// reader makes messages out of bytes as they come. It holds memory only while a frame or a
// message is incomplete. The zero reader is ready.
type reader struct {
	frame   []byte    // beginning of a frame whose end has not come
	content []byte    // fragments of a message so far, unmasked
	opcode  ws.OpCode // of that message; OpContinuation while there is none
	checked int       // how many bytes of content are whole UTF-8 characters
}

// idle reports whether the reader waits for nothing, and so may be thrown away.
func (r *reader) idle() bool { return len(r.frame) == 0 && r.opcode == ws.OpContinuation }

// feed takes the bytes that have come, and hands whole messages and control frames to s. It unmasks in
// place, so it changes b, and keeps nothing of it. A code other than zero says how the
// connection fails; then, and when done, the reader must not be used any more.
func (r *reader) feed(b []byte, limit int, s sink) (code int, done bool) {
	for len(b) > 0 {
		if len(r.frame) == 0 {
			h, n := parseHeader(b)
			if n > 0 {
				if code := r.refuse(h, limit); code != 0 {
					return code, true
				}
			}
			if n == 0 || int64(len(b)-n) < h.Length {
				r.frame = append(r.frame, b...)
				return 0, false
			}
			end := n + int(h.Length)
			if code, done := r.handle(h, b[n:end], s); done {
				return code, true
			}
			b = b[end:]
			continue
		}
		h, n := parseHeader(r.frame)
		if n == 0 {
			// Byte by byte, so that nothing of the next frame is taken along.
			r.frame, b = append(r.frame, b[0]), b[1:]
			if h, n = parseHeader(r.frame); n == 0 {
				continue
			}
		}
		if code := r.refuse(h, limit); code != 0 {
			return code, true
		}
		missing := n + int(h.Length) - len(r.frame)
		take := min(missing, len(b))
		r.frame, b = append(r.frame, b[:take]...), b[take:]
		if take < missing {
			return 0, false
		}
		frame := r.frame
		r.frame = nil
		if code, done := r.handle(h, frame[n:], s); done {
			return code, true
		}
	}
	return 0, false
}

// refuse says with which code a frame fails the connection, from its header alone, or zero.
func (r *reader) refuse(h ws.Header, limit int) int {
	state := ws.StateServerSide
	if r.opcode != ws.OpContinuation {
		state = state.Set(ws.StateFragmented)
	}
	if h.Length < 0 || ws.CheckHeader(h, state) != nil {
		return socket.CloseProtocolError
	}
	if h.OpCode.IsControl() {
		return 0
	}
	if h.Length > int64(limit-len(r.content)) {
		return socket.CloseTooLarge
	}
	return 0
}

func (r *reader) handle(h ws.Header, payload []byte, s sink) (code int, done bool) {
	ws.Cipher(payload, h.Mask, 0)
	if h.OpCode.IsControl() {
		return s.control(h.OpCode, payload)
	}
	if h.Fin && h.OpCode != ws.OpContinuation {
		if h.OpCode == ws.OpText && !utf8.Valid(payload) {
			return socket.CloseInvalidUTF8, true
		}
		s.message(payload, h.OpCode == ws.OpBinary)
		return 0, false
	}
	if h.OpCode != ws.OpContinuation {
		r.opcode = h.OpCode
	}
	r.content = append(r.content, payload...)
	if r.opcode == ws.OpText {
		n, ok := validPrefix(r.content[r.checked:])
		r.checked += n
		if !ok || (h.Fin && r.checked < len(r.content)) {
			return socket.CloseInvalidUTF8, true
		}
	}
	if h.Fin {
		content, op := r.content, r.opcode
		*r = reader{}
		s.message(content, op == ws.OpBinary)
	}
	return 0, false
}

// parseHeader reads the header of the frame that b begins with (RFC 6455 section 5.2), and
// returns its length; zero if b is too short. A length beyond 63 bits comes out negative.
func parseHeader(b []byte) (h ws.Header, n int) {
	if len(b) < 2 {
		return h, 0
	}
	h.Fin = b[0]&0x80 != 0
	h.Rsv = b[0] >> 4 & 7
	h.OpCode = ws.OpCode(b[0] & 0x0f)
	h.Masked = b[1]&0x80 != 0
	n = 2
	switch length := b[1] & 0x7f; length {
	case 126:
		if len(b) < 4 {
			return h, 0
		}
		h.Length, n = int64(binary.BigEndian.Uint16(b[2:])), 4
	case 127:
		if len(b) < 10 {
			return h, 0
		}
		h.Length, n = int64(binary.BigEndian.Uint64(b[2:])), 10
	default:
		h.Length = int64(length)
	}
	if !h.Masked {
		return h, n
	}
	if len(b) < n+4 {
		return h, 0
	}
	copy(h.Mask[:], b[n:])
	return h, n + 4
}

// validPrefix returns how many bytes of b are whole UTF-8 characters, and whether the rest
// could still become one.
func validPrefix(b []byte) (n int, ok bool) {
	for n < len(b) {
		r, size := utf8.DecodeRune(b[n:])
		if r == utf8.RuneError && size == 1 {
			return n, !utf8.FullRune(b[n:])
		}
		n += size
	}
	return n, true
}

// checkClose says with which code a close frame fails the connection, or zero (RFC 6455
// sections 5.5.1 and 7.4; 1012 to 1014 were registered with IANA later).
func checkClose(payload []byte) int {
	switch {
	case len(payload) == 0:
		return 0
	case len(payload) == 1 || !socket.MaySend(int(binary.BigEndian.Uint16(payload))):
		return socket.CloseProtocolError
	case !utf8.Valid(payload[2:]):
		return socket.CloseInvalidUTF8
	default:
		return 0
	}
}
