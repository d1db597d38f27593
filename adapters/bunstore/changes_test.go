package bunstore_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func author(id user.ID) chat.Author { return chat.Author{ID: id, Name: "somebody"} }

// edit is a change by the one who writes all messages here.
func edit(room string, seq uint64, text string) chat.Change {
	return chat.Change{Kind: chat.Edit, Room: room, Seq: seq, By: author("u1"), Text: text, At: noon.Add(time.Hour)}
}

func react(room string, seq uint64, by user.ID, key string) chat.Change {
	return chat.Change{Kind: chat.React, Room: room, Seq: seq, By: author(by), Key: key, At: noon.Add(time.Hour)}
}

func appended(t testing.TB, s *bunstore.Store, all []chat.Message) []chat.Message {
	t.Helper()
	got, err := s.Messages().Append(t.Context(), all)
	require.NoError(t, err)
	stored := make([]chat.Message, len(got))
	for i := range got {
		stored[i] = got[i].Message
	}
	return stored
}

// A batch may change one message several times. Each change has an answer and a number of its own, and what is refused harms no other.
func TestChangesOfOneMessageInABatch(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		first := message("r", 0)
		first.Data, first.ReplyTo = `{"a":1}`, 7
		want := appended(t, s, []chat.Message{first, message("r", 1), message("other", 0)})[0]
		at := noon.Add(time.Hour + 999*time.Nanosecond).In(time.FixedZone("east", 7200))
		batch := []chat.Change{
			react("r", 1, "a", "👍"),
			react("r", 1, "b", "👍"),
			edit("r", 1, "edited"),
			react("r", 1, "a", "👍"),
			{Kind: chat.Unreact, Room: "r", Seq: 1, By: author("a"), Key: "👍", At: at},
			{Kind: chat.Unreact, Room: "r", Seq: 1, By: author("c"), Key: "👍", At: at},
			{Kind: chat.Edit, Room: "r", Seq: 1, By: author("somebody else"), Text: "not mine", At: at},
			{Kind: chat.Edit, Room: "r", Seq: 1, By: author("somebody else"), Any: true, Text: "any", Data: `{"b":2}`, At: at},
			edit("r", 1, "any"),
			edit("r", 3, "x"), edit("none", 1, "x"), edit("r", 0, "x"), edit("r", math.MaxUint64, "x"), edit("a\x00b", 1, "x"),
		}
		got, err := s.Messages().Change(t.Context(), batch)
		require.NoError(t, err)
		require.Len(t, got, len(batch))
		later := noon.Add(time.Hour)
		for i, change := range []func(m *chat.Message){
			0: func(m *chat.Message) { m.Reactions = []chat.Reaction{{Key: "👍", Count: 1, Users: []user.ID{"a"}}} },
			1: func(m *chat.Message) {
				m.Reactions = []chat.Reaction{{Key: "👍", Count: 2, Users: []user.ID{"a", "b"}}}
			},
			2: func(m *chat.Message) { m.Text, m.EditedAt = "edited", later },
			4: func(m *chat.Message) { m.Reactions = []chat.Reaction{{Key: "👍", Count: 1, Users: []user.ID{"b"}}} },
			7: func(m *chat.Message) { m.Text, m.Data, m.EditedAt = "any", `{"b":2}`, later },
			8: nil,
		} {
			switch {
			case i == 6:
				require.ErrorIs(t, got[i].Err, chat.ErrNotAllowed)
				assert.Zero(t, got[i].Message)
				continue
			case change != nil:
				change(&want)
				want.Rev++
			}
			assert.Equal(t, chat.Changed{Message: want, Repeated: change == nil}, got[i], "change %d", i)
		}
		for _, refused := range got[9:] {
			assert.Equal(t, chat.Changed{Err: chat.ErrMessageNotFound}, refused)
		}
		stored := func() chat.Message {
			all, err := s.Messages().List(t.Context(), "r", chat.Range{Limit: 1})
			require.NoError(t, err)
			changed, err := s.Messages().List(t.Context(), "r", chat.Range{Changed: true, Limit: 10})
			require.NoError(t, err)
			assert.Equal(t, all, changed, "it stands among the changes once")
			return all[0]
		}
		assert.Equal(t, want, stored())
		again, err := s.Messages().Append(t.Context(), []chat.Message{first})
		require.NoError(t, err)
		assert.Equal(t, chat.Stored{Message: want, Repeated: true}, again[0], "what is sent again is as it is now")

		remove := chat.Change{Kind: chat.Delete, Room: "r", Seq: 1, By: author("u1"), At: at}
		got, err = s.Messages().Change(t.Context(), []chat.Change{
			react("r", 1, "c", "x"), remove, remove, edit("r", 1, "x"), react("r", 1, "b", "👍"),
		})
		require.NoError(t, err)
		want.Rev += 2
		want.Text, want.Data, want.ReplyTo, want.Reactions, want.EditedAt, want.DeletedAt = "", "", 0, nil, time.Time{}, later
		assert.Equal(t, chat.Changed{Message: want}, got[1])
		assert.Equal(t, chat.Changed{Message: want, Repeated: true}, got[2])
		require.ErrorIs(t, got[3].Err, chat.ErrMessageDeleted)
		require.ErrorIs(t, got[4].Err, chat.ErrMessageDeleted)
		assert.Equal(t, want, stored())
		assert.Empty(t, marks(t, s))
		bounds, err := s.Messages().Bounds(t.Context(), "r")
		require.NoError(t, err)
		assert.Equal(t, chat.Bounds{First: 1, Last: 2, Rev: want.Rev}, bounds)
		bounds, err = s.Messages().Bounds(t.Context(), "other")
		require.NoError(t, err)
		assert.Equal(t, chat.Bounds{First: 1, Last: 1}, bounds)
		bounds, err = s.Messages().Bounds(t.Context(), "none")
		require.NoError(t, err)
		assert.Equal(t, chat.Bounds{First: 1}, bounds, "a change makes no room")
		none, err := s.Messages().Change(t.Context(), nil)
		require.NoError(t, err)
		assert.Empty(t, none)
	})
}

