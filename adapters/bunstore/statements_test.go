package bunstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"modernc.org/sqlite"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// counter is a connector that counts what its connections are asked to prepare and to run.
// Append's statements do not pass Bun's hooks, so the driver is the place to look.
type counter struct {
	dsn           string
	prepared, ran atomic.Int64
}

func (c *counter) Driver() driver.Driver { return new(sqlite.Driver) }

func (c *counter) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.Driver().Open(c.dsn)
	return countedConn{conn, c}, err
}

// countedConn hides the optional interfaces of the driver's connection, so that
// everything is prepared.
type countedConn struct {
	driver.Conn
	c *counter
}

func (c countedConn) Prepare(query string) (driver.Stmt, error) {
	c.c.prepared.Add(1)
	stmt, err := c.Conn.Prepare(query)
	return countedStmt{stmt, c.c}, err
}

type countedStmt struct {
	driver.Stmt
	c *counter
}

func (s countedStmt) Exec(args []driver.Value) (driver.Result, error) {
	s.c.ran.Add(1)
	return s.Stmt.Exec(args) //nolint:staticcheck // what database/sql calls where there is nothing newer
}

func (s countedStmt) Query(args []driver.Value) (driver.Rows, error) {
	s.c.ran.Add(1)
	return s.Stmt.Query(args) //nolint:staticcheck // as above
}

