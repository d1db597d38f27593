package bunstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// person is somebody whom nobody else is.
func person(id string) user.User {
	return user.User{ID: user.ID(id), FullName: "x", Email: user.Email(id + "@example.org")}
}

// crowd uses several connections at once, so that the pool has more than one.
func crowd(t *testing.T, s *bunstore.Store) {
	t.Helper()
	var wg sync.WaitGroup
	begun := make(chan struct{}, 5)
	all := make(chan struct{})
	db, _ := bunstore.Handles(s)
	for range cap(begun) {
		wg.Go(func() {
			conn, err := db.DB.Conn(t.Context())
			begun <- struct{}{}
			if !assert.NoError(t, err) {
				return
			}
			<-all
			assert.NoError(t, conn.Close())
		})
	}
	for range cap(begun) {
		<-begun
	}
	close(all)
	wg.Wait()
}

// administrator is a connection of somebody who may do everything, beside the store's.
func administrator(t *testing.T, e engine, at string) *sql.DB {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	if e.name == "PostgreSQL" {
		u.Path = "/postgres"
		db, err := sql.Open("pgx", u.String())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		return db
	}
	db, err := sql.Open("mysql", fmt.Sprintf("%s@tcp(%s)/", u.User.String(), u.Host))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// onceMore is how long a pool keeps connections at least that led to the wrong server.
const onceMore = 2 * time.Second

// Connections that were made while the database took no writes keep saying so when it does again. They are left
// at the first of them that says so.
func TestConnectionsOfAServerThatTookNoWritesAreLeft(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		server := e.start(t)
		s := e.at(t, server.URL)
		admin := administrator(t, e, server.URL)
		require.NoError(t, s.Users().Create(t.Context(), person("before")))
		crowd(t, s)
		switch e.name {
		case "PostgreSQL":
			execute(t, admin, `CREATE DATABASE elsewhere`,
				`ALTER DATABASE elsewhere SET default_transaction_read_only = off`,
				`ALTER DATABASE postgres SET default_transaction_read_only = on`,
				`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
		case "MariaDB":
			execute(t, admin, `SET GLOBAL tx_read_only = ON`)
			kill(t, admin)
		}
		crowd(t, s)
		for range 5 {
			require.ErrorIs(t, s.Users().Create(t.Context(), person("meanwhile")), fault.Unavailable)
		}
		require.ErrorIs(t, s.Ping(t.Context()), fault.Unavailable, "who asks whether it takes writes is told")
		crowd(t, s) // connections that were made meanwhile
		switch e.name {
		case "PostgreSQL":
			execute(t, admin, `SET default_transaction_read_only = off`, `ALTER DATABASE postgres RESET default_transaction_read_only`)
		case "MariaDB":
			execute(t, admin, `SET SESSION tx_read_only = OFF`, `SET GLOBAL tx_read_only = OFF`)
		}
		assert.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, onceMore, 10*time.Millisecond)
		for i := range 20 {
			require.NoError(t, s.Users().Create(t.Context(), person(fmt.Sprint("after", i))))
		}
	})
}

// kill ends every connection but one's own.
func kill(t *testing.T, admin *sql.DB) {
	t.Helper()
	rows, err := admin.QueryContext(t.Context(), `SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'parley'`)
	require.NoError(t, err)
	defer func() { assert.NoError(t, rows.Close()) }()
	var ids []int
	for rows.Next() {
		var id int
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	for _, id := range ids {
		execute(t, admin, fmt.Sprintf(`KILL CONNECTION %d`, id))
	}
}

// switchboard passes each new connection to the server that counts now, and leaves open ones where they are, as a
// name that was changed does.
type switchboard struct {
	address string
	to      atomic.Value // host:port
}

func newSwitchboard(t *testing.T, to string) *switchboard {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &switchboard{address: l.Addr().String()}
	b.to.Store(to)
	var wg sync.WaitGroup
	var open sync.Map
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		open.Range(func(c, _ any) bool { _ = c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", b.to.Load().(string))
			if err != nil {
				_ = client.Close()
				continue
			}
			for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
				open.Store(from, true)
				wg.Go(func() {
					_, _ = io.Copy(to, from)
					_, _ = client.Close(), server.Close()
				})
			}
		}
	})
	return b
}

// The name of the database leads to another server, and the old one goes on, and takes no writes: the first call
// that writes is answered by the new one.
func TestFailover(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		old, next := e.start(t), e.start(t)
		for _, server := range []*servers.SQLServer{old, next} {
			e.at(t, server.URL)
			if e.name == "MariaDB" { // a user whom read_only concerns
				execute(t, administrator(t, e, server.URL), `CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app'`, `GRANT ALL ON parley.* TO app@'127.0.0.1'`)
			}
		}
		at, err := url.Parse(old.URL)
		require.NoError(t, err)
		target, err := url.Parse(next.URL)
		require.NoError(t, err)
		board := newSwitchboard(t, at.Host)
		at.Host = board.address
		if e.name == "MariaDB" {
			at.User = url.UserPassword("app", "app")
		}
		s := e.at(t, at.String())
		require.NoError(t, s.Users().Create(t.Context(), person("old")))
		crowd(t, s)

		switch e.name {
		case "PostgreSQL":
			execute(t, administrator(t, e, old.URL), `ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`)
			require.Eventually(t, func() bool { // the server reloads when it gets round to it
				db, _ := bunstore.Handles(s)
				var value string
				return assert.NoError(t, db.QueryRowContext(t.Context(), "SHOW transaction_read_only").Scan(&value)) && value == "on"
			}, 10*time.Second, 10*time.Millisecond)
			crowd(t, s)
		case "MariaDB":
			execute(t, administrator(t, e, old.URL), `SET GLOBAL read_only = ON`)
		}
		// Each connection's server process hears of it when it gets round to it.
		lost := 0
		require.Eventually(t, func() bool {
			lost++
			return errors.Is(s.Users().Create(t.Context(), person(fmt.Sprint("lost", lost))), fault.Unavailable)
		}, 10*time.Second, time.Millisecond)
		board.to.Store(target.Host)
		assert.Eventually(t, func() bool {
			return s.Users().Create(t.Context(), person("new"), event.Event{ID: "e", Time: noon}) == nil
		}, onceMore, 10*time.Millisecond)
		_, err = s.Users().ByID(t.Context(), "old")
		require.ErrorIs(t, err, user.ErrNotFound, "reads are answered by the new server")
		for i := range 20 {
			require.NoError(t, s.Users().Create(t.Context(), person(fmt.Sprint(i))))
		}
		_, err = e.at(t, next.URL).Users().ByID(t.Context(), "new")
		require.NoError(t, err)
	})
}

