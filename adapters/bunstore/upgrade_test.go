package bunstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// migrateVariable makes this binary a process that migrates the database it names.
const migrateVariable = "BUNSTORE_TEST_MIGRATE"

func TestMain(m *testing.M) {
	if at := os.Getenv(migrateVariable); at != "" {
		if err := migrateAt(at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func migrateAt(at string) error {
	ctx := context.Background()
	u, err := url.Parse(at)
	if err != nil {
		return err
	}
	e := engines[0]
	if u.Scheme == "mysql" {
		e = engines[1]
	}
	s, err := e.open(ctx, at, bunstore.Config{})
	if err != nil {
		return err
	}
	return s.Migrate(ctx)
}

// first returns stores whose schema is that of the first n migrations, and its place.
func first(t *testing.T, n int, test func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "parley.db")
		reopen := func() *bunstore.Store {
			s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, s.Close()) })
			return s
		}
		s := reopen()
		require.NoError(t, bunstore.MigrateFirst(t.Context(), s, n))
		test(t, s, reopen)
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			at := e.fresh(t)
			reopen := func() *bunstore.Store {
				s, err := e.open(t.Context(), at, bunstore.Config{})
				require.NoError(t, err)
				t.Cleanup(func() { assert.NoError(t, s.Close()) })
				return s
			}
			s := reopen()
			require.NoError(t, bunstore.MigrateFirst(t.Context(), s, n))
			test(t, s, reopen)
		})
	}
}

// Everything that was stored under the first schema is there under the last, and goes on.
func TestUpgradeKeepsEverything(t *testing.T) {
	first(t, 1, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		var stored []chat.Message
		for i := range 4 {
			stored = append(stored, oldMessages(t, s, messages("a", 100*i, 40))...)
			oldMessages(t, s, messages("b", 100*i, 40))
		}
		oldUser(t, s, "u")
		oldEvent(t, s, "e")
		oldJob(t, s, "j")
		err := s.Check(t.Context())
		require.ErrorIs(t, err, bunstore.ErrSchemaOld)
		require.ErrorContains(t, err, "it lacks "+bunstore.NamesAfter(s, 1)+": run the command migrate")
		assert.NotContains(t, err.Error(), "\n")

		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.Check(t.Context()))
		all, err := s.Messages().List(t.Context(), "a", chat.Range{Limit: 1000})
		require.NoError(t, err)
		assert.Equal(t, stored, all)
		got, err := s.Messages().Append(t.Context(), append(messages("a", 300, 40), message("a", 1000)))
		require.NoError(t, err)
		assert.True(t, got[39].Repeated, "a client's own id is known as before")
		assert.EqualValues(t, 161, got[40].Seq)
		pending, err := s.Outbox().Pending(t.Context(), 10)
		require.NoError(t, err)
		assert.Len(t, pending, 1)
		_, err = s.MailQueue().Get(t.Context(), "j")
		require.NoError(t, err)
	})
}

// addedSince are the columns that tables got since there were settings.
var addedSince = map[string][]string{"users": {"role", "disabled_at", "language", "avatar_url", "new_email", "new_email_code"}, "sign_ups": {"language"}, "sessions": {"device", "network", "seen_at", "proven_at"}, "mail_jobs": {"history", "replays"}, "webhook_jobs": {"history", "replays"}}

// rowsOf returns all rows of a table, in an order, without what was added since.
func rowsOf(t *testing.T, s *bunstore.Store, table string) []string {
	t.Helper()
	db, _ := bunstore.Handles(s)
	found, err := db.QueryContext(t.Context(), "SELECT * FROM parley_"+table)
	require.NoError(t, err)
	defer func() { assert.NoError(t, found.Close()) }()
	columns, err := found.Columns()
	require.NoError(t, err)
	all := []string{}
	for found.Next() {
		values, at := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			at[i] = &values[i]
		}
		require.NoError(t, found.Scan(at...))
		row := ""
		for i, v := range values {
			if slices.Contains(addedSince[table], columns[i]) {
				continue
			}
			row += fmt.Sprintf("%s=%s|", columns[i], v)
		}
		all = append(all, row)
	}
	require.NoError(t, found.Err())
	slices.Sort(all)
	return all
}

