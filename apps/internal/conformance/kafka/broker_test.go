package kafka_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/parley-chat/parley/adapters/kafkabus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit/faultproxy"
	"github.com/parley-chat/parley/testkit/servers"
)

// onBrokers runs test on kfake, and on a real broker where there is one.
func onBrokers(t *testing.T, test func(t *testing.T, cfg kafkabus.Config)) {
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		_, cfg := cluster(t)
		test(t, cfg)
	})
	t.Run("Apache Kafka", func(t *testing.T) {
		t.Parallel()
		cfg, err := kafkabus.ParseURL(servers.Kafka(t))
		require.NoError(t, err)
		if cfg.Mechanism != kafkabus.Plain || cfg.TLS != nil {
			t.Skip("the test's own client speaks PLAIN only")
		}
		cfg.Prefix = "test-" + strings.ToLower(rand.Text()[:12]) + "."
		cfg.Topics, cfg.Partitions, cfg.Replication = []string{"mail", "session"}, 3, 1
		test(t, cfg)
	})
}

// TestRights: what a user may not do is said at once, and by name.
func TestRights(t *testing.T) {
	t.Parallel()
	may := func(what kmsg.ACLResourceType, name string, do kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: what, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: do, Allow: true}
	}
	const topic, group = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	_, cfg := cluster(t, kfake.EnableACLs(), kfake.SeedTopics(1, "mail", "mail.dead"),
		kfake.User("PLAIN", "none", "pw"),
		kfake.User("PLAIN", "looker", "pw", may(topic, "mail", kmsg.ACLOperationDescribe), may(topic, "mail.dead", kmsg.ACLOperationDescribe),
			may(kmsg.ACLResourceTypeCluster, "kafka-cluster", kmsg.ACLOperationIdempotentWrite), may(group, "group", kmsg.ACLOperationRead)),
	)
	cfg.Topics, cfg.Password = []string{"mail"}, "pw"
	ctx := deadline(t)

	cfg.User = "none"
	_, err := kafkabus.Open(ctx, cfg)
	require.Equal(t, fault.Forbidden, fault.KindOf(err))
	require.ErrorContains(t, err, "no right")

	cfg.User = "looker"
	b := open(t, cfg)
	require.Equal(t, fault.Forbidden, fault.KindOf(b.Publish(ctx, happened("1"))))
	for _, group := range []string{"", "group", "other"} {
		err := b.Subscribe(ctx, "mail", group, nil, nil)
		require.Equal(t, fault.Forbidden, fault.KindOf(err), "group %q: %v", group, err)
	}
	require.NoError(t, b.Ping(ctx))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	_, good := cluster(t, kfake.TLS(&tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}))
	_, plain := cluster(t)
	good.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	for _, m := range []kafkabus.Mechanism{kafkabus.Plain, kafkabus.ScramSHA512} {
		good.Mechanism = m
		b := open(t, good)
		require.NoError(t, b.Publish(deadline(t), happened("1")))
		require.NoError(t, b.Ping(deadline(t)))
	}
	for name, tc := range map[string]struct {
		edit func(*kafkabus.Config)
		says string
	}{
		"the broker wants TLS":       {func(c *kafkabus.Config) { c.TLS = nil }, "perhaps it wants TLS"},
		"the broker does not":        {func(c *kafkabus.Config) { c.Brokers = plain.Brokers }, "perhaps it does not speak TLS"},
		"an unknown certificate":     {func(c *kafkabus.Config) { c.TLS = &tls.Config{} }, "certificate is not trusted"},
		"a certificate of elsewhere": {func(c *kafkabus.Config) { c.TLS = &tls.Config{RootCAs: trusted, ServerName: "elsewhere"} }, "certificate is not trusted"},
		"a wrong password":           {func(c *kafkabus.Config) { c.Password = "wr0ng" }, "password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tc.edit(&cfg)
			_, err := kafkabus.Open(t.Context(), cfg)
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "wr0ng")
		})
	}
}

// TestBrokerComesBack restarts the broker, on its address and with its files, under two
// subscriptions; neither misses an event or ends.
func TestBrokerComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := []kfake.Opt{kfake.DataDir(dir), kfake.SyncWrites()}
	c, cfg := cluster(t, opts...)
	b := open(t, cfg)
	ctx := deadline(t)
	grouped, every := make(chan event.Event), make(chan event.Event)
	stop, ended := subscribe(ctx, t, b, "mail", "group", into(grouped))
	_, _ = subscribe(ctx, t, b, "mail", "", into(every))
	require.NoError(t, b.Publish(ctx, happened("1")))
	require.Equal(t, "1", receive(ctx, t, grouped).ID)
	require.Equal(t, "1", receive(ctx, t, every).ID)

	address, err := net.ResolveTCPAddr("tcp", c.ListenAddrs()[0])
	require.NoError(t, err)
	c.Close()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	require.ErrorIs(t, b.Publish(short, happened("lost or not")), fault.Unavailable)
	require.ErrorIs(t, b.Ping(short), fault.Unavailable)
	cluster(t, append(opts, kfake.Ports(address.Port))...)

	for b.Publish(ctx, happened("2")) != nil && ctx.Err() == nil {
	}
	for _, from := range []chan event.Event{grouped, every} {
		for receive(ctx, t, from).ID != "2" {
		}
	}
	stop()
	for {
		select {
		case <-grouped: // again
			continue
		case err := <-ended:
			require.NoError(t, err)
		}
		break
	}
}

// TestOpenThroughAProxy: what goes wrong on the way is one line, soon, and never shows the password.
func TestOpenThroughAProxy(t *testing.T) {
	t.Parallel()
	_, cfg := cluster(t)
	proxy := faultproxy.Start(t, cfg.Brokers[0])
	cfg.Brokers = []string{proxy.Addr()}
	for _, c := range []struct {
		name, says string
		fail       func()
	}{
		{"frozen", "does not answer in time", func() { proxy.Freeze(faultproxy.Both) }},
		{"the answers are lost", "does not answer in time", func() { proxy.Freeze(faultproxy.Down) }},
		{"slow", "does not answer in time", func() { proxy.Limit(faultproxy.Both, 1) }},
		{"gone", "nothing listens there", proxy.Refuse},
	} {
		c.fail()
		short := cfg
		short.Timeout = 500 * time.Millisecond
		_, err := kafkabus.Open(deadline(t), short)
		require.ErrorContains(t, err, c.says, c.name)
		require.ErrorIs(t, err, fault.Unavailable, c.name)
		require.NotContains(t, err.Error(), "\n", c.name)
		require.NotContains(t, err.Error(), password, c.name)
		proxy.Heal()
	}
	// This broker closes the connection where others say that the password is wrong.
	for _, m := range []kafkabus.Mechanism{kafkabus.Plain, kafkabus.ScramSHA256, kafkabus.ScramSHA512} {
		wrong := cfg
		wrong.Password, wrong.Mechanism = "wr0ng", m
		_, err := kafkabus.Open(deadline(t), wrong)
		require.ErrorIs(t, err, fault.Unavailable, m)
		require.ErrorContains(t, err, "another password", m)
		require.NotContains(t, err.Error(), "\n", m)
		require.NotContains(t, err.Error(), "wr0ng", m)
	}
	missing := cfg
	missing.Brokers = []string{"broker.invalid:9092"}
	_, err := kafkabus.Open(deadline(t), missing)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "broker.invalid")
	require.NotContains(t, err.Error(), "\n")
}
