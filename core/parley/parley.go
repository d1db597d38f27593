// Package parley puts the services of core together over the ports that it is given: accounts,
// mail and real-time chat as one [System], which a program mounts on a server of its own.
//
// It stands last in core's import order and holds no rule: what is decided is decided in
// auth, mail, chat and realtime. A program that wants only a part builds that part itself,
// with the constructor of its package.
package parley

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// Ports is one adapter for each port. All of them are required.
type Ports struct {
	Users    user.Repository
	Sessions auth.SessionStore
	Codes    auth.CodeStore
	Nonces   auth.Nonces
	Limiter  auth.Limiter
	Hasher   auth.Hasher
	Issuer   auth.TokenIssuer
	Verifier auth.TokenVerifier

	// Outbox is where Users and Sessions put their events.
	Outbox     event.Outbox
	Publisher  event.Publisher
	Subscriber event.Subscriber

	MailQueue   mail.Queue
	DeadLetters mail.DeadLetters
	MailStats   mail.Stats
	Sender      mail.Sender

	Messages chat.MessageStore
	Rooms    chat.Rooms
	Members  chat.Members
	Recent   chat.RecentCache

	Fanout   realtime.Fanout
	Presence realtime.Presence
}

// Config is what a [System] needs. Zero fields without "required" mean the default.
type Config struct {
	Ports // required
	// PublicURL is the base of links in mails, for example "https://chat.example.com". Required.
	PublicURL string
	// Origins lists the origins that may open sockets besides the server's own. See
	// [realtime.HandshakeConfig].
	Origins []string
	// Sweepers are stores from which what is expired is removed each hour. Default: those of
	// Sessions, Codes, Nonces and Limiter that are an [auth.Sweeper].
	Sweepers []auth.Sweeper
	// DrainTimeout is how long Run lets connections close once its context has ended. Default 5 seconds.
	DrainTimeout time.Duration

	// Auth, Worker, Templates, Chat, Hub and Relay set what is not a port; their ports and
	// their clocks, identifiers and logs come from this Config.
	Auth      auth.Config
	Worker    mail.WorkerConfig
	Templates mail.TemplateConfig
	Chat      chat.Config
	Hub       realtime.HubConfig
	Relay     event.RelayConfig

	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers that ascend with time. Default event.NewID.
	NewID func() string
	// Log gets what operators should know. Default: nothing.
	Log *slog.Logger
}

// System is everything, connected. Its parts may be used from many goroutines while
// [System.Run] runs.
type System struct {
	Auth        *auth.Service
	Chat        *chat.Service
	Hub         *realtime.Hub
	Handshake   *realtime.Handshake
	DeadLetters *mail.DeadLetterService

	subscriber   event.Subscriber
	relay        *event.Relay
	consumer     *mail.Consumer
	worker       *mail.Worker
	janitor      *auth.Janitor
	drainTimeout time.Duration
	log          *slog.Logger
}

