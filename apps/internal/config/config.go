// Package config reads what a program is told: by flags, by the environment, and by default.
// Nothing else reads either.
package config

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/adapters/passrange"
	"github.com/parley-chat/parley/adapters/redisstore"
	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	hooks "github.com/parley-chat/parley/core/webhook"
)

// Program is one of the programs of this module.
type Program string

// The programs.
const (
	Parley Program = "parley" // all in one
	Auth   Program = "auth"
	Mailer Program = "mailer"
	Socket Program = "socket"
)

// Settings is what a program is told. A field's flag has the name in its tag; its environment
// variable is the same in upper case behind PARLEY_, with _ for -. A secret can also be in a file
// that the variable with _FILE names. A flag goes before the environment, and that before the
// default. A field with the tag of is known to those programs only.
type Settings struct {
	Listen    string `name:"listen" default:"${listen}" help:"Address to serve on."`
	PublicURL string `name:"public-url" help:"${publicurl}"`
	// AdminListen is where operators are served, or off.
	AdminListen string `name:"admin-listen" default:"${adminlisten}" help:"Address to serve operators on: /metrics, /debug/pprof/${adminserves} and health. off serves them nowhere."`

	SocketURL string `name:"socket-url" of:"auth" help:"Where people reach the sockets, for the page at /: wss://chat.example.com/socket. Default: /socket on the same host, by a proxy."`
	Data      string `name:"data" default:"./parley-data" help:"${data}"`
	Node      string `name:"node" of:"parley mailer socket" help:"Name of this process among those of its kind, the same over its restarts: letters, digits, '.', '_' and '-'. It makes a restart quicker for the others. Default: made at the start."`

	Store       string `name:"store" secret:"url" help:"Where ${kept} are: sqlite:FILE, postgres://user:password@host/db, mysql://user:password@host/db (also MariaDB), mongodb://user:password@host/db, or memory: to keep nothing. Default: SQLite in the data folder."`
	Migrate     string `name:"migrate" default:"auto" enum:"auto,check" help:"Schema at the start: auto creates or upgrades it; check ends the start if it is not current (see the command migrate)."`
	Bus         string `name:"bus" secret:"url" default:"${bus}" help:"What carries events: ${buses}kafka://user:password@host:port,host:port?sasl=plain|scram-sha-256|scram-sha-512&tls=true, with prefix, partitions, replication and retention for the topics."`
	Redis       string `name:"redis" secret:"url" help:"${redis} Default: none."`
	RedisPrefix string `name:"redis-prefix" default:"parley:" help:"What every key and channel in Redis begins with."`
	MailQueue   string `name:"mail-queue" of:"parley mailer" default:"store" help:"Where mails wait: store, or redis."`
	MailSender  string `name:"mail-sender" of:"parley mailer" default:"dev:" secret:"url" help:"Who sends mails: dev: keeps them for /dev/mail; smtp://user:password@host:port?tls=starttls|implicit|none."`
	DevMailbox  string `name:"dev-mailbox" of:"parley mailer" default:"loopback" enum:"loopback,public" help:"Who may read the mails at /dev/mail${continues}: loopback is whoever asks from this machine for localhost, public is everybody."`
	Transport   string `name:"transport" of:"parley socket" default:"${transport}" help:"What carries sockets: nbio for many connections, net for any platform and TLS."`
	Compression string `name:"compression" of:"parley socket" default:"off" enum:"on,off" help:"Whether messages of 512 bytes and more are sent compressed to clients that offer it (permessage-deflate): fewer bytes, more processor time."`
	JWKSURL     string `name:"jwks-url" of:"mailer socket" help:"Where the auth service publishes its keys, and so where it is: http://auth:5002/.well-known/jwks.json. Required, for a socket node unless there is an oidc-issuer."`
	RenewURL    string `name:"renew-url" of:"mailer" help:"Where the auth service gives fresh codes for mails that are replayed: http://auth:5002/auth/mail/renew. Default: /auth/mail/renew on the server of jwks-url, in the place of /.well-known/jwks.json."`

	DocsUser       string        `name:"docs-user" default:"linkdocs" help:"User of /api-docs."`
	DocsPassword   string        `name:"docs-password" secret:"" help:"Password of /api-docs. Default: linkdocspass on loopback, else made at start and printed."`
	AdminToken     string        `name:"admin-token" secret:"" help:"Bearer tokens of what operators alone may do on the address of admin-listen, the same for auth and mailer: at least 16 characters each, between commas or, in a file, on lines of their own. Commands and the mailer use the first. Default: none, and no access."`
	AuditRetention time.Duration `name:"audit-retention" default:"8760h" help:"How long is kept what operators have done, at least 24h."`

	AuthTaken        string         `name:"auth-taken" of:"parley auth" default:"accept" enum:"accept,conflict" help:"Answer to a sign-up with a taken address: accept tells nothing, conflict says so (409)."`
	NewDeviceMail    string         `name:"new-device-mail" of:"parley auth" default:"on" enum:"on,off" help:"Whether users get a mail when a device that is not known signs in to their account."`
	PasswordMail     string         `name:"password-mail" of:"parley auth" default:"on" enum:"on,off" help:"Whether users get a mail when their password was changed."`
	FactorMail       string         `name:"second-factor-mail" of:"parley auth" default:"on" enum:"on,off" help:"Whether users get a mail when their second factor was changed or a recovery code used."`
	PasswordMin      int            `name:"password-min" of:"parley auth" default:"8" help:"Least number of characters of a new password, 1 to 64."`
	PasswordHash     string         `name:"password-hash" of:"parley auth" default:"m=19456,t=2,p=1" help:"What a password costs to hash with Argon2id: KiB of memory, passes over it, and threads. What is hashed otherwise is hashed anew at the next sign-in."`
	LeakedURL        string         `name:"leaked-passwords-url" of:"parley auth" help:"Address of a server that knows which passwords were published, by the range API of Have I Been Pwned: https://api.pwnedpasswords.com/range/. New passwords are looked up there. Default: nobody is asked."`
	LeakedTimeout    time.Duration  `name:"leaked-passwords-timeout" of:"parley auth" default:"1s" help:"How long a new password waits for the answer of leaked-passwords-url, at most 10s."`
	LeakedOnFailure  string         `name:"leaked-passwords-on-failure" of:"parley auth" default:"open" enum:"open,closed" help:"What becomes of a new password about which leaked-passwords-url gives no answer: open takes it, closed refuses it until there is one."`
	SignInLink       string         `name:"signin-link" of:"parley auth" default:"off" enum:"on,off" help:"Whether users may sign in by a link that is mailed to them: whoever reads the mail of an address has its account."`
	LinkTTL          time.Duration  `name:"link-ttl" of:"parley auth" default:"15m" help:"How long such a link lasts, 1m to 24h."`
	SecondFactor     string         `name:"second-factor" of:"parley auth" default:"off" enum:"on,off" help:"Whether users may have an authenticator app as a second factor (TOTP), with recovery codes. Off also asks nobody who has one."`
	FactorKeys       string         `name:"second-factor-keys" of:"parley auth" secret:"" help:"Keys that seal the secrets of second factors, 32 bytes in base64 each, between commas or, in a file, on lines of their own: the first one seals, all of them open. The same for all programs on one store. Default: factor.keys in the data folder, made at the start."`
	FactorBurst      int            `name:"second-factor-burst" of:"parley auth" default:"5" help:"Codes of a second factor that are tried in ten minutes for a user from one network, by a device that has signed in before, or by a session; three times that for a user in all; ten times that from a network."`
	FreshFor         time.Duration  `name:"fresh-for" of:"parley auth" default:"10m" help:"How long after a sign-in, or after proving it once more, a second factor can be changed, and by whoever has one the password, the address and the account, 1m to 24h."`
	AccessTTL        time.Duration  `name:"access-ttl" of:"parley auth socket" default:"15m" help:"How long an access token lasts; auth and socket must agree."`
	SessionTTL       time.Duration  `name:"session-ttl" of:"parley auth" default:"720h" help:"How long a session lasts without being used."`
	SessionMax       time.Duration  `name:"session-max" of:"parley auth" default:"0s" help:"How long a session lasts in all, however often it is used. 0 means 2160h (90 days), or session-ttl if that is longer; there is always an end."`
	MaxSessions      int            `name:"max-sessions" of:"parley auth" default:"100" help:"Sessions of a user that go on at once: one more ends the oldest."`
	SignInBurst      int            `name:"signin-burst" of:"parley auth" default:"10" help:"Sign-ins a minute at an address from one network, and of a device that has signed in before; three times that at an address in all; ten times that from a network."`
	CodeBurst        int            `name:"code-burst" of:"parley auth" default:"300" help:"Mailed codes that are tried a minute from a network."`
	RefreshBurst     int            `name:"refresh-burst" of:"parley auth" default:"60" help:"Refreshes a minute of a session; a hundred times that from a network."`
	TicketBurst      int            `name:"ticket-burst" of:"parley auth" default:"60" help:"Socket tickets a minute of a session."`
	MailBurst        int            `name:"mail-burst" of:"parley auth" default:"3" help:"Mails of one action (sign-up, resend, forgotten, link) that a client can have sent to an address in ten minutes; four times that for all clients, ten times for all addresses of a client."`
	Issuer           string         `name:"issuer" of:"parley auth socket" default:"parley" help:"Issuer of tokens (iss)."`
	KeyAlgorithm     string         `name:"key-algorithm" of:"parley auth" default:"EdDSA" enum:"EdDSA,ES256,PS256" help:"Algorithm of keys that are made to sign tokens, at the first start and when keys are rotated: EdDSA (Ed25519), ES256 (P-256) or PS256 (RSA of 3072 bits)."`
	KeyAge           string         `name:"key-age" of:"parley auth" default:"2160h" help:"How long a key signs tokens until a new one takes its place, at least 24h; off rotates keys by command only."`
	OIDCIssuer       string         `name:"oidc-issuer" of:"socket" help:"OpenID issuer whose access tokens are accepted instead of those of the auth service: https://id.example.com/realms/chat, as its tokens write it (iss). Default: none."`
	OIDCAudience     string         `name:"oidc-audience" of:"socket" help:"Whom tokens of oidc-issuer must be for (aud). Required with it."`
	OIDCAlgorithms   []string       `name:"oidc-algorithms" of:"socket" default:"EdDSA,ES256,PS256,RS256" help:"Algorithms of the keys of oidc-issuer that are believed."`
	OIDCTypes        []string       `name:"oidc-types" of:"socket" default:"at+jwt" help:"Types (typ) of its access tokens: at+jwt, and JWT for an issuer that gives them no type of their own."`
	OIDCUserClaim    string         `name:"oidc-user-claim" of:"socket" default:"sub" help:"Claim that holds the ID of the user."`
	OIDCNameClaim    string         `name:"oidc-name-claim" of:"socket" default:"name" help:"Claim that holds the name of the user."`
	OIDCRoleClaim    string         `name:"oidc-role-claim" of:"socket" help:"Claim that holds the roles of the user: groups, realm_access.roles. Default: none, and everybody has the role user."`
	OIDCAdminRole    string         `name:"oidc-admin-role" of:"socket" default:"admin" help:"Role in oidc-role-claim of those who have the role admin."`
	Product          string         `name:"product" default:"Parley" help:"Name that mails and pages speak for."`
	MailFrom         string         `name:"mail-from" of:"parley mailer" help:"Sender of mails. Default: no-reply@ and the host of the public URL."`
	MailFromName     string         `name:"mail-from-name" of:"parley mailer" help:"Name of the sender. Default: the product."`
	MailDKIMKey      string         `name:"mail-dkim-key" of:"parley mailer" secret:"" help:"Private key that signs mails (DKIM), in PEM: Ed25519, or RSA of at least 2048 bits. Default: mails are not signed."`
	MailDKIMSelector string         `name:"mail-dkim-selector" of:"parley mailer" default:"parley" help:"Name of that key among those of its domain: it stands in the DNS record."`
	MailDKIMDomain   string         `name:"mail-dkim-domain" of:"parley mailer" help:"Domain that signs mails. Default: that of the sender, mail-from."`
	MailLanguage     string         `name:"mail-language" of:"parley mailer" default:"en" help:"Language of mails to people of whom no other is known: en, de, or one that mail-templates has."`
	MailTemplates    string         `name:"mail-templates" of:"parley mailer" help:"Folder of templates that take the place of those that come with the program, one by one. Default: none."`
	Origins          []string       `name:"origins" help:"Origins of pages that may use this besides its own and that of the public URL: https://chat.example.com, https://*.example.com for all hosts below, or * for any."`
	TLSCert          string         `name:"tls-cert" help:"Certificate chain (PEM) to serve TLS with${tlsneeds}."`
	TLSKey           string         `name:"tls-key" help:"Key (PEM) of the certificate."`
	TrustProxies     []string       `name:"trusted-proxies" help:"Networks of proxies whose X-Forwarded-For counts."`
	SocketRate       int            `name:"socket-rate" of:"parley socket" default:"50" help:"Events a second that a connection may send on average, and calls a second that a user may make about rooms; -1 for no limit."`
	SocketBurst      int            `name:"socket-burst" of:"parley socket" default:"200" help:"Events that a connection may send at once, and calls of a user about rooms."`
	MaxConns         int            `name:"max-connections" of:"parley socket" default:"1000000" help:"Connections of this node."`
	MaxUserConns     int            `name:"max-user-connections" of:"parley socket" default:"1000" help:"Connections of a user on this node."`
	SocketIO         string         `name:"socketio" of:"parley socket" default:"on" enum:"on,off" help:"Whether Socket.IO clients are served at /socket.io/."`
	SocketIOQuery    string         `name:"socketio-query-token" of:"parley socket" default:"on" enum:"on,off" help:"Whether a Socket.IO client may give its token in the query, which proxies write into their logs."`
	SocketIORecovery string         `name:"socketio-recovery" of:"parley socket" default:"on" enum:"on,off" help:"Whether a Socket.IO client that comes back gets what it has missed. Messages have one argument more then."`
	HandshakeBurst   int            `name:"handshake-burst" of:"parley socket" default:"60000" help:"Socket handshakes a minute from a network, at once at most."`
	ScreenURL        string         `name:"screen-url" of:"parley socket" secret:"url" help:"Address of a server of yours that is asked about each message before it is stored: https://chat.example.com/screen. Default: nobody is asked."`
	ScreenSecret     string         `name:"screen-secret" of:"parley socket" secret:"" help:"Secrets that sign what screen-url is asked, after Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes; several, with commas between, while one takes the place of another. Required with screen-url."`
	ScreenTimeout    time.Duration  `name:"screen-timeout" of:"parley socket" default:"300ms" help:"How long a message waits for the answer of screen-url, at most 5s."`
	ScreenOnFailure  string         `name:"screen-on-failure" of:"parley socket" default:"closed" enum:"open,closed" help:"What becomes of a message about which screen-url gives no answer: closed refuses it, open stores it as it is."`
	ScreenPrivate    string         `name:"screen-private" of:"parley socket" default:"off" enum:"on,off" help:"on: screen-url may be http, and lead to private addresses such as this machine. off: it is https, and leads to the public internet."`
	WebhookURL       string         `name:"webhook-url" of:"parley mailer" secret:"url" help:"Address of a server of yours that is told what has happened, after Standard Webhooks: https://chat.example.com/hooks. Default: nobody is told."`
	WebhookSecret    string         `name:"webhook-secret" of:"parley mailer" secret:"" help:"Secrets that sign what webhook-url is told, as those of screen-secret. Required with webhook-url."`
	WebhookEvents    []string       `name:"webhook-events" of:"parley auth socket" help:"What is told: types with commas between, such as user.created,user.*, or * for all; off for nothing. Default: ${webhookevents}"`
	WebhookTimeout   time.Duration  `name:"webhook-timeout" of:"parley mailer" default:"4s" help:"How long webhook-url may take to answer, at most 8s."`
	WebhookPrivate   string         `name:"webhook-private" of:"parley mailer" default:"off" enum:"on,off" help:"on: webhook-url may be http, and lead to private addresses such as this machine. off: it is https, and leads to the public internet."`
	Retention        time.Duration  `name:"retention" of:"parley socket" default:"0s" help:"How long messages are kept, from 1m to 876000h: 720h is 30 days. 0 keeps them for ever."`
	LogFormat        string         `name:"log-format" default:"auto" enum:"auto,text,json" help:"Format of logs: auto is text on a terminal, JSON otherwise."`
	LogLevel         string         `name:"log-level" default:"info" enum:"debug,info,warn,error" help:"Least level of logs."`
	Traces           string         `name:"traces" default:"off" enum:"off,otlp" help:"Where traces go: otlp exports them over HTTP, as the variables of OpenTelemetry say (OTEL_EXPORTER_OTLP_ENDPOINT and others)."`
	DrainTimeout     time.Duration  `name:"drain-timeout" default:"5s" help:"How long what is under way may take at the end, at most 8s."`
	TrustedRanges    []netip.Prefix `kong:"-"`

	// Program is which program is told.
	Program Program `kong:"-"`
	// Unused names the variables that are set and mean something to other programs only, in order.
	Unused []string `kong:"-"`
	// Files are where secrets were read from, by the names of their settings: see Reread.
	Files map[string]string `kong:"-"`
	// Notes say what was made of settings that whoever gave them should know.
	Notes []string `kong:"-"`
}

