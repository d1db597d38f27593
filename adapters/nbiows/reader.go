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
	begun   []byte    // beginning of a header, or of a control frame, whose end has not come
	frame   ws.Header // of the data frame of which left bytes have not come
	left    int
	content []byte    // what has come of a message, unmasked
	opcode  ws.OpCode // of that message; OpContinuation while there is none
	checked int       // how many bytes of content are whole UTF-8 characters
	deflate bool      // it is compressed
}

// idle reports whether the reader waits for nothing, and so may be thrown away.
func (r *reader) idle() bool { return len(r.begun) == 0 && r.opcode == ws.OpContinuation }

// feed takes the bytes that have come, and hands whole messages and control frames to s. It unmasks in
// place, so it changes b, and keeps nothing of it. A code other than zero says how the
// connection fails; then, and when done, the reader must not be used any more. compress says that messages may be compressed; limit is
// for their length as they are sent and inflated.
func (r *reader) feed(b []byte, limit int, compress bool, s sink) (code int, done bool) {
	for len(b) > 0 {
		if r.left > 0 {
			n := min(r.left, len(b))
			if code := r.more(b[:n], limit, s); code != 0 {
				return code, true
			}
			b = b[n:]
			continue
		}
		if len(r.begun) == 0 {
			h, n := parseHeader(b)
			if n == 0 {
				r.begun = append(r.begun, b...)
				return 0, false
			}
			if code := r.refuse(h, limit, compress); code != 0 {
				return code, true
			}
			switch {
			case int64(len(b)-n) >= h.Length:
				end := n + int(h.Length)
				if code, done := r.handle(h, b[n:end], limit, s); done {
					return code, true
				}
				b = b[end:]
			case h.OpCode.IsControl():
				r.begun = append(r.begun, b...)
				return 0, false
			default:
				r.begin(h)
				b = b[n:]
			}
			continue
		}
		h, n := parseHeader(r.begun)
		if n == 0 {
			// Byte by byte, so that nothing of the next frame is taken along.
			r.begun, b = append(r.begun, b[0]), b[1:]
			if h, n = parseHeader(r.begun); n == 0 {
				continue
			}
			if code := r.refuse(h, limit, compress); code != 0 {
				return code, true
			}
		}
		if !h.OpCode.IsControl() && h.Length > 0 {
			r.begun = nil
			r.begin(h)
			continue
		}
		missing := n + int(h.Length) - len(r.begun)
		take := min(missing, len(b))
		r.begun, b = append(r.begun, b[:take]...), b[take:]
		if take < missing {
			return 0, false
		}
		whole := r.begun
		r.begun = nil
		if code, done := r.handle(h, whole[n:], limit, s); done {
			return code, true
		}
	}
	return 0, false
}

// start notes what message a data frame belongs to.
func (r *reader) start(h ws.Header) {
	if h.OpCode != ws.OpContinuation {
		r.opcode, r.deflate = h.OpCode, h.Rsv != 0
	}
}

// begin takes up a data frame that comes in parts.
func (r *reader) begin(h ws.Header) {
	r.start(h)
	r.frame, r.left = h, int(h.Length)
}

// more takes the next part of that frame, of which text is checked at once: what is wrong is refused before the rest has come.
func (r *reader) more(part []byte, limit int, s sink) (code int) {
	ws.Cipher(part, r.frame.Mask, int(r.frame.Length)-r.left)
	r.left -= len(part)
	return r.add(part, r.left == 0 && r.frame.Fin, limit, s)
}

// add appends to the message; final says that it is whole then. limit is for what it has inflated.
func (r *reader) add(part []byte, final bool, limit int, s sink) (code int) {
	r.content = append(r.content, part...)
	if r.opcode == ws.OpText && !r.deflate {
		n, ok := validPrefix(r.content[r.checked:])
		r.checked += n
		if !ok || (final && r.checked < len(r.content)) {
			return socket.CloseInvalidUTF8
		}
	}
	if !final {
		return 0
	}
	content, op, deflate := r.content, r.opcode, r.deflate
	*r = reader{}
	if deflate {
		return inflate(content, op, limit, s)
	}
	s.message(content, op == ws.OpBinary)
	return 0
}

// inflate hands over a compressed message.
func inflate(compressed []byte, op ws.OpCode, limit int, s sink) (code int) {
	return socket.Inflate(compressed, limit, op == ws.OpText, func(message []byte) { s.message(message, op == ws.OpBinary) })
}

// refuse says with which code a frame fails the connection, from its header alone, or zero. If compress is set, the first frame
// of a message may have RSV1, which says that the message is compressed (RFC 7692 section 6).
func (r *reader) refuse(h ws.Header, limit int, compress bool) int {
	state := ws.StateServerSide
	if r.opcode != ws.OpContinuation {
		state = state.Set(ws.StateFragmented)
	}
	deflate := r.deflate
	if compress && h.Rsv == rsv1 && h.OpCode.IsData() && h.OpCode != ws.OpContinuation {
		h.Rsv, deflate = 0, true
	}
	if h.Length < 0 || ws.CheckHeader(h, state) != nil {
		return socket.CloseProtocolError
	}
	if h.OpCode.IsControl() {
		return 0
	}
	if deflate {
		limit = socket.CompressedLimit(limit)
	}
	if h.Length > int64(limit-len(r.content)) {
		return socket.CloseTooLarge
	}
	return 0
}

// rsv1 is the first of the three reserved bits of a header.
const rsv1 = 4

func (r *reader) handle(h ws.Header, payload []byte, limit int, s sink) (code int, done bool) {
	ws.Cipher(payload, h.Mask, 0)
	if h.OpCode.IsControl() {
		return s.control(h.OpCode, payload)
	}
	if h.Fin && h.OpCode != ws.OpContinuation {
		switch {
		case h.Rsv != 0:
			code = inflate(payload, h.OpCode, limit, s)
			return code, code != 0
		case h.OpCode == ws.OpText && !utf8.Valid(payload):
			return socket.CloseInvalidUTF8, true
		}
		s.message(payload, h.OpCode == ws.OpBinary)
		return 0, false
	}
	r.start(h)
	code = r.add(payload, h.Fin, limit, s)
	return code, code != 0
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
