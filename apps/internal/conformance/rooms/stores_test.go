// Package rooms_test holds, on every store, what clients and operators are promised of rooms: that who was away sees what is stored, that what is unread is
// exact, and that what was erased is gone. Tests are small, and as large as a flag says.
package rooms_test

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/testkit/servers"
)

// store is a kind of store.
type store struct {
	name string
	open func(*testing.T) parley.Ports // an empty one
	// slow divides how much is asked of a store that takes very long for it.
	slow int
}

var stores = []store{
	{"memory", func(*testing.T) parley.Ports { return memory.NewStore().Ports() }, 1},
	{"SQLite", sqlite, 1},
	{"PostgreSQL", onServer(servers.Postgres, bunstore.OpenPostgres), 1},
	{"MariaDB", onServer(servers.MySQL, bunstore.OpenMySQL), 1},
	{"mongo-java-server", func(t *testing.T) parley.Ports { return onMongo(t, servers.Mongo(t, drop)) }, 1},
	{"FerretDB", func(t *testing.T) parley.Ports { return onMongo(t, ferret(t)) }, 20},
}

// onStores runs test on every kind of store.
func onStores(t *testing.T, test func(t *testing.T, s store)) {
	t.Parallel()
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			if testing.Short() && s.name != "memory" {
				t.Skip("skipped by -short: only on memory")
			}
			t.Parallel()
			test(t, s)
		})
	}
}

func sqlite(t *testing.T) parley.Ports {
	s, err := bunstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "parley.db"), bunstore.SQLiteConfig{})
	require.NoError(t, err)
	return migrated(t, s)
}

func onServer(fresh func(testing.TB) string, open func(context.Context, string, bunstore.Config) (*bunstore.Store, error)) func(*testing.T) parley.Ports {
	return func(t *testing.T) parley.Ports {
		s, err := open(t.Context(), fresh(t), bunstore.Config{})
		require.NoError(t, err)
		return migrated(t, s)
	}
}

func onMongo(t *testing.T, url string) parley.Ports {
	s, err := mongostore.Open(t.Context(), url, mongostore.Config{})
	require.NoError(t, err)
	return migrated(t, s)
}

// migrated brings the schema of a store up to date, and closes the store in the end.
func migrated(t *testing.T, s interface {
	Migrate(context.Context) error
	Close() error
	Ports() parley.Ports
},
) parley.Ports {
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s.Ports()
}

// drop removes a database of a Mongo wire server.
func drop(ctx context.Context, url string) error {
	at, err := connstring.ParseAndValidate(url)
	if err != nil {
		return err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		return err
	}
	return errors.Join(client.Database(at.Database).Drop(ctx), client.Disconnect(ctx))
}

// ferret is a database of a FerretDB in this process, which keeps it in files of SQLite. It ends with t.
func ferret(t testing.TB) string {
	t.Helper()
	f, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{TCP: "127.0.0.1:0"}, Handler: "sqlite",
		SQLiteURL: "file:" + t.TempDir() + "/?_pragma=synchronous(off)", // nobody pulls the plug
		Logger:    slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) }) // it is stopped
	t.Cleanup(func() { stop(); running.Wait() })
	return f.MongoDBURI() + "parley_" + strings.ToLower(rand.Text()[:16])
}
