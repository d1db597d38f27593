package rooms_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/local"
	"github.com/parley-chat/parley/testkit/servers"
)

// What is erased, each by a word of its own: the texts of a message, all that is about a room, and all that is about a user.
const (
	ofMessage = "canary-msg-"
	ofRoom    = "canary-room-"
	ofUser    = "canary-user-"
)

var canaries = []string{ofMessage, ofRoom, ofUser}

var wholeErasure = flag.Bool("erasure.room", false, "TestErasure removes a room as well, for which it waits for some minutes")

// sweep is how long what is erased may take to be gone: a deleted room stays for 2 minutes, and is found within another one.
const sweep = 5 * time.Minute

// found is how often each canary is somewhere, and where.
type found map[string]map[string]int

func (f found) look(content []byte, where string) {
	for _, canary := range canaries {
		if canary == ofRoom && !*wholeErasure {
			continue
		}
		if n := bytes.Count(bytes.ToLower(content), []byte(canary)); n > 0 {
			if f[canary] == nil {
				f[canary] = map[string]int{}
			}
			f[canary][where] += n
		}
	}
}

func (f found) String() string {
	var parts []string
	for _, canary := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, fmt.Sprint(strings.Trim(canary, "-"), " ", f[canary]))
	}
	if parts == nil {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// files looks into all files below a folder. Those that go meanwhile are not looked into.
func files(t *testing.T, folder string) found {
	t.Helper()
	f := found{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // it has gone
		}
		content, err := os.ReadFile(path)
		if err == nil {
			f.look(content, filepath.Base(path))
		}
		return nil
	}))
	return f
}

// rows looks into all rows of all tables of a database.
func rows(t testing.TB, db *sql.DB, list string) found {
	t.Helper()
	f := found{}
	query := func(statement string, each func(values []any)) {
		all, err := db.QueryContext(t.Context(), statement)
		require.NoError(t, err)
		defer func() { assert.NoError(t, all.Close()) }()
		names, err := all.Columns()
		require.NoError(t, err)
		for all.Next() {
			values, at := make([]any, len(names)), make([]any, len(names))
			for i := range values {
				at[i] = &values[i]
			}
			require.NoError(t, all.Scan(at...))
			each(values)
		}
		require.NoError(t, all.Err())
	}
	var tables []string
	query(list, func(values []any) { tables = append(tables, fmt.Sprintf("%s", values[0])) })
	require.NotEmpty(t, tables)
	for _, table := range tables {
		query("SELECT * FROM "+table, func(values []any) {
			for _, v := range values {
				f.look(fmt.Appendf(nil, "%s", v), table)
			}
		})
	}
	return f
}

// keys looks into everything that a Redis has.
func keys(t *testing.T, at string) found {
	t.Helper()
	ctx, f := t.Context(), found{}
	o, err := redis.ParseURL(at)
	require.NoError(t, err)
	c := redis.NewClient(o)
	defer func() { assert.NoError(t, c.Close()) }()
	all := c.Scan(ctx, 0, "*", 1000).Iterator()
	for all.Next(ctx) {
		key := all.Val()
		f.look([]byte(key), key)
		var value any
		switch kind := c.Type(ctx, key).Val(); kind {
		case "none": // it has gone
		case "string":
			value = c.Get(ctx, key).Val()
		case "list":
			value = c.LRange(ctx, key, 0, -1).Val()
		case "hash":
			value = c.HGetAll(ctx, key).Val()
		case "set":
			value = c.SMembers(ctx, key).Val()
		case "zset":
			value = c.ZRange(ctx, key, 0, -1).Val()
		case "stream":
			value = c.XRange(ctx, key, "-", "+").Val()
		default:
			require.Fail(t, "a kind of key that the test cannot read", kind)
		}
		f.look(fmt.Append(nil, value), key)
	}
	require.NoError(t, all.Err())
	return f
}

// documents looks into everything that a Mongo wire server has in a database.
func documents(t testing.TB, at string) found {
	t.Helper()
	ctx, f := t.Context(), found{}
	parsed, err := connstring.ParseAndValidate(at)
	require.NoError(t, err)
	client, err := mongo.Connect(options.Client().ApplyURI(at))
	require.NoError(t, err)
	defer func() { assert.NoError(t, client.Disconnect(context.WithoutCancel(ctx))) }()
	db := client.Database(parsed.Database)
	names, err := db.ListCollectionNames(ctx, bson.D{})
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		cursor, err := db.Collection(name).Find(ctx, bson.D{})
		require.NoError(t, err)
		for cursor.Next(ctx) {
			f.look(cursor.Current, name)
		}
		require.NoError(t, cursor.Err())
	}
	return f
}

