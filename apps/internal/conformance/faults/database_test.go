package faults_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/testkit/faultproxy"
	"github.com/parley-chat/parley/testkit/servers"
)

// lockVariable makes this binary a process that keeps the SQLite file it names to itself until its input ends.
const lockVariable = "PARLEY_FAULTS_LOCK"

// lockFile is that process. It returns its exit code.
func lockFile(file string) int {
	db, err := sql.Open("sqlite", "file:"+file+"?_busy_timeout=10000")
	if err == nil {
		defer db.Close()
		db.SetMaxOpenConns(1)
		if _, err = db.Exec("BEGIN EXCLUSIVE"); err == nil {
			fmt.Println("locked")
			_, _ = bufio.NewReader(os.Stdin).ReadByte()
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// alone is the all-in-one on one database, with the world's means to use it.
func alone(t *testing.T, mails *mailserver.Server, env ...string) *world {
	t.Helper()
	env = append([]string{"PARLEY_MAIL_SENDER=" + mails.URL(), "PARLEY_MAIL_BURST=100000", "PARLEY_SIGNIN_BURST=100000", "PARLEY_SOCKET_RATE=-1"}, env...)
	p := stack.Run(t, config.Parley, env...)
	p.AwaitReady(t)
	return &world{t: t, Services: &stack.Services{Auth: p}, mails: mails, ctx: t.Context(), signed: map[string]bool{}}
}

// comes waits until what must come about has, and returns how long it took.
func comes(t *testing.T, what string, holds func(ctx context.Context) bool) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !holds(ctx) {
		select {
		case <-time.After(aWhile):
		case <-ctx.Done():
			t.Fatalf("it does not come about that %s", what)
		}
	}
	return time.Since(began)
}

// says waits until /readyz names exactly these.
func (w *world) says(names ...string) time.Duration {
	w.t.Helper()
	return comes(w.t, fmt.Sprintf("/readyz names %v", names), func(ctx context.Context) bool {
		down, ok := w.down(ctx, w.Auth)
		return ok && slices.Equal(down, names)
	})
}

// refused lets somebody sign up who must be told that it cannot be now, while the process lives.
func (w *world) refused() {
	w.t.Helper()
	_, accepted := w.signUp()
	require.False(w.t, accepted, "a sign-up was accepted that cannot be stored")
	a, err := w.do(w.t.Context(), w.Auth.URL, "/livez", nil)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, a.status)
}

// A database takes no writes for a while, and every session that begins meanwhile keeps to that. /readyz names it; when it
// takes writes again, so does the program.
func TestDatabaseThatTookNoWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		start     func(testing.TB) *servers.SQLServer
		driver    string
		dsn       func(*testing.T, string) string
		off, back []string
	}{
		{
			"PostgreSQL", servers.StartPostgres, "pgx", func(_ *testing.T, raw string) string { return raw },
			[]string{
				`ALTER DATABASE parley SET default_transaction_read_only = on`,
				`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'parley'`,
			},
			[]string{`ALTER DATABASE parley RESET default_transaction_read_only`},
		},
		{"MariaDB", servers.StartMySQL, "mysql", dsn, []string{`SET GLOBAL read_only = ON`}, []string{`SET GLOBAL read_only = OFF`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := c.start(t)
			admin := c.dsn(t, db.URL)
			store := inDatabase(t, db.URL, "parley")
			if c.name == "PostgreSQL" {
				create(t, c.driver, admin, "CREATE DATABASE parley")
			} else { // a user whom read_only concerns
				create(t, c.driver, admin, `CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app'`)
				create(t, c.driver, admin, `GRANT ALL ON parley.* TO app@'127.0.0.1'`)
				u, err := url.Parse(store)
				require.NoError(t, err)
				u.User = url.UserPassword("app", "app")
				store = u.String()
			}
			w := alone(t, mailserver.Start(t), "PARLEY_STORE="+store)
			_, accepted := w.signUp()
			require.True(t, accepted)
			for _, statement := range c.off {
				create(t, c.driver, admin, statement)
			}
			named := w.says("database")
			for range 5 {
				w.refused()
			}
			for _, statement := range c.back {
				create(t, c.driver, admin, statement)
			}
			again := w.says()
			for range 20 {
				_, accepted = w.signUp()
				require.True(t, accepted, "a connection of before is still used")
			}
			t.Logf("/readyz named it after %v, and was well after %v", named.Round(time.Millisecond), again.Round(time.Millisecond))
		})
	}
}

// The disk under SQLite is full, and another process keeps the file locked.
func TestSQLiteThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		dir := servers.SmallDisk(t, 4<<20)
		w := alone(t, mailserver.Start(t), "PARLEY_STORE=sqlite:"+filepath.Join(dir, "parley.db"))
		_, accepted := w.signUp()
		require.True(t, accepted)
		fill := filepath.Join(dir, "fill")
		f, err := os.Create(fill)
		require.NoError(t, err)
		defer f.Close()
		named := comes(t, "/readyz names the database", func(ctx context.Context) bool {
			for size := 1 << 20; size > 0; size /= 2 { // also what the program has given back meanwhile
				for err = nil; err == nil; _, err = f.Write(make([]byte, size)) {
				}
			}
			w.signUp() // until the log has no room either
			down, ok := w.down(ctx, w.Auth)
			return ok && slices.Equal(down, []string{"database"})
		})
		w.refused()
		require.NoError(t, os.Remove(fill))
		require.NoError(t, f.Close())
		again := w.says()
		_, accepted = w.signUp()
		require.True(t, accepted)
		t.Logf("/readyz named it after %v, and was well after %v", named.Round(time.Millisecond), again.Round(time.Millisecond))
	})
	t.Run("locked", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "parley.db")
		w := alone(t, mailserver.Start(t), "PARLEY_STORE=sqlite:"+file)
		holder := exec.Command(os.Args[0])
		holder.Env = append(os.Environ(), lockVariable+"="+file)
		holder.Stderr = os.Stderr
		end, err := holder.StdinPipe()
		require.NoError(t, err)
		said, err := holder.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, holder.Start())
		line, err := bufio.NewReader(said).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "locked\n", line)
		named := w.says("database")
		w.refused()
		require.NoError(t, end.Close())
		require.NoError(t, holder.Wait())
		again := w.says()
		_, accepted := w.signUp()
		require.True(t, accepted)
		t.Logf("/readyz named it after %v, and was well after %v", named.Round(time.Millisecond), again.Round(time.Millisecond))
	})
}

