// Package bunstore implements every persistence port on SQL through Bun v1.3:
// user.Repository, auth.SignUps, auth.SessionStore, auth.Standings, auth.CodeStore, auth.FactorStore, auth.Nonces, auth.Limiter and auth.Sweeper,
// chat.MessageStore, chat.Recorder, chat.Pruner, chat.Rooms, chat.Members, chat.Marks, chat.Roles, chat.Restrictions, chat.Blocks and chat.Settings, event.Outbox, mail.Queue,
// mail.DeadLetters and mail.Stats. It runs on SQLite 3.35, PostgreSQL 11, MySQL 8.0.16 and
// MariaDB 10.6, or later. [OpenSQLite] uses modernc.org/sqlite v1.61, [OpenPostgres] pgx v5.12,
// [OpenMySQL] go-sql-driver/mysql v1.10, all of them pure Go. It is tested on PostgreSQL 15 and
// MariaDB 10.11.
//
// # Guarantees
//
//   - A call that returned nil has been committed. With [OpenSQLite] and its defaults the
//     commit was synced to the disk before (WAL, synchronous=FULL). With a server that is its
//     operator's choice: synchronous_commit, innodb_flush_log_at_trx_commit.
//   - A change and its events are one commit. A call whose context ended before the commit
//     stored nothing.
//   - Read-modify-write is serialised: a transaction that reads before it writes takes the
//     write lock first, also on a handle whose transactions begin deferred. On a server it
//     locks the row.
//   - Several processes may share one database, or one SQLite file on one machine, the mail
//     queue included. Sequences have no gaps, because a room's counter is locked until the
//     commit, the rooms of a batch in one order. Sending moves the sender's mark in the same commit. Members are locked in one order, after
//     rooms, and who holds one waits for no room. Events have their place in the order of
//     commits, because only one transaction at a time is between putting events and its end:
//     no event appears before one that Pending has returned. On servers it holds the row 'outbox' of parley_locks. On
//     PostgreSQL it also holds the advisory lock that is all that programs of before migration 0008 take, so that the order holds
//     among both while they run side by side. Servers of its protocol that have no advisory locks, or take them for nothing, need none.
//   - A transaction that a server gave up for another one's sake (a deadlock, a
//     serialization failure) begins again, at most ten times, after short random pauses.
//   - When a server says that it takes no writes, or ends a connection, all connections to it are closed. What it
//     refused begins again, once, on another connection, unless its commit was under way. No connection becomes older than
//     [Config] says.
//   - Changes of roles in a room come one after the other, because the row of the room is locked until the commit; the owners are counted under that lock.
//     Whether a room is closed to newcomers is asked by the statement that adds them, which waits for nobody.
//   - Changes of messages have their numbers in the order of commits in each room, because the room's counter is locked until the commit. A
//     batch is one transaction, also on PostgreSQL. So is a removal of old messages, which waits for the counter too.
//   - A process that freezes, or is lost with its machine, in the middle of a transaction holds up others for no longer than
//     [Config] says. With [OpenPostgres] new messages are stored outside of any, by one statement. On SQLite such a process holds others up until it ends.
//   - A call ends with its context, also when the server does not answer.
//   - With [OpenSQLite] an event that was published, and a mail that was sent or discarded, leave nothing in their rows and the
//     log after half a minute, unless somebody reads for longer. So does what an edit or a deletion has taken from a message, and a message that was removed. Copies of rows
//     that have moved are wiped from the free space of all pages by a pass after that, or when the file is opened again: about 50
//     seconds for each GiB, or twice that, in files of less than 128 GiB without auto_vacuum. Other engines delete rows, and keep their bytes
//     until they use the space again: PostgreSQL until a VACUUM and in its write-ahead log, InnoDB until a purge and in its redo and binary logs.
//   - Times keep their microseconds and come back in UTC; text is compared by its bytes.
//   - Errors have a kind of package fault. A driver's error is only ever the cause.
//
// # Exceptions
//
// One promise of a port is not kept in one moment, on servers: whoever sends a message to a room while another call of theirs makes them a member
// of it for the first time may find that message unread. To keep it, everybody who joins would have to wait for everybody who sends.
// A call whose commit was under way when the server was lost,
// or when its context ended, fails with kind Unavailable, and may have been stored. On a cluster
// of MySQL servers that all write, numbers do not ascend in the order of commits: give the
// programs one of them. On a MySQL handle that [New] was given, COMMIT and ROLLBACK are the
// driver's, which wait for a server that does not answer for as long as the handle's time-outs allow.
// CockroachDB and YugabyteDB, which speak PostgreSQL's protocol, have not been tested. Events keep their order there only where
// transactions are READ COMMITTED and a sequence hands out its numbers one at a time: YugabyteDB needs ysql_sequence_cache_minval=1.
//
// A program of before migration 0011 that runs beside moves no mark of those who send, and notes no deletion: what is sent through it is unread
// for its sender too, and what is deleted through it counts as unread until it is read. Memberships of such programs have read everything,
// until their users join, mark or send next, and it counts from there.
//
// Whoever joins a room in the moment in which it is made private or deleted may become a member of it just after that was stored, on servers: as if they had
// come just before. To keep them out, all newcomers would have to wait for the row of the room.
//
// A program of before migration 0012 that runs beside does not ask who is banned or muted. One of before 0013 lets
// everybody into every room, also into one that is private or deleted, and everybody write. One of before 0015 does not ask who has blocked whom. What is
// marked through one of before 0017 is told to everybody in the room, whatever the user has set. One of before 0022 asks nobody for a second factor.
//
// Besides: text that is not valid UTF-8 or has a NUL
// character, and text above a column's bound, is refused with kind Invalid, because not
// every engine can keep it. LastError of a mail job is cut at 2,000 characters.
// Messages, memberships and spent tickets are inserted, messages are changed, marks are moved, and what a connection, a join or a request reads is read, by
// prepared statements that Bun's query hooks do not see. Each is parsed once a connection; a connection keeps at most 64 for reading
// and 64 for writing, beside those of messages and marks.
//
// # Schema
//
// Tables carry the prefix parley_, so that they can live beside others. Times are
// microseconds since 1970 in UTC; NULL is "not yet".
//
//	users         id | full_name, email unique, password_hash, created_at, verified_at, password_changed_at,
//	              sessions_from, kept_session, role, disabled_at
//	sign_ups      id | user_id, full_name, email, password_hash, network, created_at, expires_at, confirmed_at
//	sessions      id | user_id, family_hash, token_hash, created_at, rotated_at, expires_at, revoked_at,
//	              previous_hash, rotation_key, device_hash, device, network, seen_at: NULL unless noted between refreshes
//	codes         hash | user_id, created_at, expires_at, used_at
//	nonces        name | expires_at
//	limits        name: the hash of a key | whole_at: when its allowance is whole again
//	rooms         name | created_by, created_at, kind: NULL if it is public, title, topic, data, retention: in seconds, deleted_at
//	members       user_id, room | since, read_seq: how far the member has read, NULL as long as nobody knows, role: NULL is a member
//	room_seqs     id | room unique, last: the highest sequence number given out, rev: the highest number of a change
//	messages      room_id (of room_seqs), seq | id, client_id, author_id, author_name, text, at, reply_to, data,
//	              rev: of its last change, edited_at, deleted_at, reactions: JSON of key k, count n and the users u that a reading names;
//	              unique (room_id, author_id, client_id), NULL where there is no client id. The text of a deleted one is a space
//	changes       room_id, rev | seq: the message whose last change that is; on SQLite a row of the room 0, once messages were removed by age
//	deletions     room_id, seq: the messages that are deleted
//	reactions     room_id, seq, reaction, user_id
//	restrictions  room, user_id, kind | by_id, reason, at, until: the greatest number if it never ends
//	blocks        by_id, whom_id | at
//	audit         id | at, actor, action, target, detail, network, outcome
//	settings      user_id | hides_read: 1 if nobody else is told how far the user has read, or 0
//	outbox        position | id, topic, type, event_key, time, data; ascending in commit order
//	mail_jobs     position | id unique, job_key unique, kind, recipient, recipient_name, data, state,
//	              attempts, claims, run_at, leased_until, deferred_since, last_error, history, replays, created_at, updated_at
//	migrations, migration_locks: what bun/migrate keeps
//	locks         name; on servers only: a row to lock while events are put
//	heartbeat     id: 1 | beats: how often Ping wrote
//
// The bar ends the primary key. Bounds and states are held by CHECK constraints, except for the columns that messages, members and rooms got from migration 0009 on, which the program checks. Text has the
// collation C on PostgreSQL; on MySQL it is UTF-8 in varbinary columns. [Store.Migrate] creates and
// upgrades the schema, [Store.Check] compares it with the program. A message's room_id is a foreign
// key: no counter can be lost while there are messages, and begin at 1 again. Nothing else is one:
// the ports take sessions, codes and memberships of users and rooms that another store may hold. Whoever deletes messages, or a
// room's counter, by other means deletes their rows in changes, deletions and reactions as well.
// On a SQLite handle that [New] was given, foreign keys hold where the pragma foreign_keys is set.
//
// A user without the right to change the schema can use one that is current: SELECT, INSERT, UPDATE
// and DELETE on the tables is enough.
//
// # Closing
//
// What OpenSQLite, OpenPostgres and OpenMySQL opened, [Store.Close] closes, once nobody uses
// the store any more. On SQLite it folds the write-ahead log into the file. A store that [New] made leaves its handle
// open. Closing twice is harmless. Calls after closing fail with kind Unavailable.
package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// Store is a database that holds Parley's tables. Its methods, and those of the ports that
// it hands out, may be called from many goroutines.
type Store struct {
	db   *database
	own  []*sql.DB // closed by Close, in this order
	once sync.Once
	err  error // of the first Close
}

