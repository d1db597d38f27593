package mongostore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// A process ends after it has given a role to somebody who has joined meanwhile, and before what was laid aside for them is gone.
func TestARoleForWhoHasJoinedIsCutOff(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := at(t, url)
	b := newBetween(t, url, alone)
	dying := at(t, b.url)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	joins := once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_rooms") }, func() fate {
		joined(t, s, "hall", "eve")
		return fate{}
	})
	b.then(func(command string, doc bson.Raw) fate {
		if deletes(command, doc, "parley_members") {
			return fate{dropped: true}
		}
		return joins(command, doc)
	})
	_, _, err := rule(dying, "hall", "eve", chat.Moderator)
	require.ErrorIs(t, err, fault.Unavailable)
	require.Len(t, documents(t, s, "parley_members"), 3, "what was laid aside is there")
	assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Moderator}, listedIn(t, s, "hall"))
	assert.Len(t, documents(t, s, "parley_members"), 2)
	assert.Zero(t, intents(t, s, "hall"))
}

// Somebody joins while they are given a role: they have it, once.
func TestJoiningWhileARoleIsGiven(t *testing.T) {
	t.Parallel()
	for name, moment := range map[string]func(command string, doc bson.Raw) bool{
		"before it is laid aside":  func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_members") },
		"before it is decided":     func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_rooms") },
		"before it is carried out": func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") },
		"before it is done with":   func(command string, doc bson.Raw) bool { return deletes(command, doc, "parley_members") },
		"while the member is read": func(command string, doc bson.Raw) bool { return finds(command, doc, "parley_members") },
		"while the room is read":   func(command string, doc bson.Raw) bool { return finds(command, doc, "parley_rooms") },
		"while messages are read":  func(command string, doc bson.Raw) bool { return finds(command, doc, "parley_messages") },
		"before it is known as done": func(command string, doc bson.Raw) bool {
			return command == "update" && !updates(command, doc, "parley_members") && !updates(command, doc, "parley_rooms")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := empty(t)
			other := at(t, url)
			b := newBetween(t, url, alone)
			s := at(t, b.url)
			require.NoError(t, create(other, chat.Room{Name: "hall"}, "ada", chat.Owner))
			b.then(once(moment, func() fate {
				got := joined(t, other, "hall", "eve")
				assert.NotEmpty(t, got[0].Role)
				return fate{}
			}))
			ruled(t, s, "hall", "eve", chat.Moderator)
			assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Moderator}, listedIn(t, s, "hall"))
			assert.Len(t, documents(t, s, "parley_members"), 2)
			assert.Equal(t, chat.Moderator, joined(t, s, "hall", "eve")[0].Role)
		})
	}
}

// Somebody who has found the room open joins between the look whether they are there and the beginning of the membership: they have the role, once.
func TestJoiningJustBeforeAMembershipBegins(t *testing.T) {
	t.Parallel()
	url := empty(t)
	here, there := newBetween(t, url, alone), newBetween(t, url, alone)
	s, other := at(t, here.url), at(t, there.url)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	found, begins, in := make(chan struct{}), make(chan struct{}), make(chan struct{})
	there.then(once(func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_members") }, func() fate {
		close(found)
		<-begins
		return fate{}
	}))
	here.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
		close(begins)
		<-in
		return fate{}
	}))
	go func() {
		defer close(in)
		got, err := other.Members().Add(context.WithoutCancel(t.Context()), chat.Membership{Room: "hall", UserID: "eve", Since: noon})
		if assert.NoError(t, err) {
			assert.Equal(t, chat.Regular, got[0].Role)
		}
	}()
	<-found
	ruled(t, s, "hall", "eve", chat.Moderator)
	assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Moderator}, listedIn(t, s, "hall"))
	assert.Len(t, documents(t, s, "parley_members"), 2)
}

