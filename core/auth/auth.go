// Package auth holds the rules of accounts and sessions: who may sign up, sign in, stay
// signed in, and how that ends.
//
// [Service] owns every decision. Access tokens are short-lived and verified without a
// store ([TokenVerifier]); refresh tokens are opaque, rotate at each use, and a second use
// of one, but for a short grace, ends its session. Codes and tokens are stored as hashes only.
package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Limits of a password in characters, Unicode code points of any script (NIST SP 800-63B section 5.1.1.2).
const (
	// MinPassword is the default of Config.PasswordMin.
	MinPassword = 8
	MaxPassword = 256
)

// What this package refuses.
var (
	ErrPasswordInvalid    = fault.New(fault.Invalid, "password_invalid", "the password cannot be used")
	ErrInvalidCredentials = fault.New(fault.Unauthenticated, "invalid_credentials", "the e-mail address or the password is wrong")
	ErrNotVerified        = fault.New(fault.Forbidden, "not_verified", "the e-mail address is not verified yet")
	ErrTokenInvalid       = fault.New(fault.Unauthenticated, "token_invalid", "the token is not valid")
	ErrSessionEnded       = fault.New(fault.Unauthenticated, "session_ended", "the session has ended")
	ErrCodeUnknown        = fault.New(fault.Invalid, "code_unknown", "the code is not valid")
	ErrCodeGone           = fault.New(fault.Gone, "code_gone", "the code was used already or has expired")
	ErrTooMany            = fault.New(fault.Exhausted, "too_many_attempts", "too many attempts")
)

// Hasher hashes passwords.
//
// It may be called from many goroutines.
// An implementation bounds how many hashes run at once, since each takes memory and processor time on purpose.
// A password is any bytes, and counts to its last one; MaxPassword characters are not too many.
type Hasher interface {
	// Hash returns an encoded hash with its algorithm, parameters and a fresh salt.
	// The hash does not tell the password.
	// Hash waits for its turn until ctx is done.
	Hash(ctx context.Context, password string) (string, error)
	// Verify reports whether password is the one that was hashed, in time that does not depend on how much of it is right.
	// upgrade says that it matches and that the hash should be made anew, because its algorithm or parameters are not the current ones.
	// A hash that cannot be read is an error.
	// Verify waits for its turn until ctx is done.
	Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error)
}

// PasswordList knows passwords that nobody should choose, because many have.
//
// It may be called from many goroutines.
type PasswordList interface {
	// Contains reports whether password, or one that is as easily guessed, is in the list.
	// Letter case does not count.
	// Contains gives up when ctx is done.
	Contains(ctx context.Context, password string) (bool, error)
}

// Audiences of tokens: a token made for one is refused by the other.
const (
	AudienceAPI    = "parley"
	AudienceTicket = "parley:ticket"
)

// Claims is what a token says.
type Claims struct {
	// ID names the token (jti).
	ID string
	// Audience is what the token may be used for.
	Audience string
	// UserID, Name and SessionID are whose it is (sub, name, sid).
	UserID    user.ID
	Name      string
	SessionID string
	// Role is what the user may do (role). Empty if it is not known, as in tokens of older programs.
	Role user.Role
	// SessionAt is when the session was opened, to the microsecond: a token of a session that
	// is older than its user allows is refused without a store. Zero if it is not known.
	SessionAt time.Time
	// Until is when the socket must end that a ticket opens. Zero for other tokens.
	Until time.Time
	// IssuedAt, ExpiresAt and Until have whole seconds.
	IssuedAt, ExpiresAt time.Time
}

// TokenIssuer makes signed tokens.
//
// It may be called from many goroutines.
type TokenIssuer interface {
	// Issue returns a signed token that says all of c.
	Issue(ctx context.Context, c Claims) (string, error)
}

// TokenVerifier checks signed tokens.
//
// It may be called from many goroutines.
// It does not wait for the network longer than ctx allows.
type TokenVerifier interface {
	// Verify returns what the token says.
	// Verify returns ErrTokenInvalid for what is no token.
	// Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.
	// Verify returns ErrTokenInvalid unless the token was made for audience.
	// Verify returns ErrTokenInvalid if the token is expired.
	// Verify returns an error of kind Unavailable when it cannot tell, because keys cannot be had.
	Verify(ctx context.Context, token, audience string) (Claims, error)
}

