package chat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// as is a user who runs a room.
func as(a chat.Author) chat.Actor { return chat.Actor{Author: a} }

// operator may do everything.
var operator = chat.Actor{Author: chat.System, Any: true}

func ptr[T any](v T) *T { return &v }

func TestWhatARoomCannotBeCalledOrShow(t *testing.T) {
	t.Parallel()
	s, _, heard := private(t, nil)
	for name, c := range map[string]struct {
		room string
		d    chat.Details
		want error
	}{
		"a name that is too long":               {strings.Repeat("a", chat.MaxRoomName+1), chat.Details{}, chat.ErrRoomInvalid},
		"a name with a NUL":                     {"a\x00b", chat.Details{}, chat.ErrRoomInvalid},
		"a name of spaces":                      {"   ", chat.Details{}, chat.ErrRoomInvalid},
		"a name that is not UTF-8":              {"a\xff", chat.Details{}, chat.ErrRoomInvalid},
		"the name of direct rooms":              {"direct:x", chat.Details{}, chat.ErrRoomInvalid},
		"a title that is too long":              {"r", chat.Details{Title: ptr(strings.Repeat("é", chat.MaxTitle+1))}, chat.ErrTitleInvalid},
		"a title of two lines":                  {"r", chat.Details{Title: ptr("a\nb")}, chat.ErrTitleInvalid},
		"a title with a NUL":                    {"r", chat.Details{Title: ptr("a\x00")}, chat.ErrTitleInvalid},
		"a title that is not UTF-8":             {"r", chat.Details{Title: ptr("\xc3")}, chat.ErrTitleInvalid},
		"a title nobody can see":                {"r", chat.Details{Title: ptr("\u200b")}, chat.ErrTitleInvalid},
		"a topic that is too long":              {"r", chat.Details{Topic: ptr(strings.Repeat("a", chat.MaxTopic+1))}, chat.ErrTopicInvalid},
		"a topic of spaces":                     {"r", chat.Details{Topic: ptr(" ")}, chat.ErrTopicInvalid},
		"data that is too large":                {"r", chat.Details{Data: ptr(`{"a":"` + strings.Repeat("b", chat.MaxData) + `"}`)}, chat.ErrDataInvalid},
		"data that is too deep":                 {"r", chat.Details{Data: ptr(strings.Repeat(`{"a":`, chat.MaxDataDepth+1) + "1" + strings.Repeat("}", chat.MaxDataDepth+1))}, chat.ErrDataInvalid},
		"data that is no object":                {"r", chat.Details{Data: ptr(`[1]`)}, chat.ErrDataInvalid},
		"data with a NUL":                       {"r", chat.Details{Data: ptr(`{"a":"\u0000"}`)}, chat.ErrDataInvalid},
		"data that is no JSON":                  {"r", chat.Details{Data: ptr(`{`)}, chat.ErrDataInvalid},
		"the kind of direct rooms":              {"r", chat.Details{Kind: ptr(chat.Direct)}, chat.ErrKindInvalid},
		"a kind that there is not":              {"r", chat.Details{Kind: ptr(chat.RoomKind("secret"))}, chat.ErrKindInvalid},
		"no kind":                               {"r", chat.Details{Kind: ptr(chat.RoomKind(""))}, chat.ErrKindInvalid},
		"a retention that is too short":         {"r", chat.Details{Retention: ptr(chat.MinRetention - 1)}, chat.ErrRetentionInvalid},
		"a retention that is too long":          {"r", chat.Details{Retention: ptr(chat.MaxRetention + time.Second)}, chat.ErrRetentionInvalid},
		"a retention that is less than nothing": {"r", chat.Details{Retention: ptr(-time.Hour)}, chat.ErrRetentionInvalid},
	} {
		_, err := s.CreateRoom(t.Context(), as(ada), c.room, c.d)
		require.ErrorIs(t, err, c.want, name)
		if c.room == "r" { // to change a room is refused alike
			_, err = s.UpdateRoom(t.Context(), as(ada), "r", c.d)
			require.ErrorIs(t, err, c.want, name)
		}
	}
	_, err := s.Room(t.Context(), operator, "r")
	require.ErrorIs(t, err, chat.ErrRoomNotFound, "nothing was stored")
	assert.Empty(t, heard())
}