// words are what differs between the programs in defaults and help.
var words = map[Program]map[string]string{
	Parley: {
		"about": "A chat back end: accounts, mail and real-time chat in one program.", "listen": "localhost:5002", "adminlisten": "localhost:6002", "adminserves": ", /mail/, /webhooks/, /rooms, /admin/users",
		"publicurl": "Base of the links in mails. Default: http:// and the address.", "data": "Folder of everything that is kept.",
		"kept": "accounts and messages", "continues": ", and continue as Ada or Grace on the page", "bus": "memory:", "buses": "memory: for this process; ",
		"redis":    "Server for recent messages, fan-out between nodes, presence and limits: redis://, rediss:// for TLS, several hosts for a cluster, ?master_name= for Sentinels.",
		"tlsneeds": "; needs the transport net", "webhookevents": "* where there is a webhook-url.",
	},
	Auth: {
		"about": "The accounts of a chat back end: sign-up, sign-in, sessions and their tokens.", "listen": ":5002", "adminlisten": "localhost:6002", "adminserves": ", /admin/users",
		"publicurl": "Address under which people reach this. Default: http:// and the address.", "data": "Folder of the keys that sign tokens.",
		"kept": "accounts and sessions", "bus": "", "buses": "required; ", "tlsneeds": "", "webhookevents": "off. The mailer has the webhook-url.",
		"redis": "Server for limits that several processes share: redis://, rediss:// for TLS, several hosts for a cluster, ?master_name= for Sentinels.",
	},
	Mailer: {
		"about": "The mailer of a chat back end: takes events from the bus and sends what they ask for.", "listen": ":5004", "adminlisten": "localhost:6004", "adminserves": ", /mail/, /webhooks/",
		"publicurl": "Base of the links in mails: where people reach the accounts. Default: http://localhost:5002.", "data": "Folder of the development mailbox.",
		"kept": "mails that wait", "continues": "", "bus": "", "buses": "required; ", "tlsneeds": "",
		"redis": "Server for the mail queue: redis://, rediss:// for TLS, several hosts for a cluster, ?master_name= for Sentinels.",
	},
	Socket: {
		"about": "A socket node of a chat back end: real-time chat over WebSockets.", "listen": ":5003", "adminlisten": "localhost:6003", "adminserves": ", /rooms, /admin/users",
		"publicurl": "Where people reach the page and, by a proxy, the sockets. Default: http:// and the address.", "data": "Folder of the SQLite store.",
		"kept": "messages", "bus": "", "buses": "required; ", "tlsneeds": "; needs the transport net", "webhookevents": "off. The mailer has the webhook-url.",
		"redis": "Server for recent messages, fan-out between nodes, presence and spent tickets: redis://, rediss:// for TLS, several hosts for a cluster, ?master_name= for Sentinels. Several nodes need it.",
	},
}

