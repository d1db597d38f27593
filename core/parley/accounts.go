package parley

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/socket"
)

// Accounts is the part that knows people: accounts and sessions, the relay that moves their
// events to the bus, and a janitor that removes what has expired, each hour. It requires the ports Users, SignUps, Sessions, Codes, Nonces, Limiter, Hasher, Issuer,
// Verifier, Outbox and Publisher.
type Accounts struct {
	Auth *auth.Service

	relay   *event.Relay
	janitor *auth.Janitor
}

// NewAccounts checks the configuration, all of it at once, and connects the part.
func NewAccounts(cfg Config) (*Accounts, error) {
	err := cfg.prepare("Users", "SignUps", "Sessions", "Codes", "Nonces", "Limiter", "Hasher", "Issuer", "Verifier", "Outbox", "Publisher")
	if err != nil {
		return nil, err
	}
	p := &Accounts{}
	var errs [3]error
	cfg.Relay.Outbox, cfg.Relay.Publisher, cfg.Relay.Log = cfg.Outbox, cfg.Publisher, cfg.Log
	p.relay, errs[0] = event.NewRelay(cfg.Relay)
	a := cfg.Auth
	a.Users, a.SignUps, a.Sessions, a.Codes, a.Nonces, a.Limiter = cfg.Users, cfg.SignUps, cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter
	a.Hasher, a.Issuer, a.Verifier = cfg.Hasher, cfg.Issuer, cfg.Verifier
	a.Normalize = cfg.Normalize
	a.Now, a.NewID, a.Log, a.Committed = cfg.Now, cfg.NewID, cfg.Log, func() { p.relay.Wake() }
	p.Auth, errs[1] = auth.New(a)
	p.janitor, errs[2] = auth.NewJanitor(auth.JanitorConfig{
		Sweepers: []auth.Sweeper{cfg.SignUps, cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter}, Now: cfg.Now, Log: cfg.Log,
	})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return p, nil
}

// Run moves events to the bus and removes what is expired until ctx ends, and returns nil. It may
// be called once.
func (p *Accounts) Run(ctx context.Context) error {
	g := newGroup(ctx)
	g.run("relay", p.relay.Run)
	g.run("janitor", p.janitor.Run)
	return g.wait()
}

// Authenticator lets sockets in by access token or ticket, while the session lives.
func (p *Accounts) Authenticator() socket.Authenticator { return Authenticate(p.Auth) }