// A store of before users had settings, with something in each table, has every row as it was after the upgrade, and goes on; so does a program of then beside, whose
// statements are those of this one but for what was added since.
func TestUpgradeLosesNothing(t *testing.T) {
	then := []string{
		"users", "sign_ups", "sessions", "codes", "nonces", "rooms", "members", "restrictions", "blocks", "messages", "changes", "deletions", "reactions", "room_seqs",
		"outbox", "outbox_aside", "mail_jobs", "webhook_jobs", "limits", "heartbeat",
	}
	first(t, 15, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		ctx := t.Context()
		fill := func(s *bunstore.Store, room string) {
			t.Helper()
			id := user.ID("user-of-" + room)
			oldUser(t, s, string(id))
			oldEvent(t, s, "e-"+room)
			oldSession(t, s, "s-"+room, string(id))
			require.NoError(t, s.Codes().Put(ctx, auth.Code{Hash: "h-" + room, UserID: id, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}))
			oldSignUp(t, s, "w-"+room)
			_, err := s.Nonces().Spend(ctx, "n-"+room, noon)
			require.NoError(t, err)
			require.NoError(t, s.Outbox().SetAside(ctx, "e-"+room, "no reason"))
			oldUser(t, s, string(id)+"2")
			oldEvent(t, s, "e2-"+room)
			require.NoError(t, s.MailQueue().Enqueue(ctx, mail.Job{ID: "j-" + room, Key: room, RunAt: noon, CreatedAt: noon}))
			require.NoError(t, s.WebhookQueue().Enqueue(ctx, mail.Job{ID: "j-" + room, Key: room, RunAt: noon, CreatedAt: noon}))
			_, err = s.Roles().Create(ctx, chat.Room{Name: room, Kind: chat.Private, Title: "title", Topic: "topic", Data: "{}", Retention: time.Hour, CreatedBy: id, CreatedAt: noon},
				chat.Membership{Room: room, UserID: id, Since: noon, Role: chat.Owner}, chat.Membership{Room: room, UserID: "u1", Since: noon, Role: chat.Moderator})
			require.NoError(t, err)
			sent := messages(room, 0, 40)
			sent[5].ReplyTo, sent[6].Data = 1, `{"a":1}`
			_, err = s.Messages().Append(ctx, sent)
			require.NoError(t, err)
			changes := []chat.Change{
				{Kind: chat.Edit, Room: room, Seq: 1, By: chat.Author{ID: "u1"}, Text: "edited", At: noon}, {Kind: chat.Delete, Room: room, Seq: 2, By: chat.Author{ID: "u1"}, At: noon},
				{Kind: chat.React, Room: room, Seq: 3, By: chat.Author{ID: id}, Key: "+", At: noon}, {Kind: chat.Edit, Room: room, Seq: 1, By: chat.Author{ID: "u1"}, Text: "edited again", At: noon},
			}
			changed, err := s.Messages().Change(ctx, changes)
			require.NoError(t, err)
			for i, c := range changed {
				require.NoError(t, c.Err)
				require.EqualValues(t, i+1, c.Rev)
			}
			marked, err := s.Members().Mark(ctx, []chat.Mark{{Room: room, User: chat.Author{ID: id}, Read: 30}})
			require.NoError(t, err)
			require.NoError(t, marked[0].Err)
			_, err = s.Restrictions().Put(ctx, chat.Restriction{Room: room, UserID: "troll", Kind: chat.Ban, By: id, Reason: "spam", At: noon}, nil)
			require.NoError(t, err)
			_, err = s.Blocks().Put(ctx, chat.Block{Pair: chat.Pair{By: id, Whom: "troll"}, At: noon}, 10)
			require.NoError(t, err)
			_, err = s.Limiter().Allow(ctx, "l-"+room, auth.Rate{Burst: 2, Per: time.Hour}, noon)
			require.NoError(t, err)
			require.NoError(t, s.Ping(ctx))
		}
		fill(s, "before")
		before := map[string][]string{}
		for _, table := range then {
			before[table] = rowsOf(t, s, table)
			assert.NotEmpty(t, before[table], table)
		}
		require.ErrorIs(t, s.Check(ctx), bunstore.ErrSchemaOld)
		older := s

		s = reopen()
		require.NoError(t, s.Migrate(ctx))
		require.NoError(t, s.Check(ctx))
		for table, rows := range before {
			assert.Equal(t, rows, rowsOf(t, s, table), table)
		}
		assert.Empty(t, rowsOf(t, s, "settings"))
		assert.Empty(t, rowsOf(t, s, "audit"))
		require.NoError(t, s.Settings().Put(ctx, "user-of-before", chat.UserSettings{HidesRead: true}))
		fill(older, "beside")
		for table, rows := range before {
			if table == "heartbeat" { // it counts
				continue
			}
			assert.Subset(t, rowsOf(t, s, table), rows, table)
		}
		for _, room := range []string{"before", "beside"} {
			u, err := s.Users().ByID(ctx, user.ID("user-of-"+room))
			require.NoError(t, err)
			assert.Empty(t, u.Role)
			assert.False(t, u.Disabled())
			x, err := s.Sessions().ByID(ctx, "s-"+room)
			require.NoError(t, err)
			assert.Empty(t, x.Device+x.Network)
			assert.Zero(t, x.SeenAt)
			got, err := s.Messages().Append(ctx, append(messages(room, 0, 40), message(room, 100)))
			require.NoError(t, err)
			assert.True(t, got[39].Repeated)
			assert.EqualValues(t, 41, got[40].Seq)
			mine, err := s.Members().Mine(ctx, user.ID("user-of-"+room), chat.Place{}, 5)
			require.NoError(t, err)
			require.Len(t, mine, 1)
			assert.Equal(t, []uint64{30, 11, 4}, []uint64{mine[0].Read, mine[0].Unread, mine[0].Rev})
		}

		// The older program goes on with what there is, whichever of the two has stored it.
		db, _ := bunstore.Handles(older)
		for _, room := range []string{"before", "beside"} {
			id := user.ID("user-of-" + room)
			for _, q := range []mail.Queue{older.MailQueue(), older.WebhookQueue()} {
				j, found, err := q.Claim(ctx, noon, time.Minute)
				require.NoError(t, err)
				require.True(t, found)
				require.Equal(t, "j-"+room, j.ID)
				require.NoError(t, q.Settle(ctx, j, mail.Outcome{State: mail.Sent, At: noon}))
			}
			for statement, of := range map[string]any{
				"UPDATE parley_users SET verified_at = 1 WHERE id = ?": id, "UPDATE parley_sessions SET revoked_at = 1 WHERE id = ?": "s-" + room, "DELETE FROM parley_outbox WHERE id = ?": "e2-" + room,
			} {
				done, err := db.ExecContext(ctx, statement, of)
				require.NoError(t, err, statement)
				n, err := done.RowsAffected()
				require.NoError(t, err)
				assert.EqualValues(t, 1, n, statement)
			}
			_, err := older.Codes().Use(ctx, "h-"+room, noon)
			require.NoError(t, err)
			_, err = older.SignUps().Confirm(ctx, "w-"+room, noon)
			require.NoError(t, err)
			_, err = older.Limiter().Allow(ctx, "l-"+room, auth.Rate{Burst: 2, Per: time.Hour}, noon)
			require.NoError(t, err)
			wait, err := s.Limiter().Allow(ctx, "l-"+room, auth.Rate{Burst: 2, Per: time.Hour}, noon)
			require.NoError(t, err)
			assert.Positive(t, wait, "both have taken one")
			_, err = older.Rooms().Update(ctx, room, chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "another"; return nil })
			require.NoError(t, err)
			require.NoError(t, older.Members().Remove(ctx, room, "u1"))
			require.NoError(t, older.Blocks().Remove(ctx, chat.Pair{By: id, Whom: "troll"}))
		}
		require.NoError(t, older.Ping(ctx))
	})
}

