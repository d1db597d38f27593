package bunstore_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// engine is a kind of database server.
type engine struct {
	name  string
	fresh func(testing.TB) string // the URL of an empty database
	start func(testing.TB) *servers.SQLServer
	open  func(context.Context, string, bunstore.Config) (*bunstore.Store, error)
	// placeholders are those of so many messages in a prepared statement.
	placeholders func(rows int) string
}

var engines = []engine{
	{"PostgreSQL", servers.Postgres, servers.StartPostgres, bunstore.OpenPostgres, bunstore.PostgresRows},
	{"MariaDB", servers.MySQL, servers.StartMySQL, bunstore.OpenMySQL, bunstore.MySQLRows},
}

// onServers runs test on every kind of server.
func onServers(t *testing.T, test func(t *testing.T, e engine)) {
	t.Parallel()
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e)
		})
	}
}

// at returns a migrated store on the database at url.
func (e engine) at(t testing.TB, url string) *bunstore.Store {
	t.Helper()
	s, err := e.open(t.Context(), url, bunstore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// migrated returns a store on a database of its own.
func (e engine) migrated(t testing.TB) *bunstore.Store {
	t.Helper()
	return e.at(t, e.fresh(t))
}

// wipe empties every table, which is quicker than another database.
func (e engine) wipe(t testing.TB, s *bunstore.Store) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	for _, table := range []string{"users", "sign_ups", "sessions", "codes", "factors", "nonces", "limits", "rooms", "members", "restrictions", "blocks", "settings", "audit", "messages", "changes", "deletions", "reactions", "room_seqs", "outbox", "outbox_aside", "mail_jobs", "webhook_jobs"} {
		_, err := db.ExecContext(t.Context(), "DELETE FROM parley_"+table)
		require.NoError(t, err)
	}
}

// several returns stores on one migrated database, which stand for processes.
func (e engine) several(t *testing.T, n int) []*bunstore.Store {
	t.Helper()
	url := e.fresh(t)
	all := make([]*bunstore.Store, n)
	for i := range all {
		all[i] = e.at(t, url)
	}
	return all
}

func TestStoresAppendTogether(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 3)
		const workers, calls = 4, 8
		rooms := []string{"a", "b", "c", "d", "e"}
		var wg sync.WaitGroup
		var mu sync.Mutex
		fresh := map[string]int{} // new messages by room
		for i, s := range stores {
			for w := range workers {
				wg.Go(func() {
					for c := range calls {
						var batch []chat.Message
						for k := range rooms {
							room := rooms[(k*(w+1)+c)%len(rooms)] // each in an order of its own
							own := message(room, 1000*(i*workers+w)+c)
							shared := message(room, c) // everybody sends it
							shared.ID = own.ID + "-shared"
							batch = append(batch, own, shared)
						}
						got, err := s.Messages().Append(t.Context(), batch)
						if !assert.NoError(t, err) {
							return
						}
						mu.Lock()
						for _, m := range got {
							if !m.Repeated {
								fresh[m.Room]++
							}
						}
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		for _, room := range rooms {
			all, err := stores[0].Messages().List(t.Context(), room, chat.Range{Limit: 10_000})
			require.NoError(t, err)
			require.Len(t, all, fresh[room], "every answer that is not a repetition is one message")
			seen := map[string]bool{}
			for i, m := range all {
				require.EqualValues(t, i+1, m.Seq, "a gap in %s", room)
				require.False(t, seen[m.ClientID], "the message %s is there twice", m.ClientID)
				seen[m.ClientID] = true
			}
		}
	})
}

func TestEventsOfAnOpenTransactionAreNotOvertaken(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 2)
		first, second := event.Event{ID: "first", Time: noon}, event.Event{ID: "second", Time: noon}
		err := bunstore.Transact(t.Context(), stores[0], func(ctx context.Context, tx bun.Tx) error {
			if err := bunstore.PutEvents(ctx, stores[0], tx, first); err != nil {
				return err
			}
			soon, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
			defer cancel()
			err := stores[1].Users().Create(soon, user.User{ID: "u", FullName: "Ada", Email: "a@example.org"}, second)
			assert.ErrorIs(t, err, context.DeadlineExceeded, "a later event was committed before an earlier one")
			pending, err := stores[1].Outbox().Pending(ctx, 10)
			assert.Empty(t, pending)
			return err
		})
		require.NoError(t, err)
		require.NoError(t, stores[1].Users().Create(t.Context(), user.User{ID: "u", FullName: "Ada", Email: "a@example.org"}, second))
		pending, err := stores[0].Outbox().Pending(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, pending, 2)
		assert.Equal(t, []string{"first", "second"}, []string{pending[0].ID, pending[1].ID})
	})
}