// New makes a store on db, whose pool, driver and hooks stay the caller's. The dialect of
// db must be one of SQLite, PostgreSQL and MySQL. New does not touch the database.
//
// On SQLite the caller sets the pragmas; journal_mode=WAL, synchronous=FULL and a
// busy_timeout are advised. On PostgreSQL with pgx, default_query_exec_mode=simple_protocol
// saves a round trip for most calls. On MySQL, READ COMMITTED and a strict sql_mode without
// NO_BACKSLASH_ESCAPES are advised, and clientFoundRows is off: what it counts has not become another. See [OpenSQLite], [OpenPostgres] and [OpenMySQL] for stores that
// are set up already.
func New(db *bun.DB) (*Store, error) {
	if db == nil {
		return nil, errors.New("bunstore: the database handle is missing")
	}
	return newStore(db, db)
}

// newStore takes the handle for writing and the one for reading, which may be the same.
func newStore(write, read *bun.DB) (*Store, error) {
	d, err := dialectOf(write)
	if err != nil {
		return nil, err
	}
	s := &Store{db: &database{
		write: write, read: read, dialect: d, reads: newKept(read, d), writes: newKept(write, d), statements: newStatements(prepare), changing: newStatements(prepareChanges), marking: newStatements(prepareMarks), pingTimeout: d.pingTimeout,
		mine: d.mine(), bounds: d.bounds(), membersOf: d.membersOf(), lockRoles: d.lockRoles(), readMembers: map[int]string{}, roles: map[int]string{}, inForce: map[int]string{}, blocks: map[int]string{}, settings: map[int]string{},
	}}
	for _, n := range memberSizes {
		s.db.readMembers[n] = d.readMembers(n)
		s.db.roles[n] = d.rolesOf(n)
		s.db.inForce[n] = d.restrictionsInForce(n)
		s.db.blocks[n] = d.blocksAmong(n)
		s.db.settings[n] = d.settingsOf(n)
	}
	s.db.standings = gather[string, auth.Standing]{most: standingSizes[0], workers: d.together, read: s.db.readStandings}
	return s, nil
}

