package chat

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// committer gathers what many callers submit into one commit at a time: while a commit is
// under way, the next batch grows. There is no delay to wait for more: a lone submission
// is committed at once, and under load a batch is as large as the commit is slow.
type committer[T, R any] struct {
	// commit stores values durably, all or none, and returns one answer each.
	commit func(ctx context.Context, values []T) ([]R, error)
	// after, if set, is called with each answer once whoever submitted has it.
	after      func(R)
	maxBatch   int
	maxPending int

	mu      sync.Mutex
	pending batch[T, R]
	closed  bool
	wake    chan struct{} // holds one token while pending may be non-empty

	settling chan struct{} // holds a token from before a commit until everybody has its answers
}

type batch[T, R any] struct {
	values []T
	done   []func(R, error)
}

func newCommitter[T, R any](maxBatch, maxPending int, commit func(context.Context, []T) ([]R, error)) *committer[T, R] {
	return &committer[T, R]{commit: commit, maxBatch: maxBatch, maxPending: maxPending, wake: make(chan struct{}, 1), settling: make(chan struct{}, 1)}
}

// submit queues v and returns at once. done is called exactly once if the error is nil, in the
// order of submission, from the committing goroutine.
func (c *committer[T, R]) submit(v T, done func(R, error)) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	if len(c.pending.values) >= c.maxPending {
		c.mu.Unlock()
		return ErrBusy
	}
	c.pending.values = append(c.pending.values, v)
	c.pending.done = append(c.pending.done, done)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// do submits v and waits for the outcome. When ctx ends first, the outcome is unknown.
func (c *committer[T, R]) do(ctx context.Context, v T) (R, error) {
	type outcome struct {
		r   R
		err error
	}
	settled := make(chan outcome, 1)
	var none R
	if err := ctx.Err(); err != nil {
		return none, fault.Wrap(fault.Unavailable, err)
	}
	if err := c.submit(v, func(r R, err error) { settled <- outcome{r, err} }); err != nil {
		return none, err
	}
	select {
	case o := <-settled:
		return o.r, o.err
	case <-ctx.Done():
		return none, fault.Wrap(fault.Unavailable, ctx.Err())
	}
}

// run commits until ctx ends; then it refuses new submissions, commits what waits, and returns. What is
// not committed so long after ctx has ended is given up: a store that does not answer would
// otherwise be waited for once a batch.
func (c *committer[T, R]) run(ctx context.Context, grace time.Duration) {
	commits, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			giveUp()
		case <-commits.Done(): // run has returned
		}
	})()
	var spare batch[T, R]
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			c.mu.Lock()
			c.closed = true
			c.mu.Unlock()
		}
		for {
			c.mu.Lock()
			work := c.pending
			c.pending = spare
			closed := c.closed
			c.mu.Unlock()
			if len(work.values) == 0 {
				spare = work
				if closed {
					return
				}
				break
			}
			c.flush(commits, work)
			clear(work.values)
			clear(work.done)
			spare = batch[T, R]{work.values[:0], work.done[:0]}
		}
	}
}

func (c *committer[T, R]) flush(ctx context.Context, work batch[T, R]) {
	for at := 0; at < len(work.values); at += c.maxBatch {
		end := min(at+c.maxBatch, len(work.values))
		c.settling <- struct{}{}
		c.settle(ctx, work.values[at:end], work.done[at:end])
		<-c.settling
	}
}

// settled waits until whoever has submitted what is stored by now has the answer.
func (c *committer[T, R]) settled() {
	c.settling <- struct{}{}
	<-c.settling
}

func (c *committer[T, R]) settle(ctx context.Context, values []T, done []func(R, error)) {
	answers, err := c.commit(ctx, values)
	if err == nil {
		for i, d := range done {
			d(answers[i], nil)
			if c.after != nil {
				c.after(answers[i])
			}
		}
		return
	}
	// One value that the store refuses must not fail its neighbours. After a failure whose
	// outcome is unknown nothing is tried again: that is for whoever knows the client's id.
	if k := fault.KindOf(err); len(values) > 1 && k != fault.Unavailable && k != fault.Internal {
		for i := range values {
			c.settle(ctx, values[i:i+1], done[i:i+1])
		}
		return
	}
	var none R
	for _, d := range done {
		d(none, err)
	}
}
