package nbiows_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// opener starts a transport with a configuration and returns the address of its socket.
type opener func(t testing.TB, acceptor socket.Acceptor, change func(*nbiows.Config)) string

// startNet is start for netws, which takes the same configuration.
func startNet(t testing.TB, acceptor socket.Acceptor, change func(*nbiows.Config)) string {
	t.Helper()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	require.NoError(t, err)
	cfg := nbiows.Config{Handshake: handshake, Acceptor: acceptor, CloseTimeout: 500 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	server, err := netws.New(netws.Config{
		Handshake: cfg.Handshake, Acceptor: cfg.Acceptor, MaxMessage: cfg.MaxMessage, PingInterval: cfg.PingInterval,
		IdleTimeout: cfg.IdleTimeout, CloseTimeout: cfg.CloseTimeout, MaxPongs: cfg.MaxPongs, Log: cfg.Log,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	web := httptest.NewServer(server)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http") + "/socket?ticket=ada"
}

// both runs a test on nbiows and on netws: what it checks is the same for both.
func both(t *testing.T, test func(t *testing.T, open opener)) {
	t.Parallel()
	for name, open := range map[string]opener{"nbiows": start, "netws": startNet} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

func dialRaw(t *testing.T, url string) *wsraw.Conn {
	t.Helper()
	raw, err := wsraw.Dial(t.Context(), url, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

func whole(op byte, payload string) wsraw.Frame {
	return wsraw.Frame{Final: true, Opcode: op, Payload: []byte(payload)}
}

func begin(op byte, payload string) wsraw.Frame {
	return wsraw.Frame{Opcode: op, Payload: []byte(payload)}
}

func TestHandshakes(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		url := "http" + strings.TrimPrefix(open(t, contract.NewAcceptor(), nil), "ws")
		for _, c := range []struct {
			name   string
			status int
			query  string
			header map[string]string
			method string
		}{
			{"no WebSocket", 426, "?ticket=ada", map[string]string{"Upgrade": "", "Connection": "close"}, ""},
			{"other version", 426, "?ticket=ada", map[string]string{"Sec-WebSocket-Version": "8"}, ""},
			{"other method", 426, "?ticket=ada", nil, http.MethodPost},
			{"short key", 422, "?ticket=ada", map[string]string{"Sec-WebSocket-Key": "c2hvcnQ="}, ""},
			{"no key", 422, "?ticket=ada", map[string]string{"Sec-WebSocket-Key": ""}, ""},
			{"no credentials", 401, "", nil, ""},
			{"bad ticket", 401, "?ticket=bad", nil, ""},
			{"bad token", 401, "?ticket=ada", map[string]string{"Authorization": "Bearer bad"}, ""},
			{"foreign origin", 403, "?ticket=ada", map[string]string{"Origin": "https://evil.example"}, ""},
			{"foreign protocol", 422, "?ticket=ada", map[string]string{"Sec-WebSocket-Protocol": "soap"}, ""},
			{"several tokens", 101, "?ticket=ada", map[string]string{"Connection": "keep-alive, Upgrade", "Sec-WebSocket-Protocol": "bearer.ada, parley.v1"}, ""},
			{"no protocol", 101, "?ticket=ada", nil, ""},
		} {
			base, _, _ := strings.Cut(url, "?")
			req, err := http.NewRequestWithContext(t.Context(), c.method, base+c.query, nil)
			require.NoError(t, err)
			for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				req.Header.Set(name, value)
			}
			for name, value := range c.header {
				req.Header.Set(name, value)
			}
			res, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err, c.name)
			require.Equal(t, c.status, res.StatusCode, c.name)
			if c.status == 101 {
				require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", res.Header.Get("Sec-WebSocket-Accept"), "the example of RFC 6455 section 1.3")
				want := ""
				if strings.Contains(c.header["Sec-WebSocket-Protocol"], socket.Protocol) {
					want = socket.Protocol
				}
				require.Equal(t, want, res.Header.Get("Sec-WebSocket-Protocol"), c.name)
			} else {
				require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), c.name)
				require.Equal(t, c.status == 426, res.Header.Get("Upgrade") == "websocket", c.name)
			}
			require.NoError(t, res.Body.Close())
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
}

func TestFaultsOfThePeer(t *testing.T) {
	long := strings.Repeat("x", 1001)
	for _, c := range []struct {
		name     string
		frames   []wsraw.Frame
		received []string
		code     int
	}{
		{"unmasked", []wsraw.Frame{{Final: true, Opcode: wsraw.OpText, Unmasked: true, Payload: []byte("x")}}, nil, 1002},
		{"reserved bit", []wsraw.Frame{{Final: true, Opcode: wsraw.OpText, Reserved: 4, Payload: []byte("x")}}, nil, 1002},
		{"unknown data frame", []wsraw.Frame{whole(3, "")}, nil, 1002},
		{"unknown control frame", []wsraw.Frame{whole(11, "")}, nil, 1002},
		{"fragmented ping", []wsraw.Frame{begin(wsraw.OpPing, "")}, nil, 1002},
		{"long ping", []wsraw.Frame{whole(wsraw.OpPing, long[:126])}, nil, 1002},
		{"continuation of nothing", []wsraw.Frame{whole(wsraw.OpContinuation, "x")}, nil, 1002},
		{"message within a message", []wsraw.Frame{begin(wsraw.OpText, "x"), whole(wsraw.OpText, "y")}, nil, 1002},
		{"length beyond 63 bits", []wsraw.Frame{{Final: true, Opcode: wsraw.OpBinary, Length: 1 << 63}}, nil, 1002},
		{"not UTF-8", []wsraw.Frame{whole(wsraw.OpText, "fine"), whole(wsraw.OpText, "\xff")}, []string{"fine"}, 1007},
		{"surrogate", []wsraw.Frame{whole(wsraw.OpText, "\xed\xa0\x80")}, nil, 1007},
		{"cut character", []wsraw.Frame{whole(wsraw.OpText, "\xf0\x9f\x91")}, nil, 1007},
		{"not UTF-8 in a fragment that is not the last", []wsraw.Frame{begin(wsraw.OpText, "gr\xc3"), begin(wsraw.OpContinuation, "x")}, nil, 1007},
		{"too long", []wsraw.Frame{whole(wsraw.OpBinary, "ok"), whole(wsraw.OpText, long)}, []string{"ok"}, 4413},
		{"too long in fragments", []wsraw.Frame{begin(wsraw.OpText, long[:600]), begin(wsraw.OpContinuation, long[:600])}, nil, 4413},
		{"close with code 1005", []wsraw.Frame{wsraw.CloseFrame(1005, "")}, nil, 1002},
		{"close with code 999", []wsraw.Frame{wsraw.CloseFrame(999, "")}, nil, 1002},
		{"close with code 2999", []wsraw.Frame{wsraw.CloseFrame(2999, "")}, nil, 1002},
		{"close", []wsraw.Frame{whole(wsraw.OpText, "bye"), wsraw.CloseFrame(1000, "done"), whole(wsraw.OpText, "too late")}, []string{"bye"}, 1000},
		{"close with a private code", []wsraw.Frame{wsraw.CloseFrame(4999, "")}, nil, 4999},
		{"close without a code", []wsraw.Frame{wsraw.CloseFrame(0, "")}, nil, 1005},
		{"a message as long as may be", []wsraw.Frame{whole(wsraw.OpText, long[:1000]), wsraw.CloseFrame(1000, "")}, []string{long[:1000]}, 1000},
		{"empty messages", []wsraw.Frame{whole(wsraw.OpText, ""), begin(wsraw.OpBinary, ""), whole(wsraw.OpContinuation, ""), wsraw.CloseFrame(1000, "")}, []string{"", ""}, 1000},
		{"character cut between fragments, ping between", []wsraw.Frame{
			begin(wsraw.OpText, "gr\xc3"), whole(wsraw.OpPing, "?"), whole(wsraw.OpContinuation, "\xbc\xc3\x9fe"), wsraw.CloseFrame(1000, ""),
		}, []string{"grüße"}, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, open opener) {
				acceptor := contract.NewAcceptor()
				url := open(t, acceptor, func(cfg *nbiows.Config) { cfg.MaxMessage = 1000 })
				got := converse(t, url, acceptor, c.frames, 0)
				require.Equal(t, ending{c.received, c.code}, got)
			})
		})
	}
}

