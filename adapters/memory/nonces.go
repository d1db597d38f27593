package memory

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// NoncesConfig says how much [Nonces] may hold. A value that is not positive means the default.
type NoncesConfig struct {
	// Max is the most names that are remembered at once. Default 1,000,000.
	Max int
}

// Nonces is an auth.Nonces. A name is remembered until DeleteExpired
// removes it. When as many are held as it may hold, Spend refuses new names with an error
// of kind Exhausted: forgetting one would let it be used again.
type Nonces struct {
	max int

	mu      sync.Mutex
	expires map[string]time.Time
}

var _ auth.Nonces = (*Nonces)(nil)

// NewNonces returns a store without names.
func NewNonces(cfg NoncesConfig) *Nonces {
	return &Nonces{max: or(cfg.Max, 1_000_000), expires: map[string]time.Time{}}
}

var errNoncesFull = fault.New(fault.Exhausted, "nonces_full", "too many single-use names are remembered")

// Spend returns true for the first call with this name.
func (ns *Nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if err := alive(ctx); err != nil {
		return false, err
	}
	if _, spent := ns.expires[name]; spent {
		return false, nil
	}
	if len(ns.expires) >= ns.max {
		return false, errNoncesFull
	}
	ns.expires[name] = expires
	return true, nil
}

// DeleteExpired forgets names whose expiry is before the given time.
func (ns *Nonces) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := len(ns.expires)
	maps.DeleteFunc(ns.expires, func(_ string, at time.Time) bool { return at.Before(before) })
	return n - len(ns.expires), nil
}
