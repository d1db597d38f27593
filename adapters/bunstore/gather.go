package bunstore

import (
	"context"
	"sync"
	"sync/atomic"
)

// gather answers questions of many callers by few statements: whoever asks while one is under way waits for the next, which
// asks for all of them. So a crowd costs few statements, and no answer is older than its question.
type gather[K comparable, V any] struct {
	// most bounds the questions of one statement, workers the statements at a time.
	most, workers int
	// read answers keys, which differ. What there is no answer to is left out.
	read func(ctx context.Context, keys []K) (map[K]V, error)

	mu      sync.Mutex
	waiting []*question[K, V]
	working int
}

// question is what one caller wants to know.
type question[K comparable, V any] struct {
	key    K
	ctx    context.Context
	done   chan struct{}
	answer V
	found  bool
	err    error
}

// ask returns the answer to key. It waits until ctx is done.
func (g *gather[K, V]) ask(ctx context.Context, key K) (answer V, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return answer, false, err
	}
	q := &question[K, V]{key: key, ctx: ctx, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, q)
	if g.working < g.workers {
		g.working++
		go g.work()
	}
	g.mu.Unlock()
	select {
	case <-q.done:
		return q.answer, q.found, q.err
	case <-ctx.Done():
		return answer, false, ctx.Err()
	}
}

// work answers what waits until nothing does.
func (g *gather[K, V]) work() {
	for {
		g.mu.Lock()
		batch := g.waiting[:min(len(g.waiting), g.most)]
		g.waiting = g.waiting[len(batch):]
		if len(batch) == 0 {
			g.waiting = nil
			g.working--
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		g.settle(batch)
	}
}

// settle answers a batch by one statement. With the last of its callers goes the statement.
func (g *gather[K, V]) settle(batch []*question[K, V]) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	keys := make([]K, 0, len(batch))
	known := make(map[K]struct{}, len(batch))
	var callers atomic.Int32
	callers.Store(int32(len(batch)))
	for _, q := range batch {
		stop := context.AfterFunc(q.ctx, func() {
			if callers.Add(-1) == 0 {
				cancel()
			}
		})
		defer stop()
		if _, twice := known[q.key]; !twice && q.ctx.Err() == nil {
			known[q.key] = struct{}{}
			keys = append(keys, q.key)
		}
	}
	var answers map[K]V
	var err error
	if len(keys) > 0 {
		answers, err = g.read(ctx, keys)
	}
	for _, q := range batch {
		if q.err = err; err == nil {
			q.answer, q.found = answers[q.key]
		}
		close(q.done)
	}
}
