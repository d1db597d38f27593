package bunstore_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// batches returns a function that makes the next batch of messages like those of real
// senders: 26-character identifiers, 128-byte texts, each sender with a client id.
func batches(size, rooms int) func() []chat.Message {
	text := strings.Repeat("x", 128)
	n := 0
	return func() []chat.Message {
		batch := make([]chat.Message, size)
		for i := range batch {
			n++
			batch[i] = chat.Message{
				Room: fmt.Sprintf("room-%04d", n%rooms), ID: fmt.Sprintf("01JPARLEY%017d", n), ClientID: fmt.Sprintf("c%025d", n),
				Author: chat.Author{ID: "01JPARLEYUSER0000000000000", Name: "Ada Lovelace"}, Text: text, At: noon,
			}
		}
		return batch
	}
}

func perSecond(b *testing.B, size int) {
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchmarkAppend and BenchmarkPlainDriver insert the same rows with the same sync setting;
// their ratio at batches of 100 is the price of the adapter. Many rooms cost more on both
// sides: each room's rows stand in pages of their own, and a commit writes whole pages.
func BenchmarkAppend(b *testing.B) {
	for _, rooms := range []int{1, 100} {
		for _, size := range []int{1, 10, 100, 500} {
			b.Run(fmt.Sprintf("rooms=%d/batch=%d", rooms, size), func(b *testing.B) {
				appendBatches(b, open(b), rooms, size)
			})
		}
	}
}

func appendBatches(b *testing.B, s *bunstore.Store, rooms, size int) {
	store := s.Messages()
	next := batches(size, rooms)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Append(b.Context(), next()); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, size)
}

// BenchmarkAppendByMembers is BenchmarkAppend with a sender who is a member of all rooms, so that each batch moves their marks, on every engine.
func BenchmarkAppendByMembers(b *testing.B) {
	run := func(b *testing.B, open func(testing.TB) *bunstore.Store) {
		for _, rooms := range []int{1, 100} {
			for _, size := range []int{1, 100} {
				b.Run(fmt.Sprintf("rooms=%d/batch=%d", rooms, size), func(b *testing.B) {
					s := open(b)
					for _, m := range batches(rooms, rooms)() {
						joined(b, s, inRoom(m.Room, m.Author.ID))
					}
					appendBatches(b, s, rooms, size)
				})
			}
		}
	}
	b.Run("SQLite", func(b *testing.B) { run(b, open) })
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { run(b, e.migrated) })
	}
}

// BenchmarkMine lists the first hundred rooms of somebody who has a thousand, each with messages, some deleted, some unread.
func BenchmarkMine(b *testing.B) {
	run := func(b *testing.B, s *bunstore.Store) {
		const rooms, each = 1000, 20
		next := batches(rooms, rooms)
		db, _ := bunstore.Handles(s)
		var memberships []chat.Membership
		for i, m := range next() {
			_, err := db.ExecContext(b.Context(), "INSERT INTO parley_rooms (name, created_by, created_at) VALUES (?, 'reader', 5)", m.Room)
			require.NoError(b, err)
			memberships = append(memberships, inRoom(m.Room, "reader"), inRoom(m.Room, "other"))
			if i%10 == 0 {
				memberships = append(memberships, inRoom("quiet "+m.Room, "other"))
			}
		}
		joined(b, s, memberships...)
		for range each {
			_, err := s.Messages().Append(b.Context(), next())
			require.NoError(b, err)
		}
		var marks []chat.Mark
		var gone []chat.Change
		for i := range memberships {
			room := memberships[i].Room
			marks = append(marks, readTo(room, "reader", uint64(i%each)))
			for seq := range i % 5 {
				gone = append(gone, chat.Change{Kind: chat.Delete, Room: room, Seq: uint64(seq*3 + 1), Any: true, At: noon})
			}
		}
		_, err := s.Members().Mark(b.Context(), marks)
		require.NoError(b, err)
		_, err = s.Messages().Change(b.Context(), gone)
		require.NoError(b, err)
		b.ReportAllocs()
		for b.Loop() {
			got, err := s.Members().Mine(b.Context(), "reader", chat.Place{}, 100)
			if err != nil || len(got) != 100 {
				b.Fatal(len(got), err)
			}
		}
	}
	b.Run("SQLite", func(b *testing.B) { run(b, open(b)) })
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { run(b, e.migrated(b)) })
	}
}

