package run

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
)

// reader is what reads a log, or does not.
type reader struct {
	mu     sync.Mutex
	text   bytes.Buffer
	block  chan struct{} // if set, a write waits for it to be closed
	fail   error         // if set, a write fails, after so many bytes
	partly int
	blocks int // writes that waited
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	block := r.block
	if block != nil {
		r.blocks++
	}
	r.mu.Unlock()
	if block != nil {
		<-block
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		n, _ := r.text.Write(p[:min(r.partly, len(p))])
		return n, r.fail
	}
	return r.text.Write(p)
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func lost(n int) []byte { return fmt.Appendf(nil, "lost %d\n", n) }

func TestWhoLogsDoesNotWaitForWhoReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{block: make(chan struct{})}
		l := newLines(r, lost)
		line := strings.Repeat("x", 1023) + "\n"
		const written = 3 * maxQueued / 1024
		for range written {
			n, err := l.Write([]byte(line))
			require.NoError(t, err)
			require.Equal(t, len(line), n)
		}
		began := time.Now()
		l.Flush()
		assert.Equal(t, flushTimeout, time.Since(began), "nor does who wants it flushed, for long")
		close(r.block)
		r.mu.Lock()
		r.block = nil
		r.mu.Unlock()
		l.Flush()
		kept, note, found := strings.Cut(r.String(), "lost ")
		require.True(t, found)
		assert.Equal(t, maxQueued/1024, strings.Count(kept, line))
		sum := 0
		for part := range strings.FieldsSeq("lost " + note) {
			if n, err := strconv.Atoi(part); err == nil {
				sum += n
			}
		}
		assert.Equal(t, written-maxQueued/1024, sum, "each line is there or counted, and this is told where they are missing: %s", note)
		_, err := l.Write([]byte("on\n"))
		require.NoError(t, err)
		l.Close()
		assert.True(t, strings.HasSuffix(r.String(), "\non\n"))
		_, err = l.Write([]byte("late\n"))
		assert.Error(t, err)
	})
}

func TestTheEndDoesNotWaitForWhoReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{block: make(chan struct{})}
		l := newLines(r, lost)
		_, err := l.Write([]byte("line\n"))
		require.NoError(t, err)
		began := time.Now()
		l.Close()
		assert.Equal(t, flushTimeout, time.Since(began))
		close(r.block)
	})
}

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		partly int
		want   string
	}{
		"nothing of them":     {0, "a\nlost 3\nb\nc\n"},
		"the beginning of it": {2, "a\n12\n1\nl\nlost 3\nb\nc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &reader{partly: c.partly}
			l := newLines(r, lost)
			put := func(texts ...string) {
				for _, text := range texts {
					_, err := l.Write([]byte(text + "\n"))
					require.NoError(t, err)
					l.Flush()
				}
			}
			put("a")
			r.mu.Lock()
			r.fail = syscall.EPIPE
			r.mu.Unlock()
			put("123", "123", "123")
			r.mu.Lock()
			r.fail = nil
			r.mu.Unlock()
			put("b", "c")
			l.Close()
			got := r.String()
			if c.partly > 0 { // what was torn off stands on lines of its own
				assert.True(t, strings.HasPrefix(got, "a\n12"), got)
				assert.True(t, strings.HasSuffix(got, "\nlost 3\nb\nc\n"), got)
				return
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestTheLogTellsWhatWasLost(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		r := &reader{fail: syscall.EPIPE}
		log, out := openLog(config.Settings{LogLevel: "info", LogFormat: format}, r)
		log.Info("one")
		log.Debug("none")
		log.Info("two")
		out.Flush()
		r.mu.Lock()
		r.fail = nil
		r.mu.Unlock()
		log.Info("three")
		out.Close()
		told := strings.Split(r.String(), "\n")
		require.Len(t, told, 3, r.String())
		assert.Contains(t, told[0], map[string]string{"json": `"lost":2`, "text": "lost=2"}[format])
		assert.Contains(t, told[1], "three")
	}
}

func TestALackOfDescriptorsIsToldOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		log, out := openLog(config.Settings{LogLevel: "info", LogFormat: "text"}, r)
		for range 30 { // 3 seconds
			log.Error("cannot open", "error", fmt.Errorf("open: %w", syscall.EMFILE))
			log.With("of", "a driver").Error("cannot dial", "error", errors.New("dial: too many open files"))
			log.Error("another", "error", net.ErrClosed)
			time.Sleep(100 * time.Millisecond)
		}
		out.Close()
		assert.Equal(t, 3, strings.Count(r.String(), "cannot "), r.String())
		assert.Equal(t, 2, strings.Count(r.String(), "unsaid=19"), r.String())
		assert.Equal(t, 30, strings.Count(r.String(), "another"))
	})
}

// shortOf is a listener that has no descriptors for the first so many times.
type shortOf struct {
	net.Listener
	times, asked int
	conns        chan net.Conn
}

func (s *shortOf) Accept() (net.Conn, error) {
	if s.asked++; s.asked <= s.times {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	c, ok := <-s.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (s *shortOf) Close() error { close(s.conns); return nil }

func TestAListenerGoesOnWhenThereAreDescriptorsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := &shortOf{times: 25, conns: make(chan net.Conn, 1)}
		here, there := net.Pipe()
		inner.conns <- here
		var text bytes.Buffer
		spared := 0
		p := newPatient(inner, slog.New(&seldom{Handler: slog.NewTextHandler(&text, nil), said: new(occasions)}), func() { spared++ })
		began := time.Now()
		c, err := p.Accept()
		require.NoError(t, err)
		assert.Equal(t, here, c, "as the listener gave it")
		assert.Equal(t, 25*acceptPause, time.Since(began), "it does not spin")
		assert.Equal(t, 25, spared, "what becomes idle while it waits is let go too")
		assert.Equal(t, 3, strings.Count(text.String(), "out of file descriptors"), text.String())
		require.NoError(t, errors.Join(here.Close(), there.Close()))

		inner.asked = 0
		ended := make(chan error)
		go func() { _, err := p.Accept(); ended <- err }()
		synctest.Wait()
		require.NoError(t, p.Close(), "it can be closed while it waits")
		assert.ErrorIs(t, <-ended, net.ErrClosed)
		assert.Less(t, time.Since(began), 26*acceptPause)
	})
}