func TestRoomsOfAnyNameAreMadeAndRun(t *testing.T) {
	t.Parallel()
	s, _, heard := private(t, nil)
	for _, name := range []string{"a/b", ".", "..", "../..", "100%", "%2F", "a.b", "☕", strings.Repeat("👋", chat.MaxRoomName), "direct", "Direct:x", ""} {
		made, err := s.CreateRoom(t.Context(), as(ada), name, chat.Details{Title: ptr("T"), Topic: ptr("about 100 %"), Data: ptr(` { "a" : 1 } `), Retention: ptr(90 * time.Minute)})
		require.NoError(t, err, name)
		if name != "" {
			assert.Equal(t, name, made.Name)
		}
		assert.Equal(t, chat.Owner, made.Role)
		assert.Equal(t, []any{chat.Public, "T", "about 100 %", `{"a":1}`, 90 * time.Minute, ada.ID}, []any{made.Kind, made.Title, made.Topic, made.Data, made.Retention, made.CreatedBy})
		_, err = s.CreateRoom(t.Context(), as(ada), made.Name, chat.Details{})
		require.ErrorIs(t, err, chat.ErrRoomTaken, name)
		_, err = s.Join(t.Context(), bob, made.Name)
		require.NoError(t, err)
		_, err = s.SetRole(t.Context(), as(ada), made.Name, bob.ID, chat.Moderator)
		require.NoError(t, err)
		changed, err := s.UpdateRoom(t.Context(), as(bob), made.Name, chat.Details{Title: ptr(""), Data: ptr("")})
		require.NoError(t, err)
		assert.Equal(t, []any{"", "about 100 %", ""}, []any{changed.Title, changed.Topic, changed.Data})
		require.NoError(t, s.DeleteRoom(t.Context(), as(ada), made.Name))
		assert.Equal(t, []chat.RightsChange{{Room: made.Name, By: ada.ID}, {Room: made.Name, User: bob.ID, Role: chat.Moderator, By: ada.ID}}, heard())
	}
}

// A deleted room looks to everybody as if it was not there, and its name is taken.
func TestADeletedRoomIsNotThere(t *testing.T) {
	t.Parallel()
	s, _, _ := private(t, nil)
	ctx := t.Context()
	_, err := s.CreateRoom(ctx, as(ada), "lobby", chat.Details{})
	require.NoError(t, err)
	_, err = s.Join(ctx, bob, "lobby")
	require.NoError(t, err)
	require.ErrorIs(t, s.DeleteRoom(ctx, as(bob), "lobby"), chat.ErrRoleLacksRight)
	require.NoError(t, s.DeleteRoom(ctx, as(ada), "lobby"))
	for _, by := range []chat.Actor{as(ada), as(bob), as(eve), operator} {
		_, err = s.Room(ctx, by, "lobby")
		assert.ErrorIs(t, err, chat.ErrRoomNotFound)
		assert.ErrorIs(t, s.DeleteRoom(ctx, by, "lobby"), chat.ErrRoomNotFound)
		_, err = s.UpdateRoom(ctx, by, "lobby", chat.Details{Title: ptr("T")})
		assert.ErrorIs(t, err, chat.ErrRoomNotFound)
		_, err = s.SetRole(ctx, by, "lobby", eve.ID, chat.Regular)
		assert.ErrorIs(t, err, chat.ErrRoomNotFound)
		_, _, err = s.RoomMembers(ctx, by, "lobby", "", 0)
		assert.ErrorIs(t, err, chat.ErrRoomNotFound)
	}
	for _, who := range []chat.Author{ada, bob, eve} {
		_, err = s.Join(ctx, who, "lobby")
		assert.ErrorIs(t, err, chat.ErrRoomNotFound)
		assert.NoError(t, s.Quit(ctx, who, "lobby"))
	}
	_, err = s.CreateRoom(ctx, as(eve), "lobby", chat.Details{})
	require.ErrorIs(t, err, chat.ErrRoomTaken)
	are, err := s.Rights(ctx, chat.InRoom{Room: "lobby", UserID: ada.ID})
	require.NoError(t, err)
	assert.Empty(t, are)
}

