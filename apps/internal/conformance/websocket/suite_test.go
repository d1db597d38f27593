// Package websocket holds both transports against RFC 6455, case by case: the cases have the numbers of the core cases of the Autobahn
// test suite, so that a run can be compared with it, and are made here from tables.
package websocket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/wsraw"
)

func TestMain(m *testing.M) {
	testkit.Parallel(4)
	goleak.VerifyTestMain(m)
}

// maxMessage is the longest message of any case.
const maxMessage = 16 << 20

// echo answers every message with the same message.
type echo struct{ conn socket.Conn }

func (e echo) Receive(payload []byte, binary bool) {
	build := func(dst []byte) []byte { return append(dst, payload...) }
	f := socket.NewFrame
	if binary {
		f = socket.NewBinaryFrame
	}
	_ = e.conn.Send(f(build)) // the client finds what is missing
}

func (echo) Disconnected() {}

// transport is what both transports have.
type transport interface {
	Run(ctx context.Context) error
	Upgrade(w http.ResponseWriter, r *http.Request, options socket.UpgradeOptions, accept func(socket.Conn) (socket.Receiver, error))
}

var transports = map[string]func(socket.TransportConfig) (transport, error){
	"nbiows": func(cfg socket.TransportConfig) (transport, error) { return nbiows.New(cfg) },
	"netws":  func(cfg socket.TransportConfig) (transport, error) { return netws.New(cfg) },
}

// serve serves an echo, and returns its address.
func serve(t *testing.T, open func(socket.TransportConfig) (transport, error), cfg socket.TransportConfig) string {
	t.Helper()
	return serveLimited(t, open, cfg, maxMessage)
}

// serveLimited serves an echo of messages that have at most so many bytes.
func serveLimited(t *testing.T, open func(socket.TransportConfig) (transport, error), cfg socket.TransportConfig, maxMessage int) string {
	t.Helper()
	cfg.UpgradeOnly = true
	// However slow the machine is: no ping of the server comes between.
	options := socket.UpgradeOptions{MaxMessage: maxMessage, TooLarge: socket.CloseMessageTooBig, Unwatched: true}
	server, err := open(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.Upgrade(w, r, options, func(c socket.Conn) (socket.Receiver, error) { return echo{c}, nil })
	}))
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http")
}

// step is one step of the client's part in a case.
type step func(c *wsraw.Conn) error

// sends sends frames in one write.
func sends(frames ...wsraw.Frame) step {
	return func(c *wsraw.Conn) error { return c.Send(frames...) }
}

// sendsEach sends each frame in a write of its own.
func sendsEach(frames ...wsraw.Frame) step {
	return func(c *wsraw.Conn) error {
		for _, f := range frames {
			if err := c.Send(f); err != nil {
				return err
			}
		}
		return nil
	}
}

// sendsParts sends frames in writes of n bytes.
func sendsParts(n int, frames ...wsraw.Frame) step {
	return func(c *wsraw.Conn) error {
		var wire []byte
		for _, f := range frames {
			wire = f.Append(wire)
		}
		for len(wire) > 0 {
			part := wire[:min(n, len(wire))]
			if err := c.Write(part); err != nil {
				return err
			}
			wire = wire[len(part):]
		}
		return nil
	}
}

// sendsBeginning sends a frame without its last missing bytes.
func sendsBeginning(f wsraw.Frame, missing int) step {
	return func(c *wsraw.Conn) error {
		wire := f.Append(nil)
		return c.Write(wire[:len(wire)-missing])
	}
}

// gets wants these frames next.
func gets(want ...wsraw.Frame) step {
	return func(c *wsraw.Conn) error {
		for i, w := range want {
			f, err := c.Read()
			if err != nil {
				return fmt.Errorf("waiting for answer %d: %w", i, err)
			}
			if f.Opcode != w.Opcode || !f.Final || f.Reserved != 0 || !bytes.Equal(f.Payload, w.Payload) {
				return fmt.Errorf("answer %d is %s, want %s", i, brief(f), brief(w))
			}
		}
		return nil
	}
}

