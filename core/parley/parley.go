// Package parley puts the services of core together over the ports that it is given: [Accounts],
// [Mailer] and [Node], each for a process of its own, or all three as one [System], which a
// program mounts on a server of its own.
//
// It stands last in core's import order and holds no rule: what is decided is decided in
// auth, mail, chat, socket, protocol and realtime.
package parley

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// Ports is one adapter for each port. A [System] requires all of them but Standings; a part says which it does.
type Ports struct {
	// Users are the accounts. A node with Users takes whoever has no account there for nobody: leave them out where the accounts are in another store.
	Users user.Repository
	// Directory lists Users. If you replace Users by hand, replace or clear Directory too. Default: users cannot be listed, and nobody is made an administrator.
	Directory user.Directory
	Sessions  auth.SessionStore
	// Standings reads a user and a session of Users and Sessions in one call. Default: one call to each of the two. If you
	// replace Users or Sessions by hand, replace or clear Standings too.
	Standings auth.Standings
	Codes     auth.CodeStore
	SignUps   auth.SignUps
	// Factors keeps second factors, where [auth.Config.FactorKeys] are set.
	Factors  auth.FactorStore
	Nonces   auth.Nonces
	Limiter  auth.Limiter
	Hasher   auth.Hasher
	Issuer   auth.TokenIssuer
	Verifier auth.TokenVerifier

	// Outbox is where Users, SignUps, Codes and Sessions put their events, and Messages, Rooms, Members and Roles where Config.Webhooks tells of them.
	Outbox event.Outbox
	// Asides is of what was set aside in Outbox.
	Asides     event.Asides
	Publisher  event.Publisher
	Subscriber event.Subscriber

	MailQueue   mail.Queue
	DeadLetters mail.DeadLetters
	MailStats   mail.Stats
	// WebhookQueue, WebhookLetters and WebhookStats are of the deliveries of webhooks, in jobs of their own. They are required where there is
	// an Endpoint.
	WebhookQueue   mail.Queue
	WebhookLetters mail.DeadLetters
	WebhookStats   mail.Stats
	// Endpoint is the application's own server, which is told what has happened. Default: nobody is told.
	Endpoint webhook.Endpoint
	Sender   mail.Sender

	Messages chat.MessageStore
	// Pruner removes old messages from Messages. Default: they stay.
	Pruner  chat.Pruner
	Rooms   chat.Rooms
	Members chat.Members
	// Marks is of the members in Members and the messages in Messages.
	Marks  chat.Marks
	Recent chat.RecentCache
	// Restrictions keeps who is banned and muted. Default: nobody can be.
	Restrictions chat.Restrictions
	// Roles keeps what members may do, and makes rooms that are not public. It needs Restrictions. Default: all members may do the same, and all rooms are public.
	Roles chat.Roles
	// Blocks keeps who has blocked whom. Without Roles it is not used. Default: nobody can block anybody.
	Blocks chat.Blocks
	// Settings keeps what users have set for themselves. It needs Restrictions. Default: nobody can set anything.
	Settings chat.Settings
	// Audit is of what administrators have done, for an [audit.Service] of the program. No part of a System uses it.
	Audit audit.Log

	Fanout   realtime.Fanout
	Presence realtime.Presence
}

// Config is what a [System], or a part of it, needs. Zero fields without "required" mean the default.
type Config struct {
	Ports // required
	// PublicURL is the base of links in mails, for example "https://chat.example.com". A
	// [Mailer] requires it.
	PublicURL string
	// Authenticator decides who may open sockets. A [Node] by itself requires it: see
	// [Authenticate]. Default in a System: its accounts.
	Authenticator socket.Authenticator
	// RenewMail returns new data for a mail job whose code has expired, before it is sent and when it is replayed, as [mail.WorkerConfig.Renew] and
	// [mail.DeadLetterConfig.Refresh] do. Default in a System: its accounts; in a Mailer by itself: what the job has.
	RenewMail func(context.Context, mail.Job) ([]byte, error)
	// Origins lists the origins that may open sockets besides the server's own. See
	// [socket.HandshakeConfig].
	Origins []string
	// Protocols lists the subprotocols of those sockets, names of Hub.Formats. See
	// [socket.HandshakeConfig].
	Protocols []string
	// DrainTimeout is how long Run lets connections close once its context has ended. Default 5 seconds.
	DrainTimeout time.Duration
	// EraseAfter is how long [Node.EraseUser] waits before it begins: so long the end of a session may take to reach all nodes. Default 2 seconds.
	EraseAfter time.Duration

	// Webhooks chooses what is told to the Endpoint, by this part or another: events of it are put into the outbox. Default: nothing.
	Webhooks webhook.Selection

	// Janitor says how long messages are kept in rooms that do not say it themselves. Its Service is refused; with a Retention, the port Pruner is required. Default: for ever.
	Janitor chat.JanitorConfig

	// Auth, Worker, WebhookWorker, Templates, Chat, Hub and Relay are the settings of the services. A required port in one of
	// them is refused: ports stand in Ports. Where a service has no clock, identifiers, log or normal form of
	// its own, it has those below; where the hub has no Authenticator, it has the one above.
	Auth   auth.Config
	Worker mail.WorkerConfig
	// WebhookWorker delivers what Webhooks chooses; its defaults are those of [NewMailer].
	WebhookWorker mail.WorkerConfig
	Templates     mail.TemplateConfig
	Chat          chat.Config
	Hub           realtime.HubConfig
	Relay         event.RelayConfig

	// Normalize brings text that a person may type in several ways into one form, Unicode's NFC
	// (Unicode Standard Annex #15), so that what looks the same is the same: names of rooms and users, and passwords.
	// It must be pure and may be called from many goroutines; norm.NFC.String of golang.org/x/text does. Default: text stays as it is.
	Normalize func(string) string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers that ascend with time. Default event.NewID.
	NewID func() string
	// Log gets what operators should know. Default: nothing.
	Log *slog.Logger
}

