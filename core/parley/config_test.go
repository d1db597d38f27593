package parley_test

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/webhook"
)

// whole is a configuration in which nothing is missing.
func whole() parley.Config {
	ports := memory.NewPorts()
	ports.Endpoint = deaf{}
	return parley.Config{Ports: ports, PublicURL: "http://localhost", Authenticator: memory.NewAuthenticator()}
}

// deaf is a server that takes everything.
type deaf struct{}

func (deaf) Deliver(context.Context, webhook.Delivery, func()) error { return nil }
func (deaf) Check(context.Context) error                             { return nil }

func TestAMissingPortIsNamed(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for i := range reflect.TypeFor[parley.Ports]().NumField() {
		cfg, name := whole(), reflect.TypeFor[parley.Ports]().Field(i).Name
		reflect.ValueOf(&cfg.Ports).Elem().Field(i).SetZero()
		want := "parley: Config." + name + " is missing"
		_, err := parley.New(cfg)
		if slices.Contains([]string{"Standings", "Roles", "Blocks", "Settings", "Endpoint", "Pruner", "Directory", "Audit", "Factors"}, name) {
			assert.NoError(t, err) // there need not be one
			continue
		}
		assert.EqualError(t, err, want)
		for part, build := range map[string]func(parley.Config) error{
			"Accounts": func(c parley.Config) error { _, err := parley.NewAccounts(c); return err },
			"Mailer":   func(c parley.Config) error { _, err := parley.NewMailer(c); return err },
			"Node":     func(c parley.Config) error { _, err := parley.NewNode(c); return err },
		} {
			if err := build(cfg); err != nil {
				assert.EqualError(t, err, want, part)
				named[name] = true
			}
		}
		assert.True(t, named[name], "no part requires %s", name)
	}
}

// A port among the settings of a service would not be used, and so it is refused by its name.
func TestAPortInTheWrongPlaceIsRefused(t *testing.T) {
	t.Parallel()
	p := memory.NewPorts()
	for field, put := range map[string]func(*parley.Config){
		"Auth.Users":       func(c *parley.Config) { c.Auth.Users = p.Users },
		"Auth.Sessions":    func(c *parley.Config) { c.Auth.Sessions = p.Sessions },
		"Auth.Standings":   func(c *parley.Config) { c.Auth.Standings = standings{} },
		"Auth.Codes":       func(c *parley.Config) { c.Auth.Codes = p.Codes },
		"Auth.SignUps":     func(c *parley.Config) { c.Auth.SignUps = p.SignUps },
		"Auth.Factors":     func(c *parley.Config) { c.Auth.Factors = p.Factors },
		"Auth.Nonces":      func(c *parley.Config) { c.Auth.Nonces = p.Nonces },
		"Auth.Limiter":     func(c *parley.Config) { c.Auth.Limiter = p.Limiter },
		"Auth.Hasher":      func(c *parley.Config) { c.Auth.Hasher = p.Hasher },
		"Auth.Issuer":      func(c *parley.Config) { c.Auth.Issuer = p.Issuer },
		"Auth.Verifier":    func(c *parley.Config) { c.Auth.Verifier = p.Verifier },
		"Relay.Outbox":     func(c *parley.Config) { c.Relay.Outbox = p.Outbox },
		"Relay.Publisher":  func(c *parley.Config) { c.Relay.Publisher = p.Publisher },
		"Worker.Queue":     func(c *parley.Config) { c.Worker.Queue = p.MailQueue },
		"Worker.Sender":    func(c *parley.Config) { c.Worker.Sender = p.Sender },
		"Worker.Performer": func(c *parley.Config) { c.Worker.Performer = webhook.Performer(deaf{}) },

		"WebhookWorker.Queue":     func(c *parley.Config) { c.WebhookWorker.Queue = p.MailQueue },
		"WebhookWorker.Sender":    func(c *parley.Config) { c.WebhookWorker.Sender = p.Sender },
		"WebhookWorker.Performer": func(c *parley.Config) { c.WebhookWorker.Performer = webhook.Performer(deaf{}) },
		"WebhookWorker.Templates": func(c *parley.Config) { c.WebhookWorker.Templates = &mail.Templates{} },
		"WebhookWorker.Lane":      func(c *parley.Config) { c.WebhookWorker.Lane = webhook.Lane },

		"Worker.Templates":  func(c *parley.Config) { c.Worker.Templates = &mail.Templates{} },
		"Chat.Store":        func(c *parley.Config) { c.Chat.Store = p.Messages },
		"Chat.Rooms":        func(c *parley.Config) { c.Chat.Rooms = p.Rooms },
		"Chat.Members":      func(c *parley.Config) { c.Chat.Members = p.Members },
		"Chat.Marks":        func(c *parley.Config) { c.Chat.Marks = p.Marks },
		"Chat.Roles":        func(c *parley.Config) { c.Chat.Roles = p.Roles },
		"Chat.Pruner":       func(c *parley.Config) { c.Chat.Pruner = p.Pruner },
		"Chat.Restrictions": func(c *parley.Config) { c.Chat.Restrictions = p.Restrictions },
		"Chat.Blocks":       func(c *parley.Config) { c.Chat.Blocks = p.Blocks },
		"Chat.Settings":     func(c *parley.Config) { c.Chat.Settings = p.Settings },
		"Chat.Cache":        func(c *parley.Config) { c.Chat.Cache = p.Recent },
		"Janitor.Service":   func(c *parley.Config) { c.Janitor.Service = &chat.Service{} },
		"Hub.Chat":          func(c *parley.Config) { c.Hub.Chat = &chat.Service{} },
		"Hub.Fanout":        func(c *parley.Config) { c.Hub.Fanout = p.Fanout },
		"Hub.Presence":      func(c *parley.Config) { c.Hub.Presence = p.Presence },
	} {
		cfg := whole()
		put(&cfg)
		_, err := parley.New(cfg)
		assert.ErrorContains(t, err, "parley: Config."+field+" is set, and would not be used")
	}
}

// Messages are removed only by a store that can.
func TestARetentionNeedsAPruner(t *testing.T) {
	t.Parallel()
	cfg := whole()
	cfg.Janitor.Retention = time.Hour
	_, err := parley.New(cfg)
	require.NoError(t, err)
	cfg.Pruner = nil
	_, err = parley.New(cfg)
	require.EqualError(t, err, "parley: Config.Pruner is missing")
	for _, d := range []time.Duration{-time.Hour, time.Second} {
		cfg = whole()
		cfg.Janitor.Retention = d
		_, err = parley.New(cfg)
		require.ErrorContains(t, err, "Retention")
	}
}

// What a service is told of itself counts before what the whole is told.
func TestAServiceKeepsWhatItIsTold(t *testing.T) {
	t.Parallel()
	told := 0
	cfg := whole()
	cfg.Auth.Committed = func() { told++ }
	cfg.Auth.NewID = func() string { told += 100; return event.NewID() }
	s, err := parley.New(cfg)
	require.NoError(t, err)
	require.NoError(t, s.Auth.SignUp(t.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: "ada@example.com", Password: "correct horse"}))
	assert.Equal(t, 1, told%100, "Auth.Committed")
	assert.Positive(t, told/100, "Auth.NewID")
}
