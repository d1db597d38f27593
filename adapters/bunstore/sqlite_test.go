package bunstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// filled returns the file of a closed store with a few hundred messages.
func filled(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "parley.db")
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	_, err = s.Messages().Append(t.Context(), messages("r", 0, 500))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	return file
}

func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"text":            func([]byte) []byte { return bytes.Repeat([]byte("this is no database\n"), 1000) },
		"a few bytes":     func([]byte) []byte { return []byte("x") },
		"overwritten":     func(b []byte) []byte { copy(b, bytes.Repeat([]byte{0xAA}, len(b))); return b },
		"cut off":         func(b []byte) []byte { return b[:len(b)/2] },
		"hole in the end": func(b []byte) []byte { clear(b[len(b)-3*4096:]); return b },
		"schema page":     func(b []byte) []byte { copy(b[100:4096], bytes.Repeat([]byte{0xAA}, 3996)); return b },
	} {
		t.Run(name, func(t *testing.T) {
			file := filled(t)
			content, err := os.ReadFile(file)
			require.NoError(t, err)
			damaged := damage(content)
			require.NoError(t, os.WriteFile(file, damaged, 0o600))

			_, err = bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
			require.ErrorIs(t, err, bunstore.ErrDamaged)
			assert.True(t, strings.HasPrefix(err.Error(), "the file is not a database or is damaged: "+file+": "), err.Error())
			assert.NotContains(t, err.Error(), "\n", "one line")

			after, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(damaged, after), "opening changed a damaged file")
		})
	}
}

// A handle that was opened without looking must classify what it meets.
func TestDamageThatIsMetLater(t *testing.T) {
	t.Parallel()
	file := filled(t)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	clear(content[2*4096:]) // the schema stays
	require.NoError(t, os.WriteFile(file, content, 0o600))
	s, err := bunstore.New(plain(t, file))
	require.NoError(t, err)

	_, err = s.Users().ByID(t.Context(), "u")
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Contains(t, err.Error(), "malformed", "the cause is for operators")
	assert.Equal(t, fault.Problem{Kind: fault.Unavailable, Code: "unavailable", Title: fault.Unavailable.Title()}, fault.Public(err),
		"and not for clients")
}

func TestPlacesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	regular := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(regular, nil, 0o600))
	for name, file := range map[string]string{
		"below a file":   filepath.Join(regular, "parley.db"),
		"no folder":      filepath.Join(dir, "absent", "parley.db"),
		"it is a folder": dir,
	} {
		_, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
		require.ErrorIs(t, err, bunstore.ErrNotWritable, name)
		assert.Contains(t, err.Error(), file, name)
	}
	t.Run("read-only folder", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("the superuser may write everywhere")
		}
		if runtime.GOOS == "windows" {
			t.Skip("folders have no write permission here")
		}
		file := filled(t)
		require.NoError(t, os.Chmod(filepath.Dir(file), 0o500))
		t.Cleanup(func() { assert.NoError(t, os.Chmod(filepath.Dir(file), 0o700)) }) // or it cannot be removed
		_, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
		require.ErrorIs(t, err, bunstore.ErrNotWritable)
	})
}

func TestFileIsPrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode here")
	}
	info, err := os.Stat(filled(t))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// hold begins a transaction on a connection of its own, as another process would, and
// returns what ends it.
func hold(t *testing.T, file, begin string) (release func()) {
	t.Helper()
	conn, err := plain(t, file).DB.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), begin)
	require.NoError(t, err)
	var once sync.Once
	release = func() {
		once.Do(func() {
			_, err := conn.ExecContext(context.Background(), "ROLLBACK")
			assert.NoError(t, err)
			assert.NoError(t, conn.Close())
		})
	}
	t.Cleanup(release)
	return release
}

