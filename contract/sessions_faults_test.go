package contract_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func sessionFaults() []broken[contract.Sessions] {
	breaks := func(f func(s auth.SessionStore) sessions) func(contract.Sessions) contract.Sessions {
		return func(p contract.Sessions) contract.Sessions {
			s := f(p.Store)
			s.SessionStore, p.Store = p.Store, s
			return p
		}
	}
	sweeps := func(f func(s auth.Sweeper, ctx context.Context, before time.Time) (int, error)) func(contract.Sessions) contract.Sessions {
		return breaks(func(s auth.SessionStore) sessions {
			return sessions{sweeper: func(ctx context.Context, before time.Time) (int, error) { return f(s, ctx, before) }}
		})
	}
	return append(sessionSignFaults(breaks), []broken[contract.Sessions]{
		{"times lose their microseconds", "a created session is read back", breaks(func(s auth.SessionStore) sessions {
			return sessions{create: func(ctx context.Context, v auth.Session, events ...event.Event) error {
				v.RotatedAt = v.RotatedAt.Truncate(time.Millisecond)
				return s.Create(ctx, v, events...)
			}}
		})},
		{"a taken id is replaced", "a taken id is refused", breaks(func(s auth.SessionStore) sessions {
			return sessions{create: func(ctx context.Context, v auth.Session, events ...event.Event) error {
				if err := s.Create(ctx, v, events...); !errors.Is(err, fault.Conflict) {
					return err
				}
				_, err := s.Update(ctx, v.ID, func(old *auth.Session) error { *old = v; return nil })
				return err
			}}
		})},
		{"revoked sessions are hidden", "expired and revoked sessions are returned", breaks(func(s auth.SessionStore) sessions {
			return sessions{byID: func(ctx context.Context, id string) (auth.Session, error) {
				v, err := s.ByID(ctx, id)
				if !v.RevokedAt.IsZero() {
					return auth.Session{}, auth.ErrSessionNotFound
				}
				return v, err
			}}
		})},
		{"an unknown session is another error", "an unknown session is not found", breaks(func(s auth.SessionStore) sessions {
			return sessions{byID: func(ctx context.Context, id string) (auth.Session, error) {
				v, err := s.ByID(ctx, id)
				if err != nil {
					err = errOops
				}
				return v, err
			}}
		})},
		{"a failed change is stored", "a failed change stores nothing", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				var refused error
				v, err := s.Update(ctx, id, func(v *auth.Session) error { refused = change(v); return nil })
				if refused != nil {
					err = refused
				}
				return v, err
			}}
		})},
		{"events are lost", "update stores its events", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, _ ...event.Event) (auth.Session, error) {
				return s.Update(ctx, id, change)
			}}
		})},
		{"rotations race", "one of several rotations wins", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				v, err := s.ByID(ctx, id)
				if err != nil {
					return v, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				if err := change(&v); err != nil {
					return v, err
				}
				return s.Update(ctx, id, func(stored *auth.Session) error { *stored = v; return nil }, events...)
			}}
		})},
		{"the oldest come first", "a user's sessions come newest first", breaks(func(s auth.SessionStore) sessions {
			return sessions{byUser: func(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
				all, err := s.ByUser(ctx, id, at, limit)
				slices.Reverse(all)
				return all, err
			}}
		})},
		{"a limit takes the oldest", "at most as many sessions as asked for", breaks(func(s auth.SessionStore) sessions {
			return sessions{byUser: func(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
				all, err := s.ByUser(ctx, id, at, 1000)
				return all[max(len(all)-limit, 0):], err
			}}
		})},
		{"expired sessions are listed", "a user's sessions come newest first", breaks(func(s auth.SessionStore) sessions {
			return sessions{byUser: func(ctx context.Context, id user.ID, _ time.Time, limit int) ([]auth.Session, error) {
				return s.ByUser(ctx, id, time.Unix(0, 0), limit)
			}}
		})},
		{"a key of a rotation is forgotten", "update stores what change did", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				return s.Update(ctx, id, func(v *auth.Session) error {
					err := change(v)
					v.RotationKey = ""
					return err
				}, events...)
			}}
		})},
		{"what expires later goes too", "expired sessions are removed", sweeps(func(s auth.Sweeper, ctx context.Context, before time.Time) (int, error) {
			return s.DeleteExpired(ctx, before.Add(time.Hour))
		})},
		{"only living sessions of a user are removed", "a user's sessions are removed", func(p contract.Sessions) contract.Sessions {
			p.Store = sessionEraser{p.Store, func(s auth.SessionStore, ctx context.Context, id user.ID) (int, error) {
				if living, err := s.ByUser(ctx, id, at0, 10); err != nil || len(living) == 0 {
					return 0, err
				}
				n, err := s.DeleteOf(ctx, id)
				return n - 1, err
			}}
			return p
		}},
		{"letter case of a user does not count", "a user's sessions are removed", func(p contract.Sessions) contract.Sessions {
			p.Store = sessionEraser{p.Store, func(s auth.SessionStore, ctx context.Context, id user.ID) (int, error) {
				n, err := s.DeleteOf(ctx, id)
				_, others := s.DeleteOf(ctx, user.ID(strings.ToUpper(string(id))))
				return n, errors.Join(err, others)
			}}
			return p
		}},
		{"nothing is removed", "expired sessions are removed", sweeps(func(auth.Sweeper, context.Context, time.Time) (int, error) { return 0, nil })},
	}...)
}

