package user

import (
	"context"

	"github.com/parley-chat/parley/core/fault"
)

// Role is what a user may do beyond what is theirs.
type Role string

// The roles. A user without one has RoleUser.
const (
	RoleUser  Role = "user"
	RoleAdmin Role = "admin"
)

// ErrRoleUnknown says that there is no such role.
var ErrRoleUnknown = fault.New(fault.Invalid, "role_unknown", "there is no such role")

// ParseRole refuses what is no role.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case RoleUser, RoleAdmin:
		return r, nil
	}
	return "", ErrRoleUnknown
}

// Named is the role of a user, [RoleUser] where none is stored.
func (r Role) Named() Role {
	if r == "" {
		return RoleUser
	}
	return r
}

// MaxPrefix is the longest Filter.Prefix in characters.
const MaxPrefix = MaxEmail

// Filter chooses users of a [Directory]. A zero field chooses all.
type Filter struct {
	// Prefix is what the address or the full name begins with, at most [MaxPrefix] characters.
	Prefix string
	// Role is what they may do. Only [RoleAdmin] can be asked for.
	Role Role
	// Enabled leaves out users who are disabled.
	Enabled bool
	// After is the ID after which the page begins, for the next page the last one of this.
	After ID
	// Limit is how many there are at most.
	Limit int
}

// Directory lists the users of a [Repository].
//
// It may be called from many goroutines.
type Directory interface {
	// List returns the users whom f chooses, with every field as it is, ascending by the bytes of their IDs.
	// A prefix is that of the address or of the full name.
	// Letters A to Z of a prefix are as good as a to z, and no character stands for others.
	// List returns at most f.Limit users: none if it is below 1.
	// A page begins after f.After, whether or not there is such a user.
	// List returns whoever was stored before the call as it is then, or as it became meanwhile.
	List(ctx context.Context, f Filter) ([]User, error)
}