// knows reports whether the program is told this field of Settings.
func (p Program) knows(name string) bool {
	f, ok := reflect.TypeFor[Settings]().FieldByName(name)
	if !ok || f.Tag.Get("name") == "" {
		return false
	}
	of, some := f.Tag.Lookup("of")
	return !some || slices.Contains(strings.Fields(of), string(p))
}

// ErrHelp says that help, or the version, was asked for and printed.
var ErrHelp = errors.New("help was printed")

// Load reads what the program is told by args and environment (as from os.Environ). Help goes to
// stdout. The error is one line that names the flag or variable, and repeats no password of an address,
// whatever the setting is for.
func Load(program Program, args, environment []string, stdout io.Writer) (Settings, Command, error) {
	s, cmd, err := load(program, args, environment, stdout)
	if err != nil && credentials.MatchString(err.Error()) {
		err = errors.New(credentials.ReplaceAllString(err.Error(), "${1}xxxxx@"))
	}
	return s, cmd, err
}

// credentials are those of an address within a text.
var credentials = regexp.MustCompile(`(://[^/\s:@"]*:)[^/\s@"]+@`)

func load(program Program, args, environment []string, stdout io.Writer) (Settings, Command, error) {
	env, err := known(program, environment)
	if err != nil {
		return Settings{}, Command{}, err
	}
	args = joinNegative(args)
	commands := reflect.TypeFor[parleyCommands]()
	switch program {
	case Auth:
		commands = reflect.TypeFor[authCommands]()
	case Mailer:
		commands = reflect.TypeFor[mailerCommands]()
	case Socket:
		commands = reflect.TypeFor[socketCommands]()
	}
	// The flags are those fields of Settings that the program knows.
	var fields []reflect.StructField
	for f := range visible(program) {
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.Type, Tag: f.Tag + ` group:"settings"`})
	}
	line := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "Flags", Type: reflect.StructOf(fields), Tag: `embed:""`},
		{Name: "Commands", Type: commands, Tag: `embed:""`},
		{Name: "Version", Type: reflect.TypeFor[kong.VersionFlag](), Tag: `name:"version" help:"Print the version, the commit and the version of Go."`},
	}))
	vars := kong.Vars{"transport": defaultTransport, "version": versionLine(program)}
	maps.Copy(vars, words[program])
	helped := false
	parser, err := kong.New(line.Interface(),
		kong.Name(string(program)), kong.Description(vars["about"]), vars, kong.Writers(stdout, stdout),
		kong.Exit(func(int) { helped = true }), kong.Resolvers(kong.ResolverFunc(env.resolve)),
		kong.ExplicitGroups([]kong.Group{{Key: "settings", Title: "Settings:"}}), // behind a command's own flags
	)
	if err != nil {
		return Settings{}, Command{}, err
	}
	parsed, err := parser.Parse(args)
	if helped {
		return Settings{}, Command{}, ErrHelp
	}
	if err != nil {
		return Settings{}, Command{}, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	s := Settings{Program: program, Unused: env.unused}
	for _, f := range fields {
		reflect.ValueOf(&s).Elem().FieldByName(f.Name).Set(line.Elem().Field(0).FieldByName(f.Name))
	}
	s.Files = env.inForce(parsed)
	words, _, _ := strings.Cut(parsed.Command(), " <") // arguments follow
	cmd := command(words, line.Elem().Field(1).Interface())
	if cmd.Name == "campaign power" { // it starts the store itself
		cmd.Power.Store, s.Store = s.Store, ""
	}
	if err := s.check(cmd.alone()); err != nil {
		return Settings{}, Command{}, errors.New(s.Hide(err.Error()))
	}
	return s, cmd, nil
}

