package wire

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/health"
)

// Another process keeps the file locked: whoever asks when a good answer is no longer taken for granted is told before a
// second has gone by since the lock, and before the time of a check is up, so that the answer has the reason.
func TestReadinessOfALockedFileIsWithinTheSecond(t *testing.T) {
	t.Parallel()
	require.Less(t, pingFresh+bunstore.DefaultPingTimeout, time.Second)
	file := filepath.Join(t.TempDir(), "parley.db")
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{BusyTimeout: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	probe := health.Shared(0, databaseProbe(s))
	_, err = probe(t.Context())
	require.NoError(t, err)

	other, err := sql.Open("sqlite", "file:"+file)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, other.Close()) })
	other.SetMaxOpenConns(1)
	_, err = other.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
	require.NoError(t, err)
	_, err = probe(t.Context())
	require.ErrorIs(t, err, fault.Unavailable)
	require.NotErrorIs(t, err, health.ErrTimeout, "it is told, and not given up")
	require.NotErrorIs(t, err, context.DeadlineExceeded, "SQLite says that it is locked")
	_, err = other.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	_, err = probe(t.Context())
	require.NoError(t, err)
}
