package memory

import (
	"context"
	"sync"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Users is a user.Repository.
type Users struct {
	outbox *Outbox

	mu      sync.RWMutex
	byID    map[user.ID]user.User
	byEmail map[user.Email]user.ID
}

var _ user.Repository = (*Users)(nil)

// NewUsers returns a repository without users, which puts events into outbox.
func NewUsers(outbox *Outbox) *Users {
	return &Users{outbox: outbox, byID: map[user.ID]user.User{}, byEmail: map[user.Email]user.ID{}}
}

var (
	errUserExists    = fault.New(fault.Conflict, "user_exists", "a user with this identifier exists")
	errUserIDChanged = fault.New(fault.Invalid, "user_id_changed", "the identifier of a user cannot change")
)

// Create stores u and its events.
func (us *Users) Create(ctx context.Context, u user.User, events ...event.Event) error {
	us.mu.Lock()
	defer us.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if _, taken := us.byEmail[u.Email]; taken {
		return user.ErrEmailTaken
	}
	if _, exists := us.byID[u.ID]; exists {
		return errUserExists
	}
	us.byID[u.ID] = stampUser(u)
	us.byEmail[u.Email] = u.ID
	us.outbox.add(events)
	return nil
}

// ByID returns the user.
func (us *Users) ByID(ctx context.Context, id user.ID) (user.User, error) {
	if err := alive(ctx); err != nil {
		return user.User{}, err
	}
	us.mu.RLock()
	defer us.mu.RUnlock()
	u, ok := us.byID[id]
	if !ok {
		return user.User{}, user.ErrNotFound
	}
	return u, nil
}

// ByEmail returns the user with the address.
func (us *Users) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	if err := alive(ctx); err != nil {
		return user.User{}, err
	}
	us.mu.RLock()
	defer us.mu.RUnlock()
	id, ok := us.byEmail[email]
	if !ok {
		return user.User{}, user.ErrNotFound
	}
	return us.byID[id], nil
}

// Update changes the user and stores the events. It calls change once, under its lock.
func (us *Users) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if err := alive(ctx); err != nil {
		return user.User{}, err
	}
	old, ok := us.byID[id]
	if !ok {
		return user.User{}, user.ErrNotFound
	}
	u := old
	if err := change(&u); err != nil {
		return user.User{}, err
	}
	if u.ID != id {
		return user.User{}, errUserIDChanged
	}
	if owner, taken := us.byEmail[u.Email]; taken && owner != id {
		return user.User{}, user.ErrEmailTaken
	}
	if err := alive(ctx); err != nil { // it may have ended meanwhile, and nothing is stored yet
		return user.User{}, err
	}
	u = stampUser(u)
	delete(us.byEmail, old.Email)
	us.byEmail[u.Email] = id
	us.byID[id] = u
	us.outbox.add(events)
	return u, nil
}

func stampUser(u user.User) user.User {
	u.CreatedAt = stamp(u.CreatedAt)
	u.VerifiedAt = stamp(u.VerifiedAt)
	u.PasswordChangedAt = stamp(u.PasswordChangedAt)
	u.SessionsFrom = stamp(u.SessionsFrom)
	u.DisabledAt = stamp(u.DisabledAt)
	return u
}
