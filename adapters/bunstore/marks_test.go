package bunstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

func joined(t testing.TB, s *bunstore.Store, memberships ...chat.Membership) []chat.Membership {
	t.Helper()
	got, err := s.Members().Add(t.Context(), memberships...)
	require.NoError(t, err)
	require.Len(t, got, len(memberships))
	return got
}

// newPostgres is a store of New, on a handle that is its own.
func newPostgres(t testing.TB, at string) *bunstore.Store {
	t.Helper()
	db, err := sql.Open("pgx", at)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	s, err := bunstore.New(bun.NewDB(db, pgdialect.New()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func inRoom(room string, id user.ID) chat.Membership {
	return chat.Membership{Room: room, UserID: id, Since: noon}
}

func readTo(room string, id user.ID, read uint64) chat.Mark {
	return chat.Mark{Room: room, User: chat.Author{ID: id}, Read: read}
}

func marked(t testing.TB, s *bunstore.Store, marks ...chat.Mark) []chat.Marked {
	t.Helper()
	got, err := s.Members().Mark(t.Context(), marks)
	require.NoError(t, err)
	require.Len(t, got, len(marks))
	return got
}

func mine(t testing.TB, s *bunstore.Store, id user.ID) []chat.MyRoom {
	t.Helper()
	got, err := s.Members().Mine(t.Context(), id, chat.Place{}, 1000)
	require.NoError(t, err)
	return got
}

// deletes deletes messages of a room.
func deletes(t testing.TB, s *bunstore.Store, room string, seqs ...uint64) {
	t.Helper()
	var changes []chat.Change
	for _, seq := range seqs {
		changes = append(changes, chat.Change{Kind: chat.Delete, Room: room, Seq: seq, Any: true, At: noon})
	}
	got, err := s.Messages().Change(t.Context(), changes)
	require.NoError(t, err)
	for _, c := range got {
		require.NoError(t, c.Err)
	}
}

// A batch may have one member several times, strangers among them, and rooms that do not exist; there may be more than one statement takes.
func TestMarksOfABatch(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		joined(t, s, inRoom("r", "a"), inRoom("r", "b"), inRoom("quiet", "a"), inRoom("R", "a"))
		appended(t, s, messages("r", 0, 10))
		deletes(t, s, "r", 3, 9, 9)
		got := marked(t, s,
			readTo("r", "a", 2), readTo("r", "b", math.MaxUint64), readTo("r", "a", 5), readTo("r", "c", 5), readTo("none", "a", 5), readTo("r", "a", 4),
			readTo("quiet", "a", 7), readTo("R", "a", 1), readTo("r", "a\x00", 1), readTo("", "", 1), readTo("r", "a", math.MaxInt64), readTo("r", "A", 1))
		want := []chat.Marked{
			{Read: 2, Unread: 6, Moved: true}, {Read: 10, Moved: true}, {Read: 5, Unread: 4, Moved: true}, {Err: chat.ErrNotMember}, {Err: chat.ErrNotMember}, {Read: 5, Unread: 4},
			{}, {}, {Err: chat.ErrNotMember}, {Err: chat.ErrNotMember}, {Read: 10, Moved: true}, {Err: chat.ErrNotMember},
		}
		assert.Equal(t, want, got)
		assert.Equal(t, []chat.Marked{{Read: 10}, {Read: 10}}, marked(t, s, readTo("r", "a", 0), readTo("r", "b", 3)))
		none, err := s.Members().Mark(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, none)

		const crowd = 150
		var memberships []chat.Membership
		var marks []chat.Mark
		for i := range crowd {
			id := user.ID(fmt.Sprint("crowd ", i))
			memberships = append(memberships, inRoom("big", id), inRoom("r", id))
			marks = append(marks, readTo("big", id, uint64(i)), readTo("r", id, uint64(i)))
		}
		for _, m := range joined(t, s, slices.Concat(memberships, memberships[:70])...) {
			assert.Equal(t, map[string]uint64{"big": 0, "r": 10}[m.Room], m.Read)
		}
		appended(t, s, messages("big", 0, crowd/2))
		for i, m := range marked(t, s, marks...) {
			want := chat.Marked{Read: 10}
			if i%2 == 0 {
				read := min(uint64(i/2), crowd/2)
				want = chat.Marked{Read: read, Unread: crowd/2 - read, Moved: read > 0}
			}
			require.Equal(t, want, m, "mark %d", i)
		}
	})
}

// Of a membership that is given twice the first one counts, also where others add it meanwhile.
func TestAddTogether(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 3)
		appended(t, stores[0], messages("r", 0, 3))
		const callers, rounds, size = 4, 5, 70
		var mu sync.Mutex
		answers := map[string]chat.Membership{}
		var wg sync.WaitGroup
		for i, s := range stores {
			for w := range callers {
				wg.Go(func() {
					dice := rand.New(rand.NewPCG(uint64(i), uint64(w)))
					for round := range rounds {
						var all []chat.Membership
						for _, n := range dice.Perm(size)[:1+dice.IntN(size)] {
							m := inRoom("r", user.ID(fmt.Sprint(round, "-", n)))
							m.Since = noon.Add(time.Duration(i*callers+w) * time.Second)
							all = append(all, m)
							m.Since = noon.Add(time.Hour)
							all = append(all, m)
						}
						got, err := s.Members().Add(t.Context(), all...)
						if !assert.NoError(t, err) {
							return
						}
						mu.Lock()
						for k, m := range got {
							first, known := answers[string(m.UserID)]
							if !known {
								first = m
								answers[string(m.UserID)] = m
							}
							assert.Equal(t, first, m, "there are two of it")
							assert.Equal(t, all[k].UserID, m.UserID)
							assert.NotEqual(t, noon.Add(time.Hour), m.Since)
							assert.EqualValues(t, 3, m.Read)
						}
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
	})
}

// Whoever sends keeps the counters of rooms locked. Nobody who marks, joins or looks waits for that.
func TestMarksWaitForNobodyWhoSends(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 2)
		s := stores[1]
		appended(t, s, messages("r", 0, 5))
		joined(t, s, inRoom("r", "a"), inRoom("r", "b"))
		appended(t, s, messages("r", 5, 2))
		db, _ := bunstore.Handles(s)
		execute(t, db.DB, "UPDATE parley_members SET read_seq = NULL WHERE user_id = 'b'")
		require.NoError(t, bunstore.Transact(t.Context(), stores[0], func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.ExecContext(ctx, "UPDATE parley_room_seqs SET last = last + 1"); err != nil {
				return err
			}
			assert.Equal(t, []chat.Marked{{Read: 6, Unread: 1, Moved: true}}, marked(t, s, readTo("r", "a", 6)))
			got := joined(t, s, inRoom("r", "a"), inRoom("r", "b"), inRoom("r", "c"))
			assert.Equal(t, []uint64{6, 7, 7}, []uint64{got[0].Read, got[1].Read, got[2].Read})
			assert.Len(t, mine(t, s, "a"), 1)
			_, err := tx.ExecContext(ctx, "UPDATE parley_room_seqs SET last = last - 1")
			return err
		}))
	})
}

