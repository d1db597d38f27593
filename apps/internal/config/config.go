// Package config reads what a program is told: by flags, by the environment, and by default.
// Nothing else reads either.
package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// Settings is what a program is told. A field's flag has the name in its tag; its environment
// variable is the same in upper case behind PARLEY_, with _ for -. A secret can also be in a file
// that the variable with _FILE names. A flag goes before the environment, and that before the default.
type Settings struct {
	Listen    string `name:"listen" default:"localhost:5002" help:"Address to serve on."`
	PublicURL string `name:"public-url" help:"Base of the links in mails. Default: http:// and the address."`
	Data      string `name:"data" default:"./parley-data" help:"Folder of everything that is kept."`

	Store      string `name:"store" secret:"url" help:"Where accounts and messages are: sqlite:FILE, postgres://user:password@host/db, mysql://user:password@host/db (also MariaDB), or memory: to keep nothing. Default: SQLite in the data folder."`
	Bus        string `name:"bus" default:"memory:" help:"What carries events: memory: for this process."`
	MailQueue  string `name:"mail-queue" default:"store" help:"Where mails wait: store."`
	MailSender string `name:"mail-sender" default:"dev:" secret:"url" help:"Who sends mails: dev: keeps them for /dev/mail; smtp://user:password@host:port?tls=starttls|implicit|none."`
	Transport  string `name:"transport" default:"${transport}" help:"What carries sockets: nbio for many connections, net for any platform and TLS."`

	DocsUser     string `name:"docs-user" default:"linkdocs" help:"User of /api-docs."`
	DocsPassword string `name:"docs-password" secret:"" help:"Password of /api-docs. Default: linkdocspass on loopback, else made at start and printed."`
	AdminToken   string `name:"admin-token" secret:"" help:"Bearer token of /mail/jobs. Default: none, and no access."`

	AuthTaken     string         `name:"auth-taken" default:"accept" enum:"accept,conflict" help:"Answer to a sign-up with a taken address: accept tells nothing, conflict says so (409)."`
	AccessTTL     time.Duration  `name:"access-ttl" default:"15m" help:"How long an access token lasts."`
	SessionTTL    time.Duration  `name:"session-ttl" default:"720h" help:"How long a session lasts without being used."`
	SignInBurst   int            `name:"signin-burst" default:"10" help:"Sign-ins a minute for an address; ten times that for a client."`
	MailBurst     int            `name:"mail-burst" default:"3" help:"Mails that an address can be sent on request in ten minutes; ten times that for a client."`
	Issuer        string         `name:"issuer" default:"parley" help:"Issuer of tokens (iss)."`
	Product       string         `name:"product" default:"Parley" help:"Name that mails and pages speak for."`
	MailFrom      string         `name:"mail-from" help:"Sender of mails. Default: no-reply@ and the host of the public URL."`
	MailFromName  string         `name:"mail-from-name" help:"Name of the sender. Default: the product."`
	Origins       []string       `name:"origins" help:"Origins that may open sockets besides this server's own, or *."`
	TLSCert       string         `name:"tls-cert" help:"Certificate chain (PEM) to serve TLS with; needs the transport net."`
	TLSKey        string         `name:"tls-key" help:"Key (PEM) of the certificate."`
	TrustProxies  []string       `name:"trusted-proxies" help:"Networks of proxies whose X-Forwarded-For counts."`
	SocketRate    int            `name:"socket-rate" default:"50" help:"Events a second that a connection may send on average; -1 for no limit."`
	SocketBurst   int            `name:"socket-burst" default:"200" help:"Events that a connection may send at once."`
	MaxConns      int            `name:"max-connections" default:"1000000" help:"Connections of this node."`
	LogFormat     string         `name:"log-format" default:"auto" enum:"auto,text,json" help:"Format of logs: auto is text on a terminal, JSON otherwise."`
	LogLevel      string         `name:"log-level" default:"info" enum:"debug,info,warn,error" help:"Least level of logs."`
	DrainTimeout  time.Duration  `name:"drain-timeout" default:"5s" help:"How long connections may take to close at the end, at most 8s."`
	TrustedRanges []netip.Prefix `kong:"-"`
}

// Command is what a program is asked to do.
type Command struct {
	// Name is the words of the command, for example "mail list".
	Name string
	// Mail and Bench are set for commands of that name.
	Mail  Mail
	Bench Bench
}

// Mail is what the mail commands are told. Not every command uses every field.
type Mail struct {
	URL, State, To, ID string
	DryRun, Data       bool
}

type mailServer struct {
	URL string `name:"url" help:"Address of the server. Default: the public URL."`
}

