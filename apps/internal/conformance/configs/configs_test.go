// Package configs tries the configurations of all services and adapters: they refuse what is wrong in the same words.
package configs_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	vendor "github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/parley-chat/parley/adapters/asyncapi"
	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/filemail"
	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/otel"
	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/adapters/passrange"
	"github.com/parley-chat/parley/adapters/prometheus"
	"github.com/parley-chat/parley/adapters/renewclient"
	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/bridge"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	hooks "github.com/parley-chat/parley/core/webhook"
)

// configuration is one of a service or an adapter, and how to check it.
type configuration struct {
	of    any // a pointer to one in which nothing is wrong: what is required, and zeros
	check func() error
	// reaches says that whoever has checked it goes on to a server, which is not there.
	reaches bool
}

// verdict is what a configuration is refused for, in lines.
func (c configuration) verdict() []string {
	err := c.check()
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	if c.reaches {
		lines = slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, "Config.") })
	}
	return lines
}

func at[C, R any](cfg C, build func(C) (R, error)) configuration {
	return configuration{of: &cfg, check: func() error { _, err := build(cfg); return err }}
}

// reaching is at, of what goes on to a server.
func reaching[C, R any](cfg C, open func(context.Context, C) (R, error)) configuration {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	c := at(cfg, func(c C) (R, error) { return open(gone, c) })
	c.reaches = true
	return c
}

// registered is at, of operations of an API.
func registered[C any](cfg C, register func(*humaapi.API, C) error) configuration {
	return at(cfg, func(c C) (struct{}, error) {
		a, err := humaapi.New(http.NewServeMux(), humaapi.Config{})
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, register(a, c)
	})
}

// handler is an acceptor, an upgrader and a publisher that is never called.
type handler struct {
	socket.Acceptor
	engineio.Upgrader
	message.Publisher
}

// registerer takes every metric, and has none.
type registerer struct{ vendor.Registerer }

func (registerer) Register(vendor.Collector) error { return nil }

