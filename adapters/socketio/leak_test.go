package socketio_test

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/testkit/sioclient"
)

// eventually waits until what is asked is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("not so after 10 seconds: %s", what)
		}
	}
}

// TestAnIdleSocketHasNoGoroutine holds that, on nbiows. It is not parallel: it counts.
func TestAnIdleSocketHasNoGoroutine(t *testing.T) {
	url, server, _ := serve(t, "nbio", socketio.Config{Forget: true, Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
	enter := func() {
		c := sioclient.New(t, url, nil)
		ws := c.WebSocket()
		t.Cleanup(func() { _ = ws.Close() })
		c.Write(ws, "40")
		for _, want := range []string{"0{", "40{"} {
			if _, b, err := ws.ReadMessage(); err != nil || !strings.HasPrefix(string(b), want) {
				t.Fatalf("heard %q, %v, want %s", b, err, want)
			}
		}
	}
	enter() // whatever runs for all of them
	before := runtime.NumGoroutine()
	const many = 100
	for range many {
		enter()
	}
	if n := server.Sessions(); n != many+1 {
		t.Fatalf("%d sessions", n)
	}
	eventually(t, "the goroutines of the handshakes have ended", func() bool { return runtime.NumGoroutine() < before+many/10 })
}

// TestNothingIsLeftOfBadClients holds that each kind of them loses its session, or none that is not its own, and that nobody
// else notices.
func TestNothingIsLeftOfBadClients(t *testing.T) {
	owner := func(name string) http.Header { return http.Header{"X-Owner": {name}} }
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			url, server, _ := serve(t, tr, socketio.Config{
				Engine:     engineio.Config{MaxPayload: 100, Owner: func(r *http.Request) string { return r.Header.Get("X-Owner") }},
				Namespaces: map[string]socketio.Namespace{"/": parrot(nil)},
			})
			other := sioclient.Dial(t, url, "polling", owner("other"))
			other.Connect("0")
			opened := func() *sioclient.Client {
				t.Helper()
				c := sioclient.New(t, url, owner("me"))
				_, hello := c.Get()
				c.Opened(hello)
				return c
			}
			unknown := func(c *sioclient.Client, method string, header ...string) {
				t.Helper()
				transport := "polling"
				if method == "upgrade" {
					method, transport = http.MethodGet, "websocket"
					header = append(header, "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
				}
				status, answer, _ := request(t, method, c.Address(transport), "", header...)
				if status != 400 || !strings.Contains(answer, `"code":1`) {
					t.Errorf("%s %s: %d %s, want an unknown session", method, transport, status, answer)
				}
			}
			closed := func(ws *websocket.Conn, code int) {
				t.Helper()
				defer ws.Close()
				for {
					_, _, err := ws.ReadMessage()
					if err == nil {
						continue
					}
					if end := new(websocket.CloseError); !errors.As(err, &end) || end.Code != code {
						t.Errorf("closed with %v, want %d", err, code)
					}
					return
				}
			}
			for name, bad := range map[string]func(){
				"a session of somebody else's": func() {
					c := opened()
					for _, method := range []string{http.MethodGet, http.MethodPost, "upgrade"} {
						unknown(c, method, "X-Owner", "thief")
						unknown(c, method)
					}
					c.Say("0") // and it goes on
					if _, body := c.Get(); !strings.HasPrefix(body, "40{") {
						t.Errorf("heard %q", body)
					}
					c.Send("1")
				},
				"an upgrade of a closed session": func() {
					c := opened()
					c.Send("1")
					unknown(c, "upgrade", "X-Owner", "me")
					unknown(c, http.MethodGet, "X-Owner", "me")
				},
				"a session that ends while it is probed": func() {
					c := opened()
					ws := c.WebSocket()
					c.Write(ws, "2probe")
					if _, b, err := ws.ReadMessage(); err != nil || string(b) != "3probe" {
						t.Errorf("the probe: %q, %v", b, err)
					}
					c.Send("1")
					closed(ws, 1000)
				},
				"two posts": func() {
					c := opened()
					r, w := io.Pipe()
					first, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Address("polling"), r)
					if err != nil {
						t.Fatal(err)
					}
					first.Header.Set("X-Owner", "me")
					ended := make(chan int, 1)
					go func() {
						status := 0
						if answer, err := http.DefaultClient.Do(first); err == nil {
							status = answer.StatusCode
							_ = answer.Body.Close()
						}
						ended <- status
					}()
					_, _ = io.WriteString(w, "4") // it is under way, but the server may not have seen it yet
					status := 200
					for end := time.Now().Add(10 * time.Second); status == 200 && time.Now().Before(end); {
						status, _, _ = request(t, http.MethodPost, c.Address("polling"), "3", "X-Owner", "me")
					}
					if status != 400 {
						t.Errorf("the second post: %d", status)
					}
					_ = w.Close()
					if status := <-ended; status != 400 && status != 0 {
						t.Errorf("the first post: %d", status)
					}
				},
				"too much in a post": func() {
					c := opened()
					if status, _, _ := request(t, http.MethodPost, c.Address("polling"), strings.Repeat("4", 101), "X-Owner", "me"); status != 413 {
						t.Errorf("the post: %d", status)
					}
				},
				"too much in a message": func() {
					c := sioclient.New(t, url, owner("me"))
					ws := c.WebSocket()
					c.Write(ws, "4"+strings.Repeat("x", 100))
					closed(ws, websocket.CloseMessageTooBig)
				},
				"no packet": func() {
					c := sioclient.New(t, url, owner("me"))
					ws := c.WebSocket()
					c.Write(ws, "nonsense")
					closed(ws, 4400)
				},
			} {
				bad()
				eventually(t, "nothing is left of "+name, func() bool { return server.Sessions() == 1 })
				other.Say(`21["ask"]`)
				other.Hear("31[]")
			}
		})
	}
}
