package system

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/bridge"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
)

// Store says where a system keeps what it must not lose.
type Store uint8

// The stores. Both outlive a [System.Restart].
const (
	Memory Store = iota
	SQLite       // a file in a folder of the test
)

// String returns the store's name.
func (s Store) String() string {
	if s == SQLite {
		return "sqlite"
	}
	return "memory"
}

// Transport says what carries the sockets.
type Transport uint8

// The transports. Where the system has no poller, NBIO is Net.
const (
	NBIO Transport = iota
	Net
)

// String returns the transport's name.
func (t Transport) String() string {
	if t == Net {
		return "net"
	}
	return "nbio"
}

// Config says what system to start. The zero Config is a good one.
type Config struct {
	Store     Store
	Transport Transport
	// Nodes is how many nodes have sockets and the calls of rooms. Each has a hub and an address of its own; they share
	// the stores, the recent messages, the bus, the fan-out and presence. Default 1.
	Nodes int

	// Ports, if set, may replace or wrap ports before the parts are connected. It is called
	// at the start and at each restart, once for each node.
	Ports func(*parley.Ports)
	// Closed, if set, is called once the parts have ended, at each restart too: it closes what Ports has opened. After that
	// nothing may be left of either.
	Closed func() error

	// Auth, Worker, Chat, Hub and Relay are given to the parts. What is not set has the
	// part's own default, except: Auth.SignInRate and Auth.MailRate are 10,000 a minute.
	Auth   auth.Config
	Worker mail.WorkerConfig
	Chat   chat.Config
	Hub    realtime.HubConfig
	Relay  event.RelayConfig

	// Origins may open sockets besides the system's own.
	Origins []string
	// Protocols lists the subprotocols of the sockets. Default: Parley's own.
	Protocols []string
	// SocketIO serves Socket.IO clients at /socket.io/ of each node, under the old names: see package bridge.
	SocketIO bool
	// NoRecovery serves them without connection state recovery.
	NoRecovery bool
	// NoQueryToken refuses tokens in the query of their handshake.
	NoQueryToken bool
	// MaxMessage is the longest message of a client in bytes. Default: the transport's.
	MaxMessage int
	// Compress agrees to compression with clients that offer it, of messages of any length.
	Compress bool
	// Log gets what operators would read. Default: the test's output, from level Info on.
	Log *slog.Logger
}

// System is a running system. Its methods may be called from many goroutines, but Restart
// from one at a time.
type System struct {
	// URL is where the HTTP API is, without a slash at the end: "http://127.0.0.1:…".
	URL string
	// SocketURL is where the sockets of the first node are: "ws://127.0.0.1:…/socket".
	SocketURL string
	// SocketURLs is where those of each node are, the first node's first.
	SocketURLs []string
	// AdminToken opens the operations below /mail.
	AdminToken string
	// Mailbox gets the mails.
	Mailbox *testkit.Mailbox

	cfg       Config
	label     string
	listeners []*net.TCPListener // one for each node; the first has everything else as well
	memory    *memory.Store
	file      string // of the SQLite store
	keys      *jwtauth.Keys
	ahead     atomic.Int64 // nanoseconds that the clock was moved
	users     atomic.Int64
	client    *http.Client

	mu      sync.Mutex // held for as long as a restart takes
	running *process   // nil before and after
	parts   *parley.System
}

// process is what one start begins and a stop ends.
type process struct {
	parts   *parley.System
	bus     *watermillbus.Bus
	store   *bunstore.Store
	ctx     context.Context // of everything that runs
	stop    context.CancelFunc
	ended   []<-chan error // of the nodes
	servers []*http.Server
	served  []<-chan error
}

// transport carries sockets.
type transport interface {
	http.Handler
	engineio.Upgrader
	Run(ctx context.Context) error
}

// started numbers the systems of this process, so that their goroutines can be told apart.
var started atomic.Int64

// stopTimeout bounds how long a stop may take.
const stopTimeout = 30 * time.Second

