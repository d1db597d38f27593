package humaapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

const (
	// arrival is how long a body may take in these tests.
	arrival = 300 * time.Millisecond
	// gone is when a connection has to be closed: only what never happens takes so long.
	gone = 20 * time.Second
)

// nobody lets nobody in.
type nobody struct{}

func (nobody) Token(context.Context, string) (user.Identity, error) {
	return user.Identity{}, socket.ErrNoCredentials
}
func (n nobody) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return n.Token(ctx, ticket)
}
func (nobody) Accept(socket.Conn, socket.Hello) (socket.Receiver, error) {
	return nil, socket.ErrNoCredentials
}

// listening serves everything on a real server without deadlines of its own, with a socket at /socket
// and a handler of an application's own that takes anything at /upload.
func listening(t *testing.T) net.Addr {
	t.Helper()
	s := newSystem(t, options{api: humaapi.Config{BodyTimeout: arrival, Origins: []string{"https://a.example"}}})
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: nobody{}})
	require.NoError(t, err)
	sockets, err := netws.New(netws.Config{Handshake: handshake, Acceptor: nobody{}})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, sockets.Run(ctx)) })
	s.api.Mux().Handle("GET /socket", sockets)
	s.api.Mux().HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintln(w, n, err)
	})
	server := httptest.NewUnstartedServer(s.api)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(func() { stop(); server.Close(); running.Wait() })
	return server.Listener.Addr()
}

// exchange writes text, then a byte each time that pace says so, and returns all that came until the
// server closed the connection.
func exchange(t *testing.T, to net.Addr, text string, pace time.Duration, more string) string {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", to.String())
	if !assert.NoError(t, err) {
		return ""
	}
	defer c.Close()
	assert.NoError(t, c.SetDeadline(time.Now().Add(gone)))
	_, err = io.WriteString(c, text)
	assert.NoError(t, err)
	ended := make(chan struct{})
	var writing sync.WaitGroup
	defer writing.Wait()
	defer close(ended)
	if pace > 0 {
		writing.Go(func() {
			ticks := time.NewTicker(pace)
			defer ticks.Stop()
			for i := 0; ; i++ {
				select {
				case <-ticks.C:
				case <-ended:
					return
				}
				if _, err := io.WriteString(c, more[i%len(more):i%len(more)+1]); err != nil {
					return
				}
			}
		})
	}
	got, err := io.ReadAll(c)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Errorf("the connection is still there; it said %q", got)
	}
	return string(got)
}

// TestABodyThatDoesNotArriveHoldsNothing: whatever asks, whatever would answer, however the body comes
// or not: 408, and the connection is closed.
func TestABodyThatDoesNotArriveHoldsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: bodies stall until the server gives them up")
	}
	t.Parallel()
	addr := listening(t)
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	type request struct{ line, headers string }
	requests := map[string]request{
		"an operation":             {"POST /auth/signin", ""},
		"one without a body":       {"POST /auth/signout", ""},
		"that reads":               {"GET /auth/me", ""},
		"health":                   {"GET /livez", ""},
		"unknown path":             {"POST /nowhere", ""},
		"unknown method":           {"PUT /auth/signin", ""},
		"options":                  {"OPTIONS /auth/signin", ""},
		"a preflight":              {"OPTIONS /auth/signin", "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"},
		"another page":             {"POST /auth/signin", "Origin: https://a.example\r\n"},
		"a foreign page":           {"POST /auth/signin", "Origin: https://b.example\r\n"},
		"not authenticated":        {"POST /mail/jobs/replay", ""},
		"an administrator's":       {"POST /mail/jobs/replay", "Authorization: Bearer " + adminToken + "\r\n"},
		"another media type":       {"POST /auth/signin", "Content-Type: text/plain\r\n"},
		"compressed":               {"POST /auth/signin", "Content-Encoding: gzip\r\n"},
		"a page":                   {"GET /auth/verify?code=x", ""},
		"a form":                   {"POST /auth/verify/confirm", "Content-Type: application/x-www-form-urlencoded\r\n"},
		"documents":                {"GET /api-docs", ""},
		"a document for everybody": {"GET /asyncapi.json", ""},
		"a handshake":              {"GET /socket", upgrade},
		"no handshake":             {"GET /socket", ""},
		"an application's own":     {"POST /upload", ""},
	}
	bodies := map[string]struct {
		headers, begun string
		pace           time.Duration
		more           string
	}{
		"stalls":             {"Content-Length: 9\r\n", "{", 0, ""},
		"never begins":       {"Content-Length: 9\r\n", "", 0, ""},
		"trickles":           {"Content-Length: 60000\r\n", "{", 40 * time.Millisecond, " "},
		"chunks stall":       {"Transfer-Encoding: chunked\r\n", "1\r\n{\r\n", 0, ""},
		"no chunk":           {"Transfer-Encoding: chunked\r\n", "", 0, ""},
		"half a chunk":       {"Transfer-Encoding: chunked\r\n", "ff\r\n{", 0, ""},
		"half a size":        {"Transfer-Encoding: chunked\r\n", "f", 0, ""},
		"chunks trickle":     {"Transfer-Encoding: chunked\r\n", "1\r\n{\r\n", 25 * time.Millisecond, "1\r\n \r\n"},
		"the end is missing": {"Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n", 0, ""},
		"waits for 100":      {"Content-Length: 9\r\nExpect: 100-continue\r\n", "", 0, ""},
		"chunks wait":        {"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "", 0, ""},
	}
	for name, r := range requests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			media := "Content-Type: application/json\r\n"
			if strings.Contains(r.headers, "Content-Type") {
				media = ""
			}
			var asking sync.WaitGroup
			for how, b := range bodies {
				asking.Go(func() {
					got := exchange(t, addr, r.line+" HTTP/1.1\r\nHost: x\r\n"+r.headers+media+b.headers+"\r\n"+b.begun, b.pace, b.more)
					got = strings.TrimPrefix(got, "HTTP/1.1 100 Continue\r\n\r\n")
					answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
					if !assert.NoError(t, err, "%s: %q", how, got) {
						return
					}
					text, err := io.ReadAll(answer.Body)
					assert.NoError(t, err)
					assert.NoError(t, answer.Body.Close())
					assert.Equal(t, http.StatusRequestTimeout, answer.StatusCode, "%s: %q", how, got)
					assert.True(t, answer.Close, "%s: %q", how, got)
					if name == "a form" {
						assert.Contains(t, string(text), "<html", how)
						return
					}
					assert.Contains(t, string(text), `"request_timeout"`, how)
					assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), how)
					assert.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"), how)
				})
			}
			asking.Wait()
		})
	}
}

