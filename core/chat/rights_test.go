package chat_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/chat"
)

// TestRightsAreThoseOfTheTable has every cell of the table in docs/rooms.md, written by hand.
func TestRightsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	const all, speaking, running = "owner moderator member reader", "owner moderator member", "owner moderator"
	table := map[chat.Right]map[chat.RoomKind]string{
		chat.RightRead:     {chat.Public: all, chat.Private: all, chat.Direct: all},
		chat.RightSpeak:    {chat.Public: speaking, chat.Private: speaking, chat.Direct: speaking},
		chat.RightModerate: {chat.Public: running, chat.Private: running},
		chat.RightInvite:   {chat.Private: running},
		chat.RightDescribe: {chat.Public: running, chat.Private: running},
		chat.RightOwn:      {chat.Public: "owner", chat.Private: "owner"},
	}
	assert.Len(t, table, len(chat.AllRights()))
	for _, right := range append(chat.AllRights(), "", "read ", "anything") {
		for _, kind := range []chat.RoomKind{chat.Public, chat.Private, chat.Direct, "", "secret", "Public"} {
			for _, role := range append(chat.AllRoles(), "", "Owner", "king", "owner ") {
				may := table[right][kind]
				if kind == "" { // which is public
					may = table[right][chat.Public]
				}
				want := false
				for _, r := range strings.Fields(may) {
					want = want || r == string(role)
				}
				assert.Equal(t, want, role.Has(right, kind), "%q has %q in %q", role, right, kind)
			}
		}
	}
}

func TestWhoMayRestrictWhom(t *testing.T) {
	t.Parallel()
	for _, kind := range []chat.RoomKind{chat.Public, chat.Private, chat.Direct, "", "secret"} {
		for _, by := range append(chat.AllRoles(), "", "king") {
			for _, of := range append(chat.AllRoles(), "") {
				want := chat.ErrRoleLacksRight
				lower := of == "" || of == chat.Regular || of == chat.Reader
				if kind == chat.Public || kind == chat.Private || kind == "" {
					if by == chat.Owner && (lower || of == chat.Moderator) || by == chat.Moderator && lower {
						want = nil
					}
				}
				err := chat.MayRestrict(kind, by, of)
				if want == nil {
					assert.NoError(t, err, "%q %q %q", kind, by, of)
				} else {
					assert.ErrorIs(t, err, want, "%q %q %q", kind, by, of)
				}
			}
		}
	}
}

// TestWhoMayGiveWhichRole goes through every change: kinds × who does it × to whom × what they are to be × whether it is themselves × how many owners there are. What it
// wants is said in other words than the code has.
func TestWhoMayGiveWhichRole(t *testing.T) {
	t.Parallel()
	calls, allowed := 0, 0
	for _, kind := range []chat.RoomKind{chat.Public, chat.Private, chat.Direct} {
		for _, by := range append(chat.AllRoles(), "") {
			for _, of := range append(chat.AllRoles(), "") {
				for _, to := range append(chat.AllRoles(), "", "king") {
					for _, self := range []bool{false, true} {
						if self && by != of {
							continue
						}
						for _, owners := range []int{0, 1, 2, 3} {
							if (by == chat.Owner || of == chat.Owner) && owners == 0 || by == chat.Owner && of == chat.Owner && !self && owners < 2 {
								continue // there is no such room
							}
							c := chat.RoleChange{Room: "r", User: "u", By: "b", Role: to}
							if self {
								c.By = "u"
							}
							err := c.May(kind, by, of, owners)
							want := wantedOf(kind, by, of, to, self, owners)
							what := fmt.Sprintf("%s: %q makes %q %q, self %v, %d owners", kind, by, of, to, self, owners)
							calls++
							if want == nil {
								allowed++
								assert.NoError(t, err, what)
							} else {
								assert.ErrorIs(t, err, want, what)
							}
							// Whatever was allowed, a room with owners has one.
							if err == nil && of == chat.Owner && to != chat.Owner {
								assert.Greater(t, owners, 1, what)
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d changes, %d allowed", calls, allowed)
}

func wantedOf(kind chat.RoomKind, by, of, to chat.Role, self bool, owners int) error {
	ownerHere := by == chat.Owner && kind != chat.Direct
	moderatorHere := by == chat.Moderator && kind != chat.Direct
	low := func(r chat.Role) bool { return r == chat.Regular || r == chat.Reader }
	if to == "king" {
		return chat.ErrRoleInvalid
	}
	if by == "" {
		return chat.ErrRoleLacksRight
	}
	leaves := to == "" && self
	may := leaves ||
		ownerHere && (to != "" || of != chat.Owner) || // an owner demotes an owner before removing them
		moderatorHere && to == "" && (low(of) || of == "") ||
		moderatorHere && kind == chat.Private && of == "" && low(to) ||
		to != "" && to == of && (self || moderatorHere && kind == chat.Private) // it is so already
	switch {
	case !may:
		return chat.ErrRoleLacksRight
	case of == chat.Owner && to != chat.Owner && owners == 1:
		return chat.ErrLastOwner
	}
	return nil
}