// Start starts a system and returns when it serves. It ends with the test. What cannot be
// started fails the test at once.
func Start(t testing.TB, cfg Config) *System {
	t.Helper()
	s := &System{
		AdminToken: rand.Text(), Mailbox: testkit.NewMailbox(),
		cfg: cfg, label: fmt.Sprint(started.Add(1)),
		memory: memory.NewStore(),
		client: &http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		err := s.end()
		for _, l := range s.listeners {
			err = errors.Join(err, l.Close())
		}
		if err != nil {
			t.Errorf("system: %v", err)
		}
	})
	for range max(1, cfg.Nodes) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("system: %v", err)
		}
		s.listeners = append(s.listeners, listener.(*net.TCPListener)) // net.Listen promises it for "tcp"
		s.SocketURLs = append(s.SocketURLs, "ws://"+listener.Addr().String()+"/socket")
	}
	s.URL, s.SocketURL = "http://"+s.listeners[0].Addr().String(), s.SocketURLs[0]
	if s.cfg.Log == nil {
		s.cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, r := range []*auth.Rate{&s.cfg.Auth.SignInRate, &s.cfg.Auth.MailRate} {
		if *r == (auth.Rate{}) {
			*r = auth.Rate{Burst: 10_000, Per: time.Minute}
		}
	}
	if cfg.Store == SQLite {
		s.file = filepath.Join(t.TempDir(), "parley.db")
	}
	var err error
	if s.keys, err = jwtauth.NewKeys(jwtauth.KeysConfig{Now: s.Now}); err != nil {
		t.Fatalf("system: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(); err != nil {
		t.Fatalf("system: %v", err)
	}
	return s
}

// Now returns the system's time.
func (s *System) Now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// Advance lets the system's time jump by d. What waits by a timer, such as the next look at
// a queue, is not woken.
func (s *System) Advance(d time.Duration) { s.ahead.Add(int64(d)) }

// Parts returns the connected parts: those of now, for a restart replaces them. During a
// restart it waits.
func (s *System) Parts() *parley.System {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts
}

// Restart stops the system, as a program is stopped, and starts it again on the same
// address, with the same store, keys and mailbox. Meanwhile connections wait. What a program
// has in memory is gone: who is present, what is cached, how much of a limit was used.
func (s *System) Restart(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.end(), s.begin()); err != nil {
		t.Fatalf("system: restart: %v", err)
	}
}

// begin starts a process, with its goroutines under the system's label. s.mu is held.
func (s *System) begin() (err error) {
	pprof.Do(context.Background(), pprof.Labels(labelKey, s.label), func(context.Context) {
		p := &process{}
		if err = s.start(p); err != nil {
			err = errors.Join(err, p.close())
			return
		}
		s.running, s.parts = p, p.parts
	})
	return err
}