// A reader that has seen a position never sees a lower one appear.
func TestOutboxAscendsInTheOrderOfCommits(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 3)
		const writers, each = 6, 15
		db, _ := bunstore.Handles(stores[0])
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				s := stores[w%len(stores)]
				for n := range each {
					id := fmt.Sprintf("%d-%d", w, n)
					assert.NoError(t, s.Users().Create(t.Context(), user.User{ID: user.ID(id), FullName: "x", Email: user.Email(id + "@example.org")},
						event.Event{ID: id, Key: fmt.Sprint(w), Time: noon}, event.Event{ID: id + "b", Key: fmt.Sprint(w), Time: noon}))
				}
			})
		}
		var done atomic.Bool
		go func() { wg.Wait(); done.Store(true) }()
		var last int64
		var order []string
		for finished := false; !finished; {
			finished = done.Load() // before reading, so that the last round sees everything
			var rows []struct {
				Position int64
				ID       string
			}
			require.NoError(t, db.NewSelect().Table("parley_outbox").Column("position", "id").OrderExpr("position").Scan(t.Context(), &rows))
			var ids []string
			for _, r := range rows {
				require.Greater(t, r.Position, last, "an event appeared behind one that was seen before")
				last = r.Position
				ids = append(ids, r.ID)
			}
			require.NoError(t, stores[0].Outbox().Published(t.Context(), ids...))
			order = append(order, ids...)
		}
		wg.Wait()
		require.Len(t, order, 2*writers*each)
		next := make([]int, writers)
		for i := 0; i < len(order); i += 2 {
			var w, n int
			_, err := fmt.Sscanf(order[i], "%d-%d", &w, &n)
			require.NoError(t, err)
			require.Equal(t, next[w], n, "out of order for one key")
			require.Equal(t, order[i]+"b", order[i+1], "the events of one commit stay together")
			next[w]++
		}
	})
}

func TestStoresClaimMailTogether(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 3)
		const jobs = 60
		for i := range jobs {
			require.NoError(t, stores[0].MailQueue().Enqueue(t.Context(), mail.Job{
				ID: fmt.Sprintf("j%02d", i), Key: fmt.Sprint(i), To: "a@example.org", RunAt: noon, CreatedAt: noon, UpdatedAt: noon,
			}))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		claimed := map[string]int{}
		for w := range 6 {
			wg.Go(func() {
				q := stores[w%len(stores)].MailQueue()
				last := ""
				for {
					j, ok, err := q.Claim(t.Context(), noon, time.Minute)
					if !assert.NoError(t, err) || !ok {
						return
					}
					assert.Greater(t, j.ID, last, "one worker's claims are in the order of enqueueing")
					last = j.ID
					assert.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Sent, At: noon}))
					mu.Lock()
					claimed[j.ID]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		assert.Len(t, claimed, jobs)
		for id, n := range claimed {
			assert.Equal(t, 1, n, id)
		}
	})
}

// A job that another transaction is about to take is passed over, not waited for.
func TestClaimDoesNotWait(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 2)
		for _, id := range []string{"a", "b"} {
			require.NoError(t, stores[0].MailQueue().Enqueue(t.Context(), mail.Job{ID: id, Key: id, RunAt: noon}))
		}
		err := bunstore.Transact(t.Context(), stores[0], func(ctx context.Context, tx bun.Tx) error {
			var position int64
			if err := tx.NewSelect().Table("parley_mail_jobs").Column("position").Where("id = 'a'").For("UPDATE").Scan(ctx, &position); err != nil {
				return err
			}
			soon, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			j, ok, err := stores[1].MailQueue().Claim(soon, noon, time.Minute)
			assert.True(t, ok)
			assert.Equal(t, "b", j.ID)
			return err
		})
		require.NoError(t, err)
		j, ok, err := stores[1].MailQueue().Claim(t.Context(), noon, time.Minute)
		require.NoError(t, err)
		assert.True(t, ok)
		assert.Equal(t, "a", j.ID)
	})
}

