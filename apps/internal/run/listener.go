package run

import (
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// What the system says when there are no file descriptors left.
var (
	errProcessFiles error = syscall.EMFILE
	errSystemFiles  error = syscall.ENFILE
)

// acceptPause is the wait after a connection could not be accepted for want of file descriptors.
const acceptPause = 100 * time.Millisecond

// patient is a listener that goes on when there are no file descriptors for a while: it says so, at most
// once a second, lets go what can be let go, and waits. Connections wait in the system's queue meanwhile.
// It accepts what the listener in it does, so that a transport finds the connections it knows.
type patient struct {
	net.Listener
	log *slog.Logger
	// spare closes connections that nobody needs just now.
	spare func()

	closing sync.Once
	closed  chan struct{}
}

func newPatient(l net.Listener, log *slog.Logger, spare func()) *patient {
	return &patient{Listener: l, log: log, spare: spare, closed: make(chan struct{})}
}

// Accept is net.Listener's.
func (p *patient) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err == nil || !lacksDescriptors(err) {
			return c, err
		}
		p.log.Error("out of file descriptors: nobody can connect until connections end; the limit (ulimit -n, LimitNOFILE) is too low for them", "error", err)
		p.spare() // each time: what answered a request since then is idle only now
		pause := time.NewTimer(acceptPause)
		select {
		case <-pause.C:
		case <-p.closed:
			pause.Stop()
			return nil, net.ErrClosed
		}
	}
}

// Close is net.Listener's.
func (p *patient) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return p.Listener.Close()
}
