package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// people are known by name.
type people map[user.ID]string

func (p people) Named(_ context.Context, ids ...user.ID) (known []chat.Author, err error) {
	for _, id := range ids {
		if name, ok := p[id]; ok {
			known = append(known, chat.Author{ID: id, Name: name})
		}
	}
	return known, nil
}

var eve = chat.Author{ID: "u-eve", Name: "Eve"}

// private is a service that keeps roles and blocks, and knows Ada, Bob, Eve, and one with an odd id. heard returns the changes of rights since it was last called.
func private(t *testing.T, change func(*chat.Config)) (s *chat.Service, store *memory.Store, heard func() []chat.RightsChange) {
	t.Helper()
	s, store, _ = guarded(t, func(c *chat.Config) {
		c.People = people{"u-ada": "Ada", "u-bob": "Bob", "u-eve": "Eve", "a/b 👋": "Odd"}
		if change != nil {
			change(c)
		}
	}, func(c *chat.Config, store *memory.Store) {
		c.Roles, c.Blocks = store.Roles, store.Blocks
	})
	var mu sync.Mutex
	var all []chat.RightsChange
	s.OnRights(func(r chat.RightsChange) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, r)
	})
	return s, store, func() []chat.RightsChange {
		mu.Lock()
		defer mu.Unlock()
		now := all
		all = nil
		slices.SortFunc(now, func(a, b chat.RightsChange) int { return strings.Compare(string(a.User), string(b.User)) })
		return now
	}
}

// begins has the direct room of the two.
func begins(t *testing.T, s *chat.Service, who chat.Author, with user.ID) string {
	t.Helper()
	r, _, err := s.Direct(t.Context(), who, with)
	require.NoError(t, err)
	return r.Name
}

// roles are the roles of some in a room; of those who are none, nothing.
func roles(t *testing.T, s *chat.Service, room string, of ...user.ID) map[user.ID]chat.Role {
	t.Helper()
	whom := make([]chat.InRoom, len(of))
	for i, id := range of {
		whom[i] = chat.InRoom{Room: room, UserID: id}
	}
	members, err := s.Rights(t.Context(), whom...)
	require.NoError(t, err)
	all := map[user.ID]chat.Role{}
	for _, m := range members {
		all[m.UserID] = m.Role
	}
	return all
}

func TestTheDirectRoomOfTwoIsOne(t *testing.T) {
	s, _, heard := private(t, nil)
	r, made, err := s.Direct(t.Context(), ada, "u-bob")
	require.NoError(t, err)
	assert.True(t, made)
	assert.Equal(t, chat.Direct, r.Kind)
	assert.Equal(t, user.ID("u-ada"), r.CreatedBy)
	assert.JSONEq(t, `{"users":["u-ada","u-bob"]}`, r.Data)
	assert.Regexp(t, `^direct:[0-9a-f]{64}$`, r.Name)
	assert.Equal(t, []chat.RightsChange{
		{Room: r.Name, User: "u-ada", Role: chat.Regular, By: "u-ada"}, {Room: r.Name, User: "u-bob", Role: chat.Regular, By: "u-ada"},
	}, heard())
	again, made, err := s.Direct(t.Context(), bob, "u-ada")
	require.NoError(t, err)
	assert.False(t, made)
	assert.Equal(t, r, again)
	assert.Empty(t, heard())
	assert.Equal(t, map[user.ID]chat.Role{"u-ada": chat.Regular, "u-bob": chat.Regular}, roles(t, s, r.Name, "u-ada", "u-bob", "u-eve"))

	others := begins(t, s, ada, "u-eve")
	assert.NotEqual(t, r.Name, others)
	odd, _, err := s.Direct(t.Context(), ada, "a/b 👋")
	require.NoError(t, err)
	assert.JSONEq(t, `{"users":["a/b 👋","u-ada"]}`, odd.Data)

	// Nobody else sees it, comes in, or is brought in.
	_, err = s.Room(t.Context(), chat.Actor{Author: eve}, r.Name)
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	_, err = s.Join(t.Context(), eve, r.Name)
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	for _, by := range []chat.Actor{{Author: ada}, {Author: chat.System, Any: true}} {
		_, err = s.SetRole(t.Context(), by, r.Name, "u-eve", chat.Regular)
		require.ErrorIs(t, err, chat.ErrRoleLacksRight)
		_, err = s.SetRole(t.Context(), by, r.Name, "u-ada", chat.Owner)
		require.ErrorIs(t, err, chat.ErrRoleLacksRight)
	}
	title := "ours"
	_, err = s.UpdateRoom(t.Context(), chat.Actor{Author: ada}, r.Name, chat.Details{Title: &title})
	require.ErrorIs(t, err, chat.ErrRoleLacksRight)
	require.ErrorIs(t, s.DeleteRoom(t.Context(), chat.Actor{Author: ada}, r.Name), chat.ErrRoleLacksRight)
}

