package mongostore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// beforeRoles are the validators of the version that knew no roles.
func beforeRoles(t *testing.T) map[string]bson.Raw {
	t.Helper()
	characters := func(least, most int64) bson.D {
		return bson.D{{Key: "bsonType", Value: "string"}, {Key: "minLength", Value: least}, {Key: "maxLength", Value: most}}
	}
	long := func(least int64) bson.D {
		return bson.D{{Key: "bsonType", Value: "long"}, {Key: "minimum", Value: least}}
	}
	time := bson.D{{Key: "bsonType", Value: "long"}}
	validators := map[string]bson.Raw{}
	for name, schema := range map[string]bson.D{
		"parley_rooms": {
			{Key: "bsonType", Value: "object"}, {Key: "required", Value: bson.A{"_id", "created_by", "created_at"}},
			{Key: "properties", Value: bson.D{{Key: "_id", Value: characters(1, 100)}, {Key: "created_by", Value: characters(0, 128)}, {Key: "created_at", Value: time}}},
		},
		"parley_members": {
			{Key: "bsonType", Value: "object"}, {Key: "required", Value: bson.A{"_id", "user_id", "room", "since"}},
			{Key: "properties", Value: bson.D{
				{Key: "_id", Value: bson.D{{Key: "bsonType", Value: "objectId"}}}, {Key: "user_id", Value: characters(0, 128)}, {Key: "room", Value: characters(1, 100)},
				{Key: "since", Value: time}, {Key: "read", Value: long(0)}, {Key: "moved_by", Value: long(1)},
			}},
		},
	} {
		raw, err := bson.Marshal(bson.D{{Key: "$jsonSchema", Value: schema}})
		require.NoError(t, err)
		validators[name] = raw
	}
	return validators
}

// A database of the version that knew no roles, with rooms and members, and a program of then that goes on to use it.
func TestMigrateFromBeforeRoles(t *testing.T) {
	t.Parallel()
	url := empty(t)
	db := mongostore.Database(at(t, url))
	older := func(room string, ids ...string) { // what a program of then writes
		_, err := db.Collection("parley_rooms").InsertOne(t.Context(), bson.D{{Key: "_id", Value: room}, {Key: "created_by", Value: "ada"}, {Key: "created_at", Value: noon.UnixMicro()}})
		require.NoError(t, err)
		for _, id := range ids {
			_, err := db.Collection("parley_members").InsertOne(t.Context(), bson.D{
				{Key: "_id", Value: bson.NewObjectID()}, {Key: "user_id", Value: id}, {Key: "room", Value: room}, {Key: "since", Value: noon.UnixMicro()}, {Key: "read", Value: int64(0)},
			})
			require.NoError(t, err)
		}
	}
	older("hall", "ada", "eve")
	for _, name := range []string{"room_user_id", "owner_of"} {
		require.NoError(t, db.Collection("parley_members").Indexes().DropOne(t.Context(), name))
	}
	_, err := db.Collection("parley_schema").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "additions", Value: int64(3)}}}})
	require.NoError(t, err)
	s, err := mongostore.Open(t.Context(), url, mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	_, err = s.Roles().List(t.Context(), "hall", "", 10)
	require.ErrorIs(t, err, mongostore.ErrSchemaOld, "what this program needs is not there")
	require.NoError(t, s.Migrate(t.Context()))
	version := documents(t, s, "parley_schema")[0]
	assert.EqualValues(t, 2, version["version"], "the older program compares it, and goes on")
	assert.EqualValues(t, 16, version["additions"])
	assert.ElementsMatch(t, []string{"_id_", "user_id_room", "room_user_id", "owner_of", "pending", "events_id", "events_position"}, indexes(t, s)["parley_members"])
	assert.ElementsMatch(t, []string{"_id_", "pending", "events_id", "events_position"}, indexes(t, s)["parley_rooms"])

	// What was there is public, and its members are members. Both become what they are told.
	before := chat.Room{Name: "hall", CreatedBy: "ada", CreatedAt: noon, Kind: chat.Public}
	r, err := s.Rooms().ByName(t.Context(), "hall")
	require.NoError(t, err)
	assert.Equal(t, before, r)
	assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Regular, "eve": chat.Regular}, listedIn(t, s, "hall"))
	ruled(t, s, "hall", "ada", chat.Owner)
	ruled(t, s, "hall", "bob", chat.Reader)
	full := chat.Room{
		Kind: chat.Private, Title: strings.Repeat("é", chat.MaxTitle), Topic: strings.Repeat("é", chat.MaxTopic),
		Data: `{"a":"` + strings.Repeat("x", chat.MaxData-8) + `"}`, Retention: chat.MaxRetention, DeletedAt: noon,
	}
	require.NoError(t, update(s, "hall", func(r *chat.Room) {
		assert.Equal(t, before, *r)
		*r = full
	}))
	full.Name, full.CreatedBy, full.CreatedAt = "hall", "ada", noon
	all, err := s.Rooms().List(t.Context(), "", 10)
	require.NoError(t, err)
	assert.Equal(t, []chat.Room{full}, all)

	// The older program goes on beside.
	older("lobby", "old")
	assert.Equal(t, map[user.ID]chat.Role{"old": chat.Regular}, listedIn(t, s, "lobby"))
	assert.Equal(t, chat.Regular, joined(t, s, "lobby", "old")[0].Role)
	ruled(t, s, "lobby", "old", chat.Moderator)
	_, err = db.Collection("parley_members").UpdateOne(t.Context(), bson.D{{Key: "user_id", Value: "old"}}, // it marks
		bson.D{{Key: "$max", Value: bson.D{{Key: "read", Value: int64(0)}}}, {Key: "$set", Value: bson.D{{Key: "moved_by", Value: int64(7)}}}})
	require.NoError(t, err)
	assert.Equal(t, chat.Moderator, roleOf(t, s, "lobby", "old"))

	// A decision that is left, what is laid aside for it, and what is not proven fit too.
	b := newBetween(t, url, alone)
	dying := at(t, b.url)
	cutOff(t, b, func() error { _, _, err := rule(dying, "lobby", "invited", chat.Owner); return err })
	b.then(func(command string, doc bson.Raw) fate { return fate{dropped: updates(command, doc, "parley_members")} })
	_, err = dying.Members().Add(t.Context(), chat.Membership{Room: "elsewhere", UserID: "new", Since: noon})
	require.ErrorIs(t, err, fault.Unavailable)
	require.Equal(t, 1, intents(t, s, "lobby"))
	then := beforeRoles(t)
	for name, want := range map[string]int{"parley_rooms": 2, "parley_members": 6} {
		raw, err := bson.Marshal(mongostore.ValidatorOf(name))
		require.NoError(t, err)
		assert.Equal(t, want, documentsFit(t, s, name, raw), name)
		documentsFit(t, s, name, then[name])
		var now, old bson.A
		require.NoError(t, bson.Raw(raw).Lookup("$jsonSchema", "required").Unmarshal(&now))
		require.NoError(t, then[name].Lookup("$jsonSchema", "required").Unmarshal(&old))
		assert.Equal(t, old, now, "it asks for nothing that an older program does not write")
	}
	assert.Empty(t, mine(t, s, "invited"), "what is laid aside is no membership")
	assert.Equal(t, chat.Owner, roleOf(t, s, "lobby", "invited"))
}