// Ports returns every port that the store keeps. The others are nil: see [parley.Ports.With].
func (s *Store) Ports() parley.Ports {
	queue, hooks, sessions, members := s.MailQueue(), s.WebhookQueue(), s.Sessions(), s.Members()
	return parley.Ports{
		Users: s.Users(), Sessions: sessions, Standings: sessions, Codes: s.Codes(), SignUps: s.SignUps(), Nonces: s.Nonces(), Limiter: s.Limiter(),
		Outbox: s.Outbox(), Asides: s.Asides(), MailQueue: queue, DeadLetters: queue, MailStats: queue,
		WebhookQueue: hooks, WebhookLetters: hooks, WebhookStats: hooks,
		Messages: s.Messages(), Pruner: s.Messages(), Rooms: s.Rooms(), Members: members, Marks: members, Roles: s.Roles(), Restrictions: s.Restrictions(), Blocks: s.Blocks(), Settings: s.Settings(),
		Directory: s.Directory(), Audit: s.AuditLog(), Factors: s.Factors(),
	}
}

// Users returns the users of the store.
func (s *Store) Users() *Users { return &Users{s.db} }

// Sessions returns the sessions of the store.
func (s *Store) Sessions() *Sessions { return &Sessions{s.db} }

// Codes returns the one-time codes of the store.
func (s *Store) Codes() *Codes { return &Codes{s.db} }

