package bench

import (
	"strings"
)

// hostility is what is sent, after a join or as the first bytes of a connection.
type hostility struct {
	inside bool
	bytes  []byte
}

// hostilities are wrong in one way each (RFC 6455 section 5, RFC 9112, and the schema of events).
func hostilities() map[string]hostility {
	masked := func(first byte, payload string) []byte {
		b := frameOf(0x1, []byte(payload))
		b[0] = first
		return b
	}
	inside := func(b []byte) hostility { return hostility{inside: true, bytes: b} }
	first := func(text string) hostility { return hostility{bytes: []byte(text)} }
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(i*7919>>3 ^ i*31)
	}
	const handshake = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
	return map[string]hostility{
		"noise":                          {bytes: noise},
		"a hello of TLS":                 first("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(noise[:512])),
		"the preface of HTTP/2":          first("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		"headers of 200 KiB":             first("GET /socket HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n"),
		"two lengths":                    first("POST /auth/signin HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n{}{}}"),
		"a length and chunks":            first("POST /auth/signin HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n"),
		"a space before a colon":         first("GET /socket HTTP/1.1\r\nHost : a\r\n\r\n"),
		"a handshake of another version": first(handshake + "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
		"a handshake without a key":      first(handshake + "Sec-WebSocket-Version: 13\r\n\r\n"),
		"a handshake without a token":    first(handshake + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
		"no mask":                        inside([]byte("\x81\x02{}")),
		"a reserved bit":                 inside(masked(0xc1, "{}")),
		"opcode 3":                       inside(masked(0x83, "{}")),
		"opcode 15":                      inside(masked(0x8f, "{}")),
		"a ping in pieces":               inside(masked(0x09, "{}")),
		"a long ping":                    inside(masked(0x89, strings.Repeat("x", 126))),
		"a close of one byte":            inside(masked(0x88, "\x03")),
		"a close with 1005":              inside(masked(0x88, "\x03\xed")),
		"a piece of nothing":             inside(masked(0x80, "{}")),
		"a length of 2^63":               inside([]byte("\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd")),
		"a length of 1 GiB":              inside([]byte("\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00abcd")),
		"a binary message":               inside(masked(0x82, "{}")),
		"text that is not UTF-8":         inside(masked(0x81, "{\"event\":\"\xff\"}")),
		"half a JSON":                    inside(masked(0x81, `{"event":`)),
		"JSON 20,000 deep":               inside(masked(0x81, strings.Repeat("[", 20_000))),
		"a field twice":                  inside(masked(0x81, `{"event":"healthCheck","event":"presence","data":{}}`)),
		"an unknown event":               inside(masked(0x81, `{"event":"shutdown","data":{}}`)),
		"a room that is a number":        inside(masked(0x81, `{"event":"join_room","data":{"room":1}}`)),
		"a text of 1 MiB":                inside(masked(0x81, `{"event":"message","data":{"room":"elsewhere","text":"`+strings.Repeat("x", 1<<20)+`"}}`)),
	}
}
