package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"

	"github.com/parley-chat/parley/core/fault"
)

// The tables of bun/migrate.
const (
	migrationsTable     = "parley_migrations"
	migrationLocksTable = "parley_migration_locks"
)

// Migrate brings the schema up to this program's version. Nothing happens when it is.
// Of several processes that start at once, one migrates and the others wait, on SQLite for
// at most the busy timeout. On PostgreSQL they wait for the row of bun/migrate's lock table, which one transaction adds and
// removes, and for an advisory lock, which older programs take as well; on MySQL for a lock of the session. On SQLite and PostgreSQL all pending migrations are one
// transaction: a crash leaves the schema as it was. On MySQL, where every statement commits
// by itself, it leaves some statements done, and the next call repeats them without harm.
// A user who may not change the schema can call it as long as there is nothing to do, and gets
// ErrSchemaOld otherwise. It returns ErrSchemaNew when a newer program has been here, and ErrMigrating when somebody
// else's lock is in the way.
func (s *Store) Migrate(ctx context.Context) error {
	pending, err := s.check(ctx)
	if !errors.Is(err, ErrSchemaOld) {
		return err
	}
	err = s.migrate(ctx, steps(s.db.dialect))
	if err != nil && s.db.dialect.forbidden(err) {
		return ErrSchemaOld.Detail("it lacks %s, and this user has no right to change it: run the command migrate as one who has", pending).Because(err)
	}
	return err
}

func (s *Store) migrate(ctx context.Context, steps []step) error {
	err := s.migrateOnce(ctx, steps)
	for n := 1; n < attempts && err != nil && !errors.Is(err, ErrMigrating) && s.db.dialect.migrateAgain(err) && pause(ctx, n); n++ {
		err = s.migrateOnce(ctx, steps)
	}
	return err
}

func (s *Store) migrateOnce(ctx context.Context, steps []step) error {
	return s.inMigration(ctx, "migrate", steps, func(ctx context.Context, m *migrate.Migrator) error {
		if err := m.Init(ctx); err != nil {
			return err
		}
		// Where a crash would leave the lock of bun/migrate behind, the one that inMigration took is enough. Elsewhere its
		// row is a lock until the transaction ends: others wait for it, and then find what this one did.
		locked := s.db.dialect.transactionalDDL
		if locked {
			if err := m.Lock(ctx); err != nil {
				if s.db.dialect.kind(err) == fault.Conflict {
					return ErrMigrating.Because(err)
				}
				return err
			}
		}
		if newer, err := m.MissingMigrations(ctx); err != nil {
			return err
		} else if len(newer) > 0 {
			return schemaNew(newer)
		}
		if _, err := m.Migrate(ctx); err != nil || !locked {
			return err
		}
		return m.Unlock(ctx)
	})
}

// Check returns nil if the schema is this program's, ErrSchemaOld if migrations are pending
// (all are, on an empty database), and ErrSchemaNew if it has some that this program does
// not know. It changes nothing.
func (s *Store) Check(ctx context.Context) error {
	_, err := s.check(ctx)
	return err
}

// check is Check, and names the migrations that are pending.
func (s *Store) check(ctx context.Context) (pending string, err error) {
	lacking, newer, err := s.compare(ctx)
	switch {
	case err != nil:
		return "", s.db.fail(ctx, "check schema", err)
	case len(newer) > 0:
		return "", schemaNew(newer)
	case len(lacking) > 0:
		pending = names(lacking)
		return pending, ErrSchemaOld.Detail("it lacks %s: run the command migrate, or call Store.Migrate", pending)
	}
	return "", nil
}

// Unlock removes a migration lock that was left behind. Call it only when no process is
// migrating. A crash leaves none; another program may.
func (s *Store) Unlock(ctx context.Context) error {
	return s.inMigration(ctx, "unlock migrations", steps(s.db.dialect), func(ctx context.Context, m *migrate.Migrator) error {
		if err := m.Init(ctx); err != nil {
			return err
		}
		return m.Unlock(ctx)
	})
}

