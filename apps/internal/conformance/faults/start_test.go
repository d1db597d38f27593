package faults_test

import (
	"bytes"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/run"
	"github.com/parley-chat/parley/testkit/faultproxy"
	"github.com/parley-chat/parley/testkit/servers"
)

// secret is a password that must not be shown.
const secret = "hunter2-is-not-it"

// withPassword is a URL with another password, and a user if there was none.
func withPassword(t *testing.T, raw string) string {
	u, err := url.Parse(raw)
	require.NoError(t, err)
	name := u.User.Username()
	if name == "" {
		name = "somebody"
	}
	u.User = url.UserPassword(name, secret)
	return u.String()
}

// name is nobody else's, where servers are shared.
func name() string { return "t" + strings.ToLower(rand.Text()[:10]) }

// silent is a URL of a server that takes connections and never answers.
func silent(t *testing.T, raw string) string {
	proxy, to := behind(t, raw)
	proxy.Freeze(faultproxy.Both)
	return to
}

// nobody is a URL where nothing listens.
func nobody(t *testing.T, raw string) string {
	proxy, to := behind(t, raw)
	proxy.Refuse()
	return to
}

// TestAStartThatCannotBeEndsWithOneLine starts programs with servers that refuse them: each ends
// with exit code 1 and one line that says why.
func TestAStartThatCannotBeEndsWithOneLine(t *testing.T) {
	t.Parallel()
	postgres, mariadb := servers.Postgres(t), servers.MySQL(t)
	mongo, redis := servers.Mongo(t, nil), servers.Redis(t)
	plain := servers.StartRedis(t, servers.RedisOptions{})
	evicting := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	kafka := servers.StartKafka(t, servers.KafkaOptions{TLS: true})
	mails := mailserver.Start(t)
	bus := kafka.URL() + "&replication=1"
	overTLS := strings.Replace(bus, kafka.Address, kafka.TLSAddress, 1)
	for _, c := range []struct {
		name    string
		program config.Program
		env     []string
		says    string
	}{
		{"PostgreSQL: wrong password", config.Auth, []string{"PARLEY_STORE=" + withPassword(t, postgres)}, "refuses the user or the password"},
		{"PostgreSQL: no such database", config.Auth, []string{"PARLEY_STORE=" + inDatabase(t, postgres, "elsewhere")}, "elsewhere"},
		{"PostgreSQL: nobody there", config.Auth, []string{"PARLEY_STORE=" + nobody(t, postgres)}, "cannot be reached"},
		{"PostgreSQL: no answer", config.Auth, []string{"PARLEY_STORE=" + silent(t, postgres)}, "cannot be reached"},
		{"PostgreSQL: TLS required", config.Auth, []string{"PARLEY_STORE=" + postgres + tlsParameter(postgres, "sslmode=require")}, "TLS"},
		{"PostgreSQL: not migrated", config.Auth, []string{"PARLEY_STORE=" + postgres, "PARLEY_MIGRATE=check"}, "migrate"},
		{"MariaDB: wrong password", config.Socket, []string{"PARLEY_STORE=" + withPassword(t, mariadb)}, "refuses the user or the password"},
		{"MariaDB: no such database", config.Socket, []string{"PARLEY_STORE=" + inDatabase(t, mariadb, "elsewhere")}, "elsewhere"},
		{"MariaDB: nobody there", config.Socket, []string{"PARLEY_STORE=" + nobody(t, mariadb)}, "cannot be reached"},
		{"MariaDB: no answer", config.Socket, []string{"PARLEY_STORE=" + silent(t, mariadb)}, "cannot be reached"},
		{"MariaDB: not migrated", config.Socket, []string{"PARLEY_STORE=" + mariadb, "PARLEY_MIGRATE=check"}, "migrate"},
		{"Mongo wire: nobody there", config.Mailer, []string{"PARLEY_STORE=" + nobody(t, mongo)}, "cannot be reached"},
		{"Mongo wire: no answer", config.Mailer, []string{"PARLEY_STORE=" + silent(t, mongo)}, "cannot be reached"},
		{"Mongo wire: not migrated", config.Mailer, []string{"PARLEY_STORE=" + mongo, "PARLEY_MIGRATE=check"}, "migrate"},
		{"Kafka: wrong password", config.Auth, []string{"PARLEY_BUS=" + withPassword(t, bus)}, "password"},
		{"Kafka: topic without rights", config.Auth, []string{"PARLEY_BUS=" + kafka.LimitedURL()}, "right"},
		{"Kafka: nobody there", config.Auth, []string{"PARLEY_BUS=" + nobody(t, bus)}, "nothing listens"},
		{"Kafka: no answer", config.Auth, []string{"PARLEY_BUS=" + silent(t, bus)}, "answer"},
		{"Kafka: TLS required", config.Auth, []string{"PARLEY_BUS=" + overTLS}, "TLS"},
		{"Kafka: TLS where there is none", config.Auth, []string{"PARLEY_BUS=" + bus + "&tls=true"}, "TLS"},
		{"Redis: wrong password", config.Auth, []string{"PARLEY_REDIS=" + withPassword(t, redis)}, "WRONGPASS"},
		{"Redis: nobody there", config.Auth, []string{"PARLEY_REDIS=" + nobody(t, redis)}, "refused"},
		{"Redis: no answer", config.Auth, []string{"PARLEY_REDIS=" + silent(t, redis)}, "timeout"},
		{"Redis: a replica", config.Auth, []string{"PARLEY_REDIS=" + servers.StartRedis(t, servers.RedisOptions{ReplicaOf: plain.Addr}).URL}, "is a replica"},
		{"Redis: a Sentinel", config.Auth, []string{"PARLEY_REDIS=" + servers.StartRedisSentinel(t, plain).URL}, "?master_name=primary"},
		{"Redis: evicts mails", config.Mailer, []string{"PARLEY_REDIS=" + evicting.URL, "PARLEY_MAIL_QUEUE=redis"}, "maxmemory-policy to noeviction"},
		{"Redis: evicts tickets", config.Auth, []string{"PARLEY_REDIS=" + evicting.URL}, "maxmemory-policy to noeviction"},
		{"Redis: no memory", config.Auth, []string{"PARLEY_REDIS=" + servers.StartRedis(t, servers.RedisOptions{Args: []string{"--maxmemory", "1"}}).URL}, "OOM"},
		{"SMTP: no TLS", config.Mailer, []string{"PARLEY_MAIL_SENDER=" + strings.TrimSuffix(mails.URL(), "?tls=none")}, "does not offer it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := []string{"PARLEY_LISTEN=127.0.0.1:0", "PARLEY_ADMIN_LISTEN=off", "PARLEY_DATA=" + t.TempDir(), "PARLEY_LOG_FORMAT=text", "PARLEY_STORE=memory:", "PARLEY_BUS=" + bus + "&prefix=" + name()}
			if c.program != config.Auth {
				env = append(env, "PARLEY_JWKS_URL=http://127.0.0.1:1/.well-known/jwks.json")
			}
			var stdout, stderr bytes.Buffer
			code := make(chan int, 1)
			go func() { code <- run.Main(c.program, nil, append(env, c.env...), &stdout, &stderr) }()
			select {
			case got := <-code:
				assert.Equal(t, 1, got)
			case <-time.After(patience):
				t.Fatal("the start hangs")
			}
			last := stderr.String()
			if lines := strings.Split(strings.TrimSpace(last), "\n"); len(lines) > 0 {
				last = lines[len(lines)-1]
				for _, l := range lines[:len(lines)-1] {
					assert.Contains(t, l, "level=", "more than one line: %s", stderr.String()) // logged before
				}
			}
			assert.True(t, strings.HasPrefix(last, string(c.program)+": "), last)
			assert.Contains(t, last, c.says)
			assert.NotContains(t, stdout.String()+stderr.String(), secret)
			assert.Empty(t, stdout.String(), "it did not serve")
			t.Log(last)
		})
	}
}

// tlsParameter adds a parameter to a URL, in place of one of its name.
func tlsParameter(raw, parameter string) string {
	if strings.Contains(raw, "?") {
		return "&" + parameter
	}
	return "?" + parameter
}
