package bunstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// migrated is the content of a migrated, empty database, made once for all tests.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "bunstore")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "parley.db")
	s, err := bunstore.OpenSQLite(context.Background(), file, bunstore.SQLiteConfig{})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.Migrate(context.Background()), s.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

// newFile returns the name of a migrated, empty database.
func newFile(t testing.TB) string {
	t.Helper()
	content, err := migrated()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "parley.db")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return file
}

// open returns a store on a file of its own.
func open(t testing.TB) *bunstore.Store {
	t.Helper()
	return openFile(t, newFile(t))
}

func openFile(t testing.TB, file string) *bunstore.Store {
	t.Helper()
	s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return s
}

// plain returns a handle as a user of New might bring it: several connections, and
// transactions that begin deferred.
func plain(t testing.TB, file string) *bun.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_busy_timeout=10000&_journal_mode=WAL")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return bun.NewDB(db, sqlitedialect.New())
}

func openPlain(t testing.TB) *bunstore.Store {
	t.Helper()
	s, err := bunstore.New(plain(t, newFile(t)))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func message(room string, n int) chat.Message {
	return chat.Message{
		Room: room, ID: fmt.Sprintf("m-%s-%d", room, n), ClientID: fmt.Sprintf("c%d", n),
		Author: chat.Author{ID: "u1", Name: "Ada"}, Text: fmt.Sprintf("text %d", n), At: noon.Add(time.Duration(n) * time.Microsecond),
	}
}

func messages(room string, from, n int) []chat.Message {
	all := make([]chat.Message, n)
	for i := range all {
		all[i] = message(room, from+i)
	}
	return all
}

func TestAppendNumbersEveryRoomByItself(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*bunstore.Store{"OpenSQLite": open(t), "New": openPlain(t)} {
		t.Run(name, func(t *testing.T) {
			var batch []chat.Message
			for i := range 130 { // more than every prepared size
				batch = append(batch, message(fmt.Sprintf("room %d", i%40), i))
			}
			got, err := s.Messages().Append(t.Context(), batch)
			require.NoError(t, err)
			for i, m := range got {
				assert.False(t, m.Repeated)
				want := batch[i]
				want.Seq = uint64(i/40 + 1)
				assert.Equal(t, want, m.Message)
			}
			listed, err := s.Messages().List(t.Context(), "room 3", chat.Range{Limit: 100})
			require.NoError(t, err)
			assert.Equal(t, []chat.Message{got[3].Message, got[43].Message, got[83].Message, got[123].Message}, listed)
		})
	}
}

func TestAppendRepeatsAmongNewOnes(t *testing.T) {
	t.Parallel()
	s := open(t).Messages()
	first, err := s.Append(t.Context(), messages("a", 0, 5))
	require.NoError(t, err)

	again := message("a", 2)
	again.ID, again.Text = "another", "another"
	batch := append([]chat.Message{message("b", 0), again, message("a", 7), message("a", 7)}, messages("c", 0, 250)...)
	batch = append(batch, message("c", 249))
	got, err := s.Append(t.Context(), batch)
	require.NoError(t, err)

	assert.Equal(t, chat.Stored{Message: first[2].Message, Repeated: true}, got[1])
	assert.EqualValues(t, 6, got[2].Seq)
	assert.False(t, got[2].Repeated)
	assert.Equal(t, chat.Stored{Message: got[2].Message, Repeated: true}, got[3])
	assert.EqualValues(t, 1, got[0].Seq)
	assert.EqualValues(t, 250, got[253].Seq)
	assert.Equal(t, chat.Stored{Message: got[253].Message, Repeated: true}, got[254])
	for room, want := range map[string]uint64{"a": 6, "b": 1, "c": 250, "d": 0} {
		bounds, err := s.Bounds(t.Context(), room)
		require.NoError(t, err)
		assert.Equal(t, chat.Bounds{First: 1, Last: want}, bounds, room)
	}
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	s := open(t).Messages()
	for name, spoil := range map[string]func(*chat.Message){
		"long room":      func(m *chat.Message) { m.Room = strings.Repeat("é", chat.MaxRoomName+1) },
		"long client id": func(m *chat.Message) { m.ClientID = strings.Repeat("x", chat.MaxClientID+1) },
		"long text":      func(m *chat.Message) { m.Text = strings.Repeat("é", chat.MaxText+1) },
		"NUL":            func(m *chat.Message) { m.Text = "a\x00b" },
		"not UTF-8":      func(m *chat.Message) { m.Text = "a\xff" },
		"no id":          func(m *chat.Message) { m.ID = "" },
		"long data":      func(m *chat.Message) { m.Data = strings.Repeat("é", chat.MaxData/2) + "x" },
		"NUL in data":    func(m *chat.Message) { m.Data = "{\"a\":\"\x00\"}" },
		"high reply":     func(m *chat.Message) { m.ReplyTo = math.MaxInt64 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			batch := messages("r", 0, 3)
			spoil(&batch[1])
			_, err := s.Append(t.Context(), batch)
			require.ErrorIs(t, err, fault.Invalid)
			bounds, err := s.Bounds(t.Context(), "r")
			require.NoError(t, err)
			assert.Zero(t, bounds.Last, "a refused batch left something behind")
		})
	}
	longest := message(strings.Repeat("é", chat.MaxRoomName), 0)
	longest.ClientID, longest.Text = strings.Repeat("x", chat.MaxClientID), strings.Repeat("é", chat.MaxText)
	longest.ReplyTo, longest.Data = math.MaxInt64, strings.Repeat("é", chat.MaxData/2)
	_, err := s.Append(t.Context(), []chat.Message{longest})
	require.NoError(t, err)
}

func TestCancelledCallStoresNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := s.Messages().Append(gone, messages("r", 0, 3))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.Canceled)
	bounds, err := s.Messages().Bounds(t.Context(), "r")
	require.NoError(t, err)
	assert.Zero(t, bounds.Last)

	// Here the context ends inside the transaction.
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "Ada", Email: "a@example.org", CreatedAt: noon}))
	later, cancel := context.WithCancel(t.Context())
	_, err = s.Users().Update(later, "u", func(u *user.User) error {
		u.FullName = "Grace"
		cancel()
		return nil
	}, event.Event{ID: "e", Topic: "t", Time: noon})
	require.ErrorIs(t, err, fault.Unavailable)
	u, err := s.Users().ByID(t.Context(), "u")
	require.NoError(t, err)
	assert.Equal(t, "Ada", u.FullName)
	pending, err := s.Outbox().Pending(t.Context(), 10)
	require.NoError(t, err)
	assert.Empty(t, pending)
}

// A handle whose transactions begin deferred must not fail with SQLITE_BUSY, nor lose an update.
func TestConcurrentUpdatesOnADeferredHandle(t *testing.T) {
	t.Parallel()
	s := openPlain(t)
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "a@example.org"}))
	const writers, each = 8, 10
	errs := make(chan error, writers)
	start := make(chan struct{})
	for range writers {
		go func() {
			<-start
			for range each {
				if _, err := s.Users().Update(t.Context(), "u", func(u *user.User) error { u.FullName += "x"; return nil }); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	close(start)
	for range writers {
		require.NoError(t, <-errs)
	}
	u, err := s.Users().ByID(t.Context(), "u")
	require.NoError(t, err)
	assert.Len(t, u.FullName, 1+writers*each)
}

func TestUpdateReturnsTheErrorOfChange(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "Ada", Email: "a@example.org"}))
	require.NoError(t, s.Sessions().Create(t.Context(), auth.Session{ID: "s", UserID: "u"}))
	mine := errors.New("mine")

	_, err := s.Users().Update(t.Context(), "u", func(*user.User) error { return mine })
	assert.Same(t, mine, err)
	_, err = s.Sessions().Update(t.Context(), "s", func(*auth.Session) error { return mine })
	assert.Same(t, mine, err)

	_, err = s.Users().Update(t.Context(), "u", func(u *user.User) error { u.ID = "v"; return nil })
	require.ErrorIs(t, err, fault.Invalid)
	_, err = s.Sessions().Update(t.Context(), "s", func(s *auth.Session) error { s.ID = "v"; return nil })
	require.ErrorIs(t, err, fault.Invalid)

	assert.Panics(t, func() { _, _ = s.Users().Update(t.Context(), "u", func(*user.User) error { panic("mine") }) })
	_, err = s.Users().Update(t.Context(), "u", func(*user.User) error { return nil })
	require.NoError(t, err, "the transaction of a change that panicked was not given up")
}

