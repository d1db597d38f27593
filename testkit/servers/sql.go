// Package servers starts real servers for tests, from programs that are installed, on free ports of
// the loopback interface and in temporary folders. One server of a kind serves a whole test
// binary; it ends, and its folder goes, when the binary ends, in whatever way. A variable
// PARLEY_TEST_… names a server to use instead. Where there is neither, the test is skipped
// with the reason.
package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// The variables that name a server to use instead of starting one. Their user must be
// allowed to create databases.
const (
	PostgresVariable = "PARLEY_TEST_POSTGRES"
	MySQLVariable    = "PARLEY_TEST_MYSQL"
)

// sqlPatience bounds the start of a server, and each statement of this package.
const sqlPatience = 60 * time.Second

// Postgres returns the URL of a fresh, empty database, which is removed when t ends. It is on
// the server that PARLEY_TEST_POSTGRES names, or on one that is started once for the test
// binary and stopped when the binary ends. Where there is neither, t is skipped. Its default
// collation is linguistic where PostgreSQL was built with ICU, so that text that is to be
// compared by its bytes has to say so.
func Postgres(t testing.TB) string {
	t.Helper()
	base := os.Getenv(PostgresVariable)
	if base == "" {
		base = sharedSQL(t, &sharedPostgres)
	}
	return freshDatabase(t, base, openPostgres, `DROP DATABASE IF EXISTS %s WITH (FORCE)`)
}

// MySQL is like [Postgres], for MariaDB and MySQL, with PARLEY_TEST_MYSQL.
func MySQL(t testing.TB) string {
	t.Helper()
	base := os.Getenv(MySQLVariable)
	if base == "" {
		base = sharedSQL(t, &sharedMySQL)
	}
	return freshDatabase(t, base, openMySQL, `DROP DATABASE IF EXISTS %s`)
}

// freshDatabase creates a database with a name of its own on the server at base.
func freshDatabase(t testing.TB, base string, open func(base string) (*sql.DB, error), drop string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal("servers: the URL of the test server cannot be parsed") // it may hold a password
	}
	name := "parley_test_" + strings.ToLower(rand.Text()[:16])
	run := func(statement string) error {
		ctx, cancel := context.WithTimeout(context.Background(), sqlPatience)
		defer cancel()
		db, err := open(base)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }() // nothing is pending
		_, err = db.ExecContext(ctx, fmt.Sprintf(statement, name))
		return err
	}
	if err := run("CREATE DATABASE %s"); err != nil {
		t.Fatalf("servers: create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := run(drop); err != nil {
			t.Errorf("servers: drop a database: %v", err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

func openPostgres(base string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(base)
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*cfg), nil
}

func openMySQL(base string) (*sql.DB, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.TLSConfig = "preferred"
	cfg.Logger = quiet{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// quiet drops what the driver logs: a server that is starting refuses connections.
type quiet struct{}

func (quiet) Print(...any) {}
