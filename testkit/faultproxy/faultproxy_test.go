package faultproxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/testkit/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen, silence what must not.
const (
	patience = 20 * time.Second
	silence  = 60 * time.Millisecond
)

// server accepts connections and hands them to the test.
type server struct {
	address string
	conns   chan net.Conn
}

func serve(t *testing.T) *server {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{l.Addr().String(), make(chan net.Conn, 16)}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(s.conns)
				return
			}
			s.conns <- conn
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		accepting.Wait()
		for conn := range s.conns {
			_ = conn.Close()
		}
	})
	return s
}

// next returns the server's end of the next connection.
func (s *server) next(t *testing.T) net.Conn {
	t.Helper()
	select {
	case conn := <-s.conns:
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	case <-time.After(patience):
		require.FailNow(t, "the server got no connection")
		return nil
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// pair starts a proxy and returns both ends of a connection through it.
func pair(t *testing.T) (p *faultproxy.Proxy, client, served net.Conn) {
	t.Helper()
	s := serve(t)
	p = faultproxy.Start(t, s.address)
	client = dial(t, p.Addr())
	return p, client, s.next(t)
}

func send(t *testing.T, to net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(to, text)
	require.NoError(t, err)
}

func wants(t *testing.T, from net.Conn, text string) {
	t.Helper()
	require.NoError(t, from.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(text))
	_, err := io.ReadFull(from, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// silent wants that nothing comes, neither data nor an end.
func silent(t *testing.T, from net.Conn) {
	t.Helper()
	require.NoError(t, from.SetReadDeadline(time.Now().Add(silence)))
	n, err := from.Read(make([]byte, 1))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "%d bytes, %v", n, err)
}

func wantsReset(t *testing.T, from net.Conn) {
	t.Helper()
	require.NoError(t, from.SetReadDeadline(time.Now().Add(patience)))
	_, err := from.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, time.Millisecond, what)
}

func TestPassesBothWays(t *testing.T) {
	t.Parallel()
	p, client, served := pair(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	for _, way := range []struct{ from, to net.Conn }{{client, served}, {served, client}} {
		var writing sync.WaitGroup
		writing.Go(func() {
			_, err := way.from.Write(big)
			assert.NoError(t, err)
		})
		require.NoError(t, way.to.SetReadDeadline(time.Now().Add(patience)))
		got := make([]byte, len(big))
		_, err := io.ReadFull(way.to, got)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(big, got))
		writing.Wait()
	}
	assert.Equal(t, 1, p.Connections())
}

func TestHalfClose(t *testing.T) {
	t.Parallel()
	p, client, served := pair(t)
	send(t, client, "question")
	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(served)
	require.NoError(t, err)
	assert.Equal(t, "question", string(got))
	send(t, served, "answer")
	require.NoError(t, served.Close())
	got, err = io.ReadAll(client)
	require.NoError(t, err)
	assert.Equal(t, "answer", string(got))
	eventually(t, "the proxy forgets the connection", func() bool { return p.Connections() == 0 })
}

func TestResetIsPassedOn(t *testing.T) {
	t.Parallel()
	_, client, served := pair(t)
	require.NoError(t, client.(*net.TCPConn).SetLinger(0))
	require.NoError(t, client.Close())
	wantsReset(t, served)
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		freeze   []faultproxy.Direction
		up, down bool // whether it is frozen
	}{
		{"both", []faultproxy.Direction{faultproxy.Both}, true, true},
		{"up", []faultproxy.Direction{faultproxy.Up}, true, false},
		{"down", []faultproxy.Direction{faultproxy.Down}, false, true},
		{"one after the other", []faultproxy.Direction{faultproxy.Up, faultproxy.Down}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, client, served := pair(t)
			send(t, client, "before")
			wants(t, served, "before")
			for _, d := range c.freeze {
				p.Freeze(d)
			}
			for _, way := range []struct {
				from, to net.Conn
				frozen   bool
			}{{client, served, c.up}, {served, client, c.down}} {
				send(t, way.from, "held")
				if way.frozen {
					silent(t, way.to)
				} else {
					wants(t, way.to, "held")
				}
				send(t, way.from, " and more")
			}
			p.Heal()
			for _, way := range []struct {
				to     net.Conn
				frozen bool
			}{{served, c.up}, {client, c.down}} {
				if way.frozen {
					wants(t, way.to, "held")
				}
				wants(t, way.to, " and more")
			}
		})
	}
}

