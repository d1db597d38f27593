package mail_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
)

const code = "s3cret-c0de"

var errTemporary = errors.New("the server is busy")

// senderFunc is a sender.
type senderFunc func(ctx context.Context, m mail.Message) error

func (f senderFunc) Send(ctx context.Context, m mail.Message) error { return f(ctx, m) }

func (senderFunc) Check(context.Context) error { return nil }

// attempts is a sender that notes when it was asked, and answers what it is told.
type attempts struct {
	mu     sync.Mutex
	at     []time.Time
	ids    []string
	answer func(n int, m mail.Message) error // n counts from 1
}

func (a *attempts) Send(_ context.Context, m mail.Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
	a.ids = append(a.ids, m.ID)
	if a.answer == nil {
		return nil
	}
	return a.answer(len(a.at), m)
}

func (a *attempts) Check(context.Context) error { return nil }

func (a *attempts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// gaps are the times between attempts.
func (a *attempts) gaps() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(a.at); i++ {
		gaps = append(gaps, a.at[i].Sub(a.at[i-1]))
	}
	return gaps
}

func always(err error) func(int, mail.Message) error {
	return func(int, mail.Message) error { return err }
}

func templates(t testing.TB) *mail.Templates {
	t.Helper()
	ts, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com"})
	require.NoError(t, err)
	return ts
}

// job makes a job that can be rendered.
func job(id string) mail.Job {
	now := time.Now().UTC()
	data, _ := json.Marshal(mail.UserCreated{
		UserID: "u1", FullName: "Ada", Email: "ada@example.com", VerificationCode: code, ExpiresAt: now.Add(time.Hour),
	})
	return mail.Job{
		ID: id, Key: "event-" + id, Kind: mail.KindVerification, To: "ada@example.com", Name: "Ada", Data: data,
		State: mail.Ready, RunAt: now, CreatedAt: now, UpdatedAt: now,
	}
}

func enqueue(t testing.TB, q mail.Queue, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, q.Enqueue(context.Background(), job(id)))
	}
}

func get(t testing.TB, q *memory.MailQueue, id string) mail.Job {
	t.Helper()
	j, err := q.Get(context.Background(), id)
	require.NoError(t, err)
	return j
}

// start runs a worker until stop is called, which waits for it.
func start(t testing.TB, cfg mail.WorkerConfig) (w *mail.Worker, stop func()) {
	t.Helper()
	if cfg.Templates == nil {
		cfg.Templates = templates(t)
	}
	w, err := mail.NewWorker(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			assert.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return w, stop
}

func TestNewWorkerChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := mail.NewWorker(mail.WorkerConfig{MaxAttempts: -1, Poll: -1, SendTimeout: time.Minute, Lease: time.Minute, Backoff: time.Hour, MaxBackoff: time.Minute})
	for _, name := range []string{"Queue", "Sender", "Templates", "MaxAttempts", "Poll", "Lease", "MaxBackoff"} {
		require.ErrorContains(t, err, name)
	}
}

func TestWorkerSendsInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{}
		enqueue(t, q, "c", "a", "b")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Concurrency: 1})
		synctest.Wait()
		stop()
		require.Equal(t, []string{"c@chat.example.com", "a@chat.example.com", "b@chat.example.com"}, s.ids)
		for _, id := range []string{"a", "b", "c"} {
			j := get(t, q, id)
			require.Equal(t, mail.Sent, j.State)
			require.Empty(t, j.Data)
			require.Empty(t, j.LastError)
		}
	})
}

// TestWorkerBacksOff reads the waits between attempts, which the poll of a second rounds up.
func TestWorkerBacksOff(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		random float64
		want   []time.Duration
	}{
		"at least half": {0, []time.Duration{2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 15 * time.Second, 15 * time.Second}},
		"in between":    {0.5, []time.Duration{3750 * time.Millisecond, 7500 * time.Millisecond, 15 * time.Second, 22500 * time.Millisecond, 22500 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, s := memory.NewMailQueue(), &attempts{answer: always(errTemporary)}
				enqueue(t, q, "a")
				_, stop := start(t, mail.WorkerConfig{
					Queue: q, Sender: s, MaxAttempts: 6, MaxBackoff: 30 * time.Second,
					Poll: 10 * time.Millisecond, Random: func() float64 { return tc.random },
				})
				time.Sleep(2 * time.Minute)
				stop()
				require.Equal(t, tc.want, s.gaps())
			})
		})
	}
}

