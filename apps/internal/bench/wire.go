package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
)

// The names of the wires.
const (
	wireNative     = "native"
	wireSocketIO   = "socketio"
	wireCentrifuge = "centrifuge"
)

// wire is how the clients speak.
type wire struct {
	path     string
	protocol string
	// lines says that one message of the server may hold several, one a line.
	lines bool
	// greet is asked what to say before anything else: first without a text, then with each that comes, until it is done.
	greet func(text []byte) (say []byte, done bool, err error)
	// join and message are the events of clients. The ack has the same id, which is 0 for a join.
	join    func(room string) []byte
	message func(id int, room, text string) []byte
	pong    []byte
	// hear says what has come.
	hear func(text []byte) heard
}

// heard is what a client was told.
type heard struct {
	kind   kind
	id     int    // of an ack
	sent   int64  // when a message was sent, in nanoseconds, by its text
	number int    // of the message among all, by its text
	seq    uint64 // of the message in its room; 0 where the wire has none
}

type kind uint8

const (
	somethingElse kind = iota
	acked
	refused
	delivered
	pinged
)

func wireOf(name string) wire {
	switch name {
	case wireSocketIO:
		return socketIO
	case wireCentrifuge:
		return centrifuge
	}
	return native
}

var native = wire{
	path: "/socket", protocol: "parley.v1",
	greet: func([]byte) ([]byte, bool, error) { return nil, true, nil },
	join: func(room string) []byte {
		return fmt.Appendf(nil, `{"id":0,"event":"join_room","data":{"room":%q}}`, room)
	},
	message: func(id int, room, text string) []byte {
		return fmt.Appendf(nil, `{"id":%d,"event":"message","data":{"room":%q,"text":%q}}`, id, room, text)
	},
	hear: func(text []byte) heard {
		if rest, ok := bytes.CutPrefix(text, []byte(`{"id":`)); ok {
			return answer(rest, func(rest []byte) bool { return bytes.HasPrefix(rest, []byte(`,"event":"ack"`)) })
		}
		if bytes.HasPrefix(text, []byte(`{"event":"message"`)) {
			h := saidIn(text, `"text":"`)
			h.seq, _ = digits(after(text, `"seq":`))
			return h
		}
		return heard{}
	},
}

var socketIO = wire{
	path: "/socket.io/?EIO=4&transport=websocket",
	greet: func(text []byte) ([]byte, bool, error) {
		switch {
		case text == nil:
			return nil, false, nil
		case bytes.HasPrefix(text, []byte("0{")): // the packet that opens the session
			return []byte("40"), false, nil
		case bytes.HasPrefix(text, []byte("40")):
			return nil, true, nil
		}
		return nil, false, fmt.Errorf("the server refuses a socket: %s", text)
	},
	join: func(room string) []byte { return fmt.Appendf(nil, `420["join_room",{"name":%q}]`, room) },
	message: func(id int, room, text string) []byte {
		return fmt.Appendf(nil, `42%d["message",{"roomName":%q,"message":%q}]`, id, room, text)
	},
	pong: []byte("3"),
	hear: func(text []byte) heard {
		switch {
		case len(text) == 1 && text[0] == '2':
			return heard{kind: pinged}
		case bytes.HasPrefix(text, []byte("43")):
			return answer(text[2:], func(rest []byte) bool { return !bytes.HasPrefix(rest, []byte(`[{"error":`)) })
		case bytes.HasPrefix(text, []byte(`42["room-`)):
			if h := saidIn(text, `"message":"`); h.sent != 0 { // a welcome has no time
				return h
			}
		}
		return heard{}
	},
}

// centrifuge is the JSON protocol of Centrifuge and Centrifugo, without a token: a channel is a room. See
// https://centrifugal.dev/docs/transports/client_protocol. Ids begin at 1 there, and the first two are taken.
var centrifuge = wire{
	path: "/connection/websocket", lines: true,
	greet: func(text []byte) ([]byte, bool, error) {
		switch {
		case text == nil:
			return []byte(`{"id":1,"connect":{}}`), false, nil
		case bytes.HasPrefix(text, []byte(`{"id":1,"connect":`)):
			return nil, true, nil
		}
		return nil, false, fmt.Errorf("the server refuses a connection: %s", text)
	},
	join: func(room string) []byte { return fmt.Appendf(nil, `{"id":2,"subscribe":{"channel":%q}}`, room) },
	message: func(id int, room, text string) []byte {
		return fmt.Appendf(nil, `{"id":%d,"publish":{"channel":%q,"data":{"text":%q}}}`, id+2, room, text)
	},
	pong: []byte("{}"),
	hear: func(text []byte) heard {
		if bytes.Equal(text, []byte("{}")) {
			return heard{kind: pinged}
		}
		if rest, ok := bytes.CutPrefix(text, []byte(`{"id":`)); ok {
			h := answer(rest, func(rest []byte) bool { return !bytes.HasPrefix(rest, []byte(`,"error":`)) })
			h.id -= 2
			return h
		}
		return saidIn(text, `"text":"`)
	},
}

// answer reads the id of an ack.
func answer(text []byte, good func(rest []byte) bool) heard {
	id, rest := digits(text)
	switch {
	case len(rest) == len(text):
		return heard{}
	case good(rest):
		return heard{kind: acked, id: int(id)} //nolint:gosec // fits
	}
	return heard{kind: refused, id: int(id)} //nolint:gosec // fits
}

// A message begins with when it was sent, and with its number among all.
const textHead = "%019d %08d "

// minSize is the least bytes of a text: its head and a little.
const minSize = 32

// textOf writes the text of a message of so many bytes.
func textOf(sent int64, number, size int) string {
	head := fmt.Sprintf(textHead, sent, number)
	return head + string(slices.Repeat([]byte{'x'}, max(0, size-len(head))))
}

// saidIn reads the head of the text that stands behind a name. It is no delivery if there is none.
func saidIn(text []byte, name string) heard {
	sent, rest := digits(after(text, name))
	if len(rest) < 9 || sent == 0 || rest[0] != ' ' {
		return heard{}
	}
	number, _ := digits(rest[1:])
	return heard{kind: delivered, sent: int64(sent), number: int(number)} //nolint:gosec // both fit
}

// after returns what stands behind a name, nil if it is not there.
func after(text []byte, name string) []byte {
	at := bytes.Index(text, []byte(name))
	if at < 0 {
		return nil
	}
	return text[at+len(name):]
}

// digits reads a number and returns what stands behind it.
func digits(text []byte) (n uint64, rest []byte) {
	for len(text) > 0 && text[0] >= '0' && text[0] <= '9' {
		n = n*10 + uint64(text[0]-'0')
		text = text[1:]
	}
	return n, text
}

// request is the handshake of a client.
func (w wire) request(host, path, token string) []byte {
	h := http.Header{
		"Host": {host}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {handshakeKey},
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if w.protocol != "" {
		h.Set("Sec-Websocket-Protocol", w.protocol)
	}
	var b bytes.Buffer
	b.WriteString("GET " + path + " HTTP/1.1\r\n")
	_ = h.Write(&b) // to memory
	b.WriteString("\r\n")
	return b.Bytes()
}

// The key of every handshake and the answer to it: those of RFC 6455 section 1.3.
const (
	handshakeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	handshakeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// frameOf is a text as a client sends it. It is masked with zeros, which costs nothing: no cache stands in between.
func frameOf(op byte, text []byte) []byte {
	b := make([]byte, 0, len(text)+14)
	b = append(b, 0x80|op)
	switch n := len(text); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(append(b, 0, 0, 0, 0), text...)
}
