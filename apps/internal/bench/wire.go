package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gorilla/websocket"
)

// wireSocketIO is the name of the other wire than the native one.
const wireSocketIO = "socketio"

// wire is how the clients speak.
type wire struct {
	path     string
	protocol []string
	// greet is said before anything else.
	greet func(*member) error
	// join and message are the events of clients. The ack has the same id.
	join    func(room string) []byte
	message func(id int, room, text string) []byte
	// hear says what has come.
	hear func(text []byte) heard
}

// heard is what a client was told.
type heard struct {
	kind kind
	id   int   // of an ack
	sent int64 // when a message was sent, in nanoseconds, by its text
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
	if name == wireSocketIO {
		return socketIO
	}
	return native
}

var native = wire{
	path: "/socket", protocol: []string{"parley.v1"},
	greet: func(*member) error { return nil },
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
			return heard{kind: delivered, sent: sentAt(text, `"text":"`)}
		}
		return heard{}
	},
}

var socketIO = wire{
	path: "/socket.io/?EIO=4&transport=websocket",
	greet: func(m *member) error {
		if _, _, err := m.ReadMessage(); err != nil { // the packet that opens the session
			return err
		}
		if err := m.write([]byte("40")); err != nil {
			return err
		}
		_, text, err := m.ReadMessage()
		if err == nil && !bytes.HasPrefix(text, []byte("40")) {
			err = fmt.Errorf("the server refuses a socket: %s", text)
		}
		return err
	},
	join: func(room string) []byte { return fmt.Appendf(nil, `420["join_room",{"name":%q}]`, room) },
	message: func(id int, room, text string) []byte {
		return fmt.Appendf(nil, `42%d["message",{"roomName":%q,"message":%q}]`, id, room, text)
	},
	hear: func(text []byte) heard {
		switch {
		case len(text) == 1 && text[0] == '2':
			return heard{kind: pinged}
		case bytes.HasPrefix(text, []byte("43")):
			return answer(text[2:], func(rest []byte) bool { return !bytes.HasPrefix(rest, []byte(`[{"error":`)) })
		case bytes.HasPrefix(text, []byte(`42["room-`)):
			if sent := sentAt(text, `"message":"`); sent != 0 { // a welcome has no time
				return heard{kind: delivered, sent: sent}
			}
		}
		return heard{}
	},
}

// answer reads the id of an ack.
func answer(text []byte, good func(rest []byte) bool) heard {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	id, err := strconv.Atoi(string(text[:n]))
	switch {
	case err != nil:
		return heard{}
	case good(text[n:]):
		return heard{kind: acked, id: id}
	}
	return heard{kind: refused, id: id}
}

// sentAt reads when a message was sent: its text begins with that. 0: it does not.
func sentAt(text []byte, member string) int64 {
	at := bytes.Index(text, []byte(member))
	if at < 0 || len(text) <= at+len(member)+19 {
		return 0
	}
	sent, err := strconv.ParseInt(string(text[at+len(member):at+len(member)+19]), 10, 64)
	if err != nil {
		return 0
	}
	return sent
}

// header carries a token.
func header(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// write sends a message: a member that sends also answers pings.
func (m *member) write(text []byte) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	return m.WriteMessage(websocket.TextMessage, text)
}