func TestWorkerTriesExactlyMaxAttempts(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, 1, 2, 5} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, s := memory.NewMailQueue(), &attempts{answer: always(errTemporary)}
				enqueue(t, q, "a")
				_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, MaxAttempts: most})
				time.Sleep(10 * time.Minute)
				stop()
				want := most
				if most == 0 {
					want = 3
				}
				require.Equal(t, want, s.count())
				j := get(t, q, "a")
				require.Equal(t, mail.Dead, j.State)
				require.Equal(t, want, j.Attempts)
				require.Contains(t, string(j.Data), code, "a dead letter keeps what is needed to replay it")
				require.Equal(t, errTemporary.Error(), j.LastError)
			})
		})
	}
}

func TestWorkerSucceedsAtLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{answer: func(n int, _ mail.Message) error {
			if n < 3 {
				return errTemporary
			}
			return nil
		}}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(10 * time.Minute)
		stop()
		require.Equal(t, 3, s.count())
		require.Equal(t, mail.Sent, get(t, q, "a").State)
	})
}

// An attempt at which the sender panics is one that failed.
func TestASenderThatPanicsHasFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{answer: func(n int, _ mail.Message) error {
			if n < 3 {
				panic("a mistake")
			}
			return nil
		}}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(time.Second)
		require.Contains(t, get(t, q, "a").LastError, "the sender panicked: a mistake")
		time.Sleep(10 * time.Minute)
		stop()
		require.Equal(t, 3, s.count())
		require.Equal(t, mail.Sent, get(t, q, "a").State)
	})
}

func TestWhatNobodyWasThereToTakeDoesNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{answer: func(n int, _ mail.Message) error {
			switch {
			case n == 2, n == 22:
				return errTemporary // which counts
			case n < 30:
				return mail.ErrUntried.Because(errTemporary)
			}
			return nil
		}}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(10 * time.Minute)
		stop()
		require.Equal(t, 30, s.count())
		j := get(t, q, "a")
		require.Equal(t, mail.Sent, j.State)
		require.Equal(t, 3, j.Attempts)
		for _, gap := range s.gaps() {
			require.LessOrEqual(t, gap, 11*time.Second, "nor does the wait grow with it")
		}
	})
}

func TestWorkerGivesUpWhatCanNeverSucceed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		s := &attempts{answer: always(fmt.Errorf("550 <ADA@example.com> unknown; saw %s\r\nfrom Ada: %w", code, mail.ErrRefused))}
		enqueue(t, q, "refused")
		for id, edit := range map[string]func(*mail.Job){
			"kind":    func(j *mail.Job) { j.Kind = "poem" },
			"data":    func(j *mail.Job) { j.Data = []byte(`{"verificationCode": 7}`) },
			"no data": func(j *mail.Job) { j.Data = nil },
			"address": func(j *mail.Job) { j.To = "no address" },
		} {
			j := job(id)
			edit(&j)
			require.NoError(t, q.Enqueue(t.Context(), j))
		}
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(10 * time.Minute)
		stop()
		require.Equal(t, 1, s.count())
		for _, id := range []string{"refused", "kind", "data", "no data", "address"} {
			j := get(t, q, id)
			require.Equal(t, mail.Dead, j.State, id)
			require.Equal(t, 1, j.Attempts, id)
			require.NotEmpty(t, j.LastError, id)
		}
		last := get(t, q, "refused").LastError
		require.Contains(t, last, "550 <(hidden)> unknown")
		for _, secret := range []string{code, "ADA@", "Ada", "\r", "\n"} {
			require.NotContains(t, last, secret, "the error of a job holds nothing of the mail")
		}
	})
}

