package mongostore_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/testkit/servers"
)

// empty returns the URL of an empty database, which is dropped when t ends.
func empty(t *testing.T) string {
	t.Helper()
	return servers.Mongo(t, func(ctx context.Context, url string) error {
		parsed, err := connstring.ParseAndValidate(url)
		if err != nil {
			return err
		}
		client, err := mongo.Connect(options.Client().ApplyURI(url))
		if err != nil {
			return err
		}
		return errors.Join(client.Database(parsed.Database).Drop(ctx), client.Disconnect(ctx))
	})
}

// open opens a migrated store on an empty database of its own.
func open(t *testing.T) *mongostore.Store {
	t.Helper()
	return at(t, empty(t))
}

// at opens a migrated store on the database at url.
func at(t *testing.T, url string) *mongostore.Store {
	t.Helper()
	s, err := mongostore.Open(t.Context(), url, mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(context.WithoutCancel(t.Context())))
	return s
}

func run[P any](t *testing.T, cases []contract.Case[P], port func(*mongostore.Store) P, exceptions ...contract.Exception) {
	t.Parallel()
	contract.On(t, "mongostore", "mongo-java-server")
	contract.Run(t, cases, func(t *testing.T) P { return port(open(t)) }, exceptions...)
}

// utf16 declares what mongo-java-server cannot keep. A server that the tests were given is MongoDB itself.
func utf16(names ...string) []contract.Exception {
	if os.Getenv(servers.MongoVariable) != "" {
		return nil
	}
	exceptions := make([]contract.Exception, len(names))
	for i, name := range names {
		exceptions[i] = contract.Except(name, "mongo-java-server orders text by UTF-16 units, not by bytes")
	}
	return exceptions
}

func users(s *mongostore.Store) contract.Users {
	return contract.Users{Repository: s.Users(), Outbox: s.Outbox()}
}

func mails(s *mongostore.Store) contract.Mails {
	return contract.Mails{Queue: s.MailQueue(), Letters: s.MailQueue(), Stats: s.MailQueue()}
}

func sessions(s *mongostore.Store) contract.Sessions {
	return contract.Sessions{Store: s.Sessions(), Outbox: s.Outbox(), Sweeper: s.Sessions()}
}

func codes(s *mongostore.Store) contract.Codes {
	return contract.Codes{Store: s.Codes(), Outbox: s.Outbox(), Sweeper: s.Codes()}
}

func signUps(s *mongostore.Store) contract.WaitingSignUps {
	return contract.WaitingSignUps{Store: s.SignUps(), Outbox: s.Outbox(), Sweeper: s.SignUps()}
}

func nonces(s *mongostore.Store) auth.Nonces             { return s.Nonces() }
func limiter(s *mongostore.Store) auth.Limiter           { return s.Limiter() }
func messageStore(s *mongostore.Store) chat.MessageStore { return s.Messages() }
func rooms(s *mongostore.Store) chat.Rooms               { return s.Rooms() }
func members(s *mongostore.Store) chat.Members           { return s.Members() }

func TestUserRepositoryContract(t *testing.T) { run(t, contract.UserRepository(), users) }
func TestOutboxContract(t *testing.T)         { run(t, contract.Outbox(), users) }
func TestSessionStoreContract(t *testing.T)   { run(t, contract.SessionStore(), sessions) }
func TestCodeStoreContract(t *testing.T)      { run(t, contract.CodeStore(), codes) }
func TestSignUpsContract(t *testing.T)        { run(t, contract.SignUps(), signUps) }
func TestNoncesContract(t *testing.T)         { run(t, contract.Nonces(), nonces) }
func TestLimiterContract(t *testing.T)        { run(t, contract.Limiter(), limiter) }
func TestMessageStoreContract(t *testing.T)   { run(t, contract.MessageStore(), messageStore) }
func TestMailQueueContract(t *testing.T)      { run(t, contract.MailQueue(), mails) }
func TestDeadLettersContract(t *testing.T)    { run(t, contract.DeadLetters(), mails) }
func TestMailStatsContract(t *testing.T)      { run(t, contract.MailStats(), mails) }

func TestRoomsContract(t *testing.T) {
	run(t, contract.Rooms(), rooms, utf16("rooms are listed by the bytes of the name", "rooms are listed page by page")...)
}

func TestMembersContract(t *testing.T) {
	run(t, contract.Members(), members, utf16("a user's rooms come by the bytes of the name", "a user's rooms come page by page")...)
}
