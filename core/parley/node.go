package parley

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Node is the part that talks to sockets: one of several that share rooms. It requires the ports
// Subscriber, Messages, Rooms, Members, Marks, Recent, Fanout and Presence, and [Config.Authenticator]. From
// Nonces, where there is that port, it removes the tickets that are spent and expired, each hour. With the port Pruner it removes
// deleted rooms, and messages that are older than they are to be kept. Whose account is erased elsewhere, the nodes of a bus hear of it, and one of them
// erases what the user has said: see [Node.EraseUser]. If [Config].Webhooks chooses facts of messages, rooms or memberships, it requires the ports Outbox and Publisher
// as well, and it moves the facts from there to the bus: Messages must be a [chat.Recorder] for the first, and Rooms, Members and Roles each a [chat.RoomRecorder] for the others.
type Node struct {
	Chat      *chat.Service
	Hub       *realtime.Hub
	Handshake *socket.Handshake

	who          socket.Authenticator
	bus          event.Subscriber
	janitor      *auth.Janitor // nil where nothing is to be removed
	pruning      *chat.Janitor // nil where there is no Pruner
	relay        *event.Relay  // nil where it has nothing to move
	drainTimeout time.Duration
	eraseAfter   time.Duration
	erases       bool // whether it erases what users have said whose accounts were erased elsewhere
	log          *slog.Logger
}

// NewNode checks the configuration, all of it at once, and connects the part.
func NewNode(cfg Config) (*Node, error) {
	p, err := newNode(cfg, cfg.Nonces, nil)
	if err != nil {
		return nil, err
	}
	p.erases = true
	return p, nil
}

// ErasureGroup is the group in which nodes share the events of [auth.Topic], so that one of them erases what somebody has said whose account was erased.
const ErasureGroup = "erasure"