// notes are when a change of a role was noted last, by the user whose role it is.
func notes(t *testing.T, s *chat.Service) map[user.ID]time.Time {
	t.Helper()
	all := map[user.ID]time.Time{}
	require.NoError(t, s.RestrictedSince(t.Context(), time.Time{}, func(r chat.Restriction) {
		if r.Kind == chat.RoleNote {
			all[r.UserID] = r.At
		}
	}))
	return all
}

func TestSetRoleRefuses(t *testing.T) {
	t.Parallel()
	s, _, heard := private(t, nil)
	ctx := t.Context()
	_, err := s.CreateRoom(ctx, as(ada), "den", chat.Details{Kind: ptr(chat.Private)})
	require.NoError(t, err)
	_, err = s.SetRole(ctx, as(ada), "den", bob.ID, chat.Moderator)
	require.NoError(t, err)
	_, err = s.Restrict(ctx, chat.Actor{Any: true}, chat.Restriction{Room: "den", UserID: "u-troll", Kind: chat.Ban, By: ada.ID})
	require.NoError(t, err)
	_, err = s.SetRole(ctx, as(ada), "den", "u-reader", chat.Reader)
	require.NoError(t, err)
	reader := as(chat.Author{ID: "u-reader", Name: "Rea"})
	heard()
	noted := notes(t, s)
	for name, c := range map[string]struct {
		by   chat.Actor
		room string
		of   user.ID
		role chat.Role
		want error
	}{
		"a role that there is not": {as(ada), "den", bob.ID, "king", chat.ErrRoleInvalid},
		"no role":                  {as(ada), "den", bob.ID, "", chat.ErrRoleInvalid},
		"a role that there is not, of an operator": {operator, "den", bob.ID, "king", chat.ErrRoleInvalid},
		"an invitation to oneself":                 {as(eve), "den", eve.ID, chat.Regular, chat.ErrRoomNotFound},
		"an invitation by nobody":                  {as(eve), "den", "u-x", chat.Regular, chat.ErrRoomNotFound},
		"a moderator makes a moderator":            {as(bob), "den", eve.ID, chat.Moderator, chat.ErrRoleLacksRight},
		"a moderator makes themselves owner":       {as(bob), "den", bob.ID, chat.Owner, chat.ErrRoleLacksRight},
		"a moderator demotes the owner":            {as(bob), "den", ada.ID, chat.Regular, chat.ErrRoleLacksRight},
		"the last owner demotes themselves":        {as(ada), "den", ada.ID, chat.Regular, chat.ErrLastOwner},
		"who is banned":                            {as(ada), "den", "u-troll", chat.Regular, chat.ErrBanned},
		"who is banned, by an operator":            {operator, "den", "u-troll", chat.Regular, chat.ErrBanned},
		"who is banned, by a reader":               {reader, "den", "u-troll", chat.Regular, chat.ErrRoleLacksRight},
		"who is not banned, by a reader":           {reader, "den", "u-x", chat.Regular, chat.ErrRoleLacksRight},
		"nobody":                                   {as(ada), "den", "", chat.Regular, chat.ErrAuthorInvalid},
		"an id with a NUL":                         {as(ada), "den", "a\x00", chat.Regular, chat.ErrAuthorInvalid},
		"an id that is too long":                   {as(ada), "den", user.ID(strings.Repeat("a", chat.MaxAuthorID+1)), chat.Regular, chat.ErrAuthorInvalid},
		"a room that is not there":                 {as(ada), "none", bob.ID, chat.Regular, chat.ErrRoomNotFound},
		"a room that is not there, of an operator": {operator, "none", bob.ID, chat.Regular, chat.ErrRoomNotFound},
		"a room that cannot be":                    {as(ada), " ", bob.ID, chat.Regular, chat.ErrRoomInvalid},
	} {
		_, err := s.SetRole(ctx, c.by, c.room, c.of, c.role)
		assert.ErrorIs(t, err, c.want, name)
	}
	assert.ErrorIs(t, s.RemoveMember(ctx, as(bob), "den", ada.ID, ""), chat.ErrRoleLacksRight)
	assert.ErrorIs(t, s.RemoveMember(ctx, as(ada), "den", bob.ID, "a\x00"), chat.ErrRestrictionInvalid)
	assert.ErrorIs(t, s.RemoveMember(ctx, as(ada), "den", bob.ID, strings.Repeat("a", chat.MaxReason+1)), chat.ErrRestrictionInvalid)
	assert.ErrorIs(t, s.Quit(ctx, ada, "den"), chat.ErrLastOwner)
	assert.Empty(t, heard())
	delete(noted, ada.ID) // the last owner may demote an owner, as far as can be told before it is tried
	now := notes(t, s)
	delete(now, ada.ID)
	assert.Equal(t, noted, now, "whoever may not has nothing stored")
	assert.Equal(t, map[user.ID]chat.Role{ada.ID: chat.Owner, bob.ID: chat.Moderator}, roles(t, s, "den", ada.ID, bob.ID, eve.ID, "u-troll", ""))
	assert.NoError(t, s.RemoveMember(ctx, as(bob), "den", eve.ID, ""), "who is no member can be removed again")
	assert.Empty(t, heard(), "nothing has changed")
}