// A transaction whose connection an operator ends before its commit is begun again, since nothing of it was done.
func TestCallsGoOnWhenTheirConnectionsAreEnded(t *testing.T) {
	t.Parallel()
	e := engines[0]
	server := e.start(t)
	s := e.at(t, server.URL)
	admin := administrator(t, e, server.URL)
	runs := 0
	_, err := s.Users().ByID(t.Context(), "u")
	require.ErrorIs(t, err, user.ErrNotFound)
	require.NoError(t, s.Users().Create(t.Context(), person("u")))
	_, err = s.Users().Update(t.Context(), "u", func(u *user.User) error {
		u.FullName = "changed"
		if runs++; runs == 1 {
			execute(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
		}
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 2, runs)
}

// Several hosts in the URL of PostgreSQL: the one that takes writes is used, wherever it stands.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	e := engines[0]
	one, two := e.start(t), e.start(t)
	hosts := make([]string, 2)
	var at *url.URL
	for i, server := range []*servers.SQLServer{one, two} {
		e.at(t, server.URL)
		u, err := url.Parse(server.URL)
		require.NoError(t, err)
		hosts[i], at = u.Host, u
	}
	// only lets one of them take writes.
	only := func(writer, reader *servers.SQLServer) {
		for server, value := range map[*servers.SQLServer]string{writer: "off", reader: "on"} {
			admin := administrator(t, e, server.URL)
			execute(t, admin, `ALTER SYSTEM SET default_transaction_read_only = `+value, `SELECT pg_reload_conf()`)
			require.Eventually(t, func() bool {
				var now string
				return assert.NoError(t, admin.QueryRowContext(t.Context(), "SHOW default_transaction_read_only").Scan(&now)) && now == value
			}, 10*time.Second, 10*time.Millisecond)
		}
	}
	only(two, one)
	for name, query := range map[string]string{"by default": "", "as asked for": "?target_session_attrs=read-write"} {
		at.Host, at.RawQuery = hosts[0]+","+hosts[1], ""
		s, err := e.open(t.Context(), at.String()+query, bunstore.Config{})
		require.NoError(t, err, name)
		require.NoError(t, s.Users().Create(t.Context(), person("first "+name)), name)
		require.NoError(t, s.Close())
	}
	s := e.at(t, at.String())
	crowd(t, s)
	only(one, two)
	// The demoted one may take some more before each of its sessions knows.
	there, n := e.at(t, one.URL).Users(), 0
	assert.Eventually(t, func() bool {
		n++
		who := person(fmt.Sprint("second", n))
		if s.Users().Create(t.Context(), who) != nil {
			return false
		}
		_, err := there.ByID(t.Context(), who.ID)
		return err == nil
	}, onceMore, 10*time.Millisecond)
	two.Kill(t)
	for i := range 20 {
		require.NoError(t, s.Users().Create(t.Context(), person(fmt.Sprint("third", i))))
	}
	one.Kill(t)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := s.Ping(soon)
	require.ErrorIs(t, err, fault.Unavailable)

	_, err = bunstore.OpenMySQL(t.Context(), "mysql://u:p@a:1,b:2/db", bunstore.Config{})
	require.ErrorContains(t, err, "more than one host")
}
