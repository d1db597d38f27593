package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// Config is what a [Service] needs. Zero fields without "required" mean the default.
type Config struct {
	Users    user.Repository // required
	Sessions SessionStore    // required
	Codes    CodeStore       // required
	SignUps  SignUps         // required
	Hasher   Hasher          // required
	Issuer   TokenIssuer     // required
	Verifier TokenVerifier   // required
	Nonces   Nonces          // required
	Limiter  Limiter         // required
	// LocalLimiter counts what may be forgotten without harm: refreshes, tickets and looks for
	// a device. Default Limiter; one in memory spares its store these calls.
	LocalLimiter Limiter
	// Directory lists Users. Default: they cannot be listed, and nobody is made an administrator.
	Directory user.Directory
	// Factors keeps second factors; FactorKeys need it. Default: they are kept nowhere.
	Factors FactorStore
	// FactorKeys seal the secrets of second factors, and the challenges of sign-ins: each has [FactorKeyBytes] bytes. The first one seals, and each of them opens, so that they can be changed.
	// Programs that share Factors have the same keys. Default: nobody has a second factor, and nobody is asked for one.
	FactorKeys [][]byte
	// FactorIssuer is whose account it is, as authenticator apps show it. It must not have a colon. Default "Parley".
	FactorIssuer string
	// FreshFor is how long after a sign-in, or after [Service.ProveAgain], a session is fresh: so long a second factor can be added and removed. Default 10 minutes.
	FreshFor time.Duration
	// ChallengeTTL is how long a sign-in waits for the code of a second factor, at most an hour. Default 5 minutes.
	ChallengeTTL time.Duration
	// ChallengeTries is how many codes may be tried with one challenge. Default 5.
	ChallengeTries int
	// Standings, if set, is asked whether a session goes on. Default: Sessions and Users.
	Standings Standings

	// AccessTTL is how long an access token lasts, at least a second. Default 15 minutes.
	AccessTTL time.Duration
	// SessionTTL is how long a session lasts without a refresh, at least AccessTTL. Default 30 days.
	SessionTTL time.Duration
	// SessionMax is how long a session lasts in all, however often it is refreshed, at least
	// SessionTTL. Default 90 days, or SessionTTL if that is longer.
	SessionMax time.Duration
	// MaxSessions is how many sessions of a user go on at once: the next one ends the oldest.
	// Default 100.
	MaxSessions int
	// RefreshGrace is how long the refresh token before the current one is answered with the
	// current one, for a client that has lost the answer. Default 10 seconds.
	RefreshGrace time.Duration
	// CodeTTL is how long a verification code lasts. Default 24 hours.
	CodeTTL time.Duration
	// SignUpTTL is how long a sign-up waits for its confirmation, at least CodeTTL: so long new codes
	// can be asked for. Default 7 days, or CodeTTL if that is longer.
	SignUpTTL time.Duration
	// PasswordMin is the least number of characters of a new password, 1 to 64. Default [MinPassword].
	PasswordMin int
	// Passwords is the list of passwords that nobody may choose. It is asked first, and before any allowance is used up: it is one in
	// memory. Default: none.
	Passwords PasswordList
	// Leaked knows of passwords that were published, and is somewhere else: it is asked about a password that nothing else
	// speaks against, once an allowance was taken for it, and before the password is hashed. Default: nobody is asked.
	Leaked PasswordList
	// LeakedTimeout bounds how long Leaked is waited for. Default 1 second.
	LeakedTimeout time.Duration
	// LeakedFailsClosed says that a password is refused for now (an error of kind Unavailable) if Leaked fails or is late. Otherwise
	// it is taken, and Log is told.
	LeakedFailsClosed bool
	// SignUpsPerAddress is how many sign-ups may wait at one address, 1 to 100; a further one takes
	// the place of the oldest. Each of them costs a hash when somebody signs in there with a wrong
	// password. Default 5.
	SignUpsPerAddress int
	// ResetTTL is how long a code for a new password lasts. Default 1 hour.
	ResetTTL time.Duration
	// InviteTTL is how long a code lasts by which somebody chooses a first password. Default 7 days.
	InviteTTL time.Duration
	// Links lets users sign in by a link that is mailed to them: whoever reads the mail of an address has its account. Default: nobody does.
	Links bool
	// LinkTTL is how long such a link lasts. Default 15 minutes.
	LinkTTL time.Duration
	// TicketTTL is how long a socket ticket lasts, 1 to 30 seconds. Default 30 seconds.
	TicketTTL time.Duration

	// SignInRate limits guesses of a password: those of a device that has signed in before; those
	// from one network at one address; threefold, all at one address of devices that are not
	// known; tenfold, all from one network. Default 10 a minute.
	SignInRate Rate
	// FactorRate limits guesses of a code of a second factor, as SignInRate does those of a password: those of a device that is known; those from one network at one user; threefold, all at one user
	// of devices that are not known; tenfold, all from one network; and those of one session. Default 5 per 10 minutes.
	FactorRate Rate
	// CodeRate limits, per network, how many mailed codes are tried: see [Service.AllowCode].
	// Default 300 a minute.
	CodeRate Rate
	// RefreshRate limits refreshes of a session and, a hundredfold, from a network. Default 60 a minute.
	RefreshRate Rate
	// TicketRate limits the socket tickets of a session. Default 60 a minute.
	TicketRate Rate
	// MailRate limits the mails of each action (sign-up, resend, forgotten, link) by itself: so many for one
	// client to one address, four times as many for all clients to one address, and ten times as
	// many requests for one client. Default 3 per 10 minutes.
	MailRate Rate

	// NoDeviceMail, NoPasswordMail and NoFactorMail keep the mails to a user back that say that a new device has signed in, that the
	// password was changed, and that the second factor was changed or a recovery code used. Default: they are sent.
	NoDeviceMail, NoPasswordMail, NoFactorMail bool

	// TakenConflict answers a sign-up with a taken address by user.ErrEmailTaken, instead of
	// the same answer as for a new one and a mail to its owner.
	TakenConflict bool

	// Normalize brings text that a person may type in several ways into one form, Unicode's NFC
	// (Unicode Standard Annex #15), so that what looks the same is the same: passwords and names.
	// It must be pure and may be called from many goroutines; norm.NFC.String of golang.org/x/text does. Default: text stays as it is.
	Normalize func(string) string
	// Webhooks chooses what is told to the application's server of users and sessions: see package webhook. Default: nothing.
	Webhooks webhook.Selection
	// Committed, if set, is called after events were committed, so that the relay need not
	// wait for its next look. It must not block.
	Committed func()
	// SignedIn, if set, is called after each sign-in with what it returned, and Revoked after sessions were ended before
	// their time. They must be quick, and are called from many goroutines.
	SignedIn func(err error)
	Revoked  func(RevokeReason)
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers of users, sessions, tokens and events. Default [event.NewID]: 128 bits
	// in 26 characters, ascending by time.
	NewID func() string
	// Random is the source of secrets. Default crypto/rand.
	Random io.Reader
	// Log gets what operators should know. Default: nothing.
	Log *slog.Logger
}