// ending is what became of a connection.
type ending struct {
	received []string
	code     int
}

// converse sends frames, in parts of the given length if it is not zero, and watches what
// becomes of them.
func converse(t *testing.T, url string, acceptor *contract.Acceptor, frames []wsraw.Frame, part int) ending {
	t.Helper()
	raw := dialRaw(t, url)
	accepted, err := acceptor.Next(t.Context())
	require.NoError(t, err)
	var wire []byte
	for _, f := range frames {
		wire = f.Append(wire)
	}
	for len(wire) > 0 {
		n := len(wire)
		if part > 0 {
			n = min(n, part)
		}
		if raw.Write(wire[:n]) != nil {
			break // the server has had enough
		}
		wire = wire[n:]
	}
	code, _, err := raw.ReadClose()
	require.NoError(t, err)
	// The server ends the connection in peace, unless we went on sending after a close frame of ours.
	farewell := slices.ContainsFunc(frames, func(f wsraw.Frame) bool { return f.Opcode == wsraw.OpClose })
	if _, err = raw.Read(); !errors.Is(err, io.EOF) && (!farewell || !errors.Is(err, syscall.ECONNRESET)) {
		t.Fatalf("after the close frame: %v", err)
	}
	require.NoError(t, raw.Close())
	require.NoError(t, accepted.Receiver.Gone(t.Context()))
	require.NoError(t, accepted.Receiver.Err())
	got := ending{code: code}
	for accepted.Receiver.Pending() > 0 {
		m, err := accepted.Receiver.Next(t.Context())
		require.NoError(t, err)
		got.received = append(got.received, string(m.Payload))
	}
	return got
}

