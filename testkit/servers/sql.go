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
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/testkit/local"
)

// The variables that name a server to use instead of starting one. Their user must be
// allowed to create databases.
const (
	PostgresVariable = "PARLEY_TEST_POSTGRES"
	MySQLVariable    = "PARLEY_TEST_MYSQL"
)

// sqlPatience bounds each statement of this package.
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
	return freshDatabase(t, base, local.OpenPostgres, `DROP DATABASE IF EXISTS %s WITH (FORCE)`)
}

// MySQL is like [Postgres], for MariaDB and MySQL, with PARLEY_TEST_MYSQL.
func MySQL(t testing.TB) string {
	t.Helper()
	base := os.Getenv(MySQLVariable)
	if base == "" {
		base = sharedSQL(t, &sharedMySQL)
	}
	return freshDatabase(t, base, local.OpenMySQL, `DROP DATABASE IF EXISTS %s`)
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

// SQLServer is a database server that belongs to one test.
type SQLServer struct {
	*Process
	*local.SQLServer
}

// sqlKind is one kind of server.
type sqlKind struct {
	name, variable string
	make           func(context.Context, local.SQLOptions) (*local.SQLServer, error)
}

var (
	postgres = sqlKind{"PostgreSQL", PostgresVariable, local.Postgres}
	mysql    = sqlKind{"MariaDB", MySQLVariable, local.MySQL}
)

// sharedServer is one for a whole test binary.
type sharedServer struct {
	kind sqlKind
	once sync.Once
	url  string
	err  error // why there is none
}

var (
	sharedPostgres = sharedServer{kind: postgres}
	sharedMySQL    = sharedServer{kind: mysql}
)

// sharedSQL returns the URL of the server, which the first caller starts.
func sharedSQL(t testing.TB, s *sharedServer) string {
	t.Helper()
	notShort(t)
	s.once.Do(func() {
		var server *local.SQLServer
		ctx := context.Background() // it is not t's alone
		if server, s.err = s.kind.make(ctx, local.SQLOptions{}); s.err == nil {
			s.url, s.err = server.URL, server.Start(ctx)
		}
	})
	s.kind.have(t, s.err)
	return s.url
}

// have ends t if there is no server.
func (k sqlKind) have(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, local.ErrMissing) {
		t.Skipf("%s: %v; set %s to the URL of a server", k.name, err, k.variable)
	}
	if err != nil {
		t.Fatalf("servers: start %s: %v", k.name, err)
	}
}

// StartPostgres starts a server for t alone and stops it when t ends. Where PostgreSQL is
// not installed, t is skipped.
func StartPostgres(t testing.TB) *SQLServer { t.Helper(); return postgres.start(t) }

// StartMySQL is like [StartPostgres], for MariaDB.
func StartMySQL(t testing.TB) *SQLServer { t.Helper(); return mysql.start(t) }

func (k sqlKind) start(t testing.TB) *SQLServer {
	t.Helper()
	notShort(t)
	s, err := k.make(t.Context(), local.SQLOptions{})
	k.have(t, err)
	return &SQLServer{Process: startFor(t, s.Process), SQLServer: s}
}
