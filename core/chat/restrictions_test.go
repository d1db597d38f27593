package chat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// guarded is a service that keeps restrictions, with a room "hall" and a clock that stands.
func guarded(t *testing.T, change func(*chat.Config), more ...func(*chat.Config, *memory.Store)) (*chat.Service, *memory.Store, *time.Time) {
	t.Helper()
	store, now := memory.NewStore(), time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	cfg := chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
		Restrictions: store.Restrictions, Now: func() time.Time { return now },
	}
	for _, f := range more {
		f(&cfg, store)
	}
	if change != nil {
		change(&cfg)
	}
	s, err := chat.New(cfg)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); assert.NoError(t, s.Run(ctx)) }()
	t.Cleanup(func() { stop(); <-ended })
	_, err = store.Rooms.Ensure(t.Context(), chat.Room{Name: "hall", CreatedBy: "ada"})
	require.NoError(t, err)
	return s, store, &now
}

func TestRestrictRefuses(t *testing.T) {
	s, store, now := guarded(t, nil)
	for name, c := range map[string]struct {
		edit func(*chat.Restriction)
		want error
	}{
		"no kind":                {func(r *chat.Restriction) { r.Kind = "" }, chat.ErrRestrictionInvalid},
		"another kind":           {func(r *chat.Restriction) { r.Kind = "deport" }, chat.ErrRestrictionInvalid},
		"nobody":                 {func(r *chat.Restriction) { r.UserID = "" }, chat.ErrRestrictionInvalid},
		"an id that is too long": {func(r *chat.Restriction) { r.UserID = user.ID(strings.Repeat("x", chat.MaxAuthorID+1)) }, chat.ErrRestrictionInvalid},
		"an id that is no text":  {func(r *chat.Restriction) { r.UserID = "a\x00" }, chat.ErrRestrictionInvalid},
		"a reason too long":      {func(r *chat.Restriction) { r.Reason = strings.Repeat("ü", chat.MaxReason+1) }, chat.ErrRestrictionInvalid},
		"a reason with NUL":      {func(r *chat.Restriction) { r.Reason = "a\x00" }, chat.ErrRestrictionInvalid},
		"a reason not UTF-8":     {func(r *chat.Restriction) { r.Reason = "\xff" }, chat.ErrRestrictionInvalid},
		"a reason nobody sees":   {func(r *chat.Restriction) { r.Reason = "   " }, chat.ErrRestrictionInvalid},
		"an end that has passed": {func(r *chat.Restriction) { r.Until = now.Add(-time.Second) }, chat.ErrRestrictionInvalid},
		"an end beyond RFC 3339": {func(r *chat.Restriction) { r.Until = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)) }, chat.ErrRestrictionInvalid},
		"an end that is now":     {func(r *chat.Restriction) { r.Until = *now }, chat.ErrRestrictionInvalid},
		"no room":                {func(r *chat.Restriction) { r.Room = "" }, chat.ErrRoomInvalid},
		"a room that is not":     {func(r *chat.Restriction) { r.Room = "garden" }, chat.ErrRoomNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Ban, By: "ada"}
			c.edit(&r)
			_, err := s.Restrict(t.Context(), chat.Actor{Any: true}, r)
			require.ErrorIs(t, err, c.want)
		})
	}
	all, err := store.Restrictions.Since(t.Context(), time.Time{}, 10)
	require.NoError(t, err)
	assert.Empty(t, all)
}

func TestWithoutAStoreNobodyCanBeRestricted(t *testing.T) {
	s, _, _ := guarded(t, func(c *chat.Config) { c.Restrictions = nil })
	_, err := s.Restrict(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Ban})
	require.ErrorIs(t, err, chat.ErrNoRestrictions)
	_, _, err = s.Restrictions(t.Context(), "hall", chat.Ban, "", 0)
	require.ErrorIs(t, err, chat.ErrNoRestrictions)
	require.NoError(t, s.MaySpeak(t.Context(), "eve", "hall"))
	require.NoError(t, s.RestrictedSince(t.Context(), time.Time{}, nil))
	_, err = s.Join(t.Context(), chat.Author{ID: "eve", Name: "Eve"}, "hall")
	require.NoError(t, err)
}