func configurations(t *testing.T) map[string]configuration {
	t.Helper()
	p, who := memory.NewPorts(), memory.NewAuthenticator()
	templates, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "http://localhost"})
	require.NoError(t, err)
	talk, err := chat.New(chat.Config{Store: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Cache: p.Recent, Pruner: p.Pruner})
	require.NoError(t, err)
	asides, err := event.NewAsideService(event.AsideConfig{Asides: p.Asides})
	require.NoError(t, err)
	letters, err := mail.NewDeadLetterService(mail.DeadLetterConfig{Letters: p.DeadLetters, Stats: p.MailStats})
	require.NoError(t, err)
	accounts, err := parley.NewAccounts(parley.Config{Ports: p, PublicURL: "http://localhost"})
	require.NoError(t, err)
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: who})
	require.NoError(t, err)
	schema, err := protocol.NewSchema(nil, nil)
	require.NoError(t, err)
	keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{})
	require.NoError(t, err)
	var nobody handler
	all := map[string]configuration{
		"auth: Config": at(auth.Config{
			Users: p.Users, Sessions: p.Sessions, Codes: p.Codes, SignUps: p.SignUps, Hasher: p.Hasher, Issuer: p.Issuer,
			Verifier: p.Verifier, Nonces: p.Nonces, Limiter: p.Limiter,
		}, auth.New),
		"audit: Config":             at(audit.Config{Log: p.Audit}, audit.New),
		"auth: GateConfig":          at(auth.GateConfig{Verifier: p.Verifier, Nonces: p.Nonces}, auth.NewGate),
		"auth: JanitorConfig":       at(auth.JanitorConfig{Sweepers: []auth.Sweeper{p.Codes}}, auth.NewJanitor),
		"auth: SharedLimiterConfig": at(auth.SharedLimiterConfig{Shared: p.Limiter, Own: p.Limiter}, auth.NewSharedLimiter),
		"auth: ThrottleConfig":      at(auth.ThrottleConfig{Limiter: p.Limiter, Action: "x", Rate: auth.Rate{Burst: 1, Per: time.Second}}, auth.NewThrottle),
		"chat: Config":              at(chat.Config{Store: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Cache: p.Recent}, chat.New),
		"chat: JanitorConfig":       at(chat.JanitorConfig{Service: talk}, chat.NewJanitor),
		"event: AsideConfig":        at(event.AsideConfig{Asides: p.Asides}, event.NewAsideService),
		"event: RelayConfig":        at(event.RelayConfig{Outbox: p.Outbox, Publisher: p.Publisher}, event.NewRelay),
		"mail: WorkerConfig":        at(mail.WorkerConfig{Queue: p.MailQueue, Sender: p.Sender, Templates: templates}, mail.NewWorker),
		"mail: TemplateConfig":      at(mail.TemplateConfig{PublicURL: "http://localhost"}, mail.NewTemplates),
		"mail: ConsumerConfig":      at(mail.ConsumerConfig{Queue: p.MailQueue}, mail.NewConsumer),
		"mail: DeadLetterConfig":    at(mail.DeadLetterConfig{Letters: p.DeadLetters, Stats: p.MailStats}, mail.NewDeadLetterService),
		"parley: Config":            at(parley.Config{Ports: p, PublicURL: "http://localhost", Authenticator: who}, parley.New),
		"realtime: HubConfig":       at(realtime.HubConfig{Chat: talk, Fanout: p.Fanout, Presence: p.Presence}, realtime.NewHub),
		"socket: TransportConfig": at(socket.TransportConfig{Handshake: handshake, Acceptor: nobody}, func(c socket.TransportConfig) (socket.TransportConfig, error) {
			return c.Complete("socket")
		}),
		"socket: HandshakeConfig": at(socket.HandshakeConfig{Authenticator: who}, socket.NewHandshake),

		"asyncapi: Config": at(asyncapi.Config{Schema: schema, Title: "x", Version: "1", Server: "localhost", ReasonHeader: "x"}, func(c asyncapi.Config) ([]byte, error) {
			text, _, err := asyncapi.Document(c)
			return text, err
		}),
		"bridge: Config": at(bridge.Config{Acceptor: nobody, Authenticator: who}, bridge.Namespace),
		"bunstore: Config": reaching(bunstore.Config{}, func(ctx context.Context, c bunstore.Config) (*bunstore.Store, error) {
			return bunstore.OpenPostgres(ctx, "postgres://a:b@localhost:1/c", c)
		}),
		"bunstore: SQLiteConfig": at(bunstore.SQLiteConfig{}, func(c bunstore.SQLiteConfig) (*bunstore.Store, error) {
			s, err := bunstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "x.db"), c)
			if err != nil {
				return nil, err
			}
			return s, s.Close()
		}),
		"engineio: Config": at(engineio.Config{
			Accept: func(*engineio.Session, *http.Request) (socket.Receiver, error) { return nil, nil }, Upgrader: nobody,
		}, engineio.New),
		"filemail: Config":        at(filemail.Config{Folder: t.TempDir()}, filemail.Open),
		"humaapi: Config":         at(humaapi.Config{}, func(c humaapi.Config) (*humaapi.API, error) { return humaapi.New(http.NewServeMux(), c) }),
		"humaapi: AuthConfig":     registered(humaapi.AuthConfig{Service: accounts.Auth}, humaapi.RegisterAuth),
		"humaapi: DocsConfig":     registered(humaapi.DocsConfig{User: "x", Password: "y"}, humaapi.RegisterDocs),
		"humaapi: EventsConfig":   registered(humaapi.EventsConfig{Service: asides}, humaapi.RegisterEvents),
		"humaapi: MailConfig":     registered(humaapi.MailConfig{Service: letters}, humaapi.RegisterMail),
		"humaapi: AuditConfig":    registered(humaapi.AuditConfig{Service: new(audit.Service)}, humaapi.RegisterAudit),
		"humaapi: WebhooksConfig": registered(humaapi.WebhooksConfig{Service: letters}, humaapi.RegisterWebhooks),
		"humaapi: HealthConfig":   registered(humaapi.HealthConfig{}, humaapi.RegisterHealth),
		"humaapi: RenewalConfig": registered(humaapi.RenewalConfig{
			Renew: func(context.Context, mail.Job) ([]byte, error) { return nil, nil },
		}, humaapi.RegisterRenewal),
		"humaapi: RoomsConfig":      registered(humaapi.RoomsConfig{Service: talk, Identify: who.Token}, humaapi.RegisterRooms),
		"humaapi: RoomsAdminConfig": registered(humaapi.RoomsAdminConfig{Service: talk}, humaapi.RegisterRoomsAdmin),
		"humaapi: UsersConfig": registered(humaapi.UsersConfig{Chat: talk, Erase: func(context.Context, string) (parley.UserErasure, error) {
			return parley.UserErasure{}, nil
		}}, humaapi.RegisterUsers),
		"jwtauth: KeysConfig":       at(jwtauth.KeysConfig{}, jwtauth.NewKeys),
		"jwtauth: KeepConfig":       reaching(jwtauth.KeepConfig{}, func(ctx context.Context, c jwtauth.KeepConfig) (any, error) { return nil, keys.Keep(ctx, c) }),
		"jwtauth: IssuerConfig":     at(jwtauth.IssuerConfig{Keys: keys, Issuer: "x"}, jwtauth.NewIssuer),
		"jwtauth: VerifierConfig":   at(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: "x"}, jwtauth.NewVerifier),
		"jwtauth: OpenIDConfig":     at(jwtauth.OpenIDConfig{Issuer: "https://localhost", Audience: "x"}, jwtauth.NewOpenIDVerifier),
		"jwtauth: RemoteKeysConfig": at(jwtauth.RemoteKeysConfig{URL: "https://localhost/x"}, jwtauth.NewRemoteKeys),
		"kafkabus: Config":          reaching(kafkabus.Config{Brokers: []string{"localhost:1"}}, kafkabus.Open),
		"mongostore: Config": at(mongostore.Config{}, func(c mongostore.Config) (*mongostore.Store, error) {
			return mongostore.New(new(mongo.Client).Database("x"), c)
		}),
		"otel: Config":        at(otel.Config{Provider: noop.NewTracerProvider()}, otel.New),
		"prometheus: Config":  at(prometheus.Config{Registerer: registerer{}}, prometheus.New),
		"passhash: Config":    at(passhash.Config{}, passhash.New),
		"passrange: Config":   at(passrange.Config{URL: "https://localhost/x/"}, passrange.New),
		"renewclient: Config": at(renewclient.Config{URL: "https://localhost/x", Token: func() string { return "" }}, renewclient.New),
		"smtpmail: Config":    at(smtpmail.Config{Host: "localhost"}, smtpmail.New),
		"socketio: Config":    at(socketio.Config{Engine: engineio.Config{Upgrader: nobody}}, socketio.New),
		"watermillbus: GoChannelConfig": at(watermillbus.GoChannelConfig{}, func(c watermillbus.GoChannelConfig) (*watermillbus.Bus, error) {
			b, err := watermillbus.NewGoChannel(c)
			if err != nil {
				return nil, err
			}
			return b, b.Close()
		}),
		"watermillbus: PublisherConfig": at(watermillbus.PublisherConfig{Publisher: nobody}, watermillbus.NewPublisher),
		"watermillbus: SubscriberConfig": at(watermillbus.SubscriberConfig{
			Open: func(context.Context, string, string) (message.Subscriber, error) { return nil, nil },
		}, watermillbus.NewSubscriber),
		"webhook: ConsumerConfig": at(hooks.ConsumerConfig{Queue: p.WebhookQueue, Eraser: p.WebhookLetters}, hooks.NewConsumer),
		"webhook: EndpointConfig": at(webhook.EndpointConfig{URL: "https://localhost/x", Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}, webhook.NewEndpoint),
		"webhook: Config":         at(webhook.Config{URL: "https://localhost/x", Secrets: []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}, webhook.New),
		"wsclient: Config":        reaching(wsclient.Config{URL: "ws://localhost:1/socket"}, wsclient.Dial),
		"wsclient: RESTConfig":    at(wsclient.RESTConfig{Server: "http://localhost:1"}, wsclient.NewREST),
		"wsclient: SessionConfig": reaching(wsclient.SessionConfig{Server: "http://localhost:1"}, func(ctx context.Context, c wsclient.SessionConfig) (*wsclient.Session, error) {
			return wsclient.Resume(ctx, c, "x")
		}),
		"wsclient: ViewConfig": at(wsclient.ViewConfig{User: "x"}, wsclient.NewView),
	}
	// The name that a transport gives is its package's.
	all["nbiows: Config"] = at(nbiows.Config{Handshake: handshake, Acceptor: nobody}, nbiows.New)
	return all
}

