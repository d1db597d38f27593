package memory

import (
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Factors is an auth.FactorStore.
type Factors struct {
	outbox *Outbox

	mu     sync.Mutex
	byUser map[user.ID]auth.Factor
}

var _ auth.FactorStore = (*Factors)(nil)

// NewFactors returns a store without second factors, which puts events into outbox.
func NewFactors(outbox *Outbox) *Factors {
	return &Factors{outbox: outbox, byUser: map[user.ID]auth.Factor{}}
}

var errFactorChanged = fault.New(fault.Invalid, "factor_identity_changed", "the user of a second factor cannot change")

// ByUser returns the user's factor.
func (fs *Factors) ByUser(ctx context.Context, id user.ID) (auth.Factor, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return auth.Factor{}, err
	}
	return fs.of(id), nil
}

// of returns a copy of the user's factor.
func (fs *Factors) of(id user.ID) auth.Factor {
	f, ok := fs.byUser[id]
	if !ok {
		return auth.Factor{UserID: id}
	}
	return copyFactor(f)
}

func copyFactor(f auth.Factor) auth.Factor {
	f.Secret, f.Recovery = slices.Clone(f.Secret), slices.Clone(f.Recovery)
	f.CreatedAt, f.ConfirmedAt = stamp(f.CreatedAt), stamp(f.ConfirmedAt)
	if len(f.Secret) == 0 {
		f.Secret = nil
	}
	if len(f.Recovery) == 0 {
		f.Recovery = nil
	}
	return f
}

// Update changes the user's factor and stores the events. It calls change once, under its lock.
func (fs *Factors) Update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return auth.Factor{}, err
	}
	f := fs.of(id)
	if err := change(&f); err != nil {
		return auth.Factor{}, err
	}
	if f.UserID != id {
		return auth.Factor{}, errFactorChanged
	}
	if err := alive(ctx); err != nil { // it may have ended meanwhile, and nothing is stored yet
		return auth.Factor{}, err
	}
	fs.byUser[id] = copyFactor(f)
	fs.outbox.add(events)
	return fs.of(id), nil
}

// DeleteOf removes the factor of the user.
func (fs *Factors) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := len(fs.byUser)
	delete(fs.byUser, id)
	return n - len(fs.byUser), nil
}
