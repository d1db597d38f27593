package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// MongoServer is a mongo-java-server that belongs to one test, so that the test may stop it in every way there is. It
// has every write in its file before it answers. It is not MongoDB: it has no users, no TLS, no
// transactions, and does not enforce validators. Its methods fail the test; they are not for several goroutines at once.
type MongoServer struct {
	// URL names a database that is empty at first.
	URL string
	// Addr is host:port. It stays the same over a restart.
	Addr string

	java, classes, files string
	process              *os.Process
	exited               chan struct{} // closed when process has ended
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
	mongoShared.once.Do(func() { mongoShared.server, mongoShared.err = startMongo(java, classes) })
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
	s, err := startMongo(java, classes)
	if err != nil {
		t.Fatalf("servers: start mongo-java-server: %v", err)
	}
	t.Cleanup(func() { s.Kill(t) })
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

// startMongo serves a folder of its own. A watcher process ends the server and removes the folder when
// this process has ended, in whatever way.
func startMongo(java, classes string) (s *MongoServer, err error) {
	files, err := os.MkdirTemp("", "parley-mongo-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err == nil {
		err = watch(filepath.Join(files, "pid"), files)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(files))
	}
	s = &MongoServer{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), java: java, classes: classes, files: files}
	s.URL = "mongodb://" + s.Addr + "/parley"
	return s, s.serve()
}

// serve starts the server and waits until it answers.
func (s *MongoServer) serve() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.files, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(s.java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", s.classes, "Server", port, filepath.Join(s.files, "data"))
	cmd.Dir = s.files
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches the test only
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process, s.exited = cmd.Process, make(chan struct{})
	go func() {
		defer close(s.exited)
		_ = cmd.Wait() // it is killed
	}()
	if err := os.WriteFile(filepath.Join(s.files, "pid"), []byte(strconv.Itoa(s.process.Pid)), 0o600); err != nil {
		return errors.Join(err, s.process.Kill())
	}
	deadline := time.NewTimer(mongoPatience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialTimeout("tcp", s.Addr, mongoPatience)
		if err == nil {
			return conn.Close() // it listens when it is ready
		}
		select {
		case <-tick.C:
		case <-s.exited:
			out, _ := os.ReadFile(log.Name())
			return fmt.Errorf("it ended: %s", out)
		case <-deadline.C:
			return errors.Join(err, s.process.Kill())
		}
	}
}

// Kill ends the server at once, as a crash does. Killing it twice is harmless.
func (s *MongoServer) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("servers: kill mongo-java-server: %v", err)
	}
	<-s.exited
}

// Restart starts a server that was killed, on the same address and with what it had stored.
func (s *MongoServer) Restart(t testing.TB) {
	t.Helper()
	if err := s.serve(); err != nil {
		t.Fatalf("servers: restart mongo-java-server: %v", err)
	}
}

// Freeze stops the server where it is: connections stay open, and nothing answers.
// [MongoServer.Thaw] lets it go on.
func (s *MongoServer) Freeze(t testing.TB) {
	t.Helper()
	if err := suspend(s.process.Pid); err != nil {
		t.Fatalf("servers: freeze mongo-java-server: %v", err)
	}
}

// Thaw undoes Freeze.
func (s *MongoServer) Thaw(t testing.TB) { t.Helper(); s.signal(t, syscall.SIGCONT) }

func (s *MongoServer) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.process.Signal(sig); err != nil {
		t.Fatalf("servers: %s mongo-java-server: %v", sig, err)
	}
}
