package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// SQLServer is a database server that belongs to one test, so that the test may stop it in
// every way there is. Its methods fail the test; they are not for several goroutines at once.
type SQLServer struct {
	// URL names a database that exists, with a user who may do everything.
	URL string

	engine  sqlEngine
	files   string // the program's own folder, of the unprivileged user
	port    int
	process *os.Process
	exited  chan struct{} // closed when process has ended
	frozen  []int
}

// sqlEngine is how one kind of server is set up and run.
type sqlEngine struct {
	name, variable string
	// find returns the folder of the programs, or what is missing.
	find func() (string, error)
	// create makes an empty cluster below files.
	create func(programs, files string) []*exec.Cmd
	// serve is the command that serves it until it is killed.
	serve func(programs, files string, port int) *exec.Cmd
	// url names the database of the user parley, whose password is secret.
	url  func(port int) string
	open func(url string) (*sql.DB, error)
	// pidFile is where the server keeps its process id in its first line, below files.
	pidFile string
}

const sqlPassword = "s3cret-of-tests"

var postgresEngine = sqlEngine{
	name: "PostgreSQL", variable: PostgresVariable,
	find: func() (string, error) {
		return programsIn("initdb", "postgres", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
	},
	create: func(programs, files string) []*exec.Cmd {
		password := filepath.Join(files, "password")
		initdb := []string{
			// Without ICU the second attempt succeeds.
			"-c", `"$@" --locale=C.UTF-8 --locale-provider=icu --icu-locale=en-US || "$@" --locale=C.UTF-8`,
			"sh", filepath.Join(programs, "initdb"), "--pgdata=" + filepath.Join(files, "data"), "--username=parley", "--pwfile=" + password,
			"--auth=scram-sha-256", "--encoding=UTF8", "--no-sync",
		}
		return []*exec.Cmd{
			exec.Command("/bin/sh", "-c", `echo "$0" > "$1"`, sqlPassword, password),
			exec.Command("/bin/sh", initdb...),
		}
	},
	serve: func(programs, files string, port int) *exec.Cmd {
		return exec.Command(filepath.Join(programs, "postgres"), "-D", filepath.Join(files, "data"), "-h", "127.0.0.1", "-p", strconv.Itoa(port),
			"-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "shared_buffers=32MB",
			// Not for the loss of power, but every commit survives the end of the process.
			"-c", "fsync=off", "-c", "full_page_writes=off")
	},
	url: func(port int) string {
		return fmt.Sprintf("postgres://parley:%s@127.0.0.1:%d/postgres", sqlPassword, port)
	},
	open:    openPostgres,
	pidFile: "data/postmaster.pid",
}

var mysqlEngine = sqlEngine{
	name: "MariaDB", variable: MySQLVariable,
	find: func() (string, error) {
		if _, err := programsIn("mariadb-install-db", "mariadb-install-db", "/usr/bin"); err != nil {
			return "", err
		}
		return programsIn("mariadbd", "mariadbd", "/usr/sbin", "/usr/libexec")
	},
	create: func(_, files string) []*exec.Cmd {
		users := filepath.Join(files, "users.sql")
		script := fmt.Sprintf("CREATE USER IF NOT EXISTS 'parley'@'127.0.0.1' IDENTIFIED BY '%s';\n"+
			"GRANT ALL ON *.* TO 'parley'@'127.0.0.1' WITH GRANT OPTION;\nCREATE DATABASE IF NOT EXISTS parley;\n", sqlPassword)
		return []*exec.Cmd{
			exec.Command("/bin/sh", "-c", `printf %s "$0" > "$1"`, script, users),
			exec.Command("mariadb-install-db", "--no-defaults", "--datadir="+filepath.Join(files, "data"), "--tmpdir="+files,
				"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
		}
	},
	serve: func(programs, files string, port int) *exec.Cmd {
		return exec.Command(filepath.Join(programs, "mariadbd"), "--no-defaults", "--datadir="+filepath.Join(files, "data"), "--tmpdir="+files,
			"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--socket="+filepath.Join(files, "socket"),
			"--pid-file="+filepath.Join(files, "pid"), "--init-file="+filepath.Join(files, "users.sql"), "--skip-name-resolve",
			"--max-connections=200", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
			// Not for the loss of power, but every commit survives the end of the process.
			"--innodb-flush-log-at-trx-commit=2")
	},
	url:     func(port int) string { return fmt.Sprintf("mysql://parley:%s@127.0.0.1:%d/parley", sqlPassword, port) },
	open:    openMySQL,
	pidFile: "pid",
}

// programsIn returns the folder that has the first program and the second: where the search
// path finds it, or the last of what the patterns match, which is the newest version.
func programsIn(first, second string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(first); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			patterns = append([]string{filepath.Dir(path)}, patterns...)
		}
	}
	for _, pattern := range patterns {
		folders, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, folder := range slices.Backward(folders) {
			if _, err := exec.LookPath(filepath.Join(folder, first)); err != nil {
				continue
			}
			if _, err := exec.LookPath(filepath.Join(folder, second)); err == nil {
				return folder, nil
			}
		}
	}
	return "", fmt.Errorf("the program %s is not installed", first)
}