// lenient are the configurations of what cannot fail to be made: there a value that is not positive means the default, as their
// comments say.
var lenient = []string{
	"memory: BusConfig", "memory: LimiterConfig", "memory: MailboxConfig", "memory: NoncesConfig", "memory: RecentCacheConfig", "memory: TokensConfig",
	"redisstore: FanoutConfig", "redisstore: RecentCacheConfig",
}

// negative are limits of which a negative value means something, as their comments say.
var negative = []string{
	"bunstore: Config.LockTimeout", "bunstore: Config.Silence", "bunstore: Config.TransactionIdle",
	"jwtauth: OpenIDConfig.Remember", "jwtauth: VerifierConfig.Remember", "realtime: HubConfig.DrainRate", "realtime: HubConfig.MarksUpTo", "realtime: HubConfig.Rate", "wsclient: Config.Rate",
}

// said is the name of a configuration in a refusal. A transport is called by the name of its own package.
func said(name string) string {
	return strings.Replace(name, "socket: TransportConfig", "socket: Config", 1)
}

func TestANegativeLimitIsRefusedInTheSameWords(t *testing.T) {
	t.Parallel()
	tried := 0
	for name, c := range configurations(t) {
		require.Empty(t, c.verdict(), "%s: zero is the default of every limit", name)
		v := reflect.ValueOf(c.of).Elem()
		if v.Kind() != reflect.Struct {
			continue
		}
		for _, l := range limits(v, "") {
			field := said(name) + "." + l.name
			rate, isRate := l.value.Addr().Interface().(*auth.Rate)
			switch {
			case slices.Contains(negative, name+"."+l.name):
				l.value.SetInt(-1)
				assert.Empty(t, c.verdict(), field)
				l.value.SetZero()
			case isRate:
				tried++
				before := *rate
				for _, wrong := range []auth.Rate{{Burst: -1, Per: time.Second}, {Burst: 1, Per: -1}} {
					*rate = wrong
					assert.Equal(t, []string{field + " is negative"}, c.verdict())
				}
				*rate = auth.Rate{Burst: 1}
				assert.Equal(t, []string{field + " has no Burst or no Per"}, c.verdict())
				*rate = before
			default:
				tried++
				l.value.SetInt(-1)
				assert.Contains(t, c.verdict(), field+" is negative")
				l.value.SetZero()
			}
		}
		require.Empty(t, c.verdict(), name)
	}
	assert.Greater(t, tried, 120)
}

