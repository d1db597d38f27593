package realtime

import "sync"

// latch is a lock that may be held while a port is called, which may take a while. Whoever waits for it waits on a condition,
// and not on a mutex: testing/synctest takes that for waiting, so that tests can look at a hub whose ports are slow. The zero
// latch is free. It must not be copied.
type latch struct {
	mu   sync.Mutex
	held bool
	free *sync.Cond // made when somebody waits for the first time
}

// Lock waits until the latch is free, and takes it.
func (l *latch) Lock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.held {
		if l.free == nil {
			l.free = sync.NewCond(&l.mu)
		}
		l.free.Wait()
	}
	l.held = true
}

// TryLock takes the latch if it is free, and reports whether it was.
func (l *latch) TryLock() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held {
		return false
	}
	l.held = true
	return true
}

// Unlock frees the latch. Whoever waits for it longest is woken.
func (l *latch) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	if l.free != nil {
		l.free.Signal()
	}
}