func TestTextThatEnginesWouldChange(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, bad := range []string{"a\x00b", "a\xffb"} {
		require.ErrorIs(t, s.Users().Create(t.Context(), user.User{ID: user.ID(bad), FullName: "x", Email: "a@example.org"}), fault.Invalid)
		_, err := s.Users().ByID(t.Context(), user.ID(bad))
		require.ErrorIs(t, err, user.ErrNotFound)
		_, err = s.Nonces().Spend(t.Context(), bad, noon)
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.Codes().Use(t.Context(), bad, noon)
		require.ErrorIs(t, err, auth.ErrCodeUnknown)
		_, err = s.Rooms().ByName(t.Context(), bad)
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
		_, err = s.MailQueue().Get(t.Context(), bad)
		require.ErrorIs(t, err, mail.ErrJobNotFound)
		require.NoError(t, s.Outbox().Published(t.Context(), bad))
	}
	// And text that they must not.
	for _, good := range []string{"O'Hara \\ \"x\" -- ?0 ? %s", "日本語 🙂 é\u0301", strings.Repeat("🙂", 100)} {
		room, err := s.Rooms().Ensure(t.Context(), chat.Room{Name: good, CreatedBy: "u", CreatedAt: noon})
		require.NoError(t, err)
		got, err := s.Rooms().ByName(t.Context(), good)
		require.NoError(t, err)
		assert.Equal(t, room, got)
		assert.Equal(t, good, got.Name)
	}
}

func TestMailErrorThatCannotBeKeptAsItIs(t *testing.T) {
	t.Parallel()
	q := open(t).MailQueue()
	require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: "j", Key: "k", To: "a@example.org", RunAt: noon, CreatedAt: noon, UpdatedAt: noon}))
	j, ok, err := q.Claim(t.Context(), noon, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: noon, Error: "550 \x00\xff" + strings.Repeat("é", 3000)}))
	j, err = q.Get(t.Context(), "j")
	require.NoError(t, err)
	assert.Equal(t, mail.Dead, j.State)
	assert.Equal(t, "550 \uFFFD\uFFFD"+strings.Repeat("é", 1994), j.LastError)
}

func TestSweepsMoreThanABatch(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: a thousand rows, each with a commit of its own")
	}
	t.Parallel()
	s := open(t)
	const n = 1203
	for i := range n {
		require.NoError(t, s.Sessions().Create(t.Context(), auth.Session{ID: fmt.Sprint(i), UserID: "u", ExpiresAt: noon.Add(time.Duration(i) * time.Second)}))
	}
	deleted, err := s.Sessions().DeleteExpired(t.Context(), noon.Add((n-2)*time.Second))
	require.NoError(t, err)
	assert.Equal(t, n-2, deleted)
	left, err := s.Sessions().ByUser(t.Context(), "u", noon, 10)
	require.NoError(t, err)
	assert.Len(t, left, 2)
}