// marks are the reactions that are stored, as text.
func marks(t *testing.T, s *bunstore.Store) (all []string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	var rows []struct {
		RoomID, Seq      int64
		Reaction, UserID string
	}
	require.NoError(t, db.NewRaw("SELECT room_id, seq, reaction, user_id FROM parley_reactions").Scan(t.Context(), &rows))
	for _, r := range rows {
		all = append(all, fmt.Sprint(r.RoomID, r.Seq, r.Reaction, r.UserID))
	}
	slices.Sort(all)
	return all
}

// What a column cannot hold is refused in its own answer.
func TestChangeRefusesWhatDoesNotFit(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		appended(t, s, messages("r", 0, 2))
		long := strings.Repeat("é", chat.MaxText)
		bad := []chat.Change{
			edit("r", 1, "a\x00b"), edit("r", 1, "a\xff"), edit("r", 1, long+"x"), edit("r", 1, ""),
			react("r", 1, "a", "a\x00b"), react("r", 1, "a", "\xff"), react("r", 1, "a", ""), react("r", 1, "a", strings.Repeat("é", chat.MaxReactionKey+1)),
			react("r", 1, "a\x00", "x"), react("r", 1, user.ID(strings.Repeat("é", 129)), "x"),
			{Kind: chat.Edit, Room: "r", Seq: 1, By: author("u1"), Text: "x", Data: "\x00"},
			{Kind: chat.Edit, Room: "r", Seq: 1, By: author("u1"), Text: "x", Data: strings.Repeat("x", chat.MaxData+1)},
		}
		good := []chat.Change{
			{Kind: chat.Edit, Room: "r", Seq: 2, By: author("u1"), Text: long, Data: strings.Repeat("é", chat.MaxData/2), At: noon},
			react("r", 2, user.ID(strings.Repeat("é", 128)), strings.Repeat("é", chat.MaxReactionKey)),
			react("r", 2, "", `'"\ ?0 $1 %s <&>`),
		}
		got, err := s.Messages().Change(t.Context(), slices.Concat(bad, good, []chat.Change{{Room: "r", Seq: 1}}))
		require.NoError(t, err)
		for i := range bad {
			require.ErrorIs(t, got[i].Err, fault.Invalid, "%d", i)
			assert.Zero(t, got[i].Message)
		}
		require.ErrorIs(t, got[len(got)-1].Err, fault.Internal, "a change of no kind")
		got = got[len(bad) : len(got)-1]
		for i := range good {
			require.NoError(t, got[i].Err)
			assert.EqualValues(t, i+1, got[i].Rev)
		}
		all, err := s.Messages().List(t.Context(), "r", chat.Range{Limit: 5})
		require.NoError(t, err)
		assert.Equal(t, []chat.Message{{
			Room: "r", Seq: 1, ID: "m-r-0", ClientID: "c0", Author: chat.Author{ID: "u1", Name: "Ada"}, Text: "text 0", At: noon,
		}, got[len(got)-1].Message}, all)
	})
}

