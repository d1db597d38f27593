package smtpmail

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/settings"
)

// Security says how the connection to the server is protected.
type Security string

// How a connection is protected. The zero Security is StartTLS.
const (
	// StartTLS begins in clear and turns to TLS before anything else. A server that does not
	// offer it gets nothing.
	StartTLS Security = "starttls"
	// Implicit is TLS from the first byte.
	Implicit Security = "implicit"
	// None sends mails in clear, and so is for a server on the same machine or network.
	None Security = "none"
)

// Auth says how user name and password are given to the server.
type Auth string

// Ways to authenticate. The zero Auth is AuthAuto. All give the password away to the server.
const (
	// AuthAuto is PLAIN if the server offers it, else LOGIN.
	AuthAuto Auth = "auto"
	// AuthPlain is PLAIN (RFC 4616).
	AuthPlain Auth = "plain"
	// AuthLogin is LOGIN, which some servers offer alone.
	AuthLogin Auth = "login"
)

// Config is what a [Sender] needs. Zero fields without "required" mean the default. It prints and
// logs without the password.
type Config struct {
	// Host is the server's name or address; its certificate is verified against it. Required.
	Host string
	// Port is 1 to 65535. Default 587 with StartTLS, 465 with Implicit, 25 with None.
	Port int
	// Security protects the connection. Default StartTLS.
	Security Security
	// Username and Password authenticate; set both or neither. Default: no authentication.
	Username, Password string
	// Auth is the way to authenticate. Default AuthAuto.
	Auth Auth
	// AllowPlaintextAuth lets the password be sent with Security None, to a server on loopback
	// only. Default false.
	AllowPlaintextAuth bool
	// TLS is used for connections, with Host as ServerName and TLS 1.2 as the lowest version
	// unless it says otherwise. It is where the certificate of a private authority goes. Default:
	// the system's authorities.
	TLS *tls.Config
	// DKIM signs each mail. Default: mails are not signed.
	DKIM *DKIM
	// Hello is this machine's name in EHLO. Default: its address on the connection, as a literal
	// (RFC 5321 section 4.1.3).
	Hello string
	// Connections is how many mails are sent at once at most. Default 4.
	Connections int
	// Timeout bounds one Send, from when it has a connection to itself, and one Check. Default 30 seconds.
	Timeout time.Duration
	// IdleTimeout is how long a connection is kept that nobody uses. Default 30 seconds.
	IdleTimeout time.Duration
	// Dial connects; it must honour its context. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock, for the header Date and between logs. Default time.Now.
	Now func() time.Time
	// Log gets failures that a person has to mend. Default: nothing.
	Log *slog.Logger
}

