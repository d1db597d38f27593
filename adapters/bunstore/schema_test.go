package bunstore_test

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/fault"
)

// bounds are the shortest and the longest text of a column, in characters.
type bounds struct{ min, max int }

// rule is what the schema says of a table.
type rule struct {
	table string
	// row is one that is good. Numbers that the engine gives are left out.
	row map[string]any
	// texts are the columns with a bound.
	texts map[string]bounds
	// nullable are the columns that may be NULL; they may be left out of row.
	nullable []string
	// unique are sets of columns, with what makes another row of row that shares the set.
	unique []unique
	// broken are changes of row that a CHECK refuses.
	broken []map[string]any
}

type unique struct {
	columns string
	other   map[string]any
}

// counterID is the room_seqs row that messages belong to.
const counterID = 7

var schemaRules = []rule{
	{
		table: "users",
		row: map[string]any{
			"id": "i", "full_name": "n", "email": "e", "password_hash": "", "created_at": 0, "verified_at": 1, "password_changed_at": 2,
			"sessions_from": 3, "kept_session": "s", "role": "r", "disabled_at": 4,
			"language": "de", "avatar_url": "u", "new_email": "n", "new_email_code": "c",
		},
		texts:    map[string]bounds{"id": {1, 128}, "full_name": {1, 100}, "email": {1, 254}, "password_hash": {0, 512}, "kept_session": {0, 128}, "role": {1, 16}, "language": {1, 35}, "avatar_url": {1, 1024}, "new_email": {1, 254}, "new_email_code": {1, 128}},
		nullable: []string{"verified_at", "password_changed_at", "sessions_from", "role", "disabled_at", "language", "avatar_url", "new_email", "new_email_code"},
		unique:   []unique{{"id", map[string]any{"email": "f"}}, {"email", map[string]any{"id": "j"}}},
	},
	{
		table: "sessions",
		row: map[string]any{
			"id": "i", "user_id": "u", "family_hash": "f", "token_hash": "t", "created_at": 0, "rotated_at": 1, "expires_at": 2, "revoked_at": 3,
			"previous_hash": "p", "rotation_key": "k", "device_hash": "d", "device": "v", "network": "n", "seen_at": 4, "proven_at": 5,
		},
		texts: map[string]bounds{
			"id": {1, 128}, "user_id": {0, 128}, "family_hash": {0, 128}, "token_hash": {0, 128},
			"previous_hash": {0, 128}, "rotation_key": {0, 128}, "device_hash": {0, 128}, "device": {0, 64}, "network": {0, 64},
		},
		nullable: []string{"rotated_at", "revoked_at", "seen_at", "proven_at"},
		unique:   []unique{{"id", map[string]any{"user_id": "v"}}},
	},
	{
		table:    "factors",
		row:      map[string]any{"user_id": "u", "secret": []byte("s"), "created_at": 0, "confirmed_at": 1, "last_step": 2, "recovery": "h"},
		texts:    map[string]bounds{"user_id": {1, 128}, "recovery": {0, 1024}},
		nullable: []string{"created_at", "confirmed_at"},
		unique:   []unique{{"user_id", map[string]any{"last_step": 3}}},
	},
	{
		table:  "restrictions",
		row:    map[string]any{"room": "r", "user_id": "u", "kind": "ban", "by_id": "b", "reason": "", "at": 0, "until": 1},
		texts:  map[string]bounds{"room": {1, 100}, "user_id": {1, 128}, "kind": {1, 16}, "by_id": {0, 128}, "reason": {0, 500}},
		unique: []unique{{"room,user_id,kind", map[string]any{"by_id": "c"}}},
	},
	{
		table:  "blocks",
		row:    map[string]any{"by_id": "u", "whom_id": "v", "at": 0},
		texts:  map[string]bounds{"by_id": {1, 128}, "whom_id": {1, 128}},
		unique: []unique{{"by_id,whom_id", map[string]any{"at": 1}}},
	},
	{
		table:  "settings",
		row:    map[string]any{"user_id": "u", "hides_read": 1},
		texts:  map[string]bounds{"user_id": {1, 128}},
		broken: []map[string]any{{"hides_read": 2}, {"hides_read": -1}},
		unique: []unique{{"user_id", map[string]any{"hides_read": 0}}},
	},
	{
		table: "audit",
		row:   map[string]any{"id": "i", "at": 0, "actor": "a", "action": "c", "target": "t", "detail": "{}", "network": "n", "outcome": "o"},
		texts: map[string]bounds{
			"id": {1, 128}, "actor": {0, 128}, "action": {0, 64}, "target": {0, 255}, "detail": {0, 512}, "network": {0, 64}, "outcome": {0, 64},
		},
		unique: []unique{{"id", map[string]any{"at": 1}}},
	},
	{
		table:    "codes",
		row:      map[string]any{"hash": "h", "user_id": "u", "created_at": 0, "expires_at": 1, "used_at": 2},
		texts:    map[string]bounds{"hash": {1, 128}, "user_id": {0, 128}},
		nullable: []string{"used_at"},
		unique:   []unique{{"hash", map[string]any{"user_id": "v"}}},
	},
	{
		table: "sign_ups",
		row: map[string]any{
			"id": "i", "user_id": "u", "full_name": "n", "email": "e", "password_hash": "", "network": "",
			"created_at": 0, "expires_at": 1, "confirmed_at": 2, "language": "de",
		},
		texts: map[string]bounds{
			"id": {1, 128}, "user_id": {1, 128}, "full_name": {1, 100}, "email": {1, 254}, "password_hash": {0, 512}, "network": {0, 64}, "language": {1, 35},
		},
		nullable: []string{"confirmed_at", "language"},
		unique:   []unique{{"id", map[string]any{"user_id": "v"}}},
	},
	{
		table:  "nonces",
		row:    map[string]any{"name": "n", "expires_at": 0},
		texts:  map[string]bounds{"name": {0, 255}},
		unique: []unique{{"name", map[string]any{"expires_at": 1}}},
	},
	{
		table:  "limits",
		row:    map[string]any{"name": "n", "whole_at": 0},
		texts:  map[string]bounds{"name": {0, 64}},
		unique: []unique{{"name", map[string]any{"whole_at": 1}}},
	},
	{
		table: "rooms",
		row: map[string]any{
			"name": "n", "created_by": "u", "created_at": 0, "kind": "k", "title": "t", "topic": "o", "data": "{}", "retention": 1, "deleted_at": 2,
		},
		texts:    map[string]bounds{"name": {1, 100}, "created_by": {0, 128}},
		nullable: []string{"kind", "title", "topic", "data", "retention", "deleted_at"},
		unique:   []unique{{"name", map[string]any{"created_by": "v"}}},
	},
	{
		table:    "members",
		row:      map[string]any{"user_id": "u", "room": "r", "since": 0, "read_seq": 0, "role": "owner"},
		texts:    map[string]bounds{"user_id": {0, 128}, "room": {1, 100}},
		nullable: []string{"read_seq", "role"},
		unique:   []unique{{"user_id, room", map[string]any{"since": 1}}},
	},
	{
		table:  "room_seqs",
		row:    map[string]any{"room": "r", "last": 0, "rev": 0},
		texts:  map[string]bounds{"room": {1, 100}},
		unique: []unique{{"room", map[string]any{"last": 1}}},
		broken: []map[string]any{{"last": -1}},
	},
	{
		table: "messages",
		row: map[string]any{
			"room_id": counterID, "seq": 1, "id": "i", "client_id": "c", "author_id": "a", "author_name": "n", "text": "t", "at": 0,
		},
		texts:    map[string]bounds{"id": {1, 128}, "client_id": {1, 64}, "author_id": {0, 128}, "author_name": {0, 100}, "text": {1, 4000}},
		nullable: []string{"client_id"},
		unique:   []unique{{"room_id, seq", map[string]any{"client_id": "d"}}, {"room_id, author_id, client_id", map[string]any{"seq": 2}}},
		broken:   []map[string]any{{"seq": 0}, {"seq": -1}, {"room_id": counterID + 1}},
	},
	{
		table:  "changes",
		row:    map[string]any{"room_id": 1, "rev": 1, "seq": 1},
		unique: []unique{{"room_id, rev", map[string]any{"seq": 2}}},
		broken: []map[string]any{{"rev": 0}, {"seq": 0}},
	},
	{
		table:  "deletions",
		row:    map[string]any{"room_id": 1, "seq": 1},
		unique: []unique{{"room_id, seq", map[string]any{}}},
		broken: []map[string]any{{"seq": 0}},
	},
	{
		table:  "reactions",
		row:    map[string]any{"room_id": 1, "seq": 1, "reaction": "r", "user_id": "u"},
		texts:  map[string]bounds{"reaction": {1, 32}, "user_id": {0, 128}},
		unique: []unique{{"room_id, seq, reaction, user_id", map[string]any{}}},
		broken: []map[string]any{{"seq": 0}},
	},
	{
		table: "outbox",
		row:   map[string]any{"id": "i", "topic": "t", "type": "y", "event_key": "k", "time": 0, "data": []byte{0}},
		texts: map[string]bounds{"id": {1, 128}, "topic": {0, 128}, "type": {0, 128}, "event_key": {0, 255}},
	},
	{
		table:  "outbox_aside",
		row:    map[string]any{"id": "i", "topic": "t", "type": "y", "event_key": "k", "time": 0, "data": []byte{0}, "reason": "r"},
		texts:  map[string]bounds{"id": {1, 128}, "topic": {0, 128}, "type": {0, 128}, "event_key": {0, 255}, "reason": {0, 1024}},
		unique: []unique{{"id", map[string]any{"topic": "u"}}},
	},
	jobsRule("mail_jobs"),
	jobsRule("webhook_jobs"),
	{
		table:  "locks", // on servers
		row:    map[string]any{"name": "n"},
		unique: []unique{{"name", map[string]any{}}},
	},
	{
		table:  "heartbeat",
		row:    map[string]any{"id": 1, "beats": 0},
		unique: []unique{{"id", map[string]any{"beats": 1}}},
		broken: []map[string]any{{"id": 2}},
	},
}