func TestNoOtherRoomHasTheNameOfADirectOne(t *testing.T) {
	s, store, _ := private(t, nil)
	name := begins(t, s, ada, "u-bob")
	other := name[:len(name)-1] + "g"
	_, err := s.CreateRoom(t.Context(), chat.Actor{Author: eve}, other, chat.Details{})
	require.ErrorIs(t, err, chat.ErrRoomInvalid)
	_, err = s.Join(t.Context(), eve, other)
	require.ErrorIs(t, err, chat.ErrRoomNotFound)

	// One that was made by another version, or by hand, is never taken for it.
	fresh, freshStore, _ := private(t, nil)
	_, err = freshStore.Rooms.Ensure(t.Context(), chat.Room{Name: name, Kind: chat.Public, CreatedBy: "u-eve"})
	require.NoError(t, err)
	_, _, err = fresh.Direct(t.Context(), ada, "u-bob")
	require.ErrorIs(t, err, chat.ErrRoomTaken)

	_, err = store.Rooms.Update(t.Context(), name, chat.By{}, func(r *chat.Room, _ chat.Role) error { r.DeletedAt = r.CreatedAt; return nil })
	require.NoError(t, err)
	_, _, err = s.Direct(t.Context(), ada, "u-bob")
	require.ErrorIs(t, err, chat.ErrRoomTaken)
}

func TestDirectRefuses(t *testing.T) {
	s, store, heard := private(t, nil)
	for with, want := range map[user.ID]error{
		"u-ada": chat.ErrDirectInvalid, "nobody": user.ErrNotFound, "": user.ErrNotFound, "a\x00": user.ErrNotFound, "\xff": user.ErrNotFound, "../bob": user.ErrNotFound,
		"👋": user.ErrNotFound, "system": user.ErrNotFound, user.ID(strings.Repeat("x", chat.MaxAuthorID+1)): user.ErrNotFound,
	} {
		_, _, err := s.Direct(t.Context(), ada, with)
		require.ErrorIs(t, err, want, "%q", with)
	}
	rooms, err := store.Rooms.List(t.Context(), "direct:", 10)
	require.NoError(t, err)
	assert.Equal(t, "hall", rooms[0].Name, "nothing was made")
	assert.Empty(t, heard())
	plain, _, _ := guarded(t, nil)
	_, _, err = plain.Direct(t.Context(), ada, "u-bob")
	require.ErrorIs(t, err, chat.ErrNoRoles)
}

// Where there are no accounts, whoever is in some room is a user.
func TestWithoutAccountsMembersAreKnown(t *testing.T) {
	s, _, _ := private(t, func(c *chat.Config) { c.People = nil })
	_, _, err := s.Direct(t.Context(), ada, "u-bob")
	require.ErrorIs(t, err, user.ErrNotFound)
	_, err = s.Block(t.Context(), "u-ada", "u-bob")
	require.ErrorIs(t, err, user.ErrNotFound)
	_, err = s.Join(t.Context(), bob, "hall")
	require.NoError(t, err)
	room := begins(t, s, ada, "u-bob")
	require.NoError(t, s.Quit(t.Context(), bob, "hall"))
	require.NoError(t, s.Quit(t.Context(), bob, room))
	_, err = s.Block(t.Context(), "u-ada", "u-bob") // who has written to somebody can be blocked
	require.NoError(t, err)
}

func TestBothAskAtOnce(t *testing.T) {
	const n = 8
	s, store, heard := private(t, nil)
	var made atomic.Int32
	var wg sync.WaitGroup
	names := make([]string, n)
	for i := range n {
		wg.Go(func() {
			who, with := ada, bob
			if i%2 == 1 {
				who, with = bob, ada
			}
			r, first, err := s.Direct(t.Context(), who, with.ID)
			assert.NoError(t, err)
			if first {
				made.Add(1)
			}
			names[i] = r.Name
		})
	}
	wg.Wait()
	assert.Equal(t, int32(1), made.Load())
	for _, name := range names {
		assert.Equal(t, names[0], name)
	}
	members, err := store.Roles.List(t.Context(), names[0], "", 10)
	require.NoError(t, err)
	assert.Len(t, members, 2)
	assert.Len(t, heard(), 2)
}

