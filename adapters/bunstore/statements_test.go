package bunstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
)

// counter is a connector that counts what its connections are asked to prepare and to run.
// Append's statements do not pass Bun's hooks, so the driver is the place to look.
type counter struct {
	dsn           string
	prepared, ran atomic.Int64
}

func (c *counter) Driver() driver.Driver { return new(sqlite.Driver) }

func (c *counter) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.Driver().Open(c.dsn)
	return countedConn{conn, c}, err
}

// countedConn hides the optional interfaces of the driver's connection, so that
// everything is prepared.
type countedConn struct {
	driver.Conn
	c *counter
}

func (c countedConn) Prepare(query string) (driver.Stmt, error) {
	c.c.prepared.Add(1)
	stmt, err := c.Conn.Prepare(query)
	return countedStmt{stmt, c.c}, err
}

type countedStmt struct {
	driver.Stmt
	c *counter
}

func (s countedStmt) Exec(args []driver.Value) (driver.Result, error) {
	s.c.ran.Add(1)
	return s.Stmt.Exec(args) //nolint:staticcheck // what database/sql calls where there is nothing newer
}

func (s countedStmt) Query(args []driver.Value) (driver.Rows, error) {
	s.c.ran.Add(1)
	return s.Stmt.Query(args) //nolint:staticcheck // as above
}

func TestAppendRunsFewStatements(t *testing.T) {
	t.Parallel()
	c := &counter{dsn: "file:" + filepath.Join(t.TempDir(), "parley.db") + "?_journal_mode=WAL"}
	db := sql.OpenDB(c)
	defer func() { assert.NoError(t, db.Close()) }()
	s, err := bunstore.New(bun.NewDB(db, sqlitedialect.New()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, s.Migrate(t.Context()))
	_, err = s.Messages().Append(t.Context(), messages("warm", 0, 1))
	require.NoError(t, err)

	spread := make([]chat.Message, 100)
	for i := range spread {
		spread[i] = message(string(rune('A'+i%26)), i)
	}
	for _, test := range []struct {
		name          string
		batch         []chat.Message
		ran, prepared int64
	}{
		{"one message", messages("one", 0, 1), 3, 0},                 // counter, message, mark of who sends
		{"a hundred", messages("hundred", 0, 100), 6, 0},             // counter, then 64+16+16+4, then the mark
		{"five hundred", messages("five hundred", 0, 500), 13, 0},    // counter, then 7×64+3×16+4, then the mark
		{"26 rooms", spread, 10, 0},                                  // counters 16+4+4+1+1, then as a hundred, with 26 marks
		{"a hundred repeats", messages("hundred", 0, 100), 2 + 2, 1}, // counter and the refused insert; counter and look-up
	} {
		ran, prepared := c.ran.Load(), c.prepared.Load()
		_, err := s.Messages().Append(t.Context(), test.batch)
		require.NoError(t, err)
		assert.Equal(t, test.ran, c.ran.Load()-ran, "%s: statements run", test.name)
		assert.Equal(t, test.prepared, c.prepared.Load()-prepared, "%s: statements parsed", test.name)
	}
}
