// Package wire chooses adapters by configuration and connects them to a program.
package wire

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	vendor "github.com/prometheus/client_golang/prometheus"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/adapters/asyncapi"
	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/otel"
	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/adapters/passlist"
	"github.com/parley-chat/parley/adapters/prometheus"
	"github.com/parley-chat/parley/adapters/renewclient"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/bridge"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/web"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Version is the version of the documents.
const Version = "1.0.0"

const (
	// sendTimeout bounds one attempt to send a mail: one under way must not hold up the end of
	// the program.
	sendTimeout = 4 * time.Second
	// startTimeout bounds what the start waits for.
	startTimeout = 10 * time.Second
	// relayTimeout bounds one publish, and relayPause the wait after one that failed: a bus that
	// is back gets its events within that.
	relayTimeout = 5 * time.Second
	relayPause   = 2 * time.Second
	// clockLeeway is how far the clocks of two machines may be apart.
	clockLeeway = 5 * time.Second
)

// App is one of the programs, connected and not yet running.
type App struct {
	// Handler serves everything.
	Handler http.Handler
	// Admin serves operators: metrics, profiles, health, and what needs the admin token.
	Admin http.Handler
	// API and AdminAPI have the operations of both, for printing the documents.
	API, AdminAPI *humaapi.API

	settings  config.Settings
	registry  *vendor.Registry
	metrics   *prometheus.Metrics
	tracer    *otel.Tracer            // nil where traces are off
	secrets   atomic.Pointer[secrets] // what settings say of them, or what Reload has made of it
	smtp      *changingSender         // nil unless mails go out by SMTP
	screen    *webhook.Screen         // nil where nobody is asked about messages
	hook      *webhook.Endpoint       // nil where nobody is told what has happened
	log       *slog.Logger
	ports     parley.Ports
	audit     *audit.Service
	checks    []health.Check
	box       *filemail.Mailbox // nil unless mails go to the development mailbox
	mailbox   func() []web.Mail // what is in it; likewise nil
	keys      *jwtauth.Keys
	transport transport        // nil without sockets
	socketIO  *socketio.Server // nil where it is off
	draining  atomic.Bool
	parts     func(ctx context.Context) error
	closers   []func() error // in the order in which they were opened
}