// BenchmarkMark moves marks of members of one room, in batches.
func BenchmarkMark(b *testing.B) {
	run := func(b *testing.B, s *bunstore.Store) {
		const members = 2000
		var memberships []chat.Membership
		for i := range members {
			memberships = append(memberships, inRoom("room-0000", user.ID(fmt.Sprint(i))))
		}
		joined(b, s, memberships...)
		next := batches(500, 1)
		for range 40 {
			_, err := s.Messages().Append(b.Context(), next())
			require.NoError(b, err)
		}
		for _, size := range []int{1, 64, 500} {
			b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
				joined(b, s, inRoom("room-0000", "somebody"))
				n := 0
				for b.Loop() {
					marks := make([]chat.Mark, size)
					for i := range marks {
						n++
						marks[i] = readTo("room-0000", user.ID(fmt.Sprint(n%members)), uint64(n/members))
					}
					if _, err := s.Members().Mark(b.Context(), marks); err != nil {
						b.Fatal(err)
					}
				}
				perSecond(b, size)
			})
		}
	}
	b.Run("SQLite", func(b *testing.B) { run(b, open(b)) })
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { run(b, e.migrated(b)) })
	}
}

// BenchmarkServers compares Append with the plain driver on each server: the same rows, in
// one statement a batch, in one transaction.
func BenchmarkServers(b *testing.B) {
	for _, e := range engines {
		for _, rooms := range []int{1, 100} {
			for _, size := range []int{1, 100, 500} {
				name := fmt.Sprintf("%s/rooms=%d/batch=%d", e.name, rooms, size)
				b.Run(name+"/append", func(b *testing.B) { appendBatches(b, e.migrated(b), rooms, size) })
				b.Run(name+"/plain", func(b *testing.B) {
					write, _ := bunstore.Handles(e.migrated(b))
					insertPlainly(b, write.DB, e.placeholders, rooms, size, size)
				})
			}
		}
	}
}

// BenchmarkAppendTogether is how much several callers, each in a room of its own, get done
// on one server.
func BenchmarkAppendTogether(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			store := e.migrated(b).Messages()
			var caller atomic.Int64
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				next, room := batches(100, 1), fmt.Sprint("room ", caller.Add(1))
				for pb.Next() {
					batch := next()
					for i := range batch {
						batch[i].Room = room
					}
					if _, err := store.Append(b.Context(), batch); err != nil {
						b.Error(err)
						return
					}
				}
			})
			perSecond(b, 100)
		})
	}
}

// BenchmarkPlainDriver is what the driver does in one transaction a batch, without the
// adapter, contexts, stored counters and conversion: row by row with one prepared
// statement, or with one prepared statement for the whole batch.
func BenchmarkPlainDriver(b *testing.B) {
	for _, kind := range []string{"rowwise", "multirow"} {
		for _, rooms := range []int{1, 100} {
			for _, size := range []int{1, 10, 100, 500} {
				b.Run(fmt.Sprintf("%s/rooms=%d/batch=%d", kind, rooms, size), func(b *testing.B) {
					together := 1
					if kind == "multirow" {
						together = size
					}
					plainDriver(b, rooms, size, together)
				})
			}
		}
	}
}

func plainDriver(b *testing.B, rooms, size, together int) {
	db, err := sql.Open("sqlite", "file:"+newFile(b)+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	require.NoError(b, err)
	defer func() { require.NoError(b, db.Close()) }()
	db.SetMaxOpenConns(1)
	questionMarks := func(n int) string {
		return strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?,?,?),", n), ",")
	}
	insertPlainly(b, db, questionMarks, rooms, size, together)
}

