package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pool makes the connections to a server, and tells them apart by when they were made: those of before the
// last [pool.leave] are closed when they come back, or are asked for. So a server that is not the one to write to any more is
// left by all of them, at the first word of one.
type pool struct {
	driver.Connector
	// setUp are statements that every connection begins with.
	setUp []string
	// patience bounds making one.
	patience time.Duration
	// wrap, which may be nil, adds to what the driver's connections can do.
	wrap func(fullConn) fullConn

	era  atomic.Uint64
	mu   sync.Mutex
	left time.Time
}

// leaveAgain is how soon all connections may be left once more. While a server takes no writes every call says so,
// and making connections anew each time would only be work for it.
const leaveAgain = 250 * time.Millisecond

// leave gives up the connections that there are. A pool that is the caller's is nil.
func (p *pool) leave() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.left) >= leaveAgain {
		p.left = now
		p.era.Add(1)
	}
}

// fullConn is what the connections of both drivers can do.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.NamedValueChecker
}

// Connect makes a connection and sets it up.
func (p *pool) Connect(ctx context.Context) (driver.Conn, error) {
	era := p.era.Load() // before, since it may lead to the old server
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	raw, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := raw.(fullConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's connection is a %T", raw), raw.Close())
	}
	for _, statement := range p.setUp {
		if _, err := conn.ExecContext(ctx, statement, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if p.wrap != nil {
		conn = p.wrap(conn)
	}
	return pooled{conn, p, era}, nil
}

// pooled is a connection that knows when it was made.
type pooled struct {
	fullConn

	pool *pool
	era  uint64
}

// IsValid implements driver.Validator: it is asked when the connection comes back.
func (c pooled) IsValid() bool {
	if c.pool.era.Load() != c.era {
		return false
	}
	own, ok := c.fullConn.(driver.Validator)
	return !ok || own.IsValid()
}

// ResetSession implements driver.SessionResetter: it is asked before the connection is used.
func (c pooled) ResetSession(ctx context.Context) error {
	if c.pool.era.Load() != c.era {
		return driver.ErrBadConn
	}
	return c.fullConn.ResetSession(ctx)
}

// dialer makes TCP connections that end when the other machine has not been heard of for so long: one that lost
// power says no goodbye. Zero leaves it to the system.
func dialer(silence time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{}
	if silence > 0 {
		d.KeepAliveConfig = net.KeepAliveConfig{
			Enable: true, Idle: probes(silence), Interval: probes(silence), Count: probeCount - 1,
		}
		d.Control = func(network, _ string, raw syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			// Where the system does not know it, keep-alive alone must do.
			return raw.Control(func(fd uintptr) { limitSilence(fd, silence) })
		}
	}
	return d.DialContext
}

// probeCount is how many times in the silence that is allowed the other side is asked whether it is there.
const probeCount = 5

// probes is how far keep-alive probes are apart: whole seconds, as the systems want them.
func probes(silence time.Duration) time.Duration {
	return max(time.Second, (silence / probeCount).Round(time.Second))
}

// seconds is a duration as servers want it, rounded up, since 0 means without end to them.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// open returns a handle whose connections the pool makes.
func (p *pool) open(cfg Config) *sql.DB {
	db := sql.OpenDB(p)
	db.SetMaxOpenConns(cfg.Connections)
	db.SetMaxIdleConns(cfg.Connections)
	db.SetConnMaxLifetime(cfg.MaxLifetime)
	db.SetConnMaxIdleTime(cfg.MaxIdle)
	return db
}
