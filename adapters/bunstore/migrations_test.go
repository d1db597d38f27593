package bunstore_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/user"
)

func tables(t *testing.T, db bun.IDB) (n int) {
	t.Helper()
	require.NoError(t, db.NewRaw("SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'parley%'").Scan(t.Context(), &n))
	return n
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	db := plain(t, filepath.Join(t.TempDir(), "parley.db"))
	s, err := bunstore.New(db)
	require.NoError(t, err)

	err = s.Check(t.Context())
	require.ErrorIs(t, err, bunstore.ErrSchemaOld)
	require.ErrorContains(t, err, "0001")
	assert.Zero(t, tables(t, db), "Check changed something")
	_, err = s.Users().ByID(t.Context(), "u")
	require.Error(t, err, "a call on an empty database")

	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Check(t.Context()))
	want := tables(t, db)
	require.NoError(t, s.Migrate(t.Context()))
	assert.Equal(t, want, tables(t, db))
	applied, err := db.NewSelect().Table("parley_migrations").Count(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, bunstore.Migrations(s), applied)
	locks, err := db.NewSelect().Table("parley_migration_locks").Count(t.Context())
	require.NoError(t, err)
	assert.Zero(t, locks)
}

func TestMigrateByManyAtOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		file := filepath.Join(t.TempDir(), "parley.db")
		const processes = 4
		errs := make(chan error, processes)
		start := make(chan struct{})
		for i := range processes {
			go func() {
				<-start
				errs <- func() error {
					s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
					if err != nil {
						return err
					}
					defer func() { assert.NoError(t, s.Close()) }()
					if err := s.Migrate(t.Context()); err != nil {
						return err
					}
					return s.Users().Create(t.Context(), user.User{
						ID: user.ID(fmt.Sprint(i)), FullName: "x", Email: user.Email(fmt.Sprintf("%d@example.org", i)),
					})
				}()
			}()
		}
		close(start)
		for range processes {
			require.NoError(t, <-errs)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	file := filled(t)
	db := plain(t, file)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_migrations (name, group_id) VALUES ('9999', 2)")
	require.NoError(t, err)

	_, err = bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
	require.ErrorIs(t, err, bunstore.ErrSchemaNew)
	require.ErrorContains(t, err, "9999")
	s, err := bunstore.New(db)
	require.NoError(t, err)
	require.ErrorIs(t, s.Check(t.Context()), bunstore.ErrSchemaNew)
	require.ErrorIs(t, s.Migrate(t.Context()), bunstore.ErrSchemaNew)

	// The same when some of the program's own are pending.
	_, err = db.ExecContext(t.Context(), "DELETE FROM parley_migrations WHERE name = '0001'")
	require.NoError(t, err)
	require.ErrorIs(t, s.Migrate(t.Context()), bunstore.ErrSchemaNew)
}

func TestLockThatWasLeftBehind(t *testing.T) {
	t.Parallel()
	db := plain(t, filepath.Join(t.TempDir(), "parley.db"))
	s, err := bunstore.New(db)
	require.NoError(t, err)
	require.NoError(t, s.Unlock(t.Context()), "unlocking what is not locked")
	_, err = db.ExecContext(t.Context(), "INSERT INTO parley_migration_locks (table_name) VALUES ('parley_migrations')")
	require.NoError(t, err)

	require.ErrorIs(t, s.Migrate(t.Context()), bunstore.ErrMigrating)
	require.ErrorIs(t, s.Check(t.Context()), bunstore.ErrSchemaOld)
	require.NoError(t, s.Unlock(t.Context()))
	require.NoError(t, s.Migrate(t.Context()))
}

func TestFailedMigrationLeavesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "parley.db")
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	db, _ := bunstore.Handles(s)
	// A view in the place of the last table lets the others be made first.
	_, err = db.ExecContext(t.Context(), "CREATE VIEW parley_mail_jobs AS SELECT 1")
	require.NoError(t, err)
	require.ErrorContains(t, s.Migrate(t.Context()), "0001")
	assert.Zero(t, tables(t, db), "half a schema")

	_, err = db.ExecContext(t.Context(), "DROP VIEW parley_mail_jobs")
	require.NoError(t, err, "the only connection is still of use")
	require.NoError(t, s.Migrate(t.Context()))
}

// In memory there is only one connection: nothing may ask for a second one.
func TestOneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	one, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	one.SetMaxOpenConns(1)
	defer func() { assert.NoError(t, one.Close()) }()
	s, err := bunstore.New(bun.NewDB(one, sqlitedialect.New()))
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Ping(t.Context()))
	for range 2 { // the second time looks first
		_, err = s.Messages().Append(t.Context(), messages("r", 0, 70))
		require.NoError(t, err)
	}
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "a@example.org"}))
	require.ErrorIs(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "a@example.org"}), user.ErrEmailTaken)
	_, err = s.Users().Update(t.Context(), "u", func(u *user.User) error { u.FullName = "y"; return nil })
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, one.PingContext(t.Context()), "the handle stays its owner's")
}
