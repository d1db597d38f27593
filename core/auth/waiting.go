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
type SignUps interface {
	// Create stores w durably and puts events into the outbox in one commit: both or neither. Of the
	// sign-ups of w.Email that are not confirmed, the newest keep stay, w among them, and older ones
	// are removed; concurrent calls may leave some more. A sign-up with w.ID is an error of kind Conflict.
	Create(ctx context.Context, w WaitingSignUp, keep int, events ...event.Event) error
	// ByID returns the sign-up, or ErrSignUpNotFound. It returns expired and confirmed ones.
	ByID(ctx context.Context, id string) (WaitingSignUp, error)
	// ByEmail returns the sign-ups of a canonical address, expired and confirmed ones included,
	// oldest first.
	ByEmail(ctx context.Context, email user.Email) ([]WaitingSignUp, error)
	// Confirm marks the sign-up as confirmed at the given time, durably, unless it was before, and
	// returns it as it was before the call: of any number of calls, exactly one gets it with a
	// zero ConfirmedAt. An unknown one is ErrSignUpNotFound. Expired ones are returned like others.
	Confirm(ctx context.Context, id string, at time.Time) (WaitingSignUp, error)
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
