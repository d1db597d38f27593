package mail_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
)

// performer notes what it was asked for, and when, since it was made.
type performer struct {
	began time.Time
	do    func(ctx context.Context, j mail.Job, begun func()) error

	mu   sync.Mutex
	ids  []string
	at   map[string][]time.Duration
	done map[string]time.Duration
}

func newPerformer(do func(ctx context.Context, j mail.Job, begun func()) error) *performer {
	return &performer{began: time.Now(), do: do, at: map[string][]time.Duration{}, done: map[string]time.Duration{}}
}

func (p *performer) Perform(ctx context.Context, j mail.Job, begun func()) error {
	p.mu.Lock()
	p.ids = append(p.ids, j.ID)
	p.at[j.ID] = append(p.at[j.ID], time.Since(p.began))
	p.mu.Unlock()
	err := p.do(ctx, j, begun)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.done[j.ID] = time.Since(p.began)
	}
	return err
}

func (p *performer) Check(context.Context) error { return nil }

func laned(q mail.Queue, p mail.Performer, concurrency int) mail.WorkerConfig {
	return mail.WorkerConfig{
		Queue: q, Performer: p, Concurrency: concurrency, SendTimeout: 10 * time.Second, MaxAttempts: 5, Backoff: time.Second,
		Lane: func(j mail.Job) string { return j.Name }, Random: func() float64 { return 0 },
	}
}

// put puts jobs "room-1", "room-2", … onto the queue, in turns.
func put(t testing.TB, q mail.Queue, each int, rooms ...string) {
	t.Helper()
	for i := range each {
		for _, room := range rooms {
			id := fmt.Sprintf("%s-%03d", room, i+1)
			require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: id, Key: id, Name: room}))
		}
	}
}

func of(room string, ids []string) (mine []string) {
	for _, id := range ids {
		if strings.HasPrefix(id, room+"-") {
			mine = append(mine, id)
		}
	}
	return mine
}

func TestJobsOfALaneBeginInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		put(t, q, 100, "a", "b", "c")
		p := newPerformer(func(ctx context.Context, j mail.Job, begun func()) error {
			time.Sleep(time.Duration(len(j.ID)%3+1) * time.Millisecond) // before it is sent
			begun()
			begun() // twice is once
			time.Sleep(5 * time.Millisecond)
			return nil
		})
		began := time.Now()
		_, stop := start(t, laned(q, p, 16))
		synctest.Wait()
		time.Sleep(time.Minute)
		stop()
		require.Len(t, p.ids, 300)
		for _, room := range []string{"a", "b", "c"} {
			mine := of(room, p.ids)
			assert.IsIncreasing(t, mine)
		}
		for id, at := range p.done {
			assert.Less(t, at, 3*time.Second, "%s of %v", id, time.Since(began))
		}
	})
}

// A lane that gets no answer, and one whose jobs all fail, hold up nobody else by more than a second, and stay in order themselves.
func TestALaneHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(ctx context.Context) error{
		"no answer": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"failures": func(context.Context) error { return errors.New("500") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := memory.NewMailQueue()
				put(t, q, 50, "bad")
				put(t, q, 5, "good", "better")
				p := newPerformer(func(ctx context.Context, j mail.Job, begun func()) error {
					begun()
					if j.Name == "bad" {
						return answer(ctx)
					}
					return nil
				})
				_, stop := start(t, laned(q, p, 8))
				time.Sleep(3 * time.Second)
				p.mu.Lock()
				for _, room := range []string{"good", "better"} {
					for i := range 5 {
						id := fmt.Sprintf("%s-%03d", room, i+1)
						at, ok := p.done[id]
						assert.True(t, ok && at <= time.Second, "%s was done after %v (%v)", id, at, ok)
					}
				}
				p.mu.Unlock()
				time.Sleep(10 * time.Minute)
				stop()
				var first []string
				seen := map[string]bool{}
				for _, id := range of("bad", p.ids) {
					if !seen[id] {
						first = append(first, id)
					}
					seen[id] = true
				}
				assert.Len(t, first, 50)
				assert.IsIncreasing(t, first)
			})
		})
	}
}

// What waits in a full lane when the worker ends was not tried, and is no dead letter.
func TestALaneEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		put(t, q, 20, "a")
		p := newPerformer(func(ctx context.Context, _ mail.Job, begun func()) error {
			<-ctx.Done() // it is never sent
			return ctx.Err()
		})
		cfg := laned(q, p, 16)
		cfg.MaxAttempts = 1
		_, stop := start(t, cfg)
		time.Sleep(time.Second)
		stop()
		jobs, err := q.List(t.Context(), mail.Filter{Limit: 100})
		require.NoError(t, err)
		dead, tried := 0, 0
		for _, j := range jobs {
			require.NotEqual(t, mail.Running, j.State, "%s", j.ID)
			if j.State == mail.Dead {
				dead++ // its one attempt had all its time
			}
			tried += j.Attempts
		}
		assert.Equal(t, 1, dead)
		assert.Equal(t, 1, tried)
		assert.Equal(t, "a-001", p.ids[0])
		assert.IsIncreasing(t, append([]string{""}, p.ids...))
	})
}

func TestAPerformerTakesThePlaceOfASender(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	_, err := mail.NewWorker(mail.WorkerConfig{Queue: q, Performer: newPerformer(nil)})
	require.NoError(t, err)
	_, err = mail.NewWorker(mail.WorkerConfig{Queue: q})
	require.ErrorContains(t, err, "Sender is missing")
	_, err = mail.NewWorker(mail.WorkerConfig{Queue: q, Performer: newPerformer(nil), Concurrency: 4, MaxPerLane: 5})
	require.ErrorContains(t, err, "MaxPerLane is more than Concurrency")
}

// A delivery for each message would be a line for each message.
func TestADeliveryThatWasSentIsNoLineInTheLog(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		synctest.Test(t, func(t *testing.T) {
			q := memory.NewMailQueue()
			put(t, q, 3, "a")
			cfg := laned(q, newPerformer(func(context.Context, mail.Job, func()) error { return nil }), 1)
			var log strings.Builder
			cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
			_, stop := start(t, cfg)
			time.Sleep(time.Second)
			stop()
			lines := 0
			if level == slog.LevelDebug {
				lines = 3
			}
			assert.Equal(t, lines, strings.Count(log.String(), "a delivery was sent"), "%v", level)
		})
	}
}

// While nobody is there, the jobs of a lane keep their order, and none has lost an attempt.
func TestALaneKeepsItsOrderOverAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		put(t, q, 30, "a", "b")
		away := time.Now().Add(20 * time.Second)
		var taken []string
		var mu sync.Mutex
		p := newPerformer(func(_ context.Context, j mail.Job, begun func()) error {
			time.Sleep(3 * time.Millisecond)
			if time.Now().Before(away) {
				return mail.ErrUntried
			}
			mu.Lock()
			taken = append(taken, j.ID)
			mu.Unlock()
			begun()
			return nil
		})
		_, stop := start(t, laned(q, p, 16))
		time.Sleep(10 * time.Minute)
		stop()
		for _, room := range []string{"a", "b"} {
			mine := of(room, taken)
			assert.Len(t, mine, 30)
			assert.IsIncreasing(t, mine)
		}
		jobs, err := q.List(t.Context(), mail.Filter{Limit: 100})
		require.NoError(t, err)
		for _, j := range jobs {
			assert.Equal(t, mail.Sent, j.State)
			assert.Equal(t, 1, j.Attempts)
		}
	})
}