func brief(f wsraw.Frame) string {
	return fmt.Sprintf("opcode %d, final %t, reserved %d, %d bytes: %.40q", f.Opcode, f.Final, f.Reserved, len(f.Payload), f.Payload)
}

// ends wants the server to send a close frame with this code and nothing else, and to end the connection in peace.
func ends(code int) step { return end(code, false) }

// endsOrCut is ends for a client that has sent something behind its close frame: the connection may be reset when that comes.
func endsOrCut(code int) step { return end(code, true) }

func end(code int, mayReset bool) step {
	return func(c *wsraw.Conn) error {
		f, err := c.Read()
		if err != nil {
			return fmt.Errorf("waiting for the close frame: %w", err)
		}
		want := wsraw.CloseFrame(code, "").Payload // which a reason may follow
		if f.Opcode != wsraw.OpClose || !f.Final || f.Reserved != 0 || !bytes.HasPrefix(f.Payload, want) || (code == 0 && len(f.Payload) > 0) {
			return fmt.Errorf("the end is %s, want a close frame with %d", brief(f), code)
		}
		f, err = c.Read()
		switch {
		case errors.Is(err, io.EOF), mayReset && errors.Is(err, syscall.ECONNRESET):
			return nil
		case err != nil:
			return fmt.Errorf("after the close frame: %w", err)
		default:
			return fmt.Errorf("after the close frame came %s", brief(f))
		}
	}
}

// leaves closes, and wants the same code back.
func leaves(c *wsraw.Conn) error {
	if err := c.Send(wsraw.CloseFrame(1000, "")); err != nil {
		return err
	}
	return ends(1000)(c)
}

// testCase is one case: a conversation that has one right course.
type testCase struct {
	id    string
	about string
	steps []step
}

// spared reports whether a short run leaves the case out: megabytes, and what is cut into very many pieces.
func (tc testCase) spared() bool {
	if !testing.Short() {
		return false
	}
	section, rest, _ := strings.Cut(tc.id, ".")
	_, number, _ := strings.Cut(rest, ".")
	switch section {
	case "9": // 64 KiB, the first of each kind of message
		return tc.id != "9.1.1" && tc.id != "9.2.1"
	case "12", "13": // up to 4 KiB, and 8 KiB in pieces
		n, err := strconv.Atoi(number)
		return err != nil || n > 5 && n != 11
	}
	return false
}

// run has the conversation.
func (tc testCase) run(ctx context.Context, url string, header http.Header) error {
	c, err := wsraw.Dial(ctx, url, header, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for i, s := range tc.steps {
		if err := s(c); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// TestCases has every conversation with both transports.
func TestCases(t *testing.T) {
	t.Parallel()
	cases := coreCases()
	for name, open := range transports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, open, socket.TransportConfig{})
			t.Run("cases", func(t *testing.T) { // ends before the server does
				for _, tc := range cases {
					if tc.spared() {
						continue
					}
					t.Run(tc.id, func(t *testing.T) {
						t.Parallel()
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
						defer cancel()
						require.NoError(t, tc.run(ctx, url, nil), tc.about)
					})
				}
			})
		})
	}
}

// TestCount counts the cases of each section: none is forgotten, and none stands twice.
func TestCount(t *testing.T) {
	t.Parallel()
	got, ids := map[string]int{}, map[string]bool{}
	cases := coreCases()
	for _, tc := range cases {
		section, _, _ := strings.Cut(tc.id, ".")
		got[section]++
		require.False(t, ids[tc.id], tc.id)
		ids[tc.id] = true
		require.NotEmpty(t, tc.about, tc.id)
	}
	require.Equal(t, map[string]int{"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1}, got)
	require.Len(t, cases, 301)
}
