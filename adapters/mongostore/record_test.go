package mongostore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// recorders are the stores of a store that record everything.
type recorders struct {
	rooms   chat.Rooms
	members chat.Members
	roles   chat.Roles
}

func recording(t *testing.T, s *mongostore.Store) (r recorders) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	made := func(what string) (event.Event, bool) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return event.Event{ID: fmt.Sprintf("%p-%d", s, n), Topic: "t", Type: what, Time: noon, Data: []byte("{}")}, true
	}
	record := chat.RoomRecord{
		Room: func(before, after chat.Room) (event.Event, bool) {
			return made(fmt.Sprintf("%s deleted %t", after.Name, !after.DeletedAt.IsZero()))
		},
		Membership: func(m chat.Membership) (event.Event, bool) { return made(fmt.Sprintf("%s %s", m.UserID, m.Role)) },
	}
	var err error
	r.rooms, err = s.Rooms().Recording(record)
	require.NoError(t, err)
	r.members, err = s.Members().Recording(record)
	require.NoError(t, err)
	r.roles, err = s.Roles().Recording(record)
	require.NoError(t, err)
	return r
}

// pending is what the outbox has.
func pending(t *testing.T, s *mongostore.Store) []string {
	t.Helper()
	events, err := s.Outbox().Pending(context.WithoutCancel(t.Context()), 1000)
	require.NoError(t, err)
	all := []string{}
	for _, e := range events {
		all = append(all, e.Type)
	}
	return all
}

// publish empties the outbox.
func publish(t *testing.T, s *mongostore.Store) {
	t.Helper()
	events, err := s.Outbox().Pending(t.Context(), 1000)
	require.NoError(t, err)
	for _, e := range events {
		require.NoError(t, s.Outbox().Published(t.Context(), e.ID))
	}
}

// A process ends between writing a membership and proving it: whoever meets it proves it, and then it is told; if the room is closed by then, nobody was a member, and nothing is told.
func TestAJoinThatIsCutOffIsToldWhenItIsProven(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		closed bool
		meets  func(t *testing.T, s *mongostore.Store)
		want   []string
	}{
		"open, and listed": {false, func(t *testing.T, s *mongostore.Store) { t.Helper(); assert.Len(t, listedIn(t, s, "hall"), 2) }, []string{"hall deleted false", "ada owner", "eve member"}},
		"open, and joined again": {false, func(t *testing.T, s *mongostore.Store) {
			t.Helper()
			_, err := recording(t, s).members.Add(t.Context(), chat.Membership{Room: "hall", UserID: "eve", Since: noon})
			assert.NoError(t, err)
		}, []string{"hall deleted false", "ada owner", "eve member"}},
		"open, and left": {false, func(t *testing.T, s *mongostore.Store) {
			t.Helper()
			assert.NoError(t, recording(t, s).members.Remove(t.Context(), "hall", "eve"))
		}, []string{"hall deleted false", "ada owner", "eve member", "eve "}},
		"closed": {true, func(t *testing.T, s *mongostore.Store) { t.Helper(); assert.Len(t, listedIn(t, s, "hall"), 1) }, []string{"hall deleted false", "ada owner"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := empty(t)
			s := at(t, url)
			b := newBetween(t, url, alone)
			dying := recording(t, at(t, b.url))
			_, err := recording(t, s).roles.Create(t.Context(), chat.Room{Name: "hall", CreatedAt: noon}, chat.Membership{UserID: "ada", Since: noon, Role: chat.Owner})
			require.NoError(t, err)
			b.then(func(command string, doc bson.Raw) fate { return fate{dropped: updates(command, doc, "parley_members")} })
			_, err = dying.members.Add(t.Context(), chat.Membership{Room: "hall", UserID: "eve", Since: noon})
			require.ErrorIs(t, err, fault.Unavailable)
			b.then(alone)
			assert.Equal(t, []string{"hall deleted false", "ada owner"}, pending(t, s), "nobody is told of what may not be")
			if test.closed {
				require.NoError(t, update(s, "hall", closes))
			}
			test.meets(t, s)
			assert.Equal(t, test.want, pending(t, s))
			test.meets(t, s)
			assert.Equal(t, test.want, pending(t, s), "once")
			publish(t, s)
			assert.Empty(t, pending(t, s))
			assert.Len(t, documents(t, s, "parley_members"), len(listedIn(t, s, "hall")), "nothing is left")
		})
	}
}