// ParseURL reads a configuration from smtp://user:password@host:port?tls=starttls|implicit|none.
// User, port and parameters may be left out; further parameters are auth=auto|plain|login,
// plaintext-auth=true (Config.AllowPlaintextAuth) and hello (Config.Hello). Characters that mean
// something in a URL are percent-encoded in user and password. An error repeats nothing of the
// URL: where one is mistyped, any part of it may be the password's.
func ParseURL(text string) (Config, error) {
	refuse := func(why string) (Config, error) { return Config{}, errors.New("smtpmail: URL: " + why) }
	const hint = "; characters such as / ? # @ : % in user and password must be percent-encoded"
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil { // err quotes the URL
		return refuse("it cannot be read" + hint)
	}
	switch {
	case u.Scheme != "smtp":
		return refuse("it does not begin with smtp://")
	case u.Opaque != "" || u.Hostname() == "":
		return refuse("the host is missing" + hint)
	case u.Path != "" && u.Path != "/", u.Fragment != "":
		return refuse("something follows the port that is no parameter" + hint)
	}
	cfg := Config{Host: u.Hostname()}
	if u.Port() != "" {
		if cfg.Port, err = strconv.Atoi(u.Port()); err != nil || cfg.Port < 1 || cfg.Port > 65535 {
			return refuse("the port is not 1 to 65535")
		}
	}
	if u.User != nil {
		cfg.Username = u.User.Username()
		cfg.Password, _ = u.User.Password()
		if cfg.Username == "" || cfg.Password == "" {
			return refuse("user and password must both be there, or neither")
		}
	}
	parameters, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return refuse("the parameters cannot be read" + hint)
	}
	for name, values := range parameters {
		if len(values) > 1 {
			return refuse("a parameter is there twice")
		}
		switch value := values[0]; name {
		case "tls":
			if cfg.Security = Security(value); value == "" || !cfg.Security.known() {
				return refuse("tls is none of starttls, implicit, none")
			}
		case "auth":
			if cfg.Auth = Auth(value); value == "" || !cfg.Auth.known() {
				return refuse("auth is none of auto, plain, login")
			}
		case "plaintext-auth":
			if cfg.AllowPlaintextAuth = value == "true"; !cfg.AllowPlaintextAuth && value != "false" {
				return refuse("plaintext-auth is neither true nor false")
			}
		case "hello":
			cfg.Hello = value
		default:
			return refuse("a parameter is none of tls, auth, plaintext-auth, hello" + hint)
		}
	}
	if _, err := cfg.complete(); err != nil {
		return Config{}, fmt.Errorf("smtpmail: URL: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return cfg, nil
}

func (s Security) known() bool { return s == "" || s == StartTLS || s == Implicit || s == None }

func (a Auth) known() bool { return a == "" || a == AuthAuto || a == AuthPlain || a == AuthLogin }

// complete checks everything and fills in defaults. The error holds no value of a field.
func (c Config) complete() (Config, error) {
	check := settings.Of("smtpmail: Config")
	check.Require("Host", c.Host == "")
	if c.Host != "" && !isName(c.Host) {
		check.Refuse("Host", "is not a name or an address")
	}
	if c.Port < 0 {
		check.Refuse("Port", "is negative")
	}
	if c.Port > 65535 {
		check.Refuse("Port", "is not 1 to 65535")
	}
	if !c.Security.known() {
		check.Refuse("Security", "is none of starttls, implicit, none")
	}
	if !c.Auth.known() {
		check.Refuse("Auth", "is none of auto, plain, login")
	}
	if (c.Username == "") != (c.Password == "") {
		check.Refuse("Username", "and Password must both be set, or neither")
	}
	if strings.ContainsRune(c.Username+c.Password, 0) {
		check.Refuse("Username", "or Password has a zero byte")
	}
	if c.Username != "" && c.Security == None {
		ip := net.ParseIP(c.Host)
		switch {
		case c.Host != "localhost" && (ip == nil || !ip.IsLoopback()):
			check.Refuse("Password", "is never sent without TLS to another machine")
		case !c.AllowPlaintextAuth:
			check.Refuse("Password", "is not sent without TLS unless that is allowed (AllowPlaintextAuth, plaintext-auth=true)")
		}
	}
	if c.DKIM != nil {
		c.DKIM.check(check)
	}
	if c.Hello != "" && !isName(c.Hello) {
		check.Refuse("Hello", "is not a host name")
	}
	settings.Default(check, "Connections", &c.Connections, 4)
	settings.Default(check, "Timeout", &c.Timeout, 30*time.Second)
	settings.Default(check, "IdleTimeout", &c.IdleTimeout, 30*time.Second)
	if err := check.Err(); err != nil {
		return Config{}, err
	}

	c.Security = cmp.Or(c.Security, StartTLS)
	c.Auth = cmp.Or(c.Auth, AuthAuto)
	c.Port = cmp.Or(c.Port, map[Security]int{StartTLS: 587, Implicit: 465, None: 25}[c.Security])
	if c.TLS == nil {
		c.TLS = &tls.Config{}
	}
	c.TLS = c.TLS.Clone()
	c.TLS.ServerName = cmp.Or(c.TLS.ServerName, c.Host)
	c.TLS.MinVersion = cmp.Or(c.TLS.MinVersion, tls.VersionTLS12)
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// isName reports whether s can be a host name or address: printable ASCII without spaces.
func isName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

func (c Config) address() string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) }

// LogValue hides the password.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("server", c.address()),
		slog.String("tls", string(cmp.Or(c.Security, StartTLS))),
		slog.String("user", c.Username),
		slog.Bool("password", c.Password != ""),
		slog.Bool("dkim", c.DKIM != nil),
	)
}

// String hides the password.
func (c Config) String() string { return "smtpmail.Config" + c.LogValue().String() }

// GoString hides the password.
func (c Config) GoString() string { return c.String() }

// maxErrorText bounds what an error repeats of a server's answer, in bytes.
const maxErrorText = 400

// shortPassword is the length in bytes below which a password may be a part of any word.
const shortPassword = 6

// hideWord hides a password where it is no part of a longer word.
func hideWord(text, password string) string {
	part := func(r rune) bool { return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) }
	var out strings.Builder
	for rest := text; ; {
		i := strings.Index(rest, password)
		if i < 0 {
			out.WriteString(rest)
			return out.String()
		}
		last, _ := utf8.DecodeLastRuneInString(text[:len(text)-len(rest)+i])
		after := rest[i+len(password):]
		first, _ := utf8.DecodeRuneInString(after)
		out.WriteString(rest[:i])
		if part(last) || part(first) {
			out.WriteString(password)
		} else {
			out.WriteString("(hidden)")
		}
		rest = after
	}
}

// scrub returns err, or if its text holds what a log should not, an error without that: servers
// may repeat what they were sent.
func (c Config) scrub(err error) error {
	text := err.Error()
	if c.Password != "" {
		encode := base64.StdEncoding.EncodeToString
		for _, secret := range []string{
			encode([]byte("\x00" + c.Username + "\x00" + c.Password)), // PLAIN
			encode([]byte(c.Password)),                                // LOGIN
		} {
			text = strings.ReplaceAll(text, secret, "(hidden)")
		}
		if len(c.Password) < shortPassword {
			text = hideWord(text, c.Password)
		} else {
			text = strings.ReplaceAll(text, c.Password, "(hidden)")
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…"
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