// visible yields the fields of Settings that the program knows.
func visible(program Program) iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		t := reflect.TypeFor[Settings]()
		for i := range t.NumField() {
			if program.knows(t.Field(i).Name) && !yield(t.Field(i)) {
				return
			}
		}
	}
}

// check refuses values that cannot be meant, and fills in what depends on others. Alone, the addresses
// of other services may be missing.
func (s *Settings) check(alone bool) error {
	bad := func(key, format string, args ...any) error {
		return fmt.Errorf("--%s (PARLEY_%s): %s", key, strings.ToUpper(strings.ReplaceAll(key, "-", "_")), fmt.Sprintf(format, args...))
	}
	told := map[string]bool{}
	for f := range visible(s.Program) {
		told[f.Tag.Get("name")] = true
	}
	has := func(key string) bool { return told[key] }
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return bad("listen", "%q is not host:port", s.Listen)
	}
	if _, _, err := net.SplitHostPort(s.AdminListen); err != nil && s.AdminListen != Off {
		return bad("admin-listen", "%q is neither host:port nor off", s.AdminListen)
	}
	if err := s.asciiHosts(bad); err != nil {
		return err
	}
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return bad("public-url", "%q is not a URL like https://chat.example.com", redact(s.PublicURL))
		}
		if _, err := socket.OriginOf(s.PublicURL); err != nil {
			return bad("public-url", "%v", err)
		}
		s.PublicURL = strings.TrimRight(s.PublicURL, "/")
	}
	if s.PublicURL == "" && has("public-url") {
		s.PublicURL = s.ownURL()
	}
	if s.SocketURL != "" {
		u, err := url.Parse(s.SocketURL)
		if err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return bad("socket-url", "%q is not a URL like wss://chat.example.com/socket", s.SocketURL)
		}
	}
	if s.Data == "" {
		return bad("data", "a folder is needed")
	}
	if err := s.checkServers(alone, bad); err != nil {
		return err
	}
	if has("mail-sender") && s.MailSender != "dev:" {
		if _, err := smtpmail.ParseURL(s.MailSender); err != nil {
			return bad("mail-sender", "it is not dev:, and %v", err)
		}
	}
	if err := s.checkDKIM(bad); err != nil {
		return err
	}
	if has("transport") && !slices.Contains([]string{"nbio", "net"}, s.Transport) {
		return bad("transport", "%q is neither nbio nor net", redact(s.Transport))
	}
	if has("docs-user") && s.DocsUser == "" || strings.Contains(s.DocsUser, ":") {
		return bad("docs-user", "%q is empty or has a colon", s.DocsUser)
	}
	for i, token := range humaapi.AdminTokens(s.AdminToken) {
		if n := utf8.RuneCountInString(token); n < humaapi.MinAdminToken {
			return bad("admin-token", "a token of at least %d characters is needed, which nobody guesses; number %d has %d", humaapi.MinAdminToken, i+1, n)
		}
	}
	if _, err := s.KeyMaxAge(); has("key-age") && err != nil {
		return bad("key-age", "%v", err)
	}
	if s.AuditRetention < 24*time.Hour {
		return bad("audit-retention", "%v is less than 24h", s.AuditRetention)
	}
	if has("issuer") && s.Issuer == "" {
		return bad("issuer", "a name is needed")
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return bad("tls-cert", "needs tls-key, and the other way round")
	}
	if s.TLSCert != "" && has("transport") && s.Transport != "net" {
		s.Notes = append(s.Notes, fmt.Sprintf("PARLEY_TRANSPORT: sockets are carried by net, since %s cannot carry TLS", s.Transport))
		s.Transport = "net"
	}
	if s.MailFrom != "" {
		if _, err := user.ParseEmail(s.MailFrom); err != nil {
			return bad("mail-from", "%q is not an e-mail address", s.MailFrom)
		}
	}
	for _, o := range s.Origins {
		if err := checkOrigin(o); err != nil {
			return bad("origins", "%v", err)
		}
	}
	for _, p := range s.TrustProxies {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			a, aerr := netip.ParseAddr(p)
			if aerr != nil {
				return bad("trusted-proxies", "%q is neither a network nor an address", p)
			}
			prefix = netip.PrefixFrom(a, a.BitLen())
		}
		if prefix.Addr().Is4In6() { // an IPv4 network, as dual-stack systems write it; addresses are compared as IPv4
			if prefix.Bits() < 96 {
				return bad("trusted-proxies", "%q would match nothing: an IPv4 network in IPv6 form has at least 96 bits", p)
			}
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		s.TrustedRanges = append(s.TrustedRanges, prefix)
	}
	// Never without an end by accident: what is not told has the default.
	if has("session-max") && s.SessionMax == 0 {
		s.SessionMax = max(90*24*time.Hour, s.SessionTTL)
	}
	if has("session-max") && s.SessionMax < s.SessionTTL {
		return bad("session-max", "%v is shorter than session-ttl (%v)", s.SessionMax, s.SessionTTL)
	}
	for key, d := range map[string]time.Duration{"access-ttl": s.AccessTTL, "session-ttl": s.SessionTTL, "drain-timeout": s.DrainTimeout} {
		if has(key) && d <= 0 {
			return bad(key, "%v is not positive", d)
		}
	}
	if s.DrainTimeout > 8*time.Second {
		return bad("drain-timeout", "%v is longer than 8s", s.DrainTimeout)
	}
	for key, n := range map[string]int{"signin-burst": s.SignInBurst, "second-factor-burst": s.FactorBurst, "mail-burst": s.MailBurst, "socket-burst": s.SocketBurst, "max-connections": s.MaxConns,
		"max-sessions": s.MaxSessions, "code-burst": s.CodeBurst, "refresh-burst": s.RefreshBurst, "ticket-burst": s.TicketBurst,
		"max-user-connections": s.MaxUserConns, "handshake-burst": s.HandshakeBurst} {
		if has(key) && n < 1 {
			return bad(key, "%d is less than 1", n)
		}
	}
	if err := s.checkPasswords(bad); err != nil {
		return err
	}
	if err := s.checkScreen(bad); err != nil {
		return err
	}
	if err := s.checkTemplates(bad); err != nil {
		return err
	}
	if err := s.checkWebhooks(bad); err != nil {
		return err
	}
	if err := chat.CheckRetention(s.Retention); err != nil {
		return bad("retention", "%s", fault.Public(err).Detail)
	}
	if has("socket-rate") && s.SocketRate == 0 || s.SocketRate < -1 {
		return bad("socket-rate", "%d is neither -1 nor positive", s.SocketRate)
	}
	return nil
}