func TestReopeningKeepsEverything(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "odd name?#%20'.db")
	ctx := t.Context()
	s := openFile(t, file)
	u := user.User{ID: "u", FullName: "Ada", Email: "a@example.org", PasswordHash: "h", CreatedAt: noon, VerifiedAt: noon.Add(time.Hour)}
	session := auth.Session{ID: "s", UserID: "u", FamilyHash: "f", TokenHash: "t", CreatedAt: noon, RotatedAt: noon, ExpiresAt: noon.Add(time.Hour)}
	e := event.Event{ID: "e", Topic: "mail", Type: "user.created", Key: "u", Time: noon, Data: []byte(`{"a":1}`)}
	job := mail.Job{ID: "j", Key: "k", Kind: mail.KindVerification, To: "a@example.org", Name: "Ada", Data: []byte(`{}`), RunAt: noon, CreatedAt: noon, UpdatedAt: noon}
	require.NoError(t, s.Users().Create(ctx, u, e))
	require.NoError(t, s.Sessions().Create(ctx, session))
	require.NoError(t, s.Codes().Put(ctx, auth.Code{Hash: "h", UserID: "u", CreatedAt: noon, ExpiresAt: noon}))
	_, err := s.Nonces().Spend(ctx, "n", noon)
	require.NoError(t, err)
	_, err = s.Members().Add(ctx, chat.Membership{Room: "r", UserID: "u", Since: noon})
	require.NoError(t, err)
	stored, err := s.Messages().Append(ctx, messages("r", 0, 3))
	require.NoError(t, err)
	_, err = s.Members().Mark(ctx, []chat.Mark{{Room: "r", User: chat.Author{ID: "u"}, Read: 2}})
	require.NoError(t, err)
	require.NoError(t, s.MailQueue().Enqueue(ctx, job))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice")
	_, err = s.Users().ByID(ctx, "u")
	require.ErrorIs(t, err, fault.Unavailable, "a call after closing")
	_, err = s.Messages().Append(ctx, messages("r", 0, 3))
	require.ErrorIs(t, err, fault.Unavailable, "a call after closing")

	s = openFile(t, file)
	gotUser, err := s.Users().ByEmail(ctx, u.Email)
	require.NoError(t, err)
	assert.Equal(t, u, gotUser)
	gotSession, err := s.Sessions().ByID(ctx, "s")
	require.NoError(t, err)
	assert.Equal(t, session, gotSession)
	code, err := s.Codes().Use(ctx, "h", noon)
	require.NoError(t, err)
	assert.True(t, code.UsedAt.IsZero())
	fresh, err := s.Nonces().Spend(ctx, "n", noon)
	require.NoError(t, err)
	assert.False(t, fresh)
	pending, err := s.Outbox().Pending(ctx, 10)
	require.NoError(t, err)
	assert.Equal(t, []event.Event{e}, pending)
	rooms, err := s.Members().RoomsOf(ctx, "u", "", 10)
	require.NoError(t, err)
	assert.Equal(t, []chat.Membership{{Room: "r", UserID: "u", Since: noon, Read: 2, Role: chat.Regular}}, rooms)
	listed, err := s.Messages().List(ctx, "r", chat.Range{Limit: 2, Newest: true})
	require.NoError(t, err)
	assert.Equal(t, []chat.Message{stored[1].Message, stored[2].Message}, listed)
	next, err := s.Messages().Append(ctx, messages("r", 2, 2))
	require.NoError(t, err)
	assert.Equal(t, chat.Stored{Message: stored[2].Message, Repeated: true}, next[0])
	assert.EqualValues(t, 4, next[1].Seq)
	claimed, ok, err := s.MailQueue().Claim(ctx, noon, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	job.State, job.Attempts, job.Claims, job.LeasedUntil = mail.Running, 1, 1, noon.Add(time.Minute)
	assert.Equal(t, job, claimed)
}