// TestDifferential plays random conversations to both transports and wants the same outcome.
func TestDifferential(t *testing.T) {
	t.Parallel()
	limit := func(cfg *nbiows.Config) { cfg.MaxMessage = 1000 }
	one, two := contract.NewAcceptor(), contract.NewAcceptor()
	urlOne, urlTwo := start(t, one, limit), startNet(t, two, limit)
	rnd := rand.New(rand.NewPCG(3, 4))
	payloads := []string{"", "a", "grüße", "\xf0\x9f", "\x91\x8b", "\xff", strings.Repeat("x", 125), strings.Repeat("y", 126), strings.Repeat("z", 700), strings.Repeat("long", 400)}
	ends := map[int]int{}
	for range 150 {
		var frames []wsraw.Frame
		for range rnd.IntN(9) {
			payload := payloads[rnd.IntN(len(payloads))]
			if rnd.IntN(3) > 0 {
				payload = payloads[rnd.IntN(3)]
			}
			var f wsraw.Frame
			switch rnd.IntN(12) {
			case 0, 1, 2:
				f = whole(wsraw.OpText, payload)
			case 3:
				f = whole(wsraw.OpBinary, payload)
			case 4, 5:
				f = begin(wsraw.OpText, payload)
			case 6:
				f = begin(wsraw.OpContinuation, payload)
			case 7, 8:
				f = whole(wsraw.OpContinuation, payload)
			case 9:
				f = whole(wsraw.OpPing, payload)
			case 10:
				f = whole(wsraw.OpPong, payload)
			case 11:
				f = wsraw.Frame{Final: rnd.IntN(2) == 0, Opcode: byte(rnd.IntN(16)), Unmasked: rnd.IntN(4) == 0, Reserved: byte(rnd.IntN(8) / 6)}
			}
			frames = append(frames, f)
		}
		farewells := []wsraw.Frame{wsraw.CloseFrame(3000+rnd.IntN(3), "done"), wsraw.CloseFrame(1014, ""), wsraw.CloseFrame(1000, "\xff"), whole(wsraw.OpClose, "x")}
		frames = append(frames, farewells[max(0, rnd.IntN(8)-4)])
		part := rnd.IntN(3) * (1 + rnd.IntN(400))
		got, want := converse(t, urlOne, one, frames, part), converse(t, urlTwo, two, frames, part)
		require.Equal(t, want, got, "%+v", frames)
		ends[got.code]++
	}
	for _, code := range []int{1002, 1007, 3000, 4413} {
		require.NotZero(t, ends[code], "no conversation ended with %d", code)
	}
}