// Two transactions that lock two rows in opposite orders: the engine gives one up, and it
// begins again.
func TestDeadlockBeginsAgain(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		s := e.migrated(t)
		for _, id := range []user.ID{"a", "b"} {
			require.NoError(t, s.Users().Create(t.Context(), user.User{ID: id, FullName: "x", Email: user.Email(id)}))
		}
		var runs atomic.Int64
		met := make(chan struct{})
		transaction := func(first, second string) error {
			return bunstore.Transact(t.Context(), s, func(ctx context.Context, tx bun.Tx) error {
				for i, id := range []string{first, second} {
					if _, err := tx.ExecContext(ctx, "UPDATE parley_users SET created_at = created_at + 1 WHERE id = ?", id); err != nil {
						return err
					}
					if i == 0 {
						if runs.Add(1) == 2 {
							close(met) // each holds its first row
						}
						<-met
					}
				}
				return nil
			})
		}
		errs := make(chan error, 2)
		go func() { errs <- transaction("a", "b") }()
		go func() { errs <- transaction("b", "a") }()
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
		assert.GreaterOrEqual(t, runs.Load(), int64(3), "nobody had to begin again, so nothing was tested")
		u, err := s.Users().ByID(t.Context(), "a")
		require.NoError(t, err)
		assert.Equal(t, time.UnixMicro(time.Time{}.UnixMicro()+2).UTC(), u.CreatedAt, "each ran once in the end")
	})
}

func TestMessagesOnServers(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		s := e.migrated(t).Messages()
		var batch []chat.Message
		for i := range 130 { // more than every prepared size
			m := message(fmt.Sprintf("room %d", i%40), i)
			if i%3 == 1 {
				m.ReplyTo, m.Data = uint64(i), fmt.Sprintf(`{"n":%d}`, i)
			}
			batch = append(batch, m)
		}
		got, err := s.Append(t.Context(), batch)
		require.NoError(t, err)
		for i, m := range got {
			want := batch[i]
			want.Seq = uint64(i/40 + 1)
			assert.Equal(t, chat.Stored{Message: want}, m)
		}
		got, err = s.Append(t.Context(), append(batch, messages("new", 0, 3)...))
		require.NoError(t, err)
		assert.True(t, got[0].Repeated && got[129].Repeated)
		assert.EqualValues(t, 3, got[132].Seq)

		for name, spoil := range map[string]func(*chat.Message){
			"long room":      func(m *chat.Message) { m.Room = strings.Repeat("é", chat.MaxRoomName+1) },
			"long client id": func(m *chat.Message) { m.ClientID = strings.Repeat("x", chat.MaxClientID+1) },
			"long text":      func(m *chat.Message) { m.Text = strings.Repeat("é", chat.MaxText+1) },
			"no id":          func(m *chat.Message) { m.ID = "" },
			"long data":      func(m *chat.Message) { m.Data = strings.Repeat("x", chat.MaxData+1) },
			"high reply":     func(m *chat.Message) { m.ReplyTo = math.MaxInt64 + 1 },
		} {
			batch := messages("refused", 0, 3)
			spoil(&batch[1])
			_, err := s.Append(t.Context(), batch)
			require.ErrorIs(t, err, fault.Invalid, name)
			bounds, err := s.Bounds(t.Context(), "refused")
			require.NoError(t, err)
			assert.Zero(t, bounds.Last, name)
		}
	})
}

// What an insert passes over because it is there must still fit.
func TestWhatDoesNotFitIsRefusedOnServers(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		s := e.migrated(t)
		long := strings.Repeat("é", chat.MaxRoomName+1)
		_, err := s.Rooms().Ensure(t.Context(), chat.Room{Name: long, CreatedBy: "u"})
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.Members().Add(t.Context(), chat.Membership{Room: long, UserID: "u"})
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.Rooms().Ensure(t.Context(), chat.Room{Name: long[:2*chat.MaxRoomName], CreatedBy: "u"})
		require.NoError(t, err)
		for _, text := range []string{`O'Hara \ \' "x" -- ?0 ? %s $1`, "日本語 🙂 é\u0301", "x ", "x"} {
			room, err := s.Rooms().Ensure(t.Context(), chat.Room{Name: text, CreatedBy: "u", CreatedAt: noon})
			require.NoError(t, err)
			assert.Equal(t, text, room.Name)
			got, err := s.Rooms().ByName(t.Context(), text)
			require.NoError(t, err)
			assert.Equal(t, room, got)
		}
	})
}

