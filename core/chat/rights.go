package chat

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// RoomKind says who may come into a room.
type RoomKind string

// The kinds of rooms.
const (
	// Public rooms are in lists, and who wants to joins.
	Public RoomKind = "public"
	// Private rooms look as if they were not there to whoever is no member. An owner or a moderator invites.
	Private RoomKind = "private"
	// Direct rooms are private, between two users, and nobody is invited.
	Direct RoomKind = "direct"
)

// Or returns the kind, and Public where none was said.
func (k RoomKind) Or() RoomKind {
	if k == "" {
		return Public
	}
	return k
}

// Role is what a member may do in a room. The empty Role is that of somebody who is no member.
type Role string

// The roles.
const (
	Owner     Role = "owner"
	Moderator Role = "moderator"
	Regular   Role = "member"
	Reader    Role = "reader"
)

// AllRoles are all of them, the one with the most rights first.
func AllRoles() []Role { return []Role{Owner, Moderator, Regular, Reader} }

// Right is something that a role may allow.
type Right string

// The rights. docs/rooms.md has the table.
const (
	// RightRead is to read, to mark and to see who is there.
	RightRead Right = "read"
	// RightSpeak is to send, react and type, and to edit and delete one's own messages.
	RightSpeak Right = "speak"
	// RightModerate is to delete others' messages, and to mute, remove and ban members and readers.
	RightModerate Right = "moderate"
	// RightInvite is to make somebody a member or a reader of a private room.
	RightInvite Right = "invite"
	// RightDescribe is to set title, topic, data and retention.
	RightDescribe Right = "describe"
	// RightOwn is to give roles, to change the kind, to delete the room, and to mute, remove and ban moderators.
	RightOwn Right = "own"
)

// AllRights are all of them.
func AllRights() []Right {
	return []Right{RightRead, RightSpeak, RightModerate, RightInvite, RightDescribe, RightOwn}
}

// Has reports whether a member with this role has a right in a room of this kind. It is pure. What it does not know, it does not allow.
func (r Role) Has(right Right, kind RoomKind) bool {
	kind = kind.Or()
	if kind != Public && kind != Private && kind != Direct {
		return false
	}
	switch right {
	case RightRead:
		return r == Owner || r == Moderator || r == Regular || r == Reader
	case RightSpeak:
		return r == Owner || r == Moderator || r == Regular
	case RightInvite:
		return kind == Private && (r == Owner || r == Moderator)
	case RightModerate, RightDescribe:
		return kind != Direct && (r == Owner || r == Moderator)
	case RightOwn:
		return kind != Direct && r == Owner
	}
	return false
}

// What a lack of rights is answered with.
var (
	ErrRoleLacksRight = fault.New(fault.Forbidden, "role_lacks_right", "your role in this room does not allow this")
	ErrRoleInvalid    = fault.New(fault.Invalid, "role_invalid", "there is no such role")
	ErrLastOwner      = fault.New(fault.Conflict, "last_owner", "a room with an owner needs one: name another owner first")
)

// MayRestrict returns nil if a member with the role by may mute, ban or remove somebody with the role of, "" being no member. It is pure.
func MayRestrict(kind RoomKind, by, of Role) error {
	right := RightModerate
	if of == Moderator || of == Owner {
		right = RightOwn
	}
	if of == Owner || !by.Has(right, kind) {
		return ErrRoleLacksRight
	}
	return nil
}

// RoleChange gives a user a role in a room, or takes it.
type RoleChange struct {
	Room string
	User user.ID
	// Role is what the user is to be. Empty ends the membership.
	Role Role
	// By is who does it. It may be User: then, with an empty Role, they leave.
	By user.ID
	// At is when: a membership that begins has it as Since.
	At time.Time
}

// May returns nil if the change may be made, in a room of this kind that has so many owners, by somebody with the role by, to
// somebody with the role of. An empty role is that of somebody who is no member. It is pure: [Roles.Change] calls it with what is stored.
func (c RoleChange) May(kind RoomKind, by, of Role, owners int) error {
	switch {
	case c.Role != "" && !slices.Contains(AllRoles(), c.Role):
		return ErrRoleInvalid
	case by == "":
		return ErrRoleLacksRight
	case c.Role == of && c.Role != "":
		if by.Has(RightInvite, kind) || by.Has(RightOwn, kind) || c.By == c.User {
			return nil // it is so already
		}
		return ErrRoleLacksRight
	}
	switch {
	case c.Role == "" && c.By == c.User: // leaves
	case c.Role == "":
		if err := MayRestrict(kind, by, of); err != nil {
			return err
		}
	case of == "" && (c.Role == Regular || c.Role == Reader) && by.Has(RightInvite, kind):
	case !by.Has(RightOwn, kind):
		return ErrRoleLacksRight
	}
	if of == Owner && owners < 2 {
		return ErrLastOwner
	}
	return nil
}