// A mail that has waited for longer than its code is good is written anew, or becomes a dead letter that says why nobody needs it. While nobody
// can say, it waits, and that is no attempt.
func TestWorkerRenewsWhatHasExpired(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		waits   time.Duration // before a worker comes
		answers []error       // of those who are asked; nil is a fresh code
		state   mail.State
		asked   int
		tries   int
		sends   string // what the mail has
		says    string
	}{
		"in time":             {waits: 59 * time.Minute, state: mail.Sent, tries: 1, sends: code},
		"late":                {waits: time.Hour, answers: []error{nil}, state: mail.Sent, asked: 1, tries: 1, sends: "fresh"},
		"nobody can be asked": {waits: 48 * time.Hour, answers: []error{errTemporary, errTemporary, errTemporary, errTemporary, nil}, state: mail.Sent, asked: 5, tries: 1, sends: "fresh"},
		"not needed":          {waits: 48 * time.Hour, answers: []error{mail.ErrNotNeeded.Detail("the address is confirmed by now")}, state: mail.Dead, asked: 1, tries: 0, says: "the address is confirmed by now"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := memory.NewMailQueue()
				var sent []string
				s := senderFunc(func(_ context.Context, m mail.Message) error { sent = append(sent, m.Text); return nil })
				enqueue(t, q, "a")
				time.Sleep(c.waits)
				asked := 0
				_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Renew: func(_ context.Context, j mail.Job) ([]byte, error) {
					asked++
					if err := c.answers[asked-1]; err != nil {
						return nil, err
					}
					return []byte(strings.ReplaceAll(string(j.Data), code, "fresh")), nil
				}})
				time.Sleep(time.Hour)
				stop()
				j := get(t, q, "a")
				assert.Equal(t, c.state, j.State)
				assert.Equal(t, c.asked, asked)
				assert.Contains(t, j.LastError, c.says)
				assert.Equal(t, 1, j.Attempts, "what waits for a fresh code is no attempt")
				require.Len(t, sent, c.tries)
				for _, text := range sent {
					assert.Contains(t, text, "code="+c.sends)
				}
			})
		})
	}
}

// A mail whose code can be renewed is put off for as long as any other.
func TestPuttingOffOutlivesACodeThatCanBeRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		begun := time.Now()
		s := &attempts{answer: func(int, mail.Message) error {
			if time.Since(begun) < 24*time.Hour {
				return fmt.Errorf("451 4.7.1: %w", mail.ErrDeferred)
			}
			return nil
		}}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Poll: time.Minute, Renew: func(_ context.Context, j mail.Job) ([]byte, error) { return nil, nil }})
		time.Sleep(48 * time.Hour)
		stop()
		assert.Equal(t, mail.Sent, get(t, q, "a").State)
	})
}

// TestWorkerAfterCrashes claims a job as often as it may be tried, as workers do that die
// during the attempt. It becomes a dead letter and is not sent once more.
func TestWorkerAfterCrashes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{}
		enqueue(t, q, "a", "b")
		for range 3 {
			j, ok, err := q.Claim(t.Context(), time.Now(), time.Minute)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, "a", j.ID)
			time.Sleep(time.Minute)
		}
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		synctest.Wait()
		stop()
		require.Equal(t, []string{"b@chat.example.com"}, s.ids)
		j := get(t, q, "a")
		require.Equal(t, mail.Dead, j.State)
		require.NotEmpty(t, j.LastError)
		require.NotEmpty(t, j.Data)
	})
}

func TestWorkerTakesOverWhenALeaseEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{}
		enqueue(t, q, "a")
		_, _, err := q.Claim(t.Context(), time.Now(), 10*time.Minute)
		require.NoError(t, err)
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(10*time.Minute - time.Second)
		synctest.Wait()
		require.Zero(t, s.count(), "a job under a lease is another's")
		time.Sleep(2 * time.Second)
		stop()
		require.Equal(t, 1, s.count())
	})
}

func TestWorkerBoundsAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "a")
		var mu sync.Mutex
		running, most := 0, 0
		var took []time.Duration
		s := senderFunc(func(ctx context.Context, _ mail.Message) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			begun := time.Now()
			<-ctx.Done()
			mu.Lock()
			running--
			took = append(took, time.Since(begun))
			mu.Unlock()
			return ctx.Err()
		})
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, SendTimeout: 20 * time.Second})
		time.Sleep(10 * time.Minute)
		stop()
		require.Equal(t, []time.Duration{20 * time.Second, 20 * time.Second, 20 * time.Second}, took)
		require.Equal(t, 1, most, "attempts at one job do not overlap")
		require.Equal(t, mail.Dead, get(t, q, "a").State)
	})
}