// Factors returns the second factors of users.
func (s *Store) Factors() *Factors { return &Factors{s.db} }

// SignUps returns the sign-ups that wait.
func (s *Store) SignUps() *SignUps { return &SignUps{s.db} }

// Nonces returns the names that were spent.
func (s *Store) Nonces() *Nonces { return &Nonces{s.db} }

// Limiter returns the allowances of the store.
func (s *Store) Limiter() *Limiter { return &Limiter{s.db} }

// Messages returns the messages of the store.
func (s *Store) Messages() *Messages { return &Messages{db: s.db} }

// Rooms returns the rooms of the store.
func (s *Store) Rooms() *Rooms { return &Rooms{db: s.db} }

// Members returns the memberships of the store, and how far members have read.
func (s *Store) Members() *Members { return &Members{db: s.db} }

// Roles returns what members are in the rooms of the store.
func (s *Store) Roles() *Roles { return &Roles{db: s.db} }

// Restrictions returns the bans and mutes of the store.
func (s *Store) Restrictions() *Restrictions { return &Restrictions{s.db} }

// Blocks returns who has blocked whom.
func (s *Store) Blocks() *Blocks { return &Blocks{s.db} }

// Directory lists the users of the store.
func (s *Store) Directory() *Directory { return &Directory{s.db} }

// AuditLog returns what administrators have done.
func (s *Store) AuditLog() *AuditLog { return &AuditLog{s.db} }

// Settings returns what users have set for themselves.
func (s *Store) Settings() *Settings { return &Settings{s.db} }

// Asides returns the events that were set aside.
func (s *Store) Asides() *Asides { return &Asides{s.db} }

// Outbox returns the events that wait for the bus.
func (s *Store) Outbox() *Outbox { return &Outbox{s.db} }

// MailQueue returns the mail jobs of the store.
func (s *Store) MailQueue() *MailQueue { return &MailQueue{s.db, mailJobs} }

// WebhookQueue returns the deliveries of webhooks of the store.
func (s *Store) WebhookQueue() *MailQueue { return &MailQueue{s.db, webhookJobs} }