// Marks, messages of the same members and joins, each in an order of its own: nobody is given up for another one's sake, and nothing is lost.
func TestMarksAmongAppends(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, stores []*bunstore.Store) {
		var givenUp atomic.Int64
		for _, s := range stores {
			bunstore.CountGivenUp(s, &givenUp)
		}
		const users, workers, calls = 8, 3, 15
		rooms := []string{"a", "b", "c", "d", "e"}
		for _, room := range rooms {
			for u := range users {
				joined(t, stores[0], inRoom(room, user.ID(fmt.Sprint(u))))
			}
		}
		var wg sync.WaitGroup
		var sent atomic.Int64
		for i, s := range stores {
			for w := range workers {
				dice := rand.New(rand.NewPCG(uint64(i), uint64(w)))
				wg.Go(func() {
					for c := range calls {
						var batch []chat.Message
						for n := range 20 {
							m := message(rooms[dice.IntN(len(rooms))], ((i*workers+w)*calls+c)*100+n)
							m.Author.ID = user.ID(fmt.Sprint(dice.IntN(users)))
							batch = append(batch, m)
						}
						got, err := s.Messages().Append(t.Context(), batch)
						if !assert.NoError(t, err) {
							return
						}
						sent.Add(int64(len(got)))
						var marks []chat.Mark
						for _, m := range got {
							marks = append(marks, readTo(m.Room, m.Author.ID, 0))
						}
						answers, err := s.Members().Mark(t.Context(), marks)
						if !assert.NoError(t, err) {
							return
						}
						for k, a := range answers {
							assert.NoError(t, a.Err)
							assert.GreaterOrEqual(t, a.Read, got[k].Seq, "what one sends is read")
						}
					}
				})
				others := rand.New(rand.NewPCG(uint64(i), uint64(w+100)))
				wg.Go(func() {
					for range calls {
						var marks []chat.Mark
						var memberships []chat.Membership
						for range 20 {
							room, id := rooms[others.IntN(len(rooms))], user.ID(fmt.Sprint(others.IntN(users)))
							marks = append(marks, readTo(room, id, uint64(others.IntN(calls*20))))
							memberships = append(memberships, inRoom(room, id), inRoom(room, user.ID(fmt.Sprint("new ", others.IntN(50)))))
						}
						_, err := s.Members().Mark(t.Context(), marks)
						assert.NoError(t, err)
						_, err = s.Members().Add(t.Context(), memberships...)
						assert.NoError(t, err)
					}
				})
			}
		}
		wg.Wait()
		assert.Zero(t, givenUp.Load(), "calls that were in each other's way")
		var last uint64
		for _, room := range rooms {
			bounds, err := stores[0].Messages().Bounds(t.Context(), room)
			require.NoError(t, err)
			last += bounds.Last
			for u := range users {
				got := marked(t, stores[0], readTo(room, user.ID(fmt.Sprint(u)), 0))[0]
				assert.Equal(t, bounds.Last, got.Read+got.Unread)
			}
		}
		assert.EqualValues(t, sent.Load(), last)
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		file := newFile(t)
		plainly, err := bunstore.New(plain(t, file))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, plainly.Close()) })
		run(t, []*bunstore.Store{openFile(t, file), plainly})
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { t.Parallel(); run(t, e.several(t, 3)) })
	}
	t.Run("PostgreSQL, New", func(t *testing.T) { // where a batch is a transaction of several statements
		t.Parallel()
		at := engines[0].fresh(t)
		engines[0].at(t, at)
		stores := make([]*bunstore.Store, 3)
		for i := range stores {
			stores[i] = newPostgres(t, at)
		}
		run(t, stores)
	})
}