// kept is a database of a store, and how to look into it.
type kept struct {
	url     string
	content func(t testing.TB) found // what the server answers
	folder  string
	// clean is what operators do so that nothing of what was deleted is in the files. Nil: nothing has to be done.
	clean func(t testing.TB)
	// rounds is how often everything is said that is to be erased: where files are looked into so often that rows move from page to page, else as often as it takes to
	// have more than one of each.
	rounds int
	// seen lets the server do what it does by itself in time, and keep what it has seen. It may be nil.
	seen func(t testing.TB)
}

func statements(t testing.TB, db *sql.DB, all ...string) {
	t.Helper()
	for _, s := range all {
		_, err := db.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
}

var databases = []struct {
	name  string
	start func(t testing.TB) kept
}{
	{"SQLite", func(t testing.TB) kept {
		folder := t.TempDir()
		file := filepath.Join(folder, "parley.db")
		return kept{url: "sqlite:" + file, folder: folder, rounds: 30, content: func(t testing.TB) found {
			db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
			require.NoError(t, err)
			defer func() { assert.NoError(t, db.Close()) }() // whoever has the file open delays the cleaning
			return rows(t, db, `SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'parley\_%' ESCAPE '\'`)
		}}
	}},
	{"PostgreSQL", func(t testing.TB) kept {
		s := servers.StartPostgres(t)
		db, err := local.OpenPostgres(s.URL)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		return kept{
			url: s.URL, folder: s.Folder(), rounds: 30,
			content: func(t testing.TB) found {
				return rows(t, db, `SELECT quote_ident(tablename) FROM pg_tables WHERE tablename LIKE 'parley\_%'`)
			},
			seen: func(t testing.TB) { statements(t, db, "ANALYSE") }, // samples of columns are kept as statistics
			clean: func(t testing.TB) {
				statements(t, db, "ALTER SYSTEM SET wal_recycle = off", "SELECT pg_reload_conf()", "ANALYSE", "VACUUM FULL", "SELECT pg_switch_wal()", "CHECKPOINT", "CHECKPOINT")
			},
		}
	}},
	{"MariaDB", func(t testing.TB) kept {
		s := servers.StartMySQL(t)
		db, err := local.OpenMySQL(s.URL)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, db.Close()) })
		size := 32 << 20 // as it was started
		const tables = `SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE 'parley\_%'`
		return kept{
			url: s.URL, folder: s.Folder(), rounds: 30,
			content: func(t testing.TB) found { return rows(t, db, tables) },
			clean: func(t testing.TB) {
				size = 96<<20 - size
				all, err := db.QueryContext(t.Context(), tables)
				require.NoError(t, err)
				defer func() { assert.NoError(t, all.Close()) }()
				for all.Next() {
					var table string
					require.NoError(t, all.Scan(&table))
					statements(t, db, "ALTER TABLE "+table+" ENGINE=InnoDB")
				}
				require.NoError(t, all.Err())
				statements(t, db, fmt.Sprintf("SET GLOBAL innodb_log_file_size = %d", size)) // another file takes the place of the log
			},
		}
	}},
	{"mongo-java-server", func(t testing.TB) kept {
		s := servers.StartMongo(t)
		return kept{url: s.URL, rounds: 5, content: func(t testing.TB) found { return documents(t, s.URL) }} // its files say nothing about those of MongoDB
	}},
	{"FerretDB", func(t testing.TB) kept {
		at := ferret(t)
		return kept{url: at, rounds: 5, content: func(t testing.TB) found { return documents(t, at) }}
	}},
}

// program is the all-in-one with all that it can have beside the database.
type program struct {
	*stack.Program
	kept
	redis    *servers.RedisServer
	kafka    *servers.KafkaServer // nil: the bus is in the process
	mails    *mailserver.Server
	data     string
	mu       sync.Mutex
	answer   int // of the server that is told what happens
	attempts int
}

const adminToken = "an-administrator-of-tests"

