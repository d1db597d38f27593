package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
)

// What opening and migrating answer besides success. The detail names the file or the
// migration; the cause is the driver's.
var (
	// ErrDamaged says that the file is no database, or a damaged one.
	ErrDamaged = fault.New(fault.Unavailable, "store_damaged", "the file is not a database or is damaged")
	// ErrLocked says that another process kept the database locked for longer than the busy timeout.
	ErrLocked = fault.New(fault.Unavailable, "store_locked", "the database is locked by another process")
	// ErrNotWritable says that the file or its folder cannot be opened for writing.
	ErrNotWritable = fault.New(fault.Unavailable, "store_not_writable", "the database cannot be opened for writing")
	// ErrSchemaOld says that migrations are pending: see [Store.Migrate].
	ErrSchemaOld = fault.New(fault.Unavailable, "schema_old", "the database schema is older than this program")
	// ErrSchemaNew says that a newer program has migrated the database.
	ErrSchemaNew = fault.New(fault.Unavailable, "schema_new", "the database schema is newer than this program")
	// ErrMigrating says that the migration lock is taken: see [Store.Unlock].
	ErrMigrating = fault.New(fault.Unavailable, "schema_locked", "the migration lock is taken")
)

// What opening a database server answers besides success. The detail names host, port and
// database, never a password; the cause is the driver's.
var (
	// ErrUnreachable says that nobody answers at the address, or that the server takes no more connections.
	ErrUnreachable = fault.New(fault.Unavailable, "store_unreachable", "the database server cannot be reached")
	// ErrCredentials says that the server refuses the user, the password, or the user's access to the database.
	// MariaDB says the same to a user who must come with TLS and does not.
	ErrCredentials = fault.New(fault.Unavailable, "store_credentials", "the database server refuses the user or the password")
	// ErrNoDatabase says that the server has no database of that name. It is not created.
	ErrNoDatabase = fault.New(fault.Unavailable, "store_no_database", "the database does not exist")
	// ErrTLS says that the server demands TLS and the URL forbids it, the other way round, or
	// that the server's certificate is not trusted.
	ErrTLS = fault.New(fault.Unavailable, "store_tls", "the database server and the URL do not agree about TLS")
)

// errText refuses text that an engine would change or reject.
var errText = fault.New(fault.Invalid, "text_not_storable", "a text is not valid UTF-8 or has a NUL character")

// storable reports whether every engine keeps the texts byte by byte.
func storable(texts ...string) bool {
	for _, s := range texts {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// unavailable reports whether err, of database/sql or of a context, says that there was no
// answer. database/sql does not export its error for a closed handle.
func unavailable(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || isNetError(err) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, driver.ErrBadConn) ||
		strings.Contains(err.Error(), "sql: database is closed") || strings.Contains(err.Error(), "sql: statement is closed")
}

func isNetError(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// oneLine is an error whose text has no line breaks: a driver lists all its attempts.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLine) Unwrap() error { return e.error }