func TestAppendRunsFewStatements(t *testing.T) {
	t.Parallel()
	c := &counter{dsn: "file:" + filepath.Join(t.TempDir(), "parley.db") + "?_journal_mode=WAL"}
	db := sql.OpenDB(c)
	defer func() { assert.NoError(t, db.Close()) }()
	s, err := bunstore.New(bun.NewDB(db, sqlitedialect.New()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, s.Migrate(t.Context()))
	_, err = s.Messages().Append(t.Context(), messages("warm", 0, 1))
	require.NoError(t, err)

	spread := make([]chat.Message, 100)
	for i := range spread {
		spread[i] = message(string(rune('A'+i%26)), i)
	}
	for _, test := range []struct {
		name          string
		batch         []chat.Message
		ran, prepared int64
	}{
		{"one message", messages("one", 0, 1), 3, 0},                 // counter, message, mark of who sends
		{"a hundred", messages("hundred", 0, 100), 6, 0},             // counter, then 64+16+16+4, then the mark
		{"five hundred", messages("five hundred", 0, 500), 13, 0},    // counter, then 7×64+3×16+4, then the mark
		{"26 rooms", spread, 10, 0},                                  // counters 16+4+4+1+1, then as a hundred, with 26 marks
		{"a hundred repeats", messages("hundred", 0, 100), 2 + 2, 1}, // counter and the refused insert; counter and look-up
	} {
		ran, prepared := c.ran.Load(), c.prepared.Load()
		_, err := s.Messages().Append(t.Context(), test.batch)
		require.NoError(t, err)
		assert.Equal(t, test.ran, c.ran.Load()-ran, "%s: statements run", test.name)
		assert.Equal(t, test.prepared, c.prepared.Load()-prepared, "%s: statements parsed", test.name)
	}
}

// TestRecordingRoomsCostsNothingWhereNothingIsRecorded counts the statements of what becomes of rooms and memberships, without events and with them.
func TestRecordingRoomsCostsNothingWhereNothingIsRecorded(t *testing.T) {
	t.Parallel()
	c := &counter{dsn: "file:" + filepath.Join(t.TempDir(), "parley.db") + "?_journal_mode=WAL"}
	db := sql.OpenDB(c)
	defer func() { assert.NoError(t, db.Close()) }()
	s, err := bunstore.New(bun.NewDB(db, sqlitedialect.New()))
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close()) }()
	require.NoError(t, s.Migrate(t.Context()))
	ctx, n := t.Context(), 0
	record := func(e *chat.RoomRecord) chat.RoomRecord {
		made := func() (event.Event, bool) {
			n++
			return event.Event{ID: fmt.Sprint("e", n), Topic: "t", Type: "t", Time: noon, Data: []byte("{}")}, true
		}
		e.Room = func(_, _ chat.Room) (event.Event, bool) { return made() }
		e.Membership = func(chat.Membership) (event.Event, bool) { return made() }
		return *e
	}(new(chat.RoomRecord))
	anything := func(chat.Room, chat.Role, chat.Role, int) error { return nil }
	type stores struct {
		rooms   chat.Rooms
		members chat.Members
		roles   chat.Roles
	}
	plain := stores{s.Rooms(), s.Members(), s.Roles()}
	recording := func(r chat.RoomRecord) (of stores) {
		var errs [3]error
		of.rooms, errs[0] = s.Rooms().Recording(r)
		of.members, errs[1] = s.Members().Recording(r)
		of.roles, errs[2] = s.Roles().Recording(r)
		require.NoError(t, errors.Join(errs[:]...))
		return of
	}
	silent, told := recording(chat.RoomRecord{}), recording(record)
	many := func(room string) (all []chat.Membership) {
		for i := range 50 {
			all = append(all, chat.Membership{Room: room, UserID: user.ID(fmt.Sprint("u", i)), Since: noon})
		}
		return all
	}
	calls := []struct {
		name string
		do   func(of stores, room string) error
		more int64 // statements of the events
	}{
		{"ensure", func(of stores, room string) error {
			_, err := of.rooms.Ensure(ctx, chat.Room{Name: room, CreatedAt: noon})
			return err
		}, 1},
		{"ensure again", func(of stores, room string) error {
			_, err := of.rooms.Ensure(ctx, chat.Room{Name: room, CreatedAt: noon})
			return err
		}, 0},
		{"update", func(of stores, room string) error {
			_, err := of.rooms.Update(ctx, room, chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "t"; return nil })
			return err
		}, 1},
		{"create", func(of stores, room string) error {
			_, err := of.roles.Create(ctx, chat.Room{Name: room + "2", CreatedAt: noon}, chat.Membership{UserID: "u", Since: noon, Role: chat.Owner})
			return err
		}, 1},
		{"invite", func(of stores, room string) error {
			_, _, err := of.roles.Change(ctx, chat.RoleChange{Room: room, User: "v", Role: chat.Reader, At: noon}, anything)
			return err
		}, 1},
		{"change a role", func(of stores, room string) error {
			_, _, err := of.roles.Change(ctx, chat.RoleChange{Room: room, User: "v", Role: chat.Owner, At: noon}, anything)
			return err
		}, 1},
		{"join", func(of stores, room string) error { _, err := of.members.Add(ctx, many(room)[:1]...); return err }, 1},
		{"join again", func(of stores, room string) error { _, err := of.members.Add(ctx, many(room)[:1]...); return err }, 0},
		{"49 join", func(of stores, room string) error { _, err := of.members.Add(ctx, many(room)...); return err }, 48 + 1}, // one after the other
		{"leave", func(of stores, room string) error { return of.members.Remove(ctx, room, "u1") }, 1},
		{"leave again", func(of stores, room string) error { return of.members.Remove(ctx, room, "u1") }, 0},
	}
	count := func(of stores, room string) (ran []int64) {
		for _, call := range calls {
			before := c.ran.Load()
			require.NoError(t, call.do(of, room), call.name)
			ran = append(ran, c.ran.Load()-before)
		}
		return ran
	}
	count(plain, "warm")
	count(told, "warm with events")
	without, with, none := count(plain, "plain"), count(told, "told"), count(silent, "silent")
	// To give a role asks who is banned too, in the commit.
	assert.Equal(t, []int64{3, 1, 3, 3, 8, 6, 2, 1, 2, 1, 1}, without)
	assert.Equal(t, without, none)
	for i, call := range calls {
		assert.Equal(t, call.more, with[i]-without[i], call.name)
	}
}
