package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/schema"

	"github.com/parley-chat/parley/core/fault"
)

// Numbers of errors, from the manuals of MySQL and MariaDB.
const (
	mysqlDuplicateKey     = 1062
	mysqlDuplicateColumn  = 1060
	mysqlDuplicateKeyName = 1061
	mysqlNoTable          = 1146
	mysqlDeadlock         = 1213
	mysqlRecordChanged    = 1020
	mysqlCannotCreate     = 1005
	mysqlDuplicateKeyOf   = 1826
)

// plainMySQL is what all versions of MySQL and MariaDB have in common. Bun would ask the
// server for its version, without a context, and print what it thinks about the answer.
type plainMySQL struct{ *mysqldialect.Dialect }

// Init asks nobody.
func (plainMySQL) Init(*sql.DB) {}

var lengthOf = regexp.MustCompile(`\{length\}\((\w+)\)`)

func mysqlDialect() *dialect {
	words := strings.NewReplacer(
		"{position}", "bigint NOT NULL AUTO_INCREMENT PRIMARY KEY",
		"{id}", "bigint NOT NULL AUTO_INCREMENT PRIMARY KEY",
		"{text}", "varchar(4000)",
		"{bytes}", "longblob",
		"{data}", "varbinary(4096)",
		"{summary}", "mediumblob",
		"{clustered}", "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
		"{table}", "ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
		"{where_client_id}", "", // NULLs are all different
		// For want of an index of a part of the rows.
		"{is_open}", ",\n\t\tis_open tinyint AS (state IN ('ready', 'running')) STORED",
		"{claimable}", "(is_open, position)",
		"{owners}", "(room, role)",
		"ADD COLUMN IF NOT EXISTS", "ADD COLUMN",
		"CREATE INDEX IF NOT EXISTS", "CREATE INDEX", // MySQL cannot say it: see doneBefore
		"CREATE UNIQUE INDEX IF NOT EXISTS", "CREATE UNIQUE INDEX",
	)
	return &dialect{
		bun: func() schema.Dialect { return plainMySQL{mysqldialect.New()} },
		// Every binary collation but the newest ignores spaces at the end, and MySQL and MariaDB
		// name theirs differently, so text is kept as bytes, four for a character.
		translate: func(statement string) string {
			statement = lengthOf.ReplaceAllString(words.Replace(statement), "char_length(CONVERT($1 USING utf8mb4))")
			return varchar.ReplaceAllStringFunc(statement, func(s string) string {
				n, _ := strconv.Atoi(varchar.FindStringSubmatch(s)[1]) // digits
				return "varbinary(" + strconv.Itoa(4*n) + ")"
			})
		},
		moreTables: []string{
			"CREATE TABLE IF NOT EXISTS parley_locks (name varchar(16) NOT NULL PRIMARY KEY) ENGINE=InnoDB",
			mysqlNewRow,
		},
		messageKey: []string{"ALTER TABLE parley_messages ADD " + messageKey},
		doneBefore: func(err error) bool {
			switch mysqlNumber(err) {
			case mysqlDuplicateColumn, mysqlDuplicateKeyName, mysqlDuplicateKeyOf:
				return true
			case mysqlCannotCreate: // MariaDB, of a foreign key that is there
				return strings.Contains(err.Error(), "errno: 121")
			}
			return false
		},
		tableExists: "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
		beginMigration: func(ctx context.Context, one *sql.DB) error {
			for { // in short waits, since a server does not notice that the client has gone
				var got sql.NullInt64
				if err := one.QueryRowContext(ctx, "SELECT GET_LOCK("+mysqlMigrationLock+", 1)").Scan(&got); err != nil {
					return err
				}
				if got.Int64 == 1 {
					return nil
				}
			}
		},
		commitMigration: "DO RELEASE_LOCK(" + mysqlMigrationLock + ")",
		undoMigration:   "DO RELEASE_LOCK(" + mysqlMigrationLock + ")",
		migrateAgain:    never,
		placeholders:    asIs,
		together:        4,
		given:           mysqlGiven,
		leaveMembers:    " ON DUPLICATE KEY UPDATE since = parley_members.since",
		byIndex:         func(table, index string) string { return table + " FORCE INDEX (" + index + ")" },
		find: func(table, index string, key, all []column, rows int, _ bool) string {
			return mysqlGiven(all, rows) + " STRAIGHT_JOIN " + table + " AS found FORCE INDEX (" + index + ") ON " +
				each(columnNames(key), "found.%[1]s = given.%[1]s", " AND ")
		},
		lockEnd: " FOR UPDATE",
		findOne: func(table, index, on string) string {
			return "LEFT JOIN " + table + " FORCE INDEX (" + index + ") ON " + on
		},
		moveRead: func(rows int) string {
			if rows == 1 { // most who send do so alone, and a table of what is given takes longer than all the rest
				return moveOne
			}
			return "UPDATE " + mysqlGiven(memberRead, rows) + " STRAIGHT_JOIN parley_members FORCE INDEX (PRIMARY) ON " +
				each(columnNames(memberKey), "parley_members.%[1]s = given.%[1]s", " AND ") + " SET parley_members.read_seq = given.read_seq"
		},
		greatest: "GREATEST",
		whole:    "LIMIT 18446744073709551615",
		rows:     questionMarks,
		// The counter's row stays locked until the commit.
		reserve: func(rooms int) string {
			return "INSERT INTO parley_room_seqs (room, last) VALUES " + questionMarks(rooms, 2) +
				" ON DUPLICATE KEY UPDATE last = last + VALUES(last)"
		},
		reserved: func(rooms int) string {
			return "SELECT id, room, last FROM parley_room_seqs WHERE room IN " + questionMarks(1, rooms)
		},
		// By the index of the rooms: whoever reads the whole table locks it in another order.
		lockCounters: func(rooms int) string {
			return "SELECT id, room, rev FROM parley_room_seqs FORCE INDEX (room) WHERE room IN " + questionMarks(1, rooms) + " ORDER BY room FOR UPDATE"
		},
		update: mysqlUpdate,
		anyOf:  anyOfTerms,
		deleteFrom: func(table string) string {
			return "DELETE " + table + " FROM " + table + " FORCE INDEX (PRIMARY)"
		},
		inOrder:        "STRAIGHT_JOIN",
		putRestriction: putRestrictionMySQL,
		putSettings:    putSettingsMySQL,
		namedLike:      `LOWER(CONVERT(full_name USING utf8mb4)) COLLATE utf8mb4_bin LIKE LOWER(CONVERT(? USING utf8mb4)) COLLATE utf8mb4_bin ESCAPE '!'`,
		claim:          mysqlClaim,
		// Not INSERT IGNORE, which also ignores what does not fit.
		insertNew: func(q *bun.InsertQuery, key string) *bun.InsertQuery {
			return q.On("DUPLICATE KEY UPDATE ?0 = ?0", bun.Ident(key))
		},
		forUpdate:    func(q *bun.SelectQuery) *bun.SelectQuery { return q.For("UPDATE") },
		lockForWrite: nothing,
		// Numbers are handed out before the commit, in any order.
		lockOutbox: func(ctx context.Context, tx bun.Tx) error {
			return lockRow(ctx, tx, "SELECT name "+outboxRow, mysqlNewRow)
		},
		beat:      "INSERT INTO parley_heartbeat (id, beats) VALUES (1, 1) ON DUPLICATE KEY UPDATE beats = beats + 1",
		kind:      mysqlKind,
		forbidden: func(err error) bool { return mysqlForbidden(mysqlNumber(err)) },
		noTable:   func(err error) bool { return mysqlNumber(err) == mysqlNoTable },
		refused: func(err error) bool {
			switch mysqlNumber(err) {
			case 1290, 1792, 1836: // read only: a replica
				return true
			}
			return false
		},
		elsewhere: func(err error) bool {
			switch mysqlNumber(err) {
			case 1290, 1792, 1836, // read only: a replica
				1053, 1927, // shutdown, killed
				1047: // a node of a Galera cluster that has lost the others
				return true
			}
			return false
		},
		again: func(err error) bool {
			n := mysqlNumber(err)
			return n == mysqlDeadlock || n == mysqlRecordChanged
		},
	}
}

