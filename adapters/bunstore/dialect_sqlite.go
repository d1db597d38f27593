package bunstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/parley-chat/parley/core/fault"
)

func sqliteDialect() *dialect {
	return &dialect{
		bun: func() schema.Dialect { return sqlitedialect.New() },
		translate: strings.NewReplacer(
			"{position}", "integer PRIMARY KEY AUTOINCREMENT", // AUTOINCREMENT: a number is never given out again
			"{id}", "integer PRIMARY KEY",
			"{text}", "text",
			"{bytes}", "blob",
			"{data}", "text",
			"{summary}", "text",
			"{length}", "length",
			// The row is its primary key's entry: no second tree.
			" {clustered}", " WITHOUT ROWID",
			" {table}", "",
			"{is_open}", "",
			"{where_client_id}", "WHERE client_id IS NOT NULL",
			"{claimable}", "(state, position)",
			"{owners}", "(room) WHERE role = 'owner'",
			"ADD COLUMN IF NOT EXISTS", "ADD COLUMN", // see doneBefore
		).Replace,
		// A table of SQLite gets no new constraint, so it is made again.
		messageKey: []string{
			"CREATE TABLE parley_messages_tied (" + messageColumns + ",\n\t\t" + messageKey + "\n\t) {clustered}",
			"INSERT INTO parley_messages_tied SELECT * FROM parley_messages ORDER BY room_id, seq",
			"DROP TABLE parley_messages",
			"ALTER TABLE parley_messages_tied RENAME TO parley_messages",
			messageClients,
		},
		doneBefore: func(err error) bool {
			return sqliteCode(err) == sqlite3.SQLITE_ERROR && strings.Contains(err.Error(), "duplicate column name")
		},
		tableExists:      "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
		transactionalDDL: true,
		beginMigration:   begin("BEGIN IMMEDIATE"),
		commitMigration:  "COMMIT",
		undoMigration:    "ROLLBACK",
		migrateAgain:     never,
		placeholders:     asIs,
		together:         1,
		given:            sqliteGiven,
		leaveMembers:     returnNew,
		addReturns:       true,
		byIndex:          asNamed,
		find: func(table, _ string, key, all []column, rows int, _ bool) string {
			return sqliteGiven(all, rows) + " CROSS JOIN " + table + " AS found ON " + each(columnNames(key), "found.%[1]s = given.%[1]s", " AND ")
		},
		findOne: func(table, _, on string) string { return "LEFT JOIN " + table + " ON " + on },
		moveRead: func(rows int) string {
			if rows == 1 { // most who send do so alone
				return moveOne
			}
			return "UPDATE parley_members SET read_seq = given.column1 FROM (VALUES " + questionMarks(rows, 3) + ") AS given " +
				"WHERE parley_members.user_id = given.column2 AND parley_members.room = given.column3"
		},
		greatest: "MAX",
		whole:    "LIMIT -1",
		rows:     questionMarks,
		reserve: func(rooms int) string {
			return "INSERT INTO parley_room_seqs (room, last) VALUES " + questionMarks(rooms, 2) +
				" ON CONFLICT (room) DO UPDATE SET last = last + excluded.last RETURNING id, room, last"
		},
		// Whoever asks is the one writer already.
		lockCounters: func(rooms int) string {
			return "SELECT id, room, rev FROM parley_room_seqs WHERE room IN " + questionMarks(1, rooms)
		},
		update:         sqliteUpdate,
		anyOf:          anyOfTerms,
		deleteFrom:     deleteFrom,
		inOrder:        "CROSS JOIN",
		putRestriction: putRestrictionText("MAX"),
		putSettings:    putSettingsText,
		namedLike:      `full_name LIKE ? ESCAPE '!'`,
		// One branch a state, so that each reads its own part of the index (state, position) in order.
		claim: claimBy(`UPDATE JOBS
			SET state = 'running', attempts = attempts + 1, claims = claims + 1, updated_at = ?0, leased_until = ?1
			WHERE position = (SELECT MIN(position) FROM (
				SELECT * FROM (SELECT position FROM JOBS WHERE state = 'ready' AND run_at <= ?0 ORDER BY position LIMIT 1)
				UNION ALL
				SELECT * FROM (SELECT position FROM JOBS WHERE state = 'running' AND leased_until <= ?0 ORDER BY position LIMIT 1)))`),
		insertNew: onConflictDoNothing,
		forUpdate: sameStatement,
		// A deferred transaction becomes a writer with its first write, waiting for its turn.
		// If it read before, it could not: SQLITE_BUSY_SNAPSHOT.
		lockForWrite: func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "DELETE FROM parley_room_seqs WHERE 0")
			return err
		},
		lockOutbox: nothing, // there is one writer
		beat:       beatOnConflict,
		// There is no network in between.
		pingTimeout: DefaultPingTimeout,
		kind:        sqliteKind,
		forbidden:   never,
		noTable: func(err error) bool {
			return sqliteCode(err) == sqlite3.SQLITE_ERROR && strings.Contains(err.Error(), "no such table")
		},
		refused:   never,
		elsewhere: never,
		again:     never,
	}
}

// sqliteColumn is how SQLite names a column of VALUES, counted from 0.
func sqliteColumn(i int) string { return "column" + strconv.Itoa(i+1) }

func sqliteGiven(columns []column, rows int) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = sqliteColumn(i) + " AS " + c.name
	}
	return "(SELECT " + strings.Join(names, ", ") + " FROM (VALUES " + questionMarks(rows, len(columns)) + ")) AS given"
}

func sqliteUpdate(table string, key, set []column, rows int) string {
	given := map[string]string{}
	for i, c := range slices.Concat(key, set) {
		given[c.name] = "given." + sqliteColumn(i)
	}
	var sets, keys []string
	for _, c := range set {
		sets = append(sets, c.name+" = "+given[c.name])
	}
	for _, c := range key {
		keys = append(keys, table+"."+c.name+" = "+given[c.name])
	}
	return "UPDATE " + table + " SET " + strings.Join(sets, ", ") + " FROM (VALUES " + questionMarks(rows, len(given)) + ") AS given WHERE " + strings.Join(keys, " AND ")
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
