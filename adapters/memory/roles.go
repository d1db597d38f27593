package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Roles is a chat.Roles of a Rooms and a Members.
type Roles struct {
	rooms        *Rooms
	members      *Members
	restrictions *Restrictions // nil where nobody is banned
}

var _ chat.Roles = (*Roles)(nil)

// NewRoles returns the roles of members in rooms. From now on members heeds the kind of a room, and rooms the roles. Call it before they are used.
func NewRoles(rooms *Rooms, members *Members) *Roles {
	members.rooms = rooms
	rooms.roles = &Roles{rooms: rooms, members: members}
	return rooms.roles
}

// Create stores a room with its first members.
func (rs *Roles) Create(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
	return rs.create(ctx, r, members, chat.RoomRecord{})
}

func (rs *Roles) create(ctx context.Context, r chat.Room, members []chat.Membership, record chat.RoomRecord) (chat.Room, error) {
	defer rs.lock()()
	if err := alive(ctx); err != nil {
		return chat.Room{}, err
	}
	if _, taken := rs.rooms.byName[r.Name]; taken {
		return chat.Room{}, chat.ErrRoomTaken
	}
	r = rs.rooms.add(r)
	events := record.OfRoom(chat.Room{}, r)
	for _, m := range members {
		m.Room = r.Name
		rs.put(m)
		events = append(events, record.OfMemberships(rs.members.of(chat.InRoom{Room: m.Room, UserID: m.UserID}))...)
	}
	rs.rooms.outbox.add(events)
	return r, nil
}

// lock takes all locks, in their order, and returns what gives them back.
func (rs *Roles) lock() func() {
	rs.members.mu.Lock()
	rs.rooms.mu.Lock()
	rs.members.messages.mu.RLock()
	return func() {
		rs.members.messages.mu.RUnlock()
		rs.rooms.mu.Unlock()
		rs.members.mu.Unlock()
	}
}

// put gives a user a role, under all locks.
func (rs *Roles) put(m chat.Membership) {
	ms := rs.members
	at, found := findRoom(ms.byUser[m.UserID], m.Room)
	if !found {
		ms.insert(at, m)
		return
	}
	ms.byUser[m.UserID][at].Role = m.Role
}

// Of returns the memberships of those who are members.
func (rs *Roles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	ms := rs.members
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	ms.messages.mu.RLock()
	defer ms.messages.mu.RUnlock()
	all := make([]chat.Membership, 0, len(whom))
	asked := make(map[chat.InRoom]struct{}, len(whom))
	for _, w := range whom {
		if _, twice := asked[w]; twice {
			continue
		}
		asked[w] = struct{}{}
		if m := ms.of(w); m.Role != "" {
			all = append(all, m)
		}
	}
	return all, nil
}

// of returns the membership of somebody, with an empty role if there is none, under the locks of members and messages.
func (ms *Members) of(w chat.InRoom) chat.Membership {
	at, found := findRoom(ms.byUser[w.UserID], w.Room)
	if !found {
		return chat.Membership{Room: w.Room, UserID: w.UserID}
	}
	return ms.now(ms.byUser[w.UserID][at])
}

// List returns memberships of a room, ascending by user. It looks at every user.
func (rs *Roles) List(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	ms := rs.members
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	ms.messages.mu.RLock()
	defer ms.messages.mu.RUnlock()
	all := []chat.Membership{}
	for id := range ms.byUser {
		if id <= after {
			continue
		}
		if m := ms.of(chat.InRoom{Room: room, UserID: id}); m.Role != "" {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b chat.Membership) int { return strings.Compare(string(a.UserID), string(b.UserID)) })
	return slices.Clip(all[:min(max(limit, 0), len(all))]), nil
}

// Change gives somebody a role, or takes it, if may lets it.
func (rs *Roles) Change(ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error) (before, after chat.Membership, err error) {
	return rs.change(ctx, c, may, chat.RoomRecord{})
}

func (rs *Roles) change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error, record chat.RoomRecord,
) (before, after chat.Membership, err error) {
	defer rs.lock()()
	if err := alive(ctx); err != nil {
		return chat.Membership{}, chat.Membership{}, err
	}
	r, there := rs.rooms.byName[c.Room]
	if !there {
		return chat.Membership{}, chat.Membership{}, chat.ErrRoomNotFound
	}
	ms := rs.members
	before = ms.of(chat.InRoom{Room: c.Room, UserID: c.User})
	if err := may(r, rs.heeded(c.Room, c.By, c.At), before.Role, rs.owners(c.Room)); err != nil {
		return chat.Membership{}, chat.Membership{}, err
	}
	if c.Role != "" && rs.restrictions.bans(c.Room, c.User, c.At) {
		return chat.Membership{}, chat.Membership{}, chat.ErrBanned
	}
	switch {
	case c.Role != "":
		rs.put(chat.Membership{Room: c.Room, UserID: c.User, Since: c.At, Role: c.Role})
	case before.Role != "":
		at, _ := findRoom(ms.byUser[c.User], c.Room)
		ms.delete(c.User, at)
	}
	after = ms.of(chat.InRoom{Room: c.Room, UserID: c.User})
	if before.Role != after.Role {
		rs.rooms.outbox.add(record.OfMemberships(after))
	}
	return before, after, nil
}

// heeded is the role of somebody in a room, empty if a ban of them holds at a time, under all locks.
func (rs *Roles) heeded(room string, id user.ID, at time.Time) chat.Role {
	role := rs.members.of(chat.InRoom{Room: room, UserID: id}).Role
	if role != "" && rs.restrictions.bans(room, id, at) {
		return ""
	}
	return role
}

// owners counts the owners of a room, under all locks. It looks at every user.
func (rs *Roles) owners(room string) (n int) {
	for id := range rs.members.byUser {
		if rs.members.of(chat.InRoom{Room: room, UserID: id}).Role == chat.Owner {
			n++
		}
	}
	return n
}