type mailCommands struct {
	List struct {
		mailServer
		State string `name:"state" default:"dead" enum:"ready,running,sent,dead,any" help:"State of the jobs."`
		To    string `name:"to" help:"Recipient of the jobs."`
	} `cmd:"" help:"List mail jobs, dead letters unless told otherwise."`
	Show struct {
		mailServer
		ID   string `arg:"" name:"id" help:"Job."`
		Data bool   `name:"with-data" help:"Show the data of the job, which holds codes."`
	} `cmd:"" help:"Show one."`
	Replay struct {
		mailServer
		ID     string `arg:"" optional:"" name:"id" help:"Dead letter. Without it: all that fit."`
		To     string `name:"to" help:"Recipient of the dead letters, where no id is given."`
		DryRun bool   `name:"dry-run" help:"Only say which would be replayed."`
	} `cmd:"" help:"Put a dead letter, or all that fit, back on the queue."`
	Discard struct {
		mailServer
		ID string `arg:"" name:"id" help:"Dead letter."`
	} `cmd:"" help:"Remove a dead letter for good."`
	Stats struct{ mailServer } `cmd:"" help:"Count jobs by state."`
}

// command returns what the mail command of this name was told.
func (m *mailCommands) command(name string) Mail {
	switch name {
	case "mail list":
		return Mail{URL: m.List.URL, State: m.List.State, To: m.List.To}
	case "mail show":
		return Mail{URL: m.Show.URL, ID: m.Show.ID, Data: m.Show.Data}
	case "mail replay":
		return Mail{URL: m.Replay.URL, ID: m.Replay.ID, To: m.Replay.To, DryRun: m.Replay.DryRun}
	case "mail discard":
		return Mail{URL: m.Discard.URL, ID: m.Discard.ID}
	}
	return Mail{URL: m.Stats.URL}
}

// Bench is what the bench commands are told.
type Bench struct {
	Connections int           `name:"connections" default:"5000" help:"Connections to open."`
	Rooms       int           `name:"rooms" default:"0" help:"Rooms that they spread over. Default: 1, or one for each sender (bench send)."`
	Senders     int           `name:"senders" default:"50" help:"Connections that send (bench send)."`
	InFlight    int           `name:"in-flight" default:"8" help:"Messages of a sender that wait for their ack (bench send), or of all (bench fanout)."`
	Messages    int           `name:"messages" default:"200" help:"Messages to send in all (bench fanout)."`
	Duration    time.Duration `name:"duration" default:"10s" help:"How long to measure (bench idle, bench send)."`
	Size        int           `name:"size" default:"128" help:"Bytes of a message."`
	Profile     string        `name:"profile" help:"File to write a processor profile of the server to."`
}

type commandLine struct {
	Settings
	Serve    struct{}     `cmd:"" default:"1" help:"Serve everything: the default."`
	Config   struct{}     `cmd:"" help:"Print what is in force, secrets masked."`
	Migrate  struct{}     `cmd:"" help:"Create or upgrade the schema, and end."`
	Openapi  struct{}     `cmd:"" help:"Print the OpenAPI document."`
	Asyncapi struct{}     `cmd:"" help:"Print the AsyncAPI document."`
	Types    struct{}     `cmd:"" help:"Print the TypeScript types of the socket."`
	Mail     mailCommands `cmd:"" help:"Look into the mail queue of a running server, with PARLEY_ADMIN_TOKEN."`
	Bench    struct {
		Idle   Bench `cmd:"" help:"Bytes and processor time of idle members."`
		Fanout Bench `cmd:"" help:"Processor time of a delivery."`
		Send   Bench `cmd:"" help:"Acknowledged, stored messages a second."`
		Client Bench `cmd:"" hidden:"" help:"The other side of a bench, in a process of its own."`
	} `cmd:"" help:"Measure, against a server of its own."`
}

// ErrHelp says that help was asked for and printed.
var ErrHelp = errors.New("help was printed")

