package stack_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/mailserver"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/testkit/scenario"
	"github.com/parley-chat/parley/testkit/servers"
)

// name is nobody else's, where servers are shared.
func name() string { return "t" + strings.ToLower(rand.Text()[:10]) }

// shared is a Kafka and a Redis that other tests use too.
func shared(t *testing.T, sasl string) stack.Servers {
	own := name()
	bus := servers.Kafka(t)
	sep := "?"
	if strings.Contains(bus, "?") {
		sep = "&"
	}
	bus += sep + "partitions=3&replication=1&prefix=" + own + "."
	if sasl != "" {
		bus = strings.Replace(bus, "sasl=plain", "sasl="+sasl, 1)
	}
	prefix := []string{"PARLEY_REDIS_PREFIX=" + own + ":"}
	return stack.Servers{
		Bus: bus, Redis: servers.Redis(t),
		Env: map[config.Program][]string{config.Auth: prefix, config.Mailer: prefix, config.Socket: prefix},
	}
}

// each returns a fresh database for each service.
func each(fresh func(testing.TB) string, t *testing.T) func(config.Program) string {
	return func(config.Program) string { return fresh(t) }
}

// TestTheStoryIsTheSameOnEveryStack tells one story to the programs, with different configuration
// alone. testkit/system tells it in memory and on SQLite, on two nodes too.
func TestTheStoryIsTheSameOnEveryStack(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it waits for seconds; testkit/system tells the story within one process")
	}
	t.Parallel()
	for _, c := range []struct {
		name  string
		stage func(t *testing.T) scenario.Stage
	}{
		{"memory", func(t *testing.T) scenario.Stage { return alone(t, "PARLEY_STORE=memory:") }},
		{"SQLite and GoChannel", func(t *testing.T) scenario.Stage { return alone(t) }},
		{"PostgreSQL, Redis and Kafka", func(t *testing.T) scenario.Stage {
			s := shared(t, "scram-sha-256")
			s.Store = each(servers.Postgres, t)
			return stack.Start(t, s).Stage()
		}},
		{"MariaDB, Redis and Kafka", func(t *testing.T) scenario.Stage {
			s := shared(t, "")
			s.Store = each(servers.MySQL, t)
			s.Env[config.Mailer] = append(s.Env[config.Mailer], "PARLEY_MAIL_QUEUE=redis")
			s.Env[config.Socket] = append(s.Env[config.Socket], "PARLEY_TRANSPORT=net")
			return stack.Start(t, s).Stage()
		}},
		{"Mongo wire, Redis and Kafka", func(t *testing.T) scenario.Stage {
			s := shared(t, "scram-sha-512")
			s.Store = func(config.Program) string { return servers.Mongo(t, drop) }
			return stack.Start(t, s).Stage()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, scenario.Golden(), scenario.Tell(t, c.stage(t)))
		})
	}
}

// drop removes a database of a Mongo wire server.
func drop(ctx context.Context, url string) error {
	at, err := connstring.ParseAndValidate(url)
	if err != nil {
		return err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		return err
	}
	return errors.Join(client.Database(at.Database).Drop(ctx), client.Disconnect(ctx))
}

// alone is the all-in-one, whose one node both use.
func alone(t *testing.T, env ...string) scenario.Stage {
	mails := mailserver.Start(t)
	p := stack.Run(t, config.Parley, append(env, "PARLEY_MAIL_SENDER="+mails.URL())...)
	return scenario.Stage{URL: p.URL, Sockets: [2]string{p.SocketURL(), p.SocketURL()}, Mails: mails}
}
