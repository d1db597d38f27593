package mongostore_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// A server that is not the primary, or takes no writes for another reason, answers every command that only reads. Who asks
// whether writes are taken is told, and all is well at the first call after it.
func TestPingFindsAServerThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	require.NoError(t, s.Ping(t.Context()))
	for name, fate := range map[string]fate{
		"not the primary": refusal(10107, "NotWritablePrimary"), "a secondary": refusal(13435, "NotPrimaryNoSecondaryOk"),
		"stepping down": refusal(11602, "InterruptedDueToReplStateChange"), "stepped down": refusal(189, "PrimarySteppedDown"),
		"shutting down": refusal(91, "ShutdownInProgress"), "its disk is full": refusal(14031, "OutOfDiskSpace"),
		"its operator lets nobody write": refusal(371, "UserWritesBlocked"),
		"the majority is away": {edit: func(reply bson.D) bson.D {
			return append(reply, bson.E{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: int32(64)}, {Key: "errmsg", Value: "waiting for replication timed out"}}})
		}},
	} {
		b.then(writesOnly(fate))
		require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable, name)
		require.ErrorIs(t, s.Users().Create(t.Context(), user.User{ID: user.ID(name), FullName: "x", Email: user.Email(name)}), fault.Unavailable, name)
		_, err := s.Users().ByID(t.Context(), "nobody")
		require.ErrorIs(t, err, user.ErrNotFound, "%s: it reads", name)
		b.then(alone)
		require.NoError(t, s.Ping(t.Context()), name)
		require.NoError(t, s.Users().Create(t.Context(), user.User{ID: user.ID("after " + name), FullName: "x", Email: user.Email("after " + name)}), name)
	}
}

// writesOnly lets every write fail in one way.
func writesOnly(f fate) func(string, bson.Raw) fate {
	return func(command string, _ bson.Raw) fate {
		switch command {
		case "insert", "update", "delete", "findAndModify":
			return f
		}
		return fate{}
	}
}

// Asking whether writes are taken of what was never migrated says so, and leaves nothing behind.
func TestPingBeforeMigrating(t *testing.T) {
	t.Parallel()
	s, err := mongostore.Open(t.Context(), empty(t), mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.ErrorIs(t, s.Ping(t.Context()), mongostore.ErrSchemaOld)
	names, err := mongostore.Database(s).ListCollectionNames(t.Context(), bson.D{})
	require.NoError(t, err)
	assert.Empty(t, names)
}