// defaults fills in what all parts share.
func (cfg *Config) defaults(c *settings.Check) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	settings.Default(c, "DrainTimeout", &cfg.DrainTimeout, 5*time.Second)
	settings.Default(c, "EraseAfter", &cfg.EraseAfter, 2*time.Second)
}

// share gives a service what all have in common, where it has nothing of its own. What a service does not have is nil.
func (cfg *Config) share(now *func() time.Time, newID *func() string, normalize *func(string) string, log **slog.Logger) {
	if now != nil && *now == nil {
		*now = cfg.Now
	}
	if newID != nil && *newID == nil {
		*newID = cfg.NewID
	}
	if normalize != nil && *normalize == nil {
		*normalize = cfg.Normalize
	}
	if *log == nil {
		*log = cfg.Log
	}
}

// stray refuses a port that stands among the settings of a service.
func stray(c *settings.Check, field string, there bool) {
	if there {
		c.Refuse(field, "is set, and would not be used: ports stand in Config.Ports")
	}
}

// System is everything, connected. Its parts may be used from many goroutines while
// [System.Run] runs.
type System struct {
	*Accounts
	*Mailer
	*Node
}

// New checks the configuration, all of it at once, and connects the parts.
func New(cfg Config) (*System, error) {
	c := settings.Of("parley: Config")
	cfg.defaults(c)
	cfg.accounts(c)
	cfg.mailer(c)
	cfg.node(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	accounts, accountsErr := NewAccounts(cfg)
	if accounts != nil {
		if cfg.Authenticator == nil {
			cfg.Authenticator = accounts.Authenticator()
		}
		if cfg.RenewMail == nil {
			cfg.RenewMail = accounts.Auth.RenewMail
		}
	} else if cfg.Authenticator == nil {
		cfg.Authenticator = authenticator{} // so that only what is really missing is named
	}
	mailer, mailerErr := NewMailer(cfg)
	var relay *event.Relay
	if accounts != nil {
		relay = accounts.relay
	}
	node, nodeErr := newNode(cfg, nil, relay) // the accounts remove what has expired, and move the events
	if err := errors.Join(accountsErr, mailerErr, nodeErr); err != nil {
		return nil, err
	}
	return &System{Accounts: accounts, Mailer: mailer, Node: node}, nil
}

// Run runs every part until ctx ends. Then it closes the connections, settles what was
// submitted, lets mails under way finish, and returns nil. If a part fails, it stops the
// others in the same way and returns the failure. It may be called once.
func (s *System) Run(ctx context.Context) error {
	g := newGroup(ctx)
	// What the relay publishes, somebody must hear: it waits for the subscribers.
	var missing atomic.Int32
	missing.Store(2)
	ready := make(chan struct{})
	heard := func() {
		if missing.Add(-1) == 0 {
			close(ready)
		}
	}
	g.run("mail", func(ctx context.Context) error { return s.Mailer.Run(ctx, heard) })
	g.run("sockets", func(ctx context.Context) error { return s.Node.Run(ctx, heard) })
	g.run("accounts", func(ctx context.Context) error {
		select {
		case <-ready:
			return s.Accounts.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	return g.wait()
}

// group runs things side by side until its context ends, or one of them fails.
type group struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	once    sync.Once
	failure error
}

func newGroup(ctx context.Context) *group {
	g := &group{}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

func (g *group) run(name string, part func(context.Context) error) {
	g.running.Go(func() { g.fail(name, part(g.ctx)) })
}

// fail ends everything, if err is one.
func (g *group) fail(name string, err error) {
	if err != nil {
		g.once.Do(func() { g.failure = fmt.Errorf("%s: %w", name, err) })
		g.cancel()
	}
}

// wait returns when everything has ended, with the first failure.
func (g *group) wait() error {
	defer g.cancel()
	g.running.Wait()
	return g.failure
}