// Somebody joins while the room is closed. The membership that is told stays; the one that is not told is nowhere, wherever the process of either of them ends.
func TestJoiningWhileTheRoomIsClosed(t *testing.T) {
	t.Parallel()
	stranger := chat.Membership{Room: "hall", UserID: "eve", Since: noon}
	setup := func(t *testing.T) (s, other *mongostore.Store, b *between) {
		url := empty(t)
		other = at(t, url)
		b = newBetween(t, url, alone)
		s = at(t, b.url)
		require.NoError(t, create(other, chat.Room{Name: "hall"}, "ada", chat.Owner))
		return s, other, b
	}
	gone := func(t *testing.T, other *mongostore.Store) {
		t.Helper()
		has, err := other.Members().Has(t.Context(), "hall", "eve")
		require.NoError(t, err)
		assert.False(t, has)
		assert.Len(t, documents(t, other, "parley_members"), 1)
	}
	for name, how := range map[string]struct {
		moment  func(command string, doc bson.Raw) bool
		changes func(*chat.Room)
	}{
		"before it is written":         {func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_members") }, closes},
		"deleted before it is written": {func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_members") }, func(r *chat.Room) { r.DeletedAt = noon }},
		"while messages are read":      {func(command string, doc bson.Raw) bool { return finds(command, doc, "parley_messages") }, closes},
		"while members are read":       {func(command string, doc bson.Raw) bool { return finds(command, doc, "parley_members") }, closes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, other, b := setup(t)
			b.then(once(how.moment, func() fate { assert.NoError(t, update(other, "hall", how.changes)); return fate{} }))
			got, err := s.Members().Add(t.Context(), stranger, chat.Membership{Room: "hall", UserID: "ada", Since: noon})
			require.NoError(t, err)
			assert.Equal(t, []chat.Membership{{Room: "hall", UserID: "eve"}, {Room: "hall", UserID: "ada", Since: noon, Role: chat.Owner}}, got)
			gone(t, other)
		})
	}
	t.Run("after it was found open", func(t *testing.T) {
		t.Parallel()
		s, other, b := setup(t)
		b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
			assert.NoError(t, update(other, "hall", closes))
			return fate{}
		}))
		assert.Equal(t, chat.Regular, joined(t, s, "hall", "eve")[0].Role, "it came first, and nobody has seen it otherwise")
		assert.Equal(t, chat.Regular, roleOf(t, other, "hall", "eve"))
	})
	for who, looks := range map[string]func(t *testing.T, other *mongostore.Store){
		"Has": func(t *testing.T, other *mongostore.Store) {
			has, err := other.Members().Has(context.Background(), "hall", "eve")
			assert.NoError(t, err)
			assert.False(t, has)
		},
		"Of":   func(t *testing.T, other *mongostore.Store) { assert.Empty(t, roleOf(t, other, "hall", "eve")) },
		"List": func(t *testing.T, other *mongostore.Store) { assert.Len(t, listedIn(t, other, "hall"), 1) },
		"RoomsOf": func(t *testing.T, other *mongostore.Store) {
			rooms, err := other.Members().RoomsOf(context.Background(), "eve", "", 10)
			assert.NoError(t, err)
			assert.Empty(t, rooms)
		},
		"Mine": func(t *testing.T, other *mongostore.Store) { assert.Empty(t, mine(t, other, "eve")) },
		"Mark": func(t *testing.T, other *mongostore.Store) {
			got, err := other.Members().Mark(context.Background(), []chat.Mark{mark("hall", "eve", 0)})
			assert.NoError(t, err)
			assert.ErrorIs(t, got[0].Err, chat.ErrNotMember)
		},
		"Change": func(t *testing.T, other *mongostore.Store) {
			_, _, err := other.Roles().Change(context.Background(), chat.RoleChange{Room: "hall", User: "eve", By: "eve"}, func(_ chat.Room, by, of chat.Role, _ int) error {
				assert.Empty(t, by+of)
				return chat.ErrNotMember
			})
			assert.ErrorIs(t, err, chat.ErrNotMember)
		},
		"Add": func(t *testing.T, other *mongostore.Store) { assert.Empty(t, joined(t, other, "hall", "eve")[0].Role) },
	} {
		t.Run("seen as gone by "+who, func(t *testing.T) {
			t.Parallel()
			s, other, b := setup(t)
			b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
				assert.NoError(t, update(other, "hall", closes))
				looks(t, other)
				return fate{}
			}))
			assert.Equal(t, chat.Membership{Room: "hall", UserID: "eve"}, joined(t, s, "hall", "eve")[0], "what was seen is told")
			gone(t, other)
		})
		t.Run("cut off and seen as gone by "+who, func(t *testing.T) {
			t.Parallel()
			s, other, b := setup(t)
			b.then(func(command string, doc bson.Raw) fate { return fate{dropped: updates(command, doc, "parley_members")} })
			_, err := s.Members().Add(t.Context(), stranger)
			require.ErrorIs(t, err, fault.Unavailable)
			require.Len(t, documents(t, other, "parley_members"), 2)
			require.NoError(t, update(other, "hall", closes))
			looks(t, other)
			gone(t, other)
		})
	}
	t.Run("cut off and seen before", func(t *testing.T) {
		t.Parallel()
		s, other, b := setup(t)
		b.then(func(command string, doc bson.Raw) fate { return fate{dropped: updates(command, doc, "parley_members")} })
		_, err := s.Members().Add(t.Context(), stranger)
		require.ErrorIs(t, err, fault.Unavailable)
		assert.Equal(t, chat.Regular, roleOf(t, other, "hall", "eve"))
		require.NoError(t, update(other, "hall", closes))
		assert.Equal(t, chat.Regular, roleOf(t, other, "hall", "eve"), "who was seen stays")
	})
	t.Run("proven by whoever sees it", func(t *testing.T) {
		t.Parallel()
		s, other, b := setup(t)
		b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
			assert.Equal(t, chat.Regular, roleOf(t, other, "hall", "eve"))
			assert.NoError(t, update(other, "hall", closes))
			return fate{}
		}))
		assert.Equal(t, chat.Regular, joined(t, s, "hall", "eve")[0].Role)
		assert.Equal(t, chat.Regular, roleOf(t, other, "hall", "eve"))
	})
	t.Run("taken back by whoever has joined", func(t *testing.T) {
		t.Parallel()
		s, other, b := setup(t)
		var n atomic.Int64
		b.then(func(command string, doc bson.Raw) fate {
			if finds(command, doc, "parley_rooms") && n.Add(1) == 2 { // the second look
				assert.NoError(t, update(other, "hall", closes))
			}
			return fate{}
		})
		assert.Equal(t, chat.Membership{Room: "hall", UserID: "eve"}, joined(t, s, "hall", "eve")[0])
		assert.EqualValues(t, 3, n.Load())
		gone(t, other)
	})
	t.Run("removed before it was proven", func(t *testing.T) {
		t.Parallel()
		s, other, b := setup(t)
		b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
			assert.NoError(t, other.Members().Remove(context.Background(), "hall", "eve"))
			return fate{}
		}))
		assert.Equal(t, chat.Regular, joined(t, s, "hall", "eve")[0].Role)
		assert.Equal(t, chat.Regular, roleOf(t, other, "hall", "eve"))
	})
}

