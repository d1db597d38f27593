package mongostore_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/mail"
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
	s, err := mongostore.Open(t.Context(), url, mongostore.Config{ConnectTimeout: time.Minute}) // the one server of all tests may be busy
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(context.WithoutCancel(t.Context())))
	return s
}

func ports(s *mongostore.Store) contract.Store {
	p := s.Ports()
	return contract.Store{
		Users: p.Users, Outbox: p.Outbox, Asides: p.Asides, Sessions: p.Sessions, Codes: p.Codes, SignUps: p.SignUps,
		Nonces: p.Nonces, Limiter: p.Limiter,
		MailQueue: p.MailQueue, DeadLetters: p.DeadLetters, MailStats: p.MailStats,
		Messages: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions, Blocks: p.Blocks, Settings: p.Settings, Directory: p.Directory, Audit: p.Audit, Factors: p.Factors, Pruner: p.Pruner,
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	contract.On(t, "mongostore", "mongo-java-server")
	exceptions := []contract.Exception{contract.Except("Standings", "a session and its user are two documents")}
	if os.Getenv(servers.MongoVariable) == "" { // a server that the tests were given is MongoDB itself
		for _, name := range []string{
			"Rooms/rooms are listed by the bytes of the name", "Rooms/rooms are listed page by page",
			"Members/a user's rooms come by the bytes of the name", "Members/a user's rooms come page by page",
			"Roles/a list is in the order of users", "Restrictions/a list is in the order of users", "Blocks/a list is in the order of users",
			"Directory/ids are in the order of their bytes", "AuditLog/ids are exact",
		} {
			exceptions = append(exceptions, contract.Except(name, "mongo-java-server orders text by UTF-16 units, not by bytes"))
		}
	}
	contract.RunStore(t, func(t *testing.T) contract.Store { return ports(open(t)) }, exceptions...)
}

var (
	unreadSteps = flag.Int("unread.steps", 300, "random steps of TestUnread")
	unreadSeed  = flag.Uint64("unread.seed", 7, "what TestUnread draws by")
)

// TestUnread holds that what is read and unread is exact after each of many random steps.
func TestUnread(t *testing.T) {
	t.Parallel()
	contract.On(t, "mongostore", "mongo-java-server")
	deadline := contract.Deadline + time.Duration(*unreadSteps)*300*time.Millisecond
	contract.RunWithin(t, deadline, []contract.Case[contract.Reading]{contract.Unread(*unreadSeed, *unreadSteps)}, func(t *testing.T) contract.Reading {
		s := open(t)
		return contract.Reading{Marks: s.Members(), Members: s.Members(), Messages: s.Messages()}
	})
}

// TestWebhookQueue holds that the deliveries of webhooks are kept as mails are, apart from them.
func TestWebhookQueue(t *testing.T) {
	t.Parallel()
	contract.On(t, "mongostore", "mongo-java-server")
	hooks := func(t *testing.T) contract.Mails {
		q := open(t).WebhookQueue()
		return contract.Mails{Queue: q, Letters: q, Stats: q}
	}
	for _, suite := range [][]contract.Case[contract.Mails]{contract.MailQueue(), contract.DeadLetters(), contract.MailStats()} {
		contract.Run(t, suite, hooks)
	}
	s := open(t)
	require.NoError(t, s.WebhookQueue().Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", To: "u", Name: "hall"}))
	_, found, err := s.MailQueue().Claim(t.Context(), time.Now(), time.Minute)
	require.NoError(t, err)
	require.False(t, found, "a mailer has claimed a delivery")
	require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", To: "u"}))
	_, found, err = s.WebhookQueue().Claim(t.Context(), time.Now(), time.Minute)
	require.NoError(t, err)
	require.True(t, found)
}