type limit struct {
	name  string
	value reflect.Value
}

// limits are the fields of v that limit something. Those of another configuration within it are tried there.
func limits(v reflect.Value, prefix string) (found []limit) {
	for i := range v.NumField() {
		name, value := prefix+v.Type().Field(i).Name, v.Field(i)
		switch {
		case value.CanInt(), value.Type() == reflect.TypeFor[auth.Rate]():
			found = append(found, limit{name, value})
		case value.Kind() == reflect.Struct && v.Type().Field(i).Name == "Limits":
			found = append(found, limits(value, name+".")...)
		}
	}
	return found
}

// A field is required where its comment says so, and only there.
func TestAMissingFieldIsRefusedInTheSameWords(t *testing.T) {
	t.Parallel()
	fields := declared(t)
	tried := 0
	for name, c := range configurations(t) {
		v := reflect.ValueOf(c.of).Elem()
		for i := range v.NumField() {
			field, value := v.Type().Field(i), v.Field(i)
			if field.Anonymous || !value.CanSet() {
				continue // the ports of the whole: see the tests of package parley
			}
			before := reflect.New(value.Type()).Elem()
			before.Set(value)
			value.SetZero()
			said, missing := said(name)+"."+field.Name+" is missing", fields[name][field.Name].required
			switch got := c.verdict(); {
			case missing:
				tried++
				assert.Contains(t, got, said)
			case conditional[name+"."+field.Name] != "":
				assert.Equal(t, []string{conditional[name+"."+field.Name]}, got)
			default:
				assert.Empty(t, got, "%s.%s has a default", name, field.Name)
			}
			value.Set(before)
		}
	}
	assert.Greater(t, tried, 50)
}