// compare returns the migrations that the schema lacks, and those that the program does.
func (s *Store) compare(ctx context.Context) (pending, newer migrate.MigrationSlice, err error) {
	var tables int
	if err := s.db.read.NewRaw(s.db.dialect.tableExists, migrationsTable).Scan(ctx, &tables); err != nil {
		return nil, nil, err
	}
	known := migrations(s.db.dialect, steps(s.db.dialect))
	if tables == 0 {
		return known.Sorted(), nil, nil
	}
	m := migrator(s.db.read, known)
	if newer, err = m.MissingMigrations(ctx); err != nil {
		return nil, nil, err
	}
	all, err := m.MigrationsWithStatus(ctx)
	return all.Unapplied(), newer, err
}

func migrator(db *bun.DB, known *migrate.Migrations) *migrate.Migrator {
	return migrate.NewMigrator(db, known, migrate.WithTableName(migrationsTable),
		migrate.WithLocksTableName(migrationLocksTable), migrate.WithMarkAppliedOnSuccess(true))
}

func schemaNew(newer migrate.MigrationSlice) error {
	return ErrSchemaNew.Detail("it has %s; run a newer program", names(newer))
}

func names(ms migrate.MigrationSlice) string {
	all := make([]string, len(ms))
	for i, m := range ms {
		all[i] = m.Name
	}
	return strings.Join(all, ", ")
}

// inMigration runs do in one transaction, or under a lock where that cannot be. bun/migrate takes a whole handle, so it gets one
// with a single connection, on which the transaction was begun by hand.
func (s *Store) inMigration(ctx context.Context, op string, steps []step, do func(context.Context, *migrate.Migrator) error) error {
	conn, err := s.db.write.DB.Conn(ctx)
	if err != nil {
		return s.db.fail(ctx, op, err)
	}
	err = conn.Raw(func(raw any) (err error) {
		dc, ok := raw.(driver.Conn)
		if !ok {
			return fmt.Errorf("the driver's connection is a %T", raw)
		}
		one := sql.OpenDB(oneConn{borrowed{dc}, s.db.write.Driver()})
		one.SetMaxOpenConns(1)
		defer func() { err = errors.Join(err, one.Close()) }()

		if err := s.db.dialect.beginMigration(ctx, one); err != nil {
			return err
		}
		if err = do(ctx, migrator(bun.NewDB(one, s.db.dialect.bun()), migrations(s.db.dialect, steps))); err == nil {
			_, err = one.ExecContext(ctx, s.db.dialect.commitMigration)
		}
		if err != nil {
			if _, undo := one.ExecContext(context.WithoutCancel(ctx), s.db.dialect.undoMigration); undo != nil {
				// The pool must not hand out a connection inside a transaction.
				return errors.Join(err, undo, driver.ErrBadConn)
			}
		}
		return err
	})
	if closing := conn.Close(); closing != nil && !errors.Is(closing, sql.ErrConnDone) {
		err = errors.Join(err, closing)
	}
	return s.db.fail(ctx, op, err)
}

// oneConn is a connector for one connection that exists already.
type oneConn struct {
	conn   driver.Conn
	driver driver.Driver
}

func (c oneConn) Connect(context.Context) (driver.Conn, error) { return c.conn, nil }
func (c oneConn) Driver() driver.Driver                        { return c.driver }

// borrowed is a connection that stays open when its borrower is done.
type borrowed struct{ driver.Conn }

func (borrowed) Close() error { return nil }

// step is one migration.
type step struct {
	name, comment string
	statements    []string
}

