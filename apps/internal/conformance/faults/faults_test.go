// Package faults_test takes away what the three services stand on, one server after the other,
// while people sign up and talk: frozen, so that it takes connections and bytes and never answers;
// refused; and killed, so that what it had in memory is gone. What was answered must hold, and
// everything must heal by itself.
package faults_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/testkit/faultproxy"
	"github.com/parley-chat/parley/testkit/servers"
)

var (
	howLong = flag.Duration("fault.for", 2*time.Second, "how long each fault lasts")
	table   = flag.String("fault.table", "", "file to which a line for each fault is added")
)

// dependency is a server that the services need.
type dependency struct {
	name string
	// check is its name in /readyz, and of says whose.
	check         string
	of            []config.Program
	proxy         *faultproxy.Proxy
	kill, restart func()
}

// fault is one way in which a dependency fails.
type fault struct {
	name        string
	begin, heal func(d *dependency)
}

var all = []fault{
	{"frozen", func(d *dependency) { d.proxy.Freeze(faultproxy.Both) }, func(d *dependency) { d.proxy.Heal() }},
	{"refused", func(d *dependency) { d.proxy.Refuse() }, func(d *dependency) { d.proxy.Heal() }},
	{"killed", func(d *dependency) { d.kill() }, func(d *dependency) { d.restart() }},
}

var (
	everybody = []config.Program{config.Auth, config.Mailer, config.Socket}
	// aWhile is how often a state is looked at that must come about.
	aWhile = 50 * time.Millisecond
)

func TestPostgresRedisKafkaAndSMTPFail(t *testing.T) {
	t.Parallel()
	db := servers.StartPostgres(t)
	proxy, store := behind(t, db.URL)
	for _, service := range everybody {
		create(t, "pgx", db.URL, "CREATE DATABASE parley_"+string(service))
	}
	w, shared := newWorld(t, func(service config.Program) string { return inDatabase(t, store, "parley_"+string(service)) })
	shared[0].of = []config.Program{config.Auth, config.Socket} // the mail queue is in the database
	database := &dependency{name: "PostgreSQL", check: "database", of: everybody, proxy: proxy,
		kill: func() { db.Kill(t) }, restart: func() { db.Restart(t) }}
	w.suffer(append([]*dependency{database}, shared...)...)
}

// The mail queue is in Redis here.
func TestMariaDBAndARedisWithTheMailQueueFail(t *testing.T) {
	t.Parallel()
	db := servers.StartMySQL(t)
	proxy, store := behind(t, db.URL)
	for _, service := range everybody {
		create(t, "mysql", dsn(t, db.URL), "CREATE DATABASE parley_"+string(service))
	}
	w, shared := newWorld(t, func(service config.Program) string { return inDatabase(t, store, "parley_"+string(service)) }, "PARLEY_MAIL_QUEUE=redis")
	shared[0].name = "Redis with the mail queue"
	w.suffer(&dependency{name: "MariaDB", check: "database", of: everybody, proxy: proxy,
		kill: func() { db.Kill(t) }, restart: func() { db.Restart(t) }}, shared[0])
}

func TestMongoWireFails(t *testing.T) {
	t.Parallel()
	db := servers.StartMongo(t)
	proxy, store := behind(t, db.URL)
	w, _ := newWorld(t, func(service config.Program) string { return inDatabase(t, store, "parley_"+string(service)) })
	w.suffer(&dependency{name: "mongo-java-server", check: "database", of: everybody, proxy: proxy,
		kill: func() { db.Kill(t) }, restart: func() { db.Restart(t) }})
}

// newWorld starts the services, each dependency behind a proxy, and returns those that are the same
// whatever keeps the data: Redis, Kafka and SMTP. mailer is more of the mailer's environment.
func newWorld(t *testing.T, store func(config.Program) string, mailer ...string) (*world, []*dependency) {
	redis := servers.StartRedis(t, servers.RedisOptions{AppendOnly: true})
	redisProxy, redisURL := behind(t, redis.URL)
	var kafkaProxy *faultproxy.Proxy
	kafka := servers.StartKafka(t, servers.KafkaOptions{Advertise: func(listen string) string {
		kafkaProxy = faultproxy.Start(t, listen)
		return kafkaProxy.Addr()
	}})
	mails := mailserver.Start(t)
	smtpProxy, smtpURL := behind(t, mails.URL())
	services := stack.Start(t, stack.Servers{
		Store: store, Bus: kafka.URL() + "&partitions=2&replication=1", Redis: redisURL, Mails: mails,
		Env: map[config.Program][]string{
			config.Auth:   {"PARLEY_MAIL_BURST=100000", "PARLEY_SIGNIN_BURST=100000", "PARLEY_ACCESS_TTL=2h"},
			config.Mailer: append(mailer, "PARLEY_MAIL_SENDER="+smtpURL),
			config.Socket: {"PARLEY_ACCESS_TTL=2h", "PARLEY_SOCKET_RATE=-1"}, // the history is read at once in the end
		},
	})
	w := &world{t: t, Services: services, mails: mails, kafka: kafka}
	return w, []*dependency{
		{name: "Redis", check: "redis", of: everybody, proxy: redisProxy, kill: func() { redis.Kill(t) }, restart: func() { redis.Restart(t) }},
		{name: "Kafka", check: "bus", of: everybody, proxy: kafkaProxy, kill: func() { kafka.Kill(t) }, restart: func() { kafka.Restart(t) }},
		{name: "SMTP", check: "smtp", of: []config.Program{config.Mailer}, proxy: smtpProxy, kill: func() { mails.Kill(t) }, restart: func() { mails.Restart(t) }},
	}
}

// behind starts a proxy before the server of a URL, and returns the URL with the proxy in it.
func behind(t *testing.T, raw string) (*faultproxy.Proxy, string) {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	proxy := faultproxy.Start(t, u.Host)
	u.Host = proxy.Addr()
	return proxy, u.String()
}

// inDatabase is a URL of another database on the same server.
func inDatabase(t *testing.T, raw, name string) string {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

// dsn is a URL as the driver takes it.
func dsn(t *testing.T, raw string) string {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return fmt.Sprintf("%s@tcp(%s)/", u.User.String(), u.Host)
}

func create(t *testing.T, driver, dsn, statement string) {
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	require.NoError(t, err)
}

// suffer lets each dependency fail in each way, under load, and checks what was promised.
func (w *world) suffer(dependencies ...*dependency) {
	w.begin()
	var lines []string
	faults := 0
	for _, d := range dependencies {
		for _, f := range all {
			faults++
			r := w.round(d, f)
			line := fmt.Sprintf("| %s | %s | %d ms | %d ms | %d of %d | %d ms | %d ms |", d.name, f.name,
				r.seen.Milliseconds(), r.healed.Milliseconds(), r.failed, r.requests, r.slowest.Milliseconds(), r.live.Milliseconds())
			w.t.Log(line)
			lines = append(lines, line)
		}
	}
	lines = append(lines, w.finish(faults))
	if *table != "" {
		f, err := os.OpenFile(*table, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		require.NoError(w.t, err)
		_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
		require.NoError(w.t, err)
		require.NoError(w.t, f.Close())
	}
}
