package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/lesismal/nbio"
)

// peer is one client's connection. There may be very many, most of them idle: it has no goroutine, and no buffer while
// nothing is incomplete.
type peer struct {
	crowd *crowd
	conn  *nbio.Conn
	index int32
	room  int32

	stage atomic.Uint32 // a stage
	code  atomic.Uint32 // of the server's close frame

	// Used by the poller alone:
	partial []byte
	seq     uint64        // of the last message
	last    atomic.Uint64 // the same, for comeBack
	since   uint64        // where the client was when it was cut off
	back    bool          // it was cut off

	replies chan reply    // to what it has sent; nil for those who only read
	gone    chan struct{} // closed with the connection of one who sends
}

// reply is what the server says of a message.
type reply struct {
	number  int
	refused bool
}

// How far a client has come.
const (
	handshaking uint32 = iota
	greeting
	joining
	inside
	over
)

// start says the first words.
func (p *peer) start() error {
	c := p.crowd
	token := ""
	if len(c.Tokens) > 0 {
		token = c.Tokens[p.index]
	}
	path := c.Path
	if path == "" {
		path = c.wire.path
	}
	_, err := p.conn.Write(c.wire.request(c.Address, path, token))
	return err
}

// feed takes what the poller has read.
func (p *peer) feed(b []byte) {
	if p.stage.Load() == over {
		return
	}
	if len(p.partial) > 0 {
		p.partial = append(p.partial, b...)
		b = p.partial
	}
	rest, err := p.consume(b)
	switch {
	case err != nil:
		p.fail(err)
		p.partial = nil
	case len(rest) == 0:
		p.partial = nil
	default:
		p.partial = append(p.partial[:0], rest...)
	}
}

// consume reads what is complete and returns the rest.
func (p *peer) consume(b []byte) (rest []byte, err error) {
	if p.stage.Load() == handshaking {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return b, nil
		}
		head := b[:end]
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(handshakeAccept)) {
			return nil, fmt.Errorf("the server refuses a handshake: %.300s", b)
		}
		b = b[end+4:]
		p.stage.Store(greeting)
		if err := p.greet(nil); err != nil {
			return nil, err
		}
	}
	for p.stage.Load() != over {
		op, payload, n := frame(b)
		if n == 0 {
			return b, nil
		}
		b = b[n:]
		switch op {
		case 0x1:
			if err := p.text(payload); err != nil {
				return nil, err
			}
		case 0x8:
			if len(payload) >= 2 {
				p.code.Store(uint32(binary.BigEndian.Uint16(payload)))
			}
			_ = p.write(0x8, payload[:min(2, len(payload))]) // the server ends the connection
		case 0x9:
			if err := p.write(0xa, payload); err != nil {
				return nil, err
			}
		case 0xa:
		default:
			return nil, fmt.Errorf("a frame of opcode %d", op)
		}
	}
	return nil, nil
}

// frame reads one whole frame of a server, that is without a mask; n is 0 if there is none.
func frame(b []byte) (op byte, payload []byte, n int) {
	if len(b) < 2 {
		return 0, nil, 0
	}
	head, size := 2, uint64(b[1]&0x7f)
	switch size {
	case 126:
		if head = 4; len(b) >= head {
			size = uint64(binary.BigEndian.Uint16(b[2:]))
		}
	case 127:
		if head = 10; len(b) >= head {
			size = binary.BigEndian.Uint64(b[2:])
		}
	}
	if len(b) < head || uint64(len(b)-head) < size {
		return 0, nil, 0
	}
	n = head + int(size) //nolint:gosec // at most len(b)
	return b[0] & 0xf, b[head:n], n
}

// text takes one message of the server.
func (p *peer) text(b []byte) error {
	if !p.crowd.wire.lines {
		return p.line(b)
	}
	for line := range bytes.Lines(b) {
		if err := p.line(bytes.TrimRight(line, "\n")); err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) line(b []byte) error {
	if p.stage.Load() == greeting {
		return p.greet(b)
	}
	h := p.crowd.wire.hear(b)
	switch h.kind {
	case pinged:
		return p.write(0x1, p.crowd.wire.pong)
	case refused:
		if p.stage.Load() == joining {
			return fmt.Errorf("the server refuses a join: %s", b)
		}
		p.answered(reply{number: h.id - 1, refused: true})
	case acked:
		if p.stage.Load() == joining {
			if err := p.caughtUp(b); err != nil {
				return err
			}
			p.stage.Store(inside)
			p.crowd.entered()
			return nil
		}
		p.answered(reply{number: h.id - 1})
	case delivered:
		p.crowd.delivered(p, h)
	}
	return nil
}

func (p *peer) answered(r reply) {
	if p.replies != nil {
		p.replies <- r
	}
}

// greet goes one step on, and joins after the last.
func (p *peer) greet(text []byte) error {
	say, done, err := p.crowd.wire.greet(text)
	if err == nil && say != nil {
		err = p.write(0x1, say)
	}
	if err != nil || !done {
		return err
	}
	p.stage.Store(joining)
	room := p.crowd.roomName(p.room)
	if p.back {
		return p.write(0x1, fmt.Appendf(nil, `{"id":0,"event":"join_room","data":{"room":%q,"since":%d}}`, room, p.since))
	}
	return p.write(0x1, p.crowd.wire.join(room))
}

// caughtUp compares the answer to a join with where the client was. Only clients of a storm ask.
func (p *peer) caughtUp(b []byte) error {
	c := p.crowd
	if c.What != storm {
		return nil
	}
	var ack struct {
		Data struct {
			Seq       uint64
			Recovered bool
			Messages  []struct{ Seq uint64 }
		}
	}
	if err := json.Unmarshal(b, &ack); err != nil {
		return err
	}
	if t := c.now.Load(); t != nil && p.back {
		at := p.since
		for _, m := range ack.Data.Messages {
			switch {
			case m.Seq <= at:
				t.twice.Add(1)
			case m.Seq != at+1:
				t.gaps.Add(1)
			}
			at = m.Seq
			t.deliveries.Add(1)
		}
		if at != ack.Data.Seq || !ack.Data.Recovered {
			t.gaps.Add(1)
		}
	}
	p.seq = ack.Data.Seq
	p.last.Store(p.seq)
	return nil
}

func (p *peer) write(op byte, payload []byte) error {
	_, err := p.conn.Write(frameOf(op, payload))
	return err
}

// fail ends a connection that the client has something against.
func (p *peer) fail(err error) {
	p.crowd.failed(fmt.Errorf("client %d: %w", p.index, err))
	p.stage.Store(over)
	_ = p.conn.Close()
}

// closed is called by the poller, last.
func (p *peer) closed() {
	c, stage := p.crowd, p.stage.Swap(over)
	if p.gone != nil {
		close(p.gone)
	}
	switch {
	case stage == over || c.closing.Load():
	case stage == inside:
		c.lost(codeText(p.code.Load()))
	default:
		c.failed(errors.New("the server ended a connection before it had joined, code " + codeText(p.code.Load())))
	}
}

func codeText(code uint32) string {
	if code == 0 {
		return "1006" // RFC 6455 section 7.1.5: ended without a close frame
	}
	return fmt.Sprint(code)
}