// oldMessages stores messages of one room as a program of the first schema does.
func oldMessages(t *testing.T, s *bunstore.Store, all []chat.Message) []chat.Message {
	t.Helper()
	db, _ := bunstore.Handles(s)
	room := all[0].Room
	var id, last int64
	err := db.NewRaw("SELECT id, last FROM parley_room_seqs WHERE room = ?", room).Scan(t.Context(), &id, &last)
	if errors.Is(err, sql.ErrNoRows) {
		_, err = db.ExecContext(t.Context(), "INSERT INTO parley_room_seqs (room, last) VALUES (?, 0)", room)
		require.NoError(t, err)
		err = db.NewRaw("SELECT id, last FROM parley_room_seqs WHERE room = ?", room).Scan(t.Context(), &id, &last)
	}
	require.NoError(t, err)
	stored := slices.Clone(all)
	for i := range stored {
		m := &stored[i]
		last++
		m.Seq, m.At = uint64(last), m.At.UTC().Truncate(time.Microsecond)
		_, err := db.ExecContext(t.Context(), "INSERT INTO parley_messages (room_id, seq, id, client_id, author_id, author_name, text, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			id, last, m.ID, m.ClientID, string(m.Author.ID), m.Author.Name, m.Text, m.At.UnixMicro())
		require.NoError(t, err)
	}
	_, err = db.ExecContext(t.Context(), "UPDATE parley_room_seqs SET last = ? WHERE id = ?", last, id)
	require.NoError(t, err)
	return stored
}

// Messages of an older program have no more than it gave them, also those that it stores while it runs beside; and it reads those of
// the newer one without what it does not know.
func TestUpgradeKeepsMessages(t *testing.T) {
	first(t, 8, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		want := oldMessages(t, s, messages("a", 0, 3))
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		want = append(want, oldMessages(t, s, messages("a", 100, 2))...)
		reply := message("a", 200)
		reply.ReplyTo, reply.Data = 5, `{"b":1,"a":"\u00e9"}`
		got, err := s.Messages().Append(t.Context(), []chat.Message{reply, message("a", 201)})
		require.NoError(t, err)
		want = append(want, got[0].Message, got[1].Message)
		assert.EqualValues(t, 6, got[0].Seq)
		want = append(want, oldMessages(t, s, messages("a", 300, 1))...)
		all, err := s.Messages().List(t.Context(), "a", chat.Range{Limit: 100})
		require.NoError(t, err)
		assert.Equal(t, want, all)

		db, _ := bunstore.Handles(s)
		var seq, at int64 // as the older program reads
		var id, author, name, text string
		var client sql.NullString
		require.NoError(t, db.NewRaw("SELECT seq, id, client_id, author_id, author_name, text, at FROM parley_messages WHERE room_id = (SELECT id FROM parley_room_seqs WHERE room = ?) AND seq > ? AND seq < ? ORDER BY seq LIMIT ?", "a", 5, 7, 10).
			Scan(t.Context(), &seq, &id, &client, &author, &name, &text, &at))
		assert.Equal(t, []any{int64(6), reply.ID, reply.ClientID, string(reply.Author.ID), reply.Author.Name, reply.Text}, []any{seq, id, client.String, author, name, text})
	})
}

