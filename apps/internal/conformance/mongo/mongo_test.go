// Package mongo_test runs adapters/mongostore on FerretDB, a Mongo wire server in the test's own process, which
// importers of the adapter should not have to download.
package mongo_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
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
)

// server is the one FerretDB of the test binary.
var server struct {
	once sync.Once
	url  string
	err  error
	stop func()
}

func TestMain(m *testing.M) {
	if flag.Parse(); testing.Short() {
		fmt.Println("skipped by -short: FerretDB would be started")
		return
	}
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

func ports(s *mongostore.Store) contract.Store {
	p := s.Ports()
	return contract.Store{
		Users: p.Users, Outbox: p.Outbox, Asides: p.Asides, Sessions: p.Sessions, Codes: p.Codes, SignUps: p.SignUps,
		Nonces: p.Nonces, Limiter: p.Limiter,
		MailQueue: p.MailQueue, DeadLetters: p.DeadLetters, MailStats: p.MailStats,
		Messages: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions, Blocks: p.Blocks, Settings: p.Settings, Directory: p.Directory, Audit: p.Audit, Factors: p.Factors, Pruner: p.Pruner,
	}
}

// TestContractOnFerretDB declares what FerretDB v1 cannot keep: of several updates that name the same state of a document,
// more than one may find it. It goes through a whole collection for every query, so that what takes many steps takes too long; it has four times the time of others.
func TestContractOnFerretDB(t *testing.T) {
	contract.On(t, "mongostore", "FerretDB")
	const notAtomic = "updates of one document are not atomic on FerretDB v1"
	exceptions := []contract.Exception{
		contract.Except("Standings", "a session and its user are two documents"),
		contract.Except("Marks/unread is exact after random steps", "FerretDB v1 goes through a whole collection for every query: 250 steps take longer than a case may"),
	}
	for _, name := range []string{
		"UserRepository/concurrent updates are not lost", "SessionStore/one of several rotations wins",
		"SessionStore/who comes too late to rotate sees the rotation",
		"CodeStore/one of several uses wins", "SignUps/one of several confirmations wins",
		"FactorStore/a code is taken once", "FactorStore/a recovery code is used once",
		"MailQueue/concurrent claims share the jobs", "MailQueue/concurrent claims of an ended lease", "MailQueue/concurrent settling is once",
		"DeadLetters/concurrent requeues are one", "Asides/concurrent replays are one", "Asides/a discard and a replay at once are one",
		"Limiter/concurrent attempts share the allowance", "Marks/concurrent marks end at the highest",
	} {
		exceptions = append(exceptions, contract.Except(name, notAtomic))
	}
	contract.RunStoreWithin(t, 4*contract.Deadline, func(t *testing.T) contract.Store { return ports(open(t)) }, exceptions...)
}

var (
	unreadSteps = flag.Int("unread.steps", 40, "random steps of TestUnreadOnFerretDB")
	unreadSeed  = flag.Uint64("unread.seed", 7, "what TestUnreadOnFerretDB draws by")
)

// The steps that are too many for the suite, as far as they go.
func TestUnreadOnFerretDB(t *testing.T) {
	p := open(t).Ports()
	c := contract.Unread(*unreadSeed, *unreadSteps)
	require.NoError(t, c.Check(t.Context(), contract.Reading{Marks: p.Marks, Members: p.Members, Messages: p.Messages}), c.Name)
}
