package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// create makes a room with one member.
func create(s *mongostore.Store, r chat.Room, id user.ID, role chat.Role) error {
	r.CreatedAt = noon
	_, err := s.Roles().Create(context.Background(), r, chat.Membership{UserID: id, Since: noon, Role: role})
	return err
}

// anything lets every change.
func anything(chat.Room, chat.Role, chat.Role, int) error { return nil }

// rule gives a user a role, or takes it.
func rule(s *mongostore.Store, room string, id user.ID, role chat.Role) (before, after chat.Membership, err error) {
	return s.Roles().Change(context.Background(), chat.RoleChange{Room: room, User: id, Role: role, By: "operator", At: noon}, anything)
}

func ruled(t *testing.T, s *mongostore.Store, room string, id user.ID, role chat.Role) chat.Membership {
	t.Helper()
	_, after, err := rule(s, room, id, role)
	require.NoError(t, err)
	assert.Equal(t, role, after.Role)
	return after
}

func update(s *mongostore.Store, room string, change func(*chat.Room)) error {
	_, err := s.Rooms().Update(context.Background(), room, chat.By{}, func(r *chat.Room, _ chat.Role) error { change(r); return nil })
	return err
}

// closes makes a room private.
func closes(r *chat.Room) { r.Kind = chat.Private }

// listedIn returns the roles of the members of a room.
func listedIn(t *testing.T, s *mongostore.Store, room string) map[user.ID]chat.Role {
	t.Helper()
	all, err := s.Roles().List(context.WithoutCancel(t.Context()), room, "", 10_000)
	require.NoError(t, err)
	roles := map[user.ID]chat.Role{}
	for _, m := range all {
		roles[m.UserID] = m.Role
	}
	require.Len(t, roles, len(all), "each once")
	return roles
}

// roleOf is what Of says of one user.
func roleOf(t *testing.T, s *mongostore.Store, room string, id user.ID) chat.Role {
	t.Helper()
	all, err := s.Roles().Of(context.WithoutCancel(t.Context()), chat.InRoom{Room: room, UserID: id})
	require.NoError(t, err)
	if len(all) == 0 {
		return ""
	}
	require.Len(t, all, 1)
	return all[0].Role
}

// documents returns all that is in a collection.
func documents(t *testing.T, s *mongostore.Store, collection string) []bson.M {
	t.Helper()
	cursor, err := mongostore.Database(s).Collection(collection).Find(context.WithoutCancel(t.Context()), bson.D{})
	require.NoError(t, err)
	var docs []bson.M
	require.NoError(t, cursor.All(context.WithoutCancel(t.Context()), &docs))
	return docs
}

// intents returns how many intents wait in a room.
func intents(t *testing.T, s *mongostore.Store, room string) int {
	t.Helper()
	var doc struct {
		Intents bson.A `bson:"intents"`
	}
	require.NoError(t, mongostore.Database(s).Collection("parley_rooms").FindOne(context.WithoutCancel(t.Context()), bson.D{{Key: "_id", Value: room}}).Decode(&doc))
	return len(doc.Intents)
}

func deletes(command string, doc bson.Raw, collection string) bool {
	name, ok := doc.Lookup(command).StringValueOK()
	return command == "delete" && ok && name == collection
}

func finds(command string, doc bson.Raw, collection string) bool {
	name, ok := doc.Lookup(command).StringValueOK()
	return command == "find" && ok && name == collection
}

// changesMembers reports whether a command is one with which an intent is carried out.
func changesMembers(command string, doc bson.Raw) bool {
	return updates(command, doc, "parley_members") || deletes(command, doc, "parley_members")
}

// cutOff lets a call decide, and end before anything is carried out.
func cutOff(t *testing.T, b *between, call func() error) {
	t.Helper()
	var decided atomic.Bool
	b.then(func(command string, doc bson.Raw) fate {
		if updates(command, doc, "parley_rooms") || inserts(command, doc, "parley_rooms") {
			decided.Store(true)
		}
		return fate{dropped: decided.Load() && changesMembers(command, doc)}
	})
	require.ErrorIs(t, call(), fault.Unavailable)
	b.then(alone)
}

