package mongostore_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
)

// indexes returns the names of the indexes of every collection.
func indexes(t *testing.T, s *mongostore.Store) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for _, name := range mongostore.Names() {
		specs, err := mongostore.Database(s).Collection(name).Indexes().ListSpecifications(t.Context())
		require.NoError(t, err)
		for _, spec := range specs {
			found[name] = append(found[name], spec.Name)
		}
		slices.Sort(found[name])
	}
	return found
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	s, err := mongostore.Open(t.Context(), empty(t), mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.ErrorIs(t, s.Check(t.Context()), mongostore.ErrSchemaOld)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Check(t.Context()))
	want := indexes(t, s)
	assert.ElementsMatch(t, []string{"_id_", "room_seq", "room_once"}, want["parley_messages"])
	assert.Contains(t, want["parley_users"], "email")
	_, err = s.Messages().Append(t.Context(), messages("r", 0, 2))
	require.NoError(t, err)

	require.NoError(t, s.Migrate(t.Context()))
	assert.Equal(t, want, indexes(t, s))
	assert.Len(t, idsOf(t, s, "r"), 2)
}

func TestMigrateByManyAtOnce(t *testing.T) {
	t.Parallel()
	const processes = 4
	url := empty(t)
	stores := make([]*mongostore.Store, processes)
	for i := range stores {
		s, err := mongostore.Open(t.Context(), url, mongostore.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		stores[i] = s
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, s := range stores {
		wg.Go(func() {
			<-start
			assert.NoError(t, s.Migrate(t.Context()))
		})
	}
	close(start)
	wg.Wait()
	for _, s := range stores {
		require.NoError(t, s.Check(t.Context()))
		_, err := s.Messages().Append(t.Context(), messages("r", 0, 2))
		require.NoError(t, err)
	}
	assert.Len(t, idsOf(t, stores[0], "r"), 2, "the unique indexes are there")
}

func TestSchemaOfAnotherVersion(t *testing.T) {
	t.Parallel()
	url := empty(t)
	s := at(t, url)
	set := func(version int64) {
		_, err := mongostore.Database(s).Collection("parley_schema").UpdateOne(t.Context(), bson.D{},
			bson.D{{Key: "$set", Value: bson.D{{Key: "version", Value: version}}}})
		require.NoError(t, err)
	}
	set(99)
	require.ErrorIs(t, s.Check(t.Context()), mongostore.ErrSchemaNew)
	require.ErrorIs(t, s.Migrate(t.Context()), mongostore.ErrSchemaNew)
	_, err := mongostore.Open(t.Context(), url, mongostore.Config{})
	require.ErrorIs(t, err, mongostore.ErrSchemaNew)
	assert.NotContains(t, err.Error(), "\n")
	set(0)
	require.ErrorIs(t, s.Check(t.Context()), mongostore.ErrSchemaOld)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Check(t.Context()))
}

// keeper adds to a server what MongoDB has and the servers of the tests have not: it takes validators, keeps and lists them. It
// does not enforce them.
type keeper struct {
	mu         sync.Mutex
	validators map[string]bson.Raw
	changes    []string // the collections that were changed, in order
}

func (k *keeper) handle(command string, doc bson.Raw) fate {
	k.mu.Lock()
	defer k.mu.Unlock()
	name, _ := doc.Lookup(command).StringValueOK()
	switch command {
	case "create", "collMod":
		validator := bytes.Clone(doc.Lookup("validator").Document())
		if command == "collMod" {
			k.changes = append(k.changes, name)
			k.validators[name] = validator
			return fate{answer: bson.D{{Key: "ok", Value: 1.0}}}
		}
		return fate{edit: func(answer bson.D) bson.D {
			k.mu.Lock()
			defer k.mu.Unlock()
			if _, exists := k.validators[name]; !exists {
				k.validators[name] = validator
			}
			return answer
		}}
	case "listCollections":
		return fate{edit: func(answer bson.D) bson.D {
			k.mu.Lock()
			defer k.mu.Unlock()
			raw, err := bson.Marshal(answer)
			if err != nil {
				return nil
			}
			batch, _ := bson.Raw(raw).Lookup("cursor", "firstBatch").Array().Values()
			list := bson.A{}
			for _, v := range batch {
				name := v.Document().Lookup("name").StringValue()
				options := bson.D{}
				if validator, ok := k.validators[name]; ok {
					options = bson.D{{Key: "validator", Value: validator}}
				}
				list = append(list, bson.D{{Key: "name", Value: name}, {Key: "type", Value: "collection"}, {Key: "options", Value: options}})
			}
			return bson.D{{Key: "ok", Value: 1.0}, {Key: "cursor", Value: bson.D{
				{Key: "id", Value: int64(0)}, {Key: "ns", Value: "x.$cmd.listCollections"}, {Key: "firstBatch", Value: list},
			}}}
		}}
	}
	return fate{}
}

func (k *keeper) changed() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := k.changes
	k.changes = nil
	return all
}

