package power

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
)

// password is that of the databases, which listen on the loopback interface for as long as the campaign runs.
const password = "of-the-campaign"

// database is a server on the file system.
type database struct {
	*process
	url string
	// create makes an empty cluster. Nothing of it has to be durable.
	create func(ctx context.Context) error
}

// newDatabase returns the server of the campaign's store, nil for SQLite.
func (c *campaign) newDatabase(ctx context.Context) (*database, error) {
	if c.Store == "sqlite" {
		return nil, nil
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	// The folder of the server is its user's.
	files := filepath.Join(c.disk.Path(), "server")
	if err := os.Mkdir(files, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chown(files, nobody, nobody); err != nil {
		return nil, err
	}
	d := &database{process: &process{name: c.Store, log: filepath.Join(c.folder, c.Store+".log")}}
	if c.Store == "postgres" {
		err = c.postgres(d, address, files)
	} else {
		err = c.mariadb(d, address, files)
	}
	d.ready = func(ctx context.Context) error {
		if err := listening(address)(ctx); err != nil {
			return err
		}
		store, err := wire.OpenStore(ctx, config.Settings{Store: d.url}, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer store.Close()
		if err := store.Check(ctx); err != nil && !wire.SchemaOld(err) {
			return err
		}
		return nil
	}
	return d, err
}

// run runs a program that ends by itself, as nobody.
func run(ctx context.Context, program string, args ...string) error {
	cmd := unprivileged(exec.CommandContext(ctx, program, args...)) //nolint:gosec // a program that is installed
	cmd.Env = environment()
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, tail(string(out)))
	}
	return nil
}

func (c *campaign) postgres(d *database, address, files string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	folders := []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin"}
	initdb, err := programIn("initdb", folders...)
	if err != nil {
		return err
	}
	server, err := programIn("postgres", folders...)
	if err != nil {
		return err
	}
	data := filepath.Join(files, "data")
	d.url = fmt.Sprintf("postgres://parley:%s@%s/postgres", password, address)
	d.create = func(ctx context.Context) error {
		secret := filepath.Join(c.folder, "password")
		if err := os.WriteFile(secret, []byte(password+"\n"), 0o644); err != nil { //nolint:gosec // the server's user reads it
			return err
		}
		return run(ctx, initdb, "--pgdata="+data, "--username=parley", "--pwfile="+secret, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	}
	d.command = func() *exec.Cmd {
		return unprivileged(exec.Command(server, "-D", data, "-h", host, "-p", port, //nolint:noctx // it is killed
			"-c", "unix_socket_directories=", "-c", "max_connections=100", "-c", "shared_buffers=32MB",
			"-c", c.Setting,
			// Checkpoints come often enough to be cut.
			"-c", "checkpoint_timeout=30s", "-c", "max_wal_size=64MB", "-c", "fsync=on", "-c", "full_page_writes=on"))
	}
	// The processes of its connections may let go of the shared memory a moment after it was killed.
	d.passing = func(log string) bool { return strings.Contains(log, "still in use") }
	return nil
}

func (c *campaign) mariadb(d *database, address, files string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	install, err := programIn("mariadb-install-db", "/usr/bin")
	if err != nil {
		return err
	}
	server, err := programIn("mariadbd", "/usr/sbin", "/usr/libexec")
	if err != nil {
		return err
	}
	// What a machine that boots would have made anew is not on the file system.
	temporary := filepath.Join(c.folder, "mariadb")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return err
	}
	if err := os.Chown(temporary, nobody, nobody); err != nil {
		return err
	}
	users := filepath.Join(temporary, "users.sql")
	script := fmt.Sprintf("CREATE USER IF NOT EXISTS 'parley'@'127.0.0.1' IDENTIFIED BY '%s';\n"+
		"GRANT ALL ON *.* TO 'parley'@'127.0.0.1';\nCREATE DATABASE IF NOT EXISTS parley;\n", password)
	if err := os.WriteFile(users, []byte(script), 0o644); err != nil { //nolint:gosec // the server reads it as nobody
		return err
	}
	data := filepath.Join(files, "data")
	d.url = fmt.Sprintf("mysql://parley:%s@%s/parley", password, address)
	d.create = func(ctx context.Context) error {
		return run(ctx, install, "--no-defaults", "--datadir="+data, "--tmpdir="+temporary,
			"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
	}
	first := true
	d.command = func() *exec.Cmd {
		args := []string{
			"--no-defaults", "--datadir=" + data, "--tmpdir=" + temporary, "--bind-address=" + host, "--port=" + port,
			"--socket=" + filepath.Join(temporary, "socket"), "--pid-file=" + filepath.Join(temporary, "pid"),
			"--skip-name-resolve", "--max-connections=100", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M",
			"--" + strings.ReplaceAll(c.Setting, "_", "-"),
		}
		if first {
			args = append(args, "--init-file="+users)
			first = false
		}
		return unprivileged(exec.Command(server, args...)) //nolint:noctx // it is killed
	}
	return nil
}