// steps lists them all. A migration that was released is never edited: add one.
// Each statement can be repeated, for engines whose DDL is not transactional.
func steps(d *dialect) []step {
	return []step{
		{"0001", "first tables", append(firstTables(), d.moreTables...)},
		{"0002", "no message without its room's counter", d.messageKey},
		{"0003", "sign-ups that wait by themselves", signUpTables()},
		{"0004", "sessions that end together, and allowances", sessionMarks()},
		{"0005", "when a mail was first put off", []string{"ALTER TABLE parley_mail_jobs ADD COLUMN deferred_since bigint"}},
		{"0006", "events that can never be published", []string{asideTable}},
		{"0007", "a row that readiness writes to", []string{heartbeatTable}},
		{"0008", "a row that orders the outbox", d.lockRows},
		{"0009", "replies, and data of messages", messageMore},
		{"0010", "messages that change", messageChanges},
		{"0011", "how far members have read", readMarks},
		{"0012", "bans and mutes", restrictionTables},
		{"0013", "kinds of rooms, and roles of members", roomKinds},
		{"0015", "who has blocked whom", blockTables},
		{"0016", "deliveries of webhooks", webhookTables},
		{"0017", "what users have set for themselves", []string{settingsTable}},
		{"0018", "what became of the attempts of jobs", jobHistories},
		{"0019", "what sessions are recognised by", sessionSigns},
		{"0020", "roles of users, users who are disabled, and the audit log", administration},
		{"0021", "what users say of themselves, and addresses that they want to have", profiles},
		{"0022", "second factors, and sessions that were proven once more", secondFactors},
	}
}

// migrations is steps as bun/migrate wants them.
func migrations(d *dialect, steps []step) *migrate.Migrations {
	all := migrate.NewMigrations()
	for _, m := range steps {
		all.Add(migrate.Migration{
			Name: m.name, Comment: m.comment,
			Up: func(ctx context.Context, migrator *migrate.Migrator, _ *migrate.Migration) error {
				for _, statement := range m.statements {
					if _, err := migrator.DB().ExecContext(ctx, d.translate(statement)); err != nil && !d.doneBefore(err) {
						return err
					}
				}
				return nil
			},
		})
	}
	return all
}