// jobsRule is that of a table of jobs.
func jobsRule(table string) rule {
	return rule{
		table: table,
		row: map[string]any{
			"id": "i", "job_key": "k", "kind": "v", "recipient": "r", "recipient_name": "n", "data": []byte{0}, "state": "running",
			"attempts": 1, "claims": 1, "run_at": 0, "leased_until": 1, "last_error": "", "created_at": 0, "updated_at": 0,
		},
		texts: map[string]bounds{
			"id": {1, 128}, "job_key": {1, 255}, "kind": {0, 64}, "recipient": {0, 254}, "recipient_name": {0, 100}, "last_error": {0, 2000},
		},
		nullable: []string{"leased_until"}, // of a job that does not run: below
		unique:   []unique{{"id", map[string]any{"job_key": "l"}}, {"job_key", map[string]any{"id": "j"}}},
		broken: []map[string]any{
			{"state": "done", "leased_until": nil}, {"state": "", "leased_until": nil}, {"state": "READY", "leased_until": nil},
			{"state": "running ", "leased_until": nil}, {"attempts": -1, "claims": 0}, {"attempts": 2},
			{"leased_until": nil}, {"state": "ready"}, {"state": "sent"}, {"state": "dead"},
		},
	}
}

// onEveryEngine runs test on SQLite and on every kind of server.
func onEveryEngine(t *testing.T, test func(t *testing.T, name string, s *bunstore.Store)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); test(t, "SQLite", open(t)) })
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { t.Parallel(); test(t, e.name, e.migrated(t)) })
	}
}