// oldJob stores a mail job as a program of the first schema does.
func oldJob(t *testing.T, s *bunstore.Store, id string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_mail_jobs (id, job_key, kind, recipient, recipient_name, data, state, attempts, claims, run_at, last_error, created_at, updated_at)"+
		" VALUES (?, ?, 'verification', 'ada@example.com', 'Ada', '{}', 'ready', 0, 0, ?, '', ?, ?)", id, "key-"+id, noon.UnixMicro(), noon.UnixMicro(), noon.UnixMicro())
	require.NoError(t, err)
}

// Mails of an older program go on under the new schema, also those that it stores while it runs beside.
func TestUpgradeKeepsMails(t *testing.T) {
	first(t, 2, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		oldJob(t, s, "before")
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		oldJob(t, s, "beside")
		q := s.MailQueue()
		for _, id := range []string{"before", "beside"} {
			j, found, err := q.Claim(t.Context(), noon, time.Minute)
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, id, j.ID)
			assert.Zero(t, j.DeferredSince)
			require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Ready, RunAt: noon.Add(time.Hour), At: noon, Error: "later", Untried: true, DeferredSince: noon}))
			j, err = q.Get(t.Context(), id)
			require.NoError(t, err)
			assert.Equal(t, noon, j.DeferredSince)
		}
	})
}

