package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"
	bundialect "github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/schema"

	"github.com/parley-chat/parley/core/fault"
)

// dialect is everything in which the engines differ. Each has one, in a file of its own.
type dialect struct {
	// bun makes Bun's side of it.
	bun func() schema.Dialect
	// isolation is that of every transaction.
	isolation sql.IsolationLevel

	// translate makes a statement of the migrations the engine's.
	translate func(statement string) string
	// moreTables are statements of the first migration that only this engine needs.
	moreTables []string
	// lockRows are the statements that make the row that lockOutbox locks, where the first migration does not.
	lockRows []string
	// messageKey are the statements that add the foreign key of messages.
	messageKey []string
	// doneBefore recognises the error of a statement that cannot say IF NOT EXISTS.
	doneBefore func(err error) bool
	// tableExists counts the tables of the name that is its argument.
	tableExists string
	// transactionalDDL says that a transaction can undo a change of the schema.
	transactionalDDL bool
	// beginMigration lets only one process in, on a handle with a single connection.
	beginMigration func(ctx context.Context, one *sql.DB) error
	// commitMigration and undoMigration end it.
	commitMigration, undoMigration string
	// migrateAgain recognises the error of a migration that was undone for the sake of another one at the same time.
	migrateAgain func(err error) bool

	// placeholders makes the question marks of a text the engine's.
	placeholders func(text string) string
	// together is how many statements at a time answer what many callers ask: one where no network is waited for.
	together int
	// given is a table of so many rows, called given, that are the arguments.
	given func(columns []column, rows int) string
	// leaveMembers ends an insert of members that leaves those alone that exist. It returns memberFields of those that are new if addReturns says so.
	leaveMembers string
	addReturns   bool
	// find is what a select of so many rows of a table reads, which are called found: each by its key, through the index, in the order of what
	// is given, whatever the database thinks of the size of the table. The arguments are, for each row, all that is given, the key among it.
	// With lock, and lockEnd at the end of the select, others cannot change what is found until the transaction ends.
	find    func(table, index string, key, all []column, rows int, lock bool) string
	lockEnd string
	// byIndex is a table that a select is to read through an index.
	byIndex func(table, index string) string
	// findOne joins the row of a table that on says, or none, to each row before, through the index.
	findOne func(table, index, on string) string
	// moveRead sets how far so many members (read_seq, user_id, room) have read, if they exist. It locks them in the order given.
	moveRead func(rows int) string
	// greatest is the function of the greatest number. It may return NULL if one is NULL.
	greatest string
	// whole ends a select within another that is to be made once, and not as often as its columns are named.
	whole string
	// rows is n groups of k placeholders for a prepared statement.
	rows func(n, k int) string
	// reserve adds to the counters of so many rooms (room, count), creating them. It
	// returns id, room and the last number of each, unless reserved (room, …) does.
	reserve, reserved func(rooms int) string
	// lockCounters locks the counters of so many rooms (room, …) that exist, in ascending order, and returns id, room and rev of each.
	lockCounters func(rooms int) string
	// update sets columns of so many rows of a table that exist. The arguments are, for each row, its key and then the values.
	update func(table string, key, set []column, rows int) string
	// anyOf finds rows by so many keys, which are the arguments.
	anyOf func(key []column, rows int) string
	// deleteFrom begins the deletion of rows by parts of their primary key.
	deleteFrom func(table string) string
	// inOrder joins two tables so that the first is read first.
	inOrder string
	// once stores the new messages of a batch, numbers them and returns room and last number of each room, in one statement
	// that holds no lock while anybody waits for the program. Its arguments are arrays. onceMore has two more, for what few messages
	// have. Empty where there is none.
	once, onceMore string
	// putRestriction stores a restriction in the place of the one before, with a later time.
	putRestriction string
	// namedLike compares full_name with a pattern of startsWith whose letters A to Z are small.
	namedLike string
	// putSettings stores the settings of a user in the place of those before.
	putSettings string
	// claim makes the first claimable job of a table running until the given time and returns it, or sql.ErrNoRows.
	claim func(ctx context.Context, tx bun.Tx, table string, now, until int64) (jobRow, error)
	// insertNew makes an insert leave rows alone that exist. key is a column of the primary key.
	insertNew func(q *bun.InsertQuery, key string) *bun.InsertQuery
	// forUpdate keeps others from changing the rows that a select finds, until the transaction ends.
	forUpdate func(q *bun.SelectQuery) *bun.SelectQuery
	// lockForWrite keeps other writers out until the transaction ends, where rows cannot be locked.
	lockForWrite func(ctx context.Context, tx bun.Tx) error
	// lockOutbox keeps others from putting events until the transaction ends.
	lockOutbox func(ctx context.Context, tx bun.Tx) error

	// beat changes the row of parley_heartbeat, and makes it if there is none.
	beat string
	// pingTimeout is the default of how long that waits for its turn, and for a lock; 0 is as long as the caller waits.
	pingTimeout time.Duration

	// kind classifies an error of the driver: a unique violation is Conflict, any other
	// constraint Invalid.
	kind func(err error) fault.Kind
	// forbidden recognises that the user has no right to a statement.
	forbidden func(err error) bool
	// noTable recognises that a table is missing.
	noTable func(err error) bool
	// elsewhere recognises that the server is not, or no longer, the one to write to, and that the statement did nothing.
	elsewhere func(err error) bool
	// refused recognises that the server takes no writes, so that not even a statement that commits by itself did anything.
	refused func(err error) bool
	// again recognises that the engine gave a transaction up for another one's sake.
	again func(err error) bool
}