func with(row, change map[string]any) map[string]any {
	row = maps.Clone(row)
	maps.Copy(row, change)
	return row
}

// prober tries rows.
type prober struct {
	t  *testing.T
	s  *bunstore.Store
	db *bun.DB
	// violated has what PostgreSQL named: constraints, and table.column of what was NULL.
	violated map[string]bool
}

func (p *prober) insert(table string, row map[string]any) error {
	columns := slices.Sorted(maps.Keys(row))
	values := make([]any, len(columns))
	for i, c := range columns {
		values[i] = row[c]
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ")
	_, err := p.db.ExecContext(p.t.Context(), "INSERT INTO parley_"+table+" ("+strings.Join(columns, ", ")+") VALUES ("+marks+")", values...)
	return err
}

// refused wants an error of a kind.
func (p *prober) refused(want fault.Kind, err error, what string) {
	p.t.Helper()
	if !assert.Error(p.t, err, what) {
		return
	}
	assert.Equal(p.t, want, bunstore.KindOf(p.s, err), "%s: %v", what, err)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		p.violated[e.ConstraintName] = true
		if e.Code == "23502" {
			p.violated[e.TableName+"."+e.ColumnName] = true
		}
	}
}

// empty removes every row of table.
func (p *prober) empty(table string) {
	p.t.Helper()
	_, err := p.db.ExecContext(p.t.Context(), "DELETE FROM parley_"+table)
	require.NoError(p.t, err)
}

// The schema itself refuses what must not be, whoever writes it.
func TestSchemaHoldsWhatItPromises(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, name string, s *bunstore.Store) {
		db, _ := bunstore.Handles(s)
		p := &prober{t, s, db, map[string]bool{}}
		for _, r := range schemaRules {
			if r.table == "messages" {
				require.NoError(t, p.insert("room_seqs", map[string]any{"id": counterID, "room": "r", "last": 1}))
			}
			if r.table == "locks" {
				if name == "SQLite" {
					continue
				}
				p.empty(r.table)
			}
			p.table(r)
		}

		// As long as there are messages, their counter stays.
		messages := schemaRules[slices.IndexFunc(schemaRules, func(r rule) bool { return r.table == "messages" })]
		require.NoError(t, p.insert("messages", messages.row))
		_, err := db.ExecContext(t.Context(), "DELETE FROM parley_room_seqs")
		p.refused(fault.Invalid, err, "a counter is deleted")
		_, err = db.ExecContext(t.Context(), "UPDATE parley_room_seqs SET id = 8")
		p.refused(fault.Invalid, err, "a counter gets another number")
		p.empty("messages")
		p.empty("room_seqs")

		if name == "PostgreSQL" {
			p.nothingForgotten()
		}
	})
}

