// Package faultproxy is a TCP proxy that fails on demand, for tests of what a program does when a
// server that it needs is slow, silent or gone. The program is given the proxy's address in the
// server's stead; the test then freezes, refuses, cuts or slows its connections, and heals them.
//
//	proxy := faultproxy.Start(t, "127.0.0.1:5432")
//	// … the program connects to proxy.Addr()
//	proxy.Freeze(faultproxy.Both)
//	// … its requests fail within their deadline
//	proxy.Heal()
//	// … and it recovers
//
// It carries bytes and knows no protocol. A server that tells its clients its own address, as Kafka
// and a Redis cluster do, must be told to say the proxy's. It stands on the standard library alone.
package faultproxy

import (
	"context"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Direction is one of the two ways through a proxy, or both.
type Direction uint8

// The directions.
const (
	Up   Direction = 1 << iota // from the client to the server
	Down                       // from the server to the client
	Both = Up | Down
)

// Proxy listens on a port of the loopback interface and passes each connection on to one server.
// Make one with [Start]. Its methods may be called from many goroutines. What they say holds for
// the connections that are open and for those to come, and lasts until [Proxy.Heal].
type Proxy struct {
	t      testing.TB
	target string
	port   *port

	ctx context.Context // ends with the proxy
	end context.CancelFunc
	// running counts goroutines.
	running sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	ways     map[Direction]*way
	changed  chan struct{} // closed, and replaced, when a way changes
}

// way is what happens to the bytes of one direction.
type way struct {
	frozen  bool
	latency time.Duration
	rate    int // bytes a second; 0 is no limit
}

// Start starts a proxy in front of target, a host:port, and ends it, with all its connections and
// goroutines, when t ends. It does not connect to target before a client connects to it.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	if _, _, err := net.SplitHostPort(target); err != nil {
		t.Fatalf("faultproxy: the target: %v", err)
	}
	port, err := reserve()
	if err != nil {
		t.Fatalf("faultproxy: %v", err)
	}
	p := &Proxy{
		t: t, target: target, port: port,
		links:   map[*link]struct{}{},
		ways:    map[Direction]*way{Up: {}, Down: {}},
		changed: make(chan struct{}),
	}
	p.ctx, p.end = context.WithCancel(context.Background())
	t.Cleanup(p.close)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listen()
	return p
}

// Addr is the address to connect to, as host:port. It never changes.
func (p *Proxy) Addr() string { return p.port.address }

// Connections returns how many connections are open, those that are frozen too.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Freeze stops the bytes of a direction, as a server does that hangs, or a firewall that drops:
// connections are accepted and stay open, and nothing comes through, neither data nor the end of a
// connection. What was sent is held, as far as the buffers on the way take it, and goes on with Heal.
func (p *Proxy) Freeze(d Direction) { p.set(d, func(w *way) { w.frozen = true }) }

// Latency holds each piece of data of a direction back for that long. The next piece is read
// when the last has gone, so it bounds the rate too, to 32 KiB in that time.
func (p *Proxy) Latency(d Direction, wait time.Duration) {
	p.set(d, func(w *way) { w.latency = wait })
}

// Limit lets each connection have that many bytes a second of a direction; 0 is no limit.
func (p *Proxy) Limit(d Direction, bytesPerSecond int) {
	p.set(d, func(w *way) { w.rate = bytesPerSecond })
}

// Cut resets every connection now, frozen or not. New ones are treated as before.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// Refuse resets every connection and stops listening, as a server does that has crashed: new
// connections are refused, until Heal listens on the same port again. On Linux the port is kept
// meanwhile; elsewhere another process could take it.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close() // nothing is lost with it
		p.listener = nil
	}
	p.cut()
}

// Heal undoes everything: it listens again, and every byte passes at once, those that were held first.
// Connections that were reset stay so.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.ways {
		*w = way{}
	}
	p.tell()
	if p.listener == nil && p.ctx.Err() == nil {
		p.listen()
	}
}

func (p *Proxy) set(d Direction, change func(*way)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for direction, w := range p.ways {
		if d&direction != 0 {
			change(w)
		}
	}
	p.tell()
}

// tell wakes those who wait for their way to change. The caller holds mu.
func (p *Proxy) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// cut resets every connection. The caller holds mu.
func (p *Proxy) cut() {
	for l := range p.links {
		l.reset()
	}
}

// close ends the proxy and waits for its goroutines.
func (p *Proxy) close() {
	p.end()
	p.Refuse()
	p.running.Wait()
	p.port.release()
}

// listen begins to accept. The caller holds mu.
func (p *Proxy) listen() {
	p.t.Helper()
	l, err := p.port.listen()
	if err != nil {
		p.t.Errorf("faultproxy: listen on %s: %v", p.Addr(), err)
		return
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
}

// accept takes connections until the listener is closed.
func (p *Proxy) accept(from net.Listener) {
	const pause = 10 * time.Millisecond
	for {
		conn, err := from.Accept()
		if err == nil {
			p.link(from, conn)
			continue
		}
		p.mu.Lock()
		over := p.listener != from
		p.mu.Unlock()
		if over {
			return
		}
		select { // no more files, say
		case <-time.After(pause):
		case <-p.ctx.Done():
		}
	}
}

// link begins to carry a connection, unless its listener was closed meanwhile.
func (p *Proxy) link(from net.Listener, client net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != from {
		reset(client)
		return
	}
	l := &link{proxy: p, client: client}
	l.ctx, l.end = context.WithCancel(p.ctx)
	p.links[l] = struct{}{}
	p.running.Go(l.carry)
}

// turn waits until bytes of a direction may pass, and returns how many of n. read is when they
// came, last when the ones before them went. ok is false if the connection was reset meanwhile.
func (p *Proxy) turn(ctx context.Context, d Direction, read, last time.Time, n int) (pass int, ok bool) {
	for {
		p.mu.Lock()
		way, changed := *p.ways[d], p.changed
		p.mu.Unlock()
		if ctx.Err() != nil {
			return 0, false
		}
		var due <-chan time.Time // never
		if !way.frozen {
			at := read.Add(way.latency)
			pass = n
			if way.rate > 0 {
				pass = min(n, max(1, way.rate/20)) // some twenty pieces a second
				if free := last.Add(time.Duration(pass) * time.Second / time.Duration(way.rate)); free.After(at) {
					at = free
				}
			}
			wait := time.Until(at)
			if wait <= 0 {
				return pass, true
			}
			due = time.After(wait)
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// listen listens on an address where a listener of this process was closed. It waits for programs that start: each has a copy of
// that listener until it runs, and the address would be in use.
func listen(address string) (net.Listener, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var c net.ListenConfig
	return c.Listen(context.Background(), "tcp", address)
}