func TestMigrateReplacesAValidatorThatDiffers(t *testing.T) {
	t.Parallel()
	k := &keeper{validators: map[string]bson.Raw{}}
	b := newBetween(t, empty(t), k.handle)
	var log strings.Builder
	s, err := mongostore.Open(t.Context(), b.url, mongostore.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	assert.Empty(t, k.changed(), "collections are created with their validators")
	for _, name := range mongostore.Names() {
		want, err := bson.Marshal(mongostore.ValidatorOf(name))
		require.NoError(t, err)
		assert.Equal(t, bson.Raw(want), k.validators[name], name)
	}
	kept, err := s.Validators(t.Context())
	require.NoError(t, err)
	assert.True(t, kept)

	require.NoError(t, s.Migrate(t.Context()))
	assert.Empty(t, k.changed(), "nothing is changed that is as it should be")

	old, err := bson.Marshal(bson.D{{Key: "$jsonSchema", Value: bson.D{{Key: "bsonType", Value: "object"}}}})
	require.NoError(t, err)
	k.mu.Lock()
	want := k.validators["parley_users"]
	k.validators["parley_users"] = old
	delete(k.validators, "parley_rooms")
	k.mu.Unlock()
	kept, err = s.Validators(t.Context())
	require.NoError(t, err)
	assert.False(t, kept)
	require.NoError(t, s.Migrate(t.Context()))
	assert.Equal(t, []string{"parley_users", "parley_rooms"}, k.changed())
	assert.Equal(t, want, k.validators["parley_users"])
	assert.Empty(t, log.String(), "a server with validators is no news")
}

// The schema says the same as the check before each write.
func TestValidatorsNameEveryField(t *testing.T) {
	t.Parallel()
	raw, err := bson.Marshal(mongostore.ValidatorOf("parley_users"))
	require.NoError(t, err)
	doc := bson.Raw(raw)
	assert.Equal(t, int64(1), doc.Lookup("$jsonSchema", "properties", "full_name", "minLength").Int64())
	assert.Equal(t, int64(100), doc.Lookup("$jsonSchema", "properties", "full_name", "maxLength").Int64())
	assert.Equal(t, "long", doc.Lookup("$jsonSchema", "properties", "verified_at", "bsonType").StringValue())
	assert.Equal(t, int64(255), doc.Lookup("$jsonSchema", "properties", "events", "items", "properties", "key", "maxLength").Int64())
	required, err := doc.Lookup("$jsonSchema", "required").Array().Values()
	require.NoError(t, err)
	var names []string
	for _, v := range required {
		names = append(names, v.StringValue())
	}
	assert.Equal(t, []string{"_id", "full_name", "email", "password_hash", "created_at", "version"}, names)

	raw, err = bson.Marshal(mongostore.ValidatorOf("parley_mail_jobs"))
	require.NoError(t, err)
	states, err := bson.Raw(raw).Lookup("$jsonSchema", "properties", "state", "enum").Array().Values()
	require.NoError(t, err)
	assert.Len(t, states, 4)
}

// A server that takes validators and does not keep them, as mongo-java-server does.
func TestMigrateSaysOnceThatThereAreNoValidators(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), func(command string, _ bson.Raw) fate {
		if command == "collMod" {
			return refusal(59, "CommandNotFound")
		}
		return fate{}
	})
	var log strings.Builder
	s, err := mongostore.Open(t.Context(), b.url, mongostore.Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	kept, err := s.Validators(t.Context())
	require.NoError(t, err)
	require.False(t, kept, "there are no collections yet")
	for range 3 {
		require.NoError(t, s.Migrate(t.Context()))
	}
	kept, err = s.Validators(t.Context())
	require.NoError(t, err)
	if kept {
		t.Skip("this server keeps validators")
	}
	assert.Equal(t, 1, strings.Count(log.String(), "keeps no validators"), log.String())
	_, err = s.Messages().Append(t.Context(), messages("r", 0, 1))
	require.NoError(t, err)
}

