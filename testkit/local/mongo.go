package local

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// MongoServer is a mongo-java-server. It has every write in its file before it answers. It
// is not MongoDB: it has no users, no TLS, no transactions, and does not enforce validators.
type MongoServer struct {
	*Process

	// URL names a database that is empty at first.
	URL string
	// Addr is host:port. It stays the same over a restart.
	Addr string

	java, classes string
}

// mongoPatience bounds the start of a server.
const mongoPatience = 60 * time.Second

// Mongo makes a server with a folder of its own, from the jars in a folder that .ci/mongo-jars has filled. Where there is no
// java, the error is ErrMissing.
func Mongo(folder string) (*MongoServer, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(folder, "Server.class")); err != nil {
		return nil, fmt.Errorf("%s is a folder without a server: fill it with .ci/mongo-jars", folder)
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, fmt.Errorf("the program java is %w", ErrMissing)
	}
	classes := folder + string(os.PathListSeparator) + filepath.Join(folder, "*")
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	process, err := New("mongo-java-server", false)
	if err != nil {
		return nil, err
	}
	s := &MongoServer{Process: process, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), java: java, classes: classes}
	s.URL = "mongodb://" + s.Addr + "/parley"
	process.Command, process.Ready, process.Patience = s.serve, Listening(s.Addr), mongoPatience // it listens when it is ready
	return s, nil
}

// serve is the command that serves until it is killed.
func (s *MongoServer) serve() (*exec.Cmd, error) {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", s.classes, "Server", port, s.File("data"))
	cmd.Dir = s.Folder()
	return cmd, nil
}