func (s *System) start(p *process) error {
	ports, checks, err := s.ports(p)
	if err != nil {
		return err
	}
	fanout := memory.NewFanout()
	p.ctx, p.stop = context.WithCancel(context.Background())
	for i, listener := range s.listeners {
		cfg := parley.Config{
			Ports: ports, PublicURL: s.URL, Origins: s.cfg.Origins, Protocols: s.cfg.Protocols, Now: s.Now, Log: s.cfg.Log,
			Auth: s.cfg.Auth, Worker: s.cfg.Worker, Chat: s.cfg.Chat, Hub: s.cfg.Hub, Relay: s.cfg.Relay,
		}
		if s.cfg.SocketIO {
			cfg.Hub.Formats = maps.Clone(cfg.Hub.Formats)
			if cfg.Hub.Formats == nil {
				cfg.Hub.Formats = map[string]protocol.NewFormat{}
			}
			cfg.Hub.Formats[bridge.Protocol] = bridge.RecoveryFormat
			if s.cfg.NoRecovery {
				cfg.Hub.Formats[bridge.Protocol] = bridge.Format
			}
		}
		cfg.Fanout, cfg.Hub.Node = fanout.Node(), fmt.Sprint("node-", i+1)
		if s.cfg.Ports != nil {
			s.cfg.Ports(&cfg.Ports)
		}
		if err := listener.SetDeadline(time.Time{}); err != nil { // a stop may have set one
			return err
		}
		if i == 0 {
			err = s.first(p, cfg, checks)
		} else {
			err = s.further(p, cfg, listener)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// first starts everything, with the first node.
func (s *System) first(p *process, cfg parley.Config, checks []health.Check) error {
	var err error
	if p.parts, err = parley.New(cfg); err != nil {
		return err
	}
	carrier, err := s.carrier(p.parts.Node, p.parts.Authenticator())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	api, err := humaapi.New(mux, humaapi.Config{Log: s.cfg.Log})
	if err != nil {
		return err
	}
	err = errors.Join(
		humaapi.RegisterAuth(api, humaapi.AuthConfig{
			Service: p.parts.Auth, JWKS: func(context.Context) ([]byte, error) { return s.keys.JWKS(), nil },
		}),
		humaapi.RegisterRooms(api, humaapi.RoomsConfig{Service: p.parts.Chat, Identify: p.parts.Identify}),
		humaapi.RegisterEvents(api, humaapi.EventsConfig{Service: p.parts.Asides, Token: s.AdminToken}),
		humaapi.RegisterMail(api, humaapi.MailConfig{Service: p.parts.DeadLetters, Token: s.AdminToken}),
		humaapi.RegisterHealth(api, humaapi.HealthConfig{Checks: checks, Draining: p.parts.Hub.Draining}),
	)
	if err != nil {
		return err
	}
	carrier.mount(mux)
	p.serve(s.listeners[0], api, s.cfg.Log)
	p.run(carrier, p.parts.Run)
	return nil
}

// further starts one more node, and returns when it hears of sessions that end.
func (s *System) further(p *process, cfg parley.Config, listener *net.TCPListener) error {
	cfg.Authenticator = p.parts.Authenticator()
	node, err := parley.NewNode(cfg)
	if err != nil {
		return err
	}
	carrier, err := s.carrier(node, cfg.Authenticator)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	api, err := humaapi.New(mux, humaapi.Config{Log: s.cfg.Log})
	if err != nil {
		return err
	}
	if err := humaapi.RegisterRooms(api, humaapi.RoomsConfig{Service: node.Chat, Identify: node.Identify}); err != nil {
		return err
	}
	carrier.mount(mux)
	p.serve(listener, api, s.cfg.Log)
	ready := make(chan struct{})
	ended := p.run(carrier, func(ctx context.Context) error { return node.Run(ctx, func() { close(ready) }) })
	select {
	case <-ready:
		return nil
	case <-ended:
		return errors.New("a node has ended at once")
	}
}

// serve answers requests until the process is closed.
func (p *process) serve(listener *net.TCPListener, handler http.Handler, log *slog.Logger) {
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	p.servers, p.served = append(p.servers, server), append(p.served, served)
	go func() { served <- server.Serve(kept{listener}) }()
}

// run runs a node until the process is closed. The channel that it returns is closed when the
// node has ended.
func (p *process) run(carrier *carrier, parts func(context.Context) error) <-chan struct{} {
	failure, ended := make(chan error, 1), make(chan struct{})
	p.ended = append(p.ended, failure)
	go func() {
		defer close(ended)
		failure <- run(p.ctx, parts, carrier)
	}()
	return ended
}

// ports makes the adapters.
func (s *System) ports(p *process) (parley.Ports, []health.Check, error) {
	const issuerName = "parley-test"
	var none parley.Ports
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: s.keys, Issuer: issuerName})
	if err != nil {
		return none, nil, err
	}
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: s.keys.PublicKey, Issuer: issuerName, Now: s.Now})
	if err != nil {
		return none, nil, err
	}
	p.bus, err = watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Groups: map[string][]string{mail.Topic: {mail.Group}}})
	if err != nil {
		return none, nil, err
	}
	ports := parley.Ports{
		Hasher: memory.NewHasher(), Issuer: issuer, Verifier: verifier,
		Limiter:   memory.NewLimiter(memory.LimiterConfig{}),
		Publisher: p.bus, Subscriber: p.bus, Sender: s.Mailbox,
		Recent:   memory.NewRecentCache(memory.RecentCacheConfig{Messages: 20}),
		Presence: memory.NewPresence(),
	}
	if s.cfg.Store == Memory {
		return ports.With(s.memory.Ports()), nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	// A test wants to survive a restart, not a loss of power.
	if p.store, err = bunstore.OpenSQLite(ctx, s.file, bunstore.SQLiteConfig{RelaxedSync: true}); err != nil {
		return none, nil, err
	}
	if err := p.store.Migrate(ctx); err != nil {
		return none, nil, err
	}
	db := p.store
	kept := db.Ports()
	kept.Limiter = nil // a restart gives everybody their allowance back
	return ports.With(kept), []health.Check{{Name: "database", Probe: func(ctx context.Context) (map[string]any, error) {
		return nil, db.Ping(ctx)
	}}}, nil
}

// carrier is a transport, and Socket.IO on it if that is to be.
type carrier struct {
	transport
	socketIO *socketio.Server
}

func (s *System) carrier(node *parley.Node, who socket.Authenticator) (*carrier, error) {
	t, err := s.transport(node)
	if err != nil || !s.cfg.SocketIO {
		return &carrier{transport: t}, err
	}
	cfg := bridge.Config{Acceptor: node.Hub, Authenticator: who, NoQueryToken: s.cfg.NoQueryToken}
	if !s.cfg.NoRecovery {
		cfg.Recovery = node.Hub
	}
	main, err := bridge.Namespace(cfg)
	if err != nil {
		return nil, err
	}
	server, err := socketio.New(socketio.Config{
		Engine:     engineio.Config{Upgrader: t, Origins: s.cfg.Origins},
		Namespaces: map[string]socketio.Namespace{"/": main}, Forget: true, Log: s.cfg.Log,
	})
	return &carrier{transport: t, socketIO: server}, err
}

