package socket

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"unicode/utf8"
)

// What a server writes beside messages (RFC 6455 section 5.5), for transports that write WebSocket as it is.
const (
	finalClose = 0x88
	finalPong  = 0x8a
	// PingFrame is an empty ping.
	PingFrame = "\x89\x00"
)

// SwitchingProtocols is the answer that makes a connection a WebSocket (RFC 6455 section 4.2.2): key is what the client
// sent as Sec-WebSocket-Key, protocol the subprotocol, and extensions what [TransportConfig.Extensions] answers; empty for none.
func SwitchingProtocols(key, protocol, extensions string) []byte {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	b := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if protocol != "" {
		b = append(append(b, "\r\nSec-WebSocket-Protocol: "...), protocol...)
	}
	if extensions != "" {
		b = append(append(b, "\r\nSec-WebSocket-Extensions: "...), extensions...)
	}
	return append(b, "\r\n\r\n"...)
}

// CloseFrame is a whole close frame; see [CloseReason]. A code that must not be sent becomes 1011.
func CloseFrame(code int, reason string) []byte {
	if !MaySend(code) {
		code = CloseInternalError
	}
	reason = CloseReason(reason)
	b := append(make([]byte, 0, 4+len(reason)), finalClose, byte(2+len(reason)))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, reason...)
}

// AnswerClose is the close frame that answers one with this payload, which has the same code (RFC 6455 section 5.5.1).
// If the payload is against the rules, the connection fails with code instead; otherwise code is zero.
func AnswerClose(payload []byte) (answer []byte, code int) {
	switch {
	case len(payload) == 0:
		return []byte{finalClose, 0}, 0
	case len(payload) == 1 || !MaySend(int(binary.BigEndian.Uint16(payload))):
		return nil, CloseProtocolError
	case !utf8.Valid(payload[2:]):
		return nil, CloseInvalidUTF8
	default:
		return []byte{finalClose, 2, payload[0], payload[1]}, 0
	}
}

// Pongs are the pongs that wait to be written, each a whole frame. The zero Pongs has none.
type Pongs struct {
	wire  []byte
	count int
}

// Add appends the answer to a ping with this payload, which has at most 125 bytes. If there would be more than most, which is at
// least one, the oldest goes: the latest ping has to be answered (RFC 6455 section 5.5.3), and a flood has a bound.
func (p *Pongs) Add(payload []byte, most int) {
	if p.count == most {
		p.wire = append(p.wire[:0], p.wire[2+int(p.wire[1]):]...)
		p.count--
	}
	p.wire = append(append(p.wire, finalPong, byte(len(payload))), payload...)
	p.count++
}

// WebSocket is all of them as they are written. It is valid until the next Add.
func (p *Pongs) WebSocket() []byte { return p.wire }

// Len is the length of WebSocket.
func (p *Pongs) Len() int { return len(p.wire) }

// Take removes all of them and returns what WebSocket was.
func (p *Pongs) Take() []byte {
	wire := p.wire
	*p = Pongs{}
	return wire
}