// Bounds follow core's limits; identifiers and hashes, which core leaves open, have 128
// characters, names of events' keys and nonces 255.
func firstTables() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS parley_users (
		id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(id) BETWEEN 1 AND 128),
		full_name varchar(100) NOT NULL CHECK ({length}(full_name) BETWEEN 1 AND 100),
		email varchar(254) NOT NULL UNIQUE CHECK ({length}(email) BETWEEN 1 AND 254),
		password_hash varchar(512) NOT NULL CHECK ({length}(password_hash) <= 512),
		created_at bigint NOT NULL,
		verified_at bigint,
		password_changed_at bigint
	) {clustered}`,

		`CREATE TABLE IF NOT EXISTS parley_sessions (
		id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(id) BETWEEN 1 AND 128),
		user_id varchar(128) NOT NULL CHECK ({length}(user_id) <= 128),
		family_hash varchar(128) NOT NULL CHECK ({length}(family_hash) <= 128),
		token_hash varchar(128) NOT NULL CHECK ({length}(token_hash) <= 128),
		created_at bigint NOT NULL,
		rotated_at bigint,
		expires_at bigint NOT NULL,
		revoked_at bigint
	) {clustered}`,
		`CREATE INDEX IF NOT EXISTS parley_sessions_user ON parley_sessions (user_id, created_at)`,
		`CREATE INDEX IF NOT EXISTS parley_sessions_expiry ON parley_sessions (expires_at)`,

		`CREATE TABLE IF NOT EXISTS parley_codes (
		hash varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(hash) BETWEEN 1 AND 128),
		user_id varchar(128) NOT NULL CHECK ({length}(user_id) <= 128),
		created_at bigint NOT NULL,
		expires_at bigint NOT NULL,
		used_at bigint
	) {clustered}`,
		`CREATE INDEX IF NOT EXISTS parley_codes_expiry ON parley_codes (expires_at)`,

		`CREATE TABLE IF NOT EXISTS parley_nonces (
		name varchar(255) NOT NULL PRIMARY KEY CHECK ({length}(name) <= 255),
		expires_at bigint NOT NULL
	) {clustered}`,
		`CREATE INDEX IF NOT EXISTS parley_nonces_expiry ON parley_nonces (expires_at)`,

		`CREATE TABLE IF NOT EXISTS parley_rooms (
		name varchar(100) NOT NULL PRIMARY KEY CHECK ({length}(name) BETWEEN 1 AND 100),
		created_by varchar(128) NOT NULL CHECK ({length}(created_by) <= 128),
		created_at bigint NOT NULL
	) {clustered}`,

		`CREATE TABLE IF NOT EXISTS parley_members (
		user_id varchar(128) NOT NULL CHECK ({length}(user_id) <= 128),
		room varchar(100) NOT NULL CHECK ({length}(room) BETWEEN 1 AND 100),
		since bigint NOT NULL,
		PRIMARY KEY (user_id, room)
	) {clustered}`,

		`CREATE TABLE IF NOT EXISTS parley_room_seqs (
		id {id},
		room varchar(100) NOT NULL UNIQUE CHECK ({length}(room) BETWEEN 1 AND 100),
		last bigint NOT NULL CHECK (last >= 0)
	) {table}`,
		`CREATE TABLE IF NOT EXISTS parley_messages (` + messageColumns + `
	) {clustered}`,
		messageClients,

		`CREATE TABLE IF NOT EXISTS parley_outbox (
		position {position},
		id varchar(128) NOT NULL CHECK ({length}(id) BETWEEN 1 AND 128),
		topic varchar(128) NOT NULL CHECK ({length}(topic) <= 128),
		type varchar(128) NOT NULL CHECK ({length}(type) <= 128),
		event_key varchar(255) NOT NULL CHECK ({length}(event_key) <= 255),
		time bigint NOT NULL,
		data {bytes} NOT NULL
	) {table}`,
		`CREATE INDEX IF NOT EXISTS parley_outbox_id ON parley_outbox (id)`,

		`CREATE TABLE IF NOT EXISTS parley_mail_jobs (
		position {position},
		id varchar(128) NOT NULL UNIQUE CHECK ({length}(id) BETWEEN 1 AND 128),
		job_key varchar(255) NOT NULL UNIQUE CHECK ({length}(job_key) BETWEEN 1 AND 255),
		kind varchar(64) NOT NULL CHECK ({length}(kind) <= 64),
		recipient varchar(254) NOT NULL CHECK ({length}(recipient) <= 254),
		recipient_name varchar(100) NOT NULL CHECK ({length}(recipient_name) <= 100),
		data {bytes} NOT NULL,
		state varchar(16) NOT NULL CHECK (state IN ('ready', 'running', 'sent', 'dead')),
		attempts bigint NOT NULL CHECK (attempts >= 0),
		claims bigint NOT NULL CHECK (claims >= attempts),
		run_at bigint NOT NULL,
		leased_until bigint,
		last_error varchar(2000) NOT NULL CHECK ({length}(last_error) <= 2000),
		created_at bigint NOT NULL,
		updated_at bigint NOT NULL,
		CHECK ((state = 'running') = (leased_until IS NOT NULL)){is_open}
	) {table}`,
		`CREATE INDEX IF NOT EXISTS parley_mail_jobs_claim ON parley_mail_jobs {claimable}`,
		`CREATE INDEX IF NOT EXISTS parley_mail_jobs_list ON parley_mail_jobs (state, id)`,
		`CREATE INDEX IF NOT EXISTS parley_mail_jobs_recipient ON parley_mail_jobs (recipient, id)`,
		`CREATE INDEX IF NOT EXISTS parley_mail_jobs_settled ON parley_mail_jobs (state, updated_at)`,
	}
}

// sessionMarks adds what ends sessions together, what lets a refresh be repeated, what recognises a
// device, and the allowances. An older program may run beside: its rows get the defaults.
func sessionMarks() []string {
	return []string{
		`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS sessions_from bigint`,
		`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS kept_session varchar(128) NOT NULL DEFAULT '' CHECK ({length}(kept_session) <= 128)`,
		`ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS previous_hash varchar(128) NOT NULL DEFAULT '' CHECK ({length}(previous_hash) <= 128)`,
		`ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS rotation_key varchar(128) NOT NULL DEFAULT '' CHECK ({length}(rotation_key) <= 128)`,
		`ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS device_hash varchar(128) NOT NULL DEFAULT '' CHECK ({length}(device_hash) <= 128)`,
		`CREATE INDEX IF NOT EXISTS parley_sessions_living ON parley_sessions (user_id, revoked_at, created_at)`,
		`CREATE TABLE IF NOT EXISTS parley_limits (
		name varchar(64) NOT NULL PRIMARY KEY CHECK ({length}(name) <= 64),
		whole_at bigint NOT NULL
	) {clustered}`,
		`CREATE INDEX IF NOT EXISTS parley_limits_whole ON parley_limits (whole_at)`,
	}
}

// sessionSigns are what people recognise their sessions by. An older program that runs beside leaves them as they are, and its sessions have none.
var sessionSigns = []string{
	`ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS device varchar(64) NOT NULL DEFAULT '' CHECK ({length}(device) <= 64)`,
	`ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS network varchar(64) NOT NULL DEFAULT '' CHECK ({length}(network) <= 64)`,
	`ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS seen_at bigint`,
}

// signUpTables hold what waits for its confirmation. Several may have one address.
func signUpTables() []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS parley_sign_ups (
		id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(id) BETWEEN 1 AND 128),
		user_id varchar(128) NOT NULL CHECK ({length}(user_id) BETWEEN 1 AND 128),
		full_name varchar(100) NOT NULL CHECK ({length}(full_name) BETWEEN 1 AND 100),
		email varchar(254) NOT NULL CHECK ({length}(email) BETWEEN 1 AND 254),
		password_hash varchar(512) NOT NULL CHECK ({length}(password_hash) <= 512),
		network varchar(64) NOT NULL CHECK ({length}(network) <= 64),
		created_at bigint NOT NULL,
		expires_at bigint NOT NULL,
		confirmed_at bigint
	) {clustered}`,
		`CREATE INDEX IF NOT EXISTS parley_sign_ups_email ON parley_sign_ups (email, created_at)`,
		`CREATE INDEX IF NOT EXISTS parley_sign_ups_expiry ON parley_sign_ups (expires_at)`,
	}
}

