package memory

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Codes is an auth.CodeStore.
type Codes struct {
	outbox *Outbox

	mu     sync.Mutex
	byHash map[string]auth.Code
}

var _ auth.CodeStore = (*Codes)(nil)

// NewCodes returns a store without codes, which puts events into outbox.
func NewCodes(outbox *Outbox) *Codes { return &Codes{outbox: outbox, byHash: map[string]auth.Code{}} }

var errCodeExists = fault.New(fault.Conflict, "code_exists", "a code with this hash exists")

// Put stores c and its events.
func (cs *Codes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if _, exists := cs.byHash[c.Hash]; exists {
		return errCodeExists
	}
	c.CreatedAt, c.ExpiresAt, c.UsedAt = stamp(c.CreatedAt), stamp(c.ExpiresAt), stamp(c.UsedAt)
	cs.byHash[c.Hash] = c
	cs.outbox.add(events)
	return nil
}

// Use marks the code as used and returns it as it was.
func (cs *Codes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return auth.Code{}, err
	}
	c, ok := cs.byHash[hash]
	if !ok {
		return auth.Code{}, auth.ErrCodeUnknown
	}
	if c.UsedAt.IsZero() {
		used := c
		used.UsedAt = stamp(at)
		cs.byHash[hash] = used
	}
	return c, nil
}

// DeleteExpired removes codes whose ExpiresAt is before the given time.
func (cs *Codes) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := len(cs.byHash)
	maps.DeleteFunc(cs.byHash, func(_ string, c auth.Code) bool { return c.ExpiresAt.Before(before) })
	return n - len(cs.byHash), nil
}

// DeleteOf removes the codes of the user.
func (cs *Codes) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := len(cs.byHash)
	maps.DeleteFunc(cs.byHash, func(_ string, c auth.Code) bool { return c.UserID == id })
	return n - len(cs.byHash), nil
}