// Load reads args and environment (as from os.Environ). Help goes to stdout. The error is one
// line that names the flag or variable.
func Load(args, environment []string, stdout io.Writer) (Settings, Command, error) {
	var line commandLine
	env, err := known(environment)
	if err != nil {
		return Settings{}, Command{}, err
	}
	helped := false
	parser, err := kong.New(&line,
		kong.Name("parley"), kong.Description("A chat back end: accounts, mail and real-time chat in one program."),
		kong.Vars{"transport": defaultTransport}, kong.Writers(stdout, stdout),
		kong.Exit(func(int) { helped = true }), kong.Resolvers(kong.ResolverFunc(env.resolve)),
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
	cmd := Command{Name: strings.TrimSuffix(parsed.Command(), " <id>")}
	switch cmd.Name {
	case "bench idle":
		cmd.Bench = line.Bench.Idle
	case "bench fanout":
		cmd.Bench = line.Bench.Fanout
	case "bench send":
		cmd.Bench = line.Bench.Send
	case "bench client":
		cmd.Bench = line.Bench.Client
	default:
		if strings.HasPrefix(cmd.Name, "mail ") {
			cmd.Mail = line.Mail.command(cmd.Name)
		}
	}
	s := line.Settings
	if err := s.check(); err != nil {
		return Settings{}, Command{}, err
	}
	return s, cmd, nil
}

// check refuses values that cannot be meant, and fills in what depends on others.
func (s *Settings) check() error {
	bad := func(key, format string, args ...any) error {
		return fmt.Errorf("--%s (PARLEY_%s): %s", key, strings.ToUpper(strings.ReplaceAll(key, "-", "_")), fmt.Sprintf(format, args...))
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		return bad("listen", "%q is not host:port", s.Listen)
	}
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return bad("public-url", "%q is not a URL like https://chat.example.com", s.PublicURL)
		}
		s.PublicURL = strings.TrimRight(s.PublicURL, "/")
	}
	if s.Data == "" {
		return bad("data", "a folder is needed")
	}
	if s.Store == "" {
		s.Store = "sqlite:" + filepath.Join(s.Data, "parley.db")
	}
	switch scheme, rest, _ := strings.Cut(s.Store, ":"); {
	case scheme == "memory" && rest == "":
	case scheme == "sqlite" && rest != "":
	case scheme == "postgres" || scheme == "mysql":
		if u, err := url.Parse(s.Store); err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
			return bad("store", "it is not %s://user:password@host:port/database", scheme)
		}
	default:
		return bad("store", "%q is none of memory:, sqlite:FILE, postgres://… and mysql://…", redact(s.Store))
	}
	if s.Bus != "memory:" {
		return bad("bus", "%q is not memory:", redact(s.Bus))
	}
	if s.MailQueue != "store" {
		return bad("mail-queue", "%q is not store", redact(s.MailQueue))
	}
	if s.MailSender != "dev:" {
		if _, err := smtpmail.ParseURL(s.MailSender); err != nil {
			return bad("mail-sender", "it is not dev:, and %v", err)
		}
	}
	if !slices.Contains([]string{"nbio", "net"}, s.Transport) {
		return bad("transport", "%q is neither nbio nor net", redact(s.Transport))
	}
	if s.DocsUser == "" || strings.Contains(s.DocsUser, ":") {
		return bad("docs-user", "%q is empty or has a colon", s.DocsUser)
	}
	if s.Issuer == "" {
		return bad("issuer", "a name is needed")
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return bad("tls-cert", "needs tls-key, and the other way round")
	}
	if s.TLSCert != "" {
		s.Transport = "net"
	}
	if s.MailFrom != "" {
		if _, err := user.ParseEmail(s.MailFrom); err != nil {
			return bad("mail-from", "%q is not an e-mail address", s.MailFrom)
		}
	}
	for _, o := range s.Origins {
		if err := realtime.CheckOrigin(o); err != nil {
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
		s.TrustedRanges = append(s.TrustedRanges, prefix)
	}
	for key, d := range map[string]time.Duration{"access-ttl": s.AccessTTL, "session-ttl": s.SessionTTL, "drain-timeout": s.DrainTimeout} {
		if d <= 0 {
			return bad(key, "%v is not positive", d)
		}
	}
	if s.DrainTimeout > 8*time.Second {
		return bad("drain-timeout", "%v is longer than 8s", s.DrainTimeout)
	}
	for key, n := range map[string]int{"signin-burst": s.SignInBurst, "mail-burst": s.MailBurst, "socket-burst": s.SocketBurst, "max-connections": s.MaxConns} {
		if n < 1 {
			return bad(key, "%d is less than 1", n)
		}
	}
	if s.SocketRate == 0 || s.SocketRate < -1 {
		return bad("socket-rate", "%d is neither -1 nor positive", s.SocketRate)
	}
	return nil
}

// redact hides the password of a URL.
func redact(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	scheme, _, _ := strings.Cut(s, ":")
	return scheme + ":…"
}

// Print writes every setting as the environment would give it, secrets masked.
func (s Settings) Print(w io.Writer) error {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("name")
		if name == "" {
			continue
		}
		value := fmt.Sprint(v.Field(i).Interface())
		if list, ok := v.Field(i).Interface().([]string); ok {
			value = strings.Join(list, ",")
		}
		switch kind, secret := f.Tag.Lookup("secret"); {
		case kind == "url" && strings.Contains(value, "://"):
			value = redact(value)
		case secret && kind == "" && value != "":
			value = "********"
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", variable(name), value); err != nil {
			return err
		}
	}
	return nil
}

func variable(name string) string {
	return "PARLEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// environ is the values that the environment gives, by flag.
type environ map[string]string

// known reads the variables that begin with PARLEY_ and refuses those that mean nothing: a
// misspelt name must not pass in silence.
func known(environment []string) (environ, error) {
	names, secrets := map[string]string{}, map[string]string{}
	t := reflect.TypeFor[Settings]()
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("name"); name != "" {
			names[variable(name)] = name
			if _, secret := f.Tag.Lookup("secret"); secret {
				secrets[variable(name)+"_FILE"] = name
			}
		}
	}
	env := environ{}
	for _, pair := range environment {
		key, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(key, "PARLEY_") || strings.HasPrefix(key, "PARLEY_TEST_") {
			continue
		}
		if name, ok := names[key]; ok {
			if value != "" {
				env[name] = value
			}
			continue
		}
		name, ok := secrets[key]
		if !ok {
			return nil, fmt.Errorf("%s: no setting has this name", key)
		}
		text, err := os.ReadFile(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		env[name] = strings.TrimRight(string(text), "\r\n")
	}
	return env, nil
}

// resolve gives kong the value of a flag of Settings.
func (e environ) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v, ok := e[flag.Name]; ok {
		return v, nil
	}
	return nil, nil
}