func TestLockedFile(t *testing.T) {
	t.Parallel()
	file := filled(t)
	impatient := bunstore.SQLiteConfig{BusyTimeout: 20 * time.Millisecond}
	s, err := bunstore.OpenSQLite(t.Context(), file, impatient)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	release := hold(t, file, "BEGIN IMMEDIATE")

	_, err = bunstore.OpenSQLite(t.Context(), file, impatient)
	require.ErrorIs(t, err, bunstore.ErrLocked)
	assert.Contains(t, err.Error(), "locked by another process: "+file)

	_, err = s.Messages().Append(t.Context(), messages("r", 1000, 1))
	require.ErrorIs(t, err, fault.Unavailable)
	bounds, err := s.Messages().Bounds(t.Context(), "r")
	require.NoError(t, err, "reading needs no lock")
	assert.EqualValues(t, 500, bounds.Last)

	patient, err := bunstore.New(plain(t, file))
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = patient.Messages().Append(soon, messages("r", 1000, 1))
	require.ErrorIs(t, err, fault.Unavailable, "the end of the context ends the wait for a lock")
	require.ErrorIs(t, err, context.DeadlineExceeded)

	release()
	got, err := s.Messages().Append(t.Context(), messages("r", 1000, 1))
	require.NoError(t, err)
	assert.EqualValues(t, 501, got[0].Seq)
}

func TestConfigIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := bunstore.OpenSQLite(t.Context(), "x.db", bunstore.SQLiteConfig{BusyTimeout: -1, Readers: -1})
	require.ErrorContains(t, err, "BusyTimeout")
	require.ErrorContains(t, err, "Readers")
	_, err = bunstore.OpenSQLite(t.Context(), "", bunstore.SQLiteConfig{})
	require.ErrorContains(t, err, "name")
	_, err = bunstore.New(nil)
	require.ErrorContains(t, err, "handle")
	_, err = bunstore.New(bun.NewDB(new(sql.DB), otherDialect{sqlitedialect.New()}))
	require.ErrorContains(t, err, "not supported")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bunstore.OpenSQLite(gone, filepath.Join(t.TempDir(), "x.db"), bunstore.SQLiteConfig{})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEveryConnectionIsSetUp(t *testing.T) {
	t.Parallel()
	for relaxed, want := range map[bool]string{false: "2", true: "1"} {
		file := filepath.Join(t.TempDir(), "parley.db")
		s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{RelaxedSync: relaxed, BusyTimeout: 70 * time.Millisecond})
		require.NoError(t, err)
		write, read := bunstore.Handles(s)
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": want, "foreign_keys": "1", "busy_timeout": "70", "temp_store": "2", "wal_autocheckpoint": "4000",
		} {
			for _, db := range []*bun.DB{write, read} {
				var got string
				require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
				assert.Equal(t, want, got, pragma)
			}
		}
		_, err = read.ExecContext(t.Context(), "CREATE TABLE x (y int)")
		require.ErrorContains(t, err, "readonly")
		require.NoError(t, s.Close())
		_, err = os.Stat(file + "-wal")
		require.ErrorIs(t, err, os.ErrNotExist, "closing folds the log into the file")
	}
}

