package bunstore_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
)

// canary is what no file may hold when it was used.
const canary = "canary-of-a-code-"

// atRest counts canaries in the file of a database and in what stands beside it.
func atRest(t *testing.T, file string) (found int) {
	t.Helper()
	files, err := filepath.Glob(file + "*")
	require.NoError(t, err)
	for _, name := range files {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		found += bytes.Count(content, []byte(canary))
	}
	return found
}

// Codes stand in events and in mails until these have gone. A while after it nothing of them is in the file, nor in
// its log, while the store is open and people talk.
func TestCodesThatWereUsedAreNotAtRest(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: hundreds of commits, each synced to the disk")
	}
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	queue, n := s.MailQueue(), 0
	secret := func() []byte { // of different lengths, so that pages are filled and split in many ways
		n++
		return fmt.Appendf(nil, "%s%04d%s", canary, n, strings.Repeat("x", n*37%3000))
	}
	for round := range 6 {
		many := 1 + round*round*4
		var ids []string
		for i := range many {
			id := fmt.Sprintf("%d-%d", round, i)
			ids = append(ids, id)
			require.NoError(t, s.Users().Create(t.Context(), person(id), event.Event{ID: id, Topic: "mail", Time: noon, Data: secret()}))
			require.NoError(t, queue.Enqueue(t.Context(), mail.Job{ID: id, Key: id, Data: secret(), RunAt: noon}))
			require.NoError(t, queue.Enqueue(t.Context(), mail.Job{ID: "dead" + id, Key: "dead" + id, Data: secret(), RunAt: noon}))
		}
		require.Positive(t, atRest(t, file), "what waits is there")
		for from := 0; from < len(ids); from += 7 {
			require.NoError(t, s.Outbox().Published(t.Context(), ids[from:min(from+7, len(ids))]...))
		}
		for range 2 * many {
			job, ok, err := queue.Claim(t.Context(), noon, time.Minute)
			require.NoError(t, err)
			require.True(t, ok)
			if strings.HasPrefix(job.ID, "dead") {
				require.NoError(t, queue.Settle(t.Context(), job, mail.Outcome{State: mail.Dead, At: noon}))
				if n%2 == 0 { // sent after all, or given up
					require.NoError(t, queue.Discard(t.Context(), job.ID))
					continue
				}
				require.NoError(t, queue.Requeue(t.Context(), job.ID, noon, secret()))
				job, _, err = queue.Claim(t.Context(), noon, time.Minute)
				require.NoError(t, err)
			}
			require.NoError(t, queue.Settle(t.Context(), job, mail.Outcome{State: mail.Sent, At: noon}))
			_, err = s.Messages().Append(t.Context(), []chat.Message{message("r", n*1000+len(job.ID))})
			require.NoError(t, err)
		}
		_, err := queue.Prune(t.Context(), noon.Add(time.Hour))
		require.NoError(t, err)
		assert.Eventually(t, func() bool { return atRest(t, file) == 0 }, 10*time.Second, 5*time.Millisecond, "round %d", round)
	}
}

// Somebody reads for long: what was used stays in the log for as long, and goes when they are done.
func TestCodesAreNotAtRestWhenReadersAreDone(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Users().Create(t.Context(), person("u"), event.Event{ID: "e", Time: noon, Data: []byte(canary)}))
	_, read := bunstore.Handles(s)
	tx, err := read.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var events int
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM parley_outbox").Scan(&events))
	require.Equal(t, 1, events)
	require.NoError(t, s.Outbox().Published(t.Context(), "e"))
	for i := range 20 { // writers go on meanwhile
		require.NoError(t, s.Users().Create(t.Context(), person(fmt.Sprint(i))))
	}
	require.NoError(t, tx.Rollback())
	assert.Eventually(t, func() bool { return atRest(t, file) == 0 }, 10*time.Second, 5*time.Millisecond)
	write, _ := bunstore.Handles(s)
	var busy string
	require.NoError(t, write.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&busy))
	assert.Equal(t, "5000", busy, "the connection is as it was")
}

// textCanary begins every text below, and its number tells which it is.
const textCanary = "canary-of-a-text-"

// textsAtRest are the numbers of the texts in the file of a database and in what stands beside it, with how often each stands there.
func textsAtRest(t *testing.T, file string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(file + "*")
	require.NoError(t, err)
	found := map[string]int{}
	for _, name := range files {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		for {
			_, after, ok := bytes.Cut(content, []byte(textCanary))
			if !ok {
				break
			}
			found[string(after[:min(6, len(after))])]++
			content = after
		}
	}
	return found
}

