package mail_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// lasting makes a job whose code expires when it says.
func lasting(t testing.TB, q mail.Queue, id string, to user.Email, lasts time.Duration) {
	t.Helper()
	j := job(id)
	data, err := json.Marshal(mail.UserCreated{
		UserID: "u1", FullName: "Ada", Email: string(to), VerificationCode: code, ExpiresAt: time.Now().Add(lasts),
	})
	require.NoError(t, err)
	j.To, j.Data = to, data
	require.NoError(t, q.Enqueue(t.Context(), j))
}

func TestWhatAServerPutsOffIsTriedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	for _, refusal := range []error{mail.ErrDeferred, mail.ErrThrottled} {
		t.Run(refusal.Error(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const puts = 7
				q, s := memory.NewMailQueue(), &attempts{answer: func(n int, _ mail.Message) error {
					if n <= puts {
						return fmt.Errorf("451 4.7.1: %w", refusal)
					}
					return nil
				}}
				lasting(t, q, "a", "ada@example.com", 24*time.Hour)
				_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Random: func() float64 { return 0.5 }})
				time.Sleep(10 * time.Hour)
				stop()
				j := get(t, q, "a")
				assert.Equal(t, mail.Sent, j.State)
				assert.Equal(t, 1, j.Attempts, "what was put off is no attempt")
				gaps := s.gaps()
				require.Len(t, gaps, puts)
				for i, want := range []time.Duration{1, 5, 15, 30, 60, 60, 60} {
					want *= time.Minute
					assert.InDelta(t, want+want/8, gaps[i], float64(2*time.Second), "wait %d", i)
				}
			})
		})
	}
}

func TestPuttingOffEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		enqueue func(t *testing.T, q mail.Queue)
		most    time.Duration // after which nothing is tried
		least   time.Duration
		says    string
	}{
		"with the code in the mail": {func(t *testing.T, q mail.Queue) { lasting(t, q, "a", "ada@example.com", 3*time.Hour) }, 3 * time.Hour, time.Hour, "expires"},
		"after four days": {func(t *testing.T, q mail.Queue) {
			j := job("a")
			var err error
			j.Kind = mail.KindAddressTaken
			j.Data, err = json.Marshal(mail.AddressTaken{UserID: "u1", FullName: "Ada", Email: "ada@example.com"})
			require.NoError(t, err)
			require.NoError(t, q.Enqueue(t.Context(), j))
		}, 4 * 24 * time.Hour, 94 * time.Hour, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				q, s := memory.NewMailQueue(), &attempts{answer: always(fmt.Errorf("451 4.7.1: %w", mail.ErrDeferred))}
				c.enqueue(t, q)
				_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Poll: time.Minute})
				time.Sleep(8 * 24 * time.Hour)
				stop()
				j := get(t, q, "a")
				assert.Equal(t, mail.Dead, j.State)
				assert.Contains(t, j.LastError, c.says)
				assert.Contains(t, j.LastError, "451")
				last := s.at[len(s.at)-1].Sub(begun)
				assert.LessOrEqual(t, last, c.most)
				assert.GreaterOrEqual(t, last, c.least)

				// A replay gets all of it again.
				s.answer = always(nil)
				require.NoError(t, q.Requeue(t.Context(), "a", time.Now(), nil))
				assert.Zero(t, get(t, q, "a").DeferredSince)
			})
		})
	}
}

// A server that takes a mail a second, for everybody.
func TestABurstAtAServerThatThrottles(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mails = 200
		var mu sync.Mutex
		var last time.Time
		taken, refused := 0, 0
		s := senderFunc(func(context.Context, mail.Message) error {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now(); now.Sub(last) < time.Second {
				refused++
				return fmt.Errorf("454 4.7.0 one mail a second: %w", mail.ErrThrottled)
			}
			last = time.Now()
			taken++
			return nil
		})
		q := memory.NewMailQueue()
		for i := range mails {
			lasting(t, q, fmt.Sprintf("j%03d", i), user.Email(fmt.Sprintf("u%d@d%d.example", i, i)), 24*time.Hour)
		}
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(time.Hour)
		stop()
		stats, err := q.Stats(t.Context())
		require.NoError(t, err)
		assert.Equal(t, mails, stats[mail.Sent], "%v", stats)
		assert.Equal(t, mails, taken)
		assert.Less(t, refused, mails, "it slows down: %d were put off", refused)
	})
}

// A domain that puts mails off holds up no other, and is not hammered.
func TestASlowDomainHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var mu sync.Mutex
		tries := 0
		taken := map[string]time.Duration{}
		s := senderFunc(func(_ context.Context, m mail.Message) error {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasSuffix(m.To, "@slow.example") && time.Since(begun) < 10*time.Minute {
				tries++
				return fmt.Errorf("451 4.7.1 greylisted: %w", mail.ErrDeferred)
			}
			taken[m.To] = time.Since(begun)
			return nil
		})
		q := memory.NewMailQueue()
		const slow, quick = 50, 50
		for i := range slow {
			lasting(t, q, fmt.Sprintf("s%03d", i), user.Email(fmt.Sprintf("u%d@slow.example", i)), 24*time.Hour)
		}
		for i := range quick {
			lasting(t, q, fmt.Sprintf("t%03d", i), user.Email(fmt.Sprintf("u%d@quick.example", i)), 24*time.Hour)
		}
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		assert.Len(t, taken, quick)
		for to, after := range taken {
			assert.Less(t, after, time.Second, "%s was held up", to)
		}
		assert.LessOrEqual(t, tries, 8, "mails to one slow domain in a minute: the wait doubles from a second on")
		mu.Unlock()
		time.Sleep(3 * time.Hour)
		stop()
		stats, err := q.Stats(t.Context())
		require.NoError(t, err)
		assert.Equal(t, slow+quick, stats[mail.Sent], "%v", stats)
	})
}

func TestAThrottledWorkerEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, s := memory.NewMailQueue(), &attempts{answer: always(fmt.Errorf("421: %w", mail.ErrThrottled))}
		enqueue(t, q, "a", "b")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s, Pace: 30 * time.Second})
		time.Sleep(time.Second)
		begun := time.Now()
		stop()
		assert.Zero(t, time.Since(begun))
	})
}