// stored is what a store has to hold, kept in memory by chat.Change.Apply alone.
type stored struct {
	messages map[string][]chat.Message
	revs     map[string]uint64
	reacted  map[string]bool
}

func (s *stored) change(c chat.Change) chat.Changed {
	if c.Seq == 0 || c.Seq > uint64(len(s.messages[c.Room])) {
		return chat.Changed{Err: chat.ErrMessageNotFound}
	}
	m := &s.messages[c.Room][c.Seq-1]
	mark := fmt.Sprint(c.Room, c.Seq, c.Key, c.By.ID)
	after, changed, err := c.Apply(*m, s.reacted[mark])
	switch {
	case err != nil:
		return chat.Changed{Err: err}
	case !changed:
		return chat.Changed{Message: *m, Repeated: true}
	}
	s.revs[c.Room]++
	after.Rev = s.revs[c.Room]
	*m = after
	switch c.Kind {
	case chat.React, chat.Unreact:
		s.reacted[mark] = c.Kind == chat.React
	case chat.Delete:
		for mark := range s.reacted {
			if strings.HasPrefix(mark, fmt.Sprint(c.Room, c.Seq)) {
				delete(s.reacted, mark)
			}
		}
	}
	return chat.Changed{Message: after}
}

// Random batches leave what Apply says, read in each way, and as many reactions.
func TestChangesAtRandom(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		rooms := []string{"A", "a", "b"}
		const perRoom, users = 9, 30 // one digit, as marks are texts
		want := stored{map[string][]chat.Message{}, map[string]uint64{}, map[string]bool{}}
		for _, room := range rooms {
			want.messages[room] = appended(t, s, messages(room, 0, perRoom))
		}
		dice := rand.New(rand.NewPCG(10, 10))
		keys := []string{"👍", "👎", "A", "a", "é"}
		for round := range 60 {
			batch := make([]chat.Change, 1+dice.IntN(100))
			for i := range batch {
				c := chat.Change{
					Kind: chat.React, Room: rooms[dice.IntN(len(rooms))], Seq: uint64(dice.IntN(perRoom + 2)),
					By: author(user.ID(fmt.Sprint("u", dice.IntN(users)))), Any: dice.IntN(8) == 0, At: noon.Add(time.Duration(round) * time.Second),
				}
				switch n := dice.IntN(400); {
				case n == 0:
					c.Kind = chat.Delete
				case n < 60:
					c.Kind, c.Text = chat.Edit, fmt.Sprint("text", dice.IntN(10))
				case n < 180:
					c.Kind = chat.Unreact
				}
				if c.Kind >= chat.React {
					c.Key = keys[dice.IntN(len(keys))]
				}
				batch[i] = c
			}
			got, err := s.Messages().Change(t.Context(), batch)
			require.NoError(t, err)
			for i, c := range batch {
				answer := want.change(c)
				require.Equal(t, fmt.Sprint(answer.Err), fmt.Sprint(got[i].Err), "round %d, change %d", round, i)
				answer.Err, got[i].Err = nil, nil
				require.Equal(t, answer, got[i], "round %d, change %d: %+v", round, i, c)
			}
		}
		there := 0
		for _, is := range want.reacted {
			if is {
				there++
			}
		}
		require.Positive(t, there)
		assert.Len(t, marks(t, s), there)
		for _, room := range rooms {
			all, err := s.Messages().List(t.Context(), room, chat.Range{Limit: 100})
			require.NoError(t, err)
			require.Equal(t, want.messages[room], all)
			bounds, err := s.Messages().Bounds(t.Context(), room)
			require.NoError(t, err)
			require.Equal(t, chat.Bounds{First: 1, Last: perRoom, Rev: want.revs[room]}, bounds)
			byRev := slices.DeleteFunc(slices.Clone(all), func(m chat.Message) bool { return m.Rev == 0 })
			slices.SortFunc(byRev, func(a, b chat.Message) int { return cmp.Compare(a.Rev, b.Rev) })
			require.Greater(t, len(byRev), 3)
			for range 50 {
				r := chat.Range{Changed: true, Limit: 1 + dice.IntN(10), Newest: dice.IntN(2) == 0}
				if dice.IntN(3) > 0 {
					r.After = byRev[dice.IntN(len(byRev))].Rev - uint64(dice.IntN(2))
				}
				if dice.IntN(3) > 0 {
					r.Before = byRev[dice.IntN(len(byRev))].Rev + uint64(dice.IntN(2))
				}
				if dice.IntN(2) > 0 {
					r.UpTo = uint64(1 + dice.IntN(perRoom))
				}
				expected := []chat.Message{}
				for _, m := range byRev {
					if m.Rev > r.After && (r.Before == 0 || m.Rev < r.Before) && (r.UpTo == 0 || m.Seq <= r.UpTo) && len(expected) < r.Limit {
						expected = append(expected, m)
					}
				}
				got, err := s.Messages().List(t.Context(), room, r)
				require.NoError(t, err)
				require.Equal(t, expected, got, "%+v", r)
			}
		}
	})
}