// What was edited or deleted is nowhere in the file or its log a while later, while the store is open and people talk: no text, no data, no
// reaction. Texts are of different lengths and rooms grow at once, so that pages are filled, split and emptied in many ways.
func TestTextsThatWereErasedAreNotAtRest(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: hundreds of commits, each synced to the disk")
	}
	t.Parallel()
	file := newFile(t)
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{ScrubAfter: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	dice := rand.New(rand.NewPCG(1, 2))
	n := 0
	live := map[string]map[string]bool{} // what a message may have, by room and sequence
	secret := func(at string) string {
		n++
		number := fmt.Sprintf("%06d", n)
		if live[at] == nil {
			live[at] = map[string]bool{}
		}
		live[at][number] = true
		length := dice.IntN(300)
		if dice.IntN(10) == 0 {
			length = dice.IntN(3800)
		}
		return textCanary + number + strings.Repeat("x", length)
	}
	const rooms = 12
	last := make([]int, rooms)
	messages := s.Messages()
	for round := range 8 {
		for range 25 {
			batch := make([]chat.Message, 1+dice.IntN(20))
			for i := range batch {
				room := dice.IntN(rooms)
				last[room]++
				at := fmt.Sprint(room, ":", last[room])
				batch[i] = message(fmt.Sprint(room), last[room])
				batch[i].Text = secret(at)
				if dice.IntN(4) == 0 {
					batch[i].Data = `{"secret":"` + secret(at) + `"}`
				}
			}
			_, err := messages.Append(t.Context(), batch)
			require.NoError(t, err)
			var changes []chat.Change
			touched := map[string]bool{}
			for range dice.IntN(20) {
				room := dice.IntN(rooms)
				if last[room] == 0 {
					continue
				}
				seq := 1 + dice.IntN(last[room])
				at := fmt.Sprint(room, ":", seq)
				if touched[at] {
					continue
				}
				touched[at] = true
				c := chat.Change{Kind: chat.Delete, Room: fmt.Sprint(room), Seq: uint64(seq), By: chat.Author{ID: "u1"}, At: noon}
				if dice.IntN(3) > 0 && live[at] != nil { // it is there
					c.Kind = chat.Edit
					live[at] = nil
					c.Text = secret(at)
					c.Data = `{"secret":"` + secret(at) + `"}`
					changes = append(changes, c)
					continue
				}
				live[at] = nil
				key := textCanary + fmt.Sprintf("%06d", 900_000+n) // a reaction that goes with it
				changes = append(changes, chat.Change{Kind: chat.React, Room: c.Room, Seq: c.Seq, By: chat.Author{ID: "u2"}, Key: key, At: noon}, c)
			}
			_, err = messages.Change(t.Context(), changes)
			require.NoError(t, err)
		}
		allowed := map[string]bool{}
		for _, numbers := range live {
			for number := range numbers {
				allowed[number] = true
			}
		}
		left := func() (numbers []string) {
			for number := range textsAtRest(t, file) {
				if !allowed[number] {
					numbers = append(numbers, number)
				}
			}
			return numbers
		}
		assert.Eventually(t, func() bool { return len(left()) == 0 }, 20*time.Second, 20*time.Millisecond, "round %d", round)
		assert.Empty(t, left(), "round %d", round)
	}
	require.NotEmpty(t, textsAtRest(t, file), "what was not erased is there")
	write, _ := bunstore.Handles(s)
	var verdict string
	require.NoError(t, write.DB.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict))
	assert.Equal(t, "ok", verdict)
	for room := range rooms {
		all, err := messages.List(t.Context(), fmt.Sprint(room), chat.Range{Limit: 100_000})
		require.NoError(t, err)
		require.Len(t, all, last[room])
		for _, m := range all {
			at := fmt.Sprint(room, ":", m.Seq)
			for number := range live[at] {
				assert.Contains(t, m.Text+m.Data, textCanary+number)
			}
			assert.Equal(t, live[at] == nil, !m.DeletedAt.IsZero())
		}
	}
}

// Only what stands between the places of rows and the rows is wiped, and nothing of a page that holds no rows or says what cannot be.
func TestFreeSpaceOfAPage(t *testing.T) {
	t.Parallel()
	page := func(size int, header ...byte) []byte { return append(header, make([]byte, size-len(header))...) }
	for name, c := range map[string]struct {
		page     []byte
		from, to int
	}{
		"leaf of a table":       {page(4096, 13, 0, 0, 0, 3, 0x0e, 0x00), 8 + 6, 0x0e00},
		"leaf of an index":      {page(4096, 10, 0, 0, 0, 3, 0x0e, 0x00), 8 + 6, 0x0e00},
		"inner of a table":      {page(4096, 5, 0, 0, 0, 3, 0x0e, 0x00), 12 + 6, 0x0e00},
		"inner of an index":     {page(4096, 2, 0, 0, 1, 0, 0x0e, 0x00), 12 + 512, 0x0e00},
		"empty":                 {page(4096, 13, 0, 0, 0, 0, 0x10, 0x00), 8, 4096},
		"empty, the largest":    {page(65536, 13, 0, 0, 0, 0, 0, 0), 8, 65536},
		"full":                  {page(4096, 13, 0, 0, 0, 4, 0, 16), 0, 0},
		"rows before places":    {page(4096, 13, 0, 0, 0, 4, 0, 9), 0, 0},
		"rows behind the end":   {page(4096, 13, 0, 0, 0, 4, 0x10, 0x01), 0, 0},
		"overflow, free or map": {page(4096, 0, 0, 1, 7), 0, 0},
		"another kind":          {page(4096, 1, 0, 0, 0, 3, 0x0e, 0x00), 0, 0},
		"none":                  {nil, 0, 0},
	} {
		got := bunstore.FreeSpace(c.page)
		require.Len(t, got, c.to-c.from, name)
		for i := range got {
			got[i] = 1
		}
		for i, b := range c.page[min(8, len(c.page)):] {
			require.Equal(t, i+8 >= c.from && i+8 < c.to, b == 1, "%s: byte %d", name, i+8)
		}
	}
}