func TestABanEndsTheMembershipAndKeepsOut(t *testing.T) {
	s, store, now := guarded(t, nil)
	eve, bob := chat.Author{ID: "eve", Name: "Eve"}, chat.Author{ID: "bob", Name: "Bob"}
	for _, who := range []chat.Author{eve, bob} {
		_, err := s.Join(t.Context(), who, "hall")
		require.NoError(t, err)
	}
	var heard []chat.Restriction
	s.OnRestricted(func(r chat.Restriction) { heard = append(heard, r) })
	until := now.Add(time.Hour + 999)
	r, err := s.Restrict(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Ban, By: "ada", Reason: "spam", Until: until})
	require.NoError(t, err)
	want := chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Ban, By: "ada", Reason: "spam", At: *now, Until: now.Add(time.Hour)}
	assert.Equal(t, want, r)
	assert.Equal(t, []chat.Restriction{want}, heard)
	for id, want := range map[user.ID]bool{"eve": false, "bob": true} {
		has, err := store.Members.Has(t.Context(), "hall", id)
		require.NoError(t, err)
		assert.Equal(t, want, has, id)
	}
	_, err = s.Join(t.Context(), eve, "hall")
	require.ErrorIs(t, err, chat.ErrBanned)
	assert.Contains(t, fault.Public(err).Detail, "2026-11-30T09:00:00Z")
	_, err = s.Join(t.Context(), bob, "hall")
	require.NoError(t, err)
	banned, more, err := s.Restrictions(t.Context(), "hall", chat.Ban, "", 0)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, []chat.Restriction{want}, banned)

	r, err = s.Lift(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Ban, By: "ada"})
	require.NoError(t, err)
	assert.Equal(t, chat.Lifted, r.Until)
	assert.True(t, r.At.After(want.At), "the clock stands, and what is later is later")
	*now = now.Add(-time.Minute) // a node whose clock is behind
	_, err = s.Join(t.Context(), eve, "hall")
	require.NoError(t, err)
	_, err = s.Lift(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "nobody", Kind: chat.Mute})
	require.NoError(t, err, "to lift what is not there is no error")
}

func TestAMuteIsSeenByWhoeverAsks(t *testing.T) {
	s, _, now := guarded(t, nil)
	eve := chat.Author{ID: "eve", Name: "Eve"}
	r, err := s.Restrict(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Mute, By: "ada", Until: now.Add(time.Minute)})
	require.NoError(t, err)
	e, err := s.Enter(t.Context(), eve, "hall")
	require.NoError(t, err, "who is muted may come in")
	assert.Equal(t, r, e.Mute)
	assert.Equal(t, "hall", e.Room)
	require.ErrorIs(t, s.MaySpeak(t.Context(), "eve", "hall"), chat.ErrMuted)
	require.NoError(t, s.MaySpeak(t.Context(), "bob", "hall"))
	require.NoError(t, s.MaySpeak(t.Context(), "eve", "garden"))
	*now = now.Add(time.Minute)
	require.NoError(t, s.MaySpeak(t.Context(), "eve", "hall"))
	e, err = s.Enter(t.Context(), eve, "hall")
	require.NoError(t, err)
	assert.Empty(t, e.Mute)
}

// Of many who join in one commit, each has their own answer.
func TestWhoJoinsTogetherIsToldApart(t *testing.T) {
	s, _, _ := guarded(t, nil)
	for i := range 30 {
		for _, kind := range [][]chat.RestrictionKind{{chat.Ban}, {chat.Mute}, {}}[i%3] {
			_, err := s.Restrict(t.Context(), chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: user.ID(fmt.Sprint("u", i)), Kind: kind})
			require.NoError(t, err)
		}
	}
	answers := make(chan error, 30)
	for i := range 30 {
		go func() {
			id := user.ID(fmt.Sprint("u", i))
			e, err := s.Enter(context.Background(), chat.Author{ID: id, Name: "N"}, "hall")
			switch i % 3 {
			case 0:
				if !errors.Is(err, chat.ErrBanned) {
					answers <- fmt.Errorf("%s got in: %w", id, err)
					return
				}
				err = nil
			case 1:
				if err == nil && (e.Mute.Kind != chat.Mute || e.Mute.UserID != id || e.UserID != id) {
					err = fmt.Errorf("%s got %+v", id, e)
				}
			default:
				if err == nil && (e.Mute.Kind != "" || e.UserID != id) {
					err = fmt.Errorf("%s got %+v", id, e)
				}
			}
			answers <- err
		}()
	}
	for range 30 {
		require.NoError(t, <-answers)
	}
}