// checkTemplates refuses templates with a mistake: what mails look like is not found out when one is owed.
func (s *Settings) checkTemplates(bad func(key, format string, args ...any) error) error {
	if !s.Program.knows("MailTemplates") || s.MailTemplates == "" && s.MailLanguage == "en" {
		return nil
	}
	key := "mail-language"
	if s.MailTemplates != "" {
		switch at, err := os.Stat(s.MailTemplates); {
		case err != nil:
			return bad("mail-templates", "%v", err)
		case !at.IsDir():
			return bad("mail-templates", "%s is no folder", s.MailTemplates)
		}
		key = "mail-templates"
	}
	cfg := s.Templates()
	cfg.PublicURL, cfg.From = "http://localhost", ""
	if _, err := mail.NewTemplates(cfg); err != nil {
		return bad(key, "%v", err)
	}
	return nil
}

// Templates is what is said of mails, but for the public URL.
func (s *Settings) Templates() mail.TemplateConfig {
	cfg := mail.TemplateConfig{Product: s.Product, From: s.MailFrom, FromName: s.MailFromName, Language: s.MailLanguage}
	if s.MailTemplates != "" {
		cfg.Files = os.DirFS(s.MailTemplates)
	}
	return cfg
}

// checkPasswords refuses what cannot be meant about new passwords, and links in their place.
func (s *Settings) checkPasswords(bad func(key, format string, args ...any) error) error {
	if !s.Program.knows("PasswordMin") {
		return nil
	}
	if s.FreshFor < time.Minute || s.FreshFor > 24*time.Hour {
		return bad("fresh-for", "%v is not 1m to 24h", s.FreshFor)
	}
	if _, err := ParseFactorKeys(s.FactorKeys); err != nil {
		return bad("second-factor-keys", "%v", err)
	}
	if s.LinkTTL < time.Minute || s.LinkTTL > 24*time.Hour {
		return bad("link-ttl", "%v is not 1m to 24h", s.LinkTTL)
	}
	if s.PasswordMin < 1 || s.PasswordMin > 64 {
		return bad("password-min", "%d is not 1 to 64", s.PasswordMin)
	}
	if _, err := s.PasswordHashing(); err != nil {
		return bad("password-hash", "%v", err)
	}
	if s.LeakedURL != "" {
		if err := passrange.CheckURL(s.LeakedURL); err != nil {
			return bad("leaked-passwords-url", "it %v", err)
		}
	}
	if s.LeakedTimeout <= 0 || s.LeakedTimeout > 10*time.Second {
		return bad("leaked-passwords-timeout", "%v is not above 0 and at most 10s", s.LeakedTimeout)
	}
	return nil
}