// maxChallengeTTL bounds Config.ChallengeTTL.
const maxChallengeTTL = time.Hour

// maxPasswordMin bounds Config.PasswordMin.
const maxPasswordMin = 64

// PasswordMin is the least number of characters of a new password.
func (s *Service) PasswordMin() int { return s.cfg.PasswordMin }

// maxSignUpsPerAddress bounds Config.SignUpsPerAddress.
const maxSignUpsPerAddress = 100

// Service is the rules. Its methods may be called from many goroutines. Errors are those of
// this package, of user, or of kind Unavailable when a dependency fails.
type Service struct {
	cfg  Config
	gate *Gate
	// sealer is nil where nobody has a second factor.
	sealer *sealer
	// dummy is a hash that no password matches, for addresses without an account.
	dummy atomic.Pointer[string]
	// noting has room for those that note sessions as seen.
	noting chan struct{}
}

// New checks the configuration, all of it at once.
func New(cfg Config) (*Service, error) {
	c := settings.Of("auth: Config")
	c.Require("Users", cfg.Users == nil)
	c.Require("Sessions", cfg.Sessions == nil)
	c.Require("Codes", cfg.Codes == nil)
	c.Require("SignUps", cfg.SignUps == nil)
	c.Require("Hasher", cfg.Hasher == nil)
	c.Require("Issuer", cfg.Issuer == nil)
	c.Require("Verifier", cfg.Verifier == nil)
	c.Require("Nonces", cfg.Nonces == nil)
	c.Require("Limiter", cfg.Limiter == nil)
	for _, d := range []struct {
		name  string
		value *time.Duration
		byDef time.Duration
	}{
		{"AccessTTL", &cfg.AccessTTL, 15 * time.Minute},
		{"SessionTTL", &cfg.SessionTTL, 30 * 24 * time.Hour},
		{"SessionMax", &cfg.SessionMax, max(90*24*time.Hour, cfg.SessionTTL)},
		{"RefreshGrace", &cfg.RefreshGrace, 10 * time.Second},
		{"SignUpTTL", &cfg.SignUpTTL, max(7*24*time.Hour, cfg.CodeTTL)},
		{"CodeTTL", &cfg.CodeTTL, 24 * time.Hour},
		{"ResetTTL", &cfg.ResetTTL, time.Hour},
		{"InviteTTL", &cfg.InviteTTL, 7 * 24 * time.Hour},
		{"LinkTTL", &cfg.LinkTTL, 15 * time.Minute},
		{"FreshFor", &cfg.FreshFor, 10 * time.Minute},
		{"ChallengeTTL", &cfg.ChallengeTTL, 5 * time.Minute},
		{"TicketTTL", &cfg.TicketTTL, maxTicketTTL},
	} {
		settings.Default(c, d.name, d.value, d.byDef)
		if *d.value >= 0 && *d.value < time.Second {
			c.Refuse(d.name, "is shorter than a second")
		}
	}
	if cfg.TicketTTL > maxTicketTTL {
		c.Refuse("TicketTTL", "is longer than %v", maxTicketTTL)
	}
	if cfg.ChallengeTTL > maxChallengeTTL {
		c.Refuse("ChallengeTTL", "is longer than %v", maxChallengeTTL)
	}
	settings.Default(c, "ChallengeTries", &cfg.ChallengeTries, 5)
	if cfg.FactorIssuer == "" {
		cfg.FactorIssuer = "Parley"
	}
	if strings.Contains(cfg.FactorIssuer, ":") {
		c.Refuse("FactorIssuer", "has a colon, which ends it in an authenticator app")
	}
	if cfg.Factors == nil && len(cfg.FactorKeys) > 0 {
		c.Refuse("FactorKeys", "have no Factors")
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	var seals *sealer
	if len(cfg.FactorKeys) > 0 {
		var err error
		if seals, err = newSealer(cfg.FactorKeys, cfg.Random); err != nil {
			c.Refuse("FactorKeys", "%v", err)
		}
	}
	if cfg.SessionTTL < cfg.AccessTTL {
		c.Refuse("SessionTTL", "is shorter than AccessTTL")
	}
	if cfg.SessionMax < cfg.SessionTTL {
		c.Refuse("SessionMax", "is shorter than SessionTTL")
	}
	if cfg.SignUpTTL < cfg.CodeTTL {
		c.Refuse("SignUpTTL", "is shorter than CodeTTL")
	}
	settings.Default(c, "LeakedTimeout", &cfg.LeakedTimeout, time.Second)
	settings.Default(c, "MaxSessions", &cfg.MaxSessions, 100)
	settings.Default(c, "PasswordMin", &cfg.PasswordMin, MinPassword)
	if cfg.PasswordMin > maxPasswordMin {
		c.Refuse("PasswordMin", "is more than %d", maxPasswordMin)
	}
	settings.Default(c, "SignUpsPerAddress", &cfg.SignUpsPerAddress, 5)
	if cfg.SignUpsPerAddress > maxSignUpsPerAddress {
		c.Refuse("SignUpsPerAddress", "is more than %d", maxSignUpsPerAddress)
	}
	cfg.SignInRate.orDefault(c, "SignInRate", Rate{Burst: 10, Per: time.Minute})
	cfg.FactorRate.orDefault(c, "FactorRate", Rate{Burst: 5, Per: 10 * time.Minute})
	cfg.MailRate.orDefault(c, "MailRate", Rate{Burst: 3, Per: 10 * time.Minute})
	cfg.CodeRate.orDefault(c, "CodeRate", Rate{Burst: 300, Per: time.Minute})
	cfg.RefreshRate.orDefault(c, "RefreshRate", Rate{Burst: 60, Per: time.Minute})
	cfg.TicketRate.orDefault(c, "TicketRate", Rate{Burst: 60, Per: time.Minute})
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.LocalLimiter == nil {
		cfg.LocalLimiter = cfg.Limiter
	}
	if cfg.Committed == nil {
		cfg.Committed = func() {}
	}
	if cfg.SignedIn == nil {
		cfg.SignedIn = func(error) {}
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(RevokeReason) {}
	}
	if cfg.Normalize == nil {
		cfg.Normalize = func(s string) string { return s }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, sealer: seals, noting: make(chan struct{}, noters)}
	s.gate = &Gate{cfg: GateConfig{Verifier: cfg.Verifier, Nonces: cfg.Nonces}, live: s.live}
	return s, nil
}

// Client says where a request comes from, for limits. Empty means unknown and is not limited.
type Client struct {
	// Address is an IP address without a port. Addresses of one IPv6 network of 64 bits count as
	// one client, since whoever has one of them has all; its networks of 56 and 48 bits have
	// twofold and fourfold allowances.
	Address string
	// Device is what an earlier sign-in of this device gave it (Grant.DeviceToken); empty if
	// there was none.
	Device string
	// UserAgent is what the client says that it is, as the HTTP header of that name (RFC 9110 section 10.1.5). It proves
	// nothing, and is kept only as [DeviceOf] makes it.
	UserAgent string
}

// Me returns the user, or user.ErrNotFound.
func (s *Service) Me(ctx context.Context, who user.Identity) (user.User, error) {
	u, err := s.cfg.Users.ByID(ctx, who.UserID)
	if err != nil {
		if errors.Is(err, user.ErrNotFound) {
			return user.User{}, user.ErrNotFound
		}
		return user.User{}, failed("reading the user", err)
	}
	if u.Erased() {
		return user.User{}, user.ErrNotFound
	}
	return u, nil
}

// now is the time as it is stored.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// failed says that a dependency failed: an error of kind Unavailable, whatever the dependency
// called it, since a store's "conflict", say, means nothing to whoever called the service.
func failed(doing string, err error) error {
	err = fmt.Errorf("auth: %s: %w", doing, err)
	if k := fault.KindOf(err); k == fault.Unavailable || k == fault.Exhausted {
		return err
	}
	return fault.Wrap(fault.Unavailable, err)
}

// cleanupTimeout bounds what must be finished although the caller may be gone.
const cleanupTimeout = 10 * time.Second

// detached is a context for work that the caller must not be able to cut short by hanging up,
// such as ending a stolen session.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
