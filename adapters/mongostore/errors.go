package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/parley-chat/parley/core/fault"
)

// What opening and migrating answer besides success. The detail names hosts and database, never
// a password; the cause is the driver's.
var (
	// ErrUnreachable says that nobody answers at the address, or that there is no primary.
	ErrUnreachable = fault.New(fault.Unavailable, "store_unreachable", "the database server cannot be reached")
	// ErrCredentials says that the server refuses the user or the password, or that the user may not do
	// what the call needs.
	ErrCredentials = fault.New(fault.Unavailable, "store_credentials", "the database server refuses the user or the password")
	// ErrTLS says that the server's certificate is not trusted, or that what the server answers is not TLS. A server that
	// ends the connection without a word, as one may that demands TLS, is ErrUnreachable.
	ErrTLS = fault.New(fault.Unavailable, "store_tls", "the database server and the URL do not agree about TLS")
	// ErrSchemaOld says that the database must be migrated: see [Store.Migrate].
	ErrSchemaOld = fault.New(fault.Unavailable, "schema_old", "the database schema is older than this program")
	// ErrSchemaNew says that a newer program has migrated the database.
	ErrSchemaNew = fault.New(fault.Unavailable, "schema_new", "the database schema is newer than this program")
)

// What every port refuses.
var (
	// errIDTaken says that something with that ID, or hash, is stored already.
	errIDTaken = fault.New(fault.Conflict, "id_taken", "the identifier is taken")
	// errIDChanged refuses a change function that altered the identifier.
	errIDChanged = fault.New(fault.Invalid, "id_changed", "an update must not change the identifier")
	errLimit     = fault.New(fault.Invalid, "limit_invalid", "the limit is out of range")
)

// Codes of the server's errors.
const (
	codeUnauthorized      = 13
	codeAuthentication    = 18
	codeNamespaceExists   = 48
	codeCommandNotFound   = 59
	codeCommandNotAllowed = 115
	codeValidation        = 121
	codeNotImplemented    = 238
	codeUnsupported       = 303
	codeAtlasError        = 8000 // authentication and rights, on the hosted product
	codeTooLarge          = 10334
)

// away are codes of a server that stops, starts, or is not the primary, or no longer; that has none to read from, whose
// disk is full, or whose operator lets nobody write.
var away = []int{6, 7, 89, 91, 133, 189, 262, 371, 9001, 10058, 10107, 11600, 11602, 13435, 13436, 14031}

func hasCode(err error, codes ...int) bool {
	se := mongo.ServerError(nil)
	return errors.As(err, &se) && slices.ContainsFunc(codes, se.HasErrorCode)
}

// fail translates an error of the driver once. Errors that have a kind already stay what they are.
func (d *database) fail(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	kind := kindOf(err)
	if ctxErr := ctx.Err(); ctxErr != nil {
		kind = fault.Unavailable
		if !errors.Is(err, ctxErr) {
			err = fmt.Errorf("%w: %w", ctxErr, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		err = oneLine{err}
	}
	err = fmt.Errorf("mongostore: %s: %w", op, err)
	if kind == fault.Unavailable && hasCode(err, codeUnauthorized, codeAuthentication, codeAtlasError) {
		return ErrCredentials.Because(err)
	}
	return fault.Wrap(kind, err)
}

// partly is the error of a call that stored something before it failed: its outcome is unknown to the caller.
func partly(op string, err error) error {
	return fault.Wrap(fault.Unavailable, fmt.Errorf("mongostore: %s: a part is stored: %w", op, oneLine{err}))
}

// kindOf classifies an error of the driver. A write that the server did, and that is not yet as safe
// as was asked for, has an unknown outcome.
func kindOf(err error) fault.Kind {
	switch {
	case unconfirmed(err), unavailable(err), hasCode(err, codeUnauthorized, codeAuthentication, codeAtlasError), hasCode(err, away...):
		return fault.Unavailable
	case mongo.IsDuplicateKeyError(err):
		return fault.Conflict
	case hasCode(err, codeValidation, codeTooLarge):
		return fault.Invalid
	}
	return fault.Internal
}

// unconfirmed reports whether a write was done without its write concern being met.
func unconfirmed(err error) bool {
	one, many := mongo.WriteException{}, mongo.BulkWriteException{}
	return errors.As(err, &one) && one.WriteConcernError != nil || errors.As(err, &many) && many.WriteConcernError != nil
}

// unavailable reports whether err says that there was no answer. The driver does not export its errors for
// servers that it cannot select and for pools that it has emptied; the first are time-outs, the second have a label or wrap
// a network error.
func unavailable(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	le := mongo.LabeledError(nil)
	labelled := errors.As(err, &le) && (le.HasErrorLabel("RetryableWriteError") || le.HasErrorLabel("TransientTransactionError"))
	return labelled || mongo.IsTimeout(err) || mongo.IsNetworkError(err) || errors.Is(err, mongo.ErrClientDisconnected) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "server selection error") || strings.Contains(err.Error(), "connection pool for ") ||
		strings.Contains(err.Error(), "connection(")
}

// oneLine is an error whose text has no line breaks.
type oneLine struct{ error }

func (e oneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e oneLine) Unwrap() error { return e.error }
