package servers

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The variables for [Mongo].
const (
	// MongoVariable names a server to use: mongodb://user:password@host:port, whose user must be allowed to
	// create and drop databases. A database in it is not used, but its parameters are.
	MongoVariable = "PARLEY_TEST_MONGO"
	// MongoJarsVariable names a folder with mongo-java-server, as .ci/mongo-jars fills it.
	MongoJarsVariable = "PARLEY_MONGO_JARS"
)

// mongoPatience bounds the start of a server, and each call of this package.
const mongoPatience = 60 * time.Second

// Mongo returns the URL of a database that is empty, and dropped when t ends. It is on the server that
// PARLEY_TEST_MONGO names, or on one that is started once for the test binary from the jars in
// PARLEY_MONGO_JARS and stopped when the binary ends: mongo-java-server, which is not MongoDB. Where there is
// neither, t is skipped.
func Mongo(t testing.TB) string {
	t.Helper()
	base := os.Getenv(MongoVariable)
	if base == "" {
		base = sharedMongo(t)
	}
	name := "parley_test_" + strings.ToLower(rand.Text()[:16])
	t.Cleanup(func() {
		err := withMongo(base, func(ctx context.Context, c *mongo.Client) error { return c.Database(name).Drop(ctx) })
		if err != nil {
			t.Errorf("servers: drop a database: %v", err)
		}
	})
	return mongoDatabase(base, name)
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

func withMongo(url string, do func(context.Context, *mongo.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), mongoPatience)
	defer cancel()
	c, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		return err
	}
	defer func() { _ = c.Disconnect(ctx) }() // nothing is pending
	return do(ctx, c)
}