// conditional are fields that are missing here, and need not be elsewhere, as their comments say.
var conditional = map[string]string{
	"nbiows: Config.Handshake": "nbiows: Config.Handshake is missing", // whose comment is that of socket.TransportConfig
	"nbiows: Config.Acceptor":  "nbiows: Config.Acceptor is missing",
	"parley: Config.PublicURL": "parley: Config.PublicURL is missing",
	"socketio: Config.Engine":  "engineio: Config.Upgrader is missing",
}

// Everything that is wrong is said at once, each on a line.
func TestEverythingIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range configurations(t) {
		v := reflect.ValueOf(c.of).Elem()
		want := 0
		for i := range v.NumField() {
			if value := v.Field(i); value.CanInt() && !slices.Contains(negative, name+"."+v.Type().Field(i).Name) {
				value.SetInt(-1)
				want++
			}
		}
		var got int
		for _, line := range c.verdict() {
			if strings.HasSuffix(line, " is negative") {
				got++
			}
		}
		assert.Equal(t, want, got, "%s: %q", name, c.verdict())
	}
}

func TestEveryConfigurationIsTried(t *testing.T) {
	t.Parallel()
	known := slices.Clone(lenient)
	for name := range configurations(t) {
		known = append(known, name)
	}
	fields, want := declared(t), []string{}
	for name := range fields {
		want = append(want, name)
	}
	// A transport's is an alias.
	known = slices.DeleteFunc(known, func(name string) bool { return name == "nbiows: Config" })
	assert.ElementsMatch(t, want, known)
	for _, name := range lenient {
		assert.Contains(t, fields[name][""].doc, "not positive", "%s says that a negative limit is not refused", name)
	}
	for _, name := range negative {
		config, field, _ := strings.Cut(strings.Replace(name, ": ", ":", 1), ".")
		assert.Contains(t, fields[strings.Replace(config, ":", ": ", 1)][field].doc, "negative", name)
	}
}

// A field as the source declares it. The name "" is the configuration's own.
type field struct {
	doc      string
	required bool
}

var isRequired = regexp.MustCompile(`(?m)\bRequired\b|^required$`)

// declared lists the configurations of core and adapters with their fields, from their sources.
func declared(t *testing.T) map[string]map[string]field {
	t.Helper()
	all := map[string]map[string]field{}
	for _, pattern := range []string{"core/*/*.go", "adapters/*/*.go", "adapters/*/*/*.go"} {
		files, err := filepath.Glob(filepath.Join("../../../..", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				declaredIn(t, file, all)
			}
		}
	}
	return all
}

func declaredIn(t *testing.T, file string, all map[string]map[string]field) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range g.Specs {
			typ, ok := s.(*ast.TypeSpec)
			if !ok || !typ.Name.IsExported() || !strings.HasSuffix(typ.Name.Name, "Config") {
				continue
			}
			structure, ok := typ.Type.(*ast.StructType)
			if !ok {
				continue // an alias of another's
			}
			fields := map[string]field{"": {doc: g.Doc.Text()}}
			for _, l := range structure.Fields.List {
				doc := l.Doc.Text() + l.Comment.Text()
				for _, n := range l.Names {
					fields[n.Name] = field{doc, isRequired.MatchString(doc)}
				}
			}
			all[f.Name.Name+": "+typ.Name.Name] = fields
		}
	}
}