// PasswordHashing is what PasswordHash says.
func (s *Settings) PasswordHashing() (passhash.Config, error) {
	var memory, passes uint32
	var threads uint8
	if n, err := fmt.Sscanf(s.PasswordHash, "m=%d,t=%d,p=%d", &memory, &passes, &threads); n != 3 || err != nil || fmt.Sprintf("m=%d,t=%d,p=%d", memory, passes, threads) != s.PasswordHash {
		return passhash.Config{}, errors.New("it is not like m=19456,t=2,p=1")
	}
	cfg := passhash.Config{Memory: memory, Time: passes, Threads: threads}
	if memory == 0 || passes == 0 || threads == 0 {
		return cfg, errors.New("none of the three can be 0")
	}
	_, err := passhash.New(cfg)
	return cfg, err
}

// checkScreen refuses what cannot be meant about the server that is asked about messages.
func (s *Settings) checkScreen(bad func(key, format string, args ...any) error) error {
	if s.ScreenURL != "" {
		if err := webhook.CheckURL(s.ScreenURL, s.ScreenPrivate == "on"); err != nil {
			return bad("screen-url", "it %v", err)
		}
		if s.ScreenSecret == "" {
			return bad("screen-secret", "screen-url needs one")
		}
	}
	if s.ScreenSecret != "" {
		if err := webhook.CheckSecrets(s.ScreenSecrets()); err != nil {
			return bad("screen-secret", "of the secrets, %v", err)
		}
		if s.ScreenURL == "" {
			return bad("screen-secret", "nobody is asked without screen-url (PARLEY_SCREEN_URL)")
		}
	}
	if s.Program.knows("ScreenTimeout") && (s.ScreenTimeout <= 0 || s.ScreenTimeout > 5*time.Second) {
		return bad("screen-timeout", "%v is not above 0 and at most 5s", s.ScreenTimeout)
	}
	return nil
}