// slowClaims answers a claim late, and loses the answer when ctx is done, as a network does.
type slowClaims struct {
	mail.Queue
	delay time.Duration
}

func (q slowClaims) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	j, ok, err := q.Queue.Claim(ctx, now, lease)
	time.Sleep(q.delay)
	if ctx.Err() != nil {
		return mail.Job{}, false, ctx.Err()
	}
	return j, ok, err
}

func TestWorkerEndsTheAttemptBeforeTheLease(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ delay, want time.Duration }{
		{4 * time.Second, 2 * time.Second},
		{7 * time.Second, 0}, // the lease is over before the attempt begins
	} {
		synctest.Test(t, func(t *testing.T) {
			q := memory.NewMailQueue()
			enqueue(t, q, "a")
			took := make(chan time.Duration, 10)
			s := senderFunc(func(ctx context.Context, _ mail.Message) error {
				begun := time.Now()
				<-ctx.Done()
				took <- time.Since(begun)
				return ctx.Err()
			})
			_, stop := start(t, mail.WorkerConfig{
				Queue: slowClaims{q, tc.delay}, Sender: s, SendTimeout: 5 * time.Second, Lease: 6 * time.Second, MaxAttempts: 1,
			})
			time.Sleep(tc.delay + 5*time.Second)
			stop()
			close(took)
			if tc.want == 0 {
				require.Empty(t, took)
				return
			}
			require.Equal(t, tc.want, <-took)
		})
	}
}

func TestWorkerWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q, s := &faultyQueue{Queue: memory.NewMailQueue()}, &attempts{}
		q.claim = func(n int) error {
			if n == 4 {
				<-gate
			}
			return nil
		}
		w, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Poll: time.Hour})
		synctest.Wait()
		before := time.Now()
		enqueue(t, q, "a")
		w.Wake() // one look finds the job, the next none
		synctest.Wait()
		require.Equal(t, 1, s.count())
		require.Len(t, q.claims, 3)

		w.Wake()
		synctest.Wait() // the worker is looking
		for range 1000 {
			w.Wake()
		}
		close(gate)
		synctest.Wait()
		require.Len(t, q.claims, 5, "any number of wakes during a look is one more look")
		require.Zero(t, time.Since(before), "the worker did not wait for its poll")
		stop()
	})
}

func TestWorkerPrunesEachHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := memory.NewMailQueue()
		q, s := &faultyQueue{Queue: inner}, &attempts{}
		enqueue(t, q, "a")
		begun := time.Now()
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Retention: 90 * time.Minute, Poll: time.Minute})
		time.Sleep(time.Hour + time.Minute)
		enqueue(t, q, "a") // known
		synctest.Wait()
		require.Equal(t, mail.Sent, get(t, inner, "a").State)
		time.Sleep(time.Hour)
		synctest.Wait()
		_, err := inner.Get(t.Context(), "a")
		require.ErrorIs(t, err, mail.ErrJobNotFound)
		stop()
		require.Len(t, q.prunes, 3)
		for i, before := range q.prunes {
			require.WithinDuration(t, begun.Add(time.Duration(i)*time.Hour-90*time.Minute), before, 0)
		}
		require.Equal(t, 1, s.count())
	})
}

func TestWorkerIsConcurrentAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		for i := range 10 {
			enqueue(t, q, fmt.Sprint("job", i))
		}
		release := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		s := senderFunc(func(context.Context, mail.Message) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-release
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		})
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Concurrency: 4})
		synctest.Wait()
		mu.Lock()
		require.Equal(t, 4, running)
		mu.Unlock()
		close(release)
		synctest.Wait()
		stop()
		require.Equal(t, 4, most)
		stats, err := q.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, 10, stats[mail.Sent])
	})
}

func TestWorkersShareAQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{}
		for i := range 50 {
			enqueue(t, q, fmt.Sprint("job", i))
		}
		for range 3 {
			start(t, mail.WorkerConfig{Queue: q, Sender: s})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 50, s.count())
		seen := map[string]bool{}
		for _, id := range s.ids {
			require.False(t, seen[id], "%s was sent twice", id)
			seen[id] = true
		}
	})
}