// A process ends after it has decided: whoever comes next carries it out, once, and nothing that comes later is undone by it.
func TestWhatWasDecidedAndLeftIsCarriedOut(t *testing.T) {
	t.Parallel()
	type step func(t *testing.T, dying, s *mongostore.Store) error
	deciding := map[string]struct {
		decide step
		want   map[user.ID]chat.Role
	}{
		"a role": {
			func(_ *testing.T, dying, _ *mongostore.Store) error {
				_, _, err := rule(dying, "hall", "eve", chat.Moderator)
				return err
			},
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Moderator},
		},
		"an owner": {
			func(_ *testing.T, dying, _ *mongostore.Store) error {
				_, _, err := rule(dying, "hall", "eve", chat.Owner)
				return err
			},
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Owner},
		},
		"an invitation": {
			func(_ *testing.T, dying, _ *mongostore.Store) error {
				_, _, err := rule(dying, "hall", "bob", chat.Reader)
				return err
			},
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Regular, "bob": chat.Reader},
		},
		"a removal": {
			func(_ *testing.T, dying, _ *mongostore.Store) error {
				_, _, err := rule(dying, "hall", "eve", "")
				return err
			},
			map[user.ID]chat.Role{"ada": chat.Owner},
		},
	}
	meeting := map[string]step{
		"Of":   func(t *testing.T, _, s *mongostore.Store) error { roleOf(t, s, "hall", "nobody"); return nil },
		"List": func(t *testing.T, _, s *mongostore.Store) error { listedIn(t, s, "hall"); return nil },
		"Change": func(_ *testing.T, _, s *mongostore.Store) error {
			refused := errors.New("no")
			_, _, err := s.Roles().Change(context.Background(), chat.RoleChange{Room: "hall", User: "x", Role: chat.Reader}, func(chat.Room, chat.Role, chat.Role, int) error { return refused })
			if !errors.Is(err, refused) {
				return fmt.Errorf("the refusal is lost: %w", err)
			}
			return nil
		},
		"Add": func(t *testing.T, _, s *mongostore.Store) error {
			got, err := s.Members().Add(t.Context(), chat.Membership{Room: "hall", UserID: "stranger", Since: noon})
			assert.Equal(t, []chat.Membership{{Room: "hall", UserID: "stranger"}}, got)
			return err
		},
		"Remove": func(t *testing.T, _, s *mongostore.Store) error { return s.Members().Remove(t.Context(), "hall", "x") },
	}
	for what, d := range deciding {
		for who, meet := range meeting {
			t.Run(what+" met by "+who, func(t *testing.T) {
				t.Parallel()
				url := empty(t)
				s := at(t, url)
				b := newBetween(t, url, alone)
				dying := at(t, b.url)
				require.NoError(t, create(s, chat.Room{Name: "hall", Kind: chat.Private}, "ada", chat.Owner))
				ruled(t, s, "hall", "eve", chat.Regular)
				cutOff(t, b, func() error { return d.decide(t, dying, s) })
				require.Equal(t, 1, intents(t, s, "hall"), "it was decided")
				var left struct {
					Decided int64  `bson:"decided"`
					Intents bson.A `bson:"intents"`
				}
				rooms := mongostore.Database(s).Collection("parley_rooms")
				require.NoError(t, rooms.FindOne(t.Context(), bson.D{{Key: "_id", Value: "hall"}}).Decode(&left))

				require.NoError(t, meet(t, dying, s))
				assert.Zero(t, intents(t, s, "hall"))
				assert.Equal(t, d.want, listedIn(t, s, "hall"))
				assert.Len(t, documents(t, s, "parley_members"), len(d.want), "nothing else is left")

				// That it was carried out may be lost, or somebody be late who has begun: later decisions stay.
				again := func() {
					t.Helper()
					_, err := rooms.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "hall"}},
						bson.D{{Key: "$set", Value: bson.D{{Key: "decided", Value: left.Decided}, {Key: "intents", Value: left.Intents}}}})
					require.NoError(t, err)
					listedIn(t, s, "hall")
				}
				again()
				assert.Equal(t, d.want, listedIn(t, s, "hall"))
				for _, id := range []user.ID{"eve", "bob"} {
					ruled(t, s, "hall", id, chat.Reader)
				}
				again()
				assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Reader, "bob": chat.Reader}, listedIn(t, s, "hall"))
				require.NoError(t, s.Members().Remove(t.Context(), "hall", "bob"))
				ruled(t, s, "hall", "eve", "")
				again()
				assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner}, listedIn(t, s, "hall"))
				assert.Len(t, documents(t, s, "parley_members"), 1)
			})
		}
	}
}

