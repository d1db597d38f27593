package local

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sqlPatience bounds the start of a server, and each statement of this package.
const sqlPatience = 60 * time.Second

// SQLServer is a database server.
type SQLServer struct {
	*Process

	// URL names a database that exists, with a user who may do everything.
	URL string
}

// SQLOptions is how [Postgres] and [MySQL] make a server.
type SQLOptions struct {
	// Data is a new folder for what it keeps. Default: one in the server's own.
	Data string
	// Args are further arguments of the server. They win over those of this package, with which a commit survives the end of the
	// server, and need not survive the loss of power. Default: none.
	Args []string
}

// sqlEngine is how one kind of server is set up and run.
type sqlEngine struct {
	name string
	// find returns the folder of the programs, or what is missing.
	find func() (string, error)
	// create makes an empty database in data, and what else it needs in files. None of it has to survive the loss of power.
	create func(ctx context.Context, programs, files, data string) []*exec.Cmd
	// serve is the command that serves it until it is killed.
	serve func(programs, files, data string, port int) *exec.Cmd
	// url names the database of the user parley, whose password is secret.
	url  func(port int) string
	open func(url string) (*sql.DB, error)
}

const sqlPassword = "s3cret-of-tests"

var postgresEngine = sqlEngine{
	name: "PostgreSQL",
	find: func() (string, error) {
		return ProgramsIn("initdb", "postgres", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
	},
	create: func(ctx context.Context, programs, files, data string) []*exec.Cmd {
		password := filepath.Join(files, "password")
		initdb := []string{
			// Without ICU the second attempt succeeds.
			"-c", `"$@" --locale=C.UTF-8 --locale-provider=icu --icu-locale=en-US || "$@" --locale=C.UTF-8`,
			"sh", filepath.Join(programs, "initdb"), "--pgdata=" + data, "--username=parley", "--pwfile=" + password,
			"--auth=scram-sha-256", "--encoding=UTF8", "--no-sync",
		}
		return []*exec.Cmd{
			exec.CommandContext(ctx, "/bin/sh", "-c", `echo "$0" > "$1"`, sqlPassword, password),
			exec.CommandContext(ctx, "/bin/sh", initdb...),
		}
	},
	serve: func(programs, _, data string, port int) *exec.Cmd {
		return exec.Command(filepath.Join(programs, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port),
			"-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "shared_buffers=32MB",
			// Not for the loss of power, but every commit survives the end of the process.
			"-c", "fsync=off", "-c", "full_page_writes=off")
	},
	url: func(port int) string {
		return fmt.Sprintf("postgres://parley:%s@127.0.0.1:%d/postgres", sqlPassword, port)
	},
	open: OpenPostgres,
}

var mysqlEngine = sqlEngine{
	name: "MariaDB",
	find: func() (string, error) {
		if _, err := ProgramsIn("mariadb-install-db", "mariadb-install-db", "/usr/bin"); err != nil {
			return "", err
		}
		return ProgramsIn("mariadbd", "mariadbd", "/usr/sbin", "/usr/libexec")
	},
	create: func(ctx context.Context, programs, files, data string) []*exec.Cmd {
		users := exec.CommandContext(ctx, filepath.Join(programs, "mariadbd"), "--no-defaults", "--bootstrap", "--datadir="+data, "--tmpdir="+files)
		// What is about users is refused until those that exist have been read.
		users.Stdin = strings.NewReader(fmt.Sprintf("FLUSH PRIVILEGES;\nCREATE USER 'parley'@'127.0.0.1' IDENTIFIED BY '%s';\n"+
			"GRANT ALL ON *.* TO 'parley'@'127.0.0.1' WITH GRANT OPTION;\nCREATE DATABASE parley;\n", sqlPassword))
		return []*exec.Cmd{
			exec.CommandContext(ctx, "mariadb-install-db", "--no-defaults", "--datadir="+data, "--tmpdir="+files,
				"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
			users,
		}
	},
	serve: func(programs, files, data string, port int) *exec.Cmd {
		return exec.Command(filepath.Join(programs, "mariadbd"), "--no-defaults", "--datadir="+data, "--tmpdir="+files,
			"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--socket="+filepath.Join(files, "socket"),
			"--pid-file="+filepath.Join(files, "pid"), "--skip-name-resolve",
			"--max-connections=200", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=32M",
			// Not for the loss of power, but every commit survives the end of the process.
			"--innodb-flush-log-at-trx-commit=2")
	},
	url:  func(port int) string { return fmt.Sprintf("mysql://parley:%s@127.0.0.1:%d/parley", sqlPassword, port) },
	open: OpenMySQL,
}

// Postgres makes a server with an empty cluster, before ctx ends. Where PostgreSQL is not installed, the error is ErrMissing. The
// program has to have the driver "pgx" of database/sql.
func Postgres(ctx context.Context, o SQLOptions) (*SQLServer, error) {
	return newSQL(ctx, &postgresEngine, o)
}

// MySQL is like [Postgres], for MariaDB, with the driver "mysql".
func MySQL(ctx context.Context, o SQLOptions) (*SQLServer, error) {
	return newSQL(ctx, &mysqlEngine, o)
}

func newSQL(ctx context.Context, engine *sqlEngine, o SQLOptions) (s *SQLServer, err error) {
	programs, err := engine.find()
	if err != nil {
		return nil, err
	}
	process, err := New(engine.name, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(process.folder))
		}
	}()
	data := cmp.Or(o.Data, process.File("data"))
	if err := os.Mkdir(data, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(data, Nobody, Nobody); err != nil {
			return nil, err
		}
	}
	for _, cmd := range engine.create(ctx, programs, process.folder, data) {
		Unprivileged(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out)
		}
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	s = &SQLServer{Process: process, URL: engine.url(port)}
	process.Patience, process.Forks = sqlPatience, true
	process.Command = func() (*exec.Cmd, error) {
		cmd := engine.serve(programs, process.folder, data, port)
		cmd.Args = append(cmd.Args, o.Args...)
		Unprivileged(cmd)
		return cmd, nil
	}
	process.Ready = func(ctx context.Context) error {
		db, err := engine.open(s.URL)
		if err != nil {
			return err
		}
		return errors.Join(db.PingContext(ctx), db.Close())
	}
	// A killed process may let go of the shared memory a moment after it was killed, and until
	// then PostgreSQL does not start.
	process.Passing = func(err error) bool { return strings.Contains(err.Error(), "still in use") }
	return s, nil
}

// OpenPostgres opens the database at a URL. The driver is one that whoever wants a database imports anyway: this package must
// not bring it to those that want something else.
func OpenPostgres(base string) (*sql.DB, error) {
	return registered(sql.Open("pgx", base))("github.com/jackc/pgx/v5/stdlib")
}

// OpenMySQL opens the database at a URL of Parley.
func OpenMySQL(base string) (*sql.DB, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "3306")
	}
	password, _ := u.User.Password()
	dsn := fmt.Sprintf("%s:%s@tcp(%s)/%s?tls=preferred", u.User.Username(), password, address, strings.TrimPrefix(u.Path, "/"))
	return registered(sql.Open("mysql", dsn))("github.com/go-sql-driver/mysql")
}

// registered says what to import if a driver is missing.
func registered(db *sql.DB, err error) func(driver string) (*sql.DB, error) {
	return func(driver string) (*sql.DB, error) {
		if err != nil {
			return nil, fmt.Errorf("%w; import %s", err, driver)
		}
		return db, nil
	}
}