// Ping reports whether the database takes writes, for readiness checks: it commits a change of a row that is there for
// nothing else. So a server that is read-only or stops, a full disk, and a file that another process keeps locked are
// found. It waits until ctx is done, and on SQLite for its turn and for a lock at most for SQLiteConfig.PingTimeout each, 400
// milliseconds where [New] got the handle. A store that is so busy that the row waits for its turn takes writes: other commits meanwhile
// count. Each call is a commit: let it be asked no oftener than is of use.
func (s *Store) Ping(ctx context.Context) error {
	if s.db.pingTimeout > 0 {
		return s.db.fail(ctx, "ping", s.db.beatSoon(ctx))
	}
	// One statement: who freezes here holds no lock.
	_, err := s.db.write.ExecContext(ctx, s.db.dialect.beat)
	if err != nil && s.db.dialect.elsewhere(err) {
		s.db.pool.leave()
		_, err = s.db.write.ExecContext(ctx, s.db.dialect.beat)
	}
	return s.db.fail(ctx, "ping", err)
}

// Close gives up the prepared statements and closes what the store has opened. It waits for
// calls under way.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.db.scrub.close()
		errs := []error{s.db.statements.close(), s.db.changing.close(), s.db.marking.close(), s.db.reads.close(), s.db.writes.close()}
		for _, db := range s.own {
			errs = append(errs, db.Close())
		}
		s.err = errors.Join(errs...)
	})
	return s.err
}

// database is what every port shares.
type database struct {
	write, read *bun.DB
	dialect     *dialect
	reads       *kept // of read
	writes      *kept // of write
	standings   gather[string, auth.Standing]
	statements  *statements[*prepared]        // of Append
	changing    *statements[*preparedChanges] // of Change
	marking     *statements[*preparedMarks]   // of Mark
	mine        string                        // the text that Mine reads by
	bounds      string                        // likewise of Bounds
	membersOf   string                        // the text that Roles.List reads by
	lockRoles   string                        // the text that Roles.Change locks members by
	inForce     map[int]string                // those that Restrictions.InForce reads by, likewise
	blocks      map[int]string                // those that Blocks.Among reads by, likewise
	settings    map[int]string                // those that Settings.Of reads by, likewise
	readMembers map[int]string                // those that Add reads by, for each of memberSizes
	roles       map[int]string                // those that Roles.Of reads by, likewise
	pool        *pool                         // nil if the handle is the caller's, and on SQLite
	scrub       *scrubber                     // nil but on SQLite, if the handle is our own
	pingTimeout time.Duration                 // 0 but on SQLite
	commits     atomic.Uint64                 // that this store has made
}

// verbatim carries an error through a transaction that the caller gets as it is.
type verbatim struct{ error }

// attempts bounds how often a transaction begins again that the engine gave up for another
// one's sake. With locks taken in a fixed order even a second time is rare.
const attempts = 10

// transact runs do in one transaction and classifies its error. do gets no other handle:
// the one for writing may have a single connection. It may run several times, each time
// after everything was undone.
func (d *database) transact(ctx context.Context, op string, do func(ctx context.Context, tx bun.Tx) error) error {
	options := &sql.TxOptions{Isolation: d.dialect.isolation}
	committing := false
	attempt := func() error {
		committing = false
		return d.write.RunInTx(ctx, options, func(ctx context.Context, tx bun.Tx) error {
			err := do(ctx, tx)
			committing = err == nil
			return err
		})
	}
	err := attempt()
	for n := 1; n < attempts && err != nil && d.dialect.again(err) && pause(ctx, n); n++ {
		err = attempt()
	}
	if err != nil && !committing && d.dialect.elsewhere(err) {
		d.pool.leave() // nothing was done, and another connection may lead to the right server
		err = attempt()
	}
	if v, ok := errors.AsType[verbatim](err); ok {
		return v.error
	}
	if err == nil {
		d.commits.Add(1)
	}
	return d.fail(ctx, op, err)
}

