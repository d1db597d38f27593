//go:build unix

package jwtauth

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockTimeout is how long whoever changes a key file waits for another one, who needs a second or two.
const lockTimeout = 10 * time.Second

// lock keeps others from changing the key file, until release is called or the process ends, in whatever way. It is a lock (flock) on a file
// beside it, which stays: the key file itself is replaced at each change.
func lock(file string) (release func(), err error) {
	f, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the key file cannot be locked: %w", err)
	}
	for tried := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // a descriptor fits
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			_ = f.Close()
			return nil, fmt.Errorf("the key file cannot be locked by %s: %w", f.Name(), err)
		case time.Since(tried) > lockTimeout:
			_ = f.Close()
			return nil, fmt.Errorf("another program has locked %s for %v", f.Name(), lockTimeout)
		}
	}
}
