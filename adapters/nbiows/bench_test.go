//go:build linux

package nbiows_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/core/socket"
)

// counter is an acceptor, and the receiver of all its connections.
type counter struct{ received, gone atomic.Int64 }

func (c *counter) Accept(socket.Conn, socket.Hello) (socket.Receiver, error) { return c, nil }

func (c *counter) Receive([]byte, bool) { c.received.Add(1) }

func (c *counter) Disconnected() { c.gone.Add(1) }

// dialBare connects without net, so that the client's end costs this process no memory but the kernel's.
func dialBare(b testing.TB, address, offer string) int {
	b.Helper()
	u, err := url.Parse(address)
	require.NoError(b, err)
	tcp, err := net.ResolveTCPAddr("tcp4", u.Host)
	require.NoError(b, err)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(b, err)
	require.NoError(b, syscall.Connect(fd, &syscall.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}))
	_, err = syscall.Write(fd, fmt.Appendf(nil, "GET /socket?%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: %s\r\n\r\n", u.RawQuery, offer))
	require.NoError(b, err)
	answer := make([]byte, 1024)
	n, err := syscall.Read(fd, answer)
	require.NoError(b, err)
	require.True(b, bytes.HasSuffix(answer[:n], []byte("\r\n\r\n")))
	return fd
}

// BenchmarkIdle reports what an idle connection costs in heap and stacks ("B/conn"), in the process's
// resident memory ("rss-B/conn"), and what all of them cost in processor time ("%cpu", before the first pings).
func BenchmarkIdle(b *testing.B) {
	const conns = 8000
	for b.Loop() {
		acceptor := &counter{}
		address := start(b, acceptor, func(cfg *nbiows.Config) { cfg.IdleTimeout, cfg.CloseTimeout = time.Hour, 5*time.Second })
		fds := make([]int, 0, conns)
		for range 100 { // what is needed once
			fds = append(fds, dialBare(b, address, ""))
		}
		heap, rss := footprint(b)
		for len(fds) < conns {
			fds = append(fds, dialBare(b, address, ""))
		}
		moreHeap, moreRSS := footprint(b)
		before := cpu(b)
		began := time.Now()
		time.Sleep(5 * time.Second)
		used := float64(cpu(b)-before) / float64(time.Since(began))
		b.ReportMetric(float64(moreHeap-heap)/(conns-100), "B/conn")
		b.ReportMetric(float64(moreRSS-rss)/(conns-100), "rss-B/conn")
		b.ReportMetric(100*used, "%cpu")
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
		for acceptor.gone.Load() < conns {
			runtime.Gosched()
		}
	}
}

