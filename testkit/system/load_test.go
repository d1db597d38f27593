package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// heap returns the bytes of live objects.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSlowReader_isAlone lets one member of a room not read while others talk: their messages
// arrive, memory stays bounded, and the slow one loses typing first and then the connection.
// It measures this process, so nothing runs beside it.
func TestSlowReader_isAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: megabytes are sent to who does not read")
	}
	for _, transport := range []Transport{NBIO, Net} {
		t.Run(transport.String(), func(t *testing.T) {
			const (
				maxQueued = 512 << 10
				// More than the operating system buffers on loopback for a connection.
				messages = 800
				size     = 4 * chat.MaxText // bytes: of characters that take four
			)
			s := Start(t, Config{
				Store: SQLite, Transport: transport, // what is said is not kept in memory
				Hub:  realtime.HubConfig{MaxQueued: maxQueued, Rate: -1, TypingTTL: time.Hour},
				Auth: auth.Config{AccessTTL: 2 * time.Hour}, // the clock goes on while they talk
			})
			talker, typist := s.User(t, "Ada"), s.User(t, "Bob")
			typing := make(chan bool, messages) // as the talker sees it
			ada := s.Dial(t, talker, func(e wsclient.Event) {
				if e.Kind == wsclient.EventTyping {
					typing <- e.Typing
				}
			})
			bob := s.Dial(t, typist, nil)
			for _, c := range []*wsclient.Client{ada, bob} {
				_, err := c.Join(within(t), "tea")
				require.NoError(t, err)
			}
			slow := s.DialRaw(t, s.User(t, "Sid").AccessToken)
			require.NoError(t, slow.Send(text(`{"id":1,"event":"join_room","data":{"room":"tea"}}`)))
			f, err := slow.Read()
			require.NoError(t, err)
			require.Contains(t, string(f.Payload), `"ack"`)

			said := strings.Repeat("𝄞", chat.MaxText)
			ctx, cancel := context.WithTimeout(t.Context(), 2*waitTimeout)
			defer cancel()
			before := heap()
			var most uint64
			sent := 0
			// At the latest when the slow one was cut, enough was said.
			for ; sent < messages && s.Parts().Hub.Connections() == 3; sent++ {
				n := sent
				s.Advance(2 * time.Second) // so that typing is not too often
				require.NoError(t, bob.Typing(ctx, "tea", n%2 == 0))
				select {
				case got := <-typing:
					require.Equal(t, n%2 == 0, got)
				case <-ctx.Done():
					t.Fatal("those who read see who types")
				}
				_, err := ada.Send(ctx, "tea", said)
				require.NoError(t, err)
				if n%100 == 99 {
					now := heap()
					most = max(most, now-min(before, now))
				}
			}
			t.Logf("%d MB were said; the heap grew by at most %d KB", sent*size>>20, most>>10)
			// The queue, and 20 messages in the cache and in the client.
			require.Less(t, most, uint64(maxQueued+40*size+2<<20), "memory is bounded")

			// What reached the slow reader.
			var heard, sinceTyping int
			var last error
			code := 0
			for last == nil && code == 0 {
				if f, last = slow.Read(); last != nil {
					break
				}
				switch {
				case f.Opcode == wsraw.OpClose:
					code = int(f.Payload[0])<<8 | int(f.Payload[1])
				case strings.HasPrefix(string(f.Payload), `{"event":"message"`):
					heard++
					sinceTyping++
				case strings.HasPrefix(string(f.Payload), `{"event":"isTyping"`):
					sinceTyping = 0
				}
			}
			t.Logf("the slow reader got %d messages, the last %d without typing, and then %d %v", heard, sinceTyping, code, last)
			require.Less(t, heard, sent, "what it did not take was not kept for it")
			if code == 0 {
				// Cut with its queue, since it did not take the close frame in time.
				require.True(t, errors.Is(last, io.EOF) || errors.Is(last, io.ErrUnexpectedEOF) || errors.Is(last, syscall.ECONNRESET), "%v", last)
			} else {
				require.Equal(t, socket.CloseSlow, code)
				// Between a quarter of the queue and all of it fit twice as many, each with typing before it.
				require.Greater(t, sinceTyping, maxQueued*3/4/size/2, "typing is shed first")
			}

			page, err := bob.History(within(t), "tea", wsclient.Range{Limit: 1})
			require.NoError(t, err)
			require.EqualValues(t, sent, page.Messages[0].Seq, "everything that was said is stored")
		})
	}
}

// descriptors counts those of this process, or returns 0 where it cannot.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// TestConnections_leaveNothing lets clients come, join and go in every way there is. It counts
// what this process holds, so nothing runs beside it.
func TestConnections_leaveNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: thousands of connections are opened and closed")
	}
	for _, transport := range []Transport{NBIO, Net} {
		t.Run(transport.String(), func(t *testing.T) {
			const rounds, workers = 2000, 8
			s := Start(t, Config{Transport: transport})
			users := make([]User, workers)
			for i := range users {
				users[i] = s.User(t, fmt.Sprintf("User %d", i))
			}
			visit := func(u User, n int) error {
				r, err := wsraw.Dial(t.Context(), s.SocketURL, bearer(u.AccessToken), nil)
				if err != nil {
					return err
				}
				defer r.Close()
				if err := r.Send(text(fmt.Sprintf(`{"id":1,"event":"join_room","data":{"room":"room %d"}}`, n%5))); err != nil {
					return err
				}
				for {
					f, err := r.Read()
					if err != nil {
						return err
					}
					if strings.HasPrefix(string(f.Payload), `{"id":1,"event":"ack"`) {
						break
					}
				}
				switch n % 4 {
				case 0:
					return r.Reset()
				case 1:
					return r.Close()
				case 2:
					if err := r.Send(wsraw.CloseFrame(1000, "")); err != nil {
						return err
					}
				case 3:
					if err := r.Send(text(`{"event":"healthCheck"}`), wsraw.CloseFrame(1000, "")); err != nil {
						return err
					}
				}
				_, _, err = r.ReadClose()
				return err
			}
			quiet := func() (goroutines, files int) {
				eventually(t, "connections are left", func() bool { return s.Parts().Hub.Connections() == 0 })
				s.client.CloseIdleConnections()
				return len(labelled(s.label)), descriptors()
			}
			for n := range 4 { // what is made once and kept
				require.NoError(t, visit(users[0], n))
			}
			// What is on its way out has gone when two counts are the same.
			var goroutines, files int
			eventually(t, "the counts do not stand still", func() bool {
				g, f := quiet()
				same := g == goroutines && f == files
				goroutines, files = g, f
				return same
			})

			failures := make(chan error, workers)
			var wg sync.WaitGroup
			for i, u := range users {
				wg.Go(func() {
					for n := range rounds / workers {
						if err := visit(u, i+n); err != nil {
							failures <- fmt.Errorf("visit %d: %w", n, err)
							return
						}
					}
				})
			}
			wg.Wait()
			close(failures)
			require.NoError(t, <-failures)

			var g, f int
			eventually(t, "goroutines or descriptors are left", func() bool {
				g, f = quiet()
				return g <= goroutines && f <= files
			})
			t.Logf("%d connections: %d goroutines and %d descriptors before, %d and %d after", rounds, goroutines, files, g, f)
		})
	}
}
