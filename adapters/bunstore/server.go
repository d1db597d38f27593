package bunstore

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// Config is how a database server is used. Its zero value is a good choice.
type Config struct {
	// Connections is how many connections there are at most. Calls beyond that wait. Default 10.
	Connections int
	// ConnectTimeout is how long making a connection may take, unless the call's context
	// ends before. Opening as a whole takes at most twice as long. Default 5 seconds, at least a millisecond.
	ConnectTimeout time.Duration
	// MaxLifetime is how old a connection may become. It bounds how long reads may go to a server that is no longer
	// the one that is written to, and says nothing of it. Default 5 minutes, at least a second.
	MaxLifetime time.Duration
	// MaxIdle is how long a connection that nobody uses stays open. Default 5 minutes, at least a second.
	MaxIdle time.Duration
	// TransactionIdle is how long the server waits within a transaction for the next statement before it undoes it and ends
	// the connection: who freezes then holds up nobody for longer (PostgreSQL's idle_in_transaction_session_timeout, MariaDB's
	// idle_transaction_timeout in whole seconds). MySQL has no such limit: there it is wait_timeout, which also
	// ends connections that are idle in the pool, and these are made anew. It should be less than the time that callers
	// have for one commit. Default 3 seconds; a negative one leaves what the server has set.
	TransactionIdle time.Duration
	// LockTimeout is how long a statement waits for a lock (PostgreSQL's lock_timeout, innodb_lock_wait_timeout in whole
	// seconds). The call fails with kind Unavailable then. Migrations wait without limit. Default 4 seconds; a negative
	// one leaves what the server has set.
	LockTimeout time.Duration
	// Silence is how long the other machine may leave bytes unacknowledged, or a keep-alive probe unanswered. Then the
	// connection counts as lost. This side measures it by TCP_USER_TIMEOUT on Linux, and by keep-alive elsewhere; a PostgreSQL
	// by tcp_user_timeout and tcp_keepalives_…. Default 10 seconds, in steps of 5 where a system counts in seconds; a negative
	// one leaves it to the systems.
	Silence time.Duration
}

func (c Config) withDefaults() (Config, error) {
	check := settings.Of("bunstore: Config")
	settings.Default(check, "Connections", &c.Connections, 10)
	setTime(check, "ConnectTimeout", &c.ConnectTimeout, 5*time.Second, time.Millisecond)
	setTime(check, "MaxLifetime", &c.MaxLifetime, 5*time.Minute, time.Second)
	setTime(check, "MaxIdle", &c.MaxIdle, 5*time.Minute, time.Second)
	for _, limit := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{{"TransactionIdle", &c.TransactionIdle, 3 * time.Second}, {"LockTimeout", &c.LockTimeout, 4 * time.Second}, {"Silence", &c.Silence, 10 * time.Second}} {
		if *limit.value == 0 {
			*limit.value = limit.or
		}
		// A server's clock of milliseconds has 31 bits.
		if *limit.value > 0 && *limit.value < time.Millisecond || *limit.value > 24*time.Hour {
			check.Refuse(limit.name, "is %v, want 1ms to a day, or less than zero for what the server has set", *limit.value)
		}
	}
	return c, check.Err()
}

// serverURL is the address of a database on a server, or on several that stand in for each other.
type serverURL struct {
	*url.URL
	address  string // host:port, several with commas
	hosts    int
	database string
	password string
}

// place is what errors name.
func (u serverURL) place() string { return u.address + "/" + u.database }

// parseServerURL wants a scheme, a host, a user and a database. Its errors do not repeat
// the URL, which may hold a password.
func parseServerURL(text string, port string, schemes ...string) (serverURL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return serverURL{}, errors.New("the URL cannot be parsed; special characters in the password must be percent-encoded")
	}
	var errs []error
	known := false
	for _, scheme := range schemes {
		known = known || u.Scheme == scheme
	}
	if !known {
		errs = append(errs, fmt.Errorf("the URL does not start with %s://", schemes[0]))
	}
	var hosts []string
	for host := range strings.SplitSeq(u.Host, ",") {
		one := url.URL{Host: host}
		if one.Hostname() == "" {
			errs = append(errs, errors.New("the URL has no host"))
		}
		number := port
		if one.Port() != "" {
			number = one.Port()
		}
		hosts = append(hosts, net.JoinHostPort(one.Hostname(), number))
	}
	if u.User.Username() == "" {
		errs = append(errs, errors.New("the URL has no user"))
	}
	database := strings.TrimPrefix(u.Path, "/")
	if database == "" || strings.Contains(database, "/") {
		errs = append(errs, errors.New("the URL does not name a database"))
	}
	password, _ := u.User.Password()
	return serverURL{u, strings.Join(hosts, ","), len(hosts), database, password}, errors.Join(errs...)
}

// openServer makes the first connection of the pool and the store. reason
// recognises why a server cannot be used, or returns nil.
func openServer(ctx context.Context, u serverURL, p *pool, d *dialect, cfg Config, reason func(error) *fault.Error, inspect func(context.Context, *sql.DB) error) (*Store, error) {
	db := p.open(cfg)
	handle := bun.NewDB(db, d.bun())
	s, err := newStore(handle, handle)
	if err == nil {
		s.own, s.db.pool = []*sql.DB{db}, p
		// A server may stop answering behind the connection, too.
		soon, cancel := context.WithTimeout(ctx, 2*cfg.ConnectTimeout)
		defer cancel()
		if err = db.PingContext(soon); err == nil {
			err = inspect(soon, db)
		}
		if err != nil {
			err = notUsable(ctx, u.place(), err, reason)
		} else if err = s.Check(soon); errors.Is(err, ErrSchemaOld) {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// notUsable says in one line what kept the server from being used.
func notUsable(ctx context.Context, place string, err error, reason func(error) *fault.Error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	cause := oneLine{err}
	if ctx.Err() == nil {
		if r := reason(err); r != nil {
			return r.Detail("%s", place).Because(cause)
		}
		if unavailable(err) {
			return ErrUnreachable.Detail("%s", place).Because(cause)
		}
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("bunstore: open %s: %w", place, cause))
}

// isTLSError recognises a handshake that failed on this side.
func isTLSError(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, header := errors.AsType[tls.RecordHeaderError](err)
	return certificate || alert || header || strings.Contains(err.Error(), "tls: ")
}
