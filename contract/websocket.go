package contract

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	rsv1 = 0x40 // says that a message is compressed
)

// maxClientFrame bounds what a [Client] believes a frame's header.
const maxClientFrame = 64 << 20

// errCut says that the client itself has cut its connection.
var errCut = errors.New("contract: the client has cut the connection")

// DialWebSocket connects a WebSocket client (RFC 6455) to rawURL ("ws://…" or
// "http://…") with the given request header, which may be nil. If that offers permessage-deflate as Sec-WebSocket-Extensions and the
// server agrees, the client reads messages that are compressed without context takeover (RFC 7692); it compresses nothing itself. The client does nothing by itself: it reads when
// it is told to, so that a test can be a slow or silent client. Whoever dials cuts.
//
// A refused handshake is an error that names the HTTP status.
func DialWebSocket(ctx context.Context, rawURL string, header http.Header) (Client, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("contract: dial: %w", err)
	}
	if u.Scheme != "ws" && u.Scheme != "http" {
		return nil, fmt.Errorf("contract: dial %q: the scheme is neither ws nor http", rawURL)
	}
	u.Scheme = "http"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("contract: dial: %w", err)
	}
	if header != nil {
		req.Header = header.Clone()
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", key)

	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("contract: dial: %w", err)
	}
	c := &webSocket{conn: conn, br: bufio.NewReader(conn)}
	if err := c.handshake(ctx, req, key); err != nil {
		return nil, errors.Join(fmt.Errorf("contract: handshake with %s: %w", rawURL, err), conn.Close())
	}
	return c, nil
}

// webSocket is the client of DialWebSocket.
type webSocket struct {
	conn net.Conn
	br   *bufio.Reader
	kept []Message // read by Ping, not yet by Read

	deflate   bool   // messages may be compressed
	partial   []byte // of a fragmented message
	partialOp byte   // 0 when there is none, with rsv1 when it is compressed
	closeSent bool
	cut       bool
}

var _ Client = (*webSocket)(nil)

