package bunstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit/servers"
)

// asked is how long a readiness check lets the database answer.
func asked(t *testing.T, s *bunstore.Store) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return s.Ping(ctx)
}

// A file on a disk that is full: whoever asks is told, and it goes on when there is room again.
func TestPingOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := servers.SmallDisk(t, 2<<20)
	s := openFile(t, filepath.Join(dir, "parley.db"))
	require.NoError(t, asked(t, s))
	fill := filepath.Join(dir, "fill")
	require.NoError(t, os.WriteFile(fill, nil, 0o600))
	f, err := os.OpenFile(fill, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	for _, size := range []int{64 << 10, 4 << 10, 1 << 10, 1} { // to the last byte
		for err = nil; err == nil; _, err = f.Write(make([]byte, size)) {
		}
	}
	require.NoError(t, f.Close())
	for i := 0; ; i++ { // what the log still has room for
		if err := s.Users().Create(t.Context(), person(fmt.Sprint(i))); err != nil {
			require.ErrorIs(t, err, fault.Unavailable)
			break
		}
		require.Less(t, i, 10_000, "the disk is not full")
	}
	require.ErrorIs(t, asked(t, s), fault.Unavailable)
	require.NoError(t, os.Remove(fill))
	require.NoError(t, asked(t, s))
	require.NoError(t, s.Users().Create(t.Context(), person("after")))
}

// A file that another process keeps to itself.
func TestPingOnALockedFile(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"} {
		file := newFile(t)
		s := openFile(t, file)
		plain, err := bunstore.New(plain(t, file))
		require.NoError(t, err)
		release := hold(t, file, begin)
		for _, s := range []*bunstore.Store{s, plain} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			require.ErrorIs(t, s.Ping(ctx), fault.Unavailable, begin)
			cancel()
		}
		release()
		for _, s := range []*bunstore.Store{s, plain} {
			require.NoError(t, asked(t, s), begin)
		}
	}
}

// Whoever asks about a file that is locked is told soon, however long a call waits otherwise.
func TestPingOfALockedFileEndsByItself(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{BusyTimeout: time.Hour, PingTimeout: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	release := hold(t, file, "BEGIN IMMEDIATE")
	require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable)
	write, _ := bunstore.Handles(s)
	var usual int64
	require.NoError(t, write.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&usual))
	require.Equal(t, time.Hour.Milliseconds(), usual, "others wait as before")

	// Somebody who writes waits, and has the connection.
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() { waits <- s.Users().Create(ctx, person("waits")) }()
	require.Eventually(t, func() bool { return write.Stats().InUse == 1 }, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable)
	cancel()
	require.ErrorIs(t, <-waits, fault.Unavailable)
	release()
	require.NoError(t, s.Ping(t.Context()))
}

// A store whose commits take all of its time takes writes, also if the row's turn does not come.
func TestPingOfABusyStore(t *testing.T) {
	t.Parallel()
	s, err := bunstore.OpenSQLite(t.Context(), newFile(t), bunstore.SQLiteConfig{PingTimeout: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	write, _ := bunstore.Handles(s)
	conn, err := write.DB.Conn(t.Context()) // the only one
	require.NoError(t, err)
	require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable, "nothing is committed")
	stop := bunstore.CommitAllTheTime(s)
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 10*time.Second, time.Millisecond)
	stop()
	require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable, "nothing is committed any more")
	require.NoError(t, conn.Close())
	require.NoError(t, s.Users().Create(t.Context(), person("counts")))
	require.NotZero(t, bunstore.Commits(s))
}

// Asking leaves nothing behind but one row, whoever asks.
func TestPingIsOneRow(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		for range 3 {
			require.NoError(t, s.Ping(t.Context()))
		}
		db, _ := bunstore.Handles(s)
		var beats []int
		require.NoError(t, db.NewSelect().Table("parley_heartbeat").Column("beats").Scan(t.Context(), &beats))
		assert.Equal(t, []int{3}, beats)
	})
}
