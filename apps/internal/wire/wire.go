// Package wire chooses adapters by configuration and connects them to one application.
package wire

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/web"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
)

// Version is the version of the documents.
const Version = "1.0.0"

// sendTimeout bounds one attempt to send a mail: one under way must not hold up the end of the
// program.
const sendTimeout = 4 * time.Second

// App is the all-in-one program, connected and not yet running.
type App struct {
	System *parley.System
	// Handler serves everything.
	Handler http.Handler
	// API has the operations, for printing the document.
	API *humaapi.API

	transport transport
	bus       *watermillbus.Bus
	store     *bunstore.Store  // nil if nothing is kept
	smtp      *smtpmail.Sender // nil if mails go to the development mailbox
}

// transport carries sockets.
type transport interface {
	http.Handler
	Run(ctx context.Context) error
}

// OpenStore opens the SQL store that s names, or returns nil for memory.
func OpenStore(ctx context.Context, s config.Settings) (*bunstore.Store, error) {
	scheme, rest, _ := strings.Cut(s.Store, ":")
	switch scheme {
	case "sqlite":
		if err := os.MkdirAll(filepath.Dir(rest), 0o700); err != nil {
			return nil, fmt.Errorf("the folder of the store cannot be made: %w", err)
		}
		return bunstore.OpenSQLite(ctx, rest, bunstore.SQLiteConfig{})
	case "postgres":
		return bunstore.OpenPostgres(ctx, s.Store, bunstore.Config{})
	case "mysql":
		return bunstore.OpenMySQL(ctx, s.Store, bunstore.Config{})
	}
	return nil, nil
}

// New builds the application. publicURL is the base of links; dial is the address under which
// this program reaches itself, for the health check. Close what it returns.
func New(ctx context.Context, s config.Settings, publicURL, dial string, log *slog.Logger) (*App, error) {
	a := &App{}
	if err := a.build(ctx, s, publicURL, dial, log); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *App) build(ctx context.Context, s config.Settings, publicURL, dial string, log *slog.Logger) error {
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("the data folder cannot be made: %w", err)
	}
	keys, err := jwtauth.OpenKeys(filepath.Join(s.Data, "keys.json"))
	if err != nil {
		return err
	}
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: s.Issuer})
	if err != nil {
		return err
	}
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: s.Issuer})
	if err != nil {
		return err
	}
	hasher, err := passhash.New(passhash.Config{})
	if err != nil {
		return err
	}
	sender, mailbox, err := a.openSender(ctx, s, log)
	if err != nil {
		return err
	}
	a.bus, err = watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Groups: map[string][]string{mail.Topic: {mail.Group}}})
	if err != nil {
		return err
	}
	ports := parley.Ports{
		Hasher: hasher, Issuer: issuer, Verifier: verifier,
		Limiter:   memory.NewLimiter(memory.LimiterConfig{}),
		Publisher: a.bus, Subscriber: a.bus, Sender: sender,
		Recent: memory.NewRecentCache(memory.RecentCacheConfig{Rooms: 10_000, Messages: 20}),
		Fanout: memory.NewFanout().Node(), Presence: memory.NewPresence(),
	}
	checks, err := a.openStore(ctx, s, &ports)
	if err != nil {
		return err
	}

	a.System, err = parley.New(parley.Config{
		Ports: ports, PublicURL: publicURL, Origins: s.Origins, DrainTimeout: s.DrainTimeout, Log: log,
		Auth: auth.Config{
			AccessTTL: s.AccessTTL, SessionTTL: s.SessionTTL, TakenConflict: s.AuthTaken == "conflict",
			SignInRate: auth.Rate{Burst: s.SignInBurst, Per: time.Minute},
			MailRate:   auth.Rate{Burst: s.MailBurst, Per: 10 * time.Minute},
		},
		Worker:    mail.WorkerConfig{SendTimeout: sendTimeout},
		Templates: mail.TemplateConfig{Product: s.Product, From: s.MailFrom, FromName: s.MailFromName},
		Hub:       realtime.HubConfig{Rate: s.SocketRate, Burst: s.SocketBurst, MaxConnections: s.MaxConns},
	})
	if err != nil {
		return err
	}
	probe := rand.Text()
	handshake, err := realtime.NewHandshake(realtime.HandshakeConfig{
		Authenticator: probing{a.System.Authenticator(), probe}, Origins: s.Origins, Draining: a.System.Hub.Draining,
	})
	if err != nil {
		return err
	}
	if a.transport, err = newTransport(s, handshake, a.System.Hub, log); err != nil {
		return err
	}
	checks = append(checks, socketCheck(dial, probe, s.TLSCert != ""))
	return a.mount(s, publicURL, keys, mailbox, checks, log)
}

