package socketio_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// nobody is the handshake and the acceptor of a transport that only opens connections for Socket.IO.
type nobody struct{}

func (nobody) Token(context.Context, string) (socket.Identity, error) {
	return socket.Identity{}, fault.Unauthenticated
}

func (nobody) Ticket(context.Context, string) (socket.Identity, error) {
	return socket.Identity{}, fault.Unauthenticated
}

func (nobody) Accept(socket.Conn, socket.Hello) (socket.Receiver, error) {
	return nil, fault.Unauthenticated
}

// transport is nbiows.Server and netws.Server.
type transport interface {
	engineio.Upgrader
	Run(ctx context.Context) error
}

func newTransport(t testing.TB, name string) transport {
	t.Helper()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	var tr transport
	if name == "net" {
		tr, err = netws.New(netws.Config{Handshake: handshake, Acceptor: nobody{}, CloseTimeout: time.Second})
	} else {
		tr, err = nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: nobody{}, CloseTimeout: time.Second})
	}
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// serve runs a server over a transport until the test ends, or stop is called, and returns its address.
func serve(t testing.TB, over string, cfg socketio.Config) (url string, server *socketio.Server, stop func()) {
	t.Helper()
	tr := newTransport(t, over)
	cfg.Engine.Upgrader = tr
	cfg.Engine.CloseTimeout = time.Second
	server, err := socketio.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	carry, drop := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	carried, ended := make(chan error, 1), make(chan error, 1)
	go func() { carried <- tr.Run(carry) }()
	go func() { ended <- server.Run(ctx) }()
	web := httptest.NewServer(server)
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		drop()
		if err := <-carried; err != nil {
			t.Error(err)
		}
		web.Close()
	}
	t.Cleanup(stop)
	return web.URL + "/socket.io/", server, stop
}

// client is a client of Engine.IO. It reads in a goroutine of its own and answers pings.
type client struct {
	t      testing.TB
	url    string
	sid    string
	ws     *websocket.Conn // nil while on polling
	heard  chan string     // messages without their type; a binary one behind "b:"
	closed chan struct{}   // the session is over
}

// over are the ways in which a client can be connected.
var over = []string{"polling", "websocket", "upgraded"}

func dial(t testing.TB, url, how string) *client {
	t.Helper()
	c := &client{t: t, url: url, heard: make(chan string, 1024), closed: make(chan struct{})}
	var hello string
	if how == "websocket" {
		c.ws = c.webSocket()
		_, b, err := c.ws.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		hello = string(b)
	} else {
		status, body := c.get()
		if status != http.StatusOK {
			t.Fatalf("the handshake: %d %s", status, body)
		}
		hello = body
	}
	var open struct{ Sid string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(hello, "0")), &open); err != nil || open.Sid == "" {
		t.Fatalf("the handshake %q: %v", hello, err)
	}
	c.sid = open.Sid
	if how == "upgraded" {
		ws := c.webSocket()
		c.write(ws, "2probe")
		if _, b, err := ws.ReadMessage(); err != nil || string(b) != "3probe" {
			t.Fatalf("the probe: %q, %v", b, err)
		}
		if status, body := c.get(); status != http.StatusOK || body != "6" { // what a poll under way gets
			t.Fatalf("the poll: %d %q", status, body)
		}
		c.write(ws, "5")
		c.ws = ws
	}
	if c.ws != nil {
		go c.readSocket()
	} else {
		go c.poll()
	}
	t.Cleanup(func() {
		if c.ws != nil {
			_ = c.ws.Close()
		}
	})
	return c
}

func (c *client) query(transport string) string {
	q := "?EIO=4&transport=" + transport
	if c.sid != "" {
		q += "&sid=" + c.sid
	}
	return q
}

func (c *client) webSocket() *websocket.Conn {
	c.t.Helper()
	ws, answer, err := websocket.DefaultDialer.DialContext(c.t.Context(), "ws"+strings.TrimPrefix(c.url, "http")+c.query("websocket"), nil)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return ws
}

func (c *client) write(ws *websocket.Conn, packet string) {
	kind := websocket.TextMessage
	if b, ok := strings.CutPrefix(packet, "b:"); ok {
		kind, packet = websocket.BinaryMessage, b
	}
	_ = ws.WriteMessage(kind, []byte(packet)) // whether it is over is heard
}

func (c *client) get() (status int, body string) {
	answer, err := http.Get(c.url + c.query("polling"))
	if err != nil {
		return 0, ""
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b)
}

func (c *client) poll() {
	defer close(c.closed)
	for {
		status, body := c.get()
		if status != http.StatusOK {
			return
		}
		for packet := range strings.SplitSeq(body, "\x1e") {
			if !c.take(packet) {
				return
			}
		}
	}
}

func (c *client) readSocket() {
	defer close(c.closed)
	for {
		kind, b, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.BinaryMessage {
			c.heard <- "b:" + string(b)
		} else if !c.take(string(b)) {
			return
		}
	}
}

func (c *client) take(packet string) bool {
	switch packet[0] {
	case '1':
		return false
	case '2':
		c.send("3")
	case '4':
		c.heard <- packet[1:]
	case 'b':
		b, _ := base64.StdEncoding.DecodeString(packet[1:])
		c.heard <- "b:" + string(b)
	}
	return true
}

func (c *client) send(packets ...string) {
	if c.ws != nil {
		for _, p := range packets {
			c.write(c.ws, p)
		}
		return
	}
	for i, p := range packets {
		if b, ok := strings.CutPrefix(p, "b:"); ok {
			packets[i] = "b" + base64.StdEncoding.EncodeToString([]byte(b))
		}
	}
	answer, err := http.Post(c.url+c.query("polling"), "text/plain;charset=UTF-8", bytes.NewBufferString(strings.Join(packets, "\x1e")))
	if err == nil {
		_ = answer.Body.Close()
	}
}

// say sends packets of Socket.IO.
func (c *client) say(packets ...string) {
	all := make([]string, len(packets))
	for i, p := range packets {
		if all[i] = "4" + p; strings.HasPrefix(p, "b:") {
			all[i] = p
		}
	}
	c.send(all...)
}

func (c *client) next() string {
	c.t.Helper()
	select {
	case m := <-c.heard:
		return m
	case <-time.After(10 * time.Second):
		c.t.Fatal("nothing came")
		return ""
	}
}

func (c *client) hear(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

// connect joins a namespace and returns the socket's ID.
func (c *client) connect(packet string) string {
	c.t.Helper()
	c.say(packet)
	got := c.next()
	_, id, ok := strings.Cut(got, `{"sid":"`)
	if !ok {
		c.t.Fatalf("heard %q, want a connect", got)
	}
	return strings.TrimSuffix(id, `"}`)
}

func (c *client) over() {
	c.t.Helper()
	select {
	case <-c.closed:
	case <-time.After(10 * time.Second):
		c.t.Fatal("the session is not over")
	}
	select {
	case m := <-c.heard:
		c.t.Errorf("heard %q before the end", m)
	default:
	}
}

// everyWay runs a test over each transport of this module, in each way in which a client can be connected.
func everyWay(t *testing.T, test func(t *testing.T, transport, how string)) {
	t.Parallel()
	for _, tr := range []string{"nbio", "net"} {
		for _, how := range over {
			t.Run(fmt.Sprintf("%s/%s", tr, how), func(t *testing.T) {
				t.Parallel()
				test(t, tr, how)
			})
		}
	}
}