// messageColumns are those of messages.
const messageColumns = `
		room_id bigint NOT NULL,
		seq bigint NOT NULL CHECK (seq >= 1),
		id varchar(128) NOT NULL CHECK ({length}(id) BETWEEN 1 AND 128),
		client_id varchar(64) CHECK ({length}(client_id) BETWEEN 1 AND 64),
		author_id varchar(128) NOT NULL CHECK ({length}(author_id) <= 128),
		author_name varchar(100) NOT NULL CHECK ({length}(author_name) <= 100),
		text {text} NOT NULL CHECK ({length}(text) BETWEEN 1 AND 4000),
		at bigint NOT NULL,
		PRIMARY KEY (room_id, seq)`

// messageClients keeps a client's own id once.
const messageClients = `CREATE UNIQUE INDEX IF NOT EXISTS parley_messages_client ON parley_messages (room_id, author_id, client_id) {where_client_id}`

// messageKey ties a message to the counter of its room: as long as there are messages, no
// counter can be lost and begin at 1 again.
const messageKey = `CONSTRAINT parley_messages_room FOREIGN KEY (room_id) REFERENCES parley_room_seqs (id)`

// messageMore are columns that few messages use. They come without a default and without a constraint, so that a table of any size
// has them at once; what goes into them, Append checks. An older program that runs beside names the columns that it fills, and those that it reads.
var messageMore = []string{
	"ALTER TABLE parley_messages ADD COLUMN IF NOT EXISTS reply_to bigint",
	"ALTER TABLE parley_messages ADD COLUMN IF NOT EXISTS data {data}",
}