// transport carries sockets.
type transport interface {
	http.Handler
	engineio.Upgrader
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

// New builds the program that s is for. publicURL is the base of links; dial is the address under
// which this program reaches itself, for the health check. What it waits for is bounded. Close
// what it returns.
func New(ctx context.Context, s config.Settings, publicURL, dial string, log *slog.Logger) (*App, error) {
	a := &App{settings: s, log: log}
	a.secrets.Store(&secrets{s.AdminToken, s.DocsPassword})
	if err := errors.Join(a.openMetrics(), a.openTraces(ctx)); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	build := map[config.Program]func(ctx context.Context, publicURL, dial string) error{
		config.Parley: a.buildParley, config.Auth: a.buildAuth, config.Mailer: a.buildMailer, config.Socket: a.buildSocket,
	}[s.Program]
	if build == nil {
		return nil, fmt.Errorf("there is no program %q", s.Program)
	}
	if err := build(ctx, publicURL, dial); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *App) buildParley(ctx context.Context, publicURL, dial string) error {
	err := inOrder(
		func() error { return a.openKeys() },
		func() error { return a.openSender(ctx) },
		func() error { return a.openPorts(ctx, mail.Topic, auth.Topic) },
	)
	if err != nil {
		return err
	}
	cfg, err := a.config(publicURL)
	if err != nil {
		return err
	}
	system, err := parley.New(cfg)
	if err != nil {
		return err
	}
	a.parts = system.Run
	return a.mount(publicURL,
		func() error { return a.mountAuth(system.Auth, system.EraseUser) },
		func() error { return a.mountEvents(system.Asides) },
		func() error { return a.mountMail(system.DeadLetters) },
		func() error { return a.mountWebhooks(system.Webhooks) },
		func() error { return a.mountSocket(system.Node, system.Authenticator(), publicURL, dial) },
		func() error { return a.mountRooms(system.Node) },
		func() error {
			return a.mountUsers(humaapi.UsersConfig{Accounts: system.Auth, Mails: system.DeadLetters, Chat: system.Chat, Erase: system.EraseUser})
		},
		a.mountDocs,
		func() error {
			return a.mountPages(a.withPeople(web.Config{DevMail: a.mailbox, Links: a.settings.SignInLink == "on", Factors: a.settings.SecondFactor == "on", PasswordMin: a.settings.PasswordMin}, system.Auth, publicURL))
		},
	)
}

func (a *App) buildAuth(ctx context.Context, publicURL, _ string) error {
	err := inOrder(
		func() error { return a.openKeys() },
		func() error { return a.openPorts(ctx, mail.Topic, auth.Topic) },
	)
	if err != nil {
		return err
	}
	cfg, err := a.config(publicURL)
	if err != nil {
		return err
	}
	accounts, err := parley.NewAccounts(cfg)
	if err != nil {
		return err
	}
	a.parts = accounts.Run
	return a.mount(publicURL,
		func() error { return a.mountAuth(accounts.Auth, accounts.EraseUser) },
		func() error { return a.mountEvents(accounts.Asides) },
		func() error {
			return a.mountUsers(humaapi.UsersConfig{Accounts: accounts.Auth, Erase: accounts.EraseUser})
		},
		func() error {
			return humaapi.RegisterRenewal(a.API, humaapi.RenewalConfig{Renew: accounts.Auth.RenewMail, CurrentToken: a.adminToken})
		},
		a.mountDocs,
		func() error {
			return a.mountPages(web.Config{SocketURL: a.settings.SocketURL, Links: a.settings.SignInLink == "on", Factors: a.settings.SecondFactor == "on", PasswordMin: a.settings.PasswordMin})
		},
	)
}

func (a *App) buildMailer(ctx context.Context, publicURL, _ string) error {
	err := inOrder(
		func() error { return a.openSender(ctx) },
		func() error { return a.openPorts(ctx, mail.Topic) },
	)
	if err != nil {
		return err
	}
	cfg, err := a.config(publicURL)
	if err != nil {
		return err
	}
	client, err := renewclient.New(renewclient.Config{URL: a.settings.RenewURL, Token: a.firstAdminToken})
	if err != nil {
		return err
	}
	cfg.RenewMail = client.Renew
	mailer, err := parley.NewMailer(cfg)
	if err != nil {
		return err
	}
	a.parts = func(ctx context.Context) error { return mailer.Run(ctx, nil) }
	return a.mount(publicURL,
		func() error { return a.mountMail(mailer.DeadLetters) },
		func() error { return a.mountWebhooks(mailer.Webhooks) },
		a.mountDocs,
		func() error { return a.mountPages(web.Config{DevMail: a.mailbox, MailboxOnly: true}) },
	)
}

func (a *App) buildSocket(ctx context.Context, publicURL, dial string) error {
	verifier, err := a.openVerifier(ctx)
	if err != nil {
		return err
	}
	if err := a.openPorts(ctx, auth.Topic); err != nil {
		return err
	}
	gate, err := auth.NewGate(auth.GateConfig{Verifier: verifier, Nonces: a.ports.Nonces})
	if err != nil {
		return err
	}
	cfg, err := a.config(publicURL)
	if err != nil {
		return err
	}
	cfg.Authenticator = parley.Authenticate(gate)
	cfg.Hub.ClockLeeway = clockLeeway
	cfg.Users = nil // the accounts are elsewhere: nobody is in the users of this store
	node, err := parley.NewNode(cfg)
	if err != nil {
		return err
	}
	a.parts = func(ctx context.Context) error { return node.Run(ctx, nil) }
	return a.mount(publicURL,
		func() error { return a.mountSocket(node, cfg.Authenticator, publicURL, dial) },
		func() error { return a.mountRooms(node) },
		func() error { return a.mountUsers(humaapi.UsersConfig{Chat: node.Chat, Erase: node.EraseUser}) },
		a.mountDocs,
	)
}

// inOrder does one after the other, as long as it goes well.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// config is what the settings say of the parts, which count what they do.
func (a *App) config(publicURL string) (parley.Config, error) {
	s := a.settings
	cfg := parley.Config{
		Ports: a.ports, PublicURL: publicURL, Origins: a.origins(publicURL), DrainTimeout: s.DrainTimeout, Janitor: chat.JanitorConfig{Retention: s.Retention}, Log: a.log, Normalize: norm.NFC.String,
		Auth: auth.Config{
			AccessTTL: s.AccessTTL, SessionTTL: s.SessionTTL, SessionMax: s.SessionMax, MaxSessions: s.MaxSessions,
			TakenConflict: s.AuthTaken == "conflict", PasswordMin: s.PasswordMin, Passwords: passlist.New(),
			NoDeviceMail: s.NewDeviceMail == "off", NoPasswordMail: s.PasswordMail == "off", NoFactorMail: s.FactorMail == "off",
			Links: s.SignInLink == "on", LinkTTL: s.LinkTTL,
			FreshFor: s.FreshFor, FactorRate: auth.Rate{Burst: s.FactorBurst, Per: 10 * time.Minute},
			SignInRate:   auth.Rate{Burst: s.SignInBurst, Per: time.Minute},
			MailRate:     auth.Rate{Burst: s.MailBurst, Per: 10 * time.Minute},
			CodeRate:     auth.Rate{Burst: s.CodeBurst, Per: time.Minute},
			RefreshRate:  auth.Rate{Burst: s.RefreshBurst, Per: time.Minute},
			TicketRate:   auth.Rate{Burst: s.TicketBurst, Per: time.Minute},
			LocalLimiter: memory.NewLimiter(memory.LimiterConfig{}),
		},
		Worker:    mail.WorkerConfig{SendTimeout: sendTimeout},
		Templates: s.Templates(),
		Hub:       realtime.HubConfig{Node: a.node(), Rate: s.SocketRate, Burst: s.SocketBurst, MaxConnections: s.MaxConns, MaxUserConnections: s.MaxUserConns, Formats: formats(s)},
		Relay:     event.RelayConfig{Timeout: relayTimeout, MaxBackoff: relayPause},
	}
	if err := errors.Join(a.openLeaked(&cfg.Auth), a.openFactors(&cfg.Auth), a.openScreen(&cfg.Chat), a.openWebhooks(&cfg)); err != nil {
		return parley.Config{}, err
	}
	if a.tracer != nil {
		cfg = a.tracer.Instrument(cfg)
	}
	return a.metrics.Instrument(cfg)
}

// formats are the wire formats of sockets besides parley.v1.
func formats(s config.Settings) map[string]protocol.NewFormat {
	if s.SocketIO != "on" {
		return nil
	}
	if s.SocketIORecovery == "on" {
		return map[string]protocol.NewFormat{bridge.Protocol: bridge.RecoveryFormat}
	}
	return map[string]protocol.NewFormat{bridge.Protocol: bridge.Format}
}

// origins lists whose pages may use this: those that are listed, and that of the public URL, which a
// proxy that does not pass Host on would make a stranger's.
func (a *App) origins(publicURL string) []string {
	list := slices.Clone(a.settings.Origins)
	if own, err := socket.OriginOf(publicURL); err == nil {
		list = append(list, own)
	}
	return list
}

// node names this run of the program among its kind: who was present by a run that was killed
// must not be taken for present by the next one.
func (a *App) node() string {
	run := rand.Text()[:8]
	if a.settings.Node == "" {
		return run
	}
	return a.settings.Node + "." + run
}

// openKeys opens the keys that sign tokens, and what makes and verifies passwords and tokens.
func (a *App) openKeys() error {
	if err := MakeFolder(a.settings.Data); err != nil {
		return fmt.Errorf("the data folder cannot be made: %w", err)
	}
	var err error
	if a.keys, err = jwtauth.NewKeys(jwtauth.KeysConfig{File: KeysFile(a.settings), Algorithm: a.settings.KeyAlgorithm}); err != nil {
		return err
	}
	if signs := a.keys.List()[0].Algorithm; signs != a.settings.KeyAlgorithm {
		a.log.Info("the key that signs tokens is of another algorithm than PARLEY_KEY_ALGORITHM says, until keys are rotated", "algorithm", signs)
	}
	if a.ports.Issuer, err = jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: a.keys, Issuer: a.settings.Issuer}); err != nil {
		return err
	}
	if a.ports.Verifier, err = jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: a.keys.PublicKey, Issuer: a.settings.Issuer}); err != nil {
		return err
	}
	hashing, err := a.settings.PasswordHashing()
	if err != nil {
		return err
	}
	hasher, err := passhash.New(hashing)
	if err != nil {
		return err
	}
	a.ports.Hasher = hasher
	return a.metrics.WatchHashes(hasher.Waiting)
}

