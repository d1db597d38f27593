package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Restrictions is a chat.Restrictions.
type Restrictions struct {
	roles  *Roles // nil where there are none
	mu     sync.RWMutex
	stored map[chat.InRoom][]chat.Restriction // one of each kind
}

var _ chat.Restrictions = (*Restrictions)(nil)

// NewRestrictions returns a store without restrictions. From now on roles heeds its bans: call it before roles is used. Without roles there are no rooms to Put that asks who may.
func NewRestrictions(roles *Roles) *Restrictions {
	rs := &Restrictions{roles: roles, stored: map[chat.InRoom][]chat.Restriction{}}
	if roles != nil {
		roles.restrictions = rs
	}
	return rs
}

// Put stores a restriction in the place of the one before, if may lets it.
func (rs *Restrictions) Put(ctx context.Context, r chat.Restriction, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
	if may != nil {
		if rs.roles == nil {
			return chat.Restriction{}, chat.ErrRoomNotFound
		}
		defer rs.roles.lock()()
	}
	if err := alive(ctx); err != nil {
		return chat.Restriction{}, err
	}
	if may != nil {
		room, there := rs.roles.rooms.byName[r.Room]
		if !there {
			return chat.Restriction{}, chat.ErrRoomNotFound
		}
		if err := may(room, rs.roles.heeded(r.Room, r.By, r.At), rs.roles.heeded(r.Room, r.UserID, r.At)); err != nil {
			return chat.Restriction{}, err
		}
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.At = stamp(r.At)
	if r.Until.IsZero() {
		r.Until = time.Time{} // of whatever zone it was
	} else {
		r.Until = stamp(r.Until)
	}
	whom := chat.InRoom{Room: r.Room, UserID: r.UserID}
	of := rs.stored[whom]
	at := slices.IndexFunc(of, func(before chat.Restriction) bool { return before.Kind == r.Kind })
	if at < 0 {
		rs.stored[whom] = append(of, r)
		return r, nil
	}
	if !r.At.After(of[at].At) {
		r.At = of[at].At.Add(time.Microsecond)
	}
	of[at] = r
	return r, nil
}

// bans reports whether a ban of the user holds at a time.
func (rs *Restrictions) bans(room string, id user.ID, at time.Time) bool {
	if rs == nil {
		return false
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return slices.ContainsFunc(rs.stored[chat.InRoom{Room: room, UserID: id}], func(r chat.Restriction) bool {
		return r.Kind == chat.Ban && r.InForce(at)
	})
}

// InForce returns the restrictions that hold at a time.
func (rs *Restrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	held, asked := []chat.Restriction{}, map[chat.InRoom]bool{}
	for _, w := range whom {
		if asked[w] {
			continue
		}
		asked[w] = true
		for _, r := range rs.stored[w] {
			if r.InForce(now) {
				held = append(held, r)
			}
		}
	}
	return held, nil
}

// List returns the restrictions of a kind that hold in room at a time.
func (rs *Restrictions) List(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
	all := func(r chat.Restriction) bool {
		return r.Room == room && r.Kind == kind && r.UserID > after && r.InForce(now)
	}
	return rs.choose(ctx, limit, all, func(a, b chat.Restriction) int { return cmp.Compare(a.UserID, b.UserID) })
}

// Since returns the restrictions whose At is not before a time.
func (rs *Restrictions) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	return rs.choose(ctx, limit, func(r chat.Restriction) bool { return !r.At.Before(at) }, func(a, b chat.Restriction) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Room, b.Room), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Kind, b.Kind))
	})
}

func (rs *Restrictions) choose(ctx context.Context, limit int, all func(chat.Restriction) bool, order func(a, b chat.Restriction) int) ([]chat.Restriction, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	if limit < 1 {
		return []chat.Restriction{}, nil
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	chosen := []chat.Restriction{}
	for _, of := range rs.stored {
		for _, r := range of {
			if all(r) {
				chosen = append(chosen, r)
			}
		}
	}
	slices.SortFunc(chosen, order)
	return slices.Clip(chosen[:min(limit, len(chosen))]), nil
}
