package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// SQLiteConfig is how a file is used. Its zero value is a good choice.
type SQLiteConfig struct {
	// BusyTimeout is how long a call waits for a lock that another process holds, unless
	// its context ends before. Default 5 seconds, at least a millisecond.
	BusyTimeout time.Duration
	// PingTimeout is how long [Store.Ping] waits for its turn to write, and then for a lock that another process
	// holds. A file that is locked for longer takes no writes. Default 400 milliseconds, at least a millisecond.
	PingTimeout time.Duration
	// Readers is how many connections read at once, beside the one that writes. Default 4.
	Readers int
	// RelaxedSync does without a sync at each commit (synchronous=NORMAL). Commits then
	// survive the end of the process, but the last ones may not survive a loss of power.
	RelaxedSync bool
	// ScrubAfter is how long what was deleted or overwritten in the outbox, among the mails, which hold codes, or among the messages may
	// remain in the log of writes: then the log is folded into the file, where deleted bytes are zeros, and cut off. Somebody who
	// reads for longer delays it. After changes of messages all pages are read then, with a tenth of a core, to empty their free space. Default 20 seconds, at least a millisecond.
	ScrubAfter time.Duration
}

// DefaultPingTimeout is the default of SQLiteConfig.PingTimeout.
const DefaultPingTimeout = 400 * time.Millisecond

func (c SQLiteConfig) withDefaults() (SQLiteConfig, error) {
	check := settings.Of("bunstore: SQLiteConfig")
	setTime(check, "BusyTimeout", &c.BusyTimeout, 5*time.Second, time.Millisecond)
	setTime(check, "PingTimeout", &c.PingTimeout, DefaultPingTimeout, time.Millisecond)
	settings.Default(check, "Readers", &c.Readers, 4)
	setTime(check, "ScrubAfter", &c.ScrubAfter, 20*time.Second, time.Millisecond)
	return c, check.Err()
}

// setTime gives a field its default if it is zero, and refuses it if it is shorter than least.
func setTime(c *settings.Check, field string, value *time.Duration, byDefault, least time.Duration) {
	settings.Default(c, field, value, byDefault)
	if *value > 0 && *value < least {
		c.Refuse(field, "%v is shorter than %v", *value, least)
	}
}

// wholeCheck is the largest file that is read from end to end when it is opened, in bytes.
// It is a matter of a tenth of a second.
const wholeCheck = 8 << 20

// smallest is the size of the smallest page, and so of the smallest database, in bytes.
const smallest = 512

// OpenSQLite opens the database in file, and creates it if there is none; its folder must
// exist. The caller closes the store. The schema is not touched: see [Store.Migrate].
//
// There is one connection that writes, with WAL and synchronous=FULL, and a pool of
// connections that read. Opening fails with ErrDamaged if the file is no database, is
// shorter than it should be, or, up to 8 MiB, damaged anywhere; with ErrLocked if
// another process keeps it to itself for longer than the busy timeout; with ErrNotWritable;
// and with ErrSchemaNew if a newer program has migrated it. It waits until ctx is done.
func OpenSQLite(ctx context.Context, file string, cfg SQLiteConfig) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if file == "" {
		return nil, errors.New("bunstore: the name of the database file is missing")
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("bunstore: %w", err)
	}
	size, err := touch(path)
	if err != nil {
		return nil, ErrNotWritable.Detail("%s", path).Because(err)
	}
	if size > 0 && size < smallest {
		// SQLite would take it for an empty file, and overwrite it.
		return nil, ErrDamaged.Detail("%s", path).Because(fmt.Errorf("it has %d bytes", size))
	}

	write, err := sql.Open("sqlite", cfg.dsn(path, "&_txlock=immediate"))
	if err != nil {
		return nil, fmt.Errorf("bunstore: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", cfg.dsn(path, "&_query_only=1"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bunstore: %w", err), write.Close())
	}
	read.SetMaxOpenConns(cfg.Readers)
	read.SetMaxIdleConns(cfg.Readers)

	s, err := newStore(bun.NewDB(write, sqlitedialect.New()), bun.NewDB(read, sqlitedialect.New()))
	if err == nil {
		s.own = []*sql.DB{read, write} // the writer last: the last connection folds the log into the file
		s.db.scrub, s.db.pingTimeout = newScrubber(write, read, cfg), cfg.PingTimeout
		if err = inspect(ctx, write, cfg.BusyTimeout, size <= wholeCheck); err != nil {
			err = opened(ctx, path, err)
		} else if err = s.Check(ctx); err == nil {
			err = s.wipeAgain(ctx)
		} else if errors.Is(err, ErrSchemaOld) {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, read.Close(), write.Close())
	}
	return s, nil
}

// touch creates the file unless it exists, readable by its owner only, for it holds hashes
// and mails, and returns its size. It finds out what SQLite would say less well.
func touch(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.EINVAL}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// dsn names the file and what every connection is told, in the driver's terms.
func (c SQLiteConfig) dsn(path, more string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter
	}
	sync := "FULL"
	if c.RelaxedSync {
		sync = "NORMAL"
	}
	pragmas := []string{
		// Checkpoints every 16 MiB, not 4: a page that many commits touch is written back once.
		"wal_autocheckpoint(4000)",
		// A burst's log does not stay for ever.
		"journal_size_limit(67108864)",
		// An insert of many rows can be undone by itself; that log need not be a file.
		"temp_store(MEMORY)",
		// What is deleted is overwritten with zeros, also in pages that are free.
		"secure_delete(1)",
		// 8 MB, so that the inner pages of large indexes stay in memory.
		"cache_size(-8000)",
	}
	return "file://" + (&url.URL{Path: path}).EscapedPath() +
		"?_busy_timeout=" + strconv.FormatInt(c.BusyTimeout.Milliseconds(), 10) +
		"&_journal_mode=WAL&_synchronous=" + sync + "&_foreign_keys=1" +
		"&_pragma=" + strings.Join(pragmas, "&_pragma=") + more
}

