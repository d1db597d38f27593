package contract_test

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

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