// checkWebhooks refuses what cannot be meant about the server that is told what has happened.
func (s *Settings) checkWebhooks(bad func(key, format string, args ...any) error) error {
	if s.WebhookURL != "" {
		if err := webhook.CheckURL(s.WebhookURL, s.WebhookPrivate == "on"); err != nil {
			return bad("webhook-url", "it %v", err)
		}
		if s.WebhookSecret == "" {
			return bad("webhook-secret", "webhook-url needs one")
		}
	}
	if s.WebhookSecret != "" {
		if err := webhook.CheckSecrets(Secrets(s.WebhookSecret)); err != nil {
			return bad("webhook-secret", "of the secrets, %v", err)
		}
		if s.WebhookURL == "" {
			return bad("webhook-secret", "nobody is told without webhook-url (PARLEY_WEBHOOK_URL)")
		}
	}
	if _, err := s.WebhookSelection(); err != nil {
		return bad("webhook-events", "%v", err)
	}
	if s.Program == Parley && len(s.WebhookEvents) > 0 && s.WebhookEvents[0] != Off && s.WebhookURL == "" {
		return bad("webhook-events", "nobody is told without webhook-url (PARLEY_WEBHOOK_URL)")
	}
	if s.Program.knows("WebhookTimeout") && (s.WebhookTimeout <= 0 || s.WebhookTimeout > 8*time.Second) {
		return bad("webhook-timeout", "%v is not above 0 and at most 8s", s.WebhookTimeout)
	}
	return nil
}

// WebhookSelection is what WebhookEvents choose.
func (s *Settings) WebhookSelection() (hooks.Selection, error) {
	switch names := s.WebhookEvents; {
	case len(names) == 1 && names[0] == Off, len(names) == 0 && s.WebhookURL == "", s.Program == Mailer:
		return hooks.Selection{}, nil
	case len(names) == 0:
		return hooks.Select("*")
	default:
		return hooks.Select(names...)
	}
}

// ScreenSecrets are those of ScreenSecret.
func (s *Settings) ScreenSecrets() []string { return Secrets(s.ScreenSecret) }

