package audit_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/fault"
)

// failing is a log that fails when it is told to.
type failing struct {
	audit.Log
	append, settle, list bool
}

var errDisk = errors.New("the disk is full")

func (f *failing) Append(ctx context.Context, e audit.Entry) error {
	if f.append {
		return errDisk
	}
	return f.Log.Append(ctx, e)
}

func (f *failing) Settle(ctx context.Context, id, outcome string) error {
	if f.settle {
		return errDisk
	}
	return f.Log.Settle(ctx, id, outcome)
}

func (f *failing) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	if f.list {
		return nil, errDisk
	}
	return f.Log.List(ctx, before, limit)
}

func newService(t *testing.T, log audit.Log, edit ...func(*audit.Config)) *audit.Service {
	t.Helper()
	cfg := audit.Config{Log: log}
	for _, e := range edit {
		e(&cfg)
	}
	s, err := audit.New(cfg)
	require.NoError(t, err)
	return s
}

func TestAnActionIsRecordedBeforeAndAfter(t *testing.T) {
	t.Parallel()
	log := &failing{Log: memory.NewAuditLog()}
	s := newService(t, log)
	end, err := s.Begin(t.Context(), audit.Entry{ID: "not mine", Actor: "token:1:abcd", Action: "change-user", Target: "u1", Outcome: "not yet"})
	require.NoError(t, err)
	page, more, err := s.List(t.Context(), "", 10)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, page, 1)
	e := page[0]
	assert.NotEqual(t, "not mine", e.ID)
	assert.WithinDuration(t, time.Now(), e.At, time.Minute)
	assert.Empty(t, e.Outcome, "it has not ended")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	end("done")
	page, _, err = s.List(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Equal(t, "done", page[0].Outcome)

	// What cannot be recorded is refused, and whoever hangs up does not hide how it ended.
	_, err = s.Begin(gone, audit.Entry{})
	require.ErrorIs(t, err, audit.ErrUnrecorded)
	log.append = true
	_, err = s.Begin(t.Context(), audit.Entry{})
	require.ErrorIs(t, err, audit.ErrUnrecorded)
	require.ErrorIs(t, err, fault.Unavailable)
	log.append = false
	hung, hangUp := context.WithCancel(t.Context())
	end, err = s.Begin(hung, audit.Entry{Action: "erase-user"})
	require.NoError(t, err)
	hangUp()
	end("done")
	page, more, err = s.List(t.Context(), "", 1)
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, "done", page[0].Outcome)
	page, more, err = s.List(t.Context(), page[0].ID, 1)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, e.ID, page[0].ID)
	log.list = true
	_, _, err = s.List(t.Context(), "", 1)
	require.ErrorIs(t, err, fault.Unavailable)
	log.settle = true
	end("done") // is logged, and no panic
}

func TestEntriesFitEveryStore(t *testing.T) {
	t.Parallel()
	s := newService(t, memory.NewAuditLog())
	end, err := s.Begin(t.Context(), audit.Entry{
		Actor: strings.Repeat("𝕏", 1000), Action: "a\x00b\xff", Target: strings.Repeat("x", 1000), Detail: strings.Repeat("x", 1000), Network: strings.Repeat("x", 1000),
	})
	require.NoError(t, err)
	end(strings.Repeat("x", 1000))
	page, _, err := s.List(t.Context(), "", 1)
	require.NoError(t, err)
	e := page[0]
	assert.Len(t, []rune(e.Actor), audit.MaxActor)
	assert.Equal(t, "a\uFFFDb\uFFFD", e.Action)
	assert.Len(t, e.Target, audit.MaxTarget)
	assert.Len(t, e.Detail, audit.MaxDetail)
	assert.Len(t, e.Network, audit.MaxNetwork)
	assert.Len(t, e.Outcome, audit.MaxOutcome)
}

func TestOldEntriesGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, memory.NewAuditLog(), func(c *audit.Config) { c.Retention, c.Every = 24*time.Hour, time.Hour })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		_, err := s.Begin(t.Context(), audit.Entry{Action: "first"})
		require.NoError(t, err)
		count := func() int {
			page, _, err := s.List(t.Context(), "", 10)
			require.NoError(t, err)
			return len(page)
		}
		time.Sleep(12 * time.Hour) // in the bubble's time
		_, err = s.Begin(t.Context(), audit.Entry{Action: "second"})
		require.NoError(t, err)
		time.Sleep(11 * time.Hour)
		synctest.Wait()
		require.Equal(t, 2, count())
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, 1, count())
		cancel()
		require.NoError(t, <-ended)
	})
}
