package chat

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// directPrefix begins the names of direct rooms. No other room that is made now has such a name.
const directPrefix = "direct:"

func reserved(name string) bool { return strings.HasPrefix(name, directPrefix) }

// ErrDirectInvalid refuses a direct room of a user and themselves.
var ErrDirectInvalid = fault.New(fault.Invalid, "direct_room_invalid", "a direct room is of two users")

// direct are the two users of a direct room, the one with the lower bytes first.
type direct [2]user.ID

func directBetween(a, b user.ID) direct {
	if b < a {
		a, b = b, a
	}
	return direct{a, b}
}

// name is the same whoever of the two asks. What is digested is different for any two different pairs.
func (d direct) name() string {
	digest := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(d[0]), d[0], d[1]))
	return directPrefix + hex.EncodeToString(digest[:])
}

// data names the users, which the room's name does not.
func (d direct) data() (string, error) {
	data, err := json.Marshal(directData{Users: d[:]})
	return string(data), err
}

type directData struct {
	Users []user.ID `json:"users"`
}

func directName(a, b user.ID) string { return directBetween(a, b).name() }

// directIn returns the users of a room, and nobody if it is no direct one.
func directIn(r Room) direct {
	var data directData
	if r.Kind != Direct || json.Unmarshal([]byte(r.Data), &data) != nil || len(data.Users) != 2 {
		return direct{}
	}
	return directBetween(data.Users[0], data.Users[1])
}

// directOf is directIn of a room by its name. It remembers: who the two are never changes.
func (s *Service) directOf(ctx context.Context, room string) (direct, error) {
	s.mu.Lock()
	d, known := s.directs[room]
	s.mu.Unlock()
	if known {
		return d, nil
	}
	r, err := s.cfg.Rooms.ByName(ctx, room)
	switch {
	case errors.Is(err, ErrRoomNotFound):
		return direct{}, nil
	case err != nil:
		return direct{}, fmt.Errorf("read room: %w", err)
	}
	if d = directIn(r); d != (direct{}) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.directs) >= maxKnown {
			clear(s.directs)
		}
		s.directs[room] = d
	}
	return d, nil
}

// knowsUser reports whether there is such a user: Config.People says so, and without it, whoever is a member of some room is one.
func (s *Service) knowsUser(ctx context.Context, id user.ID) (bool, error) {
	if id == System.ID || checkVisible(string(id), MaxAuthorID) != nil {
		return false, nil
	}
	people, asked, err := s.People(ctx, id)
	if err != nil {
		return false, fmt.Errorf("read user: %w", err)
	}
	if asked {
		return len(people) > 0, nil
	}
	rooms, err := s.cfg.Members.RoomsOf(ctx, id, "", 1)
	if err != nil {
		return false, fmt.Errorf("read memberships: %w", err)
	}
	return len(rooms) > 0, nil
}

// Direct returns the one direct room of two users, and whether it was made now. Whoever of the two asks first makes it, and both are members. A member who has left
// is one again when either of the two asks. [Service.OnRights] hears of everybody who becomes a member, also when the room is made.
// Its name is made of the two ids, so that it is the same for ever, and no other room can have it. Its Data is {"users": [id, id]}, the lower one first.
//
// It returns ErrNoRoles, ErrDirectInvalid; user.ErrNotFound if the other user is not known, or has blocked who asks, whether or not there is a room; ErrBlocking, if who asks
// has blocked the other one and is no member; what Access says of joining the room, ErrBanned, ErrRoomTaken while the room is being deleted, or an error of kind Unavailable: then the
// outcome is unknown, and to do it again is harmless.
func (s *Service) Direct(ctx context.Context, who Author, with user.ID) (r RoomState, made bool, err error) {
	switch {
	case s.cfg.Roles == nil:
		return RoomState{}, false, ErrNoRoles
	case with == who.ID:
		return RoomState{}, false, ErrDirectInvalid
	}
	known, err := s.knowsUser(ctx, with)
	if err != nil {
		return RoomState{}, false, err
	}
	blocks, blocked, err := s.between(ctx, who.ID, with) // asked about everybody, so that the time tells nothing
	switch {
	case err != nil:
		return RoomState{}, false, err
	case !known, blocked:
		return RoomState{}, false, user.ErrNotFound
	}
	d := directBetween(who.ID, with)
	name := d.name()
	if err := s.cfg.Access.May(ctx, who, ActionJoin, name); err != nil {
		return RoomState{}, false, err
	}
	room, err := s.cfg.Rooms.ByName(ctx, name)
	if errors.Is(err, ErrRoomNotFound) {
		if blocks {
			return RoomState{}, false, ErrBlocking
		}
		room, made, err = s.makeDirect(ctx, who.ID, d)
	}
	switch {
	case err != nil:
		return RoomState{}, false, fmt.Errorf("store room: %w", err)
	case !room.DeletedAt.IsZero():
		return RoomState{}, false, ErrRoomTaken.Detail("it is being deleted")
	case directIn(room) != d:
		return RoomState{}, false, ErrRoomTaken.Detail("it is not the direct room of the two")
	}
	if made {
		for _, id := range []user.ID{who.ID, with} {
			tellAll(&s.heardRights, RightsChange{Room: name, User: id, Role: Regular, By: who.ID})
		}
	} else if err := s.rejoin(ctx, name, who.ID, with, blocks); err != nil {
		return RoomState{}, false, err
	}
	role := Regular
	if blocks {
		role = Reader // as curb says
	}
	r, err = s.state(ctx, room, role)
	return r, made, err
}