func (c *carrier) mount(mux *http.ServeMux) {
	mux.Handle("GET /socket", c.transport)
	if c.socketIO != nil {
		mux.Handle("/socket.io/", c.socketIO)
	}
}

// Run ends the sessions of Socket.IO before the transport that they ride on.
func (c *carrier) Run(ctx context.Context) error {
	if c.socketIO == nil {
		return c.transport.Run(ctx)
	}
	carry, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	carried := make(chan error, 1)
	go func() { carried <- c.transport.Run(carry) }()
	err := c.socketIO.Run(ctx)
	stop()
	return errors.Join(err, <-carried)
}

func (s *System) transport(node *parley.Node) (transport, error) {
	cfg := socket.TransportConfig{
		Handshake: node.Handshake, Acceptor: node.Hub, MaxMessage: s.cfg.MaxMessage, Compress: s.cfg.Compress, CompressFrom: 1, Log: s.cfg.Log,
	}
	if s.cfg.Transport == NBIO {
		server, err := nbiows.New(cfg)
		if !errors.Is(err, errors.ErrUnsupported) {
			return server, err
		}
	}
	return netws.New(cfg)
}

// run runs a node, and carries sockets until its hub has said goodbye on them.
func run(ctx context.Context, parts func(context.Context) error, carrier *carrier) error {
	carry, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	carried := make(chan error, 1)
	go func() {
		carried <- carrier.Run(carry)
		cancel()
	}()
	err := parts(ctx)
	stop()
	return errors.Join(err, <-carried)
}

// end stops what runs, and reports what failed and what was left behind. Ending twice is
// harmless. s.mu is held.
func (s *System) end() error {
	if s.running == nil {
		return nil
	}
	err := s.running.close()
	s.running = nil
	if s.cfg.Closed != nil {
		err = errors.Join(err, s.cfg.Closed())
	}
	s.client.CloseIdleConnections()
	if left := await(s.label, stopTimeout); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("%d goroutines were left behind:\n%s", len(left), strings.Join(left, "\n\n")))
	}
	return err
}

// close ends a process, begun or half begun.
func (p *process) close() error {
	var errs []error
	if p.stop != nil {
		p.stop()
		late := time.NewTimer(stopTimeout)
		defer late.Stop()
		for _, ended := range p.ended {
			select {
			case err := <-ended:
				errs = append(errs, err)
			case <-late.C:
				errs = append(errs, errors.New("the parts do not stop"))
				late.Reset(0) // for the others
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		for i, server := range p.servers {
			errs = append(errs, server.Shutdown(ctx))
			if err := <-p.served[i]; !errors.Is(err, http.ErrServerClosed) {
				errs = append(errs, err)
			}
		}
	}
	if p.bus != nil {
		errs = append(errs, p.bus.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
	}
	return errors.Join(errs...)
}

// kept is a listener that survives a server, so that a restart keeps its address.
type kept struct{ *net.TCPListener }

// Close ends an Accept that waits.
func (k kept) Close() error { return k.SetDeadline(time.Unix(1, 0)) }

// labelKey is the profiler label of a system's goroutines. Goroutines inherit it.
const labelKey = "parley-system"

// await waits until no goroutine has the label, and returns those that still do in the end.
func await(label string, most time.Duration) []string {
	deadline := time.Now().Add(most)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		left := labelled(label)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		// A goroutine cannot be waited for from outside: those of net/http end by themselves.
		time.Sleep(wait)
	}
}

// labelled returns the stack of each goroutine with the label.
func labelled(label string) []string {
	var all strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return []string{err.Error()}
	}
	var left []string
	// A paragraph is "2 @ 0x…", labels and a stack: of two goroutines here.
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if !strings.Contains(stack, fmt.Sprintf("%q:%q", labelKey, label)) {
			continue
		}
		if i := strings.Index(stack, "goroutine profile:"); i == 0 { // the first has the profile's heading
			_, stack, _ = strings.Cut(stack, "\n")
		}
		count, _, _ := strings.Cut(stack, " @ ")
		n, err := strconv.Atoi(strings.TrimSpace(count))
		if err != nil {
			n = 1
		}
		left = append(left, slices.Repeat([]string{stack}, n)...)
	}
	return left
}