// sharedServer is one for a whole test binary.
type sharedServer struct {
	engine *sqlEngine
	once   sync.Once
	url    string
	// missing says why there is none; err, why the start failed.
	missing, err error
}

var (
	sharedPostgres = sharedServer{engine: &postgresEngine}
	sharedMySQL    = sharedServer{engine: &mysqlEngine}
)

// sharedSQL returns the URL of the server, which the first caller starts.
func sharedSQL(t testing.TB, s *sharedServer) string {
	t.Helper()
	notShort(t)
	s.once.Do(func() {
		programs, err := s.engine.find()
		if err != nil {
			s.missing = err
			return
		}
		var server *SQLServer
		if server, s.err = startSQL(s.engine, programs); s.err == nil {
			s.url = server.URL
		}
	})
	if s.missing != nil {
		t.Skipf("%s: %v; set %s to the URL of a server", s.engine.name, s.missing, s.engine.variable)
	}
	if s.err != nil {
		t.Fatalf("servers: start %s: %v", s.engine.name, s.err)
	}
	return s.url
}

// StartPostgres starts a server for t alone and stops it when t ends. Where PostgreSQL is
// not installed, t is skipped.
func StartPostgres(t testing.TB) *SQLServer { t.Helper(); return startFor(t, &postgresEngine) }

// StartMySQL is like [StartPostgres], for MariaDB.
func StartMySQL(t testing.TB) *SQLServer { t.Helper(); return startFor(t, &mysqlEngine) }

func startFor(t testing.TB, engine *sqlEngine) *SQLServer {
	t.Helper()
	notShort(t)
	programs, err := engine.find()
	if err != nil {
		t.Skipf("%s: %v", engine.name, err)
	}
	s, err := startSQL(engine, programs)
	if err != nil {
		t.Fatalf("servers: start %s: %v", engine.name, err)
	}
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// startSQL makes a cluster in a folder of its own and serves it. A watcher process ends the
// server and removes the folder when this process has ended, in whatever way.
func startSQL(engine *sqlEngine, programs string) (s *SQLServer, err error) {
	outer, err := os.MkdirTemp("", "parley-"+strings.ToLower(engine.name)+"-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(outer))
		}
	}()
	s = &SQLServer{engine: *engine, files: outer}
	if os.Geteuid() == 0 {
		if err := os.Chown(outer, nobody, nobody); err != nil {
			return nil, err
		}
	}
	for _, cmd := range engine.create(programs, s.files) {
		unprivileged(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out)
		}
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	s.URL = engine.url(s.port)
	if err := watch(filepath.Join(s.files, engine.pidFile), outer); err != nil {
		return nil, err
	}
	return s, s.serve(programs)
}

// nobody is an unprivileged user: database servers refuse to run as the superuser.
const nobody = 65534