func TestFrozenAcceptsAndHoldsTheEnd(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := faultproxy.Start(t, s.address)
	p.Freeze(faultproxy.Both)
	client := dial(t, p.Addr())
	served := s.next(t)
	send(t, client, "hello")
	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	silent(t, served)
	require.NoError(t, served.(*net.TCPConn).CloseWrite())
	silent(t, client)
	assert.Equal(t, 1, p.Connections())
	p.Heal()
	wants(t, served, "hello")
	for _, end := range []net.Conn{served, client} {
		require.NoError(t, end.SetReadDeadline(time.Now().Add(patience)))
		_, err := end.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := faultproxy.Start(t, s.address)
	address := p.Addr()
	for range 3 {
		client := dial(t, address)
		served := s.next(t)
		p.Refuse()
		p.Refuse() // harmless
		wantsReset(t, client)
		wantsReset(t, served)
		_, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		eventually(t, "the proxy forgets the connection", func() bool { return p.Connections() == 0 })
		p.Heal()
		p.Heal() // harmless
		require.Equal(t, address, p.Addr())
	}
	client := dial(t, address)
	send(t, client, "again")
	wants(t, s.next(t), "again")
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("frozen is %v", frozen), func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			p := faultproxy.Start(t, s.address)
			first, second := dial(t, p.Addr()), dial(t, p.Addr())
			servedA, servedB := s.next(t), s.next(t)
			if frozen {
				p.Freeze(faultproxy.Both)
				send(t, first, "never arrives")
				silent(t, servedA)
				silent(t, servedB)
			}
			p.Cut()
			for _, end := range []net.Conn{first, second, servedA, servedB} {
				wantsReset(t, end)
			}
			third := dial(t, p.Addr())
			served := s.next(t)
			send(t, third, "new")
			if frozen {
				silent(t, served)
				p.Heal()
			}
			wants(t, served, "new")
		})
	}
}

func TestServerIsGone(t *testing.T) {
	t.Parallel()
	s := serve(t)
	gone := faultproxy.Start(t, s.address)
	gone.Refuse() // a port that nothing listens on, and that nobody else gets
	p := faultproxy.Start(t, gone.Addr())
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Addr())
	if err == nil {
		t.Cleanup(func() { _ = client.Close() })
		wantsReset(t, client)
	} else {
		require.True(t, errors.Is(err, syscall.ECONNRESET), "%v", err)
	}
	eventually(t, "the proxy forgets the connection", func() bool { return p.Connections() == 0 })
}

func TestLatency(t *testing.T) {
	t.Parallel()
	p, client, served := pair(t)
	const wait = 50 * time.Millisecond
	p.Latency(faultproxy.Up, wait)
	begun := time.Now()
	send(t, client, "late")
	wants(t, served, "late")
	assert.GreaterOrEqual(t, time.Since(begun), wait) // it cannot come sooner, however slow the machine is
	p.Latency(faultproxy.Up, time.Hour)
	send(t, client, "healed")
	silent(t, served)
	p.Heal()
	wants(t, served, "healed")
}

func TestLimit(t *testing.T) {
	t.Parallel()
	p, client, served := pair(t)
	p.Limit(faultproxy.Down, 1000)
	begun := time.Now()
	text := string(bytes.Repeat([]byte("x"), 200))
	send(t, served, text)
	wants(t, client, text)
	assert.GreaterOrEqual(t, time.Since(begun), 200*time.Millisecond) // 200 bytes at 1,000 a second
	p.Limit(faultproxy.Down, 1)
	send(t, served, text)
	send(t, client, "the other way is free")
	wants(t, served, "the other way is free")
	p.Heal()
	wants(t, client, text)
}

func TestEndsWithItsTest(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var address string
	var open net.Conn
	t.Run("a test", func(t *testing.T) {
		p := faultproxy.Start(t, s.address)
		address = p.Addr()
		var err error
		open, err = new(net.Dialer).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		s.next(t)
		p.Freeze(faultproxy.Both)
		send(t, open, "held")
	})
	t.Cleanup(func() { _ = open.Close() })
	wantsReset(t, open)
	_, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := faultproxy.Start(t, s.address)
	ctx, cancel := context.WithCancel(t.Context())
	var echoing, clients sync.WaitGroup
	echoing.Go(func() {
		for {
			select {
			case conn := <-s.conns:
				echoing.Go(func() {
					defer func() { _ = conn.Close() }()
					_, _ = io.Copy(conn, conn) // until it is cut
				})
			case <-ctx.Done():
				return
			}
		}
	})
	for range 8 {
		clients.Go(func() {
			for range 20 {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr())
				if err != nil {
					continue // refused just now
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				if _, err := io.WriteString(conn, "ping"); err == nil {
					_, _ = io.ReadFull(conn, make([]byte, 4))
				}
				_ = conn.Close()
			}
		})
	}
	for range 30 {
		p.Freeze(faultproxy.Up)
		p.Cut()
		p.Refuse()
		p.Heal()
	}
	clients.Wait()
	conn := dial(t, p.Addr())
	send(t, conn, "healed")
	wants(t, conn, "healed")
	require.NoError(t, conn.Close())
	eventually(t, "the proxy forgets the connections", func() bool { return p.Connections() == 0 })
	cancel()
	echoing.Wait()
}
