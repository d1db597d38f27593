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
		_, err = s.ReplayAll(t.Context(), mail.Choice{Limit: bad.Limit - 5000, DryRun: true})
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.DiscardAll(t.Context(), mail.Choice{Limit: bad.Limit - 5000, DryRun: true})
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
	require.NoError(t, s.Replay(t.Context(), "d0000", false))
	require.NoError(t, s.Replay(t.Context(), "d0001", false))
	require.Equal(t, 2, requeued)
	j, err := s.Get(t.Context(), "d0000")
	require.NoError(t, err)
	require.Equal(t, mail.Ready, j.State)
	require.Zero(t, j.Attempts)
	require.Equal(t, kept, j.Data)
	require.JSONEq(t, `{"fresh":true}`, string(get(t, q, "d0001").Data))

	require.ErrorIs(t, s.Replay(t.Context(), "d0000", false), mail.ErrNotDead)
	require.ErrorIs(t, s.Replay(t.Context(), "nothing", false), mail.ErrJobNotFound)
	require.ErrorIs(t, s.Discard(t.Context(), "d0000"), mail.ErrNotDead)
	require.ErrorIs(t, s.Discard(t.Context(), "nothing"), mail.ErrJobNotFound)
	_, err = s.Get(t.Context(), "nothing")
	require.ErrorIs(t, err, mail.ErrJobNotFound)
	require.Equal(t, 2, requeued)
}

// What nobody needs any more is not sent again, also by force, and holds up no other.
func TestWhatNobodyNeedsIsNotReplayed(t *testing.T) {
	t.Parallel()
	s, _ := letters(t, 3, func(c *mail.DeadLetterConfig) {
		c.Refresh = func(_ context.Context, j mail.Job) ([]byte, error) {
			if j.ID == "d0001" {
				return nil, mail.ErrNotNeeded.Detail("the address is confirmed by now")
			}
			return nil, nil
		}
	})
	for _, force := range []bool{false, true} {
		err := s.Replay(t.Context(), "d0001", force)
		require.ErrorIs(t, err, mail.ErrNotNeeded)
		require.Equal(t, "the address is confirmed by now", fault.Public(err).Detail)
	}
	done, err := s.ReplayAll(t.Context(), mail.Choice{})
	require.NoError(t, err)
	require.Equal(t, mail.Replayed{Jobs: []string{"d0000", "d0002"}, Refused: []string{}, NotNeeded: []string{"d0001"}}, done)
	j, err := s.Get(t.Context(), "d0001")
	require.NoError(t, err)
	require.Equal(t, mail.Dead, j.State)
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
		done, err := s.ReplayAll(t.Context(), mail.Choice{DryRun: true})
		ids := done.Jobs
		require.NoError(t, err)
		require.Empty(t, done.Refused)
		require.Len(t, ids, 2345)
		require.Zero(t, requeued)
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[mail.State]int{mail.Ready: 1, mail.Running: 0, mail.Sent: 0, mail.Dead: 2345}, stats)

		some, err := s.ReplayAll(t.Context(), mail.Choice{Limit: 3})
		require.NoError(t, err)
		require.Equal(t, ids[:3], some.Jobs)
		rest, err := s.ReplayAll(t.Context(), mail.Choice{})
		require.NoError(t, err)
		require.Equal(t, ids[3:], rest.Jobs)
		require.Equal(t, 2, requeued)
		none, err := s.ReplayAll(t.Context(), mail.Choice{})
		require.NoError(t, err)
		require.Empty(t, none.Jobs)
		require.Equal(t, 2, requeued)
	})
	t.Run("of one recipient", func(t *testing.T) {
		t.Parallel()
		s, _ := letters(t, 3)
		ids, err := s.ReplayAll(t.Context(), mail.Choice{To: "bob@example.com"})
		require.NoError(t, err)
		require.Empty(t, ids.Jobs)
		ids, err = s.ReplayAll(t.Context(), mail.Choice{To: "ada@example.com"})
		require.NoError(t, err)
		require.Len(t, ids.Jobs, 3)
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
		ids, err := s.ReplayAll(t.Context(), mail.Choice{})
		require.NoError(t, err)
		require.Equal(t, []string{"d0000", "d0003", "d0004"}, ids.Jobs)
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
		ids, err := s.ReplayAll(t.Context(), mail.Choice{})
		require.ErrorIs(t, err, broken)
		require.Equal(t, []string{"d0000", "d0001"}, ids.Jobs)
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

// die lets the worker's last word on a job be that it is dead, for the given reason.
func die(t *testing.T, q *memory.MailQueue, id, why string) {
	t.Helper()
	for {
		j, found, err := q.Claim(t.Context(), time.Now().Add(time.Minute), time.Minute)
		require.NoError(t, err)
		require.True(t, found)
		if j.ID == id {
			require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: time.Now(), Error: why}))
			return
		}
	}
}