// Several processes and goroutines that change messages of the same rooms, each in an order of its own, while others send: no number is
// missing or given twice, and nobody is given up.
func TestStoresChangeTogether(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, stores []*bunstore.Store) {
		rooms := []string{"a", "b", "c", "d", "e"}
		const workers, calls = 4, 8
		for _, room := range rooms {
			appended(t, stores[0], messages(room, 0, 3))
		}
		var mu sync.Mutex
		given := map[string]map[uint64]bool{}
		var wg sync.WaitGroup
		for i, s := range stores {
			for w := range workers {
				wg.Go(func() {
					for c := range calls {
						var batch []chat.Change
						for k := range rooms {
							room := rooms[(k*(w+1)+c)%len(rooms)]
							by := user.ID(fmt.Sprint(i, w, c))
							batch = append(batch, react(room, 1, by, "x"), edit(room, 2, string(by)), edit(room, 9, ""))
						}
						got, err := s.Messages().Change(t.Context(), batch)
						if !assert.NoError(t, err) {
							return
						}
						mu.Lock()
						for n, m := range got {
							if m.Err != nil {
								continue
							}
							if given[m.Room] == nil {
								given[m.Room] = map[uint64]bool{}
							}
							assert.False(t, m.Repeated || given[m.Room][m.Rev], "%s has %d twice: %v", m.Room, m.Rev, n)
							given[m.Room][m.Rev] = true
						}
						mu.Unlock()
						_, err = s.Messages().Append(t.Context(), messages(rooms[c%len(rooms)], 1000*(i*workers+w)+10*c+10, 2))
						assert.NoError(t, err)
					}
				})
			}
		}
		wg.Wait()
		const each = workers * calls * 2
		for _, room := range rooms {
			bounds, err := stores[0].Messages().Bounds(t.Context(), room)
			require.NoError(t, err)
			assert.EqualValues(t, each*len(stores), bounds.Rev)
			assert.Len(t, given[room], each*len(stores), "answers of %s", room)
			for rev := range bounds.Rev {
				assert.True(t, given[room][rev+1], "%s lacks %d", room, rev+1)
			}
			all, err := stores[0].Messages().List(t.Context(), room, chat.Range{Limit: 2})
			require.NoError(t, err)
			assert.Equal(t, each/2*len(stores), all[0].Reactions[0].Count)
			assert.Equal(t, bounds.Rev, max(all[0].Rev, all[1].Rev))
		}
		assert.Len(t, marks(t, stores[0]), len(rooms)*each/2*len(stores))
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		file := newFile(t)
		plainly, err := bunstore.New(plain(t, file))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, plainly.Close()) })
		run(t, []*bunstore.Store{openFile(t, file), openFile(t, file), plainly})
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			run(t, e.several(t, 3))
		})
	}
}

