package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Sessions is an auth.SessionStore.
type Sessions struct {
	outbox *Outbox

	mu     sync.RWMutex
	byID   map[string]auth.Session
	byUser map[user.ID][]string // identifiers
}

var _ auth.SessionStore = (*Sessions)(nil)

// NewSessions returns a store without sessions, which puts events into outbox.
func NewSessions(outbox *Outbox) *Sessions {
	return &Sessions{outbox: outbox, byID: map[string]auth.Session{}, byUser: map[user.ID][]string{}}
}

var (
	errSessionExists  = fault.New(fault.Conflict, "session_exists", "a session with this identifier exists")
	errSessionChanged = fault.New(fault.Invalid, "session_identity_changed", "the identifier and the user of a session cannot change")
)

// Create stores s and the events.
func (ss *Sessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if _, exists := ss.byID[s.ID]; exists {
		return errSessionExists
	}
	ss.byID[s.ID] = stampSession(s)
	ss.byUser[s.UserID] = append(ss.byUser[s.UserID], s.ID)
	ss.outbox.add(events)
	return nil
}

// ByID returns the session.
func (ss *Sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	if err := alive(ctx); err != nil {
		return auth.Session{}, err
	}
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	s, ok := ss.byID[id]
	if !ok {
		return auth.Session{}, auth.ErrSessionNotFound
	}
	return s, nil
}

// Update changes the session and stores the events. It calls change once, under its lock.
func (ss *Sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return auth.Session{}, err
	}
	old, ok := ss.byID[id]
	if !ok {
		return auth.Session{}, auth.ErrSessionNotFound
	}
	s := old
	if err := change(&s); err != nil {
		return auth.Session{}, err
	}
	if s.ID != id || s.UserID != old.UserID {
		return auth.Session{}, errSessionChanged
	}
	if err := alive(ctx); err != nil { // it may have ended meanwhile, and nothing is stored yet
		return auth.Session{}, err
	}
	s = stampSession(s)
	ss.byID[id] = s
	ss.outbox.add(events)
	return s, nil
}

// ByUser returns the user's sessions that go on, newest first.
func (ss *Sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	sessions := []auth.Session{}
	for _, sid := range ss.byUser[id] {
		if s := ss.byID[sid]; s.RevokedAt.IsZero() && s.ExpiresAt.After(at) {
			sessions = append(sessions, s)
		}
	}
	slices.SortFunc(sessions, func(a, b auth.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return sessions[:min(len(sessions), max(limit, 0))], nil
}

// DeleteExpired removes sessions whose ExpiresAt is before the given time.
func (ss *Sessions) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := 0
	for id, s := range ss.byID {
		if !s.ExpiresAt.Before(before) {
			continue
		}
		delete(ss.byID, id)
		rest := slices.DeleteFunc(ss.byUser[s.UserID], func(sid string) bool { return sid == id })
		if len(rest) == 0 {
			delete(ss.byUser, s.UserID)
		} else {
			ss.byUser[s.UserID] = rest
		}
		n++
	}
	return n, nil
}

// DeleteOf removes the sessions of the user.
func (ss *Sessions) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	all := ss.byUser[id]
	for _, sid := range all {
		delete(ss.byID, sid)
	}
	delete(ss.byUser, id)
	return len(all), nil
}

func stampSession(s auth.Session) auth.Session {
	s.CreatedAt = stamp(s.CreatedAt)
	s.RotatedAt = stamp(s.RotatedAt)
	s.ExpiresAt = stamp(s.ExpiresAt)
	s.RevokedAt = stamp(s.RevokedAt)
	s.SeenAt = stamp(s.SeenAt)
	s.ProvenAt = stamp(s.ProvenAt)
	return s
}
