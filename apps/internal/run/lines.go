package run

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// maxQueued is how many bytes of lines wait to be written, at most.
	maxQueued = 1 << 20
	// flushTimeout bounds the wait for lines that are queued, before something else is said or at the end. It is long, since on a
	// machine that is busy a program would else end without the line that says why.
	flushTimeout = 3 * time.Second
)

// lines writes whole lines to where somebody may read them, or not: what logs never waits, and never
// fails. Lines for which there is no room, and lines that cannot be written, are lost and counted; when
// writing works again, one line says how many were.
type lines struct {
	to io.Writer
	// note makes the line that tells of lost ones.
	note func(lost int) []byte

	mu      sync.Mutex
	queued  []line
	bytes   int           // of what is queued, and of what is being written
	closed  bool          // nothing more is taken
	changed chan struct{} // capacity 1: something was queued, or it was closed
	idle    bool          // nothing is queued or being written
	empty   chan struct{} // closed while idle
}

// line is a line, or stands for lines that were lost in its place.
type line struct {
	text []byte
	lost int
}

var errLinesClosed = errors.New("the log is closed")

// newLines begins to write to w. Close ends it.
func newLines(w io.Writer, note func(lost int) []byte) *lines {
	l := &lines{to: w, note: note, changed: make(chan struct{}, 1), idle: true, empty: make(chan struct{})}
	close(l.empty)
	go l.write()
	return l
}

// Write takes p, which is one line or several. It never blocks.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, errLinesClosed
	}
	if l.idle {
		l.idle, l.empty = false, make(chan struct{})
	}
	if l.bytes+len(p) > maxQueued {
		l.lose(1)
	} else {
		l.queued = append(l.queued, line{text: bytes.Clone(p)})
		l.bytes += len(p)
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

// lose counts a line that is lost behind what is queued. l.mu is held.
func (l *lines) lose(n int) {
	if last := len(l.queued) - 1; last >= 0 && l.queued[last].text == nil {
		l.queued[last].lost += n
		return
	}
	l.queued = append(l.queued, line{lost: n})
}

// write writes what is queued, until it is closed and nothing is.
func (l *lines) write() {
	lost, torn := 0, false
	put := func(text []byte) bool {
		if torn {
			text = append([]byte("\n"), text...)
		}
		n, err := l.to.Write(text)
		torn = torn && n == 0 || err != nil && n > 0
		return err == nil
	}
	for {
		l.mu.Lock()
		batch, closed := l.queued, l.closed
		l.queued = nil
		l.mu.Unlock()
		for _, next := range batch {
			lost += next.lost
			if lost > 0 && put(l.note(lost)) {
				lost = 0
			}
			if next.text != nil && (lost > 0 || !put(next.text)) {
				lost++
			}
			l.mu.Lock()
			l.bytes -= len(next.text)
			l.mu.Unlock()
		}
		l.mu.Lock()
		if len(l.queued) == 0 && !l.idle {
			l.idle = true
			close(l.empty)
		}
		l.mu.Unlock()
		switch {
		case len(batch) > 0:
		case closed:
			return
		default:
			<-l.changed
		}
	}
}

// Flush waits until everything that was taken is written or lost, for flushTimeout at most.
func (l *lines) Flush() {
	l.mu.Lock()
	empty := l.empty
	l.mu.Unlock()
	late := time.NewTimer(flushTimeout)
	defer late.Stop()
	select {
	case <-empty:
	case <-late.C:
	}
}

// Close flushes and takes nothing more. What hangs in a write is left to itself.
func (l *lines) Close() {
	l.mu.Lock()
	l.closed = true
	select {
	case l.changed <- struct{}{}:
	default:
	}
	l.mu.Unlock()
	l.Flush()
}