// single runs do, which is one statement that commits by itself, and classifies its error. It may run several times.
func (d *database) single(ctx context.Context, op string, do func(ctx context.Context) error) error {
	err := do(ctx)
	for n := 1; n < attempts && err != nil && d.dialect.again(err) && pause(ctx, n); n++ {
		err = do(ctx)
	}
	if err != nil && d.dialect.refused(err) {
		d.pool.leave()
		err = do(ctx)
	}
	if err == nil {
		d.commits.Add(1)
	}
	return d.fail(ctx, op, err)
}

// pause waits a while that is longer for every attempt, and no other transaction's, and
// reports whether it may go on.
func pause(ctx context.Context, attempt int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rand.N(time.Duration(attempt) * 4 * time.Millisecond)):
		return true
	}
}

// transactLocked is transact for transactions that read before they write.
func (d *database) transactLocked(ctx context.Context, op string, do func(ctx context.Context, tx bun.Tx) error) error {
	return d.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		if err := d.dialect.lockForWrite(ctx, tx); err != nil {
			return err
		}
		return do(ctx, tx)
	})
}

// fail translates an error of the driver, or of database/sql, once. Errors that have a
// kind already stay what they are.
func (d *database) fail(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if d.dialect.elsewhere(err) {
		d.pool.leave()
	}
	if d.dialect.noTable(err) {
		return ErrSchemaOld.Because(fmt.Errorf("bunstore: %s: %w", op, err))
	}
	kind := d.dialect.kind(err)
	if ctxErr := ctx.Err(); ctxErr != nil {
		kind = fault.Unavailable
		if !errors.Is(err, ctxErr) {
			err = fmt.Errorf("%w: %w", ctxErr, err)
		}
	}
	if unavailable(err) {
		kind = fault.Unavailable
	}
	if strings.Contains(err.Error(), "\n") {
		err = oneLine{err}
	}
	return fault.Wrap(kind, fmt.Errorf("bunstore: %s: %w", op, err))
}

// found turns the absence of a row into missing, and classifies other errors.
func (d *database) found(ctx context.Context, op string, err error, missing error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return d.fail(ctx, op, err)
}

// sweepBatch is how many rows one transaction deletes: sends wait for it.
const sweepBatch = 1000

// sweep deletes rows that match where (a condition with arguments) by their primary key,
// a batch a transaction, and returns how many there were.
func (d *database) sweep(ctx context.Context, op, table, key, where string, args ...any) (int, error) {
	total := 0
	for {
		var keys []string
		err := d.read.NewSelect().Table(table).Column(key).Where(where, args...).Limit(sweepBatch).Scan(ctx, &keys)
		if err != nil {
			return total, d.fail(ctx, op, err)
		}
		if len(keys) == 0 {
			return total, nil
		}
		var n int64
		err = d.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
			res, err := tx.NewDelete().Table(table).Where("? IN (?)", bun.Ident(key), bun.List(keys)).Where(where, args...).Exec(ctx)
			if err != nil {
				return err
			}
			n, err = res.RowsAffected()
			return err
		})
		if err != nil {
			return total, err
		}
		total += int(n)
		d.scrub.due()
		if len(keys) < sweepBatch {
			return total, nil
		}
	}
}

// sweepOf is sweep for what is of one user. What it has removed is wiped.
func (d *database) sweepOf(ctx context.Context, op, table, key string, id user.ID) (int, error) {
	if !storable(string(id)) {
		return 0, nil
	}
	defer d.scrub.dueWiping()
	return d.sweep(ctx, op, table, key, "user_id = ?", string(id))
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }

// optionalMicros is NULL for the zero time, which means "not yet".
func optionalMicros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	us := t.UnixMicro()
	return &us
}

func optionalInstant(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return instant(*us)
}
