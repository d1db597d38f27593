package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// SignUps is an auth.SignUps.
type SignUps struct {
	outbox *Outbox

	mu      sync.Mutex
	byID    map[string]auth.WaitingSignUp
	byEmail map[user.Email][]string // oldest first
}

var _ auth.SignUps = (*SignUps)(nil)

// NewSignUps returns a store without sign-ups, which puts events into outbox.
func NewSignUps(outbox *Outbox) *SignUps {
	return &SignUps{outbox: outbox, byID: map[string]auth.WaitingSignUp{}, byEmail: map[user.Email][]string{}}
}

var errSignUpExists = fault.New(fault.Conflict, "sign_up_exists", "a sign-up with this identifier exists")

// Create stores w and its events, and removes the oldest that wait at the address beyond keep.
func (ss *SignUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if _, exists := ss.byID[w.ID]; exists {
		return errSignUpExists
	}
	w.CreatedAt, w.ExpiresAt, w.ConfirmedAt = stamp(w.CreatedAt), stamp(w.ExpiresAt), stamp(w.ConfirmedAt)
	var older []string
	for _, id := range ss.byEmail[w.Email] {
		if ss.byID[id].ConfirmedAt.IsZero() {
			older = append(older, id)
		}
	}
	for _, id := range older[:max(0, len(older)-max(0, keep-1))] {
		ss.remove(id)
	}
	ss.byID[w.ID] = w
	ids := append(ss.byEmail[w.Email], w.ID)
	slices.SortStableFunc(ids, func(a, b string) int { return ss.byID[a].CreatedAt.Compare(ss.byID[b].CreatedAt) })
	ss.byEmail[w.Email] = ids
	ss.outbox.add(events)
	return nil
}

// remove forgets a sign-up. Callers hold the lock.
func (ss *SignUps) remove(id string) {
	email := ss.byID[id].Email
	delete(ss.byID, id)
	rest := slices.DeleteFunc(ss.byEmail[email], func(other string) bool { return other == id })
	if len(rest) == 0 {
		delete(ss.byEmail, email)
		return
	}
	ss.byEmail[email] = rest
}

// ByID returns the sign-up.
func (ss *SignUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	if err := alive(ctx); err != nil {
		return auth.WaitingSignUp{}, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	w, ok := ss.byID[id]
	if !ok {
		return auth.WaitingSignUp{}, auth.ErrSignUpNotFound
	}
	return w, nil
}

// ByEmail returns the sign-ups of the address, oldest first.
func (ss *SignUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	found := make([]auth.WaitingSignUp, 0, len(ss.byEmail[email]))
	for _, id := range ss.byEmail[email] {
		found = append(found, ss.byID[id])
	}
	return found, nil
}

// Confirm marks the sign-up as confirmed and returns it as it was.
func (ss *SignUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return auth.WaitingSignUp{}, err
	}
	w, ok := ss.byID[id]
	if !ok {
		return auth.WaitingSignUp{}, auth.ErrSignUpNotFound
	}
	if w.ConfirmedAt.IsZero() {
		confirmed := w
		confirmed.ConfirmedAt = stamp(at)
		ss.byID[id] = confirmed
	}
	return w, nil
}

// DeleteExpired removes sign-ups whose ExpiresAt is before the given time.
func (ss *SignUps) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := 0
	for id, w := range maps.Clone(ss.byID) {
		if w.ExpiresAt.Before(before) {
			ss.remove(id)
			n++
		}
	}
	return n, nil
}

// DeleteOf removes the sign-ups that the user's account is, or would be, made of.
func (ss *SignUps) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := 0
	for key, w := range maps.Clone(ss.byID) {
		if w.UserID == id {
			ss.remove(key)
			n++
		}
	}
	return n, nil
}
