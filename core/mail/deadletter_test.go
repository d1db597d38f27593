package mail_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// letters makes a queue with n dead letters d0000, d0001, … and one ready job, and a service.
func letters(t *testing.T, n int, edit ...func(*mail.DeadLetterConfig)) (*mail.DeadLetterService, *memory.MailQueue) {
	t.Helper()
	q := memory.NewMailQueue()
	for i := range n {
		enqueue(t, q, fmt.Sprintf("d%04d", i))
	}
	for range n {
		j, _, err := q.Claim(t.Context(), time.Now(), time.Minute)
		require.NoError(t, err)
		require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: time.Now(), Error: "broken"}))
	}
	enqueue(t, q, "ready")
	cfg := mail.DeadLetterConfig{Letters: q, Stats: q}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := mail.NewDeadLetterService(cfg)
	require.NoError(t, err)
	return s, q
}

func TestDeadLetterList(t *testing.T) {
	t.Parallel()
	s, _ := letters(t, 60)
	jobs, err := s.List(t.Context(), mail.Filter{})
	require.NoError(t, err)
	require.Len(t, jobs, 50)
	jobs, err = s.List(t.Context(), mail.Filter{After: jobs[49].ID, Limit: 1000})
	require.NoError(t, err)
	require.Len(t, jobs, 11)
	for _, bad := range []mail.Filter{{Limit: 1001}, {Limit: -1}, {State: "lost"}} {
		_, err = s.List(t.Context(), bad)
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.ReplayAll(t.Context(), mail.Filter{Limit: bad.Limit - 5000}, true)
		require.ErrorIs(t, err, fault.Invalid)
	}
}

func TestDeadLetterReplay(t *testing.T) {
	t.Parallel()
	requeued := 0
	s, q := letters(t, 2, func(c *mail.DeadLetterConfig) {
		c.Requeued = func() { requeued++ }
		c.Refresh = func(_ context.Context, j mail.Job) ([]byte, error) {
			require.Equal(t, mail.Dead, j.State, "no fresh code for a mail that is not dead")
			if j.ID == "d0001" {
				return []byte(`{"fresh":true}`), nil
			}
			return nil, nil
		}
	})
	kept := get(t, q, "d0000").Data
	require.NoError(t, s.Replay(t.Context(), "d0000"))
	require.NoError(t, s.Replay(t.Context(), "d0001"))
	require.Equal(t, 2, requeued)
	j, err := s.Get(t.Context(), "d0000")
	require.NoError(t, err)
	require.Equal(t, mail.Ready, j.State)
	require.Zero(t, j.Attempts)
	require.Equal(t, kept, j.Data)
	require.JSONEq(t, `{"fresh":true}`, string(get(t, q, "d0001").Data))

	require.ErrorIs(t, s.Replay(t.Context(), "d0000"), mail.ErrNotDead)
	require.ErrorIs(t, s.Replay(t.Context(), "nothing"), mail.ErrJobNotFound)
	require.ErrorIs(t, s.Discard(t.Context(), "d0000"), mail.ErrNotDead)
	require.ErrorIs(t, s.Discard(t.Context(), "nothing"), mail.ErrJobNotFound)
	_, err = s.Get(t.Context(), "nothing")
	require.ErrorIs(t, err, mail.ErrJobNotFound)
	require.Equal(t, 2, requeued)
}

func TestDeadLetterDiscard(t *testing.T) {
	t.Parallel()
	s, _ := letters(t, 1)
	require.NoError(t, s.Discard(t.Context(), "d0000"))
	_, err := s.Get(t.Context(), "d0000")
	require.ErrorIs(t, err, mail.ErrJobNotFound)
}

func TestDeadLetterReplayAll(t *testing.T) {
	t.Parallel()
	t.Run("pages", func(t *testing.T) {
		t.Parallel()
		requeued := 0
		s, _ := letters(t, 2345, func(c *mail.DeadLetterConfig) { c.Requeued = func() { requeued++ } })
		ids, err := s.ReplayAll(t.Context(), mail.Filter{State: mail.Sent}, true)
		require.NoError(t, err)
		require.Len(t, ids, 2345)
		require.Zero(t, requeued)
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[mail.State]int{mail.Ready: 1, mail.Running: 0, mail.Sent: 0, mail.Dead: 2345}, stats)

		some, err := s.ReplayAll(t.Context(), mail.Filter{Limit: 3}, false)
		require.NoError(t, err)
		require.Equal(t, ids[:3], some)
		rest, err := s.ReplayAll(t.Context(), mail.Filter{}, false)
		require.NoError(t, err)
		require.Equal(t, ids[3:], rest)
		require.Equal(t, 2, requeued)
		none, err := s.ReplayAll(t.Context(), mail.Filter{}, false)
		require.NoError(t, err)
		require.Empty(t, none)
		require.Equal(t, 2, requeued)
	})
	t.Run("of one recipient", func(t *testing.T) {
		t.Parallel()
		s, _ := letters(t, 3)
		ids, err := s.ReplayAll(t.Context(), mail.Filter{To: "bob@example.com"}, false)
		require.NoError(t, err)
		require.Empty(t, ids)
		ids, err = s.ReplayAll(t.Context(), mail.Filter{To: "ada@example.com"}, false)
		require.NoError(t, err)
		require.Len(t, ids, 3)
	})
	t.Run("while others decide too", func(t *testing.T) {
		t.Parallel()
		var s *mail.DeadLetterService
		s, q := letters(t, 5, func(c *mail.DeadLetterConfig) {
			letters := c.Letters
			c.Refresh = func(ctx context.Context, j mail.Job) ([]byte, error) {
				switch j.ID {
				case "d0001":
					return nil, letters.Discard(ctx, j.ID)
				case "d0002":
					return nil, letters.Requeue(ctx, j.ID, time.Now(), nil)
				}
				return nil, nil
			}
		})
		_ = q
		ids, err := s.ReplayAll(t.Context(), mail.Filter{}, false)
		require.NoError(t, err)
		require.Equal(t, []string{"d0000", "d0003", "d0004"}, ids)
	})
	t.Run("until something breaks", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("broken")
		requeued := 0
		s, q := letters(t, 5, func(c *mail.DeadLetterConfig) {
			c.Requeued = func() { requeued++ }
			c.Refresh = func(_ context.Context, j mail.Job) ([]byte, error) {
				if j.ID == "d0002" {
					return nil, broken
				}
				return nil, nil
			}
		})
		ids, err := s.ReplayAll(t.Context(), mail.Filter{}, false)
		require.ErrorIs(t, err, broken)
		require.Equal(t, []string{"d0000", "d0001"}, ids)
		require.Equal(t, 1, requeued)
		require.Equal(t, mail.Dead, get(t, q, "d0002").State)
	})
}

func TestNewDeadLetterServiceChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := mail.NewDeadLetterService(mail.DeadLetterConfig{})
	require.ErrorContains(t, err, "Letters")
	require.ErrorContains(t, err, "Stats")
}
