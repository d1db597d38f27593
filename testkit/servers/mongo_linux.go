package servers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// MongoServer is a mongo-java-server that belongs to one test. It has every write in its file before it answers. It
// is not MongoDB: it has no users, no TLS, no transactions, and does not enforce validators.
type MongoServer struct {
	*Process

	// URL names a database that is empty at first.
	URL string
	// Addr is host:port. It stays the same over a restart.
	Addr string

	java, classes string
}

var mongoShared struct {
	once   sync.Once
	server *MongoServer
	err    error
}

func sharedMongo(t testing.TB) string {
	t.Helper()
	notShort(t)
	java, classes := mongoPrograms(t)
	mongoShared.once.Do(func() {
		if mongoShared.server, mongoShared.err = newMongo(java, classes); mongoShared.err == nil {
			mongoShared.err = mongoShared.server.start()
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
	java, classes := mongoPrograms(t)
	s, err := newMongo(java, classes)
	if err != nil {
		t.Fatalf("servers: start mongo-java-server: %v", err)
	}
	s.startFor(t)
	return s
}

// mongoPrograms returns the path of java and the class path, or skips t.
func mongoPrograms(t testing.TB) (java, classes string) {
	t.Helper()
	folder := os.Getenv(MongoJarsVariable)
	if folder == "" {
		t.Skipf("no Mongo wire server: set %s to the URL of a server, or %s to a folder that .ci/mongo-jars has filled", MongoVariable, MongoJarsVariable)
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatalf("servers: %v", err)
	}
	if _, err := os.Stat(filepath.Join(folder, "Server.class")); err != nil {
		t.Fatalf("servers: %s names a folder without a server: fill it with .ci/mongo-jars", MongoJarsVariable)
	}
	if java, err = exec.LookPath("java"); err != nil {
		t.Fatalf("servers: %s is set, but there is no java to run it: %v", MongoJarsVariable, err)
	}
	return java, folder + string(os.PathListSeparator) + filepath.Join(folder, "*")
}

// newMongo makes a server with a folder of its own.
func newMongo(java, classes string) (*MongoServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	process, err := newProcess("mongo-java-server", false)
	if err != nil {
		return nil, err
	}
	s := &MongoServer{Process: process, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), java: java, classes: classes}
	s.URL = "mongodb://" + s.Addr + "/parley"
	process.command, process.ready, process.patience = s.serve, listening(s.Addr), mongoPatience // it listens when it is ready
	return s, nil
}

// serve is the command that serves until it is killed.
func (s *MongoServer) serve() (*exec.Cmd, error) {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", s.classes, "Server", port, s.file("data"))
	cmd.Dir = s.folder
	return cmd, nil
}