// Many join at several nodes while the room is closed: nobody appears after somebody has looked, and who was told so is in.
func TestManyJoinWhileTheRoomIsClosed(t *testing.T) {
	t.Parallel()
	stores := several(t, 3)
	for round := range 6 {
		room := fmt.Sprint("hall ", round)
		require.NoError(t, create(stores[0], chat.Room{Name: room}, "ada", chat.Owner))
		var wg sync.WaitGroup
		var mu sync.Mutex
		in := map[user.ID]chat.Role{"ada": chat.Owner}
		start := make(chan struct{})
		for i, s := range stores {
			for j := range 8 {
				wg.Go(func() {
					<-start
					id := user.ID(fmt.Sprint(i, "-", j))
					got, err := s.Members().Add(t.Context(), chat.Membership{Room: room, UserID: id, Since: noon})
					if assert.NoError(t, err) && got[0].Role != "" {
						mu.Lock()
						defer mu.Unlock()
						in[id] = got[0].Role
					}
				})
			}
		}
		var seen map[user.ID]chat.Role
		wg.Go(func() {
			<-start
			for range rand.IntN(3) {
				listedIn(t, stores[1], room)
			}
			assert.NoError(t, update(stores[0], room, closes))
			seen = listedIn(t, stores[2], room)
		})
		close(start)
		wg.Wait()
		now := listedIn(t, stores[0], room)
		assert.Equal(t, in, now)
		for id := range seen {
			assert.Contains(t, now, id, "who was seen stays")
		}
	}
}

// Of members who join again nothing is asked but what was asked before there were roles.
func TestJoiningAgainDoesNotAskTheRoom(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	require.NoError(t, create(s, chat.Room{Name: "hall", Kind: chat.Private}, "ada", chat.Moderator))
	joined(t, s, "lobby", "ada")
	var calls atomic.Int64
	b.then(func(command string, doc bson.Raw) fate {
		if command == "find" || command == "aggregate" {
			calls.Add(1)
			assert.False(t, finds(command, doc, "parley_rooms"))
		}
		return fate{}
	})
	got, err := s.Members().Add(t.Context(), chat.Membership{Room: "hall", UserID: "ada", Since: noon}, chat.Membership{Room: "lobby", UserID: "ada", Since: noon})
	require.NoError(t, err)
	assert.Equal(t, []chat.Role{chat.Moderator, chat.Regular}, []chat.Role{got[0].Role, got[1].Role})
	assert.EqualValues(t, 3, calls.Load(), "the memberships, and in each room what was sent")
	_, err = s.Members().RoomsOf(t.Context(), "ada", "", 10)
	require.NoError(t, err)
	b.then(alone) // the list of one's rooms leaves out deleted ones, and asks for them
	assert.Equal(t, []chat.Role{chat.Moderator, chat.Regular}, []chat.Role{mine(t, s, "ada")[0].Role, mine(t, s, "ada")[1].Role})
}