// A process ends after it has decided: the decision is told, once, whoever carries it out.
func TestADecisionThatIsCutOffIsTold(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		decide func(r recorders) error
		want   string
	}{
		"an invitation": {func(r recorders) error {
			_, _, err := r.roles.Change(context.Background(), chat.RoleChange{Room: "hall", User: "bob", Role: chat.Reader, At: noon}, anything)
			return err
		}, "bob reader"},
		"a role": {func(r recorders) error {
			_, _, err := r.roles.Change(context.Background(), chat.RoleChange{Room: "hall", User: "eve", Role: chat.Owner, At: noon}, anything)
			return err
		}, "eve owner"},
		"a removal": {func(r recorders) error { return r.members.Remove(context.Background(), "hall", "eve") }, "eve "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := empty(t)
			s := at(t, url)
			b := newBetween(t, url, alone)
			dying := recording(t, at(t, b.url))
			before := recording(t, s)
			_, err := before.rooms.Ensure(t.Context(), chat.Room{Name: "hall", CreatedAt: noon})
			require.NoError(t, err)
			_, err = before.members.Add(t.Context(), chat.Membership{Room: "hall", UserID: "eve", Since: noon})
			require.NoError(t, err)
			cutOff(t, b, func() error { return test.decide(dying) })
			require.Equal(t, 1, intents(t, s, "hall"), "it was decided")
			want := []string{"hall deleted false", "eve member", test.want}
			assert.Equal(t, want, pending(t, s))
			listedIn(t, s, "hall")
			assert.Zero(t, intents(t, s, "hall"))
			assert.Equal(t, want, pending(t, s))
			publish(t, s)
			assert.Empty(t, pending(t, s))
			assert.Len(t, documents(t, s, "parley_members"), len(listedIn(t, s, "hall")), "nothing is left")
		})
	}
}

// Somebody joins just when they are invited: what is told last is what they are.
func TestAJoinBesideAnInvitationIsNotToldBehindIt(t *testing.T) {
	t.Parallel()
	url := empty(t)
	there := newBetween(t, url, alone)
	s, other := at(t, url), at(t, there.url)
	_, err := recording(t, s).rooms.Ensure(t.Context(), chat.Room{Name: "hall", CreatedAt: noon})
	require.NoError(t, err)
	there.then(once(func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_members") }, func() fate {
		// The invitation is decided, and not carried out, when the join is written.
		b := newBetween(t, url, alone)
		dying := recording(t, at(t, b.url))
		cutOff(t, b, func() error {
			_, _, err := dying.roles.Change(context.WithoutCancel(t.Context()), chat.RoleChange{Room: "hall", User: "eve", Role: chat.Moderator, At: noon}, anything)
			return err
		})
		return fate{}
	}))
	_, err = recording(t, other).members.Add(t.Context(), chat.Membership{Room: "hall", UserID: "eve", Since: noon})
	require.NoError(t, err)
	assert.Equal(t, map[user.ID]chat.Role{"eve": chat.Moderator}, listedIn(t, s, "hall"))
	all := pending(t, s)
	assert.Equal(t, "eve moderator", all[len(all)-1])
	publish(t, s)
	assert.Empty(t, pending(t, s))
	assert.Len(t, documents(t, s, "parley_members"), 1)
}

// Carrying out a decision late does nothing to a membership that has ended and still carries what is to be told.
func TestALateDecisionDoesNotWakeWhatHasEnded(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := at(t, url)
	r := recording(t, s)
	_, err := r.rooms.Ensure(t.Context(), chat.Room{Name: "hall", CreatedAt: noon})
	require.NoError(t, err)
	_, err = r.members.Add(t.Context(), chat.Membership{Room: "hall", UserID: "eve", Since: noon})
	require.NoError(t, err)
	rooms := mongostore.Database(s).Collection("parley_rooms")
	late := documents(t, s, "parley_members")[0]["_id"]
	require.NoError(t, r.members.Remove(t.Context(), "hall", "eve"))
	for _, role := range []chat.Role{chat.Owner, ""} {
		intent := bson.D{{Key: "user_id", Value: "eve"}, {Key: "member", Value: late}}
		if role != "" {
			intent = append(intent, bson.E{Key: "role", Value: role})
		}
		_, err = rooms.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "hall"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "decided", Value: int64(1)}, {Key: "intents", Value: bson.A{intent}}}}})
		require.NoError(t, err)
		assert.Empty(t, listedIn(t, s, "hall"))
		owners := 0
		require.NoError(t, func() error {
			_, _, err := s.Roles().Change(t.Context(), chat.RoleChange{Room: "hall", User: "bob"}, func(_ chat.Room, _, _ chat.Role, n int) error { owners = n; return nil })
			return err
		}())
		assert.Zero(t, owners)
	}
	assert.Equal(t, []string{"hall deleted false", "eve member", "eve "}, pending(t, s))
	publish(t, s)
	assert.Empty(t, documents(t, s, "parley_members"))
}
