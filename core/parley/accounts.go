package parley

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

// Accounts is the part that knows people: accounts and sessions, the relay that moves their
// events to the bus, and a janitor that removes what has expired, each hour. It requires the ports Users, SignUps, Sessions, Codes, Nonces, Limiter, Hasher, Issuer,
// Verifier, Outbox, Asides and Publisher.
type Accounts struct {
	Auth *auth.Service
	// Asides is for operators: the events that the relay cannot publish.
	Asides *event.AsideService

	relay   *event.Relay
	janitor *auth.Janitor
}

// NewAccounts checks the configuration, all of it at once, and connects the part.
func NewAccounts(cfg Config) (*Accounts, error) {
	c := settings.Of("parley: Config")
	cfg.defaults(c)
	cfg.accounts(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	p := &Accounts{}
	var errs [4]error
	r := cfg.Relay
	r.Outbox, r.Publisher = cfg.Outbox, cfg.Publisher
	cfg.share(nil, nil, nil, &r.Log)
	p.relay, errs[0] = event.NewRelay(r)
	a := cfg.Auth
	a.Users, a.SignUps, a.Sessions, a.Codes, a.Nonces, a.Limiter = cfg.Users, cfg.SignUps, cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter
	a.Factors = cfg.Factors
	a.Directory, a.Standings, a.Hasher, a.Issuer, a.Verifier = cfg.Directory, cfg.Standings, cfg.Hasher, cfg.Issuer, cfg.Verifier
	cfg.share(&a.Now, &a.NewID, &a.Normalize, &a.Log)
	if !a.Webhooks.Any() {
		a.Webhooks = cfg.Webhooks
	}
	committed := cfg.Auth.Committed
	a.Committed = func() {
		p.relay.Wake()
		if committed != nil {
			committed()
		}
	}
	p.Auth, errs[1] = auth.New(a)
	p.Asides, errs[3] = event.NewAsideService(event.AsideConfig{Asides: cfg.Asides, Replayed: p.relay.Wake})
	p.janitor, errs[2] = auth.NewJanitor(auth.JanitorConfig{
		Sweepers: []auth.Sweeper{cfg.SignUps, cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter}, Now: cfg.Now, Log: cfg.Log,
	})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return p, nil
}

// accounts refuses what is missing for accounts, and ports that stand in the wrong place.
func (cfg *Config) accounts(c *settings.Check) {
	c.Require("Users", cfg.Users == nil)
	c.Require("SignUps", cfg.SignUps == nil)
	c.Require("Sessions", cfg.Sessions == nil)
	c.Require("Codes", cfg.Codes == nil)
	c.Require("Nonces", cfg.Nonces == nil)
	c.Require("Limiter", cfg.Limiter == nil)
	c.Require("Hasher", cfg.Hasher == nil)
	c.Require("Issuer", cfg.Issuer == nil)
	c.Require("Verifier", cfg.Verifier == nil)
	c.Require("Outbox", cfg.Outbox == nil)
	c.Require("Asides", cfg.Asides == nil)
	c.Require("Publisher", cfg.Publisher == nil)
	stray(c, "Auth.Users", cfg.Auth.Users != nil)
	stray(c, "Auth.SignUps", cfg.Auth.SignUps != nil)
	stray(c, "Auth.Sessions", cfg.Auth.Sessions != nil)
	stray(c, "Auth.Standings", cfg.Auth.Standings != nil)
	stray(c, "Auth.Directory", cfg.Auth.Directory != nil)
	stray(c, "Auth.Codes", cfg.Auth.Codes != nil)
	stray(c, "Auth.Factors", cfg.Auth.Factors != nil)
	stray(c, "Auth.Nonces", cfg.Auth.Nonces != nil)
	stray(c, "Auth.Limiter", cfg.Auth.Limiter != nil)
	stray(c, "Auth.Hasher", cfg.Auth.Hasher != nil)
	stray(c, "Auth.Issuer", cfg.Auth.Issuer != nil)
	stray(c, "Auth.Verifier", cfg.Auth.Verifier != nil)
	stray(c, "Relay.Outbox", cfg.Relay.Outbox != nil)
	stray(c, "Relay.Publisher", cfg.Relay.Publisher != nil)
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
