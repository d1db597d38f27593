package auth

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/user"
)

// Config is what a [Service] needs. Zero fields without "required" mean the default.
type Config struct {
	Users    user.Repository // required
	Sessions SessionStore    // required
	Codes    CodeStore       // required
	Hasher   Hasher          // required
	Issuer   TokenIssuer     // required
	Verifier TokenVerifier   // required
	Nonces   Nonces          // required
	Limiter  Limiter         // required

	// AccessTTL is how long an access token lasts. Default 15 minutes.
	AccessTTL time.Duration
	// SessionTTL is how long a session lasts without a refresh. Default 30 days.
	SessionTTL time.Duration
	// CodeTTL is how long a verification code lasts. Default 24 hours.
	CodeTTL time.Duration
	// ResetTTL is how long a code for a new password lasts. Default 1 hour.
	ResetTTL time.Duration
	// TicketTTL is how long a socket ticket lasts, at most 30 seconds. Default 30 seconds.
	TicketTTL time.Duration

	// SignInRate limits sign-ins per address and, tenfold, per client. Default 10 a minute.
	SignInRate Rate
	// MailRate limits mails asked for per address and, tenfold, per client (sign-up, resend, forgotten). Default 3 per 10 minutes.
	MailRate Rate

	// TakenConflict answers a sign-up with a taken address by user.ErrEmailTaken, instead of
	// the same answer as for a new one and a mail to its owner.
	TakenConflict bool

	// Committed, if set, is called after events were committed, so that the relay need not
	// wait for its next look. It must not block.
	Committed func()
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers of users, sessions, tokens and events. Default 128 random bits
	// in 26 characters, ascending by time.
	NewID func() string
	// Random is the source of secrets. Default crypto/rand.
	Random io.Reader
	// Log gets what operators should know. Default: nothing.
	Log *slog.Logger
}

// Service is the rules. Its methods may be called from many goroutines. Errors are those of
// this package, of user, or of kind Unavailable when a dependency fails.
type Service struct {
	cfg Config
}

var _ = rand.Reader

// New checks the configuration, all of it at once.
func New(cfg Config) (*Service, error) { return &Service{cfg: cfg}, nil }

// Client says where a request comes from, for limits. Empty means unknown and is not limited.
type Client struct{ Address string }

// SignUp is what somebody gives to get an account.
type SignUp struct{ FullName, Email, Password string }

// Grant is a signed-in session's tokens.
type Grant struct {
	AccessToken  string
	ExpiresIn    time.Duration // of the access token
	RefreshToken string
	User         user.User
}

// SignUp makes an account that is not verified yet, and the event that mails the code, in
// one commit. A taken address has the same outcome and takes the same time, and its owner
// gets a mail, unless Config.TakenConflict is set.
func (s *Service) SignUp(ctx context.Context, from Client, in SignUp) error { panic("stub") }

// Verify confirms the address that code was sent to. A second use of a code is ErrCodeGone;
// so is an expired code. A use that was cut short by a crash can be repeated.
func (s *Service) Verify(ctx context.Context, code string) error { panic("stub") }

// ResendVerification mails a new code if the address has an account that is not verified.
// The answer does not tell.
func (s *Service) ResendVerification(ctx context.Context, from Client, email string) error {
	panic("stub")
}

// SignIn opens a session. A wrong address and a wrong password are ErrInvalidCredentials,
// in the same time; the right ones of an account that is not verified are ErrNotVerified.
func (s *Service) SignIn(ctx context.Context, from Client, email, password string) (Grant, error) {
	panic("stub")
}

// Refresh exchanges a refresh token for a new pair. A token that was exchanged before ends
// the session (RFC 9700 section 4.14.2); of two concurrent uses one wins, and the session ends.
func (s *Service) Refresh(ctx context.Context, refreshToken string) (Grant, error) { panic("stub") }

// Authenticate returns who an access token speaks for, if its session still lives.
func (s *Service) Authenticate(ctx context.Context, accessToken string) (Identity, error) {
	panic("stub")
}

// Me returns the user.
func (s *Service) Me(ctx context.Context, who Identity) (user.User, error) { panic("stub") }

// SignOut ends the session of who; open sockets of it close.
func (s *Service) SignOut(ctx context.Context, who Identity) error { panic("stub") }

// SignOutAll ends every session of the user.
func (s *Service) SignOutAll(ctx context.Context, who Identity) error { panic("stub") }

// ForgotPassword mails a code for a new password if the address has an account. The answer does not tell.
func (s *Service) ForgotPassword(ctx context.Context, from Client, email string) error {
	panic("stub")
}

// ResetPassword sets a new password by a mailed code, proves the address, and ends every
// session. A code that was made before the password last changed is ErrCodeGone.
func (s *Service) ResetPassword(ctx context.Context, code, password string) error { panic("stub") }

// ChangePassword sets a new password and ends every other session.
func (s *Service) ChangePassword(ctx context.Context, who Identity, current, password string) error {
	panic("stub")
}

// SocketTicket returns a ticket for one socket handshake, and how long it lasts.
func (s *Service) SocketTicket(ctx context.Context, who Identity) (string, time.Duration, error) {
	panic("stub")
}

// RedeemTicket returns who a ticket speaks for, once.
func (s *Service) RedeemTicket(ctx context.Context, ticket string) (Identity, error) { panic("stub") }
