//go:build unix

package nbiows

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/lesismal/nbio"
)

const supported = true

// adopt duplicates plain for the poller, and closes plain. No process that is started meanwhile inherits the duplicate,
// as nbio would let it. The kernel would go on telling the poller about a connection that another process holds, under
// its number; a new connection could have that number by then, and would be closed in its place.
func adopt(plain net.Conn) (*nbio.Conn, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	nb, err := nbio.NBConn(plain)
	if err == nil {
		syscall.CloseOnExec(nb.Hash()) // Hash is the descriptor
	}
	return nb, err
}

// write gives b to the operating system and returns how much of it was taken; that it took
// nothing is no error. nbio's own Write would copy the rest into a buffer of its own.
func write(nb *nbio.Conn, b []byte) (int, error) {
	nb.Lock() // as long as it is held and the connection not closed, the descriptor is ours
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); closed {
		return 0, net.ErrClosed
	}
	for {
		n, err := syscall.Write(nb.Hash(), b) // Hash is the descriptor
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		default:
			return 0, err
		}
	}
}

// endWriting tells the peer that nothing more comes, and goes on reading.
func endWriting(nb *nbio.Conn) { shutdown(nb, syscall.SHUT_WR) }

// cut ends the connection. The poller then finds it ended, and closes it itself: closed by
// anybody else its descriptor could be in use again while the poller still holds an event of the
// old connection, and the new one would be closed in its place.
func cut(nb *nbio.Conn) { shutdown(nb, syscall.SHUT_RDWR) }

func shutdown(nb *nbio.Conn, how int) {
	nb.Lock()
	defer nb.Unlock()
	if closed, _ := nb.IsClosed(); !closed {
		_ = syscall.Shutdown(nb.Hash(), how) // not connected any more is what we want
	}
}

// awaitPoller returns when the engine's one poller runs: nbio loses a Stop that comes before
// that, and would then spin for ever. The engine's OnClose closes a session of type chan struct{}.
func awaitPoller(e *nbio.Engine) error {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		syscall.ForkLock.RUnlock()
		return fmt.Errorf("nbiows: socket pair: %w", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		_ = syscall.SetNonblock(fd, true)
	}
	syscall.ForkLock.RUnlock()
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	conn, err := net.FileConn(near) // a duplicate
	err = errors.Join(err, near.Close(), far.Close())
	if err != nil {
		return fmt.Errorf("nbiows: socket pair: %w", err)
	}
	nb, err := adopt(conn)
	if err != nil {
		return fmt.Errorf("nbiows: socket pair: %w", err)
	}
	closed := make(chan struct{})
	nb.SetSession(closed)
	if _, err := e.AddConn(nb); err != nil {
		return fmt.Errorf("nbiows: poller: %w", err)
	}
	<-closed
	return nil
}