// Of two owners who demote each other at once, one stays.
func TestTwoOwnersDemoteEachOther(t *testing.T) {
	t.Parallel()
	s, _, _ := private(t, nil)
	for round := range 50 {
		room := fmt.Sprint("room", round)
		_, err := s.CreateRoom(t.Context(), as(ada), room, chat.Details{})
		require.NoError(t, err)
		_, err = s.SetRole(t.Context(), as(ada), room, bob.ID, chat.Owner)
		require.NoError(t, err)
		var errs [2]error
		var wg sync.WaitGroup
		for i, who := range []chat.Author{ada, bob} {
			other := []chat.Author{bob, ada}[i]
			wg.Go(func() {
				switch round % 3 {
				case 0:
					_, errs[i] = s.SetRole(t.Context(), as(who), room, other.ID, chat.Regular)
				case 1:
					_, errs[i] = s.SetRole(t.Context(), as(who), room, who.ID, chat.Reader)
				case 2:
					errs[i] = s.Quit(t.Context(), who, room)
				}
			})
		}
		wg.Wait()
		refused := errors.Join(errs[0], errs[1])
		require.Error(t, refused)
		require.True(t, (errs[0] == nil) != (errs[1] == nil), "%v, %v", errs[0], errs[1])
		require.True(t, errors.Is(refused, chat.ErrLastOwner) || errors.Is(refused, chat.ErrRoleLacksRight), "%v", refused)
		owners := 0
		for _, role := range roles(t, s, room, ada.ID, bob.ID) {
			if role == chat.Owner {
				owners++
			}
		}
		require.Equal(t, 1, owners)
	}
}

// Whoever is no member cannot tell a private room from one that is not there.
func TestAPrivateRoomLooksAsIfItWasNotThere(t *testing.T) {
	t.Parallel()
	s, _, _ := private(t, nil)
	ctx := t.Context()
	_, err := s.CreateRoom(ctx, as(ada), "den", chat.Details{Kind: ptr(chat.Private)})
	require.NoError(t, err)
	calls := map[string]func(by chat.Actor, room string) error{
		"Room": func(by chat.Actor, room string) error { _, err := s.Room(ctx, by, room); return err },
		"UpdateRoom": func(by chat.Actor, room string) error {
			_, err := s.UpdateRoom(ctx, by, room, chat.Details{})
			return err
		},
		"DeleteRoom":  func(by chat.Actor, room string) error { return s.DeleteRoom(ctx, by, room) },
		"RoomMembers": func(by chat.Actor, room string) error { _, _, err := s.RoomMembers(ctx, by, room, "", 0); return err },
		"SetRole": func(by chat.Actor, room string) error {
			_, err := s.SetRole(ctx, by, room, by.ID, chat.Regular)
			return err
		},
		"RemoveMember": func(by chat.Actor, room string) error { return s.RemoveMember(ctx, by, room, ada.ID, "") },
		"MayRestrict":  func(by chat.Actor, room string) error { _, err := s.MayRestrict(ctx, by, room, ada.ID); return err },
		"Member":       func(by chat.Actor, room string) error { _, err := s.Member(ctx, by.Author, room); return err },
	}
	for name, call := range calls {
		there, missing := call(as(eve), "den"), call(as(eve), "none")
		require.ErrorIs(t, there, chat.ErrRoomNotFound, name)
		assert.Equal(t, fault.Public(missing), fault.Public(there), name)
	}
	_, err = s.Join(ctx, eve, "den")
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	page, _, err := s.Rooms(ctx, eve, "", 0)
	require.NoError(t, err)
	for _, r := range page {
		assert.NotEqual(t, "den", r.Name)
	}
}