func TestEarlyData(t *testing.T) {
	both(t, earlyData)
}

func earlyData(t *testing.T, open opener) {
	acceptor := contract.NewAcceptor()
	url := open(t, acceptor, nil)
	early := whole(wsraw.OpText, "early").Append(nil)
	early = whole(wsraw.OpText, "and late").Append(early)
	raw, err := wsraw.Dial(t.Context(), url, nil, early[:len(early)-3])
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	accepted, err := acceptor.Next(t.Context())
	require.NoError(t, err)
	require.NoError(t, raw.Write(early[len(early)-3:]))
	for _, want := range []string{"early", "and late"} {
		m, err := accepted.Receiver.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, string(m.Payload))
	}
	// A whole conversation before the handshake was answered.
	raw, err = wsraw.Dial(t.Context(), url, nil, wsraw.CloseFrame(3000, "").Append(whole(wsraw.OpText, "all at once").Append(nil)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	accepted, err = acceptor.Next(t.Context())
	require.NoError(t, err)
	m, err := accepted.Receiver.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "all at once", string(m.Payload))
	code, _, err := raw.ReadClose()
	require.NoError(t, err)
	require.Equal(t, 3000, code)
	require.NoError(t, accepted.Receiver.Gone(t.Context()))
}

// acceptorFunc is an acceptor.
type acceptorFunc func(socket.Conn, socket.Hello) (socket.Receiver, error)

func (f acceptorFunc) Accept(c socket.Conn, hello socket.Hello) (socket.Receiver, error) {
	return f(c, hello)
}

// fragile panics at the first message, and when it is told that it is gone.
type fragile struct{ gone chan struct{} }

func (fragile) Receive([]byte, bool) { panic("at Receive") }

func (f fragile) Disconnected() { close(f.gone); panic("at Disconnected") }

// logbook is a log that can be read while it is written.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestPanics(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		gone := make(chan struct{})
		steady := contract.NewAcceptor()
		var log logbook
		url := open(t, acceptorFunc(func(c socket.Conn, hello socket.Hello) (socket.Receiver, error) {
			switch hello.Identity.UserID {
			case "fragile":
				return fragile{gone}, nil
			case "impossible":
				panic("at Accept")
			default:
				return steady.Accept(c, hello)
			}
		}), func(cfg *nbiows.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		neighbour := dialRaw(t, url)
		accepted, err := steady.Next(t.Context())
		require.NoError(t, err)

		raw := dialRaw(t, strings.Replace(url, "ada", "fragile", 1))
		require.NoError(t, raw.Send(whole(wsraw.OpText, "x"), whole(wsraw.OpText, "y")))
		code, _, err := raw.ReadClose()
		require.NoError(t, err)
		require.Equal(t, 1011, code)
		require.NoError(t, raw.Send(wsraw.CloseFrame(1011, "")))
		<-gone

		code, _, err = dialRaw(t, strings.Replace(url, "ada", "impossible", 1)).ReadClose()
		require.NoError(t, err)
		require.Equal(t, 1011, code)

		require.NoError(t, neighbour.Send(whole(wsraw.OpText, "still here")))
		m, err := accepted.Receiver.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, "still here", string(m.Payload))
		require.Contains(t, log.String(), "at Receive")
		require.Contains(t, log.String(), "at Accept")
	})
}

