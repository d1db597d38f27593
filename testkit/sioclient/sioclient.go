// Package sioclient is a client of Socket.IO for tests: it speaks packets, right and wrong ones, over HTTP long-polling,
// over WebSocket, and after the upgrade from one to the other.
package sioclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Client is a client of Engine.IO that speaks packets of Socket.IO. It reads in a goroutine of its own and
// answers pings. Its methods are called by one goroutine, the test's.
type Client struct {
	// SID is the identifier of the session.
	SID string
	// WS is the WebSocket connection; nil while on polling.
	WS *websocket.Conn

	t      testing.TB
	url    string
	header http.Header
	heard  chan string   // messages without their type; a binary one behind "b:"
	closed chan struct{} // the session is over

	sending sync.Mutex // the reader answers pings while the test sends

	lost context.Context // ends with Drop
	drop context.CancelFunc

	mu     sync.Mutex
	pid    string
	offset *string
}

// Ways are the ways in which a client can be connected.
var Ways = []string{"polling", "websocket", "upgraded"}

// New makes a client that is not connected. url is where the server is, perhaps with a query; header goes with every
// request.
func New(t testing.TB, url string, header http.Header) *Client {
	if !strings.Contains(url, "?") {
		url += "?"
	}
	c := &Client{t: t, url: url, header: header, heard: make(chan string, 4096), closed: make(chan struct{})}
	c.lost, c.drop = context.WithCancel(t.Context())
	return c
}

// Dial opens a session in one of Ways. The test fails if it cannot.
func Dial(t testing.TB, url, how string, header http.Header) *Client {
	t.Helper()
	c := New(t, url, header)
	var hello string
	if how == "websocket" {
		c.WS = c.WebSocket()
		_, b, err := c.WS.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		hello = string(b)
	} else {
		status, body := c.Get()
		if status != http.StatusOK {
			t.Fatalf("the handshake: %d %s", status, body)
		}
		hello = body
	}
	c.Opened(hello)
	if how == "upgraded" {
		ws := c.WebSocket()
		c.Write(ws, "2probe")
		if _, b, err := ws.ReadMessage(); err != nil || string(b) != "3probe" {
			t.Fatalf("the probe: %q, %v", b, err)
		}
		if status, body := c.Get(); status != http.StatusOK || body != "6" { // what a poll under way gets
			t.Fatalf("the poll: %d %q", status, body)
		}
		c.Write(ws, "5")
		c.WS = ws
	}
	if c.WS != nil {
		go c.ReadSocket()
	} else {
		go c.poll()
	}
	t.Cleanup(func() {
		if c.WS != nil {
			_ = c.WS.Close()
		}
	})
	return c
}

// Opened takes the packet that opens a session.
func (c *Client) Opened(hello string) {
	c.t.Helper()
	var open struct{ Sid string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(hello, "0")), &open); err != nil || open.Sid == "" {
		c.t.Fatalf("the handshake %q: %v", hello, err)
	}
	c.SID = open.Sid
}

// Address is where the session's requests of a transport go.
func (c *Client) Address(transport string) string {
	q := "&EIO=4&transport=" + transport
	if c.SID != "" {
		q += "&sid=" + c.SID
	}
	return c.url + q
}

// WebSocket opens a WebSocket connection for the session, or for one that is to be.
func (c *Client) WebSocket() *websocket.Conn {
	c.t.Helper()
	ws, answer, err := websocket.DefaultDialer.DialContext(c.t.Context(), "ws"+strings.TrimPrefix(c.Address("websocket"), "http"), c.header)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return ws
}

// Write sends one packet of Engine.IO over ws; one behind "b:" is binary.
func (c *Client) Write(ws *websocket.Conn, packet string) {
	kind := websocket.TextMessage
	if b, ok := strings.CutPrefix(packet, "b:"); ok {
		kind, packet = websocket.BinaryMessage, b
	}
	_ = ws.WriteMessage(kind, []byte(packet)) // whether it is over is heard
}

// Get polls once. status is 0 if there is no answer.
func (c *Client) Get() (status int, body string) {
	answer := c.do(http.MethodGet, nil)
	if answer == nil {
		return 0, ""
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(b)
}

func (c *Client) do(method string, body io.Reader) *http.Response {
	r, err := http.NewRequestWithContext(c.lost, method, c.Address("polling"), body)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil
	}
	return answer
}

func (c *Client) poll() {
	defer close(c.closed)
	for {
		status, body := c.Get()
		if status != http.StatusOK {
			return
		}
		for packet := range strings.SplitSeq(body, "\x1e") {
			if !c.Take(packet) {
				return
			}
		}
	}
}

