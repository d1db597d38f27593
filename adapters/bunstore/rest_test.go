package bunstore_test

import (
	"bytes"
	"fmt"
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
