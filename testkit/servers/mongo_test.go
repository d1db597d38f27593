package servers_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/testkit/servers"
)

func TestMongoIsKilledAndFrozen(t *testing.T) {
	t.Parallel()
	s := servers.StartMongo(t)
	client, err := mongo.Connect(options.Client().ApplyURI(s.URL).SetServerSelectionTimeout(20 * time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Disconnect(context.Background())) })
	c := client.Database("parley").Collection("things")
	count := func(ctx context.Context) (int64, error) { return c.CountDocuments(ctx, bson.D{}) }

	_, err = c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "one"}})
	require.NoError(t, err)
	s.Kill(t)
	s.Kill(t)
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = count(soon)
	require.Error(t, err)
	s.Restart(t)
	n, err := count(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1, n, "it was in the file before the insert was acknowledged")

	s.Freeze(t)
	soon, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = count(soon)
	require.ErrorIs(t, err, context.DeadlineExceeded, "it is frozen")
	s.Thaw(t)
	_, err = count(t.Context())
	require.NoError(t, err)
}

func TestMongoHonoursItsVariable(t *testing.T) {
	for base, want := range map[string]string{
		"mongodb://a:1":                               `^mongodb://a:1/parley_test_[a-z0-9]{16}$`,
		"mongodb://a:1,b:2/?replicaSet=r":             `^mongodb://a:1,b:2/parley_test_[a-z0-9]{16}\?replicaSet=r$`,
		"mongodb://u:p@a:1/":                          `^mongodb://u:p@a:1/parley_test_[a-z0-9]{16}\?authSource=admin$`,
		"mongodb://u:p@a:1/users?tls=true":            `^mongodb://u:p@a:1/parley_test_[a-z0-9]{16}\?tls=true&authSource=users$`,
		"mongodb+srv://u:p@a/users?authSource=%24any": `^mongodb\+srv://u:p@a/parley_test_[a-z0-9]{16}\?authSource=%24any$`,
	} {
		t.Setenv(servers.MongoVariable, base)
		kept := &keeper{TB: t}
		assert.Regexp(t, want, servers.Mongo(kept, func(context.Context, string) error { return nil }))
		assert.Equal(t, 1, kept.cleanups, "the database is dropped at the end")
	}
}

// keeper counts what is to be done at the end of a test, and does not do it.
type keeper struct {
	testing.TB
	cleanups int
}

func (k *keeper) Cleanup(func()) { k.cleanups++ }