// The hot reads and the claim search an index and never sort or scan a table.
func TestQueriesUseAnIndex(t *testing.T) {
	t.Parallel()
	seen := new(recorder)
	db := plain(t, newFile(t)).WithQueryHook(seen)
	s, err := bunstore.New(db)
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	ctx := t.Context()
	_, err = s.Messages().Append(ctx, messages("r", 0, 3))
	require.NoError(t, err)
	_, err = s.Messages().Append(ctx, messages("r", 0, 3)) // looks first
	require.NoError(t, err)
	_, err = s.Messages().List(ctx, "r", chat.Range{After: 1, Before: 9, Limit: 5, Newest: true})
	require.NoError(t, err)
	_, err = s.Messages().List(ctx, "r", chat.Range{Limit: 5})
	require.NoError(t, err)
	_, err = s.Messages().List(ctx, "r", chat.Range{Changed: true, After: 1, UpTo: 3, Limit: 5})
	require.NoError(t, err)
	_, err = s.Messages().Bounds(ctx, "r")
	require.NoError(t, err)
	_, _, err = s.MailQueue().Claim(ctx, noon, time.Minute)
	require.NoError(t, err)
	_, err = s.MailQueue().Prune(ctx, noon)
	require.NoError(t, err)
	_, err = s.Outbox().Pending(ctx, 5)
	require.NoError(t, err)
	require.NoError(t, s.Outbox().Published(ctx, "a", "b"))
	_, err = s.Users().ByEmail(ctx, "a@example.org")
	require.ErrorIs(t, err, user.ErrNotFound)
	_, err = s.Sessions().ByUser(ctx, "u", noon, 10)
	require.NoError(t, err)
	_, err = s.Sessions().DeleteExpired(ctx, noon)
	require.NoError(t, err)
	_, err = s.Members().RoomsOf(ctx, "u", "a", 5)
	require.NoError(t, err)
	_, err = s.Rooms().List(ctx, "a", 5)
	require.NoError(t, err)
	_, err = s.Rooms().ByName(ctx, "a")
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	_, err = s.Members().Has(ctx, "r", "u")
	require.NoError(t, err)
	_, err = s.Users().ByID(ctx, "u")
	require.ErrorIs(t, err, user.ErrNotFound)
	_, err = s.Sessions().ByID(ctx, "s")
	require.ErrorIs(t, err, auth.ErrSessionNotFound)
	_, err = s.Sessions().Standing(ctx, "s")
	require.ErrorIs(t, err, auth.ErrSessionNotFound)

	used := map[string]bool{}
	for _, query := range slices.Concat(seen.queries, bunstore.Kept(s), bunstore.ChangeTexts(s)) {
		query = strings.ReplaceAll(query, "?", "1")
		var steps []struct {
			ID, Parent, Notused int
			Detail              string
		}
		require.NoError(t, db.NewRaw("EXPLAIN QUERY PLAN "+query).Scan(ctx, &steps), query)
		for _, step := range steps {
			assert.NotContains(t, step.Detail, "TEMP B-TREE", query)
			if strings.HasPrefix(step.Detail, "SCAN ") && !strings.HasPrefix(step.Detail, "SCAN (subquery") {
				// The relay takes the outbox from its beginning; what Change writes stands in its statements.
				assert.Contains(t, []string{"SCAN event_row", "SCAN given", "SCAN 4-ROW VALUES CLAUSE"}, step.Detail, query)
			}
			used[step.Detail] = true
		}
	}
	for _, want := range []string{
		"SEARCH parley_messages USING PRIMARY KEY (room_id=? AND seq>? AND seq<?)",
		"SEARCH message_row USING INDEX parley_messages_client (room_id=? AND author_id=? AND client_id=?)",
		"SEARCH parley_changes USING PRIMARY KEY (room_id=? AND rev>? AND rev<?)",
		"SEARCH parley_messages USING PRIMARY KEY (room_id=? AND seq=?)",
		"SEARCH parley_reactions USING PRIMARY KEY (room_id=? AND seq=? AND reaction=? AND user_id=?)",
		"SEARCH parley_reactions USING PRIMARY KEY (room_id=? AND seq=?)",
	} {
		assert.True(t, used[want], "%s is not among %v", want, slices.Sorted(maps.Keys(used)))
	}
}

// recorder keeps what can be explained.
type recorder struct {
	mu      sync.Mutex
	queries []string
}

func (r *recorder) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, verb := range []string{"SELECT", "UPDATE", "DELETE"} {
		if strings.HasPrefix(e.Query, verb) {
			r.queries = append(r.queries, e.Query)
		}
	}
	return ctx
}

func (*recorder) AfterQuery(context.Context, *bun.QueryEvent) {}

type otherDialect struct{ schema.Dialect }

func (otherDialect) Name() dialect.Name { return dialect.MSSQL }
