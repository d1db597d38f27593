package netws

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/parley-chat/parley/core/socket"
)

// readBuffer is the size of a connection's buffer for reading; what is longer is read straight into the message.
const readBuffer = 1 << 10

// failure says with which code to close.
type failure struct{ code int }

// Error names the code.
func (f *failure) Error() string { return fmt.Sprintf("netws: closing with %d", f.code) }

// farewell is the peer's close frame.
type farewell struct{ answer []byte }

// Error says so.
func (f *farewell) Error() string { return "netws: the peer has closed" }

// rsv1 is the first of the three reserved bits of a header.
const rsv1 = 4

// message reads one message. Control frames that come before its end are taken by c.control.
func (c *conn) message() (m incoming, err error) {
	state := ws.StateServerSide
	most := c.maxMessage
	for {
		h, err := ws.ReadHeader(c.br)
		switch {
		case errors.Is(err, ws.ErrHeaderLengthMSB):
			return m, c.fails(socket.CloseProtocolError)
		case err != nil:
			return m, err
		}
		begins := h.OpCode.IsData() && h.OpCode != ws.OpContinuation
		if c.compress && begins && h.Rsv == rsv1 { // the message is compressed (RFC 7692 section 6)
			h.Rsv, m.deflate = 0, true
			most = socket.CompressedLimit(c.maxMessage)
		}
		if ws.CheckHeader(h, state) != nil {
			return m, c.fails(socket.CloseProtocolError)
		}
		if h.OpCode.IsControl() {
			payload := make([]byte, h.Length) // at most 125
			if _, err := io.ReadFull(c.br, payload); err != nil {
				return m, err
			}
			ws.Cipher(payload, h.Mask, 0)
			if err := c.control(h.OpCode, payload); err != nil {
				return m, err
			}
			continue
		}
		if begins {
			m.binary = h.OpCode == ws.OpBinary
		}
		state = state.Set(ws.StateFragmented)
		if h.Length > int64(most-len(m.payload)) {
			return m, c.fails(socket.CloseTooLarge)
		}
		if err := m.read(c.br, h); err != nil || h.Fin {
			return m, err
		}
	}
}

// incoming is a message that is being read.
type incoming struct {
	payload []byte
	binary  bool
	deflate bool // it is compressed
	checked int  // how much of a text is whole characters
}

// read adds the payload of one frame, of which it takes memory for no more than has come, or twice that. Text is checked as it comes.
func (m *incoming) read(r io.Reader, h ws.Header) error {
	for at := 0; at < int(h.Length); {
		room := min(int(h.Length)-at, max(readBuffer, len(m.payload)))
		m.payload = slices.Grow(m.payload, room)
		n, err := r.Read(m.payload[len(m.payload) : len(m.payload)+room])
		part := m.payload[len(m.payload) : len(m.payload)+n]
		m.payload = m.payload[:len(m.payload)+n]
		ws.Cipher(part, h.Mask, at)
		at += n
		if err := m.verify(false); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	return m.verify(h.Fin)
}

// verify checks what has come of a text; whole says that nothing more will.
func (m *incoming) verify(whole bool) error {
	if m.binary || m.deflate {
		return nil
	}
	n, ok := validPrefix(m.payload[m.checked:])
	m.checked += n
	if !ok || (whole && m.checked < len(m.payload)) {
		return &failure{socket.CloseInvalidUTF8}
	}
	return nil
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