func startProgram(t testing.TB, k kept, kafka bool) *program {
	t.Helper()
	var broker *servers.KafkaServer
	if kafka { // the first that may be missing
		broker = servers.StartKafka(t, servers.KafkaOptions{Settings: map[string]string{
			"log.retention.check.interval.ms": "500", "log.segment.delete.delay.ms": "100", "log.initial.task.delay.ms": "500",
		}})
	}
	p := &program{kept: k, kafka: broker, redis: servers.StartRedis(t, servers.RedisOptions{AppendOnly: true}), mails: mailserver.Start(t), data: t.TempDir(), answer: http.StatusGone}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the status says it all
		p.mu.Lock()
		defer p.mu.Unlock()
		p.attempts++
		w.WriteHeader(p.answer)
	}))
	t.Cleanup(listener.Close)
	env := []string{
		"PARLEY_STORE=" + k.url, "PARLEY_REDIS=" + p.redis.URL, "PARLEY_MAIL_SENDER=" + p.mails.URL(), "PARLEY_ADMIN_TOKEN=" + adminToken, "PARLEY_LOG_LEVEL=debug", "PARLEY_DATA=" + p.data,
		"PARLEY_WEBHOOK_URL=" + listener.URL + "/hooks", "PARLEY_WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "PARLEY_WEBHOOK_PRIVATE=on", "PARLEY_WEBHOOK_EVENTS=*",
	}
	if kafka {
		env = append(env, "PARLEY_BUS="+p.kafka.URL()+"&partitions=2&replication=1&retention=5s")
	}
	p.Program = stack.Run(t, config.Parley, env...)
	return p
}

// call makes a request, which must be answered by 2xx, and reads the answer into into, unless that is nil.
func (p *program) call(t testing.TB, method, path, token string, body, into any) {
	t.Helper()
	text, status := p.ask(t, method, path, token, body)
	require.Less(t, status, 300, "%s %s: %s", method, path, text)
	if into != nil {
		require.NoError(t, json.Unmarshal(text, into))
	}
}

// ask makes a request.
func (p *program) ask(t testing.TB, method, path, token string, body any) (text []byte, status int) {
	t.Helper()
	base := p.URL
	if token == adminToken {
		base = p.AdminURL
	}
	if body != nil {
		var err error
		text, err = json.Marshal(body)
		require.NoError(t, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, bytes.NewReader(text))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { assert.NoError(t, answer.Body.Close()) }()
	text, err = io.ReadAll(answer.Body)
	require.NoError(t, err)
	return text, answer.StatusCode
}

type person struct{ id, token string }

func (p *program) member(t testing.TB, name, email string) person {
	t.Helper()
	const password = "a long pass phrase"
	p.call(t, http.MethodPost, "/auth/signup", "", map[string]any{"fullName": name, "email": email, "password": password}, nil)
	m, err := p.mails.Await(t.Context(), email, 1)
	require.NoError(t, err)
	code, err := testkit.Code(m)
	require.NoError(t, err)
	p.call(t, http.MethodPost, "/auth/verify", "", map[string]any{"code": code}, nil)
	var grant struct {
		AccessToken string
		User        struct{ ID string }
	}
	p.call(t, http.MethodPost, "/auth/signin", "", map[string]any{"email": email, "password": password}, &grant)
	return person{grant.User.ID, grant.AccessToken}
}

// until waits until something is so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !is() {
		require.True(t, time.Now().Before(end), "it does not come to this: %s", what)
		time.Sleep(50 * time.Millisecond) // nothing tells
	}
}

// TestErasure erases a message, a room and a user, of whom there is something in the database, the cache, the queues, among dead letters, on the bus
// and in backups, and then looks for it everywhere.
func TestErasure(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: servers are started")
	}
	t.Parallel()
	for _, db := range databases {
		t.Run(db.name, func(t *testing.T) {
			t.Parallel()
			erased(t, startProgram(t, db.start(t), false))
		})
	}
	t.Run("with Kafka", func(t *testing.T) {
		t.Parallel()
		p := startProgram(t, databases[0].start(t), true)
		erased(t, p)
		t.Logf("the bus, at once: %v", files(t, p.kafka.Folder()))
		until(t, "nothing is on the bus when its retention is over", func() bool { return len(files(t, p.kafka.Folder())) == 0 })
	})
}

