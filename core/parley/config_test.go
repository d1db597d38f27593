package parley_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
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
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// whole is a configuration in which nothing is missing.
func whole() parley.Config {
	return parley.Config{Ports: memory.NewPorts(), PublicURL: "http://localhost", Authenticator: memory.NewAuthenticator()}
}

func TestAMissingPortIsNamed(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for i := range reflect.TypeFor[parley.Ports]().NumField() {
		cfg, name := whole(), reflect.TypeFor[parley.Ports]().Field(i).Name
		reflect.ValueOf(&cfg.Ports).Elem().Field(i).SetZero()
		want := "parley: Config." + name + " is missing"
		_, err := parley.New(cfg)
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
		"Auth.Codes":       func(c *parley.Config) { c.Auth.Codes = p.Codes },
		"Auth.SignUps":     func(c *parley.Config) { c.Auth.SignUps = p.SignUps },
		"Auth.Nonces":      func(c *parley.Config) { c.Auth.Nonces = p.Nonces },
		"Auth.Limiter":     func(c *parley.Config) { c.Auth.Limiter = p.Limiter },
		"Auth.Hasher":      func(c *parley.Config) { c.Auth.Hasher = p.Hasher },
		"Auth.Issuer":      func(c *parley.Config) { c.Auth.Issuer = p.Issuer },
		"Auth.Verifier":    func(c *parley.Config) { c.Auth.Verifier = p.Verifier },
		"Relay.Outbox":     func(c *parley.Config) { c.Relay.Outbox = p.Outbox },
		"Relay.Publisher":  func(c *parley.Config) { c.Relay.Publisher = p.Publisher },
		"Worker.Queue":     func(c *parley.Config) { c.Worker.Queue = p.MailQueue },
		"Worker.Sender":    func(c *parley.Config) { c.Worker.Sender = p.Sender },
		"Worker.Templates": func(c *parley.Config) { c.Worker.Templates = &mail.Templates{} },
		"Chat.Store":       func(c *parley.Config) { c.Chat.Store = p.Messages },
		"Chat.Rooms":       func(c *parley.Config) { c.Chat.Rooms = p.Rooms },
		"Chat.Members":     func(c *parley.Config) { c.Chat.Members = p.Members },
		"Chat.Cache":       func(c *parley.Config) { c.Chat.Cache = p.Recent },
		"Hub.Chat":         func(c *parley.Config) { c.Hub.Chat = &chat.Service{} },
		"Hub.Fanout":       func(c *parley.Config) { c.Hub.Fanout = p.Fanout },
		"Hub.Presence":     func(c *parley.Config) { c.Hub.Presence = p.Presence },
	} {
		cfg := whole()
		put(&cfg)
		_, err := parley.New(cfg)
		assert.ErrorContains(t, err, "parley: Config."+field+" is set, and would not be used")
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

// limited is a configuration with limits, and how to check it.
type limited struct {
	of    any // a pointer to a valid configuration
	check func() error
}

func at[C any](cfg *C, build func(C) error) limited {
	return limited{cfg, func() error { return build(*cfg) }}
}

func configurations(t *testing.T) map[string]limited {
	p := memory.NewPorts()
	templates, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "http://localhost"})
	require.NoError(t, err)
	talk, err := chat.New(chat.Config{Store: p.Messages, Rooms: p.Rooms, Members: p.Members, Cache: p.Recent})
	require.NoError(t, err)
	hub, err := realtime.NewHub(realtime.HubConfig{Chat: talk, Fanout: p.Fanout, Presence: p.Presence})
	require.NoError(t, err)
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: memory.NewAuthenticator()})
	require.NoError(t, err)
	whole := whole()
	return map[string]limited{
		"auth: Config": at(&auth.Config{
			Users: p.Users, Sessions: p.Sessions, Codes: p.Codes, SignUps: p.SignUps, Hasher: p.Hasher, Issuer: p.Issuer,
			Verifier: p.Verifier, Nonces: p.Nonces, Limiter: p.Limiter,
		}, func(c auth.Config) error { _, err := auth.New(c); return err }),
		"auth: GateConfig":    at(&auth.GateConfig{Verifier: p.Verifier, Nonces: p.Nonces}, func(c auth.GateConfig) error { _, err := auth.NewGate(c); return err }),
		"auth: JanitorConfig": at(&auth.JanitorConfig{Sweepers: []auth.Sweeper{p.Codes}}, func(c auth.JanitorConfig) error { _, err := auth.NewJanitor(c); return err }),
		"auth: SharedLimiterConfig": at(&auth.SharedLimiterConfig{Shared: p.Limiter, Own: p.Limiter}, func(c auth.SharedLimiterConfig) error {
			_, err := auth.NewSharedLimiter(c)
			return err
		}),
		"auth: ThrottleConfig": at(&auth.ThrottleConfig{Limiter: p.Limiter, Action: "x", Rate: auth.Rate{Burst: 1, Per: time.Second}}, func(c auth.ThrottleConfig) error {
			_, err := auth.NewThrottle(c)
			return err
		}),
		"chat: Config": at(&chat.Config{Store: p.Messages, Rooms: p.Rooms, Members: p.Members, Cache: p.Recent}, func(c chat.Config) error {
			_, err := chat.New(c)
			return err
		}),
		"event: RelayConfig": at(&event.RelayConfig{Outbox: p.Outbox, Publisher: p.Publisher}, func(c event.RelayConfig) error { _, err := event.NewRelay(c); return err }),
		"mail: WorkerConfig": at(&mail.WorkerConfig{Queue: p.MailQueue, Sender: p.Sender, Templates: templates}, func(c mail.WorkerConfig) error {
			_, err := mail.NewWorker(c)
			return err
		}),
		"mail: TemplateConfig": at(&mail.TemplateConfig{PublicURL: "http://localhost"}, func(c mail.TemplateConfig) error { _, err := mail.NewTemplates(c); return err }),
		"mail: ConsumerConfig": at(&mail.ConsumerConfig{Queue: p.MailQueue}, func(c mail.ConsumerConfig) error { _, err := mail.NewConsumer(c); return err }),
		"mail: DeadLetterConfig": at(&mail.DeadLetterConfig{Letters: p.DeadLetters, Stats: p.MailStats}, func(c mail.DeadLetterConfig) error {
			_, err := mail.NewDeadLetterService(c)
			return err
		}),
		"parley: Config": at(&whole, func(c parley.Config) error { _, err := parley.New(c); return err }),
		"realtime: HubConfig": at(&realtime.HubConfig{Chat: talk, Fanout: p.Fanout, Presence: p.Presence}, func(c realtime.HubConfig) error {
			_, err := realtime.NewHub(c)
			return err
		}),
		// A transport is named by its own package, whose Config it is.
		"socket: TransportConfig": at(&socket.TransportConfig{Handshake: handshake, Acceptor: hub}, func(c socket.TransportConfig) error {
			_, err := c.Complete("socket")
			return err
		}),
		"socket: HandshakeConfig": at(&socket.HandshakeConfig{Authenticator: memory.NewAuthenticator()}, func(c socket.HandshakeConfig) error {
			_, err := socket.NewHandshake(c)
			return err
		}),
	}
}

