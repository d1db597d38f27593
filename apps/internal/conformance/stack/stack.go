// Package stack runs the programs of this module in the process of a test, with nothing but what
// their environment would say, so that tests prove them on real servers. It is for tests alone.
package stack

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/run"
	"github.com/parley-chat/parley/testkit/scenario"
)

// patience bounds the start and the end of a program.
const patience = 60 * time.Second

// Program is one running program.
type Program struct {
	// URL is where it serves, without a slash at the end.
	URL string
	// AdminURL is where it serves operators, without a slash at the end.
	AdminURL string

	name  config.Program
	env   []string
	stop  context.CancelFunc
	ended chan error
	log   *log
}

// Run starts a program with this environment on a free port, and returns when it serves. It ends
// with t. What cannot be started fails t at once.
func Run(t testing.TB, name config.Program, env ...string) *Program {
	t.Helper()
	p := &Program{name: name, env: append([]string{"PARLEY_LISTEN=127.0.0.1:0", "PARLEY_ADMIN_LISTEN=127.0.0.1:0", "PARLEY_DATA=" + t.TempDir(), "PARLEY_LOG_FORMAT=text"}, env...), log: &log{}}
	if err := p.Start(); err != nil {
		t.Fatalf("stack: %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stack: %s: %v", name, err)
		}
		if t.Failed() {
			t.Logf("%s logged:\n%s", name, p.Log())
		}
	})
	return p
}

// Start starts a program that was stopped, on the address that it had.
func (p *Program) Start() error {
	s, _, err := config.Load(p.name, nil, p.env, p.log)
	if err != nil {
		return err
	}
	if p.URL != "" {
		s.Listen, s.AdminListen = strings.TrimPrefix(p.URL, "http://"), strings.TrimPrefix(p.AdminURL, "http://")
	}
	ctx, stop := context.WithCancel(context.Background())
	serves := make(chan [2]net.Addr, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- run.Serve(ctx, s, p.log, p.log, func(public, admin net.Addr) { serves <- [2]net.Addr{public, admin} })
	}()
	select {
	case at := <-serves:
		p.URL, p.AdminURL, p.stop, p.ended = "http://"+at[0].String(), "http://"+at[1].String(), stop, ended
		return nil
	case err := <-ended:
		stop()
		return fmt.Errorf("it does not start: %w", err)
	case <-time.After(patience):
		stop()
		return fmt.Errorf("it hangs at the start:\n%s", p.Log())
	}
}

// Stop ends the program as SIGTERM does. Stopping twice is harmless.
func (p *Program) Stop() error {
	if p.stop == nil {
		return nil
	}
	p.stop()
	p.stop = nil
	select {
	case err := <-p.ended:
		return err
	case <-time.After(patience):
		return fmt.Errorf("it does not stop:\n%s", p.Log())
	}
}

// Log is what the program has written so far.
func (p *Program) Log() string { return p.log.String() }

// SocketURL is where its sockets are.
func (p *Program) SocketURL() string { return "ws" + strings.TrimPrefix(p.URL, "http") + "/socket" }

// AwaitReady waits until /readyz says so.
func (p *Program) AwaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		status, err := p.get(ctx, "/readyz")
		if status == http.StatusOK {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("stack: %s does not become ready: %d %v\n%s", p.name, status, err, p.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *Program) get(ctx context.Context, path string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	_ = answer.Body.Close()
	return answer.StatusCode, nil
}

// Servers say what services stand on.
type Servers struct {
	// Store returns the store of a service: each gets one of its own.
	Store func(service config.Program) string
	// Bus and Redis are the servers' URLs.
	Bus, Redis string
	// Mails takes the mails. Default: one of its own.
	Mails *mailserver.Server
	// Env is more of the environment, by program.
	Env map[config.Program][]string
}

// Services are the three services, the socket twice.
type Services struct {
	Auth, Mailer *Program
	Sockets      [2]*Program
	Mails        *mailserver.Server
}

// AdminToken opens what is an administrator's.
const AdminToken = "an-administrator"

// Start starts auth, mailer and two socket nodes on these servers, and returns when all of them are
// ready. They end with t.
func Start(t testing.TB, servers Servers) *Services {
	t.Helper()
	s := &Services{Mails: servers.Mails}
	if s.Mails == nil {
		s.Mails = mailserver.Start(t)
	}
	env := func(program config.Program, more ...string) []string {
		all := append([]string{"PARLEY_STORE=" + servers.Store(program), "PARLEY_BUS=" + servers.Bus, "PARLEY_REDIS=" + servers.Redis}, more...)
		return append(all, servers.Env[program]...)
	}
	s.Auth = Run(t, config.Auth, env(config.Auth, "PARLEY_ADMIN_TOKEN="+AdminToken)...)
	keys := "PARLEY_JWKS_URL=" + s.Auth.URL + "/.well-known/jwks.json"
	s.Mailer = Run(t, config.Mailer, env(config.Mailer, keys, "PARLEY_NODE=1", "PARLEY_PUBLIC_URL="+s.Auth.URL,
		"PARLEY_MAIL_SENDER="+s.Mails.URL(), "PARLEY_ADMIN_TOKEN="+AdminToken)...)
	store := servers.Store(config.Socket) // the nodes' together
	for i := range s.Sockets {
		s.Sockets[i] = Run(t, config.Socket, append([]string{"PARLEY_STORE=" + store, "PARLEY_BUS=" + servers.Bus, "PARLEY_REDIS=" + servers.Redis,
			keys, fmt.Sprintf("PARLEY_NODE=%d", i+1)}, servers.Env[config.Socket]...)...)
	}
	for _, p := range []*Program{s.Auth, s.Mailer, s.Sockets[0], s.Sockets[1]} {
		p.AwaitReady(t)
	}
	return s
}

// Stage is where a story can be told.
func (s *Services) Stage() scenario.Stage {
	return scenario.Stage{URL: s.Auth.URL, Sockets: [2]string{s.Sockets[0].SocketURL(), s.Sockets[1].SocketURL()}, Mails: s.Mails}
}

// log is written by many goroutines.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