func TestMigrationsOnServers(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		url := e.fresh(t)
		const processes = 4
		stores := make([]*bunstore.Store, processes)
		for i := range stores {
			s, err := e.open(t.Context(), url, bunstore.Config{Connections: 2})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, s.Close()) })
			stores[i] = s
		}
		s := stores[0]
		err := s.Check(t.Context())
		require.ErrorIs(t, err, bunstore.ErrSchemaOld)
		require.ErrorContains(t, err, "0001")
		_, err = s.Users().ByID(t.Context(), "u")
		require.ErrorIs(t, err, bunstore.ErrSchemaOld, "a call on an empty database")
		_, err = s.Messages().Append(t.Context(), messages("r", 0, 1))
		require.ErrorIs(t, err, bunstore.ErrSchemaOld, "a call on an empty database")

		errs := make(chan error, processes)
		for _, s := range stores {
			go func() { errs <- s.Migrate(t.Context()) }()
		}
		for range processes {
			require.NoError(t, <-errs)
		}
		require.NoError(t, s.Check(t.Context()))
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.Unlock(t.Context()))
		db, _ := bunstore.Handles(s)
		applied, err := db.NewSelect().Table("parley_migrations").Count(t.Context())
		require.NoError(t, err)
		assert.EqualValues(t, bunstore.Migrations(s), applied)

		// A migration that was cut off, on an engine that keeps what had been done.
		_, err = db.ExecContext(t.Context(), "DELETE FROM parley_migrations")
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "DROP TABLE parley_mail_jobs")
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "j", Key: "k", RunAt: noon}))

		_, err = db.ExecContext(t.Context(), "INSERT INTO parley_migrations (name, group_id, migrated_at) VALUES ('9999', 2, CURRENT_TIMESTAMP)")
		require.NoError(t, err)
		_, err = e.open(t.Context(), url, bunstore.Config{})
		require.ErrorIs(t, err, bunstore.ErrSchemaNew)
		require.ErrorContains(t, err, "9999")
		require.ErrorIs(t, s.Migrate(t.Context()), bunstore.ErrSchemaNew)
	})
}

// TestAServerThatRefusesTLSAndIsSilent holds that the time it takes is the reason, and not the TLS that need not be.
func TestAServerThatRefusesTLSAndIsSilent(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request := make([]byte, 8) // SSLRequest has as many bytes, and so has no other first message
				if _, err := io.ReadFull(conn, request); err != nil {
					return
				}
				if binary.BigEndian.Uint32(request) == 8 {
					_, _ = conn.Write([]byte("N"))
				}
				_, _ = io.Copy(io.Discard, conn) // until the other side gives up
			}()
		}
	}()
	_, err = bunstore.OpenPostgres(t.Context(), "postgres://user:password@"+listener.Addr().String()+"/db", bunstore.Config{ConnectTimeout: 300 * time.Millisecond})
	require.ErrorIs(t, err, bunstore.ErrUnreachable)
}

func TestOpeningAServerThatCannotBeUsed(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		good, err := url.Parse(e.fresh(t))
		require.NoError(t, err)
		silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
		require.NoError(t, err)
		defer func() { assert.NoError(t, silent.Close()) }()
		tls := map[string]string{"PostgreSQL": "sslmode=require", "MariaDB": "tls=true"}[e.name]
		for name, test := range map[string]struct {
			change func(u *url.URL)
			want   error
		}{
			"wrong password": {func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "wr0ng-hidden") }, bunstore.ErrCredentials},
			"wrong user":     {func(u *url.URL) { u.User = url.UserPassword("nobody", "wr0ng-hidden") }, bunstore.ErrCredentials},
			"no database":    {func(u *url.URL) { u.Path = "/absent" }, bunstore.ErrNoDatabase},
			"nobody there":   {func(u *url.URL) { u.Host = "127.0.0.1:1" }, bunstore.ErrUnreachable},
			"no answer":      {func(u *url.URL) { u.Host = silent.Addr().String() }, bunstore.ErrUnreachable},
			"TLS":            {func(u *url.URL) { u.RawQuery = tls }, bunstore.ErrTLS},
		} {
			if name == "TLS" && os.Getenv(servers.PostgresVariable)+os.Getenv(servers.MySQLVariable) != "" {
				continue // that server may offer it
			}
			u := *good
			test.change(&u)
			patience := time.Minute // the time that a loaded machine takes decides nothing
			if name == "no answer" {
				patience = 300 * time.Millisecond
			}
			_, err := e.open(t.Context(), u.String(), bunstore.Config{ConnectTimeout: patience})
			require.ErrorIs(t, err, test.want, name)
			require.ErrorIs(t, err, fault.Unavailable, name)
			assert.Contains(t, err.Error(), u.Host+u.Path, name)
			assert.NotContains(t, err.Error(), "\n", name)
			assert.NotContains(t, err.Error(), "hidden", name)
			password, _ := good.User.Password()
			assert.NotContains(t, err.Error(), password, name)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = e.open(gone, good.String(), bunstore.Config{})
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, context.Canceled)
		s, err := e.open(t.Context(), good.String(), bunstore.Config{})
		require.NoError(t, err)
		require.ErrorIs(t, s.Ping(t.Context()), bunstore.ErrSchemaOld, "what has no tables takes no writes")
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		for name, call := range everyCall(s) {
			require.ErrorIs(t, call(t.Context()), fault.Unavailable, name)
		}
	})
}