// oldUser, oldSession and oldEvent store what a program of the first schema stored, in its words.
func oldUser(t *testing.T, s *bunstore.Store, id string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_users (id, full_name, email, password_hash, created_at, verified_at, password_changed_at) VALUES (?, 'x', ?, 'h', 1, NULL, 1)", id, id+"@example.com")
	require.NoError(t, err)
}

// oldSignUp stores a sign-up as a program of before users had languages does.
func oldSignUp(t *testing.T, s *bunstore.Store, id string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_sign_ups (id, user_id, full_name, email, password_hash, network, created_at, expires_at, confirmed_at) VALUES (?, 'new', 'Eve', 'eve@example.com', '', '', ?, ?, NULL)",
		id, noon.UnixMicro(), noon.Add(time.Hour).UnixMicro())
	require.NoError(t, err)
}

// What users say of themselves is nothing for those of before, and an older program that writes a user beside keeps what it does not know.
func TestUpgradeKeepsProfiles(t *testing.T) {
	first(t, 18, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		ctx := t.Context()
		oldUser(t, s, "before")
		oldSignUp(t, s, "w-before")
		s = reopen()
		require.NoError(t, s.Migrate(ctx))
		oldUser(t, s, "beside")
		oldSignUp(t, s, "w-beside")
		db, _ := bunstore.Handles(s)
		for _, id := range []user.ID{"before", "beside"} {
			u, err := s.Users().ByID(ctx, id)
			require.NoError(t, err)
			assert.Empty(t, u.Language+u.AvatarURL+string(u.NewEmail)+u.NewEmailCode)
			w, err := s.SignUps().ByID(ctx, "w-"+string(id))
			require.NoError(t, err)
			assert.Empty(t, w.Language)
			_, err = s.SignUps().Confirm(ctx, w.ID, noon)
			require.NoError(t, err)

			said := func(u *user.User) error {
				u.Language, u.AvatarURL, u.NewEmail, u.NewEmailCode = "de", "https://example.com/a.png", user.Email(id+"-new@example.com"), "code"
				return nil
			}
			want, err := s.Users().Update(ctx, id, said)
			require.NoError(t, err)
			_, err = db.ExecContext(ctx, "UPDATE parley_users SET full_name = 'y', email = ?, password_hash = 'h', created_at = 1, verified_at = NULL, password_changed_at = 1,"+
				" sessions_from = NULL, kept_session = '', role = NULL, disabled_at = NULL WHERE id = ?", string(want.Email), string(id))
			require.NoError(t, err)
			want.FullName = "y"
			got, err := s.Users().ByID(ctx, id)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
	})
}

func oldSession(t *testing.T, s *bunstore.Store, id, user string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_sessions (id, user_id, family_hash, token_hash, created_at, rotated_at, expires_at, revoked_at) VALUES (?, ?, 'f', 't', 1, 1, ?, NULL)", id, user, noon.UnixMicro())
	require.NoError(t, err)
}

func oldEvent(t *testing.T, s *bunstore.Store, id string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_outbox (id, topic, type, event_key, time, data) VALUES (?, 't', 'y', 'k', 1, '')", id)
	require.NoError(t, err)
}