// unprivileged makes cmd run as nobody if this process is the superuser's, with no output
// of its own and in a process group of its own, so that Ctrl-C reaches the test only.
func unprivileged(cmd *exec.Cmd) {
	cmd.Dir = os.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// watch starts a process that waits for the end of this one, then ends the server whose
// process id stands in pidFile and removes folder. The end is the end of its input, of
// which this process holds the other side until the system takes it away.
func watch(pidFile, folder string) error {
	// A killed PostgreSQL leaves the processes of its connections for a moment.
	cmd := exec.Command("/bin/sh", "-c",
		`cat > /dev/null; [ -f "$0" ] && kill -9 "$(head -n 1 "$0")"; sleep 0.2; rm -rf "$1" || { sleep 1; rm -rf "$1"; }`, pidFile, folder)
	unprivileged(cmd)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = nil // the folder's parent is not the server's
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	watched.Lock()
	defer watched.Unlock()
	watched.inputs = append(watched.inputs, input) // never closed by the garbage collector
	return nil
}

var watched struct {
	sync.Mutex
	inputs []io.Closer
}

// serve starts the program and waits until it answers.
func (s *SQLServer) serve(programs string) error {
	log, err := os.OpenFile(filepath.Join(s.files, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := s.engine.serve(programs, s.files, s.port)
	unprivileged(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process, s.exited = cmd.Process, make(chan struct{})
	go func() {
		defer close(s.exited)
		_ = cmd.Wait() // it is killed
	}()
	ctx, cancel := context.WithTimeout(context.Background(), sqlPatience)
	defer cancel()
	db, err := s.engine.open(s.URL)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing is pending
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			out, _ := os.ReadFile(log.Name())
			return fmt.Errorf("it ended: %s", out)
		case <-ctx.Done():
			_ = s.process.Kill()
			return err
		}
	}
}

// Kill ends the server at once, as a crash does: nothing is written any more. Killing it
// twice is harmless.
func (s *SQLServer) Kill(t testing.TB) {
	t.Helper()
	// Stopped first, so that it starts no processes while those it has are looked for.
	for _, pid := range append([]int{s.process.Pid}, s.stop(t)...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("servers: kill %d: %v", pid, err)
		}
	}
	s.frozen = nil
	<-s.exited
}

// Restart starts a server that was killed, on the same address and with what it had stored.
func (s *SQLServer) Restart(t testing.TB) {
	t.Helper()
	programs, err := s.engine.find()
	if err == nil {
		err = s.serve(programs)
	}
	// A killed process may let go of the shared memory a moment after it was killed, and until
	// then PostgreSQL does not start.
	for late := time.Now().Add(10 * time.Second); err != nil && strings.Contains(err.Error(), "still in use") && time.Now().Before(late); {
		time.Sleep(50 * time.Millisecond)
		err = s.serve(programs)
	}
	if err != nil {
		t.Fatalf("servers: restart %s: %v", s.engine.name, err)
	}
}

// Freeze stops the server's processes where they are: connections stay open, and nothing
// answers. [SQLServer.Thaw] lets them go on.
func (s *SQLServer) Freeze(t testing.TB) {
	t.Helper()
	s.frozen = append([]int{s.process.Pid}, s.stop(t)...)
}

// Thaw undoes Freeze.
func (s *SQLServer) Thaw(t testing.TB) {
	t.Helper()
	for _, pid := range s.frozen {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("servers: continue %d: %v", pid, err)
		}
	}
	s.frozen = nil
}

// stop sends SIGSTOP to the server and to its children, and returns the children.
func (s *SQLServer) stop(t testing.TB) []int {
	t.Helper()
	select {
	case <-s.exited:
		return nil
	default:
	}
	if err := suspend(s.process.Pid); err != nil {
		t.Fatalf("servers: stop %s: %v", s.engine.name, err)
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatalf("servers: %v", err)
	}
	var children []int
	for _, file := range stats {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state parent …, where the name may hold anything.
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || len(fields) < 2 || fields[1] != strconv.Itoa(s.process.Pid) {
			continue
		}
		if err := suspend(pid); err == nil {
			children = append(children, pid)
		}
	}
	return children
}
