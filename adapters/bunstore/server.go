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
)

// Config is how a database server is used. Its zero value is a good choice.
type Config struct {
	// Connections is how many connections there are at most. Calls beyond that wait. Default 10.
	Connections int
	// ConnectTimeout is how long making a connection may take, unless the call's context
	// ends before. Opening as a whole takes at most twice as long. Default 5 seconds, at least a millisecond.
	ConnectTimeout time.Duration
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Connections == 0 {
		c.Connections = 10
	}
	if c.Connections < 0 {
		errs = append(errs, fmt.Errorf("the number of Connections is %d and must be positive", c.Connections))
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.ConnectTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("the ConnectTimeout is %s and must be at least a millisecond", c.ConnectTimeout))
	}
	return c, errors.Join(errs...)
}

// idle is how long a connection that nobody uses stays open.
const idle = 5 * time.Minute

// serverURL is the address of a database on a server.
type serverURL struct {
	*url.URL
	address  string // host:port
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
	if u.Hostname() == "" {
		errs = append(errs, errors.New("the URL has no host"))
	}
	if u.User.Username() == "" {
		errs = append(errs, errors.New("the URL has no user"))
	}
	database := strings.TrimPrefix(u.Path, "/")
	if database == "" || strings.Contains(database, "/") {
		errs = append(errs, errors.New("the URL does not name a database"))
	}
	if u.Port() != "" {
		port = u.Port()
	}
	password, _ := u.User.Password()
	return serverURL{u, net.JoinHostPort(u.Hostname(), port), database, password}, errors.Join(errs...)
}

// openServer makes the first connection and the store. db is closed if that fails. reason
// recognises why a server cannot be used, or returns nil.
func openServer(ctx context.Context, u serverURL, handle *bun.DB, cfg Config, reason func(error) *fault.Error, inspect func(context.Context, *sql.DB) error) (*Store, error) {
	db := handle.DB
	db.SetMaxOpenConns(cfg.Connections)
	db.SetMaxIdleConns(cfg.Connections)
	db.SetConnMaxIdleTime(idle)
	s, err := newStore(handle, handle)
	if err == nil {
		s.own = []*sql.DB{db}
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