// Sessions and users of an older program go on under the new schema, also those that it stores
// while it runs beside.
func TestUpgradeKeepsSessions(t *testing.T) {
	first(t, 2, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		oldUser(t, s, "before")
		oldSession(t, s, "s-before", "before")
		require.NoError(t, reopen().Migrate(t.Context()))
		oldUser(t, s, "beside")
		oldSession(t, s, "s-beside", "beside")
		for _, id := range []string{"before", "beside"} {
			want := auth.Session{
				ID: "s-" + id, UserID: user.ID(id), FamilyHash: "f", TokenHash: "t",
				CreatedAt: time.UnixMicro(1).UTC(), RotatedAt: time.UnixMicro(1).UTC(), ExpiresAt: noon,
			}
			got, err := s.Sessions().Standing(t.Context(), want.ID)
			require.NoError(t, err)
			assert.Equal(t, auth.Standing{Session: want}, got)
			_, err = s.Users().Update(t.Context(), want.UserID, func(u *user.User) error {
				u.SessionsFrom, u.KeptSession = noon, want.ID
				return nil
			})
			require.NoError(t, err)
			_, err = s.Sessions().Update(t.Context(), want.ID, func(s *auth.Session) error { s.PreviousHash, s.RotationKey = "p", "k"; return nil })
			require.NoError(t, err)
			want.PreviousHash, want.RotationKey = "p", "k"
			got, err = s.Sessions().Standing(t.Context(), want.ID)
			require.NoError(t, err)
			assert.Equal(t, auth.Standing{Session: want, From: noon, Kept: want.ID}, got)
			found, err := s.Sessions().ByUser(t.Context(), want.UserID, noon.Add(-time.Hour), 5)
			require.NoError(t, err)
			assert.Equal(t, []auth.Session{want}, found)
		}
		_, err := s.Sessions().Standing(t.Context(), "nobody")
		require.ErrorIs(t, err, auth.ErrSessionNotFound)
	})
}

// An older program that runs beside keeps its events in the outbox, and neither sees nor loses what was set aside.
func TestUpgradeSetsEventsAside(t *testing.T) {
	first(t, 2, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		old := func(id string) {
			db, _ := bunstore.Handles(s)
			_, err := db.ExecContext(t.Context(), "INSERT INTO parley_outbox (id, topic, type, event_key, time, data) VALUES (?, 'session', 'x.y', 'k', ?, ?)", id, noon.UnixMicro(), []byte("{}"))
			require.NoError(t, err)
		}
		old("before")
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		old("beside")
		require.NoError(t, s.Outbox().SetAside(t.Context(), "before", strings.Repeat("ü", 3000)))
		for range 2 { // as the older program does, and the newer
			pending, err := s.Outbox().Pending(t.Context(), 10)
			require.NoError(t, err)
			require.Len(t, pending, 1)
			require.Equal(t, "beside", pending[0].ID)
		}
		db, _ := bunstore.Handles(s)
		var got struct{ ID, Topic, Type, EventKey, Reason string }
		require.NoError(t, db.NewRaw("SELECT id, topic, type, event_key, reason FROM parley_outbox_aside").Scan(t.Context(), &got))
		require.Equal(t, strings.Repeat("ü", 1024), got.Reason)
		// As operations.md says.
		_, err := db.ExecContext(t.Context(), "INSERT INTO parley_outbox (id, topic, type, event_key, time, data) SELECT id, topic, type, event_key, time, data FROM parley_outbox_aside WHERE id = 'before'")
		require.NoError(t, err)
		pending, err := s.Outbox().Pending(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, pending, 2)
		require.Equal(t, event.Event{ID: "before", Topic: "session", Type: "x.y", Key: "k", Time: noon, Data: []byte("{}")}, pending[1])
		// It may be set aside once more.
		require.NoError(t, s.Outbox().SetAside(t.Context(), "before", "again"))
		require.NoError(t, db.NewRaw("SELECT id, topic, type, event_key, reason FROM parley_outbox_aside").Scan(t.Context(), &got))
		require.Equal(t, "again", got.Reason)
	})
}

