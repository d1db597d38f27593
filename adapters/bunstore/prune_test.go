package bunstore_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
)

// Nothing of a message that was removed by age is in the file or its log a while later, while the store is open and people talk on.
func TestPrunedMessagesAreNotAtRest(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: hundreds of commits, each synced to the disk")
	}
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	const rooms = 5
	n := 0
	say := func(secret string, count int) {
		for range count {
			n++
			m := message(fmt.Sprint("room", n%rooms), n)
			m.Text = secret + strings.Repeat("x", n*37%900)
			if secret != "" {
				m.Data, m.ClientID, m.Author.Name = `{"secret":"`+secret+`"}`, secret+fmt.Sprint(n), secret
			} else {
				m.Text += "y"
			}
			appended(t, s, []chat.Message{m})
		}
	}
	for round := range 3 {
		say(canary, 60)
		for room := range rooms {
			name := fmt.Sprint("room", room)
			b, err := s.Messages().Bounds(t.Context(), name)
			require.NoError(t, err)
			c := chat.Change{Kind: chat.React, Room: name, Seq: b.Last, By: chat.Author{ID: canary}, Key: canary}
			c.Key = c.Key[:min(len(c.Key), chat.MaxReactionKey)]
			edited := edit(name, b.Last-1, canary+"edited")
			edited.Any = true
			answers, err := s.Messages().Change(t.Context(), []chat.Change{c, edited})
			require.NoError(t, err)
			require.NoError(t, answers[0].Err)
			require.NoError(t, answers[1].Err)
		}
		say("", 10)
		require.Positive(t, atRest(t, file), "it is there")
		for room := range rooms {
			name := fmt.Sprint("room", room)
			b, err := s.Messages().Bounds(t.Context(), name)
			require.NoError(t, err)
			removed, err := s.Messages().Prune(t.Context(), name, b.Last-1) // the last two of each room are others'
			require.NoError(t, err)
			require.Positive(t, removed)
		}
		assert.Eventually(t, func() bool { return atRest(t, file) == 0 }, 20*time.Second, 5*time.Millisecond, "round %d: %d are left", round, atRest(t, file))
	}
	say(canary, 40)
	_, err = s.Rooms().Ensure(t.Context(), chat.Room{Name: "room0", CreatedBy: canary, CreatedAt: noon})
	require.NoError(t, err)
	joined(t, s, chat.Membership{Room: "room0", UserID: canary, Since: noon})
	for room := range rooms {
		for left := true; left; {
			left, err = s.Messages().Drop(t.Context(), fmt.Sprint("room", room), 7)
			require.NoError(t, err)
		}
	}
	assert.Eventually(t, func() bool { return atRest(t, file) == 0 }, 20*time.Second, 5*time.Millisecond, "%d are left of the rooms", atRest(t, file))
	write, _ := bunstore.Handles(s)
	var verdict string
	require.NoError(t, write.DB.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict))
	assert.Equal(t, "ok", verdict)
}

// Free space is wiped after a removal, also by the process that comes next, and also if no message was ever changed.
func TestFreeSpaceIsWipedAfterARemoval(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	open := func() *bunstore.Store {
		s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Hour})
		require.NoError(t, err)
		return s
	}
	s := open()
	appended(t, s, messages("hall", 0, 5))
	removed, err := s.Messages().Prune(t.Context(), "hall", 1)
	require.NoError(t, err)
	require.Zero(t, removed)
	require.NoError(t, s.Close())
	s = open()
	assert.False(t, bunstore.WipingIsDue(s), "nothing was removed")
	for _, first := range []uint64{3, 4} {
		removed, err = s.Messages().Prune(t.Context(), "hall", first)
		require.NoError(t, err)
		require.Positive(t, removed)
	}
	assert.True(t, bunstore.WipingIsDue(s))
	require.NoError(t, s.Close())
	s = open()
	assert.True(t, bunstore.WipingIsDue(s), "the process before has ended before it had done so")
	require.NoError(t, s.Close())
}

