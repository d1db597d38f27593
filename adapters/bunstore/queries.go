package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/uptrace/bun"
)

// maxKept bounds how many statements a handle keeps prepared. Their texts stand in this package and hold no values, so there
// are fewer; beyond it a statement is parsed at each call.
const maxKept = 64

// kept are the statements of one handle, each parsed once on each connection that runs it. Bun writes values into the text, so
// what goes through Bun is parsed at each call.
type kept struct {
	db      *sql.DB
	dialect *dialect

	mu     sync.RWMutex
	ready  map[string]*sql.Stmt
	closed bool
}

func newKept(db *bun.DB, d *dialect) *kept {
	return &kept{db: db.DB, dialect: d, ready: map[string]*sql.Stmt{}}
}

// get returns the statement of a text that has a question mark for each argument, and is no caller's. It returns nil when no
// more is kept.
//
//nolint:sqlclosecheck // close closes what is kept
func (k *kept) get(ctx context.Context, text string) (*sql.Stmt, error) {
	k.mu.RLock()
	stmt, full, closed := k.ready[text], len(k.ready) >= maxKept, k.closed
	k.mu.RUnlock()
	switch {
	case closed:
		return nil, sql.ErrConnDone
	case stmt != nil || full:
		return stmt, nil
	}
	// Without the lock: the server may leave the one who prepares without an answer. Of two who prepare, one wins.
	stmt, err := k.db.PrepareContext(ctx, k.dialect.placeholders(text))
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if first := k.ready[text]; first != nil || k.closed {
		err := stmt.Close()
		if k.closed {
			return nil, errors.Join(sql.ErrConnDone, err)
		}
		return first, err
	}
	k.ready[text] = stmt
	return stmt, nil
}

// query runs a statement and gives each row to scan.
func (k *kept) query(ctx context.Context, text string, args []any, scan func(scan func(...any) error) error) error {
	stmt, err := k.get(ctx, text) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return err
	}
	var rows *sql.Rows
	if stmt != nil {
		rows, err = stmt.QueryContext(ctx, args...)
	} else {
		rows, err = k.db.QueryContext(ctx, k.dialect.placeholders(text), args...)
	}
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// one runs a statement that returns at most one row, and returns sql.ErrNoRows where there is none.
func (k *kept) one(ctx context.Context, text string, args []any, to ...any) error {
	found := false
	err := k.query(ctx, text, args, func(scan func(...any) error) error {
		found = true
		return scan(to...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// exec runs a statement that returns nothing.
func (k *kept) exec(ctx context.Context, text string, args []any) error {
	stmt, err := k.get(ctx, text) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return err
	}
	if stmt != nil {
		_, err = stmt.ExecContext(ctx, args...)
	} else {
		_, err = k.db.ExecContext(ctx, k.dialect.placeholders(text), args...)
	}
	return err
}

func (k *kept) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	var errs []error
	for text, stmt := range k.ready {
		errs = append(errs, stmt.Close())
		delete(k.ready, text)
	}
	return errors.Join(errs...)
}

// numbered turns question marks into $1, $2, …
func numbered(text string) string {
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(text, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// asIs leaves question marks.
func asIs(text string) string { return text }

// fit returns the smallest of the sizes, which descend, that n rows fit into, or the largest.
func fit(n int, sizes []int) int {
	size := sizes[0]
	for _, s := range sizes {
		if s >= n {
			size = s
		}
	}
	return size
}