// A process that is killed in the middle of a migration is in nobody's way.
func TestMigrationIsKilled(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		at := e.fresh(t)
		s, err := e.open(t.Context(), at, bunstore.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		require.NoError(t, bunstore.MigrateFirst(t.Context(), s, 1))
		db, _ := bunstore.Handles(s)
		waiting := map[string]string{
			"PostgreSQL": `SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'`,
			"MariaDB":    `SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for table metadata lock%'`,
		}[e.name]

		// A reader keeps the table from being changed, so that the other process stops there.
		err = bunstore.Transact(t.Context(), s, func(ctx context.Context, tx bun.Tx) error {
			var n int
			if err := tx.NewRaw("SELECT COUNT(*) FROM parley_messages").Scan(ctx, &n); err != nil {
				return err
			}
			other := exec.CommandContext(ctx, os.Args[0])
			other.Env = append(os.Environ(), migrateVariable+"="+at)
			if err := other.Start(); err != nil {
				return err
			}
			assert.Eventually(t, func() bool {
				var n int
				assert.NoError(t, db.NewRaw(waiting).Scan(ctx, &n))
				return n > 0
			}, 20*time.Second, 10*time.Millisecond, "the other process does not migrate")
			soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			assert.ErrorIs(t, s.Migrate(soon), fault.Unavailable, "two migrate at once")
			if err := other.Process.Kill(); err != nil {
				return err
			}
			assert.Error(t, other.Wait(), "it was killed")
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.Check(t.Context()))
		_, err = s.Messages().Append(t.Context(), messages("r", 0, 3))
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "DELETE FROM parley_room_seqs")
		require.Error(t, err, "the migration is said to be done, and is not")
	})
}

// Where the program's user may not change the schema, somebody else has to, and then
// everything works.
func TestUserWithoutTheRightToMigrate(t *testing.T) {
	onServers(t, func(t *testing.T, e engine) {
		server := e.start(t) // of its own: users are the whole server's
		owner, err := url.Parse(server.URL)
		require.NoError(t, err)
		admin, err := e.open(t.Context(), server.URL, bunstore.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, admin.Close()) })
		db, _ := bunstore.Handles(admin)
		run := func(statements ...string) {
			t.Helper()
			for _, statement := range statements {
				_, err := db.ExecContext(t.Context(), statement)
				require.NoError(t, err)
			}
		}
		grant := func() { // on the tables that there are
			t.Helper()
			run(map[string]string{
				"PostgreSQL": `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO limited`,
				"MariaDB":    `GRANT SELECT, INSERT, UPDATE, DELETE ON ` + owner.Path[1:] + `.* TO 'limited'@'127.0.0.1'`,
			}[e.name])
		}
		run(map[string]string{
			"PostgreSQL": `CREATE ROLE limited LOGIN PASSWORD 'hidden'`,
			"MariaDB":    `CREATE USER 'limited'@'127.0.0.1' IDENTIFIED BY 'hidden'`,
		}[e.name])
		if e.name == "MariaDB" {
			grant()
		}
		limited := *owner
		limited.User = url.UserPassword("limited", "hidden")
		s, err := e.open(t.Context(), limited.String(), bunstore.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		refused := func(lacks string) {
			t.Helper()
			err := s.Migrate(t.Context())
			require.ErrorIs(t, err, bunstore.ErrSchemaOld)
			require.ErrorContains(t, err, "it lacks "+lacks+", and this user has no right to change it: run the command migrate as one who has")
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "hidden")
		}
		refused(bunstore.NamesAfter(s, 0))
		require.NoError(t, bunstore.MigrateFirst(t.Context(), admin, 1))
		grant()
		refused(bunstore.NamesAfter(s, 1))
		require.NoError(t, admin.Migrate(t.Context()))
		grant()
		require.NoError(t, s.Migrate(t.Context()))

		_, err = s.Messages().Append(t.Context(), messages("r", 0, 3))
		require.NoError(t, err)
		got, err := s.Messages().Append(t.Context(), messages("r", 0, 4))
		require.NoError(t, err)
		assert.EqualValues(t, 4, got[3].Seq)
		require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}, event.Event{ID: "e", Time: noon}))
		_, err = s.Users().Update(t.Context(), "u", func(u *user.User) error { u.FullName = "y"; return nil })
		require.NoError(t, err)
		require.NoError(t, s.Outbox().Published(t.Context(), "e"))
		require.NoError(t, s.Sessions().Create(t.Context(), auth.Session{ID: "s", UserID: "u", ExpiresAt: noon}))
		n, err := s.Sessions().DeleteExpired(t.Context(), noon.Add(time.Second))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		require.NoError(t, s.Codes().Put(t.Context(), auth.Code{Hash: "h", UserID: "u", ExpiresAt: noon}))
		_, err = s.Codes().Use(t.Context(), "h", noon)
		require.NoError(t, err)
		_, err = s.Nonces().Spend(t.Context(), "n", noon)
		require.NoError(t, err)
		_, err = s.Rooms().Ensure(t.Context(), chat.Room{Name: "r", CreatedBy: "u"})
		require.NoError(t, err)
		joined, err := s.Members().Add(t.Context(), chat.Membership{Room: "r", UserID: "u1"})
		require.NoError(t, err)
		assert.EqualValues(t, 4, joined[0].Read)
		_, err = s.Messages().Append(t.Context(), messages("r", 4, 1)) // which moves a mark
		require.NoError(t, err)
		_, err = s.Members().Mark(t.Context(), []chat.Mark{{Room: "r", User: chat.Author{ID: "u1"}, Read: 1}})
		require.NoError(t, err)
		_, err = s.Messages().Change(t.Context(), []chat.Change{{Kind: chat.Delete, Room: "r", Seq: 5, Any: true}})
		require.NoError(t, err)
		mine, err := s.Members().Mine(t.Context(), "u1", chat.Place{}, 5)
		require.NoError(t, err)
		require.Len(t, mine, 1)
		assert.EqualValues(t, 5, mine[0].Read)
		require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "j", Key: "k", RunAt: noon}))
		j, ok, err := s.MailQueue().Claim(t.Context(), noon, time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, s.MailQueue().Settle(t.Context(), j, mail.Outcome{State: mail.Sent, At: noon}))
		require.NoError(t, s.Ping(t.Context()))
		require.NoError(t, s.Ping(t.Context()))

		// A right that is taken away later is no fault of the caller's.
		run(map[string]string{
			"PostgreSQL": `REVOKE INSERT ON parley_messages FROM limited`,
			"MariaDB":    `REVOKE INSERT ON ` + owner.Path[1:] + `.* FROM 'limited'@'127.0.0.1'`,
		}[e.name])
		again, err := e.open(t.Context(), limited.String(), bunstore.Config{}) // MariaDB asks once a connection
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, again.Close()) })
		_, err = again.Messages().Append(t.Context(), messages("r", 10, 1))
		require.ErrorIs(t, err, fault.Unavailable)
	})
}