// What an older program has stored, and stores while it runs beside, was never changed, and can be.
func TestUpgradeLetsMessagesChange(t *testing.T) {
	first(t, 9, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		// As a program of that schema stores what has more.
		want := oldMessages(t, s, messages("a", 0, 40))
		db, _ := bunstore.Handles(s)
		_, err := db.ExecContext(t.Context(), "UPDATE parley_messages SET reply_to = 1, data = '{}' WHERE seq = 2")
		require.NoError(t, err)
		want[1].ReplyTo, want[1].Data = 1, "{}"
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		want = append(want, oldMessages(t, s, messages("a", 100, 2))...) // beside
		oldMessages(t, s, messages("b", 0, 1))                           // which makes a room
		all, err := s.Messages().List(t.Context(), "a", chat.Range{Limit: 100})
		require.NoError(t, err)
		assert.Equal(t, want, all)
		changed, err := s.Messages().List(t.Context(), "a", chat.Range{Limit: 100, Changed: true})
		require.NoError(t, err)
		assert.Empty(t, changed)
		for room, last := range map[string]uint64{"a": 42, "b": 1} {
			bounds, err := s.Messages().Bounds(t.Context(), room)
			require.NoError(t, err)
			assert.Equal(t, chat.Bounds{First: 1, Last: last}, bounds)
		}
		got, err := s.Messages().Change(t.Context(), []chat.Change{
			edit("a", 2, "new"), react("a", 42, "x", "y"), {Kind: chat.Delete, Room: "a", Seq: 41, By: author("u1"), At: noon}, edit("b", 1, "new"),
		})
		require.NoError(t, err)
		for i, rev := range []uint64{1, 2, 3, 1} {
			require.NoError(t, got[i].Err)
			assert.Equal(t, rev, got[i].Rev)
		}
		want[1], want[41], want[40] = got[0].Message, got[1].Message, got[2].Message
		want = append(want, oldMessages(t, s, messages("a", 200, 1))...)
		all, err = s.Messages().List(t.Context(), "a", chat.Range{Limit: 100})
		require.NoError(t, err)
		assert.Equal(t, want, all)

		db, _ = bunstore.Handles(s)
		var text string // as the older program reads
		var data sql.NullString
		require.NoError(t, db.NewRaw("SELECT text, data FROM parley_messages WHERE room_id = (SELECT id FROM parley_room_seqs WHERE room = 'a') AND seq = 41").
			Scan(t.Context(), &text, &data))
		assert.Equal(t, " ", text)
		assert.False(t, data.Valid)
	})
}

// Every plan of a server begins with what was asked for, though there are many messages and few changes.
func TestChangesAreFoundByTheirIndex(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		s := e.migrated(t)
		db, _ := bunstore.Handles(s)
		for i := range 20 {
			appended(t, s, messages(fmt.Sprint(i%4), 1000*i, 500))
		}
		changes := make([]chat.Change, 300)
		for i := range changes {
			changes[i] = edit("1", uint64(i+1), "x")
		}
		_, err := s.Messages().Change(t.Context(), changes)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), map[string]string{
			"PostgreSQL": "ANALYZE", "MariaDB": "ANALYZE TABLE parley_messages, parley_changes, parley_reactions, parley_room_seqs", //nolint:misspell // as the servers spell it
		}[e.name])
		require.NoError(t, err)
		texts := append(bunstore.ChangeTexts(s), bunstore.ListChanged(s))
		for _, text := range texts {
			if strings.HasPrefix(text, "INSERT") {
				continue
			}
			var plan []string
			for row := range explained(t, db, strings.NewReplacer("LIMIT ?", "LIMIT 5", "?", "'1'").Replace(text)) {
				plan = append(plan, row)
			}
			t.Log(text, "\n\t", strings.Join(plan, "\n\t "))
			for _, row := range plan {
				assert.NotContains(t, row, "Seq Scan on parley_messages", text)
				if strings.Contains(row, "parley_messages") || strings.Contains(row, "parley_changes") {
					assert.NotContains(t, row, " ALL ", text)
				}
			}
		}
	})
}

// explained are the lines of a plan.
func explained(t *testing.T, db *bun.DB, query string) func(yield func(string) bool) {
	t.Helper()
	return func(yield func(string) bool) {
		rows, err := db.DB.QueryContext(t.Context(), "EXPLAIN "+query)
		require.NoError(t, err, query)
		defer func() { assert.NoError(t, rows.Close()) }()
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			values, to := make([]sql.NullString, len(columns)), make([]any, len(columns))
			for i := range values {
				to[i] = &values[i]
			}
			require.NoError(t, rows.Scan(to...))
			line := ""
			for _, v := range values {
				line += " " + v.String + " "
			}
			if !yield(line) {
				return
			}
		}
		assert.NoError(t, rows.Err())
	}
}

