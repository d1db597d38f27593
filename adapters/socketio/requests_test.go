package socketio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/sioclient"
)

func request(t *testing.T, method, url, body string, header ...string) (status int, answer string, h http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, _ := io.ReadAll(a.Body)
	return a.StatusCode, string(b), a.Header
}

// over runs a test over each transport of this module.
func over(t *testing.T, test func(t *testing.T, transport string)) {
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			test(t, tr)
		})
	}
}

// TestBadRequests holds the answers to the names that the protocol's documents give them.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	over(t, badRequests)
}

func badRequests(t *testing.T, tr string) {
	url, _, _ := serve(t, tr, socketio.Config{
		Engine: engineio.Config{
			MaxPayload: 100, Origins: []string{"https://app.example.com"},
			Allow: func(r *http.Request) error {
				switch r.URL.Query().Get("as") {
				case "many":
					return fault.New(fault.Exhausted, "many", "too many").RetryAfter(1500 * time.Millisecond)
				case "restart":
					return fault.New(fault.Unavailable, "draining", "this node restarts")
				}
				return nil
			},
		},
		Namespaces: map[string]socketio.Namespace{"/": parrot(nil)},
	})
	const upgrade = "Upgrade"
	for name, tt := range map[string]struct {
		method, query, body string
		header              []string
		status              int
		want                string
	}{
		"no transport":            {query: "?EIO=4", status: 400, want: `{"code":0,"message":"Transport unknown"}`},
		"unknown transport":       {query: "?EIO=4&transport=carrier-pigeon", status: 400, want: `{"code":0,"message":"Transport unknown"}`},
		"no version":              {query: "?transport=polling", status: 400, want: `{"code":5,"message":"Unsupported protocol version"}`},
		"an old version":          {query: "?EIO=3&transport=polling", status: 400, want: `{"code":5,"message":"Unsupported protocol version"}`},
		"unknown session":         {query: "?EIO=4&transport=polling&sid=abcdefghijklmnopqrstuvwx", status: 400, want: `{"code":1,"message":"Session ID unknown"}`},
		"unknown session, a post": {method: "POST", body: "40", query: "?EIO=4&transport=polling&sid=x", status: 400, want: `{"code":1,"message":"Session ID unknown"}`},
		"unknown session, an upgrade": {
			query: "?EIO=4&transport=websocket&sid=x", status: 400, want: `{"code":1,"message":"Session ID unknown"}`,
			header: []string{"Connection", upgrade, upgrade, "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
		},
		"a post as handshake":  {method: "POST", query: "?EIO=4&transport=polling", status: 400, want: `{"code":2,"message":"Bad handshake method"}`},
		"a put as handshake":   {method: "PUT", query: "?EIO=4&transport=polling", status: 400, want: `{"code":2,"message":"Bad handshake method"}`},
		"websocket without it": {query: "?EIO=4&transport=websocket", status: 400, want: `{"code":3,"message":"Bad request"}`},
		"a foreign origin":     {query: "?EIO=4&transport=polling", header: []string{"Origin", "https://evil.example"}, status: 403, want: `{"code":4,"message":"Forbidden"}`},
		"too many handshakes":  {query: "?EIO=4&transport=polling&as=many", status: 429, want: `{"code":4,"message":"too many"}`},
		"a node that restarts": {query: "?EIO=4&transport=polling&as=restart", status: 503, want: `{"code":4,"message":"this node restarts"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.method == "" {
				tt.method = http.MethodGet
			}
			status, answer, h := request(t, tt.method, url+tt.query, tt.body, tt.header...)
			if status != tt.status || strings.TrimSpace(answer) != tt.want {
				t.Errorf("got %d %s, want %d %s", status, answer, tt.status, tt.want)
			}
			if wait := map[int]string{429: "2", 503: "1"}[tt.status]; h.Get("Retry-After") != wait {
				t.Errorf("Retry-After is %q, want %q", h.Get("Retry-After"), wait)
			}
			for _, name := range []string{"Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"} {
				if h.Get(name) == "" {
					t.Errorf("no %s", name)
				}
			}
		})
	}
}

// TestABodyThatDoesNotArriveHoldsNothing: whatever a request asks for, its connection is closed while its body is
// still to come. Nobody but the server has a limit on it here.
func TestABodyThatDoesNotArriveHoldsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: bodies stall until the server gives them up")
	}
	t.Parallel()
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			url, _, _ := serve(t, tr, socketio.Config{
				Engine: engineio.Config{BodyTimeout: 50 * time.Millisecond, CloseTimeout: 50 * time.Millisecond, PingTimeout: time.Hour}, Namespaces: map[string]socketio.Namespace{"/": parrot(nil)},
			})
			var all sync.WaitGroup
			defer all.Wait()
			const body, chunks = "Content-Length: 9\r\n\r\n4", "Transfer-Encoding: chunked\r\n\r\n9\r\n4"
			const preflight = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\n"
			for name, c := range map[string]struct {
				method, query, rest string
				session             bool
				want                int
			}{
				"a post":                      {"POST", "?EIO=4&transport=polling", body, true, 408},
				"a post in chunks":            {"POST", "?EIO=4&transport=polling", chunks, true, 408},
				"a post of nobody":            {"POST", "?EIO=4&transport=polling&sid=x", body, false, 400},
				"a poll":                      {"GET", "?EIO=4&transport=polling", body, true, 400},
				"a handshake":                 {"GET", "?EIO=4&transport=polling", body, false, 400},
				"a handshake in chunks":       {"GET", "?EIO=4&transport=polling", chunks, false, 400},
				"a handshake of WebSocket":    {"GET", "?EIO=4&transport=websocket", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + body, false, 400},
				"a preflight":                 {"OPTIONS", "?EIO=4&transport=polling", preflight + body, false, 403},
				"a preflight of its own host": {"OPTIONS", "?EIO=4&transport=polling", strings.Replace(preflight, "https://app.example.com", "http://x", 1) + chunks, false, 204},
				"no method at all":            {"BREW", "?EIO=4&transport=polling", body, false, 400},
			} {
				if c.session {
					s := sioclient.New(t, url, nil)
					_, hello := s.Get()
					s.Opened(hello)
					c.query += "&sid=" + s.SID
				}
				host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
				conn := dialTCP(t, host)
				if _, err := io.WriteString(conn, c.method+" /"+path+c.query+" HTTP/1.1\r\nHost: x\r\n"+c.rest); err != nil {
					t.Fatal(err)
				}
				all.Go(func() { // they wait at the same time
					if status, open := answered(conn); status != c.want || open {
						t.Errorf("%s: got %d, open: %v; want %d", name, status, open, c.want)
					}
				})
			}
		})
	}
}

// TestTwoLengthsEndTheConnection: what follows a request that has a Content-Length and chunks is not read
// as another (RFC 9112 section 6.1).
func TestTwoLengthsEndTheConnection(t *testing.T) {
	t.Parallel()
	over(t, twoLengths)
}

func twoLengths(t *testing.T, tr string) {
	url, _, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	for _, method := range []string{"GET", "POST", "OPTIONS"} {
		s := sioclient.New(t, url, nil)
		_, hello := s.Get()
		s.Opened(hello)
		c := dialTCP(t, host)
		_, err := io.WriteString(c, method+" /"+path+"?EIO=4&transport=polling&sid="+s.SID+" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"2\r\n40\r\n0\r\n\r\nGET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(c) // ends with the connection
		if n := strings.Count(string(all), "HTTP/1.1 "); n != 1 {
			t.Errorf("%s: %d answers: %q", method, n, all)
		}
	}
}

func dialTCP(t *testing.T, host string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // of the test
	return c
}

// answered returns the status of the answer, 0 if there is none, and whether the connection stays open after it.
func answered(c net.Conn) (status int, open bool) {
	from := bufio.NewReader(c)
	answer, err := http.ReadResponse(from, nil)
	if err != nil {
		return 0, isTimeout(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	_, err = from.ReadByte()
	return answer.StatusCode, err == nil || isTimeout(err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	over(t, origins)
}

func origins(t *testing.T, tr string) {
	url, _, _ := serve(t, tr, socketio.Config{Engine: engineio.Config{Origins: []string{"https://app.example.com"}}})
	status, _, h := request(t, http.MethodGet, url+"?EIO=4&transport=polling", "", "Origin", "https://app.example.com")
	if status != 200 || h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || h.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("%d %v", status, h)
	}
	status, _, h = request(t, http.MethodOptions, url+"?EIO=4&transport=polling", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST")
	if status/100 != 2 || h.Get("Access-Control-Allow-Origin") != "https://app.example.com" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") {
		t.Errorf("the preflight: %d %v", status, h)
	}
	status, _, h = request(t, http.MethodOptions, url+"?EIO=4&transport=polling", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	if status != 403 || h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign preflight: %d %v", status, h)
	}
	for _, asks := range []string{"", "POST"} {
		status, _, h = request(t, http.MethodOptions, url+"?EIO=4&transport=polling", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", asks)
		if status != 204 || h.Get("Allow") != "GET, POST, OPTIONS" {
			t.Errorf("what there is to ask for: %d %v", status, h)
		}
	}
	if status, _, _ = request(t, http.MethodGet, url+"?EIO=4&transport=polling", ""); status != 200 {
		t.Errorf("without an origin: %d", status)
	}
}

// TestBadSessions holds that a client which breaks the rules of polling loses its session, and nobody else.
func TestBadSessions(t *testing.T) {
	t.Parallel()
	over(t, badSessions)
}

func badSessions(t *testing.T, tr string) {
	url, _, _ := serve(t, tr, socketio.Config{Engine: engineio.Config{MaxPayload: 100}, Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
	other := dial(t, url, "polling")
	other.Connect("0")
	for name, body := range map[string]string{
		"too large": "4" + strings.Repeat("x", 100), "no packet": "x", "empty": "", "bad base64": "b!", "an open": "0", "a ping": "2", "an upgrade": "5", "an empty packet": "40\x1e", "not UTF-8": "4\xff",
	} {
		t.Run(name, func(t *testing.T) {
			c := sioclient.New(t, url, nil)
			_, hello := c.Get()
			c.Opened(hello)
			status, answer, _ := request(t, http.MethodPost, c.Address("polling"), body)
			if want := map[bool]int{true: 413, false: 400}[name == "too large"]; status != want {
				t.Errorf("the post: %d %s, want %d", status, answer, want)
			}
			if status, body := c.Get(); status != 400 || !strings.Contains(body, "Session ID unknown") {
				t.Errorf("afterwards: %d %s", status, body)
			}
		})
	}
	t.Run("two polls", func(t *testing.T) {
		c := sioclient.New(t, url, nil)
		_, hello := c.Get()
		c.Opened(hello)
		first := make(chan string, 2)
		for range 2 {
			go func() {
				status, body := c.Get()
				first <- fmt.Sprint(status, body)
			}()
		}
		got := []string{<-first, <-first}
		if !strings.HasPrefix(got[0], "400") && !strings.HasPrefix(got[1], "400") {
			t.Errorf("got %q", got)
		}
		if status, _ := c.Get(); status != 400 {
			t.Errorf("afterwards: %d", status)
		}
	})
	other.Say(`21["ask"]`)
	other.Hear("31[]")
}

// TestUpgradesThatFail holds that a session stays where it is when a connection does not take it over.
func TestUpgradesThatFail(t *testing.T) {
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			url, _, _ := serve(t, tr, socketio.Config{Engine: engineio.Config{UpgradeTimeout: 200 * time.Millisecond}, Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
			c := dial(t, url, "polling")
			c.Connect("0")
			closed := func(packets ...string) {
				t.Helper()
				ws := c.WebSocket()
				defer ws.Close()
				for _, p := range packets {
					c.Write(ws, p)
				}
				for {
					if _, _, err := ws.ReadMessage(); err != nil {
						return
					}
				}
			}
			closed("nonsense")
			closed("5")
			closed("2probe", "40")
			closed("2probe") // and nothing more
			closed()         // in time
			c.Say(`21["ask"]`)
			c.Hear("31[]")
		})
	}
}

// TestASessionMovesOnce holds that a connection which asks for a session that has moved, or is about to, is opened and
// closed at once, as the protocol's test suites want it, and that the session goes on.
func TestASessionMovesOnce(t *testing.T) {
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			url, _, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
			closed := func(c *sioclient.Client) {
				t.Helper()
				ws := c.WebSocket()
				defer ws.Close()
				c.Write(ws, "2probe")
				if _, b, err := ws.ReadMessage(); !websocket.IsCloseError(err, socket.CloseProtocolError) {
					t.Errorf("heard %q, %v", b, err)
				}
			}
			c := dial(t, url, "upgraded")
			c.Connect("0")
			closed(c)
			c.Say(`21["ask"]`)
			c.Hear("31[]")

			c = sioclient.New(t, url, nil)
			_, hello := c.Get()
			c.Opened(hello)
			c.WS = c.WebSocket()
			defer c.WS.Close()
			c.Write(c.WS, "2probe")
			if _, b, err := c.WS.ReadMessage(); err != nil || string(b) != "3probe" {
				t.Fatalf("the probe: %q, %v", b, err)
			}
			closed(c)
			c.Write(c.WS, "5")
			go c.ReadSocket()
			c.Connect("0")
		})
	}
}

// TestASessionThatIsClosedWhileItMoves holds that the client hears of it where it is about to be: once its probe is answered, a stock
// client polls no more.
func TestASessionThatIsClosedWhileItMoves(t *testing.T) {
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			gone := make(chan string, 8)
			url, _, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(gone)}})
			moving := func() (*sioclient.Client, *websocket.Conn) {
				c := sioclient.New(t, url, nil)
				_, hello := c.Get()
				c.Opened(hello)
				c.Say("0")
				if _, body := c.Get(); !strings.HasPrefix(body, "40{") {
					t.Fatalf("heard %q", body)
				}
				ws := c.WebSocket()
				c.Write(ws, "2probe")
				if _, b, err := ws.ReadMessage(); err != nil || string(b) != "3probe" {
					t.Fatalf("the probe: %q, %v", b, err)
				}
				if _, body := c.Get(); body != "6" {
					t.Fatalf("the poll: %q", body)
				}
				return c, ws
			}
			c, ws := moving()
			c.Say(`2["close"]`)
			c.Write(ws, "5")
			c.WS = ws
			go c.ReadSocket()
			c.Hear(`2["last"]`, "1")
			c.Over()
			want(t, gone, "server namespace disconnect")

			// One that polls on after all is told there, and has no connection left.
			c, ws = moving()
			c.Say(`2["close"]`)
			for body, heard := "", ""; body != "1"; heard += body + "\x1e" {
				if _, body = c.Get(); body == "" || strings.HasPrefix(body, "{") {
					t.Fatalf("heard %q after %q", body, heard)
				}
			}
			want(t, gone, "server namespace disconnect")
			if _, b, err := ws.ReadMessage(); err == nil {
				t.Errorf("heard %q", b)
			}

			// One that says nothing more is given up in time.
			c, ws = moving()
			c.Say(`2["close"]`)
			want(t, gone, "server namespace disconnect")
			if _, b, err := ws.ReadMessage(); err == nil {
				t.Errorf("heard %q", b)
			}
		})
	}
}

// TestTheUpgradeLosesNothing holds that what is sent while a session moves arrives once and in order.
func TestTheUpgradeLosesNothing(t *testing.T) {
	for _, tr := range []string{"nbio", "net"} {
		t.Run(tr, func(t *testing.T) {
			t.Parallel()
			url, server, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
			for range 10 {
				c := sioclient.New(t, url, nil)
				_, hello := c.Get()
				c.Opened(hello)
				c.Say("0")
				if _, body := c.Get(); !strings.HasPrefix(body, "40{") {
					t.Fatalf("heard %q", body)
				}
				ctx, stop := context.WithCancel(t.Context())
				sent := make(chan int, 1)
				go func() {
					n := 0
					for ; ctx.Err() == nil && n < 2000; n++ {
						_ = server.Of("/").Emit("n", n)
					}
					sent <- n
				}()
				ws := c.WebSocket()
				c.Write(ws, "2probe")
				if _, b, err := ws.ReadMessage(); err != nil || string(b) != "3probe" {
					t.Fatalf("the probe: %q, %v", b, err)
				}
				_, body := c.Get() // the poll that was under way
				for packet := range strings.SplitSeq(body, "\x1e") {
					c.Take(packet)
				}
				c.Write(ws, "5")
				c.WS = ws
				go c.ReadSocket()
				stop()
				n := <-sent
				_ = server.Of("/").Emit("end")
				for i := range n {
					c.Hear(fmt.Sprintf(`2["n",%d]`, i))
				}
				c.Hear(`2["end"]`)
				_ = ws.Close()
				c.Over()
			}
		})
	}
}