// Programs of two versions may run beside each other: a document of the older one fits the newer validator, which asks for nothing more, and
// one of the newer fits the older validator, which forbids nothing. The older program reads it without what it does not know.
func TestMessagesOfTwoVersionsLiveTogether(t *testing.T) {
	t.Parallel()
	raw, err := bson.Marshal(mongostore.ValidatorOf("parley_messages"))
	require.NoError(t, err)
	schema := bson.Raw(raw).Lookup("$jsonSchema").Document()
	required, err := schema.Lookup("required").Array().Values()
	require.NoError(t, err)
	var names []string
	for _, v := range required {
		names = append(names, v.StringValue())
	}
	assert.Equal(t, []string{"_id", "room", "seq", "once", "id", "author_id", "author_name", "text", "at"}, names)
	_, err = schema.LookupErr("additionalProperties")
	require.Error(t, err)

	s := open(t)
	sent := messages("r", 0, 3)
	sent[1].ReplyTo, sent[1].Data = 1, `{"a":1}`
	stored, err := s.Messages().Append(t.Context(), sent)
	require.NoError(t, err)
	all := mongostore.Database(s).Collection("parley_messages")
	var older struct { // what an older program reads
		Seq      int64  `bson:"seq"`
		ClientID string `bson:"client_id,omitempty"`
		Text     string `bson:"text"`
	}
	require.NoError(t, all.FindOne(t.Context(), bson.D{{Key: "room", Value: "r"}, {Key: "seq", Value: int64(2)}}).Decode(&older))
	assert.Equal(t, sent[1].Text, older.Text)
	for _, seq := range []int64{1, 3} { // absent stays absent
		raw, err := all.FindOne(t.Context(), bson.D{{Key: "room", Value: "r"}, {Key: "seq", Value: seq}}).Raw()
		require.NoError(t, err)
		for _, name := range []string{"reply_to", "data"} {
			_, err = raw.LookupErr(name)
			require.Error(t, err, name)
		}
	}
	_, err = all.InsertOne(t.Context(), bson.D{
		{Key: "_id", Value: bson.NewObjectID()}, {Key: "room", Value: "r"}, {Key: "seq", Value: int64(4)}, {Key: "once", Value: "s4"}, {Key: "id", Value: "older"},
		{Key: "author_id", Value: "u"}, {Key: "author_name", Value: "U"}, {Key: "text", Value: "x"}, {Key: "at", Value: int64(1)},
	})
	require.NoError(t, err)
	found, err := s.Messages().List(t.Context(), "r", chat.Range{Limit: 10})
	require.NoError(t, err)
	require.Len(t, found, 4)
	assert.Equal(t, stored[1].Message, found[1])
	assert.Equal(t, chat.Message{Room: "r", Seq: 4, ID: "older", Author: chat.Author{ID: "u", Name: "U"}, Text: "x", At: time.UnixMicro(1).UTC()}, found[3])
}