// newNode makes a node that removes spent tickets, unless tickets is nil. relay is somebody else's that moves the node's facts; nil for none.
func newNode(cfg Config, tickets auth.Sweeper, relay *event.Relay) (*Node, error) {
	check := settings.Of("parley: Config")
	cfg.defaults(check)
	cfg.node(check)
	if cfg.tells() {
		check.Require("Outbox", cfg.Outbox == nil)
		check.Require("Publisher", cfg.Publisher == nil)
	}
	check.Require("Authenticator", cfg.Authenticator == nil)
	if err := check.Err(); err != nil {
		return nil, err
	}
	p := &Node{who: cfg.Authenticator, bus: cfg.Subscriber, drainTimeout: cfg.DrainTimeout, eraseAfter: cfg.EraseAfter, log: cfg.Log}
	var errs [7]error
	if cfg.tells() {
		if cfg.tellsMessages() {
			cfg.Messages, errs[6] = chat.Recording(cfg.Messages, recordOf(cfg.Webhooks))
		}
		if relay == nil {
			r := cfg.Relay
			r.Outbox, r.Publisher = cfg.Outbox, cfg.Publisher
			cfg.share(nil, nil, nil, &r.Log)
			p.relay, errs[5] = event.NewRelay(r)
			relay = p.relay
		}
		if err := errors.Join(errs[6], errs[5]); err != nil {
			return nil, err
		}
	}
	c := cfg.Chat
	c.Store, c.Rooms, c.Members, c.Marks, c.Cache = cfg.Messages, cfg.Rooms, cfg.Members, cfg.Marks, cfg.Recent
	c.Restrictions, c.Roles, c.Blocks, c.Settings, c.Pruner = cfg.Restrictions, cfg.Roles, cfg.Blocks, cfg.Settings, cfg.Pruner
	if c.People == nil && cfg.Users != nil {
		c.People = chat.Accounts{Users: cfg.Users}
	}
	cfg.share(&c.Now, &c.NewID, &c.Normalize, &c.Log)
	if cfg.tellsMessages() && c.Pruner != nil {
		c.Pruner = &forgetting{Pruner: c.Pruner, messages: cfg.Messages, outbox: cfg.Outbox, wake: relay.Wake, now: c.Now}
	}
	if cfg.tellsRooms() {
		newID := c.NewID
		if newID == nil {
			newID = event.NewID
		}
		c.RecordRooms = recordRoomsOf(cfg.Webhooks, newID)
	}
	if p.Chat, errs[0] = chat.New(c); errs[0] == nil {
		h := cfg.Hub
		h.Chat, h.Fanout, h.Presence = p.Chat, cfg.Fanout, cfg.Presence
		if h.Authenticator == nil {
			h.Authenticator = cfg.Authenticator
		}
		cfg.share(&h.Now, nil, nil, &h.Log)
		p.Hub, errs[1] = realtime.NewHub(h)
		if cfg.tellsMessages() {
			wake := func(chat.Message) { relay.Wake() }
			p.Chat.OnStored(wake)
			p.Chat.OnChanged(wake)
		}
		if cfg.tellsRooms() {
			p.Chat.OnRecorded(relay.Wake)
		}
	}
	if p.Chat != nil && cfg.Pruner != nil {
		j := cfg.Janitor
		j.Service = p.Chat
		cfg.share(&j.Now, nil, nil, &j.Log)
		p.pruning, errs[4] = chat.NewJanitor(j)
	}
	p.Handshake, errs[2] = socket.NewHandshake(socket.HandshakeConfig{
		Authenticator: cfg.Authenticator, Protocols: cfg.Protocols, Origins: cfg.Origins, Draining: func() bool { return p.Hub.Draining() },
	})
	if tickets != nil {
		p.janitor, errs[3] = auth.NewJanitor(auth.JanitorConfig{Sweepers: []auth.Sweeper{tickets}, Now: cfg.Now, Log: cfg.Log})
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return p, nil
}

// node refuses what is missing for a node, and ports that stand in the wrong place.
func (cfg *Config) node(c *settings.Check) {
	c.Require("Subscriber", cfg.Subscriber == nil)
	c.Require("Messages", cfg.Messages == nil)
	c.Require("Rooms", cfg.Rooms == nil)
	c.Require("Members", cfg.Members == nil)
	c.Require("Marks", cfg.Marks == nil)
	c.Require("Recent", cfg.Recent == nil)
	if cfg.Roles != nil || cfg.Settings != nil {
		c.Require("Restrictions", cfg.Restrictions == nil)
	}
	c.Require("Fanout", cfg.Fanout == nil)
	c.Require("Presence", cfg.Presence == nil)
	stray(c, "Chat.Store", cfg.Chat.Store != nil)
	stray(c, "Chat.Rooms", cfg.Chat.Rooms != nil)
	stray(c, "Chat.Members", cfg.Chat.Members != nil)
	stray(c, "Chat.Marks", cfg.Chat.Marks != nil)
	stray(c, "Chat.Cache", cfg.Chat.Cache != nil)
	stray(c, "Chat.Restrictions", cfg.Chat.Restrictions != nil)
	stray(c, "Chat.Roles", cfg.Chat.Roles != nil)
	stray(c, "Chat.Blocks", cfg.Chat.Blocks != nil)
	stray(c, "Chat.Settings", cfg.Chat.Settings != nil)
	stray(c, "Chat.Pruner", cfg.Chat.Pruner != nil)
	if cfg.Chat.RecordRooms != nil && cfg.tellsRooms() {
		c.Refuse("Chat.RecordRooms", "is set, and would not be used: it is made of Config.Webhooks")
	}
	stray(c, "Hub.Fanout", cfg.Hub.Fanout != nil)
	stray(c, "Hub.Presence", cfg.Hub.Presence != nil)
	c.Require("Pruner", cfg.Pruner == nil && cfg.Janitor.Retention != 0)
	if cfg.Janitor.Service != nil {
		c.Refuse("Janitor.Service", "is set, and would not be used: it is made of Config.Chat")
	}
	if cfg.Hub.Chat != nil {
		c.Refuse("Hub.Chat", "is set, and would not be used: it is made of Config.Chat")
	}
}

// Run runs the hub until ctx ends. Then it closes the connections, settles what was submitted,
// and returns nil; an error says that it cannot go on. ready, unless nil, is called once, when
// sessions that end from then on lose their sockets. It may be called once.
func (p *Node) Run(ctx context.Context, ready func()) error {
	g := newGroup(ctx)
	// What the hub needs outlives ctx, so that one can be ended after the other.
	chatCtx, endChat := context.WithCancel(context.WithoutCancel(ctx))
	hubCtx, endHub := context.WithCancel(context.WithoutCancel(ctx))
	defer endChat()
	defer endHub()
	chatting, connecting := make(chan struct{}), make(chan struct{})
	go func() { defer close(chatting); g.fail("chat", p.Chat.Run(chatCtx)) }()
	go func() { defer close(connecting); g.fail("hub", p.Hub.Run(hubCtx)) }()
	g.run("revocations", func(ctx context.Context) error {
		return p.bus.Subscribe(ctx, auth.Topic, "", p.revoked, ready)
	})
	if p.erases {
		g.run("erasures", func(ctx context.Context) error {
			return p.bus.Subscribe(ctx, auth.Topic, ErasureGroup, p.erased, nil)
		})
	}
	if p.janitor != nil {
		g.run("janitor", p.janitor.Run)
	}
	if p.pruning != nil {
		g.run("old messages", p.pruning.Run)
	}
	// What is committed while connections close is moved as well, as far as there is time.
	relaying := make(chan struct{})
	relayCtx, endRelay := context.WithCancel(context.WithoutCancel(ctx))
	defer endRelay()
	go func() {
		defer close(relaying)
		if p.relay != nil {
			g.fail("relay", p.relay.Run(relayCtx))
		}
	}()
	<-g.ctx.Done()
	drain, enough := context.WithTimeout(context.WithoutCancel(ctx), p.drainTimeout)
	defer enough()
	if err := p.Hub.Drain(drain); err != nil {
		p.log.Warn("connections were left when draining ended", "connections", p.Hub.Connections())
	}
	endChat()
	<-chatting
	endHub()
	<-connecting
	endRelay()
	<-relaying
	return g.wait()
}

// Send says something in a room as author, who need not have joined it: it is stored, and reaches the
// room's members on every node as a message of a socket does. See [chat.Service.Send] for what it
// returns; a text against the rules, an author whom chat.Config.Access refuses, a message that chat.Config.Screen
// refuses, or a room that takes nothing now (realtime.ErrRoomBusy), stores nothing.
func (p *Node) Send(ctx context.Context, d chat.Draft) (chat.Stored, error) {
	return p.Chat.Send(ctx, d)
}

// Change edits, deletes or reacts to a message, as c.By, who need not have joined the room: it is stored, and reaches the room's members on
// every node as a change of a socket does. With [chat.Change.Any] it may be a message of somebody else. See [chat.Service.Change] for what
// it returns.
func (p *Node) Change(ctx context.Context, c chat.Change) (chat.Changed, error) {
	return p.Chat.Change(ctx, c)
}

// Identify returns whom an access token speaks for, as for a socket that is opened with it: Config.Authenticator says so, and a session that
// has ended is refused with [realtime.ErrRevoked], as far as this node has heard. For calls of users beside the socket.
func (p *Node) Identify(ctx context.Context, accessToken string) (user.Identity, error) {
	who, err := p.who.Token(ctx, accessToken)
	if err == nil {
		err = p.Hub.Admits(who)
	}
	if err != nil {
		return user.Identity{}, err
	}
	return who, nil
}

// Restrict bans or mutes a user in a room, on every node, at once, in the name of r.By: nobody asks whether they may. See [chat.Service.Restrict] for what it returns.
func (p *Node) Restrict(ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
	return p.Chat.Restrict(ctx, chat.Actor{Any: true}, r)
}

// Lift ends a ban or a mute, on every node, at once, in the name of r.By: nobody asks whether they may. See [chat.Service.Lift].
func (p *Node) Lift(ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
	return p.Chat.Lift(ctx, chat.Actor{Any: true}, r)
}

// Remove takes a user out of a room on every node, at once. See [realtime.Hub.Remove].
func (p *Node) Remove(ctx context.Context, room string, id user.ID) error {
	return p.Hub.Remove(ctx, room, id)
}

// revoked closes the sockets of sessions that ended.
func (p *Node) revoked(_ context.Context, e event.Event) error {
	var err error
	switch e.Type {
	case auth.TypeSessionRevoked:
		var d auth.SessionRevoked
		if err = json.Unmarshal(e.Data, &d); err == nil {
			p.Hub.Revoke(user.ID(d.UserID), d.SessionID, d.Until)
		}
	case auth.TypeSessionsRevoked:
		var d auth.SessionsRevoked
		if err = json.Unmarshal(e.Data, &d); err == nil {
			p.Hub.RevokeBefore(user.ID(d.UserID), d.Before, d.Keep, d.Until)
		}
	}
	if err != nil {
		p.log.Error("a revocation cannot be read and is dropped", "event", e.ID)
	}
	return nil
}

// erased erases what somebody has said whose account was erased. What cannot be done now is done when the event comes again.
func (p *Node) erased(ctx context.Context, e event.Event) error {
	if e.Type != auth.TypeSessionsRevoked {
		return nil
	}
	var d auth.SessionsRevoked
	if err := json.Unmarshal(e.Data, &d); err != nil || !d.Erased {
		return nil // revoked says in the log what cannot be read
	}
	_, err := p.EraseUser(ctx, d.UserID)
	switch {
	case errors.Is(err, user.ErrNotFound): // the system is nobody
		return nil
	case err != nil && ctx.Err() == nil:
		p.log.Warn("what a user has said could not be erased; it is tried again", "user", d.UserID, "error", err)
	}
	return err
}

// Authority decides whom a token or a ticket speaks for. [auth.Service] is one, and [auth.Gate].
//
// It may be called from many goroutines.
type Authority interface {
	Authenticate(ctx context.Context, accessToken string) (user.Identity, error)
	RedeemTicket(ctx context.Context, ticket string) (user.Identity, error)
}

// Authenticate lets sockets in by what a says.
func Authenticate(a Authority) socket.Authenticator { return authenticator{a} }

type authenticator struct{ Authority }

func (a authenticator) Token(ctx context.Context, token string) (user.Identity, error) {
	return a.Authenticate(ctx, token)
}

func (a authenticator) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return a.RedeemTicket(ctx, ticket)
}