// One node is frozen while it stores messages, on MariaDB in the middle of a transaction, so that the database waits for it with
// the room locked. The room goes on at the other node while the first is frozen. On PostgreSQL no message waits with a lock.
func TestNodeFrozenInATransaction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		start func(testing.TB) *servers.SQLServer
		// holding counts the transactions in which nothing happens.
		driver, holding string
		dsn             func(*testing.T, string) string
		// never says that there are none.
		never bool
	}{
		{
			"PostgreSQL", servers.StartPostgres, "pgx",
			`SELECT COUNT(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a USING (pid)
				WHERE c.relname = 'parley_room_seqs' AND l.mode = 'RowExclusiveLock' AND a.state = 'idle in transaction'`,
			func(_ *testing.T, raw string) string { return raw }, true,
		},
		{
			"MariaDB", servers.StartMySQL, "mysql",
			`SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
				WHERE t.trx_rows_modified > 0 AND p.command = 'Sleep'`,
			dsn, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := c.start(t)
			create(t, c.driver, c.dsn(t, db.URL), "CREATE DATABASE frozen")
			redis, mails := servers.Redis(t), mailserver.Start(t)
			shared := []string{"PARLEY_REDIS=" + redis, "PARLEY_REDIS_PREFIX=" + name() + ":"}
			var nodes [2]*world
			var proxies [2]*faultproxy.Proxy
			var clients [2]*wsclient.Client
			for i := range nodes {
				proxy, store := behind(t, inDatabase(t, db.URL, "frozen"))
				nodes[i] = alone(t, mails, append([]string{"PARLEY_STORE=" + store, fmt.Sprintf("PARLEY_NODE=%d", i)}, shared...)...)
				proxies[i] = proxy
				token := nodes[i].person(talker(i))
				client, err := wsclient.Dial(t.Context(), wsclient.Config{
					Inline: true, Rate: -1,
					URL: nodes[i].Auth.SocketURL(), MaxPause: time.Second, Token: func(context.Context) (string, error) { return token, nil },
				})
				require.NoError(t, err)
				t.Cleanup(client.Close)
				_, err = client.JoinSince(t.Context(), room, 0)
				require.NoError(t, err)
				clients[i], nodes[i].clients[0] = client, client
			}
			admin, err := sql.Open(c.driver, c.dsn(t, inDatabase(t, db.URL, "frozen")))
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, admin.Close()) })

			// Somebody talks at the first node until it is frozen at the right moment.
			talking, quiet := context.WithCancel(t.Context())
			silent := make(chan struct{})
			go func() {
				defer close(silent)
				for n := 0; talking.Err() == nil; n++ {
					_, _ = nodes[0].say(talking, 0, fmt.Sprintf("first-%d", n))
				}
			}()
			defer func() { quiet(); <-silent }()
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			// goesOn waits until the other node has stored a message in the room, and returns how long that took.
			goesOn := func(id string) time.Duration {
				began := time.Now()
				_, err := nodes[1].say(ctx, 0, id)
				require.NoError(t, err, "the room is held up for as long as the other node is frozen")
				return time.Since(began)
			}
			longest := time.Duration(0)
			for attempt, frozen := 0, false; !frozen; attempt++ {
				time.Sleep(time.Duration(attempt%17) * time.Millisecond) // at another moment each time
				proxies[0].Freeze(faultproxy.Both)
				time.Sleep(3 * aWhile) // what the server does takes less, and InnoDB looks no oftener than ten times a second
				var n int
				require.NoError(t, admin.QueryRowContext(ctx, c.holding).Scan(&n))
				switch {
				case c.never:
					require.Zero(t, n, "a message waits for the program with its room locked")
					longest = max(longest, goesOn(fmt.Sprintf("second-%d", attempt)))
					if frozen = attempt == 25; !frozen {
						proxies[0].Heal()
					}
				case n > 0:
					frozen, longest = true, goesOn("second")
				default:
					require.Less(t, attempt, 200, "it was never frozen in a transaction")
					proxies[0].Heal()
				}
			}
			t.Logf("the room went on after %v", longest.Round(time.Millisecond))
			proxies[0].Heal()
			_, err = nodes[1].say(ctx, 0, "third")
			require.NoError(t, err)
			comes(t, "the node that was frozen is ready", func(ctx context.Context) bool {
				down, ok := nodes[0].down(ctx, nodes[0].Auth)
				return ok && len(down) == 0
			})
			comes(t, "the node that was frozen carries messages", func(ctx context.Context) bool {
				_, err := nodes[0].say(ctx, 0, "back")
				return err == nil
			})
		})
	}
}