func TestChangeRunsFewStatements(t *testing.T) {
	t.Parallel()
	c := &counter{dsn: "file:" + filepath.Join(t.TempDir(), "parley.db") + "?_journal_mode=WAL"}
	db := sql.OpenDB(c)
	defer func() { assert.NoError(t, db.Close()) }()
	db.SetMaxOpenConns(1)
	s, err := bunstore.New(bun.NewDB(db, sqlitedialect.New()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, s.Migrate(t.Context()))
	appended(t, s, messages("r", 0, 500))
	_, err = s.Messages().Change(t.Context(), []chat.Change{edit("r", 500, "x")})
	require.NoError(t, err)
	edits := func(n int, text string) (all []chat.Change) {
		for i := range n {
			all = append(all, edit("r", uint64(i+1), text))
		}
		return all
	}
	var marks []chat.Change
	for i := range 64 {
		marks = append(marks, react("r", uint64(i%2+101), user.ID(fmt.Sprint(i)), "x"))
	}
	const lock = 1 + 1 // keep other writers out, lock the room
	for _, test := range []struct {
		name  string
		batch []chat.Change
		ran   int64
	}{
		{"one edit", edits(1, "a"), lock + 4},              // read, rewrite, note, count
		{"one more", edits(1, "b"), lock + 5},              // and forget
		{"the same", edits(1, "b"), lock + 1},              // read
		{"a hundred", edits(100, "c"), lock + 4*3 + 1 + 1}, // 64+16+16+4 each of read, rewrite and note; forget one; count
		{"64 reactions to two", marks, lock + 2 + 1 + 2 + 2 + 1 + 1},
	} {
		ran, prepared := c.ran.Load(), c.prepared.Load()
		_, err := s.Messages().Change(t.Context(), test.batch)
		require.NoError(t, err)
		assert.Equal(t, test.ran, c.ran.Load()-ran, "%s: statements run", test.name)
		assert.LessOrEqual(t, c.prepared.Load()-prepared, int64(1), "%s: statements parsed", test.name)
	}
}

// A change whose context ends, or whose store is closed, leaves nothing.
func TestCancelledChangeChangesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	want := appended(t, s, messages("r", 0, 2))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Messages().Change(gone, []chat.Change{edit("r", 1, "x")})
	require.ErrorIs(t, err, fault.Unavailable)
	all, err := s.Messages().List(t.Context(), "r", chat.Range{Limit: 5})
	require.NoError(t, err)
	assert.Equal(t, want, all)
	require.NoError(t, s.Close())
	_, err = s.Messages().Change(t.Context(), []chat.Change{edit("r", 1, "x")})
	require.ErrorIs(t, err, fault.Unavailable)
}

// Free space is wiped when something was erased, also by a process that has ended, and at no other time: it costs a look at the whole file.
func TestFreeSpaceIsWipedOnlyWhenSomethingWasErased(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	open := func() *bunstore.Store {
		s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Hour})
		require.NoError(t, err)
		return s
	}
	s := open()
	appended(t, s, []chat.Message{message("hall", 1), message("hall", 2)})
	author := message("hall", 1).Author
	change := func(c chat.Change) chat.Changed {
		t.Helper()
		c.Room, c.By, c.At = "hall", author, noon
		got, err := s.Messages().Change(t.Context(), []chat.Change{c})
		require.NoError(t, err)
		return got[0]
	}
	require.NoError(t, s.Close())
	s = open()
	assert.False(t, bunstore.WipingIsDue(s), "nothing was ever erased")
	require.NoError(t, change(chat.Change{Kind: chat.React, Seq: 2, Key: "+1"}).Err)
	require.True(t, change(chat.Change{Kind: chat.Edit, Seq: 1, Text: message("hall", 1).Text}).Repeated)
	require.True(t, change(chat.Change{Kind: chat.Unreact, Seq: 1, Key: "+1"}).Repeated)
	require.ErrorIs(t, change(chat.Change{Kind: chat.Delete, Seq: 3}).Err, chat.ErrMessageNotFound)
	assert.False(t, bunstore.WipingIsDue(s), "nothing was erased")
	require.NoError(t, change(chat.Change{Kind: chat.Edit, Seq: 1, Text: "else"}).Err)
	assert.True(t, bunstore.WipingIsDue(s))
	require.NoError(t, s.Close())
	s = open()
	assert.True(t, bunstore.WipingIsDue(s), "the process before has ended before it had done so")
	require.NoError(t, s.Close())
}
