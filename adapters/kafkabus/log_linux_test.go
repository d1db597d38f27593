package kafkabus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/core/event"
)

// log keeps the identifiers that a handler saw.
type log struct {
	mu      sync.Mutex
	ids     []string
	changed chan struct{}
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) handle(_ context.Context, e event.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, e.ID)
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// until waits for enough, which is asked about each event in turn.
func (l *log) until(t *testing.T, ctx context.Context, what string, enough func(id string) bool) {
	t.Helper()
	for at := 0; ; {
		l.mu.Lock()
		ids, changed := l.ids[at:], l.changed
		l.mu.Unlock()
		for _, id := range ids {
			if enough(id) {
				return
			}
		}
		at += len(ids)
		select {
		case <-changed:
		case <-ctx.Done():
			require.FailNow(t, "waited in vain", "for %s; %d events were handled", what, at)
		}
	}
}

// more waits until n events were handled that had not been before.
func (l *log) more(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	seen := map[string]bool{}
	l.mu.Lock()
	for _, id := range l.ids {
		seen[id] = true
	}
	l.mu.Unlock()
	want := len(seen) + n
	clear(seen)
	l.until(t, ctx, fmt.Sprintf("%d new events", n), func(id string) bool {
		seen[id] = true
		return len(seen) >= want
	})
}

func (l *log) last(t *testing.T, ctx context.Context, e event.Event) {
	t.Helper()
	l.until(t, ctx, "event "+e.ID, func(id string) bool { return id == e.ID })
}

// requireInOrder wants every event of numbered, and of each key none before its predecessor.
// An event may come again, and its successors after it.
func (l *log) requireInOrder(t *testing.T, name string, taken []int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make([]int, len(taken))
	for _, id := range l.ids {
		var key, n int
		_, err := fmt.Sscanf(id, "%d-%d", &key, &n)
		require.NoError(t, err)
		require.LessOrEqual(t, n, next[key], "%s: event %s came before its predecessor", name, id)
		next[key] = max(next[key], n+1)
	}
	for key, n := range taken {
		require.GreaterOrEqual(t, next[key], n, "%s: events of key %d are lost", name, key)
	}
}

// subscribe starts a subscription and waits until it is ready. stop ends it and wants nil.
func subscribe(t *testing.T, ctx context.Context, b *kafkabus.Bus, group string, handle event.Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.Subscribe(ctx, "mail", group, handle, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		require.FailNow(t, "Subscribe ended", "%v", err)
	}
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}