// table tries everything that r says.
func (p *prober) table(r rule) {
	t := p.t
	require.NoError(t, p.insert(r.table, r.row), r.table)
	for _, u := range r.unique {
		p.refused(fault.Conflict, p.insert(r.table, with(r.row, u.other)), r.table+": a second "+u.columns)
	}
	p.empty(r.table)
	for _, change := range r.broken {
		p.refused(fault.Invalid, p.insert(r.table, with(r.row, change)), r.table+" with "+strings.Join(slices.Sorted(maps.Keys(change)), ", "))
	}
	for column, b := range r.texts {
		what := r.table + "." + column
		if b.min > 0 {
			p.refused(fault.Invalid, p.insert(r.table, with(r.row, map[string]any{column: ""})), what+" is empty")
		} else {
			require.NoError(t, p.insert(r.table, with(r.row, map[string]any{column: ""})), "%s is empty", what)
			p.empty(r.table)
		}
		// Characters of four bytes: bounds are not of bytes.
		require.NoError(t, p.insert(r.table, with(r.row, map[string]any{column: strings.Repeat("𝕏", b.max)})), "%s is as long as may be", what)
		p.empty(r.table)
		p.refused(fault.Invalid, p.insert(r.table, with(r.row, map[string]any{column: strings.Repeat("x", b.max+1)})), what+" is too long")
	}
	for column := range r.row {
		err := p.insert(r.table, with(r.row, map[string]any{column: nil}))
		if !slices.Contains(r.nullable, column) {
			p.refused(fault.Invalid, err, r.table+"."+column+" is NULL")
		} else if !strings.HasSuffix(r.table, "_jobs") {
			require.NoError(t, err, "%s.%s is NULL", r.table, column)
			p.empty(r.table)
		}
	}
	switch r.table {
	case "mail_jobs", "webhook_jobs":
		for _, state := range []string{"ready", "sent", "dead"} {
			require.NoError(t, p.insert(r.table, with(r.row, map[string]any{"state": state, "leased_until": nil})), state)
			p.empty(r.table)
		}
	case "messages": // without a client id they are all different
		require.NoError(t, p.insert(r.table, with(r.row, map[string]any{"client_id": nil})))
		require.NoError(t, p.insert(r.table, with(r.row, map[string]any{"client_id": nil, "seq": 2})))
	}
	p.empty(r.table)
}

// nothingForgotten asks PostgreSQL for all its constraints: each must have been broken above.
func (p *prober) nothingForgotten() {
	t := p.t
	var constraints []struct{ Name, Definition, Relation string }
	require.NoError(t, p.db.NewRaw(`SELECT conname AS name, pg_get_constraintdef(c.oid) AS definition, relname AS relation
		FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid WHERE connamespace = current_schema()::regnamespace
		AND relname NOT LIKE 'parley_migration%'
		UNION ALL SELECT indexname, indexdef, tablename FROM pg_indexes WHERE schemaname = current_schema() AND indexdef LIKE 'CREATE UNIQUE%'
		AND tablename NOT LIKE 'parley_migration%'`).Scan(t.Context(), &constraints))
	require.Greater(t, len(constraints), 40)
	// Text that is too long does not reach its CHECK, because varchar(n) refuses it; text has no such bound.
	onlyLong := regexp.MustCompile(`^CHECK \(\(length\(\(?(\w+)\)?(?:::text)?\) <= \d+\)\)$`)
	for _, c := range constraints {
		if m := onlyLong.FindStringSubmatch(c.Definition); m != nil {
			at := slices.IndexFunc(schemaRules, func(r rule) bool { return "parley_"+r.table == c.Relation })
			if assert.GreaterOrEqual(t, at, 0, c.Relation) {
				assert.Contains(t, schemaRules[at].texts, m[1], "the bound of %s.%s was not tried", c.Relation, m[1])
			}
			continue
		}
		if slices.Contains([]string{"parley_outbox_pkey", "parley_mail_jobs_pkey", "parley_webhook_jobs_pkey", "parley_room_seqs_pkey"}, c.Name) {
			continue // a number that the engine gives
		}
		assert.True(t, p.violated[c.Name], "%s was not tried: %s", c.Name, c.Definition)
	}
	var columns []string
	require.NoError(t, p.db.NewRaw(`SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema()
		AND is_nullable = 'NO' AND is_identity = 'NO' AND table_name LIKE 'parley_%' AND table_name NOT LIKE 'parley_migration%'`).Scan(t.Context(), &columns))
	require.Greater(t, len(columns), 40)
	for _, c := range columns {
		assert.True(t, p.violated[c], "%s was never NULL", c)
	}
}
