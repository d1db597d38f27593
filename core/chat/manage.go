package chat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// What is refused to whoever runs a room.
var (
	ErrTitleInvalid = fault.New(fault.Invalid, "title_invalid", "the title is not valid")
	ErrTopicInvalid = fault.New(fault.Invalid, "topic_invalid", "the topic is not valid")
	ErrKindInvalid  = fault.New(fault.Invalid, "kind_invalid", "a room is public or private")
	// ErrNoRoles says that there is no Config.Roles.
	ErrNoRoles = fault.New(fault.Invalid, "roles_not_supported", "this server keeps no roles")
)

// Actor is who runs a room.
type Actor struct {
	Author
	// Any says that no role is asked for: an operator does it, or the application itself.
	Any bool
}

// RightsChange is what [Service.OnRights] hears: the rights of a user in a room are different from now on, or those of everybody in it.
type RightsChange struct {
	Room string
	// User is whose. Empty is everybody: the kind of the room has changed, or the room was deleted.
	User user.ID
	// Role is what the user is now; empty, no member.
	Role Role
	// By is who did it, and Reason what they said to it.
	By     user.ID
	Reason string
}

// The kinds of restrictions that note whose rights may have changed. A note never holds: it is [Lifted]. It is stored before the change, so that a node that hears
// nothing finds it by [Service.RestrictedSince], and asks for the rights again as long as it finds it.
const (
	RoleNote RestrictionKind = "role"
	// RoomNote is a note of everybody in a room. Its user is [System].
	RoomNote RestrictionKind = "room"
	// LeaveNote is a note of a user who leaves rooms. It is one for all rooms, and its room is no room's name: nothing is kept of who has been where.
	LeaveNote RestrictionKind = "leave"
)

// KeepsRoles reports whether there is a Config.Roles.
func (s *Service) KeepsRoles() bool { return s.cfg.Roles != nil }

// OnRights makes f hear of every change of rights that was made here, after it was stored. f must be quick. A hub registers itself. OnRights may be
// called from many goroutines.
func (s *Service) OnRights(f func(RightsChange)) { listen(s, &s.heardRights, f) }

// note stores that rights are about to change.
func (s *Service) note(ctx context.Context, room string, kind RestrictionKind, whose, by user.ID) error {
	_, err := s.cfg.Restrictions.Put(ctx, Restriction{Room: room, UserID: whose, Kind: kind, By: by, At: s.now(), Until: Lifted}, nil)
	if err != nil {
		return fmt.Errorf("note a change of rights: %w", err)
	}
	return nil
}

// noteLeaving stores that a user is about to leave a room, where a store of restrictions can say so to nodes that hear nothing.
func (s *Service) noteLeaving(ctx context.Context, whose user.ID) error {
	if s.cfg.Restrictions == nil || checkVisible(string(whose), MaxAuthorID) != nil {
		return nil
	}
	return s.note(ctx, everyRoom, LeaveNote, whose, whose)
}

// Details are what a room shows of itself. What is nil stays as it is.
type Details struct {
	Kind         *RoomKind
	Title, Topic *string
	// Data is a JSON object that [CompactData] lets through, or empty.
	Data *string
	// Retention is what [CheckRetention] lets through, 0 being the server's own setting; it counts in whole seconds.
	Retention *time.Duration
}

// check returns the details as they may be stored.
func (d Details) check() (Details, error) {
	if d.Kind != nil && *d.Kind != Public && *d.Kind != Private {
		return d, ErrKindInvalid
	}
	if d.Title != nil {
		if err := checkLine(*d.Title, MaxTitle); err != nil {
			return d, ErrTitleInvalid.Detail("it %v", err)
		}
	}
	if d.Topic != nil {
		if err := checkLine(*d.Topic, MaxTopic); err != nil {
			return d, ErrTopicInvalid.Detail("it %v", err)
		}
	}
	if d.Data != nil {
		data, err := CompactData(*d.Data)
		if err != nil {
			return d, err
		}
		d.Data = &data
	}
	if d.Retention != nil {
		if err := CheckRetention(*d.Retention); err != nil {
			return d, err
		}
		r := d.Retention.Truncate(time.Second)
		d.Retention = &r
	}
	return d, nil
}