func TestWorkerDrains(t *testing.T) {
	t.Parallel()
	t.Run("an attempt that ends in time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			q := memory.NewMailQueue()
			enqueue(t, q, "a", "b")
			s := senderFunc(func(ctx context.Context, _ mail.Message) error {
				select {
				case <-time.After(3 * time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Concurrency: 1})
			time.Sleep(time.Second)
			begun := time.Now()
			stop()
			require.Equal(t, 2*time.Second, time.Since(begun))
			require.Equal(t, mail.Sent, get(t, q, "a").State)
			require.Equal(t, mail.Ready, get(t, q, "b").State)
			require.Zero(t, get(t, q, "b").Attempts)
		})
	})
	t.Run("an attempt and a queue that hang", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			q := &faultyQueue{Queue: memory.NewMailQueue(), settle: func(int) error { return errDown }}
			enqueue(t, q, "a")
			s := senderFunc(func(ctx context.Context, _ mail.Message) error { <-ctx.Done(); return ctx.Err() })
			_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, SendTimeout: 10 * time.Second, Lease: time.Hour})
			time.Sleep(5 * time.Second)
			begun := time.Now()
			stop()
			require.LessOrEqual(t, time.Since(begun), 10*time.Second)
			require.NotEmpty(t, q.settles, "the outcome is offered once at least")
		})
	})
}

// TestWorkerDrainsWhileItClaims ends the worker between a claim and its answer.
func TestWorkerDrainsWhileItClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: slowClaims{q, 4 * time.Second}, Sender: s})
		time.Sleep(time.Second)
		stop()
		require.Equal(t, 1, s.count(), "a job that was claimed is not left lying")
		require.Equal(t, mail.Sent, get(t, q, "a").State)
	})
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "a")
		s := senderFunc(func(ctx context.Context, _ mail.Message) error { <-ctx.Done(); return ctx.Err() })
		_, stop := start(t, mail.WorkerConfig{Queue: slowClaims{q, 4 * time.Second}, Sender: s, SendTimeout: 10 * time.Second})
		time.Sleep(time.Second)
		begun := time.Now()
		stop()
		require.Equal(t, 10*time.Second, time.Since(begun), "the time to drain counts from the end of ctx")
		require.Equal(t, mail.Ready, get(t, q, "a").State)
	})
}

func TestWorkerEndsAtOnceWhenIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, stop := start(t, mail.WorkerConfig{Queue: memory.NewMailQueue(), Sender: &attempts{}, Poll: time.Hour})
		synctest.Wait()
		begun := time.Now()
		stop()
		require.Zero(t, time.Since(begun))
	})
}

// checked is a sender that says whether it takes mails.
type checked struct {
	*attempts
	checks atomic.Int64
	down   atomic.Bool
}

func (c *checked) Check(context.Context) error {
	c.checks.Add(1)
	if c.down.Load() {
		return errTemporary
	}
	return nil
}

func TestAnOutageOfTheSenderCostsOneAttemptOfOneMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "j1", "j2", "j3")
		sender := &checked{attempts: &attempts{}}
		sender.down.Store(true)
		sender.answer = func(int, mail.Message) error {
			if sender.down.Load() {
				return errTemporary
			}
			return nil
		}
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: sender})
		defer stop()
		time.Sleep(time.Hour)
		assert.Equal(t, 1, sender.count(), "it does not try mails that cannot go out")
		assert.Less(t, sender.checks.Load(), int64(1300), "nor ask all the time")
		for _, id := range []string{"j2", "j3"} {
			assert.Zero(t, get(t, q, id).Attempts)
		}
		sender.down.Store(false)
		time.Sleep(4 * time.Second)
		for _, id := range []string{"j1", "j2", "j3"} {
			assert.Equal(t, mail.Sent, get(t, q, id).State, id)
		}
		assert.Equal(t, 2, get(t, q, "j1").Attempts)
		assert.Equal(t, 1, get(t, q, "j2").Attempts)
	})
}

func TestAMailThatIsRefusedForGoodRaisesNoDoubtAboutTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "j1", "j2")
		sender := &checked{attempts: &attempts{answer: func(int, mail.Message) error { return mail.ErrRefused }}}
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: sender})
		defer stop()
		time.Sleep(time.Minute)
		assert.Equal(t, 2, sender.count())
		assert.Zero(t, sender.checks.Load())
	})
}