// mayBeNegative are limits of which a negative value means something, as their comments say.
var mayBeNegative = []string{"realtime: HubConfig.Rate"}

// Zero is the default of every limit, and a negative one is refused by its name, in the same words everywhere.
func TestEveryLimitRefusesANegativeValue(t *testing.T) {
	t.Parallel()
	all := configurations(t)
	var tried int
	for name, c := range all {
		require.NoError(t, c.check(), "%s: zero is the default", name)
		said := strings.Replace(name, "TransportConfig", "Config", 1)
		v := reflect.ValueOf(c.of).Elem()
		for i := range v.NumField() {
			field, value := name+"."+v.Type().Field(i).Name, v.Field(i)
			rate, isRate := value.Addr().Interface().(*auth.Rate)
			switch {
			case slices.Contains(mayBeNegative, field):
				value.SetInt(-1)
				assert.NoError(t, c.check(), field)
				value.SetZero()
			case value.CanInt():
				tried++
				value.SetInt(-1)
				assert.ErrorContains(t, c.check(), said+"."+v.Type().Field(i).Name+" is negative")
				value.SetZero()
			case isRate:
				tried++
				before := *rate
				for _, wrong := range []auth.Rate{{Burst: -1, Per: time.Second}, {Burst: 1, Per: -1}} {
					*rate = wrong
					assert.ErrorContains(t, c.check(), field+" is negative")
				}
				*rate = auth.Rate{Burst: 1}
				assert.ErrorContains(t, c.check(), field+" has no Burst or no Per")
				*rate = before
			}
		}
		require.NoError(t, c.check(), name)
	}
	assert.Greater(t, tried, 50)
	assert.ElementsMatch(t, declared(t), keys(all), "every configuration in core is tried here")
}

func keys(all map[string]limited) (names []string) {
	for name := range all {
		names = append(names, name)
	}
	return names
}

// declared lists the configurations that core has, from its sources.
func declared(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("../*/*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				if typ, ok := s.(*ast.TypeSpec); ok && strings.HasSuffix(typ.Name.Name, "Config") {
					names = append(names, f.Name.Name+": "+typ.Name.Name)
				}
			}
		}
	}
	return names
}