// speak says everything that is to be erased, and returns what undoes it.
func (p *program) speak(t *testing.T) (erase func()) {
	t.Helper()
	message, room, who := func(s string) string { return ofMessage + s }, func(s string) string { return ofRoom + s }, func(s string) string { return ofUser + s }
	bob := p.member(t, "Bob Noyce", "bob@example.com")
	ada := p.member(t, "Ada "+who("name"), who("mail@example.com"))
	type stored struct{ Seq uint64 }
	say := func(by person, in, text string) (m stored) {
		t.Helper()
		body := map[string]any{"text": text, "data": map[string]any{"of": text}}
		if !strings.HasPrefix(text, ofMessage) { // a deleted message keeps its client id; an erased one does not
			body["clientId"] = strings.ReplaceAll(text, " ", "-")
		}
		p.call(t, http.MethodPost, "/rooms/"+url.PathEscape(in)+"/messages", by.token, body, &m)
		return m
	}
	const den = "den" // the name is in what is told of the end of its messages
	p.call(t, http.MethodPost, "/rooms", bob.token, map[string]any{"name": "hall"}, nil)
	p.call(t, http.MethodPost, "/rooms", bob.token, map[string]any{"name": den, "kind": "private", "title": room("title"), "topic": room("topic"), "data": map[string]any{"of": room("data")}}, nil)
	for _, name := range []string{"hall", den} {
		p.call(t, http.MethodPut, "/rooms/"+name+"/members/"+ada.id, bob.token, map[string]any{"role": "member"}, nil)
	}
	var marked stored
	for i := range p.rounds {
		say(bob, "hall", fmt.Sprint("this stays ", i))
		m := say(bob, "hall", message(fmt.Sprint("text ", i)))
		p.call(t, http.MethodPatch, fmt.Sprintf("/rooms/hall/messages/%d", m.Seq), bob.token, map[string]any{"text": message(fmt.Sprint("edited ", i)), "data": map[string]any{"of": message("data")}}, nil)
		if i == 0 {
			marked = m
		}
		say(ada, "hall", who(fmt.Sprint("text ", i)))
		say(bob, den, room(fmt.Sprint("text ", i)))
		say(ada, den, room(fmt.Sprint("text by another ", i)))
	}
	p.call(t, http.MethodPut, fmt.Sprintf("/rooms/hall/messages/%d/reactions/%s", marked.Seq, message("key")), ada.token, nil, nil)
	p.mails.Refuse(550)
	p.call(t, http.MethodPost, "/auth/password/forgot", "", map[string]any{"email": who("mail@example.com")}, nil)
	until(t, "a mail is a dead letter", func() bool {
		var jobs struct{ Jobs []struct{ ID string } }
		p.call(t, http.MethodGet, "/mail/jobs?state=dead", adminToken, nil, &jobs)
		return len(jobs.Jobs) > 0
	})
	until(t, "what was told is among the dead letters", func() bool {
		var stats struct{ Dead int }
		p.call(t, http.MethodGet, "/webhooks/stats", adminToken, nil, &stats)
		return stats.Dead >= 5*p.rounds
	})
	return func() {
		for seq := range uint64(3 * p.rounds) {
			if seq%3 == 1 {
				p.call(t, http.MethodDelete, fmt.Sprintf("/rooms/hall/messages/%d", seq+1), bob.token, nil, nil)
			}
		}
		if *wholeErasure {
			p.call(t, http.MethodDelete, "/rooms/"+den, bob.token, nil, nil)
		}
		until(t, "a user is erased", func() bool { // on a slow store it takes longer than a request may, and goes on when it is asked again
			_, status := p.ask(t, http.MethodDelete, "/admin/users/"+ada.id, adminToken, nil)
			return status == http.StatusOK
		})
	}
}

func erased(t *testing.T, p *program) {
	t.Helper()
	places := map[string]func() found{
		"the keys of Redis": func() found { return keys(t, p.redis.URL) },
		"the data folder":   func() found { return files(t, p.data) },
		"the log, with what is debug": func() found {
			f := found{}
			for line := range strings.Lines(p.Log()) {
				f.look([]byte(line), line)
			}
			return f
		},
	}
	if p.content != nil {
		places["the database"] = func() found { return p.content(t) }
	}
	if p.folder != "" && p.clean == nil {
		places["the files of the database"] = func() found { return files(t, p.folder) }
	}
	erase := p.speak(t)
	if p.seen != nil {
		p.seen(t)
	}
	for _, where := range []string{"the database", "the files of the database", "the keys of Redis"} {
		if look, ok := places[where]; ok {
			assert.GreaterOrEqual(t, len(look()), 2, "%s has what is to be erased", where)
		}
	}
	erase()
	began := time.Now()
	for _, where := range slices.Sorted(maps.Keys(places)) {
		var last found
		for last = places[where](); len(last) > 0 && time.Since(began) < sweep; last = places[where]() {
			time.Sleep(100 * time.Millisecond) // nothing tells
		}
		assert.Empty(t, last, where)
		t.Logf("%s: %v, after %v", where, last, time.Since(began).Round(100*time.Millisecond))
	}
	t.Logf("the files of Redis, at once: %v", files(t, p.redis.Folder()))
	p.redis.Do(t, "BGREWRITEAOF")
	until(t, "nothing is in the files of Redis after BGREWRITEAOF", func() bool { return t.Failed() || len(files(t, p.redis.Folder())) == 0 })
	if p.clean != nil {
		t.Logf("the files of the database, at once: %v", files(t, p.folder))
		last := found{}
		for end := time.Now().Add(patience / 2); time.Now().Before(end); time.Sleep(200 * time.Millisecond) { // what somebody still reads is not cleaned
			p.clean(t)
			if last = files(t, p.folder); len(last) == 0 {
				break
			}
		}
		assert.Empty(t, last, "the files of the database, cleaned")
	}
}