// messageChanges is what changes leave. As messageMore, the columns cost nothing to add, and old messages have none of it. The numbers of
// changes have a table of their own, and not an index of the messages: to make one, a database would read them all, and keep writers out
// meanwhile, and MySQL would put every message into it. An older program that runs beside stores messages that were never changed, and
// sees a space for the text of a deleted one.
var messageChanges = []string{
	"ALTER TABLE parley_messages ADD COLUMN IF NOT EXISTS rev bigint",
	"ALTER TABLE parley_messages ADD COLUMN IF NOT EXISTS edited_at bigint",
	"ALTER TABLE parley_messages ADD COLUMN IF NOT EXISTS deleted_at bigint",
	"ALTER TABLE parley_messages ADD COLUMN IF NOT EXISTS reactions {summary}",
	"ALTER TABLE parley_room_seqs ADD COLUMN IF NOT EXISTS rev bigint NOT NULL DEFAULT 0",
	`CREATE TABLE IF NOT EXISTS parley_changes (
		room_id bigint NOT NULL,
		rev bigint NOT NULL CHECK (rev >= 1),
		seq bigint NOT NULL CHECK (seq >= 1),
		PRIMARY KEY (room_id, rev)
	) {clustered}`,
	`CREATE TABLE IF NOT EXISTS parley_reactions (
		room_id bigint NOT NULL,
		seq bigint NOT NULL CHECK (seq >= 1),
		reaction varchar(32) NOT NULL CHECK ({length}(reaction) BETWEEN 1 AND 32),
		user_id varchar(128) NOT NULL CHECK ({length}(user_id) <= 128),
		PRIMARY KEY (room_id, seq, reaction, user_id)
	) {clustered}`,
}

// readMarks is how far members have read, and what is deleted of what they have not. The column comes last, without a default and without a
// constraint, so that a table of any size has it at once and nobody waits for the rest. NULL is a membership of before, or of an older program
// that runs beside: it has read everything up to now, until its user joins again, marks or sends, and it counts from there. What was deleted
// before is found by the changes. An older program that runs beside notes no deletion here and moves nobody's mark: what is deleted through it
// counts as unread until it is read, and so does what is sent through it, also for the sender.
var readMarks = []string{
	`CREATE TABLE IF NOT EXISTS parley_deletions (
		room_id bigint NOT NULL,
		seq bigint NOT NULL CHECK (seq >= 1),
		PRIMARY KEY (room_id, seq)
	) {clustered}`,
	`INSERT INTO parley_deletions (room_id, seq)
		SELECT parley_changes.room_id, parley_changes.seq FROM parley_changes JOIN parley_messages
			ON parley_messages.room_id = parley_changes.room_id AND parley_messages.seq = parley_changes.seq
		WHERE parley_messages.deleted_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM parley_deletions AS known
			WHERE known.room_id = parley_changes.room_id AND known.seq = parley_changes.seq)`,
	"ALTER TABLE parley_members ADD COLUMN IF NOT EXISTS read_seq bigint",
}

// roomKinds is what rooms show of themselves, and what members may do. The columns come last, without a default and without a constraint; what goes
// into them, the program checks. A room without a kind is public, and a member without a role is a member: so are those of before, and those of an older
// program that runs beside, which lets everybody into every room. The indexes find the members of a room, and its owners; the first is made before the
// table is changed, since nobody but writers waits for it.
var roomKinds = []string{
	"CREATE INDEX IF NOT EXISTS parley_members_room ON parley_members (room, user_id)",
	"ALTER TABLE parley_members ADD COLUMN IF NOT EXISTS role varchar(16)",
	"CREATE INDEX IF NOT EXISTS parley_members_owner ON parley_members {owners}",
	"ALTER TABLE parley_rooms ADD COLUMN IF NOT EXISTS kind varchar(16)",
	"ALTER TABLE parley_rooms ADD COLUMN IF NOT EXISTS title varchar(100)",
	"ALTER TABLE parley_rooms ADD COLUMN IF NOT EXISTS topic varchar(500)",
	"ALTER TABLE parley_rooms ADD COLUMN IF NOT EXISTS data {data}",
	"ALTER TABLE parley_rooms ADD COLUMN IF NOT EXISTS retention bigint",
	"ALTER TABLE parley_rooms ADD COLUMN IF NOT EXISTS deleted_at bigint",
}

