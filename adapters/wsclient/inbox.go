package wsclient

import "sync"

// inbox keeps the events that wait for Handle, and calls it. Its methods may be called from many goroutines.
type inbox struct {
	handle func(Event)
	limit  int
	// drained is called when an inbox that was full has room again.
	drained func()
	ended   chan struct{} // closed when run has ended

	mu       sync.Mutex
	more     sync.Cond
	events   []Event
	full     bool
	dropping bool // what waits is dropped
	closing  bool // run ends when nothing waits
}

func newInbox(limit int, handle func(Event), drained func()) *inbox {
	b := &inbox{handle: handle, limit: limit, drained: drained, ended: make(chan struct{})}
	b.more.L = &b.mu
	return b
}

// put adds events, whether or not there is room: who puts asks before.
func (b *inbox) put(events ...Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, events...)
	b.full = b.full || len(b.events) >= b.limit
	b.more.Signal()
}

// isFull reports whether what can wait elsewhere should. It stays true until half of the inbox is free.
func (b *inbox) isFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.full
}

// run calls handle until end.
func (b *inbox) run() {
	defer close(b.ended)
	for {
		e, room, ok := b.next()
		if !ok {
			return
		}
		if room {
			b.drained()
		}
		b.handle(e)
	}
}

// next waits for an event. room says that an inbox that was full has room again.
func (b *inbox) next() (e Event, room, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.events) == 0 && !b.closing {
		b.more.Wait()
	}
	if len(b.events) == 0 || b.dropping {
		return Event{}, false, false
	}
	e = b.events[0]
	b.events[0] = Event{} // so that its message can be freed
	b.events = b.events[1:]
	if b.full && len(b.events) <= b.limit/2 {
		b.full, room = false, true
	}
	return e, room, true
}

// end waits until handle has taken everything, or, after drop, what it has begun with.
func (b *inbox) end() {
	b.mu.Lock()
	b.closing = true
	b.more.Signal()
	b.mu.Unlock()
	<-b.ended
}

// drop lets run end with the event that it is at.
func (b *inbox) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing, b.dropping = true, true
	b.more.Signal()
}
