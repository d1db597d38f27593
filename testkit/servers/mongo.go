package servers

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/testkit/local"
)

// The variables for [Mongo].
const (
	// MongoVariable names a server to use: mongodb://user:password@host:port, whose user must be allowed to
	// create and drop databases. A database in it is not used, but its parameters are.
	MongoVariable = "PARLEY_TEST_MONGO"
	// MongoJarsVariable names a folder with mongo-java-server, as .ci/mongo-jars fills it.
	MongoJarsVariable = "PARLEY_TEST_MONGO_JARS"
)

// mongoPatience bounds each call of this package.
const mongoPatience = 60 * time.Second

// Mongo returns the URL of a database that is empty. It is on the server that PARLEY_TEST_MONGO names, or on one that
// is started once for the test binary from the jars in PARLEY_TEST_MONGO_JARS and stopped when the binary ends: mongo-java-server,
// which is not MongoDB. Where there is neither, t is skipped. drop is called with the URL when t ends, and removes the
// database; it is the caller's, so that tests of other servers need no driver of this one. Nil is for tests that store nothing.
func Mongo(t testing.TB, drop func(ctx context.Context, url string) error) string {
	t.Helper()
	base := os.Getenv(MongoVariable)
	if base == "" {
		base = sharedMongo(t)
	}
	url := mongoDatabase(base, "parley_test_"+strings.ToLower(rand.Text()[:16]))
	if drop != nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), mongoPatience)
			defer cancel()
			if err := drop(ctx, url); err != nil {
				t.Errorf("servers: drop a database: %v", err)
			}
		})
	}
	return url
}

// mongoDatabase is the URL with this database. The user stays one of the database that the URL named, or of admin.
func mongoDatabase(base, name string) string {
	address, query, _ := strings.Cut(base, "?")
	scheme, address, _ := strings.Cut(address, "://")
	hosts, old, _ := strings.Cut(address, "/")
	if strings.Contains(hosts, "@") && !strings.Contains(query, "authSource=") {
		if old == "" {
			old = "admin"
		}
		query = strings.TrimPrefix(query+"&authSource="+old, "&")
	}
	url := scheme + "://" + hosts + "/" + name
	if query != "" {
		url += "?" + query
	}
	return url
}

// MongoServer is a mongo-java-server that belongs to one test. It has every write in its file before it answers. It
// is not MongoDB: it has no users, no TLS, no transactions, and does not enforce validators.
type MongoServer struct {
	*Process
	*local.MongoServer
}

var mongoShared struct {
	once   sync.Once
	server *local.MongoServer
	err    error
}

func sharedMongo(t testing.TB) string {
	t.Helper()
	notShort(t)
	jars := mongoJars(t)
	mongoShared.once.Do(func() {
		if mongoShared.server, mongoShared.err = local.Mongo(jars); mongoShared.err == nil {
			mongoShared.err = mongoShared.server.Start(context.Background())
		}
	})
	if mongoShared.err != nil {
		t.Fatalf("servers: start mongo-java-server: %v", mongoShared.err)
	}
	return mongoShared.server.URL
}

// StartMongo starts a server for t alone, from the jars in PARLEY_TEST_MONGO_JARS, and stops it when t ends. Where they are
// not named, t is skipped.
func StartMongo(t testing.TB) *MongoServer {
	t.Helper()
	notShort(t)
	s, err := local.Mongo(mongoJars(t))
	if err != nil {
		t.Fatalf("servers: start mongo-java-server: %v", err)
	}
	return &MongoServer{Process: startFor(t, s.Process), MongoServer: s}
}

// mongoJars returns the folder of jars, or skips t.
func mongoJars(t testing.TB) string {
	t.Helper()
	folder := os.Getenv(MongoJarsVariable)
	if folder == "" {
		t.Skipf("no Mongo wire server: set %s to the URL of a server, or %s to a folder that .ci/mongo-jars has filled", MongoVariable, MongoJarsVariable)
	}
	return folder
}