func (d Details) apply(r *Room) {
	set(&r.Kind, d.Kind)
	set(&r.Title, d.Title)
	set(&r.Topic, d.Topic)
	set(&r.Data, d.Data)
	set(&r.Retention, d.Retention)
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// CreateRoom makes a room that by owns; with Any nobody does. An empty name is replaced by one that nobody can guess. To create a room again is ErrRoomTaken, also for whoever has created it.
//
// It returns ErrNoRoles, ErrRoomInvalid, ErrTitleInvalid, ErrTopicInvalid, ErrDataInvalid, ErrKindInvalid, ErrRetentionInvalid, ErrRoomTaken, what Access says of joining the room, or an error of kind
// Unavailable, after which the outcome is unknown.
func (s *Service) CreateRoom(ctx context.Context, by Actor, name string, d Details) (RoomState, error) {
	if s.cfg.Roles == nil {
		return RoomState{}, ErrNoRoles
	}
	d, err := d.check()
	if err != nil {
		return RoomState{}, err
	}
	if name == "" {
		name = s.cfg.NewID()
	}
	if name, err = s.Resolve(ctx, name); err != nil {
		return RoomState{}, err
	}
	if reserved(name) {
		return RoomState{}, ErrRoomInvalid.Detail("names that begin with %q are made by the server", directPrefix)
	}
	if !by.Any {
		if err := s.cfg.Access.May(ctx, by.Author, ActionJoin, name); err != nil {
			return RoomState{}, err
		}
	}
	now := s.now()
	r := Room{Name: name, Kind: Public, CreatedBy: by.ID, CreatedAt: now}
	d.apply(&r)
	var members []Membership
	if !by.Any {
		members = append(members, Membership{Room: name, UserID: by.ID, Since: now, Role: Owner})
	}
	stores, err := s.because(Cause{By: by.ID, At: now})
	if err != nil {
		return RoomState{}, err
	}
	r, err = stores.Roles.Create(ctx, r, members...)
	s.recorded()
	if err != nil {
		return RoomState{}, fmt.Errorf("store room: %w", err)
	}
	var role Role
	if !by.Any {
		role = Owner
	}
	return s.state(ctx, r, role)
}

// state reads how far a room reaches, for somebody with a role in it.
func (s *Service) state(ctx context.Context, r Room, role Role) (RoomState, error) {
	b, err := s.cfg.Store.Bounds(ctx, r.Name)
	if err != nil {
		return RoomState{}, fmt.Errorf("read room: %w", err)
	}
	return RoomState{Room: r, Seq: b.Last, Rev: b.Rev, Role: role}, nil
}

// Room returns a room as somebody may see it: a public one, or one of which they are a member; with Any, every one. It returns ErrRoomInvalid, or ErrRoomNotFound.
func (s *Service) Room(ctx context.Context, by Actor, name string) (RoomState, error) {
	at, err := s.seen(ctx, by, name)
	if err != nil {
		return RoomState{}, err
	}
	return s.state(ctx, at.Room, at.Role)
}

// seen returns a room that is not deleted, and what by is in it, if by may see it.
func (s *Service) seen(ctx context.Context, by Actor, name string) (Standing, error) {
	name, err := s.Resolve(ctx, name)
	if err != nil {
		return Standing{}, err
	}
	var is Entry
	if !by.Any {
		if is, err = s.entryOf(ctx, by.ID, name); err != nil {
			return Standing{}, err
		}
	}
	role := is.Role
	r, missing := s.cfg.Rooms.ByName(ctx, name)
	var refused error
	if !by.Any && role == "" { // asked of every room, so that the time tells nothing of it
		refused = s.cfg.Access.May(ctx, by.Author, ActionJoin, name)
	}
	switch {
	case missing != nil && !errors.Is(missing, ErrRoomNotFound):
		return Standing{}, fmt.Errorf("read room: %w", missing)
	case refused != nil && !errors.Is(refused, fault.Forbidden):
		return Standing{}, refused
	case missing != nil && role != "": // a membership that came before its room was stored
		r = Room{Name: name, Kind: Public}
	case missing != nil, !r.DeletedAt.IsZero(), refused != nil, !by.Any && role == "" && r.Kind.Or() != Public:
		return Standing{}, ErrRoomNotFound
	}
	return Standing{Room: r, Role: role, Mute: is.Mute}, nil
}

// entryOf returns what the user is in the room, by the name that [Service.Resolve] returns. Who is no member, or banned, has no Role: a ban may have been stored, and the end of
// the membership not.
func (s *Service) entryOf(ctx context.Context, id user.ID, room string) (Entry, error) {
	whom := []InRoom{{room, id}}
	of, err := s.membershipsOf(ctx, whom)
	if err != nil {
		return Entry{}, fmt.Errorf("read membership: %w", err)
	}
	if len(of) == 0 {
		return Entry{}, nil
	}
	if err := s.curb(ctx, of); err != nil {
		return Entry{}, err
	}
	mutes, banned, err := s.held(ctx, whom)
	if err != nil {
		return Entry{}, err
	}
	if _, out := banned[whom[0]]; out {
		return Entry{}, nil
	}
	return Entry{of[0], mutes[whom[0]]}, nil
}

// Standing is what a user is in a room.
type Standing struct {
	Room Room
	// Role is empty for somebody who is no member.
	Role Role
	// Mute is set for a member who is muted; its Kind is empty otherwise.
	Mute Restriction
}

// Standing returns what by is in a room, by any of its names, for whom asks for a right: nil is the error if they have it. With Any, they have every right. It
// returns ErrRoomInvalid, ErrRoomNotFound as [Service.Room] does, ErrNotMember, ErrRoleLacksRight, or an error of kind Unavailable. It reads from the store.
func (s *Service) Standing(ctx context.Context, by Actor, room string, right Right) (Standing, error) {
	at, err := s.seen(ctx, by, room)
	switch {
	case err != nil:
		return Standing{}, err
	case by.Any:
	case at.Role == "":
		return Standing{}, ErrNotMember
	case !at.Role.Has(right, at.Room.Kind):
		return Standing{}, ErrRoleLacksRight
	}
	return at, nil
}

// still says in the commit what [Service.Standing] has said before it: nil if the room is there, and by is in it, whose role is now as; with Any, if the room is there.
func (by Actor) still(r Room, as Role) error {
	switch {
	case !r.DeletedAt.IsZero(), !by.Any && as == "" && r.Kind.Or() != Public:
		return ErrRoomNotFound
	case !by.Any && as == "":
		return ErrNotMember
	}
	return nil
}

// MayRestrict returns the name under which a room is kept in which by may mute, ban or remove a user now, for whom asks before; what stores it decides again. See
// [MayRestrict]; with Any, everybody. It returns what [Service.Standing] returns.
func (s *Service) MayRestrict(ctx context.Context, by Actor, room string, id user.ID) (string, error) {
	at, err := s.Standing(ctx, by, room, RightModerate)
	if err != nil || by.Any {
		return at.Room.Name, err
	}
	of, err := s.entryOf(ctx, id, at.Room.Name)
	if err != nil {
		return "", err
	}
	return at.Room.Name, MayRestrict(at.Room.Kind, at.Role, of.Role)
}

// UpdateRoom changes what a room shows of itself, and returns it. The kind needs RightOwn, all else RightDescribe; whether by has it is decided in the commit. A direct room stays as it is.
// It returns what [Service.Standing] and [Service.CreateRoom] return.
func (s *Service) UpdateRoom(ctx context.Context, by Actor, name string, d Details) (RoomState, error) {
	if s.cfg.Roles == nil {
		return RoomState{}, ErrNoRoles
	}
	d, err := d.check()
	if err != nil {
		return RoomState{}, err
	}
	right := RightDescribe
	if d.Kind != nil {
		right = RightOwn
	}
	at, err := s.Standing(ctx, by, name, right)
	if err != nil {
		return RoomState{}, err
	}
	if at.Room.Kind == Direct {
		return RoomState{}, ErrRoleLacksRight.Detail("the room is a direct one")
	}
	name = at.Room.Name
	now := s.now()
	if d.Kind != nil {
		if err := s.note(ctx, name, RoomNote, System.ID, by.ID); err != nil {
			return RoomState{}, err
		}
	}
	stores, err := s.because(Cause{By: by.ID, At: now})
	if err != nil {
		return RoomState{}, err
	}
	r, role, err := by.update(ctx, stores.Rooms, name, now, right, d.apply)
	s.recorded()
	if err != nil {
		return RoomState{}, fmt.Errorf("store room: %w", err)
	}
	if d.Kind != nil {
		tellAll(&s.heardRights, RightsChange{Room: name, By: by.ID})
	}
	return s.state(ctx, r, role)
}

// update changes a room, if by has a right in it when it is stored, and returns it with the role of by.
func (by Actor) update(ctx context.Context, rooms Rooms, name string, at time.Time, right Right, change func(*Room)) (r Room, role Role, err error) {
	who := By{ID: by.ID, At: at}
	if by.Any {
		who = By{}
	}
	r, err = rooms.Update(ctx, name, who, func(r *Room, as Role) error {
		if err := by.still(*r, as); err != nil {
			return err
		}
		if !by.Any && !as.Has(right, r.Kind) {
			return ErrRoleLacksRight
		}
		role = as
		change(r)
		return nil
	})
	return r, role, err
}

// DeleteRoom deletes a room: from now on it looks as if it was not there, and whoever is in it is taken out. It is erased with its messages soon after; until then its name is
// taken. It needs RightOwn, which is decided in the commit, and returns what [Service.Standing] returns. To delete a room again is ErrRoomNotFound.
func (s *Service) DeleteRoom(ctx context.Context, by Actor, name string) error {
	if s.cfg.Roles == nil {
		return ErrNoRoles
	}
	at, err := s.Standing(ctx, by, name, RightOwn)
	if err != nil {
		return err
	}
	name = at.Room.Name
	if err := s.note(ctx, name, RoomNote, System.ID, by.ID); err != nil {
		return err
	}
	now := s.now()
	stores, err := s.because(Cause{By: by.ID, At: now})
	if err != nil {
		return err
	}
	_, _, err = by.update(ctx, stores.Rooms, name, now, RightOwn, func(r *Room) { r.DeletedAt = now })
	s.recorded()
	if err != nil {
		return fmt.Errorf("delete room: %w", err)
	}
	s.Forget(name)
	tellAll(&s.heardRights, RightsChange{Room: name, By: by.ID})
	return nil
}

// RoomMembers returns at most limit (0 means MaxPage) members of a room, ascending by the bytes of their ids, after the given one, and whether there are more. It needs
// RightRead, and returns what [Service.Standing] returns.
func (s *Service) RoomMembers(ctx context.Context, by Actor, room string, after user.ID, limit int) (all []Entry, more bool, err error) {
	if s.cfg.Roles == nil {
		return nil, false, ErrNoRoles
	}
	at, err := s.Standing(ctx, by, room, RightRead)
	if err != nil {
		return nil, false, err
	}
	limit = s.pageSize(limit)
	for whole := true; whole && len(all) <= limit; { // the next page, for those of this one who are banned
		lacking := limit + 1 - len(all)
		members, err := s.cfg.Roles.List(ctx, at.Room.Name, after, lacking)
		if err != nil {
			return nil, false, fmt.Errorf("read members: %w", err)
		}
		if whole = len(members) == lacking; len(members) > 0 {
			after = members[len(members)-1].UserID
		}
		if err := s.curb(ctx, members); err != nil {
			return nil, false, err
		}
		some, err := s.entries(ctx, members)
		if err != nil {
			return nil, false, err
		}
		all = append(all, some...)
	}
	if more = len(all) > limit; more {
		all = all[:limit]
	}
	return all, more, nil
}

// entries returns memberships with the mutes of their users, without those of who is banned: a ban may have been stored, and the end of the membership not.
func (s *Service) entries(ctx context.Context, of []Membership) ([]Entry, error) {
	whom := make([]InRoom, len(of))
	for i, m := range of {
		whom[i] = InRoom{m.Room, m.UserID}
	}
	mutes, banned, err := s.held(ctx, whom)
	if err != nil {
		return nil, err
	}
	all := make([]Entry, 0, len(of))
	for i, m := range of {
		if _, out := banned[whom[i]]; !out {
			all = append(all, Entry{m, mutes[whom[i]]})
		}
	}
	return all, nil
}

// SetRole gives a user a role in a room, which makes them a member of it. See [RoleChange.May] for who may. Who is banned cannot be made a member. Both are decided in the commit. Nobody asks whether there is such a user.
//
// It returns the membership, or ErrNoRoles, ErrRoleInvalid, ErrRoomInvalid, ErrRoomNotFound, ErrNotMember, ErrRoleLacksRight, ErrLastOwner, ErrBanned, ErrAuthorInvalid, or an
// error of kind Unavailable: then the outcome is unknown, and to do it again is harmless.
func (s *Service) SetRole(ctx context.Context, by Actor, room string, id user.ID, role Role) (Membership, error) {
	if !slices.Contains(AllRoles(), role) {
		return Membership{}, ErrRoleInvalid
	}
	if err := checkVisible(string(id), MaxAuthorID); err != nil {
		return Membership{}, ErrAuthorInvalid.Detail("its id %v", err)
	}
	return s.setRole(ctx, by, room, id, role, "")
}

// RemoveMember ends a membership: nothing more of the room reaches the user's connections. Whoever removes themselves leaves. To remove somebody who is no member is no error. It
// returns what [Service.SetRole] returns.
func (s *Service) RemoveMember(ctx context.Context, by Actor, room string, id user.ID, reason string) error {
	if by.Any || id != by.ID {
		if err := checkVisible(string(id), MaxAuthorID); err != nil {
			return ErrAuthorInvalid.Detail("its id %v", err)
		}
	}
	if err := checkLine(reason, MaxReason); err != nil {
		return ErrRestrictionInvalid.Detail("its reason %v", err)
	}
	_, err := s.setRole(ctx, by, room, id, "", reason)
	return err
}

// errBannedMember refuses to make somebody a member who is banned.
var errBannedMember = ErrBanned.Detail("lift the ban of the user first")

func (s *Service) setRole(ctx context.Context, by Actor, room string, id user.ID, role Role, reason string) (Membership, error) {
	if s.cfg.Roles == nil {
		return Membership{}, ErrNoRoles
	}
	at, err := s.Standing(ctx, by, room, RightRead)
	if err != nil {
		return Membership{}, err
	}
	room = at.Room.Name
	c := RoleChange{Room: room, User: id, Role: role, By: by.ID, At: s.now()}
	may := func(r Room, as, of Role, owners int) error {
		if err := by.still(r, as); err != nil {
			return err
		}
		switch {
		case r.Kind == Direct && role != "":
			return ErrRoleLacksRight.Detail("the room is a direct one")
		case by.Any:
			return nil
		}
		return c.May(r.Kind, as, of, owners)
	}
	of := at.Role
	if !by.Any && id != by.ID {
		is, err := s.entryOf(ctx, id, room)
		if err != nil {
			return Membership{}, err
		}
		of = is.Role
	}
	// Whoever may not learns nothing of the user, and has nothing stored. How many owners there are is for the change to see.
	if err := may(at.Room, at.Role, of, 2); err != nil {
		return Membership{}, err
	}
	if role != "" {
		held, err := s.cfg.Restrictions.InForce(ctx, c.At, InRoom{room, id})
		if err != nil {
			return Membership{}, fmt.Errorf("read restrictions: %w", err)
		}
		if slices.ContainsFunc(held, func(r Restriction) bool { return r.Kind == Ban }) {
			return Membership{}, errBannedMember
		}
	}
	if by.Any || id != by.ID || role != "" {
		err = s.note(ctx, room, RoleNote, id, by.ID)
	} else {
		err = s.noteLeaving(ctx, id)
	}
	if err != nil {
		return Membership{}, err
	}
	stores, err := s.because(Cause{By: by.ID, Reason: reason, At: c.At})
	if err != nil {
		return Membership{}, err
	}
	before, after, err := stores.Roles.Change(ctx, c, may)
	s.recorded()
	if errors.Is(err, ErrBanned) { // meanwhile
		return Membership{}, errBannedMember
	}
	if err != nil {
		return Membership{}, fmt.Errorf("store role: %w", err)
	}
	if before.Role != after.Role {
		tellAll(&s.heardRights, RightsChange{Room: room, User: id, Role: after.Role, By: by.ID, Reason: reason})
	}
	return after, nil
}

// Rights returns what users are in rooms now, by the names that [Service.Resolve] returns, and whether they are muted: those who are members and not banned, in any order. Of a room that is deleted there are none. It
// reads from the store, some rooms at a time. It returns an error of kind Unavailable.
func (s *Service) Rights(ctx context.Context, whom ...InRoom) ([]Entry, error) {
	if len(whom) == 0 {
		return nil, nil
	}
	of, err := s.membershipsOf(ctx, whom)
	if err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	deleted := map[string]bool{}
	for _, m := range of {
		deleted[m.Room] = false
	}
	rooms := slices.Sorted(maps.Keys(deleted))
	gone := make([]bool, len(rooms))
	err = severally(len(rooms), func(i int) error {
		r, err := s.cfg.Rooms.ByName(ctx, rooms[i])
		if err != nil && !errors.Is(err, ErrRoomNotFound) {
			return fmt.Errorf("read room: %w", err)
		}
		gone[i] = err == nil && !r.DeletedAt.IsZero()
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, room := range rooms {
		deleted[room] = gone[i]
	}
	of = slices.DeleteFunc(of, func(m Membership) bool { return deleted[m.Room] })
	if err := s.curb(ctx, of); err != nil {
		return nil, err
	}
	return s.entries(ctx, of)
}

func (s *Service) membershipsOf(ctx context.Context, whom []InRoom) ([]Membership, error) {
	if s.cfg.Roles != nil {
		return s.cfg.Roles.Of(ctx, whom...)
	}
	var all []Membership
	for _, w := range whom {
		member, err := s.cfg.Members.Has(ctx, w.Room, w.UserID)
		if err != nil {
			return nil, err
		}
		if member {
			all = append(all, Membership{Room: w.Room, UserID: w.UserID, Role: Regular})
		}
	}
	return all, nil
}
