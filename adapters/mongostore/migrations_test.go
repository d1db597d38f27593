package mongostore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

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
	assert.ElementsMatch(t, []string{"_id_", "room_seq", "room_once", "changed_in_rev", "deleted_in_deleted_seq", "author_id_room_seq",
		"pending", "events_id", "events_position"}, want["parley_messages"])
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

// fits checks a value against as much of $jsonSchema as validators here have. No server of these tests does it.
func fits(schema bson.Raw, path string, v bson.RawValue) error {
	types := map[string]bson.Type{
		"object": bson.TypeEmbeddedDocument, "string": bson.TypeString, "long": bson.TypeInt64, "array": bson.TypeArray,
		"objectId": bson.TypeObjectID, "bool": bson.TypeBoolean, "binData": bson.TypeBinary,
	}
	elements, err := schema.Elements()
	if err != nil {
		return err
	}
	size := func() int64 {
		if v.Type == bson.TypeArray {
			values, _ := v.Array().Values()
			return int64(len(values))
		}
		return int64(utf8.RuneCountInString(v.StringValue()))
	}
	for _, e := range elements {
		ok := true
		switch rule := e.Value(); e.Key() {
		case "bsonType":
			ok = v.Type == types[rule.StringValue()]
		case "minLength", "minItems":
			ok = size() >= rule.AsInt64()
		case "maxLength", "maxItems":
			ok = size() <= rule.AsInt64()
		case "enum":
			values, _ := rule.Array().Values()
			ok = slices.ContainsFunc(values, func(one bson.RawValue) bool { return one.Equal(v) })
		case "minimum":
			ok = v.Int64() >= rule.AsInt64()
		case "required":
			names, _ := rule.Array().Values()
			for _, name := range names {
				_, err := v.Document().LookupErr(name.StringValue())
				ok = ok && err == nil
			}
		case "properties":
			properties, _ := rule.Document().Elements()
			for _, p := range properties {
				if value, err := v.Document().LookupErr(p.Key()); err == nil {
					if err := fits(p.Value().Document(), path+"."+p.Key(), value); err != nil {
						return err
					}
				}
			}
		case "items":
			values, _ := v.Array().Values()
			for i, value := range values {
				if err := fits(rule.Document(), fmt.Sprint(path, ".", i), value); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("the rule %s of %s is not known here", e.Key(), path)
		}
		if !ok {
			return fmt.Errorf("%s = %s breaks %s", path, v, e)
		}
	}
	return nil
}

// beforeChanges is the validator of messages of the version that knew no changes.
func beforeChanges(t *testing.T) bson.Raw {
	t.Helper()
	characters := func(least, most int64) bson.D {
		return bson.D{{Key: "bsonType", Value: "string"}, {Key: "minLength", Value: least}, {Key: "maxLength", Value: most}}
	}
	raw, err := bson.Marshal(bson.D{{Key: "$jsonSchema", Value: bson.D{
		{Key: "bsonType", Value: "object"},
		{Key: "required", Value: bson.A{"_id", "room", "seq", "once", "id", "author_id", "author_name", "text", "at"}},
		{Key: "properties", Value: bson.D{
			{Key: "_id", Value: bson.D{{Key: "bsonType", Value: "objectId"}}}, {Key: "room", Value: characters(1, 100)},
			{Key: "seq", Value: bson.D{{Key: "bsonType", Value: "long"}, {Key: "minimum", Value: int64(1)}}}, {Key: "once", Value: characters(2, 320)},
			{Key: "id", Value: characters(1, 128)}, {Key: "client_id", Value: characters(1, 64)},
			{Key: "author_id", Value: characters(0, 128)}, {Key: "author_name", Value: characters(0, 100)},
			{Key: "text", Value: characters(1, 4000)}, {Key: "at", Value: bson.D{{Key: "bsonType", Value: "long"}}},
			{Key: "reply_to", Value: bson.D{{Key: "bsonType", Value: "long"}, {Key: "minimum", Value: int64(1)}}}, {Key: "data", Value: characters(2, 4096)},
		}},
	}}})
	require.NoError(t, err)
	return raw
}

// documentsFit checks all documents of a collection.
func documentsFit(t *testing.T, s *mongostore.Store, name string, validator bson.Raw) int {
	t.Helper()
	cursor, err := mongostore.Database(s).Collection(name).Find(t.Context(), bson.D{})
	require.NoError(t, err)
	var docs []bson.Raw
	require.NoError(t, cursor.All(t.Context(), &docs))
	for _, doc := range docs {
		require.NoError(t, fits(validator.Lookup("$jsonSchema").Document(), name, bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: doc}))
	}
	return len(docs)
}