// lateRooms says at first that there is no such room.
type lateRooms struct {
	chat.Rooms
	asked atomic.Int32
}

func (r *lateRooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	if r.asked.Add(1) == 1 {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	return r.Rooms.ByName(ctx, name)
}

func TestAnotherOneIsQuicker(t *testing.T) {
	late := &lateRooms{}
	late.asked.Store(1)
	s, _, heard := private(t, func(c *chat.Config) { late.Rooms, c.Rooms = c.Rooms, late })
	name := begins(t, s, ada, "u-bob")
	heard()
	late.asked.Store(0)
	r, made, err := s.Direct(t.Context(), bob, "u-ada")
	require.NoError(t, err)
	assert.False(t, made)
	assert.Equal(t, name, r.Name)
	assert.Empty(t, heard())
}

func TestWhoHasLeftADirectRoomIsBackWhenEitherAsks(t *testing.T) {
	for _, asks := range []chat.Author{ada, bob} {
		t.Run(asks.Name, func(t *testing.T) {
			s, store, heard := private(t, nil)
			room := begins(t, s, ada, "u-bob")
			require.NoError(t, s.Quit(t.Context(), bob, room))
			heard()
			_, err := s.Room(t.Context(), chat.Actor{Author: bob}, room)
			require.ErrorIs(t, err, chat.ErrRoomNotFound)
			with := user.ID("u-ada")
			if asks == ada {
				with = "u-bob"
			}
			_, made, err := s.Direct(t.Context(), asks, with)
			require.NoError(t, err)
			assert.False(t, made)
			assert.Equal(t, []chat.RightsChange{{Room: room, User: "u-bob", Role: chat.Regular, By: asks.ID}}, heard())
			members, err := store.Roles.List(t.Context(), room, "", 10)
			require.NoError(t, err)
			assert.Len(t, members, 2)
		})
	}
}

func TestAnOperatorKeepsSomebodyOutOfADirectRoom(t *testing.T) {
	s, _, _ := private(t, nil)
	room := begins(t, s, ada, "u-bob")
	_, err := s.Restrict(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: room, UserID: "u-bob", Kind: chat.Ban, By: chat.System.ID})
	require.NoError(t, err)
	_, _, err = s.Direct(t.Context(), bob, "u-ada")
	require.ErrorIs(t, err, chat.ErrBanned)
	_, _, err = s.Direct(t.Context(), ada, "u-bob")
	require.NoError(t, err)
	assert.Equal(t, map[user.ID]chat.Role{"u-ada": chat.Regular}, roles(t, s, room, "u-ada", "u-bob"))
}

// refuseJoin lets nobody join.
type refuseJoin struct{}

func (refuseJoin) May(_ context.Context, _ chat.Author, what chat.Action, _ string) error {
	if what == chat.ActionJoin {
		return chat.ErrNotAllowed
	}
	return nil
}

func TestAnApplicationsRuleIsAskedAboutADirectRoom(t *testing.T) {
	s, _, _ := private(t, func(c *chat.Config) { c.Access = refuseJoin{} })
	_, _, err := s.Direct(t.Context(), ada, "u-bob")
	require.ErrorIs(t, err, chat.ErrNotAllowed)
	_, _, err = s.Direct(t.Context(), ada, "nobody")
	require.ErrorIs(t, err, user.ErrNotFound)
}

func TestWhoIsBlockedSeesNobodyThere(t *testing.T) {
	s, _, _ := private(t, nil)
	_, _, unknown := s.Direct(t.Context(), eve, "nobody")
	_, err := s.Block(t.Context(), "u-ada", "u-eve")
	require.NoError(t, err)
	_, _, err = s.Direct(t.Context(), eve, "u-ada")
	require.Error(t, err)
	assert.Equal(t, fault.Public(unknown), fault.Public(err), "the same answer, word for word")
	_, _, err = s.Direct(t.Context(), ada, "u-eve")
	require.ErrorIs(t, err, chat.ErrBlocking)
	begins(t, s, bob, "u-ada")
	require.NoError(t, s.Unblock(t.Context(), "u-ada", "u-eve"))
	room := begins(t, s, eve, "u-ada")
	_, err = s.Block(t.Context(), "u-ada", "u-eve")
	require.NoError(t, err)
	_, _, err = s.Direct(t.Context(), eve, "u-ada")
	assert.Equal(t, fault.Public(unknown), fault.Public(err), "also where there is a room")
	assert.Equal(t, room, begins(t, s, ada, "u-eve"), "who blocks finds it, and reads it")
	require.NoError(t, s.Quit(t.Context(), ada, room))
	_, _, err = s.Direct(t.Context(), ada, "u-eve")
	require.ErrorIs(t, err, chat.ErrBlocking)
}