func footprint(b *testing.B) (heap, rss int64) {
	b.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(b, err)
	var size, resident int64
	_, err = fmt.Sscan(string(statm), &size, &resident)
	require.NoError(b, err)
	return int64(m.HeapAlloc + m.StackInuse), resident * int64(os.Getpagesize())
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEcho measures one message of 200 bytes to the receiver, and one frame back.
func BenchmarkEcho(b *testing.B) {
	frame := socket.NewFrame(func(dst []byte) []byte { return append(dst, make([]byte, 200)...) })
	address := start(b, acceptorFunc(func(c socket.Conn, _ socket.Hello) (socket.Receiver, error) {
		return echo{c, frame}, nil
	}), nil)
	fd := dialBare(b, address, "")
	message := whole(1, string(make([]byte, 200))).Append(nil)
	answer := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := syscall.Write(fd, message); err != nil {
			b.Fatal(err)
		}
		for n := 0; n < frame.Len(); {
			m, err := syscall.Read(fd, answer)
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
	}
	_ = syscall.Close(fd)
}

type echo struct {
	conn  socket.Conn
	frame *socket.Frame
}

func (e echo) Receive([]byte, bool) { _ = e.conn.Send(e.frame) }

func (echo) Disconnected() {}

// keeper is an acceptor that keeps its connections.
type keeper struct {
	counter
	conns chan socket.Conn
}

func (k *keeper) Accept(c socket.Conn, _ socket.Hello) (socket.Receiver, error) {
	k.conns <- c
	return &k.counter, nil
}

// BenchmarkBroadcast sends one frame of 200 bytes to 2,000 connections whose clients read nothing
// while the clock runs.
func BenchmarkBroadcast(b *testing.B) {
	const conns = 2000
	acceptor := &keeper{conns: make(chan socket.Conn, conns)}
	address := start(b, acceptor, nil)
	fds := make([]int, conns)
	all := make([]socket.Conn, conns)
	for i := range fds {
		fds[i] = dialBare(b, address, "")
		all[i] = <-acceptor.conns
	}
	frame := socket.NewFrame(func(dst []byte) []byte { return append(dst, make([]byte, 200)...) })
	buffer := make([]byte, 64<<10)
	b.ReportAllocs()
	rounds := 0
	for b.Loop() {
		for _, c := range all {
			if err := c.Send(frame); err != nil {
				b.Fatal(err)
			}
		}
		if rounds++; rounds%100 == 0 {
			b.StopTimer()
			for _, fd := range fds {
				for left := 100 * frame.Len(); left > 0; {
					n, err := syscall.Read(fd, buffer)
					if err != nil {
						b.Fatal(err)
					}
					left -= n
				}
			}
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*conns), "ns/frame")
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}

// What is sent to a reader who keeps up is written from the frame that all receivers share.
func TestSendAllocatesNothing(t *testing.T) {
	acceptor := &keeper{conns: make(chan socket.Conn, 1)}
	fd := dialBare(t, start(t, acceptor, nil), "")
	c := <-acceptor.conns
	one := socket.NewFrame(func(dst []byte) []byte { return append(dst, make([]byte, 200)...) })
	buffer := make([]byte, 4096)
	for name, frame := range map[string]*socket.Frame{"one message": one, "joined messages": socket.Join(one, one, one)} {
		assert.Zero(t, testing.AllocsPerRun(200, func() {
			err := c.Send(frame)
			for left := frame.Len(); left > 0 && err == nil; {
				var n int
				n, err = syscall.Read(fd, buffer)
				left -= n
			}
			if err != nil {
				t.Fatal(err)
			}
		}), name)
	}
	require.NoError(t, syscall.Close(fd))
}

// deliverTo opens connections that the client's side offers compression for, if offer is not empty, and returns them with its
// descriptors.
func deliverTo(tb testing.TB, n int, compress bool, offer string) (all []socket.Conn, fds []int) {
	tb.Helper()
	acceptor := &keeper{conns: make(chan socket.Conn, n)}
	address := start(tb, acceptor, func(cfg *nbiows.Config) { cfg.Compress = compress })
	for range n {
		fds = append(fds, dialBare(tb, address, offer))
		all = append(all, <-acceptor.conns)
	}
	return all, fds
}

// drain reads what was sent to each of them.
func drain(tb testing.TB, fds []int, bytes int) {
	tb.Helper()
	buffer := make([]byte, 64<<10)
	for _, fd := range fds {
		for left := bytes; left > 0; {
			n, err := syscall.Read(fd, buffer)
			if err != nil || n == 0 {
				tb.Fatal(n, err)
			}
			left -= n
		}
	}
}

// TestDeliveryAllocatesNothing counts what one broadcast to many costs: with compression its one compressed frame, and nothing for each who
// gets it.
func TestDeliveryAllocatesNothing(t *testing.T) { // not parallel: it counts
	const conns = 100
	for name, c := range map[string]struct {
		compress bool
		offer    string
	}{"off": {false, ""}, "on, not offered": {true, ""}, "on": {true, "permessage-deflate"}} {
		t.Run(name, func(t *testing.T) {
			all, fds := deliverTo(t, conns, c.compress, c.offer)
			var frame *socket.Frame
			length := 0
			broadcast := func() {
				frame = socket.NewFrame(func(dst []byte) []byte { return append(dst, bytes.Repeat([]byte("all the same "), 100)...) })
				for _, conn := range all {
					if err := conn.Send(frame); err != nil {
						t.Fatal(err)
					}
				}
				length = frame.Len()
				if c.offer != "" {
					length = frame.Deflated(512).Len()
				}
				drain(t, fds, length)
			}
			broadcast() // what is needed once
			allocations := testing.AllocsPerRun(10, broadcast)
			require.Less(t, allocations, float64(conns)/2, "of %d deliveries", conns)
			require.Equal(t, c.offer != "", length < frame.Len())
			for _, fd := range fds {
				require.NoError(t, syscall.Close(fd))
			}
		})
	}
}

// BenchmarkCompressed sends a new message of the given length to 200 connections: what compression costs a delivery, and what it saves on the wire.
func BenchmarkCompressed(b *testing.B) {
	const conns = 200
	for _, size := range []int{256, 1024, 4096} {
		text := prose(size)
		for _, c := range []struct {
			name     string
			compress bool
			offer    string
		}{{"off", false, ""}, {"on", true, "permessage-deflate"}} {
			b.Run(fmt.Sprintf("%d/%s", size, c.name), func(b *testing.B) {
				all, fds := deliverTo(b, conns, c.compress, c.offer)
				b.ReportAllocs()
				var used time.Duration
				length, rounds := 0, 0
				before := cpu(b)
				for b.Loop() {
					frame := socket.NewFrame(func(dst []byte) []byte { return append(dst, text...) })
					for _, conn := range all {
						if err := conn.Send(frame); err != nil {
							b.Fatal(err)
						}
					}
					length = frame.Len()
					if c.offer != "" {
						length = frame.Deflated(512).Len()
					}
					if rounds++; rounds%20 == 0 {
						b.StopTimer()
						used += cpu(b) - before
						drain(b, fds, 20*length)
						before = cpu(b)
						b.StartTimer()
					}
				}
				used += cpu(b) - before
				b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*conns), "cpu-ns/delivery")
				b.ReportMetric(float64(length), "B/delivery")
				for _, fd := range fds {
					_ = syscall.Close(fd)
				}
			})
		}
	}
}

// prose is n bytes like a message of a chat.
func prose(n int) []byte {
	rnd := rand.New(rand.NewPCG(7, 8))
	words := strings.Fields("the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were when we there can an your which their said if do will each about how up out them then she many some so these would other into has more her two like him see time could no make than first been its who now people made over did down only way find use may water long little very after words called just where most know")
	b := []byte(`{"event":"message","data":{"room":"lobby","seq":4711,"id":"01J9Z3V6T5Q8","user":{"id":"01J9Z3V6","name":"Ada Lovelace"},"text":"`)
	for len(b) < n {
		b = append(append(b, words[rnd.IntN(len(words))]...), ' ')
	}
	return b[:n]
}