// Two stores on one file stand for two processes.
func TestTwoProcessesOnOneFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "parley.db")
	stores := []*bunstore.Store{openFile(t, file), openFile(t, file)}
	const rounds, size = 20, 7
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for n := range rounds {
				_, err := s.Messages().Append(t.Context(), messages("r", (i*rounds+n)*size, size))
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	all, err := stores[0].Messages().List(t.Context(), "r", chat.Range{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, all, len(stores)*rounds*size)
	for i, m := range all {
		assert.EqualValues(t, i+1, m.Seq)
	}
}

func TestBoundsAfterDeleting(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, err := s.Messages().Append(t.Context(), messages("r", 0, 5))
	require.NoError(t, err)
	db, _ := bunstore.Handles(s)
	for below := uint64(3); below <= 6; below += 3 {
		_, err = db.ExecContext(t.Context(), "DELETE FROM parley_messages WHERE seq < ?", below)
		require.NoError(t, err)
		bounds, err := s.Messages().Bounds(t.Context(), "r")
		require.NoError(t, err)
		assert.Equal(t, chat.Bounds{First: below, Last: 5}, bounds)
	}
	got, err := s.Messages().Append(t.Context(), messages("r", 9, 1))
	require.NoError(t, err)
	assert.EqualValues(t, 6, got[0].Seq, "a number is never given out again")
}

func TestNoncesAreSwept(t *testing.T) {
	t.Parallel()
	s := open(t).Nonces()
	for name, expires := range map[string]time.Time{"old": noon, "edge": noon.Add(time.Second), "new": noon.Add(time.Hour)} {
		fresh, err := s.Spend(t.Context(), name, expires)
		require.NoError(t, err)
		assert.True(t, fresh)
	}
	n, err := s.DeleteExpired(t.Context(), noon.Add(time.Second))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	for name, want := range map[string]bool{"old": true, "edge": false, "new": false} {
		fresh, err := s.Spend(t.Context(), name, noon)
		require.NoError(t, err)
		assert.Equal(t, want, fresh, name)
	}
}

// everyCall makes one call of each kind.
func everyCall(s *bunstore.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Ping":    s.Ping,
		"Check":   s.Check,
		"Migrate": s.Migrate,
		"Unlock":  s.Unlock,
		"Users.Create": func(ctx context.Context) error {
			return s.Users().Create(ctx, user.User{ID: "u", FullName: "x", Email: "e"})
		},
		"Users.ByID":    func(ctx context.Context) error { _, err := s.Users().ByID(ctx, "u"); return err },
		"Users.ByEmail": func(ctx context.Context) error { _, err := s.Users().ByEmail(ctx, "e"); return err },
		"Users.Update": func(ctx context.Context) error {
			_, err := s.Users().Update(ctx, "u", func(*user.User) error { return nil })
			return err
		},
		"Sessions.Create": func(ctx context.Context) error { return s.Sessions().Create(ctx, auth.Session{ID: "s"}) },
		"Sessions.ByID":   func(ctx context.Context) error { _, err := s.Sessions().ByID(ctx, "s"); return err },
		"Sessions.ByUser": func(ctx context.Context) error { _, err := s.Sessions().ByUser(ctx, "u", noon, 10); return err },
		"Sessions.Update": func(ctx context.Context) error {
			_, err := s.Sessions().Update(ctx, "s", func(*auth.Session) error { return nil })
			return err
		},
		"Sessions.Sweep": func(ctx context.Context) error { _, err := s.Sessions().DeleteExpired(ctx, noon); return err },
		"SignUps.Create": func(ctx context.Context) error {
			return s.SignUps().Create(ctx, auth.WaitingSignUp{ID: "w", UserID: "u", FullName: "n", Email: "e"}, 1)
		},
		"SignUps.ByID":    func(ctx context.Context) error { _, err := s.SignUps().ByID(ctx, "w"); return err },
		"SignUps.ByEmail": func(ctx context.Context) error { _, err := s.SignUps().ByEmail(ctx, "e"); return err },
		"SignUps.Confirm": func(ctx context.Context) error { _, err := s.SignUps().Confirm(ctx, "w", noon); return err },
		"SignUps.Sweep":   func(ctx context.Context) error { _, err := s.SignUps().DeleteExpired(ctx, noon); return err },
		"Codes.Put":       func(ctx context.Context) error { return s.Codes().Put(ctx, auth.Code{Hash: "h"}) },
		"Codes.Use":       func(ctx context.Context) error { _, err := s.Codes().Use(ctx, "h", noon); return err },
		"Codes.Sweep":     func(ctx context.Context) error { _, err := s.Codes().DeleteExpired(ctx, noon); return err },
		"Nonces.Spend":    func(ctx context.Context) error { _, err := s.Nonces().Spend(ctx, "n", noon); return err },
		"Nonces.Sweep":    func(ctx context.Context) error { _, err := s.Nonces().DeleteExpired(ctx, noon); return err },
		"Messages.Append": func(ctx context.Context) error { _, err := s.Messages().Append(ctx, messages("r", 0, 1)); return err },
		"Messages.List": func(ctx context.Context) error {
			_, err := s.Messages().List(ctx, "r", chat.Range{Limit: 1})
			return err
		},
		"Messages.Bounds": func(ctx context.Context) error { _, err := s.Messages().Bounds(ctx, "r"); return err },
		"Messages.Change": func(ctx context.Context) error {
			_, err := s.Messages().Change(ctx, []chat.Change{{Kind: chat.Delete, Room: "r", Seq: 1}})
			return err
		},
		"Rooms.Ensure": func(ctx context.Context) error { _, err := s.Rooms().Ensure(ctx, chat.Room{Name: "r"}); return err },
		"Rooms.ByName": func(ctx context.Context) error { _, err := s.Rooms().ByName(ctx, "r"); return err },
		"Rooms.List":   func(ctx context.Context) error { _, err := s.Rooms().List(ctx, "", 1); return err },
		"Members.Add": func(ctx context.Context) error {
			_, err := s.Members().Add(ctx, chat.Membership{Room: "r", UserID: "u"})
			return err
		},
		"Members.Remove":  func(ctx context.Context) error { return s.Members().Remove(ctx, "r", "u") },
		"Members.Has":     func(ctx context.Context) error { _, err := s.Members().Has(ctx, "r", "u"); return err },
		"Members.RoomsOf": func(ctx context.Context) error { _, err := s.Members().RoomsOf(ctx, "u", "", 1); return err },
		"Members.Mark": func(ctx context.Context) error {
			_, err := s.Members().Mark(ctx, []chat.Mark{{Room: "r", User: chat.Author{ID: "u"}, Read: 1}})
			return err
		},
		"Members.Mine":        func(ctx context.Context) error { _, err := s.Members().Mine(ctx, "u", chat.Place{}, 1); return err },
		"Outbox.Pending":      func(ctx context.Context) error { _, err := s.Outbox().Pending(ctx, 1); return err },
		"Outbox.PendingAfter": func(ctx context.Context) error { _, err := s.Outbox().PendingAfter(ctx, "e", 1); return err },
		"Outbox.SetAside":     func(ctx context.Context) error { return s.Outbox().SetAside(ctx, "e", "reason") },
		"Outbox.Published":    func(ctx context.Context) error { return s.Outbox().Published(ctx, "e") },
		"MailQueue.Enqueue":   func(ctx context.Context) error { return s.MailQueue().Enqueue(ctx, mail.Job{ID: "j", Key: "k"}) },
		"MailQueue.Claim":     func(ctx context.Context) error { _, _, err := s.MailQueue().Claim(ctx, noon, time.Minute); return err },
		"MailQueue.Settle": func(ctx context.Context) error {
			return s.MailQueue().Settle(ctx, mail.Job{ID: "j"}, mail.Outcome{State: mail.Sent})
		},
		"MailQueue.Prune":   func(ctx context.Context) error { _, err := s.MailQueue().Prune(ctx, noon); return err },
		"MailQueue.List":    func(ctx context.Context) error { _, err := s.MailQueue().List(ctx, mail.Filter{Limit: 1}); return err },
		"MailQueue.Get":     func(ctx context.Context) error { _, err := s.MailQueue().Get(ctx, "j"); return err },
		"MailQueue.Requeue": func(ctx context.Context) error { return s.MailQueue().Requeue(ctx, "j", noon, nil) },
		"MailQueue.Discard": func(ctx context.Context) error { return s.MailQueue().Discard(ctx, "j") },
		"MailQueue.Stats":   func(ctx context.Context) error { _, err := s.MailQueue().Stats(ctx); return err },
	}
}

func TestEveryCallOnAClosedStore(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Close())
	for name, call := range everyCall(s) {
		err := call(t.Context())
		require.ErrorIs(t, err, fault.Unavailable, name)
		assert.Equal(t, fault.Unavailable.Title(), fault.Public(err).Title, name)
		assert.Empty(t, fault.Public(err).Detail, name)
	}
}
