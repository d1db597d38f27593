package bunstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/uptrace/bun"
	bundialect "github.com/uptrace/bun/dialect"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/parley-chat/parley/core/fault"
)

// dialect is everything in which the engines differ.
type dialect struct {
	// types replaces the placeholders of the migrations.
	types *strings.Replacer
	// tableExists counts the tables of the name that is its argument.
	tableExists string
	// beginMigration opens the transaction in which migrations run; only one process gets in.
	beginMigration string
	// reserve adds to the counters of so many rooms (room, count), creating them, and
	// returns id, room and the last number of each.
	reserve func(rooms int) string
	// claim makes the first claimable job running and returns it. Arguments: now, lease end.
	claim string
	// insertNew makes an insert leave rows alone that exist.
	insertNew func(q *bun.InsertQuery) *bun.InsertQuery
	// lockForWrite keeps other writers out until the transaction ends.
	lockForWrite func(ctx context.Context, tx bun.Tx) error
	// kind classifies an error of the driver: a unique violation is Conflict, any other
	// constraint Invalid.
	kind func(err error) fault.Kind
}

// dialectOf chooses by the handle's Bun dialect.
func dialectOf(db *bun.DB) (*dialect, error) {
	if name := db.Dialect().Name(); name != bundialect.SQLite {
		return nil, fmt.Errorf("bunstore: the dialect %s is not supported; supported is %s", name, bundialect.SQLite)
	}
	return sqliteDialect(), nil
}

func sqliteDialect() *dialect {
	return &dialect{
		types: strings.NewReplacer(
			"{position}", "integer PRIMARY KEY AUTOINCREMENT", // AUTOINCREMENT: a number is never given out again
			"{id}", "integer PRIMARY KEY",
			"{bytes}", "blob",
			"{length}", "length",
			// The row is its primary key's entry: no second tree.
			"{clustered}", "WITHOUT ROWID",
			"{where_client_id}", "WHERE client_id IS NOT NULL",
		),
		tableExists:    "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
		beginMigration: "BEGIN IMMEDIATE",
		reserve: func(rooms int) string {
			return "INSERT INTO parley_room_seqs (room, last) VALUES " + rows(rooms, 2) +
				" ON CONFLICT (room) DO UPDATE SET last = last + excluded.last RETURNING id, room, last"
		},
		// One branch a state, so that each reads its own part of the index (state, position) in order.
		claim: `UPDATE parley_mail_jobs
			SET state = 'running', attempts = attempts + 1, claims = claims + 1, updated_at = ?0, leased_until = ?1
			WHERE position = (SELECT MIN(position) FROM (
				SELECT * FROM (SELECT position FROM parley_mail_jobs WHERE state = 'ready' AND run_at <= ?0 ORDER BY position LIMIT 1)
				UNION ALL
				SELECT * FROM (SELECT position FROM parley_mail_jobs WHERE state = 'running' AND leased_until <= ?0 ORDER BY position LIMIT 1)))
			RETURNING position, id, job_key, kind, recipient, recipient_name, data, state, attempts, claims,
				run_at, leased_until, last_error, created_at, updated_at`,
		insertNew: func(q *bun.InsertQuery) *bun.InsertQuery { return q.On("CONFLICT DO NOTHING") },
		// A deferred transaction becomes a writer with its first write, waiting for its turn.
		// If it read before, it could not: SQLITE_BUSY_SNAPSHOT.
		lockForWrite: func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM parley_room_seqs WHERE 0")
			return err
		},
		kind: sqliteKind,
	}
}

func sqliteKind(err error) fault.Kind {
	code := sqliteCode(err)
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return fault.Conflict
	}
	switch code & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH:
		return fault.Invalid
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL:
		return fault.Unavailable
	}
	return fault.Internal
}

// sqliteCode is the extended result code, or 0.
func sqliteCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// rows is n groups of k placeholders.
func rows(n, k int) string {
	group := "(" + strings.TrimSuffix(strings.Repeat("?,", k), ",") + ")"
	return strings.TrimSuffix(strings.Repeat(group+",", n), ",")
}