// insertPlainly inserts batches of size, as many rows a statement as said.
func insertPlainly(b *testing.B, db *sql.DB, placeholders func(rows int) string, rooms, size, together int) {
	insert, err := db.Prepare("INSERT INTO parley_messages (room_id, seq, id, client_id, author_id, author_name, text, at) VALUES " + placeholders(together))
	require.NoError(b, err)
	defer func() { require.NoError(b, insert.Close()) }()
	next := batches(size, rooms)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		stmt := tx.Stmt(insert) //nolint:sqlclosecheck // the transaction's end closes it
		var args []any
		for _, m := range next() {
			args = append(args, n%rooms, n/rooms+1, m.ID, m.ClientID, string(m.Author.ID), m.Author.Name, m.Text, m.At.UnixMicro())
			n++
			if len(args) == 8*together {
				if _, err := stmt.Exec(args...); err != nil {
					b.Fatal(err)
				}
				args = args[:0]
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, size)
}

func BenchmarkList(b *testing.B) {
	store := open(b).Messages()
	next := batches(500, 1)
	for range 20 {
		_, err := store.Append(b.Context(), next())
		require.NoError(b, err)
	}
	for _, limit := range []int{10, 100} {
		b.Run(fmt.Sprintf("newest=%d", limit), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				got, err := store.List(b.Context(), "room-0000", chat.Range{Limit: limit, Newest: true})
				if err != nil || len(got) != limit {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// BenchmarkChange edits messages of a store that holds 50,000, in batches, as many senders together do.
func BenchmarkChange(b *testing.B) {
	stores := []struct {
		name string
		open func(testing.TB) *bunstore.Store
	}{{"SQLite", open}}
	for _, e := range engines {
		stores = append(stores, struct {
			name string
			open func(testing.TB) *bunstore.Store
		}{e.name, e.migrated})
	}
	for _, store := range stores {
		for _, rooms := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/rooms=%d", store.name, rooms), func(b *testing.B) {
				messages := store.open(b).Messages()
				const all, size = 50_000, 100
				next := batches(500, rooms)
				for range all / 500 {
					_, err := messages.Append(b.Context(), next())
					require.NoError(b, err)
				}
				batch, n := make([]chat.Change, size), 0
				b.ReportAllocs()
				for b.Loop() {
					for i := range batch {
						n++
						at := n * 7919 % all // in no order
						batch[i] = chat.Change{
							Kind: chat.Edit, Room: fmt.Sprintf("room-%04d", at%rooms), Seq: uint64(at/rooms + 1), Any: true,
							Text: fmt.Sprintf("%0128d", n), At: noon,
						}
					}
					got, err := messages.Change(b.Context(), batch)
					if err != nil {
						b.Fatal(err)
					}
					for i := range got {
						if got[i].Err != nil || got[i].Repeated {
							b.Fatalf("%+v", got[i])
						}
					}
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "edits/s")
			})
		}
	}
}

// BenchmarkWipe is one pass through a file, most of which is time to rest.
func BenchmarkWipe(b *testing.B) {
	s := open(b)
	next := batches(500, 100)
	for range 200 {
		_, err := s.Messages().Append(b.Context(), next())
		require.NoError(b, err)
	}
	write, _ := bunstore.Handles(s)
	var pages int
	require.NoError(b, write.DB.QueryRow("PRAGMA page_count").Scan(&pages))
	wiped, err := bunstore.Wipe(s)
	require.NoError(b, err)
	b.Logf("%d of %d pages had something in their free space", wiped, pages)
	for b.Loop() {
		if _, err := bunstore.Wipe(s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N*pages)*(1<<30/4096), "s/GiB")
}

// BenchmarkJoin joins rooms again in batches, as most who connect do, without and with the look at restrictions before it.
func BenchmarkJoin(b *testing.B) {
	run := func(b *testing.B, s *bunstore.Store) {
		for _, restricted := range []int{0, 2000} {
			for i := range restricted {
				_, err := s.Restrictions().Put(b.Context(), chat.Restriction{Room: "room", UserID: user.ID(fmt.Sprint("other-", i)), Kind: chat.Ban, At: noon}, nil)
				require.NoError(b, err)
			}
			for _, size := range []int{1, 64} {
				var all []chat.Membership
				var whom []chat.InRoom
				for i := range size {
					all = append(all, inRoom("room", user.ID(fmt.Sprint(i))))
					whom = append(whom, chat.InRoom{Room: "room", UserID: all[i].UserID})
				}
				joined(b, s, all...)
				for _, look := range []bool{false, true} {
					b.Run(fmt.Sprintf("restrictions=%d/batch=%d/look=%t", restricted, size, look), func(b *testing.B) {
						for b.Loop() {
							if look {
								if _, err := s.Restrictions().InForce(b.Context(), noon, whom...); err != nil {
									b.Fatal(err)
								}
							}
							if _, err := s.Members().Add(b.Context(), all...); err != nil {
								b.Fatal(err)
							}
						}
						perSecond(b, size)
					})
				}
			}
		}
	}
	b.Run("SQLite", func(b *testing.B) { run(b, open(b)) })
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { run(b, e.migrated(b)) })
	}
}

// populate makes members of a room, as an older program does: quickly.
func populate(b *testing.B, s *bunstore.Store, room string, n int) {
	b.Helper()
	db, _ := bunstore.Handles(s)
	for from := 0; from < n; from += 1000 {
		values := make([]string, min(1000, n-from))
		for i := range values {
			values[i] = fmt.Sprintf("('user %07d', '%s', 1, 0)", from+i, room)
		}
		_, err := db.ExecContext(b.Context(), "INSERT INTO parley_members (user_id, room, since, read_seq) VALUES "+strings.Join(values, ", "))
		require.NoError(b, err)
	}
}