// sessionEraser removes a user's sessions as f does.
type sessionEraser struct {
	auth.SessionStore
	f func(s auth.SessionStore, ctx context.Context, id user.ID) (int, error)
}

func (s sessionEraser) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.f(s.SessionStore, ctx, id)
}

// sessionBreaker makes a store of sessions from one that keeps its promises.
type sessionBreaker func(func(s auth.SessionStore) sessions) func(contract.Sessions) contract.Sessions

// sessionSignFaults are those of events of new sessions, of what people recognise sessions by, and of rotations that are answered again.
func sessionSignFaults(breaks sessionBreaker) []broken[contract.Sessions] {
	return []broken[contract.Sessions]{
		{"events of a new session are lost", "create stores its events", breaks(func(s auth.SessionStore) sessions {
			return sessions{create: func(ctx context.Context, v auth.Session, _ ...event.Event) error { return s.Create(ctx, v) }}
		})},
		{"events of a session that was not stored stay", "create stores its events", func(p contract.Sessions) contract.Sessions {
			s := sessions{SessionStore: p.Store}
			s.create = func(ctx context.Context, v auth.Session, events ...event.Event) error {
				err := s.SessionStore.Create(ctx, v, events...)
				if errors.Is(err, fault.Conflict) && len(events) > 0 {
					return errors.Join(err, s.SessionStore.Create(ctx, auth.Session{ID: "carrier", UserID: "nobody"}, events...))
				}
				return err
			}
			p.Store = s
			return p
		}},
		{"only the first event of a new session is stored", "create stores its events", breaks(func(s auth.SessionStore) sessions {
			return sessions{create: func(ctx context.Context, v auth.Session, events ...event.Event) error {
				return s.Create(ctx, v, events[:min(len(events), 1)]...)
			}}
		})},
		{"the device is not kept", "a created session is read back", forgets(breaks, func(v *auth.Session) { v.Device = "" })},
		{"the network is not kept", "a created session is read back", forgets(breaks, func(v *auth.Session) { v.Network = "" })},
		{"when it was proven is not kept", "a created session is read back", forgets(breaks, func(v *auth.Session) { v.ProvenAt = time.Time{} })},
		{"when it was seen loses its microseconds", "a created session is read back", forgets(breaks, func(v *auth.Session) { v.SeenAt = v.SeenAt.Truncate(time.Second) })},
		{"no device becomes a device", "create stores its events", forgets(breaks, func(v *auth.Session) { v.Device = cmp.Or(v.Device, "unknown") })},
		{"when it was seen does not change", "update stores what change did", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				return s.Update(ctx, id, func(v *auth.Session) error {
					seen := v.SeenAt
					err := change(v)
					v.SeenAt = seen
					return err
				}, events...)
			}}
		})},
		{"the token before is forgotten", "who comes too late to rotate sees the rotation", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				return s.Update(ctx, id, func(v *auth.Session) error {
					before := v.PreviousHash
					err := change(v)
					v.PreviousHash = before
					return err
				}, events...)
			}}
		})},
		{"who comes too late is given the key of before", "who comes too late to rotate sees the rotation", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				cached, err := s.ByID(ctx, id)
				if err != nil {
					return cached, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				return s.Update(ctx, id, func(v *auth.Session) error {
					if v.TokenHash != cached.TokenHash {
						v.RotationKey = cached.RotationKey
					}
					return change(v)
				}, events...)
			}}
		})},
	}
}

// forgets is a store that edits what it is given.
func forgets(breaks sessionBreaker, edit func(*auth.Session)) func(contract.Sessions) contract.Sessions {
	return breaks(func(s auth.SessionStore) sessions {
		return sessions{create: func(ctx context.Context, v auth.Session, events ...event.Event) error {
			edit(&v)
			return s.Create(ctx, v, events...)
		}}
	})
}
