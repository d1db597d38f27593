package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// SQLServer is a database server that belongs to one test.
type SQLServer struct {
	*Process

	// URL names a database that exists, with a user who may do everything.
	URL string
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
	open: openPostgres,
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
	url:  func(port int) string { return fmt.Sprintf("mysql://parley:%s@127.0.0.1:%d/parley", sqlPassword, port) },
	open: openMySQL,
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
		if server, s.err = newSQL(s.engine, programs); s.err == nil {
			s.url, s.err = server.URL, server.start()
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
	s, err := newSQL(engine, programs)
	if err != nil {
		t.Fatalf("servers: start %s: %v", engine.name, err)
	}
	s.startFor(t)
	return s
}

// newSQL makes a server with a cluster in a folder of its own.
func newSQL(engine *sqlEngine, programs string) (s *SQLServer, err error) {
	process, err := newProcess(engine.name, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(process.folder))
		}
	}()
	for _, cmd := range engine.create(programs, process.folder) {
		unprivileged(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s = &SQLServer{Process: process, URL: engine.url(port)}
	process.patience, process.forks = sqlPatience, true
	process.command = func() (*exec.Cmd, error) {
		cmd := engine.serve(programs, process.folder, port)
		unprivileged(cmd)
		return cmd, nil
	}
	process.ready = func(ctx context.Context) error {
		db, err := engine.open(s.URL)
		if err != nil {
			return err
		}
		return errors.Join(db.PingContext(ctx), db.Close())
	}
	// A killed process may let go of the shared memory a moment after it was killed, and until
	// then PostgreSQL does not start.
	process.passing = func(err error) bool { return strings.Contains(err.Error(), "still in use") }
	return s, nil
}