// ReadSocket reads from WS until it ends.
func (c *Client) ReadSocket() {
	defer close(c.closed)
	for {
		kind, b, err := c.WS.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.BinaryMessage {
			c.heard <- "b:" + string(b)
		} else if !c.Take(string(b)) {
			return
		}
	}
}

// Take takes one packet of Engine.IO. It reports false for the one that closes.
func (c *Client) Take(packet string) bool {
	switch packet[0] {
	case '1':
		return false
	case '2':
		c.Send("3")
	case '4':
		if packet = c.noted(packet[1:]); packet != "" {
			c.heard <- packet
		}
	case 'b':
		b, _ := base64.StdEncoding.DecodeString(packet[1:])
		c.heard <- "b:" + string(b)
	}
	return true
}

// noted keeps what a client needs for connection state recovery, as the stock one does: the pid of the main namespace,
// and once it has one, the last argument of each event, if it is a string, which is taken off. Nothing is left of
// an event that has no name.
func (c *Client) noted(packet string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(packet, "0{") {
		var answer struct{ PID string }
		_ = json.Unmarshal([]byte(packet[1:]), &answer)
		c.pid = answer.PID
		return packet
	}
	at := strings.LastIndex(packet, `,"`)
	if c.pid == "" || !strings.HasPrefix(packet, "2[") || !strings.HasSuffix(packet, `"]`) || at < 0 {
		return packet
	}
	var offset string
	if json.Unmarshal([]byte(packet[at+1:len(packet)-1]), &offset) != nil {
		return packet
	}
	c.offset = &offset
	if packet = packet[:at] + "]"; packet == `2[""]` {
		return ""
	}
	return packet
}

// Drop loses the connection without a word, and waits until nothing more is heard.
func (c *Client) Drop() {
	c.drop()
	if c.WS != nil {
		_ = c.WS.NetConn().Close()
	}
	<-c.closed
}

// PID returns the private identifier that the client was given; empty without one.
func (c *Client) PID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Offset returns the last offset that was heard; empty without one.
func (c *Client) Offset() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.offset == nil {
		return ""
	}
	return *c.offset
}

// Back is the packet that joins the main namespace for a client that was here before, with further members of its auth.
func (c *Client) Back(auth map[string]string) string {
	all := map[string]string{}
	maps.Copy(all, auth)
	if c.PID() != "" {
		all["pid"], all["offset"] = c.PID(), c.Offset()
	}
	b, _ := json.Marshal(all) // strings are always JSON
	return "0" + string(b)
}

// Send sends packets of Engine.IO, on polling all in one request.
func (c *Client) Send(packets ...string) {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.WS != nil {
		for _, p := range packets {
			c.Write(c.WS, p)
		}
		return
	}
	for i, p := range packets {
		if b, ok := strings.CutPrefix(p, "b:"); ok {
			packets[i] = "b" + base64.StdEncoding.EncodeToString([]byte(b))
		}
	}
	if answer := c.do(http.MethodPost, strings.NewReader(strings.Join(packets, "\x1e"))); answer != nil {
		_ = answer.Body.Close()
	}
}

// Say sends packets of Socket.IO; one behind "b:" is an attachment.
func (c *Client) Say(packets ...string) {
	all := make([]string, len(packets))
	for i, p := range packets {
		if all[i] = "4" + p; strings.HasPrefix(p, "b:") {
			all[i] = p
		}
	}
	c.Send(all...)
}

// Next returns what comes next: a packet of Socket.IO, or an attachment behind "b:".
func (c *Client) Next() string {
	c.t.Helper()
	select {
	case m := <-c.heard:
		return m
	case <-time.After(10 * time.Second):
		c.t.Fatal("nothing came")
		return ""
	}
}

// Hear fails the test unless these come next.
func (c *Client) Hear(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.Next(); got != w {
			c.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

// Connect sends the packet that joins a namespace, and returns the socket's ID.
func (c *Client) Connect(packet string) string {
	c.t.Helper()
	c.Say(packet)
	got := c.Next()
	_, data, ok := strings.Cut(got, "{")
	var answer struct{ Sid string }
	if !ok || json.Unmarshal([]byte("{"+data), &answer) != nil || answer.Sid == "" {
		c.t.Fatalf("heard %q, want a connect", got)
	}
	return answer.Sid
}

// Over waits for the end of the session, before which nothing more may come.
func (c *Client) Over() {
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