// TestABodyThatIsTooLongIsNotWaitedFor: it is refused at once, or when too much of it has come, and the
// connection is closed whatever the client goes on to do.
func TestABodyThatIsTooLongIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	addr := listening(t)
	for name, c := range map[string]struct {
		line, headers, begun string
		want                 int
	}{
		"an operation":      {"POST /auth/signin", "Content-Length: 100000\r\n", "{", http.StatusRequestEntityTooLarge},
		"a huge one":        {"POST /auth/signin", "Content-Length: 100000000\r\n", "{", http.StatusRequestEntityTooLarge},
		"waits for 100":     {"POST /auth/signin", "Content-Length: 100000\r\nExpect: 100-continue\r\n", "", http.StatusRequestEntityTooLarge},
		"in chunks":         {"POST /auth/signin", "Transfer-Encoding: chunked\r\n", "11000\r\n" + strings.Repeat(" ", 0x11000), http.StatusRequestEntityTooLarge},
		"unknown path":      {"POST /nowhere", "Content-Length: 100000\r\n", "", http.StatusNotFound},
		"unknown method":    {"PUT /auth/signin", "Content-Length: 100000\r\n", "", http.StatusMethodNotAllowed},
		"not authenticated": {"POST /mail/jobs/replay", "Content-Length: 100000\r\n", "", http.StatusUnauthorized},
		"documents":         {"GET /api-docs", "Content-Length: 100000\r\n", "", http.StatusUnauthorized},
		"a document":        {"GET /asyncapi.json", "Content-Length: 100000\r\n", "", http.StatusOK},
		"no handshake":      {"GET /socket", "Content-Length: 100000\r\n", "", http.StatusUpgradeRequired},
		"chunks, unknown":   {"POST /nowhere", "Transfer-Encoding: chunked\r\n", "11000\r\n" + strings.Repeat(" ", 0x11000), http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name == "no handshake" {
				t.Skip("skipped by -short: it is closed after 5 seconds")
			}
			t.Parallel()
			got := exchange(t, addr, c.line+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+c.headers+"\r\n"+c.begun, 0, "")
			answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			require.NoError(t, err, "%q", got)
			defer answer.Body.Close()
			assert.Equal(t, c.want, answer.StatusCode, "%q", got)
			assert.True(t, answer.Close, "%q", got)
		})
	}
}

// TestABodyThatArrivesKeepsTheConnection: requests follow each other on one connection, also those that are
// sent before the answer, with bodies that nobody reads; and the last one of them stalls.
func TestABodyThatArrivesKeepsTheConnection(t *testing.T) {
	t.Parallel()
	addr := listening(t)
	whole := "POST /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" + // 422
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" + // 404
		"PUT /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}" + // 100 and 405
		"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" +
		"POST /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + // 400
		"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
	got := exchange(t, addr, whole+"POST /auth/signin HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", 0, "")
	in := bufio.NewReader(strings.NewReader(got))
	for i, want := range []int{422, 404, 100, 405, 200, 400, 200, 408} {
		answer, err := http.ReadResponse(in, nil)
		require.NoError(t, err, "answer %d of %q", i, got)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		assert.Equal(t, want, answer.StatusCode, "answer %d: %s", i, text)
		assert.Equal(t, want == 408, answer.Close, "answer %d", i)
		if i == 4 {
			assert.Equal(t, "5 <nil>\n", string(text), "a handler of an application's own reads the body")
		}
	}
	assert.Zero(t, in.Buffered())
	chunks := exchange(t, addr, "POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 0, "")
	assert.Contains(t, chunks, "404 Not Found")
	assert.NotContains(t, chunks, "200 OK", "after chunks the connection ends: there may have been a Content-Length too")
	cut := exchange(t, addr, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000), 0, "")
	assert.Contains(t, cut, "100000 <nil>\n", "a longer one as well, as long as it is in time")
}