func TestABlockMakesBothReadersOfTheirDirectRoom(t *testing.T) {
	s, _, heard := private(t, nil)
	room, other := begins(t, s, ada, "u-eve"), begins(t, s, ada, "u-bob")
	_, err := s.Join(t.Context(), ada, "hall")
	require.NoError(t, err)
	_, err = s.Join(t.Context(), eve, "hall")
	require.NoError(t, err)
	heard()
	want := func(step string, in string, role chat.Role) {
		t.Helper()
		assert.Equal(t, map[user.ID]chat.Role{"u-ada": role, "u-eve": role}, roles(t, s, in, "u-ada", "u-eve"), step)
		for _, who := range []chat.Author{ada, eve} {
			_, err := s.Standing(t.Context(), chat.Actor{Author: who}, in, chat.RightSpeak)
			if role == chat.Reader {
				require.ErrorIs(t, err, chat.ErrRoleLacksRight, step)
			} else {
				require.NoError(t, err, step)
			}
			_, err = s.Standing(t.Context(), chat.Actor{Author: who}, in, chat.RightRead)
			require.NoError(t, err, step)
			e, err := s.Enter(t.Context(), who, in)
			require.NoError(t, err, step)
			assert.Equal(t, role, e.Role, step)
			mine, err := s.Mine(t.Context(), who.ID, chat.Place{}, 0)
			require.NoError(t, err, step)
			i := slices.IndexFunc(mine, func(r chat.MyRoom) bool { return r.Room == in })
			assert.Equal(t, role, mine[i].Role, step)
			members, _, err := s.RoomMembers(t.Context(), chat.Actor{Author: who}, in, "", 0)
			require.NoError(t, err, step)
			assert.Equal(t, role, members[0].Role, step)
		}
	}
	both := func(role chat.Role) []chat.RightsChange {
		return []chat.RightsChange{{Room: room, User: "u-ada", Role: role}, {Room: room, User: "u-eve", Role: role}}
	}
	want("before", room, chat.Regular)
	for range 2 {
		_, err = s.Block(t.Context(), "u-ada", "u-eve")
		require.NoError(t, err)
		want("blocked", room, chat.Reader)
		want("elsewhere", "hall", chat.Regular)
		assert.Equal(t, both(chat.Reader), heard())
	}
	assert.Equal(t, map[user.ID]chat.Role{"u-ada": chat.Regular, "u-bob": chat.Regular}, roles(t, s, other, "u-ada", "u-bob"))
	_, err = s.Block(t.Context(), "u-eve", "u-ada")
	require.NoError(t, err)
	require.NoError(t, s.Unblock(t.Context(), "u-ada", "u-eve"))
	want("one of two blocks has ended", room, chat.Reader)
	heard()
	require.NoError(t, s.Unblock(t.Context(), "u-eve", "u-ada"))
	want("no block is left", room, chat.Regular)
	assert.Equal(t, both(chat.Regular), heard())
	require.NoError(t, s.Unblock(t.Context(), "u-eve", "u-ada"))
	require.NoError(t, s.Quit(t.Context(), eve, room), "who may only read can leave")
}

// A node that hears nothing finds the note, and asks for the rights again.
func TestABlockIsNotedBeforeItIsStored(t *testing.T) {
	s, _, _ := private(t, func(c *chat.Config) { c.Blocks = failingBlocks{c.Blocks} })
	room := begins(t, s, ada, "u-eve")
	_, err := s.Block(t.Context(), "u-ada", "u-eve")
	require.ErrorIs(t, err, errStore)
	var noted []string
	require.NoError(t, s.RestrictedSince(t.Context(), time.Time{}, func(r chat.Restriction) { noted = append(noted, fmt.Sprint(r.Kind, " ", r.Room)) }))
	assert.Equal(t, []string{"room " + room}, noted)
}