// mysqlGiven is a table of rows that are given, for want of VALUES that all versions know.
func mysqlGiven(columns []column, rows int) string {
	first, values := make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		values[i] = "CAST(? AS SIGNED)"
		if c.text {
			values[i] = "CAST(? AS BINARY)"
		}
		first[i] = values[i] + " AS " + c.name
	}
	return "(SELECT " + strings.Join(first, ", ") + strings.Repeat(" UNION ALL SELECT "+strings.Join(values, ", "), rows-1) + ") AS given"
}

// mysqlUpdate is dialect.update. A small table would be read as a whole, and rows of others waited for.
func mysqlUpdate(table string, key, set []column, rows int) string {
	return "UPDATE " + mysqlGiven(slices.Concat(key, set), rows) + " STRAIGHT_JOIN " +
		table + " FORCE INDEX (PRIMARY) ON " + each(columnNames(key), table+".%[1]s = given.%[1]s", " AND ") + " SET " + each(columnNames(set), table+".%[1]s = given.%[1]s", ", ")
}

const mysqlNewRow = "INSERT INTO parley_locks (name) VALUES ('outbox') ON DUPLICATE KEY UPDATE name = name"

// mysqlMigrationLock names a lock of the session. Names are the whole server's and have at
// most 64 characters, as have names of databases.
const mysqlMigrationLock = "CONCAT('parley migrations ', MD5(DATABASE()))"