// A room whose maker ends before its first members have come has them.
func TestCreateThatIsCutOff(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := at(t, url)
	b := newBetween(t, url, alone)
	dying := at(t, b.url)
	written(t, s, "hall", 3)
	joined(t, s, "hall", "eve") // before there is a room
	first := []chat.Membership{{UserID: "ada", Since: noon, Role: chat.Owner}, {UserID: "eve", Since: noon.Add(time.Hour), Role: chat.Moderator}, {UserID: "bob", Since: noon}, {UserID: "bob", Role: chat.Reader}}
	cutOff(t, b, func() error {
		_, err := dying.Roles().Create(t.Context(), chat.Room{Name: "hall", Kind: chat.Private, CreatedAt: noon}, first...)
		return err
	})
	require.Equal(t, 3, intents(t, s, "hall"))
	_, err := s.Roles().Create(t.Context(), chat.Room{Name: "hall"}, chat.Membership{UserID: "mallory", Role: chat.Owner})
	require.ErrorIs(t, err, chat.ErrRoomTaken)
	_, err = s.Messages().Append(t.Context(), messages("hall", 3, 2))
	require.NoError(t, err)
	all, err := s.Roles().List(t.Context(), "hall", "", 10)
	require.NoError(t, err)
	assert.Equal(t, []chat.Membership{
		{Room: "hall", UserID: "ada", Since: noon, Read: 3, Role: chat.Owner},
		{Room: "hall", UserID: "bob", Since: noon, Read: 3, Role: chat.Reader},
		{Room: "hall", UserID: "eve", Since: noon, Read: 3, Role: chat.Moderator},
	}, all)
	assert.Len(t, documents(t, s, "parley_members"), 3)
}

// Of two who make a room at once one wins, and the other leaves nothing.
func TestCreateThatIsOvertaken(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	b.then(once(func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_rooms") }, func() fate {
		assert.NoError(t, create(other, chat.Room{Name: "hall", Kind: chat.Private}, "eve", chat.Owner))
		return fate{}
	}))
	require.ErrorIs(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner), chat.ErrRoomTaken)
	assert.Equal(t, map[user.ID]chat.Role{"eve": chat.Owner}, listedIn(t, s, "hall"))
	assert.Len(t, documents(t, s, "parley_members"), 1)
}