func TestWithoutRolesNobodyRunsRooms(t *testing.T) {
	t.Parallel()
	plain, _, _ := guarded(t, nil)
	ctx := t.Context()
	assert.False(t, plain.KeepsRoles())
	_, err := plain.CreateRoom(ctx, as(ada), "lobby", chat.Details{})
	require.ErrorIs(t, err, chat.ErrNoRoles)
	_, err = plain.UpdateRoom(ctx, operator, "lobby", chat.Details{})
	require.ErrorIs(t, err, chat.ErrNoRoles)
	require.ErrorIs(t, plain.DeleteRoom(ctx, operator, "lobby"), chat.ErrNoRoles)
	_, err = plain.SetRole(ctx, operator, "lobby", bob.ID, chat.Reader)
	require.ErrorIs(t, err, chat.ErrNoRoles)
	_, _, err = plain.RoomMembers(ctx, operator, "lobby", "", 0)
	require.ErrorIs(t, err, chat.ErrNoRoles)
	_, err = plain.Join(ctx, ada, "lobby")
	require.NoError(t, err)
	are, err := plain.Rights(ctx, chat.InRoom{Room: "lobby", UserID: ada.ID}, chat.InRoom{Room: "lobby", UserID: bob.ID})
	require.NoError(t, err)
	require.Len(t, are, 1)
	assert.Equal(t, chat.Regular, are[0].Role)
	require.NoError(t, plain.Quit(ctx, ada, "lobby"))
}

// What is noted before a change is stored tells whoever heard nothing where to look.
func TestAChangeOfRightsIsNotedBeforeItIsStored(t *testing.T) {
	t.Parallel()
	s, store, _ := private(t, nil)
	ctx := t.Context()
	_, err := s.CreateRoom(ctx, as(ada), "lobby", chat.Details{})
	require.NoError(t, err)
	notes := func() (all []string) {
		t.Helper()
		of, err := store.Restrictions.Since(ctx, time.Time{}, 100)
		require.NoError(t, err)
		for _, r := range of {
			assert.Equal(t, chat.Lifted, r.Until, "a note never holds")
			all = append(all, fmt.Sprint(r.Kind, " ", r.UserID))
		}
		return all
	}
	_, err = s.SetRole(ctx, as(ada), "lobby", bob.ID, chat.Reader)
	require.NoError(t, err)
	assert.Equal(t, []string{"role u-bob"}, notes())
	require.NoError(t, s.Quit(ctx, bob, "lobby"))
	assert.ElementsMatch(t, []string{"role u-bob", "leave u-bob"}, notes())
	_, err = s.UpdateRoom(ctx, as(ada), "lobby", chat.Details{Title: ptr("T")})
	require.NoError(t, err)
	assert.Len(t, notes(), 2, "a title is no right")
	_, err = s.UpdateRoom(ctx, as(ada), "lobby", chat.Details{Kind: ptr(chat.Private)})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"role u-bob", "leave u-bob", "room system"}, notes())
	mutes, _, err := s.Restrictions(ctx, "lobby", chat.Mute, "", 0)
	require.NoError(t, err)
	assert.Empty(t, mutes)
}

