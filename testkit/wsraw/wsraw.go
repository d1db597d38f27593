// Package wsraw is a WebSocket client for tests of servers: it sends the frames that it is told to,
// allowed or not (RFC 6455), and does nothing by itself. It stands on the standard library alone.
package wsraw

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// The opcodes of RFC 6455 section 5.2.
const (
	OpContinuation = 0x0
	OpText         = 0x1
	OpBinary       = 0x2
	OpClose        = 0x8
	OpPing         = 0x9
	OpPong         = 0xa
)

// maxRawFrame bounds what [Conn.Read] believes a frame's header.
const maxRawFrame = 64 << 20

// Conn is a WebSocket connection. Reading and writing may happen at the same time; each by one
// goroutine. Make one with [Dial].
type Conn struct {
	// Header is that of the server's answer to the handshake.
	Header http.Header

	conn net.Conn
	br   *bufio.Reader
	stop func() bool
}

// Dial shakes hands with rawURL ("ws://…") and sends early right behind the handshake,
// before it was answered. The connection is closed when ctx ends, or by Close.
//
// A refused handshake is a *[HandshakeError].
func Dial(ctx context.Context, rawURL string, header http.Header, early []byte) (*Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("wsraw: dial: %w", err)
	}
	u.Scheme = "http"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("wsraw: dial: %w", err)
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	req.Header = http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key":     {base64.StdEncoding.EncodeToString(nonce[:])},
	}
	for name, values := range header {
		req.Header[name] = values
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("wsraw: dial: %w", err)
	}
	r := &Conn{conn: conn, br: bufio.NewReader(conn)}
	r.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := r.handshake(req, early); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Conn) handshake(req *http.Request, early []byte) error {
	w := bufio.NewWriter(r.conn)
	err := req.Write(w)
	if err == nil {
		_, err = w.Write(early)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return fmt.Errorf("wsraw: handshake: %w", err)
	}
	res, err := http.ReadResponse(r.br, req)
	if err != nil {
		return fmt.Errorf("wsraw: handshake: %w", err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return refused(res)
	}
	r.Header = res.Header
	return res.Body.Close() // it has none
}

// Frame is one frame. The zero values of its fields make no valid frame: Final is usually true.
type Frame struct {
	Final    bool
	Reserved byte // the three reserved bits, 0 to 7
	Opcode   byte
	Unmasked bool // as a server sends it
	Payload  []byte
	// Length, if not zero, is announced in place of the payload's length.
	Length uint64
}

// Append appends the frame as it goes over the wire.
func (f Frame) Append(dst []byte) []byte {
	first := f.Opcode&0x0f | f.Reserved&7<<4
	if f.Final {
		first |= 0x80
	}
	var mask byte
	if !f.Unmasked {
		mask = 0x80
	}
	n := uint64(len(f.Payload))
	if f.Length != 0 {
		n = f.Length
	}
	switch {
	case n < 126:
		dst = append(dst, first, mask|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, first, mask|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, mask|127), n)
	}
	if f.Unmasked {
		return append(dst, f.Payload...)
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	dst = append(dst, key[:]...)
	for i, b := range f.Payload {
		dst = append(dst, b^key[i%4])
	}
	return dst
}

// CloseFrame is a close frame with a code; code 0 makes one without.
func CloseFrame(code int, reason string) Frame {
	f := Frame{Final: true, Opcode: OpClose}
	if code != 0 {
		f.Payload = append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	}
	return f
}

// Write sends bytes as they are.
func (r *Conn) Write(b []byte) error {
	_, err := r.conn.Write(b)
	return err
}

// Send sends frames, all in one write.
func (r *Conn) Send(frames ...Frame) error {
	var b []byte
	for _, f := range frames {
		b = f.Append(b)
	}
	return r.Write(b)
}

// Read returns the next frame. io.EOF means that the server has ended the connection.
func (r *Conn) Read() (Frame, error) {
	var head [8]byte
	if _, err := io.ReadFull(r.br, head[:2]); err != nil {
		return Frame{}, err
	}
	f := Frame{Final: head[0]&0x80 != 0, Reserved: head[0] >> 4 & 7, Opcode: head[0] & 0x0f, Unmasked: head[1]&0x80 == 0}
	n := uint64(head[1] & 0x7f)
	var err error
	switch n {
	case 126:
		_, err = io.ReadFull(r.br, head[:2])
		n = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(r.br, head[:])
		n = binary.BigEndian.Uint64(head[:])
	}
	switch {
	case err != nil:
		return Frame{}, err
	case !f.Unmasked:
		return Frame{}, errors.New("wsraw: the server masks its frames")
	case n > maxRawFrame:
		return Frame{}, fmt.Errorf("wsraw: the server announces a frame of %d bytes", n)
	}
	f.Payload = make([]byte, n)
	_, err = io.ReadFull(r.br, f.Payload)
	return f, err
}

// ReadClose reads up to the server's close frame and returns its code, 1005 if it has none. An
// error says that the connection ended without one.
func (r *Conn) ReadClose() (code int, reason string, err error) {
	for {
		f, err := r.Read()
		switch {
		case err != nil:
			return 0, "", fmt.Errorf("wsraw: no close frame: %w", err)
		case f.Opcode != OpClose:
			continue
		case len(f.Payload) < 2:
			return 1005, "", nil
		default:
			return int(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:]), nil
		}
	}
}

// Close closes the TCP connection, without a close frame. Closing twice is harmless.
func (r *Conn) Close() error {
	r.stop()
	if err := r.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Reset ends the TCP connection with a reset.
func (r *Conn) Reset() error {
	if tcp, ok := r.conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return r.Close()
}

// HandshakeError is the answer of a server that refuses a handshake.
type HandshakeError struct {
	Status int
	Body   string // its beginning
}

// Error names status and body.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("wsraw: the handshake was refused with status %d: %s", e.Status, e.Body)
}

// refused makes the error of a response, and closes its body.
func refused(res *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // what there is of it
	_ = res.Body.Close()
	return &HandshakeError{Status: res.StatusCode, Body: string(body)}
}