func TestWhatWasReplayedTooOftenIsRefusedUnlessForced(t *testing.T) {
	t.Parallel()
	s, q := letters(t, 3, func(c *mail.DeadLetterConfig) { c.MaxReplays = 2 })
	for range 2 {
		require.NoError(t, s.Replay(t.Context(), "d0001", false))
		die(t, q, "d0001", "again")
	}
	require.ErrorIs(t, s.Replay(t.Context(), "d0001", false), mail.ErrReplayedTooOften)
	require.Equal(t, mail.Dead, get(t, q, "d0001").State)

	for _, dry := range []bool{true, false} {
		done, err := s.ReplayAll(t.Context(), mail.Choice{DryRun: dry})
		require.NoError(t, err)
		require.Equal(t, []string{"d0001"}, done.Refused)
		require.Equal(t, []string{"d0000", "d0002"}, done.Jobs)
	}
	require.Equal(t, mail.Dead, get(t, q, "d0001").State)
	done, err := s.ReplayAll(t.Context(), mail.Choice{Force: true})
	require.NoError(t, err)
	require.Equal(t, mail.Replayed{Jobs: []string{"d0001"}, Refused: []string{}, NotNeeded: []string{}}, done)
	die(t, q, "d0001", "again")
	require.NoError(t, s.Replay(t.Context(), "d0001", true))
	require.Equal(t, 4, get(t, q, "d0001").Replays)
	require.ErrorIs(t, s.Replay(t.Context(), "d0001", true), mail.ErrNotDead, "force replays nothing that is not dead")
}

func TestTheDefaultIsFiveReplays(t *testing.T) {
	t.Parallel()
	s, q := letters(t, 1)
	for range 5 {
		require.NoError(t, s.Replay(t.Context(), "d0000", false))
		die(t, q, "d0000", "again")
	}
	require.ErrorIs(t, s.Replay(t.Context(), "d0000", false), mail.ErrReplayedTooOften)
}

func TestDeadLettersAreChosenByKindAndError(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	for id, kind := range map[string]mail.Kind{"a": mail.KindVerification, "b": mail.KindPasswordReset, "c": mail.KindPasswordReset} {
		now := time.Now()
		require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: id, Key: id, Kind: kind, To: "ada@example.com", RunAt: now, CreatedAt: now, UpdatedAt: now}))
	}
	for range 3 {
		j, _, err := q.Claim(t.Context(), time.Now(), time.Minute)
		require.NoError(t, err)
		why := map[string]string{"a": "550 No such USER", "b": "550 no such user", "c": "554 spam"}[j.ID]
		require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: time.Now(), Error: why}))
	}
	s, err := mail.NewDeadLetterService(mail.DeadLetterConfig{Letters: q, Stats: q})
	require.NoError(t, err)
	for _, test := range []struct {
		choice mail.Choice
		want   []string
	}{
		{mail.Choice{}, []string{"a", "b", "c"}},
		{mail.Choice{Error: "no such user"}, []string{"a", "b"}},
		{mail.Choice{Error: "no such user", Limit: 1}, []string{"a"}},
		{mail.Choice{Kind: mail.KindPasswordReset}, []string{"b", "c"}},
		{mail.Choice{Kind: mail.KindPasswordReset, Error: "SPAM"}, []string{"c"}},
		{mail.Choice{Kind: mail.KindPasswordReset, To: "bob@example.com"}, []string{}},
	} {
		test.choice.DryRun = true
		done, err := s.ReplayAll(t.Context(), test.choice)
		require.NoError(t, err)
		require.Equal(t, test.want, done.Jobs, "%+v", test.choice)
		ids, err := s.DiscardAll(t.Context(), test.choice)
		require.NoError(t, err)
		require.Equal(t, test.want, ids, "%+v", test.choice)
	}
	ids, err := s.DiscardAll(t.Context(), mail.Choice{Error: "user"})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, ids)
	left, err := s.List(t.Context(), mail.Filter{})
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, "c", left[0].ID)
}