// Nothing that is about a removed message stays in any table, and nothing that is about another one goes.
func TestPruneLeavesNoRow(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		appended(t, s, messages("r", 0, 6))
		appended(t, s, messages("other", 10, 6))
		for _, room := range []string{"r", "other"} {
			for seq := range uint64(6) {
				answers, err := s.Messages().Change(t.Context(), []chat.Change{
					{Kind: chat.React, Room: room, Seq: seq + 1, By: chat.Author{ID: "a"}, Key: "+1"}, {Kind: chat.React, Room: room, Seq: seq + 1, By: chat.Author{ID: "b"}, Key: "+1"},
				})
				require.NoError(t, err)
				require.NoError(t, answers[0].Err)
			}
			deletes(t, s, room, 2, 4, 6)
		}
		db, _ := bunstore.Handles(s)
		rows := func() (counts []int) {
			for _, table := range []string{"parley_messages", "parley_changes WHERE room_id > 0", "parley_reactions", "parley_deletions"} {
				var n int
				require.NoError(t, db.NewRaw("SELECT COUNT(*) FROM "+table).Scan(t.Context(), &n))
				counts = append(counts, n)
			}
			return counts
		}
		require.Equal(t, []int{12, 12, 12, 6}, rows())
		removed, err := s.Messages().Prune(t.Context(), "r", 4)
		require.NoError(t, err)
		assert.Equal(t, 3, removed)
		assert.Equal(t, []int{9, 9, 8, 5}, rows())
		removed, err = s.Messages().Prune(t.Context(), "r", 100)
		require.NoError(t, err)
		assert.Equal(t, 3, removed)
		assert.Equal(t, []int{6, 6, 6, 3}, rows())
	})
}

// What is removed at the same time as it is changed is changed first, or not at all.
func TestPruneAmongChanges(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		appended(t, s, messages("r", 0, 200))
		_, err := s.Messages().Change(t.Context(), []chat.Change{edit("r", 200, "x")}) // whoever is quicker then
		require.NoError(t, err)
		var wg sync.WaitGroup
		for worker := range 3 {
			wg.Go(func() {
				for seq := uint64(1); seq <= 200; seq++ {
					answers, err := s.Messages().Change(t.Context(), []chat.Change{
						{Kind: chat.React, Room: "r", Seq: seq, By: chat.Author{ID: "a"}, Key: fmt.Sprint(worker)}, {Kind: chat.Delete, Any: true, Room: "r", Seq: 201 - seq, At: noon},
					})
					if !assert.NoError(t, err) || !assert.Len(t, answers, 2) {
						return
					}
				}
			})
		}
		wg.Go(func() {
			for first := uint64(1); first <= 201; first += 5 {
				_, err := s.Messages().Prune(t.Context(), "r", first)
				if !assert.NoError(t, err) {
					return
				}
			}
		})
		wg.Wait()
		db, _ := bunstore.Handles(s)
		for _, table := range []string{"parley_messages", "parley_changes WHERE room_id > 0", "parley_reactions", "parley_deletions"} {
			var n int
			require.NoError(t, db.NewRaw("SELECT COUNT(*) FROM "+table).Scan(t.Context(), &n))
			assert.Zero(t, n, table)
		}
		b, err := s.Messages().Bounds(t.Context(), "r")
		require.NoError(t, err)
		assert.Equal(t, uint64(201), b.First)
		assert.Equal(t, uint64(200), b.Last)
		assert.Positive(t, b.Rev)
	})
}

// The first messages of a room are found by their key, however large the tables are.
func TestOldMessagesAreFoundByTheirIndex(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		s := e.migrated(t)
		db, _ := bunstore.Handles(s)
		for i := range 20 {
			appended(t, s, messages(fmt.Sprint(i%4), 1000*i, 500))
		}
		_, err := db.ExecContext(t.Context(), map[string]string{
			"PostgreSQL": "ANALYZE", "MariaDB": "ANALYZE TABLE parley_messages, parley_changes, parley_reactions, parley_room_seqs", //nolint:misspell // as the servers spell it
		}[e.name])
		require.NoError(t, err)
		for _, text := range bunstore.PruneTexts(s) {
			var plan []string
			for row := range explained(t, db, strings.NewReplacer("room = ?", "room = '1'", "?", "5").Replace(text)) {
				plan = append(plan, row)
			}
			t.Log(text, "\n\t", strings.Join(plan, "\n\t "))
			for _, row := range plan {
				assert.NotContains(t, row, "Seq Scan on parley_messages", text)
				if strings.Contains(row, "parley_messages") {
					assert.NotContains(t, row, " ALL ", text)
				}
			}
		}
	})
}