// mysqlClaim takes two statements, for want of RETURNING.
func mysqlClaim(ctx context.Context, tx bun.Tx, table string, now, until int64) (row jobRow, err error) {
	err = tx.NewSelect().Model(&row).ModelTableExpr(asRows, bun.Ident(table)).ForceIndex(table+"_claim").Where("is_open = 1").
		Where("state = 'ready' AND run_at <= ?0 OR state = 'running' AND leased_until <= ?0", now).
		OrderExpr("position").Limit(1).For("UPDATE SKIP LOCKED").Scan(ctx)
	if err != nil {
		return row, err
	}
	row.State, row.Attempts, row.Claims, row.UpdatedAt, row.LeasedUntil = "running", row.Attempts+1, row.Claims+1, now, &until
	_, err = tx.NewUpdate().Model(&row).ModelTableExpr(asRows, bun.Ident(table)).Column("state", "attempts", "claims", "updated_at", "leased_until").WherePK().Exec(ctx)
	return row, err
}

// mysqlForbidden reports whether a number says that the user has no right to a database, table or column.
func mysqlForbidden(number uint16) bool {
	return number == 1044 || number == 1142 || number == 1143
}

func mysqlKind(err error) fault.Kind {
	if errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, mysql.ErrMalformPkt) || errors.Is(err, mysql.ErrPktSync) {
		return fault.Unavailable
	}
	switch mysqlNumber(err) {
	case mysqlDuplicateKey:
		return fault.Conflict
	case 1048, 1264, 1366, 1406, 1451, 1452, 3819, 4025: // NULL, range, encoding, length; foreign keys; CHECK on MySQL and on MariaDB
		return fault.Invalid
	case mysqlDeadlock, mysqlRecordChanged,
		1021, 1114, // disk or table full
		1040, 1203, 1226, // too many connections
		1044, 1045, 1049, 1142, 1143, // what changed since opening
		1053, 1927, 1317, 3024, 1969, // shutdown, killed, interrupted, out of time
		1205,                               // a lock that was not to be had
		1290, 1792, 1836, 3100, 3101, 1047, // read only: a replica, or a node of a cluster that has lost the others
		4031, 1158, 1159, 1160, 1161: // ended for having been idle; what the network did
		return fault.Unavailable
	}
	return fault.Internal
}

// mysqlNumber is the server's error number, or 0.
func mysqlNumber(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}