// Processes carry one decision out at once, and one of them is late: what came since stays.
func TestCarryingOutLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		decide func(s *mongostore.Store) error
		since  func(t *testing.T, other *mongostore.Store)
		want   map[user.ID]chat.Role
	}{
		"a role, and another": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "eve", chat.Moderator); return err },
			func(t *testing.T, other *mongostore.Store) { ruled(t, other, "hall", "eve", chat.Reader) },
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Reader},
		},
		"a role, and the end": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "eve", chat.Owner); return err },
			func(t *testing.T, other *mongostore.Store) {
				require.NoError(t, other.Members().Remove(context.Background(), "hall", "eve"))
			},
			map[user.ID]chat.Role{"ada": chat.Owner},
		},
		"a role, the end, and joining again": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "eve", chat.Owner); return err },
			func(t *testing.T, other *mongostore.Store) {
				ruled(t, other, "hall", "eve", "")
				joined(t, other, "hall", "eve")
			},
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Regular},
		},
		"an invitation, and the end": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "bob", chat.Moderator); return err },
			func(t *testing.T, other *mongostore.Store) {
				require.NoError(t, other.Members().Remove(context.Background(), "hall", "bob"))
			},
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Regular},
		},
		"an invitation, and another role": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "bob", chat.Moderator); return err },
			func(t *testing.T, other *mongostore.Store) { ruled(t, other, "hall", "bob", chat.Reader) },
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Regular, "bob": chat.Reader},
		},
		"an invitation, the end, and joining": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "bob", chat.Moderator); return err },
			func(t *testing.T, other *mongostore.Store) {
				ruled(t, other, "hall", "bob", "")
				joined(t, other, "hall", "bob")
			},
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Regular, "bob": chat.Regular},
		},
		"a removal, and joining again": {
			func(s *mongostore.Store) error { _, _, err := rule(s, "hall", "eve", ""); return err },
			func(t *testing.T, other *mongostore.Store) { joined(t, other, "hall", "eve") },
			map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Regular},
		},
	} {
		moments := map[string]func() func(string, bson.Raw) bool{
			"late to write": func() func(string, bson.Raw) bool { return changesMembers },
		}
		if strings.Contains(name, "invitation") {
			moments["late to look"] = func() func(string, bson.Raw) bool {
				var decided atomic.Bool
				return func(command string, doc bson.Raw) bool {
					if updates(command, doc, "parley_rooms") {
						decided.Store(true)
					}
					return decided.Load() && finds(command, doc, "parley_members")
				}
			}
		}
		for when, moment := range moments {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				url := empty(t)
				other := at(t, url)
				b := newBetween(t, url, alone)
				s := at(t, b.url)
				require.NoError(t, create(other, chat.Room{Name: "hall"}, "ada", chat.Owner))
				joined(t, other, "hall", "eve")
				var came atomic.Bool
				b.then(once(moment(), func() fate {
					listedIn(t, other, "hall")
					test.since(t, other)
					came.Store(true)
					return fate{}
				}))
				require.NoError(t, test.decide(s))
				assert.True(t, came.Load())
				assert.Equal(t, test.want, listedIn(t, s, "hall"))
				assert.Len(t, documents(t, s, "parley_members"), len(test.want))
				assert.Zero(t, intents(t, s, "hall"))
			})
		}
	}
}

// A process that says late that its decision is carried out does not say it of the next one.
func TestBeingDoneLate(t *testing.T) {
	t.Parallel()
	url := empty(t)
	here, there := newBetween(t, url, alone), newBetween(t, url, alone)
	s, dying := at(t, here.url), at(t, there.url)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	here.then(once(func(command string, doc bson.Raw) bool {
		name, _ := doc.Lookup(command).StringValueOK()
		return command == "update" && name == "parley_rooms" && !updates(command, doc, "parley_rooms")
	}, func() fate {
		cutOff(t, there, func() error { _, _, err := rule(dying, "hall", "ada", chat.Moderator); return err })
		return fate{}
	}))
	ruled(t, s, "hall", "eve", chat.Owner)
	require.Equal(t, 1, intents(t, s, "hall"))
	assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Moderator, "eve": chat.Owner}, listedIn(t, s, "hall"))
}