var errStore = fault.Wrap(fault.Unavailable, errors.New("the store is away"))

type failingBlocks struct{ chat.Blocks }

func (failingBlocks) Put(context.Context, chat.Block, int) (chat.Block, error) {
	return chat.Block{}, errStore
}

func TestBlockRefuses(t *testing.T) {
	s, _, heard := private(t, func(c *chat.Config) { c.MaxBlocks = 2 })
	for whom, want := range map[user.ID]error{
		"u-ada": chat.ErrBlockInvalid, "nobody": user.ErrNotFound, "": user.ErrNotFound, "a\x00": user.ErrNotFound, "system": user.ErrNotFound,
		"../bob": user.ErrNotFound, user.ID(strings.Repeat("x", chat.MaxAuthorID+1)): user.ErrNotFound,
	} {
		_, err := s.Block(t.Context(), "u-ada", whom)
		require.ErrorIs(t, err, want, "%q", whom)
		require.NoError(t, s.Unblock(t.Context(), "u-ada", whom), "%q", whom)
	}
	for _, whom := range []user.ID{"u-bob", "a/b 👋"} {
		_, err := s.Block(t.Context(), "u-ada", whom)
		require.NoError(t, err)
	}
	_, err := s.Block(t.Context(), "u-ada", "u-eve")
	require.ErrorIs(t, err, chat.ErrTooManyBlocks)
	_, err = s.Block(t.Context(), "u-ada", "u-bob")
	require.NoError(t, err, "it is there")
	all, more, err := s.Blocks(t.Context(), "u-ada", "", 1)
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, user.ID("a/b 👋"), all[0].Whom)
	all, more, err = s.Blocks(t.Context(), "u-ada", all[0].Whom, 1)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, user.ID("u-bob"), all[0].Whom)
	assert.Empty(t, heard(), "there is no room of which to hear")
	plain, _, _ := guarded(t, nil)
	_, err = plain.Block(t.Context(), "u-ada", "u-bob")
	require.ErrorIs(t, err, chat.ErrNoBlocks)
	require.ErrorIs(t, plain.Unblock(t.Context(), "u-ada", "u-bob"), chat.ErrNoBlocks)
	_, _, err = plain.Blocks(t.Context(), "u-ada", "", 0)
	require.ErrorIs(t, err, chat.ErrNoBlocks)
}

func TestBlocksGoWithTheirUser(t *testing.T) {
	s, store, heard := private(t, nil)
	room := begins(t, s, ada, "u-eve")
	for _, p := range []chat.Pair{{By: "u-ada", Whom: "u-eve"}, {By: "u-eve", Whom: "u-bob"}, {By: "u-ada", Whom: "u-bob"}} {
		_, err := s.Block(t.Context(), p.By, p.Whom)
		require.NoError(t, err)
	}
	var told []user.ID
	require.NoError(t, s.ExportAuthor(t.Context(), "u-eve", chat.AuthorVisitor{
		Membership: func(chat.Membership) error { return nil }, Message: func(chat.Message) error { return nil },
		Reaction: func(chat.Message, string) error { return nil },
		Block:    func(b chat.Block) error { told = append(told, b.Whom); return nil },
	}))
	assert.Equal(t, []user.ID{"u-bob"}, told, "whom others have blocked is theirs")
	heard()
	done, err := s.EraseAuthor(t.Context(), "u-eve", nil)
	require.NoError(t, err)
	assert.Equal(t, chat.AuthorErasure{Memberships: 1, Blocks: 2}, done)
	left, err := store.Blocks.Among(t.Context(), chat.Pair{By: "u-ada", Whom: "u-eve"}, chat.Pair{By: "u-eve", Whom: "u-bob"}, chat.Pair{By: "u-ada", Whom: "u-bob"})
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, chat.Pair{By: "u-ada", Whom: "u-bob"}, left[0].Pair)
	assert.Equal(t, map[user.ID]chat.Role{"u-ada": chat.Regular}, roles(t, s, room, "u-ada", "u-eve"))
	assert.Equal(t, []chat.RightsChange{{Room: room, User: "u-ada", Role: chat.Regular}}, heard())
	done, err = s.EraseAuthor(t.Context(), "u-eve", nil)
	require.NoError(t, err)
	assert.Zero(t, done)
}