func TestPingsAndSilence(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		acceptor := contract.NewAcceptor()
		url := open(t, acceptor, func(cfg *nbiows.Config) {
			cfg.PingInterval, cfg.IdleTimeout = 100*time.Millisecond, time.Second
		})
		raw := dialRaw(t, url)
		accepted, err := acceptor.Next(t.Context())
		require.NoError(t, err)
		// It lives as long as pongs come, beyond IdleTimeout.
		for range 15 {
			f, err := raw.Read()
			require.NoError(t, err)
			require.Equal(t, wsraw.Frame{Final: true, Opcode: wsraw.OpPing, Unmasked: true, Payload: []byte{}}, f)
			require.NoError(t, raw.Send(whole(wsraw.OpPong, "")))
		}
		// Pings alone do not keep it: then it is cut.
		for err == nil {
			_, err = raw.Read()
		}
		require.NoError(t, accepted.Receiver.Gone(t.Context()))
		require.NoError(t, accepted.Receiver.Err())
	})
}

// TestHalfAFrameIsSilence sends one byte of a frame for each ping: only whole frames count.
func TestHalfAFrameIsSilence(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		acceptor := contract.NewAcceptor()
		url := open(t, acceptor, func(cfg *nbiows.Config) {
			cfg.PingInterval, cfg.IdleTimeout = 20*time.Millisecond, 300*time.Millisecond
		})
		raw := dialRaw(t, url)
		accepted, err := acceptor.Next(t.Context())
		require.NoError(t, err)
		rest := whole(wsraw.OpBinary, strings.Repeat("x", 60000)).Append(nil)
		for err == nil {
			if _, err = raw.Read(); err == nil {
				err = raw.Write(rest[:1])
				rest = rest[1:]
			}
		}
		require.NoError(t, accepted.Receiver.Gone(t.Context()))
		require.Zero(t, accepted.Receiver.Pending())
	})
}

// TestPingFlood pings without reading: pongs must not pile up.
func TestPingFlood(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		acceptor := contract.NewAcceptor()
		url := open(t, acceptor, nil)
		raw := dialRaw(t, url)
		accepted, err := acceptor.Next(t.Context())
		require.NoError(t, err)
		// First nothing more can be written.
		big := socket.NewBinaryFrame(func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) })
		for accepted.Conn.Queued() < 1<<20 {
			require.NoError(t, accepted.Conn.Send(big))
		}
		before := accepted.Conn.Queued()
		var flood []byte
		for i := range 2000 {
			flood = whole(wsraw.OpPing, fmt.Sprintf("%0100d", i)).Append(flood)
		}
		require.NoError(t, raw.Write(flood))
		require.NoError(t, raw.Send(whole(wsraw.OpText, "read them all")))
		_, err = accepted.Receiver.Next(t.Context())
		require.NoError(t, err)
		require.LessOrEqual(t, accepted.Conn.Queued(), before+16*127)
		// The latest are answered, in their order, and at most few of the others: those that came while something could be written.
		var answered []int
		for len(answered) == 0 || answered[len(answered)-1] != 1999 {
			f, err := raw.Read()
			require.NoError(t, err)
			if f.Opcode == wsraw.OpPong {
				i, err := strconv.Atoi(string(f.Payload))
				require.NoError(t, err)
				answered = append(answered, i)
			}
		}
		require.GreaterOrEqual(t, len(answered), 16)
		require.True(t, slices.IsSorted(answered), "%d", answered)
		require.Equal(t, 1984, answered[len(answered)-16])
	})
}