// Moderators delete what others wrote, through every way.
func TestModeratorsDelete(t *testing.T) {
	t.Parallel()
	s, _, _ := private(t, nil)
	ctx := t.Context()
	_, err := s.CreateRoom(ctx, as(ada), "lobby", chat.Details{})
	require.NoError(t, err)
	for _, who := range []chat.Author{bob, eve} {
		_, err = s.Join(ctx, who, "lobby")
		require.NoError(t, err)
	}
	submit := func(c chat.Change) error {
		answered := make(chan error, 2)
		if err := s.SubmitChange(ctx, c, func(_ chat.Changed, err error) { answered <- err }); err != nil {
			return err
		}
		return <-answered
	}
	change := func(c chat.Change) error { _, err := s.Change(ctx, c); return err }
	for name, do := range map[string]func(chat.Change) error{"Change": change, "SubmitChange": submit} {
		sent, err := s.Send(ctx, chat.Draft{Room: "lobby", Author: eve, Text: "rude"})
		require.NoError(t, err)
		gone := chat.Change{Kind: chat.Delete, Room: "lobby", Seq: sent.Seq, By: bob}
		require.ErrorIs(t, do(gone), chat.ErrNotAllowed, name)
		_, err = s.SetRole(ctx, as(ada), "lobby", bob.ID, chat.Moderator)
		require.NoError(t, err)
		require.ErrorIs(t, do(chat.Change{Kind: chat.Edit, Room: "lobby", Seq: sent.Seq, By: bob, Text: "polite"}), chat.ErrNotAllowed, name)
		require.NoError(t, do(gone), name)
		require.NoError(t, do(gone), name)
		_, err = s.SetRole(ctx, as(ada), "lobby", bob.ID, chat.Regular)
		require.NoError(t, err)
	}
}

// slowRoles calls ask, if there is one, before it says what somebody is.
type slowRoles struct {
	chat.Roles
	ask atomic.Pointer[func() error]
}

func (r *slowRoles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	if ask := r.ask.Load(); ask != nil {
		if err := (*ask)(); err != nil {
			return nil, err
		}
	}
	return r.Roles.Of(ctx, whom...)
}

// A moderator who deletes while the store is away may try again, and is not told that they may not.
func TestWhetherAModeratorDeletesMayBeUnknown(t *testing.T) {
	t.Parallel()
	slow := new(slowRoles)
	s, _, _ := private(t, func(c *chat.Config) { slow.Roles = c.Roles; c.Roles = slow })
	ctx := t.Context()
	_, err := s.CreateRoom(ctx, as(ada), "lobby", chat.Details{})
	require.NoError(t, err)
	sent, err := s.Send(ctx, chat.Draft{Room: "lobby", Author: bob, Text: "rude"})
	require.NoError(t, err)
	away := func() error { return fault.Wrap(fault.Unavailable, errors.New("away")) }
	slow.ask.Store(&away)
	gone := chat.Change{Kind: chat.Delete, Room: "lobby", Seq: sent.Seq, By: ada}
	_, err = s.Change(ctx, gone)
	require.ErrorIs(t, err, fault.Unavailable)
	answered := make(chan error, 2)
	require.NoError(t, s.SubmitChange(ctx, gone, func(_ chat.Changed, err error) { answered <- err }))
	require.ErrorIs(t, <-answered, fault.Unavailable)
	slow.ask.Store(nil)
	_, err = s.Change(ctx, gone)
	require.NoError(t, err)
}

// What was submitted has its answer when Run returns, also where the store was being asked for a role.
func TestRunWaitsForDeletionsByModerators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		slow := &slowRoles{Roles: store.Roles}
		s, err := chat.New(chat.Config{
			Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
			Restrictions: store.Restrictions, Roles: slow,
		})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		_, err = s.CreateRoom(ctx, as(ada), "lobby", chat.Details{})
		require.NoError(t, err)
		sent, err := s.Send(ctx, chat.Draft{Room: "lobby", Author: bob, Text: "rude"})
		require.NoError(t, err)
		asked, answer := make(chan struct{}), make(chan struct{})
		wait := func() error { close(asked); <-answer; return nil }
		slow.ask.Store(&wait)
		answered := make(chan error, 2)
		gone := chat.Change{Kind: chat.Delete, Room: "lobby", Seq: sent.Seq, By: ada}
		require.NoError(t, s.SubmitChange(ctx, gone, func(_ chat.Changed, err error) { answered <- err }))
		<-asked
		stop()
		synctest.Wait()
		assert.Empty(t, ended, "it has not answered everybody")
		close(answer)
		require.NoError(t, <-ended)
		require.Len(t, answered, 1)
		require.ErrorIs(t, <-answered, chat.ErrClosed)
	})
}

