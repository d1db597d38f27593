package bunstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// counted is a store on a handle that counts what its one connection parses.
func counted(t *testing.T) (*bunstore.Store, *counter) {
	t.Helper()
	c := &counter{dsn: "file:" + filepath.Join(t.TempDir(), "parley.db") + "?_journal_mode=WAL"}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	s, err := bunstore.New(bun.NewDB(db, sqlitedialect.New()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s, c
}

// What a connection, a join and a request of a signed-in user run is parsed once, however often it runs.
func TestNothingOfAConnectionIsParsedTwice(t *testing.T) {
	t.Parallel()
	s, c := counted(t)
	ctx := t.Context()
	require.NoError(t, s.Users().Create(ctx, user.User{ID: "ada", FullName: "Ada", Email: "ada@example.com", PasswordHash: "h", CreatedAt: noon}))
	require.NoError(t, s.Sessions().Create(ctx, auth.Session{ID: "s", UserID: "ada", FamilyHash: "f", TokenHash: "t", CreatedAt: noon, ExpiresAt: noon}))
	_, err := s.Rooms().Ensure(ctx, chat.Room{Name: "r", CreatedBy: "ada", CreatedAt: noon})
	require.NoError(t, err)
	n := 0
	all := func() {
		n++
		_, err := s.Sessions().Standing(ctx, "s")
		require.NoError(t, err)
		_, err = s.Sessions().ByID(ctx, "s")
		require.NoError(t, err)
		_, err = s.Users().ByID(ctx, "ada")
		require.NoError(t, err)
		_, err = s.Users().ByEmail(ctx, "ada@example.com")
		require.NoError(t, err)
		_, err = s.Nonces().Spend(ctx, fmt.Sprint(n), noon)
		require.NoError(t, err)
		_, err = s.Rooms().Ensure(ctx, chat.Room{Name: "r"})
		require.NoError(t, err)
		_, err = s.Rooms().ByName(ctx, "r")
		require.NoError(t, err)
		for _, count := range []int{1, 3, 10, 50} {
			memberships := make([]chat.Membership, count)
			for i := range memberships {
				memberships[i] = chat.Membership{Room: "r", UserID: user.ID(fmt.Sprint(n, count, i)), Since: noon}
			}
			for range 2 { // joining, and coming back
				_, err := s.Members().Add(ctx, memberships...)
				require.NoError(t, err)
			}
			for _, m := range memberships {
				has, err := s.Members().Has(ctx, "r", m.UserID)
				require.NoError(t, err)
				require.True(t, has)
			}
		}
		_, err = s.Members().RoomsOf(ctx, "ada", "", 10)
		require.NoError(t, err)
		_, err = s.Members().Mine(ctx, "ada", chat.Place{}, 10)
		require.NoError(t, err)
		_, err = s.Messages().List(ctx, "r", chat.Range{Limit: 10})
		require.NoError(t, err)
		_, err = s.Messages().List(ctx, "r", chat.Range{Limit: 10, Newest: true, Before: 5})
		require.NoError(t, err)
		_, err = s.Messages().Bounds(ctx, "r")
		require.NoError(t, err)
	}
	all()
	before, ran := c.prepared.Load(), c.ran.Load()
	for range 3 {
		all()
	}
	assert.Equal(t, before, c.prepared.Load(), "statements parsed")
	assert.Greater(t, c.ran.Load(), ran)
	assert.Less(t, len(bunstore.Kept(s)), bunstore.MaxKept)
}

func TestStatementsThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	s, c := counted(t)
	for i := range 2 * bunstore.MaxKept {
		require.NoError(t, bunstore.Keep(t.Context(), s, fmt.Sprintf("SELECT %d + ?", i), 1))
	}
	assert.Len(t, bunstore.Kept(s), bunstore.MaxKept)
	before := c.prepared.Load()
	require.NoError(t, bunstore.Keep(t.Context(), s, "SELECT 0 + ?", 1))
	assert.Equal(t, before, c.prepared.Load(), "what is kept stays")
	require.NoError(t, bunstore.Keep(t.Context(), s, fmt.Sprintf("SELECT %d + ?", 2*bunstore.MaxKept-1), 1))
	assert.Equal(t, before+1, c.prepared.Load(), "the rest is parsed each time")

	require.NoError(t, s.Close())
	require.ErrorIs(t, bunstore.Keep(t.Context(), s, "SELECT 0 + ?", 1), sql.ErrConnDone)
	assert.Empty(t, bunstore.Kept(s))
	_, err := s.Users().ByID(t.Context(), "u")
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestManyPrepareOneStatementOnce(t *testing.T) {
	t.Parallel()
	s, _ := counted(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { assert.NoError(t, bunstore.Keep(t.Context(), s, "SELECT ?", 1)) })
	}
	wg.Wait()
	assert.Equal(t, []string{"SELECT ?"}, bunstore.Kept(s))
}

// Joining what one has joined already writes nothing, so a crowd that comes back does not wait for the disk.
func TestMembersWhoAreThereAreNotWrittenAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	write, _ := bunstore.Handles(s)
	memberships := make([]chat.Membership, 100)
	for i := range memberships {
		memberships[i] = chat.Membership{Room: "r", UserID: user.ID(fmt.Sprint(i)), Since: noon}
	}
	pages := func() (n int) {
		var busy, checkpointed int
		require.NoError(t, write.DB.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &n, &checkpointed))
		return n
	}
	appended(t, s, messages("r", 0, 3))
	_, err := write.DB.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	first := pages()
	_, err = s.Members().Add(t.Context(), memberships...)
	require.NoError(t, err)
	written := pages()
	require.Greater(t, written, first)
	_, err = write.DB.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	commits := bunstore.Commits(s)
	for _, size := range []int{1, 2, 16, 64, 100} {
		got, err := s.Members().Add(t.Context(), memberships[:size]...)
		require.NoError(t, err)
		for i, m := range got {
			want := memberships[i]
			want.Read, want.Role = 3, chat.Regular
			require.Equal(t, want, m)
		}
	}
	assert.Equal(t, commits, bunstore.Commits(s), "nobody waits for the writer")
	assert.Zero(t, pages(), "pages in the log")
}

