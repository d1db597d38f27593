package redisstore

import (
	"context"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// leaver is a hook of a client of one server that closes every connection to a server that says
// that it is the wrong one: a primary that has become a replica, or one that loads its data. A
// connection stays with the machine that it was made to, whoever has its name or its
// place behind a proxy by now; the next one goes where the name leads then. Subscriptions go with it: a
// replica would take them, and hear nothing.
type leaver struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

var (
	_ redis.Hook    = (*leaver)(nil)
	_ redis.Limiter = (*leaver)(nil)
)

// attach lets l watch a client that was not used yet. A hook sees what a command came to in the end, after
// it was repeated; each attempt by itself is told to the limiter of the client.
func (l *leaver) attach(c *redis.Client) {
	c.AddHook(l)
	c.Options().Limiter = l
}

// Allow lets every attempt through.
func (l *leaver) Allow() error { return nil }

// ReportResult looks at what an attempt came to.
func (l *leaver) ReportResult(err error) {
	if wrongServer(err) {
		l.leave()
	}
}

// wrongServer reports whether a server says that another is meant.
func wrongServer(err error) bool {
	return err != nil && (redis.IsReadOnlyError(err) || redis.IsLoadingError(err) || redis.IsMasterDownError(err))
}

// DialHook keeps count of connections.
func (l *leaver) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open == nil {
			l.open = map[net.Conn]struct{}{}
		}
		l.open[c] = struct{}{}
		closed := func() {
			l.mu.Lock()
			delete(l.open, c)
			l.mu.Unlock()
		}
		// The client looks into sockets whether they still stand, which a plain wrapper would hide.
		if tcp, ok := c.(*net.TCPConn); ok {
			return tcpConn{tcp, closed}, nil
		}
		return plainConn{c, closed}, nil
	}
}

// ProcessHook changes nothing.
func (l *leaver) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook looks at the answers to a pipeline.
func (l *leaver) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, c := range cmds {
			if wrongServer(c.Err()) {
				l.leave()
				break
			}
		}
		return err
	}
}

// leave closes all connections.
func (l *leaver) leave() {
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}

// tcpConn and plainConn say when they are closed.
type (
	tcpConn struct {
		*net.TCPConn
		closed func()
	}
	plainConn struct {
		net.Conn
		closed func()
	}
)

func (c tcpConn) Close() error   { c.closed(); return c.TCPConn.Close() }
func (c plainConn) Close() error { c.closed(); return c.Conn.Close() }