// A database of the version that knew no changes, with messages, that a program of then goes on to use: what is written fits both validators.
func TestMigrateFromBeforeMessagesChanged(t *testing.T) {
	t.Parallel()
	server := empty(t)
	older := at(t, server)
	db := mongostore.Database(older)
	written(t, older, "r", 5)
	require.NoError(t, db.Collection("parley_messages").Indexes().DropOne(t.Context(), "changed_in_rev"))
	require.NoError(t, db.Collection("parley_changes").Drop(t.Context()))
	_, err := db.Collection("parley_schema").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$unset", Value: bson.D{{Key: "additions", Value: ""}}}})
	require.NoError(t, err)
	k := &keeper{validators: map[string]bson.Raw{"parley_messages": beforeChanges(t)}}
	for _, name := range mongostore.Names() {
		if raw, err := bson.Marshal(mongostore.ValidatorOf(name)); name != "parley_messages" && name != "parley_changes" {
			require.NoError(t, err)
			k.validators[name] = raw
		}
	}
	require.Equal(t, 5, documentsFit(t, older, "parley_messages", beforeChanges(t)), "the messages are of that version")
	b := newBetween(t, server, alone)
	s, err := mongostore.Open(t.Context(), b.url, mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })

	_, err = s.Messages().Change(t.Context(), []chat.Change{edit("r", 1, "x")})
	require.ErrorIs(t, err, mongostore.ErrSchemaOld, "what this program needs is not there")
	b.then(k.handle)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Check(t.Context()))
	assert.Equal(t, []string{"parley_messages"}, k.changed())
	var version bson.M
	require.NoError(t, db.Collection("parley_schema").FindOne(t.Context(), bson.D{}).Decode(&version))
	assert.EqualValues(t, 2, version["version"], "the older program compares it, and goes on")
	assert.Contains(t, indexes(t, s)["parley_messages"], "changed_in_rev")
	require.NoError(t, s.Migrate(t.Context()))
	assert.Empty(t, k.changed())
	b.then(alone)

	first := change(t, s, edit("r", 1, "x"), deletion("r", 2), react("r", 3, "u", "+"), react("r", 3, "v", "+"))
	documentsFit(t, s, "parley_messages", beforeChanges(t))
	assert.Equal(t, []chat.Message{first[0].Message, first[1].Message, first[3].Message}, changedIn(t, s, "r"))
	second := change(t, s, unreact("r", 3, "u", "+"), edit("r", 4, "y"), deletion("r", 4))
	assert.EqualValues(t, 7, second[2].Rev)
	assert.Equal(t, []string{"m-r-0", "m-r-1", "m-r-2", "m-r-3", "m-r-4"}, idsOf(t, s, "r"))
	for _, name := range []string{"parley_messages", "parley_changes"} {
		raw, err := bson.Marshal(mongostore.ValidatorOf(name))
		require.NoError(t, err)
		assert.Positive(t, documentsFit(t, s, name, raw))
	}
	documentsFit(t, s, "parley_messages", beforeChanges(t))

	// What the older program reads, and what it writes.
	var read struct {
		Seq  int64  `bson:"seq"`
		Text string `bson:"text"`
	}
	require.NoError(t, db.Collection("parley_messages").FindOne(t.Context(), bson.D{{Key: "seq", Value: int64(2)}}).Decode(&read))
	assert.Equal(t, "(deleted)", read.Text)
	_, err = db.Collection("parley_messages").InsertOne(t.Context(), bson.D{
		{Key: "_id", Value: bson.NewObjectID()}, {Key: "room", Value: "r"}, {Key: "seq", Value: int64(6)}, {Key: "once", Value: "s6"}, {Key: "id", Value: "older"},
		{Key: "author_id", Value: "u1"}, {Key: "author_name", Value: "U"}, {Key: "text", Value: "z"}, {Key: "at", Value: int64(1)},
	})
	require.NoError(t, err)
	assert.EqualValues(t, 8, change(t, s, react("r", 6, "u", "+"))[0].Rev)
}

// A head whose changes are not carried out yet fits its validator too.
func TestHeadsFitTheirValidator(t *testing.T) {
	t.Parallel()
	server := empty(t)
	other := at(t, server)
	written(t, other, "r", 3)
	b := newBetween(t, server, alone)
	s := at(t, b.url)
	b.then(func(command string, doc bson.Raw) fate {
		return fate{dropped: updates(command, doc, "parley_messages")}
	})
	_, err := s.Messages().Change(t.Context(), []chat.Change{react("r", 1, "u", "+"), edit("r", 2, "x"), deletion("r", 3)})
	require.Error(t, err)
	raw, err := bson.Marshal(mongostore.ValidatorOf("parley_changes"))
	require.NoError(t, err)
	assert.Equal(t, 1, documentsFit(t, other, "parley_changes", raw))
	assert.True(t, bytes.Contains(everything(t, other)["parley_changes"], []byte("writes")))
}