// mount makes the handler, lets each step add to it, and completes it with the health of what was
// opened.
func (a *App) mount(publicURL string, steps ...func() error) error {
	mux := http.NewServeMux()
	s := a.settings
	api, err := humaapi.New(mux, humaapi.Config{Title: s.Product, Version: Version, TrustedProxies: s.TrustedRanges, Origins: a.origins(publicURL), Observe: a.metrics.Request, Log: a.log})
	if err != nil {
		return err
	}
	a.API = api
	steps = slices.Concat([]func() error{a.openAudit, a.keepKeys, a.openAdmin}, steps, []func() error{a.mountAdmin, a.mountHealth})
	if err := inOrder(steps...); err != nil {
		return err
	}
	a.Handler, a.Admin = a.traced(logged(a.besideAPI(api), a.log)), logged(a.AdminAPI, a.log)
	return nil
}

// mountHealth shows everybody and operators the health of what was opened.
func (a *App) mountHealth() error {
	cfg := humaapi.HealthConfig{Checks: a.checks, Draining: a.draining.Load}
	return errors.Join(humaapi.RegisterHealth(a.API, cfg), humaapi.RegisterHealth(a.AdminAPI, cfg), a.metrics.WatchHealth(a.checks))
}

func (a *App) mountAuth(service *auth.Service, erase func(context.Context, string) (parley.UserErasure, error)) error {
	return humaapi.RegisterAuth(a.API, humaapi.AuthConfig{
		Service: service, Product: a.settings.Product, Erase: erase, Audit: a.audit,
		JWKS: func(context.Context) ([]byte, error) { return a.keys.JWKS(), nil },
	})
}