// A room that was lost and made anew begins its versions again; its members take roles all the same.
func TestRolesInARoomThatWasLost(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	for _, role := range []chat.Role{chat.Reader, chat.Moderator, chat.Regular, chat.Reader} {
		ruled(t, s, "hall", "eve", role)
	}
	lose := func() {
		_, err := mongostore.Database(s).Collection("parley_rooms").DeleteMany(t.Context(), bson.D{})
		require.NoError(t, err)
	}
	lose()
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "eve", chat.Owner))
	assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Owner}, listedIn(t, s, "hall"))
	lose()
	_, err := s.Rooms().Ensure(t.Context(), chat.Room{Name: "hall", CreatedAt: noon})
	require.NoError(t, err)
	ruled(t, s, "hall", "eve", chat.Moderator)
	assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner, "eve": chat.Moderator}, listedIn(t, s, "hall"))
}

// Names that look alike are of different rooms and users.
func TestRolesAreOfExactNames(t *testing.T) {
	t.Parallel()
	s := open(t)
	names := []string{"hall", "Hall", "HALL", "hall ", "h\u00e4ll", "ha\u0308ll", "\uff48all"}
	for i, name := range names {
		require.NoError(t, create(s, chat.Room{Name: name, Kind: []chat.RoomKind{chat.Public, chat.Private}[i%2]}, user.ID(name), chat.AllRoles()[i%4]))
	}
	for i, name := range names {
		assert.Equal(t, map[user.ID]chat.Role{user.ID(name): chat.AllRoles()[i%4]}, listedIn(t, s, name))
		for _, other := range names {
			if other == name {
				continue
			}
			assert.Empty(t, roleOf(t, s, name, user.ID(other)))
		}
		assert.Equal(t, []chat.Role{chat.Regular, ""}[i%2], joined(t, s, name, "eve")[0].Role, name)
	}
}

// Pages of members are whole and in order, also while some of them are taken back.
func TestMembersPageByPage(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := at(t, url)
	b := newBetween(t, url, alone)
	dying := at(t, b.url)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "u00", chat.Owner))
	var want []user.ID
	for i := range 12 {
		id := user.ID(fmt.Sprintf("u%02d", i))
		if i%3 == 1 {
			b.then(func(command string, doc bson.Raw) fate { return fate{dropped: updates(command, doc, "parley_members")} })
			_, err := dying.Members().Add(t.Context(), chat.Membership{Room: "hall", UserID: id, Since: noon})
			require.ErrorIs(t, err, fault.Unavailable)
			continue
		}
		joined(t, s, "hall", id)
		want = append(want, id)
	}
	require.NoError(t, update(s, "hall", closes))
	var got []user.ID
	for after := user.ID(""); ; {
		page, err := s.Roles().List(t.Context(), "hall", after, 3)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		if len(got)+len(page) < len(want) {
			assert.Len(t, page, 3, "a page is full where there are more")
		}
		for _, m := range page {
			got = append(got, m.UserID)
		}
		after = got[len(got)-1]
	}
	assert.Equal(t, want, got)
	assert.True(t, slices.IsSorted(got))
	none, err := s.Roles().List(t.Context(), "hall", "", 0)
	require.NoError(t, err)
	assert.NotNil(t, none)
	assert.Empty(t, none)
}

// A role that was decided and left is a membership by the time the room goes, and goes with it.
func TestRoomsAreRemovedWithWhatWasDecided(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := at(t, url)
	b := newBetween(t, url, alone)
	dying := at(t, b.url)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	cutOff(t, b, func() error {
		_, _, err := rule(dying, "hall", "bob", chat.Reader)
		return err
	})
	require.NoError(t, update(s, "hall", func(r *chat.Room) { r.DeletedAt = noon }))
	require.Equal(t, 1, intents(t, s, "hall"))
	calls := 0
	for left := true; left; calls++ {
		require.Less(t, calls, 10)
		var err error
		left, err = s.Messages().Drop(t.Context(), "hall", 1)
		require.NoError(t, err)
	}
	assert.Equal(t, 3, calls, "a membership each, and the rest")
	assert.Empty(t, documents(t, s, "parley_members"))
	assert.Empty(t, documents(t, s, "parley_rooms"))
}