func TestGatherAnswersManyTogether(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan []string), make(chan struct{})
	ask := bunstore.Gather(3, 1, func(_ context.Context, keys []string) (map[string]int, error) {
		began <- keys
		<-goOn
		answers := map[string]int{}
		for _, key := range keys {
			if key != "unknown" {
				answers[key] = len(key)
			}
		}
		return answers, nil
	})
	var wg sync.WaitGroup
	want := func(key string, n int, found bool) {
		wg.Go(func() {
			got, ok, err := ask(t.Context(), key)
			assert.NoError(t, err)
			assert.Equal(t, n, got, key)
			assert.Equal(t, found, ok, key)
		})
	}
	want("a", 1, true)
	assert.Equal(t, []string{"a"}, <-began, "nobody waits for others to come")
	for _, key := range []string{"bb", "bb", "ccc", "unknown", "dddd"} {
		want(key, len(key)*btoi(key != "unknown"), key != "unknown")
	}
	close(goOn)
	asked := map[string]bool{}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for open := true; open; {
		select {
		case keys := <-began:
			assert.LessOrEqual(t, len(keys), 3)
			for _, key := range keys {
				asked[key] = true
			}
		case <-done:
			open = false
		}
	}
	assert.Len(t, asked, 4, "all but the first, which was asked before")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestGatherReadsAfterTheQuestion(t *testing.T) {
	t.Parallel()
	value := 1
	began, goOn := make(chan int), make(chan struct{})
	ask := bunstore.Gather(8, 1, func(context.Context, []string) (map[string]int, error) {
		read := value
		began <- read
		<-goOn
		return map[string]int{"k": read}, nil
	})
	first := make(chan int)
	go func() { got, _, _ := ask(t.Context(), "k"); first <- got }()
	assert.Equal(t, 1, <-began)
	value = 2 // what is asked from here on must be seen
	second := make(chan int)
	go func() { got, _, _ := ask(t.Context(), "k"); second <- got }()
	close(goOn)
	assert.Equal(t, 1, <-first)
	assert.Equal(t, 2, <-began)
	assert.Equal(t, 2, <-second)
}

func TestGatherEndsWithItsLastCaller(t *testing.T) {
	t.Parallel()
	began := make(chan context.Context)
	ask := bunstore.Gather(8, 1, func(ctx context.Context, _ []string) (map[string]int, error) {
		began <- ctx
		<-ctx.Done()
		return nil, ctx.Err()
	})
	one, leave := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() { _, _, err := ask(one, "k"); failed <- err }()
	reading := <-began
	require.NoError(t, reading.Err())
	leave()
	require.ErrorIs(t, <-failed, context.Canceled)
	<-reading.Done()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := ask(gone, "k")
	require.ErrorIs(t, err, context.Canceled)
}

func TestGatherPassesErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	ask := bunstore.Gather(8, 2, func(context.Context, []string) (map[string]int, error) { return nil, broken })
	for range 3 {
		_, _, err := ask(t.Context(), "k")
		require.ErrorIs(t, err, broken)
	}
}