// openStore fills in the ports of what is kept, and returns how to ask it whether it answers.
func (a *App) openStore(ctx context.Context, s config.Settings, p *parley.Ports) ([]health.Check, error) {
	store, err := OpenStore(ctx, s)
	if err != nil {
		return nil, err
	}
	if store == nil {
		m := memory.NewStore()
		p.Users, p.Sessions, p.Codes, p.Nonces, p.Outbox = m.Users, m.Sessions, m.Codes, m.Nonces, m.Outbox
		p.MailQueue, p.DeadLetters, p.MailStats = m.MailQueue, m.MailQueue, m.MailQueue
		p.Messages, p.Rooms, p.Members = m.Messages, m.Rooms, m.Members
		return nil, nil
	}
	a.store = store
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	queue := store.MailQueue()
	p.Users, p.Sessions, p.Codes, p.Nonces, p.Outbox = store.Users(), store.Sessions(), store.Codes(), store.Nonces(), store.Outbox()
	p.MailQueue, p.DeadLetters, p.MailStats = queue, queue, queue
	p.Messages, p.Rooms, p.Members = store.Messages(), store.Rooms(), store.Members()
	return []health.Check{{Name: "database", Probe: func(ctx context.Context) (map[string]any, error) {
		return nil, store.Ping(ctx)
	}}}, nil
}

func newTransport(s config.Settings, h *realtime.Handshake, hub *realtime.Hub, log *slog.Logger) (transport, error) {
	if s.Transport == "net" {
		return netws.New(netws.Config{Handshake: h, Acceptor: hub, Log: log})
	}
	return nbiows.New(nbiows.Config{Handshake: h, Acceptor: hub, Log: log})
}

// mount puts everything on one handler.
func (a *App) mount(s config.Settings, publicURL string, keys *jwtauth.Keys, mailbox web.Mailbox, checks []health.Check, log *slog.Logger) error {
	mux := http.NewServeMux()
	api, err := humaapi.New(mux, humaapi.Config{Title: s.Product, Version: Version, TrustedProxies: s.TrustedRanges, Log: log})
	if err != nil {
		return err
	}
	a.API = api
	host := publicURL
	if u, err := url.Parse(publicURL); err == nil {
		host = u.Host
	}
	asyncJSON, asyncYAML, err := AsyncAPI(s.Product, host)
	if err != nil {
		return err
	}
	err = errors.Join(
		humaapi.RegisterAuth(api, humaapi.AuthConfig{
			Service: a.System.Auth, Product: s.Product,
			JWKS: func(context.Context) ([]byte, error) { return keys.JWKS(), nil },
		}),
		humaapi.RegisterMail(api, humaapi.MailConfig{Service: a.System.DeadLetters, Token: s.AdminToken}),
		humaapi.RegisterHealth(api, humaapi.HealthConfig{Checks: checks, Draining: a.System.Hub.Draining}),
		humaapi.RegisterDocs(api, humaapi.DocsConfig{User: s.DocsUser, Password: s.DocsPassword}),
		humaapi.RegisterAsyncAPI(api, asyncJSON, asyncYAML),
		web.Register(mux, web.Config{Product: s.Product, DevMail: mailbox}),
	)
	if err != nil {
		return err
	}
	mux.Handle("GET /socket", a.transport)
	a.Handler = logged(api, log)
	return nil
}

// Run runs the parts until ctx ends and everything that was begun is settled.
func (a *App) Run(ctx context.Context) error {
	// Sockets are carried until the hub has said goodbye on them.
	carry, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	carried := make(chan error, 1)
	go func() {
		carried <- a.transport.Run(carry)
		cancel()
	}()
	err := a.System.Run(ctx)
	stop()
	return errors.Join(err, <-carried)
}

// Close closes what New opened. Closing twice is harmless.
func (a *App) Close() error {
	var errs []error
	if a.bus != nil {
		errs = append(errs, a.bus.Close())
	}
	if a.smtp != nil {
		errs = append(errs, a.smtp.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// probing lets the health check of this very process in.
type probing struct {
	realtime.Authenticator
	secret string
}

func (p probing) Token(ctx context.Context, token string) (realtime.Identity, error) {
	if subtle.ConstantTimeCompare([]byte(token), []byte(p.secret)) == 1 {
		return realtime.Identity{User: chat.Author{ID: "health-check", Name: "Health check"}}, nil
	}
	return p.Authenticator.Token(ctx, token)
}

// dialAddress is where a program that listens on addr reaches itself.
func dialAddress(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// Addresses returns how people and how this process itself reach what listens on addr.
func Addresses(s config.Settings, addr net.Addr) (publicURL, dial string) {
	dial = dialAddress(addr)
	if s.PublicURL != "" {
		return s.PublicURL, dial
	}
	host, _, _ := net.SplitHostPort(s.Listen)
	if host == "" || net.ParseIP(host) != nil && net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(addr.String())
	scheme := "http"
	if s.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port), dial
}

// logged writes a line for each request that failed, and at debug level for each. Queries are
// left out: they hold codes and tickets.
func logged(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/socket" {
			next.ServeHTTP(w, r) // must be able to take over the connection
			return
		}
		started := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		level := slog.LevelDebug
		switch {
		case rec.status >= 500:
			level = slog.LevelError
		case rec.status >= 400:
			level = slog.LevelInfo
		}
		log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "ms", float64(time.Since(started).Microseconds())/1000)
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// indent is how documents are printed.
func indent(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}