// inspect makes the first connection, takes the write lock for a moment and reads the file
// as far as is sensible.
func inspect(ctx context.Context, db *sql.DB, patience time.Duration, whole bool) error {
	// Two processes that turn a new file to WAL at once get SQLITE_BUSY without being
	// made to wait for each other.
	deadline := time.Now().Add(patience)
	conn, err := db.Conn(ctx)
	for busy(err) && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		conn, err = db.Conn(ctx)
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	// This also reads the schema, and compares the file's length with what its header says.
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		return err
	}
	query := "SELECT 'ok' FROM (SELECT COUNT(*) FROM sqlite_master)"
	if whole {
		query = "PRAGMA quick_check(1)"
	}
	var verdict string
	if err := conn.QueryRowContext(ctx, query).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return ErrDamaged.Because(errors.New(strings.ReplaceAll(verdict, "\n", " ")))
	}
	return nil
}

func busy(err error) bool { return sqliteCode(err)&0xff == sqlite3.SQLITE_BUSY }

// opened says what kept the file from being opened.
func opened(ctx context.Context, path string, err error) error {
	if errors.Is(err, ErrDamaged) {
		return ErrDamaged.Detail("%s", path).Because(errors.Unwrap(err))
	}
	if ctx.Err() == nil {
		switch sqliteCode(err) & 0xff {
		case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT:
			return ErrDamaged.Detail("%s", path).Because(err)
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return ErrLocked.Detail("%s", path).Because(err)
		case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
			return ErrNotWritable.Detail("%s", path).Because(err)
		}
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("bunstore: open %s: %w", path, err))
}

// beatSoon is what Ping does, with limits of its own on the waiting.
func (d *database) beatSoon(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, d.pingTimeout)
	defer cancel()
	before := d.commits.Load()
	conn, err := d.write.DB.Conn(soon)
	if err != nil {
		if soon.Err() != nil && ctx.Err() == nil && d.commits.Load() != before {
			return nil // others had their turn
		}
		return err
	}
	return withBusyTimeout(ctx, conn, d.pingTimeout, func() error {
		_, err := conn.ExecContext(ctx, d.dialect.beat)
		return err
	})
}

// withBusyTimeout lets do wait for locks for so long, and gives the connection back to the pool as it was.
func withBusyTimeout(ctx context.Context, conn *sql.Conn, patience time.Duration, do func() error) error {
	defer func() { _ = conn.Close() }() // gives it back to the pool
	const get, set = "PRAGMA busy_timeout", "PRAGMA busy_timeout = %d"
	var usual int64
	if err := conn.QueryRowContext(ctx, get).Scan(&usual); err != nil {
		return err
	}
	defer func() {
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf(set, usual)); err != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // whoever is next gets one that is set up
		}
	}()
	if _, err := conn.ExecContext(ctx, fmt.Sprintf(set, patience.Milliseconds())); err != nil {
		return err
	}
	return do()
}
