package mail_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/mail"
)

// summary is a history as lines.
func summary(j mail.Job) []string {
	lines := make([]string, len(j.History))
	for i, a := range j.History {
		lines[i] = fmt.Sprintf("%d %t %s", a.Number, a.At.IsZero(), a.Error)
	}
	return lines
}

func TestAJobRemembersItsAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		s := &attempts{answer: func(n int, _ mail.Message) error {
			return []error{errTemporary, mail.ErrUntried, errTemporary, nil}[n-1]
		}}
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: s})
		time.Sleep(time.Minute)
		stop()
		j := get(t, q, "a")
		require.Equal(t, mail.Sent, j.State)
		require.Equal(t, []string{"1 false the server is busy", "2 false nobody was there to take it", "2 false the server is busy", "3 false "}, summary(j))
		for i, a := range j.History[1:] {
			require.True(t, a.At.After(j.History[i].At))
		}
	})
}

// TestACrashIsInTheHistory lets two workers die: one during the first attempt, one during the last.
func TestACrashIsInTheHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "a")
		crash := func() {
			_, ok, err := q.Claim(t.Context(), time.Now(), time.Minute)
			require.NoError(t, err)
			require.True(t, ok)
			time.Sleep(time.Minute)
		}
		crash()
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: &attempts{answer: always(errTemporary)}, Backoff: time.Minute})
		synctest.Wait()
		stop()
		const lost = "it was never settled: the worker ended before"
		require.Equal(t, []string{"1 true " + lost, "2 false the server is busy"}, summary(get(t, q, "a")))
		time.Sleep(time.Hour)
		crash()
		_, stop = start(t, mail.WorkerConfig{Queue: q, Sender: &attempts{}})
		synctest.Wait()
		stop()
		j := get(t, q, "a")
		require.Equal(t, mail.Dead, j.State)
		require.Equal(t, []string{"1 true " + lost, "2 false the server is busy", "3 true " + lost}, summary(j))
	})
}

func TestTheHistoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "a")
		_, stop := start(t, mail.WorkerConfig{Queue: q, Sender: &attempts{answer: always(errTemporary)}, MaxAttempts: 30})
		time.Sleep(24 * time.Hour)
		stop()
		j := get(t, q, "a")
		require.Equal(t, mail.Dead, j.State)
		require.Len(t, j.History, mail.MaxHistory)
		require.Equal(t, 11, j.History[0].Number)
		require.Equal(t, 30, j.History[mail.MaxHistory-1].Number)
	})
}

// TestTheEndOfTheWorkerMakesNoDeadLetter ends the worker between the claim for the last attempt and its answer, so that less time is left for the
// attempt than others get.
func TestTheEndOfTheWorkerMakesNoDeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := memory.NewMailQueue()
		enqueue(t, q, "a")
		hangs := senderFunc(func(ctx context.Context, _ mail.Message) error { <-ctx.Done(); return ctx.Err() })
		_, stop := start(t, mail.WorkerConfig{Queue: slowClaims{q, 4 * time.Second}, Sender: hangs, MaxAttempts: 1, SendTimeout: 10 * time.Second})
		time.Sleep(time.Second)
		stop()
		j := get(t, q, "a")
		require.Equal(t, mail.Ready, j.State)
		require.Zero(t, j.Attempts, "an attempt that the end of the worker cut short does not count")

		s := &attempts{}
		_, stop = start(t, mail.WorkerConfig{Queue: q, Sender: s, MaxAttempts: 1})
		time.Sleep(time.Minute)
		stop()
		require.Equal(t, 1, s.count())
		require.Equal(t, mail.Sent, get(t, q, "a").State)
	})
}
