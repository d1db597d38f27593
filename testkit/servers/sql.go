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

// The drivers are those that a test which wants a database imports anyway: this package must not
// bring them to tests that want something else.
func openPostgres(base string) (*sql.DB, error) {
	return registered(sql.Open("pgx", base))("github.com/jackc/pgx/v5/stdlib")
}

func openMySQL(base string) (*sql.DB, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "3306")
	}
	password, _ := u.User.Password()
	dsn := fmt.Sprintf("%s:%s@tcp(%s)/%s?tls=preferred", u.User.Username(), password, address, strings.TrimPrefix(u.Path, "/"))
	return registered(sql.Open("mysql", dsn))("github.com/go-sql-driver/mysql")
}

// registered says what to import if a driver is missing.
func registered(db *sql.DB, err error) func(driver string) (*sql.DB, error) {
	return func(driver string) (*sql.DB, error) {
		if err != nil {
			return nil, fmt.Errorf("%w; import %s in the test", err, driver)
		}
		return db, nil
	}
}