// dialectOf chooses by the handle's Bun dialect.
func dialectOf(db *bun.DB) (*dialect, error) {
	switch name := db.Dialect().Name(); name {
	case bundialect.SQLite:
		return sqliteDialect(), nil
	case bundialect.PG:
		return postgresDialect(), nil
	case bundialect.MySQL:
		return mysqlDialect(), nil
	default:
		return nil, fmt.Errorf("bunstore: the dialect %s is not supported; supported are %s, %s and %s",
			name, bundialect.SQLite, bundialect.PG, bundialect.MySQL)
	}
}

// beatOnConflict is beat where an insert can say what to do about a row that is there.
const beatOnConflict = "INSERT INTO parley_heartbeat AS h (id, beats) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET beats = h.beats + 1"

// questionMarks is n groups of k placeholders.
func questionMarks(n, k int) string {
	group := "(" + strings.TrimSuffix(strings.Repeat("?,", k), ",") + ")"
	return strings.TrimSuffix(strings.Repeat(group+",", n), ",")
}

// column is one of a table.
type column struct {
	name string
	text bool // it is a number otherwise
}

func columnNames(columns []column) []string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return all
}

// each writes format for every name, with a separator. format has the name as its first argument.
func each(names []string, format, separator string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = fmt.Sprintf(format, name)
	}
	return strings.Join(all, separator)
}

// anyOfTerms is anyOf where each term is a search of its own.
func anyOfTerms(key []column, rows int) string {
	term := "(" + each(columnNames(key), "%[1]s = ?", " AND ") + ") OR "
	return strings.TrimSuffix(strings.Repeat(term, rows), " OR ")
}

// moveOne is moveRead of one member.
const moveOne = "UPDATE parley_members SET read_seq = ? WHERE user_id = ? AND room = ?"

// returnNew ends an insert of members where the database can say which are new.
const returnNew = " ON CONFLICT DO NOTHING RETURNING " + memberFields

// addMembers inserts so many members (memberNew), who have read their rooms to the end, unless they exist or their room is closed. It takes
// no lock of a room: what a select reads is not locked, also in an insert, as transactions are READ COMMITTED.
func (d *dialect) addMembers(rows int) string {
	return "INSERT INTO parley_members (user_id, room, since, role, read_seq) SELECT given.user_id, given.room, given.since, given.role, " +
		"COALESCE((SELECT last FROM parley_room_seqs WHERE parley_room_seqs.room = given.room), 0) FROM " + d.given(memberNew, rows) +
		" WHERE COALESCE((SELECT " + roomOpen + " FROM parley_rooms WHERE parley_rooms.name = given.room), TRUE)" + d.leaveMembers
}

func asNamed(table, _ string) string { return table }

func deleteFrom(table string) string { return "DELETE FROM " + table }

// outboxRow locks the row that keeps those apart who put events.
const outboxRow = "FROM parley_locks WHERE name = 'outbox' FOR UPDATE"

// lockRow runs a select that locks one row until the transaction ends. A row that is not there is made first: nobody would wait
// for one that is missing.
func lockRow(ctx context.Context, tx bun.Tx, lock, add string) error {
	for attempt := 0; ; attempt++ {
		found, err := anyRow(ctx, tx, lock)
		if err != nil || found {
			return err
		}
		if attempt > 0 {
			return errors.New("bunstore: the row of parley_locks that orders the outbox cannot be made")
		}
		if _, err := tx.ExecContext(ctx, add); err != nil {
			return err
		}
	}
}

// anyRow reports whether a query finds a row.
func anyRow(ctx context.Context, tx bun.Tx, query string) (found bool, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	return rows.Next(), rows.Err()
}

// never recognises no error.
func never(error) bool { return false }

// nothing does nothing, where the engine needs no lock.
func nothing(context.Context, bun.Tx) error { return nil }

// begin is how a migration begins by one statement.
func begin(statement string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, one *sql.DB) error {
		_, err := one.ExecContext(ctx, statement)
		return err
	}
}

// claimBy claims with one statement that returns the row, and that has JOBS for the name of the table. Its arguments are now and the lease's end.
func claimBy(statement string) func(context.Context, bun.Tx, string, int64, int64) (jobRow, error) {
	statement += ` RETURNING position, id, job_key, kind, recipient, recipient_name, data, state, attempts, claims,
		run_at, leased_until, deferred_since, last_error, history, replays, created_at, updated_at`
	of := map[string]string{}
	for _, table := range []string{mailJobs, webhookJobs} {
		of[table] = strings.ReplaceAll(statement, "JOBS", table)
	}
	return func(ctx context.Context, tx bun.Tx, table string, now, until int64) (row jobRow, err error) {
		err = tx.NewRaw(of[table], now, until).Scan(ctx, &row)
		return row, err
	}
}

func sameStatement(q *bun.SelectQuery) *bun.SelectQuery { return q }

func onConflictDoNothing(q *bun.InsertQuery, _ string) *bun.InsertQuery {
	return q.On("CONFLICT DO NOTHING")
}
