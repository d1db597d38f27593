package bunstore_test

import (
	"bytes"
	"context"
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
	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// The server is killed twice under load. Callers try again, as the port says, and in the end
// everything that was acknowledged is there, once, with the number that was acknowledged.
func TestServerIsKilledUnderLoad(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		server := e.start(t)
		stores := []*bunstore.Store{e.at(t, server.URL), e.at(t, server.URL)}
		const workers, enough = 3, 30 // batches that each worker must have stored after the last restart

		var restarted atomic.Bool
		var acknowledged, failures atomic.Int64
		var mu sync.Mutex
		stored := map[string]uint64{} // by message id
		var registered []string
		var wg sync.WaitGroup
		for i, s := range stores {
			for w := range workers {
				wg.Go(func() {
					for n, after := 0, 0; after < enough; n++ {
						batch := messages("r", ((i*workers)+w)*1_000_000+n*5, 5)
						batch[4].Room = fmt.Sprintf("own %d-%d", i, w)
						id := fmt.Sprintf("%d-%d-%d", i, w, n)
						person := user.User{ID: user.ID(id), FullName: "x", Email: user.Email(id)}
						for {
							got, err := s.Messages().Append(t.Context(), batch)
							if err == nil {
								// The answer to a lost commit is an error, and then a repetition.
								err = s.Users().Create(t.Context(), person, event.Event{ID: id, Time: noon})
							}
							if errors.Is(err, user.ErrEmailTaken) {
								err = nil
							}
							if err != nil {
								if !assert.ErrorIs(t, err, fault.Unavailable) {
									return
								}
								failures.Add(1)
								continue
							}
							mu.Lock()
							for _, m := range got {
								stored[m.ID] = m.Seq
							}
							registered = append(registered, id)
							mu.Unlock()
							break
						}
						acknowledged.Add(1)
						if restarted.Load() {
							after++
						}
					}
				})
			}
		}
		for range 2 {
			before := acknowledged.Load()
			require.Eventually(t, func() bool { return acknowledged.Load() >= before+20 }, 30*time.Second, time.Millisecond)
			server.Kill(t)
			server.Restart(t)
		}
		restarted.Store(true)
		wg.Wait()
		assert.Positive(t, failures.Load(), "nobody noticed the outage")

		s := e.at(t, server.URL)
		total := 0
		rooms := []string{"r"}
		for i := range stores {
			for w := range workers {
				rooms = append(rooms, fmt.Sprintf("own %d-%d", i, w))
			}
		}
		for _, room := range rooms {
			all, err := s.Messages().List(t.Context(), room, chat.Range{Limit: 1_000_000})
			require.NoError(t, err)
			for i, m := range all {
				require.EqualValues(t, i+1, m.Seq, "a gap in %s", room)
				require.Equal(t, stored[m.ID], m.Seq, "%s has another number than was acknowledged", m.ID)
			}
			total += len(all)
		}
		assert.Equal(t, len(stored), total, "messages that were acknowledged, and that are stored")
		pending, err := s.Outbox().Pending(t.Context(), 1_000_000)
		require.NoError(t, err)
		events := map[string]int{}
		for _, ev := range pending {
			events[ev.ID]++
		}
		for _, id := range registered {
			require.Equal(t, 1, events[id], "the event of %s", id)
			_, err := s.Users().ByID(t.Context(), user.ID(id))
			require.NoError(t, err)
		}
	})
}

// A server that stops in the middle of anything: calls end with their context.
func TestServerIsFrozen(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		server := e.start(t)
		s := e.at(t, server.URL)
		require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}))
		_, err := s.Messages().Append(t.Context(), messages("r", 0, 1))
		require.NoError(t, err)

		// Frozen between the statements of a transaction.
		soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err = s.Users().Update(soon, "u", func(u *user.User) error {
			u.FullName = "changed"
			server.Freeze(t)
			return nil
		}, event.Event{ID: "e", Time: noon})
		cancel()
		require.ErrorIs(t, err, fault.Unavailable)
		server.Thaw(t)
		u, err := s.Users().ByID(t.Context(), "u")
		require.NoError(t, err)
		assert.Equal(t, "x", u.FullName, "a call that failed before its commit stored something")

		// Frozen before the commit.
		soon, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		err = bunstore.Transact(soon, s, func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE parley_users SET created_at = 1")
			server.Freeze(t)
			return err
		})
		cancel()
		require.ErrorIs(t, err, fault.Unavailable)

		// Frozen before anything: more calls than there are connections.
		soon, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		for name, call := range everyCall(s) {
			wg.Go(func() { assert.ErrorIs(t, call(soon), fault.Unavailable, name) })
		}
		_, err = e.open(soon, server.URL, bunstore.Config{})
		require.ErrorIs(t, err, fault.Unavailable)
		wg.Wait()

		server.Thaw(t)
		got, err := s.Messages().Append(t.Context(), messages("r", 0, 2))
		require.NoError(t, err)
		assert.EqualValues(t, 2, got[1].Seq)
		server.Kill(t)
		for name, call := range everyCall(s) {
			assert.ErrorIs(t, call(t.Context()), fault.Unavailable, name)
		}
	})
}

// Servers that demand TLS, which those of the tests cannot do.
func TestServerDemandsTLS(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		server := e.start(t)
		db, _ := bunstore.Handles(e.at(t, server.URL))
		demand := map[string][]string{
			"PostgreSQL": {
				`DO $$ BEGIN EXECUTE format('COPY (SELECT %L) TO %L', 'hostssl all all all scram-sha-256', current_setting('hba_file')); END $$`,
				`SELECT pg_reload_conf()`,
			},
			"MariaDB": {`SET GLOBAL require_secure_transport = ON`},
		}[e.name]
		for _, statement := range demand {
			_, err := db.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		want := map[string]error{"PostgreSQL": bunstore.ErrTLS, "MariaDB": bunstore.ErrCredentials}[e.name]
		require.Eventually(t, func() bool { // the server reloads when it gets round to it
			s, err := e.open(t.Context(), server.URL, bunstore.Config{})
			if err == nil {
				assert.NoError(t, s.Close())
				return false
			}
			return errors.Is(err, want)
		}, 10*time.Second, 20*time.Millisecond)
	})
}

// A server that lets clients in and then says nothing more: opening ends all the same.
func TestServerFallsSilentBehindTheConnection(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		at, err := url.Parse(e.fresh(t))
		require.NoError(t, err)
		at.RawQuery = map[string]string{"PostgreSQL": "sslmode=disable", "MariaDB": "tls=false"}[e.name]
		at.Host = silentAfter(t, at.Host, "SELECT")
		s, err := e.open(t.Context(), at.String(), bunstore.Config{ConnectTimeout: 500 * time.Millisecond})
		if !assert.Error(t, err) {
			assert.NoError(t, s.Close())
		}
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.NotContains(t, err.Error(), "\n")
		password, _ := at.User.Password()
		assert.NotContains(t, err.Error(), password)
	})
}

// silentAfter is a proxy that passes on what a client says until it says the word, and nothing after that.
func silentAfter(t *testing.T, to, word string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() {
		assert.NoError(t, l.Close())
		close(done)
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if !assert.NoError(t, err) {
				return
			}
			wg.Go(func() { _, _ = io.Copy(client, server) })
			wg.Go(func() {
				defer func() { _ = client.Close() }()
				defer func() { _ = server.Close() }()
				for buffer := make([]byte, 4096); ; {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					if bytes.Contains(buffer[:n], []byte(word)) {
						<-done
						return
					}
					if _, err := server.Write(buffer[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}