func (a *App) mountMail(service *mail.DeadLetterService) error {
	return humaapi.RegisterMail(a.AdminAPI, humaapi.MailConfig{Service: service, CurrentToken: a.adminToken})
}

func (a *App) mountEvents(service *event.AsideService) error {
	return humaapi.RegisterEvents(a.AdminAPI, humaapi.EventsConfig{Service: service, CurrentToken: a.adminToken})
}

// mountUsers lets operators look at users, export and erase them.
func (a *App) mountUsers(cfg humaapi.UsersConfig) error {
	cfg.CurrentToken = a.adminToken
	return humaapi.RegisterUsers(a.AdminAPI, cfg)
}

// mountRooms lets users and operators do over REST what they do on sockets, users as often as one connection of theirs may.
func (a *App) mountRooms(node *parley.Node) error {
	s := a.settings
	cfg := humaapi.RoomsConfig{Service: node.Chat, Identify: node.Identify}
	if s.SocketRate > 0 {
		cfg.Limiter = memory.NewLimiter(memory.LimiterConfig{})
		cfg.Rate = auth.Rate{Burst: s.SocketBurst, Per: time.Duration(s.SocketBurst) * time.Second / time.Duration(s.SocketRate)}
	}
	return errors.Join(
		humaapi.RegisterRooms(a.API, cfg),
		humaapi.RegisterRoomsAdmin(a.AdminAPI, humaapi.RoomsAdminConfig{Service: node.Chat, CurrentToken: a.adminToken}),
	)
}

func (a *App) mountDocs() error {
	cfg := humaapi.DocsConfig{User: a.settings.DocsUser, CurrentPassword: func() string { return a.secrets.Load().docs }}
	return errors.Join(humaapi.RegisterDocs(a.API, cfg), humaapi.RegisterDocs(a.AdminAPI, cfg))
}

func (a *App) mountPages(cfg web.Config) error {
	if a.settings.DevMailbox != "public" {
		cfg.MailboxFor = func(r *http.Request) error { return fromThisMachine(r, a.settings.TrustedRanges) }
	}
	cfg.Product = a.settings.Product
	return web.Register(a.API.Mux(), cfg)
}

