package bunstore_test

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// withoutAdvisoryLocks returns the URL of an empty PostgreSQL database whose advisory locks are what body says, as they are
// on other servers of its protocol.
func withoutAdvisoryLocks(t *testing.T, body string) string {
	t.Helper()
	at := servers.Postgres(t)
	s, err := bunstore.OpenPostgres(t.Context(), at, bunstore.Config{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	db, _ := bunstore.Handles(s)
	execute(t, db.DB, "CREATE FUNCTION public.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN "+body+" END'")
	u, err := url.Parse(at)
	require.NoError(t, err)
	query := u.Query()
	query.Set("search_path", "public,pg_catalog")
	u.RawQuery = query.Encode()
	return u.String()
}

// noAdvisoryLocks are servers that take such a lock for nothing, and servers that refuse it.
var noAdvisoryLocks = map[string]string{
	"for nothing":   "",
	"not supported": "RAISE feature_not_supported;",
	"not there":     "RAISE undefined_function;",
}

// onePut lets s put an event within a transaction that stays open while then runs.
func onePut(t *testing.T, s *bunstore.Store, id string, then func()) {
	t.Helper()
	require.NoError(t, bunstore.Transact(t.Context(), s, func(ctx context.Context, tx bun.Tx) error {
		if err := bunstore.PutEvents(ctx, s, tx, event.Event{ID: id, Time: noon}); err != nil {
			return err
		}
		then()
		return nil
	}))
}

// waits wants that do cannot put its event now.
func waits(t *testing.T, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, do(ctx), context.DeadlineExceeded, "a later event was committed before an earlier one")
}

// Where advisory locks order nothing, the row does; the schema is made by several at once there as well.
func TestEventsAreOrderedWithoutAdvisoryLocks(t *testing.T) {
	t.Parallel()
	for name, body := range noAdvisoryLocks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := withoutAdvisoryLocks(t, body)
			const processes = 4
			stores := make([]*bunstore.Store, processes)
			errs := make(chan error, processes)
			for i := range stores {
				s, err := bunstore.OpenPostgres(t.Context(), at, bunstore.Config{})
				require.NoError(t, err)
				t.Cleanup(func() { assert.NoError(t, s.Close()) })
				stores[i] = s
			}
			for _, s := range stores {
				go func() { errs <- s.Migrate(t.Context()) }()
			}
			for range stores {
				require.NoError(t, <-errs)
			}
			onePut(t, stores[0], "first", func() {
				waits(t, func(ctx context.Context) error {
					return stores[1].Users().Create(ctx, person("u"), event.Event{ID: "second", Time: noon})
				})
			})
			outboxAscends(t, stores, nil)
		})
	}
}

// The row is made where it is missing: nobody would wait for it.
func TestOutboxRowThatIsMissing(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 2)
		db, _ := bunstore.Handles(stores[0])
		execute(t, db.DB, "DELETE FROM parley_locks")
		onePut(t, stores[0], "first", func() {
			waits(t, func(ctx context.Context) error {
				return stores[1].Users().Create(ctx, person("u"), event.Event{ID: "second", Time: noon})
			})
		})
		require.NoError(t, stores[1].Users().Create(t.Context(), person("u"), event.Event{ID: "second", Time: noon}))
	})
}

// oldPut puts an event as programs did that knew no row: under an advisory lock.
func oldPut(ctx context.Context, s *bunstore.Store, id string, before func()) error {
	return bunstore.Transact(ctx, s, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock('parley_outbox'::regclass::bigint)"); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO parley_outbox (id, topic, type, event_key, time, data) VALUES (?, 't', 'y', 'k', 1, '')", id)
		if before != nil {
			before()
		}
		return err
	})
}

// An older program that runs beside keeps the order as well, in both directions.
func TestUpgradeOrdersEvents(t *testing.T) {
	t.Parallel()
	e := engines[0]
	at := e.fresh(t)
	old, err := e.open(t.Context(), at, bunstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, old.Close()) })
	require.NoError(t, bunstore.MigrateFirst(t.Context(), old, 7)) // the last schema of such programs

	// The older program is in the middle of a commit while the newer one migrates, and is waited for by nobody's tables.
	require.NoError(t, oldPut(t.Context(), old, "old", func() {
		s := e.at(t, at)
		waits(t, func(ctx context.Context) error {
			return s.Users().Create(ctx, person("u"), event.Event{ID: "new", Time: noon})
		})
	}))
	s, other := e.at(t, at), e.at(t, at)
	onePut(t, s, "new", func() {
		waits(t, func(ctx context.Context) error { return oldPut(ctx, old, "old again", nil) })
	})
	db, _ := bunstore.Handles(s)
	execute(t, db.DB, "DELETE FROM parley_outbox")
	outboxAscends(t, []*bunstore.Store{s, other}, old)
}

// outboxAscends lets all stores put events at once, old as an older program does, and wants them to appear in the order
// of their positions.
func outboxAscends(t *testing.T, stores []*bunstore.Store, old *bunstore.Store) {
	t.Helper()
	const writers, each = 6, 15
	db, _ := bunstore.Handles(stores[0])
	execute(t, db.DB, "DELETE FROM parley_outbox")
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				id := fmt.Sprintf("w-%d-%d", w, n)
				if old != nil && w%2 == 0 {
					assert.NoError(t, oldPut(t.Context(), old, id, nil))
					continue
				}
				u := user.User{ID: user.ID(id), FullName: "x", Email: user.Email(id + "@example.org")}
				assert.NoError(t, stores[w%len(stores)].Users().Create(t.Context(), u, event.Event{ID: id, Time: noon}))
			}
		})
	}
	var done atomic.Bool
	go func() { wg.Wait(); done.Store(true) }()
	var last int64
	seen := 0
	for finished := false; !finished; {
		finished = done.Load() // before reading, so that the last round sees everything
		var positions []int64
		require.NoError(t, db.NewSelect().Table("parley_outbox").Column("position").OrderExpr("position").Where("position > ?", last).Scan(t.Context(), &positions))
		var all int
		require.NoError(t, db.NewSelect().Table("parley_outbox").ColumnExpr("COUNT(*)").Where("position <= ?", last).Scan(t.Context(), &all))
		require.Equal(t, seen, all, "an event appeared behind one that was seen before")
		seen += len(positions)
		if len(positions) > 0 {
			last = positions[len(positions)-1]
		}
	}
	require.Equal(t, writers*each, seen)
}
