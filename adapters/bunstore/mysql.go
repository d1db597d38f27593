package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/parley-chat/parley/core/fault"
)

// OpenMySQL opens a database of a MySQL server, 8.0.16 or later, or of MariaDB, 10.6 or
// later, which must exist. The URL is mysql://user:password@host:port/database, the password
// percent-encoded. Its only parameter is tls: preferred (the default), true, false or
// skip-verify. The caller closes the store. The tables are not touched: see [Store.Migrate].
//
// Opening fails with ErrUnreachable, ErrCredentials, ErrNoDatabase or ErrTLS, and with
// ErrSchemaNew if a newer program has migrated the database. It waits until ctx is done, and no
// longer than Config says.
// Transactions are READ COMMITTED, so binlog_format must not be STATEMENT. Those that the
// server gives up for another one's sake begin again, up to ten times.
func OpenMySQL(ctx context.Context, url string, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	u, err := parseServerURL(url, "3306", "mysql")
	if err != nil {
		return nil, fmt.Errorf("bunstore: MySQL: %w", err)
	}
	if u.hosts > 1 {
		return nil, errors.New("bunstore: MySQL: the URL has more than one host: give a name, or a proxy, that leads to the server that takes writes")
	}
	conn := mysql.NewConfig()
	conn.Net, conn.Addr, conn.DBName = "tcp", u.address, u.database
	conn.User, conn.Passwd = u.User.Username(), u.password
	conn.Timeout, conn.DialFunc = cfg.ConnectTimeout, dialer(cfg.Silence)
	conn.Logger = &mysql.NopLogger{} // what it would print comes back as an error
	conn.TLSConfig = "preferred"
	for key, values := range u.Query() {
		if key != "tls" || !slices.Contains([]string{"preferred", "true", "false", "skip-verify"}, values[0]) {
			return nil, fmt.Errorf("bunstore: MySQL: the URL's parameter %s is not tls=preferred, true, false or skip-verify", key)
		}
		conn.TLSConfig = values[0]
	}
	connector, err := mysql.NewConnector(conn)
	if err != nil {
		return nil, fmt.Errorf("bunstore: MySQL: the URL of %s is not valid: %w", u.place(), err)
	}
	p := &pool{Connector: connector, patience: cfg.ConnectTimeout, setUp: cfg.mysqlSetUp(), wrap: func(c fullConn) fullConn { return mysqlConn{c} }}
	return openServer(ctx, u, p, mysqlDialect(), cfg, mysqlReason, inspectMySQL)
}

// mysqlSetUp are the statements that every connection begins with.
func (c Config) mysqlSetUp() []string {
	// What does not fit is refused, and a backslash in text is doubled, whatever the server's default is.
	set := "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION autocommit = 1"
	if c.LockTimeout > 0 {
		set += fmt.Sprintf(", SESSION innodb_lock_wait_timeout = %d", seconds(c.LockTimeout))
	}
	if c.TransactionIdle > 0 {
		// The first is for MariaDB alone, the second for MySQL: it is a comment to the other.
		set += fmt.Sprintf(" /*M!100300 , SESSION idle_transaction_timeout = %d */ /*!80000 , SESSION wait_timeout = %[1]d */", seconds(c.TransactionIdle))
	}
	return []string{
		// Fewer gaps are locked, so there are fewer deadlocks, and a statement that waited sees
		// what was committed meanwhile.
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
		set,
	}
}

// inspectMySQL has nothing to ask: a server that is too old refuses a statement of the migrations.
func inspectMySQL(context.Context, *sql.DB) error { return nil }

// mysqlReason recognises why a server cannot be used.
func mysqlReason(err error) *fault.Error {
	switch number := mysqlNumber(err); {
	case number == 3159, errors.Is(err, mysql.ErrNoTLS), isTLSError(err):
		return ErrTLS
	case number == 1044, number == 1045, number == 1698:
		return ErrCredentials
	case number == 1049:
		return ErrNoDatabase
	case number == 1040, number == 1053, number == 1129, number == 1130, number == 1203, errors.Is(err, driver.ErrBadConn):
		return ErrUnreachable
	}
	return nil
}

// mysqlConn ends transactions with their context: the driver's own COMMIT and ROLLBACK
// wait for a server that does not answer for ever.
type mysqlConn struct{ fullConn }

// IsValid implements driver.Validator.
func (c mysqlConn) IsValid() bool {
	own, ok := c.fullConn.(driver.Validator)
	return !ok || own.IsValid()
}

func (c mysqlConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if _, err := c.fullConn.BeginTx(ctx, opts); err != nil {
		return nil, err
	}
	return mysqlTx{ctx, c.fullConn}, nil
}

type mysqlTx struct {
	ctx  context.Context // of the call that began it, which also ends it
	conn driver.ExecerContext
}

func (tx mysqlTx) Commit() error {
	_, err := tx.conn.ExecContext(tx.ctx, "COMMIT", nil)
	return err
}

// rollbackPatience is how long a server may take to undo. The connection is closed after it, and
// the server undoes then.
const rollbackPatience = 5 * time.Second

func (tx mysqlTx) Rollback() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tx.ctx), rollbackPatience)
	defer cancel()
	_, err := tx.conn.ExecContext(ctx, "ROLLBACK", nil)
	return err
}