// Session is one signed-in device. It is a value.
type Session struct {
	ID     string
	UserID user.ID
	// FamilyHash recognises any refresh token of this session, TokenHash the current one.
	FamilyHash, TokenHash string
	// PreviousHash recognises the refresh token before the current one; empty if there is none.
	// RotationKey and that token together make the current one, and neither does so alone.
	PreviousHash, RotationKey string
	// DeviceHash recognises the device that opened the session, for its own allowance of
	// attempts to sign in; empty if that is not known.
	DeviceHash string
	// Device and Network are for the user to recognise the session by: what kind of device opened it, see [DeviceOf],
	// and from where, see [NetworkOf]. Either is empty if that is not known.
	Device, Network string
	// CreatedAt, RotatedAt, ExpiresAt and RevokedAt are UTC, to the microsecond; RevokedAt
	// is zero while the session lives.
	CreatedAt, RotatedAt, ExpiresAt, RevokedAt time.Time
	// SeenAt is when the session was last noted as in use between its refreshes; UTC, to the microsecond, zero if it
	// never was. See [Session.LastSeen].
	SeenAt time.Time
	// ProvenAt is when whoever uses the session has last proven who they are, since it was opened: see [Service.ProveAgain]. UTC, to the
	// microsecond, zero if they never did.
	ProvenAt time.Time
}

// LastSeen is when the session was last seen: opened, refreshed, or about to open a socket.
func (s Session) LastSeen() time.Time {
	return notBefore(notBefore(s.CreatedAt, s.RotatedAt), s.SeenAt)
}

// LogValue hides the hashes.
func (s Session) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", s.ID), slog.String("user", string(s.UserID)))
}

// ErrSessionNotFound says that there is no such session.
var ErrSessionNotFound = fault.New(fault.NotFound, "session_not_found", "there is no such session")

// SessionStore keeps sessions.
//
// It may be called from many goroutines.
// Two IDs are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
// A call whose context has ended has done all of its work, or nothing.
type SessionStore interface {
	// Create stores s durably, with every field as it is.
	// Create puts events into the outbox in the commit that stores s: both are stored, or neither is.
	// Create returns an error of kind Conflict if a session with s.ID exists.
	// Of several concurrent calls with one ID, exactly one succeeds.
	Create(ctx context.Context, s Session, events ...event.Event) error
	// ByID returns the session, or ErrSessionNotFound.
	// ByID returns expired and revoked sessions like others.
	ByID(ctx context.Context, id string) (Session, error)
	// Update lets change edit a copy of the stored session, and stores it.
	// Update puts events into the outbox in the commit that stores the session: both are stored, or neither is.
	// Update returns the stored session, or ErrSessionNotFound.
	// An error of change stores nothing and is returned as it is.
	// change may run more than once: it edits its argument and does nothing else.
	// Of concurrent updates that each expect what the other changes, exactly one finds it.
	// Each of the others is given all that this one has stored, so that it can answer as this one did.
	Update(ctx context.Context, id string, change func(*Session) error, events ...event.Event) (Session, error)
	// ByUser returns the user's sessions that are not revoked and expire after the given time.
	// The newest come first, those of one age by descending ID.
	// ByUser returns at most limit sessions: none if limit is below 1.
	// However many other sessions the user has or had, ByUser does not read them.
	ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]Session, error)
	// Sweeper removes sessions.
	Sweeper
	// Eraser removes the sessions of a user.
	Eraser
}

// Standing is what decides whether a session goes on.
type Standing struct {
	Session Session
	// From and Kept are the user's SessionsFrom and KeptSession.
	From time.Time
	Kept string
}

// Standings reads a session together with what its user says of sessions: a store that holds
// both can do so at the price of one.
//
// It may be called from many goroutines.
type Standings interface {
	// Standing returns the session and what its user says of sessions, as they are at the time of the call.
	// Standing returns ErrSessionNotFound if there is no such session or it has no user.
	// Standing returns expired and revoked sessions like others.
	Standing(ctx context.Context, id string) (Standing, error)
}

// Code is a one-time code that was mailed to somebody. It is a value.
type Code struct {
	// Hash recognises the code together with its purpose.
	Hash string
	// UserID is whose it is: a user's, or, for the code of a sign-up that waits, WaitingSignUp.ID.
	UserID user.ID
	// CreatedAt, ExpiresAt and UsedAt are UTC, to the microsecond; UsedAt is zero until used.
	CreatedAt, ExpiresAt, UsedAt time.Time
}

// LogValue hides the hash.
func (c Code) LogValue() slog.Value { return slog.StringValue("code of " + string(c.UserID)) }