// Secrets are those of a setting, which have commas between.
func Secrets(setting string) []string {
	all := strings.Split(setting, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// asciiHosts writes every host that is given in ASCII, so that whatever is made of it is right.
func (s *Settings) asciiHosts(bad func(key, format string, args ...any) error) error {
	urls := map[string]*string{
		"public-url": &s.PublicURL, "socket-url": &s.SocketURL, "jwks-url": &s.JWKSURL, "renew-url": &s.RenewURL, "screen-url": &s.ScreenURL, "webhook-url": &s.WebhookURL,
		"leaked-passwords-url": &s.LeakedURL,
		"store":                &s.Store, "bus": &s.Bus, "redis": &s.Redis, "mail-sender": &s.MailSender,
	}
	for _, key := range slices.Sorted(maps.Keys(urls)) {
		ascii, err := asciiURL(*urls[key])
		if err != nil {
			return bad(key, "%v", err)
		}
		*urls[key] = ascii
	}
	for i, o := range s.Origins {
		ascii, err := asciiURL(o)
		if err != nil {
			return bad("origins", "%q: %v", o, err)
		}
		s.Origins[i] = ascii
	}
	if i := strings.LastIndexByte(s.MailFrom, '@'); i >= 0 {
		domain, err := asciiHost(s.MailFrom[i+1:])
		if err != nil {
			return bad("mail-from", "%q: %v", s.MailFrom, err)
		}
		s.MailFrom = s.MailFrom[:i+1] + domain
	}
	return nil
}

// ownURL is the base of links where none is given; empty while it depends on the port that the start
// will be given.
func (s *Settings) ownURL() string {
	if s.Program == Mailer { // its links lead to the accounts
		return "http://localhost:5002"
	}
	if _, port, _ := net.SplitHostPort(s.Listen); port != "0" {
		return s.AddressURL(port)
	}
	return ""
}

// KeyMaxAge is what KeyAge says: how long a key signs, and 0 where it is off.
func (s *Settings) KeyMaxAge() (time.Duration, error) {
	if s.KeyAge == Off {
		return 0, nil
	}
	age, err := time.ParseDuration(s.KeyAge)
	if err != nil || age < 24*time.Hour {
		return 0, fmt.Errorf("%q is neither off nor a time of at least 24h, such as 2160h", s.KeyAge)
	}
	return age, nil
}

// Off is the value of a setting that switches something off.
const Off = "off"

// AddressURL is where people reach a program that listens as s says, on this port.
func (s *Settings) AddressURL(port string) string {
	return urlOf(s.Listen, port, s.TLSCert != "")
}

// AdminURL is where operators reach a program that serves them as s says, on this port; by TLS if secure.
func (s *Settings) AdminURL(port string, secure bool) string {
	return urlOf(s.AdminListen, port, secure)
}

func urlOf(listen, port string, secure bool) string {
	host, _, _ := net.SplitHostPort(listen) // check has looked at it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// checkServers refuses addresses of servers that cannot be meant.
func (s *Settings) checkServers(alone bool, bad func(key, format string, args ...any) error) error {
	if s.Store == "" {
		s.Store = "sqlite:" + filepath.Join(s.Data, string(s.Program)+".db")
	}
	switch scheme, rest, _ := strings.Cut(s.Store, ":"); {
	case scheme == "memory" && rest == "":
	case scheme == "sqlite" && rest != "":
	case scheme == "postgres" || scheme == "mysql" || scheme == "mongodb" || scheme == "mongodb+srv":
		// Several hosts are more than net/url reads as one, so they are left to the driver.
		authority, path, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
		name, _, _ := strings.Cut(path, "?")
		if !strings.HasPrefix(rest, "//") || authority == "" || name == "" {
			return bad("store", "it is not %s://user:password@host:port/database", scheme)
		}
	default:
		return bad("store", "%q is none of memory:, sqlite:FILE, postgres://…, mysql://… and mongodb://…", redact(s.Store))
	}
	switch {
	case s.Bus == "memory:" && s.Program == Parley:
	case s.Bus == "memory:":
		return bad("bus", "memory: is for the all-in-one only: a process by itself hears nobody")
	case s.Bus == "" && alone:
	case s.Bus == "":
		return bad("bus", "kafka://host:port is needed")
	default:
		if _, err := kafkabus.ParseURL(s.Bus); err != nil {
			return bad("bus", "it is neither memory: nor a Kafka: %v", err)
		}
	}
	if s.Redis != "" {
		if err := redisstore.CheckURL(s.Redis); err != nil {
			return bad("redis", "%v", err)
		}
	}
	if strings.ContainsAny(s.RedisPrefix, "{}") || s.RedisPrefix == "" {
		return bad("redis-prefix", "%q is empty or has braces", s.RedisPrefix)
	}
	if s.Program.knows("MailQueue") && s.MailQueue != "store" && s.MailQueue != "redis" {
		return bad("mail-queue", "%q is neither store nor redis", redact(s.MailQueue))
	}
	if s.MailQueue == "redis" && s.Redis == "" {
		return bad("mail-queue", "redis needs --redis (PARLEY_REDIS)")
	}
	if strings.Trim(s.Node, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || len(s.Node) > 64 {
		return bad("node", "%q has other characters than letters, digits, '.', '_' and '-', or more than 64", s.Node)
	}
	if err := s.checkOIDC(alone, bad); err != nil {
		return err
	}
	if (s.Program == Mailer || s.Program == Socket && s.OIDCIssuer == "") && (!alone || s.JWKSURL != "") {
		if u, err := url.Parse(s.JWKSURL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return bad("jwks-url", "an address like http://auth:5002/.well-known/jwks.json is needed")
		}
	}
	if s.Program != Mailer {
		return nil
	}
	if base, standard := strings.CutSuffix(s.JWKSURL, "/.well-known/jwks.json"); s.RenewURL == "" && standard {
		s.RenewURL = base + "/auth/mail/renew"
	}
	switch u, err := url.Parse(s.RenewURL); {
	case s.RenewURL == "" && alone:
	case s.RenewURL == "":
		return bad("renew-url", "it is needed, since jwks-url does not end in /.well-known/jwks.json")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return bad("renew-url", "an address like http://auth:5002/auth/mail/renew is needed")
	}
	return nil
}

// checkOIDC refuses what cannot be meant about another issuer.
func (s *Settings) checkOIDC(alone bool, bad func(key, format string, args ...any) error) error {
	if s.Program != Socket {
		return nil
	}
	for _, a := range s.OIDCAlgorithms {
		if !slices.Contains([]string{"EdDSA", "ES256", "PS256", "RS256"}, a) {
			return bad("oidc-algorithms", "%q is none of EdDSA, ES256, PS256 and RS256", a)
		}
	}
	for _, t := range s.OIDCTypes {
		if t == "" || strings.ContainsAny(t, " /;\t") {
			return bad("oidc-types", "%q is not a type like at+jwt", t)
		}
	}
	for key, claim := range map[string]string{"oidc-user-claim": s.OIDCUserClaim, "oidc-name-claim": s.OIDCNameClaim, "oidc-admin-role": s.OIDCAdminRole} {
		if claim == "" {
			return bad(key, "a name is needed")
		}
	}
	switch {
	case s.OIDCIssuer == "" && s.OIDCAudience != "":
		return bad("oidc-audience", "it means something with oidc-issuer (PARLEY_OIDC_ISSUER) only")
	case s.OIDCIssuer == "":
		return nil
	case s.JWKSURL != "" && !alone:
		return bad("oidc-issuer", "tokens are those of one issuer: give either it or jwks-url (PARLEY_JWKS_URL)")
	case s.OIDCAudience == "":
		return bad("oidc-audience", "oidc-issuer needs one")
	}
	if err := jwtauth.CheckIssuer(s.OIDCIssuer); err != nil {
		return bad("oidc-issuer", "it %v", err)
	}
	return nil
}

// redact hides the passwords of a URL.
func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		scheme, _, _ := strings.Cut(s, ":")
		return scheme + ":…"
	}
	if u.Host == "" && strings.ContainsAny(s, "=@") { // no URL, but what may have a password all the same
		for _, secret := range secretsOf(s) {
			s = hide(s, secret, s)
		}
		return s
	}
	// Drivers know more of them: that of a key file, or a token among the properties of a mechanism.
	query, hidden := u.Query(), false
	for key := range query {
		name := strings.ToLower(key)
		if strings.Contains(name, "password") || strings.Contains(name, "secret") || strings.Contains(name, "properties") {
			query.Set(key, "xxxxx")
			hidden = true
		}
	}
	if hidden {
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}

// Print writes every setting as the environment would give it, secrets masked.
func (s Settings) Print(w io.Writer) error {
	for f := range visible(s.Program) {
		field := reflect.ValueOf(s).FieldByIndex(f.Index)
		value := fmt.Sprint(field.Interface())
		if list, ok := field.Interface().([]string); ok {
			value = strings.Join(list, ",")
		}
		switch kind, secret := f.Tag.Lookup("secret"); {
		case kind == "url" && strings.Contains(value, "://"):
			value = redact(value)
		case secret && kind == "" && value != "":
			value = "********"
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", variable(f.Tag.Get("name")), value); err != nil {
			return err
		}
	}
	return nil
}

func variable(name string) string {
	return "PARLEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}
