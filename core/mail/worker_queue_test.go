package mail_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// faultyQueue fails some calls.
type faultyQueue struct {
	mail.Queue
	mu     sync.Mutex
	claim  func(n int) error
	settle func(n int) error
	claims []time.Time
	settles,
	prunes []time.Time
}

func (q *faultyQueue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	q.mu.Lock()
	q.claims = append(q.claims, time.Now())
	n := len(q.claims)
	q.mu.Unlock()
	if q.claim != nil {
		if err := q.claim(n); err != nil {
			return mail.Job{}, false, err
		}
	}
	return q.Queue.Claim(ctx, now, lease)
}

func (q *faultyQueue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	q.mu.Lock()
	q.settles = append(q.settles, time.Now())
	n := len(q.settles)
	q.mu.Unlock()
	if q.settle != nil {
		if err := q.settle(n); err != nil {
			return err
		}
	}
	return q.Queue.Settle(ctx, j, o)
}

func (q *faultyQueue) Prune(ctx context.Context, before time.Time) (int, error) {
	q.mu.Lock()
	q.prunes = append(q.prunes, before)
	q.mu.Unlock()
	return q.Queue.Prune(ctx, before)
}

var errDown = fault.Wrap(fault.Unavailable, errors.New("down"))

func TestWorkerSettlesAgainWhileTheLeaseLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &faultyQueue{Queue: memory.NewMailQueue(), settle: func(n int) error {
			if n <= 5 {
				return errDown
			}
			return nil
		}}
		s := &attempts{}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(10 * time.Minute)
		stop()
		require.Equal(t, 1, s.count(), "a mail that was sent is not sent again")
		require.Len(t, q.settles, 6)
		require.Equal(t, mail.Sent, get(t, q.Queue.(*memory.MailQueue), "a").State)
	})
	synctest.Test(t, func(t *testing.T) {
		q := &faultyQueue{Queue: memory.NewMailQueue(), settle: func(int) error { return errDown }}
		s := &attempts{}
		enqueue(t, q, "a")
		begun := time.Now()
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Lease: time.Minute, MaxAttempts: 1})
		time.Sleep(30 * time.Minute)
		stop()
		require.Equal(t, 1, s.count())
		for _, at := range q.settles[:5] {
			require.Less(t, at.Sub(begun), time.Minute)
		}
		for i := 1; i < len(q.settles); i++ {
			require.GreaterOrEqual(t, q.settles[i].Sub(q.settles[i-1]), 100*time.Millisecond)
		}
	})
}

func TestWorkerDoesNotInsistOnABug(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &faultyQueue{Queue: memory.NewMailQueue(), settle: func(int) error { return errors.New("no such column") }}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: &attempts{}, Lease: time.Minute})
		time.Sleep(59 * time.Second)
		stop()
		require.Len(t, q.settles, 1, "only a queue that is unavailable is asked again")
	})
}

func TestWorkerGoesOnWhenTheLeaseIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := &faultyQueue{Queue: memory.NewMailQueue(), settle: func(n int) error {
			if n == 1 {
				return mail.ErrLeaseLost
			}
			return nil
		}}
		s := &attempts{}
		enqueue(t, q, "a", "b")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Concurrency: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
		synctest.Wait()
		stop()
		require.Len(t, q.settles, 2)
		require.Equal(t, 2, s.count())
		require.Contains(t, log.String(), "lease")
		for _, secret := range []string{code, "ada@example.com"} {
			require.NotContains(t, log.String(), secret)
		}
	})
}

func TestWorkerWaitsForAQueueThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &faultyQueue{Queue: memory.NewMailQueue(), claim: func(n int) error {
			if n <= 4 {
				return errDown
			}
			return nil
		}}
		s := &attempts{}
		enqueue(t, q, "a")
		w, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		for range 100 {
			w.Wake()
		}
		time.Sleep(time.Minute)
		stop()
		require.Equal(t, 1, s.count())
		var gaps []time.Duration
		for i := 1; i < 5; i++ {
			gaps = append(gaps, q.claims[i].Sub(q.claims[i-1]))
		}
		require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second}, gaps)
	})
}