// New checks the configuration, all of it at once, and connects the parts.
func New(cfg Config) (*System, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.DrainTimeout <= 0 {
		cfg.DrainTimeout = 5 * time.Second
	}
	var errs []error
	ports := reflect.ValueOf(cfg.Ports)
	for i := range ports.NumField() {
		if ports.Field(i).IsNil() {
			errs = append(errs, fmt.Errorf("parley: Config.%s is required", ports.Type().Field(i).Name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Sweepers == nil {
		for _, store := range []any{cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter} {
			if s, ok := store.(auth.Sweeper); ok {
				cfg.Sweepers = append(cfg.Sweepers, s)
			}
		}
	}
	s := &System{subscriber: cfg.Subscriber, drainTimeout: cfg.DrainTimeout, log: cfg.Log}
	keep := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error

	cfg.Relay.Outbox, cfg.Relay.Publisher, cfg.Relay.Log = cfg.Outbox, cfg.Publisher, cfg.Log
	s.relay, err = event.NewRelay(cfg.Relay)
	keep(err)

	a := cfg.Auth
	a.Users, a.Sessions, a.Codes, a.Nonces, a.Limiter = cfg.Users, cfg.Sessions, cfg.Codes, cfg.Nonces, cfg.Limiter
	a.Hasher, a.Issuer, a.Verifier = cfg.Hasher, cfg.Issuer, cfg.Verifier
	a.Now, a.NewID, a.Log, a.Committed = cfg.Now, cfg.NewID, cfg.Log, func() { s.relay.Wake() }
	s.Auth, err = auth.New(a)
	keep(err)
	if len(cfg.Sweepers) > 0 {
		s.janitor, err = auth.NewJanitor(auth.JanitorConfig{Sweepers: cfg.Sweepers, Now: cfg.Now, Log: cfg.Log})
		keep(err)
	}

	if cfg.Templates.PublicURL == "" {
		cfg.Templates.PublicURL = cfg.PublicURL
	}
	w := cfg.Worker
	w.Queue, w.Sender, w.Now, w.Log = cfg.MailQueue, cfg.Sender, cfg.Now, cfg.Log
	if w.Templates, err = mail.NewTemplates(cfg.Templates); err != nil {
		keep(err)
	} else {
		s.worker, err = mail.NewWorker(w)
		keep(err)
	}
	wake := func() { s.worker.Wake() }
	s.consumer, err = mail.NewConsumer(mail.ConsumerConfig{Queue: cfg.MailQueue, Enqueued: wake, Now: cfg.Now, NewID: cfg.NewID, Log: cfg.Log})
	keep(err)
	s.DeadLetters, err = mail.NewDeadLetterService(mail.DeadLetterConfig{Letters: cfg.DeadLetters, Stats: cfg.MailStats, Requeued: wake, Refresh: s.Auth.RenewMail, Now: cfg.Now})
	keep(err)

	c := cfg.Chat
	c.Store, c.Rooms, c.Members, c.Cache = cfg.Messages, cfg.Rooms, cfg.Members, cfg.Recent
	c.Now, c.NewID, c.Log = cfg.Now, cfg.NewID, cfg.Log
	if s.Chat, err = chat.New(c); err != nil {
		keep(err)
	} else {
		h := cfg.Hub
		h.Chat, h.Fanout, h.Presence, h.Now, h.Log = s.Chat, cfg.Fanout, cfg.Presence, cfg.Now, cfg.Log
		s.Hub, err = realtime.NewHub(h)
		keep(err)
	}
	s.Handshake, err = realtime.NewHandshake(realtime.HandshakeConfig{
		Authenticator: s.Authenticator(), Origins: cfg.Origins, Draining: func() bool { return s.Hub.Draining() },
	})
	keep(err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Run runs every part until ctx ends. Then it closes the connections, settles what was
// submitted, lets mails under way finish, and returns nil. If a part fails, it stops the
// others in the same way and returns the failure. It may be called once.
func (s *System) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failure error
	var once sync.Once
	// Parts outlive ctx, so that they can be ended one after the other.
	chatCtx, endChat := context.WithCancel(context.WithoutCancel(ctx))
	hubCtx, endHub := context.WithCancel(context.WithoutCancel(ctx))
	defer endChat()
	defer endHub()
	var chatting, connecting, others sync.WaitGroup
	run := func(wg *sync.WaitGroup, ctx context.Context, name string, part func(context.Context) error) {
		wg.Go(func() {
			if err := part(ctx); err != nil {
				once.Do(func() { failure = fmt.Errorf("%s: %w", name, err) })
				cancel()
			}
		})
	}
	run(&chatting, chatCtx, "chat", s.Chat.Run)
	run(&connecting, hubCtx, "hub", s.Hub.Run)
	run(&others, ctx, "mail worker", s.worker.Run)
	// What the relay publishes, somebody must hear: it waits for the subscribers.
	var missing atomic.Int32
	missing.Store(2)
	ready := make(chan struct{})
	heard := func() {
		if missing.Add(-1) == 0 {
			close(ready)
		}
	}
	run(&others, ctx, "mail consumer", func(ctx context.Context) error {
		return s.consumer.Run(ctx, s.subscriber, heard)
	})
	run(&others, ctx, "revocations", func(ctx context.Context) error {
		return s.subscriber.Subscribe(ctx, auth.Topic, "", s.revoked, heard)
	})
	run(&others, ctx, "relay", func(ctx context.Context) error {
		select {
		case <-ready:
			return s.relay.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	if s.janitor != nil {
		run(&others, ctx, "janitor", s.janitor.Run)
	}

	<-ctx.Done()
	drain, enough := context.WithTimeout(context.WithoutCancel(ctx), s.drainTimeout)
	defer enough()
	if err := s.Hub.Drain(drain); err != nil {
		s.log.Warn("connections were left when draining ended", "connections", s.Hub.Connections())
	}
	endChat()
	chatting.Wait()
	endHub()
	connecting.Wait()
	others.Wait()
	return failure
}

// revoked closes the sockets of a session that ended.
func (s *System) revoked(_ context.Context, e event.Event) error {
	if e.Type != auth.TypeSessionRevoked {
		return nil
	}
	var d auth.SessionRevoked
	if json.Unmarshal(e.Data, &d) == nil {
		s.Hub.Revoke(d.SessionID, d.Until)
	} else {
		s.log.Error("a revocation cannot be read and is dropped", "event", e.ID)
	}
	return nil
}

// Authenticator lets sockets in by access token or ticket, as Handshake does.
func (s *System) Authenticator() realtime.Authenticator { return authenticator{s} }

// authenticator lets sockets in by what auth.Service says.
type authenticator struct{ s *System }

func (a authenticator) Token(ctx context.Context, token string) (realtime.Identity, error) {
	return identity(a.s.Auth.Authenticate(ctx, token))
}

func (a authenticator) Ticket(ctx context.Context, ticket string) (realtime.Identity, error) {
	return identity(a.s.Auth.RedeemTicket(ctx, ticket))
}

func identity(who auth.Identity, err error) (realtime.Identity, error) {
	if err != nil {
		return realtime.Identity{}, err
	}
	return realtime.Identity{User: chat.Author{ID: who.UserID, Name: who.Name}, SessionID: who.SessionID}, nil
}