func TestServerURLsAreChecked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, want string }{
		{"", "start with"},
		{"://hidden", "parsed"},
		{"http://user:hidden@host/db", "start with"},
		{"SCHEME://user:hidden@/db", "no host"},
		{"SCHEME://host/db", "no user"},
		{"SCHEME://user:hidden@host", "name a database"},
		{"SCHEME://user:hidden@host/a/b", "name a database"},
		{"SCHEME://user:hid%zzden@host/db", "parsed"},
		{"SCHEME://user:hidden@host/db?tls=maybe&sslmode=maybe", "maybe"},
	} {
		for _, e := range engines {
			scheme := map[string]string{"PostgreSQL": "postgres", "MariaDB": "mysql"}[e.name]
			_, err := e.open(t.Context(), strings.Replace(test.url, "SCHEME", scheme, 1), bunstore.Config{})
			require.Error(t, err)
			if test.want != "maybe" {
				assert.ErrorContains(t, err, test.want)
			}
			assert.NotContains(t, err.Error(), "hidden")
			assert.NotContains(t, err.Error(), "hid%zzden")
		}
	}
	for _, e := range engines {
		_, err := e.open(t.Context(), "x", bunstore.Config{Connections: -1, ConnectTimeout: -1})
		require.ErrorContains(t, err, "Connections")
		require.ErrorContains(t, err, "ConnectTimeout")
	}
}

// Handles that somebody else opened, in their own way.
func TestNewOnServers(t *testing.T) {
	t.Parallel()
	t.Run("PostgreSQL", func(t *testing.T) {
		db, err := sql.Open("pgx", servers.Postgres(t))
		require.NoError(t, err)
		useNew(t, bun.NewDB(db, pgdialect.New()))
	})
	t.Run("MariaDB", func(t *testing.T) {
		cfg := mysqlConfig(t, servers.MySQL(t))
		db, err := sql.Open("mysql", cfg.FormatDSN())
		require.NoError(t, err)
		useNew(t, bun.NewDB(db, mysqldialect.New()))
	})
}

func mysqlConfig(t testing.TB, at string) *mysql.Config {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	password, _ := u.User.Password()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = u.User.Username(), password, "tcp", u.Host, u.Path[1:]
	return cfg
}

func useNew(t *testing.T, db *bun.DB) {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	s, err := bunstore.New(db)
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	_, err = s.Messages().Append(t.Context(), messages("r", 0, 5))
	require.NoError(t, err)
	got, err := s.Messages().Append(t.Context(), messages("r", 3, 5))
	require.NoError(t, err)
	assert.EqualValues(t, 8, got[4].Seq)
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "Ada", Email: "a"}, event.Event{ID: "e", Time: noon}))
	require.ErrorIs(t, s.Users().Create(t.Context(), user.User{ID: "v", FullName: "Ada", Email: "a"}), user.ErrEmailTaken)
	require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "j", Key: "k", RunAt: noon}))
	_, ok, err := s.MailQueue().Claim(t.Context(), noon, time.Minute)
	require.NoError(t, err)
	assert.True(t, ok)
	require.NoError(t, s.Close())
	require.NoError(t, db.PingContext(t.Context()), "the handle stays its owner's")
}
