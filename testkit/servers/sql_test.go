package servers_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/servers"
)

// sqlKinds are the kinds of server, each with its own way to connect.
var sqlKinds = []struct {
	name  string
	fresh func(testing.TB) string
	start func(testing.TB) *servers.SQLServer
	open  func(*testing.T, string) *sql.DB
}{
	{"Postgres", servers.Postgres, servers.StartPostgres, openPostgres},
	{"MySQL", servers.MySQL, servers.StartMySQL, openMySQL},
}

func openPostgres(t *testing.T, at string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", at)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func openMySQL(t *testing.T, at string) *sql.DB {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	password, _ := u.User.Password()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = u.User.Username(), password, "tcp", u.Host, u.Path[1:]
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func TestEveryDatabaseIsItsOwn(t *testing.T) {
	t.Parallel()
	for _, kind := range sqlKinds {
		t.Run(kind.name, func(t *testing.T) {
			one, two := kind.fresh(t), kind.fresh(t)
			require.NotEqual(t, one, two)
			for _, at := range []string{one, two} {
				_, err := kind.open(t, at).ExecContext(t.Context(), "CREATE TABLE things (n int)")
				require.NoError(t, err, "each is empty")
			}
		})
	}
}

func TestServerIsKilledAndFrozen(t *testing.T) {
	t.Parallel()
	for _, kind := range sqlKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := kind.start(t)
			db := kind.open(t, s.URL)
			_, err := db.ExecContext(t.Context(), "CREATE TABLE things (n int)")
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "INSERT INTO things VALUES (1)")
			require.NoError(t, err)

			s.Freeze(t)
			soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err = db.PingContext(soon)
			require.True(t, err != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(soon.Err(), context.DeadlineExceeded)), "a frozen server answers")
			s.Thaw(t)
			require.NoError(t, db.PingContext(t.Context()))

			s.Kill(t)
			s.Kill(t)
			require.Error(t, db.PingContext(t.Context()), "a killed server answers")
			s.Restart(t)
			var n int
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT n FROM things").Scan(&n))
			assert.Equal(t, 1, n, "what was committed is there again")
		})
	}
}
