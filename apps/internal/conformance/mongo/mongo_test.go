// Package mongo_test runs adapters/mongostore on FerretDB, a Mongo wire server in the test's own process, which
// importers of the adapter should not have to download.
package mongo_test

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
)

// server is the one FerretDB of the test binary.
var server struct {
	once sync.Once
	url  string
	err  error
	stop func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.stop != nil {
		server.stop()
	}
	os.Exit(code)
}

// start starts FerretDB with SQLite files in a folder of its own, and returns its URL without a database.
func start(listener ferretdb.ListenerConfig) (url string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "parley-ferretdb-")
	if err != nil {
		return "", nil, err
	}
	f, err := ferretdb.New(&ferretdb.Config{
		Listener: listener, Handler: "sqlite",
		SQLiteURL: "file:" + dir + "/?_pragma=synchronous(off)", // nobody pulls the plug
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx) // it is stopped
	}()
	return f.MongoDBURI(), func() {
		cancel()
		<-done
		_ = os.RemoveAll(dir)
	}, nil
}

// database returns the URL of an empty database.
func database(t *testing.T) string {
	t.Helper()
	server.once.Do(func() { server.url, server.stop, server.err = start(ferretdb.ListenerConfig{TCP: "127.0.0.1:0"}) })
	require.NoError(t, server.err)
	return server.url + "parley_" + strings.ToLower(rand.Text()[:16])
}

// at opens a store on the database at url. What it logs goes to log.
func at(t *testing.T, url string, log io.Writer) *mongostore.Store {
	t.Helper()
	s, err := mongostore.Open(t.Context(), url, mongostore.Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// open opens a migrated store on a database of its own, which is dropped in the end.
func open(t *testing.T) *mongostore.Store {
	t.Helper()
	url := database(t)
	t.Cleanup(func() {
		client, err := mongo.Connect(options.Client().ApplyURI(url))
		require.NoError(t, err)
		ctx := context.WithoutCancel(t.Context())
		assert.NoError(t, client.Database(url[strings.LastIndexByte(url, '/')+1:]).Drop(ctx))
		assert.NoError(t, client.Disconnect(ctx))
	})
	s := at(t, url, io.Discard)
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

func run[P any](t *testing.T, cases []contract.Case[P], port func(*mongostore.Store) P, exceptions ...contract.Exception) {
	contract.On(t, "mongostore", "FerretDB")
	contract.Run(t, cases, func(t *testing.T) P { return port(open(t)) }, exceptions...)
}

// notAtomic declares what FerretDB v1 cannot keep: of several updates that name the same state of a document, more
// than one may find it.
func notAtomic(names ...string) []contract.Exception {
	exceptions := make([]contract.Exception, len(names))
	for i, name := range names {
		exceptions[i] = contract.Except(name, "updates of one document are not atomic on FerretDB v1")
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
func messageStore(s *mongostore.Store) chat.MessageStore { return s.Messages() }
func rooms(s *mongostore.Store) chat.Rooms               { return s.Rooms() }
func members(s *mongostore.Store) chat.Members           { return s.Members() }

func TestOutboxOnFerretDB(t *testing.T)       { run(t, contract.Outbox(), users) }
func TestNoncesOnFerretDB(t *testing.T)       { run(t, contract.Nonces(), nonces) }
func TestMessageStoreOnFerretDB(t *testing.T) { run(t, contract.MessageStore(), messageStore) }
func TestRoomsOnFerretDB(t *testing.T)        { run(t, contract.Rooms(), rooms) }
func TestMembersOnFerretDB(t *testing.T)      { run(t, contract.Members(), members) }
func TestMailStatsOnFerretDB(t *testing.T)    { run(t, contract.MailStats(), mails) }

func TestUserRepositoryOnFerretDB(t *testing.T) {
	run(t, contract.UserRepository(), users, notAtomic("concurrent updates are not lost")...)
}

func TestSessionStoreOnFerretDB(t *testing.T) {
	run(t, contract.SessionStore(), sessions, notAtomic("one of several rotations wins")...)
}

func TestCodeStoreOnFerretDB(t *testing.T) {
	run(t, contract.CodeStore(), codes, notAtomic("one of several uses wins")...)
	run(t, contract.SignUps(), signUps, notAtomic("one of several confirmations wins")...)
}

func TestMailQueueOnFerretDB(t *testing.T) {
	run(t, contract.MailQueue(), mails,
		notAtomic("concurrent claims share the jobs", "concurrent claims of an ended lease", "concurrent settling is once")...)
}

func TestDeadLettersOnFerretDB(t *testing.T) {
	run(t, contract.DeadLetters(), mails, notAtomic("concurrent requeues are one")...)
}