// Whoever leaves while a message of theirs is being stored does not come back by it, whoever is first.
func TestSendersWhoLeaveStayAway(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		stores := e.several(t, 2)
		s := stores[1]
		db, _ := bunstore.Handles(s)
		waiting := map[string]string{
			"PostgreSQL": `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
			"MariaDB":    `SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist ON trx_mysql_thread_id = processlist.id WHERE db = DATABASE() AND trx_state = 'LOCK WAIT'`,
		}[e.name]
		for round := range 3 {
			joined(t, s, inRoom("r", "u1"))
			ended := make(chan error, 1)
			require.NoError(t, bunstore.Transact(t.Context(), stores[0], func(ctx context.Context, tx bun.Tx) error {
				if _, err := tx.ExecContext(ctx, "DELETE FROM parley_members WHERE user_id = 'u1'"); err != nil {
					return err
				}
				go func() {
					_, err := s.Messages().Append(t.Context(), messages("r", 10*round, 2))
					ended <- err
				}()
				assert.Eventually(t, func() bool {
					var n int
					assert.NoError(t, db.NewRaw(waiting).Scan(ctx, &n))
					return n > 0
				}, 20*time.Second, 150*time.Millisecond, "the message does not wait for whoever leaves") // MariaDB looks again only after a while
				return nil
			}))
			require.NoError(t, <-ended)
			has, err := s.Members().Has(t.Context(), "r", "u1")
			require.NoError(t, err)
			assert.False(t, has)
		}
	})
}

// Messages that somebody has deleted by other means, the oldest or the newest, are not unread; the last message is the last that is there.
func TestUnreadOfMessagesThatAreGone(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		joined(t, s, inRoom("r", "a"))
		all := appended(t, s, messages("r", 0, 8))
		deletes(t, s, "r", 2, 5)
		db, _ := bunstore.Handles(s)
		for _, test := range []struct{ below, unread, last uint64 }{{1, 6, 8}, {4, 4, 8}, {6, 3, 8}, {9, 0, 0}} {
			_, err := db.ExecContext(t.Context(), "DELETE FROM parley_messages WHERE seq < ?", test.below)
			require.NoError(t, err)
			got := mine(t, s, "a")[0]
			assert.Equal(t, test.unread, got.Unread, "from %d", test.below)
			assert.Equal(t, test.last, got.Last.Seq)
			assert.EqualValues(t, 8, got.Seq)
			assert.Equal(t, chat.Marked{Unread: test.unread}, marked(t, s, readTo("r", "a", 0))[0])
			if test.last > 0 {
				assert.Equal(t, all[7], got.Last)
				assert.Equal(t, all[7].At, got.Active)
			} else {
				assert.Equal(t, noon, got.Active)
			}
		}
		appended(t, s, messages("r", 10, 2))
		_, err := db.ExecContext(t.Context(), "DELETE FROM parley_messages WHERE seq = 10")
		require.NoError(t, err)
		assert.EqualValues(t, 9, mine(t, s, "a")[0].Last.Seq)
	})
}

// Memberships of an older program, also those that it stores while it runs beside, have read everything, until somebody joins, marks or sends
// by the newer one. What was deleted before does not count.
func TestUpgradeKeepsMemberships(t *testing.T) {
	first(t, 10, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		db, _ := bunstore.Handles(s)
		join := func(room string, ids ...string) {
			for _, id := range ids {
				_, err := db.ExecContext(t.Context(), "INSERT INTO parley_members (user_id, room, since) VALUES (?, ?, ?)", id, room, noon.UnixMicro())
				require.NoError(t, err)
			}
		}
		remove := func(seq, rev uint64) { // as that program does
			_, err := db.ExecContext(t.Context(), "UPDATE parley_messages SET text = ' ', deleted_at = ?, rev = ? WHERE seq = ?", noon.UnixMicro(), rev, seq)
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "INSERT INTO parley_changes (room_id, rev, seq) SELECT id, ?, ? FROM parley_room_seqs WHERE room = 'r'", rev, seq)
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "UPDATE parley_room_seqs SET rev = ? WHERE room = 'r'", rev)
			require.NoError(t, err)
		}
		oldMessages(t, s, messages("r", 0, 5))
		remove(2, 1)
		remove(4, 2)
		_, err := db.ExecContext(t.Context(), "INSERT INTO parley_changes (room_id, rev, seq) SELECT id, 3, 1 FROM parley_room_seqs WHERE room = 'r'") // an edit
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "UPDATE parley_room_seqs SET rev = 3 WHERE room = 'r'")
		require.NoError(t, err)
		join("r", "before", "marks", "u1")
		join("quiet", "before")
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		join("r", "beside")
		oldMessages(t, s, messages("r", 5, 2))

		for range 2 {
			for _, id := range []user.ID{"before", "beside"} {
				got := mine(t, s, id)
				at := slices.IndexFunc(got, func(r chat.MyRoom) bool { return r.Room == "r" })
				assert.EqualValues(t, 7, got[at].Read)
				assert.Zero(t, got[at].Unread)
				rooms, err := s.Members().RoomsOf(t.Context(), id, "quiet", 5)
				require.NoError(t, err)
				assert.Equal(t, []chat.Membership{{Room: "r", UserID: id, Since: noon, Read: 7, Role: chat.Regular}}, rooms)
			}
		}
		again := joined(t, s, inRoom("r", "beside"), inRoom("quiet", "before"), inRoom("r", "before"), inRoom("r", "new"))
		for i, read := range []uint64{7, 0, 7, 7} {
			assert.Equal(t, read, again[i].Read)
		}
		assert.Equal(t, []chat.Marked{{Read: 7}}, marked(t, s, readTo("r", "marks", 3)))
		var unknown int
		require.NoError(t, db.NewRaw("SELECT COUNT(*) FROM parley_members WHERE read_seq IS NULL").Scan(t.Context(), &unknown))
		assert.Equal(t, 1, unknown, "whoever has done nothing yet")
		got := appended(t, s, messages("r", 7, 1)) // by u1
		assert.EqualValues(t, 8, got[0].Seq)
		oldMessages(t, s, messages("r", 8, 2))
		for id, read := range map[user.ID]uint64{"u1": 8, "before": 7, "beside": 7, "marks": 7, "new": 7} {
			assert.Equal(t, chat.Marked{Read: read, Unread: 10 - read}, marked(t, s, readTo("r", id, 0))[0], id)
		}
		deletes(t, s, "r", 9, 2, 1)
		remove(10, 6) // beside
		assert.EqualValues(t, 2, marked(t, s, readTo("r", "new", 0))[0].Unread, "8, and 10, whose deletion is not known")
		_, err = db.ExecContext(t.Context(), "UPDATE parley_members SET read_seq = 0 WHERE user_id = 'new'")
		require.NoError(t, err)
		assert.EqualValues(t, 10-4, marked(t, s, readTo("r", "new", 0))[0].Unread, "1, 2, 4 and 9 are deleted, as is known")
	})
}

// What Mark, Mine, Add and Roles run finds everything by an index, however few rows there were when it was prepared.
func TestMarksAreFoundByTheirIndex(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, name string, s *bunstore.Store) {
		plans := func(when string) {
			db, _ := bunstore.Handles(s)
			for _, text := range bunstore.MarkTexts(s) {
				if strings.HasPrefix(text, "INSERT") && name != "PostgreSQL" {
					continue
				}
				if when == "empty" && strings.Contains(text, "WHERE at >= ?") {
					continue // to read what is all of it takes no index
				}
				query := strings.NewReplacer("?1", "1", "?2", "2", "?3", "3", "LIMIT ?", "LIMIT 5", "active < ? OR active = ?", "active < 1 OR active = 1", "CAST(? AS bigint)", "1", "?", "'1'").Replace(text)
				if name == "SQLite" {
					query = "QUERY PLAN " + query
				}
				var plan []string
				for row := range explained(t, db, query) {
					plan = append(plan, row)
				}
				t.Log(when, text, "\n\t", strings.Join(plan, "\n\t "))
				for _, row := range plan {
					assert.NotContains(t, row, "Seq Scan on parley_", text)
					assert.NotContains(t, row, "SCAN parley_", text)
					assert.NotContains(t, row, "SCAN found", text)
					if !strings.Contains(text, "FROM (SELECT page.*") {
						assert.NotContains(t, row, "filesort", text)
					}
					if strings.Contains(row, "parley_") || strings.Contains(row, "found") {
						assert.NotContains(t, row, " ALL ", text)
					}
				}
			}
		}
		if name != "MariaDB" { // it makes a plan each time
			plans("empty")
		}
		for i := range 20 {
			appended(t, s, messages(fmt.Sprint("room ", i), 1000*i, 200))
		}
		var many []chat.Message
		for i := range 1000 {
			many = append(many, message(fmt.Sprint("another room ", i), 0))
		}
		appended(t, s, many)
		var seqs []uint64
		for i := range 200 {
			seqs = append(seqs, uint64(i+1))
		}
		for i := range 6 {
			deletes(t, s, fmt.Sprint("room ", i), seqs...)
		}
		var memberships []chat.Membership
		for i := range 2000 {
			memberships = append(memberships, inRoom(fmt.Sprint("room ", i%20), user.ID(fmt.Sprint(i/10))))
		}
		joined(t, s, memberships...)
		db, _ := bunstore.Handles(s)
		for part := range 20 { // so many that an index is worth it
			values, rooms := make([]string, 500), make([]string, 500)
			for i := range values {
				values[i] = fmt.Sprintf("('room %d', 'user %d', 'mute', 'by', '', %d, 5)", part, i, 500*part+i)
				rooms[i] = fmt.Sprintf("('room %d', 'user %d', 5)", 500*part+i, i)
			}
			_, err := db.ExecContext(t.Context(), "INSERT INTO parley_restrictions (room, user_id, kind, by_id, reason, at, until) VALUES "+strings.Join(values, ", "))
			require.NoError(t, err)
			_, err = db.ExecContext(t.Context(), "INSERT INTO parley_rooms (name, created_by, created_at) VALUES "+strings.Join(rooms, ", "))
			require.NoError(t, err)
		}
		for part := range 20 {
			values := make([]string, 500)
			for i := range values {
				values[i] = fmt.Sprintf("('user %d', 'user %d', 5)", part, i)
			}
			_, err := db.ExecContext(t.Context(), "INSERT INTO parley_blocks (by_id, whom_id, at) VALUES "+strings.Join(values, ", "))
			require.NoError(t, err)
			for i := range values {
				values[i] = fmt.Sprintf("('user %d', 1)", 500*part+i)
			}
			_, err = db.ExecContext(t.Context(), "INSERT INTO parley_settings (user_id, hides_read) VALUES "+strings.Join(values, ", "))
			require.NoError(t, err)
		}
		_, err := db.ExecContext(t.Context(), map[string]string{
			"SQLite": "ANALYZE", "PostgreSQL": "ANALYZE", "MariaDB": "ANALYZE TABLE parley_messages, parley_members, parley_deletions, parley_room_seqs, parley_rooms, parley_restrictions, parley_blocks, parley_settings", //nolint:misspell // as they spell it
		}[name])
		require.NoError(t, err)
		plans("full")
	})
}

func TestMarkAndMineRunFewStatements(t *testing.T) {
	t.Parallel()
	s, c := counted(t)
	appended(t, s, messages("r", 0, 5))
	members := func(n int) (all []chat.Membership) {
		for i := range n {
			all = append(all, inRoom("r", user.ID(fmt.Sprint(n, "-", i))))
		}
		return all
	}
	to := func(all []chat.Membership, read uint64) func() error {
		var marks []chat.Mark
		for _, m := range all {
			marks = append(marks, readTo(m.Room, m.UserID, read))
		}
		return func() error { _, err := s.Members().Mark(t.Context(), marks); return err }
	}
	add := func(all []chat.Membership) func() error {
		return func() error { _, err := s.Members().Add(t.Context(), all...); return err }
	}
	list := func() error { _, err := s.Members().Mine(t.Context(), "1-0", chat.Place{}, 100); return err }
	joined(t, s, members(1)...)
	joined(t, s, members(10)...)
	joined(t, s, members(64)...)
	joined(t, s, members(200)...)
	mine(t, s, "1-0")
	require.NoError(t, to(members(1), 0)())
	appended(t, s, messages("r", 5, 5))
	const lock = 1 + 1 // keep other writers out, read the members
	for _, test := range []struct {
		name string
		do   func() error
		ran  int64
	}{
		{"a look", to(members(1), 0), lock + 1},
		{"a mark", to(members(1), 7), lock + 1 + 1},
		{"a mark at the end", to(members(1), 10), lock + 1},
		{"a look at the end", to(members(1), 10), lock},
		{"64 marks", to(members(64), 7), lock + 1 + 1},
		{"200 marks", to(members(200), 7), 1 + 4 + 4 + 1},
		{"coming back", add(members(1)), 1},
		{"ten who come back", add(members(10)), 1},
		{"a newcomer", add([]chat.Membership{inRoom("r", "new")}), 2},
		{"newcomers", add(members(63)), 2},
		{"rooms", list, 1},
	} {
		ran, prepared := c.ran.Load(), c.prepared.Load()
		require.NoError(t, test.do(), test.name)
		assert.Equal(t, test.ran, c.ran.Load()-ran, "%s: statements run", test.name)
		assert.LessOrEqual(t, c.prepared.Load()-prepared, int64(1), "%s: statements parsed", test.name)
	}
}

// A mark whose context ends moves nothing.
func TestCancelledMarkMovesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	joined(t, s, inRoom("r", "a"))
	appended(t, s, messages("r", 0, 2))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Members().Mark(gone, []chat.Mark{readTo("r", "a", 1)})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Members().Add(gone, inRoom("r", "b"))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, []chat.Marked{{Unread: 2}}, marked(t, s, readTo("r", "a", 0)))
	assert.Empty(t, mine(t, s, "b"))
}
