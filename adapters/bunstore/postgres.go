package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/parley-chat/parley/core/fault"
)

// OpenPostgres opens a database of a PostgreSQL server, 11 or later, with encoding UTF8,
// which must exist. The URL is postgres://user:password@host:port/database, the password
// percent-encoded; parameters are those of libpq, above all sslmode, whose default is prefer,
// sslrootcert, and search_path for a schema of one's own; what the server calls one of Config's limits goes before
// Config. There may be several hosts, host:port,host:port, that stand in for each other: the first that
// target_session_attrs allows is used, which with several hosts is read-write by default. The caller closes the store. The
// tables are not touched: see [Store.Migrate].
//
// Opening fails with ErrUnreachable, ErrCredentials, ErrNoDatabase or ErrTLS, and with
// ErrSchemaNew if a newer program has migrated the database. It waits until ctx is done, and no
// longer than Config says.
// Transactions that PostgreSQL gives up for another one's sake begin again, up to ten times.
func OpenPostgres(ctx context.Context, address string, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	u, err := parseServerURL(address, "5432", "postgres", "postgresql")
	if err != nil {
		return nil, fmt.Errorf("bunstore: PostgreSQL: %w", err)
	}
	// What the URL leaves open must not come from the environment, where libpq looks.
	query := u.Query()
	target := "any"
	if u.hosts > 1 {
		target = "read-write"
	}
	for key, value := range map[string]string{"sslmode": "prefer", "application_name": "parley", "target_session_attrs": target} {
		if !query.Has(key) {
			query.Set(key, value)
		}
	}
	u.RawQuery, u.Host = query.Encode(), u.address
	conn, err := pgx.ParseConfig(u.String())
	if err != nil {
		// The text holds the URL without its password.
		return nil, fmt.Errorf("bunstore: PostgreSQL: the URL of %s is not valid: %w", u.place(), oneLine{err})
	}
	conn.Password = u.password
	conn.ConnectTimeout = cfg.ConnectTimeout
	// Bun writes values into the text, so to prepare a statement is a round trip for nothing.
	conn.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn.DialFunc = dialer(cfg.Silence)
	p := &pool{
		Connector: stdlib.GetConnector(*conn), patience: cfg.ConnectTimeout * time.Duration(u.hosts), setUp: []string{cfg.postgresSetUp(query)},
	}
	return openServer(ctx, u, p, postgresDialect(), cfg, postgresReason, inspectPostgres)
}

// postgresSetUp is the statement that sets what a server knows of the limits, unless the URL does. They are no
// parameters of the start, since a pooler between refuses those that it does not know.
func (c Config) postgresSetUp(named url.Values) string {
	// A statement that waited for a lock must see what its holder committed, also one that is a transaction by itself.
	values := []string{"('default_transaction_isolation', 'read committed')"}
	set := func(limit time.Duration, name string, value int64) {
		if limit > 0 && !named.Has(name) {
			values = append(values, fmt.Sprintf("('%s', '%d')", name, value))
		}
	}
	set(c.TransactionIdle, "idle_in_transaction_session_timeout", c.TransactionIdle.Milliseconds())
	set(c.LockTimeout, "lock_timeout", c.LockTimeout.Milliseconds())
	set(c.Silence, "tcp_user_timeout", c.Silence.Milliseconds())
	set(c.Silence, "tcp_keepalives_idle", seconds(probes(c.Silence)))
	set(c.Silence, "tcp_keepalives_interval", seconds(probes(c.Silence)))
	set(c.Silence, "tcp_keepalives_count", probeCount-1)
	return "SELECT set_config(name, value, false) FROM (VALUES " + strings.Join(values, ", ") +
		") AS wanted (name, value) WHERE current_setting(name, true) IS NOT NULL"
}

// inspectPostgres refuses a database that cannot hold every text.
func inspectPostgres(ctx context.Context, db *sql.DB) error {
	var encoding, quotes string
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_encoding'), current_setting('standard_conforming_strings')").Scan(&encoding, &quotes)
	switch {
	case err != nil:
		return err
	case encoding != "UTF8":
		return fmt.Errorf("the encoding of the database is %s and must be UTF8", encoding)
	case quotes != "on":
		return errors.New("standard_conforming_strings is off and must be on")
	}
	return nil
}

// postgresReason recognises why a server cannot be used.
func postgresReason(err error) *fault.Error {
	code, text := postgresCode(err), err.Error()
	switch {
	case code == "28000" && (strings.Contains(text, "no encryption") || strings.Contains(text, "SSL")):
		return ErrTLS
	case strings.HasPrefix(code, "28"), code == "42501":
		return ErrCredentials
	case code == "3D000":
		return ErrNoDatabase
	case code == "57P03", code == "53300":
		return ErrUnreachable
	}
	_, failed := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case code != "": // of the last attempt; that TLS was refused before it does not matter
		return nil
	case errors.Is(err, context.DeadlineExceeded): // though TLS was refused before it
		return ErrUnreachable
	case strings.Contains(text, "server refused TLS"), isTLSError(err):
		return ErrTLS
	case failed:
		return ErrUnreachable
	}
	return nil
}