// TestGatheredFrames stalls a connection under frames of many sizes and pongs, and then
// reads: order and content must survive the partial writes.
func TestGatheredFrames(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		acceptor := contract.NewAcceptor()
		url := open(t, acceptor, func(cfg *nbiows.Config) { cfg.PingInterval, cfg.CloseTimeout = 10*time.Millisecond, time.Minute })
		raw := dialRaw(t, url)
		accepted, err := acceptor.Next(t.Context())
		require.NoError(t, err)
		rnd := rand.New(rand.NewPCG(5, 6))
		payload := func(i, n int) []byte {
			return append(binary.BigEndian.AppendUint32(nil, uint32(i)), bytes.Repeat([]byte{byte(i)}, n)...)
		}
		var sizes []int
		for accepted.Conn.Queued() < 4<<20 {
			n := rnd.IntN(300)
			if rnd.IntN(50) == 0 {
				n = rnd.IntN(200 << 10)
			}
			i := len(sizes)
			require.NoError(t, accepted.Conn.Send(socket.NewBinaryFrame(func(b []byte) []byte { return append(b, payload(i, n)...) })))
			sizes = append(sizes, n)
		}
		require.NoError(t, raw.Send(whole(wsraw.OpPing, "between"), whole(wsraw.OpText, "wait for it")))
		_, err = accepted.Receiver.Next(t.Context())
		require.NoError(t, err)
		accepted.Conn.Close(1, "end") // not a code that may be sent
		pongs := 0
		for i := 0; i < len(sizes); {
			f, err := raw.Read()
			require.NoError(t, err)
			if f.Opcode == wsraw.OpPong {
				require.Equal(t, "between", string(f.Payload))
				pongs++
			}
			if f.Opcode != wsraw.OpBinary {
				continue
			}
			require.True(t, bytes.Equal(payload(i, sizes[i]), f.Payload), "frame %d", i)
			i++
		}
		code, reason, err := raw.ReadClose()
		require.NoError(t, err)
		require.Equal(t, 1, pongs)
		require.Equal(t, 1011, code)
		require.Equal(t, "end", reason)
		require.Zero(t, accepted.Conn.Queued())
	})
}

// TestManyComeAndGo counts descriptors and goroutines after a thousand connections that ended in every way.
func TestManyComeAndGo(t *testing.T) {
	for name, open := range map[string]opener{"nbiows": start, "netws": startNet} { // not parallel: it counts
		t.Run(name, func(t *testing.T) {
			acceptor := contract.NewAcceptor()
			url := open(t, acceptor, nil)
			comeAndGo(t, url, acceptor, 40)
			files, goroutines := countFiles(t), runtime.NumGoroutine()
			comeAndGo(t, url, acceptor, 1000)
			require.Eventually(t, func() bool { return countFiles(t) <= files+10 && runtime.NumGoroutine() <= goroutines+10 }, 10*time.Second, 10*time.Millisecond,
				"%d files and %d goroutines before, %d and %d after", files, goroutines, countFiles(t), runtime.NumGoroutine())
		})
	}
}

func countFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("there is no /proc/self/fd")
	}
	return len(entries)
}

