package mongostore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// Config is how a database is used. Its zero value is a good choice.
type Config struct {
	// Connections is how many connections there are at most to one server. Calls beyond that wait. Default 20.
	Connections int
	// ConnectTimeout is how long making a connection, and waiting for a primary, may take, unless the
	// call's context ends before. Default 5 seconds, at least a millisecond.
	ConnectTimeout time.Duration
	// WriteConcern is what makes a write count as done. Default: the majority has it, in the journal. With
	// anything less an acknowledged message may be lost with a server.
	WriteConcern *writeconcern.WriteConcern
	// Log is told once when the server takes no validators. Default: nothing.
	Log *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	check := settings.Of("mongostore: Config")
	settings.Default(check, "Connections", &c.Connections, 20)
	settings.Default(check, "ConnectTimeout", &c.ConnectTimeout, 5*time.Second)
	if c.ConnectTimeout > 0 && c.ConnectTimeout < time.Millisecond {
		check.Refuse("ConnectTimeout", "%v is shorter than a millisecond", c.ConnectTimeout)
	}
	if c.WriteConcern == nil {
		journal := true
		c.WriteConcern = &writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journal}
	}
	if !c.WriteConcern.Acknowledged() || !c.WriteConcern.IsValid() {
		check.Refuse("WriteConcern", "does not wait for an answer")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, check.Err()
}

// Open opens a database of a MongoDB server, or of a replica set with several hosts. The URL is
// mongodb://user:password@host:port,host:port/database, or mongodb+srv://…, user and password percent-encoded,
// with the parameters of MongoDB's connection strings, above all authSource, replicaSet and tls. Where there is no
// authSource, the user is one of the database. What Config says goes before the URL. The server makes the
// database with the first document. The caller closes the store. The collections are not touched:
// see [Store.Migrate].
//
// Opening fails with ErrUnreachable, ErrCredentials or ErrTLS, after ConnectTimeout at the latest, and with
// ErrSchemaNew if a newer program has migrated the database.
func Open(ctx context.Context, address string, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	u, err := parseURL(address)
	if err != nil {
		return nil, fmt.Errorf("mongostore: %w", err)
	}
	opts := options.Client().ApplyURI(address).SetAppName("parley").SetMaxPoolSize(uint64(cfg.Connections)).
		SetConnectTimeout(cfg.ConnectTimeout).SetServerSelectionTimeout(cfg.ConnectTimeout)
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("mongostore: the URL of %s is not valid: %w", u.place(), u.hush(err))
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("mongostore: the URL of %s is not valid: %w", u.place(), u.hush(err))
	}
	s := newStore(client.Database(u.database), cfg)
	s.own = client
	if err = s.hello(ctx, cfg.ConnectTimeout); err == nil {
		return s, nil
	}
	return nil, errors.Join(u.notUsable(ctx, err), s.Close())
}

// hello finds out whether the database can be used.
func (s *Store) hello(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.db.db.Client().Ping(ctx, readpref.Primary()); err != nil {
		return err
	}
	if err := s.Check(ctx); !errors.Is(err, ErrSchemaOld) {
		return err
	}
	return nil
}

// serverURL is the address of a database.
type serverURL struct {
	hosts, database string
	secrets         []string // the password, as it is and as it stands in the URL
}

// place is what errors name.
func (u serverURL) place() string { return u.hosts + "/" + u.database }

// hush makes an error about the URL one line that does not repeat the password.
func (u serverURL) hush(err error) error {
	for _, secret := range u.secrets {
		if secret == "" {
			continue
		}
		// By itself: a short one may be a part of any word.
		alone, bad := regexp.Compile(`(^|[^\pL\pN])` + regexp.QuoteMeta(secret) + `($|[^\pL\pN])`)
		if bad != nil || alone.MatchString(err.Error()) {
			return errors.New("the reason holds the password")
		}
	}
	return oneLine{err}
}

var errURL = errors.New("the URL cannot be parsed; special characters in the password must be percent-encoded")

// parseURL takes the URL apart, which may name several hosts, so that it is none of net/url's. Its errors do not
// repeat it, since it may hold a password.
func parseURL(address string) (serverURL, error) {
	rest, found := strings.CutPrefix(address, "mongodb://")
	if !found {
		if rest, found = strings.CutPrefix(address, "mongodb+srv://"); !found {
			return serverURL{}, errors.New("the URL does not start with mongodb:// or mongodb+srv://")
		}
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest, database, _ := strings.Cut(rest, "/")
	u := serverURL{hosts: rest}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		_, password, _ := strings.Cut(rest[:at], ":")
		u.hosts = rest[at+1:]
		plain, err := url.PathUnescape(password)
		if err != nil || strings.ContainsAny(password, "@:") {
			return serverURL{}, errURL
		}
		u.secrets = []string{plain, password}
	}
	// A slash or a question mark in a password ends up here.
	if strings.Contains(database, "@") || strings.Contains(database, "/") {
		return serverURL{}, errURL
	}
	var errs []error
	if u.hosts == "" {
		errs = append(errs, errors.New("the URL has no host"))
	}
	var err error
	if u.database, err = url.PathUnescape(database); err != nil || u.database == "" {
		errs = append(errs, errors.New("the URL does not name a database"))
	}
	return u, errors.Join(errs...)
}

// notUsable says in one line what kept the server from being used.
func (u serverURL) notUsable(ctx context.Context, err error) error {
	if errors.Is(err, ErrSchemaNew) {
		return err
	}
	var cause error = oneLine{err} // a password is never sent, so no server's answer can hold it
	if known, ok := errors.AsType[*fault.Error](err); ok && errors.Is(err, ErrCredentials) {
		cause = oneLine{known.Unwrap()} // the title is said once
	}
	switch {
	case errors.Is(err, ErrCredentials), hasCode(err, codeUnauthorized, codeAuthentication, codeAtlasError), strings.Contains(err.Error(), "auth error"):
		return ErrCredentials.Detail("%s", u.place()).Because(cause)
	case isTLSError(err):
		return ErrTLS.Detail("%s", u.place()).Because(cause)
	case ctx.Err() == nil && (unavailable(err) || errors.Is(err, fault.Unavailable)):
		return ErrUnreachable.Detail("%s", u.place()).Because(cause)
	}
	return fault.Wrap(fault.Unavailable, fmt.Errorf("mongostore: open %s: %w", u.place(), cause))
}

// isTLSError recognises a handshake that failed. The driver keeps the last error of a server as text only.
func isTLSError(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	return certificate || authority || strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "x509: ")
}
