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

// message reads one message. Control frames that come before its end are taken by c.control.
func (c *conn) message() (payload []byte, binary bool, err error) {
	state := ws.StateServerSide
	text := incoming{max: c.maxMessage, tooLarge: c.tooLarge}
	for {
		h, err := ws.ReadHeader(c.br)
		switch {
		case errors.Is(err, ws.ErrHeaderLengthMSB):
			return nil, false, &failure{socket.CloseProtocolError}
		case err != nil:
			return nil, false, err
		case ws.CheckHeader(h, state) != nil:
			return nil, false, &failure{socket.CloseProtocolError}
		}
		if h.OpCode.IsControl() {
			payload := make([]byte, h.Length) // at most 125
			if _, err := io.ReadFull(c.br, payload); err != nil {
				return nil, false, err
			}
			ws.Cipher(payload, h.Mask, 0)
			if err := c.control(h.OpCode, payload); err != nil {
				return nil, false, err
			}
			continue
		}
		if h.OpCode != ws.OpContinuation {
			binary = h.OpCode == ws.OpBinary
			text.check = !binary
		}
		state = state.Set(ws.StateFragmented)
		if err := text.read(c.br, h); err != nil {
			return nil, false, err
		}
		if h.Fin {
			return text.payload, binary, nil
		}
	}
}

// incoming is a message that is being read.
type incoming struct {
	payload  []byte
	max      int
	tooLarge int
	check    bool // that it is UTF-8
	checked  int  // how much of it is whole characters
}

// read adds the payload of one frame, of which it takes memory for no more than has come, or twice that. Text is checked as it comes.
func (m *incoming) read(r io.Reader, h ws.Header) error {
	if h.Length > int64(m.max-len(m.payload)) {
		return &failure{m.tooLarge}
	}
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
	if !m.check {
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
