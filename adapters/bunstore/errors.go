package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
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
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, driver.ErrBadConn) ||
		strings.Contains(err.Error(), "sql: database is closed") || strings.Contains(err.Error(), "sql: statement is closed")
}
