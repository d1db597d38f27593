package bunstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// Somebody freezes in the middle of a transaction, with the counters of rooms and the outbox locked, and the connection
// stays open. Others have what it held before a commit of theirs is given up, and what it does when it goes on is undone.
func TestWhoFreezesHoldsUpNobody(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 2)
		frozen, other := stores[0], stores[1]
		_, err := other.Messages().Append(t.Context(), messages("r", 0, 1))
		require.NoError(t, err)
		held, goOn := make(chan struct{}), make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- bunstore.Transact(t.Context(), frozen, func(ctx context.Context, tx bun.Tx) error {
				if _, err := tx.ExecContext(ctx, "UPDATE parley_room_seqs SET last = last + 1000"); err != nil {
					return err
				}
				if err := bunstore.PutEvents(ctx, frozen, tx, event.Event{ID: "frozen", Time: noon}); err != nil {
					return err
				}
				close(held)
				<-goOn
				return nil
			})
		}()
		<-held
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // what a commit may take
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			got, err := other.Messages().Append(ctx, messages("r", 1, 1))
			if assert.NoError(t, err) {
				assert.EqualValues(t, 2, got[0].Seq)
			}
		})
		wg.Go(func() {
			assert.NoError(t, other.Users().Create(ctx, person("u"), event.Event{ID: "e", Time: noon}))
		})
		wg.Go(func() { assert.NoError(t, other.Ping(ctx)) })
		wg.Wait()
		t.Logf("others go on after %v", time.Since(began).Round(time.Millisecond))
		close(goOn)
		require.ErrorIs(t, <-ended, fault.Unavailable)
		pending, err := other.Outbox().Pending(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, pending, 1)
		got, err := frozen.Messages().Append(t.Context(), messages("r", 2, 1))
		require.NoError(t, err, "whoever was frozen goes on")
		assert.EqualValues(t, 3, got[0].Seq)
	})
}

// A lock that somebody keeps, who is awake, is waited for as long as Config says.
func TestLocksAreWaitedFor(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		at := e.fresh(t)
		holder := e.at(t, at)
		waiter, err := e.open(t.Context(), at, bunstore.Config{LockTimeout: 1 * time.Second})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, waiter.Close()) })
		_, err = holder.Messages().Append(t.Context(), messages("r", 0, 1))
		require.NoError(t, err)
		err = bunstore.Transact(t.Context(), holder, func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.ExecContext(ctx, "UPDATE parley_room_seqs SET last = last"); err != nil {
				return err
			}
			_, err := waiter.Messages().Append(ctx, messages("r", 1, 1))
			assert.ErrorIs(t, err, fault.Unavailable)
			assert.NotErrorIs(t, err, context.DeadlineExceeded)
			return nil
		})
		require.NoError(t, err)
	})
}

// The limits of a connection are the server's to keep, so it must know them.
func TestConnectionsHaveLimits(t *testing.T) {
	t.Parallel()
	limits := func(t *testing.T, e engine, query string, cfg bunstore.Config, names ...string) map[string]string {
		s, err := e.open(t.Context(), e.fresh(t)+query, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		db, _ := bunstore.Handles(s)
		got := map[string]string{}
		for _, name := range names {
			var value string
			ask := map[string]string{"PostgreSQL": "SELECT setting FROM pg_settings WHERE name = '%s'", "MariaDB": "SELECT @@SESSION.%s"}[e.name]
			require.NoError(t, db.QueryRowContext(t.Context(), fmt.Sprintf(ask, name)).Scan(&value), name)
			got[name] = value
		}
		return got
	}
	odd := bunstore.Config{TransactionIdle: 1500 * time.Millisecond, LockTimeout: 2500 * time.Millisecond, Silence: 20 * time.Second}
	none := bunstore.Config{TransactionIdle: -1, LockTimeout: -1, Silence: -1}
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			query string
			cfg   bunstore.Config
			want  []string
		}{
			{"", bunstore.Config{}, []string{"3000", "4000", "10000", "2", "2", "4"}},
			{"", odd, []string{"1500", "2500", "20000", "4", "4", "4"}},
			{"?lock_timeout=123&tcp_keepalives_count=7", bunstore.Config{}, []string{"3000", "123", "10000", "2", "2", "7"}},
		} {
			names := []string{"idle_in_transaction_session_timeout", "lock_timeout", "tcp_user_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"}
			got := limits(t, engines[0], c.query, c.cfg, names...)
			for i, name := range names {
				assert.Equal(t, c.want[i], got[name], "%s %+v: %s", c.query, c.cfg, name)
			}
		}
		got := limits(t, engines[0], "", none, "idle_in_transaction_session_timeout", "lock_timeout", "tcp_user_timeout")
		assert.Equal(t, map[string]string{"idle_in_transaction_session_timeout": "0", "lock_timeout": "0", "tcp_user_timeout": "0"}, got)
	})
	t.Run("MariaDB", func(t *testing.T) {
		t.Parallel()
		names := []string{"idle_transaction_timeout", "innodb_lock_wait_timeout", "wait_timeout", "autocommit"}
		assert.Equal(t, map[string]string{"idle_transaction_timeout": "3", "innodb_lock_wait_timeout": "4", "wait_timeout": "28800", "autocommit": "1"},
			limits(t, engines[1], "", bunstore.Config{}, names...))
		assert.Equal(t, map[string]string{"idle_transaction_timeout": "2", "innodb_lock_wait_timeout": "3", "wait_timeout": "28800", "autocommit": "1"},
			limits(t, engines[1], "", odd, names...))
		assert.Equal(t, map[string]string{"idle_transaction_timeout": "0", "innodb_lock_wait_timeout": "50", "wait_timeout": "28800", "autocommit": "1"},
			limits(t, engines[1], "", none, names...))
	})
	for name, cfg := range map[string]bunstore.Config{
		"MaxLifetime": {MaxLifetime: time.Millisecond}, "MaxIdle": {MaxIdle: -1}, "TransactionIdle": {TransactionIdle: time.Microsecond},
		"LockTimeout": {LockTimeout: 25 * time.Hour}, "Silence": {Silence: 1},
	} {
		_, err := bunstore.OpenPostgres(t.Context(), "postgres://u:p@h/d", cfg)
		require.ErrorContains(t, err, name)
		_, err = bunstore.OpenMySQL(t.Context(), "mysql://u:p@h/d", cfg)
		require.ErrorContains(t, err, name)
	}
}

// Migrating may take longer than any call: who migrates waits for those who use the tables, and for each other.
func TestMigrationsWaitForLocks(t *testing.T) {
	t.Parallel()
	e := engines[0]
	at := e.fresh(t)
	holder := e.at(t, at)
	waiter, err := e.open(t.Context(), at, bunstore.Config{LockTimeout: 50 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, waiter.Close()) })
	db, _ := bunstore.Handles(holder)
	execute(t, db.DB, "DELETE FROM parley_migrations WHERE name = '0002'")
	migrated := make(chan error, 1)
	err = bunstore.Transact(t.Context(), holder, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.ExecContext(ctx, "LOCK TABLE parley_messages IN ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		go func() { migrated <- waiter.Migrate(t.Context()) }()
		for waiting := 0; waiting == 0; { // until it waits, and three times longer than it would be allowed to
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '150 milliseconds'`).Scan(&waiting); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, <-migrated)
}
