package auth

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// WaitingSignUp is a sign-up that waits for its address to be proven. It is a value.
type WaitingSignUp struct {
	// ID names the sign-up.
	ID string
	// UserID is the identifier that the account gets.
	UserID user.ID
	// FullName, Email and PasswordHash are what the account gets. Several sign-ups may have one Email.
	FullName     string
	Email        user.Email
	PasswordHash string
	// Network is the address that the sign-up came from, as its mails tell; empty if it is unknown.
	Network string
	// Language is what the account gets as User.Language; empty if it is not known.
	Language string
	// CreatedAt, ExpiresAt and ConfirmedAt are UTC, to the microsecond; ConfirmedAt is zero until
	// the account was made of it.
	CreatedAt, ExpiresAt, ConfirmedAt time.Time
}

// LogValue hides whose it is, and the password hash.
func (w WaitingSignUp) LogValue() slog.Value { return slog.GroupValue(slog.String("id", w.ID)) }

// ErrSignUpNotFound says that there is no such sign-up.
var ErrSignUpNotFound = fault.New(fault.NotFound, "sign_up_not_found", "there is no such sign-up")

// SignUps keeps sign-ups that wait, each by itself, however many an address has.
//
// It may be called from many goroutines.
// It keeps every name and address that [user.ParseFullName] and [user.ParseEmail] let through.
// Two IDs or addresses are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
// When ctx is done before the commit, nothing is stored and the error says so.
type SignUps interface {
	// Create stores w durably, with every field as it is.
	// Create puts events into the outbox in the commit that stores w: both are stored, or neither is.
	// The events stay when the sign-up goes.
	// Create returns an error of kind Conflict if a sign-up with w.ID exists.
	// Of several concurrent calls with one ID, exactly one succeeds.
	// Of the sign-ups of w.Email that are not confirmed, the newest keep stay, w among them, and older ones are removed.
	// Concurrent calls may leave some more.
	Create(ctx context.Context, w WaitingSignUp, keep int, events ...event.Event) error
	// ByID returns the sign-up, or ErrSignUpNotFound.
	// ByID returns expired and confirmed sign-ups like others.
	ByID(ctx context.Context, id string) (WaitingSignUp, error)
	// ByEmail returns the sign-ups of a canonical address, oldest first.
	// ByEmail returns expired and confirmed sign-ups like others.
	ByEmail(ctx context.Context, email user.Email) ([]WaitingSignUp, error)
	// Confirm marks the sign-up as confirmed at the given time, durably, unless it was before.
	// Confirm returns the sign-up as it was before the call, or ErrSignUpNotFound.
	// Of any number of calls, exactly one gets the sign-up with a zero ConfirmedAt.
	// Confirm returns expired sign-ups like others.
	Confirm(ctx context.Context, id string, at time.Time) (WaitingSignUp, error)
	// Sweeper removes sign-ups.
	Sweeper
	// Eraser removes the sign-ups with that UserID.
	Eraser
}

// waits reports whether w can still be confirmed, as far as it knows itself.
func (w WaitingSignUp) waits(now time.Time) bool {
	return w.ConfirmedAt.IsZero() && now.Before(w.ExpiresAt)
}

// waiting returns the sign-ups that wait at an address.
func (s *Service) waiting(ctx context.Context, email user.Email) ([]WaitingSignUp, error) {
	all, err := s.cfg.SignUps.ByEmail(ctx, email)
	if err != nil {
		return nil, failed("looking for sign-ups", err)
	}
	now := s.now()
	var waiting []WaitingSignUp
	for _, w := range all {
		if w.waits(now) {
			waiting = append(waiting, w)
		}
	}
	return waiting, nil
}

// shown is an IP address in its usual form, as mails tell it, or nothing.
func shown(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	return ip.Unmap().WithZone("").String()
}
