package socketio

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/core/socket"
)

// fakeConn is a session of Engine.IO in memory: what is sent stays in it until the test takes it.
type fakeConn struct {
	mu      sync.Mutex
	frames  chan *socket.Frame
	queued  int
	closed  bool
	code    int
	reason  Reason
	asked   *Request
	kept    bool
	session *session
	gone    chan struct{}
}

func (f *fakeConn) Send(fr *socket.Frame) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errors.New("closed")
	}
	for m := range fr.Messages() {
		f.frames <- m
	}
	return nil
}

func (f *fakeConn) Queued() int { f.mu.Lock(); defer f.mu.Unlock(); return f.queued }

func (f *fakeConn) Close(code int, _ string) { f.end(code, "forced close") }

func (f *fakeConn) end(code int, why Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.closed, f.code, f.reason = true, code, why
	go func() { // never before Close has returned
		f.session.Disconnected()
		close(f.gone)
	}()
}

func (f *fakeConn) request() *Request { f.mu.Lock(); defer f.mu.Unlock(); return f.asked }
func (f *fakeConn) forget()           { f.mu.Lock(); defer f.mu.Unlock(); f.asked = nil }
func (f *fakeConn) keep()             { f.mu.Lock(); defer f.mu.Unlock(); f.kept = true }
func (f *fakeConn) why() Reason       { f.mu.Lock(); defer f.mu.Unlock(); return f.reason }

// fakeClient is the far end of one.
type fakeClient struct {
	t    testing.TB
	conn *fakeConn
}

func open(t testing.TB, c *core) *fakeClient {
	t.Helper()
	u, _ := url.Parse("http://localhost/socket.io/?EIO=4&name=ada")
	conn := &fakeConn{frames: make(chan *socket.Frame, 4096), gone: make(chan struct{}), asked: &Request{URL: u, Header: http.Header{}}}
	conn.session = &session{core: c, conn: conn}
	t.Cleanup(func() { conn.Close(socket.CloseNormal, "") })
	return &fakeClient{t, conn}
}

func newTestCore(t testing.TB, cfg Config) *core {
	t.Helper()
	c, err := newCore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	return c
}

// say sends packets, as text or, behind "b:", as binary.
func (f *fakeClient) say(packets ...string) {
	for _, p := range packets {
		f.conn.mu.Lock()
		closed := f.conn.closed
		f.conn.mu.Unlock()
		if closed {
			return
		}
		if b, ok := strings.CutPrefix(p, "b:"); ok {
			f.conn.session.Receive([]byte(b), true)
			continue
		}
		b := []byte(p)
		f.conn.session.Receive(b, false)
		clear(b) // it is the receiver's only until it returns
	}
}

func (f *fakeClient) next() string {
	f.t.Helper()
	select {
	case fr := <-f.conn.frames:
		if fr.Binary() {
			return "b:" + string(fr.Payload())
		}
		s, ok := strings.CutPrefix(string(fr.Payload()), "4")
		if !ok {
			f.t.Errorf("a frame without the type of a message: %q", fr.Payload())
		}
		return s
	case <-time.After(10 * time.Second):
		f.t.Fatal("nothing came")
		return ""
	}
}

func (f *fakeClient) hear(want ...string) {
	f.t.Helper()
	for _, w := range want {
		if got := f.next(); got != w {
			f.t.Fatalf("heard %q, want %q", got, w)
		}
	}
}

// connect joins a namespace and returns the socket's ID.
func (f *fakeClient) connect(packet string) string {
	f.t.Helper()
	f.say(packet)
	got := f.next()
	_, id, ok := strings.Cut(got, `{"sid":"`)
	if !ok || !strings.HasPrefix(got, "0") {
		f.t.Fatalf("heard %q, want a connect", got)
	}
	return strings.TrimSuffix(id, `"}`)
}

// silent holds that nothing more was sent.
func (f *fakeClient) silent() {
	f.t.Helper()
	select {
	case fr := <-f.conn.frames:
		f.t.Errorf("heard %q, want nothing", fr.Payload())
	default:
	}
}

// over waits for the end of the session.
func (f *fakeClient) over(code int) {
	f.t.Helper()
	select {
	case <-f.conn.gone:
		if f.conn.code != code {
			f.t.Errorf("closed with %d, want %d", f.conn.code, code)
		}
	case <-time.After(10 * time.Second):
		f.t.Fatal("the session was not closed")
	}
}

func within(t testing.TB, what string, c <-chan string) string {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal(what + " did not happen")
		return ""
	}
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}