// slowRooms takes a second for each room.
type slowRooms struct{ chat.Rooms }

func (r slowRooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	time.Sleep(time.Second) // of the bubble's clock
	return r.Rooms.ByName(ctx, name)
}

// Whoever comes back into many rooms does not wait for one of them after the other.
func TestRightsInManyRoomsAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		s, err := chat.New(chat.Config{
			Store: store.Messages, Rooms: slowRooms{store.Rooms}, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
			Restrictions: store.Restrictions, Roles: store.Roles,
		})
		require.NoError(t, err)
		whom := make([]chat.InRoom, 64)
		for i := range whom {
			whom[i] = chat.InRoom{Room: fmt.Sprint("room", i), UserID: ada.ID}
			_, err := s.CreateRoom(t.Context(), as(ada), whom[i].Room, chat.Details{})
			require.NoError(t, err)
		}
		require.NoError(t, s.DeleteRoom(t.Context(), as(ada), "room7"))
		began := time.Now()
		are, err := s.Rights(t.Context(), whom...)
		require.NoError(t, err)
		assert.Len(t, are, 63)
		for _, e := range are {
			assert.NotEqual(t, "room7", e.Room)
		}
		assert.LessOrEqual(t, time.Since(began), 8*time.Second)
	})
}

// canceled is a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestRunningRoomsWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	s, _, heard := private(t, nil)
	_, err := s.CreateRoom(t.Context(), as(ada), "lobby", chat.Details{})
	require.NoError(t, err)
	heard()
	ctx := canceled()
	_, err = s.CreateRoom(ctx, as(ada), "other", chat.Details{})
	assert.ErrorIs(t, err, fault.Unavailable)
	_, err = s.SetRole(ctx, as(ada), "lobby", bob.ID, chat.Regular)
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorIs(t, s.DeleteRoom(ctx, as(ada), "lobby"), fault.Unavailable)
	assert.ErrorIs(t, s.Quit(ctx, ada, "lobby"), fault.Unavailable)
	_, err = s.Rights(ctx, chat.InRoom{Room: "lobby", UserID: ada.ID})
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.Empty(t, heard())
}

// heir makes bob the only owner of the room while it is asked whether he may join it.
type heir struct{ store func() *memory.Store }

func (h heir) May(ctx context.Context, who chat.Author, _ chat.Action, room string) error {
	if who.ID != bob.ID {
		return nil
	}
	free := func(chat.Room, chat.Role, chat.Role, int) error { return nil }
	for _, c := range []chat.RoleChange{{Room: room, User: bob.ID, Role: chat.Owner, By: ada.ID}, {Room: room, User: ada.ID, By: ada.ID}} {
		if _, _, err := h.store().Roles.Change(ctx, c, free); err != nil {
			return err
		}
	}
	return nil
}

// Who was no member when they wanted to leave, and is the only owner when that is done, stays: nothing of theirs was to end.
func TestLeavingTakesNothingThatCameMeanwhile(t *testing.T) {
	t.Parallel()
	var store *memory.Store
	s, kept, _ := private(t, func(c *chat.Config) { c.Access = heir{func() *memory.Store { return store }} })
	store = kept
	_, err := s.CreateRoom(t.Context(), as(ada), "plans", chat.Details{Kind: ptr(chat.Private)})
	require.NoError(t, err)
	require.NoError(t, s.Quit(t.Context(), bob, "plans"))
	members, err := store.Roles.List(t.Context(), "plans", "", 10)
	require.NoError(t, err)
	require.Len(t, members, 1)
	assert.Equal(t, []any{bob.ID, chat.Owner}, []any{members[0].UserID, members[0].Role})
}
