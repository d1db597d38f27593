//go:build !linux

package servers

import "testing"

// MongoServer is a mongo-java-server that belongs to one test. Servers are started on Linux only.
type MongoServer struct {
	*Process
	URL, Addr string
}

// sharedMongo skips t: servers are started on Linux only.
func sharedMongo(t testing.TB) string {
	t.Helper()
	t.Skipf("mongo-java-server is started on Linux only; set %s to the URL of a server", MongoVariable)
	return ""
}

// StartMongo skips t: servers are started on Linux only.
func StartMongo(t testing.TB) *MongoServer {
	t.Helper()
	t.Skip("mongo-java-server is started on Linux only")
	return nil
}
