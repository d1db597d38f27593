// Package kafka_test runs adapters/kafkabus on kfake, a broker in the test's own process, which
// importers of the adapter should not have to download.
package kafka_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/contract"
)

const (
	user     = "app"
	password = "p@ss:word"
)

// cluster starts a broker that wants SASL, and returns the configuration to reach it.
func cluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, kafkabus.Config) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", user, password),
		kfake.Superuser("SCRAM-SHA-256", user, password),
		kfake.Superuser("SCRAM-SHA-512", user, password),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, kafkabus.Config{
		Brokers: c.ListenAddrs(), User: user, Password: password,
		Topics: []string{"mail", "session"}, Partitions: 3, Replication: 1,
	}
}

func open(t *testing.T, cfg kafkabus.Config) *kafkabus.Bus {
	t.Helper()
	b, err := kafkabus.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestMain(m *testing.M) {
	if flag.Parse(); testing.Short() {
		fmt.Println("skipped by -short: each test would start a cluster of kfake")
		return
	}
	os.Exit(m.Run())
}

func TestEventBus(t *testing.T) {
	t.Parallel()
	contract.On(t, "kafkabus", "kfake")
	for name, edit := range map[string]func(*kafkabus.Config){
		"plain":          func(*kafkabus.Config) {},
		"static members": func(c *kafkabus.Config) { c.Node = "node-1"; c.Mechanism = kafkabus.ScramSHA256 },
		"prefix":         func(c *kafkabus.Config) { c.Prefix = "other."; c.Mechanism = kafkabus.ScramSHA512 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.Run(t, contract.EventBus(), func(t *testing.T) contract.Bus {
				_, cfg := cluster(t)
				edit(&cfg)
				b := open(t, cfg)
				return contract.Bus{Publisher: b, Subscriber: b}
			})
		})
	}
}
