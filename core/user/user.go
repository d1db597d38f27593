// Package user holds the people who have an account.
package user

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// ID names a user for ever. It is opaque; nothing is derived from it.
type ID string

// User is an account. It is a value: a repository never hands out shared state.
type User struct {
	ID ID
	// FullName is what others see, 1 to [MaxFullName] characters.
	FullName string
	// Email is the canonical address, unique among users. See [ParseEmail].
	Email Email
	// PasswordHash is the encoded hash, algorithm and parameters included.
	PasswordHash string
	// CreatedAt, VerifiedAt and PasswordChangedAt are UTC, to the microsecond.
	CreatedAt time.Time
	// VerifiedAt is when the address was proven to be the user's; zero until then.
	VerifiedAt time.Time
	// PasswordChangedAt is when the password was last set, or the address last changed: codes and sign-ins of before are no good.
	PasswordChangedAt time.Time
	// SessionsFrom ends every session that was opened before it, KeptSession excepted: one
	// write, however many there are. UTC, to the microsecond; zero ends none. It is zero only as long as the user
	// has never signed in, or did so to an older program.
	SessionsFrom time.Time
	// KeptSession names the session that goes on although it is older; empty for none.
	KeptSession string
	// Role is what the user may do; empty means [RoleUser].
	Role Role
	// DisabledAt is when an administrator shut the user out, UTC, to the microsecond; zero for users who are not.
	DisabledAt time.Time
	// Language is what the user reads, a tag of BCP 47; empty if that is not known. See [ParseLanguage].
	Language string
	// AvatarURL is where a picture of the user is; empty for none. See [ParseAvatarURL].
	AvatarURL string
	// NewEmail is the address that the user wants to have, and that is not proven yet; empty for none. It may be another's.
	// NewEmailCode recognises the code that was mailed there.
	NewEmail     Email
	NewEmailCode string
}

// Verified reports whether the user has proven the address.
func (u User) Verified() bool { return !u.VerifiedAt.IsZero() }

// Disabled reports whether an administrator has shut the user out: nobody can sign in to the account, and no mail goes to it.
func (u User) Disabled() bool { return !u.DisabledAt.IsZero() }

// LogValue hides the password hash and the address from logs.
func (u User) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", string(u.ID)), slog.Bool("verified", u.Verified()))
}

// What a repository answers besides success.
var (
	// ErrNotFound says that there is no such user.
	ErrNotFound = fault.New(fault.NotFound, "user_not_found", "there is no such user")
	// ErrEmailTaken says that another user has the address.
	ErrEmailTaken = fault.New(fault.Conflict, "email_taken", "the e-mail address is taken")
)

// Repository stores users, and the events that their changes cause.
//
// It may be called from many goroutines.
// It keeps every name and address that [ParseFullName] and [ParseEmail] let through, and every language and avatar that [ParseLanguage] and [ParseAvatarURL] do.
// Two IDs are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
// When ctx is done before the commit, nothing is stored and the error says so.
// After the commit the outcome is the stored one, even if the caller saw an error.
type Repository interface {
	// Create stores u with every field as it is.
	// Create puts events into the outbox in the commit that stores u: both are stored, or neither is.
	// Create returns ErrEmailTaken if a user with u.Email exists.
	// Create returns an error of kind Conflict if a user with u.ID exists.
	// Of several concurrent calls with one address, exactly one succeeds.
	Create(ctx context.Context, u User, events ...event.Event) error
	// ByID returns the user, or ErrNotFound.
	ByID(ctx context.Context, id ID) (User, error)
	// ByEmail returns the user with this canonical address, or ErrNotFound.
	ByEmail(ctx context.Context, email Email) (User, error)
	// Update lets change edit a copy of the stored user, and stores it.
	// Update puts events into the outbox in the commit that stores the user: both are stored, or neither is.
	// Update returns the stored user, or ErrNotFound.
	// An error of change stores nothing and is returned as it is.
	// change may run more than once: it edits its argument and does nothing else.
	// change must not change the ID.
	// Concurrent updates of one user do not lose each other's changes.
	// Update returns ErrEmailTaken if another user has the changed Email.
	Update(ctx context.Context, id ID, change func(*User) error, events ...event.Event) (User, error)
}