// under makes the end of ctx end an operation on the connection. The operation's error is then
// that of ctx.
func (c *webSocket) under(ctx context.Context, do func() error) error {
	if c.cut {
		return errCut
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	err := do()
	if !stop() { // the deadline was, or is being, set
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

func (c *webSocket) handshake(ctx context.Context, req *http.Request, key string) error {
	return c.under(ctx, func() error {
		if err := req.Write(c.conn); err != nil {
			return err
		}
		res, err := http.ReadResponse(c.br, req)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusSwitchingProtocols {
			_ = res.Body.Close()
			return fmt.Errorf("status %s", res.Status)
		}
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 4.2.2
		if want := base64.StdEncoding.EncodeToString(sum[:]); res.Header.Get("Sec-WebSocket-Accept") != want {
			return fmt.Errorf("Sec-WebSocket-Accept is %q, want %q", res.Header.Get("Sec-WebSocket-Accept"), want)
		}
		answer := res.Header.Get("Sec-WebSocket-Extensions")
		c.deflate = strings.HasPrefix(answer, "permessage-deflate")
		if answer != "" && (!c.deflate || !strings.HasPrefix(req.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")) {
			return fmt.Errorf("Sec-WebSocket-Extensions is %q, which was not offered", answer)
		}
		return nil
	})
}

func (c *webSocket) Write(ctx context.Context, binaryMessage bool, parts ...[]byte) error {
	op := byte(opText)
	if binaryMessage {
		op = opBinary
	}
	var wire []byte
	for i, part := range parts {
		wire = appendFrame(wire, op, i == len(parts)-1, part)
		op = opContinuation
	}
	return c.under(ctx, func() error { _, err := c.conn.Write(wire); return err })
}

func (c *webSocket) Read(ctx context.Context) (Message, error) {
	if len(c.kept) > 0 {
		m := c.kept[0]
		c.kept = slices.Delete(c.kept, 0, 1)
		return m, nil
	}
	for {
		m, op, err := c.next(ctx)
		if err != nil {
			return Message{}, err
		}
		if op != opPong {
			return m, nil
		}
	}
}

func (c *webSocket) Ping(ctx context.Context, payloads ...[]byte) error {
	var wire []byte
	for _, payload := range payloads {
		wire = appendFrame(wire, opPing, true, payload)
	}
	if err := c.under(ctx, func() error { _, err := c.conn.Write(wire); return err }); err != nil {
		return err
	}
	for i := 0; i < len(payloads); {
		m, op, err := c.next(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("waiting for pong %d of %d: %w", i+1, len(payloads), err)
		case op != opPong:
			c.kept = append(c.kept, m)
		case !bytes.Equal(m.Payload, payloads[i]):
			return fmt.Errorf("pong %d of %d has the payload %q, want %q", i+1, len(payloads), m.Payload, payloads[i])
		default:
			i++
		}
	}
	return nil
}

func (c *webSocket) Close(ctx context.Context, code int, reason string) error {
	c.closeSent = true
	wire := appendFrame(nil, opClose, true, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
	return c.under(ctx, func() error { _, err := c.conn.Write(wire); return err })
}

func (c *webSocket) Cut() error {
	if c.cut {
		return nil
	}
	c.cut = true
	return c.conn.Close()
}

// next reads up to the end of a message or a pong. It answers pings and the close frame.
func (c *webSocket) next(ctx context.Context) (m Message, op byte, err error) {
	err = c.under(ctx, func() error { m, op, err = c.read(); return err })
	return m, op, err
}

func (c *webSocket) read() (Message, byte, error) {
	for {
		final, op, payload, err := c.readFrame()
		if err != nil {
			return Message{}, 0, err
		}
		switch op {
		case opPong:
			return Message{Payload: payload}, op, nil
		case opPing:
			if _, err := c.conn.Write(appendFrame(nil, opPong, true, payload)); err != nil {
				return Message{}, 0, err
			}
		case opClose:
			return Message{}, 0, c.closed(payload)
		case opText, opBinary, opText | rsv1, opBinary | rsv1:
			if c.partialOp != 0 {
				return Message{}, 0, errors.New("a message began inside another")
			}
			if final {
				return whole(op, payload)
			}
			c.partialOp, c.partial = op, payload
		case opContinuation:
			if c.partialOp == 0 {
				return Message{}, 0, errors.New("a message was continued that had not begun")
			}
			c.partial = append(c.partial, payload...)
			if final {
				payload, op := c.partial, c.partialOp
				c.partialOp, c.partial = 0, nil
				return whole(op, payload)
			}
		default:
			return Message{}, 0, fmt.Errorf("a frame has the unknown opcode %#x", op)
		}
	}
}

// whole makes a message of its payload, and of the opcode of its first frame.
func whole(op byte, payload []byte) (Message, byte, error) {
	if op&rsv1 != 0 {
		// What a message lacks, and an empty last block (RFC 7692 section 7.2.2).
		r := flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
		var err error
		if payload, err = io.ReadAll(io.LimitReader(r, maxClientFrame)); err != nil {
			return Message{}, 0, fmt.Errorf("a compressed message cannot be inflated: %w", err)
		}
		op &^= rsv1
	}
	return Message{Payload: payload, Binary: op == opBinary}, op, nil
}

// closed answers a close frame and returns it as an error.
func (c *webSocket) closed(payload []byte) error {
	found := &Closed{Code: 1005} // RFC 6455 section 7.1.5: no code
	if len(payload) == 1 {
		return errors.New("a close frame has a payload of one byte")
	}
	if len(payload) >= 2 {
		found.Code, found.Reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
	}
	if !c.closeSent {
		c.closeSent = true
		// The server may have gone without waiting: what it said counts all the same.
		_, _ = c.conn.Write(appendFrame(nil, opClose, true, payload[:min(2, len(payload))]))
	}
	return found
}

// readFrame returns opcodes with rsv1, if that is set.
func (c *webSocket) readFrame() (final bool, op byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c.br, head[:2]); err != nil {
		return false, 0, nil, err
	}
	final, op = head[0]&0x80 != 0, head[0]&(0x0f|rsv1)
	if head[0]&0x30 != 0 || (op&rsv1 != 0 && !c.deflate) || head[1]&0x80 != 0 {
		return false, 0, nil, fmt.Errorf("a frame begins with %#x: reserved bits or a mask", head[:2])
	}
	n := uint64(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(c.br, head[:2])
		n = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(c.br, head[:])
		n = binary.BigEndian.Uint64(head[:])
	}
	if err != nil {
		return false, 0, nil, err
	}
	if n > maxClientFrame || (op&0x0f >= opClose && (n > 125 || !final)) {
		return false, 0, nil, fmt.Errorf("a frame with opcode %#x has %d bytes", op, n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.br, payload)
	return final, op, payload, err
}

// appendFrame appends one frame as a client sends it, which is masked (RFC 6455 section 5.3).
func appendFrame(dst []byte, op byte, final bool, payload []byte) []byte {
	if final {
		op |= 0x80
	}
	dst = append(dst, op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	var mask [4]byte
	_, _ = rand.Read(mask[:]) // never fails
	dst = append(dst, mask[:]...)
	for i, b := range payload {
		dst = append(dst, b^mask[i%4])
	}
	return dst
}