// BenchmarkRoles runs a room of 100,000 members, beside another one.
func BenchmarkRoles(b *testing.B) {
	run := func(b *testing.B, s *bunstore.Store) {
		const members = 100_000
		populate(b, s, "other", members/2)
		populate(b, s, "room", members)
		created(b, s, "room", chat.Public, "owner", "another owner")
		for _, after := range []int{0, members / 2} {
			b.Run(fmt.Sprintf("list=100/after=%d", after), func(b *testing.B) {
				for b.Loop() {
					all, err := s.Roles().List(b.Context(), "room", user.ID(fmt.Sprintf("user %07d", after)), 100)
					if err != nil || len(all) != 100 {
						b.Fatal(len(all), err)
					}
				}
			})
		}
		b.Run("change", func(b *testing.B) {
			roles := []chat.Role{chat.Moderator, chat.Regular}
			for i := 0; b.Loop(); i++ {
				c := chat.RoleChange{Room: "room", User: "user 0050000", Role: roles[i%2], By: "owner", At: noon}
				if _, _, err := s.Roles().Change(b.Context(), c, asStored(c)); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, size := range []int{1, 64} {
			var whom []chat.InRoom
			for i := range size {
				whom = append(whom, chat.InRoom{Room: "room", UserID: user.ID(fmt.Sprintf("user %07d", 100*i))})
			}
			b.Run(fmt.Sprintf("of=%d", size), func(b *testing.B) {
				for b.Loop() {
					if _, err := s.Roles().Of(b.Context(), whom...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("SQLite", func(b *testing.B) { run(b, open(b)) })
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { run(b, e.migrated(b)) })
	}
}

// BenchmarkNewcomers joins a room for the first time, in batches.
func BenchmarkNewcomers(b *testing.B) {
	run := func(b *testing.B, s *bunstore.Store) {
		_, err := s.Rooms().Ensure(b.Context(), chat.Room{Name: "room", CreatedAt: noon})
		require.NoError(b, err)
		appendedTo(b, s)
		n := 0
		for _, size := range []int{1, 64} {
			b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
				all := make([]chat.Membership, size)
				for b.Loop() {
					for i := range all {
						n++
						all[i] = inRoom("room", user.ID(fmt.Sprint("user ", n)))
					}
					if _, err := s.Members().Add(b.Context(), all...); err != nil {
						b.Fatal(err)
					}
				}
				perSecond(b, size)
			})
		}
	}
	b.Run("SQLite", func(b *testing.B) { run(b, open(b)) })
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) { run(b, e.migrated(b)) })
	}
}

// appendedTo gives a room a message.
func appendedTo(b *testing.B, s *bunstore.Store) {
	_, err := s.Messages().Append(b.Context(), messages("room", 0, 1))
	require.NoError(b, err)
}

// BenchmarkMigrateMembers brings a schema with 1,000,000 memberships up to date, and reports the longest that an older program, which runs beside, waits
// to write one and to read one.
func BenchmarkMigrateMembers(b *testing.B) {
	run := func(b *testing.B, open func() *bunstore.Store) {
		s := open()
		require.NoError(b, bunstore.MigrateFirst(b.Context(), s, 12))
		populate(b, s, "other", 500_000)
		populate(b, s, "room", 500_000)
		db, read := bunstore.Handles(open())
		longest := func(do func(i int) error) (stop func() time.Duration) {
			end, waited := make(chan struct{}), make(chan time.Duration)
			go func() {
				var most time.Duration
				for i := 0; ; i++ {
					select {
					case <-end:
						waited <- most
						return
					default:
					}
					began := time.Now()
					if err := do(i); err != nil {
						b.Error(err)
					}
					most = max(most, time.Since(began))
				}
			}()
			return func() time.Duration { close(end); return <-waited }
		}
		writes := longest(func(i int) error {
			_, err := db.ExecContext(b.Context(), "INSERT INTO parley_members (user_id, room, since, read_seq) VALUES (?, 'room', 1, 0)", fmt.Sprint("beside ", i))
			return err
		})
		reads := longest(func(int) error {
			var n int
			return read.NewRaw("SELECT COUNT(*) FROM parley_members WHERE user_id = 'user 0000001'").Scan(b.Context(), &n)
		})
		for b.Loop() {
			require.NoError(b, s.Migrate(b.Context()))
		}
		b.ReportMetric(float64(writes().Milliseconds()), "ms-longest-write")
		b.ReportMetric(float64(reads().Milliseconds()), "ms-longest-read")
	}
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			at := e.fresh(b)
			run(b, func() *bunstore.Store {
				s, err := e.open(b.Context(), at, bunstore.Config{})
				require.NoError(b, err)
				b.Cleanup(func() { require.NoError(b, s.Close()) })
				return s
			})
		})
	}
	b.Run("SQLite", func(b *testing.B) {
		file := filepath.Join(b.TempDir(), "parley.db")
		run(b, func() *bunstore.Store {
			s, err := bunstore.OpenSQLite(b.Context(), file, bunstore.SQLiteConfig{})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, s.Close()) })
			return s
		})
	})
}