func comeAndGo(t *testing.T, url string, acceptor *contract.Acceptor, n int) {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	slots := make(chan struct{}, 20)
	for i := range n {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs <- func() error {
				raw, err := wsraw.Dial(t.Context(), url, nil, nil)
				if err != nil {
					return err
				}
				defer func() { _ = raw.Close() }()
				accepted, err := acceptor.Next(t.Context()) // perhaps somebody else's, which is as good
				if err != nil {
					return err
				}
				switch i % 4 {
				case 0:
					err = raw.Reset()
				case 1:
					err = raw.Close()
				case 2:
					accepted.Conn.Close(socket.CloseServiceRestart, "")
				case 3:
					err = raw.Send(whole(wsraw.OpText, "half a message"), begin(wsraw.OpText, "x"), wsraw.CloseFrame(1000, ""))
				}
				return err
			}()
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

// TestEndOfRun closes open connections with 1001, and refuses new ones.
func TestEndOfRun(t *testing.T) {
	both(t, func(t *testing.T, open opener) {
		acceptor := contract.NewAcceptor()
		var url string
		var raws []*wsraw.Conn
		var receivers []*contract.Receiver
		t.Run("serving", func(t *testing.T) {
			url = open(t, acceptor, nil)
			for range 3 {
				raw, err := wsraw.Dial(context.Background(), url, nil, nil)
				require.NoError(t, err)
				raws = append(raws, raw)
				accepted, err := acceptor.Next(t.Context())
				require.NoError(t, err)
				receivers = append(receivers, accepted.Receiver)
			}
			// One of them answers, the others are silent; the server is gone all the same when
			// this subtest has ended.
			go func() {
				code, _, err := raws[0].ReadClose()
				if err == nil {
					_ = raws[0].Send(wsraw.CloseFrame(code, ""))
				}
			}()
		})
		for i, raw := range raws {
			require.NoError(t, receivers[i].Gone(t.Context()))
			if i > 0 {
				code, _, err := raw.ReadClose()
				require.NoError(t, err)
				require.Equal(t, socket.CloseGoingAway, code)
			}
			require.NoError(t, raw.Close())
		}
		_, err := wsraw.Dial(t.Context(), url, nil, nil)
		require.Error(t, err)
	})
}

func TestTLSIsRefused(t *testing.T) {
	t.Parallel()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	require.NoError(t, err)
	var log logbook
	server, err := nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: contract.NewAcceptor(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	web := httptest.NewTLSServer(server)
	t.Cleanup(web.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/?ticket=ada", nil)
	require.NoError(t, err)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	res, err := web.Client().Transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusInternalServerError, res.StatusCode)
	require.Contains(t, log.String(), "netws")
}

// TestNotRunning asks a server that nobody runs.
func TestNotRunning(t *testing.T) {
	t.Parallel()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	require.NoError(t, err)
	one, err := nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: contract.NewAcceptor()})
	require.NoError(t, err)
	two, err := netws.New(netws.Config{Handshake: handshake, Acceptor: contract.NewAcceptor()})
	require.NoError(t, err)
	for _, server := range []http.Handler{one, two} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the client does not wait
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/?ticket=ada", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Contains(t, w.Body.String(), "not_running")
	}
}

// wrapped is a listener whose connections hide the TCP connection.
type wrapped struct{ net.Listener }

func (l wrapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil
}

func TestWrappedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	require.NoError(t, err)
	var log logbook
	server, err := nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: contract.NewAcceptor(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	web := httptest.NewUnstartedServer(server)
	web.Listener = wrapped{web.Listener}
	web.Start()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		web.Close()
	})
	_, err = wsraw.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http")+"/?ticket=ada", nil, nil)
	require.ErrorContains(t, err, "handshake")
	require.Contains(t, log.String(), "cannot be polled")
}

func TestNewChecksAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := nbiows.New(nbiows.Config{PingInterval: time.Minute, IdleTimeout: time.Second})
	require.ErrorContains(t, err, "Handshake is missing")
	require.ErrorContains(t, err, "Acceptor is missing")
	require.ErrorContains(t, err, "not longer than PingInterval")
}

func TestRunOnceAndAtOnce(t *testing.T) {
	t.Parallel()
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}})
	require.NoError(t, err)
	for range 20 {
		server, err := nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: contract.NewAcceptor(), Pollers: 4})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, server.Run(ctx))
		require.ErrorContains(t, server.Run(ctx), "once")
	}
}