// heartbeatTable has one row.
const heartbeatTable = `CREATE TABLE IF NOT EXISTS parley_heartbeat (
		id bigint NOT NULL PRIMARY KEY CHECK (id = 1),
		beats bigint NOT NULL
	) {clustered}`

// asideTable holds what the relay has set aside. An older program does not know it, and does not see what is in it.
const asideTable = `CREATE TABLE IF NOT EXISTS parley_outbox_aside (
		id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(id) BETWEEN 1 AND 128),
		topic varchar(128) NOT NULL CHECK ({length}(topic) <= 128),
		type varchar(128) NOT NULL CHECK ({length}(type) <= 128),
		event_key varchar(255) NOT NULL CHECK ({length}(event_key) <= 255),
		time bigint NOT NULL,
		data {bytes} NOT NULL,
		reason varchar(1024) NOT NULL CHECK ({length}(reason) <= 1024)
	) {clustered}`

// webhookTables hold what waits to be delivered to the application's server, as parley_mail_jobs holds mails: recipient is whom or what a delivery is about, recipient_name
// the room. An older program does not know them, and takes no delivery for a mail.
var webhookTables = []string{
	`CREATE TABLE IF NOT EXISTS parley_webhook_jobs (
		position {position},
		id varchar(128) NOT NULL UNIQUE CHECK ({length}(id) BETWEEN 1 AND 128),
		job_key varchar(255) NOT NULL UNIQUE CHECK ({length}(job_key) BETWEEN 1 AND 255),
		kind varchar(64) NOT NULL CHECK ({length}(kind) <= 64),
		recipient varchar(254) NOT NULL CHECK ({length}(recipient) <= 254),
		recipient_name varchar(100) NOT NULL CHECK ({length}(recipient_name) <= 100),
		data {bytes} NOT NULL,
		state varchar(16) NOT NULL CHECK (state IN ('ready', 'running', 'sent', 'dead')),
		attempts bigint NOT NULL CHECK (attempts >= 0),
		claims bigint NOT NULL CHECK (claims >= attempts),
		run_at bigint NOT NULL,
		leased_until bigint,
		deferred_since bigint,
		last_error varchar(2000) NOT NULL CHECK ({length}(last_error) <= 2000),
		created_at bigint NOT NULL,
		updated_at bigint NOT NULL,
		CHECK ((state = 'running') = (leased_until IS NOT NULL)){is_open}
	) {table}`,
	`CREATE INDEX IF NOT EXISTS parley_webhook_jobs_claim ON parley_webhook_jobs {claimable}`,
	`CREATE INDEX IF NOT EXISTS parley_webhook_jobs_list ON parley_webhook_jobs (state, id)`,
	`CREATE INDEX IF NOT EXISTS parley_webhook_jobs_recipient ON parley_webhook_jobs (recipient, id)`,
	`CREATE INDEX IF NOT EXISTS parley_webhook_jobs_settled ON parley_webhook_jobs (state, updated_at)`,
}

// jobHistories are what is remembered of jobs. The columns come last, without a default and without a constraint. An older program that runs beside
// leaves them as they are: its attempts are not in the history, and its replays are not counted.
var jobHistories = []string{
	"ALTER TABLE parley_mail_jobs ADD COLUMN IF NOT EXISTS history {bytes}",
	"ALTER TABLE parley_mail_jobs ADD COLUMN IF NOT EXISTS replays bigint",
	"ALTER TABLE parley_webhook_jobs ADD COLUMN IF NOT EXISTS history {bytes}",
	"ALTER TABLE parley_webhook_jobs ADD COLUMN IF NOT EXISTS replays bigint",
}