// CodeStore keeps one-time codes.
//
// It may be called from many goroutines.
// Two hashes are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
type CodeStore interface {
	// Put stores c durably.
	// Put puts events into the outbox in the commit that stores c: both are stored, or neither is.
	// The events stay when the code goes, used or expired.
	// Put returns an error of kind Conflict if a code with c.Hash exists.
	Put(ctx context.Context, c Code, events ...event.Event) error
	// Use marks the code as used at the given time, durably, unless it was used before.
	// Use returns the code as it was before the call.
	// Of any number of calls, exactly one gets the code with a zero UsedAt.
	// Use returns ErrCodeUnknown for an unknown hash.
	// Use returns expired codes like others.
	Use(ctx context.Context, hash string, at time.Time) (Code, error)
	// Sweeper removes codes.
	Sweeper
	// Eraser removes the codes of a user.
	Eraser
}

// Nonces remembers names that may be used once.
//
// It may be called from many goroutines.
// Two names are the same only if they have the same bytes, however long they are.
type Nonces interface {
	// Spend returns true for the first call with this name.
	// Spend returns false for every later call, at least until the expiry that the first one gave.
	// Of several concurrent calls with one name, exactly one gets true.
	Spend(ctx context.Context, name string, expires time.Time) (bool, error)
	// Sweeper removes names.
	Sweeper
}

// Rate is a limit: at most Burst at once, and on average one each Per/Burst.
type Rate struct {
	Burst int
	Per   time.Duration
}

// Cell returns the rate as the generic cell rate algorithm counts it (ITU-T I.371), in whole steps of a [Limiter]'s clock: one
// attempt each interval, and no more than window ahead. window may be a little shorter than Per, so that what the division
// loses does not add up to one attempt more. limited is false for a rate without Burst or Per, which allows everything.
func (r Rate) Cell(step time.Duration) (interval, window time.Duration, limited bool) {
	if r.Burst <= 0 || r.Per <= 0 {
		return 0, 0, false
	}
	interval = max(r.Per/time.Duration(r.Burst), step).Truncate(step)
	return interval, interval * time.Duration(r.Burst), true
}

// Limiter counts attempts.
//
// It may be called from many goroutines.
type Limiter interface {
	// Allow takes one from key's allowance at the given time and returns zero.
	// If nothing is left, Allow takes nothing and returns how long to wait.
	// It is the generic cell rate algorithm (ITU-T I.371): Burst attempts at once, then one each Per/Burst.
	// Rest gives back the burst, and no more.
	// Keys do not influence each other.
	// A rate without Burst or Per allows everything.
	// However far the clock has gone back, the wait is Per/Burst at most.
	// Concurrent calls share the allowance: no more succeed than it holds.
	Allow(ctx context.Context, key string, r Rate, now time.Time) (wait time.Duration, err error)
	// Sweeper removes keys whose allowance is whole.
	Sweeper
}

// Sweeper removes what is expired. It is a part of each port that keeps such things, so that whoever wraps
// one passes it on.
//
// It may be called from many goroutines.
type Sweeper interface {
	// DeleteExpired removes what expired before the given time and returns how many.
	// What expires at that very time, or later, stays.
	// A store whose entries go by themselves removes nothing, and returns 0.
	DeleteExpired(ctx context.Context, before time.Time) (int, error)
}

// Eraser removes what is of one user. It is a part of each port that keeps such things, as [Sweeper].
//
// It may be called from many goroutines.
type Eraser interface {
	// DeleteOf removes what is of the user, expired and used or not, and returns how many.
	// What is of others stays.
	// Removing nothing is no error.
	DeleteOf(ctx context.Context, id user.ID) (int, error)
}

// Topic is the stream of events about sessions, keyed by user.
const Topic = "session"

// TypeSessionRevoked is the type of events that say that a session ended before its time.
const TypeSessionRevoked = "session.revoked"

// SessionRevoked is the data of TypeSessionRevoked.
type SessionRevoked struct {
	UserID    string `json:"userId"`
	SessionID string `json:"sessionId"`
	// Until is when the last access token of the session expires: until then nodes that
	// verify tokens without a store remember that the session is over.
	Until time.Time `json:"until"`
}

// TypeSessionsRevoked is the type of events that say that all older sessions of a user ended.
const TypeSessionsRevoked = "sessions.revoked"

// SessionsRevoked is the data of TypeSessionsRevoked: one event, however many sessions.
type SessionsRevoked struct {
	UserID string `json:"userId"`
	// Before is the time before which a session was opened that is over.
	Before time.Time `json:"before"`
	// Keep is the session that goes on although it is older; empty for none.
	Keep string `json:"keep,omitempty"`
	// Until is when the last access token of those sessions expires.
	Until time.Time `json:"until"`
	// Erased says that the account was erased: what the user has said goes as well.
	Erased bool `json:"erased,omitempty"`
}