func TestRestrictedSinceReadsEveryPage(t *testing.T) {
	s, store, now := guarded(t, nil)
	want := map[user.ID]bool{}
	for i := range 2100 {
		id := user.ID(fmt.Sprintf("u%04d", i))
		at := now.Add(time.Duration(i/1200) * time.Second) // more than two pages at one time
		_, err := store.Restrictions.Put(t.Context(), chat.Restriction{Room: "hall", UserID: id, Kind: chat.Mute, At: at}, nil)
		require.NoError(t, err)
		want[id] = true
	}
	got := map[user.ID]bool{}
	require.NoError(t, s.RestrictedSince(t.Context(), *now, func(r chat.Restriction) { got[r.UserID] = true }))
	assert.Equal(t, want, got)
	got = map[user.ID]bool{}
	require.NoError(t, s.RestrictedSince(t.Context(), now.Add(time.Second), func(r chat.Restriction) { got[r.UserID] = true }))
	assert.Len(t, got, 900)
}

// stuck is a store that fails.
type stuck struct{ chat.Restrictions }

func (stuck) InForce(context.Context, time.Time, ...chat.InRoom) ([]chat.Restriction, error) {
	return nil, fault.Wrap(fault.Unavailable, errors.New("away"))
}

func TestNobodyGetsInWhileBansCannotBeRead(t *testing.T) {
	s, store, _ := guarded(t, func(c *chat.Config) { c.Restrictions = stuck{c.Restrictions} })
	_, err := s.Join(t.Context(), chat.Author{ID: "eve", Name: "Eve"}, "hall")
	assert.Equal(t, fault.Unavailable, fault.KindOf(err))
	assert.Equal(t, fault.Unavailable, fault.KindOf(s.MaySpeak(t.Context(), "eve", "hall")))
	has, err := store.Members.Has(t.Context(), "hall", "eve")
	require.NoError(t, err)
	assert.False(t, has)
}

// clinging is a store in which memberships do not end.
type clinging struct{ chat.Members }

func (clinging) Remove(context.Context, string, user.ID) error {
	return fault.Wrap(fault.Unavailable, errors.New("away"))
}

// Who is banned may do nothing in the room, though the end of their membership could not be stored.
func TestABanCountsWhateverTheMembershipSays(t *testing.T) {
	for name, roles := range map[string]bool{"with roles": true, "without roles": false} {
		t.Run(name, func(t *testing.T) {
			s, store, now := guarded(t, func(c *chat.Config) {
				c.Members = clinging{c.Members}
				if !roles {
					c.Roles = nil
				}
			}, func(c *chat.Config, store *memory.Store) { c.Roles = store.Roles })
			ctx := t.Context()
			for _, who := range []chat.Author{eve, bob} {
				_, err := s.Join(ctx, who, "hall")
				require.NoError(t, err)
			}
			_, err := s.Send(ctx, chat.Draft{Room: "hall", Author: bob, Text: "not for everybody"})
			require.NoError(t, err)
			_, err = s.Restrict(ctx, chat.Actor{Any: true}, chat.Restriction{Room: "hall", UserID: eve.ID, Kind: chat.Ban, By: ada.ID, Until: now.Add(time.Hour)})
			require.Equal(t, fault.Unavailable, fault.KindOf(err))
			has, err := store.Members.Has(ctx, "hall", eve.ID)
			require.NoError(t, err)
			require.True(t, has, "the membership has not ended")

			for _, right := range []chat.Right{chat.RightRead, chat.RightSpeak} {
				_, err = s.Standing(ctx, as(eve), "hall", right)
				assert.ErrorIs(t, err, chat.ErrNotMember, right)
			}
			_, err = s.Member(ctx, eve, "hall")
			assert.ErrorIs(t, err, chat.ErrNotMember)
			assert.ErrorIs(t, s.MaySpeak(ctx, eve.ID, "hall"), chat.ErrBanned)
			mine, _, err := s.MyRooms(ctx, eve, chat.Place{}, 10)
			require.NoError(t, err)
			assert.Empty(t, mine)
			seen, err := s.Room(ctx, as(eve), "hall")
			require.NoError(t, err, "a public room is to be seen")
			assert.Empty(t, seen.Role)
			if roles {
				all, _, err := s.RoomMembers(ctx, as(bob), "hall", "", 0)
				require.NoError(t, err)
				require.Len(t, all, 1)
				assert.Equal(t, bob.ID, all[0].UserID)
				assert.ErrorIs(t, s.RemoveMember(ctx, as(eve), "hall", bob.ID, ""), chat.ErrNotMember)
			}
			_, err = s.Member(ctx, bob, "hall")
			assert.NoError(t, err)

			*now = now.Add(time.Hour)
			_, err = s.Join(ctx, eve, "hall")
			require.NoError(t, err)
			_, err = s.Member(ctx, eve, "hall")
			assert.NoError(t, err)
		})
	}
}