// makeDirect stores a direct room. Another one who does so at the same time may be quicker.
func (s *Service) makeDirect(ctx context.Context, by user.ID, d direct) (r Room, made bool, err error) {
	data, err := d.data()
	if err != nil {
		return Room{}, false, err
	}
	now := s.now()
	r = Room{Name: d.name(), Kind: Direct, CreatedBy: by, CreatedAt: now, Data: data}
	members := make([]Membership, len(d))
	for i, id := range d {
		members[i] = Membership{Room: r.Name, UserID: id, Since: now, Role: Regular}
	}
	stores, err := s.because(Cause{By: by, At: now})
	if err != nil {
		return Room{}, false, err
	}
	stored, err := stores.Roles.Create(ctx, r, members...)
	s.recorded()
	if errors.Is(err, ErrRoomTaken) {
		r, err = s.cfg.Rooms.ByName(ctx, r.Name)
		return r, false, err
	}
	return stored, err == nil, err
}

// rejoin makes those members of a direct room again who have left it. An operator's ban keeps somebody out.
func (s *Service) rejoin(ctx context.Context, room string, who, with user.ID, blocks bool) error {
	members, err := s.cfg.Roles.Of(ctx, InRoom{room, who}, InRoom{room, with})
	if err != nil {
		return fmt.Errorf("read memberships: %w", err)
	}
	out := map[user.ID]bool{who: true, with: true}
	for _, m := range members {
		delete(out, m.UserID)
	}
	switch {
	case len(out) == 0:
		return nil
	case blocks && out[who]:
		return ErrBlocking
	case blocks: // nothing reaches the other one
		return nil
	}
	held, err := s.cfg.Restrictions.InForce(ctx, s.now(), InRoom{room, who}, InRoom{room, with})
	if err != nil {
		return fmt.Errorf("read restrictions: %w", err)
	}
	for _, r := range held {
		if r.Kind != Ban {
			continue
		}
		if r.UserID == who {
			return r.Refusal()
		}
		delete(out, r.UserID)
	}
	for _, id := range []user.ID{who, with} {
		if !out[id] {
			continue
		}
		if err := s.note(ctx, room, RoleNote, id, who); err != nil {
			return err
		}
		c := RoleChange{Room: room, User: id, Role: Regular, By: who, At: s.now()}
		stores, err := s.because(Cause{By: who, At: c.At})
		if err != nil {
			return err
		}
		before, after, err := stores.Roles.Change(ctx, c, func(r Room, _, _ Role, _ int) error {
			if r.Kind != Direct || !r.DeletedAt.IsZero() {
				return ErrRoomNotFound
			}
			return nil
		})
		s.recorded()
		if errors.Is(err, ErrBanned) && id != who { // meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("store role: %w", err)
		}
		if before.Role != after.Role {
			tellAll(&s.heardRights, RightsChange{Room: room, User: id, Role: after.Role, By: who})
		}
	}
	return nil
}