// Accounts of an older program that wait for their code go on under the new schema, also those that
// it stores while it runs beside; so do their codes.
func TestUpgradeKeepsAccountsThatWait(t *testing.T) {
	first(t, 2, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		oldUser(t, s, "before")
		oldCode(t, s, "before")
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		oldUser(t, s, "beside")
		oldCode(t, s, "beside")
		for _, id := range []string{"before", "beside"} {
			u, err := s.Users().ByEmail(t.Context(), user.Email(id+"@example.com"))
			require.NoError(t, err)
			assert.False(t, u.Verified())
			c, err := s.Codes().Use(t.Context(), "hash-"+id, noon)
			require.NoError(t, err)
			assert.Equal(t, u.ID, c.UserID)
			_, err = s.SignUps().ByID(t.Context(), id)
			require.ErrorIs(t, err, auth.ErrSignUpNotFound)
			w := auth.WaitingSignUp{ID: "w-" + id, UserID: u.ID, FullName: "Ada", Email: u.Email, PasswordHash: "new", CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}
			require.NoError(t, s.SignUps().Create(t.Context(), w, 5))
			found, err := s.SignUps().ByEmail(t.Context(), u.Email)
			require.NoError(t, err)
			assert.Equal(t, []auth.WaitingSignUp{w}, found)
		}
	})
}

func oldCode(t *testing.T, s *bunstore.Store, user string) {
	t.Helper()
	db, _ := bunstore.Handles(s)
	_, err := db.ExecContext(t.Context(), "INSERT INTO parley_codes (hash, user_id, created_at, expires_at, used_at) VALUES (?, ?, 1, ?, NULL)", "hash-"+user, user, noon.UnixMicro())
	require.NoError(t, err)
}