// mountSocket puts the socket and its document onto the API.
func (a *App) mountSocket(node *parley.Node, who socket.Authenticator, publicURL, dial string) error {
	s := a.settings
	probe := rand.Text()
	throttle, err := auth.NewThrottle(auth.ThrottleConfig{
		Limiter: memory.NewLimiter(memory.LimiterConfig{}), Action: "handshake", Rate: auth.Rate{Burst: s.HandshakeBurst, Per: time.Minute},
	})
	if err != nil {
		return err
	}
	allow := func(r *http.Request) error {
		address := humaapi.ClientAddress(r, s.TrustedRanges)
		if !address.IsValid() {
			return nil
		}
		return throttle.Allow(r.Context(), address.String())
	}
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{
		Authenticator: probing{who, probe}, Origins: a.origins(publicURL), Draining: node.Hub.Draining, Allow: allow,
	})
	if err != nil {
		return err
	}
	carries := socket.TransportConfig{Handshake: handshake, Acceptor: node.Hub, Compress: s.Compression == "on", Log: a.log}
	if s.Transport == "net" {
		a.transport, err = netws.New(carries)
	} else {
		a.transport, err = nbiows.New(carries)
	}
	if err != nil {
		return err
	}
	if err := a.openSocketIO(node, who, publicURL, allow); err != nil {
		return err
	}
	host := publicURL
	if u, err := url.Parse(publicURL); err == nil {
		host = u.Host
	}
	asJSON, asYAML, err := AsyncAPI(s.Product, host)
	if err != nil {
		return err
	}
	a.API.Mux().Handle("GET /socket", a.transport)
	if err := a.metrics.WatchHub(node.Hub, s.Transport); err != nil {
		return err
	}
	a.checks = append(a.checks, socketCheck(dial, probe, s.TLSCert != ""))
	return humaapi.RegisterAsyncAPI(a.API, asJSON, asYAML)
}

// Run runs the parts until ctx ends and everything that was begun is settled. ready is called once, when
// the program may be reached: what it cannot do without is open by then.
func (a *App) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { a.draining.Store(true) })()
	if a.transport == nil {
		ready()
		return a.parts(ctx)
	}
	// Sockets are carried until the hub has said goodbye on them.
	carry, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	carried := make(chan error, 1)
	go func() {
		carried <- a.transport.Run(carry)
		cancel()
	}()
	select {
	case <-a.transport.Ready():
		ready()
	case <-ctx.Done():
	}
	// Sessions of Socket.IO ride on the transport, and so end before it.
	serve, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	served := make(chan error, 1)
	go func() {
		var err error
		if a.socketIO != nil {
			err = a.socketIO.Run(serve)
		}
		served <- err
	}()
	err := a.parts(ctx)
	end()
	err = errors.Join(err, <-served)
	stop()
	return errors.Join(err, <-carried)
}

// Close closes what New opened. Closing twice is harmless.
func (a *App) Close() error {
	var errs []error
	for _, c := range slices.Backward(a.closers) {
		errs = append(errs, c())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// probing lets the health check of this very process in.
type probing struct {
	socket.Authenticator
	secret string
}

func (p probing) Token(ctx context.Context, token string) (user.Identity, error) {
	if subtle.ConstantTimeCompare([]byte(token), []byte(p.secret)) == 1 {
		return user.Identity{UserID: "health-check", Name: "Health check"}, nil
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
	_, port, _ := net.SplitHostPort(addr.String())
	return s.AddressURL(port), dial
}

// logged writes a line for each request that failed, and at debug level for each. Queries are
// left out: they hold codes and tickets.
func logged(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/socket" || r.Header.Get("Upgrade") != "" && strings.HasPrefix(r.URL.Path, socketIOPath) {
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
		log.Log(r.Context(), level, "request", "method", r.Method, "path", loggedPath(r.URL.Path), "status", rec.status, "ms", float64(time.Since(started).Microseconds())/1000)
	})
}

// private are beginnings of paths behind which stand names of rooms, which are what people have written, and addresses of users.
var private = []string{"/rooms/", web.Rooms, "/admin/users/"}

// loggedPath is a path without what is private, however the client has written it.
func loggedPath(written string) string {
	cleaned := path.Clean(written)
	for _, begin := range private {
		if strings.HasPrefix(written, begin) || strings.HasPrefix(cleaned, begin) {
			return begin + "…"
		}
	}
	return written
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

// AsyncAPI returns the document of the sockets and the bus of these programs, in JSON and YAML.
func AsyncAPI(title, server string) (asJSON, asYAML []byte, err error) {
	return asyncapi.Document(asyncapi.Config{
		Schema: protocol.Own(), Title: title, Version: Version, Server: server, ReasonHeader: watermillbus.MetaReason,
	})
}
