package faultproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// chunk is how much of a connection is read at a time.
const chunk = 32 << 10

// link is one connection through a proxy.
type link struct {
	proxy  *Proxy
	client net.Conn

	ctx context.Context // ends when the link is reset
	end context.CancelFunc

	mu     sync.Mutex
	server net.Conn // nil until it is there
}

// carry connects to the server and moves bytes both ways until both have ended or one was reset.
func (l *link) carry() {
	defer l.forget()
	var dialer net.Dialer
	// Not under l.ctx: a dial that is left may close orderly what a server has accepted.
	server, err := dialer.DialContext(l.proxy.ctx, "tcp", l.proxy.target)
	if err != nil { // it looks as if the server had accepted and died
		l.reset()
		return
	}
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	if l.ctx.Err() != nil { // reset did not see the server
		reset(server)
		return
	}
	var ways sync.WaitGroup
	ways.Go(func() { l.pump(Up, l.client, server) })
	ways.Go(func() { l.pump(Down, server, l.client) })
	ways.Wait()
}

// pump moves the bytes of one direction, and then its end.
func (l *link) pump(d Direction, from, to net.Conn) {
	buffer := make([]byte, chunk)
	last := time.Time{}
	for {
		n, err := from.Read(buffer)
		read := time.Now()
		for data := buffer[:n]; len(data) > 0; {
			pass, ok := l.proxy.turn(l.ctx, d, read, later(last, read), len(data))
			if !ok {
				return
			}
			last = time.Now()
			if _, err := to.Write(data[:pass]); err != nil {
				l.reset()
				return
			}
			data = data[pass:]
		}
		if err == nil {
			continue
		}
		// A frozen way holds the end back too.
		if _, ok := l.proxy.turn(l.ctx, d, read, read, 0); !ok {
			return
		}
		if half, ok := to.(interface{ CloseWrite() error }); !ok || !errors.Is(err, io.EOF) || half.CloseWrite() != nil {
			l.reset()
		}
		return
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reset ends both sides at once. Calling it again is harmless.
func (l *link) reset() {
	l.end()
	reset(l.client)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		reset(l.server)
	}
}

// forget closes what is left and takes the link off the proxy's list.
func (l *link) forget() {
	l.end()
	_ = l.client.Close() // a second time, perhaps
	if l.server != nil {
		_ = l.server.Close()
	}
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	delete(l.proxy.links, l)
}

// reset closes a connection so that its peer is told of a reset, and not of an orderly end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it fails if the connection is closed, which is what is wanted
	}
	_ = conn.Close()
}
